//! The directories on the way down a tree, at the source and at the destination. Of a deep path only the last ones are
//! kept open; those above are reopened by `..`, and their identity is compared.

use std::ffi::CString;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, Advice, OFlags};
use rustix::io::Errno;

use super::Name;
use super::remove::parent;
use crate::sys::walk::{self, Identity, Mounts, Stat};

/// Number of open directories on the path.
const OPEN: usize = 16;
/// Number of files to read ahead of the current one.
pub const AHEAD: usize = 32;
/// Most bytes of each to read ahead.
pub const AHEAD_BYTES: u64 = 1 << 18;

/// A directory on the path, possibly closed and then reopened from a directory below.
pub struct Held {
    fd: Option<Rc<OwnedFd>>,
    /// File system and inode, which identify the directory.
    pub identity: Identity,
}

impl Held {
    /// An open directory.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let identity = walk::stat(fd.as_fd())?.identity();
        Ok(Self { fd: Some(Rc::new(fd)), identity })
    }

    /// Its descriptor.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.fd.as_ref().map(|fd| fd.as_fd()).ok_or(Errno::STALE)
    }

    /// The same, shared with a file inside for later work.
    pub fn share(&self) -> Option<Rc<OwnedFd>> {
        self.fd.clone()
    }

    /// Reopens the directory from one inside.
    fn reopen(&mut self, below: &Self) -> Result<(), Errno> {
        if self.fd.is_none() {
            self.fd = Some(Rc::new(parent(below.fd()?, self.identity)?));
        }
        Ok(())
    }
}

/// A directory of a running transfer.
pub struct Level {
    /// The source directory.
    pub source: Held,
    /// Its counterpart, if there is one.
    pub target: Option<Held>,
    /// True if the counterpart is in a staging directory or otherwise private.
    pub private: bool,
    /// True if this run made the counterpart.
    pub fresh: bool,
    /// True for the top of a copy in a staging directory, which is renamed to its place when complete.
    pub staged: bool,
    /// Its properties.
    pub stat: Stat,
    /// Its name at the destination.
    pub name: CString,
    /// The remaining names in the directory.
    pub names: std::vec::IntoIter<CString>,
    /// Number of its names.
    pub count: usize,
    /// The length of the path of its parent.
    pub end: usize,
    /// The number of names, of those left to do, with data read ahead.
    pub ahead: usize,
}

impl Level {
    /// The next name. If all files are copied, the kernel first begins to read the next files: only a hint, without
    /// which a copy waits twice for the disk for each small file.
    pub fn next(&mut self) -> Option<CString> {
        if self.fresh && self.ahead <= AHEAD / 2 {
            let names = self.names.as_slice();
            if let Ok(dir) = self.source.fd() {
                names.iter().take(AHEAD).skip(self.ahead).for_each(|name| read_ahead((dir, name)));
            }
            self.ahead = names.len().min(AHEAD);
        }
        self.ahead = self.ahead.saturating_sub(1);
        self.names.next()
    }
}

fn read_ahead((dir, name): Name<'_>) {
    let Ok(stat) = walk::stat_at(dir, name) else { return };
    let Some(length) = NonZeroU64::new(stat.size().min(AHEAD_BYTES)).filter(|_| stat.is_file()) else {
        return;
    };
    if let Ok(file) = walk::open(dir, name, OFlags::RDONLY, Mounts::Stay) {
        let _ = fs::fadvise(&file, 0, Some(length), Advice::WillNeed);
    }
}

/// The destination of one file.
#[derive(Clone, Copy)]
pub struct To<'t> {
    /// Its directory and name.
    pub name: Name<'t>,
    /// True if only this process can reach the directory.
    pub private: bool,
    /// True if this run found the directory empty.
    pub fresh: bool,
}

/// Closes the directory beyond the open ones. The destination of a staged directory's rename stays open.
pub fn close_far(levels: &mut [Level]) {
    let Some(far) = levels.len().checked_sub(OPEN + 1) else { return };
    let receives = levels[far + 1].staged;
    let level = &mut levels[far];
    level.source.fd = None;
    if let Some(target) = level.target.as_mut().filter(|_| !receives) {
        target.fd = None;
    }
}

/// Opens a directory again, at the source and at the destination, from one below.
pub fn reopen(above: &mut Level, below: &Level) -> Result<(), Errno> {
    above.source.reopen(&below.source)?;
    match (&mut above.target, &below.target) {
        (Some(above), Some(below)) => above.reopen(below),
        _ => Ok(()),
    }
}
