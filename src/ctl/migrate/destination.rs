//! The stores, where they are mounted now, and how much room they have.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::ctl::ui::terminal::{self, count};
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Manifest, Store};
use crate::mount::device;
use crate::mount::judge;
use crate::mount::sysroot::is_volatile;
use crate::runtime::report::{Finding, Report};
use crate::sys::capacity::Capacity;
use crate::sys::mount_api;
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::staging::{self, Stagings};
use crate::transfer::tree::{self, Found, Links};
use crate::transfer::{Name, content};

/// A store, and its place now.
#[derive(Debug)]
pub struct Destination<'m> {
    /// The manifest's.
    pub store: &'m Store,
    /// Its current mount point.
    pub at: String,
    /// Its top directory, open for reading.
    pub fd: OwnedFd,
    /// True if the store can share extents with the existing system; none before the first try.
    pub shares: Option<bool>,
    /// Data to transfer there.
    pub need: Room,
    /// Its free room before.
    pub free: Room,
    /// Hard links between the routes of this store.
    pub links: Links,
    /// Unfinished copies of earlier runs: the size of each, and true if continued by this run.
    left: HashMap<CString, (Left, bool)>,
}

/// Unfinished copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Left {
    /// Number of files.
    pub copies: u64,
    /// Their files and directories.
    pub files: u64,
    /// Their bytes on the disk.
    pub bytes: u64,
}

/// Room: needed, or there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Room {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Inodes; null where the file system has no fixed number.
    pub inodes: Option<u64>,
}

/// Opens every store: at its own path, or at the given one; none for an absent optional one.
pub fn open<'m>(manifest: &'m Manifest, said: &[String]) -> Result<Vec<Option<Destination<'m>>>> {
    let places = places(manifest, said)?;
    let mut destinations = Vec::new();
    for (store, place) in manifest.stores.iter().zip(places) {
        match open_one(store, place.as_deref()) {
            Err(problem) if place.is_none() && converts(manifest) == Some(&store.path) => {
                let remedy = "nothing needs to be copied: today's root becomes this store with the next boot";
                return Err(problem.at(format!("store {}", store.path)).remedy(remedy));
            }
            Ok(destination) => destinations.push(Some(destination)),
            Err(problem) if !store.required && place.is_none() => {
                log::warn!("{}; what belongs there is left out", problem.at(format!("store {}", store.path)));
                destinations.push(None);
            }
            Err(problem) => return Err(problem.at(format!("store {}", store.path))),
        }
    }
    Ok(destinations)
}

/// The store of today's root by a conversion.
fn converts(manifest: &Manifest) -> Option<&AbsPath> {
    manifest.root.as_ref()?.convert.as_ref()
}

/// Directory of each store by the command line: `DIR` for the only one, `STORE=DIR` for one of several.
fn places(manifest: &Manifest, said: &[String]) -> Result<Vec<Option<String>>> {
    let stores = &manifest.stores;
    let mut places = vec![None; stores.len()];
    for text in said {
        let named = text.split_once('=').and_then(|(path, place)| {
            let path = AbsPath::parse(path).ok()?;
            Some((stores.iter().position(|store| store.path == path)?, place))
        });
        let (index, place) = match named {
            Some(found) => found,
            None if stores.len() == 1 => (0, text.as_str()),
            None => {
                let all: Vec<_> = stores.iter().map(|store| store.path.to_string()).collect();
                let first = stores.first().map_or("/persist", |store| store.path.as_str());
                let example = format!("{first}=/mnt{first}");
                return Err(Problem::new(format!("the manifest has the stores {}", all.join(", ")))
                    .at(format!("--store {}", escape::name(text)))
                    .remedy(format!("say which is where, such as --store {}", escape::shell(&example))));
            }
        };
        places[index] = Some(place.to_owned());
    }
    Ok(places)
}

fn open_one<'m>(store: &'m Store, place: Option<&str>) -> Result<Destination<'m>> {
    let at = place.unwrap_or(store.path.as_str());
    let away = "mount its disk, or say with --store where it is mounted";
    let shown = escape::name(at);
    let base =
        walk::base(at).map_err(|errno| Problem::os(format!("cannot open {shown}"), errno).remedy(away))?;
    let failed = |errno| Problem::os(format!("cannot open {shown}"), errno);
    let root = walk::base("/").and_then(|root| walk::mount_id(root.as_fd())).map_err(failed)?;
    if device::is_on(base.as_fd(), root)? {
        let word = escape::shell(at);
        return Err(Problem::new(format!("nothing is mounted at {shown}, which is only a path on the root"))
            .remedy(format!(
                "{away}; if it is meant to be on the disk of the root: `mount --bind {word} {word}`"
            )));
    }
    if place.is_none() && device::is_unmounted(store, base.as_fd(), root)? {
        let what = format!("nothing is mounted at {shown}, which is only a path on another disk");
        return Err(Problem::new(what).remedy(away));
    }
    if is_volatile(base.as_fd())? {
        return Err(Problem::new(format!("{shown} is in memory, and gone after a reboot")).remedy(away));
    }
    let options = mount_api::options_of(base.as_fd()).map_err(failed)?;
    if options.has(BindOptions::RO) {
        return Err(Problem::new(format!("{shown} is mounted read-only"))
            .remedy("see `dmesg` for errors on the disk, and remount it writable"));
    }
    let mount = mountinfo::of(base.as_fd())?;
    // A store at another place is a different store in reports.
    let report = if place.is_none() { Report::read() } else { Ok(Report::default()) };
    let report = report.unwrap_or_else(|problem| {
        log::warn!("{problem}");
        Report::default()
    });
    let before = report.stores.iter().find(|before| before.path == store.path.as_str());
    let shown = AbsPath::parse(at).unwrap_or_else(|_| store.path.clone());
    let findings = [judge::volatile(base.as_fd(), &mount, before), judge::writable(base.as_fd(), &shown)];
    for finding in findings.into_iter().flatten().filter(Finding::is_problem) {
        log::warn!("{}", finding.problem(&format!("store {}", store.path)));
    }
    let fd =
        walk::open(base.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay).map_err(failed)?;
    let need = Room { bytes: 0, inodes: Some(0) };
    let left = unfinished(&fd)?.into_iter().filter(|(name, _)| staging::is_key(name));
    let left = left.map(|(name, left)| (name, (left, false))).collect();
    Ok(Destination {
        store,
        at: at.to_owned(),
        fd,
        shares: None,
        need,
        free: Room::default(),
        links: Links::new(),
        left,
    })
}

/// The copies in the staging directory of a store, by name.
fn unfinished(store: &OwnedFd) -> Result<Vec<(CString, Left)>> {
    let Some(dir) = staging::existing(store.as_fd(), staging::STAGING)? else { return Ok(Vec::new()) };
    let names = walk::names(dir.as_fd(), usize::MAX)
        .map_err(|errno| Problem::os("cannot look for unfinished copies on the store", errno))?;
    let measure = |name: CString| {
        let (bytes, files) = tree::usage((dir.as_fd(), &name))?;
        Ok((name, Left { copies: 1, files, bytes }))
    };
    names.into_iter().map(measure).collect()
}

impl Left {
    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |one, other| Self {
            copies: one.copies + other.copies,
            files: one.files + other.files,
            bytes: one.bytes + other.bytes,
        })
    }
}

impl Destination<'_> {
    /// Adds a file to the needs.
    pub fn needs(&mut self, found: &Found<'_>) {
        self.need.bytes += found.stat.allocated();
        self.need.inodes = self.need.inodes.map(|inodes| inodes + 1);
        if found.stat.is_file() && found.stat.size() > 0 {
            self.may_share(found.from);
        }
    }

    /// Records the need of a copy with this name, which an earlier run may have left unfinished.
    pub fn goes_on_with(&mut self, key: &CStr) {
        if let Some((_, needed)) = self.left.get_mut(key) {
            *needed = true;
        }
    }

    /// The unfinished copies continued by this run, or the others.
    pub fn left(&self, needed: bool) -> Left {
        Left::sum(self.left.values().filter(|(_, it)| *it == needed).map(|(left, _)| *left))
    }

    /// Removes unfinished copies of earlier runs without a need.
    pub fn clear(&self, stagings: &Stagings) -> Result<()> {
        let is_kept =
            |name: &CStr| !staging::is_key(name) || self.left.get(name).is_some_and(|(_, needed)| *needed);
        let cleared = stagings.main().clear(&is_kept);
        cleared.map_err(|errno| Problem::os("cannot remove unfinished copies of an earlier run", errno))
    }

    /// The unfinished copies on the store now.
    pub fn unfinished(&self) -> Result<Left> {
        Ok(Left::sum(unfinished(&self.fd)?.into_iter().map(|(_, left)| left)))
    }

    /// True if the store can share the content of this file, tried once, without a trace.
    pub fn may_share(&mut self, file: Name<'_>) -> bool {
        let fd = self.fd.as_fd();
        *self.shares.get_or_insert_with(|| content::can_share(file, fd))
    }

    /// Free space.
    pub fn room(&self) -> Result<Room> {
        let room = Capacity::of(&self.fd);
        let room = room.map_err(|errno| Problem::os("cannot ask how much room there is", errno))?;
        Ok(Room { bytes: room.available, inodes: room.inodes.map(|inodes| inodes.available) })
    }

    /// Problem of too little room; none with enough.
    pub fn lacks(&self) -> Option<Problem> {
        // Unfinished copies are gone on with, or removed before anything is copied.
        let (used, unused) = (self.left(true), self.left(false));
        let free = self.free.bytes.saturating_add(unused.bytes);
        // Shared extents take no space, except for metadata.
        let bytes = if self.shares == Some(true) { 0 } else { self.need.bytes.saturating_sub(used.bytes) };
        let needed = self.need.inodes.unwrap_or(0).saturating_sub(used.files);
        let inodes =
            self.free.inodes.map(|inodes| inodes.saturating_add(unused.files)).filter(|free| needed > *free);
        let what = if bytes > free {
            format!("{} are needed, and {} are free", terminal::size(bytes), terminal::size(free))
        } else if let Some(free) = inodes {
            let is = |number: u64| if number == 1 { "is" } else { "are" };
            let (wanted, there) = (count(needed, "inode"), terminal::number(free));
            format!("{wanted} {} needed, and {there} {} free", is(needed), is(free))
        } else {
            return None;
        };
        let problem = Problem::new(format!("not everything fits on {}: {what}", escape::name(&self.at)));
        Some(
            problem
                .at(format!("store {}", self.store.path))
                .remedy("free some, or take a larger disk; nothing was written"),
        )
    }
}
