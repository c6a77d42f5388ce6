//! The entry of a path: the one rule for every part of the program.

use std::cmp::Reverse;

use super::path::PRIVATE;
use super::{AbsPath, Entry, Kind, Manifest, Method, refuse};

/// The file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Other,
}

impl Entry {
    /// True for a type placed by an entry for files: regular files, and by copying also symbolic links.
    #[must_use]
    pub fn takes(&self, what: Type) -> bool {
        what == Type::File || (what == Type::Link && self.method == Method::Copy)
    }
}

/// The entries of a manifest, indexed by path.
#[derive(Debug)]
pub struct Coverage<'m> {
    manifest: &'m Manifest,
    /// The patterns with their directories, in path order; within a directory in order of precedence.
    patterns: Vec<(&'m str, &'m Entry)>,
    /// Sources of entries whose path on the store differs from the target, in order.
    sources: Vec<(u16, &'m AbsPath)>,
}

impl<'m> Coverage<'m> {
    /// The index of a manifest.
    #[must_use]
    pub fn new(manifest: &'m Manifest) -> Self {
        let is_pattern = |entry: &&Entry| entry.kind == Kind::Glob;
        let mut patterns: Vec<_> =
            manifest.entries.iter().filter(is_pattern).map(|entry| (entry.target.folder(), entry)).collect();
        patterns
            .sort_by_key(|(folder, entry)| (*folder, Reverse((entry.target.name().len(), &entry.target))));
        let mut sources = Vec::new();
        if !patterns.is_empty() {
            let moved = |entry: &'m Entry| Some((entry.store, entry.source.as_ref()?));
            sources.extend(manifest.entries.iter().filter_map(moved));
            sources.sort_unstable();
        }
        Self { manifest, patterns, sources }
    }

    /// The pattern of a path, by name alone: the longest of several matches. None for a path with an entry of its own,
    /// or a path not allowed for entries.
    #[must_use]
    pub fn pattern(&self, path: &AbsPath) -> Option<&'m Entry> {
        let matches = |entry: &&Entry| super::pattern::matches(entry.target.name(), path.name());
        let found = self.patterns_in(path.folder()).find(matches)?;
        (!self.is_taken(path, found.store)).then_some(found)
    }

    /// The entry for the file at a path, by full name or by pattern.
    #[must_use]
    pub fn named(&self, path: &AbsPath, what: Type) -> Option<&'m Entry> {
        let own = self.at(path).filter(|entry| match entry.kind {
            Kind::Directory => true,
            Kind::File => what != Type::Directory,
            Kind::Glob => false,
        });
        own.or_else(|| self.pattern(path).filter(|entry| entry.takes(what)))
    }

    /// The entry of the file at a path: by full name or pattern, or else the nearest directory above.
    #[must_use]
    pub fn entry(&self, path: &AbsPath, what: Type) -> Option<&'m Entry> {
        let above = || {
            let above = path.ancestors().filter_map(|above| AbsPath::parse(above).ok());
            above.filter_map(|above| self.at(&above)).find(|entry| entry.kind == Kind::Directory)
        };
        self.named(path, what).or_else(above)
    }

    /// Tells if a pattern is for names in a directory above a path.
    #[must_use]
    pub fn has_patterns_above(&self, path: &AbsPath) -> bool {
        path.ancestors().chain(["/"]).any(|above| self.patterns_in(above).next().is_some())
    }

    fn patterns_in(&self, folder: &str) -> impl Iterator<Item = &'m Entry> {
        let first = self.patterns.partition_point(|(other, _)| *other < folder);
        self.patterns[first..].iter().take_while(move |(other, _)| *other == folder).map(|(_, entry)| *entry)
    }

    fn at(&self, path: &AbsPath) -> Option<&'m Entry> {
        let entries = &self.manifest.entries;
        entries.binary_search_by(|entry| entry.target.cmp(path)).ok().map(|index| &entries[index])
    }

    /// True if a path equals or contains a path of another entry or of a store, on the root or on this store, or is
    /// not allowed for an entry at all.
    fn is_taken(&self, path: &AbsPath, store: u16) -> bool {
        let entries = &self.manifest.entries;
        let next = entries.partition_point(|entry| entry.target < *path);
        let source = self.sources.partition_point(|source| *source < (store, path));
        entries.get(next).is_some_and(|entry| entry.target.is_in(path))
            || self.sources.get(source).is_some_and(|source| source.0 == store && source.1.is_in(path))
            || self.manifest.stores.iter().any(|one| one.path.is_in(path) || path.is_in(&one.path))
            || refuse::forbidden(path).is_some()
            || path.components().next() == Some(PRIVATE)
    }
}

#[cfg(all(test, feature = "ctl"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::manifest::text;

    #[test]
    fn whose_a_path_is() {
        let manifest = text::parse(
            r#"{ "version": 1, "stores": [{ "path": "/p" }, { "path": "/q/store" }], "entries": [
                { "file": "/*", "store": "/p" },
                { "file": "/etc/*", "store": "/p" },
                { "file": "/etc/a*", "store": "/q/store", "method": "copy" },
                { "file": "/etc/own", "store": "/p" },
                { "directory": "/etc/dir/below", "store": "/p" },
                { "file": "/etc/sub/*", "store": "/p" },
                { "directory": "/srv", "store": "/p", "source": "/etc/moved/here" },
                { "file": "/other", "store": "/q/store", "source": "/etc/elsewhere" },
                { "directory": "/srv/keys/deep", "store": "/q/store" } ] }"#,
        );
        let manifest = manifest.unwrap();
        let coverage = Coverage::new(&manifest);
        for (path, what, whose) in [
            ("/etc/x", Type::File, "/etc/*"),
            ("/etc/x", Type::Directory, ""),
            ("/etc/x", Type::Link, ""),
            ("/etc/x", Type::Other, ""),
            ("/etc/.x", Type::File, ""),
            ("/etc/x/y", Type::File, ""),
            ("/etc/ax", Type::File, "/etc/a*"),
            ("/etc/ax", Type::Link, "/etc/a*"),
            ("/etc/ax", Type::Directory, ""),
            ("/etc/own", Type::File, "/etc/own"),
            ("/etc/own", Type::Directory, ""),
            // Above an entry, above a pattern, and above another entry's path on the same store.
            ("/etc/dir", Type::File, ""),
            ("/etc/sub", Type::File, ""),
            ("/etc/moved", Type::File, ""),
            // On another store.
            ("/etc/elsewhere", Type::File, "/etc/*"),
            ("/etc/dir/below/x", Type::Other, "/etc/dir/below"),
            ("/srv", Type::Directory, "/srv"),
            ("/srv/x", Type::Link, "/srv"),
            ("/srv/keys/deep/x", Type::File, "/srv/keys/deep"),
            ("/x", Type::File, "/*"),
            // Stores, directories above one, paths of the system, and paths of imp-mount.
            ("/p", Type::File, ""),
            ("/q", Type::File, ""),
            ("/run", Type::File, ""),
            ("/.imp-mount", Type::File, ""),
            ("/*", Type::File, ""),
        ] {
            let found = coverage.entry(&AbsPath::parse(path).unwrap(), what);
            assert_eq!(found.map_or("", |entry| entry.target.as_str()), whose, "{path} {what:?}");
        }
    }
}
