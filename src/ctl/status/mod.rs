//! `impctl status`: how the system stands, now and since its boot.

mod attention;
mod metrics;
mod print;
mod since;
mod volume;

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use super::adopt::record::Adopted;
use super::lost::{Scope, throw_away};
use super::recover::gone::Gone;
use super::scan::rules::Rules;
use super::system::System;
use crate::boot::args::MANIFEST;
use crate::check::status::{Checked, Status as Health};
use crate::check::store::Filesystem;
use crate::check::{self, Findings};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal;
use crate::manifest::{AbsPath, Manifest, Phase};
use crate::plan::cmdline::KernelArgs;
use crate::plan::{Action, Plan};
use crate::runtime;
use crate::runtime::report::{Outcome, Pending, Report, Run};
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, describe_io};
use attention::Concern;
use since::{Boot, Since};
use volume::Volume;

/// Show the state of the system: the boot, the entries, free space of root and stores, and changes since
///
/// Problems come first, each with its remedy: a report of a failed boot, a missing, full or read-only store or one
/// with errors, an entry in a wrong state, an owner that does not exist, an adopted path missing in the configuration.
///
/// Changes no file, and needs no privilege. Places readable by root alone are listed, and count neither as good nor
/// as bad.
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub struct Options {
    /// The root to look at
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    root: PathBuf,
    /// The manifest, compiled or as JSON [default: /etc/imp-mount/manifest in the root]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    manifest: Option<PathBuf>,
    /// Read the kernel command line from here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "/proc/cmdline")]
    cmdline: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print metrics as Prometheus reads them
    #[arg(long, conflicts_with = "json")]
    metrics: bool,
    /// Write the metrics to a file, replaced in one step, for the textfile collector of the node exporter
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "metrics")]
    output: Option<PathBuf>,
}

const MORE: &str = "\
Examples:
  # How does this system stand?
  impctl status
  # Where something needs attention
  impctl status --json | jq -r '.attention[].at'
  # For the textfile collector of Prometheus' node exporter
  impctl status --metrics -o /var/lib/node-exporter/imp-mount.prom

Files:
  /etc/imp-mount/manifest     what is to be
  /run/imp-mount/report.json  what runs did since the boot

Exit status: 0 all is well; 1 something needs attention, also where the system was not booted with imp-mount; 2 it could not look: there is no manifest to go by, or nothing that this user may see";

/// Overall state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// No problem.
    Well,
    /// Attention needed.
    Attention,
    /// Unknown.
    Unknown,
}

/// State of the system, now and since its boot. Sizes are in bytes; paths are those of the booted system unless noted;
/// an empty text means no problem.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Path of the root, seen from this process.
    sysroot: String,
    /// Overall state; the exit status is 0, 1 or 2.
    standing: Standing,
    /// Why the state is unknown; empty otherwise. Without a manifest there are no root, stores and entries.
    unknown: String,
    /// Problems, the gravest first.
    attention: Vec<Concern>,
    /// Remedies, in the order to follow.
    next: Vec<String>,
    /// Kernel arguments with an effect on runs, until the next boot.
    words: Vec<String>,
    /// Result of the boot; null without a run in the initrd.
    boot: Option<Boot>,
    /// Changes since then.
    since: Since,
    /// The root.
    root: Option<Volume>,
    /// The stores, in path order.
    stores: Vec<Volume>,
    /// The entries, and every file matched by a pattern, in path order.
    entries: Vec<Checked>,
    /// Stores and entries without access for this user; they are in no other list.
    unseen: Vec<AbsPath>,
    /// Files and directories whose owner does not exist yet.
    pending: Vec<Pending>,
    /// Notes, which are no problems.
    notes: Vec<String>,
    /// Paths of the last root missing on this one; null without a record of an old root, or without such a path.
    gone: Option<Gone>,
}

/// Looks, and prints the state.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (status, blind) = look(options)?;
    match &options.output {
        Some(file) => output::replace(file, metrics::text(&status).as_str().as_bytes())?,
        None if options.metrics => output::print(&metrics::text(&status))?,
        None if options.json => {
            output::print(&output::json(&status)?)?;
        }
        None => terminal::print(&print::text(&status, terminal::width()))?,
    }
    match blind {
        Some(problem) => Err(Failure::Unable(problem)),
        None if status.standing == Standing::Well => Ok(()),
        None => Err(Failure::Found),
    }
}

/// Everything visible, and why the state is unknown.
fn look(options: &Options) -> Result<(Status, Option<Problem>), Failure> {
    let system = System::open(&options.root)?;
    let mut unread = Vec::new();
    let mut report = Report::read().unwrap_or_else(|problem| {
        unread.push(without_place(problem));
        Report::default()
    });
    let mut adopted = Adopted::read().unwrap_or_else(|problem| {
        unread.push(without_place(problem));
        Adopted::default()
    });
    unread.extend(runtime::documents_set_aside());
    let is_of_it = |run: &Run| Path::new(&run.sysroot) == system.place;
    if !system.is_running() && !report.runs.iter().any(is_of_it) {
        // They are of the running system.
        (report, adopted, unread) = Default::default();
    }
    let last = report.runs.last();
    let (boot, since) = Boot::part(&report.runs);
    let mut status = Status {
        version: 1,
        sysroot: system.place.to_string_lossy().into_owned(),
        standing: Standing::Unknown,
        unknown: String::new(),
        attention: Vec::new(),
        next: Vec::new(),
        words: last.map(|run| run.words.clone()).unwrap_or_default(),
        boot,
        since: Since { runs: since.to_vec(), ..Since::default() },
        root: None,
        stores: Vec::new(),
        entries: Vec::new(),
        unseen: Vec::new(),
        pending: report.pending.clone(),
        notes: Vec::new(),
        gone: None,
    };
    let (manifest, mut blind) = manifest(options, &system, last.is_some())?;
    let words = words(options, &mut status.notes);
    let plan = manifest.as_ref().map(|manifest| {
        let last_phase = if system.is_running() { Phase::Live } else { Phase::Etc };
        let mut plan = Plan::new(manifest, &words, last_phase);
        if last.is_some_and(|run| run.outcome == Outcome::Waiting) {
            // The running system is unchanged, which is no fault of any entry.
            plan.items.iter_mut().for_each(|item| item.action = Action::Later);
        }
        plan
    });
    let mut checked = Vec::new();
    if let Some(plan) = &plan {
        let mut findings = check::hold(plan, &status.sysroot, &report);
        status.unseen = remove_unreadable(&system, &mut findings);
        if !options.metrics {
            // With a missing store this reads every disk, for the next steps.
            check::conclude(&mut findings);
        }
        status.since.compare(plan, &report, &findings.entries);
        let mut volume = |filesystem| Volume::look(&system, filesystem);
        status.root = findings.root.map(&mut volume);
        status.stores = findings.stores.into_iter().map(volume).collect();
        status.entries = findings.entries;
        status.notes.append(&mut findings.notes);
        checked = findings.next;
        if status.entries.is_empty() && !status.unseen.is_empty() {
            let problem = Problem::new("this user may look at none of the entries").remedy("run it as root");
            blind = Some(problem);
        }
    }
    if let Some(manifest) = manifest.as_ref().filter(|_| !options.metrics) {
        let mut rules = Rules::default();
        throw_away::add(&mut rules, &Scope::all(&system.place), &system, true)?;
        match Gone::find(&system, manifest, &rules) {
            Ok(gone) => status.gone = gone,
            Err(problem) => status.notes.push(problem.to_string()),
        }
    }
    status.since.adopted(&system, plan.as_ref(), adopted.entries)?;
    status.attention = attention::concerns(&status, &unread, last);
    status.next = attention::next(&status, last, &checked);
    status.unknown = blind.as_ref().map(ToString::to_string).unwrap_or_default();
    status.standing = match &blind {
        Some(_) => Standing::Unknown,
        None if status.attention.is_empty() => Standing::Well,
        None => Standing::Attention,
    };
    Ok((status, blind))
}

/// Subject of a problem, and the rest of its text.
fn without_place(mut problem: Problem) -> (String, String) {
    let at = std::mem::take(&mut problem.at);
    (at, problem.to_string())
}

/// The manifest, or why there is none.
fn manifest(
    options: &Options,
    system: &System,
    has_run: bool,
) -> Result<(Option<Manifest>, Option<Problem>), Failure> {
    let problem = match system.manifest(options.manifest.as_deref()) {
        Ok(Some(manifest)) => return Ok((Some(manifest), None)),
        Ok(None) if has_run => Problem::new("there is no manifest to go by").at(MANIFEST),
        Ok(None) => Problem::new("there is neither a manifest nor a report: imp-mount is not in use here"),
        Err(Failure::Unable(problem)) => return Ok((None, Some(problem))),
        Err(failure) => return Err(failure),
    };
    Ok((None, Some(problem.remedy("name a manifest with --manifest"))))
}

/// Arguments of imp-mount on the kernel command line.
fn words(options: &Options, notes: &mut Vec<String>) -> KernelArgs {
    match std::fs::read(&options.cmdline) {
        Ok(text) => KernelArgs::parse(&String::from_utf8_lossy(&text)),
        Err(error) => {
            notes.push(format!(
                "cannot read the kernel command line from {}: {}",
                escape::path(&options.cmdline),
                describe_io(&error)
            ));
            KernelArgs::default()
        }
    }
}

/// Removes findings about paths below a directory without access for this user.
fn remove_unreadable(system: &System, findings: &mut Findings) -> Vec<AbsPath> {
    let is_closed = |path: &AbsPath| {
        let found = walk::open_below(system.root(), path, OFlags::PATH | OFlags::NOFOLLOW, Mounts::Enter);
        found.is_err_and(|errno| errno == Errno::ACCESS)
    };
    let is_unseen = |one: &Checked| {
        !matches!(one.status, Health::Later | Health::Skipped)
            && (is_closed(&one.target) || is_closed(&one.source))
    };
    // A store without access for this user looks empty.
    let is_hidden = |store: &Filesystem| {
        store.is_lost() && AbsPath::parse(&store.path).is_ok_and(|path| is_closed(&path))
    };
    let stores = findings.stores.extract_if(.., |store| is_hidden(store));
    let stores = stores.filter_map(|store| AbsPath::parse(&store.path).ok());
    let entries = findings.entries.extract_if(.., |one| is_unseen(one)).map(|one| one.target);
    stores.chain(entries).collect()
}

/// A state, as in JSON.
fn label(state: impl Serialize) -> String {
    let value = serde_json::to_value(state).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
