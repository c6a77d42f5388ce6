//! Targets of entries: the path, the directories above it, and obstacles there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::guard::{self, Guard};
use super::held::{self, Comparison, Held, Room, has_own_disk};
use super::job::Job;
use super::judge;
use super::owner::{Owners, Wanted};
use super::placeholder;
use super::stores::Stores;
use super::tree::Tree;
use super::work::Work;
use crate::manifest::{AbsPath, Entry, Kind, Missing};
use crate::plan::{Action, Plan};
use crate::sys::create::{self, Attributes};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// State of a target before an entry is placed.
pub(super) enum TargetState {
    /// A place to mount on.
    Free(OwnedFd),
    /// The entry is in place, as the root of this mount.
    Done(OwnedFd),
    /// The entry is in place, below the machine id from PID 1.
    BelowFirstId,
    /// A file that `--adopt` copies to the store, if necessary.
    Unstored,
}

/// The directory of a target, created with everything above.
pub(super) fn parent<'t>(
    plan: &Plan<'_>,
    job: Job<'_>,
    tree: &'t mut Tree,
    stores: &Stores,
    owners: &mut Owners<'_>,
) -> Result<BorrowedFd<'t>> {
    let (item, own_path) = (job.item, job.item.entry.source.is_none());
    let store = stores.usable(item.entry).filter(|_| own_path);
    let (fresh, setgid) = (tree.is_new(), &mut tree.setgid);
    tree.cursor.enter(job.target.folder(), &mut |dir, name, path| {
        // The directory at the same path on the store is the model, except for directories with the same attributes on
        // every system.
        let model = store
            .filter(|_| !plan.parents.is_system(path))
            .map_or(Ok(None), |store| store.cursor.looked(path))
            .map_err(|errno| Problem::os("cannot look at the store", errno))?;
        let waits = model.is_some() && owners.waits(&item.store.path, path);
        let rule = || plan.parents.of(path);
        let mut attributes = || match model {
            Some(stat) => Attributes { uid: stat.uid(), gid: stat.gid(), mode: stat.mode(), pending: waits },
            None => owners.attributes(&Wanted::of_parent(&rule())),
        };
        let failed = |errno| walk::explain(dir, path, errno, "a directory");
        if fresh {
            let attributes = attributes();
            let made = if attributes.pending {
                None
            } else {
                let made = create::fresh_directory(dir, name, &attributes, *setgid).map_err(failed)?;
                *setgid |= attributes.mode & 0o2000 != 0;
                made
            };
            if let Some(fd) = made {
                return Ok(fd);
            }
        }
        let node = create::directory(dir, name, Mounts::Enter, &mut attributes).map_err(failed)?;
        owners
            .note(&node, (dir, name), (&AbsPath::root(), path), &Wanted::of_parent(&rule()))
            .map_err(|errno| Problem::os(format!("cannot look at {}", escape::name(path)), errno))?;
        Ok(node.fd)
    })
}

impl Work<'_> {
    /// The directory of a target, created with everything above.
    pub(super) fn parent(&mut self, job: Job<'_>) -> Result<BorrowedFd<'_>> {
        parent(self.context.plan, job, &mut self.tree, &self.stores, &mut self.owners)
    }

    /// Opens the mount point at the target, created if missing; `source` is none for a guard.
    pub(super) fn examine(&mut self, job: Job<'_>, source: Option<&Stat>) -> Result<TargetState> {
        let (item, target) = (job.item, job.target);
        let directory = item.entry.kind == Kind::Directory;
        let guards = self.guard.identities();
        let dir = self.parent(job)?;
        let name = target.name();
        let failed = |errno| {
            walk::explain(dir, target.as_str(), errno, if directory { "a directory" } else { "a file" })
        };
        // Mode 000: without its mount the mount point is a guard.
        let made = if directory {
            rustix::fs::mkdirat(dir, name, Mode::empty())
                .and_then(|()| walk::directory(dir, name, Mounts::Enter))
        } else {
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, new, Mode::empty())
        };
        let stat = match made {
            Ok(place) => return Ok(TargetState::Free(place)),
            Err(Errno::EXIST) => walk::stat_at(dir, name).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        };
        fits(job, source, (dir, &stat))?;
        let place = walk::look(dir, name, Mounts::Enter).map_err(failed)?;
        if stat.is_mount_root() {
            let guarded = guards.contains(&Some(stat.identity()));
            match source {
                Some(source) if source.identity() == stat.identity() => return Ok(TargetState::Done(place)),
                // Another file system on a disk needs no guard.
                None if guarded || !judge::is_in_memory(place.as_fd()) => {
                    return Ok(TargetState::Done(place));
                }
                _ => {}
            }
            if source.is_some() && !guarded {
                let mount = mountinfo::of(place.as_fd()).unwrap_or_default();
                if is_first_id(item.entry, &mount)? {
                    return Ok(TargetState::BelowFirstId);
                }
                return Err(Problem::new(format!(
                    "something else is mounted there: {}, {}",
                    mount.shown(),
                    escape::name(&mount.root)
                ))
                .remedy("unmount it, or take the entry out of the manifest"));
            }
            if guarded {
                drop(place);
                return self.below_guard(job, source);
            }
        }
        let dir = walk::duplicate(dir).map_err(failed)?;
        self.uncovered(job, source, place, (dir.as_fd(), &stat))
    }

    /// The mount point below the guard of an earlier run. On a running system the guard stays if a mount would hide
    /// data.
    fn below_guard(&mut self, job: Job<'_>, source: Option<&Stat>) -> Result<TargetState> {
        let target = job.target;
        if !self.context.sysroot.is_live() {
            // The mounts below appear again without the guard.
            placeholder::remove(&mut self.tree, &mut self.guard, target)?;
            return self.examine(job, source);
        }
        let covered = self.tree.look(target)?.and_then(|(dir, _)| guard::covered(dir.as_fd(), target.name()));
        let state = covered.map(|(dir, place, stat)| {
            fits(job, source, (dir.as_fd(), &stat))?;
            self.uncovered(job, source, place, (dir.as_fd(), &stat))
        });
        let state = state.transpose()?;
        placeholder::remove(&mut self.tree, &mut self.guard, target)?;
        let below = self.tree.look(target)?.filter(|(_, stat)| !stat.is_mount_root());
        match (state, below) {
            (Some(TargetState::Free(_)), Some((parent, _))) => {
                let place = walk::look(parent.as_fd(), target.name(), Mounts::Enter)
                    .map_err(|errno| Problem::os(format!("cannot look at {target}"), errno))?;
                Ok(TargetState::Free(place))
            }
            (Some(state), Some(_)) => Ok(state),
            // Another mount was below the guard.
            _ => self.examine(job, source),
        }
    }

    /// The mount point without covering mounts, unless a mount would hide data there.
    fn uncovered(
        &mut self,
        job: Job<'_>,
        source: Option<&Stat>,
        place: OwnedFd,
        (dir, stat): (BorrowedFd<'_>, &Stat),
    ) -> Result<TargetState> {
        let (target, live) = (job.target, self.context.sysroot.is_live());
        // A part of a mount above: a second mount of the same file hides no data.
        if source.is_some_and(|source| source.identity() == stat.identity()) {
            return Ok(TargetState::Free(place));
        }
        let failed = |errno| Problem::os(format!("cannot look at {target}"), errno);
        let held = Held::at(dir, target.name(), stat).map_err(failed)?;
        if held.is_some() && stat.is_dir() && source.is_some() && !live {
            self.tree.keep_inner(self.context.sysroot, target)?;
        }
        let Some(mut held) = held else { return Ok(TargetState::Free(place)) };
        // Of a running system, a guard would hide entries in use.
        let room = Room { plan: self.context.plan, stores: &self.stores, tree: &self.tree };
        if stat.is_dir() {
            let others = room.others(place.as_fd(), target, source.is_some() || !live).map_err(failed)?;
            let Some(words) = held::in_words(place.as_fd(), others) else {
                return Ok(TargetState::Free(place));
            };
            held.words = words;
        }
        match source.map(|source| held::compare(self.context.left(job), job, source, &held, &self.stores)) {
            Some(Comparison::Stored) if live && held.is_written() => return Ok(TargetState::Unstored),
            Some(Comparison::Stored) => return Ok(TargetState::Free(place)),
            Some(Comparison::Newer) if live => return Ok(TargetState::Unstored),
            Some(Comparison::Newer | Comparison::Different) | None => {}
        }
        let problem = Problem::new(format!("the target holds {}, which mounting would hide", held.words));
        // No service has the file open yet, and data written there would be lost.
        let is_guarded_all_the_same = self.context.guards_required && source.is_none();
        let persists = has_own_disk(self.tree.root(), place.as_fd());
        if is_guarded_all_the_same && persists {
            return Ok(TargetState::Done(place));
        }
        if live && !is_guarded_all_the_same {
            let or = if persists { "it persists: take the entry out, or " } else { "" };
            return Err(problem.remedy(format!("{or}copy it to {} first, then move it away", job.stored())));
        }
        self.problems.warn(problem.at(target.to_string()).remedy("move it to the store, or remove it"));
        Ok(TargetState::Free(place))
    }

    /// Mounts the guard at the target of an entry, or of a file matched by its pattern.
    pub(super) fn guard(&mut self, job: Job<'_>) -> Result<()> {
        if job.is_pattern() {
            return Ok(());
        }
        let TargetState::Free(place) = self.examine(job, None)? else {
            self.changes.unchanged += usize::from(job.item.action != Action::Skip);
            return Ok(());
        };
        self.mount_guard(job.target, place.as_fd())
    }

    /// Mounts a guard on `place`, the open file at a path.
    fn mount_guard(&mut self, path: &AbsPath, place: BorrowedFd<'_>) -> Result<()> {
        let stat = walk::stat(place).map_err(|errno| Problem::os("cannot look at the target", errno))?;
        let parent = self.tree.parent(path)?;
        let node = self.guard.node(stat.is_dir())?;
        self.tree
            .bind(node.as_fd(), (parent.as_fd(), path.name()), place, Guard::OPTIONS, false)
            .map_err(|problem| problem.during("cannot guard it"))?;
        self.changes.mounted.push(path.clone());
        self.tree.cursor.forget(path.as_str());
        Ok(())
    }

    /// Mounts the guard at the path of an absent store, unless a file system is mounted there or above.
    pub(super) fn guard_store(&mut self, path: &AbsPath) -> Result<()> {
        let (plan, root) = (self.context.plan, self.tree.mount_id()?);
        let is_on_root = |dir: BorrowedFd<'_>| walk::mount_id(dir).map(|id| id == root);
        let mut is_elsewhere = false;
        let found = self.tree.cursor.enter(path.as_str(), &mut |dir, name, path| {
            let mut open = || {
                if !is_on_root(dir)? {
                    is_elsewhere = true;
                    return Err(Errno::XDEV);
                }
                let mode = plan.parents.of(path).mode();
                create::directory(dir, name, Mounts::Enter, &mut || Attributes::root(mode))
                    .map(|node| node.fd)
            };
            open().map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        let place = match found {
            Err(_) if is_elsewhere => return Ok(()),
            found => {
                walk::duplicate(found?).map_err(|errno| Problem::os("cannot keep a directory open", errno))?
            }
        };
        let failed = |errno| Problem::os("cannot look at it", errno);
        if !is_on_root(place.as_fd()).map_err(failed)? {
            return Ok(());
        }
        // Existing data would be hidden.
        if let Some(name) = walk::names(place.as_fd(), 1).map_err(failed)?.first() {
            let shown = escape::name(name.as_bytes());
            return Err(Problem::new(format!("it is not guarded, as it holds `{shown}`"))
                .remedy("what is written there is not on the store"));
        }
        self.mount_guard(path, place.as_fd())
    }
}

/// Refuses a file at a target on which neither an entry nor a guard can be mounted.
fn fits(job: Job<'_>, source: Option<&Stat>, (dir, stat): (BorrowedFd<'_>, &Stat)) -> Result<()> {
    let directory = job.item.entry.kind == Kind::Directory;
    let fits = if directory { stat.is_dir() } else { stat.is_file() };
    if stat.is_symlink() || (source.is_some() && !fits) {
        let wanted = if directory { "a directory" } else { "a regular file" };
        return Err(walk::wrong_type(dir, job.target.as_str(), stat, wanted));
    }
    Ok(())
}

/// True for the mount of PID 1 over /etc/machine-id on a first boot, from /run, until
/// systemd-machine-id-commit.service writes the id to the file below the mount.
pub fn is_first_id(entry: &Entry, mount: &mountinfo::Mount) -> Result<bool> {
    if entry.missing != Missing::MachineId || mount.fstype != "tmpfs" || mount.root != "/machine-id" {
        return Ok(false);
    }
    Ok(mountinfo::all()?.iter().any(|below| below.point == mount.point && below.id != mount.id))
}
