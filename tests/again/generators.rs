//! Entries printed by impctl.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::documents::{try_manifest, with};
use crate::ctl_lost::put;
use crate::live::started;
use crate::support::{Machine, run};

/// A system with many unsaved files, below a folder. Existing files stay; links are replaced by files, as programs do.
fn system(root: &Path) {
    let write = |path: &str| {
        let place = root.join(path.trim_start_matches('/'));
        match fs::symlink_metadata(&place) {
            Ok(there) if !there.is_symlink() => return,
            Ok(_) => fs::remove_file(&place).unwrap(),
            Err(_) => {}
        }
        put(root, path, "x");
    };
    for number in 0..120 {
        for folder in ["etc", "srv", "opt"] {
            write(&format!("/{folder}/{number}"));
        }
    }
    for path in [
        "/etc/NetworkManager/system-connections/x",
        "/etc/ssh/ssh_host_key",
        "/etc/.hidden",
        "/srv/directory/x",
        "/var/lib/plex/x",
        "/var/lib/a*b/x",
        "/home/ada/notes",
        "/root/x",
        "/top",
    ] {
        write(path);
    }
    if fs::symlink_metadata(root.join("etc/link")).is_err() {
        symlink("nowhere", root.join("etc/link")).unwrap();
    }
}

/// The entries printed by `impctl lost` persist every lost path of a system.
pub fn the_entries_that_lost_prints() {
    let root = Path::new("/tmp/root");
    system(root);
    let program = env!("CARGO_BIN_EXE_impctl");
    let lost = run(&[program, "lost", "--json", "--root", "/tmp/root"]).expect(1);
    let lost: Value = serde_json::from_str(&lost.stdout).unwrap();
    let entries: Vec<_> = lost["lost"].as_array().unwrap().iter().map(|it| it["entry"].clone()).collect();
    let entries: Vec<_> = entries.into_iter().filter(|entry| !entry.is_null()).collect();
    assert!(entries.contains(&json!({ "file": "/srv/*" })), "{entries:#?}");
    assert!(!entries.contains(&json!({ "file": "/etc/*" })), "{entries:#?}");
    // Patterns by hand or from an earlier version.
    let patterns = ["/etc/*", "/srv/*", "/opt/*", "/*", "/etc/.*"].map(|it| json!({ "file": it }));
    for entries in [entries.clone(), [&entries[..], &patterns[..]].concat()] {
        let mut seen = Vec::new();
        let entries: Vec<_> = entries
            .into_iter()
            .filter(|it| {
                !seen.contains(it) && {
                    seen.push(it.clone());
                    true
                }
            })
            .collect();
        let bring = |machine: &Machine| {
            // Entries in place are written to; the rest is copied at the shutdown.
            system(&machine.at(""));
            machine.run_live(&["--adopt"]).ok();
        };
        try_manifest(&with(json!(entries)), &bring).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// An adopted path is named by the entry printed by `impctl adopt`, and found again by this entry.
pub fn the_entry_that_adopt_prints() {
    let machine = started(json!([{ "file": "/etc/*" }, { "directory": "/srv" }]));
    let mut entries = vec![json!({ "file": "/etc/*" }), json!({ "directory": "/srv" })];
    for (path, file) in [("/etc/NetworkManager", "x.conf"), ("/var/lib/a*b", "x"), ("/opt/file", "")] {
        let place = machine.at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if file.is_empty() {
            fs::write(&place, "x").unwrap();
        } else {
            put(&place, file, "x");
        }
        let output = machine.impctl("adopt", &["--json", path]).ok();
        let json: Value = serde_json::from_str(&output.stdout).unwrap();
        entries.push(json["adopted"][0]["entry"].clone());
    }
    assert!(entries.iter().all(Value::is_object), "{entries:#?}");
    machine.power_off();
    try_manifest(&with(json!(entries)), &|_| ()).unwrap_or_else(|why| panic!("{why}"));
}
