//! `--plan`: the actions of a run, readable by all users, the same every time.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Machine, Root, imp_mount, json_of, run};

tests![a_plan_is_stable, a_plan_heeds_phase_and_words, a_plan_needs_no_privilege: Root];

fn manifest() -> Value {
    json!({
        "version": 1,
        "root": { "size": "2G", "mode": "0755", "inodes": "1M", "options": ["noswap"] },
        "stores": [
            { "path": "/nix", "device": "LABEL=nix", "options": ["noatime"] },
            { "path": "/persist" },
            { "path": "/data", "required": false, "device": "/dev/vdb", "fstype": "xfs" },
        ],
        "entries": [
            { "directory": "/var/lib/plex", "store": "/persist", "user": "plex", "group": 193, "mode": "0750" },
            { "directory": "/home/me/My Files", "store": "/data", "source": "/me", "hidden": true, "trash": true,
              "options": ["noexec", "suid"], "required": false },
            { "file": "/etc/machine-id", "store": "/persist", "missing": "machine-id", "phase": "early" },
            { "file": "/etc/ssh/ssh_host_*", "store": "/persist", "phase": "etc" },
            { "file": "/etc/adjtime", "store": "/persist", "method": "symlink" },
            { "file": "/etc/hosts", "store": "/persist", "method": "copy", "missing": "skip" },
            { "directory": "/srv/a\nb", "store": "/persist", "enforce": true, "parents": { "mode": "0711" } },
            { "directory": "/opt", "store": "/persist", "phase": "live" },
            { "directory": "/var/lib/pool", "store": "/data" },
        ],
    })
}

/// Nothing of the machine is mounted: a plan asks the manifest only.
fn machine() -> Machine {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest());
    machine
}

fn a_plan_is_stable() {
    let machine = machine();
    let text = machine.run(&["--plan"]).ok().stdout;
    assert_eq!(text, machine.run(&["--plan"]).ok().stdout);
    assert_eq!(text, include_str!("golden/plan.txt"), "the plan is now:\n{text}");

    let json = machine.run(&["--plan", "--json"]).ok().stdout;
    assert_eq!(json, machine.run(&["--plan", "--json"]).ok().stdout);
    let lines: Vec<Value> = serde_json::from_str(&json).unwrap();
    let line = |target: &str| lines.iter().find(|line| line["target"] == target).unwrap();
    assert_eq!(lines.len(), 1 + 3 + 9);
    assert_eq!((&line("/")["does"], &line("/data")["does"]), (&json!("root"), &json!("store")));
    let plex = line("/var/lib/plex");
    assert_eq!(
        (&plex["source"], &plex["creates"]),
        (&json!("/persist/var/lib/plex"), &json!("plex:193 0750"))
    );
    assert_eq!(line("/srv/a\nb")["parents"], json!([["/persist/srv", "root:root 0755"]]));
    assert!(!machine.home().join("sysroot/srv").exists() && !fs::exists("/run/imp-mount").unwrap());
}

fn a_plan_heeds_phase_and_words() {
    let machine = machine();
    let does = |words: &[&str], target: &str| {
        let lines = json_of(&machine.run(&[&["--plan", "--json"], words].concat()).ok(), "plan");
        let line = lines.as_array().unwrap().iter().find(|line| line["target"] == target).unwrap();
        line["does"].as_str().unwrap().to_owned()
    };
    assert_eq!(does(&[], "/opt"), "later");
    assert_eq!(does(&["--phase", "live"], "/opt"), "bind");
    assert_eq!(does(&["--phase=early"], "/etc/machine-id"), "bind");
    assert_eq!(does(&["--phase=early"], "/var/lib/plex"), "later");
    machine.cmdline("imp-mount.skip=/var/lib");
    assert_eq!(does(&[], "/var/lib/plex"), "guard");
    machine.cmdline("imp-mount=off");
    assert_eq!(does(&[], "/var/lib/plex"), "off");
    assert_eq!(does(&[], "/etc/machine-id"), "bind");
}

fn a_plan_needs_no_privilege() {
    let machine = machine();
    let words = ["--manifest", "/tmp/machine/manifest", "--sysroot", "/tmp/machine/sysroot", "--plan"];
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", imp_mount()];
    assert_eq!(run(&[&user[..], &words].concat()).ok().stdout, machine.run(&["--plan"]).ok().stdout);
}
