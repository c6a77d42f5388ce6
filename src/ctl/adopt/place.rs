//! From the root to the store, and back over the root: copied, verified, moved to its place, mounted.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, syncfs};
use rustix::io::Errno;

use crate::ctl::bring::{Bring, Choice, Found, State, show};
use crate::ctl::copy::Name;
use crate::ctl::progress::Progress;
use crate::ctl::shop::{self, Shop};
use crate::manifest::options::BindOptions;
use crate::mount::place::verify;
use crate::mount::root::Tree;
use crate::problem::{Problem, Result, describe};
use crate::walk::{self, Mounts, Stat};

/// How often what changes while it is copied is copied again.
const PASSES: usize = 5;

/// A path that is adopted.
#[derive(Debug)]
pub struct Place<'p> {
    root: BorrowedFd<'p>,
    store: BorrowedFd<'p>,
    name: &'p str,
    c_name: CString,
}

impl<'p> Place<'p> {
    /// A name in a directory on the root, and in the one on the store that is to hold it.
    pub fn new(root: BorrowedFd<'p>, store: BorrowedFd<'p>, name: &'p str) -> Result<Self> {
        let c_name = CString::new(name).map_err(|error| Problem::new(error.to_string()))?;
        Ok(Self { root, store, name, c_name })
    }

    fn from(&self) -> Name<'_> {
        (self.root, &self.c_name)
    }

    fn to(&self) -> Name<'_> {
        (self.store, &self.c_name)
    }

    /// Brings it to the store, where nothing is or the same. It is not seen there before it is whole.
    pub fn bring(&self, progress: &Progress) -> Result<()> {
        let failed = |errno| Problem::os("cannot prepare the copy on the store", errno);
        let there = optional(walk::stat_at(self.store, self.name)).map_err(failed)?;
        let was_begun = optional(walk::stat_at(self.store, shop::name(self.name))).map_err(failed)?.is_some();
        if there.is_some() && !was_begun {
            return self.must_be_same(progress);
        }
        let mut shop = Shop::open(self.store, &shop::name(self.name))?;
        if let Some(there) = there {
            if !shop.left(&there).map_err(failed)? {
                shop.close().map_err(failed)?;
                return self.must_be_same(progress);
            }
            shop.take_back(self.name).map_err(failed)?;
        }
        for _ in 0..PASSES {
            if let Err(problem) = self.copy(&shop, progress) {
                return Err(give_up(&shop, problem));
            }
            if let Err(errno) = shop.put(self.name) {
                let problem = Problem::os("cannot move the copy to its place on the store", errno);
                return Err(give_up(&shop, problem));
            }
            if self.differences(false, &mut |_| ())?.is_empty() {
                return Ok(());
            }
            shop = Shop::open(self.store, &shop::name(self.name))?;
            shop.take_back(self.name).map_err(failed)?;
        }
        Err(give_up(&shop, restless(&[])))
    }

    /// Copies until a pass over everything finds nothing that differs.
    fn copy(&self, shop: &Shop<'_>, progress: &Progress) -> Result<()> {
        let mut changed = Vec::new();
        for _ in 0..=PASSES {
            changed.clear();
            let mut decide = |found: &Found<'_>| match found.state {
                State::Foreign => Err(foreign(found)),
                State::Same => Ok(Choice::Pass),
                State::Missing | State::Differs(_) => {
                    changed.push(worded(found));
                    Ok(Choice::Make)
                }
            };
            let mut bring =
                Bring { work: Some(shop.work()), times: true, read: true, own: true, ..Bring::default() };
            bring.run(self.from(), Some(shop.copy()), &mut decide, &mut |bytes| progress.add(bytes))?;
            if changed.is_empty() {
                return Ok(());
            }
            // What could not be written is said here, and what is read back comes from the disk.
            syncfs(shop.work()).map_err(|errno| Problem::os("cannot write all of it to the store", errno))?;
            progress.say("verifying");
        }
        Err(restless(&changed))
    }

    fn must_be_same(&self, progress: &Progress) -> Result<()> {
        progress.say("comparing");
        let differences = self.differences(true, &mut |bytes| progress.add(bytes))?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Problem::new(format!("the store holds something else at its place: {}", some(&differences)))
            .remedy("compare the two, and move away the one that is not wanted"))
    }

    /// In what the store differs from the root, with the times of directories.
    fn differences(&self, read: bool, progress: &mut dyn FnMut(u64)) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        let mut decide = |found: &Found<'_>| {
            // Something was added or removed.
            let aged = |there: &Stat| found.stat.is_dir() && there.modified() != found.stat.modified();
            match found.state {
                State::Foreign => return Err(foreign(found)),
                State::Same if !found.there.is_some_and(aged) => {}
                _ => differences.push(worded(found)),
            }
            Ok(Choice::Pass)
        };
        let mut bring = Bring { read, own: true, ..Bring::default() };
        bring.run(self.from(), Some(self.to()), &mut decide, progress)?;
        Ok(differences)
    }

    /// Mounts what the store holds over the root, as a run does. Gives the mount.
    pub fn mount(&self, tree: &mut Tree) -> Result<OwnedFd> {
        let failed = |errno| Problem::os("cannot open it to mount it", errno);
        let source = walk::look(self.store, self.name, Mounts::Stay).map_err(failed)?;
        let source_stat = walk::stat(source.as_fd()).map_err(failed)?;
        let place = walk::look(self.root, self.name, Mounts::Enter).map_err(failed)?;
        let below = walk::stat(place.as_fd()).map_err(failed)?;
        // Through it the old state is seen when it is covered.
        let old = if below.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            Some(walk::open(self.root, self.name, flags, Mounts::Enter).map_err(failed)?)
        } else {
            None
        };
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let to = (self.root, self.name);
        tree.bind(source.as_fd(), to, place.as_fd(), BindOptions::DEFAULT, false)?;
        verify(to, &source_stat)?;
        let late = match &old {
            Some(old) => late(old.as_fd(), start.as_nanos()),
            None => walk::stat(place.as_fd())
                .map(|stat| {
                    if nanoseconds(&stat) < start.as_nanos() { Vec::new() } else { vec!["itself".to_owned()] }
                })
                .map_err(failed),
        };
        let late = late?;
        if late.is_empty() {
            return walk::look(self.root, self.name, Mounts::Enter).map_err(failed);
        }
        Err(Problem::new(format!(
            "it is mounted, but in that moment something changed below: {}",
            some(&late)
        ))
        .remedy("`mount --bind / /mnt` shows what is below; compare the two, and copy what is missing"))
    }
}

/// What has changed in a directory since then.
fn late(dir: BorrowedFd<'_>, since: u128) -> Result<Vec<String>> {
    let mut late = Vec::new();
    let mut decide = |found: &Found<'_>| {
        if nanoseconds(found.stat) >= since {
            late.push(worded(found));
        }
        Ok(Choice::Pass)
    };
    Bring::default().run((dir, c"."), None, &mut decide, &mut |_| ())?;
    Ok(late)
}

fn nanoseconds(stat: &Stat) -> u128 {
    let (seconds, nanoseconds) = stat.changed();
    u128::from(seconds.unsigned_abs()) * 1_000_000_000 + u128::from(nanoseconds)
}

fn optional<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Takes away what was begun: it must not take the space that is missing.
fn give_up(shop: &Shop<'_>, problem: Problem) -> Problem {
    if let Err(errno) = shop.close() {
        log::warn!("what was begun stays on the store until the next run: {}", describe(errno));
    }
    problem
}

/// A path below the one that is adopted, and what is with it.
fn worded(found: &Found<'_>) -> String {
    let path = if found.path.is_empty() { "itself".to_owned() } else { show(found.path) };
    match found.state {
        State::Missing => format!("{path} (not there)"),
        State::Differs(what) => format!("{path} ({what})"),
        State::Same | State::Foreign => path,
    }
}

fn foreign(found: &Found<'_>) -> Problem {
    Problem::new(format!("another file system is mounted at {}", show(found.path)))
}

fn restless(changed: &[String]) -> Problem {
    let what = if changed.is_empty() { String::new() } else { format!(": {}", some(changed)) };
    Problem::new(format!("it changes as fast as it is copied{what}"))
        .remedy("stop what writes to it, then run again; nothing was changed")
}

/// The first of many paths below the one that is adopted.
pub fn some(paths: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = paths.len().saturating_sub(SHOWN);
    let shown = paths[..paths.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown}, and {more} more") }
}
