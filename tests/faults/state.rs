//! State after a run: everything visible to another run, except numbers that differ by chance.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::look::{ROOTS, numberless};
use crate::support::{Machine, Mount, Snapshot, mounts};

/// State after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// All mounts.
    pub mounts: Vec<String>,
    /// True if the place where older kernels build a root is there.
    pub stage: bool,
    /// Files on the root itself.
    pub root: Snapshot,
    /// Files on the disks.
    pub disks: Vec<Snapshot>,
    /// The report's entries, stores and pending owners.
    pub report: Value,
    /// Lines of utab.
    pub utab: String,
}

impl State {
    pub fn of(machine: &Machine) -> Self {
        Self {
            mounts: table(machine),
            stage: Path::new("/run/imp-mount/stage").exists(),
            root: Snapshot::of(&machine.at("")).without(ROOTS),
            disks: machine.disks().map(|disk| disk.snapshot().without(ROOTS)).collect(),
            report: report(),
            utab: fs::read_to_string("/run/mount/utab").unwrap_or_default(),
        }
    }

    /// Differences from another state; empty if there are none.
    pub fn differences(&self, other: &Self) -> String {
        let mut text = differences("mounted", &self.mounts, &other.mounts);
        if self.stage != other.stage {
            text += "the staging mount's folder differs\n";
        }
        let pairs = self.disks.iter().zip(&other.disks).map(|(one, two)| ("disk", one, two));
        for (what, one, two) in pairs.chain([("root", &self.root, &other.root)]) {
            two.losses(one).iter().for_each(|line| writeln!(text, "{what}: should be {line}").unwrap());
            one.news(two).iter().for_each(|line| writeln!(text, "{what}: should not be {line}").unwrap());
        }
        for key in ["entries", "stores", "pending"] {
            let lines = |state: &Self| -> Vec<String> {
                state.report[key].as_array().into_iter().flatten().map(Value::to_string).collect()
            };
            text += &differences(&format!("in the report's {key}"), &lines(self), &lines(other));
        }
        let lines = |state: &Self| -> Vec<String> { state.utab.lines().map(Into::into).collect() };
        text + &differences("in utab", &lines(self), &lines(other))
    }
}

/// Which lines one list has and another one has not.
pub fn differences(what: &str, one: &[String], other: &[String]) -> String {
    let missing = |from: &[String], lines: &[String], word: &str| -> String {
        let mut from = from.to_vec();
        let mut text = String::new();
        for line in lines {
            match from.iter().position(|known| known == line) {
                Some(at) => drop(from.remove(at)),
                None => writeln!(text, "{word} {what}: {line}").unwrap(),
            }
        }
        text
    };
    missing(other, one, "should not be") + &missing(one, other, "should be")
}

/// All mounts, without the ids of mounts and peer groups.
pub fn table(machine: &Machine) -> Vec<String> {
    let all = mounts();
    let visible = |mount: &&Mount| !is_harmless(machine, &all, mount);
    let mut lines: Vec<_> = all.iter().filter(visible).map(line).collect();
    lines.sort();
    lines
}

fn line(mount: &Mount) -> String {
    let Mount { root, target, options, propagation, fstype, source, super_options, .. } = mount;
    let kinds: Vec<_> =
        propagation.split(' ').map(|kind| kind.split(':').next().unwrap_or_default()).collect();
    let (target, root, kinds) = (target.display(), numberless(root), kinds.join(" "));
    format!("{target} {root} {options} ({kinds}) {fstype} {source} {super_options}")
}

/// The one known leftover: a run killed after the root was published, and before the moved mount below was unmounted,
/// leaves this mount covered by the root. The mount is invisible, and keeps the disk busy no longer than the store does.
fn is_harmless(machine: &Machine, all: &[Mount], mount: &Mount) -> bool {
    let sysroot = machine.at("");
    let sysroot: &Path = sysroot.components().as_path();
    let Some(root) = all.iter().rfind(|mount| mount.target == sysroot) else { return false };
    mount.target != sysroot && mount.target.starts_with(sysroot) && mount.parent == root.parent
}

fn report() -> Value {
    let text = fs::read("/run/imp-mount/report.json").unwrap_or_else(|_| b"{}".into());
    let mut report: Value = serde_json::from_slice(&text).unwrap();
    for pending in report["pending"].as_array_mut().into_iter().flatten() {
        pending["inode"].take();
    }
    // Inode numbers and times differ in every run: only whether a version is recorded stays.
    for entry in report["entries"].as_array_mut().into_iter().flatten() {
        for side in ["store", "root"] {
            if let Some(version) = entry.pointer_mut(&format!("/versions/{side}")) {
                *version = (!version.is_null()).into();
            }
        }
    }
    report
}
