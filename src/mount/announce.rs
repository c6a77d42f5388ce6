//! Lines in utab for the mounts of a run.

use super::job::{Context, Job};
use super::removed::Removed;
use super::utab;
use crate::manifest::{AbsPath, Kind, Method};
use crate::runtime::lock::Lock;
use crate::runtime::report::{EntryReport, State};
use crate::sys::mountinfo::Mount;
use crate::text::problem::Result;

/// Writes the lines of the mounts to come. A line without its mount has no effect.
///
/// PID 1 takes a mount without its line away at shutdown. It looks at mounts once in a second when they change often; where it
/// finds the line only while it shuts down, it drops the queued unmount jobs, and waits for them for ever.
pub fn before(context: &Context<'_>, mounts: &[Option<Mount>], lock: &Lock) -> Result<()> {
    let binds = context.plan.items.iter().filter(|item| {
        let waits = [None, Some(State::Later), Some(State::Failed), Some(State::Guarded)];
        item.entry.method == Method::Bind
            && item.entry.kind != Kind::Glob
            && waits.contains(&context.previous.state(&item.entry.target))
    });
    let wanted: Vec<_> = binds.map(|item| Job::of(item).report(State::Mounted, String::new())).collect();
    after(context, mounts, (&wanted, &[]), lock)
}

/// Writes the lines of entries that are mounted, and removes those of mounts that are gone.
pub fn after(
    context: &Context<'_>,
    mounts: &[Option<Mount>],
    (entries, gone): (&[EntryReport], &[Removed]),
    lock: &Lock,
) -> Result<()> {
    let plan = context.plan;
    // Device of each store, and path of its directory below the file system.
    let places: Vec<Option<(&str, AbsPath)>> = plan
        .manifest
        .stores
        .iter()
        .zip(mounts)
        .map(|(store, mount)| {
            let mount = mount.as_ref()?;
            let point = AbsPath::normal(&mount.point).ok()?;
            let inside = context.sysroot.path.join(&store.path).below(&point)?;
            Some((mount.source.as_str(), AbsPath::normal(&mount.root).ok()?.join(&inside)))
        })
        .collect();
    let mounted = entries.iter().filter(|entry| entry.state == State::Mounted);
    let lines = mounted.filter_map(|entry| {
        let item = plan.item_for(&entry.target, entry.kind)?;
        let (source, root) = places[usize::from(item.entry.store)].as_ref()?;
        Some(utab::Line {
            source,
            target: entry.target.as_str(),
            root: root.join(&entry.source.below(&item.store.path)?),
            hidden: item.entry.hidden,
            trash: item.entry.trash,
        })
    });
    // Announced mounts that failed are removed as well.
    let vain = entries.iter().filter(|entry| !matches!(entry.state, State::Mounted | State::Busy));
    let gone = gone.iter().map(|one| &one.entry).chain(vain).map(|entry| entry.target.as_str());
    utab::update(lock, &lines, &gone)
}
