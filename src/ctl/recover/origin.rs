//! Old roots as sources.

use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::left_out::{LeftOut, Passed};
use super::owners::Names;
use crate::ctl::roots::old;
use crate::ctl::roots::record::{self, End};
use crate::ctl::system::System;
use crate::manifest::{AbsPath, Manifest, Store};
use crate::roots::{self, Boot, Id, Kind, ROOTS, Roots, Slot, TREE};
use crate::sys::owners::Owners;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};
use crate::transfer::Name;
use crate::transfer::staging::PRIVATE;

/// An old root as a source.
#[derive(Debug)]
pub struct Source<'m> {
    /// Its store.
    pub store: &'m Store,
    /// Its directory.
    pub slot: Slot,
    /// Its tree.
    pub tree: OwnedFd,
    /// Path of the tree, seen from this process.
    pub place: String,
    /// The record of its boot.
    pub boot: Option<Boot>,
    /// Why the root is used only by its number.
    pub doubt: Option<&'static str>,
    owners: OnceCell<Owners>,
    roots: Rc<Roots>,
}

/// A path in an old root.
#[derive(Debug)]
pub struct Origin {
    /// Its directory, and its name there.
    pub name: (OwnedFd, CString),
    /// Its properties.
    pub stat: Stat,
    /// True for an empty directory or file, such as a mount point.
    is_empty: bool,
}

/// All old roots in order of preference: by store, the newest first. Problems for unmounted stores.
pub fn all<'m>(system: &System, manifest: &'m Manifest) -> Result<(Vec<Source<'m>>, Vec<Problem>)> {
    let running = old::running(system)?;
    let boot = roots::boot_id()?;
    let first = manifest.old_roots.as_ref().map_or(0, |old| usize::from(old.store));
    let mut stores: Vec<_> = manifest.stores.iter().enumerate().collect();
    stores.sort_by_key(|(index, _)| *index != first);
    let (mut all, mut unreached) = (Vec::new(), Vec::new());
    for (_, store) in stores {
        let at = |problem: Problem| problem.at(format!("store {}", store.path));
        let base = match old::store_of_roots(system, manifest, &store.path) {
            Ok(Some(base)) => base,
            Ok(None) => continue,
            Err(problem) => {
                unreached.push(at(problem));
                continue;
            }
        };
        let opened = Roots::open(base.as_fd()).and_then(|roots| {
            let Some(roots) = roots else { return Ok(None) };
            let ids = roots.ids().map_err(|errno| Problem::os("cannot list its old roots", errno))?;
            Ok(Some((Rc::new(roots), ids)))
        });
        let (roots, ids) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => continue,
            // Another store may have the path.
            Err(problem) => {
                log::warn!("{}", at(problem));
                continue;
            }
        };
        for id in ids.into_iter().rev() {
            let opened = roots.slot(id).and_then(|slot| Ok((slot.tree()?, slot)));
            match opened {
                Ok((tree, slot)) => {
                    let is_running =
                        walk::stat(tree.as_fd()).is_ok_and(|stat| running.contains(&stat.identity()));
                    if !is_running {
                        // An unusable record counts as none, and the root as doubtful.
                        let record = record::boot(&slot).ok().flatten();
                        let doubt = doubt(&slot, record.as_ref(), &boot);
                        let (roots, owners) = (roots.clone(), OnceCell::new());
                        let top =
                            if system.is_running() { "".into() } else { system.place.to_string_lossy() };
                        let place = format!("{top}{}/{PRIVATE}/{ROOTS}/{id}/{TREE}", store.path);
                        all.push(Source { store, slot, tree, place, boot: record, doubt, owners, roots });
                    }
                }
                // The root was removed meanwhile, or has nothing yet.
                Err(Errno::NOENT) => {}
                Err(errno) => log::warn!("root {id} on {}: cannot open it: {}", store.path, describe(errno)),
            }
        }
    }
    Ok((all, unreached))
}

/// Why a root is used only by its number.
fn doubt(slot: &Slot, start: Option<&Boot>, boot: &str) -> Option<&'static str> {
    let Some(start) = start else { return Some("it has no record of its boot") };
    let is_complete = || End::read(slot).is_ok_and(|end| end.is_some_and(|end| end.complete));
    match start.kind {
        Kind::Disk if start.boot_id == boot => Some("it is left of a start that did not complete"),
        Kind::Saved if !is_complete() => Some("saving it was cut off"),
        _ => None,
    }
}

impl Source<'_> {
    /// Its number.
    pub fn id(&self) -> Id {
        self.slot.id
    }

    /// The directory of all old roots on its store.
    pub fn place_of_all(&self) -> Result<Identity> {
        let stat = walk::stat(self.roots.dir());
        Ok(stat.map_err(|errno| Problem::os("cannot look at the old roots", errno))?.identity())
    }

    /// Ids of the owners now.
    pub fn owners(&self, names: &Names) -> Result<&Owners> {
        if let Some(owners) = self.owners.get() {
            return Ok(owners);
        }
        let owners = names.since(&self.slot, self.tree.as_fd());
        let owners = owners.map_err(|problem| problem.at(format!("root {}", self.slot.id)))?;
        Ok(self.owners.get_or_init(|| owners))
    }

    /// The file at a path; none where the root has none.
    pub fn at(&self, path: &AbsPath) -> Result<Option<Origin>> {
        let above = path.parent().unwrap_or_else(AbsPath::root);
        let Some(dir) = walk::directory_below(self.tree.as_fd(), &above, Mounts::Enter)? else {
            return Ok(None);
        };
        let name = CString::new(if path.is_root() { "." } else { path.name() });
        let name = name.map_err(|error| Problem::new(error.to_string()))?;
        let failed = |errno| Problem::os("cannot look at it", errno);
        let stat = match walk::stat_at(dir.as_fd(), &*name) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(failed)?,
        };
        if stat.mount_id() != walk::mount_id(self.tree.as_fd()).map_err(failed)? {
            let what = format!("another file system is mounted there in root {}", self.slot.id);
            return Err(Problem::new(what).remedy("unmount that, and run again"));
        }
        if is_place((dir.as_fd(), &name), &stat) {
            return Ok(None);
        }
        let is_empty = if stat.is_dir() {
            let open = walk::directory(dir.as_fd(), &*name, Mounts::Stay).map_err(failed)?;
            walk::names(open.as_fd(), 1).map_err(failed)?.is_empty()
        } else {
            stat.is_file() && stat.size() == 0
        };
        Ok(Some(Origin { name: (dir, name), stat, is_empty }))
    }

    /// True for more than an empty directory or file at a path.
    pub fn has(&self, path: &AbsPath) -> bool {
        self.at(path).is_ok_and(|found| found.is_some_and(|origin| !origin.is_empty))
    }

    /// Prevents the removal of the root while open.
    pub fn hold(&self) -> Result<()> {
        match flock(self.slot.dir(), FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Err(Problem::new("it is being removed")),
            // A removal locks the root, too, on file systems with locks.
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => self.is_kept(),
            Err(errno) => Err(Problem::os("cannot lock it", errno)),
        }
    }

    /// Checks if the root is still on the list: its removal has not begun then.
    fn is_kept(&self) -> Result<()> {
        let failed = |errno| Problem::os("cannot look at it", errno);
        let own = walk::stat(self.slot.dir()).map_err(failed)?.identity();
        match self.roots.slot(self.slot.id).and_then(|slot| walk::stat(slot.dir())) {
            Ok(stat) if stat.identity() == own => Ok(()),
            Ok(_) | Err(Errno::NOENT) => Err(Problem::new("it is being removed")),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// True for the place of a mount, which imp-mount made: an empty directory or file of root without any permission.
pub fn is_place((dir, name): Name<'_>, stat: &Stat) -> bool {
    if (stat.uid(), stat.gid(), stat.mode() & 0o7777) != (0, 0, 0) {
        return false;
    }
    let names = || walk::names(walk::directory(dir, name, Mounts::Stay)?.as_fd(), 1);
    if stat.is_dir() {
        names().is_ok_and(|names| names.is_empty())
    } else {
        stat.is_file() && stat.size() == 0
    }
}

/// The newest root with content at a path, by its number among all, and newer ones with the path left out of their
/// savings. Roots with an empty path come last.
pub fn find(all: &[Source<'_>], asked: Option<Id>, path: &AbsPath) -> Result<(usize, Origin, Vec<Passed>)> {
    let mut empty = None;
    let (mut looked, mut unused, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    for (number, old) in all.iter().enumerate() {
        if asked.is_some_and(|id| id != old.id()) {
            continue;
        }
        if let Some(doubt) = old.doubt.filter(|_| asked.is_none()) {
            unused.push((old, doubt));
            continue;
        }
        let found = match old.hold().and_then(|()| old.at(path)) {
            Ok(found) => found,
            Err(problem) if asked.is_some() => return Err(problem.at(path.as_str())),
            Err(problem) => {
                log::warn!("{path}: root {}: {problem}", old.id());
                None
            }
        };
        match found {
            Some(origin) if !origin.is_empty => {
                return Ok((number, origin, passed.into_iter().map(|(_, passed)| passed).collect()));
            }
            Some(origin) if empty.is_none() => empty = Some((number, origin)),
            _ => looked.push(old),
        }
        let left_out = LeftOut::of(&old.slot, path).files.into_iter().next();
        passed.extend(left_out.map(|left| (number, Passed { root: old.id().0, why: left.why })));
    }
    let newer =
        |than: usize| passed.into_iter().filter(move |(number, _)| *number < than).map(|(_, passed)| passed);
    match empty {
        Some((number, origin)) => Ok((number, origin, newer(number).collect())),
        None => Err(missing(path, asked, &looked, (&unused, &newer(usize::MAX).collect::<Vec<_>>()))),
    }
}

/// Prints the searched roots, and the nearest path.
fn missing(
    path: &AbsPath,
    asked: Option<Id>,
    looked: &[&Source<'_>],
    (unused, passed): (&[(&Source<'_>, &'static str)], &[Passed]),
) -> Problem {
    let ids = |all: &[&Source<'_>]| all.iter().map(|old| old.id().to_string()).collect::<Vec<_>>().join(", ");
    let left_out = passed.iter().map(|Passed { root, why }| format!("saving root {root} left it out: {why}"));
    let doubtful =
        unused.iter().map(|(old, doubt)| format!("root {} was not looked at, as {doubt}", old.id()));
    let more: Vec<_> = left_out.chain(doubtful).collect();
    let what = match (asked, looked) {
        (Some(id), []) => return Problem::new(format!("there is no old root {id}")).at(path.as_str()),
        (Some(id), _) => format!("root {id} does not have it"),
        (None, []) => "there is no old root to look at".to_owned(),
        (None, [one]) => format!("root {} does not have it, and there is no other", one.id()),
        (None, all) => format!("none of the old roots has it: {}", ids(all)),
    };
    let what = [vec![what], more].concat().join("; ");
    let mut problem = Problem::new(what).at(path.as_str());
    let nearest = looked.iter().filter_map(|old| Some((old, nearest(old, path)?)));
    // The first root with most of the path is the newest.
    if let Some((old, near)) = nearest.min_by_key(|(_, near)| std::cmp::Reverse(near.components().count())) {
        let place = format!("{}{}", old.place, if near.is_root() { "" } else { near.as_str() });
        problem = problem.remedy(format!("what is nearest: `ls -A {}`", escape::shell(&place)));
    } else if let [(old, _), ..] = unused {
        problem = problem.remedy(format!("--number {} looks at it all the same", old.id()));
    }
    problem
}

/// The deepest directory of a root on the way to a path.
fn nearest(old: &Source<'_>, path: &AbsPath) -> Option<AbsPath> {
    let above = path.ancestors().filter_map(|above| AbsPath::parse(above).ok());
    let mut above = above.chain([AbsPath::root()]).filter(|above| above != path);
    above.find(|above| {
        let dir = walk::directory_below(old.tree.as_fd(), above, Mounts::Stay);
        matches!(dir, Ok(Some(_)))
    })
}
