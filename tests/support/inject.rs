//! Faults at system calls, by strace: a call that the kernel lacks, an error, a death.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;

use super::{Output, run};

/// One system call of a run: the `nth` (from 1) of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    pub nth: usize,
}

/// A fault at one system call, or at all of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected(String);

impl Injected {
    /// A kernel that does not have this call.
    pub fn missing(call: &str) -> Self {
        Self(format!("{}:error=ENOSYS", number(call)))
    }

    /// The call fails, once: `error("EIO", ...)`.
    pub fn error(error: &str, call: &Call) -> Self {
        Self(format!("{}:error={error}:when={}", number(&call.name), call.nth))
    }

    /// The program is killed in place of making the call.
    pub fn kill(call: &Call) -> Self {
        Self(format!("{}:signal=KILL:when={}", number(&call.name), call.nth))
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs a program with these faults.
pub fn run_with(faults: &[Injected], argv: &[OsString]) -> Output {
    let mut line: Vec<OsString> = ["strace", "-f", "-qq", "-o", "/dev/null"].map(Into::into).into();
    for fault in faults {
        line.extend(["-e".into(), format!("inject={fault}").into()]);
    }
    line.push("--".into());
    line.extend_from_slice(argv);
    run(&line)
}

/// Runs a program to its end and names its system calls in order, from the start of its main function.
pub fn calls_of(argv: &[OsString]) -> (Output, Vec<Call>) {
    let file = Path::new("/tmp/strace");
    let mut line: Vec<OsString> = ["strace", "-f", "-qq", "-o"].map(Into::into).into();
    line.extend([file.into(), "--".into()]);
    line.extend_from_slice(argv);
    let output = run(&line);
    let mut seen = HashMap::<String, usize>::new();
    let calls: Vec<Call> = fs::read_to_string(file)
        .unwrap()
        .lines()
        .filter_map(name)
        .map(|name| {
            let nth = seen.entry(name.to_owned()).or_default();
            *nth += 1;
            Call { name: name.to_owned(), nth: *nth }
        })
        .collect();
    // The last thing that Rust's runtime does before main is to make a stack for signals.
    let main =
        calls.iter().position(|call| call.name == "sigaltstack" && call.nth == 2).map_or(0, |at| at + 1);
    (output, calls[main..].to_vec())
}

/// The call's name in a line of strace: `123 openat(AT_FDCWD, ...) = 3`. Others are about signals, exits, and resumed calls.
fn name(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty() && name.bytes().all(word)).then_some(name)
}

/// How strace is told about a call that it may be too old to know by name.
fn number(call: &str) -> String {
    match call {
        "fchmodat2" => "452".into(),
        "statmount" => "457".into(),
        "listmount" => "458".into(),
        "open_tree_attr" => "467".into(),
        _ => match call.strip_prefix("syscall_0x").map(|hex| u32::from_str_radix(hex, 16)) {
            Some(Ok(number)) => number.to_string(),
            _ => call.into(),
        },
    }
}
