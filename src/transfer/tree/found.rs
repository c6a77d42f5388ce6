//! A file of a tree, its state at the destination, and the decision about it.

use std::collections::HashMap;

use crate::sys::walk::{Identity, Stat};
use crate::text::problem::Result;
use crate::transfer::Name;

/// The state of a file at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is missing.
    Missing,
    /// It is the same.
    Same,
    /// Another one is there, and the first property in which it differs.
    Differs(&'static str),
    /// Another file system is mounted at the source. It is not entered.
    Foreign,
}

/// A file of the tree.
#[derive(Debug)]
pub struct Found<'f> {
    /// Its path below the top of the tree; empty for the top itself.
    pub path: &'f [u8],
    /// Its properties.
    pub stat: &'f Stat,
    /// Those of the file at the destination, if there is one.
    pub there: Option<&'f Stat>,
    /// Its state there.
    pub state: State,
    /// True if it is missing there, and another hard link of it is not.
    pub linked: bool,
    /// True if it is a directory, and the one at the destination shows what is in it to others than this one does.
    pub exposed: bool,
    /// The file.
    pub from: Name<'f>,
    /// The digest of its content, where it is a file that is the same at the destination and the content was compared.
    pub digest: Option<u64>,
}

/// Hard links at the destination: for a file of the source the identity of its copy, and the path of that below [`Transfer::base`](super::Transfer::base).
pub type Links = HashMap<Identity, (Identity, Vec<u8>)>;

/// Action for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing; of a directory the content is not looked at.
    Skip,
    /// Nothing; of a directory the content is looked at.
    Pass,
    /// It is copied, or replaced by a copy.
    Make,
}

/// Decides what is done about each file.
pub type Decide<'d> = dyn FnMut(&Found<'_>) -> Result<Choice> + 'd;
