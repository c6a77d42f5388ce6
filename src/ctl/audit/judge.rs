//! Compares the state of a system with the manifest and its file systems.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::faults::{Fault, faults};
use super::kept::{Kept, above};
use super::script::{Given, given, named, removed};
use crate::ctl::built::Built;
use crate::ctl::built::unit::{Mention, Unit, tidy};
use crate::ctl::built::users::User;
use crate::ctl::known::{Class, Known, Row};
use crate::manifest::refuse::is_owner;
use crate::manifest::{Manifest, mode};

/// Source of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The table of known paths.
    Table,
    /// A setting of a unit with a directory.
    Unit,
    /// A line of tmpfiles.d.
    Tmpfiles,
    /// The home of a user.
    Home,
    /// A setting with a file of a secret.
    Secret,
    /// A command, a script, or another text.
    Text,
}

/// A path lost at a boot.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// Its path.
    pub path: String,
    /// True for a file, false for a directory.
    pub file: bool,
    /// Its class.
    pub class: Class,
    /// The meaning of the path; empty where unknown.
    pub what: String,
    /// Units and files with the path.
    pub by: BTreeSet<String>,
    /// Its sources.
    pub means: BTreeSet<Means>,
    /// The needed owner; none for root.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The mode.
    pub mode: Option<String>,
    /// Options of the mount.
    pub options: Vec<String>,
    /// The method; none for a bind mount.
    pub method: Option<String>,
    /// True if an entry below is a choice: the other content may be lost.
    chosen: bool,
}

/// All faults.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Settings that cannot work.
    pub faults: Vec<Fault>,
    /// Paths lost at a boot, the gravest first.
    pub lost: Vec<Finding>,
}

/// Judges a system. `is_let_go` tells if a path is declared disposable.
#[must_use]
pub fn judge(
    built: &Built,
    manifest: Option<&Manifest>,
    known: &Known,
    is_let_go: &dyn Fn(&str) -> bool,
) -> Judgement {
    let kept = Kept::new(built, manifest);
    let of_units = links(built);
    let links = of_units.iter().chain(&built.top).map(|(link, to)| (link.clone(), to.clone())).collect();
    let mut claims = Claims { built, known, links, all: BTreeMap::new() };
    claims.collect();
    let claims = claims.all;
    let is_chosen_from = |claim: &Finding| claim.chosen && kept.has_below(&claim.path);
    let is_lost = |claim: &Finding| {
        // A key is needed, whatever else was chosen.
        let is_chosen = || {
            if claim.means.contains(&Means::Secret) {
                return false;
            }
            let mut above = above(&claim.path).filter_map(|path| claims.get(path));
            is_chosen_from(claim) || above.any(is_chosen_from)
        };
        // The part of a service's directory with the data may be kept.
        let is_kept_in_part = || {
            let below = format!("{}/", claim.path);
            kept.has_below(&claim.path)
                && claims
                    .range(below.clone()..)
                    .take_while(|(path, _)| path.starts_with(&below))
                    .any(|(path, it)| kept.keeps(path, it.file))
        };
        !known.is_disposable(&claim.path)
            && !is_let_go(&claim.path)
            && !kept.keeps(&claim.path, claim.file)
            && !is_chosen()
            && !is_kept_in_part()
    };
    let lost: BTreeMap<_, _> = claims.iter().filter(|(_, claim)| is_lost(claim)).collect();
    let is_below = |path: &str| above(path).any(|above| lost.contains_key(&above.to_owned()));
    let top = lost.iter().filter(|(path, _)| !is_below(path)).map(|(_, claim)| (*claim).clone());
    let mut lost = merged(top, known);
    lost.sort_by(|a, b| (a.class, &a.path).cmp(&(b.class, &b.path)));
    Judgement { faults: faults(built, manifest, &kept, &of_units), lost }
}

/// Links of systemd to directories of units, and their targets: /var/lib/NAME of a dynamic user.
fn links(built: &Built) -> BTreeMap<String, String> {
    let own = built.units.iter().flat_map(|(name, unit)| unit.own(name));
    own.flat_map(|(path, links)| links.into_iter().map(move |link| (link, path.clone()))).collect()
}

/// One finding in place of several in one directory of a service.
fn merged(findings: impl Iterator<Item = Finding>, known: &Known) -> Vec<Finding> {
    let mut groups: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        let place = known.service_directory(&finding.path).unwrap_or(&finding.path).to_owned();
        groups.entry(place).or_default().push(finding);
    }
    groups
        .into_iter()
        .map(|(path, mut all)| {
            if all.len() == 1 {
                return all.swap_remove(0);
            }
            let mut one = Finding { path, class: Class::Comfort, ..Finding::default() };
            let agreed = |get: &dyn Fn(&Finding) -> &Option<String>| {
                let first = get(&all[0]);
                all.iter().all(|it| !it.file && get(it) == first).then(|| first.clone()).flatten()
            };
            (one.user, one.group, one.mode) =
                (agreed(&|it| &it.user), agreed(&|it| &it.group), agreed(&|it| &it.mode));
            let mut words = Vec::new();
            for finding in all {
                one.class = one.class.min(finding.class);
                one.by.extend(finding.by);
                one.means.extend(finding.means);
                if !finding.what.is_empty() && !words.contains(&finding.what) {
                    words.push(finding.what);
                }
            }
            one.what = words.join(", ");
            one
        })
        .collect()
}

/// The state named by a system's files, by path.
struct Claims<'a> {
    built: &'a Built,
    known: &'a Known,
    /// Links of systemd and in the root, and their targets.
    links: BTreeMap<String, String>,
    all: BTreeMap<String, Finding>,
}

impl Claims<'_> {
    fn collect(&mut self) {
        let built = self.built;
        for (path, row) in &self.known.state {
            if self.is_here(path, row) {
                let by = row.unit().filter(|unit| built.units.contains_key(unit));
                self.add(Finding { path: path.clone(), ..of_row(row) }, by, Means::Table);
            }
        }
        let paths: Vec<_> = built.units.iter().map(|(name, unit)| (name, unit, unit.paths(name))).collect();
        for mention in [Mention::Own, Mention::Uses] {
            if mention == Mention::Uses {
                self.rules();
                self.users();
            }
            // Units of root come last: they may use directories of other users.
            let is_root = |it: &&(&String, &Unit, _)| self.owner(it.0, it.1).0.is_none();
            let (roots, others): (Vec<_>, Vec<_>) = paths.iter().partition(is_root);
            for (name, unit, all) in others.into_iter().chain(roots) {
                for (_, path) in all.iter().filter(|it| it.0 == mention) {
                    self.directory(name, unit, path);
                }
            }
        }
        // Beside NixOS a file that is not there has nothing to lose.
        let is_read = |mention| mention == Mention::Reads || (mention == Mention::MayRead && built.nixos);
        for (name, _, all) in &paths {
            for (_, path) in all.iter().filter(|it| is_read(it.0)) {
                if self.is_secret(path) {
                    self.secret(path, name);
                }
            }
        }
        let texts = || built.scripts.iter().chain(&built.texts);
        let gone: BTreeSet<_> = texts().flat_map(|(_, text)| removed(text)).collect();
        let names = paths.iter().flat_map(|(name, _, all)| {
            all.iter().filter(|it| it.0 == Mention::Names).map(|it| ((*name).clone(), it.1.clone()))
        });
        let in_texts = texts().flat_map(|(by, text)| named(text).map(|path| (by.clone(), path.to_owned())));
        for (by, path) in names.chain(in_texts) {
            if !gone.contains(path.as_str()) && !above(&path).any(|at| gone.contains(at)) {
                self.name(&by, &path);
            }
        }
        if let Some(path) = built.accounts.clone().filter(|path| !path.starts_with("/nix/")) {
            let what = "users and groups with their numbers, and passwords".to_owned();
            let finding = Finding { path, class: Class::Key, what, ..Finding::default() };
            self.add(finding, Some("userborn.service".to_owned()), Means::Unit);
        }
        for path in built.present.iter().filter(|path| path.starts_with("/home/")) {
            let file = path.rsplit_once('.').is_some_and(|(_, kind)| kind == "home");
            let what = "a home that systemd-homed manages".to_owned();
            let mode = Some(if file { "0600" } else { "0700" }.to_owned());
            self.add(
                Finding { path: path.clone(), file, what, mode, ..Finding::default() },
                None,
                Means::Home,
            );
        }
        self.homes_that_are_used();
        self.owners_given_later();
        for (by, path) in &built.keys {
            if !path.starts_with("/nix/") && !self.is_built(path) {
                self.secret(path, by);
            }
        }
        let has = |name: &str| built.units.contains_key(name);
        if has("sshd.service") || has("ssh.service") || has("sshd@.service") {
            let pattern = self.known.state("/etc/ssh/ssh_host_*");
            let usual = pattern.map_or(&[][..], |row| &row.usual);
            let keys = if built.host_keys.is_empty() { usual } else { &built.host_keys };
            for path in keys {
                let row = pattern.map(of_row).unwrap_or_default();
                let finding = Finding { path: path.clone(), ..row };
                self.add(finding, Some("sshd.service".to_owned()), Means::Secret);
            }
        }
    }

    /// True if a row of the table applies to this system.
    fn is_here(&self, path: &str, row: &Row) -> bool {
        let is_present = row.present && self.built.present.iter().any(|it| it == path);
        if row.always || is_present || (row.nixos && self.built.nixos) {
            return true;
        }
        let Some((name, unit)) = row.unit().and_then(|name| self.built.units.get_key_value(&name)) else {
            return false;
        };
        // An option can move the directory elsewhere.
        let public = path.replace("/var/lib/private/", "/var/lib/");
        let is_in = |it: &str| it == path || it == public || it.starts_with(&format!("{path}/"));
        let scripts = self.built.scripts.iter().filter(|it| it.0 == *name).flat_map(|it| named(&it.1));
        let mut mentions = unit.paths(name);
        mentions.extend(scripts.map(|path| (Mention::Names, path.to_owned())));
        mentions.retain(|(mention, path)| {
            !matches!(mention, Mention::Reads | Mention::MayRead) && self.is_state(path)
        });
        mentions.is_empty() || mentions.iter().any(|(_, path)| is_in(path))
    }

    /// True if a path can be a service's state.
    fn is_state(&self, path: &str) -> bool {
        path != "/"
            && !self.known.is_wide(path)
            && !self.known.is_disposable(path)
            && !self.known.is_system(path)
            && !self.known.is_others(path)
    }

    /// The mode of the home of a path: its content is private as well.
    fn mode_of_home(&self, path: &str) -> Option<String> {
        let is_home = |at: &&str| self.known.state.get(*at).is_some_and(|row| row.chosen);
        let mode = above(path).find(is_home).and_then(|home| self.known.modes.get(home));
        mode.filter(|mode| *mode != "0755").cloned()
    }

    /// True for a file from the administrator, which is no part of the build.
    fn is_secret(&self, path: &str) -> bool {
        !self.known.is_disposable(path)
            && !self.known.is_system(path)
            && !path.starts_with("/nix/")
            && !path.contains(['*', '?', '['])
            && !self.is_built(path)
    }

    /// True for a file of the configuration in /etc.
    fn is_built(&self, path: &str) -> bool {
        let below = |it: &String| path == it || path.starts_with(&format!("{it}/"));
        self.built.etc.iter().any(below) && !self.built.links.keys().any(below)
    }

    /// Homes of people, and homes of services, existing or possible.
    fn users(&mut self) {
        let built = self.built;
        for user in built.users.iter().filter(|user| !user.home.is_empty() && !user.bare) {
            if user.person || self.is_home_of_service(user) {
                self.add(self.home(user), None, Means::Home);
            }
        }
    }

    /// Homes without a maker count if another source names them.
    fn homes_that_are_used(&mut self) {
        let built = self.built;
        for user in built.users.iter().filter(|user| user.bare) {
            if self.all.contains_key(&user.home) && self.is_home_of_service(user) {
                self.add(self.home(user), None, Means::Home);
            }
        }
    }

    fn is_home_of_service(&self, user: &User) -> bool {
        let is_made = user.mode.is_some();
        (is_made || !user.root && self.known.service_directory(&user.home).is_some())
            && self.is_state(&user.home)
    }

    fn home(&self, user: &User) -> Finding {
        let known = self.known.state(&user.home).and_then(|row| row.mode.as_deref());
        Finding {
            path: user.home.clone(),
            what: format!("the home of {}", user.name),
            mode: user.mode.as_deref().or(known).or(Some("0700")).map(str::to_owned),
            user: Some(user.name.clone()),
            group: Some(user.group.clone()),
            chosen: user.person,
            ..Finding::default()
        }
    }

    /// Directories of root's units belong to the users of chown(1) in scripts and of tmpfiles.d's lines of type z and Z.
    fn owners_given_later(&mut self) {
        let built = self.built;
        let by_scripts = built.scripts.iter().flat_map(|(_, text)| given(text));
        let rules = built.rules.iter().filter(|rule| "zZ".contains(rule.kind));
        let by_rules = rules.flat_map(|rule| {
            let is_given = |path: &&String| {
                *path == &rule.path || rule.kind == 'Z' && above(path).any(|at| at == rule.path)
            };
            // A mode of Z is for files as well.
            let mode = rule.mode.clone().filter(|_| rule.kind == 'z');
            let given = Given { user: rule.user.clone(), group: rule.group.clone(), mode };
            self.all.keys().filter(is_given).map(|path| (path.clone(), given.clone())).collect::<Vec<_>>()
        });
        for (path, given) in by_scripts.chain(by_rules).collect::<Vec<_>>() {
            if let Some(one) = self.all.get_mut(&path).filter(|it| it.user.is_none() && !it.file) {
                let is_owner = |name: &String| is_owner(name);
                one.user = given.user.filter(is_owner);
                one.group = one.group.take().or(given.group.filter(is_owner));
                let mode = given.mode.and_then(|mode| mode::parse(&mode, true).ok()).map(mode::show);
                one.mode = one.mode.take().or(mode);
            }
        }
    }

    fn rules(&mut self) {
        let built = self.built;
        for rule in built.rules.iter().filter(|rule| "dvqQ".contains(rule.kind)) {
            if !self.is_state(&rule.path) {
                continue;
            }
            let finding = Finding {
                path: rule.path.trim_end_matches('/').to_owned(),
                user: rule.user.clone(),
                group: rule.group.clone(),
                mode: rule.mode.clone(),
                ..Finding::default()
            };
            self.add(finding, Some("tmpfiles.d".to_owned()), Means::Tmpfiles);
        }
    }

    /// A directory of a unit, or its working directory.
    fn directory(&mut self, name: &str, unit: &Unit, path: &str) {
        let path = path.trim_end_matches('/');
        if path.is_empty() || !self.is_state(path) {
            return;
        }
        let (user, group) = self.owner(name, unit);
        let mode = unit.last("StateDirectoryMode").map(str::to_owned).or_else(|| self.mode_of_home(path));
        let finding = Finding { path: path.to_owned(), user, group, mode, ..Finding::default() };
        self.add(finding, Some(name.to_owned()), Means::Unit);
    }

    /// User and group of a unit; none for root, and for a dynamic user.
    fn owner(&self, name: &str, unit: &Unit) -> (Option<String>, Option<String>) {
        let find = |user: &String| self.built.users.iter().find(|it| it.name == *user);
        // An existing user with the name replaces a dynamic one.
        let user = unit.resolved("User", name).filter(|user| !unit.is("DynamicUser") || find(user).is_some());
        let group = user
            .as_ref()
            .and_then(|user| unit.resolved("Group", name).or_else(|| Some(find(user)?.group.clone())));
        (user, group)
    }

    /// A file with a key. In a home it is the user's.
    fn secret(&mut self, path: &str, by: &str) {
        let is_in = |user: &&User| user.person && above(path).any(|at| at == user.home);
        let owner = self.built.users.iter().find(is_in);
        let finding = Finding {
            path: path.to_owned(),
            file: true,
            class: Class::Key,
            user: owner.map(|user| user.name.clone()),
            group: owner.map(|user| user.group.clone()),
            mode: Some("0600".to_owned()),
            ..Finding::default()
        };
        self.add(finding, Some(by.to_owned()), Means::Secret);
    }

    /// A path in a command or a script: state if services have theirs in such places.
    fn name(&mut self, by: &str, path: &str) {
        let Some(path) = tidy(path) else { return };
        let path = self.behind_links(path);
        let path = path.as_str();
        let Some(directory) = self.known.service_directory(path) else { return };
        if !self.is_state(path) {
            return;
        }
        let is_claimed = |at: &str| self.all.contains_key(at);
        if let Some(at) = std::iter::once(path).chain(above(path)).find(|at| is_claimed(at)) {
            let at = at.to_owned();
            self.add(Finding { path: at, ..Finding::default() }, Some(by.to_owned()), Means::Text);
            return;
        }
        let row = self.known.state.get(path).map(of_row);
        let path = if row.is_some() { path } else { directory };
        let mode = self.mode_of_home(path);
        let (user, group) = self.built.units.get(by).map(|unit| self.owner(by, unit)).unwrap_or_default();
        let finding = row.unwrap_or(Finding { user, group, mode, ..Finding::default() });
        self.add(Finding { path: path.to_owned(), ..finding }, Some(by.to_owned()), Means::Text);
    }

    /// The target of systemd's link to a service's directory.
    fn behind_links(&self, path: String) -> String {
        let at = std::iter::once(path.as_str()).chain(above(&path)).find(|at| self.links.contains_key(*at));
        at.map(|at| self.links[at].clone() + &path[at.len()..]).unwrap_or(path)
    }

    /// The first source of a path decides about its owner; all sources are named.
    fn add(&mut self, mut finding: Finding, by: Option<String>, means: Means) {
        finding.path = self.behind_links(finding.path);
        let home = (finding.user.clone(), finding.group.clone(), finding.mode.clone());
        let known = self.known.state(&finding.path);
        let one = self.all.entry(finding.path.clone()).or_insert_with(|| {
            if let Some(row) = known {
                let row = of_row(row);
                let what = Some(finding.what).filter(|what| !what.is_empty()).unwrap_or(row.what);
                let (mode, chosen) = (finding.mode.or(row.mode), finding.chosen || row.chosen);
                let (class, options, method) = (row.class, row.options, row.method);
                finding = Finding { class, what, mode, options, method, chosen, ..finding };
            }
            // Owners and modes invalid for systemd are left out.
            for owner in [&mut finding.user, &mut finding.group] {
                *owner = owner.take().filter(|name| is_owner(name) && !name.contains('%'));
            }
            let mode = finding.mode.and_then(|mode| mode::parse(&mode, !finding.file).ok());
            finding.mode = mode.map(mode::show);
            finding
        });
        // Rules and commands without an owner leave the path to the home's user.
        let is_open =
            one.user.is_none() && one.means.iter().all(|it| [Means::Tmpfiles, Means::Text].contains(it));
        if means == Means::Home && is_open && !one.means.is_empty() {
            (one.user, one.group) = (home.0, home.1);
            one.mode = one.mode.take().or(home.2);
        }
        one.by.extend(by);
        one.means.insert(means);
    }
}

fn of_row(row: &Row) -> Finding {
    Finding {
        file: row.file,
        class: row.class,
        what: row.what.clone(),
        user: row.user.clone(),
        group: row.group.clone(),
        mode: row.mode.clone(),
        options: row.options.clone(),
        method: row.method.clone(),
        chosen: row.chosen,
        ..Finding::default()
    }
}
