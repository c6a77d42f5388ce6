//! The markers stored by NixOS for systemd-sysusers: empty files with the names of users or groups as name and owner.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::{Kind, trust};
use crate::text::problem::{Problem, Result};

/// A directory of markers in which only root can put any.
pub struct Markers {
    directory: OwnedFd,
    kind: Kind,
}

impl Markers {
    /// Takes a directory, `uid` or `gid`, whose markers may be believed.
    pub fn new(directory: OwnedFd, kind: Kind) -> Result<Self> {
        trust::directory(&directory)?;
        Ok(Self { directory, kind })
    }

    /// The id of a marker: a user's is the file's owner, a group's is the file's group, with root as the owner.
    pub fn find(&self, name: &str) -> Result<Option<u32>> {
        let stat = match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(Problem::os(format!("cannot look at the marker `{name}`"), errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Problem::new(format!("the marker `{name}` is no file, so it is ignored")).remedy(
                "find out who put it there and move it away; it is made anew at the next activation",
            ));
        }
        Ok(Some(match self.kind {
            Kind::User => stat.st_uid,
            Kind::Group => stat.st_gid,
        }))
    }
}
