//! The record of a boot's start.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use serde::Serialize;

use super::{BOOT, Slot};
use crate::sys::create::{self, Attributes};
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

/// The start of the boot of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "ctl", derive(serde::Deserialize))]
pub struct Boot {
    /// The version of this form.
    pub version: u32,
    /// The kernel's id of the boot.
    pub boot_id: String,
    /// When the root was made, or saved: seconds since 1970 by the system's clock.
    pub made: u64,
    /// The booted system, by the kernel's `init=`; none without `init=`.
    pub system: Option<String>,
    /// Origin of the tree.
    pub kind: Kind,
}

/// Origin of the tree of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "ctl", derive(serde::Deserialize))]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The root itself.
    Disk,
    /// A copy of a root in memory.
    Saved,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Saved => "saved",
        }
    }
}

impl Boot {
    /// The version of this program.
    pub const VERSION: u32 = 1;

    /// The running boot.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn now(kind: Kind) -> Result<Self> {
        let words = read("/proc/cmdline")?;
        let init = words.split_whitespace().rev().find_map(|word| word.strip_prefix("init="));
        let system = init.and_then(|init| init.rsplit_once('/')).filter(|(path, _)| !path.is_empty());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            version: Self::VERSION,
            boot_id: boot_id()?,
            made: now.as_secs(),
            system: system.map(|(path, _)| path.to_owned()),
            kind,
        })
    }

    /// Writes the record beside a root without one. Its content is on the disk before its name.
    ///
    /// # Errors
    /// The write failed.
    pub fn write(&self, slot: &Slot) -> Result<(), Errno> {
        let mut text = Vec::new();
        escape::write_json(&mut text as &mut dyn Write, self).map_err(|_| Errno::INVAL)?;
        let attributes = &mut || Attributes::root(0o600);
        create::file(slot.dir(), BOOT, Mounts::Stay, &text, attributes).map(drop)
    }
}

/// The kernel's id of the running boot.
///
/// # Errors
/// The file cannot be read.
pub fn boot_id() -> Result<String> {
    read("/proc/sys/kernel/random/boot_id")
}

fn read(path: &str) -> Result<String> {
    match walk::content_at(path, 1 << 20) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(errno) => {
            Err(Problem::new(format!("cannot read {path}: {}", describe(errno))).remedy("mount /proc"))
        }
    }
}
