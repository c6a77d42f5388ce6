//! Files absent from an old root because its saving left them out.

use serde::Serialize;

use crate::ctl::roots::record::{self, End};
use crate::manifest::AbsPath;
use crate::roots::Slot;

/// A root with a path which its saving left out.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Passed {
    /// Its number.
    pub root: u32,
    /// The reason.
    pub why: String,
}

/// Files at and below a path, left out by a saving.
#[derive(Debug)]
pub struct LeftOut {
    /// They, the largest first.
    pub files: Vec<record::LeftOut>,
    /// True if there are more, which the record counts and does not name.
    pub more: bool,
}

impl LeftOut {
    /// The left out files of a root. A left out directory above the path counts as well.
    pub fn of(slot: &Slot, path: &AbsPath) -> Self {
        let Ok(Some(end)) = End::read(slot) else { return Self { files: Vec::new(), more: false } };
        let more = end.left_out_count > end.left_out.len() as u64;
        let mut files = end.left_out;
        files.retain(|left| Self::concerns(left, path));
        Self { files, more }
    }

    /// True for a file at or below a path, or a directory above.
    pub fn concerns(left: &record::LeftOut, path: &AbsPath) -> bool {
        is_in(left.path.bytes(), path) || is_above(left.path.bytes(), path)
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|left| left.bytes).sum()
    }
}

/// True if a path of a record equals another one or is below.
fn is_in(path: &[u8], other: &AbsPath) -> bool {
    let rest = path.strip_prefix(other.as_str().as_bytes());
    other.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// True if a path of a record is above another one.
fn is_above(path: &[u8], other: &AbsPath) -> bool {
    let rest = other.as_str().as_bytes().strip_prefix(path);
    path == b"/" || rest.is_some_and(|rest| rest.starts_with(b"/"))
}
