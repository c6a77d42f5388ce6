//! Guards for missing entries: a directory or file with mode 000, mounted read-only, so that a service fails with an
//! error and writes no data to memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::manifest::AbsPath;
use crate::manifest::options::BindOptions;
use crate::runtime;
use crate::sys::mount_api;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::problem::{Problem, Result};

/// The directory and the file mounted wherever a guard is needed. They are on /run, which survives switch-root.
#[derive(Debug)]
pub struct Guard {
    directory: Option<(OwnedFd, Identity)>,
    file: Option<(OwnedFd, Identity)>,
    /// Targets whose guard was removed by this run, each with true for a directory.
    pub removed: Vec<(AbsPath, bool)>,
}

impl Guard {
    /// Options of its mount.
    pub const OPTIONS: BindOptions =
        BindOptions::RO.and(BindOptions::NOSUID).and(BindOptions::NODEV).and(BindOptions::NOEXEC);

    /// Guards of earlier runs.
    pub fn find() -> Result<Self> {
        Ok(Self { directory: open("directory")?, file: open("file")?, removed: Vec::new() })
    }

    /// By which they are known where they are mounted.
    #[must_use]
    pub fn identities(&self) -> [Option<Identity>; 2] {
        [&self.directory, &self.file].map(|node| node.as_ref().map(|(_, identity)| *identity))
    }

    /// The guard for a directory, or for any other type; created on first use.
    pub fn node(&mut self, directory: bool) -> Result<BorrowedFd<'_>> {
        let (slot, name) =
            if directory { (&mut self.directory, "directory") } else { (&mut self.file, "file") };
        if slot.is_none() {
            make(name, directory)?;
            *slot = open(name)?;
        }
        slot.as_ref()
            .map(|(fd, _)| fd.as_fd())
            .ok_or_else(|| Problem::new(format!("the guard {} has gone", path(name))))
    }
}

fn open(name: &str) -> Result<Option<(OwnedFd, Identity)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(CWD, path(name), flags, Mode::empty())
        .and_then(|fd| walk::stat(fd.as_fd()).map(|stat| (fd, stat.identity())));
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Problem::os(format!("cannot open the guard {}", path(name)), errno)),
    }
}

fn make(name: &str, directory: bool) -> Result<()> {
    let folder = format!("{}/guard", runtime::DIRECTORY);
    runtime::directory(runtime::DIRECTORY)?;
    let folder = runtime::directory(&folder)?;
    let failed = |errno| Problem::os(format!("cannot make the guard {}", path(name)), errno);
    let made = if directory {
        rustix::fs::mkdirat(&folder, name, Mode::empty())
    } else {
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, new, Mode::empty()).map(drop)
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(failed),
    }
}

fn path(name: &str) -> String {
    format!("{}/guard/{name}", runtime::DIRECTORY)
}

/// Tells if a path may be an empty file or directory created by a run as a mount point: mode 000 guards the path after
/// an unmount. Below a setgid directory the mode has the setgid bit, too.
#[must_use]
pub fn may_be_place(stat: &Stat) -> bool {
    let is_so = (stat.is_file() && stat.size() == 0) || stat.is_dir();
    is_so && stat.mode() & !0o2000 == 0 && !stat.is_mount_root()
}

/// The same for an open file.
#[must_use]
pub fn is_place(fd: BorrowedFd<'_>, stat: &Stat) -> bool {
    may_be_place(stat) && (stat.is_file() || walk::names(fd, 1).is_ok_and(|names| names.is_empty()))
}

/// The directory without the mounts inside, and the file or directory covered by mounts at `name`; none after an
/// error.
#[must_use]
pub fn covered(dir: BorrowedFd<'_>, name: &str) -> Option<(OwnedFd, OwnedFd, Stat)> {
    let dir = mount_api::without_mounts(dir).ok()?;
    let place = walk::look(dir.as_fd(), name, Mounts::Enter).ok()?;
    let stat = walk::stat(place.as_fd()).ok()?;
    Some((dir, place, stat))
}
