//! `impctl lost`: its findings, its omissions, and agreement with du(1), find(1) and a next boot.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::roots::manifest;
use crate::support::command::{sh, sh_on};
use crate::support::namespace::{bind, tmpfs};
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, is_thorough, json_of, mounts, run};

mod boundaries;
mod lines;

use boundaries::{
    a_directory_in_parts, an_entry_that_is_not_mounted, files_of_nixos_are_left_out, links_of_a_merged_usr,
    mounts_are_not_entered, owners_of_lost_paths, the_throw_away_list, unreadable_paths_are_named,
};
use lines::{
    a_line_for_many_files, a_path_is_enough, errors_have_place_and_remedy, for_terminals_and_pipes,
    the_printed_lines_keep_the_paths,
};

tests![
    a_fresh_root_loses_nothing: Disk,
    a_built_root: Disk,
    a_disk_before_it_is_converted: Disk,
    without_a_manifest,
    sizes_are_those_of_du: Disk,
    many_files_and_directories,
    a_deep_tree,
    odd_names_are_shown_safely,
    unreadable_paths_are_named: Root,
    mounts_are_not_entered: Disk,
    files_of_nixos_are_left_out,
    links_of_a_merged_usr,
    the_throw_away_list,
    a_directory_in_parts,
    an_entry_that_is_not_mounted: Disk,
    owners_of_lost_paths: Root,
    a_path_is_enough,
    the_printed_lines_keep_the_paths: Root,
    a_line_for_many_files,
    for_terminals_and_pipes,
    errors_have_place_and_remedy,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");

/// Runs `impctl lost` on a root, with more arguments.
fn impctl(root: &Path, words: &[&str]) -> Output {
    let mut line = vec![OsStr::new(PROGRAM), OsStr::new("lost"), OsStr::new("--root"), root.as_os_str()];
    line.extend(words.iter().map(OsStr::new));
    run(&line)
}

/// Findings, which must fit the schema and agree with the exit status; nothing may have changed.
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

/// The paths of a list, with their kinds.
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

/// Writes a file and its parent directories.
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
        // The same on the store, and changed after the copy.
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

    // The reboot agrees: exactly the listed paths are gone.
    let before = Snapshot::of(&machine.at("/persist"));
    machine.reboot().ok();
    assert!(!machine.at("/var/lib/foo").exists() && machine.at("/var/lib/plex/kept").exists());
    assert_eq!(before.losses(&Snapshot::of(&machine.at("/persist"))), [""; 0]);
    are(&lost(&root, &["--manifest", &compiled])["lost"], &[]);
}

/// Enables the unit that copies files to the stores at shutdown, as systemctl(1) does.
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
    // A bind mount of the same disk has the same device number.
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

    // As JSON and by default, from inside the root.
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
    // Flat, wide and both, in a named directory and in directories without a line of their own.
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
    // The order of threads varies; the result must not.
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
    // Deeper than PATH_MAX, with files on every level, visited on the way back.
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
