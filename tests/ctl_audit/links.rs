//! Links of a built system.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{FSTAB, Tree, are};

#[test]
fn links_of_etc_into_the_store() {
    let tree = Tree::nixos(&[]);
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [
        { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" }] }));
    are(&tree.lost(), &[r#""/etc/machine-id""#]);
    tree.link("etc/machine-id", "/persist/etc/machine-id");
    are(&tree.lost(), &[]);
    let tree = Tree::nixos(&[("etc/systemd/system/NetworkManager.service", "[Service]\nExecStart=/bin/x\n")]);
    tree.link("etc/NetworkManager/system-connections", "/srv/lost");
    tree.entries(json!([{ "directory": "/var/lib/NetworkManager" }]));
    are(&tree.lost(), &[r#"{ directory = "/etc/NetworkManager/system-connections"; mode = "0700"; }"#]);
}

#[test]
fn files_of_the_configuration_in_etc() {
    let tree = Tree::nixos(&[]);
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [
        { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" }] }));
    tree.link("etc/machine-id", "/nix/store/m-etc-machine-id");
    // The place for a mount in an immutable /etc.
    tree.put("../m-etc-machine-id", "");
    are(&tree.lost(), &[r#""/etc/machine-id""#]);
    tree.put("../m-etc-machine-id", "0123456789abcdef0123456789abcdef\n");
    are(&tree.lost(), &[]);
}

#[test]
fn files_of_the_configuration_on_a_running_system() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        ("etc/NIXOS", ""),
        ("nix/store/e/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ]);
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [
        { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" }] }));
    are(&tree.lost(), &[r#""/etc/machine-id""#]);
    tree.link("etc/static", "/nix/store/e");
    tree.link("etc/machine-id", "/etc/static/machine-id");
    are(&tree.lost(), &[]);
}

#[test]
fn links_lead_nowhere_else() {
    let tree = Tree::of(&[("etc/fstab", FSTAB)]);
    // The unit outside must not be read.
    fs::write(tree.folder.path().join("outside.service"), "[Service]\nStateDirectory=outside\n").unwrap();
    let outside = tree.folder.path().join("outside.service");
    tree.link("etc/systemd/system/a.service", outside.to_str().unwrap());
    tree.link("etc/systemd/system/b.service", "../../../../outside.service");
    are(&tree.lost(), &[]);
}

#[test]
fn links_that_systemd_makes() {
    let tree = Tree::nixos(&[
        ("etc/systemd/system/a.service", "[Service]\nDynamicUser=yes\nStateDirectory=a:alias:ro\n"),
        ("etc/systemd/system/b.service", "[Service]\nExecStart=/bin/b /var/lib/a/db /var/lib/alias/x\n"),
        ("etc/tmpfiles.d/a.conf", "d /var/lib/a/files 0750 a a\n"),
    ]);
    are(&tree.lost(), &[r#""/var/lib/private/a""#]);
    assert_eq!(tree.audit(&[]).json["lost"][0]["by"], json!(["a.service", "b.service"]));
}

#[test]
fn parts_of_a_toplevel_that_are_links() {
    let tree = Tree::nixos(&[]);
    fs::remove_dir_all(tree.root.join("etc")).unwrap();
    tree.link("etc", "/nix/store/e/etc");
    tree.link("activate", "/nix/store/activate");
    tree.put("../e/etc/fstab", FSTAB);
    tree.link("../e/etc/systemd/system", "/nix/store/units");
    tree.put("../units/x.service", "[Service]\nStateDirectory=x\n");
    tree.put("../activate", "perl /nix/store/l-users-groups.json\n");
    let user =
        json!({ "name": "ada", "uid": null, "group": "users", "home": "/home/ada", "isSystemUser": false });
    tree.put("../l-users-groups.json", &json!({ "users": [user] }).to_string());
    are(
        &tree.lost(),
        &[r#"{ directory = "/home/ada"; user = "ada"; group = "users"; mode = "0700"; }"#, r#""/var/lib/x""#],
    );
}

#[test]
fn directories_in_place_of_links() {
    let tree = Tree::nixos(&[(
        "etc/systemd/system/a.service",
        "[Service]\nDynamicUser=yes\nStateDirectory=a b:c\n",
    )]);
    tree.entries(json!([{ "directory": "/var/lib/private" }, { "directory": "/var/lib/a" }, { "directory": "/var/lib/c" }]));
    assert_eq!(tree.faults(), ["/var/lib/a", "/var/lib/c"]);
    assert!(tree.audit(&[]).text.contains("name /var/lib/private/b in its place"));
}

#[test]
fn links_and_binds_in_circles() {
    let tree = Tree::nixos(&[(
        "etc/tmpfiles.d/x.conf",
        "d /srv/a\nL /srv/a - - - - /srv/b/x\nL /srv/b - - - - /srv/a/y\nd /srv/c/x\n",
    )]);
    tree.put("etc/fstab", &(FSTAB.to_owned() + "/srv/c /srv/d none bind\n/srv/d /srv/c none bind\n"));
    are(&tree.lost(), &[r#""/srv/a""#, r#""/srv/c/x""#]);
}

#[test]
fn links_and_directories_in_place_of_files() {
    let tree = Tree::of(&[("etc/fstab", FSTAB)]);
    tree.put("etc/systemd/system/a.service", "[Service]\nStateDirectory=a\n");
    let big = tree.root.join("etc/systemd/system/big.service");
    fs::File::create(big).unwrap().set_len(1 << 40).unwrap();
    let fifo = tree.root.join("etc/systemd/system/fifo.service");
    assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    tree.link("etc/systemd/system/loop.service", "/etc/systemd/system/loop.service");
    are(&tree.lost(), &[r#""/var/lib/a""#]);
}
