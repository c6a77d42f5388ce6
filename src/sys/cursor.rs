//! A walk with open directories.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::walk::{self, Stat};
use crate::text::problem::Result;

/// Opens directories below a base, and keeps those of the last path open: in path order consecutive entries share most
/// of their paths.
#[derive(Debug)]
pub struct Cursor {
    base: OwnedFd,
    /// The open directories.
    open: Vec<Open>,
    path: String,
}

/// An open directory of a [`Cursor`].
#[derive(Debug)]
struct Open {
    /// The end of its path in the cursor's.
    end: usize,
    fd: OwnedFd,
    /// Properties of the directory, if read on opening.
    stat: Option<Stat>,
}

/// One step of a [`Cursor`]: open or make `name` in the directory. The last argument is its path.
pub type Step<'s> = dyn FnMut(BorrowedFd<'_>, &str, &str) -> Result<OwnedFd> + 's;
/// The same, with the properties of the directory if read.
pub type LookingStep<'s> = dyn FnMut(BorrowedFd<'_>, &str, &str) -> Result<(OwnedFd, Option<Stat>)> + 's;

impl Cursor {
    /// A cursor at its base.
    #[must_use]
    pub fn new(base: OwnedFd) -> Self {
        Self { base, open: Vec::new(), path: String::new() }
    }

    /// The directory where every walk begins.
    #[must_use]
    pub fn base(&self) -> BorrowedFd<'_> {
        self.base.as_fd()
    }

    /// The directory at `path`, an absolute path seen from the base; `step` opens the missing ones.
    pub fn enter(&mut self, path: &str, step: &mut Step<'_>) -> Result<BorrowedFd<'_>> {
        self.enter_looking(path, &mut |dir, name, path| step(dir, name, path).map(|fd| (fd, None)))
    }

    /// The same with a step that reads properties, for [`Cursor::looked`].
    pub fn enter_looking(&mut self, path: &str, step: &mut LookingStep<'_>) -> Result<BorrowedFd<'_>> {
        let path = if path == "/" { "" } else { path };
        while let Some(Open { end, .. }) = self.open.last() {
            let kept = path.as_bytes().get(..*end) == Some(&self.path.as_bytes()[..*end])
                && matches!(path.as_bytes().get(*end), None | Some(b'/'));
            if kept {
                break;
            }
            self.open.pop();
        }
        let done = self.end();
        self.path.truncate(done);
        for name in path[done..].split('/').skip(1) {
            self.path.push('/');
            self.path.push_str(name);
            let dir = self.open.last().map_or(self.base.as_fd(), |open| open.fd.as_fd());
            let (fd, stat) = match step(dir, name, &self.path) {
                Ok(opened) => opened,
                Err(problem) => {
                    self.path.truncate(self.end());
                    return Err(problem);
                }
            };
            self.open.push(Open { end: self.path.len(), fd, stat });
        }
        Ok(self.open.last().map_or(self.base.as_fd(), |open| open.fd.as_fd()))
    }

    /// The end of the path of the deepest open directory.
    fn end(&self) -> usize {
        self.open.last().map_or(0, |open| open.end)
    }

    /// The directory at `path`, if open now.
    #[must_use]
    pub fn opened(&self, path: &str) -> Option<BorrowedFd<'_>> {
        self.find(path).map(|open| open.fd.as_fd())
    }

    /// The properties of the directory at `path`, if open now: those from its opening.
    pub fn looked(&self, path: &str) -> Result<Option<Stat>, Errno> {
        self.find(path).map(|open| open.stat.map_or_else(|| walk::stat(open.fd.as_fd()), Ok)).transpose()
    }

    fn find(&self, path: &str) -> Option<&Open> {
        self.open.iter().find(|open| open.end == path.len() && self.path.starts_with(path))
    }

    /// Closes directories at or below `path`, because of a new mount there.
    pub fn forget(&mut self, path: &str) {
        while self.open.last().is_some_and(|_| {
            self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }) {
            self.open.pop();
            self.path.truncate(self.end());
        }
    }
}
