//! Checks after the mount of a path: processes with files of the covered tree, files absent from the copy, and then,
//! on a root in memory, removal of the covered tree.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::IFlags;
use serde::Serialize;

use super::covered::{Change, Copy, Covered, Findings};
use super::inventory::Inventory;
use super::open_files::{self, Access, OpenFiles};
use super::place;
use super::record;
use super::refuse::restart;
use super::survey::Survey;
use super::views::{self, View};
use crate::ctl::ui::terminal;
use crate::manifest::AbsPath;
use crate::mount::tree::Tree;
use crate::runtime::lock::Lock;
use crate::sys::attributes;
use crate::sys::walk::Identity;
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::file;

/// So many changed files are named one by one on the terminal; JSON has them all.
const NAMED: usize = 200;
/// A free mount point for the remedy.
const BELOW: &str = "/run/below";

/// The tree below a mount.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Checked {
    /// Bytes of freed memory; null if the covered tree stays until the reboot.
    pub freed: Option<u64>,
    /// Why the tree stays.
    pub kept: Option<String>,
    /// Files in the covered tree, but not in the copy.
    pub changes: Vec<Changed>,
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// One file of the covered tree with a difference to the copy.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changed {
    /// The path; U+FFFD stands for non-UTF-8 bytes.
    path: String,
    /// Its state.
    change: &'static str,
}

/// A mounted path.
#[derive(Debug, Clone, Copy)]
pub struct Mounted<'m> {
    /// The path.
    pub target: &'m AbsPath,
    /// Its directory on the root, and its name.
    pub dir: BorrowedFd<'m>,
    /// Its name there.
    pub name: &'m CStr,
    /// The covered tree, if known.
    pub covers: Option<Identity>,
    /// The mounted copy.
    pub copy: Copy<'m>,
    /// The covered tree at the last pass.
    pub seen: &'m Inventory,
    /// True if all of the copy is on the disk.
    pub is_durable: bool,
    /// For records of later runs.
    pub lock: &'m Lock,
}

impl Mounted<'_> {
    /// Checks everything, and removes the covered tree without an objection.
    pub fn check(&self, tree: &Tree, progress: &mut dyn FnMut(u64)) -> Checked {
        self.look(tree, progress).unwrap_or_else(|problem| Checked {
            kept: Some(problem.what.clone()),
            problems: vec![problem],
            ..Checked::default()
        })
    }

    fn look(&self, tree: &Tree, progress: &mut dyn FnMut(u64)) -> Result<Checked> {
        let covered = Covered::open(self.dir, self.name)?;
        if covered.is_placeholder() {
            record::forget_inventory(self.target);
            return Ok(Checked { freed: Some(0), ..Checked::default() });
        }
        let covered = match self.covers {
            Some(identity) => covered.expect(identity)?,
            None => covered,
        };
        let survey = Survey::of(covered.name())?;
        let failed = |errno| Problem::os("cannot look at the covered files", errno);
        if self.covers.is_none() && covered.is_released().map_err(failed)? {
            covered.give_back()?;
            record::forget_inventory(self.target);
            return Ok(Checked { freed: Some(survey.space), ..Checked::default() });
        }
        // The search for open files comes before the comparison: a file closed before the search has its last content
        // in the comparison.
        let open = open_files::of(&survey.inodes, self.target.as_str());
        let views = views::of(tree, self.target)?;
        let findings = covered.check(self.seen, self.copy, progress)?;
        let mut checked = Checked::default();
        self.tell(&mut checked, &open, &views, findings);
        let has_other_names = !covered.stat.is_dir() && covered.stat.links() > 1;
        let is_memory = crate::mount::sysroot::is_volatile(self.dir)?;
        checked.kept = if !checked.changes.is_empty() {
            Some("it has files that the copy lacks".to_owned())
        } else if let Some(user) = open.users.first() {
            Some(format!("{} {}", user.process, user.does))
        } else if let Some(view) = views.first() {
            Some(view.to_string())
        } else if !checked.problems.is_empty() {
            Some("it is in use".to_owned())
        } else if !self.is_durable {
            Some("the copy may not be on the disk yet".to_owned())
        } else if has_other_names {
            Some("it has another name elsewhere".to_owned())
        } else if !is_memory {
            Some("the root is not in memory".to_owned())
        } else {
            covered.give_back().err().map(|problem| problem.to_string())
        };
        if checked.kept.is_none() {
            checked.freed = Some(survey.space);
            record::forget_inventory(self.target);
        } else if let Err(problem) = record::keep_inventory(self.target, self.seen, self.lock) {
            log::warn!("{}: {problem}; the next run compares all of it", self.target);
        }
        Ok(checked)
    }

    /// Prints the findings.
    fn tell(&self, checked: &mut Checked, open: &OpenFiles, views: &[View], findings: Findings) {
        let target = self.target;
        for user in &open.users {
            let does = format!("{user}, which is covered now");
            if user.access == Access::Write {
                let problem = Problem::new(format!("{does}: what it writes is gone at the reboot"));
                checked.problems.push(problem.at(target.as_str()).remedy(restart(&user.process)));
            } else {
                log::warn!("{target}: {does}; {}", restart(&user.process));
            }
        }
        for view in views {
            if view.is_written {
                let problem = Problem::new(format!("{view}, where what is written is gone at the reboot"));
                let remedy = view.process.as_ref().map_or("unmount that".to_owned(), restart);
                checked.problems.push(problem.at(target.as_str()).remedy(remedy));
            } else {
                log::warn!("{target}: {view}");
            }
        }
        let is_unknown = |inode: u64| !open.written.iter().any(|(_, other)| *other == inode);
        for (_, path) in findings.written.into_iter().filter(|(inode, _)| is_unknown(*inode)) {
            let what = "it is covered now, and open for writing by something that /proc does not show";
            let remedy = "what is written to it is gone at the reboot: stop what uses it";
            checked.problems.push(Problem::new(what).at(self.full(&path)).remedy(remedy));
        }
        let count = findings.changes.len();
        for (number, Change { path, what }) in findings.changes.into_iter().enumerate() {
            let change = match what {
                "not in the copy" => "made after it was copied, and not in the copy".to_owned(),
                "removed" => "removed after it was copied, and still in the copy".to_owned(),
                what => format!("changed after it was copied ({what})"),
            };
            if number < NAMED {
                checked.problems.push(Problem::new(change).at(self.full(&path)));
            }
            let end = if path.is_empty() { "" } else { "/" };
            let path = format!("{}{end}{}", target.as_str(), String::from_utf8_lossy(&path));
            checked.changes.push(Changed { path, change: what });
        }
        if count > 0 {
            let files = terminal::count(count as u64, "file");
            let problem = Problem::new(format!("it is mounted, but {files} changed in that moment below it"));
            checked.problems.push(problem.at(target.to_string()).remedy(remedy(target)));
        }
    }

    /// The whole path of a file in the tree, for messages.
    fn full(&self, path: &[u8]) -> String {
        if path.is_empty() {
            self.target.to_string()
        } else {
            format!("{}/{}", self.target, escape::name(path))
        }
    }
}

/// Commands to mount and copy the covered tree.
fn remedy(target: &AbsPath) -> String {
    format!(
        "`mkdir -p {BELOW} && mount --bind / {BELOW}` shows it at {}: copy from there what is wanted, remove it there, \
         `umount {BELOW}`, and run `impctl adopt {}` again",
        escape::shell(&format!("{BELOW}{}", target.as_str())),
        escape::shell(target.as_str())
    )
}

/// Completes the copy of a run stopped after its mount.
pub fn complete(mounted: &Mounted<'_>) -> Result<()> {
    let failed = |errno| Problem::os("cannot look at the covered files", errno);
    let covered = Covered::open(mounted.dir, mounted.name)?;
    let seals = if covered.is_placeholder() || covered.stat.seals().is_empty() {
        IFlags::empty()
    } else {
        file::seals(covered.name(), &covered.stat).map_err(failed)?.intersection(attributes::SEALS)
    };
    place::end(mounted.copy.top, seals)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_remedy_names_the_path_as_a_shell_reads_it() {
        let words = remedy(&AbsPath::parse("/a b/\n'").unwrap());
        assert!(words.contains(&format!("at $'{BELOW}/a b/\\012\\047'")), "{words}");
        assert!(words.contains("adopt $'/a b/\\012\\047'"), "{words}");
    }
}
