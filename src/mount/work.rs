//! State of a run over the entries.

use super::announce::Announce;
use super::guard::Guard;
use super::job::Context;
use super::owner::Owners;
use super::problems::Problems;
use super::stores::Stores;
use super::tree::Tree;
use crate::manifest::AbsPath;
use crate::runtime::report::EntryReport;

/// A run over the entries of a plan: input, state and result.
pub struct Work<'w> {
    /// Plan, sysroot and earlier report.
    pub context: Context<'w>,
    /// The lines of mounts in utab.
    pub announce: Announce<'w>,
    /// The root.
    pub tree: Tree,
    /// The stores.
    pub stores: Stores,
    /// Users and groups.
    pub owners: Owners<'w>,
    /// The empty file and directory mounted for failed entries.
    pub guard: Guard,
    /// Failures and warnings.
    pub problems: &'w mut Problems,
    /// Changes of this run.
    pub changes: Changes,
}

/// Changes of a run.
#[derive(Debug, Default)]
pub struct Changes {
    /// State of each entry, in order.
    pub entries: Vec<EntryReport>,
    /// Mounts on a visible root, in order.
    pub mounted: Vec<AbsPath>,
    /// Number of entries in place before.
    pub unchanged: usize,
}
