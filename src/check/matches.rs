//! Comparison of a pattern with the system: every matching file, on its store and on the root.

use super::entry::Checker;
use super::status::{Checked, Status, Verdict};
use crate::manifest::AbsPath;
use crate::mount::matches::Matches;
use crate::mount::write_back;
use crate::plan::Item;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::Problem;

impl Checker<'_, '_> {
    /// A line for every file of the pattern.
    pub(super) fn matches(&mut self, item: &Item<'_>) -> Vec<Checked> {
        let entry = item.entry;
        let (folder, above) = (parent(entry.source()), parent(&entry.target));
        let stored = match self.on_store(item, &folder) {
            Ok(names) => names,
            Err(verdict) => return vec![Self::checked(item, &entry.target, entry.source(), verdict)],
        };
        let mut lines: Vec<_> =
            stored.iter().map(|name| self.line(item, &above.child(name), &folder.child(name))).collect();
        for name in self.on_root(item, &above) {
            if stored.binary_search(&name).is_err() {
                let (target, source) = (above.child(&name), folder.child(&name));
                lines.push(Self::checked(item, &target, &source, self.not_stored()));
            }
        }
        if lines.is_empty() {
            let detail = "nothing in the store matches yet".to_owned();
            return vec![Self::checked(item, &entry.target, entry.source(), (Status::Ok, detail))];
        }
        lines.sort_by(|one, other| one.target.cmp(&other.target));
        lines
    }

    fn on_store(&mut self, item: &Item<'_>, folder: &AbsPath) -> Result<Vec<String>, Verdict> {
        let Some(store) = &mut self.stores[usize::from(item.entry.store)] else { return Ok(Vec::new()) };
        let Some(dir) = Self::folder(store, item, folder)? else { return Ok(Vec::new()) };
        let shown = item.store.path.join(folder);
        let found = Matches::of(dir, item.entry, &self.plan.coverage).map_err(|errno| {
            let problem = Problem::os(format!("cannot list {shown}"), errno);
            (Status::NotMounted, problem.to_string())
        })?;
        let links = found.left_out(dir, &shown);
        let problems = found.problems.into_iter().chain(links);
        self.notes.extend(problems.map(|problem| problem.at(item.entry.target.to_string()).to_string()));
        Ok(found.names)
    }

    /// The names of files on the root itself.
    fn on_root(&mut self, item: &Item<'_>, folder: &AbsPath) -> Vec<String> {
        let dir = self.target.enter(folder.as_str(), &mut |dir, name, path| {
            walk::directory(dir, name, Mounts::Enter)
                .map_err(|errno| walk::explain(dir, path, errno, "a directory"))
        });
        // A missing directory, or a file in its place, holds no file.
        let Ok(dir) = dir else { return Vec::new() };
        let Ok(found) = Matches::of(dir, item.entry, &self.plan.coverage) else { return Vec::new() };
        let is_here = |name: &String| {
            walk::stat_at(dir, name)
                .is_ok_and(|stat| !stat.is_mount_root() && (stat.mode() != 0 || stat.size() > 0))
        };
        self.notes
            .extend(found.problems.iter().map(|it| it.clone().at(item.entry.target.to_string()).to_string()));
        found.names.into_iter().filter(is_here).collect()
    }

    /// Tells if a unit runs `--adopt` at shutdown.
    pub(super) fn is_brought(&mut self) -> bool {
        let base = self.target.base();
        *self.brought_at_shutdown.get_or_insert_with(|| write_back::is_set_up(base))
    }

    /// The verdict on a file, or on a version of one, on the root alone.
    pub(super) fn not_stored(&mut self) -> Verdict {
        if self.is_brought() {
            let detail = format!("{} brings it to the store at shutdown", write_back::UNIT);
            return (Status::NotYetStored, detail);
        }
        let detail = format!(
            "the next boot is without it: nothing here runs imp-mount --adopt at shutdown; run it, or enable {}",
            write_back::UNIT
        );
        (Status::RootOnly, detail)
    }
}

fn parent(path: &AbsPath) -> AbsPath {
    path.parent().unwrap_or_else(AbsPath::root)
}
