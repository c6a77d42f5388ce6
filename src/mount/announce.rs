//! Lines in utab for the mounts of a run.

use super::job::{Context, Job, Removed};
use super::problems::Problems;
use super::utab::{self, WITHOUT_UTAB};
use crate::manifest::{AbsPath, Entry, Method};
use crate::runtime::lock::Lock;
use crate::runtime::report::{EntryReport, State};
use crate::sys::mountinfo::Mount;
use crate::text::problem::Result;

/// Input of the lines of a running system.
#[derive(Clone, Copy)]
pub struct Announce<'a> {
    /// Mount of each store; none in the initrd, where PID 1 sees a new root as a whole.
    pub mounts: Option<&'a [Option<Mount>]>,
    /// Proof of the lock, held by this run alone.
    pub lock: &'a Lock,
}

impl Announce<'_> {
    /// Writes the lines of future mounts: of entries not mounted before, or with `again` of entries mounted before,
    /// because umount(8) removes the line with the mount. A line without a mount has no effect.
    ///
    /// PID 1 unmounts a mount without a line at shutdown. During frequent changes PID 1 reads the mounts once a
    /// second; after a line first read during shutdown, PID 1 drops the queued unmount jobs, and waits for them
    /// forever.
    pub fn before(
        &self,
        context: &Context<'_>,
        jobs: &mut dyn Iterator<Item = Job<'_>>,
        again: bool,
        problems: &mut Problems,
    ) {
        let Some(mounts) = self.mounts else { return };
        let mut wanted = Vec::new();
        for job in jobs {
            let was_mounted = match context.previous.state(job.target) {
                Some(State::Mounted | State::Busy) => true,
                // A link stays on a running system.
                Some(State::Linked) => continue,
                _ => false,
            };
            // A pattern has no mount of its own.
            if was_mounted == again && job.item.entry.method == Method::Bind && !job.is_pattern() {
                wanted.push(job.report(State::Mounted, String::new()));
            }
        }
        if let Err(problem) = after(context, mounts, (&wanted, &[]), self.lock) {
            problems.warn(problem.remedy(WITHOUT_UTAB));
        }
    }
}

/// Writes the lines of mounted entries, and removes the lines of removed mounts.
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
    let mut lines = Vec::with_capacity(entries.len());
    let mut gone: Vec<_> = gone.iter().map(|one| one.entry.target.as_str()).collect();
    for entry in entries {
        let target = entry.target.as_str();
        match entry.state {
            State::Mounted => {
                let Some(item) = plan.item_for(&entry.target, entry.kind) else { continue };
                let Some((source, root)) = &places[usize::from(item.entry.store)] else { continue };
                let Some(inside) = entry.source.below(&item.store.path) else { continue };
                let Entry { hidden, trash, .. } = *item.entry;
                lines.push(utab::Line { source, target, root: root.join(&inside), hidden, trash });
            }
            // The line of a missing file would be written again by every run.
            State::Busy | State::Absent => {}
            // The lines of failed mounts are removed as well.
            _ => gone.push(target),
        }
    }
    utab::update(lock, &lines, &gone)
}
