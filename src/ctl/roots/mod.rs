//! `impctl roots`: roots of earlier boots: the list, the removal of due ones, and the saving of the running one.

mod bare;
mod budget;
mod copy;
mod earlier;
pub mod old;
mod print;
mod prune;
pub mod record;
mod removal;
mod save;
mod survey;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal;
use crate::logging;
use crate::manifest::Manifest;
use crate::text::problem::Problem;

/// List the roots of earlier boots on the stores, remove due ones, or save the running one
///
/// A root on a store stays there when its boot has ended. Of a root in memory, a shutdown saves what `impctl lost` names, where the
/// manifest has `old_roots`. Both lie in .imp-mount/roots/NUMBER/root on the store, which only root can enter.
///
/// Without a command they are listed, with the age of each (MADE), how its boot ended (ENDED), and what it is (KIND): `disk` is the root
/// itself, which was on a store, and `saved` a copy of a root in memory. SYSTEM is the system of NixOS that was booted, by `init=` on the
/// kernel command line, and `-` elsewhere. Sizes are those that were found when a boot ended, and nothing is read for them.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, after_long_help = MORE)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

const MORE: &str = "\
Examples:
  # Which are there?
  impctl roots
  # Which would be removed now, and why?
  impctl roots prune --dry-run
  # The size of each
  impctl roots --json | jq '.stores[].roots[] | {number, bytes}'

Files:
  /etc/imp-mount/manifest           stores, and limits of the old roots
  STORE/.imp-mount/roots/N/root     the tree of a root
  STORE/.imp-mount/roots/N/*.json   records of the start and the end of its boot

Exit status: 0 done; 1 something could not be looked at; 2 it could not run";

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Prune(Prune),
    Save(Save),
}

/// List the old roots
///
/// Sizes are those that were found when a boot ended. Of a boot cut off, the next `impctl roots prune` finds them.
#[derive(Debug, Args)]
pub struct List {}

/// Remove old roots beyond the limits
///
/// Those beyond the number, the age and the size that the manifest allows go, the oldest first; the newest stays whatever its size.
/// Without `old_roots` in the manifest all go. One whose boot was cut off before there was a file on it goes, too, and takes the place of no
/// other. The running root never does, and nothing mounted below an old one is touched.
///
/// A run can be stopped at any time: the next one goes on. With the lowest priority (`nice -n 19`, as in imp-mount-prune.service) it
/// pauses four times as long as it works. Of a boot cut off, it looks through the root once and records its size.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Which would be removed, and why?
  impctl roots prune --dry-run
  # Remove them without slowing others down
  systemd-run -p IOSchedulingClass=idle -p Nice=19 impctl roots prune

Exit status: 0 done; 1 one could not be removed; 2 it could not run")]
pub struct Prune {
    /// Only print the roots to remove
    #[arg(long)]
    dry_run: bool,
}

/// Save what this system would lose, or record the end of its boot
///
/// A unit does it at shutdown when services have stopped. Of a root in memory, what `impctl lost` names is copied to the store, with
/// everything that the files have; a later saving of the same boot takes the place of an earlier one once it is complete, unless it left
/// out something that the earlier one has: then both stay. A root on a store is there already: at shutdown the end of its boot is recorded,
/// with the sizes and what was on it. Without that record the boot counts as cut off.
///
/// The manifest's `old_roots` bounds it in size and in time, and a part of the store stays free. The largest files are left out first,
/// and listed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Save it now
  impctl roots save
  # What was left out?
  impctl roots --json | jq '.stores[].roots[-1].left_out'

Exit status: 0 done; 1 it could not be saved; 2 it could not run")]
pub struct Save {
    /// Record that the boot ends, for the unit that does so once services have stopped
    #[arg(long)]
    shutdown: bool,
}

/// The system whose old roots are meant.
#[derive(Debug, Args)]
pub struct Place {
    /// The root of the system, which its stores are mounted below
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    root: PathBuf,
    /// The manifest, compiled or as JSON [default: /etc/imp-mount/manifest in the root]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    manifest: Option<PathBuf>,
}

impl Place {
    /// Opens the system, and reads its manifest.
    pub fn open(&self) -> Result<(System, Manifest), Failure> {
        let system = System::open(&self.root)?;
        let manifest = system.manifest(self.manifest.as_deref())?.ok_or_else(|| {
            let problem = Problem::new("there is no manifest, so there are no stores")
                .at(crate::boot::args::MANIFEST)
                .remedy("name one with --manifest");
            Failure::Unable(problem)
        })?;
        Ok((system, manifest))
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<(), Failure> {
    logging::init(logging::Options { name: "impctl", quiet: false, verbose: false, system: false });
    let (system, manifest) = options.place.open()?;
    match &options.command {
        None | Some(Command::List(List {})) => list(&system, &manifest, options.json),
        Some(Command::Save(Save { shutdown })) => save::run(&system, &manifest, *shutdown, options.json),
        Some(Command::Prune(Prune { dry_run })) => prune::run(&system, &manifest, *dry_run, options.json),
    }
}

fn list(system: &System, manifest: &Manifest, json: bool) -> Result<(), Failure> {
    let (found, problems) = old::find(system, manifest);
    if json {
        output::print(&print::json(system, &found, &problems)?)?;
        return if problems.is_empty() { Ok(()) } else { Err(Failure::Found) };
    }
    terminal::print(&print::text(&found, problems.is_empty(), terminal::width()))?;
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems)) }
}

/// Roots of earlier boots on the stores: the list, a removal, or a saving. Sizes are in bytes, times in seconds since 1970; paths are
/// those of the booted system.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum Document<'a> {
    /// The list.
    List(print::Document<'a>),
    /// A removal.
    Prune(prune::Outcome),
    /// A saving.
    Save(save::Outcome),
}
