//! The versions of a file left by a run on the store and on the root. Write-back compares with them: an unchanged
//! version may be replaced, any other version has new data and is kept.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Number;

use crate::manifest::AbsPath;
use crate::sys::inside;
use crate::sys::walk::{self, Identity, Stat};
use crate::text::json::{Object, Take, Value};

/// Ends the name under which write-back keeps a second version of a file beside the first.
const CONFLICT: &str = ".imp-mount-conflict";
/// Most second versions of one file.
const CONFLICTS: usize = 100;

/// One version of a file. A change of content or properties, or a replacement by another file, makes another version:
/// all of them change the time of the last status change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Version {
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Version {
    /// The version of a stat.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        Self { inode: stat.inode(), size: stat.size(), modified: stat.modified(), changed: stat.changed() }
    }
}

impl Take for Version {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self {
            inode: it.member("inode")?,
            size: it.member("size")?,
            modified: it.member::<Time>("modified")?.0,
            changed: it.member::<Time>("changed")?.0,
        })
    }
}

/// Seconds and nanoseconds.
struct Time((i64, u32));

impl Take for Time {
    fn take(value: Value) -> Result<Self, String> {
        let parts = Vec::<Number>::take(value)?;
        let time = || match &*parts {
            [seconds, nanoseconds] => {
                Some(Self((seconds.as_i64()?, u32::try_from(nanoseconds.as_u64()?).ok()?)))
            }
            _ => None,
        };
        time().ok_or_else(|| "it is no time".to_owned())
    }
}

/// The versions of one file after a run; none without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Versions {
    /// On the store.
    pub store: Option<Version>,
    /// On the root: of a copy, and none of a link.
    pub root: Option<Version>,
}

impl Take for Versions {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self { store: it.member_or_default("store")?, root: it.member_or_default("root")? })
    }
}

/// The decision about a file on the root with a difference to the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The root's is the version of the run: the store's is newer.
    KeepStore,
    /// The store has the version of the run: the root's replaces it.
    Replace,
    /// The store has no file: the root's is brought there.
    Bring,
    /// Both changed, or nothing is known about them: both are kept.
    KeepBoth,
}

/// Decides by the versions of the last run and the current ones.
#[must_use]
pub fn decide(left: Option<&Versions>, store: Option<Version>, root: Version) -> Decision {
    match (left, store) {
        (Some(left), _) if left.root == Some(root) => Decision::KeepStore,
        (_, None) => Decision::Bring,
        (Some(left), Some(store)) if left.store == Some(store) => Decision::Replace,
        _ => Decision::KeepBoth,
    }
}

/// True if a name is one under which write-back keeps a second version.
#[must_use]
pub fn is_conflict(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name.strip_suffix('-').unwrap_or(name).ends_with(CONFLICT)
}

/// The names, in the order in which they are taken, under which second versions of a file are kept, within the 255 bytes of a name.
pub fn conflicts(name: &str) -> impl Iterator<Item = String> {
    (1..=CONFLICTS).map(move |number| {
        let suffix = if number == 1 { CONFLICT.to_owned() } else { format!("{CONFLICT}-{number}") };
        let kept = (0..=255 - suffix.len()).rev().find_map(|end| name.get(..end.min(name.len())));
        format!("{}{suffix}", kept.unwrap_or_default())
    })
}

/// The names of other versions beside a file; none for most files.
pub fn conflicts_beside(dir: BorrowedFd<'_>, name: &str) -> Result<Vec<String>, Errno> {
    let mut found = Vec::new();
    for beside in conflicts(name) {
        match walk::stat_at(dir, beside.as_str()) {
            Ok(_) => found.push(beside),
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// The versions of a file in words: "3 versions are kept: A, B, C".
#[must_use]
pub fn listed(store: &AbsPath, source: &AbsPath, beside: &[String]) -> String {
    let folder = source.parent().unwrap_or_else(AbsPath::root);
    let mut words = format!("{} versions are kept: {}", beside.len() + 1, store.join(source));
    for name in beside {
        words.push_str(", ");
        words.push_str(store.join(&folder.child(name)).as_str());
    }
    words
}

/// Tells if a symbolic link in a directory of a root leads to this file, directly or by others. Such a link is no version of the file.
pub fn leads_to(root: BorrowedFd<'_>, folder: &AbsPath, link: &str, file: Identity) -> Result<bool, Errno> {
    let path = if link.starts_with('/') { link.to_owned() } else { format!("{folder}/{link}") };
    match inside::open(root, &path, OFlags::PATH).and_then(|fd| walk::stat(fd.as_fd())) {
        Ok(stat) => Ok(stat.identity() == file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A name for system calls.
pub fn c_name(name: &str) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways() {
        let version = |inode| Version { inode, size: 1, modified: (0, 0), changed: (0, 0) };
        let [old, new, other] = [1, 2, 3].map(version);
        let left = Versions { store: Some(old), root: Some(other) };
        let link = Versions { store: None, root: None };
        for (left, store, root, decision) in [
            (Some(&left), Some(old), new, Decision::Replace),
            (Some(&left), Some(new), other, Decision::KeepStore),
            (Some(&left), None, other, Decision::KeepStore),
            (Some(&left), Some(new), new, Decision::KeepBoth),
            (Some(&left), None, new, Decision::Bring),
            (Some(&link), None, new, Decision::Bring),
            (Some(&link), Some(old), new, Decision::KeepBoth),
            (None, Some(old), new, Decision::KeepBoth),
            (None, None, new, Decision::Bring),
        ] {
            assert_eq!(decide(left, store, root), decision, "{left:?} {store:?} {root:?}");
        }
    }

    #[test]
    fn names_of_second_versions() {
        let names: Vec<_> = conflicts("shadow").take(2).collect();
        assert_eq!(names, ["shadow.imp-mount-conflict", "shadow.imp-mount-conflict-2"]);
        assert!(names.iter().all(|name| is_conflict(name)));
        assert!(!is_conflict("shadow") && !is_conflict("shadow-2") && !is_conflict("imp-mount-conflict.txt"));
        let long = "\u{e9}".repeat(127);
        assert!(conflicts(&long).all(|name| name.len() <= 255 && is_conflict(&name)));
    }
}
