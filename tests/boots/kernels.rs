//! The oldest supported kernel, and another processor: runs in an initrd, and on the new root.
//!
//! `guest/kernel` is the whole system of these machines, and makes the same checks on both.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::boot::compile;
use crate::computer::{Computer, Hardware, On, Suite, prepared};
use crate::console::Console;
use crate::drive::Drive;
use crate::support::command::sh_on;
use crate::support::{Fs, run, scratch};

tests![linux_5_10, aarch64];

/// The manifests whose system calls are looked at.
const TRACED: [&str; 2] = ["main", "convert"];

/// Without `mount_setattr(2)`, `statmount(2)`, mounts on detached mounts, and mounts beneath others.
fn linux_5_10() {
    let told = Kernel {
        name: "linux-5.10",
        hardware: Hardware::x86_64("linux-5.10/kernel"),
        program: prepared().join("imp-mount"),
        release: "5.10.",
        kills: 26,
    }
    .test();
    for manifest in TRACED {
        told.answers(manifest, "mount_setattr", "ENOSYS");
        told.answers(manifest, "openat2", "ok");
        told.answers(manifest, "mount", "ok");
        for call in ["open_tree", "move_mount", "mount_setattr", "fsmount", "statmount"] {
            told.lacks(manifest, call);
        }
    }
}

/// Only without mounts on detached mounts (Linux 6.15).
fn aarch64() {
    let told = Kernel {
        name: "aarch64",
        hardware: Hardware::aarch64("aarch64/kernel"),
        program: prepared().join("aarch64/imp-mount"),
        release: "6.12.",
        kills: 8,
    }
    .test();
    for manifest in TRACED {
        for call in ["openat2", "open_tree", "mount_setattr", "move_mount", "fsmount", "statmount"] {
            told.answers(manifest, call, "ok");
        }
        told.answers(manifest, "move_mount", "EINVAL");
    }
}

/// A machine with no more than a kernel.
struct Kernel {
    /// Its folder of the prepared files.
    name: &'static str,
    hardware: Hardware,
    /// The imp-mount for its processor.
    program: PathBuf,
    release: &'static str,
    /// Maximum number of killed runs of each kind.
    kills: usize,
}

/// Said by the second boot.
struct Told(Console);

impl Kernel {
    fn test(&self) -> Told {
        let drives = ["persist", "data", "disk"].map(|label| Drive::new(label, Fs::Ext4, 32));
        let computer = Computer::with(On::Qemu, Suite::Stable, drives.into());
        let initrd = self.initrd();
        let boot = |part: &str| {
            let words = format!(
                "loglevel=3 panic=-1 mitigations=off imp-mount.skip=/opt/skipped kills={} part={part}",
                self.kills
            );
            let console = computer.boot_initrd(&self.hardware, &initrd, &words).passed();
            let release = console.told("kernel");
            assert!(release.len() == 1 && release[0].starts_with(self.release), "{release:?}");
            console
        };
        let first = boot("first");
        computer.drive("persist").is_clean().visit(|store| {
            let look = |path: &str| {
                let found = fs::symlink_metadata(store.join(path)).unwrap();
                (found.uid(), found.gid(), found.mode() & 0o7777)
            };
            assert_eq!(look("var/lib/plex"), (193, 194, 0o750));
            assert_eq!(look("home/a"), (1000, 100, 0o700));
            assert_eq!(look("etc/app.conf"), (193, 0, 0o600));
            assert_eq!(fs::read_to_string(store.join("var/log/kept")).unwrap(), "kept\n");
            assert!(!store.join("var/lib/lost").exists());
        });
        computer.drive("data").is_clean().visit(|store| {
            assert_eq!(fs::read_to_string(store.join("home/a/deep/data/kept")).unwrap(), "kept\n");
        });
        let told = Told(boot("again"));
        for drive in &computer.drives {
            drive.is_clean();
        }
        let killed = told.0.told("killed");
        let counts = killed.iter().filter_map(|line| line.split(' ').nth(2)?.parse().ok());
        assert!(counts.filter(|count: &usize| *count > self.kills / 2).count() == TRACED.len(), "{killed:?}");
        self.summarize(&first, &told);
        told
    }

    /// Writes a summary for `tests/boots/run`.
    fn summarize(&self, first: &Console, told: &Told) {
        let checks: usize = [first, &told.0].map(|console| console.lines("PROBE ok ").count()).iter().sum();
        let mut text = format!("Linux {}: {checks} checks, none failed\n", told.0.told("kernel")[0]);
        for killed in told.0.told("killed") {
            writeln!(text, "  killed and done again: {killed}").unwrap();
        }
        for manifest in TRACED {
            let calls: Vec<_> = told
                .calls(manifest)
                .filter(|[call, result, _]| MOUNTS.contains(call) && *result != "ENOENT")
                .map(|[call, result, count]| format!("{call} {result} {count}"))
                .collect();
            writeln!(text, "  calls of {manifest}: {}", calls.join(", ")).unwrap();
        }
        fs::write(prepared().join(format!("{}.told", self.name)), text).unwrap();
    }

    fn initrd(&self) -> PathBuf {
        let tree = Path::new("/tmp/initrd-tree");
        sh_on("cp -a", &[&prepared().join(self.name).join("initrd"), tree]);
        let folder = tree.join("guest/manifests");
        fs::create_dir_all(&folder).unwrap();
        for (name, manifest) in manifests() {
            fs::write(folder.join(name), compile(&manifest)).unwrap();
        }
        fs::write(folder.join("damaged"), &compile(&main_manifest())[..40]).unwrap();
        fs::copy(&self.program, tree.join("guest/bin/imp-mount")).unwrap();
        for name in ["init", "guest/kernel"] {
            fs::write(tree.join(name), include_str!("guest/kernel")).unwrap();
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(tree.join("bin")).unwrap();
        symlink("/guest/bin/busybox", tree.join("bin/sh")).unwrap();
        let initrd = scratch().join("initrd");
        let pack = "cd $1; find . -print0 | cpio --null --create --format=newc --quiet --owner=0:0 > $2";
        run(&["sh".as_ref(), "-c".as_ref(), pack.as_ref(), "pack".as_ref(), tree, &initrd]).ok();
        initrd
    }
}

/// System calls with differences between kernels.
const MOUNTS: [&str; 8] =
    ["fsmount", "fsopen", "mount", "mount_setattr", "move_mount", "open_tree", "openat2", "statmount"];

impl Told {
    /// The system calls of a run: name, result, how often.
    fn calls<'a>(&'a self, manifest: &str) -> impl Iterator<Item = [&'a str; 3]> {
        let lines = self.0.told(&format!("calls of {manifest}")).into_iter();
        lines.map(|line| <[&str; 3]>::try_from(line.split(' ').collect::<Vec<_>>()).unwrap())
    }

    /// The kernel gave this result at least once.
    #[track_caller]
    fn answers(&self, manifest: &str, call: &str, result: &str) {
        let mut calls = self.calls(manifest);
        assert!(
            calls.any(|[one, given, _]| one == call && given == result),
            "{manifest}: no {call} {result}"
        );
    }

    /// The call never did anything.
    #[track_caller]
    fn lacks(&self, manifest: &str, call: &str) {
        let mut calls = self.calls(manifest);
        assert!(!calls.any(|[one, given, _]| one == call && given == "ok"), "{manifest}: {call}");
    }
}

fn root() -> Value {
    json!({ "size": "16M", "mode": "0751", "inodes": "20k", "options": ["inode64", "noatime"] })
}

/// One entry of each kind.
fn entries() -> Value {
    json!([
        { "directory": "/nix", "phase": "early" },
        { "directory": "/var/log" },
        { "directory": "/var/lib/plex", "user": "plex", "group": "plex", "mode": "0750", "options": ["noexec", "noatime"] },
        { "directory": "/var/lib/waits", "user": "svc", "group": "svc", "mode": "0750" },
        { "directory": "/var/lib/ready", "user": "plex", "mode": "2755" },
        { "directory": "/var/lib/nolinks", "options": ["nosymfollow"] },
        { "directory": "/var/lib/fixed", "options": ["ro"] },
        { "directory": "/var/lib/optional", "required": false },
        { "directory": "/var/lib/enforced", "user": "plex", "group": "plex", "mode": "0700", "enforce": true },
        { "directory": "/home/a", "user": "a", "group": 100, "mode": "0700" },
        { "directory": "/home/a/deep/data", "store": "/data", "user": "a", "group": 100, "options": ["noexec"] },
        { "directory": "/srv/moved", "source": "/elsewhere/it" },
        { "directory": "/srv/below/it", "parents": { "mode": "0711" } },
        { "directory": "/srv/link", "method": "symlink" },
        { "directory": "/opt/skipped" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
        { "file": "/etc/app.conf", "missing": "create", "user": "plex", "mode": "0600" },
        { "file": "/etc/linked" },
        { "file": "/etc/copied", "method": "copy", "missing": "create", "mode": "0640" },
        { "file": "/etc/absent", "missing": "skip" },
        { "file": "/etc/ssh/ssh_host_*" },
    ])
}

fn main_manifest() -> Value {
    let mut entries = entries();
    for entry in entries.as_array_mut().unwrap() {
        if entry["store"].is_null() {
            entry["store"] = "/persist".into();
        }
    }
    json!({
        "version": 1,
        "root": root(),
        "stores": [{ "path": "/persist" }, { "path": "/data", "device": "LABEL=data", "fstype": "ext4", "options": ["noatime"] }],
        "entries": entries,
        "ids": { "users": { "plex": 193, "a": 1000 }, "groups": { "plex": 194 } },
    })
}

/// Every manifest of the guest, by its name there.
fn manifests() -> [(&'static str, Value); 6] {
    let main = main_manifest();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = main.clone();
        change(&mut manifest);
        manifest
    };
    let later =
        json!({ "directory": "/var/lib/later", "store": "/persist", "mode": "0711", "options": ["ro"] });
    let more = changed(&|manifest| manifest["entries"].as_array_mut().unwrap().push(later.clone()));
    let required = changed(&|manifest| {
        for entry in manifest["entries"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("required");
        }
    });
    let noswap = changed(&|manifest| manifest["root"]["options"] = json!(["noswap"]));
    let ready = changed(&|manifest| drop(manifest["root"].take()));
    let convert = changed(&|manifest| {
        manifest["root"]["convert"] = "/persist".into();
        manifest["stores"] = json!([{ "path": "/persist" }]);
        for entry in manifest["entries"].as_array_mut().unwrap() {
            entry["store"] = "/persist".into();
        }
    });
    [
        ("main", main.clone()),
        ("more", more),
        ("required", required),
        ("noswap", noswap),
        ("ready", ready),
        ("convert", convert),
    ]
}
