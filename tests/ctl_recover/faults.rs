//! Aborted and failed runs, and users who rename files meanwhile: existing files stay complete, and the next run continues.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::alarm;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{are_same, make, read, recover, write};
use crate::live::manifest;
use crate::support::inject::{SAFE, changes};
use crate::support::trees::{self, Look};
use crate::support::{Call, Disk, Fs, Injected, Machine, Root, Snapshot, is_thorough, namespace, run};

/// A small tree in an old root, and a running machine, newly made for every fault.
struct Case {
    _disk: Disk,
    machine: Machine,
}

const WORDS: &[&str] = &["/srv/app", "/var/lib/named/state"];

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
        let root = make(&machine.at("/persist"), 1, "disk", "an earlier one");
        let app = root.join("srv/app");
        trees::small(&app);
        write(root.join("var/lib/named/state/file"), "old");
        // An existing directory with missing files.
        write(machine.at("/srv/app/own"), "own");
        for dir in [&root, &machine.at("/srv")] {
            trees::set_times(dir);
        }
    }

    fn state(&self) -> (Look, Look) {
        // The modification time of changed directories.
        for dir in ["/srv/app", "/var/lib/named"] {
            run(&["touch".as_ref(), "-d@1000000000.5".as_ref(), self.machine.at(dir).as_os_str()]).ok();
        }
        (Look::of(&self.machine.at("/srv")), Look::of(&self.machine.at("/var/lib/named")))
    }

    /// Existing files are unchanged, no part of a file is at its place, and the old root is untouched.
    fn is_sound(&self, old: &Look, context: &str) {
        let machine = &self.machine;
        assert_eq!(read(machine.at("/srv/app/own")), "own", "{context}");
        let root = machine.at("/persist/.imp-mount/roots/1/root");
        assert_eq!(old.differences(&Look::of(&root)), [] as [&str; 0], "{context}");
        for (path, size) in [("one", 3), ("sub/two", 3), ("large", 100_000)] {
            if let Ok(meta) = fs::metadata(machine.at("/srv/app").join(path)) {
                assert_eq!(meta.size(), size, "{path}: {context}");
            }
        }
    }
}

/// One of so many calls, in a developer's own runs and in others.
fn step([own, all]: [usize; 2]) -> usize {
    if is_thorough() { all } else { own }
}

pub fn killed_at_any_moment() {
    let case = Case::new();
    case.reset();
    let root = Look::of(&case.machine.at("/persist/.imp-mount/roots/1/root"));
    let (output, calls) = case.machine.trace_impctl(&[], "recover", WORDS);
    output.ok();
    let wanted = case.state();
    let changes: Vec<_> = calls.iter().filter(|call| changes(call)).collect();
    assert!(changes.len() > 30, "{}", changes.len());
    for call in changes.into_iter().step_by(step([6, 1])) {
        case.reset();
        let (killed, _) = case.machine.trace_impctl(&[Injected::kill(call)], "recover", WORDS);
        let context = format!("{call:?}: {killed:?}");
        assert_eq!(killed.signal, Some(9), "{context}");
        case.is_sound(&root, &context);
        let again = recover(&case.machine, WORDS).ok();
        let context = format!("{context}, then {again:?}");
        let now = case.state();
        assert_eq!(wanted.0.differences(&now.0), [] as [&str; 0], "{context}");
        assert_eq!(wanted.1.differences(&now.1), [] as [&str; 0], "{context}");
        for top in ["/", "/var/lib/named"] {
            assert!(!case.machine.at(top).join(".imp-mount").exists(), "{context}");
        }
    }
}

pub fn errors_at_any_change() {
    fail(step([6, 1]), changes);
}

pub fn errors_at_any_look() {
    fail(step([70, 16]), |call| !changes(call) && !call.is_one_of(SAFE));
}

fn fail(step: usize, is: impl Fn(&Call) -> bool) {
    let case = Case::new();
    case.reset();
    let root = Look::of(&case.machine.at("/persist/.imp-mount/roots/1/root"));
    let (output, calls) = case.machine.trace_impctl(&[], "recover", WORDS);
    output.ok();
    let wanted = case.state();
    for (number, call) in calls.iter().filter(|call| is(call)).enumerate().step_by(step) {
        alarm::set(crate::PATIENCE);
        case.reset();
        let errno = [Errno::ENOSPC, Errno::EIO][number / step % 2];
        let (failed, _) = case.machine.trace_impctl(&[Injected::error(errno, call)], "recover", WORDS);
        let context = format!("{call:?}, {errno}: {failed:?}");
        case.is_sound(&root, &context);
        let is_same = |context: &str| {
            let now = case.state();
            assert_eq!(wanted.0.differences(&now.0), [] as [&str; 0], "{context}");
            assert_eq!(wanted.1.differences(&now.1), [] as [&str; 0], "{context}");
        };
        // Output, hints and the removal of empty directories may fail.
        match failed.code {
            Some(0) => is_same(&context),
            code => assert!(matches!(code, Some(1 | 2)), "{context}"),
        }
        let again = recover(&case.machine, WORDS).ok();
        is_same(&format!("{context}, then {again:?}"));
    }
}

/// A sandbox, or a kernel, without openat2(2): the manifest and the names of users are read all the same.
pub fn without_openat2() {
    let machine = super::started();
    let root = super::old(&machine, 1);
    write(root.join("etc/passwd"), "plex:x:193:193::/:/bin/sh\n");
    write(root.join("etc/group"), "plex:x:193:\n");
    write(machine.at("/etc/passwd"), "plex:x:200:200::/:/bin/sh\n");
    write(machine.at("/etc/static/group"), "plex:x:201:\n");
    symlink("/etc/static/group", machine.at("/etc/group")).unwrap();
    write(root.join("srv/x"), "x");
    chown(root.join("srv/x"), Some(193), Some(193)).unwrap();
    for fault in [Injected::missing("openat2"), Injected::denied("openat2")] {
        let (output, _) = machine.trace_impctl(&[fault], "recover", &["/srv/x"]);
        let output = output.ok();
        let found = fs::metadata(machine.at("/srv/x")).unwrap();
        assert_eq!((found.uid(), found.gid()), (200, 201), "{output:?}");
        fs::remove_file(machine.at("/srv/x")).unwrap();
    }
}

/// A place with too little room is left alone; if the place fills up meanwhile, complete files stay, and the next run copies
/// the rest.
pub fn a_place_that_fills_up() {
    let machine = super::started();
    let root = super::old(&machine, 1);
    fs::create_dir_all(root.join("data/large")).unwrap();
    for number in 0..4 {
        fs::write(root.join("data/large").join(number.to_string()), vec![b'x'; 1 << 20]).unwrap();
    }
    write(root.join("data/small/one"), "one");
    fs::create_dir(machine.at("/data")).unwrap();
    namespace::tmpfs(machine.at("/data"), "mode=0755,size=2M");
    let before = Snapshot::of(&machine.at("/data"));
    let output = recover(&machine, &["/data/large", "/data/small"]).expect(1);
    output.says_in_one_line(&[
        "error: /data: not everything fits: 4.1M are needed, and 2.0M are free",
        "nothing was written",
    ]);
    assert_eq!(Snapshot::of(&machine.at("/data")), before);

    run(&["mount".as_ref(), "-o".as_ref(), "remount,size=8M".as_ref(), machine.at("/data").as_os_str()]).ok();
    let mut written = 0;
    let filler = machine.at("/data/filler");
    let output = machine.interrupt_impctl("recover", &["/data/small", "/data/large"], &mut |entry| {
        written += usize::from(entry.call.is_one_of(&["pwrite64"]));
        if written == 20 && !filler.exists() {
            // tmpfs takes no more than fits.
            let _ = fs::write(&filler, vec![b'x'; 8 << 20]);
        }
        true
    });
    let words = "/data/large: nothing of root 1 on /persist is brought\n";
    assert!(output.stdout.contains(words), "{output:?}");
    output.expect(1).says(&["error: /data/large: cannot copy ", "No space left on device"]);
    assert!(!machine.at("/data/large").exists());
    assert_eq!(read(machine.at("/data/small/one")), "one");
    fs::remove_file(&filler).unwrap();
    let output = recover(&machine, &["/data/small", "/data/large"]).ok();
    are_same(root.join("data/large"), machine.at("/data/large"), &output);
    assert!(!machine.at("/data/.imp-mount").exists());
}

/// A user exchanges a name in a directory of his own with a link while root copies to there.
pub fn a_user_at_the_destination() {
    let machine = super::started();
    let root = super::old(&machine, 1);
    let home = |top: &Path| {
        for dir in ["home/u", "home/u/d"] {
            fs::create_dir_all(top.join(dir)).unwrap();
            chown(top.join(dir), Some(1000), Some(1000)).unwrap();
        }
    };
    home(&root);
    write(root.join("home/u/d/sub/file"), "mine");
    write(root.join("home/u/d/file"), "mine");
    let victim = machine.at("/victim");
    let reset = || {
        let _ = fs::remove_dir_all(machine.at("/home"));
        let _ = fs::remove_dir_all(&victim);
        let _ = fs::remove_dir_all(machine.at("/.imp-mount"));
        home(&machine.at(""));
        write(victim.join("kept"), "root's");
        fs::set_permissions(&victim, Permissions::from_mode(0o700)).unwrap();
        symlink("/victim", machine.at("/home/u/x")).unwrap();
    };
    reset();
    let (output, calls) = machine.trace_impctl(&[], "recover", &["/home/u/d"]);
    output.ok();
    for at in (0..calls.len()).step_by(if is_thorough() { 3 } else { 40 }) {
        reset();
        let before = Snapshot::of(&victim);
        let mut number = 0;
        let output = machine.interrupt_impctl("recover", &["/home/u/d"], &mut |_| {
            number += 1;
            if number == at {
                let (one, two) = (machine.at("/home/u/d"), machine.at("/home/u/x"));
                renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
            }
            number <= at
        });
        assert_eq!(Snapshot::of(&victim), before, "call {at} of {}: {output:?}", calls.len());
    }
}
