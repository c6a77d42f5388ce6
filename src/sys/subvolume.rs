//! btrfs subvolumes.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::{raw, walk};

/// statfs(2)'s magic number of btrfs.
const BTRFS_MAGIC: i64 = 0x9123_683e;

/// True if an open file is on btrfs.
///
/// # Errors
/// Of fstatfs(2).
pub fn is_btrfs(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    #[allow(clippy::unnecessary_cast, reason = "the type differs by architecture")]
    Ok(magic as i64 == BTRFS_MAGIC)
}

/// Makes an empty subvolume in a directory.
///
/// # Errors
/// Of the kernel: EEXIST where the name is taken.
pub fn create(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    raw::btrfs_create_subvolume(dir, name.as_bytes())
}

/// The inode number of the top directory of every subvolume.
const TOP: u64 = 256;

/// Makes a subvolume that is read-only writable, by its top directory. Nothing is done to any other directory.
///
/// # Errors
/// Of the kernel.
pub fn make_writable(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    if walk::stat(dir)?.inode() != TOP || !is_btrfs(dir)? {
        return Ok(());
    }
    raw::btrfs_clear_flags(dir)
}

/// Removes a subvolume with everything in it. False where there is no subvolume of that name, another one is in it, or `chattr +i` or
/// `+a` forbids it.
///
/// # Errors
/// Of the kernel.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    if walk::stat_at(dir, name)?.inode() != TOP || !is_btrfs(dir)? {
        return Ok(false);
    }
    match raw::btrfs_destroy_subvolume(dir, name.to_bytes()) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::INVAL | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno),
    }
}
