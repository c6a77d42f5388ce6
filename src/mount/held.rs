//! What a target holds already, and a mount would hide.

use std::iter::successors;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::judge::OVERLAY_MAGIC;
use super::root::{RAMFS_MAGIC, TMPFS_MAGIC, magic};
use super::worker::Worker;
use crate::escape;
use crate::manifest::coverage::PRIVATE;
use crate::manifest::{AbsPath, Kind};
use crate::plan::{Action, Item, Plan};
use crate::transfer::file;
use crate::versions::{self, Decision, Version};
use crate::walk::{self, Mounts, Stat};
use crate::{sys, table};

/// Something at a target.
pub(super) struct Held {
    /// It in words.
    pub words: String,
    /// It, open for reading, if it is a file.
    file: Option<OwnedFd>,
    stat: Stat,
}

impl Held {
    /// What is at a name; none for an empty directory or file.
    pub fn at(dir: BorrowedFd<'_>, name: &str, stat: &Stat) -> Result<Option<Self>, Errno> {
        if stat.is_dir() {
            let words = names(dir, name)?;
            return Ok(words.map(|words| Self { words, file: None, stat: *stat }));
        }
        if stat.size() == 0 {
            return Ok(None);
        }
        let fd = walk::open(dir, name, OFlags::RDONLY, Mounts::Enter)?;
        let is_it = walk::stat(fd.as_fd())?.identity() == stat.identity();
        let words = format!("{} bytes", stat.size());
        Ok(Some(Self { words, file: is_it.then_some(fd), stat: *stat }))
    }

    /// Whether a program has it open for writing, or nobody knows: what that writes would be hidden with it.
    pub fn is_written(&self) -> bool {
        sys::ignore_lease_breaks();
        self.file.as_ref().is_none_or(|file| sys::is_written(file.as_fd()).unwrap_or(true))
    }
}

/// What a target holds, against what the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The store has the same, or a newer version of it: a mount hides nothing.
    Stored,
    /// The store has an older version, from which it was made.
    Newer,
    /// Neither is known.
    Different,
}

impl Worker<'_, '_> {
    /// Compares what a target holds with what is to be mounted there, `source`, which is at a path below the store.
    pub(super) fn compare(
        &self,
        item: &Item<'_>,
        (target, path): (&AbsPath, &AbsPath),
        source: &Stat,
        held: &Held,
    ) -> Comparison {
        let left = self.left(&item.store.path, target, path);
        match versions::decide(left.as_ref(), Some(Version::of(source)), Version::of(&held.stat)) {
            Decision::KeepStore => Comparison::Stored,
            _ if self.is_same(item, path, source, held) => Comparison::Stored,
            Decision::Replace | Decision::Bring => Comparison::Newer,
            Decision::KeepBoth => Comparison::Different,
        }
    }

    /// Whether both are the same file for a program. What cannot be compared is taken for different.
    fn is_same(&self, item: &Item<'_>, path: &AbsPath, source: &Stat, held: &Held) -> bool {
        let same = || {
            let store = self.stores[usize::from(item.entry.store)].as_ref().ok()?;
            let dir = store.cursor.opened(path.parent()?.as_str()).unwrap_or(store.cursor.base());
            let here = held.file.as_ref()?.try_clone().ok()?;
            let there = walk::open(dir, path.name(), OFlags::RDONLY, Mounts::Stay).ok()?;
            let stat = walk::stat(there.as_fd()).ok()?;
            let is_source = stat.identity() == source.identity();
            is_source.then(|| file::same_open((here, &held.stat), (there, &stat)).ok())?
        };
        same().unwrap_or(false)
    }
}

impl Worker<'_, '_> {
    /// Whether a directory on the root holds nothing but sources of entries that are placed just there. What cannot be looked at
    /// is taken for something else.
    pub(super) fn has_sources_only(&self, dir: BorrowedFd<'_>, path: &AbsPath) -> bool {
        let Ok(names) = walk::names(dir, usize::MAX) else { return false };
        names.iter().all(|name| {
            let Ok(name) = name.to_str() else { return false };
            let path = path.child(name);
            let next = self.plan.items.partition_point(|item| item.entry.target < path);
            let Some(item) = self.plan.items.get(next).filter(|item| item.entry.target.is_in(&path)) else {
                return false;
            };
            let Ok(fd) = walk::look(dir, name, Mounts::Enter) else { return false };
            let Ok(stat) = walk::stat(fd.as_fd()) else { return false };
            if item.entry.target == path {
                return item.action == Action::Place && self.is_source(item, &stat);
            }
            stat.is_dir() && self.has_sources_only(fd.as_fd(), &path)
        })
    }

    /// Whether something is what an entry brings from its store.
    fn is_source(&self, item: &Item<'_>, stat: &Stat) -> bool {
        let Ok(store) = &self.stores[usize::from(item.entry.store)] else { return false };
        walk::open_below(store.cursor.base(), item.entry.source(), OFlags::PATH, Mounts::Stay)
            .and_then(|fd| walk::stat(fd.as_fd()))
            .is_ok_and(|source| source.identity() == stat.identity())
    }
}

/// A disk that keeps an entry without its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The place where it is mounted, as the root names it.
    pub at: String,
}

impl Elsewhere {
    /// The disk that an entry's target lies on, if it is another one than the root's and the stores', holds something there, and the store
    /// holds nothing: a mount would hide data that persist already. A target below another entry that is in place is part of that.
    #[must_use]
    pub fn of<'s>(
        plan: &Plan<'_>,
        (root, prefix): (BorrowedFd<'_>, &AbsPath),
        store: &dyn Fn(&Item<'_>) -> Option<BorrowedFd<'s>>,
        item: &Item<'_>,
        (target, source): (&AbsPath, &AbsPath),
    ) -> Option<Self> {
        let above = target.parent()?;
        if let Some(outer) =
            successors(Some(above.clone()), AbsPath::parent).find_map(|path| plan.item(&path))
        {
            Self::of(plan, (root, prefix), store, outer, (&outer.entry.target, outer.entry.source()))?;
        }
        let dirs = OFlags::PATH | OFlags::DIRECTORY;
        let fits =
            |stat: &Stat| if item.entry.kind == Kind::Directory { stat.is_dir() } else { stat.is_file() };
        let dir = walk::open_below(root, &above, dirs, Mounts::Enter).ok()?;
        let stat = walk::stat_at(dir.as_fd(), target.name()).ok().filter(fits)?;
        let place = walk::look(dir.as_fd(), target.name(), Mounts::Enter).ok()?;
        // A mount by a run shows a store.
        let is_of = |other: &Item<'_>| {
            store(other).is_some_and(|fd| walk::stat(fd).is_ok_and(|store| store.device() == stat.device()))
        };
        if plan.items.iter().any(is_of) {
            return None;
        }
        let has =
            || stat.is_mount_root() || matches!(Held::at(dir.as_fd(), target.name(), &stat), Ok(Some(_)));
        if !has_own_disk(root, place.as_fd()) || !has() {
            return None;
        }
        let (store, folder) = (store(item)?, source.parent()?);
        let stored = walk::open_below(store, &folder, dirs, Mounts::Stay).and_then(|folder| {
            let stat = walk::stat_at(folder.as_fd(), source.name())?;
            let is_nothing = || holds_sources_only(plan, item, folder.as_fd(), source);
            Ok(!fits(&stat) || Held::at(folder.as_fd(), source.name(), &stat)?.is_some() && !is_nothing())
        });
        // Of a root that is to become the store, a mount hides what is below it.
        let is_root = || walk::mount_id(root).ok() == walk::mount_id(store).ok();
        let is_nothing = match stored {
            Ok(has) => !has,
            Err(Errno::NOENT) => true,
            Err(errno) => errno == Errno::XDEV && is_root(),
        };
        let point = AbsPath::normal(&table::of(place.as_fd()).ok()?.point).ok()?;
        let at = point.below(prefix).unwrap_or(point).to_string();
        is_nothing.then_some(Self { at })
    }
}

/// Tells if a directory on a store holds nothing but sources of other entries. An error counts as something else.
fn holds_sources_only(plan: &Plan<'_>, item: &Item<'_>, folder: BorrowedFd<'_>, path: &AbsPath) -> bool {
    let Ok(dir) = walk::directory(folder, path.name(), Mounts::Stay) else { return false };
    let Ok(names) = walk::names(dir.as_fd(), usize::MAX) else { return false };
    names.iter().all(|name| {
        let Ok(name) = name.to_str() else { return false };
        let path = path.child(name);
        let mut others = plan.items.iter().filter(|other| other.entry.store == item.entry.store);
        others.clone().any(|other| *other.entry.source() == path)
            || (others.any(|other| other.entry.source().is_in(&path))
                && holds_sources_only(plan, item, dir.as_fd(), &path))
    })
}

/// Tells if a place below a root is on another file system, which keeps what is written to it. An overlay does not say where that goes.
pub(super) fn has_own_disk(root: BorrowedFd<'_>, place: BorrowedFd<'_>) -> bool {
    let is_so = || {
        let is_other = walk::mount_id(root)? != walk::mount_id(place)?;
        Ok::<_, Errno>(is_other && ![TMPFS_MAGIC, RAMFS_MAGIC, OVERLAY_MAGIC].contains(&magic(place)?))
    };
    // An error counts as the root's own file system.
    is_so().unwrap_or(false)
}

/// The first names in a directory; none where it is empty, or holds nothing but the empty file or link `.imp-mount` by which the NixOS
/// module makes a directory below an immutable /etc.
fn names(dir: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Errno> {
    const SHOWN: usize = 3;
    let fd = walk::directory(dir, name, Mounts::Enter)?;
    let mut names = walk::names(fd.as_fd(), SHOWN + 2)?;
    let is_placeholder = |stat: Stat| stat.is_symlink() || stat.is_file() && stat.size() == 0;
    names.retain(|name| {
        name.to_bytes() != PRIVATE.as_bytes() || !walk::stat_at(fd.as_fd(), name).is_ok_and(is_placeholder)
    });
    let more = if names.len() > SHOWN { " and more" } else { "" };
    names.truncate(SHOWN);
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", escape::name(name.to_bytes()))).collect();
    Ok((!names.is_empty()).then(|| format!("{}{more}", names.join(", "))))
}
