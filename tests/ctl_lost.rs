//! `impctl lost`: what is found, what is left out, and whether du(1), find(1) and a next boot agree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::roots::manifest;
use crate::support::command::{installed, sh, sh_on};
use crate::support::namespace::{bind, tmpfs};
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, is_thorough, json_of, mounts, run};

tests![
    a_fresh_root_loses_nothing: Disk,
    a_built_root: Disk,
    a_disk_before_it_is_converted: Disk,
    without_a_manifest,
    sizes_are_those_of_du: Disk,
    many_files_and_directories,
    a_deep_tree,
    odd_names_are_shown_safely,
    what_cannot_be_read_is_said: Root,
    mounts_are_not_entered: Disk,
    what_comes_from_nixos,
    links_of_a_merged_usr,
    the_throw_away_list,
    a_directory_in_parts,
    an_entry_that_is_not_mounted: Disk,
    who_it_belongs_to: Root,
    a_path_is_enough,
    the_lines_keep_it: Root,
    a_line_for_many_files,
    for_terminals_and_pipes,
    what_cannot_be_done,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");

/// Runs it on a root, with words after.
fn impctl(root: &Path, words: &[&str]) -> Output {
    let mut line = vec![OsStr::new(PROGRAM), OsStr::new("lost"), OsStr::new("--root"), root.as_os_str()];
    line.extend(words.iter().map(OsStr::new));
    run(&line)
}

/// What it finds, which must fit the schema and say the same as the exit code; and nothing may have changed.
#[track_caller]
fn lost(root: &Path, words: &[&str]) -> Value {
    let look = || (mounts(), Snapshot::of(root));
    let before = look();
    let output = impctl(root, &[&["--json"], words].concat());
    assert_eq!(look(), before, "it changed something");
    let found = json_of(&output, "lost");
    let is_clean = found["lost"] == json!([]) && found["unread_count"] == 0;
    assert_eq!(output.code, Some(i32::from(!is_clean)), "{output:?}");
    found
}

/// The paths of a list, with what they are.
pub fn paths(list: &Value) -> BTreeSet<String> {
    let one = |it: &Value| format!("{} {}", it["kind"].as_str().unwrap(), it["path"].as_str().unwrap());
    list.as_array().unwrap().iter().map(one).collect()
}

/// One of a list.
#[track_caller]
pub fn at<'a>(list: &'a Value, path: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|it| it["path"] == path);
    found.unwrap_or_else(|| panic!("{path}: {list:#}"))
}

#[track_caller]
pub fn are(list: &Value, expected: &[&str]) {
    assert_eq!(paths(list), expected.iter().map(|it| (*it).to_owned()).collect(), "{list:#}");
}

/// Writes a file, and makes the directories above it.
pub fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// An empty root on a tmpfs.
fn root() -> &'static Path {
    let root = Path::new("/tmp/root");
    fs::create_dir_all(root).unwrap();
    tmpfs(root, "mode=0755");
    root
}

/// A manifest in a file, by its path.
fn manifest_of(entries: Value) -> String {
    let path = "/tmp/manifest.json".to_owned();
    fs::write(&path, manifest(Value::Null, entries).to_string()).unwrap();
    path
}

/// Bytes of a directory on the disk, by du(1).
pub fn du(path: &Path) -> u64 {
    sh_on("du -s -B1", &[path]).split_whitespace().next().unwrap().parse().unwrap()
}

/// Number of files on one file system, without directories, by find(1).
fn count(path: &Path) -> u64 {
    let output = run(&[
        "find".as_ref(),
        path.as_os_str(),
        "-xdev".as_ref(),
        "!".as_ref(),
        "-type".as_ref(),
        "d".as_ref(),
        "-printf".as_ref(),
        "x".as_ref(),
    ]);
    output.ok().stdout.len() as u64
}

fn built() -> (Machine, String) {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/var/lib/plex" },
        { "directory": "/home/ada/photos" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
        { "file": "/etc/ssh/ssh_host_*" },
        { "file": "/etc/link" },
        { "file": "/etc/copy", "method": "copy", "missing": "create" },
    ]);
    fs::create_dir_all(machine.at("/persist/etc/ssh")).unwrap();
    fs::write(machine.at("/persist/etc/ssh/ssh_host_key"), "key").unwrap();
    machine.manifest(&manifest(json!({ "size": "64M" }), entries));
    machine.build().ok();
    let compiled = machine.home().join("manifest").to_str().unwrap().to_owned();
    (machine, compiled)
}

fn a_fresh_root_loses_nothing() {
    let (machine, compiled) = built();
    let found = lost(&machine.at(""), &["--manifest", &compiled]);
    are(&found["lost"], &[]);
    assert_eq!((&found["volatile"], &found["manifest"]), (&json!(true), &json!(true)));
    let output = impctl(&machine.at(""), &["--manifest", &compiled]).ok();
    assert_eq!(output.stdout, "Nothing would be gone after the next boot.\n");
    assert_eq!(output.stderr, "");
}

fn a_built_root() {
    let (machine, compiled) = built();
    let root = machine.at("");
    for (path, content) in [
        ("/var/lib/plex/kept", "kept"),
        ("/var/lib/foo/a", "a"),
        ("/var/lib/foo/b/c", "c"),
        ("/home/ada/photos/kept", "kept"),
        ("/home/ada/.bashrc", "alias"),
        ("/home/ada/.config/x/y", "y"),
        ("/home/bob/notes", "notes"),
        ("/etc/foo.conf", "foo"),
        ("/etc/ssh/ssh_host_new", "new"),
        ("/etc/ssh/ssh_host_dir/x", "x"),
        // The same on the store, and changed since it was copied.
        ("/etc/ssh/ssh_host_both", "both"),
        ("/persist/etc/ssh/ssh_host_both", "both"),
        ("/etc/copy", "changed"),
        ("/tmp/x", "x"),
        ("/var/cache/x", "x"),
        ("/home/ada/.cache/x", "x"),
        ("/new", "new"),
    ] {
        put(&root, path, content);
    }
    fs::create_dir_all(root.join("var/lib/empty/below")).unwrap();
    let gone = [
        "directory /var/lib/foo",
        "directory /home/ada/.config",
        "directory /home/bob",
        "directory /etc/ssh/ssh_host_dir",
        "file /home/ada/.bashrc",
        "file /etc/foo.conf",
        "file /new",
    ];
    // Nothing here runs imp-mount --adopt at shutdown.
    let only_here = ["file /etc/ssh/ssh_host_new", "file /etc/copy"];
    let found = lost(&root, &["--manifest", &compiled]);
    are(&found["lost"], &[&gone[..], &only_here].concat());
    are(&found["brought"], &[]);
    assert_eq!(at(&found["lost"], "/etc/ssh/ssh_host_new")["unmounted"], true);
    let text = impctl(&root, &["--manifest", &compiled]).expect(1).stdout;
    assert!(text.contains("in the manifest, but ON THE ROOT ONLY"), "{text}");
    // A second line for the same path would be refused.
    let nix = impctl(&root, &["--manifest", &compiled, "--nix"]).expect(1);
    assert!(nix.stdout.contains("foo.conf") && !nix.stdout.contains("/etc/copy"), "{nix:?}");
    assert!(nix.stderr.contains("in the manifest, but on the root only: /etc/copy"), "{nix:?}");

    adopts_at_shutdown(&root);
    let found = lost(&root, &["--manifest", &compiled]);
    are(&found["lost"], &[&gone[..], &["directory /etc/systemd"]].concat());
    are(&found["brought"], &only_here);
    let text = impctl(&root, &["--manifest", &compiled]).expect(1).stdout;
    assert!(text.contains("imp-mount-adopt.service brings 2 more files to a store at shutdown"), "{text}");
    fs::remove_dir_all(root.join("etc/systemd")).unwrap();

    let found = lost(&root, &["--manifest", &compiled]);
    let one = at(&found["lost"], "/var/lib/foo");
    assert_eq!((&one["files"], &one["apparent"], &one["partly"]), (&json!(2), &json!(2), &json!(false)));
    assert_eq!(found["passed_over"], 3, "{found:#}");

    // The reboot agrees: what was named is gone, and nothing else is.
    let before = Snapshot::of(&machine.at("/persist"));
    machine.reboot().ok();
    assert!(!machine.at("/var/lib/foo").exists() && machine.at("/var/lib/plex/kept").exists());
    assert_eq!(before.losses(&Snapshot::of(&machine.at("/persist"))), [""; 0]);
    are(&lost(&root, &["--manifest", &compiled])["lost"], &[]);
}

/// Enables the unit that brings files to the stores at a shutdown, as systemctl(1) does.
pub fn adopts_at_shutdown(root: &Path) {
    let unit = include_str!("../initrd/dracut/system/imp-mount-adopt.service");
    put(root, "/etc/systemd/system/imp-mount-adopt.service", unit);
    let wants = root.join("etc/systemd/system/sysinit.target.wants");
    fs::create_dir(&wants).unwrap();
    symlink("/etc/systemd/system/imp-mount-adopt.service", wants.join("imp-mount-adopt.service")).unwrap();
}

fn a_disk_before_it_is_converted() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    let root = machine.at("");
    for path in [
        "/var/lib/plex/a",
        "/var/lib/foo/a",
        "/srv/media/a",
        "/etc/fstab",
        "/var/lib/deep/kept/a",
        "/var/lib/deep/lost/a",
    ] {
        put(&root, path, "content");
    }
    // A bind mount of the same disk: it has the same device number.
    fs::create_dir_all(root.join("var/bound")).unwrap();
    bind(root.join("srv/media"), root.join("var/bound"));
    fs::create_dir_all(root.join("mnt/memory")).unwrap();
    tmpfs(root.join("mnt/memory"), "");
    put(&root, "/mnt/memory/x", "x");
    let entries = json!([{ "directory": "/var/lib/plex" }, { "directory": "/var/lib/deep/kept" }]);
    machine.manifest(&manifest(json!({ "convert": "/persist" }), entries));
    let compiled = machine.home().join("manifest");

    let found = lost(&root, &["--manifest", compiled.to_str().unwrap()]);
    are(
        &found["lost"],
        &[
            "directory /var/lib/foo",
            "directory /srv/media",
            "file /etc/fstab",
            "directory /var/lib/deep/lost",
        ],
    );
    assert_eq!((&found["volatile"], &found["convert"]), (&json!(false), &json!("/persist")));
    let text = impctl(&root, &["--manifest", compiled.to_str().unwrap()]).expect(1).stdout;
    assert!(text.contains("No byte of it is removed: the disk becomes the store /persist"), "{text}");

    // As JSON and by default, from inside of that root.
    let default = root.join("etc/imp-mount/manifest");
    fs::create_dir_all(default.parent().unwrap()).unwrap();
    fs::create_dir_all(root.join("nix/store")).unwrap();
    fs::copy(&compiled, root.join("nix/store/manifest")).unwrap();
    symlink("/nix/store/manifest", &default).unwrap();
    let other = lost(&root, &[]);
    assert_eq!(
        paths(&other["lost"]),
        &paths(&found["lost"]) | &BTreeSet::from(["directory /nix".to_owned()])
    );
    machine.power_off();
}

fn without_a_manifest() {
    let root = root();
    put(root, "/var/lib/plex/a", "a");
    put(root, "/home/ada/notes", "notes");
    let found = lost(root, &[]);
    are(&found["lost"], &["directory /var/lib/plex", "directory /home/ada"]);
    assert_eq!(found["manifest"], false);
    let text = impctl(root, &[]).expect(1).stdout;
    assert!(text.contains("There is no manifest, so nothing is persisted yet"), "{text}");
    assert!(text.contains("-> what must stay: impctl review --fragment FILE"), "{text}");
}

fn sizes_are_those_of_du() {
    for fs in [Fs::Ext4, Fs::Xfs, Fs::Btrfs] {
        let machine = Machine::new(Root::Disk, Disk::new(fs, 0));
        let root = machine.at("");
        let folder = root.join("var/lib/foo");
        put(&root, "/var/lib/foo/hole", "");
        fs::File::options().write(true).open(folder.join("hole")).unwrap().set_len(1 << 40).unwrap();
        put(&root, "/var/lib/foo/full", vec![1; 300_000]);
        put(&root, "/var/lib/foo/below/it/small", "small");
        for name in ["one", "below/two", "below/it/three"] {
            fs::hard_link(folder.join("full"), folder.join(name)).unwrap();
        }
        sh("sync");
        let found = lost(&root, &[]);
        let one = at(&found["lost"], "/var/lib/foo");
        assert_eq!(one["allocated"], du(&folder), "{fs:?}: {one:#}");
        assert_eq!(one["apparent"], (1_u64 << 40) + 300_000 + 5);
        // As find(1) counts names, and a file with four of them is one.
        assert_eq!(one["files"], count(&folder) - 3);
        let newest = sh_on("stat -c %Y", &[&folder.join("below/it/small")]);
        assert_eq!(one["newest"].to_string(), newest.trim());

        // Times and owners are those of the files, not of when they were looked at.
        sh_on("touch -d @1000000000", &[&folder.join("hole")]);
        sh_on("touch -d @1000000001", &[&folder.join("full"), &folder.join("below/it/small")]);
        let found = lost(&root, &[]);
        assert_eq!(at(&found["lost"], "/var/lib/foo")["newest"], 1_000_000_001);
        machine.power_off();
    }
}

fn many_files_and_directories() {
    let root = root();
    // Flat, wide and both, in a directory with a name and in those that have none of their own.
    for folder in ["var/lib/flat", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        for number in 0..5000 {
            fs::write(root.join(format!("{folder}/{number}")), "x").unwrap();
        }
    }
    for number in 0..1000 {
        for name in ["a", "b/c"] {
            put(root, &format!("/var/lib/wide/{}/{number}/{name}", number % 7), "x");
        }
        put(root, &format!("/opt/{number}/x"), "x");
    }
    // Threads come and go as they like; what they find must not.
    let first = lost(root, &[]);
    for (path, files) in [("/var/lib/flat", 5000), ("/srv", 5000), ("/var/lib/wide", 2000)] {
        let found = at(&first["lost"], path);
        let folder = root.join(&path[1..]);
        assert_eq!((found["files"].as_u64(), count(&folder)), (Some(files), files), "{path}");
        assert_eq!(found["allocated"], du(&folder), "{path}");
    }
    assert_eq!(at(&first["lost"], "/srv")["kind"], "files");
    assert_eq!(first["lost"].as_array().unwrap().len(), 1003);
    assert_eq!(first["totals"]["files"], count(root));
    for _ in 0..if is_thorough() { 5 } else { 1 } {
        assert_eq!(lost(root, &[]), first);
    }
}

fn a_deep_tree() {
    let root = root();
    fs::create_dir_all(root.join("var/lib/deep")).unwrap();
    // Far deeper than a path may be long, and with something to come back to on every level.
    let script = r#"
import os
os.chdir("/tmp/root/var/lib/deep")
for level in range(5000):
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
    os.mkdir("side"); os.mkdir("a")
    os.chdir("a")
"#;
    let made = run(&["python3", "-c", script]);
    if made.code != Some(0) {
        // Without Python as deep as a path goes.
        let mut path = "/var/lib/deep".to_owned();
        for _ in 0..1000 {
            put(root, &format!("{path}/file"), "");
            path += "/a";
        }
    }
    let files = count(root);
    assert!(files >= 1000);
    // Also with fewer descriptors than levels, and on the way back up from each of these.
    for limit in ["", "ulimit -n 64; "] {
        let line = format!("{limit}exec {PROGRAM} lost --root {} --json", root.display());
        let output = run(&["sh", "-c", &line]).expect(1);
        let found = json_of(&output, "lost");
        are(&found["lost"], &["directory /var/lib/deep"]);
        assert_eq!((&found["totals"]["files"], &found["unread_count"]), (&json!(files), &json!(0)));
    }
    sh("rm -r /tmp/root/var/lib/deep");
}

fn odd_names_are_shown_safely() {
    let root = root();
    put(root, "/var/lib/two\nlines \x1b[31m${x} \"q\"/a", "a");
    put(root, "/etc/a*[b]\\c", "a");
    let odd = root.join("var/lib").join(OsStr::from_bytes(b"\xff\xfe"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("a"), "a").unwrap();
    let found = lost(root, &[]);
    assert_eq!(found["lost"].as_array().unwrap().len(), 3);
    assert_eq!(at(&found["lost"], "/var/lib/two\nlines \x1b[31m${x} \"q\"")["files"], 1);
    assert_eq!(at(&found["lost"], "/etc/a*[b]\\c")["entry"], json!({ "file": "/etc/a\\*\\[b]\\\\c" }));
    let broken = at(&found["lost"], "/var/lib/\u{fffd}\u{fffd}");
    assert_eq!((&broken["entry"], &broken["bytes"]), (&Value::Null, &json!(b"/var/lib/\xff\xfe")));

    let text = impctl(root, &[]).expect(1).stdout;
    assert!(!text.contains('\x1b') && text.lines().count() <= 8, "{text}");
    assert!(
        text.contains(r"/var/lib/two\nlines \u{1b}[31m${x}") && text.contains(r"/var/lib/\xff\xfe/"),
        "{text}"
    );
    let nix = impctl(root, &["--nix"]).expect(1).stdout;
    assert!(!nix.contains('\x1b') && nix.contains(r"# no line can keep /var/lib/\xff\xfe"), "{nix}");
    assert!(nix.contains("\\${x} \\\"q\\\"\""), "{nix}");
}

fn what_cannot_be_read_is_said() {
    let root = root();
    put(root, "/var/lib/foo/open/a", "a");
    put(root, "/var/lib/foo/closed\n/a", "a");
    put(root, "/srv/closed/a", "a");
    for folder in ["var/lib/foo/closed\n", "srv/closed"] {
        sh_on("chown 1000", &[&root.join(folder)]);
        sh_on("chmod 0700", &[&root.join(folder)]);
    }
    // root without what lets it look everywhere.
    let caps = "-dac_override,-dac_read_search";
    let (inherited, bounding) = (format!("--inh-caps={caps}"), format!("--bounding-set={caps}"));
    let place = root.to_str().unwrap();
    let line = ["setpriv", &inherited, &bounding, "--", PROGRAM, "lost", "--root", place];
    let output = run(&[&line[..], &["--json"]].concat()).expect(1);
    let found = json_of(&output, "lost");
    are(&found["lost"], &["directory /var/lib/foo"]);
    assert_eq!(found["unread_count"], 2);
    let unread: Vec<_> =
        found["unread"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(unread, ["/srv/closed", "/var/lib/foo/closed\n"]);
    assert!(found["unread"][0]["why"].as_str().unwrap().contains("Permission denied"));
    let text = run(&line).expect(1).stdout;
    assert!(text.contains("not looked into: /srv/closed: Permission denied"), "{text}");
    // It is no clean bill where nothing else is found.
    let output = run(&[&line[..], &["--json", "/srv"]].concat()).expect(1);
    are(&json_of(&output, "lost")["lost"], &[]);
}

fn mounts_are_not_entered() {
    let root = root();
    let disk = Disk::new(Fs::Ext4, 8);
    put(root, "/data/a/x", "x");
    put(root, "/data/file", "x");
    for folder in ["mnt/disk", "var/lib/foo/disk", "var/lib/bar/memory", "var/lib/same"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    disk.mount(root.join("mnt/disk"));
    put(root, "/mnt/disk/y", "y");
    put(root, "/var/lib/foo/a", "a");
    bind(root.join("mnt/disk"), root.join("var/lib/foo/disk"));
    put(root, "/var/lib/bar/a", "a");
    tmpfs(root.join("var/lib/bar/memory"), "");
    put(root, "/var/lib/bar/memory/b", "b");
    // The root's own file system, by another way: it is found once, where it is.
    bind(root.join("data/a"), root.join("var/lib/same"));
    put(root, "/etc/hosts", "");
    bind(root.join("data/file"), root.join("etc/hosts"));
    let found = lost(root, &[]);
    // What is mounted in a directory is kept apart from it; a mount of memory is nothing that persists.
    are(&found["lost"], &["directory /data", "file /var/lib/foo/a", "directory /var/lib/bar"]);
    assert_eq!(at(&found["lost"], "/data")["files"], 2);
    let path = lost(root, &["/mnt/disk"]);
    assert_eq!(
        (&path["lost"], path["elsewhere"].as_str().unwrap().contains("another file system, /dev/loop")),
        (&json!([]), true)
    );
    let path = lost(root, &["/var/lib/bar/memory"]);
    assert_eq!(path["elsewhere"], "it is on a tmpfs of its own, which is empty after every boot");
    sh_on("umount", &[&root.join("var/lib/foo/disk"), &root.join("mnt/disk")]);
    disk.umount();
}

fn what_comes_from_nixos() {
    let root = root();
    for (link, target) in [
        ("/etc/static", "/nix/store/x-etc/etc"),
        ("/etc/hosts", "/etc/static/hosts"),
        ("/etc/ssh/sshd_config", "/etc/static/ssh/sshd_config"),
        ("/etc/mtab", "/proc/mounts"),
        ("/bin/sh", "/nix/store/x-bash/bin/sh"),
        ("/home/ada/.config/git/config", "/nix/store/x-home-manager/config"),
        ("/etc/localtime", "../etc/zoneinfo/Europe/Berlin"),
    ] {
        fs::create_dir_all(root.join(&link[1..]).parent().unwrap()).unwrap();
        symlink(target, root.join(&link[1..])).unwrap();
    }
    for path in [
        "/etc/NIXOS",
        "/etc/sudoers",
        "/etc/nested/copied",
        "/etc/nested/own",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/ssh/ssh_host_key",
    ] {
        put(root, path, "content");
    }
    put(root, "/etc/.clean", "sudoers\nnested/copied\n");
    put(root, "/home/ada/.config/git/own", "own");
    UnixListener::bind(root.join("home/socket")).unwrap();
    let found = lost(root, &[]);
    are(
        &found["lost"],
        &["link /etc/localtime", "file /etc/nested/own", "file /etc/ssh/ssh_host_key", "directory /home/ada"],
    );
    assert_eq!(at(&found["lost"], "/home/ada")["files"], 1);
    assert_eq!(
        at(&found["lost"], "/etc/localtime")["entry"],
        json!({ "file": "/etc/localtime", "method": "copy" })
    );

    let text = impctl(root, &[]).expect(1).stdout;
    assert!(text.contains("-> what must stay: impctl lost --nix"), "{text}");
    // Elsewhere nothing makes the users anew.
    fs::remove_file(root.join("etc/NIXOS")).unwrap();
    let found = lost(root, &["/etc"]);
    assert_eq!(at(&found["lost"], "/etc/shadow")["kind"], "file");
}

fn links_of_a_merged_usr() {
    let root = root();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib"),
        ("sbin", "usr/bin"),
        ("lib32", "usr/lib32"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    are(&lost(root, &[])["lost"], &["link /lib32"]);
    // systemd makes no others.
    fs::remove_file(root.join("bin")).unwrap();
    symlink("/opt/bin", root.join("bin")).unwrap();
    are(&lost(root, &[])["lost"], &["link /lib32", "link /bin"]);
}

fn the_throw_away_list() {
    let root = root();
    for path in [
        "/var/cache/big/x",
        "/var/cache/small/x",
        "/tmp/x",
        "/srv/a.tmp",
        "/srv/b",
        "/var/lib/foo/c.tmp",
        "/var/lib/foo/node_modules/x",
        "/var/lib/foo/d",
    ] {
        put(root, path, "content");
    }
    put(root, "/var/lib/foo/.lock", "");
    put(root, "/var/lib/foo/flake.lock", "{}");
    let first = lost(root, &[]);
    are(&first["lost"], &["directory /var/lib/foo", "file /srv/a.tmp", "file /srv/b"]);
    assert_eq!((&at(&first["lost"], "/var/lib/foo")["files"], &first["throw_away"]), (&json!(4), &json!([])));

    put(root, "/etc/imp-mount/throw-away", "# mine\n\n*.tmp\n  node_modules\n!/var/cache/big\n");
    let second = lost(root, &[]);
    are(&second["lost"], &["directory /var/lib/foo", "file /srv/b", "directory /var/cache/big"]);
    assert_eq!(at(&second["lost"], "/var/lib/foo")["files"], 2);

    // A file in its place, and what is said on the command line decides last.
    fs::write("/tmp/list", "/srv").unwrap();
    let third = lost(
        root,
        &["--throw-away-from", "/tmp/list", "--throw-away", "!/srv/b", "--throw-away", "/var/lib/f?o"],
    );
    are(&third["lost"], &["file /srv/b"]);

    let all = lost(root, &["--all"]);
    assert_eq!(paths(&all["lost"]), paths(&second["lost"]));
    are(
        &all["throw_away"],
        &[
            "directory /var/cache",
            "directory /tmp",
            "file /srv/a.tmp",
            "file /var/lib/foo/c.tmp",
            "directory /var/lib/foo/node_modules",
            "file /var/lib/foo/.lock",
        ],
    );
    assert_eq!(all["totals"], second["totals"], "what is throw-away is not lost");
    let told = lost(root, &["/tmp"]);
    assert_eq!(told["elsewhere"], "it is throw-away; --all shows it");

    fs::write(root.join("etc/imp-mount/throw-away"), "ok\nsrv/[x\n").unwrap();
    impctl(root, &[]).expect(2).says(&["throw-away, line 2", "srv/[x"]);
}

fn a_directory_in_parts() {
    let root = root();
    for number in 0..300 {
        put(root, &format!("/var/lib/many/{number}"), "x");
        put(root, &format!("/var/lib/few/sub/{number}"), "x");
    }
    put(root, "/var/lib/few/single", "x");
    let file = manifest_of(json!([{ "file": "/var/lib/many/299" }, { "directory": "/var/lib/few/kept" }]));
    put(root, "/persist/x", "x");
    let kept = root.join("var/lib/many/299");
    bind(&kept, &kept);
    let found = lost(root, &["--manifest", &file, "/var/lib"]);
    // One line where each file would have one, and it says that this is not all.
    are(&found["lost"], &["directory /var/lib/many", "directory /var/lib/few"]);
    assert_eq!(
        (&at(&found["lost"], "/var/lib/many")["files"], &at(&found["lost"], "/var/lib/many")["partly"]),
        (&json!(299), &json!(true))
    );
    put(root, "/var/lib/few/kept/x", "x");
    // It is a root in memory, so what is named but not mounted would be lost with it.
    let found = lost(root, &["--manifest", &file, "/var/lib/few"]);
    are(
        &found["lost"],
        &["directory /var/lib/few/sub", "file /var/lib/few/single", "directory /var/lib/few/kept"],
    );
    assert_eq!(at(&found["lost"], "/var/lib/few/kept")["unmounted"], true);
    // In the path that was asked for, everything has a line of its own.
    let found = lost(root, &["--manifest", &file, "/var/lib/many"]);
    are(&found["lost"], &["files /var/lib/many"]);
}

fn an_entry_that_is_not_mounted() {
    let (machine, compiled) = built();
    sh_on("umount", &[&machine.at("/var/lib/plex")]);
    put(&machine.at(""), "/var/lib/plex/database", "precious");
    let found = lost(&machine.at(""), &["--manifest", &compiled]);
    are(&found["lost"], &["directory /var/lib/plex"]);
    assert_eq!(found["lost"][0]["unmounted"], true);
    let text = impctl(&machine.at(""), &["--manifest", &compiled]).expect(1).stdout;
    assert!(text.contains("NOT MOUNTED") && text.contains("imp-mount --check"), "{text}");
    // So is a store.
    sh_on("umount --recursive", &[&machine.at("")]);
    let root = root();
    put(root, "/persist/var/lib/plex/x", "x");
    let found = lost(root, &["--manifest", &compiled]);
    are(&found["lost"], &["directory /persist"]);
    assert_eq!(found["lost"][0]["unmounted"], true);
}

fn who_it_belongs_to() {
    let root = root();
    put(
        root,
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nplex:x:193:194::/:/bin/sh\nweb:x:200:200::/:/bin/sh\n",
    );
    put(root, "/etc/group", "plex:x:193:\nmedia:x:194:\n");
    let units = "/etc/systemd/system";
    put(root, "/nix/store/x/foo.service", "[Service]\nDynamicUser=yes\nStateDirectory=foo foo/sub:link\n");
    symlink("/nix/store/x", root.join("nix/store/y")).unwrap();
    fs::create_dir_all(root.join(&units[1..])).unwrap();
    symlink("/nix/store/y/foo.service", root.join("etc/systemd/system/foo.service")).unwrap();
    put(
        root,
        &format!("{units}/plex.service"),
        "[Service]\nUser=plex\nExecStart=/nix/store/z/bin/plex \\\n  --data=/var/lib/library\n",
    );
    put(root, &format!("{units}/bar.service"), "[Service]\nExecStart=/bin/bar\n#StateDirectory=no\n");
    put(
        root,
        &format!("{units}/bar.service.d/more.conf"),
        "[Service]\nLogsDirectory=%p\nStateDirectory=%i\n",
    );
    put(root, "/usr/lib/tmpfiles.d/baz.conf", "d /var/spool/baz 0755 root root -\nd /var/lib/%m - - -\n");
    put(root, "/var/lib/dpkg/info/qux:amd64.list", "/.\n/var/lib/qux\n");
    for path in [
        "/var/lib/private/foo/x",
        "/var/lib/foo/x",
        "/var/lib/library/sub/x",
        "/srv/plex/x",
        "/var/spool/baz/x",
        "/var/lib/qux/x",
        "/var/lib/nobodys/x",
        "/var/lib/no/x",
        "/var/lib/nixos/x",
    ] {
        put(root, path, "x");
    }
    for path in ["/srv/plex", "/srv/plex/x"] {
        sh_on("chown 193:194", &[&root.join(&path[1..])]);
    }
    sh_on("chown 200:61234", &[&root.join("var/lib/nobodys")]);
    let found = lost(root, &["--throw-away", "/nix", "--throw-away", "/usr"]);
    for (path, who) in [
        ("/var/lib/private/foo", json!(["foo.service"])),
        ("/var/lib/foo", json!(["foo.service"])),
        ("/var/lib/library", json!(["plex.service"])),
        ("/srv/plex", json!(["plex.service"])),
        ("/var/spool/baz", json!(["tmpfiles.d/baz.conf"])),
        ("/var/lib/qux", json!(["package qux"])),
        ("/var/lib/nobodys", json!([])),
        ("/var/lib/no", json!([])),
    ] {
        assert_eq!(at(&found["lost"], path)["belongs_to"], who, "{path}");
    }
    assert_eq!(at(&found["lost"], "/var/lib/nixos")["what"], "which number each user and group has");
    let one = |path, key: &str| at(&found["lost"], path)[key].clone();
    assert_eq!(
        (one("/srv/plex", "user"), one("/srv/plex", "group"), one("/srv/plex", "others")),
        (json!("plex"), json!("media"), json!(false))
    );
    let nobodys = "/var/lib/nobodys";
    assert_eq!(
        (one(nobodys, "user"), one(nobodys, "group"), one(nobodys, "others")),
        (json!("web"), json!("61234"), json!(true))
    );
}

fn a_path_is_enough() {
    let root = root();
    for path in ["/var/lib/foo/a/x", "/var/lib/foo/b", "/etc/one", "/etc/two"] {
        put(root, path, "x");
    }
    let found = lost(root, &["/var/lib/foo"]);
    are(&found["lost"], &["directory /var/lib/foo/a", "file /var/lib/foo/b"]);
    assert_eq!(found["path"], "/var/lib/foo");
    are(&lost(root, &["/etc/one"])["lost"], &["file /etc/one"]);
    are(&lost(root, &["var/lib"])["lost"], &["directory /var/lib/foo"]);
    let file = manifest_of(json!([{ "directory": "/var/lib/foo" }, { "file": "/etc/o*" }]));
    let one = root.join("etc/one");
    bind(&one, &one);
    are(&lost(root, &["--manifest", &file, "/etc"])["lost"], &["file /etc/two"]);
    assert_eq!(lost(root, &["--manifest", &file, "/etc/one"])["elsewhere"], "it is kept by the manifest");
    symlink("/etc", root.join("link")).unwrap();
    impctl(root, &["/link/one"]).expect(2).says(&["/link/one"]);
    impctl(root, &["/gone"]).expect(2).says(&["/gone", "No such file"]);
    impctl(root, &["/../etc"]).expect(2).says(&[".."]);
}

fn the_lines_keep_it() {
    let root = root();
    put(root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nplex:x:193:193::/:/bin/sh\n");
    put(root, "/etc/group", "plex:x:193:\nmedia:x:194:\n");
    for path in [
        "/var/lib/plex/x",
        "/var/lib/two\nlines \x07${x} \\ \"/x",
        "/etc/ssh/ssh_host_key",
        "/srv/a*b",
        "/var/lib/private/dyn/x",
    ] {
        put(root, path, "x");
    }
    symlink("../zone", root.join("etc/localtime")).unwrap();
    sh_on("chown 193:194", &[&root.join("var/lib/plex")]);
    sh_on("chmod 0750", &[&root.join("var/lib/plex")]);
    sh_on("chown 61234:61234", &[&root.join("var/lib/private/dyn")]);
    sh_on("chmod 0600", &[&root.join("etc/ssh/ssh_host_key")]);
    let found = lost(root, &[]);
    let plex = json!({ "directory": "/var/lib/plex", "user": "plex", "group": "media", "mode": "0750" });
    assert_eq!(at(&found["lost"], "/var/lib/plex")["entry"], plex);
    let entries: Vec<_> = found["lost"].as_array().unwrap().iter().map(|it| it["entry"].clone()).collect();
    assert_eq!(entries.len(), 8);

    let nix = impctl(root, &["--nix", "--store", "/state"]).expect(1).stdout;
    assert!(nix.starts_with("environment.persistence.\"/state\" = {\n  directories = [\n"), "{nix}");
    let line =
        "    { directory = \"/var/lib/plex\"; user = \"plex\"; group = \"media\"; mode = \"0750\"; }  # ";
    assert!(nix.contains(line), "{nix}");
    assert!(nix.contains("\n    \"/var/lib/private/dyn\"  # "), "{nix}");
    if installed("nix-instantiate") {
        let text = format!("({{ {nix} }}).environment.persistence.\"/state\"");
        let json = run(&["nix-instantiate", "--eval", "--strict", "--json", "-E", &text]).ok().stdout;
        let said: Value = serde_json::from_str(&json).unwrap();
        // What is no set is the path alone.
        let whole = |key: &'static str| {
            let entry = move |it: &Value| if it.is_string() { json!({ key: it }) } else { it.clone() };
            said[if key == "file" { "files" } else { "directories" }]
                .as_array()
                .unwrap()
                .iter()
                .map(entry)
                .collect::<Vec<_>>()
        };
        let mut said: Vec<_> =
            [whole("directory"), whole("file")].concat().iter().map(Value::to_string).collect();
        let mut entries: Vec<_> = entries.iter().map(Value::to_string).collect();
        said.sort();
        entries.sort();
        assert_eq!(said, entries);
    } else {
        eprintln!("nix-instantiate is not installed: the lines were not evaluated");
    }

    // Directories are mounted, and the store has the same files.
    let file = manifest_of(json!(entries));
    for entry in &entries {
        if let Some(path) = entry["directory"].as_str() {
            let place = root.join(&path[1..]);
            tmpfs(&place, "");
        }
    }
    let store = root.join("persist");
    fs::create_dir(&store).unwrap();
    tmpfs(&store, "");
    for path in entries.iter().filter_map(|entry| entry["file"].as_str()) {
        let path = path.replace('\\', "");
        fs::create_dir_all(store.join(&path[1..]).parent().unwrap()).unwrap();
        sh_on("cp --archive", &[&root.join(&path[1..]), &store.join(&path[1..])]);
    }
    are(&lost(root, &["--manifest", &file])["lost"], &[]);
    // And a boot with it takes the lines as they are.
    run(&[PROGRAM, "compile", &file, "-o", "/tmp/compiled"]).ok();
}

/// A pattern stands for many files only where it brings just these.
fn a_line_for_many_files() {
    let root = root();
    for number in 0..120 {
        for folder in ["srv", "opt", "etc", "home"] {
            put(root, &format!("/{folder}/{number}"), "x");
        }
    }
    put(root, "/srv/directory/x", "x");
    put(root, "/opt/.hidden", "x");
    symlink("nowhere", root.join("etc/link")).unwrap();
    put(root, "/home/resolv.tmp", "x");
    let words = ["--throw-away", "*.tmp"];
    let found = lost(root, &words);
    for (path, entry) in [
        ("/srv", json!({ "file": "/srv/*" })),
        ("/opt", Value::Null),
        ("/etc", Value::Null),
        ("/home", Value::Null),
    ] {
        let one = at(&found["lost"], path);
        assert_eq!((&one["kind"], &one["entry"]), (&json!("files"), &entry), "{path}");
        assert_eq!(one["others"], false, "all of them have one owner");
    }
    let nix = impctl(root, &[&["--nix"][..], &words].concat()).expect(1).stdout;
    let lines: Vec<_> = nix.lines().map(|line| line.trim().split("  # ").next().unwrap()).collect();
    for line in [
        "\"/srv/*\"",
        "\"/srv/directory\"",
        "\"/opt/.hidden\"",
        "{ file = \"/etc/link\"; method = \"copy\"; }",
    ] {
        assert!(lines.contains(&line), "{line}: {nix}");
    }
    for (folder, count) in [("srv", 2), ("opt", 121), ("etc", 121), ("home", 120)] {
        let start = format!("\"/{folder}/");
        assert_eq!(lines.iter().filter(|line| line.contains(&start)).count(), count, "{folder}: {nix}");
    }
}

fn for_terminals_and_pipes() {
    let root = root();
    put(root, "/var/lib/a-service-with-a-long-name/x", "x");
    put(root, "/etc/systemd/system/a.service", "[Service]\nStateDirectory=a-service-with-a-long-name\n");
    let piped = impctl(root, &[]).expect(1).stdout;
    assert!(!piped.contains('\x1b') && piped.contains("OWNER"), "{piped}");
    assert!(piped.contains("/var/lib/a-service-with-a-long-name/  a.service"), "{piped}");
    if !installed("script") {
        return eprintln!("script(1) is not installed: no terminal was tried");
    }
    let on_terminal = |columns: u32, before: &str| {
        let line = format!(
            "stty rows 24 cols {columns}; TERM=xterm {before} {PROGRAM} lost --root {}",
            root.display()
        );
        run(&["script", "-qec", &line, "/dev/null"]).expect(1).stdout.replace('\r', "")
    };
    let wide = on_terminal(150, "");
    assert!(wide.contains('\x1b'), "{wide}");
    assert_eq!(on_terminal(150, "NO_COLOR=1"), piped);
    let narrow = on_terminal(50, "NO_COLOR=1");
    // What belongs beside the path is below it, and the path is whole.
    assert!(
        !narrow.contains("OWNER") && narrow.contains("  /var/lib/a-service-with-a-long-name/\n"),
        "{narrow}"
    );
    // Whoever has seen enough is no error, and nothing is kept by that.
    let line = format!("exec 3> >(:); wait $!; {PROGRAM} lost --root {} --json >&3", root.display());
    assert_eq!(run(&["bash", "-c", &line]).expect(1).stderr, "");
}

fn what_cannot_be_done() {
    let root = root();
    impctl(Path::new("/tmp/nowhere"), &[]).expect(2).says(&["error: /tmp/nowhere: ", "No such file"]);
    impctl(root, &["--manifest", "/tmp/none"]).expect(2).says(&["error: /tmp/none: there is no manifest"]);
    fs::write(
        "/tmp/wrong.json",
        r#"{ "version": 1, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/run/x" }] }"#,
    )
    .unwrap();
    impctl(root, &["--manifest", "/tmp/wrong.json"]).expect(2).says(&["/tmp/wrong.json", "/run"]);
    put(root, "/etc/imp-mount/manifest", "nonsense");
    impctl(root, &[]).expect(2).says(&["/etc/imp-mount/manifest"]);
    impctl(root, &["--json", "--nix"]).expect(2);
}
