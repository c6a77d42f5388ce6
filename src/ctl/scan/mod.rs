//! Scan of one file system by all processors, without a list of all names: findings are summed up during the scan, by
//! the directories that a person would list.

mod dir;
mod group;
mod jobs;
pub mod judge;
mod parts;
mod pool;
pub mod rules;
pub mod show;
mod start;
mod walker;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{FileType, Statx};
use rustix::process::{Resource, getrlimit, setrlimit};

#[cfg(test)]
pub use group::Owner;
pub use group::{Row, SINGLES, Subject, Totals};
pub use parts::Parts;
use rules::Rules;

use crate::ctl::ui::progress::Count;
use crate::manifest::AbsPath;
use crate::manifest::coverage::Type;
use crate::sys::walk;
use crate::text::problem::Result;

/// Most parts of a root or a store on a map.
pub const ON_MAP: usize = 6_000;
/// Most unreadable paths in the list; further ones are counted.
const UNREAD: usize = 1000;

/// A name for [`rules::Rule::Named`], which is no directory.
pub struct Named<'n> {
    /// Its path in output.
    pub path: &'n [u8],
    /// Its directory.
    pub dir: BorrowedFd<'n>,
    /// The name.
    pub name: &'n CStr,
    /// Its attributes (statx(2)).
    pub stat: &'n Statx,
}

impl Named<'_> {
    /// Its path; none if not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<AbsPath> {
        AbsPath::parse(str::from_utf8(self.path).ok()?).ok()
    }

    /// Its kind.
    #[must_use]
    pub fn entry_type(&self) -> Type {
        walk::entry_type(FileType::from_raw_mode(self.stat.stx_mode.into()))
    }
}

/// The fate of such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Kept.
    Kept,
    /// Copied to a store at shutdown.
    Brought,
    /// Named by an entry, but only on the root, and not copied to a store by any service.
    RootOnly,
    /// Named by no entry.
    Unkept,
}

/// Scope and options of a scan.
#[allow(clippy::struct_excessive_bools, reason = "none of them excludes another")]
pub struct Scan<'a> {
    /// The root of the rules' paths.
    pub root: BorrowedFd<'a>,
    /// Prefix of paths in output.
    pub prefix: &'a str,
    /// The rules.
    pub rules: &'a Rules,
    /// True to list disposable paths, too.
    pub all: bool,
    /// True if entries count only if mounted: on a root emptied by the next boot.
    pub built: bool,
    /// So many single files of a directory shared by many get lines of their own, where no pattern is for all of them.
    pub singles: usize,
    /// True if empty lock files are throw-away.
    pub locks: bool,
    /// Prefixes of the targets of the system's symbolic links.
    pub system_links: &'a [&'a str],
    /// True to list kept paths, too.
    pub kept: bool,
    /// So many of the largest directories and files inside of lines are in its findings, too.
    pub parts: usize,
    /// Time of its end; paths not scanned until then are not in the findings.
    pub until: Option<Instant>,
    /// Decides about names of [`rules::Rule::Named`].
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

/// Findings.
#[derive(Debug, Default)]
pub struct Seen {
    /// The lines, in no order.
    pub rows: Vec<Row>,
    /// The largest paths inside of these, in no order.
    pub parts: Vec<Row>,
    /// Unreadable paths, and the errors.
    pub unread: Vec<(Vec<u8>, String)>,
    /// Number of these.
    pub unread_count: u64,
    /// Number of disposable paths passed over.
    pub passed_over: u64,
    /// True if stopped before the end.
    pub stopped: bool,
    /// Why the requested path is not scanned; empty otherwise.
    pub elsewhere: String,
}

/// Common results of all threads.
#[derive(Debug)]
struct Results {
    count: Count,
    seen: Mutex<Seen>,
    parts: Mutex<Parts>,
    /// Files with several names, by device and inode, with how many of these were not met yet.
    links: Mutex<HashMap<(u64, u64), u32>>,
}

impl Results {
    fn lines(&self, rows: Vec<Row>, parts: Parts) {
        if !rows.is_empty() {
            self.with(|seen| seen.rows.extend(rows));
        }
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).add(parts.into_rows());
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

    /// True for the only name of a file, or the first one of several.
    fn is_first(&self, stat: &Statx) -> bool {
        let (inode, names) = (stat.stx_ino, stat.stx_nlink);
        if names < 2 {
            return true;
        }
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
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

/// Limit of open files: the soft limit is raised to the hard one.
fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // After an error the limit stays the same.
    let _ = setrlimit(Resource::Nofile, limit);
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Number of threads, and of directories each may have open at either end of its path.
fn share(descriptors: usize) -> (usize, usize) {
    /// Open files besides directories of the walk.
    const OTHERS: usize = 16;
    /// Open files of each thread besides its path: the current directory, one inside, the last one, one for other
    /// threads.
    const AT_WORK: usize = 5;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let free = descriptors.saturating_sub(OTHERS);
    let workers = (free / 16).clamp(1, processors.clamp(1, 16));
    (workers, ((free / workers).saturating_sub(AT_WORK) / 2).clamp(1, 32))
}

impl Scan<'_> {
    /// Scans a path with its content on the root's own file system.
    pub fn run(&self, path: &AbsPath) -> Result<Seen> {
        let results = Results {
            count: Count::new("looked at"),
            seen: Mutex::default(),
            parts: Mutex::new(Parts::new(self.parts)),
            links: Mutex::default(),
        };
        if let Some(start) = start::start(self, path, &results)? {
            let (workers, open) = share(descriptors());
            pool::run(workers, jobs::Job::new(start), |pool| {
                walker::Worker::new(self, &results, pool, open).work();
            });
        }
        let mut seen = results.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        seen.parts = results.parts.into_inner().unwrap_or_else(PoisonError::into_inner).into_rows();
        Ok(seen)
    }
}
