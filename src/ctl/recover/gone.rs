//! Paths of the last root missing on this one, by the record of the end of its boot.

use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use super::left_out::LeftOut;
use super::origin::{self, Source};
use crate::ctl::roots::record::{self, End};
use crate::ctl::scan::rules::Rules;
use crate::ctl::system::System;
use crate::manifest::{AbsPath, Manifest};
use crate::roots::{self, Kind};
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// So many paths are in a command to paste.
const NAMED: usize = 5;

/// Paths of the last root missing on this one, except disposable ones, for root. `impctl recover` brings them back.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gone {
    /// The store with the old root.
    store: AbsPath,
    /// The number of the old root.
    pub root: u32,
    /// The paths, the largest first.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub paths: Vec<Place>,
}

/// One path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Place {
    /// The path.
    pub path: AbsPath,
    /// Files at and below the path.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Why no old root has them: the reason for which saving the last one left them out.
    pub left_out: Option<String>,
}

impl Gone {
    /// Compares the newest record with the running root. None without a record, without missing paths, and for a user
    /// without permission.
    pub fn find(system: &System, manifest: &Manifest, rules: &Rules) -> Result<Option<Self>> {
        if !system.is_running() || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let boot = roots::boot_id()?;
        // Unmounted stores are reported by others.
        let (olds, _) = origin::all(system, manifest)?;
        let last = olds.iter().find_map(|old| Some((old, end(old, &boot)?)));
        let Some((old, end)) = last else { return Ok(None) };
        let mut paths = Vec::new();
        let left_out = |path: &AbsPath| {
            let is_it = |left: &&record::LeftOut| LeftOut::concerns(left, path);
            end.left_out.iter().find(is_it).map(|left| left.why.clone())
        };
        for row in &end.rows {
            // A non-UTF-8 path cannot be pasted on a command line.
            let path = str::from_utf8(row.path.bytes()).ok().and_then(|path| AbsPath::parse(path).ok());
            let Some(path) = path else { continue };
            if !rules.is_throw_away(path.as_str()) && is_missing(system, &path)? {
                let has = |other: &Source<'_>| other.doubt.is_none() && other.has(&path);
                let left_out = left_out(&path).filter(|_| !olds.iter().any(has));
                paths.push(Place { files: row.files, bytes: row.bytes, left_out, path });
            }
        }
        let gone = Self { store: old.store.path.clone(), root: old.id().0, paths };
        Ok(Some(gone).filter(|gone| !gone.paths.is_empty()))
    }

    /// The command to bring the paths back; none without a path on old roots.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        let there: Vec<_> = self.paths.iter().filter(|one| one.left_out.is_none()).collect();
        let words = there.iter().take(NAMED).map(|one| escape::shell(one.path.as_str()).into_owned());
        let more = if there.len() > NAMED { " ..." } else { "" };
        let words = words.collect::<Vec<_>>().join(" ");
        (!there.is_empty()).then(|| format!("impctl recover {words}{more}"))
    }
}

/// The record of the end of another boot; of a saving only a complete one.
fn end(old: &Source<'_>, boot: &str) -> Option<End> {
    let start = old.boot.as_ref().filter(|start| old.doubt.is_none() && start.boot_id != boot)?;
    let end = End::read(&old.slot).ok().flatten()?;
    (end.complete || start.kind == Kind::Disk).then_some(end)
}

/// True if nothing is at a path, or an empty place as for a mount.
fn is_missing(system: &System, path: &AbsPath) -> Result<bool> {
    let failed = |errno| Problem::os("cannot look at it", errno).at(path.to_string());
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let found = match walk::open_below(system.root(), path, flags, Mounts::Enter) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(true),
        // Another file is in the way, which stays.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = walk::stat(found.as_fd()).map_err(failed)?;
    if stat.is_dir() {
        return Ok(walk::names(found.as_fd(), 1).map_err(failed)?.is_empty());
    }
    Ok(false)
}
