//! Old roots as boots leave them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use crate::ctl_lost::put;
use crate::support::Machine;
use crate::support::command::sh_on;

/// The old roots on the store of a machine.
pub struct Kept {
    pub place: PathBuf,
}

/// One of them.
pub struct One {
    pub place: PathBuf,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn private(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

impl Kept {
    pub fn new(machine: &Machine) -> Self {
        Self::on(&machine.at("/persist"))
    }

    pub fn on(store: &Path) -> Self {
        let own = store.join(".imp-mount");
        private(&own);
        lsetxattr(&own, "trusted.imp-mount.private", b"", XattrFlags::empty()).unwrap();
        let place = store.join(".imp-mount/roots");
        private(&place);
        Self { place }
    }

    /// One whose boot began so many days ago, and was cut off.
    pub fn add(&self, number: u32, days: u64) -> One {
        let place = self.place.join(number.to_string());
        private(&place);
        let tree = place.join("root");
        let fs = sh_on("stat -f -c %T", &[&place]);
        if fs.trim() == "btrfs" {
            sh_on("btrfs -q subvolume create", &[&tree]);
        } else {
            fs::create_dir(&tree).unwrap();
        }
        let one = One { place };
        one.begins(json!({
            "version": 1,
            "boot_id": format!("00000000-0000-0000-0000-{number:012}"),
            "made": now() - days * 86_400,
            "system": "/nix/store/x",
            "kind": "disk",
        }));
        one
    }

    /// The names in their directory, in order, but for the tag.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "CACHEDIR.TAG")
            .collect();
        names.sort();
        names
    }
}

impl One {
    fn begins(&self, boot: Value) {
        put(&self.place, "boot.json", boot.to_string());
    }

    fn changes(self, file: &str, key: &str, value: Value) -> Self {
        let path = self.place.join(file);
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record[key] = value;
        fs::write(path, record.to_string()).unwrap();
        self
    }

    pub fn tree(&self) -> PathBuf {
        self.place.join("root")
    }

    pub fn saved(self) -> Self {
        self.changes("boot.json", "kind", json!("saved"))
    }

    pub fn of_this_boot(self) -> Self {
        self.changes("boot.json", "boot_id", json!(boot_id()))
    }

    pub fn of_system(self, path: &str) -> Self {
        self.changes("boot.json", "system", json!(path))
    }

    /// Records the end of its boot, at the time of its start.
    pub fn ends(self, complete: bool, bytes: u64) -> Self {
        let boot: Value = serde_json::from_slice(&fs::read(self.place.join("boot.json")).unwrap()).unwrap();
        let end = json!({
            "version": 1, "ended": boot["made"], "complete": complete, "files": 1, "bytes": bytes,
            "rows": [], "rows_count": 0, "left_out": [], "left_out_count": 0, "left_out_bytes": 0,
        });
        put(&self.place, "end.json", end.to_string());
        self
    }

    pub fn leaves_out(self, path: &str, bytes: u64) -> Self {
        let one = json!([{ "path": path, "bytes": bytes, "why": "size" }]);
        self.changes("end.json", "left_out", one).changes("end.json", "left_out_count", json!(1)).changes(
            "end.json",
            "left_out_bytes",
            json!(bytes),
        )
    }

    pub fn end(&self) -> Value {
        serde_json::from_slice(&fs::read(self.place.join("end.json")).unwrap()).unwrap()
    }
}
