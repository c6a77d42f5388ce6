//! Text and JSON output of `impctl orphans`.

use serde_json::{Value, json};

use super::{Found, Orphan};
use crate::ctl::scan::Totals;
use crate::ctl::scan::show;
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{ALERT, FAINT, HEADING, Table, count, now, size, styled};
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
        let never = "Nothing was removed, and impctl never removes anything. Look before you do.";
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

/// As JSON.
pub fn json(system: &System, found: &[Found<'_>]) -> Result<Page, Failure> {
    let orphan = |orphan: &Orphan| {
        let mut value = show::row(&orphan.row, &orphan.user, &orphan.group);
        value["remarks"] = json!(orphan.remarks);
        value["generation"] = json!(orphan.generation);
        value
    };
    let store = |one: &Found<'_>| {
        json!({
            "path": one.store.path.as_str(),
            "failure": one.failure,
            "orphans": one.orphans.iter().map(orphan).collect::<Vec<Value>>(),
            "totals": show::totals(&one.totals),
            "unread": show::unread_json(&one.seen),
            "unread_count": one.seen.unread_count,
        })
    };
    let stores: Vec<_> = found.iter().map(store).collect();
    output::json(&json!({ "version": 1, "root": system.place.to_string_lossy(), "stores": stores }))
}
