//! The walk itself, one directory at a time and by descriptors only.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::fs::{self, AtFlags, FileType, RawDir, Statx};
use rustix::io::Errno;

use super::dir::{Dir, Place, group, join, look, open, place, row, totals};
use super::group::{Group, Row, SINGLES, Subject, Totals};
use super::jobs::{Job, Jobs};
use super::pool::Pool;
use super::rules::{State, Verdict};
use super::{Fate, Named, Results, Scan};
use crate::text::problem::describe;

/// Names are read in pieces of this size.
const BUFFER: usize = 64 * 1024;
/// The longest path accepted by the kernel.
const PATH_MAX: usize = 4096;

/// One thread of the walk.
pub struct Worker<'a> {
    scan: &'a Scan<'a>,
    results: &'a Results,
    pool: &'a Pool<Job>,
    jobs: Jobs,
    buffer: Vec<MaybeUninit<u8>>,
    /// Path of the root, seen from this process.
    home: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// A thread without work yet, and its number of open directories at either end of the way down.
    pub fn new(scan: &'a Scan<'a>, results: &'a Results, pool: &'a Pool<Job>, open: usize) -> Self {
        Self {
            scan,
            results,
            pool,
            jobs: Jobs::new(open),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
            home: place(scan.root).unwrap_or_default(),
        }
    }

    /// The path of a name in a directory. Paths are not kept below a group, but the kernel knows them.
    fn path(&self, dir: &Dir, name: &CStr) -> Vec<u8> {
        if dir.own {
            return join(dir.group.path.clone(), name.to_bytes());
        }
        // Longer than a path may be, or /proc is not there.
        let unknown = || join(dir.group.path.clone(), b"...");
        let below = place(dir.fd.as_fd()).and_then(|path| Some(path.strip_prefix(&*self.home)?.to_vec()));
        let path = below.map_or_else(unknown, |below| [self.scan.prefix.as_bytes(), &below].concat());
        join(path, name.to_bytes())
    }

    /// Works until there is nothing left to do.
    pub fn work(mut self) {
        loop {
            let job = match self.jobs.pop() {
                Some(Ok(job)) => job,
                // A directory that cannot be reopened was moved away, with all directories below.
                Some(Err((group, errno))) => {
                    self.results.unread(|| join(group.path.clone(), b"..."), describe(errno));
                    Group::release(group, &mut |rows, parts| self.results.lines(rows, parts));
                    continue;
                }
                None => match self.pool.take() {
                    Some(job) => job,
                    None => break,
                },
            };
            if self.scan.until.is_some_and(|until| Instant::now() >= until) {
                self.results.with(|seen| seen.stopped = true);
                self.release(job.dir);
            } else if job.below.is_empty() {
                self.read(job.dir);
            } else {
                self.enter(job);
            }
            if self.pool.has_idle()
                && let Some(oldest) = self.jobs.give()
            {
                self.pool.give(oldest);
            }
        }
    }

    /// This share of a directory is done.
    fn release(&mut self, dir: Arc<Dir>) {
        if let Some(dir) = Arc::into_inner(dir) {
            let group = self.jobs.done(dir);
            Group::release(group, &mut |rows, parts| self.results.lines(rows, parts));
        }
    }

    /// Reads as many names as fit, counts the files among them, and leaves the directories for later.
    fn read(&mut self, dir: Arc<Dir>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut names = RawDir::new(&dir.fd, &mut buffer);
        let mut sum = Sum::default();
        let mut names_read = 0;
        let mut below = Vec::new();
        let mut again = true;
        let mut is_first = true;
        loop {
            let entry = match names.next() {
                Some(Ok(entry)) => entry,
                Some(Err(errno)) => {
                    self.results.unread(|| self.path(&dir, c""), describe(errno));
                    again = false;
                    break;
                }
                None => {
                    again = false;
                    break;
                }
            };
            // Others may read on from here while these are counted.
            if is_first && self.jobs.is_empty() && self.pool.has_idle() {
                self.pool.give(Job { dir: Arc::clone(&dir), below: Vec::new(), unread: true });
                again = false;
            }
            is_first = false;
            names_read += 1;
            let name = entry.file_name();
            let is_wanted = dir.only.as_ref().is_none_or(|only| **only == *name.to_bytes());
            if is_wanted && !matches!(name.to_bytes(), b"." | b"..") {
                match entry.file_type() {
                    FileType::Directory => below.extend_from_slice(name.to_bytes_with_nul()),
                    // A socket is created anew by its listener.
                    FileType::Socket => {}
                    FileType::Unknown => {
                        let stat = look(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW);
                        if stat.is_ok_and(|stat| {
                            FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
                        }) {
                            below.extend_from_slice(name.to_bytes_with_nul());
                        } else {
                            self.file(&dir, name, &mut sum);
                        }
                    }
                    _ => self.file(&dir, name, &mut sum),
                }
            }
            if names.is_buffer_empty() {
                break;
            }
        }
        self.buffer = buffer;
        self.results.count.add(names_read);
        if sum.passed_over > 0 {
            self.results.with(|seen| seen.passed_over += sum.passed_over);
        }
        sum.give(&dir.group, self.scan.singles);
        self.put_back(Job { dir, below, unread: again });
    }

    /// Counts one name, except a directory.
    fn file(&self, dir: &Dir, name: &CStr, sum: &mut Sum) {
        let state: &[usize] = if dir.is_split() { &dir.group.state } else { &[] };
        let (_, verdict) = self.scan.rules.step(state, name.to_bytes());
        if verdict.kept || verdict.mounted || verdict.system {
            sum.mixed = true;
            sum.kept |= !verdict.system || dir.group.etc;
            if verdict.kept && !verdict.system {
                self.list_kept(dir, name);
            }
            return;
        }
        if verdict.named && self.is_kept(dir, name) {
            sum.kept = true;
            sum.mixed = true;
            return;
        }
        let is_kept = dir.group.row.kept;
        let mut throw_away = !is_kept && verdict.throw_away.unwrap_or(dir.throw_away);
        sum.mixed |= throw_away;
        if throw_away && !self.scan.all {
            sum.passed_over += u64::from(!dir.throw_away);
            return;
        }
        let stat = match look(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(Errno::NOENT) => return,
            Err(errno) => return self.results.unread(|| self.path(dir, name), describe(errno)),
        };
        if stat.stx_mnt_id != dir.mount {
            sum.mixed = true;
            sum.kept |= verdict.disk;
            return;
        }
        let subject = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Subject::File,
            FileType::Symlink => Subject::Link,
            FileType::Socket => return,
            _ => Subject::Special,
        };
        if subject == Subject::Link && is_systems(self.scan.system_links, dir.fd.as_fd(), name) {
            sum.kept |= dir.group.etc;
            return;
        }
        if self.scan.locks
            && !is_kept
            && stat.stx_size == 0
            && is_lock(name.to_bytes())
            && verdict.throw_away.is_none()
        {
            throw_away = true;
            sum.mixed = true;
            if !self.scan.all {
                sum.passed_over += 1;
                return;
            }
        }
        if !self.results.is_first(&stat) {
            return;
        }
        if throw_away != dir.throw_away {
            let row = row(self.path(dir, name), subject, &stat, throw_away);
            let mut found = dir.group.found.lock().unwrap_or_else(PoisonError::into_inner);
            return found.thrown(row, &dir.group.path);
        }
        sum.others |= stat.stx_uid != dir.group.row.owner.uid;
        // A pattern `*` brings regular files whose names are text, and begin with no dot.
        sum.mixed |= subject != Subject::File || name.to_bytes().starts_with(b".") || name.to_str().is_err();
        if dir.is_split() {
            let Row { kept, unmounted, .. } = dir.group.row;
            let row = row(self.path(dir, name), subject, &stat, throw_away);
            sum.singles.push(Row { kept, unmounted, ..row });
        } else {
            sum.totals.add(&totals(&stat));
        }
    }

    /// True if a name, listed as a file in the manifest, belongs to an entry. A file not yet stored gets a row.
    fn is_kept(&self, dir: &Dir, name: &CStr) -> bool {
        // Unreadable paths are reported with all others.
        let Ok(stat) = look(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        if stat.stx_mnt_id != dir.mount {
            return true;
        }
        let path = self.path(dir, name);
        let fate = (self.scan.named)(&Named { path: &path, dir: dir.fd.as_fd(), name, stat: &stat });
        if fate == Fate::Kept {
            self.list_kept(dir, name);
        }
        if matches!(fate, Fate::Brought | Fate::RootOnly) {
            let is_link = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink;
            let subject = if is_link { Subject::Link } else { Subject::File };
            let brought = fate == Fate::Brought;
            let row = Row { brought, unmounted: !brought, ..row(path, subject, &stat, false) };
            let mut found = dir.group.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.named(row, &dir.group.path);
        }
        fate != Fate::Unkept
    }

    /// Lists a kept file, if requested.
    fn list_kept(&self, dir: &Dir, name: &CStr) {
        let stat = || look(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let is_here = |stat: &Statx| stat.stx_mnt_id == dir.mount && self.results.is_first(stat);
        let Some(stat) = stat().filter(|stat| self.scan.kept && is_here(stat)) else { return };
        let subject = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Subject::File,
            FileType::Symlink => Subject::Link,
            _ => Subject::Special,
        };
        let row = Row { kept: true, ..row(self.path(dir, name), subject, &stat, false) };
        dir.group.found.lock().unwrap_or_else(PoisonError::into_inner).named(row, &dir.group.path);
    }

    /// Saves the remaining work of a directory for later.
    fn put_back(&mut self, job: Job) {
        if job.below.is_empty() && !job.unread {
            self.release(job.dir);
        } else {
            self.jobs.push(job);
        }
    }

    /// Goes down to one directory in another, and leaves the others for later.
    fn enter(&mut self, mut job: Job) {
        let names = &mut job.below;
        let start = names[..names.len() - 1].iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
        let last = names.split_off(start);
        let below = CStr::from_bytes_with_nul(&last).ok().and_then(|name| self.child(&job.dir, name));
        self.put_back(job);
        if let Some(dir) = below {
            self.jobs.push(Job::new(dir));
        }
    }

    /// Opens a directory below another, unless left out.
    fn child(&self, dir: &Dir, name: &CStr) -> Option<Dir> {
        let state: &[usize] = if dir.is_split() { &dir.group.state } else { &[] };
        let (state, verdict) = self.scan.rules.step(state, name.to_bytes());
        let above = &dir.group;
        let kept = || {
            above.found.lock().unwrap_or_else(PoisonError::into_inner).kept = true;
            None
        };
        let is_kept = verdict.kept || (verdict.mounted && !self.scan.built);
        if is_kept && !self.scan.kept {
            return kept();
        }
        if verdict.system {
            return if above.etc { kept() } else { None };
        }
        let is_below_kept = is_kept || above.row.kept;
        let throw_away = !is_below_kept && verdict.throw_away.unwrap_or(dir.throw_away);
        // A path to keep may lie in a disposable one.
        if throw_away && !self.scan.all {
            self.results.with(|seen| seen.passed_over += u64::from(!dir.throw_away));
            if state.is_empty() {
                return None;
            }
        }
        let stat = match look(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return None,
            Err(errno) => {
                self.results.unread(|| self.path(dir, name), describe(errno));
                return None;
            }
        };
        if stat.stx_mnt_id != dir.mount {
            return if verdict.disk || verdict.mounted { kept() } else { None };
        }
        let fd = match open(dir.fd.as_fd(), name) {
            Ok(fd) => fd,
            // Removed meanwhile, or replaced.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return None,
            Err(errno) => {
                self.results.unread(|| self.path(dir, name), describe(errno));
                return None;
            }
        };
        let unmounted = verdict.mounted && !is_kept;
        let apart = throw_away != dir.throw_away || unmounted || is_kept;
        if unmounted || is_kept {
            let _: Option<Dir> = kept();
        }
        if !apart && !dir.is_split() {
            let mut found = above.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.totals.allocated += stat.stx_blocks * 512;
            drop(found);
            return Some(Dir {
                fd,
                depth: dir.depth + 1,
                group: Arc::clone(above),
                own: false,
                throw_away,
                mount: dir.mount,
                only: None,
            });
        }
        let path = self.path(dir, name);
        // Below an entry there is nothing more to say but its own.
        let etc = !unmounted && (above.etc || path == b"/etc");
        let etc = etc && !is_below_kept;
        let parent = (!apart).then(|| Arc::clone(above));
        // A kept directory is one line, independent of its content.
        let (state, verdict) =
            if is_kept { (State::default(), Verdict::default()) } else { (state, verdict) };
        // A path beyond the kernel's limit is not reported for each directory.
        let parts = if path.len() < PATH_MAX { self.scan.parts } else { 0 };
        let mut new = group(Place { path, parent, throw_away, etc, parts }, state, verdict, &stat);
        let inherits = !apart;
        new.row.unmounted = unmounted || (inherits && above.row.unmounted);
        new.row.kept = is_below_kept;
        Some(Dir {
            fd,
            depth: dir.depth + 1,
            group: Arc::new(new),
            own: true,
            throw_away,
            mount: dir.mount,
            only: None,
        })
    }
}

/// True for a symbolic link created by the system.
pub fn is_systems(links: &[&str], dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut target = [MaybeUninit::<u8>::uninit(); 64];
    // As much of the target as fits, which is enough.
    fs::readlinkat_raw(dir, name, &mut target)
        .is_ok_and(|(target, _)| links.iter().any(|start| target.starts_with(start.as_bytes())))
}

/// True if an empty file of this name is a lock.
pub fn is_lock(name: &[u8]) -> bool {
    matches!(name, b"lock" | b"LOCK") || name.ends_with(b".lock") || name.ends_with(b".lck")
}

/// Result of reading a directory.
#[derive(Default)]
struct Sum {
    totals: Totals,
    singles: Vec<Row>,
    kept: bool,
    others: bool,
    /// True if a pattern `*` would match other files, too, or not all.
    mixed: bool,
    passed_over: u64,
}

impl Sum {
    fn give(self, group: &Group, singles: usize) {
        let mut found = group.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.totals.add(&self.totals);
        found.kept |= self.kept;
        found.others |= self.others;
        found.mixed |= self.mixed;
        let most = if group.shared { singles } else { SINGLES };
        for row in self.singles {
            found.single(row, most);
        }
    }
}
