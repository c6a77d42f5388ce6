//! Owner and mode: decided by the most explicit setting, given only to created files, and set later for users that do
//! not exist yet.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::Mode;
use serde_json::{Value, json};

use crate::support::command::{installed, sh_on};
use crate::support::look::stat;
use crate::support::{Disk, Fs, Injected, Machine, Root};

mod waiting;

use waiting::{
    a_placeholder_is_no_obstacle, an_unknown_owner_waits_and_is_settled, removed_paths_are_not_pending,
    settling_keeps_owners_given_by_others, waiting_outlives_a_reboot,
};

tests![
    explicit_beats_implicit: Disk,
    homes_are_the_tables_and_not_the_first_entrys: Disk,
    parents_of_a_file_reach_up_to_the_home: Disk,
    mirrored_directories_look_like_the_stores: Disk,
    everything_is_right_on_the_first_boot: Disk,
    hidden_and_trash_reach_files: Disk,
    an_occupied_target_loses_nothing: Disk,
    an_empty_target_is_no_obstacle: Disk,
    ids_come_from_the_surest_source: Disk,
    ids_of_an_etc_that_persists: Disk,
    an_unknown_owner_waits_and_is_settled: Disk,
    a_placeholder_is_no_obstacle: Disk,
    removed_paths_are_not_pending: Disk,
    waiting_outlives_a_reboot: Disk,
    settling_keeps_owners_given_by_others: Disk,
    inherited_groups_and_acls_do_not_matter: Disk,
    inherited_groups_and_acls_in_a_killed_run: Disk Inject,
    an_existing_source_keeps_its_owner: Disk,
    enforcing_is_asked_for: Disk,
    secrets_for_all_are_reported: Disk,
];

fn manifest(parents: &Value, entries: &[Value]) -> Value {
    json!({
        "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "parents": parents, "entries": entries,
    })
}

/// A machine on ext4, booted with these entries.
fn booted(parents: &Value, entries: &[Value]) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(parents, entries));
    machine.build().ok();
    machine
}

/// A path has this mode and owner on the root, and on the store.
#[track_caller]
fn is_on_both(machine: &Machine, path: &str, mode: u32, uid: u32, gid: u32) {
    for side in [path.to_owned(), format!("/persist{path}")] {
        let (found, user, group) = stat(machine.at(&side));
        assert_eq!(
            (format!("{:04o}", found & 0o7777), user, group),
            (format!("{mode:04o}"), uid, gid),
            "{side}"
        );
    }
}

fn explicit_beats_implicit() {
    // The child comes first, with settings for all directories above.
    let loud = json!({ "mode": "0755", "user": 7 });
    let child = json!({ "directory": "/var/lib/private/app", "user": 193, "parents": loud });
    let machine =
        booted(&json!([]), &[child.clone(), json!({ "directory": "/var/lib/private", "mode": "0700" })]);
    is_on_both(&machine, "/var/lib/private", 0o700, 0, 0);
    is_on_both(&machine, "/var/lib/private/app", 0o755, 193, 0);
    is_on_both(&machine, "/var/lib", 0o755, 0, 0);
    machine.power_off();
    machine.disk().erase();
    machine.power_on();

    // Directories of every system keep their owner and mode, with any entry below.
    machine.manifest(&manifest(&json!([]), &[child, json!({ "directory": "/root/x", "parents": loud })]));
    machine.build().ok();
    is_on_both(&machine, "/var/lib/private", 0o700, 0, 0);
    is_on_both(&machine, "/root", 0o700, 0, 0);
    machine.power_off();
    machine.disk().erase();
    machine.power_on();

    // An entry may say otherwise.
    let own = json!({ "directory": "/var/lib/private", "mode": "0711", "group": 5 });
    machine.manifest(&manifest(&json!([]), &[own, json!({ "directory": "/var/lib/private/app" })]));
    machine.build().ok();
    is_on_both(&machine, "/var/lib/private", 0o711, 0, 5);
    assert_eq!(stat(machine.at("/")), (0o040_755, 0, 0));
    machine.power_off();
    machine.disk().erase();
    machine.power_on();

    // Without a mode they are as on every system.
    let plain = ["/root", "/tmp", "/var/lib/private", "/srv"].map(|path| json!({ "directory": path }));
    machine.manifest(&manifest(&json!([]), &plain));
    machine.build().ok();
    for (path, mode) in [("/root", 0o700), ("/tmp", 0o1777), ("/var/lib/private", 0o700), ("/srv", 0o755)] {
        is_on_both(&machine, path, mode, 0, 0);
    }
}

fn homes_are_the_tables_and_not_the_first_entrys() {
    let homes = json!([
        { "directory": "/home/alice", "user": 1000, "group": 100, "mode": "0711" },
        { "directory": "/home/bob", "user": 1001, "group": 100, "mode": "2750" },
        { "directory": "/srv/homes/carol", "user": 1002, "mode": "0700" },
    ]);
    let syncthing = json!({ "user": 237, "group": 237, "mode": "0777" });
    let machine = booted(
        &homes,
        &[
            json!({ "directory": "/home/alice/.backup", "user": 237, "mode": "0700", "parents": syncthing }),
            json!({ "directory": "/home/alice/mail", "user": 1000, "group": 100 }),
            json!({ "file": "/home/bob/.bash_history", "user": 1001, "mode": "0600", "missing": "create" }),
            json!({ "directory": "/srv/homes/carol/a/b", "user": 1002 }),
        ],
    );
    is_on_both(&machine, "/home", 0o755, 0, 0);
    is_on_both(&machine, "/home/alice", 0o711, 1000, 100);
    is_on_both(&machine, "/home/alice/.backup", 0o700, 237, 0);
    is_on_both(&machine, "/home/alice/mail", 0o755, 1000, 100);
    is_on_both(&machine, "/home/bob", 0o2750, 1001, 100);
    is_on_both(&machine, "/home/bob/.bash_history", 0o600, 1001, 0);
    is_on_both(&machine, "/srv/homes/carol", 0o700, 1002, 0);
    is_on_both(&machine, "/srv/homes/carol/a", 0o755, 0, 0);
}

fn parents_of_a_file_reach_up_to_the_home() {
    let homes = json!([{ "directory": "/home/u", "user": 1000, "group": 100, "mode": "0700" }]);
    let own = json!({ "user": 1000, "group": 100, "mode": "0750" });
    let machine = booted(
        &homes,
        &[
            json!({ "file": "/home/u/.config/app/state", "user": 1000, "missing": "create", "parents": own }),
            json!({ "file": "/home/u/.ssh/known_hosts", "user": 1000, "parents": { "user": 1000, "mode": "0700" } }),
            json!({ "directory": "/data/deep/own", "source": "/elsewhere/kept", "parents": { "user": 5 } }),
        ],
    );
    for path in ["/home/u/.config", "/home/u/.config/app"] {
        is_on_both(&machine, path, 0o750, 1000, 100);
    }
    is_on_both(&machine, "/home/u/.ssh", 0o700, 1000, 0);
    is_on_both(&machine, "/home/u", 0o700, 1000, 100);
    is_on_both(&machine, "/home", 0o755, 0, 0);
    for path in ["/data", "/data/deep", "/persist/elsewhere"] {
        assert_eq!(stat(machine.at(path)), (0o040_755, 5, 0), "{path}");
    }
    assert_eq!(stat(machine.at("/persist")).1, 0);
}

fn mirrored_directories_look_like_the_stores() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    fs::create_dir_all(store.join("opt/team/work/app")).unwrap();
    for (path, mode, uid, gid) in
        [("opt/team", 0o2770, 7, 8), ("opt/team/work", 0o1777, 9, 9), ("opt", 0o700, 5, 5)]
    {
        chown(store.join(path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(store.join(path), Permissions::from_mode(mode)).unwrap();
    }
    let entries = [json!({ "directory": "/opt/team/work/app" }), json!({ "file": "/opt/team/list" })];
    machine.manifest(&manifest(&json!([]), &entries));
    machine.build().ok();
    is_on_both(&machine, "/opt/team", 0o2770, 7, 8);
    is_on_both(&machine, "/opt/team/work", 0o1777, 9, 9);
    // Directories of every system keep their usual owner; the store's own stays unchanged.
    assert_eq!(stat(machine.at("/opt")), (0o040_755, 0, 0));
    assert_eq!(stat(store.join("opt")), (0o040_700, 5, 5));
}

fn everything_is_right_on_the_first_boot() {
    // Whatever the caller's umask, and with nothing at all on the store.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    for fs in Fs::REAL {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 8));
        let entries = [
            json!({ "directory": "/var/lib/a", "user": 193, "group": 194, "mode": "2775" }),
            json!({ "directory": "/var/lib/b", "mode": "1777" }),
            json!({ "directory": "/deep/er/and/deeper", "mode": "u=rwx,g=rx,o=" }),
            json!({ "file": "/etc/secret", "user": 193, "group": 194, "mode": "0440", "missing": "create" }),
            json!({ "file": "/opt/tool", "mode": "6755", "missing": "create", "options": ["suid"] }),
            json!({ "directory": "/media/usb", "options": ["noexec", "ro", "dev"] }),
        ];
        machine.manifest(&manifest(&json!([]), &entries));
        machine.build().ok();
        is_on_both(&machine, "/var/lib/a", 0o2775, 193, 194);
        is_on_both(&machine, "/var/lib/b", 0o1777, 0, 0);
        is_on_both(&machine, "/deep/er/and", 0o755, 0, 0);
        is_on_both(&machine, "/deep/er/and/deeper", 0o750, 0, 0);
        is_on_both(&machine, "/etc/secret", 0o440, 193, 194);
        is_on_both(&machine, "/opt/tool", 0o6755, 0, 0);
        let has = |path: &str, option: &str| {
            machine.mount_at(path).unwrap().options.split(',').any(|one| one == option)
        };
        assert!(has("/var/lib/a", "nosuid") && has("/var/lib/a", "nodev") && !has("/var/lib/a", "noexec"));
        assert!(has("/opt/tool", "nodev") && !has("/opt/tool", "nosuid"));
        assert!(has("/media/usb", "noexec") && has("/media/usb", "ro") && !has("/media/usb", "nodev"));
        // The report is for everybody to read.
        assert_eq!(stat("/run/imp-mount/report.json").0 & 0o777, 0o644);
        machine.power_off();
    }
}

fn hidden_and_trash_reach_files() {
    let entries = [
        json!({ "file": "/etc/adj time", "hidden": true, "missing": "create" }),
        json!({ "directory": "/srv", "hidden": true, "trash": true }),
        json!({ "directory": "/var/log" }),
        json!({ "file": "/etc/ssh/ssh_host_*", "hidden": true }),
    ];
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    fs::create_dir_all(machine.at("/persist/etc/ssh")).unwrap();
    fs::write(machine.at("/persist/etc/ssh/ssh_host_key"), "key").unwrap();
    machine.manifest(&manifest(&json!([]), &entries));
    machine.build().ok();
    machine.switch_root();
    // Written in the initrd for the final mount points: read there by findmnt from utab.
    let options = |target: &str| {
        let output = machine.run_inside(&[
            "findmnt",
            "--mtab",
            "--noheadings",
            "--output",
            "OPTIONS",
            "--mountpoint",
            target,
        ]);
        let options = output.ok().stdout;
        ["x-gvfs-hide", "x-gvfs-trash", "x-initrd.mount"]
            .map(|option| options.trim().split(',').any(|one| one == option))
    };
    assert_eq!(options("/etc/adj time"), [true, false, true]);
    assert_eq!(options("/srv"), [true, true, true]);
    assert_eq!(options("/var/log"), [false, false, true]);
    assert_eq!(options("/etc/ssh/ssh_host_key"), [true, false, true]);
    // Brought in line on the running system.
    let entries = [json!({ "directory": "/new", "hidden": true }), json!({ "directory": "/srv" })];
    machine.manifest(&manifest(&json!([]), &entries));
    machine.run_live(&[]).ok();
    assert_eq!(options("/new")[..2], [true, false]);
    assert_eq!(options("/srv")[..2], [false, false]);
    let table = fs::read_to_string("/run/mount/utab").unwrap();
    assert!(!table.contains("adj"), "{table}");
}

fn an_occupied_target_loses_nothing() {
    let machine = booted(&json!([]), &[json!({ "directory": "/srv" })]);
    machine.switch_root();
    fs::create_dir_all(machine.at("/home/u/mail")).unwrap();
    fs::write(machine.at("/home/u/mail/inbox"), "letter").unwrap();
    fs::write(machine.at("/home/u/notes"), "note").unwrap();
    symlink("elsewhere", machine.at("/home/u/link")).unwrap();
    for (entry, held, remedy) in [
        (json!({ "directory": "/home/u/mail" }), "holds `inbox`", "then move it away"),
        (
            json!({ "file": "/home/u/notes", "missing": "create" }),
            "holds 4 bytes",
            "--adopt` brings it there",
        ),
        (
            json!({ "file": "/home/u/notes", "method": "symlink" }),
            "is a regular file already",
            "--adopt` brings",
        ),
        (
            json!({ "file": "/home/u/link", "method": "symlink" }),
            "is a symbolic link already",
            "move it away",
        ),
    ] {
        machine.manifest(&manifest(&json!([]), &[json!({ "directory": "/srv" }), entry]));
        machine.run_live(&[]).expect(1).says_in_one_line(&["/home/u/", held, remedy]);
    }
    assert_eq!(fs::read_to_string(machine.at("/home/u/mail/inbox")).unwrap(), "letter");
    assert_eq!(fs::read_to_string(machine.at("/home/u/notes")).unwrap(), "note");
    assert_eq!(fs::read_link(machine.at("/home/u/link")).unwrap(), Path::new("elsewhere"));
    assert!(machine.mount_at("/srv").is_some());
}

fn an_empty_target_is_no_obstacle() {
    let machine = booted(&json!([]), &[json!({ "directory": "/srv" })]);
    machine.switch_root();
    fs::create_dir_all(machine.at("/etc/app/empty")).unwrap();
    fs::write(machine.at("/etc/app/file"), "").unwrap();
    fs::write(machine.at("/persist/etc-app"), "kept").unwrap();
    let entries = [
        json!({ "directory": "/srv" }),
        json!({ "directory": "/etc/app/empty" }),
        json!({ "file": "/etc/app/file", "source": "/etc-app" }),
    ];
    machine.manifest(&manifest(&json!([]), &entries));
    machine.run_live(&[]).ok();
    assert_eq!(fs::read_to_string(machine.at("/etc/app/file")).unwrap(), "kept");
    assert!(machine.mount_at("/etc/app/empty").is_some());
}

/// Every source has another id for each name; the most reliable one wins.
fn ids_come_from_the_surest_source() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let nixos = machine.at("/persist/var/lib/nixos");
    fs::create_dir_all(nixos.join("uid")).unwrap();
    fs::create_dir_all(nixos.join("gid")).unwrap();
    fs::write(nixos.join("passwd"), "table:x:11:1::/:\npasswd:x:12:1::/:\n").unwrap();
    fs::write(nixos.join("group"), "table:x:21:\npasswd:x:22:\n").unwrap();
    fs::write(nixos.join("uid-map"), r#"{"table":31,"passwd":32,"map":33}"#).unwrap();
    fs::write(nixos.join("gid-map"), r#"{"table":41,"passwd":42,"map":"43"}"#).unwrap();
    for (name, id) in [("table", 51), ("passwd", 52), ("map", 53), ("marker", 54)] {
        fs::write(nixos.join("uid").join(name), "").unwrap();
        chown(nixos.join("uid").join(name), Some(id), Some(id + 1000)).unwrap();
        fs::write(nixos.join("gid").join(name), "").unwrap();
        chown(nixos.join("gid").join(name), Some(0), Some(id + 10)).unwrap();
    }
    let entry = |name: &str| json!({ "directory": format!("/srv/{name}"), "user": name, "group": name });
    let mut entries: Vec<_> = ["table", "passwd", "map", "marker", "root", "568"].map(entry).into();
    entries.push(json!({ "directory": "/srv/number", "user": 569, "group": 570 }));
    entries.push(json!({ "directory": "/var/lib/nixos" }));
    let mut manifest = manifest(&json!([]), &entries);
    manifest["ids"] = json!({ "users": { "table": 1 }, "groups": { "table": 2 } });
    machine.manifest(&manifest);
    machine.build().ok();
    for (name, uid, gid) in [
        ("table", 1, 2),
        ("passwd", 12, 22),
        ("map", 33, 43),
        ("marker", 54, 64),
        ("root", 0, 0),
        ("568", 568, 568),
        ("number", 569, 570),
    ] {
        is_on_both(&machine, &format!("/srv/{name}"), 0o755, uid, gid);
    }
    assert_eq!(machine.report()["pending"], json!([]));
    machine.power_off();
    machine.power_on();

    // A folder of markers in which others can put some is not believed.
    fs::set_permissions(nixos.join("uid"), Permissions::from_mode(0o777)).unwrap();
    fs::remove_dir(machine.at("/persist/srv/marker")).unwrap();
    machine.build().expect(0).says_in_one_line(&["/persist/var/lib/nixos/uid", "written by others", "chmod"]);
    assert_eq!(stat(machine.at("/srv/marker")), (0o040_700, 0, 0));
}

fn ids_of_an_etc_that_persists() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    fs::create_dir_all(machine.at("/persist/etc")).unwrap();
    fs::write(machine.at("/persist/etc/passwd"), "plex:x:193:194::/:\n").unwrap();
    fs::write(machine.at("/persist/etc/group"), "plex:x:194:\n").unwrap();
    let plex = json!({ "directory": "/srv", "user": "plex", "group": "plex" });
    machine.manifest(&manifest(&json!([]), &[plex, json!({ "directory": "/etc" })]));
    machine.build().ok();
    is_on_both(&machine, "/srv", 0o755, 193, 194);
}

fn inherited_groups_and_acls_do_not_matter() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    chown(&store, Some(0), Some(50)).unwrap();
    fs::set_permissions(&store, Permissions::from_mode(0o2775)).unwrap();
    assert!(installed("setfacl"), "setfacl (acl) is needed");
    sh_on("setfacl -d -m u:1000:rwx,g:60:rwx", &[&store]);
    let entries = [
        json!({ "directory": "/a/b", "user": 193, "group": 194, "mode": "0750" }),
        json!({ "directory": "/c", "mode": "0700" }),
        json!({ "file": "/d/file", "user": 193, "mode": "0640", "missing": "create" }),
        json!({ "directory": "/e", "user": "nobody-yet" }),
    ];
    machine.manifest(&manifest(&json!([]), &entries));
    machine.build().ok();
    for _ in 0..2 {
        is_on_both(&machine, "/a", 0o755, 0, 0);
        is_on_both(&machine, "/a/b", 0o750, 193, 194);
        is_on_both(&machine, "/c", 0o700, 0, 0);
        is_on_both(&machine, "/d/file", 0o640, 193, 0);
        is_on_both(&machine, "/e", 0o700, 0, 0);
        machine.reboot().ok();
    }
}

fn inherited_groups_and_acls_in_a_killed_run() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    assert!(installed("setfacl"), "setfacl (acl) is needed");
    sh_on("setfacl -d -m u:1000:rwx", &[&store]);
    machine.manifest(&manifest(&json!([]), &[json!({ "directory": "/a", "mode": "0770" })]));
    let (output, calls) = machine.trace(&[], &[]);
    output.ok();
    let removals: Vec<_> = calls.iter().filter(|call| call.is_one_of(&["fremovexattr"])).collect();
    assert_eq!(removals.len(), 2, "{calls:?}");
    for call in removals {
        machine.power_off();
        machine.disk().visit(|store| fs::remove_dir(store.join("a")).unwrap());
        machine.power_on();
        assert_eq!(machine.trace(&[Injected::kill(call)], &[]).0.signal, Some(9), "{call:?}");
        machine.build().ok();
        let acl = sh_on("getfacl -npc", &[&store.join("a")]);
        assert_eq!(acl.trim(), "user::rwx\ngroup::rwx\nother::---", "{call:?}");
    }
}

fn an_existing_source_keeps_its_owner() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    fs::create_dir_all(store.join("home/u/kept")).unwrap();
    fs::write(store.join("home/u/file"), "kept").unwrap();
    for (path, mode) in [("home", 0o711), ("home/u", 0o777), ("home/u/kept", 0o1751), ("home/u/file", 0o606)]
    {
        chown(store.join(path), Some(5), Some(6)).unwrap();
        fs::set_permissions(store.join(path), Permissions::from_mode(mode)).unwrap();
    }
    let before = machine.disk().snapshot();
    let entries = [
        json!({ "directory": "/home/u/kept", "user": 193, "mode": "0700", "parents": { "user": 9 } }),
        json!({ "file": "/home/u/file", "user": "nobody-yet", "mode": "0600", "missing": "create" }),
    ];
    let homes = json!([{ "directory": "/home/u", "user": 1000, "mode": "0700" }]);
    machine.manifest(&manifest(&homes, &entries));
    machine.build().ok();
    machine.reboot().ok();
    assert_eq!(before, machine.disk().snapshot());
    assert_eq!(machine.report()["pending"], json!([]));
}

fn enforcing_is_asked_for() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let store = machine.at("/persist");
    for name in ["asked", "not-asked", "unknown"] {
        fs::create_dir_all(store.join(name).join("below")).unwrap();
        chown(store.join(name).join("below"), Some(5), Some(6)).unwrap();
        chown(store.join(name), Some(5), Some(6)).unwrap();
    }
    let entry = |name: &str, enforce: bool| json!({ "directory": format!("/{name}"), "user": 193, "group": 194, "mode": "2710", "enforce": enforce });
    let mut unknown = entry("unknown", true);
    unknown["user"] = "nobody-yet".into();
    let entries = [entry("asked", true), entry("not-asked", false), unknown];
    machine.manifest(&manifest(&json!([]), &entries));
    machine.build().ok();
    is_on_both(&machine, "/asked", 0o2710, 193, 194);
    is_on_both(&machine, "/not-asked", 0o755, 5, 6);
    is_on_both(&machine, "/unknown", 0o755, 5, 6);
    // Its content is left alone.
    is_on_both(&machine, "/asked/below", 0o755, 5, 6);
}

fn secrets_for_all_are_reported() {
    let homes = json!([{ "directory": "/home/u", "user": 1000, "mode": "0700" }]);
    let entries = [
        json!({ "directory": "/home/u/.ssh", "user": 1000, "mode": "0755" }),
        json!({ "directory": "/home/u/.gnupg", "user": 1000, "mode": "0700" }),
    ];
    let machine = booted(&homes, &entries);
    let output = machine.run(&["--check"]);
    assert!(output.stdout.contains("/home/u/.ssh"), "{output:?}");
    let warned = |path: &str| {
        output.stdout.lines().any(|line| line.contains(path) && line.contains("0755 lets everybody in"))
    };
    assert!(warned("/home/u/.ssh") && !warned("/home/u/.gnupg"), "{output:?}");
}
