//! `impctl roots save`: records the end of a boot, and saves the unsaved files of a root in memory.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, fsync};
use rustix::io::Errno;
use serde::Serialize;

use super::budget::{Budget, is_full};
use super::copy::{self, Copied, Source};
use super::earlier::Earlier;
use super::old::{self, OldRoot, State};
use super::record::{self, End};
use super::removal;
use super::survey::{self, now};
use crate::ctl::lost::stored::StoredFiles;
use crate::ctl::scan::rules::Rules;
use crate::ctl::scan::{Fate, Named};
use crate::ctl::system::{System, outlives_a_boot};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{self, count, size};
use crate::manifest::{AbsPath, Manifest, OldRoots};
use crate::roots::{Boot, Id, Kind, ROOTS, Roots, Slot};
use crate::runtime::report::Report;
use crate::sys::capacity::Capacity;
use crate::sys::{mountinfo, walk};
use crate::text::escape::{self, Page};
use crate::text::problem::{Problem, Result};
use crate::transfer::staging::PRIVATE;

/// The share of the time left for the disk, in which nothing more is copied.
const REST: u32 = 10;

/// End of a boot: its record, and the saving of a root in memory.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Saving"))]
pub struct Outcome {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// The reason for no saving; null after a saving.
    nothing: Option<&'static str>,
    /// The store of the old root.
    store: Option<AbsPath>,
    /// The number of the old root.
    number: Option<u32>,
    /// Of a root on the disk the end of its boot was recorded; one in memory was copied.
    kind: Option<Kind>,
    /// Number of its files.
    files: u64,
    /// Bytes on the disk.
    bytes: u64,
    /// Number of left out files.
    left_out_count: u64,
    /// Bytes of these.
    left_out_bytes: u64,
    /// Number of files changed during the copy.
    unsteady: u64,
}

impl Outcome {
    fn nothing(why: &'static str) -> Self {
        Self {
            version: 1,
            nothing: Some(why),
            store: None,
            number: None,
            kind: None,
            files: 0,
            bytes: 0,
            left_out_count: 0,
            left_out_bytes: 0,
            unsteady: 0,
        }
    }

    fn new(store: &AbsPath, slot: &Slot, kind: Kind, end: &End) -> Self {
        Self {
            version: 1,
            nothing: None,
            store: Some(store.clone()),
            number: Some(slot.id.0),
            kind: Some(kind),
            files: end.files,
            bytes: end.bytes,
            left_out_count: end.left_out_count,
            left_out_bytes: end.left_out_bytes,
            unsteady: 0,
        }
    }
}

/// Saves the root, and prints the result.
pub fn run(system: &System, manifest: &Manifest, shutdown: bool, json: bool) -> Result<(), Failure> {
    let outcome = save(system, manifest, shutdown)?;
    if json {
        return output::print(&output::json(&outcome)?);
    }
    let mut page = Page::default();
    if let Some(why) = outcome.nothing {
        page.line(format_args!("Nothing is saved: {why}."));
    }
    if let (Some(store), Some(number)) = (&outcome.store, outcome.number) {
        let what = format!("{}, {}", count(outcome.files, "file"), size(outcome.bytes));
        if outcome.kind == Some(Kind::Disk) {
            page.line(format_args!("root {number} on {store}: the end of its boot is recorded: {what}"));
        } else {
            page.line(format_args!("{what} saved as old root {number} on {store}"));
        }
        if outcome.left_out_count > 0 {
            let (files, bytes) = (count(outcome.left_out_count, "file"), size(outcome.left_out_bytes));
            page.line(format_args!("{files} left out, {bytes}: `impctl roots --json` names them"));
        }
        if outcome.unsteady > 0 {
            let files = count(outcome.unsteady, "file");
            page.line(format_args!("{files} changed meanwhile: what was saved of them may be of two times"));
        }
    }
    terminal::print(&page)
}

/// The deadlines of a saving.
struct Times {
    /// The beginning.
    start: Instant,
    /// From then on nothing more is copied.
    until: Instant,
    /// The deadline for optional work.
    end: Instant,
}

impl Times {
    fn new(limits: &OldRoots) -> Self {
        let start = Instant::now();
        let time = Duration::from_secs(limits.save_seconds.into());
        Self { start, until: start + time.saturating_sub(time / REST), end: start + time }
    }
}

fn save(system: &System, manifest: &Manifest, shutdown: bool) -> Result<Outcome, Failure> {
    let on = manifest.root.as_ref().and_then(|root| root.on.as_ref());
    let path = manifest.old_roots.as_ref().and_then(|limits| manifest.stores.get(usize::from(limits.store)));
    let path = path.map(|store| &store.path);
    if on.is_none() && path.is_none() {
        return Ok(Outcome::nothing("the manifest has neither old_roots nor a root on a store"));
    }
    let limits = manifest.old_roots.clone().unwrap_or_else(|| OldRoots::new(0));
    let times = Times::new(&limits);
    let report =
        if system.is_running() { Report::read().map_err(Failure::Unable)? } else { Report::default() };
    let stored = StoredFiles::new(system, manifest, &report, true);
    let named = |found: &Named<'_>| stored.fate(found);
    let rules = survey::rules(system, manifest)?;
    // A root on a store keeps its unreadable paths, and the copy of another one names them.
    let survey = || survey::survey(system.root(), &rules, &named, Some(times.until)).map(|(end, _)| end);
    let of = |path: &AbsPath, problem: Problem| Failure::Refused(vec![problem.at(path.to_string())]);
    for store in on.into_iter().chain(path) {
        if let Some(slot) = running(system, store).map_err(|problem| of(store, problem))? {
            // A power cut later in this boot would not be known from the record.
            if !shutdown {
                return Ok(Outcome::nothing(
                    "the root is on a store, and the end of its boot is recorded at shutdown",
                ));
            }
            let end = End { complete: true, ..survey()? };
            record::names(system, &slot)
                .map_err(|errno| of(store, Problem::os("cannot record the names of owners", errno)))?;
            // The record confirms that the services' data is on the disk.
            copy::wait(&slot).and_then(|()| close(&slot, &end)).map_err(|problem| of(store, problem))?;
            return Ok(Outcome::new(store, &slot, Kind::Disk, &end));
        }
    }
    let Some(path) = path else {
        return Ok(Outcome::nothing(
            "the manifest has no old_roots, and the root is no directory of a store",
        ));
    };
    let mount = mountinfo::of(system.root()).map_err(Failure::Unable)?;
    if outlives_a_boot(&mount.fstype) {
        return Ok(Outcome::nothing("the root is a disk, which outlives the boot"));
    }
    let saving = Saving { system, limits: &limits, times: &times, rules: &rules, named: &named };
    let survey = survey()?;
    let (slot, end, unsteady) = saving.run(path, survey).map_err(|problem| of(path, problem))?;
    Ok(Outcome { unsteady, ..Outcome::new(path, &slot, Kind::Saved, &end) })
}

/// The directory of the running root, if on this store.
fn running(system: &System, store: &AbsPath) -> Result<Option<Slot>> {
    let failed = |errno| Problem::os("cannot look at the roots", errno);
    let store = old::mounted(system, store)?;
    let Some(roots) = Roots::open(store.as_fd())? else { return Ok(None) };
    let top = walk::stat(system.root()).map_err(|errno| Problem::os("cannot look at the root", errno))?;
    let id = roots.find(top.identity()).map_err(failed)?;
    id.map(|id| roots.slot(id).map_err(failed)).transpose()
}

/// A store, by path, and the roots on it.
type On<'o> = (&'o AbsPath, &'o Roots);

/// The saving of a root in memory.
struct Saving<'s> {
    system: &'s System,
    limits: &'s OldRoots,
    times: &'s Times,
    rules: &'s Rules,
    named: &'s (dyn Fn(&Named<'_>) -> Fate + Sync),
}

impl Saving<'_> {
    /// Saves the root to a store. An earlier saving of this boot is removed, unless it has files left out now.
    fn run(&self, path: &AbsPath, survey: End) -> Result<(Slot, End, u64)> {
        let store = old::mounted(self.system, path)?;
        let roots = Roots::create(store.as_fd())?;
        let all = old::list(self.system, &roots)?;
        let own = || all.iter().filter(|old| is_own_saving(old));
        if own().any(|old| old.state == State::Unfinished) {
            return Err(Problem::new("another process is saving this root").remedy("wait until it has ended"));
        }
        let quarter = self.times.start + (self.times.end - self.times.start) / 4;
        self.make_room((path, &roots), &survey, quarter)?;
        let earlier = Earlier::among(own())?;
        let slot = add(&roots)?;
        let saved = match self.fill(&slot, &earlier, survey) {
            Err(problem) if is_full(problem.errno) => {
                // An incomplete saving is removed for its space. After a failed removal the next `impctl roots prune`
                // removes it.
                let _ = roots.remove(slot.id);
                Err(problem)
            }
            saved => saved,
        };
        let (end, unsteady) = saved?;
        self.replace((path, &roots), earlier.replaced(), self.times.end)?;
        Ok((slot, end, unsteady))
    }

    /// Takes savings of this boot off the list, and deletes them until the deadline.
    fn replace(&self, (store, roots): On<'_>, ids: impl Iterator<Item = Id>, until: Instant) -> Result<()> {
        for id in ids {
            match roots.take_off(id) {
                Ok(name) => self.clear((store, roots), &name, until),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let problem =
                        Problem::os("cannot take an earlier saving of this boot off the list", errno);
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    /// Finishes removals of earlier runs until the deadline, if the store lacks room.
    fn make_room(&self, (store, roots): On<'_>, survey: &End, until: Instant) -> Result<()> {
        let failed = |errno| Problem::os("cannot look how much room there is", errno);
        let budget = Budget::new(self.limits, &Capacity::of(roots.dir()).map_err(failed)?);
        if budget.bytes < survey.bytes.min(self.limits.save_size) {
            for name in roots.removed().map_err(failed)? {
                self.clear((store, roots), &name, until);
            }
        }
        Ok(())
    }

    /// Logs a failed removal: a root left on the store takes room, and does not fail the saving.
    fn clear(&self, (store, roots): On<'_>, name: &CStr, until: Instant) {
        if let Err(problem) =
            removal::clear(self.system, (store, roots), name, &mut || Instant::now() < until)
        {
            log::warn!(
                "{}",
                problem.at(format!("{store}/{PRIVATE}/{ROOTS}/{}", escape::name(name.to_bytes())))
            );
        }
    }

    fn fill(&self, slot: &Slot, earlier: &Earlier, survey: End) -> Result<(End, u64)> {
        let failed = |errno| Problem::os("cannot prepare the saving", errno);
        Boot::now(Kind::Saved)?.write(slot).map_err(failed)?;
        // Owners have names also where the saving is cut off.
        record::names(self.system, slot).map_err(failed)?;
        slot.create_tree(0o755).map_err(failed)?;
        let budget = Budget::new(self.limits, &Capacity::of(slot.dir()).map_err(failed)?);
        let source = Source { root: self.system.root(), rules: self.rules, named: self.named, earlier };
        let copied = copy::copy(&source, slot, &budget, self.times.until)?;
        copy::wait(slot)?;
        let Copied { files, bytes, left_out, left_out_count, left_out_bytes, unsteady } = copied;
        let ended = now();
        let complete = true;
        let end = End { ended, complete, files, bytes, left_out, left_out_count, left_out_bytes, ..survey };
        close(slot, &end)?;
        Ok((end, unsteady))
    }
}

/// True for a saving of the running boot.
fn is_own_saving(old: &OldRoot) -> bool {
    old.current && old.boot.as_ref().is_some_and(|boot| boot.kind == Kind::Saved)
}

/// Creates the directory of a new root, and locks the directory against `impctl roots prune`.
fn add(roots: &Roots) -> Result<Slot> {
    let failed = |errno| Problem::os("cannot create the directory of a root", errno);
    loop {
        let slot = match roots.add() {
            // Removed by a process that deletes empty ones.
            Err(Errno::NOENT) => continue,
            slot => slot.map_err(failed)?,
        };
        match flock(slot.dir(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => continue,
            locked => locked.map_err(failed)?,
        }
        let ours = walk::stat(slot.dir()).map_err(failed)?.identity();
        match walk::stat_at(roots.dir(), slot.id.to_string().as_str()) {
            Ok(stat) if stat.identity() == ours => return Ok(slot),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Writes the record of the end, the last of all.
fn close(slot: &Slot, end: &End) -> Result<()> {
    let failed = |errno| Problem::os("cannot write the record of the boot's end", errno);
    end.write(slot).map_err(failed)?;
    fsync(slot.dir()).map_err(failed)
}
