//! The paths in scripts and other texts: named, removed, or given to users.

use std::collections::BTreeMap;

use crate::ctl::built::unit::{paths_in, tidy, unquoted};

/// Owner and mode set by a script for a path; none for unchanged ones.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Given {
    /// The user.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The mode.
    pub mode: Option<String>,
}

/// The paths in a script or another text.
pub fn named(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(paths_in)
}

/// The directories removed by a script with their content, to create them anew.
pub fn removed(text: &str) -> impl Iterator<Item = &str> {
    let commands = text.lines().flat_map(|line| line.split([';', '&', '|']));
    let paths = commands.filter_map(|command| {
        let mut words = command.split_whitespace();
        let is_removal = words.next() == Some("rm") && matches!(words.next(), Some("-rf" | "-fr"));
        is_removal.then_some(words)
    });
    paths.flatten().map(unquoted).filter(|path| path.starts_with('/') && !path.contains(['$', '*']))
}

/// The commands of a script, in words.
fn commands(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split([';', '&', '|'])).map(|command| command.split_whitespace().collect())
}

/// The paths with owner or mode set by a script, by chown(1) and install(1).
#[must_use]
pub fn given(text: &str) -> Vec<(String, Given)> {
    let mut variables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    for words in commands(text) {
        match words[..] {
            ["for", name, "in", ref values @ ..] => {
                variables.insert(name, values.to_vec());
            }
            [word] if word.split_once('=').is_some_and(|(_, value)| unquoted(value).starts_with('/')) => {
                let (name, value) = word.split_once('=').unwrap_or_default();
                variables.insert(name, vec![value]);
            }
            _ => {
                let name = |word: &&str| word.rsplit('/').next().unwrap_or_default().to_owned();
                let Some(at) = words.iter().position(|word| matches!(&*name(word), "chown" | "install"))
                else {
                    continue;
                };
                let is_chown = name(&words[at]) == "chown";
                let (given, paths) =
                    if is_chown { chown(&words[at + 1..]) } else { install(&words[at + 1..]) };
                for path in paths.into_iter().map(unquoted) {
                    let variable = path.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
                    let values = match variable {
                        Some(name) => variables.get(name).cloned().unwrap_or_default(),
                        None => vec![path],
                    };
                    let values = values.into_iter().map(unquoted).filter(|path| !path.contains(['$', '*']));
                    found.extend(values.filter_map(tidy).map(|path| (path, given.clone())));
                }
            }
        }
    }
    found
}

/// The owner and the paths of a chown(1).
fn chown<'t>(words: &[&'t str]) -> (Given, Vec<&'t str>) {
    let mut words = words.iter().copied().filter(|word| !word.starts_with('-'));
    let owner = unquoted(words.next().unwrap_or_default());
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let some = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty() && name != "root");
    (Given { user: some(user), group: some(group), mode: None }, words.collect())
}

/// Owner, mode and the directories of an install(1); no paths for a copy of files.
fn install<'t>(words: &[&'t str]) -> (Given, Vec<&'t str>) {
    let (mut given, mut paths, mut makes) = (Given::default(), Vec::new(), false);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let (flags, long) = match word.strip_prefix("--") {
            Some(long) => ("", long),
            None => (word.strip_prefix('-').unwrap_or_default(), ""),
        };
        let (key, value) = long.split_once('=').unwrap_or((long, ""));
        makes |= key == "directory";
        let short = flags.find(['m', 'o', 'g']);
        makes |= flags[..short.unwrap_or(flags.len())].contains('d');
        let (key, value) = match short {
            Some(at) if flags.len() > at + 1 => (&flags[at..=at], &flags[at + 1..]),
            Some(at) => (&flags[at..=at], words.next().unwrap_or_default()),
            None if value.is_empty() && matches!(key, "mode" | "owner" | "group") => {
                (key, words.next().unwrap_or_default())
            }
            None => (key, value),
        };
        let value = Some(unquoted(value).to_owned()).filter(|value| value != "root");
        match key {
            "m" | "mode" => given.mode = value,
            "o" | "owner" => given.user = value,
            "g" | "group" => given.group = value,
            _ if word.starts_with('-') => {}
            _ => paths.push(word),
        }
    }
    (given, if makes { paths } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_scripts_give() {
        let text = "for d in '/var/lib/a' \"/var/spool/a\"; do\n  if [ ! -e \"$d\" ]; then\n    chown --recursive ada:users \"$d\"\n\
                    # chown no /var/lib/no\ndir=/srv/b\ninstall -dm750 -o bob ${dir}\n/nix/store/x/bin/install -d -m 0700 -o 'c' -g c /srv/c/ /srv/d\n\
                    test -e /x || chown -R root:www /srv/e; install -m 600 -o f /srv/f /srv/g\nchown h $UNKNOWN /srv/*\n\
                    install --directory --owner=i --mode 0711 /srv/i\nchown\ninstall -d\ninstall -m";
        let found = given(text);
        let lines: Vec<_> = found
            .iter()
            .map(|(path, it)| {
                let words = [&it.user, &it.group, &it.mode].map(|word| word.as_deref().unwrap_or("-"));
                format!("{path} {}", words.join(" "))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "/var/lib/a ada users -",
                "/var/spool/a ada users -",
                "/srv/b bob - 750",
                "/srv/c c c 0700",
                "/srv/d c c 0700",
                "/srv/e - www -",
                "/srv/i i - 0711",
            ]
        );
    }
}
