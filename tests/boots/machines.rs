//! The first and the second boot on every kind of machine: entries persist, other files do not.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::Fs;

tests![
    two_boots_here,
    two_boots_with_the_systemd_of_testing,
    two_boots_of_a_new_kernel,
    two_boots_of_an_old_kernel,
    two_boots_of_virtual_hardware,
];

fn two_boots_here() {
    two_boots(On::Here, Suite::Stable);
}

fn two_boots_with_the_systemd_of_testing() {
    two_boots(On::Here, Suite::Testing);
}

fn two_boots_of_a_new_kernel() {
    two_boots(On::Uml, Suite::Testing);
}

fn two_boots_of_an_old_kernel() {
    two_boots(On::OldUml, Suite::Stable);
}

fn two_boots_of_virtual_hardware() {
    two_boots(On::Qemu, Suite::Stable);
}

/// A directory of a user and the machine's id.
pub fn manifest() -> Value {
    json!({
        "version": 1,
        "stores": [{ "path": "/persist" }],
        "entries": [
            { "directory": "/var/lib/demo", "user": "alice", "group": 100, "mode": "0750" },
            { "file": "/etc/machine-id", "missing": "machine-id" },
        ],
        "ids": { "users": { "alice": 1000 } },
    })
}

fn two_boots(on: On, suite: Suite) {
    let computer = Computer::with(on, suite, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let both = Boot::new(&manifest()).probe(
        r#"
        fact root tmpfs "$(findmnt --noheadings --output FSTYPE /)"
        fact owner "750 1000 100" "$(stat --format '%a %u %g' /var/lib/demo)"
        fact source /var/lib/demo "$(findmnt --noheadings --output FSROOT /var/lib/demo)"
        fact "state $(systemctl --failed --no-legend --plain)" running "$state"
        holds check imp-mount --check
        tell machine-id cat /etc/machine-id
        "#,
    );
    let mut first = both.clone().probe(
        r#"
        fact empty "" "$(ls -A /var/lib/demo)"
        echo kept > /var/lib/demo/file
        echo lost > /var/lib/file
        "#,
    );
    let mut words = vec!["Detected first boot."];
    if on == On::Qemu {
        // The only machine with a firmware; it ends at the reboot.
        first = first.reboot();
        words.push("reboot: Restarting system");
    }
    let first = computer.boot(&first).passed().says(&words);
    computer.drive("persist").is_clean().visit(|store| {
        assert_eq!(fs::read_to_string(store.join("var/lib/demo/file")).unwrap(), "kept\n");
        let folder = fs::metadata(store.join("var/lib/demo")).unwrap();
        assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (1000, 100, 0o750));
        assert!(!store.join("var/lib/file").exists());
    });

    let second = computer
        .boot(&both.probe(
            r#"
            fact kept kept "$(cat /var/lib/demo/file)"
            fails lost test -e /var/lib/file
            "#,
        ))
        .passed();
    assert!(!second.text.contains("Detected first boot."), "{second:?}");
    assert_eq!(first.told("machine-id"), second.told("machine-id"));
    assert_eq!(second.told("machine-id")[0].len(), 32);
}
