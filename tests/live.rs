//! A new manifest on a started system: new entries are mounted, removed ones are unmounted if unused, and all others
//! stay unchanged.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::disk::detach;
use crate::support::look::{mounts_below, stat};
use crate::support::{Disk, Fs, Machine, Mount, Root, Snapshot, mounts};

tests![
    nothing_to_do_is_nothing_done: Disk,
    an_entry_is_added: Disk,
    an_entry_is_removed: Disk,
    nested_subvolumes_are_removed_too: Disk,
    a_busy_one_stays_until_it_is_free: Disk,
    a_failure_takes_nothing_away: Disk,
    a_link_comes_back_after_a_failure: Disk,
    a_source_changes: Disk,
    a_source_changed_by_a_run_that_was_stopped: Disk,
    a_skipped_entry_removes_mounts_above_it: Disk,
    an_early_run_leaves_later_entries: Disk,
    options_change: Disk,
    a_guard_gives_way_to_the_store: Disk,
    required_entries_are_guarded_without_an_emergency_mode: Disk,
    file_managers_are_told: Disk,
    no_mount_is_there_before_its_line_in_utab: Disk Inject,
];

/// A manifest with the store /persist and a new root.
pub fn manifest(entries: Value) -> Value {
    json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// A started machine, booted with these entries.
pub fn started(entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(entries));
    machine.build().ok();
    machine.switch_root();
    machine
}

/// Report of the last run.
pub fn report() -> Value {
    serde_json::from_slice(&fs::read("/run/imp-mount/report.json").unwrap()).unwrap()
}

/// State of an entry in the report.
pub fn state(target: &str) -> String {
    let report = report();
    let entries = report["entries"].as_array().unwrap();
    let found: Vec<_> = entries.iter().filter(|entry| entry["target"] == target).collect();
    assert_eq!(found.len(), 1, "{target}: {entries:?}");
    found[0]["state"].as_str().unwrap().to_owned()
}

/// A process inside the machine, which ends with the test.
pub fn inside(machine: &Machine, script: &str) -> Child {
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "chroot"])
        .arg(machine.at(""))
        .args(["sh", "-c", &format!("{script}; echo ready; exec sleep 100")])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    child
}

fn nothing_to_do_is_nothing_done() {
    let machine = started(json!([
        { "directory": "/srv" },
        { "directory": "/srv/inner", "options": ["noexec"], "hidden": true },
        { "file": "/etc/key", "missing": "create" },
        { "file": "/etc/later" },
        { "file": "/etc/copy", "method": "copy", "missing": "create" },
    ]));
    assert_eq!(fs::read_link(machine.at("/etc/later")).unwrap(), Path::new("/persist/etc/later"));
    let look = || {
        let utab = fs::metadata("/run/mount/utab").unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&utab);
        (mounts(), machine.disk().snapshot(), Snapshot::of(&machine.at("")), inode)
    };
    let before = look();
    for _ in 0..2 {
        machine.run_live(&[]).ok();
        assert_eq!(look(), before);
    }
    let run = report()["runs"][2].clone();
    assert_eq!((&run["placed"], &run["unchanged"]), (&json!(0), &json!(5)), "{run}");
    assert_eq!((&run["sysroot"], &run["phase"]), (&json!("/"), &json!("live")), "{run}");
    machine.run_live(&["--check"]).ok();
}

fn an_entry_is_added() {
    let machine = started(json!([{ "directory": "/srv" }]));
    let before = mounts();
    machine.manifest(&manifest(json!([
        { "directory": "/srv" },
        { "directory": "/var/lib/new", "user": 7, "group": 8, "mode": "0710" },
        { "directory": "/opt/live", "phase": "live" },
    ])));
    machine.run_live(&[]).ok();
    let after = mounts();
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!(stat(machine.at("/var/lib/new")), (0o040_710, 7, 8));
    let mount = machine.mount_at("/var/lib/new").unwrap();
    assert!(mount.has("nosuid") && mount.has("nodev"), "{mount:?}");
    fs::write(machine.at("/var/lib/new/kept"), "kept").unwrap();
    assert!(machine.disk().snapshot().line("var/lib/new/kept").is_some());
    assert_eq!(mounts_below(&machine.at("/persist")).len(), 1);
}

fn an_entry_is_removed() {
    let machine = started(json!([
        { "directory": "/srv" },
        { "directory": "/old/dir" },
        { "file": "/old/file", "missing": "create" },
        { "file": "/old/link" },
    ]));
    fs::write(machine.at("/old/dir/kept"), "kept").unwrap();
    fs::write(machine.at("/old/file"), "kept").unwrap();
    let (disk, srv) = (machine.disk().snapshot(), machine.mount_at("/srv"));
    machine.manifest(&manifest(json!([{ "directory": "/srv" }])));
    let output = machine.run_live(&[]).ok();
    output.says(&["/old/dir: unmounted", "its data stays at /persist/old/dir"]);
    // Neither mounts, nor their mount points.
    assert_eq!(fs::read_dir(machine.at("/old")).unwrap().count(), 0);
    assert_eq!(mounts_below(&machine.at("/old")), []);
    assert_eq!(machine.disk().snapshot(), disk);
    assert_eq!(machine.mount_at("/srv"), srv);
    assert_eq!(report()["entries"].as_array().unwrap().len(), 1);
    // And back again.
    machine.manifest(&manifest(json!([{ "directory": "/old/dir" }, { "directory": "/srv" }])));
    machine.run_live(&[]).ok();
    assert_eq!(fs::read_to_string(machine.at("/old/dir/kept")).unwrap(), "kept");
}

fn nested_subvolumes_are_removed_too() {
    let machine = started(json!([{ "directory": "/a" }, { "directory": "/a/b/c" }, { "directory": "/a/d" }]));
    // The outer one goes, the inner ones stay: nothing can be unmounted below them.
    machine.manifest(&manifest(json!([{ "directory": "/a/b/c" }, { "directory": "/a/d" }])));
    machine.run_live(&[]).ok().says(&["/a: ", "in use", "next boot"]);
    assert_eq!(mounts_below(&machine.at("/a")).len(), 3);
    assert_eq!(state("/a"), "busy");
    machine.manifest(&manifest(json!([])));
    machine.run_live(&[]).ok();
    assert_eq!(mounts_below(&machine.at("/a")), []);
    assert!(!machine.at("/a").exists());
}

fn a_busy_one_stays_until_it_is_free() {
    let machine =
        started(json!([{ "directory": "/cwd" }, { "directory": "/open" }, { "directory": "/free" }]));
    let mut users = [inside(&machine, "cd /cwd"), inside(&machine, "exec 3>/open/file")];
    machine.manifest(&manifest(json!([])));
    let output = machine.run_live(&[]).ok();
    output.says(&["/cwd: it is no longer named, but in use", "/open: it is", "lsof +D /cwd"]);
    assert!(machine.mount_at("/cwd").is_some() && machine.mount_at("/open").is_some());
    assert!(machine.mount_at("/free").is_none());
    assert_eq!((state("/cwd"), state("/open")), ("busy".to_owned(), "busy".to_owned()));
    // Still so, and not forgotten.
    machine.run_live(&[]).ok().says(&["/cwd: ", "/open: "]);

    for user in &mut users {
        user.kill().unwrap();
        user.wait().unwrap();
    }
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/cwd").is_none() && machine.mount_at("/open").is_none());
    assert_eq!(report()["entries"], json!([]));
    assert!(machine.at("/persist/open/file").exists());
}

fn a_failure_takes_nothing_away() {
    let before = json!([{ "directory": "/gone" }, { "directory": "/outer/dir" }]);
    let machine = started(before.clone());
    let [gone, outer] = ["/gone", "/outer/dir"].map(|path| machine.mount_at(path).unwrap());
    fs::write(machine.at("/persist/wrong"), "a file").unwrap();
    fs::write(machine.at("/outer/dir/file"), "kept").unwrap();
    machine.manifest(&manifest(json!([{ "directory": "/outer" }, { "directory": "/wrong" }])));
    let output = machine.run_live(&[]);
    assert_eq!(output.code, Some(1), "{output:?}");
    output.says(&["/wrong: "]);
    // The one was never touched, also not for a moment. The other was in the way, and is back.
    assert_eq!(machine.mount_at("/gone").unwrap(), gone);
    assert_eq!(machine.mount_at("/outer/dir").unwrap().root, outer.root);
    assert_eq!(fs::read_to_string(machine.at("/outer/dir/file")).unwrap(), "kept");
    assert!(machine.mount_at("/outer").is_none() && machine.mount_at("/wrong").is_none());
    assert_eq!((state("/gone"), state("/outer/dir")), ("mounted".to_owned(), "mounted".to_owned()));
    machine.manifest(&manifest(before));
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/gone").unwrap(), gone);
}

/// The entry changes its method, and another one fails after its mount.
fn a_link_comes_back_after_a_failure() {
    let entries = |method: &str| {
        json!([
            { "directory": "/srv/a", "method": method },
            { "file": "/etc/a", "method": method, "missing": "create" },
        ])
    };
    let machine = started(entries("symlink"));
    let mut changed = entries("bind");
    changed.as_array_mut().unwrap().push(json!({ "file": "/z", "missing": "fail" }));
    machine.manifest(&manifest(changed));
    let output = machine.run_live(&[]).expect(1);
    assert!(!output.stderr.contains("cannot put it back"), "{output:?}");
    for path in ["/srv/a", "/etc/a"] {
        assert_eq!(fs::read_link(machine.at(path)).unwrap(), Path::new("/persist").join(&path[1..]));
        assert_eq!(state(path), "linked");
    }
}

fn a_source_changes() {
    let machine = started(json!([{ "directory": "/srv" }, { "directory": "/kept" }]));
    fs::write(machine.at("/srv/one"), "one").unwrap();
    let kept = machine.mount_at("/kept");
    machine
        .manifest(&manifest(json!([{ "directory": "/srv", "source": "/other" }, { "directory": "/kept" }])));
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/other"));
    assert_eq!(fs::read_dir(machine.at("/srv")).unwrap().count(), 0);
    assert_eq!(machine.mount_at("/kept"), kept);
    assert!(machine.at("/persist/srv/one").exists());
    assert_eq!(mounts_below(&machine.at("/srv")).len(), 1, "the old one is not below the new one");

    // A mount in use keeps its source until free.
    let mut user = inside(&machine, "cd /srv");
    machine.manifest(&manifest(json!([{ "directory": "/srv" }, { "directory": "/kept" }])));
    let output = machine.run_live(&[]);
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/other"), "{output:?}");
    output.says(&["/srv: ", "in use", "lsof +D /srv"]);
    user.kill().unwrap();
    user.wait().unwrap();
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/srv").unwrap().root, Path::new("/srv"));
}

fn a_source_changed_by_a_run_that_was_stopped() {
    let machine = started(json!([{ "directory": "/srv" }]));
    let before = fs::read("/run/imp-mount/report.json").unwrap();
    machine.manifest(&manifest(json!([{ "directory": "/srv", "source": "/other" }])));
    machine.run_live(&[]).ok();
    // The run was stopped before its report.
    fs::write("/run/imp-mount/report.json", before).unwrap();
    let output = machine.run_live(&[]).ok();
    assert!(!output.stderr.contains("not what was mounted"), "{output:?}");
    assert_eq!(
        (state("/srv"), machine.mount_at("/srv").unwrap().root.to_str()),
        ("mounted".into(), Some("/other"))
    );
    assert!(utab("/srv").iter().any(|line| line.contains("ROOT=/other")), "{:?}", utab("/srv"));
    machine.manifest(&manifest(json!([])));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/srv").is_none());
}

fn a_skipped_entry_removes_mounts_above_it() {
    let machine = started(json!([{ "directory": "/a" }]));
    machine.manifest(&manifest(json!([{ "directory": "/a/b" }])));
    machine.cmdline("imp-mount.skip=/a/b");
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/a").is_none());
    assert_eq!(state("/a/b"), "skipped");
    assert!(!machine.at("/persist/a/b").exists());
}

fn an_early_run_leaves_later_entries() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    fs::create_dir_all(machine.at("/persist/etc")).unwrap();
    fs::write(machine.at("/persist/etc/key-1"), "key").unwrap();
    machine.manifest(&manifest(json!([{ "file": "/etc/key-*" }, { "directory": "/srv" }])));
    machine.build().ok();
    machine.switch_root();
    let mounted = ["/etc/key-1", "/srv"].map(|path| machine.mount_at(path).unwrap());
    machine.run_live(&["--phase", "early"]).ok();
    assert_eq!(["/etc/key-1", "/srv"].map(|path| machine.mount_at(path).unwrap()), mounted);
}

fn options_change() {
    let machine = started(json!([{ "directory": "/a" }, { "directory": "/b", "options": ["noexec", "ro"] }]));
    let id = |path: &str| machine.mount_at(path).unwrap().id;
    let ids = (id("/a"), id("/b"));
    let become_ = |a: Value, b: Value| -> (Mount, Mount) {
        machine.manifest(&manifest(
            json!([{ "directory": "/a", "options": a }, { "directory": "/b", "options": b }]),
        ));
        machine.run_live(&[]).ok();
        assert_eq!((id("/a"), id("/b")), ids);
        machine.run_live(&["--check"]).ok();
        (machine.mount_at("/a").unwrap(), machine.mount_at("/b").unwrap())
    };
    let (a, b) = become_(json!(["ro", "noexec", "suid", "noatime"]), json!(["rw"]));
    assert!(
        a.has("ro") && a.has("noexec") && a.has("noatime") && a.has("nodev") && !a.has("nosuid"),
        "{a:?}"
    );
    assert!(!b.options.contains("ro,") && !b.has("noexec") && b.has("nosuid") && b.has("nodev"), "{b:?}");
    let (a, b) = become_(json!([]), json!(["dev"]));
    assert!(a.has("relatime") && a.has("nosuid") && !a.has("noexec") && a.options.starts_with("rw"), "{a:?}");
    assert!(!b.has("nodev"), "{b:?}");
    // The store's own mount keeps its options.
    assert!(machine.mount_at("/persist").unwrap().options.starts_with("rw,relatime"));
}

fn required_entries_are_guarded_without_an_emergency_mode() {
    let late = |path: &str| json!({ "directory": path, "phase": "live" });
    let entries =
        json!([{ "directory": "/srv" }, late("/late/bad"), late("/late/bad/below"), late("/late/good")]);
    let machine = started(entries);
    fs::create_dir(machine.at("/persist/late")).unwrap();
    fs::write(machine.at("/persist/late/bad"), "a file").unwrap();
    // Data is in memory there already: later files would be lost as well.
    fs::create_dir_all(machine.at("/late/bad/early")).unwrap();
    let before = mounts();
    machine.run_live(&[]).expect(1).says(&["/late/bad: "]);
    assert_eq!(mounts(), before);

    machine.run_live(&["--guard"]).ok().says(&["/late/bad: ", "holds `early`"]);
    let guard = machine.mount_at("/late/bad").unwrap();
    assert!(guard.has("ro") && guard.has("noexec"), "{guard:?}");
    assert_eq!(stat(machine.at("/late/bad")).0 & 0o7777, 0);
    assert!(fs::create_dir(machine.at("/late/bad/lost")).is_err());
    assert_eq!(machine.mount_at("/late/good").unwrap().root, Path::new("/late/good"));
    assert_eq!(["/late/bad", "/late/bad/below"].map(state), ["guarded", "guarded"]);
    let check = machine.run_live(&["--check"]).expect(1).stdout;
    assert!(check.contains("not mounted         /late/bad: guarded: "), "{check}");

    // After the mend, the entry replaces its guard, once no data is hidden.
    fs::remove_file(machine.at("/persist/late/bad")).unwrap();
    machine.run_live(&[]).expect(1).says(&["/late/bad: the target holds `early`"]);
    detach(&machine.at("/late/bad"));
    fs::remove_dir(machine.at("/late/bad/early")).unwrap();
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/late/bad").unwrap().root, Path::new("/late/bad"));

    // A pattern names no file to guard.
    fs::write(machine.at("/persist/folder"), "a file").unwrap();
    machine.manifest(&manifest(json!([{ "file": "/folder/key_*", "phase": "live" }])));
    machine.run_live(&["--guard"]).expect(1).says(&["/folder/key_*: "]);
}

fn a_guard_gives_way_to_the_store() {
    let manifest = |entries: &Value| {
        let stores = json!([{ "path": "/persist" }, { "path": "/late", "required": false }]);
        json!({ "version": 1, "root": {}, "entries": entries, "stores": stores })
    };
    let (machine, late) = (Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8)), Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/srv", "store": "/persist" },
        { "directory": "/var/lib/late", "store": "/late", "mode": "0700" },
        { "directory": "/var/lib/late/deep", "store": "/late" },
        { "file": "/etc/late", "store": "/late", "missing": "create" },
    ]);
    machine.manifest(&manifest(&entries));
    machine.build().ok().says(&["store /late: nothing is mounted"]);
    for path in ["/var/lib/late", "/etc/late"] {
        let guard = machine.mount_at(path).unwrap();
        assert!(guard.has("ro") && guard.has("noexec"), "{guard:?}");
        assert_eq!(stat(machine.at(path)).0 & 0o7777, 0);
        assert_eq!(state(path), "guarded");
    }
    assert!(fs::create_dir(machine.at("/var/lib/late/lost")).is_err());
    machine.switch_root();
    let check = machine.run_live(&["--check"]).expect(1).stdout;
    assert!(check.contains("not mounted         /var/lib/late: guarded"), "{check}");
    // The guard stays as long as the store is away.
    let (before, guarded) = (mounts(), state("/var/lib/late/deep"));
    machine.run_live(&[]).ok();
    assert_eq!((mounts(), state("/var/lib/late/deep")), (before, guarded));

    // After another failure the guard stays, though the store is back.
    late.mount(machine.at("/late"));
    fs::write(machine.at("/persist/wrong"), "").unwrap();
    let mut more = entries.clone();
    more.as_array_mut().unwrap().push(json!({ "directory": "/wrong", "store": "/persist" }));
    machine.manifest(&manifest(&more));
    machine.run_live(&[]).expect(1).says(&["/wrong: "]);
    for path in ["/var/lib/late", "/etc/late"] {
        assert!(machine.mount_at(path).unwrap().has("ro"), "{path}");
        assert_eq!((stat(machine.at(path)).0 & 0o7777, state(path).as_str()), (0, "guarded"));
    }
    assert_eq!(mounts_below(&machine.at("/var")).len(), 1);
    machine.manifest(&manifest(&entries));
    machine.run_live(&[]).ok();
    for path in ["/var/lib/late", "/var/lib/late/deep", "/etc/late"] {
        assert!(machine.mount_at(path).unwrap().root.ends_with(&path[1..]), "{path}");
        assert_eq!(state(path), "mounted");
    }
    assert_eq!(stat(machine.at("/var/lib/late")), (0o040_700, 0, 0));
    assert_eq!(mounts_below(&machine.at("/var")).len(), 2, "no guard is left below");
    machine.run_live(&["--check"]).ok();
}

/// The lines of utab whose target this is.
fn utab(target: &str) -> Vec<String> {
    let text = fs::read_to_string("/run/mount/utab").unwrap_or_default();
    let wanted = format!(" TARGET={target} ");
    text.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
}

fn file_managers_are_told() {
    fs::create_dir("/run/mount").unwrap();
    let foreign = "ID=1 SRC=//nas/x TARGET=/mnt/nas ROOT=/ OPTS=user=me\n";
    fs::write("/run/mount/utab", foreign).unwrap();
    let machine = started(json!([
        { "directory": "/srv" },
        { "directory": "/home/me/My Files", "hidden": true, "trash": true, "options": ["noexec"] },
        { "file": "/etc/key", "missing": "create", "options": ["x-gvfs-hide"] },
    ]));
    let device = machine.disk().device.display().to_string();
    // The final paths, though the root was built below a sysroot.
    assert_eq!(utab("/srv"), [format!("SRC={device} TARGET=/srv ROOT=/srv OPTS=x-initrd.mount")]);
    assert_eq!(
        utab("/home/me/My\\040Files"),
        [format!(
            "SRC={device} TARGET=/home/me/My\\040Files ROOT=/home/me/My\\040Files OPTS=x-initrd.mount,x-gvfs-hide,x-gvfs-trash"
        )]
    );
    assert!(fs::read_to_string("/run/mount/utab").unwrap().starts_with(foreign));
    let findmnt =
        |path: &str| machine.run_inside(&["findmnt", "-mno", "OPTIONS", "--target", path]).ok().stdout;
    for path in ["/etc/key", "/home/me/My Files"] {
        assert!(findmnt(path).contains("x-gvfs-hide"), "{path}: {}", findmnt(path));
    }
    assert!(findmnt("/home/me/My Files").contains("noexec"));
    assert!(findmnt("/srv").contains("x-initrd.mount") && !findmnt("/srv").contains("x-gvfs-hide"));

    machine.manifest(&manifest(json!([{ "directory": "/srv", "hidden": true }, { "directory": "/new" }])));
    machine.run_live(&[]).ok();
    assert!(utab("/srv")[0].ends_with("OPTS=x-initrd.mount,x-gvfs-hide"));
    assert_eq!((utab("/new").len(), utab("/etc/key").len(), utab("/mnt/nas").len()), (1, 0, 1));
    assert_eq!(fs::read_to_string("/run/mount/utab").unwrap().lines().count(), 3);
}

fn no_mount_is_there_before_its_line_in_utab() {
    let mut entries = json!([
        { "file": "/etc/absent", "missing": "skip" },
        { "file": "/etc/keys/*" },
        { "directory": "/srv/failed", "required": false },
        { "directory": "/srv/unmounted" },
    ]);
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(entries.clone()));
    machine.disk().visit(|store| {
        fs::create_dir_all(store.join("srv")).unwrap();
        fs::write(store.join("srv/failed"), "no directory").unwrap();
    });
    machine.build().ok();
    machine.switch_root();
    for name in ["etc/absent", "etc/keys/one", "etc/keys/two"] {
        let path = machine.at("/persist").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::remove_file(machine.at("/persist/srv/failed")).unwrap();
    entries.as_array_mut().unwrap().push(json!({ "directory": "/srv/new" }));
    machine.manifest(&manifest(entries));
    machine.run_inside(&["umount", "/srv/unmounted"]).ok();
    let targets =
        ["/etc/absent", "/etc/keys/one", "/etc/keys/two", "/srv/failed", "/srv/new", "/srv/unmounted"];
    let device = machine.disk().device.display().to_string();
    let is_mounted =
        |target: &str| machine.mount_at(target).is_some_and(|mount| mount.root == Path::new(target));
    assert!(!targets.iter().any(|target| is_mounted(target)));
    machine
        .interrupt_live(&[], &mut |entry| {
            for target in targets.iter().filter(|target| is_mounted(target)) {
                let line = format!("SRC={device} TARGET={target} ROOT={target} OPTS=x-initrd.mount");
                assert_eq!(utab(target), [line], "{target} before {:?}", entry.call);
            }
            true
        })
        .ok();
    for target in targets {
        assert!(is_mounted(target), "{target}: {:?}", mounts());
    }
}
