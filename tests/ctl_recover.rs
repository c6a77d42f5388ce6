//! `impctl recover`: files of an old root are restored to their paths, with all attributes, and existing files do not change.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use crate::live::manifest;
use crate::support::command::sh_on;
use crate::support::look::stat;
use crate::support::namespace::{bind, tmpfs};
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, json_of};

mod faults;
mod missing;
mod places;

use faults::{
    a_place_that_fills_up, a_user_at_the_destination, errors_at_any_change, errors_at_any_look,
    killed_at_any_moment, without_openat2,
};
use missing::{
    a_mount_in_an_old_root, a_saving_that_was_cut_off, a_store_that_is_not_mounted, another_system,
    files_left_out_do_not_count_as_brought, files_that_only_an_earlier_root_has, files_that_saving_left_out,
    paths_in_no_old_root_have_no_command, the_places_of_mounts_are_absent,
};
use places::{
    elsewhere, odd_names, owners_by_name, paths_of_the_last_root_are_named, places_on_other_file_systems,
};

tests![
    everything_is_kept: Disk,
    the_newest_that_has_it: Disk,
    missing_paths_are_named: Disk,
    nothing_is_replaced: Disk,
    a_directory_that_shows_more: Disk,
    links_are_not_followed: Disk,
    owners_by_name: Disk,
    places_on_other_file_systems: Disk,
    elsewhere: Disk,
    odd_names: Disk,
    the_running_root_is_no_source: Disk,
    read_only_places_are_refused: Disk,
    files_with_immutable_flags: Disk,
    persistent_paths_have_no_line: Disk,
    paths_of_the_last_root_are_named: Disk,
    files_that_saving_left_out: Disk,
    files_that_only_an_earlier_root_has: Disk,
    paths_in_no_old_root_have_no_command: Disk,
    files_left_out_do_not_count_as_brought: Disk,
    the_places_of_mounts_are_absent: Disk,
    a_mount_in_an_old_root: Disk,
    a_saving_that_was_cut_off: Disk,
    another_system: Disk,
    a_store_that_is_not_mounted: Disk,
    a_place_that_fills_up: Disk Inject,
    a_user_at_the_destination: Disk Inject,
    killed_at_any_moment: Disk Inject,
    without_openat2: Disk Inject,
    errors_at_any_change: Disk Inject,
    errors_at_any_look: Disk Inject,
];

/// A running machine with a tmpfs root, and a store on this file system.
fn started_on(fs: Fs, mib: u64, entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(fs, mib));
    machine.manifest(&manifest(entries));
    machine.build().ok();
    machine.switch_root();
    machine
}

fn started() -> Machine {
    started_on(Fs::Ext4, 64, json!([]))
}

/// The directory of an old root.
fn slot(store: &Path, number: u32) -> PathBuf {
    store.join(".imp-mount/roots").join(number.to_string())
}

/// Makes an old root below a store, and returns its tree.
pub fn make(store: &Path, number: u32, kind: &str, boot_id: &str) -> PathBuf {
    let slot = slot(store, number);
    fs::create_dir_all(slot.join("root")).unwrap();
    for dir in [".imp-mount", ".imp-mount/roots"].map(|dir| store.join(dir)).iter().chain([&slot]) {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    }
    // imp-mount's mark, so that other commands use the directory.
    lsetxattr(store.join(".imp-mount"), "trusted.imp-mount.private", b"", XattrFlags::empty()).unwrap();
    let boot = json!({ "version": 1, "boot_id": boot_id, "made": 1, "system": null, "kind": kind });
    fs::write(slot.join("boot.json"), boot.to_string()).unwrap();
    slot.join("root")
}

/// Records a good end of an old root's boot or save.
fn end(store: &Path, number: u32) {
    let end = json!({
        "version": 1, "ended": 2, "complete": true, "files": 0, "bytes": 0, "rows": [], "rows_count": 0, "left_out": [],
        "left_out_count": 0, "left_out_bytes": 0
    });
    fs::write(slot(store, number).join("end.json"), end.to_string()).unwrap();
}

/// An old root on the disk of a machine's store.
fn old(machine: &Machine, number: u32) -> PathBuf {
    make(&machine.at("/persist"), number, "disk", "an earlier one")
}

fn write(path: impl AsRef<Path>, content: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[track_caller]
fn are_same(one: impl AsRef<Path>, other: impl AsRef<Path>, output: &Output) {
    let differences = Look::of(one.as_ref()).differences(&Look::of(other.as_ref()));
    assert_eq!(differences, [] as [&str; 0], "{output:?}");
}

fn recover(machine: &Machine, words: &[&str]) -> Output {
    machine.impctl("recover", words)
}

/// Nothing of a copy is left at the top of the root.
fn is_tidy(machine: &Machine) {
    assert!(!machine.at("/.imp-mount").exists());
}

fn everything_is_kept() {
    for fs in Fs::REAL {
        let machine = started_on(fs, 128, json!([]));
        let root = old(&machine, 3);
        let (from, to) = (root.join("var/spool/app"), machine.at("/var/spool/app"));
        trees::make(&from);
        chown(root.join("var/spool"), Some(3), Some(4)).unwrap();
        fs::set_permissions(root.join("var/spool"), Permissions::from_mode(0o2751)).unwrap();
        let before = Look::of(&root);
        let dry = recover(&machine, &["--dry-run", "/var/spool/app"]).ok();
        assert!(
            dry.stdout.starts_with("/var/spool/app: would be brought from root 3 on /persist ("),
            "{dry:?}"
        );
        assert!(!machine.at("/var").exists());

        let output = recover(&machine, &["/var/spool/app"]).ok();
        are_same(&from, &to, &output);
        let blocks = |path: PathBuf| fs::metadata(path).unwrap().blocks();
        assert!(blocks(to.join("sparse")) <= blocks(from.join("sparse")) + 256, "{fs:?}");
        assert_eq!(
            (stat(machine.at("/var")), stat(machine.at("/var/spool"))),
            ((0o040_755, 0, 0), (0o042_751, 3, 4))
        );
        assert_eq!(before.differences(&Look::of(&root)), [] as [&str; 0]);
        let entry = "add to the entries of the manifest\n  {\"directory\":\"/var/spool/app\",\"group\":\"194\",\
                     \"mode\":\"1750\",\"user\":\"193\"}\n";
        assert!(output.stdout.ends_with(entry), "{output:?}");
        is_tidy(&machine);

        // Once more is nothing more.
        let before = Look::of(&to);
        let output = recover(&machine, &["/var/spool/app"]).ok();
        assert!(
            output.stdout.starts_with("/var/spool/app: all that root 3 on /persist has is there already\n"),
            "{output:?}"
        );
        assert_eq!(Look::of(&to), before);
        is_tidy(&machine);
        machine.power_off();
        fs::remove_dir_all("/tmp/machine").unwrap();
    }
}

fn the_newest_that_has_it() {
    let machine = started();
    let store = machine.at("/persist");
    let boot_id = read("/proc/sys/kernel/random/boot_id");
    // By number, which text would order otherwise.
    for number in [2, 9, 10] {
        write(old(&machine, number).join("srv/file"), &format!("of {number}"));
    }
    write(old(&machine, 2).join("srv/dir/file"), "of 2");
    // The place of a mount, and of the mount of a file.
    fs::create_dir_all(old(&machine, 9).join("srv/dir")).unwrap();
    write(old(&machine, 2).join("etc/one"), "of 2");
    write(old(&machine, 10).join("etc/one"), "");
    write(old(&machine, 9).join("srv/nothing/x"), "");
    write(make(&store, 11, "saved", "an earlier one").join("srv/file"), "half of it");
    write(make(&store, 12, "disk", boot_id.trim()).join("srv/file"), "left over");
    let unknown = make(&store, 13, "disk", "");
    write(unknown.join("srv/file"), "unknown");
    fs::remove_file(slot(&store, 13).join("boot.json")).unwrap();
    write(make(&store, 14, "saved", "an earlier one").join("srv/saved"), "complete");
    end(&store, 14);
    // Off the list.
    write(old(&machine, 20).join("srv/file"), "removed");
    fs::rename(slot(&store, 20), store.join(".imp-mount/roots/removed-20")).unwrap();

    let output =
        recover(&machine, &["--json", "/srv/file", "/srv/dir", "/etc/one", "/srv/nothing", "/srv/saved"])
            .ok();
    let said = json_of(&output, "recover");
    let from = |number: usize| said["recovered"][number]["root"].as_u64().unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(from), [10, 2, 2, 9, 14], "{said}");
    assert_eq!(read(machine.at("/srv/file")), "of 10");
    assert_eq!(read(machine.at("/srv/dir/file")), "of 2");
    assert_eq!(read(machine.at("/etc/one")), "of 2");
    assert_eq!(read(machine.at("/srv/saved")), "complete");
    assert_eq!(said["recovered"][2]["entry"], json!({ "file": "/etc/one" }));
    for (number, content) in [(9, "of 9"), (11, "half of it"), (12, "left over"), (13, "unknown")] {
        fs::remove_file(machine.at("/srv/file")).unwrap();
        recover(&machine, &["--number", &number.to_string(), "/srv/file"]).ok();
        assert_eq!(read(machine.at("/srv/file")), content);
    }
}

fn missing_paths_are_named() {
    let machine = started();
    recover(&machine, &["/srv/x"]).expect(2).says(&["there is no old root", "`old_roots`"]);
    let (one, two) = (old(&machine, 1), old(&machine, 2));
    write(one.join("srv/a/b/file"), "1");
    write(two.join("srv/a/file"), "2");
    write(make(&machine.at("/persist"), 3, "saved", "").join("srv/half"), "3");
    let output = recover(&machine, &["/srv/a/b/c/d", "/srv/a/file", "/srv/a/none"]).expect(1);
    output.clone().says_in_one_line(&[
        "error: /srv/a/b/c/d: none of the old roots has it: 2, 1; root 3 was not looked at, as saving it was cut off",
        "what is nearest: `ls -A /persist/.imp-mount/roots/1/root/srv/a/b`",
    ]);
    output
        .clone()
        .says_in_one_line(&["error: /srv/a/none: ", "`ls -A /persist/.imp-mount/roots/2/root/srv/a`"]);
    assert!(output.stdout.starts_with("/srv/a/file: brought from root 2"), "{output:?}");
    assert_eq!(read(machine.at("/srv/a/file")), "2");
    assert!(!machine.at("/srv/a/b").exists());
    recover(&machine, &["--number", "7", "/srv/a/file"]).expect(1).says(&["there is no old root 7"]);
    recover(&machine, &["--number", "1", "/srv/a/file"]).expect(1).says(&["root 1 does not have it"]);
    recover(&machine, &["/"]).expect(1).says(&["it is the root itself", "--to"]);
    assert_eq!(fs::read_dir(machine.at("/srv")).unwrap().count(), 1);
}

fn nothing_is_replaced() {
    let machine = started();
    let root = old(&machine, 1);
    for name in ["same", "other", "dir/file", "dir/new", "was-file", "was-dir/file", "deep/a/b/c", "link"] {
        write(root.join("srv").join(name), "old");
    }
    write(root.join("srv/hard"), "hard");
    fs::hard_link(root.join("srv/hard"), root.join("srv/dir/hard")).unwrap();
    for (name, content) in
        [("same", "old"), ("other", "newer"), ("dir/file", "mine"), ("dir/own", "own"), ("was-dir", "x")]
    {
        write(machine.at("/srv").join(name), content);
    }
    fs::create_dir(machine.at("/srv/was-file")).unwrap();
    symlink("other", machine.at("/srv/link")).unwrap();
    fs::set_permissions(machine.at("/srv/dir"), Permissions::from_mode(0o700)).unwrap();
    sh_on("touch -r", &[&root.join("srv/same"), &machine.at("/srv/same")]);
    let before = Snapshot::of(&machine.at("/srv"));
    let times = |path: &str| fs::symlink_metadata(machine.at(path)).unwrap().mtime_nsec();
    let (other, link) = (times("/srv/other"), times("/srv/link"));

    let output = recover(&machine, &["/srv"]).expect(1);
    for (path, what) in [
        ("other", "size"),
        ("dir", "mode"),
        ("dir/file", "size"),
        ("was-file", "type"),
        ("was-dir", "type"),
        ("link", "type"),
    ] {
        output.clone().says_in_one_line(&[&format!(
            "error: /srv/{path}: it is there already, differs in {what} from that of root 1, and stays"
        )]);
    }
    assert!(!output.stderr.contains("/srv/same"), "{output:?}");
    let after = Snapshot::of(&machine.at("/srv"));
    assert_eq!(before.losses(&after), [] as [&str; 0], "{output:?}");
    assert_eq!((times("/srv/other"), times("/srv/link")), (other, link));
    for path in ["dir/new", "deep/a/b/c"] {
        are_same(root.join("srv").join(path), machine.at("/srv").join(path), &output);
    }
    let inode = |path: &str| fs::metadata(machine.at(path)).unwrap().ino();
    assert_eq!(inode("/srv/hard"), inode("/srv/dir/hard"));
    assert!(!machine.at("/srv/was-file/file").exists());
    assert!(output.stdout.starts_with("/srv: brought from root 1 on /persist (7 of "), "{output:?}");
    // One existing file.
    let said = json_of(&recover(&machine, &["--json", "/srv/other"]).expect(1), "recover");
    assert_eq!(said["recovered"][0]["state"], "incomplete");
    assert_eq!(said["recovered"][0]["kept"], json!([{ "path": "/srv/other", "what": "size" }]));
    assert_eq!(read(machine.at("/srv/other")), "newer");
}

/// A file of a private directory is not copied into a directory readable by others.
fn a_directory_that_shows_more() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("home/ada/letters/one"), "secret");
    for dir in ["home/ada", "home/ada/letters"] {
        fs::set_permissions(root.join(dir), Permissions::from_mode(0o700)).unwrap();
        chown(root.join(dir), Some(1000), Some(100)).unwrap();
    }
    fs::create_dir_all(machine.at("/home/ada")).unwrap();
    for words in [&["/home/ada/letters"][..], &["/home/ada"], &["/home"]] {
        recover(&machine, words).expect(1).says(&["grants access to more users"]);
        assert_eq!(fs::read_dir(machine.at("/home/ada")).unwrap().count(), 0);
    }
    fs::set_permissions(machine.at("/home/ada"), Permissions::from_mode(0o700)).unwrap();
    chown(machine.at("/home/ada"), Some(1000), Some(100)).unwrap();
    let output = recover(&machine, &["/home/ada/letters"]).ok();
    are_same(root.join("home/ada/letters"), machine.at("/home/ada/letters"), &output);
}

fn links_are_not_followed() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("srv/u/d/file"), "old");
    write(root.join("srv/one"), "old");
    // In the old root: to a place of another, there and outside.
    write(root.join("secret/file"), "secret");
    symlink("/secret", root.join("srv/to")).unwrap();
    symlink("../../../../../../../etc", root.join("srv/out")).unwrap();
    for path in ["/srv/to/file", "/srv/out/passwd"] {
        recover(&machine, &[path]).expect(1).says(&["links are never followed", "does not have it"]);
        recover(&machine, &["--number", "1", path]).expect(1).says(&["links are never followed"]);
    }
    recover(&machine, &["/srv/to"]).ok();
    assert_eq!(fs::read_link(machine.at("/srv/to")).unwrap(), Path::new("/secret"));

    // On the running system: on the way, and at the end.
    fs::create_dir(machine.at("/victim")).unwrap();
    symlink("/victim", machine.at("/srv/u")).unwrap();
    symlink("/victim/one", machine.at("/srv/one")).unwrap();
    recover(&machine, &["/srv/u/d"]).expect(1).says(&["/srv/u is a symbolic link to /victim"]);
    recover(&machine, &["/srv/u"]).expect(1).says(&["/srv/u: it is there already, differs in type"]);
    recover(&machine, &["/srv/one"]).expect(1).says(&["/srv/one: it is there already, differs in type"]);
    recover(&machine, &["/srv"]).expect(1);
    assert_eq!(fs::read_dir(machine.at("/victim")).unwrap().count(), 0);
    assert!(!machine.at("/secret").exists());
}

/// The root is a directory of the store, as with `root.on`.
fn the_running_root_is_no_source() {
    for fs in [Fs::Ext4, Fs::Btrfs] {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 128));
        machine.manifest(&manifest(json!([])));
        let store = machine.at("/persist");
        write(make(&store, 1, "disk", "an earlier one").join("srv/a/file"), "old");
        let own = make(&store, 2, "disk", read("/proc/sys/kernel/random/boot_id").trim());
        write(own.join("srv/own"), "own");
        fs::create_dir(own.join("persist")).unwrap();
        bind(&own, machine.at(""));
        machine.disk().mount(machine.at("/persist"));
        machine.switch_root();

        recover(&machine, &["/srv/own"]).expect(1).says(&["root 1 does not have it"]);
        recover(&machine, &["--number", "2", "/srv/own"]).expect(1).says(&["there is no old root 2"]);
        let output = recover(&machine, &["/srv/a"]).ok();
        assert_eq!(read(own.join("srv/a/file")), "old", "{fs:?}: {output:?}");
        assert!(output.stdout.contains("{\"directory\":\"/srv/a\""), "{output:?}");
        is_tidy(&machine);
        machine.power_off();
        fs::remove_dir_all("/tmp/machine").unwrap();
    }
}

fn read_only_places_are_refused() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("srv/a/file"), "old");
    write(root.join("data/file"), "old");
    fs::create_dir(machine.at("/data")).unwrap();
    tmpfs(machine.at("/data"), "mode=0755,ro");
    // An old root is only read.
    machine.disk().turn_read_only();
    let output = recover(&machine, &["/srv/a", "/data/file"]).expect(1);
    output.clone().says_in_one_line(&["error: /data/file: what is mounted at /data is read-only", "--to"]);
    are_same(root.join("srv/a"), machine.at("/srv/a"), &output);
    let words = "/run/machine/impctl recover --manifest /run/machine/manifest /srv/a";
    let output = machine.run_inside(&["setpriv", "--reuid=1000", "--clear-groups", "sh", "-c", words]);
    output.expect(2).says(&["only root may read old roots"]);
}

fn files_with_immutable_flags() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("srv/a/log"), "log");
    write(root.join("srv/a/fixed/file"), "file");
    let flags = |path: PathBuf| sh_on("lsattr -d", &[&path]).split(' ').next().unwrap().to_owned();
    sh_on("chattr +a", &[&root.join("srv/a/log")]);
    sh_on("chattr +i", &[&root.join("srv/a/fixed/file")]);
    sh_on("chattr +i", &[&root.join("srv/a/fixed")]);
    let output = recover(&machine, &["/srv/a"]).ok();
    for (path, flag) in [("log", 'a'), ("fixed/file", 'i'), ("fixed", 'i')] {
        let flags = flags(machine.at("/srv/a").join(path));
        assert!(flags.contains(flag), "{path}: {flags}: {output:?}");
    }
    recover(&machine, &["/srv/a"]).ok();
    // Allows the removal of the disk.
    sh_on("chattr -R -i -a", &[&root.join("srv/a")]);
}

fn persistent_paths_have_no_line() {
    let machine = started_on(Fs::Ext4, 64, json!([{ "directory": "/var/lib/named" }]));
    let root = old(&machine, 1);
    write(root.join("run/x"), "x");
    write(root.join("var/lib/late/x"), "x");
    symlink("/etc/static", root.join("srv")).unwrap();
    machine.manifest(&manifest(json!([{ "directory": "/var/lib/named" }, { "directory": "/var/lib/late" }])));
    let output = recover(&machine, &["/run/x", "/var/lib/late", "/srv"]).ok();
    assert!(
        output.stdout.contains("it persists by the entry /var/lib/late, once that is mounted"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("environment.persistence"), "{output:?}");
    assert_eq!(read(machine.at("/run/x")), "x");
}
