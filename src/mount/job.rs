//! Input of every step of a run: the plan, earlier runs, and the entry.

use super::sysroot::Sysroot;
use crate::manifest::{AbsPath, BindOptions, Kind};
use crate::plan::{Item, Plan};
use crate::runtime::report::{EntryReport, Report, State};
use crate::runtime::versions::Versions;

/// Input of a run.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The plan.
    pub plan: &'c Plan<'c>,
    /// The sysroot.
    pub sysroot: &'c Sysroot,
    /// Report of earlier runs.
    pub previous: &'c Report,
    /// Guards failed required entries, too: see [`Request::guard`](super::Request::guard).
    pub guards_required: bool,
}

impl Context<'_> {
    /// The versions of a file recorded by an earlier run.
    #[must_use]
    pub fn left(&self, job: Job<'_>) -> Option<Versions> {
        let entry = self.previous.entry(job.target)?;
        entry.versions.as_deref().filter(|_| entry.source == job.stored()).copied()
    }
}

/// An entry to place, or one file of a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Job<'j> {
    /// The entry.
    pub item: &'j Item<'j>,
    /// Path on the root.
    pub target: &'j AbsPath,
    /// Path below the store.
    pub source: &'j AbsPath,
}

impl<'j> Job<'j> {
    /// The entry itself.
    #[must_use]
    pub fn of(item: &'j Item<'j>) -> Self {
        Self { item, target: &item.entry.target, source: item.entry.source() }
    }

    /// Path of the source, the store's included.
    #[must_use]
    pub fn stored(&self) -> AbsPath {
        self.item.store.path.join(self.source)
    }

    /// State of the entry in the report.
    #[must_use]
    pub fn report(&self, state: State, why: String) -> EntryReport {
        EntryReport {
            target: self.target.clone(),
            source: self.stored(),
            kind: self.item.entry.kind,
            method: self.item.entry.method,
            state,
            why,
            versions: None,
        }
    }

    /// True for the pattern of an entry, false for a file matched by the pattern.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.item.entry.kind == Kind::Glob && self.item.entry.target == *self.target
    }
}

/// A removed entry.
#[derive(Debug)]
pub struct Removed {
    /// Its entry in the report.
    pub entry: EntryReport,
    /// Options of its mount; none if removed before.
    pub options: Option<BindOptions>,
}
