//! Capacity of a file system. The numbers come from the file system, possibly any program behind FUSE, so no
//! arithmetic relies on them.

use std::os::fd::AsFd;

use rustix::fs::StatVfs;
use rustix::io::Errno;

/// The capacity of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes in all.
    pub size: u64,
    /// Used bytes.
    pub used: u64,
    /// Bytes available to users. Root has more: ext4 reserves a part, 5 % by default, for root to log in and free
    /// space on a full disk. Copies do not use this reserve.
    pub available: u64,
    /// Inodes in all; none where there is no fixed number, as on btrfs.
    pub inodes: Option<Inodes>,
}

/// Inodes of a file system with a fixed number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// All of them.
    pub all: u64,
    /// Used inodes.
    pub used: u64,
    /// Inodes available to users.
    pub available: u64,
}

impl Capacity {
    /// Reads the capacity of the file system of a descriptor.
    pub fn of(fd: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstatvfs(fd).map(|answer| Self::from(&answer))
    }
}

impl From<&StatVfs> for Capacity {
    fn from(answer: &StatVfs) -> Self {
        // All blocks are counted in fragments, also where those differ from f_bsize: statvfs(3).
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        let inodes = (answer.f_files > 0).then(|| Inodes {
            all: answer.f_files,
            used: answer.f_files.saturating_sub(answer.f_ffree),
            available: answer.f_favail,
        });
        Self {
            size: bytes(answer.f_blocks),
            used: bytes(answer.f_blocks.saturating_sub(answer.f_bfree)),
            available: bytes(answer.f_bavail),
            inodes,
        }
    }
}

/// Used share in percent of all that users can have, without root's reserve, as in df(1); 0 of nothing.
#[must_use]
pub fn percent(used: u64, available: u64) -> u64 {
    let used = u128::from(used);
    let parts = (used * 100).checked_div(used + u128::from(available)).unwrap_or(0);
    u64::try_from(parts).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rustix::fs::StatVfsMountFlags;

    use super::*;

    const ANSWER: StatVfs = StatVfs {
        f_bsize: 1 << 20,
        f_frsize: 4096,
        f_blocks: 100,
        f_bfree: 30,
        f_bavail: 25,
        f_files: 1000,
        f_ffree: 400,
        f_favail: 400,
        f_fsid: 0,
        f_flag: StatVfsMountFlags::empty(),
        f_namemax: 255,
    };

    #[test]
    fn blocks_are_fragments_and_the_reserve_is_left() {
        let inodes = Some(Inodes { all: 1000, used: 600, available: 400 });
        let whole = Capacity { size: 409_600, used: 70 * 4096, available: 25 * 4096, inodes };
        assert_eq!(Capacity::from(&ANSWER), whole);
        assert_eq!((percent(whole.used, whole.available), percent(whole.used, 0)), (73, 100));
        let none = StatVfs { f_files: 0, f_ffree: 7, ..ANSWER };
        assert_eq!(Capacity::from(&none), Capacity { inodes: None, ..whole });
    }

    #[test]
    fn numbers_that_cannot_be() {
        let most = u64::MAX;
        let more_free_than_there = StatVfs { f_bfree: 200, f_ffree: most, ..ANSWER };
        let found = Capacity::from(&more_free_than_there);
        assert_eq!((found.used, found.inodes.map(|inodes| inodes.used)), (0, Some(0)));
        let huge = StatVfs { f_frsize: most, f_blocks: most, f_bfree: 0, f_bavail: most, ..ANSWER };
        let found = Capacity::from(&huge);
        assert_eq!((found.size, found.used, found.available), (most, most, most));
        assert_eq!((percent(most, most), percent(most, 0), percent(1, most), percent(0, 0)), (50, 100, 0, 0));
    }
}
