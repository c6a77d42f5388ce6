//! Sources of entries on their stores: presence, type, owner and mode.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::entry::{Checker, in_the_way};
use super::status::{Status, Verdict};
use crate::manifest::{AbsPath, Kind, Method, Missing};
use crate::mount::store::Opened;
use crate::plan::Item;
use crate::runtime::versions::{self, Version};
use crate::sys::create;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, is_damage};

impl Checker<'_, '_> {
    /// The source on the store, if it exists. Nothing is created.
    pub(super) fn source(&mut self, item: &Item<'_>, path: &AbsPath) -> Result<Option<Stat>, Verdict> {
        let entry = item.entry;
        let Some(store) = &mut self.stores[usize::from(entry.store)] else {
            return Err((Status::NotMounted, format!("the store {} is not there", item.store.path)));
        };
        let Some(parent) = path.parent() else { return Ok(walk::stat(store.cursor.base()).ok()) };
        let Some(dir) = Self::folder(store, item, &parent)? else { return Ok(None) };
        let shown = item.store.path.join_text(path.as_str());
        let directory = entry.kind == Kind::Directory;
        let wanted = if directory { "a directory" } else { "a regular file" };
        let fd = match walk::look(dir, path.name(), Mounts::Stay) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::ACCESS) => return Err(not_allowed()),
            Err(errno) => return Err(wrong(&walk::explain(dir, &shown, errno, wanted))),
        };
        let stat =
            walk::stat(fd.as_fd()).map_err(|errno| wrong(&walk::explain(dir, &shown, errno, wanted)))?;
        let fits = if directory { stat.is_dir() } else { stat.is_file() || entry.method == Method::Copy };
        if fits { Ok(Some(stat)) } else { Err(wrong(&walk::wrong_type(dir, &shown, &stat, wanted))) }
    }

    /// A directory on a store; none if missing.
    pub(super) fn folder<'s>(
        store: &'s mut Opened,
        item: &Item<'_>,
        path: &AbsPath,
    ) -> Result<Option<BorrowedFd<'s>>, Verdict> {
        let dir = store.cursor.enter(path.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Stay).map_err(|errno| {
                walk::explain(dir, &item.store.path.join_text(path), errno, "a directory").caused_by(errno)
            })
        });
        match dir {
            Ok(dir) => Ok(Some(dir)),
            Err(problem) => match problem.errno {
                Some(Errno::NOENT) => Ok(None),
                Some(Errno::ACCESS) => Err(not_allowed()),
                _ => Err(wrong(&problem)),
            },
        }
    }

    /// The verdict on an entry whose source is missing.
    pub(super) fn without_source(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Verdict {
        let entry = item.entry;
        let missing = |detail: &str| (Status::Missing, detail.to_owned());
        if entry.kind == Kind::Directory {
            return missing("the store does not hold it yet; the next run creates it");
        }
        let text = item.store.path.join(source);
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        // A target without access has neither a link nor a file: the entry is missing.
        let dir = dir.ok();
        let seen = dir.and_then(|dir| walk::stat_at(dir, target.name()).ok());
        let link = dir.and_then(|dir| rustix::fs::readlinkat(dir, target.name(), Vec::new()).ok());
        let is_our_link = link.is_some_and(|link| link.as_bytes() == text.as_str().as_bytes());
        let above = dir.and_then(|dir| walk::stat(dir).ok());
        let is_in_place = target.name() == source.name()
            && above.is_some_and(|above| self.is_folder(item, source, above.identity()));
        match (entry.missing, seen) {
            (_, Some(_)) if is_our_link => {
                (Status::Ok, "a link stands for it, as the store does not hold it yet".to_owned())
            }
            (missing, Some(seen))
                if missing != Missing::Fail
                    && self
                        .report
                        .versions(target, &text)
                        .is_some_and(|left| left.root == Some(Version::of(&seen))) =>
            {
                (
                    Status::Ok,
                    "removed from the store since it was copied, so the next boot does not bring it"
                        .to_owned(),
                )
            }
            (_, Some(seen)) if seen.is_file() && (seen.mode(), seen.size()) != (0, 0) => {
                (Status::Replaced, "it is on the root only; --adopt brings it to the store".to_owned())
            }
            (_, Some(seen)) if !seen.is_file() => in_the_way(&seen),
            (Missing::Skip, _) => (Status::Ok, "left out, as the store does not hold it".to_owned()),
            (Missing::Link, None) if entry.method == Method::Copy => {
                (Status::Ok, "nothing to copy yet".to_owned())
            }
            (Missing::Link, None) if is_in_place => {
                (Status::Ok, "not there yet; the directory that it is in comes from the store".to_owned())
            }
            (Missing::Fail, _) => {
                missing("the store does not hold it, and `missing` is `fail`: bring it there")
            }
            (Missing::Link, _) => missing("the store does not hold it yet; the next run places a link"),
            _ => missing("the store does not hold it yet; the next run creates it"),
        }
    }

    /// Tells if the directory of a source on the store has this identity.
    fn is_folder(&self, item: &Item<'_>, source: &AbsPath, identity: Identity) -> bool {
        let (Some(store), Some(folder)) = (&self.stores[usize::from(item.entry.store)], source.parent())
        else {
            return false;
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        walk::open_below(store.cursor.base(), &folder, flags, Mounts::Stay)
            .and_then(|dir| walk::stat(dir.as_fd()))
            .is_ok_and(|stat| stat.identity() == identity)
    }

    /// Other versions of a file, kept by write-back beside the store's.
    pub(super) fn conflict(&self, item: &Item<'_>, source: &AbsPath) -> Option<Verdict> {
        let store = self.stores[usize::from(item.entry.store)].as_ref()?;
        let parent = source.parent()?;
        let dir =
            walk::open_below(store.cursor.base(), &parent, OFlags::PATH | OFlags::DIRECTORY, Mounts::Stay);
        let beside = versions::conflicts_beside(dir.ok()?.as_fd(), source.name()).ok()?;
        if beside.is_empty() {
            return None;
        }
        let versions = versions::listed(&item.store.path, source, &beside);
        let detail = format!("{versions}; compare them, keep one under the first name, remove the others");
        Some((Status::Conflict, detail))
    }

    /// Owner and mode, where the manifest says them.
    pub(super) fn owner(&mut self, item: &Item<'_>, source: &AbsPath, stat: &Stat) -> Verdict {
        let (entry, base) = (item.entry, &item.store.path);
        let recorded = self.report.pending.iter().any(|one| &one.base == base && &one.path == source);
        if recorded || self.is_marked(item, source, stat) {
            let detail = "root's alone until its user exists; imp-mount --settle gives it then";
            return (Status::Pending, detail.to_owned());
        }
        let place = base.join(source);
        self.secret(&place, stat);
        if stat.is_symlink() {
            return (Status::Ok, String::new());
        }
        let place = self.prefix.join(&place);
        let place = escape::shell(place.as_str());
        let otherwise = "set `enforce`, or correct the entry";
        let owner = &entry.owner;
        let user = owner.user.as_ref().and_then(|user| self.names.user(Some(user)));
        let group = owner.group.as_ref().and_then(|group| self.names.group(Some(group)));
        if user.is_some_and(|user| user != stat.uid()) || group.is_some_and(|group| group != stat.gid()) {
            let now = format!("{}:{}", stat.uid(), stat.gid());
            let wanted = format!("{}:{}", user.unwrap_or(stat.uid()), group.unwrap_or(stat.gid()));
            let detail =
                format!("{now}, but the manifest says {wanted}; `chown {wanted} {place}`, {otherwise}");
            return (Status::WrongOwner, detail);
        }
        match owner.mode.filter(|mode| *mode != stat.mode()) {
            Some(mode) => {
                let now = stat.mode();
                let detail = format!(
                    "{now:04o}, but the manifest says {mode:04o}; `chmod {mode:04o} {place}`, {otherwise}"
                );
                (Status::WrongMode, detail)
            }
            None => (Status::Ok, String::new()),
        }
    }

    /// True if a file carries the mark of a pending owner: without a report only the mark tells.
    fn is_marked(&self, item: &Item<'_>, source: &AbsPath, stat: &Stat) -> bool {
        let waiting = if stat.is_dir() { 0o700 } else { 0o600 };
        if (stat.uid(), stat.gid(), stat.mode()) != (0, 0, waiting) || !(stat.is_dir() || stat.is_file()) {
            return false;
        }
        let Some(store) = &self.stores[usize::from(item.entry.store)] else { return false };
        walk::open_below(store.cursor.base(), source, OFlags::RDONLY, Mounts::Stay)
            .is_ok_and(|fd| create::is_pending(fd.as_fd()))
    }

    /// Notes secrets with read access for all users.
    fn secret(&mut self, place: &AbsPath, stat: &Stat) {
        let name = place.name();
        let is_secret = matches!(name, ".ssh" | ".gnupg" | ".password-store" | ".aws" | ".kube" | ".netrc")
            || (name.starts_with("ssh_host_") && name.ends_with("_key"));
        if is_secret && stat.mode() & 0o007 != 0 {
            let now = stat.mode();
            let at = self.prefix.join(place);
            let remedy = format!("`chmod o= {}`", escape::shell(at.as_str()));
            self.notes
                .push(format!("{place} holds secrets, but its mode {now:04o} lets everybody in; {remedy}"));
        }
    }
}

/// Unusable parts of a store, by the reason.
fn wrong(problem: &Problem) -> Verdict {
    let damage = problem.errno.is_some_and(is_damage);
    (if damage { Status::NotMounted } else { Status::WrongSource }, problem.to_string())
}

/// Only root sees everything.
fn not_allowed() -> Verdict {
    (Status::NotMounted, "permission denied; run as root".to_owned())
}
