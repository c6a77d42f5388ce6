//! Execution of a plan: the root, the stores, the entries, and the report.

mod announce;
mod bases;
pub mod device;
mod entries;
pub mod fresh;
pub mod guard;
mod held;
pub mod job;
pub mod judge;
pub mod matches;
pub mod owner;
pub mod place;
pub mod placeholder;
pub mod problems;
pub mod removed;
pub mod root;
pub mod source;
pub mod stage;
pub mod store;
pub mod stores;
pub mod sysroot;
pub mod target;
pub mod tree;
pub mod utab;
pub mod work;
pub mod write_back;

use std::mem;

use crate::ids::Names;
use crate::manifest::{Manifest, Phase, Store};
use crate::plan::Plan;
use crate::plan::cmdline::KernelArgs;
use crate::runtime::lock::Lock;
use crate::runtime::report::{self, Clock, EntryReport, Outcome, Report, Run, State};
use crate::sys::mount_api::Kernel;
use crate::text::problem::{Problem, Result};
use announce::Announce;
use guard::Guard;
use job::{Context, Job, Removed};
use owner::Owners;
use problems::Problems;
use root::Found;
use stores::Stores;
use sysroot::Sysroot;
use utab::WITHOUT_UTAB;
use work::{Changes, Work};

pub use bases::Bases;

/// Request for a run.
#[derive(Debug)]
pub struct Request<'a> {
    /// Arguments on the kernel command line.
    pub words: &'a KernelArgs,
    /// Path of the root.
    pub sysroot: &'a str,
    /// The last phase to mount.
    pub last_phase: Phase,
    /// Guards failed required entries like optional ones, for a run whose failure cannot stop the boot. Only before
    /// services run.
    pub guard: bool,
    /// Held until the report is written.
    pub lock: &'a Lock,
}

/// Brings the system in line with the manifest and writes a report, also without a manifest. All problems are logged on return.
pub fn run(manifest: Result<Manifest>, request: &Request<'_>) -> Outcome {
    let clock = Clock::start();
    let (previous, unread) = match Report::read_or_set_aside(request.lock) {
        Ok(read) => read,
        // Another try may succeed, and a new report would lose the mounts no longer named.
        Err(problem) => {
            log::error!("{problem}");
            return Outcome::Failed;
        }
    };
    let started = report::uptime();
    let mut record = Record { report: previous.clone(), clock };
    let mut problems = Problems::default();
    problems.warnings.extend(unread);
    if request.words.off {
        log::warn!(
            "switched off by imp-mount=off on the kernel command line: only paths needed by the boot are mounted"
        );
    }
    let mut done = Done::none(Outcome::Off);
    let manifest = manifest.map_err(|problem| problems.add(!request.words.off, problem)).ok();
    if let Some(manifest) = &manifest {
        let plan = Plan::new(manifest, request.words, request.last_phase);
        problems.warnings.extend(plan.idle.iter().map(Problem::new));
        match work(&plan, request, &previous, &mut record, &mut problems) {
            Ok(worked) => done = worked,
            Err(problem) => problems.add(true, problem),
        }
    }
    let outcome = if problems.failures.is_empty() { done.outcome } else { Outcome::Failed };
    for problem in &problems.warnings {
        log::warn!("{problem}");
    }
    for problem in &problems.failures {
        log::error!("{problem}");
    }
    log_skip_argument(&problems.failures, manifest.as_ref().map_or(&[], |manifest| &manifest.stores));
    match outcome {
        Outcome::Done => log::info!("{} put in place, {} unchanged", done.placed, done.unchanged),
        Outcome::Failed | Outcome::Waiting | Outcome::Off => {}
    }
    let Record { mut report, clock } = record;
    report.add(Run {
        phase: request.last_phase,
        sysroot: request.sysroot.to_owned(),
        outcome,
        started,
        steps: clock.into_steps(),
        placed: done.placed,
        unchanged: done.unchanged,
        failures: texts(&problems.failures),
        warnings: texts(&problems.warnings),
        words: request.words.effective(),
    });
    if let Err(problem) = report.write(request.lock) {
        log::warn!("{problem}");
    }
    outcome
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Logs a kernel argument to boot without the failed entries; no shell is needed.
fn log_skip_argument(failures: &[Problem], stores: &[Store]) {
    let paths = failures.iter().map(|problem| {
        let store = stores.iter().find(|store| problem.at == format!("store {}", store.path));
        store.map_or(problem.at.as_str(), |store| store.path.as_str())
    });
    if let Some(word) = KernelArgs::leaving_out(paths) {
        log::info!("to boot without it once, add {word} to the kernel command line, in the boot menu");
    }
}

/// Result of a run.
struct Done {
    outcome: Outcome,
    /// Number of entries placed by this run.
    placed: usize,
    /// Number of entries in place before.
    unchanged: usize,
}

impl Done {
    fn none(outcome: Outcome) -> Self {
        Self { outcome, placed: 0, unchanged: 0 }
    }
}

/// The report of a run, and the times of its steps.
struct Record {
    report: Report,
    clock: Clock,
}

impl Record {
    /// No entry is placed in this run, for the same reason.
    fn unplaced(&mut self, plan: &Plan<'_>, state: State, why: &str) {
        self.report.entries =
            plan.items.iter().map(|item| Job::of(item).report(state, why.to_owned())).collect();
    }
}

/// Prepares the root and the stores, places the entries, and publishes a new root.
fn work(
    plan: &Plan<'_>,
    request: &Request<'_>,
    previous: &Report,
    record: &mut Record,
    problems: &mut Problems,
) -> Result<Done> {
    // New files get exactly the mode given.
    rustix::process::umask(rustix::fs::Mode::empty());
    let sysroot = Sysroot::open(request.sysroot)?;
    if plan.off && plan.is_untouched() {
        record.unplaced(plan, State::Off, "imp-mount=off");
        return Ok(Done::none(Outcome::Off));
    }
    let mut tree = match root::prepare(plan, &sysroot, Kernel::probe(), &mut problems.warnings)? {
        Found::Tree(tree) => tree,
        Found::Waiting => {
            log::info!("the running system is left as it is: its new root comes with the next boot");
            record.unplaced(plan, State::Later, "waiting for the next boot");
            return Ok(Done::none(Outcome::Waiting));
        }
    };
    record.clock.step("root");
    let stores = Stores::open(plan, &mut tree, &sysroot, request.guard, problems);
    record.clock.step("stores");
    let context = Context { plan, sysroot: &sysroot, previous, guards_required: request.guard };
    let mounts = sysroot.is_live().then(|| stores.mounts(plan, problems));
    let announce = Announce { mounts: mounts.as_deref(), lock: request.lock };
    announce.before(&context, &mut plan.items.iter().map(Job::of), false, problems);
    let bases = Bases::of(tree.root(), stores.bases())?;
    let owners = Owners { names: Names::new(plan.manifest, sysroot.is_live(), &bases), pending: Vec::new() };
    let changes = Changes { entries: Vec::with_capacity(plan.items.len()), ..Changes::default() };
    let mut work = Work { context, announce, tree, stores, owners, guard: Guard::find()?, problems, changes };
    let unwanted =
        if sysroot.is_live() { removed::no_longer_named(plan, previous) } else { [vec![], vec![]] };
    let mut gone = work.remove(&unwanted[0]);
    work.guard_stores();
    work.entries();
    work.problems.warnings.append(&mut work.owners.names.warnings());
    record.clock.step("entries");
    merge_pending(&mut record.report, mem::take(&mut work.owners.pending), plan);
    if !work.problems.failures.is_empty() {
        work.take_back(&gone, &mut record.report);
        return Ok(Done::none(Outcome::Failed));
    }
    gone.append(&mut work.remove(&unwanted[1]));
    let done = work.publish(gone, record)?;
    Ok(Done { outcome: if plan.off { Outcome::Off } else { Outcome::Done }, ..done })
}

impl Work<'_> {
    /// Undoes the mounts of a failed run on a visible root.
    fn take_back(mut self, gone: &[Removed], report: &mut Report) {
        if self.tree.is_new() {
            report.entries.clear();
        } else {
            self.undo();
            self.restore(gone);
        }
        after_failure(report, self.changes.entries);
    }

    /// Publishes a new root, and records the stores and entries.
    fn publish(self, gone: Vec<Removed>, record: &mut Record) -> Result<Done> {
        let Work { context, announce, tree, stores, problems, changes, .. } = self;
        tree.publish(context.sysroot)?;
        record.clock.step("publish");
        let in_place = [State::Mounted, State::Linked, State::Copied, State::Guarded];
        let in_place = changes.entries.iter().filter(|entry| in_place.contains(&entry.state)).count();
        let made;
        let mounts = if let Some(mounts) = announce.mounts {
            mounts
        } else {
            made = stores.mounts(context.plan, problems);
            &made
        };
        record.report.stores = stores.describe(&context, mounts, problems);
        record.report.set_entries(changes.entries);
        let lines = (record.report.entries.as_slice(), gone.as_slice());
        if let Err(problem) = announce::after(&context, mounts, lines, announce.lock) {
            problems.warn(problem.remedy(WITHOUT_UTAB));
            remember(&mut record.report, gone);
        }
        record.clock.step("utab");
        let unchanged = changes.unchanged;
        Ok(Done { outcome: Outcome::Done, placed: in_place.saturating_sub(unchanged), unchanged })
    }
}

/// Entries of earlier runs are still in place; those of this run are not.
fn after_failure(report: &mut Report, entries: Vec<EntryReport>) {
    report
        .entries
        .retain(|old| !matches!(old.state, State::Absent | State::Failed | State::Later | State::Off));
    for mut entry in entries {
        if matches!(entry.state, State::Mounted | State::Guarded | State::Skipped) {
            entry.state = State::Failed;
            "nothing is mounted: a required path failed".clone_into(&mut entry.why);
        }
        // Links and copies stay where the run has placed them.
        if matches!(entry.state, State::Linked | State::Copied) {
            report.entries.retain(|old| old.target != entry.target);
        }
        report.insert(entry);
    }
}

/// Records unmounted entries with a remaining line in utab, for the next run.
fn remember(report: &mut Report, gone: Vec<Removed>) {
    let why = "it is no longer named, and unmounted, but libmount still has a line about it";
    for one in gone {
        report.insert(EntryReport { state: State::Busy, why: why.to_owned(), ..one.entry });
    }
}

/// Keeps pending paths of the previous report, unless this run found them again or no store of the manifest has them.
fn merge_pending(report: &mut Report, new: Vec<report::Pending>, plan: &Plan<'_>) {
    report.pending.retain(|old| {
        let known = old.base.is_root() || plan.manifest.stores.iter().any(|store| store.path == old.base);
        known && !new.iter().any(|new| (&new.base, &new.path) == (&old.base, &old.path))
    });
    report.pending.extend(new);
}
