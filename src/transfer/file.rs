//! One file, directory, symbolic link or special file, copied to another name with all its properties, and compared
//! with the source.

use std::ffi::CString;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{self, Advice, FileType, IFlags, Mode, OFlags, RawMode, RenameFlags};
use rustix::io::Errno;

use super::Name;
use super::content::{self, Content, Digest};
use super::level::AHEAD_BYTES;
use super::remove::remove;
use super::staging::{NEW, Staging};
use crate::sys::attributes::{self, Handle, Unsupported};
use crate::sys::owners::Owners;
use crate::sys::unnamed::{Unnamed, rename};
use crate::sys::walk::{self, Mounts, Stat};

/// Makes copies.
#[derive(Debug)]
pub struct Copier {
    content: Content,
    unsupported: Unsupported,
    unsteady: bool,
    /// Owners of the copies; by default those of the sources. Properties passed by a caller have them already.
    pub owners: Owners,
}

impl Copier {
    /// A copier, and its policy for extended attributes without support at the destination.
    #[must_use]
    pub fn new(unsupported: Unsupported) -> Self {
        Self { content: Content::default(), unsupported, unsteady: false, owners: Owners::default() }
    }

    /// The time at which a copy stops in the middle of a file, with ETIMEDOUT.
    pub fn stop_at(&mut self, until: Instant) {
        self.content.until = Some(until);
    }

    /// True if the source of a copy changed since its `stat`. A call clears the flag.
    pub fn was_unsteady(&mut self) -> bool {
        std::mem::take(&mut self.unsteady)
    }

    /// Makes a copy of `from` at `to`, a free name in a directory of root alone; a directory without its content.
    /// `stat` is the expected source: another file at its name is ESTALE.
    pub fn make(
        &mut self,
        from: Name<'_>,
        stat: &Stat,
        to: Name<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Errno> {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = open(from, stat)?;
        let target = match stat.file_type() {
            FileType::RegularFile => {
                // Most files get their mode here. No other process can reach the directory.
                let mode = Mode::from_raw_mode(RawMode::from(stat.mode() & 0o777));
                let target = fs::openat(to.0, to.1, new | OFlags::RDWR, mode)?;
                return self.fill(source, stat, target, progress).map(drop);
            }
            FileType::Directory => {
                fs::mkdirat(to.0, to.1, Mode::empty())?;
                let fd = walk::open(to.0, to.1, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
                attributes::give_flags(fd.as_fd(), attributes::flags(source.as_fd()));
                Handle { fd, path_only: false }
            }
            FileType::Symlink => {
                fs::symlinkat(fs::readlinkat(from.0, from.1, Vec::new())?, to.0, to.1)?;
                Handle { fd: walk::look(to.0, to.1, Mounts::Stay)?, path_only: true }
            }
            kind => {
                let (major, minor) = stat.special();
                fs::mknodat(to.0, to.1, kind, Mode::empty(), fs::makedev(major, minor))?;
                Handle { fd: walk::look(to.0, to.1, Mounts::Stay)?, path_only: true }
            }
        };
        let now = walk::stat(target.as_fd())?;
        attributes::give(&source, (stat, &self.owners), (&target, &now), self.unsupported)?;
        attributes::give_times(to, stat)
    }

    /// The same for a file without a name until complete.
    pub fn make_whole(
        &mut self,
        from: Name<'_>,
        stat: &Stat,
        to: Name<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Errno> {
        if !stat.is_file() {
            return self.make(from, stat, to, progress);
        }
        let unfinished =
            CString::new(format!(".imp-mount-{}", std::process::id())).map_err(|_| Errno::INVAL)?;
        let made = self.make(from, stat, (to.0, &unfinished), progress);
        let made = made.and_then(|()| fs::renameat(to.0, &unfinished, to.0, to.1));
        if made.is_err() {
            // The first error is reported. The rest has another name than the file.
            let _ = remove((to.0, &unfinished));
        }
        made
    }

    /// Gives an empty, open file the content and everything else of a source.
    fn fill(
        &mut self,
        source: Handle,
        stat: &Stat,
        target: OwnedFd,
        progress: &mut dyn FnMut(u64),
    ) -> Result<OwnedFd, Errno> {
        // Some flags, such as "no copy on write", are only taken by an empty file.
        attributes::give_flags(target.as_fd(), attributes::flags(source.as_fd()));
        let (from, into) = (File::from(source.fd), File::from(target));
        self.content.copy((&from, stat), &into, progress)?;
        let source = Handle { fd: from.into(), path_only: false };
        let target = Handle { fd: into.into(), path_only: false };
        let now = walk::stat(target.as_fd())?;
        attributes::give(&source, (stat, &self.owners), (&target, &now), self.unsupported)?;
        let after = walk::stat(source.as_fd())?;
        self.unsteady |= (after.size(), after.modified(), after.changed())
            != (stat.size(), stat.modified(), stat.changed());
        attributes::give_times_to(target.as_fd(), stat)?;
        Ok(target.fd)
    }

    /// Makes a copy of a regular file or symbolic link at a free name in any directory. The name appears when the copy is complete;
    /// EEXIST for a name in use.
    pub fn place(&mut self, from: Name<'_>, stat: &Stat, to: Name<'_>) -> Result<(), Errno> {
        if stat.is_symlink() {
            let source = open(from, stat)?;
            fs::symlinkat(fs::readlinkat(from.0, from.1, Vec::new())?, to.0, to.1)?;
            let target = Handle { fd: walk::look(to.0, to.1, Mounts::Enter)?, path_only: true };
            // Replaced meanwhile by the owner of the directory: not ours to give away.
            let now = walk::stat(target.as_fd())?;
            if !now.is_symlink() {
                return Err(Errno::STALE);
            }
            attributes::give(&source, (stat, &self.owners), (&target, &now), self.unsupported)?;
            return attributes::give_times(to, stat);
        }
        let source = open(from, stat)?;
        let wanted = seals(from, stat)?;
        let mut target = Unnamed::new(to.0)?;
        let fd = target.take()?;
        target.put_back(self.fill(source, stat, fd, &mut |_| ())?);
        let target = target.publish(to.1)?;
        if wanted.is_empty() { Ok(()) } else { seal_if_known(target.as_fd(), wanted) }
    }

    /// Replaces a file by a copy of a regular file or symbolic link, in one step, in any directory.
    pub fn place_over(&mut self, from: Name<'_>, stat: &Stat, to: Name<'_>) -> Result<(), Errno> {
        for number in 0..100 {
            let temporary = CString::new(format!(".imp-mount-{}-{number}", std::process::id()))
                .map_err(|_| Errno::INVAL)?;
            match self.place(from, stat, (to.0, &temporary)) {
                Err(Errno::EXIST) => {}
                placed => return placed.and_then(|()| fs::renameat(to.0, &temporary, to.0, to.1)),
            }
        }
        Err(Errno::EXIST)
    }

    /// Puts a copy of a regular file or symbolic link at `to`, in one step: other processes see the old file or the whole new one, also after
    /// a crash. With [`RenameFlags::NOREPLACE`] a taken name is EEXIST. The file, and then its name, have reached the disk on return.
    pub fn put(
        &mut self,
        from: Name<'_>,
        stat: &Stat,
        to: Name<'_>,
        staging: &Staging,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        remove(staging.at(NEW))?;
        let wanted = seals(from, stat)?;
        let put = self.make(from, stat, staging.at(NEW), &mut |_| ()).and_then(|()| {
            let made = walk::stat_at(staging.dir(), NEW)?;
            if stat.is_file() {
                fs::fsync(walk::open(staging.dir(), NEW, OFlags::RDONLY, Mounts::Stay)?)?;
            }
            if flags.is_empty() {
                unseal(to)?;
            }
            rename(staging.at(NEW), to, flags).map(|()| made)
        });
        if put.is_err() {
            // The original error is the one to report; the next run removes the file, too.
            let _ = remove(staging.at(NEW));
        }
        let made = put?;
        if !wanted.is_empty() {
            seal_if_known(open(to, &made)?.as_fd(), wanted)?;
        }
        fs::fsync(walk::open(to.0, c".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?)
    }
}

/// Sets `chattr +i` and `+a`, where the file system has them.
fn seal_if_known(target: BorrowedFd<'_>, wanted: IFlags) -> Result<(), Errno> {
    match attributes::seal(target, wanted) {
        Err(Errno::NOTTY | Errno::NOTSUP) => Ok(()),
        result => result,
    }
}

/// Clears `chattr +i` and `+a` of a file before its replacement.
pub fn unseal(to: Name<'_>) -> Result<(), Errno> {
    match walk::stat_at(to.0, to.1) {
        Ok(stat) if stat.is_file() && !stat.seals().is_empty() => {
            attributes::seal(open(to, &stat)?.as_fd(), IFlags::empty())
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Opens the file of a `stat`; ESTALE if its name has another file by now.
pub fn open((dir, name): Name<'_>, stat: &Stat) -> Result<Handle, Errno> {
    let (flags, path_only) = match stat.file_type() {
        FileType::RegularFile => (OFlags::RDONLY, false),
        FileType::Directory => (OFlags::RDONLY | OFlags::DIRECTORY, false),
        _ => (OFlags::PATH, true),
    };
    let fd = walk::open(dir, name, flags, Mounts::Stay)?;
    let opened = walk::stat(fd.as_fd())?;
    if opened.identity() == stat.identity() && opened.file_type() == stat.file_type() {
        Ok(Handle { fd, path_only })
    } else {
        Err(Errno::STALE)
    }
}

/// The first compared property: for files of different types no other property is compared.
pub const TYPE: &str = "type";
/// The last compared property: files with only this difference are otherwise the same.
pub const SEALS: &str = "inode flags (chattr)";
/// Another file system is mounted at the destination, which is not compared.
pub const MOUNT: &str = "file system";

/// Properties left out of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignore<'o> {
    /// The inode flags against changes.
    pub seals: bool,
    /// Expected differences in the ids of the second file.
    pub owners: &'o Owners,
}

impl Default for Ignore<'_> {
    fn default() -> Self {
        Self { seals: false, owners: Owners::SAME }
    }
}

/// Two files without a difference so far; content and [`SEALS`] are not compared yet.
#[derive(Debug)]
pub struct Alike {
    source: Handle,
    target: Handle,
    /// The size, of regular files.
    size: Option<u64>,
    same_seals: bool,
}

impl Alike {
    /// Compares everything else. The error is the first different property. Of directories the time of the last change is left out.
    pub fn new(
        (from, one): (Name<'_>, &Stat),
        (to, other): (Name<'_>, &Stat),
        ignore: Ignore<'_>,
    ) -> Result<Result<Self, &'static str>, Errno> {
        let pairs = [
            (one.file_type() == other.file_type(), TYPE),
            ((one.uid(), one.gid()) == (other.uid(), other.gid()), "owner"),
            (one.mode() == other.mode(), "mode"),
            (!one.is_file() || one.size() == other.size(), "size"),
            (one.is_dir() || one.modified() == other.modified(), "time"),
            (one.special() == other.special(), "device number"),
        ];
        if let Some((_, what)) = pairs.into_iter().find(|(same, _)| !same) {
            return Ok(Err(what));
        }
        if one.is_symlink()
            && fs::readlinkat(from.0, from.1, Vec::new())? != fs::readlinkat(to.0, to.1, Vec::new())?
        {
            return Ok(Err("target"));
        }
        let (source, target) = (open(from, one)?, open(to, other)?);
        if !attributes::same_extended(&source, &target, ignore.owners)? {
            return Ok(Err("extended attributes"));
        }
        let seals = one.known_seals().intersection(other.known_seals());
        let same_seals = ignore.seals || one.seals().intersection(seals) == other.seals().intersection(seals);
        Ok(Ok(Self { source, target, size: one.is_file().then_some(one.size()), same_seals }))
    }

    /// Advises the kernel to drop cached data of the second file already on the disk, and to read its beginning. Both
    /// are only hints.
    pub fn read_ahead(&self) {
        let length = self.size.and_then(|size| NonZeroU64::new(size.min(AHEAD_BYTES)));
        if length.is_some() {
            let _ = fs::fadvise(&self.target.fd, 0, None, Advice::DontNeed);
            let _ = fs::fadvise(&self.target.fd, 0, length, Advice::WillNeed);
        }
    }

    /// Compares the rest; the content of regular files with `read`. For the same content, `sum` has the digest.
    pub fn finish(
        self,
        read: Option<&mut dyn FnMut(u64)>,
        sum: Option<&mut Digest>,
    ) -> Result<Option<&'static str>, Errno> {
        if let (Some(progress), Some(size)) = (read, self.size)
            && !content::same(&self.source.fd.into(), &self.target.fd.into(), size, sum, progress)?
        {
            return Ok(Some("content"));
        }
        Ok((!self.same_seals).then_some(SEALS))
    }
}

/// The first different property of two files; none if equal. With `read` the content of regular files is compared, the
/// second as on the disk; for the same content, `sum` has the digest.
pub fn difference(
    from: (Name<'_>, &Stat),
    to: (Name<'_>, &Stat),
    ignore: Ignore<'_>,
    read: Option<&mut dyn FnMut(u64)>,
    sum: Option<&mut Digest>,
) -> Result<Option<&'static str>, Errno> {
    match Alike::new(from, to, ignore)? {
        Err(what) => Ok(Some(what)),
        Ok(alike) => {
            if read.is_some() {
                alike.read_ahead();
            }
            alike.finish(read, sum)
        }
    }
}

/// True if a directory grants access to its content to more users than another directory, or its owner could grant
/// such access.
pub fn exposes(
    (from, one): (Name<'_>, &Stat),
    (to, other): (Name<'_>, &Stat),
    owners: &Owners,
) -> Result<bool, Errno> {
    if !one.is_dir() || !other.is_dir() {
        return Ok(false);
    }
    match (open(from, one), open(to, other)) {
        (Ok(from), Ok(to)) => exposes_open((&from, one), (&to, other), owners),
        // One was replaced meanwhile, and may be put back.
        (Err(Errno::NOENT | Errno::STALE), _) | (_, Err(Errno::NOENT | Errno::STALE)) => Ok(true),
        (Err(errno), _) | (_, Err(errno)) => Err(errno),
    }
}

/// The same of two open directories.
pub fn exposes_open(
    (from, one): (&Handle, &Stat),
    (to, other): (&Handle, &Stat),
    owners: &Owners,
) -> Result<bool, Errno> {
    const LOOK: u16 = 0o055;
    let (own, others) = (attributes::access_acl(from, owners)?, attributes::access_acl(to, Owners::SAME)?);
    if own.is_none() && one.mode() & LOOK == LOOK {
        return Ok(false);
    }
    // The bits of another group are those of everybody in turn.
    let allowed = if one.gid() == other.gid() {
        one.mode()
    } else {
        let both = (one.mode() >> 3) & one.mode() & 0o7;
        both << 3 | both
    };
    let is_owner = other.uid() == one.uid() || other.uid() == 0;
    Ok(!is_owner || own != others || other.mode() & LOOK & !allowed != 0)
}

/// True if two regular files, or two symbolic links, are the same for a program: in type, owner, mode and content. Times and attributes
/// are left out.
pub fn same(a: Name<'_>, b: Name<'_>) -> Result<bool, Errno> {
    let (one, other) = (walk::stat_at(a.0, a.1)?, walk::stat_at(b.0, b.1)?);
    if one.file_type() != other.file_type() {
        return Ok(false);
    }
    if one.is_symlink() {
        return Ok(fs::readlinkat(a.0, a.1, Vec::new())? == fs::readlinkat(b.0, b.1, Vec::new())?);
    }
    if !alike(&one, &other) {
        return Ok(false);
    }
    let file = |name, stat| open_anywhere(name, stat).map(File::from);
    content::same(&file(a, &one)?, &file(b, &other)?, one.size(), None, &mut |_| ())
}

/// The same for two files open for reading.
pub fn same_open(one: (OwnedFd, &Stat), other: (OwnedFd, &Stat)) -> Result<bool, Errno> {
    let content = || content::same(&one.0.into(), &other.0.into(), one.1.size(), None, &mut |_| ());
    if alike(one.1, other.1) { content() } else { Ok(false) }
}

/// True if two regular files may be the same, by all but their content.
fn alike(one: &Stat, other: &Stat) -> bool {
    let look = |stat: &Stat| (stat.uid(), stat.gid(), stat.mode(), stat.size());
    one.is_file() && other.is_file() && look(one) == look(other)
}

/// Opens a regular file looked at through the mounts on its directory.
fn open_anywhere((dir, name): Name<'_>, stat: &Stat) -> Result<OwnedFd, Errno> {
    // Reading leaves no trace, if the kernel allows O_NOATIME for this user.
    let fd = match walk::open(dir, name, OFlags::RDONLY | OFlags::NOATIME, Mounts::Enter) {
        Err(Errno::PERM) => walk::open(dir, name, OFlags::RDONLY, Mounts::Enter)?,
        opened => opened?,
    };
    if walk::stat(fd.as_fd())?.identity() == stat.identity() { Ok(fd) } else { Err(Errno::STALE) }
}

/// The inode flags of a source against changes; none for most.
pub fn seals(from: Name<'_>, stat: &Stat) -> Result<IFlags, Errno> {
    if stat.seals().is_empty() || !(stat.is_file() || stat.is_dir()) {
        return Ok(IFlags::empty());
    }
    Ok(attributes::flags(open(from, stat)?.as_fd()).intersection(attributes::SEALS))
}

/// Gives an existing directory the owner and mode of `stat`, and the attributes of another directory.
pub fn give(
    from: Name<'_>,
    (stat, owners): (&Stat, &Owners),
    to: Name<'_>,
    there: &Stat,
) -> Result<(), Errno> {
    let (source, target) = (open(from, stat)?, open(to, there)?);
    let now = walk::stat(target.as_fd())?;
    attributes::give(&source, (stat, owners), (&target, &now), Unsupported::Refuse)
}
