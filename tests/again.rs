//! A repeated run changes nothing: three boots with a new root each, and three runs on the running system, with random manifests
//! and every manifest of the tests, the documentation and the golden files. The second and third must equal the first.

mod documents;
mod generators;
mod look;
mod random;

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::support::{Machine, Output};
use look::{Identities, Look};

tests![
    random_manifests_1: Disk,
    random_manifests_2: Disk,
    random_manifests_3: Disk,
    random_manifests_4: Disk,
    every_manifest_that_is_written_down_1: Disk,
    every_manifest_that_is_written_down_2: Disk,
    every_manifest_that_is_written_down_3: Disk,
    every_manifest_that_is_written_down_4: Disk,
    the_entries_that_lost_prints: Disk,
    the_entry_that_adopt_prints: Disk,
    the_manifests_of_the_module: Disk,
];

use documents::{
    every_manifest_that_is_written_down_1, every_manifest_that_is_written_down_2,
    every_manifest_that_is_written_down_3, every_manifest_that_is_written_down_4,
    the_manifests_of_the_module,
};
use generators::{the_entries_that_lost_prints, the_entry_that_adopt_prints};
use random::{random_manifests_1, random_manifests_2, random_manifests_3, random_manifests_4};

/// Results of a run.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    code: Option<i32>,
    mounts: Vec<String>,
    stores: Vec<Look>,
    root: Look,
    report: Value,
    /// The exit code of `--check`, and how the paths stand.
    check: (Option<i32>, Value),
}

impl Left {
    fn by(machine: &Machine, output: &Output, live: bool) -> Self {
        let check =
            if live { machine.run_live(&["--check", "--json"]) } else { machine.run(&["--check", "--json"]) };
        let found: Value = serde_json::from_str(&check.stdout).unwrap_or_default();
        let kept = if live { Identities::Kept } else { Identities::New };
        let mut stores = Vec::new();
        for disk in machine.disks() {
            disk.visit(|root| stores.push(Look::of(root, Identities::Kept)));
        }
        Self {
            code: output.code,
            mounts: look::mounts_of(&machine.at(""), kept),
            stores,
            root: Look::of(&machine.at(""), kept),
            report: report(live),
            check: (check.code, found["entries"].clone()),
        }
    }

    /// Differences of a later run; empty if there are none.
    fn differences(&self, later: &Self) -> String {
        let mut words = String::new();
        let mut say = |what: &str, one: String, other: String| {
            if one != other {
                writeln!(words, "{what}: {one}\n  then: {other}").unwrap();
            }
        };
        say("exit code", format!("{:?}", self.code), format!("{:?}", later.code));
        say("mounts", self.mounts.join("\n"), later.mounts.join("\n"));
        say("report", format!("{:#}", self.report), format!("{:#}", later.report));
        say("--check", format!("{:#?}", self.check), format!("{:#?}", later.check));
        let trees = self.stores.iter().zip(&later.stores).chain([(&self.root, &later.root)]);
        for (one, other) in trees {
            words += &one.differences(other);
        }
        words
    }
}

/// The report of the last run, with the failures, warnings and outcome of this run only. Copies of a boot have versions of their own.
fn report(live: bool) -> Value {
    let Ok(bytes) = fs::read("/run/imp-mount/report.json") else { return Value::Null };
    let mut report: Value = serde_json::from_slice(&bytes).unwrap();
    let last = report["runs"].as_array().and_then(|runs| runs.last()).cloned().unwrap_or_default();
    report["runs"] =
        json!({ "failures": last["failures"], "warnings": last["warnings"], "outcome": last["outcome"] });
    if !live && let Some(entries) = report["entries"].as_array_mut() {
        for entry in entries {
            entry["versions"] = Value::Null;
        }
    }
    report
}

/// Boots a machine with its manifest three times, and runs imp-mount three times on the started system. `prepare` creates files on the
/// root before imp-mount runs; `change` writes files on the running system.
fn thrice(machine: &Machine, prepare: &dyn Fn(&Machine), change: &dyn Fn(&Machine)) -> Result<(), String> {
    let boot = || {
        machine.power_off();
        machine.power_on();
        prepare(machine);
        let output = machine.build();
        (Left::by(machine, &output, false), output)
    };
    let (first, output) = boot();
    for number in 2..=3 {
        let (left, again) = boot();
        let differences = first.differences(&left);
        if !differences.is_empty() {
            return Err(format!("boot {number}: {differences}\nfirst: {output:?}\nthen: {again:?}"));
        }
    }
    if first.code != Some(0) {
        return Ok(());
    }
    machine.switch_root();
    change(machine);
    let run = || {
        let output = machine.run_live(&[]);
        (Left::by(machine, &output, true), output)
    };
    let (first, output) = run();
    for number in 2..=3 {
        let (left, again) = run();
        let differences = first.differences(&left);
        if !differences.is_empty() {
            return Err(format!("run {number}: {differences}\nfirst: {output:?}\nthen: {again:?}"));
        }
        let bytes = fs::read("/run/imp-mount/report.json").unwrap();
        let report: Value = serde_json::from_slice(&bytes).unwrap();
        let placed = &report["runs"].as_array().unwrap().last().unwrap()["placed"];
        if again.code == Some(0) && placed != 0 {
            return Err(format!("run {number} put {placed} in place: {again:?}"));
        }
    }
    Ok(())
}
