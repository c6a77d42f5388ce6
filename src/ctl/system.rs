//! A system's files below its root, seen as by the system itself: links are resolved inside this root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use crate::boot::args::MANIFEST;
use crate::check::NIXOS;
use crate::ctl::manifest::read_file;
use crate::ctl::ui::output::Failure;
use crate::ids::{Table, passwd};
use crate::manifest::{Manifest, text, wire};
use crate::sys::inside;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::Problem;

/// File systems without data after a boot, or without any data.
const IN_MEMORY: [&str; 19] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "ramfs",
    "sysfs",
    "tmpfs",
];

/// Maximum length of a file with facts about a system.
const LONGEST: u64 = 64 << 20;

/// The root of a system, which need not run.
#[derive(Debug)]
pub struct System {
    root: OwnedFd,
    /// Its path seen from this process, without links.
    pub place: PathBuf,
}

impl System {
    /// Opens the root.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io("opening the root", root, &error);
        let place = root.canonicalize().map_err(failed)?;
        let text = place.to_str().ok_or_else(|| failed(io::Error::other("its path is no UTF-8 text")))?;
        let fd = walk::base(text).map_err(|errno| failed(errno.into()))?;
        Ok(Self { root: fd, place })
    }

    /// The system below an open root.
    #[must_use]
    pub fn at(root: OwnedFd) -> Self {
        Self { root, place: PathBuf::new() }
    }

    /// The root's directory.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// True for the running system.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.place == Path::new("/")
    }

    fn find(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        inside::open(self.root(), path, flags)
    }

    /// True for an existing path.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.find(path, OFlags::PATH).is_ok()
    }

    /// True for a NixOS.
    #[must_use]
    pub fn is_nixos(&self) -> bool {
        NIXOS.into_iter().any(|path| self.has(path))
    }

    /// The content of a file; none where there is none.
    pub fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.read_up_to(path, LONGEST)
    }

    /// The content of a file, with a maximum of bytes; none for a missing file.
    pub fn read_up_to(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let irregular = || Err(io::Error::other("it is no regular file"));
        let found = match self.find(path, OFlags::PATH) {
            Ok(fd) => walk::stat(fd.as_fd())?,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // A device is not opened, as opening has effects on some devices; /dev/null counts as empty.
        if found.file_type() == FileType::CharacterDevice && found.special() == (1, 3) {
            return Ok(Some(Vec::new()));
        }
        if !found.is_file() {
            return irregular();
        }
        // A FIFO put there meanwhile must not block the open.
        let fd = self.find(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if !walk::stat(fd.as_fd())?.is_file() {
            return irregular();
        }
        let bytes = walk::content(fd.as_fd(), most + 1)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it is longer than {most} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The names in a directory, in order; none for a missing or unreadable one.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        let dir = self.find(path, OFlags::RDONLY | OFlags::DIRECTORY).and_then(Dir::new);
        let entries = dir.into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect();
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// The compiled manifest at a path in this system; none if missing.
    pub fn manifest_at(&self, path: &str) -> Result<Option<Manifest>, Failure> {
        let shown = self.place.join(path.trim_start_matches('/'));
        let bytes = self.read(path).map_err(|error| Failure::io("reading", &shown, &error))?;
        bytes.map(|bytes| read_manifest(&shown, &bytes)).transpose()
    }

    /// The manifest, from a file or from its usual path in this system; none if missing.
    pub fn manifest(&self, file: Option<&Path>) -> Result<Option<Manifest>, Failure> {
        let Some(file) = file else { return self.manifest_at(MANIFEST) };
        let bytes = read_file(file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::Unable(
                Problem::new("there is no manifest").at(escape::path(file)).remedy(
                    "name one with --manifest FILE, compiled or as JSON; a machine gets it by `impctl compile`, \
                     and on NixOS by imp-mount.enable and a rebuild",
                ),
            ),
            _ => Failure::io("reading", file, &error),
        })?;
        read_manifest(file, &bytes).map(Some)
    }

    /// Mounts below the root, with their mount points seen from there, the oldest first.
    pub fn mounts(&self) -> Result<Vec<Mount>, Failure> {
        let place = self.place.to_string_lossy();
        let prefix = if self.is_running() { "" } else { &*place };
        let mut mounts = mountinfo::all().map_err(Failure::Unable)?;
        mounts.retain_mut(|mount| match mount.point.strip_prefix(prefix) {
            Some(rest) if rest.starts_with('/') => {
                mount.point = rest.to_owned();
                true
            }
            _ => false,
        });
        Ok(mounts)
    }

    /// The names of users and groups by their numbers.
    #[must_use]
    pub fn names(&self) -> Names {
        let read = |path| self.read(path).ok().flatten().and_then(|bytes| passwd::parse(&bytes).ok());
        let by_number = |table: Option<Table>| {
            let mut names: Vec<_> =
                table.unwrap_or_default().into_iter().map(|(name, number)| (number, name)).collect();
            names.sort();
            names
        };
        Names { users: by_number(read("/etc/passwd")), groups: by_number(read("/etc/group")) }
    }
}

/// Either form of a manifest.
fn read_manifest(file: &Path, bytes: &[u8]) -> Result<Manifest, Failure> {
    let at = escape::path(file).into_owned();
    if !text::is_text(bytes) {
        return wire::decode(bytes).map_err(|problem| Failure::Unable(problem.at(at)));
    }
    text::utf8(bytes).map_err(|problem| vec![problem]).and_then(text::parse).map_err(|problems| {
        let mut problem = problems.into_iter().next().unwrap_or_else(|| Problem::new("it is refused"));
        let place = std::mem::replace(&mut problem.at, at);
        Failure::Unable(if place.is_empty() { problem } else { problem.during(place) })
    })
}

/// True if data on a file system outlives a boot.
#[must_use]
pub fn outlives_a_boot(fstype: &str) -> bool {
    !IN_MEMORY.contains(&fstype)
}

/// Names of users and groups by number, in order; where a number has several, the first one.
#[derive(Debug, Default)]
pub struct Names {
    users: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
}

impl Names {
    /// The user's name, or the number of a user without a name.
    #[must_use]
    pub fn user(&self, uid: u32) -> String {
        look_up(&self.users, uid)
    }

    /// The group's name, or the number of a group without a name.
    #[must_use]
    pub fn group(&self, gid: u32) -> String {
        look_up(&self.groups, gid)
    }
}

fn look_up(names: &[(u32, String)], number: u32) -> String {
    // root, independent of the file's content.
    if number == 0 {
        return "root".to_owned();
    }
    let at = names.partition_point(|(other, _)| *other < number);
    names
        .get(at)
        .filter(|(other, _)| *other == number)
        .map_or_else(|| number.to_string(), |(_, name)| name.clone())
}
