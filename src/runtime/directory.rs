//! Directories below /run writable by root alone.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::walk::{self, Stat};
use crate::text::problem::{Problem, Result};

/// Directory of the state kept between runs.
pub const DIRECTORY: &str = "/run/imp-mount";

/// Opens a directory writable by root alone, in an existing parent. A missing directory is created with mode 0755,
/// independent of the umask.
pub fn directory(path: &str) -> Result<OwnedFd> {
    let failed = |errno| Problem::os(format!("cannot use {path}"), errno);
    let made = match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(failed(errno)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    if made {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(failed)?;
    }
    let stat = walk::stat(fd.as_fd()).map_err(failed)?;
    if !is_roots(&stat) {
        return Err(Problem::new(format!("cannot use {path}: others than root can write to it"))
            .remedy(format!("look who wrote there, then `chown root: {path}; chmod go-w {path}`")));
    }
    Ok(fd)
}

/// True for a path writable by root alone, except a link.
#[must_use]
pub fn is_roots(stat: &Stat) -> bool {
    stat.uid() == 0 && stat.mode() & 0o022 == 0 && stat.file_type() != FileType::Symlink
}
