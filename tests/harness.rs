//! The harness itself, compared with mount(8) and coreutils: its checks can fail.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::support::command::sh;
use crate::support::inject::{calls_of, run_with};
use crate::support::look::stat;
use crate::support::{Disk, Fs, Injected, Machine, Root, Snapshot, mount_at, mounts, run, scratch};

tests![
    a_namespace_of_its_own,
    a_snapshot_sees_every_change,
    a_bind_is_seen_with_its_options,
    a_folder_outlives_a_reboot,
    a_started_system_sees_its_own_root,
    attributes_are_seen: Root,
    disks_outlive_a_reboot: Disk,
    a_converted_disk_is_the_root: Disk,
    a_full_disk_is_full: Disk,
    a_disk_runs_out_of_inodes: Disk,
    a_disk_turns_read_only: Disk,
    a_disk_breaks: Disk,
    a_call_is_missing: Inject,
    each_call_kills: Inject,
    watching_is_fast: Inject,
];

fn a_namespace_of_its_own() {
    for place in ["/run", "/tmp"] {
        let mount = mount_at(place).unwrap();
        assert_eq!(mount.fstype, "tmpfs", "{place}");
    }
    // As on a booted machine, but without peers outside.
    assert!(mounts().iter().all(|mount| mount.propagation.starts_with("shared:")));
    let outside = fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    sh("mkdir /tmp/inside");
    sh("mount -t tmpfs none /tmp/inside");
    assert!(mount_at("/tmp/inside").is_some());
    assert_eq!(
        fs::read_to_string("/proc/1/mountinfo").unwrap_or_default().matches("/tmp/inside").count(),
        outside.matches("/tmp/inside").count()
    );
    assert_eq!(fs::read_dir(scratch()).unwrap().count(), 0);
    fs::write("/dev/kmsg", "into the void").unwrap();
    assert_eq!(fs::read("/dev/kmsg").unwrap(), b"");
}

fn a_snapshot_sees_every_change() {
    let tree = Path::new("/tmp/tree");
    fs::create_dir_all(tree.join("kept")).unwrap();
    fs::write(tree.join("file"), "one").unwrap();
    symlink("file", tree.join("link")).unwrap();
    let before = Snapshot::of(tree);
    assert_eq!(before, Snapshot::of(tree));
    fs::write(tree.join("new"), "").unwrap();
    let after = Snapshot::of(tree);
    assert!(before.losses(&after).is_empty());
    assert_eq!(after.news(&before).len(), 1);

    fs::write(tree.join("file"), "two").unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    sh("chmod 700 /tmp/tree/kept");
    assert_eq!(before.losses(&Snapshot::of(tree)).len(), 3);
}

fn a_bind_is_seen_with_its_options() {
    let (from, to) = (Path::new("/tmp/from here"), Path::new("/tmp/to \\ there"));
    for path in [from, to] {
        fs::create_dir(path).unwrap();
    }
    fs::write(from.join("file"), "").unwrap();
    run(&["mount".as_ref(), "--bind".as_ref(), from, to]).ok();
    run(&["mount".as_ref(), "-o".as_ref(), "remount,bind,nosuid,nodev".as_ref(), to]).ok();

    let mount = mount_at(to).expect("a mount whose name holds a space and a backslash");
    assert_eq!(mount.root, Path::new("/from here"));
    assert!(mount.has("nosuid") && mount.has("nodev") && !mount.has("noexec"), "{mount:?}");
    assert!(to.join("file").exists());
    // A snapshot ends where another file system begins, and the bind is none.
    assert_eq!(Snapshot::of(to).line("file"), Snapshot::of(from).line("file"));
}

/// The program in two lines of coreutils and mount(8).
fn bind_by_hand(machine: &Machine, path: &str) {
    let (store, root) = (machine.at(&format!("/persist{path}")), machine.at(path));
    sh(format!("mkdir -p -m 0750 {} {}", store.display(), root.display()));
    sh(format!("mount --bind {} {}", store.display(), root.display()));
}

/// Writes to a persistent path and to another one, reboots, and reads both.
fn outlives_a_reboot(disk: Disk) {
    let machine = Machine::new(Root::Tmpfs, disk);
    bind_by_hand(&machine, "/var/lib/plex");
    fs::write(machine.at("/var/lib/plex/kept"), "kept").unwrap();
    fs::write(machine.at("/var/lib/lost"), "lost").unwrap();
    fs::write("/run/lost", "lost").unwrap();
    let before = machine.disk().snapshot();
    assert!(before.line("var/lib/plex/kept").is_some() && before.line("var/lib/lost").is_none());

    machine.power_off();
    assert_eq!(mount_at(machine.at("")), None);
    machine.power_on();
    bind_by_hand(&machine, "/var/lib/plex");

    assert_eq!(before.losses(&machine.disk().snapshot()), [""; 0]);
    assert_eq!(fs::read_to_string(machine.at("/var/lib/plex/kept")).unwrap(), "kept");
    assert!(!machine.at("/var/lib/lost").exists() && !Path::new("/run/lost").exists());
    assert_eq!(machine.mount_at("/var/lib/plex").unwrap().root.file_name().unwrap(), "plex");
}

fn a_folder_outlives_a_reboot() {
    outlives_a_reboot(Disk::new(Fs::Folder, 0));
}

fn disks_outlive_a_reboot() {
    for fs in Fs::REAL {
        let disk = Disk::new(fs, 0);
        outlives_a_reboot(disk);
    }
}

fn a_started_system_sees_its_own_root() {
    let machine = Machine::new(Root::Tmpfs, Disk::new(Fs::Folder, 0));
    bind_by_hand(&machine, "/srv");
    machine.switch_root();
    let inside = machine.run_inside(&["cat", "/proc/self/mountinfo"]).ok().stdout;
    assert_eq!(inside.matches("/srv /srv ").count(), 1, "{inside}");
    // Its mounts are visible outside of it.
    machine.run_inside(&["mkdir", "/new"]).ok();
    machine.run_inside(&["mount", "-t", "tmpfs", "none", "/new"]).ok();
    assert_eq!(machine.mount_at("/new").unwrap().fstype, "tmpfs");
    machine.power_off();
    assert_eq!(mount_at(machine.at("/srv")), None);
}

fn a_converted_disk_is_the_root() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    assert_eq!(machine.mount_at("/").unwrap().fstype, "ext4");
    assert!(machine.at("/lost+found").exists());
}

fn attributes_are_seen() {
    let before = {
        fs::create_dir("/tmp/tree").unwrap();
        fs::write("/tmp/tree/file", "").unwrap();
        Snapshot::of(Path::new("/tmp/tree"))
    };
    sh("chown 193:194 /tmp/tree/file");
    sh("setfacl -m u:7:r /tmp/tree/file");
    let after = Snapshot::of(Path::new("/tmp/tree"));
    assert_eq!(before.losses(&after).len(), 1);
    assert!(after.line("file").unwrap().contains("posix_acl_access"), "{after:?}");
    assert_eq!(stat("/tmp/tree/file"), (0o100_644, 193, 194));
}

fn a_full_disk_is_full() {
    for fs in Fs::REAL {
        let disk = Disk::new(fs, 16);
        disk.mount("/tmp/disk");
        disk.fill();
        run(&["dd", "if=/dev/zero", "of=/tmp/disk/more", "bs=64k", "count=1"])
            .expect(1)
            .says(&["No space left"]);
        disk.unfill();
        run(&["dd", "if=/dev/zero", "of=/tmp/disk/more", "bs=64k", "count=1"]).ok();
        disk.umount();
    }
}

fn a_disk_runs_out_of_inodes() {
    let disk = Disk::formatted(Fs::Ext4, 16, "-N 16");
    disk.mount("/tmp/disk");
    let made = (0..16).take_while(|n| fs::create_dir(format!("/tmp/disk/{n}")).is_ok()).count();
    assert!((1..16).contains(&made), "{made}");
}

fn a_disk_turns_read_only() {
    for fs in Fs::REAL {
        let disk = Disk::new(fs, 16);
        disk.mount("/tmp/disk");
        disk.turn_read_only();
        run(&["mkdir", "/tmp/disk/new"]).expect(1).says(&["Read-only"]);
        assert!(disk.snapshot().line("new").is_none());
        disk.umount();
    }
}

fn a_disk_breaks() {
    for fs in [Fs::Ext4, Fs::Xfs] {
        let disk = Disk::new(fs, 16);
        disk.mount("/tmp/disk");
        disk.shut_down();
        run(&["mkdir", "/tmp/disk/new"]).expect(1).says(&["Input/output error"]);
        disk.umount();
        disk.mount("/tmp/disk");
        run(&["mkdir", "/tmp/disk/new"]).ok();
        disk.umount();
    }
}

fn a_call_is_missing() {
    let mkdir = ["mkdir", "/tmp/new"].map(Into::into);
    run_with(&[Injected::missing("mkdir"), Injected::missing("mkdirat")], &mkdir)
        .expect(1)
        .says(&["Function not implemented"]);
    run_with(&[], &mkdir).ok();
}

fn each_call_kills() {
    let mkdir = ["mkdir", "/tmp/new", "/tmp/other"].map(Into::into);
    let (output, calls) = calls_of(&mkdir);
    output.ok();
    let made: Vec<_> = calls.iter().filter(|call| call.name.is_any(&["mkdir", "mkdirat"])).collect();
    let [_, second] = made[..] else { panic!("{calls:?}") };

    sh("rmdir /tmp/new /tmp/other");
    assert_eq!(run_with(&[Injected::kill(second)], &mkdir).signal, Some(9));
    assert!(Path::new("/tmp/new").exists() && !Path::new("/tmp/other").exists());

    sh("rmdir /tmp/new");
    run_with(&[Injected::error(Errno::EDQUOT, second)], &mkdir).expect(1).says(&["/tmp/other", "quota"]);
    assert!(Path::new("/tmp/new").exists() && !Path::new("/tmp/other").exists());
}

fn watching_is_fast() {
    let start = Instant::now();
    let list = ["ls", "-l", "/dev", "/etc"].map(Into::into);
    let (output, calls) = calls_of(&list);
    output.ok();
    assert!(calls.len() > 100, "{}", calls.len());
    // Below 10 ms on an idle machine.
    assert!(start.elapsed() < Duration::from_secs(1), "{} calls took {:?}", calls.len(), start.elapsed());
}
