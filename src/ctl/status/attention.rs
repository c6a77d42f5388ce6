//! Problems by severity, and their remedies.

use serde::Serialize;

use super::Status;
use crate::check::status::Status as Health;
use crate::check::store::Filesystem;
use crate::check::{AGAIN, PLACE};
use crate::ctl::known::known;
use crate::runtime::report::{Outcome, PATH, Run};
use crate::text::escape;

/// One finding that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Concern {
    /// Kind of the subject, or state of an entry.
    pub kind: Subject,
    /// Its path; of a run the root.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    pub at: String,
    /// Its cause.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub what: String,
}

/// Subject of a concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A report of earlier runs.
    Report,
    /// A run.
    Run,
    /// The root.
    Root,
    /// A store.
    Store,
    /// A missing owner.
    Owner,
    /// An adopted path.
    Adopted,
    /// An entry, by its state.
    #[serde(untagged)]
    Entry(Health),
}

impl Concern {
    fn new(kind: Subject, at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind, at: at.into(), what: what.into() }
    }
}

/// All findings that need attention; `last` is the last run since the boot, and `unread` the unreadable records of earlier runs.
pub fn concerns(status: &Status, unread: &[(String, String)], last: Option<&Run>) -> Vec<Concern> {
    let mut all: Vec<_> =
        unread.iter().map(|(path, problem)| Concern::new(Subject::Report, path, problem)).collect();
    match last {
        // Unknown for another system.
        None if all.is_empty() && status.sysroot == "/" => {
            let what = "there is none: it was not booted with imp-mount";
            all.push(Concern::new(Subject::Report, PATH, what));
        }
        Some(run) if run.outcome == Outcome::Off => {
            let what = "imp-mount=off: persistent paths are neither mounted nor guarded";
            all.push(Concern::new(Subject::Run, "/", what));
        }
        _ => {}
    }
    let stores = status.stores.iter().map(|store| (Subject::Store, store));
    for (kind, volume) in status.root.iter().map(|root| (Subject::Root, root)).chain(stores) {
        let found = &volume.filesystem;
        if !found.problem.is_empty() {
            all.push(Concern::new(kind, &found.path, &found.problem));
        }
        for finding in &found.findings {
            all.push(Concern::new(kind, &found.path, finding.problem("").to_string()));
        }
        if let Some(errors) = volume.errors.filter(|errors| *errors > 0) {
            let remedy = remedy(found);
            let what = format!("its file system has recorded errors ({errors}): see `dmesg`, and {remedy}");
            all.push(Concern::new(kind, &found.path, what));
        }
    }
    let before_entries = all.len();
    for required in [true, false] {
        for entry in status.entries.iter().filter(|one| one.status.is_problem() && one.required == required) {
            let mut what = entry.detail.clone();
            if status.since.changed.iter().any(|changed| changed.target == entry.target) {
                what += "; it was not so after the last run";
            }
            let known = known().what(entry.target.as_str());
            if !known.is_empty() {
                what = format!("{what}; it holds {known}");
            }
            if !required {
                what += " (optional)";
            }
            all.push(Concern::new(Subject::Entry(entry.status), entry.target.as_str(), what));
        }
    }
    if let Some(run) = last.filter(|run| run.outcome == Outcome::Failed) {
        let mut failed = vec![Concern::new(Subject::Run, "/", "the last one failed, and changed nothing")];
        let known = |text: &str| all.iter().any(|one| is_about(text, &one.at));
        failed.extend(
            run.failures.iter().filter(|text| !known(text)).map(|text| Concern::new(Subject::Run, "/", text)),
        );
        all.splice(before_entries..before_entries, failed);
    }
    for pending in &status.pending {
        all.push(Concern::new(
            Subject::Owner,
            pending.base.join(&pending.path).as_str(),
            format!("it is root's alone, and waits for {}", owner(pending)),
        ));
    }
    // The subject is an entry.
    for one in status.since.adopted.iter().filter(|one| !one.named) {
        let what = if one.mounted {
            "the configuration does not name it, so the next boot is without it"
        } else {
            "it was adopted, and is not mounted any more: what is written there now does not persist"
        };
        all.push(Concern::new(Subject::Adopted, one.target.as_str(), what));
    }
    all
}

/// Remedy for errors recorded by a file system.
fn remedy(found: &Filesystem) -> String {
    match found.fstype.as_str() {
        // The check works while mounted, and the counter must be reset.
        "btrfs" => {
            let path = escape::shell(&found.path);
            format!("run `btrfs scrub start {path}`, then `btrfs device stats --reset {path}`")
        }
        _ => "check it with fsck".to_owned(),
    }
}

/// True if a message of a run begins with this path.
pub fn is_about(message: &str, at: &str) -> bool {
    let message = message.strip_prefix("store ").unwrap_or(message);
    message.strip_prefix(&*escape::name(at)).is_some_and(|rest| rest.starts_with([':', ' ']))
}

fn owner(pending: &crate::runtime::report::Pending) -> String {
    let named = [("user", &pending.user), ("group", &pending.group)];
    let named = named.into_iter().filter_map(|(what, id)| Some(format!("the {what} {}", id.as_ref()?)));
    named.collect::<Vec<_>>().join(" and ")
}

/// Remedies in the order to follow. `checked` has those of `--check`.
pub fn next(status: &Status, last: Option<&Run>, checked: &[String]) -> Vec<String> {
    let mut next = Vec::new();
    let mut say = |words: &str| {
        if !next.iter().any(|said| said == words) {
            next.push(words.to_owned());
        }
    };
    match last.map(|run| run.outcome) {
        Some(Outcome::Off) => say("boot without imp-mount=off on the kernel command line"),
        Some(Outcome::Waiting) => say("boot the machine: its root is turned over then"),
        _ => {}
    }
    let has_failed = status.attention.iter().any(|one| one.kind == Subject::Run)
        && last.is_some_and(|run| run.outcome == Outcome::Failed);
    for words in checked.iter().filter(|words| !has_failed || *words != PLACE) {
        say(words);
    }
    if has_failed {
        say(AGAIN);
    }
    if !status.pending.is_empty() {
        say("once users exist, run imp-mount --settle");
    }
    for one in status.since.adopted.iter().filter(|one| !one.named) {
        say(&one.keep);
    }
    if !status.unseen.is_empty() {
        say("run it as root to see everything");
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_each_file_system() {
        let of = |fstype: &str| {
            remedy(&Filesystem {
                path: "/persist".to_owned(),
                fstype: fstype.to_owned(),
                ..Filesystem::default()
            })
        };
        assert_eq!(of("ext4"), "check it with fsck");
        assert_eq!(
            of("btrfs"),
            "run `btrfs scrub start /persist`, then `btrfs device stats --reset /persist`"
        );
    }
}
