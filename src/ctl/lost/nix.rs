//! The lines that keep what was found: of the NixOS configuration, and of a manifest.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::Finding;
use crate::ctl::scan::Subject;
use crate::ctl::terminal;
use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind, mode};

/// Where systemd takes the users from that exist only while a service runs.
pub const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The entry of a manifest that keeps something; none where none can.
#[must_use]
pub fn entry(finding: &Finding) -> Option<Map<String, Value>> {
    let path = AbsPath::parse(finding.text()?).ok()?;
    let row = &finding.row;
    let mut entry = Map::new();
    let usual = match row.subject {
        Subject::Directory => {
            entry.insert("directory".to_owned(), json!(path.as_str()));
            0o755
        }
        Subject::File | Subject::Link => {
            entry.insert("file".to_owned(), json!(pattern::write(&path, Kind::File)));
            if row.subject == Subject::Link {
                // A mount would be of what it points to.
                entry.insert("method".to_owned(), json!("copy"));
            }
            0o644
        }
        Subject::Files => {
            entry.insert("file".to_owned(), json!(pattern::write(&path.child("*"), Kind::Glob)));
            return Some(entry);
        }
        Subject::Special => return None,
    };
    if !DYNAMIC.contains(&row.owner.uid) {
        for (key, name) in [("user", &finding.user), ("group", &finding.group)] {
            if name != "root" {
                entry.insert(key.to_owned(), json!(name));
            }
        }
    }
    if row.owner.mode != usual && row.subject != Subject::Link {
        entry.insert("mode".to_owned(), json!(mode::show(row.owner.mode)));
    }
    Some(entry)
}

/// What to write in the NixOS configuration, the largest first.
#[must_use]
pub fn text(findings: &[Finding], store: &str) -> String {
    let mut text = format!("environment.persistence.{} = {{\n", string(store));
    for (list, key) in [("directories", "directory"), ("files", "file")] {
        let lines: Vec<_> = findings
            .iter()
            .filter_map(|finding| {
                entry(finding).filter(|entry| entry.contains_key(key)).map(|entry| (finding, entry))
            })
            .collect();
        if lines.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {list} = [");
        for (finding, entry) in lines {
            let _ = writeln!(text, "    {}  # {}", line(&entry, key), remark(finding));
        }
        text.push_str("  ];\n");
    }
    text.push_str("};\n");
    for finding in findings.iter().filter(|finding| entry(finding).is_none()) {
        let _ = writeln!(text, "# no line can keep {}", terminal::name(&finding.row.path));
    }
    text
}

/// An entry as an element of a list in a NixOS configuration; `key` is the one that names its path.
#[must_use]
pub fn line(entry: &Map<String, Value>, key: &str) -> String {
    let value = |value: &Value| string(value.as_str().unwrap_or_default());
    if entry.len() == 1 {
        return value(&entry[key]);
    }
    let said = |key: &str| entry.get(key).map(|it| format!("{key} = {};", value(it)));
    let keys = [key, "user", "group", "mode", "method"];
    format!("{{ {} }}", keys.into_iter().filter_map(said).collect::<Vec<_>>().join(" "))
}

fn remark(finding: &Finding) -> String {
    let size = terminal::size(finding.row.totals.allocated);
    let words = finding.words().into_iter();
    std::iter::once(size).chain(words).collect::<Vec<_>>().join(", ")
}

/// A string as Nix reads it.
#[must_use]
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Nix has no other way to write it.
            _ if terminal::is_hidden(letter) => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "${{builtins.fromJSON \"\\\"\\\\u{:04x}\\\"\"}}", u32::from(letter));
            }
            '$' if letters.peek() == Some(&'{') => quoted.push_str("\\$"),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_nix() {
        assert_eq!(string("\x1b"), r#""${builtins.fromJSON "\"\\u001b\""}""#);
        assert_eq!(string("a\"b\\c\n$d ${e}"), "\"a\\\"b\\\\c\\n$d \\${e}\"");
    }
}
