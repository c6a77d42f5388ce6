//! Guards and empty mount points at targets of a running system: their removal, and their return after a failure.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::guard::{Guard, covered, is_place, may_be_place};
use super::tree::Tree;
use crate::manifest::{AbsPath, BindOptions};
use crate::runtime::report::Report;
use crate::sys::mount_api;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result};

/// Tells if a mount is a guard.
#[must_use]
pub fn is_guard(guard: &Guard, stat: &Stat) -> bool {
    stat.is_mount_root() && guard.identities().contains(&Some(stat.identity()))
}

/// Takes away the guard of an earlier run mounted at a target.
pub fn remove(tree: &mut Tree, guard: &mut Guard, target: &AbsPath) -> Result<()> {
    let failed = |errno| Problem::os("cannot take the guard away", errno);
    while let Some((dir, stat)) = tree.look(target)?.filter(|(_, stat)| is_guard(guard, stat)) {
        tree.cursor.forget(target.as_str());
        let mount = walk::look(dir.as_fd(), target.name(), Mounts::Enter).map_err(failed)?;
        mount_api::detach(mount.as_fd()).map_err(failed)?;
        guard.removed.push((target.clone(), stat.is_dir()));
    }
    Ok(())
}

/// Makes room for a link, a copy or no file at all: removes a guard and its empty mount point. A mount point without a
/// guard counts only on the root itself, and without a version in the report.
pub fn make_room(
    previous: &Report,
    tree: &mut Tree,
    guard: &mut Guard,
    target: &AbsPath,
    what: &str,
) -> Result<()> {
    if tree.is_new() {
        return Ok(());
    }
    // An error of this look comes up again, and is said, where the entry is placed.
    let Ok(Some((dir, stat))) = tree.look(target) else { return Ok(()) };
    if is_guard(guard, &stat) {
        if let Some((_, place, stat)) = covered(dir.as_fd(), target.name())
            && !is_place(place.as_fd(), &stat)
        {
            return Err(occupied(&stat, what));
        }
        remove(tree, guard, target)?;
    } else {
        let is_known = previous.entry(target).is_some_and(|entry| entry.versions.is_some());
        let is_on_root = tree.mount_id()? == stat.mount_id();
        if is_known || !is_on_root || stat.uid() != 0 {
            return Ok(());
        }
    }
    tree.cursor.forget(target.as_str());
    remove_placeholder(tree, target)
}

/// Mounts the guard again after its removal from a target.
pub fn put_back(tree: &mut Tree, guard: &mut Guard, target: &AbsPath, directory: bool) -> Result<()> {
    if tree.look(target)?.is_some_and(|(_, stat)| is_guard(guard, &stat)) {
        return Ok(());
    }
    let node = walk::duplicate(guard.node(directory)?)
        .map_err(|errno| Problem::os("cannot put the guard back", errno))?;
    mount_again(tree, (target, directory), node.as_fd(), Guard::OPTIONS)
}

/// Mounts the earlier mount of a target again.
pub fn mount_again(
    tree: &mut Tree,
    (target, directory): (&AbsPath, bool),
    source: BorrowedFd<'_>,
    options: BindOptions,
) -> Result<()> {
    let failed = |errno| Problem::os("cannot put it back", errno);
    let parent = target.parent().unwrap_or_else(AbsPath::root);
    let dirs = OFlags::PATH | OFlags::DIRECTORY;
    let dir = match walk::open_below(tree.root(), &parent, dirs, Mounts::Enter) {
        // A guard above stands for this one.
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
    tree.bind(source, (dir, name), place.as_fd(), options, false)
}

/// A mount point created by a run is empty and has mode 000; any other is left.
pub fn remove_placeholder(tree: &Tree, target: &AbsPath) -> Result<()> {
    let Some((dir, stat)) = tree.look(target)? else { return Ok(()) };
    if !may_be_place(&stat) {
        return Ok(());
    }
    let flags = if stat.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match rustix::fs::unlinkat(&dir, target.name(), flags) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Problem::os("cannot remove its mount point", errno)),
    }
}

/// Problem of a target where a file is already.
pub(super) fn occupied(stat: &Stat, what: &str) -> Problem {
    let found = walk::kind(stat.file_type());
    let problem = Problem::new(format!("the target is {found} already, so {what} cannot be placed"));
    if stat.is_file() {
        problem.remedy(
            "`imp-mount --adopt` brings it to the store, or keeps it there beside another version; then move it away",
        )
    } else {
        problem.remedy("copy it to the store first, then move it away")
    }
}
