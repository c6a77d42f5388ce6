//! The output of `impctl audit` as text and as JSON.

use std::collections::BTreeSet;

use serde::Serialize;

use super::faults::Fault;
use super::judge::{Finding, Judgement, Means};
use crate::ctl::built::belongs;
use crate::ctl::known::{Class, known};
use crate::ctl::line::{Entry, Path};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{ALERT, FAINT, HEADING, count, styled};
use crate::manifest::{AbsPath, Kind, pattern};
use crate::text::escape::{self, Page};

/// So many lines of history and comfort are printed unless all are asked for.
const COMFORT: usize = 10;

const PARTS: [(&str, &[Class]); 3] = [
    ("Data, keys and ways in:", &[Class::Key, Class::Data]),
    ("What this machine and others know each other by:", &[Class::Identity]),
    ("History and comfort:", &[Class::History, Class::Comfort]),
];

/// The result as text, with lines to keep the lost paths: for the configuration of NixOS, or for a manifest.
#[must_use]
pub fn text(found: &Judgement, store: &str, nixos: bool, all: bool) -> Page {
    let mut page = Page::default();
    if !found.faults.is_empty() {
        page.append(&styled(HEADING, "Cannot work:"));
        for fault in &found.faults {
            let at = escape::name(&fault.at);
            page.append(&styled(ALERT, &format!("  {at}: {}; {}", fault.what, fault.remedy)));
        }
    }
    for (title, classes) in PARTS {
        let part: Vec<_> = found.lost.iter().filter(|finding| classes.contains(&finding.class)).collect();
        if part.is_empty() {
            continue;
        }
        page.append(&styled(HEADING, title));
        let most = if all || !classes.contains(&Class::Comfort) { part.len() } else { COMFORT };
        lines(&mut page, &part[..most.min(part.len())], store, nixos);
        if part.len() > most {
            let more = count((part.len() - most) as u64, "more path");
            page.append(&styled(FAINT, &format!("  and {more}; --all names them")));
        }
    }
    let places = found.lost.len() as u64;
    if places > 0 {
        page.line(format_args!("A boot would lose {}. A line above keeps each.", count(places, "path")));
    } else if found.faults.is_empty() {
        page.line("As far as can be seen, a boot would lose nothing.");
    }
    page
}

fn lines(page: &mut Page, part: &[&Finding], store: &str, nixos: bool) {
    for (list, file) in [("directories", false), ("files", true)] {
        let rows: Vec<_> = part.iter().filter(|finding| finding.file == file).collect();
        if rows.is_empty() {
            continue;
        }
        if nixos {
            page.line(format_args!("  environment.persistence.{}.{list} = [", escape::nix(store)));
        }
        for finding in rows {
            let entry = entry(finding);
            let line = if nixos { entry.nix() } else { format!("{entry},") };
            page.line(format_args!("    {line}  # {}", remark(finding)));
        }
        if nixos {
            page.line("  ];");
        }
    }
}

/// The meaning of a path, and its source.
fn remark(finding: &Finding) -> String {
    let by: Vec<_> = finding.by.iter().cloned().collect();
    let what = Some(escape::name(&finding.what).into_owned()).filter(|what| !what.is_empty());
    what.into_iter().chain(belongs::shorten(&by)).collect::<Vec<_>>().join(", ")
}

/// The entry of a manifest to keep the path.
fn entry(finding: &Finding) -> Entry {
    // A row of the table may be a pattern, and no other path is.
    let path = AbsPath::parse(&finding.path).ok().filter(|_| finding.file);
    let path = path.filter(|_| !known().state.contains_key(&finding.path));
    let path = path.map_or_else(|| finding.path.clone(), |path| pattern::write(&path, Kind::File));
    let (path, usual) =
        if finding.file { (Path::File(path), "0644") } else { (Path::Directory(path), "0755") };
    let name = |name: &Option<String>| name.clone().filter(|name| name != "root");
    Entry {
        user: name(&finding.user),
        group: name(&finding.group),
        mode: finding.mode.as_ref().map(|mode| format!("{mode:0>4}")).filter(|mode| mode != usual),
        method: finding.method.clone(),
        options: finding.options.clone(),
        ..path.into()
    }
}

/// The findings of an audit of a built system.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Settings that cannot work. The exit status is 0 if and only if this and `lost` are empty.
    faults: &'a [Fault],
    /// Paths lost at a boot, the gravest first.
    lost: Vec<Lost<'a>>,
}

/// A directory with its content, or a file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Lost<'a> {
    /// The absolute path; a row of the table of known paths may be a pattern.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    path: &'a str,
    /// Its type.
    kind: Type,
    /// Importance of the path.
    class: Class,
    /// Its description; empty where unknown.
    what: &'a str,
    /// Units and files of the system with this path.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    by: &'a BTreeSet<String>,
    /// The sources of the finding.
    #[cfg_attr(test, schemars(length(min = 1)))]
    means: &'a BTreeSet<Means>,
    /// The entry of a manifest to keep the path.
    entry: Entry,
    /// The same as an element of a list in a NixOS configuration.
    #[cfg_attr(test, schemars(length(min = 1)))]
    nix: String,
}

/// Type of a path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Type {
    /// A directory.
    Directory,
    /// A file.
    File,
}

impl<'a> Lost<'a> {
    fn new(finding: &'a Finding) -> Self {
        let entry = entry(finding);
        Self {
            path: &finding.path,
            kind: if finding.file { Type::File } else { Type::Directory },
            class: finding.class,
            what: &finding.what,
            by: &finding.by,
            means: &finding.means,
            nix: entry.nix(),
            entry,
        }
    }
}

/// The findings as JSON.
pub fn json(found: &Judgement) -> Result<Page, Failure> {
    let lost = found.lost.iter().map(Lost::new).collect();
    output::json(&Document { version: 1, faults: &found.faults, lost })
}
