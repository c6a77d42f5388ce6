//! What a target holds already, and a mount would hide.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::worker::Worker;
use crate::escape;
use crate::manifest::AbsPath;
use crate::plan::Item;
use crate::sys;
use crate::transfer::file;
use crate::versions::{self, Decision, Version};
use crate::walk::{self, Mounts, Stat};

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
        let place = item.store.path.join(path);
        let left = self.previous.versions(target, &place);
        match versions::decide(left, Some(Version::of(source)), Version::of(&held.stat)) {
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

/// The first names in a directory; none where it is empty.
fn names(dir: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Errno> {
    const SHOWN: usize = 3;
    let fd = walk::directory(dir, name, Mounts::Enter)?;
    let mut names = walk::names(fd.as_fd(), SHOWN + 1)?;
    let more = if names.len() > SHOWN { " and more" } else { "" };
    names.truncate(SHOWN);
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", escape::name(name.to_bytes()))).collect();
    Ok((!names.is_empty()).then(|| format!("{}{more}", names.join(", "))))
}
