//! Owners that do not exist yet, and `--settle`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::lgetxattr;
use serde_json::{Value, json};

use super::{booted, is_on_both, manifest};
use crate::support::look::stat;
use crate::support::{Disk, Fs, Machine, Root, Snapshot};

/// The pending mark, read from the kernel.
fn is_marked(path: &Path) -> bool {
    lgetxattr(path, "trusted.imp-mount.pending", &mut [0_u8; 0][..]).is_ok()
}

/// All files of `plex` are in place, owned by root, and pending.
#[track_caller]
fn waits(machine: &Machine) {
    for (path, mode) in [("/srv/plex", 0o700), ("/srv/plex/deep/down", 0o700), ("/etc/plex", 0o600)] {
        is_on_both(machine, path, mode, 0, 0);
        assert!(machine.mount_at(path).is_some(), "{path}");
        assert!(is_marked(&machine.at("/persist").join(&path[1..])), "{path}");
    }
    is_on_both(machine, "/srv/plex/deep", 0o700, 0, 0);
    // Also the directory above the nested entry; and each path once, though several entries lead to it.
    assert_eq!(machine.report()["pending"].as_array().unwrap().len(), 4);
}

/// All files of `plex` belong to plex.
#[track_caller]
fn is_settled(machine: &Machine) {
    is_on_both(machine, "/srv/plex", 0o2750, 193, 194);
    is_on_both(machine, "/srv/plex/deep", 0o710, 193, 0);
    is_on_both(machine, "/srv/plex/deep/down", 0o755, 193, 0);
    is_on_both(machine, "/etc/plex", 0o640, 0, 194);
    for path in ["srv/plex", "srv/plex/deep", "srv/plex/deep/down", "etc/plex"] {
        assert!(!is_marked(&machine.at("/persist").join(path)), "{path}");
    }
    assert_eq!(machine.report()["pending"], json!([]));
}

pub fn plex() -> Vec<Value> {
    vec![
        json!({ "directory": "/srv/plex", "user": "plex", "group": "plex", "mode": "2750", "method": "bind" }),
        json!({
            "directory": "/srv/plex/deep/down", "user": "plex", "parents": { "user": "plex", "mode": "0710" },
        }),
        json!({ "file": "/etc/plex", "group": "plex", "mode": "0640", "missing": "create" }),
        json!({ "directory": "/var/lib/nixos" }),
    ]
}

/// Users come into being on the started system.
fn make_users(machine: &Machine) {
    fs::create_dir_all(machine.at("/etc")).unwrap();
    fs::write(machine.at("/etc/passwd"), "root:x:0:0::/:\nplex:x:193:194::/:\n").unwrap();
    fs::write(machine.at("/etc/group"), "root:x:0:\nplex:x:194:\n").unwrap();
}

pub fn an_unknown_owner_waits_and_is_settled() {
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        machine.manifest(&manifest(&json!([]), &plex()));
        machine.build().ok();
        waits(&machine);
        machine.switch_root();
        let said = ["/persist/srv/plex", "still no plex", "declare the user"];
        machine.run_live(&["--settle"]).expect(1).says_in_one_line(&said);
        machine.run_live(&["--check"]).ok();
        make_users(&machine);
        machine.run_live(&["--settle"]).ok();
        is_settled(&machine);
        // Once more changes nothing.
        let before = Snapshot::of(&machine.at("/persist"));
        machine.run_live(&["--settle"]).ok();
        assert_eq!(Snapshot::of(&machine.at("/persist")), before);
        machine.run_live(&["--check"]).ok();
        machine.power_off();
    }
}

pub fn a_placeholder_is_no_obstacle() {
    let machine = booted(&json!([]), &[json!({ "directory": "/srv" })]);
    machine.switch_root();
    for name in ["link", "file", "held"] {
        fs::create_dir_all(machine.at("/etc").join(name)).unwrap();
    }
    symlink("/nix/store/x", machine.at("/etc/link/.imp-mount")).unwrap();
    fs::write(machine.at("/etc/file/.imp-mount"), "").unwrap();
    fs::write(machine.at("/etc/held/.imp-mount"), "somebody's").unwrap();
    let directory = |path: &str| json!({ "directory": path });
    let entries = [directory("/srv"), directory("/etc/link"), directory("/etc/file")];
    machine.manifest(&manifest(&json!([]), &entries));
    let output = machine.run_live(&[]).ok();
    assert!(!output.stderr.contains("warning"), "{output:?}");
    assert!(machine.mount_at("/etc/link").is_some() && machine.mount_at("/etc/file").is_some());
    machine.manifest(&manifest(&json!([]), &[directory("/srv"), directory("/etc/held")]));
    machine.run_live(&[]).expect(1).says_in_one_line(&["/etc/held", "holds `.imp-mount`"]);
}

pub fn removed_paths_are_not_pending() {
    let machine = booted(&json!([]), &[json!({ "directory": "/srv/gone", "user": "plex" })]);
    machine.switch_root();
    machine.run_live(&["--settle"]).expect(1);
    fs::rename(machine.at("/persist/srv/gone"), machine.at("/persist/srv/other")).unwrap();
    machine.run_live(&["--settle"]).ok();
    assert_eq!(machine.report()["pending"], json!([]));
    fs::remove_file("/run/imp-mount/report.json").unwrap();
    machine.run_live(&["--settle"]).ok().says_in_one_line(&["no run has left a report", "run imp-mount"]);
}

pub fn waiting_outlives_a_reboot() {
    let machine = booted(&json!([]), &plex());
    machine.reboot().ok();
    waits(&machine);
    // The users' own file was written before the power went.
    machine.power_off();
    machine.power_on();
    let nixos = machine.at("/persist/var/lib/nixos");
    fs::write(nixos.join("uid-map"), r#"{"plex":193}"#).unwrap();
    fs::write(nixos.join("gid-map"), r#"{"plex":194}"#).unwrap();
    machine.build().ok();
    is_settled(&machine);
}

pub fn settling_keeps_owners_given_by_others() {
    let entry = |name: &str| json!({ "directory": format!("/srv/{name}"), "user": "plex", "mode": "0750" });
    let names = ["same", "chowned", "chmodded", "replaced", "gone", "linked", "filled"];
    let file = json!({ "file": "/etc/hard", "user": "plex", "missing": "create" });
    let entries = [&names.map(entry)[..], &[file]].concat();
    let machine = booted(&json!([]), &entries);
    machine.switch_root();
    let store = machine.at("/persist/srv");
    chown(store.join("chowned"), Some(5), Some(6)).unwrap();
    fs::set_permissions(store.join("chmodded"), Permissions::from_mode(0o500)).unwrap();
    fs::create_dir(store.join("new")).unwrap();
    fs::set_permissions(store.join("new"), Permissions::from_mode(0o700)).unwrap();
    for name in ["replaced", "gone", "linked"] {
        fs::rename(store.join(name), store.join(format!("{name}.old"))).unwrap();
    }
    fs::rename(store.join("new"), store.join("replaced")).unwrap();
    symlink("/srv/same", store.join("linked")).unwrap();
    fs::write(store.join("filled/data"), "data").unwrap();
    fs::hard_link(machine.at("/persist/etc/hard"), machine.at("/persist/etc/other-name")).unwrap();
    make_users(&machine);

    machine.run_live(&["--settle"]).expect(0);
    let found = |name: &str| stat(store.join(name));
    assert_eq!(found("same"), (0o040_750, 193, 0));
    assert_eq!(found("filled"), (0o040_750, 193, 0));
    assert_eq!(found("chowned"), (0o040_700, 5, 6));
    assert_eq!(found("chmodded"), (0o040_500, 0, 0));
    for name in ["replaced", "replaced.old", "gone.old", "linked.old"] {
        assert_eq!(found(name), (0o040_700, 0, 0), "{name}");
    }
    assert_eq!(fs::symlink_metadata(store.join("linked")).unwrap().uid(), 0);
    assert_eq!(stat(machine.at("/persist/etc/hard")), (0o100_600, 0, 0));
    assert_eq!(machine.report()["pending"], json!([]));
    for name in ["chowned", "chmodded", "same"] {
        assert!(!is_marked(&store.join(name)), "{name}");
    }
}
