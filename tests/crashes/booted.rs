//! A boot with its root on the store, after a power cut: roots of earlier boots and the sources of entries are as they were, the next boot
//! has an empty root with every entry mounted, and the root of the boot that was cut off takes no place of one with data.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::roots::{differs, fill, listed, numbers, on_disk};
use super::scene::{Scene, State, age, tree};
use crate::ctl_roots::kept::{Kept, boot_id};
use crate::support::Snapshot;
use crate::support::trees::Look;

/// Directories of the entries, with the modes that a boot gives to those it makes.
const ENTRIES: [(&str, &str); 4] =
    [("/var/lib/app", "0755"), ("/var/lib/new/deep", "0711"), ("/srv/owned", "0750"), ("/srv/more", "0700")];
/// The root of an earlier boot that ended well, and of one that was cut off.
const EARLIER: [u64; 2] = [1, 2];

pub fn manifest() -> Value {
    let mut entries: Vec<_> =
        ENTRIES.iter().map(|(path, mode)| json!({ "directory": path, "mode": mode })).collect();
    entries[2]["user"] = 7.into();
    entries.push(json!({ "file": "/etc/machine-id", "missing": "machine-id" }));
    json!({
        "version": 1,
        "root": { "on": "/persist", "mode": "0751" },
        "old_roots": { "boots": EARLIER.len() },
        "stores": [{ "path": "/persist" }],
        "entries": entries,
    })
}

/// Roots of earlier boots, and what the first entry keeps.
pub fn seed(store: &Path) {
    let kept = Kept::on(store);
    fill(&kept.add(1, 3).ends(true, 4096));
    fill(&kept.add(2, 2));
    tree(&store.join("var/lib/app"));
    age(&store.join("var/lib/app"));
}

/// The boot that was cut off has another id than the one that follows, which in a test has the same kernel.
fn is_another_boot(store: &Path) {
    for entry in fs::read_dir(store.join(".imp-mount/roots")).into_iter().flatten().map(Result::unwrap) {
        let record = entry.path().join("boot.json");
        if let Ok(text) = fs::read_to_string(&record) {
            fs::write(record, text.replace(&boot_id(), "00000000-0000-0000-0000-00000000000f")).unwrap();
        }
    }
}

/// The next boot: its root, and the entries on it.
fn boots(scene: &Scene, taken: &[u64], found: &mut Vec<String>) -> Option<u64> {
    let boot = scene.boot();
    // The test's disk is in memory.
    let is_news = |line: &str| line.contains("warning: ") && !line.contains("is on a tmpfs");
    if boot.code != Some(0) || boot.stderr.lines().any(is_news) {
        found.push(format!("the next boot: {boot:?}"));
    }
    let mount = scene.machine.mount_at("/");
    let place = mount.map(|mount| mount.root.display().to_string()).unwrap_or_default();
    let number = place.strip_suffix("/root").and_then(|place| place.rsplit('/').next()?.parse().ok());
    if number.is_none_or(|number| taken.contains(&number)) {
        found.push(format!("the root of the next boot is {place}, after {taken:?}"));
    }
    for path in ENTRIES.iter().map(|(path, _)| *path).chain(["/etc/machine-id"]) {
        match scene.machine.mount_at(path) {
            Some(mount) if mount.root.ends_with(&path[1..]) && !mount.root.starts_with("/.imp-mount") => {}
            other => found.push(format!("at {path} is {other:?}")),
        }
    }
    number
}

/// After a cut of the boot.
pub fn after_boot(scene: &Scene, before: &State, _: bool) -> Vec<String> {
    let filled = before.whole[0].as_ref();
    let earlier = if filled.is_some() { &EARLIER[..] } else { &[] };
    let mut found = Vec::new();
    scene.machine.disk().visit(is_another_boot);
    let lost = before.snapshot.losses(&scene.state().snapshot);
    if !lost.is_empty() {
        found.push(format!("lost: {lost:#?}"));
    }
    let all = on_disk(scene);
    let taken = numbers(&all);
    for (number, ended, ..) in &all {
        if *ended != (*number == 1 && !earlier.is_empty()) {
            found.push(format!("root {number} counts as ended: {ended}"));
        }
    }
    let number = boots(scene, &taken, &mut found).unwrap_or_default();
    for (root, state) in listed(scene) {
        let expected = match root {
            1 if !earlier.is_empty() => "well",
            _ if root == number => "running",
            _ => "cut off",
        };
        if state != expected {
            found.push(format!("root {root} counts as `{state}`"));
        }
    }
    let flaws = scene.machine.impctl("roots", &["--json"]).stdout;
    let flaws = serde_json::from_str::<Value>(&flaws).unwrap()["stores"][0]["roots"].clone();
    for root in flaws.as_array().unwrap().iter().filter(|root| root["flaws"] != json!([])) {
        found.push(format!("records: {root:#}"));
    }
    let id = fs::read_to_string(scene.machine.at("/etc/machine-id")).unwrap();
    // As systemd expects of the first boot.
    if id != "uninitialized\n" {
        found.push(format!("the machine-id is {id:?}"));
    }
    found.extend(is_pruned(scene, earlier, number));
    // The new root has no file of an earlier one, and the earlier ones are unchanged.
    for (root, _, there, _) in on_disk(scene) {
        match filled {
            Some(filled) if earlier.contains(&root) => {
                differs(&mut found, &format!("root {root}"), filled, &there);
            }
            _ => {}
        }
    }
    scene.machine.disk().visit(|store| {
        let tree = store.join(format!(".imp-mount/roots/{number}/root"));
        let files = Snapshot::of(&tree);
        let files = files.lines().filter(|(_, line)| line.starts_with("10") && !line.contains(" 0 Ok"));
        found.extend(files.map(|(path, line)| format!("on the new root is {}: {line}", path.display())));
    });
    found.extend(is_usable(scene, filled));
    found
}

/// The roots of earlier boots stay, as many as are kept, and the one of the boot that was cut off goes.
fn is_pruned(scene: &Scene, earlier: &[u64], number: u64) -> Option<String> {
    let output = scene.machine.impctl("roots", &["prune"]);
    let mut names = Vec::new();
    scene.machine.disk().visit(|store| names = Kept { place: store.join(".imp-mount/roots") }.names());
    let mut expected: Vec<_> = earlier.iter().chain([&number]).map(u64::to_string).collect();
    expected.sort();
    (names != expected || output.code != Some(0)).then(|| format!("prune leaves {names:?}: {output:?}"))
}

/// The entries have what they had, and a path of an earlier root is recovered.
fn is_usable(scene: &Scene, filled: Option<&Look>) -> Vec<String> {
    let mut found = Vec::new();
    let Some(_) = filled else { return found };
    let kept = Path::new("/tmp/kept");
    if !kept.exists() {
        tree(kept);
        age(kept);
    }
    differs(&mut found, "the entry", &Look::of(kept), &Look::of(&scene.machine.at("/var/lib/app")));
    fs::create_dir("/run/recovered").unwrap();
    let output = scene.machine.impctl("recover", &["/etc/app", "--to", "/run/recovered"]);
    if output.code != Some(0) {
        found.push(format!("recover: {output:?}"));
        return found;
    }
    let recovered = Path::new("/run/recovered/etc/app");
    differs(&mut found, "what is recovered", &Look::of(kept), &Look::of(recovered));
    fs::remove_dir_all("/run/recovered").unwrap();
    found
}
