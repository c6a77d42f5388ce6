//! Other mounts of the covered tree, or of a part: bind mounts elsewhere, and mount namespaces without the new mount
//! (containers, `MountFlags=private`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::open_files::{self, Process};
use crate::manifest::AbsPath;
use crate::mount::tree::Tree;
use crate::sys::mountinfo;
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// A mount of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// A process in its namespace; none for the namespace of this process.
    pub process: Option<Process>,
    /// The mount point, or the path of the tree below the mount point.
    pub path: String,
    /// True if programs may write to the covered tree by this path.
    pub is_written: bool,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escape::name(&self.path);
        match &self.process {
            Some(process) => write!(f, "{process} sees it at {path}, in a mount namespace of its own"),
            None => write!(f, "it is also seen at {path}"),
        }
    }
}

/// A line of `proc_pid_mountinfo(5)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Line {
    id: u64,
    parent: u64,
    device: String,
    /// The mounted directory of the file system.
    root: String,
    point: String,
    is_read_only: bool,
    /// Peer group of the mount, and its master's group.
    shared: Option<u64>,
    master: Option<u64>,
    /// Options of the file system itself.
    options: String,
}

/// The mounts of a namespace seen from one root inside.
struct Namespace {
    /// The kernel's name of the namespace.
    name: PathBuf,
    /// A process of the namespace; none for the namespace of this process.
    pid: Option<u32>,
    lines: Vec<Line>,
}

/// Mounts of the tree at a path of the root.
pub fn of(tree: &Tree, target: &AbsPath) -> Result<Vec<View>> {
    let root = Root::of(tree, target)?;
    Ok(root.views(&namespaces()?, &BTreeSet::new()))
}

/// Mounts of the tree still visible after a new mount.
pub fn staying(tree: &Tree, target: &AbsPath) -> Result<Vec<View>> {
    let root = Root::of(tree, target)?;
    let namespaces = namespaces()?;
    let reached = reached(&root, &namespaces);
    Ok(root.views(&namespaces, &reached))
}

/// The mount of the root, and the path of the tree there.
struct Root {
    id: u64,
    device: String,
    /// The path of the tree from the top of the file system.
    path: String,
    /// And seen from this process.
    target: AbsPath,
}

impl Root {
    fn of(tree: &Tree, target: &AbsPath) -> Result<Self> {
        let mount = mountinfo::of(tree.root())?;
        let stat = walk::stat(tree.root()).map_err(|errno| Problem::os("cannot look at the root", errno))?;
        let (major, minor) = stat.device();
        let path = format!("{}{}", mount.root.trim_end_matches('/'), target.as_str());
        Ok(Self { id: mount.id, device: format!("{major}:{minor}"), path, target: target.clone() })
    }

    /// Mounts of the tree, except those in reached peer groups.
    fn views(&self, namespaces: &[Namespace], reached: &BTreeSet<u64>) -> Vec<View> {
        let mut views = Vec::new();
        // From another root the same mounts are seen, and more.
        let mut known = BTreeSet::new();
        for Namespace { name, pid, lines } in namespaces {
            for line in lines {
                // A mount over the tree hides the tree here, now or soon.
                if !known.insert((name, line.id)) || (pid.is_none() && line.id == self.id) {
                    continue;
                }
                let Some((path, is_part)) = self.shown(line, lines) else { continue };
                let is_reached =
                    [line.shared, line.master].iter().flatten().any(|group| reached.contains(group));
                if is_reached && below(&self.path, &line.root).is_some() {
                    continue;
                }
                // A mount of the whole root elsewhere is made to see covered files.
                let is_used = is_part || pid.is_some();
                views.push(View {
                    process: pid.map(Process::of),
                    path,
                    is_written: is_used && !line.is_read_only,
                });
            }
        }
        views
    }

    /// Path of the tree on a mount, and true if the mount has no other content; none without the tree.
    fn shown(&self, line: &Line, lines: &[Line]) -> Option<(String, bool)> {
        if line.device != self.device {
            return self.in_overlay(line);
        }
        let (path, is_part) = if let Some(rest) = below(&self.path, &line.root) {
            (format!("{}{rest}", line.point.trim_end_matches('/')), rest.is_empty())
        } else {
            below(&line.root, &self.path)?;
            (line.point.clone(), true)
        };
        let hides = |other: &&Line| {
            other.parent == line.id
                && other.id != line.id
                && below(&path, &other.point).is_some()
                && below(&other.point, &line.point).is_some()
        };
        if lines.iter().any(|other| hides(&other)) { None } else { Some((path, is_part)) }
    }

    /// The same for an overlay with a directory of the tree among its layers.
    fn in_overlay(&self, line: &Line) -> Option<(String, bool)> {
        let layers = line.options.split(',').filter_map(|option| {
            ["upperdir=", "lowerdir=", "lowerdir+=", "datadir+="]
                .iter()
                .find_map(|key| option.strip_prefix(key))
        });
        let is_in = |layer: &str| below(layer, self.target.as_str()).is_some();
        layers.flat_map(|layers| layers.split(':')).any(is_in).then(|| (line.point.clone(), true))
    }
}

/// The rest of a path below another one; empty for the same path.
fn below<'p>(path: &'p str, top: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(top.trim_end_matches('/'))?;
    if rest.is_empty() || rest.starts_with('/') { Some(rest) } else { None }
}

/// The peer groups in which a mount on the root appears.
fn reached(root: &Root, namespaces: &[Namespace]) -> BTreeSet<u64> {
    let lines = || namespaces.iter().flat_map(|namespace| &namespace.lines);
    let own = namespaces.iter().find(|namespace| namespace.pid.is_none());
    let own = own.and_then(|own| own.lines.iter().find(|line| line.id == root.id));
    let mut reached: BTreeSet<u64> = own.and_then(|line| line.shared).into_iter().collect();
    loop {
        let follows = |line: &&Line| line.master.is_some_and(|master| reached.contains(&master));
        let new: Vec<_> = lines().filter(follows).filter_map(|line| line.shared).collect();
        let before = reached.len();
        reached.extend(new);
        if reached.len() == before {
            return reached;
        }
    }
}

/// Every mount namespace of a process, seen from every root inside.
fn namespaces() -> Result<Vec<Namespace>> {
    let failed = |error: std::io::Error| Problem::new(format!("cannot read /proc/self/mountinfo: {error}"));
    let text = fs::read("/proc/self/mountinfo").map_err(failed)?;
    let own = key(Path::new("/proc/self"));
    let name = own.as_ref().map(|(name, ..)| name.clone()).unwrap_or_default();
    let mut found = vec![Namespace { name: name.clone(), pid: None, lines: lines(&text) }];
    let mut known = BTreeSet::from([own]);
    let mut pids = open_files::pids();
    pids.sort_unstable();
    for pid in pids {
        let home = open_files::home(pid);
        // An ended process is in no namespace.
        let key = key(&home);
        let Some((other, ..)) = key.clone() else { continue };
        if !known.insert(key) {
            continue;
        }
        let Ok(text) = fs::read(home.join("mountinfo")) else { continue };
        found.push(Namespace { pid: (other != name).then_some(pid), name: other, lines: lines(&text) });
    }
    Ok(found)
}

/// A process's mount namespace and its root, from which mountinfo is seen.
type Key = (PathBuf, u64, (u32, u32, u64));

fn key(home: &Path) -> Option<Key> {
    let namespace = fs::read_link(home.join("ns/mnt")).ok()?;
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let root = statx(CWD, home.join("root"), flags, StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
    Some((namespace, root.stx_mnt_id, (root.stx_dev_major, root.stx_dev_minor, root.stx_ino)))
}

fn lines(text: &[u8]) -> Vec<Line> {
    String::from_utf8_lossy(text).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Line> {
    let (own, system) = line.split_once(" - ")?;
    let mut own = own.split(' ');
    let (id, parent) = (own.next()?.parse().ok()?, own.next()?.parse().ok()?);
    let device = own.next()?.to_owned();
    let (root, point) = (mountinfo::unescape(own.next()?), mountinfo::unescape(own.next()?));
    let mut system = system.split(' ').skip(2);
    let options = mountinfo::unescape(system.next().unwrap_or_default());
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let is_read_only = read_only(own.next()?) || read_only(&options);
    let mut line = Line { id, parent, device, root, point, is_read_only, options, ..Line::default() };
    for field in own {
        match field.split_once(':') {
            Some(("shared", group)) => line.shared = group.parse().ok(),
            Some(("master", group)) => line.master = group.parse().ok(),
            _ => {}
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn root() -> Root {
        let target = AbsPath::parse("/srv/app").unwrap();
        Root { id: 1, device: "0:9".to_owned(), path: "/srv/app".to_owned(), target }
    }

    fn namespace(pid: Option<u32>, text: &str) -> Namespace {
        let name = if pid.is_some() { "other" } else { "own" };
        Namespace { name: name.into(), pid, lines: lines(text.as_bytes()) }
    }

    const OWN: &str = "1 0 0:9 / / rw shared:1 - tmpfs tmpfs rw";

    /// The paths at which a namespace shows the tree, those in which programs may write with a mark.
    fn shown(pid: Option<u32>, text: &str, before: bool) -> Vec<String> {
        let (root, both) = (root(), [namespace(None, OWN), namespace(pid, text)]);
        let reached = if before { reached(&root, &both) } else { BTreeSet::new() };
        let views = root.views(&both, &reached).into_iter();
        views.map(|view| view.path + if view.is_written { "!" } else { "" }).collect()
    }

    #[test]
    fn mounts_that_show_the_tree() {
        for (pid, text, found) in [
            (None, "5 1 0:9 / /mnt rw - tmpfs tmpfs rw", &["/mnt/srv/app"][..]),
            (None, "5 1 0:9 /srv /mnt rw - tmpfs tmpfs rw", &["/mnt/app"]),
            (None, "5 1 0:9 /srv/app /mnt rw - tmpfs tmpfs rw", &["/mnt!"]),
            (None, "5 1 0:9 /srv/app/a\\040b /mnt rw - tmpfs tmpfs rw", &["/mnt!"]),
            (None, "5 1 0:9 /srv/app/a /mnt ro - tmpfs tmpfs rw", &["/mnt"]),
            (None, "5 1 0:9 /srv/apple /mnt rw - tmpfs tmpfs rw", &[]),
            (None, "5 1 0:8 /srv/app /mnt rw - tmpfs tmpfs rw", &[]),
            (None, "5 1 0:7 / /mnt rw - overlay overlay rw,lowerdir=/x:/y,upperdir=/srv/app/up", &["/mnt!"]),
            (None, "5 1 0:7 / /mnt rw - overlay overlay rw,lowerdir=/srv/apple", &[]),
            // Another namespace: not reached by the mount; reached; the directory above is hidden.
            (Some(1), "5 4 0:9 / / rw - tmpfs tmpfs rw", &["/srv/app!"]),
            (Some(1), "5 4 0:9 / / rw - tmpfs tmpfs rw\n6 5 8:1 /srv/app /srv/app rw - ext4 x rw", &[]),
            (Some(1), "5 4 0:9 / / rw - tmpfs tmpfs rw\n6 5 0:3 / /srv rw - tmpfs x rw", &[]),
            (
                Some(1),
                "5 4 0:9 / / rw - tmpfs tmpfs rw\n6 5 0:3 / /srv/app/x rw - tmpfs x rw",
                &["/srv/app!"],
            ),
            (Some(1), "5 4 0:9 / /host ro - tmpfs tmpfs rw", &["/host/srv/app"]),
        ] {
            assert_eq!(shown(pid, text, false), found, "{text}");
        }
    }

    #[test]
    fn mounts_that_will_still_show_it() {
        for (text, found) in [
            ("5 4 0:9 / / rw - tmpfs tmpfs rw", &["/srv/app!"][..]),
            ("5 4 0:9 / / rw shared:1 - tmpfs tmpfs rw", &[]),
            (
                "5 4 0:9 / / rw shared:7 master:1 - tmpfs tmpfs rw\n6 3 0:9 /srv /x rw master:7 - tmpfs tmpfs rw",
                &[],
            ),
            ("5 4 0:9 / / rw master:3 - tmpfs tmpfs rw", &["/srv/app!"]),
            ("5 4 0:9 /srv/app /x rw master:1 - tmpfs tmpfs rw", &[]),
            ("5 4 0:9 /srv/app/a /x rw master:1 - tmpfs tmpfs rw", &["/x!"]),
        ] {
            assert_eq!(shown(Some(1), text, true), found, "{text}");
        }
    }
}
