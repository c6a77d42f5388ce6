//! The output of `impctl audit` as text and as JSON.

use serde_json::{Map, Value, json};

use super::judge::{Finding, Judgement};
use crate::ctl::known::{Class, known};
use crate::ctl::lost::belongs;
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

/// All of it as text, with the lines that keep what would be lost: for the configuration of NixOS, or for a manifest.
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
            let line = if nixos { nix(finding) } else { format!("{},", Value::Object(entry(finding))) };
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

/// The entry of a manifest that keeps it, with what differs from the defaults.
fn entry(finding: &Finding) -> Map<String, Value> {
    let mut entry = Map::new();
    let key = if finding.file { "file" } else { "directory" };
    // A row of the table may be a pattern, and no other path is.
    let path = AbsPath::parse(&finding.path).ok().filter(|_| finding.file);
    let path = path.filter(|_| !known().state.contains_key(&finding.path));
    let path = path.map_or_else(|| finding.path.clone(), |path| pattern::write(&path, Kind::File));
    entry.insert(key.to_owned(), json!(path));
    for (key, name) in [("user", &finding.user), ("group", &finding.group)] {
        if let Some(name) = name.as_ref().filter(|name| *name != "root") {
            entry.insert(key.to_owned(), json!(name));
        }
    }
    let usual = if finding.file { "0644" } else { "0755" };
    if let Some(mode) = finding.mode.as_ref().map(|mode| format!("{mode:0>4}")).filter(|mode| mode != usual) {
        entry.insert("mode".to_owned(), json!(mode));
    }
    if let Some(method) = &finding.method {
        entry.insert("method".to_owned(), json!(method));
    }
    if !finding.options.is_empty() {
        entry.insert("options".to_owned(), json!(finding.options));
    }
    entry
}

/// The same as an element of a list in a NixOS configuration.
fn nix(finding: &Finding) -> String {
    let entry = entry(finding);
    let key = if finding.file { "file" } else { "directory" };
    let value = |value: &Value| escape::nix(value.as_str().unwrap_or_default());
    if entry.len() == 1 {
        return value(&entry[key]);
    }
    let mut words = Vec::new();
    for key in [key, "user", "group", "mode", "method"] {
        words.extend(entry.get(key).map(|it| format!("{key} = {};", value(it))));
    }
    if let Some(Value::Array(options)) = entry.get("options") {
        let options: Vec<_> = options.iter().map(value).collect();
        words.push(format!("mountOptions = [ {} ];", options.join(" ")));
    }
    format!("{{ {} }}", words.join(" "))
}

/// All of it as JSON.
pub fn json(found: &Judgement) -> Result<Page, Failure> {
    let fault = |it: &super::faults::Fault| json!({ "at": it.at, "what": it.what, "remedy": it.remedy });
    let lost = |it: &Finding| {
        json!({
            "path": it.path, "kind": if it.file { "file" } else { "directory" }, "class": it.class, "what": it.what,
            "by": it.by, "means": it.means, "entry": entry(it), "nix": nix(it),
        })
    };
    output::json(&json!({
        "version": 1,
        "faults": found.faults.iter().map(fault).collect::<Vec<_>>(),
        "lost": found.lost.iter().map(lost).collect::<Vec<_>>(),
    }))
}
