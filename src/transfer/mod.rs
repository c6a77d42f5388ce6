//! The copier of files and trees. By descriptors only: no path is resolved twice, and no symbolic link is followed. A copy is made
//! in a directory that only root can enter ([`staging`]), and comes to its name by one rename(2) once it is complete.

pub mod attributes;
pub mod content;
pub mod file;
pub mod late;
mod level;
pub mod remove;
pub mod seals;
pub mod staging;
pub mod tree;
pub mod unnamed;

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// A name in an open directory. It need not be UTF-8.
pub type Name<'a> = (BorrowedFd<'a>, &'a CStr);
