//! A tmpfs root with persistent paths bind-mounted over it: what `imp-mount` and `impctl` are made of.
//!
//! Three steps, each a module that can be read on its own: the [`manifest`] says what is wanted, the [`plan`] what to do,
//! and [`mount`] does it. [`check`] holds the same plan against what is there.

pub mod adopt;
pub mod capacity;
pub mod check;
pub mod cli;
pub mod cmdline;
pub mod create;
#[cfg(feature = "ctl")]
pub mod ctl;
pub mod errno;
pub mod escape;
pub mod fstab;
pub mod generator;
pub mod json;
pub mod lock;
pub mod logging;
pub mod manifest;
pub mod matches;
pub mod mount;
pub mod names;
pub mod plan;
pub mod privilege;
pub mod problem;
pub mod report;
pub mod runtime;
pub mod settle;
pub mod sys;
pub mod table;
pub mod transfer;
pub mod utab;
pub mod versions;
pub mod walk;
