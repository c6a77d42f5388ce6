//! Services and packages of a path, by units, tmpfiles rules and lists of packages.

use std::collections::{BTreeMap, BTreeSet};

use super::unit::Mention;
use super::{Built, Place};
use crate::ctl::known::known;
use crate::ctl::system::System;
use crate::text::escape;

/// dpkg's lists of the files of each package.
const DPKG: &str = "/var/lib/dpkg/info";
/// So many are named at most.
const MOST: usize = 2;

/// Owner of a path: a unit, a package or a user.
#[derive(Debug, Default)]
pub struct Belongs {
    /// Directories created by systemd for a unit.
    own: BTreeMap<String, BTreeSet<String>>,
    /// Paths named by a unit in other settings, and paths of tmpfiles rules.
    named: BTreeMap<String, BTreeSet<String>>,
    /// The units that run as a user.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Belongs {
    /// Reads the units and rules of a system.
    #[must_use]
    pub fn read(system: &System) -> Self {
        Self::of(&Place::new(system, String::new()).read_units_and_rules())
    }

    fn of(built: &Built) -> Self {
        let mut this = Self::default();
        for (name, unit) in built.units.iter().filter(|(name, _)| name.ends_with(".service")) {
            for path in unit.own(name).into_iter().flat_map(|(path, links)| links.into_iter().chain([path])) {
                claim(&mut this.own, &path, name);
            }
            for (_, path) in unit.paths(name).into_iter().filter(|(mention, _)| *mention != Mention::Own) {
                claim(&mut this.named, &path, name);
            }
            if let Some(user) = unit.resolved("User", name) {
                this.users.entry(user).or_default().insert(name.clone());
            }
        }
        for rule in built.rules.iter().filter(|rule| "dDvqQeCfFL".contains(rule.kind)) {
            claim(&mut this.named, &rule.path, &format!("tmpfiles.d/{}", rule.file));
        }
        this
    }

    /// Units, or files of rules, of a path. `user` is the owner of the path.
    #[must_use]
    pub fn to(&self, path: &str, user: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        // A path that is not UTF-8 is in no text.
        if path.is_empty() {
            return found;
        }
        for claims in [&self.own, &self.named] {
            if found.is_empty() {
                found = claimants(claims, path);
            }
        }
        if found.is_empty() && user != "root" {
            found.extend(self.users.get(user).into_iter().flatten().cloned());
        }
        found
    }
}

/// A short list of names. Names of units and packages of another system may contain any characters.
#[must_use]
pub fn shorten(names: &[String]) -> Vec<String> {
    let mut words: Vec<_> = names.iter().take(MOST).map(|name| escape::name(name).into_owned()).collect();
    if names.len() > MOST {
        words.push(format!("{} more", names.len() - MOST));
    }
    words
}

fn text(system: &System, path: &str) -> String {
    // A dangling link, or a file without read permission, counts as empty.
    system
        .read(path)
        .ok()
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn claim(claims: &mut BTreeMap<String, BTreeSet<String>>, path: &str, who: &str) {
    // A path common to many units identifies none of them.
    let known = known();
    let is_common = known.shared.contains_key(path) || known.is_disposable(path) || known.is_system(path);
    if !is_common && !path.starts_with("/nix/") {
        claims.entry(path.to_owned()).or_default().insert(who.to_owned());
    }
}

/// Owner of a path; else of a path in it; else of a directory above it.
fn claimants(claims: &BTreeMap<String, BTreeSet<String>>, path: &str) -> BTreeSet<String> {
    if let Some(found) = claims.get(path) {
        return found.clone();
    }
    let below = format!("{path}/");
    let inside: BTreeSet<_> = claims
        .range(below.clone()..)
        .take_while(|(claimed, _)| claimed.starts_with(&below))
        .flat_map(|(_, who)| who.iter().cloned())
        .collect();
    if !inside.is_empty() {
        return inside;
    }
    let mut above = path;
    while let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        if let Some(found) = claims.get(parent).filter(|_| !known().is_wide(parent)) {
            return found.clone();
        }
        above = parent;
    }
    BTreeSet::new()
}

/// The packages with files at several paths, by the lists of Debian's dpkg(1).
#[must_use]
pub fn packages(system: &System, paths: &BTreeSet<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in system.list(DPKG) {
        let Some(package) = file.strip_suffix(".list") else { continue };
        let package = package.split(':').next().unwrap_or(package);
        let list = text(system, &format!("{DPKG}/{file}"));
        for path in list.lines().filter(|line| paths.contains(*line)) {
            found.entry(path.to_owned()).or_default().insert(package.to_owned());
        }
    }
    // A path with many owners is attributed to none.
    found.retain(|_, packages| packages.len() <= 3);
    found
}
