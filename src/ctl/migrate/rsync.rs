//! rsync(1), which copies what cannot be shared: run once for each pair of trees, with a list of what is missing.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, flock, ftruncate, memfd_create, openat};
use rustix::io::Errno;

use crate::escape;
use crate::problem::{Problem, Result};

/// The program.
const PROGRAM: &str = "rsync";
/// Files that went away while they were copied.
const VANISHED: i32 = 24;

/// What one run of it is to copy: names below one directory that are to have the same names below another.
#[derive(Debug)]
pub struct Batch {
    source: OwnedFd,
    target: OwnedFd,
    list: BufWriter<File>,
    names: u64,
}

impl Batch {
    /// From one directory to another; the list is empty.
    pub fn new(source: OwnedFd, target: OwnedFd) -> Result<Self> {
        let list = memfd_create("list", MemfdFlags::CLOEXEC)
            .map_err(|errno| Problem::os("cannot make a list of files in memory", errno))?;
        Ok(Self { source, target, list: BufWriter::new(list.into()), names: 0 })
    }

    /// Adds a file, by its absolute path as seen from the two.
    pub fn add(&mut self, path: &[u8]) -> Result<()> {
        self.names += 1;
        // A dot in front, so that no name is taken for something else.
        let written = [&b"."[..], path, b"\0"].iter().try_for_each(|part| self.list.write_all(part));
        written.map_err(|error| Problem::new(format!("cannot list what is copied: {error}")))
    }

    /// Copies all of it. New files are made in `work` and moved to their names when they are whole; what is there is left
    /// alone. `progress` hears how many bytes were copied so far.
    pub fn copy(self, work: BorrowedFd<'_>, progress: &mut dyn FnMut(u64)) -> Result<()> {
        if self.names == 0 {
            return Ok(());
        }
        let failed = |error: io::Error| Problem::new(format!("cannot run {PROGRAM}: {error}"));
        let mut list = self.list.into_inner().map_err(|error| failed(error.into_error()))?;
        list.rewind().map_err(failed)?;
        let mut errors = errors_in(work)?;
        // By what is open here: no path is looked up again, and no link on the way is followed.
        let own = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        let mut child = Command::new(PROGRAM)
            .args(["-aHAXS", "--numeric-ids", "--no-implied-dirs", "--ignore-existing"])
            // Times to the nanosecond (rsync 3.1.3).
            .arg("--modify-window=-1")
            // As XFS shows ACLs once more; naming one filter takes away the usual one.
            .args(["--filter=-x system.*", "--filter=-x trusted.SGI_ACL_*"])
            .args(["--from0", "--files-from=-", "--info=progress2,stats0", "--no-human-readable"])
            .arg(format!("--temp-dir={}", own(work.as_raw_fd())))
            .arg(own(self.source.as_raw_fd()) + "/")
            .arg(own(self.target.as_raw_fd()) + "/")
            .env("LC_ALL", "C")
            .env_remove("RSYNC_PARTIAL_DIR")
            .stdin(list)
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(failed)?)
            .spawn()
            .map_err(|error| if error.kind() == ErrorKind::NotFound { missing() } else { failed(error) })?;
        if let Some(output) = &mut child.stdout {
            follow(output, progress);
        }
        let status = child.wait().map_err(failed)?;
        match status.code() {
            Some(0) => Ok(()),
            Some(VANISHED) => {
                log::warn!("some files went away while they were copied");
                Ok(())
            }
            _ => {
                let mut said = Vec::new();
                errors.rewind().and_then(|()| errors.read_to_end(&mut said)).map_err(failed)?;
                Err(explain(&String::from_utf8_lossy(&said), &status.to_string()))
            }
        }
    }
}

/// Where it writes what is wrong. It holds a lock on that as long as it lives, also when the run that started it is gone.
fn errors_in(work: BorrowedFd<'_>) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno| Problem::os(format!("cannot prepare a run of {PROGRAM}"), errno);
    let file = openat(work, "errors", flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(Problem::new(format!("the {PROGRAM} of an earlier run is still at work"))
                .remedy("wait until it has ended, then run again"))
        }
        locked => {
            locked.and_then(|()| ftruncate(&file, 0)).map_err(failed)?;
            Ok(file.into())
        }
    }
}

/// Whether it is there.
pub fn is_installed() -> Result<()> {
    match Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(Problem::new(format!("cannot run {PROGRAM}: {error}"))),
        Ok(_) => Ok(()),
    }
}

fn missing() -> Problem {
    Problem::new(format!("{PROGRAM} is not installed, and it does the copying"))
        .remedy("on NixOS: `nix-shell -p rsync`; on Debian: `apt install rsync`; then run again")
}

/// Hears how far it is, from the numbers that it writes over each other.
fn follow(output: &mut dyn Read, progress: &mut dyn FnMut(u64)) {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        for byte in &buffer[..length] {
            if !matches!(byte, b'\r' | b'\n') {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let first = text.split_whitespace().next().map(|word| word.replace(',', ""));
            if let Some(bytes) = first.and_then(|word| word.parse().ok()) {
                progress(bytes);
            }
            line.clear();
        }
    }
}

/// Its first words, with what they are about by its name and not by our descriptors.
fn explain(said: &str, status: &str) -> Problem {
    const SHOWN: usize = 3;
    let own = format!("/proc/{}/fd/", std::process::id());
    let clean = |line: &str| {
        let mut parts = line.split(own.as_str());
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        escape::name(&text).into_owned()
    };
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).take(SHOWN).map(clean).collect();
    let words = if lines.is_empty() { status.to_owned() } else { lines.join("; ") };
    Problem::new(format!("{PROGRAM} could not copy everything: {words}"))
        .remedy("see to that, and run again: it goes on where it was")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_read() {
        let mut seen = Vec::new();
        let text = b"\r              3  33%    0.00kB/s    0:00:00  \r      1,234  66%  x (xfr#2, to-chk=0/5)\nwords\n";
        follow(&mut &text[..], &mut |bytes| seen.push(bytes));
        assert_eq!(seen, [3, 1234]);
        let own = format!("/proc/{}/fd/12", std::process::id());
        let said = format!(
            "rsync: [receiver] open \"{own}/var/x\" failed: No space left on device (28)\n\nrsync error: y\n"
        );
        let problem = explain(&said, "exit status: 23").to_string();
        assert!(
            problem.contains("open \"/var/x\" failed: No space left on device (28); rsync error: y; see"),
            "{problem}"
        );
        assert!(explain("", "signal: 9 (SIGKILL)").to_string().contains("SIGKILL"));
    }
}
