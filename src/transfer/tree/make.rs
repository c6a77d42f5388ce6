//! Copies of single files: in a staging directory, in a private destination, or as one more hard link.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Staged, Walk};
use crate::sys::unnamed;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::problem::os_error;
use crate::transfer::Name;
use crate::transfer::file::{self, Ignore};
use crate::transfer::level::To;
use crate::transfer::remove::remove;
use crate::transfer::seals::descend;
use crate::transfer::staging::key;

/// A new or continued copy.
pub(super) struct Made {
    /// The open staging directory, and the name inside, of a copy not yet in its place.
    pub(super) staged: Option<(OwnedFd, CString)>,
    /// True for a copy made by this run.
    pub(super) fresh: bool,
}

impl Walk<'_, '_> {
    /// Copies one file, or makes a directory.
    pub(super) fn make(
        &mut self,
        (from, stat): (Name<'_>, &Stat),
        (to, there): (To<'_>, Option<&Stat>),
    ) -> Result<Made, Errno> {
        if let Some(there) = there {
            if stat.is_dir() && there.is_dir() {
                file::give(from, (stat, &self.transfer.copier.owners), to.name, there)?;
                return Ok(Made { staged: None, fresh: false });
            }
            if to.private {
                remove(to.name)?;
            } else if stat.is_dir() || there.is_dir() {
                return Err(Errno::EXIST);
            }
        }
        if to.private {
            self.copy((from, stat), to.name)?;
            return Ok(Made { staged: None, fresh: true });
        }
        self.stage((from, stat), (to, there.is_some()))
    }

    /// Makes a copy in a staging directory, or continues the unfinished one of an earlier run. The move to its place
    /// comes later.
    fn stage(
        &mut self,
        (from, stat): (Name<'_>, &Stat),
        (to, replaces): (To<'_>, bool),
    ) -> Result<Made, Errno> {
        let path = self.below_base();
        let stagings = self.transfer.stagings.as_mut().ok_or(Errno::INVAL)?;
        let number = stagings.number_near(to.name.0).map_err(|problem| problem.errno.unwrap_or(Errno::IO))?;
        let dir = stagings.get(number).dir().try_clone_to_owned().map_err(os_error)?;
        let key = key(&path);
        let left = if stagings.get(number).has_left(&key) {
            walk::stat_at(dir.as_fd(), key.as_c_str()).map(Some).or_else(|errno| match errno {
                Errno::NOENT => Ok(None),
                errno => Err(errno),
            })?
        } else {
            None
        };
        let at = (dir.as_fd(), key.as_c_str());
        let fresh = match left {
            Some(left) if stat.is_dir() && left.is_dir() => {
                file::give(from, (stat, &self.transfer.copier.owners), at, &left)?;
                false
            }
            Some(left) if !stat.is_dir() && self.is_whole((from, stat), (at, &left))? => false,
            left => {
                if left.is_some() {
                    remove(at)?;
                }
                self.copy((from, stat), at)?;
                true
            }
        };
        if stat.is_dir() {
            let dir = dir.try_clone().map_err(os_error)?;
            self.staged = Some(Staged { number, dir, key: key.clone(), path });
        } else {
            self.transfer.late.add(
                (number, key.clone()),
                (to.name.0, to.name.1.to_owned()),
                replaces,
                path,
            )?;
        }
        Ok(Made { staged: Some((dir, key)), fresh })
    }

    /// True if the copy left by an earlier run is complete. Its content may be missing on the disk: all of it is
    /// compared.
    fn is_whole(&mut self, from: (Name<'_>, &Stat), left: (Name<'_>, &Stat)) -> Result<bool, Errno> {
        if self.transfer.links.contains_key(&from.1.identity()) || left.1.links() > 1 {
            return Ok(false);
        }
        let ignore = Ignore { seals: true, owners: &self.transfer.copier.owners };
        Ok(file::difference(from, left, ignore, Some(self.progress), None)?.is_none())
    }

    /// Makes a copy at a free name in a directory of root alone; for a second hard link, a link.
    pub(super) fn copy(&mut self, (from, stat): (Name<'_>, &Stat), to: Name<'_>) -> Result<(), Errno> {
        if !stat.is_dir()
            && let Some(first) = self.transfer.links.get(&stat.identity())
        {
            match self.link(first, to) {
                // The first one was removed, is on another subvolume, or has the maximum of links.
                Err(Errno::NOENT | Errno::STALE | Errno::XDEV | Errno::MLINK) => {
                    self.transfer.links.remove(&stat.identity());
                }
                result => return result,
            }
        }
        let copier = &mut self.transfer.copier;
        let made = if self.transfer.direct {
            copier.make_whole(from, stat, to, self.progress)
        } else {
            copier.make(from, stat, to, self.progress)
        };
        if let Err(errno) = made {
            // Half a file must not come to its place with the rest.
            self.is_broken |= remove(to).is_err();
            return Err(errno);
        }
        if self.transfer.copier.was_unsteady() {
            self.transfer.unsteady.push(self.path.clone());
        }
        Ok(())
    }

    /// The path of the current file below the base.
    pub(super) fn below_base(&self) -> Vec<u8> {
        let mut path = self.transfer.base.as_ref().map_or_else(Vec::new, |(_, path)| path.clone());
        if !self.path.is_empty() {
            path.push(b'/');
            path.extend(&self.path);
        }
        path
    }

    /// Gives a copy made under another hard link one more name.
    fn link(&self, (identity, path): &(Identity, Vec<u8>), to: Name<'_>) -> Result<(), Errno> {
        let fd = self.open_copy(path)?;
        if walk::stat(fd.as_fd())?.identity() != *identity {
            return Err(Errno::STALE);
        }
        unnamed::link(fd.as_fd(), to)
    }

    /// Opens a file at the destination, by its path below the base, even if not yet in its place.
    fn open_copy(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if let Some(staged) = &self.staged
            && let Some(rest) = path
                .strip_prefix(staged.path.as_slice())
                .filter(|rest| rest.first().is_none_or(|it| *it == b'/'))
        {
            let top = walk::look(staged.dir.as_fd(), staged.key.as_c_str(), Mounts::Stay)?;
            return descend(top, rest);
        }
        if let (Some((number, key, rest)), Some(stagings)) =
            (self.transfer.late.find(path), &self.transfer.stagings)
        {
            let top = walk::look(stagings.get(number).dir(), key.as_c_str(), Mounts::Stay)?;
            return descend(top, rest);
        }
        let (base, _) = self.transfer.base.as_ref().ok_or(Errno::NOENT)?;
        let base = walk::open(*base, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay)?;
        descend(base, path)
    }
}
