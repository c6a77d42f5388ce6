//! `impctl migrate`: copies the paths of the manifest from a system's root, or from a backup of the root, to the
//! stores.

mod destination;
mod print;
mod rest;
mod route;
mod work;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::{Mode, syncfs};
use serde::Serialize;

use super::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::progress::Progress;
use crate::ctl::ui::terminal;
use crate::logging;
use crate::manifest::{AbsPath, Manifest};
use crate::runtime::lock;
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe_io};
use crate::transfer::seals;
use crate::transfer::staging::{self, Stagings};
use crate::transfer::tree::Transfer;
use destination::{Destination, Left, Room};
use route::Route;
use work::{Conflict, Ends, Rules, Seen, Standing};

/// Copy the paths of the manifest from a system's root, or a backup of it, to the stores
///
/// Files keep their owner, mode, times, hard links, holes, ACLs, extended attributes, capabilities and inode flags.
/// Content is shared with the system's own file if supported by the file system. Copies are made in .imp-mount/staging
/// on the store, a directory of root alone, and moved to their places when complete. Afterwards everything is
/// compared.
///
/// Without --force, different files on the store are not replaced. No file is deleted there. A directory of the store
/// that grants access to more users than the system's gets no files. The command can be stopped at any time; the next
/// run continues. Other file systems below the paths and device nodes are left out, and listed.
///
/// Stop databases before, and let no other program write to the stores.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(after_long_help = "\
Examples:
  # What would be copied, and does it fit?
  impctl migrate --from / --dry-run
  # From the running system to /persist, before its first tmpfs root
  impctl migrate --from /
  # Restore a backup in an installer, before the first boot
  impctl migrate --from /mnt/backup --store /mnt/persist --manifest /mnt/etc/imp-mount/manifest
  # To several stores
  impctl migrate --from /old --store /persist=/mnt/a --store /data=/mnt/b

Files:
  /etc/imp-mount/manifest  what is brought, and to which store

Exit status: 0 done; 1 something is missing, differs or does not fit; 2 it could not run")]
pub struct Migrate {
    /// The root to copy from: /, or the mount point of a disk or a backup
    #[arg(long, value_name = "ROOT", value_hint = ValueHint::DirPath)]
    from: PathBuf,
    /// Where the store is mounted now; STORE=DIR for one of several [default: its own path]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Vec<String>,
    /// The manifest, compiled or as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = crate::boot::args::MANIFEST)]
    manifest: PathBuf,
    /// Only print the files to copy, and check the space
    #[arg(long)]
    dry_run: bool,
    /// Replace different files on the store at and below this path of the system, but no directory by a file, and no
    /// file by a directory
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    force: Vec<String>,
    /// Copy device nodes, too; those of a foreign backup give access to this machine's devices
    #[arg(long)]
    devices: bool,
    /// Do not compare everything afterwards
    #[arg(long)]
    no_verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Result of `impctl migrate`. Sizes are in bytes; paths are those of the booted system unless noted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outcome {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Root of the existing system, seen from the command.
    from: String,
    /// True if nothing was changed.
    dry_run: bool,
    /// True if everything was compared in the end.
    verified: bool,
    /// The stores.
    stores: Vec<StoreOutcome>,
    /// The entries.
    entries: Vec<EntryOutcome>,
    /// Files with differences between the store and the system.
    conflicts: Vec<Conflict>,
    /// Other file systems, which were not entered.
    mounts: Vec<String>,
    /// Device nodes, which were left out.
    devices: Vec<String>,
    /// Paths without an entry in the manifest.
    not_named: Vec<String>,
    /// Failures.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    problems: Vec<String>,
}

/// One store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StoreOutcome {
    /// Its path.
    path: AbsPath,
    /// Its path now, seen from the command.
    at: String,
    /// True if the copies share their content with the existing system.
    shared: bool,
    /// Room for the copies.
    needed: Room,
    /// Free room before.
    free: Room,
    /// Bytes of copied files; null in a dry run, and without enough room.
    copied: Option<u64>,
    /// Unfinished copies of earlier runs, continued by this run.
    resumed: Left,
    /// Unfinished copies removed by this run.
    removed: Left,
    /// Unfinished copies left by this run.
    unfinished: Left,
}

/// One path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EntryOutcome {
    /// The path.
    target: AbsPath,
    /// Its path on the store.
    source: AbsPath,
    /// Its state.
    standing: Standing,
    /// Number of files on the existing system.
    files: u64,
    /// Bytes of these.
    bytes: u64,
    /// Number of files missing on the store.
    missing: u64,
    /// Bytes of these.
    missing_bytes: u64,
    /// Number of different files left unchanged on the store.
    differing: u64,
    /// True if the entry is required.
    required: bool,
}

/// Copies everything, and prints the result.
pub fn run(options: &Migrate) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    require_root().map_err(Failure::Unable)?;
    // The lock comes before any read of data changed by other processes.
    let _lock =
        if options.dry_run { None } else { Some(lock::take("impctl migrate").map_err(Failure::Unable)?) };
    let manifest = System::open(Path::new("/"))?.manifest(Some(&options.manifest))?.unwrap_or_default();
    let mut migration = Migration::prepare(options, &manifest).map_err(Failure::Unable)?;
    migration.look();
    let fits = migration.fits().map_err(Failure::Unable)?;
    if fits && !options.dry_run {
        migration.bring();
        if !options.no_verify {
            migration.verify();
        }
    }
    let (outcome, problems) = migration.finish(fits).map_err(Failure::Unable)?;
    if options.json {
        output::print(&output::json(&outcome)?)?;
    } else {
        terminal::print(&print::text(&outcome))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Problem::new("only root may read everything and give it its owners").remedy("run it as root"))
}

/// The work and its results.
struct Migration<'m> {
    options: &'m Migrate,
    root: OwnedFd,
    manifest: &'m Manifest,
    force: Vec<AbsPath>,
    destinations: Vec<Option<Destination<'m>>>,
    routes: Vec<(Route<'m>, Seen)>,
    problems: Vec<Problem>,
}

impl<'m> Migration<'m> {
    fn prepare(options: &'m Migrate, manifest: &'m Manifest) -> Result<Self> {
        // New files get exactly the mode given.
        rustix::process::umask(Mode::empty());
        let force = options.force.iter().map(|path| {
            AbsPath::parse(path)
                .map_err(|why| Problem::new(why).at(format!("--force {}", escape::name(path))))
        });
        let force = force.collect::<Result<_>>()?;
        let at = format!("--from {}", escape::path(&options.from));
        let root =
            options.from.to_str().ok_or_else(|| Problem::new("it is no UTF-8 text").at(at.as_str()))?;
        let root = walk::base(root).map_err(|errno| Problem::os("cannot open it", errno).at(at))?;
        let destinations = destination::open(manifest, &options.store)?;
        let (routes, problems) = route::all(manifest, root.as_fd());
        let routes = routes.into_iter().filter(|route| destinations[route.store].is_some());
        let routes = routes.map(|route| (route, Seen::nothing(Standing::Absent))).collect();
        Ok(Self { options, root, manifest, force, destinations, routes, problems })
    }

    /// Finds the work to do.
    fn look(&mut self) {
        for (route, seen) in &mut self.routes {
            let Some(destination) = &mut self.destinations[route.store] else { continue };
            let looked = Ends::open(self.root.as_fd(), route, destination).and_then(|ends| match ends {
                Some(ends) => {
                    work::look(&ends, &rules(self.options, &self.force, route, destination)?, destination)
                }
                None => Ok(Seen::nothing(Standing::Absent)),
            });
            *seen = looked.unwrap_or_else(|problem| {
                self.problems.push(problem.at(route.from.to_string()));
                Seen::nothing(Standing::Failed)
            });
            if seen.standing == Standing::Foreign {
                let problem = Problem::new("another file system is mounted there, and is left out");
                self.problems.push(problem.at(route.from.to_string()).remedy(
                    "it persists as it is: take the path out of the manifest; or unmount it, mount it below another \
                     directory as a root of its own, and bring it from there",
                ));
            }
            let kept = seen.conflicts.iter().filter(|conflict| !conflict.forced);
            self.problems.extend(few(kept.map(explain).collect(), &route.from));
        }
    }

    /// True if there is room for all copies. No file is written before.
    fn fits(&mut self) -> Result<bool> {
        let mut fits = true;
        for destination in self.destinations.iter_mut().flatten() {
            destination.free = destination.room()?;
            if let Some(problem) = destination.lacks() {
                self.problems.push(problem);
                fits = false;
            }
        }
        Ok(fits)
    }

    fn bring(&mut self) {
        let total = self.routes.iter().map(|(_, seen)| seen.missing_bytes).sum();
        let progress = Progress::new(total, "copying");
        for number in 0..self.destinations.len() {
            if let Err(problem) = self.bring_to(number, &progress) {
                let store = self.manifest.stores[number].path.to_string();
                self.problems.push(problem.at(format!("store {store}")));
            }
        }
    }

    /// Copies all paths of one store.
    fn bring_to(&mut self, number: usize, progress: &Progress) -> Result<()> {
        let Some(destination) = &mut self.destinations[number] else { return Ok(()) };
        let is_of_it = |(route, seen): &&mut (Route<'_>, Seen)| {
            route.store == number && seen.standing == Standing::Incomplete
        };
        let mut routes: Vec<_> = self.routes.iter_mut().filter(is_of_it).collect();
        if routes.is_empty() && destination.left(false).copies == 0 {
            // A run killed at its end has left nothing but an empty directory.
            return staging::tidy(destination.fd.as_fd(), &staging::is_key);
        }
        let top = destination.fd.try_clone().map_err(|error| Problem::new(describe_io(&error)))?;
        let mut stagings = Stagings::open(top.as_fd())?;
        destination.clear(&stagings)?;
        // One transfer for all paths: hard links are kept, and all copies are moved to their places together.
        let mut transfer = Transfer {
            stagings: Some(&mut stagings),
            times: true,
            links: std::mem::take(&mut destination.links),
            batch: true,
            failures: Some(Vec::new()),
            ..Transfer::default()
        };
        for (route, seen) in &mut routes {
            let brought = rules(self.options, &self.force, route, destination).and_then(|rules| {
                let ends = (&*destination, top.as_fd());
                work::bring(self.root.as_fd(), &rules, ends, &mut transfer, &mut |bytes| progress.add(bytes))
            });
            let mut failures = transfer.take_failures();
            if self.options.no_verify {
                failures.extend(transfer.unsteady.iter().map(|path| {
                    let path = escape::name(&work::full(&route.from, path)).into_owned();
                    Problem::new("it changed while it was copied")
                        .at(path)
                        .remedy("run again with --force and this path")
                }));
            }
            transfer.unsteady.clear();
            failures.extend(brought.err());
            if failures.is_empty() {
                seen.standing = seen.done();
            }
            let is_full = failures.iter().any(|problem| problem.errno.is_some_and(is_final));
            for problem in &mut failures {
                *problem = problem.clone().at(route.from.to_string());
            }
            self.problems.extend(few(failures, &route.from));
            if is_full {
                break;
            }
        }
        // After a failure, too, complete copies are moved to their places.
        let published = transfer.publish();
        let seals = std::mem::take(&mut transfer.seals);
        drop(transfer);
        let sealed = seals::set(top.as_fd(), &seals);
        let failed = |errno| Problem::os("cannot finish what was copied", errno);
        let synced = syncfs(&top).map_err(failed);
        let result = published.and(sealed).and(synced).and(stagings.close().map_err(failed));
        if result.is_err() {
            for (_, seen) in &mut routes {
                seen.standing = Standing::Incomplete;
            }
        }
        result
    }

    fn verify(&mut self) {
        let total = self.routes.iter().map(|(_, seen)| seen.bytes).sum();
        let progress = Progress::new(total, "comparing");
        self.destinations.iter_mut().flatten().for_each(|destination| destination.links.clear());
        for (route, seen) in &mut self.routes {
            let Some(destination) = &mut self.destinations[route.store] else { continue };
            if !matches!(seen.standing, Standing::Complete | Standing::Differs | Standing::Incomplete) {
                continue;
            }
            let mut add = |bytes| progress.add(bytes);
            let verified = rules(self.options, &self.force, route, destination)
                .and_then(|rules| work::verify(self.root.as_fd(), &rules, destination, seen, &mut add));
            match verified {
                Ok(problems) if problems.is_empty() => seen.standing = seen.done(),
                Ok(problems) => {
                    seen.standing = Standing::Incomplete;
                    self.problems.extend(few(problems, &route.from));
                }
                Err(problem) => {
                    seen.standing = Standing::Failed;
                    self.problems.push(problem.at(route.from.to_string()));
                }
            }
        }
    }

    fn finish(mut self, fits: bool) -> Result<(Outcome, Vec<Problem>)> {
        let not_named = rest::of(self.manifest, self.root.as_fd())?;
        let is_done = fits && !self.options.dry_run;
        let (mut stores, mut problems) = (Vec::new(), Vec::new());
        for (number, destination) in self.destinations.iter().enumerate() {
            let Some(destination) = destination else { continue };
            let is_copied = |(route, seen): &&(Route<'_>, Seen)| {
                route.store == number && matches!(seen.standing, Standing::Complete | Standing::Differs)
            };
            let copied = self.routes.iter().filter(is_copied).map(|(_, seen)| seen.missing_bytes).sum();
            let unfinished = destination.unfinished().unwrap_or_else(|problem| {
                problems.push(problem.at(format!("store {}", destination.store.path)));
                Left::default()
            });
            stores.push(StoreOutcome {
                path: destination.store.path.clone(),
                at: destination.at.clone(),
                shared: destination.shares == Some(true),
                needed: destination.need,
                // A vanished store was reported before.
                free: destination.room().unwrap_or(destination.free),
                copied: is_done.then_some(copied),
                resumed: destination.left(true),
                removed: destination.left(false),
                unfinished,
            });
        }
        self.problems.append(&mut problems);
        let entries = self.routes.iter().map(|(route, seen)| EntryOutcome {
            target: route.from.clone(),
            source: self.manifest.stores[route.store].path.join(&route.to),
            standing: seen.standing,
            files: seen.names,
            bytes: seen.bytes,
            missing: seen.missing,
            missing_bytes: seen.missing_bytes,
            differing: seen.differing(),
            required: route.entry.required,
        });
        let entries = entries.collect();
        let (mut conflicts, mut mounts, mut devices) = (Vec::new(), Vec::new(), Vec::new());
        for (_, seen) in self.routes {
            conflicts.extend(seen.conflicts);
            mounts.extend(seen.mounts);
            devices.extend(seen.devices);
        }
        let outcome = Outcome {
            version: 1,
            from: self.options.from.to_string_lossy().into_owned(),
            dry_run: self.options.dry_run,
            verified: is_done && !self.options.no_verify,
            stores,
            entries,
            conflicts,
            mounts,
            devices,
            not_named,
            problems: self.problems.iter().map(ToString::to_string).collect(),
        };
        Ok((outcome, self.problems))
    }
}

fn rules<'r>(
    options: &Migrate,
    force: &'r [AbsPath],
    route: &'r Route<'r>,
    destination: &Destination<'_>,
) -> Result<Rules<'r>> {
    let store =
        walk::stat(destination.fd.as_fd()).map_err(|errno| Problem::os("cannot look at the store", errno))?;
    Ok(Rules { route, store: store.identity(), devices: options.devices, force })
}

/// True if nothing else can be copied after this error either.
fn is_final(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS)
}

/// The first problems of an entry with many.
fn few(mut problems: Vec<Problem>, entry: &AbsPath) -> Vec<Problem> {
    const SHOWN: usize = 20;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        let more = terminal::count(more as u64, "more problem");
        problems.push(Problem::new(format!("{more} of this kind below it")).at(entry.to_string()));
    }
    problems
}

fn explain(conflict: &Conflict) -> Problem {
    let (what, age) = (conflict.what, conflict.store_is.words());
    let (words, remedy) = if conflict.left_out {
        let words =
            "and grants access to more users than the system's; it stays, and nothing is copied into it";
        (
            words.to_owned(),
            "give it the owner, mode and ACL of the system's, and run again; so does --force and this path",
        )
    } else {
        let remedy = if conflict.replaceable {
            "compare the two; --force and this path replaces the store's, or move that away"
        } else {
            "compare the two, move the store's away, and run again; --force replaces no directory by a file, and no file by \
             a directory"
        };
        (format!("the store's {age}, and stays"), remedy)
    };
    let problem = Problem::new(format!("the store has it already, and it differs in {what}; {words}"));
    problem.at(escape::name(&conflict.path)).remedy(remedy)
}
