//! Targets of entries: the path, the directories above it, and obstacles there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::guard::{self, Guard};
use super::held::{Comparison, Held, has_own_disk};
use super::judge;
use super::owner::{self, Wanted};
use super::placeholder;
use super::worker::{Worker, is_pattern};
use crate::manifest::parents::Said;
use crate::manifest::{AbsPath, Entry, Kind, Missing};
use crate::plan::{Action, Item};
use crate::sys::create::{self, Attributes};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

/// State of a target before an entry is placed.
pub(super) enum Spot {
    /// A place to mount on.
    Free(OwnedFd),
    /// The entry is in place, as the root of this mount.
    Done(OwnedFd),
    /// The entry is in place, below the machine id that PID 1 made up.
    BelowFirstId,
    /// A file is there that `--adopt` brings to the store once more, if need be.
    Stands,
}

impl Worker<'_, '_> {
    /// The directory that holds a target, with everything above it created.
    pub(super) fn parent(&mut self, item: &Item<'_>, target: &AbsPath) -> Result<BorrowedFd<'_>> {
        let own_path = item.entry.source.is_none();
        let store = self.stores[usize::from(item.entry.store)].as_ref().ok().filter(|_| own_path);
        let (plan, names, pending) = (self.plan, &mut self.names, &mut self.pending);
        let fresh = self.tree.is_new();
        let setgid = &mut self.tree.setgid;
        self.tree.cursor.enter(target.folder(), &mut |dir, name, path| {
            let said = plan.parents.of(path);
            let wanted = Wanted::of_parent(&said);
            // The directory at the same path on the store is the model; but one that is the same on every system
            // does not follow the store.
            let model = store.filter(|_| !matches!(said, Said::System(_)));
            let model = model
                .map_or(Ok(None), |store| store.cursor.looked(path))
                .map_err(|errno| Problem::os("cannot look at the store", errno))?;
            let waits = model.is_some()
                && pending.iter().any(|one| one.base == item.store.path && one.path.as_str() == path);
            let mut attributes = || match model {
                Some(stat) => {
                    Attributes { uid: stat.uid(), gid: stat.gid(), mode: stat.mode(), pending: waits }
                }
                None => wanted.attributes(names),
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
            owner::note(&node, (dir, name), (&AbsPath::root(), path), &wanted, names, pending)
                .map_err(|errno| Problem::os(format!("cannot look at {}", escape::name(path)), errno))?;
            Ok(node.fd)
        })
    }

    /// Opens the mount point at the target, created if it is missing. `from` is the source, by its path on the store; none for
    /// a guard.
    pub(super) fn spot(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        from: Option<(&AbsPath, &Stat)>,
    ) -> Result<Spot> {
        let source = from.map(|(_, stat)| stat);
        let directory = item.entry.kind == Kind::Directory;
        let guards = self.guard.identities();
        let dir = self.parent(item, target)?;
        let name = target.name();
        let failed = |errno| {
            walk::explain(dir, target.as_str(), errno, if directory { "a directory" } else { "a file" })
        };
        // Mode 000, so that it guards itself should the mount ever go away.
        let made = if directory {
            rustix::fs::mkdirat(dir, name, Mode::empty())
                .and_then(|()| walk::directory(dir, name, Mounts::Enter))
        } else {
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, new, Mode::empty())
        };
        let stat = match made {
            Ok(place) => return Ok(Spot::Free(place)),
            Err(Errno::EXIST) => walk::stat_at(dir, name).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        };
        fits(item, target, source, (dir, &stat))?;
        let place = walk::look(dir, name, Mounts::Enter).map_err(failed)?;
        if stat.is_mount_root() {
            let guarded = guards.contains(&Some(stat.identity()));
            match source {
                Some(source) if source.identity() == stat.identity() => return Ok(Spot::Done(place)),
                // Another file system on a disk needs no guard.
                None if guarded || !judge::is_in_memory(place.as_fd()) => return Ok(Spot::Done(place)),
                _ => {}
            }
            if source.is_some() && !guarded {
                let mount = mountinfo::of(place.as_fd()).unwrap_or_default();
                if is_first_id(item.entry, &mount)? {
                    return Ok(Spot::BelowFirstId);
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
                return self.below_guard(item, target, from);
            }
        }
        let dir = walk::again(dir).map_err(failed)?;
        self.uncovered(item, target, from, place, (dir.as_fd(), &stat))
    }

    /// The place to mount on below the guard of an earlier run. The guard stays as long as a mount would hide something.
    fn below_guard(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        from: Option<(&AbsPath, &Stat)>,
    ) -> Result<Spot> {
        let covered = self.tree.look(target)?.and_then(|(dir, _)| guard::covered(dir.as_fd(), target.name()));
        let spot = covered.map(|(dir, place, stat)| {
            fits(item, target, from.map(|(_, stat)| stat), (dir.as_fd(), &stat))?;
            self.uncovered(item, target, from, place, (dir.as_fd(), &stat))
        });
        let spot = spot.transpose()?;
        placeholder::remove(self, target)?;
        let below = self.tree.look(target)?.filter(|(_, stat)| !stat.is_mount_root());
        match (spot, below) {
            (Some(Spot::Free(_)), Some((parent, _))) => {
                let place = walk::look(parent.as_fd(), target.name(), Mounts::Enter)
                    .map_err(|errno| Problem::os(format!("cannot look at {target}"), errno))?;
                Ok(Spot::Free(place))
            }
            (Some(spot), Some(_)) => Ok(spot),
            // Another mount was below the guard.
            _ => self.spot(item, target, from),
        }
    }

    /// The place to mount on where no mount covers it, unless a mount would hide something there.
    fn uncovered(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        from: Option<(&AbsPath, &Stat)>,
        place: OwnedFd,
        (dir, stat): (BorrowedFd<'_>, &Stat),
    ) -> Result<Spot> {
        let (source, live) = (from.map(|(_, stat)| stat), self.sysroot.is_live());
        // A part of what is mounted above: mounting it once more hides nothing.
        if source.is_some_and(|source| source.identity() == stat.identity()) {
            return Ok(Spot::Free(place));
        }
        let held = Held::at(dir, target.name(), stat)
            .map_err(|errno| Problem::os(format!("cannot look at {target}"), errno))?;
        if held.is_some() && stat.is_dir() && source.is_some() && !live {
            self.tree.keep_inner(self.sysroot, target)?;
        }
        // Of a running system, a guard would hide entries that are in use.
        let sources = source.is_some() || !live;
        if let Some(held) =
            held.filter(|_| !(stat.is_dir() && self.has_entries_only(place.as_fd(), target, sources)))
        {
            match from.map(|(path, source)| self.compare(item, (target, path), source, &held)) {
                Some(Comparison::Stored) if live && held.is_written() => return Ok(Spot::Stands),
                Some(Comparison::Stored) => return Ok(Spot::Free(place)),
                Some(Comparison::Newer) if live => return Ok(Spot::Stands),
                Some(Comparison::Newer | Comparison::Different) | None => {}
            }
            let words = &held.words;
            let problem = Problem::new(format!("the target holds {words}, which mounting would hide"));
            // No service has it open yet, and what one would write there would be lost.
            let is_guarded_all_the_same = self.guards_required && source.is_none();
            if is_guarded_all_the_same && has_own_disk(self.tree.root(), place.as_fd()) {
                return Ok(Spot::Done(place));
            }
            if live && !is_guarded_all_the_same {
                return Err(problem.remedy(format!(
                    "copy it to {} first, then move it away",
                    item.store.path.join(item.entry.source())
                )));
            }
            self.warnings.push(problem.at(target.to_string()).remedy("move it to the store, or remove it"));
        }
        Ok(Spot::Free(place))
    }

    /// Mounts the guard at the target of an entry, or of a file that its pattern matched.
    pub(super) fn guard(&mut self, item: &Item<'_>, target: &AbsPath) -> Result<()> {
        if is_pattern(item.entry, target) {
            return Ok(());
        }
        let Spot::Free(place) = self.spot(item, target, None)? else {
            self.unchanged += usize::from(item.action != Action::Skip);
            return Ok(());
        };
        self.mount_guard(target, place.as_fd())
    }

    /// Mounts a guard on `place`, which is what was opened at a path.
    fn mount_guard(&mut self, path: &AbsPath, place: BorrowedFd<'_>) -> Result<()> {
        let stat = walk::stat(place).map_err(|errno| Problem::os("cannot look at the target", errno))?;
        let parent = self.tree.parent(path)?;
        let node = self.guard.node(stat.is_dir())?;
        self.tree
            .bind(node.as_fd(), (parent.as_fd(), path.name()), place, Guard::OPTIONS, false)
            .map_err(|problem| problem.during("cannot guard it"))?;
        self.mounted.push(path.clone());
        self.tree.cursor.forget(path.as_str());
        Ok(())
    }

    /// Mounts the guard at the path of a store that is left out, unless something is mounted there or above.
    pub(super) fn guard_store(&mut self, path: &AbsPath) -> Result<()> {
        let (plan, root) = (self.plan, self.tree.mount_id()?);
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
            found => walk::again(found?).map_err(|errno| {
                Problem::new(format!("cannot keep a directory open: {}", describe(errno)))
            })?,
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

/// Refuses something at a target that an entry, or for want of one a guard, cannot be mounted on.
fn fits(
    item: &Item<'_>,
    target: &AbsPath,
    source: Option<&Stat>,
    (dir, stat): (BorrowedFd<'_>, &Stat),
) -> Result<()> {
    let directory = item.entry.kind == Kind::Directory;
    let fits = if directory { stat.is_dir() } else { stat.is_file() };
    if stat.is_symlink() || (source.is_some() && !fits) {
        let wanted = if directory { "a directory" } else { "a regular file" };
        return Err(walk::wrong_type(dir, target.as_str(), stat, wanted));
    }
    Ok(())
}

/// True if this is what PID 1 mounts over /etc/machine-id on a first boot, from its /run, until
/// systemd-machine-id-commit.service writes it to what is mounted below.
pub fn is_first_id(entry: &Entry, mount: &mountinfo::Mount) -> Result<bool> {
    if entry.missing != Missing::MachineId || mount.fstype != "tmpfs" || mount.root != "/machine-id" {
        return Ok(false);
    }
    Ok(mountinfo::all()?.iter().any(|below| below.point == mount.point && below.id != mount.id))
}
