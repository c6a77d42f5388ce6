//! The program of the boot: see imp-mount(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    imp_mount::boot::main()
}
