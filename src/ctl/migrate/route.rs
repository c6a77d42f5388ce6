//! Source and destination of each tree on the stores: by the manifest, and for patterns by the existing files.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Entry, Kind, Manifest};
use crate::mount::matches::Matches;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

/// A directory or file, and its destination.
#[derive(Debug)]
pub struct Route<'m> {
    /// The entry of the path.
    pub entry: &'m Entry,
    /// The number of its store.
    pub store: usize,
    /// Its path on the system.
    pub from: AbsPath,
    /// Its destination below the store.
    pub to: AbsPath,
    /// The entries of paths inside; none without another entry inside.
    others: Option<Rc<Coverage<'m>>>,
}

impl Route<'_> {
    /// True for a path inside of another entry, relative to the route.
    #[must_use]
    pub fn leaves(&self, path: &[u8], what: Type) -> bool {
        let Some(coverage) = &self.others else { return false };
        // No entry has a path that is too long or not UTF-8.
        let path = str::from_utf8(path).ok().and_then(|path| AbsPath::parse(&format!("/{path}")).ok());
        let other = path.and_then(|path| coverage.named(&self.from.join(&path), what));
        other.is_some_and(|other| other.target != self.entry.target && !holds(self.entry, other))
    }
}

/// Every route of a manifest, in path order, and problems of impossible routes.
pub fn all<'m>(manifest: &'m Manifest, root: BorrowedFd<'_>) -> (Vec<Route<'m>>, Vec<Problem>) {
    let (mut routes, mut problems) = (Vec::new(), Vec::new());
    let coverage = Rc::new(Coverage::new(manifest));
    for entry in &manifest.entries {
        if manifest.entries.iter().any(|above| holds(above, entry)) {
            continue;
        }
        let is_inner = |other: &Entry| {
            entry.kind == Kind::Directory
                && other.target != entry.target
                && other.target.is_in(&entry.target)
                && !holds(entry, other)
        };
        let others = manifest.entries.iter().any(is_inner).then_some(&coverage);
        let route = |from, to| Route { entry, store: entry.store.into(), from, to, others: others.cloned() };
        if entry.kind != Kind::Glob {
            routes.push(route(entry.target.clone(), entry.source().clone()));
            continue;
        }
        match matches(&coverage, entry, root) {
            Ok(found) => {
                let left = found.problems.into_iter();
                problems.extend(left.map(|problem| problem.at(entry.target.to_string())));
                let (folder, to) = (parent(&entry.target), parent(entry.source()));
                routes.extend(found.names.iter().map(|name| route(folder.child(name), to.child(name))));
            }
            Err(problem) => problems.push(problem.at(entry.target.to_string())),
        }
    }
    (routes, problems)
}

/// True if an entry is copied together with a directory above, to its own place.
fn holds(above: &Entry, entry: &Entry) -> bool {
    let below = entry.target.below(&above.target).filter(|below| !below.is_root());
    above.kind == Kind::Directory
        && above.store == entry.store
        && below.is_some_and(|below| above.source().join(&below) == *entry.source())
}

fn matches(coverage: &Coverage<'_>, entry: &Entry, root: BorrowedFd<'_>) -> Result<Matches> {
    let folder = parent(&entry.target);
    let Some(dir) = walk::directory_below(root, &folder, Mounts::Enter)? else {
        return Ok(Matches::default());
    };
    Matches::of(dir.as_fd(), entry, coverage)
        .map_err(|errno| Problem::os(format!("cannot list {folder}"), errno))
}

/// The parent directory of a path.
pub fn parent(path: &AbsPath) -> AbsPath {
    path.parent().unwrap_or_else(AbsPath::root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::manifest::text;

    #[test]
    fn places_on_several_stores() {
        let manifest = text::parse(
            r#"{ "version": 1, "stores": [{ "path": "/a" }, { "path": "/b" }], "entries": [
                { "directory": "/var/lib", "store": "/a" },
                { "directory": "/var/lib/own", "store": "/a" },
                { "directory": "/var/lib/other", "store": "/b" },
                { "directory": "/var/lib/moved", "store": "/a", "source": "/moved" },
                { "file": "/var/lib/keys/k*", "store": "/b" },
                { "file": "/var/none", "store": "/b" } ] }"#,
        );
        let manifest = manifest.unwrap();
        let (routes, problems) = all(&manifest, walk::base("/proc/self/task").unwrap().as_fd());
        assert_eq!(problems, []);
        let shown: Vec<_> = routes.iter().map(|it| format!("{} {} {}", it.from, it.store, it.to)).collect();
        assert_eq!(
            shown,
            [
                "/var/lib 0 /var/lib",
                "/var/lib/moved 0 /moved",
                "/var/lib/other 1 /var/lib/other",
                "/var/none 1 /var/none"
            ]
        );
        for (path, what, left) in [
            ("own", Type::Directory, false),
            ("other", Type::Directory, true),
            ("other2", Type::Directory, false),
            ("moved", Type::Directory, true),
            ("keys", Type::Directory, false),
            ("keys/k1", Type::File, true),
            ("keys/k1", Type::Directory, false),
            ("keys/k1", Type::Link, false),
            ("keys/x", Type::File, false),
            ("k1", Type::File, false),
        ] {
            assert_eq!(routes[0].leaves(path.as_bytes(), what), left, "{path} {what:?}");
        }
    }
}
