//! Whole boots: a real systemd in an initrd starts the program, switches to the new root, and powers off.
//!
//! `tests/boots/run` prepares the machines and starts the tests; arguments select tests by parts of their names.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]
#![allow(clippy::needless_pass_by_value, reason = "a manifest is written down where it is used")]

#[allow(dead_code, unused_imports, reason = "shared with the tests that boot nothing")]
#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod bench;
mod boot;
mod computer;
mod console;
mod demo;
mod drive;
mod record;
mod units;

mod convert;
mod dracut;
mod files;
mod hibernation;
mod kernels;
mod machines;
mod mishaps;
mod names;
mod nixos;
mod old_roots;
mod roots;
mod running;
mod shutdown;
mod stores;
mod words;

use std::process::ExitCode;

/// Time limit of a test with all its boots, in seconds.
const PATIENCE: u32 = 1200;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--demo") {
        return support::runner::show(demo::NAME);
    }
    let modules = [
        ("bench", bench::TESTS),
        ("demo", demo::TESTS),
        ("convert", convert::TESTS),
        ("dracut", dracut::TESTS),
        ("files", files::TESTS),
        ("hibernation", hibernation::TESTS),
        ("kernels", kernels::TESTS),
        ("machines", machines::TESTS),
        ("mishaps::entries", mishaps::entries::TESTS),
        ("mishaps::manifests", mishaps::manifests::TESTS),
        ("mishaps::power", mishaps::power::TESTS),
        ("mishaps::shell", mishaps::shell::TESTS),
        ("mishaps::stores", mishaps::stores::TESTS),
        ("names", names::TESTS),
        ("nixos", nixos::TESTS),
        ("old_roots", old_roots::TESTS),
        ("roots", roots::TESTS),
        ("running", running::TESTS),
        ("shutdown", shutdown::TESTS),
        ("stores", stores::TESTS),
        ("words", words::TESTS),
    ];
    support::main(&modules, PATIENCE)
}
