//! `convert`: an installation on a disk becomes the store below a fresh root, and the root again on request.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::command::sh_on;
use crate::support::look::{mounts_below, stat};
use crate::support::namespace::tmpfs;
use crate::support::{Disk, Fs, Machine, Root, Snapshot, mounts};

tests![
    a_disk_becomes_the_store: Disk,
    a_subvolume_becomes_the_store: Disk,
    mounts_on_the_old_root_come_along: Disk,
    the_way_back: Disk,
    without_a_root_there_is_nothing_to_convert: Disk,
    the_store_must_not_be_covered: Disk,
];

fn manifest() -> Value {
    json!({
        "version": 1,
        "root": { "convert": "/persist", "size": "16M" },
        "stores": [{ "path": "/persist" }],
        "entries": [
            { "directory": "/nix", "phase": "early" },
            { "directory": "/var/lib/a", "user": 7, "mode": "0750" },
            { "directory": "/home" },
            { "file": "/etc/machine-id", "missing": "machine-id" },
        ],
    })
}

/// An installation as small as one can be.
fn install(root: &Path) {
    for folder in ["etc", "nix/store", "var/lib/a", "var/log", "home/me", "boot", "tmp", "persist"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("home/me/letter"), "dear").unwrap();
    fs::write(root.join("var/log/old"), "log").unwrap();
    sh_on("chmod 0711", &[&root.join("var/lib/a")]);
    sh_on("chown 1000:100", &[&root.join("home/me"), &root.join("home/me/letter")]);
}

#[track_caller]
fn is_converted(machine: &Machine, fs: Fs) {
    assert_eq!(machine.mount_at("/").unwrap().fstype, "tmpfs");
    assert_eq!(machine.mount_at("/persist").unwrap().fstype, format!("{fs:?}").to_lowercase());
    for path in ["/nix", "/var/lib/a", "/home", "/etc/machine-id"] {
        assert!(machine.mount_at(path).unwrap_or_else(|| panic!("{path}")).root.ends_with(&path[1..]));
    }
    assert_eq!(fs::read_to_string(machine.at("/home/me/letter")).unwrap(), "dear");
    assert_eq!(fs::read_to_string(machine.at("/persist/var/log/old")).unwrap(), "log");
    assert!(!machine.at("/etc/passwd").exists() && !machine.at("/var/log").exists());
    // Existing files keep owner and mode.
    assert_eq!(stat(machine.at("/var/lib/a")), (0o040_711, 0, 0));
    assert_eq!(stat(machine.at("/home/me")), (0o040_755, 1000, 100));
    assert_eq!(mounts_below(&machine.at("")).len(), 6, "the root, the store and four entries");
}

fn converts(disk: Disk, fs: Fs) {
    let machine = Machine::new(Root::Disk, disk);
    let before = machine.disk().snapshot();
    machine.manifest(&manifest());
    // The root is still the store's own file system, so nothing is in place, whatever is at its path.
    let check = machine.run(&["--check"]).expect(1).stdout;
    assert!(
        check.contains("not mounted         /etc/machine-id") && check.contains("4 paths, 0 ok, "),
        "{check}"
    );
    assert_eq!(machine.disk().snapshot(), before, "--check changes nothing");

    for _ in 0..2 {
        machine.build().ok();
        is_converted(&machine, fs);
        assert_eq!(machine.disk().snapshot(), before);
        let check = machine.run(&["--check"]).expect(1).stdout;
        assert!(check.contains("wrong owner         /var/lib/a") && check.contains(", 1 problem"), "{check}");
        let built = mounts();
        machine.build().ok();
        assert_eq!(mounts(), built);
        machine.power_off();
        machine.power_on();
    }
    machine.power_off();
}

fn a_disk_becomes_the_store() {
    for fs in Fs::REAL {
        let disk = Disk::new(fs, 8);
        disk.visit(install);
        converts(disk, fs);
    }
}

fn a_subvolume_becomes_the_store() {
    let disk = Disk::new(Fs::Btrfs, 0);
    disk.visit(|root| {
        sh_on("btrfs -q subvolume create", &[&root.join("@")]);
        sh_on("btrfs -q subvolume create", &[&root.join("@/nix")]);
        sh_on("btrfs -q subvolume set-default", &[&root.join("@")]);
        install(&root.join("@"));
    });
    converts(disk, Fs::Btrfs);
}

fn mounts_on_the_old_root_come_along() {
    let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/boot", Disk::new(Fs::Xfs, 0))];
    let machine = Machine::with_stores(Root::Disk, disks);
    install(&machine.at(""));
    tmpfs(machine.at("/tmp"), "size=3M");
    fs::create_dir(machine.at("/tmp/deep")).unwrap();
    tmpfs(machine.at("/tmp/deep"), "size=4M");
    machine.manifest(&manifest());
    machine.build().ok();
    for (path, option) in [("/boot", "rw"), ("/tmp", "size=3072k"), ("/tmp/deep", "size=4096k")] {
        let mount = machine.mount_at(path).unwrap();
        assert!(mount.has(option), "{mount:?}");
        assert_eq!(mounts().iter().filter(|one| one.target == mount.target).count(), 1);
    }
    assert_eq!(machine.mount_at("/boot").unwrap().parent, machine.mount_at("/").unwrap().id);
    // On the store their mount points are plain directories again.
    assert_eq!(mounts_below(&machine.at("/persist")).len(), 1);
    assert_eq!(mounts_below(&machine.at("")).len(), 9);
}

fn the_way_back() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 8));
    install(&machine.at(""));
    machine.manifest(&manifest());
    let before = machine.disk().snapshot();
    machine.build().ok();
    fs::write(machine.at("/home/me/new"), "new").unwrap();

    machine.power_off();
    machine.power_on();
    machine.cmdline("quiet imp-mount=off");
    let (disk, table) = (machine.disk().snapshot(), mounts());
    machine.build().ok().says(&["imp-mount=off"]);
    assert_eq!((machine.disk().snapshot(), mounts()), (disk.clone(), table));
    assert_eq!(Snapshot::of(&machine.at("")), disk, "the disk is the root");
    let check = machine.run(&["--check"]).ok().stdout;
    assert!(check.contains("left out by imp-mount=off") && check.contains("no problem found"), "{check}");
    assert_eq!(before.losses(&disk).len(), 0);
    assert_eq!(fs::read_to_string(machine.at("/home/me/new")).unwrap(), "new");

    // And forward again.
    machine.power_off();
    machine.power_on();
    machine.cmdline("");
    machine.build().ok();
    is_converted(&machine, Fs::Ext4);
}

fn without_a_root_there_is_nothing_to_convert() {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest());
    let before = mounts();
    machine.build().expect(1).says(&["root: ", "nothing is mounted at", "to convert", "sysroot.mount"]);
    assert_eq!(mounts(), before);
}

/// The run must not take another disk for the future store.
fn the_store_must_not_be_covered() {
    for (path, store) in [("/persist", "/persist"), ("/mnt", "/mnt/old/root")] {
        let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), (path, Disk::new(Fs::Ext4, 8))];
        let machine = Machine::with_stores(Root::Disk, disks);
        install(&machine.home().join("sysroot"));
        let mut manifest = manifest();
        manifest["root"]["convert"] = json!(store);
        manifest["stores"][0]["path"] = json!(store);
        machine.manifest(&manifest);
        let place = machine.at(path);
        let words = ["is mounted at", place.to_str().unwrap(), "would cover the store", store, "`convert`"];
        let before = (mounts(), Snapshot::of(&machine.at("")));
        let check = machine.run(&["--check"]).expect(1).stdout;
        machine.build().expect(1).says(&words).says(&["root: "]);
        assert!(words.iter().all(|word| check.contains(word)), "{check}");
        assert_eq!((mounts(), Snapshot::of(&machine.at(""))), before);
        machine.power_off();
    }
}
