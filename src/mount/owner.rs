//! Owners: names resolved to numbers if possible, and recorded as pending otherwise.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ids::Names;
use crate::manifest::parents::DirectoryRule;
use crate::manifest::{AbsPath, Entry, Id, Kind};
use crate::runtime::report::Pending;
use crate::sys::create::{self, Attributes, Node};
use crate::sys::walk::{self, Mounts, Stat};

/// The mode of a directory while its owner is pending.
const WAITING_DIRECTORY: u16 = 0o700;

/// Owner and mode of a new file, as in the manifest.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    user: Option<&'a Id>,
    group: Option<&'a Id>,
    mode: u16,
    /// The mode while the owner is pending.
    waiting: u16,
}

impl<'a> Wanted<'a> {
    /// Owner and mode of an entry.
    #[must_use]
    pub fn of_entry(entry: &'a Entry) -> Self {
        let waiting = if entry.kind == Kind::Directory { WAITING_DIRECTORY } else { 0o600 };
        Self {
            user: entry.owner.user.as_ref(),
            group: entry.owner.group.as_ref(),
            mode: entry.mode(),
            waiting,
        }
    }

    /// Owner and mode of a directory above an entry.
    #[must_use]
    pub fn of_parent(rule: &'a DirectoryRule<'_>) -> Self {
        Self { user: rule.user(), group: rule.group(), mode: rule.mode(), waiting: WAITING_DIRECTORY }
    }

    /// False for a directory above an entry whose mode rules out a pending owner.
    #[must_use]
    pub fn may_wait(node: &Node) -> bool {
        node.stat.mode() == WAITING_DIRECTORY
    }

    /// The wanted owner of an already pending path.
    #[must_use]
    pub fn of_pending(pending: &'a Pending) -> Self {
        Self { user: pending.user.as_ref(), group: pending.group.as_ref(), mode: pending.mode, waiting: 0 }
    }

    /// The owner in numbers; root, restricted and marked as pending, while a name is unknown.
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

/// Names of owners, and files with a pending owner.
pub struct Owners<'n> {
    /// Known users and groups.
    pub names: Names<'n>,
    /// Files of this run with an unknown user or group.
    pub pending: Vec<Pending>,
}

impl Owners<'_> {
    /// Owner and mode of a new file, in numbers.
    pub fn attributes(&mut self, wanted: &Wanted<'_>) -> Attributes {
        wanted.attributes(&mut self.names)
    }

    /// Records a file with a pending owner, either new or never settled since an earlier boot. The owner of the latter
    /// is set at once if known by now.
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
        // A run stopped between owner and mode has set the owner.
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

/// Opens a file for reading by the name of its `O_PATH` descriptor; none if exchanged meanwhile, or neither file nor
/// directory.
pub fn reopen(dir: BorrowedFd<'_>, name: &str, node: &Node) -> Result<Option<OwnedFd>, Errno> {
    if !node.stat.is_dir() && !node.stat.is_file() {
        return Ok(None);
    }
    let fd = walk::open(dir, name, OFlags::RDONLY, Mounts::Enter)?;
    let same = walk::stat(fd.as_fd())?.identity() == node.stat.identity();
    Ok(same.then_some(fd))
}
