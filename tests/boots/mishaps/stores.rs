//! Missing, damaged, read-only and full stores.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{explains, manifest, stops, unharmed, write};
use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::command::sh_on;
use crate::support::{Fs, run};

tests![
    the_device_is_missing,
    the_device_that_the_manifest_names_is_missing,
    an_optional_one_is_missing,
    the_superblock_is_damaged,
    the_superblock_is_gone,
    all_superblocks_are_gone,
    fsck_fails,
    mounted_read_only,
    read_only_after_an_error,
    full,
    without_inodes,
];

/// An entry with an existing source, and one with a source to create.
fn entries() -> Value {
    manifest(&json!([{ "directory": "/var/lib/old" }, { "directory": "/var/lib/new" }]))
}

/// The same on a store mounted by imp-mount itself.
fn with_device(device: &str) -> Boot {
    let mut manifest = entries();
    manifest["stores"][0]["device"] = device.into();
    Boot::new(&manifest).without("/persist")
}

fn fill(store: &Path) {
    write(&store.join("var/lib/old/file"), "kept");
}

/// A machine whose store, formatted with further words for mkfs, holds the old entry.
fn computer(on: On, words: &str) -> Computer {
    let computer = Computer::with(on, Suite::Stable, vec![Drive::formatted("persist", Fs::Ext4, 64, words)]);
    computer.drive("persist").visit(fill);
    computer
}

/// Damages the file system on a disk.
fn debugfs(computer: &Computer, request: &str) {
    let image = computer.drive("persist").image.to_str().unwrap();
    run(&["debugfs", "-w", "-R", request, image]).ok();
}

/// Overwrites bytes of a disk.
fn scribble(computer: &Computer, at: u64, bytes: &[u8]) {
    let image = File::options().write(true).open(&computer.drive("persist").image).unwrap();
    image.write_all_at(bytes, at).unwrap();
}

/// Both entries are mounted, and the old one has its content.
const WHOLE: &str = r#"
    fact old /var/lib/old "$(findmnt --noheadings --output FSROOT /var/lib/old)"
    fact new /var/lib/new "$(findmnt --noheadings --output FSROOT /var/lib/new)"
    fact kept kept "$(cat /var/lib/old/file)"
    holds check imp-mount --check
"#;

/// Steps after a repair in an emergency shell.
const GO_ON: &str = "imp-mount || exit\necho 'EMERGENCY mended'\nexec systemctl default\n";

const NOT_THERE: &str =
    "which is not there: is the disk connected, its driver in the initrd, and the name right?";
const NOT_WHOLE: &str = "which is there: see whether its file system is whole";

fn the_device_is_missing() {
    let computer = computer(On::Uml, "");
    let boot = Boot::new(&entries())
        .store("LABEL=elsewhere", "/persist", "ext4", "x-systemd.device-timeout=2s")
        .in_emergency(&format!("mount -m LABEL=persist /sysroot/persist\n{GO_ON}"))
        .probe(WHOLE);
    explains(
        computer.boot(&boot),
        "imp-mount-early.service",
        &[
            "not mounted         /var/lib/old: the store /persist is not there",
            &format!(
                "store               /persist: PROBLEM: it is not there; fstab says LABEL=elsewhere, {NOT_THERE}"
            ),
            "-> mount the store: mount -m LABEL=elsewhere /sysroot/persist",
            "EXIT 1",
        ],
    )
    .says(&["\nCHECK disk                /dev/ubdb 64M ext4 LABEL=persist UUID="])
    .mended();
}

fn the_device_that_the_manifest_names_is_missing() {
    let store = format!(
        "store               /persist: PROBLEM: nothing is mounted there; the manifest says LABEL=elsewhere, {NOT_THERE}"
    );
    let lines = [
        store.as_str(),
        "                    store /persist: cannot open the device /dev/disk/by-label/elsewhere: No such file or directory \
         (os error 2); is the disk connected, and its driver in the initrd? `imp-mount --check` shows those that are there",
        "-> mount the store: mount -m LABEL=elsewhere /sysroot/persist",
        "EXIT 1",
    ];
    stops(&computer(On::Here, ""), &with_device("LABEL=elsewhere"), "imp-mount-early.service", &lines)
        .says(&[" ext4 LABEL=persist UUID="]);
}

fn an_optional_one_is_missing() {
    let computer = computer(On::Here, "");
    let mut manifest = entries();
    manifest["stores"][0]["required"] = false.into();
    manifest["stores"][0]["device"] = "LABEL=elsewhere".into();
    let boot = Boot::new(&manifest).without("/persist").probe(
        r#"
        for name in old new; do
            fact "guard of $name" "0 ro" "$(stat --format %a "/var/lib/$name") $(findmnt --noheadings --output VFS-OPTIONS "/var/lib/$name" | cut -d, -f1)"
            fails "write to $name" touch "/var/lib/$name/file"
        done
        fails check imp-mount --check
        tell check imp-mount --check
        "#,
    );
    let console = unharmed(&computer, || computer.boot(&boot)).passed();
    let reason = "guarded: the store /persist is not there";
    for name in ["old", "new"] {
        let line = format!("not mounted         /var/lib/{name}: {reason}");
        assert!(console.told("check").contains(&line.as_str()), "{console:?}");
    }
}

fn the_superblock_is_damaged() {
    let computer = computer(On::Here, "");
    // Its checksum.
    scribble(&computer, 1024 + 1020, b"nope");
    let device = "/dev/disk/by-label/persist";
    let boot =
        with_device("LABEL=persist").in_emergency(&format!("fsck.ext4 -y {device}\n{GO_ON}")).probe(WHOLE);
    explains(
        computer.boot(&boot),
        "imp-mount-early.service",
        &[
            &format!(
                "                    store /persist: cannot mount {device} (ext4): Bad message (os error 74); check it with \
                 `fsck.ext4 -n {device}`, then run again"
            ),
            &format!(
                "store               /persist: PROBLEM: nothing is mounted there; the manifest says LABEL=persist, {NOT_WHOLE}"
            ),
            "-> where that fails, check its file system: fsck -n LABEL=persist",
            "EXIT 1",
        ],
    )
    .mended();
}

fn the_superblock_is_gone() {
    let computer = computer(On::Uml, "-b 1024");
    scribble(&computer, 1024, &[0; 1024]);
    // Purpose of the copies.
    let boot = Boot::new(&entries())
        .store("/dev/ubdb", "/persist", "ext4", "")
        .in_emergency(&format!("fsck.ext4 -b 8193 -y /dev/ubdb\nmount /dev/ubdb /sysroot/persist\n{GO_ON}"))
        .probe(WHOLE);
    explains(
        computer.boot(&boot),
        "sysroot-persist.mount",
        &[
            "disk                /dev/ubdb 64M no known file system",
            &format!(
                "store               /persist: PROBLEM: nothing is mounted there; fstab says /dev/ubdb, {NOT_WHOLE}"
            ),
            "-> where that fails, check its file system: fsck -n /dev/ubdb",
            "EXIT 1",
        ],
    )
    .mended();
}

fn all_superblocks_are_gone() {
    let computer = computer(On::Here, "-b 1024");
    for copy in [1, 8193, 24577, 40961, 57345] {
        scribble(&computer, copy * 1024, &[0; 1024]);
    }
    let boot =
        with_device("LABEL=persist").in_emergency("fsck.ext4 -n /dev/disk/by-label/persist && echo REPAIRED");
    let console = computer.boot(&boot).emergency();
    let last = "                    store /persist: /dev/disk/by-label/persist holds no file system that is known here; name \
                it with the store's `fstype`, or correct `device`";
    let console = explains(console, "imp-mount-early.service", &[last, "EXIT 1"]);
    assert!(!console.text.contains("REPAIRED"), "{console:?}");
}

fn fsck_fails() {
    let computer = computer(On::Uml, "");
    // Without the root inode, and with the error flag: fsck does not repair this without a request.
    for request in ["clri <2>", "ssv state 2"] {
        debugfs(&computer, request);
    }
    let boot = Boot::new(&entries());
    let console = computer.boot(&boot).emergency();
    explains(
        console,
        "systemd-fsck@dev-disk-by\\x2dlabel-persist.service",
        &[
            &format!(
                "store               /persist: PROBLEM: it is not there; fstab says LABEL=persist, {NOT_WHOLE}"
            ),
            "-> check the disk with errors: fsck.ext4 -f /dev/ubdb",
            "EXIT 1",
        ],
    );
}

fn mounted_read_only() {
    let computer = computer(On::Here, "");
    let boot = Boot::new(&entries()).store("LABEL=persist", "/persist", "ext4", "ro");
    let problem =
        ": PROBLEM: it is mounted read-only; see `dmesg` for errors, check it with fsck, and remount it\n";
    stops(
        &computer,
        &boot,
        "imp-mount.service",
        &[
            "                    /var/lib/new: cannot create /persist/var/lib/new: Read-only file system (os error 30); it is \
             read-only, often after an error on the disk: see `dmesg`, check it with fsck, and remount it",
            "EXIT 1",
        ],
    )
    .says(&["\nCHECK store               /persist: ext4 on /dev/loop", problem]);

    // Existing paths on the store are still mounted.
    let boot = boot.cmdline("imp-mount.skip=/var/lib/new").probe(
        r#"
        fact kept kept "$(cat /var/lib/old/file)"
        fails write touch /var/lib/old/new
        fails check imp-mount --check
        tell check imp-mount --check
        tell journal journalctl --boot --no-pager --output=cat --identifier=imp-mount
        "#,
    );
    let console = unharmed(&computer, || computer.boot(&boot)).passed().says(&[problem]);
    assert!(
        console
            .told("journal")
            .iter()
            .any(|line| line.starts_with("store /persist: it is mounted read-only")),
        "{console:?}"
    );
}

fn read_only_after_an_error() {
    let computer = computer(On::Uml, "");
    sh_on("tune2fs -e remount-ro", &[&computer.drive("persist").image]);
    debugfs(&computer, "clri /var/lib/old");
    // fsck finds no error, because the file system was cleanly unmounted.
    let boot = Boot::new(&entries())
        .in_emergency(&format!(
            "umount /sysroot/persist\nfsck.ext4 -f -y /dev/ubdb\nmount /dev/ubdb /sysroot/persist\n{GO_ON}"
        ))
        .probe(
            r#"
            holds check imp-mount --check
            fact found kept "$(cat /persist/lost+found/*)"
            "#,
        );
    explains(
        computer.boot(&boot),
        "imp-mount.service",
        &[
            "not mounted         /var/lib/old: cannot open /persist/var/lib/old: Structure needs cleaning (os error 117); the \
             disk or its file system reports errors: see `dmesg`, and check it with fsck",
            "EXIT 1",
        ],
    )
    .says(&[
        "EXT4-fs (ubdb): Remounting filesystem read-only",
        ": PROBLEM: it is mounted read-only; see `dmesg` for errors, check it with fsck, and remount it\n",
    ])
    .mended();
}

fn full() {
    let computer = computer(On::Here, "-m 0");
    computer.drive("persist").visit(|store| {
        let mut ballast = File::create(store.join("ballast")).unwrap();
        while ballast.write_all(&[1; 1024]).is_ok() {}
    });
    let boot = Boot::new(&entries());
    stops(
        &computer,
        &boot,
        "imp-mount.service",
        &[
            "                    /var/lib/new: cannot create /persist/var/lib/new: No space left on device (os error 28); free \
             space or inodes there (`df -h`, `df -i`), then run again",
            "EXIT 1",
        ],
    )
    .says(&[" % of its space are used: free some\n"]);
    let boot = boot.cmdline("imp-mount.skip=/var/lib/new").probe(
        r#"
        fact kept kept "$(cat /var/lib/old/file)"
        fact old /var/lib/old "$(findmnt --noheadings --output FSROOT /var/lib/old)"
        "#,
    );
    unharmed(&computer, || computer.boot(&boot)).passed();
}

fn without_inodes() {
    let computer = computer(On::Here, "-N 16");
    let mut names = 0..;
    computer
        .drive("persist")
        .visit(|store| while File::create(store.join(names.next().unwrap().to_string())).is_ok() {});
    let mut manifest = entries();
    manifest["entries"][1]["required"] = false.into();
    let boot = Boot::new(&manifest).probe(
        r#"
        fact kept kept "$(cat /var/lib/old/file)"
        fact guard 0 "$(stat --format %a /var/lib/new)"
        fails write touch /var/lib/new/file
        fails check imp-mount --check
        tell check imp-mount --check
        "#,
    );
    let console = unharmed(&computer, || computer.boot(&boot)).passed();
    let line = "not mounted         /var/lib/new: guarded: cannot create /persist/var/lib/new: No space left on device \
                (os error 28); free space or inodes there (`df -h`, `df -i`), then run again";
    assert!(console.told("check").contains(&line), "{console:?}");
    console.says(&[": PROBLEM: 100 % of its inodes are used: free some\n"]);
}
