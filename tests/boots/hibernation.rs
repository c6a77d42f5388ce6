//! Hibernation: no mount before the attempt to resume, and a hibernating system does not end its boot.

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On};
use crate::old_roots::with_units;

tests![with_a_root_in_memory, with_a_root_on_the_store];

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

fn hibernate(root: Value) {
    let manifest = json!({
        "version": 1,
        "root": root,
        "old_roots": {},
        // Mounted by imp-mount itself: no mount unit of systemd orders the store.
        "stores": [{ "path": "/persist", "device": "LABEL=persist" }],
        "entries": [{ "directory": "/var/lib/app" }],
    });
    let boot = |earlier: u32| {
        with_units(Boot::new(&manifest).without("/").without("/persist").with_impctl())
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
