//! Command line of impctl: its manual, completions, and error messages. Expectations come from the definition of the command
//! line, so that a new command or option is tested without another line here.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

#[path = "command_line/completions.rs"]
mod completions;
#[path = "command_line/manual.rs"]
mod manual;
#[path = "command_line/usage.rs"]
mod usage;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use imp_mount::ctl::Cli;

const IMPCTL: &str = env!("CARGO_BIN_EXE_impctl");

/// Every visible command of impctl.
fn commands() -> Vec<clap::Command> {
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    let shown: Vec<_> = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    assert!(shown.len() >= 8, "{shown:?}");
    shown
}

/// The long options of a command, with their dashes.
fn options(command: &clap::Command) -> Vec<String> {
    let long = command.get_arguments().filter(|option| !option.is_hide_set()).filter_map(clap::Arg::get_long);
    long.map(|name| format!("--{name}")).collect()
}

fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env_remove("COLUMNS");
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Output of a program, which must have succeeded with an empty stderr.
#[track_caller]
fn ok(program: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// True if a program is installed; otherwise prints that the test is skipped.
fn has(program: &str, test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists()) {
        return true;
    }
    let why = format!("{program} is not installed");
    assert!(std::env::var_os("IMP_MOUNT_TEST_NO_SKIP").is_none(), "{why}");
    // Bypasses the output capture of the test harness.
    writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {why}").unwrap();
    false
}
