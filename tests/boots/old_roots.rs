//! Old roots over several boots: the shutdown saves the files of one root, the next boot restores them, and a later one
//! removes them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::Fs;

tests![of_a_root_in_memory, of_a_root_on_ext4, of_a_root_on_btrfs, of_a_root_on_xfs,];

/// Folder of the programs of the running system, in these boots.
const PROGRAMS: &str = "/run/boot/bin/";

fn boot(root: Value, fs: Fs) -> Boot {
    let manifest = json!({
        "version": 1,
        "root": root,
        "old_roots": { "boots": 1 },
        "stores": [{ "path": "/persist" }],
        "entries": [{ "directory": "/var/lib/app" }],
    });
    let boot = Boot::new(&manifest)
        .without("/")
        .store("LABEL=persist", "/persist", &format!("{fs:?}").to_lowercase(), "")
        .with_impctl();
    with_units(boot)
}

/// With the units for saving a root at shutdown and for removing old ones.
pub fn with_units(boot: Boot) -> Boot {
    let unit = |text: &str| text.replace("/usr/bin/", PROGRAMS);
    boot.in_etc(
        "systemd/system/imp-mount-save.service",
        &unit(include_str!("../../initrd/dracut/system/imp-mount-save.service")),
    )
    .in_etc("systemd/system/sysinit.target.d/save.conf", "[Unit]\nWants=imp-mount-save.service\n")
    .in_etc(
        "systemd/system/imp-mount-prune.service",
        &unit(include_str!("../../initrd/dracut/system/imp-mount-prune.service")),
    )
}

/// The record of a boot's end, on a store.
fn end(store: &Path, number: u32) -> Value {
    let text = fs::read(store.join(format!(".imp-mount/roots/{number}/end.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn of_a_root_in_memory() {
    three_boots(json!({}), Drive::new("persist", Fs::Ext4, 64));
}

fn of_a_root_on_ext4() {
    three_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Ext4, 64));
}

fn of_a_root_on_btrfs() {
    three_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Btrfs, 160));
}

fn of_a_root_on_xfs() {
    three_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Xfs, 320));
}

fn three_boots(root: Value, drive: Drive) {
    let boot = boot(root, drive.fs);
    let computer = Computer::with(On::Here, Suite::Stable, vec![drive]);
    let first = boot.clone().probe(
        r"
        well
        mkdir -p /var/lib/forgotten/deep /var/cache/disposable
        echo mine > /var/lib/forgotten/deep/letter
        chown 1000:100 /var/lib/forgotten/deep/letter
        chmod 640 /var/lib/forgotten/deep/letter
        echo again > /var/cache/disposable/file
        echo kept > /var/lib/app/file
        fails 'an end before the end' systemctl stop imp-mount-save.service
        ",
    );
    computer.boot(&first).passed();
    computer.drive("persist").is_clean().visit(|store| {
        let end = end(store, 1);
        assert_eq!(end["complete"], true, "{end}");
        let letter = store.join(".imp-mount/roots/1/root/var/lib/forgotten/deep/letter");
        assert_eq!(fs::read_to_string(letter).unwrap(), "mine\n");
        assert!(!store.join(".imp-mount/roots/1/root/var/lib/app/file").exists());
    });

    let second = boot.clone().probe(
        r#"
        well
        fails gone test -e /var/lib/forgotten
        impctl lost > /tmp/lost
        holds "lost names it" grep -F "impctl recover" /tmp/lost
        holds list impctl roots
        tell roots impctl roots
        holds recover impctl recover /var/lib/forgotten
        fact letter "mine 640 1000 100" "$(cat /var/lib/forgotten/deep/letter) $(stat --format '%a %u %g' /var/lib/forgotten/deep/letter)"
        fact kept kept "$(cat /var/lib/app/file)"
        "#,
    );
    computer.boot(&second).passed();

    let third = boot.probe(
        r#"
        well
        holds recover impctl recover /var/lib/forgotten --to /tmp
        holds prune systemctl start imp-mount-prune.service
        fact pruned no "$(test -e /persist/.imp-mount/roots/1 && echo yes || echo no)"
        fact newest yes "$(test -e /persist/.imp-mount/roots/2 && echo yes || echo no)"
        "#,
    );
    computer.boot(&third).passed();
    computer.drive("persist").is_clean().visit(|store| assert_eq!(end(store, 3)["complete"], true));
}
