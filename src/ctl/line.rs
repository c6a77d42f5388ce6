//! The line that keeps a path: for the configuration of NixOS, and for a manifest in JSON.

use serde_json::{Map, Value};

use super::lost::nix;
use super::system::Names;
use crate::manifest::{AbsPath, Kind, Store, mode, pattern};
use crate::sys::walk::Stat;
use crate::text::escape;

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
    for (key, id, name) in
        [("user", stat.uid(), names.user(stat.uid())), ("group", stat.gid(), names.group(stat.gid()))]
    {
        if id != 0 && !nix::DYNAMIC.contains(&id) {
            entry.insert(key.to_owned(), name.into());
        }
    }
    if stat.mode() != usual {
        entry.insert("mode".to_owned(), mode::show(stat.mode()).into());
    }
    entry
}

/// The line of a NixOS configuration for such an entry.
#[must_use]
pub fn nix(entry: &Map<String, Value>, store: &Store) -> String {
    let (list, key) =
        if entry.contains_key("directory") { ("directories", "directory") } else { ("files", "file") };
    let (store, item) = (escape::nix(store.path.as_str()), nix::line(entry, key));
    format!("environment.persistence.{store}.{list} = [ {item} ];")
}
