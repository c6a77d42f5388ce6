//! `impctl orphans`: paths without an entry are listed, used paths are not, and no file changes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::ctl_lost::{are, at, du, paths, put};
use crate::live::{self, inside, report, started};
use crate::roots::manifest;
use crate::support::command::sh_on;
use crate::support::namespace::bind;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, json_of, mounts, run};

tests![
    paths_without_an_entry: Disk,
    mounts_of_a_removed_entry: Disk,
    mounts_of_a_removed_entry_in_use: Disk,
    a_converted_disk: Disk,
    mounts_of_others: Disk,
    a_store_that_is_not_there: Disk,
    several_stores,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");

fn impctl(machine: &Machine, words: &[&str]) -> Output {
    let (root, compiled) = (machine.at(""), machine.home().join("manifest"));
    let mut line = vec![OsStr::new(PROGRAM), OsStr::new("orphans"), OsStr::new("--root"), root.as_os_str()];
    line.extend([OsStr::new("--manifest"), compiled.as_os_str()]);
    line.extend(words.iter().map(OsStr::new));
    run(&line)
}

/// Findings on the first store, which must fit the schema and agree with the exit status; nothing may have changed.
#[track_caller]
fn orphans(machine: &Machine, words: &[&str]) -> Value {
    let look = || (mounts(), Snapshot::of(&machine.at("")), Snapshot::of(&machine.at("/persist")));
    let before = look();
    let output = impctl(machine, &[&["--json"], words].concat());
    let text = impctl(machine, words);
    assert_eq!(look(), before, "it changed something");
    let found = json_of(&output, "orphans");
    let is_clean = |store: &Value| store["orphans"] == json!([]) && store["failure"] == "";
    let code = i32::from(!found["stores"].as_array().unwrap().iter().all(is_clean));
    assert_eq!((output.code, text.code), (Some(code), Some(code)), "{output:?}");
    // The text denies a removal wherever a reader might expect one.
    assert_eq!(
        text.stdout.contains("Nothing was removed"),
        paths(&found["stores"][0]["orphans"]).iter().next().is_some()
    );
    found["stores"][0]["orphans"].clone()
}

fn built(entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    machine.manifest(&manifest(json!({ "size": "16M" }), entries));
    machine.build().ok();
    machine
}

fn paths_without_an_entry() {
    let machine = built(json!([
        { "directory": "/var/lib/plex" },
        { "directory": "/home/ada/photos" },
        { "directory": "/opt/deep/er/kept" },
        { "directory": "/target", "source": "/elsewhere/source" },
        { "file": "/etc/ssh/ssh_host_*" },
        { "file": "/etc/machine-id", "missing": "create" },
    ]));
    // Only directories with entries, and an empty lost+found.
    are(&orphans(&machine, &[]), &[]);
    assert_eq!(impctl(&machine, &[]).ok().stdout, "/persist: entries name everything on it\n");

    let store = machine.at("/persist");
    for path in [
        "/var/lib/plex/a",
        "/etc/ssh/ssh_host_key",
        "/elsewhere/source/a",
        "/var/lib/old/a",
        "/var/lib/old/b/c",
        "/var/lib/plex.bak",
        "/home/ada/notes/a",
        "/home/bob/a",
        "/etc/ssh/other",
        "/opt/deep/er/lost/a",
        "/opt/deep/file",
        "/target/a",
        "/lost+found/#12",
        "/new\nline/a",
    ] {
        put(&store, path, "x");
    }
    put(&store, "/var/lib/old/empty.lock", "");
    sh_on("sync", &[]);
    let found = orphans(&machine, &[]);
    are(
        &found,
        &[
            "directory /persist/var/lib/old",
            "file /persist/var/lib/plex.bak",
            "directory /persist/home/ada/notes",
            "directory /persist/home/bob",
            "file /persist/etc/ssh/other",
            "directory /persist/opt/deep/er/lost",
            "file /persist/opt/deep/file",
            "directory /persist/target",
            "directory /persist/lost+found",
            "directory /persist/new\nline",
        ],
    );
    let old = at(&found, "/persist/var/lib/old");
    assert_eq!((&old["files"], &old["allocated"]), (&json!(3), &json!(du(&store.join("var/lib/old")))));
    assert_eq!(at(&found, "/persist/lost+found")["remarks"], json!(["what fsck found"]));
}

fn mounts_of_a_removed_entry() {
    let both = json!([{ "directory": "/var/lib/plex" }, { "directory": "/var/lib/old" }]);
    let machine = built(both.clone());
    put(&machine.at("/persist"), "/var/lib/old/a", "x");
    // Generations 7 and 8 of NixOS have an entry for the path, and 9 has none.
    let compiled = machine.home().join("manifest");
    let earlier = fs::read(&compiled).unwrap();
    machine.manifest(&manifest(json!({ "size": "16M" }), json!([{ "directory": "/var/lib/plex" }])));
    let now = fs::read(&compiled).unwrap();
    for (number, content) in [(7, &earlier), (8, &earlier), (9, &now)] {
        put(&machine.at(""), &format!("/nix/store/{number}-system/etc/imp-mount/manifest"), content);
        let profiles = machine.at("/nix/var/nix/profiles");
        fs::create_dir_all(&profiles).unwrap();
        symlink(format!("/nix/store/{number}-system"), profiles.join(format!("system-{number}-link")))
            .unwrap();
    }
    machine.reboot().ok();
    let found = orphans(&machine, &[]);
    are(&found, &["directory /persist/var/lib/old"]);
    assert_eq!(found[0]["generation"], Value::Null, "the reboot took the profiles with it");

    for (number, content) in [(7, &earlier), (8, &earlier), (9, &now)] {
        put(
            &machine.at(""),
            &format!("/nix/var/nix/profiles/system-{number}-link/etc/imp-mount/manifest"),
            content,
        );
    }
    let found = orphans(&machine, &[]);
    assert_eq!(found[0]["generation"], 8);
    let text = impctl(&machine, &[]).expect(1).stdout;
    assert!(text.contains("named by generation 8"), "{text}");
    machine.manifest(&manifest(json!({ "size": "16M" }), both));
    are(&orphans(&machine, &[]), &[]);
}

fn mounts_of_a_removed_entry_in_use() {
    let entries = json!([{ "directory": "/srv/used" }, { "file": "/etc/app.conf", "missing": "create" }]);
    let machine = started(entries.clone());
    fs::write(machine.at("/srv/used/kept"), "kept").unwrap();
    // Continues to write after the removal of its entries: to open files, and by name.
    let wait = "until [ -e /run/go ]; do sleep 0.01; done";
    let write =
        "echo late >&3; echo late >&4; echo late > name; mv name new; cd /; exec 3>&- 4>&-; touch /run/done";
    let mut user =
        inside(&machine, &format!("cd /srv/used; exec 3>>log 4>>/etc/app.conf; {{ {wait}; {write}; }} & :"));
    machine.manifest(&live::manifest(json!([])));
    let output = machine.run_live(&[]).ok();
    for (path, lsof) in [("/srv/used", "lsof +D"), ("/etc/app.conf", "lsof")] {
        let who = format!("`{lsof} {path}`");
        output.clone().says_in_one_line(&[
            &format!("warning: {path}: it is no longer named, but in use"),
            &who,
            "next boot",
        ]);
        assert!(machine.mount_at(path).is_some(), "{path}");
    }
    let left = || -> Value {
        let found = machine.impctl("orphans", &["--json"]).expect(1);
        serde_json::from_str::<Value>(&found.stdout).unwrap()["stores"][0]["orphans"].clone()
    };
    let remark = |path: &str| json!([format!("its entry was removed, but is in use at {path}")]);
    assert_eq!(at(&left(), "/persist/srv/used")["remarks"], remark("/srv/used"));
    assert_eq!(at(&left(), "/persist/etc/app.conf")["remarks"], remark("/etc/app.conf"));
    let lost = machine.impctl("lost", &["--json"]).stdout;
    assert!(!lost.contains("/srv") && !lost.contains("app.conf"), "{lost}");

    fs::write("/run/go", "").unwrap();
    while !Path::new("/run/done").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    user.kill().unwrap();
    user.wait().unwrap();
    let output = machine.run_live(&[]).ok();
    output.says(&["/srv/used: unmounted", "its data stays at /persist/srv/used"]);
    assert!(machine.mount_at("/srv/used").is_none() && machine.mount_at("/etc/app.conf").is_none());
    assert_eq!(
        (report()["entries"].clone(), &at(&left(), "/persist/srv/used")["remarks"]),
        (json!([]), &json!([]))
    );
    for (path, content) in [
        ("srv/used/kept", "kept"),
        ("srv/used/log", "late\n"),
        ("srv/used/new", "late\n"),
        ("etc/app.conf", "late\n"),
    ] {
        assert_eq!(fs::read_to_string(machine.at("/persist").join(path)).unwrap(), content);
    }
    // And back again.
    machine.manifest(&live::manifest(entries));
    machine.run_live(&[]).ok();
    assert_eq!(fs::read_to_string(machine.at("/srv/used/new")).unwrap(), "late\n");
}

fn a_converted_disk() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    for path in
        ["/var/lib/plex/a", "/var/lib/old/a", "/etc/fstab", "/usr/bin/env", "/nix/store/x/a", "/root/notes"]
    {
        put(&machine.at(""), path, "x");
    }
    machine.manifest(&manifest(
        json!({ "convert": "/persist", "size": "16M" }),
        json!([{ "directory": "/var/lib/plex" }]),
    ));
    // Before: the store is not there yet.
    impctl(&machine, &[]).expect(2).says(&["no store could be looked at"]);
    machine.build().ok();
    let found = orphans(&machine, &[]);
    are(
        &found,
        &[
            "directory /persist/var/lib/old",
            "file /persist/etc/fstab",
            "directory /persist/usr",
            "directory /persist/nix",
            "directory /persist/root",
        ],
    );
    let remarks = |path| at(&found, path)["remarks"].clone();
    let old = json!(["of the system before it was converted"]);
    assert_eq!((remarks("/persist/usr"), remarks("/persist/etc/fstab")), (old.clone(), old));
    assert_eq!((remarks("/persist/root"), remarks("/persist/var/lib/old")), (json!([]), json!([])));
    assert_eq!(remarks("/persist/nix"), json!(["a Nix store: leave it to nix"]));
    machine.power_off();
}

fn mounts_of_others() {
    let machine = built(json!([{ "directory": "/var/lib/plex" }]));
    let store = machine.at("/persist");
    for path in ["/nix/store/x", "/srv/used/a", "/srv/unused/a"] {
        put(&store, path, "x");
    }
    for (from, to) in [("nix", "/nix"), ("srv/used", "/srv/place")] {
        fs::create_dir_all(machine.at(to)).unwrap();
        bind(store.join(from), machine.at(to));
    }
    are(&orphans(&machine, &[]), &["directory /persist/srv/unused"]);
    sh_on("umount", &[&machine.at("/srv/place")]);
    are(&orphans(&machine, &[]), &["directory /persist/srv/unused", "directory /persist/srv/used"]);
}

fn a_store_that_is_not_there() {
    let machine = built(json!([{ "directory": "/var/lib/plex" }]));
    sh_on("umount --recursive", &[&machine.at("/var/lib/plex")]);
    sh_on("umount", &[&machine.at("/persist")]);
    let output = impctl(&machine, &[]).expect(2).says(&["no store could be looked at", "--check"]);
    assert!(output.stdout.contains("/persist: not looked at: nothing is mounted there"), "{output:?}");
    impctl(&machine, &["/other"]).expect(2).says(&["/other", "this is no store", "/persist"]);
    run(&[PROGRAM, "orphans", "--root", "/tmp/machine"])
        .expect(2)
        .says(&["there is no manifest", "--manifest"]);
}

fn several_stores() {
    let stores = vec![("/persist", Disk::new(Fs::Folder, 0)), ("/persist/media", Disk::new(Fs::Folder, 0))];
    let machine = Machine::with_stores(Root::Tmpfs, stores);
    let entries =
        json!([{ "directory": "/a", "store": "/persist" }, { "directory": "/b", "store": "/persist/media" }]);
    let paths = json!([{ "path": "/persist" }, { "path": "/persist/media", "required": false }]);
    machine.manifest(&json!({ "version": 1, "root": null, "stores": paths, "entries": entries }));
    machine.build().ok();
    // On the other store each of them is an orphan.
    put(&machine.at("/persist"), "/b/x", "x");
    put(&machine.at("/persist/media"), "/a/x", "x");
    are(&orphans(&machine, &[]), &["directory /persist/b"]);
    let output = impctl(&machine, &["--json", "/persist/media"]).expect(1);
    let found = json_of(&output, "orphans");
    are(&found["stores"][0]["orphans"], &["directory /persist/media/a"]);
    // A store may also be a directory of another store's disk; then only this directory is searched.
    sh_on("umount --recursive", &[&machine.at("/b")]);
    sh_on("umount", &[&machine.at("/persist/media")]);
    put(&machine.at("/persist/media"), "/c/x", "x");
    let output = impctl(&machine, &["--json"]).expect(1);
    let found = json_of(&output, "orphans");
    are(&found["stores"][0]["orphans"], &["directory /persist/b"]);
    are(&found["stores"][1]["orphans"], &["directory /persist/media/c"]);
}
