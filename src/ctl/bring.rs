//! A tree held against another one, and brought to its place piece by piece: everything is made aside, and moved to its name
//! when it is whole. By descriptors only: no link is followed, no other file system is entered, and no depth is too deep.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::copy::{self, Name};
use crate::problem::{Problem, Result};
use crate::walk::{self, Identity, Mounts, Stat};

/// The name under which something is made before it is moved to its own.
const NEW: &CStr = c"new";

/// How something stands at its new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Missing,
    /// It is there, and the same.
    Same,
    /// Something is there that differs, and in what.
    Differs(&'static str),
    /// Another file system is mounted there, which is not entered.
    Foreign,
}

/// Something in the tree that is brought.
#[derive(Debug)]
pub struct Found<'f> {
    /// Its path below the top, which is empty for the top itself.
    pub path: &'f [u8],
    /// What it is.
    pub stat: &'f Stat,
    /// What is at its new place, if something is.
    pub there: Option<&'f Stat>,
    /// How it stands there.
    pub state: State,
}

/// Of what has several names: what the first one is at the new place, and its path.
pub type Links = HashMap<Identity, (Identity, Vec<u8>)>;

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing, and nothing about what is in it.
    Skip,
    /// Nothing; what is in it is looked at.
    Pass,
    /// It is made, or made the same.
    Make,
}

/// How a tree is brought; by default it is only looked at.
#[derive(Debug, Default)]
pub struct Bring<'b> {
    /// A directory on the file system of the new place, in which things are made; none where nothing is to be changed.
    pub work: Option<BorrowedFd<'b>>,
    /// Whether directories are given their times in the end.
    pub times: bool,
    /// Whether the content of files is compared, or only what tells that it has changed.
    pub read: bool,
    /// Whether the new place is ours alone: what the tree does not have is removed there.
    pub own: bool,
    /// What earlier passes have found, and this one finds.
    pub links: Links,
}

/// Decides what is done about each thing.
pub type Decide<'d> = dyn FnMut(&Found<'_>) -> Result<Choice> + 'd;

/// A directory that is being gone through.
struct Level {
    source: OwnedFd,
    /// Its new place, if it is there.
    target: Option<OwnedFd>,
    stat: Stat,
    names: std::vec::IntoIter<CString>,
    /// How long the path was above it.
    end: usize,
}

/// Goes through one tree.
struct Walk<'w, 'b> {
    bring: &'w mut Bring<'b>,
    decide: &'w mut Decide<'w>,
    progress: &'w mut dyn FnMut(u64),
    top: Option<Name<'w>>,
    path: Vec<u8>,
}

impl Bring<'_> {
    /// Goes through everything from `from` on, each directory before what is in it. What was not there when it came to it
    /// is left out. `progress` hears how many bytes were copied or compared.
    pub fn run<'w>(
        &'w mut self,
        from: Name<'w>,
        to: Option<Name<'w>>,
        decide: &'w mut Decide<'w>,
        progress: &'w mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut walk = Walk { bring: self, decide, progress, top: to, path: Vec::new() };
        let mut levels = Vec::new();
        levels.extend(walk.step(from, to)?);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                let Some(level) = levels.pop() else { break };
                walk.leave(&level)?;
                walk.path.truncate(level.end);
                continue;
            };
            let end = walk.path.len();
            if end > 0 {
                walk.path.push(b'/');
            }
            walk.path.extend(name.to_bytes());
            let to = level.target.as_ref().map(|target| (target.as_fd(), name.as_c_str()));
            match walk.step((level.source.as_fd(), &name), to)? {
                Some(below) => levels.push(Level { end, ..below }),
                None => walk.path.truncate(end),
            }
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    fn failed(&self, what: &str, errno: Errno) -> Problem {
        let shown = if self.path.is_empty() { "it".to_owned() } else { show(&self.path) };
        Problem::os(format!("cannot {what} {shown}"), errno)
    }

    /// Does one thing; what is in it is still to be gone through where it gives a level.
    fn step(&mut self, from: Name<'_>, to: Option<Name<'_>>) -> Result<Option<Level>> {
        let stat = match walk::stat_at(from.0, from.1) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("look at", errno)),
        };
        let there = match to.map(|(dir, name)| walk::stat_at(dir, name)).transpose() {
            Ok(there) => there,
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(self.failed("look at the new place of", errno)),
        };
        let above =
            walk::mount_id(from.0).map_err(|errno| self.failed("ask for the mount that holds", errno))?;
        let state = match (to, &there) {
            _ if stat.mount_id() != above => State::Foreign,
            (Some(to), Some(there)) => match self.compare((from, &stat), (to, there)) {
                // It is something else by now.
                Err(Errno::NOENT | Errno::STALE) => State::Differs("moment"),
                compared => compared.map_err(|errno| self.failed("compare", errno))?,
            },
            _ => State::Missing,
        };
        let found = Found { path: &self.path, stat: &stat, there: there.as_ref(), state };
        let choice = (self.decide)(&found)?;
        if choice == Choice::Skip || state == State::Foreign {
            return Ok(None);
        }
        if choice == Choice::Make
            && let (Some(work), Some(to)) = (self.bring.work, to)
        {
            match self.make((from, &stat), (to, there.as_ref()), work) {
                // It went away or was replaced, which the next pass sees.
                Err(Errno::NOENT | Errno::STALE) => return Ok(None),
                made => made.map_err(|errno| self.failed("bring", errno))?,
            }
        }
        if stat.links() > 1 && !stat.is_dir() {
            self.remember(&stat, to)?;
        }
        if !stat.is_dir() {
            return Ok(None);
        }
        self.enter(from, to, stat)
    }

    /// Holds one thing against what is at its new place.
    fn compare(&mut self, from: (Name<'_>, &Stat), to: (Name<'_>, &Stat)) -> Result<State, Errno> {
        let first = self.bring.links.get(&from.1.identity());
        let parted = first.is_some_and(|(identity, _)| *identity != to.1.identity());
        let joined = self.bring.own && !from.1.is_dir() && to.1.links() > from.1.links();
        if parted || joined {
            return Ok(State::Differs("hard links"));
        }
        // The other names of the same were compared.
        let read: Option<&mut dyn FnMut(u64)> =
            if self.bring.read && first.is_none() { Some(self.progress) } else { None };
        let difference = copy::difference(from, to, read)?;
        Ok(difference.map_or(State::Same, State::Differs))
    }

    fn make(
        &mut self,
        (from, stat): (Name<'_>, &Stat),
        (to, there): (Name<'_>, Option<&Stat>),
        work: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        if let Some(there) = there {
            if stat.is_dir() && there.is_dir() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let source = walk::open(from.0, from.1, flags, Mounts::Stay)?;
                let target = walk::open(to.0, to.1, flags, Mounts::Stay)?;
                return copy::give(source.as_fd(), stat, target.as_fd());
            }
            if self.bring.own {
                // Nobody sees it yet, and there may be no room for both.
                remove(to)?;
            } else if stat.is_dir() || there.is_dir() {
                return Err(Errno::EXIST);
            }
        }
        // Begun by a run that was stopped.
        remove((work, NEW))?;
        match self.bring.links.get(&stat.identity()).filter(|_| !stat.is_dir()) {
            Some(first) => self.link(first, (work, NEW))?,
            None => copy::make(from, stat, (work, NEW), self.progress)?,
        }
        let replaces = there.is_some() && !self.bring.own;
        let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match fs::renameat_with(work, NEW, to.0, to.1, flags) {
            // A file system that cannot promise it (Linux has it for all the usual ones).
            Err(Errno::INVAL) if !replaces => fs::renameat(work, NEW, to.0, to.1),
            renamed => renamed,
        }
    }

    /// Gives what was brought under another name before one more.
    fn link(&self, (identity, path): &(Identity, Vec<u8>), to: Name<'_>) -> Result<(), Errno> {
        let Some((dir, name)) = self.top else { return Err(Errno::NOENT) };
        let mut fd = walk::look(dir, name, Mounts::Stay)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            fd = walk::look(fd.as_fd(), name, Mounts::Stay)?;
        }
        if walk::stat(fd.as_fd())?.identity() != *identity {
            return Err(Errno::STALE);
        }
        let place = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::linkat(CWD, place, to.0, to.1, AtFlags::SYMLINK_FOLLOW)
    }

    fn remember(&mut self, stat: &Stat, to: Option<Name<'_>>) -> Result<()> {
        if self.bring.links.contains_key(&stat.identity()) {
            return Ok(());
        }
        let Some((dir, name)) = to else { return Ok(()) };
        match walk::stat_at(dir, name) {
            Ok(there) => {
                self.bring.links.insert(stat.identity(), (there.identity(), self.path.clone()));
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("look at the new place of", errno)),
        }
    }

    fn enter(&mut self, from: Name<'_>, to: Option<Name<'_>>, stat: Stat) -> Result<Option<Level>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
        let source = match walk::open(from.0, from.1, flags, Mounts::Stay) {
            Ok(source) => source,
            Err(errno) if gone.contains(&errno) => return Ok(None),
            Err(errno) => return Err(self.failed("open", errno)),
        };
        let target = match to.map(|(dir, name)| walk::open(dir, name, flags, Mounts::Stay)).transpose() {
            Ok(target) => target,
            Err(errno) if gone.contains(&errno) => None,
            Err(errno) => return Err(self.failed("open the new place of", errno)),
        };
        let mut names =
            walk::names(source.as_fd(), usize::MAX).map_err(|errno| self.failed("list", errno))?;
        names.sort_unstable();
        if self.bring.own
            && let (Some(_), Some(target)) = (self.bring.work, &target)
        {
            let there =
                walk::names(target.as_fd(), usize::MAX).map_err(|errno| self.failed("list", errno))?;
            for name in there.iter().filter(|name| names.binary_search(name).is_err()) {
                remove((target.as_fd(), name)).map_err(|errno| self.failed("clear", errno))?;
            }
        }
        Ok(Some(Level { source, target, stat, names: names.into_iter(), end: self.path.len() }))
    }

    /// Gives a directory its time once everything is in it, and nothing else.
    fn leave(&mut self, level: &Level) -> Result<()> {
        let (true, Some(target)) = (self.bring.times, &level.target) else { return Ok(()) };
        let failed = |errno| self.failed("give the time of the last change to", errno);
        if walk::stat(target.as_fd()).map_err(failed)?.modified() == level.stat.modified() {
            return Ok(());
        }
        let count = |fd: &OwnedFd| walk::names(fd.as_fd(), usize::MAX).map(|names| names.len());
        if !self.bring.own && count(&level.source).map_err(failed)? != count(target).map_err(failed)? {
            return Ok(());
        }
        copy::time((target.as_fd(), c"."), &level.stat).map_err(failed)
    }
}

/// Removes something and everything in it; that it is not there is as good.
pub fn remove((dir, name): Name<'_>) -> Result<(), Errno> {
    let done = |result| match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    };
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return done(result),
    }
    let enter = |dir: BorrowedFd<'_>, name: CString| {
        let fd = walk::open(dir, name.as_c_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
        let names = walk::names(fd.as_fd(), usize::MAX)?;
        Ok::<_, Errno>((fd, name, names))
    };
    let mut levels = vec![enter(dir, name.to_owned())?];
    while let Some((level, _, names)) = levels.last_mut() {
        if let Some(name) = names.pop() {
            match fs::unlinkat(&*level, &name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {
                    let below = enter(level.as_fd(), name)?;
                    levels.push(below);
                }
                result => done(result)?,
            }
            continue;
        }
        let Some((_, name, _)) = levels.pop() else { break };
        let above = levels.last().map_or(dir, |(above, ..)| above.as_fd());
        done(fs::unlinkat(above, &name, AtFlags::REMOVEDIR))?;
    }
    Ok(())
}

/// A path below a tree, for messages.
#[must_use]
pub fn show(path: &[u8]) -> String {
    crate::escape::name(path).into_owned()
}

/// Lets this process have as many files open as it may: each directory on the way down takes two.
pub fn allow_depth() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // As it was, a tree of some hundred levels can still be done.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
