//! State after a run: its report, and the guards of failed entries.

use std::fs::{self, File};
use std::io::ErrorKind;

use serde_json::Value;

use super::look::stat;
use super::{Machine, Output};

impl Machine {
    /// The report of the last run.
    #[allow(clippy::unused_self, reason = "there is one machine, and this reads as a question to it")]
    pub fn report(&self) -> Value {
        serde_json::from_slice(&fs::read("/run/imp-mount/report.json").expect("a report")).unwrap()
    }

    /// The state of one target in the report; none if missing.
    pub fn state(&self, target: &str) -> Option<String> {
        let report = self.report();
        let entries = report["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["target"] == target)?;
        Some(entry["state"].as_str().unwrap().to_owned())
    }

    /// A target is read-only, also for root, and its source is hidden.
    #[track_caller]
    pub fn is_guarded(&self, target: &str) {
        self.is_skipped(target);
        assert_eq!(self.state(target).as_deref(), Some("guarded"), "{target}");
    }

    /// The same for a skipped entry.
    #[track_caller]
    pub fn is_skipped(&self, target: &str) {
        let mount = self.mount_at(target).unwrap_or_else(|| panic!("{target}: no guard"));
        assert!(mount.options.split(',').any(|option| option == "ro"), "{mount:?}");
        let path = self.at(target);
        let (mode, uid, gid) = stat(&path);
        assert_eq!((mode & 0o7777, uid, gid), (0, 0, 0), "{target}");
        let written = if path.is_dir() {
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "{target}");
            File::create(path.join("new"))
        } else {
            File::options().write(true).open(&path)
        };
        assert_eq!(written.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem, "{target}");
    }
}

impl Output {
    /// All of these words must be in one line of its output on stderr.
    #[track_caller]
    pub fn says_in_one_line(self, words: &[&str]) -> Self {
        let whole = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(self.stderr.lines().any(whole), "no line with {words:?} in {self:?}");
        self
    }
}
