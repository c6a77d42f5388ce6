//! Free space and recorded errors of a file system.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{OFlags, StatVfsMountFlags, fstatvfs};
use serde::Serialize;

use crate::check::store::{Filesystem, has_stopped};
use crate::ctl::system::System;
use crate::manifest::AbsPath;
use crate::sys::capacity::Capacity;
use crate::sys::walk::{self, Mounts};

/// The root or a store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Volume {
    #[serde(flatten)]
    pub filesystem: Filesystem,
    /// Bytes available to users.
    pub available: u64,
    /// True if the file system is read-only.
    pub read_only: bool,
    /// Number of errors recorded by the file system: ext4 since its last fsck, btrfs since its counters were reset.
    /// null for a file system without a count, or with an unreadable one.
    pub errors: Option<u64>,
}

impl Volume {
    /// Reads values absent from `--check`.
    pub fn look(system: &System, filesystem: Filesystem) -> Self {
        let mut volume = Self { available: 0, read_only: false, errors: None, filesystem };
        if !volume.is_mounted() {
            return volume;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = AbsPath::parse(&volume.filesystem.path).unwrap_or_else(|_| AbsPath::root());
        // The store of a disk turned over with the next boot is not there yet.
        if let Ok(fd) = walk::open_below(system.root(), &path, flags, Mounts::Enter)
            && let Ok(answer) = fstatvfs(&fd)
        {
            volume.available = Capacity::from(&answer).available;
            volume.read_only = answer.f_flag.contains(StatVfsMountFlags::RDONLY) || has_stopped(fd.as_fd());
        }
        volume.errors = errors(&volume.filesystem);
        volume
    }

    /// True if mounted.
    pub fn is_mounted(&self) -> bool {
        !self.filesystem.source.is_empty()
    }
}

/// Error counters in /sys: ext4 since its last fsck, btrfs for each of its devices since they were reset.
fn errors(filesystem: &Filesystem) -> Option<u64> {
    let device = fs::canonicalize(&filesystem.source).ok()?;
    let device = device.file_name()?;
    match filesystem.fstype.as_str() {
        "ext4" => {
            let file = Path::new("/sys/fs/ext4").join(device).join("errors_count");
            fs::read_to_string(file).ok()?.trim().parse().ok()
        }
        "btrfs" => {
            let all = fs::read_dir("/sys/fs/btrfs").ok()?.flatten().map(|entry| entry.path());
            let own = all.into_iter().find(|path| path.join("devices").join(device).exists())?;
            let mut sum = None;
            for one in fs::read_dir(own.join("devinfo")).ok()?.flatten() {
                let text = fs::read_to_string(one.path().join("error_stats")).ok()?;
                let counts = text.lines().filter_map(|line| line.split_once(' ')?.1.parse::<u64>().ok());
                sum = Some(sum.unwrap_or(0) + counts.sum::<u64>());
            }
            sum
        }
        _ => None,
    }
}
