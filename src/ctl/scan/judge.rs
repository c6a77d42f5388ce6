//! The verdicts of a scan on single files, for a walk with each directory before its content.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType};

use super::dir::look;
use super::rules::{Rules, State};
use super::walker::{is_lock, is_systems};
use super::{Fate, Named};
use crate::sys::walk::Stat;

/// Decides about the paths of a root built at every boot: kept paths, files of the system and disposable paths are not
/// lost.
pub struct Judge<'j> {
    rules: &'j Rules,
    system_links: &'j [&'j str],
    named: &'j dyn Fn(&Named<'_>) -> Fate,
    /// The directories on the way: the length of the path, the rules below, and true below a disposable path.
    way: Vec<(usize, State, bool)>,
}

/// Decision about a file of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not lost, nor any path inside.
    Safe,
    /// A directory with possibly lost paths inside.
    Open,
    /// Lost.
    Lost,
}

impl<'j> Judge<'j> {
    /// One for a walk from `/` on.
    pub fn new(rules: &'j Rules, system_links: &'j [&'j str], named: &'j dyn Fn(&Named<'_>) -> Fate) -> Self {
        Self { rules, system_links, named, way: Vec::new() }
    }

    /// Decides about the next file of the walk, by its path below the root: `etc/fstab`.
    pub fn decide(&mut self, path: &[u8], (dir, name): (BorrowedFd<'_>, &CStr), stat: &Stat) -> Verdict {
        if path.is_empty() {
            let (state, verdict) = self.rules.start();
            self.way = vec![(0, state, verdict.throw_away == Some(true))];
            return Verdict::Open;
        }
        let above = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        while self.way.last().is_some_and(|(length, ..)| *length > above) {
            self.way.pop();
        }
        let Some((_, state, thrown)) = self.way.last() else { return Verdict::Safe };
        let (state, verdict) = self.rules.step(state, name.to_bytes());
        let throw_away = verdict.throw_away.unwrap_or(*thrown);
        if stat.is_dir() {
            // A path to keep may lie in a disposable one.
            if verdict.kept || verdict.system || (throw_away && state.is_empty()) {
                return Verdict::Safe;
            }
            self.way.push((path.len(), state, throw_away));
            return Verdict::Open;
        }
        let is_safe = verdict.kept
            || verdict.mounted
            || verdict.system
            || (verdict.named && self.is_kept(path, (dir, name)))
            || throw_away
            || stat.file_type() == FileType::Socket
            || (stat.is_symlink() && is_systems(self.system_links, dir, name))
            || (stat.size() == 0 && is_lock(name.to_bytes()) && verdict.throw_away.is_none());
        if is_safe { Verdict::Safe } else { Verdict::Lost }
    }

    fn is_kept(&self, path: &[u8], (dir, name): (BorrowedFd<'_>, &CStr)) -> bool {
        let Ok(stat) = look(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let path = [b"/", path].concat();
        (self.named)(&Named { path: &path, dir, name, stat: &stat }) == Fate::Kept
    }
}
