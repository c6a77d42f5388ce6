//! The properties and content of every file as a pass over a tree saw them, 24 bytes for each: whatever is changed afterwards is
//! recognised by them.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::sys::walk::Stat;

/// A change this soon before a pass may have left the same time of change as one during the pass: the time by which file systems
/// date changes goes on in steps of 10 ms at most.
const STEP: u128 = 20_000_000;
/// The bytes of an entry.
const ENTRY: usize = 24;

/// Files of a pass.
#[derive(Debug)]
pub struct Inventory {
    /// In order of the inodes once the pass is done.
    entries: Vec<Entry>,
    /// Files changed after this time may change again without another time of change.
    since: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    inode: u64,
    /// The digest of its content; 0 without content, or if not read under this name.
    content: u64,
    /// The digest of its properties; 0 where they prove nothing.
    properties: u64,
}

/// A file compared with the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Same properties, and this digest if the content is the same, too; 0 for anything but a regular file.
    Same(u64),
    /// Present before, perhaps changed.
    Unsure,
    /// Changed.
    Changed,
    /// New.
    New,
}

impl Inventory {
    /// Begins an inventory: files must be read after this.
    #[must_use]
    pub fn begin() -> Self {
        Self { entries: Vec::new(), since: coarse_time().saturating_sub(STEP) }
    }

    /// Adds a file with its properties, and the digest of its content if read after them.
    pub fn add(&mut self, stat: &Stat, content: Option<u64>) {
        let is_sure = nanoseconds(stat.changed()) < self.since;
        let properties = if is_sure { properties(stat) } else { 0 };
        self.entries.push(Entry {
            inode: stat.inode(),
            content: content.map_or(0, |it| it.max(1)),
            properties,
        });
    }

    /// Ends the inventory. For a file with several names only the read content counts.
    pub fn end(&mut self) {
        // The last one of an inode, which has the content, comes first.
        self.entries.sort_unstable_by(|one, other| other.cmp(one));
        self.entries.dedup_by_key(|entry| entry.inode);
        self.entries.reverse();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::begin();
    }

    /// Compares a file with the inventory.
    #[must_use]
    pub fn seen(&self, stat: &Stat) -> Seen {
        let Ok(at) = self.entries.binary_search_by_key(&stat.inode(), |entry| entry.inode) else {
            return Seen::New;
        };
        let entry = &self.entries[at];
        match entry.properties {
            0 => Seen::Unsure,
            seen if seen != properties(stat) => Seen::Changed,
            _ if stat.is_file() && entry.content == 0 => Seen::Unsure,
            _ => Seen::Same(entry.content),
        }
    }

    /// As bytes, to be read again by [`Inventory::from_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY);
        for Entry { inode, content, properties } in &self.entries {
            bytes.extend([inode, content, properties].into_iter().flat_map(|part| part.to_le_bytes()));
        }
        bytes
    }

    /// Reads bytes written by this program.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let part =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let entry = |bytes: &[u8]| Entry {
            inode: part(bytes, 0),
            content: part(bytes, 8),
            properties: part(bytes, 16),
        };
        Self { entries: bytes.chunks_exact(ENTRY).map(entry).collect(), since: 0 }
    }
}

/// The digest of all properties of statx(2), except the time of access.
fn properties(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u32(stat.file_type().as_raw_mode() | u32::from(stat.mode()));
    for number in [stat.uid(), stat.gid(), stat.links(), stat.special().0, stat.special().1] {
        hasher.write_u32(number);
    }
    hasher.write_u64(stat.size());
    for (seconds, nanoseconds) in [stat.modified(), stat.changed()] {
        hasher.write_i64(seconds);
        hasher.write_u32(nanoseconds);
    }
    hasher.finish().max(1)
}

/// A time as nanoseconds since 1970.
#[must_use]
pub fn nanoseconds((seconds, nanoseconds): (i64, u32)) -> u128 {
    u128::from(seconds.unsigned_abs()) * 1_000_000_000 + u128::from(nanoseconds)
}

/// The clock of file systems: no later change has an earlier time.
#[must_use]
pub fn coarse_time() -> u128 {
    now(ClockId::CLOCK_REALTIME_COARSE)
}

/// The exact time: no earlier change has a later time.
#[must_use]
pub fn exact_time() -> u128 {
    now(ClockId::CLOCK_REALTIME)
}

fn now(clock: ClockId) -> u128 {
    // Both clocks are in every kernel. A time of 0 only makes the comparison longer.
    let now = clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    now.as_nanos()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, File, FileTimes};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::sys::walk;

    fn look(path: &Path) -> Stat {
        let dir = walk::base(path.parent().unwrap().to_str().unwrap()).unwrap();
        walk::stat_at(dir.as_fd(), path.file_name().unwrap()).unwrap()
    }

    #[test]
    fn every_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "c"] {
            fs::write(path(name), name).unwrap();
        }
        let mut inventory = Inventory { entries: Vec::new(), since: u128::MAX };
        for (name, digest) in [("c", 3), ("a", 1)] {
            inventory.add(&look(&path(name)), Some(digest));
        }
        fs::hard_link(path("c"), path("d")).unwrap();
        inventory.add(&look(&path("d")), None);
        inventory.end();
        assert_eq!(inventory.seen(&look(&path("a"))), Seen::Same(1));
        assert_eq!(inventory.seen(&look(&path("b"))), Seen::New);
        assert_eq!(inventory.seen(&look(&path("c"))), Seen::Changed, "another name");
        let times = FileTimes::new().set_modified(SystemTime::now());
        File::options().write(true).open(path("a")).unwrap().set_times(times).unwrap();
        let again = Inventory::from_bytes(&inventory.to_bytes());
        assert_eq!(again.entries, inventory.entries);
        assert_eq!(again.seen(&look(&path("a"))), Seen::Changed);
        // A file changed near the beginning of the pass may have changed since.
        fs::write(path("a"), "").unwrap();
        let mut inventory = Inventory::begin();
        inventory.add(&look(&path("a")), Some(1));
        inventory.end();
        assert_eq!(inventory.seen(&look(&path("a"))), Seen::Unsure);
    }
}
