//! Mount properties stored by libmount: lines of /run/mount/utab, read by `findmnt --mtab`, desktops and systemd.
//!
//! A line counts only if SRC and ROOT equal those of /proc/self/mountinfo and TARGET is the final mount point, so the
//! paths are those of the booted system, also in the initrd. `x-initrd.mount` prevents systemd from unmounting each
//! mount at shutdown: the mounts go with the root. `x-gvfs-hide` and `x-gvfs-trash` are for file managers.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::manifest::AbsPath;
use crate::runtime;
use crate::runtime::lock::Lock;
use crate::sys::mountinfo::escape;
use crate::sys::walk;
use crate::text::problem::{Problem, Result, os_error};

/// Consequence of a mount without a line in utab.
pub const WITHOUT_UTAB: &str =
    "mounts may be shown by file managers, and be unmounted one by one at shutdown";

const DIRECTORY: &str = "/run/mount";
const NAME: &str = "utab";
/// The options of every mount by a run.
const OPTIONS: &str = "x-initrd.mount";
/// Time to wait for another writer.
const PATIENCE: Duration = Duration::from_millis(200);

/// One mount's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The device, as in mountinfo.
    pub source: &'a str,
    /// Its path in the booted system.
    pub target: &'a str,
    /// Which directory of the file system is mounted.
    pub root: AbsPath,
    /// True if file managers hide the mount.
    pub hidden: bool,
    /// True if file managers may keep a trash folder there.
    pub trash: bool,
}

impl Line<'_> {
    fn write(&self, text: &mut dyn Write) -> io::Result<()> {
        for (name, value) in
            [("SRC=", self.source), (" TARGET=", self.target), (" ROOT=", self.root.as_str())]
        {
            text.write_all(name.as_bytes())?;
            text.write_all(escape(value).as_bytes())?;
        }
        write!(text, " OPTS={OPTIONS}")?;
        for (set, option) in [(self.hidden, ",x-gvfs-hide"), (self.trash, ",x-gvfs-trash")] {
            if set {
                text.write_all(option.as_bytes())?;
            }
        }
        text.write_all(b"\n")
    }
}

/// Writes the lines of current mounts, and drops those of removed targets; other lines stay byte for byte.
pub fn update(own: &Lock, lines: &[Line<'_>], gone: &[&str]) -> Result<()> {
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
    let merge = |text: &mut dyn Write| merge(&old, lines, gone, text);
    if old.is_empty() {
        runtime::replace_by(own, dir.as_fd(), NAME, &mut |file| merge(file))
    } else {
        let mut new = Vec::with_capacity(old.len());
        match merge(&mut new) {
            Ok(()) if new == old => return Ok(()),
            Ok(()) => runtime::replace(own, dir.as_fd(), NAME, &new),
            Err(error) => Err(os_error(error)),
        }
    }
    .map_err(failed)?;
    // Tells systemd to read utab, since libmount 2.40. If systemd reads the file only during a shutdown, queued
    // unmount jobs are dropped, and the shutdown waits for them forever.
    open(dir.as_fd(), "utab.event", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).map(drop).map_err(failed)
}

fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))
}

/// The lock of libmount, which any user may read and therefore hold. After a timeout the file is written without the
/// lock: the file is always replaced as a whole.
///
/// Before 2.40 closing the lock, opened for reading, signals the change.
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

fn merge(old: &[u8], lines: &[Line<'_>], gone: &[&str], text: &mut dyn Write) -> io::Result<()> {
    let mut is_cut = false;
    if !old.is_empty() {
        let targets = lines.iter().map(|line| line.target);
        let mut ours: Vec<_> = targets.chain(gone.iter().copied()).map(escape).collect();
        ours.sort_unstable();
        let is_one = |target: &str| ours.binary_search_by(|one| one.as_ref().cmp(target)).is_ok();
        // Of a mount by another program at the same target the options are other ones.
        let is_options = |options: &[u8]| {
            let more = options.strip_prefix(OPTIONS.as_bytes()).map(|more| more.split(|byte| *byte == b','));
            more.is_some_and(|mut more| {
                more.next() == Some(b"") && more.all(|option| option.starts_with(b"x-gvfs-"))
            })
        };
        let is_ours = |line: &[u8]| {
            let fields = line.trim_ascii_end().split(|byte| *byte == b' ');
            let target = fields.clone().find_map(|field| field.strip_prefix(b"TARGET="));
            target.and_then(|target| str::from_utf8(target).ok()).is_some_and(is_one)
                && line.starts_with(b"SRC=")
                && fields.clone().filter_map(|field| field.strip_prefix(b"OPTS=")).any(is_options)
        };
        for line in old.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_ours(line)) {
            text.write_all(line)?;
            is_cut = !line.ends_with(b"\n");
        }
    }
    if is_cut && !lines.is_empty() {
        text.write_all(b"\n")?;
    }
    lines.iter().try_for_each(|line| line.write(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::slice;

    use super::*;

    #[test]
    fn lines_are_replaced_and_others_stay() {
        let line = Line {
            source: "/dev/vda2",
            target: "/a b",
            root: AbsPath::parse("/a b").unwrap(),
            hidden: true,
            trash: false,
        };
        let merged = |old: &[u8], lines: &[Line<'_>], gone: &[&str]| {
            let mut text = Vec::new();
            merge(old, lines, gone, &mut text).unwrap();
            text
        };
        let with = |old: &[u8]| merged(old, slice::from_ref(&line), &[]);
        let without = |old: &[u8]| merged(old, &[], &["/a b"]);
        // No UTF-8 text, and without an end.
        let foreign = b"ID=7 SRC=//nas/\xff TARGET=/mnt OPTS=uid=0\n";
        let cut = &foreign[..foreign.len() - 1];
        let once = with(cut);
        let ours = b"SRC=/dev/vda2 TARGET=/a\\040b ROOT=/a\\040b OPTS=x-initrd.mount,x-gvfs-hide\n";
        assert_eq!(once, [&foreign[..], ours].concat());
        assert_eq!(with(&once), once);
        assert_eq!(without(&once), foreign);
        assert_eq!(without(cut), cut);
        assert_eq!(with(b""), ours);
        let other = b"ID=8 SRC=//nas/b TARGET=/a\\040b OPTS=_netdev,uhelper=nfs\n";
        let fstab = b"SRC=/dev/vdb TARGET=/a\\040b ROOT=/ OPTS=x-initrd.mount,nofail\n";
        let near = b"SRC=/dev/vdb TARGET=/a\\040b ROOT=/ OPTS=x-initrd.mountfoo\n";
        let id = b"ID=9 SRC=/dev/vdb TARGET=/a\\040b ROOT=/ OPTS=x-initrd.mount\n";
        for other in [&other[..], fstab, near, id] {
            assert_eq!(with(other), [other, ours].concat());
            assert_eq!(without(&with(other)), other);
        }
    }
}
