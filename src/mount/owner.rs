//! Owners: names made numbers where that is possible, and remembered as pending where it is not yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ids::Names;
use crate::manifest::parents::Said;
use crate::manifest::{AbsPath, Entry, Id, Kind};
use crate::runtime::report::Pending;
use crate::sys::create::{self, Attributes, Node};
use crate::sys::walk::{self, Mounts, Stat};

/// Owner and mode of a new file, as in the manifest.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    user: Option<&'a Id>,
    group: Option<&'a Id>,
    mode: u16,
    /// The mode as long as it waits for its owner.
    waiting: u16,
}

impl<'a> Wanted<'a> {
    /// Owner and mode of an entry.
    #[must_use]
    pub fn of_entry(entry: &'a Entry) -> Self {
        let waiting = if entry.kind == Kind::Directory { 0o700 } else { 0o600 };
        Self {
            user: entry.owner.user.as_ref(),
            group: entry.owner.group.as_ref(),
            mode: entry.mode(),
            waiting,
        }
    }

    /// Owner and mode of a directory above an entry.
    #[must_use]
    pub fn of_parent(said: &'a Said<'_>) -> Self {
        Self { user: said.user(), group: said.group(), mode: said.mode(), waiting: 0o700 }
    }

    /// The same for what somebody waits for already.
    #[must_use]
    pub fn of_pending(pending: &'a Pending) -> Self {
        Self { user: pending.user.as_ref(), group: pending.group.as_ref(), mode: pending.mode, waiting: 0 }
    }

    /// In numbers; root's alone, and marked as pending, as long as nobody knows a name.
    pub fn attributes(&self, names: &mut Names<'_>) -> Attributes {
        match (names.user(self.user), names.group(self.group)) {
            (Some(uid), Some(gid)) => Attributes { uid, gid, mode: self.mode, pending: false },
            _ => Attributes { uid: 0, gid: 0, mode: self.waiting, pending: true },
        }
    }

    /// True if a user or group has to be looked up.
    #[must_use]
    pub fn has_names(&self) -> bool {
        [self.user, self.group].into_iter().any(|id| matches!(id, Some(Id::Name(name)) if name != "root"))
    }

    fn pending(&self, base: &AbsPath, path: AbsPath, stat: &Stat) -> Pending {
        Pending {
            base: base.clone(),
            path,
            user: self.user.cloned(),
            group: self.group.cloned(),
            mode: self.mode,
            inode: stat.inode(),
            identity: Some(stat.identity()),
        }
    }
}

/// Names of owners, and files that wait for theirs.
pub struct Owners<'n> {
    /// Users and groups that are known.
    pub names: Names<'n>,
    /// Files of this run that wait for a user or group.
    pub pending: Vec<Pending>,
}

impl Owners<'_> {
    /// Owner and mode of a new file, in numbers.
    pub fn attributes(&mut self, wanted: &Wanted<'_>) -> Attributes {
        wanted.attributes(&mut self.names)
    }

    /// Records a file that waits for its owner: one that was just made, or one that an earlier boot made and never settled. The
    /// latter is settled at once where its owner is known by now.
    pub fn note(
        &mut self,
        node: &Node,
        (dir, name): (BorrowedFd<'_>, &str),
        (base, path): (&AbsPath, &str),
        wanted: &Wanted<'_>,
    ) -> Result<(), Errno> {
        if node.stat.mode() != wanted.waiting || !wanted.has_names() {
            return Ok(());
        }
        let attributes = self.attributes(wanted);
        let owner = (node.stat.uid(), node.stat.gid());
        // A run that was stopped between giving the owner and giving the mode has done the first.
        let begun = !node.made && owner == (attributes.uid, attributes.gid) && wanted.mode != wanted.waiting;
        if owner != (0, 0) && !begun {
            return Ok(());
        }
        if !node.made {
            let Some(open) = reopen(dir, name, node)? else { return Ok(()) };
            if !create::is_pending(open.as_fd()) {
                return Ok(());
            }
            if !attributes.pending {
                return create::settle(open.as_fd(), &attributes);
            }
        }
        let known = || self.pending.iter().any(|one| one.identity == Some(node.stat.identity()));
        if attributes.pending
            && !known()
            && let Ok(path) = AbsPath::normal(path)
        {
            self.pending.push(wanted.pending(base, path, &node.stat));
        }
        Ok(())
    }

    /// True if a file at a path waits for its owner.
    #[must_use]
    pub fn waits(&self, base: &AbsPath, path: &str) -> bool {
        self.pending.iter().any(|one| one.base == *base && one.path.as_str() == path)
    }
}

/// Opens for reading what is open as a mere place; none where it is something else by now, or nothing that can be owned.
pub fn reopen(dir: BorrowedFd<'_>, name: &str, node: &Node) -> Result<Option<OwnedFd>, Errno> {
    if !node.stat.is_dir() && !node.stat.is_file() {
        return Ok(None);
    }
    let fd = walk::open(dir, name, OFlags::RDONLY, Mounts::Enter)?;
    let same = walk::stat(fd.as_fd())?.identity() == node.stat.identity();
    Ok(same.then_some(fd))
}
