//! Paths that a scan leaves out: mounts, the Nix store, disposable paths, unreadable directories; and owners.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{PROGRAM, are, at, built, impctl, lost, manifest_of, paths, put, root};
use crate::support::command::sh_on;
use crate::support::namespace::{bind, tmpfs};
use crate::support::trees;
use crate::support::{Disk, Fs, json_of, run};

pub fn unreadable_paths_are_named() {
    let root = root();
    put(root, "/var/lib/foo/open/a", "a");
    put(root, "/var/lib/foo/closed\n/a", "a");
    put(root, "/srv/closed/a", "a");
    for folder in ["var/lib/foo/closed\n", "srv/closed"] {
        sh_on("chown 1000", &[&root.join(folder)]);
        sh_on("chmod 0700", &[&root.join(folder)]);
    }
    // root without the capabilities to read everything.
    let caps = "-dac_override,-dac_read_search";
    let (inherited, bounding) = (format!("--inh-caps={caps}"), format!("--bounding-set={caps}"));
    let place = root.to_str().unwrap();
    let line = ["setpriv", &inherited, &bounding, "--", PROGRAM, "lost", "--root", place];
    let output = run(&[&line[..], &["--json"]].concat()).expect(1);
    let found = json_of(&output, "lost");
    are(&found["lost"], &["directory /var/lib/foo"]);
    assert_eq!(found["unread_count"], 2);
    let unread: Vec<_> =
        found["unread"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(unread, ["/srv/closed", "/var/lib/foo/closed\n"]);
    assert!(found["unread"][0]["why"].as_str().unwrap().contains("Permission denied"));
    let text = run(&line).expect(1).stdout;
    assert!(text.contains("not looked into: /srv/closed: Permission denied"), "{text}");
    // Status 0 needs more than an empty list.
    let output = run(&[&line[..], &["--json", "/srv"]].concat()).expect(1);
    are(&json_of(&output, "lost")["lost"], &[]);
}

pub fn mounts_are_not_entered() {
    let root = root();
    let disk = Disk::new(Fs::Ext4, 8);
    put(root, "/data/a/x", "x");
    put(root, "/data/file", "x");
    for folder in ["mnt/disk", "var/lib/foo/disk", "var/lib/bar/memory", "var/lib/same"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    disk.mount(root.join("mnt/disk"));
    put(root, "/mnt/disk/y", "y");
    put(root, "/var/lib/foo/a", "a");
    bind(root.join("mnt/disk"), root.join("var/lib/foo/disk"));
    put(root, "/var/lib/bar/a", "a");
    tmpfs(root.join("var/lib/bar/memory"), "");
    put(root, "/var/lib/bar/memory/b", "b");
    // The root's own file system, mounted a second time: each file is listed once, at its first path.
    bind(root.join("data/a"), root.join("var/lib/same"));
    put(root, "/etc/hosts", "");
    bind(root.join("data/file"), root.join("etc/hosts"));
    let found = lost(root, &[]);
    // A mount in a directory is listed apart from the directory; a tmpfs does not persist.
    are(&found["lost"], &["directory /data", "file /var/lib/foo/a", "directory /var/lib/bar"]);
    assert_eq!(at(&found["lost"], "/data")["files"], 2);
    let path = lost(root, &["/mnt/disk"]);
    assert_eq!(
        (&path["lost"], path["elsewhere"].as_str().unwrap().contains("another file system, /dev/loop")),
        (&json!([]), true)
    );
    let path = lost(root, &["/var/lib/bar/memory"]);
    assert_eq!(path["elsewhere"], "it is on a tmpfs of its own, which is empty after every boot");
    sh_on("umount", &[&root.join("var/lib/foo/disk"), &root.join("mnt/disk")]);
    disk.umount();
}

pub fn files_of_nixos_are_left_out() {
    let root = root();
    for (link, target) in [
        ("/etc/static", "/nix/store/x-etc/etc"),
        ("/etc/hosts", "/etc/static/hosts"),
        ("/etc/ssh/sshd_config", "/etc/static/ssh/sshd_config"),
        ("/etc/mtab", "/proc/mounts"),
        ("/bin/sh", "/nix/store/x-bash/bin/sh"),
        ("/home/ada/.config/git/config", "/nix/store/x-home-manager/config"),
        ("/etc/localtime", "../etc/zoneinfo/Europe/Berlin"),
    ] {
        fs::create_dir_all(root.join(&link[1..]).parent().unwrap()).unwrap();
        symlink(target, root.join(&link[1..])).unwrap();
    }
    for path in [
        "/etc/NIXOS",
        "/etc/sudoers",
        "/etc/nested/copied",
        "/etc/nested/own",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/ssh/ssh_host_key",
    ] {
        put(root, path, "content");
    }
    put(root, "/etc/.clean", "sudoers\nnested/copied\n");
    put(root, "/home/ada/.config/git/own", "own");
    trees::socket(&root.join("home/socket"));
    let found = lost(root, &[]);
    are(
        &found["lost"],
        &["link /etc/localtime", "file /etc/nested/own", "file /etc/ssh/ssh_host_key", "directory /home/ada"],
    );
    assert_eq!(at(&found["lost"], "/home/ada")["files"], 1);
    assert_eq!(
        at(&found["lost"], "/etc/localtime")["entry"],
        json!({ "file": "/etc/localtime", "method": "copy" })
    );

    let text = impctl(root, &[]).expect(1).stdout;
    assert!(text.contains("-> what must stay: impctl lost --nix"), "{text}");
    // Elsewhere nothing makes the users anew.
    fs::remove_file(root.join("etc/NIXOS")).unwrap();
    let found = lost(root, &["/etc"]);
    assert_eq!(at(&found["lost"], "/etc/shadow")["kind"], "file");
}

pub fn links_of_a_merged_usr() {
    let root = root();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib"),
        ("sbin", "usr/bin"),
        ("lib32", "usr/lib32"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    are(&lost(root, &[])["lost"], &["link /lib32"]);
    // systemd makes no others.
    fs::remove_file(root.join("bin")).unwrap();
    symlink("/opt/bin", root.join("bin")).unwrap();
    are(&lost(root, &[])["lost"], &["link /lib32", "link /bin"]);
}

pub fn the_throw_away_list() {
    let root = root();
    for path in [
        "/var/cache/big/x",
        "/var/cache/small/x",
        "/tmp/x",
        "/srv/a.tmp",
        "/srv/b",
        "/var/lib/foo/c.tmp",
        "/var/lib/foo/node_modules/x",
        "/var/lib/foo/d",
    ] {
        put(root, path, "content");
    }
    put(root, "/var/lib/foo/.lock", "");
    put(root, "/var/lib/foo/flake.lock", "{}");
    let first = lost(root, &[]);
    are(&first["lost"], &["directory /var/lib/foo", "file /srv/a.tmp", "file /srv/b"]);
    assert_eq!((&at(&first["lost"], "/var/lib/foo")["files"], &first["throw_away"]), (&json!(4), &json!([])));

    put(root, "/etc/imp-mount/throw-away", "# mine\n\n*.tmp\n  node_modules\n!/var/cache/big\n");
    let second = lost(root, &[]);
    are(&second["lost"], &["directory /var/lib/foo", "file /srv/b", "directory /var/cache/big"]);
    assert_eq!(at(&second["lost"], "/var/lib/foo")["files"], 2);

    // A file at the default path; the command line decides last.
    fs::write("/tmp/list", "/srv").unwrap();
    let third = lost(
        root,
        &["--throw-away-from", "/tmp/list", "--throw-away", "!/srv/b", "--throw-away", "/var/lib/f?o"],
    );
    are(&third["lost"], &["file /srv/b"]);

    let all = lost(root, &["--all"]);
    assert_eq!(paths(&all["lost"]), paths(&second["lost"]));
    are(
        &all["throw_away"],
        &[
            "directory /var/cache",
            "directory /tmp",
            "file /srv/a.tmp",
            "file /var/lib/foo/c.tmp",
            "directory /var/lib/foo/node_modules",
            "file /var/lib/foo/.lock",
        ],
    );
    assert_eq!(all["totals"], second["totals"], "what is throw-away is not lost");
    let told = lost(root, &["/tmp"]);
    assert_eq!(told["elsewhere"], "it is throw-away; --all shows it");

    fs::write(root.join("etc/imp-mount/throw-away"), "ok\nsrv/[x\n").unwrap();
    impctl(root, &[]).expect(2).says(&["throw-away, line 2", "srv/[x"]);
}

pub fn a_directory_in_parts() {
    let root = root();
    for number in 0..300 {
        put(root, &format!("/var/lib/many/{number}"), "x");
        put(root, &format!("/var/lib/few/sub/{number}"), "x");
    }
    put(root, "/var/lib/few/single", "x");
    let file = manifest_of(json!([{ "file": "/var/lib/many/299" }, { "directory": "/var/lib/few/kept" }]));
    put(root, "/persist/x", "x");
    let kept = root.join("var/lib/many/299");
    bind(&kept, &kept);
    let found = lost(root, &["--manifest", &file, "/var/lib"]);
    // One line in place of one for each file, marked as partial.
    are(&found["lost"], &["directory /var/lib/many", "directory /var/lib/few"]);
    assert_eq!(
        (&at(&found["lost"], "/var/lib/many")["files"], &at(&found["lost"], "/var/lib/many")["partly"]),
        (&json!(299), &json!(true))
    );
    put(root, "/var/lib/few/kept/x", "x");
    // The root is in memory: entries without a mount would be lost, too.
    let found = lost(root, &["--manifest", &file, "/var/lib/few"]);
    are(
        &found["lost"],
        &["directory /var/lib/few/sub", "file /var/lib/few/single", "directory /var/lib/few/kept"],
    );
    assert_eq!(at(&found["lost"], "/var/lib/few/kept")["unmounted"], true);
    // In the path asked for, everything has a line of its own.
    let found = lost(root, &["--manifest", &file, "/var/lib/many"]);
    are(&found["lost"], &["files /var/lib/many"]);
}

pub fn an_entry_that_is_not_mounted() {
    let (machine, compiled) = built();
    sh_on("umount", &[&machine.at("/var/lib/plex")]);
    put(&machine.at(""), "/var/lib/plex/database", "precious");
    let found = lost(&machine.at(""), &["--manifest", &compiled]);
    are(&found["lost"], &["directory /var/lib/plex"]);
    assert_eq!(found["lost"][0]["unmounted"], true);
    let text = impctl(&machine.at(""), &["--manifest", &compiled]).expect(1).stdout;
    assert!(text.contains("NOT MOUNTED") && text.contains("imp-mount --check"), "{text}");
    // So is a store.
    sh_on("umount --recursive", &[&machine.at("")]);
    let root = root();
    put(root, "/persist/var/lib/plex/x", "x");
    let found = lost(root, &["--manifest", &compiled]);
    are(&found["lost"], &["directory /persist"]);
    assert_eq!(found["lost"][0]["unmounted"], true);
}

pub fn owners_of_lost_paths() {
    let root = root();
    put(
        root,
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nplex:x:193:194::/:/bin/sh\nweb:x:200:200::/:/bin/sh\n",
    );
    put(root, "/etc/group", "plex:x:193:\nmedia:x:194:\n");
    let units = "/etc/systemd/system";
    put(root, "/nix/store/x/foo.service", "[Service]\nDynamicUser=yes\nStateDirectory=foo foo/sub:link\n");
    symlink("/nix/store/x", root.join("nix/store/y")).unwrap();
    fs::create_dir_all(root.join(&units[1..])).unwrap();
    for name in ["foo.service", "dbus-org.foo.service"] {
        symlink("/nix/store/y/foo.service", root.join("etc/systemd/system").join(name)).unwrap();
    }
    put(
        root,
        &format!("{units}/plex.service"),
        "[Service]\nUser=plex\nExecStart=/nix/store/z/bin/plex \\\n  --data=/var/lib/library\n",
    );
    put(root, &format!("{units}/bar.service"), "[Service]\nExecStart=/bin/bar\n#StateDirectory=no\n");
    put(
        root,
        &format!("{units}/bar.service.d/more.conf"),
        "[Service]\nLogsDirectory=%p\nStateDirectory=%i\n",
    );
    put(root, "/usr/lib/tmpfiles.d/baz.conf", "d /var/spool/baz 0755 root root -\nd /var/lib/%m - - -\n");
    put(root, "/var/lib/dpkg/info/qux:amd64.list", "/.\n/var/lib/qux\n");
    for path in [
        "/var/lib/private/foo/x",
        "/var/lib/foo/x",
        "/var/lib/library/sub/x",
        "/srv/plex/x",
        "/var/spool/baz/x",
        "/var/lib/qux/x",
        "/var/lib/nobodys/x",
        "/var/lib/no/x",
        "/var/lib/nixos/x",
    ] {
        put(root, path, "x");
    }
    for path in ["/srv/plex", "/srv/plex/x"] {
        sh_on("chown 193:194", &[&root.join(&path[1..])]);
    }
    sh_on("chown 200:61234", &[&root.join("var/lib/nobodys")]);
    let found = lost(root, &["--throw-away", "/nix", "--throw-away", "/usr"]);
    for (path, who) in [
        ("/var/lib/private/foo", json!(["foo.service"])),
        ("/var/lib/foo", json!(["foo.service"])),
        ("/var/lib/library", json!(["plex.service"])),
        ("/srv/plex", json!(["plex.service"])),
        ("/var/spool/baz", json!(["tmpfiles.d/baz.conf"])),
        ("/var/lib/qux", json!(["package qux"])),
        ("/var/lib/nobodys", json!([])),
        ("/var/lib/no", json!([])),
    ] {
        assert_eq!(at(&found["lost"], path)["belongs_to"], who, "{path}");
    }
    assert_eq!(at(&found["lost"], "/var/lib/nixos")["what"], "which number each user and group has");
    let one = |path, key: &str| at(&found["lost"], path)[key].clone();
    assert_eq!(
        (one("/srv/plex", "user"), one("/srv/plex", "group"), one("/srv/plex", "others")),
        (json!("plex"), json!("media"), json!(false))
    );
    let nobodys = "/var/lib/nobodys";
    assert_eq!(
        (one(nobodys, "user"), one(nobodys, "group"), one(nobodys, "others")),
        (json!("web"), json!("61234"), json!(true))
    );
}
