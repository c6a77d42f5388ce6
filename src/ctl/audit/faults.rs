//! Settings that cannot work.

use std::collections::BTreeMap;

use serde::Serialize;

use super::kept::{Kept, above};
use crate::ctl::built::Built;
use crate::manifest::{AbsPath, Kind, Manifest, Phase};

/// The file with users.
const PASSWD: &str = "/etc/passwd";

/// A setting that cannot work.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fault {
    /// The path.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub at: String,
    /// The problem.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub what: String,
    /// The remedy.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub remedy: String,
}

/// Settings that cannot work; `links` are those made by systemd to directories of units.
#[must_use]
pub fn faults(
    built: &Built,
    manifest: Option<&Manifest>,
    kept: &Kept<'_>,
    links: &BTreeMap<String, String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut say = |at: &str, what: &str, remedy: String| {
        faults.push(Fault { at: at.to_owned(), what: what.to_owned(), remedy });
    };
    let store = manifest.and_then(|it| it.stores.first()).map_or("/persist", |it| it.path.as_str());
    let is_emptied = kept.root_is_emptied(built);
    for swap in built.swaps.iter().filter(|path| path.starts_with('/') && !path.starts_with("/dev/")) {
        if is_emptied && !kept.keeps(swap, true) {
            let what = "the swap file would lie in memory, where it fills the root and cannot be used";
            say(swap, what, format!("put it on a store: {store}{swap}"));
        }
    }
    // An overlay has the generations in its lower directories.
    let is_overlay = kept.filesystems.get("/nix/store").is_some_and(|(_, fstype)| *fstype == "overlay");
    if is_emptied && built.nixos && !is_overlay && !kept.keeps("/nix/store", false) {
        let what = "the Nix store would be on the root, and gone at the next boot with every generation";
        say("/nix", what, "give it a file system of its own, or let it persist".to_owned());
    }
    if is_emptied && !built.nixos {
        let has_users = built.present.iter().any(|it| it == PASSWD) && !kept.keeps(PASSWD, true);
        for (path, what, line, is_here) in [
            ("/usr", "programs", r#"{"directory":"/usr","options":["suid"]}"#, true),
            ("/etc", "configuration and users", r#"{"directory":"/etc"}"#, has_users),
        ] {
            if is_here && !kept.keeps(path, false) {
                let what = format!("the {what} would be on the root, and gone at the next boot");
                say(path, &what, format!("let it persist: {line}"));
            }
        }
    }
    let Some(manifest) = manifest else { return faults };
    let converts =
        |path: &AbsPath| manifest.root.as_ref().is_some_and(|it| it.convert.as_ref() == Some(path));
    for store in manifest.stores.iter().filter(|it| it.device.is_none() && !converts(&it.path)) {
        let path = store.path.as_str();
        let is_mounted = |at: &str| kept.filesystems.contains_key(at);
        if is_emptied && !std::iter::once(path).chain(above(path)).any(is_mounted) {
            let what = "no file system is mounted where the store is, so it would be on the root";
            say(path, what, "mount its disk there, or give the store a device".to_owned());
        }
    }
    for entry in &manifest.entries {
        let path = entry.target.as_str();
        if entry.kind == Kind::Directory && entry.phase == Phase::Etc {
            let below = format!("{path}/");
            let is_named =
                |name: &&String| manifest.entries.iter().any(|it| it.target.as_str() == name.as_str());
            let hidden: Vec<_> = built
                .etc
                .iter()
                .filter(|name| name.starts_with(&below) && !name.ends_with("/.imp-mount"))
                .filter(|name| !is_named(name))
                .collect();
            if let Some(first) = hidden.first() {
                let more =
                    if hidden.len() > 1 { format!(" and {} more", hidden.len() - 1) } else { String::new() };
                let what = format!("mounted over the overlay on /etc, it hides {first}{more}");
                say(path, &what, "name the files in it that persist one by one".to_owned());
            }
        }
        if let Some(to) = links.get(path).filter(|_| entry.kind == Kind::Directory) {
            let what = "systemd makes a link there, and its unit does not start where a directory is";
            say(path, what, format!("name {to} in its place"));
        }
        let source = entry.source.as_ref().unwrap_or(&entry.target);
        let source = manifest.store(entry).path.join(source);
        if kept.filesystems.get(path).is_some_and(|(what, _)| *what == source.as_str()) {
            let what = "fstab mounts the same from the store once more";
            say(path, what, "take it out of the file systems".to_owned());
        }
    }
    faults
}
