//! State of a run over the entries.

use super::guard::Guard;
use super::store::Opened;
use super::sysroot::Sysroot;
use super::tree::Tree;
use crate::ids::Names;
use crate::manifest::{AbsPath, Entry, Kind};
use crate::plan::Plan;
use crate::runtime::report::{EntryReport, Pending, Report};
use crate::runtime::versions::Versions;
use crate::text::problem::{Problem, Result};

/// Does the entries of a plan, one after the other, and keeps what a report needs.
pub struct Worker<'w, 'm> {
    /// The plan.
    pub plan: &'w Plan<'m>,
    /// The sysroot.
    pub sysroot: &'w Sysroot,
    /// The root.
    pub tree: Tree,
    /// The stores, in the manifest's order; why where one cannot be used.
    pub stores: Vec<Result<Opened>>,
    /// Names and ids.
    pub names: Names<'w>,
    /// The empty file and directory that stand for an entry that fails.
    pub guard: Guard,
    /// Guards required entries that fail, too: see [`Request::guard`](super::Request::guard).
    pub guards_required: bool,
    /// Report of earlier runs.
    pub previous: &'w Report,
    /// Paths that wait for their owner.
    pub pending: Vec<Pending>,
    /// State of each entry.
    pub entries: Vec<EntryReport>,
    /// Mounts of this run, in order.
    pub mounted: Vec<AbsPath>,
    /// Failures of required entries.
    pub failures: Vec<Problem>,
    /// Warnings.
    pub warnings: Vec<Problem>,
    /// Guards that this run took away, each with whether it is a directory.
    pub unguarded: Vec<(AbsPath, bool)>,
    /// Number of entries that were in place before.
    pub unchanged: usize,
}

impl Worker<'_, '_> {
    /// The versions that an earlier run left at a target of the file that a store has at a path.
    pub(super) fn left(&self, store: &AbsPath, target: &AbsPath, path: &AbsPath) -> Option<Versions> {
        let entry = self.previous.entry(target)?;
        entry.versions.as_deref().filter(|_| entry.source == store.join(path)).copied()
    }
}

/// True if a target is an entry's pattern itself, and not a file that it matched.
pub(super) fn is_pattern(entry: &Entry, target: &AbsPath) -> bool {
    entry.kind == Kind::Glob && entry.target == *target
}

/// The store of an entry, or the reason why it cannot be used.
pub(super) fn opened<'s>(stores: &'s mut [Result<Opened>], entry: &Entry) -> Result<&'s mut Opened> {
    stores[usize::from(entry.store)].as_mut().map_err(|problem| problem.clone())
}
