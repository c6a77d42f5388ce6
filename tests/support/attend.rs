//! A program stopped before each system call that uses a name.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Output;
use super::inject::{Entry, Injected, LAST, Name, Verdict, registers, see};

/// The calls stopped at, and which of their arguments are paths.
const PATHS: &[(&[&str], &[usize])] = &[
    (&["renameat", "renameat2", "linkat", "move_mount"], &[1, 3]),
    (&["mount", "rename"], &[0, 1]),
    (&["symlinkat"], &[2]),
    (
        &[
            "fchmodat2",
            "fchownat",
            "mkdirat",
            "mknodat",
            "newfstatat",
            "open_tree",
            "openat",
            "openat2",
            "readlinkat",
            "statx",
            "unlinkat",
            "utimensat",
        ],
        &[1],
    ),
    (
        &[
            "chmod",
            "getxattr",
            "lgetxattr",
            "listxattr",
            "llistxattr",
            "lsetxattr",
            "mkdir",
            "readlink",
            "removexattr",
            "rmdir",
            "setxattr",
            "statfs",
            "umount2",
            "unlink",
        ],
        &[0],
    ),
    // The call uses all names of a directory.
    (&["getdents64"], &[]),
];

/// Acts before a system call.
pub type Act<'a> = dyn FnMut(&Entry) + 'a;

/// Runs a program in a root directory. Before each system call of [`PATHS`], from the start of its main function on, in all its
/// threads and processes, the program waits until `act` has returned.
pub fn attend(root: &Path, argv: &[OsString], act: &mut Act<'_>) -> Output {
    let names = PATHS.iter().flat_map(|(names, _)| *names).map(|name| Name::of(name));
    let (mut index, mut is_main) = (0, false);
    let mut counts = HashMap::new();
    let mut stop = |mut entry: Entry| {
        if entry.call.name.0 == LAST {
            is_main |= entry.is_last_before_main();
        } else if is_main {
            entry.call.index = index;
            index += 1;
            count(&mut counts, &mut entry);
            act(&entry);
        }
        Verdict::Made
    };
    see(root, argv, &filter(names.chain([Name(LAST)])), &mut |pid| (watch(pid, &mut stop), ())).0
}

/// Runs a program with these faults in a root directory. The program stops only at calls with their names; the faults apply to its
/// first thread.
pub(super) fn with_faults(faults: &[Injected], root: &Path, argv: &[OsString]) -> Output {
    let names = faults.iter().flat_map(|fault| fault.names());
    let mut counts = HashMap::new();
    let mut watch = |pid| {
        let mut stop = |mut entry: Entry| {
            if entry.pid != pid {
                return Verdict::Made;
            }
            count(&mut counts, &mut entry);
            Verdict::of(faults, &entry)
        };
        (watch(pid, &mut stop), ())
    };
    see(root, argv, &filter(names), &mut watch).0
}

/// Numbers a call among those of its name.
fn count(counts: &mut HashMap<i64, usize>, entry: &mut Entry) {
    let count = counts.entry(entry.call.name.0).or_insert(0);
    entry.call.nth = *count;
    *count += 1;
}

impl Entry {
    /// The paths among its arguments.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let places = PATHS
            .iter()
            .find(|(names, _)| self.call.name.is_any(names))
            .map_or(&[][..], |(_, places)| places);
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.pid)) else { return Vec::new() };
        places.iter().filter_map(|place| text(&memory, self.arguments[*place])).collect()
    }
}

/// A text up to a NUL in the memory of a process.
fn text(memory: &File, at: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    // The page behind the text may be missing.
    let length = memory.read_at(&mut bytes, at).ok()?;
    let end = bytes[..length].iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

/// A filter of seccomp(2) with a stop at these calls.
fn filter(names: impl Iterator<Item = Name>) -> Vec<libc::sock_filter> {
    let step =
        |code: u32, jf: u8, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf, k };
    let give = |what: u32| step(libc::BPF_RET | libc::BPF_K, 0, what);
    // The number of the call is the first word of the filter's input.
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for Name(number) in names {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::try_from(number).unwrap()));
        program.push(give(libc::SECCOMP_RET_TRACE));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Watches a program to its end with all of its threads and processes, stopped at the calls of its filter.
fn watch(pid: Pid, stop: &mut dyn FnMut(Entry) -> Verdict) -> ExitStatus {
    let options = ptrace::Options::PTRACE_O_EXITKILL
        | ptrace::Options::PTRACE_O_TRACESECCOMP
        | ptrace::Options::PTRACE_O_TRACECLONE
        | ptrace::Options::PTRACE_O_TRACEFORK
        | ptrace::Options::PTRACE_O_TRACEVFORK
        | ptrace::Options::PTRACE_O_TRACEEXEC;
    ptrace::setoptions(pid, options).unwrap();
    let mut known = HashSet::from([pid]);
    let (mut next, mut signal) = (pid, None);
    loop {
        match ptrace::cont(next, signal.take()) {
            // Killed, and only its end is left to be seen.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("{errno}"),
        }
        let status = loop {
            match waitpid(Pid::from_raw(-pid.as_raw()), Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::Exited(other, _) | WaitStatus::Signaled(other, ..) if other != pid => {}
                status => break status,
            }
        };
        next = status.pid().unwrap();
        match status {
            WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_SECCOMP as i32 => {
                match stop(registers::entry(next, 0)) {
                    Verdict::Made => {}
                    Verdict::Fails(errno) => {
                        // Without the call, its result is there already.
                        registers::skip(next);
                        registers::fail(next, errno);
                    }
                    Verdict::Killed => kill(pid, Signal::SIGKILL).unwrap(),
                }
            }
            // Threads and processes are born stopped.
            WaitStatus::Stopped(new, Signal::SIGSTOP) if known.insert(new) => {}
            WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, code) => return ExitStatus::from_raw(code << 8),
            WaitStatus::Signaled(_, signal, _) => return ExitStatus::from_raw(signal as i32),
            other => panic!("{other:?}"),
        }
    }
}
