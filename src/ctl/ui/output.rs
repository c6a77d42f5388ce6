//! Exit status and output of impctl.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::text::escape::{self, Page};
use crate::text::problem::{Problem, describe_io};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The request was refused; the reason was printed.
    Refused(Vec<Problem>),
    /// It could not even be tried.
    Unable(Problem),
    /// Findings exist, and were printed.
    Found,
}

impl Failure {
    /// A file that cannot be read or written.
    pub fn io(doing: &str, file: &Path, error: &io::Error) -> Self {
        Self::Unable(Problem::new(format!("{doing}: {}", describe_io(error))).at(escape::path(file)))
    }

    /// Says it on standard error, and gives the exit code.
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

/// Something as JSON, to be printed.
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

/// Writes a file that everybody may read, so that there is only ever the old one or the whole new one. In /dev what is no file is
/// written to, such as /dev/null. Elsewhere that is refused, as it may be anybody's, and a link is replaced.
pub fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        if file.starts_with("/dev") && std::fs::metadata(file).is_ok_and(|found| !found.is_file()) {
            return std::fs::write(file, bytes);
        }
        if std::fs::symlink_metadata(file).is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
            return Err(io::Error::other("it is there, and no regular file"));
        }
        let mut new =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(directory)?;
        new.write_all(bytes)?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    write().map_err(|error| Failure::io("writing", file, &error))
}
