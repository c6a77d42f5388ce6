//! Paths that a scan found, as every list of them shows them: in a table, and in JSON.

use serde_json::{Value, json};

use super::{Row, Seen, Subject, Totals};
use crate::ctl::ui::terminal::{Column, age, count, number, size};
use crate::manifest::mode;
use crate::text::escape;

/// So many places that could not be looked into are named.
const UNREAD: usize = 10;

/// The columns that every list of paths has.
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

/// A path as it is shown: of a directory with a slash at its end, of several files with a star.
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

/// Members of a path in every list.
#[must_use]
pub fn row(row: &Row, user: &str, group: &str) -> Value {
    let kind = match row.subject {
        Subject::Directory => "directory",
        Subject::File => "file",
        Subject::Link => "link",
        Subject::Special => "special",
        Subject::Files => "files",
    };
    let mut value = json!({
        "path": String::from_utf8_lossy(&row.path),
        "kind": kind,
        "user": user,
        "group": group,
        "uid": row.owner.uid,
        "gid": row.owner.gid,
        "mode": mode::show(row.owner.mode),
        "others": row.others,
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, totals(&row.totals)) {
        value.extend(more);
    }
    bytes(&mut value, &row.path);
    value
}

/// A path that is no text cannot be a string of JSON: then its bytes are there, too.
fn bytes(value: &mut Value, path: &[u8]) {
    if str::from_utf8(path).is_err() {
        value["bytes"] = json!(path);
    }
}

/// Bytes and files.
#[must_use]
pub fn totals(totals: &Totals) -> Value {
    json!({
        "files": totals.files,
        "allocated": totals.allocated,
        "apparent": totals.apparent,
        "newest": totals.newest.map(|(seconds, _)| seconds),
    })
}

/// Paths that could not be read.
#[must_use]
pub fn unread_json(seen: &Seen) -> Value {
    let one = |(path, why): &(Vec<u8>, String)| {
        let mut value = json!({ "path": String::from_utf8_lossy(path), "why": why });
        bytes(&mut value, path);
        value
    };
    seen.unread.iter().map(one).collect()
}
