//! A tmpfs root with persistent paths bind-mounted over it: the library of `imp-mount` and `impctl`.
//!
//! Three steps, each an independent module: the [`manifest`] lists the wanted paths, the [`plan`] the actions, and
//! [`mount`] executes them. [`check`] compares the same plan with the system.

pub mod boot;
pub mod check;
#[cfg(feature = "ctl")]
pub mod ctl;
pub mod ids;
pub mod logging;
pub mod manifest;
pub mod mount;
pub mod plan;
pub mod roots;
pub mod runtime;
pub mod sys;
pub mod text;
pub mod transfer;
