//! Sources of entries on their stores, created on request of the entry.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::held::Held;
use super::job::{Context, Job};
use super::owner::{self, Owners, Wanted};
use super::stores::Stores;
use super::tree::Tree;
use crate::manifest::{AbsPath, Entry, Kind, Missing};
use crate::plan::{Item, Plan};
use crate::sys::create::{self, Attributes, Node};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// The source of an entry.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, on the stack")]
pub(super) enum Source {
    /// Present.
    Node(Node),
    /// Missing, with a link in its place.
    Link,
    /// Missing, without an action.
    Absent,
    /// No file of the pattern any more since the listing of its directory.
    Gone,
}

/// Refuses to create a file on the store if a running system has one at the target: the empty file would count as a
/// version.
pub(super) fn must_not_be_at_target(
    context: &Context<'_>,
    job: Job<'_>,
    (stores, tree): (&mut Stores, &Tree),
) -> Result<()> {
    let entry = job.item.entry;
    let creates = matches!(entry.missing, Missing::Create | Missing::MachineId);
    if !context.sysroot.is_live() || entry.kind != Kind::File || !creates {
        return Ok(());
    }
    let store = stores.of(entry)?;
    let dirs = OFlags::PATH | OFlags::DIRECTORY;
    let open = |base, path: &AbsPath, mounts| {
        walk::open_below(base, &path.parent().unwrap_or_else(AbsPath::root), dirs, mounts)
    };
    let on_store = open(store.cursor.base(), job.source, Mounts::Stay)
        .and_then(|dir| walk::stat_at(dir.as_fd(), job.source.name()));
    if on_store.is_ok() {
        return Ok(());
    }
    let held = open(tree.root(), job.target, Mounts::Enter).and_then(|dir| {
        let stat = walk::stat_at(dir.as_fd(), job.target.name())?;
        let is_free = !stat.is_file() || stat.is_mount_root();
        if is_free { Ok(None) } else { Held::at(dir.as_fd(), job.target.name(), &stat) }
    });
    match held {
        Ok(Some(held)) => {
            Err(Problem::new(format!("the target holds {}, and {} is not there", held.words, job.stored()))
                .remedy("`imp-mount --adopt` brings it there; then run again"))
        }
        // An error of this look comes up again, and is said, where the entry is mounted.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Opens the source, created on request of the entry.
pub(super) fn open(
    plan: &Plan<'_>,
    job: Job<'_>,
    stores: &mut Stores,
    owners: &mut Owners<'_>,
) -> Result<Source> {
    let (item, path) = (job.item, job.source);
    let entry = item.entry;
    let store = stores.of(entry)?;
    if path.is_root() {
        // The store's own directory.
        let fd = walk::duplicate(store.cursor.base()).map_err(|errno| Problem::new(describe(errno)))?;
        let stat = walk::stat(fd.as_fd())
            .map_err(|errno| Problem::os(format!("cannot look at {}", job.stored()), errno))?;
        return Ok(Source::Node(Node { fd, stat, made: false }));
    }
    let dir = store.cursor.enter_looking(path.folder(), &mut |dir, name, path| {
        let rule = || plan.parents.of(path);
        create::directory(dir, name, Mounts::Stay, &mut || owners.attributes(&Wanted::of_parent(&rule())))
            .and_then(|node| {
                if !Wanted::may_wait(&node) {
                    return Ok((node.fd, Some(node.stat)));
                }
                owners.note(&node, (dir, name), (&item.store.path, path), &Wanted::of_parent(&rule()))?;
                // A pending owner may have been given meanwhile.
                let stat = walk::stat(node.fd.as_fd())?;
                Ok((node.fd, Some(stat)))
            })
            .map_err(|errno| step_failed(dir, item, path, errno))
    })?;
    let wanted = Wanted::of_entry(entry);
    let (name, failed) = (path.name(), |errno| step_failed(dir, item, path.as_str(), errno));
    let node = if entry.kind == Kind::Directory {
        create::directory(dir, name, Mounts::Stay, &mut || owners.attributes(&wanted)).map_err(failed)?
    } else {
        match file(dir, job, &mut || owners.attributes(&wanted))? {
            Source::Node(node) => node,
            other => return Ok(other),
        }
    };
    owners.note(&node, (dir, name), (&item.store.path, path.as_str()), &wanted).map_err(failed)?;
    if entry.enforce && !node.made && !node.stat.is_symlink() {
        enforce(&node, (dir, name), &owners.attributes(&wanted), entry)
            .map_err(|problem| problem.during(job.stored()))?;
    }
    Ok(Source::Node(node))
}

/// Opens a file in its directory; a missing one by the entry's policy.
fn file(dir: BorrowedFd<'_>, job: Job<'_>, attributes: &mut dyn FnMut() -> Attributes) -> Result<Source> {
    let (entry, name) = (job.item.entry, job.source.name());
    let failed = |errno| step_failed(dir, job.item, job.source.as_str(), errno);
    let node = match walk::look(dir, name, Mounts::Stay) {
        Err(Errno::NOENT) if entry.kind == Kind::Glob => return Ok(Source::Gone),
        Err(Errno::NOENT) => match entry.missing {
            Missing::Link => return Ok(Source::Link),
            Missing::Skip => return Ok(Source::Absent),
            Missing::Fail => {
                return Err(Problem::new(format!("{} is not there", job.stored()))
                    .remedy("bring it there, or choose another policy with `missing`"));
            }
            Missing::MachineId => create::file(dir, name, Mounts::Stay, b"uninitialized\n", attributes),
            Missing::Create => create::file(dir, name, Mounts::Stay, b"", attributes),
        },
        found => found.and_then(|fd| Ok(Node { stat: walk::stat(fd.as_fd())?, fd, made: false })),
    };
    let node = node.map_err(failed)?;
    match entry.kind {
        Kind::Glob if !entry.takes(node.stat.entry_type()) => Ok(Source::Gone),
        Kind::File if !entry.takes(node.stat.entry_type()) => {
            Err(walk::wrong_type(dir, job.stored().as_str(), &node.stat, "a regular file"))
        }
        _ => Ok(Source::Node(node)),
    }
}

fn step_failed(dir: BorrowedFd<'_>, item: &Item<'_>, path: &str, errno: Errno) -> Problem {
    let wanted = if item.entry.kind == Kind::Directory || path != item.entry.source().as_str() {
        "a directory"
    } else {
        "a regular file"
    };
    walk::explain(dir, &item.store.path.join_text(path), errno, wanted)
}

fn enforce(
    node: &Node,
    (dir, name): (BorrowedFd<'_>, &str),
    wanted: &Attributes,
    entry: &Entry,
) -> Result<()> {
    let stat = &node.stat;
    let same = stat.uid() == wanted.uid && stat.gid() == wanted.gid && stat.mode() == wanted.mode;
    if wanted.pending || same {
        return Ok(());
    }
    if entry.kind != Kind::Directory && stat.links() > 1 {
        return Err(Problem::new("it has several names, so its owner and mode cannot be enforced")
            .remedy("find the others with `find -samefile`, or leave `enforce` out"));
    }
    let failed = |errno| Problem::os("cannot enforce its owner and mode", errno);
    match owner::reopen(dir, name, node).map_err(failed)? {
        Some(fd) => create::enforce(fd.as_fd(), stat, wanted).map_err(failed),
        None => {
            Err(Problem::new("it was replaced while its owner and mode were enforced").remedy("run again"))
        }
    }
}
