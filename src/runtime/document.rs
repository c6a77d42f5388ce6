//! Files in /run/imp-mount, replaced by one rename(2). /run is in memory: files there survive switch-root and are gone
//! after a reboot, so no flush to a disk is needed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;

use super::directory::{DIRECTORY, directory, is_roots};
use super::lock::Lock;
use crate::sys::walk;
use crate::text::escape;
use crate::text::json::Object;
use crate::text::problem::{Problem, Result, describe, os_error};

/// Most bytes of a file: ten times the report of a million entries.
pub const LIMIT: u64 = 1 << 30;
/// The bytes of one write(2).
const BUFFER: usize = 32 << 10;
/// Suffix of unusable documents.
const ASIDE: &str = ".unreadable";

/// Replaces a file in one step: a reader finds the old one or the whole new one. With the lock no other process uses
/// the temporary name; the remains of a killed process under this name are removed.
pub fn replace(lock: &Lock, dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    replace_by(lock, dir, name, &mut |file| file.write_all(bytes))
}

/// Like [`replace`], with content written in pieces.
pub fn replace_by(
    _: &Lock,
    dir: BorrowedFd<'_>,
    name: &str,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Errno> {
    let new = &format!("{name}.new");
    let remove = || match rustix::fs::unlinkat(dir, new, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    };
    remove()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, new, flags, Mode::from_raw_mode(0o600))?;
    let mut file = Limited { file: file.into(), buffer: Vec::with_capacity(BUFFER), left: LIMIT };
    let written = write(&mut file)
        .and_then(|()| file.flush())
        .map_err(os_error)
        .and_then(|()| rustix::fs::fchmod(&file.file, Mode::from_raw_mode(0o644)))
        .and_then(|()| rustix::fs::renameat(dir, new, dir, name));
    if written.is_err() {
        // A part of the file must not take space. If this fails as well, the next call removes the part.
        let _ = remove();
    }
    written
}

/// A file of at most [`LIMIT`] bytes.
struct Limited {
    file: File,
    /// Bytes to be written.
    buffer: Vec<u8>,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(Errno::FBIG)?;
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        // A serializer writes a few bytes at a time, and memcpy of musl takes 20 ns for any length.
        if bytes.len() < 16 {
            for byte in bytes {
                self.buffer.push(*byte);
            }
        } else {
            self.buffer.extend(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A JSON document in [`DIRECTORY`], made from the members of the object in its file, without the version.
pub trait Document: Serialize + TryFrom<Object, Error = String> {
    /// Its file's name.
    const NAME: &'static str;
    /// The version of its form.
    const VERSION: u32;

    /// Why this program cannot have written the document, beyond errors of its form.
    fn flaw(&self) -> Option<&'static str>;
}

/// Reads a document; none for a missing file.
///
/// # Errors The reason: with an errno after a failed system call, without one for an invalid file, for which another
/// try would not help.
pub fn read<D: Document>() -> Result<Option<D>> {
    let name = D::NAME;
    let at = format!("{DIRECTORY}/{name}");
    let failed = |errno| Problem::os("cannot read it", errno).at(&at);
    let wrong = |why: &str| Err(Problem::new(format!("it cannot be used: {why}")).at(&at));
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        let dir = OFlags::PATH | OFlags::DIRECTORY | flags;
        let dir = rustix::fs::openat(CWD, DIRECTORY, dir, Mode::empty())?;
        let file = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | flags;
        Ok((walk::stat(dir.as_fd())?, rustix::fs::openat(dir, name, file, Mode::empty())?))
    };
    let (dir, file) = match open() {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        // A link or a socket.
        Err(errno @ (Errno::LOOP | Errno::NXIO)) => return wrong(&describe(errno)),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = walk::stat(file.as_fd()).map_err(failed)?;
    if !is_roots(&dir) || !is_roots(&stat) {
        return wrong("others than root can write to it");
    }
    if !stat.is_file() {
        return wrong(&format!("it is {}", walk::kind(stat.file_type())));
    }
    if stat.size() > LIMIT {
        return wrong(&format!("it has {} bytes, and {LIMIT} are the limit", stat.size()));
    }
    let bytes = walk::content(file.as_fd(), LIMIT).map_err(failed)?;
    let mut document: Object = match serde_json::from_slice(&bytes) {
        Ok(document) => document,
        Err(error) => return wrong(&error.to_string()),
    };
    let read = match document.member::<u32>("version") {
        Ok(version) if version != D::VERSION => {
            return wrong(&format!("it is of version {version}, and this program reads {}", D::VERSION));
        }
        Ok(_) => D::try_from(document),
        Err(why) => Err(why),
    };
    match read.map(|read| (read.flaw(), read)) {
        Ok((None, read)) => Ok(Some(read)),
        Ok((Some(flaw), _)) => wrong(flaw),
        Err(why) => wrong(&why),
    }
}

/// Replaces a document.
pub fn write<D: Document>(lock: &Lock, document: &D) -> Result<()> {
    let at = format!("cannot write {DIRECTORY}/{}", D::NAME);
    let dir = directory(DIRECTORY).map_err(|problem| problem.during(&at))?;
    replace_by(lock, dir.as_fd(), D::NAME, &mut |file| Ok(escape::write_json(file, document)?))
        .map_err(|errno| Problem::os(at, errno))
}

/// Reads a document for a process that continues without an unusable one. In this case there is no document, and the
/// problem names the new place of the file.
///
/// # Errors
/// A system call failed.
pub fn read_or_set_aside<D: Document>(lock: &Lock) -> Result<(Option<D>, Option<Problem>)> {
    match read() {
        Err(mut problem) if problem.errno.is_none() => {
            let became = match set_aside(lock, D::NAME) {
                Ok(name) => format!("it is kept as {name}"),
                Err(failed) => failed.what.clone(),
            };
            problem.what = format!("{}; {became}", problem.what);
            Ok((None, Some(problem)))
        }
        read => Ok((read?, None)),
    }
}

/// Renames an unusable document to a name never used again, so that its replacement loses no data. A process killed in
/// between leaves the document in place: the document is never missing, and never counts as empty. Returns the new
/// name.
fn set_aside(_: &Lock, name: &str) -> Result<String> {
    let failed = |errno| Problem::os("cannot set it aside", errno);
    let dir = directory(DIRECTORY)?;
    let identity = walk::stat_at(dir.as_fd(), name).map_err(failed)?.identity();
    let mut number = 1;
    loop {
        let aside = if number == 1 { format!("{name}{ASIDE}") } else { format!("{name}{ASIDE}-{number}") };
        let linked = match rustix::fs::linkat(&dir, name, &dir, &*aside, AtFlags::empty()) {
            // A directory has one name only.
            Err(Errno::PERM) => rustix::fs::renameat_with(&dir, name, &dir, &*aside, RenameFlags::NOREPLACE),
            linked => linked,
        };
        match linked {
            Ok(()) => return Ok(aside),
            // From a process killed before the replacement.
            Err(Errno::EXIST)
                if walk::stat_at(dir.as_fd(), &*aside).is_ok_and(|it| it.identity() == identity) =>
            {
                return Ok(aside);
            }
            Err(Errno::EXIST) => number += 1,
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// The paths of documents set aside since the boot, in order, each with its remedy.
#[must_use]
pub fn documents_set_aside() -> Vec<(String, String)> {
    let listed = walk::base(DIRECTORY).and_then(|dir| walk::names(dir.as_fd(), usize::MAX));
    let names = match listed {
        Ok(names) => names,
        Err(Errno::NOENT) => Vec::new(),
        Err(errno) => return vec![(DIRECTORY.to_owned(), format!("cannot be listed: {}", describe(errno)))],
    };
    let what = "could not be used, and was set aside; look at it, then remove it";
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let paths = names.filter(|name| name.contains(ASIDE)).map(|name| format!("{DIRECTORY}/{name}"));
    let mut aside: Vec<_> = paths.map(|path| (path, what.to_owned())).collect();
    aside.sort_unstable();
    aside
}
