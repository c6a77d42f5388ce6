//! Damaged state in /run is never taken for empty state. The file is kept and reported, and no file is lost or
//! overwritten because of it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::live::{inside, manifest, report, started, state};
use crate::support::look::stat;
use crate::support::trees;
use crate::support::{Disk, Fs, Injected, Machine, Root, is_thorough, mounts};

tests![
    a_report_that_cannot_be_used: Disk,
    killed_before_there_is_another: Disk Inject,
    a_record_that_cannot_be_used: Disk,
    pending_paths_are_found_again_in_the_initrd: Disk,
    lines_of_others_in_utab_stay: Disk,
    a_user_holds_the_lock_of_libmount: Disk Inject,
];

const REPORT: &str = "/run/imp-mount/report.json";
const RECORD: &str = "/run/imp-mount/adopted.json";

/// Replaces a document by an unusable one.
type Damage = fn(&Path, &[u8]);

/// Each with words of its error.
const DAMAGES: [(&str, Damage); 14] = [
    ("EOF while parsing", |path, _| fs::write(path, "").unwrap()),
    ("EOF while parsing", |path, whole| fs::write(path, &whole[..whole.len() / 2]).unwrap()),
    ("trailing characters", |path, whole| fs::write(path, [whole, whole].concat()).unwrap()),
    ("expected value", |path, _| fs::write(path, "\0\0\0\0\0\0\0\0").unwrap()),
    ("expected value", |path, _| fs::write(path, "\u{fffd}\n\u{1b}[31m").unwrap()),
    ("missing field", |path, _| fs::write(path, "{}").unwrap()),
    ("is of version 2, and this program reads 1", |path, _| {
        fs::write(path, r#"{ "version": 2, "new": [] }"#).unwrap();
    }),
    ("not in path order", |path, whole| {
        let mut text: Value = serde_json::from_slice(whole).unwrap();
        let entries = text["entries"].as_array_mut().unwrap();
        entries.extend_from_within(..1);
        fs::write(path, text.to_string()).unwrap();
    }),
    ("others than root can write to it", |path, whole| {
        fs::write(path, whole).unwrap();
        chown(path, Some(65534), None).unwrap();
    }),
    ("others than root can write to it", |path, whole| {
        fs::write(path, whole).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
    }),
    ("1073741825 bytes", |path, _| File::create(path).unwrap().set_len((1 << 30) + 1).unwrap()),
    ("symbolic link", |path, whole| {
        fs::write("/run/elsewhere", whole).unwrap();
        symlink("/run/elsewhere", path).unwrap();
    }),
    ("a directory", |path, _| fs::create_dir(path).unwrap()),
    ("No such device or address", |path, _| trees::socket(path)),
];

/// The file at the path of a document: its mode, owner, size and, if short, content.
fn look(path: &Path) -> (u32, u32, u64, Vec<u8>) {
    let found = fs::symlink_metadata(path).unwrap();
    let short = found.is_file() && found.len() < 1 << 20;
    let content = if short { fs::read(path).unwrap() } else { Vec::new() };
    let (mode, uid, _) = stat(path);
    (mode, uid, found.len(), content)
}

/// Puts each of the damages in place, one after the other.
fn each_damage(path: &str, mut tried: impl FnMut(&str, &Path)) {
    let path = Path::new(path);
    for (number, (words, damage)) in DAMAGES.into_iter().enumerate() {
        let whole = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        damage(path, &whole);
        let damaged = look(path);
        let name = path.file_name().unwrap().to_str().unwrap();
        let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let aside = path.with_file_name(format!("{name}.unreadable{suffix}"));
        tried(words, &aside);
        assert_eq!(look(&aside), damaged, "{words}");
        // The new one is readable for all users, and writable for root.
        assert_eq!(stat(path), (0o100_644, 0, 0), "{words}");
    }
    let kept = fs::read_dir("/run/imp-mount")
        .unwrap()
        .filter(|name| name.as_ref().unwrap().file_name().to_str().unwrap().contains(".unreadable"));
    assert_eq!(kept.count(), DAMAGES.len());
}

fn a_report_that_cannot_be_used() {
    let all = json!([
        { "directory": "/gone" },
        { "directory": "/waits", "user": "late", "mode": "0750" },
        { "file": "/etc/copy", "method": "copy", "missing": "create" },
        { "file": "/etc/new-*" },
    ]);
    let machine = started(all.clone());
    let fewer = json!(all.as_array().unwrap()[1..]);
    fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    let mut round = 0;
    each_damage(REPORT, |words, aside| {
        machine.manifest(&manifest(fewer.clone()));
        let (before, damaged) = (mounts(), look(Path::new(REPORT)));
        // A read-only command reports the file, and changes nothing.
        let check = machine.run_live(&["--check"]).expect(1);
        assert!(
            check
                .stdout
                .contains("report              PROBLEM: /run/imp-mount/report.json: it cannot be used: "),
            "{check:?}"
        );
        assert!(check.stdout.contains(words) && check.stdout.contains("run imp-mount"), "{words}: {check:?}");
        let check: Value =
            serde_json::from_str(&machine.run_live(&["--check", "--json"]).expect(1).stdout).unwrap();
        assert!(check["report"].as_str().unwrap().contains(words) && check["problems"] == 1, "{check:#}");
        let status: Value =
            serde_json::from_str(&machine.impctl("status", &["--json"]).expect(1).stdout).unwrap();
        let concern = &status["attention"][0];
        assert_eq!((&concern["kind"], &concern["at"]), (&json!("report"), &json!(REPORT)), "{status:#}");
        assert!(concern["what"].as_str().unwrap().contains(words), "{status:#}");
        // `--settle` does not claim that no owner is pending.
        machine.run_live(&["--settle"]).expect(2).says_in_one_line(&[REPORT, words, "run imp-mount, which"]);
        // A possibly newer file on the store stays, and the root's is kept beside it.
        fs::write(machine.at("/persist/etc/copy"), "the store's").unwrap();
        fs::write(machine.at("/etc/copy"), format!("the root's {round}")).unwrap();
        fs::create_dir_all(machine.at("/etc")).unwrap();
        let new = format!("/etc/new-{round}");
        fs::write(machine.at(&new), "new").unwrap();
        machine.run_live(&["--adopt"]).expect(1).says_in_one_line(&["error: ", REPORT, words]);
        assert_eq!(fs::read_to_string(machine.at("/persist/etc/copy")).unwrap(), "the store's");
        let beside = machine.at("/persist/etc/copy.imp-mount-conflict");
        assert_eq!(fs::read_to_string(&beside).unwrap(), format!("the root's {round}"));
        fs::remove_file(beside).unwrap();
        assert_eq!(fs::read_to_string(machine.at("/persist").join(&new[1..])).unwrap(), "new");
        assert_eq!((look(Path::new(REPORT)), mounts()), (damaged, before.clone()));
        fs::remove_file(machine.at(&new)).unwrap();
        fs::remove_file(machine.at("/persist").join(&new[1..])).unwrap();
        fs::copy(machine.at("/etc/copy"), machine.at("/persist/etc/copy")).unwrap();

        // A run keeps the document, and uses the mounts in place.
        let name = aside.file_name().unwrap().to_str().unwrap();
        let output = machine.run_live(&[]).ok();
        let said = ["warning: ", REPORT, words, "it is kept as ", name, "stays until the next boot"];
        assert_eq!(mounts(), before);
        assert_eq!(state("/waits"), "mounted");
        assert_eq!(state("/etc/copy"), "copied");
        let report = report();
        assert_eq!(report["runs"].as_array().unwrap().len(), 1);
        assert!(report["runs"][0]["warnings"][0].as_str().unwrap().contains(name), "{report:#}");
        assert_eq!(
            (&report["pending"][0]["path"], &report["pending"][0]["mode"]),
            (&json!("/waits"), &json!("0750"))
        );
        output.says_in_one_line(&said);
        let check = machine.run_live(&["--check"]).ok();
        assert!(check.stdout.contains(name), "{check:?}");
        let status: Value =
            serde_json::from_str(&machine.impctl("status", &["--json"]).expect(1).stdout).unwrap();
        assert!(
            status["attention"].as_array().unwrap().iter().any(|one| one["at"] == aside.to_str().unwrap()),
            "{status:#}"
        );
        machine.run_live(&["--settle"]).expect(1);
        round += 1;
    });
    // A mount missing in the report stays, and is known again with an entry.
    assert!(machine.mount_at("/gone").is_some());
    machine.manifest(&manifest(all));
    machine.run_live(&[]).ok();
    machine.manifest(&manifest(fewer));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/gone").is_none());
    fs::write(machine.at("/etc/passwd"), "late:x:77:0::/:/bin/sh\n").unwrap();
    machine.run_live(&["--settle"]).ok();
    assert_eq!(stat(machine.at("/waits")), (0o040_750, 77, 0));
}

/// At no moment does an unusable report look like a missing one.
fn killed_before_there_is_another() {
    let machine = started(json!([{ "directory": "/waits", "user": "late" }]));
    fs::create_dir(machine.at("/etc")).unwrap();
    fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(REPORT, "damaged").unwrap();
    let whole = machine.trace_live(&[], &[]);
    let calls = whole.1;
    assert_eq!(report()["pending"][0]["path"], "/waits");
    let from = calls.iter().position(|call| call.is_one_of(&["linkat"])).unwrap();
    let (mut killed, step) = (0, if is_thorough() { 1 } else { 4 });
    for call in calls[from - 1..].iter().step_by(step) {
        fs::write(REPORT, "damaged").unwrap();
        let (output, _) = machine.trace_live(&[Injected::kill(call)], &[]);
        if output.signal.is_none() {
            continue;
        }
        killed += 1;
        let settling = machine.run_live(&["--settle"]);
        // The report is damaged still, or a new one has the pending path.
        let now = fs::read(REPORT).unwrap();
        assert_eq!(settling.code, Some(if now == b"damaged" { 2 } else { 1 }), "{call:?}: {settling:?}");
        machine.run_live(&[]).ok();
        assert_eq!(report()["pending"][0]["path"], "/waits", "{call:?}");
    }
    println!("killed at {killed} system calls");
    assert!(killed > 10 / step);
    // Each was kept, once.
    let kept = fs::read_dir("/run/imp-mount").unwrap().map(|name| name.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_str().unwrap().contains(".unreadable")).collect();
    assert!(kept.iter().all(|path| fs::read(path).unwrap() == b"damaged"));
    assert!(!Path::new("/run/imp-mount/report.json.new").exists());
}

fn a_record_that_cannot_be_used() {
    let machine = started(json!([{ "directory": "/srv" }]));
    fs::create_dir_all(machine.at("/var/lib/first")).unwrap();
    machine.impctl("adopt", &["/var/lib/first"]).ok();
    let mut round = 0;
    each_damage(RECORD, |words, aside| {
        let damaged = look(Path::new(RECORD));
        let status: Value =
            serde_json::from_str(&machine.impctl("status", &["--json"]).expect(1).stdout).unwrap();
        let concern = &status["attention"][0];
        assert_eq!((&concern["kind"], &concern["at"]), (&json!("report"), &json!(RECORD)), "{status:#}");
        assert!(concern["what"].as_str().unwrap().contains(words), "{status:#}");
        // The mount is none of a run's.
        machine.run_live(&[]).ok();
        machine.run_live(&["--check"]).ok();
        assert_eq!(look(Path::new(RECORD)), damaged);
        let path = format!("/var/lib/more{round}");
        fs::create_dir_all(machine.at(&path)).unwrap();
        let output = machine.impctl("adopt", &[&path]).ok();
        let name = aside.file_name().unwrap().to_str().unwrap();
        output.says_in_one_line(&["warning: ", RECORD, words, "it is kept as ", name, "stays mounted"]);
        assert!(machine.mount_at(&path).is_some() && machine.mount_at("/var/lib/first").is_some());
        let record: Value = serde_json::from_slice(&fs::read(RECORD).unwrap()).unwrap();
        assert_eq!(
            (record["entries"].as_array().unwrap().len(), &record["entries"][0]["target"]),
            (1, &json!(path))
        );
        round += 1;
    });
    // An unusable report stops no adoption, and is left to a run.
    fs::write(REPORT, "damaged").unwrap();
    fs::create_dir_all(machine.at("/var/lib/last")).unwrap();
    machine.impctl("adopt", &["/var/lib/last"]).ok();
    assert_eq!(fs::read(REPORT).unwrap(), b"damaged");
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/var/lib/last").is_some());
}

/// The report of the run in the initrd is damaged when the system runs; its pending paths get their owners all the same.
fn pending_paths_are_found_again_in_the_initrd() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/home/u/deep/er", "user": "late", "parents": { "user": "late", "mode": "0711" } },
        { "file": "/etc/made", "user": "late", "mode": "0640", "missing": "create" },
    ]);
    machine.manifest(&manifest(entries));
    machine.build().ok();
    let pending = |report: &Value| {
        let mut all: Vec<_> = report["pending"].as_array().unwrap().iter().map(Value::to_string).collect();
        all.sort();
        all
    };
    let before = pending(&report());
    assert!(before.len() >= 4, "{before:?}");
    fs::write(REPORT, "damaged").unwrap();
    machine.build().ok().says_in_one_line(&["warning: ", REPORT, "known only by the mark"]);
    assert_eq!(pending(&report()), before);
}

fn lines_of_others_in_utab_stay() {
    fs::create_dir("/run/mount").unwrap();
    // No UTF-8, and without an end of the last line.
    let foreign = b"SRC=//nas/\xff\xfe TARGET=/mnt/\xe4 ROOT=/ OPTS=user=me\nSRC=//nas/y TARGET=/mnt/y ROOT=/ OPTS=uid=0";
    fs::write("/run/mount/utab", foreign).unwrap();
    let machine = started(json!([{ "directory": "/srv" }, { "directory": "/more" }]));
    let text = fs::read("/run/mount/utab").unwrap();
    let ours = text.strip_prefix(&foreign[..]).unwrap().strip_prefix(b"\n").unwrap();
    assert_eq!(str::from_utf8(ours).unwrap().lines().count(), 2);
    machine.manifest(&manifest(json!([])));
    machine.run_live(&[]).ok();
    assert_eq!(fs::read("/run/mount/utab").unwrap(), [&foreign[..], b"\n"].concat());
    // A link is not followed.
    fs::write("/run/kept", "kept").unwrap();
    for name in ["utab", "utab.event", "utab.lock"] {
        let path = Path::new("/run/mount").join(name);
        let _ = fs::remove_file(&path);
        symlink("/run/kept", &path).unwrap();
        machine.manifest(&manifest(json!([{ "directory": format!("/{name}") }])));
        machine.run_live(&[]).ok().says_in_one_line(&["warning: ", "/run/mount/utab", "symbolic link"]);
        assert_eq!(fs::read_to_string("/run/kept").unwrap(), "kept");
        fs::remove_file(&path).unwrap();
    }
}

/// Any user may open utab.lock, and so hold the lock. Runs try for 200 ms, every 5 ms or more, and then go on without.
fn a_user_holds_the_lock_of_libmount() {
    let machine = started(json!([{ "directory": "/srv" }]));
    // One process, so that its end releases the lock.
    let script = "exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \
                  'exec 9</run/mount/utab.lock; flock 9; echo ready; exec sleep 100'";
    let mut holder = inside(&machine, script);
    machine.manifest(&manifest(json!([{ "directory": "/srv" }, { "directory": "/new" }])));
    let (output, calls) = machine.trace_live(&[], &[]);
    output.ok();
    // Its own lock, and twice libmount's: before a mount, and after.
    let tries = calls.iter().filter(|call| call.is_one_of(&["flock"])).count() - 1;
    assert!((2..=82).contains(&tries), "{tries}");
    assert!(holder.try_wait().unwrap().is_none());
    let lines = fs::read_to_string("/run/mount/utab").unwrap();
    assert!(lines.contains(" TARGET=/srv ") && lines.contains(" TARGET=/new "), "{lines}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}
