//! Removal of roots that are off the list.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::old;
use crate::ctl::system::System;
use crate::roots::{Roots, TREE};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};
use crate::transfer::remove::remove_while;

/// Removes one of them, unless another process does so. At that time it stops, and leaves the rest to a later run.
pub fn clear(system: &System, roots: &Roots, name: &CStr, until: Option<Instant>) -> Result<()> {
    let failed = |errno| match errno {
        Errno::BUSY | Errno::XDEV => {
            Problem::os("it cannot be removed, as something is mounted in it", errno)
                .remedy("unmount that, then run again")
        }
        errno => Problem::os("cannot remove it", errno),
    };
    let dir = match walk::open(roots.dir(), name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(()),
        locked => locked.map_err(failed)?,
    }
    // The root in use stays, also where it is off the list.
    if let Ok(top) = walk::stat_at(dir.as_fd(), TREE)
        && old::running(system)?.contains(&top.identity())
    {
        return Err(Problem::new("it is the running root, and stays"));
    }
    match remove_while((roots.dir(), name), &mut || until.is_none_or(|until| Instant::now() < until)) {
        Err(Errno::TIMEDOUT) => Ok(()),
        removed => removed.map_err(failed),
    }
}
