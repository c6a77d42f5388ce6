//! Text output of `impctl migrate`.

use super::destination::Left;
use super::work::Standing;
use super::{EntryOutcome, Outcome, StoreOutcome};
use crate::ctl::ui::terminal::{self, Column, Table, count, number, size};
use crate::text::escape::{self, Page};

/// The whole result except the problems.
pub fn text(outcome: &Outcome) -> Page {
    let amount = |title| Column { title, right: true, optional: true };
    let standing = Column { title: "STATE", right: false, optional: false };
    let mut table = Table::new(&[amount("SIZE"), amount("FILES"), standing], "PATH");
    for entry in &outcome.entries {
        let (bytes, files) = (size(entry.bytes), number(entry.files));
        let known = !matches!(
            entry.standing,
            Standing::Absent | Standing::InPlace | Standing::Foreign | Standing::Failed
        );
        let cells = if known { [bytes, files] } else { Default::default() };
        let own = entry.source.as_str().ends_with(entry.target.as_str());
        let remark = if own { String::new() } else { format!("to {}", entry.source) };
        let state = state(entry, outcome.dry_run);
        let [bytes, files] = cells;
        table.row(vec![bytes, files, state], entry.target.to_string(), remark);
    }
    let mut page = table.render(terminal::width());
    page.line("");
    for store in &outcome.stores {
        page.line(room(store, outcome));
        unfinished(&mut page, store);
    }
    for mount in &outcome.mounts {
        let mount = escape::name(mount);
        page.line(format_args!("{mount}: another file system is mounted there, which was left out"));
    }
    devices(&mut page, outcome);
    not_named(&mut page, outcome);
    page
}

fn state(entry: &EntryOutcome, dry_run: bool) -> String {
    let state = match entry.standing {
        Standing::Absent => "not there",
        Standing::InPlace => "on the store",
        Standing::Foreign => "another file system",
        Standing::Failed => "failed",
        Standing::Incomplete if dry_run && entry.missing == entry.files => "to copy",
        Standing::Incomplete if dry_run && entry.missing > 0 => {
            let part = format!("{}, {} to copy", number(entry.missing), size(entry.missing_bytes));
            return differing(part, entry);
        }
        Standing::Incomplete => "incomplete",
        Standing::Complete | Standing::Differs if entry.missing > 0 => "copied",
        Standing::Complete => "there already",
        Standing::Differs => "",
    };
    differing(state.to_owned(), entry)
}

fn differing(state: String, entry: &EntryOutcome) -> String {
    if entry.differing == 0 {
        return state;
    }
    let differ =
        format!("{} {}", number(entry.differing), if entry.differing == 1 { "differs" } else { "differ" });
    if state.is_empty() { differ } else { format!("{state}, {differ}") }
}

/// Changes to a store, planned or made.
fn room(store: &StoreOutcome, outcome: &Outcome) -> String {
    let inodes = |inodes: Option<u64>| {
        inodes.map_or(String::new(), |inodes| format!(" and {}", count(inodes, "inode")))
    };
    let shared = if store.shared { " (shared, so it takes no room)" } else { "" };
    let free = format!("{}{} free", size(store.free.bytes), inodes(store.free.inodes));
    let work = match store.copied {
        None => format!("{}{}{shared} to copy", size(store.needed.bytes), inodes(store.needed.inodes)),
        Some(bytes) => {
            let compared = match (outcome.verified, outcome.problems.is_empty()) {
                (true, true) => "everything compared",
                (true, false) => "everything compared, with problems",
                (false, _) => "nothing compared",
            };
            format!("{}{shared} copied, {compared}", size(bytes))
        }
    };
    format!("{} at {}: {work}, {free}", store.path, escape::name(&store.at))
}

/// Prints the content of a store's staging directory, and its handling.
fn unfinished(page: &mut Page, store: &StoreOutcome) {
    let place = format!("{}/.imp-mount/staging", escape::name(&store.at));
    let what = |left: Left| {
        let copies = if left.copies == 1 { "unfinished copy" } else { "unfinished copies" };
        format!("{} {copies}, {}", number(left.copies), size(left.bytes))
    };
    if store.unfinished.copies > 0 {
        let goes = "a run goes on with what it needs of that, and removes the rest";
        return page.line(format_args!("{place}: {}; {goes}", what(store.unfinished)));
    }
    if store.copied.is_none() {
        return;
    }
    for (verb, left) in [("went on with", store.resumed), ("removed", store.removed)] {
        if left.copies > 0 {
            page.line(format_args!("{place}: {verb} {}", what(left)));
        }
    }
}

/// The device nodes, which most systems make anew at every boot.
fn devices(page: &mut Page, outcome: &Outcome) {
    const SHOWN: usize = 5;
    let all = &outcome.devices;
    if all.is_empty() {
        return;
    }
    let nodes = count(all.len() as u64, "device node");
    let shown: Vec<_> = all.iter().take(SHOWN).map(|path| escape::name(path).to_string()).collect();
    let more = if all.len() > SHOWN { ", ..." } else { "" };
    page.line(format_args!("{nodes} left out, which --devices copies: {}{more}", shown.join(", ")));
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
