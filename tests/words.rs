//! Arguments on the kernel command line are followed, and the report names them.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::check::check;
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
    the_report_has_each_entry: Disk,
    a_store_that_is_not_needed: Disk,
    a_store_that_is_left_alone: Disk,
    a_store_of_a_later_phase: Disk,
    a_store_for_itself: Disk,
    a_plan_says_the_same_as_a_run: Disk,
    the_way_out_is_said: Disk,
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
    // No source of a skipped entry is created on the store.
    let disk = machine.disk().snapshot();
    assert!(disk.line("var/lib/a").is_none() && disk.line("var/lib/b").is_some());
    let built = mounts();
    machine.build().ok();
    assert_eq!(mounts(), built);

    // A child alone; and all entries below a folder without an entry.
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

fn the_report_has_each_entry() {
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

/// A good store, and a missing one.
fn with_media(device: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist" }, { "path": "/srv/media", "device": device }],
        "entries": [
            { "directory": "/boot", "store": "/persist", "phase": "early" },
            { "directory": "/var/lib/app", "store": "/persist" },
            { "directory": "/films", "store": "/srv/media" },
            { "directory": "/films/cache", "store": "/persist" },
            { "directory": "/films/cache/deep", "store": "/srv/media" },
        ],
    }));
    machine
}

/// Finding of --check on the store.
#[track_caller]
fn spared(machine: &Machine, words: &str) {
    let found = check(machine, 0);
    let store = &found["stores"][1];
    assert!(store["spared"].as_str().unwrap().contains(words), "{found:#}");
    assert_eq!((&found["disks"], &store["problem"]), (&json!([]), &json!("")));
    let text = machine.run(&["--check"]).ok().stdout;
    assert!(text.contains(", 1 store not used, no problem found\n"), "{text}");
    assert!(report()["stores"][1]["spared"].as_str().unwrap().contains(words), "{:#}", report());
}

fn a_store_that_is_not_needed() {
    let damaged = Disk::new(Fs::Ext4, 8);
    fs::File::options().write(true).open(&damaged.device).unwrap().write_all_at(&[0; 8192], 0).unwrap();
    for device in [Value::Null, json!("/dev/gone"), json!(damaged.device)] {
        let machine = with_media(device);
        one_line(&machine.build().expect(1), &["error: store /srv/media: "]);
        check(&machine, 1);
        for words in ["/srv/media", "/srv", "/srv/media/", "/films"] {
            machine.cmdline(&format!("imp-mount.skip={words}"));
            let output = machine.reboot().ok();
            assert!(!output.stderr.contains("error: "), "{output:?}");
            let about = output.stderr.lines().filter(|line| line.contains("store /srv/media: "));
            assert_eq!(about.count(), 1, "{output:?}");
            assert!(machine.mount_at("/var/lib/app").is_some());
            machine.is_skipped("/films");
            for target in ["/films", "/films/cache", "/films/cache/deep"] {
                assert_eq!(state(target), "skipped");
            }
            let why = if words == "/films" { "leaves out every entry of it" } else { "left out by" };
            spared(&machine, why);
            let word = format!("imp-mount.skip={}", words.trim_end_matches('/'));
            assert_eq!(report()["runs"][0]["words"], json!([word]));
            let built = mounts();
            let output = machine.build().ok();
            assert_eq!(mounts(), built);
            assert_eq!(output.stderr.matches("warning: ").count(), 1, "{output:?}");
            assert!(output.stderr.contains(" 0 put in place"), "{output:?}");
        }
        machine.cmdline("imp-mount=off");
        machine.reboot().ok();
        assert!(machine.mount_at("/films").is_none() && machine.mount_at("/boot").is_some());
        spared(&machine, "nothing of it is needed with imp-mount=off");

        // An argument that does not suffice.
        machine.cmdline("imp-mount.skip=/films/cache");
        machine.power_off();
        machine.power_on();
        machine.build().expect(1);
        machine.power_off();
    }
}

/// The store is not mounted, and its mount point is guarded.
fn a_store_that_is_left_alone() {
    let disk = Disk::new(Fs::Ext4, 8);
    let machine = with_media(json!(disk.device));
    machine.cmdline("imp-mount.skip=/srv/media");
    machine.build().ok();
    machine.is_skipped("/srv/media");
    disk.visit(|root| assert!(!root.join("films").exists()));
    machine.switch_root();
    fs::write("/run/machine/cmdline", "imp-mount.skip=/srv/media").unwrap();
    let status = machine.impctl("status", &["--cmdline", "/run/machine/cmdline"]).ok().stdout;
    for words in
        ["words    imp-mount.skip=/srv/media, until the next boot", "store    /srv/media: left out by"]
    {
        assert!(status.contains(words), "{status}");
    }
    // Without the argument the error names the guard.
    machine.cmdline("");
    let output = machine.run_live(&[]).expect(1);
    one_line(&output, &["store /srv/media: its place is guarded", "`umount /srv/media`"]);
    machine.run_inside(&["umount", "/srv/media"]).ok();
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/films").unwrap().source, disk.device.to_str().unwrap());
}

fn a_store_of_a_later_phase() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist" }, { "path": "/data" }],
        "entries": [
            { "directory": "/srv", "store": "/persist" },
            { "directory": "/late", "store": "/data", "phase": "live" },
        ],
    }));
    let output = machine.build().ok();
    assert!(!output.stderr.contains("warning"), "{output:?}");
    one_line(&output, &["store /data: nothing of it is needed in this phase, and it is not used"]);
    assert!(report()["stores"][0]["spared"].as_str().unwrap().contains("in this phase"), "{:#}", report());
    check(&machine, 0);
    machine.switch_root();
    one_line(&machine.run_live(&[]).expect(1), &["error: store /data: nothing is mounted"]);
}

/// A store without entries is mounted on its own, and required by its own setting.
fn a_store_for_itself() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist" }, { "path": "/data", "device": "/dev/gone" }],
        "entries": [{ "directory": "/srv", "store": "/persist" }],
    }));
    one_line(&machine.build().expect(1), &["error: store /data: cannot open the device /dev/gone"]);
    machine.cmdline("imp-mount.skip=/data");
    machine.build().ok();
    machine.is_skipped("/data");
}

fn a_plan_says_the_same_as_a_run() {
    let machine = with_media(json!("/dev/gone"));
    machine.cmdline("imp-mount=off imp-mount.skpi=/x imp-mount.skip=/nowhere");
    let output = machine.run(&["--plan"]).ok();
    assert_eq!(output.stdout.lines().filter(|line| line.starts_with("mkdir")).count(), 0, "{output:?}");
    assert!(output.stdout.contains("nothing of it is needed with imp-mount=off\n"), "{output:?}");
    one_line(&output, &["warning: ", "imp-mount.skpi=/x", "known are"]);
    one_line(&output, &["warning: imp-mount.skip=/nowhere: no entry is there"]);
    let json = machine.run(&["--plan", "--json"]).ok();
    assert!(serde_json::from_str::<Value>(&json.stdout).unwrap().is_array());
    one_line(&json, &["imp-mount.skpi=/x"]);
    machine.build().ok();
    let notes = check(&machine, 0)["notes"].to_string();
    assert!(notes.contains("imp-mount.skpi=/x") && notes.contains("imp-mount.skip=/nowhere"), "{notes}");

    machine.cmdline("imp-mount.skip=/srv");
    let plan = machine.run(&["--plan"]).ok().stdout;
    for line in [
        "guard    /srv/media: left out by imp-mount.skip=\n",
        "guard    /films <- /srv/media/films: ",
        "guard    /films/cache ",
    ] {
        assert!(plan.contains(line), "no {line:?} in {plan}");
    }
}

/// By the run itself, and first of all by --check: most people have no shell then.
fn the_way_out_is_said() {
    let machine = with_media(json!("/dev/gone"));
    fs::write(machine.at("/persist/boot"), "").unwrap();
    let output = machine.build().expect(1);
    one_line(&output, &["without it once, add imp-mount.skip=/srv/media,/boot to the kernel command line"]);
    let next = &check(&machine, 1)["next"];
    let first = next[0].as_str().unwrap();
    assert!(first.contains("add imp-mount.skip=/srv/media,/boot to the kernel command line"), "{next:#}");
    machine.cmdline("imp-mount.skip=/srv/media,/boot");
    machine.build().ok();
}
