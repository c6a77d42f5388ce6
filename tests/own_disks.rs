//! Entries below a file system of its own, such as a pool of data disks: what that has, and the store does not, persists already.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::live::{manifest, state};
use crate::support::look::mounts_below;
use crate::support::{Disk, Fs, Machine, Output, Root, mounts};

tests![
    what_a_late_disk_has_is_left_to_it: Disk,
    what_an_early_disk_has_is_not_covered: Disk,
    nothing_keeps_the_others_away: Disk,
    before_a_conversion: Disk,
];

const LEFT: &str = "it persists already on /mnt/pool, a disk of its own";

/// A disk with data, as it is mounted below a machine's root.
fn pool(machine: &Machine) -> Disk {
    let pool = Disk::new(Fs::Ext4, 8);
    pool.mount(machine.at("/mnt/pool"));
    for folder in ["films/new", "music", "none"] {
        fs::create_dir_all(machine.at("/mnt/pool").join(folder)).unwrap();
    }
    fs::write(machine.at("/mnt/pool/films/one"), "one").unwrap();
    fs::write(machine.at("/mnt/pool/music/song"), "song").unwrap();
    fs::write(machine.at("/mnt/pool/list"), "a list").unwrap();
    pool
}

fn entries(phase: &str) -> Value {
    let entry = |kind: &str, path: &str| json!({ kind: path, "phase": phase });
    json!([
        { "directory": "/srv" },
        entry("directory", "/mnt/pool/films"),
        entry("directory", "/mnt/pool/films/new"),
        entry("directory", "/mnt/pool/music"),
        entry("directory", "/mnt/pool/none"),
        entry("file", "/mnt/pool/list"),
    ])
}

#[track_caller]
fn is_left_alone(machine: &Machine, output: &Output) {
    let said = "/mnt/pool: left alone, as a disk of its own has it and the store does not: ";
    assert_eq!(output.stderr.matches(said).count(), 1, "{output:?}");
    for (path, held) in [("films/one", "one"), ("music/song", "song"), ("list", "a list")] {
        assert_eq!(fs::read_to_string(machine.at("/mnt/pool").join(path)).unwrap(), held);
    }
    for path in ["/mnt/pool/films", "/mnt/pool/music", "/mnt/pool/list"] {
        assert!(output.stderr.contains(path), "{path}: {output:?}");
        assert_eq!(machine.mount_at(path), None, "{path}");
        assert_eq!(state(path), "absent", "{path}");
    }
    // Nothing is there, so it goes to the store, as it was asked for.
    assert_eq!(machine.mount_at("/mnt/pool/none").unwrap().root, Path::new("/mnt/pool/none"));
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/srv"));
}

#[track_caller]
fn check_says_so(check: &str) {
    for path in ["films", "music", "list"] {
        let line = format!("ok                  /mnt/pool/{path}: {LEFT}: leave it out");
        assert!(check.contains(&line), "no {line:?} in {check}");
    }
}

fn what_a_late_disk_has_is_left_to_it() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(entries("live")));
    machine.build().ok();
    machine.switch_root();
    let pool = pool(&machine);
    check_says_so(&machine.run_live(&["--check"]).expect(1).stdout);
    for _ in 0..2 {
        is_left_alone(&machine, &machine.run_live(&[]).ok());
        check_says_so(&machine.run_live(&["--check"]).ok().stdout);
    }

    // Both have something: whoever mounts the one hides the other.
    fs::write(machine.at("/persist/mnt/pool/music/other"), "").unwrap();
    let before = mounts();
    machine
        .run_live(&[])
        .expect(1)
        .says(&["/mnt/pool/music: the target holds `song`", "/persist/mnt/pool/music"]);
    assert_eq!(mounts(), before);
    // Neither is in memory, so nothing has to be guarded.
    machine.run_live(&["--guard"]).ok();
    assert_eq!(machine.mount_at("/mnt/pool/music"), None);
    pool.umount();
}

fn what_an_early_disk_has_is_not_covered() {
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Ext4, 8));
    let mut manifest = manifest(entries("boot"));
    manifest["root"] = Value::Null;
    machine.manifest(&manifest);
    let pool = pool(&machine);
    is_left_alone(&machine, &machine.build().ok());
    check_says_so(&machine.run(&["--check"]).ok().stdout);
    pool.umount();
}

fn nothing_keeps_the_others_away() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let mut all = entries("live");
    all.as_array_mut().unwrap().push(json!({ "directory": "/mnt/pool/bad", "phase": "live" }));
    machine.manifest(&manifest(all));
    machine.build().ok();
    fs::create_dir_all(machine.at("/persist/mnt/pool")).unwrap();
    fs::write(machine.at("/persist/mnt/pool/bad"), "a file").unwrap();
    machine.switch_root();
    let pool = pool(&machine);
    let output = machine.run_live(&["--guard"]).ok();
    let output = output.says(&["/mnt/pool/bad: ", "is a regular file, not a directory"]);
    is_left_alone(&machine, &output);
    assert_eq!(state("/mnt/pool/bad"), "guarded");
    pool.umount();
}

/// The disk is the root still, and is to become the store.
fn before_a_conversion() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 8));
    let mut manifest = manifest(entries("live"));
    manifest["root"] = json!({ "convert": "/persist" });
    machine.manifest(&manifest);
    machine.build().ok();
    machine.switch_root();
    let pool = pool(&machine);
    is_left_alone(&machine, &machine.run_live(&[]).ok());
    assert_eq!(mounts_below(&machine.at("/mnt/pool")).len(), 3, "the pool, and what it does not have");
    pool.umount();
}
