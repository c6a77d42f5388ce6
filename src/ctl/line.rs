//! The line that keeps a path: for the configuration of NixOS, and for a manifest in JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::manifest::{AbsPath, Kind, mode, pattern};
use crate::names::{Table, passwd};
use crate::walk::Stat;

/// Names for ids, as the running system has them. Somebody without a name keeps the number.
#[derive(Debug, Default)]
pub struct Owners {
    users: Table,
    groups: Table,
}

impl Owners {
    /// Reads /etc/passwd and /etc/group; without them, owners are numbers.
    #[must_use]
    pub fn read() -> Self {
        let table = |path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            passwd::parse(&bytes).unwrap_or_default()
        };
        Self { users: table("/etc/passwd"), groups: table("/etc/group") }
    }

    fn name(table: &Table, id: u32) -> String {
        if id == 0 {
            return "root".to_owned();
        }
        let found = table.iter().find(|(_, known)| **known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }
}

/// What a configuration says to keep a path as it is now.
#[derive(Debug)]
pub struct Line {
    target: AbsPath,
    store: AbsPath,
    kind: Kind,
    user: String,
    group: String,
    mode: u16,
    /// Whether the manifest must say which store.
    several: bool,
}

impl Line {
    /// For a directory, or a file.
    #[must_use]
    pub fn new(target: &AbsPath, stat: &Stat, store: &AbsPath, several: bool, owners: &Owners) -> Self {
        Self {
            target: target.clone(),
            store: store.clone(),
            kind: if stat.is_dir() { Kind::Directory } else { Kind::File },
            user: Owners::name(&owners.users, stat.uid()),
            group: Owners::name(&owners.groups, stat.gid()),
            mode: stat.mode(),
            several,
        }
    }

    /// The entry of a manifest.
    #[must_use]
    pub fn entry(&self) -> Value {
        let mut entry = if self.kind == Kind::Directory {
            json!({ "directory": self.target })
        } else {
            json!({ "file": pattern::write(&self.target, self.kind) })
        };
        let said = [
            ("user", self.user.as_str(), self.user != "root"),
            ("group", self.group.as_str(), self.group != "root"),
            ("store", self.store.as_str(), self.several),
        ];
        for (key, value, _) in said.into_iter().filter(|(.., is_said)| *is_said) {
            entry[key] = value.into();
        }
        if self.mode != self.usual_mode() {
            entry["mode"] = mode::show(self.mode).into();
        }
        entry
    }

    fn usual_mode(&self) -> u16 {
        if self.kind == Kind::Directory { 0o755 } else { 0o644 }
    }

    /// The line of a NixOS configuration.
    #[must_use]
    pub fn nix(&self) -> String {
        let (list, key, path) = if self.kind == Kind::Directory {
            ("directories", "directory", self.target.as_str().to_owned())
        } else {
            ("files", "file", pattern::write(&self.target, self.kind))
        };
        let mut said = String::new();
        for (key, value) in [("user", &self.user), ("group", &self.group)] {
            if value != "root" {
                // Writing to a String cannot fail.
                let _ = write!(said, " {key} = {};", quoted(value));
            }
        }
        if self.mode != self.usual_mode() {
            let _ = write!(said, " mode = \"{}\";", mode::show(self.mode));
        }
        let path = quoted(&path);
        let item = if said.is_empty() { path } else { format!("{{ {key} = {path};{said} }}") };
        format!("environment.persistence.{}.{list} = [ {item} ];", quoted(self.store.as_str()))
    }
}

/// A string of the Nix language.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (index, c) in text.char_indices() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' if text[index + 1..].starts_with('{') => quoted.push_str("\\$"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsFd;

    use super::*;
    use crate::walk;

    #[test]
    fn both_lines_say_the_same() {
        let stat = walk::stat(walk::base("/").unwrap().as_fd()).unwrap();
        let path = |text| AbsPath::parse(text).unwrap();
        let mut line = Line::new(&path("/var/a${b}\"c"), &stat, &path("/persist"), false, &Owners::default());
        line.user = "plex".to_owned();
        line.mode = 0o750;
        line.group = "root".to_owned();
        assert_eq!(
            line.nix(),
            r#"environment.persistence."/persist".directories = [ { directory = "/var/a\${b}\"c"; user = "plex"; mode = "0750"; } ];"#
        );
        assert_eq!(line.entry(), json!({ "directory": "/var/a${b}\"c", "user": "plex", "mode": "0750" }));
        (line.kind, line.user, line.mode, line.several) = (Kind::File, "root".to_owned(), 0o644, true);
        line.target = path("/etc/a*");
        assert_eq!(line.nix(), r#"environment.persistence."/persist".files = [ "/etc/a\\*" ];"#);
        assert_eq!(line.entry(), json!({ "file": "/etc/a\\*", "store": "/persist" }));
    }
}
