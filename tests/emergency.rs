//! `--check` in emergencies: without a store, a manifest, or the permission to read.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::check::{built, check, findings, is, lines};
use crate::roots::manifest;
use crate::support::command::{sh, sh_on};
use crate::support::{Disk, Fs, Machine, Root, imp_mount, mounts, run};

tests![
    without_any_store: Disk,
    a_disk_with_errors: Disk,
    without_a_manifest: Disk,
    as_an_ordinary_user: Disk,
    in_a_chroot: Disk,
];

fn without_any_store() {
    let disk = Disk::formatted(Fs::Ext4, 8, "-L persist -U 6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a2");
    let xfs = Disk::formatted(Fs::Xfs, 0, "-L data");
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    let sysroot = machine.at("").display().to_string();
    fs::write("/run/fstab", format!("# the initrd's\nLABEL=persist {sysroot}persist ext4 defaults 0 1\n"))
        .unwrap();
    for fstab in ["/etc/fstab", "/etc/initrd-fstab"].into_iter().filter(|path| Path::new(path).exists()) {
        sh(format!("mount --bind /run/fstab {fstab}"));
    }
    machine.build().expect(1);

    let found = check(&machine, 1);
    is(&found, "/srv", "not-mounted", &["the store /persist is not there"]);
    let store = &found["stores"][0];
    assert_eq!((&store["source"], &store["device"]), (&json!(""), &json!("LABEL=persist")), "{store}");
    let problem = store["problem"].as_str().unwrap();
    // udev does not run for the disks of tests.
    assert!(
        problem.contains("fstab says LABEL=persist, which a disk has, but no link in /dev/disk leads to it"),
        "{problem}"
    );
    let listed = |disk: &Disk| {
        let disks = found["disks"].as_array().unwrap();
        disks.iter().find(|one| one["device"] == disk.device.to_str().unwrap()).unwrap().clone()
    };
    let one = listed(&disk);
    assert_eq!(
        (&one["label"], &one["state"], &one["size"]),
        (&json!("persist"), &json!("clean"), &json!(8 << 20))
    );
    assert_eq!(one["uuid"], "6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a2");
    let other = listed(&xfs);
    let uuid = sh_on("blkid -o value -s UUID", &[&xfs.device]);
    assert_eq!((&other["label"], &other["fstype"]), (&json!("data"), &json!("xfs")));
    assert_eq!(other["uuid"], uuid.trim());
    assert!(lines(&found["next"]).contains(&format!("mount -m LABEL=persist {sysroot}persist")), "{found:#}");
    assert!(
        lines(&found["last_run"]["failures"]).contains("store /persist: nothing is mounted"),
        "{found:#}"
    );
    let text = machine.run(&["--check"]).stdout;
    assert!(
        text.contains("store               /persist: PROBLEM: it is not there; fstab says LABEL=persist"),
        "{text}"
    );
    assert!(
        text.contains("8.0M ext4 LABEL=persist UUID=6cb36a59-2cd0-4e0c-9b1d-6b5d3dd7a3a2 clean"),
        "{text}"
    );
    assert!(text.contains("failed, and nothing was changed"), "{text}");

    // The remedy helps.
    disk.mount(machine.at("/persist"));
    machine.build().ok();
    check(&machine, 0);
}

fn a_disk_with_errors() {
    let disk = Disk::new(Fs::Ext4, 8);
    let device = disk.device.to_str().unwrap();
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    let store = json!([{ "path": "/persist", "device": device }]);
    machine.manifest(
        &json!({ "version": 1, "root": {}, "stores": store, "entries": [{ "directory": "/srv" }] }),
    );
    let state = |found: &Value| {
        let disks = found["disks"].as_array().unwrap();
        let disk = disks.iter().find(|one| one["device"] == device).unwrap();
        (disk["state"].as_str().unwrap().to_owned(), disk["mounted"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(&check(&machine, 1)).0, "clean");
    disk.mount("/tmp/elsewhere");
    assert_eq!(state(&check(&machine, 1)), (String::new(), "/tmp/elsewhere".to_owned()));
    // Not cleanly unmounted, as after a power cut.
    fs::write("/tmp/elsewhere/x", "x").unwrap();
    disk.shut_down();
    disk.umount();
    assert_eq!(state(&check(&machine, 1)).0, "not cleanly unmounted");
    // The journal is replayed, and the errors recorded by the kernel remain.
    disk.mount("/tmp/elsewhere");
    let name = disk.device.file_name().unwrap().to_str().unwrap();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "for a test").unwrap();
    disk.umount();
    let found = check(&machine, 1);
    assert_eq!(state(&found).0, "errors");
    assert!(lines(&found["next"]).contains(&format!("fsck.ext4 -f {device}")), "{found:#}");
}

fn without_a_manifest() {
    let disk = Disk::formatted(Fs::Ext4, 8, "-L persist");
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    for bytes in [None, Some(&b"nonsense"[..])] {
        if let Some(bytes) = bytes {
            fs::write(machine.home().join("manifest"), bytes).unwrap();
        }
        let found = findings(&machine.run(&["--check", "--json"]).expect(2));
        assert!(
            found["manifest"].as_str().unwrap().starts_with("manifest /tmp/machine/manifest: "),
            "{found:#}"
        );
        let disks = found["disks"].as_array().unwrap();
        assert!(
            disks
                .iter()
                .any(|one| one["device"] == disk.device.to_str().unwrap() && one["label"] == "persist")
        );
        assert!(
            lines(&found["next"]).contains("earlier generation")
                && lines(&found["next"]).contains("imp-mount=off")
        );
        let text = machine.run(&["--check"]).expect(2).stdout;
        assert!(text.contains("LABEL=persist") && text.contains("-> boot an earlier generation"), "{text}");
    }
}

fn as_an_ordinary_user() {
    let machine = built(json!([
        { "directory": "/srv" },
        { "directory": "/root/private/deep", "parents": { "mode": "0700" } },
        { "file": "/etc/key", "missing": "create", "mode": "0600" },
    ]));
    let words = [
        "--manifest",
        "/tmp/machine/manifest",
        "--cmdline",
        "/tmp/machine/cmdline",
        "--sysroot",
        "/tmp/machine/sysroot",
    ];
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", imp_mount()];
    let before = (mounts(), machine.disk().snapshot());
    let output = run(&[&user[..], &words, &["--check", "--json"]].concat());
    let found = findings(&output);
    is(&found, "/srv", "ok", &[]);
    is(&found, "/etc/key", "ok", &[]);
    // Paths unreadable for the user are not called wrong.
    is(&found, "/root/private/deep", "not-mounted", &["permission denied; run as root"]);
    assert!(lines(&found["next"]).starts_with("run it as root"), "{found:#}");
    assert_eq!((mounts(), machine.disk().snapshot()), before);
}

fn in_a_chroot() {
    let machine = built(json!([{ "directory": "/srv" }]));
    machine.switch_root();
    let found = findings(&machine.run_live(&["--check", "--json"]).ok());
    assert_eq!((&found["sysroot"], &found["root"]["fstype"]), (&json!("/"), &json!("tmpfs")));
    is(&found, "/srv", "ok", &[]);
    machine.run_inside(&["umount", "/srv"]).ok();
    let found = findings(&machine.run_live(&["--check", "--json"]).expect(1));
    is(&found, "/srv", "not-mounted", &[]);
    assert!(!lines(&found["next"]).contains("emergency"), "nobody is in an emergency shell: {found:#}");
}
