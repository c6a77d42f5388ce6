//! The copy of a root's unsaved files, bounded in size and time.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{OFlags, syncfs};
use rustix::io::Errno;

use super::budget::{Budget, Limit, Sizes};
use super::earlier::{Earlier, find};
use super::record::{LeftOut, MOST, Path};
use crate::ctl::lost::SYSTEM_LINKS;
use crate::ctl::scan::judge::{Judge, Verdict};
use crate::ctl::scan::rules::Rules;
use crate::ctl::scan::{Fate, Named};
use crate::roots::{Slot, TREE};
use crate::sys::attributes::{self, Unsupported};
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::problem::{Problem, Result, describe};
use crate::transfer::file::{self, Copier};
use crate::transfer::seals::{self, Seal, descend};
use crate::transfer::tree::{Choice, Found, Transfer};

/// Larger files are copied after all others, the smallest first: if the time is short, they are left out.
const LARGE: u64 = 1 << 20;
/// Bytes copied between two waits for the disk. The last wait is short therefore.
const UNWRITTEN: u64 = 32 << 20;
/// Bytes taken by a directory on the store.
const DIRECTORY: u64 = 4096;
const TIME: &str = "save_seconds";

/// The root, and the rules for its unsaved files.
pub struct Source<'s> {
    /// Its top directory.
    pub root: BorrowedFd<'s>,
    /// Rules for its paths.
    pub rules: &'s Rules,
    /// Decides about files named by the manifest.
    pub named: &'s dyn Fn(&Named<'_>) -> Fate,
    /// Earlier savings of this boot.
    pub earlier: &'s Earlier,
}

/// Copied files and left out files.
#[derive(Debug, Default)]
pub struct Copied {
    /// Number of files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Left out files, the first [`MOST`].
    pub left_out: Vec<LeftOut>,
    /// Number of all left out files.
    pub left_out_count: u64,
    /// Bytes of all left out files.
    pub left_out_bytes: u64,
    /// Files changed by programs during the copy.
    pub unsteady: u64,
}

impl Copied {
    fn leave_out(&mut self, earlier: &Earlier, path: &[u8], bytes: u64, why: impl Into<String>) {
        earlier.keep(path);
        self.left_out_count += 1;
        self.left_out_bytes += bytes;
        if self.left_out.len() < MOST {
            let path = Path::new(&[b"/", path].concat());
            self.left_out.push(LeftOut { path, bytes, why: why.into() });
        }
    }
}

/// Sizes of the unsaved files, and the number of directories.
pub fn sizes(source: &Source<'_>, until: Instant) -> Result<(Sizes, u64)> {
    let (mut sizes, mut directories) = (Sizes::default(), 0);
    let mut judge = Judge::new(source.rules, &SYSTEM_LINKS, source.named);
    let mut seen: HashSet<Identity> = HashSet::new();
    let mut decide = |found: &Found<'_>| {
        if Instant::now() >= until {
            return Ok(Choice::Skip);
        }
        Ok(match judge.decide(found.path, found.from, found.stat) {
            Verdict::Safe => Choice::Skip,
            Verdict::Open => {
                directories += 1;
                Choice::Pass
            }
            Verdict::Lost => {
                if found.stat.links() < 2 || seen.insert(found.stat.identity()) {
                    sizes.add(found.stat.allocated());
                }
                Choice::Pass
            }
        })
    };
    Transfer::default().run((source.root, c"."), None, &mut decide, &mut |_| ())?;
    Ok((sizes, directories))
}

/// Copies the files within the budget to the tree of a root, until the deadline.
pub fn copy(source: &Source<'_>, slot: &Slot, budget: &Budget, until: Instant) -> Result<Copied> {
    let (sizes, directories) = sizes(source, until)?;
    let limit = sizes.limit(budget.bytes.saturating_sub(directories.saturating_mul(DIRECTORY)));
    let mut done = Copied::default();
    let mut copier = Copier::new(Unsupported::Leave);
    copier.stop_at(until);
    let mut transfer = Transfer {
        base: Some((slot.dir(), TREE.into())),
        direct: true,
        mirror: true,
        times: true,
        copier,
        failures: Some(Vec::new()),
        ..Transfer::default()
    };
    let mut work = Work {
        judge: Judge::new(source.rules, &SYSTEM_LINKS, source.named),
        earlier: source.earlier,
        slot,
        limit,
        budget,
        until,
        entries: 0,
        unwritten: &Cell::new(0),
        large: Vec::new(),
        is_counted: true,
        done: &mut done,
    };
    let unwritten = work.unwritten;
    let tree = CString::new(TREE).map_err(|_| Problem::new("the name of the tree has a NUL byte"))?;
    let mut decide = |found: &Found<'_>| work.decide(found);
    transfer.run((source.root, c"."), Some((slot.dir(), &tree)), &mut decide, &mut |bytes| {
        unwritten.set(unwritten.get() + bytes);
    })?;
    let (large, is_counted) = (std::mem::take(&mut work.large), work.is_counted);
    for (path, problem) in transfer.failures.take().unwrap_or_default() {
        let bytes = size_of(source.root, &path);
        done.files = done.files.saturating_sub(u64::from(bytes.is_some()));
        let bytes = bytes.unwrap_or_default();
        done.bytes = done.bytes.saturating_sub(bytes);
        let why = problem.errno.map_or_else(|| problem.what.clone(), reason);
        done.leave_out(source.earlier, &path, bytes, why);
    }
    done.unsteady = transfer.unsteady.len() as u64;
    let mut seals = std::mem::take(&mut transfer.seals);
    copy_large(source, slot, large, &mut done, (&mut transfer.copier, &mut seals, until))?;
    if !is_counted {
        // At least the files counted before the copy and absent from the copy.
        done.left_out_count = done.left_out_count.max(sizes.files.saturating_sub(done.files));
        done.left_out_bytes = done.left_out_bytes.max(sizes.bytes.saturating_sub(done.bytes));
    }
    done.left_out.sort_by(|a, b| (b.bytes, a.path.bytes()).cmp(&(a.bytes, b.path.bytes())));
    seals::set(slot.dir(), &seals)?;
    Ok(done)
}

/// The reason of an error with one file.
fn reason(errno: Errno) -> String {
    if errno == Errno::TIMEDOUT { TIME.to_owned() } else { describe(errno) }
}

/// The bytes of a file of the root; none for a directory or a missing file.
fn size_of(root: BorrowedFd<'_>, path: &[u8]) -> Option<u64> {
    let stat = find(root, path).ok()?;
    (!stat.is_dir()).then(|| stat.allocated())
}

struct Work<'w> {
    judge: Judge<'w>,
    earlier: &'w Earlier,
    slot: &'w Slot,
    limit: Limit,
    budget: &'w Budget,
    until: Instant,
    /// Created files and directories.
    entries: u64,
    unwritten: &'w Cell<u64>,
    /// Large files, which come last: their bytes and paths.
    large: Vec<(u64, Vec<u8>)>,
    /// False once a directory is left out, whose files are not counted.
    is_counted: bool,
    done: &'w mut Copied,
}

impl Work<'_> {
    fn decide(&mut self, found: &Found<'_>) -> Result<Choice> {
        let verdict = self.judge.decide(found.path, found.from, found.stat);
        if verdict == Verdict::Safe || found.state == crate::transfer::tree::State::Foreign {
            return Ok(Choice::Skip);
        }
        let bytes = if verdict == Verdict::Lost { found.stat.allocated() } else { 0 };
        let reason = match () {
            () if Instant::now() >= self.until => Some(TIME),
            () if self.entries >= self.budget.files => Some("the store has no inodes for it"),
            () if verdict == Verdict::Lost && !found.linked && !self.limit.takes(bytes) => {
                Some(self.budget.why)
            }
            () => None,
        };
        if let Some(why) = reason {
            self.is_counted &= !found.stat.is_dir();
            self.done.leave_out(self.earlier, found.path, bytes, why);
            return Ok(Choice::Skip);
        }
        if verdict == Verdict::Lost && found.stat.is_file() && bytes > LARGE && found.stat.links() < 2 {
            self.large.push((bytes, found.path.to_vec()));
            return Ok(Choice::Skip);
        }
        if self.unwritten.get() >= UNWRITTEN {
            self.unwritten.set(0);
            wait(self.slot)?;
        }
        self.entries += 1;
        if verdict == Verdict::Lost {
            self.done.files += 1;
            self.done.bytes += if found.linked { 0 } else { bytes };
        }
        Ok(Choice::Make)
    }
}

/// Waits until all copied data is on the disk.
pub fn wait(slot: &Slot) -> Result<()> {
    syncfs(slot.dir()).map_err(|errno| Problem::os("cannot write all of it to the store", errno))
}

/// Copies the large files, the smallest first.
fn copy_large(
    source: &Source<'_>,
    slot: &Slot,
    mut large: Vec<(u64, Vec<u8>)>,
    done: &mut Copied,
    (copier, seals, until): (&mut Copier, &mut Vec<Seal>, Instant),
) -> Result<()> {
    large.sort_unstable();
    let mut unwritten = 0;
    for (bytes, path) in large {
        if Instant::now() >= until {
            done.leave_out(source.earlier, &path, bytes, TIME);
            continue;
        }
        match one(source.root, slot, &path, copier) {
            Ok(seal) => {
                seals.extend(seal);
                done.files += 1;
                done.bytes += bytes;
                done.unsteady += u64::from(copier.was_unsteady());
                unwritten += bytes;
            }
            // Removed meanwhile.
            Err(Errno::NOENT | Errno::STALE) => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                return Err(Problem::os("cannot copy all of it", errno));
            }
            Err(errno) => done.leave_out(source.earlier, &path, bytes, reason(errno)),
        }
        if unwritten >= UNWRITTEN {
            unwritten = 0;
            wait(slot)?;
        }
    }
    Ok(())
}

/// Copies one file to a directory copied before.
fn one(
    root: BorrowedFd<'_>,
    slot: &Slot,
    path: &[u8],
    copier: &mut Copier,
) -> std::result::Result<Option<Seal>, Errno> {
    let (above, name) = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let open = |base: OwnedFd| -> std::result::Result<OwnedFd, Errno> {
        let dir = descend(base, above)?;
        walk::open(dir.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
    };
    let from = open(walk::open(root, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay)?)?;
    let to = open(slot.tree()?)?;
    let stat: Stat = walk::stat_at(from.as_fd(), name.as_c_str())?;
    let target = (to.as_fd(), name.as_c_str());
    copier.make_whole((from.as_fd(), &name), &stat, target, &mut |_| ())?;
    attributes::give_times_to(to.as_fd(), &walk::stat(from.as_fd())?)?;
    let flags = file::seals((from.as_fd(), &name), &stat)?;
    if flags.is_empty() {
        return Ok(None);
    }
    let identity = walk::stat_at(to.as_fd(), name.as_c_str())?.identity();
    Ok(Some(Seal { path: [TREE.as_bytes(), b"/", path].concat(), identity, flags }))
}
