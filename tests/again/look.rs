//! A complete listing of a tree and its mounts, without values that differ between two boots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::Snapshot;
use crate::support::look::{ROOTS, mounts_below, numberless};

/// True if inodes, times of change and mount ids must stay: those of a new root are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identities {
    Kept,
    New,
}

/// One file system, from a folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    snapshot: Snapshot,
    rest: BTreeMap<PathBuf, String>,
}

impl Look {
    pub fn of(root: &Path, identities: Identities) -> Self {
        let mut rest = BTreeMap::new();
        if identities == Identities::Kept {
            let device = fs::symlink_metadata(root).unwrap().dev();
            add(root, device, &mut rest);
        }
        Self { snapshot: Snapshot::of(root).without(ROOTS), rest }
    }

    /// Differences of two listings.
    pub fn differences(&self, other: &Self) -> String {
        let mut words = String::new();
        for line in
            self.snapshot.losses(&other.snapshot).into_iter().chain(other.snapshot.news(&self.snapshot))
        {
            writeln!(words, "{line}").unwrap();
        }
        for (path, line) in &self.rest {
            if let Some(later) = other.rest.get(path).filter(|later| *later != line) {
                writeln!(words, "{}: {line}, then {later}", path.display()).unwrap();
            }
        }
        words
    }
}

fn add(path: &Path, device: u64, rest: &mut BTreeMap<PathBuf, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.dev() != device || path.ends_with(ROOTS) {
        return;
    }
    let line = format!(
        "inode {} names {} modified {}.{} changed {}.{} device {}",
        meta.ino(),
        meta.nlink(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.rdev()
    );
    rest.insert(path.to_owned(), line);
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            add(&entry.unwrap().path(), device, rest);
        }
    }
}

/// Mounts at and below a folder, in path order, one line each.
pub fn mounts_of(root: &Path, identities: Identities) -> Vec<String> {
    let line = |mount: crate::support::Mount| {
        let ids = match identities {
            Identities::Kept => format!("{} {} {}", mount.id, mount.parent, mount.propagation),
            Identities::New => String::new(),
        };
        format!(
            "{} {} {} {} {} {} {ids}",
            mount.target.display(),
            numberless(&mount.root),
            mount.options,
            mount.fstype,
            mount.source,
            mount.super_options
        )
    };
    let mut lines: Vec<_> = mounts_below(root).into_iter().map(line).collect();
    lines.sort();
    lines
}
