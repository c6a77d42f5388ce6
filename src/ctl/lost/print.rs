//! Text and JSON output of `impctl lost`.

use std::borrow::Cow;

use serde::Serialize;

use super::{Finding, Findings, nix};
use crate::ctl::line::Entry;
use crate::ctl::recover::gone::Gone;
use crate::ctl::scan::show::{self, COLUMNS, Listed, Unread};
use crate::ctl::scan::{Row, Subject, Totals};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal::{ALERT, FAINT, HEADING, Table, count, number, size, step, styled};
use crate::manifest::AbsPath;
use crate::text::escape::{self, Page};

/// So many paths of the last root are named.
const GONE: usize = 20;

/// The findings as text for a terminal of so many columns. Times are told from `now`, in seconds since 1970.
#[must_use]
pub fn text(findings: &Findings, now: i64, width: Option<usize>) -> Page {
    let mut page = Page::default();
    for (title, list) in [
        ("BROUGHT AT SHUTDOWN", &findings.brought),
        ("WOULD BE GONE", &findings.lost),
        ("THROW-AWAY", &findings.throw_away),
    ] {
        if !list.is_empty() {
            page.append(&table(title, list, now).render(width));
            page.line("");
        }
    }
    let (seen, path) = (&findings.seen, &findings.path);
    let places = findings.lost.len() as u64;
    if !seen.elsewhere.is_empty() {
        page = Page::default();
        page.line(format_args!("{path}: not listed, as {}", seen.elsewhere));
        return page;
    }
    if places > 0 {
        let sum = format!("{} in {}", size(findings.totals.allocated), count(findings.totals.files, "file"));
        let line = format!("{sum} would be gone after the next boot, in {}.", count(places, "place"));
        page.append(&styled(HEADING, &line));
    } else if path.is_root() {
        page.line("Nothing would be gone after the next boot.".to_owned());
    } else {
        page.line(format_args!("Nothing of {path} would be gone after the next boot."));
    }
    if !findings.brought.is_empty() {
        let files = findings.brought.iter().map(|finding| finding.row.totals.files).sum();
        let line = format!(
            "{} brings {} to a store at shutdown.",
            crate::mount::write_back::UNIT,
            count(files, "more file")
        );
        page.append(&styled(FAINT, &line));
    }
    if seen.passed_over > 0 {
        let places = count(seen.passed_over, "throw-away path");
        page.append(&styled(FAINT, &format!("Left out: {places} by definition; --all shows them.")));
    }
    if !findings.manifest {
        page.line("There is no manifest, so nothing is persisted yet.");
    } else if let Some(store) = findings.convert.as_ref().filter(|_| !findings.built) {
        page.line(format_args!(
            "No byte of it is removed: the disk becomes the store {store}, and all of it is there."
        ));
    }
    for line in show::unread(seen) {
        page.append(&styled(ALERT, &line));
    }
    let unmounted = |directory: bool| {
        let is_it = |row: &Row| row.unmounted && directory == (row.subject == Subject::Directory);
        findings.lost.iter().any(|finding| is_it(&finding.row))
    };
    if unmounted(true) {
        page.append(&step("run imp-mount --check: what the manifest names is not mounted", width));
    }
    if unmounted(false) {
        page.append(&step(
            "run imp-mount --check: nothing brings files that the manifest names to a store",
            width,
        ));
    }
    if places > 0 {
        let how = if findings.nixos {
            "what must stay: impctl lost --nix prints the lines that keep it"
        } else {
            "what must stay: impctl review --fragment FILE makes entries of a manifest that keep it"
        };
        page.append(&step(how, width));
    }
    if let Some(gone) = &findings.gone {
        page.line("");
        let places = count(gone.paths.len() as u64, "place");
        page.line(format_args!(
            "This root lacks what the last one had, which is kept as root {}, in {places}:",
            gone.root
        ));
        for one in gone.paths.iter().take(GONE) {
            let why = one.left_out.as_ref();
            let why =
                why.map_or_else(String::new, |why| format!(": saving left it out: {}", escape::name(why)));
            page.line(format_args!("  {} ({}){why}", escape::name(one.path.as_str()), size(one.bytes)));
        }
        if gone.paths.len() > GONE {
            page.line(format_args!(
                "  and {} more: --json names them all",
                number((gone.paths.len() - GONE) as u64)
            ));
        }
        if let Some(command) = gone.command() {
            page.line(format_args!("-> what is missed: {command}"));
        }
    }
    page
}

fn table(title: &'static str, list: &[Finding], now: i64) -> Table {
    let mut table = Table::new(&COLUMNS, title);
    for finding in list {
        let mut remarks = finding.words();
        if finding.row.unmounted {
            let is_directory = finding.row.subject == Subject::Directory;
            let what = if is_directory { "NOT MOUNTED" } else { "ON THE ROOT ONLY" };
            remarks.insert(0, format!("in the manifest, but {what}"));
        }
        if finding.row.partly {
            remarks.push("except persistent paths in it".to_owned());
        }
        table.row(
            show::cells(&finding.row, show::owner(&finding.row, &finding.user, &finding.group), now),
            show::path(&finding.row),
            remarks.join(", "),
        );
    }
    table
}

/// Paths of the root removed by the next boot. Sizes are in bytes, times in seconds since 1970; paths are those of the
/// scanned root.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'f> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// Path of the root, seen from the command.
    root: Cow<'f, str>,
    /// The scanned path: `/` by default.
    path: &'f AbsPath,
    /// The reason for not scanning a given path; empty otherwise.
    elsewhere: &'f str,
    /// True if the next boot empties the root in any case: then an entry counts only if mounted.
    volatile: bool,
    /// True if there is a manifest.
    manifest: bool,
    /// The store made from the disk of the root by the manifest; empty without a conversion.
    convert: &'f str,
    /// Paths removed by the next boot, the largest first. The exit status is 0 if and only if this is empty and
    /// `unread_count` is 0.
    lost: Vec<Lost<'f>>,
    /// Files of the manifest only on a root in memory, until copied to a store at shutdown by imp-mount-adopt.service.
    brought: Vec<Lost<'f>>,
    /// With `--all`: disposable paths.
    throw_away: Vec<Lost<'f>>,
    /// The sum of `lost`.
    totals: Totals,
    /// Number of disposable paths left out; not all of their content was scanned.
    passed_over: u64,
    /// Paths that could not be read; the first thousand.
    unread: Vec<Unread<'f>>,
    /// Number of these.
    unread_count: u64,
    /// Paths of the last root missing on this one; null without a record of an old root, or without such a path.
    gone: Option<&'f Gone>,
}

/// A directory with its lost content, or files.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Lost<'f> {
    #[serde(flatten)]
    listed: Listed<'f>,
    /// Its description; empty where unknown.
    what: &'f str,
    /// Units, files of tmpfiles.d, or packages.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    belongs_to: &'f [String],
    /// True if a path inside persists, not counted here.
    partly: bool,
    /// True for a path of the manifest, if a directory is not mounted, or a file is on no store and no service copies
    /// the file there.
    unmounted: bool,
    /// The entry of a manifest to keep the path; null if none would keep exactly this path.
    entry: Option<Entry>,
}

impl<'f> Lost<'f> {
    fn new(finding: &'f Finding) -> Self {
        Self {
            listed: Listed::new(&finding.row, &finding.user, &finding.group),
            what: finding.what,
            belongs_to: &finding.belongs,
            partly: finding.row.partly,
            unmounted: finding.row.unmounted,
            entry: nix::entry(finding),
        }
    }
}

/// The findings as JSON.
pub fn json(findings: &Findings) -> Result<Page, Failure> {
    let list = |list| <[Finding]>::iter(list).map(Lost::new).collect();
    output::json(&Document {
        version: 1,
        root: findings.root.to_string_lossy(),
        path: &findings.path,
        elsewhere: &findings.seen.elsewhere,
        volatile: findings.built,
        manifest: findings.manifest,
        convert: findings.convert.as_ref().map_or("", AbsPath::as_str),
        lost: list(&findings.lost),
        brought: list(&findings.brought),
        throw_away: list(&findings.throw_away),
        totals: findings.totals,
        passed_over: findings.seen.passed_over,
        unread: Unread::of(&findings.seen),
        unread_count: findings.seen.unread_count,
        gone: findings.gone.as_ref(),
    })
}
