//! The root: found mounted, or built out of sight and then published in one step.
//!
//! A new root is a tmpfs, or a directory of a store ([`fresh`]), that is attached nowhere; everything is mounted inside
//! it (Linux 6.15), and one call makes the whole of it appear at the sysroot. Before 6.15 nothing can be mounted on what is attached
//! nowhere, so the root moves to a private staging mount as soon as the kernel says so, and is moved from there. If a run stops before it publishes,
//! the first kind vanishes with the process and the second is cleared by the next run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::fresh::{self, Fresh};
use super::stage::{PATH, Stage};
use super::sysroot::{Sysroot, is_mount_root, is_volatile};
use crate::manifest::options::{self, BindOptions};
use crate::manifest::{AbsPath, Root};
use crate::plan::Plan;
use crate::sys::create::{self, Attributes};
use crate::sys::mount_api::{self, Kernel, SOURCE};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Cursor, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// A root on which entries are placed.
#[derive(Debug)]
pub struct Tree {
    /// Its top directory.
    pub root: OwnedFd,
    kernel: Kernel,
    /// True if what is mounted on it has to be made shared, as the kernel does where it has descriptors.
    shares: bool,
    new: Option<New>,
    /// Mounts below targets of directories that cover them, to be mounted on those again.
    inner: Vec<(AbsPath, OwnedFd)>,
    /// Mounts below the sysroot that were mounted on the root once more, and go away.
    carried: Vec<OwnedFd>,
}

/// State of a root that is not published yet.
#[derive(Debug, Default)]
struct New {
    stage: Option<Stage>,
    /// The mount at the sysroot, which goes away.
    old: Option<OwnedFd>,
    /// The directory of the root, where it is on a store.
    fresh: Option<Fresh>,
}

/// The sysroot as a run finds it.
#[derive(Debug)]
pub enum Found {
    /// A root to work on.
    Tree(Tree),
    /// A running system that gets its new root with the next boot.
    Waiting,
}

/// Finds the root, or begins to build it.
pub fn prepare(
    plan: &Plan<'_>,
    sysroot: &Sysroot,
    kernel: Kernel,
    warnings: &mut Vec<Problem>,
) -> Result<Found> {
    let mounted = is_mount_root(sysroot.fd.as_fd())?;
    let Some(root) = plan.root else {
        if !mounted && !sysroot.is_live() {
            return Err(Problem::new(format!(
                "nothing is mounted at {}, and the manifest asks for no root",
                sysroot.path
            ))
            .at("root")
            .remedy("mount the root there first, or let it be built with the manifest's `root`"));
        }
        return Tree::existing(sysroot, kernel).map(Found::Tree);
    };
    if mounted && is_new_at_every_boot(sysroot.fd.as_fd())? {
        Stage::clear()?;
        return Tree::existing(sysroot, kernel).map(Found::Tree);
    }
    if sysroot.is_live() {
        return Ok(Found::Waiting);
    }
    match &root.convert {
        Some(store) if !mounted => return resume(store, sysroot, kernel).map(Found::Tree),
        Some(_) if finish_interrupted(sysroot)? => {
            Stage::clear()?;
            return Tree::existing(sysroot, kernel).map(Found::Tree);
        }
        None if mounted => {
            let mount = mountinfo::of(sysroot.fd.as_fd())?;
            return Err(Problem::new(format!(
                "{} holds {}, but the manifest asks for a new root",
                sysroot.path,
                mount.shown()
            ))
            .at("root")
            .remedy("unmount it, or turn it into the store with `root.convert`"));
        }
        _ => {}
    }
    build(plan, root, sysroot, kernel, warnings).map(Found::Tree)
}

/// Goes on with a conversion that was stopped when the old root was mounted nowhere but below the staging mount.
fn resume(store: &AbsPath, sysroot: &Sysroot, kernel: Kernel) -> Result<Tree> {
    let Some((stage, root)) = Stage::resume(store)? else {
        let what = format!(
            "nothing is mounted at {}, so there is no root to convert into the store {store}",
            sysroot.path
        );
        let remedy = "mount today's root there first (the root= word, or sysroot.mount), then run again";
        return Err(Problem::new(what).at("root").remedy(remedy));
    };
    log::info!("going on with the root that an interrupted run left in {PATH}");
    let new = Some(New { stage: Some(stage), ..New::default() });
    Ok(Tree { root, kernel, shares: false, new, inner: Vec::new(), carried: Vec::new() })
}

fn build(
    plan: &Plan<'_>,
    root: &Root,
    sysroot: &Sysroot,
    kernel: Kernel,
    warnings: &mut Vec<Problem>,
) -> Result<Tree> {
    if let Some(store) = &root.convert {
        must_be_uncovered(store, sysroot).map_err(|problem| problem.at("root"))?;
        mount_api::make_writable(sysroot.fd.as_fd());
    }
    let mut new = New::default();
    let on_store = root.on.as_ref().and_then(|on| {
        let made = fresh::make(plan, (root, on), sysroot, kernel, &mut new.stage);
        // A store that the boot needs stops it later, for what it lacks itself.
        made.map_err(|problem| warnings.push(in_memory_instead(on, &problem))).ok()
    });
    let fd = match on_store {
        Some((fresh, fd)) => {
            new.fresh = Some(fresh);
            fd
        }
        None => in_memory(root, kernel, &mut new)?,
    };
    let mut tree =
        Tree { root: fd, kernel, shares: false, new: Some(new), inner: Vec::new(), carried: Vec::new() };
    if let Some(store) = &root.convert {
        tree.carry(plan, sysroot.fd.as_fd(), store, false)?;
        let old = walk::again(sysroot.fd.as_fd())
            .map_err(|errno| Problem::new(format!("cannot keep the old root: {}", describe(errno))))?;
        tree.new.get_or_insert_default().old = Some(old);
    }
    for (path, fd) in mounts_below(sysroot.fd.as_fd(), &sysroot.path, &AbsPath::root())? {
        if plan.mount_above(&path).is_some() {
            tree.inner.push((path, fd));
            continue;
        }
        tree.carry(plan, fd.as_fd(), &path, true)?;
        tree.carried.push(fd);
    }
    Ok(tree)
}

/// Makes a tmpfs, which is attached nowhere or to the stage.
fn in_memory(root: &Root, kernel: Kernel, new: &mut New) -> Result<OwnedFd> {
    let mut options = options::part(&root.options);
    let mode = format!("{:o}", root.mode);
    let fixed =
        [("size", root.size.as_deref()), ("nr_inodes", root.inodes.as_deref()), ("mode", Some(&*mode))];
    options.filesystem.extend(fixed.into_iter().filter(|(_, value)| value.is_some()));
    let what = "the root";
    let refused = |problem: Problem| {
        let remedy = "correct `root.options` in the manifest, or the kernel lacks what they ask for";
        if problem.errno == Some(Errno::INVAL) { problem.remedy(remedy) } else { problem }.at("root")
    };
    if let Some(fd) = kernel.new_filesystem("tmpfs", SOURCE, &options, what).map_err(refused)? {
        return Ok(fd);
    }
    let stage = match &mut new.stage {
        Some(stage) => stage,
        stage => stage.insert(Stage::new(kernel)?),
    };
    mount_api::mount_filesystem("tmpfs", SOURCE, &options, stage.place.as_fd(), what).map_err(refused)?;
    stage.open_root()
}

fn in_memory_instead(on: &AbsPath, problem: &Problem) -> Problem {
    let what = format!("the root of this boot is in memory, as it cannot be made on {on}: {}", problem.what);
    let full = [Some(Errno::NOSPC), Some(Errno::DQUOT)].contains(&problem.errno);
    let remedy = match problem.errno {
        _ if full => "make room on it, for instance with `impctl roots prune`".to_owned(),
        _ => problem.remedy.clone(),
    };
    Problem::new(what).at("root").remedy(remedy)
}

impl Tree {
    /// The root that is mounted at the sysroot now.
    pub fn existing(sysroot: &Sysroot, kernel: Kernel) -> Result<Self> {
        let root = walk::base(sysroot.path.as_str())
            .map_err(|errno| Problem::os("cannot open the sysroot again", errno))?;
        let shares = !kernel.has_descriptors() && mountinfo::is_shared(root.as_fd())?;
        Ok(Self { root, kernel, shares, new: None, inner: Vec::new(), carried: Vec::new() })
    }

    /// Keeps the mounts below a target of an existing root, which a mount on the target would cover.
    pub fn keep_inner(&mut self, sysroot: &Sysroot, target: &AbsPath) -> Result<()> {
        if self.is_new() {
            return Ok(());
        }
        for (path, fd) in mounts_below(self.root.as_fd(), &sysroot.path, target)? {
            if !self.inner.iter().any(|(inner, _)| *inner == path) {
                self.inner.push((path, fd));
            }
        }
        Ok(())
    }

    /// True if a mount that was kept is at a path or below it.
    #[must_use]
    pub fn has_inner(&self, path: &AbsPath) -> bool {
        self.inner.iter().any(|(inner, _)| inner.is_in(path))
    }

    /// Takes the kept mounts of which a target is the nearest that the plan mounts above them.
    pub fn take_inner(&mut self, plan: &Plan<'_>, target: &AbsPath) -> Vec<(AbsPath, OwnedFd)> {
        let is_nearest =
            |path: &AbsPath| plan.mount_above(path).is_some_and(|item| item.entry.target == *target);
        self.inner.extract_if(.., |(path, _)| is_nearest(path)).collect()
    }

    /// Mounts one on the root once more. It goes away from where it was when the root is published.
    pub fn bring_inner(&mut self, plan: &Plan<'_>, path: &AbsPath, mount: OwnedFd) -> Result<()> {
        self.carry(plan, mount.as_fd(), path, true)?;
        self.carried.push(mount);
        Ok(())
    }

    /// True if nobody can see it yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// The id of the mount that its top directory is on.
    pub fn mount_id(&self) -> Result<u64> {
        walk::mount_id(self.root.as_fd())
            .map_err(|errno| Problem::os("cannot ask for the root's mount id", errno))
    }

    /// Mounts a directory or file on another, which is `place`, a name in a directory.
    pub fn bind(
        &mut self,
        source: BorrowedFd<'_>,
        place: (BorrowedFd<'_>, &str),
        target: BorrowedFd<'_>,
        options: BindOptions,
        submounts: bool,
    ) -> Result<(), Problem> {
        let kernel = self.kernel;
        let shares = self.shares;
        self.staged_if_needed(|| {
            kernel.bind(source, place, target, options, submounts)?;
            if !shares {
                return Ok(());
            }
            let mounted = mount_api::covering(source, place)?;
            mount_api::make_shared(mounted.as_fd())
                .or_else(|errno| mount_api::take_back(mounted.as_fd(), errno))
        })
    }

    /// Mounts a directory or file on a name that this process made on a root that no other can reach.
    pub fn bind_fresh(
        &mut self,
        source: BorrowedFd<'_>,
        place: (BorrowedFd<'_>, &str),
        options: BindOptions,
    ) -> Result<(), Problem> {
        let kernel = self.kernel;
        self.staged_if_needed(|| {
            mount_api::attach_at(kernel.clone_of(source, options, false)?.as_fd(), place)
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

    /// Attaches a file system that is mounted nowhere to a directory.
    pub fn attach(&mut self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Problem> {
        self.staged_if_needed(|| mount_api::attach(mount, target))
    }

    /// Before Linux 6.15 nothing can be mounted on what is attached nowhere: then the tree moves to the stage.
    fn staged_if_needed(&mut self, mut mount: impl FnMut() -> Result<(), Errno>) -> Result<(), Problem> {
        let mut result = mount();
        if let (Err(Errno::INVAL), Some(new @ New { stage: None, .. })) = (result, &mut self.new) {
            let stage = Stage::new(self.kernel)?;
            self.kernel
                .publish(self.root.as_fd(), stage.place.as_fd())
                .map_err(|errno| Problem::os(format!("cannot move the new root to {PATH}"), errno))?;
            new.stage = Some(stage);
            result = mount();
        }
        result.map_err(|errno| Problem::os("cannot mount", errno))
    }

    /// Brings something that is mounted at or below the sysroot into the new root.
    fn carry(
        &mut self,
        plan: &Plan<'_>,
        mount: BorrowedFd<'_>,
        path: &AbsPath,
        submounts: bool,
    ) -> Result<()> {
        let failed = |problem: Problem| problem.during(format!("cannot mount {path} on the root once more"));
        let stat = walk::stat(mount).map_err(|errno| failed(Problem::os("cannot look at it", errno)))?;
        let top = walk::again(self.root.as_fd()).map_err(|errno| failed(Problem::new(describe(errno))))?;
        let mut cursor = Cursor::new(top);
        let parent = path.parent().unwrap_or_else(AbsPath::root);
        let dir = cursor.enter(parent.as_str(), &mut |dir, name, path| {
            create::directory(dir, name, Mounts::Enter, &mut || {
                Attributes::root(plan.parents.of(path).mode())
            })
            .map(|node| node.fd)
            .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        let dir = dir.map_err(failed)?;
        let name = path.name();
        let made = if stat.is_dir() {
            create::directory(dir, name, Mounts::Enter, &mut || Attributes::root(0o755))
        } else {
            create::file(dir, name, Mounts::Enter, b"", &mut || Attributes::root(0o644))
        };
        let wanted = if stat.is_dir() { "a directory" } else { "a regular file" };
        let explained = |errno| failed(walk::explain(dir, path.as_str(), errno, wanted));
        let target = made.map_err(explained)?.fd;
        self.bind(mount, (dir, name), target.as_fd(), BindOptions::NONE, submounts).map_err(failed)
    }

    /// Makes a new root appear at the sysroot; does nothing for one that was there.
    pub fn publish(mut self, sysroot: &Sysroot) -> Result<()> {
        let Some(mut new) = self.new.take() else {
            self.let_go();
            return Ok(());
        };
        let failed =
            |what: &str, errno| Problem::os(format!("cannot {what} at {}", sysroot.path), errno).at("root");
        new.fresh.iter_mut().for_each(Fresh::keep);
        match &new.old {
            None => self
                .kernel
                .publish(self.root.as_fd(), sysroot.fd.as_fd())
                .map_err(|errno| failed("publish the new root", errno))?,
            Some(old) => match self.kernel.publish_beneath(self.root.as_fd(), old.as_fd()) {
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
                        .and_then(|below| self.kernel.publish(self.root.as_fd(), below.as_fd()))
                        .map_err(|errno| failed("publish the new root", errno))?;
                }
                Err(errno) => return Err(failed("publish the new root", errno)),
            },
        }
        if let Some(stage) = &mut new.stage {
            stage.holds_old = false;
        }
        self.let_go();
        Ok(())
    }

    /// Unmounts what was mounted on the root once more, where it was before.
    fn let_go(&self) {
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

/// Mounts below a directory of a root, which is at a path: path and root of each mount, but none that is mounted below another one.
fn mounts_below(root: BorrowedFd<'_>, at: &AbsPath, directory: &AbsPath) -> Result<Vec<(AbsPath, OwnedFd)>> {
    let inside = |mount: &Mount| {
        let path = AbsPath::normal(&mount.point).ok()?.below(at)?;
        (path.is_in(directory) && path != *directory).then_some(path)
    };
    let mut paths: Vec<AbsPath> = Vec::new();
    for path in mountinfo::all()?.iter().filter_map(inside) {
        if !paths.iter().any(|kept| path.is_in(kept)) {
            paths.retain(|kept| !kept.is_in(&path));
            paths.push(path);
        }
    }
    let open = |path: AbsPath| {
        let mut fd = walk::again(root).map_err(|errno| Problem::new(describe(errno)))?;
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

/// Refuses to make the root a store at a path where something else is mounted already, or above it: that would cover the store.
pub fn must_be_uncovered(store: &AbsPath, sysroot: &Sysroot) -> Result<()> {
    let Some((path, fd)) = mounts_below(sysroot.fd.as_fd(), &sysroot.path, &AbsPath::root())?
        .into_iter()
        .find(|(path, _)| store.is_in(path))
    else {
        return Ok(());
    };
    let (place, mount) = (sysroot.path.join(&path), mountinfo::of(fd.as_fd())?);
    Err(Problem::new(format!(
        "{} is mounted at {place}, and would cover the store {store} that the root becomes",
        mount.shown()
    ))
    .remedy("convert the root to another path, or leave `convert` out if that is the store"))
}

/// A run that was stopped right after it had put a new root beneath the old one left only the last step to do.
fn finish_interrupted(sysroot: &Sysroot) -> Result<bool> {
    let top = walk::mount_id(sysroot.fd.as_fd())
        .map_err(|errno| Problem::os("cannot ask for the sysroot's mount id", errno))?;
    // The table's order tells nothing here: since Linux 6.8 it is by age, and what is beneath is the younger one.
    let beneath = mountinfo::all()?.into_iter().any(|mount| {
        mount.point == sysroot.path.as_str()
            && mount.id != top
            && ((mount.source.as_str(), mount.fstype.as_str()) == (SOURCE, "tmpfs")
                || fresh::is_tree(&mount.root))
    });
    if !beneath {
        return Ok(false);
    }
    log::info!("finishing what an interrupted run began: taking the old root at {} away", sysroot.path);
    mount_api::detach(sysroot.fd.as_fd())
        .map_err(|errno| Problem::os(format!("cannot take the old root at {} away", sysroot.path), errno))?;
    Ok(true)
}

/// True if something is on a root that is made anew at every boot: a tmpfs, or a directory that a run made on a store.
pub fn is_new_at_every_boot(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_volatile(fd)? || fresh::is_fresh(fd)?)
}
