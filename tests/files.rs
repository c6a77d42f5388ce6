//! Files: by mount, by link and by copy; missing files; and files written back to the store.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Root, mounts};

mod written_back;

use written_back::{
    a_copied_link_stays_a_link, a_file_of_before_is_no_copy, a_full_store_keeps_the_old_content,
    a_match_never_overwrites_the_store, a_replaced_copy_is_adopted_whole, a_replaced_link_is_adopted,
    adopting_twice_changes_nothing, an_adopted_folder_looks_like_the_roots, new_matches_are_adopted,
    the_longest_names_are_replaced_too,
};

tests![
    each_method_brings_a_file: Disk,
    each_policy_for_missing_files: Disk,
    missing_fail_stops_the_boot_or_is_guarded: Disk,
    a_machine_id_is_made_once: Disk,
    a_link_becomes_a_mount: Disk,
    a_link_never_replaces_its_own_target: Disk,
    a_pattern_brings_every_match: Disk,
    an_explicit_entry_beside_a_pattern: Disk,
    names_may_be_anything: Disk,
    names_that_are_no_text_are_said: Disk,
    a_replaced_copy_is_adopted_whole: Disk,
    a_file_of_before_is_no_copy: Disk,
    a_copied_link_stays_a_link: Disk,
    a_replaced_link_is_adopted: Disk,
    new_matches_are_adopted: Disk,
    a_match_never_overwrites_the_store: Disk,
    nothing_is_created_for_a_file_that_is_there: Disk,
    adopting_twice_changes_nothing: Disk,
    a_full_store_keeps_the_old_content: Disk,
    the_longest_names_are_replaced_too: Disk,
    an_adopted_folder_looks_like_the_roots: Disk,
];

fn manifest(entries: &Value) -> Value {
    json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// A machine on ext4 whose store holds these files, not booted yet.
fn holding(files: &[(&str, &str)]) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    for (path, text) in files {
        write(&machine, &format!("/persist/{path}"), text);
    }
    machine
}

/// Writes a file of the machine and its parent folders.
fn write(machine: &Machine, path: &str, text: &str) {
    let path = machine.at(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Puts a new file in the place of another one, as most programs save.
fn replace(machine: &Machine, path: &str, text: &str) {
    write(machine, &format!("{path}.new"), text);
    fs::rename(machine.at(&format!("{path}.new")), machine.at(path)).unwrap();
}

#[track_caller]
fn read(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn exists(path: PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The machine's booted root sees its own absolute links only from inside.
#[track_caller]
fn read_inside(machine: &Machine, path: &str) -> String {
    machine.run_inside(&["cat", path]).ok().stdout
}

fn each_method_brings_a_file() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        for method in ["bind", "symlink", "copy"] {
            write(&machine, &format!("/persist/etc/{method}"), method);
            chown(machine.at(&format!("/persist/etc/{method}")), Some(193), Some(194)).unwrap();
        }
        fs::set_permissions(machine.at("/persist/etc/copy"), Permissions::from_mode(0o4711)).unwrap();
        let entry = |method| json!({ "file": format!("/etc/{method}"), "method": method });
        let folder = json!({ "directory": "/var/cache/app", "method": "symlink", "user": 5, "mode": "0700" });
        machine.manifest(&manifest(&json!([entry("bind"), entry("symlink"), entry("copy"), folder])));
        machine.build().ok();

        // The same file on both sides.
        let inode = |path: &str| fs::symlink_metadata(machine.at(path)).unwrap().ino();
        assert_eq!(inode("/etc/bind"), inode("/persist/etc/bind"));
        assert_eq!(fs::read_link(machine.at("/etc/symlink")).unwrap(), Path::new("/persist/etc/symlink"));
        assert_eq!(fs::read_link(machine.at("/var/cache/app")).unwrap(), Path::new("/persist/var/cache/app"));
        assert_eq!(stat(machine.at("/persist/var/cache/app")), (0o040_700, 5, 0));
        assert!(machine.mount_at("/etc/copy").is_none());
        assert_eq!(stat(machine.at("/etc/copy")), (0o104_711, 193, 194));
        machine.switch_root();
        for method in ["bind", "symlink", "copy"] {
            assert_eq!(read_inside(&machine, &format!("/etc/{method}")), method);
        }
        let before = mounts();
        machine.run_live(&[]).ok();
        assert_eq!(mounts(), before);
        machine.power_off();
    }
}

fn each_policy_for_missing_files() {
    let machine = holding(&[]);
    let entry = |missing: &str| json!({ "file": format!("/etc/{missing}"), "missing": missing, "user": 193, "group": 194, "mode": "0640" });
    let mut copy = entry("link");
    copy["file"] = "/etc/copied".into();
    copy["method"] = "copy".into();
    let unsaid = json!({ "file": "/etc/unsaid" });
    machine.manifest(&manifest(&json!([entry("create"), entry("link"), entry("skip"), copy, unsaid])));
    machine.build().ok();
    assert_eq!(stat(machine.at("/etc/create")), (0o100_640, 193, 194));
    assert!(machine.mount_at("/etc/create").is_some());
    assert_eq!(read(&machine, "/etc/create"), "");
    for name in ["link", "unsaid"] {
        let to = format!("/persist/etc/{name}");
        assert_eq!(fs::read_link(machine.at(&format!("/etc/{name}"))).unwrap(), Path::new(&to));
        // Never an empty file in place of a missing one: sshd and others would read it as their own.
        assert!(!exists(machine.at(&to)));
    }
    for name in ["skip", "copied"] {
        assert!(!exists(machine.at(&format!("/etc/{name}"))), "{name}");
        assert!(!exists(machine.at(&format!("/persist/etc/{name}"))), "{name}");
        assert_eq!(machine.state(&format!("/etc/{name}")).as_deref(), Some("absent"), "{name}");
    }
}

fn missing_fail_stops_the_boot_or_is_guarded() {
    let machine = holding(&[]);
    let entry = json!({ "file": "/etc/key", "missing": "fail" });
    machine.manifest(&manifest(&json!([entry])));
    machine.build().expect(1).says_in_one_line(&[
        "/etc/key",
        "/persist/etc/key is not there",
        "bring it there",
    ]);
    assert!(machine.mount_at("/").is_none());
    machine.manifest(&manifest(&json!([{ "file": "/etc/key", "missing": "fail", "required": false }])));
    machine.build().expect(0).says(&["/persist/etc/key is not there"]);
    machine.is_guarded("/etc/key");
    assert!(!exists(machine.at("/persist/etc/key")));
}

fn a_machine_id_is_made_once() {
    let machine = holding(&[]);
    machine.manifest(&manifest(&json!([{ "file": "/etc/machine-id", "missing": "machine-id" }])));
    machine.build().ok();
    assert_eq!(read(&machine, "/etc/machine-id"), "uninitialized\n");
    assert_eq!(stat(machine.at("/etc/machine-id")), (0o100_444, 0, 0));
    assert!(machine.mount_at("/etc/machine-id").is_some());
    // systemd-machine-id-commit writes through the mount.
    let id = "6fc6a1ba15aa4fab9e1d9a0e4a1a9a4e\n";
    fs::write(machine.at("/etc/machine-id"), id).unwrap();
    machine.reboot().ok();
    assert_eq!(read(&machine, "/etc/machine-id"), id);
    assert_eq!(read(&machine, "/persist/etc/machine-id"), id);
    assert_eq!(stat(machine.at("/etc/machine-id")), (0o100_444, 0, 0));
}

fn a_link_becomes_a_mount() {
    let machine = holding(&[]);
    machine.manifest(&manifest(&json!([{ "file": "/etc/app/state", "parents": { "user": 193 } }])));
    machine.build().ok();
    machine.switch_root();
    // The program creates the file on the store.
    machine.run_inside(&["sh", "-c", "echo made > /etc/app/state"]).ok();
    assert_eq!(read(&machine, "/persist/etc/app/state"), "made\n");
    // A process with the link open keeps it until the next boot.
    machine.run_live(&[]).ok();
    assert!(fs::symlink_metadata(machine.at("/etc/app/state")).unwrap().is_symlink());
    machine.run_live(&["--check"]).ok();
    machine.reboot().ok();
    assert!(machine.mount_at("/etc/app/state").is_some());
    assert_eq!(read(&machine, "/etc/app/state"), "made\n");
}

/// In a directory of the store, a link into the store would point to itself, and stop the next boot.
fn a_link_never_replaces_its_own_target() {
    let machine = holding(&[("srv/app/there", "there")]);
    machine.manifest(&manifest(&json!([
        { "directory": "/srv/app" },
        { "file": "/srv/app/state" },
        { "file": "/srv/app/deep/state" },
        { "file": "/srv/app/named", "method": "symlink" },
        { "file": "/srv/app/there", "method": "symlink" },
        { "directory": "/srv/app/folder", "method": "symlink" },
    ])));
    let files = ["/srv/app/state", "/srv/app/deep/state", "/srv/app/named"];
    for _ in 0..3 {
        machine.reboot().ok();
        machine.run(&["--check"]).ok();
        for path in files {
            assert!(!exists(machine.at(path)), "{path}");
        }
        assert!(fs::symlink_metadata(machine.at("/srv/app/folder")).unwrap().is_dir());
        assert_eq!(read(&machine, "/srv/app/there"), "there");
    }
    machine.switch_root();
    machine.run_live(&[]).ok().says(&["0 put in place"]);
    // New files of programs are on the store at once.
    for path in files {
        write(&machine, path, "made");
    }
    machine.run_live(&["--adopt"]).ok();
    machine.run_live(&["--check"]).ok();
    for _ in 0..2 {
        machine.reboot().ok();
        machine.run(&["--check"]).ok();
        for path in files {
            assert_eq!(read(&machine, path), "made");
            assert_eq!(read(&machine, &format!("/persist{path}")), "made");
        }
    }
}

fn a_pattern_brings_every_match() {
    let machine = holding(&[
        ("etc/ssh/ssh_host_rsa_key", "rsa"),
        ("etc/ssh/ssh_host_rsa_key.pub", "pub"),
        ("etc/ssh/sshd_config", "no"),
        ("etc/ssh/.ssh_host_hidden", "no"),
        ("etc/[x]/a", "literal"),
    ]);
    machine.manifest(&manifest(&json!([
        { "file": "/etc/ssh/ssh_host_*" },
        { "file": "/etc/none/*.key" },
        { "file": "/etc/ssh-empty/*" },
        { "file": "/etc/\\[x]/?" },
    ])));
    fs::create_dir(machine.at("/persist/etc/ssh-empty")).unwrap();
    machine.build().ok();
    assert_eq!(read(&machine, "/etc/ssh/ssh_host_rsa_key"), "rsa");
    assert_eq!(read(&machine, "/etc/ssh/ssh_host_rsa_key.pub"), "pub");
    assert_eq!(read(&machine, "/etc/[x]/a"), "literal");
    for path in ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub", "/etc/[x]/a"] {
        assert!(machine.mount_at(path).is_some(), "{path}");
    }
    let names: Vec<_> =
        fs::read_dir(machine.at("/etc/ssh")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // No match creates nothing, on neither side.
    assert!(!exists(machine.at("/persist/etc/none")) && !exists(machine.at("/etc/none")));
    let before = mounts();
    machine.build().ok();
    assert_eq!(mounts(), before);
}

fn an_explicit_entry_beside_a_pattern() {
    let machine = holding(&[("etc/ssh/key_a", "a"), ("etc/ssh/key_b", "b"), ("etc/ssh/key_c", "c")]);
    machine.manifest(&manifest(&json!([
        { "file": "/etc/ssh/key_*" },
        { "file": "/etc/ssh/key_b", "method": "copy" },
        { "file": "/etc/ssh/key_c", "method": "symlink" },
        { "file": "/etc/ssh/key_d", "missing": "create", "mode": "0600" },
    ])));
    machine.build().ok();
    let is_mounted = |name: &str| machine.mount_at(&format!("/etc/ssh/key_{name}")).is_some();
    assert_eq!(["a", "b", "c", "d"].map(is_mounted), [true, false, false, true]);
    assert!(fs::symlink_metadata(machine.at("/etc/ssh/key_c")).unwrap().is_symlink());
    assert_eq!(stat(machine.at("/etc/ssh/key_d")), (0o100_600, 0, 0));
}

/// Names of files.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        " ",
        "two words",
        "new\nline",
        "tab\t",
        "-rf",
        "--help",
        "\u{e9}t\u{e9} \u{1f980}",
        "back\\slash",
        "\\040",
        "'\"$(x)`;&",
    ]
    .map(Into::into)
    .into();
    names.push("n".repeat(255));
    names
}

fn names_may_be_anything() {
    let machine = holding(&[]);
    let mut entries = vec![json!({ "file": "/glob/*" })];
    for (number, name) in names().iter().enumerate() {
        write(&machine, &format!("/persist/glob/{name}"), name);
        // A backslash escapes only special characters.
        let escaped = name.replace('\\', "\\\\");
        entries.push(json!({ "directory": format!("/directories/{name}"), "user": number }));
        entries.push(json!({ "file": format!("/files/{escaped}"), "missing": "create", "user": number }));
        entries.push(json!({ "file": format!("/links/{escaped}") }));
        entries.push(json!({ "directory": format!("/above/{name}/below"), "parents": { "user": number } }));
    }
    let mut manifest = manifest(&json!(entries));
    manifest["parents"] = json!([{ "directory": "/above" }]);
    machine.manifest(&manifest);
    machine.build().ok();
    for (number, name) in names().iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        assert_eq!(stat(machine.at(&format!("/directories/{name}"))).1, number, "{name:?}");
        assert_eq!(stat(machine.at(&format!("/files/{name}"))).1, number, "{name:?}");
        assert_eq!(stat(machine.at(&format!("/above/{name}"))).1, number, "{name:?}");
        let to = fs::read_link(machine.at(&format!("/links/{name}"))).unwrap();
        assert_eq!(to, Path::new(&format!("/persist/links/{name}")));
        for path in ["directories", "files", "glob", "above"] {
            let path = format!("/{path}/{name}{}", if path == "above" { "/below" } else { "" });
            let mount = machine.mount_at(&path).unwrap_or_else(|| panic!("{path:?} is not mounted"));
            assert_eq!(mount.root, Path::new(&path), "{path:?}");
        }
        assert_eq!(read(&machine, &format!("/glob/{name}")), *name);
    }
    let before = mounts();
    machine.build().ok();
    assert_eq!(mounts(), before);
    machine.run(&["--check"]).ok();
}

/// A name that is no UTF-8 cannot be in a manifest, but can match a pattern.
fn names_that_are_no_text_are_said() {
    let machine = holding(&[("keys/plain", "plain")]);
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::write(machine.at("/persist/keys").join(name), "kept").unwrap();
    machine.manifest(&manifest(&json!([{ "file": "/keys/*" }])));
    machine.build().expect(0).says_in_one_line(&["/keys", "UTF-8", "rename"]);
    assert_eq!(fs::read_dir(machine.at("/keys")).unwrap().count(), 1);
    assert_eq!(read(&machine, "/keys/plain"), "plain");
    fs::write(machine.at("/keys").join(OsStr::from_bytes(b"new\xff")), "lost").unwrap();
    machine.run(&["--adopt"]).expect(1).says_in_one_line(&["/keys", "UTF-8", "rename"]);
}

fn nothing_is_created_for_a_file_that_is_there() {
    let machine = holding(&[]);
    machine.manifest(&manifest(&json!([{ "directory": "/srv" }])));
    machine.build().ok();
    machine.switch_root();
    let entries = [
        json!({ "file": "/etc/copied", "method": "copy", "missing": "create" }),
        json!({ "file": "/etc/bound", "missing": "create" }),
        json!({ "file": "/etc/linked", "method": "symlink", "missing": "create" }),
    ];
    let names = ["copied", "bound", "linked"];
    for name in names {
        write(&machine, &format!("/etc/{name}"), name);
    }
    machine.manifest(&manifest(&json!([&[json!({ "directory": "/srv" })], &entries[..]].concat())));
    let mut output = machine.run_live(&[]).expect(1);
    for name in names {
        output = output.says_in_one_line(&[&format!("/etc/{name}: "), "bytes", "--adopt"]);
        assert!(!machine.at("/persist/etc").join(name).exists());
    }
    machine.run_live(&["--adopt"]).ok();
    machine.run_live(&[]).ok();
    machine.run_live(&["--check"]).ok();
    machine.reboot().ok();
    for name in names {
        assert_eq!(read(&machine, &format!("/persist/etc/{name}")), name);
    }
}
