//! `--adopt`: write-back to the stores before a shutdown: changed copies, files in place of links, and new files
//! matching a pattern.
//!
//! The decision about each file is three-way, by the recorded versions of both sides ([`crate::runtime::versions`]).
//! No version is lost: after changes on both sides, the root's version is kept beside the store's.
//! where both sides changed, the root's is kept beside the store's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use crate::manifest::{AbsPath, Kind, Method};
use crate::mount::matches::Matches;
use crate::mount::store::{self, Opened};
use crate::mount::sysroot::Sysroot;
use crate::mount::tree::Tree;
use crate::plan::{Action, Item, Plan};
use crate::runtime::lock::Lock;
use crate::runtime::report::{EntryReport, Report, State};
use crate::runtime::versions::{self, Decision, Version, Versions};
use crate::sys::attributes::Unsupported;
use crate::sys::create::{self, Attributes};
use crate::sys::inside;
use crate::sys::mount_api::Kernel;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result, describe};
use crate::transfer::Name;
use crate::transfer::file::{self, Copier};
use crate::transfer::staging::{self, Stagings};

/// The unit of `--adopt` at shutdown.
pub const UNIT: &str = "imp-mount-adopt.service";

/// True if the unit is enabled on a system, by its files: the system need not run.
#[must_use]
pub fn is_set_up(root: BorrowedFd<'_>) -> bool {
    const MOST: u64 = 64 * 1024;
    let text = |path: String| {
        let fd = inside::open(root, &path, OFlags::RDONLY).ok()?;
        // A FIFO gives nothing, as nothing is waited for.
        String::from_utf8(walk::content(fd.as_fd(), MOST).ok()?).ok()
    };
    let administrator = ["/etc/systemd/system", "/run/systemd/system"];
    // Masked: a link to /dev/null.
    if administrator.iter().any(|folder| text(format!("{folder}/{UNIT}")).is_some_and(|it| it.is_empty())) {
        return false;
    }
    let packages = ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    administrator.iter().chain(&packages).any(|folder| {
        text(format!("{folder}/sysinit.target.wants/{UNIT}")).is_some_and(|unit| unit.contains("--adopt"))
    })
}

/// A store, and its directories for copies.
struct Store {
    opened: Opened,
    /// Opened for the first written file.
    stagings: Option<Stagings>,
}

/// A file on the root, and its place on the store.
struct File<'f> {
    item: &'f Item<'f>,
    target: AbsPath,
    /// Below the store.
    source: AbsPath,
}

/// Copies all changed files to the stores. Returns the problems. An unusable report is left to a run; without a report
/// no version counts as an older one.
pub fn run(plan: &Plan<'_>, sysroot: &str, lock: &Lock) -> Result<Vec<Problem>> {
    // A copy gets exactly the given mode.
    rustix::process::umask(rustix::fs::Mode::empty());
    let sysroot = Sysroot::open(sysroot)?;
    let mut tree = Tree::existing(&sysroot, Kernel::probe())?;
    let open = |one| store::open(plan, one, &mut tree, &sysroot);
    let opened: Vec<_> = plan.manifest.stores.iter().map(open).collect();
    let mut stores: Vec<_> =
        opened.into_iter().map(|opened| opened.map(|opened| Store { opened, stagings: None })).collect();
    let (mut report, unread) = match Report::read() {
        Ok(report) => (report, None),
        Err(problem) => (Report::default(), Some(problem)),
    };
    let may_record = unread.is_none();
    let mut brought = Vec::new();
    let mut problems: Vec<_> = unread.into_iter().collect();
    for item in
        plan.items.iter().filter(|item| item.action == Action::Place && item.entry.kind != Kind::Directory)
    {
        let target = &item.entry.target;
        let failures = match &mut stores[usize::from(item.entry.store)] {
            Ok(store) => entry(plan, item, store, tree.root(), (&report, &mut brought)),
            Err(problem) => Err(problem.clone()),
        };
        let failures = failures.unwrap_or_else(|problem| vec![problem]);
        problems.extend(failures.into_iter().map(|problem| problem.at(target.to_string())));
    }
    for (store, opened) in plan.manifest.stores.iter().zip(stores) {
        let Ok(Store { opened, stagings }) = opened else { continue };
        let closed = match stagings {
            Some(stagings) => stagings
                .close()
                .map_err(|errno| Problem::os("cannot remove the staging directory on the store", errno)),
            None => staging::tidy(opened.cursor.base(), &staging::is_key),
        };
        problems.extend(closed.err().map(|problem| problem.at(format!("store {}", store.path))));
    }
    if may_record && !brought.is_empty() {
        for entry in brought {
            report.set_versions(entry);
        }
        report.write(lock)?;
    }
    Ok(problems)
}

/// Writes back the files of one entry. A failure of one file does not stop the others.
fn entry(
    plan: &Plan<'_>,
    item: &Item<'_>,
    store: &mut Store,
    root: BorrowedFd<'_>,
    (report, brought): (&Report, &mut Vec<EntryReport>),
) -> Result<Vec<Problem>> {
    let entry = item.entry;
    let folder = entry.target.parent().unwrap_or_else(AbsPath::root);
    let dirs = OFlags::PATH | OFlags::DIRECTORY;
    let dir = match walk::open_below(root, &folder, dirs, Mounts::Enter) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(Problem::os(format!("cannot open {folder}"), errno)),
    };
    let (names, mut problems) = if entry.kind == Kind::Glob {
        let found = Matches::of(dir.as_fd(), entry, &plan.coverage)
            .map_err(|errno| Problem::os(format!("cannot list {folder}"), errno))?;
        (found.names, found.problems)
    } else {
        (vec![entry.target.name().to_owned()], Vec::new())
    };
    let above = entry.source().parent().unwrap_or_else(AbsPath::root);
    for name in names {
        let target = folder.child(&name);
        let source = if entry.kind == Kind::Glob { above.child(&name) } else { entry.source().clone() };
        let file = File { item, target, source };
        if let Err(problem) = bring(&file, dir.as_fd(), store, root, (report, brought)) {
            problems.push(problem.at(file.target.to_string()));
        }
    }
    Ok(problems)
}

/// Writes back one file, if on the root itself and without a newer version on the store, and adds its record.
fn bring(
    file: &File<'_>,
    dir: BorrowedFd<'_>,
    store: &mut Store,
    root: BorrowedFd<'_>,
    (report, brought): (&Report, &mut Vec<EntryReport>),
) -> Result<()> {
    let (item, target) = (file.item, &file.target);
    let failed = |errno| Problem::os("cannot bring it to the store", errno);
    let name = versions::c_name(target.name()).map_err(failed)?;
    let from = (dir, name.as_c_str());
    let stat = match walk::stat_at(from.0, from.1) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    // The mount point of a former mount or guard, unless recorded as a version.
    let known = report.entry(target).filter(|entry| entry.versions.is_some());
    let is_version = known.is_some_and(|entry| !matches!(entry.state, State::Guarded | State::Skipped));
    let has_mount = item.entry.method == Method::Bind || !is_version;
    let is_empty_place = has_mount && stat.mode() == 0 && stat.size() == 0;
    if stat.is_mount_root() || is_empty_place {
        return Ok(());
    }
    if !item.entry.takes(stat.entry_type()) {
        // Patterns are for files only, and a link is placed for a file missing on the store.
        if item.entry.kind == Kind::Glob || stat.is_symlink() {
            return Ok(());
        }
        let found = walk::kind(stat.file_type());
        return Err(Problem::new(format!("{found} is there, and only a file is brought to the store"))
            .remedy("copy what it holds to a path that persists, then move it away"));
    }
    let place = item.store.path.join(&file.source);
    let above = file.source.parent().unwrap_or_else(AbsPath::root);
    let folder = target.parent().unwrap_or_else(AbsPath::root);
    let parent = folder_on_store((&item.store.path, &mut store.opened), &above, root, &folder)?;
    let to_name = versions::c_name(file.source.name()).map_err(failed)?;
    let to = (parent.as_fd(), to_name.as_c_str());
    let there = match walk::stat_at(to.0, to.1) {
        Ok(there) => Some(there),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(failed(errno)),
    };
    if stat.is_symlink() {
        let link = rustix::fs::readlinkat(from.0, from.1, Vec::new()).map_err(failed)?;
        let link = link.to_string_lossy();
        let leads_to = |there: &Stat| versions::leads_to(root, &folder, &link, there.identity());
        // A copy of the link would replace its target.
        if link == place.as_str() || there.as_ref().map_or(Ok(false), leads_to).map_err(failed)? {
            return Ok(());
        }
    }
    let left = report.versions(target, &place);
    let record = |there: Option<&Stat>| {
        let versions = Versions { store: there.map(Version::of), root: Some(Version::of(&stat)) };
        (left != Some(&versions)).then(|| EntryReport {
            target: target.clone(),
            source: place.clone(),
            kind: item.entry.kind,
            method: item.entry.method,
            state: State::Absent,
            why: "brought to the store by --adopt".to_owned(),
            versions: Some(Box::new(versions)),
        })
    };
    if let Some(there) = &there
        && file::same(from, to).map_err(failed)?
    {
        brought.extend(record(Some(there)));
        return Ok(());
    }
    let flags = match versions::decide(left, there.as_ref().map(Version::of), Version::of(&stat)) {
        Decision::KeepStore => {
            let beside = versions::conflicts_beside(to.0, file.source.name()).map_err(failed)?;
            return beside.first().map_or(Ok(()), |beside| Err(conflict(&place, &sibling(&place, beside))));
        }
        Decision::Bring => RenameFlags::NOREPLACE,
        Decision::Replace => RenameFlags::empty(),
        Decision::KeepBoth => {
            let kept = keep_both(store, from, &stat, (to.0, file.source.name()), &place)?;
            // This version is kept only once. Changes after this point make another version, not based on the store's.
            brought.extend(record(None));
            return Err(kept);
        }
    };
    put(store, from, &stat, to, flags)?;
    log::info!("{target}: brought to the store {}", item.store.path);
    brought.extend(record(Some(&walk::stat_at(to.0, to.1).map_err(failed)?)));
    Ok(())
}

fn put(store: &mut Store, from: Name<'_>, stat: &Stat, to: Name<'_>, flags: RenameFlags) -> Result<()> {
    let stagings = match &mut store.stagings {
        Some(stagings) => stagings,
        none => {
            let stagings = Stagings::open(store.opened.cursor.base())?;
            none.insert(stagings)
        }
    };
    let staging = stagings.near(to.0)?;
    Copier::new(Unsupported::Leave)
        .put(from, stat, to, staging, flags)
        .map_err(|errno| Problem::os("cannot bring it to the store", errno))
}

/// Keeps the root's version of a file beside the store's.
fn keep_both(
    store: &mut Store,
    from: Name<'_>,
    stat: &Stat,
    (dir, name): (BorrowedFd<'_>, &str),
    place: &AbsPath,
) -> Result<Problem> {
    let failed = |errno| Problem::os("cannot keep it beside the store's version", errno);
    for beside in versions::conflicts(name) {
        let to_name = versions::c_name(&beside).map_err(failed)?;
        let to = (dir, to_name.as_c_str());
        let is_kept = match walk::stat_at(to.0, to.1) {
            Ok(_) => file::same(from, to).map_err(failed)?,
            Err(Errno::NOENT) => {
                put(store, from, stat, to, RenameFlags::NOREPLACE)?;
                true
            }
            Err(errno) => return Err(failed(errno)),
        };
        if is_kept {
            return Ok(conflict(place, &sibling(place, &beside)));
        }
    }
    Err(Problem::new(format!("too many versions of it are kept beside {place}"))
        .remedy("compare them, keep one, and remove the others"))
}

fn sibling(place: &AbsPath, name: &str) -> AbsPath {
    place.parent().unwrap_or_else(AbsPath::root).child(name)
}

/// The problem of a file of which two versions are kept on the store.
#[must_use]
pub fn conflict(place: &AbsPath, beside: &AbsPath) -> Problem {
    Problem::new(format!(
        "the root and {place} hold different versions, and neither is known to be made from the other: both are kept, the root's as {beside}"
    ))
    .remedy("compare the two, keep one under the first name, and remove the other")
}

/// Opens a directory on the store. Missing parts are created with owner and mode of the same paths on the root.
pub fn folder_on_store(
    (base, store): (&AbsPath, &mut Opened),
    path: &AbsPath,
    root: BorrowedFd<'_>,
    model: &AbsPath,
) -> Result<OwnedFd> {
    let same_path = path == model;
    let dir = store.cursor.enter(path.as_str(), &mut |dir, name, path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let model = AbsPath::normal(path).ok().filter(|_| same_path);
        let model = model.and_then(|path| walk::open_below(root, &path, flags, Mounts::Enter).ok());
        let stat = model.and_then(|fd| walk::stat(fd.as_fd()).ok());
        let like =
            |stat: Stat| Attributes { uid: stat.uid(), gid: stat.gid(), mode: stat.mode(), pending: false };
        let attributes = stat.map_or_else(|| Attributes::root(0o755), like);
        create::directory(dir, name, Mounts::Stay, &mut || attributes.clone())
            .map(|node| node.fd)
            .map_err(|errno| walk::explain(dir, &base.join_text(path), errno, "a directory"))
    })?;
    walk::duplicate(dir).map_err(|errno| Problem::new(describe(errno)))
}
