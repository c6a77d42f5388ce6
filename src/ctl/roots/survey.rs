//! Sizes of a root, and its unsaved paths as in `impctl lost`.

use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;

use super::bare::is_made_by_a_run;
use super::record::{End, MOST, Row};
use crate::ctl::lost::{self, SYSTEM_LINKS, Scope};
use crate::ctl::scan::rules::Rules;
use crate::ctl::scan::{Fate, Named, SINGLES, Scan, Totals};
use crate::ctl::system::System;
use crate::ctl::ui::output::Failure;
use crate::manifest::{AbsPath, Manifest};
use crate::text::escape;
use crate::text::problem::Problem;

/// The rules of `impctl lost` for the root of a system with this manifest.
pub fn rules(system: &System, manifest: &Manifest) -> Result<Rules, Failure> {
    // On a root created at every boot an entry counts only if mounted.
    lost::rules(system, Some(manifest), &Scope::all(&system.place), true)
}

/// The record of the content of a tree, and the first unreadable path, which is not in the record. Disposable paths count
/// for the sizes, and are not listed.
///
/// # Errors The tree cannot be opened.
pub fn survey(
    tree: BorrowedFd<'_>,
    rules: &Rules,
    named: &(dyn Fn(&Named<'_>) -> Fate + Sync),
    until: Option<Instant>,
) -> Result<(End, Option<Problem>), Failure> {
    let scan = Scan {
        root: tree,
        prefix: "",
        rules,
        all: true,
        built: true,
        singles: SINGLES,
        locks: true,
        system_links: &SYSTEM_LINKS,
        kept: false,
        parts: 0,
        until,
        named,
    };
    let mut seen = scan.run(&AbsPath::root()).map_err(Failure::Unable)?;
    let mut totals = Totals::default();
    seen.rows.iter().for_each(|row| totals.add(&row.totals));
    let mut rows: Vec<_> = seen.rows.iter().filter(|row| !row.throw_away).map(Row::from).collect();
    rows.sort_by(|a, b| (b.bytes, a.path.bytes()).cmp(&(a.bytes, b.path.bytes())));
    let rows_count = rows.len() as u64;
    rows.truncate(MOST);
    seen.unread.sort();
    let unread = seen.unread.first().map(|(path, why)| {
        Problem::new(format!("cannot read {}: {why}", escape::name(path)))
            .remedy("see dmesg(1) for errors of its disk")
    });
    let end = End {
        version: End::VERSION,
        ended: now(),
        complete: !seen.stopped,
        files: totals.files,
        bytes: totals.allocated,
        rows,
        rows_count,
        left_out: Vec::new(),
        left_out_count: 0,
        left_out_bytes: 0,
    };
    Ok((end, unread))
}

/// Decides about a file on an old root at a path of the manifest for files: a file under a bind mount, and a link into
/// a store, are created by imp-mount. Any other file was on that root alone.
pub fn old_file(manifest: &Manifest, found: &Named<'_>) -> Fate {
    let (stat, name) = (found.stat, (found.dir, found.name));
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let is_made = is_made_by_a_run(manifest, name, (kind, stat.stx_mode & 0o7777, stat.stx_size));
    if is_made { Fate::Kept } else { Fate::RootOnly }
}

/// Seconds since 1970, by the system's clock.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
