//! `--settle`: owners for files created before their users.

use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ids::Names;
use crate::manifest::{AbsPath, Manifest};
use crate::mount::Bases;
use crate::mount::owner::Wanted;
use crate::mount::sysroot::Sysroot;
use crate::mount::tree::Tree;
use crate::runtime::lock::Lock;
use crate::runtime::report::{Pending, Report};
use crate::sys::create;
use crate::sys::mount_api::Kernel;
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

/// Result for a pending path.
enum Settled {
    /// The owner is set, now or by an earlier run.
    Given,
    /// Another process set the owner, or replaced the file, which stays.
    Elsewhere,
    /// Its user or group still does not exist.
    Waiting,
}

/// Gives every pending path its owner, if the owner exists by now. Returns true if no path is pending any more.
///
/// # Errors
/// No path can be settled. An unusable report is left to a run, which finds pending paths again.
pub fn run(manifest: &Manifest, sysroot: &str, lock: &Lock) -> Result<bool> {
    let mut report = Report::read()?;
    if report.runs.is_empty() {
        log::warn!(
            "no run has left a report, so what waits for its owner is not known; run imp-mount, which finds it"
        );
    }
    if report.pending.is_empty() {
        return Ok(true);
    }
    let sysroot = Sysroot::open(sysroot)?;
    let tree = Tree::existing(&sysroot, Kernel::probe())?;
    let bases = Bases::of(tree.root(), [])?;
    let mut names = Names::new(manifest, true, &bases);
    let mut waiting = Vec::new();
    for pending in std::mem::take(&mut report.pending) {
        let place = pending.base.join(&pending.path);
        match settle(&pending, &tree, &mut names) {
            Ok(Settled::Given) => log::info!("{place}: given to {}", owner(&pending)),
            Ok(Settled::Elsewhere) => log::info!("{place}: left as it is, as somebody else has changed it"),
            Ok(Settled::Waiting) => {
                let problem = Problem::new(format!("there is still no {}", owner(&pending)))
                    .at(place.to_string())
                    .remedy("declare the user or group, or correct the entry; until then it is root's alone");
                log::warn!("{problem}");
                waiting.push(pending);
            }
            Err(problem) => {
                log::error!("{}", problem.at(place.to_string()));
                waiting.push(pending);
            }
        }
    }
    for warning in names.warnings() {
        log::warn!("{warning}");
    }
    report.pending = waiting;
    report.write(lock)?;
    Ok(report.pending.is_empty())
}

fn owner(pending: &Pending) -> String {
    let text =
        |id: &Option<crate::manifest::Id>| id.as_ref().map_or_else(|| "root".to_owned(), ToString::to_string);
    format!("{}:{}", text(&pending.user), text(&pending.group))
}

fn settle(pending: &Pending, tree: &Tree, names: &mut Names<'_>) -> Result<Settled> {
    let mounts = if pending.base.is_root() { Mounts::Enter } else { Mounts::Stay };
    let dirs = OFlags::PATH | OFlags::DIRECTORY;
    let parent = pending.path.parent().unwrap_or_else(AbsPath::root);
    let found = walk::open_below(tree.root(), &pending.base, dirs, Mounts::Enter)
        .and_then(|base| walk::open_below(base.as_fd(), &parent, dirs, mounts))
        .and_then(|dir| {
            // Checked before the open, as opening a device has effects.
            let stat = walk::stat_at(dir.as_fd(), pending.path.name())?;
            if !stat.is_dir() && !stat.is_file() {
                return Err(Errno::NOENT);
            }
            walk::open(dir.as_fd(), pending.path.name(), OFlags::RDONLY, mounts)
        });
    let fd = match found {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Settled::Elsewhere),
        Err(errno) => return Err(Problem::os("cannot open it", errno)),
    };
    let attributes = Wanted::of_pending(pending).attributes(names);
    if attributes.pending {
        return Ok(Settled::Waiting);
    }
    let failed = |errno| Problem::os("cannot give it its owner", errno);
    let stat = walk::stat(fd.as_fd()).map_err(failed)?;
    let wanted = (attributes.uid, attributes.gid, attributes.mode);
    if stat.inode() == pending.inode
        && (stat.uid(), stat.gid(), stat.mode()) == wanted
        && !create::is_pending(fd.as_fd())
    {
        return Ok(Settled::Given);
    }
    let waiting = if stat.is_dir() { 0o700 } else { 0o600 };
    let owner = (stat.uid(), stat.gid());
    // A run stopped between chown(2) and chmod(2) has done the first.
    let ours =
        owner == (0, 0) || (owner == (attributes.uid, attributes.gid) && create::is_pending(fd.as_fd()));
    let untouched = stat.inode() == pending.inode && stat.mode() == waiting && ours;
    if !untouched || (stat.is_file() && stat.links() > 1) {
        create::forget_pending(fd.as_fd()).map_err(failed)?;
        return Ok(Settled::Elsewhere);
    }
    create::settle(fd.as_fd(), &attributes).map_err(failed)?;
    Ok(Settled::Given)
}
