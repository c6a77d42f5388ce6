//! Real mounts on real file systems, each test in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]
#![allow(clippy::needless_pass_by_value, reason = "a manifest is written down where it is used")]

#[macro_use]
mod support;

mod again;
mod attacks;
mod boot;
mod broken;
mod check;
mod convert;
mod crashes;
mod ctl_adopt;
mod ctl_adopt_covered;
mod ctl_adopt_faults;
mod ctl_lost;
mod ctl_lost_page;
mod ctl_migrate;
mod ctl_orphans;
mod ctl_recover;
mod ctl_review;
mod ctl_roots;
mod ctl_status;
mod ctl_terminals;
mod emergency;
mod failures;
mod faults;
mod files;
mod fresh;
mod guards;
mod harness;
mod judged;
mod limits;
mod live;
mod locks;
mod names;
mod own_disks;
mod owners;
mod patterns;
mod plan;
mod races;
mod refused;
mod reports;
mod roots;
mod scripts;
mod stores;
mod transfer;
mod words;
mod write_back;

use std::process::ExitCode;

/// Time limit of a test, in seconds.
const PATIENCE: u32 = 120;

fn main() -> ExitCode {
    let modules = [
        ("again", again::TESTS),
        ("attacks", attacks::TESTS),
        ("boot", boot::TESTS),
        ("broken", broken::TESTS),
        ("check", check::TESTS),
        ("convert", convert::TESTS),
        ("crashes", crashes::TESTS),
        ("ctl_lost", ctl_lost::TESTS),
        ("ctl_lost_page", ctl_lost_page::TESTS),
        ("ctl_orphans", ctl_orphans::TESTS),
        ("ctl_recover", ctl_recover::TESTS),
        ("ctl_review", ctl_review::TESTS),
        ("ctl_roots", ctl_roots::TESTS),
        ("ctl_status", ctl_status::TESTS),
        ("ctl_adopt", ctl_adopt::TESTS),
        ("ctl_adopt_covered", ctl_adopt_covered::TESTS),
        ("ctl_adopt_faults", ctl_adopt_faults::TESTS),
        ("ctl_migrate", ctl_migrate::TESTS),
        ("ctl_terminals", ctl_terminals::TESTS),
        ("emergency", emergency::TESTS),
        ("failures", failures::TESTS),
        ("faults", faults::TESTS),
        ("files", files::TESTS),
        ("fresh", fresh::TESTS),
        ("harness", harness::TESTS),
        ("guards", guards::TESTS),
        ("judged", judged::TESTS),
        ("limits", limits::TESTS),
        ("live", live::TESTS),
        ("locks", locks::TESTS),
        ("names", names::TESTS),
        ("own_disks", own_disks::TESTS),
        ("owners", owners::TESTS),
        ("patterns", patterns::TESTS),
        ("plan", plan::TESTS),
        ("races", races::TESTS),
        ("refused", refused::TESTS),
        ("reports", reports::TESTS),
        ("roots", roots::TESTS),
        ("scripts", scripts::TESTS),
        ("stores", stores::TESTS),
        ("transfer", transfer::TESTS),
        ("words", words::TESTS),
        ("write_back", write_back::TESTS),
    ];
    support::main(&modules, PATIENCE)
}
