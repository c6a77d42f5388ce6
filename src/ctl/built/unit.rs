//! The paths of a systemd unit, with its drop-ins.

use std::collections::BTreeMap;

use crate::manifest::AbsPath;

/// A unit's settings: the values of each key, in their order.
#[derive(Debug, Default)]
pub struct Unit {
    settings: BTreeMap<String, Vec<String>>,
}

/// The unit's use of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// A directory created by systemd for the unit.
    Own,
    /// A directory writable by the unit, its working directory, or one in `RequiresMountsFor`.
    Uses,
    /// A file with a secret or a setting.
    Reads,
    /// The same, which need not be there.
    MayRead,
    /// An argument of a command, or part of a variable.
    Names,
}

impl Unit {
    /// Adds a file of the unit: an empty assignment clears earlier ones.
    pub fn add(&mut self, text: &str) {
        let lines = joined(text);
        for (key, value) in lines.iter().filter_map(|line| line.split_once('=')) {
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
        let is_on = |value: &str| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "y" | "true" | "t" | "on")
        };
        self.last(key).is_some_and(is_on)
    }

    /// A value of a key with the unit's name in place of specifiers; none for a value dependent on the instance.
    #[must_use]
    pub fn resolved(&self, key: &str, name: &str) -> Option<String> {
        specified(self.last(key)?, name)
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.settings.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The words of all values of keys with a prefix.
    fn words<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        let of = move |(key, values): (&String, &'a Vec<String>)| key.starts_with(start).then_some(values);
        self.settings.iter().filter_map(of).flatten().flat_map(|value| value.split_whitespace())
    }

    /// The words of its commands: programs and arguments.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.words("Exec")
    }

    /// The directories created by systemd for the unit, each with its links; `name` is the unit's.
    #[must_use]
    pub fn own(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let private = if self.is("DynamicUser") { "/private" } else { "" };
        let mut found = Vec::new();
        for (key, base, private) in [
            ("StateDirectory", "/var/lib", private),
            ("LogsDirectory", "/var/log", private),
            ("ConfigurationDirectory", "/etc", ""),
        ] {
            for word in self.values(key).flat_map(quoted_words) {
                let (directory, link) = word.split_once(':').unwrap_or((&word, ""));
                // A flag may come after the name of a link. systemd takes no name with `..`.
                let link = link.split(':').next().unwrap_or_default();
                if directory.split('/').any(|part| part == "..") {
                    continue;
                }
                let public = (!private.is_empty()).then_some(directory);
                let links = public.into_iter().chain(Some(link).filter(|link| !link.is_empty()));
                let links = links.filter_map(|link| resolve(&format!("{base}/{link}"), name)).collect();
                let path = resolve(&format!("{base}{private}/{directory}"), name);
                found.extend(path.map(|path| (path, links)));
            }
        }
        found
    }

    /// Every path of the unit, with its use; `name` is the unit's.
    #[must_use]
    pub fn paths(&self, name: &str) -> Vec<(Mention, String)> {
        let mut found = Vec::new();
        let mut say = |mention, path: &str| {
            if let Some(path) = resolve(path, name) {
                found.push((mention, path));
            }
        };
        for (path, _) in self.own(name) {
            say(Mention::Own, &path);
        }
        for path in self.values("WorkingDirectory") {
            say(Mention::Uses, path.trim_start_matches('-'));
        }
        for key in ["ReadWritePaths", "BindPaths", "RequiresMountsFor"] {
            for word in self.values(key).flat_map(quoted_words) {
                let word = word.trim_start_matches(['-', '+']);
                say(Mention::Uses, word.split(':').next().unwrap_or(word));
            }
        }
        for path in self.values("EnvironmentFile") {
            let path = unquoted(path);
            let mention = if path.starts_with('-') { Mention::MayRead } else { Mention::Reads };
            say(mention, path.trim_start_matches('-'));
        }
        for (_, path) in self.words("LoadCredential").filter_map(|word| unquoted(word).split_once(':')) {
            say(Mention::Reads, path);
        }
        // The first word of a command is the program.
        let commands = self.settings.iter().filter(|(key, _)| key.starts_with("Exec")).flat_map(|it| it.1);
        let arguments = commands.flat_map(|value| value.split_whitespace().skip(1));
        for word in arguments.chain(self.values("Environment")) {
            paths_in(&directories(word)).for_each(|path| say(Mention::Names, path));
        }
        found
    }
}

/// The lines of a unit, without comments. A backslash at the end joins a line with the next; a comment may stand between.
fn joined(text: &str) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for part in text.lines().filter(|part| !part.trim_start().starts_with(['#', ';'])) {
        let backslashes = part.len() - part.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            line += &part[..part.len() - 1];
            line.push(' ');
        } else {
            line += part;
            lines.push(std::mem::take(&mut line).trim().to_owned());
        }
    }
    lines.push(line.trim().to_owned());
    lines
}

/// A text with the directories of the system's services in place of their specifiers.
fn directories(text: &str) -> String {
    text.replace("%S", "/var/lib").replace("%L", "/var/log").replace("%h", "/root")
}

/// A path with the unit's name in place of specifiers; none where one depends on the boot or the instance.
fn resolve(path: &str, name: &str) -> Option<String> {
    tidy(&specified(path, name)?)
}

/// A text with the unit's name in place of specifiers.
fn specified(text: &str, name: &str) -> Option<String> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut text = text.replace("%%", "\0").replace("%n", name).replace("%N", stem).replace("%p", prefix);
    text = directories(&text);
    if !instance.is_empty() {
        text = text.replace("%i", instance).replace("%I", instance);
    }
    (!text.contains('%')).then(|| text.replace('\0', "%"))
}

/// An absolute path without `.`, `..` and further slashes; none for `/`, and for one too long for the kernel.
#[must_use]
pub fn tidy(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = AbsPath::parse(&format!("/{}", parts.join("/"))).ok()?;
    (!path.is_root()).then(|| path.into())
}

/// Words in systemd's syntax: quotes are around text with or without spaces.
#[must_use]
pub fn quoted_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut inside) = (String::new(), None, false);
    let mut letters = line.trim().chars();
    while let Some(c) = letters.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => (quote, inside) = (Some(c), true),
            None if c.is_whitespace() => {
                if inside {
                    words.push(std::mem::take(&mut word));
                }
                inside = false;
            }
            _ if c == '\\' => {
                let rest = letters.as_str();
                let code = rest.strip_prefix('x').and_then(|rest| rest.get(..2));
                let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
                if let Some(byte) = byte {
                    word.push(byte.into());
                    letters = rest[3..].chars();
                } else {
                    word.extend(letters.next().map(|c| if c == 's' { ' ' } else { c }));
                }
                inside = true;
            }
            _ => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        words.push(word);
    }
    words
}

/// A word without its quotes.
#[must_use]
pub fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// The absolute paths in a shell script, a command or a configuration. A path with a variable or a pattern counts as
/// the directory before the variable or pattern.
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
    fn lines_words_and_paths() {
        let mut unit = Unit::default();
        unit.add(
            "# note \\\nStateDirectory=a \"b c\" ../../etc/up\nExecStart=/bin/x \\\n# between\n; and\n  --db /srv/d\r\n\
             WorkingDirectory=/srv/w x\nReadWritePaths=\"/srv/y z\" /srv//s/../t\\x20u\nDynamicUser=True\nUser=%p-%i\n",
        );
        let paths: Vec<_> = unit.paths("svc@.service").into_iter().map(|(_, path)| path).collect();
        assert_eq!(
            paths,
            ["/var/lib/private/a", "/var/lib/private/b c", "/srv/w x", "/srv/y z", "/srv/t u", "/srv/d"]
        );
        assert_eq!(unit.resolved("User", "svc@.service"), None);
        assert_eq!(unit.resolved("User", "svc@one.service").unwrap(), "svc-one");
        assert_eq!(quoted_words(r#"a\\b "c\"d" '' e\sf"#), ["a\\b", "c\"d", "", "e f"]);
        assert_eq!(tidy("/a//./b/../c/").unwrap(), "/a/c");
        for path in ["", "a", "/", "/..", "/a/.."] {
            assert_eq!(tidy(path), None);
        }
    }

    #[test]
    fn paths_of_a_unit() {
        let mut unit = Unit::default();
        unit.add("[Service]\nStateDirectory=a b:link\nDynamicUser=yes\nExecStart=/bin/x --db /srv/x/db \\\n  %S/%p/y\n");
        unit.add("[Service]\nLoadCredential=\nLoadCredential=k:/etc/k.key\nStateDirectory=%p/%i\nEnvironment=\"A=/var/lib/z:/b\"\n");
        let paths = unit.paths("svc@one.service");
        let of =
            |mention| paths.iter().filter(|it| it.0 == mention).map(|it| it.1.as_str()).collect::<Vec<_>>();
        assert_eq!(
            of(Mention::Own),
            ["/var/lib/private/a", "/var/lib/private/b", "/var/lib/private/svc/one"]
        );
        assert_eq!(of(Mention::Reads), ["/etc/k.key"]);
        assert_eq!(of(Mention::Names), ["/srv/x/db", "/var/lib/svc/y", "/var/lib/z", "/b"]);
        let found: Vec<_> = paths_in("cp /srv/a-$X/b '/srv/c' >/srv/d/*.x; x=/e/;").collect();
        assert_eq!(found, ["/srv", "/srv/c", "/srv/d", "/e"]);
    }
}
