//! One run over the entries: for each, what its store holds, where it goes, and how it gets there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::guard::Guard;
use super::owner::{self, Wanted};
use super::root::{Sysroot, Tree};
use super::store::Opened;
use super::{copy, kernel};
use crate::create::{self, Attributes, Node};
use crate::manifest::options::BindOptions;
use crate::manifest::parents::Said;
use crate::manifest::path::escape;
use crate::manifest::{AbsPath, Entry, Kind, Method, Missing};
use crate::names::Names;
use crate::plan::{Action, Item, Plan};
use crate::problem::{Problem, Result};
use crate::report::{EntryReport, Pending, Report, State};
use crate::table;
use crate::walk::{self, Cursor, Mounts, Stat};

/// Does the entries of a plan, one after the other, and keeps what a report needs.
pub struct Worker<'w, 'm> {
    /// What is done.
    pub plan: &'w Plan<'m>,
    /// Where it is done.
    pub sysroot: &'w Sysroot,
    /// The root.
    pub tree: Tree,
    /// Walks below the root.
    pub target: Cursor,
    /// The stores, in the manifest's order; why where one cannot be used.
    pub stores: Vec<Result<Opened>>,
    /// Names and ids.
    pub names: Names<'w>,
    /// What is mounted where something is missing.
    pub guard: Guard,
    /// What the runs before have left.
    pub previous: &'w Report,
    /// What waits for its owner.
    pub pending: Vec<Pending>,
    /// What became of each entry.
    pub entries: Vec<EntryReport>,
    /// What this run has mounted, in order.
    pub mounted: Vec<AbsPath>,
    /// What failed although it is required.
    pub failures: Vec<Problem>,
    /// What else should be known.
    pub warnings: Vec<Problem>,
    /// How many entries were in place already.
    pub unchanged: usize,
}

/// What an entry finds on its store.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, on the stack")]
enum Source {
    /// It is there.
    Node(Node),
    /// It is not there, and a link is to stand for it.
    Link,
    /// It is not there, and nothing is to be done.
    Absent,
}

/// What an entry finds at its target.
enum Spot {
    /// A place to mount on.
    Free(OwnedFd),
    /// What should be there is there, as the root of this mount.
    Done(OwnedFd),
}

impl Worker<'_, '_> {
    /// Does every entry.
    pub fn entries(&mut self) {
        let mut guarded: Option<&AbsPath> = None;
        for item in &self.plan.items {
            let entry = item.entry;
            if let Some(above) = guarded.filter(|above| entry.target.is_in(above)) {
                if item.action == Action::Place {
                    let why = format!("it lies below {above}, which is guarded");
                    let problem = Problem::new(why).at(entry.target.to_string());
                    self.failed(item, &entry.target, entry.source(), problem, true);
                } else {
                    self.record(entry, &entry.target, entry.source(), resting(item.action), String::new());
                }
                continue;
            }
            match item.action {
                Action::Later | Action::Off => {
                    self.record(entry, &entry.target, entry.source(), resting(item.action), String::new());
                }
                Action::Skip => {
                    let why = "left out by imp-mount.skip= on the kernel command line";
                    match self.guard(item, &entry.target) {
                        Ok(()) => {
                            self.record(entry, &entry.target, entry.source(), State::Skipped, why.to_owned());
                        }
                        Err(problem) => {
                            self.failed(item, &entry.target, entry.source(), problem, false);
                        }
                    }
                    guarded = Some(&entry.target);
                }
                Action::Place => {
                    if let Err(problem) = self.place(item) {
                        let problem = problem.at(entry.target.to_string());
                        self.failed(item, &entry.target, entry.source(), problem, false);
                        guarded = self
                            .entries
                            .last()
                            .filter(|last| last.state == State::Guarded)
                            .map(|_| &entry.target);
                    }
                }
            }
        }
    }

    /// Takes down that an entry failed, or one file that its pattern matched. An optional one is guarded, unless what lies
    /// above it is; where that fails too, it is as bad as a required one.
    fn failed(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        source: &AbsPath,
        problem: Problem,
        covered: bool,
    ) {
        let entry = item.entry;
        let required = entry.required && item.store.required && item.action != Action::Skip;
        let mut state = State::Failed;
        let why = problem.to_string();
        // What is wrong with a store is said once, and not for every entry.
        let told = self.stores[usize::from(entry.store)].is_err();
        if !told {
            if required { &mut self.failures } else { &mut self.warnings }.push(problem);
        }
        if !required {
            let guarded = if covered { Ok(()) } else { self.guard(item, target) };
            match guarded {
                // What a pattern would have matched has no names that could be guarded.
                Ok(()) if is_pattern(entry, target) => {}
                Ok(()) => state = State::Guarded,
                // What runs already has written to memory before, and would lose sight of it.
                Err(_) if self.sysroot.is_live() => {}
                Err(worse) => self.failures.push(worse.at(target.to_string())),
            }
        }
        self.record(entry, target, source, state, why);
    }

    fn record(&mut self, entry: &Entry, target: &AbsPath, source: &AbsPath, state: State, why: String) {
        self.entries.push(EntryReport {
            target: target.clone(),
            source: self.plan.manifest.store(entry).path.join(source),
            kind: entry.kind,
            method: entry.method,
            state,
            why,
        });
    }

    fn place(&mut self, item: &Item<'_>) -> Result<()> {
        let entry = item.entry;
        if let Err(problem) = &self.stores[usize::from(entry.store)] {
            return Err(problem.clone());
        }
        if entry.kind == Kind::Glob {
            return self.place_matches(item);
        }
        self.place_one(item, &entry.target, entry.source())
    }

    fn place_one(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<()> {
        let entry = item.entry;
        let found = self.source(item, source)?;
        let (state, why) = match (entry.method, found) {
            (_, Source::Absent) => (State::Absent, "the store does not hold it"),
            (Method::Symlink, _) => {
                self.link(item, target, source)?;
                (State::Linked, "")
            }
            (Method::Bind, Source::Link) => {
                self.link(item, target, source)?;
                (State::Linked, "the store does not hold it yet")
            }
            (Method::Bind, Source::Node(_)) if self.is_linked(item, target, source)? => {
                (State::Linked, "the store did not hold it when it was placed")
            }
            (Method::Bind, Source::Node(node)) => {
                self.bind(item, target, &node)?;
                (State::Mounted, "")
            }
            (Method::Copy, Source::Node(node)) => {
                self.copy(item, target, source, &node)?;
                (State::Copied, "")
            }
            (Method::Copy, Source::Link) => (State::Absent, "the store does not hold it yet"),
        };
        self.record(entry, target, source, state, why.to_owned());
        Ok(())
    }

    /// Everything in the store whose name matches, but what is an entry of its own.
    fn place_matches(&mut self, item: &Item<'_>) -> Result<()> {
        let entry = item.entry;
        let folder = entry.source().parent().unwrap_or_else(AbsPath::root);
        for name in self.matches(item, &folder)? {
            let target = entry.target.parent().unwrap_or_else(AbsPath::root).child(&name);
            if self.plan.item(&target).is_some() {
                continue;
            }
            let source = folder.child(&name);
            // One that cannot be placed does not keep the others away.
            if let Err(problem) = self.place_one(item, &target, &source) {
                self.failed(item, &target, &source, problem.at(target.to_string()), false);
            }
        }
        Ok(())
    }

    /// The names in a folder of the store that match the entry's pattern, in order.
    fn matches(&mut self, item: &Item<'_>, folder: &AbsPath) -> Result<Vec<String>> {
        let store = opened(&mut self.stores, item.entry)?;
        // The errno tells a folder that is not there from one that cannot be opened.
        let found = store.cursor.enter(folder.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Stay).map_err(|errno| match errno {
                Errno::NOENT => Problem::os("", errno),
                errno => walk::explain(dir, &item.store.path.join_text(path), errno, "a directory"),
            })
        });
        let dir = match found {
            Err(Problem { errno: Some(Errno::NOENT), .. }) => return Ok(Vec::new()),
            found => found?,
        };
        let shown = item.store.path.join(folder);
        let (names, problems) = walk::matching(dir, item.entry.target.name())
            .map_err(|errno| Problem::os(format!("cannot list {shown}"), errno))?;
        self.warnings.extend(problems.into_iter().map(|problem| problem.at(item.entry.target.to_string())));
        Ok(names)
    }

    /// What the store holds, created if that is asked for.
    fn source(&mut self, item: &Item<'_>, path: &AbsPath) -> Result<Source> {
        let entry = item.entry;
        let (plan, names, pending) = (self.plan, &mut self.names, &mut self.pending);
        let store = opened(&mut self.stores, entry)?;
        let shown = item.store.path.join(path);
        let Some(parent) = path.parent() else {
            // The store's own directory.
            let fd =
                store.cursor.base().try_clone_to_owned().map_err(|error| Problem::new(error.to_string()))?;
            let stat = walk::stat(fd.as_fd())
                .map_err(|errno| Problem::os(format!("cannot look at {shown}"), errno))?;
            return Ok(Source::Node(Node { fd, stat, made: false }));
        };
        let dir = store.cursor.enter(parent.as_str(), &mut |dir, name, path| {
            let said = plan.parents.of(path);
            let wanted = Wanted::of_parent(&said);
            create::directory(dir, name, Mounts::Stay, &mut || wanted.attributes(names))
                .and_then(|node| {
                    owner::note(&node, (dir, name), (&item.store.path, path), &wanted, names, pending)?;
                    Ok(node.fd)
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
            let creates = matches!(entry.missing, Missing::Create | Missing::MachineId);
            match walk::look(dir, name, Mounts::Stay) {
                Err(Errno::NOENT) => match entry.missing {
                    Missing::Link => return Ok(Source::Link),
                    Missing::Skip => return Ok(Source::Absent),
                    Missing::Fail => {
                        return Err(Problem::new(format!("{shown} is not there"))
                            .remedy("bring it there, or choose another policy with `missing`"));
                    }
                    _ => create::file(dir, name, Mounts::Stay, content, &mut attributes).map_err(failed)?,
                },
                Err(errno) => return Err(failed(errno)),
                Ok(fd) => {
                    let stat = walk::stat(fd.as_fd()).map_err(failed)?;
                    if creates && stat.is_file() && stat.mode() == 0 {
                        create::file(dir, name, Mounts::Stay, content, &mut attributes).map_err(failed)?
                    } else {
                        Node { fd, stat, made: false }
                    }
                }
            }
        };
        let carries_links = entry.method == Method::Copy && node.stat.is_symlink();
        if entry.kind != Kind::Directory && !node.stat.is_file() && !carries_links {
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
                .map_err(|problem| problem.at(shown.to_string()))?;
        }
        Ok(Source::Node(node))
    }

    fn bind(&mut self, item: &Item<'_>, target: &AbsPath, source: &Node) -> Result<()> {
        let entry = item.entry;
        match self.spot(item, target, Some(&source.stat))? {
            Spot::Done(mount) => {
                self.unchanged += 1;
                self.adjust(item, &mount)
            }
            Spot::Free(place) => {
                let parent = self.parent_again(target)?;
                let name = target.name();
                self.tree.bind(
                    source.fd.as_fd(),
                    (parent.as_fd(), name),
                    place.as_fd(),
                    entry.options,
                    false,
                )?;
                self.mounted.push(target.clone());
                self.target.forget(target.as_str());
                verify((parent.as_fd(), name), &source.stat)
            }
        }
    }

    /// Brings the options of a mount that is in place in line.
    fn adjust(&mut self, item: &Item<'_>, mount: &OwnedFd) -> Result<()> {
        let failed = |errno| Problem::os("cannot set its mount options", errno);
        let inherited = opened(&mut self.stores, item.entry)?.options;
        let now = kernel::options_of(mount.as_fd()).map_err(failed)?;
        let (set, clear) = difference(now, inherited, item.entry.options);
        if (set, clear) == (BindOptions::NONE, BindOptions::NONE) {
            return Ok(());
        }
        log::info!("{}: its mount options change to {}", item.entry.target, words(item.entry.options));
        self.tree.set_options(mount.as_fd(), set, clear).map_err(failed)
    }

    /// Whether a link stands for a file that the store did not hold. On a running system it stays, as programs may have the
    /// file open through it; at boot it gives way to the mount.
    fn is_linked(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<bool> {
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

    fn link(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) -> Result<()> {
        let text = item.store.path.join(source);
        let dir = self.parent(item, target)?;
        let name = target.name();
        match rustix::fs::symlinkat(text.as_str(), dir, name) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let found = rustix::fs::readlinkat(dir, name, Vec::new());
                if found.is_ok_and(|found| found.as_bytes() == text.as_str().as_bytes()) {
                    self.unchanged += 1;
                    return Ok(());
                }
                let stat = walk::stat_at(dir, name)
                    .map_err(|errno| Problem::os("cannot look at the target", errno))?;
                Err(occupied(&stat, "the link"))
            }
            Err(errno) => Err(Problem::os("cannot place the link", errno)),
        }
    }

    fn copy(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath, node: &Node) -> Result<()> {
        let from = match source.parent() {
            Some(parent) => {
                let store = opened(&mut self.stores, item.entry)?;
                let open = store.cursor.opened(parent.as_str()).unwrap_or(store.cursor.base());
                open.try_clone_to_owned().map_err(|error| Problem::new(error.to_string()))?
            }
            None => return Err(Problem::new("a store itself cannot be copied")),
        };
        // A copy that a program has changed since is its; but a file of before would end up on the store, in place of what
        // that holds.
        let foreign = self.sysroot.is_live() && self.previous.state(target) != Some(State::Copied);
        let dir = self.parent(item, target)?;
        let (from, to) = ((from.as_fd(), source.name()), (dir, target.name()));
        if copy::place(from, &node.stat, to)? {
            return Ok(());
        }
        let failed = |errno| Problem::os("cannot look at the target", errno);
        if foreign && !copy::same(from, to).map_err(failed)? {
            return Err(occupied(&walk::stat_at(to.0, to.1).map_err(failed)?, "the copy"));
        }
        self.unchanged += 1;
        Ok(())
    }

    /// The directory that holds a target, with everything above it created.
    fn parent(&mut self, item: &Item<'_>, target: &AbsPath) -> Result<BorrowedFd<'_>> {
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let own_path = item.entry.source.is_none();
        let store = self.stores[usize::from(item.entry.store)].as_ref().ok().filter(|_| own_path);
        let (plan, names, pending) = (self.plan, &mut self.names, &mut self.pending);
        let root = AbsPath::root();
        let make = if self.tree.is_new() { create::new_directory } else { create::directory };
        self.target.enter(parent.as_str(), &mut |dir, name, path| {
            let said = plan.parents.of(path);
            let wanted = Wanted::of_parent(&said);
            // What the store holds at the same path shows how it should look; but what is the same on every system is not
            // the store's to say.
            let model = store
                .filter(|_| !matches!(said, Said::System(_)))
                .and_then(|store| store.cursor.opened(path));
            let model = model
                .map(walk::stat)
                .transpose()
                .map_err(|errno| Problem::os("cannot look at the store", errno))?;
            let waits = model.is_some()
                && pending.iter().any(|one| one.base == item.store.path && one.path.as_str() == path);
            let mut attributes = || match model {
                Some(stat) => {
                    Attributes { uid: stat.uid(), gid: stat.gid(), mode: stat.mode(), pending: waits }
                }
                None => wanted.attributes(names),
            };
            let node = make(dir, name, Mounts::Enter, &mut attributes)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))?;
            owner::note(&node, (dir, name), (&root, path), &wanted, names, pending)
                .map_err(|errno| Problem::os(format!("cannot look at {}", escape(path)), errno))?;
            Ok(node.fd)
        })
    }

    /// The same directory once more, without creating anything.
    fn parent_again(&mut self, target: &AbsPath) -> Result<OwnedFd> {
        let parent = target.parent().unwrap_or_else(AbsPath::root);
        let dir = self.target.enter(parent.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        })?;
        dir.try_clone_to_owned()
            .map_err(|error| Problem::new(format!("cannot keep a directory open: {error}")))
    }

    /// What is at a path below the root, and the directory that holds it; none where nothing is.
    pub fn look(&mut self, path: &AbsPath) -> Result<Option<(OwnedFd, Stat)>> {
        let failed = |errno| Problem::os(format!("cannot look at {path}"), errno);
        let parent = path.parent().unwrap_or_else(AbsPath::root);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let looked = walk::open_below(self.tree.root.as_fd(), &parent, flags, Mounts::Enter)
            .and_then(|dir| walk::stat_at(dir.as_fd(), path.name()).map(|stat| (dir, stat)));
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Where to mount: what is at the target, created if nothing is. `source` is none for a guard.
    fn spot(&mut self, item: &Item<'_>, target: &AbsPath, source: Option<&Stat>) -> Result<Spot> {
        let directory = item.entry.kind == Kind::Directory;
        let (live, guard) = (self.sysroot.is_live(), self.guard.identities());
        let dir = self.parent(item, target)?;
        let name = target.name();
        let failed = |errno| {
            walk::explain(dir, target.as_str(), errno, if directory { "a directory" } else { "a file" })
        };
        // Mode 000, so that it guards itself should the mount ever go away.
        let made = if directory {
            rustix::fs::mkdirat(dir, name, Mode::empty())
                .and_then(|()| walk::directory(dir, name, Mounts::Enter))
        } else {
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, new, Mode::empty())
        };
        let stat = match made {
            Ok(place) => return Ok(Spot::Free(place)),
            Err(Errno::EXIST) => walk::stat_at(dir, name).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        };
        if stat.is_symlink() {
            return Err(walk::wrong_type(dir, target.as_str(), &stat, "nothing"));
        }
        if source.is_some() && !(if directory { stat.is_dir() } else { stat.is_file() }) {
            let wanted = if directory { "a directory" } else { "a regular file" };
            return Err(walk::wrong_type(dir, target.as_str(), &stat, wanted));
        }
        let place = walk::look(dir, name, Mounts::Enter).map_err(failed)?;
        if stat.is_mount_root() {
            let guarded = guard.contains(&Some(stat.identity()));
            match source {
                Some(source) if source.identity() == stat.identity() => return Ok(Spot::Done(place)),
                // Another file system on a disk needs no guard.
                None if guarded || !super::root::is_volatile(place.as_fd())? => return Ok(Spot::Done(place)),
                None => return Ok(Spot::Free(place)),
                Some(_) => {}
            }
            if !guarded {
                let mount = table::of(place.as_fd()).unwrap_or_default();
                return Err(Problem::new(format!(
                    "something else is mounted there: {} ({}), {}",
                    escape(&mount.source),
                    mount.fstype,
                    escape(&mount.root)
                ))
                .remedy("unmount it, or take the entry out of the manifest"));
            }
            // The guard of an earlier run has done its duty.
            kernel::detach(place.as_fd())
                .map_err(|errno| Problem::os("cannot take the guard away", errno))?;
            let below = walk::look(dir, name, Mounts::Enter).map_err(failed)?;
            return Ok(Spot::Free(below));
        }
        // A part of what is mounted above: mounting it once more hides nothing.
        if source.is_some_and(|source| source.identity() == stat.identity()) {
            return Ok(Spot::Free(place));
        }
        if let Some(held) = held(dir, name, &stat).map_err(failed)? {
            let problem = Problem::new(format!("the target holds {held}, which mounting would hide"));
            if live {
                return Err(problem.remedy(format!(
                    "copy it to {} first, then move it away",
                    item.store.path.join(item.entry.source())
                )));
            }
            self.warnings.push(problem.at(target.to_string()).remedy("move it to the store, or remove it"));
        }
        Ok(Spot::Free(place))
    }

    /// Mounts the guard at the target of an entry, or of a file that its pattern matched.
    fn guard(&mut self, item: &Item<'_>, target: &AbsPath) -> Result<()> {
        if is_pattern(item.entry, target) {
            return Ok(());
        }
        let Spot::Free(place) = self.spot(item, target, None)? else {
            self.unchanged += 1;
            return Ok(());
        };
        let stat =
            walk::stat(place.as_fd()).map_err(|errno| Problem::os("cannot look at the target", errno))?;
        let parent = self.parent_again(target)?;
        let node = self.guard.node(stat.is_dir())?;
        let place = place.as_fd();
        self.tree
            .bind(node.as_fd(), (parent.as_fd(), target.name()), place, Guard::OPTIONS, false)
            .map_err(|problem| Problem { what: format!("cannot guard it: {}", problem.what), ..problem })?;
        self.mounted.push(target.clone());
        self.target.forget(target.as_str());
        Ok(())
    }

    /// Takes away what this run has mounted on a root that can be seen.
    pub fn undo(&mut self) {
        for target in std::mem::take(&mut self.mounted).into_iter().rev() {
            self.target.forget(target.as_str());
            let undone = self.parent_again(&target).and_then(|dir| {
                walk::look(dir.as_fd(), target.name(), Mounts::Enter)
                    .and_then(|mount| kernel::detach(mount.as_fd()))
                    .map_err(|errno| Problem::os("cannot unmount it again", errno))
            });
            if let Err(problem) = undone {
                self.warnings.push(problem.at(target.to_string()));
            }
        }
    }
}

/// Whether a target is an entry's pattern itself, and not a file that it matched.
fn is_pattern(entry: &Entry, target: &AbsPath) -> bool {
    entry.kind == Kind::Glob && entry.target == *target
}

/// What an entry that is not placed is in the report.
fn resting(action: Action) -> State {
    match action {
        Action::Off => State::Off,
        Action::Skip => State::Skipped,
        Action::Place | Action::Later => State::Later,
    }
}

fn opened<'s>(stores: &'s mut [Result<Opened>], entry: &Entry) -> Result<&'s mut Opened> {
    stores[usize::from(entry.store)].as_mut().map_err(|problem| problem.clone())
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

/// Holds what can be seen at a target now against what was mounted.
fn verify((dir, name): (BorrowedFd<'_>, &str), source: &Stat) -> Result<()> {
    let seen = walk::stat_at(dir, name)
        .map_err(|errno| Problem::os("cannot look at it after mounting it", errno))?;
    if seen.identity() == source.identity() && seen.is_mount_root() {
        return Ok(());
    }
    Err(Problem::new("it was mounted, but something else is seen there").remedy("run `imp-mount --check`"))
}

/// What would be hidden by a mount, in words; none for an empty directory or file.
fn held(dir: BorrowedFd<'_>, name: &str, stat: &Stat) -> Result<Option<String>, Errno> {
    const SHOWN: usize = 3;
    if !stat.is_dir() {
        return Ok((stat.size() > 0).then(|| format!("{} bytes", stat.size())));
    }
    let fd = walk::directory(dir, name, Mounts::Enter)?;
    let mut names = walk::names(fd.as_fd(), SHOWN + 1)?;
    let more = if names.len() > SHOWN { " and more" } else { "" };
    names.truncate(SHOWN);
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", escape(&name.to_string_lossy()))).collect();
    Ok((!names.is_empty()).then(|| format!("{}{more}", names.join(", "))))
}

fn occupied(stat: &Stat, what: &str) -> Problem {
    let found = walk::kind(stat.file_type());
    Problem::new(format!("the target is {found} already, so {what} cannot be placed"))
        .remedy("copy it to the store first, then move it away")
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
