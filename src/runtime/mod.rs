//! State of one boot in /run/imp-mount: the lock, the report and the versions of copies, for later runs and commands.

pub mod directory;
pub mod document;
pub mod lock;
pub mod report;
pub mod versions;

pub use directory::{DIRECTORY, directory, is_roots};
pub use document::{
    Document, LIMIT, documents_set_aside, read, read_or_set_aside, replace, replace_by, write,
};
