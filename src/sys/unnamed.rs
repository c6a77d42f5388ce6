//! A regular file without a name until complete.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Name, attributes};
use crate::sys::walk;

/// A new, empty file with mode 000 in a directory. Without a name, the drop removes the file.
#[derive(Debug)]
pub struct Unnamed<'d> {
    dir: BorrowedFd<'d>,
    fd: Option<OwnedFd>,
    /// On a file system without unnamed files: a unique name.
    temporary: Option<CString>,
}

impl<'d> Unnamed<'d> {
    /// Makes one.
    pub fn new(dir: BorrowedFd<'d>) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let (fd, temporary) = match fs::openat(dir, c".", flags | OFlags::TMPFILE, Mode::empty()) {
            Err(Errno::NOTSUP | Errno::ISDIR) => {
                let temporary =
                    CString::new(format!(".imp-mount-{}", std::process::id())).map_err(|_| Errno::INVAL)?;
                let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let fd = fs::openat(dir, &temporary, new, Mode::empty())?;
                (fd, Some(temporary))
            }
            fd => (fd?, None),
        };
        let this = Self { dir, fd: Some(fd), temporary };
        attributes::drop_acls(this.as_fd()?)?;
        Ok(this)
    }

    /// The file.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.fd.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Takes the file out for writing. [`Unnamed::put_back`] must follow.
    pub fn take(&mut self) -> Result<OwnedFd, Errno> {
        self.fd.take().ok_or(Errno::BADF)
    }

    /// Puts the file back.
    pub fn put_back(&mut self, fd: OwnedFd) {
        self.fd = Some(fd);
    }

    /// Gives the file its name, and returns the file; EEXIST for a name in use.
    pub fn publish(mut self, name: &CStr) -> Result<OwnedFd, Errno> {
        let fd = self.take()?;
        match self.temporary.take() {
            None => link(fd.as_fd(), (self.dir, name))?,
            Some(temporary) => {
                let renamed = rename((self.dir, &temporary), (self.dir, name), RenameFlags::NOREPLACE);
                if renamed.is_err() {
                    self.temporary = Some(temporary);
                }
                renamed?;
            }
        }
        Ok(fd)
    }
}

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // An error before this is the one to report.
            let _ = fs::unlinkat(self.dir, temporary, AtFlags::empty());
        }
    }
}

/// Gives an open file a further name.
pub fn link(file: BorrowedFd<'_>, to: Name<'_>) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::linkat(CWD, path, to.0, to.1, AtFlags::SYMLINK_FOLLOW)
}

/// Moves a name to another directory of the same file system.
pub fn rename(from: Name<'_>, to: Name<'_>, flags: RenameFlags) -> Result<(), Errno> {
    match fs::renameat_with(from.0, from.1, to.0, to.1, flags) {
        // A file system without the flag. A name in use is refused all the same, but for a race.
        Err(Errno::INVAL) if flags == RenameFlags::NOREPLACE => match walk::stat_at(to.0, to.1) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => fs::renameat(from.0, from.1, to.0, to.1),
            Err(errno) => Err(errno),
        },
        result => result,
    }
}
