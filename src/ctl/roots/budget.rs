//! The part of a root to save if there is no room for all: the largest files are left out first.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::manifest::OldRoots;
use crate::sys::capacity::Capacity;

/// The free space left on the store by a saving, if less than [`SHARE`].
const SPARE: u64 = 256 << 20;
/// The same of inodes.
const SPARE_INODES: u64 = 10_000;
/// One part in so many.
const SHARE: u64 = 20;

/// Bytes and files allowed for a saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes, as du(1) counts them.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Why there are not more bytes.
    pub why: &'static str,
}

impl Budget {
    /// By the manifest's limit and the free space of the store.
    pub fn new(limits: &OldRoots, store: &Capacity) -> Self {
        let free = store.available.saturating_sub(SPARE.min(store.size / SHARE));
        let files = store
            .inodes
            .map_or(u64::MAX, |inodes| inodes.available.saturating_sub(SPARE_INODES.min(inodes.all / SHARE)));
        let why = if free < limits.save_size { "the store has no room for it" } else { "save_size" };
        Self { bytes: free.min(limits.save_size), files, why }
    }
}

/// Sizes of the files lost without a saving.
#[derive(Debug, Default)]
pub struct Sizes {
    counts: BTreeMap<u64, u64>,
    /// Number of files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Sizes {
    /// One file more.
    pub fn add(&mut self, bytes: u64) {
        *self.counts.entry(bytes).or_default() += 1;
        self.files += 1;
        self.bytes += bytes;
    }

    /// The files within the limit: the smallest ones.
    pub fn limit(&self, bytes: u64) -> Limit {
        let mut rest = bytes;
        for (size, count) in &self.counts {
            let all = size.saturating_mul(*count);
            if all > rest {
                return Limit { size: *size, count: rest / size, rest: bytes };
            }
            rest -= all;
        }
        Limit { size: u64::MAX, count: 0, rest: bytes }
    }
}

/// The size up to which files are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Smaller ones all are.
    size: u64,
    /// So many of this size are.
    count: u64,
    /// Bytes left for all of them.
    rest: u64,
}

impl Limit {
    /// True if a file of this size is saved. The sizes may have changed since they were added up.
    pub fn takes(&mut self, bytes: u64) -> bool {
        if bytes > self.size || bytes > self.rest || (bytes == self.size && self.count == 0) {
            return false;
        }
        if bytes == self.size {
            self.count -= 1;
        }
        self.rest -= bytes;
        true
    }
}

/// Tells if an error means a full store.
pub fn is_full(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::capacity::Inodes;

    #[test]
    fn the_largest_are_left_out_first() {
        let mut sizes = Sizes::default();
        let all = [5, 1, 7, 7, 3, 0, 20, 7];
        for size in all {
            sizes.add(size);
        }
        assert_eq!((sizes.files, sizes.bytes), (8, 50));
        let saved = |bytes| {
            let mut limit = sizes.limit(bytes);
            let mut saved: Vec<_> = all.into_iter().filter(|size| limit.takes(*size)).collect();
            saved.sort_unstable();
            saved
        };
        assert_eq!(saved(50), [0, 1, 3, 5, 7, 7, 7, 20]);
        assert_eq!(saved(49), [0, 1, 3, 5, 7, 7, 7]);
        assert_eq!(saved(29), [0, 1, 3, 5, 7, 7]);
        assert_eq!(saved(8), [0, 1, 3]);
        assert_eq!(saved(0), [0]);
        // Larger than when they were counted.
        let mut limit = sizes.limit(29);
        assert!(limit.takes(6) && limit.takes(6) && limit.takes(6) && limit.takes(6) && !limit.takes(6));
    }

    #[test]
    fn a_part_of_the_store_stays_free() {
        let limits = OldRoots { save_size: 1 << 30, ..OldRoots::new(0) };
        let mut store = Capacity { size: 100 << 30, used: 0, available: 2 << 30, inodes: None };
        assert_eq!(
            Budget::new(&limits, &store),
            Budget { bytes: 1 << 30, files: u64::MAX, why: "save_size" }
        );
        store.available = 1 << 30;
        let budget = Budget::new(&limits, &store);
        assert_eq!((budget.bytes, budget.why), ((1 << 30) - SPARE, "the store has no room for it"));
        let inodes = Some(Inodes { all: 1000, used: 0, available: 60 });
        let small = Capacity { size: 1 << 20, used: 0, available: 1 << 19, inodes };
        let budget = Budget::new(&limits, &small);
        assert_eq!((budget.bytes, budget.files), ((1 << 19) - (1 << 20) / 20, 10));
        assert_eq!(Budget::new(&limits, &Capacity { available: 0, ..small }).bytes, 0);
    }
}
