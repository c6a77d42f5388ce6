//! `impctl migrate`: what the manifest names, brought from a system's root, or from a backup of it, to the stores.

mod print;
mod rest;
mod route;
mod rsync;
mod side;
mod work;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rustix::fs::{Mode, syncfs};
use serde::Serialize;

use super::output::{self, Failure};
use super::progress::Progress;
use super::shop::Shop;
use super::system::System;
use super::{bring, terminal};
use crate::escape;
use crate::manifest::{AbsPath, Kind, Manifest};
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts};
use crate::{lock, logging};
use route::Route;
use rsync::Batch;
use side::{Room, SHOP, Side};
use work::{Conflict, Ends, Seen, Standing};

/// Bring what the manifest names from a system's root, or a backup of it, to the stores
///
/// What is on the same file system as the store is shared where that can be; the rest is copied by rsync(1). It is compared
/// afterwards. Nothing is ever deleted, and nothing that the store has otherwise is replaced without --force. It can be stopped at
/// any time: running it again goes on.
///
/// Databases are to be stopped before, and nobody else should write to the stores.
#[derive(Debug, Args)]
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
    /// The root to bring things from: / or where a disk or a backup of it is
    #[arg(long, value_name = "ROOT", value_hint = ValueHint::DirPath)]
    from: PathBuf,
    /// Where the store is mounted now; STORE=DIR for one of several [default: its own path]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Vec<String>,
    /// The manifest, compiled or as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = crate::cli::MANIFEST)]
    manifest: PathBuf,
    /// Only say what would be copied, and whether it fits
    #[arg(long)]
    dry_run: bool,
    /// Replace what the store has otherwise at and below this path of the system
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    force: Vec<String>,
    /// Do not compare the content of everything afterwards
    #[arg(long)]
    no_verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found and done.
#[derive(Debug, Serialize)]
struct Outcome {
    version: u32,
    from: String,
    dry_run: bool,
    stores: Vec<StoreOutcome>,
    entries: Vec<EntryOutcome>,
    conflicts: Vec<Conflict>,
    /// Other file systems, which were not entered.
    mounts: Vec<String>,
    /// What lies beside what is named.
    not_named: Vec<String>,
    problems: Vec<String>,
}

/// One store.
#[derive(Debug, Serialize)]
struct StoreOutcome {
    path: AbsPath,
    at: String,
    /// Whether content is shared with the system that is brought.
    shared: bool,
    needed: Room,
    free: Room,
}

/// One path.
#[derive(Debug, Serialize)]
struct EntryOutcome {
    target: AbsPath,
    source: AbsPath,
    standing: Standing,
    files: u64,
    bytes: u64,
    missing: u64,
    missing_bytes: u64,
    required: bool,
}

/// Brings everything, and says what became of it.
pub fn run(options: &Migrate) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    require_root().map_err(Failure::Unable)?;
    // Before anything is read that another process may be about to change.
    let _lock =
        if options.dry_run { None } else { Some(lock::take("impctl migrate").map_err(Failure::Unable)?) };
    let manifest = System::open(Path::new("/"))?.manifest(Some(&options.manifest))?.unwrap_or_default();
    let mut migration = Migration::prepare(options, &manifest).map_err(Failure::Unable)?;
    migration.look();
    let fits = migration.fits().map_err(Failure::Unable)?;
    if fits && !options.dry_run {
        migration.bring();
        migration.verify();
    }
    let (outcome, problems) = migration.finish().map_err(Failure::Unable)?;
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

/// The work, and what it has come to.
struct Migration<'m> {
    options: &'m Migrate,
    manifest: &'m Manifest,
    root: OwnedFd,
    force: Vec<AbsPath>,
    sides: Vec<Option<Side<'m>>>,
    routes: Vec<(Route<'m>, Seen)>,
    free: Vec<Room>,
    problems: Vec<Problem>,
}

impl<'m> Migration<'m> {
    fn prepare(options: &'m Migrate, manifest: &'m Manifest) -> Result<Self> {
        // What is created gets the mode that it is given, and no less.
        rustix::process::umask(Mode::empty());
        bring::allow_depth();
        let force = options.force.iter().map(|path| {
            AbsPath::parse(path)
                .map_err(|why| Problem::new(why).at(format!("--force {}", escape::name(path))))
        });
        let force = force.collect::<Result<_>>()?;
        let at = format!("--from {}", escape::path(&options.from));
        let root =
            options.from.to_str().ok_or_else(|| Problem::new("it is no UTF-8 text").at(at.as_str()))?;
        let root = walk::base(root).map_err(|errno| Problem::os("cannot open it", errno).at(at))?;
        let sides = side::open(manifest, &options.store)?;
        let (routes, problems) = route::all(manifest, root.as_fd());
        let routes = routes.into_iter().filter(|route| sides[route.store].is_some());
        let routes = routes.map(|route| (route, Seen::nothing(Standing::Absent))).collect();
        Ok(Self { options, manifest, root, force, sides, routes, free: Vec::new(), problems })
    }

    /// Finds out what is to be done.
    fn look(&mut self) {
        for (route, seen) in &mut self.routes {
            let Some(side) = &mut self.sides[route.store] else { continue };
            let looked = Ends::open(self.root.as_fd(), route, side).and_then(|ends| match ends {
                Some(ends) => work::look(&ends, route, side, &self.force),
                None => Ok(Seen::nothing(Standing::Absent)),
            });
            *seen = looked.unwrap_or_else(|problem| {
                self.problems.push(problem.at(route.from.to_string()));
                Seen::nothing(Standing::Failed)
            });
            let kept = seen.conflicts.iter().filter(|conflict| !conflict.forced);
            self.problems.extend(few(kept.map(explain).collect(), &route.from));
        }
    }

    /// Whether there is room for all of it, and what copies it. Nothing has been written yet.
    fn fits(&mut self) -> Result<bool> {
        let mut fits = true;
        for side in self.sides.iter().flatten() {
            let room = side.room()?;
            self.free.push(room);
            if let Some(problem) = side.lacks(room) {
                self.problems.push(problem);
                fits = false;
            }
        }
        let copies = |(route, seen): &(Route<'_>, Seen)| {
            let side = self.sides[route.store].as_ref();
            seen.missing > 0 && goes_by_rsync(route, side)
        };
        if self.routes.iter().any(copies) {
            rsync::is_installed()?;
        }
        Ok(fits)
    }

    fn bring(&mut self) {
        let total = self.routes.iter().map(|(_, seen)| seen.missing_bytes).sum();
        let progress = Progress::new(total, "copying");
        for number in 0..self.sides.len() {
            if let Err(problem) = self.bring_to(number, &progress) {
                let store = self.manifest.stores[number].path.to_string();
                self.problems.push(problem.at(format!("store {store}")));
            }
        }
    }

    /// Brings everything that belongs on one store.
    fn bring_to(&mut self, number: usize, progress: &Progress) -> Result<()> {
        let Some(side) = &mut self.sides[number] else { return Ok(()) };
        let failed = |errno| Problem::os("cannot finish what was copied", errno);
        let of_store = |(route, seen): &&mut (Route<'_>, Seen)| {
            route.store == number && seen.standing == Standing::Incomplete
        };
        let mut routes: Vec<_> = self.routes.iter_mut().filter(of_store).collect();
        // A run that was stopped at its end has left nothing but that.
        let was_begun = walk::stat_at(side.fd.as_fd(), SHOP).is_ok();
        if routes.is_empty() && !was_begun {
            return Ok(());
        }
        let top = side.fd.try_clone().map_err(|error| Problem::new(error.to_string()))?;
        let shop = Shop::open(top.as_fd(), SHOP)?;
        let own = |fd: &OwnedFd| fd.try_clone().map_err(|error| Problem::new(error.to_string()));
        let Some(root) = route::open(self.root.as_fd(), &AbsPath::root(), Mounts::Enter)? else {
            return Ok(());
        };
        // All in one run, so that what is linked stays linked.
        let mut batch = Batch::new(root, own(&top)?)?;
        let mut result = Ok(());
        for (route, seen) in &mut routes {
            let list = goes_by_rsync(route, Some(side)).then_some(&mut batch);
            let ways = (shop.work(), list);
            let brought =
                work::bring(self.root.as_fd(), route, side, (seen, &self.force), ways, &mut |bytes| {
                    progress.add(bytes);
                });
            if let Err(problem) = brought {
                result = Err(problem.at(route.from.to_string()));
                break;
            }
        }
        let before = progress.position();
        let result = result.and_then(|()| batch.copy(shop.work(), &mut |bytes| progress.set(before + bytes)));
        // Also after a failure: what is there is to stay there.
        let synced = syncfs(&top).map_err(failed);
        let closed = shop.close().map_err(failed);
        result.and(synced).and(closed)
    }

    fn verify(&mut self) {
        let read = !self.options.no_verify;
        let total = self.routes.iter().map(|(_, seen)| seen.bytes).sum();
        let progress = Progress::new(if read { total } else { 0 }, "verifying");
        for (route, seen) in &mut self.routes {
            let Some(side) = &self.sides[route.store] else { continue };
            if !matches!(seen.standing, Standing::Complete | Standing::Incomplete) {
                continue;
            }
            let mut add = |bytes| progress.add(bytes);
            match work::verify(self.root.as_fd(), route, side, seen, read, &mut add) {
                Ok(problems) if problems.is_empty() => seen.standing = Standing::Complete,
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

    fn finish(self) -> Result<(Outcome, Vec<Problem>)> {
        let not_named = rest::of(self.manifest, self.root.as_fd())?;
        let stores = self.sides.iter().flatten().zip(&self.free).map(|(side, free)| StoreOutcome {
            path: side.store.path.clone(),
            at: side.at.clone(),
            shared: side.shares == Some(true),
            needed: side.need,
            free: *free,
        });
        let stores = stores.collect();
        let entries = self.routes.iter().map(|(route, seen)| EntryOutcome {
            target: route.from.clone(),
            source: self.manifest.stores[route.store].path.join(&route.to),
            standing: seen.standing,
            files: seen.names,
            bytes: seen.bytes,
            missing: seen.missing,
            missing_bytes: seen.missing_bytes,
            required: route.entry.required,
        });
        let entries = entries.collect();
        let (mut conflicts, mut mounts) = (Vec::new(), Vec::new());
        for (_, seen) in self.routes {
            conflicts.extend(seen.conflicts);
            mounts.extend(seen.mounts);
        }
        let outcome = Outcome {
            version: 1,
            from: self.options.from.to_string_lossy().into_owned(),
            dry_run: self.options.dry_run,
            stores,
            entries,
            conflicts,
            mounts,
            not_named,
            problems: self.problems.iter().map(ToString::to_string).collect(),
        };
        Ok((outcome, self.problems))
    }
}

/// Whether rsync copies the files of a route: trees that have the same path on both sides, where content cannot be shared.
fn goes_by_rsync(route: &Route<'_>, side: Option<&Side<'_>>) -> bool {
    let is_tree = route.entry.kind == Kind::Directory && route.from == route.to;
    is_tree && side.is_some_and(|side| side.shares != Some(true))
}

/// The first problems of many that an entry has.
fn few(mut problems: Vec<Problem>, entry: &AbsPath) -> Vec<Problem> {
    const SHOWN: usize = 20;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        problems.push(Problem::new(format!("the same with {more} more below it")).at(entry.to_string()));
    }
    problems
}

fn explain(conflict: &Conflict) -> Problem {
    let newer = if conflict.store_is_newer { "the store's is newer" } else { "the store's is older" };
    Problem::new(format!("the store has it already, and it differs in {}; {newer}, and stays", conflict.what))
        .at(escape::name(&conflict.path))
        .remedy("compare the two; --force and this path replaces the store's, or move that away")
}
