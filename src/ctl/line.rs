//! The line to keep a path: for the configuration of NixOS, and for a manifest in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::system::Names;
use crate::manifest::{AbsPath, Kind, Store, mode, pattern};
use crate::sys::walk::Stat;
use crate::text::escape::{self, Page};

/// Ids of systemd's dynamic users, which are other ones at the next start.
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The entry of a manifest to keep a path, without default values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Entry {
    /// The path.
    #[serde(flatten)]
    pub path: Path,
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The mode, in octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(regex(pattern = "^[0-7]{4}$")))]
    pub mode: Option<String>,
    /// Options of the bind mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub options: Vec<String>,
    /// The store, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// The path of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// A directory.
    Directory(#[cfg_attr(test, schemars(regex(pattern = "^/")))] String),
    /// A file, or files by a pattern in the last component.
    File(#[cfg_attr(test, schemars(regex(pattern = "^/")))] String),
}

impl Path {
    /// The key in an entry, and the path.
    #[must_use]
    pub fn member(&self) -> (&'static str, &str) {
        match self {
            Self::Directory(path) => ("directory", path),
            Self::File(path) => ("file", path),
        }
    }
}

impl From<Path> for Entry {
    /// An entry with every default.
    fn from(path: Path) -> Self {
        Self { path, group: None, method: None, mode: None, options: Vec::new(), store: None, user: None }
    }
}

/// The entry as JSON on one line.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = escape::json_line(self).map_err(|_| fmt::Error)?;
        f.write_str(page.as_str().trim_end())
    }
}

/// The lines to keep paths, each as a definition and as an entry. Only NixOS has the first.
#[must_use]
pub fn to_keep<'a>(lines: impl Iterator<Item = (&'a str, &'a Entry)> + Clone, nixos: bool) -> Page {
    let mut page = Page::default();
    if nixos {
        page.line("To keep it over the next boot, add to the configuration of NixOS");
        lines.clone().for_each(|(definition, _)| page.line(format_args!("  {definition}")));
        page.line("or to the entries of the manifest");
    } else {
        page.line("To keep it over the next boot, add to the entries of the manifest");
    }
    lines.for_each(|(_, entry)| page.line(format_args!("  {entry}")));
    page
}

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

/// The entry of a manifest to keep a directory or file with its current owner and mode.
#[must_use]
pub fn entry(target: &AbsPath, stat: &Stat, names: &Names) -> Entry {
    let (path, usual) = if stat.is_dir() {
        (Path::Directory(target.as_str().to_owned()), 0o755)
    } else {
        (Path::File(pattern::write(target, Kind::File)), 0o644)
    };
    let (user, group) = (names.user(stat.uid()), names.group(stat.gid()));
    let owner = Owner { user: (stat.uid(), &user), group: (stat.gid(), &group), mode: stat.mode() };
    Entry::from(path).owned(&owner, usual)
}

impl Entry {
    /// The entry with an owner other than root, and a mode other than the usual one.
    #[must_use]
    pub fn owned(self, owner: &Owner<'_>, usual: u16) -> Self {
        let name = |(id, name): (u32, &str)| (id != 0 && !DYNAMIC.contains(&id)).then(|| name.to_owned());
        let mode = (owner.mode != usual).then(|| mode::show(owner.mode));
        Self { user: name(owner.user), group: name(owner.group), mode, ..self }
    }

    /// The same as an element of a list in a NixOS configuration.
    #[must_use]
    pub fn nix(&self) -> String {
        let (key, path) = self.path.member();
        let members =
            [("user", &self.user), ("group", &self.group), ("mode", &self.mode), ("method", &self.method)];
        let members = members.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        let mut words: Vec<_> = std::iter::once((key, path))
            .chain(members)
            .map(|(key, value)| format!("{key} = {};", escape::nix(value)))
            .collect();
        if !self.options.is_empty() {
            let options: Vec<_> = self.options.iter().map(|option| escape::nix(option)).collect();
            words.push(format!("mountOptions = [ {} ];", options.join(" ")));
        }
        if words.len() == 1 { escape::nix(path) } else { format!("{{ {} }}", words.join(" ")) }
    }

    /// The definition of a NixOS configuration to keep the path on a store.
    #[must_use]
    pub fn definition(&self, store: &Store) -> String {
        let list = match self.path {
            Path::Directory(_) => "directories",
            Path::File(_) => "files",
        };
        format!("environment.persistence.{}.{list} = [ {} ];", escape::nix(store.path.as_str()), self.nix())
    }
}
