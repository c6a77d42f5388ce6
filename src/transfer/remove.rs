//! Removal of a file or a whole tree, by descriptors only.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, IFlags, OFlags};
use rustix::io::Errno;

use super::Name;
use crate::sys::attributes;
use crate::sys::subvolume;
use crate::sys::walk::{self, Identity, Mounts};

/// Directories kept open on the way down; those above are reopened by `..`.
const OPEN: usize = 16;

/// Names read of a directory at once. The rest is read after their removal.
const NAMES: usize = 4096;

/// A directory to empty.
struct Level {
    fd: Option<OwnedFd>,
    identity: Identity,
    name: CString,
    names: Vec<CString>,
    /// True if there may be more names than these.
    more: bool,
}

/// Removes a file, or a directory with its content, including immutable files and btrfs subvolumes. A mount below is
/// EBUSY or EXDEV. A missing name is no error.
pub fn remove(name: Name<'_>) -> Result<(), Errno> {
    remove_while(name, &mut || true)
}

/// The same, until `goes_on` returns false: then ETIMEDOUT, and a part is left.
pub fn remove_while(name: Name<'_>, goes_on: &mut dyn FnMut() -> bool) -> Result<(), Errno> {
    match unlink(name.0, name.1, AtFlags::empty()) {
        Err(Errno::ISDIR) if !subvolume::remove(name.0, name.1)? => tree(name, goes_on),
        Err(Errno::ISDIR) => Ok(()),
        result => result,
    }
}

/// Removes everything in an open directory, and leaves the directory.
pub fn empty(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    loop {
        let names = walk::names(dir, NAMES)?;
        for name in &names {
            remove((dir, name))?;
        }
        if names.len() < NAMES {
            return Ok(());
        }
    }
}

fn tree((dir, name): Name<'_>, goes_on: &mut dyn FnMut() -> bool) -> Result<(), Errno> {
    let mut levels = vec![enter(dir, name.to_owned())?];
    while let Some(level) = levels.last_mut() {
        if !goes_on() {
            return Err(Errno::TIMEDOUT);
        }
        let fd = level.fd.as_ref().ok_or(Errno::STALE)?;
        if let Some(name) = level.names.pop() {
            match unlink(fd.as_fd(), &name, AtFlags::empty()) {
                Err(Errno::ISDIR) if subvolume::remove(fd.as_fd(), &name)? => {}
                Err(Errno::ISDIR) => {
                    let below = enter(fd.as_fd(), name)?;
                    levels.push(below);
                    if let Some(far) = levels.len().checked_sub(OPEN + 1) {
                        levels[far].fd = None;
                    }
                }
                result => result?,
            }
            continue;
        }
        if level.more {
            level.read()?;
            continue;
        }
        let Some(done) = levels.pop() else { break };
        match (levels.last_mut(), &done.fd) {
            (None, _) => unlink(dir, &done.name, AtFlags::REMOVEDIR)?,
            (Some(above), Some(fd)) => {
                if above.fd.is_none() {
                    above.fd = Some(parent(fd.as_fd(), above.identity)?);
                }
                let above = above.fd.as_ref().ok_or(Errno::STALE)?;
                unlink(above.as_fd(), &done.name, AtFlags::REMOVEDIR)?;
            }
            (Some(_), None) => return Err(Errno::STALE),
        }
    }
    Ok(())
}

fn enter(dir: BorrowedFd<'_>, name: CString) -> Result<Level, Errno> {
    let fd = walk::open(dir, name.as_c_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
    subvolume::make_writable(fd.as_fd())?;
    let identity = walk::stat(fd.as_fd())?.identity();
    let mut level = Level { fd: Some(fd), identity, name, names: Vec::new(), more: true };
    level.read()?;
    Ok(level)
}

impl Level {
    /// Reads the next names.
    fn read(&mut self) -> Result<(), Errno> {
        let fd = self.fd.as_ref().ok_or(Errno::STALE)?;
        self.names = walk::names(fd.as_fd(), NAMES)?;
        self.more = self.names.len() == NAMES;
        Ok(())
    }
}

/// The directory above an open one, if still the expected one.
pub fn parent(dir: BorrowedFd<'_>, expected: Identity) -> Result<OwnedFd, Errno> {
    let above = walk::above(dir)?;
    if walk::stat(above.as_fd())?.identity() == expected { Ok(above) } else { Err(Errno::STALE) }
}

/// Removes one name. `chattr +i` and `chattr +a` on the file and on its directory are removed first.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match fs::unlinkat(dir, name, flags) {
        Err(Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let stat = walk::stat_at(dir, name)?;
    if stat.is_dir() && flags.is_empty() {
        return Err(Errno::ISDIR);
    }
    if stat.is_file() || stat.is_dir() {
        let opened = walk::open(dir, name, OFlags::RDONLY, Mounts::Stay)?;
        unseal(opened.as_fd())?;
    }
    let dir = walk::open(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
    unseal(dir.as_fd())?;
    fs::unlinkat(&dir, name, flags)
}

fn unseal(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match attributes::seal(fd, IFlags::empty()) {
        // A file system without inode flags.
        Err(Errno::NOTTY | Errno::NOTSUP) => Ok(()),
        result => result,
    }
}
