//! States of entries, and the line that `--check` prints for each.

use serde::Serialize;

use crate::manifest::{AbsPath, Entry};

/// State of an entry. `ok`, `later`, `skipped`, `not-yet-stored` and `pending` are no problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Entry of a later phase.
    Later,
    /// Left out by the kernel command line.
    Skipped,
    /// Only the root has it, and it is brought to the store at shutdown.
    NotYetStored,
    /// Created as root's alone, until its owner exists.
    Pending,
    /// Only the root has it, and nothing brings it to the store.
    RootOnly,
    /// The store does not hold it.
    Missing,
    /// No mount at the target.
    NotMounted,
    /// Something else is mounted there, or the source is not what it should be.
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
    /// In words, as `--check` prints it.
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

    /// Tells if something must be done about it. What is skipped was asked for; what is pending is guarded by its mode, and
    /// settled once users exist.
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
    /// True if a boot without it stops.
    pub required: bool,
    /// Problem or note; left out without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub detail: String,
}

/// A status, and its explanation.
pub(super) type Verdict = (Status, String);

/// For an entry that was never reached.
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
