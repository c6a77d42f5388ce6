//! One route: looked at, brought, and verified.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::readlinkat;
use rustix::io::Errno;
use serde::Serialize;

use super::route::{self, Route};
use super::rsync::Batch;
use super::side::Side;
use crate::adopt;
use crate::ctl::bring::{Bring, Choice, Found, Links, State, show};
use crate::ctl::copy::Name;
use crate::escape;
use crate::manifest::{AbsPath, Kind, Method};
use crate::problem::{Problem, Result};
use crate::walk::{self, Mounts, Stat};

/// How the path of an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The system does not have it.
    Absent,
    /// It is on the store itself: mounted from there, or a link to there.
    InPlace,
    /// All of it is on the store.
    Complete,
    /// Something of it is missing on the store.
    Incomplete,
    /// It cannot be brought.
    Failed,
}

/// Something that the store has, and the system has otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Conflict {
    /// Its path on the booted system.
    pub path: String,
    /// In what the two differ.
    pub what: &'static str,
    /// Whether what the store has was changed later.
    pub store_is_newer: bool,
    /// Whether it is replaced, as was asked for.
    pub forced: bool,
}

/// What a look at a route has shown.
#[derive(Debug)]
pub struct Seen {
    /// How it stands.
    pub standing: Standing,
    /// How many files, directories and others the system has.
    pub names: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// How many names are missing on the store, or are to be replaced there.
    pub missing: u64,
    /// The bytes of those.
    pub missing_bytes: u64,
    /// What differs.
    pub conflicts: Vec<Conflict>,
    /// Other file systems that are mounted in it.
    pub mounts: Vec<String>,
    /// Paths of what differs and stays as it is.
    kept: HashSet<Vec<u8>>,
    links: Links,
}

impl Seen {
    /// Nothing of it is there to be brought.
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
            kept: HashSet::new(),
            links: Links::new(),
        }
    }
}

/// A route with its directories open.
pub struct Ends {
    from: (OwnedFd, CString),
    to: Option<(OwnedFd, CString)>,
}

impl Ends {
    /// None where the system does not have it.
    pub fn open(root: BorrowedFd<'_>, route: &Route<'_>, side: &Side<'_>) -> Result<Option<Self>> {
        let name = |path: &AbsPath| {
            CString::new(if path.is_root() { "." } else { path.name() })
                .map_err(|error| Problem::new(error.to_string()))
        };
        let Some(dir) = route::open(root, &route::parent(&route.from), Mounts::Enter)? else {
            return Ok(None);
        };
        let from = (dir, name(&route.from)?);
        match walk::stat_at(from.0.as_fd(), from.1.as_c_str()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Problem::os("cannot look at it", errno)),
            Ok(_) => {}
        }
        let above = route::parent(&route.to);
        let to = match route::open(side.fd.as_fd(), &above, Mounts::Stay) {
            Ok(Some(dir)) => Some((dir, name(&route.to)?)),
            Ok(None) => None,
            Err(problem) => {
                return Err(Problem {
                    what: format!("on {}: {}", escape::name(&side.at), problem.what),
                    ..problem
                });
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

    /// How the top of it stands, where that is all there is to say.
    fn standing(&self, route: &Route<'_>, side: &Side<'_>) -> Result<Option<Standing>> {
        let (dir, name) = self.from();
        let stat = walk::stat_at(dir, name).map_err(|errno| Problem::os("cannot look at it", errno))?;
        let same = |to: Name<'_>| walk::stat_at(to.0, to.1).is_ok_and(|it| it.identity() == stat.identity());
        if self.to().is_some_and(same) {
            return Ok(Some(Standing::InPlace));
        }
        let is_ours = || {
            let text = side.store.path.join(&route.to);
            readlinkat(dir, name, Vec::new()).is_ok_and(|link| link.as_bytes() == text.as_str().as_bytes())
        };
        if stat.is_symlink() && is_ours() {
            return Ok(Some(Standing::InPlace));
        }
        let carried = stat.is_symlink() && route.entry.method == Method::Copy;
        let fits =
            if route.entry.kind == Kind::Directory { stat.is_dir() } else { stat.is_file() || carried };
        let wanted = if route.entry.kind == Kind::Directory { "a directory" } else { "a regular file" };
        if fits { Ok(None) } else { Err(walk::wrong_type(dir, route.from.as_str(), &stat, wanted)) }
    }
}

/// Holds a route against its store, and adds what is missing there to what the store needs.
pub fn look(ends: &Ends, route: &Route<'_>, side: &mut Side<'_>, force: &[AbsPath]) -> Result<Seen> {
    if let Some(standing) = ends.standing(route, side)? {
        return Ok(Seen::nothing(standing));
    }
    let own = walk::stat(side.fd.as_fd()).map_err(|errno| Problem::os("cannot look at the store", errno))?;
    let seen = RefCell::new(Seen::nothing(Standing::Complete));
    let mut decide = |found: &Found<'_>| {
        if route.leaves(found.path) || found.stat.identity() == own.identity() {
            return Ok(Choice::Skip);
        }
        let seen = &mut *seen.borrow_mut();
        let path = full(&route.from, found.path);
        if found.state == State::Foreign {
            seen.mounts.push(String::from_utf8_lossy(&path).into_owned());
            return Ok(Choice::Skip);
        }
        let bytes = if found.stat.is_file() { found.stat.size() } else { 0 };
        seen.names += 1;
        seen.bytes += bytes;
        let forced = is_forced(force, &path);
        let brought = match found.state {
            State::Missing => true,
            State::Differs(what) => {
                let there = found.there.unwrap_or(found.stat);
                let other_kind = there.file_type() != found.stat.file_type();
                let forced = forced && !other_kind;
                if !forced {
                    seen.kept.insert(found.path.to_vec());
                }
                let store_is_newer = there.modified() > found.stat.modified();
                let path = String::from_utf8_lossy(&path).into_owned();
                seen.conflicts.push(Conflict { path, what, store_is_newer, forced });
                if other_kind {
                    return Ok(Choice::Skip);
                }
                forced
            }
            State::Same | State::Foreign => false,
        };
        if brought {
            seen.missing += 1;
            if !found.linked {
                seen.missing_bytes += bytes;
                side.need.bytes += found.stat.allocated();
                side.need.inodes = side.need.inodes.map(|inodes| inodes + 1);
                if bytes > 0 && found.stat.is_file() {
                    side.may_share(found.from);
                }
            }
        }
        Ok(Choice::Pass)
    };
    // What is to be replaced may have the same size and time.
    let is_near = |path: &AbsPath| path.is_in(&route.from) || route.from.is_in(path);
    let mut bring = Bring { read: force.iter().any(is_near), ..Bring::default() };
    bring.run(ends.from(), ends.to(), &mut decide, &mut |_| ())?;
    let mut seen = seen.into_inner();
    seen.links = bring.links;
    if seen.missing > 0 {
        seen.standing = Standing::Incomplete;
    }
    Ok(seen)
}

/// Brings what is missing: all of it where content can be shared. Otherwise regular files go to the list, and the rest is
/// brought, as is what is to be replaced.
pub fn bring(
    root: BorrowedFd<'_>,
    route: &Route<'_>,
    side: &mut Side<'_>,
    (seen, force): (&mut Seen, &[AbsPath]),
    (work, mut batch): (BorrowedFd<'_>, Option<&mut Batch>),
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let above = (route::parent(&route.to), route::parent(&route.from));
    let base = (&side.store.path, &mut side.opened);
    adopt::folder_on_store(base, &above.0, root, &above.1)?;
    let Some(ends) = Ends::open(root, route, side)? else { return Ok(()) };
    let own = walk::stat(side.fd.as_fd()).map_err(|errno| Problem::os("cannot look at the store", errno))?;
    let mut decide = |found: &Found<'_>| {
        if route.leaves(found.path) || found.stat.identity() == own.identity() {
            return Ok(Choice::Skip);
        }
        match found.state {
            State::Foreign => Ok(Choice::Skip),
            State::Differs(_) if is_other_kind(found) => Ok(Choice::Skip),
            State::Differs(_) if is_forced(force, &full(&route.from, found.path)) => Ok(Choice::Make),
            State::Same | State::Differs(_) => Ok(Choice::Pass),
            // rsync makes only regular files aside, and moves them to their names when they are whole.
            State::Missing if !found.stat.is_file() || found.linked => Ok(Choice::Make),
            State::Missing => match &mut batch {
                None => Ok(Choice::Make),
                Some(batch) => batch.add(&full(&route.from, found.path)).map(|()| Choice::Pass),
            },
        }
    };
    // What is to be replaced may have the same size and time.
    let read = seen.conflicts.iter().any(|conflict| conflict.forced);
    let mut bring =
        Bring { work: Some(work), read, links: std::mem::take(&mut seen.links), ..Bring::default() };
    bring.run(ends.from(), ends.to(), &mut decide, progress)
}

/// Holds everything against the store once more, gives directories their times, and says what is not as it should be. With
/// `read` all content is compared.
pub fn verify(
    root: BorrowedFd<'_>,
    route: &Route<'_>,
    side: &Side<'_>,
    seen: &Seen,
    read: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Problem>> {
    let Some(ends) = Ends::open(root, route, side)? else { return Ok(Vec::new()) };
    let own = walk::stat(side.fd.as_fd()).map_err(|errno| Problem::os("cannot look at the store", errno))?;
    let mut problems = Vec::new();
    let mut decide = |found: &Found<'_>| {
        if route.leaves(found.path)
            || found.stat.identity() == own.identity()
            || found.state == State::Foreign
        {
            return Ok(Choice::Skip);
        }
        let at = || show(&full(&route.from, found.path));
        match found.state {
            State::Missing => {
                let problem = Problem::new("it is not on the store").at(at());
                problems.push(problem.remedy("if it has just been made there, run again"));
            }
            State::Differs(what) if !seen.kept.contains(found.path) => {
                let problem = Problem::new(format!("what the store has differs in {what}")).at(at());
                problems.push(problem.remedy(
                    "if something writes to it, stop that and run again; otherwise compare the two, and replace the \
                     store's with --force and this path",
                ));
            }
            _ => {}
        }
        Ok(if is_other_kind(found) { Choice::Skip } else { Choice::Pass })
    };
    let mut bring = Bring { times: true, read, ..Bring::default() };
    bring.run(ends.from(), ends.to(), &mut decide, progress)?;
    Ok(problems)
}

fn is_other_kind(found: &Found<'_>) -> bool {
    found.there.is_some_and(|there: &Stat| there.file_type() != found.stat.file_type())
}

/// A path on the booted system.
fn full(top: &AbsPath, below: &[u8]) -> Vec<u8> {
    let mut path = top.as_str().as_bytes().to_vec();
    if !below.is_empty() && !top.is_root() {
        path.push(b'/');
    }
    path.extend(below);
    path
}

fn is_forced(force: &[AbsPath], path: &[u8]) -> bool {
    force.iter().any(|forced| {
        let rest = path.strip_prefix(forced.as_str().as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    })
}
