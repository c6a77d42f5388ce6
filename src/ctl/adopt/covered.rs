//! The tree below a mount: changes since its copy, and its removal once unused.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, IFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::inventory::{Inventory, Seen, nanoseconds};
use crate::sys::attributes::{self, OWN};
use crate::sys::mount_api;
use crate::sys::raw;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::file::{self, Ignore};
use crate::transfer::remove;
use crate::transfer::seals::descend;
use crate::transfer::tree::{Choice, Found, State, Transfer};
use crate::transfer::{Name, content};

/// A directory or file below a mount.
#[derive(Debug)]
pub struct Covered {
    /// The parent directory, opened without the mounts inside.
    dir: OwnedFd,
    name: CString,
    /// Its properties.
    pub stat: Stat,
}

/// A covered file with a difference to the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path below the tree; empty for the top.
    pub path: Vec<u8>,
    /// The first different property, or another change.
    pub what: &'static str,
}

/// Findings in a covered tree.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of the tree.
    pub changes: Vec<Change>,
    /// Files open for writing: their inodes and paths.
    pub written: Vec<(u64, Vec<u8>)>,
}

/// The copy in the mount.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'c> {
    /// Its directory and name on the store.
    pub at: Name<'c>,
    /// Its top.
    pub top: BorrowedFd<'c>,
    /// The time of the mount: files made in the copy since then are not compared.
    pub mounted: u128,
}

impl Covered {
    /// Opens the covered file at a name in a directory.
    pub fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<Self> {
        let failed = |errno| Problem::os("cannot look at the covered files", errno);
        let dir = mount_api::without_mounts(dir).map_err(failed)?;
        let stat = walk::stat_at(dir.as_fd(), name).map_err(failed)?;
        Ok(Self { dir, name: name.to_owned(), stat })
    }

    /// The same, which must be a certain file or directory.
    pub fn expect(self, identity: Identity) -> Result<Self> {
        if self.stat.identity() == identity {
            return Ok(self);
        }
        Err(Problem::new("the covered files are not the copied ones"))
    }

    /// Its directory and name.
    #[must_use]
    pub fn name(&self) -> Name<'_> {
        (self.dir.as_fd(), &self.name)
    }

    /// True for an empty mount point.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        let is_empty = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = walk::open(self.dir.as_fd(), &*self.name, flags, Mounts::Stay);
            dir.and_then(|dir| walk::names(dir.as_fd(), 1)).is_ok_and(|names| names.is_empty())
        };
        self.stat.mode() == 0 && if self.stat.is_dir() { is_empty() } else { self.stat.size() == 0 }
    }

    /// True after a stopped removal of its content.
    pub fn is_released(&self) -> Result<bool, Errno> {
        let top = walk::look(self.dir.as_fd(), &*self.name, Mounts::Stay)?;
        match fs::getxattr(magic(top.as_fd()), released(), &mut [0_u8; 0][..]) {
            Ok(_) => Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Compares the tree with the last pass, and the differences with the copy.
    pub fn check(&self, seen: &Inventory, copy: Copy<'_>, progress: &mut dyn FnMut(u64)) -> Result<Findings> {
        raw::ignore_lease_breaks();
        let mut findings = Findings::default();
        let mut bytes = 0;
        let mut decide = |found: &Found<'_>| {
            if found.state == State::Foreign {
                return Err(Problem::new(format!(
                    "a mount was added at {} meanwhile",
                    escape::name(found.path)
                )));
            }
            let failed = |errno| Problem::os(format!("cannot compare {}", shown(found.path)), errno);
            match check(found, seen, copy, &mut findings, &mut |more| bytes += more) {
                // Removed meanwhile, which its directory shows.
                Ok(()) | Err(Errno::NOENT | Errno::STALE) => Ok(Choice::Pass),
                Err(errno) => Err(failed(errno)),
            }
        };
        Transfer::default().run(self.name(), None, &mut decide, &mut |_| ())?;
        progress(bytes);
        Ok(findings)
    }

    /// Removes the content. The directory itself is the mount point, and stays without permissions; a file stays, too,
    /// and is emptied. No process may use the content any more.
    pub fn give_back(&self) -> Result<()> {
        let failed = |errno| Problem::os("cannot remove the covered files", errno);
        let is_dir = self.stat.is_dir();
        let flags = if is_dir { OFlags::RDONLY | OFlags::DIRECTORY } else { OFlags::RDONLY };
        let fd = walk::open(self.dir.as_fd(), &*self.name, flags, Mounts::Stay).map_err(failed)?;
        let stat = walk::stat(fd.as_fd()).map_err(failed)?;
        if stat.identity() != self.stat.identity() || (!is_dir && stat.links() > 1) {
            return Err(Problem::new("it was replaced, or has another name now"));
        }
        if !stat.seals().is_empty() {
            attributes::seal(fd.as_fd(), IFlags::empty()).map_err(failed)?;
        }
        match fs::fsetxattr(&fd, released(), b"", XattrFlags::empty()) {
            // Without this attribute the next run reports differences left by a stopped run as changes.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if is_dir {
            remove::empty(fd.as_fd()).map_err(failed)?;
        } else {
            let again =
                walk::open(self.dir.as_fd(), &*self.name, OFlags::WRONLY, Mounts::Stay).map_err(failed)?;
            if walk::stat(again.as_fd()).map_err(failed)?.identity() != stat.identity() {
                return Err(failed(Errno::STALE));
            }
            fs::ftruncate(&again, 0).map_err(failed)?;
        }
        fs::fchmod(&fd, Mode::empty()).map_err(failed)?;
        match fs::fremovexattr(&fd, released()) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// The attribute of a tree under removal.
fn released() -> String {
    format!("{OWN}released")
}

/// The path of an open file alone.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A path below the tree, for messages.
fn shown(path: &[u8]) -> String {
    if path.is_empty() { "it".to_owned() } else { escape::name(path).into_owned() }
}

/// Compares one file of the covered tree.
fn check(
    found: &Found<'_>,
    seen: &Inventory,
    copy: Copy<'_>,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Errno> {
    let (stat, state) = (found.stat, seen.seen(found.stat));
    if stat.is_file() {
        let file = File::from(file::open(found.from, stat)?.fd);
        if raw::is_written(file.as_fd()) == Some(true) {
            findings.written.push((stat.inode(), found.path.to_owned()));
        }
        if let Seen::Same(wanted) = state
            && content::digest(&file, stat.size(), progress)?.max(1) == wanted
        {
            return Ok(());
        }
    } else if let Seen::Same(_) = state {
        return Ok(());
    }
    let mut change = |what| findings.changes.push(Change { path: found.path.to_owned(), what });
    let there = match Counterpart::open(found.path, stat, copy) {
        Ok(there) => there,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
            change("not in the copy");
            return Ok(());
        }
        Err(errno) => return Err(errno),
    };
    // The copy may change at any time.
    let difference = match file::difference(
        (found.from, stat),
        (there.name(), &there.stat),
        Ignore::default(),
        Some(progress),
        None,
    ) {
        Err(Errno::NOENT | Errno::STALE) => Some("changed in the copy, too"),
        difference => difference?,
    };
    if let Some(what) = difference {
        change(what);
    }
    if stat.is_dir() && there.stat.is_dir() {
        for name in removed((found.from, stat), &there, copy.mounted)? {
            let end: &[u8] = if found.path.is_empty() { b"" } else { b"/" };
            let path = [found.path, end, name.to_bytes()].concat();
            findings.changes.push(Change { path, what: "removed" });
        }
    }
    Ok(())
}

/// The names in a directory of the copy, but not in the covered one.
fn removed(
    (from, stat): (Name<'_>, &Stat),
    there: &Counterpart,
    mounted: u128,
) -> Result<BTreeSet<CString>, Errno> {
    let source = file::open(from, stat)?;
    let copy = file::open(there.name(), &there.stat)?;
    let mut names: BTreeSet<_> = walk::names(copy.as_fd(), usize::MAX)?.into_iter().collect();
    for name in walk::names(source.as_fd(), usize::MAX)? {
        names.remove(&name);
    }
    // Files made since are left alone.
    names.retain(|name| {
        walk::stat_at(copy.as_fd(), &**name).is_ok_and(|stat| nanoseconds(stat.changed()) < mounted)
    });
    Ok(names)
}

/// The file of the copy at a path.
struct Counterpart {
    dir: OwnedFd,
    name: CString,
    stat: Stat,
}

impl Counterpart {
    fn open(path: &[u8], like: &Stat, copy: Copy<'_>) -> Result<Self, Errno> {
        let clone = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(crate::text::problem::os_error);
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            _ if path.is_empty() && like.is_dir() => (clone(copy.top)?, c".".to_owned()),
            _ if path.is_empty() => (clone(copy.at.0)?, copy.at.1.to_owned()),
            Some(at) => (descend(clone(copy.top)?, &path[..at])?, text(&path[at + 1..])?),
            None => (clone(copy.top)?, text(path)?),
        };
        let stat = walk::stat_at(dir.as_fd(), &*name)?;
        Ok(Self { dir, name, stat })
    }

    fn name(&self) -> Name<'_> {
        (self.dir.as_fd(), &self.name)
    }
}

fn text(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::INVAL)
}
