//! One lock for all changes of mounts, stores and the files in /run/imp-mount: of several processes one works, and the
//! others wait for its end.
//!
//! The lock is flock(2) on a file opened by root alone: no other user can hold the lock, and the kernel releases the
//! lock when its holder dies. The file names the holder, and is on /run, which survives switch-root.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{DIRECTORY, directory};
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, Result};

const NAME: &str = "lock";
/// After so long a wait is announced.
const SILENCE: Duration = Duration::from_secs(1);
/// Bytes read of the holder's text.
const SHOWN: usize = 100;

/// The lock, held until this is dropped.
#[derive(Debug)]
#[must_use = "it is released where it is dropped"]
pub struct Lock {
    /// None where /run is read-only and has no file to lock.
    file: Option<File>,
}

/// Takes the lock; `who` is the command of the holder. Waits without limit, and after a second logs the holder's name.
/// The data to change must be read after this.
pub fn take(who: &str) -> Result<Lock> {
    let at = format!("{DIRECTORY}/{NAME}");
    let failed = |errno| Problem::os(format!("cannot take the lock {at}"), errno);
    let mut told = false;
    loop {
        let dir = match directory(DIRECTORY) {
            Err(problem) if problem.errno == Some(Errno::ROFS) => return Ok(without(&problem)),
            dir => dir?,
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&dir, NAME, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::ROFS) => return Ok(without(&failed(Errno::ROFS))),
            fd => fd.map_err(failed)?,
        };
        let stat = walk::stat(fd.as_fd()).map_err(failed)?;
        if !stat.is_file() || stat.uid() != 0 || stat.mode() & 0o077 != 0 {
            return Err(Problem::new(format!("cannot take the lock {at}: others than root can hold it"))
                .remedy("remove it while nothing of imp-mount runs"));
        }
        let file = File::from(fd);
        wait(&file, &mut told).map_err(failed)?;
        // After removal of the file or its directory, other processes lock a new file.
        match walk::stat_at(CWD, &*at) {
            Ok(there) if there.identity() == stat.identity() => {}
            Ok(_) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed(errno)),
        }
        // Only waiting processes miss the words.
        let text = format!("{who} (process {})\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
        return Ok(Lock { file: Some(file) });
    }
}

/// Without a lock on a /run without locks, where no run can leave a report for another.
fn without(problem: &Problem) -> Lock {
    log::warn!("{problem}; going on without a lock");
    Lock { file: None }
}

fn wait(file: &File, told: &mut bool) -> Result<(), Errno> {
    let start = Instant::now();
    while !*told {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if start.elapsed() < SILENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                log::warn!("waiting for {}: one at a time changes what persists", holder(file));
                *told = true;
            }
            Err(Errno::INTR) => {}
            taken => return taken,
        }
    }
    loop {
        match rustix::fs::flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            taken => return taken,
        }
    }
}

/// Name of the lock's holder in the file; empty until written by the holder.
fn holder(file: &File) -> String {
    let mut text = [0; SHOWN];
    let length = file.read_at(&mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..length]);
    match text.lines().next().map(str::trim) {
        None | Some("") => "another process".to_owned(),
        Some(line) => escape::name(line).into_owned(),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // The next holder replaces the words.
            let _ = file.set_len(0);
        }
    }
}
