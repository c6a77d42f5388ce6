//! `--adopt`: what programs left on the root and belongs on a store, brought there before a shutdown: changed copies, files
//! put where a link into the store was, and new files that a pattern matches.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::create::{self, Attributes};
use crate::manifest::{AbsPath, Kind, Method};
use crate::mount::copy;
use crate::mount::kernel::Kernel;
use crate::mount::root::{Sysroot, Tree};
use crate::mount::store::{self, Opened};
use crate::plan::{Action, Item, Plan};
use crate::problem::{Problem, Result};
use crate::report::{Report, State};
use crate::walk::{self, Mounts};

/// Brings everything to the stores. Returns what could not be brought.
pub fn run(plan: &Plan<'_>, sysroot: &str) -> Result<Vec<Problem>> {
    let sysroot = Sysroot::open(sysroot)?;
    let mut tree = Tree::existing(&sysroot, Kernel::probe())?;
    let mut stores: Vec<_> =
        plan.manifest.stores.iter().map(|one| store::open(plan, one, &mut tree, &sysroot)).collect();
    let report = Report::read()?;
    let mut problems = Vec::new();
    for item in
        plan.items.iter().filter(|item| item.action == Action::Place && item.entry.kind != Kind::Directory)
    {
        let target = &item.entry.target;
        let failures = match &mut stores[usize::from(item.entry.store)] {
            Ok(opened) => adopt(plan, item, opened, tree.root.as_fd(), &report),
            Err(problem) => Err(problem.clone()),
        };
        let failures = failures.unwrap_or_else(|problem| vec![problem]);
        problems.extend(failures.into_iter().map(|problem| problem.at(target.to_string())));
    }
    Ok(problems)
}

/// Brings one entry's files to its store. Returns what could not be brought, which keeps nothing else from it.
fn adopt(
    plan: &Plan<'_>,
    item: &Item<'_>,
    store: &mut Opened,
    root: BorrowedFd<'_>,
    report: &Report,
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
        walk::matching(dir.as_fd(), entry.target.name())
            .map_err(|errno| Problem::os(format!("cannot list {folder}"), errno))?
    } else {
        (vec![entry.target.name().to_owned()], Vec::new())
    };
    let source = entry.source().parent().unwrap_or_else(AbsPath::root);
    for name in names {
        let target = folder.child(&name);
        if entry.kind == Kind::Glob && plan.item(&target).is_some() {
            continue;
        }
        let store_name = if entry.kind == Kind::Glob { &name } else { entry.source().name() };
        // A match that is mounted from the store cannot have been replaced; and what a run did not put there, or found
        // missing on the store, is no newer version of what that holds.
        let is_match = entry.kind == Kind::Glob && entry.method == Method::Bind;
        let is_known =
            matches!(report.state(&target), None | Some(State::Copied | State::Linked | State::Absent));
        let may_replace = is_known && !is_match;
        match bring((dir.as_fd(), &name), item, store, (&source, store_name), (root, &folder), may_replace) {
            Ok(true) => log::info!("{target}: brought to the store {}", item.store.path),
            Ok(false) => {}
            Err(problem) => problems.push(problem.at(target.to_string())),
        }
    }
    Ok(problems)
}

/// Brings one file, if it is on the root itself and the store holds none, or the one that a run put there before it.
fn bring(
    from: copy::Name<'_>,
    item: &Item<'_>,
    store: &mut Opened,
    (source, name): (&AbsPath, &str),
    (root, folder): (BorrowedFd<'_>, &AbsPath),
    may_replace: bool,
) -> Result<bool> {
    let entry = item.entry;
    let failed = |errno| Problem::os(format!("cannot bring `{}` to the store", from.1), errno);
    let stat = match walk::stat_at(from.0, from.1) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(failed(errno)),
    };
    let movable = stat.is_file() || (stat.is_symlink() && entry.method == Method::Copy);
    if !movable || stat.is_mount_root() || stat.mode() == 0 {
        return Ok(false);
    }
    let dir = folder_on_store((&item.store.path, store), source, root, folder)?;
    match copy::same(from, (dir.as_fd(), name)) {
        Ok(true) => return Ok(false),
        Ok(false) if !may_replace => return Ok(false),
        Ok(false) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(errno)),
    }
    copy::replace(from, &stat, (dir.as_fd(), name)).map_err(failed)?;
    Ok(true)
}

/// A directory on the store; what is missing of it looks like what the root has at the same place.
pub fn folder_on_store(
    (base, store): (&AbsPath, &mut Opened),
    path: &AbsPath,
    root: BorrowedFd<'_>,
    model: &AbsPath,
) -> Result<OwnedFd> {
    let same_path = path == model;
    let dir = store.cursor.enter(path.as_str(), &mut |dir, name, path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let model = AbsPath::parse(path).ok().filter(|_| same_path);
        let model = model.and_then(|path| walk::open_below(root, &path, flags, Mounts::Enter).ok());
        let stat = model.and_then(|fd| walk::stat(fd.as_fd()).ok());
        let like = |stat: walk::Stat| Attributes {
            uid: stat.uid(),
            gid: stat.gid(),
            mode: stat.mode(),
            pending: false,
        };
        let attributes = stat.map_or_else(|| Attributes::root(0o755), like);
        create::directory(dir, name, Mounts::Stay, &mut || attributes.clone())
            .map(|node| node.fd)
            .map_err(|errno| walk::explain(dir, &base.join_text(path), errno, "a directory"))
    })?;
    dir.try_clone_to_owned().map_err(|error| Problem::new(error.to_string()))
}
