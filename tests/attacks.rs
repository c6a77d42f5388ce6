//! Files planted by the owner of a directory below the store or below the root: no link is followed, no file outside
//! changes, and the message names the path.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::support::{Disk, Fs, Injected, Machine, Root, Snapshot, mounts, namespace};

mod outside;

use outside::{
    a_file_with_several_names_is_not_enforced, a_link_on_a_running_root_is_not_followed,
    a_report_that_others_may_have_written_is_not_believed, a_source_with_mode_000_is_no_invitation,
    enforcing_never_allows_more_than_both, id_files_that_others_may_have_written_are_not_believed,
    links_matched_by_a_pattern_are_not_followed, nothing_is_adopted_through_a_link,
    renames_during_a_run_gain_nothing,
};

tests![
    links_planted_on_a_store_stop_the_boot: Disk,
    links_planted_on_a_store_are_guarded: Disk,
    a_kernel_without_openat2_follows_nothing_either: Disk Inject,
    links_planted_on_the_root_stop_the_boot: Disk,
    links_planted_on_the_root_are_guarded: Disk,
    a_link_on_a_running_root_is_not_followed: Disk,
    links_matched_by_a_pattern_are_not_followed: Disk,
    nothing_is_adopted_through_a_link: Disk,
    renames_during_a_run_gain_nothing: Disk,
    a_file_with_several_names_is_not_enforced: Disk,
    enforcing_never_allows_more_than_both: Disk Inject,
    id_files_that_others_may_have_written_are_not_believed: Disk,
    a_source_with_mode_000_is_no_invitation: Disk,
    a_report_that_others_may_have_written_is_not_believed: Disk,
];

/// A tree outside of the store and the root.
const VICTIM: &str = "/tmp/victim";

/// A planted object, and the entry with its path.
struct Attack {
    entry: Value,
    target: String,
    /// Text required in the message, besides the entry.
    words: Vec<String>,
}

impl Attack {
    fn new(kind: &str, target: &str, words: &[&str]) -> Self {
        let entry = json!({ kind: target, "user": 193, "group": 194, "mode": "0750" });
        let words = words.iter().map(ToString::to_string).collect();
        Self { entry, target: target.to_owned(), words }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.entry[key] = value.into();
        self
    }

    fn says(&self) -> Vec<&str> {
        // Every message ends with the remedy.
        [&self.target, "; "].into_iter().chain(self.words.iter().map(String::as_str)).collect()
    }
}

/// Makes the victim: targets for links.
fn victim(at: &Path) -> Snapshot {
    fs::create_dir_all(at.join("dir/below")).unwrap();
    fs::write(at.join("shadow"), "root:secret").unwrap();
    fs::set_permissions(at.join("shadow"), Permissions::from_mode(0o600)).unwrap();
    chown(at.join("dir"), Some(1000), Some(100)).unwrap();
    Snapshot::of(at)
}

fn node(at: &Path, kind: FileType) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    mknodat(CWD, at, kind, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
}

fn link(to: &str, at: &Path) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(to, at).unwrap();
}

/// Links by name, with their targets.
const LINKS: [(&str, &str); 8] = [
    ("absolute", "/tmp/victim/dir"),
    ("relative", "../victim/dir"),
    ("up", "../../../../../../../../tmp/victim/dir"),
    ("dangling", "/tmp/victim/new"),
    ("shadow", "/tmp/victim/shadow"),
    ("loop", "loop"),
    ("magic", "/proc/self/root/tmp/victim/dir"),
    ("here", "."),
];

const SPECIAL: [(&str, FileType, &str); 4] = [
    ("fifo", FileType::Fifo, "is a FIFO"),
    ("socket", FileType::Socket, "is a socket"),
    ("null", FileType::CharacterDevice, "is a character device"),
    ("disk", FileType::BlockDevice, "is a block device"),
];

/// Plants everything on a store, and the victim of the relative links.
fn plant(store: &Path) -> Vec<Attack> {
    victim(&store.join("victim"));
    let mut all = Vec::new();
    for (name, to) in LINKS {
        let words =
            |place: &str| format!("/persist{place} is a symbolic link to {to}, and links are never followed");
        for (folder, kind) in [("directories", "directory"), ("files", "file")] {
            let path = format!("/{folder}/{name}");
            link(to, &store.join(&path[1..]));
            all.push(Attack::new(kind, &path, &[&words(&path), "in its place"]));
        }
        for (missing, method) in
            [("create", "bind"), ("skip", "bind"), ("machine-id", "bind"), ("link", "symlink")]
        {
            let path = format!("/policies/{missing}/{name}");
            link(to, &store.join(&path[1..]));
            let attack = Attack::new("file", &path, &[&words(&path)]);
            all.push(attack.with("missing", missing).with("method", method));
        }
        for (kind, method) in [("directory", "bind"), ("file", "bind"), ("file", "symlink"), ("file", "copy")]
        {
            let above = format!("/above/{kind}-{method}/{name}");
            link(to, &store.join(&above[1..]));
            let attack = Attack::new(kind, &format!("{above}/below/deep"), &[&words(&above)]);
            let attack = attack.with("method", method);
            all.push(if kind == "file" { attack.with("missing", "create") } else { attack });
        }
    }
    for (name, kind, says) in SPECIAL {
        for (folder, wanted) in [("special", "directory"), ("special-files", "file")] {
            node(&store.join(folder).join(name), kind);
            let place = format!("/persist/{folder}/{name} {says}, not a ");
            all.push(Attack::new(wanted, &format!("/{folder}/{name}"), &[&place, "move it away"]));
        }
        node(&store.join("special-above").join(name), kind);
        let place = format!("/persist/special-above/{name} {says}, not a directory");
        all.push(Attack::new("directory", &format!("/special-above/{name}/below"), &[&place]));
        node(&store.join("special-copy").join(name), kind);
        let place = format!("/persist/special-copy/{name} {says}");
        all.push(Attack::new("file", &format!("/special-copy/{name}"), &[&place]).with("method", "copy"));
    }
    fs::create_dir_all(store.join("types/folder")).unwrap();
    fs::write(store.join("types/file"), "file").unwrap();
    let words = "/persist/types/file is a regular file, not a directory";
    all.push(Attack::new("directory", "/types/file", &[words]));
    let words = "/persist/types/folder is a directory, not a regular file";
    all.push(Attack::new("file", "/types/folder", &[words]));
    // A foreign file system mounted below the store: its files are not the store's.
    fs::create_dir_all(store.join("mounted/at")).unwrap();
    fs::create_dir_all(store.join("mounted/above")).unwrap();
    fs::write(store.join("mounted/file"), "").unwrap();
    namespace::bind(Path::new(VICTIM).join("dir"), store.join("mounted/at"));
    namespace::bind(VICTIM, store.join("mounted/above"));
    namespace::bind(Path::new(VICTIM).join("shadow"), store.join("mounted/file"));
    let words = ["on another file system", "store of its own"];
    for (kind, target) in [
        ("directory", "/mounted/at"),
        ("directory", "/mounted/above/dir"),
        ("directory", "/mounted/above/new/deep"),
        ("file", "/mounted/file"),
    ] {
        all.push(Attack::new(kind, target, &words));
    }
    all
}

fn manifest(root: &Value, entries: &[Value]) -> Value {
    json!({ "version": 1, "root": root, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// Each attack alone, on a required entry: the boot stops, and no file changes.
fn all_stop_the_boot(machine: &Machine, root: &Value, attacks: &[Attack], before: &Snapshot) {
    let (kept, mounted) = (Snapshot::of(Path::new(VICTIM)), mounts());
    for attack in attacks {
        machine.manifest(&manifest(root, &[json!({ "directory": "/srv" }), attack.entry.clone()]));
        machine.build().expect(1).says_in_one_line(&attack.says());
        assert_eq!(mounts(), mounted, "{}", attack.target);
        assert_eq!(Snapshot::of(Path::new(VICTIM)), kept, "{}", attack.target);
    }
    assert_eq!(before.losses(&Snapshot::of(&machine.at("/persist"))), [""; 0]);
}

/// All attacks together, on optional entries: each is guarded, and the boot goes on.
fn all_are_guarded(machine: &Machine, root: &Value, attacks: Vec<Attack>, faults: &[Injected]) {
    let (kept, store) = (Snapshot::of(Path::new(VICTIM)), Snapshot::of(&machine.at("/persist")));
    let mut entries = vec![json!({ "directory": "/srv" })];
    let attacks: Vec<_> = attacks.into_iter().map(|attack| attack.with("required", false)).collect();
    entries.extend(attacks.iter().map(|attack| attack.entry.clone()));
    machine.manifest(&manifest(root, &entries));
    let output = if faults.is_empty() { machine.build() } else { machine.trace(faults, &[]).0 }.expect(0);
    for attack in &attacks {
        output.clone().says_in_one_line(&attack.says());
        machine.is_guarded(&attack.target);
    }
    assert_eq!(machine.state("/srv").as_deref(), Some("mounted"));
    assert_eq!(Snapshot::of(Path::new(VICTIM)), kept);
    assert_eq!(store.losses(&Snapshot::of(&machine.at("/persist"))), [""; 0]);
}

fn links_planted_on_a_store_stop_the_boot() {
    victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let attacks = plant(&machine.at("/persist"));
    let before = Snapshot::of(&machine.at("/persist"));
    all_stop_the_boot(&machine, &json!({}), &attacks, &before);
}

fn links_planted_on_a_store_are_guarded() {
    victim(Path::new(VICTIM));
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        let attacks = plant(&machine.at("/persist"));
        all_are_guarded(&machine, &json!({}), attacks, &[]);
        machine.power_off();
    }
}

fn a_kernel_without_openat2_follows_nothing_either() {
    victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let attacks = plant(&machine.at("/persist"));
    all_are_guarded(&machine, &json!({}), attacks, &[Injected::missing("openat2")]);
}

/// Plants objects on the root: those that a guard can cover, and those that no mount can cover.
fn plant_on_root(root: &Path) -> (Vec<Attack>, Vec<Attack>) {
    let (mut covered, mut links) = (Vec::new(), Vec::new());
    for (name, to) in LINKS {
        let words = [&*format!("symbolic link to {to}"), "links are never followed"];
        for (folder, kind) in [("directories", "directory"), ("files", "file")] {
            let target = format!("/{folder}/{name}");
            link(to, &root.join(&target[1..]));
            let attack = Attack::new(kind, &target, &words);
            links.push(if kind == "file" { attack.with("missing", "create") } else { attack });
        }
        for (kind, method) in [("directory", "bind"), ("file", "bind"), ("file", "symlink"), ("file", "copy")]
        {
            let above = format!("/above/{kind}-{method}/{name}");
            link(to, &root.join(&above[1..]));
            let attack = Attack::new(kind, &format!("{above}/below/deep"), &words).with("method", method);
            links.push(if kind == "file" { attack.with("missing", "create") } else { attack });
        }
    }
    for (name, kind, says) in SPECIAL {
        for (folder, wanted) in [("special", "directory"), ("special-files", "file")] {
            let target = format!("/{folder}/{name}");
            node(&root.join(&target[1..]), kind);
            let attack = Attack::new(wanted, &target, &[&format!("{target} {says}, not a ")]);
            covered.push(if wanted == "file" { attack.with("missing", "create") } else { attack });
        }
        node(&root.join("special-above").join(name), kind);
        let words = format!("/special-above/{name} {says}, not a directory");
        links.push(Attack::new("directory", &format!("/special-above/{name}/below"), &[&words]));
    }
    fs::create_dir_all(root.join("types/folder")).unwrap();
    fs::write(root.join("types/file"), "file").unwrap();
    let words = "/types/file is a regular file, not a directory";
    covered.push(Attack::new("directory", "/types/file", &[words]));
    let words = "/types/folder is a directory, not a regular file";
    covered.push(Attack::new("file", "/types/folder", &[words]).with("missing", "create"));
    (covered, links)
}

fn links_planted_on_the_root_stop_the_boot() {
    victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Ext4, 8));
    let (mut attacks, links) = plant_on_root(&machine.at(""));
    let before = Snapshot::of(&machine.at("/persist"));
    let root = Snapshot::of(&machine.at(""));
    attacks.extend(links);
    all_stop_the_boot(&machine, &Value::Null, &attacks, &before);
    // Without a guard an optional entry stops the boot as well: files written there would be lost.
    for attack in attacks.into_iter().filter(|attack| attack.words[0].starts_with("symbolic")) {
        let attack = attack.with("required", false);
        machine.manifest(&manifest(&Value::Null, std::slice::from_ref(&attack.entry)));
        machine.build().expect(1).says_in_one_line(&attack.says());
    }
    assert_eq!(root.losses(&Snapshot::of(&machine.at(""))), [""; 0]);
}

fn links_planted_on_the_root_are_guarded() {
    victim(Path::new(VICTIM));
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Ext4, 8));
    let (attacks, _) = plant_on_root(&machine.at(""));
    all_are_guarded(&machine, &Value::Null, attacks, &[]);
}
