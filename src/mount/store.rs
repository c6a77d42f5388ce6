//! The stores: found where they are mounted, or mounted from their device.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::device::{detached, is_on, is_unmounted, mount_at};
use super::guard::Guard;
use super::sysroot::{Sysroot, is_volatile};
use super::tree::Tree;
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Store};
use crate::plan::Plan;
use crate::sys::create::{self, Attributes};
use crate::sys::cursor::Cursor;
use crate::sys::mount_api::{self};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// A usable store.
#[derive(Debug)]
pub struct Opened {
    /// Walks below the store.
    pub cursor: Cursor,
    /// The options of its mount, which every bind mount inherits.
    pub options: BindOptions,
}

impl Opened {
    /// An open store, with the options of its mount.
    #[must_use]
    pub fn new(fd: OwnedFd, options: BindOptions) -> Self {
        Self { cursor: Cursor::new(fd), options }
    }
}

/// Opens a store below the root, mounted first on request and need.
pub fn open(plan: &Plan<'_>, store: &Store, tree: &mut Tree, sysroot: &Sysroot) -> Result<Opened> {
    open_dir(plan, store, tree, sysroot)
        .and_then(|fd| {
            let options = mount_api::options_of(fd.as_fd()).map_err(|errno| Problem::os("cannot ask for its options", errno))?;
            if options.has(BindOptions::RO) && !store.options.iter().any(|option| option == "ro") {
                log::warn!(
                    "store {}: it is mounted read-only, so nothing can be written to it; the disk may have errors: see \
                     `dmesg`, check it with fsck, and remount it",
                    store.path
                );
            }
            Ok(Opened::new(fd, options))
        })
        .map_err(|problem| problem.at(format!("store {}", store.path)))
}

fn open_dir(plan: &Plan<'_>, store: &Store, tree: &mut Tree, sysroot: &Sysroot) -> Result<OwnedFd> {
    let root_mount = tree.mount_id()?;
    let on_root = |fd: &OwnedFd| is_on(fd.as_fd(), root_mount);
    let mut dir = walk::duplicate(tree.root())
        .map_err(|errno| Problem::new(format!("cannot open the root: {}", describe(errno))))?;
    let mut path = AbsPath::root();
    for name in store.path.components() {
        path = path.child(name);
        dir = match walk::directory(dir.as_fd(), name, Mounts::Enter) {
            Ok(next) => next,
            // A missing directory is created on a separate disk only; on the root the directory would be gone after
            // the reboot.
            Err(Errno::NOENT) if store.device.is_some() || !on_root(&dir)? => {
                let mode = plan.parents.of(path.as_str()).mode();
                create::directory(dir.as_fd(), name, Mounts::Enter, &mut || Attributes::root(mode))
                    .map_err(|errno| Problem::os(format!("cannot create {path}"), errno))?
                    .fd
            }
            Err(Errno::NOENT) => return Err(not_mounted(store, sysroot)),
            Err(errno) => return Err(walk::explain(dir.as_fd(), path.as_str(), errno, "a directory")),
        };
    }
    if is_unmounted(store, dir.as_fd(), root_mount)? {
        let Some(device) = &store.device else { return Err(not_mounted(store, sysroot)) };
        dir = mount(store, device, tree, &dir)?;
    }
    if is_volatile(dir.as_fd())? {
        let stat = walk::stat(dir.as_fd()).map_err(|errno| Problem::os("cannot look at it", errno))?;
        if Guard::find()?.identities().contains(&Some(stat.identity())) {
            let place = sysroot.path.join(&store.path);
            return Err(Problem::new("its place is guarded, as an earlier run left it out")
                .remedy(format!("`umount {place}`, mount its disk there, and run again")));
        }
        return Err(Problem::new("it is on a tmpfs, so nothing on it would outlive the next boot")
            .remedy("mount a disk there"));
    }
    Ok(dir)
}

fn not_mounted(store: &Store, sysroot: &Sysroot) -> Problem {
    let place = sysroot.path.join(&store.path);
    Problem::new(format!("nothing is mounted at {place}, which is only a path on the root")).remedy(
        "mount its disk there before (on NixOS: fileSystems with neededForBoot = true), or give the store its `device`; \
         `imp-mount --check` shows the disks that are there",
    )
}

fn mount(store: &Store, device: &str, tree: &mut Tree, dir: &OwnedFd) -> Result<OwnedFd> {
    match detached(store, device, tree.kernel())? {
        Some(mount) => tree.attach(mount.as_fd(), dir.as_fd())?,
        None => mount_at(store, device, dir.as_fd())?,
    }
    // Opened again, to reach the mount instead of the covered directory.
    let mut dir = walk::duplicate(tree.root())
        .map_err(|errno| Problem::new(format!("cannot open the root: {}", describe(errno))))?;
    for name in store.path.components() {
        dir = walk::directory(dir.as_fd(), name, Mounts::Enter)
            .map_err(|errno| Problem::os("cannot open it after mounting it", errno))?;
    }
    Ok(dir)
}
