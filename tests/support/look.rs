//! An independent view: the kernel's mounts, and the files of a tree.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{lgetxattr, llistxattr};

/// A line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub parent: u64,
    /// The mounted part of the file system.
    pub root: PathBuf,
    pub target: PathBuf,
    /// The mount's own options: `rw,nosuid,nodev,relatime`.
    pub options: String,
    /// `shared:1` and the like; empty for a private mount.
    pub propagation: String,
    pub fstype: String,
    pub source: String,
    /// The file system's options, the same for all its mounts.
    pub super_options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (own, system) = line.split_once(" - ")?;
        let own: Vec<&str> = own.split(' ').collect();
        let [id, parent, _device, root, target, options, propagation @ ..] = own.as_slice() else {
            return None;
        };
        let mut system = system.split(' ');
        Some(Self {
            id: id.parse().ok()?,
            parent: parent.parse().ok()?,
            root: unescape(root),
            target: unescape(target),
            options: (*options).into(),
            propagation: propagation.join(" "),
            fstype: system.next()?.into(),
            source: system.next()?.into(),
            super_options: system.next()?.into(),
        })
    }

    /// True if the mount or its file system has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').chain(self.super_options.split(',')).any(|one| one == option)
    }
}

/// Decodes the kernel's escapes of spaces, tabs, newlines and backslashes: `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|code| str::from_utf8(code).ok());
        bytes.push(code.map_or(*first, |code| u8::from_str_radix(code, 8).unwrap()));
        rest = &tail[code.map_or(0, str::len)..];
    }
    OsString::from_vec(bytes).into()
}

/// All mounts of this namespace, in the order of their creation.
pub fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().map(|line| Mount::parse(line).unwrap_or_else(|| panic!("mountinfo: {line}"))).collect()
}

/// Mounts at a folder and below it.
pub fn mounts_below(path: &Path) -> Vec<Mount> {
    mounts().into_iter().filter(|mount| mount.target.starts_with(path)).collect()
}

/// The mount seen at exactly this place: the topmost one.
pub fn mount_at(path: impl AsRef<Path>) -> Option<Mount> {
    mounts().into_iter().rfind(|mount| mount.target == path.as_ref())
}

/// The directory of roots on a store: a killed run leaves one, and each has a number.
pub const ROOTS: &str = ".imp-mount/roots";

/// The path of a mount's root below the top of its file system, without the number of a root on a store.
pub fn numberless(root: &Path) -> String {
    let root = root.display().to_string();
    match root.split_once(ROOTS).and_then(|(before, after)| Some((before, after.split('/').nth(2)?))) {
        Some((before, tree)) => format!("{before}{ROOTS}/N/{tree}"),
        None => root,
    }
}

/// Files of a tree, one line for each file: type and mode, owner, size, content and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeMap<PathBuf, String>);

impl Snapshot {
    /// Takes down one file system, from this folder.
    pub fn of(root: &Path) -> Self {
        let mut taken = Self::default();
        let device = fs::symlink_metadata(root).unwrap().dev();
        taken.add(root, Path::new(""), device);
        taken
    }

    fn add(&mut self, root: &Path, below: &Path, device: u64) {
        let path = super::trees::below_of(root, below);
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.dev() != device {
            return;
        }
        let mut line = format!("{:06o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if meta.is_file() {
            // Files made immutable or unreadable are still readable by root; an EIO is worth knowing.
            let content = fs::read(&path).map(|bytes| hash(&bytes)).map_err(|error| error.kind());
            write!(line, " {} {content:?}", meta.len()).unwrap();
        } else if meta.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        }
        for name in attributes(&path).unwrap() {
            let mut value = vec![0; 65_536];
            let length = lgetxattr(&path, name.as_str(), &mut value).unwrap();
            write!(line, " {name}={:?}", String::from_utf8_lossy(&value[..length])).unwrap();
        }
        self.0.insert(below.to_owned(), line);
        if meta.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                self.add(root, &below.join(entry.unwrap().file_name()), device);
            }
        }
    }

    /// Leaves out all files below directories of this path, at any depth.
    #[must_use]
    pub fn without(mut self, folder: &str) -> Self {
        let inside = format!("{folder}/");
        self.0.retain(|path, _| !path.to_string_lossy().contains(&inside));
        self
    }

    /// The line of one path, as in `040755 0:0`; none if missing.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<&str> {
        self.0.get(path.as_ref()).map(String::as_str)
    }

    /// Every path and its line.
    pub fn lines(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().map(|(path, line)| (path.as_path(), line.as_str()))
    }

    /// Files gone or different in a later snapshot; new ones are left out.
    pub fn losses(&self, later: &Self) -> Vec<String> {
        let differs = |(path, line): &(&PathBuf, &String)| later.0.get(*path) != Some(*line);
        let word = |(path, line): (&PathBuf, &String)| {
            format!("/{}: {line}, then {}", path.display(), later.line(path).unwrap_or("gone"))
        };
        self.0.iter().filter(differs).map(word).collect()
    }

    /// Files missing in an earlier snapshot.
    pub fn news(&self, earlier: &Self) -> Vec<String> {
        let new = |(path, _): &(&PathBuf, &String)| !earlier.0.contains_key(*path);
        self.0.iter().filter(new).map(|(path, line)| format!("/{}: {line}", path.display())).collect()
    }
}

/// Of equal consecutive blocks only the first counts, with its number, and of zeros none: without optimization the hash of a large file
/// takes longer than the rest of the test.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut last: &[u8] = &[0; 4096];
    for (number, block) in bytes.chunks(last.len()).enumerate() {
        if *block != last[..block.len()] {
            (number, block).hash(&mut hasher);
        }
        last = block;
    }
    hasher.finish()
}

/// The names of a file's extended attributes, in order.
fn attributes(path: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0; 65_536];
    let length = llistxattr(path, &mut names)?;
    let mut names: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        // XFS shows ACLs once more under such a name.
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_"))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Type and permission bits, owner and group of a path, a symlink itself: `("drwxr-x---", 193, 193)`-like numbers.
#[track_caller]
pub fn stat(path: impl AsRef<OsStr>) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path.as_ref()).unwrap();
    (meta.mode(), meta.uid(), meta.gid())
}
