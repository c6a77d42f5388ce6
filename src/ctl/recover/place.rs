//! Destination of a path of an old root: a directory of the running system, and its mount.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ctl::ui::terminal::{count, number, size};
use crate::manifest::AbsPath;
use crate::manifest::options::BindOptions;
use crate::sys::attributes::Handle;
use crate::sys::capacity::Capacity;
use crate::sys::mount_api;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::owners::{Owners, UNKNOWN};
use crate::sys::walk::{self, Identity, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe_io};
use crate::transfer::staging::{self, STAGING};
use crate::transfer::tree::{Found, Links, usage};
use crate::transfer::{content, file};

/// The directory above all places: `/`, or the one of `--to`.
#[derive(Debug)]
pub struct Base {
    /// Its descriptor, open for reading.
    pub fd: OwnedFd,
    /// Its path.
    pub path: AbsPath,
}

/// One mount of the running system.
#[derive(Debug)]
pub struct Place {
    /// The top of the file system, or the base if below the top, open for reading.
    pub top: OwnedFd,
    identity: Identity,
    /// The path of this directory below the base.
    pub path: AbsPath,
    /// The mount.
    pub mount: Mount,
    /// Hard links of copies on the file system.
    pub links: Links,
    /// Unfinished copies of an earlier run, and those continued by this run.
    left: HashSet<CString>,
    kept: HashSet<CString>,
    need: (u64, u64),
    shares: Option<bool>,
}

/// A path on a mount.
#[derive(Debug)]
pub struct Destination {
    /// The number of the mount among all.
    pub place: usize,
    /// The path below its top.
    pub rest: AbsPath,
}

impl Base {
    /// Opens a directory.
    pub fn open(path: &AbsPath) -> Result<Self> {
        let failed = |errno| Problem::os("cannot open it", errno).at(path.to_string());
        let fd = walk::base(path.as_str()).map_err(failed)?;
        let fd = walk::open(fd.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay);
        Ok(Self { fd: fd.map_err(failed)?, path: path.clone() })
    }

    /// Refuses one in the directory of the old roots.
    pub fn must_be_outside(&self, roots: Identity) -> Result<()> {
        let failed = |errno| Problem::os("cannot look at the directories above it", errno);
        let mut dir = self.fd.try_clone().map_err(|error| Problem::new(describe_io(&error)))?;
        loop {
            let own = walk::stat(dir.as_fd()).map_err(failed)?.identity();
            if own == roots {
                return Err(Problem::new("it is in an old root")
                    .remedy("name a directory outside of it")
                    .at(self.path.to_string()));
            }
            dir = walk::above(dir.as_fd()).map_err(failed)?;
            if walk::stat(dir.as_fd()).map_err(failed)?.identity() == own {
                return Ok(());
            }
        }
    }

    /// Finds the destination of a path of an old root. `other` returns directories of the old root. An existing
    /// directory on the way that grants access to more users than the old one is refused, and so is a missing one
    /// whose owner's id has another name now.
    pub fn find(
        &self,
        path: &AbsPath,
        places: &mut Vec<Place>,
        owners: &Owners,
        other: &dyn Fn(&AbsPath) -> Result<Option<OwnedFd>>,
    ) -> Result<Destination> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let failed =
            |path: &AbsPath, errno| Problem::os(format!("cannot look at {}", self.path.join(path)), errno);
        let mut dir = self.fd.try_clone().map_err(|error| Problem::new(describe_io(&error)))?;
        let mut mount = walk::mount_id(dir.as_fd()).map_err(|errno| failed(&AbsPath::root(), errno))?;
        let (mut top, mut top_path) = (None, AbsPath::root());
        let mut done = AbsPath::root();
        let parent = path.parent().unwrap_or_else(AbsPath::root);
        for name in path.components() {
            let is_last = done == parent;
            done = done.child(name);
            let next = match walk::open(dir.as_fd(), name, flags, Mounts::Enter) {
                Ok(next) => next,
                Err(Errno::NOENT) => break,
                // The old root may have another file there, which the comparison reports.
                Err(Errno::NOTDIR | Errno::LOOP) if is_last => break,
                Err(errno) => {
                    let shown = self.path.join(&done);
                    return Err(walk::explain(dir.as_fd(), shown.as_str(), errno, "a directory"));
                }
            };
            let stat = walk::stat(next.as_fd()).map_err(|errno| failed(&done, errno))?;
            if stat.mount_id() != mount {
                mount = stat.mount_id();
                top = Some(next.try_clone().map_err(|error| Problem::new(describe_io(&error)))?);
                top_path = done.clone();
            }
            if !is_last && let Some(model) = other(&done)? {
                let model_stat = walk::stat(model.as_fd()).map_err(|errno| failed(&done, errno))?;
                let model = Handle { fd: model, path_only: false };
                let there = Handle { fd: next, path_only: false };
                let model_stat = owners.of(model_stat);
                let exposes = file::exposes_open((&model, &model_stat), (&there, &stat), owners);
                if exposes.map_err(|errno| failed(&done, errno))? {
                    let shown = self.path.join(&done);
                    let what = format!("{shown} grants access to more users than that of the old root");
                    return Err(Problem::new(what)
                        .remedy("give it the owner, mode and ACL of that, or bring it elsewhere with --to"));
                }
                dir = there.fd;
            } else {
                dir = next;
            }
        }
        let mut missing = Some(parent);
        while let Some(above) = missing.take_if(|above| above.is_in(&done)) {
            if let Some(model) = other(&above)? {
                let stat = walk::stat(model.as_fd()).map_err(|errno| failed(&above, errno))?;
                let stat = owners.of(stat);
                if [stat.uid(), stat.gid()].contains(&UNKNOWN) {
                    return Err(Problem::new(format!(
                        "the owner that {above} has in the old root does not exist any more, and another has that id"
                    ))
                    .remedy("make that directory first, or create a user or group of the old name"));
                }
            }
            missing = above.parent();
        }
        let top = match top {
            Some(top) => top,
            None => self.fd.try_clone().map_err(|error| Problem::new(describe_io(&error)))?,
        };
        let rest = path.below(&top_path).unwrap_or_else(AbsPath::root);
        let stat = walk::stat(top.as_fd()).map_err(|errno| failed(&top_path, errno))?;
        let known =
            places.iter().position(|place| place.identity == stat.identity() && place.path == top_path);
        let place = known.unwrap_or(places.len());
        if known.is_none() {
            places.push(Place::new(top, stat.identity(), top_path)?);
        }
        Ok(Destination { place, rest })
    }
}

impl Place {
    fn new(top: OwnedFd, identity: Identity, path: AbsPath) -> Result<Self> {
        let mount = mountinfo::of(top.as_fd()).unwrap_or_default();
        let left = match staging::existing(top.as_fd(), STAGING)? {
            Some(dir) => walk::names(dir.as_fd(), usize::MAX)
                .map_err(|errno| Problem::os("cannot look for unfinished copies", errno))?,
            None => Vec::new(),
        };
        Ok(Self {
            top,
            identity,
            path,
            mount,
            links: Links::new(),
            left: left.into_iter().collect(),
            kept: HashSet::new(),
            need: (0, 0),
            shares: None,
        })
    }

    /// Removes unfinished copies of earlier runs, except those continued by this run.
    pub fn clear(&self) -> Result<()> {
        staging::tidy(self.top.as_fd(), &|name| self.kept.contains(name))
    }

    /// Adds a file to the needs, at a path below the top.
    pub fn needs(&mut self, found: &Found<'_>, path: &[u8]) {
        if !found.linked {
            self.need.0 += found.stat.allocated();
        }
        self.need.1 += 1;
        if !self.left.is_empty() {
            let key = staging::key(path);
            if self.left.contains(&key) {
                self.kept.insert(key);
            }
        }
        if found.stat.is_file() && found.stat.size() > 0 {
            let top = self.top.as_fd();
            self.shares.get_or_insert_with(|| content::can_share(found.from, top));
        }
    }

    /// Refuses a read-only mount at `at`.
    pub fn must_be_writable(&self, at: &AbsPath) -> Result<()> {
        let options = mount_api::options_of(self.top.as_fd());
        let options = options.map_err(|errno| Problem::os(format!("cannot look at {at}"), errno))?;
        if !options.has(BindOptions::RO) {
            return Ok(());
        }
        Err(Problem::new(format!("what is mounted at {at} is read-only"))
            .remedy("remount it writable, or bring it elsewhere with --to"))
    }

    /// Problem of too little room.
    pub fn must_fit(&self, shown: &str) -> Result<()> {
        let room = Capacity::of(&self.top);
        let room = room.map_err(|errno| Problem::os("cannot ask how much room there is", errno))?;
        // Unfinished copies are gone on with, or removed before anything is copied.
        let (bytes, names) = match staging::existing(self.top.as_fd(), STAGING)? {
            Some(_) if self.left.is_empty() => (0, 0),
            Some(dir) => usage((dir.as_fd(), c"."))?,
            None => (0, 0),
        };
        // Shared extents take no space, except for metadata.
        let needed = if self.shares == Some(true) { 0 } else { self.need.0 };
        let free = room.available.saturating_add(bytes);
        let inodes = room.inodes.map(|inodes| inodes.available.saturating_add(names));
        let what = if needed > free {
            format!("{} are needed, and {} are free", size(needed), size(free))
        } else if let Some(free) = inodes.filter(|free| self.need.1 > *free) {
            format!("{} are needed, and {} are free", count(self.need.1, "inode"), number(free))
        } else {
            return Ok(());
        };
        Err(Problem::new(format!("not everything fits: {what}"))
            .at(escape::name(shown))
            .remedy("free some, or bring it elsewhere with --to; nothing was written"))
    }
}

impl Destination {
    /// Opens the directory of a path, with the name there; none if the directory is missing.
    pub fn open(&self, place: &Place) -> Result<Option<(OwnedFd, CString)>> {
        let above = self.rest.parent().unwrap_or_else(AbsPath::root);
        let Some(dir) = walk::directory_below(place.top.as_fd(), &above, Mounts::Stay)? else {
            return Ok(None);
        };
        let name = CString::new(if self.rest.is_root() { "." } else { self.rest.name() });
        Ok(Some((dir, name.map_err(|error| Problem::new(error.to_string()))?)))
    }

    /// A path below the place, as one below the top of its mount.
    pub fn below(&self, path: &[u8]) -> Vec<u8> {
        let mut all = self.rest.relative().as_bytes().to_vec();
        if !path.is_empty() {
            if !all.is_empty() {
                all.push(b'/');
            }
            all.extend(path);
        }
        all
    }
}
