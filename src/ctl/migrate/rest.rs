//! What a system has and the manifest does not name, as far as can be seen beside what it names: `impctl lost` says all.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::route;
use crate::manifest::{AbsPath, Kind, Manifest, pattern};
use crate::problem::Result;
use crate::transfer::staging;
use crate::walk::{self, Mounts};

/// Made anew by every boot or build, or nobody's data.
const THROW_AWAY: [&str; 11] = [
    "/boot",
    "/dev",
    "/lost+found",
    "/nix",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/usr",
    "/var/cache",
    "/var/tmp",
];

/// What lies beside what the manifest names: what is in the directories above its entries. Links are left out, as most are
/// made by the system, and so is imp-mount's own directory.
pub fn of(manifest: &Manifest, root: BorrowedFd<'_>) -> Result<Vec<String>> {
    let above: BTreeSet<&str> =
        manifest.entries.iter().flat_map(|entry| entry.target.ancestors()).chain(["/"]).collect();
    let is_named = |path: &str| {
        let is_store = manifest.stores.iter().any(|store| store.path.as_str() == path);
        is_store
            || above.contains(path)
            || THROW_AWAY.contains(&path)
            || manifest.entries.iter().any(|entry| {
                let target = entry.target.as_str();
                match (entry.kind, target.rsplit_once('/'), path.rsplit_once('/')) {
                    (Kind::Glob, Some((folder, pattern)), Some((there, name))) => {
                        folder == there && pattern::matches(pattern, name)
                    }
                    _ => target == path,
                }
            })
    };
    let is_covered = |path: &str| {
        manifest.entries.iter().any(|entry| {
            entry.kind == Kind::Directory && AbsPath::parse(path).is_ok_and(|path| path.is_in(&entry.target))
        })
    };
    let mut rest = BTreeSet::new();
    for folder in above.iter().filter(|folder| !is_covered(folder)) {
        let Ok(path) = AbsPath::parse(folder) else { continue };
        // What cannot be opened is no directory; entries below it have said so.
        let Ok(Some(dir)) = route::open(root, &path, Mounts::Enter) else { continue };
        let names = walk::names(dir.as_fd(), usize::MAX)
            .map_err(|errno| crate::problem::Problem::os(format!("cannot list {path}"), errno))?;
        for name in names {
            let full = path.child(&name.to_string_lossy()).as_str().to_owned();
            let is_left = walk::stat_at(dir.as_fd(), name.as_c_str())
                .is_ok_and(|stat| stat.is_symlink() || staging::is_private((dir.as_fd(), &name), &stat));
            if !is_left && !is_named(&full) {
                rest.insert(full);
            }
        }
    }
    Ok(rest.into_iter().collect())
}
