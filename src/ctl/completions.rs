//! `impctl completions`: shell completion for both programs.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::boot::args::HELP;
use crate::ctl::ui::output::{self, Failure};
use crate::manifest::Phase;
use crate::text::escape::Page;

/// Print the shell completion of impctl or imp-mount
///
/// A package or a user installs the output in the shell's directory of completions.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # For bash
  mkdir -p ~/.local/share/bash-completion/completions
  impctl completions bash > ~/.local/share/bash-completion/completions/impctl
  # For zsh, in a directory of its fpath
  mkdir -p ~/.zfunc
  impctl completions zsh > ~/.zfunc/_impctl
  # For fish, both programs
  mkdir -p ~/.config/fish/completions
  impctl completions fish > ~/.config/fish/completions/impctl.fish
  impctl completions fish imp-mount > ~/.config/fish/completions/imp-mount.fish

Exit status: 0 done; 2 it could not run")]
pub struct Options {
    /// The shell
    shell: Shell,
    /// The shell whose command line is completed
    #[arg(default_value = "impctl")]
    program: Program,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Program {
    Impctl,
    ImpMount,
}

/// Prints a shell's script.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (mut command, name) = match options.program {
        Program::Impctl => (super::Cli::command(), "impctl"),
        Program::ImpMount => (imp_mount(), "imp-mount"),
    };
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    output::print(&Page::made(String::from_utf8_lossy(&script)))
}

/// The command line of imp-mount, parsed from its `--help`. The parser in the boot binary has no descriptions.
fn imp_mount() -> Command {
    let command = Command::new("imp-mount").disable_help_flag(true).disable_version_flag(true);
    command.args(HELP.lines().filter_map(|line| {
        let line = line.trim_start();
        let (words, help) = line.strip_prefix("imp-mount ").unwrap_or(line).split_once("  ")?;
        words.starts_with('-').then(|| option(words, help.trim()))
    }))
}

/// One option from a line of the help: `-v, --verbose`, or `--phase PHASE`.
fn option(words: &'static str, help: &'static str) -> Arg {
    let mut option = Arg::new(words).help(help).action(ArgAction::SetTrue);
    for word in words.split([' ', ',']) {
        option = if let Some(long) = word.strip_prefix("--") {
            option.long(long)
        } else if let Some(short) = word.strip_prefix('-') {
            option.short(short.chars().next())
        } else {
            match word {
                "FILE" => option.action(ArgAction::Set).value_hint(ValueHint::FilePath),
                "DIR" => option.action(ArgAction::Set).value_hint(ValueHint::DirPath),
                "PHASE" => option.action(ArgAction::Set).value_parser(PossibleValuesParser::new(
                    [Phase::Early, Phase::Boot, Phase::Etc, Phase::Live].map(Phase::name),
                )),
                // `[OPTION]...`, which means all others.
                _ => option,
            }
        };
    }
    option
}
