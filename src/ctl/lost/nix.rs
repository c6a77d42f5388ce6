//! The lines that keep what was found: of the NixOS configuration, and of a manifest.

use serde_json::{Map, Value, json};

use super::{Finding, print};
use crate::ctl::scan::Subject;
use crate::ctl::ui::terminal;
use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind, mode};
use crate::text::escape::{self, Page};

/// Ids of systemd's dynamic users.
pub const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The entry of a manifest that keeps something; none where none can.
#[must_use]
pub fn entry(finding: &Finding) -> Option<Map<String, Value>> {
    let path = AbsPath::parse(finding.text()?).ok()?;
    let row = &finding.row;
    // A second line for a path that the manifest names would be refused.
    if row.brought || row.unmounted {
        return None;
    }
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
        // The same at the next boot only where it matches nothing else.
        Subject::Files if row.pattern => {
            entry.insert("file".to_owned(), json!(pattern::write(&path.child("*"), Kind::Glob)));
            return Some(entry);
        }
        Subject::Files | Subject::Special => return None,
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

/// Lines for the NixOS configuration, the largest path first.
#[must_use]
pub fn text(findings: &[Finding], store: &str) -> Page {
    let mut page = Page::default();
    page.line(format_args!("environment.persistence.{} = {{", escape::nix(store)));
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
        page.line(format_args!("  {list} = ["));
        for (finding, entry) in lines {
            page.line(format_args!("    {}  # {}", line(&entry, key), remark(finding)));
        }
        page.line("  ];");
    }
    page.line("};");
    for finding in findings.iter().filter(|finding| !finding.row.unmounted && entry(finding).is_none()) {
        let row = &finding.row;
        if row.subject == Subject::Files {
            let (files, path) = (terminal::count(row.totals.files, "file"), print::path(row));
            page.line(format_args!(
                "# no line can keep {path} ({files}), and nothing else: name them one by one"
            ));
        } else {
            page.line(format_args!("# no line can keep {}", escape::name(&row.path)));
        }
    }
    page
}

/// An entry as an element of a list in a NixOS configuration; `key` is the one that names its path.
#[must_use]
pub fn line(entry: &Map<String, Value>, key: &str) -> String {
    let value = |value: &Value| escape::nix(value.as_str().unwrap_or_default());
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
