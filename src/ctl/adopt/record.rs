//! What was adopted since the boot and may not be in the configuration yet.
//!
//! It is kept beside the report and not in it: a run takes away what the report has and the manifest has not, and under this
//! mount there is an old state. A mount that nobody told it of is left alone, and is in place once the manifest names it.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use serde::{Deserialize, Serialize};

use crate::manifest::{AbsPath, Kind};
use crate::problem::{Problem, Result};
use crate::report::{self, Report};
use crate::{table, utab};

/// Where it is kept.
pub const PATH: &str = "/run/imp-mount/adopted.json";
/// The version of its form.
const VERSION: u32 = 1;

/// Everything that was adopted since the boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Adopted {
    /// The version of this form.
    pub version: u32,
    /// What was adopted, in path order.
    pub entries: Vec<Entry>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is.
    pub target: AbsPath,
    /// Where it is kept.
    pub source: AbsPath,
    /// What it is.
    pub kind: Kind,
}

impl Adopted {
    /// What was adopted since the boot; nothing where nobody wrote it down.
    pub fn read() -> Result<Self> {
        let failed = |what: &dyn Display| {
            Problem::new(format!("cannot read {PATH}: {what}")).remedy(
                "remove it; what was adopted since the boot and is not in the configuration is forgotten then",
            )
        };
        let bytes = match fs::read(PATH) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.map_err(|error| failed(&error))?,
        };
        if fs::symlink_metadata(PATH).map_err(|error| failed(&error))?.uid() != 0 {
            return Err(failed(&"it is not root's"));
        }
        let read: Self = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        if read.version == VERSION { Ok(read) } else { Err(failed(&"it is of another version")) }
    }

    /// Writes down one more with the others, whole or not at all.
    pub fn with(mut self, entry: Entry) -> Result<()> {
        self.version = VERSION;
        match self.entries.binary_search_by(|other| other.target.cmp(&entry.target)) {
            Ok(at) if self.entries[at] == entry => return Ok(()),
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
        let failed = |error: std::io::Error| Problem::new(format!("cannot write {PATH}: {error}"));
        report::directory(report::DIRECTORY)?;
        let new = format!("{PATH}.new");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o644).open(&new).map_err(failed)?;
        let bytes = serde_json::to_vec(&self).map_err(|error| failed(error.into()))?;
        file.write_all(&bytes).and_then(|()| fs::rename(&new, PATH)).map_err(failed)
    }
}

/// Lets the report forget what an entry that is gone has left there: a run would take it away, and it is to stay.
pub fn keep(target: &AbsPath) -> Result<()> {
    let mut report = Report::read()?;
    let known = report.entries.len();
    report.entries.retain(|entry| entry.target != *target);
    if report.entries.len() == known { Ok(()) } else { report.write() }
}

/// Tells libmount of a mount, as a run does for its own.
pub fn tell(target: &AbsPath, mount: BorrowedFd<'_>) -> Result<()> {
    let mount = table::of(mount)?;
    let line = utab::Line {
        source: mount.source,
        target: target.as_str().to_owned(),
        root: mount.root,
        hidden: false,
        trash: false,
    };
    utab::update(&[line], &[])
}
