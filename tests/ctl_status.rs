//! `impctl status`: problems come first, correct entries are short, and JSON and metrics agree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::live::{manifest, started};
use crate::support::command::sh_on;
use crate::support::schema::schema;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, json_of, mounts, run};
use unusual::{
    a_file_of_metrics, a_manifest_that_a_run_could_not_read, a_store_that_only_root_may_look_at,
    a_system_that_waits_to_be_converted, as_another_user, for_terminals_and_pipes, hostile_names,
    never_booted, switched_off, unreadable_files,
};

pub mod metrics;
mod unusual;

tests![
    all_is_well: Disk,
    an_optional_entry_is_guarded: Disk,
    an_unmounted_entry: Disk,
    a_store_is_read_only: Disk,
    a_store_is_missing: Disk,
    a_store_has_errors: Disk,
    an_owner_does_not_exist: Disk,
    an_adopted_path: Disk,
    the_manifest_changes: Disk,
    a_run_failed: Disk,
    the_root_is_full: Disk,
    a_system_that_waits_to_be_converted: Disk,
    switched_off: Disk,
    a_manifest_that_a_run_could_not_read: Disk,
    never_booted,
    unreadable_files,
    as_another_user: Disk,
    a_store_that_only_root_may_look_at: Disk,
    hostile_names: Disk,
    a_file_of_metrics: Disk,
    the_reader_of_metrics_is_strict,
    for_terminals_and_pipes: Disk,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");
const INSIDE: &str = "/run/machine/impctl";

/// Output for the started system: JSON, text and metrics must agree, and nothing may have changed.
#[track_caller]
fn status(machine: &Machine, code: i32) -> (Value, String) {
    let look = || (mounts(), Snapshot::of(&machine.at("")), Snapshot::of(Path::new("/run/imp-mount")));
    let before = look();
    fs::copy(machine.home().join("cmdline"), "/run/machine/cmdline").unwrap();
    let ask = |form: &str| machine.impctl("status", &["--cmdline=/run/machine/cmdline", form]).expect(code);
    let (json, text, numbers) = (ask("--json"), ask("--root=/"), ask("--metrics"));
    assert_eq!(look(), before, "it changed something");
    (agree(&json, &numbers), text.stdout)
}

/// JSON and metrics as they must be, and saying the same.
#[track_caller]
fn agree(json: &Output, numbers: &Output) -> Value {
    let found = json_of(json, "status");
    let described =
        |(name, _): &(String, _)| include_str!("../docs/status.md").contains(&format!("`{name}`"));
    let samples = metrics::parse(&numbers.stdout);
    assert_eq!(samples.keys().find(|sample| !described(sample)), None);
    let value = |name: &str, labels: &[(&str, &str)]| metrics::value(&samples, name, labels);
    let code = json.code.unwrap();
    assert_eq!(value("imp_mount_status", &[]), Some(code.into()));
    assert_eq!(found["standing"], ["well", "attention", "unknown"][usize::try_from(code).unwrap()]);
    let length = |list: &Value| f64::from(u32::try_from(list.as_array().unwrap().len()).unwrap());
    assert_eq!(value("imp_mount_attention", &[]), Some(length(&found["attention"])));
    assert_eq!(value("imp_mount_pending_owners", &[]), Some(length(&found["pending"])));
    assert_eq!(value("imp_mount_boot_duration_seconds", &[]).is_some(), !found["boot"].is_null());
    if found["root"].is_null() {
        assert_eq!(value("imp_mount_entries", &[("state", "ok")]), None);
        return found;
    }
    // Every state of the schema has a number, and each number is correct.
    for described in schema("status")["$defs"]["Status"]["oneOf"].as_array().unwrap() {
        let state = &described["const"];
        let there = found["entries"].as_array().unwrap().iter().filter(|one| &one["status"] == state);
        let number = value("imp_mount_entries", &[("state", state.as_str().unwrap())]);
        assert_eq!(number, Some(f64::from(u32::try_from(there.count()).unwrap())), "{state}");
    }
    for store in found["stores"].as_array().unwrap() {
        let of = |name: &str| {
            value(&format!("imp_mount_store_{name}"), &[("path", store["path"].as_str().unwrap())])
        };
        let mounted = store["source"] != "";
        assert_eq!(of("mounted"), Some(f64::from(u8::from(mounted))));
        assert_eq!(of("size_bytes"), store["size"].as_f64().filter(|_| mounted));
        assert_eq!(
            of("readonly").map(|number| json!(number > 0.0)),
            mounted.then(|| store["read_only"].clone())
        );
        assert_eq!(of("errors"), store["errors"].as_f64());
    }
    found
}

/// Problems, as `kind at`.
fn concerns(found: &Value) -> Vec<String> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let all = found["attention"].as_array().unwrap().iter();
    all.map(|one| format!("{} {}", text(one, "kind"), text(one, "at"))).collect()
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}

fn all_is_well() {
    let machine = started(json!([
        { "directory": "/srv" },
        { "file": "/etc/key", "missing": "create" },
        { "file": "/etc/later" },
        { "file": "/etc/ssh/ssh_host_*" },
    ]));
    let (found, text) = status(&machine, 0);
    assert!(text.starts_with("All is well.\n\nboot     done in "), "{text}");
    says(
        &text,
        &["just now, 3 put in place\n", "entries  4 ok\n", "  FILE SYSTEM\n", "tmpfs on imp-mount\n"],
    );
    assert!(!text.contains("->") && !text.contains("SINCE"), "{text}");
    assert!(text.lines().count() <= 10, "{text}");
    assert_eq!(found["boot"]["placed"], 3);
    let report = machine.report();
    let took: u64 =
        report["runs"][0]["steps"].as_array().unwrap().iter().map(|step| step[1].as_u64().unwrap()).sum();
    assert_eq!(
        (&found["boot"]["duration"], &found["boot"]["started"]),
        (&json!(took), &report["runs"][0]["started"])
    );

    // Without a manifest there is still the report.
    let output = machine
        .run_inside(&[INSIDE, "status"])
        .expect(2)
        .says(&["there is no manifest to go by", "--manifest"]);
    assert!(
        output.stdout.starts_with("boot     done in ") && !output.stdout.contains("entries"),
        "{output:?}"
    );

    // Other eyes: df(1).
    let df = |fields: &str, path: &str| -> Vec<u64> {
        let said = sh_on(format!("df -B1 --output={fields}"), &[&machine.at(path)]);
        said.lines().nth(1).unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    for (volume, path) in [(&found["root"], "/"), (&found["stores"][0], "/persist")] {
        let numbers =
            |keys: &[&str]| keys.iter().map(|key| volume[key].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(numbers(&["size", "used", "available"]), df("size,used,avail", path), "{path}");
        assert_eq!(numbers(&["inodes", "inodes_used"]), df("itotal,iused", path), "{path}");
        assert_eq!((&volume["read_only"], &volume["problem"]), (&json!(false), &json!("")));
    }
}

fn an_optional_entry_is_guarded() {
    let stores = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/media", Disk::new(Fs::Ext4, 8))];
    let machine = Machine::with_stores(Root::Nothing, stores);
    let stores = json!([{ "path": "/persist" }, { "path": "/media", "required": false }]);
    let entries =
        json!([{ "directory": "/srv/media", "store": "/media" }, { "directory": "/a", "store": "/persist" }]);
    machine.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
    sh_on("umount", &[&machine.at("/media")]);
    machine.build().ok();
    machine.switch_root();
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["store /media", "not-mounted /srv/media"]);
    assert!(text.starts_with("2 things need attention.\n"), "{text}");
    says(
        &text,
        &["guarded: ", "(optional)", "-> mount the store: mount -m ", "entries  1 ok, 1 not mounted\n"],
    );
    // The boot's warning repeats the same problem, and the guard is no change.
    assert!(!text.contains("\nwarning"), "{text}");
    assert_eq!(found["since"]["changed"], json!([]));
    assert_eq!(found["stores"][0]["source"], "", "{found:#}");
}

fn an_unmounted_entry() {
    let machine = started(
        json!([{ "directory": "/a" }, { "directory": "/var/lib/bluetooth", "required": false }, { "directory": "/c" }]),
    );
    for path in ["/var/lib/bluetooth", "/c"] {
        umount2(&machine.at(path), MntFlags::empty()).unwrap();
    }
    let (found, text) = status(&machine, 1);
    // Problems that would stop a boot come first.
    assert_eq!(concerns(&found), ["not-mounted /c", "not-mounted /var/lib/bluetooth"]);
    let changed = |target| json!({ "target": target, "was": "mounted", "is": "not-mounted" });
    assert_eq!(found["since"]["changed"], json!([changed("/c"), changed("/var/lib/bluetooth")]));
    let (wrong, rest) = text.split_once("\n\n").unwrap();
    says(
        wrong,
        &[
            "not mounted  /c",
            "nothing is mounted there; it was not so after the last run",
            "so after the last run; it holds paired devices (optional)",
            "-> run imp-mount to put",
        ],
    );
    says(rest, &["entries  1 ok, 2 not mounted\n"]);
    machine.run_live(&[]).ok();
    let (found, text) = status(&machine, 0);
    assert_eq!(found["since"]["changed"], json!([]));
    says(&text, &["SINCE THE BOOT", "just now  2 paths put in place\n"]);
}

fn a_store_is_read_only() {
    let machine = started(json!([{ "directory": "/a" }]));
    sh_on("mount -o remount,ro", &[&machine.at("/persist")]);
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found)[0], "store /persist");
    assert_eq!(found["stores"][0]["read_only"], true);
    says(&text, &["it is mounted read-only; see `dmesg`", "ext4 on /dev/loop", ", READ-ONLY\n"]);
}

fn a_store_is_missing() {
    let entries: Vec<_> = (0..40).map(|number| json!({ "directory": format!("/srv/{number:02}") })).collect();
    let machine = started(entries.into());
    sh_on("umount --lazy", &[&machine.at("/persist")]);
    let (found, text) = status(&machine, 1);
    assert_eq!((concerns(&found).len(), concerns(&found)[0].as_str()), (41, "store /persist"));
    says(
        &text,
        &["41 things need attention.", "\nand 21 more: --json names them all\n", "-> mount the store"],
    );
    assert!(text.lines().count() < 40, "{text}");
    // The remedy needs a look at every disk, which metrics leave out.
    let reads = |form: &str| {
        let (output, calls) = machine.trace_impctl(&[], "status", &[form]);
        output.expect(1);
        calls.iter().filter(|call| call.is_one_of(&["pread64"])).count()
    };
    // The C library reads itself in the same way.
    assert!(reads("--metrics") < reads("--json"));
}

fn a_store_has_errors() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!([{ "directory": "/a" }])));
    machine.build().ok();
    let device = machine.disk().device.file_name().unwrap().to_owned();
    let ask = |form: &[&str]| {
        let (root, compiled) = (machine.at(""), machine.home().join("manifest"));
        let line = ["status", "--root", root.to_str().unwrap(), "--manifest", compiled.to_str().unwrap()];
        run(&[&[PROGRAM], &line[..], form].concat())
    };
    let found = agree(&ask(&["--json"]).ok(), &ask(&["--metrics"]).ok());
    assert_eq!(found["stores"][0]["errors"], 0);
    // The kernel's own way to have one.
    let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
    if let Err(error) = fs::write(&trigger, "a test\n") {
        return eprintln!("{}: {error}: no error was tried", trigger.display());
    }
    let found = agree(&ask(&["--json"]).expect(1), &ask(&["--metrics"]).expect(1));
    assert_eq!((&concerns(&found)[0][..], &found["stores"][0]["errors"]), ("store /persist", &json!(1)));
    says(
        &ask(&[]).stdout,
        &["store  /persist", "has recorded errors (1): see `dmesg`, and check it with fsck"],
    );
}

fn an_owner_does_not_exist() {
    let machine = started(json!([{ "directory": "/srv/plex", "user": "plex", "group": "media" }]));
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["owner /persist/srv/plex"]);
    assert_eq!(found["pending"], machine.report()["pending"]);
    says(
        &text,
        &[
            "owner  /persist/srv/plex",
            "waits for the user plex and the group media\n",
            "-> once users exist, run imp-mount --settle\n",
            "entries  1 pending\n",
        ],
    );
    assert_eq!(text.matches("--settle").count(), 1, "{text}");
    fs::create_dir_all(machine.at("/etc")).unwrap();
    fs::write(machine.at("/etc/passwd"), "plex:x:193:193::/:/bin/sh\n").unwrap();
    fs::write(machine.at("/etc/group"), "media:x:194:\n").unwrap();
    machine.run_live(&["--settle"]).ok();
    assert_eq!(status(&machine, 0).0["pending"], json!([]));
}

fn an_adopted_path() {
    let machine = started(json!([{ "directory": "/a" }]));
    fs::create_dir_all(machine.at("/var/lib/new")).unwrap();
    fs::write(machine.at("/var/lib/new/x"), "x").unwrap();
    machine.impctl("adopt", &["/var/lib/new"]).ok();
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["adopted /var/lib/new"]);
    let line = "environment.persistence.\"/persist\".directories = [ \"/var/lib/new\" ];";
    assert_eq!(
        found["since"]["adopted"],
        json!([{
            "target": "/var/lib/new", "source": "/persist/var/lib/new", "mounted": true, "named": false, "nix": line,
        }])
    );
    says(
        &text,
        &[
            "the next boot is without it",
            "-> add to the entries of the manifest: {\"directory\":\"/var/lib/new\"}\n",
            "  /var/lib/new  adopted\n",
        ],
    );

    // Of a NixOS.
    fs::create_dir_all(machine.at("/etc")).unwrap();
    fs::write(machine.at("/etc/NIXOS"), "").unwrap();
    says(&status(&machine, 1).1, &[&format!("-> add to the configuration: {line}\n")]);
    fs::remove_file(machine.at("/etc/NIXOS")).unwrap();

    // The content of a damaged record is unknown.
    let record = fs::read("/run/imp-mount/adopted.json").unwrap();
    fs::write("/run/imp-mount/adopted.json", &record[..record.len() / 2]).unwrap();
    assert_eq!(concerns(&status(&machine, 1).0), ["report /run/imp-mount/adopted.json"]);
    fs::write("/run/imp-mount/adopted.json", record).unwrap();

    // Record and report do not apply to another system.
    fs::create_dir_all("/tmp/other").unwrap();
    let compiled = machine.home().join("manifest");
    let other = ["status", "--root=/tmp/other", "--json", "--manifest", compiled.to_str().unwrap()];
    let found = json_of(&run(&[&[PROGRAM], &other[..]].concat()).expect(1), "status");
    assert_eq!(concerns(&found), ["root /", "store /persist", "not-mounted /a"]);
    assert_eq!((&found["boot"], &found["since"]["adopted"]), (&Value::Null, &json!([])));
    assert_eq!(found["since"]["changed"], json!([]));

    // An entry for a directory above counts if it mounts the same source.
    let named = |above: Value| {
        machine.manifest(&manifest(json!([{ "directory": "/a" }, above])));
        status(&machine, 1).0["since"]["adopted"][0]["named"].clone()
    };
    assert_eq!(named(json!({ "directory": "/var/lib" })), true);
    assert_eq!(named(json!({ "directory": "/var/lib", "source": "/other" })), false);
    machine.manifest(&manifest(json!([{ "directory": "/a" }])));

    // A file system over the path is not the adopted mount.
    sh_on("mount -t tmpfs -o mode=0700,uid=5 tmpfs", &[&machine.at("/var/lib/new")]);
    let (found, text) = status(&machine, 1);
    assert_eq!(
        (&found["since"]["adopted"][0]["mounted"], &found["since"]["adopted"][0]["nix"]),
        (&json!(false), &json!(line))
    );
    says(&text, &["it was adopted, and is not mounted any more"]);
    umount2(&machine.at("/var/lib/new"), MntFlags::empty()).unwrap();

    // A user without permission sees at least the mount.
    for path in ["/var/lib", "/persist/var/lib"] {
        fs::set_permissions(machine.at(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", INSIDE, "status", "--json"];
    let found = json_of(
        &machine.run_inside(&[&nobody[..], &["--manifest=/run/machine/manifest"]].concat()),
        "status",
    );
    assert_eq!(
        (&found["since"]["adopted"][0]["mounted"], &found["since"]["adopted"][0]["nix"]),
        (&json!(true), &json!(""))
    );

    umount2(&machine.at("/var/lib/new"), MntFlags::empty()).unwrap();
    says(&status(&machine, 1).1, &["it was adopted, and is not mounted any more"]);
    machine.manifest(&manifest(json!([{ "directory": "/a" }, { "directory": "/var/lib/new" }])));
    fs::remove_dir_all(machine.at("/var/lib/new")).unwrap();
    machine.run_live(&[]).ok();
    let (found, text) = status(&machine, 0);
    assert_eq!(found["since"]["adopted"][0]["named"], true);
    says(&text, &["/var/lib/new", "adopted, and in the manifest by now"]);
}

fn the_manifest_changes() {
    let machine =
        started(json!([{ "directory": "/old" }, { "directory": "/busy" }, { "file": "/etc/key-*" }]));
    machine.manifest(&manifest(json!([{ "directory": "/new" }, { "file": "/etc/key-*" }])));
    let (found, text) = status(&machine, 1);
    assert_eq!(
        (concerns(&found), &found["since"]["added"]),
        (vec!["missing /new".to_owned()], &json!(["/new"]))
    );
    let removed = |why: &str| json!([{ "target": "/busy", "why": why }, { "target": "/old", "why": "" }]);
    assert_eq!(found["since"]["removed"], removed(""));
    says(&text, &["/old", "no longer in the manifest: the next run takes it away\n"]);

    let user = fs::File::create(machine.at("/busy/open")).unwrap();
    machine.run_live(&[]).ok();
    let (found, text) = status(&machine, 0);
    assert_eq!(found["since"]["removed"][0]["target"], "/busy");
    assert_eq!(found["since"]["removed"].as_array().unwrap().len(), 1);
    assert_eq!(found["since"]["runs"], json!([machine.report()["runs"][1]]));
    says(&text, &["1 path put in place", "/busy", "no longer in the manifest: "]);
    drop(user);
    machine.run_live(&[]).ok();
    assert_eq!(status(&machine, 0).0["since"]["removed"], json!([]));
}

fn a_run_failed() {
    let machine = started(json!([{ "directory": "/a" }]));
    machine.manifest(&manifest(json!([{ "directory": "/a" }, { "directory": "/b" }])));
    fs::write(machine.at("/persist/b"), "no directory").unwrap();
    machine.run_live(&[]).expect(1);
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["run /", "wrong-source /b"]);
    says(
        &text,
        &[
            "the last one failed, and changed nothing",
            "-> correct each wrong source, as its line says\n-> correct these errors, then run imp-mount again",
            "a run failed, and changed nothing",
        ],
    );
    assert!(!text.contains("put in place what is not"), "{text}");
}

fn the_root_is_full() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&crate::roots::manifest(
        json!({ "size": "16M", "inodes": "2K" }),
        json!([{ "directory": "/a" }]),
    ));
    machine.build().ok();
    machine.switch_root();
    status(&machine, 0);
    for number in 0.. {
        if fs::write(machine.at(&format!("/file{number}")), "").is_err() {
            break;
        }
    }
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["root /"]);
    assert_eq!((&found["root"]["inodes"], &found["root"]["inodes_used"]), (&json!(2048), &json!(2048)));
    says(&text, &["100 % of its inodes are used: free some", "100%  /"]);
}

fn the_reader_of_metrics_is_strict() {
    let one = |sample: &str| format!("# HELP imp_mount_a A.\n# TYPE imp_mount_a gauge\n{sample}\n");
    let good = one(r#"imp_mount_a{b="\\\"\n",c=""} 1.5"#);
    let samples = metrics::parse(&good);
    assert_eq!(metrics::value(&samples, "imp_mount_a", &[("b", "\\\"\n"), ("c", "")]), Some(1.5));
    let bad = [
        good.trim_end().to_owned(),
        good.clone() + &good,
        good.clone() + "imp_mount_b 1\n",
        good.clone() + "\n",
        one("imp_mount_a"),
        one("imp_mount_a x"),
        one("imp_mount_a 1 2"),
        one("imp_mount_a{b=\"\n\"} 1"),
        one(r#"imp_mount_a{b="\t"} 1"#),
        one(r#"imp_mount_a{b="""} 1"#),
        one(r#"imp_mount_a{b="x} 1"#),
        one(r#"imp_mount_a{b="x" c="y"} 1"#),
        one(r#"imp_mount_a{b="x",b="y"} 1"#),
        one(r#"imp_mount_a{b-c="x"} 1"#),
        one("imp_mount_a 1\nimp_mount_a 2"),
        one("imp_mount_a 1").replace("gauge", "counter"),
        one("imp_mount_a_total 1").replace("imp_mount_a ", "imp_mount_a_total "),
        "imp_mount_a 1\n".to_owned(),
    ];
    for text in bad {
        assert!(std::panic::catch_unwind(|| metrics::parse(&text)).is_err(), "{text}");
    }
}
