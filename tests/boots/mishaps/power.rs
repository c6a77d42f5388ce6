//! The power fails during the first boot.
//!
//! User-mode Linux has no cache between its block device and the image: the image contains all writes of the kernel so far, in
//! their order, and no others. Frozen between two system calls, the image equals a disk without a write cache after a power
//! failure. The store is mounted with `sync`: else ext4 would write all changes at once, with few intermediate states.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};

use super::{manifest, write};
use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::{Fs, Snapshot};

tests![the_power_fails_during_the_first_boot];

const ENTRIES: usize = 200;
/// Delays the chown of every created directory and file.
const SLOWLY: (&str, &str) = (
    "etc/systemd/system/imp-mount.service.d/slowly.conf",
    "[Service]\nExecStart=\nExecStart=strace -qq -o /dev/null -e trace=fchown -e inject=fchown:delay_enter=5000 /bin/imp-mount\n",
);
/// Number of booted images: from the creation of the entries, and from other times.
const AMONG: usize = 16;
const AROUND: usize = 5;
/// Number of images examined for this choice.
const SEEN: usize = 45;

/// Directories and files, of many users and of one who is not known before the system runs.
fn many() -> Value {
    let mut entries = vec![
        json!({ "directory": "/var/lib/old", "user": 7, "mode": "0700" }),
        json!({ "file": "/etc/machine-id", "missing": "machine-id" }),
    ];
    entries.extend((0..ENTRIES).map(|n| {
        let (path, mode) = (name(n), ["0755", "0700", "02770", "0750"][n / 2 % 4]);
        match n % 10 {
            0..5 => json!({ "directory": path, "user": 3000 + n, "group": 100, "mode": mode }),
            5..8 => json!({ "file": path, "missing": "create", "user": 4000 + n, "mode": "0640" }),
            8 => json!({ "directory": path, "user": "alice", "group": "users", "mode": mode }),
            _ => {
                json!({ "directory": format!("{path}/deep"), "mode": mode, "parents": { "user": 5000 + n } })
            }
        }
    }));
    manifest(&json!(entries))
}

/// Content of one of them on the store in the end.
fn wanted(n: usize) -> String {
    let mode = ["040755", "040700", "042770", "040750"][n / 2 % 4];
    match n % 10 {
        0..5 => format!("{mode} {}:100", 3000 + n),
        5..8 => format!("100640 {}:0 0", 4000 + n),
        8 => format!("{mode} 1000:100"),
        // The directory above the entry.
        _ => format!("040755 {}:0", 5000 + n),
    }
}

fn name(n: usize) -> String {
    format!("/srv/{n:03}")
}

/// Number of entries on a store, and of unfinished ones.
fn made(store: &Path) -> (usize, usize) {
    let modes = (0..ENTRIES).filter_map(|n| fs::symlink_metadata(store.join(&name(n)[1..])).ok());
    let modes: Vec<u32> = modes.map(|meta| meta.mode() & 0o7777).collect();
    (modes.len(), modes.iter().filter(|mode| **mode == 0).count())
}

fn the_power_fails_during_the_first_boot() {
    let computer = Computer::new(On::Uml);
    let disk = computer.drive("persist");
    let before = disk.visit(|store| {
        write(&store.join("var/lib/old/file"), "kept");
        write(&store.join("nobody/names/this"), "kept");
        chown(store.join("var/lib/old"), Some(7), Some(0)).unwrap();
        fs::set_permissions(store.join("var/lib/old"), Permissions::from_mode(0o700)).unwrap();
        Snapshot::of(store)
    });
    let boot = Boot::new(&many()).store("LABEL=persist", "/persist", "ext4", "sync").probe(
        r#"
        well
        fact kept kept "$(cat /var/lib/old/file)"
        "#,
    );
    let changed = || fs::metadata(&disk.image).unwrap().modified().unwrap();
    let (mut frozen, mut last) = (vec![], changed());
    computer
        .boot_watched(&boot.clone().in_initrd(SLOWLY.0, SLOWLY.1), &mut |machine| {
            if changed() != last {
                machine.frozen(|| {
                    last = changed();
                    frozen.push(Drive::copy("persist", &disk.image, Fs::Ext4));
                });
            }
        })
        .passed();
    let finished = disk.visit(Snapshot::of);
    for n in 0..ENTRIES {
        let line = finished.line(&name(n)[1..]).unwrap_or("missing");
        assert!(line.starts_with(&wanted(n)), "{}: {line}", name(n));
    }
    assert_eq!(before.losses(&finished), [""; 0]);

    let points = choose(frozen);
    for point in &points {
        let (entries, unfinished) = point.visit(made);
        let computer = Computer::with(On::Here, Suite::Stable, vec![point.clone()]);
        let console = computer.boot(&boot).passed();
        let now = point.visit(Snapshot::of);
        // The machine id is random; its form is checked.
        let id = |line: &String| line.starts_with("/etc/machine-id: 100444 0:0 33 ");
        let mut wrong = finished.losses(&now);
        wrong.retain(|line| !id(line));
        wrong.extend(now.news(&finished));
        assert_eq!(wrong, [""; 0], "with {entries} entries, {unfinished} of them unfinished\n{console:?}");
    }
}

/// Images to boot: most from while the entries were made, and some from before and after.
fn choose(frozen: Vec<Drive>) -> Vec<Drive> {
    let seen = thin(frozen, SEEN).map(|image| (image.visit(made), image));
    let (among, around): (Vec<_>, Vec<_>) =
        seen.partition(|((entries, _), _)| (1..ENTRIES).contains(entries));
    let chosen: Vec<_> = thin(among, AMONG).chain(thin(around, AROUND)).collect();
    let points: BTreeSet<_> = chosen.iter().map(|(made, _)| *made).collect();
    assert!(chosen.len() >= 20 && points.len() >= 12, "too few points: {points:?}");
    assert!(points.iter().any(|(_, unfinished)| *unfinished > 0), "nothing is unfinished: {points:?}");
    chosen.into_iter().map(|(_, image)| image).collect()
}

/// At most so many of them, evenly.
fn thin<T>(all: Vec<T>, most: usize) -> impl Iterator<Item = T> {
    let nth = move |n: usize, length: usize| n * most.min(length) / length;
    let length = all.len();
    all.into_iter()
        .enumerate()
        .filter(move |(n, _)| nth(*n, length) != nth(n + 1, length))
        .map(|(_, one)| one)
}
