//! The runs with injected faults: each with its initial state.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::state::State;
use crate::support::{Call, Disk, Fs, Injected, Machine, Output, Root};

/// A repeatable run from a fixed initial state.
pub struct Scenario {
    pub name: &'static str,
    /// Paths of the folders of the stores.
    _disk: Disk,
    machine: Machine,
    words: &'static [&'static str],
    /// True if the system has been started.
    live: bool,
    /// Content of the disks: the stores', in order.
    seed: fn(&Path, &Path),
    /// The manifest of the boot, and the one of the run: compiled.
    manifests: [Vec<u8>; 2],
    /// Events since the machine was switched on.
    before: fn(&Machine),
}

impl Scenario {
    fn new(name: &'static str, root: Root, manifest: &Value) -> Self {
        // In memory: the disk is emptied a thousand times.
        let disk = Disk::image(Path::new("/tmp/image"), Fs::Ext4, 16, "");
        disk.mount("/tmp/disk");
        let [one, two] = ["/tmp/disk/one", "/tmp/disk/two"].map(|place| Disk::folder(Path::new(place)));
        // The disk of the root is no store before the run.
        let stores = if root == Root::Disk {
            vec![("/persist", one)]
        } else {
            vec![("/persist", one), ("/data", two)]
        };
        let machine = Machine::with_stores(root, stores);
        machine.cmdline("imp-mount.skip=/opt/skipped");
        let manifest = compiled(&machine, manifest);
        let manifests = [manifest.clone(), manifest];
        Self {
            name,
            _disk: disk,
            machine,
            words: &[],
            live: false,
            seed: |_, _| (),
            manifests,
            before: |_| (),
        }
    }

    /// A new root, and empty stores.
    pub fn first_boot() -> Self {
        Self::new("first boot", Root::Nothing, &manifest(&json!({ "size": "16M" }), &entries()))
    }

    /// A new root on a store with files.
    pub fn on_store() -> Self {
        let manifest = manifest(&json!({ "on": "/persist", "mode": "0751" }), &entries());
        Self { seed: used, ..Self::new("root on a store", Root::Nothing, &manifest) }
    }

    /// A root mounted already, and stores with files.
    pub fn ready_root() -> Self {
        Self { seed: used, ..Self::new("ready root", Root::Tmpfs, &manifest(&Value::Null, &entries())) }
    }

    /// A converted installation.
    pub fn convert() -> Self {
        Self::converting("convert", &json!({ "convert": "/persist" }))
    }

    /// The same with the new root on the disk.
    pub fn convert_on_store() -> Self {
        Self::converting("convert, root on a store", &json!({ "convert": "/persist", "on": "/persist" }))
    }

    fn converting(name: &'static str, root: &Value) -> Self {
        let mut entries = entries();
        for entry in entries.as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("store");
        }
        let manifest = json!({
            "version": 1, "root": root, "stores": [{ "path": "/persist" }], "entries": entries,
        });
        Self { seed: used, ..Self::new(name, Root::Disk, &manifest) }
    }

    /// A started system, and a manifest that adds and removes entries.
    pub fn live() -> Self {
        let mut changed = entries();
        let list = changed.as_array_mut().unwrap();
        list.retain(|entry| entry["directory"] != "/var/lib/plex" && entry["file"] != "/etc/linked");
        list.push(json!({ "directory": "/var/lib/new", "store": "/persist", "user": 7, "group": 8, "mode": "0710" }));
        list.push(json!({ "directory": "/home/a/more", "store": "/data", "options": ["ro"] }));
        let before = |machine: &Machine| {
            machine.build().ok();
            machine.switch_root();
        };
        let mut scenario = Self::new("live", Root::Nothing, &manifest(&json!({ "size": "16M" }), &entries()));
        scenario.manifests[1] = compiled(&scenario.machine, &manifest(&json!({ "size": "16M" }), &changed));
        Self { live: true, before, seed: used, ..scenario }
    }

    /// A shutdown after programs replaced copies and links by files.
    pub fn adopt() -> Self {
        let before = |machine: &Machine| {
            machine.build().ok();
            machine.switch_root();
            fs::write(machine.at("/etc/copied"), "changed").unwrap();
            fs::remove_file(machine.at("/etc/linked")).unwrap();
            fs::write(machine.at("/etc/linked"), "put here").unwrap();
            fs::write(machine.at("/etc/ssh/ssh_host_new"), "new").unwrap();
        };
        let scenario = Self::new("adopt", Root::Nothing, &manifest(&json!({ "size": "16M" }), &entries()));
        Self { live: true, words: &["--adopt"], before, seed: used, ..scenario }
    }

    /// A system with a new user whose paths are pending.
    pub fn settle() -> Self {
        let before = |machine: &Machine| {
            machine.build().ok();
            machine.switch_root();
            fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\nsvc:x:300:301::/:/bin/sh\n")
                .unwrap();
            fs::write(machine.at("/etc/group"), "root:x:0:\nsvc:x:301:\n").unwrap();
        };
        let scenario = Self::new("settle", Root::Nothing, &manifest(&json!({ "size": "16M" }), &entries()));
        Self { live: true, words: &["--settle"], before, ..scenario }
    }

    /// Back to its beginning.
    pub fn reset(&self) {
        let Self { machine, .. } = self;
        machine.power_off();
        let mut places = Vec::new();
        for disk in machine.disks() {
            disk.erase();
            disk.visit(|root| places.push(root.to_owned()));
        }
        (self.seed)(&places[0], places.last().unwrap());
        machine.power_on();
        let [booted, own] = &self.manifests;
        fs::write(machine.home().join("manifest"), booted).unwrap();
        (self.before)(machine);
        fs::write(machine.home().join("manifest"), own).unwrap();
    }

    /// Does the run.
    pub fn run(&self, faults: &[Injected]) -> (Output, Vec<Call>) {
        if self.live {
            self.machine.trace_live(faults, self.words)
        } else {
            self.machine.trace(faults, self.words)
        }
    }

    /// Repeats the run, without faults.
    pub fn run_again(&self) -> Output {
        if self.live { self.machine.run_live(self.words) } else { self.machine.run(self.words) }
    }

    pub fn state(&self) -> State {
        State::of(&self.machine)
    }
}

/// A compiled manifest.
fn compiled(machine: &Machine, manifest: &Value) -> Vec<u8> {
    machine.manifest(manifest);
    fs::read(machine.home().join("manifest")).unwrap()
}

fn manifest(root: &Value, entries: &Value) -> Value {
    json!({
        "version": 1,
        "root": root,
        "stores": [{ "path": "/persist" }, { "path": "/data" }],
        "entries": entries,
    })
}

/// One of each kind.
fn entries() -> Value {
    let mut entries = json!([
        { "directory": "/var/lib/plex", "user": 193, "group": 194, "mode": "0750" },
        { "directory": "/var/lib/waits", "user": "svc", "group": "svc", "mode": "0750" },
        { "directory": "/var/lib/ready", "user": "svc", "mode": "2755", "parents": { "mode": "0711" } },
        { "directory": "/home/a", "user": 1000, "group": 100, "mode": "0700" },
        { "directory": "/home/a/data", "store": "/data", "options": ["ro", "noexec", "noatime"] },
        { "directory": "/srv/sym", "method": "symlink" },
        { "directory": "/opt/skipped" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
        { "file": "/etc/adjtime", "missing": "create" },
        { "file": "/etc/linked" },
        { "file": "/etc/copied", "method": "copy", "missing": "create", "mode": "0640" },
        { "file": "/etc/guarded", "missing": "fail", "required": false },
        { "file": "/etc/ssh/ssh_host_*" },
    ]);
    for entry in entries.as_array_mut().unwrap() {
        if entry["store"].is_null() {
            entry["store"] = "/persist".into();
        }
    }
    entries
}

/// State of earlier boots on the disks.
fn used(persist: &Path, data: &Path) {
    for folder in ["var/lib/plex", "home/a", "etc/ssh", "srv/other"] {
        fs::create_dir_all(persist.join(folder)).unwrap();
    }
    fs::create_dir_all(data.join("home/a/data")).unwrap();
    for (file, mode) in [
        ("var/lib/plex/kept", 0o600),
        ("etc/copied", 0o640),
        ("etc/machine-id", 0o444),
        ("etc/ssh/ssh_host_a", 0o600),
        ("etc/ssh/ssh_host_b", 0o600),
    ] {
        let path = persist.join(file);
        fs::write(&path, file).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::chown(persist.join("var/lib/plex/kept"), Some(9), Some(10)).unwrap();
    fs::write(data.join("home/a/data/kept"), "kept").unwrap();
    symlink("../nowhere", persist.join("srv/other/link")).unwrap();
}
