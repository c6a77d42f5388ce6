//! Systems without a run, users who are not root, hostile names, and output.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use super::metrics;
use super::{INSIDE, PROGRAM, agree, concerns, says, status};
use crate::live::{manifest, started};
use crate::support::command::installed;
use crate::support::{Disk, Fs, Machine, Root, run};

pub fn a_system_that_waits_to_be_converted() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    machine.manifest(&crate::roots::manifest(
        json!({ "convert": "/persist" }),
        json!([{ "directory": "/var/lib/plex" }]),
    ));
    machine.switch_root();
    machine.run_live(&[]).ok();
    let (found, text) = status(&machine, 1);
    assert_eq!((concerns(&found), &found["boot"]), (vec!["root /".to_owned()], &Value::Null));
    says(&text, &["the next boot turns it into a tmpfs", "-> boot the machine", "entries  1 later\n"]);
}

pub fn switched_off() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!([{ "directory": "/a" }])));
    machine.cmdline("imp-mount=off");
    machine.build().ok();
    machine.switch_root();
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["run /"]);
    says(
        &text,
        &[
            "imp-mount=off: persistent paths are neither mounted",
            "-> boot without imp-mount=off",
            "entries  1 skipped\n",
        ],
    );
}

/// The manifest in the initrd is damaged; that of the system may be well.
pub fn a_manifest_that_a_run_could_not_read() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!([{ "directory": "/srv" }])));
    let compiled = machine.home().join("manifest");
    let good = fs::read(&compiled).unwrap();
    fs::write(&compiled, &good[..good.len() / 2]).unwrap();
    machine.build().expect(2);
    machine.build().expect(2);
    machine.cmdline("imp-mount=off");
    machine.build().ok();
    machine.cmdline("");
    let runs = machine.report()["runs"].as_array().unwrap().clone();
    let outcomes: Vec<_> = runs.iter().map(|run| run["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "failed", "off"]);
    fs::write(&compiled, good).unwrap();
    machine.build().ok();
    machine.switch_root();
    status(&machine, 0);

    // A run on the running system.
    let manifest = fs::read(&compiled).unwrap();
    fs::write(&compiled, "{}").unwrap();
    machine.run_live(&[]).expect(2);
    fs::write(&compiled, manifest).unwrap();
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), ["run /", "run /"]);
    let what = found["attention"][1]["what"].as_str().unwrap();
    assert!(what.ends_with("/manifest: this is the text form; compile it with `impctl compile`"), "{what}");
    says(
        &text,
        &["the last one failed, and changed nothing", "-> correct these errors, then run imp-mount again"],
    );
    machine.run_live(&[]).ok();
    status(&machine, 0);
}

pub fn never_booted() {
    let root = Path::new("/tmp/root");
    fs::create_dir_all(root).unwrap();
    let ask = |words: &[&str]| run(&[&[PROGRAM, "status", "--root", "/tmp/root"], words].concat());
    let output = ask(&[]).expect(2).says(&[
        "neither a manifest nor a report",
        "imp-mount is not in use here",
        "--manifest",
    ]);
    assert!(!output.stdout.contains("well"), "{output:?}");
    let found = agree(&ask(&["--json"]).expect(2), &ask(&["--metrics"]).expect(2));
    assert!(found["unknown"].as_str().unwrap().contains("neither"), "{found:#}");

    // With a manifest there are entries to check, and they fail.
    fs::write("/tmp/manifest.json", manifest(json!([{ "directory": "/a" }])).to_string()).unwrap();
    let words = |more: &'static [&str]| [&["--manifest", "/tmp/manifest.json"], more].concat();
    let found = agree(&ask(&words(&["--json"])).expect(1), &ask(&words(&["--metrics"])).expect(1));
    // For another system the state of its boot is unknown.
    assert_eq!(concerns(&found), ["root /", "store /persist", "not-mounted /a"]);
    let ask = |words: &[&str]| run(&[&[PROGRAM, "status"], words].concat());
    let found = agree(&ask(&words(&["--json"])).expect(1), &ask(&words(&["--metrics"])).expect(1));
    assert_eq!(concerns(&found)[0], "report /run/imp-mount/report.json");
    says(&ask(&words(&[])).stdout, &["it was not booted with imp-mount"]);
}

pub fn unreadable_files() {
    let root = Path::new("/tmp/root");
    fs::create_dir_all(root.join("etc/imp-mount")).unwrap();
    fs::write(root.join("etc/imp-mount/manifest"), "nonsense").unwrap();
    let ask = |words: &[&str]| run(&[&[PROGRAM, "status", "--root", "/tmp/root"], words].concat());
    ask(&[]).expect(2).says(&["/tmp/root/etc/imp-mount/manifest: "]);
    agree(&ask(&["--json"]).expect(2), &ask(&["--metrics"]).expect(2));
    run(&[PROGRAM, "status", "--root", "/tmp/nowhere"])
        .expect(2)
        .says(&["error: /tmp/nowhere: ", "No such file"]);
    ask(&["--json", "--metrics"]).expect(2);
    ask(&["-o", "/tmp/out"]).expect(2);
    // Whoever may write the report may say anything.
    fs::write("/tmp/manifest.json", manifest(json!([])).to_string()).unwrap();
    fs::create_dir("/run/imp-mount").unwrap();
    fs::write("/run/imp-mount/report.json", "{}").unwrap();
    fs::set_permissions("/run/imp-mount/report.json", fs::Permissions::from_mode(0o666)).unwrap();
    let output = run(&[PROGRAM, "status", "--manifest", "/tmp/manifest.json"]).expect(1);
    says(
        &output.stdout,
        &["report  /run/imp-mount/report.json", "others than root can write to it", "run imp-mount"],
    );
}

pub fn as_another_user() {
    let machine = started(json!([
        { "directory": "/srv" },
        { "directory": "/secret", "mode": "0700" },
        { "directory": "/root/.ssh", "mode": "0700" },
        { "file": "/root/.keys-*" },
    ]));
    machine.impctl("status", &[]).ok();
    let ask = |who: &[&str], form: &str| {
        let line = [INSIDE, "status", "--manifest=/run/machine/manifest", "--cmdline=/dev/null", form];
        machine.run_inside(&[who, &line].concat())
    };
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let found = agree(&ask(&nobody, "--json").ok(), &ask(&nobody, "--metrics").ok());
    assert_eq!(found["unseen"], json!(["/root/.keys-*", "/root/.ssh"]), "{found:#}");
    assert_eq!(found["entries"].as_array().unwrap().len(), 2, "{found:#}");
    let text = ask(&nobody, "--root=/").ok().stdout;
    assert!(text.starts_with("OK, except for entries that only root can read.\n"), "{text}");
    says(
        &text,
        &["2 ok, 2 paths not seen\n", "not seen /root/.ssh\n", "-> run it as root to see everything\n"],
    );
    // A fault visible to this user is reported.
    umount2(&machine.at("/srv"), MntFlags::empty()).unwrap();
    umount2(&machine.at("/root/.ssh"), MntFlags::empty()).unwrap();
    let found = agree(&ask(&nobody, "--json").expect(1), &ask(&nobody, "--metrics").expect(1));
    assert_eq!(concerns(&found), ["not-mounted /srv"]);
    // Without any readable entry the command fails.
    fs::set_permissions(machine.at("/persist"), fs::Permissions::from_mode(0o700)).unwrap();
    ask(&nobody, "--root=/").expect(2).says(&["may look at none of the entries", "root"]);
}

pub fn a_store_that_only_root_may_look_at() {
    let stores = vec![("/persist", Disk::new(Fs::Ext4, 8)), ("/mnt/persist", Disk::new(Fs::Ext4, 8))];
    let machine = Machine::with_stores(Root::Nothing, stores);
    let entries = json!([
        { "directory": "/a", "store": "/persist" },
        { "directory": "/b", "store": "/mnt/persist" },
    ]);
    let stores = json!([{ "path": "/persist" }, { "path": "/mnt/persist" }]);
    machine.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
    machine.build().ok();
    machine.switch_root();
    status(&machine, 0);
    fs::set_permissions(machine.at("/mnt"), fs::Permissions::from_mode(0o700)).unwrap();
    let ask = |form: &str| {
        let line = [INSIDE, "status", "--manifest=/run/machine/manifest", "--cmdline=/dev/null", form];
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        machine.run_inside(&[&nobody[..], &line].concat())
    };
    let found = agree(&ask("--json").ok(), &ask("--metrics").ok());
    assert_eq!(found["unseen"], json!(["/mnt/persist", "/b"]), "{found:#}");
    assert_eq!(found["stores"].as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(found["next"], json!(["run it as root to see everything"]));
    says(&ask("--root=/").ok().stdout, &["entries  1 ok, 2 paths not seen\n", "not seen /mnt/persist\n"]);
}

pub fn hostile_names() {
    let names =
        ["/a\nimp_mount_status 0", "/b\\", "/c\"} 1", "/d \u{1b}[2J", "/e\u{202e}", "/f {path=\"x\"}"];
    let entries: Vec<_> = names.iter().map(|name| json!({ "directory": name })).collect();
    let machine = started(entries.into());
    for name in names {
        umount2(&machine.at(name), MntFlags::empty()).unwrap();
    }
    let (found, text) = status(&machine, 1);
    assert_eq!(concerns(&found), names.map(|name| format!("not-mounted {name}")));
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("\nimp_mount"), "{text:?}");
    let samples = metrics::parse(&machine.impctl("status", &["--metrics"]).expect(1).stdout);
    for name in names {
        // In the form of all other output: alerts copy the label into mails and chats.
        let shown = imp_mount::text::escape::name(name);
        let labels = [("path", &*shown), ("state", "not-mounted")];
        assert_eq!(metrics::value(&samples, "imp_mount_entry_problem", &labels), Some(1.0), "{name:?}");
    }
}

pub fn a_file_of_metrics() {
    let machine = started(json!([{ "directory": "/a" }]));
    let folder = machine.at("/run/textfile");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("imp-mount.prom");
    fs::write(&file, "old").unwrap();
    let reader = fs::File::open(&file).unwrap();
    let write = |path: &str| machine.impctl("status", &["--metrics", "-o", path]);
    assert_eq!(write("/run/textfile/imp-mount.prom").ok().stdout, "");
    // A reader of the old file reads all of it, and the new file is readable by all users.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    metrics::parse(&fs::read_to_string(&file).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    // The written file reports the problem, and so does the exit status.
    umount2(&machine.at("/a"), MntFlags::empty()).unwrap();
    write("/run/textfile/imp-mount.prom").expect(1);
    let samples = metrics::parse(&fs::read_to_string(&file).unwrap());
    assert_eq!(metrics::value(&samples, "imp_mount_status", &[]), Some(1.0));
    // A FIFO of another program in its place is neither waited for nor written to.
    fs::remove_file(&file).unwrap();
    run(&["mkfifo".as_ref(), file.as_os_str()]).ok();
    write("/run/textfile/imp-mount.prom").expect(2).says(&["no regular file"]);
    fs::remove_file(&file).unwrap();
    run(&["mknod", machine.at("/run/textfile/device").to_str().unwrap(), "c", "1", "7"]).ok();
    symlink("device", &file).unwrap();
    write("/run/textfile/imp-mount.prom").expect(1);
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    write("/nowhere/imp-mount.prom")
        .expect(2)
        .says(&["/nowhere/imp-mount.prom: writing: its directory is not there: mkdir -p /nowhere\n"]);
}

pub fn for_terminals_and_pipes() {
    let machine = started(json!([{ "directory": "/a" }, { "directory": "/srv/something-with-a-long-name" }]));
    umount2(&machine.at("/srv/something-with-a-long-name"), MntFlags::empty()).unwrap();
    let piped = machine.impctl("status", &[]).expect(1).stdout;
    assert!(!piped.contains('\x1b'), "{piped}");
    let line = format!("{INSIDE} status --manifest /run/machine/manifest --cmdline /dev/null");
    // Whoever has seen enough is no error, and makes nothing well.
    let closed = format!("exec 3> >(:); wait $!; {line} --metrics >&3");
    assert_eq!(machine.run_inside(&["bash", "-c", &closed]).expect(1).stderr, "");
    if !installed("script") {
        return eprintln!("script(1) is not installed: no terminal was tried");
    }
    let on_terminal = |columns: u32, before: &str| {
        let line = format!("stty rows 24 cols {columns}; TERM=xterm {before} {line}");
        machine.run_inside(&["script", "-qec", &line, "/dev/null"]).expect(1).stdout.replace('\r', "")
    };
    assert!(on_terminal(150, "").contains('\x1b'));
    assert_eq!(on_terminal(150, "NO_COLOR=1"), piped);
    let narrow = on_terminal(40, "NO_COLOR=1");
    says(&narrow, &["not mounted  /srv/something-with-a-long-name\n               nothing is mounted there"]);
    assert!(!on_terminal(30, "NO_COLOR=1").contains("INODES"));
    let (_, facts) = narrow.split_once("\n\n").unwrap();
    let (facts, _) = facts.split_once("\n\n").unwrap();
    assert!(facts.lines().count() > 2, "{narrow}");
    for line in facts.lines() {
        assert!(line.chars().count() <= 40, "{line:?} in\n{narrow}");
    }
}
