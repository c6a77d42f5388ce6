//! Paths adopted since the boot, possibly missing in the configuration.
//!
//! The record is separate from the report: a run unmounts paths of the report missing in the manifest, and an old
//! state is under this mount. A run leaves mounts outside its report alone, and accepts them once named by the
//! manifest.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;

use serde::Serialize;

use super::inventory::Inventory;
use super::place;
use crate::manifest::{AbsPath, Kind};
use crate::mount::utab;
use crate::runtime::lock::Lock;
use crate::runtime::report::Report;
use crate::runtime::{self, Document};
use crate::sys::mountinfo;
use crate::sys::walk::{self, Mounts};
use crate::text::json::{Object, Take, Value};
use crate::text::problem::{Problem, Result};

/// Its path on the store.
pub const PATH: &str = "/run/imp-mount/adopted.json";
/// Consequence of an unusable record.
const UNKNOWN: &str =
    "what was adopted before stays mounted, and `impctl status` no longer lists it; its data is on the store";

/// Everything adopted since the boot.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Adopted {
    /// The version of this form.
    pub version: u32,
    /// Adopted paths, in order.
    pub entries: Vec<Entry>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its path.
    pub target: AbsPath,
    /// Its path on the store.
    pub source: AbsPath,
    /// Its type.
    pub kind: Kind,
}

impl TryFrom<Object> for Adopted {
    type Error = String;

    fn try_from(mut it: Object) -> Result<Self, String> {
        Ok(Self { version: Self::VERSION, entries: it.member("entries")? })
    }
}

impl Take for Entry {
    fn take(value: Value) -> Result<Self, String> {
        let mut it = Object::take(value)?;
        Ok(Self { target: it.member("target")?, source: it.member("source")?, kind: it.word("kind")? })
    }
}

impl Adopted {
    /// Paths adopted since the boot.
    ///
    /// # Errors
    /// The record cannot be read, so the adopted paths are unknown.
    pub fn read() -> Result<Self> {
        let remedy = "the next `impctl adopt` keeps it under another name";
        runtime::read()
            .map(Option::unwrap_or_default)
            .map_err(|problem| if problem.remedy.is_empty() { problem.remedy(remedy) } else { problem })
    }

    /// The same for another adoption, which continues without an unusable record, with a warning.
    ///
    /// # Errors
    /// A system call failed.
    pub fn read_or_set_aside(lock: &Lock) -> Result<(Self, Option<Problem>)> {
        let (adopted, problem) = runtime::read_or_set_aside(lock)?;
        Ok((adopted.unwrap_or_default(), problem.map(|problem| problem.remedy(UNKNOWN))))
    }

    /// Writes down one more with the others, whole or not at all.
    pub fn add(&mut self, entry: Entry, lock: &Lock) -> Result<()> {
        self.version = Self::VERSION;
        match self.entries.binary_search_by(|other| other.target.cmp(&entry.target)) {
            Ok(at) if self.entries[at] == entry => return Ok(()),
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
        runtime::write(lock, self)
    }
}

impl Document for Adopted {
    const NAME: &'static str = "adopted.json";
    const VERSION: u32 = 1;

    fn flaw(&self) -> Option<&'static str> {
        let in_order = self.entries.is_sorted_by(|one, other| one.target < other.target);
        (!in_order).then_some("its entries are not in path order")
    }
}

/// Keeps the inventory of the last pass over a path, for a later run over the covered tree.
pub fn keep_inventory(target: &AbsPath, seen: &Inventory, lock: &Lock) -> Result<()> {
    let name = inventory_name(target);
    let dir = runtime::directory(runtime::DIRECTORY)?;
    runtime::replace(lock, dir.as_fd(), &name, &seen.to_bytes())
        .map_err(|errno| Problem::os(format!("cannot write {}/{name}", runtime::DIRECTORY), errno))
}

/// Inventory of [`keep_inventory`]; none if unreadable. Then everything is compared.
#[must_use]
pub fn inventory(target: &AbsPath) -> Option<Inventory> {
    let dir = runtime::directory(runtime::DIRECTORY).ok()?;
    let file = walk::open(dir.as_fd(), &*inventory_name(target), OFlags::RDONLY, Mounts::Stay).ok()?;
    if !runtime::is_roots(&walk::stat(file.as_fd()).ok()?) {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).ok()?;
    Some(Inventory::from_bytes(&bytes))
}

/// Removes the inventory, as nothing is covered any more.
pub fn forget_inventory(target: &AbsPath) {
    // Most paths have no inventory, and a leftover one only takes some memory in /run.
    let _ = std::fs::remove_file(format!("{}/{}", runtime::DIRECTORY, inventory_name(target)));
}

fn inventory_name(target: &AbsPath) -> String {
    format!("covered-{}", place::key(target).to_string_lossy())
}

/// Removes the path of a removed entry from the report, so that runs leave the path alone. With an unusable report
/// runs remove no path either.
pub fn keep(target: &AbsPath, lock: &Lock) -> Result<()> {
    let mut report = match Report::read() {
        Err(problem) if problem.errno.is_none() => return Ok(()),
        report => report?,
    };
    let known = report.entries.len();
    report.entries.retain(|entry| entry.target != *target);
    if report.entries.len() == known { Ok(()) } else { report.write(lock) }
}

/// Writes the line in utab for the mount of a path of the store, before the mount: if PID 1 first reads the line of a
/// known mount during a shutdown, the shutdown waits forever. A line without a mount has no effect.
pub fn announce(target: &AbsPath, source: &AbsPath, store: BorrowedFd<'_>, lock: &Lock) -> Result<()> {
    let mount = mountinfo::of(store)?;
    let path = |text| AbsPath::normal(text).map_err(Problem::new);
    let inside = source.below(&path(&mount.point)?);
    let inside = inside.ok_or_else(|| Problem::new(format!("the store is mounted at {}", mount.point)))?;
    let root = path(&mount.root)?.join(&inside);
    let line =
        utab::Line { source: &mount.source, target: target.as_str(), root, hidden: false, trash: false };
    utab::update(lock, &[line], &[])
}
