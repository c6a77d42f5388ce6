//! `impctl orphans`: paths on the stores without an entry. No path is removed.

mod print;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::known::known;
use super::scan::rules::{Rule, Rules};
use super::scan::{Fate, Named, ON_MAP, Row, SINGLES, Scan, Seen, Subject, Totals};
use super::system::System;
use crate::ctl::ui::output::{self, Failure};
use crate::ctl::ui::terminal;
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::path::PRIVATE;
use crate::manifest::{AbsPath, Entry, Kind, Manifest, Store, pattern, wire};
use crate::runtime::report::{Report, State};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, describe};
#[cfg(test)]
pub use print::Document;

/// NixOS's generations, and the manifest's path in each.
const GENERATIONS: &str = "/nix/var/nix/profiles";
const IN_GENERATION: &str = "etc/imp-mount/manifest";

/// List paths on the stores without an entry
///
/// Data of removed entries, copies in the wrong place, and files of an installation before its conversion.
/// Directories above an entry are left out, and so are paths mounted from the store by other means. For paths used by
/// an earlier generation of NixOS the generation is shown: a rollback needs them.
///
/// No file is removed.
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub struct Options {
    /// Look only at the store at this path
    #[arg(value_hint = ValueHint::DirPath)]
    store: Option<String>,
    /// The root above the stores
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    root: PathBuf,
    /// The manifest, compiled or as JSON [default: /etc/imp-mount/manifest in the root]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    manifest: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const MORE: &str = "\
Examples:
  # What does no entry name, on all stores of this system?
  impctl orphans
  # On one of them
  impctl orphans /persist
  # The paths alone
  impctl orphans --json | jq -r '.stores[].orphans[].path'

Files:
  /etc/imp-mount/manifest  what entries name
  /nix/var/nix/profiles    the generations of NixOS, each with its manifest

Exit status: 0 there are none; 1 there are, or something could not be looked at; 2 it could not run";

/// One store, and its paths without an entry.
#[derive(Debug)]
pub struct Found<'m> {
    /// The store.
    pub store: &'m Store,
    /// Why the store was not scanned; empty otherwise.
    pub failure: String,
    /// Paths without an entry, the largest first.
    pub orphans: Vec<Orphan>,
    totals: Totals,
    /// On a map: kept paths, and the parts of everything.
    pub kept: Vec<Row>,
    /// Unreadable paths, and on a map the parts of everything.
    pub seen: Seen,
}

/// A path without an entry.
#[derive(Debug)]
pub struct Orphan {
    /// Its line.
    pub row: Row,
    user: String,
    group: String,
    /// Its description.
    remarks: Vec<String>,
    /// The last generation with the path in its manifest.
    generation: Option<u64>,
}

impl Orphan {
    /// Its description in words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let generation = self.generation.map(|number| format!("named by generation {number}"));
        self.remarks.iter().cloned().chain(generation).collect()
    }
}

/// All paths on the stores of a system: kept paths, orphans, and the parts of both.
pub fn map<'m>(system: &'m System, manifest: &'m Manifest) -> Result<Vec<Found<'m>>, Failure> {
    let context = Context { map: true, ..Context::new(system, manifest)? };
    Ok((0..manifest.stores.len()).map(|index| context.look(index)).collect())
}

/// Scans, and prints the findings.
pub fn run(options: &Options) -> Result<(), Failure> {
    let system = System::open(&options.root)?;
    let manifest = system.manifest(options.manifest.as_deref())?.ok_or_else(|| {
        let problem =
            Problem::new("there is no manifest, so there are no stores").at(crate::boot::args::MANIFEST);
        Failure::Unable(problem.remedy("name one with --manifest"))
    })?;
    let wanted: Vec<_> = (0..manifest.stores.len())
        .filter(|index| {
            let path = &manifest.stores[*index].path;
            options.store.as_ref().is_none_or(|wanted| AbsPath::parse(wanted).as_ref() == Ok(path))
        })
        .collect();
    if wanted.is_empty() {
        let stores: Vec<_> = manifest.stores.iter().map(|store| store.path.to_string()).collect();
        let problem =
            Problem::new("this is no store").at(escape::name(options.store.as_deref().unwrap_or_default()));
        return Err(Failure::Unable(problem.remedy(format!("the manifest has {}", stores.join(", ")))));
    }
    let context = Context::new(&system, &manifest)?;
    let found: Vec<_> = wanted.into_iter().map(|index| context.look(index)).collect();
    if options.json {
        output::print(&print::json(&system, &found)?)?;
    } else {
        terminal::print(&print::text(&found, terminal::width()))?;
    }
    if found.iter().all(|store| !store.failure.is_empty()) {
        let problem =
            Problem::new("no store could be looked at").remedy("imp-mount --check says how they stand");
        return Err(Failure::Unable(problem));
    }
    let is_clean =
        |store: &Found| store.failure.is_empty() && store.orphans.is_empty() && store.seen.unread_count == 0;
    if found.iter().all(is_clean) { Ok(()) } else { Err(Failure::Found) }
}

/// Known facts of the system.
struct Context<'m> {
    system: &'m System,
    manifest: &'m Manifest,
    mounts: Vec<Mount>,
    report: Report,
    /// The last generation with a path of a store in its manifest.
    generations: BTreeMap<AbsPath, u64>,
    /// The same for patterns, by their directory on the store.
    patterns: BTreeMap<AbsPath, Vec<(Entry, u64)>>,
    /// True to list kept paths, too, and parts of everything.
    map: bool,
}

impl<'m> Context<'m> {
    fn new(system: &'m System, manifest: &'m Manifest) -> Result<Self, Failure> {
        let report =
            if system.is_running() { Report::read().map_err(Failure::Unable)? } else { Report::default() };
        let mut generations: BTreeMap<AbsPath, u64> = BTreeMap::new();
        let mut patterns: BTreeMap<AbsPath, Vec<(Entry, u64)>> = BTreeMap::new();
        for profile in system.list(GENERATIONS) {
            let number =
                profile.strip_prefix("system-").and_then(|rest| rest.strip_suffix("-link")?.parse().ok());
            let Some(number) = number else { continue };
            // One of another version, or without a manifest, says nothing.
            let bytes = system.read(&format!("{GENERATIONS}/{profile}/{IN_GENERATION}")).ok().flatten();
            let Some(earlier) = bytes.and_then(|bytes| wire::decode(&bytes).ok()) else { continue };
            for entry in &earlier.entries {
                let path = earlier.store(entry).path.join(entry.source());
                if entry.kind == Kind::Glob {
                    let folder = path.parent().unwrap_or_else(AbsPath::root);
                    patterns.entry(folder).or_default().push((entry.clone(), number));
                    continue;
                }
                let last = generations.entry(path).or_insert(number);
                *last = number.max(*last);
            }
        }
        Ok(Self { system, manifest, mounts: system.mounts()?, report, generations, patterns, map: false })
    }

    fn look(&self, index: usize) -> Found<'m> {
        let store = &self.manifest.stores[index];
        let mut found = Found {
            store,
            failure: String::new(),
            orphans: Vec::new(),
            totals: Totals::default(),
            kept: Vec::new(),
            seen: Seen::default(),
        };
        match self.scan(index) {
            Ok(mut seen) => {
                let (kept, mut rows): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut seen.rows).into_iter().partition(|row| row.kept);
                found.kept = kept;
                rows.sort_by(|a, b| (b.totals.allocated, &a.path).cmp(&(a.totals.allocated, &b.path)));
                for row in &rows {
                    found.totals.add(&row.totals);
                }
                seen.unread.sort();
                found.seen = seen;
                let names = self.system.names();
                found.orphans = rows
                    .into_iter()
                    .map(|row| {
                        let (user, group) = (names.user(row.owner.uid), names.group(row.owner.gid));
                        let generation = self.generation(&row);
                        Orphan { user, group, remarks: self.remarks(store, &row), generation, row }
                    })
                    .collect();
            }
            Err(problem) => found.failure.clone_from(&problem.what),
        }
        found
    }

    fn scan(&self, index: usize) -> Result<Seen, Problem> {
        let store = &self.manifest.stores[index];
        let root = self.manifest.root.as_ref();
        let converts = root.and_then(|root| root.convert.as_ref()) == Some(&store.path);
        let is_to_be = || Problem::new("the root becomes it with the next boot");
        let failed = |errno| match errno {
            Errno::NOENT if converts => is_to_be(),
            _ => Problem::new(format!("it cannot be opened: {}", describe(errno))),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = walk::open_below(self.system.root(), &store.path, flags, Mounts::Enter).map_err(failed)?;
        let mount = mountinfo::of(fd.as_fd())?;
        if walk::mount_id(self.system.root()) == Ok(mount.id) {
            return Err(if converts { is_to_be() } else { Problem::new("nothing is mounted there") });
        }
        let rules = self.rules(index, &mount);
        let coverage = Coverage::new(self.manifest);
        let named = |found: &Named<'_>| {
            let path = found.text().and_then(|path| path.below(&store.path));
            let entry = path.and_then(|path| coverage.pattern(&path));
            let is_ours =
                |entry: &Entry| usize::from(entry.store) == index && entry.takes(found.entry_type());
            let is_kept = entry.is_some_and(is_ours);
            if is_kept { Fate::Kept } else { Fate::Unkept }
        };
        let scan = Scan {
            root: fd.as_fd(),
            prefix: store.path.as_str(),
            rules: &rules,
            all: true,
            built: false,
            singles: SINGLES,
            locks: false,
            system_links: &[],
            kept: self.map,
            parts: if self.map { ON_MAP } else { 0 },
            until: None,
            named: &named,
        };
        scan.run(&AbsPath::root())
    }

    /// Paths of entries on a store, and other paths in use there.
    fn rules(&self, index: usize, mount: &Mount) -> Rules {
        let mut rules = Rules::default();
        for shared in known().shared.keys() {
            // The table's patterns are valid: a test reads them all.
            let _ = rules.pattern(shared, Rule::Shared);
        }
        rules.path(&AbsPath::root().child(PRIVATE), Rule::System);
        let share = |rules: &mut Rules, path: &AbsPath| {
            path.ancestors()
                .filter_map(|above| AbsPath::parse(above).ok())
                .for_each(|above| rules.path(&above, Rule::Shared));
        };
        for entry in self.manifest.entries.iter().filter(|entry| usize::from(entry.store) == index) {
            let source = entry.source();
            share(&mut rules, source);
            if entry.kind == Kind::Glob {
                rules.glob(source, Rule::Named);
            } else {
                rules.path(source, Rule::Kept);
            }
        }
        // A store may be a directory on another one.
        let store = &self.manifest.stores[index].path;
        for below in self.manifest.stores.iter().filter_map(|other| other.path.below(store)) {
            if !below.is_root() {
                share(&mut rules, &below);
                rules.path(&below, Rule::System);
            }
        }
        let is_busy = |point: &str| {
            self.report
                .entries
                .iter()
                .any(|entry| entry.state == State::Busy && entry.target.as_str() == point)
        };
        // Mount points of other file systems, and paths with a mount elsewhere without an entry.
        for other in
            self.mounts.iter().filter(|other| other.source == mount.source && other.fstype == mount.fstype)
        {
            let base = AbsPath::normal(&mount.root);
            if let (Ok(base), Ok(root)) = (base, AbsPath::normal(&other.root))
                && let Some(path) = root.below(&base).filter(|path| !path.is_root())
                && !is_busy(&other.point)
            {
                share(&mut rules, &path);
                rules.path(&path, Rule::Kept);
            }
        }
        rules
    }

    /// The last generation with the path, or one below, in its manifest.
    fn generation(&self, row: &Row) -> Option<u64> {
        let path = path_of(&row.path)?;
        let named = self.generations.iter().filter(|(named, _)| named.is_in(&path) || path.is_in(named));
        let what = match row.subject {
            Subject::File => Type::File,
            Subject::Link => Type::Link,
            Subject::Directory | Subject::Files | Subject::Special => Type::Other,
        };
        let here = path.parent().and_then(|folder| self.patterns.get(&folder));
        let matched = here
            .into_iter()
            .flatten()
            .filter(|(entry, _)| entry.takes(what) && pattern::matches(entry.target.name(), path.name()));
        named.map(|(_, number)| *number).chain(matched.map(|(_, number)| *number)).max()
    }

    fn remarks(&self, store: &Store, row: &Row) -> Vec<String> {
        let mut remarks = Vec::new();
        let Some(path) = path_of(&row.path) else { return remarks };
        let busy = |entry: &&crate::runtime::report::EntryReport| {
            entry.state == State::Busy && entry.source.is_in(&path)
        };
        if let Some(entry) = self.report.entries.iter().find(busy) {
            remarks.push(format!("its entry was removed, but is in use at {}", entry.target));
        }
        let Some(below) = path.below(&store.path) else { return remarks };
        let is_in = |above: &str| AbsPath::parse(above).is_ok_and(|above| below.is_in(&above));
        let convert = self.manifest.root.as_ref().and_then(|root| root.convert.as_ref());
        if is_in("/nix/store") || below.as_str() == "/nix" {
            remarks.push("a Nix store: leave it to nix".to_owned());
        } else if below.as_str() == "/lost+found" {
            remarks.push("what fsck found".to_owned());
        } else if convert == Some(&store.path) && is_old_system(below.as_str()) {
            remarks.push("of the system before it was converted".to_owned());
        }
        remarks
    }
}

/// A path of a walk; none if not UTF-8.
fn path_of(bytes: &[u8]) -> Option<AbsPath> {
    AbsPath::parse(str::from_utf8(bytes).ok()?).ok()
}

/// True for a path left on a converted disk by the installed system, and created anew by NixOS.
fn is_old_system(path: &str) -> bool {
    let is_etc = path == "/etc" || path.starts_with("/etc/");
    is_etc || known().is_system(path) || known().is_disposable(path)
}
