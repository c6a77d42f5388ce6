//! Faults at system calls, by ptrace(2): a missing call, an error, a death.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};

use super::Output;
use super::attend::with_faults;
use super::is_thorough;

/// Calls that change a file, or wait for the disk.
pub const CHANGES: &[&str] = &[
    "chmod",
    "fchmod",
    "fchown",
    "fchownat",
    "fremovexattr",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "ioctl",
    "linkat",
    "mkdirat",
    "mknodat",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pwrite64",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "setxattr",
    "symlinkat",
    "syncfs",
    "unlinkat",
    "utimensat",
    "write",
];

/// Calls that cannot fail, and those for memory, without which the program cannot continue. A failed close(2) has
/// closed.
pub const SAFE: &[&str] = &[
    "brk",
    "clock_nanosleep",
    "close",
    "exit_group",
    "futex",
    "geteuid",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "prlimit64",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "umask",
];

/// One of so many chosen calls, with its number: in a developer's own runs, and in others.
pub fn taken(calls: &[Call], [own, all]: [usize; 2], is: impl Fn(&Call) -> bool) -> Vec<(usize, Call)> {
    let step = if is_thorough() { all } else { own };
    let taken: Vec<_> = calls.iter().copied().filter(is).collect();
    assert!(taken.len() > 40, "{calls:?}");
    taken.into_iter().enumerate().step_by(step).collect()
}

/// True for a call that changes a file, or waits for the disk.
pub fn changes(call: &Call) -> bool {
    call.is_one_of(CHANGES)
}

/// One system call of a run, by its number since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub index: usize,
    pub name: Name,
    /// Number of earlier calls of the same name.
    pub nth: usize,
}

impl Call {
    /// True for one of these.
    pub fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| Name::of(name) == self.name)
    }
}

/// A system call's number, which says its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(pub(super) i64);

/// A fault at one system call, or at all of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// Kills the program before the call with this name and number.
    Kill(Name, usize),
    /// The same call fails, without having done anything.
    Error(Name, usize, Errno),
    /// A kernel without this call.
    Missing(Name),
    /// A sandbox without this call.
    Denied(Name),
    /// A kernel without mounts on detached mounts, and without clones of these (before Linux 6.15).
    NoDetachedAssembly,
    /// A kernel without mounts beneath a mount (before Linux 6.5).
    NoMountBeneath,
}

impl Injected {
    /// A kernel without this call.
    pub fn missing(call: &str) -> Self {
        Self::Missing(Name::of(call))
    }

    /// A sandbox without this call.
    pub fn denied(call: &str) -> Self {
        Self::Denied(Name::of(call))
    }

    /// The call fails, once.
    pub fn error(errno: Errno, call: &Call) -> Self {
        Self::Error(call.name, call.nth, errno)
    }

    /// The program is killed in place of making the call.
    pub fn kill(call: &Call) -> Self {
        Self::Kill(call.name, call.nth)
    }

    /// The current call.
    pub(super) fn names(self) -> Vec<Name> {
        match self {
            Self::Kill(name, _) | Self::Error(name, ..) | Self::Missing(name) | Self::Denied(name) => {
                vec![name]
            }
            Self::NoDetachedAssembly => vec![Name(libc::SYS_move_mount), Name(libc::SYS_open_tree)],
            Self::NoMountBeneath => vec![Name(libc::SYS_move_mount)],
        }
    }
}

/// A system call before its execution.
pub struct Entry {
    pub(super) pid: Pid,
    pub call: Call,
    pub(super) arguments: [u64; 5],
}

/// The call by which Rust's runtime handles SIGBUS, the last one before main.
pub(super) const LAST: i64 = libc::SYS_rt_sigaction;

impl Entry {
    /// True if the next call is one of main.
    pub(super) fn is_last_before_main(&self) -> bool {
        let [signal, action, ..] = self.arguments;
        self.call.name.0 == LAST && signal == u64::from(libc::SIGBUS.cast_unsigned()) && action != 0
    }
}

/// Its fault.
pub(super) enum Verdict {
    Made,
    Fails(Errno),
    Killed,
}

impl Verdict {
    /// Effect of a fault on a call.
    pub(super) fn of(faults: &[Injected], entry: &Entry) -> Self {
        let verdicts = faults.iter().map(|fault| fault.verdict(entry));
        verdicts.fold(Self::Made, |one, other| if matches!(one, Self::Made) { other } else { one })
    }
}

impl Injected {
    fn verdict(self, entry: &Entry) -> Verdict {
        let Call { name, nth, .. } = entry.call;
        let moves = name == Name(libc::SYS_move_mount);
        let [source, _, target, _, flags] = entry.arguments;
        // The flags of open_tree(2) are its third argument.
        let clones = name == Name(libc::SYS_open_tree) && target & u64::from(libc::OPEN_TREE_CLONE) != 0;
        match self {
            Self::Kill(one, at) if (one, at) == (name, nth) => Verdict::Killed,
            Self::Error(one, at, errno) if (one, at) == (name, nth) => Verdict::Fails(errno),
            Self::Missing(missing) if missing == name => Verdict::Fails(Errno::ENOSYS),
            Self::Denied(denied) if denied == name => Verdict::Fails(Errno::EPERM),
            Self::NoMountBeneath if moves && flags & 0x200 != 0 => Verdict::Fails(Errno::EINVAL),
            Self::NoDetachedAssembly
                if moves && is_detached(entry.pid, target) || clones && is_detached(entry.pid, source) =>
            {
                Verdict::Fails(Errno::EINVAL)
            }
            _ => Verdict::Made,
        }
    }
}

/// True if a descriptor of a process is on a detached mount.
fn is_detached(pid: Pid, descriptor: u64) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")) else { return false };
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap();
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    !mounts.lines().any(|line| line.split(' ').next() == Some(id))
}

/// Runs a program with these faults.
pub fn run_with(faults: &[Injected], argv: &[OsString]) -> Output {
    trace(faults, Path::new("/"), argv).0
}

/// Runs a program to its end and names its system calls in order, from the start of its main function.
pub fn calls_of(argv: &[OsString]) -> (Output, Vec<Call>) {
    trace(&[], Path::new("/"), argv)
}

/// Runs a program with these faults in a root directory, and names its system calls from the start of its main function; none where
/// a fault is at one call, as a stop at each of the others takes as long as the rest of the run.
pub fn trace(faults: &[Injected], root: &Path, argv: &[OsString]) -> (Output, Vec<Call>) {
    if faults.iter().any(|fault| matches!(fault, Injected::Kill(..) | Injected::Error(..))) {
        return (with_faults(faults, root, argv), Vec::new());
    }
    follow(faults, root, argv, &mut |_| true)
}

/// Runs a program in a root directory. Before each system call of its main function the program waits until `act` has returned;
/// after false there are no more stops.
pub fn interrupt(root: &Path, argv: &[OsString], act: &mut Act<'_>) -> Output {
    follow(&[], root, argv, act).0
}

/// Acts before a system call. Returns true to be called again.
pub type Act<'a> = dyn FnMut(&Entry) -> bool + 'a;

fn follow(faults: &[Injected], root: &Path, argv: &[OsString], act: &mut Act<'_>) -> (Output, Vec<Call>) {
    see(root, argv, &[], &mut |pid| watch(pid, faults, act))
}

/// Starts a program in a root directory, with an optional filter of seccomp(2), and traces the program to its end by
/// `watch`.
pub(super) fn see<T>(
    root: &Path,
    argv: &[OsString],
    filter: &[libc::sock_filter],
    watch: &mut dyn FnMut(Pid) -> (ExitStatus, T),
) -> (Output, T) {
    let file = |name| File::from(memfd_create(name, MemfdFlags::CLOEXEC).unwrap());
    // Not pipes, which would fill while the program is watched.
    let (mut stdout, mut stderr) = (file("stdout"), file("stderr"));
    // The two take turns, which is four times faster on one processor than on two.
    let (own, everywhere) = (Pid::from_raw(0), sched_getaffinity(Pid::from_raw(0)).unwrap());
    let mut here = CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(own, &here).unwrap();
    let pid = start(root, argv, (&stdout, &stderr), filter).expect("a program to watch");
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, Signal::SIGTRAP)));
    let (status, seen) = watch(pid);
    sched_setaffinity(own, &everywhere).unwrap();
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    (Output::new(argv, status, &text(&mut stdout), &text(&mut stderr)), seen)
}

/// Starts a program stopped at its execve(2).
#[allow(unsafe_code)]
fn start(
    root: &Path,
    argv: &[OsString],
    (stdout, stderr): (&File, &File),
    filter: &[libc::sock_filter],
) -> io::Result<Pid> {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // A group of its own, to wait for all of its processes.
    command.process_group(0);
    let (root, mut filter) = (root.to_owned(), filter.to_vec());
    let prepare = move || {
        if root != Path::new("/") {
            std::os::unix::fs::chroot(&root)?;
            std::env::set_current_dir("/")?;
        }
        ptrace::traceme().map_err(io::Error::from)?;
        if filter.is_empty() {
            return Ok(());
        }
        let length = filter.len().try_into().unwrap_or_default();
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        // SAFETY: `program` and its pointers live for the call, which only reads them.
        let result =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        Errno::result(result).map(drop).map_err(Into::into)
    };
    // SAFETY: between fork and exec only system calls may be made; a test's process has one thread, so no other thread can
    // hold a lock of the allocator.
    let child = unsafe { command.pre_exec(prepare) }.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Sees a program to its end, stopped at each system call.
fn watch(pid: Pid, faults: &[Injected], act: &mut Act<'_>) -> (ExitStatus, Vec<Call>) {
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    let (mut calls, mut main) = (Vec::new(), 0);
    let mut counts = std::collections::HashMap::new();
    // Between the two stops of a call: its result.
    let mut inside: Option<Option<Errno>> = None;
    let (mut signal, mut over) = (None, false);
    loop {
        // There is nothing to wait for but the end.
        let resume = if over { ptrace::cont } else { ptrace::syscall };
        match resume(pid, signal.take()) {
            // Killed, and only its end is left to be seen.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("{errno}"),
        }
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => match inside.take() {
                Some(None) => {}
                Some(Some(errno)) => registers::fail(pid, errno),
                None => {
                    let mut entry = registers::entry(pid, calls.len());
                    let count = counts.entry(entry.call.name.0).or_insert(0);
                    entry.call.nth = *count;
                    *count += 1;
                    calls.push(entry.call);
                    if main > 0 && !act(&entry) {
                        over = true;
                    }
                    if main == 0 && entry.is_last_before_main() {
                        main = calls.len();
                    }
                    match Verdict::of(faults, &entry) {
                        Verdict::Made => inside = Some(None),
                        Verdict::Fails(errno) => {
                            registers::skip(pid);
                            inside = Some(Some(errno));
                        }
                        Verdict::Killed => kill(pid, Signal::SIGKILL).unwrap(),
                    }
                }
            },
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, code) => return (ExitStatus::from_raw(code << 8), calls.split_off(main)),
            WaitStatus::Signaled(_, signal, _) => {
                return (ExitStatus::from_raw(signal as i32), calls.split_off(main));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Registers of the number, the arguments and the result of a system call.
#[cfg(target_arch = "x86_64")]
pub(super) mod registers {
    use super::{Call, Entry, Errno, Name, Pid, ptrace};

    pub fn entry(pid: Pid, index: usize) -> Entry {
        let now = ptrace::getregs(pid).unwrap();
        let call = Call { index, name: Name(now.orig_rax.cast_signed()), nth: 0 };
        Entry { pid, call, arguments: [now.rdi, now.rsi, now.rdx, now.r10, now.r8] }
    }

    /// Replaces the call by one with an invalid number.
    pub fn skip(pid: Pid) {
        let mut now = ptrace::getregs(pid).unwrap();
        now.orig_rax = u64::MAX;
        ptrace::setregs(pid, now).unwrap();
    }

    pub fn fail(pid: Pid, errno: Errno) {
        let mut now = ptrace::getregs(pid).unwrap();
        now.rax = (-i64::from(errno as i32)).cast_unsigned();
        ptrace::setregs(pid, now).unwrap();
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) mod registers {
    use super::{Entry, Errno, Pid};

    pub fn entry(_: Pid, _: usize) -> Entry {
        unreachable!("tests that need Inject are skipped")
    }

    pub fn skip(_: Pid) {}

    pub fn fail(_: Pid, _: Errno) {}
}

macro_rules! names {
    ($($name:literal $number:ident),* $(,)?) => { &[$(($name, libc::$number)),*] };
}

/// System calls by name; others are known by their number.
const NAMES: &[(&str, i64)] = names![
    "brk" SYS_brk, "capget" SYS_capget, "capset" SYS_capset, "clock_gettime" SYS_clock_gettime, "clone3" SYS_clone3,
    "clock_nanosleep" SYS_clock_nanosleep, "close" SYS_close, "connect" SYS_connect, "copy_file_range" SYS_copy_file_range, "exit_group" SYS_exit_group,
    "fchmod" SYS_fchmod, "fchown" SYS_fchown, "fchownat" SYS_fchownat, "fcntl" SYS_fcntl, "fdatasync" SYS_fdatasync,
    "fgetxattr" SYS_fgetxattr, "flistxattr" SYS_flistxattr, "flock" SYS_flock, "fremovexattr" SYS_fremovexattr,
    "fsconfig" SYS_fsconfig, "fsetxattr" SYS_fsetxattr, "fsmount" SYS_fsmount, "fsopen" SYS_fsopen, "fstat" SYS_fstat,
    "fstatfs" SYS_fstatfs, "fsync" SYS_fsync, "ftruncate" SYS_ftruncate, "futex" SYS_futex, "getdents64" SYS_getdents64,
    "geteuid" SYS_geteuid, "getpid" SYS_getpid, "getrandom" SYS_getrandom, "getcwd" SYS_getcwd, "ioctl" SYS_ioctl,
    "lseek" SYS_lseek, "madvise" SYS_madvise, "mkdir" SYS_mkdir, "mkdirat" SYS_mkdirat, "mmap" SYS_mmap,
    "mount" SYS_mount, "mount_setattr" SYS_mount_setattr, "move_mount" SYS_move_mount, "mprotect" SYS_mprotect,
    "mremap" SYS_mremap, "munmap" SYS_munmap, "open_tree" SYS_open_tree, "openat" SYS_openat, "openat2" SYS_openat2,
    "poll" SYS_poll, "prctl" SYS_prctl, "pread64" SYS_pread64, "read" SYS_read, "readlink" SYS_readlink,
    "readlinkat" SYS_readlinkat, "rename" SYS_rename, "renameat" SYS_renameat, "rmdir" SYS_rmdir,
    "rt_sigaction" SYS_rt_sigaction, "rt_sigprocmask" SYS_rt_sigprocmask, "sendfile" SYS_sendfile, "sendto" SYS_sendto,
    "sigaltstack" SYS_sigaltstack, "socket" SYS_socket, "splice" SYS_splice, "statfs" SYS_statfs, "statx" SYS_statx,
    "symlinkat" SYS_symlinkat, "umask" SYS_umask, "umount2" SYS_umount2, "unlink" SYS_unlink, "unlinkat" SYS_unlinkat,
    "utimensat" SYS_utimensat, "write" SYS_write, "writev" SYS_writev, "fchmodat2" SYS_fchmodat2,
    "newfstatat" SYS_newfstatat, "getgid" SYS_getgid, "gettid" SYS_gettid, "chmod" SYS_chmod, "linkat" SYS_linkat,
    "mknodat" SYS_mknodat, "pwrite64" SYS_pwrite64, "removexattr" SYS_removexattr, "renameat2" SYS_renameat2,
    "setxattr" SYS_setxattr, "getxattr" SYS_getxattr, "lgetxattr" SYS_lgetxattr, "listxattr" SYS_listxattr, "llistxattr" SYS_llistxattr, "lsetxattr" SYS_lsetxattr, "syncfs" SYS_syncfs, "prlimit64" SYS_prlimit64,
];

/// Calls without numbers in libc; they are the same everywhere.
const NEW_NAMES: &[(&str, i64)] = &[("statmount", 457), ("listmount", 458), ("open_tree_attr", 467)];

impl Name {
    /// The call of this name.
    #[track_caller]
    pub fn of(name: &str) -> Self {
        let found = NAMES.iter().chain(NEW_NAMES).find(|(known, _)| *known == name);
        Self(found.unwrap_or_else(|| panic!("no number is known here for {name}")).1)
    }

    /// True for one of these.
    pub fn is_any(self, names: &[&str]) -> bool {
        names.iter().any(|name| self == Self::of(name))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().chain(NEW_NAMES).find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "syscall {}", self.0),
        }
    }
}
