//! The entries of a run, in order: for each its source, its target and its method.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::placeholder;
use super::source::Source;
use super::worker::{Worker, is_pattern, opened};
use crate::manifest::{AbsPath, Entry, Kind, Method};
use crate::mount::matches::Matches;
use crate::plan::{Action, Item, Need};
use crate::runtime::report::{EntryReport, State};
use crate::runtime::versions;
use crate::sys::mount_api;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

impl Worker<'_, '_> {
    /// Guards the place of every store that the kernel command line leaves out, so that what uses it by its own path does not
    /// write to memory.
    pub fn guard_stores(&mut self) {
        for (store, need) in self.plan.stores() {
            if need != Need::LeftOut {
                continue;
            }
            if let Err(problem) = self.guard_store(&store.path) {
                self.warnings.push(problem.at(format!("store {}", store.path)));
            }
        }
    }

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
                    self.bring_inner(item);
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
                    self.bring_inner(item);
                }
            }
        }
    }

    /// Mounts on an entry what was mounted below its target before, or says what its guard covers.
    fn bring_inner(&mut self, item: &Item<'_>) {
        let target = &item.entry.target;
        for (path, mount) in self.tree.take_inner(self.plan, target) {
            let state = self.entries.last().filter(|last| last.target == *target).map(|last| last.state);
            if state == Some(State::Mounted) {
                let required = item.entry.required && item.store.required && !self.guards_required;
                let problems = if required { &mut self.failures } else { &mut self.warnings };
                let brought = self.tree.bring_inner(self.plan, &path, mount);
                problems.extend(brought.err().map(|problem| problem.at(target.to_string())));
            } else if state == Some(State::Guarded) {
                let problem = Problem::new(format!("its guard covers what is mounted at {path}"));
                self.warnings
                    .push(problem.at(target.to_string()).remedy("mount that again once the entry is mended"));
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
        // The files of a pattern have no known names to guard.
        let guards = self.guards_required && !is_pattern(entry, target);
        let required = entry.required && item.store.required && item.action != Action::Skip && !guards;
        let mut state = State::Failed;
        let why = problem.to_string();
        // A problem of a store is reported once, not for every entry.
        let told = self.stores[usize::from(entry.store)].is_err();
        if !told || (required && self.guards_required) {
            if required { &mut self.failures } else { &mut self.warnings }.push(problem);
        }
        if !required {
            let guarded = if covered { Ok(()) } else { self.guard(item, target) };
            match guarded {
                // Nor has what an optional one would have matched.
                Ok(()) if is_pattern(entry, target) => {}
                Ok(()) => state = State::Guarded,
                // On a live system a guard would hide data that services wrote to memory.
                Err(worse) if self.sysroot.is_live() && !self.guards_required => {
                    // Most often the same stands in the way of both.
                    if !why.contains(&worse.what) {
                        self.warnings.push(worse.at(target.to_string()));
                    }
                }
                Err(worse) => self.failures.push(worse.at(target.to_string())),
            }
        }
        self.record(entry, target, source, state, why);
    }

    fn record(&mut self, entry: &Entry, target: &AbsPath, source: &AbsPath, state: State, why: String) {
        let store = &self.plan.manifest.store(entry).path;
        self.entries.push(EntryReport {
            target: target.clone(),
            source: store.join(source),
            kind: entry.kind,
            method: entry.method,
            state,
            why,
            // Versions of an earlier run, unless this one has newer ones.
            versions: self.left(store, target, source).map(Box::new),
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
        if entry.method != Method::Bind || matches!(found, Source::Link | Source::Absent) {
            let what = if entry.method == Method::Copy { "the copy" } else { "the link" };
            placeholder::make_room(self, target, what)?;
        }
        let mut versions = self.left(&item.store.path, target, source);
        let is_in_place = self.is_in_place(item, target, source, &found)?;
        let (state, why) = match (entry.method, found) {
            (_, Source::Gone) => return Ok(()),
            (_, Source::Absent) => {
                versions.get_or_insert_default();
                (State::Absent, "the store does not hold it")
            }
            (Method::Bind | Method::Symlink, Source::Link) if is_in_place => {
                versions.get_or_insert_default();
                (State::Absent, "the store does not hold it yet")
            }
            (Method::Symlink, Source::Node(_)) if is_in_place => {
                self.unchanged += 1;
                (State::Linked, "the directory that it is in comes from the store")
            }
            (Method::Symlink, found) => {
                versions = self.link(item, target, source, &found)?;
                (State::Linked, "")
            }
            (Method::Bind, Source::Link) => {
                versions = self.link(item, target, source, &Source::Link)?;
                (State::Linked, "the store does not hold it yet")
            }
            (Method::Bind, Source::Node(_)) if self.is_linked(item, target, source)? => {
                (State::Linked, "the store did not hold it when it was placed")
            }
            (Method::Bind, Source::Node(node)) => self.bind(item, target, source, &node)?,
            (Method::Copy, Source::Node(node)) => {
                versions = self.copy(item, target, source, &node)?;
                (State::Copied, "")
            }
            (Method::Copy, Source::Link) => {
                versions.get_or_insert_default();
                (State::Absent, "the store does not hold it yet")
            }
        };
        if entry.kind != Kind::Directory && entry.method != Method::Bind {
            self.tell_of_second_version(item, target, source);
        }
        self.record(entry, target, source, state, why.to_owned());
        if let Some(last) = self.entries.last_mut() {
            last.versions = versions.map(Box::new);
        }
        Ok(())
    }

    /// True if a link at the target would be in the place of what it points to, as the directory comes from the store.
    fn is_in_place(
        &mut self,
        item: &Item<'_>,
        target: &AbsPath,
        source: &AbsPath,
        found: &Source,
    ) -> Result<bool> {
        let may_link = matches!(found, Source::Link)
            || (item.entry.method == Method::Symlink && matches!(found, Source::Node(_)));
        let Some(parent) = source.parent().filter(|_| may_link && target.name() == source.name()) else {
            return Ok(false);
        };
        let failed = |errno| Problem::os("cannot look at the directory that it is in", errno);
        let store = opened(&mut self.stores, item.entry)?;
        let from = store.cursor.opened(parent.as_str()).unwrap_or(store.cursor.base());
        let from = walk::stat(from).map_err(failed)?.identity();
        let to = walk::stat(self.parent(item, target)?).map_err(failed)?.identity();
        Ok(from == to)
    }

    /// Warns of other versions of a file that write-back kept beside the store's.
    fn tell_of_second_version(&mut self, item: &Item<'_>, target: &AbsPath, source: &AbsPath) {
        let (Ok(store), Some(parent)) = (&self.stores[usize::from(item.entry.store)], source.parent()) else {
            return;
        };
        let dir = store.cursor.opened(parent.as_str()).unwrap_or(store.cursor.base());
        // An error of the directory is one of the entry, too, and said there.
        if let Ok(beside) = versions::conflicts_beside(dir, source.name())
            && !beside.is_empty()
        {
            let problem = Problem::new(versions::listed(&item.store.path, source, &beside));
            let remedy = "compare them, keep one under the first name, and remove the others";
            self.warnings.push(problem.at(target.to_string()).remedy(remedy));
        }
    }

    /// Every file in the store that the pattern is for.
    fn place_matches(&mut self, item: &Item<'_>) -> Result<()> {
        let entry = item.entry;
        let folder = entry.source().parent().unwrap_or_else(AbsPath::root);
        for name in self.matches(item, &folder)? {
            let target = entry.target.parent().unwrap_or_else(AbsPath::root).child(&name);
            let source = folder.child(&name);
            // One that cannot be placed does not keep the others away.
            if let Err(problem) = self.place_one(item, &target, &source) {
                self.failed(item, &target, &source, problem.at(target.to_string()), false);
            }
        }
        Ok(())
    }

    /// The names of the files in a folder of the store that the entry's pattern is for, in order. Links are said, and fail
    /// nothing: whoever owns the folder can put one there.
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
            Err(problem) if problem.errno == Some(Errno::NOENT) => return Ok(Vec::new()),
            found => found?,
        };
        let shown = item.store.path.join(folder);
        let found = Matches::of(dir, item.entry, &self.plan.coverage)
            .map_err(|errno| Problem::os(format!("cannot list {shown}"), errno))?;
        let links = found.left_out(dir, &shown);
        let problems = found.problems.into_iter().chain(links);
        self.warnings.extend(problems.map(|problem| problem.at(item.entry.target.to_string())));
        Ok(found.names)
    }

    /// Takes away what this run has mounted on a root that can be seen.
    pub fn undo(&mut self) {
        for target in std::mem::take(&mut self.mounted).into_iter().rev() {
            self.tree.cursor.forget(target.as_str());
            let undone = self.tree.parent(&target).and_then(|dir| {
                walk::look(dir.as_fd(), target.name(), Mounts::Enter)
                    .and_then(|mount| mount_api::detach(mount.as_fd()))
                    .map_err(|errno| Problem::os("cannot unmount it again", errno))
            });
            if let Err(problem) = undone {
                self.warnings.push(problem.at(target.to_string()));
            }
        }
    }
}

/// State in the report of an entry that is not placed.
fn resting(action: Action) -> State {
    match action {
        Action::Off => State::Off,
        Action::Skip => State::Skipped,
        Action::Place | Action::Later => State::Later,
    }
}
