//! Copies, links and matches written back to the store by `--adopt`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use serde_json::{Value, json};

use super::{exists, holding, manifest, read, replace, write};
use crate::support::command::sh_on;
use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Root, Snapshot};

fn copies() -> Value {
    json!([{ "file": "/etc/app.conf", "method": "copy" }])
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 64];
    let length = lgetxattr(path, name, &mut value).unwrap_or_else(|errno| panic!("{name}: {errno}"));
    value[..length].to_vec()
}

pub fn a_replaced_copy_is_adopted_whole() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        write(&machine, "/persist/etc/app.conf", "old");
        machine.manifest(&manifest(&copies()));
        machine.build().ok();
        assert_eq!(read(&machine, "/etc/app.conf"), "old");
        replace(&machine, "/etc/app.conf", "new content");
        let path = machine.at("/etc/app.conf");
        chown(&path, Some(193), Some(194)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o2640)).unwrap();
        lsetxattr(&path, "user.note", b"kept", XattrFlags::empty()).unwrap();
        sh_on("setfacl -m u:1000:rw", &[&path]);
        let acl = attribute(&path, "system.posix_acl_access");
        let mode = stat(&path).0;

        machine.run(&["--adopt"]).expect(0);
        let kept = machine.at("/persist/etc/app.conf");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "new content");
        assert_eq!(stat(&kept), (mode, 193, 194));
        assert_eq!(attribute(&kept, "user.note"), b"kept");
        assert_eq!(attribute(&kept, "system.posix_acl_access"), acl);
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(&kept), time(&path));
        assert_eq!(fs::read_dir(machine.at("/persist/etc")).unwrap().count(), 1, "nothing is left beside it");
        machine.reboot().ok();
        assert_eq!(read(&machine, "/etc/app.conf"), "new content");
        assert_eq!(stat(machine.at("/etc/app.conf")), (mode, 193, 194));
        machine.power_off();
    }
}

pub fn a_copied_link_stays_a_link() {
    let machine = holding(&[]);
    fs::create_dir(machine.at("/persist/etc")).unwrap();
    symlink("../usr/share/zone", machine.at("/persist/etc/app.conf")).unwrap();
    machine.manifest(&manifest(&copies()));
    machine.build().ok();
    assert_eq!(fs::read_link(machine.at("/etc/app.conf")).unwrap(), Path::new("../usr/share/zone"));
    // Another link in its place is brought back as a link.
    fs::remove_file(machine.at("/etc/app.conf")).unwrap();
    symlink("/etc/shadow", machine.at("/etc/app.conf")).unwrap();
    machine.run(&["--adopt"]).ok();
    assert_eq!(fs::read_link(machine.at("/persist/etc/app.conf")).unwrap(), Path::new("/etc/shadow"));
    machine.reboot().ok();
    assert_eq!(fs::read_link(machine.at("/etc/app.conf")).unwrap(), Path::new("/etc/shadow"));
}

pub fn a_replaced_link_is_adopted() {
    let machine = holding(&[("etc/linked", "old")]);
    machine.manifest(&manifest(&json!([
        { "file": "/etc/linked", "method": "symlink" },
        { "file": "/etc/missing" },
        { "file": "/etc/untouched", "method": "symlink" },
    ])));
    machine.build().ok();
    replace(&machine, "/etc/linked", "new");
    replace(&machine, "/etc/missing", "made");
    machine.run(&["--adopt"]).ok();
    assert_eq!(read(&machine, "/persist/etc/linked"), "new");
    assert_eq!(read(&machine, "/persist/etc/missing"), "made");
    assert!(!exists(machine.at("/persist/etc/untouched")));
    machine.reboot().ok();
    assert!(machine.mount_at("/etc/missing").is_some());
    assert_eq!(read(&machine, "/etc/missing"), "made");
}

pub fn new_matches_are_adopted() {
    let machine = holding(&[("etc/ssh/ssh_host_old", "old")]);
    let entries = json!([{ "file": "/etc/ssh/ssh_host_*" }, { "file": "/var/new/[a-c]*" }]);
    machine.manifest(&manifest(&entries));
    machine.build().ok();
    write(&machine, "/etc/ssh/ssh_host_new", "new");
    write(&machine, "/etc/ssh/other", "lost");
    write(&machine, "/etc/ssh/.ssh_host_dot", "lost");
    write(&machine, "/var/new/a\nb", "lines");
    write(&machine, "/var/new/-c", "lost");
    fs::create_dir(machine.at("/var/new/c-folder")).unwrap();
    symlink("/etc/shadow", machine.at("/var/new/b-link")).unwrap();
    chown(machine.at("/etc/ssh/ssh_host_new"), Some(193), Some(194)).unwrap();
    fs::set_permissions(machine.at("/etc/ssh/ssh_host_new"), Permissions::from_mode(0o600)).unwrap();
    machine.run(&["--adopt"]).ok();
    assert_eq!(read(&machine, "/persist/etc/ssh/ssh_host_new"), "new");
    assert_eq!(stat(machine.at("/persist/etc/ssh/ssh_host_new")), (0o100_600, 193, 194));
    assert_eq!(read(&machine, "/persist/var/new/a\nb"), "lines");
    let count = |path: &str| fs::read_dir(machine.at(path)).unwrap().count();
    assert_eq!((count("/persist/etc/ssh"), count("/persist/var/new")), (2, 1));
    machine.reboot().ok();
    assert!(machine.mount_at("/etc/ssh/ssh_host_new").is_some());
    assert_eq!(read(&machine, "/var/new/a\nb"), "lines");
}

pub fn a_match_never_overwrites_the_store() {
    let machine = holding(&[]);
    machine.manifest(&manifest(&json!([{ "file": "/keys/*" }])));
    machine.build().ok();
    write(&machine, "/keys/file", "foreign");
    write(&machine, "/keys/folder", "foreign");
    // The file there came from elsewhere since: another system, or a restored backup.
    write(&machine, "/persist/keys/file", "the store's");
    write(&machine, "/persist/keys/folder/inside", "the store's");
    let before = Snapshot::of(&machine.at("/persist"));
    machine.run(&["--adopt"]).expect(1).says_in_one_line(&["/keys/file", "both are kept", "keep one"]);
    assert_eq!(before.losses(&Snapshot::of(&machine.at("/persist"))), [""; 0]);
    assert_eq!(read(&machine, "/persist/keys/file"), "the store's");
    for name in ["file", "folder"] {
        assert_eq!(read(&machine, &format!("/persist/keys/{name}.imp-mount-conflict")), "foreign");
    }
}

pub fn a_file_of_before_is_no_copy() {
    let machine = holding(&[("etc/app.conf", "precious")]);
    machine.manifest(&manifest(&json!([{ "directory": "/srv" }])));
    machine.build().ok();
    machine.switch_root();
    write(&machine, "/etc/app.conf", "of this boot");
    machine.manifest(&manifest(
        &json!([{ "directory": "/srv" }, { "file": "/etc/app.conf", "method": "copy" }]),
    ));
    machine.run_live(&[]).expect(1).says_in_one_line(&[
        "/etc/app.conf",
        "regular file already",
        "move it away",
    ]);
    machine.run_live(&["--adopt"]).expect(1).says_in_one_line(&["/etc/app.conf", "both are kept"]);
    assert_eq!(read(&machine, "/persist/etc/app.conf"), "precious");
    assert_eq!(read(&machine, "/persist/etc/app.conf.imp-mount-conflict"), "of this boot");
    assert_eq!(read(&machine, "/etc/app.conf"), "of this boot");
    let check = machine.run_live(&["--check"]).expect(1).stdout;
    let line = check.lines().find(|line| line.starts_with("two versions")).unwrap();
    assert!(
        line.contains("/persist/etc/app.conf.imp-mount-conflict") && line.contains("keep one"),
        "{check}"
    );
    fs::remove_file(machine.at("/persist/etc/app.conf.imp-mount-conflict")).unwrap();
    // A file with the same content is no loss, and counts as a copy from then on.
    write(&machine, "/etc/app.conf", "precious");
    machine.run_live(&[]).ok();
    replace(&machine, "/etc/app.conf", "new");
    machine.run_live(&[]).ok();
    machine.run_live(&["--adopt"]).ok();
    assert_eq!(read(&machine, "/persist/etc/app.conf"), "new");
}

pub fn adopting_twice_changes_nothing() {
    let machine = holding(&[("etc/app.conf", "old"), ("etc/linked", "old")]);
    machine.manifest(&manifest(&json!([
        { "file": "/etc/app.conf", "method": "copy" },
        { "file": "/etc/linked", "method": "symlink" },
        { "file": "/keys/*" },
        { "directory": "/srv" },
    ])));
    machine.build().ok();
    let before = Snapshot::of(&machine.at("/persist"));
    machine.run(&["--adopt"]).ok();
    assert_eq!(Snapshot::of(&machine.at("/persist")), before, "nothing had changed");
    replace(&machine, "/etc/app.conf", "new");
    replace(&machine, "/etc/linked", "new");
    write(&machine, "/keys/new", "new");
    machine.run(&["--adopt"]).ok();
    let (adopted, inode) = (Snapshot::of(&machine.at("/persist")), machine.at("/persist/etc/app.conf"));
    let inode = || fs::metadata(&inode).unwrap().ino();
    let kept = inode();
    machine.run(&["--adopt"]).ok();
    assert_eq!(Snapshot::of(&machine.at("/persist")), adopted);
    assert_eq!(inode(), kept);
}

pub fn a_full_store_keeps_the_old_content() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        write(&machine, "/persist/etc/app.conf", "old");
        machine.manifest(&manifest(&copies()));
        machine.build().ok();
        let large = "x".repeat(1 << 20);
        replace(&machine, "/etc/app.conf", &large);
        machine.disk().fill();
        let output = machine.run(&["--adopt"]).expect(1);
        output.says_in_one_line(&["/etc/app.conf", "No space left", "free space"]);
        assert_eq!(read(&machine, "/persist/etc/app.conf"), "old");
        let beside = fs::read_dir(machine.at("/persist/etc")).unwrap().count();
        assert_eq!(beside, 1, "what was begun takes no space");
        // The program's file is still on the root, and goes to the store once there is room.
        machine.disk().unfill();
        machine.run(&["--adopt"]).ok();
        assert_eq!(read(&machine, "/persist/etc/app.conf"), large);
        machine.power_off();
    }
}

/// A new version is prepared under another name, for which there must be room in 255 bytes, and which must be nobody's.
pub fn the_longest_names_are_replaced_too() {
    let long =
        ["n".repeat(255), format!("{}\u{1f980}", "m".repeat(251)), format!("x{}", "\u{e9}".repeat(127))];
    let machine = holding(&[]);
    let entry = |name: &String| json!({ "file": format!("/etc/{name}"), "method": "copy" });
    let neighbour = format!(".{}", "n".repeat(254));
    let mut entries: Vec<_> = long.iter().map(entry).collect();
    entries.push(json!({ "file": "/etc/new\nline", "method": "copy" }));
    entries.push(json!({ "file": "/keys/*" }));
    for name in long.iter().chain([&neighbour, &"new\nline".to_owned()]) {
        write(&machine, &format!("/persist/etc/{name}"), "old");
    }
    machine.manifest(&manifest(&json!(entries)));
    machine.build().ok();
    for name in long.iter().chain([&"new\nline".to_owned()]) {
        fs::write(machine.at(&format!("/etc/{name}")), "new").unwrap();
        write(&machine, &format!("/keys/{name}"), "new");
    }
    machine.run(&["--adopt"]).ok();
    for name in long.iter().chain([&"new\nline".to_owned()]) {
        assert_eq!(read(&machine, &format!("/persist/etc/{name}")), "new");
        assert_eq!(read(&machine, &format!("/persist/keys/{name}")), "new");
    }
    assert_eq!(read(&machine, &format!("/persist/etc/{neighbour}")), "old");
    assert_eq!(fs::read_dir(machine.at("/persist/etc")).unwrap().count(), 5);
}

pub fn an_adopted_folder_looks_like_the_roots() {
    let machine = holding(&[]);
    machine.manifest(&manifest(&json!([{ "file": "/home/u/.config/app/*.key" }])));
    machine.build().ok();
    write(&machine, "/home/u/.config/app/a.key", "key");
    for (path, mode) in [("/home/u", 0o700), ("/home/u/.config", 0o750), ("/home/u/.config/app", 0o2711)] {
        chown(machine.at(path), Some(1000), Some(100)).unwrap();
        fs::set_permissions(machine.at(path), Permissions::from_mode(mode)).unwrap();
    }
    machine.run(&["--adopt"]).ok();
    machine.reboot().ok();
    assert_eq!(read(&machine, "/home/u/.config/app/a.key"), "key");
    for (path, mode) in [("/home/u", 0o700), ("/home/u/.config", 0o750), ("/home/u/.config/app", 0o2711)] {
        for side in ["", "/persist"] {
            let found = stat(machine.at(&format!("{side}{path}")));
            assert_eq!((found.0 & 0o7777, found.1, found.2), (mode, 1000, 100), "{side}{path}");
        }
    }
}
