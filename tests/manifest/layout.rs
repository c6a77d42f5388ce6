//! Default phases of entries, and entries that persist by their file system.

use imp_mount::manifest::{Phase, show, text};
use imp_mount::text::problem::Problem;

const LAYOUT: &str = r#"{ "filesystems": [
    { "path": "/", "fstype": "tmpfs", "in-initrd": true },
    { "path": "/persist", "fstype": "ext4", "in-initrd": true },
    { "path": "/var/log", "fstype": "ext4", "in-initrd": true },
    { "path": "/mnt/pool", "fstype": "fuse.mergerfs" },
    { "path": "/mnt/pool/fast", "fstype": "tmpfs", "in-initrd": true },
    { "path": "/scratch", "fstype": "tmpfs", "in-initrd": true }
], "etc-overlay": OVERLAY }"#;

fn json(entries: &str, layout: &str) -> String {
    format!(
        r#"{{ "version": 1, "stores": [{{ "path": "/persist" }}], "entries": [{entries}], "layout": {layout} }}"#
    )
}

/// The phase of an entry at a path, with further keys, on a system with an overlay on /etc.
fn phase(path: &str, keys: &str) -> Phase {
    let layout = LAYOUT.replace("OVERLAY", "true");
    text::parse(&json(&format!(r#"{{ "directory": "{path}"{keys} }}"#), &layout)).unwrap().entries[0].phase
}

#[test]
fn the_phase_follows_from_the_file_systems() {
    for (path, expected) in [
        ("/nix", Phase::Early),
        ("/nix/var", Phase::Boot),
        ("/nixos", Phase::Boot),
        ("/var/lib/plex", Phase::Boot),
        ("/scratch/kept", Phase::Boot),
        ("/mnt/poolside", Phase::Boot),
        ("/mnt/pool", Phase::Live),
        ("/mnt/pool/media", Phase::Live),
        ("/mnt/pool/fast/media", Phase::Live),
        ("/etc", Phase::Boot),
        ("/etc/ssh", Phase::Etc),
        ("/etcetera/ssh", Phase::Boot),
    ] {
        assert_eq!(phase(path, ""), expected, "{path}");
        assert_eq!(phase(path, r#", "phase": null"#), expected, "{path}");
        assert_eq!(phase(path, r#", "phase": "boot""#), Phase::Boot, "{path}");
    }
    let without = LAYOUT.replace("OVERLAY", "false");
    let manifest = text::parse(&json(r#"{ "directory": "/etc/ssh" }"#, &without)).unwrap();
    assert_eq!(manifest.entries[0].phase, Phase::Boot);
}

#[test]
fn without_a_layout_nothing_follows() {
    let manifest = text::parse(&json(r#"{ "directory": "/nix" }"#, "null")).unwrap();
    assert_eq!(manifest.entries[0].phase, Phase::Boot);
}

#[test]
fn entries_below_a_later_entry_come_no_earlier() {
    let entries = r#"{ "directory": "/srv/a/b/c" }, { "directory": "/srv/a", "phase": "live" }, { "directory": "/srv/ab" }, { "file": "/srv/a/b" }"#;
    let entries = entries.replace(r#""file""#, r#""directory""#);
    let manifest = text::parse(&json(&entries, "{}")).unwrap();
    let phases: Vec<_> = manifest.entries.iter().map(|it| (it.target.as_str(), it.phase)).collect();
    let live = Phase::Live;
    assert_eq!(
        phases,
        [("/srv/a", live), ("/srv/a/b", live), ("/srv/a/b/c", live), ("/srv/ab", Phase::Boot)]
    );
}

#[test]
fn shown_manifests_need_no_layout() {
    let entries = r#"{ "directory": "/nix" }, { "directory": "/nix/var", "phase": "live" }, { "directory": "/mnt/pool/a" }, { "file": "/etc/x" }"#;
    let manifest = text::parse(&json(entries, &LAYOUT.replace("OVERLAY", "true"))).unwrap();
    assert_eq!(text::parse(&show::show(&manifest)), Ok(manifest));
}

#[test]
fn entries_on_late_disks_are_not_required_by_default() {
    let entries = r#"{ "directory": "/mnt/pool/media" }, { "directory": "/mnt/pool/must", "required": true },
        { "directory": "/mnt/pool/boot", "phase": "boot" }, { "directory": "/scratch/x" }, { "directory": "/var/log/journal" },
        { "directory": "/srv/live", "phase": "live" }, { "directory": "/srv/may", "required": false }"#;
    let manifest = text::parse(&json(entries, &LAYOUT.replace("OVERLAY", "false"))).unwrap();
    let optional = manifest.entries.iter().filter(|it| !it.required).map(|it| it.target.as_str());
    assert_eq!(optional.collect::<Vec<_>>(), ["/mnt/pool/media", "/srv/may"]);
}

#[test]
fn entries_on_disks_of_their_own_are_noted() {
    let entries = r#"{ "directory": "/var/log/journal", "from": "log.nix" }, { "directory": "/mnt/pool/media" },
        { "directory": "/mnt/pool/fast/x" }, { "directory": "/scratch/x" }, { "directory": "/var/lib/plex" }, { "directory": "/var/log" }"#;
    let (_, notes) = text::parse_with_notes(&json(entries, &LAYOUT.replace("OVERLAY", "false"))).unwrap();
    let notes: Vec<_> = notes.iter().map(Problem::to_string).collect();
    let note = |place: &str, on: &str| {
        format!(
            "{place}: it persists already, as it lies on {on}; leave it out, unless it is to be on the store"
        )
    };
    let log = "/var/log, a file system of its own (ext4)";
    assert_eq!(
        notes,
        [
            note("entries[1] /mnt/pool/media", "/mnt/pool, a file system of its own (fuse.mergerfs)"),
            note("entries[5] /var/log", log),
            note("entries[0] /var/log/journal (from log.nix)", log),
        ]
    );
}
