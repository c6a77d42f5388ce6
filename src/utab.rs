//! What the kernel does not keep of a mount, but libmount does: lines of /run/mount/utab, which `findmnt --mtab`, desktops and
//! systemd read.
//!
//! A line counts only if SRC and ROOT are what /proc/self/mountinfo says and TARGET is where the mount is in the end, so
//! the paths are those of the booted system, also in the initrd. `x-initrd.mount` tells systemd not to unmount it at
//! shutdown, one by one: it goes with the root. `x-gvfs-hide` and `x-gvfs-trash` are for file managers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::problem::{Problem, Result};
use crate::report;
use crate::table::escape;

const DIRECTORY: &str = "/run/mount";
const PATH: &str = "/run/mount/utab";
const EVENT: &str = "/run/mount/utab.event";
/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// One mount's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The device, as mountinfo says it.
    pub source: String,
    /// Where it is in the booted system.
    pub target: String,
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Whether file managers hide it.
    pub hidden: bool,
    /// Whether file managers may keep a trash folder on it.
    pub trash: bool,
}

impl Line {
    fn text(&self) -> String {
        let mut options = "x-initrd.mount".to_owned();
        for (set, option) in [(self.hidden, ",x-gvfs-hide"), (self.trash, ",x-gvfs-trash")] {
            if set {
                options.push_str(option);
            }
        }
        let (source, target, root) = (escape(&self.source), escape(&self.target), escape(&self.root));
        format!("SRC={source} TARGET={target} ROOT={root} OPTS={options}\n")
    }
}

/// Writes the lines of what is mounted, and drops those of what is gone; other lines stay.
pub fn update(lines: &[Line], gone: &[String]) -> Result<()> {
    if lines.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let failed = |error: std::io::Error| Problem::new(format!("cannot write {PATH}: {error}"));
    report::directory(DIRECTORY)?;
    let _lock = lock()?;
    let old = match std::fs::read_to_string(PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        old => old.map_err(failed)?,
    };
    let new = merged(&old, lines, gone);
    if new == old {
        return Ok(());
    }
    let path = format!("{PATH}.imp-mount");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o644).open(&path).map_err(failed)?;
    file.write_all(new.as_bytes()).map_err(failed)?;
    std::fs::rename(path, PATH).map_err(failed)?;
    // By this systemd knows that there is something to read, since libmount 2.40. One that learns it late, in the midst of a
    // shutdown, forgets what waits for the unmounting, and waits for ever.
    File::options().write(true).create(true).truncate(true).mode(0o644).open(EVENT).map(drop).map_err(failed)
}

/// libmount's own lock. What cannot be had in time is done without: the file is replaced whole.
///
/// Before 2.40 it is closing the lock, opened for reading, that tells others of the change.
fn lock() -> Result<Option<File>> {
    let path = format!("{PATH}.lock");
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644));
    let file = File::from(file.map_err(|errno| Problem::os(format!("cannot open {path}"), errno))?);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Some(file));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

fn merged(old: &str, lines: &[Line], gone: &[String]) -> String {
    let mut ours = BTreeSet::new();
    ours.extend(
        lines.iter().map(|line| escape(&line.target)).chain(gone.iter().map(|target| escape(target))),
    );
    let target =
        |line: &str| line.split(' ').find_map(|field| field.strip_prefix("TARGET=").map(str::to_owned));
    let mut text: String = old
        .split_inclusive('\n')
        .filter(|line| target(line.trim_end()).is_none_or(|target| !ours.contains(&target)))
        .collect();
    text.extend(lines.iter().map(Line::text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Line {
        Line {
            source: "/dev/vda2".to_owned(),
            target: target.to_owned(),
            root: "/a b".to_owned(),
            hidden: true,
            trash: false,
        }
    }

    #[test]
    fn lines_are_replaced_and_others_stay() {
        let foreign = "ID=7 SRC=//nas/x TARGET=/mnt OPTS=uid=0\n";
        let once = merged(foreign, &[line("/a b")], &[]);
        let ours = "SRC=/dev/vda2 TARGET=/a\\040b ROOT=/a\\040b OPTS=x-initrd.mount,x-gvfs-hide\n";
        assert_eq!(once, format!("{foreign}{ours}"));
        assert_eq!(merged(&once, &[line("/a b")], &[]), once);
        assert_eq!(merged(&once, &[], &["/a b".to_owned()]), foreign);
    }
}
