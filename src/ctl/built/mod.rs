//! Files of a system, booted or not, that name its state: units, tmpfiles.d, users, mounts, and texts.

pub mod belongs;
pub mod unit;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::OFlags;

use crate::ctl::known::known;
use crate::ctl::system::System;
use crate::sys::inside;
use unit::{Unit, quoted_words, unquoted};
use users::{User, Users};

/// The directory of Nix's builds.
pub const NIX_STORE: &str = "/nix/store/";

/// Directories of units, the administrator's first.
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNIT_TYPES: [&str; 5] = ["service", "socket", "mount", "swap", "timer"];
const SYSUSERS: [&str; 3] = ["/etc/sysusers.d", "/run/sysusers.d", "/usr/lib/sysusers.d"];
const TMPFILES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// Files of a toplevel of NixOS beside /etc.
const IN_TOPLEVEL: [&str; 2] = ["/activate", "/append-initrd-secrets"];
/// Ends of the names of homes of systemd-homed: a directory, and a file.
const HOMED: [&str; 2] = ["homedir", "home"];
/// A script is no longer than this.
const SCRIPT: u64 = 256 << 10;

/// One line of tmpfiles.d.
#[derive(Debug, Default)]
pub struct Rule {
    /// The name of its file.
    pub file: String,
    /// The type of the line.
    pub kind: char,
    /// Its path.
    pub path: String,
    /// Mode, user and group, as far as they are said.
    pub mode: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The target of a link.
    pub argument: Option<String>,
}

/// A file system of fstab(5) or of a mount unit.
#[derive(Debug)]
pub struct Filesystem {
    /// The source of the mount.
    pub what: String,
    /// The place.
    pub path: String,
    /// Its type.
    pub fstype: String,
}

/// The parsed files of a system.
#[derive(Debug, Default)]
pub struct Built {
    /// Units by name.
    pub units: BTreeMap<String, Unit>,
    /// Texts of scripts run by units, by unit.
    pub scripts: Vec<(String, String)>,
    /// tmpfiles.d.
    pub rules: Vec<Rule>,
    /// Users, by passwd(5), sysusers.d and NixOS's lists of users.
    pub users: Vec<User>,
    /// The directory with passwd(5), group(5) and shadow(5) of userborn, where it is not /etc.
    pub accounts: Option<String>,
    /// fstab(5) and mount units.
    pub filesystems: Vec<Filesystem>,
    /// Swap areas.
    pub swaps: Vec<String>,
    /// Links in /etc to a place outside, or to a file of the configuration with content: the target, by path.
    pub links: BTreeMap<String, String>,
    /// SSH host keys.
    pub host_keys: Vec<String>,
    /// Files with keys and passwords, by their readers: crypttab(5), the initrd, users.
    pub keys: Vec<(String, String)>,
    /// Texts with paths, by kind: PAM, cron, D-Bus, logrotate.
    pub texts: Vec<(String, String)>,
    /// Links in the root itself, such as /home of an `OSTree`, and their targets.
    pub top: BTreeMap<String, String>,
    /// Existing paths of an installed system: those of the table, homes of systemd-homed, and passwd(5).
    pub present: Vec<String>,
    /// All files and links in /etc below the path asked for.
    pub etc: Vec<String>,
    /// True for a NixOS, which keeps its programs in /nix/store.
    pub nixos: bool,
}

/// The root and the place of /etc in the root: for a built NixOS, a path in the Nix store.
pub struct Place<'a> {
    system: &'a System,
    prefix: String,
}

impl<'a> Place<'a> {
    /// `prefix` comes before /etc alone.
    pub fn new(system: &'a System, prefix: String) -> Self {
        Self { system, prefix }
    }

    fn at(&self, path: &str) -> String {
        let is_built = path == "/etc" || path.starts_with("/etc/") || IN_TOPLEVEL.contains(&path);
        if is_built { self.prefix.clone() + path } else { path.to_owned() }
    }

    /// The folders of the system: in a system built by Nix, those in /etc; the others are on the building machine.
    fn own<'b>(&self, folders: &'b [&'b str]) -> &'b [&'b str] {
        if self.prefix.is_empty() { folders } else { &folders[..1] }
    }

    fn list(&self, path: &str) -> Vec<String> {
        self.system.list(&self.at(path))
    }

    /// The text of a file; empty for a missing file, for one without read permission, and for one that is not UTF-8.
    fn text(&self, path: &str) -> String {
        let bytes = self.system.read(&self.at(path)).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// True for an empty file and a link to /dev/null, which hide units of their name in later folders.
    fn is_mask(&self, path: &str) -> bool {
        let is_empty = || matches!(self.system.read(&self.at(path)), Ok(Some(bytes)) if bytes.is_empty());
        self.link(path).is_some_and(|to| to == "/dev/null") || is_empty()
    }

    /// True for a directory; links are followed.
    fn is_directory(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        inside::open(self.system.root(), &self.at(path), flags).is_ok()
    }

    /// The target of a link; none for other types.
    fn link(&self, path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/')?;
        let folder = if folder.is_empty() { "/" } else { folder };
        let dir =
            inside::open(self.system.root(), &self.at(folder), OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let target = rustix::fs::readlinkat(dir, name, Vec::new()).ok()?;
        target.into_string().ok()
    }

    /// Reads units and rules alone.
    #[must_use]
    pub fn read_units_and_rules(&self) -> Built {
        let mut built = Built { rules: self.rules(), ..Built::default() };
        self.read_units(&mut built);
        built
    }

    fn rules(&self) -> Vec<Rule> {
        let lines = self.lines(&TMPFILES);
        lines.into_iter().filter_map(|(file, line)| Some(Rule { file, ..rule(&line)? })).collect()
    }

    /// Reads everything.
    #[must_use]
    pub fn read(&self) -> Built {
        let mut built =
            Built { nixos: !self.prefix.is_empty() || self.system.has("/etc/NIXOS"), ..Built::default() };
        self.read_units(&mut built);
        self.read_scripts(&mut built);
        built.rules = self.rules();
        self.read_root(&mut built);
        self.read_users(&mut built);
        self.read_mounts(&mut built);
        self.read_etc("/etc", 0, &mut built);
        let mut config = self.text("/etc/ssh/sshd_config");
        for name in self.list("/etc/ssh/sshd_config.d").into_iter().filter(|name| is_a(name, "conf")) {
            config = config + "\n" + &self.text(&format!("/etc/ssh/sshd_config.d/{name}"));
        }
        built.host_keys = config.lines().filter_map(host_key).filter_map(|path| unit::tidy(&path)).collect();
        for line in self.text("/etc/crypttab").lines().filter(|line| !line.trim_start().starts_with('#')) {
            // After a colon stands the device of the key.
            let is_elsewhere =
                |path: &&str| path.split_once(':').is_some_and(|(_, on)| on.contains(['=', '/']));
            let key = line.split_whitespace().nth(2).filter(|path| !is_elsewhere(path));
            built.keys.extend(key.and_then(unit::tidy).map(|path| ("crypttab".to_owned(), path)));
        }
        // NixOS appends them to the initrd whenever the boot loader is set up.
        let appended = self.text("/append-initrd-secrets");
        let sources = appended.lines().filter_map(|line| line.trim().strip_prefix("cp -a "));
        let sources = sources.filter_map(|words| quoted_words(words).into_iter().next());
        built
            .keys
            .extend(sources.filter_map(|path| unit::tidy(&path)).map(|path| ("the initrd".to_owned(), path)));
        for (folder, what) in [
            ("/etc/pam.d", "PAM"),
            ("/etc/cron.d", "cron"),
            ("/etc/dbus-1/system.d", "D-Bus"),
            ("/etc/logrotate.d", "logrotate"),
        ] {
            for name in self.list(folder) {
                built.texts.push((format!("{what}: {name}"), self.text(&format!("{folder}/{name}"))));
            }
        }
        for (path, what) in [("/etc/crontab", "cron"), ("/etc/logrotate.conf", "logrotate")] {
            built.texts.push((what.to_owned(), self.text(path)));
        }
        // On NixOS the file is in the Nix store.
        let logrotate = built.units.get("logrotate.service").into_iter().flat_map(Unit::commands);
        let files = logrotate.filter(|path| path.starts_with(NIX_STORE) && is_a(path, "conf"));
        let texts: Vec<_> = files.map(|path| ("logrotate".to_owned(), self.text(path))).collect();
        built.texts.extend(texts);
        built
    }

    fn read_units(&self, built: &mut Built) {
        let is_unit = |name: &str| UNIT_TYPES.iter().any(|kind| is_a(name, kind));
        let mut drop_ins: BTreeMap<(String, String), String> = BTreeMap::new();
        // An empty file, or a link to /dev/null, hides a unit of later folders.
        let mut masked = Vec::new();
        for folder in self.own(&UNITS) {
            for name in self.list(folder) {
                let path = format!("{folder}/{name}");
                if is_unit(&name) {
                    // The name on the bus, and other aliases, are links to a unit of another name.
                    let is_other = |to: &str| is_unit(to) && to != name;
                    let is_alias =
                        self.link(&path).is_some_and(|to| is_other(to.rsplit('/').next().unwrap_or(&to)));
                    if !built.units.contains_key(&name) && !masked.contains(&name) && !is_alias {
                        let text = self.text(&path);
                        if text.is_empty() {
                            masked.extend(self.is_mask(&path).then_some(name));
                        } else {
                            let mut unit = Unit::default();
                            unit.add(&text);
                            built.units.insert(name, unit);
                        }
                    }
                } else if let Some(unit) = name.strip_suffix(".d").filter(|unit| is_unit(unit)) {
                    for file in self.list(&path).into_iter().filter(|file| is_a(file, "conf")) {
                        let text = self.text(&format!("{path}/{file}"));
                        drop_ins.entry((unit.to_owned(), file)).or_insert(text);
                    }
                }
            }
        }
        for ((unit, _), text) in drop_ins {
            if let Some(unit) = built.units.get_mut(&unit) {
                unit.add(&text);
            }
        }
    }

    fn read_scripts(&self, built: &mut Built) {
        for (name, unit) in &built.units {
            for word in unit.commands() {
                let path = unquoted(word).trim_start_matches(['-', '+', '!', '@', ':']);
                let is_own = self.prefix.is_empty() && known().is_system(path);
                if is_own || path.starts_with(NIX_STORE) || path.starts_with("/etc/") {
                    built.scripts.extend(self.script(path).map(|text| (name.clone(), text)));
                }
            }
        }
    }

    /// The text of a script.
    fn script(&self, path: &str) -> Option<String> {
        let bytes = self.system.read_up_to(&self.at(path), SCRIPT).ok()??;
        bytes.starts_with(b"#!").then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The lines of the files of a kind of directories, each with its file's name. A file hides those of its name in later ones.
    fn lines(&self, folders: &[&str]) -> Vec<(String, String)> {
        let (mut seen, mut lines) = (Vec::new(), Vec::new());
        for folder in self.own(folders) {
            for name in self.list(folder).into_iter().filter(|name| is_a(name, "conf")) {
                if !seen.contains(&name) {
                    let text = self.text(&format!("{folder}/{name}"));
                    lines.extend(text.lines().map(|line| (name.clone(), line.to_owned())));
                    seen.push(name);
                }
            }
        }
        lines
    }

    fn read_users(&self, built: &mut Built) {
        // An OSTree has those of its packages in /usr.
        let text = |file: &str| {
            let of_packages =
                if self.prefix.is_empty() { self.text(&format!("/usr/lib/{file}")) } else { String::new() };
            self.text(&format!("/etc/{file}")) + "\n" + &of_packages
        };
        let mut users = Users::new(&text("group"));
        users.passwd(&text("passwd"));
        users.sysusers(self.lines(&SYSUSERS).iter().map(|(_, line)| line.as_str()));
        // NixOS creates users at boot, from a file named by the activation script or by userborn.
        let activation = self.text("/activate");
        let userborn = built.units.get("userborn.service").into_iter().flat_map(Unit::commands);
        let words = activation.split_whitespace().chain(userborn).map(unquoted);
        let is_list =
            |word: &&str| word.starts_with(NIX_STORE) && users::LISTS.iter().any(|name| word.ends_with(name));
        for path in words.filter(is_list).map(str::to_owned).collect::<BTreeSet<_>>() {
            users.nixos(&self.text(&path));
        }
        let userborn = built.units.get("userborn.service").and_then(|unit| unit.last("ExecStart"));
        let location = userborn.and_then(|line| quoted_words(line).pop());
        built.accounts = location.as_deref().and_then(unit::tidy).filter(|path| path != "/etc");
        built.keys.extend(users.passwords);
        built.users = users.all;
    }

    /// Reads what is known by its presence; nothing for a toplevel, whose root is that of the machine that builds.
    fn read_root(&self, built: &mut Built) {
        if !self.prefix.is_empty() {
            return;
        }
        for path in self.list("/").into_iter().map(|name| format!("/{name}")) {
            let to = self.link(&path).and_then(|to| unit::tidy(&format!("/{to}")));
            built.top.extend(to.map(|to| (path, to)));
        }
        let present = known().state.iter().filter(|(path, row)| row.present && self.is_directory(path));
        // A link leads to the place of the data.
        let present = present.map(|(path, _)| path).filter(|path| self.link(path).is_none());
        built.present = present.cloned().collect();
        let passwd = "/etc/passwd".to_owned();
        built.present.extend(Some(passwd).filter(|path| self.system.has(path)));
        let homes = self.list("/home").into_iter();
        let homes = homes.filter(|name| HOMED.iter().any(|kind| is_a(name, kind)));
        built.present.extend(homes.map(|name| format!("/home/{name}")));
    }

    fn read_mounts(&self, built: &mut Built) {
        let plain = |word: &str| word.replace("\\040", " ");
        for line in self.text("/etc/fstab").lines().filter(|line| !line.trim_start().starts_with('#')) {
            let fields: Vec<_> = line.split_whitespace().map(plain).collect();
            if let [what, path, fstype, ..] = &fields[..] {
                if fstype == "swap" {
                    built.swaps.push(what.clone());
                } else {
                    let (what, path, fstype) = (what.clone(), path.clone(), fstype.clone());
                    built.filesystems.push(Filesystem { what, path, fstype });
                }
            }
        }
        for (name, unit) in &built.units {
            let said = |key| unit.last(key).unwrap_or_default().to_owned();
            if is_a(name, "swap") {
                built.swaps.push(said("What"));
            } else if is_a(name, "mount") && unit.last("Where").is_some() {
                let (what, path) = (said("What"), said("Where"));
                let fstype = said("Type");
                built.filesystems.push(Filesystem { what, path, fstype });
            }
        }
    }

    /// The names in /etc, and the links there.
    fn read_etc(&self, folder: &str, depth: usize, built: &mut Built) {
        for name in self.list(folder) {
            let path = format!("{folder}/{name}");
            match self.link(&path) {
                Some(to) => {
                    // An immutable /etc has an empty machine-id, which is no more than a place for a mount.
                    let is_declared =
                        (to.starts_with(NIX_STORE) || to.starts_with("/etc/static/")) && !self.is_mask(&path);
                    let leads_out =
                        to.starts_with('/') && !to.starts_with(NIX_STORE) && !to.starts_with("/etc/");
                    if is_declared || leads_out {
                        built.links.insert(path.clone(), to);
                    }
                    built.etc.push(path);
                }
                // NixOS links each file separately. A linked directory contains no further links.
                None if depth < 4 && self.is_directory(&path) => self.read_etc(&path, depth + 1, built),
                None => built.etc.push(path),
            }
        }
    }
}

/// True if a file's name has a suffix.
fn is_a(name: &str, kind: &str) -> bool {
    name.strip_suffix(kind).is_some_and(|stem| stem.ends_with('.'))
}

/// The path of a host key in a line of `sshd_config(5)`.
fn host_key(line: &str) -> Option<String> {
    let line = line.trim();
    let (word, rest) = line.split_at(line.find(|c: char| c.is_whitespace() || c == '=')?);
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
    word.eq_ignore_ascii_case("hostkey").then(|| quoted_words(rest).into_iter().next())?
}

/// One line of tmpfiles.d.
fn rule(line: &str) -> Option<Rule> {
    let words = quoted_words(line);
    let said = |index: usize| {
        words
            .get(index)
            .map(|word| word.trim_start_matches([':', '~']))
            .filter(|word| !matches!(*word, "" | "-"))
    };
    let kind = words.first()?.chars().next().filter(char::is_ascii_alphabetic)?;
    let path = words.get(1).filter(|path| !path.contains('%')).and_then(|path| unit::tidy(path))?;
    let own = |index| said(index).map(str::to_owned);
    Some(Rule {
        file: String::new(),
        kind,
        path,
        mode: own(2),
        user: own(3),
        group: own(4),
        argument: own(6),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn host_keys() {
        for (line, path) in [
            (" HostKey /a", Some("/a")),
            ("hostkey=/a", Some("/a")),
            ("HostKey = \"/a b\"", Some("/a b")),
            ("HostKeyAgent /a", None),
            ("#HostKey /a", None),
            ("HostKey", None),
        ] {
            assert_eq!(host_key(line).as_deref(), path, "{line}");
        }
    }

    #[test]
    fn rules_of_tmpfiles() {
        let found = rule("d '/srv/a b' :0750 'ada' - -").unwrap();
        assert_eq!((found.kind, &*found.path), ('d', "/srv/a b"));
        assert_eq!(
            (found.mode.as_deref(), found.user.as_deref(), found.group),
            (Some("0750"), Some("ada"), None)
        );
        assert_eq!(rule("d \"/srv//t\\x20u\"/").unwrap().path, "/srv/t u");
        assert!(rule("d /").is_none());
        assert_eq!(rule("L+ /a - - - - /b").unwrap().argument.unwrap(), "/b");
        assert!(rule("# d /x").is_none() && rule("d %h/x").is_none() && rule("").is_none());
    }
}
