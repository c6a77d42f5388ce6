//! A root on a store: a directory, on btrfs a subvolume, created anew at every boot (see [`crate::roots`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::device::{self, is_unmounted};
use super::stage::Stage;
use super::sysroot::{Sysroot, is_volatile};
use crate::manifest::options::{self, BindOptions};
use crate::manifest::path::PRIVATE;
use crate::manifest::{AbsPath, Root, Store};
use crate::plan::{Need, Plan};
use crate::roots::{Boot, Id, Kind, ROOTS, Roots, Slot, TREE};
use crate::sys::mount_api::{self, Kernel};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe, os_error};

/// Options of the store's mount not inherited by the root.
const NOT_INHERITED: BindOptions = BindOptions::RO
    .and(BindOptions::NOSUID)
    .and(BindOptions::NODEV)
    .and(BindOptions::NOEXEC)
    .and(BindOptions::NOSYMFOLLOW);

/// The directory of the stage on which a store is mounted until its root is.
const STORE: &str = "store";

/// True if the mount of an open file shows such a root.
pub fn is_fresh(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_tree(&mountinfo::of(fd)?.root))
}

/// True for the path of such a root below the top of its file system, in the form of mountinfo.
#[must_use]
pub fn is_tree(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (tree, id, roots, private) = (parts.next(), parts.next(), parts.next(), parts.next());
    (tree, roots, private) == (Some(TREE), Some(ROOTS), Some(PRIVATE)) && id.and_then(Id::parse).is_some()
}

/// A new root on a store, removed on drop unless kept.
#[derive(Debug)]
pub struct Fresh {
    roots: Roots,
    slot: Slot,
    keep: bool,
}

impl Fresh {
    /// Keeps the root from now on, because it is about to be published.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    fn add(store: BorrowedFd<'_>, mode: u16) -> Result<(Self, OwnedFd)> {
        let failed =
            |errno| Problem::os(format!("cannot make a directory in {PRIVATE}/{ROOTS} on it"), errno);
        let roots = Roots::create(store)?;
        let slot = roots.add().map_err(failed)?;
        let fresh = Self { roots, slot, keep: false };
        let tree = fresh.slot.create_tree(mode).map_err(failed)?;
        Boot::now(Kind::Disk)?.write(&fresh.slot).map_err(failed)?;
        Ok((fresh, tree))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(errno) = self.roots.remove(self.slot.id) {
            log::info!(
                "the directory of a root that was not used stays in {PRIVATE}/{ROOTS}: {}; `impctl roots prune` removes it",
                describe(errno)
            );
        }
    }
}

/// Makes a root on a store, and returns its mount, which is attached nowhere or to the stage.
pub fn make(
    plan: &Plan<'_>,
    (root, on): (&Root, &AbsPath),
    sysroot: &Sysroot,
    kernel: Kernel,
    stage: &mut Option<Stage>,
) -> Result<(Fresh, OwnedFd)> {
    let store = plan.stores().find(|(store, _)| store.path == *on);
    let (store, need) = store.ok_or_else(|| Problem::new("there is no such store"))?;
    if need == Need::LeftOut {
        return Err(Problem::new(need.why_not().unwrap_or_default()));
    }
    let wanted = options::split(&root.options).mount.unwrap_or(BindOptions::NONE);
    let failed = |errno| Problem::os("cannot mount the new directory", errno);
    // Kept until the new root is mounted, as nothing else mounts the store yet.
    let mut detached = None;
    let dir = if root.convert.as_ref() == Some(on) {
        walk::duplicate(sysroot.fd.as_fd()).map_err(failed)?
    } else if let Some(dir) = mounted(store, sysroot)? {
        dir
    } else {
        let device = store.device.as_ref().ok_or_else(|| {
            Problem::new(format!("nothing is mounted at {}", sysroot.path.join(&store.path)))
        })?;
        if let Some(mount) = device::detached(store, device, kernel)? {
            detached.insert(mount).try_clone().map_err(|error| failed(os_error(error)))?
        } else {
            let stage = stage_in(stage, kernel)?;
            device::mount_at(store, device, stage.add(STORE)?.as_fd())?;
            stage.open(STORE)?
        }
    };
    if is_volatile(dir.as_fd())? {
        return Err(Problem::new("it is in memory"));
    }
    let (fresh, tree) = Fresh::add(dir.as_fd(), root.mode)?;
    if !kernel.has_descriptors() {
        let stage = stage_in(stage, kernel)?;
        stage.bind(kernel, tree.as_fd()).map_err(failed)?;
        let mount = stage.open_root()?;
        kernel.set_options(mount.as_fd(), wanted, NOT_INHERITED.without(wanted)).map_err(failed)?;
        return Ok((fresh, mount));
    }
    let mount = match kernel.clone_of(tree.as_fd(), wanted, false) {
        // Before Linux 6.15 a detached mount cannot be cloned, nor have mounts: store and root move to the stage. Attaching a mount does
        // not change its identity.
        Err(Errno::INVAL) if let Some(store) = &detached => {
            let stage = stage_in(stage, kernel)?;
            mount_api::attach(store.as_fd(), stage.add(STORE)?.as_fd()).map_err(failed)?;
            let mount = kernel.clone_of(tree.as_fd(), wanted, false);
            mount.and_then(|mount| mount_api::attach(mount.as_fd(), stage.place.as_fd()).map(|()| mount))
        }
        mount => mount,
    };
    let mount = mount.map_err(failed)?;
    kernel.set_options(mount.as_fd(), BindOptions::NONE, NOT_INHERITED.without(wanted)).map_err(failed)?;
    Ok((fresh, mount))
}

fn stage_in(stage: &mut Option<Stage>, kernel: Kernel) -> Result<&mut Stage> {
    match stage {
        Some(stage) => Ok(stage),
        None => Ok(stage.insert(Stage::new(kernel)?)),
    }
}

/// The directory of a store mounted below the sysroot.
fn mounted(store: &Store, sysroot: &Sysroot) -> Result<Option<OwnedFd>> {
    let failed = |errno| Problem::os("cannot look at the sysroot", errno);
    let mut dir = walk::duplicate(sysroot.fd.as_fd()).map_err(failed)?;
    for name in store.path.components() {
        dir = match walk::directory(dir.as_fd(), name, Mounts::Enter) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(walk::explain(dir.as_fd(), store.path.as_str(), errno, "a directory")),
        };
    }
    let top = walk::mount_id(sysroot.fd.as_fd()).map_err(failed)?;
    Ok((!is_unmounted(store, dir.as_fd(), top)?).then_some(dir))
}
