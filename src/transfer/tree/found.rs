//! A file of a tree, its state at the destination, and the decision about it.

use std::collections::HashMap;

use crate::sys::walk::{Identity, Stat};
use crate::text::problem::Result;
use crate::transfer::Name;

/// The state of a file at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Missing.
    Missing,
    /// The same.
    Same,
    /// Another file, with the first different property.
    Differs(&'static str),
    /// A different file system, mounted at the source and not entered.
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
    /// True if missing at the destination, while another hard link of the file is there.
    pub linked: bool,
    /// True for a directory whose destination grants access to its content to more users than the source.
    pub exposed: bool,
    /// The file.
    pub from: Name<'f>,
    /// The digest of the content, for a file that is the same at the destination after a comparison of content.
    pub digest: Option<u64>,
}

/// Hard links at the destination: for a file of the source the identity of its copy, and the path of the copy below
/// [`Transfer::base`](super::Transfer::base).
pub type Links = HashMap<Identity, (Identity, Vec<u8>)>;

/// Action for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing; of a directory the content is not looked at.
    Skip,
    /// Nothing; of a directory the content is looked at.
    Pass,
    /// Copy, also over an existing file.
    Make,
}

/// Decides about each file.
pub type Decide<'d> = dyn FnMut(&Found<'_>) -> Result<Choice> + 'd;
