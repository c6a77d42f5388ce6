//! The roots on the stores of a system, with their records.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, FlockOperation, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use super::bare::is_bare;
use super::record::{self, END, End};
use crate::ctl::system::System;
use crate::manifest::{AbsPath, Manifest};
use crate::roots::{BOOT, Boot, Id, Kind, Roots, Slot, TREE, boot_id};
use crate::sys::walk::{self, Identity, Mounts};
use crate::text::problem::{Problem, Result};

/// The names in the directory of a root.
const RECORDS: [&str; 5] = [TREE, BOOT, END, "passwd", "group"];

/// The roots on one store.
#[derive(Debug)]
pub struct OnStore {
    /// The store.
    pub store: AbsPath,
    /// Their directory.
    pub roots: Roots,
    /// Each of them, the oldest first.
    pub all: Vec<OldRoot>,
}

/// One root.
#[derive(Debug)]
pub struct OldRoot {
    /// Its directory.
    pub slot: Slot,
    /// The record of the boot; none without a usable record.
    pub boot: Option<Boot>,
    /// The record of its end.
    pub end: Option<End>,
    /// Problems with the records.
    pub flaws: Vec<String>,
    /// Its state.
    pub state: State,
    /// True if the root is of the running boot.
    pub current: bool,
}

/// State of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The root of this system, or of this process.
    Running,
    /// A process is creating the root.
    Unfinished,
    /// Its boot ended well; of a saved one, the saving is complete within its limits.
    Well,
    /// Its boot, or the saving, was cut off.
    #[serde(rename = "cut off")]
    CutOff,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unfinished => "unfinished",
            Self::Well => "well",
            Self::CutOff => "cut off",
        }
    }
}

impl OldRoot {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> Id {
        self.slot.id
    }

    /// The later of creation and end of the boot, in seconds since 1970. A machine without a clock creates the root in
    /// 1970, before the network sets the time.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        let made = self.boot.as_ref().map(|boot| boot.made);
        made.max(self.end.as_ref().map(|end| end.ended))
    }

    /// True for roots exempt from all limits: the running root, unfinished ones, and other roots on a disk of this
    /// boot: such a root may be the running one of a system outside this process's view, as in a container.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let is_on_disk = self.boot.as_ref().is_some_and(|boot| boot.kind == Kind::Disk);
        matches!(self.state, State::Running | State::Unfinished) || (self.current && is_on_disk)
    }

    /// True for the remains of an interrupted run: a saving of this boot, repeated by the next run, or an empty
    /// directory.
    #[must_use]
    pub fn is_left_over(&self) -> bool {
        self.state == State::CutOff && !self.is_in_use() && (self.current || self.is_empty())
    }

    /// True if its boot was cut off before there was a file on it, as when a boot fails again and again: by number it would take the place
    /// of one with data. After a power cut on btrfs the record may be there without the subvolume. The tree itself is looked
    /// through; a record of it may be older.
    #[must_use]
    pub fn holds_nothing(&self, manifest: &Manifest) -> bool {
        let has_nothing = || match self.slot.tree() {
            Ok(tree) => is_bare(tree.as_fd(), manifest),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(errno),
        };
        self.state == State::CutOff
            && !self.is_in_use()
            && self.has_records_alone()
            && has_nothing() == Ok(true)
    }

    /// True if there is no file beside the tree but the records.
    fn has_records_alone(&self) -> bool {
        let is_known = |name: &CString| RECORDS.iter().any(|known| name.as_bytes() == known.as_bytes());
        walk::names(self.slot.dir(), RECORDS.len() + 1).is_ok_and(|names| names.iter().all(is_known))
    }

    /// True if there is no record of its boot, and nothing in its tree.
    fn is_empty(&self) -> bool {
        let names = || walk::names(self.slot.tree()?.as_fd(), 1);
        let has_nothing = match names() {
            Ok(names) => names.is_empty(),
            Err(errno) => errno == Errno::NOENT,
        };
        self.boot.is_none() && self.flaws.is_empty() && has_nothing && self.has_records_alone()
    }
}

/// The roots on every store of a manifest, and the problems of unreadable stores.
pub fn find(system: &System, manifest: &Manifest) -> (Vec<OnStore>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for store in &manifest.stores {
        match on_store(system, manifest, &store.path) {
            Ok(on_store) => found.extend(on_store),
            Err(problem) => problems.push(problem.at(store.path.to_string())),
        }
    }
    (found, problems)
}

/// Opens a store; none where nothing is mounted there.
pub fn store(system: &System, path: &AbsPath) -> Result<Option<OwnedFd>> {
    let failed = |errno| Problem::os("cannot open the store", errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let store = match walk::open_below(system.root(), path, flags, Mounts::Enter) {
        Ok(store) => store,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let mount = |fd| walk::mount_id(fd).map_err(failed);
    Ok((mount(store.as_fd())? != mount(system.root())?).then_some(store))
}

/// Opens a store, which must be mounted.
///
/// # Errors The store is not mounted, or cannot be opened.
pub fn mounted(system: &System, path: &AbsPath) -> Result<OwnedFd> {
    store(system, path)?.ok_or_else(|| {
        Problem::new("nothing is mounted there, so the roots on it cannot be reached")
            .remedy("mount the store, and run again")
    })
}

/// Opens a store for the roots on it; none for an unmounted store, unless the manifest places the root or old roots
/// there.
///
/// # Errors
/// As for [`mounted`].
pub fn store_of_roots(system: &System, manifest: &Manifest, path: &AbsPath) -> Result<Option<OwnedFd>> {
    let on = manifest.root.as_ref().and_then(|root| root.on.as_ref());
    let kept = manifest.old_roots.as_ref().and_then(|old| manifest.stores.get(usize::from(old.store)));
    let is_meant = on == Some(path) || kept.is_some_and(|store| store.path == *path);
    if is_meant { mounted(system, path).map(Some) } else { store(system, path) }
}

/// The roots on one store; none for a store without roots.
///
/// # Errors The roots cannot be read.
pub fn on_store(system: &System, manifest: &Manifest, path: &AbsPath) -> Result<Option<OnStore>> {
    let Some(fd) = store_of_roots(system, manifest, path)? else { return Ok(None) };
    let Some(roots) = Roots::open(fd.as_fd())? else { return Ok(None) };
    let all = list(system, &roots)?;
    Ok(Some(OnStore { store: path.clone(), roots, all }))
}

/// Each root, the oldest first.
///
/// # Errors A root cannot be read, or cannot be compared with the running one.
pub fn list(system: &System, roots: &Roots) -> Result<Vec<OldRoot>> {
    let failed = |errno| Problem::os("cannot look at the old roots", errno);
    let running = running(system)?;
    let boot_id = boot_id()?;
    let mut all = Vec::new();
    for id in roots.ids().map_err(failed)? {
        match roots.slot(id) {
            Ok(slot) => all.push(look(slot, &running, &boot_id)?),
            // Removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno).at(id.to_string())),
        }
    }
    Ok(all)
}

/// The top directories of roots in use.
///
/// # Errors The top directory of a running root is unknown.
pub fn running(system: &System) -> Result<Vec<Identity>> {
    let failed = |errno| Problem::os("cannot look at the running root", errno);
    let mut running = vec![walk::stat(system.root()).map_err(failed)?.identity()];
    // This process may run in a chroot.
    for path in ["/", "/proc/1/root"] {
        match walk::base(path).and_then(|fd| walk::stat(fd.as_fd())) {
            Ok(stat) => running.push(stat.identity()),
            // Another user's, in a user namespace; or /proc is not mounted.
            Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(running)
}

fn look(slot: Slot, running: &[Identity], boot_id: &str) -> Result<OldRoot> {
    let mut flaws = Vec::new();
    let boot = record::boot(&slot).unwrap_or_else(|flaw| {
        flaws.push(flaw);
        None
    });
    let end = End::read(&slot).unwrap_or_else(|flaw| {
        flaws.push(flaw);
        None
    });
    let is_running = match walk::stat_at(slot.dir(), TREE) {
        Ok(stat) => running.contains(&stat.identity()),
        Err(Errno::NOENT) => false,
        Err(errno) => {
            return Err(Problem::os("cannot look at the tree of an old root", errno).at(slot.id.to_string()));
        }
    };
    let state = match &end {
        _ if is_running => State::Running,
        Some(end) if end.complete => State::Well,
        _ if is_locked(&slot) => State::Unfinished,
        _ => State::CutOff,
    };
    let current = boot.as_ref().is_some_and(|boot| boot.boot_id == boot_id);
    Ok(OldRoot { slot, boot, end, flaws, state, current })
}

/// True if a process holds the lock of the root.
fn is_locked(slot: &Slot) -> bool {
    // On a separate descriptor: the lock belongs to the open file.
    let fd = walk::open(slot.dir(), c".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay);
    fd.is_ok_and(|fd| fs::flock(&fd, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}
