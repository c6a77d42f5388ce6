//! Attributes of a file besides its content, and omitted files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use serde_json::json;

use super::{NEW, OLD, are_same, disks, manifest, migrate, new, old, write};
use crate::support::command::sh_on;
use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Root, Snapshot, namespace, run};
use crate::support::{json_of, trees};

/// A default ACL on the store gives no user access to a restricted file.
pub fn default_acls_give_no_access() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    for path in ["srv/a/new/report", "srv/a/report", "etc/report"] {
        write(old(path), "secret");
        chown(old(path), Some(0), Some(4)).unwrap();
        fs::set_permissions(old(path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::create_dir_all(new("srv/a")).unwrap();
    sh_on("setfacl -m u:1000:rwx -d -m u:1000:rwx", &[Path::new(NEW), &new("srv"), &new("srv/a")]);
    sh_on("setfacl -b", &[&old("srv/a"), &new("srv/a")]);
    sh_on("setfacl -d -m u:1000:rwx", &[&new("srv/a")]);
    manifest(json!([{ "directory": "/srv/a" }, { "file": "/etc/report" }]));
    let output = migrate(&["--force", "/srv/a"]).ok();
    are_same(old("srv/a"), new("srv/a"), &output);
    for path in ["srv/a/new/report", "srv/a/new", "srv/a/report", "srv/a", "etc/report", "etc"] {
        let acl = sh_on("getfacl --omit-header --numeric --absolute-names", &[&new(path)]);
        assert!(!acl.contains("user:1000"), "{path}: {acl}");
    }
    assert_eq!(stat(new("etc/report")), (0o100_640, 0, 4));
}

/// Immutable and append-only files keep their flags, also after a run stopped before it set them.
pub fn inode_flags_are_kept() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    write(old("srv/a/dir/fixed"), "fixed");
    write(old("srv/a/log"), "log");
    write(old("etc/fixed"), "etc");
    let sealed = |root: &str, words: &str| {
        let at = |path: &str| Path::new(root).join(path);
        sh_on(format!("chattr {words}i"), &[&at("srv/a/dir/fixed"), &at("srv/a/dir"), &at("etc/fixed")]);
        sh_on(format!("chattr {words}a"), &[&at("srv/a/log"), &at("srv/a")]);
    };
    let flags = |root: &str| {
        let paths = ["srv/a", "srv/a/dir", "srv/a/dir/fixed", "srv/a/log", "etc/fixed"];
        let all = paths.map(|path| sh_on("lsattr -d", &[&Path::new(root).join(path)]));
        all.map(|line| line.split(' ').next().unwrap().replace(['e', '-'], ""))
    };
    sealed(OLD, "+");
    manifest(json!([{ "directory": "/srv/a" }, { "file": "/etc/fixed" }]));
    migrate(&[]).ok();
    assert_eq!(flags(NEW), ["a", "i", "i", "a", "i"]);
    let output = migrate(&[]).ok();
    assert!(output.stdout.contains("there already  /srv/a\n"), "{output:?}");
    // The state after a run killed before the flags.
    sealed(NEW, "-");
    migrate(&[]).ok();
    assert_eq!(flags(NEW), flags(OLD));
    // A file added to an append-only directory.
    write(old("srv/a/more"), "more");
    let output = migrate(&[]).ok();
    assert_eq!(fs::read_to_string(new("srv/a/more")).unwrap(), "more", "{output:?}");
    // A protected file on the store is replaced where asked for.
    sh_on("chattr -i", &[&old("etc/fixed")]);
    write(old("etc/fixed"), "another");
    sh_on("chattr +i", &[&old("etc/fixed")]);
    migrate(&[]).expect(1).says_in_one_line(&["/etc/fixed: ", "differs in size", "stays"]);
    migrate(&["--force", "/etc/fixed"]).ok();
    assert_eq!(fs::read_to_string(new("etc/fixed")).unwrap(), "another");
    assert_eq!(flags(NEW), flags(OLD));
    // Protection on the store alone is a difference.
    sh_on("chattr -i", &[&old("etc/fixed")]);
    migrate(&[]).expect(1).says_in_one_line(&["/etc/fixed: ", "differs in inode flags", "has the same time"]);
    sealed(NEW, "-");
    sealed(OLD, "-");
}

/// A backup may have device nodes of other devices. An overlay marks deleted files by 0:0.
pub fn device_nodes_are_left_out() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 16);
    write(old("srv/a/file"), "file");
    let node = |name: &str, kind, device| {
        mknodat(CWD, old("srv/a").join(name), kind, Mode::from_raw_mode(0o666), device).unwrap();
    };
    node("disk", FileType::BlockDevice, makedev(7, 0));
    node("memory", FileType::CharacterDevice, makedev(1, 1));
    node("whiteout", FileType::CharacterDevice, makedev(0, 0));
    node("fifo", FileType::Fifo, 0);
    manifest(json!([{ "directory": "/srv/a" }]));
    let output = migrate(&[]).ok();
    assert!(
        output
            .stdout
            .contains("2 device nodes left out, which --devices copies: /srv/a/disk, /srv/a/memory\n"),
        "{output:?}"
    );
    let is_there = |name: &str| new("srv/a").join(name).symlink_metadata().is_ok();
    assert!(!is_there("disk") && !is_there("memory") && is_there("whiteout") && is_there("file"));
    assert!(fs::metadata(new("srv/a/fifo")).unwrap().file_type().is_fifo());
    let again = json_of(&migrate(&["--json"]).ok(), "migrate");
    assert_eq!(again["devices"], json!(["/srv/a/disk", "/srv/a/memory"]));
    assert_eq!(again["entries"][0]["standing"], "complete");
    let output = migrate(&["--devices"]).ok();
    are_same(old("srv/a"), new("srv/a"), &output);
    drop(store);
}

/// rename(2) does not leave a subvolume, and hard links do not either.
pub fn a_nested_subvolume() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Btrfs, 16);
    sh_on("btrfs --quiet subvolume create", &[&new("home")]);
    fs::create_dir(new("home/u")).unwrap();
    sh_on("btrfs --quiet subvolume create", &[&new("home/u/own")]);
    trees::make(&old("home/u/tree"));
    write(old("home/u/own/file"), "file");
    write(old("home/v/deep/file"), "file");
    write(old("srv/a/file"), "file");
    manifest(json!([
        { "directory": "/home/u/tree" }, { "directory": "/home/u/own" }, { "directory": "/home/v/deep" }, { "directory": "/srv/a" },
    ]));
    let output = migrate(&["--devices"]).ok();
    for path in ["home/u/tree", "home/u/own", "home/v/deep", "srv/a"] {
        are_same(old(path), new(path), &output);
    }
    for top in ["", "home", "home/u/own"] {
        assert!(!new(top).join(".imp-mount").exists(), "{top}");
    }
}

/// Across entries of a store, whichever of them is there first.
pub fn hard_links_across_entries() {
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    write(old("srv/b/one"), "one");
    for path in ["srv/a/one", "srv/c/one", "etc/one"] {
        fs::create_dir_all(old(path).parent().unwrap()).unwrap();
        fs::hard_link(old("srv/b/one"), old(path)).unwrap();
    }
    manifest(json!([{ "directory": "/srv/b" }]));
    migrate(&[]).ok();
    manifest(json!([
        { "directory": "/srv/a" }, { "directory": "/srv/b" }, { "directory": "/srv/c", "source": "/moved" }, { "file": "/etc/one" },
    ]));
    migrate(&[]).ok();
    let first = fs::metadata(new("srv/a/one")).unwrap();
    for path in ["srv/b/one", "moved/one", "etc/one"] {
        assert_eq!(fs::metadata(new(path)).unwrap().ino(), first.ino(), "{path}");
    }
    assert_eq!(first.nlink(), 4);
    let output = migrate(&[]).ok();
    assert!(!output.stdout.contains("copied  "), "{output:?}");
    // A directory at the path of one of the names is no hard link, and --force does not replace it.
    fs::remove_file(new("srv/b/one")).unwrap();
    fs::create_dir(new("srv/b/one")).unwrap();
    for words in [&[][..], &["--force", "/srv/b"]] {
        let output = migrate(words).expect(1);
        assert!(!output.stderr.contains("--force and this path"), "{output:?}");
        output.says_in_one_line(&[
            "error: /srv/b/one: ",
            "differs in type",
            "stays; compare the two, move the store's away, and run again; --force replaces no directory by a file",
        ]);
    }
}

/// The private directory of a store is neither brought, nor counted, nor named.
pub fn the_private_directory_stays() {
    let (source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    // An old store is the source root, with a stopped copy.
    write(old("srv/a/file"), "file");
    write(old(".imp-mount/staging/tree-0/secret"), "secret");
    write(old("srv/.imp-mount/data"), "data");
    for path in [".imp-mount", ".imp-mount/staging"] {
        fs::set_permissions(old(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    lsetxattr(old(".imp-mount"), "trusted.imp-mount.private", b"", XattrFlags::empty()).unwrap();
    manifest(json!([{ "directory": "/srv" }]));
    let output = migrate(&[]).ok();
    assert!(!output.stdout.contains("/.imp-mount"), "{output:?}");
    assert!(!new(".imp-mount").exists());
    assert_eq!(fs::read_to_string(new("srv/.imp-mount/data")).unwrap(), "data", "one of that name only");
    // Below an entry, and where the top of a store is an entry's source.
    fs::rename(old(".imp-mount"), old("srv/a/.imp-mount")).unwrap();
    manifest(json!([{ "directory": "/srv/a", "source": "/" }]));
    write(old("srv/a/file2"), "file");
    let output = migrate(&["--force", "/"]).ok();
    assert!(new("file2").exists() && !new(".imp-mount").exists(), "{output:?}");
    drop(source);
}

/// A different file does not count as present.
pub fn a_top_that_differs() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 16);
    for path in ["srv/link/file", "srv/owner/file", "srv/other/file", "mnt/own"] {
        write(old(path), path);
    }
    fs::create_dir(new("srv")).unwrap();
    symlink("/etc", new("srv/link")).unwrap();
    run(&["cp", "-a", "/tmp/old/srv/owner", "/tmp/old/srv/other", "/tmp/new/srv"]).ok();
    chown(new("srv/owner"), Some(5), Some(5)).unwrap();
    write(new("srv/other/file"), "SRV/other/file");
    run(&["touch", "-r", "/tmp/old/srv/other/file", "/tmp/new/srv/other/file"]).ok();
    fs::create_dir_all(old("mnt")).unwrap();
    namespace::tmpfs(old("mnt"), "mode=0755");
    manifest(json!([
        { "directory": "/mnt" }, { "directory": "/srv/link" }, { "directory": "/srv/owner" }, { "directory": "/srv/other" },
    ]));
    let before = store.snapshot();
    let output = migrate(&[]).expect(1);
    for line in [
        "another file system  /mnt\n",
        "1 differs            /srv/link\n",
        "1 differs            /srv/owner\n",
    ] {
        assert!(output.stdout.contains(line), "{line}: {output:?}");
    }
    for words in [
        ["error: /mnt: another file system is mounted there, and is left out", ""],
        ["error: /srv/link: ", "differs in type"],
        ["error: /srv/owner: ", "differs in owner"],
        ["error: /srv/other/file: ", "differs in content"],
    ] {
        output.clone().says_in_one_line(&words);
    }
    assert_eq!(store.snapshot(), before);
    // A path at and below which all is replaced; a directory does not take the place of a link.
    let output = migrate(&["--force", "/"]).expect(1);
    output.clone().says_in_one_line(&["error: /srv/link: ", "differs in type", "stays"]);
    for path in ["srv/owner", "srv/other"] {
        are_same(old(path), new(path), &output);
    }
    fs::remove_file(old("srv/other/file")).unwrap();
    symlink("owner", old("srv/other/file")).unwrap();
    migrate(&["--force", "/srv/other"]).expect(1);
    assert_eq!(fs::read_link(new("srv/other/file")).unwrap(), Path::new("owner"));
}

/// A file with restricted access is not copied into a directory with wider access, by any owner.
pub fn a_directory_that_shows_more() {
    /// The system's owner, group and mode; the store's; an ACL there; whether the content is brought.
    type Case = ([u32; 3], [u32; 3], Option<&'static str>, bool);
    let (_source, _store) = disks(Fs::Ext4, Fs::Ext4, 16);
    manifest(json!([{ "directory": "/srv" }]));
    let cases: &[Case] = &[
        ([0, 0, 0o700], [0, 0, 0o755], None, false),
        ([0, 0, 0o700], [0, 0, 0o711], None, false),
        ([0, 0, 0o750], [0, 0, 0o700], None, true),
        ([0, 0, 0o700], [1000, 0, 0o700], None, false),
        ([1000, 0, 0o700], [0, 0, 0o700], None, true),
        ([0, 4, 0o750], [0, 1000, 0o750], None, false),
        ([0, 4, 0o750], [0, 1000, 0o700], None, true),
        ([0, 4, 0o750], [0, 4, 0o750], Some("u:1000:rx"), false),
        ([0, 4, 0o755], [1000, 1000, 0o777], None, true),
        ([0, 4, 0o705], [0, 4, 0o755], None, false),
    ];
    for (number, (one, other, acl, is_brought)) in cases.iter().enumerate() {
        for (top, [uid, gid, mode]) in [(OLD, one), (NEW, other)] {
            let dir = Path::new(top).join(format!("srv/{number}"));
            fs::create_dir_all(&dir).unwrap();
            chown(&dir, Some(*uid), Some(*gid)).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(*mode)).unwrap();
        }
        write(old("srv").join(number.to_string()).join("letter"), "mine");
        if let Some(acl) = acl {
            sh_on(format!("setfacl -m {acl}"), &[&new("srv").join(number.to_string())]);
        }
        let output = migrate(&[]).expect(1);
        let (path, found) = (format!("/srv/{number}"), format!("{one:?} {other:?} {acl:?}: {output:?}"));
        assert_eq!(new(&path[1..]).join("letter").exists(), *is_brought, "{found}");
        let named: Vec<_> =
            output.stderr.lines().filter(|line| line.contains(&format!("{path}: "))).collect();
        let words = if *is_brought { "and stays" } else { "nothing is copied into it" };
        assert!(matches!(named[..], [line] if line.contains(words)), "{found}");
        assert_eq!(output.stdout.contains("incomplete"), !is_brought, "{found}");
        // The command of the remedy.
        let output = migrate(&["--force", &path]).ok();
        are_same(old(&path[1..]), new(&path[1..]), &output);
    }
}

/// An unmounted store is a directory of the root's disk; a copy would fill this disk.
pub fn a_path_on_the_root() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 64));
    let all = json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/srv/a" }] });
    machine.manifest(&all);
    machine.build().ok();
    machine.switch_root();
    let disk = Disk::new(Fs::Ext4, 16);
    disk.mount(machine.at("/new"));
    for path in ["/new/persist", "/plain", "/old/srv/a"] {
        fs::create_dir_all(machine.at(path)).unwrap();
    }
    write(machine.at("/old/srv/a/file"), "file");
    let migrate = |store: &str| machine.impctl("migrate", &["--from", "/old", "--store", store]);
    let before = Snapshot::of(&machine.at("/"));
    migrate("/plain").expect(2).says_in_one_line(&[
        "error: store /persist: nothing is mounted at /plain, which is only a path on the root",
        "mount its disk",
        "`mount --bind /plain /plain`",
    ]);
    assert_eq!(Snapshot::of(&machine.at("/")), before);
    // A directory of another disk, as in an installer.
    let output = migrate("/new/persist").ok();
    are_same(machine.at("/old/srv/a"), machine.at("/new/persist/srv/a"), &output);
}
