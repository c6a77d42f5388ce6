//! btrfs subvolumes.

use std::ffi::CStr;
#[cfg(feature = "ctl")]
use std::ffi::CString;
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

/// Makes a read-only subvolume writable, by its top directory. Other directories stay unchanged.
///
/// # Errors
/// Of the kernel.
pub fn make_writable(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    if walk::stat(dir)?.inode() != TOP || !is_btrfs(dir)? {
        return Ok(());
    }
    raw::btrfs_clear_flags(dir)
}

/// Removes a subvolume with its content. False without a subvolume of this name, with another subvolume inside, or if
/// `chattr +i` or `+a` forbids the change.
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

/// The subvolumes directly in the one whose top directory is open: the directory of each, by its path below the top, and its name.
///
/// # Errors
/// Of the kernel: ENOTTY before Linux 4.18, EOVERFLOW where they are too many for one call.
#[cfg(feature = "ctl")]
pub fn nested(top: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, CString)>, Errno> {
    const REFERENCES: usize = 8;
    const COUNT: usize = 4088;
    const NAME: usize = 16;
    const PATH: usize = 272;
    let mut found = [0; 4096];
    raw::btrfs_subvolumes(top, &mut found)?;
    let (references, _) = found[REFERENCES..COUNT].as_chunks::<16>();
    let text = |bytes: &[u8]| {
        let text = CStr::from_bytes_until_nul(bytes);
        text.map(CStr::to_owned).map_err(|_| Errno::NAMETOOLONG)
    };
    let mut all = Vec::new();
    for [tree @ .., a, b, c, d, e, f, g, h] in references.iter().take(found[COUNT].into()) {
        let mut place = [0; 4096];
        place[..8].copy_from_slice(&[*a, *b, *c, *d, *e, *f, *g, *h]);
        place[8..16].copy_from_slice(tree);
        raw::btrfs_subvolume_place(top, &mut place)?;
        all.push((text(&place[PATH..])?.into_bytes(), text(&place[NAME..PATH])?));
    }
    Ok(all)
}
