//! A tree on its way from the root to the store: copied in the staging directory until a pass finds nothing changed, moved to its place
//! in one step, and mounted.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, IFlags, Mode, OFlags, RenameFlags, StatxFlags, XattrFlags, syncfs};
use rustix::io::Errno;

use super::inventory::{self, Inventory, Seen, nanoseconds};
use crate::ctl::ui::progress::Progress;
use crate::manifest::AbsPath;
use crate::manifest::options::BindOptions;
use crate::mount::place::verify;
use crate::mount::tree::Tree;
use crate::sys::attributes::{self, OWN};
use crate::sys::unnamed;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, os_error};
use crate::transfer::remove::remove;
use crate::transfer::seals::{self, Seal};
use crate::transfer::staging;
use crate::transfer::staging::Stagings;
use crate::transfer::tree::{Choice, Found, State, Transfer};
use crate::transfer::{Name, file};

/// Number of passes for files changed during the copy.
const PASSES: usize = 8;

/// The name of the copy of a path in a staging directory: the same in every run, which continues the copy.
#[must_use]
pub fn key(target: &AbsPath) -> CString {
    staging::key(target.as_str().trim_start_matches('/').as_bytes())
}

/// An adopted path.
#[derive(Debug)]
pub struct Place<'p> {
    root: BorrowedFd<'p>,
    store: BorrowedFd<'p>,
    name: &'p str,
    c_name: CString,
    /// The staging directory on the same mount as the place, and the copy's name in this directory.
    staging: OwnedFd,
    key: CString,
}

/// A copy in its place on the store.
#[derive(Debug)]
pub struct Copied {
    /// Its top.
    pub top: OwnedFd,
    stat: Stat,
    /// The top of the source.
    pub source: Identity,
    /// The copied tree.
    pub seen: Inventory,
    /// `chattr +i` and `+a` of the top, which are set last.
    seals: IFlags,
    /// True if made by this run.
    is_new: bool,
}

impl<'p> Place<'p> {
    /// A path of the root, in its directory there and in its future directory on the store.
    pub fn new(
        target: &'p AbsPath,
        root: BorrowedFd<'p>,
        store: BorrowedFd<'p>,
        stagings: &mut Stagings,
    ) -> Result<Self> {
        let name = target.name();
        let other = |error: &dyn std::fmt::Display| Problem::new(error.to_string());
        let c_name = CString::new(name).map_err(|error| other(&error))?;
        let staging = stagings.near(store)?.dir().try_clone_to_owned().map_err(|error| other(&error))?;
        Ok(Self { root, store, name, c_name, staging, key: key(target) })
    }

    fn from(&self) -> Name<'_> {
        (self.root, &self.c_name)
    }

    /// The place on the store.
    #[must_use]
    pub fn to(&self) -> Name<'_> {
        (self.store, &self.c_name)
    }

    fn staged(&self) -> Name<'_> {
        (self.staging.as_fd(), &self.key)
    }

    /// Copies the path to a free or identical place on the store. The copy appears there complete.
    pub fn bring(&self, stagings: &mut Stagings, progress: &Progress) -> Result<Copied> {
        let failed = |errno| Problem::os("cannot prepare the copy on the store", errno);
        match walk::stat_at(self.store, self.name) {
            Ok(there) => match self.interrupted().map_err(failed)? {
                Some(copy) => self.take_back(copy).map_err(failed)?,
                None => return self.must_be_same(&there, progress),
            },
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let copied = self.copy(stagings, progress).and_then(|copied| {
            let to = (self.store, self.c_name.as_c_str());
            unnamed::rename(self.staged(), to, RenameFlags::NOREPLACE)
                .map_err(|errno| Problem::os("cannot move the copy to its place on the store", errno))?;
            Ok(copied)
        });
        copied.map_err(|problem| self.give_up(problem))
    }

    /// Copies until a pass finds no difference, and no file changes until all data is on the disk.
    fn copy(&self, stagings: &mut Stagings, progress: &Progress) -> Result<Copied> {
        let mut changed = Vec::new();
        for _ in 0..PASSES {
            let mut seen = Inventory::begin();
            let mut source = None;
            changed.clear();
            let mut decide = |found: &Found<'_>| {
                if found.path.is_empty() {
                    source = Some(found.stat.identity());
                }
                seen.add(found.stat, found.digest);
                match found.state {
                    State::Foreign => Err(foreign(found)),
                    State::Same => Ok(Choice::Pass),
                    State::Missing | State::Differs(_) => {
                        changed.push(worded(found));
                        Ok(Choice::Make)
                    }
                }
            };
            let mut transfer = Transfer {
                base: Some((self.staging.as_fd(), self.key.to_bytes().to_vec())),
                stagings: Some(stagings),
                mirror: true,
                times: true,
                read: true,
                digest: true,
                ..Transfer::default()
            };
            let to = Some(self.staged());
            transfer.run(self.from(), to, &mut decide, &mut |bytes| progress.add(bytes))?;
            let seals = std::mem::take(&mut transfer.seals);
            // Write errors are reported here, and later reads come from the disk.
            syncfs(&self.staging)
                .map_err(|errno| Problem::os("cannot write all of it to the store", errno))?;
            progress.say("verifying");
            let Some(source) = source.filter(|_| changed.is_empty()) else { continue };
            seen.end();
            changed = self.changes(&seen)?;
            if changed.is_empty() {
                return self.complete(source, seen, seals);
            }
        }
        Err(keeps_changing(&changed))
    }

    /// Files with changed properties since a pass, but the same content.
    fn changes(&self, seen: &Inventory) -> Result<Vec<String>> {
        let mut changes = Vec::new();
        let mut decide = |found: &Found<'_>| {
            if matches!(seen.seen(found.stat), Seen::Changed | Seen::New) {
                changes.push(path(found));
            }
            Ok(Choice::Pass)
        };
        Transfer::default().run(self.from(), None, &mut decide, &mut |_| ())?;
        Ok(changes)
    }

    /// Makes the copy ready to be moved to its place.
    fn complete(&self, source: Identity, seen: Inventory, seals: Vec<Seal>) -> Result<Copied> {
        let failed = |errno| Problem::os("cannot complete the copy", errno);
        let (own, below): (Vec<_>, Vec<_>) =
            seals.into_iter().partition(|seal| seal.path == self.key.to_bytes());
        seals::set(self.staging.as_fd(), &below)?;
        let top = walk::look(self.staging.as_fd(), &*self.key, Mounts::Stay).map_err(failed)?;
        let stat = walk::stat(top.as_fd()).map_err(failed)?;
        let mark = Mark::new(self.from()).map_err(failed)?;
        mark.set(top.as_fd()).map_err(failed)?;
        // No other process can change the copy before the rename; a change after the rename leaves a later time.
        while inventory::coarse_time() <= mark.time {
            std::thread::sleep(Duration::from_millis(1));
        }
        let seals = own.first().map_or(IFlags::empty(), |seal| seal.flags);
        Ok(Copied { top, stat, source, seen, seals, is_new: true })
    }

    /// The unchanged copy of a run stopped between the rename to the store and the mount.
    fn interrupted(&self) -> Result<Option<Identity>, Errno> {
        let top = walk::look(self.store, self.name, Mounts::Stay)?;
        let own = Mark::new(self.from())?;
        let Some(mark) = Mark::of(top.as_fd())?.filter(|mark| mark.text == own.text) else { return Ok(None) };
        let mut is_changed = false;
        let mut decide = |found: &Found<'_>| {
            // The rename may have changed the time of the top.
            is_changed |= !found.path.is_empty() && nanoseconds(found.stat.changed()) > mark.time;
            Ok(Choice::Pass)
        };
        let walked = Transfer::default().run(self.to(), None, &mut decide, &mut |_| ());
        walked.map_err(|problem| problem.errno.unwrap_or(Errno::IO))?;
        Ok(if is_changed { None } else { Some(walk::stat(top.as_fd())?.identity()) })
    }

    /// Moves the copy from its place back to the staging directory for changes.
    fn take_back(&self, copy: Identity) -> Result<(), Errno> {
        remove(self.staged())?;
        unnamed::rename(self.to(), self.staged(), RenameFlags::NOREPLACE)?;
        if walk::stat_at(self.staging.as_fd(), &*self.key)?.identity() != copy {
            // Replaced by the owner of the directory, and not ours.
            unnamed::rename(self.staged(), self.to(), RenameFlags::NOREPLACE)?;
            return Err(Errno::STALE);
        }
        let mut decide = |found: &Found<'_>| {
            if !found.stat.seals().is_empty() {
                let unsealed = file::open(found.from, found.stat)
                    .and_then(|file| attributes::seal(file.as_fd(), IFlags::empty()));
                unsealed.map_err(|errno| Problem::os("cannot clear inode flags", errno))?;
            }
            Ok(Choice::Pass)
        };
        let walked = Transfer::default().run(self.staged(), None, &mut decide, &mut |_| ());
        walked.map_err(|problem| problem.errno.unwrap_or(Errno::IO))
    }

    /// Removes the unfinished copy, which takes space.
    fn give_up(&self, problem: Problem) -> Problem {
        if let Err(errno) = remove(self.staged()) {
            log::warn!("what was begun stays on the store until the next run: {errno}");
        }
        problem
    }

    /// Compares the path with the one on the store.
    fn must_be_same(&self, there: &Stat, progress: &Progress) -> Result<Copied> {
        progress.say("comparing");
        let mut seen = Inventory::begin();
        let (mut differences, mut source) = (Vec::new(), None);
        let mut decide = |found: &Found<'_>| {
            // A file was added or removed.
            let aged = |there: &Stat| found.stat.is_dir() && there.modified() != found.stat.modified();
            seen.add(found.stat, found.digest);
            if found.path.is_empty() {
                let is_that = found.there.is_some_and(|it| it.identity() == there.identity());
                source = is_that.then(|| found.stat.identity());
            }
            match found.state {
                State::Foreign => return Err(foreign(found)),
                State::Same if !found.there.is_some_and(aged) => {}
                _ => differences.push(worded(found)),
            }
            Ok(Choice::Pass)
        };
        let mut transfer = Transfer { read: true, digest: true, mirror: true, ..Transfer::default() };
        transfer.run(self.from(), Some(self.to()), &mut decide, &mut |bytes| progress.add(bytes))?;
        if !differences.is_empty() {
            let what = format!("the store holds something else at its place: {}", some(&differences));
            return Err(Problem::new(what).remedy("compare the two, and move one of them away"));
        }
        seen.end();
        let changes = self.changes(&seen)?;
        if !changes.is_empty() {
            return Err(keeps_changing(&changes));
        }
        let failed = |errno| Problem::os("cannot open the copy on the store", errno);
        let top = walk::look(self.store, self.name, Mounts::Stay).map_err(failed)?;
        let stat = walk::stat(top.as_fd()).map_err(failed)?;
        match source {
            Some(source) if stat.identity() == there.identity() => {
                Ok(Copied { top, stat, source, seen, seals: IFlags::empty(), is_new: false })
            }
            _ => Err(replaced("on the store")),
        }
    }

    /// Mounts the copy over the root, as a run does.
    pub fn mount(&self, tree: &mut Tree, copied: &Copied) -> Result<()> {
        let failed = |errno| Problem::os("cannot open it to mount it", errno);
        let mounted = (|| {
            let place = walk::look(self.root, self.name, Mounts::Enter).map_err(failed)?;
            if walk::stat(place.as_fd()).map_err(failed)?.identity() != copied.source {
                return Err(replaced("on the root"));
            }
            let to = (self.root, self.name);
            tree.bind(copied.top.as_fd(), to, place.as_fd(), BindOptions::DEFAULT, false)
        })();
        if let Err(problem) = mounted {
            return Err(if copied.is_new { self.withdraw(copied, problem) } else { problem });
        }
        verify((self.root, self.name), &copied.stat)
    }

    /// Removes the copy from its place.
    fn withdraw(&self, copied: &Copied, problem: Problem) -> Problem {
        match self.take_back(copied.stat.identity()) {
            Ok(()) => self.give_up(problem),
            Err(errno) => {
                log::warn!("the copy stays on the store: {errno}");
                problem
            }
        }
    }

    /// Completes the copy after the mount: then everything is on the disk.
    pub fn end(&self, copied: &Copied) -> Result<()> {
        end(copied.top.as_fd(), copied.seals)?;
        syncfs(&self.staging)
            .map_err(|errno| Problem::os("it is mounted, but cannot be written to the store", errno))
    }
}

/// Removes the mark of a copy now in use, and sets the inode flags against changes.
pub fn end(top: BorrowedFd<'_>, seals: IFlags) -> Result<()> {
    let failed = |errno| Problem::os("it is mounted, but the copy cannot be completed", errno);
    Mark::remove(top).map_err(failed)?;
    if seals.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = fs::openat(CWD, magic(top), flags, Mode::empty());
    match opened.and_then(|file| attributes::seal(file.as_fd(), seals)) {
        Ok(()) | Err(Errno::NOTTY | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// The path to an open file alone.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Mark of a copy in its place before its first use: time of completion, boot, and source.
#[derive(Debug)]
struct Mark {
    text: String,
    time: u128,
}

impl Mark {
    fn name() -> String {
        format!("{OWN}adopting")
    }

    /// The mark of a complete copy of this source.
    fn new(source: Name<'_>) -> Result<Self, Errno> {
        let time = inventory::exact_time();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(os_error)?;
        let identity = walk::stat_at(source.0, source.1)?.identity();
        // Numbers are used again, and not every file system knows when a file was made.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let born = fs::statx(source.0, source.1, flags, StatxFlags::BTIME)?.stx_btime;
        Ok(Self { text: format!("{} {identity} {}.{}", boot.trim(), born.tv_sec, born.tv_nsec), time })
    }

    /// The mark of an open file or directory; none without one.
    fn of(top: BorrowedFd<'_>) -> Result<Option<Self>, Errno> {
        let mut value = [0_u8; 256];
        let length = match fs::getxattr(magic(top), Self::name(), &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let text = String::from_utf8_lossy(&value[..length]);
        let Some((time, text)) = text.split_once(' ') else { return Ok(None) };
        Ok(time.parse().ok().map(|time| Self { text: text.to_owned(), time }))
    }

    fn set(&self, top: BorrowedFd<'_>) -> Result<(), Errno> {
        let value = format!("{} {}", self.time, self.text);
        match fs::setxattr(magic(top), Self::name(), value.as_bytes(), XattrFlags::empty()) {
            // Without the mark the next run cannot tell a copy of a stopped run from other files, and compares.
            Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
            result => result,
        }
    }

    fn remove(top: BorrowedFd<'_>) -> Result<(), Errno> {
        if Self::of(top)?.is_none() {
            return Ok(());
        }
        match fs::removexattr(magic(top), Self::name()) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// A path below the adopted one.
fn path(found: &Found<'_>) -> String {
    if found.path.is_empty() { "itself".to_owned() } else { escape::name(found.path).into_owned() }
}

/// The same, with its properties.
fn worded(found: &Found<'_>) -> String {
    match found.state {
        State::Missing => format!("{} (not there)", path(found)),
        State::Differs(what) => format!("{} ({what})", path(found)),
        State::Same | State::Foreign => path(found),
    }
}

fn foreign(found: &Found<'_>) -> Problem {
    Problem::new(format!("another file system is mounted at {}", escape::name(found.path)))
}

fn replaced(place: &str) -> Problem {
    Problem::new(format!("it was replaced {place} while it was copied")).remedy("run again")
}

fn keeps_changing(changed: &[String]) -> Problem {
    let what = if changed.is_empty() { String::new() } else { format!(": {}", some(changed)) };
    Problem::new(format!("files keep changing during the copy{what}"))
        .remedy("stop the programs that write to it, then run again; nothing was changed")
}

/// The first of many paths below the adopted one.
pub fn some(paths: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = paths.len().saturating_sub(SHOWN);
    let shown = paths[..paths.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown}, and {more} more") }
}
