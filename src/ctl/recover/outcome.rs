//! The results for the requested paths, with the lines to keep them.

use serde::Serialize;

use super::left_out::{LeftOut, Passed};
use super::origin::Source;
use super::place::{Base, Place};
use super::work::{Job, Kept, Seen};
use super::{Run, few, full, shown};
use crate::ctl::adopt::refuse;
use crate::ctl::line;
use crate::ctl::roots::record;
use crate::ctl::system::outlives_a_boot;
use crate::ctl::ui::terminal::{count, size};
use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Manifest};
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// Result of `impctl recover`. Sizes are in bytes; paths are those of the booted system.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub version: u32,
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The paths asked for.
    pub recovered: &'a [Outcome],
    /// Failures.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    pub problems: Vec<String>,
}

/// Result for one path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outcome {
    /// The path.
    pub path: AbsPath,
    /// Its place on the running system.
    pub to: AbsPath,
    /// The store of the old root.
    pub store: AbsPath,
    /// The number of the old root.
    pub root: u32,
    /// Its state.
    pub state: Standing,
    /// Number of files of the old root at and below the path.
    pub files: u64,
    /// Number of copied missing files.
    pub brought: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Why files of the root may be incomplete; null otherwise.
    pub doubt: Option<&'static str>,
    /// Newer roots whose savings left the path out.
    pub passed: Vec<Passed>,
    /// Files at and below the path, left out by the saving of the root, the largest first.
    pub left_out: Vec<record::LeftOut>,
    /// Paths with a different file, which stays.
    pub kept: Vec<KeptPath>,
    /// Entry or file system already keeping the path; null without one.
    pub persists: Option<String>,
    /// The line of a NixOS configuration to keep the path; null if not needed.
    pub nix: Option<String>,
    /// The entry of a manifest to keep the path; null if not needed.
    pub entry: Option<line::Entry>,
}

/// State of one path in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// To be brought, in a dry run.
    Missing,
    /// Brought.
    Brought,
    /// All files of the old root are there.
    There,
    /// A part was not copied.
    Incomplete,
}

/// A path left unchanged.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeptPath {
    /// The path; U+FFFD stands for non-UTF-8 bytes.
    path: String,
    /// The different property.
    what: &'static str,
}

impl Run<'_> {
    /// Results for all paths.
    pub fn finish(mut self) -> Result<(Vec<Outcome>, Vec<Problem>)> {
        let names = self.system.names();
        let mut outcomes = Vec::new();
        for asked in &self.asked {
            let Some(first) = asked.jobs.first() else { continue };
            let old = &self.olds[first.old];
            let owners = old.owners(&self.names)?;
            let stat = owners.of(first.origin.stat);
            let sum = |of: &dyn Fn(&Seen) -> u64| asked.jobs.iter().map(|job| of(&job.seen)).sum::<u64>();
            let (files, missing) = (sum(&|seen| seen.names), sum(&|seen| seen.missing));
            let saving = LeftOut::of(&old.slot, &asked.path);
            let unsaved = unsaved(&saving, old, &self.olds).map(|problem| problem.at(asked.path.to_string()));
            let left =
                saving.files.len() as u64 + sum(&|seen| (seen.unowned.len() + seen.foreign.len()) as u64);
            let mut kept = Vec::new();
            for job in &asked.jobs {
                self.problems.extend(problems(job, old, &self.base));
                kept.extend(job.seen.kept.iter().map(|one| KeptPath {
                    path: String::from_utf8_lossy(&full(&job.path, &one.path)).into_owned(),
                    what: one.what,
                }));
            }
            self.problems.extend(unsaved);
            let state = match () {
                () if asked.is_broken || left > 0 => Standing::Incomplete,
                () if missing == 0 && kept.is_empty() => Standing::There,
                () if missing == 0 => Standing::Incomplete,
                () if self.options.dry_run => Standing::Missing,
                () => Standing::Brought,
            };
            let place = &self.places[first.destination.place];
            let keeps = self.options.to.is_none();
            let persists =
                if keeps { persists(self.manifest, place, &asked.path, stat.entry_type()) } else { None };
            let is_wanted =
                keeps && !asked.is_broken && persists.is_none() && (stat.is_dir() || stat.is_file());
            let number = self.manifest.stores.iter().position(|store| store.path == old.store.path);
            let number = u16::try_from(number.unwrap_or_default()).unwrap_or_default();
            // A path not allowed in a manifest has no line.
            let entry = if is_wanted
                && refuse::named(self.manifest, &asked.path, stat.entry_type(), number).is_ok()
            {
                Some(line::entry(&asked.path, &stat, &names))
            } else {
                None
            };
            outcomes.push(Outcome {
                path: asked.path.clone(),
                to: self.base.path.join(&asked.path),
                store: old.store.path.clone(),
                root: old.id().0,
                state,
                files,
                brought: asked.brought.0,
                bytes: asked.brought.1,
                doubt: old.doubt,
                passed: asked.passed.clone(),
                left_out: saving.files,
                kept,
                persists,
                nix: entry.as_ref().map(|entry| entry.definition(old.store)),
                entry,
            });
        }
        Ok((outcomes, self.problems))
    }
}

/// Problems of unchanged files, and of files that cannot be copied.
fn problems(job: &Job, old: &Source<'_>, base: &Base) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Kept { path, what, exposed } in &job.seen.kept {
        let (words, remedy) = if *exposed {
            (
                "and grants access to more users than the old one: nothing is copied into it",
                "give it the owner, mode and ACL of the old one, and run again; or bring that elsewhere with --to",
            )
        } else {
            ("and stays", "compare the two; --to brings the old one elsewhere")
        };
        let what = format!("it is there already, differs in {what} from that of root {}, {words}", old.id());
        problems.push(Problem::new(what).at(shown(&base.path.join(&job.path), path)).remedy(remedy));
    }
    for path in &job.seen.unowned {
        let what = format!(
            "its owner in root {} does not exist any more, or had no name, and another has that id: it was left out",
            old.id()
        );
        let place = full(&job.path, path);
        let place = [old.place.as_bytes(), &place].concat();
        let remedy = format!(
            "create a user or group of the old name, which /etc/passwd or /etc/group of that root has, and run again; or copy {}",
            escape::name(&place)
        );
        problems.push(Problem::new(what).at(shown(&job.path, path)).remedy(remedy));
    }
    for path in &job.seen.foreign {
        let what = format!("another file system is mounted there in root {}, which was left out", old.id());
        problems.push(Problem::new(what).at(shown(&job.path, path)).remedy("unmount that, and run again"));
    }
    few(problems, &job.path)
}

/// Entry or file system already keeping a path; none without one.
fn persists(manifest: &Manifest, place: &Place, path: &AbsPath, what: Type) -> Option<String> {
    let entry = Coverage::new(manifest).entry(path, what);
    let is_elsewhere = !place.path.is_root();
    match entry {
        Some(entry) if is_elsewhere => Some(format!("by the entry {}", entry.target)),
        Some(entry) => Some(format!(
            "by the entry {}, once that is mounted: run imp-mount, and see imp-mount --check",
            entry.target
        )),
        None if is_elsewhere && outlives_a_boot(&place.mount.fstype) => {
            Some(format!("on what is mounted at {}", place.path))
        }
        None => None,
    }
}

/// Problem of files left out by a saving; none without such files.
fn unsaved(saving: &LeftOut, old: &Source<'_>, all: &[Source<'_>]) -> Option<Problem> {
    let largest = saving.files.first()?;
    let files = count(saving.files.len() as u64, "file");
    let least = if saving.more { "at least " } else { "" };
    let path = escape::name(largest.path.bytes()).into_owned();
    let what = format!(
        "saving root {} left out {least}{files} of it, {}: the largest is {path} ({}): {}",
        old.id(),
        size(saving.bytes()),
        size(largest.bytes),
        largest.why
    );
    let elsewhere = |left: &record::LeftOut| {
        let path = AbsPath::parse(str::from_utf8(left.path.bytes()).ok()?).ok()?;
        let has =
            |other: &&Source<'_>| !std::ptr::eq(*other, old) && other.doubt.is_none() && other.has(&path);
        Some((all.iter().find(has)?.id(), path))
    };
    let remedy = match saving.files.iter().find_map(elsewhere) {
        Some((id, path)) => {
            let path = escape::shell(path.as_str());
            format!("root {id} has {path}: impctl recover {path}")
        }
        None => {
            "no other old root has any of it: save_size and save_seconds of the manifest, and the room on the store, bound a saving"
                .to_owned()
        }
    };
    Some(Problem::new(what).remedy(remedy))
}
