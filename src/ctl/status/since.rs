//! Changes since the boot: later runs, adopted paths, and entries in another state than the last run left.

use std::os::fd::AsFd;

use rustix::fs::OFlags;
use serde::Serialize;

use crate::check::status::{Checked, Status};
use crate::ctl::adopt::record;
use crate::ctl::line;
use crate::ctl::system::System;
use crate::ctl::ui::output::Failure;
use crate::manifest::coverage::Type;
use crate::manifest::{AbsPath, Kind};
use crate::plan::Plan;
use crate::runtime::report::{Outcome, Report, Run, State};
use crate::sys::walk::{self, Mounts};

/// Result of the boot: the runs in the initrd.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Boot {
    /// Outcome of the last of them.
    pub outcome: Outcome,
    /// Microseconds from the start of the system to the start of the first run.
    pub started: u64,
    /// Microseconds of all of them.
    pub duration: u64,
    /// Number of entries and guards placed by the runs.
    pub placed: usize,
    /// Failures of the last of them.
    pub failures: Vec<String>,
    /// Warnings of them.
    pub warnings: Vec<String>,
}

impl Boot {
    /// The boot's runs and the later ones; no boot where none was for a root other than the running system's.
    pub fn part(runs: &[Run]) -> (Option<Self>, &[Run]) {
        let first_live = runs.iter().position(|run| run.sysroot == "/").unwrap_or(runs.len());
        let (boot, since) = runs.split_at(first_live);
        let (Some(first), Some(last)) = (boot.first(), boot.last()) else { return (None, since) };
        let boot = Self {
            outcome: last.outcome,
            started: first.started,
            duration: boot.iter().flat_map(|run| &run.steps).map(|(_, took)| took).sum(),
            placed: boot.iter().map(|run| run.placed).sum(),
            failures: last.failures.clone(),
            warnings: boot.iter().flat_map(|run| run.warnings.iter().cloned()).collect(),
        };
        (Some(boot), since)
    }
}

/// Changes since the boot.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Since {
    /// The runs on the running system, oldest first.
    pub runs: Vec<Run>,
    /// Paths copied by `impctl adopt`.
    pub adopted: Vec<Adopted>,
    /// Entries of the manifest unknown to all runs.
    pub added: Vec<AbsPath>,
    /// Placed entries no longer in the manifest.
    pub removed: Vec<Removed>,
    /// Entries in another state than the last run left.
    pub changed: Vec<Changed>,
}

/// An adopted path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Adopted {
    /// Its path.
    pub target: AbsPath,
    /// Its path on the store.
    pub source: AbsPath,
    /// True if still mounted.
    pub mounted: bool,
    /// True if in the manifest by now.
    pub named: bool,
    /// The line of NixOS to keep the path; empty if the path cannot be read.
    pub nix: String,
    /// Remedy: the line for this system's configuration.
    #[serde(skip)]
    pub keep: String,
}

/// A path no longer in the manifest.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Removed {
    /// Its path.
    pub target: AbsPath,
    /// The reason recorded by a run for keeping the path.
    pub why: String,
}

/// A changed state.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changed {
    /// Its path.
    pub target: AbsPath,
    /// Its state after the last run.
    pub was: State,
    /// Its state now.
    pub is: Status,
}

impl Since {
    /// Holds the entries against the report of the last run.
    pub fn compare(&mut self, plan: &Plan<'_>, report: &Report, entries: &[Checked]) {
        for entry in entries {
            match report.state(&entry.target) {
                Some(was) if !agree(was, entry.status) => {
                    self.changed.push(Changed { target: entry.target.clone(), was, is: entry.status });
                }
                None if entry.status.is_problem() && entry.status != Status::RootOnly => {
                    self.added.push(entry.target.clone());
                }
                _ => {}
            }
        }
        let stays = |state| !matches!(state, State::Absent | State::Failed | State::Later | State::Off);
        let removed = report
            .entries
            .iter()
            .filter(|entry| stays(entry.state) && plan.item_for(&entry.target, entry.kind).is_none());
        self.removed
            .extend(removed.map(|entry| Removed { target: entry.target.clone(), why: entry.why.clone() }));
    }

    /// Checks the adopted paths.
    pub fn adopted(
        &mut self,
        system: &System,
        plan: Option<&Plan<'_>>,
        entries: Vec<record::Entry>,
    ) -> Result<(), Failure> {
        let (users, mounts, nixos) = (system.names(), system.mounts()?, system.is_nixos());
        let look = |path: &AbsPath| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let fd = walk::open_below(system.root(), path, flags, Mounts::Enter).ok()?;
            walk::stat(fd.as_fd()).ok()
        };
        for record::Entry { target, source, kind } in entries {
            let (there, kept) = (look(&target), look(&source));
            let mounted = match (&there, &kept) {
                (Some(there), Some(kept)) => there.identity() == kept.identity(),
                // If one of them cannot be read.
                _ => mounts.iter().any(|mount| mount.point == target.as_str()),
            };
            let stores = plan.map(|plan| plan.manifest.stores.as_slice()).unwrap_or_default();
            let on = stores.iter().filter(|store| source.is_in(&store.path));
            let store = on.max_by_key(|store| store.path.as_str().len());
            let line = kept.as_ref().zip(store).map(|(stat, store)| {
                let entry = line::entry(&target, stat, &users);
                (entry.definition(store), entry)
            });
            let keep = match &line {
                None => format!("name it in the configuration: {target}"),
                Some((nix, _)) if nixos => format!("add to the configuration: {nix}"),
                Some((_, entry)) => format!("add to the entries of the manifest: {entry}"),
            };
            self.adopted.push(Adopted {
                mounted,
                named: plan.is_some_and(|plan| keeps(plan, &target, kind, &source)),
                nix: line.map_or_else(String::new, |(nix, _)| nix),
                keep,
                target,
                source,
            });
        }
        Ok(())
    }
}

/// True if the manifest names a path, or a directory above with `source` as the place of the path.
fn keeps(plan: &Plan<'_>, target: &AbsPath, kind: Kind, source: &AbsPath) -> bool {
    let what = if kind == Kind::Directory { Type::Directory } else { Type::File };
    plan.item_for(target, kind).is_some()
        || plan.coverage.entry(target, what).is_some_and(|entry| {
            let kept = plan.manifest.store(entry).path.join(entry.source());
            source.below(&kept) == target.below(&entry.target)
        })
}

/// True if an entry is still in the state after a run. Owner and mode of its source may be wrong since before the run.
fn agree(was: State, is: Status) -> bool {
    match was {
        State::Mounted | State::Linked | State::Copied | State::Absent => {
            !is.is_problem() || matches!(is, Status::WrongOwner | Status::WrongMode)
        }
        State::Guarded | State::Failed => is.is_problem(),
        State::Skipped | State::Off => !is.is_problem(),
        State::Later | State::Busy => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Phase;

    fn run(sysroot: &str, outcome: Outcome, took: u64) -> Run {
        Run {
            phase: Phase::Etc,
            sysroot: sysroot.to_owned(),
            outcome,
            started: took,
            steps: vec![("root".to_owned(), took), ("stores".to_owned(), 1)],
            placed: 2,
            unchanged: 0,
            failures: vec![format!("failure {took}")],
            warnings: vec![format!("warning {took}")],
            words: Vec::new(),
        }
    }

    #[test]
    fn a_boot_of_several_runs() {
        let runs = [
            run("/sysroot", Outcome::Failed, 10),
            run("/sysroot", Outcome::Done, 20),
            run("/", Outcome::Done, 30),
        ];
        let (boot, since) = Boot::part(&runs);
        let Some(boot) = boot else { panic!("there was one") };
        assert_eq!((boot.outcome, boot.started, boot.duration, boot.placed), (Outcome::Done, 10, 32, 4));
        assert_eq!((boot.failures, boot.warnings.len(), since.len()), (vec!["failure 20".to_owned()], 2, 1));
        assert!(Boot::part(&runs[2..]).0.is_none());
        assert!(Boot::part(&[]).0.is_none());
    }

    #[test]
    fn states_that_agree() {
        for (was, is, agrees) in [
            (State::Mounted, Status::Ok, true),
            (State::Mounted, Status::Pending, true),
            (State::Mounted, Status::WrongOwner, true),
            (State::Mounted, Status::NotMounted, false),
            (State::Linked, Status::Replaced, false),
            (State::Guarded, Status::NotMounted, true),
            (State::Guarded, Status::Ok, false),
            (State::Failed, Status::Covered, true),
            (State::Later, Status::NotMounted, true),
        ] {
            assert_eq!(agree(was, is), agrees, "{was:?} {is:?}");
        }
    }
}
