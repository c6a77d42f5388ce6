//! Aborted and failed runs: no file is lost, and the next run continues.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use nix::errno::Errno;
use serde_json::json;

use super::{NEW, OLD, are_same, disks, interrupted, line, manifest, migrate, new, old, write};
use crate::support::inject::{Name, SAFE, changes, taken, trace};
use crate::support::trees::{self, Look};
use crate::support::{Call, Disk, Fs, Injected, Output, Snapshot, json_of, namespace, run};

/// A store that fills up during the copy, and then has room again.
pub fn a_store_that_fills_up() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 32);
    for number in 0..8 {
        write(old("srv/a").join(number.to_string()), &"x".repeat(1 << 20));
    }
    write(old("srv/b/one"), "one");
    manifest(json!([{ "directory": "/srv/a" }, { "directory": "/srv/b" }]));
    let mut written = 0;
    let output = interrupted("pwrite64", &[], || {
        written += 1;
        if written == 20 {
            store.fill();
        }
    });
    let output = output.expect(1);
    output.clone().says_in_one_line(&["error: /srv/a: cannot copy ", "No space left on device"]);
    assert!(output.stdout.contains("/tmp/new/.imp-mount/staging: 1 unfinished copy, "), "{output:?}");
    assert!(!new("srv/a").exists(), "no part of it is at its place");
    store.unfill();
    let dry = json_of(&migrate(&["--dry-run", "--json"]).ok(), "migrate");
    assert_eq!(dry["stores"][0]["unfinished"]["copies"], 1);
    let staging = new(".imp-mount/staging");
    let tree = fs::read_dir(staging).unwrap().next().unwrap().unwrap().path();
    let first = fs::metadata(tree.join("0")).unwrap().ino();
    let output = migrate(&[]).ok();
    assert!(
        output.stdout.contains("/tmp/new/.imp-mount/staging: went on with 1 unfinished copy, "),
        "{output:?}"
    );
    are_same(old("srv/a"), new("srv/a"), &output);
    assert_eq!(fs::metadata(new("srv/a/0")).unwrap().ino(), first, "what is whole is not copied again");
    assert!(!new(".imp-mount").exists());
}

/// Unneeded copies of an earlier run are removed, which makes room for new copies.
pub fn copies_that_are_of_no_use() {
    let (source, store) = (Disk::new(Fs::Ext4, 64), Disk::new(Fs::Ext4, 32));
    source.mount(OLD);
    store.mount(NEW);
    for (path, mib) in [("srv/a", 10), ("srv/b", 16)] {
        fs::create_dir_all(old(path)).unwrap();
        fs::write(old(path).join("large"), vec![1; mib << 20]).unwrap();
    }
    manifest(json!([{ "directory": "/srv/a" }]));
    // The first one is of the directory above.
    let killed = trace(&[Injected::Kill(Name::of("renameat2"), 1)], Path::new("/"), &words());
    assert_eq!(killed.0.signal, Some(9));
    let before = Snapshot::of(Path::new(NEW));
    manifest(json!([{ "directory": "/srv/b" }]));
    let output = migrate(&["--dry-run"]).ok();
    assert!(
        output.stdout.contains("/tmp/new/.imp-mount/staging: 1 unfinished copy, 11M; a run goes on"),
        "{output:?}"
    );
    assert_eq!(Snapshot::of(Path::new(NEW)), before);
    let output = migrate(&[]).ok();
    assert!(
        output.stdout.contains("/tmp/new/.imp-mount/staging: removed 1 unfinished copy, 11M"),
        "{output:?}"
    );
    are_same(old("srv/b"), new("srv/b"), &output);
    assert!(!new("srv/a").exists() && !new(".imp-mount").exists());
}

/// An unreadable file does not stop the other copies.
pub fn a_file_that_cannot_be_read() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    for name in ["one", "two", "three"] {
        write(old("srv/a").join(name), name);
    }
    write(old("srv/b/four"), "four");
    manifest(json!([{ "directory": "/srv/a" }, { "directory": "/srv/b" }]));
    let (output, calls) = trace(&[], Path::new("/"), &words());
    output.ok();
    run(&["rm", "-r", "/tmp/new/srv"]).ok();
    let mut reads = calls.iter().filter(|call| call.is_one_of(&["pread64"]));
    let bad = Injected::error(Errno::EIO, reads.nth(1).unwrap());
    let output = trace(&[bad], Path::new("/"), &words()).0.expect(1);
    output.clone().says_in_one_line(&["error: /srv/a: cannot copy three: ", "Input/output error"]);
    output.clone().says_in_one_line(&["error: /srv/a/three: it is not on the store"]);
    for path in ["srv/a/one", "srv/a/two", "srv/b/four"] {
        are_same(old(path), new(path), &output);
    }
    let output = migrate(&[]).ok();
    are_same(old("srv/a"), new("srv/a"), &output);
}

/// The command line for a traced run.
fn words() -> Vec<OsString> {
    line(&["--store", NEW]).into_iter().map(Into::into).collect()
}

pub fn a_store_that_goes_away() {
    let (_source, store) = disks(Fs::Ext4, Fs::Xfs, 16);
    trees::make(&old("srv/a"));
    manifest(json!([{ "directory": "/srv/a" }]));
    let mut is_up = true;
    let output = interrupted("symlinkat", &["--devices"], || {
        if std::mem::take(&mut is_up) {
            store.shut_down();
        }
    });
    output.expect(1).says_in_one_line(&["error: store /persist: "]);
    store.umount();
    store.mount(NEW);
    let output = migrate(&["--devices"]).ok();
    are_same(old("srv/a"), new("srv/a"), &output);
}

pub fn changes_during_the_copy_are_named() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    write(old("srv/a/log"), "one line\n");
    manifest(json!([{ "directory": "/srv/a" }]));
    // After everything was copied.
    let output = interrupted("syncfs", &[], || {
        write(old("srv/a/log"), "one line\ntwo\n");
        write(old("srv/a/new"), "new");
    });
    output.clone().expect(1).says_in_one_line(&["/srv/a/log: ", "differs in size", "--force"]);
    output.says_in_one_line(&["/srv/a/new: it is not on the store"]);
    migrate(&["--force", "/srv/a/log"]).ok();
    assert_eq!(fs::read_to_string(new("srv/a/log")).unwrap(), "one line\ntwo\n");
    // While one file is copied.
    write(old("srv/a/log"), "another line\n");
    let output =
        interrupted("pwrite64", &["--force", "/srv/a", "--no-verify"], || write(old("srv/a/log"), "x"));
    output.expect(1).says_in_one_line(&["/srv/a/log: it changed while it was copied", "--force"]);
}

/// Two small trees, the new one on a disk and made anew for every fault.
struct Case {
    _disk: Disk,
    words: Vec<OsString>,
}

type State = (Snapshot, [Option<Look>; 2]);

impl Case {
    fn new() -> Self {
        let disk = Disk::image(Path::new("/tmp/image"), Fs::Ext4, 32, "");
        disk.mount("/tmp/disk");
        fs::create_dir_all("/tmp/disk/new").unwrap();
        fs::create_dir_all(NEW).unwrap();
        namespace::bind("/tmp/disk/new", NEW);
        write(old("srv/a/one"), "one");
        write(old("srv/a/sub/two"), "two");
        fs::hard_link(old("srv/a/one"), old("srv/a/sub/again")).unwrap();
        symlink("one", old("srv/a/link")).unwrap();
        write(old("srv/b/three"), "three");
        write(old("etc/file"), "file");
        chown(old("srv/a/sub"), Some(3), Some(4)).unwrap();
        run(&["find", OLD, "-exec", "touch", "-hd@1000000000.25", "{}", "+"]).ok();
        manifest(json!([
            { "directory": "/srv/a" }, { "directory": "/srv/b", "source": "/moved" }, { "file": "/etc/file" },
        ]));
        Self { _disk: disk, words: words() }
    }

    /// The store's initial state: with an unrelated file, and a part of the copy.
    fn reset() {
        // Each run finds no lock and no report of another one.
        namespace::forget_run();
        for entry in fs::read_dir(NEW).unwrap().map(Result::unwrap) {
            run(&["rm".as_ref(), "-r".as_ref(), entry.path().as_os_str()]).ok();
        }
        write(new("srv/other/mine"), "mine");
        fs::create_dir(new("srv/a")).unwrap();
        run(&["cp", "-a", "/tmp/old/srv/a/one", "/tmp/new/srv/a"]).ok();
    }

    fn run(&self, faults: &[Injected]) -> (Output, Vec<Call>) {
        trace(faults, Path::new("/"), &self.words)
    }

    /// Runs again, and retries while the previous run's child ends.
    fn run_again() -> Output {
        let again = (0..100).map(|_| migrate(&[])).find(|again| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !again.stderr.contains("still at work")
        });
        again.unwrap()
    }

    fn state() -> State {
        let look = |path| new(path).exists().then(|| Look::of(&new(path)));
        (Snapshot::of(Path::new(NEW)), ["srv/a", "moved"].map(look))
    }

    /// The run without a fault: its result and its calls.
    fn reference(&self) -> (State, Vec<Call>) {
        Self::reset();
        let (output, calls) = self.run(&[]);
        output.ok();
        (Self::state(), calls)
    }
}

pub fn killed_at_any_moment() {
    let case = Case::new();
    let (expected, calls) = case.reference();
    for (_, call) in taken(&calls, [10, 1], changes) {
        Case::reset();
        let (output, _) = case.run(&[Injected::kill(&call)]);
        assert_eq!(output.signal, Some(9), "{call:?}: {output:?}");
        let (again, after) = (Case::run_again(), Case::state());
        assert!(
            again.code == Some(0) && after == expected,
            "{call:?}: {again:?} {after:#?} not {expected:#?}"
        );
    }
}

pub fn errors_when_something_changes() {
    fail([10, 1], changes);
}

pub fn errors_when_something_is_looked_at() {
    fail([70, 4], |call| !changes(call) && !call.is_one_of(SAFE));
}

fn fail(steps: [usize; 2], is: impl Fn(&Call) -> bool) {
    let case = Case::new();
    let (expected, calls) = case.reference();
    let source = || (Snapshot::of(Path::new(OLD)), Look::of(Path::new(OLD)));
    let source_before = source();
    Case::reset();
    let before = Case::state().0;
    for (number, call) in taken(&calls, steps, is) {
        // Not the same at every time, whatever the step.
        let errno = [Errno::EIO, Errno::ENOSPC, Errno::EPERM][number / steps[0] % 3];
        Case::reset();
        let (output, _) = case.run(&[Injected::error(errno, &call)]);
        let failed = Case::state();
        let found = format!("{errno} at {call:?}: {output:?}");
        assert_eq!(before.losses(&failed.0), [] as [&str; 0], "{found}");
        let is_said = match output.code {
            Some(0) => failed == expected || output.stderr.contains("warning: "),
            Some(1 | 2) => output.stderr.contains("error: "),
            _ => false,
        };
        assert!(is_said, "{found} {failed:#?} not {expected:#?}");
        let (again, after) = (Case::run_again(), Case::state());
        let found = format!("{found} {again:?} {after:#?} not {expected:#?}");
        assert!(again.code == Some(0) && after == expected, "{found}");
        assert!(source() == source_before, "{found}");
    }
}
