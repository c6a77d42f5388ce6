//! Exit status and output of impctl.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::text::escape::{self, Page};
use crate::text::problem::{Problem, describe_io};

/// Failure of a command.
#[derive(Debug)]
pub enum Failure {
    /// The request was refused; the reason was printed.
    Refused(Vec<Problem>),
    /// The command could not start its work.
    Unable(Problem),
    /// Findings exist, and were printed.
    Found,
}

impl Failure {
    /// A failure to read or write a file.
    pub fn io(doing: &str, file: &Path, error: &io::Error) -> Self {
        Self::Unable(Problem::new(format!("{doing}: {}", describe_io(error))).at(escape::path(file)))
    }

    /// Prints the failure on standard error, and returns the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Refused(problems) => {
                for problem in &problems {
                    complain(&format!("error: {problem}"));
                }
                let count = problems.len();
                complain(&format!("{count} {} found", if count == 1 { "problem" } else { "problems" }));
                ExitCode::from(1)
            }
            Self::Unable(problem) => {
                complain(&format!("error: {problem}"));
                ExitCode::from(2)
            }
            Self::Found => ExitCode::from(1),
        }
    }
}

/// Writes a line to standard error. If standard error is closed, the exit status still tells.
#[expect(clippy::disallowed_methods, reason = "a line, escaped here")]
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::line(line));
}

/// Writes to standard output.
#[expect(clippy::disallowed_methods, reason = "a page")]
pub fn print(page: &Page) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(page.as_str().as_bytes()).and_then(|()| stdout.flush()))
}

/// A value as JSON, for output.
pub fn json(value: &impl Serialize) -> Result<Page, Failure> {
    escape::json(value).map_err(|error| Failure::Unable(Problem::new(error.to_string())))
}

/// Result of writing to standard output. A closed pipe is no failure; the exit status tells the rest.
pub fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::io("writing", Path::new("standard output"), &error))
        }
        _ => Ok(()),
    }
}

/// Writes a file readable by all users, in one step: there is always either the old file or the whole new one. In /dev
/// special files such as /dev/null are written to. Elsewhere they are refused, as any user may own them, and a link is
/// replaced.
pub fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    place(file, bytes, 0o644)
}

/// Writes a file readable by its owner alone, in the same way. A link is refused: the secret content must be at the
/// given path itself.
pub fn private(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if !file.starts_with("/dev") && file.is_symlink() {
        return Err(Failure::io("writing", file, &io::Error::other(LINK)));
    }
    place(file, bytes, 0o600)
}

/// Why a link is no file to write.
const LINK: &str = "it is a link: name the file that it points to";

fn place(file: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let write = || {
        if file.starts_with("/dev") && fs::metadata(file).is_ok_and(|found| !found.is_file()) {
            return fs::write(file, bytes);
        }
        if fs::symlink_metadata(file).is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
            return Err(io::Error::other("it is there, and no regular file"));
        }
        prepare(file, bytes, mode, None)?.persist(file)?;
        File::open(folder(file))?.sync_all()
    };
    write().map_err(|error| Failure::io("writing", file, &error))
}

/// Time after which the wait for another process's lock ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps other processes of this function from reading and writing files of the directory until the result is dropped.
pub fn hold(file: &Path) -> Result<File, Failure> {
    let since = Instant::now();
    let take = || {
        let directory = File::open(folder(file))?;
        loop {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another process has it locked")),
                Err(Errno::INTR) => {}
                // Not every file system of a network has locks.
                Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => return Ok(directory),
                Err(errno) => return Err(errno.into()),
            }
        }
    };
    take().map_err(|error| Failure::io("locking", folder(file), &without(folder(file), error)))
}

/// Fails if no file can be written beside a file.
pub fn is_writable(file: &Path) -> Result<(), Failure> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(folder(file), access)
        .map_err(|errno| Failure::io("writing", file, &without(folder(file), errno.into())))
}

/// Writes a user's file in the same way: an existing one keeps its owner and mode, and must still have the content of the read.
pub fn update(file: &Path, old: Option<&[u8]>, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let unchanged = || {
            let found = found(file)?;
            if found.as_ref().map(|(_, text)| text.as_slice()) == old {
                return Ok(found.map(|(it, _)| it));
            }
            Err(io::Error::other("it was changed meanwhile, and is left as it is; try again"))
        };
        let new = prepare(file, bytes, 0o644, unchanged()?.as_ref())?;
        // An editor may change the file until all data is on the disk.
        unchanged()?;
        if old.is_some() { new.persist(file) } else { new.persist_noclobber(file) }?;
        File::open(folder(file))?.sync_all()
    };
    write().map_err(|error| Failure::io("writing", file, &error))
}

/// Reads a file for [`update`]; none if missing.
pub fn read(file: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let found = found(file).map_err(|error| Failure::io("reading", file, &error))?;
    Ok(found.map(|(_, bytes)| bytes))
}

/// A regular file's attributes and content.
fn found(file: &Path) -> io::Result<Option<(Metadata, Vec<u8>)>> {
    // A FIFO is not waited for, and a link would stay a link to the old file.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut opened = match rustix::fs::open(file, OFlags::RDONLY | flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(io::Error::other(LINK)),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = opened.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is there, and no regular file"));
    }
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes)?;
    Ok(Some((metadata, bytes)))
}

/// The directory of a file.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file beside another one, as its replacement: with owner and mode of the other, or with `mode` without
/// another.
fn prepare(file: &Path, bytes: &[u8], mode: u32, like: Option<&Metadata>) -> io::Result<NamedTempFile> {
    // Private until its owner is set.
    let mode = if like.is_some() { 0o600 } else { mode };
    // Errors of `tempfile_in` name the temporary file.
    let make = |path: &Path| File::options().write(true).create_new(true).mode(mode).open(path);
    let mut new =
        tempfile::Builder::new().make_in(folder(file), make).map_err(|error| without(folder(file), error))?;
    // Its own `write_all` names the temporary file in errors.
    new.as_file_mut().write_all(bytes)?;
    if let Some(old) = like {
        let now = new.as_file().metadata()?;
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        // After the owner, whose change takes set-id bits away.
        new.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    new.as_file().sync_all()?;
    Ok(new)
}

/// The error, with the remedy for a missing directory.
fn without(folder: &Path, error: io::Error) -> io::Error {
    if error.kind() != ErrorKind::NotFound || folder.exists() {
        return error;
    }
    let folder = escape::shell(folder.as_os_str().as_bytes());
    io::Error::other(format!("its directory is not there: mkdir -p {folder}"))
}
