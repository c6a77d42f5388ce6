//! `impctl recover`: paths of an old root, copied back to their places on the running system or elsewhere.

pub mod gone;
mod left_out;
mod origin;
mod outcome;
mod owners;
mod place;
mod print;
mod work;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::roots;
use super::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::progress::Progress;
use crate::ctl::ui::terminal;
use crate::logging;
use crate::manifest::{AbsPath, Manifest};
use crate::roots::Id;
use crate::runtime::lock;
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe_io};
use clap::{Args, ValueHint};
use left_out::Passed;
use origin::Source;
pub use outcome::Document;
use outcome::Outcome;
use owners::Names;
use place::{Base, Place};
use rustix::fs::Mode;
use work::{Job, Seen};

/// Bring back paths of an old root: to their places, or elsewhere
///
/// Old roots are those of earlier boots, kept on a store if the manifest has `root.on` or `old_roots`: `impctl roots`
/// lists them. A path is taken from the newest root with this path. A root with an empty path, such as a mount point,
/// comes last; a saving cut off is used only if named.
///
/// Files keep their mode, times, hard links, holes, ACLs, extended attributes, capabilities and inode flags, and
/// their owner by name, if ids have changed. Existing files are not replaced: in an existing directory missing files
/// are copied, and different ones are listed and stay. Missing directories above are created like those in the old
/// root. Paths below a mount point are copied to the file system mounted there. No symbolic link is followed on the
/// way.
///
/// Copies are made in .imp-mount/staging at the top of the destination's file system, a directory of root alone, and
/// moved to their places when complete. Afterwards everything is compared. The command can be stopped at any time; the
/// next run continues.
///
/// Add the printed line to the configuration, or the next boot removes the path again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Bring back what the last boot had, and see the line that keeps it
  impctl recover /var/lib/netdata
  # The same of an earlier one, beside what is there now
  impctl recover --number 12 --to /root/old /var/lib/netdata
  # What would come, and from where?
  impctl recover --dry-run /home/ada/notes /etc/wireguard
  # To a system that does not run, with its stores mounted below it
  impctl recover --root /mnt /var/lib/netdata
  # The lines alone
  impctl recover --json /var/lib/netdata | jq -r '.recovered[].nix'

Files:
  /etc/imp-mount/manifest        which stores there are
  STORE/.imp-mount/roots/N/root  the old roots

Exit status: 0 done; 1 something was not found, could not be brought, or stays as it is; 2 it could not run")]
pub struct Recover {
    /// Directories and files, by their paths on the system
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// The old root to copy from, by its number [default: the newest with the path]
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    number: Option<u32>,
    /// A directory in place of /: each path is copied below as a whole
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,
    /// Only print the sources and the missing files
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    system: roots::Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copies the paths, and prints the lines to keep them.
pub fn run(options: &Recover) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    if !rustix::process::geteuid().is_root() {
        let problem = Problem::new("only root may read old roots").remedy("run it as root");
        return Err(Failure::Unable(problem));
    }
    // The lock comes before any read of data changed by other processes.
    let _lock =
        if options.dry_run { None } else { Some(lock::take("impctl recover").map_err(Failure::Unable)?) };
    let paths = options.paths.iter().map(|path| asked(path)).collect::<Result<Vec<_>>>();
    let paths = paths.map_err(Failure::Unable)?;
    let (system, manifest) = options.system.open()?;
    let (outcomes, problems) = recover(options, &paths, &manifest, &system)?;
    if options.json {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let document = Document { version: 1, dry_run: options.dry_run, recovered: &outcomes, problems };
        output::print(&output::json(&document)?)?;
    } else {
        terminal::print(&print::text(&outcomes, options.dry_run, system.is_nixos()))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

fn recover(
    options: &Recover,
    paths: &[AbsPath],
    manifest: &Manifest,
    system: &System,
) -> Result<(Vec<Outcome>, Vec<Problem>), Failure> {
    // New files get exactly the given mode.
    rustix::process::umask(Mode::empty());
    let (olds, unreached) = origin::all(system, manifest).map_err(Failure::Unable)?;
    if olds.is_empty() && !unreached.is_empty() {
        return Err(Failure::Refused(unreached));
    }
    if olds.is_empty() {
        return Err(Failure::Unable(
            Problem::new("there is no old root on any store of the manifest")
                .remedy("`old_roots` in the manifest has them kept from the next boot on"),
        ));
    }
    let base = base(options, system, &olds).map_err(Failure::Unable)?;
    let mut run = Run {
        options,
        manifest,
        system,
        olds,
        base,
        names: Names::read(system).map_err(Failure::Unable)?,
        places: Vec::new(),
        asked: Vec::new(),
        problems: unreached,
    };
    for path in paths {
        match run.look(path) {
            Ok(asked) => run.asked.push(asked),
            Err(problem) => run.problems.push(problem.at(path.to_string())),
        }
    }
    if run.fits() {
        if !options.dry_run {
            run.bring();
            run.verify();
            run.recount();
        }
    } else {
        run.asked.iter_mut().for_each(Asked::is_refused);
    }
    run.finish().map_err(Failure::Unable)
}

/// The directory of all copies.
fn base(options: &Recover, system: &System, olds: &[Source<'_>]) -> Result<Base> {
    let base = Base::open(&absolute(options.to.as_deref().unwrap_or(&system.place))?)?;
    if options.to.is_some() {
        olds.iter().try_for_each(|old| base.must_be_outside(old.place_of_all()?))?;
    }
    Ok(base)
}

/// A path of the system, from its root on.
fn asked(path: &Path) -> Result<AbsPath> {
    if path.is_relative() {
        let problem = Problem::new("the path is relative").remedy("name it from / on, as it was in its boot");
        return Err(problem.at(escape::path(path)));
    }
    absolute(path)
}

/// A path of the command line; a relative one from the working directory.
fn absolute(path: &Path) -> Result<AbsPath> {
    let shown = escape::path(path);
    let absolute = std::path::absolute(path).map_err(|error| Problem::new(describe_io(&error)));
    absolute
        .and_then(|path| {
            let text = path.to_str().ok_or_else(|| {
                Problem::new("the path is no UTF-8 text").remedy("name the directory that holds it")
            })?;
            AbsPath::parse(text).map_err(Problem::new)
        })
        .map_err(|problem| problem.at(shown))
}

/// State of a run.
struct Run<'r> {
    options: &'r Recover,
    manifest: &'r Manifest,
    system: &'r System,
    olds: Vec<Source<'r>>,
    base: Base,
    names: Names,
    places: Vec<Place>,
    asked: Vec<Asked>,
    problems: Vec<Problem>,
}

/// A requested path.
struct Asked {
    path: AbsPath,
    /// Its copies: one for each file system.
    jobs: Vec<Job>,
    /// Newer roots whose savings left the path out, with the reasons.
    passed: Vec<Passed>,
    /// Number of names copied, and their bytes.
    brought: (u64, u64),
    /// True after a failure.
    is_broken: bool,
}

impl Asked {
    /// Number of missing names, and their bytes.
    fn missing(&self) -> (u64, u64) {
        let seen = self.jobs.iter().map(|job| &job.seen);
        seen.fold((0, 0), |sum, seen| (sum.0 + seen.missing, sum.1 + seen.missing_bytes))
    }

    /// Refused: the files do not all fit.
    fn is_refused(&mut self) {
        self.is_broken = self.brought.0 > 0;
        self.brought = (0, 0);
    }
}

impl Run<'_> {
    /// Finds a path in the old roots, and compares the path with its place.
    fn look(&mut self, path: &AbsPath) -> Result<Asked> {
        if path.is_root() && self.options.to.is_none() {
            return Err(Problem::new("it is the root itself")
                .remedy("name what is wanted of it, or bring all of it elsewhere with --to"));
        }
        let asked = self.options.number.map(Id);
        let (number, origin, passed) = origin::find(&self.olds, asked, path)?;
        let mut jobs = Vec::new();
        let mut waiting = vec![(path.clone(), origin)];
        while let Some((path, origin)) = waiting.pop() {
            let old = &self.olds[number];
            let owners = old.owners(&self.names)?;
            let other = |path: &AbsPath| walk::directory_below(old.tree.as_fd(), path, Mounts::Stay);
            let destination = self.base.find(&path, &mut self.places, owners, &other)?;
            let place = destination.place;
            let mut job = Job { path, old: number, origin, destination, seen: Seen::default() };
            job.look(owners, &mut self.places[place])?;
            if job.is_open() {
                let place = &self.places[place];
                place.must_be_writable(&self.base.path.join(&place.path))?;
            }
            for below in &job.seen.below {
                let below = str::from_utf8(below).ok().map(|below| job.path.join(&root_of(below)));
                let Some(below) = below else { continue };
                waiting.extend(old.at(&below)?.map(|origin| (below, origin)));
            }
            jobs.push(job);
        }
        let mut asked = Asked { path: path.clone(), jobs, passed, brought: (0, 0), is_broken: false };
        asked.brought = asked.missing();
        Ok(asked)
    }

    /// Looks for complete copies after a failure.
    fn recount(&mut self) {
        for asked in self.asked.iter_mut().filter(|asked| asked.is_broken) {
            for job in &mut asked.jobs {
                let place = &mut self.places[job.destination.place];
                let again = self.olds[job.old].owners(&self.names).and_then(|owners| job.look(owners, place));
                if let Err(problem) = again {
                    log::warn!("{}: cannot tell what was brought: {problem}", job.path);
                }
            }
            let missing = asked.missing();
            asked.brought =
                (asked.brought.0.saturating_sub(missing.0), asked.brought.1.saturating_sub(missing.1));
        }
    }

    /// True if there is room for everything. Nothing has been written yet.
    fn fits(&mut self) -> bool {
        let before = self.problems.len();
        for place in &self.places {
            let shown = self.base.path.join(&place.path);
            self.problems.extend(place.must_fit(shown.as_str()).err());
        }
        self.problems.len() == before
    }

    fn bring(&mut self) {
        // Also where nothing is missing any more.
        for place in &self.places {
            if let Err(problem) = place.clear() {
                log::warn!("{}: {problem}", self.base.path.join(&place.path));
            }
        }
        let jobs = self.asked.iter().flat_map(|asked| &asked.jobs);
        let progress = Progress::new(jobs.map(|job| job.seen.missing_bytes).sum(), "copying");
        for asked in &mut self.asked {
            for job in asked.jobs.iter().filter(|job| job.is_open()) {
                let old = &self.olds[job.old];
                let place = &mut self.places[job.destination.place];
                let brought = old
                    .owners(&self.names)
                    .and_then(|owners| job.bring(old, owners, place, &mut |bytes| progress.add(bytes)));
                let failures = brought.unwrap_or_else(|problem| vec![problem]);
                asked.is_broken |= !failures.is_empty();
                let failures = failures.into_iter().map(|problem| problem.at(job.path.to_string()));
                self.problems.extend(few(failures.collect(), &job.path));
            }
        }
    }

    fn verify(&mut self) {
        let jobs = self.asked.iter().flat_map(|asked| &asked.jobs);
        let progress = Progress::new(jobs.map(|job| job.seen.missing_bytes).sum(), "comparing");
        for asked in &mut self.asked {
            for job in &asked.jobs {
                let old = &self.olds[job.old];
                let place = &self.places[job.destination.place];
                let flaws = old
                    .owners(&self.names)
                    .and_then(|owners| job.verify(owners, place, &mut |bytes| progress.add(bytes)));
                let problems: Vec<_> = match flaws {
                    // Each failure has been said.
                    Ok(_) if asked.is_broken => continue,
                    Ok(flaws) => flaws
                        .into_iter()
                        .map(|flaw| {
                            let what = match flaw.what {
                                Some(what) => format!("the copy differs in {what}"),
                                None => "it is not there".to_owned(),
                            };
                            let problem = Problem::new(what).at(shown(&job.path, &flaw.path));
                            problem
                                .remedy("if something has just changed it, look at it; otherwise run again")
                        })
                        .collect(),
                    Err(problem) => vec![problem.at(job.path.to_string())],
                };
                asked.is_broken |= !problems.is_empty();
                self.problems.extend(few(problems, &job.path));
            }
        }
    }
}

/// A relative path as an absolute one.
fn root_of(path: &str) -> AbsPath {
    path.split('/').filter(|name| !name.is_empty()).fold(AbsPath::root(), |path, name| path.child(name))
}

/// The whole path of a name below another path.
fn full(path: &AbsPath, below: &[u8]) -> Vec<u8> {
    let mut all = path.as_str().as_bytes().to_vec();
    if !below.is_empty() {
        if !path.is_root() {
            all.push(b'/');
        }
        all.extend(below);
    }
    all
}

/// The same for messages.
fn shown(path: &AbsPath, below: &[u8]) -> String {
    escape::name(&full(path, below)).into_owned()
}

/// The first problems of a path with many.
fn few(mut problems: Vec<Problem>, path: &AbsPath) -> Vec<Problem> {
    const SHOWN: usize = 20;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        let more = terminal::count(more as u64, "more problem");
        problems.push(Problem::new(format!("{more} of this kind below it")).at(path.to_string()));
    }
    problems
}
