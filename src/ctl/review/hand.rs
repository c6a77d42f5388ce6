//! Lines written by hand in a module of decisions. Each stays before the line that follows it.

use std::collections::{BTreeSet, HashSet};

use super::module::{HEAD, LISTS, LOOK_INTO, STORE, THROW_AWAY, string};
use super::record::{Key, Place};
use crate::manifest::{Kind, pattern};

/// The lines of a module with their numbers.
#[derive(Debug, Default)]
pub struct Lines<'t> {
    /// Lines in the form of `impctl review`, each with its place.
    pub own: Vec<(usize, Place, &'t str)>,
    /// Other lines.
    pub hand: Vec<(usize, &'t str)>,
    /// Lists and sections with lines written by hand.
    pub held: BTreeSet<Place>,
    /// Paths that lines written by hand keep; true for a pattern.
    pub kept: BTreeSet<Key>,
}

impl<'t> Lines<'t> {
    /// Sorts the lines; `is_decision` tells those of decisions apart, by the beginning of their list.
    pub fn of(text: &'t str, mut is_decision: impl FnMut(&Place, &str) -> bool) -> Self {
        let mut lines = Self::default();
        let (mut store, mut list) = (String::new(), String::new());
        let end = text.split_terminator('\n').enumerate().filter(|(_, line)| *line == "}").last();
        let end = end.map(|(index, _)| index);
        for (index, line) in text.split_terminator('\n').enumerate() {
            let number = index + 1;
            let place = (store.clone(), list.clone());
            let mut here = place.clone();
            let is_own = match line {
                HEAD => number == 1,
                "{" => !lines.own.iter().any(|(.., own)| *own == "{"),
                "}" if Some(index) == end => {
                    here = Place::default();
                    true
                }
                "    ];" if !store.is_empty() && LISTS.contains(&list.as_str()) => {
                    list.clear();
                    true
                }
                "  };" if !store.is_empty() && list.is_empty() => {
                    store.clear();
                    true
                }
                "  ];" if list == THROW_AWAY => {
                    list.clear();
                    true
                }
                THROW_AWAY | LOOK_INTO if store.is_empty() && list.is_empty() => {
                    line.clone_into(&mut list);
                    here.1.clone_from(&list);
                    true
                }
                _ if store.is_empty() && list.is_empty() && section(line).is_some() => {
                    store = section(line).unwrap_or_default();
                    here.0.clone_from(&store);
                    true
                }
                _ if LISTS.contains(&line) && !store.is_empty() && list.is_empty() => {
                    line.clone_into(&mut list);
                    here.1.clone_from(&list);
                    true
                }
                _ => is_decision(&place, line),
            };
            if is_own {
                lines.own.push((number, here, line));
            } else {
                lines.kept.extend(kept(line).filter(|_| LISTS.contains(&list.as_str())));
                lines.hand.push((number, line));
                if !store.is_empty() || list == THROW_AWAY {
                    lines.held.insert(place);
                }
            }
        }
        lines
    }

    /// Drops lists and sections whose lines were all removed by hand.
    pub fn drop_empty(&mut self) {
        let is_empty = |this: &Self, index: usize| {
            let (first, place, begin) = &this.own[index];
            let Some((last, _, end)) = this.own.get(index + 1) else { return false };
            let closes = match *begin {
                LOOK_INTO => return !end.starts_with("  #   "),
                THROW_AWAY => *end == "  ];",
                _ if LISTS.contains(begin) => *end == "    ];",
                _ => begin.starts_with(STORE) && *end == "  };",
            };
            closes && !this.held.contains(place) && !this.hand.iter().any(|(at, _)| first < at && at < last)
        };
        while let Some(index) = (0..self.own.len()).find(|index| is_empty(self, *index)) {
            let count = if self.own[index].2 == LOOK_INTO { 1 } else { 2 };
            self.own.drain(index..index + count);
        }
    }

    /// The first line by hand, by its number, that would take lines of decisions into it, or define a list twice.
    pub fn broken(&self) -> Option<usize> {
        let twice = self.hand.iter().find(|(_, line)| may_define_twice(line)).map(|(number, _)| *number);
        twice.or_else(|| self.open())
    }

    /// The first group of lines by hand that is not whole, by its number: its brackets or quotes end elsewhere.
    fn open(&self) -> Option<usize> {
        let mut group = String::new();
        let mut start = 0;
        for (index, (number, line)) in self.hand.iter().enumerate() {
            if group.is_empty() {
                start = *number;
            }
            group += line;
            group.push('\n');
            let is_last = self.hand.get(index + 1).is_none_or(|(next, _)| *next != number + 1);
            if is_last && !is_whole(&std::mem::take(&mut group)) {
                return Some(start);
            }
        }
        None
    }

    /// A new text with the lines by hand before the lines that followed them, or the next ones that are still there.
    pub fn weave(&self, new: &str) -> String {
        let new = Lines::of(new, |_, _| true).own;
        let there: HashSet<_> = new.iter().map(|(_, place, line)| (place, *line)).collect();
        let mut text = String::new();
        let (mut hand, mut own) = (self.hand.iter().peekable(), self.own.iter().peekable());
        let mut add = |line: &str| {
            text += line;
            text.push('\n');
        };
        for (_, place, line) in &new {
            while own.next_if(|(_, at, it)| !there.contains(&(at, *it))).is_some() {}
            if let Some((number, ..)) = own.next_if(|(_, at, it)| (at, *it) == (place, *line)) {
                while let Some((_, by_hand)) = hand.next_if(|(at, _)| at < number) {
                    add(by_hand);
                }
            }
            add(line);
        }
        hand.for_each(|(_, by_hand)| add(by_hand));
        text
    }
}

/// The store of the line that begins its section.
fn section(line: &str) -> Option<String> {
    string(line.strip_prefix(STORE)?).filter(|(_, rest)| *rest == " = {").map(|(store, _)| store)
}

/// The path of a line by hand, in the usual form of an entry.
fn kept(line: &str) -> Option<Key> {
    let line = line.trim_start();
    let rest = line.strip_prefix("{ directory = ").or_else(|| line.strip_prefix("{ file = ")).unwrap_or(line);
    let (path, _) = string(rest)?;
    let (path, kind) = pattern::read(&path).ok()?;
    Some((path, kind == Kind::Glob))
}

/// True if a line by hand may define what the review defines, now or later: a repeated definition is an error of Nix.
fn may_define_twice(line: &str) -> bool {
    const DEFINED: [&str; 6] = [
        "environment=",
        "environment.etc=",
        "environment.etc.imp-mount/throw-away",
        "environment.persistence",
        "directories=",
        "files=",
    ];
    let code = line.split('#').next().unwrap_or(line);
    let code: String = code.chars().filter(|letter| !letter.is_whitespace() && *letter != '"').collect();
    let begins =
        |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || "._-'".contains(before));
    DEFINED.iter().any(|defined| code.match_indices(defined).any(|(at, _)| begins(at)))
        || (code.contains("inherit") && code.contains("environment"))
}

/// True if the brackets and quotes of a piece of Nix end in it. Comments over several lines and indented strings are
/// not looked into.
fn is_whole(text: &str) -> bool {
    let mut open = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => drop(letters.by_ref().find(|letter| *letter == '\n')),
            '"' => loop {
                match letters.next() {
                    Some('"') => break,
                    Some('\\') => drop(letters.next()),
                    Some(_) => {}
                    None => return false,
                }
            },
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(letter) => return false,
            '\'' if letters.peek() == Some(&'\'') => return false,
            '/' if letters.peek() == Some(&'*') => return false,
            _ => {}
        }
    }
    open.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{is_whole, may_define_twice};

    #[test]
    fn definitions_of_the_review_are_known() {
        for line in [
            r#"  environment.persistence."/persist".files = [ "/x" ];"#,
            "  environment.persistence = import ./x.nix;",
            "  inherit (import ./x.nix) environment;",
            r#"  environment.etc."imp-mount/throw-away".text = "x";"#,
            r#"  environment.etc."imp-mount/throw-away" = { text = "x"; };"#,
            "  environment.etc = import ./x.nix;",
            "  environment = { };",
            r#"    "files" = [ ];"#,
            "    x = 1; files = [ ];",
            "    directories=[",
        ] {
            assert!(may_define_twice(line), "{line}");
        }
        for line in [
            "# environment.persistence",
            "  environment.systemPackages = [ ];",
            r#"  environment.etc."x".text = "";"#,
            "    users.bob.directories = [ ];",
            r#"      { directory = "/files"; }"#,
            "    hideMounts = true;",
            "  services.x.profiles = [ ];",
        ] {
            assert!(!may_define_twice(line), "{line}");
        }
    }

    #[test]
    fn pieces_of_nix_are_whole() {
        for text in
            ["", "# [\n", "\"/a[\" # ]\n", "services.x = {\n  a = [ (1) ];\n};", "{ pkgs, ... }:", "f' x"]
        {
            assert!(is_whole(text), "{text}");
        }
        for text in ["[", "]", "}{", "([)]", "\"", "/* x */", "x = ''y'';", "\"\\\""] {
            assert!(!is_whole(text), "{text}");
        }
    }
}
