//! `impctl roots`: which roots of earlier boots are listed, removed and saved, on each file system.

pub mod kept;
mod prune;
mod save;

use serde_json::{Value, json};

use crate::ctl_lost::put;
use crate::roots::manifest;
use crate::support::{Disk, Fs, Machine, Root, json_of};
use kept::Kept;

tests![
    none_are_kept: Disk,
    they_are_listed: Disk,
    records_that_cannot_be_used: Disk,
    prune_on_ext4: Disk,
    prune_on_xfs: Disk,
    prune_on_btrfs: Disk,
    prune_on_a_full_ext4: Disk,
    prune_on_a_full_xfs: Disk,
    prune_on_a_full_btrfs: Disk,
    prune_killed_on_ext4: Disk Inject,
    prune_killed_on_xfs: Disk Inject,
    prune_killed_on_btrfs: Disk Inject,
    prune_subvolumes: Disk Inject,
    prune_without_limits: Disk,
    prune_records_sizes: Disk,
    prune_keeps_every_file: Disk,
    prune_pauses_in_background: Disk Inject,
    prune_touches_no_mount: Disk,
    prune_what_cannot_be_read: Disk Inject,
    prune_spares_roots_in_use: Disk,
    prune_spares_a_saving: Disk,
    prune_a_read_only_store: Disk,
    prune_many_files: Disk,
    save_on_ext4: Disk,
    save_on_xfs: Disk,
    save_on_btrfs: Disk,
    save_killed_on_ext4: Disk Inject,
    save_killed_on_xfs: Disk Inject,
    save_killed_on_btrfs: Disk Inject,
    save_bounded_in_size: Disk,
    save_counts_files_of_directories: Disk,
    save_bounded_in_time: Disk Inject,
    save_again_with_less_room: Disk,
    save_again_with_less_time: Disk Inject,
    save_to_a_full_store: Disk,
    save_nothing: Disk,
    save_nothing_to_lose: Disk,
    save_a_root_on_the_disk: Disk,
    save_once_at_a_time: Disk,
];

use prune::{
    prune_a_read_only_store, prune_keeps_every_file, prune_killed_on_btrfs, prune_killed_on_ext4,
    prune_killed_on_xfs, prune_many_files, prune_on_a_full_btrfs, prune_on_a_full_ext4, prune_on_a_full_xfs,
    prune_on_btrfs, prune_on_ext4, prune_on_xfs, prune_pauses_in_background, prune_records_sizes,
    prune_spares_a_saving, prune_spares_roots_in_use, prune_subvolumes, prune_touches_no_mount,
    prune_what_cannot_be_read, prune_without_limits,
};
use save::{
    save_a_root_on_the_disk, save_again_with_less_room, save_again_with_less_time, save_bounded_in_size,
    save_bounded_in_time, save_counts_files_of_directories, save_killed_on_btrfs, save_killed_on_ext4,
    save_killed_on_xfs, save_nothing, save_nothing_to_lose, save_on_btrfs, save_on_ext4, save_on_xfs,
    save_once_at_a_time, save_to_a_full_store,
};

/// A running machine with a tmpfs root, which keeps old roots by these limits.
fn machine(disk: Disk, limits: &Value) -> Machine {
    let machine = Machine::new(Root::Nothing, disk);
    with_limits(&machine, limits);
    machine.build().ok();
    machine.switch_root();
    machine
}

fn with_limits(machine: &Machine, limits: &Value) {
    let mut text = manifest(json!({ "size": "256M" }), json!([{ "directory": "/var/lib/kept" }]));
    text["old_roots"] = limits.clone();
    machine.manifest(&text);
}

/// JSON output, which must fit the schema, with the exit status.
#[track_caller]
fn roots(machine: &Machine, words: &[&str], code: i32) -> Value {
    let output = machine.impctl("roots", &[words, &["--json"]].concat()).expect(code);
    json_of(&output, "roots")
}

/// The listed numbers, with their states.
#[track_caller]
fn listed(machine: &Machine) -> Vec<(u64, String)> {
    let found = roots(machine, &[], 0);
    let Some(store) = found["stores"].get(0) else { return Vec::new() };
    let all = store["roots"].as_array().unwrap().iter();
    all.map(|root| (root["number"].as_u64().unwrap(), root["state"].as_str().unwrap().to_owned())).collect()
}

fn none_are_kept() {
    let machine = machine(Disk::new(Fs::Ext4, 8), &json!({}));
    let words = machine.impctl("roots", &[]).ok();
    assert_eq!(words.stdout, "There are no old roots.\n");
    assert_eq!(roots(&machine, &["list"], 0)["stores"], json!([]));
    assert_eq!(machine.impctl("roots", &["prune"]).ok().stdout, "No old root is due.\n");
}

fn they_are_listed() {
    let machine = machine(Disk::new(Fs::Ext4, 8), &json!({}));
    let kept = Kept::new(&machine);
    kept.add(7, 3).ends(true, 5000);
    kept.add(8, 2);
    kept.add(10, 1).saved().ends(true, 123).leaves_out("/big", 1 << 20);
    assert_eq!(
        listed(&machine),
        [(7, "well".to_owned()), (8, "cut off".to_owned()), (10, "well".to_owned())]
    );
    let text = machine.impctl("roots", &["list"]).ok().stdout;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NUMBER", "MADE", "ENDED", "SIZE", "FILES", "KIND", "SYSTEM"]);
    assert_eq!(
        lines[1],
        ["10", "1", "day", "well", "123B", "1", "saved", "/nix/store/x", "1", "file", "left", "out,", "1.0M"]
    );
    assert_eq!(lines[2], ["8", "2", "days", "cut", "off", "-", "-", "disk", "/nix/store/x"]);
    assert_eq!(lines[3], ["7", "3", "days", "well", "4.9K", "1", "disk", "/nix/store/x"]);
}

fn records_that_cannot_be_used() {
    let machine = machine(Disk::new(Fs::Ext4, 8), &json!({ "days": 1 }));
    let kept = Kept::new(&machine);
    for (number, text) in [(1, "{"), (2, r#"{ "version": 2 }"#), (3, "")] {
        let one = kept.add(number, 0);
        put(&one.place, "boot.json", text);
        put(&one.place, "root/x", "x");
    }
    // An empty directory is left by a killed run.
    std::fs::create_dir(kept.place.join("4")).unwrap();
    let found = roots(&machine, &[], 0);
    let flaws = found["stores"][0]["roots"].as_array().unwrap().iter().map(|root| root["flaws"].clone());
    assert_eq!(flaws.map(|flaws| flaws.as_array().unwrap().len()).collect::<Vec<_>>(), [1, 1, 1, 0]);
    // They are old roots all the same, whose age is not known.
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names(), ["1", "2", "3"]);
    with_limits(&machine, &json!({ "boots": 1 }));
    machine.impctl("roots", &["prune"]).ok();
    assert_eq!(kept.names(), ["3"]);
}
