//! The lines to keep findings: of the NixOS configuration, and of a manifest.

use super::Finding;
use crate::ctl::line::{Entry, Owner, Path};
use crate::ctl::scan::Subject;
use crate::ctl::scan::show;
use crate::ctl::ui::terminal;
use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind};
use crate::text::escape::{self, Page};

/// The entry of a manifest to keep a finding; none if impossible.
#[must_use]
pub fn entry(finding: &Finding) -> Option<Entry> {
    let path = AbsPath::parse(finding.text()?).ok()?;
    let row = &finding.row;
    // A second line for a path of the manifest would be refused.
    if row.brought || row.unmounted {
        return None;
    }
    let (mut entry, usual) = match row.subject {
        Subject::Directory => (Entry::from(Path::Directory(path.as_str().to_owned())), 0o755),
        Subject::File | Subject::Link => (Entry::from(Path::File(pattern::write(&path, Kind::File))), 0o644),
        // Right at the next boot only if the pattern matches no other files.
        Subject::Files if row.pattern => {
            return Some(Path::File(pattern::write(&path.child("*"), Kind::Glob)).into());
        }
        Subject::Files | Subject::Special => return None,
    };
    let mut mode = row.owner.mode;
    if row.subject == Subject::Link {
        // A mount would be of the link's target. The mode of a link is always the same.
        entry.method = Some("copy".to_owned());
        mode = usual;
    }
    let owner = Owner { user: (row.owner.uid, &finding.user), group: (row.owner.gid, &finding.group), mode };
    Some(entry.owned(&owner, usual))
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
                entry(finding).filter(|entry| entry.path.member().0 == key).map(|entry| (finding, entry))
            })
            .collect();
        if lines.is_empty() {
            continue;
        }
        page.line(format_args!("  {list} = ["));
        for (finding, entry) in lines {
            page.line(format_args!("    {}  # {}", entry.nix(), remark(finding)));
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
