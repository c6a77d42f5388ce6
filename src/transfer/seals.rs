//! Inode flags against changes (`chattr +i`, `chattr +a`): set after all other steps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{IFlags, OFlags};
use rustix::io::Errno;

use crate::sys::attributes;
use crate::sys::walk::{self, Identity, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// Opens a path below an open directory, with `O_PATH`.
pub fn descend(from: OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut fd = from;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        fd = walk::look(fd.as_fd(), name, Mounts::Stay)?;
    }
    Ok(fd)
}

/// The flags of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its path below the base.
    pub path: Vec<u8>,
    /// The copy, possibly no longer at this path.
    pub identity: Identity,
    /// `chattr +i`, `chattr +a` or both.
    pub flags: IFlags,
}

/// Sets `chattr +i` and `+a` on copies in their places, by their paths below `base`. Files exchanged meanwhile are
/// skipped, as are file systems without these flags.
pub fn set(base: BorrowedFd<'_>, seals: &[Seal]) -> Result<()> {
    // The deepest first: an immutable directory takes no changes.
    for Seal { path, identity, flags } in seals.iter().rev() {
        let failed =
            |errno| Problem::os(format!("cannot set the inode flags of {}", escape::name(path)), errno);
        let base = walk::open(base, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay).map_err(failed)?;
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path.as_slice()),
        };
        let opened = descend(base, above).and_then(|dir| {
            let stat = walk::stat_at(dir.as_fd(), name)?;
            if !stat.is_file() && !stat.is_dir() {
                return Err(Errno::NOENT);
            }
            let fd = walk::open(dir.as_fd(), name, OFlags::RDONLY, Mounts::Stay)?;
            if walk::stat(fd.as_fd())?.identity() == *identity { Ok(fd) } else { Err(Errno::NOENT) }
        });
        match opened.and_then(|fd| attributes::seal(fd.as_fd(), *flags)) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NOTTY | Errno::NOTSUP) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}
