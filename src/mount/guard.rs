//! What stands for something that is missing: a directory or file with mode 000, mounted read-only, so that a service fails
//! loudly and writes nothing to memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::manifest::options::BindOptions;
use crate::problem::{Problem, Result};
use crate::runtime;
use crate::walk::{self, Identity};

/// The two that are mounted wherever a guard is needed. They are on /run, which survives switch-root.
#[derive(Debug)]
pub struct Guard {
    directory: Option<(OwnedFd, Identity)>,
    file: Option<(OwnedFd, Identity)>,
}

impl Guard {
    /// How it is mounted.
    pub const OPTIONS: BindOptions =
        BindOptions::RO.and(BindOptions::NOSUID).and(BindOptions::NODEV).and(BindOptions::NOEXEC);

    /// What earlier runs have made.
    pub fn find() -> Result<Self> {
        let open = |name| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = rustix::fs::openat(CWD, path(name), flags, Mode::empty())
                .and_then(|fd| walk::stat(fd.as_fd()).map(|stat| (fd, stat.identity())));
            match found {
                Ok(found) => Ok(Some(found)),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(Problem::os(format!("cannot open the guard {}", path(name)), errno)),
            }
        };
        Ok(Self { directory: open("directory")?, file: open("file")? })
    }

    /// By which they are known where they are mounted.
    #[must_use]
    pub fn identities(&self) -> [Option<Identity>; 2] {
        [&self.directory, &self.file].map(|node| node.as_ref().map(|(_, identity)| *identity))
    }

    /// The one to mount on a directory, or on anything else; made when it is needed first.
    pub fn node(&mut self, directory: bool) -> Result<BorrowedFd<'_>> {
        let (slot, name) =
            if directory { (&mut self.directory, "directory") } else { (&mut self.file, "file") };
        if slot.is_none() {
            make(name, directory)?;
            *self = Self::find()?;
        }
        let slot = if directory { &self.directory } else { &self.file };
        slot.as_ref()
            .map(|(fd, _)| fd.as_fd())
            .ok_or_else(|| Problem::new(format!("the guard {} has gone", path(name))))
    }
}

fn make(name: &str, directory: bool) -> Result<()> {
    let folder = format!("{}/guard", runtime::DIRECTORY);
    runtime::directory(runtime::DIRECTORY)?;
    let folder = runtime::directory(&folder)?;
    let failed = |errno| Problem::os(format!("cannot make the guard {}", path(name)), errno);
    let made = if directory {
        rustix::fs::mkdirat(&folder, name, Mode::empty())
    } else {
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, new, Mode::empty()).map(drop)
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(failed),
    }
}

fn path(name: &str) -> String {
    format!("{}/guard/{name}", runtime::DIRECTORY)
}
