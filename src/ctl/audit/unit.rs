//! The paths that a systemd unit names, drop-ins included.

use std::collections::BTreeMap;

/// A unit's settings: the values of each key, in their order.
#[derive(Debug, Default)]
pub struct Unit {
    settings: BTreeMap<String, Vec<String>>,
}

/// The use that a unit has for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// systemd makes the directory for it.
    Own,
    /// The unit may write to it, works in it, or needs it mounted.
    Uses,
    /// A file that it reads a secret or a setting from.
    Reads,
    /// An argument of a command, or part of a variable.
    Names,
}

impl Unit {
    /// Adds a file of the unit: what is assigned empty starts anew.
    pub fn add(&mut self, text: &str) {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        for (key, value) in lines.filter_map(|line| line.split_once('=')) {
            let values = self.settings.entry(key.trim().to_owned()).or_default();
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }

    /// The last value of a key.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<&str> {
        self.settings.get(key).and_then(|values| values.last()).map(String::as_str)
    }

    /// Tells if a switch is on.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.last(key).is_some_and(|value| matches!(value, "1" | "yes" | "y" | "true" | "t" | "on"))
    }

    /// The words of all values of keys that begin so.
    fn words<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        let of = move |(key, values): (&String, &'a Vec<String>)| key.starts_with(start).then_some(values);
        self.settings.iter().filter_map(of).flatten().flat_map(|value| value.split_whitespace())
    }

    /// The words of its commands: programs, and what they are given.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.words("Exec")
    }

    /// Every path that it speaks of, and for what; `name` is its own.
    #[must_use]
    pub fn paths(&self, name: &str) -> Vec<(Said, String)> {
        let mut found = Vec::new();
        let mut say = |said, path: &str| {
            if let Some(path) = resolve(path, name) {
                found.push((said, path));
            }
        };
        let private = if self.is("DynamicUser") { "/private" } else { "" };
        let bases = [
            ("StateDirectory", format!("/var/lib{private}")),
            ("LogsDirectory", format!("/var/log{private}")),
            ("ConfigurationDirectory", "/etc".to_owned()),
        ];
        for (key, base) in bases {
            for word in
                self.settings.get(key).into_iter().flatten().flat_map(|value| value.split_whitespace())
            {
                // A name behind a colon is that of a link to it.
                say(Said::Own, &format!("{base}/{}", word.split(':').next().unwrap_or(word)));
            }
        }
        for key in ["WorkingDirectory", "ReadWritePaths", "BindPaths", "RequiresMountsFor"] {
            for word in self.words(key) {
                let word = unquoted(word).trim_start_matches(['-', '+']);
                say(Said::Uses, word.split(':').next().unwrap_or(word));
            }
        }
        for word in self.words("EnvironmentFile") {
            say(Said::Reads, unquoted(word).trim_start_matches('-'));
        }
        for (_, path) in self.words("LoadCredential").filter_map(|word| unquoted(word).split_once(':')) {
            say(Said::Reads, path);
        }
        // The first word of a command is the program.
        let commands = self.settings.iter().filter(|(key, _)| key.starts_with("Exec")).flat_map(|it| it.1);
        let arguments = commands.flat_map(|value| value.split_whitespace().skip(1));
        for word in arguments.chain(self.environment()) {
            paths_in(&directories(word)).for_each(|path| say(Said::Names, path));
        }
        found
    }

    fn environment(&self) -> impl Iterator<Item = &str> {
        self.settings.get("Environment").into_iter().flatten().map(String::as_str)
    }
}

/// A text with the directories of the system's services in place of their specifiers.
fn directories(text: &str) -> String {
    text.replace("%S", "/var/lib").replace("%L", "/var/log").replace("%h", "/root")
}

/// A path with the unit's name in place of specifiers; none where one depends on the boot or the instance.
fn resolve(path: &str, name: &str) -> Option<String> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut path = path.replace("%%", "\0").replace("%n", name).replace("%N", stem).replace("%p", prefix);
    path = directories(&path);
    if !instance.is_empty() {
        path = path.replace("%i", instance).replace("%I", instance);
    }
    (path.starts_with('/') && !path.contains('%')).then(|| path.replace('\0', "%"))
}

/// A word without the quotes around it, or in front of it.
#[must_use]
pub fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// The absolute paths in a text of a shell, a command or a configuration. Of what depends on a variable or is a pattern it is the
/// directory.
pub fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let is_open = |c: char| "${}*?[]".contains(c);
    let is_part = move |c: char| c.is_ascii_alphanumeric() || "/._-+@%".contains(c) || is_open(c);
    text.split(move |c| !is_part(c))
        .map(move |word| {
            let word = word.trim_start_matches(['-', '+', '@']);
            let fixed = word.find(is_open).map_or(word, |end| &word[..word[..end].rfind('/').unwrap_or(0)]);
            fixed.trim_end_matches(['.', '-', '/'])
        })
        .filter(|word| word.starts_with('/') && word.len() > 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_unit_says() {
        let mut unit = Unit::default();
        unit.add("[Service]\nStateDirectory=a b:link\nDynamicUser=yes\nExecStart=/bin/x --db /srv/x/db \\\n  %S/%p/y\n");
        unit.add("[Service]\nLoadCredential=\nLoadCredential=k:/etc/k.key\nStateDirectory=%p/%i\nEnvironment=\"A=/var/lib/z:/b\"\n");
        let paths = unit.paths("svc@one.service");
        let of = |said| paths.iter().filter(|it| it.0 == said).map(|it| it.1.as_str()).collect::<Vec<_>>();
        assert_eq!(of(Said::Own), ["/var/lib/private/a", "/var/lib/private/b", "/var/lib/private/svc/one"]);
        assert_eq!(of(Said::Reads), ["/etc/k.key"]);
        assert_eq!(of(Said::Names), ["/srv/x/db", "/var/lib/svc/y", "/var/lib/z", "/b"]);
        let found: Vec<_> = paths_in("cp /srv/a-$X/b '/srv/c' >/srv/d/*.x; x=/e/;").collect();
        assert_eq!(found, ["/srv", "/srv/c", "/srv/d", "/e"]);
    }
}
