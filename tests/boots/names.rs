//! Owners by name: users created by the boot only after all mounts.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On};
use crate::support::Snapshot;

tests![names_that_wait_for_their_users, names_that_a_run_of_the_live_phase_finds, names_that_the_store_knows];

/// Files before the running system makes its users.
const LOOK: &str = r#"[Unit]
DefaultDependencies=no
Before=systemd-sysusers.service
[Service]
Type=oneshot
ExecStart=/bin/bash -c "stat --format '%%n %%a %%u:%%g' /var/lib/media /var/lib/media/cache > /run/before"
"#;

/// A service of such a user, which is not in the system's own files.
const SERVICE: &str = "[Service]
Type=oneshot
User=media
ExecStart=/bin/bash -c 'id --user >> /var/lib/media/cache/ran'
";

/// The user is made by systemd-sysusers, and the service started by everybody.
fn with_media(boot: Boot, group: u32) -> Boot {
    let wants = |unit| format!("[Unit]\nWants={unit}\n");
    boot.in_etc("sysusers.d/media.conf", &format!("g media {group}\nu media 777:{group}\n"))
        .in_etc("systemd/system/look.service", LOOK)
        .in_etc("systemd/system/sysinit.target.d/look.conf", &wants("look.service"))
        .in_etc("systemd/system/media.service", SERVICE)
        .in_etc("systemd/system/multi-user.target.d/media.conf", &wants("media.service"))
}

fn names_that_wait_for_their_users() {
    waiting(&[], "imp-mount-settle");
}

/// The live run may come after the users, and then sets the owners before the service for pending owners.
fn names_that_a_run_of_the_live_phase_finds() {
    waiting(&[json!({ "directory": "/srv/late", "phase": "live" })], "imp-mount*");
}

/// Owners are given by one of these units.
fn waiting(more: &[Value], units: &str) {
    let computer = Computer::new(On::Here);
    let owned = |path: &str| json!({ "directory": path, "user": "media", "group": "media", "mode": "0750" });
    let entries = [&[owned("/var/lib/media"), owned("/var/lib/media/cache")], more].concat();
    let manifest = json!({
        "version": 1,
        "stores": [{ "path": "/persist" }],
        "entries": entries,
    });
    let both = with_media(Boot::new(&manifest), 778).probe(
        r#"
        well
        fact user "media:x:777:778" "$(grep ^media: /etc/passwd | cut -d: -f1-4)"
        fact "what the service saw" "750 777:778 750 777:778" \
            "$(stat --format '%a %u:%g' /var/lib/media /var/lib/media/cache | xargs)"
        fails "anything pending" grep -i pending <(imp-mount --check)
        "#,
    );
    let look = |ran| {
        computer.drive("persist").is_clean().visit(|store| {
            assert_eq!(fs::read_to_string(store.join("var/lib/media/cache/ran")).unwrap(), ran);
            // Neither is marked as waiting any more.
            let found = Snapshot::of(store);
            for path in ["var/lib/media", "var/lib/media/cache"] {
                assert_eq!(found.line(path), Some("040750 777:778"));
            }
        });
    };
    computer
        .boot(&both.clone().probe(&format!(
            r#"
            fact before "/var/lib/media 700 0:0 /var/lib/media/cache 700 0:0" "$(xargs < /run/before)"
            fact "given to it" 2 \
                "$(journalctl --boot --output cat --unit '{units}' | grep --count ': given to media:media')"
            "#
        )))
        .passed();
    look("777\n");
    computer
        .boot(&both.probe(
            r#"
            fact before "/var/lib/media 750 777:778 /var/lib/media/cache 750 777:778" "$(xargs < /run/before)"
            fails "settled again" grep "given to" <(journalctl --boot --output cat --identifier imp-mount)
            "#,
        ))
        .passed();
    look("777\n777\n");
}

fn names_that_the_store_knows() {
    let computer = Computer::new(On::Here);
    // As written by NixOS's update-users-groups.pl, with a removed user.
    computer.drive("persist").visit(|store| {
        let folder = store.join("var/lib/nixos");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("uid-map"), r#"{"gone":776,"media":777}"#).unwrap();
        fs::write(folder.join("gid-map"), r#"{"media":779}"#).unwrap();
    });
    let manifest = json!({
        "version": 1,
        "stores": [{ "path": "/persist" }],
        "entries": [
            { "directory": "/var/lib/nixos" },
            { "directory": "/var/lib/media", "user": "media", "group": "media", "mode": "0750" },
            { "directory": "/var/lib/media/cache", "user": "gone", "group": "media", "mode": "0770" },
        ],
    });
    let both = with_media(Boot::new(&manifest), 779).probe(
        r#"
        well
        fact before "/var/lib/media 750 777:779 /var/lib/media/cache 770 776:779" "$(xargs < /run/before)"
        fact map '{"gone":776,"media":777}' "$(cat /var/lib/nixos/uid-map)"
        "#,
    );
    for ran in ["777\n", "777\n777\n"] {
        computer.boot(&both).passed();
        computer.drive("persist").is_clean().visit(|store| {
            assert_eq!(fs::read_to_string(store.join("var/lib/media/cache/ran")).unwrap(), ran);
            let folder = fs::metadata(store.join("var/lib/media/cache")).unwrap();
            assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (776, 779, 0o770));
        });
    }
}
