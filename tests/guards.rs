//! Guards on a running system: they yield to sources on the store, hide no file, and survive a failed run unchanged.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::live::state;
use crate::support::disk::detach;
use crate::support::look::{mounts_below, stat};
use crate::support::{Disk, Fs, Machine, Root, mounts};

tests![
    a_guard_gives_way_to_a_link_and_a_copy: Disk,
    one_that_was_unmounted_is_not_put_back: Disk,
    a_guard_ends_without_hiding_data: Disk,
    none_is_mounted_over_a_tmpfs_with_data: Disk,
    the_place_of_one_is_no_version: Disk,
    one_is_put_back_on_an_ordinary_place: Disk,
    places_are_known_without_a_report: Disk,
    copies_of_a_failed_run_are_recorded: Disk,
    copies_of_a_failed_run_can_be_emptied: Disk,
    a_file_on_a_store_is_no_place: Disk,
    other_things_below_one_stay: Disk,
    none_hides_entries_in_use: Disk,
    a_guard_goes_without_a_source: Disk,
];

fn manifest(entries: &Value) -> Value {
    let stores = json!([{ "path": "/persist" }, { "path": "/late", "required": false }]);
    json!({ "version": 1, "root": {}, "entries": entries, "stores": stores })
}

/// A started machine with a missing second store, and this store's disk.
fn without_late(entries: &Value) -> (Machine, Disk) {
    let (machine, late) = (Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8)), Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(entries));
    machine.build().ok().says(&["store /late: nothing is mounted"]);
    machine.switch_root();
    (machine, late)
}

fn a_guard_gives_way_to_a_link_and_a_copy() {
    let entries = json!([
        { "directory": "/d", "store": "/late", "method": "symlink" },
        { "file": "/etc/s", "store": "/late", "method": "symlink" },
        { "file": "/etc/c", "store": "/late", "method": "copy" },
        { "file": "/etc/new", "store": "/late" },
        { "file": "/etc/unmounted", "store": "/late" },
    ]);
    let (machine, late) = without_late(&entries);
    for path in ["/d", "/etc/s", "/etc/c", "/etc/new", "/etc/unmounted"] {
        assert!(machine.mount_at(path).unwrap().has("ro"), "{path}");
    }
    detach(&machine.at("/etc/unmounted"));
    late.mount(machine.at("/late"));
    fs::create_dir_all(machine.at("/late/etc")).unwrap();
    fs::create_dir(machine.at("/late/d")).unwrap();
    for name in ["s", "c"] {
        fs::write(machine.at("/late/etc").join(name), "kept").unwrap();
    }
    // A run with another failure does not cover them again.
    with_a_failure(&machine, &entries);
    for _ in 0..2 {
        let output = machine.run_live(&[]).expect(1);
        assert_eq!(output.stderr.matches("warning: ").count(), 0, "{output:?}");
        assert_eq!(mounts_below(&machine.at("/etc")).len(), 0);
        assert_eq!(fs::read_to_string(machine.at("/etc/c")).unwrap(), "kept");
    }
    machine.manifest(&manifest(&entries));
    machine.run_live(&[]).ok();
    for (path, wanted) in [
        ("/d", "/late/d"),
        ("/etc/s", "/late/etc/s"),
        ("/etc/new", "/late/etc/new"),
        ("/etc/unmounted", "/late/etc/unmounted"),
    ] {
        assert_eq!(fs::read_link(machine.at(path)).unwrap().to_str(), Some(wanted));
    }
    assert_eq!(fs::read_to_string(machine.at("/etc/c")).unwrap(), "kept");
    machine.run_live(&["--check"]).ok();
    let before = mounts();
    machine.run_live(&[]).ok();
    assert_eq!(mounts(), before);
}

fn one_that_was_unmounted_is_not_put_back() {
    let entries = json!([{ "directory": "/data", "store": "/late" }]);
    let (machine, _late) = without_late(&entries);
    detach(&machine.at("/data"));
    fs::set_permissions(machine.at("/data"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(machine.at("/data/work"), "work").unwrap();
    // Another entry fails.
    fs::write(machine.at("/persist/srv"), "a file").unwrap();
    let mut more = entries;
    more.as_array_mut().unwrap().push(json!({ "directory": "/srv", "store": "/persist" }));
    machine.manifest(&manifest(&more));
    machine.run_live(&[]).expect(1).says(&["/srv: ", "the target holds `work`"]);
    assert_eq!(fs::read_to_string(machine.at("/data/work")).unwrap(), "work");
}

fn a_guard_ends_without_hiding_data() {
    let late = |path: &str| json!({ "directory": path, "store": "/persist", "phase": "live" });
    let (machine, _late) = without_late(&json!([late("/bad")]));
    fs::write(machine.at("/persist/bad"), "a file").unwrap();
    fs::create_dir(machine.at("/bad")).unwrap();
    fs::write(machine.at("/bad/early"), "early").unwrap();
    machine.run_live(&["--guard"]).ok().says(&["/bad: ", "holds `early`"]);
    assert!(machine.mount_at("/bad").unwrap().has("ro"));
    fs::remove_file(machine.at("/persist/bad")).unwrap();
    let before = mounts().len();
    machine.run_live(&[]).expect(1).says(&["/bad: the target holds `early`"]);
    assert_eq!((mounts().len(), machine.mount_at("/bad").unwrap().has("ro")), (before, true));
    detach(&machine.at("/bad"));
    assert_eq!(fs::read_to_string(machine.at("/bad/early")).unwrap(), "early");
    fs::remove_file(machine.at("/bad/early")).unwrap();
    machine.run_live(&[]).ok();
    assert_eq!(state("/bad"), "mounted");
}

fn none_is_mounted_over_a_tmpfs_with_data() {
    let (machine, _late) = without_late(&json!([]));
    fs::create_dir(machine.at("/t")).unwrap();
    machine.run_inside(&["mount", "-t", "tmpfs", "tmpfs", "/t"]).ok();
    fs::write(machine.at("/t/data"), "data").unwrap();
    let entry = json!({ "directory": "/t", "store": "/persist", "required": false });
    machine.manifest(&manifest(&json!([entry])));
    machine.run_live(&[]).ok().says(&["/t: something else is mounted there", "the target holds `data`"]);
    assert_eq!(fs::read_to_string(machine.at("/t/data")).unwrap(), "data");
    assert_eq!(state("/t"), "failed");
}

fn the_place_of_one_is_no_version() {
    let entry =
        |method: &str| json!({ "file": format!("/etc/{method}"), "store": "/late", "method": method });
    let entries = json!([entry("copy"), entry("symlink")]);
    let (machine, late) = without_late(&entries);
    late.mount(machine.at("/late"));
    fs::create_dir(machine.at("/late/etc")).unwrap();
    for name in ["copy", "symlink"] {
        fs::write(machine.at("/late/etc").join(name), "precious").unwrap();
    }
    machine.run_live(&[]).ok();
    // Programs remove both, and the store goes.
    for name in ["copy", "symlink"] {
        fs::remove_file(machine.at("/etc").join(name)).unwrap();
    }
    detach(&machine.at("/late"));
    machine.run_live(&[]).ok();
    for path in ["/etc/copy", "/etc/symlink"] {
        assert!(machine.mount_at(path).unwrap().has("ro"), "{path}");
        detach(&machine.at(path));
        assert_eq!(stat(machine.at(path)).0 & 0o7777, 0);
    }
    late.mount(machine.at("/late"));
    machine.run_live(&["--adopt"]).ok();
    for name in ["copy", "symlink"] {
        assert_eq!(fs::read_to_string(machine.at("/late/etc").join(name)).unwrap(), "precious");
    }
}

/// A second manifest with one required entry more, whose source is a file.
fn with_a_failure(machine: &Machine, entries: &Value) {
    fs::write(machine.at("/persist/bad"), "a file").unwrap();
    let mut more = entries.clone();
    more.as_array_mut().unwrap().push(json!({ "directory": "/bad", "store": "/persist" }));
    machine.manifest(&manifest(&more));
}

fn one_is_put_back_on_an_ordinary_place() {
    let (machine, late) = without_late(&json!([]));
    fs::create_dir(machine.at("/o")).unwrap();
    fs::set_permissions(machine.at("/o"), fs::Permissions::from_mode(0o755)).unwrap();
    let entries = json!([{ "directory": "/o", "store": "/late" }]);
    machine.manifest(&manifest(&entries));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/o").unwrap().has("ro"));
    late.mount(machine.at("/late"));
    with_a_failure(&machine, &entries);
    machine.run_live(&[]).expect(1).says(&["/bad: "]);
    assert!(machine.mount_at("/o").unwrap().has("ro"));
    assert!(fs::write(machine.at("/o/lost"), "").is_err());
}

fn places_are_known_without_a_report() {
    let entries = json!([
        { "directory": "/setgid/d", "store": "/late", "method": "symlink" },
        { "file": "/etc/s", "store": "/late", "method": "symlink" },
        { "file": "/etc/c", "store": "/late", "method": "copy" },
        { "file": "/etc/new", "store": "/late" },
    ]);
    let (machine, late) = without_late(&json!([]));
    fs::create_dir(machine.at("/setgid")).unwrap();
    fs::set_permissions(machine.at("/setgid"), fs::Permissions::from_mode(0o2755)).unwrap();
    // A failed run unmounts its guards, and their mount points stay.
    with_a_failure(&machine, &entries);
    machine.run_live(&[]).expect(1);
    assert_eq!(stat(machine.at("/etc/c")).0 & 0o7777, 0);
    fs::remove_file("/run/imp-mount/report.json").unwrap();
    late.mount(machine.at("/late"));
    fs::create_dir_all(machine.at("/late/etc")).unwrap();
    fs::create_dir_all(machine.at("/late/setgid/d")).unwrap();
    fs::write(machine.at("/late/etc/s"), "kept").unwrap();
    fs::write(machine.at("/late/etc/c"), "kept").unwrap();
    machine.manifest(&manifest(&entries));
    machine.run_live(&["--adopt"]).ok();
    machine.run_live(&[]).ok();
    for path in ["/setgid/d", "/etc/s", "/etc/new"] {
        assert_eq!(fs::read_link(machine.at(path)).unwrap().to_str(), Some(&*format!("/late{path}")));
    }
    assert_eq!(fs::read_to_string(machine.at("/etc/c")).unwrap(), "kept");
    assert_eq!(fs::read_dir(machine.at("/late/etc")).unwrap().count(), 2);
}

fn failed_run_with_a_copy_changed_to(content: &str) {
    let entries = json!([{ "file": "/etc/c", "store": "/late", "method": "copy" }]);
    let (machine, late) = without_late(&entries);
    late.mount(machine.at("/late"));
    fs::create_dir(machine.at("/late/etc")).unwrap();
    fs::write(machine.at("/late/etc/c"), "old").unwrap();
    with_a_failure(&machine, &entries);
    machine.run_live(&[]).expect(1);
    assert_eq!(state("/etc/c"), "copied");
    fs::write(machine.at("/etc/c"), content).unwrap();
    fs::set_permissions(machine.at("/etc/c"), fs::Permissions::from_mode(0o0)).unwrap();
    machine.run_live(&["--adopt"]).ok();
    assert_eq!(fs::read_to_string(machine.at("/late/etc/c")).unwrap(), content);
}

fn copies_of_a_failed_run_are_recorded() {
    failed_run_with_a_copy_changed_to("new");
}

fn copies_of_a_failed_run_can_be_emptied() {
    failed_run_with_a_copy_changed_to("");
}

fn a_file_on_a_store_is_no_place() {
    let entries = json!([
        { "directory": "/a", "store": "/late" },
        { "file": "/a/f", "store": "/persist", "method": "copy", "required": false },
    ]);
    let (machine, late) = without_late(&entries);
    assert_eq!(state("/a/f"), "guarded");
    late.mount(machine.at("/late"));
    fs::create_dir_all(machine.at("/late/a")).unwrap();
    fs::create_dir_all(machine.at("/persist/a")).unwrap();
    fs::write(machine.at("/persist/a/f"), "other").unwrap();
    fs::write(machine.at("/late/a/f"), "").unwrap();
    fs::set_permissions(machine.at("/late/a/f"), fs::Permissions::from_mode(0o0)).unwrap();
    let before = stat(machine.at("/late/a/f"));
    machine.run_live(&[]).ok().says(&["/a/f: the target is a regular file already"]);
    assert!(machine.mount_at("/a/f").unwrap().has("ro"));
    detach(&machine.at("/a/f"));
    assert_eq!((stat(machine.at("/late/a/f")), stat(machine.at("/a/f"))), (before, before));
}

fn other_things_below_one_stay() {
    let (machine, _late) = without_late(&json!([]));
    fs::write(machine.at("/persist/t"), "a file").unwrap();
    fs::create_dir(machine.at("/persist/f")).unwrap();
    fs::create_dir(machine.at("/t")).unwrap();
    machine.run_inside(&["mount", "-t", "tmpfs", "tmpfs", "/t"]).ok();
    fs::write(machine.at("/t/early"), "early").unwrap();
    machine.run_inside(&["mkfifo", "/f"]).ok();
    let entries = json!([
        { "directory": "/t", "store": "/persist", "phase": "live" },
        { "file": "/f", "store": "/persist", "phase": "live" },
    ]);
    machine.manifest(&manifest(&entries));
    machine.run_live(&["--guard"]).ok();
    fs::remove_file(machine.at("/persist/t")).unwrap();
    fs::remove_dir(machine.at("/persist/f")).unwrap();
    fs::write(machine.at("/persist/f"), "kept").unwrap();
    let before = mounts().len();
    let output = machine.run_live(&[]).expect(1);
    output.says(&["/t: something else is mounted there"]).says(&["/f is a FIFO, not a regular file"]);
    assert_eq!(mounts().len(), before);
    for path in ["/t", "/f"] {
        assert!(machine.mount_at(path).unwrap().has("ro"), "{path}");
    }
}

fn none_hides_entries_in_use() {
    let inner = json!({ "directory": "/a/b", "store": "/persist", "required": false });
    let (machine, _late) = without_late(&json!([inner]));
    fs::write(machine.at("/a/b/data"), "data").unwrap();
    machine.manifest(&manifest(&json!([{ "directory": "/a", "store": "/late" }, inner])));
    machine.run_live(&[]).ok().says(&["/a: the target holds `b`"]);
    assert!(machine.mount_at("/a").is_none());
    assert_eq!(fs::read_to_string(machine.at("/a/b/data")).unwrap(), "data");
    assert_eq!(["/a", "/a/b"].map(state), ["failed", "mounted"]);
}

fn a_guard_goes_without_a_source() {
    let (machine, late) = without_late(&json!([{ "file": "/etc/k", "store": "/late", "missing": "skip" }]));
    assert!(machine.mount_at("/etc/k").unwrap().has("ro"));
    late.mount(machine.at("/late"));
    machine.run_live(&[]).ok();
    assert!(machine.mount_at("/etc/k").is_none() && !machine.at("/etc/k").exists());
    machine.run_live(&["--check"]).ok();
}
