//! Several processes that change the same system at once: the result equals the result of one.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::live::{manifest, report, started, state};
use crate::support::command::sh;
use crate::support::look::{mounts_below, stat};
use crate::support::{Machine, Running, is_thorough, mounts};

tests![
    runs_at_once: Disk,
    settling_beside_runs: Disk,
    bringing_files_beside_runs: Disk,
    adopting_beside_runs: Disk,
    a_holder_that_is_killed: Disk,
    a_holder_that_is_stopped: Disk,
    everything_that_changes_waits: Disk,
    a_lock_that_is_taken_away: Disk,
    only_root_can_hold_it: Disk,
    a_manifest_that_changes_meanwhile: Disk,
];

const LOCK: &str = "/run/imp-mount/lock";
/// The path inside and outside; a program with this manifest holds the lock until data is written to the FIFO.
const FIFO: &str = "/run/machine/fifo";

/// A run that holds the lock and waits for its manifest.
fn holder(machine: &Machine) -> Running {
    let _ = fs::remove_file(FIFO);
    sh(format!("mkfifo {FIFO}"));
    let holder = machine.start_live(&["--manifest", FIFO]);
    let words = format!("imp-mount (process {})\n", holder.pid());
    while fs::read_to_string(LOCK).unwrap_or_default() != words {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    holder
}

/// Lets a holder go on.
fn release() {
    let compiled = fs::read("/run/machine/manifest").unwrap();
    fs::File::options().write(true).open(FIFO).unwrap().write_all(&compiled).unwrap();
}

fn waits_for(holder: &Running) -> String {
    format!("warning: waiting for imp-mount (process {})", holder.pid())
}

/// Each path is mounted, once, is in the report, and has one line in utab.
#[track_caller]
fn is_whole(machine: &Machine, paths: &[String]) {
    let utab = fs::read_to_string("/run/mount/utab").unwrap();
    for path in paths {
        assert_eq!(
            mounts_below(&machine.at(path)).len(),
            1,
            "{path}: {:#?}",
            mounts_below(&machine.at(path))
        );
        assert_eq!(state(path), "mounted");
        let line = format!(" TARGET={path} ");
        assert_eq!(utab.lines().filter(|one| one.contains(&line)).count(), 1, "{path}: {utab}");
    }
    assert_eq!(leftovers(), [] as [&str; 0]);
}

/// Unexpected files in /run/imp-mount.
fn leftovers() -> Vec<String> {
    let names =
        fs::read_dir("/run/imp-mount").unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    let known = ["lock", "report.json", "adopted.json", "guard"];
    names.filter(|name| !known.contains(&name.as_str())).collect()
}

fn pending() -> Vec<String> {
    let report = report();
    let mut paths: Vec<_> = report["pending"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap().to_owned())
        .collect();
    paths.sort();
    paths
}

/// Waits for all of them; each must succeed.
#[track_caller]
fn all_succeed(running: Vec<Running>) {
    for one in running {
        one.end().ok();
    }
}

/// Repetitions of a test with random order.
fn rounds(most: u32) -> u32 {
    if is_thorough() { most } else { 4 }
}

fn runs_at_once() {
    const ENTRIES: usize = 12;
    let machine = started(json!([{ "directory": "/base" }]));
    let (base, few) = (manifest(json!([{ "directory": "/base" }])), mounts().len());
    let mut names: Vec<_> = (0..ENTRIES).map(|number| format!("/d{number}")).collect();
    let mut entries = vec![json!({ "directory": "/base" })];
    entries.extend(names.iter().map(|name| json!({ "directory": name, "user": "nobody-yet" })));
    names.sort();
    for (at_once, rounds) in [(2, rounds(30)), (4, rounds(15))] {
        for _ in 0..rounds {
            machine.manifest(&manifest(json!(entries)));
            let runs = report()["runs"].as_array().unwrap().len();
            all_succeed((0..at_once).map(|_| machine.start_live(&[])).collect());
            is_whole(&machine, &names);
            assert_eq!(mounts().len(), few + ENTRIES);
            assert_eq!(pending(), names);
            let placed: Vec<_> = report()["runs"].as_array().unwrap()[runs.min(64 - at_once)..]
                .iter()
                .map(|run| run["placed"].clone())
                .collect();
            assert_eq!(placed.iter().filter(|placed| **placed == json!(ENTRIES)).count(), 1, "{placed:?}");
            assert_eq!(
                placed.iter().filter(|placed| **placed == json!(0)).count(),
                at_once - 1,
                "{placed:?}"
            );
            machine.manifest(&base);
            machine.run_live(&[]).ok();
            for name in &names {
                fs::remove_dir(machine.at("/persist").join(&name[1..])).unwrap();
            }
        }
        println!("{rounds} rounds of {at_once} runs at once");
    }
}

fn settling_beside_runs() {
    let rounds = rounds(25);
    let entries = |more: bool| {
        let mut entries = vec![json!({ "directory": "/a", "user": "late", "mode": "0750" })];
        if more {
            entries
                .extend((0..8).map(|number| json!({ "directory": format!("/b{number}"), "user": "never" })));
        }
        manifest(json!(entries))
    };
    let machine = started(json!([]));
    fs::create_dir_all(machine.at("/etc")).unwrap();
    let names: Vec<_> = (0..8).map(|number| format!("/b{number}")).collect();
    for round in 0..rounds {
        fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        machine.manifest(&entries(false));
        machine.run_live(&[]).ok();
        assert_eq!(pending(), ["/a"], "round {round}");
        fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\nlate:x:77:0::/:/bin/sh\n").unwrap();
        machine.manifest(&entries(true));
        // The settling one may come before or after the other.
        let (run, settling) = (machine.start_live(&[]), machine.start_live(&["--settle"]));
        run.end().ok();
        assert!(matches!(settling.end().code, Some(0 | 1)));
        assert_eq!(stat(machine.at("/a")), (0o040_750, 77, 0), "round {round}");
        assert_eq!(pending(), names, "round {round}");
        is_whole(&machine, &names);
        machine.manifest(&manifest(json!([])));
        machine.run_live(&[]).ok();
        for name in names.iter().map(String::as_str).chain(["/a"]) {
            fs::remove_dir(machine.at("/persist").join(&name[1..])).unwrap();
        }
        // A removed path is pending no longer, so its user need not exist.
        fs::write(machine.at("/etc/passwd"), "never:x:78:0::/:/bin/sh\n").unwrap();
        machine.run_live(&["--settle"]).ok();
    }
    println!("{rounds} rounds of a run beside --settle");
}

fn bringing_files_beside_runs() {
    let rounds = rounds(25);
    let entries = |more: &[Value]| {
        let copy = json!({ "file": "/etc/copy", "method": "copy", "missing": "create" });
        manifest(json!([&[copy], more].concat()))
    };
    let machine = started(json!([]));
    for round in 0..rounds {
        machine.manifest(&entries(&[]));
        machine.run_live(&[]).ok();
        let words = format!("round {round}");
        fs::write(machine.at("/etc/copy"), &words).unwrap();
        machine.manifest(&entries(&[json!({ "directory": "/a" }), json!({ "directory": "/b" })]));
        all_succeed(vec![machine.start_live(&["--adopt"]), machine.start_live(&[])]);
        assert_eq!(fs::read_to_string(machine.at("/persist/etc/copy")).unwrap(), words);
        assert_eq!(fs::read_to_string(machine.at("/etc/copy")).unwrap(), words);
        is_whole(&machine, &["/a".to_owned(), "/b".to_owned()]);
    }
    println!("{rounds} rounds of a run beside --adopt");
}

fn adopting_beside_runs() {
    let rounds = rounds(15);
    let machine = started(json!([{ "directory": "/base" }]));
    let mut adopted = Vec::new();
    for round in 0..rounds {
        let both = ["x", "y"].map(|name| format!("/var/lib/{name}{round}"));
        for path in &both {
            fs::create_dir_all(machine.at(path)).unwrap();
            fs::write(machine.at(path).join("file"), path).unwrap();
        }
        let more = (0..5).map(|number| json!({ "directory": format!("/d{round}.{number}") }));
        machine.manifest(&manifest(more.collect()));
        all_succeed(vec![
            machine.start_impctl("adopt", &[&both[0]]),
            machine.start_live(&[]),
            machine.start_impctl("adopt", &[&both[1]]),
        ]);
        adopted.extend(both);
        adopted.sort();
        let record: Value =
            serde_json::from_slice(&fs::read("/run/imp-mount/adopted.json").unwrap()).unwrap();
        let known: Vec<_> =
            record["entries"].as_array().unwrap().iter().map(|one| one["target"].clone()).collect();
        let mut known: Vec<_> = known.iter().map(|target| target.as_str().unwrap()).collect();
        known.sort_unstable();
        assert_eq!(known, adopted);
        for path in &adopted {
            assert_eq!(mounts_below(&machine.at(path)).len(), 1, "{path}");
            let kept = machine.at("/persist").join(&path[1..]).join("file");
            assert_eq!(fs::read_to_string(kept).unwrap(), *path);
        }
        is_whole(&machine, &(0..5).map(|number| format!("/d{round}.{number}")).collect::<Vec<_>>());
    }
    println!("{rounds} rounds of two impctl adopt and a run");
}

fn a_holder_that_is_killed() {
    let rounds = rounds(10);
    let machine = started(json!([{ "directory": "/srv" }]));
    for _ in 0..rounds {
        let holder = holder(&machine);
        let waiting: Vec<_> = (0..3).map(|_| machine.start_live(&[])).collect();
        holder.signal(Signal::KILL);
        assert_eq!(holder.end().signal, Some(9));
        all_succeed(waiting);
    }
    // A finished holder leaves nothing of itself in the lock file.
    assert_eq!((stat(LOCK), fs::metadata(LOCK).unwrap().len()), ((0o100_600, 0, 0), 0));
    is_whole(&machine, &["/srv".to_owned()]);
    println!("{rounds} rounds of a killed holder and three that wait");
}

fn a_holder_that_is_stopped() {
    let machine = started(json!([{ "directory": "/srv" }]));
    let holder = holder(&machine);
    holder.signal(Signal::STOP);
    let waiting = [machine.start_live(&["--quiet"]), machine.start_live(&["--settle"])];
    for one in &waiting {
        one.await_words(&waits_for(&holder));
    }
    // Whoever only looks waits for nothing.
    machine.run_live(&["--check"]).ok();
    machine.run_live(&["--plan"]).ok();
    machine.impctl("status", &[]).ok();
    holder.signal(Signal::CONT);
    release();
    holder.end().ok();
    for one in waiting {
        let output = one.end().ok();
        assert_eq!(output.stderr.matches("waiting for").count(), 1, "{output:?}");
    }
}

fn everything_that_changes_waits() {
    let machine = started(json!([{ "directory": "/srv" }]));
    fs::create_dir_all(machine.at("/var/lib/new")).unwrap();
    let holder = holder(&machine);
    machine.impctl("migrate", &["--from", "/", "--dry-run"]).ok();
    let waiting = vec![
        machine.start_live(&[]),
        machine.start_live(&["--settle"]),
        machine.start_live(&["--adopt"]),
        machine.start_impctl("adopt", &["/var/lib/new"]),
        machine.start_impctl("migrate", &["--from", "/"]),
    ];
    for one in &waiting {
        one.await_words(&waits_for(&holder));
    }
    assert!(machine.mount_at("/var/lib/new").is_none());
    // The descriptor is close-on-exec: child programs do not inherit the lock.
    let held: Vec<_> = fs::read_dir(format!("/proc/{}/fd", holder.pid()))
        .unwrap()
        .map(|fd| fd.unwrap())
        .filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.ends_with(&LOCK[1..])))
        .collect();
    assert_eq!(held.len(), 1);
    let name = held[0].file_name().into_string().unwrap();
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/{name}", holder.pid())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    assert_ne!(u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000, 0, "no O_CLOEXEC: {info}");
    release();
    holder.end().ok();
    all_succeed(waiting);
    assert!(machine.mount_at("/var/lib/new").is_some());
}

fn a_lock_that_is_taken_away() {
    let machine = started(json!([{ "directory": "/srv" }]));
    for folder in [false, true] {
        let one = holder(&machine);
        let waiting = machine.start_live(&["--settle"]);
        waiting.await_words(&waits_for(&one));
        if folder {
            fs::rename("/run/imp-mount", "/run/moved").unwrap();
        } else {
            fs::remove_file(LOCK).unwrap();
        }
        one.signal(Signal::KILL);
        one.end();
        // The waiting run holds the lock at the usual path.
        waiting.end().ok();
        assert_eq!(stat(LOCK), (0o100_600, 0, 0));
    }
}

fn only_root_can_hold_it() {
    let machine = started(json!([{ "directory": "/srv" }]));
    assert_eq!((stat("/run/imp-mount"), stat(LOCK)), ((0o040_755, 0, 0), (0o100_600, 0, 0)));
    let denied = machine.run_inside(&[
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "flock",
        "--nonblock",
        LOCK,
        "true",
    ]);
    assert_ne!(denied.code, Some(0), "{denied:?}");
    // Made by another user, or open to locks by others.
    let before = mounts();
    let refused = |words: &str| {
        for verb in [&[][..], &["--settle"], &["--adopt"]] {
            machine.run_live(verb).expect(2).says_in_one_line(&["error: cannot take the lock", LOCK, words]);
        }
        for line in [["adopt", "/var/lib/new"].as_slice(), &["migrate", "--from", "/"]] {
            machine.impctl(line[0], &line[1..]).expect(2).says(&["cannot take the lock", words]);
        }
    };
    fs::set_permissions(LOCK, Permissions::from_mode(0o644)).unwrap();
    refused("others than root can hold it; remove it");
    fs::remove_file(LOCK).unwrap();
    fs::write("/run/other", "kept").unwrap();
    symlink("/run/other", LOCK).unwrap();
    refused("Too many levels of symbolic links");
    fs::remove_file(LOCK).unwrap();
    fs::create_dir(LOCK).unwrap();
    refused("directory");
    fs::remove_dir(LOCK).unwrap();
    fs::set_permissions("/run/imp-mount", Permissions::from_mode(0o777)).unwrap();
    for verb in [&[][..], &["--settle"], &["--adopt"]] {
        let output = machine.run_live(verb).expect(2);
        output.says_in_one_line(&["cannot use /run/imp-mount", "others than root can write to it"]);
    }
    fs::set_permissions("/run/imp-mount", Permissions::from_mode(0o755)).unwrap();
    assert_eq!((fs::read_to_string("/run/other").unwrap().as_str(), mounts()), ("kept", before));
    // With any umask, all users may read the files of a run.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    sh("rm -r /run/imp-mount");
    machine.run_live(&["--settle"]).ok();
    assert_eq!((stat("/run/imp-mount"), stat(LOCK)), ((0o040_755, 0, 0), (0o100_600, 0, 0)));
    machine.run_live(&[]).ok();
    assert_eq!(stat("/run/imp-mount/report.json"), (0o100_644, 0, 0));
}

/// A run that waited must not undo the newer manifest.
fn a_manifest_that_changes_meanwhile() {
    let machine = started(json!([{ "directory": "/old" }]));
    let holder = holder(&machine);
    let waiting = machine.start_live(&[]);
    waiting.await_words(&waits_for(&holder));
    machine.manifest(&manifest(json!([{ "directory": "/new" }])));
    fs::copy(machine.home().join("manifest"), Path::new("/run/machine/manifest")).unwrap();
    release();
    holder.end().ok();
    waiting.end().ok();
    assert!(machine.mount_at("/new").is_some() && machine.mount_at("/old").is_none());
}
