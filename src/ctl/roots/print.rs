//! Text and JSON output of `impctl roots`.

use std::borrow::Cow;

use serde::Serialize;

use super::old::{OldRoot, OnStore, State};
use super::record;
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{Column, FAINT, Table, age, count, now, number, size, styled};
use crate::manifest::AbsPath;
use crate::roots::Kind;
use crate::text::escape::{self, Page};
use crate::text::problem::Problem;

const COLUMNS: [Column; 6] = [
    Column { title: "NUMBER", right: true, optional: false },
    Column { title: "MADE", right: true, optional: false },
    Column { title: "ENDED", right: false, optional: false },
    Column { title: "SIZE", right: true, optional: false },
    Column { title: "FILES", right: true, optional: true },
    Column { title: "KIND", right: false, optional: true },
];

/// For a terminal of so many columns.
pub fn text(found: &[OnStore], all_are_known: bool, width: Option<usize>) -> Page {
    let mut page = Page::default();
    for on_store in found.iter().filter(|on_store| !on_store.all.is_empty()) {
        if found.len() > 1 {
            page.line(format_args!("On {}:", on_store.store));
        }
        page.append(&table(&on_store.all).render(width));
    }
    if page.as_str().is_empty() && all_are_known {
        page.line("There are no old roots.");
    }
    for on_store in found {
        let removed = on_store.roots.removed().map_or(0, |names| names.len() as u64);
        if removed > 0 {
            let line =
                format!("{} on {} being removed: impctl roots prune", count(removed, "root"), on_store.store);
            page.append(&styled(FAINT, &line));
        }
    }
    page
}

fn table(all: &[OldRoot]) -> Table {
    let now = now();
    let mut table = Table::new(&COLUMNS, "SYSTEM");
    // The newest first, as the most useful.
    for old in all.iter().rev() {
        let unknown = || "-".to_owned();
        let boot = old.boot.as_ref();
        let end = old.end.as_ref();
        let cells = vec![
            old.id().to_string(),
            boot.map_or_else(unknown, |boot| made(boot.made.cast_signed(), now)),
            old.state.name().to_owned(),
            end.map_or_else(unknown, |end| size(end.bytes)),
            end.map_or_else(unknown, |end| number(end.files)),
            boot.map_or_else(unknown, |boot| boot.kind.name().to_owned()),
        ];
        let system = boot.and_then(|boot| boot.system.as_deref());
        let mut remarks: Vec<_> = old.flaws.iter().map(|flaw| escape::name(flaw).into_owned()).collect();
        if let Some(end) = end.filter(|end| end.left_out_count > 0) {
            let (files, bytes) = (count(end.left_out_count, "file"), size(end.left_out_bytes));
            remarks.push(format!("{files} left out, {bytes}"));
        }
        let system = system.map_or_else(unknown, |system| escape::name(system).into_owned());
        table.row(cells, system, remarks.join(", "));
    }
    table
}

/// The age of a root. Of several boots in a minute each has its own.
fn made(then: i64, now: i64) -> String {
    let past = now.saturating_sub(then);
    if (1..60).contains(&past) { format!("{past} s") } else { age(then, now) }
}

/// The roots of earlier boots.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "List"))]
pub struct Document<'f> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Path of the root below which the stores are mounted, seen from the command.
    root: Cow<'f, str>,
    /// The stores with old roots, in path order.
    stores: Vec<ListedStore<'f>>,
    /// Failures.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    problems: Vec<String>,
}

/// One store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Store"))]
struct ListedStore<'f> {
    /// Its path.
    path: &'f AbsPath,
    /// Its roots, the oldest first.
    roots: Vec<ListedRoot<'f>>,
    /// Number of roots whose removal was begun.
    being_removed: usize,
}

/// One root of an earlier boot. Members are null where no record tells.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Root"))]
struct ListedRoot<'f> {
    /// Number of the root: higher for later boots.
    number: u32,
    /// Its state.
    state: State,
    /// Origin of the tree.
    kind: Option<Kind>,
    /// The kernel's id of the boot.
    boot_id: Option<&'f str>,
    /// Time of creation or of the saving.
    made: Option<u64>,
    /// When its boot ended, or was found to be cut off.
    ended: Option<u64>,
    /// The booted system.
    system: Option<&'f str>,
    /// Number of files of any type but directories.
    files: Option<u64>,
    /// Bytes on the disk, as du(1) counts them.
    bytes: Option<u64>,
    /// Paths in the format of `impctl lost`, the largest first; the first thousand.
    lost: Option<&'f [record::Row]>,
    /// Number of these.
    lost_count: Option<u64>,
    /// Files left out of the saving, the largest first; the first thousand.
    left_out: Option<&'f [record::LeftOut]>,
    /// Number of these.
    left_out_count: Option<u64>,
    /// Bytes of these.
    left_out_bytes: Option<u64>,
    /// Why a record cannot be used.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    flaws: &'f [String],
}

impl<'f> ListedRoot<'f> {
    fn new(old: &'f OldRoot) -> Self {
        let (boot, end) = (old.boot.as_ref(), old.end.as_ref());
        Self {
            number: old.id().0,
            state: old.state,
            kind: boot.map(|boot| boot.kind),
            boot_id: boot.map(|boot| boot.boot_id.as_str()),
            made: boot.map(|boot| boot.made),
            ended: end.map(|end| end.ended),
            system: boot.and_then(|boot| boot.system.as_deref()),
            files: end.map(|end| end.files),
            bytes: end.map(|end| end.bytes),
            lost: end.map(|end| end.rows.as_slice()),
            lost_count: end.map(|end| end.rows_count),
            left_out: end.map(|end| end.left_out.as_slice()),
            left_out_count: end.map(|end| end.left_out_count),
            left_out_bytes: end.map(|end| end.left_out_bytes),
            flaws: &old.flaws,
        }
    }
}

impl<'f> ListedStore<'f> {
    fn new(found: &'f OnStore) -> Self {
        Self {
            path: &found.store,
            roots: found.all.iter().map(ListedRoot::new).collect(),
            being_removed: found.roots.removed().map_or(0, |names| names.len()),
        }
    }
}

/// As JSON.
pub fn json(system: &System, found: &[OnStore], problems: &[Problem]) -> Result<Page, Failure> {
    output::json(&Document {
        version: 1,
        root: system.place.to_string_lossy(),
        stores: found.iter().map(ListedStore::new).collect(),
        problems: problems.iter().map(ToString::to_string).collect(),
    })
}
