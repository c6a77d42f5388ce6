//! Table of known paths, for audits, presets of the NixOS module and `impctl lost`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::manifest::pattern;

const TEXT: &str = include_str!("paths.toml");

/// Importance of a path, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A key, or a way in.
    Key,
    /// Data that cannot be created again.
    #[default]
    Data,
    /// The identity of this machine for others, or of others for this machine.
    Identity,
    /// Recorded history.
    History,
    /// A setting or cache that can be created again.
    Comfort,
}

/// One row of state.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Row {
    /// Its description.
    pub what: String,
    /// Its class.
    pub class: Class,
    /// True for a file.
    pub file: bool,
    /// The owner of a new one; none for root.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The mode; by default from `[modes]`, or the usual one.
    pub mode: Option<String>,
    /// Options of the mount.
    pub options: Vec<String>,
    /// The method; a bind mount if not said.
    pub method: Option<String>,
    /// Usual names, of a pattern.
    pub usual: Vec<String>,
    /// Its group of `imp-mount.persist`.
    pub preset: Option<String>,
    /// The option of NixOS for its service.
    pub option: Option<String>,
    /// Further required options.
    pub and: Vec<String>,
    /// Options that exclude the path.
    pub not: Vec<String>,
    /// The option with its path.
    pub follows: Option<String>,
    /// True if options tell its owner.
    pub owners: bool,
    /// Its unit.
    pub unit: Option<String>,
    /// True for every system.
    pub always: bool,
    /// True for a system that has it.
    pub present: bool,
    /// True for every NixOS.
    pub nixos: bool,
    /// True if an entry below is a choice: the other content may be lost.
    pub chosen: bool,
    /// Consequence of its loss, for every system.
    pub without: Option<String>,
    /// True for the directory of a dynamic user.
    pub private: bool,
}

impl Row {
    /// Its unit: the given one, or the one with the name of the option.
    #[must_use]
    pub fn unit(&self) -> Option<String> {
        let called = |option: &String| Some(format!("{}.service", option.rsplit('.').next()?));
        self.unit.clone().or_else(|| self.option.as_ref().and_then(called))
    }

    /// Its description, if longer than the name of its unit.
    fn words(&self) -> &str {
        let is_name = self.option.as_ref().is_some_and(|option| option.ends_with(&self.what));
        if is_name { "" } else { &self.what }
    }
}

/// The table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Directories in which services have state.
    pub services: Vec<String>,
    /// Directories in which they have none.
    pub others: Vec<String>,
    /// Made by NixOS in an empty root.
    pub activated: Vec<String>,
    /// Modes of root's directories.
    pub modes: BTreeMap<String, String>,
    /// May be lost at every boot.
    pub disposable: BTreeMap<String, String>,
    /// Comes with an installed system.
    pub system: BTreeMap<String, String>,
    /// Shared by many, so its content is listed.
    pub shared: BTreeMap<String, String>,
    /// State.
    pub state: BTreeMap<String, Row>,
}

/// The table. A test parses the built-in text: an unreadable table would be empty.
#[must_use]
pub fn known() -> &'static Known {
    static KNOWN: LazyLock<Known> = LazyLock::new(|| toml::from_str(TEXT).unwrap_or_default());
    &KNOWN
}

impl Known {
    /// Known facts of a path, by the path itself or by a pattern.
    #[must_use]
    pub fn state(&self, path: &str) -> Option<&Row> {
        let by_pattern = || self.state.iter().find(|(known, _)| fits(known, path)).map(|(_, row)| row);
        self.state.get(path).or_else(by_pattern)
    }

    /// Description of a path; empty if unknown, or the same as the name of its unit.
    #[must_use]
    pub fn what(&self, path: &str) -> &str {
        let by_pattern = || self.shared.iter().find(|(known, _)| fits(known, path)).map(|(_, what)| what);
        let others = || self.system.get(path).or_else(by_pattern).map_or("", String::as_str);
        self.state(path).map_or_else(others, Row::words)
    }

    /// True if a path, or one above, is disposable.
    #[must_use]
    pub fn is_disposable(&self, path: &str) -> bool {
        upwards(path).any(|above| {
            let name = above.rsplit('/').next().unwrap_or_default();
            self.disposable.contains_key(above)
                || self.disposable.contains_key(name)
                || self.disposable.keys().any(|known| fits(known, above))
        })
    }

    /// True for a directory shared by many units, or kept in part: units use the directory, and no unit owns it.
    #[must_use]
    pub fn is_wide(&self, path: &str) -> bool {
        self.shared.contains_key(path) || self.state.get(path).is_some_and(|row| row.chosen)
    }

    /// True for a path without state of services.
    #[must_use]
    pub fn is_others(&self, path: &str) -> bool {
        upwards(path).any(|above| self.others.iter().any(|it| it == above))
    }

    /// The directory of the service of a path: /var/lib/NAME.
    #[must_use]
    pub fn service_directory<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut child = path;
        for above in upwards(path) {
            if self.services.iter().any(|it| it == above) {
                return (child != above).then_some(child);
            }
            child = above;
        }
        None
    }

    /// True if a path, or one above, belongs to an installed system.
    #[must_use]
    pub fn is_system(&self, path: &str) -> bool {
        upwards(path).any(|above| self.system.contains_key(above))
    }
}

/// True if a pattern of the table matches a path.
fn fits(known: &str, path: &str) -> bool {
    let is_pattern = known.contains(['*', '?', '[']);
    is_pattern
        && known.split('/').count() == path.split('/').count()
        && known.split('/').zip(path.split('/')).all(|(known, name)| pattern::matches(known, name))
}

/// A path and all paths above, without `/`.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
        .filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    use crate::check::ESSENTIALS;
    use crate::ctl::scan::rules::{Rule, Rules};
    use crate::manifest::parents::SYSTEM;
    use crate::manifest::{AbsPath, mode};

    #[test]
    fn the_table_can_be_read_and_holds_no_contradiction() {
        let table: Known = toml::from_str(TEXT).unwrap();
        assert!(!table.state.is_empty());
        let mut rules = Rules::default();
        for path in [&table.disposable, &table.system, &table.shared].into_iter().flat_map(BTreeMap::keys) {
            rules.pattern(path, Rule::Kept).unwrap();
        }
        for (path, row) in &table.state {
            rules.pattern(path, Rule::Kept).unwrap();
            assert_eq!(AbsPath::parse(path).unwrap().as_str(), path, "in its normal form");
            assert!(!row.what.is_empty(), "{path}: in no words");
            assert!(
                row.mode.as_ref().is_none_or(|text| mode::parse(text, !row.file).is_ok()),
                "{path}: mode"
            );
            assert!(row.mode.is_none() || !table.modes.contains_key(path), "{path}: a mode twice");
            assert!(row.method.is_none() || row.file, "{path}: a method of a directory");
            assert!(row.usual.iter().all(|name| fits(path, name)), "{path}: another name");
            assert!(!row.private || path.starts_with("/var/lib/private/"), "{path}: private");
            assert!(!row.file || row.options.is_empty(), "{path}: a file needs no options");
            assert!(row.option.is_some() || (row.follows.is_none() && !row.owners), "{path}: no option");
            assert!(
                row.preset.is_none() || row.option.is_some() || row.always || row.class != Class::Data,
                "{path}: nothing brings it"
            );
            assert!(!table.is_disposable(path) && !table.is_system(path), "{path}: disposable, and state");
            assert!(!table.shared.contains_key(path), "{path}: shared, and state");
        }
        for path in table.disposable.keys() {
            assert!(!table.system.contains_key(path) && !table.shared.contains_key(path), "{path}: twice");
            // Everything below a disposable path is disposable.
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            assert!(!table.is_disposable(above), "{path}: said of a directory above it");
        }
        for path in table.others.iter().chain(&table.services) {
            let is_row = table.state.contains_key(path) || table.shared.contains_key(path);
            assert!(is_row, "{path}: in no words");
            assert!(!table.others.contains(path) || !table.services.contains(path), "{path}: both");
        }
        for path in &table.activated {
            assert!(!table.is_disposable(path), "{path}: disposable everywhere");
        }
        for path in table.system.keys() {
            assert!(!table.shared.contains_key(path), "{path}: twice");
        }
    }

    #[test]
    fn the_boot_binary_has_the_same() {
        let table = known();
        let modes: Vec<_> = table
            .modes
            .iter()
            .map(|(path, mode)| (path.as_str(), mode::parse(mode, true).unwrap()))
            .collect();
        assert_eq!(SYSTEM, modes);
        let all = table.state.iter().filter_map(|(path, row)| {
            let without = row.without.as_deref()?;
            Some((row.usual.first().unwrap_or(path).as_str(), row.file, row.nixos, without))
        });
        let essentials = ESSENTIALS.iter().map(|it| (it.path, it.file, it.nixos, it.without));
        assert_eq!(essentials.collect::<BTreeSet<_>>(), all.collect());
        assert_eq!(ESSENTIALS.len(), 3);
    }

    #[test]
    fn directories_of_services() {
        let table = known();
        for (path, directory) in [
            ("/var/lib/x/y", Some("/var/lib/x")),
            ("/var/lib/x", Some("/var/lib/x")),
            ("/var/lib/private/x/y/z", Some("/var/lib/private/x")),
            ("/root/.config/borg", Some("/root/.config")),
            ("/var/lib/private", None),
            ("/var/lib", None),
            ("/opt/x/y", None),
        ] {
            assert_eq!(table.service_directory(path), directory, "{path}");
        }
    }

    #[test]
    fn paths_names_and_patterns() {
        let table = known();
        for path in
            ["/var/cache/x", "/home/ada/.cache/x", "/root/.Xauthority", "/etc/resolv.conf.bak", "/tmp"]
        {
            assert!(table.is_disposable(path), "{path}");
        }
        for path in ["/var", "/home/ada", "/var/lib/systemd", "/etc"] {
            assert!(!table.is_disposable(path), "{path}");
        }
        assert_eq!(table.what("/etc/ssh/ssh_host_rsa_key"), "a key that SSH clients know the machine by");
        assert_eq!(table.what("/var/lib/plex"), "");
        assert_eq!(table.state("/var/lib/plex").unwrap().unit().unwrap(), "plex.service");
        assert_eq!(table.what("/usr"), "programs");
        assert_eq!(table.what("/.rw-etc/upper/x"), table.what("/.rw-etc/upper/x/y"));
    }

    /// docs/paths.md: the table in words.
    fn page(table: &Known) -> String {
        const BEGIN: &str = "# Known paths

Facts about paths that `impctl audit`, `lost`, `status`, `orphans` and `migrate` and the presets of the NixOS module share. All of them
are in [paths.toml](../src/ctl/known/paths.toml). A path may be a pattern of glob(7). Further paths come from the system itself: from
units, tmpfiles.d, users and scripts (see [What would be lost](lost.md)).

## State

Would be lost, on a system that has it. Why it matters: key (opens something, or lets people in), data, identity, history, comfort.
The preset is the group of `imp-mount.persist` that keeps it.

| path | content | why | preset |
|---|---|---|---|
";
        let state = table.state.iter().map(|(path, row)| {
            let class = serde_json::to_value(row.class).unwrap();
            let preset = row.preset.as_deref().unwrap_or_default();
            format!("| `{path}` | {} | {} | {preset} |\n", row.what, class.as_str().unwrap())
        });
        let lists = [
            (
                "Disposable",
                "May be lost at every boot. A name without a directory stands for files of that name anywhere.",
                &table.disposable,
            ),
            ("The installed system", "Comes with it, or is made by it.", &table.system),
            ("Shared", "Used by many: the paths in it are named, never the directory itself.", &table.shared),
        ];
        let lists = lists.into_iter().flat_map(|(title, text, rows)| {
            let head = format!("\n## {title}\n\n{text}\n\n| path | content |\n|---|---|\n");
            let rows = rows.iter().map(|(path, what)| format!("| `{path}` | {what} |\n"));
            std::iter::once(head).chain(rows)
        });
        std::iter::once(BEGIN.to_owned()).chain(state).chain(lists).collect()
    }

    #[test]
    fn the_page_lists_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/paths.md");
        let page = page(known());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "not as the table: UPDATE=1 cargo test --lib known writes docs/paths.md");
    }
}
