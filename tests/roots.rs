//! The root: a new tmpfs or an existing mount, with the mounts below the sysroot moved into it, in one step.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::mount::MsFlags;
use serde_json::{Value, json};

use crate::support::command::sh_on;
use crate::support::look::{mounts_below, stat};
use crate::support::namespace::{bind, propagate, tmpfs};
use crate::support::{Disk, Fs, Injected, Machine, Mount, Root, Snapshot, mount_at, mounts};

tests![
    a_root_is_as_asked: Disk,
    the_kernels_words_on_a_bad_option: Disk,
    messages_of_fsopen_explain_errors_of_mount: Disk Inject,
    a_root_that_is_mounted_already: Disk,
    another_root_is_not_covered: Disk,
    a_store_moves_into_the_new_root: Disk,
    other_mounts_come_along: Disk,
    mounts_below_an_entry_are_not_covered: Disk Inject,
    mounts_below_an_entry_are_seen_at_any_moment: Disk Inject,
    mounts_below_a_guard_are_not_covered: Disk,
    mounts_below_an_entry_are_not_said_to_be_hidden: Disk,
    mounts_that_an_entry_would_cover_are_said: Disk,
    phases_add_up: Disk,
    publishing_is_one_step: Disk,
    stopped_at_any_call_a_root_is_whole: Disk Inject,
    propagation_makes_no_difference: Disk,
    a_thousand_entries: Disk,
];

/// A manifest with the store /persist.
pub fn manifest(root: Value, entries: Value) -> Value {
    json!({ "version": 1, "root": root, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// Properties of every mount below the sysroot, by path: all that do not depend on the method.
pub fn shown(machine: &Machine) -> BTreeMap<PathBuf, (PathBuf, String, String)> {
    mounts_below(&machine.at(""))
        .into_iter()
        .map(|mount| (mount.target, (mount.root, mount.fstype, mount.options)))
        .collect()
}

fn a_root_is_as_asked() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let root = json!({ "size": "16M", "mode": "0751", "inodes": "2000", "options": ["noexec,noswap", "strictatime"] });
    machine.manifest(&manifest(root, json!([{ "directory": "/srv" }])));
    machine.build().ok();

    let mount = machine.mount_at("/").unwrap();
    assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("tmpfs", "imp-mount"));
    for option in ["noexec", "noswap", "size=16384k", "nr_inodes=2000", "mode=751"] {
        assert!(mount.has(option), "{option}: {mount:?}");
    }
    assert!(!mount.has("relatime") && !mount.has("nosuid"), "{mount:?}");
    assert_eq!(stat(machine.at("")), (0o040_751, 0, 0));
    let findmnt = sh_on("findmnt -nb -o SIZE,FSTYPE", &[&machine.at("")]);
    assert_eq!(findmnt.split_whitespace().collect::<Vec<_>>(), ["16777216", "tmpfs"]);

    // By default a root has mode 0755, and not tmpfs's 1777.
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    machine.reboot().ok();
    assert_eq!(stat(machine.at("")), (0o040_755, 0, 0));
    assert_eq!(mounts_below(&machine.at("")).len(), 3);
}

fn the_kernels_words_on_a_bad_option() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!({ "options": ["huge=enormous"] }), json!([{ "directory": "/srv" }])));
    let before = (mounts(), machine.disk().snapshot());
    machine.build().expect(1).says(&["root: ", "(tmpfs)", "the kernel says", "huge", "`root.options`"]);
    assert_eq!((mounts(), machine.disk().snapshot()), before);
}

fn messages_of_fsopen_explain_errors_of_mount() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!({ "options": ["huge=enormous"] }), json!([{ "directory": "/srv" }])));
    let (output, _) = machine.trace(&[Injected::missing("mount_setattr")], &[]);
    output.expect(1).says(&["root: ", "(tmpfs)", "the kernel says", "huge", "`root.options`"]);
}

fn a_root_that_is_mounted_already() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Tmpfs, Disk::new(fs, 8));
        machine.manifest(&manifest(
            Value::Null,
            json!([{ "directory": "/srv" }, { "directory": "/var/lib/a" }]),
        ));
        let before = mounts();
        machine.build().ok();
        let after = mounts();
        assert_eq!(after[..before.len()], before, "what was mounted is left alone");
        let new: Vec<_> = after[before.len()..].iter().map(|mount| mount.target.clone()).collect();
        assert_eq!(new, [machine.at("/srv"), machine.at("/var/lib/a")]);
        machine.build().ok();
        assert_eq!(mounts(), after);
        machine.power_off();
    }
}

fn another_root_is_not_covered() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let before = (mounts(), machine.disk().snapshot());
    machine.build().expect(1).says(&["root: ", "ext4", "asks for a new root", "root.convert"]);
    assert_eq!((mounts(), machine.disk().snapshot()), before);
}

fn a_store_moves_into_the_new_root() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
        let plain = machine.mount_at("/persist").unwrap();
        machine.build().ok();

        let root = machine.mount_at("/").unwrap();
        let stores: Vec<_> =
            mounts().into_iter().filter(|mount| mount.target == machine.at("/persist")).collect();
        assert_eq!(stores.len(), 1, "{stores:?}");
        assert_eq!((stores[0].parent, &stores[0].source), (root.id, &plain.source));
        assert_eq!((&stores[0].options, &stores[0].root), (&plain.options, &plain.root));
        // The old place below is free: nothing but these two still shows the disk.
        let holders = mounts().iter().filter(|mount| mount.source == plain.source).count();
        assert_eq!(holders, 2, "the store and one entry");
        sh_on("umount --recursive", &[&machine.at("")]);
        assert_eq!(mounts_below(&machine.at("")), []);
        assert_eq!(fs::read_dir(machine.at("/persist")).unwrap().count(), 0);
        machine.power_off();
    }
}

fn other_mounts_come_along() {
    let stores = vec![
        ("/persist", Disk::new(Fs::Ext4, 8)),
        ("/nix", Disk::new(Fs::Xfs, 0)),
        ("/boot", Disk::new(Fs::Ext4, 8)),
    ];
    let machine = Machine::with_stores(Root::Nothing, stores);
    fs::create_dir(machine.at("/boot/efi")).unwrap();
    fs::write(machine.at("/boot/kernel"), "kernel").unwrap();
    tmpfs(machine.at("/boot/efi"), "mode=0700,nr_inodes=77");
    // A third level: its parent moves with another mount, and is shared.
    fs::create_dir(machine.at("/boot/efi/EFI")).unwrap();
    tmpfs(machine.at("/boot/efi/EFI"), "nr_inodes=78");
    tmpfs(machine.at("/boot"), "size=1M");
    sh_on("umount", &[&machine.at("/boot")]);
    fs::create_dir(machine.at("/etc")).unwrap();
    for name in ["outside", "sysroot/etc/key"] {
        fs::write(machine.home().join(name), name).unwrap();
    }
    bind(machine.home().join("outside"), machine.at("/etc/key"));
    sh_on("mount -o remount,bind,ro", &[&machine.at("/boot")]);
    let before = shown(&machine);

    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }, { "directory": "/etc/ssh" }])));
    machine.build().ok();
    let after = shown(&machine);
    for (place, what) in &before {
        assert_eq!(after.get(place), Some(what), "{}", place.display());
    }
    // The root and two entries are new, and nothing is there twice.
    assert_eq!(after.len(), before.len() + 3);
    assert_eq!(mounts_below(&machine.at("")).len(), after.len());
    assert!(machine.mount_at("/boot").unwrap().has("ro"));
    assert!(machine.mount_at("/boot/efi").unwrap().has("nr_inodes=77"));
    assert_eq!(fs::read_to_string(machine.at("/boot/kernel")).unwrap(), "kernel");
    assert_eq!(fs::read_to_string(machine.at("/etc/key")).unwrap(), "outside");
    assert_eq!(stat(machine.at("/etc")), (0o040_755, 0, 0));
}

/// A disk on /var/log is still seen there after /var was mounted from the store.
fn mounts_below_an_entry_are_not_covered() {
    let older: [&[Injected]; 3] = [
        &[],
        &[Injected::NoDetachedAssembly],
        &[
            Injected::missing("open_tree"),
            Injected::missing("move_mount"),
            Injected::missing("mount_setattr"),
        ],
    ];
    for root in [Root::Nothing, Root::Tmpfs, Root::Disk] {
        for faults in older {
            let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/var/log", Disk::new(Fs::Ext4, 8))];
            let machine = Machine::with_stores(root, disks);
            let log = machine.mount_at("/var/log").unwrap().source;
            fs::create_dir_all(machine.at("/var/lib/x/deep")).unwrap();
            tmpfs(machine.at("/var/lib/x/deep"), "nr_inodes=77");
            let asked = match root {
                Root::Nothing => json!({}),
                Root::Tmpfs => Value::Null,
                Root::Disk => json!({ "convert": "/persist" }),
            };
            let entries = json!([
                { "directory": "/var" },
                { "directory": "/var/lib" },
                { "directory": "/var/log/below" },
                { "file": "/z", "missing": "fail" },
            ]);
            machine.manifest(&manifest(asked.clone(), entries.clone()));
            let before = mounts();
            machine.trace(faults, &[]).0.expect(1).says(&["/z"]);
            assert_eq!(mounts(), before);

            let entries: Vec<_> = entries.as_array().unwrap()[..3].to_vec();
            machine.manifest(&manifest(asked, entries.into()));
            let said = machine.trace(faults, &[]).0.ok();
            assert!(!said.stderr.contains("warning"), "{said:?}");
            let sources = |path: &str| -> Vec<_> {
                let all = mounts_below(&machine.at("")).into_iter();
                all.filter(|mount| mount.target == machine.at(path)).map(|mount| mount.source).collect()
            };
            assert_eq!(sources("/var/log"), [log]);
            assert!(machine.mount_at("/var/lib/x/deep").unwrap().has("nr_inodes=77"));
            for (path, inner) in
                [("/var", "/var/log"), ("/var/log", "/var/log/below"), ("/var/lib", "/var/lib/x/deep")]
            {
                let (above, below) = (machine.mount_at(path).unwrap(), machine.mount_at(inner).unwrap());
                assert_eq!(above.id, below.parent, "{inner}");
            }
            machine.run(&["--check"]).ok();
            let built = mounts();
            machine.trace(faults, &[]).0.ok();
            assert_eq!(mounts(), built);
            machine.power_off();
        }
    }
}

/// A killed run leaves a disk on /var/log visible, with or without a mount on /var.
fn mounts_below_an_entry_are_seen_at_any_moment() {
    let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/var/log", Disk::new(Fs::Ext4, 8))];
    let machine = Machine::with_stores(Root::Tmpfs, disks);
    machine.manifest(&manifest(Value::Null, json!([{ "directory": "/var" }])));
    fs::write(machine.at("/var/log/seen"), "").unwrap();
    // Calls are told by their number: see above.
    machine.build().ok();
    machine.power_off();
    machine.power_on();
    let calls = machine.trace(&[], &[]).1;
    let changes: Vec<_> =
        calls.iter().filter(|call| call.is_one_of(&["move_mount", "umount2", "mount_setattr"])).collect();
    assert!(changes.len() > 3, "{changes:?}");
    for call in changes {
        machine.power_off();
        machine.power_on();
        assert_eq!(machine.trace(&[Injected::kill(call)], &[]).0.signal, Some(9), "{call:?}");
        assert!(machine.at("/var/log/seen").exists(), "{call:?}");
        machine.build().ok();
        assert!(machine.at("/var/log/seen").exists(), "{call:?}");
        assert!(machine.mount_at("/var").is_some(), "{call:?}");
    }
    machine.power_off();
}

/// A later run mounts a skipped entry, and moves the disk below its guard onto it.
fn mounts_below_a_guard_are_not_covered() {
    let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/var/log", Disk::new(Fs::Ext4, 8))];
    let machine = Machine::with_stores(Root::Tmpfs, disks);
    machine.manifest(&manifest(Value::Null, json!([{ "directory": "/var" }])));
    fs::write(machine.at("/var/log/seen"), "").unwrap();
    machine.cmdline("imp-mount.skip=/var");
    machine.build().ok();
    assert!(!machine.at("/var/log").exists());
    machine.cmdline("");
    machine.build().ok();
    assert!(machine.at("/var/log/seen").exists());
    assert_eq!(machine.mount_at("/var").unwrap().id, machine.mount_at("/var/log").unwrap().parent);
    machine.power_off();
}

/// Files beside the disk are hidden, and the disk is not.
fn mounts_below_an_entry_are_not_said_to_be_hidden() {
    let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/var/log", Disk::new(Fs::Ext4, 8))];
    let machine = Machine::with_stores(Root::Tmpfs, disks);
    machine
        .manifest(&manifest(Value::Null, json!([{ "directory": "/var" }, { "directory": "/var/lib/app" }])));
    fs::write(machine.at("/var/data"), "data").unwrap();
    machine.build().ok().says(&["warning: /var: the target holds `data`, which mounting would hide"]);
    assert!(machine.mount_at("/var/log").is_some());
    machine.power_off();
}

/// A file where the disk was mounted, or in the place of the entry itself.
fn mounts_that_an_entry_would_cover_are_said() {
    for (in_the_way, required, code, words) in [
        ("var/log", true, 1, ["error: /var: cannot mount /var/log", "imp-mount.skip=/var "]),
        ("var/log", false, 0, ["warning: /var: cannot mount /var/log", "not a directory"]),
        ("var", false, 0, ["warning: /var: its guard covers the mount at /var/log", "correct the entry"]),
    ] {
        let disks = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/var/log", Disk::new(Fs::Ext4, 8))];
        let machine = Machine::with_stores(Root::Nothing, disks);
        let file = machine.at("/persist").join(in_the_way);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "a file").unwrap();
        machine.manifest(&manifest(json!({}), json!([{ "directory": "/var", "required": required }])));
        machine.build().expect(code).says(&words);
        assert_eq!(fs::read_to_string(&file).unwrap(), "a file");
        machine.power_off();
    }
}

fn phases_add_up() {
    let entries = json!([
        { "directory": "/nix", "phase": "early" },
        { "directory": "/nix/var/deep", "phase": "boot", "mode": "0750" },
        { "directory": "/var/lib", "phase": "boot" },
        { "directory": "/etc/ssh", "phase": "etc", "mode": "0700" },
        { "file": "/etc/machine-id", "phase": "etc", "missing": "machine-id" },
        { "directory": "/srv", "phase": "live" },
    ]);
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.disk().erase();
    machine.manifest(&manifest(json!({}), entries));
    machine.build().ok();
    let (at_once, disk) = (shown(&machine), machine.disk().snapshot());
    assert_eq!(at_once.len(), 7, "the root, the store, and everything but what is for later");
    assert!(machine.mount_at("/srv").is_none() && !machine.at("/srv").exists());

    machine.power_off();
    machine.disk().erase();
    machine.power_on();
    for (phase, number) in [("early", 3), ("boot", 5), ("etc", 7)] {
        let before = mounts_below(&machine.at(""));
        machine.run(&["--phase", phase]).ok();
        let after = mounts_below(&machine.at(""));
        assert_eq!(after.len(), number, "{phase}");
        if phase != "early" {
            assert!(before.iter().all(|mount| after.contains(mount)), "{phase}: {before:?} {after:?}");
        }
    }
    assert_eq!(shown(&machine), at_once);
    assert_eq!(machine.disk().snapshot(), disk);
}

/// State of the sysroot at one moment: which of these paths are mounts, by one descriptor of the root.
fn moment(sysroot: &Path, paths: &[String]) -> (u64, usize) {
    use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
    let root = openat(rustix::fs::CWD, sysroot, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let device =
        fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&root))).unwrap().dev();
    let mounted = paths.iter().filter(|path| {
        let seen = statx(&root, path.as_str(), AtFlags::empty(), StatxFlags::BASIC_STATS);
        seen.is_ok_and(|seen| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    });
    (device, mounted.count())
}

fn publishing_is_one_step() {
    for (root, asked) in [
        (Root::Nothing, json!({ "size": "16M" })),
        (Root::Disk, json!({ "convert": "/persist", "size": "16M" })),
    ] {
        let machine = Machine::new(root, Disk::new(Fs::Ext4, 16));
        let paths: Vec<String> = (0..40).map(|n| format!("var/lib/{n}")).collect();
        let entries: Vec<_> = paths.iter().map(|path| json!({ "directory": format!("/{path}") })).collect();
        machine.manifest(&manifest(asked, entries.into()));
        let sysroot = machine.at("");
        let before = moment(&sysroot, &paths);
        assert_eq!(before.1, 0);
        let (begun, done) = (Barrier::new(2), AtomicBool::new(false));
        let seen = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = vec![moment(&sysroot, &paths)];
                begun.wait();
                loop {
                    // Read first, so that the last check comes after the end.
                    let last = done.load(Ordering::Relaxed);
                    let now = moment(&sysroot, &paths);
                    if seen.last() != Some(&now) {
                        seen.push(now);
                    }
                    if last {
                        return seen;
                    }
                }
            });
            begun.wait();
            let output = machine.build();
            done.store(true, Ordering::Relaxed);
            output.ok();
            watcher.join().unwrap()
        });
        let after = moment(&sysroot, &paths);
        assert_eq!(after.1, paths.len());
        // The old root, whole, and then the new one, whole: no other file system, and no part of either.
        assert_eq!(seen, [before, after], "{root:?}");
        machine.power_off();
    }
}

/// The same without chance: the program stops before each call that changes mounts.
fn stopped_at_any_call_a_root_is_whole() {
    for (root, asked) in [(Root::Nothing, json!({})), (Root::Disk, json!({ "convert": "/persist" }))] {
        let machine = Machine::new(root, Disk::new(Fs::Ext4, 8));
        let paths = ["srv", "var/lib/a"].map(str::to_owned);
        let entries: Vec<_> = paths.iter().map(|path| json!({ "directory": format!("/{path}") })).collect();
        machine.manifest(&manifest(asked, entries.into()));
        // Calls are identified by their number, so that missing files on the store must not change the number.
        machine.build().ok();
        machine.power_off();
        machine.power_on();
        let calls = machine.trace(&[], &[]).1;
        let changes: Vec<_> =
            calls.iter().filter(|call| call.is_one_of(&["mount", "move_mount", "umount2"])).collect();
        assert!(changes.len() > paths.len(), "{changes:?}");
        let mut whole = 0;
        for call in changes {
            machine.power_off();
            machine.power_on();
            let before = moment(&machine.at(""), &paths);
            assert_eq!(machine.trace(&[Injected::kill(call)], &[]).0.signal, Some(9), "{call:?}");
            let now = moment(&machine.at(""), &paths);
            assert!(now == before || now.1 == paths.len(), "{root:?}, {call:?}: {before:?} {now:?}");
            whole += usize::from(now.1 == paths.len());
            machine.build().ok();
            assert_eq!(moment(&machine.at(""), &paths).1, paths.len());
        }
        // Mounts below the sysroot are released only afterwards.
        assert_eq!(whole, usize::from(root == Root::Nothing));
        machine.power_off();
    }
}

fn propagation_makes_no_difference() {
    let entries =
        json!([{ "directory": "/home/a" }, { "directory": "/home/a/deep" }, { "directory": "/srv" }]);
    let build = |flags: MsFlags| {
        propagate("/", MsFlags::MS_REC | flags);
        let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
        machine.manifest(&manifest(json!({}), entries.clone()));
        machine.build().ok();
        // Nothing is copied back to the store: there is exactly one mount for each entry.
        let on_store: Vec<Mount> = mounts_below(&machine.at("/persist")).into_iter().skip(1).collect();
        assert_eq!(on_store, []);
        // Nor is a service's mount on an entry.
        tmpfs(machine.at("/srv"), "size=1M");
        assert_eq!(mounts_below(&machine.at("/persist")).len(), 1);
        let built = shown(&machine);
        machine.power_off();
        built
    };
    let shared = build(MsFlags::MS_SHARED);
    assert_eq!(shared.len(), 5);
    assert_eq!(build(MsFlags::MS_PRIVATE), shared);
    assert_eq!(build(MsFlags::MS_SLAVE), shared);
}

fn a_thousand_entries() {
    let machine = Machine::new(Root::Nothing, Disk::formatted(Fs::Ext4, 16, "-N 4096"));
    let entries: Vec<_> = (0..1000)
        .map(|n| json!({ "directory": format!("/var/lib/{}/{n}", n % 10), "user": 1000 + n, "mode": "0700" }))
        .collect();
    machine.manifest(&manifest(json!({}), entries.into()));
    machine.build().ok();
    let built = mounts();
    let ours = mounts_below(&machine.at("/var"));
    assert_eq!(ours.len(), 1000);
    for (number, path) in [(0, "/var/lib/0/0"), (999, "/var/lib/9/999")] {
        assert_eq!(stat(machine.at(path)), (0o040_700, 1000 + number, 0));
        assert_eq!(machine.mount_at(path).unwrap().root, Path::new(path));
    }
    let disk = machine.disk().snapshot();
    machine.build().ok();
    machine.run(&["--check", "--quiet"]).ok();
    assert_eq!(mounts(), built);
    assert_eq!(machine.disk().snapshot(), disk);
    assert_eq!(Snapshot::of(&machine.at("/persist")), disk);
    assert!(mount_at(machine.at("/")).is_some());
}
