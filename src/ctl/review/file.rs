//! The two forms of a file of decisions: a module of NixOS, and a piece of a manifest in JSON. A file is accepted only
//! if writing would reproduce the same text, so no text of the file can be lost. The module may have lines written by
//! hand between those of the decisions.

use serde::{Deserialize, Serialize};

use super::hand::Lines;
use super::module::{HEAD, LISTS, LOOK_INTO, STORE, THROW_AWAY, string};
use super::record::{Choice, Decision, Key, Origin, Record};
use crate::ctl::line;
use crate::manifest::{AbsPath, Kind, pattern};
use crate::text::escape;
use crate::text::json;
use crate::text::problem::Problem;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A module of NixOS.
    Nix,
    /// Entries of a manifest, with the answers beside them.
    Json,
}

impl Form {
    /// Decisions as a file has them, with the lines of the old file that were written by hand.
    ///
    /// # Errors
    /// Why they cannot be JSON, or the old file has text that would be lost.
    pub fn rewrite(self, old: &[u8], record: &Record) -> Result<String, Problem> {
        let new = self.write(record)?;
        if self == Self::Json || old.is_empty() {
            return Ok(new);
        }
        self.read(old)?;
        let text = lines(&String::from_utf8_lossy(old)).0.weave(&new);
        match self.read(text.as_bytes()) {
            Ok(again) if again.held == record.held && self.write(&again)? == new => Ok(text),
            _ => Err(Problem::new("the new decisions do not fit between the lines written by hand")
                .remedy("nothing was written; move these lines to a file of their own")),
        }
    }

    /// Decisions as a file without other lines has them.
    fn write(self, record: &Record) -> Result<String, Problem> {
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
        match self {
            Self::Nix => read_nix(text).map_err(|line| unknown(self, line, &shown(text, line))),
            Self::Json => {
                let record = read_json(text)?;
                let again = self.write(&record)?;
                if are_same(&again, text) {
                    return Ok(record);
                }
                let same =
                    text.split('\n').zip(again.split('\n')).take_while(|(old, new)| old == new).count();
                Err(unknown(self, same + 1, &shown(text, same + 1)))
            }
        }
    }
}

/// A line of the file, in quotes.
fn shown(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1);
    line.map_or_else(|| "its end".to_owned(), |line| format!("`{}`", escape::name(line.trim())))
}

fn unknown(form: Form, line: usize, found: &str) -> Problem {
    let option = if form == Form::Nix { "--nix" } else { "--fragment" };
    let what = match form {
        Form::Nix => "the file was not written by impctl review, or is not in its form from here on",
        Form::Json => "impctl review did not write this, or not there",
    };
    Problem::new(format!("{what}: {found}")).at(format!("line {line}")).remedy(format!(
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
        line(&format!("{STORE}{} = {{", escape::nix(store)));
        for (list, key) in LISTS.into_iter().zip(["directory", "file"]) {
            let kept = record.all(Choice::Keep).filter(|it| it.store == store);
            let entries = kept.filter_map(|it| Some((it.entry.as_ref()?, &it.origin)));
            let lines: Vec<_> = entries
                .filter(|(entry, _)| entry.path.member().0 == key)
                .map(|(entry, origin)| format!("      {}  # kept {}", entry.nix(), origin.words()))
                .collect();
            if !lines.is_empty() || record.held.contains(&(store.to_owned(), list.to_owned())) {
                line(list);
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
        if lines.peek().is_none() && !record.held.contains(&(String::new(), begin.to_owned())) {
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

/// The lines of a module, and its decisions.
fn lines(text: &str) -> (Lines<'_>, Record) {
    let mut record = Record::default();
    let mut lines = Lines::of(text, |(store, list), line| {
        let rest = line.trim_start_matches([' ', '#']);
        let found = match list.as_str() {
            THROW_AWAY => dropped(Choice::ThrowAway, rest),
            LOOK_INTO => dropped(Choice::LookInto, rest),
            _ => LISTS
                .iter()
                .position(|begin| begin == list)
                .and_then(|at| kept(rest, ["directory", "file"][at], store)),
        };
        found.map(|decision| record.add(decision)).is_some()
    });
    lines.drop_empty();
    record.held = std::mem::take(&mut lines.held);
    record.by_hand = std::mem::take(&mut lines.kept);
    (lines, record)
}

/// Reads the output of [`write_nix`] with lines written by hand, or returns the first line with other text.
fn read_nix(text: &str) -> Result<Record, usize> {
    let (lines, record) = lines(text);
    if text.split('\n').next() != Some(HEAD) {
        return Err(1);
    }
    let again = write_nix(&record);
    let mut again = again.lines();
    for (number, _, line) in &lines.own {
        if again.next() != Some(*line) {
            return Err(*number);
        }
    }
    match lines.broken() {
        _ if again.next().is_some() => Err(text.lines().count() + 1),
        Some(number) => Err(number),
        None => Ok(record),
    }
}

/// A line of a path that is not kept.
fn dropped(choice: Choice, line: &str) -> Option<Decision> {
    let (path, rest) = string(line)?;
    Decision::of_pattern(choice, &path, Origin::read(rest.strip_prefix("  # ")?)?)
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

/// The JSON form.
#[derive(Debug, Serialize, Deserialize)]
struct Document<E> {
    version: u32,
    /// The entries of kept paths, each with its store, and those written by hand.
    entries: Vec<E>,
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
    let mut value: json::Value = value.map_err(|error| Problem::new(error.to_string()))?;
    if let Some(entries) = entries(&mut value) {
        entries.extend_from_slice(&record.entries_by_hand);
        entries.sort_by_key(path);
    }
    Ok(value.to_json())
}

/// The entries of a document.
fn entries(document: &mut json::Value) -> Option<&mut Vec<json::Value>> {
    let json::Value::Object(members) = document else { return None };
    members.iter_mut().find_map(|(key, value)| match value {
        json::Value::List(entries) if key == "entries" => Some(entries),
        _ => None,
    })
}

/// The path of an entry.
fn path(entry: &json::Value) -> Option<Key> {
    let json::Value::Object(members) = entry else { return None };
    let path = members.iter().find(|(key, _)| key == "directory" || key == "file");
    let (key, json::Value::Text(path)) = path? else { return None };
    if key == "directory" {
        return Some((AbsPath::parse(path).ok()?, false));
    }
    let (path, kind) = pattern::read(path).ok()?;
    Some((path, kind == Kind::Glob))
}

/// True if two documents differ in the form of their text, and the order of their keys and entries, alone.
fn are_same(one: &str, other: &str) -> bool {
    fn sort(value: &mut json::Value) {
        match value {
            json::Value::List(values) => values.iter_mut().for_each(sort),
            json::Value::Object(members) => {
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                for (_, value) in members {
                    sort(value);
                }
            }
            _ => {}
        }
    }
    let sorted = |text: &str| {
        let mut value: json::Value = serde_json::from_str(text).ok()?;
        entries(&mut value)?.sort_by_key(path);
        sort(&mut value);
        Some(value)
    };
    sorted(one).is_some_and(|one| Some(one) == sorted(other))
}

fn read_json(text: &str) -> Result<Record, Problem> {
    let unknown = |error: serde_json::Error| unknown(Form::Json, error.line().max(1), &error.to_string());
    let document: Document<json::Value> = serde_json::from_str(text).map_err(unknown)?;
    let mut record = Record::default();
    record.entries_by_hand = document.entries;
    for Answered { answer, by, on, path: pattern, why } in document.answers {
        let origin = Origin { on, by, why };
        let decision = if answer == Choice::Keep {
            let kept = Decision::of_pattern(answer, &pattern, Origin::default()).map(|it| it.key());
            let entries = &mut record.entries_by_hand;
            entries.iter().position(|entry| kept.is_some() && path(entry) == kept).and_then(|at| {
                let mut entry: line::Entry = serde_json::from_str(&entries.remove(at).to_json()).ok()?;
                let store = entry.store.take()?;
                Decision::of_entry(entry, &store, origin)
            })
        } else {
            Decision::of_pattern(answer, &pattern, origin)
        };
        // A skipped answer would be missing in the rewritten text.
        if let Some(decision) = decision {
            record.add(decision);
        }
    }
    // An entry without a path, or with the path of an answer, is none by hand.
    let by_hand: Vec<_> = record.entries_by_hand.iter().map(path).collect();
    if by_hand.iter().any(|key| key.as_ref().is_none_or(|(path, is_glob)| is_kept(&record, path, *is_glob))) {
        record.entries_by_hand.clear();
    }
    record.by_hand = by_hand.into_iter().flatten().collect();
    Ok(record)
}

fn is_kept(record: &Record, path: &AbsPath, is_glob: bool) -> bool {
    record.of(path, is_glob).is_some_and(|it| it.choice == Choice::Keep)
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
mod tests;
