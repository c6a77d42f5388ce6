//! The line that keeps a path: for the configuration of NixOS, and for a manifest in JSON.

use serde_json::{Map, Value};

use super::system::Names;
use crate::manifest::{AbsPath, Kind, Store, mode, pattern};
use crate::sys::walk::Stat;
use crate::text::escape;

/// Ids of systemd's dynamic users, which are other ones at the next start.
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The owner and mode of a path.
#[derive(Debug)]
pub struct Owner<'a> {
    /// The user's id and name.
    pub user: (u32, &'a str),
    /// The group's id and name.
    pub group: (u32, &'a str),
    /// The mode.
    pub mode: u16,
}

/// The entry of a manifest that keeps a directory or file with the owner and mode that it has now.
#[must_use]
pub fn entry(target: &AbsPath, stat: &Stat, names: &Names) -> Map<String, Value> {
    let mut entry = Map::new();
    let usual = if stat.is_dir() {
        entry.insert("directory".to_owned(), target.as_str().into());
        0o755
    } else {
        entry.insert("file".to_owned(), pattern::write(target, Kind::File).into());
        0o644
    };
    let (user, group) = (names.user(stat.uid()), names.group(stat.gid()));
    let owner = Owner { user: (stat.uid(), &user), group: (stat.gid(), &group), mode: stat.mode() };
    own(&mut entry, &owner, usual);
    entry
}

/// Adds an owner to an entry where it is not root, and a mode where it is not the usual one.
pub fn own(entry: &mut Map<String, Value>, owner: &Owner<'_>, usual: u16) {
    for (key, (id, name)) in [("user", owner.user), ("group", owner.group)] {
        if id != 0 && !DYNAMIC.contains(&id) {
            entry.insert(key.to_owned(), name.into());
        }
    }
    if owner.mode != usual {
        entry.insert("mode".to_owned(), mode::show(owner.mode).into());
    }
}

/// The line of a NixOS configuration for such an entry.
#[must_use]
pub fn nix(entry: &Map<String, Value>, store: &Store) -> String {
    let (list, key) =
        if entry.contains_key("directory") { ("directories", "directory") } else { ("files", "file") };
    let (store, item) = (escape::nix(store.path.as_str()), item(entry, key));
    format!("environment.persistence.{store}.{list} = [ {item} ];")
}

/// An entry as an element of a list in a NixOS configuration; `key` is the one that names its path.
#[must_use]
pub fn item(entry: &Map<String, Value>, key: &str) -> String {
    let value = |value: &Value| escape::nix(value.as_str().unwrap_or_default());
    if entry.len() == 1 {
        return value(&entry[key]);
    }
    let said = |key: &str| entry.get(key).map(|it| format!("{key} = {};", value(it)));
    let keys = [key, "user", "group", "mode", "method"];
    format!("{{ {} }}", keys.into_iter().filter_map(said).collect::<Vec<_>>().join(" "))
}
