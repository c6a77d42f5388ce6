//! The lines that keep what was found: of the NixOS configuration, and of a manifest.

use serde_json::{Map, Value, json};

use super::Finding;
use crate::ctl::line::{self, Owner};
use crate::ctl::scan::Subject;
use crate::ctl::scan::show;
use crate::ctl::ui::terminal;
use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind};
use crate::text::escape::{self, Page};

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
    // The mode of a link is always the same.
    let mode = if row.subject == Subject::Link { usual } else { row.owner.mode };
    let owner = Owner { user: (row.owner.uid, &finding.user), group: (row.owner.gid, &finding.group), mode };
    line::own(&mut entry, &owner, usual);
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
            page.line(format_args!("    {}  # {}", line::item(&entry, key), remark(finding)));
        }
        page.line("  ];");
    }
    page.line("};");
    for finding in findings.iter().filter(|finding| !finding.row.unmounted && entry(finding).is_none()) {
        let row = &finding.row;
        if row.subject == Subject::Files {
            let (files, path) = (terminal::count(row.totals.files, "file"), show::path(row));
            page.line(format_args!(
                "# no line can keep {path} ({files}), and nothing else: name them one by one"
            ));
        } else {
            page.line(format_args!("# no line can keep {}", escape::name(&row.path)));
        }
    }
    page
}

fn remark(finding: &Finding) -> String {
    let size = terminal::size(finding.row.totals.allocated);
    let words = finding.words().into_iter();
    std::iter::once(size).chain(words).collect::<Vec<_>>().join(", ")
}
