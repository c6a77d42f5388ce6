//! One file system looked through by all processors, without ever holding its names: what is found is added up as it is seen,
//! in the directories that a person would name.

mod dir;
mod group;
mod jobs;
mod pool;
pub mod rules;
mod start;
mod walker;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Statx};
use rustix::process::{Resource, getrlimit, setrlimit};

pub use group::{Row, SINGLES, Subject, Totals};
use rules::Rules;

use crate::manifest::AbsPath;
use crate::manifest::coverage::Type;
use crate::sys::walk;
use crate::text::problem::Result;

/// What could not be looked into is named so many times, and then only counted.
const UNREAD: usize = 1000;

/// A name that [`rules::Rule::Named`] is about, and is no directory.
pub struct Named<'n> {
    /// Its path, as it is shown.
    pub path: &'n [u8],
    /// The directory that it is in.
    pub dir: BorrowedFd<'n>,
    /// The name.
    pub name: &'n CStr,
    /// Its attributes (statx(2)).
    pub stat: &'n Statx,
}

impl Named<'_> {
    /// Its path, where that is text.
    #[must_use]
    pub fn text(&self) -> Option<AbsPath> {
        AbsPath::parse(str::from_utf8(self.path).ok()?).ok()
    }

    /// Its kind.
    #[must_use]
    pub fn what(&self) -> Type {
        walk::what(FileType::from_raw_mode(self.stat.stx_mode.into()))
    }
}

/// The fate of such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It is brought to a store at shutdown.
    Brought,
    /// An entry is for it, but only the root has it, and nothing brings it to a store.
    RootOnly,
    /// No entry is for it.
    Unkept,
}

/// What to look at, and how.
pub struct Scan<'a> {
    /// The root that the rules' paths begin at.
    pub root: BorrowedFd<'a>,
    /// How paths are shown: what stands before them.
    pub prefix: &'a str,
    /// The rules.
    pub rules: &'a Rules,
    /// Whether what is throw-away is listed, too.
    pub all: bool,
    /// Whether entries count only where they are mounted: on a root that the next boot empties.
    pub built: bool,
    /// So many single files of a directory that is shared by many get lines of their own, where no pattern is for all of them.
    pub singles: usize,
    /// Whether empty lock files are throw-away.
    pub locks: bool,
    /// What symbolic links of the system begin with.
    pub system_links: &'a [&'a str],
    /// Decides about what [`rules::Rule::Named`] is about.
    pub named: &'a (dyn Fn(&Named<'_>) -> Fate + Sync),
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("prefix", &self.prefix)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Seen {
    /// The lines, in no order.
    pub rows: Vec<Row>,
    /// What could not be looked into, and why.
    pub unread: Vec<(Vec<u8>, String)>,
    /// How many of these there are.
    pub unread_count: u64,
    /// How many throw-away places were passed over.
    pub passed_over: u64,
    /// Why nothing of the path that was asked for is listed; empty where it was looked at.
    pub elsewhere: String,
}

/// What all threads add to.
#[derive(Debug, Default)]
struct Results {
    seen: Mutex<Seen>,
    /// Files with several names, by device and inode, with how many of these were not met yet.
    links: Mutex<HashMap<(u64, u64), u32>>,
}

impl Results {
    fn rows(&self, rows: Vec<Row>) {
        if !rows.is_empty() {
            self.with(|seen| seen.rows.extend(rows));
        }
    }

    fn unread(&self, path: impl FnOnce() -> Vec<u8>, why: String) {
        self.with(|seen| {
            seen.unread_count += 1;
            if seen.unread.len() < UNREAD {
                seen.unread.push((path(), why));
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this is the first name of a file that has several.
    fn is_first(&self, device: u64, inode: u64, names: u32) -> bool {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = links.get_mut(&(device, inode)) {
            *rest -= 1;
            if *rest == 0 {
                links.remove(&(device, inode));
            }
            return false;
        }
        links.insert((device, inode), names - 1);
        true
    }
}

/// How many files this process may have open: as many as it is allowed to allow itself.
fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is denied, the limit stays as it was.
    let _ = setrlimit(Resource::Nofile, limit);
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many threads work, and how many directories each may have open at either end of its way down.
fn share(descriptors: usize) -> (usize, usize) {
    /// What is open beside directories of the walk.
    const OTHERS: usize = 16;
    /// What each thread has open beside its way: the directory that it reads, one in it, the last one, one that it gives away.
    const AT_WORK: usize = 5;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let free = descriptors.saturating_sub(OTHERS);
    let workers = (free / 16).clamp(1, processors.clamp(1, 16));
    (workers, ((free / workers).saturating_sub(AT_WORK) / 2).clamp(1, 32))
}

impl Scan<'_> {
    /// Looks at a path and all that lies below it on the root's own file system.
    pub fn run(&self, path: &AbsPath) -> Result<Seen> {
        let results = Results::default();
        if let Some(start) = start::start(self, path, &results)? {
            let (workers, open) = share(descriptors());
            pool::run(workers, jobs::Job::new(start), |pool| {
                walker::Worker::new(self, &results, pool, open).work();
            });
        }
        Ok(results.seen.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
