//! Creation of directories and files with their owner and mode. A crash at any point leaves no file, or a directory
//! recognised and finished by the next run.
//!
//! A file gets its name when complete. A directory is made with mode 000 and gets its mode as the last step; an empty
//! directory of root with mode 000 counts as unfinished.

use std::ffi::CString;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Gid, Mode, OFlags, RawDir, RawMode, Uid, XattrFlags};
use rustix::io::Errno;

use crate::sys::attributes::{drop_acls, has_default_acl};
use crate::sys::unnamed::Unnamed;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::os_error;

/// Mark on the store for a pending owner. Only a privileged process can set or forge the mark.
const PENDING: &str = "trusted.imp-mount.pending";

/// Owner and mode of a new file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u16,
    /// True if this is only until the owner's name can be resolved.
    pub pending: bool,
}

impl Attributes {
    /// Root's, with a mode.
    #[must_use]
    pub fn root(mode: u16) -> Self {
        Self { uid: 0, gid: 0, mode, pending: false }
    }
}

/// An existing file.
#[derive(Debug)]
pub struct Node {
    /// Its descriptor, with `O_PATH` or for reading.
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
    /// True if made or finished by this run.
    pub made: bool,
}

impl Node {
    fn existing(fd: OwnedFd, stat: Stat) -> Self {
        Self { fd, stat, made: false }
    }
}

/// The directory `name` in `dir`, created with `wanted` if missing.
pub fn directory(
    dir: BorrowedFd<'_>,
    name: &str,
    mounts: Mounts,
    wanted: &mut dyn FnMut() -> Attributes,
) -> Result<Node, Errno> {
    match walk::directory(dir, name, mounts) {
        Ok(fd) => {
            let stat = walk::stat(fd.as_fd())?;
            if !is_unfinished(&stat) {
                return Ok(Node::existing(fd, stat));
            }
        }
        Err(Errno::NOENT) => match fs::mkdirat(dir, name, Mode::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        },
        Err(errno) => return Err(errno),
    }
    finish_directory(dir, name, mounts, wanted)
}

/// A new directory on an unpublished root, in as few calls as possible; none if `name` is taken.
pub fn fresh_directory(
    dir: BorrowedFd<'_>,
    name: &str,
    attributes: &Attributes,
    below_setgid: bool,
) -> Result<Option<OwnedFd>, Errno> {
    // mkdir(2) does not take the setuid and setgid bits, and a setgid directory above passes its group on.
    match fs::mkdirat(dir, name, Mode::from_raw_mode(RawMode::from(attributes.mode))) {
        Err(Errno::EXIST) => return Ok(None),
        made => made?,
    }
    let plain = !below_setgid && attributes.uid == 0 && attributes.gid == 0 && attributes.mode & 0o6000 == 0;
    if plain {
        return walk::directory(dir, name, Mounts::Enter).map(Some);
    }
    let fd = walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Enter)?;
    give(fd.as_fd(), attributes)?;
    Ok(Some(fd))
}

fn finish_directory(
    dir: BorrowedFd<'_>,
    name: &str,
    mounts: Mounts,
    wanted: &mut dyn FnMut() -> Attributes,
) -> Result<Node, Errno> {
    let fd = walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, mounts)?;
    finish(fd, &wanted())
}

/// The regular file `name` in `dir`, created with `content` if missing: whole, in one step. An existing file is returned, of any type.
pub fn file(
    dir: BorrowedFd<'_>,
    name: &str,
    mounts: Mounts,
    content: &[u8],
    wanted: &mut dyn FnMut() -> Attributes,
) -> Result<Node, Errno> {
    let existing = || {
        let fd = walk::look(dir, name, mounts)?;
        let stat = walk::stat(fd.as_fd())?;
        Ok(Node::existing(fd, stat))
    };
    match walk::stat_at(dir, name) {
        Ok(_) => return existing(),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mut new = Unnamed::new(dir)?;
    if !content.is_empty() {
        let mut file = std::fs::File::from(new.take()?);
        file.write_all(content).map_err(os_error)?;
        new.put_back(file.into());
    }
    let attributes = wanted();
    mark_pending(new.as_fd()?, &attributes)?;
    give(new.as_fd()?, &attributes)?;
    if !content.is_empty() {
        // The content reaches the disk before the name.
        fs::fsync(new.as_fd()?)?;
    }
    let c_name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match new.publish(&c_name) {
        Ok(fd) => {
            // open_tree(2) does not take a descriptor opened before the file had a name.
            let node = existing()?;
            let made = node.stat.identity() == walk::stat(fd.as_fd())?.identity();
            Ok(Node { made, ..node })
        }
        Err(Errno::EXIST) => existing(),
        Err(errno) => Err(errno),
    }
}

/// Tells if a directory may be unfinished: a mode without permissions, except a setgid bit passed on by the directory
/// above. The root of a mount, such as a guard, is not unfinished.
fn is_unfinished(stat: &Stat) -> bool {
    stat.mode() & !0o2000 == 0 && !stat.is_mount_root()
}

/// True for an empty directory; open for reading.
fn is_empty(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(fd, &mut buffer);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives an unfinished file or directory its owner and then its mode. A finished one was put there by another process
/// meanwhile, and is left as found.
fn finish(fd: OwnedFd, attributes: &Attributes) -> Result<Node, Errno> {
    let stat = walk::stat(fd.as_fd())?;
    let is_own = stat.uid() == attributes.uid || stat.uid() == rustix::process::geteuid().as_raw();
    // Asked of the open directory: its name may be another one's by now.
    if !is_unfinished(&stat) || !is_own || !is_empty(fd.as_fd())? {
        return Ok(Node::existing(fd, stat));
    }
    mark_pending(fd.as_fd(), attributes)?;
    // Of a default ACL above, a new directory has both: they would let in others than the mode says.
    if has_default_acl(fd.as_fd())? {
        drop_acls(fd.as_fd())?;
    }
    if (stat.uid(), stat.gid()) == (attributes.uid, attributes.gid) {
        give_mode(fd.as_fd(), attributes)?;
    } else {
        give(fd.as_fd(), attributes)?;
    }
    let stat = walk::stat(fd.as_fd())?;
    Ok(Node { fd, stat, made: true })
}

fn mark_pending(fd: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Errno> {
    if !attributes.pending {
        return Ok(());
    }
    match fs::fsetxattr(fd, PENDING, b"", XattrFlags::empty()) {
        // Without extended attributes, or in a user namespace, only the report remembers.
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Gives owner and mode, the mode last: chown(2) drops setuid and setgid.
fn give(fd: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Errno> {
    fs::fchown(fd, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    give_mode(fd, attributes)
}

fn give_mode(fd: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Errno> {
    fs::fchmod(fd, Mode::from_raw_mode(RawMode::from(attributes.mode)))
}

/// True for a file of an earlier run with a pending owner; open for reading.
#[must_use]
pub fn is_pending(fd: BorrowedFd<'_>) -> bool {
    fs::fgetxattr(fd, PENDING, &mut [0_u8; 0][..]).is_ok()
}

/// Gives a pending file its owner and mode, and removes the mark.
pub fn settle(fd: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Errno> {
    give(fd, attributes)?;
    forget_pending(fd)
}

/// Removes the mark of a file with an owner from elsewhere.
pub fn forget_pending(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match fs::fremovexattr(fd, PENDING) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Gives an existing file another owner and mode, without a moment in which a user has more than both allow.
/// The descriptor is of a directory or file, open for reading, with one link: a second one may be another user's.
pub fn enforce(fd: BorrowedFd<'_>, stat: &Stat, attributes: &Attributes) -> Result<(), Errno> {
    let both = stat.mode() & attributes.mode;
    if both != stat.mode() {
        fs::fchmod(fd, Mode::from_raw_mode(RawMode::from(both)))?;
    }
    give(fd, attributes)
}
