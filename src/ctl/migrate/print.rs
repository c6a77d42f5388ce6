//! What became of a migration, for people.

use super::work::Standing;
use super::{EntryOutcome, Outcome, StoreOutcome};
use crate::ctl::terminal::{self, Column, Table, count, number, size};
use crate::escape::{self, Page};

/// All of it, but for the problems.
pub fn text(outcome: &Outcome) -> Page {
    let amount = |title| Column { title, right: true, optional: true };
    let standing = Column { title: "STATE", right: false, optional: false };
    let mut table = Table::new(&[amount("SIZE"), amount("FILES"), standing], "PATH");
    for entry in &outcome.entries {
        let (bytes, files) = (size(entry.bytes), number(entry.files));
        let known = !matches!(entry.standing, Standing::Absent | Standing::InPlace | Standing::Failed);
        let cells = if known { [bytes, files] } else { Default::default() };
        let own = entry.source.as_str().ends_with(entry.target.as_str());
        let remark = if own { String::new() } else { format!("to {}", entry.source) };
        let state = state(entry, outcome.dry_run);
        let [bytes, files] = cells;
        table.row(vec![bytes, files, state], entry.target.to_string(), remark);
    }
    let mut page = table.render(terminal::width());
    page.line("");
    outcome.stores.iter().for_each(|store| page.line(room(store)));
    for mount in &outcome.mounts {
        let mount = escape::name(mount);
        page.line(format_args!("{mount}: another file system is mounted there, which was left out"));
    }
    not_named(&mut page, outcome);
    page
}

fn state(entry: &EntryOutcome, dry_run: bool) -> String {
    match entry.standing {
        Standing::Absent => "not there".to_owned(),
        Standing::InPlace => "on the store".to_owned(),
        Standing::Failed => "failed".to_owned(),
        Standing::Incomplete if dry_run && entry.missing == entry.files => "to copy".to_owned(),
        Standing::Incomplete if dry_run => {
            format!("{}, {} to copy", number(entry.missing), size(entry.missing_bytes))
        }
        Standing::Incomplete => "incomplete".to_owned(),
        Standing::Complete if entry.missing > 0 => "copied".to_owned(),
        Standing::Complete => "there already".to_owned(),
    }
}

fn room(store: &StoreOutcome) -> String {
    let inodes = |inodes: Option<u64>| {
        inodes.map_or(String::new(), |inodes| format!(" and {}", count(inodes, "inode")))
    };
    let (needed, free) = (size(store.needed.bytes), size(store.free.bytes));
    let shared = if store.shared { " (shared, so it takes no room)" } else { "" };
    format!(
        "{} at {}: {needed}{}{shared} to copy, {free}{} free",
        store.path,
        escape::name(&store.at),
        inodes(store.needed.inodes),
        inodes(store.free.inodes)
    )
}

fn not_named(page: &mut Page, outcome: &Outcome) {
    const SHOWN: usize = 12;
    let all = &outcome.not_named;
    if all.is_empty() {
        return;
    }
    let shown: Vec<_> = all.iter().take(SHOWN).map(|path| escape::name(path)).collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    page.line("");
    page.line(format_args!("Not named, and so not copied: {}{more}", shown.join(", ")));
    let from = escape::shell(&outcome.from);
    page.line(format_args!("`impctl lost --root {from}` says what of that matters."));
}
