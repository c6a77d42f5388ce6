//! Who uses a tree in a way that a copy would miss: files that are open for writing, sockets that somebody listens at, and
//! directories that somebody works in, where what is written next would be hidden.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::survey::Inode;
use crate::escape;

/// A process, and what it does with the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// The unit that it belongs to; none where systemd did not start it.
    pub unit: Option<String>,
    /// What it does: `writes to PATH`.
    pub does: String,
}

/// Everybody who uses one of these files and directories, or a socket below this path; for each process the first use that
/// is found.
#[must_use]
pub fn of(tree: &HashSet<Inode>, path: &str) -> Vec<User> {
    let sockets = sockets(path);
    let own = std::process::id();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .collect();
    pids.sort_unstable();
    pids.into_iter()
        .filter_map(|pid| {
            let process = Path::new("/proc").join(pid.to_string());
            let does = does(&process, tree, &sockets)?;
            let name = fs::read(process.join("comm")).unwrap_or_default();
            Some(User {
                pid,
                name: escape::name(name.trim_ascii_end()).into_owned(),
                unit: unit(&process),
                does,
            })
        })
        .collect()
}

/// What a process does with the tree; none where nothing, and where it has ended meanwhile.
fn does(process: &Path, tree: &HashSet<Inode>, sockets: &HashSet<u64>) -> Option<String> {
    let shown = |link: &Path| {
        let path = fs::read_link(link).unwrap_or_default();
        escape::path(&path).into_owned()
    };
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let link = entry.path();
        if is_written(&process.join("fdinfo").join(entry.file_name()))
            && inode(&link).is_some_and(|inode| tree.contains(&inode))
        {
            return Some(format!("writes to {}", shown(&link)));
        }
        let target = fs::read_link(&link).unwrap_or_default();
        let socket = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        if socket.and_then(|number| number.parse().ok()).is_some_and(|number| sockets.contains(&number)) {
            return Some("listens at a socket in it".to_owned());
        }
    }
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    if let Some(line) = maps.lines().find(|line| is_mapped(line, tree)) {
        let path = line.split_ascii_whitespace().nth(5).unwrap_or("a file in it");
        return Some(format!("writes to {}, which it has in its memory", escape::name(path)));
    }
    let cwd = process.join("cwd");
    inode(&cwd).filter(|inode| tree.contains(inode)).map(|_| format!("works in {}", shown(&cwd)))
}

/// Whether a descriptor is open for writing.
fn is_written(info: &Path) -> bool {
    // O_WRONLY or O_RDWR, and not O_PATH.
    const ACCESS: u32 = 3;
    const PATH: u32 = 0o10_000_000;
    let info = fs::read_to_string(info).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & PATH == 0 && matches!(flags & ACCESS, 1 | 2))
}

/// What a link of /proc leads to. The file system is not asked anew: a server that is away would be waited for.
fn inode(link: &Path) -> Option<Inode> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, link, flags, StatxFlags::INO).ok()?;
    Some(((found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

/// Whether a line of maps is a file of the tree that is written to: shared, and writable.
fn is_mapped(line: &str, tree: &HashSet<Inode>) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (Some(rights), _, Some(device), Some(inode)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    if rights.as_bytes().get(1) != Some(&b'w') || !rights.ends_with('s') {
        return false;
    }
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let device = device.split_once(':').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    device.zip(inode.parse().ok()).is_some_and(|inode| tree.contains(&inode))
}

/// The numbers of the sockets at and below a path, from /proc/net/unix.
fn sockets(path: &str) -> HashSet<u64> {
    let text = fs::read("/proc/net/unix").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Number, RefCount, Protocol, Flags, Type, State, Inode, and the path, which may hold spaces.
    let number = |line: &str| {
        let mut rest = line;
        let mut inode = "";
        for _ in 0..7 {
            (inode, rest) = rest.trim_start().split_once(' ')?;
        }
        let below = rest.strip_prefix(path)?;
        if below.is_empty() || below.starts_with('/') { inode.parse().ok() } else { None }
    };
    text.lines().skip(1).filter_map(number).collect()
}

/// The unit of a process, from its control group.
fn unit(process: &Path) -> Option<String> {
    unit_in(&fs::read_to_string(process.join("cgroup")).ok()?).map(str::to_owned)
}

fn unit_in(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Below the first one are groups that the unit made itself, or the user to whom it is delegated. A name with other characters
    // than these is no unit's, and `*` would be a pattern to systemctl(1).
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
    fn what_is_mapped_for_writing() {
        let tree = HashSet::from([((0, 0x2a), 7)]);
        for (line, is) in [
            ("7f00-7f01 rw-s 00000000 00:2a 7    /var/lib/a b", true),
            ("7f00-7f01 -w-s 00000000 00:2a 7    /a", true),
            ("7f00-7f01 rw-p 00000000 00:2a 7    /a", false),
            ("7f00-7f01 r--s 00000000 00:2a 7    /a", false),
            ("7f00-7f01 rw-s 00000000 00:2b 7    /a", false),
            ("7f00-7f01 rw-p 00000000 00:00 0", false),
            ("", false),
        ] {
            assert_eq!(is_mapped(line, &tree), is, "{line}");
        }
    }
}
