//! Old roots over several boots: the shutdown saves the files of one root, the next boot restores them, and a later one
//! removes them.

use std::cell::Cell;
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
    four_boots(json!({}), Drive::new("persist", Fs::Ext4, 64));
}

fn of_a_root_on_ext4() {
    four_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Ext4, 64));
}

fn of_a_root_on_btrfs() {
    four_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Btrfs, 160));
}

fn of_a_root_on_xfs() {
    four_boots(json!({ "on": "/persist" }), Drive::new("persist", Fs::Xfs, 320));
}

/// Each root is empty; what the second boot loses is recovered in the third, and removed in the fourth.
fn four_boots(root: Value, drive: Drive) {
    let boot = boot(root, drive.fs);
    let computer = Computer::with(On::Here, Suite::Stable, vec![drive]);
    let number = Cell::new(0);
    let boot = |probe: &str| {
        number.set(number.get() + 1);
        let each = format!(
            r#"
            well
            fact empty "" "$(ls -d /var/lib/forgotten /var/cache/disposable /srv/of-* 2> /dev/null)"
            mkdir -p /srv
            touch /srv/of-{}
            "#,
            number.get()
        );
        computer.boot(&boot.clone().probe(&each).probe(probe)).passed();
        let is_complete = |store: &Path| assert_eq!(end(store, number.get())["complete"], true);
        computer.drive("persist").is_clean().visit(is_complete);
    };
    boot("echo kept > /var/lib/app/file");
    boot(
        r"
        mkdir -p /var/lib/forgotten/deep /var/cache/disposable
        echo mine > /var/lib/forgotten/deep/letter
        chown 1000:100 /var/lib/forgotten/deep/letter
        chmod 640 /var/lib/forgotten/deep/letter
        echo again > /var/cache/disposable/file
        fails 'an end before the end' systemctl stop imp-mount-save.service
        ",
    );
    computer.drive("persist").visit(|store| {
        let letter = store.join(".imp-mount/roots/2/root/var/lib/forgotten/deep/letter");
        assert_eq!(fs::read_to_string(letter).unwrap(), "mine\n");
        assert!(!store.join(".imp-mount/roots/2/root/var/lib/app/file").exists());
    });
    boot(
        r#"
        impctl lost > /tmp/lost
        holds "lost names it" grep -F "impctl recover" /tmp/lost
        holds list impctl roots
        tell roots impctl roots
        holds recover impctl recover /var/lib/forgotten
        fact letter "mine 640 1000 100" "$(cat /var/lib/forgotten/deep/letter) $(stat --format '%a %u %g' /var/lib/forgotten/deep/letter)"
        fact kept kept "$(cat /var/lib/app/file)"
        "#,
    );
    boot(
        r#"
        holds "recover again" impctl recover /var/lib/forgotten --to /tmp
        fact earlier "1 2 3" "$(cd /persist/.imp-mount/roots && echo [123])"
        holds prune systemctl start imp-mount-prune.service
        fact newest 3 "$(cd /persist/.imp-mount/roots && echo [123])"
        fact "all of it" "" "$(ls -d /persist/.imp-mount/roots/removed-* 2> /dev/null)"
        holds "of the newest" impctl recover /srv/of-3 --to /tmp
        "#,
    );
}
