//! Data at a target hidden by a future mount.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::job::Job;
use super::stores::Stores;
use super::tree::Tree;
use super::{guard, judge};
use crate::manifest::AbsPath;
use crate::manifest::path::PRIVATE;
use crate::plan::{Action, Item, Plan};
use crate::runtime::versions::{self, Decision, Version, Versions};
use crate::sys::raw;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::transfer::file;

/// A file at a target.
pub(super) struct Held {
    /// Its description.
    pub words: String,
    /// The regular file, open for reading.
    file: Option<OwnedFd>,
    stat: Stat,
}

impl Held {
    /// Data at a name; none for an empty directory or file.
    pub fn at(dir: BorrowedFd<'_>, name: &str, stat: &Stat) -> Result<Option<Self>, Errno> {
        if stat.is_dir() {
            let dir = walk::directory(dir, name, Mounts::Enter)?;
            let is_empty = walk::names(dir.as_fd(), 1)?.is_empty();
            return Ok((!is_empty).then(|| Self { words: String::new(), file: None, stat: *stat }));
        }
        if stat.size() == 0 {
            return Ok(None);
        }
        let fd = walk::open(dir, name, OFlags::RDONLY, Mounts::Enter)?;
        let is_it = walk::stat(fd.as_fd())?.identity() == stat.identity();
        let words = format!("{} bytes", stat.size());
        Ok(Some(Self { words, file: is_it.then_some(fd), stat: *stat }))
    }

    /// True if a process has the file open for writing, or this is unknown: later data would be hidden as well.
    pub fn is_written(&self) -> bool {
        raw::ignore_lease_breaks();
        self.file.as_ref().is_none_or(|file| raw::is_written(file.as_fd()).unwrap_or(true))
    }
}

/// Data at a target, compared with the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The store has the same, or a newer version: a mount hides nothing.
    Stored,
    /// The store has an older version, the origin of this one.
    Newer,
    /// Neither is known.
    Different,
}

/// Compares data at a target with the source of the mount, given the versions of an earlier run.
pub(super) fn compare(
    left: Option<Versions>,
    job: Job<'_>,
    source: &Stat,
    held: &Held,
    stores: &Stores,
) -> Comparison {
    match versions::decide(left.as_ref(), Some(Version::of(source)), Version::of(&held.stat)) {
        Decision::KeepStore => Comparison::Stored,
        _ if is_same(job, source, held, stores) => Comparison::Stored,
        Decision::Replace | Decision::Bring => Comparison::Newer,
        Decision::KeepBoth => Comparison::Different,
    }
}

/// True if both are the same file for a program. A file without comparison counts as different.
fn is_same(job: Job<'_>, source: &Stat, held: &Held, stores: &Stores) -> bool {
    let same = || {
        let store = stores.usable(job.item.entry)?;
        let dir = store.cursor.opened(job.source.parent()?.as_str()).unwrap_or(store.cursor.base());
        let here = held.file.as_ref()?.try_clone().ok()?;
        let there = walk::open(dir, job.source.name(), OFlags::RDONLY, Mounts::Stay).ok()?;
        let stat = walk::stat(there.as_fd()).ok()?;
        let is_source = stat.identity() == source.identity();
        is_source.then(|| file::same_open((here, &held.stat), (there, &stat)).ok())?
    };
    same().unwrap_or(false)
}

/// A root for mounts of entries, to find other data in its directories.
pub(super) struct Room<'r> {
    /// The plan.
    pub plan: &'r Plan<'r>,
    /// The stores.
    pub stores: &'r Stores,
    /// The root.
    pub tree: &'r Tree,
}

impl Room<'_> {
    /// Names in a directory on the root, without: empty mount points created by runs, mounts visible again after the
    /// directory is covered, and `sources` of entries with this same target, if they count. After an error the name is
    /// listed.
    pub fn others(&self, dir: BorrowedFd<'_>, path: &AbsPath, sources: bool) -> Result<Vec<CString>, Errno> {
        let mut names = walk::names(dir, usize::MAX)?;
        names.retain(|name| {
            let Ok(name) = name.to_str() else { return true };
            let path = path.child(name);
            let next = self.plan.items.partition_point(|item| item.entry.target < path);
            let item = self.plan.items.get(next).filter(|item| item.entry.target.is_in(&path));
            if item.is_none() && !self.tree.has_inner(&path) {
                return true;
            }
            let Ok(fd) = walk::look(dir, name, Mounts::Enter) else { return true };
            let Ok(stat) = walk::stat(fd.as_fd()) else { return true };
            if stat.is_mount_root() && self.tree.has_inner(&path) {
                return false;
            }
            let own = item.filter(|item| item.entry.target == path);
            let is_own = |item: &Item<'_>| {
                item.action == Action::Place
                    && (sources && self.is_source(item, &stat) || guard::is_place(fd.as_fd(), &stat))
            };
            if own.is_some_and(is_own) {
                return false;
            }
            let may_hold_some = stat.is_dir() && (own.is_none() || self.tree.has_inner(&path));
            !(may_hold_some && self.others(fd.as_fd(), &path, sources).is_ok_and(|names| names.is_empty()))
        });
        Ok(names)
    }

    /// True for a file placed by an entry from its store.
    fn is_source(&self, item: &Item<'_>, stat: &Stat) -> bool {
        let Some(store) = self.stores.usable(item.entry) else { return false };
        walk::open_below(store.cursor.base(), item.entry.source(), OFlags::PATH, Mounts::Stay)
            .and_then(|fd| walk::stat(fd.as_fd()))
            .is_ok_and(|source| source.identity() == stat.identity())
    }
}

/// True if a path below a root is on a separate file system, not in memory.
pub(super) fn has_own_disk(root: BorrowedFd<'_>, place: BorrowedFd<'_>) -> bool {
    let differ = || Ok::<_, Errno>(walk::mount_id(root)? != walk::mount_id(place)?);
    // An error counts as the root's own file system.
    differ().unwrap_or(false) && !judge::is_in_memory(place)
}

/// The maximum of names shown for a directory.
const SHOWN: usize = 3;

/// The first of some names in a directory; none where they are none, or nothing but the empty file or link `.imp-mount` by which the NixOS
/// module makes a directory below an immutable /etc.
pub(super) fn in_words(dir: BorrowedFd<'_>, mut names: Vec<CString>) -> Option<String> {
    let is_placeholder = |stat: Stat| stat.is_symlink() || stat.is_file() && stat.size() == 0;
    names.retain(|name| {
        name.to_bytes() != PRIVATE.as_bytes() || !walk::stat_at(dir, name).is_ok_and(is_placeholder)
    });
    let mut words = String::new();
    for name in names.iter().take(SHOWN) {
        words.push('`');
        words.push_str(&escape::name(name.to_bytes()));
        words.push_str("`, ");
    }
    words.truncate(words.len().checked_sub(2)?);
    if names.len() > SHOWN {
        words.push_str(" and more");
    }
    Some(words)
}
