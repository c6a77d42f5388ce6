//! Real mounts on real file systems, each test in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod support;

mod attacks;
mod boot;
mod convert;
mod files;
mod harness;
mod owners;
mod roots;
mod stores;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::main(&[
        ("attacks", attacks::TESTS),
        ("boot", boot::TESTS),
        ("convert", convert::TESTS),
        ("files", files::TESTS),
        ("harness", harness::TESTS),
        ("owners", owners::TESTS),
        ("roots", roots::TESTS),
        ("stores", stores::TESTS),
    ])
}
