//! Earlier savings of the running boot: replaced by a later one, unless they have files left out by the later one.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::old::OldRoot;
use super::record::LeftOut;
use crate::roots::Id;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result};
use crate::transfer::seals::descend;

/// The savings, the newest first.
#[derive(Debug)]
pub struct Earlier {
    all: Vec<Saving>,
}

/// One of them.
#[derive(Debug)]
struct Saving {
    id: Id,
    tree: OwnedFd,
    /// Files left out of the saving; none if the list is not complete.
    left_out: Option<Vec<LeftOut>>,
    /// True if the saving has a file left out by the later one.
    is_needed: Cell<bool>,
}

impl Earlier {
    /// Those among all roots of a store, which have the oldest first.
    pub fn among<'o>(all: impl DoubleEndedIterator<Item = &'o OldRoot>) -> Result<Self> {
        let saving = |old: &OldRoot| -> Result<Option<Saving>> {
            let tree = match old.slot.tree() {
                Err(Errno::NOENT) => return Ok(None),
                tree => {
                    tree.map_err(|errno| Problem::os("cannot open an earlier saving of this boot", errno))?
                }
            };
            let left_out = old.end.as_ref().filter(|end| end.left_out_count == end.left_out.len() as u64);
            let left_out = left_out.map(|end| end.left_out.clone());
            Ok(Some(Saving { id: old.id(), tree, left_out, is_needed: Cell::new(false) }))
        };
        let all = all.rev().filter_map(|old| saving(old).transpose());
        Ok(Self { all: all.collect::<Result<_>>()? })
    }

    /// Keeps earlier savings with a path left out by the later one: the newest, and older ones if the newest has only
    /// a part of the path.
    pub fn keep(&self, path: &[u8]) {
        for saving in &self.all {
            let is_whole = match find(saving.tree.as_fd(), path) {
                Ok(stat) => !stat.is_dir() || saving.has_all_of(path),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                // Errors count as an existing path.
                Err(_) => false,
            };
            saving.is_needed.set(true);
            if is_whole {
                return;
            }
        }
    }

    /// Those whose place the later saving takes.
    pub fn replaced(&self) -> impl Iterator<Item = Id> {
        self.all.iter().filter(|saving| !saving.is_needed.get()).map(|saving| saving.id)
    }
}

impl Saving {
    /// True if the saving left out no file in a directory.
    fn has_all_of(&self, path: &[u8]) -> bool {
        let is_in = |left: &LeftOut| {
            let left = left.path.bytes().strip_prefix(b"/").unwrap_or(left.path.bytes());
            let rest = left.strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
        };
        self.left_out.as_ref().is_some_and(|all| !all.iter().any(is_in))
    }
}

/// Looks at a path below an open directory.
pub fn find(top: BorrowedFd<'_>, path: &[u8]) -> std::result::Result<Stat, Errno> {
    let top = walk::open(top, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay)?;
    walk::stat(descend(top, path)?.as_fd())
}
