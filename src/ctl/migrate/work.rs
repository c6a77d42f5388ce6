//! One route: looked at, brought, and compared.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;
use serde::Serialize;

use super::destination::Destination;
use super::route::{self, Route};
use crate::manifest::{AbsPath, Kind, Method};
use crate::sys::owners::Owners;
use crate::sys::walk::{self, Identity, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::staging::{self, PRIVATE};
use crate::transfer::tree::{Choice, Found, State, Transfer};
use crate::transfer::{Name, file};

/// State of the path of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The system lacks the path.
    Absent,
    /// On the store itself: mounted from there, or a link to there.
    InPlace,
    /// Another file system is mounted there, which is not entered.
    Foreign,
    /// All files are on the store.
    Complete,
    /// All files are on the store, some of them different.
    Differs,
    /// The store lacks a part.
    Incomplete,
    /// The path cannot be copied.
    Failed,
}

/// A difference between the store and the system.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Conflict {
    /// The path; U+FFFD stands for non-UTF-8 bytes.
    pub path: String,
    /// The first property in which the two differ.
    pub what: &'static str,
    /// Age of the store's file, compared with the system's.
    pub store_is: Age,
    /// True if replaced on request.
    pub forced: bool,
    /// True for a directory whose content is left out: the store's directory would show the content to others.
    pub left_out: bool,
    /// True if --force can replace the file.
    #[serde(skip)]
    pub replaceable: bool,
}

/// Comparison of the last changes of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Age {
    /// Later.
    Newer,
    /// At the same time.
    SameTime,
    /// Earlier.
    Older,
}

impl Age {
    fn of(one: &Stat, other: &Stat) -> Self {
        match one.modified().cmp(&other.modified()) {
            std::cmp::Ordering::Greater => Self::Newer,
            std::cmp::Ordering::Equal => Self::SameTime,
            std::cmp::Ordering::Less => Self::Older,
        }
    }

    /// The same in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Newer => "is newer",
            Self::SameTime => "has the same time",
            Self::Older => "is older",
        }
    }
}

/// The result of a look at a route.
#[derive(Debug)]
pub struct Seen {
    /// Its state.
    pub standing: Standing,
    /// Number of files, directories and others on the system.
    pub names: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// Number of names missing on the store or replaced there.
    pub missing: u64,
    /// The bytes of those.
    pub missing_bytes: u64,
    /// Different files.
    pub conflicts: Vec<Conflict>,
    /// Other file systems on the tree.
    pub mounts: Vec<String>,
    /// Device nodes, which are left out.
    pub devices: Vec<String>,
    /// Different paths left unchanged.
    kept: HashSet<Vec<u8>>,
    /// Tells if the content of one of those directories is left out.
    left_out: bool,
}

impl Seen {
    /// A path without content to copy.
    #[must_use]
    pub fn nothing(standing: Standing) -> Self {
        Self {
            standing,
            names: 0,
            bytes: 0,
            missing: 0,
            missing_bytes: 0,
            conflicts: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            kept: HashSet::new(),
            left_out: false,
        }
    }

    /// Number of different files left unchanged on the store.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Its state after a complete transfer.
    #[must_use]
    pub fn done(&self) -> Standing {
        match (self.kept.is_empty(), self.left_out) {
            (true, _) => Standing::Complete,
            (false, false) => Standing::Differs,
            (false, true) => Standing::Incomplete,
        }
    }
}

/// A route with its directories open.
pub struct Ends {
    from: (OwnedFd, CString),
    to: Option<(OwnedFd, CString)>,
}

impl Ends {
    /// None if the system lacks the path.
    pub fn open(root: BorrowedFd<'_>, route: &Route<'_>, store: &Destination<'_>) -> Result<Option<Self>> {
        let name = |path: &AbsPath| {
            CString::new(if path.is_root() { "." } else { path.name() })
                .map_err(|error| Problem::new(error.to_string()))
        };
        let Some(dir) = walk::directory_below(root, &route::parent(&route.from), Mounts::Enter)? else {
            return Ok(None);
        };
        let from = (dir, name(&route.from)?);
        match walk::stat_at(from.0.as_fd(), from.1.as_c_str()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Problem::os("cannot look at it", errno)),
            Ok(_) => {}
        }
        let above = route::parent(&route.to);
        let to = match walk::directory_below(store.fd.as_fd(), &above, Mounts::Stay) {
            Ok(Some(dir)) => Some((dir, name(&route.to)?)),
            Ok(None) => None,
            Err(problem) => {
                return Err(problem.during(format_args!("on {}", escape::name(&store.at))));
            }
        };
        Ok(Some(Self { from, to }))
    }

    fn from(&self) -> Name<'_> {
        (self.from.0.as_fd(), &self.from.1)
    }

    fn to(&self) -> Option<Name<'_>> {
        self.to.as_ref().map(|(dir, name)| (dir.as_fd(), name.as_c_str()))
    }

    /// State of the top, if nothing else is to be reported.
    fn standing(&self, route: &Route<'_>, destination: &Destination<'_>) -> Result<Option<Standing>> {
        let (dir, name) = self.from();
        let failed = |errno| Problem::os("cannot look at it", errno);
        let stat = walk::stat_at(dir, name).map_err(failed)?;
        let same = |to: Name<'_>| walk::stat_at(to.0, to.1).is_ok_and(|it| it.identity() == stat.identity());
        if self.to().is_some_and(same) {
            return Ok(Some(Standing::InPlace));
        }
        if stat.mount_id() != walk::mount_id(dir).map_err(failed)? {
            return Ok(Some(Standing::Foreign));
        }
        let is_link_to_store = || {
            let text = destination.store.path.join(&route.to);
            readlinkat(dir, name, Vec::new()).is_ok_and(|link| link.as_bytes() == text.as_str().as_bytes())
        };
        if stat.is_symlink() && is_link_to_store() {
            let is_held = self.to().is_some_and(|to| walk::stat_at(to.0, to.1).is_ok());
            // Otherwise the link is for a file never created.
            return Ok(Some(if is_held { Standing::InPlace } else { Standing::Absent }));
        }
        let carried = stat.is_symlink() && route.entry.method == Method::Copy;
        let fits =
            if route.entry.kind == Kind::Directory { stat.is_dir() } else { stat.is_file() || carried };
        let wanted = if route.entry.kind == Kind::Directory { "a directory" } else { "a regular file" };
        if fits { Ok(None) } else { Err(walk::wrong_type(dir, route.from.as_str(), &stat, wanted)) }
    }
}

/// Action for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The path belongs to another entry, or to imp-mount itself.
    LeftOut,
    /// Another file system is mounted there.
    Foreign,
    /// A device node without --devices.
    Device,
    /// Present on the store.
    Same,
    /// Present on the store, but for inode flags.
    Flags,
    /// Missing on the store.
    Missing,
    /// Different there, and replaced.
    Replaced(&'static str),
    /// Different there, and kept.
    Kept(&'static str),
}

/// Rules of all passes over a route.
pub struct Rules<'r> {
    /// The route.
    pub route: &'r Route<'r>,
    /// The store's own directory.
    pub store: Identity,
    /// True if device nodes are brought.
    pub devices: bool,
    /// Paths at and below which the store's files are replaced.
    pub force: &'r [AbsPath],
}

impl Rules<'_> {
    fn verdict(&self, found: &Found<'_>) -> Verdict {
        if self.leaves_out(found) {
            return Verdict::LeftOut;
        }
        match found.state {
            State::Foreign => Verdict::Foreign,
            _ if !self.devices && is_device(found.stat) => Verdict::Device,
            State::Missing => Verdict::Missing,
            State::Same => Verdict::Same,
            State::Differs(file::SEALS)
                if found.there.is_some_and(|there| found.stat.seals().contains(there.seals())) =>
            {
                Verdict::Flags
            }
            State::Differs(what) if self.is_forced(found) => Verdict::Replaced(what),
            State::Differs(what) => Verdict::Kept(what),
        }
    }

    fn leaves_out(&self, found: &Found<'_>) -> bool {
        if self.route.leaves(found.path, found.stat.entry_type()) || found.stat.identity() == self.store {
            return true;
        }
        let name = found.path.rsplit(|byte| *byte == b'/').next();
        let is_at_top = self.route.to.is_root() && found.path == PRIVATE.as_bytes();
        is_at_top || (name == Some(PRIVATE.as_bytes()) && staging::is_private(found.from, found.stat))
    }

    fn is_forced(&self, found: &Found<'_>) -> bool {
        is_replaceable(found) && is_forced(self.force, &self.path(found))
    }

    /// Tells if the content of a directory can go into the one at the destination.
    fn enters(&self, found: &Found<'_>) -> bool {
        let is_other_kind = found.there.is_some_and(|there| there.file_type() != found.stat.file_type());
        !is_other_kind && (!found.exposed || self.is_forced(found))
    }

    /// The path on the booted system.
    fn path(&self, found: &Found<'_>) -> Vec<u8> {
        full(&self.route.from, found.path)
    }

    /// True if forced paths require reading files of the same size and time.
    fn reads(&self) -> bool {
        let from = &self.route.from;
        self.force.iter().any(|path| path.is_in(from) || from.is_in(path))
    }
}

/// A directory never replaces a file, nor a file a directory.
fn is_replaceable(found: &Found<'_>) -> bool {
    found.there.is_some_and(|there| there.is_dir() == found.stat.is_dir())
}

/// A device node. An overlayfs marks a deleted file of an upper layer with 0:0: no such device exists.
fn is_device(stat: &Stat) -> bool {
    match stat.file_type() {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => stat.special() != (0, 0),
        _ => false,
    }
}

/// Compares a route with its store, and adds the missing files to the needs of the store.
pub fn look(ends: &Ends, rules: &Rules<'_>, destination: &mut Destination<'_>) -> Result<Seen> {
    let route = rules.route;
    if let Some(standing) = ends.standing(route, destination)? {
        return Ok(Seen::nothing(standing));
    }
    let links = std::mem::take(&mut destination.links);
    let top = destination.fd.try_clone().map_err(|error| Problem::new(error.to_string()))?;
    let seen = RefCell::new(Seen::nothing(Standing::Complete));
    let mut decide = |found: &Found<'_>| {
        let seen = &mut *seen.borrow_mut();
        let path = rules.path(found);
        let verdict = rules.verdict(found);
        match verdict {
            Verdict::LeftOut => return Ok(Choice::Skip),
            Verdict::Foreign => seen.mounts.push(text(&path)),
            Verdict::Device => seen.devices.push(text(&path)),
            Verdict::Same | Verdict::Flags | Verdict::Missing => {}
            Verdict::Replaced(what) | Verdict::Kept(what) => {
                let forced = matches!(verdict, Verdict::Replaced(_));
                let store_is = Age::of(found.there.unwrap_or(found.stat), found.stat);
                let left_out = !forced && found.exposed;
                let replaceable = is_replaceable(found);
                seen.conflicts.push(Conflict {
                    path: text(&path),
                    what,
                    store_is,
                    forced,
                    left_out,
                    replaceable,
                });
                if !forced {
                    seen.kept.insert(found.path.to_vec());
                    seen.left_out |= left_out;
                }
            }
        }
        if matches!(verdict, Verdict::Foreign | Verdict::Device) {
            return Ok(Choice::Skip);
        }
        let bytes = if found.stat.is_file() { found.stat.size() } else { 0 };
        seen.names += 1;
        seen.bytes += bytes;
        if matches!(verdict, Verdict::Flags | Verdict::Missing | Verdict::Replaced(_)) {
            seen.missing += 1;
        }
        if matches!(verdict, Verdict::Missing | Verdict::Replaced(_)) && !found.linked {
            seen.missing_bytes += bytes;
            destination.needs(found);
            destination.goes_on_with(&staging::key(&below(&route.to, found.path)));
        }
        Ok(if rules.enters(found) { Choice::Pass } else { Choice::Skip })
    };
    let base = Some((top.as_fd(), below(&route.to, b"")));
    let mut transfer = Transfer { base, read: rules.reads(), links, ..Transfer::default() };
    transfer.run(ends.from(), ends.to(), &mut decide, &mut |_| ())?;
    destination.links = std::mem::take(&mut transfer.links);
    let mut seen = seen.into_inner();
    seen.standing = if seen.missing > 0 { Standing::Incomplete } else { seen.done() };
    Ok(seen)
}

/// Copies missing and replaced files. They appear in their places when the transfer is published.
pub fn bring<'t>(
    root: BorrowedFd<'_>,
    rules: &Rules<'_>,
    (destination, top): (&Destination<'_>, BorrowedFd<'t>),
    transfer: &mut Transfer<'t>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let route = rules.route;
    let above = (route::parent(&route.to), route::parent(&route.from));
    if let Some(stagings) = &mut transfer.stagings {
        let mut model = |path: &AbsPath| {
            let model = above.0 == above.1;
            // A directory without access is not a model for a new one.
            model.then(|| walk::directory_below(root, path, Mounts::Enter).ok().flatten()).flatten()
        };
        stagings.directory(&above.0, &mut model, Owners::SAME)?;
    }
    let Some(ends) = Ends::open(root, route, destination)? else { return Ok(()) };
    transfer.base = Some((top, below(&route.to, b"")));
    transfer.read = rules.reads();
    let mut decide = |found: &Found<'_>| {
        Ok(match rules.verdict(found) {
            Verdict::LeftOut | Verdict::Foreign | Verdict::Device => Choice::Skip,
            Verdict::Missing | Verdict::Replaced(_) => Choice::Make,
            Verdict::Kept(_) if !rules.enters(found) => Choice::Skip,
            Verdict::Same | Verdict::Flags | Verdict::Kept(_) => Choice::Pass,
        })
    };
    transfer.run(ends.from(), ends.to(), &mut decide, progress)
}

/// Compares everything with the store once more, gives directories their times, and reports differences.
pub fn verify(
    root: BorrowedFd<'_>,
    rules: &Rules<'_>,
    destination: &mut Destination<'_>,
    seen: &Seen,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Problem>> {
    let Some(ends) = Ends::open(root, rules.route, destination)? else { return Ok(Vec::new()) };
    let mut problems = Vec::new();
    let mut decide = |found: &Found<'_>| {
        let verdict = rules.verdict(found);
        match verdict {
            Verdict::LeftOut | Verdict::Foreign | Verdict::Device => return Ok(Choice::Skip),
            Verdict::Missing => {
                let problem = Problem::new("it is not on the store").at(escape::name(&rules.path(found)));
                problems.push(problem.remedy("if it has just been made on the system, run again"));
            }
            Verdict::Flags | Verdict::Replaced(_) | Verdict::Kept(_) if !seen.kept.contains(found.path) => {
                let what = if let State::Differs(what) = found.state { what } else { file::SEALS };
                let problem = Problem::new(format!("the store's copy differs in {what}"));
                let how = if is_replaceable(found) {
                    "replace the store's with --force and this path"
                } else {
                    "move the store's away"
                };
                problems.push(problem.at(escape::name(&rules.path(found))).remedy(format!(
                    "if something writes to it, stop that and run again; otherwise compare the two, and {how}"
                )));
            }
            _ => {}
        }
        Ok(if rules.enters(found) { Choice::Pass } else { Choice::Skip })
    };
    let links = std::mem::take(&mut destination.links);
    let mut transfer = Transfer { times: true, read: true, ahead: true, links, ..Transfer::default() };
    transfer.run(ends.from(), ends.to(), &mut decide, progress)?;
    destination.links = std::mem::take(&mut transfer.links);
    Ok(problems)
}

/// A path on the booted system.
pub fn full(top: &AbsPath, below: &[u8]) -> Vec<u8> {
    let mut path = top.as_str().as_bytes().to_vec();
    if !below.is_empty() && !top.is_root() {
        path.push(b'/');
    }
    path.extend(below);
    path
}

/// A path below the store's own directory.
fn below(top: &AbsPath, path: &[u8]) -> Vec<u8> {
    full(top, path)[1..].to_vec()
}

fn is_forced(force: &[AbsPath], path: &[u8]) -> bool {
    force.iter().any(|forced| {
        let rest = path.strip_prefix(forced.as_str().as_bytes());
        rest.is_some_and(|rest| forced.is_root() || rest.is_empty() || rest[0] == b'/')
    })
}

/// A path for JSON; escaped on output.
fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn at_and_below() {
        let is = |forced, path: &str| is_forced(&[AbsPath::parse(forced).unwrap()], path.as_bytes());
        assert!(is("/", "/srv/a") && is("/srv", "/srv/a") && is("/srv/a", "/srv/a"));
        assert!(!is("/srv", "/srv2/a") && !is("/srv/a", "/srv"));
    }
}
