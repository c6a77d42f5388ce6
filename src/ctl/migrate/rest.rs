//! Paths of a system without an entry, in the directories above entries. `impctl lost` lists all.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::ctl::known::known;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Manifest};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};
use crate::transfer::staging;

/// Paths in the directories above the manifest's entries. Links are left out, as most are
/// made by the system, and so is imp-mount's own directory.
pub fn of(manifest: &Manifest, root: BorrowedFd<'_>) -> Result<Vec<String>> {
    let above: BTreeSet<&str> =
        manifest.entries.iter().flat_map(|entry| entry.target.ancestors()).chain(["/"]).collect();
    let coverage = Coverage::new(manifest);
    let is_store = |path: &AbsPath| manifest.stores.iter().any(|store| store.path == *path);
    let is_named = |path: &AbsPath, what: Type| {
        is_store(path)
            || above.contains(path.as_str())
            || path.as_str() == "/nix"
            || known().is_system(path.as_str())
            || known().is_disposable(path.as_str())
            || coverage.entry(path, what).is_some()
    };
    let mut rest = BTreeSet::new();
    for folder in above.iter().filter_map(|folder| AbsPath::parse(folder).ok()) {
        if coverage.entry(&folder, Type::Directory).is_some() {
            continue;
        }
        // A path that cannot be opened is not a directory; entries below have reported the error.
        let Ok(Some(dir)) = walk::directory_below(root, &folder, Mounts::Enter) else { continue };
        let names = walk::names(dir.as_fd(), usize::MAX)
            .map_err(|errno| Problem::os(format!("cannot list {folder}"), errno))?;
        for name in names {
            let stat = match walk::stat_at(dir.as_fd(), name.as_c_str()) {
                Ok(stat) => stat,
                // Removed since the directory was listed.
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    let path = folder.child(&name.to_string_lossy());
                    return Err(Problem::os(format!("cannot look at {path}"), errno));
                }
            };
            let is_left = stat.is_symlink() || staging::is_private((dir.as_fd(), &name), &stat);
            let is_known = name.to_str().is_ok_and(|name| is_named(&folder.child(name), stat.entry_type()));
            if !is_left && !is_known {
                rest.insert(folder.child(&name.to_string_lossy()).as_str().to_owned());
            }
        }
    }
    Ok(rest.into_iter().collect())
}
