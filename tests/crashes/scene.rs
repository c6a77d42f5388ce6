//! The commands that copy files to a store, each with a system and a store on a disk of its own.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use super::{booted, roots};
use crate::support::inject::Act;
use crate::support::medium::Image;
use crate::support::trees::Look;
use crate::support::{Call, Disk, Fs, Injected, Machine, Output, Root, Snapshot, mount_at, namespace, run};

/// A run to repeat from the same beginning.
pub struct Scene {
    pub machine: Machine,
    program: Program,
    words: &'static [&'static str],
    /// The manifest of the boot, and the one of the run: compiled.
    manifests: [Vec<u8>; 2],
    /// Content of the store before.
    seed: fn(&Path),
    /// Events on the system before the run, the same after each boot.
    before: fn(&Machine),
    /// Paths of the system copied by the run.
    pub sources: &'static [&'static str],
    /// Trees and files that appear on the store in one step.
    pub whole: &'static [&'static str],
    /// True if the run removes its sources after the copy; each is one of those trees and files then.
    pub removes: bool,
    /// True if the run omits files without a possible copy.
    pub leaves_out: bool,
    /// End of the run.
    pub code: i32,
    /// For commands on roots of earlier boots: findings on a store after a power cut, and after the next run.
    pub judge: Option<Judge>,
    initial: Option<Image>,
}

/// The program of the run.
#[derive(Clone, Copy)]
enum Program {
    /// imp-mount in the initrd: the boot itself.
    Boot,
    /// imp-mount on the running system.
    Live,
    /// A command of impctl.
    Impctl(&'static str),
}

/// Checks the roots on a store; the flag is true after the end of the run.
type Judge = fn(&Scene, &State, bool) -> Vec<String>;

/// Everything on the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub snapshot: Snapshot,
    /// The trees of one step.
    pub whole: Vec<Option<Look>>,
}

const BESIDE: &str = "beside";

impl Scene {
    fn new(fs: Fs, entries: Value) -> Self {
        // In memory, because of many writes.
        let disk = Disk::image(Path::new("/tmp/image"), fs, 16, "");
        namespace::few_processes();
        let machine = Machine::new(Root::Nothing, disk);
        let manifest = compiled(&machine, &entries);
        let manifests = [manifest.clone(), manifest];
        Self {
            machine,
            manifests,
            program: Program::Live,
            words: &[],
            seed: |_| (),
            before: |_| (),
            sources: &[],
            whole: &[],
            removes: false,
            leaves_out: false,
            code: 0,
            judge: None,
            initial: None,
        }
    }

    /// A tree and a file of a running system.
    pub fn adopt(fs: Fs) -> Self {
        let scene = Self::new(fs, json!([{ "directory": "/var/lib/named" }]));
        let before = |machine: &Machine| {
            tree(&machine.at("/srv/deep/app"));
            file(&machine.at("/opt/file"), &vec![b'f'; 20_000], 0o640, (0, 4));
            age(&machine.at("/srv"));
            age(&machine.at("/opt"));
        };
        let paths = &["/srv/deep/app", "/opt/file"];
        let program = Program::Impctl("adopt");
        Self { program, words: paths, before, sources: paths, whole: paths, removes: true, ..scene }.ready()
    }

    /// Files of programs in the places of copies and links.
    pub fn write_back(fs: Fs) -> Self {
        let entries = json!([
            { "file": "/etc/copied", "method": "copy" },
            { "file": "/etc/same", "method": "copy" },
            { "file": "/etc/link", "method": "copy" },
            { "file": "/etc/both", "method": "copy" },
            { "file": "/etc/linked", "method": "symlink" },
            { "file": "/opt/deep/later" },
            { "file": "/etc/ssh/ssh_host_*" },
        ]);
        let scene = Self::new(fs, entries);
        let seed = |store: &Path| {
            for name in ["copied", "same", "both", "linked", "ssh/ssh_host_a"] {
                file(&store.join("etc").join(name), name.as_bytes(), 0o640, (0, 4));
            }
            symlink("old", store.join("etc/link")).unwrap();
        };
        let before = |machine: &Machine| {
            let replace = |path: &str, content: &[u8]| {
                let new = machine.at(&format!("{path}.part"));
                file(&new, content, 0o600, (7, 8));
                age(&new);
                // A file of an earlier run is mounted.
                if mount_at(machine.at(path)).is_some() {
                    return fs::remove_file(new).unwrap();
                }
                fs::rename(new, machine.at(path)).unwrap();
            };
            replace("/etc/copied", &vec![b'c'; 20_000]);
            replace("/etc/both", b"the root's");
            file(&machine.at("/persist/etc/both"), b"the store's", 0o640, (0, 4));
            replace("/etc/linked", b"put here");
            replace("/etc/ssh/ssh_host_new", b"new");
            replace("/opt/deep/later", &vec![b'l'; 10_000]);
            fs::set_permissions(machine.at("/opt/deep"), Permissions::from_mode(0o711)).unwrap();
            fs::remove_file(machine.at("/etc/link")).unwrap();
            symlink("new", machine.at("/etc/link")).unwrap();
        };
        let sources = &["/etc", "/opt"];
        let whole = &[
            "/etc/copied",
            "/etc/linked",
            "/etc/both.imp-mount-conflict",
            "/opt/deep/later",
            "/etc/ssh/ssh_host_new",
        ];
        Self { words: &["--adopt"], seed, before, sources, whole, code: 1, ..scene }.ready()
    }

    /// A save of a root in memory, in place of an earlier one.
    pub fn save(fs: Fs) -> Self {
        let before = |machine: &Machine| {
            tree(&machine.at("/srv/app"));
            file(&machine.at("/srv/large"), &vec![b'l'; 1 << 20], 0o640, (0, 4));
            age(&machine.at("/srv"));
        };
        let judge: Option<Judge> = Some(roots::after_saving);
        let scene = Self { seed: roots::seed, before, judge, ..Self::new(fs, json!([])) };
        scene.of_roots(&["save"], &json!({}))
    }

    /// Removal of old roots.
    pub fn prune(fs: Fs) -> Self {
        let judge: Option<Judge> = Some(roots::after_pruning);
        let scene = Self { seed: roots::seed_due, judge, ..Self::new(fs, json!([])) };
        scene.of_roots(&["prune"], &json!({ "boots": 1 }))
    }

    /// A boot with its root on the store, where roots of earlier boots are.
    pub fn boot_on_store(fs: Fs) -> Self {
        Self::booting(fs, booted::seed, booted::after_boot)
    }

    /// The same on a store that imp-mount has not used yet.
    pub fn first_boot_on_store(fs: Fs) -> Self {
        Self::booting(fs, |_| (), booted::after_boot)
    }

    fn booting(fs: Fs, seed: fn(&Path), judge: Judge) -> Self {
        let scene = Self::new(fs, json!([]));
        scene.machine.manifest(&booted::manifest());
        let manifest = fs::read(scene.machine.home().join("manifest")).unwrap();
        let manifests = [manifest.clone(), manifest];
        let whole = &[roots::FILLED];
        Self { manifests, program: Program::Boot, seed, whole, judge: Some(judge), ..scene }.ready()
    }

    fn of_roots(mut self, words: &'static [&'static str], limits: &Value) -> Self {
        let text =
            json!({ "version": 1, "root": {}, "old_roots": limits, "stores": [{ "path": "/persist" }] });
        self.machine.manifest(&text);
        let manifest = fs::read(self.machine.home().join("manifest")).unwrap();
        self.manifests = [manifest.clone(), manifest];
        (self.program, self.words, self.whole) = (Program::Impctl("roots"), words, &[roots::FILLED]);
        self.ready()
    }

    /// A system with a manifest of more entries than at its boot.
    fn new_system(fs: Fs) -> Self {
        let mut scene = Self::new(fs, old_entries());
        scene.manifests[0] = compiled(&scene.machine, &json!([{ "directory": "/var/lib/named" }]));
        scene
    }

    /// Another system, on a file system of its own.
    pub fn migrate(fs: Fs) -> Self {
        let scene = Self::new_system(fs);
        let before = |machine: &Machine| old_system(&machine.at("/old"));
        let words = &["--from", "/old", "--force", "/etc/forced"];
        let (program, sources, seed) = (Program::Impctl("migrate"), &["/old"], partly);
        Self { program, words, seed, before, sources, whole: NEW, leaves_out: true, ..scene }.ready()
    }

    /// Another system, on the disk of the store.
    pub fn migrate_on_one_disk(fs: Fs) -> Self {
        let scene = Self::new_system(fs);
        let seed = |store: &Path| {
            old_system(&store.join("old"));
            partly(store);
        };
        let words = &["--from", "/persist/old", "--force", "/etc/forced"];
        let (program, sources) = (Program::Impctl("migrate"), &["/persist/old"]);
        Self { program, words, seed, sources, whole: NEW, leaves_out: true, ..scene }.ready()
    }

    /// Saves the initial state. Files created on the store by a boot exist already.
    fn ready(mut self) -> Self {
        let Self { machine, .. } = &self;
        (self.seed)(&machine.at("/persist"));
        fs::write(machine.at("/persist").join(BESIDE), "x").unwrap();
        fs::write(machine.home().join("manifest"), &self.manifests[0]).unwrap();
        if !matches!(self.program, Program::Boot) {
            machine.build().ok();
        }
        machine.power_off();
        let image = machine.disk().freeze(None);
        self.initial = Some(image);
        self
    }

    /// Back to its beginning.
    pub fn reset(&self) {
        self.cut_off_at(self.initial.as_ref().unwrap());
        match self.program {
            Program::Boot => self.machine.power_on(),
            _ => drop(self.boot().ok()),
        }
    }

    /// Switches the machine off when its disk held this.
    pub fn cut_off_at(&self, image: &Image) {
        self.machine.power_off();
        self.machine.disk().thaw(image);
    }

    /// Boots the system, and makes the events before the run.
    pub fn boot(&self) -> Output {
        let Self { machine, .. } = self;
        machine.power_on();
        let [booted, own] = &self.manifests;
        fs::write(machine.home().join("manifest"), booted).unwrap();
        let output = machine.build();
        fs::write(machine.home().join("manifest"), own).unwrap();
        machine.switch_root();
        namespace::bind(namespace::PROC, machine.at("proc"));
        (self.before)(machine);
        // Files of other programs are on the disk.
        rustix::fs::syncfs(File::open(machine.at("/persist")).unwrap()).unwrap();
        output
    }

    /// Does the run.
    pub fn run(&self, faults: &[Injected]) -> (Output, Vec<Call>) {
        match self.program {
            Program::Boot => self.machine.trace(faults, self.words),
            Program::Live => self.machine.trace_live(faults, self.words),
            Program::Impctl(command) => self.machine.trace_impctl(faults, command, self.words),
        }
    }

    /// Runs the command without a watch.
    pub fn run_again(&self) -> Output {
        match self.program {
            Program::Boot => self.machine.run(self.words),
            Program::Live => self.machine.run_live(self.words),
            Program::Impctl(command) => self.machine.impctl(command, self.words),
        }
    }

    /// Runs the command, and acts before each of its system calls.
    pub fn interrupt(&self, act: &mut Act<'_>) -> Output {
        match self.program {
            Program::Boot => self.machine.interrupt(self.words, act),
            Program::Live => self.machine.interrupt_live(self.words, act),
            Program::Impctl(command) => self.machine.interrupt_impctl(command, self.words, act),
        }
    }

    /// Content of the store's disk, below any mount.
    pub fn state(&self) -> State {
        let mut state = None;
        self.machine.disk().visit(|store| {
            let look = |path: &&str| {
                let path = store.join(path.trim_start_matches('/'));
                path.symlink_metadata().is_ok().then(|| Look::of(&path))
            };
            let whole = self.whole.iter().map(look).collect();
            state = Some(State { snapshot: Snapshot::of(store), whole });
        });
        state.unwrap()
    }

    /// Another program writes to the store, and waits for the disk.
    pub fn write_beside(&self) {
        // Always the same.
        let store = self.machine.at("/persist");
        let mut file = File::options().write(true).open(store.join(BESIDE)).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        self.machine.disk().commit(&store);
    }
}

/// The source tree, below any mount.
pub struct Sources(Vec<File>);

impl Sources {
    pub fn open(scene: &Scene) -> Self {
        Self(scene.sources.iter().map(|path| File::open(scene.machine.at(path)).unwrap()).collect())
    }

    pub fn look(&self) -> Vec<Look> {
        let place = |file: &File| {
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            // The link leads to the open file, not to a mount on the path. For a directory, its content.
            if file.metadata().unwrap().is_dir() { path.join(".") } else { path }
        };
        self.0.iter().map(|file| Look::of(&place(file))).collect()
    }
}

impl State {
    /// Files of neither the old nor the new state.
    pub fn half_done(&self, before: &Self, after: &Self, whole: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let is_private = |path: &Path| path.starts_with(".imp-mount");
        let is_left_out = |path: &Path| path == Path::new(BESIDE) || path == Path::new("");
        for (path, line) in self.snapshot.lines().filter(|(path, _)| !is_left_out(path)) {
            if path == Path::new(".imp-mount") {
                if !line.starts_with("040700 0:0") {
                    found.push(format!("others may enter /.imp-mount: {line}"));
                }
            } else if !is_private(path) {
                let known = [before, after].map(|state| state.snapshot.line(path));
                // A directory above is made before its content, and is completed by the next run.
                let is_begun = line.starts_with("0400") && known[1].is_some_and(|it| it.starts_with("04"));
                let line = without_mark(line);
                if !known.contains(&Some(&line)) && !is_begun {
                    found.push(format!("/{}: {line}, not {known:?}", path.display()));
                }
            }
        }
        for (path, _) in before.snapshot.lines() {
            if self.snapshot.line(path).is_none() {
                found.push(format!("/{} is gone", path.display()));
            }
        }
        for (number, path) in whole.iter().enumerate() {
            let [there, before, after] = [self, before, after].map(|state| &state.whole[number]);
            let Some(there) = there else { continue };
            let differences = |other: &Option<Look>| {
                let Some(other) = other else { return vec![format!("{path} is there")] };
                let is_new = |it: &String| without_mark(it) == *it && !is_also_staged(it);
                there.differences(other).into_iter().filter(is_new).collect()
            };
            if !differences(before).is_empty() && !differences(after).is_empty() {
                found.extend(differences(after));
            }
        }
        found
    }
}

/// True if a file differs by a second name alone: the one in the staging directory, which btrfs may show again after a power cut. The next
/// run removes it.
fn is_also_staged(difference: &str) -> bool {
    let both = difference.strip_prefix(": ").and_then(|it| it.split_once(", then "));
    both.is_some_and(|(there, other)| there != other && there.replace(" 2 \"", " 1 \"") == other)
}

/// A line of a snapshot without the mark of an unused copy.
fn without_mark(line: &str) -> String {
    line.split(" trusted.imp-mount.adopting=").next().unwrap().to_owned()
}

fn compiled(machine: &Machine, entries: &Value) -> Vec<u8> {
    let stores = json!([{ "path": "/persist" }]);
    machine.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
    fs::read(machine.home().join("manifest")).unwrap()
}

/// The tree of the other system.
fn old_entries() -> Value {
    json!([
        { "directory": "/srv/part" },
        { "directory": "/srv/deep/app", "source": "/moved/app" },
        { "file": "/etc/file" },
        { "file": "/etc/forced" },
    ])
}

/// Its trees with an atomic appearance on the store.
const NEW: &[&str] = &["/moved/app", "/etc/file", "/etc/forced", "/srv/part/sub", "/srv/part/two"];

fn old_system(root: &Path) {
    tree(&root.join("srv/deep/app"));
    tree(&root.join("srv/part/sub"));
    file(&root.join("srv/part/one"), b"one", 0o644, (0, 0));
    file(&root.join("srv/part/two"), &vec![b't'; 20_000], 0o644, (0, 0));
    file(&root.join("etc/file"), b"file", 0o600, (0, 0));
    file(&root.join("etc/forced"), &vec![b'f'; 10_000], 0o640, (0, 4));
    age(root);
}

/// The copies of an earlier run.
fn partly(store: &Path) {
    file(&store.join("srv/part/one"), b"one", 0o644, (0, 0));
    file(&store.join("srv/other"), b"other", 0o644, (0, 0));
    file(&store.join("etc/forced"), b"the store's", 0o600, (0, 0));
    age(&store.join("srv"));
}

fn file(path: &Path, content: &[u8], mode: u32, (uid, gid): (u32, u32)) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A small tree: small files and a larger one, a hole, a hard link, a symbolic link, an attribute.
pub(super) fn tree(root: &Path) {
    file(&root.join("one"), b"one", 0o600, (3, 4));
    file(&root.join("sub/large"), &vec![b'x'; 40_000], 0o644, (0, 0));
    File::options().write(true).open(root.join("sub/large")).unwrap().set_len(150_000).unwrap();
    fs::hard_link(root.join("one"), root.join("sub/two")).unwrap();
    symlink("one", root.join("link")).unwrap();
    lsetxattr(root.join("sub"), "trusted.note", b"dir", XattrFlags::empty()).unwrap();
    chown(root.join("sub"), Some(5), Some(6)).unwrap();
}

/// The same times at every time.
pub(super) fn age(root: &Path) {
    run(&[
        "find".as_ref(),
        root.as_os_str(),
        "-exec".as_ref(),
        "touch".as_ref(),
        "-hd@1000000000.5".as_ref(),
        "{}".as_ref(),
        "+".as_ref(),
    ])
    .ok();
}
