//! The paths kept across boots, by the manifest and by a system's mounts and links.

use std::collections::{BTreeMap, BTreeSet};

use crate::ctl::built::Built;
use crate::ctl::system::outlives_a_boot;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Kind, Manifest};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// The directories above a path, without `/`, the nearest first.
pub fn above(path: &str) -> impl Iterator<Item = &str> {
    fn up(path: &str) -> Option<&str> {
        path.rsplit_once('/').map(|(above, _)| above)
    }
    std::iter::successors(up(path), |path| up(path)).filter(|path| !path.is_empty())
}

/// Paths and file systems kept across boots.
pub struct Kept<'a> {
    manifest: Option<&'a Manifest>,
    coverage: Option<Coverage<'a>>,
    directories: BTreeSet<&'a str>,
    /// Source and type of each mount, by path.
    pub filesystems: BTreeMap<&'a str, (&'a str, &'a str)>,
    links: BTreeMap<&'a str, &'a str>,
}

impl<'a> Kept<'a> {
    /// Paths kept by a manifest and by a system.
    #[must_use]
    pub fn new(built: &'a Built, manifest: Option<&'a Manifest>) -> Self {
        let entries = manifest.map(|it| &it.entries).into_iter().flatten();
        let mut directories: BTreeSet<_> =
            entries.filter(|it| it.kind == Kind::Directory).map(|it| it.target.as_str()).collect();
        directories.extend(manifest.map(|it| &it.stores).into_iter().flatten().map(|it| it.path.as_str()));
        if let Some(root) = manifest.and_then(|it| it.root.as_ref()) {
            directories.extend(root.convert.as_ref().map(AbsPath::as_str));
        }
        let filesystems = built
            .filesystems
            .iter()
            .filter(|it| it.path.starts_with('/') && it.path != "/")
            .map(|it| (it.path.trim_end_matches('/'), (it.what.as_str(), it.fstype.as_str())));
        let mut links: BTreeMap<_, _> =
            built.links.iter().chain(&built.top).map(|(path, to)| (path.as_str(), to.as_str())).collect();
        let rules = built.rules.iter().filter(|rule| rule.kind == 'L');
        links.extend(rules.filter_map(|rule| Some((rule.path.as_str(), rule.argument.as_deref()?))));
        Self {
            manifest,
            coverage: manifest.map(Coverage::new),
            directories,
            filesystems: filesystems.collect(),
            links,
        }
    }

    /// True if a path outlives a boot.
    #[must_use]
    pub fn keeps(&self, path: &str, file: bool) -> bool {
        self.keeps_by(path, file, LINKS)
    }

    /// The same by way of so many links and bind mounts at most: they can lead in circles.
    fn keeps_by(&self, path: &str, file: bool, links: usize) -> bool {
        let Some(left) = links.checked_sub(1) else { return false };
        let is_named = |path: &str| {
            let what = if file { Type::File } else { Type::Directory };
            let path = AbsPath::parse(path).ok();
            path.is_some_and(|path| self.coverage.as_ref().is_some_and(|it| it.entry(&path, what).is_some()))
        };
        for at in std::iter::once(path).chain(above(path)) {
            if self.directories.contains(at) {
                return true;
            }
            if let Some((what, fstype)) = self.filesystems.get(at) {
                let is_bind = what.starts_with('/') && !what.starts_with("/dev/");
                let is_kept = || {
                    let source = format!("{}{}", what.trim_end_matches('/'), &path[at.len()..]);
                    *what != at && !what.starts_with(&format!("{at}/")) && self.keeps_by(&source, file, left)
                };
                return outlives_a_boot(fstype) && (!is_bind || is_kept());
            }
            if let Some(to) = self.links.get(at) {
                let to = to.trim_end_matches('/');
                let is_inside = to == at || to.starts_with(&format!("{at}/"));
                return to.starts_with("/nix/store/")
                    || (!is_inside && self.keeps_by(&format!("{to}{}", &path[at.len()..]), file, left));
            }
        }
        is_named(path)
    }

    /// True if an entry lies below a path.
    #[must_use]
    pub fn has_below(&self, path: &str) -> bool {
        let entries = self.manifest.map(|it| &it.entries).into_iter().flatten();
        let below = format!("{path}/");
        entries.into_iter().any(|entry| entry.target.as_str().starts_with(&below))
    }

    /// True if a boot empties the root.
    #[must_use]
    pub fn root_is_emptied(&self, built: &Built) -> bool {
        let is_memory = |fstype: &str| !outlives_a_boot(fstype);
        self.manifest.is_some_and(|it| it.root.is_some())
            || built.filesystems.iter().any(|it| it.path == "/" && is_memory(&it.fstype))
    }
}
