//! The entries of a run, in order: for each its source, its target and its method.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::job::Job;
use super::place::{self, Placed};
use super::placeholder;
use super::source::{self, Source};
use super::target;
use super::work::Work;
use crate::manifest::{AbsPath, Kind, Method};
use crate::mount::matches::Matches;
use crate::plan::{Action, Item, Need};
use crate::runtime::report::State;
use crate::runtime::versions::{self, Versions};
use crate::sys::mount_api;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

impl Work<'_> {
    /// Guards the path of every store left out by the kernel command line: programs with this path must not write to
    /// memory.
    pub fn guard_stores(&mut self) {
        for (store, need) in self.context.plan.stores() {
            if need != Need::LeftOut {
                continue;
            }
            if let Err(problem) = self.guard_store(&store.path) {
                self.problems.warn(problem.at(format!("store {}", store.path)));
            }
        }
    }

    /// Does every entry.
    pub fn entries(&mut self) {
        let mut guarded: Option<&AbsPath> = None;
        for item in &self.context.plan.items {
            let (job, target) = (Job::of(item), &item.entry.target);
            if let Some(above) = guarded.filter(|above| target.is_in(above)) {
                if item.action == Action::Place {
                    let why = format!("it lies below {above}, which is guarded");
                    self.failed(job, Problem::new(why).at(target.to_string()), true);
                    self.bring_inner(item);
                } else {
                    self.record(job, unplaced(item.action), String::new());
                }
                continue;
            }
            match item.action {
                Action::Later | Action::Off => self.record(job, unplaced(item.action), String::new()),
                Action::Skip => {
                    let why = "left out by imp-mount.skip= on the kernel command line";
                    match self.guard(job) {
                        Ok(()) => self.record(job, State::Skipped, why.to_owned()),
                        Err(problem) => self.failed(job, problem, false),
                    }
                    guarded = Some(target);
                }
                Action::Place => {
                    if let Err(problem) = self.place(job) {
                        self.failed(job, problem.at(target.to_string()), false);
                        let last = self.changes.entries.last();
                        guarded = last.filter(|last| last.state == State::Guarded).map(|_| target);
                    }
                    self.bring_inner(item);
                }
            }
        }
    }

    /// Mounts earlier mounts below a target on its entry, or reports those covered by its guard.
    fn bring_inner(&mut self, item: &Item<'_>) {
        let (plan, target) = (self.context.plan, &item.entry.target);
        for (path, mount) in self.tree.take_inner(plan, target) {
            let last = self.changes.entries.last().filter(|last| last.target == *target);
            match last.map(|last| last.state) {
                Some(State::Mounted) => {
                    let required =
                        item.entry.required && item.store.required && !self.context.guards_required;
                    if let Err(problem) = self.tree.bring_inner(plan, &path, mount) {
                        self.problems.add(required, problem.at(target.to_string()));
                    }
                }
                Some(State::Guarded) => self.problems.warn(
                    Problem::new(format!("its guard covers the mount at {path}"))
                        .at(target.to_string())
                        .remedy("correct the entry, then mount it again"),
                ),
                _ => {}
            }
        }
    }

    /// Records a failed entry, or one failed file of a pattern. An optional entry is guarded, unless a path above has
    /// a guard; a failed guard counts like a failed required entry.
    fn failed(&mut self, job: Job<'_>, problem: Problem, covered: bool) {
        let (item, entry) = (job.item, job.item.entry);
        let (live, guards_required) = (self.context.sysroot.is_live(), self.context.guards_required);
        // The files of a pattern have no known names to guard.
        let guards = guards_required && !job.is_pattern();
        let required = entry.required && item.store.required && item.action != Action::Skip && !guards;
        let mut state = State::Failed;
        let why = problem.to_string();
        // A problem of a store is reported once, not for every entry.
        let told = self.stores.usable(entry).is_none();
        if !told || (required && guards_required) {
            self.problems.add(required, problem);
        }
        if !required {
            let guarded = if covered { Ok(()) } else { self.guard(job) };
            match guarded {
                // Nor have the files of an optional pattern.
                Ok(()) if job.is_pattern() => {}
                Ok(()) => state = State::Guarded,
                // On a live system a guard would hide data written by services. Most often guard and entry fail for
                // the same reason.
                Err(worse) if live && !guards_required && why.contains(&worse.what) => {}
                Err(worse) => {
                    self.problems.add(!live || guards_required, worse.at(job.target.to_string()));
                }
            }
        }
        self.record(job, state, why);
    }

    /// Records the state of an entry with the versions of an earlier run.
    fn record(&mut self, job: Job<'_>, state: State, why: String) {
        self.record_with(job, state, why, self.context.left(job));
    }

    fn record_with(&mut self, job: Job<'_>, state: State, why: String, versions: Option<Versions>) {
        let mut report = job.report(state, why);
        report.versions = versions.map(Box::new);
        self.changes.entries.push(report);
    }

    fn place(&mut self, job: Job<'_>) -> Result<()> {
        self.stores.of(job.item.entry)?;
        if job.item.entry.kind == Kind::Glob { self.place_matches(job) } else { self.place_one(job) }
    }

    /// Brings one file or directory: its source, then its target by the entry's method.
    fn place_one(&mut self, job: Job<'_>) -> Result<()> {
        let (context, entry) = (self.context, job.item.entry);
        source::must_not_be_at_target(&context, job, (&mut self.stores, &self.tree))?;
        let found = source::open(context.plan, job, &mut self.stores, &mut self.owners)?;
        if entry.method != Method::Bind || matches!(found, Source::Link | Source::Absent) {
            let what = if entry.method == Method::Copy { "the copy" } else { "the link" };
            let (tree, guard) = (&mut self.tree, &mut self.guard);
            placeholder::make_room(context.previous, tree, guard, job.target, what)?;
        }
        let Some(placed) = self.by_method(job, &found)? else { return Ok(()) };
        if entry.kind != Kind::Directory && entry.method != Method::Bind {
            self.tell_of_second_version(job);
        }
        self.changes.unchanged += usize::from(placed.unchanged);
        self.record_with(job, placed.state, placed.why.to_owned(), placed.versions);
        Ok(())
    }

    /// Places a source at its target; none for a vanished file.
    fn by_method(&mut self, job: Job<'_>, found: &Source) -> Result<Option<Placed>> {
        let (context, method) = (self.context, job.item.entry.method);
        let in_place = self.is_in_place(job, found)?;
        let absent =
            |why| Placed::now(State::Absent, Some(context.left(job).unwrap_or_default())).because(why);
        Ok(Some(match (method, found) {
            (_, Source::Gone) => return Ok(None),
            (_, Source::Absent) => absent("the store does not hold it"),
            (Method::Bind | Method::Symlink, Source::Link) if in_place => {
                absent("the store does not hold it yet")
            }
            (Method::Copy, Source::Link) => absent("the store does not hold it yet"),
            (Method::Symlink, Source::Node(_)) if in_place => {
                Placed::before(State::Linked, context.left(job))
                    .because("the directory that it is in comes from the store")
            }
            (Method::Bind, Source::Node(node)) => match self.linked(job)? {
                Some(placed) => placed,
                None => self.bind(job, node)?,
            },
            _ => {
                let dir = target::parent(context.plan, job, &mut self.tree, &self.stores, &mut self.owners)?;
                match (method, found) {
                    (Method::Copy, Source::Node(node)) => {
                        place::copy(&context, job, dir, node, &self.stores)?
                    }
                    (Method::Bind, _) => place::link(&context, job, dir, found, &self.stores)?
                        .because("the store does not hold it yet"),
                    _ => place::link(&context, job, dir, found, &self.stores)?,
                }
            }
        }))
    }

    /// The link in place of a file, if kept.
    fn linked(&mut self, job: Job<'_>) -> Result<Option<Placed>> {
        if job.item.entry.kind == Kind::Directory {
            return Ok(None);
        }
        let context = self.context;
        place::linked(&context, job, self.parent(job)?)
    }

    /// True if a link at the target would replace its own target, as the directory comes from the store.
    fn is_in_place(&mut self, job: Job<'_>, found: &Source) -> Result<bool> {
        let may_link = matches!(found, Source::Link)
            || (job.item.entry.method == Method::Symlink && matches!(found, Source::Node(_)));
        if !may_link || job.target.name() != job.source.name() {
            return Ok(false);
        }
        let Some(parent) = job.source.parent() else { return Ok(false) };
        let failed = |errno| Problem::os("cannot look at its directory", errno);
        let store = self.stores.of(job.item.entry)?;
        let from = store.cursor.opened(parent.as_str()).unwrap_or(store.cursor.base());
        let from = walk::stat(from).map_err(failed)?.identity();
        let to = walk::stat(self.parent(job)?).map_err(failed)?.identity();
        Ok(from == to)
    }

    /// Warns of other versions of a file, kept by write-back beside the store's.
    fn tell_of_second_version(&mut self, job: Job<'_>) {
        let (Some(store), Some(parent)) = (self.stores.usable(job.item.entry), job.source.parent()) else {
            return;
        };
        let dir = store.cursor.opened(parent.as_str()).unwrap_or(store.cursor.base());
        // An error of the directory is one of the entry, too, and said there.
        if let Ok(beside) = versions::conflicts_beside(dir, job.source.name())
            && !beside.is_empty()
        {
            let problem = Problem::new(versions::listed(&job.item.store.path, job.source, &beside));
            let remedy = "compare them, keep one under the first name, and remove the others";
            self.problems.warn(problem.at(job.target.to_string()).remedy(remedy));
        }
    }

    /// Every file of the store with a name of the pattern.
    fn place_matches(&mut self, pattern: Job<'_>) -> Result<()> {
        let item = pattern.item;
        let folder = pattern.source.parent().unwrap_or_else(AbsPath::root);
        let above = pattern.target.parent().unwrap_or_else(AbsPath::root);
        let names = self.matches(item, &folder)?;
        let paths: Vec<_> = names.iter().map(|name| (above.child(name), folder.child(name))).collect();
        let jobs = paths.iter().map(|(target, source)| Job { item, target, source });
        self.announce.before(&self.context, &mut jobs.clone(), false, self.problems);
        for job in jobs {
            // A failure of one file does not stop the others.
            if let Err(problem) = self.place_one(job) {
                self.failed(job, problem.at(job.target.to_string()), false);
            }
        }
        Ok(())
    }

    /// The names of files in a folder of the store matched by the entry's pattern, in order. Links are logged and do
    /// not fail the run: the owner of the folder can create them.
    fn matches(&mut self, item: &Item<'_>, folder: &AbsPath) -> Result<Vec<String>> {
        let store = self.stores.of(item.entry)?;
        let found = store.cursor.enter(folder.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Stay)
                .map_err(|errno| walk::explain(dir, &item.store.path.join_text(path), errno, "a directory"))
        });
        let dir = match found {
            Err(problem) if problem.errno == Some(Errno::NOENT) => return Ok(Vec::new()),
            found => found?,
        };
        let shown = item.store.path.join(folder);
        let found = Matches::of(dir, item.entry, &self.context.plan.coverage)
            .map_err(|errno| Problem::os(format!("cannot list {shown}"), errno))?;
        let links = found.left_out(dir, &shown);
        let problems = found.problems.into_iter().chain(links);
        self.problems.warnings.extend(problems.map(|problem| problem.at(item.entry.target.to_string())));
        Ok(found.names)
    }

    /// Unmounts the mounts of this run on a visible root.
    pub fn undo(&mut self) {
        for target in std::mem::take(&mut self.changes.mounted).into_iter().rev() {
            self.tree.cursor.forget(target.as_str());
            let undone = self.tree.parent(&target).and_then(|dir| {
                walk::look(dir.as_fd(), target.name(), Mounts::Enter)
                    .and_then(|mount| mount_api::detach(mount.as_fd()))
                    .map_err(|errno| Problem::os("cannot unmount it again", errno))
            });
            if let Err(problem) = undone {
                self.problems.warn(problem.at(target.to_string()));
            }
        }
    }
}

/// State in the report of an entry out of place.
fn unplaced(action: Action) -> State {
    match action {
        Action::Off => State::Off,
        Action::Skip => State::Skipped,
        Action::Place | Action::Later => State::Later,
    }
}
