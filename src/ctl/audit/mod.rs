//! `impctl audit`: the paths of a built system lost at a boot. The system need not have been booted.

mod faults;
mod judge;
mod kept;
mod print;
mod script;

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::built::{NIX_STORE, Place};
use super::known::known;
use super::lost::throw_away;
use super::scan::rules::Rules;
use super::system::System;
use crate::boot::args::MANIFEST;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal;
#[cfg(test)]
pub use print::Document;

/// List paths of a built system that a boot would lose
///
/// Reads the files of the system: units with their drop-ins, commands and configuration of units, tmpfiles.d,
/// sysusers.d, users and their homes, SSH host keys, crypttab, secrets of the initrd, logrotate, cron and PAM, and the
/// table of known paths. Compares them with the manifest and the file systems of fstab and mount units. Changes no
/// file, and runs no program.
///
/// The root is an installed system, or one built by Nix: its toplevel, or its etc. After the system has run, `impctl
/// lost` lists the paths actually there.
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub struct Options {
    /// The root of the system, or the toplevel of a NixOS
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    root: PathBuf,
    /// The manifest, compiled or as JSON [default: etc/imp-mount/manifest below ROOT, if present]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    manifest: Option<PathBuf>,
    /// List all paths, including the classes history and comfort
    #[arg(long)]
    all: bool,
    /// A further disposable path or name, or a pattern of them; with `!` in front, one to keep
    #[arg(long, value_name = "PATTERN", value_hint = ValueHint::AnyPath)]
    throw_away: Vec<String>,
    /// A file of such patterns, one a line [default: etc/imp-mount/throw-away below ROOT, if present]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    throw_away_from: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const MORE: &str = "\
Examples:
  # What would this system lose with a root that is empty at every boot?
  impctl audit
  # What would a NixOS lose that is built, and not yet switched to?
  nixos-rebuild build && impctl audit --root ./result
  # The paths alone
  impctl audit --json | jq -r '.lost[].path'

Files:
  /etc/imp-mount/manifest    what persists
  /etc/imp-mount/throw-away  what may be lost besides, a pattern a line

Exit status: 0 nothing would be lost; 1 something would, or cannot work; 2 it could not run";

/// Searches, and prints the result.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (system, prefix) = open(&options.root)?;
    let file = prefix.clone() + MANIFEST;
    let manifest = match &options.manifest {
        None if !prefix.is_empty() => system.manifest_at(&file)?,
        named => system.manifest(named.as_deref())?,
    };
    let mut rules = Rules::default();
    throw_away::own(&mut rules, &options.throw_away, options.throw_away_from.as_deref(), &system, &prefix)?;
    let is_let_go = |path: &str| rules.is_throw_away(path);
    let built = Place::new(&system, prefix).read();
    let found = judge::judge(&built, manifest.as_ref(), known(), &is_let_go);
    let store = manifest.as_ref().and_then(|it| it.stores.first()).map_or("/persist", |it| it.path.as_str());
    if options.json {
        output::print(&print::json(&found)?)?;
    } else {
        terminal::print(&print::text(&found, store, built.nixos, options.all))?;
    }
    if found.lost.is_empty() && found.faults.is_empty() { Ok(()) } else { Err(Failure::Found) }
}

/// The root for links of a system, and the prefix of its /etc. A system built by Nix is in a store, and links there
/// start at the root of the store.
fn open(root: &Path) -> Result<(System, String), Failure> {
    let failed = |error: std::io::Error| Failure::io("opening the root", root, &error);
    let place = root.canonicalize().map_err(failed)?;
    let text = place.to_string_lossy();
    match text.find(NIX_STORE) {
        Some(at) => {
            let base = if at == 0 { "/" } else { &text[..at] };
            Ok((System::open(Path::new(base))?, text[at..].trim_end_matches('/').to_owned()))
        }
        None => Ok((System::open(&place)?, String::new())),
    }
}
