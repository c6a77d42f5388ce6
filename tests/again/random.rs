//! Random manifests with patterns, nested entries and several methods, over random stores and roots.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use imp_mount::manifest::text;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Map, Value, json};

use super::thrice;
use crate::support::trees;
use crate::support::{Disk, Fs, Machine, Root, is_thorough};

/// Default number of manifests for each of the tests.
const CASES: [u32; 2] = [3, 60];
const ASKED_FOR: &str = "IMP_MOUNT_TEST_CASES";

/// Few names, so that entries, patterns and existing files often match.
const FOLDERS: [&str; 5] = ["/a", "/a/b", "/c", "/a/b/d", ""];
const NAMES: [&str; 8] = ["x", "y", "xy", ".x", "b", "key", "lost+found", "persist"];
const PATTERNS: [&str; 8] = ["*", "?", "x*", "*y", "[xk]*", ".*", "?*", "*e*"];
const STORES: [&str; 2] = ["/persist", "/other"];

/// An object at a path.
#[derive(Debug, Clone)]
enum Object {
    File {
        text: &'static str,
        mode: u32,
        owner: u32,
    },
    Directory {
        mode: u32,
        inside: bool,
    },
    Link(&'static str),
    Fifo,
    Socket,
    Device,
    /// A further name of another file.
    Twin,
}

#[derive(Debug, Clone)]
struct Case {
    manifest: Value,
    root: bool,
    /// Store, path and object.
    stored: Vec<(usize, String, Object)>,
    /// On the root before a boot, and on the running system.
    before: Vec<(String, Object)>,
    after: Vec<(String, Object)>,
    adopt: bool,
}

fn path() -> impl Strategy<Value = String> {
    (select(&FOLDERS[..]), select(&NAMES[..])).prop_map(|(folder, name)| format!("{folder}/{name}"))
}

fn object() -> impl Strategy<Value = Object> {
    let file =
        (select(&["", "one", "other"][..]), select(&[0o644, 0o600, 0o4755, 0][..]), select(&[0, 193][..]));
    let file = file.prop_map(|(text, mode, owner)| Object::File { text, mode, owner });
    let directory = (select(&[0o755, 0o700, 0, 0o2770][..]), any::<bool>());
    let directory = directory.prop_map(|(mode, inside)| Object::Directory { mode, inside });
    prop_oneof![
        6 => file,
        3 => directory,
        1 => select(&["/nowhere", "x", "/persist/a/x"][..]).prop_map(Object::Link),
        1 => Just(Object::Fifo),
        1 => Just(Object::Socket),
        1 => Just(Object::Device),
        1 => Just(Object::Twin),
    ]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![2 => Just(None), 3 => select(words).prop_map(Some)]
}

prop_compose! {
    fn entry()(
        kind in 0..5,
        path in path(),
        pattern in select(&PATTERNS[..]),
        folder in select(&FOLDERS[..]),
        source in option::weighted(0.2, path()),
        method in word(&["bind", "symlink", "copy"]),
        missing in word(&["create", "link", "skip", "machine-id", "fail"]),
        phase in option::weighted(0.2, select(&["early", "etc", "live"][..])),
        options in subsequence(vec!["ro", "noexec", "suid", "noatime"], 0..3),
        user in option::weighted(0.2, select(&["193", "nobody-has-it"][..])),
        mode in option::weighted(0.2, select(&["0700", "2750"][..])),
        store in select(&STORES[..]),
        flags in subsequence(vec!["enforce", "hidden", "trash"], 0..2),
        required in any::<bool>(),
    ) -> Map<String, Value> {
        let mut entry = Map::new();
        let mut set = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
        match kind {
            0 | 1 => set("file", format!("{folder}/{pattern}").into()),
            2 => set("directory", path.clone().into()),
            _ => set("file", path.clone().into()),
        }
        if kind > 1 && let Some(source) = source {
            set("source", source.into());
        }
        for (key, value) in [("method", method), ("phase", phase), ("user", user), ("mode", mode)] {
            if let Some(value) = value {
                set(key, value.into());
            }
        }
        if kind != 2 && let Some(missing) = missing {
            set("missing", missing.into());
        }
        if !options.is_empty() {
            set("options", json!(options));
        }
        for flag in flags {
            set(flag, true.into());
        }
        set("store", store.into());
        set("required", required.into());
        entry
    }
}

prop_compose! {
    fn case()(
        entries in vec(entry(), 1..7),
        root in any::<bool>(),
        stored in vec((0..2usize, path(), object()), 0..8),
        before in vec((path(), object()), 0..3),
        after in vec((path(), object()), 0..4),
        adopt in any::<bool>(),
        needed in any::<bool>(),
    ) -> Case {
        Case { manifest: accepted(entries, root, needed), root, stored, before, after, adopt }
    }
}

/// A manifest of the entries without a conflict.
fn accepted(mut entries: Vec<Map<String, Value>>, root: bool, needed: bool) -> Value {
    loop {
        let manifest = json!({
            "version": 1,
            "root": if root { json!({ "size": "16M" }) } else { Value::Null },
            "stores": [{ "path": STORES[0] }, { "path": STORES[1], "required": needed }],
            "entries": entries,
            "ids": { "users": {}, "groups": {} },
        });
        let Err(problems) = text::parse(&manifest.to_string()) else { return manifest };
        let at =
            problems[0].at.strip_prefix("entries[").and_then(|rest| rest.split(']').next()?.parse().ok());
        let Some(at) = at else { panic!("{manifest}: {problems:?}") };
        let _: Map<_, _> = entries.remove(at);
    }
}

/// Creates the object, unless the path or one of its parents is taken.
fn put(base: &Path, path: &str, object: &Object) {
    let place = base.join(path.trim_start_matches('/'));
    let above = place.parent().unwrap();
    if fs::create_dir_all(above).is_err() || fs::symlink_metadata(&place).is_ok() {
        return;
    }
    match object {
        Object::File { text, mode, owner } => {
            fs::write(&place, text).unwrap();
            chown(&place, Some(*owner), Some(*owner)).unwrap();
            fs::set_permissions(&place, Permissions::from_mode(*mode)).unwrap();
        }
        Object::Directory { mode, inside } => {
            fs::create_dir(&place).unwrap();
            if *inside {
                fs::write(place.join("inside"), "inside").unwrap();
            }
            fs::set_permissions(&place, Permissions::from_mode(*mode)).unwrap();
        }
        Object::Link(to) => symlink(to, &place).unwrap(),
        Object::Fifo => mknodat(CWD, &place, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        Object::Socket => trees::socket(&place),
        Object::Device => mknodat(CWD, &place, FileType::CharacterDevice, Mode::RUSR, 0).unwrap(),
        Object::Twin => {
            let first = base.join("twin");
            if !first.exists() {
                fs::write(&first, "twin").unwrap();
            }
            fs::hard_link(&first, &place).unwrap();
        }
    }
}

/// Creates objects on the started system. Persistent paths stay unchanged.
fn leave(machine: &Machine, after: &[(String, Object)]) {
    let root =
        fs::symlink_metadata(machine.at("")).map(|meta| std::os::unix::fs::MetadataExt::dev(&meta)).unwrap();
    for (path, object) in after {
        let above = machine.at(Path::new(path).parent().unwrap().to_str().unwrap());
        let on_root = above.ancestors().find_map(|above| fs::symlink_metadata(above).ok());
        if on_root.is_some_and(|meta| std::os::unix::fs::MetadataExt::dev(&meta) == root) {
            put(&machine.at(""), path, object);
        }
    }
}

fn try_one(machines: &[Machine; 2], case: &Case) -> Result<(), String> {
    // The other one has the same place.
    machines.iter().for_each(Machine::power_off);
    let machine = &machines[usize::from(case.root)];
    for (number, disk) in machine.disks().enumerate() {
        disk.erase();
        disk.visit(|base| {
            for (_, path, object) in case.stored.iter().filter(|(store, ..)| *store == number) {
                put(base, path, object);
            }
        });
    }
    machine.manifest(&case.manifest);
    let prepare = |machine: &Machine| {
        if !case.root {
            case.before.iter().for_each(|(path, object)| put(&machine.at(""), path, object));
        }
    };
    let change = |machine: &Machine| {
        leave(machine, &case.after);
        if case.adopt {
            machine.run_live(&["--adopt"]);
        }
    };
    thrice(machine, &prepare, &change)
}

/// Tries as many manifests as are asked for; each of the tests begins elsewhere.
fn try_many(seed: u8) {
    let cases = CASES[usize::from(is_thorough())];
    let cases = env::var(ASKED_FOR).map_or(cases, |cases| cases.parse().unwrap());
    let disks = || STORES.iter().map(|path| (*path, Disk::new(Fs::Folder, 0))).collect();
    let machines = [Root::Tmpfs, Root::Nothing].map(|root| {
        let machine = Machine::with_stores(root, disks());
        machine.power_off();
        machine
    });
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&case(), |case| try_one(&machines, &case).map_err(TestCaseError::fail));
    match result {
        Ok(()) => eprintln!("{cases} random manifests were booted and run three times each"),
        Err(TestError::Fail(reason, case)) => {
            panic!("{}\n{case:#?}\n{reason}", serde_json::to_string_pretty(&case.manifest).unwrap())
        }
        Err(error) => panic!("{error}"),
    }
}

pub fn random_manifests_1() {
    try_many(1);
}

pub fn random_manifests_2() {
    try_many(2);
}

pub fn random_manifests_3() {
    try_many(3);
}

pub fn random_manifests_4() {
    try_many(4);
}
