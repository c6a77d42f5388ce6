//! Trust in maps of names to ids.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Stat, fstat};

use crate::sys::walk;
use crate::text::problem::{Problem, Result};

/// No system has so many users; a larger file is no map of names.
pub const MAX_SIZE: u64 = 4 << 20;
/// chown(2)'s id for "unchanged", which names no user.
const NO_ID: u32 = u32::MAX;
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The content of a trusted file.
pub fn read(fd: &OwnedFd) -> Result<Vec<u8>> {
    let stat = stat(fd)?;
    believable(&stat, FileType::RegularFile, owner())?;
    let bytes =
        walk::content(fd.as_fd(), MAX_SIZE + 1).map_err(|errno| Problem::os("cannot read it", errno))?;
    // The file may have grown since its stat, and /proc and FUSE give sizes without meaning.
    if bytes.len() as u64 > MAX_SIZE { Err(too_large()) } else { Ok(bytes) }
}

/// Refuses a directory writable by users other than root.
pub fn directory(fd: &OwnedFd) -> Result<()> {
    believable(&stat(fd)?, FileType::Directory, owner())
}

/// An id of a file, unless reserved.
pub fn id(name: &str, id: u32) -> Result<u32> {
    match id {
        0 if name != "root" => Err(Problem::new(format!("gives `{name}` the id 0, which is root's alone"))
            .remedy(format!("take `{name}` out of it, or give the id by number in the manifest"))),
        NO_ID => Err(Problem::new(format!("gives `{name}` the id {NO_ID}, which means nobody"))
            .remedy(format!("take `{name}` out of it; the id is made anew at the next activation"))),
        id => Ok(id),
    }
}

/// Trusted owner of these files: root; in tests the user of the test, without privilege.
fn owner() -> u32 {
    if cfg!(test) { rustix::process::geteuid().as_raw() } else { 0 }
}

fn stat(fd: impl AsFd) -> Result<Stat> {
    fstat(fd).map_err(|errno| Problem::os("cannot look at it", errno))
}

fn believable(stat: &Stat, wanted: FileType, owner: u32) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        let (wanted, is) = (kind(wanted), kind(FileType::from_raw_mode(stat.st_mode)));
        return Err(Problem::new(format!("is {is} in place of {wanted}, so it is ignored")).remedy(
            "find out who put it there and move it away; it is written anew at the next activation",
        ));
    }
    if stat.st_uid != owner {
        return Err(Problem::new(format!("belongs to uid {}, not to root, so it is ignored", stat.st_uid))
            .remedy("find out why, and once its content is right, `chown root` it"));
    }
    if stat.st_mode & WRITABLE_BY_OTHERS != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(Problem::new(format!(
            "can be written by others than root (mode {mode:04o}), so it is ignored"
        ))
        .remedy("find out why, and once its content is right, `chmod go-w` it"));
    }
    // Directories have sizes too, but those say nothing here.
    if wanted == FileType::RegularFile && u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_SIZE) {
        return Err(too_large());
    }
    Ok(())
}

fn too_large() -> Problem {
    Problem::new(format!("is larger than {} MiB, so it is ignored", MAX_SIZE >> 20))
        .remedy("find out what it is and move it away; it is written anew at the next activation")
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// This directory, prepared for a test.
    fn stat_with(mode: u32, uid: u32, size: i64) -> Stat {
        let mut stat = fstat(std::fs::File::open(".").unwrap()).unwrap();
        (stat.st_mode, stat.st_uid, stat.st_size) = (mode, uid, size);
        stat
    }

    #[test]
    fn only_files_writable_by_root_alone_are_trusted() {
        let file = |mode, uid, size| believable(&stat_with(mode, uid, size), FileType::RegularFile, 0);
        assert!(file(0o100_644, 0, 10).is_ok() && file(0o100_600, 0, 4 << 20).is_ok());
        for (mode, uid, size, why) in [
            (0o100_644, 1000, 10, "uid 1000"),
            (0o100_664, 0, 10, "mode 0664"),
            (0o100_602, 0, 10, "mode 0602"),
            (0o100_644, 0, (4 << 20) + 1, "4 MiB"),
            (0o010_644, 0, 0, "a FIFO in place of a file"),
            (0o040_755, 0, 0, "a directory in place of a file"),
            (0o120_777, 0, 0, "a symlink in place of a file"),
        ] {
            let problem = file(mode, uid, size).unwrap_err();
            assert!(problem.what.contains(why) && !problem.remedy.is_empty(), "{problem}");
        }
        let directory = |mode, uid| believable(&stat_with(mode, uid, i64::MAX), FileType::Directory, 0);
        assert!(directory(0o040_755, 0).is_ok());
        assert!(directory(0o041_777, 0).is_err() && directory(0o040_755, 7).is_err());
    }

    #[test]
    fn ids_that_no_file_may_give() {
        assert_eq!(id("plex", 193), Ok(193));
        assert_eq!(id("root", 0), Ok(0));
        assert!(id("toor", 0).unwrap_err().what.contains("`toor`"));
        assert!(id("plex", u32::MAX).is_err());
    }
}
