//! Where a copy is made on the store: a directory of root's beside its place, with a name that says whose it is and a mark
//! that only root can set. What is in it is nobody else's to see or to change, and it is gone when the copy is in its place.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;

use super::bring;
use super::copy::Name;
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts, Stat};

/// Marks the directory. Its value is the inode number of the copy, from when that leaves it until the directory is gone.
const MARK: &str = "trusted.imp-mount.adopting";
/// The copy's name in it.
const COPY: &CStr = c"copy";

/// A place to make a copy at.
#[derive(Debug)]
pub struct Shop<'s> {
    /// The directory that holds the copy's place.
    parent: BorrowedFd<'s>,
    name: String,
    fd: OwnedFd,
}

impl<'s> Shop<'s> {
    /// Opens one of this name, as it was left by a run that was stopped or anew.
    pub fn open(parent: BorrowedFd<'s>, own: &str) -> Result<Self> {
        let failed = |errno| Problem::os(format!("cannot make a copy at {own} beside its place"), errno);
        let made = match fs::mkdirat(parent, own, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };
        let fd = walk::open(parent, own, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
            .map_err(|errno| if made { failed(errno) } else { foreign(own) })?;
        let shop = Self { parent, name: own.to_owned(), fd };
        if !made && !shop.is_ours().map_err(failed)? {
            return Err(foreign(&shop.name));
        }
        fs::flock(&shop.fd, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => Problem::new(format!("another impctl is at work in {own} there"))
                .remedy("wait until that is done, then run again"),
            errno => failed(errno),
        })?;
        shop.prepare().map_err(failed)?;
        Ok(shop)
    }

    fn is_ours(&self) -> Result<bool, Errno> {
        let stat = walk::stat(self.fd.as_fd())?;
        // A setgid directory above passes that bit on.
        if stat.uid() != rustix::process::geteuid().as_raw() || stat.mode() & !0o2000 != 0o700 {
            return Ok(false);
        }
        match fs::fgetxattr(&self.fd, MARK, &mut [0_u8; 0][..]) {
            // A file system without such attributes: the name and the owner must do.
            Ok(_) | Err(Errno::NOTSUP) => Ok(true),
            Err(Errno::NODATA) => Ok(walk::names(self.fd.as_fd(), 1)?.is_empty()),
            Err(errno) => Err(errno),
        }
    }

    fn prepare(&self) -> Result<(), Errno> {
        if self.mark()?.is_none() {
            self.set_mark(b"")?;
        }
        // Inherited from above; what is made in it would inherit them in turn.
        for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
            match fs::fremovexattr(&self.fd, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
        fs::fchmod(&self.fd, Mode::RWXU)
    }

    fn mark(&self) -> Result<Option<u64>, Errno> {
        let mut value = [0_u8; 32];
        match fs::fgetxattr(&self.fd, MARK, &mut value[..]) {
            Ok(length) => {
                let text = std::str::from_utf8(&value[..length.min(value.len())]).unwrap_or_default();
                Ok(Some(text.parse().unwrap_or(0)))
            }
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn set_mark(&self, value: &[u8]) -> Result<(), Errno> {
        match fs::fsetxattr(&self.fd, MARK, value, XattrFlags::empty()) {
            // Then a run that is stopped cannot be told from another's work, and the next one says so.
            Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
            result => result,
        }
    }

    /// Where things are made.
    pub fn work(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The copy.
    pub fn copy(&self) -> Name<'_> {
        (self.fd.as_fd(), COPY)
    }

    /// Whether what is at the copy's place now was put there by a run that was stopped before anybody could use it.
    pub fn left(&self, there: &Stat) -> Result<bool, Errno> {
        Ok(self.mark()? == Some(there.inode()))
    }

    /// Takes the copy back from its place.
    pub fn take_back(&self, name: &str) -> Result<(), Errno> {
        bring::remove(self.copy())?;
        fs::renameat_with(self.parent, name, self.work(), COPY, RenameFlags::NOREPLACE)
    }

    /// Moves the copy to its place, where nothing is, and goes away: all of it has reached the disk then.
    pub fn put(&self, name: &str) -> Result<(), Errno> {
        let stat = walk::stat_at(self.fd.as_fd(), COPY)?;
        self.set_mark(stat.inode().to_string().as_bytes())?;
        // The mark is there before the name.
        fs::fsync(&self.fd)?;
        fs::renameat_with(self.work(), COPY, self.parent, name, RenameFlags::NOREPLACE)?;
        fs::syncfs(&self.fd)?;
        self.close()
    }

    /// Takes it away with everything in it.
    pub fn close(&self) -> Result<(), Errno> {
        for name in walk::names(self.fd.as_fd(), usize::MAX)? {
            bring::remove((self.fd.as_fd(), &name))?;
        }
        fs::unlinkat(self.parent, self.name.as_str(), AtFlags::REMOVEDIR)
    }
}

fn foreign(name: &str) -> Problem {
    Problem::new(format!("{name}, where a copy would be made, is there on the store and not ours"))
        .remedy("see what it is, and move it away")
}

/// What the directory beside a name is called, within the 255 bytes that a name can have.
#[must_use]
pub fn name(name: &str) -> String {
    const SUFFIX: &str = ".imp-adopt";
    let kept = (0..=254 - SUFFIX.len()).rev().find_map(|end| name.get(..end.min(name.len())));
    format!(".{}{SUFFIX}", kept.unwrap_or_default())
}
