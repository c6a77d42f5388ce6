//! `--adopt`: no version of a file is lost, whichever side changed, and whatever a run recorded.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use crate::support::command::sh_on;
use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot};

tests![
    each_pair_of_versions: Disk,
    without_a_record_nothing_is_replaced: Disk,
    a_copy_of_another_source: Disk,
    a_changed_copy_of_another_source: Disk,
    mode_000_is_a_mode_like_another: Disk,
    a_store_restored_meanwhile: Disk,
    copied_files_are_recorded: Disk,
    a_run_takes_a_brought_file_for_the_link: Disk,
    other_types_in_the_place_of_a_file_are_said: Disk,
    every_version_is_named: Disk,
    the_store_s_version_stays_when_the_other_one_is_removed: Disk,
    a_link_to_the_store_s_file_is_no_version_of_it: Disk,
    a_copy_removed_from_the_store_stays_removed: Disk,
    a_replaced_link_that_was_brought_is_well: Disk,
    both_versions_stay_until_one_is_removed: Disk,
    capabilities_and_inode_flags_are_brought: Disk,
    default_acls_give_no_access: Disk,
    an_empty_file_of_mode_000_keeps_its_mode: Disk,
];

const BESIDE: &str = "/persist/etc/conf.imp-mount-conflict";

fn manifest(entries: Value) -> Value {
    json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries })
}

fn copy() -> Value {
    json!([{ "file": "/etc/conf", "method": "copy" }])
}

/// A booted machine whose store holds /etc/conf.
fn booted(fs: Fs, entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
    write(&machine, "/persist/etc/conf", "old");
    machine.manifest(&manifest(entries));
    machine.build().ok();
    machine
}

fn write(machine: &Machine, path: &str, text: &str) {
    let path = machine.at(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Puts a new file in the place of another, as most programs save.
fn replace(machine: &Machine, path: &str, text: &str) {
    write(machine, &format!("{path}.new"), text);
    fs::rename(machine.at(&format!("{path}.new")), machine.at(path)).unwrap();
}

fn read(machine: &Machine, path: &str) -> Option<String> {
    fs::read_to_string(machine.at(path)).ok()
}

fn adopt(machine: &Machine) -> Output {
    machine.run(&["--adopt"])
}

/// Root and store, each unchanged, changed in place, replaced or removed: the resulting file on the store.
fn each_pair_of_versions() {
    type Change = fn(&Machine, &str);
    let changes: [(&str, Change); 4] = [
        ("same", |_, _| ()),
        ("written", |machine, path| write(machine, path, &format!("written at {path}"))),
        ("replaced", |machine, path| replace(machine, path, &format!("replaced at {path}"))),
        ("removed", |machine, path| fs::remove_file(machine.at(path)).unwrap()),
    ];
    for fs in [Fs::Ext4, Fs::Btrfs] {
        for (on_root, change_root) in &changes {
            for (on_store, change_store) in &changes {
                let machine = booted(fs, copy());
                change_root(&machine, "/etc/conf");
                change_store(&machine, "/persist/etc/conf");
                let (root, store) = (read(&machine, "/etc/conf"), read(&machine, "/persist/etc/conf"));
                let output = adopt(&machine);
                let found = (read(&machine, "/persist/etc/conf"), read(&machine, BESIDE));
                let wanted = match (*on_root, *on_store) {
                    // A program that removes its file removes no data of the store.
                    ("same" | "removed", _) => (store, None),
                    (_, "same" | "removed") => (root, None),
                    _ => (store, root),
                };
                assert_eq!(found, wanted, "{fs:?}: root {on_root}, store {on_store}: {output:?}");
                assert_eq!(output.code, Some(i32::from(found.1.is_some())), "{output:?}");
                let settled = Snapshot::of(&machine.at("/persist"));
                assert_eq!(adopt(&machine).code, output.code);
                assert_eq!(Snapshot::of(&machine.at("/persist")), settled, "a second time changes nothing");
                machine.power_off();
            }
        }
    }
}

fn without_a_record_nothing_is_replaced() {
    for method in ["copy", "symlink", "bind"] {
        let machine = booted(Fs::Ext4, json!([{ "directory": "/srv" }]));
        // A program's default file: the entry was compiled, and no run has placed the file.
        write(&machine, "/etc/conf", "default");
        machine.manifest(&manifest(json!([{ "file": "/etc/conf", "method": method }])));
        adopt(&machine).expect(1).says_in_one_line(&["/etc/conf", "different versions", "keep one"]);
        assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "old", "{method}");
        assert_eq!(read(&machine, BESIDE).unwrap(), "default", "{method}");
        machine.power_off();
    }
    // The record is lost.
    let machine = booted(Fs::Ext4, copy());
    replace(&machine, "/etc/conf", "new");
    fs::remove_file("/run/imp-mount/report.json").unwrap();
    adopt(&machine).expect(1);
    assert_eq!(
        (read(&machine, "/persist/etc/conf").unwrap(), read(&machine, BESIDE).unwrap()),
        ("old".into(), "new".into())
    );
}

fn a_copy_of_another_source() {
    let machine = booted(Fs::Ext4, copy());
    write(&machine, "/persist/other", "years of data");
    machine.switch_root();
    machine.manifest(&manifest(json!([{ "file": "/etc/conf", "method": "copy", "source": "/other" }])));
    machine.run_live(&[]).ok();
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "years of data");
    machine.run_live(&["--adopt"]).ok();
    assert_eq!(read(&machine, "/persist/other").unwrap(), "years of data");
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "old");
}

fn a_changed_copy_of_another_source() {
    let machine = booted(Fs::Ext4, copy());
    write(&machine, "/persist/other", "years of data");
    machine.switch_root();
    replace(&machine, "/etc/conf", "changed");
    machine.manifest(&manifest(json!([{ "file": "/etc/conf", "method": "copy", "source": "/other" }])));
    machine.run_live(&[]).expect(1).says_in_one_line(&[
        "/etc/conf",
        "the copy of /persist/etc/conf",
        "was changed",
    ]);
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "changed");
    machine.run_live(&["--adopt"]).expect(1);
    assert_eq!(read(&machine, "/persist/other").unwrap(), "years of data");
    assert_eq!(read(&machine, "/persist/other.imp-mount-conflict").unwrap(), "changed");
}

/// /etc/shadow is 0000 on Fedora, RHEL and openSUSE.
fn mode_000_is_a_mode_like_another() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    write(&machine, "/persist/etc/conf", "old hash");
    let seal = |path: &str| fs::set_permissions(machine.at(path), Permissions::from_mode(0o000)).unwrap();
    seal("/persist/etc/conf");
    machine.manifest(&manifest(copy()));
    machine.build().ok();
    assert_eq!(stat(machine.at("/etc/conf")), (0o100_000, 0, 0));
    write(&machine, "/etc/conf.new", "new hash");
    seal("/etc/conf.new");
    fs::rename(machine.at("/etc/conf.new"), machine.at("/etc/conf")).unwrap();
    machine.build().ok();
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "new hash", "a second run leaves it");
    adopt(&machine).ok();
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "new hash");
    assert_eq!(stat(machine.at("/persist/etc/conf")), (0o100_000, 0, 0));
    machine.reboot().ok();
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "new hash");
}

/// A backup brings back old times; the store's file is a new version all the same.
fn a_store_restored_meanwhile() {
    let machine = booted(Fs::Ext4, copy());
    write(&machine, "/tmp/backup", "bac");
    sh_on("touch -d 2001-01-01", &[&machine.at("/tmp/backup")]);
    sh_on("cp -p --remove-destination", &[&machine.at("/tmp/backup"), &machine.at("/persist/etc/conf")]);
    adopt(&machine).ok();
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "bac", "the root's copy is the old version");
    replace(&machine, "/etc/conf", "new");
    adopt(&machine).expect(1);
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "bac");
    assert_eq!(read(&machine, BESIDE).unwrap(), "new");
}

fn copied_files_are_recorded() {
    let machine = booted(Fs::Ext4, json!([{ "file": "/etc/conf", "method": "copy" }, { "file": "/keys/*" }]));
    for text in ["one", "two", "three"] {
        replace(&machine, "/etc/conf", text);
        replace(&machine, "/keys/new", text);
        adopt(&machine).ok();
        assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), text);
        assert_eq!(read(&machine, "/persist/keys/new").unwrap(), text);
    }
}

fn a_replaced_link_that_was_brought_is_well() {
    let entries = json!([{ "file": "/etc/conf", "method": "symlink" }, { "file": "/etc/later" }]);
    let machine = booted(Fs::Ext4, entries);
    machine.switch_root();
    replace(&machine, "/etc/conf", "new");
    replace(&machine, "/etc/later", "made");
    let check = machine.run_live(&["--check"]).expect(1).stdout;
    assert_eq!(check.matches("replaced by a file").count(), 2, "{check}");
    machine.run_live(&["--adopt"]).ok();
    let check = machine.run_live(&["--check"]).ok().stdout;
    assert!(!check.contains("--adopt"), "{check}");
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "new");
    assert_eq!(read(&machine, "/persist/etc/later").unwrap(), "made");
}

fn a_run_takes_a_brought_file_for_the_link() {
    let entries = json!([
        { "file": "/etc/conf", "method": "symlink" },
        { "file": "/keys/*", "method": "symlink" },
    ]);
    let machine = booted(Fs::Ext4, entries);
    machine.switch_root();
    replace(&machine, "/etc/conf", "new");
    replace(&machine, "/keys/new", "made");
    machine.run_live(&[]).expect(1).says_in_one_line(&["/etc/conf", "--adopt"]);
    machine.run_live(&["--adopt"]).ok();
    for _ in 0..2 {
        machine.run_live(&[]).ok();
        let check = machine.run_live(&["--check"]).ok().stdout;
        assert!(!check.contains("--adopt"), "{check}");
    }
    // A later change is copied as well.
    replace(&machine, "/etc/conf", "newer");
    machine.run_live(&["--adopt"]).ok();
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "newer");
}

fn other_types_in_the_place_of_a_file_are_said() {
    let entries = json!([
        { "file": "/etc/conf", "method": "copy" },
        { "file": "/etc/later" },
        { "file": "/etc/link", "method": "symlink" },
    ]);
    let machine = booted(Fs::Ext4, entries);
    machine.switch_root();
    for name in ["conf", "later", "link"] {
        let place = machine.at("/etc").join(name);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        fs::write(place.join("inside"), name).unwrap();
    }
    let check = machine.run_live(&["--check"]).expect(1).stdout;
    assert_eq!(check.matches("it is a directory").count(), 3, "{check}");
    let mut output = machine.run_live(&["--adopt"]).expect(1);
    for name in ["conf", "later", "link"] {
        output = output.says_in_one_line(&[&format!("/etc/{name}"), "a directory is there", "move it away"]);
        assert_eq!(read(&machine, &format!("/etc/{name}/inside")).unwrap(), name);
    }
}

fn every_version_is_named() {
    let machine = booted(Fs::Ext4, copy());
    for text in ["first", "second"] {
        replace(&machine, "/etc/conf", text);
        replace(&machine, "/persist/etc/conf", &format!("store's {text}"));
        adopt(&machine).expect(1);
    }
    let check = machine.run(&["--check"]).expect(1).stdout;
    let second = format!("{BESIDE}-2");
    assert!(check.contains("3 versions are kept") && check.contains(&second), "{check}");
    // Two versions stop no boot.
    assert!(!check.contains("imp-mount.skip="), "{check}");
}

fn the_store_s_version_stays_when_the_other_one_is_removed() {
    let machine = booted(Fs::Ext4, copy());
    replace(&machine, "/etc/conf", "root");
    replace(&machine, "/persist/etc/conf", "store");
    for _ in 0..2 {
        adopt(&machine).expect(1);
    }
    fs::remove_file(machine.at(BESIDE)).unwrap();
    machine.run(&["--check"]).ok();
    adopt(&machine).ok();
    assert!(!machine.at(BESIDE).exists());
    // The store's version is not made from the one changed here.
    replace(&machine, "/etc/conf", "changed again");
    adopt(&machine).expect(1);
    assert_eq!(read(&machine, "/persist/etc/conf").unwrap(), "store");
    assert_eq!(read(&machine, BESIDE).unwrap(), "changed again");
    fs::remove_file(machine.at(BESIDE)).unwrap();
    machine.reboot().ok();
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "store");
    machine.run(&["--check"]).ok();
}

fn a_link_to_the_store_s_file_is_no_version_of_it() {
    let links = json!([
        { "file": "/etc/conf", "method": "symlink" },
        { "file": "/keys/*", "method": "symlink" },
        { "file": "/etc/later" },
    ]);
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    write(&machine, "/persist/etc/conf", "precious");
    write(&machine, "/persist/keys/one", "precious");
    write(&machine, "/persist/etc/copy", "precious");
    machine.manifest(&manifest(links));
    machine.build().ok();
    machine.switch_root();
    write(&machine, "/persist/etc/later", "precious");
    machine.manifest(&manifest(json!([
        { "file": "/etc/conf", "method": "copy" },
        { "file": "/keys/*", "method": "copy" },
        { "file": "/etc/later", "method": "copy" },
        { "file": "/etc/copy", "method": "copy" },
    ])));
    for link in ["/persist/etc/copy", "../persist/etc/copy", "other"] {
        let place = machine.at("/etc/copy");
        if place.symlink_metadata().is_ok() {
            fs::remove_file(&place).unwrap();
        }
        symlink(link, place).unwrap();
        if link == "other" {
            symlink("/persist/etc/copy", machine.at("/etc/other")).unwrap();
        }
        machine.run_live(&["--check"]).ok();
        machine.run_live(&["--adopt"]).ok();
        if link.starts_with("/persist") {
            machine.run_live(&[]).ok();
            machine.run_live(&["--adopt"]).ok();
        }
        for path in ["etc/conf", "etc/copy", "etc/later", "keys/one"] {
            let path = machine.at("/persist").join(path);
            assert!(path.symlink_metadata().unwrap().is_file(), "{}", path.display());
            assert_eq!(fs::read_to_string(path).unwrap(), "precious");
        }
        assert!(!machine.at("/persist/etc/later.imp-mount-conflict").exists());
    }
}

fn a_copy_removed_from_the_store_stays_removed() {
    let machine = booted(Fs::Ext4, copy());
    fs::remove_file(machine.at("/persist/etc/conf")).unwrap();
    let check = machine.run(&["--check"]).ok().stdout;
    assert!(!check.contains("--adopt"), "{check}");
    adopt(&machine).ok();
    assert_eq!(read(&machine, "/persist/etc/conf"), None);
}

fn both_versions_stay_until_one_is_removed() {
    let machine = booted(Fs::Ext4, copy());
    replace(&machine, "/etc/conf", "root");
    replace(&machine, "/persist/etc/conf", "store");
    let check = machine.run(&["--check"]).expect(1).stdout;
    assert!(check.contains("two versions        /etc/conf"), "{check}");
    adopt(&machine).expect(1);
    for _ in 0..2 {
        machine.reboot().says_in_one_line(&["/etc/conf", BESIDE, "keep one"]);
        assert_eq!(read(&machine, "/etc/conf").unwrap(), "store");
        let check = machine.run(&["--check"]).expect(1).stdout;
        assert!(check.contains(BESIDE) && check.contains("two versions"), "{check}");
    }
    fs::rename(machine.at(BESIDE), machine.at("/persist/etc/conf")).unwrap();
    let output = machine.reboot();
    assert!(!output.stderr.contains("keep one"), "{output:?}");
    assert_eq!(read(&machine, "/etc/conf").unwrap(), "root");
}

fn capabilities_and_inode_flags_are_brought() {
    let entries =
        json!([{ "file": "/etc/conf", "method": "copy" }, { "file": "/etc/fixed", "method": "copy" }]);
    let machine = booted(Fs::Ext4, entries);
    replace(&machine, "/etc/conf", "new");
    // CAP_NET_BIND_SERVICE, as written by setcap(8).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = machine.at("/etc/conf");
    lsetxattr(&path, "security.capability", &capability, XattrFlags::empty()).unwrap();
    write(&machine, "/etc/fixed", "fixed");
    sh_on("chattr +i", &[&machine.at("/etc/fixed")]);
    let output = adopt(&machine).ok();
    assert!(!output.stderr.contains("lacks"), "{output:?}");
    let mut value = [0; 64];
    let length =
        rustix::fs::lgetxattr(machine.at("/persist/etc/conf"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..length], capability);
    let flags = sh_on("lsattr", &[&machine.at("/persist/etc/fixed")]);
    assert!(flags.split(' ').next().unwrap().contains('i'), "{flags}");
    // The next boot sets the flag on the root, too; a new version there replaces the immutable file on the store.
    machine.reboot().ok();
    assert_eq!(read(&machine, "/etc/fixed").unwrap(), "fixed");
    assert!(fs::write(machine.at("/etc/fixed"), "").is_err());
    sh_on("chattr -i", &[&machine.at("/etc/fixed")]);
    replace(&machine, "/etc/fixed", "fixed again");
    sh_on("chattr +i", &[&machine.at("/etc/fixed")]);
    adopt(&machine).ok();
    assert_eq!(read(&machine, "/persist/etc/fixed").unwrap(), "fixed again");
    for path in ["/etc/fixed", "/persist/etc/fixed"] {
        sh_on("chattr -i", &[&machine.at(path)]);
    }
}

fn default_acls_give_no_access() {
    let home = json!([{ "directory": "/home/u", "user": 1000, "group": 1000 }]);
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    write(&machine, "/persist/home/u/report", "old");
    chown(machine.at("/persist/home/u"), Some(1000), Some(1000)).unwrap();
    sh_on("setfacl -d -m u:1000:rwx", &[&machine.at("/persist/home/u")]);
    let report = machine.at("/persist/home/u/report");
    chown(&report, Some(0), Some(4)).unwrap();
    fs::set_permissions(&report, Permissions::from_mode(0o640)).unwrap();
    let entries = json!([
        { "file": "/home/u/report", "method": "copy" },
        { "directory": "/home/u/private", "mode": "0750" },
        { "file": "/home/u/token", "missing": "create", "mode": "0640" },
    ]);
    machine.manifest(&json!({
        "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "parents": home, "entries": entries
    }));
    machine.build().ok();
    sh_on("setfacl -d -m u:1000:rwx", &[&machine.at("/home/u")]);
    replace(&machine, "/home/u/report", "secret");
    chown(machine.at("/home/u/report"), Some(0), Some(4)).unwrap();
    sh_on("setfacl --remove-all", &[&machine.at("/home/u/report")]);
    fs::set_permissions(machine.at("/home/u/report"), Permissions::from_mode(0o640)).unwrap();
    adopt(&machine).ok();
    for path in ["report", "private", "token"] {
        let path = machine.at(&format!("/persist/home/u/{path}"));
        let acl = sh_on("getfacl --omit-header --numeric --absolute-names", &[&path]);
        assert!(!acl.contains("user:1000"), "{}: {acl}", path.display());
    }
    assert_eq!(read(&machine, "/persist/home/u/report").unwrap(), "secret");
}

/// Files appear whole: none is taken for an unfinished one because of its mode.
fn an_empty_file_of_mode_000_keeps_its_mode() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    write(&machine, "/persist/etc/conf", "");
    fs::set_permissions(machine.at("/persist/etc/conf"), Permissions::from_mode(0o000)).unwrap();
    machine.manifest(&manifest(json!([{ "file": "/etc/conf", "missing": "create", "mode": "0644" }])));
    machine.build().ok();
    assert_eq!(stat(machine.at("/persist/etc/conf")), (0o100_000, 0, 0));
}
