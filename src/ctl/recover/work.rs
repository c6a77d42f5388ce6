//! A path of an old root: comparison, copy, and verification.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::AsFd;

use rustix::fs::syncfs;
use rustix::io::Errno;

use super::origin::{Origin, Source, is_place};
use super::place::{Destination, Place};
use crate::manifest::AbsPath;
use crate::sys::owners::{Owners, UNKNOWN};
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::{Problem, Result};
use crate::transfer::file;
use crate::transfer::seals;
use crate::transfer::staging::{self, PRIVATE, Stagings};
use crate::transfer::tree::{Choice, Found, State, Transfer};

/// Copy to one mount.
pub struct Job {
    /// Its path in the old root.
    pub path: AbsPath,
    /// The number of the old root.
    pub old: usize,
    /// Its source in the old root.
    pub origin: Origin,
    /// Its place.
    pub destination: Destination,
    /// The result of the first look.
    pub seen: Seen,
}

/// The result of a look at both sides.
#[derive(Debug, Default)]
pub struct Seen {
    /// Names in the old root.
    pub names: u64,
    /// Missing names.
    pub missing: u64,
    /// Bytes of missing files.
    pub missing_bytes: u64,
    /// Flags (`chattr`) left unset by an interrupted run.
    unset: u64,
    /// Paths with a different file, which stays.
    pub kept: Vec<Kept>,
    /// Paths whose owner does not exist any more, while another has its id.
    pub unowned: Vec<Vec<u8>>,
    /// Paths in the old root at which another file system is mounted.
    pub foreign: Vec<Vec<u8>>,
    /// Directories with another file system on the running system: their content goes there.
    pub below: Vec<Vec<u8>>,
    /// Everything left out.
    left: HashSet<Vec<u8>>,
}

/// An unchanged file at the destination.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its path below the top of the job.
    pub path: Vec<u8>,
    /// The first property in which the two differ.
    pub what: &'static str,
    /// True for a directory with access for more users than the old one: no file is copied there.
    pub exposed: bool,
}

/// Decision about a file.
enum Verdict {
    /// A file of imp-mount.
    Own,
    /// A file system is mounted in the old root there.
    Foreign,
    /// The copy would get the id of another owner.
    Unowned,
    /// Another file system is mounted at the destination; the content of this directory goes there.
    Below,
    /// Present.
    Same,
    /// Present, without the flags set last.
    Unset,
    /// Missing.
    Missing,
    /// A different file is there.
    Kept(&'static str),
}

fn verdict(found: &Found<'_>) -> Verdict {
    let name = found.path.rsplit(|byte| *byte == b'/').next();
    if (name == Some(PRIVATE.as_bytes()) && staging::is_private(found.from, found.stat))
        || (!found.path.is_empty() && is_place(found.from, found.stat))
    {
        return Verdict::Own;
    }
    match found.state {
        State::Foreign => Verdict::Foreign,
        _ if [found.stat.uid(), found.stat.gid()].contains(&UNKNOWN) => Verdict::Unowned,
        State::Missing => Verdict::Missing,
        State::Same => Verdict::Same,
        State::Differs(file::MOUNT) if found.stat.is_dir() => Verdict::Below,
        State::Differs(file::SEALS)
            if found.there.is_some_and(|there| found.stat.seals().contains(there.seals())) =>
        {
            Verdict::Unset
        }
        State::Differs(what) => Verdict::Kept(what),
    }
}

/// True if the content of a directory can go into the existing one.
fn enters(found: &Found<'_>) -> bool {
    !found.exposed && found.there.is_some_and(|there| there.file_type() == found.stat.file_type())
}

fn bytes(stat: &Stat) -> u64 {
    if stat.is_file() { stat.size() } else { 0 }
}

impl Job {
    /// Compares both sides, and adds missing files to the needs of the place.
    pub fn look(&mut self, owners: &Owners, place: &mut Place) -> Result<()> {
        let to = self.destination.open(place)?;
        let to = to.as_ref().map(|(dir, name)| (dir.as_fd(), name.as_c_str()));
        let top = walk::duplicate(place.top.as_fd()).map_err(|errno| Problem::os("cannot open it", errno))?;
        let links = std::mem::take(&mut place.links);
        let place = RefCell::new(place);
        let mut seen = Seen::default();
        let mut decide = |found: &Found<'_>| {
            let path = || found.path.to_vec();
            match verdict(found) {
                Verdict::Own => return Ok(Choice::Skip),
                Verdict::Foreign => seen.foreign.push(path()),
                Verdict::Unowned => seen.unowned.push(path()),
                Verdict::Below => {
                    seen.below.push(path());
                    return Ok(Choice::Skip);
                }
                Verdict::Same => {}
                Verdict::Unset => seen.unset += 1,
                Verdict::Missing => {
                    seen.missing += 1;
                    if !found.linked {
                        seen.missing_bytes += bytes(found.stat);
                    }
                    place.borrow_mut().needs(found, &self.destination.below(found.path));
                }
                Verdict::Kept(what) => {
                    seen.kept.push(Kept { path: path(), what, exposed: found.exposed });
                    seen.left.insert(path());
                }
            }
            if matches!(verdict(found), Verdict::Foreign | Verdict::Unowned) {
                seen.left.insert(path());
                return Ok(Choice::Skip);
            }
            seen.names += 1;
            let enters = found.state == State::Missing || enters(found);
            Ok(if enters { Choice::Pass } else { Choice::Skip })
        };
        let mut transfer =
            Transfer { base: Some((top.as_fd(), self.destination.below(b""))), links, ..Transfer::default() };
        transfer.copier.owners = owners.clone();
        let (dir, name) = &self.origin.name;
        transfer.run((dir.as_fd(), name), to, &mut decide, &mut |_| ())?;
        let links = std::mem::take(&mut transfer.links);
        place.into_inner().links = links;
        self.seen = seen;
        Ok(())
    }

    /// True if files are to be copied.
    pub fn is_open(&self) -> bool {
        self.seen.missing > 0 || self.seen.unset > 0
    }

    /// Copies missing files. Failures of single files are returned; the rest is in its place then.
    pub fn bring(
        &self,
        old: &Source<'_>,
        owners: &Owners,
        place: &mut Place,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Problem>> {
        let failed = |errno| Problem::os("cannot open it", errno);
        let top = walk::duplicate(place.top.as_fd()).map_err(failed)?;
        let mut stagings = Stagings::open(top.as_fd())?;
        let above = self.destination.rest.parent().unwrap_or_else(AbsPath::root);
        let mut model = |path: &AbsPath| {
            let path = place.path.join(path);
            // A directory without access is not a model.
            walk::directory_below(old.tree.as_fd(), &path, Mounts::Stay).ok().flatten()
        };
        stagings.directory(&above, &mut model, owners)?;
        let Some((dir, name)) = self.destination.open(place)? else {
            return Err(Problem::new("its directory was removed meanwhile").remedy("run again"));
        };
        let mut transfer = Transfer {
            base: Some((top.as_fd(), self.destination.below(b""))),
            stagings: Some(&mut stagings),
            times: true,
            links: std::mem::take(&mut place.links),
            batch: true,
            failures: Some(Vec::new()),
            ..Transfer::default()
        };
        transfer.copier.owners = owners.clone();
        let mut decide = |found: &Found<'_>| {
            Ok(match verdict(found) {
                Verdict::Missing => Choice::Make,
                Verdict::Same | Verdict::Unset => Choice::Pass,
                Verdict::Kept(_) if enters(found) => Choice::Pass,
                _ => Choice::Skip,
            })
        };
        let (from, from_name) = &self.origin.name;
        let to = Some((dir.as_fd(), name.as_c_str()));
        let brought = transfer.run((from.as_fd(), from_name), to, &mut decide, progress);
        // Also after a failure: complete copies come to their places.
        let published = transfer.publish();
        let failures = transfer.take_failures();
        let flags = std::mem::take(&mut transfer.seals);
        place.links = std::mem::take(&mut transfer.links);
        drop(transfer);
        let failed = |errno: Errno| Problem::os("cannot finish what was copied", errno);
        let sealed = seals::set(top.as_fd(), &flags);
        let synced = syncfs(&top).map_err(failed);
        let closed = stagings.close().map_err(failed);
        brought.and(published).and(sealed).and(synced).and(closed).map(|()| failures)
    }

    /// Compares everything once more, and gives directories their times.
    pub fn verify(&self, owners: &Owners, place: &Place, progress: &mut dyn FnMut(u64)) -> Result<Vec<Flaw>> {
        let Some((dir, name)) = self.destination.open(place)? else { return Ok(vec![Flaw::missing(b"")]) };
        let mut flaws = Vec::new();
        let mut decide = |found: &Found<'_>| {
            let what = match verdict(found) {
                Verdict::Own | Verdict::Foreign | Verdict::Unowned | Verdict::Below => {
                    return Ok(Choice::Skip);
                }
                Verdict::Same => None,
                Verdict::Missing => Some(None),
                Verdict::Unset => Some(Some(file::SEALS)),
                Verdict::Kept(what) => Some(Some(what)),
            };
            if let Some(what) = what.filter(|_| !self.seen.left.contains(found.path)) {
                flaws.push(Flaw { path: found.path.to_vec(), what });
            }
            Ok(if enters(found) { Choice::Pass } else { Choice::Skip })
        };
        let mut transfer = Transfer { times: true, read: true, ahead: true, ..Transfer::default() };
        transfer.copier.owners = owners.clone();
        let (from, from_name) = &self.origin.name;
        let to = Some((dir.as_fd(), name.as_c_str()));
        transfer.run((from.as_fd(), from_name), to, &mut decide, progress)?;
        Ok(flaws)
    }
}

/// A difference after the copy.
#[derive(Debug)]
pub struct Flaw {
    /// Its path below the top of the job.
    pub path: Vec<u8>,
    /// The first different property; none if missing.
    pub what: Option<&'static str>,
}

impl Flaw {
    fn missing(path: &[u8]) -> Self {
        Self { path: path.to_vec(), what: None }
    }
}
