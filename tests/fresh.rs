//! A root on a store: a new, empty directory or subvolume at every boot, and in memory where the store takes none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use crate::support::command::sh_on;
use crate::support::look::{mounts_below, stat};
use crate::support::{Disk, Fs, Injected, Machine, Output, Root, mounts};

tests![
    each_boot_has_an_empty_root: Disk,
    on_btrfs_a_root_is_a_subvolume: Disk,
    on_xfs: Disk,
    a_store_that_the_run_mounts: Disk,
    a_store_that_the_run_mounts_on_older_kernels: Disk Inject,
    a_stage_that_fails_on_an_older_kernel: Disk Inject,
    a_converted_disk_holds_its_new_root: Disk,
    restrictions_of_the_store_are_not_the_roots: Disk,
    a_failed_run_leaves_no_root: Disk,
    on_a_full_store_the_root_is_in_memory: Disk,
    on_a_read_only_store_the_root_is_in_memory: Disk,
    links_planted_on_the_store_are_not_followed: Disk,
    without_its_store_the_root_is_in_memory: Disk,
    off: Disk,
    a_running_system_is_brought_in_line: Disk,
];

fn manifest(root: Value) -> Value {
    json!({
        "version": 1,
        "root": root,
        "stores": [{ "path": "/persist" }],
        "entries": [{ "directory": "/srv" }, { "directory": "/var/lib/a", "user": 7, "mode": "0750" }],
    })
}

fn on_store() -> Value {
    manifest(json!({ "on": "/persist" }))
}

/// The directory of the root of this number, on the machine's store.
fn tree(machine: &Machine, number: u32) -> PathBuf {
    machine.at(&format!("/persist/.imp-mount/roots/{number}/root"))
}

/// Numbers on the store.
fn numbers(machine: &Machine) -> Vec<u32> {
    let names = fs::read_dir(machine.at("/persist/.imp-mount/roots")).unwrap();
    let mut numbers: Vec<_> =
        names.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The root is the directory of this number, closed to others by its path on the store, and has the initial files of a
/// root.
#[track_caller]
fn is_root(machine: &Machine, number: u32, fs: Fs) {
    let mount = machine.mount_at("/").unwrap();
    let report = fs::read_to_string("/run/imp-mount/report.json").unwrap();
    assert_eq!(mount.fstype, format!("{fs:?}").to_lowercase(), "{report}");
    assert!(mount.root.ends_with(format!(".imp-mount/roots/{number}/root")), "{mount:?}");
    let (root, tree) = (fs::metadata(machine.at("")).unwrap(), fs::metadata(tree(machine, number)).unwrap());
    assert_eq!((root.dev(), root.ino()), (tree.dev(), tree.ino()));
    for closed in ["/persist/.imp-mount".to_owned(), "/persist/.imp-mount/roots".to_owned()] {
        assert_eq!(stat(machine.at(&closed)), (0o040_700, 0, 0), "{closed}");
    }
    let tag = fs::read_to_string(machine.at("/persist/.imp-mount/roots/CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    for path in ["/srv", "/var/lib/a"] {
        assert_eq!(machine.mount_at(path).unwrap().root, Path::new(path));
    }
    // Mounts on the root are mounted nowhere else.
    assert_eq!(mounts_below(&machine.at("/persist")).len(), 1);
    let record = fs::read(machine.at(&format!("/persist/.imp-mount/roots/{number}/boot.json"))).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!((&record["boot_id"], &record["kind"]), (&json!(boot.trim()), &json!("disk")));
}

/// A check names this problem.
#[track_caller]
fn finds(check: &Output, problem: &str) {
    assert!(check.code == Some(1) && check.stdout.contains(&format!("PROBLEM: {problem}")), "{check:?}");
}

fn boots(fs: Fs, mib: u64) {
    let machine = Machine::new(Root::Nothing, Disk::new(fs, mib));
    machine.manifest(&on_store());
    finds(&machine.run(&["--check"]), "it is not built yet");
    machine.build().ok();
    is_root(&machine, 1, fs);
    machine.run(&["--check"]).ok();
    let before = mounts();
    machine.build().ok();
    assert_eq!(mounts(), before);

    fs::write(machine.at("/forgotten"), "mine").unwrap();
    fs::write(machine.at("/srv/kept"), "kept").unwrap();
    machine.reboot().ok();
    is_root(&machine, 2, fs);
    assert!(!machine.at("/forgotten").exists());
    assert_eq!(fs::read_to_string(machine.at("/srv/kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(tree(&machine, 1).join("forgotten")).unwrap(), "mine");
    assert!(!tree(&machine, 1).join("srv/kept").exists());
    let own: Vec<_> = fs::read_dir(machine.at("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(own.len(), 3, "{own:?}");
    machine.power_off();
}

fn each_boot_has_an_empty_root() {
    boots(Fs::Ext4, 16);
}

fn on_xfs() {
    boots(Fs::Xfs, 300);
}

fn on_btrfs_a_root_is_a_subvolume() {
    boots(Fs::Btrfs, 128);
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Btrfs, 128));
    machine.manifest(&on_store());
    machine.build().ok();
    // The top directory of a subvolume has this inode number.
    assert_eq!(fs::metadata(machine.at("")).unwrap().ino(), 256);
    assert_ne!(fs::metadata(machine.at("")).unwrap().dev(), fs::metadata(machine.at("/srv")).unwrap().dev());
    machine.power_off();
}

fn with_device(disk: &Disk) -> Value {
    let mut manifest = on_store();
    manifest["stores"][0]["device"] = json!(disk.device);
    manifest
}

fn a_store_that_the_run_mounts() {
    for (fs, mib) in [(Fs::Ext4, 16), (Fs::Btrfs, 128), (Fs::Xfs, 300)] {
        let disk = Disk::new(fs, mib);
        let machine = Machine::with_stores(Root::Nothing, Vec::new());
        machine.manifest(&with_device(&disk));
        for number in 1..3 {
            machine.build().ok();
            is_root(&machine, number, fs);
            machine.run(&["--check"]).ok();
            machine.power_off();
            disk.umount();
        }
    }
}

fn a_store_that_the_run_mounts_on_older_kernels() {
    const DESCRIPTORS: [&str; 6] =
        ["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "mount_setattr"];
    let kernels = [vec![Injected::NoDetachedAssembly], DESCRIPTORS.map(Injected::missing).to_vec()];
    for faults in kernels {
        let disk = Disk::new(Fs::Ext4, 16);
        let machine = Machine::with_stores(Root::Nothing, Vec::new());
        machine.manifest(&with_device(&disk));
        for number in 1..3 {
            machine.trace(&faults, &[]).0.ok();
            is_root(&machine, number, Fs::Ext4);
            assert!(!Path::new("/run/imp-mount/stage").exists());
            machine.power_off();
            disk.umount();
        }
    }
}

/// The root is in memory then, and has its entries.
fn a_stage_that_fails_on_an_older_kernel() {
    let disk = Disk::new(Fs::Ext4, 16);
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&with_device(&disk));
    let (output, calls) = machine.trace(&[Injected::NoDetachedAssembly], &[]);
    output.ok();
    machine.power_off();
    disk.umount();
    let moves: Vec<_> = calls.into_iter().filter(|call| call.is_one_of(&["move_mount"])).collect();
    // The first one mounts the stage, the second one the store on it, the third one the root.
    for call in &moves[1..3] {
        let fault = Injected::error(Errno::ENOMEM, call);
        let output = machine.trace(&[fault, Injected::NoDetachedAssembly], &[]).0.ok();
        assert!(output.stderr.contains("the root of this boot is in memory"), "{output:?}");
        assert_eq!(machine.mount_at("/").unwrap().fstype, "tmpfs");
        assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/srv"));
        assert!(!Path::new("/run/imp-mount/stage").exists());
        assert_eq!(numbers(&machine), [1]);
        machine.power_off();
        disk.umount();
    }
}

fn a_converted_disk_holds_its_new_root() {
    for (fs, mib) in [(Fs::Ext4, 16), (Fs::Btrfs, 128)] {
        let machine = Machine::new(Root::Disk, Disk::new(fs, mib));
        machine.manifest(&manifest(json!({ "on": "/persist", "convert": "/persist" })));
        fs::create_dir_all(machine.at("/srv")).unwrap();
        fs::create_dir_all(machine.at("/var/log")).unwrap();
        fs::write(machine.at("/srv/kept"), "kept").unwrap();
        for number in 1..3 {
            machine.build().ok();
            is_root(&machine, number, fs);
            assert_eq!(fs::read_to_string(machine.at("/srv/kept")).unwrap(), "kept");
            assert!(machine.at("/persist/var/log").exists() && !machine.at("/var/log").exists());
            machine.run(&["--check"]).ok();
            let before = mounts();
            machine.build().ok();
            assert_eq!(mounts(), before);
            machine.power_off();
            machine.power_on();
        }
        // The way back: the disk boots as before.
        machine.cmdline("imp-mount=off");
        machine.build().ok();
        assert!(machine.at("/var/log").exists());
        machine.power_off();
    }
}

fn restrictions_of_the_store_are_not_the_roots() {
    let disk = Disk::new(Fs::Ext4, 16);
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest(json!({ "on": "/persist", "mode": "0711", "options": ["nodev"] })));
    fs::create_dir_all(machine.at("/persist")).unwrap();
    disk.mount_with(machine.at("/persist"), "nosuid,nodev,noexec,noatime");
    machine.build().ok();
    let mount = machine.mount_at("/").unwrap();
    assert!(mount.has("nodev") && mount.has("noatime"), "{mount:?}");
    assert!(!mount.has("nosuid") && !mount.has("noexec"), "{mount:?}");
    assert_eq!(stat(machine.at("")), (0o040_711, 0, 0));
    let store = machine.mount_at("/persist").unwrap();
    assert!(store.has("nosuid") && store.has("noexec"), "{store:?}");
    machine.power_off();
    disk.umount();
}

fn a_failed_run_leaves_no_root() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    let mut wanted = on_store();
    wanted["entries"][0] = json!({ "file": "/etc/needed", "missing": "fail" });
    machine.manifest(&wanted);
    let before = mounts();
    machine.build().expect(1).says(&["/etc/needed"]);
    assert_eq!(mounts(), before);
    assert_eq!(numbers(&machine), [0_u32; 0]);
    machine.manifest(&on_store());
    machine.build().ok();
    is_root(&machine, 1, Fs::Ext4);
    machine.power_off();
}

fn in_memory(machine: &Machine, words: &[&str]) {
    machine.build().ok().says(&["warning: root: the root of this boot is in memory"]).says(words);
    assert_eq!(machine.mount_at("/").unwrap().fstype, "tmpfs");
    finds(&machine.run(&["--check"]), "it is in memory, and the manifest asks for one on a store");
    let before = mounts();
    machine.build().ok();
    assert_eq!(mounts(), before);
}

fn on_a_full_store_the_root_is_in_memory() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    machine.manifest(&on_store());
    machine.build().ok();
    machine.power_off();
    machine.power_on();
    machine.disk().fill();
    in_memory(&machine, &["No space left on device", "impctl roots prune"]);
    for path in ["/srv", "/var/lib/a"] {
        assert_eq!(machine.mount_at(path).unwrap().root, Path::new(path));
    }
    machine.disk().unfill();
    machine.reboot().ok();
    assert_eq!(machine.mount_at("/").unwrap().fstype, "ext4");
    machine.power_off();
}

fn on_a_read_only_store_the_root_is_in_memory() {
    let disk = Disk::new(Fs::Ext4, 16);
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&on_store());
    fs::create_dir_all(machine.at("/persist")).unwrap();
    disk.mount(machine.at("/persist"));
    machine.build().ok();
    machine.power_off();
    disk.umount();
    disk.mount_with(machine.at("/persist"), "ro");
    machine.build().ok().says(&["the root of this boot is in memory", "Read-only file system"]);
    assert_eq!(machine.mount_at("/").unwrap().fstype, "tmpfs");
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/srv"));
    machine.power_off();
    disk.umount();
}

fn links_planted_on_the_store_are_not_followed() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    machine.manifest(&on_store());
    let store = machine.at("/persist");
    fs::create_dir(store.join("victim")).unwrap();
    let plant: [&dyn Fn(&Path); 4] = [
        &|private| symlink("victim", private).unwrap(),
        &|private| {
            fs::create_dir(private).unwrap();
            fs::set_permissions(private, fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(private.join("roots")).unwrap();
        },
        &|private| fs::write(private, "a file").unwrap(),
        &|private| {
            sh_on("mkdir -m 700", &[private]);
            lsetxattr(private, "trusted.imp-mount.private", b"", XattrFlags::empty()).unwrap();
            symlink("../victim", private.join("roots")).unwrap();
        },
    ];
    for plant in plant {
        let private = store.join(".imp-mount");
        plant(&private);
        in_memory(&machine, &["is not a directory that imp-mount created"]);
        assert_eq!(fs::read_dir(machine.at("/persist/victim")).unwrap().count(), 0);
        machine.power_off();
        machine.power_on();
        sh_on("rm -rf", &[&private]);
    }
    // The next number is taken by a link.
    machine.build().ok();
    machine.power_off();
    machine.power_on();
    symlink("../../victim", machine.at("/persist/.imp-mount/roots/2")).unwrap();
    machine.build().ok();
    is_root(&machine, 3, Fs::Ext4);
    assert_eq!(fs::read_dir(machine.at("/persist/victim")).unwrap().count(), 0);
    machine.power_off();
}

fn without_its_store_the_root_is_in_memory() {
    let (one, two) = (Disk::new(Fs::Ext4, 16), Disk::new(Fs::Ext4, 16));
    let machine = Machine::with_stores(Root::Nothing, vec![("/persist", one), ("/data", two)]);
    let mut wanted = on_store();
    wanted["stores"].as_array_mut().unwrap().push(json!({ "path": "/data" }));
    for entry in wanted["entries"].as_array_mut().unwrap() {
        entry["store"] = "/data".into();
    }
    machine.manifest(&wanted);
    machine.cmdline("imp-mount.skip=/persist");
    machine.build().ok().says(&["the root of this boot is in memory", "left out by imp-mount.skip="]);
    assert_eq!(machine.mount_at("/").unwrap().fstype, "tmpfs");
    machine.power_off();

    // A required store stops the boot.
    machine.cmdline("");
    let sysroot = machine.at("");
    machine.build().expect(1).says(&["store /persist: nothing is mounted at"]);
    assert!(mounts_below(&sysroot).is_empty());
}

fn off() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    machine.manifest(&on_store());
    machine.cmdline("imp-mount=off");
    machine.build().ok();
    assert_eq!(machine.mount_at("/").unwrap().fstype, "ext4");
    assert!(machine.mount_at("/srv").is_none());
    machine.power_off();
}

fn a_running_system_is_brought_in_line() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    machine.manifest(&on_store());
    machine.build().ok();
    machine.switch_root();
    let mut wanted = on_store();
    wanted["entries"].as_array_mut().unwrap().push(json!({ "directory": "/opt/new" }));
    machine.manifest(&wanted);
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/opt/new").unwrap().root, Path::new("/opt/new"));
    machine.run_live(&["--check"]).ok();
    assert_eq!(numbers(&machine), [1]);
    // From a root on a store to one in memory, with the next boot.
    machine.manifest(&manifest(json!({})));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/opt/new").is_none());
    finds(&machine.run_live(&["--check"]), "the next boot turns it into a tmpfs");
}
