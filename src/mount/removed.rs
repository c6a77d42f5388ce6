//! Removal of mounts and links of an earlier run no longer named by the manifest, on a running system.

use std::iter::successors;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::guard::Guard;
use super::job::Removed;
use super::placeholder::{self, mount_again, remove_placeholder};
use super::tree::Tree;
use super::work::Work;
use crate::manifest::{AbsPath, BindOptions, Kind};
use crate::plan::{Action, Item, Plan};
use crate::runtime::report::{EntryReport, Report, State};
use crate::sys::mount_api;
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// Entries no longer named: those above, below or in the way of a named one, and the others, removed when no later
/// step can fail. Both in path order.
#[must_use]
pub fn no_longer_named<'r>(plan: &Plan<'_>, previous: &'r Report) -> [Vec<&'r EntryReport>; 2] {
    let is_near = |target: &AbsPath| {
        let next = plan.items.partition_point(|item| item.entry.target < *target);
        plan.items.get(next).is_some_and(|item| item.entry.target.is_in(target))
            || successors(target.parent(), AbsPath::parent).any(|above| plan.item(&above).is_some())
            || plan.coverage.has_patterns_above(target)
    };
    let mut parts = [Vec::new(), Vec::new()];
    let mut top: Option<&AbsPath> = None;
    for entry in previous.entries.iter().filter(|entry| !is_wanted(plan, entry)) {
        // Mounts below a removed one go as well, and come next.
        let goes_with = top.is_some_and(|top| entry.target.is_in(top));
        let goes = goes_with || is_near(&entry.target);
        if goes && !goes_with {
            top = Some(&entry.target);
        }
        parts[usize::from(!goes)].push(entry);
    }
    parts
}

/// True if the plan has the same entry, or takes no action on the entry.
fn is_wanted(plan: &Plan<'_>, entry: &EntryReport) -> bool {
    if !matches!(entry.state, State::Mounted | State::Linked | State::Guarded | State::Busy) {
        return true;
    }
    let is_so = |item: &Item<'_>| {
        let source = item.store.path.join(item.entry.source());
        let same = if item.entry.kind == Kind::Glob {
            source.parent() == entry.source.parent()
        } else {
            source == entry.source
        };
        item.action != Action::Place || (same && item.entry.method == entry.method)
    };
    plan.item_for(&entry.target, entry.kind).is_some_and(is_so)
}

impl Work<'_> {
    /// Removes these entries, deepest first; one in use stays, and is recorded as busy. Returns the removed ones.
    pub fn remove(&mut self, unwanted: &[&EntryReport]) -> Vec<Removed> {
        let mut gone = Vec::new();
        for &entry in unwanted.iter().rev() {
            match take_away(self.context.plan, &mut self.tree, &self.guard, entry) {
                Ok(options) => gone.push(Removed { entry: entry.clone(), options }),
                Err(problem) => {
                    let why = problem.to_string();
                    self.problems.warn(problem.at(entry.target.to_string()));
                    self.changes.entries.push(EntryReport { state: State::Busy, why, ..entry.clone() });
                }
            }
        }
        gone
    }

    /// Restores removed entries, guards among them, after a failed run. A link or a copy placed by the run there comes
    /// from a store, and stays.
    pub fn restore(&mut self, removed: &[Removed]) {
        let entries = std::mem::take(&mut self.changes.entries);
        let is_placed = |target: &AbsPath| {
            let placed = [State::Linked, State::Copied];
            entries.iter().any(|entry| entry.target == *target && placed.contains(&entry.state))
        };
        for one in removed.iter().rev() {
            let target = &one.entry.target;
            if let Some(options) = one.options
                && !is_placed(target)
                && let Err(problem) = put_back(&mut self.tree, &mut self.guard, &one.entry, options)
            {
                self.problems.warn(problem.at(target.to_string()));
            }
        }
        for (target, directory) in std::mem::take(&mut self.guard.removed) {
            if !is_placed(&target)
                && let Err(problem) =
                    placeholder::put_back(&mut self.tree, &mut self.guard, &target, directory)
            {
                self.problems.warn(problem.at(target.to_string()));
            }
        }
        self.changes.entries = entries;
    }
}

fn put_back(tree: &mut Tree, guard: &mut Guard, entry: &EntryReport, options: BindOptions) -> Result<()> {
    let target = &entry.target;
    let failed = |errno| Problem::os("cannot put it back", errno);
    let directory = entry.kind == Kind::Directory;
    if matches!(entry.state, State::Guarded | State::Skipped) {
        return placeholder::put_back(tree, guard, target, directory);
    }
    if entry.state == State::Linked {
        remove_placeholder(tree, target)?;
        let above = target.parent().unwrap_or_else(AbsPath::root);
        let dirs = OFlags::PATH | OFlags::DIRECTORY;
        return walk::open_below(tree.root(), &above, dirs, Mounts::Enter)
            .and_then(|dir| rustix::fs::symlinkat(entry.source.as_str(), dir, target.name()))
            .map_err(failed);
    }
    // The mount never went away.
    if tree.look(target)?.is_some_and(|(_, stat)| stat.is_mount_root()) {
        return Ok(());
    }
    let source = walk::open_below(tree.root(), &entry.source, OFlags::PATH, Mounts::Enter);
    mount_again(tree, (target, directory), source.map_err(failed)?.as_fd(), options)
}

/// Removes one; returns the options of its mount, or none without one of imp-mount.
fn take_away(
    plan: &Plan<'_>,
    tree: &mut Tree,
    guard: &Guard,
    entry: &EntryReport,
) -> Result<Option<BindOptions>> {
    let target = &entry.target;
    let why = if plan.item(target).is_some() {
        "it is to come from elsewhere now"
    } else {
        "it is no longer named"
    };
    tree.cursor.forget(target.as_str());
    let Some((dir, stat)) = tree.look(target)? else { return Ok(None) };
    let dir = dir.as_fd();
    if entry.state == State::Linked || stat.is_symlink() {
        let failed = |errno| Problem::os(format!("cannot remove the link, though {why}"), errno);
        return match rustix::fs::readlinkat(dir, target.name(), Vec::new()) {
            Ok(text) if text.as_bytes() == entry.source.as_str().as_bytes() => {
                rustix::fs::unlinkat(dir, target.name(), AtFlags::empty()).map_err(failed)?;
                Ok(Some(BindOptions::NONE))
            }
            // Another process has replaced the file.
            Ok(_) | Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        };
    }
    if !stat.is_mount_root() {
        // Unmounted by a stopped run.
        return remove_placeholder(tree, target).map(|()| None);
    }
    let guarded = guard.identities().contains(&Some(stat.identity()));
    let comes_from = |source: &AbsPath| -> Result<bool> {
        Ok(tree.look(source)?.is_some_and(|(_, source)| source.identity() == stat.identity()))
    };
    if !guarded && !comes_from(&entry.source)? {
        if let Some(item) = plan.item(target)
            && comes_from(&item.store.path.join(item.entry.source()))?
        {
            // A stopped run has done this step.
            return Ok(None);
        }
        return Err(Problem::new(format!("{why}, but what is mounted there is not what was mounted"))
            .remedy("unmount it by hand if nothing needs it"));
    }
    let failed = |errno| match errno {
        Errno::BUSY => {
            // fuser(1) -m would list all users of the store's file system.
            let lsof = if entry.kind == Kind::Directory { "lsof +D" } else { "lsof" };
            Problem::new(format!("{why}, but in use, and stays until nothing uses it")).remedy(format!(
                "list its users with `{lsof} {}`; the next boot leaves it out",
                escape::shell(target.as_str())
            ))
        }
        errno => Problem::os(format!("cannot unmount it, though {why}"), errno),
    };
    // Its descriptor is closed again before the unmount.
    let options = walk::look(dir, target.name(), Mounts::Enter)
        .and_then(|mount| mount_api::options_of(mount.as_fd()))
        .map_err(failed)?;
    mount_api::unmount_unused(dir, target.name()).map_err(failed)?;
    log::info!("{target}: unmounted, as {why}; its data stays at {}", entry.source);
    remove_placeholder(tree, target).map(|()| Some(options))
}
