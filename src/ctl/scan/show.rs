//! Paths of a scan in the common form of all lists: in a table, and in JSON.

use std::borrow::Cow;

use serde::Serialize;

use super::{Row, Seen, Subject, Totals};
use crate::ctl::ui::terminal::{Column, age, count, number, size};
use crate::manifest::mode;
use crate::text::escape;

/// Maximum of unreadable paths listed.
const UNREAD: usize = 10;

/// The common columns of all lists of paths.
pub const COLUMNS: [Column; 4] = [
    Column { title: "SIZE", right: true, optional: false },
    Column { title: "FILES", right: true, optional: true },
    Column { title: "CHANGED", right: true, optional: true },
    Column { title: "OWNER", right: false, optional: true },
];

/// The cells of [`COLUMNS`].
#[must_use]
pub fn cells(row: &Row, owner: String, now: i64) -> Vec<String> {
    let changed = row.totals.newest.map_or_else(String::new, |(seconds, _)| age(seconds, now));
    vec![size(row.totals.allocated), number(row.totals.files), changed, owner]
}

/// A path for display: a directory with a slash at its end, several files with a star.
#[must_use]
pub fn path(row: &Row) -> String {
    let end = match row.subject {
        Subject::Directory => "/",
        Subject::Files => "/*",
        _ => "",
    };
    escape::name(&row.path).trim_end_matches('/').to_owned() + end
}

/// The owner in few words.
#[must_use]
pub fn owner(row: &Row, user: &str, group: &str) -> String {
    let group = if group == user { String::new() } else { format!(":{group}") };
    let others = if row.others { ", ..." } else { "" };
    format!("{}{others}", escape::name(&format!("{user}{group}")))
}

/// Paths that could not be read, as text.
#[must_use]
pub fn unread(seen: &Seen) -> Vec<String> {
    if seen.unread_count == 0 {
        return Vec::new();
    }
    let mut lines: Vec<_> = seen
        .unread
        .iter()
        .take(UNREAD)
        .map(|(path, why)| format!("not looked into: {}: {why}", escape::name(path)))
        .collect();
    let more = seen.unread_count.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("not looked into: {} more", count(more, "place")));
    }
    if !rustix::process::geteuid().is_root() {
        lines.push("-> run it as root to see everything".to_owned());
    }
    lines
}

/// A path in JSON, which need not be UTF-8.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Path<'r> {
    /// The absolute path, with U+FFFD in place of non-UTF-8 bytes.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    path: Cow<'r, str>,
    /// The path as bytes, if not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<&'r [u8]>,
}

impl<'r> Path<'r> {
    fn new(path: &'r [u8]) -> Self {
        let bytes = str::from_utf8(path).is_err().then_some(path);
        Self { path: String::from_utf8_lossy(path), bytes }
    }
}

/// Members of a path in every list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listed<'r> {
    #[serde(flatten)]
    path: Path<'r>,
    /// Its type.
    kind: Subject,
    /// The owner of the directory or file: a name, or a number without one.
    user: &'r str,
    /// Its group.
    group: &'r str,
    /// The number of the owner.
    uid: u32,
    /// The number of the group.
    gid: u32,
    /// The mode, in octal digits.
    #[cfg_attr(test, schemars(regex(pattern = "^[0-7]{4}$")))]
    mode: String,
    /// True if a file inside has another owner.
    others: bool,
    #[serde(flatten)]
    totals: Totals,
}

impl<'r> Listed<'r> {
    /// A line of a scan, with the names of its owner.
    #[must_use]
    pub fn new(row: &'r Row, user: &'r str, group: &'r str) -> Self {
        Self {
            path: Path::new(&row.path),
            kind: row.subject,
            user,
            group,
            uid: row.owner.uid,
            gid: row.owner.gid,
            mode: mode::show(row.owner.mode),
            others: row.others,
            totals: row.totals,
        }
    }
}

/// A path that could not be read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unread<'r> {
    #[serde(flatten)]
    path: Path<'r>,
    /// The error.
    #[cfg_attr(test, schemars(length(min = 1)))]
    why: &'r str,
}

impl<'r> Unread<'r> {
    /// Those of a scan.
    #[must_use]
    pub fn of(seen: &'r Seen) -> Vec<Self> {
        seen.unread.iter().map(|(path, why)| Self { path: Path::new(path), why }).collect()
    }
}
