//! A tmpfs root with persistent paths bind-mounted over it: what `imp-mount` and `impctl` are made of.
//!
//! Three steps, each a module that can be read on its own: the [`manifest`] says what is wanted, the [`plan`] what to do,
//! and [`mount`] does it. [`check`] holds the same plan against what is there.

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
