//! The stores, where they are mounted now, and how much room they have.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstatvfs, ioctl_ficlone};
use rustix::io::Errno;
use serde::Serialize;

use crate::ctl::copy::Name;
use crate::ctl::terminal;
use crate::escape;
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Manifest, Store};
use crate::mount::kernel;
use crate::mount::root::is_volatile;
use crate::mount::store::Opened;
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts};

/// Where things are made before they go to their names: at the top of each store.
pub const SHOP: &str = ".imp-mount.migrating";

/// A store, and where it is now.
#[derive(Debug)]
pub struct Side<'m> {
    /// The manifest's.
    pub store: &'m Store,
    /// Where it is mounted now.
    pub at: String,
    /// It, open.
    pub opened: Opened,
    /// Its top directory, open for reading.
    pub fd: OwnedFd,
    /// Whether it can share content with the system that is brought; none while nobody asked.
    pub shares: Option<bool>,
    /// What is to come there.
    pub need: Room,
}

/// Room: needed, or there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Inodes; what is there is none where the file system has no fixed number.
    pub inodes: Option<u64>,
}

/// Opens every store where it is: at its own path, or where it was said to be; none for an optional one that is not there.
pub fn open<'m>(manifest: &'m Manifest, said: &[String]) -> Result<Vec<Option<Side<'m>>>> {
    let places = places(manifest, said)?;
    let mut sides = Vec::new();
    for (store, place) in manifest.stores.iter().zip(places) {
        match open_one(store, place.as_deref()) {
            Err(problem) if place.is_none() && converts(manifest) == Some(&store.path) => {
                let remedy = "nothing needs to be copied: today's root becomes this store with the next boot";
                return Err(problem.at(format!("store {}", store.path)).remedy(remedy));
            }
            Ok(side) => sides.push(Some(side)),
            Err(problem) if !store.required && place.is_none() => {
                log::warn!("{}; what belongs there is left out", problem.at(format!("store {}", store.path)));
                sides.push(None);
            }
            Err(problem) => return Err(problem.at(format!("store {}", store.path))),
        }
    }
    Ok(sides)
}

/// The store that today's root becomes.
fn converts(manifest: &Manifest) -> Option<&AbsPath> {
    manifest.root.as_ref()?.convert.as_ref()
}

/// Where each store was said to be: `DIR` for the only one, `STORE=DIR` for one of several.
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

fn open_one<'m>(store: &'m Store, place: Option<&str>) -> Result<Side<'m>> {
    let at = place.unwrap_or(store.path.as_str());
    let away = "mount its disk, or say with --store where it is mounted";
    let shown = escape::name(at);
    let base =
        walk::base(at).map_err(|errno| Problem::os(format!("cannot open {shown}"), errno).remedy(away))?;
    let failed = |errno| Problem::os(format!("cannot open {shown}"), errno);
    // What nobody has mounted is only a path on the root.
    if place.is_none() {
        let root = walk::base("/").and_then(|root| walk::mount_id(root.as_fd())).map_err(failed)?;
        if walk::mount_id(base.as_fd()).map_err(failed)? == root {
            return Err(Problem::new(format!("nothing is mounted at {shown}")).remedy(away));
        }
    }
    if is_volatile(base.as_fd())? {
        return Err(Problem::new(format!("{shown} is in memory, and gone after a reboot")).remedy(away));
    }
    let options = kernel::options_of(base.as_fd()).map_err(failed)?;
    if options.has(BindOptions::RO) {
        return Err(Problem::new(format!("{shown} is mounted read-only"))
            .remedy("see `dmesg` for errors on the disk, and remount it writable"));
    }
    let fd =
        walk::open(base.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay).map_err(failed)?;
    let opened = Opened::new(base, options);
    let need = Room { bytes: 0, inodes: Some(0) };
    Ok(Side { store, at: at.to_owned(), opened, fd, shares: None, need })
}

impl Side<'_> {
    /// Whether it can share the content of this file, tried once. Nothing is left of that.
    pub fn may_share(&mut self, file: Name<'_>) -> bool {
        let fd = self.fd.as_fd();
        *self.shares.get_or_insert_with(|| {
            let try_it = || {
                let source = walk::open(file.0, file.1, OFlags::RDONLY, Mounts::Stay)?;
                let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let target = rustix::fs::openat(fd, ".", unnamed, Mode::RUSR)?;
                ioctl_ficlone(&target, &source)
            };
            let tried: Result<(), Errno> = try_it();
            tried.is_ok()
        })
    }

    /// How much room there is.
    pub fn room(&self) -> Result<Room> {
        let room =
            fstatvfs(&self.fd).map_err(|errno| Problem::os("cannot ask how much room there is", errno))?;
        // btrfs has no fixed number of inodes.
        let inodes = (room.f_files > 0).then_some(room.f_favail);
        Ok(Room { bytes: room.f_bavail * room.f_frsize, inodes })
    }

    /// Why what is to come does not fit; nothing where it does.
    pub fn lacks(&self, room: Room) -> Option<Problem> {
        // What is shared takes no room of its own, but for what describes it.
        let bytes = if self.shares == Some(true) { 0 } else { self.need.bytes };
        let needed = self.need.inodes.unwrap_or(0);
        let what = if bytes > room.bytes {
            format!("{} are needed, and {} are free", terminal::size(bytes), terminal::size(room.bytes))
        } else if let Some(free) = room.inodes.filter(|free| needed > *free) {
            format!("{} inodes are needed, and {} are free", terminal::number(needed), terminal::number(free))
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
