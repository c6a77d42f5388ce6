//! The error type: place, cause and remedy.

use std::fmt::{self, Write};
use std::ops::{Deref, DerefMut};

use rustix::io::Errno;

use crate::text::escape;

/// One error, worded for a person in an emergency shell. Boxed: every call that can fail returns one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

/// The parts of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Its place: an entry's target, a store, a place in the manifest. Empty if there is none.
    pub at: String,
    /// Its cause: the step, the path component, and the kernel's reason.
    pub what: String,
    /// Its remedy; empty if there is none.
    pub remedy: String,
    /// The system call's error, where one is the cause.
    pub errno: Option<Errno>,
}

/// Result with a [`Problem`] as the error.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// A problem with no place and no remedy yet.
    pub fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Parts { at: String::new(), what: what.into(), remedy: String::new(), errno: None }))
    }

    /// A failed system call during `what`.
    pub fn os(what: impl fmt::Display, errno: Errno) -> Self {
        Self::new(format!("{what}: {}", describe(errno))).caused_by(errno).remedied_by_errno()
    }

    /// The same for an error of the standard library.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::os(what, errno),
            None => Self::new(format!("{what}: {error}")),
        }
    }

    /// Sets the place, unless known already.
    #[must_use]
    pub fn at(mut self, at: impl Into<String>) -> Self {
        if self.at.is_empty() {
            self.at = at.into();
        }
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Puts the failed step before the words.
    #[must_use]
    pub fn during(mut self, step: impl fmt::Display) -> Self {
        self.what = format!("{step}: {}", self.what);
        self
    }

    /// Records the error of the system call.
    #[must_use]
    pub fn caused_by(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    /// The remedies by the errno alone.
    fn remedied_by_errno(mut self) -> Self {
        let remedy = match self.errno {
            Some(Errno::NOSPC) => "free space or inodes there (`df -h`, `df -i`), then run again",
            Some(Errno::ROFS) => {
                "it is read-only, often after an error on the disk: see `dmesg`, check it with fsck, and remount it"
            }
            Some(errno) if is_damage(errno) => {
                "the disk or its file system reports errors: see `dmesg`, and check it with fsck"
            }
            Some(Errno::PERM) => {
                "run as root; if it is root already, an attribute (`lsattr`) or a sandbox forbids it"
            }
            Some(Errno::DQUOT) => "the quota there is used up: raise it or free space",
            _ => return self,
        };
        remedy.clone_into(&mut self.remedy);
        self
    }
}

impl Deref for Problem {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// One line, whatever the parts hold.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = escape::Line(f);
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// True for an error of a damaged disk or file system.
#[must_use]
pub fn is_damage(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::UCLEAN | Errno::BADMSG)
}

/// Words for an error of a system call, with its number.
#[must_use]
pub fn describe(errno: Errno) -> String {
    let number = errno.raw_os_error();
    match crate::text::errno::words(errno) {
        Some(words) => format!("{words} (os error {number})"),
        None => format!("Unknown error {number} (os error {number})"),
    }
}

/// Words for an error of the standard library, which would take the C library's for a system call's.
#[must_use]
pub fn describe_io(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), describe)
}

/// The errno of a system call in an error of the standard library.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn os_error(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
