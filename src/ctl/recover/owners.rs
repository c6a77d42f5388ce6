//! Owners by name: a user or group may have another id than in the boot of an old root.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ctl::system::System;
use crate::ids::{Table, passwd};
use crate::roots::Slot;
use crate::sys::inside;
use crate::sys::owners::{Owners, UNKNOWN};
use crate::sys::walk;
use crate::text::problem::{Problem, Result, describe_io};

/// No file of users or groups is longer.
const LIMIT: u64 = 64 << 20;

/// Users and groups of the running system.
#[derive(Debug)]
pub struct Names {
    users: Table,
    groups: Table,
}

impl Names {
    /// Reads them.
    pub fn read(system: &System) -> Result<Self> {
        let table = |path: &str| {
            let bytes = system.read(path).map_err(|error| Problem::new(describe_io(&error)).at(path))?;
            passwd::parse(&bytes.unwrap_or_default()).map_err(|problem| problem.at(path))
        };
        Ok(Self { users: table("/etc/passwd")?, groups: table("/etc/group")? })
    }

    /// The ids with a change since the boot of an old root.
    pub fn since(&self, slot: &Slot, tree: BorrowedFd<'_>) -> Result<Owners> {
        let of = |name: &str, now: &Table| {
            let path = format!("/etc/{name}");
            let bytes = recorded(slot, tree, name, &path);
            let bytes = bytes.map_err(|errno| {
                Problem::os(format!("cannot read its {path}, which has the names of owners"), errno)
            })?;
            let Some(bytes) = bytes else {
                log::warn!("root {}: it has no {path}: owners keep their numbers", slot.id);
                return Ok(Vec::new());
            };
            passwd::parse(&bytes)
                .map(|then| changes(&then, now).into_iter().collect())
                .map_err(|problem| problem.at(path))
        };
        Ok(Owners { users: of("passwd", &self.users)?, groups: of("group", &self.groups)? })
    }
}

/// The file of this boot: the copy beside the tree, or the one inside.
fn recorded(slot: &Slot, tree: BorrowedFd<'_>, name: &str, path: &str) -> Result<Option<Vec<u8>>, Errno> {
    let copy = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    if let Some(bytes) = slot.read(&copy)? {
        return Ok(Some(bytes));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
    match inside::open(tree, path, flags) {
        Ok(file) if walk::stat(file.as_fd())?.is_file() => walk::content(file.as_fd(), LIMIT).map(Some),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The changed ids. An id without its former name, or without any name then, becomes [`UNKNOWN`] if used by another
/// name now.
fn changes(then: &Table, now: &Table) -> BTreeMap<u32, u32> {
    let mut names: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (name, id) in then.iter().filter(|(_, id)| **id != 0) {
        names.entry(*id).or_default().push(name);
    }
    let taken: BTreeSet<_> = now.values().collect();
    let mut changes: BTreeMap<u32, u32> =
        now.values().filter(|id| **id != 0 && !names.contains_key(*id)).map(|id| (*id, UNKNOWN)).collect();
    for (id, names) in names {
        // No name but root becomes root.
        let mut ids = names.iter().filter_map(|name| now.get(*name)).filter(|id| **id != 0);
        match ids.clone().find(|other| **other == id).or_else(|| ids.next()) {
            Some(other) if *other == id => {}
            Some(other) => drop(changes.insert(id, *other)),
            None if taken.contains(&id) => drop(changes.insert(id, UNKNOWN)),
            None => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name() {
        let table =
            |names: &[(&str, u32)]| names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        let then = table(&[("root", 0), ("a", 1), ("b", 2), ("b2", 2), ("gone", 3), ("lost", 4), ("up", 5)]);
        let now = table(&[("root", 0), ("a", 11), ("b2", 2), ("b", 12), ("other", 4), ("up", 0), ("new", 6)]);
        assert_eq!(
            changes(&then, &now),
            [(1, 11), (4, UNKNOWN), (6, UNKNOWN), (11, UNKNOWN), (12, UNKNOWN)].into()
        );
        assert_eq!(changes(&then, &then), [].into());
    }
}
