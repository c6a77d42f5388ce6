//! Runs programs, and prints all about a run with an unexpected result.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Names another build of the tested program, for another platform or profile.
const PROGRAM: &str = "IMP_MOUNT_TEST_PROGRAM";

/// The tested imp-mount.
pub fn imp_mount() -> &'static str {
    static CHOSEN: LazyLock<String> = LazyLock::new(|| {
        std::env::var(PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_imp-mount").to_owned())
    });
    &CHOSEN
}

/// Result of a program.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    line: String,
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal at its end.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn new(argv: &[impl AsRef<OsStr>], status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        Self {
            line: argv.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" "),
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    /// The exit code must be this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The run must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// All of these words must be in its output on stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        self
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        writeln!(f, "code {:?}, signal {:?}", self.code, self.signal)?;
        writeln!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// Runs a program to its end with only PATH in its environment. The program dies with the test. A missing program ends with 127, as
/// in a shell.
pub fn run(argv: &[impl AsRef<OsStr>]) -> Output {
    match command(argv).output() {
        Ok(output) => Output::new(argv, output.status, &output.stdout, &output.stderr),
        Err(error) => Output::new(argv, ExitStatus::from_raw(127 << 8), b"", error.to_string().as_bytes()),
    }
}

#[allow(unsafe_code)]
fn command(argv: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
    // The parent-death signal is lost in a fork, so the program's own process has to set it.
    let die_with_parent = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: between fork and exec one system call is made, and nothing else.
    unsafe { command.pre_exec(die_with_parent) };
    command
}

/// A program in the background.
pub struct Running {
    argv: Vec<OsString>,
    child: Child,
    stdout: File,
    stderr: File,
}

/// Starts a program as [`run`] does.
pub fn start(argv: &[impl AsRef<OsStr>]) -> Running {
    // Not pipes, which would be empty once they have been looked at.
    let file = |name| File::from(memfd_create(name, MemfdFlags::CLOEXEC).unwrap());
    let (stdout, stderr) = (file("stdout"), file("stderr"));
    let mut command = command(argv);
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let child = command.spawn().expect("a program to start");
    Running { argv: argv.iter().map(|word| word.as_ref().to_owned()).collect(), child, stdout, stderr }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&content(&self.stderr)).into_owned()
    }

    /// Waits for this output on stderr.
    pub fn await_words(&self, words: &str) {
        while !self.stderr().contains(words) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        let status = self.child.wait().unwrap();
        Output::new(&self.argv, status, &content(&self.stdout), &content(&self.stderr))
    }
}

/// All of a file that another process still writes through the same offset.
fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Runs a program written as one line, with spaces between the arguments; the program must succeed. Returns its
/// stdout.
#[track_caller]
pub fn sh(words: impl AsRef<str>) -> String {
    sh_on(words, &[])
}

/// The same, with paths at its end, which may hold spaces.
#[track_caller]
pub fn sh_on(words: impl AsRef<str>, paths: &[&Path]) -> String {
    run(&line(words, paths)).ok().stdout
}

/// The words of a line, then paths.
pub fn line(words: impl AsRef<str>, paths: &[&Path]) -> Vec<OsString> {
    let words = words.as_ref().split_whitespace().map(Into::into);
    words.chain(paths.iter().map(Into::into)).collect()
}

/// True if a program is on PATH, or in the directories of root's PATH.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
}
