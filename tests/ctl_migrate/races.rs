//! A user who exchanges names in directories of his own while root copies them: at each system call.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{NEW, OLD, disks, line, manifest, new, old, write};
use crate::support::inject::{calls_of, interrupt};
use crate::support::look::stat;
use crate::support::{Fs, Snapshot, is_thorough, run};

/// A home on the system, and a directory closed to its user.
fn fill(root: &str) {
    for path in
        ["home/u/d/file", "home/u/d/sub/file", "home/u/e/file", "root/secret", "root/sub/file", "root/file"]
    {
        write(Path::new(root).join(path), "mine");
    }
    for path in ["root/secret", "root/file", "root/sub/file"] {
        fs::write(Path::new(root).join(path), "secret").unwrap();
    }
    fs::set_permissions(Path::new(root).join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    run(&["chown", "-R", "1000:1000", &format!("{root}/home/u")]).ok();
}

/// A name in the user's directory becomes a link, or a directory with other content, for the rest of the run.
fn attack(dir: &Path, victim: &str) {
    let (name, other) = (dir.join("d"), dir.join("x"));
    if other.symlink_metadata().is_err() {
        symlink(victim, &other).unwrap();
    }
    // Not there yet: the next call.
    let _ = renameat_with(CWD, &name, CWD, &other, RenameFlags::EXCHANGE);
}

fn words() -> Vec<OsString> {
    line(&["--store", NEW]).into_iter().map(Into::into).collect()
}

/// One call of so many is taken: in others, and in a developer's own runs.
fn step() -> usize {
    if is_thorough() { 3 } else { 40 }
}

fn reset(store: bool) {
    let root = if store { NEW } else { OLD };
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        run(&["rm".as_ref(), "-rf".as_ref(), entry.path().as_os_str()]).ok();
    }
}

pub fn a_user_at_the_source() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    fill(OLD);
    manifest(json!([{ "directory": "/home/u" }]));
    let (output, calls) = calls_of(&words());
    output.ok();
    let mut read = 0;
    for at in (0..calls.len()).step_by(step()) {
        reset(true);
        reset(false);
        fill(OLD);
        let mut number = 0;
        let output = interrupt(Path::new("/"), &words(), &mut |_| {
            number += 1;
            if number == at {
                attack(&old("home/u"), "/tmp/old/root");
            }
            number <= at
        });
        let output = format!("call {at} of {}: {output:?}", calls.len());
        for (path, line) in Snapshot::of(Path::new(NEW)).lines() {
            let is_file = line.starts_with("100");
            read += usize::from(is_file);
            if is_file {
                assert_eq!(
                    fs::read_to_string(new("").join(path)).unwrap(),
                    "mine",
                    "{}: {output}",
                    path.display()
                );
            }
        }
    }
    assert!(read > 0);
}

pub fn a_user_at_the_destination() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    fill(OLD);
    manifest(json!([{ "directory": "/home/u/d" }, { "directory": "/home/u/e" }]));
    let (output, calls) = calls_of(&words());
    output.ok();
    for (round, victim) in ["/tmp/new/root", "/tmp/new/root/sub"].into_iter().enumerate() {
        for at in (round..calls.len()).step_by(step()) {
            reset(true);
            write(new("root/kept"), "root's");
            fs::create_dir(new("root/sub")).unwrap();
            fs::set_permissions(new("root"), fs::Permissions::from_mode(0o700)).unwrap();
            // The user's own, from an earlier boot.
            write(new("home/u/d/own"), "own");
            run(&["chown", "-R", "1000:1000", "/tmp/new/home/u"]).ok();
            let before = Snapshot::of(&new("root"));
            let mut number = 0;
            let output = interrupt(Path::new("/"), &words(), &mut |_| {
                number += 1;
                if number == at {
                    attack(&new("home/u"), victim);
                }
                number <= at
            });
            let output = format!("call {at} of {}: {output:?}", calls.len());
            assert_eq!(Snapshot::of(&new("root")), before, "{output}");
            assert_eq!(stat(new("root")), (0o040_700, 0, 0), "{output}");
        }
    }
}

/// The user's directory replaces one of the same name that only root may enter, after the comparison of the two.
pub fn a_directory_of_the_users_at_the_destination() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    let own = |dir: &Path| {
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::set_permissions(dir.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(dir, Some(1000), Some(1000)).unwrap();
    };
    own(&old("home/u"));
    write(old("home/u/d/letter"), "secret");
    manifest(json!([{ "directory": "/home/u/d" }]));
    own(&new("home/u"));
    let (output, calls) = calls_of(&words());
    output.ok();
    let opens = calls.iter().filter(|call| call.is_one_of(&["openat2"]));
    let step = if is_thorough() { 1 } else { 8 };
    for call in opens.step_by(step) {
        reset(true);
        own(&new("home/u"));
        fs::create_dir(new("home/u/x")).unwrap();
        chown(new("home/u/x"), Some(1000), Some(1000)).unwrap();
        let mut is_done = false;
        let output = interrupt(Path::new("/"), &words(), &mut |entry| {
            if (entry.call.name, entry.call.nth) == (call.name, call.nth) {
                attack(&new("home/u"), "x");
                is_done = true;
            }
            !is_done
        });
        assert_eq!(stat(new("home/u/d")), (0o040_755, 1000, 1000));
        assert_eq!(fs::read_dir(new("home/u/d")).unwrap().count(), 0, "{call:?}: {output:?}");
    }
}
