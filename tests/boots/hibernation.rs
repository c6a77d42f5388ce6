//! Hibernation: no mount before the attempt to resume, a hibernating system does not end its boot, and a resumed one goes on with its root.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::old_roots::with_units;
use crate::support::command::sh_on;
use crate::support::{Fs, scratch};

tests![
    with_a_root_in_memory,
    with_a_root_on_the_store,
    resumed_with_a_root_in_memory,
    resumed_with_a_root_on_the_store,
];

/// systemd-hibernate-resume.service(8), with its order. There is no image, so the boot goes on.
const RESUME: &str = "[Unit]
DefaultDependencies=no
Wants=local-fs-pre.target
Before=local-fs-pre.target
[Service]
Type=oneshot
ExecStart=bash /etc/resume
";

/// Sleeps long enough for units without an order after the resume.
const LOOK: &str = "
sleep 2
if [[ -e /run/imp-mount ]] || grep -q ' /sysroot' /proc/self/mountinfo; then
    grep ' /sysroot' /proc/self/mountinfo > /run/at-resume
    echo mounted >> /run/at-resume
else
    echo nothing > /run/at-resume
fi
";

/// The machine does not sleep.
const HIBERNATE: &str = "[Service]\nExecStart=\nExecStart=/bin/true\n";

fn with_a_root_in_memory() {
    hibernate(json!({}));
}

fn with_a_root_on_the_store() {
    hibernate(json!({ "on": "/persist" }));
}

fn resumed_with_a_root_in_memory() {
    resume(json!({}), "tmpfs");
}

fn resumed_with_a_root_on_the_store() {
    resume(json!({ "on": "/persist" }), "ext4");
}

/// A system whose store is mounted by imp-mount itself: no mount unit of systemd orders the store.
fn system(root: Value) -> Boot {
    let manifest = json!({
        "version": 1,
        "root": root,
        "old_roots": {},
        "stores": [{ "path": "/persist", "device": "LABEL=persist" }],
        "entries": [{ "directory": "/var/lib/app" }],
    });
    with_units(Boot::new(&manifest).without("/").without("/persist").with_impctl())
}

fn hibernate(root: Value) {
    let system = system(root);
    let boot = |earlier: u32| {
        system
            .clone()
            .in_initrd("etc/systemd/system/systemd-hibernate-resume.service", RESUME)
            .in_initrd("etc/resume", LOOK)
            .in_initrd(
                "etc/systemd/system/sysinit.target.d/resume.conf",
                "[Unit]\nWants=systemd-hibernate-resume.service\n",
            )
            .in_etc("systemd/system/systemd-hibernate.service.d/none.conf", HIBERNATE)
            .probe(&format!("earlier={earlier}\n"))
            .probe(
                r#"
            well
            fact "mounted before a resume" nothing "$(cat /run/at-resume)"
            ended() { ls -d /persist/.imp-mount/roots/*/end.json | wc -l; }
            fact "ended before" "$earlier" "$(ended)"
            id=$(cat /proc/sys/kernel/random/boot_id)
            holds hibernate systemctl start hibernate.target
            fact "boot id" "$id" "$(cat /proc/sys/kernel/random/boot_id)"
            fact "ended by it" "$earlier" "$(ended)"
            fact "to be saved" active "$(systemctl is-active imp-mount-save.service)"
            "#,
            )
    };
    let computer = Computer::new(On::Here);
    for earlier in 0..2 {
        computer.boot(&boot(earlier)).passed();
    }
}

/// systemd's own programs and units for the resume, in the initrd; the delay gives time to units without an order after the resume, and
/// mounts made by then are printed.
fn with_resume(mut boot: Boot) -> Boot {
    let place = Computer::part(Suite::Stable, "root/nix/store/system");
    for name in [
        "systemd-hibernate-resume",
        "system-generators/systemd-hibernate-resume-generator",
        "system/systemd-hibernate-resume.service",
    ] {
        let path = format!("usr/lib/systemd/{name}");
        boot = boot.in_initrd(&path, fs::read(place.join(&path)).unwrap());
    }
    let late = "etc/systemd/system/systemd-hibernate-resume.service.d/late.conf";
    let boot = boot.in_initrd("etc/systemd/system/systemd-fsck@.service", FSCK);
    boot.in_initrd(late, "[Service]\nExecStartPre=/bin/sleep 15\nExecStartPre=bash /etc/look\n")
        .in_initrd(
            "etc/look",
            format!("{LOOK}sed 's/^/BEFORE THE RESUME: /' /run/at-resume > /dev/console\n"),
        )
        .cmdline("resume=LABEL=swap")
}

/// A disk for the image of the system.
fn swap() -> Drive {
    let image = scratch().join("swap.img");
    File::create_new(&image).unwrap().set_len(1 << 30).unwrap();
    sh_on("mkswap -q -L swap", &[&image]);
    Drive { label: "swap".into(), image, fs: Fs::Folder }
}

/// Without the order of the real one, which would hold the mount of the store back, too.
const FSCK: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n";

/// Virtual hardware sleeps, and wakes up with the running system.
fn resume(root: Value, fstype: &str) {
    let boot = with_resume(system(root)).probe(&format!("fstype={fstype}\n")).probe(
        r#"
        well
        mkdir /srv/here
        echo before > /srv/here/file
        echo before > /var/lib/app/before
        exec 5< /srv/here/file
        sleep infinity &
        id=$(cat /proc/sys/kernel/random/boot_id)
        holds swap swapon /dev/disk/by-label/swap
        echo "PROBE sleeps"
        holds hibernate systemctl start hibernate.target
        echo "PROBE wakes up"
        fact "boot id" "$id" "$(cat /proc/sys/kernel/random/boot_id)"
        holds program kill $!
        fact root "$fstype" "$(findmnt --noheadings --output FSTYPE /)"
        fact "open file" before "$(cat <&5)"
        fact "file on the root" before "$(cat /srv/here/file)"
        echo after > /srv/here/later
        echo after > /var/lib/app/after
        holds "check again" imp-mount --check
        fact "ended by it" 0 "$(ls -d /persist/.imp-mount/roots/*/end.json 2> /dev/null | wc -l)"
        fact "to be saved" active "$(systemctl is-active imp-mount-save.service)"
        "#,
    );
    let drives = vec![Drive::new("persist", Fs::Ext4, 64), swap()];
    let computer = Computer::with(On::Qemu, Suite::Stable, drives);
    let nothing = "BEFORE THE RESUME: nothing";
    let asleep = computer.boot(&boot).ended().says(&[nothing, "PROBE sleeps"]);
    asleep.lacks(&["PROBE FAILED", "PROBE wakes up"]);
    let awake = computer.boot(&boot).passed().says(&[nothing, "PROBE wakes up"]);
    // The initrd did not start the system.
    awake.lacks(&["running activation script", "PROBE sleeps"]);
    computer.drive("persist").is_clean().visit(|store| {
        let read = |path: &str| fs::read_to_string(store.join(path)).unwrap();
        assert_eq!([read("var/lib/app/before"), read("var/lib/app/after")], ["before\n", "after\n"]);
        let roots = store.join(".imp-mount/roots");
        let names: Vec<_> = fs::read_dir(&roots).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "one root, and CACHEDIR.TAG: {names:?}");
        let end: Value = serde_json::from_str(&read(".imp-mount/roots/1/end.json")).unwrap();
        assert_eq!(end["complete"], true);
        assert_eq!(read(".imp-mount/roots/1/root/srv/here/later"), "after\n");
    });
}
