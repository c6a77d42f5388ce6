//! A boot from end to end: the root is built, the machine is used and rebooted.

use std::fs;

use serde_json::{Value, json};

use crate::support::look::stat;
use crate::support::namespace::{bind, tmpfs};
use crate::support::{Disk, Fs, Machine, Root, mounts};

tests![
    named_paths_survive_a_reboot: Disk,
    running_again_changes_nothing,
    a_started_system_is_brought_in_line,
    a_first_boots_machine_id_is_left_to_systemd,
    a_root_becomes_the_store: Disk,
    few_calls_for_each_entry: Disk Inject,
];

/// One directory with an owner, one deep directory, and one file.
fn manifest() -> Value {
    json!({
        "version": 1,
        "root": { "size": "16M", "mode": "0755" },
        "stores": [{ "path": "/persist" }],
        "entries": [
            { "directory": "/var/lib/plex", "user": 193, "group": 194, "mode": "0750" },
            { "directory": "/home/a/.config/deep", "mode": "0700" },
            { "file": "/etc/adjtime", "missing": "create" },
        ],
    })
}

/// Everything of [`manifest`] is in place and right.
#[track_caller]
fn is_built(machine: &Machine) {
    assert_eq!(machine.mount_at("/").expect("a root").fstype, "tmpfs");
    for path in ["/var/lib/plex", "/home/a/.config/deep", "/etc/adjtime"] {
        let mount = machine.mount_at(path).unwrap_or_else(|| panic!("{path}: not mounted"));
        assert!(mount.root.ends_with(path.trim_start_matches('/')), "{mount:?}");
        assert!(mount.has("nosuid") && mount.has("nodev"), "{mount:?}");
        // Shared with the root below, not with the store: later mounts on the entry must not appear on the store.
        let store = machine.mount_at("/persist").expect("a store");
        assert!(
            mount.propagation.is_empty() || mount.propagation != store.propagation,
            "{mount:?} {store:?}"
        );
    }
    assert_eq!(stat(machine.at("/var/lib/plex")), (0o040_750, 193, 194));
    assert_eq!(stat(machine.at("/home/a/.config/deep")), (0o040_700, 0, 0));
}

fn named_paths_survive_a_reboot() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 16));
        machine.manifest(&manifest());
        machine.build().ok();
        is_built(&machine);
        fs::write(machine.at("/var/lib/plex/kept"), "kept").unwrap();
        fs::write(machine.at("/var/lib/lost"), "lost").unwrap();
        let before = machine.disk().snapshot();

        machine.reboot().ok();

        is_built(&machine);
        assert_eq!(before.losses(&machine.disk().snapshot()), [""; 0]);
        assert_eq!(fs::read_to_string(machine.at("/var/lib/plex/kept")).unwrap(), "kept");
        assert!(!machine.at("/var/lib/lost").exists());
        machine.power_off();
    }
}

fn running_again_changes_nothing() {
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Folder, 0));
    let entries = json!([{ "directory": "/var/lib/plex" }, { "directory": "/srv" }]);
    machine.manifest(
        &json!({ "version": 1, "root": null, "stores": [{ "path": "/persist" }], "entries": entries }),
    );
    machine.build().ok();
    let built = mounts();
    assert!(machine.mount_at("/srv").is_some());

    machine.build().ok();
    assert_eq!(mounts(), built);
}

fn a_started_system_is_brought_in_line() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Folder, 0));
    let manifest = |entries: Value| json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries });
    machine.manifest(&manifest(json!([{ "directory": "/srv" }, { "directory": "/old" }])));
    machine.build().ok();
    machine.switch_root();
    let kept = machine.mount_at("/srv");

    machine.manifest(&manifest(json!([{ "directory": "/srv" }, { "directory": "/new" }])));
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/srv"), kept);
    assert!(machine.mount_at("/new").is_some() && machine.mount_at("/old").is_none());
    machine.run_live(&["--check"]).ok();
}
fn a_first_boots_machine_id_is_left_to_systemd() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Folder, 0));
    let entries = json!([{ "file": "/etc/machine-id", "missing": "machine-id" }, { "file": "/etc/other", "missing": "create" }]);
    machine.manifest(
        &json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries }),
    );
    machine.build().ok();
    machine.switch_root();
    // As PID 1 does, from the tmpfs on /run.
    let run = machine.home().join("run");
    fs::create_dir(&run).unwrap();
    tmpfs(&run, "mode=0755");
    fs::write(run.join("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    bind(run.join("machine-id"), machine.at("/etc/machine-id"));
    let before = mounts();

    machine.run_live(&[]).ok();
    assert_eq!(mounts(), before);
    let check = machine.run_live(&["--check"]).ok().stdout;
    assert!(check.contains("systemd-machine-id-commit.service"), "{check}");

    // On any other file the mount is a mistake.
    bind(run.join("machine-id"), machine.at("/etc/other"));
    let output = machine.run_live(&[]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("/etc/other: something else is mounted there"), "{output:?}");
}

fn a_root_becomes_the_store() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    fs::create_dir_all(machine.at("/srv/data")).unwrap();
    fs::write(machine.at("/srv/data/file"), "there").unwrap();
    let entries = json!([{ "directory": "/srv/data", "phase": "early" }, { "directory": "/var/lib/new" }]);
    machine.manifest(&json!({ "version": 1, "root": { "convert": "/persist" }, "entries": entries }));

    // In two runs, as in an initrd.
    machine.run(&["--phase", "early"]).ok();
    assert_eq!(machine.mount_at("/").expect("a root").fstype, "tmpfs");
    assert_eq!(machine.mount_at("/persist").expect("a store").fstype, "ext4");
    assert!(machine.mount_at("/srv/data").is_some() && machine.mount_at("/var/lib/new").is_none());
    machine.build().ok();

    assert_eq!(fs::read_to_string(machine.at("/srv/data/file")).unwrap(), "there");
    assert_eq!(fs::read_to_string(machine.at("/persist/srv/data/file")).unwrap(), "there");
    assert!(machine.mount_at("/var/lib/new").is_some());
    machine.power_off();
}

/// System calls beyond a fixed number, for entries with one parent directory each.
fn few_calls_for_each_entry() {
    const AT_MOST: usize = 15;
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    let calls = |entries: usize| {
        let entry =
            |number| json!({ "directory": format!("/srv/{number}/state"), "user": 193, "mode": "0750" });
        let entries: Vec<_> = (0..entries).map(entry).collect();
        let stores = json!([{ "path": "/persist" }]);
        machine.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
        machine.build().ok();
        machine.power_off();
        machine.power_on();
        let (output, calls) = machine.trace(&[], &[]);
        output.ok();
        machine.power_off();
        machine.power_on();
        // A debug build checks every descriptor with fcntl before close.
        calls.iter().filter(|call| format!("{:?}", call.name) != "fcntl").count()
    };
    let (few, many) = (calls(20), calls(120));
    assert!(many - few <= 100 * AT_MOST, "{} calls an entry", (many - few) / 100);
}
