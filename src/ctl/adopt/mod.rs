//! `impctl adopt`: something on the root is brought to a store, and mounted from there, on the running system.

mod place;
pub mod record;
pub mod refuse;
mod survey;
mod users;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;

use super::bring;
use super::line;
use super::output::{self, Failure};
use super::progress::Progress;
use super::system::{Names, System};
use super::terminal::{self, count};
use crate::capacity::Capacity;
use crate::cmdline::Words;
use crate::escape::{self, Page};
use crate::lock::Lock;
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Kind, Manifest, Phase, Store};
use crate::mount::kernel::Kernel;
use crate::mount::root::{Sysroot, Tree, is_volatile};
use crate::mount::store::{self, Opened};
use crate::plan::Plan;
use crate::problem::{Problem, Result, describe_io};
use crate::walk::{self, Mounts, Stat};
use crate::{adopt, lock, logging, privilege};
use place::Place;
use record::Adopted;
use survey::Survey;

/// Persist something now: copy it to a store, mount it from there, and print the line for the configuration
///
/// Stop what writes there first: stop the service, adopt, and start it again. What a process has open is refused, with who has it
/// open. What is copied is compared before it is mounted. It can be stopped at any time: running it again goes on.
///
/// Add the printed line to the configuration, or the next boot is without it. What was brought to the store stays there in any
/// case.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Keep a service's state, and see the line to add
  impctl adopt /var/lib/netdata
  # On one of several stores
  impctl adopt --store /data /srv/photos
  # The line alone
  impctl adopt --json /etc/adjtime | jq -r '.adopted[].nix'

Files:
  /etc/imp-mount/manifest      which stores there are
  /run/imp-mount/adopted.json  what was adopted since the boot

Exit status: 0 done; 1 something could not be adopted; 2 it could not run")]
pub struct Adopt {
    /// Directories and files on the root
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Which store is to hold it, by its path [default: the only one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// Adopt also what processes have open; they must be started again afterwards
    #[arg(long)]
    open: bool,
    /// The manifest, compiled or as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = crate::cli::MANIFEST)]
    manifest: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one path.
#[derive(Debug, Serialize)]
struct Done {
    target: AbsPath,
    source: AbsPath,
    /// Whether it was mounted before.
    was_in_place: bool,
    files: u64,
    bytes: u64,
    /// The line for NixOS.
    nix: String,
    /// The manifest's entry.
    entry: Value,
}

/// Adopts every path, and says which line keeps each.
pub fn run(options: &Adopt) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    privilege::require_mount().map_err(Failure::Unable)?;
    // Before anything is read that another process may be about to change.
    let lock = lock::take("impctl adopt").map_err(Failure::Unable)?;
    let system = System::open(Path::new("/"))?;
    let manifest = system.manifest(Some(&options.manifest))?.unwrap_or_default();
    let (done, problems) = adopt_all(options, &manifest, system.names(), &lock).map_err(Failure::Unable)?;
    if options.json {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let json = serde_json::json!({ "version": 1, "adopted": done, "problems": problems });
        output::print(&output::json(&json)?)?;
    } else {
        terminal::print(&text(&done))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

fn text(done: &[Done]) -> Page {
    let mut page = Page::default();
    for one in done {
        let (target, source) = (&one.target, &one.source);
        let amount = format!("{}, {}", count(one.files, "file"), terminal::size(one.bytes));
        if one.was_in_place {
            page.line(format_args!("{target}: in place already, from {source}"));
        } else {
            page.line(format_args!("{target}: mounted from {source} ({amount})"));
        }
    }
    if done.is_empty() {
        return page;
    }
    page.line("");
    page.line("To keep it over the next boot, add to the configuration of NixOS");
    for one in done {
        page.line(format_args!("  {}", one.nix));
    }
    page.line("or to the entries of the manifest");
    for one in done {
        page.line(format_args!("  {}", escape::json_text(&one.entry.to_string())));
    }
    page
}

fn adopt_all(
    options: &Adopt,
    manifest: &Manifest,
    names: Names,
    lock: &Lock,
) -> Result<(Vec<Done>, Vec<Problem>)> {
    let words = Words::default();
    let plan = Plan::new(manifest, &words, Phase::Live);
    // What is created gets the mode that it is given, and no less.
    rustix::process::umask(Mode::empty());
    bring::allow_depth();
    let sysroot = Sysroot::open("/")?;
    if !is_volatile(sysroot.fd.as_fd())? {
        return Err(Problem::new("the root is on a disk, so all of it persists").remedy(
            "to prepare a machine for a tmpfs root, bring what its manifest names to a store with `impctl migrate`",
        ));
    }
    // What could not be written down in the end is not begun.
    let (adopted, unread) = Adopted::read_or_set_aside(lock)?;
    if let Some(problem) = unread {
        log::warn!("{problem}");
    }
    let mut tree = Tree::existing(&sysroot, Kernel::probe())?;
    let (number, on) = choose(manifest, options.store.as_deref())?;
    let opened = store::open(&plan, on, &mut tree, &sysroot)?;
    if opened.options.has(BindOptions::RO) {
        return Err(Problem::new("it is mounted read-only")
            .at(format!("store {}", on.path))
            .remedy("see `dmesg` for errors, and remount it writable"));
    }
    let mut run = Run { options, manifest, number, on, opened, tree, names, adopted, lock };
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for path in &options.paths {
        match absolute(path)
            .and_then(|target| run.adopt(&target).map_err(|problem| problem.at(target.to_string())))
        {
            Ok(one) => done.push(one),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((done, problems))
}

/// A path as a person writes it, also from the directory in which that person is.
fn absolute(path: &Path) -> Result<AbsPath> {
    let shown = escape::path(path);
    let absolute = std::path::absolute(path).map_err(|error| describe_io(&error));
    let parsed = absolute.and_then(|path| {
        let text = path.to_str().ok_or("the path is no UTF-8 text, which a manifest is")?;
        AbsPath::parse(text)
    });
    parsed.map_err(|why| Problem::new(why).at(shown))
}

/// The store that is asked for, or the only one, and its number.
fn choose<'m>(manifest: &'m Manifest, asked: Option<&Path>) -> Result<(u16, &'m Store)> {
    let all = || manifest.stores.iter().map(|store| store.path.to_string()).collect::<Vec<_>>().join(", ");
    let found = match (asked, manifest.stores.as_slice()) {
        (None, [_]) => Some(0),
        (None, []) => return Err(Problem::new("the manifest has no store")),
        (None, _) => {
            return Err(Problem::new(format!("there are several stores: {}", all()))
                .remedy("choose one with --store"));
        }
        (Some(asked), stores) => stores.iter().position(|store| Path::new(store.path.as_str()) == asked),
    };
    let found = found.and_then(|index| Some((u16::try_from(index).ok()?, &manifest.stores[index])));
    found.ok_or_else(|| {
        Problem::new(format!("that is no store of the manifest, which has {}", all())).at("--store")
    })
}

/// What all paths have in common.
struct Run<'r> {
    options: &'r Adopt,
    manifest: &'r Manifest,
    number: u16,
    on: &'r Store,
    opened: Opened,
    tree: Tree,
    names: Names,
    adopted: Adopted,
    lock: &'r Lock,
}

impl Run<'_> {
    fn adopt(&mut self, target: &AbsPath) -> Result<Done> {
        refuse::named(self.manifest, target, self.number)?;
        let dir = refuse::parent(&self.tree, target)?;
        let stat = walk::stat_at(dir.as_fd(), target.name())
            .map_err(|errno| walk::explain(dir.as_fd(), target.as_str(), errno, "a directory"))?;
        let kind = refuse::kind(&dir, target, &stat)?;
        if stat.is_mount_root() {
            return self.in_place(target, kind, &dir, &stat);
        }
        refuse::mounts_below(target)?;
        let name = CString::new(target.name()).map_err(|error| Problem::new(error.to_string()))?;
        let survey = Survey::of((dir.as_fd(), &name))?;
        let users = users::of(&survey.inodes, target.as_str());
        let used = refuse::in_use(target, &survey, &users);
        if !self.options.open {
            used?;
        } else if let Err(problem) = used {
            log::warn!("{}: {}; start it again now", target, problem.what);
        }
        self.fits(&survey)?;
        let above = target.parent().unwrap_or_else(AbsPath::root);
        let base = (&self.on.path, &mut self.opened);
        let store = adopt::folder_on_store(base, &above, self.tree.root.as_fd(), &above)?;
        let store = readable(&store)?;
        let place = Place::new(dir.as_fd(), store.as_fd(), target.name())?;
        // Written once, and read back once.
        let progress = Progress::new(survey.bytes * 2, "copying");
        place.bring(&progress)?;
        drop(progress);
        let mount = place.mount(&mut self.tree)?;
        self.record(target, kind, &mount)?;
        Ok(self.done(target, &stat, Some(&survey)))
    }

    /// A path that is mounted already: by a run that was stopped before it could write that down, or for another reason.
    fn in_place(&mut self, target: &AbsPath, kind: Kind, dir: &OwnedFd, stat: &Stat) -> Result<Done> {
        let source = walk::open_below(self.opened.cursor.base(), target, OFlags::PATH, Mounts::Stay);
        let same =
            source.and_then(|fd| walk::stat(fd.as_fd())).is_ok_and(|it| it.identity() == stat.identity());
        if !same {
            return Err(Problem::new("another file system is mounted there")
                .remedy("what is on it persists already, or is its own affair"));
        }
        let mount = walk::look(dir.as_fd(), target.name(), Mounts::Enter)
            .map_err(|errno| Problem::os("cannot open it", errno))?;
        self.record(target, kind, &mount)?;
        Ok(self.done(target, stat, None))
    }

    /// Writes down what is mounted now. It is in place, whatever becomes of that.
    fn record(&mut self, target: &AbsPath, kind: Kind, mount: &OwnedFd) -> Result<()> {
        if let Err(problem) = record::tell(target, mount.as_fd(), self.lock) {
            log::warn!("{target}: {problem}; it may be unmounted on its own at shutdown");
        }
        let source = self.on.path.join(target);
        let entry = record::Entry { target: target.clone(), source, kind };
        self.adopted
            .add(entry, self.lock)
            .and_then(|()| record::keep(target, self.lock))
            .map_err(|problem| Problem { what: format!("it is mounted, but {}", problem.what), ..problem })
    }

    /// Whether there is room for it.
    fn fits(&self, survey: &Survey) -> Result<()> {
        let failed = |errno| Problem::os("cannot ask how much room there is", errno);
        let room = Capacity::of(self.opened.cursor.base()).map_err(failed)?;
        let short = |what: String| {
            let problem = Problem::new(what).at(format!("store {}", self.on.path));
            Err(problem.remedy("free some, or choose another with --store; nothing was changed"))
        };
        if survey.space > room.available {
            let (needed, free) = (terminal::size(survey.space), terminal::size(room.available));
            return short(format!("it takes {needed}, and {free} are free"));
        }
        let inodes = room.inodes.map(|inodes| inodes.available);
        if let Some(free) = inodes.filter(|free| survey.names > *free) {
            let (needed, free) = (terminal::number(survey.names), terminal::number(free));
            return short(format!("it takes {needed} inodes, and {free} are free"));
        }
        Ok(())
    }

    fn done(&self, target: &AbsPath, stat: &Stat, survey: Option<&Survey>) -> Done {
        let mut entry = line::entry(target, stat, &self.names);
        let nix = line::nix(&entry, self.on);
        if self.manifest.stores.len() > 1 {
            entry.insert("store".to_owned(), self.on.path.as_str().into());
        }
        Done {
            target: target.clone(),
            source: self.on.path.join(target),
            was_in_place: survey.is_none(),
            files: survey.map_or(0, |survey| survey.names),
            bytes: survey.map_or(0, |survey| survey.bytes),
            nix,
            entry: entry.into(),
        }
    }
}

/// A directory that is open as a mere place, open for reading: what is flushed must be.
fn readable(dir: &OwnedFd) -> Result<OwnedFd> {
    walk::open(dir.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
        .map_err(|errno: Errno| Problem::os("cannot open the directory on the store", errno))
}
