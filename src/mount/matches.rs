//! Matches of a pattern in a directory, on a store or on the root.

use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::manifest::coverage::{Coverage, Type};
use crate::manifest::{AbsPath, Entry, pattern};
use crate::runtime::versions;
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::Problem;

/// The names matched by a pattern, by result. Directories, FIFOs, sockets, devices, paths of other entries, and second
/// versions kept by write-back are in none of the lists.
#[derive(Debug, Default)]
pub struct Matches {
    /// Files to place, in order.
    pub names: Vec<String>,
    /// Symbolic links, not placed, in order.
    pub links: Vec<String>,
    /// Reasons for matching files left out.
    pub problems: Vec<Problem>,
}

impl Matches {
    /// Lists the directory of the pattern.
    pub fn of(dir: BorrowedFd<'_>, entry: &Entry, coverage: &Coverage<'_>) -> Result<Self, Errno> {
        let (text, folder) = (entry.target.name(), entry.target.parent().unwrap_or_else(AbsPath::root));
        let (mut names, mut links) = (Vec::new(), Vec::new());
        let mut problems = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for found in Dir::new(rustix::fs::openat(dir, ".", flags, Mode::empty())?)? {
            let found = found?;
            let name = found.file_name();
            let shown = name.to_string_lossy();
            let is_match = pattern::matches(text, &shown) && !versions::is_conflict(&shown);
            if !is_match || matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let what = match found.file_type() {
                FileType::Unknown => match walk::stat_at(dir, name) {
                    Ok(stat) => stat.entry_type(),
                    // Removed meanwhile.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                },
                known => walk::entry_type(known),
            };
            let is_brought = entry.takes(what);
            if !is_brought && what != Type::Link {
                continue;
            }
            let Ok(name) = name.to_str() else {
                if is_brought {
                    let shown = escape::name(name.to_bytes());
                    let problem = Problem::new(format!("it matches `{shown}`, whose name is not UTF-8"));
                    problems.push(problem.remedy("rename it; until then it is left out"));
                }
                continue;
            };
            if is_brought && name == text {
                let problem = Problem::new("it matches a file that has the pattern itself for its name");
                problems.push(problem.remedy("rename it; until then it is left out"));
            } else if coverage.pattern(&folder.child(name)).is_some_and(|it| it.target == entry.target) {
                if is_brought { &mut names } else { &mut links }.push(name.to_owned());
            }
        }
        for list in [&mut names, &mut links] {
            list.sort_unstable();
            // A file renamed meanwhile may be listed under one name twice.
            list.dedup();
        }
        Ok(Self { names, links, problems })
    }

    /// Problems of the links in a directory of a store.
    #[must_use]
    pub fn left_out(&self, dir: BorrowedFd<'_>, shown: &AbsPath) -> Vec<Problem> {
        let say = |name: &String| {
            // The link may be removed already.
            let stat = walk::stat_at(dir, name).ok().filter(walk::Stat::is_symlink)?;
            let problem = walk::wrong_type(dir, shown.child(name).as_str(), &stat, "a regular file");
            Some(problem.remedy("it is left out; remove it, or put a regular file in its place"))
        };
        self.links.iter().filter_map(say).collect()
    }
}
