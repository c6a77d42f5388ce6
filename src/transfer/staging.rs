//! STORE/.imp-mount, which only root can enter, and its part `staging`, in which copies are made before they are renamed into place.
//!
//! rename(2) does not leave a btrfs subvolume: a subvolume nested in the store gets a staging directory of its own.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::Name;
use super::remove::remove;
use crate::manifest::AbsPath;
pub use crate::manifest::path::PRIVATE;
use crate::sys::attributes::{self, Handle, OWN, Unsupported};
use crate::sys::owners::Owners;
use crate::sys::unnamed::rename;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result, describe_io, os_error};

/// The name of a single unfinished file in a staging directory.
pub const NEW: &CStr = c"new";
/// Starts the names of copies of trees.
const KEY: &str = "tree-";
/// Its part with unfinished copies.
pub const STAGING: &str = "staging";

/// The attribute of [`PRIVATE`], set by root alone.
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
    /// The names in the directory at its opening: unfinished copies of earlier runs.
    left: Vec<CString>,
}

impl Staging {
    /// Opens the staging directory of the file system, or subvolume, with `top` as its top directory on the store.
    pub fn open(top: BorrowedFd<'_>) -> Result<Self> {
        let failed = |errno| unprepared(&format!("{PRIVATE}/{STAGING}"), errno);
        let top = readable(top, c".").map_err(failed)?;
        let private = private(top.as_fd())?;
        let dir = part_of(private.as_fd(), STAGING)?;
        fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => Problem::new(format!("another process is at work in {PRIVATE}/{STAGING}"))
                .remedy("wait until it has ended, then run again"),
            errno => failed(errno),
        })?;
        let device = walk::stat(dir.as_fd()).map_err(failed)?.device();
        let mut left = walk::names(dir.as_fd(), usize::MAX).map_err(failed)?;
        left.sort_unstable();
        Ok(Self { top, private, dir, device, left })
    }

    /// True if an earlier run left an unfinished copy of this name.
    #[must_use]
    pub fn has_left(&self, name: &CStr) -> bool {
        self.left.binary_search_by(|left| left.as_c_str().cmp(name)).is_ok()
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

    /// Makes an empty directory like the model, and renames the directory to its place.
    fn make_directory(
        &self,
        (dir, name): (BorrowedFd<'_>, &str),
        (model, owners): (Option<OwnedFd>, &Owners),
    ) -> Result<OwnedFd, Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        remove(self.at(NEW))?;
        let made = directory(self.dir(), NEW)?;
        match model {
            Some(fd) => {
                let (stat, now) = (walk::stat(fd.as_fd())?, walk::stat(made.as_fd())?);
                let source = Handle { fd, path_only: false };
                let target = Handle { fd: made.try_clone().map_err(os_error)?, path_only: false };
                attributes::give(&source, (&owners.of(stat), owners), (&target, &now), Unsupported::Leave)?;
            }
            None => fs::fchmod(&made, Mode::from_raw_mode(0o755))?,
        }
        let place = rename(self.at(NEW), (dir, &name), RenameFlags::NOREPLACE);
        place.map(|()| made)
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

    /// Removes the directory. One with an unfinished copy, for the next run, stays.
    pub fn close(self) -> Result<(), Errno> {
        let gone = |result| match result {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            result => result,
        };
        gone(fs::unlinkat(&self.private, STAGING, AtFlags::REMOVEDIR))?;
        gone(fs::unlinkat(&self.top, PRIVATE, AtFlags::REMOVEDIR))
    }
}

/// Removes the remains of killed runs in the staging directory of a store, except copies of these names, and the
/// directory once empty.
pub fn tidy(store: BorrowedFd<'_>, kept: &dyn Fn(&CStr) -> bool) -> Result<()> {
    let failed = |errno| Problem::os("cannot remove the staging directory on the store", errno);
    match walk::stat_at(store, PRIVATE) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(failed)?,
    };
    let staging = Staging::open(store)?;
    staging.clear(kept).map_err(failed)?;
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
        let store = store.try_clone_to_owned().map_err(|error| Problem::new(describe_io(&error)))?;
        Ok(Self { store, open: vec![staging] })
    }

    /// The one of the store itself.
    #[must_use]
    pub fn main(&self) -> &Staging {
        &self.open[0]
    }

    /// The one from which a file can be renamed into this directory of the store.
    pub fn near(&mut self, dir: BorrowedFd<'_>) -> Result<&Staging> {
        let number = self.number_near(dir)?;
        Ok(&self.open[number])
    }

    /// Its number.
    pub fn number_near(&mut self, dir: BorrowedFd<'_>) -> Result<usize> {
        let failed = |errno| Problem::os("cannot look at the directory on the store", errno);
        let device = walk::stat(dir).map_err(failed)?.device();
        if let Some(found) = self.open.iter().position(|staging| staging.device == device) {
            return Ok(found);
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
        Ok(self.open.len() - 1)
    }

    /// An open one, by its number.
    #[must_use]
    pub fn get(&self, number: usize) -> &Staging {
        &self.open[number]
    }

    /// Every open one.
    pub fn all(&self) -> impl Iterator<Item = &Staging> {
        self.open.iter()
    }

    /// Opens a directory of the store. Missing parts are created like the directory returned by `model` for their
    /// paths, or as root's with mode 0755, and are moved to their places when complete.
    pub fn directory(
        &mut self,
        path: &AbsPath,
        model: &mut dyn FnMut(&AbsPath) -> Option<OwnedFd>,
        owners: &Owners,
    ) -> Result<OwnedFd> {
        let own = |errno| Problem::os("cannot open the store", errno);
        let mut dir = readable(self.store.as_fd(), c".").map_err(own)?;
        let mut done = AbsPath::root();
        for name in path.components() {
            done = done.child(name);
            let failed =
                |dir: &OwnedFd, errno| walk::explain(dir.as_fd(), done.as_str(), errno, "a directory");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            dir = match walk::open(dir.as_fd(), name, flags, Mounts::Stay) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    let staging = self.near(dir.as_fd())?;
                    let made = staging.make_directory((dir.as_fd(), name), (model(&done), owners));
                    match made {
                        // Another process was faster.
                        Err(Errno::EXIST) => walk::open(dir.as_fd(), name, flags, Mounts::Stay),
                        made => made,
                    }
                    .map_err(|errno| failed(&dir, errno))?
                }
                Err(errno) => return Err(failed(&dir, errno)),
            };
        }
        Ok(dir)
    }

    /// Removes empty ones.
    pub fn close(self) -> Result<(), Errno> {
        self.open.into_iter().rev().try_for_each(Staging::close)
    }
}

/// The name in a staging directory of the directory with this path.
#[must_use]
pub fn key(path: &[u8]) -> CString {
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_XZ);
    let mut text = String::from(KEY);
    // Writing to a String cannot fail.
    let _ = write!(text, "{:016x}", crc.checksum(path));
    CString::new(text).unwrap_or_default()
}

/// True for the name of a copy of [`Transfer`](super::tree::Transfer) in a staging directory.
#[must_use]
pub fn is_key(name: &CStr) -> bool {
    name.to_bytes().starts_with(KEY.as_bytes())
}

/// True for a directory created by imp-mount for itself. Only reads.
#[must_use]
pub fn is_private((dir, name): Name<'_>, stat: &Stat) -> bool {
    let is_roots = stat.is_dir() && stat.uid() == 0 && stat.mode() & 0o777 == 0o700;
    let is_marked = || {
        let fd = walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
        fs::fgetxattr(&fd, mark(), &mut [0_u8; 0][..])
    };
    // A file system without such attributes: the name, the owner and the mode must do.
    is_roots && matches!(is_marked(), Ok(_) | Err(Errno::NOTSUP))
}

/// The problem of an unusable file at STORE/.imp-mount; none without one. Read-only.
#[must_use]
pub fn flaw(top: BorrowedFd<'_>) -> Option<Problem> {
    let stat = walk::stat_at(top, PRIVATE).ok()?;
    let is_usable = stat.is_dir() && stat.uid() == 0 && stat.mode() & 0o777 == 0o700;
    (!is_usable).then(|| foreign(PRIVATE))
}

/// Opens a part of STORE/.imp-mount for reading; none if missing.
pub fn existing(top: BorrowedFd<'_>, part: &'static str) -> Result<Option<OwnedFd>> {
    let failed = |errno| Problem::os(format!("cannot look at {PRIVATE}/{part} on the store"), errno);
    let open = |dir: BorrowedFd<'_>, name: &'static str| {
        let fd = match walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(foreign(name)),
            fd => fd.map_err(failed)?,
        };
        if is_closed(fd.as_fd()).map_err(failed)? { Ok(Some(fd)) } else { Err(foreign(name)) }
    };
    match open(top, PRIVATE)? {
        Some(private) => open(private.as_fd(), part),
        None => Ok(None),
    }
}

/// Opens a part of STORE/.imp-mount, created if missing.
pub fn part(top: BorrowedFd<'_>, part: &'static str) -> Result<OwnedFd> {
    let private = private(top)?;
    part_of(private.as_fd(), part)
}

fn part_of(private: BorrowedFd<'_>, part: &'static str) -> Result<OwnedFd> {
    closed((private, part), &format!("{PRIVATE}/{part}"))
}

/// Opens STORE/.imp-mount, created if missing. A directory open to users other than root, or not created by imp-mount,
/// is refused.
pub fn private(top: BorrowedFd<'_>) -> Result<OwnedFd> {
    let dir = closed((top, PRIVATE), PRIVATE)?;
    match is_marked(dir.as_fd()) {
        Ok(true) => Ok(dir),
        Ok(false) => Err(foreign(PRIVATE)),
        Err(errno) => Err(unprepared(PRIVATE, errno)),
    }
}

/// Opens one of these directories, created if missing.
fn closed((parent, name): (BorrowedFd<'_>, &str), path: &str) -> Result<OwnedFd> {
    let opened = directory(parent, name).and_then(|dir| Ok((is_closed(dir.as_fd())?, dir)));
    match opened {
        Ok((true, dir)) => Ok(dir),
        Ok((false, _)) | Err(Errno::NOTDIR | Errno::LOOP) => Err(foreign(path)),
        Err(errno) => Err(unprepared(path, errno)),
    }
}

fn unprepared(path: &str, errno: Errno) -> Problem {
    Problem::os(format!("cannot prepare {path} on the store"), errno)
}

/// A directory of root alone, created if missing.
fn directory<N: Arg + Copy>(parent: BorrowedFd<'_>, name: N) -> Result<OwnedFd, Errno> {
    let made = match fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let dir = walk::open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
    // A setgid directory above passes on its group and the bit, and a default ACL its entries.
    if made && walk::stat(dir.as_fd())?.uid() == rustix::process::geteuid().as_raw() {
        attributes::drop_acls(dir.as_fd())?;
        fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

/// True if only root can enter a directory.
fn is_closed(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = walk::stat(dir)?;
    Ok(stat.uid() == rustix::process::geteuid().as_raw() && stat.mode() & 0o777 == 0o700)
}

/// True if imp-mount created a directory; an empty one is marked as such.
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
