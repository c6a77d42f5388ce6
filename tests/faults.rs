//! Faults at every system call of every kind of run: a kill, an error, a call missing in the kernel.

mod scenario;
mod state;

use std::fmt::Write as _;

use nix::errno::Errno;
use serde_json::Value;

use crate::support::look::stat;
use crate::support::{Call, Injected, Output};
use scenario::Scenario;
use state::{State, differences};

tests![
    the_runs_have_the_expected_calls: Disk Inject,
    killed_at_first_boot: Disk Inject,
    killed_with_the_root_on_a_store: Disk Inject,
    killed_with_the_root_on_a_store_on_an_older_kernel: Disk Inject,
    killed_with_the_root_on_a_store_on_an_old_kernel: Disk Inject,
    killed_while_converting_with_the_root_on_a_store: Disk Inject,
    killed_while_converting_with_the_root_on_a_store_on_an_older_kernel: Disk Inject,
    killed_while_converting_with_the_root_on_a_store_on_an_old_kernel: Disk Inject,
    killed_on_a_ready_root: Disk Inject,
    killed_while_converting: Disk Inject,
    killed_on_a_running_system: Disk Inject,
    killed_while_adopting: Disk Inject,
    killed_while_settling: Disk Inject,
    killed_on_an_older_kernel: Disk Inject,
    killed_on_an_older_kernel_while_converting: Disk Inject,
    killed_on_an_old_kernel: Disk Inject,
    killed_on_an_old_kernel_while_converting: Disk Inject,
    errors_at_first_boot: Disk Inject,
    errors_with_the_root_on_a_store: Disk Inject,
    errors_while_converting_with_the_root_on_a_store: Disk Inject,
    errors_on_an_older_kernel: Disk Inject,
    errors_on_an_older_kernel_while_converting: Disk Inject,
    errors_on_an_old_kernel: Disk Inject,
    errors_on_a_ready_root: Disk Inject,
    errors_while_converting: Disk Inject,
    errors_on_a_running_system: Disk Inject,
    errors_while_adopting: Disk Inject,
    errors_while_settling: Disk Inject,
    older_kernels_at_first_boot: Disk Inject,
    older_kernels_with_the_root_on_a_store: Disk Inject,
    older_kernels_while_converting_with_the_root_on_a_store: Disk Inject,
    older_kernels_on_a_ready_root: Disk Inject,
    older_kernels_while_converting: Disk Inject,
    older_kernels_on_a_running_system: Disk Inject,
    older_kernels_while_adopting: Disk Inject,
    older_kernels_while_settling: Disk Inject,
];

/// Share of the failing calls: every call in `tests/run --full`, and each with every error if time allows; a sample in a
/// developer's own runs. The variable `IMP_MOUNT_TEST_FAULTS` is `each`, `all` or nothing.
#[derive(PartialEq, Eq)]
pub enum Depth {
    Sample,
    Each,
    All,
}

impl Depth {
    pub fn asked() -> Self {
        match std::env::var("IMP_MOUNT_TEST_FAULTS").as_deref() {
            Ok("all") => Self::All,
            Ok("each") => Self::Each,
            Ok(other) => panic!("IMP_MOUNT_TEST_FAULTS={other}: it is `each` or `all`"),
            Err(_) => Self::Sample,
        }
    }

    /// True if the call of this number is taken: in a sample one of 17, which meets each error, as there are four.
    pub fn takes(&self, number: usize) -> bool {
        *self != Self::Sample || number.is_multiple_of(17)
    }
}

/// The run without a fault: its result, and its system calls.
fn reference(scenario: &Scenario) -> (State, Vec<Call>) {
    scenario.reset();
    let (output, calls) = scenario.run(&[]);
    output.ok();
    (scenario.state(), calls)
}

/// Collects findings, so that one run of a test shows all of them.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, is: bool, what: impl FnOnce() -> String) {
        if is {
            self.0.push(what());
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} times:\n\n{}", self.0.len(), self.0.join("\n\n"));
        }
    }
}

fn the_runs_have_the_expected_calls() {
    let word = |state: &State, target: &str| {
        let entries = state.report["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["target"] == target);
        entry.map_or(Value::Null, |entry| entry["state"].clone())
    };
    let scenario = Scenario::first_boot();
    let (state, calls) = reference(&scenario);
    for (target, expected) in [
        ("/var/lib/plex", "mounted"),
        ("/home/a/data", "mounted"),
        ("/srv/sym", "linked"),
        ("/opt/skipped", "skipped"),
        ("/etc/machine-id", "mounted"),
        ("/etc/linked", "linked"),
        ("/etc/copied", "copied"),
        ("/etc/guarded", "guarded"),
    ] {
        assert_eq!(word(&state, target), expected, "{target}");
    }
    assert_eq!(state.report["pending"].as_array().unwrap().len(), 2);
    assert!(calls.len() > 100, "{calls:?}");
    // Nothing mounted on an entry may be on its store, or on the disk.
    for line in &state.mounts {
        let place = line.split(' ').next().unwrap();
        assert!(!place.contains("/persist/") && !place.starts_with("/tmp/disk/one/"), "{line}");
    }
    // Everybody's umask is off while a root is built.
    for folder in ["/run/imp-mount", "/run/imp-mount/guard", "/run/mount"] {
        assert_eq!(stat(folder), (0o040_755, 0, 0), "{folder}");
    }
}

fn kill(scenario: &Scenario) {
    let (expected, calls) = reference(scenario);
    let mut wrong = Wrong::default();
    let depth = Depth::asked();
    for (_, call) in calls.iter().enumerate().filter(|(number, _)| depth.takes(*number)) {
        scenario.reset();
        let (killed, _) = scenario.run(&[Injected::kill(call)]);
        assert_eq!(killed.signal, Some(9), "{call:?}: {killed:?}");
        let output = scenario.run_again();
        let found = scenario.state().differences(&expected);
        wrong.note(output.code != Some(0) || !found.is_empty(), || {
            format!("{}: killed at {call:?}, then: {found}{output:?}", scenario.name)
        });
    }
}

/// Calls that change mounts and mount points.
const MOUNTS: &[&str] = &["fsmount", "mount", "mount_setattr", "move_mount", "open_tree", "rmdir", "umount2"];

fn mounts(call: &Call) -> bool {
    call.name.is_any(MOUNTS)
}

/// The same on an older kernel with other calls, before and after each mount call.
fn kill_on_older(scenario: &Scenario, older: &[Injected]) {
    let (expected, _) = reference(scenario);
    scenario.reset();
    let (output, calls) = scenario.run(older);
    output.ok();
    let mut wrong = Wrong::default();
    let depth = Depth::asked();
    let near = |at: &usize| calls[at.saturating_sub(1)..=*at].iter().any(mounts);
    let near = (0..calls.len()).filter(near).enumerate();
    for call in near.filter(|(number, _)| depth.takes(*number)).map(|(_, at)| &calls[at]) {
        scenario.reset();
        let (killed, _) = scenario.run(&[&[Injected::kill(call)], older].concat());
        assert_eq!(killed.signal, Some(9), "{call:?}: {killed:?}");
        let (output, _) = scenario.run(older);
        let found = scenario.state().differences(&expected);
        wrong.note(output.code != Some(0) || !found.is_empty(), || {
            format!("{}: killed at {call:?}, then: {found}{output:?}", scenario.name)
        });
    }
}

/// Calls that cannot fail, and those for memory, without which the program cannot continue.
const SAFE: &[&str] = &[
    "getrandom",
    "brk",
    "exit_group",
    "geteuid",
    "getpid",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "umask",
];

const ERRORS: [Errno; 4] = [Errno::EIO, Errno::ENOSPC, Errno::EPERM, Errno::EMFILE];

/// Calls for which EPERM is an answer: there are no such attributes in a user namespace, and std goes another way to copy.
const PERMITTED: &[&str] = &["fremovexattr", "fsetxattr", "sendfile", "splice"];

fn fail(scenario: &Scenario) {
    fail_on_older(scenario, &[], &|call| !call.name.is_any(SAFE));
}

/// The same on an older kernel, at the calls selected by `which`.
fn fail_on_older(scenario: &Scenario, older: &[Injected], which: &dyn Fn(&Call) -> bool) {
    scenario.reset();
    let before = scenario.state();
    let (expected, _) = reference(scenario);
    scenario.reset();
    let (usual, calls) = scenario.run(older);
    let mut wrong = Wrong::default();
    let depth = Depth::asked();
    for (number, call) in calls.iter().filter(|call| which(call)).enumerate() {
        let each = |at: usize| depth == Depth::All || (depth.takes(number) && at == number % ERRORS.len());
        for (_, errno) in ERRORS.into_iter().enumerate().filter(|(at, _)| each(*at)) {
            if errno == Errno::EPERM && call.name.is_any(PERMITTED) {
                continue;
            }
            scenario.reset();
            let (output, _) = scenario.run(&[&[Injected::error(errno, call)], older].concat());
            let after = scenario.state();
            let mut found = judge((&output, &usual), &before, &after, &expected);
            let again = if older.is_empty() { scenario.run_again() } else { scenario.run(older).0 };
            let differs = scenario.state().differences(&expected);
            // Without the report --adopt replaces no file, and keeps the root's version beside the store's: only these files stay.
            let unread = output.stderr.contains("report.json: cannot read it")
                && output.stderr.contains("both are kept")
                && differs.lines().all(|line| line.contains(".imp-mount-conflict: "));
            let differs = if unread { String::new() } else { differs };
            // A run without the kernel command line keeps its effects.
            let wordless = output.stderr.contains("cannot read the kernel command line");
            // Until the next boot.
            let in_memory = output.stderr.contains("the root of this boot is in memory");
            if again.code != Some(0) || !differs.is_empty() && !wordless && !in_memory {
                write!(found, "the next run does not converge: {differs}{again:?}").unwrap();
            }
            wrong.note(!found.is_empty(), || {
                format!("{}: {errno} at {call:?}: {found}{output:?}", scenario.name)
            });
        }
    }
}

/// Faults of a run after an injected error, beside its usual messages.
fn judge((output, usual): (&Output, &Output), before: &State, after: &State, expected: &State) -> String {
    let mut found = String::new();
    match output.code {
        Some(0) => {
            let differs = after.differences(expected);
            let is_news = |line: &str| line.contains("warning: ") && !usual.stderr.contains(line);
            if !differs.is_empty() && !output.stderr.lines().any(is_news) {
                writeln!(found, "done, and nothing is said of: {differs}").unwrap();
            }
        }
        Some(1 | 2) => {
            // A path with a pending owner is a warning, with its reason.
            if !output.stderr.contains("error: ") && !output.stderr.contains("warning: /persist") {
                found += "no word about it\n";
            }
            // The new root is mounted, and invisible until the next run unmounts its cover.
            // Or, before Linux 6.5, the old root is left with the new one at the stage.
            let kept = ["cannot take the old root away", "the old root is kept at"];
            if kept.iter().any(|words| output.stderr.contains(words)) {
                return found;
            }
            let left: Vec<_> =
                after.mounts.iter().filter(|line| !before.mounts.contains(line)).cloned().collect();
            found += &differences("left mounted", &left, &[]);
        }
        _ => found += "a panic\n",
    }
    for ((before, after), expected) in before.disks.iter().zip(&after.disks).zip(&expected.disks) {
        // Losses by the run itself are intended.
        let intended = before.losses(expected);
        // A path with a pending owner may have the owner, and not its mode yet.
        let waits = |loss: &String| loss.contains("trusted.imp-mount.pending");
        for loss in before.losses(after).iter().filter(|loss| !intended.contains(loss) && !waits(loss)) {
            writeln!(found, "lost: {loss}").unwrap();
        }
    }
    found
}

/// The calls added with mounts by descriptors.
const DESCRIPTORS: &[&str] = &["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "mount_setattr"];

fn missing(names: &[&str]) -> Vec<Injected> {
    names.iter().copied().map(Injected::missing).collect()
}

fn older(scenario: &Scenario) {
    let kernels = [
        ("no listmount", missing(&["statmount", "listmount"])),
        ("no openat2", missing(&["openat2"])),
        ("openat2 denied", vec![Injected::denied("openat2")]),
        ("mounts by descriptors denied", DESCRIPTORS.iter().copied().map(Injected::denied).collect()),
        ("no mount_setattr", missing(&["mount_setattr"])),
        ("no fsopen", missing(&["fsopen"])),
        ("no fchmodat2", missing(&["fchmodat2"])),
        ("no mounts by descriptors", missing(DESCRIPTORS)),
        (
            "nothing new",
            missing(&[DESCRIPTORS, &["openat2", "statmount", "listmount", "fchmodat2"]].concat()),
        ),
        ("no detached assembly", vec![Injected::NoDetachedAssembly]),
        ("no mounting beneath", vec![Injected::NoMountBeneath]),
        ("neither", vec![Injected::NoDetachedAssembly, Injected::NoMountBeneath]),
    ];
    let (expected, _) = reference(scenario);
    let mut wrong = Wrong::default();
    for (name, faults) in kernels {
        scenario.reset();
        let (output, _) = scenario.run(&faults);
        let found = scenario.state().differences(&expected);
        wrong.note(output.code != Some(0) || !found.is_empty(), || {
            format!("{}: {name}: {found}{output:?}", scenario.name)
        });
        // And again.
        let (output, _) = scenario.run(&faults);
        let found = scenario.state().differences(&expected);
        wrong.note(output.code != Some(0) || !found.is_empty(), || {
            format!("{}, done again: {name}: {found}{output:?}", scenario.name)
        });
    }
}

fn killed_at_first_boot() {
    kill(&Scenario::first_boot());
}

fn killed_with_the_root_on_a_store() {
    kill(&Scenario::on_store());
}

fn killed_with_the_root_on_a_store_on_an_older_kernel() {
    kill_on_older(&Scenario::on_store(), &[Injected::NoDetachedAssembly]);
}

fn killed_with_the_root_on_a_store_on_an_old_kernel() {
    kill_on_older(&Scenario::on_store(), &missing(DESCRIPTORS));
}

fn killed_while_converting_with_the_root_on_a_store() {
    kill(&Scenario::convert_on_store());
}

fn killed_while_converting_with_the_root_on_a_store_on_an_older_kernel() {
    kill_on_older(&Scenario::convert_on_store(), &[Injected::NoDetachedAssembly, Injected::NoMountBeneath]);
}

fn killed_while_converting_with_the_root_on_a_store_on_an_old_kernel() {
    kill_on_older(&Scenario::convert_on_store(), &missing(DESCRIPTORS));
}

fn errors_with_the_root_on_a_store() {
    fail(&Scenario::on_store());
}

fn errors_while_converting_with_the_root_on_a_store() {
    fail(&Scenario::convert_on_store());
}

fn older_kernels_with_the_root_on_a_store() {
    older(&Scenario::on_store());
}

fn older_kernels_while_converting_with_the_root_on_a_store() {
    older(&Scenario::convert_on_store());
}

fn killed_on_a_ready_root() {
    kill(&Scenario::ready_root());
}

fn killed_while_converting() {
    kill(&Scenario::convert());
}

fn killed_on_a_running_system() {
    kill(&Scenario::live());
}

fn killed_while_adopting() {
    kill(&Scenario::adopt());
}

fn killed_while_settling() {
    kill(&Scenario::settle());
}

fn killed_on_an_older_kernel() {
    kill_on_older(&Scenario::first_boot(), &[Injected::NoDetachedAssembly]);
}

fn killed_on_an_older_kernel_while_converting() {
    kill_on_older(&Scenario::convert(), &[Injected::NoDetachedAssembly, Injected::NoMountBeneath]);
}

fn killed_on_an_old_kernel() {
    kill_on_older(&Scenario::first_boot(), &missing(DESCRIPTORS));
}

fn killed_on_an_old_kernel_while_converting() {
    kill_on_older(&Scenario::convert(), &missing(DESCRIPTORS));
}

fn errors_at_first_boot() {
    fail(&Scenario::first_boot());
}

fn errors_on_an_older_kernel() {
    fail_on_older(&Scenario::first_boot(), &[Injected::NoDetachedAssembly], &mounts);
}

fn errors_on_an_older_kernel_while_converting() {
    fail_on_older(&Scenario::convert(), &[Injected::NoDetachedAssembly, Injected::NoMountBeneath], &mounts);
}

fn errors_on_an_old_kernel() {
    fail_on_older(&Scenario::ready_root(), &missing(DESCRIPTORS), &mounts);
}

fn errors_on_a_ready_root() {
    fail(&Scenario::ready_root());
}

fn errors_while_converting() {
    fail(&Scenario::convert());
}

fn errors_on_a_running_system() {
    fail(&Scenario::live());
}

fn errors_while_adopting() {
    fail(&Scenario::adopt());
}

fn errors_while_settling() {
    fail(&Scenario::settle());
}

fn older_kernels_at_first_boot() {
    older(&Scenario::first_boot());
}

fn older_kernels_on_a_ready_root() {
    older(&Scenario::ready_root());
}

fn older_kernels_while_converting() {
    older(&Scenario::convert());
}

fn older_kernels_on_a_running_system() {
    older(&Scenario::live());
}

fn older_kernels_while_adopting() {
    older(&Scenario::adopt());
}

fn older_kernels_while_settling() {
    older(&Scenario::settle());
}
