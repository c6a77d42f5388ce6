//! impctl: commands for people and builds, outside the boot.

pub mod adopt;
mod audit;
mod built;
mod completions;
pub mod known;
mod line;
mod lost;
mod man;
mod manifest;
pub mod migrate;
mod orphans;
mod recover;
mod review;
mod roots;
mod scan;
#[cfg(test)]
mod schemas;
mod status;
mod system;
pub mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::ui::output::Failure;
use self::ui::terminal;
use crate::text::escape;

/// Manage the persistent paths of a system with a tmpfs root
///
/// Finds paths removed by the next boot, copies them to a store, and checks the manifest of the boot. The mounting at
/// boot is done by imp-mount.
#[derive(Debug, Parser)]
#[command(name = "impctl", version, after_long_help = MORE)]
#[command(max_term_width = terminal::width().map_or(100, |width| width.min(100)))]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// The man pages have these sections too: see man.rs.
const MORE: &str = "\
Examples:
  # What would this system lose?
  impctl lost
  # Keep it, at once and for good
  impctl adopt /var/lib/netdata
  # More about a command
  impctl help adopt

Environment:
  NO_COLOR        where it is not empty, nothing has a colour
  CLICOLOR_FORCE  where it is not 0, colours go to pipes and files too
  TERM            a terminal that is dumb gets neither colours nor a line that shows how far a work is
  COLUMNS         how wide the terminal is taken to be

Files:
  /etc/imp-mount/manifest  the compiled manifest
  /run/imp-mount           what runs and commands leave for later ones, until the next boot

Exit status: 0 done; 1 what was asked for cannot be, or what was looked for is there; 2 it could not run (usage, files, privilege)";

#[derive(Debug, Subcommand)]
enum Command {
    Compile(manifest::Compile),
    Show(manifest::Show),
    Status(status::Options),
    Lost(lost::Options),
    Review(review::Options),
    Orphans(orphans::Options),
    Roots(roots::Options),
    Audit(audit::Options),
    Adopt(adopt::Adopt),
    Migrate(migrate::Migrate),
    Recover(recover::Recover),
    Completions(completions::Options),
    Man(man::Options),
}

/// Parses the command line. Error messages show escaped arguments: a file name from a pattern of a shell must not send
/// control characters to the terminal.
fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let shown = std::env::args_os().map(|argument| escape::path(&argument).into_owned());
        let told = Cli::try_parse_from(shown).err().filter(|_| error.use_stderr());
        told.unwrap_or(error).exit()
    })
}

/// Parses the command line and runs the command. Exit status: 0 after success, 1 for a refused manifest or for
/// findings, 2 if the command could not run.
#[must_use]
pub fn main() -> ExitCode {
    let result = match parse().command {
        Command::Compile(options) => manifest::compile(&options),
        Command::Show(options) => manifest::show(&options),
        Command::Status(options) => status::run(&options),
        Command::Lost(options) => lost::run(&options),
        Command::Review(options) => review::run(&options),
        Command::Orphans(options) => orphans::run(&options),
        Command::Roots(options) => roots::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Adopt(options) => adopt::run(&options),
        Command::Migrate(options) => migrate::run(&options),
        Command::Recover(options) => recover::run(&options),
        Command::Completions(options) => completions::run(&options),
        Command::Man(options) => man::run(&options),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// The list of commands and the names of manual pages have one sentence of each.
    #[test]
    fn each_command_has_a_summary() {
        for command in std::iter::once(&Cli::command()).chain(Cli::command().get_subcommands()) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let is_short =
                (10..=110).contains(&about.len()) && !about.contains(". ") && !about.contains('\n');
            assert!(is_short, "{}: {about}", command.get_name());
            if let Some(long) = command.get_long_about().map(ToString::to_string) {
                assert!(long.starts_with(&format!("{about}\n\n")), "{}: {long}", command.get_name());
            }
        }
    }
}
