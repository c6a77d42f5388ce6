//! Missing, unexpected, full, read-only and broken disks.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::failures::one_line;
use crate::roots::manifest;
use crate::support::command::sh;
use crate::support::look::{mounts_below, stat};
use crate::support::namespace::tmpfs;
use crate::support::{Disk, Fs, Machine, Root, mounts};

tests![
    a_store_that_is_not_there: Disk,
    a_store_on_a_tmpfs,
    a_device_that_is_not_there: Disk,
    a_device_that_holds_something_else: Disk,
    a_damaged_file_system: Disk,
    a_read_only_store: Disk,
    a_full_store: Disk,
    a_store_without_inodes: Disk,
    a_broken_disk: Disk,
];

fn a_store_that_is_not_there() {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let place = machine.at("/persist").display().to_string();
    for made in [false, true] {
        if made {
            // A directory of the root is as bad as none.
            fs::create_dir(&place).unwrap();
        }
        let before = mounts();
        let output = machine.build().expect(1);
        one_line(
            &output,
            &["store /persist: nothing is mounted at", &place, "neededForBoot", "`imp-mount --check`"],
        );
        assert_eq!(mounts(), before);
        assert!(!machine.at("/srv").exists());
    }
}

fn a_store_on_a_tmpfs() {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    fs::create_dir(machine.at("/persist")).unwrap();
    tmpfs(machine.at("/persist"), "mode=0755");
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let before = mounts();
    one_line(
        &machine.build().expect(1),
        &["store /persist: it is on a tmpfs", "next boot", "mount a disk there"],
    );
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(machine.at("/persist")).unwrap().count(), 0);
}

/// A machine without disks whose store is to be mounted from a device.
fn from_device(device: &Path, fstype: Value) -> Machine {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist", "device": device, "fstype": fstype }],
        "entries": [{ "directory": "/srv" }],
    }));
    machine
}

fn a_device_that_is_not_there() {
    for fstype in [Value::Null, json!("ext4")] {
        let machine = from_device(Path::new("/dev/imp-mount-none"), fstype);
        let output = machine.build().expect(1);
        one_line(
            &output,
            &["store /persist: ", "/dev/imp-mount-none", "No such file", "connected", "driver"],
        );
        assert_eq!(mounts_below(&machine.at("")), []);
    }
}

fn a_device_that_holds_something_else() {
    let disk = Disk::new(Fs::Ext4, 8);
    let device = disk.device.to_str().unwrap();
    let machine = from_device(&disk.device, json!("xfs"));
    one_line(&machine.build().expect(1), &["store /persist: cannot mount", device, "(xfs)", "xfs_repair -n"]);
    let machine = from_device(&disk.device, json!("nonsensefs"));
    one_line(
        &machine.build().expect(1),
        &["store /persist: the kernel has no file system nonsensefs", "modprobe"],
    );

    sh(format!("dd if=/dev/zero of={device} bs=64k count=4"));
    let machine = from_device(&disk.device, Value::Null);
    one_line(&machine.build().expect(1), &["store /persist: ", device, "holds no file system", "`fstype`"]);
    assert_eq!(mounts_below(&machine.at("")), []);
}

fn a_damaged_file_system() {
    // Behind the magic number, in each file system's metadata.
    for (fs, name, seek, advice) in [
        (Fs::Ext4, "ext4", 1024 + 4, "fsck.ext4 -n"),
        (Fs::Btrfs, "btrfs", 0x1_0048, "btrfs check"),
        (Fs::Xfs, "xfs", 4, "xfs_repair -n"),
    ] {
        let disk = Disk::new(fs, 8);
        let device = disk.device.to_str().unwrap();
        let machine = from_device(&disk.device, Value::Null);
        sh(format!("dd if=/dev/zero of={device} bs=1 seek={seek} count=24 conv=notrunc"));
        let output = machine.build().expect(1);
        one_line(
            &output,
            &["store /persist: cannot mount", device, &format!("({name})"), &format!("{advice} {device}")],
        );
        assert_eq!(mounts_below(&machine.at("")), []);
        machine.power_off();
    }
}

fn a_read_only_store() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        let entries = json!([{ "directory": "/srv" }, { "file": "/etc/later" }]);
        machine.manifest(&manifest(json!({}), entries.clone()));
        machine.disk().visit(|root| {
            fs::create_dir_all(root.join("srv")).unwrap();
            fs::create_dir_all(root.join("etc")).unwrap();
        });
        machine.disk().turn_read_only();
        // No file is missing: all entries are mounted, with a warning.
        let output = machine.build().ok();
        one_line(&output, &["warning", "store /persist", "read-only", "dmesg", "fsck"]);
        assert!(machine.mount_at("/srv").unwrap().has("ro"));
        machine.power_off();

        machine.power_on();
        machine.disk().turn_read_only();
        let mut entries = entries;
        entries.as_array_mut().unwrap().push(json!({ "directory": "/var/lib/new" }));
        machine.manifest(&manifest(json!({}), entries));
        // No snapshot: mounting btrfs for a snapshot would make it writable again.
        let before = mounts();
        let words = ["/var/lib/new: ", "cannot create /persist/var", "Read-only file system", "fsck"];
        one_line(&machine.build().expect(1), &words);
        assert_eq!(mounts(), before);
        machine.power_off();
    }
}

fn a_full_store() {
    for fs in [Fs::Ext4, Fs::Xfs] {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        machine.disk().fill();
        let entries =
            json!([{ "directory": "/srv" }, { "file": "/etc/machine-id", "missing": "machine-id" }]);
        machine.manifest(&manifest(json!({}), entries));
        let before = mounts();
        let output = machine.build();
        // xfs may have an inode chunk left for a directory; ext4 has no block for one.
        if fs == Fs::Ext4 {
            output.clone().expect(1);
        }
        if output.code == Some(1) {
            one_line(&output, &["No space left on device", "`df -h`", "run again"]);
            assert_eq!(mounts(), before);
        }
        machine.disk().unfill();
        machine.build().ok();
        assert_eq!(fs::read_to_string(machine.at("/etc/machine-id")).unwrap(), "uninitialized\n");
        assert_eq!(stat(machine.at("/srv")), (0o040_755, 0, 0));
        machine.power_off();
    }
}

fn a_store_without_inodes() {
    let machine = Machine::new(Root::Nothing, Disk::formatted(Fs::Ext4, 8, "-N 16"));
    let entries: Vec<_> = (0..16).map(|n| json!({ "directory": format!("/srv/{n}") })).collect();
    machine.manifest(&manifest(json!({}), entries.into()));
    // As many as there are, fail: each is an entry of its own.
    let before = mounts();
    one_line(&machine.build().expect(1), &["error: /srv/", "No space left on device", "inodes", "`df -i`"]);
    assert_eq!(mounts(), before);
}

fn a_broken_disk() {
    for fs in [Fs::Ext4, Fs::Xfs] {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
        machine.disk().shut_down();
        let before = mounts();
        one_line(&machine.build().expect(1), &["/persist", "Input/output error", "dmesg", "fsck"]);
        assert_eq!(mounts(), before);
        machine.reboot().ok();
        machine.power_off();
    }
}
