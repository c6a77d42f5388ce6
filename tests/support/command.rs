//! Runs programs and says all about it when they do not do what the test expects.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// What a program did.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    line: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
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

    /// It must have ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// All of these words must be in what it said on stderr.
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

/// Runs a program to its end with nothing but PATH in its environment. It dies with the test.
pub fn run(argv: &[impl AsRef<OsStr>]) -> Output {
    // The parent-death signal is lost in a fork, so the program's own process has to set it.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(argv)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null())
        .output()
        .expect("setpriv (util-linux) is needed");
    Output::new(argv, output.status, &output.stdout, &output.stderr)
}

/// Runs a program written as one line, its words separated by spaces; it must succeed. Returns its stdout.
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

/// Whether a program is on PATH, or where only root has it.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
}
