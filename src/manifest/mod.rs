//! The compiled manifest.
//!
//! The text form (JSON) is read by [`text`], refused or accepted by [`refuse`], and kept in the binary form of [`wire`].
//! All three know the types below and nothing of the system.

pub mod coverage;
pub mod device;
pub mod mode;
pub mod options;
pub mod parents;
pub mod path;
pub mod pattern;
pub mod refuse;
#[cfg(feature = "ctl")]
pub mod show;
#[cfg(feature = "ctl")]
pub mod text;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use options::BindOptions;
pub use path::AbsPath;

/// Input of a run: the root, the stores, the entries and the ids known so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The root to build; none if mounted already.
    pub root: Option<Root>,
    /// Roots of earlier boots to keep; none without them.
    pub old_roots: Option<OldRoots>,
    /// Stores of persistent data, in path order.
    pub stores: Vec<Store>,
    /// Directories other than entries, with known owner and mode (homes, mostly), in path order.
    pub parents: Vec<Parent>,
    /// Persistent paths, in order: a directory comes before its content.
    pub entries: Vec<Entry>,
    /// Ids known when the manifest was written.
    pub ids: Ids,
}

/// A root made at every boot: a tmpfs, or a directory of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The store for a fresh directory; none for a tmpfs.
    pub on: Option<AbsPath>,
    /// New path of the file system mounted at the sysroot: conversion of an existing installation in place.
    pub convert: Option<AbsPath>,
    /// tmpfs(5)'s `size`: bytes, with a suffix k, m, g or %.
    pub size: Option<String>,
    /// Permission bits of `/`.
    pub mode: u16,
    /// tmpfs(5)'s `nr_inodes`: a number, with a suffix k, m or g.
    pub inodes: Option<String>,
    /// Further mount options, of tmpfs or of the VFS.
    pub options: Vec<String>,
}

/// Limits of the roots of earlier boots, which lie on a store. The oldest go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldRoots {
    /// Which of [`Manifest::stores`] holds them.
    pub store: u16,
    /// Number of them.
    pub boots: u32,
    /// Age in days.
    pub days: u32,
    /// Size of all together in bytes.
    pub size: u64,
    /// The maximum of bytes saved of a tmpfs root at shutdown.
    pub save_size: u64,
    /// The maximum of seconds for saving a tmpfs root at shutdown.
    pub save_seconds: u32,
}

impl OldRoots {
    /// Default limits.
    #[must_use]
    pub fn new(store: u16) -> Self {
        Self { store, boots: 10, days: 30, size: 10 << 30, save_size: 1 << 30, save_seconds: 60 }
    }
}

/// A file system, or a directory of one, with persistent data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its path in the booted system.
    pub path: AbsPath,
    /// True if a boot without the store stops; otherwise its entries are guarded.
    pub required: bool,
    /// The device to mount there, unless mounted already: a path, or `UUID=` and the like.
    pub device: Option<String>,
    /// The file system's type; none to detect the type.
    pub fstype: Option<String>,
    /// Mount options, as in fstab(5).
    pub options: Vec<String>,
}

/// Owner and mode of a directory created on the way to an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The directory.
    pub path: AbsPath,
    /// Its owner and mode.
    pub owner: Owner,
}

/// A persistent path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
// Each is a key of its own, and none excludes another.
#[allow(clippy::struct_excessive_bools)]
pub struct Entry {
    /// Its path in the booted system.
    pub target: AbsPath,
    /// A directory, a file, or files by pattern.
    pub kind: Kind,
    /// Index of its store in [`Manifest::stores`].
    pub store: u16,
    /// Its path below the store; none if the same as the target.
    pub source: Option<AbsPath>,
    /// Owner and mode of a new source.
    pub owner: Owner,
    /// Owner and mode of new directories above, without any other rule.
    pub parents: Option<Box<Owner>>,
    /// Bind mount, symbolic link or copy.
    pub method: Method,
    /// Action for a missing file of the store.
    pub missing: Missing,
    /// Options of the bind mount.
    pub options: BindOptions,
    /// True if a boot without the entry stops; otherwise its target is guarded.
    pub required: bool,
    /// True if an existing source is given the owner and mode as well.
    pub enforce: bool,
    /// True if file managers are told to hide the mount.
    pub hidden: bool,
    /// True if file managers may keep a trash folder on the mount.
    pub trash: bool,
    /// Time of its mount.
    pub phase: Phase,
}

impl Entry {
    /// Its path below its store.
    #[must_use]
    pub fn source(&self) -> &AbsPath {
        self.source.as_ref().unwrap_or(&self.target)
    }

    /// The mode of a new source: its own, that of the directory on every system, or the default of its kind.
    #[must_use]
    pub fn mode(&self) -> u16 {
        self.owner.mode.unwrap_or(match (self.kind, self.missing) {
            (Kind::Directory, _) => parents::system(self.target.as_str()).unwrap_or(0o755),
            // systemd's default.
            (_, Missing::MachineId) => 0o444,
            _ => 0o644,
        })
    }
}

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One directory.
    Directory,
    /// One file.
    File,
    /// Every file whose name matches the target's last component.
    Glob,
}

/// Owner and mode of the manifest; the defaults are root, and the usual mode.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub user: Option<Id>,
    /// The group.
    pub group: Option<Id>,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: Option<u16>,
}

/// A user or group, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Id {
    /// A number, never 2³²-1, which means "leave unchanged" in chown(2).
    Number(u32),
    /// A name, looked up for a new file.
    Name(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Method by which an entry comes from the store to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A bind mount.
    #[default]
    Bind,
    /// A symbolic link into the store.
    Symlink,
    /// A copy, written back to the store after a change.
    Copy,
}

impl Method {
    /// The method's name in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Symlink => "symlink",
            Self::Copy => "copy",
        }
    }
}

/// Action for a missing file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Create an empty file.
    Create,
    /// Place a symbolic link: a program creates the file on the store, and the next boot binds the file.
    #[default]
    Link,
    /// Leave the entry out.
    Skip,
    /// Fail.
    Fail,
    /// Create the file in the form of a first boot, for which systemd stores its new id.
    MachineId,
}

impl Missing {
    /// The policy's name in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Link => "link",
            Self::Skip => "skip",
            Self::Fail => "fail",
            Self::MachineId => "machine-id",
        }
    }
}

/// When an entry is mounted, in the order of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before the system is looked for: /nix and the like.
    Early,
    /// Once the root is found, before activation.
    #[default]
    Boot,
    /// After the /etc overlay.
    Etc,
    /// On the running system.
    Live,
}

impl Phase {
    /// The phase's name, as on the command line and in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Boot => "boot",
            Self::Etc => "etc",
            Self::Live => "live",
        }
    }

    /// The phase with a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Early, Self::Boot, Self::Etc, Self::Live].into_iter().find(|phase| phase.name() == name)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Ids known when the manifest was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ids {
    /// Users by name.
    pub users: BTreeMap<String, u32>,
    /// Groups by name.
    pub groups: BTreeMap<String, u32>,
    /// True if every name must stand in the two tables.
    pub strict: bool,
}

impl Manifest {
    /// The store of an entry. Indices are checked both at compilation and on reading.
    #[must_use]
    pub fn store(&self, entry: &Entry) -> &Store {
        &self.stores[usize::from(entry.store)]
    }
}
