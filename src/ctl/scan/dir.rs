//! Directories of a walk, and system calls on them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::group::{Found, Group, Owner, Row, Subject, Totals};
use super::parts::Parts;
use super::rules::{State, Verdict};

/// A directory during reading: open, or closed until its turn.
#[derive(Debug)]
pub struct Dir<F = OwnedFd> {
    pub fd: F,
    /// Number of levels below the start of the walk.
    pub depth: usize,
    /// Its totals.
    pub group: Arc<Group>,
    /// True for the group's own directory, false for one below.
    pub own: bool,
    /// True if disposable.
    pub throw_away: bool,
    /// The mount of the walk.
    pub mount: u64,
    /// The only requested name.
    pub only: Option<Box<[u8]>>,
}

impl Dir {
    /// True if each directory inside is a separate group, and each file a line.
    pub fn is_split(&self) -> bool {
        self.own && self.group.is_split()
    }
}

impl<F> Dir<F> {
    /// The same with another descriptor.
    pub fn with<G>(self, fd: G) -> Dir<G> {
        let Self { depth, group, own, throw_away, mount, only, .. } = self;
        Dir { fd, depth, group, own, throw_away, mount, only }
    }
}

/// A name in a directory.
pub fn join(mut path: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Path of a group.
pub struct Place {
    /// Its path.
    pub path: Vec<u8>,
    /// The group that includes this one's sums.
    pub parent: Option<Arc<Group>>,
    /// True if disposable.
    pub throw_away: bool,
    /// True if in /etc.
    pub etc: bool,
    /// Maximum of listed parts.
    pub parts: usize,
}

/// A group in which nothing was found yet.
pub fn group(place: Place, state: State, verdict: Verdict, stat: &Statx) -> Group {
    let row = row(place.path.clone(), Subject::Directory, stat, place.throw_away);
    let totals = Totals { allocated: stat.stx_blocks * 512, ..Totals::default() };
    Group {
        parent: place.parent,
        path: place.path,
        state,
        shared: verdict.shared,
        etc: place.etc,
        divided: place.parts > 0,
        row,
        found: Mutex::new(Found::with(totals, Parts::new(place.parts))),
    }
}

/// A line of a scanned file.
pub fn row(path: Vec<u8>, subject: Subject, stat: &Statx, throw_away: bool) -> Row {
    let owner = Owner { uid: stat.stx_uid, gid: stat.stx_gid, mode: stat.stx_mode & 0o7777 };
    Row { throw_away, ..Row::new(path, subject, totals(stat), owner) }
}

/// Amount of one file.
pub fn totals(stat: &Statx) -> Totals {
    Totals {
        files: 1,
        allocated: stat.stx_blocks * 512,
        apparent: stat.stx_size,
        newest: Some((stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec)),
    }
}

/// The file at a name.
pub fn look(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Statx, Errno> {
    // STATX_MNT_ID is Linux 5.8. A device number is no help: a bind mount of the same disk has the same.
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, wanted)
}

/// Opens a directory for reading.
pub fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Not even the times of access change, where the owner or root looks.
    match fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Path of an open file, seen from this process; empty for `/`.
pub fn place(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let path =
        fs::readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?.into_bytes();
    Some(if path == b"/" { Vec::new() } else { path })
}
