//! The two forms of a file of decisions: a module of NixOS, and a piece of a manifest in JSON. A file is accepted only
//! if writing would reproduce the same text, so no text of the file can be lost.

use serde::{Deserialize, Serialize};

use super::record::{Choice, Decision, Origin, Record};
use crate::ctl::line;
use crate::text::escape;
use crate::text::json;
use crate::text::problem::Problem;

const HEAD: &str = "# Written by `impctl review`, which keeps every line, and refuses the file where it holds anything else.";
const THROW_AWAY: &str =
    r#"  environment.etc."imp-mount/throw-away".text = builtins.concatStringsSep "\n" ["#;
const LOOK_INTO: &str = "  # To look into:";

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A module of NixOS.
    Nix,
    /// Entries of a manifest, with the answers beside them.
    Json,
}

impl Form {
    /// Decisions as a file has them.
    ///
    /// # Errors
    /// Why they cannot be JSON.
    pub fn write(self, record: &Record) -> Result<String, Problem> {
        match self {
            Self::Nix => Ok(write_nix(record)),
            Self::Json => write_json(record),
        }
    }

    /// Reads a file.
    ///
    /// # Errors The file has text that writing would not reproduce.
    pub fn read(self, bytes: &[u8]) -> Result<Record, Problem> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            unknown(self, line, "it is no UTF-8 text")
        })?;
        if text.is_empty() {
            return Ok(Record::default());
        }
        let record = match self {
            Self::Nix => read_nix(text).map_err(|line| unknown(self, line, &shown(text, line)))?,
            Self::Json => read_json(text)?,
        };
        let again = self.write(&record)?;
        if again == text {
            return Ok(record);
        }
        let same = text.split('\n').zip(again.split('\n')).take_while(|(old, new)| old == new).count();
        Err(unknown(self, same + 1, &shown(text, same + 1)))
    }
}

/// A line of the file, in quotes.
fn shown(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1);
    line.map_or_else(|| "its end".to_owned(), |line| format!("`{}`", escape::name(line.trim())))
}

fn unknown(form: Form, line: usize, found: &str) -> Problem {
    let option = if form == Form::Nix { "--nix" } else { "--fragment" };
    Problem::new(format!("impctl review did not write this, or not there: {found}"))
        .at(format!("line {line}"))
        .remedy(format!(
            "nothing was written; keep what is written by hand in a file of its own, or name another one with {option}"
        ))
}

fn write_nix(record: &Record) -> String {
    let mut text = format!("{HEAD}\n{{\n");
    let mut line = |line: &str| {
        text += line;
        text.push('\n');
    };
    for store in record.stores() {
        line(&format!("  environment.persistence.{} = {{", escape::nix(store)));
        for (list, key) in [("directories", "directory"), ("files", "file")] {
            let kept = record.all(Choice::Keep).filter(|it| it.store == store);
            let entries = kept.filter_map(|it| Some((it.entry.as_ref()?, &it.origin)));
            let lines: Vec<_> = entries
                .filter(|(entry, _)| entry.path.member().0 == key)
                .map(|(entry, origin)| format!("      {}  # kept {}", entry.nix(), origin.words()))
                .collect();
            if !lines.is_empty() {
                line(&format!("    {list} = ["));
                for kept in &lines {
                    line(kept);
                }
                line("    ];");
            }
        }
        line("  };");
    }
    for (choice, begin, indent, end) in
        [(Choice::ThrowAway, THROW_AWAY, "    ", "  ];"), (Choice::LookInto, LOOK_INTO, "  #   ", "")]
    {
        let mut lines = record.all(choice).peekable();
        if lines.peek().is_none() {
            continue;
        }
        line(begin);
        for it in lines {
            line(&format!("{indent}{}  # {}", escape::nix(&it.pattern()), it.origin.words()));
        }
        if !end.is_empty() {
            line(end);
        }
    }
    line("}");
    text
}

/// Reads the output of [`write_nix`], or returns the first line with other text. Remaining differences are found by
/// writing the file again.
fn read_nix(text: &str) -> Result<Record, usize> {
    let mut record = Record::default();
    let (mut store, mut key, mut choice) = (String::new(), "", Choice::Keep);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match line {
            HEAD | "{" | "}" | "    ];" | "  ];" | "  };" => {}
            "    directories = [" => key = "directory",
            "    files = [" => key = "file",
            THROW_AWAY => choice = Choice::ThrowAway,
            LOOK_INTO => choice = Choice::LookInto,
            _ => {
                if let Some(rest) = line.strip_prefix("  environment.persistence.") {
                    store = string(rest).ok_or(number)?.0;
                    continue;
                }
                let rest = line.trim_start_matches([' ', '#']);
                let found = match choice {
                    Choice::Keep => kept(rest, key, &store),
                    _ => string(rest).and_then(|(path, rest)| {
                        Decision::of_pattern(choice, &path, Origin::read(rest.strip_prefix("  # ")?)?)
                    }),
                };
                record.add(found.ok_or(number)?);
            }
        }
    }
    Ok(record)
}

/// A line of a kept path.
fn kept(line: &str, key: &str, store: &str) -> Option<Decision> {
    let is_set = line.strip_prefix("{ ");
    let (path, mut rest) = match is_set {
        Some(rest) => {
            let (path, rest) = string(rest.strip_prefix(key)?.strip_prefix(" = ")?)?;
            (path, rest.strip_prefix("; ")?)
        }
        None => string(line)?,
    };
    let path = if key == "directory" { line::Path::Directory(path) } else { line::Path::File(path) };
    let mut entry = line::Entry::from(path);
    if is_set.is_some() {
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once(" = ")?;
            let (value, after) = string(after)?;
            let member = match key {
                "user" => &mut entry.user,
                "group" => &mut entry.group,
                "mode" => &mut entry.mode,
                "method" => &mut entry.method,
                _ => return None,
            };
            *member = Some(value);
            rest = after.strip_prefix("; ")?;
        }
        rest = &rest[1..];
    }
    Decision::of_entry(entry, store, Origin::read(rest.strip_prefix("  # kept ")?)?)
}

/// A string of Nix in the form of [`escape::nix`], and the text after the string.
fn string(text: &str) -> Option<(String, &str)> {
    const HIDDEN: &str = r#"${builtins.fromJSON "\""#;
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        if let Some(after) = rest.strip_prefix(HIDDEN) {
            let (escape, after) = after.split_once(r#"\""}"#)?;
            value += &serde_json::from_str::<String>(&format!("\"{}\"", escape.replace(r"\\", r"\"))).ok()?;
            rest = after;
            continue;
        }
        let mut letters = rest.chars();
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => value.push(other),
        }
        rest = letters.as_str();
    }
}

/// The JSON form.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    /// The entries of kept paths, each with its store.
    entries: Vec<line::Entry>,
    /// Every answer; those for kept paths are in the order of `entries`.
    answers: Vec<Answered>,
}

/// One answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    answer: Choice,
    by: String,
    on: String,
    path: String,
    why: String,
}

fn write_json(record: &Record) -> Result<String, Problem> {
    let entry = |it: &Decision| Some(line::Entry { store: Some(it.store.clone()), ..it.entry.clone()? });
    let answer = |it: &Decision| {
        let Origin { on, by, why } = it.origin.clone();
        Answered { answer: it.choice, by, on, path: it.pattern(), why }
    };
    let choices = [Choice::Keep, Choice::ThrowAway, Choice::LookInto];
    let document = Document {
        version: 1,
        entries: record.all(Choice::Keep).filter_map(entry).collect(),
        answers: choices.into_iter().flat_map(|choice| record.all(choice).map(answer)).collect(),
    };
    let value = escape::json_line(&document).and_then(|page| serde_json::from_str(page.as_str()));
    value.map(|value: json::Value| value.to_json()).map_err(|error| Problem::new(error.to_string()))
}

fn read_json(text: &str) -> Result<Record, Problem> {
    let document: Document = serde_json::from_str(text)
        .map_err(|error| unknown(Form::Json, error.line().max(1), &error.to_string()))?;
    let mut record = Record::default();
    let mut entries = document.entries.into_iter();
    for Answered { answer, by, on, path, why } in document.answers {
        let origin = Origin { on, by, why };
        let decision = if answer == Choice::Keep {
            entries.next().and_then(|mut entry| {
                let store = entry.store.take()?;
                Decision::of_entry(entry, &store, origin)
            })
        } else {
            Decision::of_pattern(answer, &path, origin)
        };
        // A skipped answer would be missing in the rewritten text.
        if let Some(decision) = decision {
            record.add(decision);
        }
    }
    Ok(record)
}

/// The difference of two texts, with `-` and `+` before the lines. Both have their lines in the same order.
#[must_use]
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let mut left = std::collections::HashMap::<_, usize>::new();
    new.lines().for_each(|line| *left.entry(line).or_default() += 1);
    let mut lines = Vec::new();
    let mut old = old.lines().peekable();
    for line in new.lines() {
        // A line absent from the rest of the new text was removed.
        while let Some(gone) = old.next_if(|it| *it != line && left.get(it).is_none_or(|count| *count == 0)) {
            lines.push(format!("- {gone}"));
        }
        if old.next_if_eq(&line).is_none() {
            lines.push(format!("+ {line}"));
        }
        left.entry(line).and_modify(|count| *count -= 1);
    }
    lines.extend(old.map(|gone| format!("- {gone}")));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::manifest::AbsPath;

    fn origin(why: &str) -> Origin {
        Origin { on: "2026-11-27".to_owned(), by: "ada".to_owned(), why: why.to_owned() }
    }

    fn keep(record: &mut Record, entry: serde_json::Value, store: &str, why: &str) {
        let entry = serde_json::from_value(entry).unwrap();
        record.add(Decision::of_entry(entry, store, origin(why)).unwrap());
    }

    fn example() -> Record {
        let mut record = Record::default();
        keep(
            &mut record,
            json!({ "directory": "/var/lib/plex", "user": "plex", "mode": "0700" }),
            "/persist",
            "films: all",
        );
        keep(&mut record, json!({ "directory": "/srv/\u{202e}${x} \"\\" }), "/data", "");
        keep(&mut record, json!({ "file": "/etc/a\\*b" }), "/persist", "");
        keep(&mut record, json!({ "file": "/etc/keys/*" }), "/persist", "several");
        for (choice, path) in [(Choice::ThrowAway, "/var/lib/x\\[1]"), (Choice::LookInto, "/srv/y  # z")] {
            record.add(Decision::of_pattern(choice, path, origin("is \"made\" anew")).unwrap());
        }
        record
    }

    #[test]
    fn both_forms_are_read_as_they_are_written() {
        let record = example();
        for form in [Form::Nix, Form::Json] {
            let text = form.write(&record).unwrap();
            assert_eq!(form.read(text.as_bytes()).unwrap(), record, "{text}");
            let nothing = form.write(&Record::default()).unwrap();
            assert_eq!(form.read(nothing.as_bytes()).unwrap(), Record::default(), "{nothing}");
        }
        assert_eq!(
            Form::Nix.write(&record).unwrap(),
            format!(
                "{HEAD}\n{{\n  environment.persistence.\"/data\" = {{\n    directories = [\n      \
                 \"/srv/${{builtins.fromJSON \"\\\"\\\\u202e\\\"\"}}\\${{x}} \\\"\\\\\"  # kept 2026-11-27 by ada\n    ];\n  }};\n  \
                 environment.persistence.\"/persist\" = {{\n    directories = [\n      {{ directory = \"/var/lib/plex\"; user = \"plex\"; \
                 mode = \"0700\"; }}  # kept 2026-11-27 by ada: films: all\n    ];\n    files = [\n      \
                 \"/etc/a\\\\*b\"  # kept 2026-11-27 by ada\n      \"/etc/keys/*\"  # kept 2026-11-27 by ada: several\n    ];\n  }};\n\
                 {THROW_AWAY}\n    \"/var/lib/x\\\\[1]\"  # 2026-11-27 by ada: is \"made\" anew\n  ];\n{LOOK_INTO}\n  #   \
                 \"/srv/y  # z\"  # 2026-11-27 by ada: is \"made\" anew\n}}\n"
            )
        );
    }

    #[test]
    fn nothing_else_is_read() {
        for form in [Form::Nix, Form::Json] {
            let text = form.write(&example()).unwrap();
            let lines: Vec<_> = text.lines().collect();
            for index in 0..lines.len() {
                for strange in ["  services.x.enable = true;", "# a remark", "", "  \"x\": 1,", lines[index]]
                {
                    let mut changed = lines.clone();
                    changed.insert(index, strange);
                    let changed = changed.join("\n") + "\n";
                    let problem = form.read(changed.as_bytes()).unwrap_err();
                    assert!(problem.at.starts_with("line ") && !problem.remedy.is_empty(), "{problem}");
                }
                let changed = text.replacen(lines[index], &format!(" {}", lines[index]), 1);
                form.read(changed.as_bytes()).unwrap_err();
            }
            form.read(format!("{text}x").as_bytes()).unwrap_err();
            form.read(text.replace('\n', "\r\n").as_bytes()).unwrap_err();
            assert!(form.read(b"\n\xff").unwrap_err().at.ends_with('2'));
        }
        let text =
            Form::Nix.write(&example()).unwrap().replace("  };\n", "  };\n  services.x.enable = true;\n");
        let problem = Form::Nix.read(text.as_bytes()).unwrap_err();
        assert_eq!(problem.at, "line 8");
        assert!(problem.what.contains("services.x.enable = true;"), "{problem}");
        // A second time the same path.
        let text = Form::Nix.write(&example()).unwrap();
        let line = text.lines().find(|line| line.contains("/etc/keys")).unwrap();
        let twice = text.replace(line, &format!("{line}\n{line}"));
        Form::Nix.read(twice.as_bytes()).unwrap_err();
    }

    #[test]
    fn a_line_that_is_taken_out_by_hand_is_gone() {
        let text = Form::Nix.write(&example()).unwrap();
        let line = text.lines().find(|line| line.contains("/etc/keys")).unwrap();
        let without = text.replace(&format!("{line}\n"), "");
        assert_eq!(Form::Nix.write(&Form::Nix.read(without.as_bytes()).unwrap()).unwrap(), without);
        assert_eq!(difference(&without, &text), [format!("+ {line}")]);
        assert_eq!(difference(&text, &without), [format!("- {line}")]);
    }

    #[test]
    fn decisions_are_added_and_changed() {
        let mut record = example();
        let before = record.clone();
        // The same again, later and by another user.
        let later = Origin { on: "2027-01-01".to_owned(), by: "bob".to_owned(), why: String::new() };
        record.add(Decision::of_pattern(Choice::ThrowAway, "/var/lib/x\\[1]", later).unwrap());
        assert_eq!(record, before);
        // Another answer takes the place of the first.
        record.add(Decision::of_pattern(Choice::LookInto, "/var/lib/x\\[1]", origin("why?")).unwrap());
        assert_eq!(record.all(Choice::ThrowAway).count(), 0);
        assert_eq!(record.all(Choice::LookInto).count(), 2);
        // All files of a directory differ from one file named `*`.
        let count = record.all(Choice::Keep).count();
        keep(&mut record, json!({ "file": "/etc/keys/\\*" }), "/persist", "");
        assert_eq!(record.all(Choice::Keep).count(), count + 1);
        let path = AbsPath::parse("/var/lib/plex/db").unwrap();
        assert_eq!(record.above(&path, Choice::Keep).unwrap().target.as_str(), "/var/lib/plex");
        assert!(record.above(&path, Choice::ThrowAway).is_none());
    }
}
