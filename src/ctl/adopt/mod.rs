//! `impctl adopt`: a path of the root is copied to a store, and mounted from there, on the running system.

mod checks;
mod covered;
mod inventory;
mod open_files;
mod place;
mod print;
pub mod record;
pub mod refuse;
mod survey;
mod views;

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::{Mode, OFlags, syncfs};
use rustix::io::Errno;

use super::line;
use super::system::{Names, System};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::progress::Progress;
use crate::ctl::ui::terminal::{self};
use crate::logging;
use crate::manifest::coverage::Type;
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Kind, Manifest, Phase, Store};
use crate::mount::fresh;
use crate::mount::judge;
use crate::mount::store::{self, Opened};
use crate::mount::sysroot::Sysroot;
use crate::mount::tree::Tree;
use crate::mount::write_back;
use crate::plan::Plan;
use crate::plan::cmdline::KernelArgs;
use crate::runtime::lock;
use crate::runtime::lock::Lock;
use crate::runtime::report::Report;
use crate::sys::capacity::Capacity;
use crate::sys::mount_api::Kernel;
use crate::sys::mountinfo;
use crate::sys::privilege;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape::{self};
use crate::text::problem::{Problem, Result, describe_io};
use crate::transfer::staging::{self, Stagings};
use checks::{Checked, Mounted};
use inventory::Inventory;
use place::Place;
pub use print::Document;
use print::Done;
use record::Adopted;
use survey::Survey;

/// Persist a path now: copy it to a store, mount it from there, and print the line for the configuration
///
/// Stop programs that write there first: stop the service, adopt, and start the service again. Files open for writing
/// are refused, with the names of the processes, and so are paths visible through another mount. Each copy is compared
/// with its source before the mount. The command can be stopped at any time; the next run continues.
///
/// Changes by other programs during the copy are copied, too. Changes in the last moment, when the copy is mounted,
/// are listed by path, with a command to see each; the exit status is 1 then. Processes still writing to the covered
/// files are listed likewise.
///
/// The covered files are removed, and their memory is freed, if none of this was found, no process has them open and
/// the whole copy is on the disk. Otherwise the reason is printed, and the next run checks again.
///
/// Add the printed line to the configuration, or the next boot does not mount the path. Files on the store stay there
/// in any case.
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

Exit status: 0 done; 1 something could not be adopted, or is mounted and needs attention; 2 it could not run")]
pub struct Adopt {
    /// Directories and files on the root
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The store, by its path [default: the only one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// Adopt open files as well; their processes must be started again afterwards
    #[arg(long)]
    open: bool,
    /// The manifest, compiled or as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = crate::boot::args::MANIFEST)]
    manifest: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// True where the configuration has the lines already.
    #[arg(skip)]
    is_written: bool,
}

impl Adopt {
    /// Adopts paths whose lines are written already; the default of `manifest` is the option's.
    #[must_use]
    pub fn of(paths: Vec<PathBuf>, store: &str, manifest: Option<PathBuf>) -> Self {
        let manifest = manifest.unwrap_or_else(|| crate::boot::args::MANIFEST.into());
        Self { paths, store: Some(store.into()), open: false, manifest, json: false, is_written: true }
    }
}

/// Adopts every path, and says which line keeps each.
pub fn run(options: &Adopt) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    privilege::require_mount().map_err(Failure::Unable)?;
    // The lock comes before any read of data changed by other processes.
    let lock = lock::take("impctl adopt").map_err(Failure::Unable)?;
    let system = System::open(Path::new("/"))?;
    let manifest = system.manifest(Some(&options.manifest))?.unwrap_or_default();
    let (done, problems) = adopt_all(options, &manifest, system.names(), &lock).map_err(Failure::Unable)?;
    if options.json {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        output::print(&output::json(&Document { version: 1, adopted: &done, problems })?)?;
    } else {
        terminal::print(&print::text(&done, options.is_written, system.is_nixos()))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

fn adopt_all(
    options: &Adopt,
    manifest: &Manifest,
    names: Names,
    lock: &Lock,
) -> Result<(Vec<Done>, Vec<Problem>)> {
    let words = KernelArgs::default();
    let plan = Plan::new(manifest, &words, Phase::Live);
    // New files get exactly the given mode.
    rustix::process::umask(Mode::empty());
    let sysroot = Sysroot::open("/")?;
    if !judge::is_in_memory(sysroot.fd.as_fd()) && !fresh::is_fresh(sysroot.fd.as_fd())? {
        return Err(Problem::new("the root is on a disk, so all of it persists").remedy(
            "to prepare a machine for a tmpfs root, bring what its manifest names to a store with `impctl migrate`",
        ));
    }
    // A failure to write the record stops the command before any change.
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
    let mount = mountinfo::of(opened.cursor.base())?;
    // An unreadable record is a warning when the adoption is recorded.
    let report = Report::read().unwrap_or_default();
    let before = report.stores.iter().find(|before| before.path == on.path.as_str());
    let place = (sysroot.fd.as_fd(), &sysroot.path);
    let findings = judge::store((&plan, usize::from(number)), &opened, place, &mount, before);
    for finding in findings.iter().filter(|finding| finding.is_problem()) {
        log::warn!("{}", finding.problem(&format!("store {}", on.path)));
    }
    let paths: Vec<_> = options.paths.iter().map(|path| absolute(path)).collect();
    let keys = paths.iter().flatten().map(place::key).collect();
    let mut run =
        Run { options, manifest, number, on, opened, stagings: None, keys, tree, names, adopted, lock };
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match path.and_then(|target| run.adopt(&target).map_err(|problem| problem.at(target.to_string()))) {
            Ok(mut one) => {
                problems.append(&mut one.checked.problems);
                done.push(one);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let closed = match run.stagings {
        Some(stagings) => stagings.close().map_err(|errno| Problem::os("its staging directory stays", errno)),
        // A killed run may have left one.
        None if !done.is_empty() => staging::tidy(run.opened.cursor.base(), &staging::is_key),
        None => Ok(()),
    };
    if let Err(problem) = closed {
        log::warn!("{}", problem.at(format!("store {}", on.path)));
    }
    Ok((done, problems))
}

/// A path of the command line; a relative one from the working directory.
fn absolute(path: &Path) -> Result<AbsPath> {
    let shown = escape::path(path);
    let absolute = std::path::absolute(path).map_err(|error| describe_io(&error));
    let parsed = absolute.and_then(|path| {
        let text = path.to_str().ok_or("the path is no UTF-8 text, which a manifest is")?;
        AbsPath::parse(text)
    });
    parsed.map_err(|why| Problem::new(why).at(shown))
}

/// The store asked for, or the only one, and its number.
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

/// Common state of all paths.
struct Run<'r> {
    options: &'r Adopt,
    manifest: &'r Manifest,
    number: u16,
    on: &'r Store,
    opened: Opened,
    /// Open from the first copy on.
    stagings: Option<Stagings>,
    /// The names of the wanted copies there.
    keys: Vec<CString>,
    tree: Tree,
    names: Names,
    adopted: Adopted,
    lock: &'r Lock,
}

impl Run<'_> {
    fn adopt(&mut self, target: &AbsPath) -> Result<Done> {
        let there = walk::open_below(self.tree.root(), target, OFlags::PATH, Mounts::Enter);
        let there = there.and_then(|fd| walk::stat(fd.as_fd()));
        let stored = || walk::open_below(self.opened.cursor.base(), target, OFlags::PATH, Mounts::Stay);
        if matches!(there, Err(Errno::NOENT)) && stored().is_ok() {
            let what = format!("the root does not have it, and the store {} does", self.on.path);
            return Err(Problem::new(what)
                .remedy("add its line to the configuration, and run imp-mount with that: it mounts what the store has"));
        }
        let what = there.map_or(Type::Other, |stat| stat.entry_type());
        refuse::named(self.manifest, target, what, self.number)?;
        let dir = refuse::parent(&self.tree, target)?;
        let stat = walk::stat_at(dir.as_fd(), target.name())
            .map_err(|errno| walk::explain(dir.as_fd(), target.as_str(), errno, "a directory"))?;
        let kind = refuse::kind(&dir, target, &stat)?;
        if stat.is_mount_root() {
            return self.in_place(target, kind, &dir, &stat);
        }
        refuse::mounts_below(target)?;
        let name = CString::new(target.name()).map_err(|error| Problem::new(error.to_string()))?;
        let mut survey = Survey::of((dir.as_fd(), &name))?;
        let users = open_files::of(&survey.inodes, target.as_str()).users;
        let views = views::staying(&self.tree, target)?;
        let used = refuse::in_use(target, &survey, &users, &views);
        if !self.options.open {
            used?;
        } else if let Err(problem) = used {
            log::warn!("{}: {}; start it again now", target, problem.what);
        }
        // They take much memory.
        survey.inodes = HashSet::new();
        let mut stagings = match self.stagings.take() {
            Some(stagings) => stagings,
            None => self.open_stagings()?,
        };
        let result = self.bring(target, kind, (&dir, &name, &stat), &survey, &mut stagings);
        self.stagings = Some(stagings);
        result
    }

    /// Opens the staging directory on the store. Unfinished copies of earlier runs stay if this run continues them.
    fn open_stagings(&self) -> Result<Stagings> {
        let failed = |problem: Problem| problem.during(format_args!("store {}", self.on.path));
        let stagings = Stagings::open(self.opened.cursor.base()).map_err(failed)?;
        let is_wanted = |name: &CStr| self.keys.iter().any(|key| **key == *name);
        if let Err(errno) = stagings.main().clear(&is_wanted) {
            log::warn!("store {}: unfinished copies of earlier runs stay: {errno}", self.on.path);
        }
        Ok(stagings)
    }

    /// Copies a path to the store, and mounts the copy.
    fn bring(
        &mut self,
        target: &AbsPath,
        kind: Kind,
        (dir, name, stat): (&OwnedFd, &CStr, &Stat),
        survey: &Survey,
        stagings: &mut Stagings,
    ) -> Result<Done> {
        self.fits(survey, &Survey::of(stagings.main().at(&place::key(target))).unwrap_or_default())?;
        let Survey { bytes, names, .. } = *survey;
        let above = target.parent().unwrap_or_else(AbsPath::root);
        let base = (&self.on.path, &mut self.opened);
        let store = write_back::folder_on_store(base, &above, self.tree.root(), &above)?;
        let store = readable(store.as_fd())?;
        let place = Place::new(target, dir.as_fd(), store.as_fd(), stagings)?;
        // The copy is written once and read once, and the source is read once more.
        let progress = Progress::new(bytes * 3, "copying");
        let copied = place.bring(stagings, &progress)?;
        self.announce(target);
        let mounted = inventory::coarse_time();
        place.mount(&mut self.tree, &copied)?;
        let recorded = self.record(target, kind);
        let ended = place.end(&copied);
        progress.say("checking");
        let checked = Mounted {
            target,
            dir: dir.as_fd(),
            name,
            covers: Some(copied.source),
            copy: covered::Copy { at: place.to(), top: copied.top.as_fd(), mounted },
            seen: &copied.seen,
            is_durable: ended.is_ok(),
            lock: self.lock,
        };
        let mut checked = checked.check(&self.tree, &mut |bytes| progress.add(bytes));
        drop(progress);
        checked
            .problems
            .extend([recorded, ended].into_iter().filter_map(|it| Some(it.err()?.at(target.to_string()))));
        Ok(self.done(target, stat, checked, Some((names, bytes))))
    }

    /// A path already mounted: by a run stopped before its record, or for another reason.
    fn in_place(&mut self, target: &AbsPath, kind: Kind, dir: &OwnedFd, stat: &Stat) -> Result<Done> {
        let source = walk::open_below(self.opened.cursor.base(), target, OFlags::PATH, Mounts::Stay);
        let source = source.and_then(|fd| Ok((walk::stat(fd.as_fd())?.identity(), fd)));
        let Some((_, top)) = source.ok().filter(|(identity, _)| *identity == stat.identity()) else {
            return Err(Problem::new("another file system is mounted there")
                .remedy("another file system persists already, or is not managed by imp-mount"));
        };
        self.announce(target);
        self.record(target, kind)?;
        let above = target.parent().unwrap_or_else(AbsPath::root);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let store = walk::open_below(self.opened.cursor.base(), &above, flags, Mounts::Stay)
            .map_err(|errno| Problem::os("cannot open it", errno))?;
        let name = CString::new(target.name()).map_err(|error| Problem::new(error.to_string()))?;
        // Files removed from the covered tree were reported by the run with this inventory.
        let kept = record::inventory(target);
        let since = if kept.is_some() { 0 } else { inventory::coarse_time() };
        let seen = kept.unwrap_or_else(Inventory::begin);
        let mounted = Mounted {
            target,
            dir: dir.as_fd(),
            name: &name,
            covers: None,
            copy: covered::Copy { at: (store.as_fd(), &name), top: top.as_fd(), mounted: since },
            seen: &seen,
            is_durable: true,
            lock: self.lock,
        };
        checks::complete(&mounted)?;
        syncfs(readable(self.opened.cursor.base())?)
            .map_err(|errno| Problem::os("cannot write all of it to the store", errno))?;
        let checked = mounted.check(&self.tree, &mut |_| ());
        Ok(self.done(target, stat, checked, None))
    }

    /// Writes the line of the mount in utab.
    fn announce(&self, target: &AbsPath) {
        let source = self.on.path.join(target);
        if let Err(problem) = record::announce(target, &source, self.opened.cursor.base(), self.lock) {
            log::warn!("{target}: {problem}; it may be unmounted on its own at shutdown");
        }
    }

    /// Records the new mount, which stays even if this fails.
    fn record(&mut self, target: &AbsPath, kind: Kind) -> Result<()> {
        let source = self.on.path.join(target);
        let entry = record::Entry { target: target.clone(), source, kind };
        self.adopted.add(entry, self.lock).and_then(|()| record::keep(target, self.lock)).map_err(
            |mut problem| {
                problem.what.insert_str(0, "it is mounted, but ");
                problem
            },
        )
    }

    /// Checks the free space for a path, less the part copied by an earlier run.
    fn fits(&self, survey: &Survey, begun: &Survey) -> Result<()> {
        let failed = |errno| Problem::os("cannot ask how much room there is", errno);
        let space = survey.space.saturating_sub(begun.space);
        let inodes = survey.names.saturating_sub(begun.names);
        let room = Capacity::of(self.opened.cursor.base()).map_err(failed)?;
        let short = |what: String| {
            let problem = Problem::new(what).at(format!("store {}", self.on.path));
            Err(problem.remedy("free some, or choose another with --store; nothing was changed"))
        };
        if space > room.available {
            let (needed, free) = (terminal::size(space), terminal::size(room.available));
            return short(format!("it takes {needed}, and {free} are free"));
        }
        let available = room.inodes.map(|inodes| inodes.available);
        if let Some(free) = available.filter(|free| inodes > *free) {
            let (needed, free) = (terminal::number(inodes), terminal::number(free));
            return short(format!("it takes {needed} inodes, and {free} are free"));
        }
        Ok(())
    }

    /// Result for a path; `amount` is the number of files and bytes copied.
    fn done(&self, target: &AbsPath, stat: &Stat, checked: Checked, amount: Option<(u64, u64)>) -> Done {
        if let Some(kept) = &checked.kept {
            let again = escape::shell(target.as_str());
            log::warn!(
                "{target}: what it covers takes its space until the reboot, or until `impctl adopt {again}` is run again: {kept}"
            );
        }
        let mut entry = line::entry(target, stat, &self.names);
        let nix = entry.definition(self.on);
        if self.manifest.stores.len() > 1 {
            entry.store = Some(self.on.path.as_str().to_owned());
        }
        Done {
            target: target.clone(),
            source: self.on.path.join(target),
            was_in_place: amount.is_none(),
            files: amount.map_or(0, |(files, _)| files),
            bytes: amount.map_or(0, |(_, bytes)| bytes),
            nix,
            entry,
            checked,
        }
    }
}

/// A directory opened with `O_PATH`, open for reading, as fsync(2) needs.
fn readable(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    walk::open(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Stay)
        .map_err(|errno: Errno| Problem::os("cannot open the directory on the store", errno))
}
