//! File systems of the host; they give an entry its default `phase`.
//!
//! Only the text form has a layout. The compiled one has the resulting phase of each entry.

use super::fields::{Fields, path};
use super::owned;
use crate::manifest::{AbsPath, Entry, Phase};
use crate::text::escape;
use crate::text::problem::Problem;

/// File systems without data after a reboot, or of unknown durability (a bind mount is `none`).
const VOLATILE: [&str; 5] = ["tmpfs", "ramfs", "devtmpfs", "overlay", "none"];

/// The system's file systems.
pub struct Layout {
    filesystems: Vec<FileSystem>,
    etc_overlay: bool,
}

/// A file system mounted by the system itself.
struct FileSystem {
    path: AbsPath,
    fstype: Option<String>,
    /// True if mounted by the initrd, and not by the running system.
    in_initrd: bool,
}

impl Layout {
    /// Reads the object.
    pub fn read(fields: &mut Fields<'_, '_>) -> Self {
        let filesystems = fields.items("filesystems", &["path"], |fields| {
            let path = fields.need("path", path);
            let fstype = fields.read("fstype", owned);
            let in_initrd = fields.flag("in-initrd", false);
            Some(FileSystem { path: path?, fstype, in_initrd })
        });
        Self {
            filesystems: filesystems.into_iter().map(|(filesystem, _)| filesystem).collect(),
            etc_overlay: fields.flag("etc-overlay", false),
        }
    }

    /// When a path can be mounted at the earliest, and has to be.
    fn phase(&self, target: &AbsPath) -> Phase {
        if self.above(target).any(|filesystem| !filesystem.in_initrd) {
            Phase::Live
        } else if self.etc_overlay && target.as_str().starts_with("/etc/") {
            Phase::Etc
        } else if target.as_str() == "/nix" {
            // The system to boot is in /nix/store.
            Phase::Early
        } else {
            Phase::Boot
        }
    }

    /// The file systems of a path, except the root's.
    fn above(&self, target: &AbsPath) -> impl Iterator<Item = &FileSystem> {
        self.filesystems.iter().filter(|it| !it.path.is_root() && target.is_in(&it.path))
    }

    /// The nearest file system that a path lies and persists on, and its type.
    fn disk(&self, target: &AbsPath) -> Option<(&FileSystem, &str)> {
        let nearest = self.above(target).max_by(|one, other| one.path.cmp(&other.path))?;
        let fstype = nearest.fstype.as_deref().unwrap_or("auto");
        (!VOLATILE.contains(&fstype)).then_some((nearest, fstype))
    }

    /// A note on an entry already on a disk: the path persists without the entry.
    pub fn note(&self, entry: &Entry) -> Option<Problem> {
        let (nearest, fstype) = self.disk(&entry.target)?;
        let what = format!(
            "it persists already, as it lies on {}, a file system of its own ({})",
            nearest.path,
            escape::name(fstype)
        );
        Some(Problem::new(what).remedy("leave it out, unless it is to be on the store"))
    }
}

/// Keys of an entry with a default by the layout.
#[derive(Default)]
pub struct Explicit {
    pub phase: Option<Phase>,
    pub required: Option<bool>,
}

/// Gives every entry the defaults by the layout: its phase, no earlier than the one of the entry above; and not required on a late disk,
/// where data persist without the entry. The entries are in path order, each with its own keys.
pub fn apply<'e>(layout: Option<&Layout>, entries: impl Iterator<Item = (&'e mut Entry, &'e Explicit)>) {
    let mut above: Vec<(AbsPath, Phase)> = Vec::new();
    for (entry, explicit) in entries {
        while above.pop_if(|(path, _)| !entry.target.is_in(path)).is_some() {}
        let least = above.last().map_or(Phase::Early, |(_, phase)| *phase);
        entry.phase = match (explicit.phase, layout) {
            (Some(phase), _) => phase,
            (None, Some(layout)) => layout.phase(&entry.target).max(least),
            (None, None) => Phase::default(),
        };
        let persists = |layout: &Layout| entry.phase == Phase::Live && layout.disk(&entry.target).is_some();
        entry.required = explicit.required.unwrap_or_else(|| !layout.is_some_and(persists));
        above.push((entry.target.clone(), entry.phase));
    }
}
