//! Text and JSON output of `impctl orphans`.

use std::borrow::Cow;

use serde::Serialize;

use super::{Found, Orphan};
use crate::ctl::scan::Totals;
use crate::ctl::scan::show::{self, Listed, Unread};
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{ALERT, FAINT, HEADING, Table, count, now, size, styled};
use crate::manifest::AbsPath;
use crate::text::escape::Page;

/// For a terminal of so many columns.
pub fn text(found: &[Found<'_>], width: Option<usize>) -> Page {
    let now = now();
    let mut page = Page::default();
    let mut sum = Totals::default();
    let mut places = 0;
    for one in found {
        if !one.failure.is_empty() {
            page.append(&styled(ALERT, &format!("{}: not looked at: {}", one.store.path, one.failure)));
            continue;
        }
        sum.add(&one.totals);
        places += one.orphans.len() as u64;
        if one.orphans.is_empty() {
            page.line(format_args!("{}: entries name everything on it", one.store.path));
        } else {
            page.append(&table(one, now).render(width));
            page.line("");
        }
        for line in show::unread(&one.seen) {
            page.append(&styled(ALERT, &line));
        }
    }
    if places > 0 {
        let all = format!(
            "{} in {}, in {}.",
            size(sum.allocated),
            count(sum.files, "file"),
            count(places, "place")
        );
        page.append(&styled(HEADING, &all));
        let never = "Nothing was removed. Look before you remove something.";
        page.append(&styled(FAINT, never));
    }
    page
}

fn table(found: &Found<'_>, now: i64) -> Table {
    let mut table = Table::new(&show::COLUMNS, "NAMED BY NO ENTRY");
    for orphan in &found.orphans {
        let owner = show::owner(&orphan.row, &orphan.user, &orphan.group);
        table.row(show::cells(&orphan.row, owner, now), show::path(&orphan.row), orphan.words().join(", "));
    }
    table
}

/// Paths on the stores without an entry. Sizes are in bytes, times in seconds since 1970; paths are those of the
/// booted system.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'f> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Path of the root below which the stores are mounted, seen from the command.
    root: Cow<'f, str>,
    /// The stores asked for, in path order.
    stores: Vec<OnStore<'f>>,
}

/// One store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Store"))]
struct OnStore<'f> {
    /// Its path.
    path: &'f AbsPath,
    /// The reason for not scanning the store; empty otherwise.
    failure: &'f str,
    /// Paths without an entry, the largest first.
    orphans: Vec<Listing<'f>>,
    /// The sum of them.
    totals: Totals,
    /// Paths that could not be read; the first thousand.
    unread: Vec<Unread<'f>>,
    /// Number of these.
    unread_count: u64,
}

/// A directory with its content outside entries, or files.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Orphan"))]
struct Listing<'f> {
    #[serde(flatten)]
    listed: Listed<'f>,
    /// Known facts.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    remarks: &'f [String],
    /// The last generation of NixOS whose manifest has this path, or a path inside.
    generation: Option<u64>,
}

impl<'f> Listing<'f> {
    fn new(orphan: &'f Orphan) -> Self {
        Self {
            listed: Listed::new(&orphan.row, &orphan.user, &orphan.group),
            remarks: &orphan.remarks,
            generation: orphan.generation,
        }
    }
}

impl<'f> OnStore<'f> {
    fn new(found: &'f Found<'_>) -> Self {
        Self {
            path: &found.store.path,
            failure: &found.failure,
            orphans: found.orphans.iter().map(Listing::new).collect(),
            totals: found.totals,
            unread: Unread::of(&found.seen),
            unread_count: found.seen.unread_count,
        }
    }
}

/// As JSON.
pub fn json(system: &System, found: &[Found<'_>]) -> Result<Page, Failure> {
    let stores = found.iter().map(OnStore::new).collect();
    output::json(&Document { version: 1, root: system.place.to_string_lossy(), stores })
}
