//! Refusals on a started system: files hidden, mounts of others taken away, a half-done change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::live::{manifest, report, started, state};
use crate::roots::shown;
use crate::support::command::sh_on;
use crate::support::{Disk, Fs, Machine, Root, Snapshot, mounts};

tests![
    an_occupied_target_is_refused: Disk,
    a_file_in_the_way_is_refused: Disk,
    a_foreign_mount_is_left_alone: Disk,
    a_failure_leaves_everything_as_it_was: Disk,
    a_new_root_waits_for_the_reboot: Disk,
];

fn an_occupied_target_is_refused() {
    let machine = started(json!([{ "directory": "/srv" }]));
    fs::create_dir_all(machine.at("/var/lib/full/deep")).unwrap();
    fs::write(machine.at("/var/lib/full/precious"), "precious").unwrap();
    fs::create_dir(machine.at("/var/lib/empty")).unwrap();
    let entries = |required: bool| {
        json!([
            { "directory": "/srv" },
            { "directory": "/var/lib/full", "required": required },
            { "directory": "/var/lib/empty" },
        ])
    };
    let before = mounts();
    machine.manifest(&manifest(entries(true)));
    let output = machine.run_live(&[]).expect(1);
    output.says(&[
        "/var/lib/full: ",
        "`precious`",
        "`deep`",
        "would hide",
        "copy it to /persist/var/lib/full",
    ]);
    assert_eq!(mounts(), before, "nothing is mounted half");
    assert_eq!(fs::read_to_string(machine.at("/var/lib/full/precious")).unwrap(), "precious");

    machine.manifest(&manifest(entries(false)));
    machine.run_live(&[]).ok().says(&["/var/lib/full: ", "copy it to"]);
    assert_eq!(machine.mount_at("/var/lib/full"), None, "no guard on what is in use");
    assert_eq!(fs::read_to_string(machine.at("/var/lib/full/precious")).unwrap(), "precious");
    assert!(machine.mount_at("/var/lib/empty").is_some());
    assert_eq!(state("/var/lib/full"), "failed");
    machine.run_live(&["--check"]).expect(1);
}

fn a_file_in_the_way_is_refused() {
    let machine = started(json!([{ "directory": "/srv" }]));
    fs::write(machine.at("/etc.conf"), "mine").unwrap();
    symlink("/srv", machine.at("/link")).unwrap();
    fs::create_dir(machine.at("/persist/dir")).unwrap();
    for (entry, words) in [
        (json!({ "file": "/etc.conf" }), ["/etc.conf: ", "a regular file", "move it away"]),
        (
            json!({ "file": "/etc.conf", "missing": "create" }),
            ["/etc.conf: ", "4 bytes", "--adopt` brings it there"],
        ),
        (json!({ "directory": "/etc.conf" }), ["/etc.conf: ", "a regular file", "not a directory"]),
        (json!({ "directory": "/link" }), ["/link: ", "symbolic link to /srv", "never followed"]),
        (
            json!({ "file": "/srv2/x", "source": "/dir", "missing": "create" }),
            ["/srv2/x: ", "/persist/dir is a directory", "not a regular file"],
        ),
    ] {
        let before = mounts();
        machine.manifest(&manifest(json!([{ "directory": "/srv" }, entry])));
        machine.run_live(&[]).expect(1).says(&words);
        assert_eq!(mounts(), before);
        assert_eq!(fs::read_to_string(machine.at("/etc.conf")).unwrap(), "mine");
        assert_eq!(fs::read_link(machine.at("/link")).unwrap(), Path::new("/srv"));
    }
}

fn a_foreign_mount_is_left_alone() {
    let machine = started(json!([{ "directory": "/srv" }]));
    machine.run_inside(&["mkdir", "/data"]).ok();
    machine.run_inside(&["mount", "-t", "tmpfs", "-o", "size=3M", "mine", "/data"]).ok();
    let before = mounts();
    machine.manifest(&manifest(json!([{ "directory": "/data" }, { "directory": "/srv" }])));
    let output = machine.run_live(&[]).expect(1);
    output.says(&["/data: something else is mounted there: mine (tmpfs)", "unmount it"]);
    assert_eq!(mounts(), before);
    // A foreign mount at the path of the entry stays when the entry is removed.
    machine.run_inside(&["umount", "/srv"]).ok();
    machine.run_inside(&["mount", "-t", "tmpfs", "theirs", "/srv"]).ok();
    machine.manifest(&manifest(json!([])));
    machine.run_live(&[]).ok().says(&["/srv: ", "not what was mounted", "by hand"]);
    assert_eq!(machine.mount_at("/srv").unwrap().source, "theirs");
}

fn a_failure_leaves_everything_as_it_was() {
    let machine = started(json!([
        { "directory": "/old", "options": ["noexec", "suid"] },
        { "directory": "/srv" },
        { "file": "/etc/old" },
        { "directory": "/gone" },
    ]));
    sh_on("umount", &[&machine.at("/gone")]);
    fs::write(machine.at("/persist/wrong"), "a file").unwrap();
    machine.manifest(&manifest(json!([
        { "directory": "/new/one" },
        { "directory": "/new/two" },
        { "directory": "/srv" },
        { "directory": "/wrong" },
    ])));
    let before = shown(&machine);
    let output = machine.run_live(&[]).expect(1);
    output.says(&["/wrong: /persist/wrong is a regular file, not a directory"]);
    assert_eq!(shown(&machine), before, "what was there is there, /old too, and nothing else");
    assert!(machine.at("/etc/old").is_symlink());
    assert_eq!(
        (state("/old"), state("/srv"), state("/new/one")),
        ("mounted".into(), "mounted".into(), "failed".into())
    );
    let run = report()["runs"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&run["outcome"], &run["placed"]), (&json!("failed"), &json!(0)), "{run}");
    // Mounts still in place are still known, and removed after the mend.
    fs::remove_file(machine.at("/persist/wrong")).unwrap();
    machine.run_live(&[]).ok();
    assert_eq!(machine.mount_at("/old"), None);
    assert!(machine.mount_at("/new/two").is_some() && machine.mount_at("/wrong").is_some());
}

fn a_new_root_waits_for_the_reboot() {
    for root in [json!({ "convert": "/persist" }), json!({ "size": "16M" })] {
        let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 8));
        machine.switch_root();
        fs::write(machine.at("/precious"), "precious").unwrap();
        let manifest = json!({ "version": 1, "root": root, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/srv" }] });
        machine.manifest(&manifest);
        let before = (mounts(), Snapshot::of(&machine.at("")));
        machine.run_live(&[]).ok().says(&["left as it is", "next boot"]);
        assert_eq!((mounts(), Snapshot::of(&machine.at(""))), before);
        let report = report();
        assert_eq!(report["runs"][0]["outcome"], "waiting");
        assert_eq!(report["entries"][0]["state"], "later");
        machine.power_off();
    }
}
