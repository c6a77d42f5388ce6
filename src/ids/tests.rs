//! Real files, honest and hostile, in a directory in place of a store.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mknodat, openat};
use tempfile::TempDir;

use super::*;
use crate::manifest::{BindOptions, Method, Missing, Owner, Phase, Store};
use crate::sys::walk;

/// Two stores and a live root, each a directory.
struct Trees(TempDir);

impl Trees {
    fn new() -> Self {
        let trees = Self(TempDir::new().unwrap());
        for name in ["live", "0", "1"] {
            fs::create_dir(trees.0.path().join(name)).unwrap();
        }
        trees
    }

    /// Writes a trusted file in trusted directories, with any umask.
    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        make_parent(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
}

fn make_parent(path: &Path) {
    let parent = path.parent().unwrap();
    if !parent.exists() {
        make_parent(parent);
        fs::create_dir(parent).unwrap();
        fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    }
}

impl Files for Trees {
    fn open(&self, place: &Place) -> Result<Option<OwnedFd>> {
        let (tree, path) = match place {
            Place::Live(path) => ("live".to_owned(), path),
            Place::Store(store, path) => (store.to_string(), path),
        };
        let root =
            openat(CWD, self.0.path().join(tree), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        match walk::open_below(root.as_fd(), path, OFlags::RDONLY, walk::Mounts::Enter) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Problem::os("cannot open it", errno)),
        }
    }
}

fn path(text: &str) -> AbsPath {
    AbsPath::parse(text).unwrap()
}

fn entry(target: &str, kind: manifest::Kind, store: u16, source: Option<&str>) -> Entry {
    Entry {
        target: path(target),
        kind,
        store,
        source: source.map(path),
        owner: Owner::default(),
        parents: None,
        method: Method::Bind,
        missing: Missing::Link,
        options: BindOptions::NONE,
        required: true,
        enforce: false,
        hidden: false,
        trash: false,
        phase: Phase::Boot,
    }
}

fn manifest(entries: Vec<Entry>) -> Manifest {
    let store =
        |text| Store { path: path(text), required: true, device: None, fstype: None, options: Vec::new() };
    Manifest { stores: vec![store("/persist"), store("/other")], entries, ..Manifest::default() }
}

/// /var/lib/nixos and /etc/passwd persist.
fn usual() -> Manifest {
    manifest(vec![
        entry("/etc/passwd", manifest::Kind::File, 0, None),
        entry("/var/lib/nixos", manifest::Kind::Directory, 0, None),
    ])
}

fn name(text: &str) -> Id {
    Id::Name(text.to_owned())
}

/// The warnings of a search for `plex`, which must find no id.
fn distrust(trees: &Trees) -> Vec<String> {
    let manifest = usual();
    let mut names = Names::new(&manifest, false, trees);
    assert_eq!(names.user(Some(&name("plex"))), None);
    names.warnings().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_distrusted(trees: &Trees, words: &[&str]) {
    let warnings = distrust(trees);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for word in words {
        assert!(warnings[0].contains(word), "{word} is not in: {}", warnings[0]);
    }
}

const MAP: &str = "0/var/lib/nixos/uid-map";

#[test]
fn the_deepest_entry_keeps_a_path() {
    let manifest = manifest(vec![
        entry("/var", manifest::Kind::Directory, 0, None),
        entry("/var/lib", manifest::Kind::Directory, 1, Some("/state")),
        entry("/var/lib/nixos/uid-map", manifest::Kind::File, 0, Some("/ids/users")),
        entry("/var/lib/nixos/gid-*", manifest::Kind::Glob, 0, None),
    ]);
    let place = |text| locate(&manifest, &path(text));
    assert_eq!(place("/var/log/x"), Some(Place::Store(0, path("/var/log/x"))));
    assert_eq!(place("/var/lib/nixos/gid-map"), Some(Place::Store(1, path("/state/nixos/gid-map"))));
    assert_eq!(place("/var/lib/nixos/uid-map"), Some(Place::Store(0, path("/ids/users"))));
    assert_eq!(place("/var/lib"), Some(Place::Store(1, path("/state"))));
    assert_eq!(place("/etc/passwd"), None);
    assert_eq!(place("/variable"), None);
}

#[test]
fn every_source_in_its_order() {
    let trees = Trees::new();
    let mut manifest = usual();
    manifest.ids.users.insert("a".to_owned(), 1);
    let sources = [
        ("live/etc/passwd", "b"),
        ("0/etc/passwd", "c"),
        ("0/var/lib/nixos/passwd", "d"),
        ("0/var/lib/nixos/etc/passwd", "e"),
    ];
    // Every source knows all names of the earlier ones, with other ids.
    for (step, (file, _)) in sources.iter().enumerate() {
        let mut lines = "a:x:99:1::/:/x\n".to_owned();
        for (_, user) in &sources[..=step] {
            writeln!(lines, "{user}:x:{}:1::/:/x", step + 2).unwrap();
        }
        trees.write(file, lines);
    }
    trees.write(MAP, r#"{"a":99,"b":99,"c":99,"d":99,"e":99,"f":"6"}"#);
    let mut names = Names::new(&manifest, true, &trees);
    for (user, id) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5), ("f", 6)] {
        assert_eq!(names.user(Some(&name(user))), Some(id), "{user}");
    }
    assert_eq!(names.user(Some(&name("g"))), None);
    assert_eq!(names.group(Some(&name("a"))), None, "groups are numbered apart");
    assert_eq!(names.user(Some(&Id::Number(7))), Some(7));
    assert_eq!((names.user(None), names.group(Some(&name("root")))), (Some(0), Some(0)));
    assert_eq!(names.warnings(), []);
    let mut booting = Names::new(&manifest, false, &trees);
    assert_eq!(booting.user(Some(&name("b"))), Some(3), "the initrd's own users are not asked");
}

#[test]
fn files_that_do_not_persist_are_not_read() {
    let trees = Trees::new();
    trees.write(MAP, r#"{"plex":193}"#);
    let manifest = manifest(Vec::new());
    let mut names = Names::new(&manifest, false, &trees);
    assert_eq!(names.user(Some(&name("plex"))), None);
    assert_eq!(names.warnings(), []);
}

#[test]
fn groups_have_files_of_their_own() {
    let trees = Trees::new();
    trees.write("0/var/lib/nixos/group", "plex:x:193:\n");
    trees.write("0/var/lib/nixos/gid-map", r#"{"plex":1,"sonarr":274}"#);
    trees.write(MAP, r#"{"plex":1,"sonarr":1}"#);
    let manifest = usual();
    let mut names = Names::new(&manifest, false, &trees);
    assert_eq!(names.group(Some(&name("plex"))), Some(193));
    assert_eq!(names.group(Some(&name("sonarr"))), Some(274));
}

#[test]
fn a_file_is_read_once() {
    let trees = Trees::new();
    trees.write(MAP, r#"{"plex":193,"sonarr":274}"#);
    let manifest = usual();
    let mut names = Names::new(&manifest, false, &trees);
    assert_eq!(names.user(Some(&name("plex"))), Some(193));
    fs::remove_file(trees.0.path().join(MAP)).unwrap();
    assert_eq!(names.user(Some(&name("sonarr"))), Some(274));
}

#[test]
fn a_file_that_cannot_be_believed_does_not_hide_the_next() {
    let trees = Trees::new();
    trees.write("0/etc/passwd", "plex:x:0:0::/:/x\n");
    trees.write("0/var/lib/nixos/passwd", "plex:x:5:5::/:/x\n\0");
    trees.write(MAP, r#"{"plex":193}"#);
    let manifest = usual();
    let mut names = Names::new(&manifest, false, &trees);
    assert_eq!(names.user(Some(&name("plex"))), Some(193));
    let warnings = names.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0].at, "/persist/etc/passwd");
    assert!(warnings[0].what.contains("the id 0"), "{}", warnings[0]);
    assert_eq!(names.user(Some(&name("plex"))), Some(193));
    assert_eq!(names.warnings(), [], "each is told once");
}

#[test]
fn a_symlink() {
    let trees = Trees::new();
    trees.write("0/real", r#"{"plex":193}"#);
    trees.write("0/var/lib/nixos/x", "");
    symlink("/real", trees.0.path().join(MAP)).unwrap();
    assert_distrusted(&trees, &["/persist/var/lib/nixos/uid-map", "cannot open"]);
}

#[test]
fn a_linked_etc_passwd_of_the_running_system_is_no_surprise() {
    let trees = Trees::new();
    trees.write("live/var/lib/nixos/passwd", "plex:x:193:193::/:/x\n");
    trees.write("live/etc/x", "");
    symlink("../var/lib/nixos/passwd", trees.0.path().join("live/etc/passwd")).unwrap();
    let manifest = manifest(Vec::new());
    let mut names = Names::new(&manifest, true, &trees);
    assert_eq!(names.user(Some(&name("plex"))), Some(193));
    assert_eq!(names.warnings(), []);
}

#[test]
fn a_fifo_does_not_block() {
    let trees = Trees::new();
    trees.write("0/var/lib/nixos/x", "");
    mknodat(CWD, trees.0.path().join(MAP), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .unwrap();
    assert_distrusted(
        &trees,
        &["/persist/var/lib/nixos/uid-map", "a FIFO in place of a file", "move it away"],
    );
}

#[test]
fn a_directory() {
    let trees = Trees::new();
    trees.write("0/var/lib/nixos/uid-map/x", "");
    assert_distrusted(&trees, &["a directory in place of a file"]);
}

#[test]
fn writable_by_others() {
    let trees = Trees::new();
    trees.write(MAP, r#"{"plex":193}"#);
    fs::set_permissions(trees.0.path().join(MAP), Permissions::from_mode(0o646)).unwrap();
    assert_distrusted(&trees, &["mode 0646", "chmod go-w"]);
}

#[test]
fn of_another_owner() {
    let trees = Trees::new();
    trees.write(MAP, r#"{"plex":193}"#);
    let other = rustix::process::geteuid().as_raw() + 1000;
    if chown(trees.0.path().join(MAP), Some(other), None).is_err() {
        eprintln!("SKIPPED of_another_owner: giving a file away takes CAP_CHOWN");
        return;
    }
    assert_distrusted(&trees, &[&format!("uid {other}"), "chown root"]);
}

#[test]
fn huge() {
    let trees = Trees::new();
    trees.write(MAP, format!(r#"{{"plex":193{}}}"#, " ".repeat(4 << 20)));
    assert_distrusted(&trees, &["larger than 4 MiB"]);
    trees.write(MAP, format!(r#"{{"plex":193{}}}"#, " ".repeat((4 << 20) - 12)));
    let manifest = usual();
    assert_eq!(
        Names::new(&manifest, false, &trees).user(Some(&name("plex"))),
        Some(193),
        "4 MiB are not too many"
    );
}

#[test]
fn cut_short_or_overwritten() {
    for content in [r#"{"plex":193"#, r#"{"plex":193,"plex":0}"#, "{\"plex\":193}\0", ""] {
        let trees = Trees::new();
        trees.write(MAP, content);
        assert_distrusted(&trees, &["no map of names"]);
    }
}

#[test]
fn ids_that_are_never_given() {
    for (id, why) in [("0", "which is root's alone"), ("4294967295", "means nobody")] {
        let trees = Trees::new();
        trees.write(MAP, format!(r#"{{"plex":{id}}}"#));
        assert_distrusted(&trees, &[why, "take `plex` out"]);
    }
}

#[test]
fn markers_give_the_id_of_their_owner() {
    let trees = Trees::new();
    trees.write("0/var/lib/nixos/uid/plex", "");
    trees.write("0/var/lib/nixos/gid/plex", "");
    let given = chown(trees.0.path().join("0/var/lib/nixos/uid/plex"), Some(193), Some(1)).is_ok()
        && chown(trees.0.path().join("0/var/lib/nixos/gid/plex"), Some(0), Some(194)).is_ok();
    if !given {
        eprintln!("SKIPPED markers_give_the_id_of_their_owner: giving a file away takes CAP_CHOWN");
        return;
    }
    let manifest = usual();
    let mut names = Names::new(&manifest, false, &trees);
    assert_eq!(names.user(Some(&name("plex"))), Some(193));
    assert_eq!(names.group(Some(&name("plex"))), Some(194));
    assert_eq!(names.user(Some(&name("sonarr"))), None);
    assert_eq!(names.warnings(), []);
}

#[test]
fn markers_writable_by_others_are_ignored() {
    let trees = Trees::new();
    trees.write("0/var/lib/nixos/uid/plex", "");
    let directory = trees.0.path().join("0/var/lib/nixos/uid");
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
    assert_distrusted(&trees, &["/persist/var/lib/nixos/uid", "mode 1777"]);
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(directory.join("plex")).unwrap();
    symlink("x", directory.join("plex")).unwrap();
    assert_distrusted(&trees, &["the marker `plex` is no file"]);
}
