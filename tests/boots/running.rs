//! The running system: entries are in place, and a new manifest changes only their differences.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::boot::{Boot, compile};
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::Fs;

tests![
    the_journal_begins_in_the_initrd,
    a_switch_changes_only_new_and_removed_entries,
    a_late_disk,
    pid_1_knows_at_once,
    a_day_with_impctl,
    hidden_mounts
];

/// Properties of every running system.
pub const SOUND: &str = r#"
fact "state, failed: $(systemctl --failed --no-legend --plain)" running "$(systemctl is-system-running)"
holds check imp-mount --check
holds plan imp-mount --plan
"#;

/// A manifest with the store /persist.
pub fn manifest(entries: Value) -> Value {
    json!({ "version": 1, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// As in NixOS by default, also in its initrd.
const JOURNALD: &str = "[Journal]\nStorage=persistent\n";

fn the_journal_begins_in_the_initrd() {
    let computer = Computer::with(On::Uml, Suite::Testing, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let boot = Boot::new(&manifest(json!([
        { "directory": "/var/log" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
    ])))
    .in_initrd("etc/systemd/journald.conf", JOURNALD)
    .in_etc("systemd/journald.conf", JOURNALD)
    .cmdline("systemd.log_target=journal-or-kmsg")
    .probe(
        r#"
        journalctl --sync
        # What is in files on the store, and nowhere else.
        stored() { journalctl --directory=/persist/var/log/journal --quiet --no-pager "$@"; }
        tell boots stored --list-boots
        tell messages stored --boot=0 --output=cat
        tell previous stored --boot=-1 --output=cat
        fact runtime "" "$(ls /run/log/journal/*/*.journal 2> /dev/null)"
        "#,
    )
    .probe(SOUND);
    let first = computer.boot(&boot).passed();
    assert_eq!(first.told("boots").len(), 1, "{first:?}");
    let second = computer.boot(&boot).passed();
    assert_eq!(second.told("boots").len(), 2, "{second:?}");
    for (console, name) in [(&first, "messages"), (&second, "messages"), (&second, "previous")] {
        let mut rest = console.told(name).into_iter();
        // From the kernel's first line on, in this order.
        for word in [
            "Linux version ",
            "Running in initrd.",
            " put in place, ",
            "Switching root.",
            "Starting systemd-journal-flush.service",
            "multi-user.target",
        ] {
            assert!(rest.any(|line| line.contains(word)), "no {word:?} in {name} of\n{console:?}");
        }
    }
    let is_first = |name: &str| second.told(name).contains(&"Detected first boot.");
    assert!(is_first("previous") && !is_first("messages"), "{second:?}");
}

/// Commands that replace the running system's manifest, and start the units of a NixOS switch.
fn switch_to(manifest: &Value) -> String {
    let mut bytes = String::new();
    for byte in compile(manifest) {
        write!(bytes, "\\x{byte:02x}").unwrap();
    }
    format!("printf '%b' '{bytes}' > /etc/imp-mount/manifest\n{SWITCH}")
}

const SWITCH: &str = "systemctl restart sysinit-reactivation.target\n";

fn a_switch_changes_only_new_and_removed_entries() {
    let computer = Computer::with(On::Here, Suite::Testing, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let old = manifest(json!([{ "directory": "/var/lib/stays" }, { "directory": "/var/lib/goes" }]));
    let new = manifest(json!([
        { "directory": "/var/lib/stays" },
        { "directory": "/var/lib/comes", "mode": "0750" },
        { "file": "/etc/app.conf", "missing": "create" },
    ]));
    let target = ("systemd/system/sysinit-reactivation.target", "[Unit]\nDescription=As NixOS Has It\n");
    let first = Boot::new(&old)
        .in_etc(target.0, target.1)
        .probe(
            r#"
            # All mounts with their ids, and without.
            ours() { grep " - ext4 " /proc/self/mountinfo; }
            what() { ours | cut -d " " -f 3- | sort; }
            said() { journalctl --sync; journalctl --unit=imp-mount.service --output=cat --no-pager; }
            before=$(ours)
            echo old > /var/lib/goes/file
            "#,
        )
        .probe(SWITCH)
        .probe(SWITCH)
        .probe(
            r#"
            fact "started twice" 2 "$(said | grep -c ' put in place, 2 unchanged')"
            fact "nothing to do" "$before" "$(ours)"
            mkdir /var/lib/comes
            echo mine > /var/lib/comes/file
            "#,
        )
        .probe(&switch_to(&new))
        .probe(
            r#"
            fact "would hide it" failed "$(systemctl is-failed imp-mount.service)"
            holds "and says so" grep "/var/lib/comes: .*\`file\`, which mounting would hide" <(said)
            fact "nothing done" "$(cut -d " " -f 3- <<< "$before" | sort)" "$(what)"
            fact "still there" mine "$(cat /var/lib/comes/file)"
            # As the message tells to.
            cp -r /var/lib/comes /persist/var/lib/
            rm /var/lib/comes/file
            "#,
        )
        .probe(SWITCH)
        .probe(
            r#"
            fact comes "/var/lib/comes" "$(findmnt --noheadings --output FSROOT /var/lib/comes)"
            fact mine mine "$(cat /var/lib/comes/file)"
            fact "new file" /etc/app.conf "$(findmnt --noheadings --output FSROOT /etc/app.conf)"
            fact gone "" "$(ls -d /var/lib/goes 2> /dev/null)"
            fact kept old "$(cat /persist/var/lib/goes/file)"
            fact stays "$(grep /var/lib/stays <<< "$before")" "$(ours | grep /var/lib/stays)"
            echo set > /etc/app.conf
            "#,
        )
        .probe(SOUND);
    computer.boot(&first).passed();
    computer.drive("persist").visit(|store| {
        assert_eq!(fs::read_to_string(store.join("etc/app.conf")).unwrap(), "set\n");
        assert_eq!(fs::read_to_string(store.join("var/lib/goes/file")).unwrap(), "old\n");
    });
    let second = Boot::new(&new).probe(SOUND).probe(
        r#"
        fact mine mine "$(cat /var/lib/comes/file)"
        fact file set "$(cat /etc/app.conf)"
        fails goes test -e /var/lib/goes
        "#,
    );
    computer.boot(&second).passed();
}

fn a_late_disk() {
    let drives = vec![Drive::new("persist", Fs::Ext4, 64), Drive::new("data", Fs::Ext4, 64)];
    let computer = Computer::with(On::Here, Suite::Stable, drives);
    let entries = json!([
        { "directory": "/data/media/photos", "phase": "live" },
        { "directory": "/var/lib/demo" },
    ]);
    let boot = Boot::new(&manifest(entries))
        // Units of systemd-fstab-generator for the host's fstab, slower.
        .in_etc(
            "systemd/system/data.mount",
            "[Unit]\nBefore=local-fs.target\nRequires=slow.service\nAfter=slow.service\n\
             [Mount]\nWhat=/dev/disk/by-label/data\nWhere=/data\nType=ext4\n",
        )
        .in_etc(
            "systemd/system/slow.service",
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=sleep 0.5\n",
        )
        .in_etc("systemd/system/local-fs.target.d/data.conf", "[Unit]\nRequires=data.mount\n")
        // As in the NixOS module for such a host.
        .in_etc("systemd/system/imp-mount-live.service.d/data.conf", "[Unit]\nWantsMountsFor=\"/data\"\n")
        .in_etc("tmpfiles.d/photos.conf", "f /data/media/photos/by-tmpfiles 0644 - - - first\n")
        .in_etc(
            "systemd/system/gallery.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=touch /data/media/photos/by-service\n",
        )
        .in_etc("systemd/system/multi-user.target.d/gallery.conf", "[Unit]\nWants=gallery.service\n")
        .probe(
            r#"
            fact photos /data/media/photos "$(findmnt --noheadings --output FSROOT /data/media/photos)"
            fact below "$(realpath /dev/disk/by-label/data)" "$(findmnt --noheadings --output SOURCE /data)"
            # PID 1 looks at mounts once a second when they change often. Off before that, it would begin with /data.
            holds "known to PID 1" timeout 10 bash -c "until systemctl --quiet is-active data-media-photos.mount; do sleep .1; done"
            holds "the rest of the disk" touch /data/media/film
            "#,
        )
        .probe(SOUND);
    for _ in 0..2 {
        computer.boot(&boot).passed();
    }
    computer.drive("persist").visit(|store| {
        let photos = store.join("data/media/photos");
        assert_eq!(fs::read_to_string(photos.join("by-tmpfiles")).unwrap(), "first");
        assert!(photos.join("by-service").exists());
        assert!(!store.join("data/media/film").exists());
    });
    computer.drive("data").visit(|disk| {
        assert!(disk.join("media/film").exists());
        assert_eq!(fs::read_dir(disk.join("media/photos")).unwrap().count(), 0);
    });
}

/// If PID 1 sees a mount before its line in utab, PID 1 takes the mount as its own. If PID 1 learns otherwise during a
/// shutdown, it waits for ever; so the line is written first. Here the mount exists long before the end of the run.
fn pid_1_knows_at_once() {
    let computer = Computer::new(On::Here);
    let boot = Boot::new(&manifest(json!([{ "directory": "/srv/late", "phase": "live" }])))
        .in_etc(
            "systemd/system/imp-mount-live.service.d/slow.conf",
            "[Service]\nCapabilityBoundingSet=~\nNoNewPrivileges=no\nSystemCallArchitectures=\n\
             RestrictAddressFamilies=\nMemoryDenyWriteExecute=no\nExecStart=\n\
             ExecStart=strace -o /run/strace -e inject=rename,renameat,renameat2:delay_enter=700000 \
             /run/boot/bin/imp-mount\n",
        )
        .in_etc(
            "systemd/system/watch.service",
            "[Unit]\nDefaultDependencies=no\nBefore=imp-mount-live.service\n\
             [Service]\nExecStart=/bin/bash /etc/watch\n",
        )
        .in_etc("systemd/system/sysinit.target.d/watch.conf", "[Unit]\nWants=watch.service\n")
        .in_etc(
            "watch",
            "until [[ -e /run/done ]]; do\n\
             systemctl show --property=ActiveState,Conflicts srv-late.mount | xargs >> /run/watched\n\
             sleep 0.05\ndone\n",
        )
        .probe(
            r#"
            touch /run/done
            tell watched uniq --count /run/watched
            holds "it was slow" grep --quiet DELAYED /run/strace
            holds "it was seen" grep --quiet ActiveState=active /run/watched
            fails "taken for PID 1's own" grep umount.target /run/watched
            "#,
        )
        .probe(SOUND);
    computer.boot(&boot).passed();
}

/// A path without an entry is found before it is lost, adopted, named, and still present after a boot.
fn a_day_with_impctl() {
    let computer = Computer::new(On::Here);
    let entries = [json!({ "directory": "/var/lib/app" }), json!({ "directory": "/srv/db", "mode": "0750" })];
    let (before, after) = (&entries[..1], &entries[..]);
    let forgotten = Boot::new(&manifest(json!(before))).with_impctl().probe(
        r#"
        holds "all is well" impctl status
        holds metrics grep --line-regexp "imp_mount_boot_success 1" <(impctl status --metrics)
        mkdir --mode 0750 /srv/db
        echo precious > /srv/db/file
        holds "to be lost" grep /srv/db <(impctl lost)
        holds adopted impctl adopt /srv/db
        fact "on the store" /srv/db "$(findmnt --noheadings --output FSROOT /srv/db)"
        fails "lost no more" grep /srv/db <(impctl lost)
        impctl status > /run/status
        fact "needs a line" 1 $?
        holds "says which" grep --fixed-strings 'add to the entries of the manifest: {"directory":"/srv/db"' /run/status
        "#,
    );
    computer.boot(&forgotten.probe(SOUND)).passed();
    let unnamed = Boot::new(&manifest(json!(before))).with_impctl().probe(
        r#"
        fails "without its line" test -e /srv/db
        holds "an orphan" grep /srv/db <(impctl orphans)
        "#,
    );
    computer.boot(&unnamed.probe(SOUND)).passed();
    let named = Boot::new(&manifest(json!(after))).with_impctl().probe(
        r#"
        fact kept precious "$(cat /srv/db/file)"
        fact mode 750 "$(stat --format %a /srv/db)"
        holds "no orphans" impctl orphans
        holds "all is well" impctl status
        "#,
    );
    computer.boot(&named.probe(SOUND)).passed();
}

fn hidden_mounts() {
    let computer = Computer::with(On::Here, Suite::Testing, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let boot = Boot::new(&manifest(json!([
        { "directory": "/srv/hidden", "hidden": true },
        { "directory": "/srv/seen" },
        { "file": "/srv/file", "missing": "create", "hidden": true, "trash": true },
    ])))
    .probe(SOUND)
    .probe(
        r#"
        # With what libmount keeps beside the kernel, as desktops read it.
        has() { findmnt --mtab --noheadings --output OPTIONS "$1" | tr , '\n' | grep ^x- | sort | tr '\n' ' '; }
        hidden() {
            fact "hidden $1" "x-gvfs-hide x-initrd.mount " "$(has /srv/hidden)"
            fact "seen $1" "x-initrd.mount " "$(has /srv/seen)"
            fact "file $1" "x-gvfs-hide x-gvfs-trash x-initrd.mount " "$(has /srv/file)"
        }
        hidden "after the boot"
        # Others write the same file.
        mkdir /mnt
        mount -t tmpfs -o x-test tmpfs /mnt
        hidden "beside another mount"
        mount -o remount,ro,x-test=2 /mnt
        umount /mnt
        hidden "after another mount"
        fact others "" "$(grep TARGET=/mnt /run/mount/utab)"
        # PID 1 sees the same.
        holds "PID 1" grep x-gvfs-hide <(systemctl show --property=Options srv-hidden.mount)
        mount -o remount,noexec /srv/hidden
        hidden "after it is mounted anew"
        "#,
    );
    computer.boot(&boot).passed();
}
