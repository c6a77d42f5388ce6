//! One file, directory, link or special file made again elsewhere with everything that it has, and held against the first.
//!
//! Content is shared with the first where the file system can (reflink), holes stay holes, and a copy has owner, mode, ACLs,
//! extended attributes, file capabilities and the time of the last change. Access times are nobody's data.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    self, Advice, AtFlags, FileType, Gid, Mode, OFlags, RawMode, SeekFrom, Timespec, Timestamps, UTIME_OMIT,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::problem::os_error;
use crate::walk::{self, Mounts, Stat};

/// A name in a directory. It need not be text.
pub type Name<'a> = (BorrowedFd<'a>, &'a CStr);

/// How much is read at once.
const CHUNK: usize = 1 << 18;
/// The kernel's limit for one extended attribute, and for the list of their names.
const ATTRIBUTES: usize = 1 << 16;

/// Makes what is at `from` again at `to`, where nothing is; a directory without what is in it. `progress` hears of every
/// byte.
pub fn make(from: Name<'_>, stat: &Stat, to: Name<'_>, progress: &mut dyn FnMut(u64)) -> Result<(), Errno> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (source, target) = match stat.file_type() {
        FileType::RegularFile => {
            let source = File::from(same(from, stat, OFlags::RDONLY)?);
            let target = File::from(fs::openat(to.0, to.1, new | OFlags::RDWR, Mode::empty())?);
            content(&source, &target, stat.size(), progress)?;
            (source.into(), target.into())
        }
        FileType::Directory => {
            let source = same(from, stat, OFlags::RDONLY | OFlags::DIRECTORY)?;
            fs::mkdirat(to.0, to.1, Mode::empty())?;
            (source, walk::open(to.0, to.1, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?)
        }
        FileType::Symlink => {
            fs::symlinkat(fs::readlinkat(from.0, from.1, Vec::new())?, to.0, to.1)?;
            (same(from, stat, OFlags::PATH)?, walk::look(to.0, to.1, Mounts::Stay)?)
        }
        kind => {
            let (major, minor) = stat.special();
            fs::mknodat(to.0, to.1, kind, Mode::empty(), fs::makedev(major, minor))?;
            (same(from, stat, OFlags::PATH)?, walk::look(to.0, to.1, Mounts::Stay)?)
        }
    };
    give(source.as_fd(), stat, target.as_fd())?;
    time(to, stat)
}

/// Opens what was looked at, and nothing else.
fn same((dir, name): Name<'_>, stat: &Stat, flags: OFlags) -> Result<OwnedFd, Errno> {
    let fd = walk::open(dir, name, flags, Mounts::Stay)?;
    if walk::stat(fd.as_fd())?.identity() == stat.identity() { Ok(fd) } else { Err(Errno::STALE) }
}

fn content(source: &File, target: &File, size: u64, progress: &mut dyn FnMut(u64)) -> Result<(), Errno> {
    // Where content cannot be shared, whatever the reason, it is copied.
    if size > 0 && fs::ioctl_ficlone(target, source).is_ok() {
        progress(size);
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK).max(1))];
    let mut at = 0;
    while let Some((start, end)) = data(source, at)? {
        progress(start - at);
        at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(buffer.len());
            let length = source.read_at(&mut buffer[..wanted], at).map_err(os_error)?;
            if length == 0 {
                break;
            }
            target.write_all_at(&buffer[..length], at).map_err(os_error)?;
            at += length as u64;
            progress(length as u64);
        }
        if at < end {
            // It became shorter meanwhile, which the comparison finds.
            break;
        }
    }
    let size = walk::stat(source.as_fd())?.size();
    target.set_len(size).map_err(os_error)
}

/// The next part of a file that is no hole, at or after an offset; none at its end.
fn data(file: &File, from: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // There is a hole at the end of every file.
    fs::seek(file, SeekFrom::Hole(start)).map(|end| Some((start, end)))
}

/// Gives what is open the owner, attributes and mode of something else.
pub fn give(source: BorrowedFd<'_>, stat: &Stat, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // chown(2) drops setuid bits and file capabilities: it comes first.
    let owner = (Uid::from_raw(stat.uid()), Gid::from_raw(stat.gid()));
    fs::chownat(target, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)?;
    let place = place(target);
    let wanted = attributes(source)?;
    for (name, _) in attributes(target)? {
        // Inherited from a default ACL, or given before.
        if !wanted.iter().any(|(other, _)| *other == name) && !is_label(&name) {
            fs::removexattr(place.as_str(), name)?;
        }
    }
    for (name, value) in wanted {
        fs::setxattr(place.as_str(), name, &value, XattrFlags::empty())?;
    }
    if stat.is_symlink() {
        return Ok(());
    }
    fs::chmod(place.as_str(), Mode::from_raw_mode(RawMode::from(stat.mode())))
}

/// Gives something the time at which something else changed last.
pub fn time(to: Name<'_>, stat: &Stat) -> Result<(), Errno> {
    let (seconds, nanoseconds) = stat.modified();
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    };
    fs::utimensat(to.0, to.1, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// The path of what is open, a link itself among it: calls for extended attributes take no `O_PATH`.
fn place(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The extended attributes that are somebody's data, in order, ACLs and file capabilities among them.
fn attributes(fd: BorrowedFd<'_>) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let place = place(fd);
    let known = |name: &[u8]| {
        let is_known = |start: &&[u8]| name.starts_with(start);
        // As XFS shows ACLs once more.
        !name.starts_with(b"trusted.SGI_ACL_")
            && [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_"].iter().any(is_known)
    };
    // Most have none or few.
    let mut few = [0_u8; 256];
    let mut many = Vec::new();
    let names = match fs::listxattr(place.as_str(), &mut few[..]) {
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(ATTRIBUTES, 0);
            let length = fs::listxattr(place.as_str(), &mut many[..])?;
            &many[..length]
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut value = vec![0_u8; ATTRIBUTES];
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !known(name.to_bytes()) {
            continue;
        }
        match fs::getxattr(place.as_str(), name, &mut value[..]) {
            Ok(length) => found.push((name.to_owned(), value[..length].to_vec())),
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// What a security module gives to every file by itself.
fn is_label(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"security.") && name != c"security.capability"
}

/// In what one thing differs from another one; none where in nothing. Of directories the time of the last change is left
/// out. With `read` the content of files is compared, of the second as it is on the disk.
pub fn difference(
    (from, one): (Name<'_>, &Stat),
    (to, other): (Name<'_>, &Stat),
    read: Option<&mut dyn FnMut(u64)>,
) -> Result<Option<&'static str>, Errno> {
    let pairs = [
        (one.file_type() == other.file_type(), "type"),
        ((one.uid(), one.gid()) == (other.uid(), other.gid()), "owner"),
        (one.mode() == other.mode(), "mode"),
        (!one.is_file() || one.size() == other.size(), "size"),
        (one.is_dir() || one.modified() == other.modified(), "time"),
        (one.special() == other.special(), "device number"),
    ];
    if let Some((_, what)) = pairs.into_iter().find(|(same, _)| !same) {
        return Ok(Some(what));
    }
    if one.is_symlink()
        && fs::readlinkat(from.0, from.1, Vec::new())? != fs::readlinkat(to.0, to.1, Vec::new())?
    {
        return Ok(Some("target"));
    }
    let flags = if one.is_file() && read.is_some() { OFlags::RDONLY } else { OFlags::PATH };
    let (source, target) = (same(from, one, flags)?, same(to, other, flags)?);
    let (wanted, found) = (attributes(source.as_fd())?, attributes(target.as_fd())?);
    let surplus = |(name, _): &&(CString, Vec<u8>)| is_label(name) && !wanted.iter().any(|it| it.0 == *name);
    if !found.iter().filter(|it| !surplus(it)).eq(&wanted) {
        return Ok(Some("extended attributes"));
    }
    match read {
        Some(progress) if one.is_file() => {
            // What is not written yet stays in memory; the rest is read back.
            let _ = fs::fadvise(&target, 0, None, Advice::DontNeed);
            let alike = same_content(&source.into(), &target.into(), one.size(), progress)?;
            Ok((!alike).then_some("content"))
        }
        _ => Ok(None),
    }
}

fn same_content(one: &File, other: &File, size: u64, progress: &mut dyn FnMut(u64)) -> Result<bool, Errno> {
    let length = CHUNK.min(usize::try_from(size).unwrap_or(CHUNK));
    let (mut first, mut second) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    while at < size {
        // What is a hole in both is the same in both.
        let next = |file| data(file, at).map(|part| part.map_or(size, |(start, _)| start));
        let start = next(one)?.min(next(other)?).min(size);
        progress(start - at);
        at = start;
        let wanted = usize::try_from(size - at).unwrap_or(length).min(length);
        let lengths = (
            one.read_at(&mut first[..wanted], at).map_err(os_error)?,
            other.read_at(&mut second[..wanted], at).map_err(os_error)?,
        );
        let both = lengths.0.min(lengths.1);
        if both == 0 {
            return Ok(at == size);
        }
        if first[..both] != second[..both] {
            return Ok(false);
        }
        at += both as u64;
        progress(both as u64);
    }
    Ok(true)
}
