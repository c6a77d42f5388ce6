//! Attacks during a run, and through hard links, modes and files of others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, FileType, RenameFlags, renameat_with};
use serde_json::{Value, json};

use super::{VICTIM, link, manifest, node, victim};
use crate::support::look::{mounts_below, stat};
use crate::support::{Call, Disk, Fs, Injected, Machine, Root, Snapshot, is_thorough, mounts};

pub fn a_link_on_a_running_root_is_not_followed() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(&json!({}), &[json!({ "directory": "/srv" })]));
    machine.build().ok();
    machine.switch_root();
    let kept = victim(&machine.at("/victim"));
    // A user with a home on the root prepared this home for the next configuration's entries.
    for (name, to) in [
        ("dir", "/victim/dir"),
        ("shadow", "/victim/shadow"),
        ("new", "/victim/new"),
        ("late", "/victim/late"),
    ] {
        link(to, &machine.at("/home/u").join(name));
    }
    let mounted = mounts();
    for (kind, target) in [
        ("directory", "/home/u/dir"),
        ("directory", "/home/u/dir/below/deep"),
        ("file", "/home/u/shadow"),
        ("file", "/home/u/new"),
        ("directory", "/home/u/late/deep"),
    ] {
        for (required, code) in [(true, 1), (false, 0)] {
            let mut entry = json!({ kind: target, "user": 193, "mode": "0777", "required": required });
            if kind == "file" {
                entry["missing"] = "create".into();
            }
            machine.manifest(&manifest(&json!({}), &[json!({ "directory": "/srv" }), entry]));
            machine.run_live(&[]).expect(code).says_in_one_line(&[target, "symbolic link to /victim/"]);
            assert_eq!(machine.state(target).as_deref(), Some("failed"));
            assert_eq!(mounts(), mounted);
        }
    }
    assert_eq!(Snapshot::of(&machine.at("/victim")), kept);
}

pub fn links_matched_by_a_pattern_are_not_followed() {
    let kept = victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    fs::create_dir_all(store.join("etc/ssh")).unwrap();
    fs::write(store.join("etc/ssh/ssh_host_a"), "key").unwrap();
    fs::write(store.join("etc/ssh/ssh_host_z"), "key").unwrap();
    symlink("/tmp/victim/shadow", store.join("etc/ssh/ssh_host_evil")).unwrap();
    node(&store.join("etc/ssh/ssh_host_fifo"), FileType::Fifo);
    link("/tmp/victim", &store.join("linked"));
    let before = mounts();

    machine.manifest(&manifest(&json!({}), &[json!({ "file": "/linked/sha*" })]));
    let words = ["/persist/linked is a symbolic link to /tmp/victim"];
    machine.build().expect(1).says_in_one_line(&words);
    assert_eq!(mounts(), before);
    // A user who can write to the directory of a pattern cannot stop a boot, nor keep other files away. A FIFO is no problem.
    for required in [true, false] {
        let entry = json!({ "file": "/etc/ssh/ssh_host_*", "required": required });
        machine.manifest(&manifest(&json!({}), &[entry]));
        let output = machine.build().expect(0);
        assert_eq!(output.stderr.matches("warning").count(), 1, "{output:?}");
        output.says_in_one_line(&[
            "/etc/ssh/ssh_host_*",
            "/persist/etc/ssh/ssh_host_evil is a symbolic link to /tmp/victim/shadow",
            "left out",
        ]);
        for name in ["a", "z"] {
            let target = format!("/etc/ssh/ssh_host_{name}");
            assert_eq!(machine.state(&target).as_deref(), Some("mounted"), "{name}");
            assert_eq!(fs::read_to_string(machine.at(&target)).unwrap(), "key");
        }
        for name in ["evil", "fifo"] {
            let target = format!("/etc/ssh/ssh_host_{name}");
            assert_eq!(machine.state(&target), None);
            assert!(fs::symlink_metadata(machine.at(&target)).is_err(), "{name}");
        }
        let output = machine.run(&["--check"]).expect(0);
        assert!(
            output.stdout.contains("ssh_host_evil is a symbolic link to /tmp/victim/shadow"),
            "{output:?}"
        );
        machine.power_off();
        machine.power_on();
    }
    assert_eq!(Snapshot::of(Path::new(VICTIM)), kept);
}

pub fn nothing_is_adopted_through_a_link() {
    let kept = victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = [
        json!({ "file": "/a/link", "method": "copy" }),
        json!({ "file": "/b/deep/file", "method": "copy", "required": false }),
        json!({ "file": "/c/*", "required": false }),
    ];
    machine.manifest(&manifest(&json!({}), &entries));
    machine.build().ok();
    let (store, text) = (machine.at("/persist"), "written by a program");
    for path in ["a/link", "b/deep/file", "c/new", "c/old"] {
        fs::create_dir_all(machine.at(path).parent().unwrap()).unwrap();
        fs::write(machine.at(path), text).unwrap();
    }
    for folder in ["a", "b", "c"] {
        let _ = fs::remove_dir_all(store.join(folder));
    }
    link("/tmp/victim/shadow", &store.join("a/link"));
    // The name under which a second version is kept.
    link("/tmp/victim/shadow", &store.join("a/link.imp-mount-conflict"));
    link("/tmp/victim/dir", &store.join("b"));
    link("/tmp/victim/shadow", &store.join("c/old"));

    let output = machine.run(&["--adopt"]).expect(1);
    let output = output.says_in_one_line(&["/b/deep/file", "/persist/b is a symbolic link", "in its place"]);
    output.says_in_one_line(&["/a/link", "both are kept"]);
    assert!(fs::symlink_metadata(store.join("a/link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(store.join("a/link.imp-mount-conflict-2")).unwrap(), text);
    assert_eq!(fs::read_to_string(store.join("c/new")).unwrap(), text);
    assert!(fs::symlink_metadata(store.join("c/old")).unwrap().is_symlink());
    assert_eq!(Snapshot::of(Path::new(VICTIM)), kept);
}

/// A thread exchanges directories for links and for other directories, on the store and on the root, without a pause,
/// while imp-mount runs repeatedly on the running system.
pub fn renames_during_a_run_gain_nothing() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let with = |entries: &[Value]| {
        let all = [&[json!({ "directory": "/srv" })], entries].concat();
        manifest(&json!({}), &all)
    };
    machine.manifest(&with(&[]));
    machine.build().ok();
    machine.switch_root();
    let kept = victim(&machine.at("/victim"));
    // Each pair is exchanged: the directory for a link, then the link for another directory.
    let mut pairs = Vec::new();
    for base in ["/persist/home/u", "/home/u"] {
        let base = machine.at(base);
        for name in ["dir", "other"] {
            fs::create_dir_all(base.join(name).join("mine")).unwrap();
            chown(base.join(name), Some(1000), Some(100)).unwrap();
        }
        symlink("/victim/dir", base.join("link")).unwrap();
        pairs.push((base.join("dir"), base.join("link")));
        pairs.push((base.join("dir"), base.join("other")));
    }
    let entries = [
        json!({ "directory": "/home/u/dir/mine", "user": 0, "mode": "0700", "enforce": true, "required": false }),
        json!({ "directory": "/home/u/dir/new/deep", "user": 193, "mode": "0711", "required": false }),
        json!({ "file": "/home/u/dir/file", "user": 193, "missing": "create", "required": false }),
    ];
    let stop = AtomicBool::new(false);
    let rounds = if is_thorough() { 60 } else { 10 };
    let (mut done, mut mounted, mut refused) = (0, 0, 0);
    thread::scope(|scope| {
        let racer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        // Until both results occurred.
        while (done < rounds || mounted == 0 || refused == 0) && !racer.is_finished() {
            done += 1;
            machine.manifest(&with(&entries));
            let output = machine.run_live(&[]);
            assert_eq!(output.code, Some(0), "{output:?}");
            refused += usize::from(output.stderr.contains("is a symbolic link"));
            assert_eq!(Snapshot::of(&machine.at("/victim")), kept, "{output:?}");
            let home = machine.at("/home");
            for mount in mounts_below(&machine.at("")) {
                assert!(!mount.target.starts_with(machine.at("/victim")), "{mount:?}");
                if mount.target.starts_with(&home) {
                    let from_home = mount.fstype == "ext4" && mount.root.starts_with("/home/u");
                    let guard = mount.fstype == "tmpfs" && mount.root.starts_with("/imp-mount/guard");
                    assert!(from_home || guard, "{mount:?}");
                    mounted += usize::from(from_home);
                }
            }
            // Unmounts all entries, so that the next round starts without them.
            machine.manifest(&with(&[]));
            machine.run_live(&[]);
            for mount in mounts_below(&home).iter().rev() {
                // The file may be moved by now.
                let _ = umount2(&mount.target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(mounted > 0 && refused > 0, "{mounted} were mounted, {refused} were refused");
    assert_eq!(Snapshot::of(&machine.at("/victim")), kept);
}

pub fn a_file_with_several_names_is_not_enforced() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    victim(&store.join("victim"));
    fs::create_dir_all(store.join("home/u")).unwrap();
    fs::hard_link(store.join("victim/shadow"), store.join("home/u/file")).unwrap();
    let before = Snapshot::of(&store);
    let entry = json!({ "file": "/home/u/file", "user": 1000, "mode": "0666" });

    let mut enforced = entry.clone();
    enforced["enforce"] = true.into();
    machine.manifest(&manifest(&json!({}), std::slice::from_ref(&enforced)));
    let output = machine.build().expect(1);
    let output = output.says_in_one_line(&["/home/u/file", "several names", "find -samefile"]);
    output.says_in_one_line(&["add imp-mount.skip=/home/u/file to the kernel command line"]);
    assert_eq!(before.losses(&Snapshot::of(&store)), [""; 0]);

    enforced["required"] = false.into();
    machine.manifest(&manifest(&json!({}), &[enforced]));
    machine.build().expect(0).says(&["several names"]);
    machine.is_guarded("/home/u/file");
    assert_eq!(before.losses(&Snapshot::of(&store)), [""; 0]);

    // Without `enforce` the entry is mounted with the owner and mode of the store.
    machine.power_off();
    machine.power_on();
    machine.manifest(&manifest(&json!({}), &[entry]));
    machine.build().ok();
    assert_eq!(before.losses(&Snapshot::of(&store)), [""; 0]);
    assert_eq!(stat(machine.at("/home/u/file")), (0o100_600, 0, 0));
}

/// Killed at any change of an owner or a mode, an enforced entry never has more permissions than both modes allow.
pub fn enforcing_never_allows_more_than_both() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let path = machine.at("/persist/enforced");
    let entry = json!({ "file": "/enforced", "user": 193, "group": 194, "mode": "0660", "enforce": true });
    machine.manifest(&manifest(&json!({}), &[entry]));
    let reset = || {
        let _ = fs::remove_file(&path);
        fs::write(&path, "kept").unwrap();
        chown(&path, Some(1000), Some(100)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o606)).unwrap();
    };
    reset();
    let is_change = |call: &&Call| call.name.is_any(&["fchmod", "fchown"]);
    let calls = machine.trace(&[], &[]).1;
    assert_eq!(stat(machine.at("/enforced")), (0o100_660, 193, 194));
    let order =
        [(0o100_606, 1000, 100), (0o100_600, 1000, 100), (0o100_600, 193, 194), (0o100_660, 193, 194)];
    let mut seen = [false; 4];
    for call in calls.iter().filter(is_change) {
        machine.power_off();
        machine.power_on();
        reset();
        assert_eq!(machine.trace(&[Injected::kill(call)], &[]).0.signal, Some(9));
        let found = stat(&path);
        let step = order.iter().position(|state| *state == found);
        seen[step.unwrap_or_else(|| panic!("{found:?} after {call:?}"))] = true;
        machine.build().ok();
        assert_eq!(stat(machine.at("/enforced")), order[3], "after {call:?}");
    }
    assert!(seen[..3].iter().all(|seen| *seen), "{seen:?}");
}

pub fn id_files_that_others_may_have_written_are_not_believed() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    let entries = [json!({ "directory": "/var/lib/nixos" }), json!({ "directory": "/srv", "user": "plex" })];
    machine.manifest(&manifest(&json!({}), &entries));
    let store = machine.at("/persist");
    let map = store.join("var/lib/nixos/uid-map");
    let json = r#"{"plex":193}"#;
    let written = |mode: u32, uid: u32, text: &str| {
        fs::write(&map, text).unwrap();
        fs::set_permissions(&map, Permissions::from_mode(mode)).unwrap();
        chown(&map, Some(uid), Some(uid)).unwrap();
    };
    let attacks: [(&str, &dyn Fn()); 9] = [
        ("belongs to uid 1000", &|| written(0o644, 1000, json)),
        ("can be written by others", &|| written(0o664, 0, json)),
        ("can be written by others", &|| written(0o646, 0, json)),
        ("the id 0", &|| written(0o644, 0, r#"{"plex":0}"#)),
        ("no map of names", &|| written(0o644, 0, r#"{"plex":1"#)),
        ("larger than 4 MiB", &|| {
            written(0o644, 0, json);
            fs::File::options().write(true).open(&map).unwrap().set_len(5 << 20).unwrap();
        }),
        ("FIFO", &|| node(&map, FileType::Fifo)),
        ("a directory in place of a file", &|| fs::create_dir(&map).unwrap()),
        ("symbolic link", &|| {
            fs::write(store.join("planted"), json).unwrap();
            symlink("../../../planted", &map).unwrap();
        }),
    ];
    for (says, plant) in attacks {
        fs::create_dir_all(map.parent().unwrap()).unwrap();
        plant();
        let output = machine.build().expect(0);
        output.says_in_one_line(&["/persist/var/lib/nixos/uid-map", says, "; "]);
        assert_eq!(stat(machine.at("/srv")), (0o040_700, 0, 0), "{says}");
        assert_eq!(machine.report()["pending"][0]["path"], "/srv", "{says}");
        machine.power_off();
        machine.disk().erase();
        machine.power_on();
    }
    fs::create_dir_all(map.parent().unwrap()).unwrap();
    written(0o644, 0, json);
    machine.build().ok();
    assert_eq!(stat(machine.at("/srv")), (0o040_755, 193, 0));
}

/// imp-mount marks unfinished sources by mode 000; a foreign file with this mode must not become root's or the
/// entry's.
pub fn a_source_with_mode_000_is_no_invitation() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    let make = |name: &str, uid: u32, directory: bool| {
        let path = store.join(name);
        if directory { fs::create_dir(&path) } else { fs::write(&path, "") }.unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
    };
    make("foreign", 1000, true);
    make("foreign-file", 1000, false);
    make("full", 0, true);
    fs::write(store.join("full/data"), "data").unwrap();
    make("twice", 0, false);
    fs::hard_link(store.join("twice"), store.join("shadow")).unwrap();
    let before = Snapshot::of(&store);
    let entries = ["foreign", "full"].map(|name| json!({ "directory": format!("/{name}"), "user": 193 }));
    let files = ["foreign-file", "twice"]
        .map(|name| json!({ "file": format!("/{name}"), "user": 193, "missing": "create" }));
    machine.manifest(&manifest(&json!({}), &[entries, files].concat()));
    machine.build().ok();
    assert_eq!(before.losses(&Snapshot::of(&store)), [""; 0]);
}

/// Later runs apply the report as root.
pub fn a_report_that_others_may_have_written_is_not_believed() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = [json!({ "directory": "/srv", "user": "late" })];
    machine.manifest(&manifest(&json!({}), &entries));
    machine.build().ok();
    let report = Path::new("/run/imp-mount/report.json");
    assert_eq!((stat("/run/imp-mount"), stat(report)), ((0o040_755, 0, 0), (0o100_644, 0, 0)));
    let others = "others than root can write to it";
    let forged = |mode: u32, uid: u32| {
        // The planted path belongs to root alone.
        fs::write(machine.at("/persist/secret"), "secret").unwrap();
        fs::set_permissions(machine.at("/persist/secret"), Permissions::from_mode(0o600)).unwrap();
        let mut text: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        let inode = fs::metadata(machine.at("/persist/secret")).unwrap().ino();
        text["pending"] = json!([{
            "base": "/persist", "path": "/secret", "user": "65534", "group": null, "mode": "0666", "inode": inode,
        }]);
        fs::write(report, text.to_string()).unwrap();
        fs::set_permissions(report, Permissions::from_mode(mode)).unwrap();
        chown(report, Some(uid), None).unwrap();
        let before = (fs::read(report).unwrap(), machine.disk().snapshot());
        for (words, code) in [("--settle", 2), ("--adopt", 1)] {
            let output = machine.run(&[words]).expect(code);
            output.says_in_one_line(&["error: ", "/run/imp-mount/report.json", others]);
        }
        assert_eq!((fs::read(report).unwrap(), machine.disk().snapshot()), before);
        // A run continues without the report, and keeps the file.
        machine.build().ok().says_in_one_line(&["warning: ", "/run/imp-mount/report.json", others]);
        machine.run(&["--settle"]).expect(1);
        assert_eq!(machine.disk().snapshot(), before.1);
        assert_eq!(stat(report), (0o100_644, 0, 0));
    };
    forged(0o666, 0);
    forged(0o644, 65534);
}
