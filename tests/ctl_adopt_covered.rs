//! Trees covered by `impctl adopt`: their space is freed after their last use, and remaining users are named.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ctl_adopt::{end, inside, is_tidy, started, started_on};
use crate::live::manifest;
use crate::support::command::sh_on;
use crate::support::inject::Name;
use crate::support::look::stat;
use crate::support::{Fs, Injected, Machine, Snapshot, json_of};

tests![
    its_memory_is_freed: Disk,
    a_file_with_another_name_stays: Disk,
    readers_keep_it: Disk,
    another_mount_namespace: Disk,
    other_mounts_of_it: Disk,
    a_file_that_the_kernel_has_open: Disk,
    a_late_change_is_told_until_it_is_copied: Disk Inject,
    inode_flags: Disk,
    a_nested_subvolume: Disk,
    an_interrupted_copy_is_gone_on_with: Disk Inject,
    another_boots_copy_is_left_alone: Disk Inject,
    a_changed_copy_is_left_alone: Disk Inject,
    replaced_while_it_is_copied: Disk Inject,
];

/// The used bytes of the root.
fn used(machine: &Machine) -> u64 {
    let root = rustix::fs::statvfs(machine.at("/")).unwrap();
    (root.f_blocks - root.f_bfree) * root.f_frsize
}

/// Puts a file of this size on the root.
fn put(machine: &Machine, path: &str, size: usize) {
    let place = machine.at(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, vec![b'x'; size]).unwrap();
}

/// The tree covered at a path, mounted at another one.
fn below(machine: &Machine, look: impl FnOnce(&Path)) {
    machine.run_inside(&["sh", "-c", "mkdir -p /mnt/below && mount --bind / /mnt/below"]).ok();
    look(&machine.at("/mnt/below"));
    machine.run_inside(&["umount", "/mnt/below"]).ok();
}

fn is_given_back(machine: &Machine, path: &str) {
    below(machine, |root| {
        let place = root.join(path.trim_start_matches('/'));
        assert_eq!(stat(&place).0 & 0o7777, 0, "{path}");
        if place.is_dir() {
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{path}");
        } else {
            assert_eq!(fs::metadata(&place).unwrap().len(), 0, "{path}");
        }
    });
}

fn adopt(machine: &Machine, words: &[&str], code: i32) -> Value {
    let output = machine.impctl("adopt", &[&["--json"], words].concat()).expect(code);
    json_of(&output, "adopt")
}

fn its_memory_is_freed() {
    const SIZE: usize = 8 << 20;
    let machine = started();
    let empty = used(&machine);
    put(&machine, "/srv/app/sub/large", SIZE);
    put(&machine, "/etc/large", SIZE);
    fs::set_permissions(machine.at("/srv/app"), fs::Permissions::from_mode(0o1770)).unwrap();
    assert!(used(&machine) >= empty + 2 * SIZE as u64);
    let said = adopt(&machine, &["/srv/app", "/etc/large"], 0);
    assert!(used(&machine) < empty + (1 << 20), "{} of {empty}: {said}", used(&machine));
    for (number, path) in ["/srv/app", "/etc/large"].into_iter().enumerate() {
        let one = &said["adopted"][number];
        assert!(one["freed"].as_u64().unwrap() >= SIZE as u64, "{said}");
        assert_eq!((&one["kept"], &one["changes"]), (&Value::Null, &json!([])));
        is_given_back(&machine, path);
    }
    assert_eq!(stat(machine.at("/srv/app")).0, 0o041_770);
    assert_eq!(fs::read(machine.at("/srv/app/sub/large")).unwrap(), vec![b'x'; SIZE]);
    is_tidy(&machine);
    let again = adopt(&machine, &["/srv/app"], 0);
    assert_eq!(again["adopted"][0]["freed"], 0);
    // After a manifest with the path and one without, the root has no trace of the path.
    let named = json!({ "directory": "/var/lib/named" });
    machine.manifest(&manifest(json!([named, { "directory": "/srv/app" }, { "file": "/etc/large" }])));
    machine.run_live(&[]).ok();
    machine.manifest(&manifest(json!([named])));
    machine.run_live(&[]).ok();
    assert!(!machine.at("/srv/app").exists() && !machine.at("/etc/large").exists());
    assert!(machine.at("/persist/srv/app/sub/large").exists());
}

fn a_file_with_another_name_stays() {
    let machine = started();
    put(&machine, "/srv/a", 1000);
    fs::hard_link(machine.at("/srv/a"), machine.at("/srv/b")).unwrap();
    let output = machine.impctl("adopt", &["/srv/a"]).ok();
    output.says(&["warning: /srv/a: ", "it has another name elsewhere"]);
    assert_eq!(fs::metadata(machine.at("/srv/b")).unwrap().len(), 1000);
    // In a tree only its names go.
    put(&machine, "/srv/tree/a", 1000);
    fs::hard_link(machine.at("/srv/tree/a"), machine.at("/srv/c")).unwrap();
    machine.impctl("adopt", &["/srv/tree"]).ok();
    is_given_back(&machine, "/srv/tree");
    assert_eq!(fs::metadata(machine.at("/srv/c")).unwrap().len(), 1000);
}

fn readers_keep_it() {
    let machine = started();
    put(&machine, "/srv/app/data", 100_000);
    // A change just before a pass proves nothing: file systems date changes in steps of 10 ms at most.
    sleep(Duration::from_millis(30));
    let before = used(&machine);
    let reader = inside(&machine, "exec 3</srv/app/data; echo ready; exec sleep 100");
    let output = machine.impctl("adopt", &["/srv/app"]).ok();
    output.says(&[
        "warning: /srv/app: sleep",
        "reads /srv/app/data, which is covered now",
        "until `impctl adopt /srv/app` is run again",
    ]);
    assert!(used(&machine) >= before);
    let said = adopt(&machine, &["/srv/app"], 0);
    assert!(said["adopted"][0]["kept"].as_str().unwrap().contains("reads /srv/app/data"), "{said}");
    end(reader);
    // Changes of the copy by programs since then do not keep the covered tree.
    fs::write(machine.at("/srv/app/data"), "new").unwrap();
    fs::write(machine.at("/srv/app/more"), "new").unwrap();
    let said = adopt(&machine, &["/srv/app"], 0);
    assert!(said["adopted"][0]["freed"].as_u64().unwrap() >= 100_000, "{said}");
    is_given_back(&machine, "/srv/app");
    assert!(used(&machine) < before - 90_000);
    assert_eq!(fs::read_to_string(machine.at("/srv/app/data")).unwrap(), "new");
    // No record is left.
    let left = fs::read_dir("/run/imp-mount").unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains("covered")));

    // A directory with a working process, which may create files there.
    put(&machine, "/srv/other/data", 10);
    let worker = inside(&machine, "cd /srv/other; echo ready; exec sleep 100");
    machine.impctl("adopt", &["/srv/other"]).expect(1).says(&["works in /srv/other"]);
    let output = machine.impctl("adopt", &["--open", "/srv/other"]).ok();
    output.says(&["works in /srv/other, which is covered now", "end it (kill"]);
    end(worker);
    machine.impctl("adopt", &["/srv/other"]).ok();
    is_given_back(&machine, "/srv/other");
}

fn another_mount_namespace() {
    let machine = started();
    put(&machine, "/srv/app/data", 1000);
    let process = |propagation: &str| {
        let script =
            format!("exec unshare --mount --propagation {propagation} sh -c 'echo ready; exec sleep 100'");
        inside(&machine, &script)
    };
    // Its mount namespace receives the mount.
    let slave = process("slave");
    let private = process("private");
    let pid = private.id().to_string();
    let output = machine.impctl("adopt", &["/srv/app"]).expect(1);
    output.says_in_one_line(&[
        "error: /srv/app: ",
        "would not hide it everywhere: sleep",
        &pid,
        "sees it at /srv/app",
    ]);
    assert!(machine.mount_at("/srv/app").is_none());
    is_tidy(&machine);
    let output = machine.impctl("adopt", &["--open", "/srv/app"]).expect(1);
    output.says(&[
        &format!("error: /srv/app: sleep ({pid}) sees it at /srv/app, in a mount namespace of its own"),
        &format!("kill {pid}"),
        "until `impctl adopt /srv/app` is run again",
    ]);
    // The process sees the old tree, and may write there.
    let old = format!("/proc/{pid}/root/srv/app/data");
    let own = machine.at("/srv/app/data");
    assert_ne!(fs::metadata(&old).unwrap().dev(), fs::metadata(own).unwrap().dev());
    fs::write(&old, "changed there").unwrap();
    end(private);
    machine
        .impctl("adopt", &["/srv/app"])
        .expect(1)
        .says(&["error: /srv/app/data: changed after it was copied"]);
    below(&machine, |root| {
        fs::copy(root.join("srv/app/data"), machine.at("/srv/app/data")).map(drop).unwrap();
    });
    below(&machine, |root| fs::remove_file(root.join("srv/app/data")).unwrap());
    end(slave);
    machine.impctl("adopt", &["/srv/app"]).ok();
    is_given_back(&machine, "/srv/app");
    assert_eq!(fs::read_to_string(machine.at("/srv/app/data")).unwrap(), "changed there");
}

fn other_mounts_of_it() {
    let machine = started();
    put(&machine, "/srv/app/part/data", 1000);
    fs::create_dir_all(machine.at("/mnt/part")).unwrap();
    machine.run_inside(&["mount", "--bind", "/srv/app/part", "/mnt/part"]).ok();
    let words = ["also seen at /mnt/part", "unmount that"];
    machine.impctl("adopt", &["/srv/app"]).expect(1).says_in_one_line(&[words[0], words[1], "--open"]);
    assert!(machine.mount_at("/srv/app").is_none());
    machine.impctl("adopt", &["--open", "/srv/app"]).expect(1).says_in_one_line(&words);
    machine.run_inside(&["umount", "/mnt/part"]).ok();
    machine.impctl("adopt", &["/srv/app"]).ok();
    is_given_back(&machine, "/srv/app");
    // The whole root mounted elsewhere, for a look below mounts.
    put(&machine, "/srv/other/data", 1000);
    fs::create_dir_all(machine.at("/mnt/root")).unwrap();
    machine.run_inside(&["mount", "--bind", "/", "/mnt/root"]).ok();
    machine.run_inside(&["mount", "--make-private", "/mnt/root"]).ok();
    let output = machine.impctl("adopt", &["/srv/other"]).ok();
    output.says(&["warning: /srv/other: it is also seen at /mnt/root/srv/other"]);
    machine.run_inside(&["umount", "/mnt/root"]).ok();
    machine.impctl("adopt", &["/srv/other"]).ok();
    is_given_back(&machine, "/srv/other");
}

/// A loop device is no process. Without /sys only the file itself tells.
fn a_file_that_the_kernel_has_open() {
    let machine = started();
    put(&machine, "/srv/app/image", 1 << 20);
    let device = sh_on("losetup --find --show", &[&machine.at("/srv/app/image")]);
    let output = machine.impctl("adopt", &["/srv/app"]);
    sh_on(format!("losetup --detach {}", device.trim()), &[]);
    output.expect(1).says(&["error: /srv/app/image: it is covered now, and open for writing"]);
    machine.impctl("adopt", &["/srv/app"]).ok();
    is_given_back(&machine, "/srv/app");
}

fn a_late_change_is_told_until_it_is_copied() {
    let machine = started();
    put(&machine, "/srv/app/log", 10);
    put(&machine, "/srv/app/gone", 10);
    let place = machine.at("/srv/app");
    let output = machine.interrupt_impctl("adopt", &["/srv/app"], &mut |entry| {
        if entry.call.name == Name::of("renameat2") {
            fs::write(place.join("log"), "late").unwrap();
            fs::remove_file(place.join("gone")).unwrap();
        }
        true
    });
    output.expect(1).says(&[
        "error: /srv/app/log: changed after it was copied (size)",
        "error: /srv/app/gone: removed after it was copied",
        "error: /srv/app: it is mounted, but 2 files changed in that moment below it",
        "mount --bind / /run/below",
        "it has files that the copy lacks",
    ]);
    let said = adopt(&machine, &["/srv/app"], 1);
    let log = json!([{ "path": "/srv/app/log", "change": "size" }]);
    assert_eq!(said["adopted"][0]["changes"], log, "{said}");
    // The commands of the remedy.
    machine.run_inside(&["sh", "-c", "mkdir -p /run/below && mount --bind / /run/below"]).ok();
    machine.run_inside(&["cp", "-a", "/run/below/srv/app/log", "/srv/app/log"]).ok();
    machine.run_inside(&["umount", "/run/below"]).ok();
    let said = adopt(&machine, &["/srv/app"], 0);
    assert!(said["adopted"][0]["freed"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(fs::read_to_string(machine.at("/srv/app/log")).unwrap(), "late");
    is_given_back(&machine, "/srv/app");
}

fn inode_flags() {
    for fs in Fs::REAL {
        let machine = started_on(fs, 64, json!([]));
        let top = machine.at("/srv/app");
        put(&machine, "/srv/app/fixed", 10);
        put(&machine, "/srv/app/sub/log", 10);
        sh_on("chattr +i", &[&top.join("fixed")]);
        sh_on("chattr +a", &[&top.join("sub/log")]);
        sh_on("chattr +i", &[&top]);
        machine.impctl("adopt", &["/srv/app"]).ok();
        let flags = |path: &Path| sh_on("lsattr -d", &[path]).split(' ').next().unwrap().to_owned();
        for (path, flag) in [("", 'i'), ("fixed", 'i'), ("sub/log", 'a')] {
            assert!(flags(&top.join(path)).contains(flag), "{fs:?}: {path}");
        }
        is_given_back(&machine, "/srv/app");
        is_tidy(&machine);
        sh_on("chattr -R -i -a", &[&top]);
        machine.power_off();
        fs::remove_dir_all("/tmp/machine").unwrap();
    }
}

/// rename(2) does not leave a subvolume.
fn a_nested_subvolume() {
    let machine = started_on(Fs::Btrfs, 128, json!([]));
    sh_on("btrfs --quiet subvolume create", &[&machine.at("/persist/home")]);
    put(&machine, "/home/ada/data/file", 1000);
    machine.impctl("adopt", &["/home/ada/data"]).ok();
    assert!(machine.at("/persist/home/ada/data/file").exists());
    is_given_back(&machine, "/home/ada/data");
    assert!(!machine.at("/persist/home/.imp-mount").exists());
}

/// Kills the command at the given call after the first copy.
fn kill_at(machine: &Machine, call: &str, nth: usize, path: &str) {
    let fault = Injected::Kill(Name::of(call), nth);
    let (output, _) = machine.trace_impctl(&[fault], "adopt", &[path]);
    assert_eq!(output.signal, Some(9), "{output:?}");
}

fn an_interrupted_copy_is_gone_on_with() {
    let machine = started();
    // Before and after the copy is renamed to its final path.
    for (call, nth, path) in [("renameat2", 0, "/srv/a"), ("open_tree", 1, "/srv/b")] {
        put(&machine, &format!("{path}/large"), 1 << 20);
        kill_at(&machine, call, nth, path);
        let inode = machine.disk().snapshot();
        let staged = inode.news(&Snapshot::default());
        assert!(staged.iter().any(|line| line.contains("large")), "{call}: {staged:?}");
        let name = |path: &Path| fs::metadata(path.join("large")).map(|file| file.ino()).ok();
        let staging = machine.at("/persist/.imp-mount/staging");
        let trees = fs::read_dir(&staging).into_iter().flatten().map(|tree| tree.unwrap().path());
        let before =
            trees.chain([machine.at("/persist").join(path.trim_start_matches('/'))]).find_map(|it| name(&it));
        let output = machine.impctl("adopt", &[path]).ok();
        assert_eq!(before, name(&machine.at(path)), "{call}: copied again: {output:?}");
        assert!(before.is_some());
        is_given_back(&machine, path);
        is_tidy(&machine);
    }
    // Of a path not asked for any more.
    put(&machine, "/srv/c/large", 1000);
    kill_at(&machine, "renameat2", 0, "/srv/c");
    put(&machine, "/srv/d/large", 1000);
    machine.impctl("adopt", &["/srv/d"]).ok();
    is_tidy(&machine);
}

fn another_boots_copy_is_left_alone() {
    let machine = started();
    put(&machine, "/srv/app/data", 5000);
    kill_at(&machine, "open_tree", 1, "/srv/app");
    assert!(machine.mount_at("/srv/app").is_none());
    machine.reboot().ok();
    machine.switch_root();
    // A program began anew.
    put(&machine, "/srv/app/data", 10);
    let before = machine.disk().snapshot();
    machine.impctl("adopt", &["/srv/app"]).expect(1).says(&["the store holds something else at its place"]);
    let losses = before.losses(&machine.disk().snapshot()).into_iter();
    let losses: Vec<_> = losses.filter(|line| !line.starts_with("/.imp-mount")).collect();
    assert!(losses.is_empty(), "{losses:?}");
    assert_eq!(fs::metadata(machine.at("/srv/app/data")).unwrap().len(), 10);
}

fn a_changed_copy_is_left_alone() {
    let machine = started();
    put(&machine, "/srv/app/data", 5000);
    kill_at(&machine, "open_tree", 1, "/srv/app");
    fs::write(machine.at("/persist/srv/app/data"), "edited on the store").unwrap();
    machine.impctl("adopt", &["/srv/app"]).expect(1).says(&["the store holds something else at its place"]);
    assert_eq!(fs::read(machine.at("/persist/srv/app/data")).unwrap(), b"edited on the store");
}

/// The owner of the directory above puts another one in its place.
fn replaced_while_it_is_copied() {
    let machine = started();
    for (call, nth) in [("mkdirat", 0), ("syncfs", 0), ("renameat2", 0), ("move_mount", 1)] {
        put(&machine, "/home/u/data/mine", 10);
        put(&machine, "/home/u/other/theirs", 10);
        for path in ["/home/u", "/home/u/data", "/home/u/other"] {
            chown(machine.at(path), Some(1000), Some(1000)).unwrap();
        }
        let home = machine.at("/home/u");
        let output = machine.interrupt_impctl("adopt", &["/home/u/data"], &mut |entry| {
            if (entry.call.name, entry.call.nth) == (Name::of(call), nth) {
                fs::rename(home.join("data"), home.join("old")).unwrap();
                fs::rename(home.join("other"), home.join("data")).unwrap();
            }
            true
        });
        // With any result, both files exist, and the mounts agree with the output.
        let find = |name: &str| ["data", "old"].iter().any(|dir| home.join(dir).join(name).exists());
        assert!(find("mine") && find("theirs"), "{call}: {output:?}");
        if output.code == Some(0) {
            assert!(
                machine.mount_at("/home/u/data").is_some() && home.join("data/theirs").exists(),
                "{call}"
            );
        }
        for path in ["/home/u/data", "/home/u/old"] {
            machine.run_inside(&["umount", path]);
        }
        let _ = fs::remove_dir_all(machine.at("/home/u"));
        let _ = fs::remove_dir_all(machine.at("/persist/home"));
    }
}
