//! The directories of a transfer: how one is opened, and completed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Staged, Walk};
use crate::sys::attributes;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::problem::{Result, os_error};
use crate::transfer::Name;
use crate::transfer::late::Times;
use crate::transfer::level::{Held, Level, To};
use crate::transfer::remove::remove;

impl Walk<'_, '_> {
    /// Opens a directory and the one at the destination. Both must be the ones looked at, but for a private destination.
    pub(super) fn enter(
        &mut self,
        from: Name<'_>,
        to: Option<To<'_>>,
        (stat, there): (Stat, Option<Identity>),
    ) -> Result<Option<Level>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
        let listed = walk::open(from.0, from.1, flags, Mounts::Stay).and_then(|fd| {
            let source = Held::new(fd)?;
            if source.identity != stat.identity() {
                return Err(Errno::NOENT);
            }
            let names = walk::names(source.fd()?, usize::MAX)?;
            Ok((source, names))
        });
        let (source, mut names) = match listed {
            Ok(listed) => listed,
            Err(errno) if gone.contains(&errno) => return Ok(None),
            Err(errno) => return self.fail("list", errno).map(|()| None),
        };
        names.sort_unstable();
        let opened = to.map(|to| walk::open(to.name.0, to.name.1, flags, Mounts::Stay));
        let target = match opened.transpose() {
            Ok(target) => target,
            Err(errno) if gone.contains(&errno) => None,
            Err(errno) => return Err(self.failed("open the destination of", errno)),
        };
        let (private, fresh) = to.map_or((false, false), |to| (to.private, to.fresh));
        if private
            && !fresh
            && let (true, Some(target)) = (self.transfer.changes(), &target)
        {
            let there =
                walk::names(target.as_fd(), usize::MAX).map_err(|errno| self.failed("list", errno))?;
            for name in there.iter().filter(|name| names.binary_search(name).is_err()) {
                remove((target.as_fd(), name)).map_err(|errno| self.failed("clear", errno))?;
            }
        }
        let target = target.map(Held::new).transpose();
        let target = target.map_err(|errno| self.failed("look at the destination of", errno))?;
        let target = target.filter(|target| private || Some(target.identity) == there);
        let level = Level {
            source,
            target,
            private,
            fresh,
            staged: false,
            stat,
            name: CString::default(),
            count: names.len(),
            names: names.into_iter(),
            end: 0,
            ahead: 0,
        };
        Ok(Some(level))
    }

    /// Gives a directory its time after its content. A staged one is complete then.
    pub(super) fn leave(&mut self, level: &mut Level, place: Option<BorrowedFd<'_>>) -> Result<()> {
        self.leave_times(level)?;
        let Some(Staged { number, key, path, .. }) = self.staged.take_if(|_| level.staged) else {
            return Ok(());
        };
        let Some(place) = place else { return Ok(()) };
        let name = std::mem::take(&mut level.name);
        let added = self.transfer.late.add((number, key), (place, name), false, path);
        added.map_err(|errno| self.failed("open the destination of", errno))
    }

    fn leave_times(&mut self, level: &Level) -> Result<()> {
        let (true, Some(target)) = (self.transfer.times || level.private, &level.target) else {
            return Ok(());
        };
        if !self.transfer.changes() && !self.transfer.times {
            return Ok(());
        }
        let failed = |walk: &Self, errno| walk.failed("give the time of the last change to", errno);
        let dir = target.fd().map_err(|errno| failed(self, errno))?;
        if level.private {
            return attributes::give_times_to(dir, &level.stat).map_err(|errno| failed(self, errno));
        }
        let dir = dir.try_clone_to_owned().map_err(|error| failed(self, os_error(error)))?;
        let times = Times { dir, stat: level.stat, names: level.count };
        if self.transfer.late.is_empty() {
            return times.give().map_err(|errno| failed(self, errno));
        }
        // A rename into the directory changes its time.
        self.transfer.late.add_times(times);
        if self.transfer.late.is_full() { self.transfer.publish() } else { Ok(()) }
    }
}
