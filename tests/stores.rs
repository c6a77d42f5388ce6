//! The stores: mounted before or from their device, on any file system, one below another, and in any order.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command::sh_on;
use crate::support::look::{mounts_below, stat};
use crate::support::namespace::{bind_all, tmpfs};
use crate::support::{Disk, Fs, Machine, Root, Snapshot, mounts};

tests![
    a_device_by_its_path: Disk,
    a_device_by_its_tag: Disk,
    a_device_with_options: Disk,
    a_device_that_is_read_only: Disk,
    a_device_that_is_none: Disk,
    a_subvolume: Disk,
    a_device_that_is_mounted_already: Disk,
    a_store_on_another_disk: Disk,
    a_device_within_another_store: Disk,
    a_directory_that_is_no_mount_is_no_store: Disk,
    two_stores_in_any_order: Disk,
    two_stores_in_layers: Disk,
    a_source_elsewhere: Disk,
    options_of_mounts_inside_an_entry: Disk,
    a_backup_of_a_store: Disk,
    a_backup_of_a_store_with_the_root: Disk,
];

/// A manifest with a new root.
fn manifest(stores: Value, entries: Value) -> Value {
    json!({ "version": 1, "root": {}, "stores": stores, "entries": entries })
}

/// A machine whose disks the program has to mount itself.
fn diskless() -> Machine {
    Machine::with_stores(Root::Nothing, Vec::new())
}

/// Switches a machine off whose disk the program mounted.
fn power_off(machine: &Machine, disk: &Disk) {
    machine.power_off();
    disk.umount();
}

fn a_device_by_its_path() {
    for (fs, name) in Fs::REAL.into_iter().zip(["ext4", "btrfs", "xfs"]) {
        for fstype in [Value::Null, json!(name)] {
            let (machine, disk) = (diskless(), Disk::new(fs, 8));
            let store = json!([{ "path": "/persist", "device": disk.device, "fstype": fstype }]);
            machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
            machine.build().ok();
            let store = machine.mount_at("/persist").unwrap();
            assert_eq!((store.fstype.as_str(), store.source.as_ref()), (name, disk.device.to_str().unwrap()));
            fs::write(machine.at("/srv/kept"), "kept").unwrap();
            let built = mounts();
            machine.build().ok();
            assert_eq!(mounts(), built);

            power_off(&machine, &disk);
            machine.build().ok();
            assert_eq!(fs::read_to_string(machine.at("/srv/kept")).unwrap(), "kept");
            power_off(&machine, &disk);
        }
    }
}

/// Covers /dev with one with these devices and links, as udev would have made them.
fn dev(devices: &[&Path], links: &[(&str, &Path)]) {
    tmpfs("/mnt", "mode=0755");
    let kept = ["/dev/null", "/dev/loop-control", "/dev/kmsg"].map(Path::new);
    for device in kept.iter().chain(devices).filter(|device| device.exists()) {
        sh_on("cp -a", &[device, Path::new("/mnt")]);
    }
    for (link, device) in links {
        let link = Path::new("/mnt/disk").join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(device, link).unwrap();
    }
    bind_all("/mnt", "/dev");
}

fn a_device_that_is_read_only() {
    for fs in Fs::REAL {
        let (machine, disk) = (diskless(), Disk::new(fs, 8));
        sh_on("blockdev --setro", &[&disk.device]);
        let with = |options: Value| {
            let store = json!([{ "path": "/persist", "device": disk.device, "options": options }]);
            machine.manifest(&manifest(store, json!([{ "directory": "/srv", "required": false }])));
        };
        let before = mounts();
        with(json!([]));
        let words = ["error: store /persist: ", "cannot mount", "lsblk -o NAME,RO", "the option \"ro\""];
        machine.build().expect(1).says_in_one_line(&words);
        assert_eq!(mounts(), before);
        with(json!(["ro"]));
        machine.build().ok();
        assert!(machine.mount_at("/persist").unwrap().has("ro"));
        power_off(&machine, &disk);
        sh_on("blockdev --setrw", &[&disk.device]);
    }
}

fn a_device_that_is_none() {
    let machine = diskless();
    let device = Path::new("/tmp/device");
    let store = json!([{ "path": "/persist", "device": device, "fstype": "ext4" }]);
    machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
    for make in ["mkdir", "mkfifo", "touch"] {
        sh_on(make, &[device]);
        let words = ["error: store /persist: ", "it is no block device", "`device`"];
        machine.build().expect(1).says_in_one_line(&words);
        sh_on("rm -r", &[device]);
    }
}

fn a_device_by_its_tag() {
    let disk = Disk::formatted(Fs::Ext4, 8, "-L my_disk -U 6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a1");
    let uuid = "by-uuid/6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a1";
    dev(
        &[&disk.device],
        &[
            ("by-label/my_disk", &disk.device),
            ("by-label/my\\x20disk", &disk.device),
            (uuid, &disk.device),
            ("by-partuuid/aa-02", &disk.device),
        ],
    );
    let machine = diskless();
    for device in
        ["LABEL=my_disk", "LABEL=my disk", "UUID=6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a1", "PARTUUID=aa-02"]
    {
        let store = json!([{ "path": "/persist", "device": device }]);
        machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
        machine.build().ok();
        assert_eq!(machine.mount_at("/persist").unwrap().fstype, "ext4", "{device}");
        power_off(&machine, &disk);
    }
    let store = json!([{ "path": "/persist", "device": "LABEL=another" }]);
    machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
    machine.build().expect(1).says(&["store /persist", "/dev/disk/by-label/another", "connected", "--check"]);
    assert_eq!(mounts_below(&machine.at("")), []);
}

fn a_device_with_options() {
    for fs in Fs::REAL {
        let (machine, disk) = (diskless(), Disk::new(fs, 8));
        let build = |options: Value| {
            let store = json!([{ "path": "/persist", "device": disk.device, "options": options }]);
            machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
            machine.build().ok();
            let (store, entry) = (machine.mount_at("/persist").unwrap(), machine.mount_at("/srv").unwrap());
            let output = machine.run(&["--check"]);
            power_off(&machine, &disk);
            output.ok();
            (store, entry)
        };
        let (store, entry) =
            build(json!(["noatime,nofail", "x-systemd.device-timeout=5", "noexec", "nodev"]));
        for option in ["noatime", "noexec", "nodev"] {
            assert!(store.has(option) && entry.has(option), "{option}: {store:?} {entry:?}");
        }
        assert!(!store.has("nosuid") && entry.has("nosuid"), "{store:?} {entry:?}");

        let (store, entry) = build(json!(["ro"]));
        assert!(store.has("ro") && store.super_options.starts_with("ro"), "{store:?}");
        assert!(entry.has("ro"), "{entry:?}");
    }
}

fn a_subvolume() {
    let (machine, disk) = (diskless(), Disk::new(Fs::Btrfs, 0));
    disk.visit(|root| {
        sh_on("btrfs -q subvolume create", &[&root.join("@persist")]);
        sh_on("btrfs -q subvolume create", &[&root.join("@persist/inner")]);
        fs::create_dir_all(root.join("@persist/srv")).unwrap();
        fs::write(root.join("@persist/srv/kept"), "kept").unwrap();
    });
    let store =
        json!([{ "path": "/persist", "device": disk.device, "options": ["subvol=@persist,compress=zstd"] }]);
    // An entry may be a subvolume: to the kernel a subvolume is no other mount.
    let entries = json!([{ "directory": "/srv" }, { "directory": "/inner/a" }, { "directory": "/inner" }]);
    machine.manifest(&manifest(store, entries));
    machine.build().ok();
    let store = machine.mount_at("/persist").unwrap();
    assert_eq!(store.root, Path::new("/@persist"));
    assert!(store.has("subvol=/@persist") && store.has("compress=zstd:3"), "{store:?}");
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/@persist/srv"));
    assert_eq!(machine.mount_at("/inner").unwrap().root, Path::new("/@persist/inner"));
    assert_eq!(fs::read_to_string(machine.at("/srv/kept")).unwrap(), "kept");
    machine.run(&["--check"]).ok();
    let utab = fs::read_to_string("/run/mount/utab").unwrap();
    assert!(utab.contains("TARGET=/srv ROOT=/@persist/srv "), "{utab}");
    let built = mounts();
    machine.build().ok();
    assert_eq!(mounts(), built);
    power_off(&machine, &disk);

    let store = json!([{ "path": "/persist", "device": disk.device, "options": ["subvol=@gone"] }]);
    machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
    machine.build().expect(1).says(&["store /persist", disk.device.to_str().unwrap(), "(btrfs)"]);
}

fn a_device_that_is_mounted_already() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = json!([{ "path": "/persist", "device": "/dev/never/asked", "options": ["noexec"] }]);
    machine.manifest(&manifest(store, json!([{ "directory": "/srv" }])));
    machine.build().ok();
    let store = machine.mount_at("/persist").unwrap();
    assert!(!store.has("noexec") && store.source == machine.disk().device.to_str().unwrap(), "{store:?}");
}

fn a_store_on_another_disk() {
    // /nix/persist on the disk of /nix, which is empty the first time.
    let machine = Machine::with_stores(Root::Nothing, vec![("/nix", Disk::new(Fs::Ext4, 8))]);
    let entries = json!([{ "directory": "/var/lib/a", "mode": "0700" }]);
    machine.manifest(&manifest(json!([{ "path": "/nix/persist" }]), entries.clone()));
    for _ in 0..2 {
        machine.build().ok();
        assert_eq!(machine.mount_at("/var/lib/a").unwrap().root, Path::new("/persist/var/lib/a"));
        assert_eq!(machine.mount_at("/nix/persist"), None);
        assert_eq!(stat(machine.at("/nix/persist")), (0o040_755, 0, 0));
        machine.run(&["--check"]).ok();
        let utab = fs::read_to_string("/run/mount/utab").unwrap();
        assert!(utab.contains("ROOT=/persist/var/lib/a "), "{utab}");
        machine.power_off();
        machine.power_on();
    }

    // The same with a disk mounted by the program for another store.
    machine.power_off();
    let stores = json!([
        { "path": "/data", "device": machine.disk().device },
        { "path": "/data/state/deep" },
    ]);
    let entries = json!([
        { "directory": "/srv", "store": "/data" },
        { "directory": "/srv/inner", "store": "/data/state/deep" },
    ]);
    machine.manifest(&manifest(stores, entries));
    machine.build().ok();
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/srv"));
    assert_eq!(machine.mount_at("/srv/inner").unwrap().root, Path::new("/state/deep/srv/inner"));
}

/// The disk of an inner store is mounted, though the outer store's disk is at its path already.
fn a_device_within_another_store() {
    let (outer, inner) = (Disk::new(Fs::Ext4, 8), Disk::new(Fs::Ext4, 8));
    let machine = diskless();
    let stores = json!([
        { "path": "/persist", "device": outer.device },
        { "path": "/persist/media", "device": inner.device },
    ]);
    let entries = json!([
        { "directory": "/srv", "store": "/persist" },
        { "directory": "/films", "store": "/persist/media" },
    ]);
    machine.manifest(&manifest(stores, entries));
    for mounted in [false, true] {
        if mounted {
            outer.mount(machine.at("/persist"));
            assert!(machine.at("/persist/media").is_dir());
            let output = machine.run(&["--check"]).expect(1);
            assert!(
                output.stdout.contains("/persist/media: PROBLEM: nothing is mounted there"),
                "{output:?}"
            );
        }
        machine.build().ok();
        let expected = [
            ("/persist", "/", &outer),
            ("/persist/media", "/", &inner),
            ("/srv", "/srv", &outer),
            ("/films", "/films", &inner),
        ];
        for (path, root, disk) in expected {
            let mount = machine.mount_at(path).unwrap();
            assert_eq!((mount.root.as_path(), Path::new(&mount.source)), (Path::new(root), &*disk.device));
        }
        machine.run(&["--check"]).ok();
        let built = mounts();
        machine.build().ok();
        assert_eq!(mounts(), built);
        machine.power_off();
        outer.umount();
        inner.umount();
    }
}

fn a_directory_that_is_no_mount_is_no_store() {
    let machine = diskless();
    machine.manifest(&manifest(json!([{ "path": "/persist" }]), json!([{ "directory": "/srv" }])));
    for made in [false, true] {
        if made {
            fs::create_dir(machine.at("/persist")).unwrap();
        }
        let before = (mounts(), Snapshot::of(&machine.at("")));
        machine.build().expect(1).says(&[
            "store /persist",
            "nothing is mounted at",
            "neededForBoot",
            "--check",
        ]);
        assert_eq!((mounts(), Snapshot::of(&machine.at(""))), before);
    }
}

fn two_stores_in_any_order() {
    let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/state", Disk::new(Fs::Xfs, 0))];
    let machine = Machine::with_stores(Root::Nothing, disks);
    let entries = [
        json!({ "directory": "/var/lib", "store": "/persist" }),
        json!({ "directory": "/var/lib/docker", "store": "/state", "mode": "0710" }),
        json!({ "directory": "/var/lib/docker/volumes/x", "store": "/persist" }),
        json!({ "file": "/var/lib/docker/key", "store": "/persist", "missing": "create", "mode": "0600" }),
    ];
    let expected = [
        ("/var/lib", "ext4"),
        ("/var/lib/docker", "xfs"),
        ("/var/lib/docker/key", "ext4"),
        ("/var/lib/docker/volumes/x", "ext4"),
    ];
    for turn in 0..4 {
        let mut entries = entries.to_vec();
        entries.rotate_left(turn);
        let mut stores = vec![json!({ "path": "/persist" }), json!({ "path": "/state" })];
        stores.rotate_left(turn % 2);
        machine.manifest(&manifest(stores.into(), entries.into()));
        machine.build().ok();
        for (path, fstype) in expected {
            let mount = machine.mount_at(path).unwrap();
            assert_eq!((mount.fstype.as_str(), mount.root.as_path()), (fstype, Path::new(path)));
        }
        assert_eq!(stat(machine.at("/var/lib/docker")), (0o040_710, 0, 0));
        // Seen through the upper ones, not beside them.
        let places: Vec<PathBuf> =
            mounts_below(&machine.at("/var")).into_iter().map(|one| one.target).collect();
        assert_eq!(places, expected.map(|(path, _)| machine.at(path)));
        assert_eq!(
            machine.mount_at("/var/lib/docker/key").unwrap().parent,
            machine.mount_at("/var/lib/docker").unwrap().id
        );
        machine.run(&["--check"]).ok();
        machine.power_off();
        machine.power_on();
    }
}

/// The second mount covers the source of the third, which is mounted on the second at the same path.
fn two_stores_in_layers() {
    let disks = [("/persist", Disk::new(Fs::Folder, 8)), ("/media", Disk::new(Fs::Folder, 8))];
    let machine = Machine::with_stores(Root::Nothing, disks.into());
    machine.manifest(&manifest(
        json!([{ "path": "/persist" }, { "path": "/media" }]),
        json!([
            { "directory": "/films", "store": "/media" },
            { "directory": "/films/cache", "store": "/persist" },
            { "directory": "/films/cache/x/deep", "store": "/media" },
        ]),
    ));
    for _ in 0..2 {
        let output = machine.build().ok();
        assert!(!output.stderr.contains("warning"), "{output:?}");
        machine.power_off();
        machine.power_on();
    }
    // Other content of the directory is named.
    fs::write(machine.at("/media/films/cache/x/other"), "x").unwrap();
    machine.build().ok().says_in_one_line(&["warning: /films/cache: the target holds `x`"]);
}

fn a_source_elsewhere() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/var/lib/a", "source": "/old/place", "user": 7, "mode": "0700" },
        { "file": "/etc/key", "source": "/secrets/key", "missing": "create", "mode": "0600",
          "parents": { "mode": "0700" } },
        { "directory": "/srv", "source": "/" },
    ]);
    machine.manifest(&manifest(json!([{ "path": "/persist" }]), entries));
    machine.build().ok();
    for (target, source) in [("/var/lib/a", "/old/place"), ("/etc/key", "/secrets/key"), ("/srv", "/")] {
        assert_eq!(machine.mount_at(target).unwrap().root, Path::new(source), "{target}");
    }
    let disk = machine.disk().snapshot();
    assert_eq!(disk.line("old/place").unwrap(), "040700 7:0");
    assert!(disk.line("secrets").unwrap().starts_with("040700 0:0"));
    assert_eq!(disk.line("var"), None);
    machine.run(&["--check"]).ok();
}

fn options_of_mounts_inside_an_entry() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let mut entries: Vec<_> = (0..8).map(|n| json!({ "directory": format!("/srv/{n}") })).collect();
    entries.push(json!({ "directory": "/usr" }));
    entries.push(json!({ "directory": "/usr/local", "options": ["suid", "dev"] }));
    machine.manifest(&manifest(json!([{ "path": "/persist" }]), entries.into()));
    machine.build().ok();
    let options = |path| machine.mount_at(path).unwrap().options;
    assert_eq!([options("/usr"), options("/usr/local")], ["rw,nosuid,nodev,relatime", "rw,relatime"]);
    machine.run(&["--check"]).ok();
}

fn a_backup_of_a_store() {
    backup(&json!({}), false);
}

fn a_backup_of_a_store_with_the_root() {
    // tar(1) knows file systems by their device number.
    backup(&json!({ "on": "/persist" }), true);
}

/// The commands of docs/recovery.md: the store's backup has the entries, and the root's has them on request.
fn backup(root: &Value, root_has_entries: bool) {
    let page = include_str!("../docs/recovery.md");
    let command = page.lines().map(str::trim).find(|line| line.starts_with("tar --create ")).unwrap();
    assert!(command.ends_with(" --file backup.tar /persist"), "{command}");
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([{ "directory": "/srv" }, { "directory": "/home/me/Files" }]);
    machine.manifest(&json!({
        "version": 1, "root": root, "stores": [{ "path": "/persist" }], "entries": entries,
    }));
    machine.build().ok();
    machine.switch_root();
    fs::write(machine.at("/srv/kept"), "kept").unwrap();
    fs::write(machine.at("/unnamed"), "lost").unwrap();
    let report = fs::read("/run/imp-mount/report.json").unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["stores"][0]["path"], "/persist");
    let saved = |of: &str| {
        let command = command.replace("backup.tar /persist", &format!("/run/backup.tar {of}"));
        machine.run_inside(&["sh", "-c", &format!("{command} 2>/dev/null")]).ok();
        machine.run_inside(&["tar", "--list", "--file", "/run/backup.tar"]).ok().stdout
    };
    let has = |list: &str, path: &str| list.lines().any(|line| line == path);
    let of_store = saved("/persist");
    for path in ["persist/srv/kept", "persist/home/me/Files/"] {
        assert!(has(&of_store, path), "{path}: {of_store}");
    }
    assert!(!of_store.contains("unnamed"), "a root: {of_store}");
    let of_root = saved("/");
    assert_eq!((has(&of_root, "unnamed"), has(&of_root, "srv/kept")), (true, root_has_entries), "{of_root}");
}
