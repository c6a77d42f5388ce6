//! A tree compared with another one, and transferred to its place.
//!
//! A directory that is missing at the destination is made whole in a staging directory and comes to its place by one rename(2), as does a
//! single file. No link is followed, no other file system is entered, and no depth is too deep: of a deep path only the last
//! directories are kept open.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{IFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Name;
use super::attributes::{self, Unsupported};
use super::file::{self, Copier, Ignore};
use super::level::{Held, Level, To, close_far, reopen};
use super::remove::remove;
use super::seals::descend;
use super::staging::{NEW, Stagings};
use super::unnamed;
use crate::problem::{Problem, Result};
use crate::walk::{self, Identity, Mounts, Stat};

/// The state of a file at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is missing.
    Missing,
    /// It is the same.
    Same,
    /// Another one is there, and the first property in which it differs.
    Differs(&'static str),
    /// Another file system is mounted at the source. It is not entered.
    Foreign,
}

/// A file of the tree.
#[derive(Debug)]
pub struct Found<'f> {
    /// Its path below the top of the tree; empty for the top itself.
    pub path: &'f [u8],
    /// Its properties.
    pub stat: &'f Stat,
    /// Those of the file at the destination, if there is one.
    pub there: Option<&'f Stat>,
    /// How it stands there.
    pub state: State,
    /// Whether it is missing there, and another hard link of it is not.
    pub linked: bool,
    /// The file.
    pub from: Name<'f>,
}

/// Hard links at the destination: for a file of the source the identity of its copy, and the path of that below [`Transfer::base`].
pub type Links = HashMap<Identity, (Identity, Vec<u8>)>;

/// What is done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing; of a directory the content is not looked at.
    Skip,
    /// Nothing; of a directory the content is looked at.
    Pass,
    /// It is copied, or replaced by a copy.
    Make,
}

/// How a tree is transferred; by default it is only looked at.
#[derive(Debug)]
pub struct Transfer<'t> {
    /// The directory from which [`Links`] have their paths, and the path of the destination below it.
    pub base: Option<(BorrowedFd<'t>, Vec<u8>)>,
    /// Where copies are made; none where nothing is changed.
    pub stagings: Option<&'t mut Stagings>,
    /// Whether the destination is a private directory: files are made in place, and what the source does not have is removed.
    pub mirror: bool,
    /// Whether directories are given their times in the end.
    pub times: bool,
    /// Whether the content of files is compared.
    pub read: bool,
    /// Hard links that earlier transfers found, and those of this one.
    pub links: Links,
    /// Files below the destination that have `chattr +i` or `+a` at the source: their paths below [`Transfer::base`]. They are set by
    /// [`super::seals::set`] when everything is in its place.
    pub seals: Vec<(Vec<u8>, IFlags)>,
    /// Makes the copies.
    pub copier: Copier,
}

impl Default for Transfer<'_> {
    fn default() -> Self {
        Self {
            base: None,
            stagings: None,
            mirror: false,
            times: false,
            read: false,
            links: Links::new(),
            seals: Vec::new(),
            copier: Copier::new(Unsupported::Refuse),
        }
    }
}

/// Decides what is done about each file.
pub type Decide<'d> = dyn FnMut(&Found<'_>) -> Result<Choice> + 'd;

/// One transfer under way.
struct Walk<'w, 't> {
    transfer: &'w mut Transfer<'t>,
    decide: &'w mut Decide<'w>,
    progress: &'w mut dyn FnMut(u64),
    path: Vec<u8>,
    /// The mount of the source, which is not left.
    mount: u64,
    /// The staged directory, and its path below the base.
    staged: Option<(OwnedFd, Vec<u8>)>,
}

impl<'t> Transfer<'t> {
    /// Goes through a tree from `from` on, each directory before its content. A file that went away before it was reached is left out.
    /// `progress` is told every number of bytes copied or compared.
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
        let mut walk = Walk { transfer: self, decide, progress, path: Vec::new(), mount, staged: None };
        let mut levels: Vec<Level> = Vec::new();
        levels.extend(walk.step(from, to.map(|name| To { name, private, fresh: false }), 0)?);
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.names.next() {
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
        Ok(())
    }
}

impl Walk<'_, '_> {
    fn failed(&self, step: &str, errno: Errno) -> Problem {
        let shown = if self.path.is_empty() { "it".to_owned() } else { show(&self.path) };
        Problem::os(format!("cannot {step} {shown}"), errno)
    }

    /// Does one file. A directory to go through is returned.
    fn step(&mut self, from: Name<'_>, to: Option<To<'_>>, end: usize) -> Result<Option<Level>> {
        let stat = match walk::stat_at(from.0, from.1) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("look at", errno)),
        };
        // In a directory that this run made nothing can be there.
        let there = to.filter(|to| !to.fresh).map(|to| walk::stat_at(to.name.0, to.name.1)).transpose();
        let there = match there {
            Err(Errno::NOENT) => None,
            there => there.map_err(|errno| self.failed("look at the destination of", errno))?,
        };
        let private = to.is_some_and(|to| to.private);
        let state = match (to, &there) {
            _ if stat.mount_id() != self.mount => State::Foreign,
            (Some(to), Some(other)) => match self.compare((from, &stat), (to, other)) {
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
        let found = Found { path: &self.path, stat: &stat, there: there_shown, state: shown, linked, from };
        let choice = (self.decide)(&found)?;
        if choice == Choice::Skip || state == State::Foreign {
            return Ok(None);
        }
        let mut target = to;
        let name = to.map_or(from.1, |to| to.name.1).to_owned();
        let mut staged = None;
        let mut made = false;
        let key;
        if choice == Choice::Make
            && let Some(to) = to
            && self.transfer.stagings.is_some()
        {
            if stat.is_dir() && there.is_none() && !to.private {
                // The whole tree is made in the staging directory; an unfinished one of an earlier run is gone on with.
                key = self.key();
                let dir = self.staging_near(to.name.0)?;
                let place = (dir.as_fd(), key.as_c_str());
                match walk::stat_at(place.0, place.1) {
                    Ok(left) if left.is_dir() => {}
                    Ok(_) => remove(place).map_err(|errno| self.failed("clear the place of", errno))?,
                    Err(_) => {}
                }
                let begun = walk::stat_at(place.0, place.1).is_ok();
                let result = if begun {
                    walk::stat_at(place.0, place.1).and_then(|left| give(from, &stat, place, &left))
                } else {
                    self.transfer.copier.make(from, &stat, place, self.progress)
                };
                match result {
                    Err(Errno::NOENT | Errno::STALE) => return Ok(None),
                    result => result.map_err(|errno| self.failed("copy", errno))?,
                }
                made = !begun;
                let base = self.below_base();
                self.staged = Some((dir, base));
                staged = Some(key.clone());
                target = None;
            } else {
                match self.make((from, &stat), (to, there.as_ref()), state) {
                    // It went away or was replaced: the next pass finds that.
                    Err(Errno::NOENT | Errno::STALE) => return Ok(None),
                    result => made = result.map_err(|errno| self.failed("copy", errno))?,
                }
            }
        }
        if !stat.is_dir() {
            if stat.links() > 1 {
                self.remember(&stat, to)?;
            }
            self.remember_seals(from, &stat)?;
            return Ok(None);
        }
        self.remember_seals(from, &stat)?;
        let level = match (&self.staged, &staged) {
            (Some((dir, _)), Some(key)) => {
                let dir = dir.try_clone().map_err(|error| Problem::new(error.to_string()))?;
                let to = To { name: (dir.as_fd(), key.as_c_str()), private: true, fresh: false };
                self.enter(from, Some(to), stat, made)?
            }
            _ => self.enter(from, target, stat, made)?,
        };
        Ok(level.map(|level| Level { staged, name, end, ..level }))
    }

    /// Compares a file with the one at the destination.
    fn compare(&mut self, from: (Name<'_>, &Stat), (to, there): (To<'_>, &Stat)) -> Result<State, Errno> {
        let first = self.transfer.links.get(&from.1.identity());
        let parted = first.is_some_and(|(identity, _)| *identity != there.identity());
        let joined = to.private && !from.1.is_dir() && there.links() > from.1.links();
        if parted || joined {
            return Ok(State::Differs("hard links"));
        }
        // The content was compared under another hard link.
        let read: Option<&mut dyn FnMut(u64)> =
            if self.transfer.read && first.is_none() { Some(self.progress) } else { None };
        let ignore = Ignore { seals: to.private };
        let difference = file::difference(from, (to.name, there), ignore, read)?;
        Ok(difference.map_or(State::Same, State::Differs))
    }

    /// Copies one file, or makes a directory. True where that is new.
    fn make(
        &mut self,
        (from, stat): (Name<'_>, &Stat),
        (to, there): (To<'_>, Option<&Stat>),
        state: State,
    ) -> Result<bool, Errno> {
        if state == State::Same {
            return Ok(false);
        }
        if let Some(there) = there {
            if stat.is_dir() && there.is_dir() {
                return give(from, stat, to.name, there).map(|()| false);
            }
            if to.private {
                remove(to.name)?;
            } else if stat.is_dir() || there.is_dir() {
                return Err(Errno::EXIST);
            }
        }
        let first = self.transfer.links.get(&stat.identity()).filter(|_| !stat.is_dir()).cloned();
        if to.private {
            match first {
                Some(first) => self.link(&first, to.name)?,
                None => self.transfer.copier.make(from, stat, to.name, self.progress)?,
            }
            return Ok(true);
        }
        let dir = self.staging_near(to.name.0).map_err(|problem| problem.errno.unwrap_or(Errno::IO))?;
        let new = (dir.as_fd(), NEW);
        remove(new)?;
        match first {
            Some(first) => self.link(&first, new)?,
            None => self.transfer.copier.make(from, stat, new, self.progress)?,
        }
        let flags = if there.is_some() { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        unnamed::rename(new, to.name, flags)?;
        Ok(true)
    }

    /// The staging directory from which a file can be renamed into this directory.
    fn staging_near(&mut self, dir: BorrowedFd<'_>) -> Result<OwnedFd> {
        let stagings =
            self.transfer.stagings.as_mut().ok_or_else(|| Problem::new("nothing is to be changed"))?;
        let fd = stagings.near(dir)?.dir();
        fd.try_clone_to_owned().map_err(|error| Problem::new(error.to_string()))
    }

    /// The path of the current file below the base.
    fn below_base(&self) -> Vec<u8> {
        let mut path = self.transfer.base.as_ref().map_or_else(Vec::new, |(_, path)| path.clone());
        if !self.path.is_empty() {
            path.push(b'/');
            path.extend(&self.path);
        }
        path
    }

    /// The name in the staging directory of the current directory: the same in every run.
    fn key(&self) -> CString {
        key(&self.below_base())
    }

    /// Gives a copy that was made under another hard link one more name.
    fn link(&self, (identity, path): &(Identity, Vec<u8>), to: Name<'_>) -> Result<(), Errno> {
        let fd = self.open_copy(path)?;
        if walk::stat(fd.as_fd())?.identity() != *identity {
            return Err(Errno::STALE);
        }
        unnamed::link(fd.as_fd(), to)
    }

    /// Opens a file at the destination, by its path below the base: also one in the staged directory.
    fn open_copy(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if let Some((dir, top)) = &self.staged
            && let Some(rest) =
                path.strip_prefix(top.as_slice()).filter(|rest| rest.first().is_none_or(|it| *it == b'/'))
        {
            let top = walk::look(dir.as_fd(), key(top).as_c_str(), Mounts::Stay)?;
            return descend(top, rest);
        }
        let (base, _) = self.transfer.base.as_ref().ok_or(Errno::NOENT)?;
        let base = walk::open(*base, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay)?;
        descend(base, path)
    }

    /// Keeps in mind the copy of a file that has several hard links.
    fn remember(&mut self, stat: &Stat, to: Option<To<'_>>) -> Result<()> {
        if self.transfer.links.contains_key(&stat.identity()) {
            return Ok(());
        }
        let Some(to) = to else { return Ok(()) };
        match walk::stat_at(to.name.0, to.name.1) {
            Ok(there) => {
                let path = self.below_base();
                self.transfer.links.insert(stat.identity(), (there.identity(), path));
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("look at the destination of", errno)),
        }
    }

    fn remember_seals(&mut self, from: Name<'_>, stat: &Stat) -> Result<()> {
        if stat.seals().is_empty() || self.transfer.stagings.is_none() {
            return Ok(());
        }
        match file::seals(from, stat) {
            Ok(flags) if flags.is_empty() => {}
            Ok(flags) => {
                let path = self.below_base();
                self.transfer.seals.push((path, flags));
            }
            Err(Errno::NOENT | Errno::STALE) => {}
            Err(errno) => return Err(self.failed("read the inode flags of", errno)),
        }
        Ok(())
    }

    fn enter(&mut self, from: Name<'_>, to: Option<To<'_>>, stat: Stat, made: bool) -> Result<Option<Level>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
        let source = match walk::open(from.0, from.1, flags, Mounts::Stay) {
            Ok(source) => source,
            Err(errno) if gone.contains(&errno) => return Ok(None),
            Err(errno) => return Err(self.failed("open", errno)),
        };
        let source = Held::new(source).map_err(|errno| self.failed("look at", errno))?;
        if source.identity != stat.identity() {
            return Ok(None);
        }
        let opened = to.map(|to| walk::open(to.name.0, to.name.1, flags, Mounts::Stay));
        let target = match opened.transpose() {
            Ok(target) => target,
            Err(errno) if gone.contains(&errno) => None,
            Err(errno) => return Err(self.failed("open the destination of", errno)),
        };
        let source_fd = source.fd().map_err(|errno| self.failed("open", errno))?;
        let mut names = walk::names(source_fd, usize::MAX).map_err(|errno| self.failed("list", errno))?;
        names.sort_unstable();
        let private = to.is_some_and(|to| to.private);
        if private
            && !made
            && let (true, Some(target)) = (self.transfer.stagings.is_some(), &target)
        {
            let there =
                walk::names(target.as_fd(), usize::MAX).map_err(|errno| self.failed("list", errno))?;
            for name in there.iter().filter(|name| names.binary_search(name).is_err()) {
                remove((target.as_fd(), name)).map_err(|errno| self.failed("clear", errno))?;
            }
        }
        let target = target.map(Held::new).transpose();
        let target = target.map_err(|errno| self.failed("look at the destination of", errno))?;
        let level = Level {
            source,
            target,
            private,
            fresh: made,
            staged: None,
            stat,
            name: CString::default(),
            names: names.into_iter(),
            end: 0,
        };
        Ok(Some(level))
    }

    /// Gives a directory its time once everything is in it, and moves a staged one to its place.
    fn leave(&mut self, level: &mut Level, place: Option<BorrowedFd<'_>>) -> Result<()> {
        self.leave_times(level)?;
        let Some(key) = level.staged.take() else { return Ok(()) };
        let Some((dir, _)) = self.staged.take() else { return Ok(()) };
        let Some(place) = place else { return Ok(()) };
        // Only the rename makes it visible, so it is the last step.
        unnamed::rename((dir.as_fd(), &key), (place, &level.name), RenameFlags::NOREPLACE)
            .map_err(|errno| self.failed("move to its place the copy of", errno))
    }

    fn leave_times(&self, level: &Level) -> Result<()> {
        let (true, Some(target)) = (self.transfer.times || level.private, &level.target) else {
            return Ok(());
        };
        if self.transfer.stagings.is_none() && !self.transfer.times {
            return Ok(());
        }
        let failed = |errno| self.failed("give the time of the last change to", errno);
        let (source, target) = (level.source.fd().map_err(failed)?, target.fd().map_err(failed)?);
        if walk::stat(target).map_err(failed)?.modified() == level.stat.modified() {
            return Ok(());
        }
        let count = |fd: BorrowedFd<'_>| walk::names(fd, usize::MAX).map(|names| names.len());
        if !level.private && count(source).map_err(failed)? != count(target).map_err(failed)? {
            return Ok(());
        }
        attributes::give_times_to(target, &level.stat).map_err(failed)
    }
}

/// The name in a staging directory of the directory with this path.
#[must_use]
pub fn key(path: &[u8]) -> CString {
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_XZ);
    let mut text = String::from("tree-");
    // Writing to a String cannot fail.
    let _ = write!(text, "{:016x}", crc.checksum(path));
    CString::new(text).unwrap_or_default()
}

/// Gives a directory that is there the owner, attributes and mode of another.
fn give(from: Name<'_>, stat: &Stat, to: Name<'_>, there: &Stat) -> Result<(), Errno> {
    let (source, target) = (file::open(from, stat)?, file::open(to, there)?);
    attributes::give(&source, stat, &target, Unsupported::Refuse)
}

/// A path below a tree, for messages.
#[must_use]
pub fn show(path: &[u8]) -> String {
    crate::escape::name(path).into_owned()
}
