//! Roots that hold nothing but directories and files of a run.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;

use crate::manifest::{AbsPath, Manifest};
use crate::sys::walk::{self, Mounts};
use crate::transfer::Name;

/// A tree with more levels, or more names in one directory, is not taken for bare.
const DEPTH: u32 = 64;
const NAMES: usize = 4096;

/// True for an empty file that nobody may read, as under a bind mount, and for a link into a store.
pub fn is_made_by_a_run(
    manifest: &Manifest,
    (dir, name): Name<'_>,
    (kind, permissions, size): (FileType, u16, u64),
) -> bool {
    match kind {
        FileType::Symlink => {
            let target = readlinkat(dir, name, Vec::new()).unwrap_or_default();
            let target = target.to_str().ok().and_then(|target| AbsPath::parse(target).ok());
            target.is_some_and(|target| manifest.stores.iter().any(|store| target.is_in(&store.path)))
        }
        _ => permissions == 0 && size == 0,
    }
}

/// True if all of a tree was made by a run: directories, and the files of [`is_made_by_a_run`]. Every name counts, whatever the
/// rules of `impctl lost` say of its path.
///
/// # Errors A part of the tree cannot be read, or is a mount.
pub fn is_bare(tree: BorrowedFd<'_>, manifest: &Manifest) -> Result<bool, Errno> {
    bare(tree, manifest, DEPTH)
}

fn bare(dir: BorrowedFd<'_>, manifest: &Manifest, depth: u32) -> Result<bool, Errno> {
    let names = walk::names(dir, NAMES)?;
    if depth == 0 || names.len() == NAMES {
        return Ok(false);
    }
    for name in &names {
        let stat = walk::stat_at(dir, name.as_c_str())?;
        let is_bare = if stat.is_dir() {
            let below = walk::open(dir, name.as_c_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
            bare(below.as_fd(), manifest, depth - 1)?
        } else {
            is_made_by_a_run(manifest, (dir, name), (stat.file_type(), stat.mode(), stat.size()))
        };
        if !is_bare {
            return Ok(false);
        }
    }
    Ok(true)
}
