//! On a running system: what an earlier run put in place, and the manifest no longer names.

use std::iter::successors;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::guard::Guard;
use super::held::is_place;
use super::kernel;
use super::place::occupied;
use super::worker::Worker;
use crate::escape;
use crate::manifest::{AbsPath, BindOptions, Kind};
use crate::plan::{Action, Item, Plan};
use crate::problem::{Problem, Result};
use crate::report::{EntryReport, Report, State};
use crate::walk::{self, Mounts, Stat};

/// Something that was taken away.
#[derive(Debug)]
pub struct Removed {
    /// What it was.
    pub entry: EntryReport,
    /// How it was mounted; none where it had gone before.
    options: Option<BindOptions>,
}

/// What is no longer named: what is in the way of something that is, and the rest, for which there is time until nothing can
/// fail any more. Both in path order.
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
        // What has to go takes with it what is below it, and comes next.
        let goes_with = top.is_some_and(|top| entry.target.is_in(top));
        let goes = goes_with || is_near(&entry.target);
        if goes && !goes_with {
            top = Some(&entry.target);
        }
        parts[usize::from(!goes)].push(entry);
    }
    parts
}

/// Whether the plan still has it just so, or does not say.
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

/// Takes away what nobody uses of these, deepest first. What is in use is recorded as busy. Returns what is gone.
pub fn remove(worker: &mut Worker<'_, '_>, unwanted: &[&EntryReport]) -> Vec<Removed> {
    let mut gone = Vec::new();
    for &entry in unwanted.iter().rev() {
        match take_away(worker, entry) {
            Ok(options) => gone.push(Removed { entry: entry.clone(), options }),
            Err(problem) => {
                let why = problem.to_string();
                worker.warnings.push(problem.at(entry.target.to_string()));
                worker.entries.push(EntryReport { state: State::Busy, why, ..entry.clone() });
            }
        }
    }
    gone
}

/// Takes away the guard of an earlier run at a target where something else than a mount comes, with the empty file or directory that
/// it is, or was, mounted on.
pub fn guard_and_place(worker: &mut Worker<'_, '_>, target: &AbsPath, what: &str) -> Result<()> {
    if worker.tree.is_new() {
        return Ok(());
    }
    // An error of this look comes up again, and is said, where the entry is placed.
    let Ok(Some((dir, stat))) = worker.look(target) else { return Ok(()) };
    if is_guard(worker, &stat) {
        if let Some((_, place, stat)) = covered(dir.as_fd(), target.name())
            && !is_place(place.as_fd(), &stat)
        {
            return Err(occupied(&stat, what));
        }
        guard(worker, target)?;
    } else if !matches!(worker.previous.state(target), Some(State::Guarded | State::Skipped)) {
        return Ok(());
    }
    worker.target.forget(target.as_str());
    remove_placeholder(worker, target)
}

fn is_guard(worker: &Worker<'_, '_>, stat: &Stat) -> bool {
    stat.is_mount_root() && worker.guard.identities().contains(&Some(stat.identity()))
}

/// The directory without the mounts in it, with the file or directory that a mount at `name` covers; none after an error.
#[must_use]
pub fn covered(dir: BorrowedFd<'_>, name: &str) -> Option<(OwnedFd, OwnedFd, Stat)> {
    let dir = kernel::without_mounts(dir).ok()?;
    let place = walk::look(dir.as_fd(), name, Mounts::Enter).ok()?;
    let stat = walk::stat(place.as_fd()).ok()?;
    Some((dir, place, stat))
}

/// Takes away the guard of an earlier run that is mounted at a target.
pub fn guard(worker: &mut Worker<'_, '_>, target: &AbsPath) -> Result<()> {
    if worker.tree.is_new() {
        return Ok(());
    }
    let failed = |errno| Problem::os("cannot take the guard away", errno);
    while let Some((dir, stat)) = worker.look(target)? {
        if !is_guard(worker, &stat) {
            return Ok(());
        }
        worker.target.forget(target.as_str());
        let mount = walk::look(dir.as_fd(), target.name(), Mounts::Enter).map_err(failed)?;
        kernel::detach(mount.as_fd()).map_err(failed)?;
        worker.unguarded.push((target.clone(), stat.is_dir()));
    }
    Ok(())
}

/// Puts back what was taken away, guards among it, for a run that failed after it.
pub fn restore(worker: &mut Worker<'_, '_>, removed: &[Removed]) {
    for one in removed.iter().rev() {
        if let Some(options) = one.options
            && let Err(problem) = put_back(worker, &one.entry, options)
        {
            worker.warnings.push(problem.at(one.entry.target.to_string()));
        }
    }
    for (target, directory) in std::mem::take(&mut worker.unguarded) {
        if let Err(problem) = guard_again(worker, &target, directory) {
            worker.warnings.push(problem.at(target.to_string()));
        }
    }
}

/// Mounts a guard again. A link or a copy that was placed meanwhile comes from the store, and needs none.
fn guard_again(worker: &mut Worker<'_, '_>, target: &AbsPath, directory: bool) -> Result<()> {
    let failed = |errno| Problem::os("cannot put the guard back", errno);
    if let Some((dir, stat)) = worker.look(target)? {
        let found = walk::look(dir.as_fd(), target.name(), Mounts::Enter).map_err(failed)?;
        if !is_place(found.as_fd(), &stat) {
            return Ok(());
        }
    }
    let node = walk::again(worker.guard.node(directory)?).map_err(failed)?;
    mount_again(worker, (target, directory), node.as_fd(), Guard::OPTIONS)
}

fn put_back(worker: &mut Worker<'_, '_>, entry: &EntryReport, options: BindOptions) -> Result<()> {
    let target = &entry.target;
    let failed = |errno| Problem::os("cannot put it back", errno);
    let directory = entry.kind == Kind::Directory;
    if entry.state == State::Linked {
        let above = target.parent().unwrap_or_else(AbsPath::root);
        let dirs = OFlags::PATH | OFlags::DIRECTORY;
        return walk::open_below(worker.tree.root.as_fd(), &above, dirs, Mounts::Enter)
            .and_then(|dir| rustix::fs::symlinkat(entry.source.as_str(), dir, target.name()))
            .map_err(failed);
    }
    let source = if matches!(entry.state, State::Guarded | State::Skipped) {
        walk::again(worker.guard.node(directory)?.as_fd())
    } else {
        walk::open_below(worker.tree.root.as_fd(), &entry.source, OFlags::PATH, Mounts::Enter)
    };
    mount_again(worker, (target, directory), source.map_err(failed)?.as_fd(), options)
}

/// Mounts at a target what was mounted there before.
fn mount_again(
    worker: &mut Worker<'_, '_>,
    (target, directory): (&AbsPath, bool),
    source: BorrowedFd<'_>,
    options: BindOptions,
) -> Result<()> {
    let failed = |errno| Problem::os("cannot put it back", errno);
    match worker.look(target)? {
        // It never went away.
        Some((_, stat)) if stat.is_mount_root() => return Ok(()),
        _ => {}
    }
    let parent = target.parent().unwrap_or_else(AbsPath::root);
    let dirs = OFlags::PATH | OFlags::DIRECTORY;
    let dir = match walk::open_below(worker.tree.root.as_fd(), &parent, dirs, Mounts::Enter) {
        // A guard above it stands for it.
        Err(Errno::NOENT) => return Ok(()),
        dir => dir.map_err(failed)?,
    };
    let (dir, name) = (dir.as_fd(), target.name());
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = if directory {
        rustix::fs::mkdirat(dir, name, Mode::empty())
    } else {
        rustix::fs::openat(dir, name, new, Mode::empty()).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let place = walk::look(dir, name, Mounts::Enter).map_err(failed)?;
    worker.tree.bind(source, (dir, name), place.as_fd(), options, false)
}

/// Takes one away; the options that it was mounted with, or none where nothing of ours was there.
fn take_away(worker: &mut Worker<'_, '_>, entry: &EntryReport) -> Result<Option<BindOptions>> {
    let target = &entry.target;
    let why = if worker.plan.item(target).is_some() {
        "it is to come from elsewhere now"
    } else {
        "it is no longer named"
    };
    worker.target.forget(target.as_str());
    let Some((dir, stat)) = worker.look(target)? else { return Ok(None) };
    let dir = dir.as_fd();
    if entry.state == State::Linked || stat.is_symlink() {
        let failed = |errno| Problem::os(format!("cannot remove the link, though {why}"), errno);
        return match rustix::fs::readlinkat(dir, target.name(), Vec::new()) {
            Ok(text) if text.as_bytes() == entry.source.as_str().as_bytes() => {
                rustix::fs::unlinkat(dir, target.name(), AtFlags::empty()).map_err(failed)?;
                Ok(Some(BindOptions::NONE))
            }
            // Somebody has put something else there.
            Ok(_) | Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        };
    }
    if !stat.is_mount_root() {
        // Unmounted by a run that was stopped.
        return remove_placeholder(worker, target).map(|()| None);
    }
    let guarded = worker.guard.identities().contains(&Some(stat.identity()));
    let plan = worker.plan;
    let mut comes_from = |source: &AbsPath| -> Result<bool> {
        Ok(worker.look(source)?.is_some_and(|(_, source)| source.identity() == stat.identity()))
    };
    if !guarded && !comes_from(&entry.source)? {
        if let Some(item) = plan.item(target)
            && comes_from(&item.store.path.join(item.entry.source()))?
        {
            // A run that was stopped has done it.
            return Ok(None);
        }
        return Err(Problem::new(format!("{why}, but what is mounted there is not what was mounted"))
            .remedy("unmount it by hand if nothing needs it"));
    }
    let failed = |errno| match errno {
        Errno::BUSY => {
            Problem::new(format!("{why}, but in use, and stays until nothing uses it")).remedy(format!(
                "see what does with `fuser -vm {}`; the next boot leaves it out",
                escape::shell(target.as_str())
            ))
        }
        errno => Problem::os(format!("cannot unmount it, though {why}"), errno),
    };
    // Its descriptor is closed again before it is unmounted.
    let options = walk::look(dir, target.name(), Mounts::Enter)
        .and_then(|mount| kernel::options_of(mount.as_fd()))
        .map_err(failed)?;
    kernel::unmount_unused(dir, target.name()).map_err(failed)?;
    log::info!("{target}: unmounted, as {why}; its data stays at {}", entry.source);
    remove_placeholder(worker, target).map(|()| Some(options))
}

/// What a mount was put on has mode 000 and nothing in it; anything else is not ours to remove.
fn remove_placeholder(worker: &mut Worker<'_, '_>, target: &AbsPath) -> Result<()> {
    let Some((dir, stat)) = worker.look(target)? else { return Ok(()) };
    if stat.mode() != 0 || stat.is_mount_root() || (stat.is_file() && stat.size() != 0) {
        return Ok(());
    }
    let flags = if stat.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match rustix::fs::unlinkat(&dir, target.name(), flags) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Problem::os("cannot remove what it was mounted on", errno)),
    }
}
