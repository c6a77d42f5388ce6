//! Methods to bring an entry from its store to its target: mount, link, copy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::job::{Context, Job};
use super::placeholder::occupied;
use super::source::Source;
use super::stores::Stores;
use super::target::TargetState;
use super::work::Work;
use crate::manifest::Kind;
use crate::manifest::options::BindOptions;
use crate::runtime::report::State;
use crate::runtime::versions::{self, Version, Versions};
use crate::sys::attributes::Unsupported;
use crate::sys::create::Node;
use crate::sys::mount_api;
use crate::sys::walk::{self, Stat};
use crate::text::problem::{Problem, Result, describe};
use crate::transfer::file::{self, Copier};

/// Result of placing an entry.
pub(super) struct Placed {
    /// State of the entry.
    pub state: State,
    /// Reason of the state; empty for the ordinary one.
    pub why: &'static str,
    /// The versions for the comparison of write-back.
    pub versions: Option<Versions>,
    /// True if the entry was in place before.
    pub unchanged: bool,
}

impl Placed {
    /// An entry placed by this run.
    pub fn now(state: State, versions: Option<Versions>) -> Self {
        Self { state, why: "", versions, unchanged: false }
    }

    /// An entry in place before.
    pub fn before(state: State, versions: Option<Versions>) -> Self {
        Self { unchanged: true, ..Self::now(state, versions) }
    }

    /// The same, with a reason.
    pub fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }
}

impl Work<'_> {
    /// Mounts a source at its target.
    pub(super) fn bind(&mut self, job: Job<'_>, source: &Node) -> Result<Placed> {
        let (entry, target, left) = (job.item.entry, job.target, self.context.left(job));
        if self.tree.is_new() && self.bind_fresh(job, source)? {
            return Ok(Placed::now(State::Mounted, left));
        }
        match self.examine(job, Some(&source.stat))? {
            TargetState::Done(mount) => {
                self.adjust(job, &mount)?;
                Ok(Placed::before(State::Mounted, left))
            }
            TargetState::BelowFirstId => Ok(Placed::before(State::Mounted, left)),
            TargetState::Unstored => Ok(Placed::before(State::Copied, left)
                .because("a file on the root stands for it until the next boot")),
            TargetState::Free(place) => {
                self.announce.before(&self.context, &mut std::iter::once(job), true, self.problems);
                let parent = self.tree.parent(target)?;
                let at = (parent.as_fd(), target.name());
                let from = (source.fd.as_fd(), entry.options);
                if !self.tree.bind_with_inner(self.context.plan, from, (target, place.as_fd())) {
                    self.tree.bind(from.0, at, place.as_fd(), from.1, false)?;
                }
                self.changes.mounted.push(target.clone());
                self.tree.cursor.forget(target.as_str());
                verify(at, &source.stat)?;
                Ok(Placed::now(State::Mounted, left))
            }
        }
    }

    /// Mounts on a new root, where no other process can interfere: nothing is opened again, and nothing has to be verified. False where
    /// the target is there already, or the kernel mounts by path.
    fn bind_fresh(&mut self, job: Job<'_>, source: &Node) -> Result<bool> {
        if !self.tree.kernel().has_descriptors() {
            return Ok(false);
        }
        let (entry, target) = (job.item.entry, job.target);
        let (dir, name) = (self.parent(job)?, target.name());
        // Mode 000: without its mount the mount point is a guard.
        let made = if entry.kind == Kind::Directory {
            rustix::fs::mkdirat(dir, name, Mode::empty())
        } else {
            rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::empty(), 0)
        };
        match made {
            Err(Errno::EXIST) => return Ok(false),
            made => made.map_err(|errno| walk::explain(dir, target.as_str(), errno, "a directory"))?,
        }
        self.tree.bind_fresh(source.fd.as_fd(), target, entry.options)?;
        Ok(true)
    }

    /// Brings the options of a mount in place in line.
    fn adjust(&mut self, job: Job<'_>, mount: &OwnedFd) -> Result<()> {
        let entry = job.item.entry;
        let failed = |errno| Problem::os("cannot set its mount options", errno);
        let inherited = self.stores.of(entry)?.options;
        let now = mount_api::options_of(mount.as_fd()).map_err(failed)?;
        let (set, clear) = difference(now, inherited, entry.options);
        if (set, clear) == (BindOptions::NONE, BindOptions::NONE) {
            return Ok(());
        }
        log::info!("{}: its mount options change to {}", entry.target, words(entry.options));
        self.tree.set_options(mount.as_fd(), set, clear).map_err(failed)
    }
}

/// Looks for a link in place of a file missing on the store. On a running system the link stays, as programs may have
/// the file open through it; at boot the mount replaces the link.
pub(super) fn linked(context: &Context<'_>, job: Job<'_>, dir: BorrowedFd<'_>) -> Result<Option<Placed>> {
    let name = job.target.name();
    if !is_link_to_store(dir, job) {
        return Ok(None);
    }
    if context.sysroot.is_live() {
        let placed = Placed::before(State::Linked, context.left(job));
        return Ok(Some(placed.because("the store did not hold it when it was placed")));
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
        .map(|()| None)
        .map_err(|errno| Problem::os("cannot replace its link", errno))
}

/// True if the target is a link to the source.
fn is_link_to_store(dir: BorrowedFd<'_>, job: Job<'_>) -> bool {
    let found = rustix::fs::readlinkat(dir, job.target.name(), Vec::new());
    found.is_ok_and(|found| found.as_bytes() == job.stored().as_str().as_bytes())
}

/// Places a link into the store in the target's directory.
pub(super) fn link(
    context: &Context<'_>,
    job: Job<'_>,
    dir: BorrowedFd<'_>,
    found: &Source,
    stores: &Stores,
) -> Result<Placed> {
    let left = context.left(job);
    let store = if let Source::Node(node) = found { Some(Version::of(&node.stat)) } else { None };
    let is_file = job.item.entry.kind != Kind::Directory;
    let fresh = is_file.then_some(Versions { store, root: None });
    let name = job.target.name();
    match rustix::fs::symlinkat(job.stored().as_str(), dir, name) {
        Ok(()) => Ok(Placed::now(State::Linked, fresh)),
        Err(Errno::EXIST) if is_link_to_store(dir, job) => Ok(Placed::before(State::Linked, left.or(fresh))),
        Err(Errno::EXIST) => {
            let stat =
                walk::stat_at(dir, name).map_err(|errno| Problem::os("cannot look at the target", errno))?;
            if stat.is_file() && store.is_some() && is_on_store(job, (dir, name), stores)? {
                // A program has replaced the link with a file, and write-back has copied the file to the store.
                let versions = Versions { store, root: Some(Version::of(&stat)) };
                return Ok(Placed::before(State::Linked, left.or(Some(versions))));
            }
            Err(occupied(&stat, "the link"))
        }
        Err(errno) => Err(Problem::os("cannot place the link", errno)),
    }
}

/// The directory of a source, which is open.
fn folder_on_store(job: Job<'_>, stores: &Stores) -> Result<OwnedFd> {
    let store = stores.usable(job.item.entry).ok_or_else(|| Problem::new("its store cannot be used"))?;
    let open = store.cursor.opened(job.source.folder()).unwrap_or(store.cursor.base());
    walk::duplicate(open).map_err(|errno| Problem::new(describe(errno)))
}

/// Tells if the store has the same file.
fn is_on_store(job: Job<'_>, (dir, name): (BorrowedFd<'_>, &str), stores: &Stores) -> Result<bool> {
    let failed = |errno| Problem::os("cannot compare the target with the store's file", errno);
    let from = folder_on_store(job, stores)?;
    let from_name = versions::c_name(job.source.name()).map_err(failed)?;
    let to_name = versions::c_name(name).map_err(failed)?;
    file::same((from.as_fd(), &from_name), (dir, &to_name)).map_err(failed)
}

/// Places a copy in the target's directory. Its versions are none where they are not known.
pub(super) fn copy(
    context: &Context<'_>,
    job: Job<'_>,
    dir: BorrowedFd<'_>,
    node: &Node,
    stores: &Stores,
) -> Result<Placed> {
    let failed = |errno| Problem::os("cannot look at the target", errno);
    let from = folder_on_store(job, stores)?;
    let names = (versions::c_name(job.source.name()), versions::c_name(job.target.name()));
    let (from_name, to_name) = (names.0.map_err(failed)?, names.1.map_err(failed)?);
    let (from, to) = ((from.as_fd(), from_name.as_c_str()), (dir, to_name.as_c_str()));
    let store = Some(Version::of(&node.stat));
    let mut copier = Copier::new(Unsupported::Leave);
    let both = || {
        let root = Version::of(&walk::stat_at(to.0, to.1).map_err(failed)?);
        Ok::<_, Problem>(Some(Versions { store, root: Some(root) }))
    };
    let made = |result: Result<(), Errno>| {
        result.map_err(|errno| Problem::os("cannot copy it", errno))?;
        Ok(Placed::now(State::Copied, both()?))
    };
    let found = match walk::stat_at(to.0, to.1) {
        Err(Errno::NOENT) => return made(copier.place(from, &node.stat, to)),
        found => found.map_err(failed)?,
    };
    if !found.is_file() && !found.is_symlink() {
        return Err(walk::wrong_type(to.0, job.target.name(), &found, "a regular file"));
    }
    // A link of another method stays until the next boot, as programs may have the file open through it.
    if found.is_symlink() && is_link_to_store(dir, job) {
        return Ok(Placed::before(State::Copied, Some(Versions { store, root: None })));
    }
    let before = context.previous.entry(job.target);
    if let Some((entry, versions)) = before.and_then(|entry| Some((entry, *entry.versions.as_deref()?))) {
        // Changes of a program stay; write-back brings them to the store.
        if entry.source == job.stored() {
            let is_changed = versions.root != Some(Version::of(&found));
            let is_same = is_changed && file::same(from, to).map_err(failed)?;
            return Ok(Placed::before(State::Copied, if is_same { both()? } else { Some(versions) }));
        }
        if versions.root == Some(Version::of(&found)) {
            return made(copier.place_over(from, &node.stat, to));
        }
        let what = format!("the copy of {} that is there was changed since it was made", entry.source);
        let remedy = format!("copy it to {} if it is to be kept, remove it, then run again", entry.source);
        return Err(Problem::new(what).remedy(remedy));
    }
    if file::same(from, to).map_err(failed)? {
        return Ok(Placed::before(State::Copied, both()?));
    }
    if context.sysroot.is_live() {
        return Err(occupied(&found, "the copy"));
    }
    Ok(Placed::before(State::Copied, None))
}

/// Compares the file seen at a target with the mounted one.
pub fn verify((dir, name): (BorrowedFd<'_>, &str), source: &Stat) -> Result<()> {
    let seen = walk::stat_at(dir, name)
        .map_err(|errno| Problem::os("cannot look at it after mounting it", errno))?;
    if seen.identity() == source.identity() && seen.is_mount_root() {
        return Ok(());
    }
    Err(Problem::new("it was mounted, but another file is seen there").remedy("run `imp-mount --check`"))
}

/// The options to set and to clear on a mount, given its current options and those inherited from the store.
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
