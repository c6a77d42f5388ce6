//! Patterns in a manifest's `file`: the last component may be a pattern, as in glob(7).
//!
//! `*`, `?` and `[…]` (with `!` for a negated set) are special. A backslash before one of them, before `]` or before a
//! backslash makes the character literal; before any other character a backslash is literal, as in systemd's `\x2d`.

use super::{AbsPath, Kind};
use crate::text::escape;

/// Reads `file`: the path of one file, or a pattern, in which every backslash precedes a protected character.
///
/// # Errors The reason for a text with neither form.
pub fn read(text: &str) -> Result<(AbsPath, Kind), String> {
    let parts: Vec<_> = text.split('/').collect();
    let last = parts.iter().rposition(|part| !part.is_empty() && *part != ".");
    let mut path = String::with_capacity(text.len());
    let mut kind = Kind::File;
    for (index, part) in parts.iter().enumerate() {
        let component = Component::read(part)?;
        if component.special && last != Some(index) {
            return Err(format!(
                "`{}` is a pattern, which only the last component can be; write a backslash before `*`, `?` or `[` to mean the character itself",
                escape::name(part)
            ));
        }
        if index > 0 {
            path.push('/');
        }
        path.push_str(if component.special { &component.pattern } else { &component.literal });
        if component.special {
            kind = Kind::Glob;
        }
    }
    AbsPath::parse(&path).map(|path| (path, kind))
}

/// Writes the target of a file entry for [`read`].
#[must_use]
pub fn write(target: &AbsPath, kind: Kind) -> String {
    let protected = |text: &str| {
        let mut written = String::with_capacity(text.len());
        for letter in text.chars() {
            if matches!(letter, '*' | '?' | '[' | '\\') {
                written.push('\\');
            }
            written.push(letter);
        }
        written
    };
    match (kind, target.as_str().rsplit_once('/')) {
        (Kind::Glob, Some((directory, name))) => format!("{}/{name}", protected(directory)),
        _ => protected(target.as_str()),
    }
}

/// True if a target's last component is a pattern in the form of [`read`].
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    Component::read(name).is_ok_and(|component| component.special && component.pattern == name)
}

/// True if a file name matches a pattern in the form returned by [`read`]. As in a shell, a dot at the beginning of a
/// name matches a dot only.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') && !pattern.starts_with("\\.") {
        return false;
    }
    let (mut pattern, mut name) = (pattern, name);
    // Next start if the text after the last star does not fit here: one letter further.
    let mut again: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            again = Some((rest, name));
            pattern = rest;
            continue;
        }
        let mut letters = name.chars();
        let fits = letters.next().and_then(|letter| one_letter(pattern, letter));
        match (fits, again) {
            (Some(rest), _) => (pattern, name) = (rest, letters.as_str()),
            (None, _) if name.is_empty() && pattern.is_empty() => return true,
            (None, Some((rest, from))) if !from.is_empty() => {
                let mut letters = from.chars();
                letters.next();
                again = Some((rest, letters.as_str()));
                (pattern, name) = (rest, letters.as_str());
            }
            (None, _) => return false,
        }
    }
}

/// Rest of a pattern if its first element, which is no star, matches a letter.
fn one_letter(pattern: &str, letter: char) -> Option<&str> {
    let mut letters = pattern.chars();
    match letters.next()? {
        '?' => {}
        '\\' => return (letters.next()? == letter).then_some(letters.as_str()),
        '[' => return in_set(letters.as_str(), letter),
        other if other != letter => return None,
        _ => {}
    }
    Some(letters.as_str())
}

/// The same for a set, from behind its bracket.
fn in_set(set: &str, letter: char) -> Option<&str> {
    let (inverted, set) = set.strip_prefix('!').map_or((false, set), |set| (true, set));
    let mut letters = set.chars();
    let mut found = false;
    let mut first = true;
    loop {
        let next = |letters: &mut std::str::Chars<'_>| match letters.next()? {
            '\\' => letters.next(),
            other => Some(other),
        };
        if letters.as_str().starts_with(']') && !first {
            letters.next();
            return (found != inverted).then_some(letters.as_str());
        }
        first = false;
        let low = next(&mut letters)?;
        let mut high = low;
        let range = letters.as_str().strip_prefix('-').filter(|rest| !rest.starts_with(']'));
        if let Some(rest) = range {
            letters = rest.chars();
            high = next(&mut letters)?;
        }
        found |= (low..=high).contains(&letter);
    }
}

#[derive(Default)]
struct Component {
    /// Literal name, if nothing in the pattern is special.
    literal: String,
    /// The pattern.
    pattern: String,
    /// True with a special character.
    special: bool,
}

impl Component {
    fn read(text: &str) -> Result<Self, String> {
        let mut this = Self::default();
        let mut letters = text.chars().peekable();
        // Inside of `[…]`: true for the first letter of the set, where `]` is a member.
        let mut set: Option<bool> = None;
        while let Some(letter) = letters.next() {
            match (letter, set) {
                ('\\', _) => {
                    let protected = letters.next_if(|next| "*?[]\\".contains(*next)).unwrap_or('\\');
                    this.literal.push(protected);
                    this.pattern.extend(['\\', protected]);
                    set = set.map(|_| false);
                    continue;
                }
                ('[', None) => {
                    this.special = true;
                    this.pattern.push('[');
                    if letters.next_if(|next| matches!(next, '!' | '^')).is_some() {
                        this.pattern.push('!');
                    }
                    set = Some(true);
                    continue;
                }
                (']', Some(false)) => set = None,
                (_, Some(_)) => set = Some(false),
                ('*' | '?', None) => this.special = true,
                _ => {}
            }
            this.literal.push(letter);
            this.pattern.push(letter);
        }
        if set.is_some() {
            let shown = escape::name(text);
            return Err(format!("`{shown}` has a `[` without its `]`; write `\\[` for the character itself"));
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn files_and_patterns_are_told_apart() {
        for (text, path, kind) in [
            ("/etc/machine-id", "/etc/machine-id", Kind::File),
            ("/etc//ssh/ssh_host_*/", "/etc/ssh/ssh_host_*", Kind::Glob),
            ("/a/x?", "/a/x?", Kind::Glob),
            ("/a/[^a]b", "/a/[!a]b", Kind::Glob),
            ("/a/[]a]", "/a/[]a]", Kind::Glob),
            ("/a/[\\]a]", "/a/[\\]a]", Kind::Glob),
            ("/a/x]", "/a/x]", Kind::File),
            ("/a/\\*", "/a/*", Kind::File),
            ("/\\[a]/\\?", "/[a]/?", Kind::File),
            ("/a/dev-disk\\x2d1", "/a/dev-disk\\x2d1", Kind::File),
            ("/a/b\\\\c", "/a/b\\c", Kind::File),
            ("/a/b\\", "/a/b\\", Kind::File),
            ("/\\*/\\x\\**", "/*/\\\\x\\**", Kind::Glob),
        ] {
            let read_first = read(text).unwrap();
            assert_eq!(read_first, (AbsPath::parse(path).unwrap(), kind), "{text}");
            assert_eq!(read(&write(&read_first.0, kind)), Ok(read_first.clone()), "{text}");
            assert!(kind == Kind::File || is_pattern(read_first.0.name()), "{text}");
        }
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, yes, no) in [
            ("ssh_host_*", &["ssh_host_", "ssh_host_rsa_key.pub"][..], &["ssh_hos", "xssh_host_"][..]),
            ("*_key", &["a_key", "_key", "a_key_key"], &["_key.pub", "key", ".a_key"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("?", &["x", "\u{e9}"], &["", "xy", "."]),
            (".*", &[".", ".a"], &["a"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "a-x"]),
            ("[!a-c]x", &["dx"], &["ax", ".x"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[\\]a-]", &["]", "a", "-"], &["\\"]),
            ("a\\*", &["a*"], &["ab", "a\\*"]),
            ("\u{4f60}*", &["\u{4f60}\u{597d}"], &["\u{597d}"]),
            ("*", &["a", " "], &[".a"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for (text, reason) in
            [("/home/*/x", "only the last component"), ("/a/[x", "without its `]`"), ("a*", "relative")]
        {
            assert!(read(text).unwrap_err().contains(reason), "{text}");
        }
        assert!(!is_pattern("a[") && !is_pattern("[^a]") && !is_pattern("a\\x*"));
    }
}
