//! Failures: one clear line, the right exit code, and nothing lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::live::{report, state};
use crate::roots::manifest;
use crate::support::command::{sh, sh_on};
use crate::support::look::stat;
use crate::support::namespace::propagate;
use crate::support::trees::Look;
use crate::support::{Disk, Fs, Machine, Output, Root, imp_mount, mounts, run};

tests![
    the_wrong_type: Disk,
    an_occupied_target_at_boot: Disk,
    an_immutable_directory: Disk,
    no_privilege: Root,
    no_manifest: Root,
    no_run: Disk,
    no_proc: Disk,
    no_proc_on_a_ready_root: Disk,
    an_optional_entry: Disk,
    an_optional_store: Disk,
];

/// A machine with these entries, on ext4.
pub fn machine(entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!({}), entries));
    machine
}

/// The build fails with one line of all these words; there is no mount, and no file on the disk is lost.
#[track_caller]
pub fn fails(machine: &Machine, words: &[&str]) {
    let before = mounts();
    let disk = machine.disk().snapshot();
    let output = machine.build().expect(1);
    one_line(&output, words);
    assert_eq!(output.stderr.matches("error: ").count(), 1, "{output:?}");
    assert_eq!(mounts(), before);
    assert_eq!(disk.losses(&machine.disk().snapshot()), [""; 0]);
    assert_eq!(report()["runs"].as_array().unwrap().last().unwrap()["outcome"], "failed");
}

/// All of these words stand in one and the same line.
#[track_caller]
pub fn one_line(output: &Output, words: &[&str]) {
    let found = output.stderr.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no line with {words:?} in {output:?}");
}

fn the_wrong_type() {
    let machine = machine(json!([{ "directory": "/srv/x/y" }]));
    let persist = machine.at("/persist");
    fs::write(persist.join("file"), "").unwrap();
    fs::create_dir(persist.join("dir")).unwrap();
    symlink("/persist/dir", persist.join("link")).unwrap();
    sh_on("mkfifo", &[&persist.join("fifo")]);
    sh("mknod /tmp/machine/sysroot/persist/device c 1 3");
    for (entry, words) in [
        (json!({ "directory": "/file" }), "/persist/file is a regular file, not a directory"),
        (json!({ "directory": "/file/below" }), "/persist/file is a regular file, not a directory"),
        (json!({ "file": "/dir" }), "/persist/dir is a directory, not a regular file"),
        (json!({ "directory": "/link" }), "/persist/link is a symbolic link to /persist/dir"),
        (json!({ "directory": "/link/below" }), "/persist/link is a symbolic link to /persist/dir"),
        (json!({ "file": "/link" }), "/persist/link is a symbolic link to /persist/dir"),
        (json!({ "file": "/fifo" }), "/persist/fifo is a FIFO, not a regular file"),
        (json!({ "directory": "/device" }), "/persist/device is a character device, not a directory"),
    ] {
        let target = entry.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        machine.manifest(&manifest(json!({}), json!([entry])));
        fails(&machine, &[&format!("error: {target}: "), words]);
    }
}

fn an_occupied_target_at_boot() {
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Ext4, 8));
    fs::create_dir(machine.at("/srv")).unwrap();
    fs::write(machine.at("/srv/secret"), "put there by an earlier step of the boot").unwrap();
    fs::write(machine.at("/file"), "").unwrap();
    machine.manifest(&manifest(
        Value::Null,
        json!([{ "directory": "/srv" }, { "file": "/file", "missing": "create" }]),
    ));
    // The file cannot be adopted here, but the boot continues with a warning.
    one_line(&machine.build().ok(), &["warning: /srv: the target holds `secret`", "hide", "move it"]);
    sh_on("umount", &[&machine.at("/srv")]);
    assert!(machine.at("/srv/secret").exists());

    machine.manifest(&manifest(Value::Null, json!([{ "directory": "/other" }])));
    machine.power_off();
    machine.power_on();
    fs::write(machine.at("/other"), "x").unwrap();
    fails(&machine, &["error: /other: /other is a regular file, not a directory", "move it away"]);
}

fn an_immutable_directory() {
    let machine = machine(json!([{ "directory": "/srv/new" }]));
    let srv = machine.at("/persist/srv");
    fs::create_dir(&srv).unwrap();
    sh_on("chattr +i", &[&srv]);
    fails(&machine, &["/srv/new: ", "/persist/srv/new", "Operation not permitted", "lsattr"]);
    sh_on("chattr -i", &[&srv]);
    machine.build().ok();
}

fn no_privilege() {
    let program = imp_mount();
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let words = ["--manifest", "/tmp/machine/manifest", "--sysroot", "/tmp/machine/sysroot"];
    let caps = ["setpriv", "--bounding-set", "-sys_admin", program];
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program];
    for who in [&caps[..], &user[..]] {
        for verb in [&[][..], &["--settle"], &["--adopt"]] {
            let output = run(&[who, &words, verb].concat()).expect(2);
            one_line(&output, &["error: mounting needs CAP_SYS_ADMIN", "as root", "CapabilityBoundingSet="]);
        }
        run(&[who, &words, &["--plan"]].concat()).ok();
    }
    assert!(!Path::new("/run/imp-mount").exists());
}

fn no_manifest() {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let path = machine.home().join("manifest");
    let good = fs::read(&path).unwrap();
    let mut newer = good.clone();
    newer[8] += 1;
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let text = fs::read(machine.home().join("manifest.json")).unwrap();
    let before = mounts();
    for (bytes, words) in [
        (None, "cannot read it: No such file"),
        (Some(&b""[..]), "the file is empty"),
        (Some(&good[..good.len() / 2]), "cut off"),
        (Some(&b"\x7fELF and so on, for many bytes"[..]), "no manifest"),
        (Some(&newer[..]), "newer than"),
        (Some(&damaged[..]), "checksum"),
        (Some(&text[..]), "text form"),
    ] {
        match bytes {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        for verb in [&[][..], &["--settle"], &["--plan"], &["--adopt"]] {
            let output = machine.run(verb).expect(2);
            one_line(&output, &["error: manifest /tmp/machine/manifest: ", words, "; "]);
            // The output of the unit that stops a boot ends with the next steps.
            let run = usize::from(verb.is_empty());
            assert_eq!(output.stderr.lines().count(), 1 + run, "{output:?}");
            let last = output.stderr.lines().last().unwrap_or_default();
            assert_eq!(last.contains("run `imp-mount --check`"), verb.is_empty(), "{output:?}");
        }
        // The way back works without one, too.
        machine.cmdline("imp-mount=off");
        let output = machine.build().ok();
        one_line(&output, &["warning: manifest /tmp/machine/manifest: ", words]);
        one_line(&output, &["warning: switched off by imp-mount=off"]);
        machine.cmdline("");
        assert_eq!(mounts(), before);
    }
}

fn no_run() {
    let machine = machine(json!([{ "directory": "/srv" }]));
    propagate("/", nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE);
    sh("mount -o remount,ro /run");
    // Only the report and the lines for file managers are missing.
    let output = machine.build().ok();
    one_line(&output, &["cannot write /run/imp-mount/report.json", "Read-only"]);
    one_line(&output, &["cannot use /run/imp-mount", "Read-only", "going on without a lock"]);
    one_line(&output, &["cannot open /run/mount/utab", "Read-only", "shown by file managers"]);
    assert!(machine.mount_at("/srv").is_some());
    machine.run(&["--check"]).ok();
}

fn no_proc() {
    let _machine = machine(json!([{ "directory": "/srv" }]));
    let before = mounts();
    let program = imp_mount();
    let line = format!("{program} --manifest /tmp/machine/manifest --sysroot /tmp/machine/sysroot");
    let script = format!("mount -t tmpfs none /proc && {line}; code=$?; umount /proc; exit $code");
    let output = run(&["sh", "-c", &script]);
    assert_eq!(output.code, Some(1), "{output:?}");
    one_line(
        &output,
        &["cannot read the kernel command line from /proc/cmdline", "arguments on it are ignored"],
    );
    one_line(&output, &["error: ", "/proc", "mount /proc"]);
    assert_eq!(mounts(), before);
}

/// Without /proc nothing is looked at by halves, and nothing is said to be brought to the store.
fn no_proc_on_a_ready_root() {
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Ext4, 8));
    let entries =
        json!([{ "directory": "/srv", "user": "unknown" }, { "file": "/etc/file", "missing": "create" }]);
    machine.manifest(&manifest(Value::Null, entries));
    fs::create_dir_all(machine.at("/etc")).unwrap();
    fs::write(machine.at("/etc/file"), "content").unwrap();
    let (before, root, disk) = (mounts(), Look::of(&machine.at("")), machine.disk().snapshot());
    let line = format!("{} --manifest /tmp/machine/manifest --sysroot /tmp/machine/sysroot", imp_mount());
    for (verb, code) in [("", 1), ("--adopt", 2)] {
        let script = format!("mount -t tmpfs none /proc && {line} {verb}; code=$?; umount /proc; exit $code");
        let output = run(&["sh", "-c", &script]).expect(code);
        one_line(&output, &["/proc/self/fd", "mount /proc"]);
        assert_eq!(mounts(), before, "{verb}");
        assert_eq!(root.differences(&Look::of(&machine.at(""))), [""; 0], "{verb}");
        assert_eq!(disk.losses(&machine.disk().snapshot()), [""; 0], "{verb}");
    }
}

fn an_optional_entry() {
    let machine = machine(json!([
        { "directory": "/srv" },
        { "directory": "/wrong", "required": false },
        { "directory": "/wrong/below", "required": false },
        { "file": "/etc/wrong", "required": false },
        { "file": "/etc/gone", "required": false, "missing": "fail" },
    ]));
    fs::write(machine.at("/persist/wrong"), "data").unwrap();
    fs::create_dir_all(machine.at("/persist/etc/wrong/data")).unwrap();
    let disk = machine.disk().snapshot();
    let output = machine.build().ok();
    one_line(&output, &["warning: /wrong: /persist/wrong is a regular file"]);
    one_line(&output, &["warning: /etc/wrong: /persist/etc/wrong is a directory"]);
    one_line(&output, &["warning: /etc/gone: /persist/etc/gone is not there", "bring it there"]);
    for path in ["/wrong", "/etc/wrong", "/etc/gone"] {
        let guard = machine.mount_at(path).unwrap();
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| guard.has(option)), "{guard:?}");
        assert_eq!(stat(machine.at(path)).0 & 0o7777, 0);
        assert_eq!(state(path), "guarded");
    }
    assert_eq!((stat(machine.at("/wrong")).0 >> 12, stat(machine.at("/etc/gone")).0 >> 12), (0o4, 0o10));
    assert!(machine.mount_at("/srv").is_some());
    // Not even root writes to memory there.
    assert!(
        fs::write(machine.at("/wrong/new"), "").is_err() && fs::write(machine.at("/etc/gone"), "").is_err()
    );
    assert_eq!(disk.losses(&machine.disk().snapshot()), [""; 0]);
    let built = mounts();
    machine.build().ok();
    assert_eq!(mounts(), built);

    // Required is the default, and the message names the failed entry.
    machine.power_off();
    machine.power_on();
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }, { "directory": "/wrong" }])));
    fails(&machine, &["error: /wrong: /persist/wrong is a regular file, not a directory"]);
}

fn an_optional_store() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist" }, { "path": "/data", "required": false, "device": "/dev/imp-mount-none" }],
        "entries": [
            { "directory": "/srv", "store": "/persist" },
            { "directory": "/var/lib/big", "store": "/data" },
            { "directory": "/var/lib/big/inner", "store": "/persist" },
            { "file": "/etc/data.conf", "store": "/data" },
        ],
    }));
    // A required entry below a guard cannot be there.
    one_line(
        &machine.build().expect(1),
        &["error: /var/lib/big/inner: ", "below /var/lib/big, which is guarded"],
    );
    assert_eq!(machine.mount_at("/"), None);

    machine.manifest(&json!({
        "version": 1,
        "root": {},
        "stores": [{ "path": "/persist" }, { "path": "/data", "required": false, "device": "/dev/imp-mount-none" }],
        "entries": [
            { "directory": "/srv", "store": "/persist" },
            { "directory": "/var/lib/big", "store": "/data" },
            { "file": "/etc/data.conf", "store": "/data" },
        ],
    }));
    let output = machine.build().ok();
    one_line(&output, &["warning: store /data: ", "/dev/imp-mount-none", "connected"]);
    assert!(machine.mount_at("/var/lib/big").unwrap().has("ro"));
    assert!(machine.mount_at("/etc/data.conf").unwrap().has("ro"));
    assert_eq!(machine.mount_at("/data"), None);
    let stores = report()["stores"].clone();
    assert!(
        stores[0]["path"] == "/data" && stores[0]["failure"].as_str().unwrap().contains("connected"),
        "{stores}"
    );
    assert!(stores[1]["failure"] == "" && stores[1]["fstype"] == "ext4", "{stores}");
}
