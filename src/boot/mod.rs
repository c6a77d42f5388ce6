//! imp-mount: the command line, and one function for each of its actions.

pub mod args;
pub mod generator;
pub mod settle;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::check::{self, Findings};
use crate::logging;
use crate::manifest::{Manifest, Phase, wire};
use crate::mount::write_back;
use crate::mount::{self, Request};
use crate::plan::cmdline::KernelArgs;
use crate::plan::{Plan, print};
use crate::runtime::lock::{self, Lock};
use crate::runtime::report::Outcome;
use crate::sys::fstab;
use crate::sys::privilege;
use crate::sys::walk;
use crate::text::escape::{self, Page};
use crate::text::problem::{Problem, Result, describe, describe_io};
use args::{Cli, Verb};
use generator::Generator;

/// A required entry failed, or `--check` found a problem.
const FAILED: u8 = 1;
/// The command could not start: usage, manifest or privilege.
const CANNOT: u8 = 2;

#[expect(clippy::disallowed_methods, reason = "a line, escaped here")]
/// Reads the command line and runs its action: see imp-mount(8) for the exit status.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| Path::new(&name).ends_with(generator::NAME)) {
        return generate();
    }
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.into_string().map_err(|arg| format!("`{}` is no UTF-8 text", escape::path(&arg))));
    let cli = match args.collect::<Result<Vec<_>, _>>().and_then(Cli::parse) {
        Ok(cli) => cli,
        Err(error) => {
            // If standard error is closed as well, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "imp-mount: {}; see imp-mount --help", escape::line(&error));
            return ExitCode::from(CANNOT);
        }
    };
    let changes = matches!(cli.verb, Verb::Mount | Verb::Settle | Verb::Adopt);
    logging::init(logging::Options {
        name: "imp-mount",
        quiet: cli.quiet,
        verbose: cli.verbose,
        system: changes,
    });
    let code = run(&cli).unwrap_or_else(|problem| {
        log::error!("{problem}");
        ExitCode::from(CANNOT)
    });
    // The last log line of a failed unit, which stops the boot.
    if cli.verb == Verb::Mount && code != ExitCode::SUCCESS {
        log::info!("nothing was mounted; run `imp-mount --check` for the state and the next steps");
    }
    code
}

/// The main function of the systemd generator, which gets three output directories as arguments.
fn generate() -> ExitCode {
    logging::init(logging::Options { name: generator::NAME, quiet: false, verbose: false, system: true });
    let generated = || {
        let directories: Vec<_> = std::env::args_os().skip(1).collect();
        let [normal, early, _] = directories.as_slice() else {
            return Err(Problem::new("systemd(1) starts it, with three directories"));
        };
        if !walk::exists(args::MANIFEST) {
            return Ok(());
        }
        let cli = Cli::default();
        Generator {
            manifest: &read(args::MANIFEST)?,
            words: &words(&cli),
            in_initrd: check::in_initrd(),
            fstab: &fstab::all(),
            normal: Path::new(normal),
            early: Path::new(early),
        }
        .run()
    };
    match generated() {
        Ok(()) => ExitCode::SUCCESS,
        // The next run reports the error as well, and stops the boot.
        Err(problem) => {
            log::error!("{problem}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let name = match cli.verb {
        Verb::Help => return print(&Page::made(args::HELP)),
        Verb::Version => return print(&Page::made(concat!("imp-mount ", env!("CARGO_PKG_VERSION"), "\n"))),
        Verb::Check | Verb::Plan => return look(cli),
        Verb::Mount => "imp-mount",
        Verb::Settle => "imp-mount --settle",
        Verb::Adopt => "imp-mount --adopt",
    };
    privilege::require_mount()?;
    privilege::drop_to_needed()?;
    // The lock comes before any read of data changed by other processes.
    let lock = lock::take(name)?;
    change(cli, &lock)
}

/// Values of the command line and of its files.
struct Asked<'c> {
    words: KernelArgs,
    sysroot: &'c str,
    last_phase: Phase,
    manifest: Result<Manifest>,
}

impl<'c> Asked<'c> {
    fn of(cli: &'c Cli) -> Self {
        let sysroot = cli.sysroot.as_deref().unwrap_or(if check::in_initrd() { "/sysroot" } else { "/" });
        let last_phase = cli.phase.unwrap_or(if sysroot == "/" { Phase::Live } else { Phase::Etc });
        let manifest = read(cli.manifest.as_deref().unwrap_or(args::MANIFEST));
        Self { words: words(cli), sysroot, last_phase, manifest }
    }
}

/// Actions without changes: `--check` and `--plan`.
fn look(cli: &Cli) -> Result<ExitCode> {
    let Asked { words, sysroot, last_phase, manifest } = Asked::of(cli);
    let manifest = match manifest {
        Err(problem) if cli.verb == Verb::Check => {
            findings(cli, &check::without_manifest(&problem, sysroot))?;
            return Ok(ExitCode::from(CANNOT));
        }
        manifest => manifest?,
    };
    let plan = Plan::new(&manifest, &words, last_phase);
    if cli.verb == Verb::Check {
        let found = check::check(&plan, sysroot);
        findings(cli, &found)?;
        return Ok(ExitCode::from(if found.problems == 0 { 0 } else { FAILED }));
    }
    for idle in &plan.idle {
        log::warn!("{idle}");
    }
    if cli.json {
        return print(&json(&print::lines(&plan))?);
    }
    print(&print::text(&plan))
}

/// Actions with changes.
fn change(cli: &Cli, lock: &Lock) -> Result<ExitCode> {
    let Asked { words, sysroot, last_phase, manifest } = Asked::of(cli);
    if cli.verb == Verb::Mount {
        if words.check
            && let Ok(manifest) = &manifest
        {
            let found = check::check(&Plan::new(manifest, &words, last_phase), sysroot);
            let page = check::print::text(&found, false);
            page.as_str().lines().filter(|line| !line.is_empty()).for_each(|line| log::info!("{line}"));
        }
        let failed = if manifest.is_ok() { FAILED } else { CANNOT };
        let request = Request { words: &words, sysroot, last_phase, guard: cli.guard, lock };
        let outcome = mount::run(manifest, &request);
        return Ok(ExitCode::from(if outcome == Outcome::Failed { failed } else { 0 }));
    }
    let manifest = manifest?;
    let done = if cli.verb == Verb::Settle {
        settle::run(&manifest, sysroot, lock)?
    } else {
        let problems = write_back::run(&Plan::new(&manifest, &words, last_phase), sysroot, lock)?;
        for problem in &problems {
            log::error!("{problem}");
        }
        problems.is_empty()
    };
    Ok(ExitCode::from(if done { 0 } else { FAILED }))
}

#[expect(clippy::disallowed_methods, reason = "nothing is written")]
fn findings(cli: &Cli, findings: &Findings) -> Result<ExitCode> {
    if cli.json {
        return print(&json(findings)?);
    }
    let page = check::print::text(findings, cli.quiet);
    // A console has so many columns; a pipe gets each line whole.
    print(&if std::io::stdout().is_terminal() { page.wrapped(80, check::print::COLUMN) } else { page })
}

/// Standard output may be a closed pipe.
#[expect(clippy::disallowed_methods, reason = "a page")]
fn print(page: &Page) -> Result<ExitCode> {
    match std::io::stdout().lock().write_all(page.as_str().as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Problem::new(format!("cannot write the output: {}", describe_io(&error))))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn json(value: &impl serde::Serialize) -> Result<Page> {
    escape::json_line(value).map_err(|error| Problem::new(error.to_string()))
}

/// Arguments of imp-mount on the kernel command line. A boot goes on without them if they cannot be read.
fn words(cli: &Cli) -> KernelArgs {
    let path = cli.cmdline.as_deref().unwrap_or("/proc/cmdline");
    match walk::content_at(path, u64::MAX) {
        Ok(text) => KernelArgs::parse(&String::from_utf8_lossy(&text)),
        Err(errno) => {
            log::warn!(
                "cannot read the kernel command line from {}: {}; imp-mount's arguments on it are ignored",
                escape::name(path),
                describe(errno)
            );
            KernelArgs::default()
        }
    }
}

fn read(path: &str) -> Result<Manifest> {
    let at = format!("manifest {}", escape::name(path));
    let bytes = walk::content_at(path, wire::LIMIT + 1).map_err(|errno| {
        Problem::new(format!("cannot read it: {}", describe(errno))).at(at.as_str()).remedy(
            "name another with --manifest; on NixOS the initrd of an earlier generation has one, in the boot menu",
        )
    })?;
    wire::decode(&bytes).map_err(|problem| problem.at(at))
}
