//! Files of the manifest, compared with the stores.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use crate::ctl::scan::{Fate, Named};
use crate::ctl::system::System;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Entry, Kind, Manifest, Method};
use crate::mount::write_back;
use crate::runtime::report::Report;
use crate::runtime::versions::{self, Decision, Version};
use crate::sys::walk::{self, Mounts};
use crate::transfer::file;

/// Facts for the decision if a file of an entry survives a boot.
pub struct StoredFiles<'a> {
    system: &'a System,
    manifest: &'a Manifest,
    coverage: Coverage<'a>,
    /// True where the next boot empties the root.
    built: bool,
    /// True where new and changed files are brought to the stores at shutdown.
    is_set_up: bool,
    /// The report of the runs on the system.
    report: &'a Report,
}

impl<'a> StoredFiles<'a> {
    /// The facts of a system.
    pub fn new(system: &'a System, manifest: &'a Manifest, report: &'a Report, built: bool) -> Self {
        let is_set_up = built && write_back::is_set_up(system.root());
        Self { system, manifest, coverage: Coverage::new(manifest), built, is_set_up, report }
    }

    /// Fate of a file on the root itself, below no mount.
    pub fn fate(&self, found: &Named<'_>) -> Fate {
        let Some(path) = found.text() else { return Fate::Unkept };
        let what = found.entry_type();
        let Some(entry) = self.coverage.named(&path, what) else { return Fate::Unkept };
        if !self.built {
            return Fate::Kept;
        }
        let source = if entry.kind == Kind::Glob { &path } else { entry.source() };
        let text = self.manifest.store(entry).path.join(source);
        let is_our_link = || {
            let link = rustix::fs::readlinkat(found.dir, found.name, Vec::new());
            link.is_ok_and(|link| link.as_bytes() == text.as_str().as_bytes())
        };
        let mode = found.stat.stx_mode & 0o7777;
        // The directory or file below a mount.
        let is_empty_place = entry.method == Method::Bind && mode == 0 && found.stat.stx_size == 0;
        let store = self.folder(entry, source);
        let is_stored = || {
            let name = CString::new(source.name()).ok()?;
            let (here, there) = ((found.dir, found.name), (store.as_ref()?.as_fd(), &*name));
            let [now, its] =
                [here, there].map(|(dir, name)| walk::stat_at(dir, name).map(|it| Version::of(&it)));
            let left = self.report.versions(&path, &text);
            let is_older = versions::decide(left, its.ok(), now.ok()?) == Decision::KeepStore;
            Some(is_older || file::same(here, there).ok()?)
        };
        let is_kept = match what {
            Type::Link if is_our_link() => true,
            Type::File if is_empty_place => true,
            _ => entry.takes(what) && is_stored() == Some(true),
        };
        match () {
            () if is_kept => Fate::Kept,
            () if entry.takes(what) && self.is_set_up && self.is_mounted(entry) => Fate::Brought,
            () => Fate::RootOnly,
        }
    }

    /// The parent directory of a path on the store, if present.
    fn folder(&self, entry: &Entry, path: &AbsPath) -> Option<OwnedFd> {
        let parent = path.parent().filter(|_| self.is_mounted(entry))?;
        let place = self.manifest.store(entry).path.join(&parent);
        walk::open_below(self.system.root(), &place, OFlags::PATH | OFlags::DIRECTORY, Mounts::Enter).ok()
    }

    /// Tells if the store of an entry is mounted.
    fn is_mounted(&self, entry: &Entry) -> bool {
        let (root, store) = (self.system.root(), &self.manifest.store(entry).path);
        let fd = walk::open_below(root, store, OFlags::PATH | OFlags::DIRECTORY, Mounts::Enter);
        let mount = fd.and_then(|fd| walk::mount_id(fd.as_fd()));
        mount.is_ok_and(|mount| walk::mount_id(root).is_ok_and(|root| root != mount))
    }
}
