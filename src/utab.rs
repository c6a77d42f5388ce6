//! What the kernel does not keep of a mount, but libmount does: lines of /run/mount/utab, which `findmnt --mtab`, desktops and
//! systemd read.
//!
//! A line counts only if SRC and ROOT are what /proc/self/mountinfo says and TARGET is where the mount is in the end, so
//! the paths are those of the booted system, also in the initrd. `x-initrd.mount` tells systemd not to unmount it at
//! shutdown, one by one: it goes with the root. `x-gvfs-hide` and `x-gvfs-trash` are for file managers.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::lock::Lock;
use crate::problem::{Problem, Result};
use crate::runtime;
use crate::table::escape;
use crate::walk;

const DIRECTORY: &str = "/run/mount";
const NAME: &str = "utab";
/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// One mount's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The device, as mountinfo says it.
    pub source: String,
    /// Where it is in the booted system.
    pub target: String,
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Whether file managers hide it.
    pub hidden: bool,
    /// Whether file managers may keep a trash folder on it.
    pub trash: bool,
}

impl Line {
    fn text(&self) -> String {
        let mut options = "x-initrd.mount".to_owned();
        for (set, option) in [(self.hidden, ",x-gvfs-hide"), (self.trash, ",x-gvfs-trash")] {
            if set {
                options.push_str(option);
            }
        }
        let (source, target, root) = (escape(&self.source), escape(&self.target), escape(&self.root));
        format!("SRC={source} TARGET={target} ROOT={root} OPTS={options}\n")
    }
}

/// Writes the lines of what is mounted, and drops those of what is gone; other lines stay byte for byte.
pub fn update(own: &Lock, lines: &[Line], gone: &[String]) -> Result<()> {
    if lines.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let failed = |errno| Problem::os(format!("cannot write {DIRECTORY}/{NAME}"), errno);
    let dir = runtime::directory(DIRECTORY)?;
    let _lock = lock(dir.as_fd())?;
    let old = match open(dir.as_fd(), NAME, OFlags::RDONLY) {
        Err(Errno::NOENT) => Vec::new(),
        file => {
            let file = file.map_err(failed)?;
            walk::content(file.as_fd(), u64::MAX).map_err(failed)?
        }
    };
    let new = merged(&old, lines, gone);
    if new == old {
        return Ok(());
    }
    runtime::replace(own, dir.as_fd(), NAME, &new).map_err(failed)?;
    // By this systemd knows that there is something to read, since libmount 2.40. One that learns it late, in the midst of a
    // shutdown, forgets what waits for the unmounting, and waits for ever.
    open(dir.as_fd(), "utab.event", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).map(drop).map_err(failed)
}

fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))
}

/// libmount's own lock, which everybody may read and so hold. What cannot be had in time is done without: the file is replaced
/// whole.
///
/// Before 2.40 it is closing the lock, opened for reading, that tells others of the change.
fn lock(dir: BorrowedFd<'_>) -> Result<Option<File>> {
    let file = open(dir, "utab.lock", OFlags::RDONLY | OFlags::CREATE);
    let file = file.map_err(|errno| Problem::os(format!("cannot open {DIRECTORY}/utab.lock"), errno))?;
    let file = File::from(file);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Some(file));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

fn merged(old: &[u8], lines: &[Line], gone: &[String]) -> Vec<u8> {
    let targets = lines.iter().map(|line| &line.target).chain(gone);
    let mut ours: Vec<_> = targets.map(|target| escape(target)).collect();
    ours.sort_unstable();
    let is_one = |target: &str| ours.binary_search_by(|one| one.as_str().cmp(target)).is_ok();
    let is_ours = |line: &[u8]| {
        let target = line
            .trim_ascii_end()
            .split(|byte| *byte == b' ')
            .find_map(|field| field.strip_prefix(b"TARGET="));
        target.and_then(|target| str::from_utf8(target).ok()).is_some_and(is_one)
    };
    let mut text = Vec::with_capacity(old.len());
    for line in old.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_ours(line)) {
        text.extend(line);
    }
    if !lines.is_empty() && text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    for line in lines {
        text.extend(line.text().into_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Line {
        Line {
            source: "/dev/vda2".to_owned(),
            target: target.to_owned(),
            root: "/a b".to_owned(),
            hidden: true,
            trash: false,
        }
    }

    #[test]
    fn lines_are_replaced_and_others_stay() {
        // No UTF-8 text, and without an end.
        let foreign = b"ID=7 SRC=//nas/\xff TARGET=/mnt OPTS=uid=0\n";
        let cut = &foreign[..foreign.len() - 1];
        let once = merged(cut, &[line("/a b")], &[]);
        let ours = b"SRC=/dev/vda2 TARGET=/a\\040b ROOT=/a\\040b OPTS=x-initrd.mount,x-gvfs-hide\n";
        assert_eq!(once, [&foreign[..], ours].concat());
        assert_eq!(merged(&once, &[line("/a b")], &[]), once);
        assert_eq!(merged(&once, &[], &["/a b".to_owned()]), foreign);
        assert_eq!(merged(cut, &[], &["/a b".to_owned()]), cut);
    }
}
