//! One entry held against what is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::ids::Names;
use crate::manifest::{AbsPath, BindOptions, Entry, Kind, Method, Missing};
use crate::mount::guard::Guard;
use crate::mount::place::{difference, words};
use crate::mount::store::Opened;
use crate::mount::target::is_first_id;
use crate::plan::{Action, Item, Plan};
use crate::runtime::report::{Report, State};
use crate::runtime::versions::{self, Decision, Version};
use crate::sys::create;
use crate::sys::mount_api;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Cursor, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, is_damage};
use crate::transfer::file;

/// State of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It belongs to a later phase.
    Later,
    /// Left out by the kernel command line.
    Skipped,
    /// Only the root has it, and it is brought to the store at shutdown.
    NotYetStored,
    /// It waits for its owner to exist.
    Pending,
    /// Only the root has it, and nothing brings it to the store.
    RootOnly,
    /// The store does not hold it.
    Missing,
    /// Nothing is mounted there.
    NotMounted,
    /// Something else is mounted there, or the source is not what it should be.
    WrongSource,
    /// It is mounted, but something hides it.
    Covered,
    /// A program put a file of its own in its place.
    Replaced,
    /// The root and the store have different versions, and none of them is known to be the older one.
    Conflict,
    /// The source has another owner than the manifest says.
    WrongOwner,
    /// The source has another mode than the manifest says.
    WrongMode,
    /// The mount has other options.
    WrongOptions,
}

impl Status {
    /// In words, as `--check` prints it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Later => "later",
            Self::Skipped => "skipped",
            Self::NotYetStored => "not yet on the store",
            Self::Pending => "pending",
            Self::RootOnly => "on the root only",
            Self::Missing => "missing",
            Self::NotMounted => "not mounted",
            Self::WrongSource => "wrong source",
            Self::Covered => "covered",
            Self::Replaced => "replaced by a file",
            Self::Conflict => "two versions",
            Self::WrongOwner => "wrong owner",
            Self::WrongMode => "wrong mode",
            Self::WrongOptions => "wrong options",
        }
    }

    /// Tells if something must be done about it. What is skipped was asked for; what is pending is guarded by its mode, and
    /// settled once users exist.
    #[must_use]
    pub fn is_problem(self) -> bool {
        self > Self::Pending
    }
}

/// State of one path.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The path, seen from the booted system.
    pub target: AbsPath,
    /// Its path on the store, in the booted system.
    pub source: AbsPath,
    /// Its state.
    pub status: Status,
    /// True if a boot without it stops.
    pub required: bool,
    /// Problem or note.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The system that entries are compared with.
pub struct Checker<'c, 'm> {
    /// The plan.
    pub plan: &'c Plan<'m>,
    /// Walks below the root.
    pub target: Cursor,
    /// The stores, in the manifest's order; none where one cannot be opened.
    pub stores: Vec<Option<Opened>>,
    /// Names and ids.
    pub names: Names<'c>,
    /// Report of the last run.
    pub report: &'c Report,
    /// Form of guards.
    pub guard: Guard,
    /// Notes: facts that are no problem of an entry.
    pub notes: Vec<String>,
    /// The answer to "does a unit run `--adopt` at shutdown?"; none before the question came up.
    pub brought_at_shutdown: Option<bool>,
    /// The mount table in the order of mount points, read when something is not as it should be.
    pub mounts: Option<Vec<Mount>>,
    /// The sysroot's path, with which mount points begin.
    pub prefix: AbsPath,
}

/// A status, and its explanation.
pub(super) type Verdict = (Status, String);

impl Checker<'_, '_> {
    /// Holds one entry against what is there: a line for it, or for every file that its pattern matches.
    pub fn check(&mut self, item: &Item<'_>) -> Vec<Checked> {
        let entry = item.entry;
        let is_open = self.stores[usize::from(entry.store)].is_some();
        if entry.kind != Kind::Glob || item.action != Action::Place || !is_open {
            return vec![self.line(item, &entry.target, entry.source())];
        }
        self.matches(item)
    }

    pub(super) fn checked(item: &Item<'_>, target: &AbsPath, source: &AbsPath, verdict: Verdict) -> Checked {
        Checked {
            target: target.clone(),
            source: item.store.path.join(source),
            status: verdict.0,
            required: item.entry.required && item.store.required,
            detail: verdict.1,
        }
    }

    pub(super) fn line(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Checked {
        let verdict = match item.action {
            Action::Skip => (Status::Skipped, "left out by imp-mount.skip=".to_owned()),
            Action::Off => (Status::Skipped, "left out by imp-mount=off".to_owned()),
            Action::Later => (Status::Later, format!("comes in phase {}", item.entry.phase)),
            Action::Place => {
                let verdict = self.verdict(item, target, source).unwrap_or_else(|verdict| verdict);
                let may_have = item.entry.kind != Kind::Directory
                    && (!verdict.0.is_problem() || verdict.0 == Status::Conflict);
                let kept = if may_have { self.conflict(item, source) } else { None };
                kept.unwrap_or(verdict)
            }
        };
        Self::checked(item, target, source, verdict)
    }

    /// The verdict on an entry that should be in place. What ends it early comes as an error.
    fn verdict(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<Verdict, Verdict> {
        let entry = item.entry;
        let found = match self.source(item, source) {
            Ok(Some(found)) => found,
            Ok(None) if self.is_guarded(target) => return Err(self.guarded(target)),
            Ok(None) => return self.without_source(item, target, source),
            Err((_, detail)) if self.is_guarded(target) => {
                return Err((Status::NotMounted, format!("guarded: {detail}")));
            }
            Err(verdict) => return Err(verdict),
        };
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let not_mounted = |detail: &str| (Status::NotMounted, detail.to_owned());
        let root = (entry.method == Method::Copy).then(|| walk::again(self.target.base()).ok()).flatten();
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        let Ok(dir) = dir else { return Err(self.why_not(target, "its directory is not there")) };
        let name = target.name();
        let Ok(seen) = walk::stat_at(dir, name) else { return Err(self.why_not(target, "nothing is there")) };
        let link = seen.is_symlink().then(|| rustix::fs::readlinkat(dir, name, Vec::new()).ok()).flatten();
        let text = item.store.path.join(source);
        let is_our_link = link.as_ref().is_some_and(|link| link.as_bytes() == text.as_str().as_bytes());
        let shown = link.map(|link| link.to_string_lossy().into_owned());
        match entry.method {
            Method::Symlink if is_our_link => {}
            // In a directory that comes from the store.
            Method::Symlink if seen.identity() == found.identity() => {}
            Method::Symlink | Method::Bind
                if seen.is_file()
                    && !seen.is_mount_root()
                    && (entry.method == Method::Symlink
                        || self.report.state(target) == Some(State::Linked)) =>
            {
                if same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) {
                    return Ok((
                        Status::Ok,
                        "a program put a file in the link's place; the store has it".to_owned(),
                    ));
                }
                return Err(replaced("link"));
            }
            Method::Symlink => return Err(in_the_way(&seen)),
            Method::Copy
                if is_our_link
                    || root.as_ref().zip(shown.as_deref()).is_some_and(|(root, link)| {
                        versions::leads_to(root.as_fd(), &parent, link, found.identity()).unwrap_or(false)
                    }) =>
            {
                return Ok((
                    Status::Ok,
                    "a link stands for it until the next boot, which copies it".to_owned(),
                ));
            }
            Method::Copy if !seen.is_file() && !seen.is_symlink() => return Err(in_the_way(&seen)),
            Method::Copy => {
                if !same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) {
                    return self.changed(item, (target, &seen), (source, &found));
                }
            }
            Method::Bind if is_our_link => {
                return Ok((Status::Ok, "a link stands for it until the next boot".to_owned()));
            }
            Method::Bind if seen.identity() == found.identity() && seen.is_mount_root() => {
                let mount = walk::look(dir, name, Mounts::Enter).map_err(|_| not_mounted("it has gone"))?;
                if let Some(verdict) = self.options(item, &mount) {
                    return Err(verdict);
                }
            }
            Method::Bind if seen.is_mount_root() => {
                let guarded = self.guard.identities().contains(&Some(seen.identity()));
                if guarded {
                    return Err(self.guarded(target));
                }
                let mount =
                    walk::look(dir, name, Mounts::Enter).ok().and_then(|fd| mountinfo::of(fd.as_fd()).ok());
                let mount = mount.unwrap_or_default();
                if is_first_id(entry, &mount).unwrap_or(false) {
                    let detail = "until systemd-machine-id-commit.service has written it, the one that PID 1 made up is over it";
                    return Ok((Status::Ok, detail.to_owned()));
                }
                return Err(self.wrong_mount(target, &text, &mount));
            }
            // Not the store's own file, as on a root that is not converted yet: a copy of it.
            Method::Bind
                if seen.identity() != found.identity()
                    && same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) =>
            {
                let detail = "the store has the same file, which the next run or boot mounts".to_owned();
                return Ok((Status::Ok, detail));
            }
            Method::Bind if seen.is_file() && self.report.versions(target, &text).is_some() => {
                return self.changed(item, (target, &seen), (source, &found));
            }
            Method::Bind => return Err(self.why_not(target, "nothing is mounted there")),
        }
        self.owner(item, source, &found)
    }

    /// The verdict on a file that differs from the store's, from which it was made.
    fn changed(
        &mut self,
        item: &Item<'_>,
        (target, now): (&AbsPath, &Stat),
        (source, found): (&AbsPath, &Stat),
    ) -> Result<Verdict, Verdict> {
        let place = item.store.path.join(source);
        let left = self.report.versions(target, &place);
        match versions::decide(left, Some(Version::of(found)), Version::of(now)) {
            Decision::KeepStore => {
                Ok((Status::Ok, "the store has a newer version, which the next boot brings".to_owned()))
            }
            Decision::Replace | Decision::Bring if item.entry.method == Method::Bind => Ok(self.not_stored()),
            Decision::Replace | Decision::Bring => {
                let how = if self.is_brought() {
                    "--adopt brings it to the store"
                } else {
                    "nothing here brings it to the store at shutdown: run imp-mount --adopt"
                };
                Ok((Status::Ok, format!("changed since it was copied; {how}")))
            }
            Decision::KeepBoth => Err((
                Status::Conflict,
                "it is not the version that was copied, and neither is the store's; --adopt keeps both"
                    .to_owned(),
            )),
        }
    }

    /// Other versions of a file that write-back kept beside the store's.
    fn conflict(&self, item: &Item<'_>, source: &AbsPath) -> Option<Verdict> {
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

    /// The source on the store, if it exists. Nothing is created.
    fn source(&mut self, item: &Item<'_>, path: &AbsPath) -> Result<Option<Stat>, Verdict> {
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

    /// A directory on a store; none where it is not there.
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

    fn without_source(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        source: &AbsPath,
    ) -> Result<Verdict, Verdict> {
        let entry = item.entry;
        let missing = |detail: &str| (Status::Missing, detail.to_owned());
        if entry.kind == Kind::Directory {
            return Err(missing("the store does not hold it yet; the next run creates it"));
        }
        let text = item.store.path.join(source);
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        // A target that cannot be opened has neither a link nor a file of its own: the entry is missing.
        let dir = dir.ok();
        let seen = dir.and_then(|dir| walk::stat_at(dir, target.name()).ok());
        let link = dir.and_then(|dir| rustix::fs::readlinkat(dir, target.name(), Vec::new()).ok());
        let is_our_link = link.is_some_and(|link| link.as_bytes() == text.as_str().as_bytes());
        let above = dir.and_then(|dir| walk::stat(dir).ok());
        let is_in_place = target.name() == source.name()
            && above.is_some_and(|above| self.is_folder(item, source, above.identity()));
        match (entry.missing, seen) {
            (_, Some(_)) if is_our_link => {
                Ok((Status::Ok, "a link stands for it, as the store does not hold it yet".to_owned()))
            }
            (missing, Some(seen))
                if missing != Missing::Fail
                    && self
                        .report
                        .versions(target, &text)
                        .is_some_and(|left| left.root == Some(Version::of(&seen))) =>
            {
                Ok((
                    Status::Ok,
                    "removed from the store since it was copied, so the next boot does not bring it"
                        .to_owned(),
                ))
            }
            (_, Some(seen)) if seen.is_file() && (seen.mode(), seen.size()) != (0, 0) => {
                Err((Status::Replaced, "it is on the root only; --adopt brings it to the store".to_owned()))
            }
            (_, Some(seen)) if !seen.is_file() => Err(in_the_way(&seen)),
            (Missing::Skip, _) => Ok((Status::Ok, "left out, as the store does not hold it".to_owned())),
            (Missing::Link, None) if entry.method == Method::Copy => {
                Ok((Status::Ok, "nothing to copy yet".to_owned()))
            }
            (Missing::Link, None) if is_in_place => {
                Ok((Status::Ok, "not there yet; the directory that it is in comes from the store".to_owned()))
            }
            (Missing::Fail, _) => {
                Err(missing("the store does not hold it, and `missing` is `fail`: bring it there"))
            }
            (Missing::Link, _) => Err(missing("the store does not hold it yet; the next run places a link")),
            _ => Err(missing("the store does not hold it yet; the next run creates it")),
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

    fn options(&mut self, item: &Item<'_>, mount: &OwnedFd) -> Option<Verdict> {
        let inherited = self.stores[usize::from(item.entry.store)].as_ref()?.options;
        let now = mount_api::options_of(mount.as_fd()).ok()?;
        let (lacks, has) = difference(now, inherited, item.entry.options);
        if (lacks, has) == (BindOptions::NONE, BindOptions::NONE) {
            return None;
        }
        let part = |what: &str, options| {
            (options != BindOptions::NONE).then(|| format!("{what} {}", words(options)))
        };
        let parts: Vec<_> =
            [part("it lacks", lacks), part("it should not have", has)].into_iter().flatten().collect();
        Some((Status::WrongOptions, parts.join(", ")))
    }

    /// Owner and mode, where the manifest says them.
    fn owner(&mut self, item: &Item<'_>, source: &AbsPath, stat: &Stat) -> Result<Verdict, Verdict> {
        let (entry, base) = (item.entry, &item.store.path);
        let recorded = self.report.pending.iter().any(|one| &one.base == base && &one.path == source);
        if recorded || self.is_marked(item, source, stat) {
            let detail = "root's alone until its user exists; imp-mount --settle gives it then";
            return Err((Status::Pending, detail.to_owned()));
        }
        let place = base.join(source);
        self.secret(&place, stat);
        if stat.is_symlink() {
            return Ok((Status::Ok, String::new()));
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
            return Err((Status::WrongOwner, detail));
        }
        match owner.mode.filter(|mode| *mode != stat.mode()) {
            Some(mode) => {
                let now = stat.mode();
                let detail = format!(
                    "{now:04o}, but the manifest says {mode:04o}; `chmod {mode:04o} {place}`, {otherwise}"
                );
                Err((Status::WrongMode, detail))
            }
            None => Ok((Status::Ok, String::new())),
        }
    }

    /// True if something carries the mark of what waits for its owner: where a report is lost, only that tells.
    fn is_marked(&self, item: &Item<'_>, source: &AbsPath, stat: &Stat) -> bool {
        let waiting = if stat.is_dir() { 0o700 } else { 0o600 };
        if (stat.uid(), stat.gid(), stat.mode()) != (0, 0, waiting) || !(stat.is_dir() || stat.is_file()) {
            return false;
        }
        let Some(store) = &self.stores[usize::from(item.entry.store)] else { return false };
        walk::open_below(store.cursor.base(), source, OFlags::RDONLY, Mounts::Stay)
            .is_ok_and(|fd| create::is_pending(fd.as_fd()))
    }

    /// Notes secrets that everybody can read.
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

    fn is_guarded(&mut self, target: &AbsPath) -> bool {
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        let seen = dir.ok().and_then(|dir| walk::stat_at(dir, target.name()).ok());
        seen.is_some_and(|seen| self.guard.identities().contains(&Some(seen.identity())))
    }

    /// Why a run guarded it.
    fn guarded(&self, target: &AbsPath) -> Verdict {
        let why = self.report.entries.iter().find(|one| one.target == *target).map(|one| one.why.as_str());
        let why = why.filter(|why| !why.is_empty()).unwrap_or("the run says why");
        let why = why.strip_prefix(&format!("{target}: ")).unwrap_or(why);
        (Status::NotMounted, format!("guarded: {why}"))
    }

    /// Why nothing of ours is seen at a target: something may have been mounted over it, or above it.
    fn why_not(&mut self, target: &AbsPath, otherwise: &str) -> Verdict {
        let prefix = self.prefix.clone();
        let mounts = self.mounts();
        if mounts_at(mounts, prefix.join(target).as_str()).is_empty() {
            return (Status::NotMounted, otherwise.to_owned());
        }
        match target.ancestors().find_map(|above| mounts_at(mounts, &prefix.join_text(above)).last()) {
            Some(over) => {
                let (by, point) = (over.shown(), escape::name(&over.point));
                (Status::Covered, format!("by {by}, mounted at {point}"))
            }
            None => (Status::Covered, "by the root that was mounted over it".to_owned()),
        }
    }

    /// Another mount is seen: ours may be below it.
    fn wrong_mount(&mut self, target: &AbsPath, source: &AbsPath, seen: &Mount) -> Verdict {
        let shown = format!("{}, {}", seen.shown(), escape::name(&seen.root));
        let point = self.prefix.join(target);
        let stack = mounts_at(self.mounts(), point.as_str()).len();
        let ours = self.report.state(target) == Some(State::Mounted);
        if stack > 1 && ours {
            return (Status::Covered, format!("by {shown}; unmount that to see it again"));
        }
        (
            Status::WrongSource,
            format!("{shown} is mounted there, not {source}; unmount it, then run imp-mount"),
        )
    }

    fn mounts(&mut self) -> &[Mount] {
        self.mounts.get_or_insert_with(|| {
            let mut mounts = mountinfo::all().unwrap_or_default();
            mounts.sort_by(|one, other| one.point.cmp(&other.point));
            mounts
        })
    }
}

/// The mounts at a path, one over the other.
fn mounts_at<'m>(mounts: &'m [Mount], point: &str) -> &'m [Mount] {
    let first = mounts.partition_point(|mount| *mount.point < *point);
    let mounts = &mounts[first..];
    &mounts[..mounts.partition_point(|mount| mount.point == point)]
}

/// Parts of a store that cannot be used, by the reason.
fn wrong(problem: &Problem) -> Verdict {
    let damage = problem.errno.is_some_and(is_damage);
    (if damage { Status::NotMounted } else { Status::WrongSource }, problem.to_string())
}

/// True if a file on the root is the same as the store's.
fn same_as_store(store: Option<&Opened>, (dir, name): (BorrowedFd<'_>, &str), source: &AbsPath) -> bool {
    let parent = source.parent().zip(store);
    let store = parent.and_then(|(parent, store)| {
        if parent.is_root() { Some(store.cursor.base()) } else { store.cursor.opened(parent.as_str()) }
    });
    let names = versions::c_name(name).ok().zip(versions::c_name(source.name()).ok());
    let (Some(store), Some((one, other))) = (store, names) else { return false };
    file::same((dir, &one), (store, &other)).unwrap_or(false)
}

/// Only root sees everything.
fn not_allowed() -> Verdict {
    (Status::NotMounted, "permission denied; run as root".to_owned())
}

/// Neither a file nor the link that stands for one.
fn in_the_way(seen: &Stat) -> Verdict {
    let found = walk::kind(seen.file_type());
    (
        Status::WrongSource,
        format!("it is {found}, which --adopt leaves alone; move it away, then run imp-mount"),
    )
}

fn replaced(what: &str) -> Verdict {
    let detail = format!(
        "a program put a file in the {what}'s place; --adopt brings it to the store, or use method `copy`"
    );
    (Status::Replaced, detail)
}

/// For an entry that was never reached.
#[must_use]
pub fn unreached(entry: &Entry, store: &AbsPath, status: Status, detail: &str) -> Checked {
    Checked {
        target: entry.target.clone(),
        source: store.join(entry.source()),
        status,
        required: entry.required,
        detail: detail.to_owned(),
    }
}
