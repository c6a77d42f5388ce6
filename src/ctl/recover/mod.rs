//! `impctl recover`: what an old root holds, brought back to its place on the running system or elsewhere.

pub mod gone;
mod origin;
mod owners;
mod place;
mod print;
mod work;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::Mode;
use serde::Serialize;
use serde_json::Value;

use super::adopt::refuse;
use super::line;
use super::system::{System, outlives_a_boot};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::progress::Progress;
use crate::ctl::ui::terminal;
use crate::logging;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Manifest};
use crate::roots::Id;
use crate::runtime::lock;
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe_io};
use origin::Old;
use owners::Names;
use place::{Base, Place};
use work::{Job, Kept, Seen};

/// Bring back what an old root holds: to its place, or elsewhere
///
/// Old roots are those of earlier boots, which a store keeps where the manifest has `root.on` or `old_roots`: `impctl roots` lists them.
/// What is asked for comes from the newest that has it. One in which it is empty, as the place of a mount is, comes last; a saving that
/// was cut off is used only if it is named.
///
/// Files keep their mode, times, hard links, holes, ACLs, extended attributes, capabilities and inode flags, and their owner by name,
/// where ids have changed. Nothing that is there is replaced: in a directory that is there, what is missing is brought, and what differs
/// is named and stays. Missing directories above it are made like those in the old root. What another file system is mounted over goes
/// into that one. No symbolic link is followed on the way.
///
/// Copies are made in .imp-mount/staging at the top of the file system that they go to, which only root can enter, and come to their
/// places complete. Afterwards everything is compared. It can be stopped at any time: running it again goes on.
///
/// Add the printed line to the configuration, or the next boot is without it again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Bring back what the last boot had, and see the line that keeps it
  impctl recover /var/lib/netdata
  # The same of an earlier one, beside what is there now
  impctl recover --root 12 --to /root/old /var/lib/netdata
  # What would come, and from where?
  impctl recover --dry-run /home/ada/notes /etc/wireguard
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
    /// The old root to bring it from, by its number [default: the newest that has it]
    #[arg(long, value_name = "ID", value_hint = ValueHint::Other)]
    root: Option<u32>,
    /// A directory that takes the place of /: each path comes below it as a whole
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,
    /// Only say what would be brought, and from where
    #[arg(long)]
    dry_run: bool,
    /// The manifest, compiled or as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = crate::boot::args::MANIFEST)]
    manifest: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Result for one path.
#[derive(Debug, Serialize)]
struct Outcome {
    path: AbsPath,
    /// Its place on the running system.
    to: AbsPath,
    store: AbsPath,
    root: u32,
    state: Standing,
    /// Names that the old root has at and below it.
    files: u64,
    /// Those that were missing, and the bytes of these.
    brought: u64,
    bytes: u64,
    /// Paths at which something else is.
    kept: Vec<KeptPath>,
    /// What it persists by, if it does.
    persists: Option<String>,
    /// The line for NixOS, and the manifest's entry, where it does not.
    nix: Option<String>,
    entry: Option<Value>,
}

/// State of one path in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// It would be brought.
    Missing,
    /// It was brought.
    Brought,
    /// All that the old root has was there.
    There,
    /// Some of it was not brought.
    Incomplete,
}

/// Something that is not replaced.
#[derive(Debug, Serialize)]
struct KeptPath {
    path: String,
    what: &'static str,
}

/// Brings everything, and says which line keeps it.
pub fn run(options: &Recover) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    if !rustix::process::geteuid().is_root() {
        let problem = Problem::new("only root may read old roots").remedy("run it as root");
        return Err(Failure::Unable(problem));
    }
    // Before anything is read that another process may be about to change.
    let _lock =
        if options.dry_run { None } else { Some(lock::take("impctl recover").map_err(Failure::Unable)?) };
    let system = System::open(Path::new("/"))?;
    let manifest = system.manifest(Some(&options.manifest))?.unwrap_or_default();
    let (outcomes, problems) = recover(options, &manifest, &system).map_err(Failure::Unable)?;
    if options.json {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let json = serde_json::json!({
            "version": 1, "dry_run": options.dry_run, "recovered": outcomes, "problems": problems
        });
        output::print(&output::json(&json)?)?;
    } else {
        terminal::print(&print::text(&outcomes, options.dry_run))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

fn recover(options: &Recover, manifest: &Manifest, system: &System) -> Result<(Vec<Outcome>, Vec<Problem>)> {
    // New files get exactly the mode that is given.
    rustix::process::umask(Mode::empty());
    let olds = origin::all(manifest)?;
    if olds.is_empty() {
        return Err(Problem::new("there is no old root on any store of the manifest")
            .remedy("`old_roots` in the manifest has them kept from the next boot on"));
    }
    let base = Base::open(&options.to.as_deref().map_or_else(|| Ok(AbsPath::root()), absolute)?)?;
    if options.to.is_some() {
        olds.iter().try_for_each(|old| base.must_be_outside(old.place_of_all()?))?;
    }
    let mut run = Run {
        options,
        manifest,
        system,
        olds,
        base,
        names: Names::read(system)?,
        places: Vec::new(),
        asked: Vec::new(),
        problems: Vec::new(),
    };
    for path in &options.paths {
        let looked = absolute(path).and_then(|path| {
            let looked = run.look(&path);
            looked.map_err(|problem| problem.at(path.to_string()))
        });
        match looked {
            Ok(asked) => run.asked.push(asked),
            Err(problem) => run.problems.push(problem),
        }
    }
    if run.fits() && !options.dry_run {
        run.bring();
        run.verify();
    }
    run.finish()
}

/// A path as a person writes it, also from the directory in which that person is.
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

/// The work, and what it has come to.
struct Run<'r> {
    options: &'r Recover,
    manifest: &'r Manifest,
    system: &'r System,
    olds: Vec<Old<'r>>,
    base: Base,
    names: Names,
    places: Vec<Place>,
    asked: Vec<Asked>,
    problems: Vec<Problem>,
}

/// A path that was asked for.
struct Asked {
    path: AbsPath,
    /// It, and what of it goes to other file systems.
    jobs: Vec<Job>,
    /// True after a failure.
    is_broken: bool,
}

impl Run<'_> {
    /// Finds a path in the old roots, and compares it with its place.
    fn look(&mut self, path: &AbsPath) -> Result<Asked> {
        if path.is_root() && self.options.to.is_none() {
            return Err(Problem::new("it is the root itself")
                .remedy("name what is wanted of it, or bring all of it elsewhere with --to"));
        }
        let asked = self.options.root.map(Id);
        let (number, origin) = origin::find(&self.olds, asked, path)?;
        let mut jobs = Vec::new();
        let mut waiting = vec![(path.clone(), origin)];
        while let Some((path, origin)) = waiting.pop() {
            let old = &self.olds[number];
            let owners = old.owners(&self.names)?;
            let other = |path: &AbsPath| walk::directory_below(old.tree.as_fd(), path, Mounts::Stay);
            let spot = self.base.find(&path, &mut self.places, owners, &other)?;
            let place = spot.place;
            let mut job = Job { path, old: number, origin, spot, seen: Seen::default() };
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
        Ok(Asked { path: path.clone(), jobs, is_broken: false })
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
                let place = &mut self.places[job.spot.place];
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
                let place = &self.places[job.spot.place];
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

    fn finish(mut self) -> Result<(Vec<Outcome>, Vec<Problem>)> {
        let names = self.system.names();
        let mut outcomes = Vec::new();
        for asked in &self.asked {
            let Some(first) = asked.jobs.first() else { continue };
            let old = &self.olds[first.old];
            let owners = old.owners(&self.names)?;
            let stat = owners.of(first.origin.stat);
            let sum = |of: &dyn Fn(&Seen) -> u64| asked.jobs.iter().map(|job| of(&job.seen)).sum::<u64>();
            let (files, missing) = (sum(&|seen| seen.names), sum(&|seen| seen.missing));
            let left = sum(&|seen| (seen.unowned.len() + seen.foreign.len()) as u64);
            let mut kept = Vec::new();
            for job in &asked.jobs {
                self.problems.extend(left_out(job, old, &self.base));
                kept.extend(job.seen.kept.iter().map(|one| KeptPath {
                    path: String::from_utf8_lossy(&full(&job.path, &one.path)).into_owned(),
                    what: one.what,
                }));
            }
            let state = match () {
                () if asked.is_broken || left > 0 => Standing::Incomplete,
                () if missing == 0 && kept.is_empty() => Standing::There,
                () if missing == 0 => Standing::Incomplete,
                () if self.options.dry_run => Standing::Missing,
                () => Standing::Brought,
            };
            let place = &self.places[first.spot.place];
            let keeps = self.options.to.is_none();
            let persists =
                if keeps { persists(self.manifest, place, &asked.path, stat.what()) } else { None };
            let is_wanted =
                keeps && !asked.is_broken && persists.is_none() && (stat.is_dir() || stat.is_file());
            let number = self.manifest.stores.iter().position(|store| store.path == old.store.path);
            let number = u16::try_from(number.unwrap_or_default()).unwrap_or_default();
            // What no manifest may name has no line.
            let entry = if is_wanted && refuse::named(self.manifest, &asked.path, stat.what(), number).is_ok()
            {
                Some(line::entry(&asked.path, &stat, &names))
            } else {
                None
            };
            outcomes.push(Outcome {
                path: asked.path.clone(),
                to: self.base.path.join(&asked.path),
                store: old.store.path.clone(),
                root: old.id().0,
                state,
                files,
                brought: missing,
                bytes: sum(&|seen| seen.missing_bytes),
                kept,
                persists,
                nix: entry.as_ref().map(|entry| line::nix(entry, old.store)),
                entry: entry.map(Value::Object),
            });
        }
        Ok((outcomes, self.problems))
    }
}

/// Problems of what stays as it is, and of what cannot come.
fn left_out(job: &Job, old: &Old<'_>, base: &Base) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Kept { path, what, exposed } in &job.seen.kept {
        let (words, remedy) = if *exposed {
            (
                "and shows what is in it to others than the old one: nothing comes into it",
                "give it the owner, mode and ACL of the old one, and run again; or bring that elsewhere with --to",
            )
        } else {
            ("and stays", "compare the two; --to brings the old one elsewhere")
        };
        let what = format!("it is there already, differs in {what} from that of root {}, {words}", old.id());
        problems.push(Problem::new(what).at(shown(&base.path.join(&job.path), path)).remedy(remedy));
    }
    for path in &job.seen.unowned {
        let what = format!(
            "its owner in root {} does not exist any more, and another has that id: it was left out",
            old.id()
        );
        let remedy = "create a user or group of that name, which /etc/passwd and /etc/group of that root have, and run again";
        problems.push(Problem::new(what).at(shown(&job.path, path)).remedy(remedy));
    }
    for path in &job.seen.foreign {
        let what = format!("another file system is mounted there in root {}, which was left out", old.id());
        problems.push(Problem::new(what).at(shown(&job.path, path)).remedy("unmount that, and run again"));
    }
    few(problems, &job.path)
}

/// How a path persists already; none where it does not.
fn persists(manifest: &Manifest, place: &Place, path: &AbsPath, what: Type) -> Option<String> {
    let entry = Coverage::new(manifest).entry(path, what);
    let is_elsewhere = !place.path.is_root();
    match entry {
        Some(entry) if is_elsewhere => Some(format!("by the entry {}", entry.target)),
        Some(entry) => Some(format!(
            "by the entry {}, once that is mounted: run imp-mount, and see imp-mount --check",
            entry.target
        )),
        None if is_elsewhere && outlives_a_boot(&place.mount.fstype) => {
            Some(format!("on what is mounted at {}", place.path))
        }
        None => None,
    }
}

/// A relative path as an absolute one.
fn root_of(path: &str) -> AbsPath {
    path.split('/').filter(|name| !name.is_empty()).fold(AbsPath::root(), |path, name| path.child(name))
}

/// The whole path of something below another.
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

/// The first problems of many that a path has.
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
