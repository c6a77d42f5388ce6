//! Runs each test in a process of its own, which can unshare before it has threads, and cleans up by its end.
//!
//! The binary starts itself again for every test, with the test's name in the environment. This works the same below
//! `cargo test` (many tests, one process) and `cargo nextest` (a process for each).

use std::env;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Signal, getuid, set_parent_process_death_signal};

use super::{command, namespace, scratch};

/// The test of this process, in a namespace of its own.
const INSIDE: &str = "IMP_MOUNT_TEST";
/// Names no test: whether the kernel lets this user have namespaces at all.
const PROBE: &str = "probe";
/// Makes a skipped test a failure: in CI, on a machine with everything.
const NO_SKIP: &str = "IMP_MOUNT_TEST_NO_SKIP";

/// A test: its name, its needs beyond a namespace, and its function. Made by [`tests!`].
pub struct Test {
    pub name: &'static str,
    pub needs: &'static [Need],
    pub run: fn(),
}

/// Needs of a test beyond a mount namespace. Without them the test is skipped, and named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The real root: owners other than one's own, attributes, devices.
    Root,
    /// Loop devices and mkfs programs; implies the real root.
    Disk,
    /// Faults at system calls, see [`super::inject`].
    Inject,
    /// A request by `--ignored`: the test is slow, and shows or measures.
    Asked,
    /// script(1), which gives a program a terminal.
    Script,
    /// tmux(1), a terminal for tests.
    Tmux,
    /// Chromium, which shows a page.
    Chromium,
}

impl Need {
    /// The missing requirement on this machine; none otherwise.
    fn refused(self) -> Option<String> {
        let tools: &[&str] = match self {
            Self::Root | Self::Disk if !getuid().is_root() => return Some("needs root".into()),
            Self::Disk if !std::fs::exists("/dev/loop-control").unwrap_or(false) => {
                return Some("needs loop devices".into());
            }
            Self::Disk => &["mkfs.ext4", "mkfs.btrfs", "mkfs.xfs", "xfs_io", "losetup"],
            Self::Inject if !cfg!(target_arch = "x86_64") => {
                return Some("injects faults on x86_64 only".into());
            }
            Self::Script => &["script"],
            Self::Tmux => &["tmux"],
            Self::Chromium => &["chromium", "setpriv"],
            Self::Root | Self::Inject | Self::Asked => &[],
        };
        tools.iter().find(|tool| !command::installed(tool)).map(|tool| format!("needs {tool}"))
    }
}

/// Lists a module's tests, each with its needs: `tests![one, other: Disk Inject];`
macro_rules! tests {
    ($($name:ident $(: $($need:ident)+)?),* $(,)?) => {
        pub const TESTS: &[$crate::support::Test] = &[$($crate::support::Test {
            name: stringify!($name),
            needs: &[$($($crate::support::Need::$need),+)?],
            run: $name,
        }),*];
    };
}

/// Runs the tests of all modules by the command line. After the time limit a test and all its children are killed.
pub fn main(modules: &[(&str, &'static [Test])], patience: u32) -> ExitCode {
    let tests = || {
        modules.iter().flat_map(|(module, tests)| {
            tests.iter().map(move |test| (format!("{module}::{}", test.name), test))
        })
    };
    if let Ok(wanted) = env::var(INSIDE) {
        return match tests().find(|(name, _)| *name == wanted) {
            Some((_, test)) if test.needs.contains(&Need::Asked) => inside(test.run, None),
            Some((_, test)) => inside(test.run, Some(patience)),
            None if wanted == PROBE => inside(|| (), Some(patience)),
            None => ExitCode::FAILURE,
        };
    }

    let arguments = Arguments::from_args();
    // nextest starts this for each test: common work is done with the list of names.
    if arguments.list || !arguments.exact {
        scratch::sweep();
    }
    let namespaces = if arguments.list { no_namespaces() } else { None };
    let trials = tests()
        .map(|(name, test)| {
            let refused = if arguments.list { namespaces.clone().or_else(|| test.refused()) } else { None };
            trial(name, test, refused, &arguments)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let asked = tests().filter(|(_, test)| test.needs.contains(&Need::Asked)).count() as u64;
    if conclusion.num_ignored > asked {
        eprintln!("SKIPPED: {} tests could not run here; each line above says why.", conclusion.num_ignored);
    }
    conclusion.exit_code()
}

#[allow(dead_code, reason = "for the demonstration of the boots")]
/// Runs one test on this terminal, without output of the harness on success.
pub fn show(name: &str) -> ExitCode {
    scratch::sweep();
    match outside(name, true) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{name}: {}", failed.message().unwrap_or("failed"));
            ExitCode::FAILURE
        }
    }
}

/// Why no test can run here; none where they can.
fn no_namespaces() -> Option<String> {
    let why = outside(PROBE, false).err()?;
    Some(format!("needs mount namespaces: {}", why.message().unwrap_or_default()))
}

impl Test {
    /// Why the test cannot run here; none otherwise.
    fn refused(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.refused())
    }
}

/// A test for the command line. `refused` is its missing requirement.
fn trial(name: String, test: &'static Test, refused: Option<String>, arguments: &Arguments) -> Trial {
    let strict = env::var_os(NO_SKIP).is_some();
    // nextest never runs ignored tests, and counts a test that skips itself as passed.
    let hidden = refused.is_some() && !strict;
    if let Some(why) = refused.filter(|_| hidden) {
        eprintln!("SKIPPED: {name}: {why}");
    }
    let (title, shown) = (name.clone(), arguments.nocapture);
    Trial::ignorable_test(title, move || {
        let refused = test.refused();
        let failed = if refused.is_some() { None } else { outside(&name, shown).err() };
        // Without namespaces each test fails; a process tries once.
        match (refused.or_else(|| failed.as_ref().and_then(|_| no_namespaces())), failed) {
            (Some(why), _) if strict => Err(why.into()),
            (Some(why), _) => Ok(Completion::ignored_with(why)),
            (None, Some(failed)) => Err(failed),
            (None, None) => Ok(Completion::Completed),
        }
    })
    .with_ignored_flag(hidden || test.needs.contains(&Need::Asked))
}

/// Starts this program again for one test, and returns its output after a failure; or shows the output, and passes the
/// input on.
fn outside(name: &str, shown: bool) -> Result<(), Failed> {
    // Made and removed out here, where the test's mounts are never seen.
    let scratch = scratch::Scratch::new(name)?;
    let mut program = Command::new(env::current_exe()?);
    program.env(INSIDE, name).env(scratch::SCRATCH, scratch.path());
    let mut said = String::new();
    let mut child = if shown {
        program.spawn()?
    } else {
        let (mut words, writer) = io::pipe()?;
        let child = program.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // The child would hold the pipe open.
        drop(program);
        words.read_to_string(&mut said)?;
        child
    };
    let status = child.wait()?;
    match status.signal() {
        _ if status.success() => Ok(()),
        Some(signal) if signal == Signal::ALARM.as_raw() => {
            Err(format!("{said}\nkilled: it took too long").into())
        }
        Some(signal) => Err(format!("{said}\nkilled by signal {signal}").into()),
        None => Err(said.into()),
    }
}

/// True if everything is to be tried, and not a developer's sample.
pub fn is_thorough() -> bool {
    env::var_os("IMP_MOUNT_TEST_FAULTS").is_some()
}

/// The other half of [`outside`].
fn inside(test: fn(), patience: Option<u32>) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if let Some(seconds) = patience {
        nix::unistd::alarm::set(seconds);
    }
    namespace::enter();
    test();
    ExitCode::SUCCESS
}
