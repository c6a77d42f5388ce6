//! Comparison of one entry with the system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::status::{Checked, Status, Verdict};
use crate::ids::Names;
use crate::manifest::{AbsPath, BindOptions, Kind, Method};
use crate::mount::guard::Guard;
use crate::mount::place::{difference, words};
use crate::mount::store::Opened;
use crate::mount::target::is_first_id;
use crate::plan::{Action, Item, Plan};
use crate::runtime::report::{Report, State};
use crate::runtime::versions::{self, Decision, Version};
use crate::sys::cursor::Cursor;
use crate::sys::mount_api;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::transfer::file;

/// The system for the comparison.
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
    /// Notes: facts without a problem.
    pub notes: Vec<String>,
    /// The answer to "does a unit run `--adopt` at shutdown?"; none before the question came up.
    pub brought_at_shutdown: Option<bool>,
    /// The mount table in the order of mount points, read after the first problem.
    pub mounts: Option<Vec<Mount>>,
    /// The sysroot's path, with which mount points begin.
    pub prefix: AbsPath,
}

impl Checker<'_, '_> {
    /// Compares one entry with the system: a line for the entry, or for every file matched by its pattern.
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
                let verdict = self.verdict(item, target, source);
                let may_have = item.entry.kind != Kind::Directory
                    && (!verdict.0.is_problem() || verdict.0 == Status::Conflict);
                let kept = if may_have { self.conflict(item, source) } else { None };
                kept.unwrap_or(verdict)
            }
        };
        Self::checked(item, target, source, verdict)
    }

    /// The verdict on an entry of this phase.
    fn verdict(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Verdict {
        match self.in_place(item, target, source) {
            Ok(found) => self.owner(item, source, &found),
            Err(verdict) => verdict,
        }
    }

    /// The source of an entry, which is seen at its target; any other case comes as its verdict.
    fn in_place(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<Stat, Verdict> {
        let entry = item.entry;
        let found = match self.source(item, source) {
            Ok(Some(found)) => found,
            Ok(None) if self.is_guarded(target) => return Err(self.guarded(target)),
            Ok(None) => return Err(self.without_source(item, target, source)),
            Err((_, detail)) if self.is_guarded(target) => {
                return Err((Status::NotMounted, format!("guarded: {detail}")));
            }
            Err(verdict) => return Err(verdict),
        };
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let not_mounted = |detail: &str| (Status::NotMounted, detail.to_owned());
        let root = (entry.method == Method::Copy).then(|| walk::duplicate(self.target.base()).ok()).flatten();
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
            // In a directory from the store.
            Method::Symlink if seen.identity() == found.identity() => {}
            Method::Symlink | Method::Bind
                if seen.is_file()
                    && !seen.is_mount_root()
                    && (entry.method == Method::Symlink
                        || self.report.state(target) == Some(State::Linked)) =>
            {
                if same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) {
                    return Err((
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
                return Err((
                    Status::Ok,
                    "a link stands for it until the next boot, which copies it".to_owned(),
                ));
            }
            Method::Copy if !seen.is_file() && !seen.is_symlink() => return Err(in_the_way(&seen)),
            Method::Copy => {
                if !same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) {
                    return Err(self.changed(item, (target, &seen), (source, &found)));
                }
            }
            Method::Bind if is_our_link => {
                return Err((Status::Ok, "a link stands for it until the next boot".to_owned()));
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
                    return Err((Status::Ok, detail.to_owned()));
                }
                return Err(self.wrong_mount(target, &text, &mount));
            }
            // Not the store's own file, as on a root before its conversion: a copy.
            Method::Bind
                if seen.identity() != found.identity()
                    && same_as_store(self.stores[usize::from(entry.store)].as_ref(), (dir, name), source) =>
            {
                let detail = "the store has the same file, which the next run or boot mounts".to_owned();
                return Err((Status::Ok, detail));
            }
            Method::Bind if seen.is_file() && self.report.versions(target, &text).is_some() => {
                return Err(self.changed(item, (target, &seen), (source, &found)));
            }
            Method::Bind => return Err(self.why_not(target, "nothing is mounted there")),
        }
        Ok(found)
    }

    /// The verdict on a copy with content different from the file on the store.
    fn changed(
        &mut self,
        item: &Item<'_>,
        (target, now): (&AbsPath, &Stat),
        (source, found): (&AbsPath, &Stat),
    ) -> Verdict {
        let place = item.store.path.join(source);
        let left = self.report.versions(target, &place);
        match versions::decide(left, Some(Version::of(found)), Version::of(now)) {
            Decision::KeepStore => {
                (Status::Ok, "the store has a newer version, which the next boot brings".to_owned())
            }
            Decision::Replace | Decision::Bring if item.entry.method == Method::Bind => self.not_stored(),
            Decision::Replace | Decision::Bring => {
                let how = if self.is_brought() {
                    "--adopt brings it to the store"
                } else {
                    "nothing here brings it to the store at shutdown: run imp-mount --adopt"
                };
                (Status::Ok, format!("changed since it was copied; {how}"))
            }
            Decision::KeepBoth => (
                Status::Conflict,
                "neither this version nor the store's is the copied one; --adopt keeps both".to_owned(),
            ),
        }
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

    fn is_guarded(&mut self, target: &AbsPath) -> bool {
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        let seen = dir.ok().and_then(|dir| walk::stat_at(dir, target.name()).ok());
        seen.is_some_and(|seen| self.guard.identities().contains(&Some(seen.identity())))
    }

    /// Reason of a run's guard.
    fn guarded(&self, target: &AbsPath) -> Verdict {
        let why = self.why(target).unwrap_or("the run says why");
        (Status::NotMounted, format!("guarded: {why}"))
    }

    /// The reason in the report of the last run for the state of an entry.
    fn why(&self, target: &AbsPath) -> Option<&str> {
        let why = self.report.entries.iter().find(|one| one.target == *target)?.why.as_str();
        let why = why.strip_prefix(target.as_str()).and_then(|why| why.strip_prefix(": ")).unwrap_or(why);
        Some(why).filter(|why| !why.is_empty())
    }

    /// Why the entry's file is not at its target: the last run says so, or another mount may be there, or above.
    fn why_not(&mut self, target: &AbsPath, otherwise: &str) -> Verdict {
        let prefix = self.prefix.clone();
        let mounts = self.mounts();
        if mounts_at(mounts, prefix.join(target).as_str()).is_empty() {
            return (Status::NotMounted, self.why(target).unwrap_or(otherwise).to_owned());
        }
        match target.ancestors().find_map(|above| mounts_at(mounts, &prefix.join_text(above)).last()) {
            Some(over) => {
                let (by, point) = (over.shown(), escape::name(&over.point));
                (Status::Covered, format!("by {by}, mounted at {point}"))
            }
            None => (Status::Covered, "by the root that was mounted over it".to_owned()),
        }
    }

    /// Another mount is on top: the entry's may be below.
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

/// Neither a file nor a link in its place.
pub(super) fn in_the_way(seen: &Stat) -> Verdict {
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
