//! Output of every command: terminals, pages, progress.

pub(super) mod output;
pub(super) mod progress;
pub mod terminal;
