//! A failure ends in a shell with an explanation, and nothing is lost.

pub mod entries;
pub mod manifests;
pub mod power;
pub mod shell;
pub mod stores;

use std::path::Path;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::Computer;
use crate::console::Console;
use crate::support::Snapshot;

/// Last line of a failed run.
pub const LAST: &str = "nothing was mounted; run `imp-mount --check` for the state and the next steps";

/// These entries, on one store.
fn manifest(entries: &Value) -> Value {
    json!({ "version": 1, "stores": [{ "path": "/persist" }], "entries": entries })
}

/// Boots into the initrd's emergency shell, with an explanation; the files on the store stay unchanged.
#[track_caller]
fn stops(computer: &Computer, boot: &Boot, unit: &str, lines: &[&str]) -> Console {
    unharmed(computer, || explains(computer.boot(boot).emergency(), unit, lines))
}

/// In the emergency shell the unit has failed, its last line names `--check`, and `--check` prints these lines.
#[track_caller]
fn explains(console: Console, unit: &str, lines: &[&str]) -> Console {
    let failed = format!("FAILED UNIT {unit} ");
    assert!(console.text.contains(&failed), "{unit} has not failed\n{console:?}");
    assert_eq!(console.lines("JOURNAL ").last(), Some(LAST), "{console:?}");
    for line in lines {
        assert!(
            console.lines("CHECK ").any(|one| one == *line),
            "--check does not say {line:?}\n{console:?}"
        );
    }
    console
}

/// The content of the store is the same before and after.
#[track_caller]
fn unharmed<T>(computer: &Computer, boot: impl FnOnce() -> T) -> T {
    let store = computer.drive("persist");
    let before = store.visit(Snapshot::of);
    let result = boot();
    assert_eq!(before.losses(&store.visit(Snapshot::of)), [""; 0]);
    result
}

/// Writes a file and its parent folders.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
