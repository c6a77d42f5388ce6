//! Which service or package a path belongs to, from what units, tmpfiles rules and packages' lists say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::ctl::known::known;
use crate::ctl::system::System;
use crate::manifest::AbsPath;
use crate::text::escape;

/// Directories of units; the administrator's come first.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const TMPFILES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// dpkg's lists of the files of each package.
const DPKG: &str = "/var/lib/dpkg/info";
/// Paths that many units name, and that identify none of them.
const NOBODYS: [&str; 10] =
    ["/bin", "/dev", "/nix/store", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var/tmp"];
/// So many are named at most.
const MOST: usize = 2;

/// Owner of a path: a unit, a package or a user.
#[derive(Debug, Default)]
pub struct Belongs {
    /// Directories that systemd makes for a unit.
    own: BTreeMap<String, BTreeSet<String>>,
    /// Paths that a unit names in another way, and those of tmpfiles rules.
    named: BTreeMap<String, BTreeSet<String>>,
    /// The units that run as a user.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Belongs {
    /// Reads the units and rules of a system.
    #[must_use]
    pub fn read(system: &System) -> Self {
        let mut this = Self::default();
        for folder in UNITS {
            for name in system.list(folder) {
                let path = format!("{folder}/{name}");
                // The name on the bus is a link to the unit.
                if name.ends_with(".service") && !name.starts_with("dbus-") {
                    this.unit(&name, &text(system, &path));
                } else if let Some(unit) = name.strip_suffix(".d").filter(|unit| unit.ends_with(".service")) {
                    for drop_in in system.list(&path) {
                        this.unit(unit, &text(system, &format!("{path}/{drop_in}")));
                    }
                }
            }
        }
        for folder in TMPFILES {
            for name in system
                .list(folder)
                .into_iter()
                .filter(|name| Path::new(name).extension().is_some_and(|it| it == "conf"))
            {
                this.tmpfiles(&name, &text(system, &format!("{folder}/{name}")));
            }
        }
        this
    }

    fn unit(&mut self, unit: &str, text: &str) {
        let text = text.replace("\\\n", " ");
        let settings: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with(['#', ';']))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let stem = unit.trim_end_matches(".service");
        let prefix = stem.split('@').next().unwrap_or(stem);
        let resolve = |word: &str| {
            let word =
                word.replace("%N", stem).replace("%n", unit).replace("%p", prefix).replace("%S", "/var/lib");
            (!word.contains('%')).then_some(word)
        };
        for (key, value) in settings {
            let base = match key {
                "StateDirectory" => "/var/lib",
                "LogsDirectory" => "/var/log",
                "ConfigurationDirectory" => "/etc",
                "User" => {
                    self.users.entry(value.to_owned()).or_default().insert(unit.to_owned());
                    continue;
                }
                "WorkingDirectory" | "ReadWritePaths" | "Environment" | "RequiresMountsFor" | "BindPaths" => {
                    ""
                }
                key if key.starts_with("Exec") || key.starts_with("ConditionPath") => "",
                _ => continue,
            };
            if base.is_empty() {
                let is_edge = |c: char| c.is_whitespace() || matches!(c, '=' | ':' | ',' | ';' | '"' | '\'');
                for word in
                    value.split(is_edge).map(|word| word.trim_start_matches(['-', '+', '!', '@', '~']))
                {
                    if let Some(path) = resolve(word) {
                        claim(&mut self.named, &path, unit);
                    }
                }
            } else {
                // The name after a colon is a link to it.
                for word in value.split_whitespace().filter_map(|word| resolve(word.split(':').next()?)) {
                    claim(&mut self.own, &format!("{base}/{word}"), unit);
                    // There a dynamic user has it.
                    claim(&mut self.own, &format!("{base}/private/{word}"), unit);
                }
            }
        }
    }

    fn tmpfiles(&mut self, file: &str, text: &str) {
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            if let (Some(kind), Some(path)) = (fields.next(), fields.next())
                && kind.starts_with(['d', 'D', 'v', 'q', 'Q', 'e', 'C', 'f', 'F', 'L'])
                && !path.contains('%')
            {
                claim(&mut self.named, path.trim_matches(['"', '\'']), &format!("tmpfiles.d/{file}"));
            }
        }
    }

    /// Whom a path belongs to: units, or files of rules. The user is the one that owns it.
    #[must_use]
    pub fn to(&self, path: &str, user: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        // One that is no text is nowhere named.
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

/// Names of who something belongs to, in few words. Another system's units and packages may have any name.
#[must_use]
pub fn shorten(names: &[String]) -> Vec<String> {
    let mut words: Vec<_> = names.iter().take(MOST).map(|name| escape::name(name).into_owned()).collect();
    if names.len() > MOST {
        words.push(format!("{} more", names.len() - MOST));
    }
    words
}

fn text(system: &System, path: &str) -> String {
    // A link to nowhere, or one that only root may read: then nothing is known of it.
    system
        .read(path)
        .ok()
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn claim(claims: &mut BTreeMap<String, BTreeSet<String>>, path: &str, who: &str) {
    let Ok(path) = AbsPath::parse(path) else { return };
    let is_nobodys = |above: &&str| AbsPath::parse(above).is_ok_and(|above| path.is_in(&above));
    if path.components().count() < 2 || NOBODYS.iter().any(is_nobodys) {
        return;
    }
    claims.entry(path.into()).or_default().insert(who.to_owned());
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
    let is_shared = |path| known().shared.contains_key(path) || ["/var/log", "/var/cache"].contains(&path);
    let mut above = path;
    while let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        if let Some(found) = claims.get(parent).filter(|_| !is_shared(parent)) {
            return found.clone();
        }
        above = parent;
    }
    BTreeSet::new()
}

/// The packages that put files there, as Debian's dpkg(1) knows them, for several paths at once.
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
