//! `impctl roots prune`: removal of old roots beyond the limits.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::io::Errno;
use serde::Serialize;

use super::old::{self, OldRoot, OnStore, State};
use super::record::{self, End};
use super::removal;
use super::survey::{self, now};
use crate::ctl::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{self, count, size};
use crate::manifest::{AbsPath, Manifest, OldRoots};
use crate::roots::{Id, ROOTS};
use crate::text::escape::{self, Page};
use crate::text::problem::{Problem, Result};
use crate::transfer::staging::PRIVATE;

const DAY: u64 = 86_400;

/// Removal of old roots.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Removal"))]
pub struct Outcome {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// True if nothing was changed.
    dry_run: bool,
    /// The removed roots, the oldest first.
    removed: Vec<Removed>,
    /// Number of removals begun by earlier runs.
    resumed: usize,
    #[serde(skip)]
    failed: Vec<Problem>,
    /// Failures.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    problems: Vec<String>,
}

/// A removed root.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Removed {
    /// Its store.
    store: AbsPath,
    /// Its number.
    number: u32,
    /// The exceeded limit.
    #[cfg_attr(test, schemars(length(min = 1)))]
    why: String,
    /// Bytes on the disk; null where no record tells.
    bytes: Option<u64>,
}

/// Removes due roots on every store, and prints them. A failed removal does not stop the others.
pub fn run(system: &System, manifest: &Manifest, dry_run: bool, json: bool) -> Result<(), Failure> {
    let (found, failed) = old::find(system, manifest);
    let mut outcome = Outcome { version: 1, dry_run, failed, ..Outcome::default() };
    for mut on_store in found {
        if let Err(problem) = one_store(system, manifest, &mut on_store, &mut outcome) {
            outcome.failed.push(problem.at(on_store.store.to_string()));
        }
    }
    outcome.problems = outcome.failed.iter().map(ToString::to_string).collect();
    if json {
        output::print(&output::json(&outcome)?)?;
        return if outcome.failed.is_empty() { Ok(()) } else { Err(Failure::Found) };
    }
    terminal::print(&text(&outcome))?;
    if outcome.failed.is_empty() { Ok(()) } else { Err(Failure::Refused(outcome.failed)) }
}

fn text(outcome: &Outcome) -> Page {
    let mut page = Page::default();
    let verb = if outcome.dry_run { "would be removed" } else { "removed" };
    for Removed { store, number, why, bytes } in &outcome.removed {
        let bytes = bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
        page.line(format_args!("old root {number} on {store} {verb}: {why}{bytes}"));
    }
    if outcome.resumed > 0 {
        let roots = count(outcome.resumed as u64, "removal");
        page.line(format_args!(
            "{roots} that earlier runs began {}",
            if outcome.dry_run { "would be ended" } else { "ended" }
        ));
    }
    if page.as_str().is_empty() && outcome.failed.is_empty() {
        page.line("No old root is due.");
    }
    page
}

fn one_store(
    system: &System,
    manifest: &Manifest,
    on_store: &mut OnStore,
    outcome: &mut Outcome,
) -> Result<()> {
    let OnStore { store, roots, all } = on_store;
    let dry_run = outcome.dry_run;
    let place = |id: Id| format!("old root {id} on {store}");
    let failed = |errno| Problem::os("cannot list the old roots", errno);
    outcome.resumed += roots.removed().map_err(failed)?.len();
    for old in all.iter_mut().filter(|old| is_to_be_measured(old)) {
        if let Err(problem) = measure(system, manifest, old, dry_run) {
            outcome.failed.push(problem.at(place(old.id())));
        }
    }
    let due = due(
        &all.iter().map(|old| Facts::of(old, manifest)).collect::<Vec<_>>(),
        manifest.old_roots.as_ref(),
        now(),
    );
    for (id, why) in due {
        if let Err(problem) = removal::must_be_unmounted(system, store, &id.to_string()) {
            outcome.failed.push(problem.at(place(id)));
            continue;
        }
        if !dry_run {
            match roots.take_off(id) {
                // Another process was faster.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    outcome.failed.push(Problem::os("cannot take it off the list", errno).at(place(id)));
                    continue;
                }
            }
        }
        let end = all.iter().find(|old| old.id() == id).and_then(|old| old.end.as_ref());
        let bytes = end.map(|end| end.bytes);
        outcome.removed.push(Removed { store: store.clone(), number: id.0, why, bytes });
    }
    if dry_run {
        return Ok(());
    }
    let mut goes_on = removal::pause_in_background();
    for name in roots.removed().map_err(failed)? {
        if let Err(problem) = removal::clear(system, (store, roots), &name, &mut goes_on) {
            let place = format!("{store}/{PRIVATE}/{ROOTS}/{}", escape::name(name.to_bytes()));
            outcome.failed.push(problem.at(place));
        }
    }
    Ok(())
}

/// True if its size is not known: the boot was cut off.
fn is_to_be_measured(old: &OldRoot) -> bool {
    old.state == State::CutOff && old.end.is_none() && !old.is_in_use() && !old.is_left_over()
}

/// Records the size and the unsaved paths of a root after a cut off boot.
fn measure(system: &System, manifest: &Manifest, old: &mut OldRoot, dry_run: bool) -> Result<()> {
    let tree = match old.slot.tree() {
        Ok(tree) => tree,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Problem::os("cannot open its tree", errno)),
    };
    let measured = || {
        let rules = survey::rules(system, manifest)?;
        survey::survey(tree.as_fd(), &rules, &|found| survey::old_file(manifest, found), None)
    };
    let (end, unread) = measured().map_err(|failure| match failure {
        Failure::Unable(problem) => problem.during("cannot look through it"),
        _ => Problem::new("cannot look through it"),
    })?;
    // Without a record the root is not taken for an empty one.
    if let Some(problem) = unread {
        return Err(problem);
    }
    let end = End { complete: false, ..end };
    if !dry_run {
        let failed = |errno| Problem::os("cannot record its size", errno);
        record::names(&System::at(tree), &old.slot).map_err(failed)?;
        end.write(&old.slot).map_err(failed)?;
    }
    old.end = Some(end);
    Ok(())
}

/// The facts for the decision to remove a root.
#[derive(Debug, Clone, Copy)]
struct Facts<'o> {
    id: Id,
    boot: Option<&'o str>,
    in_use: bool,
    left_over: bool,
    nothing: bool,
    time: Option<u64>,
    bytes: u64,
}

impl<'o> Facts<'o> {
    fn of(old: &'o OldRoot, manifest: &Manifest) -> Self {
        Self {
            id: old.id(),
            boot: old.boot.as_ref().map(|boot| boot.boot_id.as_str()),
            in_use: old.is_in_use(),
            left_over: old.is_left_over(),
            nothing: old.holds_nothing(manifest),
            time: old.time(),
            bytes: old.end.as_ref().map_or(0, |end| end.bytes),
        }
    }
}

/// The due roots, the oldest first, with reasons. `all` has the oldest first. Several savings of one boot count as
/// one.
fn due(all: &[Facts<'_>], limits: Option<&OldRoots>, now: u64) -> BTreeMap<Id, String> {
    let mut due = BTreeMap::new();
    // A root is no older than the roots before, independent of the clock.
    let mut latest = None;
    let mut rest = Vec::new();
    for facts in all.iter().filter(|facts| !facts.in_use) {
        latest = latest.max(facts.time);
        if facts.left_over {
            due.insert(facts.id, "an interrupted run left it".to_owned());
        } else if facts.nothing {
            due.insert(facts.id, "nothing was on it when its boot was cut off".to_owned());
        } else {
            rest.push(Facts { time: latest, ..*facts });
        }
    }
    let mut bytes = 0_u64;
    let mut before = 0;
    let mut newer: Option<&Facts<'_>> = None;
    for facts in rest.iter().rev() {
        before += usize::from(newer.is_some_and(|newer| newer.boot.is_none() || newer.boot != facts.boot));
        newer = Some(facts);
        bytes = bytes.saturating_add(facts.bytes);
        let Some(limits) = limits else {
            due.insert(facts.id, "the manifest has no old_roots".to_owned());
            continue;
        };
        let days = facts.time.map_or(0, |time| now.saturating_sub(time) / DAY);
        let why = match () {
            () if before >= limits.boots as usize => {
                format!("more than {}", count(limits.boots.into(), "boot"))
            }
            () if days >= u64::from(limits.days) => format!("{} old", count(days, "day")),
            () if before > 0 && bytes > limits.size => format!("more than {} together", size(limits.size)),
            () => continue,
        };
        due.insert(facts.id, why);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100 * DAY;

    fn facts(number: u32, day: u64, bytes: u64) -> Facts<'static> {
        Facts {
            id: Id(number),
            boot: None,
            in_use: false,
            left_over: false,
            nothing: false,
            time: Some(day * DAY),
            bytes,
        }
    }

    fn ids(all: &[Facts<'_>], boots: u32, days: u32, size: u64) -> Vec<u32> {
        let limits = OldRoots { boots, days, size, ..OldRoots::new(0) };
        due(all, Some(&limits), NOW).into_keys().map(|id| id.0).collect()
    }

    #[test]
    fn number_age_and_size() {
        let all = [facts(1, 60, 5), facts(2, 80, 6), facts(4, 98, 7), facts(5, 99, 8)];
        assert!(ids(&all, 4, 41, 26).is_empty());
        assert_eq!(ids(&all, 3, 41, 26), [1]);
        assert_eq!(ids(&all, 1, 41, 26), [1, 2, 4]);
        assert_eq!(ids(&all, 4, 20, 26), [1, 2]);
        assert_eq!(ids(&all, 4, 41, 25), [1]);
        assert_eq!(ids(&all, 4, 41, 20), [1, 2]);
        // The newest stays whatever its size.
        assert_eq!(ids(&all, 4, 41, 1), [1, 2, 4]);
        assert_eq!(due(&all, None, NOW).len(), 4);
    }

    #[test]
    fn savings_of_one_boot_are_one() {
        let of = |boot, facts| Facts { boot: Some(boot), ..facts };
        let all = [
            of("a", facts(1, 98, 5)),
            of("a", facts(2, 98, 5)),
            of("b", facts(3, 99, 6)),
            of("b", facts(4, 99, 7)),
        ];
        assert!(ids(&all, 2, 30, 23).is_empty());
        assert_eq!(ids(&all, 1, 30, 99), [1, 2]);
        assert_eq!(ids(&all, 2, 30, 22), [1]);
        // All of the newest boot stay.
        assert_eq!(ids(&all, 2, 30, 1), [1, 2]);
    }

    #[test]
    fn roots_in_use_are_not_counted() {
        let mut all = [facts(1, 60, 5), facts(2, 80, 6), facts(3, 98, 7)];
        all[1].in_use = true;
        assert!(ids(&all, 2, 41, 12).is_empty());
        assert_eq!(ids(&all, 1, 41, 12), [1]);
        assert_eq!(due(&all, None, NOW).into_keys().collect::<Vec<_>>(), [Id(1), Id(3)]);
        all[2].left_over = true;
        assert_eq!(ids(&all, 9, 41, 12), [3]);
        (all[2].left_over, all[2].nothing) = (false, true);
        assert_eq!(ids(&all, 1, 41, 12), [3]);
    }

    #[test]
    fn a_clock_that_was_wrong() {
        // Made in 1970, after one of yesterday.
        let all = [facts(1, 99, 1), facts(2, 0, 1), facts(3, 99, 1)];
        assert!(ids(&all, 9, 30, 9).is_empty());
        // From the future.
        assert!(ids(&[facts(1, 200, 1), facts(2, 99, 1)], 9, 30, 9).is_empty());
        let unknown = Facts { time: None, ..facts(1, 0, 1) };
        assert!(ids(&[unknown], 9, 30, 9).is_empty());
    }
}
