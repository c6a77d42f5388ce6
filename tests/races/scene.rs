//! Programs of root, and their system: with a home of an unprivileged user's on the root and on the store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use serde_json::{Value, json};

use crate::support::attacker::{LETTER, ROOT_DIRECTORY, ROOT_FILE, SECRET, UID};
use crate::support::attend::Act;
use crate::support::{Disk, Fs, Machine, Output, Root, namespace};

/// The user's home, on the root and on the store.
pub const HOME: &str = "home/u";

/// The program.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// imp-mount from outside of the system, as at a boot.
    Boot,
    /// imp-mount in the system.
    Live(&'static [&'static str]),
    /// A command of impctl in the system.
    Impctl(&'static str, &'static [&'static str]),
}

/// A repeatable run from a fixed initial state.
pub struct Scene {
    pub name: String,
    _disk: Disk,
    pub machine: Machine,
    program: Program,
    /// The manifest of the boot, if any, and the one of the run: compiled.
    booted: Option<Vec<u8>>,
    manifest: Vec<u8>,
    /// Content of the user's home besides decoys, on the store and on the root.
    store: fn(&Path),
    root: fn(&Path),
    /// Below the home: names to exchange.
    pub directories: &'static [&'static str],
    pub files: &'static [&'static str],
    /// End without an attack.
    pub code: i32,
    /// True if files created in the homes inherit an ACL with read access for the user.
    pub inherits: bool,
}

impl Scene {
    fn new(program: Program, root: Root, entries: &Value) -> Self {
        // In memory: the disk is emptied a thousand times.
        let disk = Disk::image(Path::new("/tmp/image"), Fs::Ext4, 16, "");
        disk.mount("/tmp/disk");
        namespace::few_processes();
        let machine = Machine::new(root, Disk::folder(Path::new("/tmp/disk/store")));
        let name = match program {
            Program::Boot => "boot".to_owned(),
            Program::Live([]) => "live run".to_owned(),
            Program::Live(words) => words.join(" "),
            Program::Impctl(command, _) => format!("impctl {command}"),
        };
        let (booted, manifest) = (None, compiled(&machine, root, entries));
        let nothing = |_: &Path| ();
        Self {
            name,
            _disk: disk,
            machine,
            program,
            booted,
            manifest,
            store: nothing,
            root: nothing,
            directories: DIRECTORIES,
            files: FILES,
            code: 0,
            inherits: false,
        }
    }

    /// A boot onto a root mounted already.
    pub fn boot() -> Self {
        let scene = Self::new(Program::Boot, Root::Tmpfs, &entries());
        Self { store: stored, root: targets, ..scene }
    }

    /// A running system, and a manifest with more entries.
    pub fn live() -> Self {
        let scene = Self::new(Program::Live(&[]), Root::Nothing, &entries());
        let booted = compiled(&scene.machine, Root::Nothing, &json!([{ "directory": "/srv" }]));
        Self { booted: Some(booted), store: stored, root: targets, ..scene }
    }

    /// A system booted with all entries.
    fn booted(program: Program) -> Self {
        let scene = Self::new(program, Root::Nothing, &entries());
        Self { booted: Some(scene.manifest.clone()), store: stored, ..scene }
    }

    /// A user exists by now for whom directories wait.
    pub fn settle() -> Self {
        let root = |home: &Path| {
            let etc = home.join("../../etc");
            fs::write(etc.join("passwd"), "root:x:0:0::/:/bin/sh\nsvc:x:300:301::/:/bin/sh\n").unwrap();
            fs::write(etc.join("group"), "root:x:0:\nsvc:x:301:\n").unwrap();
        };
        Self { root, ..Self::booted(Program::Live(&["--settle"])) }
    }

    /// Programs have put their files where copies and links were.
    pub fn write_back() -> Self {
        Self { root: changed, ..Self::booted(Program::Live(&["--adopt"])) }
    }

    pub fn check() -> Self {
        Self { root: changed, code: 1, ..Self::booted(Program::Live(&["--check"])) }
    }

    /// A read-only command.
    pub fn look(command: &'static str) -> Self {
        let scene = Self::booted(Program::Impctl(command, &[]));
        Self { root: changed, code: 1, ..scene }
    }

    /// A user's files on the root are copied to the store.
    pub fn adopt() -> Self {
        let program =
            Program::Impctl("adopt", &["--open", "/home/u/Mail", "/home/u/notes", "/home/u/deep/tree"]);
        let scene = Self::new(program, Root::Nothing, &json!([{ "directory": "/srv" }]));
        let booted = Some(scene.manifest.clone());
        let directories = &["Mail", "Mail/sub", "deep", "deep/tree"];
        let store = |home: &Path| directory(&home.join("deep"));
        Self { booted, store, root: mail, directories, files: &["Mail/a", "Mail/b", "notes"], ..scene }
    }

    /// A system's files are copied to the store.
    pub fn migrate() -> Self {
        let entries = json!([
            { "directory": "/home/u/Mail", "user": 1000, "group": 1000 },
            { "directory": "/home/u/deep/tree" },
            { "directory": "/srv/data" },
            { "file": "/home/u/notes", "method": "copy" },
            { "file": "/home/u/keys/k*" },
        ]);
        let root = |home: &Path| {
            mail(home);
            targets(home);
            fs::create_dir_all(home.join("../../srv/data")).unwrap();
            for number in 0..8 {
                fs::write(home.join(format!("../../srv/data/{number}")), "data").unwrap();
            }
        };
        let scene = Self::new(Program::Impctl("migrate", &["--from", "/"]), Root::Tmpfs, &entries);
        let files = &["Mail/a", "Mail/b", "notes", "keys/k1"];
        // The state after a stopped run; the decoys differ.
        let store =
            |home: &Path| ["Mail/sub", "deep", "keys"].iter().for_each(|name| directory(&home.join(name)));
        Self {
            store,
            root,
            directories: &["Mail", "Mail/sub", "deep", "deep/tree", "keys"],
            files,
            code: 1,
            ..scene
        }
    }

    /// The user's homes, on the root and on the store.
    pub fn homes(&self) -> [PathBuf; 2] {
        ["/", "/persist"].map(|top| self.machine.at(top).join(HOME))
    }

    /// Back to its beginning.
    pub fn reset(&self) {
        let Self { machine, .. } = self;
        machine.power_off();
        machine.disk().erase();
        machine.disk().visit(|store| {
            guarded(&store.join("secret"));
            self.furnish(&store.join(HOME), "../../..", self.store);
        });
        machine.power_on();
        if let Some(booted) = &self.booted {
            fs::write(machine.home().join("manifest"), booted).unwrap();
            machine.build().ok();
        }
        if !matches!(self.program, Program::Boot) {
            machine.switch_root();
            namespace::bind(namespace::PROC, machine.at("proc"));
        }
        guarded(&machine.at("root"));
        let etc = machine.at("etc");
        fs::create_dir_all(&etc).unwrap();
        owned(&etc.join("adm"), SECRET, 0o640, (0, 4));
        owned(&etc.join("keep"), "kept", 0o644, (0, 0));
        self.furnish(&machine.at("").join(HOME), "../..", self.root);
        fs::write(machine.home().join("manifest"), &self.manifest).unwrap();
    }

    /// Makes the user's home. `up` leads from there to the system's root.
    fn furnish(&self, home: &Path, up: &str, own: fn(&Path)) {
        fs::create_dir_all(home).unwrap();
        chown(home, Some(UID), Some(UID)).unwrap();
        own(home);
        let places = self.directories.iter().chain(self.files).map(|path| Path::new(path).parent().unwrap());
        let mut places: Vec<_> = places.collect();
        places.sort();
        places.dedup();
        for place in places.into_iter().filter(|place| home.join(place).is_dir()) {
            let up = place.components().fold(PathBuf::from(up), |up, _| up.join(".."));
            decoys(&home.join(place), &up);
        }
        if self.inherits {
            setxattr(home, "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
        }
    }

    /// Does the run.
    pub fn run(&self) -> Output {
        match self.program {
            Program::Boot => self.machine.build(),
            Program::Live(words) => self.machine.run_live(words),
            Program::Impctl(command, words) => self.machine.impctl(command, words),
        }
    }

    /// Runs the command, and calls `act` before each of its system calls.
    pub fn interrupt(&self, act: &mut Act<'_>) -> Output {
        match self.program {
            Program::Boot => self.machine.attend(&[], act),
            Program::Live(words) => self.machine.attend_live(words, act),
            Program::Impctl(command, words) => self.machine.attend_impctl(command, words, act),
        }
    }
}

fn compiled(machine: &Machine, root: Root, entries: &Value) -> Vec<u8> {
    let root = if root == Root::Nothing { json!({ "size": "16M" }) } else { Value::Null };
    let home = json!({ "directory": "/home/u", "user": UID, "group": UID });
    machine.manifest(&json!({
        "version": 1, "root": root, "stores": [{ "path": "/persist" }], "parents": [home], "entries": entries,
    }));
    fs::read(machine.home().join("manifest")).unwrap()
}

/// Files of the entries below, on one side or both.
const DIRECTORIES: &[&str] = &["dir", "dir/mine", "hollow", "keys", "sym", "waits"];
const FILES: &[&str] = &["carried", "copied", "keys/k1", "linked"];

/// One of each kind in the user's home.
fn entries() -> Value {
    let mut entries = json!([
        { "directory": "/home/u/dir/mine", "mode": "0700", "enforce": true },
        { "directory": "/home/u/dir/new/deep", "user": 193, "mode": "0711" },
        { "directory": "/home/u/hollow", "user": UID, "group": UID },
        { "directory": "/home/u/sym", "method": "symlink" },
        { "directory": "/home/u/waits", "user": "svc", "group": "svc" },
        { "directory": "/home/u/dir/late", "user": "svc", "mode": "0750" },
        { "file": "/home/u/dir/file", "user": 193, "missing": "create" },
        { "file": "/home/u/copied", "method": "copy" },
        { "file": "/home/u/carried", "method": "copy" },
        { "file": "/home/u/linked" },
        { "file": "/home/u/keys/k*" },
    ]);
    for entry in entries.as_array_mut().unwrap() {
        entry["required"] = false.into();
    }
    entries
}

/// Files of earlier boots in the home on the store.
fn stored(home: &Path) {
    for name in ["dir/mine", "hollow", "keys", "sym"] {
        directory(&home.join(name));
    }
    // The state after a run killed at the wrong moment.
    fs::set_permissions(home.join("hollow"), Permissions::from_mode(0o000)).unwrap();
    owned(&home.join("copied"), LETTER, 0o640, (0, 4));
    owned(&home.join("keys/k1"), "key", 0o600, (UID, UID));
    link("plain", &home.join("carried"));
}

/// Files of the root at the targets.
fn targets(home: &Path) {
    for name in ["dir/mine", "hollow", "keys", "waits"] {
        directory(&home.join(name));
    }
    owned(&home.join("keys/k1"), "key", 0o600, (UID, UID));
}

/// Changes by programs since the boot.
fn changed(home: &Path) {
    directory(&home.join("keys"));
    let new = format!("new: {LETTER}");
    for name in ["copied", "linked", "keys/k2"] {
        let _ = fs::remove_file(home.join(name));
        owned(&home.join(name), &new, 0o640, (0, 4));
    }
    let _ = fs::remove_file(home.join("carried"));
    link("other", &home.join("carried"));
}

/// A tree to be copied.
fn mail(home: &Path) {
    directory(&home.join("Mail/sub"));
    directory(&home.join("deep/tree"));
    for name in ["Mail/a", "Mail/sub/x", "deep/tree/x", "notes"] {
        owned(&home.join(name), "mail", 0o644, (UID, UID));
    }
    owned(&home.join("Mail/report"), LETTER, 0o640, (0, 4));
    link("a", &home.join("Mail/b"));
    mknodat(CWD, home.join("Mail/c"), FileType::Fifo, Mode::RUSR, 0).unwrap();
}

/// Files for exchanges by the user.
fn decoys(dir: &Path, up: &Path) {
    directory(&dir.join("other/mine"));
    owned(&dir.join("other/x"), "mine", 0o644, (UID, UID));
    owned(&dir.join("plain"), "mine", 0o644, (UID, UID));
    fs::hard_link(dir.join("plain"), dir.join("twin")).unwrap();
    for (name, to) in
        [("to-root", "root"), ("to-etc", "etc"), ("to-secret", "root/secret"), ("to-adm", "etc/adm")]
    {
        link(up.join(to), &dir.join(name));
    }
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    chown(dir.join("fifo"), Some(UID), Some(UID)).unwrap();
    owned(&dir.join(ROOT_FILE), LETTER, 0o600, (0, 0));
    for (name, mode) in [(ROOT_DIRECTORY, 0o700), ("unfinished", 0o000)] {
        fs::create_dir(dir.join(name)).unwrap();
        owned(&dir.join(name).join("letter"), LETTER, 0o644, (0, 0));
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    }
}

/// Names among these to exchange directories and files for.
pub const FOR_DIRECTORIES: [&str; 5] = ["other", "to-root", "to-etc", ROOT_DIRECTORY, "unfinished"];
pub const FOR_FILES: [&str; 7] = ["plain", "twin", "to-secret", "to-adm", "fifo", ROOT_FILE, "other"];

/// A directory that only root can enter, with a world-readable file.
fn guarded(at: &Path) {
    fs::create_dir_all(at).unwrap();
    owned(&at.join("secret"), SECRET, 0o644, (0, 0));
    fs::set_permissions(at, Permissions::from_mode(0o700)).unwrap();
}

/// A directory of the user, and its missing parents.
fn directory(at: &Path) {
    if !at.exists() {
        directory(at.parent().unwrap());
        fs::create_dir(at).unwrap();
        chown(at, Some(UID), Some(UID)).unwrap();
    }
}

fn owned(at: &Path, content: &str, mode: u32, (uid, gid): (u32, u32)) {
    fs::write(at, content).unwrap();
    chown(at, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
}

fn link(to: impl AsRef<Path>, at: &Path) {
    symlink(to, at).unwrap();
    lchown(at, Some(UID), Some(UID)).unwrap();
}

/// `u::rwx,u:1000:rwx,g::r-x,m::rwx,o::r-x` in the kernel's format.
fn acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(0x01, 7, NOBODY), (0x02, 7, UID), (0x04, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 5, NOBODY)]
    {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(rights));
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
