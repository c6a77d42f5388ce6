//! Patterns: matched files, ignored files, and copies to the store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::check::{check, is};
use crate::ctl_lost::{adopts_at_shutdown, are, put};
use crate::live::manifest;
use crate::support::look::{mounts_below, stat};
use crate::support::trees;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, json_of, mounts, run};

tests![
    matching_directories_and_links_are_left_alone: Disk,
    a_pattern_at_the_top_of_a_store: Disk,
    matches_with_their_own_entry_are_no_matches: Disk,
    of_several_patterns_the_longest: Disk,
    a_link_is_brought_by_copying_only: Disk,
    a_file_named_as_the_pattern_is_said: Disk,
    a_directory_entry_becomes_a_pattern: Disk,
    a_folder_that_cannot_be_entered_is_a_problem: Disk,
    a_new_match_is_told_from_one_that_is_kept: Disk,
    a_match_that_was_brought_is_mounted_by_the_next_run: Disk,
    a_match_that_is_written_to_is_not_covered: Disk,
    other_commands_leave_directories_alone: Disk,
];

/// A machine with these entries, not booted yet.
fn machine(entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(entries));
    machine
}

/// An object of every type but a regular file, each with a name of its own.
fn odd(folder: &Path) {
    fs::create_dir_all(folder.join("directory/below")).unwrap();
    let fifo = |name: &str| mknodat(CWD, folder.join(name), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fifo("fifo");
    mknodat(CWD, folder.join("device"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    trees::socket(&folder.join("socket"));
}

/// Boots a machine three times, each time with a new root: each boot ends as the first one did, and the second and third
/// change nothing on the store.
#[track_caller]
fn boot_three_times(machine: &Machine) {
    let first = machine.build().ok();
    assert!(!first.stderr.contains("warning"), "{first:?}");
    let look = || {
        let mut mounts: Vec<_> =
            mounts_below(&machine.at("")).into_iter().map(|mount| mount.target).collect();
        mounts.sort();
        (mounts, machine.disk().snapshot())
    };
    let before = look();
    for _ in 0..2 {
        assert_eq!(machine.reboot().ok().stderr, first.stderr);
        assert_eq!(look(), before);
        machine.run(&["--check"]).ok();
    }
}

fn matching_directories_and_links_are_left_alone() {
    let machine = machine(json!([
        { "file": "/etc/*" },
        { "directory": "/etc/NetworkManager/system-connections", "mode": "0700" },
        { "file": "/etc/link/*", "method": "symlink" },
        { "file": "/etc/copy/*", "method": "copy" },
    ]));
    for folder in ["etc", "etc/link", "etc/copy"] {
        odd(&machine.at("/persist").join(folder));
        put(&machine.at("/persist"), &format!("{folder}/file"), "kept");
    }
    boot_three_times(&machine);
    let state = |target: &str| machine.state(target);
    assert_eq!(state("/etc/file").as_deref(), Some("mounted"));
    assert_eq!(state("/etc/link/file").as_deref(), Some("linked"));
    assert_eq!(state("/etc/copy/file").as_deref(), Some("copied"));
    assert_eq!(machine.report()["entries"].as_array().unwrap().len(), 4);
    let names: Vec<_> = fs::read_dir(machine.at("/etc/copy")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    // Nor is any of them copied to the store.
    odd(&machine.at("/etc/copy"));
    let before = machine.disk().snapshot();
    machine.run(&["--adopt"]).ok();
    assert_eq!(machine.disk().snapshot(), before);
}

fn a_pattern_at_the_top_of_a_store() {
    let machine = machine(json!([{ "file": "/*" }, { "file": "/.*" }, { "directory": "/srv" }]));
    let store = machine.at("/persist");
    assert!(store.join("lost+found").is_dir());
    put(&store, ".imp-mount/x", "x");
    fs::set_permissions(store.join(".imp-mount"), Permissions::from_mode(0o700)).unwrap();
    put(&store, "file", "kept");
    // Paths at which no entry can be.
    for name in ["run", "proc", "sys", "dev", "persist", "srv.bak"] {
        put(&store, name, "x");
    }
    boot_three_times(&machine);
    let report = machine.report();
    let entries: Vec<_> = report["entries"].as_array().unwrap().iter().map(|it| &it["target"]).collect();
    assert_eq!(entries, ["/file", "/srv", "/srv.bak"]);
    fs::remove_dir_all(machine.at("/persist/.imp-mount")).unwrap();
    fs::write(machine.at("/persist/.imp-mount"), "x").unwrap();
    machine.reboot().ok();
    assert!(!machine.at("/.imp-mount").exists());
}

fn matches_with_their_own_entry_are_no_matches() {
    let machine = machine(json!([
        { "file": "/etc/*" },
        // Made by the first run, where the second one finds them.
        { "file": "/var/moved", "source": "/etc/moved", "missing": "create" },
        { "file": "/var/copied", "source": "/etc/copied", "missing": "create", "method": "copy" },
        { "file": "/etc/own", "missing": "create" },
        { "file": "/etc/linked", "method": "symlink", "missing": "create" },
        { "directory": "/etc/above/below", "source": "/elsewhere" },
        { "file": "/etc/deep/*" },
    ]));
    // A file where the root needs a directory.
    put(&machine.at("/persist"), "etc/above", "x");
    boot_three_times(&machine);
    let seen: Vec<_> = fs::read_dir(machine.at("/etc")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(machine.at("/etc/above/below").is_dir());
}

fn of_several_patterns_the_longest() {
    let machine = machine(json!([
        { "file": "/etc/*", "options": ["noexec"] },
        { "file": "/etc/a*", "method": "copy" },
        { "file": "/etc/ab?", "method": "symlink" },
        { "file": "/etc/*c", "options": ["ro"] },
    ]));
    for name in ["x", "ax", "abx", "xc", "axc"] {
        put(&machine.at("/persist"), &format!("etc/{name}"), name);
    }
    boot_three_times(&machine);
    for (name, state) in
        [("x", "mounted"), ("ax", "copied"), ("abx", "linked"), ("xc", "mounted"), ("axc", "copied")]
    {
        assert_eq!(machine.state(&format!("/etc/{name}")).as_deref(), Some(state), "{name}");
    }
    let option = |name: &str, option| machine.mount_at(&format!("/etc/{name}")).unwrap().has(option);
    assert!(option("x", "noexec") && !option("xc", "noexec") && option("xc", "ro"));
    assert_eq!(machine.report()["entries"].as_array().unwrap().len(), 5);
    // Each of them is brought once, too.
    put(&machine.at(""), "/etc/aby", "new");
    let before = mounts();
    machine.run(&["--adopt"]).ok();
    assert_eq!(fs::read_to_string(machine.at("/persist/etc/aby")).unwrap(), "new");
    machine.run(&["--check"]).ok();
    assert_eq!(mounts(), before);
}

fn a_link_is_brought_by_copying_only() {
    let machine = machine(json!([{ "file": "/bound/*" }, { "file": "/copied/*", "method": "copy" }]));
    for folder in ["bound", "copied"] {
        fs::create_dir(machine.at("/persist").join(folder)).unwrap();
        symlink("/nowhere", machine.at("/persist").join(folder).join("link")).unwrap();
    }
    let said = |output: &Output| output.stderr.matches("is a symbolic link to /nowhere").count();
    for _ in 0..3 {
        let output = machine.build().ok();
        assert_eq!((said(&output), output.stderr.matches("warning").count()), (1, 1), "{output:?}");
        assert!(output.stderr.contains("/bound/*: /persist/bound/link is"), "{output:?}");
        assert_eq!(fs::read_link(machine.at("/copied/link")).unwrap(), Path::new("/nowhere"));
        assert!(!machine.at("/bound").exists());
        let found = check(&machine, 0);
        assert!(found["notes"].to_string().contains("/persist/bound/link is a symbolic link"), "{found:#}");
        machine.power_off();
        machine.power_on();
    }
}

fn a_file_named_as_the_pattern_is_said() {
    let machine = machine(json!([{ "file": "/etc/*" }]));
    put(&machine.at("/persist"), "etc/*", "x");
    put(&machine.at("/persist"), "etc/kept", "x");
    machine.build().ok().says_in_one_line(&["/etc/*", "the pattern itself", "rename"]);
    machine.reboot().ok();
    assert!(machine.mount_at("/etc/kept").is_some() && !machine.at("/etc/*").exists());
    fs::write(machine.at("/etc/*"), "lost").unwrap();
    machine.run(&["--adopt"]).expect(1).says_in_one_line(&["/etc/*", "the pattern itself", "rename"]);
}

/// A new manifest on the running system: a pattern for the files beside, in place of a directory.
fn a_directory_entry_becomes_a_pattern() {
    let machine = machine(json!([{ "directory": "/etc/app" }, { "file": "/etc/key" }]));
    put(&machine.at("/persist"), "etc/key", "key");
    machine.build().ok();
    machine.switch_root();
    machine.manifest(&manifest(json!([{ "file": "/etc/*" }])));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/etc/app").is_none() && machine.mount_at("/etc/key").is_some());
    machine.run_live(&["--check"]).ok();
    let before = mounts();
    machine.run_live(&[]).ok();
    assert_eq!(mounts(), before);
}

fn a_folder_that_cannot_be_entered_is_a_problem() {
    let machine = machine(json!([{ "file": "/etc/*", "required": false }]));
    symlink("/nowhere", machine.at("/persist/etc")).unwrap();
    machine.build().ok().says(&["/persist/etc is a symbolic link"]);
    is(&check(&machine, 1), "/etc/*", "wrong-source", &["/persist/etc is a symbolic link"]);
}

fn status(machine: &Machine, code: i32) -> Value {
    let root = machine.at("");
    let manifest = machine.home().join("manifest");
    let words = [env!("CARGO_BIN_EXE_impctl"), "status", "--json", "--root"];
    let mut line: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    line.extend([root.as_os_str(), "--manifest".as_ref(), manifest.as_os_str()]);
    json_of(&run(&line).expect(code), "status")
}

fn a_new_match_is_told_from_one_that_is_kept() {
    let machine = machine(json!([{ "file": "/etc/ssh/ssh_host_*" }, { "file": "/new/*", "method": "copy" }]));
    put(&machine.at("/persist"), "etc/ssh/ssh_host_a", "old");
    machine.build().ok();
    let root = machine.at("");
    put(&root, "etc/ssh/ssh_host_b", "new");
    put(&root, "etc/ssh/ssh_host_c/directory", "no match");
    put(&root, "new/x", "new");
    // No unit would run --adopt.
    let found = check(&machine, 1);
    is(&found, "/etc/ssh/ssh_host_a", "ok", &[]);
    is(&found, "/etc/ssh/ssh_host_b", "root-only", &["next boot is without it", "imp-mount --adopt"]);
    is(&found, "/new/x", "root-only", &[]);
    assert_eq!((&found["problems"], found["entries"].as_array().unwrap().len()), (&json!(2), 3));
    assert!(
        found["next"].to_string().contains("systemctl enable --now imp-mount-adopt.service"),
        "{found:#}"
    );
    let kinds = status(&machine, 1)["attention"].to_string();
    assert_eq!(kinds.matches("root-only").count(), 2, "{kinds}");

    adopts_at_shutdown(&root);
    let found = check(&machine, 0);
    is(&found, "/etc/ssh/ssh_host_b", "not-yet-stored", &["imp-mount-adopt.service brings it"]);
    is(&found, "/new/x", "not-yet-stored", &[]);
    let text = machine.run(&["--check"]).stdout;
    assert!(text.contains("not yet on the store /etc/ssh/ssh_host_b: "), "{text}");
    assert!(text.contains("3 paths, 1 ok, 2 not yet on the store, no problem found"), "{text}");
    assert_eq!(status(&machine, 0)["attention"], json!([]));
    // A masked unit, or one with another command, copies no file.
    let unit = root.join("etc/systemd/system/imp-mount-adopt.service");
    fs::write(&unit, "[Service]\nExecStop=true\n").unwrap();
    check(&machine, 1);
    fs::write(&unit, "").unwrap();
    check(&machine, 1);

    machine.run(&["--adopt"]).ok();
    let found = check(&machine, 0);
    is(&found, "/etc/ssh/ssh_host_b", "ok", &["the store has the same", "next run or boot"]);
    is(&found, "/new/x", "ok", &[]);
    assert_eq!(status(&machine, 0)["attention"], json!([]));
    // A changed file is not the version of the store; a file of unknown origin is no newer version either.
    fs::write(root.join("etc/ssh/ssh_host_b"), "NEW").unwrap();
    is(&check(&machine, 1), "/etc/ssh/ssh_host_b", "root-only", &[]);
    for side in ["", "persist/"] {
        put(&root, &format!("{side}etc/ssh/ssh_host_d"), side);
    }
    is(&check(&machine, 1), "/etc/ssh/ssh_host_d", "not-mounted", &[]);
}

fn a_match_that_was_brought_is_mounted_by_the_next_run() {
    let machine = machine(json!([{ "file": "/etc/ssh/ssh_host_*" }, { "directory": "/srv" }]));
    machine.build().ok();
    let key = machine.at("/etc/ssh/ssh_host_a");
    put(&machine.at(""), "etc/ssh/ssh_host_a", "new");
    machine.run(&["--adopt"]).ok();
    // A boot on the existing root.
    let output = machine.build().ok();
    assert!(!output.stderr.contains("warning"), "{output:?}");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&key), inode(&machine.at("/persist/etc/ssh/ssh_host_a")));
    // The running system.
    machine.reboot().ok();
    machine.switch_root();
    put(&machine.at(""), "etc/ssh/ssh_host_b", "new");
    machine.run_live(&["--adopt"]).ok();
    let output = machine.run_live(&[]).ok();
    assert!(!output.stderr.contains("warning"), "{output:?}");
    assert!(machine.mount_at("/etc/ssh/ssh_host_b").is_some());
    // A file with any later change is not covered, and is copied again.
    for (name, change) in [
        ("c", (|path| fs::write(path, "NEW").unwrap()) as fn(&Path)),
        ("d", |path| chown(path, Some(7), None).unwrap()),
        ("e", |path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap()),
    ] {
        let path = machine.at(&format!("/etc/ssh/ssh_host_{name}"));
        fs::write(&path, "new").unwrap();
        machine.run_live(&["--adopt"]).ok();
        change(&path);
        let before = mounts();
        for _ in 0..2 {
            let output = machine.run_live(&[]).ok();
            assert!(!output.stderr.contains("warning"), "{output:?}");
            assert_eq!(mounts(), before);
        }
        machine.run_live(&["--adopt"]).ok();
        let is_same = |path: &Path| (fs::read(path).unwrap(), stat(path));
        assert_eq!(is_same(&machine.at(&format!("/persist/etc/ssh/ssh_host_{name}"))), is_same(&path));
        machine.run_live(&[]).ok();
        // The kernel tells whether a file is open for writing only to its owner, without CAP_LEASE.
        assert_eq!(mounts().len(), before.len() + usize::from(name != "d"));
    }
    // Two unrelated files.
    for side in ["", "persist/"] {
        put(&machine.at(""), &format!("{side}etc/ssh/ssh_host_f"), "f".repeat(side.len() + 1));
    }
    machine
        .run_live(&[])
        .expect(1)
        .says_in_one_line(&["/etc/ssh/ssh_host_f", "1 bytes, which mounting would hide"]);
}

/// A file with an active writer must not end up below a mount, out of sight.
fn a_match_that_is_written_to_is_not_covered() {
    let machine = machine(json!([{ "file": "/log/*" }, { "directory": "/srv" }]));
    machine.build().ok();
    machine.switch_root();
    put(&machine.at(""), "log/a", "begun\n");
    let log = machine.at("/log/a");
    let file = fs::File::options().append(true).open(&log).unwrap();
    let script = "read line; echo more; read line";
    let mut writer = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .unwrap();
    machine.run_live(&["--adopt"]).ok();
    let before = mounts();
    for _ in 0..2 {
        let output = machine.run_live(&[]).ok();
        assert!(!output.stderr.contains("warning"), "{output:?}");
        assert_eq!(mounts(), before);
    }
    assert_eq!(machine.state("/log/a").as_deref(), Some("copied"));
    machine.run_live(&["--check"]).ok();
    drop(writer.stdin.take());
    writer.wait().unwrap();
    let output = machine.run_live(&["--check"]).expect(1);
    assert!(output.stdout.contains("on the root only    /log/a"), "{output:?}");
    machine.run_live(&["--adopt"]).ok();
    machine.reboot().ok();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text, "begun\nmore\n");
}

fn other_commands_leave_directories_alone() {
    let machine = machine(json!([{ "file": "/etc/*" }, { "directory": "/etc/app/own" }]));
    let (root, store) = (machine.at(""), machine.at("/persist"));
    put(&store, "etc/app/own/kept", "x");
    put(&store, "etc/app/orphan", "x");
    put(&store, "etc/directory/x", "x");
    put(&store, "etc/file", "x");
    put(&store, ".imp-mount/staging/x", "x");
    symlink("nowhere", store.join("etc/link")).unwrap();
    machine.build().ok();
    let compiled = machine.home().join("manifest");
    let impctl = |command: &str, words: &[&str]| {
        let mut line: Vec<_> = vec![env!("CARGO_BIN_EXE_impctl").as_ref(), command.as_ref()];
        line.extend(["--manifest".as_ref(), compiled.as_os_str()]);
        line.extend(words.iter().map(std::ffi::OsStr::new));
        run(&line)
    };
    let at = root.to_str().unwrap();
    let output = impctl("orphans", &["--root", at, "--json"]).expect(1);
    let found = json_of(&output, "orphans");
    are(
        &found["stores"][0]["orphans"],
        &["file /persist/etc/app/orphan", "directory /persist/etc/directory", "link /persist/etc/link"],
    );

    put(&root, "etc/other/x", "x");
    let output = impctl("lost", &["--root", at, "--json"]).expect(1);
    are(&json_of(&output, "lost")["lost"], &["directory /etc/other"]);

    // Files of an unconverted system.
    fs::remove_dir_all(store.join(".imp-mount")).unwrap();
    let from = Path::new("/tmp/from");
    put(from, "etc/key", "x");
    put(from, "etc/app/own/new", "x");
    put(from, "etc/other/x", "x");
    symlink("nowhere", from.join("etc/dangling")).unwrap();
    let output = impctl("migrate", &["--from", "/tmp/from", "--store", &format!("/persist={at}/persist")]);
    assert!(output.clone().ok().stdout.contains("/etc/other"), "{output:?}");
    assert!(store.join("etc/key").exists() && store.join("etc/app/own/new").exists());
    assert!(!store.join("etc/other").exists() && fs::symlink_metadata(store.join("etc/dangling")).is_err());

    // A directory matched by a pattern can be adopted.
    machine.switch_root();
    machine.impctl("adopt", &["/etc/other"]).ok();
    assert!(machine.mount_at("/etc/other").is_some() && store.join("etc/other/x").exists());
    put(&root, "etc/new", "x");
    machine.impctl("adopt", &["/etc/new"]).expect(1).says(&["by the entry /etc/*", "imp-mount --adopt"]);
    let before = Snapshot::of(&store);
    machine.run_live(&[]).ok();
    assert_eq!(Snapshot::of(&store), before);
}
