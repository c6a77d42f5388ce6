//! Comparison of two trees, and transfer of the differences.
//!
//! A directory missing at the destination is completed in a staging directory and moved to its place by one
//! rename(2), as is a single file. No link is followed, no other file system is entered, and the depth is unlimited:
//! of a deep path only the last directories are kept open.

mod ahead;
mod directory;
mod found;
mod make;

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Name;
use super::content::Digest;
use super::file::{self, Copier, Ignore};
use super::late::Late;
use super::level::{Held, Level, To, close_far, reopen};
use super::remove::remove;
use super::seals::Seal;
use super::staging::{Stagings, key};
use crate::sys::attributes::Unsupported;
use crate::sys::walk::{self, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

use ahead::Ahead;
pub use found::{Choice, Decide, Found, Links, State};
use make::Made;

/// Failures before a transfer gives up.
const FAILURES: usize = 100;

/// Options and state of a transfer; by default the tree is only compared.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent choice of the caller")]
pub struct Transfer<'t> {
    /// The base directory of paths in [`Links`], and the path of the destination below the base.
    pub base: Option<(BorrowedFd<'t>, Vec<u8>)>,
    /// Staging directories for copies; none if nothing is changed.
    pub stagings: Option<&'t mut Stagings>,
    /// True for copies directly in a private destination, without staging directories. A file gets its name when
    /// complete.
    pub direct: bool,
    /// True if the destination is a private directory: files are created in place, and files missing at the source are
    /// removed.
    pub mirror: bool,
    /// True if directories are given their times in the end.
    pub times: bool,
    /// True if the content of files is compared.
    pub read: bool,
    /// True if [`Found::digest`] is wanted.
    pub digest: bool,
    /// True if the kernel reads several files before their content is compared, with [`Transfer::read`] and where nothing is changed. A
    /// decision about a file comes later than some about others then, and has no [`Found::digest`].
    pub ahead: bool,
    /// Hard links of earlier transfers and of this one.
    pub links: Links,
    /// Copies of files with `chattr +i` or `+a`: their paths below [`Transfer::base`]. The flags are set by
    /// [`super::seals::set`] after all other steps.
    pub seals: Vec<Seal>,
    /// Makes the copies.
    pub copier: Copier,
    /// True if copies are left for [`Transfer::publish`] by the end of a run.
    pub batch: bool,
    /// The copies waiting for their move.
    pub late: Late,
    /// Failures with single files, with their paths below the top of the tree; the other files are transferred.
    /// Without this list the first failure ends a run.
    pub failures: Option<Vec<(Vec<u8>, Problem)>>,
    /// Files changed during the copy: their paths below the top of the tree.
    pub unsteady: Vec<Vec<u8>>,
}

impl Default for Transfer<'_> {
    fn default() -> Self {
        Self {
            base: None,
            stagings: None,
            direct: false,
            mirror: false,
            times: false,
            read: false,
            digest: false,
            ahead: false,
            links: Links::new(),
            seals: Vec::new(),
            copier: Copier::new(Unsupported::Refuse),
            batch: false,
            late: Late::default(),
            failures: None,
            unsteady: Vec::new(),
        }
    }
}

/// One transfer under way.
struct Walk<'w, 't> {
    transfer: &'w mut Transfer<'t>,
    decide: &'w mut Decide<'w>,
    progress: &'w mut dyn FnMut(u64),
    path: Vec<u8>,
    /// The mount of the source, which is not left.
    mount: u64,
    /// The mount of the destination, which is not left.
    target_mount: u64,
    staged: Option<Staged>,
    /// Files whose content is compared later.
    ahead: VecDeque<Ahead>,
    /// True if an unfinished file could not be removed.
    is_broken: bool,
}

/// An unfinished tree in a staging directory.
struct Staged {
    /// The number of the open staging directory, and the name of the tree inside.
    number: usize,
    dir: OwnedFd,
    key: CString,
    /// The path of the tree below the base.
    path: Vec<u8>,
}

impl<'t> Transfer<'t> {
    /// Walks a tree from `from` on, each directory before its content. A file removed meanwhile is left out.
    /// `progress` gets every number of bytes copied or compared.
    pub fn run<'w>(
        &'w mut self,
        from: Name<'w>,
        to: Option<Name<'w>>,
        decide: &'w mut Decide<'w>,
        progress: &'w mut dyn FnMut(u64),
    ) -> Result<()>
    where
        't: 'w,
    {
        let private = self.mirror;
        let mount =
            walk::mount_id(from.0).map_err(|errno| Problem::os("cannot look at the source", errno))?;
        let target_mount = to.map_or(Ok(0), |to| walk::mount_id(to.0));
        let target_mount =
            target_mount.map_err(|errno| Problem::os("cannot look at the destination", errno))?;
        let mut walk = Walk {
            transfer: self,
            decide,
            progress,
            path: Vec::new(),
            mount,
            target_mount,
            staged: None,
            ahead: VecDeque::new(),
            is_broken: false,
        };
        let mut levels: Vec<Level> = Vec::new();
        levels.extend(walk.step(from, to.map(|name| To { name, private, fresh: false }), 0)?);
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.next() {
                let end = walk.path.len();
                if end > 0 {
                    walk.path.push(b'/');
                }
                walk.path.extend(name.to_bytes());
                let level = &*level;
                let source = level.source.fd().map_err(|errno| walk.failed("open", errno))?;
                let target = level.target.as_ref().map(Held::fd).transpose();
                let target = target.map_err(|errno| walk.failed("open the destination of", errno))?;
                let to =
                    target.map(|dir| To { name: (dir, &name), private: level.private, fresh: level.fresh });
                if walk.begins_ahead(&level.source, (source, &name), to)? {
                    walk.path.truncate(end);
                    continue;
                }
                match walk.step((source, &name), to, end)? {
                    Some(below) => {
                        levels.push(below);
                        close_far(&mut levels);
                    }
                    None => walk.path.truncate(end),
                }
                continue;
            }
            let Some(mut done) = levels.pop() else { break };
            if let Some(above) = levels.last_mut() {
                reopen(above, &done).map_err(|errno| walk.failed("go back up from", errno))?;
            }
            let place = match levels.last() {
                Some(above) => above.target.as_ref().map(Held::fd).transpose(),
                None => Ok(to.map(|(dir, _)| dir)),
            };
            let place = place.map_err(|errno| walk.failed("open the destination of", errno))?;
            walk.leave(&mut done, place)?;
            walk.path.truncate(done.end);
        }
        while walk.ends_ahead()? {}
        if walk.transfer.batch { Ok(()) } else { walk.transfer.publish() }
    }

    /// Takes the failures out.
    pub fn take_failures(&mut self) -> Vec<Problem> {
        let failures = self.failures.as_mut().map(std::mem::take).unwrap_or_default();
        failures.into_iter().map(|(_, problem)| problem).collect()
    }

    /// True if the run makes changes.
    fn changes(&self) -> bool {
        self.stagings.is_some() || self.direct
    }

    /// Moves waiting copies from a staging directory to their places, once on the disk.
    pub fn publish(&mut self) -> Result<()> {
        match &self.stagings {
            Some(stagings) if !self.late.is_empty() => self.late.publish(stagings),
            _ => Ok(()),
        }
    }
}

impl Walk<'_, '_> {
    fn failed(&self, step: &str, errno: Errno) -> Problem {
        let shown =
            if self.path.is_empty() { "it".to_owned() } else { escape::name(&self.path).into_owned() };
        Problem::os(format!("cannot {step} {shown}"), errno)
    }

    /// Does one file. A directory to go through is returned.
    fn step(&mut self, from: Name<'_>, to: Option<To<'_>>, end: usize) -> Result<Option<Level>> {
        let stat = match walk::stat_at(from.0, from.1) {
            Ok(stat) => self.transfer.copier.owners.of(stat),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("look at", errno)),
        };
        // A directory created by this run is empty.
        let there = to.filter(|to| !to.fresh).map(|to| walk::stat_at(to.name.0, to.name.1)).transpose();
        let there = match there {
            Err(Errno::NOENT) => None,
            there => there.map_err(|errno| self.failed("look at the destination of", errno))?,
        };
        let private = to.is_some_and(|to| to.private);
        let mut digest = None;
        let state = match (to, &there) {
            _ if stat.mount_id() != self.mount => State::Foreign,
            (Some(to), Some(other)) => match self.compare((from, &stat), (to, other), &mut digest) {
                // Replaced meanwhile.
                Err(Errno::NOENT | Errno::STALE) => State::Differs("moment"),
                compared => compared.map_err(|errno| self.failed("compare", errno))?,
            },
            _ => State::Missing,
        };
        // An unfinished copy in a private directory is no version of its own.
        let missing = state == State::Missing || (private && !self.transfer.mirror && state != State::Same);
        let shown = if missing && state != State::Foreign { State::Missing } else { state };
        let linked =
            shown == State::Missing && !stat.is_dir() && self.transfer.links.contains_key(&stat.identity());
        let there_shown = there.as_ref().filter(|_| shown != State::Missing);
        let exposed = match (to, there_shown, shown) {
            (Some(to), Some(there), State::Differs(what)) if what != file::MOUNT => {
                let owners = &self.transfer.copier.owners;
                let exposed = file::exposes((from, &stat), (to.name, there), owners);
                exposed.map_err(|errno| self.failed("compare", errno))?
            }
            _ => false,
        };
        let choice = {
            let (path, there) = (&self.path, there_shown);
            let found = Found { path, stat: &stat, there, state: shown, linked, exposed, from, digest };
            (self.decide)(&found)?
        };
        if choice == Choice::Skip || state == State::Foreign {
            self.leave_out(to.filter(|_| there.is_some()))?;
            return Ok(None);
        }
        let mut made = None;
        if choice == Choice::Make
            && state != State::Same
            && let Some(to) = to
            && self.transfer.changes()
        {
            if !to.private {
                self.make_room(to)?;
            }
            made = match self.make((from, &stat), (to, there.as_ref())) {
                Ok(made) => Some(made),
                // Removed or replaced meanwhile: found by the next pass.
                Err(Errno::NOENT | Errno::STALE) => return Ok(None),
                Err(errno) => return self.fail("copy", errno).map(|()| None),
            };
        }
        // Current place of the copy.
        let at = match &made {
            Some(Made { staged: Some((dir, key)), fresh }) => {
                Some(To { name: (dir.as_fd(), key), private: true, fresh: *fresh })
            }
            Some(Made { staged: None, fresh }) => to.map(|to| To { fresh: *fresh, ..to }),
            None => to.filter(|_| there.is_some()).map(|to| To { fresh: false, ..to }),
        };
        self.remember((from, &stat), at)?;
        if !stat.is_dir() {
            return Ok(None);
        }
        let name = to.map_or(from.1, |to| to.name.1).to_owned();
        let staged = made.as_ref().is_some_and(|made| made.staged.is_some());
        let level = self.enter(from, at, (stat, there.map(|there| there.identity())))?;
        if level.is_none() && staged {
            self.staged = None;
        }
        Ok(level.map(|level| Level { staged, name, end, ..level }))
    }

    /// Removes excluded files from an unfinished copy.
    fn leave_out(&self, to: Option<To<'_>>) -> Result<()> {
        match to {
            Some(to) if to.private && !self.transfer.mirror && self.transfer.changes() => {
                remove(to.name).map_err(|errno| self.failed("clear the place of", errno))
            }
            _ => Ok(()),
        }
    }

    /// Publishes waiting copies if the list is full or another copy has the next name.
    fn make_room(&mut self, to: To<'_>) -> Result<()> {
        let key = key(&self.below_base());
        let Some(stagings) = &mut self.transfer.stagings else { return Ok(()) };
        let number = stagings.number_near(to.name.0)?;
        let late = &self.transfer.late;
        if !late.is_full() && !late.has(&(number, key)) {
            return Ok(());
        }
        match (self.transfer.publish(), &mut self.transfer.failures) {
            (Err(problem), Some(failures)) if failures.len() < FAILURES => {
                failures.push((Vec::new(), problem));
                Ok(())
            }
            (result, _) => result,
        }
    }

    /// A failure with one file, recorded if the other files are still transferred. A failure common to all files is an
    /// error.
    fn fail(&mut self, step: &str, errno: Errno) -> Result<()> {
        let problem = self.failed(step, errno);
        let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
        match &mut self.transfer.failures {
            Some(failures) if !self.is_broken && !hopeless.contains(&errno) && failures.len() < FAILURES => {
                failures.push((self.path.clone(), problem));
                Ok(())
            }
            _ => Err(problem),
        }
    }

    /// Compares a file with the one at the destination.
    fn compare(
        &mut self,
        from: (Name<'_>, &Stat),
        (to, there): (To<'_>, &Stat),
        digest: &mut Option<u64>,
    ) -> Result<State, Errno> {
        if from.1.file_type() != there.file_type() {
            return Ok(State::Differs(file::TYPE));
        }
        if there.mount_id() != self.target_mount {
            return Ok(State::Differs(file::MOUNT));
        }
        let first = self.transfer.links.get(&from.1.identity());
        let parted = first.is_some_and(|(identity, _)| *identity != there.identity());
        let joined = to.private && !from.1.is_dir() && there.links() > from.1.links();
        if parted || joined {
            return Ok(State::Differs("hard links"));
        }
        // The content was compared under another hard link. An unfinished copy is compared too: its content may be
        // missing on the disk, independent of size and time.
        let left = to.private && !self.transfer.mirror;
        let read: Option<&mut dyn FnMut(u64)> =
            if (self.transfer.read || left) && first.is_none() { Some(self.progress) } else { None };
        let ignore = Ignore { seals: to.private, owners: &self.transfer.copier.owners };
        let mut sum = (self.transfer.digest && read.is_some()).then(Digest::default);
        let difference = file::difference(from, (to.name, there), ignore, read, sum.as_mut())?;
        *digest = sum.filter(|_| from.1.is_file() && difference.is_none()).map(|sum| sum.value());
        Ok(difference.map_or(State::Same, State::Differs))
    }

    /// Keeps in mind the copy of a file with several hard links, or flags set in the end.
    fn remember(&mut self, (from, stat): (Name<'_>, &Stat), at: Option<To<'_>>) -> Result<()> {
        let is_linked =
            !stat.is_dir() && stat.links() > 1 && !self.transfer.links.contains_key(&stat.identity());
        let is_sealed = !stat.seals().is_empty() && self.transfer.changes();
        let Some(at) = at.filter(|_| is_linked || is_sealed) else { return Ok(()) };
        let there = match walk::stat_at(at.name.0, at.name.1) {
            Ok(there) => there,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("look at the destination of", errno)),
        };
        if is_linked {
            let path = self.below_base();
            self.transfer.links.insert(stat.identity(), (there.identity(), path));
        }
        if is_sealed {
            match file::seals(from, stat) {
                Ok(flags) if flags.is_empty() => {}
                Ok(flags) => {
                    let seal = Seal { path: self.below_base(), identity: there.identity(), flags };
                    self.transfer.seals.push(seal);
                }
                Err(Errno::NOENT | Errno::STALE) => {}
                Err(errno) => return Err(self.failed("read the inode flags of", errno)),
            }
        }
        Ok(())
    }
}

/// The bytes and the names of a file, or of a directory with its content, as on the disk.
pub fn usage(name: Name<'_>) -> Result<(u64, u64)> {
    let (mut bytes, mut names) = (0, 0);
    let mut add = |found: &Found<'_>| {
        bytes += found.stat.allocated();
        names += 1;
        Ok(Choice::Pass)
    };
    Transfer::default().run(name, None, &mut add, &mut |_| ())?;
    Ok((bytes, names))
}
