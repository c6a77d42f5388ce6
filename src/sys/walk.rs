//! Access to files below a directory, one component at a time and by descriptors only: no path is resolved twice, and
//! no symbolic link is ever followed.

use std::ffi::CString;
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    self, Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::manifest::AbsPath;
use crate::manifest::coverage::Type;
use crate::sys::raw;
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

/// openat2(2) is Linux 5.6, and a sandbox may deny the call, by ENOSYS or by the error for denied files.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);
/// openat2(2) fails with EAGAIN during a rename; the number of tries equals libpathrs'.
const TRIES: u32 = 128;

/// Handling of mount points by a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// Not entered: below a store only its own file system counts.
    Stay,
    /// Yes: entries mounted earlier are on the way.
    Enter,
}

/// Opens one component below `dir` with `O_PATH`; its type has to be checked afterwards. No link is followed.
pub fn look<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, mounts: Mounts) -> Result<OwnedFd, Errno> {
    open(dir, name, OFlags::PATH, mounts)
}

/// Opens one directory below `dir` with `O_PATH`.
pub fn directory<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, mounts: Mounts) -> Result<OwnedFd, Errno> {
    open(dir, name, OFlags::PATH | OFlags::DIRECTORY, mounts)
}

/// Opens one component below `dir`, without blocking, and without a controlling terminal.
pub fn open<N: Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: N,
    flags: OFlags,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    debug_assert!({
        let name = name.to_string_lossy();
        !name.contains('/') && !name.is_empty() && name != ".."
    });
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // O_PATH takes no other flags than these.
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK | OFlags::NOCTTY };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if mounts == Mounts::Stay {
            resolve |= ResolveFlags::NO_XDEV;
        }
        for _ in 0..TRIES {
            match fs::openat2(dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                // Of these a file may be the cause as well.
                Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) if !raw::has_openat2() => {
                    NO_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                // O_NOFOLLOW with O_DIRECTORY gives ENOTDIR for a link; openat2 gives ELOOP.
                result => return result,
            }
        }
    }
    // A single component without `..` cannot leave the directory, and O_NOFOLLOW covers a link.
    let fd = fs::openat(dir, name, flags, Mode::empty())?;
    if mounts == Mounts::Stay && mount_id(dir)? != mount_id(fd.as_fd())? {
        return Err(Errno::XDEV);
    }
    Ok(fd)
}

/// Opens the file at `path` below a base, an absolute path seen from there.
pub fn open_below(
    base: BorrowedFd<'_>,
    path: &AbsPath,
    flags: OFlags,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    let mut fd = None::<OwnedFd>;
    let mut rest = path.components().peekable();
    while let Some(name) = rest.next() {
        let dir = fd.as_ref().map_or(base, OwnedFd::as_fd);
        fd = Some(if rest.peek().is_some() {
            directory(dir, name, mounts)?
        } else {
            open(dir, name, flags, mounts)?
        });
    }
    fd.map_or_else(|| fs::openat(base, ".", flags | OFlags::CLOEXEC, Mode::empty()), Ok)
}

/// Opens a directory below a base for reading; none if missing.
pub fn directory_below(base: BorrowedFd<'_>, path: &AbsPath, mounts: Mounts) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = open(base, ".", flags, mounts).map_err(|errno| Problem::os("cannot open it", errno))?;
    let mut done = AbsPath::root();
    for name in path.components() {
        done = done.child(name);
        dir = match open(dir.as_fd(), name, flags, mounts) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(explain(dir.as_fd(), done.as_str(), errno, "a directory")),
        };
    }
    Ok(Some(dir))
}

/// Opens the directory above `dir`. Its identity has to be compared afterwards: `dir` may have been moved.
pub fn above(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fs::openat(dir, "..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the first directory of a walk, by a path from the administrator: links in the path are followed.
pub fn base(path: &str) -> Result<OwnedFd, Errno> {
    fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The content of an open file, limited to `most` bytes: a file without a size, as in /proc, is read in few calls.
pub fn content(fd: BorrowedFd<'_>, most: u64) -> Result<Vec<u8>, Errno> {
    // On the stack, as musl maps memory for every large buffer anew.
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut content = Vec::new();
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(([], _)) => return Ok(content),
            Ok((read, _)) => content.extend_from_slice(read),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        if content.len() as u64 >= most {
            content.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            return Ok(content);
        }
    }
}

/// The same for the file at a path; links are followed.
pub fn content_at(path: &str, most: u64) -> Result<Vec<u8>, Errno> {
    content(open_at(path)?.as_fd(), most)
}

/// Opens the file at a path for reading; links are followed.
pub fn open_at(path: &str) -> Result<OwnedFd, Errno> {
    fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// True if a file exists at a path. Links are followed.
#[must_use]
pub fn exists(path: &str) -> bool {
    fs::access(path, Access::EXISTS).is_ok()
}

/// A duplicate of a descriptor.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // As in the standard library: never a number of standard input or outputs.
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

/// Properties of `name` in `dir`; of a mount point those of its topmost mount.
pub fn stat_at<N: Arg>(dir: BorrowedFd<'_>, name: N) -> Result<Stat, Errno> {
    statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).map(Stat)
}

/// Properties of an open file.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH).map(Stat)
}

fn statx<N: Arg>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Statx, Errno> {
    // STATX_MNT_ID is Linux 5.8.
    fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// The id of the mount of a descriptor, as in /proc/self/mountinfo.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(stat(fd)?.mount_id())
}

/// Properties of a file, by statx(2).
#[derive(Debug, Clone, Copy)]
pub struct Stat(Statx);

impl Stat {
    /// Its kind.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.0.stx_mode.into())
    }

    /// The type, as distinguished by entries.
    #[must_use]
    pub fn entry_type(&self) -> Type {
        entry_type(self.file_type())
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// True for a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Permission bits, with setuid, setgid and sticky.
    #[must_use]
    pub fn mode(&self) -> u16 {
        self.0.stx_mode & 0o7777
    }

    /// The owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }

    /// The group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }

    /// The number of names.
    #[must_use]
    pub fn links(&self) -> u32 {
        self.0.stx_nlink
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.stx_size
    }

    /// Its bytes on the disk.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.0.stx_blocks * 512
    }

    /// The device number as `major:minor` of a device node.
    #[must_use]
    pub fn special(&self) -> (u32, u32) {
        (self.0.stx_rdev_major, self.0.stx_rdev_minor)
    }

    /// When its content changed last: seconds and nanoseconds since 1970.
    #[must_use]
    pub fn modified(&self) -> (i64, u32) {
        (self.0.stx_mtime.tv_sec, self.0.stx_mtime.tv_nsec)
    }

    /// Time of the last status change, as [`Stat::modified`].
    #[must_use]
    pub fn changed(&self) -> (i64, u32) {
        (self.0.stx_ctime.tv_sec, self.0.stx_ctime.tv_nsec)
    }

    /// `chattr +i` and `chattr +a`, as far as the file system reports them.
    #[must_use]
    pub fn seals(&self) -> StatxAttributes {
        self.0.stx_attributes.intersection(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND))
    }

    /// The part of [`Stat::seals`] known to the file system.
    #[must_use]
    pub fn known_seals(&self) -> StatxAttributes {
        StatxAttributes::from_bits_retain(self.0.stx_attributes_mask.bits())
            .intersection(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND))
    }

    /// The same with another owner.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        (self.0.stx_uid, self.0.stx_gid) = (uid, gid);
        self
    }

    /// True for the root of a mount (Linux 5.8).
    #[must_use]
    pub fn is_mount_root(&self) -> bool {
        self.0.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    }

    /// The id of its mount.
    #[must_use]
    pub fn mount_id(&self) -> u64 {
        self.0.stx_mnt_id
    }

    /// The device number of its file system, as `major:minor`.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        (self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// Its inode number.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.0.stx_ino
    }

    /// Identity among all existing files.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { device: self.device(), inode: self.0.stx_ino }
    }
}

/// A file or directory, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: (u32, u32),
    inode: u64,
}

/// `major:minor inode`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device: (major, minor), inode } = self;
        write!(f, "{major}:{minor} {inode}")
    }
}

/// Type of a file, as distinguished by entries.
#[must_use]
pub fn entry_type(file_type: FileType) -> Type {
    match file_type {
        FileType::RegularFile => Type::File,
        FileType::Directory => Type::Directory,
        FileType::Symlink => Type::Link,
        _ => Type::Other,
    }
}

/// Name of a file type, with its article.
#[must_use]
pub fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown type",
    }
}

/// Problem of a failed component; `path` is the path up to and including this component.
#[must_use]
pub fn explain(dir: BorrowedFd<'_>, path: &str, errno: Errno, wanted: &str) -> Problem {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let shown = escape::name(path);
    if errno == Errno::XDEV {
        return Problem::new(format!("{shown} is on another file system, mounted below the store"))
            .remedy("name that file system as a store of its own");
    }
    if matches!(errno, Errno::NOTDIR | Errno::LOOP)
        && let Ok(stat) = stat_at(dir, name)
    {
        return wrong_type(dir, path, &stat, wanted);
    }
    // These come from a failed creation.
    let step = if matches!(errno, Errno::ROFS | Errno::NOSPC | Errno::DQUOT) { "create" } else { "open" };
    Problem::os(format!("cannot {step} {shown}"), errno)
}

/// Problem of a component with another type than expected.
pub fn wrong_type(dir: BorrowedFd<'_>, path: &str, stat: &Stat, wanted: &str) -> Problem {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let shown = escape::name(path);
    if stat.is_symlink() {
        let target = fs::readlinkat(dir, name, Vec::new());
        let target = target.map_or_else(describe, |target| escape::name(target.to_bytes()).into_owned());
        return Problem::new(format!("{shown} is a symbolic link to {target}, and links are never followed"))
            .remedy(format!("put {wanted} in its place, or name the place that it points to"));
    }
    Problem::new(format!("{shown} is {}, not {wanted}", kind(stat.file_type())))
        .remedy("move it away, or correct the entry")
}

/// Up to `most` names in a directory, in no order.
pub fn names(dir: BorrowedFd<'_>, most: usize) -> Result<Vec<CString>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = fs::openat(dir, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
            if names.len() == most {
                break;
            }
        }
    }
    Ok(names)
}
