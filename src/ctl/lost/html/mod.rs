//! `impctl lost --html`: one page with a map of persistent, lost and disposable paths, and of paths without an entry.

mod item;
mod page;
mod tree;

use std::path::Path;

use super::{Detail, Finding, Findings, Scope, describe, look};
use crate::ctl::orphans;
use crate::ctl::roots::old;
use crate::ctl::scan::show;
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{self, count, now, size};
use crate::manifest::{AbsPath, Kind, Manifest, Store};
use crate::text::escape::{self, Page};
use item::{Class, Item, Keep};
use page::Document;
use tree::Tree;

/// Maximum of bytes for the map of a page.
const MAP: usize = 1_200_000;

/// Looks at the root and every store, and writes the page.
pub fn run(file: &Path, scope: &Scope, system: &System, manifest: Option<&Manifest>) -> Result<(), Failure> {
    // An unwritable file is refused before the search.
    if !file.starts_with("/dev") {
        output::is_writable(file)?;
    }
    let detail = Detail { all: true, lines: false, map: true };
    let mut found = look(AbsPath::root(), scope, detail, system, manifest)?;
    let keep = Keep::new(manifest, found.nixos);
    let mut notes = show::unread(&found.seen);
    let mut items = of_root(&mut found, &keep);
    let (mut stores, mut roots) = (Vec::new(), Vec::new());
    if let Some(manifest) = manifest {
        for one in orphans::map(system, manifest)? {
            if one.failure.is_empty() {
                notes.extend(show::unread(&one.seen));
                of_store(one, system, manifest, &keep, &mut items);
            } else {
                notes.push(format!("not looked at: {}: {}", one.store.path, one.failure));
            }
        }
        let (old, problems) = old::find(system, manifest);
        notes.extend(problems.iter().map(ToString::to_string));
        stores.extend(manifest.stores.iter().map(|store| store.path.to_string()));
        roots = old;
    } else {
        notes.push("There is no manifest, so nothing is persisted yet.".to_owned());
    }
    let document = Document {
        host: system.read("/etc/hostname").ok().flatten().unwrap_or_default(),
        root: system.place.as_os_str().as_encoded_bytes(),
        stores,
        made: now(),
        notes,
        roots: &roots,
        gone: found.gone.as_ref(),
        keep: &keep,
        items: &items,
    };
    let made = Tree::new(&items, MAP).map_err(std::io::Error::from).and_then(|tree| document.render(&tree));
    let text = made.map_err(|error| Failure::io("making the page", file, &error))?;
    output::private(file, text.as_bytes())?;
    let sum = |class| size(item::sum(&items, class).allocated);
    let mut page = Page::default();
    page.line(format_args!(
        "{}: {} in {} would be gone, {} persists, {} is throw-away, {} is named by no entry",
        escape::path(file),
        sum(Class::Lost),
        count(item::sum(&items, Class::Lost).files, "file"),
        sum(Class::Persists),
        sum(Class::Disposable),
        sum(Class::Orphaned)
    ));
    terminal::print(&page)?;
    for note in &document.notes {
        output::complain(note);
    }
    if found.lost.is_empty() && found.seen.unread_count == 0 { Ok(()) } else { Err(Failure::Found) }
}

/// Paths on the root itself.
fn of_root(found: &mut Findings, keep: &Keep) -> Vec<Item> {
    let mut items = Vec::new();
    let lists = [
        (Class::Lost, false, &found.lost),
        (Class::Persists, false, &found.kept),
        (Class::Persists, false, &found.brought),
        (Class::Disposable, false, &found.throw_away),
        (Class::Lost, true, &found.parts),
    ];
    for (class, part, list) in lists {
        for finding in list {
            let class = match () {
                () if part && finding.row.kept => Class::Persists,
                () if part && finding.row.throw_away => Class::Disposable,
                () => class,
            };
            let remarks = Vec::from_iter(root_remark(finding));
            let line = if class == Class::Persists { None } else { keep.line(finding, None) };
            items.push(Item::new(finding, class, part, remarks, line));
        }
    }
    items
}

fn root_remark(finding: &Finding) -> Option<String> {
    let row = &finding.row;
    let words = match () {
        () if row.unmounted => "in the manifest, but on the root only: see imp-mount --check",
        () if row.brought => "a unit brings it to a store at shutdown",
        () if row.partly => "except persistent paths in it",
        () => return None,
    };
    Some(words.to_owned())
}

/// Paths on a store.
fn of_store(
    one: orphans::Found<'_>,
    system: &System,
    manifest: &Manifest,
    keep: &Keep,
    items: &mut Vec<Item>,
) {
    let (store, prefix) = (one.store, one.store.path.as_str().trim_end_matches('/'));
    let words: Vec<_> = one.orphans.iter().map(orphans::Orphan::words).collect();
    let orphans = one.orphans.into_iter().map(|orphan| orphan.row).collect();
    let mut add = |finding: &Finding, part: bool, mut remarks: Vec<String>| {
        let class = if finding.row.kept { Class::Persists } else { Class::Orphaned };
        if class == Class::Persists && !part {
            remarks.push(place(&finding.row.path[prefix.len()..], store, manifest));
        }
        let line = if class == Class::Persists { None } else { keep.line(finding, Some(store)) };
        items.push(Item::new(finding, class, part, remarks, line));
    };
    for (finding, words) in describe(orphans, system, prefix).iter().zip(words) {
        add(finding, false, words);
    }
    for (rows, part) in [(one.kept, false), (one.seen.parts, true)] {
        for finding in &describe(rows, system, prefix) {
            add(finding, part, Vec::new());
        }
    }
}

/// Way in which a path on a store is kept.
fn place(path: &[u8], store: &Store, manifest: &Manifest) -> String {
    let path = str::from_utf8(path).ok().and_then(|path| AbsPath::parse(path).ok());
    let mut entries = manifest.entries.iter().filter(|entry| manifest.store(entry).path == store.path);
    let entry = path.and_then(|path| {
        entries.find(|entry| {
            let is_match = || {
                path.folder() == entry.source().folder()
                    && crate::manifest::pattern::matches(entry.source().name(), path.name())
            };
            *entry.source() == path || (entry.kind == Kind::Glob && is_match())
        })
    });
    match entry {
        Some(entry) if entry.kind == Kind::Glob => format!("kept by the pattern {}", entry.target),
        Some(entry) => format!("kept at {}", entry.target),
        None => "in use by a mount without an entry".to_owned(),
    }
}
