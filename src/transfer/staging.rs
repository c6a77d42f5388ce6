//! Root-only directories on a store, in which copies are made before they are renamed into place: STORE/.imp-mount/staging.
//!
//! rename(2) does not leave a btrfs subvolume: a subvolume nested in the store gets a staging directory of its own.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::Name;
use super::attributes::{self, OWN};
use super::remove::remove;
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts};

/// The directory at the top of a store that belongs to imp-mount.
pub const PRIVATE: &str = ".imp-mount";
/// The name in a staging directory of a single file that is being made.
pub const NEW: &CStr = c"new";
/// The part of it that holds unfinished copies.
const STAGING: &str = "staging";

/// The name of the attribute that marks [`PRIVATE`]: only root can set it.
fn mark() -> String {
    format!("{OWN}private")
}

/// A staging directory, locked by this process.
#[derive(Debug)]
pub struct Staging {
    top: OwnedFd,
    private: OwnedFd,
    dir: OwnedFd,
    device: (u32, u32),
}

impl Staging {
    /// Opens the staging directory of the file system, or subvolume, that has `top` as its top directory on the store.
    pub fn open(top: BorrowedFd<'_>) -> Result<Self> {
        let failed = |errno| Problem::os(format!("cannot prepare {PRIVATE}/{STAGING} on the store"), errno);
        let top = readable(top, c".").map_err(failed)?;
        let private = private(top.as_fd())?;
        let dir = directory(private.as_fd(), STAGING).map_err(failed)?;
        if !is_closed(dir.as_fd()).map_err(failed)? {
            return Err(foreign(&format!("{PRIVATE}/{STAGING}")));
        }
        fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => Problem::new(format!("another process is at work in {PRIVATE}/{STAGING}"))
                .remedy("wait until it has ended, then run again"),
            errno => failed(errno),
        })?;
        let device = walk::stat(dir.as_fd()).map_err(failed)?.device();
        Ok(Self { top, private, dir, device })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A name in the directory.
    #[must_use]
    pub fn at<'n>(&'n self, name: &'n CStr) -> Name<'n> {
        (self.dir.as_fd(), name)
    }

    /// Removes unfinished copies of earlier runs, but for those of these names.
    pub fn clear(&self, kept: &dyn Fn(&CStr) -> bool) -> Result<(), Errno> {
        for name in walk::names(self.dir(), usize::MAX)? {
            if !kept(&name) {
                remove(self.at(&name))?;
            }
        }
        Ok(())
    }

    /// Removes the directory. One that still holds an unfinished copy, for the next run to go on with, stays.
    pub fn close(self) -> Result<(), Errno> {
        let gone = |result| match result {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            result => result,
        };
        gone(fs::unlinkat(&self.private, STAGING, AtFlags::REMOVEDIR))?;
        gone(fs::unlinkat(&self.top, PRIVATE, AtFlags::REMOVEDIR))
    }
}

/// Removes the single file that a killed run left in the staging directory of a store, and the directory once it is empty.
pub fn tidy(store: BorrowedFd<'_>) -> Result<()> {
    let failed = |errno| Problem::os("cannot remove the staging directory on the store", errno);
    match walk::stat_at(store, PRIVATE) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(failed)?,
    };
    let staging = Staging::open(store)?;
    remove(staging.at(NEW)).map_err(failed)?;
    staging.close().map_err(failed)
}

/// The staging directories of one store.
#[derive(Debug)]
pub struct Stagings {
    store: OwnedFd,
    /// The store's own comes first.
    open: Vec<Staging>,
}

impl Stagings {
    /// Opens the one of the store itself.
    pub fn open(store: BorrowedFd<'_>) -> Result<Self> {
        let staging = Staging::open(store)?;
        let store = store.try_clone_to_owned().map_err(|error| Problem::new(error.to_string()))?;
        Ok(Self { store, open: vec![staging] })
    }

    /// The one of the store itself.
    #[must_use]
    pub fn main(&self) -> &Staging {
        &self.open[0]
    }

    /// The one from which a file can be renamed into this directory of the store.
    pub fn near(&mut self, dir: BorrowedFd<'_>) -> Result<&Staging> {
        let failed = |errno| Problem::os("cannot look at the directory on the store", errno);
        let device = walk::stat(dir).map_err(failed)?.device();
        if let Some(found) = self.open.iter().position(|staging| staging.device == device) {
            return Ok(&self.open[found]);
        }
        let store = walk::stat(self.store.as_fd()).map_err(failed)?.identity();
        let mut top = readable(dir, c".").map_err(failed)?;
        loop {
            let above = walk::above(top.as_fd()).map_err(failed)?;
            let stat = walk::stat(above.as_fd()).map_err(failed)?;
            if stat.device() != device || stat.identity() == store {
                break;
            }
            top = above;
        }
        self.open.push(Staging::open(top.as_fd())?);
        Ok(&self.open[self.open.len() - 1])
    }

    /// Every one that is open.
    pub fn all(&self) -> impl Iterator<Item = &Staging> {
        self.open.iter()
    }

    /// Removes those that are empty.
    pub fn close(self) -> Result<(), Errno> {
        self.open.into_iter().rev().try_for_each(Staging::close)
    }
}

/// Opens STORE/.imp-mount, created where it is missing. A directory that another than root can enter, or that imp-mount did not create, is
/// refused.
pub fn private(top: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |errno| Problem::os(format!("cannot use {PRIVATE} on the store"), errno);
    let dir = directory(top, PRIVATE).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => foreign(PRIVATE),
        errno => failed(errno),
    })?;
    if !is_closed(dir.as_fd()).map_err(failed)? || !is_marked(dir.as_fd()).map_err(failed)? {
        return Err(foreign(PRIVATE));
    }
    Ok(dir)
}

/// A directory that only root can enter, created where it is missing.
fn directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let made = match fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let dir = walk::open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
    // A setgid directory above passes its group and that bit on, and a default ACL its entries.
    if made && walk::stat(dir.as_fd())?.uid() == rustix::process::geteuid().as_raw() {
        attributes::drop_acls(dir.as_fd())?;
        fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

/// Whether only root can enter a directory.
fn is_closed(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = walk::stat(dir)?;
    Ok(stat.uid() == rustix::process::geteuid().as_raw() && stat.mode() & 0o777 == 0o700)
}

/// Whether imp-mount created a directory; an empty one is marked as such.
fn is_marked(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    match fs::fgetxattr(dir, mark(), &mut [0_u8; 0][..]) {
        // A file system without such attributes, or a user namespace: the owner and the mode must do.
        Ok(_) | Err(Errno::NOTSUP) => return Ok(true),
        Err(Errno::NODATA) => {}
        Err(errno) => return Err(errno),
    }
    match fs::fsetxattr(dir, mark(), b"", XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOTSUP | Errno::PERM) => return Ok(true),
        Err(errno) => return Err(errno),
    }
    if walk::names(dir, 1)?.is_empty() {
        return Ok(true);
    }
    fs::fremovexattr(dir, mark())?;
    Ok(false)
}

fn foreign(name: &str) -> Problem {
    Problem::new(format!(
        "{name} on the store is not a directory that imp-mount created, which only root can enter"
    ))
    .remedy("look at what it is, and move it away")
}

fn readable(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
}
