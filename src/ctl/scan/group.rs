//! Files become lines: a directory has one line if all content is found, and several if a part is not, or if many
//! share the directory.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize, Serializer};

use super::parts::Parts;
use super::rules::State;

/// Most lines of one directory with kept content; with more the directory has one line.
const PARTS: usize = 256;
/// Maximum of lines for a shared directory; the rest gets one line.
const SHARED_PARTS: usize = 10_000;
/// So many single files of a directory get lines of their own; more of them get one together.
pub const SINGLES: usize = 100;
/// Maximum of single files, either disposable or named by the manifest and not yet stored.
const APART: usize = 10;

/// Bytes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Files of any type but directories; a file with several names counts once.
    pub files: u64,
    /// Bytes on the disk or in memory, as du(1) counts them: directories too.
    pub allocated: u64,
    /// Apparent bytes of the files, holes too.
    pub apparent: u64,
    /// The last change of the content of a file; null without a file.
    #[serde(serialize_with = "seconds")]
    #[cfg_attr(test, schemars(with = "Option<i64>"))]
    pub newest: Option<(i64, u32)>,
}

/// Writes the seconds of a time.
#[allow(clippy::ref_option, reason = "the signature is serde's")]
fn seconds<S: Serializer>(time: &Option<(i64, u32)>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|(seconds, _)| seconds).serialize(serializer)
}

impl Totals {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.allocated += other.allocated;
        self.apparent += other.apparent;
        self.newest = self.newest.max(other.newest);
    }
}

/// Owner and mode of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Permission bits.
    pub mode: u16,
}

/// Subject of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A directory with all findings inside.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device or a FIFO.
    Special,
    /// Several files in the directory at the path, which have no line of their own.
    Files,
}

/// One line.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "none of them excludes another")]
pub struct Row {
    /// The path; for several files the path of their directory.
    pub path: Vec<u8>,
    /// Its subject.
    pub subject: Subject,
    /// Its bytes and files.
    pub totals: Totals,
    /// The owner and mode.
    pub owner: Owner,
    /// True if a part has another owner.
    pub others: bool,
    /// True if a part is kept, and not counted.
    pub partly: bool,
    /// True if disposable.
    pub throw_away: bool,
    /// True if the manifest keeps the path.
    pub kept: bool,
    /// True if the manifest names the path, without a mount.
    pub unmounted: bool,
    /// True if imp-mount-adopt.service copies the path to a store at shutdown.
    pub brought: bool,
    /// Of several files: whether a pattern `*` in their directory brings all of them, and nothing else.
    pub pattern: bool,
}

impl Row {
    /// A line with none of its marks.
    #[must_use]
    pub fn new(path: Vec<u8>, subject: Subject, totals: Totals, owner: Owner) -> Self {
        Self {
            path,
            subject,
            totals,
            owner,
            others: false,
            partly: false,
            throw_away: false,
            kept: false,
            unmounted: false,
            brought: false,
            pattern: false,
        }
    }
}

/// A directory, which may become a line.
#[derive(Debug)]
pub struct Group {
    /// The group above, which gets its sums.
    pub parent: Option<Arc<Group>>,
    /// Its path.
    pub path: Vec<u8>,
    /// Rules for the paths below.
    pub state: State,
    /// True if many share the directory.
    pub shared: bool,
    /// True in /etc, where files of the system count as kept.
    pub etc: bool,
    /// True to list its parts besides its line.
    pub divided: bool,
    /// Its line.
    pub row: Row,
    /// Findings so far.
    pub found: Mutex<Found>,
}

/// Findings in a group.
#[derive(Debug, Default)]
pub struct Found {
    /// The sum.
    pub totals: Totals,
    /// True if a part is kept.
    pub kept: bool,
    /// True if a part has another owner.
    pub others: bool,
    /// Lines of the content.
    rows: Vec<Row>,
    /// Single files.
    files: Vec<Row>,
    /// Paths beyond the maximum of lines: below the directory, and in the directory.
    rest: Totals,
    more: Totals,
    /// Disposable single files of a directory not disposable itself.
    thrown: Vec<Row>,
    /// Single files named by the manifest: kept, or not yet stored.
    named: Vec<Row>,
    /// The largest paths without a line.
    parts: Parts,
    /// True if a pattern `*` would match more than the single files, or not all of them.
    pub mixed: bool,
}

impl Found {
    /// Only the directory itself.
    pub fn with(totals: Totals, parts: Parts) -> Self {
        Self { totals, parts, ..Self::default() }
    }

    /// Adds a single file; the first ones are kept apart.
    pub fn single(&mut self, row: Row, most: usize) {
        self.totals.add(&row.totals);
        if self.files.len() < most {
            self.files.push(row);
        } else {
            self.more.add(&row.totals);
            self.parts.add([row]);
        }
    }

    /// Adds a disposable single file.
    pub fn thrown(&mut self, row: Row, directory: &[u8]) {
        apart(&mut self.thrown, row, directory);
    }

    /// Adds a single file of the manifest.
    pub fn named(&mut self, row: Row, directory: &[u8]) {
        apart(&mut self.named, row, directory);
    }

    /// Adds the result of a directory below.
    fn part(&mut self, lines: Lines, most: usize, uid: u32) {
        self.totals.add(&lines.totals);
        self.kept |= lines.kept;
        self.parts.add(lines.parts.into_rows());
        for row in lines.rows {
            self.others |= row.others || row.owner.uid != uid;
            if self.rows.len() < most {
                self.rows.push(row);
            } else {
                self.rest.add(&row.totals);
                self.parts.add([row]);
            }
        }
    }
}

/// The lines of a group.
struct Lines {
    rows: Vec<Row>,
    /// The sum.
    totals: Totals,
    /// True if a part is kept.
    kept: bool,
    parts: Parts,
}

/// Adds a line; the files beyond a few of one directory share a line.
fn apart(rows: &mut Vec<Row>, row: Row, directory: &[u8]) {
    if rows.len() < APART {
        rows.push(row);
    } else if rows.len() == APART {
        rows.push(Row { path: directory.into(), subject: Subject::Files, ..row });
    } else if let Some(last) = rows.last_mut() {
        last.totals.add(&row.totals);
    }
}

impl Group {
    /// True if each directory in the group is a group of its own.
    pub fn is_split(&self) -> bool {
        self.divided || self.shared || self.etc || !self.state.is_empty()
    }

    /// Ends the work on a share of a group. After the last share, the group is added to the one above, and so
    /// on; a group without one above is given to `deliver`.
    pub fn release(group: Arc<Self>, deliver: &mut dyn FnMut(Vec<Row>, Parts)) {
        // A loop, as a chain of them may be as long as a path.
        let mut last = Arc::into_inner(group);
        while let Some(mut group) = last {
            let parent = group.parent.take();
            let found = group.found.get_mut().unwrap_or_else(PoisonError::into_inner);
            deliver(take(&mut found.thrown), Parts::default());
            deliver(take(&mut found.named), Parts::default());
            let lines = group.settle();
            let Some(parent) = parent else { return deliver(lines.rows, lines.parts) };
            let most = if parent.shared { SHARED_PARTS } else { PARTS };
            let uid = parent.row.owner.uid;
            parent.found.lock().unwrap_or_else(PoisonError::into_inner).part(lines, most, uid);
            last = Arc::into_inner(parent);
        }
    }

    /// Its lines.
    fn settle(self) -> Lines {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (totals, kept, mut parts) = (found.totals, found.kept, take(&mut found.parts));
        if totals.files == 0 {
            return Lines { rows: Vec::new(), totals, kept, parts };
        }
        // One line for all of them is the most readable, and a pattern for all of them the shortest entry.
        let is_one = found.files.len() > SINGLES && !found.mixed;
        if is_one || found.more.files > 0 {
            found.files.iter().for_each(|row| found.more.add(&row.totals));
            parts.add(found.files.drain(..));
        }
        let is_many = !self.shared && (found.rest.files > 0 || found.more.files > 0);
        let mut rows = take(&mut found.rows);
        rows.append(&mut found.files);
        if !self.shared && (!kept || is_many) {
            parts.add(rows);
            let row = Row { totals, partly: kept, others: found.others, ..self.row };
            return Lines { rows: vec![row], totals, kept, parts };
        }
        let pattern = !found.mixed && found.rest.files == 0;
        found.rest.add(&found.more);
        if found.rest.files > 0 {
            rows.push(Row {
                subject: Subject::Files,
                totals: found.rest,
                others: found.others,
                pattern,
                ..self.row
            });
        }
        Lines { rows, totals, kept, parts }
    }
}
