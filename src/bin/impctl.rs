//! The tool for people and builds.

use std::process::ExitCode;

fn main() -> ExitCode {
    imp_mount::ctl::main()
}
