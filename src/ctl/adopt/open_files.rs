//! Processes and devices with files of a tree: open or mapped files, listening sockets, working directories.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::survey::Inode;
use crate::text::escape;

/// Number of scans for new processes: if new ones start all the time, the last of them are missed.
const ROUNDS: usize = 20;

/// Uses of a tree, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// A file is read.
    Read,
    /// An open directory, or the working directory of a process: files can be created there.
    Directory,
    /// A file is written to, or a socket is listened at.
    Write,
}

/// A process and its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number; none for a device of the kernel's.
    pub pid: Option<u32>,
    /// Its name.
    pub name: String,
    /// None for a process not started by systemd.
    pub unit: Option<String>,
}

impl Process {
    /// A running process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let home = home(pid);
        let name = fs::read(home.join("comm")).unwrap_or_default();
        Self { pid: Some(pid), name: escape::name(name.trim_ascii_end()).into_owned(), unit: unit(&home) }
    }
}

/// `name (pid) of unit`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(pid) = self.pid {
            write!(f, " ({pid})")?;
        }
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, " of {unit}"))
    }
}

/// A process, and its most serious use of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The process.
    pub process: Process,
    /// Its use of the tree.
    pub access: Access,
    /// The same in words: `writes to PATH`.
    pub does: String,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.process, self.does)
    }
}

/// The users of a tree.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// Processes and loop devices.
    pub users: Vec<User>,
    /// The files open for writing.
    pub written: HashSet<Inode>,
}

/// Identity to look for in /proc.
struct Tree<'t> {
    inodes: &'t HashSet<Inode>,
    sockets: HashSet<u64>,
    written: HashSet<Inode>,
}

/// Every process with one of these files and directories, or with a socket at or below this path, and every loop
/// device on a file of the tree.
#[must_use]
pub fn of(inodes: &HashSet<Inode>, path: &str) -> OpenFiles {
    let mut tree = Tree { inodes, sockets: sockets(path), written: HashSet::new() };
    let mut done = BTreeSet::from([std::process::id()]);
    let mut users = BTreeMap::new();
    // A process may pass open files to another one, and end, before the search reaches it: the search is repeated
    // until there are no new processes.
    for _ in 0..ROUNDS {
        let new: Vec<_> = pids().into_iter().filter(|pid| done.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            if let Some((access, does)) = tree.uses(&home(pid)) {
                users.insert(pid, User { process: Process::of(pid), access, does });
            }
        }
    }
    let users = users.into_values().chain(loop_devices(path)).collect();
    OpenFiles { users, written: tree.written }
}

/// The running processes.
#[must_use]
pub fn pids() -> Vec<u32> {
    // Processes end while /proc is listed: their entries are errors then.
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Directory of a process in /proc.
#[must_use]
pub fn home(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

impl Tree<'_> {
    /// The most serious use of the tree by a process; none without use, and for an ended process.
    fn uses(&mut self, process: &Path) -> Use {
        let mut found = self.table(process);
        // Of a process whose first thread has ended, only the others show its files.
        if fs::read_dir(process.join("fd")).is_ok_and(|mut files| files.next().is_none()) {
            for thread in fs::read_dir(process.join("task")).into_iter().flatten().flatten() {
                found = serious(found, self.table(&thread.path()));
            }
        }
        let maps = fs::read(process.join("maps")).unwrap_or_default();
        for line in String::from_utf8_lossy(&maps).lines() {
            let Some((inode, access)) = mapped(line, self.inodes) else { continue };
            let path = escape::name(line.splitn(6, ' ').nth(5).unwrap_or_default().trim());
            let does = if access == Access::Write {
                self.written.insert(inode);
                format!("writes to {path}, which it has in its memory")
            } else {
                format!("has {path} in its memory")
            };
            found = serious(found, Some((access, does)));
        }
        for (link, does) in [("cwd", "works in"), ("root", "has as its root")] {
            let link = process.join(link);
            if look(&link).is_some_and(|(inode, _)| self.inodes.contains(&inode)) {
                found = serious(found, Some((Access::Directory, format!("{does} {}", shown(&link)))));
            }
        }
        found
    }

    /// The same for the descriptors of a process or thread alone.
    fn table(&mut self, process: &Path) -> Use {
        let mut found = None;
        for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let link = entry.path();
            let Some((inode, is_dir)) = look(&link) else { continue };
            if self.inodes.contains(&inode) {
                let is_written = is_written(&process.join("fdinfo").join(entry.file_name()));
                if is_written {
                    self.written.insert(inode);
                }
                let (access, does) = match (is_written, is_dir) {
                    (true, _) => (Access::Write, format!("writes to {}", shown(&link))),
                    (_, true) => (Access::Directory, format!("has {} open", shown(&link))),
                    _ => (Access::Read, format!("reads {}", shown(&link))),
                };
                found = serious(found, Some((access, does)));
            } else if self.sockets.contains(&inode.1) && is_socket(&link) {
                found = serious(found, Some((Access::Write, "listens at a socket in it".to_owned())));
            }
        }
        found
    }
}

type Use = Option<(Access, String)>;

/// The more serious use, or the first of two equal ones.
fn serious(one: Use, other: Use) -> Use {
    match (&one, &other) {
        (Some((first, _)), Some((second, _))) if first >= second => one,
        (Some(_), None) => one,
        _ => other,
    }
}

fn shown(link: &Path) -> String {
    let path = fs::read_link(link).unwrap_or_default();
    escape::path(&path).into_owned()
}

fn is_socket(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:["))
}

/// True if a descriptor is open for writing.
fn is_written(info: &Path) -> bool {
    // O_WRONLY or O_RDWR, and not O_PATH.
    const ACCESS: u32 = 3;
    const PATH: u32 = 0o10_000_000;
    let info = fs::read_to_string(info).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & PATH == 0 && matches!(flags & ACCESS, 1 | 2))
}

/// The target of a link of /proc, and true for a directory. The file system is not queried again: a disconnected
/// server would block.
fn look(link: &Path) -> Option<(Inode, bool)> {
    const DIRECTORY: u16 = 0o040_000;
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, link, flags, StatxFlags::INO | StatxFlags::TYPE).ok()?;
    let inode = ((found.stx_dev_major, found.stx_dev_minor), found.stx_ino);
    Some((inode, found.stx_mode & 0o170_000 == DIRECTORY))
}

/// The file of the tree in a line of maps. A shared and writable mapping counts as a write.
fn mapped(line: &str, tree: &HashSet<Inode>) -> Option<(Inode, Access)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (Some(rights), _, Some(device), Some(inode)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return None;
    };
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let device = device.split_once(':').and_then(|(major, minor)| Some((number(major)?, number(minor)?)))?;
    let inode = (device, inode.parse().ok()?);
    if !tree.contains(&inode) {
        return None;
    }
    let is_written = rights.as_bytes().get(1) == Some(&b'w') && rights.ends_with('s');
    Some((inode, if is_written { Access::Write } else { Access::Read }))
}

/// The numbers of the sockets at and below a path, from /proc/net/unix.
fn sockets(path: &str) -> HashSet<u64> {
    // A kernel without UNIX sockets has no such file; in a sandbox with the file hidden, no socket is found.
    let text = fs::read("/proc/net/unix").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Number, RefCount, Protocol, Flags, Type, State, Inode, and the path, which may hold spaces.
    let number = |line: &str| {
        let mut rest = line;
        let mut inode = "";
        for _ in 0..7 {
            (inode, rest) = rest.trim_start().split_once(' ')?;
        }
        if is_at_or_below(rest, path) { inode.parse().ok() } else { None }
    };
    text.lines().skip(1).filter_map(number).collect()
}

/// True if a path equals another one, or is below.
fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Loop devices whose files are at or below a path: the kernel has those open.
fn loop_devices(path: &str) -> Vec<User> {
    // Without /sys no loop device is found.
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let user = |device: fs::DirEntry| {
        let file = fs::read(device.path().join("loop/backing_file")).ok()?;
        let file = String::from_utf8_lossy(file.trim_ascii_end());
        if !is_at_or_below(&file, path) {
            return None;
        }
        let name = format!("/dev/{}", escape::path(&device.file_name()));
        let read_only = fs::read(device.path().join("ro")).is_ok_and(|text| text.trim_ascii() == b"1");
        let (access, does) = if read_only { (Access::Read, "reads") } else { (Access::Write, "writes to") };
        let process = Process { pid: None, name, unit: None };
        Some(User { process, access, does: format!("{does} {}", escape::name(&*file)) })
    };
    devices.filter_map(user).collect()
}

/// The unit of a process, from its control group.
fn unit(process: &Path) -> Option<String> {
    unit_in(&fs::read_to_string(process.join("cgroup")).ok()?).map(str::to_owned)
}

fn unit_in(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Below the first one are groups made by the unit itself, or by the user of a delegated unit. A name with other
    // characters is not a unit's, and `*` would be a pattern to systemctl(1).
    let is_valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let is_unit = |part: &&str| matches!(part.rsplit_once('.'), Some((_, "service" | "scope")));
    path.split('/').find(is_unit).filter(|unit| unit.chars().all(is_valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_no_pattern_and_no_name_that_a_user_gave() {
        for (group, unit) in [
            ("system.slice/foo@a\\x2db.service", Some("foo@a\\x2db.service")),
            (
                "user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service",
                Some("user@1000.service"),
            ),
            ("machine.slice/box.scope/payload/system.slice/sshd.service", Some("box.scope")),
            ("*.service", None),
            ("user.slice/a b.scope", None),
            ("init.scope.d", None),
        ] {
            assert_eq!(unit_in(&format!("1:name=systemd:/x.service\n0::/{group}\n")), unit, "{group}");
        }
    }

    #[test]
    fn mapped_files() {
        let tree = HashSet::from([((0, 0x2a), 7)]);
        for (line, is) in [
            ("7f00-7f01 rw-s 00000000 00:2a 7    /var/lib/a b", Some(Access::Write)),
            ("7f00-7f01 -w-s 00000000 00:2a 7    /a", Some(Access::Write)),
            ("7f00-7f01 rw-p 00000000 00:2a 7    /a", Some(Access::Read)),
            ("7f00-7f01 r--s 00000000 00:2a 7    /a", Some(Access::Read)),
            ("7f00-7f01 rw-s 00000000 00:2b 7    /a", None),
            ("7f00-7f01 rw-p 00000000 00:00 0", None),
            ("", None),
        ] {
            assert_eq!(mapped(line, &tree).map(|(_, access)| access), is, "{line}");
        }
    }

    #[test]
    fn paths_below() {
        assert!(is_at_or_below("/a/b", "/a") && is_at_or_below("/a", "/a"));
        assert!(!is_at_or_below("/ab", "/a"));
    }
}
