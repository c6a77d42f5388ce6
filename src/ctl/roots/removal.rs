//! Deletion of roots already taken off the list.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::getpriority_process;

use super::old;
use crate::ctl::system::System;
use crate::manifest::AbsPath;
use crate::roots::{ROOTS, Roots, TREE};
use crate::sys::subvolume;
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::remove::remove_while;
use crate::transfer::seals::descend;
use crate::transfer::staging::PRIVATE;

/// Work of a background process before a pause.
const SLICE: Duration = Duration::from_millis(20);
/// Length of a pause, as a multiple of the work before.
const PAUSE: u32 = 4;

/// For a process of the lowest priority (`nice -n 19`): pauses after each slice of work. Few I/O schedulers have priorities, and a file
/// system's journal has none.
pub fn pause_in_background() -> impl FnMut() -> bool {
    let is_in_background = getpriority_process(None) == Ok(19);
    let mut start = Instant::now();
    move || {
        let worked = start.elapsed();
        if is_in_background && worked >= SLICE {
            thread::sleep(worked * PAUSE);
            start = Instant::now();
        }
        true
    }
}

/// Deletes one of them, unless another process does. `goes_on` is called before each file: if false, the deletion stops, and a later
/// run continues.
pub fn clear(
    system: &System,
    (store, roots): (&AbsPath, &Roots),
    name: &CStr,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let failed = |errno| match errno {
        Errno::BUSY | Errno::XDEV => {
            Problem::os("it cannot be removed, as something is mounted in it", errno)
                .remedy("unmount that, then run again")
        }
        errno => Problem::os("cannot remove it", errno),
    };
    let dir = match open(roots.dir(), name) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(()),
        locked => locked.map_err(failed)?,
    }
    // The root in use stays, even off the list.
    if let Ok(top) = walk::stat_at(dir.as_fd(), TREE)
        && old::running(system)?.contains(&top.identity())
    {
        return Err(Problem::new("it is the running root, and stays"));
    }
    must_be_unmounted(system, store, &name.to_string_lossy())?;
    // Without these ioctls every file is removed by itself.
    let _ = open(dir.as_fd(), TREE).and_then(|tree| subvolumes(tree.as_fd(), goes_on));
    match remove_while((roots.dir(), name), goes_on) {
        Err(Errno::TIMEDOUT) => Ok(()),
        removed => removed.map_err(failed),
    }
}

/// Refuses a root with a mount inside: deletion of a btrfs subvolume would unmount the mount.
pub fn must_be_unmounted(system: &System, store: &AbsPath, name: &str) -> Result<()> {
    let below = store.join_text(&format!("/{PRIVATE}/{ROOTS}/{name}/"));
    let mounts = system.mounts().map_err(|_| Problem::new("cannot read /proc/self/mountinfo"))?;
    let Some(mount) = mounts.iter().find(|mount| mount.point.starts_with(&below)) else { return Ok(()) };
    let problem = Problem::new(format!("{} is mounted in it", mount.shown()));
    Err(problem.remedy(format!("umount {}", escape::shell(&mount.point))))
}

fn open<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N) -> std::result::Result<OwnedFd, Errno> {
    walk::open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
}

/// Deletes the btrfs subvolumes in another one, the deepest first: the kernel deletes each as a whole, in the
/// background. A subvolume with another one inside would be deleted file by file.
fn subvolumes(top: BorrowedFd<'_>, goes_on: &mut dyn FnMut() -> bool) -> std::result::Result<(), Errno> {
    if !subvolume::is_btrfs(top)? {
        return Ok(());
    }
    for (path, name) in subvolume::nested(top)? {
        if !goes_on() {
            return Err(Errno::TIMEDOUT);
        }
        subvolume::make_writable(top)?;
        let top = walk::open(top, c".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay)?;
        let dir = open(descend(top, &path)?.as_fd(), c".")?;
        if !subvolume::remove(dir.as_fd(), &name)? {
            subvolumes(open(dir.as_fd(), name.as_c_str())?.as_fd(), goes_on)?;
            subvolume::remove(dir.as_fd(), &name)?;
        }
    }
    Ok(())
}
