//! `impctl roots save`: the end of a boot is recorded, and of a root in memory what would be lost is saved.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, fsync};
use rustix::io::Errno;
use serde::Serialize;

use super::budget::{Budget, is_full};
use super::copy::{self, Copied, Source};
use super::old::{self, Old, State};
use super::record::End;
use super::survey::{self, now};
use crate::ctl::lost::keeper::Keeper;
use crate::ctl::scan::Named;
use crate::ctl::system::{System, outlives_a_boot};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{self, count, size};
use crate::manifest::{AbsPath, Manifest, OldRoots};
use crate::roots::{Boot, Kind, Roots, Slot};
use crate::runtime::report::Report;
use crate::sys::capacity::Capacity;
use crate::sys::{mountinfo, walk};
use crate::text::escape::Page;
use crate::text::problem::{Problem, Result};

/// The share of the time that is left for the disk, in which nothing more is copied.
const REST: u32 = 10;

/// Result of a run.
#[derive(Debug, Serialize)]
struct Outcome {
    version: u32,
    /// Why nothing was saved; none where something was.
    nothing: Option<&'static str>,
    store: Option<AbsPath>,
    number: Option<u32>,
    kind: Option<&'static str>,
    files: u64,
    bytes: u64,
    left_out_count: u64,
    left_out_bytes: u64,
    /// Files that changed while they were copied.
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

    fn new(store: &AbsPath, slot: &Slot, kind: &'static str, end: &End) -> Self {
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

/// Saves it, and says what was saved.
pub fn run(system: &System, manifest: &Manifest, json: bool) -> Result<(), Failure> {
    let outcome = save(system, manifest)?;
    if json {
        return output::print(&output::json(&outcome)?);
    }
    let mut page = Page::default();
    if let Some(why) = outcome.nothing {
        page.line(format_args!("Nothing is saved: {why}."));
    }
    if let (Some(store), Some(number)) = (&outcome.store, outcome.number) {
        let what = format!("{}, {}", count(outcome.files, "file"), size(outcome.bytes));
        if outcome.kind == Some("disk") {
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

fn save(system: &System, manifest: &Manifest) -> Result<Outcome, Failure> {
    let Some(limits) = &manifest.old_roots else {
        return Ok(Outcome::nothing("the manifest has no old_roots"));
    };
    let start = Instant::now();
    let time = Duration::from_secs(limits.save_seconds.into());
    let until = start + time.saturating_sub(time / REST);
    let path = manifest.stores.get(usize::from(limits.store)).map(|store| &store.path);
    let path = path.ok_or_else(|| Failure::Unable(Problem::new("old_roots has no store")))?;
    let at = |problem: Problem| Failure::Refused(vec![problem.at(path.to_string())]);
    let store = old::store(system, path).map_err(at)?.ok_or_else(|| {
        at(Problem::new("nothing is mounted there, so nothing can be saved").remedy("mount the store"))
    })?;
    let top = walk::stat(system.root()).map_err(|errno| at(Problem::os("cannot look at the root", errno)))?;
    let roots = Roots::open(store.as_fd()).map_err(at)?;
    let running = roots.as_ref().map(|roots| roots.find(top.identity())).transpose();
    let running = running.map_err(|errno| at(Problem::os("cannot look at the roots", errno)))?.flatten();
    let report =
        if system.is_running() { Report::read().map_err(Failure::Unable)? } else { Report::default() };
    let keeper = Keeper::new(system, manifest, &report, true);
    let named = |found: &Named<'_>| keeper.fate(found);
    let rules = survey::rules(system, manifest)?;
    let survey = survey::survey(system.root(), &rules, &named, Some(until))?;
    if let (Some(roots), Some(id)) = (&roots, running) {
        let slot = roots.slot(id).map_err(|errno| at(Problem::os("cannot open the root", errno)))?;
        let end = End { complete: true, ..survey };
        close(system, &slot, &end).map_err(at)?;
        return Ok(Outcome::new(path, &slot, "disk", &end));
    }
    let mount = mountinfo::of(system.root()).map_err(Failure::Unable)?;
    if outlives_a_boot(&mount.fstype) {
        return Ok(Outcome::nothing("the root is a disk, which outlives the boot"));
    }
    let roots = Roots::create(store.as_fd()).map_err(at)?;
    let source = Source { root: system.root(), rules: &rules, named: &named };
    let (slot, end, unsteady) = to_new(system, &roots, (&source, limits, until), survey).map_err(at)?;
    Ok(Outcome { unsteady, ..Outcome::new(path, &slot, "saved", &end) })
}

/// Saves a root in memory as a new one, in the place of an earlier saving of this boot.
fn to_new(
    system: &System,
    roots: &Roots,
    (source, limits, until): (&Source<'_>, &OldRoots, Instant),
    survey: End,
) -> Result<(Slot, End, u64)> {
    let all = old::list(system, roots)?;
    let is_own = |old: &&Old| old.current && old.boot.as_ref().is_some_and(|boot| boot.kind == Kind::Saved);
    if all.iter().filter(is_own).any(|old| old.state == State::Unfinished) {
        return Err(Problem::new("another process is saving this root").remedy("wait until it has ended"));
    }
    let slot = add(roots)?;
    let saved = fill(system, &slot, (source, limits, until), survey);
    let (end, unsteady) = match saved {
        Ok(saved) => saved,
        Err(problem) if is_full(problem.errno) => {
            // The space is worth more than half a saving. What cannot be removed, the next `impctl roots prune` removes.
            let _ = roots.remove(slot.id);
            return Err(problem);
        }
        Err(problem) => return Err(problem),
    };
    for old in all.iter().filter(is_own) {
        match roots.take_off(old.id()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                let problem = Problem::os("cannot take an earlier saving of this boot off the list", errno);
                return Err(problem);
            }
        }
    }
    Ok((slot, end, unsteady))
}

/// Makes the directory of a further root, and locks it: `impctl roots prune` leaves it alone.
fn add(roots: &Roots) -> Result<Slot> {
    let failed = |errno| Problem::os("cannot create the directory of a root", errno);
    loop {
        let slot = match roots.add() {
            // Taken by a process that removes empty ones.
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

fn fill(
    system: &System,
    slot: &Slot,
    (source, limits, until): (&Source<'_>, &OldRoots, Instant),
    survey: End,
) -> Result<(End, u64)> {
    let failed = |errno| Problem::os("cannot prepare the saving", errno);
    Boot::now(Kind::Saved)?.write(slot).map_err(failed)?;
    slot.create_tree(0o755).map_err(failed)?;
    let budget = Budget::new(limits, &Capacity::of(slot.dir()).map_err(failed)?);
    let copied = copy::copy(source, slot, &budget, until)?;
    copy::wait(slot)?;
    let Copied { files, bytes, left_out, left_out_count, left_out_bytes, unsteady } = copied;
    let end = End {
        ended: now(),
        complete: true,
        files,
        bytes,
        left_out,
        left_out_count,
        left_out_bytes,
        ..survey
    };
    close(system, slot, &end)?;
    Ok((end, unsteady))
}

/// Writes the record of the end, the last of all.
fn close(system: &System, slot: &Slot, end: &End) -> Result<()> {
    let failed = |errno| Problem::os("cannot write the record of the boot's end", errno);
    for name in ["passwd", "group"] {
        // Without the file owners are known by their numbers alone.
        if let Ok(Some(bytes)) = system.read(&format!("/etc/{name}")) {
            slot.write(name, &bytes).map_err(failed)?;
        }
    }
    end.write(slot).map_err(failed)?;
    fsync(slot.dir()).map_err(failed)
}
