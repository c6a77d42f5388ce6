//! The directories with work left for one thread, each below the one before.
//!
//! Of a deep tree only the first and the last of them are open. A closed one is reopened by `..` from the directory
//! last done below, and its identity is compared.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use super::dir::{Dir, open};
use super::group::Group;
use crate::sys::walk::{self, Identity};

/// Work in a directory.
#[derive(Debug)]
pub struct Job {
    /// The directory.
    pub dir: Arc<Dir>,
    /// The directories inside to enter first: their names, each with its NUL.
    pub below: Vec<u8>,
    /// True with unread names.
    pub unread: bool,
}

impl Job {
    /// All of a directory.
    pub fn new(dir: Dir) -> Self {
        Self { dir: Arc::new(dir), below: Vec::new(), unread: true }
    }
}

/// The same with the directory closed.
#[derive(Debug)]
struct Closed {
    dir: Dir<Place>,
    below: Vec<u8>,
    unread: bool,
}

/// Identity of a directory, and the position of its next name.
#[derive(Debug)]
struct Place {
    identity: Identity,
    position: u64,
}

/// The newest is done first, so that few directories are open; the oldest and largest is given to other threads.
#[derive(Debug)]
pub struct Jobs {
    /// The oldest ones.
    first: VecDeque<Job>,
    closed: Vec<Closed>,
    /// The newest ones.
    last: VecDeque<Job>,
    /// Number of open ones at either end.
    open: usize,
    /// The last directory, and its depth, if the next one is closed.
    done: Option<(OwnedFd, usize)>,
}

impl Jobs {
    /// Nothing to do. So many directories may be open at either end.
    pub fn new(open: usize) -> Self {
        Self { first: VecDeque::new(), closed: Vec::new(), last: VecDeque::new(), open, done: None }
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty() && self.closed.is_empty() && self.first.is_empty()
    }

    /// Adds the next work.
    pub fn push(&mut self, job: Job) {
        self.last.push_back(job);
        if self.last.len() <= self.open {
            return;
        }
        let Some(far) = self.last.pop_front() else { return };
        if self.closed.is_empty() && self.first.len() < self.open {
            self.first.push_back(far);
            return;
        }
        match close(far) {
            Ok(closed) => self.closed.push(closed),
            // Shared with another thread, or of unknown identity.
            Err(job) => self.first.push_back(job),
        }
    }

    /// Takes the next work. A directory that cannot be reopened is returned with the error.
    pub fn pop(&mut self) -> Option<Result<Job, (Arc<Group>, Errno)>> {
        if let Some(job) = self.last.pop_back() {
            return Some(Ok(job));
        }
        let Some(Closed { dir, below, unread }) = self.closed.pop() else {
            return self.first.pop_back().map(Ok);
        };
        Some(match self.reopen(&dir) {
            Ok(fd) => Ok(Job { dir: Arc::new(dir.with(fd)), below, unread }),
            Err(errno) => Err((dir.group, errno)),
        })
    }

    /// Takes the oldest job for another thread, unless it is the only one. None if there are closed ones, because they
    /// are reopened from directories below.
    pub fn give(&mut self) -> Option<Job> {
        if !self.closed.is_empty() || self.first.len() + self.last.len() < 2 {
            return None;
        }
        self.first.pop_front().or_else(|| self.last.pop_front())
    }

    /// A directory is done. Returns its group.
    pub fn done(&mut self, dir: Dir) -> Arc<Group> {
        let is_needed = self.last.is_empty() && !self.closed.is_empty();
        self.done = is_needed.then_some((dir.fd, dir.depth));
        dir.group
    }

    fn reopen(&mut self, dir: &Dir<Place>) -> Result<OwnedFd, Errno> {
        let (mut fd, depth) = self.done.take().ok_or(Errno::STALE)?;
        for _ in dir.depth..depth {
            fd = open(fd.as_fd(), c"..")?;
        }
        if walk::stat(fd.as_fd())?.identity() != dir.fd.identity {
            return Err(Errno::STALE);
        }
        fs::seek(&fd, SeekFrom::Start(dir.fd.position))?;
        Ok(fd)
    }
}

fn close(job: Job) -> Result<Closed, Job> {
    let Job { dir, below, unread } = job;
    let place = |dir: &Dir| {
        let position = fs::seek(&dir.fd, SeekFrom::Current(0))?;
        Ok::<_, Errno>(Place { identity: walk::stat(dir.fd.as_fd())?.identity(), position })
    };
    match Arc::try_unwrap(dir) {
        Err(dir) => Err(Job { dir, below, unread }),
        Ok(dir) => match place(&dir) {
            Ok(place) => Ok(Closed { dir: dir.with(place), below, unread }),
            Err(_) => Err(Job { dir: Arc::new(dir), below, unread }),
        },
    }
}
