//! `--check`: compares the plan with the system: before a run, after a failed one, and on a running system. Nothing is
//! changed, and a missing store, root or manifest is reported as a finding.

pub mod disks;
pub mod entry;
mod matches;
pub mod print;
mod source;
pub mod status;
pub mod store;

use std::os::fd::AsFd;

use rustix::fs::CWD;
use serde::Serialize;

use crate::ids::Names;
use crate::manifest::AbsPath;
use crate::manifest::coverage::Type;
use crate::manifest::device::device_path;
use crate::mount::Bases;
use crate::mount::guard::Guard;
use crate::mount::sysroot::Sysroot;
use crate::mount::write_back;
use crate::plan::Plan;
use crate::plan::cmdline::KernelArgs;
use crate::runtime;
use crate::runtime::report::{Outcome, Report, Run};
use crate::sys::cursor::Cursor;
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, describe};

use disks::Disk;
use entry::Checker;
use status::{Checked, Status, unreached};
use store::Filesystem;

/// The manifest compared with the system. Sizes are in bytes; paths are those of the booted system unless noted; an empty text means
/// that there is no problem.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Findings {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub version: u32,
    /// Path of the root, seen from this process.
    pub sysroot: String,
    /// Problem of the manifest; empty if it can be read. With one there are no root, stores and entries, and the exit status is 2.
    pub manifest: String,
    /// Problem of the report of earlier runs; empty if readable, or without one.
    pub report: String,
    /// The root.
    pub root: Option<Filesystem>,
    /// The stores, in path order.
    pub stores: Vec<Filesystem>,
    /// The entries, and every file matched by a pattern, in path order.
    pub entries: Vec<Checked>,
    /// The disks of the machine, where a store, the root or the manifest has a problem.
    pub disks: Vec<Disk>,
    /// Notes, which are no problems.
    pub notes: Vec<String>,
    /// The last run since the boot.
    pub last_run: Option<Run>,
    /// Number of problems; the exit status is 0 if and only if this is 0.
    pub problems: usize,
    /// Next steps, in order.
    pub next: Vec<String>,
}

/// Holds a plan against the system below a sysroot.
#[must_use]
pub fn check(plan: &Plan<'_>, sysroot: &str) -> Findings {
    let (report, unread) = report();
    let mut findings = hold(plan, sysroot, &report);
    findings.last_run = report.runs.last().cloned();
    findings.report = unread;
    findings
        .notes
        .extend(runtime::documents_set_aside().into_iter().map(|(path, what)| format!("{path} {what}")));
    conclude(&mut findings);
    findings
}

/// The report, and the reason if unusable.
fn report() -> (Report, String) {
    match Report::read() {
        Ok(report) => (report, String::new()),
        Err(problem) => (Report::default(), problem.to_string()),
    }
}

/// The same with a given report, without [`conclude`].
#[must_use]
pub fn hold(plan: &Plan<'_>, sysroot: &str, report: &Report) -> Findings {
    let mut findings = Findings { version: 1, sysroot: sysroot.to_owned(), ..Findings::default() };
    match Sysroot::open(sysroot) {
        Ok(sysroot) => look(plan, &sysroot, report, &mut findings),
        Err(problem) => {
            let root = Filesystem {
                path: "/".to_owned(),
                problem: problem.to_string(),
                required: true,
                ..Filesystem::default()
            };
            findings.root = Some(root);
            let unreached = |item: &crate::plan::Item<'_>| {
                unreached(item.entry, &item.store.path, Status::NotMounted, "there is no root")
            };
            findings.entries = plan.items.iter().map(unreached).collect();
        }
    }
    findings.notes.extend(essentials(plan, sysroot));
    findings.notes.extend(plan.idle.iter().cloned());
    findings
}

/// Findings without a manifest.
#[must_use]
pub fn without_manifest(problem: &Problem, sysroot: &str) -> Findings {
    let (report, unread) = report();
    let mut findings = Findings {
        version: 1,
        sysroot: sysroot.to_owned(),
        manifest: problem.to_string(),
        report: unread,
        last_run: report.runs.last().cloned(),
        ..Findings::default()
    };
    conclude(&mut findings);
    findings
}

fn look(plan: &Plan<'_>, sysroot: &Sysroot, report: &Report, findings: &mut Findings) {
    findings.root = Some(store::root(plan, sysroot));
    let mut opened = Vec::new();
    for index in 0..plan.manifest.stores.len() {
        // Without its conversion the system has no stores.
        if plan.is_untouched() {
            opened.push(None);
            continue;
        }
        let (mut found, store) = store::store(plan, index, sysroot, report);
        for unseen in found.findings.extract_if(.., |finding| !finding.is_problem()) {
            findings.notes.push(unseen.problem(&format!("store {}", found.path)).to_string());
        }
        findings.stores.push(found);
        opened.push(store);
    }
    let bases = match Bases::of(
        sysroot.fd.as_fd(),
        opened.iter().map(|store| store.as_ref().map(|store| store.cursor.base())),
    ) {
        Ok(bases) => bases,
        Err(problem) => return findings.notes.push(problem.to_string()),
    };
    let root = match walk::duplicate(sysroot.fd.as_fd()) {
        Ok(root) => root,
        Err(errno) => return findings.notes.push(describe(errno)),
    };
    let guard = match Guard::find() {
        Ok(guard) => guard,
        Err(problem) => return findings.notes.push(problem.to_string()),
    };
    let mut checker = Checker {
        plan,
        target: Cursor::new(root),
        stores: opened,
        names: Names::new(plan.manifest, sysroot.is_live(), &bases),
        report,
        guard,
        notes: Vec::new(),
        brought_at_shutdown: None,
        mounts: None,
        prefix: sysroot.path.clone(),
    };
    for item in &plan.items {
        findings.entries.extend(checker.check(item));
    }
    findings.notes.append(&mut checker.notes);
    findings.notes.extend(checker.names.warnings().iter().map(ToString::to_string));
}

/// Paths of NixOS alone. A new root has no /etc yet.
pub const NIXOS: [&str; 2] = ["/etc/NIXOS", "/nix/var/nix/profiles/system"];

/// Remedy for a failed run; the errors of the run stand beside the remedy.
pub const AGAIN: &str = "correct these errors, then run imp-mount again";
/// The next step where entries are not in place.
pub const PLACE: &str = "run imp-mount to put in place what is not, and do what it says";

/// A path that nearly every system should keep.
#[derive(Debug, PartialEq, Eq)]
pub struct Essential {
    /// The path.
    pub path: &'static str,
    /// True for a file, false for a directory.
    pub file: bool,
    /// True for a path of NixOS alone.
    pub nixos: bool,
    /// Consequence of its loss.
    pub without: &'static str,
}

/// Those of the table of known paths with a consequence of the loss (`without`).
pub const ESSENTIALS: &[Essential] = include!(concat!(env!("OUT_DIR"), "/essentials.rs"));

/// Essential paths without an entry.
fn essentials(plan: &Plan<'_>, sysroot: &str) -> Vec<String> {
    let has = |path: &str| walk::stat_at(CWD, &*format!("{}{path}", sysroot.trim_end_matches('/'))).is_ok();
    let nixos = NIXOS.into_iter().any(has);
    let is_lost = |it: &&Essential| {
        let what = if it.file { Type::File } else { Type::Directory };
        AbsPath::parse(it.path).is_ok_and(|path| plan.coverage.entry(&path, what).is_none())
    };
    let needed = ESSENTIALS.iter().filter(|it| nixos || !it.nixos).filter(is_lost);
    needed.map(|it| format!("{} is not persisted: {}", it.path, it.without)).collect()
}

/// True in an initrd.
#[must_use]
pub fn in_initrd() -> bool {
    walk::exists("/etc/initrd-release")
}

/// Counts the problems, lists the disks if one may be missing, and adds next steps.
pub fn conclude(findings: &mut Findings) {
    let filesystems = findings.root.iter().chain(&findings.stores);
    findings.problems = usize::from(!findings.manifest.is_empty())
        + usize::from(!findings.report.is_empty())
        + filesystems.map(Filesystem::problems).sum::<usize>()
        + findings.entries.iter().filter(|one| one.status.is_problem()).count();
    let lost = findings.stores.iter().any(Filesystem::is_lost);
    if lost
        || !findings.manifest.is_empty()
        || findings.root.as_ref().is_none_or(|root| !root.problem.is_empty())
    {
        findings.disks = disks::all();
    }
    findings.next = next(findings);
}

/// Next steps, in order.
fn next(findings: &Findings) -> Vec<String> {
    let mut next = Vec::new();
    let mut say = |words: &str| next.push(words.to_owned());
    let has = |status: Status| findings.entries.iter().any(|one| one.status == status);
    let live = findings.sysroot == "/";
    if findings.problems > 0 && !rustix::process::geteuid().is_root() {
        say("run it as root to see everything");
    }
    if !findings.manifest.is_empty() && live {
        say(
            "make the manifest with this version: impctl compile manifest.json -o FILE; on NixOS: nixos-rebuild boot",
        );
    } else if !findings.manifest.is_empty() {
        say("boot an earlier generation or kernel from the boot menu; its initrd has a manifest that worked");
        say("or put imp-mount=off on the kernel command line, and mount what is needed by hand");
    }
    if findings.manifest.is_empty()
        && is_stopped(findings)
        && let Some(word) = skipping(findings)
    {
        say(&format!(
            "to boot without what is wrong for once, and without a shell: add {word} to the kernel command line, in \
             the boot menu"
        ));
    }
    for disk in findings.disks.iter().filter(|disk| disk.state == "errors") {
        say(&format!("check the disk with errors: fsck.{} -f {}", disk.fstype, escape::shell(&disk.device)));
    }
    for store in findings.stores.iter().filter(|store| store.is_lost()) {
        let device = if store.device.is_empty() { "DEVICE" } else { &store.device };
        let there = walk::exists(&device_path(device));
        let root = if live { "" } else { findings.sysroot.trim_end_matches('/') };
        let place = format!("{root}{}", store.path);
        let (device, place) = (escape::shell(device), escape::shell(&place));
        say(&format!("mount the store: mount -m {device} {place}"));
        if there {
            say(&format!("where that fails, check its file system: fsck -n {device}"));
        }
    }
    for store in findings.stores.iter().filter(|store| !store.is_lost() && store.problems() > 0) {
        say(&format!("mend the store {}, as its line says", escape::name(&store.path)));
    }
    if live && findings.root.as_ref().is_some_and(|root| root.problems() > 0) {
        say("mend the root, as its line says");
    }
    if !findings.report.is_empty() {
        say("run imp-mount, which keeps the report that cannot be used and makes a new one");
    }
    if has(Status::WrongSource) {
        say("correct each wrong source, as its line says");
    }
    if has(Status::Covered) {
        say("unmount what covers a path");
    }
    let unbuilt = findings.root.as_ref().is_some_and(|root| !live && !root.problem.is_empty());
    let places =
        [Status::NotMounted, Status::Missing, Status::WrongOptions, Status::WrongSource, Status::Covered];
    if unbuilt || places.into_iter().any(has) {
        // A failed run fails again until its cause is gone.
        let stopped = findings.last_run.as_ref().is_some_and(|run| !run.failures.is_empty());
        say(if stopped { AGAIN } else { PLACE });
    }
    if has(Status::WrongOwner) || has(Status::WrongMode) {
        say("give each path the owner and mode that its line says, or correct its entry");
    }
    if has(Status::Conflict) {
        say("compare the two versions of each file, and remove one of them");
    }
    if has(Status::Replaced) {
        say("run imp-mount --adopt to bring what programs wrote beside the store to it");
    }
    if has(Status::RootOnly) {
        say("run imp-mount --adopt before the next shutdown to bring what only the root has to the store");
        say(&format!("for good: systemctl enable --now {}", write_back::UNIT));
    }
    if has(Status::Pending) {
        say("once users exist, run imp-mount --settle");
    }
    // Elsewhere the sysroot is any directory, and no shell ends.
    if findings.problems > 0 && !live && in_initrd() {
        say("when all is well, leave the emergency shell with: systemctl default");
    }
    next
}

/// Tells if a boot stops here, or has stopped.
fn is_stopped(findings: &Findings) -> bool {
    let failed = |run: &Run| run.outcome == Outcome::Failed;
    findings.sysroot != "/" || findings.last_run.as_ref().is_some_and(failed)
}

/// The kernel argument to skip the entries and stores with errors.
fn skipping(findings: &Findings) -> Option<String> {
    let stores = findings.stores.iter().filter(|store| store.is_lost()).map(|store| store.path.as_str());
    // Of the findings of --check, this alone is an error of a run. A failed run names the others.
    let is_cause = |one: &&Checked| one.status == Status::WrongSource;
    let entries = findings.entries.iter().filter(is_cause).map(|one| one.target.as_str());
    let failures = findings.last_run.iter().flat_map(|run| &run.failures);
    let failed = findings.entries.iter().map(|one| one.target.as_str()).filter(|target| {
        failures.clone().any(|text| text.strip_prefix(target).is_some_and(|rest| rest.starts_with(':')))
    });
    KernelArgs::leaving_out(stores.chain(entries).chain(failed))
}
