//! Entries below a late disk, such as a pool of data disks, which has their data already.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::live::{manifest, state};
use crate::support::{Disk, Fs, Machine, Root, mounts};

tests![
    data_of_a_late_disk_stays_and_keeps_no_entry_away: Disk,
    data_of_a_late_disk_stays_without_an_emergency_mode: Disk,
    a_required_entry_on_a_late_disk_fails: Disk,
];

const HELD: [(&str, &str); 2] = [("/mnt/pool/films", "one"), ("/mnt/pool/music", "song")];

/// A started machine whose pool is mounted by now, with data of two entries. `more` is a key of both.
fn late_pool(more: &str) -> (Machine, Disk) {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let mut all = manifest(json!([
        { "directory": "/srv" },
        { "directory": "/srv/live", "phase": "live" },
        { "directory": "/mnt/pool/empty" },
        { "directory": "/mnt/pool/none" },
    ]));
    for (path, _) in HELD {
        let mut entry = json!({ "directory": path });
        if !more.is_empty() {
            entry[more] = true.into();
        }
        all["entries"].as_array_mut().unwrap().push(entry);
    }
    all["layout"] = json!({ "filesystems": [{ "path": "/mnt/pool", "fstype": "fuse.mergerfs" }] });
    machine.manifest(&all);
    machine.build().ok();
    machine.switch_root();
    let pool = Disk::new(Fs::Ext4, 8);
    pool.mount(machine.at("/mnt/pool"));
    fs::create_dir(machine.at("/mnt/pool/empty")).unwrap();
    for (path, name) in HELD {
        fs::create_dir(machine.at(path)).unwrap();
        fs::write(machine.at(path).join(name), name).unwrap();
    }
    (machine, pool)
}

/// The words of a run and of --check for the entries whose data the pool has.
fn words((path, name): (&str, &str)) -> String {
    format!(
        "{path}: the target holds `{name}`, which mounting would hide; it persists: take the entry out, or copy it to \
         /persist{path} first, then move it away"
    )
}

fn data_of_a_late_disk_stays_and_keeps_no_entry_away() {
    stays(&[]);
}

fn data_of_a_late_disk_stays_without_an_emergency_mode() {
    stays(&["--guard"]);
}

fn stays(arguments: &[&str]) {
    let (machine, pool) = late_pool("");
    for _ in 0..2 {
        let output = machine.run_live(arguments).ok();
        for one in HELD {
            assert!(output.stderr.contains(&format!("warning: {}\n", words(one))), "{output:?}");
            assert_eq!(machine.mount_at(one.0), None);
            assert_eq!(fs::read_to_string(machine.at(one.0).join(one.1)).unwrap(), one.1);
        }
        for path in ["/srv", "/srv/live", "/mnt/pool/empty", "/mnt/pool/none"] {
            assert_eq!(machine.mount_at(path).unwrap().root, Path::new(path));
            assert_eq!(state(path), "mounted");
        }
        let check = machine.run_live(&["--check"]).expect(1).stdout;
        for one in HELD {
            assert!(check.contains(&format!("not mounted         {}\n", words(one))), "{check}");
        }
        assert!(
            check.contains("6 paths, 4 ok, 2 problems\n-> run imp-mount to put in place what is not"),
            "{check}"
        );
    }
    // After the advice, in both ways.
    let [(films, one), (music, _)] = HELD;
    fs::copy(machine.at(films).join(one), machine.at("/persist").join(&films[1..]).join(one)).unwrap();
    fs::rename(machine.at(films), machine.at("/mnt/pool/away")).unwrap();
    let entries = json!([{ "directory": "/srv" }, { "directory": films, "phase": "live" }]);
    machine.manifest(&manifest(entries));
    machine.run_live(arguments).ok();
    machine.run_live(&["--check"]).ok();
    assert_eq!(fs::read_to_string(machine.at(films).join(one)).unwrap(), one);
    assert!(machine.at(music).join("song").exists());
    pool.umount();
}

fn a_required_entry_on_a_late_disk_fails() {
    let (machine, pool) = late_pool("required");
    let before = mounts();
    machine.run_live(&[]).expect(1).says(&[&words(HELD[0]), &words(HELD[1])]);
    assert_eq!(mounts(), before);
    pool.umount();
}
