//! Doing a plan: the root, the stores, the entries, and the report of it all.

pub mod device;
mod entries;
pub mod fresh;
pub mod guard;
mod held;
pub mod judge;
pub mod matches;
pub mod owner;
pub mod place;
pub mod placeholder;
pub mod removed;
pub mod root;
pub mod source;
pub mod stage;
pub mod store;
pub mod sysroot;
pub mod target;
pub mod tree;
pub mod utab;
pub mod worker;
pub mod write_back;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ids::{Files, Names, Place};
use crate::manifest::{AbsPath, Kind, Manifest, Method, Phase, Store};
use crate::plan::cmdline::Words;
use crate::plan::{Need, Plan};
use crate::runtime::lock::Lock;
use crate::runtime::report::{self, Clock, EntryReport, Finding, Outcome, Report, Run, State, StoreReport};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

use crate::sys::mount_api::Kernel;
use guard::Guard;
use removed::Removed;
use root::Found;
use store::Opened;
use sysroot::Sysroot;
use tree::Tree;
use worker::Worker;

/// Consequence of a mount without a line in utab.
const WITHOUT_UTAB: &str = "mounts may be shown by file managers, and be unmounted one by one at shutdown";

/// Request for a run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Arguments on the kernel command line.
    pub words: &'a Words,
    /// Path of the root.
    pub sysroot: &'a str,
    /// The last phase that it is for.
    pub upto: Phase,
    /// Guards required entries that fail, as optional ones are, because nothing can stop the boot. Only for a run before any service.
    pub guard: bool,
    /// Held until the report is written.
    pub lock: &'a Lock,
}

/// Brings the system in line with the manifest and leaves a report. What went wrong has been logged when it returns.
pub fn run(request: &Request<'_>) -> Outcome {
    let mut clock = Clock::start();
    let (previous, unread) = match Report::read_or_set_aside(request.lock) {
        Ok(read) => read,
        // Another try may succeed, and a new report would forget what is mounted and no longer named.
        Err(problem) => {
            log::error!("{problem}");
            return Outcome::Failed;
        }
    };
    let mut report = previous.clone();
    let plan = Plan::new(request.manifest, request.words, request.upto);
    let mut result = Done::default();
    result.warnings.extend(unread);
    result.warnings.extend(plan.idle.iter().map(Problem::new));
    if let Err(problem) = work(&plan, request, &previous, &mut report, &mut result, &mut clock) {
        result.failures.push(problem);
    }
    let outcome = if result.failures.is_empty() { result.outcome } else { Outcome::Failed };
    for problem in &result.warnings {
        log::warn!("{problem}");
    }
    for problem in &result.failures {
        log::error!("{problem}");
    }
    say_way_out(&result.failures, &request.manifest.stores);
    match outcome {
        Outcome::Done => log::info!("{} put in place, {} unchanged", result.placed, result.unchanged),
        Outcome::Failed | Outcome::Waiting | Outcome::Off => {}
    }
    let text = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
    report.add(Run {
        phase: request.upto,
        sysroot: request.sysroot.to_owned(),
        outcome,
        started: result.started,
        steps: clock.into_steps(),
        placed: result.placed,
        unchanged: result.unchanged,
        failures: text(&result.failures),
        warnings: text(&result.warnings),
        words: request.words.heeded(),
    });
    if let Err(problem) = report.write(request.lock) {
        log::warn!("{problem}");
    }
    outcome
}

/// Says how the next boot gets past what failed, which needs no shell.
fn say_way_out(failures: &[Problem], stores: &[Store]) {
    let paths = failures.iter().map(|problem| {
        let store = stores.iter().find(|store| problem.at == format!("store {}", store.path));
        store.map_or(problem.at.as_str(), |store| store.path.as_str())
    });
    if let Some(word) = Words::leaving_out(paths) {
        log::info!("to boot without that for once, add {word} to the kernel command line, in the boot menu");
    }
}

/// Result of a run.
struct Done {
    started: u64,
    outcome: Outcome,
    placed: usize,
    unchanged: usize,
    failures: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            started: report::uptime(),
            outcome: Outcome::Done,
            placed: 0,
            unchanged: 0,
            failures: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

fn work(
    plan: &Plan<'_>,
    request: &Request<'_>,
    previous: &Report,
    report: &mut Report,
    done: &mut Done,
    clock: &mut Clock,
) -> Result<()> {
    // New files get exactly the mode that is given.
    rustix::process::umask(rustix::fs::Mode::empty());
    let sysroot = Sysroot::open(request.sysroot)?;
    if plan.off {
        done.outcome = Outcome::Off;
        log::warn!(
            "switched off by imp-mount=off on the kernel command line: nothing but what the boot needs is mounted"
        );
        if plan.is_untouched() {
            report.entries =
                plan.items.iter().map(|item| resting(item, State::Off, "imp-mount=off")).collect();
            return Ok(());
        }
    }
    let mut tree = match root::prepare(plan, &sysroot, Kernel::probe(), &mut done.warnings)? {
        Found::Tree(tree) => tree,
        Found::Waiting => {
            log::info!("the running system is left as it is: its new root comes with the next boot");
            done.outcome = Outcome::Waiting;
            let why = "waiting for the next boot";
            report.entries = plan.items.iter().map(|item| resting(item, State::Later, why)).collect();
            return Ok(());
        }
    };
    clock.step("root");
    let stores = open_stores(plan, &mut tree, &sysroot, request.guard, done);
    clock.step("stores");
    let bases = Bases::of(
        tree.root(),
        stores.iter().map(|opened| opened.as_ref().ok().map(|opened| opened.cursor.base())),
    )?;
    let mounts = sysroot.is_live().then(|| mounts_of(plan, &stores, done));
    if let Some(mounts) = &mounts {
        announce(plan, &sysroot, mounts, (previous, request.lock), done);
    }
    let mut worker = Worker {
        plan,
        sysroot: &sysroot,
        tree,
        stores,
        names: Names::new(plan.manifest, sysroot.is_live(), &bases),
        guard: Guard::find()?,
        guards_required: request.guard,
        previous,
        pending: Vec::new(),
        entries: Vec::with_capacity(plan.items.len()),
        mounted: Vec::new(),
        failures: Vec::new(),
        warnings: Vec::new(),
        unguarded: Vec::new(),
        unchanged: 0,
    };
    let unwanted =
        if sysroot.is_live() { removed::no_longer_named(plan, previous) } else { [vec![], vec![]] };
    let mut gone = removed::remove(&mut worker, &unwanted[0]);
    worker.guard_stores();
    worker.entries();
    done.warnings.append(&mut worker.names.warnings());
    done.warnings.append(&mut worker.warnings);
    done.failures.append(&mut worker.failures);
    clock.step("entries");
    merge_pending(report, std::mem::take(&mut worker.pending), plan);
    if !done.failures.is_empty() {
        if worker.tree.is_new() {
            report.entries.clear();
        } else {
            worker.undo();
            removed::restore(&mut worker, &gone);
            done.warnings.append(&mut worker.warnings);
        }
        after_failure(report, worker.entries);
        return Ok(());
    }
    gone.append(&mut removed::remove(&mut worker, &unwanted[1]));
    done.warnings.append(&mut worker.warnings);
    let Worker { tree, stores, entries, unchanged, .. } = worker;
    tree.publish(&sysroot)?;
    clock.step("publish");
    let in_place = [State::Mounted, State::Linked, State::Copied, State::Guarded];
    let in_place = entries.iter().filter(|entry| in_place.contains(&entry.state)).count();
    done.placed = in_place.saturating_sub(unchanged);
    done.unchanged = unchanged;
    let mounts = mounts.unwrap_or_else(|| mounts_of(plan, &stores, done));
    report.stores = describe((plan, &sysroot), &stores, &mounts, previous, done);
    report.set_entries(entries);
    if let Err(problem) = write_utab(plan, &sysroot, &mounts, (&report.entries, &gone), request.lock) {
        done.warnings.push(problem.remedy(WITHOUT_UTAB));
        remember(report, gone);
    }
    clock.step("utab");
    Ok(())
}

/// Entries of earlier runs are still in place; those of this run are not.
fn after_failure(report: &mut Report, entries: Vec<EntryReport>) {
    report
        .entries
        .retain(|old| !matches!(old.state, State::Absent | State::Failed | State::Later | State::Off));
    for mut entry in entries {
        if matches!(entry.state, State::Mounted | State::Guarded | State::Skipped) {
            entry.state = State::Failed;
            "nothing is mounted, as something required failed".clone_into(&mut entry.why);
        }
        // Links and copies stay where the run has placed them.
        if matches!(entry.state, State::Linked | State::Copied) {
            report.entries.retain(|old| old.target != entry.target);
        }
        report.insert(entry);
    }
}

/// Keeps in mind what was unmounted and is still named in utab, for the next run.
fn remember(report: &mut Report, gone: Vec<Removed>) {
    let why = "it is no longer named, and unmounted, but libmount still has a line about it";
    for one in gone {
        report.insert(EntryReport { state: State::Busy, why: why.to_owned(), ..one.entry });
    }
}

fn resting(item: &crate::plan::Item<'_>, state: State, why: &str) -> EntryReport {
    EntryReport {
        target: item.entry.target.clone(),
        source: item.store.path.join(item.entry.source()),
        kind: item.entry.kind,
        method: item.entry.method,
        state,
        why: why.to_owned(),
        versions: None,
    }
}

/// Keeps paths that waited before, unless this run found them again or no entry of the manifest needs them.
fn merge_pending(report: &mut Report, new: Vec<report::Pending>, plan: &Plan<'_>) {
    report.pending.retain(|old| {
        let known = old.base.is_root() || plan.manifest.stores.iter().any(|store| store.path == old.base);
        known && !new.iter().any(|new| (&new.base, &new.path) == (&old.base, &old.path))
    });
    report.pending.extend(new);
}

/// Opens every store that the kernel command line does not leave out.
fn open_stores(
    plan: &Plan<'_>,
    tree: &mut Tree,
    sysroot: &Sysroot,
    guard: bool,
    done: &mut Done,
) -> Vec<Result<Opened>> {
    let mut stores = Vec::with_capacity(plan.needs.len());
    for (store, need) in plan.stores() {
        let opened = if need == Need::LeftOut {
            Err(Problem::new(need.why_not().unwrap_or_default()).at(format!("store {}", store.path)))
        } else {
            store::open(plan, store, tree, sysroot)
        };
        match (&opened, need.why_not()) {
            (Ok(_), _) => {}
            (Err(_), Some(why)) if need == Need::LeftOut => log::warn!("store {}: {why}", store.path),
            (Err(problem), Some(why)) => {
                let problem = Problem::new(format!("{why}, and it is not used: {}", problem.what))
                    .at(problem.at.as_str());
                if need.is_by_words() {
                    done.warnings.push(problem);
                } else {
                    log::info!("{problem}");
                }
            }
            (Err(problem), None) => {
                let stops = store.required && !guard;
                if stops { &mut done.failures } else { &mut done.warnings }.push(problem.clone());
            }
        }
        stores.push(opened);
    }
    stores
}

/// State of each store; a flaw of it is a warning, once.
fn describe(
    (plan, sysroot): (&Plan<'_>, &Sysroot),
    stores: &[Result<Opened>],
    mounts: &[Option<Mount>],
    previous: &Report,
    done: &mut Done,
) -> Vec<StoreReport> {
    let root = walk::base(sysroot.path.as_str());
    match &root {
        Ok(root) if plan.root.is_none() => {
            let finding = judge::writable(root.as_fd(), &AbsPath::root());
            done.warnings.extend(finding.map(|finding| finding.problem("root")));
        }
        Ok(_) => {}
        Err(errno) => done.warnings.push(
            Problem::os("cannot look for what is wrong with the root and the stores", *errno)
                .at(sysroot.path.as_str())
                .remedy("run imp-mount again"),
        ),
    }
    let mut described = Vec::new();
    for (index, ((store, need), opened)) in plan.stores().zip(stores).enumerate() {
        let before = previous.stores.iter().find(|before| before.path == store.path.as_str());
        let as_before = || {
            let (source, fstype) = (before?.device.clone(), before?.fstype.clone());
            opened.is_ok().then(|| Mount { fstype, source, ..Mount::default() })
        };
        let mount = mounts[index].clone().or_else(as_before).unwrap_or_default();
        // Seen from the booted system, where these words are read.
        let findings = match (opened, &root) {
            (Ok(opened), Ok(root)) => {
                let place = (root.as_fd(), &AbsPath::root());
                let mut findings = judge::store((plan, index), opened, place, &mount, before);
                findings.retain(Finding::is_problem);
                findings
            }
            (Ok(_), Err(_)) => before.map(|before| before.findings.clone()).unwrap_or_default(),
            (Err(_), _) => Vec::new(),
        };
        let is_new = |finding: &&Finding| !before.is_some_and(|before| before.findings.contains(finding));
        let at = format!("store {}", store.path);
        done.warnings.extend(findings.iter().filter(is_new).map(|finding| finding.problem(&at)));
        let why = need.why_not().filter(|_| opened.is_err()).unwrap_or_default();
        described.push(StoreReport {
            path: store.path.as_str().to_owned(),
            device: mount.source,
            fstype: mount.fstype,
            failure: opened.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            spared: why.to_owned(),
            findings,
        });
    }
    described
}

/// Mount of each store.
fn mounts_of(plan: &Plan<'_>, stores: &[Result<Opened>], done: &mut Done) -> Vec<Option<Mount>> {
    let mut mounts = Vec::new();
    for (store, opened) in plan.manifest.stores.iter().zip(stores) {
        let mount = opened.as_ref().ok().map(|opened| mountinfo::of(opened.cursor.base())).transpose();
        mounts.push(mount.unwrap_or_else(|problem| {
            done.warnings.push(problem.at(format!("store {}", store.path)).remedy(WITHOUT_UTAB));
            None
        }));
    }
    mounts
}

/// Writes the lines of what this run is going to mount. A line without its mount means nothing to anybody.
///
/// A mount without its line is one that PID 1 takes away at shutdown. It looks at mounts once in a second when they change
/// often; where it finds the line only while it shuts down, it forgets what waits for the unmounting, and waits for ever.
fn announce(
    plan: &Plan<'_>,
    sysroot: &Sysroot,
    mounts: &[Option<Mount>],
    (previous, lock): (&Report, &Lock),
    done: &mut Done,
) {
    let binds = plan.items.iter().filter(|item| {
        let waits = [None, Some(State::Later), Some(State::Failed), Some(State::Guarded)];
        item.entry.method == Method::Bind
            && item.entry.kind != Kind::Glob
            && waits.contains(&previous.state(&item.entry.target))
    });
    let wanted: Vec<_> = binds.map(|item| resting(item, State::Mounted, "")).collect();
    if let Err(problem) = write_utab(plan, sysroot, mounts, (&wanted, &[]), lock) {
        done.warnings.push(problem.remedy(WITHOUT_UTAB));
    }
}

fn write_utab(
    plan: &Plan<'_>,
    sysroot: &Sysroot,
    mounts: &[Option<Mount>],
    (entries, gone): (&[EntryReport], &[Removed]),
    lock: &Lock,
) -> Result<()> {
    // Path of each store's directory below its file system.
    let roots: Vec<Option<(String, AbsPath)>> = plan
        .manifest
        .stores
        .iter()
        .zip(mounts)
        .map(|(store, mount)| {
            let mount = mount.as_ref()?;
            let point = AbsPath::normal(&mount.point).ok()?;
            let inside = sysroot.path.join(&store.path).below(&point)?;
            Some((mount.source.clone(), AbsPath::normal(&mount.root).ok()?.join(&inside)))
        })
        .collect();
    let mounted = entries.iter().filter(|entry| entry.state == State::Mounted);
    let lines = mounted.filter_map(|entry| {
        let item = plan.item_for(&entry.target, entry.kind)?;
        let (device, root) = roots[usize::from(item.entry.store)].as_ref()?;
        Some(utab::Line {
            source: device,
            target: entry.target.as_str(),
            root: root.join(&entry.source.below(&item.store.path)?),
            hidden: item.entry.hidden,
            trash: item.entry.trash,
        })
    });
    // Announced mounts that failed are removed as well.
    let vain = entries.iter().filter(|entry| !matches!(entry.state, State::Mounted | State::Busy));
    let gone = gone.iter().map(|one| &one.entry).chain(vain).map(|entry| entry.target.as_str());
    utab::update(lock, &lines, &gone)
}

/// Files in which names are looked up.
pub struct Bases {
    root: OwnedFd,
    stores: Vec<Option<OwnedFd>>,
}

impl Bases {
    /// Below a root and its stores; none where one cannot be opened. Of a store that is left out nothing is known.
    pub fn of<'f>(
        root: BorrowedFd<'f>,
        stores: impl IntoIterator<Item = Option<BorrowedFd<'f>>>,
    ) -> Result<Self> {
        let again = |fd: BorrowedFd<'_>| {
            walk::again(fd).map_err(|errno| Problem::os("cannot keep a directory open", errno))
        };
        let stores = stores.into_iter().map(|store| store.map(again).transpose()).collect::<Result<_>>()?;
        Ok(Self { root: again(root)?, stores })
    }
}

impl Files for Bases {
    fn open(&self, place: &Place) -> Result<Option<OwnedFd>> {
        let (base, path, mounts) = match place {
            Place::Live(path) => (Some(&self.root), path, Mounts::Enter),
            Place::Store(store, path) => {
                (self.stores.get(usize::from(*store)).and_then(Option::as_ref), path, Mounts::Stay)
            }
        };
        let Some(base) = base else { return Ok(None) };
        match walk::open_below(base.as_fd(), path, OFlags::RDONLY, mounts) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno @ Errno::LOOP) => Err(Problem::new(
                "is, or lies behind, a symbolic link, so it is ignored",
            )
            .caused_by(errno)
            .remedy("find out who put it there and move it away; it is written anew at the next activation")),
            Err(errno) => Err(Problem::os("cannot open it", errno)),
        }
    }
}
