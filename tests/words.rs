//! What the kernel command line says is done, and the report tells what was.

use std::fs;

use serde_json::{Value, json};

use crate::failures::{machine, one_line};
use crate::live::{report, state};
use crate::roots::manifest;
use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Root, mounts};

tests![
    switched_off: Disk,
    an_entry_is_skipped: Disk,
    checked_before_mounting: Disk,
    unknown_words: Disk,
    the_report_says_what_happened: Disk,
];

fn switched_off() {
    let entries = json!([{ "directory": "/nix", "phase": "early" }, { "directory": "/srv" }]);
    for root in [Root::Nothing, Root::Tmpfs] {
        let machine = Machine::new(root, Disk::new(Fs::Ext4, 8));
        let asked = if root == Root::Tmpfs { Value::Null } else { json!({}) };
        machine.manifest(&manifest(asked, entries.clone()));
        machine.cmdline("quiet imp-mount=off");
        one_line(&machine.build().ok(), &["switched off by imp-mount=off"]);
        assert!(machine.mount_at("/nix").is_some() && machine.mount_at("/").unwrap().fstype == "tmpfs");
        assert!(machine.mount_at("/srv").is_none() && machine.mount_at("/persist").is_some());
        assert_eq!((state("/srv"), state("/nix")), ("off".to_owned(), "mounted".to_owned()));
        assert_eq!(report()["runs"][0]["outcome"], "off");
        machine.power_off();
    }
}

fn an_entry_is_skipped() {
    let machine = machine(json!([
        { "directory": "/srv" },
        { "directory": "/var/lib/a" },
        { "directory": "/var/lib/a/deep" },
        { "directory": "/var/lib/b" },
        { "file": "/etc/key", "missing": "create" },
    ]));
    machine.cmdline("imp-mount.skip=/var/lib/a,/etc/key,/nowhere ro");
    one_line(&machine.build().ok(), &["warning: imp-mount.skip=/nowhere: no entry is there"]);
    for path in ["/var/lib/a", "/etc/key"] {
        assert!(machine.mount_at(path).unwrap().has("ro"));
        assert_eq!(stat(machine.at(path)).0 & 0o7777, 0);
        assert_eq!(state(path), "skipped");
    }
    assert_eq!(machine.mount_at("/var/lib/a/deep"), None);
    assert_eq!(state("/var/lib/a/deep"), "skipped");
    assert!(fs::create_dir(machine.at("/var/lib/a/deep")).is_err());
    assert!(machine.mount_at("/srv").is_some() && machine.mount_at("/var/lib/b").is_some());
    // Nothing is made on the store for what is left out.
    let disk = machine.disk().snapshot();
    assert!(disk.line("var/lib/a").is_none() && disk.line("var/lib/b").is_some());
    let built = mounts();
    machine.build().ok();
    assert_eq!(mounts(), built);

    // A child alone; and everything below a folder that is no entry.
    machine.cmdline("imp-mount.skip=/var/lib/a/deep,/etc");
    machine.reboot().ok();
    assert!(!machine.mount_at("/var/lib/a").unwrap().has("ro"));
    assert!(
        machine.mount_at("/var/lib/a/deep").unwrap().has("ro")
            && machine.mount_at("/etc/key").unwrap().has("ro")
    );
}

fn checked_before_mounting() {
    let machine = machine(json!([{ "directory": "/srv" }]));
    machine.cmdline("imp-mount.check");
    let output = machine.build().ok();
    one_line(&output, &["missing  ", "/srv: the store does not hold it yet"]);
    one_line(&output, &["store", "/persist: ext4 on /dev/loop"]);
    assert!(machine.mount_at("/srv").is_some());
}

fn unknown_words() {
    let machine = machine(json!([{ "directory": "/srv" }]));
    machine.cmdline("imp-mount.skpi=/srv imp-mount=on root=tmpfs");
    let output = machine.build().ok();
    one_line(&output, &["warning: ", "imp-mount.skpi=/srv", "known are", "imp-mount.skip=PATH"]);
    one_line(&output, &["warning: ", "imp-mount=on", "write imp-mount=off"]);
    assert!(!output.stderr.contains("tmpfs"), "{output:?}");
    assert!(machine.mount_at("/srv").is_some());
}

fn the_report_says_what_happened() {
    let machine = machine(json!([
        { "directory": "/srv" },
        { "file": "/etc/link" },
        { "file": "/etc/skip", "missing": "skip" },
        { "file": "/etc/copy", "method": "copy", "missing": "create" },
        { "directory": "/late", "phase": "live" },
        { "file": "/etc/ssh/ssh_host_*" },
    ]));
    fs::create_dir_all(machine.at("/persist/etc/ssh")).unwrap();
    fs::write(machine.at("/persist/etc/ssh/ssh_host_rsa"), "").unwrap();
    machine.run(&["--phase", "early"]).ok();
    machine.build().ok();
    machine.build().ok();
    let report = report();
    for (target, expected) in [
        ("/srv", "mounted"),
        ("/etc/link", "linked"),
        ("/etc/skip", "absent"),
        ("/etc/copy", "copied"),
        ("/late", "later"),
        ("/etc/ssh/ssh_host_rsa", "mounted"),
    ] {
        assert_eq!(state(target), expected, "{target}");
    }
    assert_eq!(report["version"], 1);
    let runs = report["runs"].as_array().unwrap();
    let phases: Vec<_> = runs.iter().map(|run| run["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["early", "etc", "etc"]);
    let counts: Vec<_> = runs.iter().map(|run| (run["placed"].clone(), run["unchanged"].clone())).collect();
    assert_eq!(counts[0], (json!(0), json!(0)));
    assert_eq!(counts[1], (json!(4), json!(0)));
    assert_eq!(counts[2].0, json!(0));
    for run in runs {
        let steps: Vec<_> = run["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (step[0].as_str().unwrap(), step[1].as_u64().unwrap()))
            .collect();
        assert_eq!(
            steps.iter().map(|step| step.0).collect::<Vec<_>>(),
            ["root", "stores", "entries", "publish", "utab"]
        );
        let total: u64 = steps.iter().map(|step| step.1).sum();
        assert!((1..60_000_000).contains(&total), "microseconds: {steps:?}");
        assert!(run["started"].as_f64().unwrap() > 0.0 && run["failures"] == json!([]));
    }
    let store = &report["stores"][0];
    assert_eq!(store["device"], machine.disk().device.to_str().unwrap());
    assert_eq!((store["fstype"].as_str(), store["failure"].as_str()), (Some("ext4"), Some("")));
    let mode = stat("/run/imp-mount/report.json");
    assert_eq!(mode, (0o100_644, 0, 0));
}
