//! `impctl adopt` stopped, killed, refused by the kernel, and written to by others, at each of its system calls.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::alarm;
use serde_json::json;

use crate::ctl_adopt::adopted;
use crate::live::manifest;
use crate::support::inject::{Act, SAFE, changes, taken};
use crate::support::trees::{self, Look};
use crate::support::{Call, Disk, Fs, Injected, Machine, Output, Root, Snapshot};

tests![
    killed_at_any_moment: Disk Inject,
    errors_at_any_change: Disk Inject,
    errors_at_any_look: Disk Inject,
    written_at_any_moment: Disk Inject,
    closed_at_any_moment: Disk Inject,
    mapped_at_any_moment: Disk Inject,
    not_mounted_before_its_line_in_utab: Disk Inject,
];

type State = (Look, bool, Vec<String>);

/// A small tree on a running machine, made anew for every fault.
struct Case {
    _disk: Disk,
    machine: Machine,
}

const WORDS: &[&str] = &["/srv/app"];

impl Case {
    fn new() -> Self {
        let disk = Disk::image(Path::new("/tmp/image"), Fs::Ext4, 16, "");
        disk.mount("/tmp/disk");
        let machine = Machine::new(Root::Nothing, Disk::folder(Path::new("/tmp/disk/one")));
        machine.manifest(&manifest(json!([{ "directory": "/var/lib/named" }])));
        Self { _disk: disk, machine }
    }

    fn reset(&self) {
        let Self { machine, .. } = self;
        machine.power_off();
        machine.disk().erase();
        machine.power_on();
        machine.build().ok();
        machine.switch_root();
        let place = machine.at("/srv/app");
        trees::small(&place);
        trees::set_times(&place);
    }

    fn run(&self, faults: &[Injected]) -> (Output, Vec<Call>) {
        self.machine.trace_impctl(faults, "adopt", WORDS)
    }

    /// The path, its mount, and everything on the store.
    fn state(&self) -> State {
        let place = self.machine.at("/srv/app");
        let store = self.machine.disk().snapshot().news(&Snapshot::default());
        (Look::of(&place), self.machine.mount_at("/srv/app").is_some(), store)
    }
}

/// Without a fault: before, after, and the calls.
fn reference(case: &Case) -> (State, State, Vec<Call>) {
    case.reset();
    let before = case.state();
    let (output, calls) = case.run(&[]);
    output.ok();
    let after = case.state();
    assert_eq!(before.0.differences(&after.0), [] as [&str; 0]);
    (before, after, calls)
}

/// Visible differences of a tree, without the mark of an incomplete copy.
fn seen_differences(one: &State, other: &State) -> Vec<String> {
    let differences = one.0.differences(&other.0).into_iter();
    differences.filter(|line| !line.contains(" trusted.imp-mount.adopting=")).collect()
}

fn killed_at_any_moment() {
    let case = Case::new();
    let (before, expected, calls) = reference(&case);
    for (_, call) in taken(&calls, [10, 1], changes) {
        case.reset();
        let (output, _) = case.run(&[Injected::kill(&call)]);
        assert_eq!(output.signal, Some(9), "{call:?}: {output:?}");
        let killed = case.state();
        assert_eq!(seen_differences(&before, &killed), [] as [&str; 0], "{call:?}");
        let again = case.machine.impctl("adopt", WORDS);
        let after = case.state();
        assert!(
            again.code == Some(0) && after == expected,
            "{call:?}: {again:?} {after:#?} not {expected:#?}"
        );
        assert_eq!(adopted()["entries"].as_array().unwrap().len(), 1, "{call:?}");
    }
}

fn errors_at_any_change() {
    fail([10, 1], changes);
}

fn errors_at_any_look() {
    fail([70, 32], |call| !changes(call) && !call.is_one_of(SAFE));
}

fn fail(steps: [usize; 2], is: impl Fn(&Call) -> bool) {
    let case = Case::new();
    let (before, expected, calls) = reference(&case);
    for (number, call) in taken(&calls, steps, is) {
        alarm::set(crate::PATIENCE);
        let errno = [Errno::EIO, Errno::ENOSPC, Errno::EPERM][number / steps[0] % 3];
        case.reset();
        let (output, _) = case.run(&[Injected::error(errno, &call)]);
        let failed = case.state();
        assert_eq!(seen_differences(&before, &failed), [] as [&str; 0], "{errno} at {call:?}: {output:?}");
        let said = output.stderr.contains("error: ") || output.stderr.contains("warning: ");
        let done = output.code == Some(0) && failed == expected;
        assert!(done || said, "{errno} at {call:?}: {output:?}");
        assert!(matches!(output.code, Some(0..=2)), "{errno} at {call:?}: {output:?}");
        let again = case.machine.impctl("adopt", WORDS);
        let after = case.state();
        let found = format!("{errno} at {call:?}: {output:?} {again:?} {after:#?} not {expected:#?}");
        assert!(again.code == Some(0) && after == expected, "{found}");
    }
}

/// A change of the tree by another process.
#[derive(Debug, Clone, Copy)]
struct Change {
    path: &'static str,
    make: fn(&Path),
    is_seen: fn(&Path) -> bool,
}

const CHANGES_OF_OTHERS: &[Change] = &[
    Change {
        path: "large",
        make: |path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        is_seen: |path| fs::read(path).unwrap().ends_with(b"more"),
    },
    Change {
        path: "sub/new",
        make: |path| fs::write(path, "new").unwrap(),
        is_seen: |path| fs::read(path).is_ok_and(|content| content == b"new"),
    },
    Change {
        path: "one",
        make: |path| {
            fs::write(path.with_extension("part"), "other").unwrap();
            fs::rename(path.with_extension("part"), path).unwrap();
        },
        is_seen: |path| fs::read(path).unwrap() == b"other",
    },
    Change {
        path: "sub",
        make: |path| fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap(),
        is_seen: |path| fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o711,
    },
    Change {
        path: "link",
        make: |path| fs::remove_file(path).unwrap(),
        is_seen: |path| fs::symlink_metadata(path).is_err(),
    },
    Change {
        path: "sub/two",
        // The same size and time as before.
        make: |path| {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "TWO").unwrap();
            File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        },
        is_seen: |path| fs::read(path).unwrap() == b"TWO",
    },
];

/// The stops of a run, and the number of each call with this name.
fn stops(case: &Case, words: &[&str]) -> Vec<Call> {
    case.reset();
    let mut calls = Vec::new();
    let note: &mut Act<'_> = &mut |entry| {
        calls.push(entry.call);
        true
    };
    case.machine.interrupt_impctl("adopt", words, note).ok();
    calls
}

/// True for the same call in two runs. The number of calls on processes varies.
fn is(one: Call, other: Call) -> bool {
    (one.name, one.nth) == (other.name, other.nth)
}

/// The tested stops, `own` in a developer's own runs: all accesses to the tree or its copy, from the survey to the end.
fn chosen(calls: &[Call], own: usize) -> Vec<Call> {
    const OF_TREES: &[&str] = &[
        "fcntl",
        "linkat",
        "mkdirat",
        "mknodat",
        "move_mount",
        "open_tree",
        "openat2",
        "pread64",
        "renameat2",
        "setxattr",
        "symlinkat",
        "syncfs",
        "unlinkat",
        "utimensat",
    ];
    let most = match std::env::var("IMP_MOUNT_TEST_FAULTS").as_deref() {
        Err(_) => own,
        Ok("all") => usize::MAX,
        Ok(_) => 60,
    };
    let chosen: Vec<_> = calls.iter().copied().filter(|call| call.is_one_of(OF_TREES)).collect();
    assert!(chosen.len() > 20, "{calls:?}");
    // From the end, which is the critical part.
    let step = chosen.len().div_ceil(most);
    chosen.into_iter().rev().step_by(step).collect()
}

/// Every change by others is at the path, or reported.
#[track_caller]
fn is_kept_or_told(case: &Case, change: Change, output: &Output, when: &str) {
    let place = case.machine.at("/srv/app").join(change.path);
    let path = format!("/srv/app/{}", change.path);
    // Named as changed, or with the process of the open file.
    let told = [format!("error: {path}: "), format!("writes to {path}, which")];
    let told = told.iter().any(|words| output.stderr.contains(words));
    let seen = (change.is_seen)(&place);
    assert!(seen || told, "{change:?} {when}: lost without a word: {output:?}");
    assert!(seen || output.code == Some(1), "{change:?} {when}: {output:?}");
    if !seen {
        // The remedy shows the change.
        let machine = &case.machine;
        let script = "mkdir -p /run/below && mount --bind / /run/below";
        machine.run_inside(&["sh", "-c", script]).ok();
        let below = machine.at("/run/below/srv/app").join(change.path);
        assert!((change.is_seen)(&below), "{change:?} {when}: {output:?}");
        machine.run_inside(&["umount", "/run/below"]).ok();
    }
}

/// A program that opens a file by its path, changes the file and closes it again.
fn written_at_any_moment() {
    let case = Case::new();
    let calls = stops(&case, WORDS);
    let mut told = 0;
    for (number, call) in chosen(&calls, 20).into_iter().enumerate() {
        let change = CHANGES_OF_OTHERS[number % CHANGES_OF_OTHERS.len()];
        case.reset();
        let place = case.machine.at("/srv/app").join(change.path);
        let mut is_done = false;
        let output = case.machine.interrupt_impctl("adopt", WORDS, &mut |entry| {
            if is(entry.call, call) {
                (change.make)(&place);
                is_done = true;
            }
            !is_done
        });
        if is_done {
            is_kept_or_told(&case, change, &output, &format!("before {call:?}"));
            told += usize::from(output.code == Some(1));
        }
    }
    assert!(told > 0, "there is a moment for which nothing else can be done");
}

/// A program that keeps the covered file open, writes to it, and closes it later.
fn closed_at_any_moment() {
    let case = Case::new();
    let words = &["--open", "/srv/app"];
    let calls = stops(&case, words);
    let begin = calls.iter().position(|call| call.is_one_of(&["renameat2"])).unwrap();
    let change = CHANGES_OF_OTHERS[0];
    for call in chosen(&calls[begin + 1..], 6) {
        case.reset();
        let (mut file, mut is_done) = (None, false);
        let output = case.machine.interrupt_impctl("adopt", words, &mut |entry| {
            if is(entry.call, calls[begin]) {
                file = Some(File::options().append(true).open(case.machine.at("/srv/app/large")).unwrap());
            }
            if is(entry.call, call)
                && let Some(mut file) = file.take()
            {
                file.write_all(b"more").unwrap();
                is_done = true;
            }
            !is_done
        });
        if is_done {
            is_kept_or_told(&case, change, &output, &format!("closed before {call:?}"));
        }
    }
}

/// A program with a mapping, which writes through a page read before: no time of the file changes.
fn mapped_at_any_moment() {
    let case = Case::new();
    let calls = stops(&case, WORDS);
    let begin = calls.iter().position(|call| call.is_one_of(&["mkdirat"])).unwrap();
    let change =
        Change { is_seen: |path| fs::read(path).unwrap().starts_with(b"mapped"), ..CHANGES_OF_OTHERS[0] };
    for call in chosen(&calls[begin + 1..], 6) {
        case.reset();
        let (mut map, mut is_done) = (None, false);
        let output = case.machine.interrupt_impctl("adopt", WORDS, &mut |entry| {
            if is(entry.call, calls[begin]) {
                map = Some(Mapping::new(&case.machine.at("/srv/app/large")));
            }
            if is(entry.call, call)
                && let Some(map) = map.take()
            {
                map.write(b"mapped");
                is_done = true;
            }
            !is_done
        });
        if is_done {
            is_kept_or_told(&case, change, &output, &format!("unmapped before {call:?}"));
        }
    }
}

/// A page of a file in this process's memory.
struct Mapping(*mut u8);

#[allow(unsafe_code)]
impl Mapping {
    fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: the kernel chooses the address of the mapping, which lives until the drop.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, shared, file.as_raw_fd(), 0) };
        assert_ne!(place, libc::MAP_FAILED);
        let map = Self(place.cast());
        // SAFETY: the page is mapped.
        assert_eq!(unsafe { map.0.read_volatile() }, b'x');
        map
    }

    fn write(self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: the page is mapped, and has room for some bytes.
            unsafe { self.0.add(at).write_volatile(*byte) };
        }
    }
}

#[allow(unsafe_code)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping.
        unsafe { libc::munmap(self.0.cast(), 4096) };
    }
}

fn not_mounted_before_its_line_in_utab() {
    let case = Case::new();
    case.reset();
    let mut seen = 0;
    case.machine
        .interrupt_impctl("adopt", WORDS, &mut |entry| {
            if case.machine.mount_at("/srv/app").is_some() {
                let utab = fs::read_to_string("/run/mount/utab").unwrap();
                assert!(utab.contains(" TARGET=/srv/app "), "before {:?}: {utab}", entry.call);
                seen += 1;
            }
            true
        })
        .ok();
    assert!(seen > 0);
}
