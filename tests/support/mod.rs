//! Toolbox of the tests: a namespace for each, disks to break, a machine to boot, and other eyes to look with.

pub mod attacker;
pub mod attend;
pub mod command;
pub mod disk;
pub mod inject;
mod live;
pub mod look;
pub mod machine;
pub mod medium;
pub mod namespace;
mod outcome;
#[macro_use]
pub mod runner;
pub mod schema;
mod scratch;
pub mod trees;

pub use command::{Output, Running, imp_mount, run, start};
pub use disk::{Disk, Fs};
pub use inject::{Call, Injected};
pub use look::{Mount, Snapshot, mount_at, mounts};
pub use machine::{Machine, Root};
pub use runner::{Need, Test, is_thorough, main};
pub use schema::json_of;
pub use scratch::scratch;
