//! Removal.

use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use rustix::process::setpriority_process;
use serde_json::json;

use super::kept::{Kept, One};
use super::{listed, machine, roots, with_limits};
use crate::ctl_lost::{du, put};
use crate::support::command::sh_on;
use crate::support::inject::CHANGES;
use crate::support::namespace::{bind, tmpfs};
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs, Injected, Machine, Snapshot, run};

/// Fills a root with files that are hard to remove.
fn fill(one: &One, fs: Fs) {
    let tree = one.tree();
    fs::create_dir_all(tree.join("var/lib")).unwrap();
    trees::make(&tree.join("srv"));
    put(&tree, "/etc/fixed/x", "x");
    put(&tree, "/etc/log", "x");
    if fs == Fs::Btrfs {
        for name in
            ["var/lib/machines", "var/lib/machines/inner", "opt", "opt/read-only", "opt/read-only/inner"]
        {
            sh_on("btrfs -q subvolume create", &[&tree.join(name)]);
            put(&tree, &format!("{name}/x"), "x");
        }
        sh_on("btrfs property set", &[&tree.join("opt/read-only"), Path::new("ro"), Path::new("true")]);
    }
    sh_on("chattr +a", &[&tree.join("etc/log")]);
    sh_on("chattr +i", &[&tree.join("etc/fixed/x"), &tree.join("etc/fixed"), &tree]);
}

pub fn prune_on_ext4() {
    prune(Fs::Ext4);
}

pub fn prune_on_xfs() {
    prune(Fs::Xfs);
}

pub fn prune_on_btrfs() {
    prune(Fs::Btrfs);
}

fn prune(fs: Fs) {
    let machine = machine(Disk::new(fs, 64), &json!({ "boots": 2, "days": 9 }));
    let kept = Kept::new(&machine);
    for number in [3, 4, 5, 6] {
        fill(&kept.add(number, 20 - 3 * u64::from(number)).ends(true, 4096), fs);
    }
    // Remains of a stopped run.
    let left = kept.add(1, 30);
    fill(&left, fs);
    fs::rename(kept.place.join("1"), kept.place.join("removed-1")).unwrap();
    let spared = [5, 6].map(|number| Look::of(&kept.place.join(number.to_string())));
    let before = Snapshot::of(&kept.place);
    let dry = roots(&machine, &["prune", "--dry-run"], 0);
    assert_eq!((before, &dry["resumed"]), (Snapshot::of(&kept.place), &json!(1)));
    trees::make_deep(&kept.place.join("removed-1/deep"));
    let done = roots(&machine, &["prune"], 0);
    assert_eq!(done["removed"], dry["removed"]);
    let numbers: Vec<_> =
        done["removed"].as_array().unwrap().iter().map(|one| one["number"].clone()).collect();
    assert_eq!(numbers, [3, 4]);
    assert_eq!(kept.names(), ["5", "6"]);
    for (number, spared) in [5, 6].into_iter().zip(spared) {
        let now = Look::of(&kept.place.join(number.to_string()));
        assert_eq!(spared.differences(&now), [""; 0]);
    }
    assert_eq!(machine.impctl("roots", &["prune"]).ok().stdout, "No old root is due.\n");
    // A day later the next is too old.
    with_limits(&machine, &json!({ "boots": 2, "days": 3 }));
    let text = machine.impctl("roots", &["prune"]).ok().stdout;
    assert_eq!(text, "old root 5 on /persist removed: 5 days old, 4.0K\n");
    assert_eq!(kept.names(), ["6"]);
}

/// A store on which nothing can be written any more gets space back.
fn full(on: Fs) {
    let machine = machine(Disk::new(on, 64), &json!({ "boots": 2 }));
    let kept = Kept::new(&machine);
    for number in [3, 4, 5, 6] {
        fill(&kept.add(number, 1).ends(true, 4096), on);
    }
    let spared = [5, 6].map(|number| Look::of(&kept.place.join(number.to_string())));
    machine.disk().fill();
    assert!(fs::write(machine.at("/persist/more"), vec![1; 1 << 20]).is_err(), "the store is not full");
    let done = roots(&machine, &["prune"], 0);
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(kept.names(), ["5", "6"]);
    for (number, spared) in [5, 6].into_iter().zip(spared) {
        let now = Look::of(&kept.place.join(number.to_string()));
        assert_eq!(spared.differences(&now), [""; 0]);
    }
}

pub fn prune_on_a_full_ext4() {
    full(Fs::Ext4);
}

pub fn prune_on_a_full_xfs() {
    full(Fs::Xfs);
}

pub fn prune_on_a_full_btrfs() {
    full(Fs::Btrfs);
}

pub fn prune_killed_on_ext4() {
    killed(Fs::Ext4);
}

pub fn prune_killed_on_xfs() {
    killed(Fs::Xfs);
}

pub fn prune_killed_on_btrfs() {
    killed(Fs::Btrfs);
}

/// After a kill at any of its changes, the next run completes the removal.
fn killed(fs: Fs) {
    let machine = machine(Disk::new(fs, 64), &json!({ "boots": 1 }));
    let kept = Kept::new(&machine);
    let reset = || {
        for (number, is_due) in [(1, true), (2, true), (3, false)] {
            let one = kept.add(number, 1);
            let tree = one.tree();
            for name in ["a/b/c", "a/d", "e"] {
                put(&tree, name, "x");
            }
            if fs == Fs::Btrfs {
                sh_on("btrfs -q subvolume create", &[&tree.join("nested")]);
                put(&tree, "nested/x", "x");
            }
            if is_due {
                sh_on("chattr +i", &[&tree.join("a/b/c"), &tree.join("a/b")]);
            }
        }
    };
    reset();
    let (output, calls) = machine.trace_impctl(&[], "roots", &["prune"]);
    output.ok();
    let calls: Vec<_> = calls.into_iter().filter(|call| call.is_one_of(CHANGES)).collect();
    assert!(calls.len() > 20, "{calls:?}");
    for call in &calls {
        fs::remove_dir_all(kept.place.join("3")).unwrap();
        reset();
        machine.trace_impctl(&[Injected::kill(call)], "roots", &["prune"]);
        let left = listed(&machine);
        assert!(left.iter().any(|(number, _)| *number == 3), "{call:?}: {left:?}");
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!(kept.names(), ["3"], "{call:?}");
        assert_eq!(fs::read_to_string(kept.place.join("3/root/a/b/c")).unwrap(), "x", "{call:?}");
        assert_eq!(machine.impctl("roots", &["prune"]).ok().stdout, "No old root is due.\n", "{call:?}");
    }
}

pub fn prune_without_limits() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!(null));
    let kept = Kept::new(&machine);
    kept.add(1, 1).ends(true, 1);
    put(&kept.add(2, 0).tree(), "x", "x");
    let text = machine.impctl("roots", &["prune"]).ok().stdout;
    assert!(text.contains("old root 2 on /persist removed: the manifest has no old_roots"), "{text}");
    assert_eq!(kept.names(), [""; 0]);
    with_limits(&machine, &json!({}));
    kept.add(3, 29).ends(true, 8 << 30);
    kept.add(4, 28).ends(true, 3 << 30);
    let text = machine.impctl("roots", &["prune"]).ok().stdout;
    assert_eq!(text, "old root 3 on /persist removed: more than 10G together, 8.0G\n");
    assert_eq!(kept.names(), ["4"]);
}

/// Subvolumes are deleted as a whole, including nested ones.
pub fn prune_subvolumes() {
    let machine = machine(Disk::new(Fs::Btrfs, 128), &json!({ "boots": 1 }));
    let kept = Kept::new(&machine);
    let tree = kept.add(1, 1).ends(true, 1).tree();
    let all = [
        "var/lib/machines",
        "var/lib/machines/one",
        "var/lib/machines/one/a b",
        "srv",
        "srv/x/\u{e4}",
        "srv/x/z",
    ];
    for name in all {
        let place = tree.join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        sh_on("btrfs -q subvolume create", &[&place]);
        for number in 0..100 {
            put(&place, &format!("dir/{number}"), "x");
        }
    }
    for name in ["var/lib/machines/one/a b", "var/lib/machines/one", "srv"] {
        sh_on("btrfs property set", &[&tree.join(name), Path::new("ro"), Path::new("true")]);
    }
    kept.add(2, 0).ends(true, 1);
    let (output, calls) = machine.trace_impctl(&[], "roots", &["prune"]);
    output.ok();
    assert_eq!(kept.names(), ["2"]);
    let left = sh_on("btrfs subvolume list", &[&machine.at("/persist")]);
    assert_eq!(left.lines().count(), 1, "{left}");
    let removed = calls.iter().filter(|call| call.is_one_of(&["unlinkat"])).count();
    assert!(removed < 20, "{removed} files are removed one by one");
}

/// The size and the paths of a boot without an end are recorded once.
pub fn prune_records_sizes() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({}));
    let kept = Kept::new(&machine);
    let one = kept.add(1, 2);
    let tree = one.tree();
    put(&tree, "/var/lib/forgotten/data", vec![1; 100_000]);
    put(&tree, "/var/cache/x", vec![1; 50_000]);
    put(&tree, "/etc/passwd", "ada:x:1000:100::/home/ada:/bin/sh\n");
    put(&tree, "/etc/group", "users:x:100:\n");
    fs::create_dir_all(tree.join("var/lib/kept")).unwrap();
    // Below an entry without a mount at that time.
    put(&tree, "/var/lib/kept/hidden", "x");
    sh_on("sync", &[]);
    machine.impctl("roots", &["prune"]).ok();
    let end = one.end();
    assert_eq!((&end["complete"], &end["rows_count"]), (&json!(false), &json!(4)), "{end:#}");
    assert_eq!(end["rows"][0]["path"], "/var/lib/forgotten");
    let paths: Vec<_> = end["rows"].as_array().unwrap().iter().map(|row| row["path"].clone()).collect();
    assert!(paths.contains(&json!("/var/lib/kept")) && !paths.contains(&json!("/var/cache")), "{paths:?}");
    let (bytes, all) = (end["bytes"].as_u64().unwrap(), du(&tree));
    assert!(bytes <= all && bytes + 64 * 1024 > all, "{bytes} of {all}");
    assert!(fs::read_to_string(one.place.join("passwd")).unwrap().starts_with("ada:"));
    assert!(fs::read_to_string(one.place.join("group")).unwrap().starts_with("users:"));
    let before = Snapshot::of(&kept.place);
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(Snapshot::of(&kept.place), before);
    assert_eq!(listed(&machine), [(1, "cut off".to_owned())]);
}

/// A root of a boot that was cut off keeps its files where a disk does not let them be read.
pub fn prune_what_cannot_be_read() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({}));
    let kept = Kept::new(&machine);
    let reset = || {
        let one = kept.add(1, 2);
        put(&one.tree(), "/srv/photos/one", "x");
        for name in ["end.json", "passwd", "group"] {
            fs::remove_file(one.place.join(name)).ok();
        }
        one
    };
    reset();
    let (output, calls) = machine.trace_impctl(&[], "roots", &["prune"]);
    output.ok();
    let reads = ["getdents64", "newfstatat", "openat", "openat2", "statx"];
    let calls: Vec<_> = calls.into_iter().filter(|call| call.is_one_of(&reads)).collect();
    assert!(calls.iter().any(|call| call.is_one_of(&["getdents64"])), "{calls:?}");
    for call in &calls {
        fs::remove_dir_all(kept.place.join("1")).unwrap();
        let one = reset();
        machine.trace_impctl(&[Injected::error(Errno::EIO, call)], "roots", &["prune"]);
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!(
            fs::read_to_string(one.tree().join("srv/photos/one")).ok().as_deref(),
            Some("x"),
            "{call:?}"
        );
    }
}

/// A root of a boot that was cut off stays, whatever is on it: also below a mount, at paths that `impctl lost` leaves out, and beside the
/// tree; and whatever an older record says.
pub fn prune_keeps_every_file() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({}));
    let kept = Kept::new(&machine);
    for path in [
        "root/var/lib/kept",
        "root/etc/imp-mount/throw-away",
        "root/persist",
        "root/bin/tool",
        "root.bak/x",
        "notes",
    ] {
        put(&kept.add(1, 1).place, path, "x");
        machine.impctl("roots", &["prune"]).ok();
        assert_eq!(fs::read_to_string(kept.place.join("1").join(path)).unwrap(), "x", "{path}");
        fs::remove_dir_all(kept.place.join("1")).unwrap();
    }
    // The remedy for a mount is to unmount it.
    let place = kept.add(1, 1).tree().join("data");
    put(&place, "x", "x");
    tmpfs(&place, "");
    machine.impctl("roots", &["prune"]);
    sh_on("umount", &[&place]);
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(fs::read_to_string(place.join("x")).unwrap(), "x");
    let one = kept.add(2, 1).ends(false, 0);
    put(&one.tree(), "x", "x");
    let end = fs::read_to_string(one.place.join("end.json")).unwrap();
    assert!(end.contains("\"files\":1"), "{end}");
    put(&one.place, "end.json", end.replace("\"files\":1", "\"files\":0"));
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names(), ["1", "2"]);
}

/// With the lowest priority a removal pauses, and otherwise it does not.
pub fn prune_pauses_in_background() {
    let machine = machine(Disk::new(Fs::Ext4, 64), &json!({ "boots": 1 }));
    let kept = Kept::new(&machine);
    put(&kept.add(9, 0).tree(), "srv/x", "");
    for (nice, pauses) in [(0, false), (19, true)] {
        let due = kept.add(1, 1);
        for number in 0..3000 {
            put(&due.tree(), &format!("srv/{number}"), "");
        }
        setpriority_process(None, nice).unwrap();
        let (output, calls) = machine.trace_impctl(&[], "roots", &["prune"]);
        output.ok();
        assert_eq!(calls.iter().any(|call| call.is_one_of(&["clock_nanosleep"])), pauses, "nice {nice}");
        assert_eq!(kept.names(), ["9"]);
    }
}

pub fn prune_touches_no_mount() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!(null));
    let kept = Kept::new(&machine);
    for number in [1, 2] {
        put(&kept.add(number, 1).tree(), "/a/b", "x");
    }
    let place = kept.place.join("1/root/a/mounted");
    fs::create_dir(&place).unwrap();
    tmpfs(&place, "size=1M");
    put(&place, "x", "x");
    machine.impctl("roots", &["prune"]).expect(1).says(&[
        "old root 1 on /persist",
        "is mounted in it",
        "umount",
    ]);
    assert_eq!(kept.names(), ["1"]);
    assert_eq!(fs::read_to_string(place.join("x")).unwrap(), "x");
    assert_eq!(fs::read_to_string(kept.place.join("1/root/a/b")).unwrap(), "x");
    // A later mount is found by the removal itself.
    fs::rename(kept.place.join("1"), kept.place.join("removed-1")).unwrap();
    machine.impctl("roots", &["prune"]).expect(1).says(&["is mounted in it", "umount "]);
    let place = kept.place.join("removed-1/root/a/mounted");
    assert_eq!(fs::read_to_string(place.join("x")).unwrap(), "x");
    sh_on("umount", &[&place]);
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names(), [""; 0]);
}

pub fn prune_spares_roots_in_use() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!(null));
    let kept = Kept::new(&machine);
    for number in [1, 2, 3, 4] {
        put(&kept.add(number, 1).tree(), "/x", "x");
    }
    machine.impctl("roots", &["list"]).ok();
    let running = Path::new("/tmp/running");
    fs::create_dir(running).unwrap();
    fs::create_dir(kept.place.join("2/root/persist")).unwrap();
    bind(kept.place.join("2/root"), running);
    bind(machine.at("/persist"), running.join("persist"));
    // A root of this boot, seen by a container with another root.
    kept.add(5, 0).of_this_boot();
    let program = env!("CARGO_BIN_EXE_impctl");
    let manifest = machine.home().join("manifest");
    let line = ["roots", "prune", "--root", "/tmp/running", "--manifest"];
    let prune = || run(&[&[program], &line[..], &[manifest.to_str().unwrap()]].concat()).ok();
    prune();
    assert_eq!(kept.names(), ["2", "5"]);
    assert_eq!(fs::read_to_string(running.join("x")).unwrap(), "x");
    // Also if the root is not listed.
    fs::rename(kept.place.join("2"), kept.place.join("removed-2")).unwrap();
    let words = [&[program], &line[..], &[manifest.to_str().unwrap()]].concat();
    run(&words).expect(1).says(&["it is the running root, and stays"]);
    assert_eq!(fs::read_to_string(running.join("x")).unwrap(), "x");
    fs::rename(kept.place.join("removed-2"), kept.place.join("2")).unwrap();
    // And as the root of the process itself.
    fs::create_dir(running.join("proc")).unwrap();
    crate::support::namespace::bind_all("/proc", running.join("proc"));
    for folder in ["usr", "lib", "lib64", "run"] {
        fs::create_dir(running.join(folder)).unwrap();
        crate::support::namespace::bind_all(Path::new("/").join(folder), running.join(folder));
    }
    run(&[
        "chroot",
        "/tmp/running",
        "/run/machine/impctl",
        "roots",
        "prune",
        "--manifest",
        "/run/machine/manifest",
    ])
    .ok();
    assert_eq!(kept.names(), ["2", "5"]);
}

/// A save in progress stays unchanged, too.
pub fn prune_spares_a_saving() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!(null));
    let kept = Kept::new(&machine);
    let saved = kept.add(6, 0).of_this_boot().saved();
    let held = File::open(&saved.place).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names(), ["6"]);
    drop(held);
    let text = machine.impctl("roots", &["prune"]).ok().stdout;
    assert!(text.contains("an interrupted run left it"), "{text}");
    assert_eq!(kept.names(), [""; 0]);
}

pub fn prune_a_read_only_store() {
    let machine = machine(Disk::new(Fs::Ext4, 16), &json!({ "boots": 1 }));
    let kept = Kept::new(&machine);
    kept.add(1, 1).ends(true, 1);
    machine.disk().turn_read_only();
    machine.impctl("roots", &["prune"]).ok();
    sh_on("mount -o remount,rw", &[&machine.at("/persist")]);
    put(&kept.add(2, 1).tree(), "x", "x");
    machine.disk().turn_read_only();
    machine.impctl("roots", &["prune"]).expect(1).says(&["old root 1", "old root 2", "read-only"]);
    assert_eq!(listed(&machine).len(), 2);
}

/// The peak memory of a command, in KiB.
fn memory(machine: &Machine, words: &str) -> u64 {
    let script = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=2).returncode\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)";
    machine.impctl("roots", &["list"]).ok();
    let root = machine.at("");
    let line = format!("/run/machine/impctl roots {words} --manifest /run/machine/manifest");
    let mut argv = vec!["python3", "-c", script, "chroot", root.to_str().unwrap()];
    argv.extend(line.split(' '));
    run(&argv).ok().stdout.trim().parse().unwrap()
}

pub fn prune_many_files() {
    let machine = machine(Disk::formatted(Fs::Ext4, 128, "-N 120000"), &json!({ "boots": 1 }));
    let kept = Kept::new(&machine);
    for number in [1, 2] {
        put(&kept.add(number, 1).tree(), "/var/lib/few/x", "x");
    }
    let few = memory(&machine, "prune");
    let one = kept.add(3, 1);
    let many = one.tree().join("var/lib/many");
    fs::create_dir_all(&many).unwrap();
    for number in 0..100_000 {
        File::create(many.join(format!("a-file-with-a-name-of-some-length-{number}"))).unwrap();
    }
    // Size and listing need no more memory than for few files.
    let (measured, shown) = (memory(&machine, "prune"), memory(&machine, "list"));
    assert_eq!(one.end()["files"], 100_000);
    kept.add(4, 1).ends(true, 1);
    let removed = memory(&machine, "prune");
    assert_eq!(kept.names(), ["4"]);
    for (what, memory) in [("measured", measured), ("shown", shown), ("removed", removed)] {
        assert!(memory < few + 2048, "{what}: {memory} KiB, {few} KiB with few files");
    }
}
