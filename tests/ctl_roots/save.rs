//! Saving.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::alarm;
use serde_json::{Value, json};

use super::kept::{Kept, One, boot_id};
use super::{listed, machine, roots, with_limits};
use crate::ctl_lost::put;
use crate::faults::Depth;
use crate::roots::manifest;
use crate::support::command::sh_on;
use crate::support::inject::{CHANGES, SAFE};
use crate::support::namespace::bind;
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs, Injected, Machine, Snapshot, run};

pub fn save_on_ext4() {
    save(Fs::Ext4);
}

pub fn save_on_xfs() {
    save(Fs::Xfs);
}

pub fn save_on_btrfs() {
    save(Fs::Btrfs);
}

/// The saved root of this number.
fn saved(kept: &Kept, number: u32) -> One {
    One { place: kept.place.join(number.to_string()) }
}

/// The files of a tree.
fn files(tree: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![tree.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path().strip_prefix(tree).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn save(fs: Fs) {
    let machine = machine(Disk::new(fs, 64), &json!({ "boots": 2 }));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    trees::make(&root.join("srv/data"));
    // Sockets are not lost: the listening program creates them.
    fs::remove_file(root.join("srv/data/socket")).unwrap();
    let data = Look::of(&root.join("srv/data"));
    for path in ["/var/lib/lost/x", "/var/lib/kept/x", "/var/cache/x", "/tmp/x", "/var/lib/lost/a.lock/x"] {
        put(&root, path, "x");
    }
    put(&root, "/var/lib/lost/empty.lock", "");
    put(&root, "/etc/passwd", "ada:x:1000:100::/home/ada:/bin/sh\n");
    std::os::unix::fs::symlink("/nix/store/x", root.join("etc/systems")).unwrap();
    sh_on("chattr +i", &[&root.join("var/lib/lost/x")]);
    let before = Snapshot::of(&root.join("srv"));

    let done = roots(&machine, &["save"], 0);
    let one = saved(&kept, 1);
    let tree = one.tree();
    assert_eq!(data.differences(&Look::of(&tree.join("srv/data"))), [""; 0]);
    let others: Vec<_> = files(&tree).into_iter().filter(|path| !path.starts_with("srv")).collect();
    assert_eq!(others, ["etc/passwd", "var/lib/lost/a.lock/x", "var/lib/lost/x"].map(PathBuf::from));
    assert!(sh_on("lsattr", &[&tree.join("var/lib/lost/x")]).starts_with("----i"));
    assert_eq!(Snapshot::of(&root.join("srv")), before);
    let end = one.end();
    assert_eq!((&end["complete"], &end["left_out_count"]), (&json!(true), &json!(0)), "{end:#}");
    assert_eq!((&end["files"], &end["bytes"]), (&done["files"], &done["bytes"]));
    let rows: Vec<_> = end["rows"].as_array().unwrap().iter().map(|row| row["path"].clone()).collect();
    assert!(rows.contains(&json!("/srv/data")) && rows.contains(&json!("/var/lib/lost")), "{rows:?}");
    assert_eq!(done["files"], files(&tree).len());
    let boot: Value = serde_json::from_slice(&fs::read(one.place.join("boot.json")).unwrap()).unwrap();
    assert_eq!((&boot["kind"], &boot["boot_id"]), (&json!("saved"), &json!(boot_id())));
    assert!(fs::read_to_string(one.place.join("passwd")).unwrap().starts_with("ada:"));
    for (path, mode) in [("..", 0o40_700), (".", 0o40_700), ("1", 0o40_700)] {
        assert_eq!(crate::support::look::stat(kept.place.join(path)).0, mode, "{path}");
    }
    assert!(kept.place.join("CACHEDIR.TAG").exists());
    assert_eq!(listed(&machine), [(1, "well".to_owned())]);

    // A later save replaces the earlier one, with the current files.
    fs::remove_file(root.join("srv/data/plain")).unwrap();
    let text = machine.impctl("roots", &["save"]).ok().stdout;
    assert!(text.contains("saved as old root 2 on /persist"), "{text}");
    assert_eq!(kept.names(), ["2"]);
    assert!(!kept.place.join("2/root/srv/data/plain").exists());
    assert_eq!(listed(&machine), [(2, "well".to_owned())]);
}

pub fn save_killed_on_ext4() {
    killed(Fs::Ext4);
}

pub fn save_killed_on_xfs() {
    killed(Fs::Xfs);
}

pub fn save_killed_on_btrfs() {
    killed(Fs::Btrfs);
}

/// After a kill at any of its changes, the earlier save is complete, and the next run succeeds as usual.
fn killed(fs: Fs) {
    // In memory, because of many runs. btrfs frees the extents of removed subvolumes later.
    let mib = if fs == Fs::Btrfs { 8192 } else { 512 };
    let machine = machine(Disk::image(Path::new("/tmp/image"), fs, mib, ""), &json!({}));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    for path in ["/srv/a/b", "/srv/a/c", "/srv/d"] {
        put(&root, path, path);
    }
    put(&root, "/srv/large", vec![7; 3 << 20]);
    fs::hard_link(root.join("srv/d"), root.join("srv/e")).unwrap();
    machine.impctl("roots", &["save"]).ok();
    let look = Look::of(&root.join("srv"));
    let (output, calls) = machine.trace_impctl(&[], "roots", &["save"]);
    output.ok();
    machine.impctl("roots", &["prune"]).ok();
    // The file systems differ little, as no power is cut.
    let depth = match Depth::asked() {
        Depth::Each if fs != Fs::Ext4 => Depth::Sample,
        depth => depth,
    };
    let changes: Vec<_> = calls.iter().filter(|call| call.is_one_of(CHANGES)).copied().collect();
    assert!(changes.len() > 30, "{changes:?}");
    // A kill at another call leaves the same as one at the next change.
    let at = if depth == Depth::All { &calls } else { &changes };
    let at: Vec<_> = at.iter().enumerate().filter(|(number, _)| depth.takes(*number)).collect();
    println!("killed at {} calls of {}, {} of which are changes", at.len(), calls.len(), changes.len());
    for (_, call) in at {
        alarm::set(crate::PATIENCE);
        machine.trace_impctl(&[Injected::kill(call)], "roots", &["save"]);
        let well: Vec<_> = listed(&machine).into_iter().filter(|(_, state)| state == "well").collect();
        assert!(!well.is_empty(), "{call:?}: the earlier saving is gone");
        for (number, _) in well {
            let tree = kept.place.join(format!("{number}/root/srv"));
            assert_eq!(look.differences(&Look::of(&tree)), [""; 0], "{call:?}");
        }
        // Nor has half a file the name of a whole one.
        for (number, _) in listed(&machine) {
            let tree = kept.place.join(format!("{number}/root/srv"));
            for path in ["a/b", "a/c", "d", "e", "large"].map(Path::new) {
                if let Ok(content) = fs::read(tree.join(path)) {
                    assert!(
                        content == fs::read(root.join("srv").join(path)).unwrap(),
                        "{}: {call:?}",
                        path.display()
                    );
                }
            }
        }
        machine.impctl("roots", &["save"]).ok();
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!((listed(&machine).len(), kept.names().len()), (1, 1), "{call:?}");
    }
    // And where the kernel refuses.
    let looks = calls.iter().filter(|call| !call.is_one_of(CHANGES) && !call.is_one_of(SAFE));
    let looks = looks.enumerate().filter(|(number, _)| number % 16 == 0 || depth == Depth::All);
    let refused = changes.iter().enumerate().filter(|(number, _)| number % 3 == 0 || depth != Depth::Each);
    let refused = refused.chain(looks);
    for (_, call) in refused.filter(|(number, _)| depth.takes(*number)) {
        alarm::set(crate::PATIENCE);
        let injected = [Injected::error(Errno::EIO, call)];
        let (output, _) = machine.trace_impctl(&injected, "roots", &["save"]);
        let is_saved = |number: u64| {
            let tree = kept.place.join(format!("{number}/root/srv"));
            look.differences(&Look::of(&tree)).is_empty()
        };
        let well = listed(&machine).into_iter().filter(|(_, state)| state == "well");
        assert!(well.map(|(number, _)| number).any(is_saved), "{call:?}: {output:?}");
        machine.impctl("roots", &["save"]).ok();
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!((listed(&machine).len(), kept.names().len()), (1, 1), "{call:?}");
    }
    assert_eq!(look.differences(&Look::of(&root.join("srv"))), [""; 0]);
}

/// Omitted paths, with the reasons.
fn left_out(one: &One) -> Vec<(String, String)> {
    let end = one.end();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = end["left_out"].as_array().unwrap().iter();
    all.map(|left| (text(&left["path"]), text(&left["why"]))).collect()
}

pub fn save_bounded_in_size() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({ "save_size": "200k" }));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    for (name, size) in [("a", 1), ("b", 40), ("c", 90), ("d", 100), ("e", 2000), ("f", 3)] {
        put(&root, &format!("/srv/{name}"), vec![1; size << 10]);
    }
    let done = roots(&machine, &["save"], 0);
    let one = saved(&kept, 1);
    assert_eq!(files(&one.tree()), ["srv/a", "srv/b", "srv/c", "srv/f"].map(PathBuf::from));
    let why = "save_size".to_owned();
    assert_eq!(left_out(&one), [("/srv/e".to_owned(), why.clone()), ("/srv/d".to_owned(), why)]);
    assert_eq!((&done["left_out_count"], &done["left_out_bytes"]), (&json!(2), &json!(2100 << 10)));
    let text = machine.impctl("roots", &["save"]).ok().stdout;
    assert!(text.contains("2 files left out, 2.1M"), "{text}");
    // A store with little room receives a part of the files.
    with_limits(&machine, &json!({}));
    let filler = machine.at("/persist/filler");
    let free = || sh_on("stat -f -c %a*%S", &[&machine.at("/persist")]);
    let free = || -> u64 { free().trim().split('*').map(|part| part.parse::<u64>().unwrap()).product() };
    sh_on(format!("fallocate -l {}", free() - (5 << 20)), &[&filler]);
    put(&root, "/srv/g", vec![1; 4 << 20]);
    machine.impctl("roots", &["save"]).ok();
    let listed = roots(&machine, &[], 0);
    let last = &listed["stores"][0]["roots"][0];
    assert_eq!(last["left_out"][0]["path"], "/srv/g", "{last:#}");
    assert_eq!(last["left_out"][0]["why"], "the store has no room for it");
    assert!(free() > 2 << 20, "{}", free());
}

/// A later save with omissions replaces no earlier save of the omitted files.
pub fn save_again_with_less_room() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({ "boots": 1 }));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    let list = |wanted: &[&str]| {
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!(kept.names(), wanted);
    };
    put(&root, "/srv/dir/large", vec![1; 20 << 20]);
    put(&root, "/srv/small", "x");
    machine.impctl("roots", &["save"]).ok();
    // The earlier one takes the room.
    let filler = machine.at("/persist/filler");
    sh_on("fallocate -l 20M", &[&filler]);
    machine.impctl("roots", &["save"]).ok();
    let why = "the store has no room for it".to_owned();
    assert_eq!(left_out(&saved(&kept, 2)), [("/srv/dir/large".to_owned(), why)]);
    list(&["1", "2"]);
    // The next one replaces only the second.
    machine.impctl("roots", &["save"]).ok();
    list(&["1", "3"]);
    with_limits(&machine, &json!({ "boots": 1, "save_size": "1M" }));
    put(&root, "/srv/new", vec![1; 2 << 20]);
    machine.impctl("roots", &["save"]).ok();
    list(&["1", "4"]);
    fs::remove_file(machine.at("/srv/dir/large")).unwrap();
    with_limits(&machine, &json!({ "boots": 1 }));
    machine.impctl("roots", &["save"]).ok();
    list(&["5"]);
    assert_eq!(files(&saved(&kept, 5).tree()), ["srv/new", "srv/small"].map(PathBuf::from));
}

/// The same where there is no time, and where an earlier run was killed.
pub fn save_again_with_less_time() {
    let machine = machine(Disk::new(Fs::Ext4, 128), &json!({}));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    put(&root, "/srv/a/b", "x");
    put(&root, "/srv/large", vec![1; 40 << 20]);
    let (output, calls) = machine.trace_impctl(&[], "roots", &["save"]);
    output.ok();
    // Killed within the large file.
    let call = calls.iter().filter(|call| call.is_one_of(&["pwrite64"])).nth(9).unwrap();
    machine.trace_impctl(&[Injected::kill(call)], "roots", &["save"]);
    assert_eq!(listed(&machine), [(1, "well".to_owned()), (2, "cut off".to_owned())]);
    assert!(!saved(&kept, 2).tree().join("srv/large").exists());
    // The time limit passes before the first file.
    with_limits(&machine, &json!({ "save_seconds": 1 }));
    let mut is_late = false;
    machine
        .interrupt_impctl("roots", &["save"], &mut |entry| {
            if !is_late && entry.call.is_one_of(&["mkdirat"]) {
                sleep(Duration::from_secs(1));
                is_late = true;
            }
            true
        })
        .ok();
    // This save omits a directory; the aborted save may have newer files of the directory.
    let names = kept.names();
    assert_eq!(names, ["1", "2", "3"]);
    assert_eq!(fs::read_to_string(kept.place.join("1/root/srv/a/b")).unwrap(), "x");
    with_limits(&machine, &json!({}));
    machine.impctl("roots", &["save"]).ok();
    machine.impctl("roots", &["prune"]).ok();
    let names = kept.names();
    assert_eq!(names.len(), 1, "{names:?}");
    let tree = kept.place.join(&names[0]).join("root");
    assert_eq!(files(&tree), ["srv/a/b", "srv/large"].map(PathBuf::from));
}

/// At its time limit a saving stops in the middle of a file. The rest is named, and the saving is complete.
pub fn save_bounded_in_time() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({ "save_seconds": 2 }));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    put(&root, "/srv/a", "small");
    put(&root, "/srv/b", vec![1; 2 << 20]);
    put(&root, "/srv/c", vec![1; 3 << 20]);
    let mut writes = 0;
    machine
        .interrupt_impctl("roots", &["save"], &mut |entry| {
            writes += usize::from(entry.call.is_one_of(&["pwrite64"]));
            if writes == 3 {
                sleep(Duration::from_secs(2));
                writes += 1;
            }
            writes < 4
        })
        .ok();
    let one = saved(&kept, 1);
    assert_eq!(files(&one.tree()), [PathBuf::from("srv/a")]);
    let why = "save_seconds".to_owned();
    assert_eq!(left_out(&one), [("/srv/c".to_owned(), why.clone()), ("/srv/b".to_owned(), why)]);
    assert_eq!(listed(&machine), [(1, "well".to_owned())]);
}

/// Files of an omitted directory are counted, too.
pub fn save_counts_files_of_directories() {
    let machine = machine(Disk::formatted(Fs::Ext4, 16, "-N 128"), &json!({}));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    for path in (0..200).map(|number| format!("/srv/app{}/{number}", number / 5)) {
        put(&root, &path, "x");
    }
    machine.impctl("roots", &["save"]).ok();
    let one = saved(&kept, 1);
    let (there, end) = (files(&one.tree()).len() as u64, one.end());
    assert!(there < 150, "{there}");
    assert!(end["left_out_count"].as_u64().unwrap() + there >= 200, "{there}: {end}");
}

pub fn save_to_a_full_store() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({}));
    let (root, kept) = (machine.at(""), Kept::new(&machine));
    put(&root, "/srv/a", "x");
    machine.impctl("roots", &["save"]).ok();
    machine.disk().fill();
    // The save starts no file, or leaves no root.
    put(&root, "/srv/b", vec![1; 100_000]);
    machine.impctl("roots", &["save"]);
    let well = listed(&machine);
    assert_eq!(well.len(), 1, "{well:?}");
    machine.disk().unfill();
    machine.impctl("roots", &["save"]).ok();
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names().len(), 1);
    machine.disk().turn_read_only();
    machine.impctl("roots", &["save"]).expect(1).says(&["/persist", "read-only"]);
    assert_eq!(listed(&machine).len(), 1);
}

pub fn save_nothing() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &Value::Null);
    let before = machine.disk().snapshot();
    let text = machine.impctl("roots", &["save"]).ok().stdout;
    assert_eq!(text, "Nothing is saved: the manifest has neither old_roots nor a root on a store.\n");
    assert_eq!(machine.disk().snapshot(), before);
    with_limits(&machine, &json!({}));
    sh_on("umount -l", &[&machine.at("/persist")]);
    machine.impctl("roots", &["save"]).expect(1).says(&["nothing is mounted there"]);
}

/// Of a root on the disk the end of its boot is recorded.
pub fn save_a_root_on_the_disk() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!({}));
    let kept = Kept::new(&machine);
    let one = kept.add(3, 0).of_this_boot();
    put(&one.tree(), "/var/lib/lost/x", "x");
    put(&one.tree(), "/var/cache/x", "x");
    put(&one.tree(), "/etc/group", "users:x:100:\n");
    fs::create_dir_all(one.tree().join("persist")).unwrap();
    let running = Path::new("/tmp/running");
    fs::create_dir(running).unwrap();
    bind(one.tree(), running);
    bind(machine.at("/persist"), running.join("persist"));
    let program = env!("CARGO_BIN_EXE_impctl");
    let place = machine.home().join("manifest");
    let line = [program, "roots", "--root", "/tmp/running", "--manifest", place.to_str().unwrap()];
    // By hand: the boot goes on, and may be cut off.
    let before = Snapshot::of(&kept.place);
    let text = run(&[&line[..], &["save"]].concat()).ok().stdout;
    assert!(text.contains("Nothing is saved: the root is on a store"), "{text}");
    assert_eq!(Snapshot::of(&kept.place), before);
    let before = Snapshot::of(&one.tree().join("var"));
    run(&[&line[..], &["save", "--shutdown"]].concat()).ok();
    assert_eq!(Snapshot::of(&one.tree().join("var")), before);
    let end = one.end();
    assert_eq!((&end["complete"], &end["files"]), (&json!(true), &json!(3)), "{end:#}");
    let rows: Vec<_> = end["rows"].as_array().unwrap().iter().map(|row| row["path"].clone()).collect();
    assert!(rows.contains(&json!("/var/lib/lost")) && !rows.contains(&json!("/var/cache")), "{rows:?}");
    assert!(fs::read_to_string(one.place.join("group")).unwrap().starts_with("users:"));
    let list = run(&line).ok().stdout;
    assert!(list.contains("running"), "{list}");
    assert_eq!(kept.names(), ["3"]);
    // Also where no older ones are kept.
    fs::remove_file(one.place.join("end.json")).unwrap();
    machine.manifest(&manifest(json!({ "on": "/persist" }), json!([])));
    run(&[&line[..], &["save", "--shutdown"]].concat()).ok();
    assert_eq!(one.end()["complete"], true);
}

/// A concurrent save of another process is not repeated.
pub fn save_once_at_a_time() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!({}));
    let kept = Kept::new(&machine);
    let one = kept.add(1, 0).saved().of_this_boot();
    let held = File::open(&one.place).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    machine.impctl("roots", &["save"]).expect(1).says(&["another process is saving this root"]);
    assert_eq!(listed(&machine), [(1, "unfinished".to_owned())]);
    drop(held);
    // Remains of an interrupted run are removed once there is a whole saving.
    put(&one.tree(), "/srv/x", "x");
    machine.impctl("roots", &["save"]).ok();
    assert_eq!(listed(&machine), [(2, "well".to_owned())]);
    assert!(!one.place.exists() && files(&saved(&kept, 2).tree()).is_empty());
}

/// As on a machine with few files.
pub fn save_nothing_to_lose() {
    let machine: Machine = machine(Disk::new(Fs::Ext4, 16), &json!({}));
    let text = machine.impctl("roots", &["save"]).ok().stdout;
    assert!(text.contains("saved as old root 1"), "{text}");
    assert!(files(&saved(&Kept::new(&machine), 1).tree()).is_empty());
}
