//! The method `copy`: for programs that replace a file by renaming another one over it, which a mount does not let them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::create::os_error;
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts, Stat};

/// A name in a directory.
pub type Name<'a> = (BorrowedFd<'a>, &'a str);

/// Copies a file or a link to where nothing is yet; false where something is, which is left alone.
pub fn place(from: Name<'_>, stat: &Stat, to: Name<'_>) -> Result<bool> {
    match walk::stat_at(to.0, to.1) {
        Err(Errno::NOENT) => {}
        // Begun by a run that was stopped.
        Ok(found) if found.is_file() && found.mode() == 0 => {
            rustix::fs::unlinkat(to.0, to.1, AtFlags::empty())
                .map_err(|errno| Problem::os("cannot remove an unfinished copy", errno))?;
        }
        Ok(found) if found.is_file() || found.is_symlink() => return Ok(false),
        Ok(found) => return Err(walk::wrong_type(to.0, to.1, &found, "a regular file")),
        Err(errno) => return Err(Problem::os("cannot look at the target", errno)),
    }
    copy(from, stat, to).map(|()| true).map_err(|errno| Problem::os("cannot copy it", errno))
}

/// Copies content, owner, mode, time and extended attributes to a new name, the mode last: a file with mode 000 is one
/// that was not finished.
pub fn copy(from: Name<'_>, stat: &Stat, to: Name<'_>) -> Result<(), Errno> {
    let owner = (Uid::from_raw(stat.uid()), Gid::from_raw(stat.gid()));
    if stat.is_symlink() {
        let target = rustix::fs::readlinkat(from.0, from.1, Vec::new())?;
        rustix::fs::symlinkat(target, to.0, to.1)?;
        return rustix::fs::chownat(to.0, to.1, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW);
    }
    let source = walk::open(from.0, from.1, OFlags::RDONLY, Mounts::Enter)?;
    let opened = walk::stat(source.as_fd())?;
    if opened.identity() != stat.identity() {
        return Err(Errno::STALE);
    }
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to.0, to.1, new, Mode::empty())?;
    let (mut source, mut target) = (File::from(source), File::from(target));
    std::io::copy(&mut source, &mut target).map_err(os_error)?;
    copy_attributes(source.as_fd(), target.as_fd())?;
    rustix::fs::fchown(&target, Some(owner.0), Some(owner.1))?;
    let (seconds, nanoseconds) = stat.modified();
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    rustix::fs::futimens(&target, &Timestamps { last_access: time, last_modification: time })?;
    // On the disk before the mode says that it is whole.
    target.sync_all().map_err(os_error)?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(RawMode::from(stat.mode())))
}

/// Extended attributes, ACLs among them; those that the other file system does not know stay behind.
fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0_u8; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let size = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        match rustix::fs::fsetxattr(target, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) => {
                log::warn!("the extended attribute {} is left out of a copy", name.escape_ascii());
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Replaces what is at `to` with a copy, in one step: whoever looks sees the old one or the new one, also after a crash.
pub fn replace(from: Name<'_>, stat: &Stat, to: Name<'_>) -> Result<(), Errno> {
    let new = &preparing(to.1);
    let remove = || rustix::fs::unlinkat(to.0, new, AtFlags::empty());
    match remove() {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let replaced = copy(from, stat, (to.0, new)).and_then(|()| rustix::fs::renameat(to.0, new, to.0, to.1));
    if replaced.is_err() {
        // What was begun must not take the space that is missing; should this fail as well, the next run removes it.
        let _ = remove();
    }
    replaced?;
    // The new name reaches the disk with its directory.
    let dir =
        rustix::fs::openat(to.0, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsync(dir)
}

/// The name under which the new version of a file is prepared, within the 255 bytes that a name can have.
fn preparing(name: &str) -> String {
    const SUFFIX: &str = ".imp-mount";
    let kept = (0..=254 - SUFFIX.len()).rev().find_map(|end| name.get(..end.min(name.len())));
    format!(".{}{SUFFIX}", kept.unwrap_or_default())
}

/// Whether two files, or two links, are the same in content, owner and mode.
pub fn same(a: Name<'_>, b: Name<'_>) -> Result<bool, Errno> {
    let (one, other) = (walk::stat_at(a.0, a.1)?, walk::stat_at(b.0, b.1)?);
    let alike = one.file_type() == other.file_type()
        && (one.uid(), one.gid(), one.mode(), one.size())
            == (other.uid(), other.gid(), other.mode(), other.size());
    if !alike {
        return Ok(false);
    }
    if one.is_symlink() {
        return Ok(
            rustix::fs::readlinkat(a.0, a.1, Vec::new())? == rustix::fs::readlinkat(b.0, b.1, Vec::new())?
        );
    }
    let open = |(dir, name): Name<'_>| walk::open(dir, name, OFlags::RDONLY, Mounts::Enter).map(File::from);
    content_is_same(open(a)?, open(b)?).map_err(os_error)
}

fn content_is_same(mut a: File, mut b: File) -> std::io::Result<bool> {
    use std::io::Read;
    let (mut one, mut other) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = a.read(&mut one)?;
        if length == 0 {
            return Ok(b.read(&mut other[..1])? == 0);
        }
        match b.read_exact(&mut other[..length]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if one[..length] != other[..length] {
            return Ok(false);
        }
    }
}
