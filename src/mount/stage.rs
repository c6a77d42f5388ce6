//! Staging mount for the root, on kernels that cannot mount on a detached tree.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::manifest::AbsPath;
use crate::manifest::options::{BindOptions, SplitOptions};
use crate::runtime;
use crate::sys::mount_api::{self, Kernel, SOURCE};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// The staging mount.
pub const PATH: &str = "/run/imp-mount/stage";
/// The root below the stage.
const ROOT: &str = "root";

/// A private mount as the place of a new root on kernels that need an attached one: private, because mounts on a
/// shared mount cannot be moved, and PID 1 makes all mounts shared.
#[derive(Debug)]
pub struct Stage {
    /// The private mount.
    mount: OwnedFd,
    /// The directory on which the root is mounted.
    pub place: OwnedFd,
    /// True if the old root is mounted nowhere else; the stage must then outlive a failure.
    pub holds_old: bool,
}

impl Stage {
    /// Makes a new stage.
    pub fn new(kernel: Kernel) -> Result<Self> {
        Self::clear()?;
        let failed = |errno| Problem::os(format!("cannot make the staging mount {PATH}"), errno);
        runtime::directory(runtime::DIRECTORY)?;
        let dir = runtime::directory(PATH)?;
        let mode = "700".to_owned();
        let options = SplitOptions { mount: None, filesystem: vec![("mode", Some(&mode))] };
        match kernel.new_filesystem("tmpfs", SOURCE, &options, PATH)? {
            Some(mount) => mount_api::attach(mount.as_fd(), dir.as_fd()).map_err(failed)?,
            None => mount_api::mount_filesystem("tmpfs", SOURCE, &options, dir.as_fd(), PATH)?,
        }
        let mount = walk::base(PATH).map_err(failed)?;
        mount_api::make_private(mount.as_fd())
            .and_then(|()| rustix::fs::mkdirat(&mount, ROOT, Mode::from_raw_mode(0o700)))
            .or_else(|errno| mount_api::take_back(mount.as_fd(), errno))
            .map_err(failed)?;
        let place = walk::directory(mount.as_fd(), ROOT, Mounts::Enter).map_err(failed)?;
        Ok(Self { mount, place, holds_old: false })
    }

    /// The root mounted on the place.
    pub fn open_root(&self) -> Result<OwnedFd> {
        self.open(ROOT)
    }

    /// Mounts a directory in the place of the root.
    pub fn bind(&self, kernel: Kernel, source: BorrowedFd<'_>) -> Result<(), Errno> {
        let place = (self.mount.as_fd(), ROOT);
        kernel.bind(source, place, self.place.as_fd(), BindOptions::NONE, false)
    }

    /// Creates a further directory, used until the root is published.
    pub fn add(&self, name: &'static str) -> Result<OwnedFd> {
        rustix::fs::mkdirat(&self.mount, name, Mode::RWXU)
            .map_err(|errno| Problem::os(format!("cannot create {PATH}/{name}"), errno))?;
        self.open(name)
    }

    /// A directory of the stage, or the file system mounted on the directory.
    pub fn open(&self, name: &'static str) -> Result<OwnedFd> {
        walk::directory(self.mount.as_fd(), name, Mounts::Enter)
            .map_err(|errno| Problem::os(format!("cannot open {PATH}/{name}"), errno))
    }

    /// Leftover of a run killed between unmounting the old root and publishing the new one: the old root is then
    /// mounted only as the store of the new root.
    pub fn resume(store: &AbsPath) -> Result<Option<(Self, OwnedFd)>> {
        let Ok(mount) = walk::base(PATH) else { return Ok(None) };
        let Ok(root) = walk::directory(mount.as_fd(), ROOT, Mounts::Enter) else { return Ok(None) };
        let point = format!("{PATH}/{ROOT}{}", store.as_str());
        let below = mountinfo::all()?.into_iter().any(|mount| mount.point == point);
        let place = walk::duplicate(root.as_fd()).map_err(|errno| Problem::new(describe(errno)))?;
        Ok(below.then(|| (Self { mount, place, holds_old: true }, root)))
    }

    /// Removes the stage of a stopped run.
    pub fn clear() -> Result<()> {
        let failed = |errno| Problem::os(format!("cannot remove remains of a run in {PATH}"), errno);
        while let Ok(left) = walk::base(PATH) {
            if !walk::stat(left.as_fd()).map_err(failed)?.is_mount_root() {
                break;
            }
            mount_api::detach(left.as_fd()).map_err(failed)?;
        }
        match rustix::fs::rmdir(PATH) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed.map_err(failed),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.holds_old {
            return log::warn!("the old root is kept at {PATH}; running again goes on from there");
        }
        if let Err(errno) = mount_api::detach(self.mount.as_fd()) {
            log::warn!("cannot unmount {PATH}: {}; the next run will", describe(errno));
        }
        if let Err(errno) = rustix::fs::rmdir(PATH) {
            log::warn!("{PATH} stays: {}", describe(errno));
        }
    }
}
