//! The root of a run: mounts on it, and its publication.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::fresh::Fresh;
use super::stage::{PATH, Stage};
use super::sysroot::Sysroot;
use crate::manifest::AbsPath;
use crate::manifest::options::BindOptions;
use crate::plan::Plan;
use crate::sys::create::{self, Attributes};
use crate::sys::cursor::Cursor;
use crate::sys::mount_api::{self, Kernel};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result, describe};

/// A root on which entries are placed.
#[derive(Debug)]
pub struct Tree {
    /// Goes down from its top directory.
    pub cursor: Cursor,
    /// True if a new directory has the setgid bit, and passes its group on.
    pub setgid: bool,
    kernel: Kernel,
    /// True if mounts on the root have to be made shared, which newer kernels do for descriptors.
    shares: bool,
    new: Option<New>,
    /// Mounts below targets with directories to cover them, to be mounted on these again.
    inner: Vec<(AbsPath, OwnedFd)>,
    /// Temporary second mounts on the root of mounts below the sysroot.
    carried: Vec<OwnedFd>,
}

/// State of a root before its publication.
#[derive(Debug, Default)]
pub struct New {
    /// Staging mount, where the kernel needs one.
    pub stage: Option<Stage>,
    /// The mount at the sysroot, which goes away.
    pub old: Option<OwnedFd>,
    /// The directory of a root on a store.
    pub fresh: Option<Fresh>,
}

impl Tree {
    /// The root mounted at the sysroot now.
    pub fn existing(sysroot: &Sysroot, kernel: Kernel) -> Result<Self> {
        let root = walk::base(sysroot.path.as_str())
            .map_err(|errno| Problem::os("cannot open the sysroot again", errno))?;
        let shares = !kernel.has_descriptors() && mountinfo::is_shared(root.as_fd())?;
        Ok(Self { shares, ..Self::new(root, kernel, None) })
    }

    /// A root by its top directory; `new` before its publication.
    #[must_use]
    pub fn new(root: OwnedFd, kernel: Kernel, new: Option<New>) -> Self {
        Self {
            cursor: Cursor::new(root),
            setgid: false,
            kernel,
            shares: false,
            new,
            inner: Vec::new(),
            carried: Vec::new(),
        }
    }

    /// Its top directory.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.cursor.base()
    }

    /// The existing directory above a path.
    pub fn parent(&mut self, path: &AbsPath) -> Result<OwnedFd> {
        let dir = self.cursor.enter(path.folder(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        })?;
        walk::duplicate(dir).map_err(|errno| Problem::os("cannot keep a directory open", errno))
    }

    /// The file at a path, and its directory; none if there is no file.
    pub fn look(&self, path: &AbsPath) -> Result<Option<(OwnedFd, Stat)>> {
        let parent = path.parent().unwrap_or_else(AbsPath::root);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let looked = walk::open_below(self.root(), &parent, flags, Mounts::Enter)
            .and_then(|dir| walk::stat_at(dir.as_fd(), path.name()).map(|stat| (dir, stat)));
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Problem::os(format!("cannot look at {path}"), errno)),
        }
    }

    /// Keeps the mounts below a target of an existing root, which a mount on the target would cover.
    pub fn keep_inner(&mut self, sysroot: &Sysroot, target: &AbsPath) -> Result<()> {
        if self.is_new() {
            return Ok(());
        }
        for (path, fd) in mounts_below(self.root(), &sysroot.path, target)? {
            if !self.inner.iter().any(|(inner, _)| *inner == path) {
                self.inner.push((path, fd));
            }
        }
        Ok(())
    }

    /// Moves the mounts below a sysroot to a new root; those below a target of the plan wait for its mount.
    pub fn carry_mounts(&mut self, plan: &Plan<'_>, sysroot: &Sysroot) -> Result<()> {
        for (path, fd) in mounts_below(sysroot.fd.as_fd(), &sysroot.path, &AbsPath::root())? {
            if plan.mount_above(&path).is_some() {
                self.inner.push((path, fd));
            } else {
                self.bring_inner(plan, &path, fd)?;
            }
        }
        Ok(())
    }

    /// Takes the mount at the sysroot into a new root, at the path of a store.
    pub fn convert(&mut self, plan: &Plan<'_>, sysroot: &Sysroot, store: &AbsPath) -> Result<()> {
        self.carry(plan, sysroot.fd.as_fd(), store, false)?;
        let old = walk::duplicate(sysroot.fd.as_fd())
            .map_err(|errno| Problem::new(format!("cannot keep the old root: {}", describe(errno))))?;
        self.new.get_or_insert_default().old = Some(old);
        Ok(())
    }

    /// True if a kept mount is at a path or below.
    #[must_use]
    pub fn has_inner(&self, path: &AbsPath) -> bool {
        self.inner.iter().any(|(inner, _)| inner.is_in(path))
    }

    /// Takes the kept mounts whose nearest target above is this one.
    pub fn take_inner(&mut self, plan: &Plan<'_>, target: &AbsPath) -> Vec<(AbsPath, OwnedFd)> {
        let is_nearest =
            |path: &AbsPath| plan.mount_above(path).is_some_and(|item| item.entry.target == *target);
        self.inner.extract_if(.., |(path, _)| is_nearest(path)).collect()
    }

    /// Mounts a kept mount on the root once more. The publication of the root removes the first one.
    pub fn bring_inner(&mut self, plan: &Plan<'_>, path: &AbsPath, mount: OwnedFd) -> Result<()> {
        self.carry(plan, mount.as_fd(), path, true)?;
        self.carried.push(mount);
        Ok(())
    }

    /// True if no other process can see the root yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// The id of the mount of its top directory.
    pub fn mount_id(&self) -> Result<u64> {
        walk::mount_id(self.root()).map_err(|errno| Problem::os("cannot ask for the root's mount id", errno))
    }

    /// Mounts a directory or file on another, which is `place`, a name in a directory.
    pub fn bind(
        &mut self,
        source: BorrowedFd<'_>,
        place: (BorrowedFd<'_>, &str),
        target: BorrowedFd<'_>,
        options: BindOptions,
        submounts: bool,
    ) -> Result<()> {
        let kernel = self.kernel;
        let shares = self.shares;
        staged_if_needed(&mut self.new, kernel, self.cursor.base(), || {
            kernel.bind(source, place, target, options, submounts)?;
            if !shares {
                return Ok(());
            }
            let mounted = mount_api::covering(source, place)?;
            mount_api::make_shared(mounted.as_fd())
                .or_else(|errno| mount_api::take_back(mounted.as_fd(), errno))
        })
    }

    /// Mounts a directory or file on a target made by this process on an unpublished root; the directory of the target is open.
    pub fn bind_fresh(
        &mut self,
        source: BorrowedFd<'_>,
        target: &AbsPath,
        options: BindOptions,
    ) -> Result<()> {
        let kernel = self.kernel;
        let dir = self.cursor.opened(target.folder()).unwrap_or(self.cursor.base());
        staged_if_needed(&mut self.new, kernel, self.cursor.base(), || {
            mount_api::attach_at(kernel.clone_of(source, options, false)?.as_fd(), (dir, target.name()))
        })
    }

    /// The mount calls.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Sets and clears options of a mount.
    pub fn set_options(
        &self,
        mount: BorrowedFd<'_>,
        set: BindOptions,
        clear: BindOptions,
    ) -> Result<(), Errno> {
        self.kernel.set_options(mount, set, clear)
    }

    /// Attaches a detached file system to a directory.
    pub fn attach(&mut self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
        staged_if_needed(&mut self.new, self.kernel, self.cursor.base(), || mount_api::attach(mount, target))
    }

    /// Mounts a directory on a target of a visible root, together with the kept mounts whose nearest entry is the
    /// target, so that none is hidden for a moment. False without kept mounts and after an error, with nothing
    /// mounted: the kept mounts are moved afterwards, as before Linux 6.15, and the error is reported then.
    pub fn bind_with_inner(
        &mut self,
        plan: &Plan<'_>,
        (source, options): (BorrowedFd<'_>, BindOptions),
        (path, target): (&AbsPath, BorrowedFd<'_>),
    ) -> bool {
        if self.is_new() || !self.kernel.has_descriptors() {
            return false;
        }
        let inner = self.take_inner(plan, path);
        if inner.is_empty() {
            return false;
        }
        let kernel = self.kernel;
        let mount = || -> Result<()> {
            let failed = |errno| Problem::os("cannot mount", errno);
            let clone = kernel.clone_of(source, options, false).map_err(failed)?;
            for (below, mount) in &inner {
                let place = place_for(plan, (clone.as_fd(), path), mount.as_fd(), below)?;
                let at = (place.dir.as_fd(), below.name());
                kernel
                    .bind(mount.as_fd(), at, place.target.as_fd(), BindOptions::NONE, true)
                    .map_err(failed)?;
            }
            mount_api::attach(clone.as_fd(), target).map_err(failed)
        };
        if mount().is_err() {
            self.inner.extend(inner);
            return false;
        }
        self.carried.extend(inner.into_iter().map(|(_, mount)| mount));
        true
    }

    /// Moves a mount at or below the sysroot into the new root.
    fn carry(
        &mut self,
        plan: &Plan<'_>,
        mount: BorrowedFd<'_>,
        path: &AbsPath,
        submounts: bool,
    ) -> Result<()> {
        place_for(plan, (self.root(), &AbsPath::root()), mount, path)
            .and_then(|place| {
                let at = (place.dir.as_fd(), path.name());
                self.bind(mount, at, place.target.as_fd(), BindOptions::NONE, submounts)
            })
            .map_err(|problem| problem.during(format!("cannot mount {path} on the root once more")))
    }

    /// Makes a new root appear at the sysroot; does nothing for an existing one.
    pub fn publish(mut self, sysroot: &Sysroot) -> Result<()> {
        let Some(mut new) = self.new.take() else {
            self.unmount_carried();
            return Ok(());
        };
        let failed =
            |what: &str, errno| Problem::os(format!("cannot {what} at {}", sysroot.path), errno).at("root");
        new.fresh.iter_mut().for_each(Fresh::keep);
        match &new.old {
            None => self
                .kernel
                .publish(self.root(), sysroot.fd.as_fd())
                .map_err(|errno| failed("publish the new root", errno))?,
            Some(old) => match self.kernel.publish_beneath(self.root(), old.as_fd()) {
                Ok(()) => mount_api::detach(old.as_fd()).map_err(|errno| {
                    failed("take the old root away", errno)
                        .remedy("run again: the new root is ready beneath it")
                })?,
                // Before Linux 6.5 there is a moment between the two.
                Err(Errno::NOSYS | Errno::INVAL) => {
                    if let Some(stage) = &mut new.stage {
                        stage.holds_old = true;
                    }
                    mount_api::detach(old.as_fd())
                        .map_err(|errno| failed("take the old root away", errno))?;
                    let below = walk::base(sysroot.path.as_str());
                    below
                        .and_then(|below| self.kernel.publish(self.root(), below.as_fd()))
                        .map_err(|errno| failed("publish the new root", errno))?;
                }
                Err(errno) => return Err(failed("publish the new root", errno)),
            },
        }
        if let Some(stage) = &mut new.stage {
            stage.holds_old = false;
        }
        self.unmount_carried();
        Ok(())
    }

    /// Unmounts the first mounts of those mounted on the root once more.
    fn unmount_carried(&self) {
        for mount in &self.carried {
            // With the old root its submounts have gone already, which is EINVAL.
            match mount_api::detach(mount.as_fd()) {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => log::warn!(
                    "a mount that has moved to the new root is still below it: {}",
                    describe(errno)
                ),
            }
        }
    }
}

/// A mount point, and its directory.
struct MountPoint {
    dir: OwnedFd,
    target: OwnedFd,
}

/// Creates the mount point at a path of a root for a file or directory mounted elsewhere. `base` is a directory of the
/// root, or a directory to be mounted there, with its path.
fn place_for(
    plan: &Plan<'_>,
    (base, above): (BorrowedFd<'_>, &AbsPath),
    mount: BorrowedFd<'_>,
    path: &AbsPath,
) -> Result<MountPoint> {
    let keep = |fd: BorrowedFd<'_>| walk::duplicate(fd).map_err(|errno| Problem::new(describe(errno)));
    let stat = walk::stat(mount).map_err(|errno| Problem::os("cannot look at it", errno))?;
    let mut cursor = Cursor::new(keep(base)?);
    let parent = path.parent().and_then(|parent| parent.below(above)).unwrap_or_else(AbsPath::root);
    let dir = cursor.enter(parent.as_str(), &mut |dir, name, below| {
        let path = above.join_text(below);
        create::directory(dir, name, Mounts::Enter, &mut || Attributes::root(plan.parents.of(&path).mode()))
            .map(|node| node.fd)
            .map_err(|errno| walk::explain(dir, &path, errno, "a directory"))
    })?;
    let name = path.name();
    let made = if stat.is_dir() {
        create::directory(dir, name, Mounts::Enter, &mut || Attributes::root(0o755))
    } else {
        create::file(dir, name, Mounts::Enter, b"", &mut || Attributes::root(0o644))
    };
    let wanted = if stat.is_dir() { "a directory" } else { "a regular file" };
    let made = made.map_err(|errno| walk::explain(dir, path.as_str(), errno, wanted))?;
    Ok(MountPoint { target: made.fd, dir: keep(dir)? })
}

/// Before Linux 6.15 a detached mount cannot have mounts: then a new root moves to the stage.
fn staged_if_needed(
    new: &mut Option<New>,
    kernel: Kernel,
    root: BorrowedFd<'_>,
    mut mount: impl FnMut() -> Result<(), Errno>,
) -> Result<()> {
    let mut result = mount();
    if let (Err(Errno::INVAL), Some(new @ New { stage: None, .. })) = (result, new) {
        let stage = Stage::new(kernel)?;
        kernel
            .publish(root, stage.place.as_fd())
            .map_err(|errno| Problem::os(format!("cannot move the new root to {PATH}"), errno))?;
        new.stage = Some(stage);
        result = mount();
    }
    result.map_err(|errno| Problem::os("cannot mount", errno))
}

/// Mounts below a directory of a root, which is at a path: path and root of each mount, but none mounted below another one.
pub fn mounts_below(
    root: BorrowedFd<'_>,
    at: &AbsPath,
    directory: &AbsPath,
) -> Result<Vec<(AbsPath, OwnedFd)>> {
    let inside = |point: &String| {
        let path = AbsPath::normal(point).ok()?.below(at)?;
        (path.is_in(directory) && path != *directory).then_some(path)
    };
    let mut paths: Vec<AbsPath> = Vec::new();
    let points = mountinfo::points()?;
    // Most mounts are elsewhere, and their paths need no parsing.
    for path in points.iter().filter(|point| point.starts_with(at.as_str())).filter_map(inside) {
        if !paths.iter().any(|kept| path.is_in(kept)) {
            paths.retain(|kept| !kept.is_in(&path));
            paths.push(path);
        }
    }
    let open = |path: AbsPath| {
        let mut fd = walk::duplicate(root).map_err(|errno| Problem::new(describe(errno)))?;
        let mut done = AbsPath::root();
        for name in path.components() {
            done = done.child(name);
            fd = walk::look(fd.as_fd(), name, Mounts::Enter)
                .map_err(|errno| walk::explain(fd.as_fd(), done.as_str(), errno, "a directory"))?;
        }
        Ok((path, fd))
    };
    paths.into_iter().map(open).collect()
}
