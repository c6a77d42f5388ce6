//! impctl: everything that a person or a build does, and the boot does not.

pub mod adopt;
mod bring;
mod copy;
mod line;
mod lost;
mod manifest;
pub mod migrate;
mod orphans;
mod output;
mod progress;
mod scan;
mod shop;
mod status;
mod system;
pub mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::Failure;

/// Look after what persists on a system with a tmpfs root.
#[derive(Debug, Parser)]
#[command(name = "impctl", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a manifest, and write the form that the boot reads
    Compile {
        /// The manifest as JSON, `-` for standard input
        input: PathBuf,
        /// Where to write; replaced in one step, and only if nothing is wrong
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print a compiled manifest as JSON, or a manifest in JSON in its normal form
    Show {
        /// The manifest, `-` for standard input
        file: PathBuf,
    },
    Status(status::Options),
    Lost(lost::Options),
    Orphans(orphans::Options),
    /// Persist something now: copy it to a store, mount it from there, and print the line for the configuration
    Adopt(adopt::Adopt),
    /// Bring what the manifest names from a system's root, or a backup of it, to the stores
    Migrate(migrate::Migrate),
}

/// Reads the command line and does what it says. Exits with 0 when it is done, with 1 when the manifest is refused or something
/// was found, and with 2 when it could not run.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compile { input, output } => manifest::compile(&input, &output),
        Command::Show { file } => manifest::show(&file),
        Command::Status(options) => status::run(&options),
        Command::Lost(options) => lost::run(&options),
        Command::Orphans(options) => orphans::run(&options),
        Command::Adopt(options) => adopt::run(&options),
        Command::Migrate(options) => migrate::run(&options),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
