//! The copier of files and trees. By descriptors only: no path is resolved twice, and no symbolic link is followed. A
//! copy is made in a directory of root alone ([`staging`]), and gets its name by one rename(2) when complete.

pub mod content;
pub mod file;
pub mod late;
mod level;
pub mod remove;
pub mod seals;
pub mod staging;
pub mod tree;

pub use crate::sys::Name;
