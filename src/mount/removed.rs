//! On a running system: what an earlier run put in place, and the manifest no longer names.

use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::kernel;
use super::worker::Worker;
use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind};
use crate::plan::{Action, Plan};
use crate::problem::{Problem, Result};
use crate::report::{EntryReport, State};

/// Takes away what is no longer named, where nobody uses it, deepest first. What is in use is recorded as busy. Returns
/// the targets that are gone.
pub fn remove(worker: &mut Worker<'_, '_>, previous: &[EntryReport]) -> Vec<AbsPath> {
    let mut gone = Vec::new();
    // A report lists a directory before what is below it.
    for entry in previous.iter().rev() {
        if is_wanted(worker.plan, entry) {
            continue;
        }
        match take_away(worker, entry) {
            Ok(()) => gone.push(entry.target.clone()),
            Err(problem) => {
                let why = problem.to_string();
                worker.warnings.push(problem.at(entry.target.to_string()));
                worker.entries.push(EntryReport { state: State::Busy, why, ..entry.clone() });
            }
        }
    }
    gone
}

/// Whether the plan still has it just so, or does not say.
fn is_wanted(plan: &Plan<'_>, entry: &EntryReport) -> bool {
    if !matches!(entry.state, State::Mounted | State::Linked | State::Guarded | State::Busy) {
        return true;
    }
    plan.items.iter().any(|item| {
        let wanted = item.entry;
        let source = item.store.path.join(wanted.source());
        if item.action != Action::Place {
            return wanted.target == entry.target;
        }
        if wanted.kind == Kind::Glob {
            return wanted.target.parent() == entry.target.parent()
                && source.parent() == entry.source.parent()
                && wanted.method == entry.method
                && pattern::matches(wanted.target.name(), entry.target.name());
        }
        (&wanted.target, &source, wanted.method) == (&entry.target, &entry.source, entry.method)
    })
}

fn take_away(worker: &mut Worker<'_, '_>, entry: &EntryReport) -> Result<()> {
    let target = &entry.target;
    worker.target.forget(target.as_str());
    let Some((dir, stat)) = worker.look(target)? else { return Ok(()) };
    let dir = dir.as_fd();
    if entry.state == State::Linked || stat.is_symlink() {
        let text = rustix::fs::readlinkat(dir, target.name(), Vec::new());
        if text.is_ok_and(|text| text.as_bytes() == entry.source.as_str().as_bytes()) {
            return rustix::fs::unlinkat(dir, target.name(), AtFlags::empty())
                .map_err(|errno| Problem::os("cannot remove the link, which is no longer named", errno));
        }
        return Ok(());
    }
    if !stat.is_mount_root() {
        return Ok(());
    }
    let guarded = worker.guard.identities().contains(&Some(stat.identity()));
    let ours = guarded
        || worker.look(&entry.source)?.is_some_and(|(_, source)| source.identity() == stat.identity());
    if !ours {
        return Err(Problem::new("it is no longer named, but what is mounted there is not what was mounted")
            .remedy("unmount it by hand if nothing needs it"));
    }
    kernel::unmount_unused(dir, target.name()).map_err(|errno| match errno {
        Errno::BUSY => Problem::new("it is no longer named, but in use, and stays until nothing uses it")
            .remedy(format!("see what does with `fuser -vm {target}`; the next boot leaves it out")),
        errno => Problem::os("cannot unmount it, though it is no longer named", errno),
    })?;
    log::info!("{target}: unmounted, as it is no longer named; its data stays at {}", entry.source);
    remove_placeholder(worker, target)
}

/// What a mount was put on has mode 000 and nothing in it; anything else is not ours to remove.
fn remove_placeholder(worker: &mut Worker<'_, '_>, target: &AbsPath) -> Result<()> {
    let Some((dir, stat)) = worker.look(target)? else { return Ok(()) };
    if stat.mode() != 0 || stat.is_mount_root() || (stat.is_file() && stat.size() != 0) {
        return Ok(());
    }
    let flags = if stat.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match rustix::fs::unlinkat(&dir, target.name(), flags) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Problem::os("cannot remove what it was mounted on", errno)),
    }
}
