//! Text and JSON output of `impctl roots`.

use serde_json::{Value, json};

use super::old::{Old, OnStore};
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{Column, FAINT, Table, age, count, now, number, size, styled};
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

fn table(all: &[Old]) -> Table {
    let now = now();
    let mut table = Table::new(&COLUMNS, "SYSTEM");
    // The newest first, as that is what most want back.
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
            boot.map_or_else(unknown, |boot| kind(boot.kind).to_owned()),
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

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Disk => "disk",
        Kind::Saved => "saved",
    }
}

/// As JSON.
pub fn json(system: &System, found: &[OnStore], problems: &[Problem]) -> Result<Page, Failure> {
    let root = |old: &Old| {
        let (boot, end) = (old.boot.as_ref(), old.end.as_ref());
        json!({
            "number": old.id().0,
            "state": old.state.name(),
            "kind": boot.map(|boot| kind(boot.kind)),
            "boot_id": boot.map(|boot| &boot.boot_id),
            "made": boot.map(|boot| boot.made),
            "ended": end.map(|end| end.ended),
            "system": boot.and_then(|boot| boot.system.as_ref()),
            "files": end.map(|end| end.files),
            "bytes": end.map(|end| end.bytes),
            "lost": end.map(|end| &end.rows),
            "lost_count": end.map(|end| end.rows_count),
            "left_out": end.map(|end| &end.left_out),
            "left_out_count": end.map(|end| end.left_out_count),
            "left_out_bytes": end.map(|end| end.left_out_bytes),
            "flaws": old.flaws,
        })
    };
    let store = |on_store: &OnStore| {
        let removed = on_store.roots.removed().map_or(0, |names| names.len());
        json!({
            "path": on_store.store.as_str(),
            "roots": on_store.all.iter().map(root).collect::<Vec<Value>>(),
            "being_removed": removed,
        })
    };
    output::json(&json!({
        "version": 1,
        "root": system.place.to_string_lossy(),
        "stores": found.iter().map(store).collect::<Vec<_>>(),
        "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}
