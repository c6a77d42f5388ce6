//! Sources of entries on their stores, created if the entry asks for that.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::held::Held;
use super::owner::{self, Wanted};
use super::worker::{Worker, opened};
use crate::manifest::{AbsPath, Entry, Kind, Missing};
use crate::plan::Item;
use crate::sys::create::{self, Attributes, Node};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// The source of an entry.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, on the stack")]
pub(super) enum Source {
    /// It is there.
    Node(Node),
    /// It is not there, and a link is to stand for it.
    Link,
    /// It is not there, and nothing is to be done.
    Absent,
    /// It is no file that the pattern is for any more, since its directory was listed.
    Gone,
}

impl Worker<'_, '_> {
    /// Refuses to create on the store what a running system has at the target already: the empty file would count as a version.
    fn must_not_be_there(&mut self, item: &Item<'_>, path: &AbsPath) -> Result<()> {
        let entry = item.entry;
        let creates = matches!(entry.missing, Missing::Create | Missing::MachineId);
        if !self.sysroot.is_live() || entry.kind != Kind::File || !creates {
            return Ok(());
        }
        let name = path.name();
        let store = opened(&mut self.stores, entry)?;
        let folder = path.parent().unwrap_or_else(AbsPath::root);
        let dirs = OFlags::PATH | OFlags::DIRECTORY;
        let on_store = walk::open_below(store.cursor.base(), &folder, dirs, Mounts::Stay)
            .and_then(|dir| walk::stat_at(dir.as_fd(), name));
        if on_store.is_ok() {
            return Ok(());
        }
        let above = entry.target.parent().unwrap_or_else(AbsPath::root);
        let held = walk::open_below(self.tree.root(), &above, dirs, Mounts::Enter).and_then(|dir| {
            let stat = walk::stat_at(dir.as_fd(), entry.target.name())?;
            let is_free = !stat.is_file() || stat.is_mount_root();
            if is_free { Ok(None) } else { Held::at(dir.as_fd(), entry.target.name(), &stat) }
        });
        match held {
            Ok(Some(held)) => {
                let place = item.store.path.join(path);
                Err(Problem::new(format!("the target holds {}, and {place} is not there", held.words))
                    .remedy("`imp-mount --adopt` brings it there; then run again"))
            }
            // An error of this look comes up again, and is said, where the entry is mounted.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Opens the source, created if the entry asks for that.
    pub(super) fn source(&mut self, item: &Item<'_>, path: &AbsPath) -> Result<Source> {
        let entry = item.entry;
        self.must_not_be_there(item, path)?;
        let (plan, names, pending) = (self.plan, &mut self.names, &mut self.pending);
        let store = opened(&mut self.stores, entry)?;
        let shown = || item.store.path.join(path);
        if path.is_root() {
            // The store's own directory.
            let fd = walk::again(store.cursor.base()).map_err(|errno| Problem::new(describe(errno)))?;
            let stat = walk::stat(fd.as_fd())
                .map_err(|errno| Problem::os(format!("cannot look at {}", shown()), errno))?;
            return Ok(Source::Node(Node { fd, stat, made: false }));
        }
        let dir = store.cursor.enter_looking(path.folder(), &mut |dir, name, path| {
            let said = plan.parents.of(path);
            let wanted = Wanted::of_parent(&said);
            create::directory(dir, name, Mounts::Stay, &mut || wanted.attributes(names))
                .and_then(|node| {
                    owner::note(&node, (dir, name), (&item.store.path, path), &wanted, names, pending)?;
                    // A pending owner may have been given meanwhile.
                    let stat = if wanted.has_names() { walk::stat(node.fd.as_fd())? } else { node.stat };
                    Ok((node.fd, Some(stat)))
                })
                .map_err(|errno| step_failed(dir, item, path, errno))
        })?;
        let name = path.name();
        let wanted = Wanted::of_entry(entry);
        let mut attributes = || wanted.attributes(names);
        let failed = |errno| step_failed(dir, item, path.as_str(), errno);
        let node = if entry.kind == Kind::Directory {
            create::directory(dir, name, Mounts::Stay, &mut attributes).map_err(failed)?
        } else {
            let content: &[u8] = if entry.missing == Missing::MachineId { b"uninitialized\n" } else { b"" };
            match walk::look(dir, name, Mounts::Stay) {
                Err(Errno::NOENT) if entry.kind == Kind::Glob => return Ok(Source::Gone),
                Err(Errno::NOENT) => match entry.missing {
                    Missing::Link => return Ok(Source::Link),
                    Missing::Skip => return Ok(Source::Absent),
                    Missing::Fail => {
                        return Err(Problem::new(format!("{} is not there", shown()))
                            .remedy("bring it there, or choose another policy with `missing`"));
                    }
                    _ => create::file(dir, name, Mounts::Stay, content, &mut attributes).map_err(failed)?,
                },
                Err(errno) => return Err(failed(errno)),
                Ok(fd) => {
                    let stat = walk::stat(fd.as_fd()).map_err(failed)?;
                    Node { fd, stat, made: false }
                }
            }
        };
        if entry.kind == Kind::Glob && !entry.takes(node.stat.what()) {
            return Ok(Source::Gone);
        }
        if entry.kind == Kind::File && !entry.takes(node.stat.what()) {
            return Err(walk::wrong_type(
                dir,
                &item.store.path.join_text(path.as_str()),
                &node.stat,
                "a regular file",
            ));
        }
        owner::note(&node, (dir, name), (&item.store.path, path.as_str()), &wanted, names, pending)
            .map_err(failed)?;
        if entry.enforce && !node.made && !node.stat.is_symlink() {
            enforce(&node, (dir, name), &wanted.attributes(names), entry)
                .map_err(|problem| problem.during(shown()))?;
        }
        Ok(Source::Node(node))
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
