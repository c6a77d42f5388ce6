//! Report of the runs since the boot, in /run/imp-mount: read by `--check`, by later runs, by impctl and by monitoring.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, Serializer};

use crate::manifest::{AbsPath, Id, Kind, Method, Phase};
use crate::runtime::lock::Lock;
use crate::runtime::versions::Versions;
use crate::runtime::{self, Document};
use crate::sys::walk::Identity;
use crate::text::json::{Object, Take, Value};
use crate::text::problem::{Problem, Result};

/// The report's path.
pub const PATH: &str = "/run/imp-mount/report.json";
/// Consequence of an unusable report.
const UNKNOWN: &str = "what earlier runs mounted and the manifest no longer names stays until the next boot, and what waits for its owner \
is known only by the mark that it carries on its file system";
/// Number of kept runs; the first ones, of the boot, are always kept.
const RUNS: usize = 64;
const BOOT_RUNS: usize = 8;

/// Stores and entries in place, and every run since the boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// Every run since the boot, oldest first.
    pub runs: Vec<Run>,
    /// The stores.
    pub stores: Vec<StoreReport>,
    /// Every entry, and every file matched by a pattern, in path order.
    pub entries: Vec<EntryReport>,
    /// Files and directories whose owner does not exist yet.
    pub pending: Vec<Pending>,
}

impl TryFrom<Object> for Report {
    type Error = String;

    fn try_from(mut it: Object) -> Result<Self, String> {
        Ok(Self {
            version: Self::VERSION,
            runs: it.member("runs")?,
            stores: it.member("stores")?,
            entries: it.member("entries")?,
            pending: it.member("pending")?,
        })
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// Its last phase.
    pub phase: Phase,
    /// Path of its root, seen from the run.
    pub sysroot: String,
    /// Its outcome.
    pub outcome: Outcome,
    /// Microseconds from the start of the system to its own start.
    pub started: u64,
    /// Microseconds of each step, in order.
    pub steps: Vec<(String, u64)>,
    /// Number of entries put in place by the run.
    pub placed: usize,
    /// Number of entries in place before.
    pub unchanged: usize,
    /// Failures, as logged.
    pub failures: Vec<String>,
    /// Warnings, as logged.
    pub warnings: Vec<String>,
    /// Kernel arguments with an effect; left out if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub words: Vec<String>,
}

impl Take for Run {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self {
            phase: it.word("phase")?,
            sysroot: it.member("sysroot")?,
            outcome: it.word("outcome")?,
            started: it.member("started")?,
            steps: it.member("steps")?,
            placed: it.member("placed")?,
            unchanged: it.member("unchanged")?,
            failures: it.member("failures")?,
            warnings: it.member("warnings")?,
            words: it.member_or_default("words")?,
        })
    }
}

/// A step of a run with its microseconds.
impl Take for (String, u64) {
    fn take(value: Value) -> Result<Self, String> {
        let parts = <[Value; 2]>::try_from(Vec::take(value)?);
        let [name, took] = parts.map_err(|_| "it is no pair".to_owned())?;
        Ok((Take::take(name)?, Take::take(took)?))
    }
}

/// Outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything required is in place.
    Done,
    /// A required entry is not in place, and nothing was changed.
    Failed,
    /// The running system stays unchanged until the next boot.
    Waiting,
    /// Switched off on the kernel command line.
    Off,
}

/// One store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Its path.
    pub path: String,
    /// Its device; empty if the store is absent.
    pub device: String,
    /// Its file system's type.
    pub fstype: String,
    /// Why the store is not used; empty otherwise.
    pub failure: String,
    /// Why its absence is no fault; left out otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub spared: String,
    /// Its flaws; left out without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Take for StoreReport {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self {
            path: it.member("path")?,
            device: it.member("device")?,
            fstype: it.member("fstype")?,
            failure: it.member("failure")?,
            spared: it.member_or_default("spared")?,
            findings: it.member_or_default("findings")?,
        })
    }
}

/// A flaw of a store or the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// The problem in words.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub what: String,
    /// The remedy.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub remedy: String,
}

impl Take for Finding {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self { kind: it.word("kind")?, what: it.member("what")?, remedy: it.member("remedy")? })
    }
}

impl Finding {
    /// True if a flaw needs a remedy.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        self.kind != FindingKind::Unseen
    }

    /// The same as a problem of a store or the root.
    #[must_use]
    pub fn problem(&self, at: &str) -> Problem {
        Problem::new(self.what.as_str()).at(at).remedy(self.remedy.as_str())
    }
}

/// Kinds of problems of a store or root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// In memory: everything written there is gone after a reboot.
    Volatile,
    /// Perhaps in memory: the backing cannot be seen. Mostly a false alarm, so this is no problem, and `--check` makes a note.
    #[cfg_attr(test, schemars(skip))]
    Unseen,
    /// Users other than root can create files there.
    Writable,
    /// Its mount has options against those of entries.
    Options,
    /// A system call failed, so one of the others may be there.
    Failed,
}

/// One entry, or one file matched by a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    /// Its path in the booted system.
    pub target: AbsPath,
    /// Its path on the store, in the booted system.
    pub source: AbsPath,
    /// Its kind.
    pub kind: Kind,
    /// Bind mount, symbolic link or copy.
    pub method: Method,
    /// Its state.
    pub state: State,
    /// Why the entry is not in place; left out otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The versions of a copied or linked file on both sides, for write-back; without them no file is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<Box<Versions>>,
}

impl Take for EntryReport {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self {
            target: it.member("target")?,
            source: it.member("source")?,
            kind: it.word("kind")?,
            method: it.word("method")?,
            state: it.word("state")?,
            why: it.member_or_default("why")?,
            versions: it.member_or_default::<Option<Versions>>("versions")?.map(Box::new),
        })
    }
}

/// State of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Bind-mounted.
    Mounted,
    /// A symbolic link into the store.
    Linked,
    /// A copy of the store's file.
    Copied,
    /// Not there, as its policy for missing files says.
    Absent,
    /// Failed, with a guard at the target.
    Guarded,
    /// Left out by the kernel command line, and its target is guarded.
    Skipped,
    /// Failed.
    Failed,
    /// Entry of a later phase.
    Later,
    /// Left out, because imp-mount is switched off.
    Off,
    /// No longer in the manifest, and still mounted, as processes use the mount.
    Busy,
}

/// A path on a store, or on the root, whose owner does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pending {
    /// The store's path, or `/` for the root.
    pub base: AbsPath,
    /// The path below the base.
    pub path: AbsPath,
    /// The pending user: a name, or a number in digits; null for root.
    #[serde(serialize_with = "id")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub user: Option<Id>,
    /// The pending group, in the same way.
    #[serde(serialize_with = "id")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub group: Option<Id>,
    /// The future mode, in octal digits.
    #[serde(serialize_with = "octal")]
    #[cfg_attr(test, schemars(with = "String", regex(pattern = "^[0-7]{4}$")))]
    pub mode: u16,
    /// Its inode number, which identifies the file.
    pub inode: u64,
    /// Its identity for the run, which may reach the file by several paths.
    #[serde(skip)]
    pub identity: Option<Identity>,
}

impl Take for Pending {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        let mode: String = it.member("mode")?;
        Ok(Self {
            base: it.member("base")?,
            path: it.member("path")?,
            user: it.member::<Option<String>>("user")?.map(id_of),
            group: it.member::<Option<String>>("group")?.map(id_of),
            mode: u16::from_str_radix(&mode, 8).map_err(|error| format!("field `mode`: {error}"))?,
            inode: it.member("inode")?,
            identity: None,
        })
    }
}

impl Report {
    /// The last report since the boot; an empty one where no run has left any.
    ///
    /// # Errors
    /// The report cannot be read, so the effects of runs are unknown.
    pub fn read() -> Result<Self> {
        let remedy = "run imp-mount, which keeps it under another name and goes by what it finds in place";
        runtime::read()
            .map(Option::unwrap_or_default)
            .map_err(|problem| if problem.remedy.is_empty() { problem.remedy(remedy) } else { problem })
    }

    /// The same for a run, which continues without an unusable report, and logs the consequence: paths without a
    /// report are neither unmounted nor overwritten.
    ///
    /// # Errors
    /// A system call failed.
    pub fn read_or_set_aside(lock: &Lock) -> Result<(Self, Option<Problem>)> {
        let (report, problem) = runtime::read_or_set_aside(lock)?;
        let problem = problem.map(|problem| problem.remedy(UNKNOWN));
        Ok((report.unwrap_or_default(), problem))
    }

    /// The entry at a target.
    #[must_use]
    pub fn entry(&self, target: &AbsPath) -> Option<&EntryReport> {
        let found = self.entries.binary_search_by(|entry| entry.target.cmp(target));
        found.ok().map(|index| &self.entries[index])
    }

    /// The state of the entry at a target.
    #[must_use]
    pub fn state(&self, target: &AbsPath) -> Option<State> {
        self.entry(target).map(|entry| entry.state)
    }

    /// The versions left by a run at a target, for a file of this source.
    #[must_use]
    pub fn versions(&self, target: &AbsPath, source: &AbsPath) -> Option<&Versions> {
        self.entry(target).filter(|entry| entry.source == *source)?.versions.as_deref()
    }

    /// Records the versions of a file; the whole entry where there is none with its target.
    pub fn set_versions(&mut self, entry: EntryReport) {
        match self.entries.binary_search_by(|other| other.target.cmp(&entry.target)) {
            Ok(index) => {
                self.entries[index].source = entry.source;
                self.entries[index].versions = entry.versions;
            }
            Err(index) => self.entries.insert(index, entry),
        }
    }

    /// Replaces all entries. Of several at one target the first counts.
    pub fn set_entries(&mut self, entries: Vec<EntryReport>) {
        if entries.is_sorted_by(|one, other| one.target < other.target) {
            self.entries = entries;
            return;
        }
        self.entries.clear();
        for entry in entries {
            self.insert(entry);
        }
    }

    /// Puts an entry in its place, unless there is one at its target.
    pub fn insert(&mut self, entry: EntryReport) {
        if let Err(index) = self.entries.binary_search_by(|other| other.target.cmp(&entry.target)) {
            self.entries.insert(index, entry);
        }
    }

    /// Adds a run, and forgets the oldest ones after the boot's.
    pub fn add(&mut self, run: Run) {
        if self.runs.len() >= RUNS {
            self.runs.remove(BOOT_RUNS);
        }
        self.runs.push(run);
    }

    /// Leaves the report for later runs, whole or not at all.
    pub fn write(&mut self, lock: &Lock) -> Result<()> {
        self.version = Self::VERSION;
        runtime::write(lock, self)
    }
}

impl Document for Report {
    const NAME: &'static str = "report.json";
    const VERSION: u32 = 1;

    fn flaw(&self) -> Option<&'static str> {
        let in_order = self.entries.is_sorted_by(|one, other| one.target < other.target);
        (!in_order).then_some("its entries are not in path order")
    }
}

/// Takes the time of each step of a run.
#[derive(Debug)]
pub struct Clock {
    last: Instant,
    steps: Vec<(String, u64)>,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { last: Instant::now(), steps: Vec::new() }
    }

    /// Ends the step since the last call.
    pub fn step(&mut self, name: &str) {
        let now = Instant::now();
        let took = u64::try_from(now.duration_since(self.last).as_micros()).unwrap_or(u64::MAX);
        self.steps.push((name.to_owned(), took));
        self.last = now;
    }

    /// Every step with its microseconds.
    #[must_use]
    pub fn into_steps(self) -> Vec<(String, u64)> {
        self.steps
    }
}

/// Writes a mode in octal digits, as in a manifest.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn octal<S: Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    format!("{mode:04o}").serialize(serializer)
}

/// Writes an id as in a manifest: a name, or a number in digits, which no name consists of.
#[allow(clippy::ref_option, reason = "serde calls it so")]
fn id<S: Serializer>(id: &Option<Id>, serializer: S) -> Result<S::Ok, S::Error> {
    id.as_ref().map(ToString::to_string).serialize(serializer)
}

fn id_of(text: String) -> Id {
    // No other text than digits: there is a number in `+7`, too, for who looks for one.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map_or(Id::Name(text), Id::Number)
}

/// Microseconds since the system started.
#[must_use]
pub fn uptime() -> u64 {
    // Not rustix's function, which panics if the vDSO lacks an unneeded function, as in User Mode Linux. Every kernel
    // has this clock.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or(TimeSpec::new(0, 0));
    u64::try_from(Duration::from(time).as_micros()).unwrap_or(u64::MAX)
}
