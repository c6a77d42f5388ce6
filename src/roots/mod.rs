//! Roots of earlier boots on a store: STORE/.imp-mount/roots/ID, with the tree in `root` and the records of the boot
//! beside the tree.
//!
//! The tree of a root on a store is there from the start. Of a root in memory, a shutdown saves a copy. `.imp-mount`
//! and all directories down to the tree are closed to all but root, and excluded from backups (`CACHEDIR.TAG`).

mod record;

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

pub use record::{Boot, Kind, boot_id};

use crate::sys::create::{self, Attributes};
use crate::sys::subvolume;
use crate::sys::unnamed;
use crate::sys::walk::{self, Identity, Mounts};
use crate::text::problem::{Problem, Result, os_error};
use crate::transfer::remove::remove;
use crate::transfer::staging::{self, PRIVATE};

/// The directory of all roots below [`PRIVATE`].
pub const ROOTS: &str = "roots";
/// The tree in the directory of a root.
pub const TREE: &str = "root";
/// The record of the start of a boot, by [`Boot`].
pub const BOOT: &str = "boot.json";
/// Prefix of roots under removal.
const REMOVED: &str = "removed-";
/// Marks a directory for backups to leave out: see <https://bford.info/cachedir/>.
const TAG: (&str, &[u8]) = (
    "CACHEDIR.TAG",
    b"Signature: 8a477f597d28d172789f06886806bc55\n\
      # Roots of earlier boots, by imp-mount.\n",
);
/// Most bytes of a record to read.
const LIMIT: u64 = 64 << 20;

/// The number of a root: each boot has a higher one than earlier boots on the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Id {
    /// The root of this name; none where no root has such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self).filter(|id| id.to_string() == name)
    }
}

/// The roots on a store.
#[derive(Debug)]
pub struct Roots {
    dir: OwnedFd,
}

/// The directory of one root.
#[derive(Debug)]
pub struct Slot {
    /// Its number.
    pub id: Id,
    dir: OwnedFd,
}

impl Roots {
    /// Opens them to look at them; none where there are none.
    ///
    /// # Errors
    /// The directory was not created by imp-mount, or cannot be opened.
    pub fn open(store: BorrowedFd<'_>) -> Result<Option<Self>> {
        let dir = staging::existing(store, ROOTS)?;
        Ok(dir.map(|dir| Self { dir }))
    }

    /// Opens the roots of a store, and creates their directory if missing.
    ///
    /// # Errors
    /// As for [`Roots::open`].
    pub fn create(store: BorrowedFd<'_>) -> Result<Self> {
        let failed = |errno| Problem::os(format!("cannot create {PRIVATE}/{ROOTS} on the store"), errno);
        let dir = staging::part(store, ROOTS)?;
        let (name, text) = TAG;
        create::file(dir.as_fd(), name, Mounts::Stay, text, &mut || Attributes::root(0o644))
            .map_err(failed)?;
        Ok(Self { dir })
    }

    /// Their numbers, oldest first.
    ///
    /// # Errors
    /// Of reading the directory.
    pub fn ids(&self) -> Result<Vec<Id>, Errno> {
        let names = walk::names(self.dir.as_fd(), usize::MAX)?;
        let mut ids: Vec<_> = names.iter().filter_map(|name| Id::parse(name.to_str().ok()?)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The directory of one.
    ///
    /// # Errors
    /// The open failed.
    pub fn slot(&self, id: Id) -> Result<Slot, Errno> {
        // ioctl(2) and flock(2) take no `O_PATH`.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = walk::open(self.dir.as_fd(), id.to_string().as_str(), flags, Mounts::Stay)?;
        Ok(Slot { id, dir })
    }

    /// Makes the directory of a further one.
    ///
    /// # Errors
    /// The creation failed.
    pub fn add(&self) -> Result<Slot, Errno> {
        // The number of a root in removal is not free either: the next root of this number could not be taken off the
        // list.
        let number = |name: &CString| {
            let name = name.to_str().ok()?;
            Id::parse(name.strip_prefix(REMOVED).unwrap_or(name))
        };
        let last = walk::names(self.dir.as_fd(), usize::MAX)?.iter().filter_map(number).max();
        let mut id = Id(last.map_or(1, |last| last.0.saturating_add(1)));
        loop {
            match fs::mkdirat(&self.dir, id.to_string(), Mode::RWXU) {
                Ok(()) => return self.slot(id),
                // Another process was faster.
                Err(Errno::EXIST) => id = Id(id.0.checked_add(1).ok_or(Errno::OVERFLOW)?),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The one of which the top directory of the tree has this identity: the running one, for the identity of `/`.
    ///
    /// # Errors
    /// Of looking at one.
    pub fn find(&self, top: Identity) -> Result<Option<Id>, Errno> {
        for id in self.ids()?.into_iter().rev() {
            let stat = self.slot(id).and_then(|slot| walk::stat_at(slot.dir.as_fd(), TREE));
            match stat {
                Ok(stat) if stat.identity() == top => return Ok(Some(id)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Takes one off the list in one step. Its content is still there, at the returned name.
    ///
    /// # Errors
    /// Of rename(2).
    pub fn take_off(&self, id: Id) -> Result<CString, Errno> {
        let to = CString::new(format!("{REMOVED}{id}")).map_err(|_| Errno::INVAL)?;
        let from = &to.as_c_str()[REMOVED.len()..];
        unnamed::rename((self.dir.as_fd(), from), (self.dir.as_fd(), &to), RenameFlags::NOREPLACE)?;
        Ok(to)
    }

    /// Removes one.
    ///
    /// # Errors
    /// rename(2), or the removal of a file, failed. The rest is off the list.
    pub fn remove(&self, id: Id) -> Result<(), Errno> {
        let name = self.take_off(id)?;
        remove((self.dir.as_fd(), &name))
    }

    /// Names off the list and not removed yet.
    ///
    /// # Errors
    /// Of reading the directory.
    pub fn removed(&self) -> Result<Vec<CString>, Errno> {
        let mut names = walk::names(self.dir.as_fd(), usize::MAX)?;
        names.retain(|name| name.to_bytes().starts_with(REMOVED.as_bytes()));
        Ok(names)
    }

    /// The directory of all.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Slot {
    /// Makes the tree: an empty directory of root, on btrfs a subvolume.
    ///
    /// # Errors
    /// The creation failed.
    pub fn create_tree(&self, mode: u16) -> Result<OwnedFd, Errno> {
        if subvolume::is_btrfs(self.dir.as_fd())? {
            subvolume::create(self.dir.as_fd(), TREE)?;
        } else {
            fs::mkdirat(&self.dir, TREE, Mode::RWXU)?;
        }
        let tree = walk::open(self.dir.as_fd(), TREE, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)?;
        fs::fchmod(&tree, Mode::from_raw_mode(mode.into()))?;
        Ok(tree)
    }

    /// The tree.
    ///
    /// # Errors
    /// The open failed: ENOENT without one.
    pub fn tree(&self) -> Result<OwnedFd, Errno> {
        walk::open(self.dir.as_fd(), TREE, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
    }

    /// Writes a record: whole and on the disk, in place of an earlier one.
    ///
    /// # Errors
    /// The write failed.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Errno> {
        let new = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&self.dir, &new, flags, Mode::from_raw_mode(0o600))?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(os_error);
        let written = written.and_then(|()| fs::renameat(&self.dir, &new, &self.dir, name));
        if written.is_err() {
            // A part of the record must not take space; the next one replaces the part.
            let _ = fs::unlinkat(&self.dir, &new, AtFlags::empty());
        }
        written
    }

    /// Reads a record; none where there is none.
    ///
    /// # Errors
    /// The read failed.
    pub fn read(&self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        match walk::open(self.dir.as_fd(), name, OFlags::RDONLY, Mounts::Stay) {
            Ok(file) => walk::content(file.as_fd(), LIMIT).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A directory as a store; none for an ordinary user, who cannot make directories of root.
    fn store() -> Option<tempfile::TempDir> {
        let store = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(store.path(), Some(0), Some(0)).is_err() {
            eprintln!("SKIPPED: old roots are directories of root, and this is an ordinary user");
            return None;
        }
        Some(store)
    }

    #[test]
    fn numbers_rise_and_the_running_root_is_found() {
        let Some(store) = store() else { return };
        let store = walk::base(store.path().to_str().unwrap()).unwrap();
        assert!(Roots::open(store.as_fd()).unwrap().is_none());
        let roots = Roots::create(store.as_fd()).unwrap();
        let first = roots.add().unwrap();
        let second = roots.add().unwrap();
        let tree = second.create_tree(0o711).unwrap();
        let stat = walk::stat(tree.as_fd()).unwrap();
        assert_eq!(stat.mode() & 0o7777, 0o711);
        assert_eq!((first.id, second.id), (Id(1), Id(2)));
        assert_eq!(first.tree().unwrap_err(), Errno::NOENT);
        assert_eq!(roots.find(stat.identity()).unwrap(), Some(Id(2)));
        fs::mkdirat(&roots.dir, "07", Mode::RWXU).unwrap();
        fs::mkdirat(&roots.dir, "9", Mode::RWXU).unwrap();
        assert_eq!(roots.add().unwrap().id, Id(10));
        roots.take_off(Id(9)).unwrap();
        let again = Roots::open(store.as_fd()).unwrap().unwrap();
        assert_eq!(again.ids().unwrap(), [1, 2, 10].map(Id));
        assert_eq!(again.removed().unwrap(), [c"removed-9".to_owned()]);
        assert_eq!(again.find(walk::stat(store.as_fd()).unwrap().identity()).unwrap(), None);
    }

    #[test]
    fn a_record_is_replaced_whole() {
        let Some(store) = store() else { return };
        let store = walk::base(store.path().to_str().unwrap()).unwrap();
        let slot = Roots::create(store.as_fd()).unwrap().add().unwrap();
        assert_eq!(slot.read(c"boot.json").unwrap(), None);
        let boot = Boot::now(Kind::Disk).unwrap();
        boot.write(&slot).unwrap();
        boot.write(&slot).unwrap();
        let names = walk::names(slot.dir(), 9).unwrap();
        assert_eq!(names, [c"boot.json".to_owned()]);
        let text = slot.read(c"boot.json").unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["kind"], "disk");
        assert_eq!(value["boot_id"], boot_id().unwrap());
    }

    #[test]
    fn a_place_that_others_can_enter_is_refused() {
        let Some(store) = store() else { return };
        let store = walk::base(store.path().to_str().unwrap()).unwrap();
        Roots::create(store.as_fd()).unwrap();
        let place = format!("{PRIVATE}/{ROOTS}");
        fs::chmodat(&store, place.as_str(), Mode::from_raw_mode(0o755), AtFlags::empty()).unwrap();
        for refused in [Roots::open(store.as_fd()).err(), Roots::create(store.as_fd()).err()] {
            assert!(refused.unwrap().to_string().contains("is not a directory that imp-mount created"));
        }
    }
}
