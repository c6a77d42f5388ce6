//! Files become lines: a directory is named as a whole where all of it is found, and in parts where something in it is
//! not, or where it is shared by many.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize, Serializer};

use super::parts::Parts;
use super::rules::State;

/// So many lines at most come from one directory in which something is kept; beyond that it is named as a whole.
const PARTS: usize = 256;
/// So many at most come from a directory that is shared by many; the rest of it gets one line.
const SHARED_PARTS: usize = 10_000;
/// So many single files of a directory get lines of their own; more of them get one together.
pub const SINGLES: usize = 100;
/// So many single files that are throw-away, or that the manifest names and are not on a store yet.
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
    /// A directory with all that is found in it.
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
    /// The path; of several files that of their directory.
    pub path: Vec<u8>,
    /// Its subject.
    pub subject: Subject,
    /// Its bytes and files.
    pub totals: Totals,
    /// The owner and mode.
    pub owner: Owner,
    /// True if some of it belongs to somebody else.
    pub others: bool,
    /// True if something in it is kept, and not counted.
    pub partly: bool,
    /// True if it is throw-away.
    pub throw_away: bool,
    /// True if the manifest keeps it.
    pub kept: bool,
    /// True if the manifest names it, but it is not mounted.
    pub unmounted: bool,
    /// True where it is brought to a store at shutdown.
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

/// A directory that may become a line.
#[derive(Debug)]
pub struct Group {
    /// The group it lies in, and adds up to.
    pub parent: Option<Arc<Group>>,
    /// Its path.
    pub path: Vec<u8>,
    /// Rules for the paths below.
    pub state: State,
    /// True if it is shared by many.
    pub shared: bool,
    /// True if it lies in /etc, where what comes from the system counts as kept.
    pub etc: bool,
    /// True if what is in it is wanted in parts, besides its line.
    pub divided: bool,
    /// Its line.
    pub row: Row,
    /// Findings in it until now.
    pub found: Mutex<Found>,
}

/// Findings in a group.
#[derive(Debug, Default)]
pub struct Found {
    /// All of it.
    pub totals: Totals,
    /// True if something in it is kept.
    pub kept: bool,
    /// True if something in it belongs to somebody else.
    pub others: bool,
    /// The lines of what lies below.
    rows: Vec<Row>,
    /// Single files.
    files: Vec<Row>,
    /// Paths without a line, as there are too many: below it, and in it.
    rest: Totals,
    more: Totals,
    /// Single files in it that are throw-away, while it is not.
    thrown: Vec<Row>,
    /// Single files in it that the manifest names: kept, or not on a store yet.
    named: Vec<Row>,
    /// The largest paths without a line.
    parts: Parts,
    /// True if a pattern `*` would bring more of what is in it than the single files, or not all of these.
    pub mixed: bool,
}

impl Found {
    /// Nothing yet but what the directory itself takes.
    pub fn with(totals: Totals, parts: Parts) -> Self {
        Self { totals, parts, ..Self::default() }
    }

    /// A single file in it; so many at most are kept apart.
    pub fn single(&mut self, row: Row, most: usize) {
        self.totals.add(&row.totals);
        if self.files.len() < most {
            self.files.push(row);
        } else {
            self.more.add(&row.totals);
            self.parts.add([row]);
        }
    }

    /// A single file that is throw-away.
    pub fn thrown(&mut self, row: Row, directory: &[u8]) {
        apart(&mut self.thrown, row, directory);
    }

    /// A single file that the manifest names.
    pub fn named(&mut self, row: Row, directory: &[u8]) {
        apart(&mut self.named, row, directory);
    }

    /// Result of one below it.
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

/// The lines that a group comes to.
struct Lines {
    rows: Vec<Row>,
    /// All that is in it.
    totals: Totals,
    /// True if something in it is kept.
    kept: bool,
    parts: Parts,
}

/// Adds a row of its own; what is more than a few of them in a directory gets one line together.
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
    /// True if each directory in it is a group of its own.
    pub fn is_split(&self) -> bool {
        self.divided || self.shared || self.etc || !self.state.is_empty()
    }

    /// Nobody works on this share of a group any more. Where it was the last one, the group is added to the one above, and so
    /// on; what has nothing above it is given to `deliver`.
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

    /// The lines that it comes to.
    fn settle(self) -> Lines {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (totals, kept, mut parts) = (found.totals, found.kept, take(&mut found.parts));
        if totals.files == 0 {
            return Lines { rows: Vec::new(), totals, kept, parts };
        }
        // One line for all of them is what most want to see, and a pattern for all of them what most want to write.
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
