//! The words of the kernel command line: each boots past a store whose disk is dead, damaged or too slow.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::{Fs, scratch};

tests![
    without_a_word,
    an_entry_of_an_absent_disk,
    an_entry_of_a_damaged_disk,
    an_entry_of_a_slow_disk,
    a_store_on_an_absent_disk,
    a_store_on_a_damaged_disk,
    a_store_on_a_slow_disk,
    off_with_an_absent_disk,
    off_with_a_damaged_disk,
    off_with_a_slow_disk,
    with_the_systemd_of_testing,
    a_store_on_a_real_device,
    off_with_a_real_device,
    off_with_a_real_damaged_device,
    a_store_that_is_ours,
    a_store_that_is_well,
];

/// State of the disk of the second store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Well,
    Absent,
    /// Its superblock is overwritten.
    Damaged,
    /// The device appears later than any reasonable wait.
    Slow,
}

/// A unit in place of a slow device's unit.
const SLOW: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nTimeoutStartSec=20s\nExecStart=sleep infinity\n";

fn manifest() -> Value {
    json!({
        "version": 1,
        "stores": [{ "path": "/persist" }, { "path": "/srv/media" }],
        "entries": [
            { "directory": "/var/lib/app", "store": "/persist" },
            { "directory": "/films", "store": "/srv/media" },
            // Blocks the guard, unless skipped as well.
            { "directory": "/films/cache", "store": "/persist" },
        ],
    })
}

fn computer(on: On, suite: Suite, disk: Disk) -> Computer {
    for label in ["persist", "media"] {
        let _ = fs::remove_file(scratch().join(format!("{label}.img")));
    }
    let mut drives = vec![Drive::new("persist", Fs::Ext4, 64)];
    if disk != Disk::Absent {
        drives.push(Drive::new("media", Fs::Ext4, 64));
    }
    if disk == Disk::Damaged {
        let image = File::options().write(true).open(&drives[1].image).unwrap();
        image.write_all_at(&[0; 4096], 0).unwrap();
    }
    Computer::with(on, suite, drives)
}

fn boot(disk: Disk, words: &str) -> Boot {
    let boot =
        Boot::new(&manifest()).store("LABEL=media", "/srv/media", "ext4", "").cmdline(words).with_impctl();
    if disk == Disk::Slow { boot.needs("slow.service", SLOW) } else { boot }
}

/// Boots to the end, and returns the status line about the kernel arguments.
#[track_caller]
fn passes(computer: &Computer, boot: Boot) -> String {
    let console = computer
        .boot(&boot.probe(
            r"
            holds check imp-mount --check
            tell check imp-mount --check
            tell status impctl status
            tell report cat /run/imp-mount/report.json
            ",
        ))
        .passed();
    let status = console.told("status").join("\n");
    assert!(console.told("report").concat().contains("\"words\":[\"imp-mount"), "{console:?}");
    format!("{status}\n{}", console.told("check").join("\n"))
}

/// Without an argument the boot stops. Otherwise the tests below would prove nothing.
fn without_a_word() {
    for disk in [Disk::Absent, Disk::Damaged] {
        computer(On::Here, Suite::Stable, disk).boot(&boot(disk, "")).emergency();
    }
}

/// Both entries at and below the path are guarded, whatever becomes of the store.
const GUARDED: &str = r#"
    fact app /var/lib/app "$(findmnt --noheadings --output FSROOT /var/lib/app)"
    fact "guard" "0 0 0" "$(stat --format '%a %u %g' /films)"
    fails "write to films" touch /films/new
    fails "write to cache" mkdir /films/cache
"#;

fn skip_of_an_entry(disk: Disk) {
    let computer = computer(On::Here, Suite::Stable, disk);
    let said = passes(&computer, boot(disk, "imp-mount.skip=/films").probe(GUARDED));
    for words in [
        "imp-mount.skip=/films, until the next boot",
        "/srv/media: imp-mount.skip= leaves out every entry of it, and ",
        "3 paths, 1 ok, 2 skipped, 1 store not used, no problem found",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

fn an_entry_of_an_absent_disk() {
    skip_of_an_entry(Disk::Absent);
}

fn an_entry_of_a_damaged_disk() {
    skip_of_an_entry(Disk::Damaged);
}

fn an_entry_of_a_slow_disk() {
    skip_of_an_entry(Disk::Slow);
}

/// The store itself is guarded, too, for those who go by its own path.
const LEFT_OUT: &str = r#"
    fact "state $(systemctl --failed --no-legend --plain)" running "$state"
    fact "guard of the store" "0 0 0" "$(stat --format '%a %u %g' /srv/media)"
    fails "write to the store" touch /srv/media/new
"#;

#[track_caller]
fn skip_of_a_store(on: On, suite: Suite, disk: Disk) {
    let boot = boot(disk, "imp-mount.skip=/srv/media").probe(GUARDED).probe(LEFT_OUT);
    let said = passes(&computer(on, suite, disk), boot);
    for words in [
        "imp-mount.skip=/srv/media, until the next boot",
        "/srv/media: left out by imp-mount.skip=",
        "3 paths, 1 ok, 2 skipped, 1 store not used, no problem found",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

fn a_store_on_an_absent_disk() {
    skip_of_a_store(On::Here, Suite::Stable, Disk::Absent);
}

fn a_store_on_a_damaged_disk() {
    skip_of_a_store(On::Here, Suite::Stable, Disk::Damaged);
}

fn a_store_on_a_slow_disk() {
    skip_of_a_store(On::Here, Suite::Stable, Disk::Slow);
}

fn with_the_systemd_of_testing() {
    skip_of_a_store(On::Here, Suite::Testing, Disk::Slow);
    off(On::Here, Suite::Testing, Disk::Slow);
}

#[track_caller]
fn off(on: On, suite: Suite, disk: Disk) {
    // The undamaged store helps with a repair: it may hold passwords.
    let boot = boot(disk, "imp-mount=off").probe(
        r"
        holds store mountpoint /persist
        fails app mountpoint /var/lib/app
        fails films test -e /films
        ",
    );
    let said = passes(&computer(on, suite, disk), boot);
    for words in [
        "imp-mount=off, until the next boot",
        "/srv/media: nothing of it is needed with imp-mount=off, and ",
        "3 paths, 0 ok, 3 skipped, 1 store not used, no problem found",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

fn off_with_an_absent_disk() {
    off(On::Here, Suite::Stable, Disk::Absent);
}

fn off_with_a_damaged_disk() {
    off(On::Here, Suite::Stable, Disk::Damaged);
}

fn off_with_a_slow_disk() {
    off(On::Here, Suite::Stable, Disk::Slow);
}

/// With systemd's own units for fstab(5), for the devices and for fsck.
fn a_store_on_a_real_device() {
    skip_of_a_store(On::Uml, Suite::Testing, Disk::Absent);
}

/// The same with the argument that waits for a while.
fn off_with_a_real_device() {
    off(On::Uml, Suite::Testing, Disk::Absent);
}

/// Its file system is checked, and the check fails.
fn off_with_a_real_damaged_device() {
    off(On::Uml, Suite::Testing, Disk::Damaged);
}

/// A store mounted by imp-mount from its device.
fn a_store_that_is_ours() {
    let mut manifest = manifest();
    manifest["stores"][1]["device"] = "LABEL=media".into();
    for disk in [Disk::Absent, Disk::Damaged] {
        let computer = computer(On::Here, Suite::Stable, disk);
        let boot = |words: &str| Boot::new(&manifest).cmdline(words).with_impctl();
        computer.boot(&boot("")).emergency();
        passes(&computer, boot("imp-mount.skip=/srv/media").probe(GUARDED).probe(LEFT_OUT));
        passes(&computer, boot("imp-mount.skip=/films").probe(GUARDED));
        passes(&computer, boot("imp-mount=off"));
    }
}

/// A skipped store stays unmounted even if its disk is present; a store with skipped entries is mounted.
fn a_store_that_is_well() {
    let computer = computer(On::Here, Suite::Stable, Disk::Well);
    let mounted = "holds media mountpoint /srv/media\nfact type ext4 \"$(findmnt --noheadings --output FSTYPE /srv/media)\"\n";
    passes(&computer, boot(Disk::Well, "imp-mount.skip=/srv/media").probe(GUARDED).probe(LEFT_OUT));
    passes(&computer, boot(Disk::Well, "imp-mount.skip=/films").probe(GUARDED).probe(mounted));
    passes(&computer, boot(Disk::Well, "imp-mount=off").probe(mounted));
    for label in ["persist", "media"] {
        computer.drive(label).is_clean();
    }
}
