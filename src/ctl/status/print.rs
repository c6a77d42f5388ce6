//! Text output of `impctl status`: problems with their remedies, then the rest in few lines.

use std::collections::BTreeMap;

use super::attention::is_about;
use super::{Boot, Standing, Status, Volume, label};
use crate::check::status::Status as Health;
use crate::ctl::ui::terminal::{
    ALERT, Column, FAINT, HEADING, Table, age, count, number, size, step, styled, wrapped,
};
use crate::runtime::report::{self, Outcome, Run};
use crate::text::escape::{self, Page};

/// Maximum of findings listed.
const NAMED: usize = 20;
/// Column of the text after a heading.
const INDENT: usize = 9;

/// For a terminal of so many columns.
#[must_use]
pub fn text(status: &Status, width: Option<usize>) -> Page {
    let mut page = Page::default();
    attention(&mut page, status, width);
    let mut fact = |heading: &str, words: &str| page.append(&wrapped(heading, words, INDENT, width));
    match &status.boot {
        Some(boot) => fact("boot", &described(boot)),
        None if status.since.runs.is_empty() => {}
        None => fact("boot", "imp-mount has run only since"),
    }
    if status.standing != Standing::Unknown {
        fact("entries", &entries(status));
    }
    for store in status.stores.iter().map(|store| &store.filesystem).filter(|it| !it.spared.is_empty()) {
        fact("store", &format!("{}: {}", store.path, store.spared));
    }
    if !status.words.is_empty() {
        fact("words", &format!("{}, until the next boot", status.words.join(" ")));
    }
    for warning in status.boot.iter().flat_map(|boot| &boot.warnings) {
        // The result is printed above.
        if !status.attention.iter().any(|one| is_about(warning, &one.at)) {
            fact("warning", warning);
        }
    }
    for (number, path) in status.unseen.iter().enumerate().take(NAMED + 1) {
        let rest = count((status.unseen.len() - number) as u64, "more path");
        fact("not seen", &if number < NAMED { path.to_string() } else { rest });
    }
    if let Some(gone) = &status.gone {
        let places = count(gone.paths.len() as u64, "place");
        let command = gone.command().unwrap_or_else(|| "saving it left all of that out".to_owned());
        let words = format!("root {} had {places} that this root does not have: {command}", gone.root);
        fact("gone", &words);
    }
    let volumes: Vec<_> = status.root.iter().chain(&status.stores).filter(|one| one.is_mounted()).collect();
    if !volumes.is_empty() {
        page.line("");
        page.append(&table_of(&volumes).render(width));
    }
    if let Some(table) = since(status) {
        page.line("");
        page.append(&table.render(width));
    }
    if !status.notes.is_empty() {
        let notes = count(status.notes.len() as u64, "note");
        page.line("");
        page.append(&styled(FAINT, &format!("{notes} besides: imp-mount --check")));
    }
    page
}

fn attention(page: &mut Page, status: &Status, width: Option<usize>) {
    let concerns = &status.attention;
    match (status.standing, concerns.len()) {
        (Standing::Well, _) if status.unseen.is_empty() => page.append(&styled(HEADING, "All is well.")),
        (Standing::Well, _) => {
            page.append(&styled(HEADING, "OK, except for entries that only root can read."));
        }
        (_, 0) => {}
        (_, 1) => page.append(&styled(ALERT, "1 thing needs attention.")),
        (_, many) => page.append(&styled(ALERT, &format!("{} things need attention.", number(many as u64)))),
    }
    if !concerns.is_empty() {
        let columns = [Column { title: "WHAT", right: false, optional: false }];
        let mut table = Table::new(&columns, "WHERE");
        for one in concerns.iter().take(NAMED) {
            table.row(vec![label(one.kind).replace('-', " ")], plain(&one.at), one.what.clone());
        }
        page.append(&table.render(width));
        if concerns.len() > NAMED {
            let more = number((concerns.len() - NAMED) as u64);
            page.line(format_args!("and {more} more: --json names them all"));
        }
    }
    status.next.iter().for_each(|words| page.append(&step(words, width)));
    if !page.as_str().is_empty() {
        page.line("");
    }
}

/// A path or another name.
fn plain(name: &str) -> String {
    escape::name(name).into_owned()
}

fn described(boot: &Boot) -> String {
    let ended = match boot.outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Waiting => "waiting for the next one",
        Outcome::Off => "switched off",
    };
    format!("{ended} in {}, {}, {} put in place", took(boot.duration), ago(boot.started), boot.placed)
}

/// A time from microseconds: `812 µs`, `12 ms`, `1.3 s`.
fn took(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds} \u{b5}s"),
        1000..1_000_000 => format!("{} ms", microseconds / 1000),
        _ => format!("{}.{} s", microseconds / 1_000_000, microseconds / 100_000 % 10),
    }
}

/// Age of a time in microseconds since the start of the system.
fn ago(started: u64) -> String {
    let seconds = |microseconds: u64| (microseconds / 1_000_000).cast_signed();
    match age(seconds(started), seconds(report::uptime())) {
        now if now == "now" => "just now".to_owned(),
        past => past + " ago",
    }
}

fn entries(status: &Status) -> String {
    let mut counts: BTreeMap<Health, u64> = BTreeMap::new();
    for entry in &status.entries {
        *counts.entry(entry.status).or_default() += 1;
    }
    let mut parts: Vec<_> =
        counts.into_iter().map(|(health, count)| format!("{} {}", number(count), health.words())).collect();
    if !status.unseen.is_empty() {
        parts.push(format!("{} not seen", count(status.unseen.len() as u64, "path")));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn table_of(volumes: &[&Volume]) -> Table {
    let columns = [
        Column { title: "SIZE", right: true, optional: false },
        Column { title: "FREE", right: true, optional: false },
        Column { title: "USED", right: true, optional: false },
        Column { title: "INODES", right: true, optional: true },
    ];
    let percent = |used: u64, available: u64| {
        let used = u128::from(used);
        let all = used + u128::from(available);
        if all == 0 { "-".to_owned() } else { format!("{}%", (used * 100).div_ceil(all)) }
    };
    let mut table = Table::new(&columns, "FILE SYSTEM");
    for volume in volumes {
        let found = &volume.filesystem;
        let cells = vec![
            size(found.size),
            size(volume.available),
            percent(found.used, volume.available),
            percent(found.inodes_used, found.inodes.saturating_sub(found.inodes_used)),
        ];
        let read_only = if volume.read_only { ", READ-ONLY" } else { "" };
        let what = format!("{} on {}{read_only}", plain(&found.fstype), plain(&found.source));
        table.row(cells, plain(&found.path), what);
    }
    table
}

/// Changes since the boot, if there are any.
fn since(status: &Status) -> Option<Table> {
    let columns = [Column { title: "WHEN", right: true, optional: true }];
    let mut table = Table::new(&columns, "SINCE THE BOOT");
    let is_news = |run: &&Run| run.placed > 0 || run.outcome != Outcome::Done || !run.warnings.is_empty();
    let mut rows = Vec::new();
    for run in status.since.runs.iter().filter(is_news) {
        let what = match run.outcome {
            Outcome::Done => format!("{} put in place", count(run.placed as u64, "path")),
            Outcome::Failed => "a run failed, and changed nothing".to_owned(),
            Outcome::Waiting => "the root waits for the next boot".to_owned(),
            Outcome::Off => "a run was switched off".to_owned(),
        };
        rows.push((ago(run.started), what, run.warnings.join("; ")));
    }
    for one in &status.since.adopted {
        let named = if one.named { "adopted, and in the manifest by now" } else { "adopted" };
        rows.push((String::new(), one.target.to_string(), named.to_owned()));
    }
    for one in &status.since.removed {
        let why = if one.why.is_empty() { "the next run takes it away" } else { &one.why };
        rows.push((String::new(), one.target.to_string(), format!("no longer in the manifest: {why}")));
    }
    if rows.is_empty() {
        return None;
    }
    for (when, what, remark) in rows {
        table.row(vec![when], what, remark);
    }
    Some(table)
}
