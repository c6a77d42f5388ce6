//! A tree with a file of every kind, and a complete listing of a tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mkdirat,
    mknodat, open, openat, utimensat,
};

use super::command::{run, sh_on};
use super::look::Snapshot;

/// Depth of the deep part: more than a path can have.
const DEPTH: u32 = 1200;

/// A small tree with a hard link, a symbolic link, a sparse file and an owner.
pub fn small(place: &Path) {
    fs::create_dir_all(place.join("sub")).unwrap();
    fs::write(place.join("one"), "one").unwrap();
    fs::hard_link(place.join("one"), place.join("sub/two")).unwrap();
    symlink("one", place.join("link")).unwrap();
    fs::write(place.join("large"), [b'x'; 10_000]).unwrap();
    File::options().write(true).open(place.join("large")).unwrap().set_len(100_000).unwrap();
    chown(place.join("sub"), Some(7), Some(8)).unwrap();
}

/// Gives every file of a tree the same time.
pub fn set_times(dir: &Path) {
    let words: [&[&OsStr]; 2] = [
        &["find".as_ref(), dir.as_os_str()],
        &["-exec", "touch", "-hd@1000000000.5", "{}", "+"].map(OsStr::new),
    ];
    run(&words.concat()).ok();
}

/// A socket without a listener; bind(2) takes no path of more than 107 bytes.
pub fn socket(path: &Path) {
    mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o755), 0).unwrap();
}

/// Makes a tree with one of everything.
pub fn make(root: &Path) {
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    let file = |name: &str, content: &[u8], mode: u32, owner: (u32, u32)| {
        let path = root.join(name);
        fs::write(&path, content).unwrap();
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", b"plain", 0o644, (0, 0));
    file("owned", b"owned", 0o640, (193, 194));
    file("suid", b"suid", 0o4755, (7, 8));
    file("secret", b"secret", 0o000, (0, 0));
    file("empty", b"", 0o600, (1000, 100));
    file("sub/large", &vec![b'x'; 3_000_001], 0o444, (0, 0));
    file("new\nline", b"name", 0o644, (0, 0));
    file("-rf # ; *", b"name", 0o644, (0, 0));
    File::create(root.join(OsStr::from_bytes(b"no \xff text"))).unwrap();
    // A hole between data, and one at the end.
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 20 << 20).unwrap();
    sparse.set_len((30 << 20) + 5).unwrap();
    // Two names of one file within the tree, and a second name of a symbolic link.
    fs::hard_link(root.join("owned"), root.join("sub/again")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("../plain", root.join("sub/link")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("sub/dangling")).unwrap();
    std::os::unix::fs::lchown(root.join("dangling"), Some(5), Some(6)).unwrap();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("block", FileType::BlockDevice, makedev(7, 200)),
    ] {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
    }
    socket(&root.join("socket"));
    lsetxattr(root.join("plain"), "user.note", b"a\0b", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("sub"), "trusted.note", b"dir", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("dangling"), "trusted.note", b"link", XattrFlags::empty()).unwrap();
    sh_on("setfacl -m u:1234:rw,g:55:r", &[&root.join("plain")]);
    sh_on("setfacl -m u:1234:rwx -d -m u:1234:rwx,o::-", &[&root.join("sub")]);
    // CAP_NET_BIND_SERVICE, as written by setcap(8).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(root.join("suid"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o2751)).unwrap();
    chown(root, Some(193), Some(194)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o1750)).unwrap();
    age(root);
}

/// Makes folders below each other, more than a path can name, and a file at the bottom.
pub fn make_deep(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let mut dir = open(root, OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        mkdirat(&dir, "deep", Mode::from_raw_mode(0o750)).unwrap();
        dir = openat(&dir, "deep", OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(file, b"deep").unwrap();
}

/// Content of the file at the bottom.
pub fn bottom(root: &Path) -> String {
    let mut dir = open(root, OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        dir = openat(&dir, "deep", OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "bottom", OFlags::RDONLY, Mode::empty()).unwrap();
    std::io::read_to_string(File::from(file)).unwrap()
}

/// Sets old times on some of the files.
fn age(root: &Path) {
    let past = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: past, last_modification: past };
    for name in ["plain", "dangling", "fifo", "sub/empty", "sub", ""] {
        utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A tree with all attributes to be kept: [`Snapshot`], and times, devices, holes and hard links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    snapshot: Snapshot,
    rest: BTreeMap<PathBuf, String>,
}

impl Look {
    pub fn of(root: &Path) -> Self {
        let mut rest = BTreeMap::new();
        let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
        look(root, Path::new(""), &mut names, &mut rest);
        Self { snapshot: Snapshot::of(root), rest }
    }

    /// Differences of two trees.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = self.snapshot.losses(&other.snapshot);
        differences.extend(other.snapshot.news(&self.snapshot));
        for path in self.rest.keys().chain(other.rest.keys()) {
            let (one, two) = (self.rest.get(path), other.rest.get(path));
            if one != two {
                differences.push(format!("{}: {one:?}, then {two:?}", path.display()));
            }
        }
        differences.dedup();
        differences
    }
}

/// A path below another one; of a file there is nothing but itself.
pub fn below_of(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) }
}

fn look(root: &Path, below: &Path, names: &mut BTreeMap<u64, PathBuf>, rest: &mut BTreeMap<PathBuf, String>) {
    let path = below_of(root, below);
    let meta = fs::symlink_metadata(&path).unwrap();
    let mut line = format!("{}.{} {:x}", meta.mtime(), meta.mtime_nsec(), meta.rdev());
    if !meta.is_dir() {
        let first = names.entry(meta.ino()).or_insert_with(|| below.to_owned());
        write!(line, " {} {}", meta.nlink(), first.display()).unwrap();
    }
    rest.insert(below.to_owned(), line);
    if meta.is_dir() {
        let mut inside: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        inside.sort();
        for name in inside {
            look(root, &below.join(name), names, rest);
        }
    }
}
