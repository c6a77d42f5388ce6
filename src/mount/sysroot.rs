//! The directory at which the root is mounted, and the kind of file system there.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::manifest::AbsPath;
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// statfs(2)'s magic number of tmpfs.
pub const TMPFS_MAGIC: i64 = 0x0102_1994;
/// statfs(2)'s magic number of ramfs.
pub const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// The directory at which the root is, or is to be.
#[derive(Debug)]
pub struct Sysroot {
    /// Its path, without links.
    pub path: AbsPath,
    /// The open directory or file.
    pub fd: OwnedFd,
}

impl Sysroot {
    /// Opens the sysroot.
    pub fn open(path: &str) -> Result<Self> {
        let failed = |errno| {
            Problem::os(format!("cannot open the sysroot {}", escape::name(path)), errno)
                .remedy("create it, or name another one with --sysroot")
        };
        let fd = walk::base(path).map_err(failed)?;
        let real = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        let real = real.map_err(|errno| {
            Problem::os("cannot read the path of the sysroot from /proc/self/fd", errno).remedy("mount /proc")
        })?;
        let text = real.to_str().map_err(|_| failed(Errno::ILSEQ))?;
        let real = AbsPath::normal(text).map_err(Problem::new)?;
        Ok(Self { path: real, fd })
    }

    /// True for the root of the running system.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.path.is_root()
    }
}

/// True if an open file is the root of a mount.
pub fn is_mount_root(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(walk::stat(fd).map_err(|errno| Problem::os("cannot look at the sysroot", errno))?.is_mount_root())
}

/// True if an open file is on a tmpfs or ramfs. For file systems stored on one see [`super::judge`].
pub fn is_volatile(fd: BorrowedFd<'_>) -> Result<bool> {
    let magic = magic(fd).map_err(|errno| Problem::os("cannot ask for the file system", errno))?;
    Ok(magic == TMPFS_MAGIC || magic == RAMFS_MAGIC)
}

/// Magic number of a file system, by statfs(2).
pub fn magic(fd: BorrowedFd<'_>) -> Result<i64, Errno> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    #[allow(clippy::unnecessary_cast, reason = "the type differs by architecture")]
    Ok(magic as i64)
}
