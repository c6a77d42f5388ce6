//! System calls and kernel interfaces: files by descriptor, mounts, privileges.

pub mod attributes;
pub mod capacity;
pub mod create;
pub mod cursor;
pub mod fstab;
pub mod inside;
pub mod mount_api;
pub mod mountinfo;
pub mod owners;
pub mod privilege;
pub mod raw;
pub mod subvolume;
pub mod unnamed;
pub mod walk;

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// A name in an open directory, possibly not UTF-8.
pub type Name<'a> = (BorrowedFd<'a>, &'a CStr);
