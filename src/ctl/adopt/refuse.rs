//! Refusals of `impctl adopt`, each with reason and remedy.

use std::os::fd::{AsFd, OwnedFd};

use super::open_files::{Access, Process, User};
use super::place::some;
use super::survey::{Database, Survey};
use super::views::View;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Entry, Kind, Manifest, Method, Missing, Owner, Phase, refuse};
use crate::mount::tree::Tree;
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

/// The future entry of a path.
fn entry(target: &AbsPath, store: u16) -> Entry {
    Entry {
        target: target.clone(),
        kind: Kind::Directory,
        store,
        source: None,
        owner: Owner::default(),
        parents: None,
        method: Method::Bind,
        missing: Missing::default(),
        options: BindOptions::DEFAULT,
        required: true,
        enforce: false,
        hidden: false,
        trash: false,
        phase: Phase::default(),
    }
}

/// Refuses a path ruled out by the manifest or by its file type.
pub fn named(manifest: &Manifest, target: &AbsPath, what: Type, store: u16) -> Result<()> {
    if target.as_str() == "/nix" {
        return Err(Problem::new("the running system is in it").remedy(
            "name it in the configuration, bring it to the store with `impctl migrate`, and reboot",
        ));
    }
    if let Some(entry) = Coverage::new(manifest).entry(target, what) {
        let problem = Problem::new(format!("it persists already, by the entry {}", entry.target));
        return Err(problem.remedy(if entry.kind == Kind::Glob {
            "if it is not mounted, `imp-mount --adopt` brings it to the store; see `imp-mount --check`"
        } else {
            "if it is not mounted, run `imp-mount`; see `imp-mount --check`"
        }));
    }
    // A store inside, an invalid name: any error of a manifest with this entry.
    let mut with = manifest.clone();
    let at = with.entries.partition_point(|entry| entry.target < *target);
    with.entries.insert(at, entry(target, store));
    let name =
        |place| if place == refuse::Place::Entry(at) { String::new() } else { refuse::place(&with, place) };
    match refuse::problems(&with, &name).into_iter().next() {
        None => Ok(()),
        Some(mut problem) => {
            problem.at.clear();
            Err(problem)
        }
    }
}

/// The parent directory of a path, with all components on the root itself.
pub fn parent(tree: &Tree, target: &AbsPath) -> Result<OwnedFd> {
    let root = tree.mount_id()?;
    let mut dir = walk::duplicate(tree.root()).map_err(|errno| Problem::new(describe(errno)))?;
    let mut done = AbsPath::root();
    let parent = target.parent().unwrap_or_else(AbsPath::root);
    for name in parent.components() {
        done = done.child(name);
        dir = walk::directory(dir.as_fd(), name, Mounts::Enter)
            .map_err(|errno| walk::explain(dir.as_fd(), done.as_str(), errno, "a directory"))?;
        let mount = walk::mount_id(dir.as_fd())
            .map_err(|errno| Problem::os(format!("cannot look at {done}"), errno))?;
        if mount != root {
            return Err(elsewhere(&done, &dir));
        }
    }
    Ok(dir)
}

fn elsewhere(path: &AbsPath, dir: &OwnedFd) -> Problem {
    let mount = mountinfo::of(dir.as_fd()).unwrap_or_default();
    let what = format!("{path} is another file system, {}", mount.shown());
    if mount.fstype == "tmpfs" {
        return Problem::new(what).remedy("only what is on the root itself can be adopted");
    }
    Problem::new(what).remedy("another file system persists already, or is not managed by imp-mount")
}

/// Kind of mount for the file at a path; a refusal for other types.
pub fn kind(dir: &OwnedFd, target: &AbsPath, stat: &Stat) -> Result<Kind> {
    if stat.is_dir() {
        return Ok(Kind::Directory);
    }
    if stat.is_file() {
        return Ok(Kind::File);
    }
    let problem = walk::wrong_type(dir.as_fd(), target.as_str(), stat, "a directory or regular file");
    Err(problem.remedy(if stat.is_symlink() {
        "what comes from the configuration need not persist; otherwise adopt the place that it points to"
    } else {
        "its program creates it again"
    }))
}

/// Other file systems below a path.
pub fn mounts_below(target: &AbsPath) -> Result<()> {
    let below = |mount: &mountinfo::Mount| {
        AbsPath::normal(&mount.point).ok().filter(|point| point.is_in(target) && point != target)
    };
    let points: Vec<_> = mountinfo::all()?.iter().filter_map(below).map(|point| point.to_string()).collect();
    if points.is_empty() {
        return Ok(());
    }
    Err(Problem::new(format!("other file systems are mounted below it: {}", some(&points)))
        .remedy("adopt the paths beside them"))
}

/// Processes and mounts that would still write to the covered files, and possibly open databases.
pub fn in_use(target: &AbsPath, survey: &Survey, users: &[User], views: &[View]) -> Result<()> {
    const OVERRIDE: &str = "or say --open: it is copied as it is, and must be started again afterwards";
    let users: Vec<_> = users.iter().filter(|user| user.access >= Access::Directory).collect();
    let is = survey.databases.first();
    if !users.is_empty() {
        let who: Vec<_> = users.iter().map(ToString::to_string).collect();
        let what = is.map_or("it".to_owned(), |one| format!("{} ({})", one.what, one.file));
        let stop = stop(users.iter().map(|user| &user.process));
        return Err(
            Problem::new(format!("{what} is open: {}", some(&who))).remedy(format!("{stop}, {OVERRIDE}"))
        );
    }
    if let Some(view) = views.iter().find(|view| view.is_written) {
        let stop = match &view.process {
            Some(process) => stop([process]),
            None => "unmount that".to_owned(),
        };
        return Err(Problem::new(format!("a mount would not hide it everywhere: {view}"))
            .remedy(format!("{stop}, {OVERRIDE}")));
    }
    let open = survey.databases.iter().find_map(|one| one.open.as_ref().map(|file| (one, file)));
    let Some((Database { what, .. }, file)) = open else { return Ok(()) };
    Err(Problem::new(format!(
        "{what} was not closed, as {target}/{file} says, or is open where it cannot be seen from here"
    ))
    .remedy(format!("start and stop its service once, {OVERRIDE}")))
}

/// Command to stop these processes.
fn stop<'p>(processes: impl IntoIterator<Item = &'p Process>) -> String {
    by_unit("stop", &|_| true, processes)
}

/// Command to restart these processes: they then open the mounted files.
#[must_use]
pub fn restart(process: &Process) -> String {
    // Of a user's session only the process itself.
    by_unit("restart", &|unit| unit.ends_with(".service") && !unit.starts_with("user@"), [process])
}

fn by_unit<'p>(
    verb: &str,
    is_meant: &dyn Fn(&str) -> bool,
    processes: impl IntoIterator<Item = &'p Process>,
) -> String {
    let processes: Vec<_> = processes.into_iter().collect();
    let units = processes.iter().filter_map(|process| process.unit.as_deref());
    let mut units: Vec<_> = units.filter(|unit| is_meant(unit)).collect();
    units.sort_unstable();
    units.dedup();
    match (units.as_slice(), processes.as_slice()) {
        ([], [Process { pid: Some(pid), .. }]) => format!("end it (kill {pid})"),
        ([], [device]) => format!("detach it (losetup --detach {})", device.name),
        ([], _) => "end them".to_owned(),
        (units, _) => {
            let units: Vec<_> = units.iter().map(|unit| escape::shell(*unit)).collect();
            format!("systemctl {verb} -- {}", units.join(" "))
        }
    }
}
