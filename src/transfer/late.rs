//! Complete copies in a staging directory, moved to their places together: after a power cut a name has either the old
//! file or the whole copy.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{RenameFlags, syncfs};
use rustix::io::Errno;

use super::file;
use super::remove::remove;
use super::staging::Stagings;
use crate::sys::attributes;
use crate::sys::unnamed::rename;
use crate::sys::walk::{self, Identity, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, os_error};

/// Directories kept open until the copies are in their places.
const PLACES: usize = 64;
/// The maximum of waiting copies.
const COPIES: usize = 4096;

/// The copies, in order.
#[derive(Debug, Default)]
pub struct Late {
    copies: Vec<Waiting>,
    /// The number of each copy by its path below the base.
    paths: HashMap<Vec<u8>, usize>,
    /// The staging directories, by their numbers, and the names taken there.
    keys: HashSet<(usize, CString)>,
    places: Vec<(Identity, OwnedFd)>,
    times: Vec<Times>,
}

/// One copy.
#[derive(Debug)]
struct Waiting {
    /// The number of its staging directory, and its name there.
    staged: (usize, CString),
    /// The number of its directory, and its name there.
    place: (usize, CString),
    /// True if the copy replaces another file.
    replaces: bool,
    path: Vec<u8>,
}

/// A directory, and the modification time of its source.
#[derive(Debug)]
pub struct Times {
    /// The directory.
    pub dir: OwnedFd,
    /// The properties of the source.
    pub stat: Stat,
    /// Number of names in the source.
    pub names: usize,
}

impl Times {
    /// Gives the directory the time, if its content equals the source's.
    pub fn give(&self) -> Result<(), Errno> {
        let now = walk::stat(self.dir.as_fd())?;
        if now.modified() == self.stat.modified()
            || walk::names(self.dir.as_fd(), usize::MAX)?.len() != self.names
        {
            return Ok(());
        }
        match attributes::give_times_to(self.dir.as_fd(), &self.stat) {
            // `chattr +a` and `+i` forbid the change.
            Err(Errno::PERM) if !now.seals().is_empty() => Ok(()),
            result => result,
        }
    }
}

impl Late {
    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.times.is_empty()
    }

    /// True if no more can wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.copies.len() >= COPIES || self.places.len() + self.times.len() >= PLACES
    }

    /// True if a copy waits under this name in a staging directory. Two paths can have the same name there, though not by chance.
    #[must_use]
    pub fn has(&self, staged: &(usize, CString)) -> bool {
        self.keys.contains(staged)
    }

    /// Adds a copy.
    pub fn add(
        &mut self,
        staged: (usize, CString),
        (dir, name): (BorrowedFd<'_>, CString),
        replaces: bool,
        path: Vec<u8>,
    ) -> Result<(), Errno> {
        let identity = walk::stat(dir)?.identity();
        // Most have the same directory as the one before.
        let known = self.places.iter().rposition(|(other, _)| *other == identity);
        if known.is_none() {
            let dir = dir.try_clone_to_owned().map_err(os_error)?;
            self.places.push((identity, dir));
        }
        let place = known.unwrap_or(self.places.len() - 1);
        self.paths.insert(path.clone(), self.copies.len());
        self.keys.insert(staged.clone());
        self.copies.push(Waiting { staged, place: (place, name), replaces, path });
        Ok(())
    }

    /// Adds a directory in which copies come to their places.
    pub fn add_times(&mut self, times: Times) {
        self.times.push(times);
    }

    /// The staging directory of a path, the name of the copy inside, and the rest of the path.
    #[must_use]
    pub fn find<'p>(&self, path: &'p [u8]) -> Option<(usize, &CString, &'p [u8])> {
        if self.copies.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        std::iter::once(path.len()).chain(ends).find_map(|end| {
            let copy = &self.copies[*self.paths.get(&path[..end])?];
            Some((copy.staged.0, &copy.staged.1, &path[end..]))
        })
    }

    /// Waits until all waiting copies are on the disk, and moves them to their places. After an error the others are
    /// still moved; the first error is returned.
    pub fn publish(&mut self, stagings: &Stagings) -> Result<()> {
        if !self.copies.is_empty() {
            let failed = |errno| Problem::os("cannot wait until the copies are on the disk", errno);
            syncfs(stagings.main().dir()).map_err(failed)?;
        }
        let mut result = Ok(());
        for copy in self.copies.drain(..) {
            let staging = stagings.get(copy.staged.0);
            let from = staging.at(&copy.staged.1);
            let to = (self.places[copy.place.0].1.as_fd(), copy.place.1.as_c_str());
            let flags = if copy.replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            let moved = match rename(from, to, flags) {
                // An immutable file is not replaced.
                Err(Errno::PERM) if copy.replaces => file::unseal(to).and_then(|()| rename(from, to, flags)),
                moved => moved,
            };
            if let Err(errno) = moved {
                // If another process created or removed the place, the copy is useless. A failed removal leaves a
                // leftover.
                if matches!(errno, Errno::EXIST | Errno::NOENT | Errno::ISDIR | Errno::NOTDIR) {
                    let _ = remove(from);
                }
                let problem = Problem::os(
                    format!("cannot move the copy of {} to its place", escape::name(&copy.path)),
                    errno,
                );
                result = result.and(Err(problem));
            }
        }
        self.paths.clear();
        self.keys.clear();
        self.places.clear();
        for times in self.times.drain(..) {
            let failed = |errno| Problem::os("cannot give a directory the time of its last change", errno);
            result = result.and(times.give().map_err(failed));
        }
        result
    }
}
