//! The root: found mounted, or built detached and published in one step.
//!
//! A new root is a detached tmpfs or a detached directory of a store ([`fresh`]). All mounts are made inside it
//! (Linux 6.15), and one call attaches the whole tree to the sysroot. Before 6.15 a detached tree cannot have mounts:
//! after the kernel's error the root moves to a private staging mount, and from there to the sysroot. If a run stops
//! before publication, a detached root vanishes with the process, and a staged root is removed by the next run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::fresh;
use super::stage::{PATH, Stage};
use super::sysroot::{Sysroot, is_mount_root, is_volatile};
use super::tree::{New, Tree, mounts_below};
use crate::manifest::{AbsPath, Root, options};
use crate::plan::Plan;
use crate::sys::mount_api::{self, Kernel, SOURCE};
use crate::sys::{mountinfo, walk};
use crate::text::problem::{Problem, Result};

/// The sysroot at the start of a run.
#[derive(Debug)]
pub enum Found {
    /// A root to work on.
    Tree(Tree),
    /// A running system whose next boot makes its new root.
    Waiting,
}

/// Finds the root, or begins to build one.
pub fn prepare(
    plan: &Plan<'_>,
    sysroot: &Sysroot,
    kernel: Kernel,
    warnings: &mut Vec<Problem>,
) -> Result<Found> {
    let mounted = is_mount_root(sysroot.fd.as_fd())?;
    let Some(root) = plan.root else {
        if !mounted && !sysroot.is_live() {
            return Err(Problem::new(format!(
                "nothing is mounted at {}, and the manifest asks for no root",
                sysroot.path
            ))
            .at("root")
            .remedy("mount the root there first, or let it be built with the manifest's `root`"));
        }
        return Tree::existing(sysroot, kernel).map(Found::Tree);
    };
    if mounted && is_new_at_every_boot(sysroot.fd.as_fd())? {
        Stage::clear()?;
        return Tree::existing(sysroot, kernel).map(Found::Tree);
    }
    if sysroot.is_live() {
        return Ok(Found::Waiting);
    }
    match &root.convert {
        Some(store) if !mounted => return resume(store, sysroot, kernel).map(Found::Tree),
        Some(_) if finish_interrupted(sysroot)? => {
            Stage::clear()?;
            return Tree::existing(sysroot, kernel).map(Found::Tree);
        }
        None if mounted => {
            let mount = mountinfo::of(sysroot.fd.as_fd())?;
            return Err(Problem::new(format!(
                "{} holds {}, but the manifest asks for a new root",
                sysroot.path,
                mount.shown()
            ))
            .at("root")
            .remedy("unmount it, or turn it into the store with `root.convert`"));
        }
        _ => {}
    }
    build(plan, root, sysroot, kernel, warnings).map(Found::Tree)
}

/// Continues an interrupted conversion whose old root is mounted only below the staging mount.
fn resume(store: &AbsPath, sysroot: &Sysroot, kernel: Kernel) -> Result<Tree> {
    let Some((stage, root)) = Stage::resume(store)? else {
        let what = format!(
            "nothing is mounted at {}, so there is no root to convert into the store {store}",
            sysroot.path
        );
        let remedy = "mount today's root there first (the root= word, or sysroot.mount), then run again";
        return Err(Problem::new(what).at("root").remedy(remedy));
    };
    log::info!("continuing with the root of an interrupted run in {PATH}");
    Ok(Tree::new(root, kernel, Some(New { stage: Some(stage), ..New::default() })))
}

fn build(
    plan: &Plan<'_>,
    root: &Root,
    sysroot: &Sysroot,
    kernel: Kernel,
    warnings: &mut Vec<Problem>,
) -> Result<Tree> {
    if let Some(store) = &root.convert {
        must_be_uncovered(store, sysroot).map_err(|problem| problem.at("root"))?;
        mount_api::make_writable(sysroot.fd.as_fd());
    }
    let mut new = New::default();
    let on_store = root.on.as_ref().and_then(|on| {
        let made = fresh::make(plan, (root, on), sysroot, kernel, &mut new.stage);
        // A store needed by the boot stops the boot later, with its own reason.
        made.map_err(|problem| warnings.push(in_memory_instead(on, &problem))).ok()
    });
    let fd = if let Some((fresh, fd)) = on_store {
        new.fresh = Some(fresh);
        fd
    } else {
        // A failed attempt may have left the store on it.
        new.stage = None;
        in_memory(root, kernel, &mut new)?
    };
    let mut tree = Tree::new(fd, kernel, Some(new));
    if let Some(store) = &root.convert {
        tree.convert(plan, sysroot, store)?;
    }
    tree.carry_mounts(plan, sysroot)?;
    Ok(tree)
}

/// Makes a tmpfs, which is attached nowhere or to the stage.
fn in_memory(root: &Root, kernel: Kernel, new: &mut New) -> Result<OwnedFd> {
    let mut options = options::split(&root.options);
    let mode = format!("{:o}", root.mode);
    let fixed =
        [("size", root.size.as_deref()), ("nr_inodes", root.inodes.as_deref()), ("mode", Some(&*mode))];
    options.filesystem.extend(fixed.into_iter().filter(|(_, value)| value.is_some()));
    let what = "the root";
    let refused = |problem: Problem| {
        let remedy = "correct `root.options` in the manifest, or the kernel lacks what they ask for";
        if problem.errno == Some(Errno::INVAL) { problem.remedy(remedy) } else { problem }.at("root")
    };
    if let Some(fd) = kernel.new_filesystem("tmpfs", SOURCE, &options, what).map_err(refused)? {
        return Ok(fd);
    }
    let stage = new.stage.insert(Stage::new(kernel)?);
    mount_api::mount_filesystem("tmpfs", SOURCE, &options, stage.place.as_fd(), what).map_err(refused)?;
    stage.open_root()
}

fn in_memory_instead(on: &AbsPath, problem: &Problem) -> Problem {
    let what = format!("the root of this boot is in memory, as it cannot be made on {on}: {}", problem.what);
    let full = [Some(Errno::NOSPC), Some(Errno::DQUOT)].contains(&problem.errno);
    let remedy = match problem.errno {
        _ if full => "make room on it, for instance with `impctl roots prune`".to_owned(),
        _ => problem.remedy.clone(),
    };
    Problem::new(what).at("root").remedy(remedy)
}

/// Refuses to make the root a store at a path at or below another mount, which would cover the store.
pub fn must_be_uncovered(store: &AbsPath, sysroot: &Sysroot) -> Result<()> {
    let Some((path, fd)) = mounts_below(sysroot.fd.as_fd(), &sysroot.path, &AbsPath::root())?
        .into_iter()
        .find(|(path, _)| store.is_in(path))
    else {
        return Ok(());
    };
    let (place, mount) = (sysroot.path.join(&path), mountinfo::of(fd.as_fd())?);
    Err(Problem::new(format!(
        "{} is mounted at {place}, and would cover the store {store} that the root becomes",
        mount.shown()
    ))
    .remedy("convert the root to another path, or leave `convert` out if that is the store"))
}

/// A run stopped right after the mount of a new root beneath the old one left only the last step.
fn finish_interrupted(sysroot: &Sysroot) -> Result<bool> {
    let top = walk::mount_id(sysroot.fd.as_fd())
        .map_err(|errno| Problem::os("cannot ask for the sysroot's mount id", errno))?;
    // The order of mountinfo is useless: since Linux 6.8 the order is by age, and the mount beneath is the younger
    // one.
    let beneath = mountinfo::all()?.into_iter().any(|mount| {
        mount.point == sysroot.path.as_str()
            && mount.id != top
            && ((mount.source.as_str(), mount.fstype.as_str()) == (SOURCE, "tmpfs")
                || fresh::is_tree(&mount.root))
    });
    if !beneath {
        return Ok(false);
    }
    log::info!("finishing an interrupted run: unmounting the old root at {}", sysroot.path);
    mount_api::detach(sysroot.fd.as_fd())
        .map_err(|errno| Problem::os(format!("cannot take the old root at {} away", sysroot.path), errno))?;
    Ok(true)
}

/// True for a file on a root of each boot: a tmpfs, or a directory of a store made by a run.
pub fn is_new_at_every_boot(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_volatile(fd)? || fresh::is_fresh(fd)?)
}
