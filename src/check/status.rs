//! States of entries, and the line of each in `--check`.

use serde::Serialize;

use crate::manifest::{AbsPath, Entry};

/// State of an entry. `ok`, `later`, `skipped`, `not-yet-stored` and `pending` are no problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// No difference from the plan.
    Ok,
    /// Entry of a later phase.
    Later,
    /// Left out by the kernel command line.
    Skipped,
    /// Only on the root; copied to the store at shutdown.
    NotYetStored,
    /// Created as root's alone, until its owner exists.
    Pending,
    /// Only on the root, and never copied to the store.
    RootOnly,
    /// Not on the store.
    Missing,
    /// No mount at the target.
    NotMounted,
    /// A different mount at the target, or a different source.
    WrongSource,
    /// Mounted, but hidden by another mount.
    Covered,
    /// A program put a file of its own in its place.
    Replaced,
    /// The root and the store have different versions, and none of them is known to be the older one.
    Conflict,
    /// The source has another owner than the manifest says.
    WrongOwner,
    /// The source has another mode than the manifest says.
    WrongMode,
    /// The mount has other options.
    WrongOptions,
}

impl Status {
    /// The state in the words of `--check`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Later => "later",
            Self::Skipped => "skipped",
            Self::NotYetStored => "not yet on the store",
            Self::Pending => "pending",
            Self::RootOnly => "on the root only",
            Self::Missing => "missing",
            Self::NotMounted => "not mounted",
            Self::WrongSource => "wrong source",
            Self::Covered => "covered",
            Self::Replaced => "replaced by a file",
            Self::Conflict => "two versions",
            Self::WrongOwner => "wrong owner",
            Self::WrongMode => "wrong mode",
            Self::WrongOptions => "wrong options",
        }
    }

    /// Tells if the state needs action. Skipped entries are the user's choice; a pending entry is protected by its
    /// mode, and gets its owner once users exist.
    #[must_use]
    pub fn is_problem(self) -> bool {
        self > Self::Pending
    }
}

/// State of one path.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Checked {
    /// The path, seen from the booted system.
    pub target: AbsPath,
    /// Its path on the store, in the booted system.
    pub source: AbsPath,
    /// Its state.
    pub status: Status,
    /// True if the entry is required.
    pub required: bool,
    /// Problem or note; left out without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub detail: String,
}

/// A status, and its explanation.
pub(super) type Verdict = (Status, String);

/// The result for an entry without a check of its own.
#[must_use]
pub fn unreached(entry: &Entry, store: &AbsPath, status: Status, detail: &str) -> Checked {
    Checked {
        target: entry.target.clone(),
        source: store.join(entry.source()),
        status,
        required: entry.required,
        detail: detail.to_owned(),
    }
}
