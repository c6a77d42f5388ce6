//! Roots of earlier boots after a power cut: complete roots stay complete, and no incomplete root counts as complete.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::scene::{Scene, State, age, tree};
use crate::ctl_roots::kept::{Kept, One};
use crate::support::command::sh_on;
use crate::support::json_of;
use crate::support::trees::Look;

/// The root of an earlier boot, and a saved root of this boot.
pub fn seed(store: &Path) {
    let kept = Kept::on(store);
    fill(&kept.add(1, 3).ends(true, 4096));
    fill(&kept.add(2, 0).saved().of_this_boot().ends(true, 4096));
}

/// Three due roots, the newest root, and one root in removal.
pub fn seed_due(store: &Path) {
    let kept = Kept::on(store);
    for number in 1..=4 {
        fill(&kept.add(number, 9 - u64::from(number)).ends(true, 4096));
    }
    fill(&kept.add(9, 30));
    fs::rename(kept.place.join("9"), kept.place.join("removed-9")).unwrap();
}

/// All are alike.
pub(super) fn fill(one: &One) {
    let top = one.tree();
    tree(&top.join("etc/app"));
    fs::write(top.join("fixed"), "x").unwrap();
    if sh_on("stat -f -c %T", &[&top]).trim() == "btrfs" {
        sh_on("btrfs -q subvolume create", &[&top.join("nested")]);
        tree(&top.join("nested/app"));
    }
    age(&top);
    sh_on("chattr +i", &[&top.join("fixed")]);
}

/// The tree of one of them.
pub const FILLED: &str = "/.imp-mount/roots/1/root";

/// A root on the disk: its number, whether a good end is recorded, its tree, and its saved files of /srv.
pub(super) type Root = (u64, bool, Look, Option<Look>);

/// The roots on the disk.
pub(super) fn on_disk(scene: &Scene) -> Vec<Root> {
    let mut all = Vec::new();
    scene.machine.disk().visit(|store| {
        for entry in fs::read_dir(store.join(".imp-mount/roots")).into_iter().flatten().map(Result::unwrap) {
            let Ok(number) = entry.file_name().to_str().unwrap().parse() else { continue };
            let end = fs::read(entry.path().join("end.json")).unwrap_or_default();
            let end: Value = serde_json::from_slice(&end).unwrap_or_default();
            let tree = entry.path().join("root");
            if tree.exists() {
                let saved = tree.join("srv");
                let saved = saved.exists().then(|| Look::of(&saved));
                all.push((number, end["complete"] == true, Look::of(&tree), saved));
            }
        }
    });
    all.sort_by_key(|(number, ..)| *number);
    all
}

/// The roots listed by the system: number and state.
pub(super) fn listed(scene: &Scene) -> Vec<(u64, String)> {
    let output = scene.machine.impctl("roots", &["--json"]);
    let found = json_of(&output, "roots");
    let all = found["stores"][0]["roots"].as_array().cloned().unwrap_or_default();
    let one = |root: &Value| (root["number"].as_u64().unwrap(), root["state"].as_str().unwrap().to_owned());
    all.iter().map(one).collect()
}

/// The system with the store starts, and does the run and a removal once more.
fn goes_on(scene: &Scene, found: &mut Vec<String>) {
    let again = [("the run", scene.run_again()), ("prune", scene.machine.impctl("roots", &["prune"]))];
    let failed = again.into_iter().filter(|(_, output)| output.code != Some(0));
    found.extend(failed.map(|(what, output)| format!("{what}: {output:?}")));
}

pub(super) fn numbers(all: &[Root]) -> Vec<u64> {
    all.iter().map(|(number, ..)| *number).collect()
}

pub(super) fn differs(found: &mut Vec<String>, what: &str, expected: &Look, there: &Look) {
    let lines = expected.differences(there);
    if !lines.is_empty() {
        found.push(format!("{what}: {lines:#?}"));
    }
}

/// Compares each complete root with the expected one.
fn whole(scene: &Scene, all: &[Root], filled: &Look, found: &mut Vec<String>) {
    for (number, _, _, saved) in all.iter().filter(|(_, ended, ..)| *ended) {
        let name = format!("root {number}, which ended well");
        match (number, saved) {
            (1 | 2, _) => {}
            (_, Some(saved)) => differs(found, &name, &Look::of(&scene.machine.at("/srv")), saved),
            (_, None) => found.push(format!("{name}: nothing is saved in it")),
        }
    }
    for (number, _, there, _) in all.iter().filter(|(number, ..)| *number <= 2) {
        differs(found, &format!("root {number}"), filled, there);
    }
}

/// After a cut of `impctl roots save`.
pub fn after_saving(scene: &Scene, before: &State, is_over: bool) -> Vec<String> {
    let filled = before.whole[0].as_ref().unwrap();
    let mut found = Vec::new();
    let all = on_disk(scene);
    let boot = scene.boot();
    if boot.code != Some(0) {
        found.push(format!("the next boot: {boot:?}"));
    }
    whole(scene, &all, filled, &mut found);
    let numbers =
        |ended: bool| all.iter().filter(move |(_, it, ..)| *it == ended).map(|(number, ..)| *number);
    if !numbers(true).any(|number| number == 1) {
        found.push("the root of an earlier boot is gone".to_owned());
    }
    if !numbers(true).any(|number| number == 2 && !is_over || number > 2) {
        found.push("no saving of this boot is whole".to_owned());
    }
    for (number, state) in listed(scene) {
        if (state == "well") != numbers(true).any(|it| it == number) {
            found.push(format!("root {number} counts as `{state}`"));
        }
    }
    goes_on(scene, &mut found);
    let all = on_disk(scene);
    whole(scene, &all, filled, &mut found);
    let ended: Vec<_> = all.iter().map(|(number, ended, ..)| (*number, *ended)).collect();
    if !matches!(ended[..], [(1, true), (3.., true)]) {
        found.push(format!("the next run leaves {ended:?}"));
    }
    found
}

/// After a cut of `impctl roots prune`.
pub fn after_pruning(scene: &Scene, before: &State, _: bool) -> Vec<String> {
    let filled = before.whole[0].as_ref().unwrap();
    let mut found = Vec::new();
    let all = on_disk(scene);
    let boot = scene.boot();
    if boot.code != Some(0) {
        found.push(format!("the next boot: {boot:?}"));
    }
    // A root is complete as long as it is listed.
    for (number, ended, there, _) in &all {
        differs(&mut found, &format!("root {number}, ended: {ended}"), filled, there);
    }
    for (number, state) in listed(scene) {
        if state != "well" || !all.iter().any(|(it, ..)| *it == number) {
            found.push(format!("root {number} counts as `{state}`, and on the disk are {:?}", numbers(&all)));
        }
    }
    goes_on(scene, &mut found);
    let mut names = Vec::new();
    scene.machine.disk().visit(|store| names = Kept { place: store.join(".imp-mount/roots") }.names());
    if names != ["4"] {
        found.push(format!("the next run leaves {names:?}"));
    }
    for (_, _, there, _) in on_disk(scene) {
        differs(&mut found, "the newest root", filled, &there);
    }
    found
}
