//! `impctl lost`: paths of the root removed by the next boot.

mod html;
pub mod nix;
pub mod print;
pub mod stored;
pub mod throw_away;

use clap::{Args, ValueHint};
use std::path::{Path, PathBuf};

use super::built::belongs::{self, Belongs};
use super::known::known;
use super::recover::gone::Gone;
use super::scan::rules::{Rule, Rules};
use super::scan::show;
use super::scan::{Fate, Named, ON_MAP, Row, SINGLES, Scan, Seen, Totals};
use super::system::{System, outlives_a_boot};
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal;
use crate::manifest::path::PRIVATE;
use crate::manifest::{AbsPath, Kind, Manifest};
use crate::mount::fresh::is_tree;
use crate::runtime::report::{Report, State};
use crate::sys::mountinfo;
use crate::text::escape;
use crate::text::problem::Problem;
#[cfg(test)]
pub use print::Document;
use stored::StoredFiles;

/// So many single files of one directory get a line each in a configuration.
const LINES: usize = 10_000;
/// Targets of links of every boot.
pub const SYSTEM_LINKS: [&str; 6] = ["/nix/store/", "/etc/static", "/proc/", "/run/", "/sys/", "/dev/"];

/// Links at the top, created by systemd on a root with /usr and without them, and their targets.
const USR_LINKS: ([&str; 4], [&[u8]; 4]) =
    (["bin", "lib", "lib64", "sbin"], [b"usr/bin", b"usr/lib", b"usr/lib64", b"usr/sbin"]);

/// List paths on the root that the next boot would remove
///
/// Searches the root's own file system, and no mount below. Persistent paths are left out (entries of the manifest,
/// its stores, other file systems), and so are files of the system (links into the Nix store, files of NixOS in /etc),
/// and disposable paths: caches, /tmp and the like, sockets, and empty lock files.
///
/// With old roots, paths of the last root missing on this one are listed, too: `impctl recover` brings them back.
///
/// A directory without persistent paths is listed as a whole. Sizes are those on the disk or in memory, as by du(1);
/// a file with several names counts once.
///
/// On a root in memory an entry counts only if mounted. On a machine not yet converted the manifest tells the paths
/// to keep; without a manifest there are none.
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub struct Options {
    #[command(flatten)]
    scope: Scope,
    /// List disposable paths, too
    #[arg(long)]
    all: bool,
    /// Print the lines for a NixOS configuration to keep the paths
    #[arg(long, conflicts_with = "json")]
    nix: bool,
    /// The store of these lines [default: the first of the manifest, or /persist]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath, requires = "nix")]
    store: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser: a map by size of persistent, lost and disposable paths, and of paths without an
    /// entry
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["json", "nix", "path", "all"])]
    html: Option<PathBuf>,
}

/// The system, and the part to search.
#[derive(Debug, Args)]
pub struct Scope {
    /// Scan only this path of the system
    path: Option<PathBuf>,
    /// The root to look at, of this system or of another
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    pub root: PathBuf,
    /// The manifest, compiled or as JSON [default: /etc/imp-mount/manifest in the root, if there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,
    /// A further disposable path or name, or a pattern of them; with `!` in front, one to keep
    #[arg(long, value_name = "PATTERN", value_hint = ValueHint::AnyPath)]
    throw_away: Vec<String>,
    /// A file of such patterns, one a line [default: /etc/imp-mount/throw-away in the root, if there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    throw_away_from: Option<PathBuf>,
}

impl Scope {
    /// A whole root, with its own lists of disposable paths.
    pub fn all(root: &Path) -> Self {
        let (root, manifest) = (root.to_owned(), None);
        Self { path: None, root, manifest, throw_away: Vec::new(), throw_away_from: None }
    }

    /// The requested path of the system.
    pub fn path(&self, system: &System) -> Result<AbsPath, Failure> {
        wanted(self.path.as_deref(), system)
    }
}

/// The extent of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    /// True to list disposable paths, too.
    pub all: bool,
    /// True where single files of one directory get a line each, up to [`LINES`].
    pub lines: bool,
    /// True to list kept paths of the root and parts of everything, too.
    pub map: bool,
}

const MORE: &str = "\
Examples:
  # What would this system lose?
  impctl lost
  # The same of one directory
  impctl lost /var/lib
  # The lines that would keep it
  impctl lost --nix
  # A page with a map of everything, for a browser
  impctl lost --html lost.html
  # What would another system lose if it booted with this manifest?
  impctl lost --root /mnt --manifest manifest.json
  # Without what one need not keep, but with one of the caches
  impctl lost --throw-away /var/log --throw-away '!/var/cache/big'

Files:
  /etc/imp-mount/manifest    what persists
  /etc/imp-mount/throw-away  what is throw-away besides, a pattern a line

Exit status: 0 nothing would be lost; 1 something would, or could not be looked at; 2 it could not run";

/// A path removed by the next boot.
#[derive(Debug)]
pub struct Finding {
    /// Findings.
    pub row: Row,
    /// Its user: a name, or a number without one.
    pub user: String,
    /// Its group.
    pub group: String,
    /// Units, files of tmpfiles.d, or packages.
    pub belongs: Vec<String>,
    /// Its description; empty if unknown.
    pub what: &'static str,
}

impl Finding {
    /// Short description and owner.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let what = Some(self.what.to_owned()).filter(|what| !what.is_empty());
        what.into_iter().chain(belongs::shorten(&self.belongs)).collect()
    }

    /// Its path; none if not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.row.path).ok()
    }
}

/// All findings.
#[derive(Debug)]
pub struct Findings {
    /// The root, seen from here.
    pub root: PathBuf,
    /// Scope of the search.
    pub path: AbsPath,
    /// True for the root of a NixOS.
    pub nixos: bool,
    /// True if the next boot empties the root.
    pub built: bool,
    /// True if there is a manifest, and the store of its conversion.
    pub manifest: bool,
    pub convert: Option<AbsPath>,
    /// The largest first.
    pub lost: Vec<Finding>,
    /// On a map: kept paths of the root itself.
    pub kept: Vec<Finding>,
    /// On a map: parts of everything.
    pub parts: Vec<Finding>,
    /// Files copied to a store at shutdown by imp-mount-adopt.service.
    pub brought: Vec<Finding>,
    /// The requested path.
    pub throw_away: Vec<Finding>,
    /// The sum of the lost paths.
    pub totals: Totals,
    /// Unreadable paths, and other warnings.
    pub seen: Seen,
    /// Paths of the last root missing on this one.
    pub gone: Option<Gone>,
}

/// Scans, and prints the findings.
pub fn run(options: &Options) -> Result<(), Failure> {
    let system = System::open(&options.scope.root)?;
    let manifest = system.manifest(options.scope.manifest.as_deref())?;
    if let Some(file) = &options.html {
        return html::run(file, &options.scope, &system, manifest.as_ref());
    }
    let path = options.scope.path(&system)?;
    let detail = Detail { all: options.all, lines: options.nix, map: false };
    let findings = look(path, &options.scope, detail, &system, manifest.as_ref())?;
    if options.json {
        output::print(&print::json(&findings)?)?;
    } else if options.nix {
        let first = manifest.as_ref().and_then(|manifest| manifest.stores.first());
        let store = options.store.as_deref().or(first.map(|store| store.path.as_str()));
        output::print(&nix::text(&findings.lost, store.unwrap_or("/persist")))?;
        for finding in findings.lost.iter().filter(|finding| finding.row.unmounted) {
            let path = escape::name(&finding.row.path);
            output::complain(&format!(
                "in the manifest, but on the root only: {path}; see imp-mount --check"
            ));
        }
        for line in show::unread(&findings.seen) {
            output::complain(&line);
        }
    } else {
        terminal::print(&print::text(&findings, terminal::now(), terminal::width()))?;
    }
    if findings.lost.is_empty() && findings.seen.unread_count == 0 { Ok(()) } else { Err(Failure::Found) }
}

/// Scans a path with its content.
pub fn look(
    path: AbsPath,
    scope: &Scope,
    detail: Detail,
    system: &System,
    manifest: Option<&Manifest>,
) -> Result<Findings, Failure> {
    let root = mountinfo::of(system.root()).map_err(Failure::Unable)?;
    let report =
        if system.is_running() { Report::read().map_err(Failure::Unable)? } else { Report::default() };
    // The root may be a disk, emptied at every boot.
    let is_mounted = report.entries.iter().any(|entry| entry.state == State::Mounted);
    let built = !outlives_a_boot(&root.fstype) || is_tree(&root.root) || is_mounted;
    let rules = rules(system, manifest, scope, built)?;
    let stored = manifest.map(|manifest| StoredFiles::new(system, manifest, &report, built));
    let named = |found: &Named<'_>| stored.as_ref().map_or(Fate::Unkept, |stored| stored.fate(found));
    let scan = Scan {
        root: system.root(),
        prefix: "",
        rules: &rules,
        all: detail.all,
        built,
        singles: if detail.lines { LINES } else { SINGLES },
        locks: true,
        system_links: &SYSTEM_LINKS,
        kept: !built && detail.map,
        parts: if detail.map { ON_MAP } else { 0 },
        until: None,
        named: &named,
    };
    let mut seen = scan.run(&path).map_err(Failure::Unable)?;
    let gone = match manifest.filter(|_| path.is_root()) {
        Some(manifest) => Gone::find(system, manifest, &rules).map_err(Failure::Unable)?,
        None => None,
    };
    let mut rows = std::mem::take(&mut seen.rows);
    rows.sort_by(|a, b| (b.totals.allocated, &a.path).cmp(&(a.totals.allocated, &b.path)));
    seen.unread.sort();
    let mut totals = Totals::default();
    let is_lost = |row: &&Row| !row.throw_away && !row.brought && !row.kept;
    rows.iter().filter(is_lost).for_each(|row| totals.add(&row.totals));
    let parts = describe(std::mem::take(&mut seen.parts), system, "");
    let (kept, rest): (Vec<_>, Vec<_>) =
        describe(rows, system, "").into_iter().partition(|finding| finding.row.kept);
    let (brought, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|finding| finding.row.brought);
    let (throw_away, lost) = rest.into_iter().partition(|finding| finding.row.throw_away);
    Ok(Findings {
        root: system.place.clone(),
        path,
        nixos: system.is_nixos(),
        built,
        manifest: manifest.is_some(),
        convert: manifest.and_then(|manifest| manifest.root.as_ref()?.convert.clone()),
        lost,
        kept,
        parts,
        brought,
        throw_away,
        totals,
        seen,
        gone,
    })
}

/// Rules for the paths of a system: persistent, of the system, disposable, and listed apart.
pub fn rules(
    system: &System,
    manifest: Option<&Manifest>,
    scope: &Scope,
    built: bool,
) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    let mut pattern = |text: &str, rule| {
        let refused = |reason| Failure::Unable(Problem::new(format!("{}: {reason}", escape::name(text))));
        rules.pattern(text, rule).map_err(refused)
    };
    known().shared.keys().try_for_each(|shared| pattern(shared, Rule::Shared))?;
    pattern("/etc/imp-mount", Rule::System)?;
    if let Some(manifest) = manifest {
        kept(&mut rules, manifest);
    }
    // Files copied to /etc by NixOS, relative to /etc.
    let copied = system.read("/etc/.clean").ok().flatten().unwrap_or_default();
    for path in String::from_utf8_lossy(&copied)
        .lines()
        .filter_map(|line| AbsPath::parse(&format!("/etc/{line}")).ok())
    {
        rules.path(&path, Rule::System);
    }
    for mount in system.mounts()?.iter().filter(|mount| outlives_a_boot(&mount.fstype)) {
        if let Ok(path) = AbsPath::normal(&mount.point) {
            rules.path(&path, Rule::Disk);
        }
    }
    for name in USR_LINKS.0 {
        let target = rustix::fs::readlinkat(system.root(), name, Vec::new());
        if target.is_ok_and(|target| USR_LINKS.1.contains(&target.to_bytes())) {
            rules.path(&AbsPath::root().child(name), Rule::System);
        }
    }
    throw_away::add(&mut rules, scope, system, built)?;
    Ok(rules)
}

/// The requested path of the system.
fn wanted(path: Option<&Path>, system: &System) -> Result<AbsPath, Failure> {
    let Some(path) = path else { return Ok(AbsPath::root()) };
    let failed = |error: std::io::Error| Failure::io("looking at it", path, &error);
    let whole = if system.is_running() {
        // The last name may be a link, which would be lost.
        let whole = std::path::absolute(path).map_err(failed)?;
        match (whole.parent(), whole.file_name()) {
            (Some(parent), Some(name)) => parent.canonicalize().map_err(failed)?.join(name),
            _ => whole,
        }
    } else {
        Path::new("/").join(path)
    };
    let text = whole.to_str().ok_or_else(|| failed(std::io::Error::other("the path is no text")))?;
    AbsPath::parse(text).map_err(|reason| Failure::Unable(Problem::new(reason).at(escape::path(path))))
}

/// Paths of the manifest.
fn kept(rules: &mut Rules, manifest: &Manifest) {
    for store in &manifest.stores {
        rules.path(&store.path, Rule::Mounted);
    }
    if let Some(path) = manifest.root.as_ref().and_then(|root| root.convert.as_ref()) {
        rules.path(path, Rule::Mounted);
        // At the top of a root to be converted into a store.
        rules.path(&AbsPath::root().child(PRIVATE), Rule::System);
    }
    for entry in &manifest.entries {
        match entry.kind {
            Kind::Directory => rules.path(&entry.target, Rule::Mounted),
            Kind::File => rules.path(&entry.target, Rule::Named),
            Kind::Glob => rules.glob(&entry.target, Rule::Named),
        }
    }
}

/// Adds the owners, units and packages. Paths are those of the system, or below a store, starting with the store's
/// path.
fn describe(rows: Vec<Row>, system: &System, store: &str) -> Vec<Finding> {
    if rows.is_empty() {
        return Vec::new();
    }
    let names = system.names();
    let belongs = Belongs::read(system);
    let text = |row: &Row| str::from_utf8(&row.path[store.len()..]).unwrap_or_default().to_owned();
    let paths: Vec<_> = rows.iter().map(text).collect();
    let packages = belongs::packages(system, &paths.iter().map(String::as_str).collect());
    let mut described = Vec::with_capacity(rows.len());
    for (row, path) in rows.into_iter().zip(&paths) {
        let (user, group) = (names.user(row.owner.uid), names.group(row.owner.gid));
        let mut to: Vec<_> = belongs.to(path, &user).into_iter().collect();
        if to.is_empty() {
            let packages = packages.get(path).into_iter().flatten();
            to.extend(packages.map(|package| format!("package {package}")));
        }
        described.push(Finding { row, user, group, belongs: to, what: known().what(path) });
    }
    described
}
