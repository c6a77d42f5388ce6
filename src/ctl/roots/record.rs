//! The record of a boot's end beside its root: outcome, paths on the root, and paths left out by a saving.

use std::ffi::CString;

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ctl::scan::{self, Subject};
use crate::ctl::system::System;
use crate::roots::{BOOT, Boot, Slot};
use crate::text::escape;
use crate::text::problem::describe;

/// The name of the record.
pub const END: &str = "end.json";
/// Most lines of a list; further ones are counted.
pub const MOST: usize = 1000;

/// The end of a boot, written last: a boot or saving without this record was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The version of this form.
    pub version: u32,
    /// When the boot ended, or was found to be cut off: seconds since 1970 by the system's clock.
    pub ended: u64,
    /// True if the boot ended well; for a saved root, if everything within the limits was saved.
    pub complete: bool,
    /// Files of the tree, of any type but directories.
    pub files: u64,
    /// Bytes of the tree, as du(1) counts them.
    pub bytes: u64,
    /// Unsaved paths as in `impctl lost`, the largest first.
    pub rows: Vec<Row>,
    /// Number of these, those beyond [`MOST`] among them.
    pub rows_count: u64,
    /// Lost files without a saving.
    pub left_out: Vec<LeftOut>,
    /// Number of files left out.
    pub left_out_count: u64,
    /// Bytes of these.
    pub left_out_bytes: u64,
}

/// A lost path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    #[serde(flatten)]
    pub path: Path,
    /// Its type; for several files the path is their directory's.
    pub kind: Subject,
    /// Number of its files.
    pub files: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// A path left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeftOut {
    #[serde(flatten)]
    pub path: Path,
    /// Its bytes; of a directory without those of its files.
    pub bytes: u64,
    /// The reason.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub why: String,
}

/// A path, which need not be text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Path {
    /// The absolute path, with U+FFFD in place of non-UTF-8 bytes.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    path: String,
    /// The path as bytes, if not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<Vec<u8>>,
}

impl Path {
    /// One from a walk.
    #[must_use]
    pub fn new(path: &[u8]) -> Self {
        let raw = str::from_utf8(path).is_err().then(|| path.to_vec());
        Self { path: String::from_utf8_lossy(path).into_owned(), raw }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.path.as_bytes())
    }
}

impl From<&scan::Row> for Row {
    fn from(row: &scan::Row) -> Self {
        Self {
            path: Path::new(&row.path),
            kind: row.subject,
            files: row.totals.files,
            bytes: row.totals.allocated,
        }
    }
}

impl End {
    /// The version of this program.
    pub const VERSION: u32 = 1;

    /// The record of a root; none where there is none.
    ///
    /// # Errors
    /// Why the record is unusable.
    pub fn read(slot: &Slot) -> Result<Option<Self>, String> {
        read(slot, END, |end: &Self| end.version == Self::VERSION)
    }

    /// Writes the record beside a root: whole and on the disk.
    ///
    /// # Errors
    /// The write failed.
    pub fn write(&self, slot: &Slot) -> Result<(), Errno> {
        let page = escape::json(self).map_err(|_| Errno::INVAL)?;
        slot.write(END, page.as_str().as_bytes())
    }
}

/// The record of the boot of a root; none where there is none.
///
/// # Errors
/// Why the record is unusable.
pub fn boot(slot: &Slot) -> Result<Option<Boot>, String> {
    read(slot, BOOT, |boot: &Boot| boot.version == Boot::VERSION)
}

/// Records the names of users and groups of a system.
///
/// # Errors
/// Of writing them.
pub fn names(system: &System, slot: &Slot) -> Result<(), Errno> {
    for name in ["passwd", "group"] {
        // Without the file owners are known by their numbers alone.
        if let Ok(Some(bytes)) = system.read(&format!("/etc/{name}")) {
            slot.write(name, &bytes)?;
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(slot: &Slot, name: &str, is_known: fn(&T) -> bool) -> Result<Option<T>, String> {
    let c_name = CString::new(name).map_err(|error| error.to_string())?;
    let Some(bytes) = slot.read(&c_name).map_err(|errno| format!("{name}: {}", describe(errno)))? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))?;
    if is_known(&value) { Ok(Some(value)) } else { Err(format!("{name}: written by another version")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let row = |path: &[u8]| Row { path: Path::new(path), kind: Subject::Files, files: 2, bytes: 4096 };
        let end = End {
            version: End::VERSION,
            ended: 7,
            complete: true,
            files: 3,
            bytes: 8192,
            rows: vec![row(b"/a\nb"), row(b"/\xff")],
            rows_count: 2,
            left_out: vec![LeftOut { path: Path::new(b"/c"), bytes: 1, why: "size".into() }],
            left_out_count: 1,
            left_out_bytes: 1,
        };
        let text = escape::json(&end).unwrap();
        let again: End = serde_json::from_str(text.as_str()).unwrap();
        assert_eq!(again, end);
        assert_eq!(again.rows[1].path.bytes(), b"/\xff");
        assert!(text.as_str().contains("\"kind\": \"files\""), "{}", text.as_str());
    }
}
