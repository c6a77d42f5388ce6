//! Methods that bring an entry from its store to its target: mount, link, copy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::placeholder::occupied;
use super::source::Source;
use super::target::Spot;
use super::worker::{Worker, opened};
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Kind};
use crate::plan::Item;
use crate::runtime::report::State;
use crate::runtime::versions::{self, Version, Versions};
use crate::sys::attributes::Unsupported;
use crate::sys::create::Node;
use crate::sys::mount_api;
use crate::sys::walk::{self, Stat};
use crate::text::problem::{Problem, Result, describe};
use crate::transfer::file::{self, Copier};

impl Worker<'_, '_> {
    pub(super) fn bind(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        path: &AbsPath,
        source: &Node,
    ) -> Result<(State, &'static str)> {
        let entry = item.entry;
        if self.tree.is_new() && self.bind_fresh(item, target, source)? {
            return Ok((State::Mounted, ""));
        }
        match self.spot(item, target, Some((path, &source.stat)))? {
            Spot::Done(mount) => {
                self.unchanged += 1;
                self.adjust(item, &mount)?;
            }
            Spot::BelowFirstId => self.unchanged += 1,
            Spot::Stands => {
                self.unchanged += 1;
                return Ok((State::Copied, "a file on the root stands for it until the next boot"));
            }
            Spot::Free(place) => {
                let parent = self.tree.parent(target)?;
                let name = target.name();
                self.tree.bind(
                    source.fd.as_fd(),
                    (parent.as_fd(), name),
                    place.as_fd(),
                    entry.options,
                    false,
                )?;
                self.mounted.push(target.clone());
                self.tree.cursor.forget(target.as_str());
                verify((parent.as_fd(), name), &source.stat)?;
            }
        }
        Ok((State::Mounted, ""))
    }

    /// Mounts on a new root, where no other process can interfere: nothing is opened again, and nothing has to be verified. False where
    /// the target is there already, or the kernel mounts by path.
    fn bind_fresh(&mut self, item: &Item<'_>, target: &AbsPath, source: &Node) -> Result<bool> {
        if !self.tree.kernel().has_descriptors() {
            return Ok(false);
        }
        let name = target.name();
        let dir = self.parent(item, target)?;
        // Mode 000, so that it guards itself should the mount ever go away.
        let made = if item.entry.kind == Kind::Directory {
            rustix::fs::mkdirat(dir, name, Mode::empty())
        } else {
            rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::empty(), 0)
        };
        match made {
            Err(Errno::EXIST) => return Ok(false),
            made => made.map_err(|errno| walk::explain(dir, target.as_str(), errno, "a directory"))?,
        }
        self.tree.bind_fresh(source.fd.as_fd(), target, item.entry.options)?;
        Ok(true)
    }

    /// Brings the options of a mount that is in place in line.
    pub(super) fn adjust(&mut self, item: &Item<'_>, mount: &OwnedFd) -> Result<()> {
        let failed = |errno| Problem::os("cannot set its mount options", errno);
        let inherited = opened(&mut self.stores, item.entry)?.options;
        let now = mount_api::options_of(mount.as_fd()).map_err(failed)?;
        let (set, clear) = difference(now, inherited, item.entry.options);
        if (set, clear) == (BindOptions::NONE, BindOptions::NONE) {
            return Ok(());
        }
        log::info!("{}: its mount options change to {}", item.entry.target, words(item.entry.options));
        self.tree.set_options(mount.as_fd(), set, clear).map_err(failed)
    }

    /// True if a link stands for a file that the store did not hold. On a running system it stays, as programs may have the
    /// file open through it; at boot it gives way to the mount.
    pub(super) fn is_linked(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<bool> {
        if item.entry.kind == Kind::Directory {
            return Ok(false);
        }
        let live = self.sysroot.is_live();
        let text = item.store.path.join(source);
        let dir = self.parent(item, target)?;
        let found = rustix::fs::readlinkat(dir, target.name(), Vec::new());
        if !found.is_ok_and(|found| found.as_bytes() == text.as_str().as_bytes()) {
            return Ok(false);
        }
        if live {
            self.unchanged += 1;
            return Ok(true);
        }
        let removed = rustix::fs::unlinkat(dir, target.name(), AtFlags::empty());
        removed
            .map(|()| false)
            .map_err(|errno| Problem::os("cannot replace the link that stood for it", errno))
    }

    /// Places a link into the store. Returns the versions that write-back compares with.
    pub(super) fn link(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        source: &AbsPath,
        found: &Source,
    ) -> Result<Option<Versions>> {
        let text = item.store.path.join(source);
        let left = self.left(&item.store.path, target, source);
        let store = if let Source::Node(node) = found { Some(Version::of(&node.stat)) } else { None };
        let is_file = item.entry.kind != Kind::Directory;
        let fresh = is_file.then_some(Versions { store, root: None });
        let dir = self.parent(item, target)?;
        let name = target.name();
        match rustix::fs::symlinkat(text.as_str(), dir, name) {
            Ok(()) => Ok(fresh),
            Err(Errno::EXIST) => {
                let found = rustix::fs::readlinkat(dir, name, Vec::new());
                if found.is_ok_and(|found| found.as_bytes() == text.as_str().as_bytes()) {
                    self.unchanged += 1;
                    return Ok(left.or(fresh));
                }
                let failed = |errno| Problem::os("cannot look at the target", errno);
                let dir = walk::again(dir).map_err(|errno| Problem::new(describe(errno)))?;
                let stat = walk::stat_at(dir.as_fd(), name).map_err(failed)?;
                if stat.is_file() && store.is_some() && self.is_on_store(item, source, (dir.as_fd(), name))? {
                    // A program put it in the place of the link, and write-back has brought it to the store.
                    self.unchanged += 1;
                    return Ok(left.or(Some(Versions { store, root: Some(Version::of(&stat)) })));
                }
                Err(occupied(&stat, "the link"))
            }
            Err(errno) => Err(Problem::os("cannot place the link", errno)),
        }
    }

    /// The directory of a source, which is open.
    fn folder_on_store(&mut self, item: &Item<'_>, source: &AbsPath) -> Result<OwnedFd> {
        let store = opened(&mut self.stores, item.entry)?;
        let open = store.cursor.opened(source.folder()).unwrap_or(store.cursor.base());
        walk::again(open).map_err(|errno| Problem::new(describe(errno)))
    }

    /// Tells if the store has the same file.
    fn is_on_store(
        &mut self,
        item: &Item<'_>,
        source: &AbsPath,
        (dir, name): (BorrowedFd<'_>, &str),
    ) -> Result<bool> {
        let failed = |errno| Problem::os("cannot compare the target with the store's file", errno);
        let from = self.folder_on_store(item, source)?;
        let from_name = versions::c_name(source.name()).map_err(failed)?;
        let to_name = versions::c_name(name).map_err(failed)?;
        file::same((from.as_fd(), &from_name), (dir, &to_name)).map_err(failed)
    }

    /// Places a copy. Returns the versions that write-back compares with; none where they are not known.
    pub(super) fn copy(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        source: &AbsPath,
        node: &Node,
    ) -> Result<Option<Versions>> {
        let failed = |errno| Problem::os("cannot look at the target", errno);
        let from = self.folder_on_store(item, source)?;
        let shown = item.store.path.join(source);
        let (live, previous) = (self.sysroot.is_live(), self.previous.entry(target));
        let dir = self.parent(item, target)?;
        let dir = walk::again(dir).map_err(|errno| Problem::new(describe(errno)))?;
        let names = (versions::c_name(source.name()), versions::c_name(target.name()));
        let (from_name, to_name) = (names.0.map_err(failed)?, names.1.map_err(failed)?);
        let (from, to) = ((from.as_fd(), from_name.as_c_str()), (dir.as_fd(), to_name.as_c_str()));
        let mut copier = Copier::new(Unsupported::Leave);
        let done = |result: Result<(), Errno>| {
            result.map_err(|errno| Problem::os("cannot copy it", errno))?;
            let root = Version::of(&walk::stat_at(to.0, to.1).map_err(failed)?);
            Ok(Some(Versions { store: Some(Version::of(&node.stat)), root: Some(root) }))
        };
        let found = match walk::stat_at(to.0, to.1) {
            Err(Errno::NOENT) => return done(copier.place(from, &node.stat, to)),
            found => found.map_err(failed)?,
        };
        if !found.is_file() && !found.is_symlink() {
            return Err(walk::wrong_type(to.0, target.name(), &found, "a regular file"));
        }
        if found.is_symlink() {
            let link = rustix::fs::readlinkat(to.0, to.1, Vec::new()).map_err(failed)?;
            // Of another method. It stays until the next boot, as programs may have the file open through it.
            if link.as_bytes() == shown.as_str().as_bytes() {
                self.unchanged += 1;
                return Ok(Some(Versions { store: Some(Version::of(&node.stat)), root: None }));
            }
        }
        let left = previous.and_then(|entry| Some((entry, *entry.versions.as_deref()?)));
        if let Some((entry, versions)) = left {
            // Changes of a program stay; write-back brings them to the store.
            if entry.source == shown {
                self.unchanged += 1;
                let is_changed = versions.root != Some(Version::of(&found));
                let is_same = is_changed && file::same(from, to).map_err(failed)?;
                return if is_same { done(Ok(())) } else { Ok(Some(versions)) };
            }
            if versions.root == Some(Version::of(&found)) {
                return done(copier.place_over(from, &node.stat, to));
            }
            let what = format!("the copy of {} that is there was changed since it was made", entry.source);
            let remedy =
                format!("copy it to {} if it is to be kept, remove it, then run again", entry.source);
            return Err(Problem::new(what).remedy(remedy));
        }
        if file::same(from, to).map_err(failed)? {
            self.unchanged += 1;
            return done(Ok(()));
        }
        if live {
            return Err(occupied(&found, "the copy"));
        }
        self.unchanged += 1;
        Ok(None)
    }
}

/// Holds what can be seen at a target now against what was mounted.
pub fn verify((dir, name): (BorrowedFd<'_>, &str), source: &Stat) -> Result<()> {
    let seen = walk::stat_at(dir, name)
        .map_err(|errno| Problem::os("cannot look at it after mounting it", errno))?;
    if seen.identity() == source.identity() && seen.is_mount_root() {
        return Ok(());
    }
    Err(Problem::new("it was mounted, but something else is seen there").remedy("run `imp-mount --check`"))
}

/// The options to set and to clear on a mount, given those that it has and those that it inherits from the store.
#[must_use]
pub fn difference(
    now: BindOptions,
    inherited: BindOptions,
    wanted: BindOptions,
) -> (BindOptions, BindOptions) {
    let atime = BindOptions::NOATIME.and(BindOptions::STRICTATIME);
    let asks = wanted.without(wanted.without(atime)) != BindOptions::NONE;
    let inherited = if asks { inherited.without(atime) } else { inherited };
    let wanted = wanted.and(inherited);
    (wanted.without(now), now.without(wanted))
}

/// Options in words.
#[must_use]
pub fn words(options: BindOptions) -> String {
    let names: Vec<_> = options.names().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}
