//! The capabilities for mounts: checked at the start, and the others dropped.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::text::problem::{Problem, Result};

/// Mounting, walking and creating in directories of other users, giving files away, and, for copies, file capabilities and inode flags
/// (`chattr(1)`).
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::LINUX_IMMUTABLE);

/// A message instead of a bare EPERM in the middle of the work.
pub fn require_mount() -> Result<()> {
    if capabilities(None).map_err(problem)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    Err(Problem::new("mounting needs CAP_SYS_ADMIN, which this process does not have")
        .remedy("run it as root, or look at its unit's CapabilityBoundingSet= and User="))
}

/// Drops capabilities without need, for good. A missing capability is not requested.
///
/// Capabilities belong to a thread: call this before any other is started.
pub fn drop_to_needed() -> Result<()> {
    let kept = capabilities(None).map_err(problem)?.permitted & NEEDED;
    // The ambient set follows the inheritable one.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(problem)
}

fn problem(errno: Errno) -> Problem {
    Problem::os("cannot read or set the capabilities of this process", errno)
        .remedy("a seccomp filter may forbid it: look at its unit's SystemCallFilter=")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Command;

    use super::*;

    /// Marks the child of the test binary.
    const CHILD: &str = "IMP_MOUNT_TEST_PRIVILEGE";
    /// The same by their numbers in linux/capability.h: 0 to 4, 9, 21 for `CAP_SYS_ADMIN`, and 31.
    const NEEDED_BITS: u64 = 0b1_1111 | 1 << 9 | 1 << 21 | 1 << 31;

    /// Runs a test again in a separate process, free to change its capabilities, and returns the output of this
    /// process; none in the child, after `what`.
    fn in_child(test: &str, what: impl FnOnce()) -> Option<String> {
        if std::env::var_os(CHILD).is_some() {
            what();
            return None;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("sys::privilege::tests::{test}"), "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// One set of the calling thread, from /proc.
    fn set(status: &str, name: &str) -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
        u64::from_str_radix(value, 16).unwrap()
    }

    fn status() -> String {
        std::fs::read_to_string("/proc/thread-self/status").unwrap()
    }

    #[test]
    fn only_needed_capabilities_stay() {
        let child = in_child("only_needed_capabilities_stay", || {
            drop_to_needed().unwrap();
            println!("\n{}", status());
        });
        let Some(after) = child else { return };
        let kept = set(&status(), "CapPrm") & NEEDED_BITS;
        assert_eq!((set(&after, "CapPrm"), set(&after, "CapEff")), (kept, kept));
        assert_eq!((set(&after, "CapInh"), set(&after, "CapAmb")), (0, 0));
    }

    #[test]
    fn missing_capabilities_are_named() {
        let child = in_child("missing_capabilities_are_named", || {
            println!("\nbefore: {}", require_mount().is_ok());
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
                .unwrap();
            println!("after: {}", require_mount().unwrap_err());
            drop_to_needed().unwrap();
        });
        let Some(said) = child else { return };
        let may = set(&status(), "CapEff") & (1 << 21) != 0;
        assert!(said.contains(&format!("before: {may}\n")), "{said}");
        assert!(said.contains("after: mounting needs CAP_SYS_ADMIN"), "{said}");
        assert!(said.contains("run it as root"), "{said}");
    }
}
