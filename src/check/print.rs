//! Text output of `--check`.

use super::Findings;
use super::disks::Disk;
use super::status::Status;
use super::store::Filesystem;
use crate::runtime::report::Outcome;
use crate::text::escape::{self, Page};
use crate::text::size::size;

/// Column at which the second one begins.
pub const COLUMN: usize = 20;

/// The findings as text; with `quiet` problems only.
///
/// Problems come last, the gravest at the very end: a screen shows the end.
#[must_use]
pub fn text(findings: &Findings, quiet: bool) -> Page {
    let mut out = Page::default();
    let filesystems = || {
        let stores = findings.stores.iter().map(|store| ("store", store));
        findings.root.iter().map(|root| ("root", root)).chain(stores)
    };
    if !quiet {
        for (what, filesystem) in filesystems().filter(|(_, filesystem)| filesystem.problems() == 0) {
            out.line(format_args!("{what:<19} {}", describe(filesystem)));
        }
        entries(&mut out, findings, &|status| !status.is_problem());
        for note in &findings.notes {
            out.line(format_args!("{:<19} {note}", "note"));
        }
    }
    if let Some(run) = findings.last_run.as_ref().filter(|run| !run.failures.is_empty() || !quiet) {
        let outcome = match run.outcome {
            Outcome::Done => "done",
            Outcome::Failed => "failed, and nothing was changed",
            Outcome::Waiting => "waiting for the next boot",
            Outcome::Off => "switched off",
        };
        out.line(format_args!("{:<19} phase {}, {outcome}", "last run", run.phase));
        for failure in &run.failures {
            out.line(format_args!("{:<19} {failure}", ""));
        }
    }
    entries(&mut out, findings, &Status::is_problem);
    for disk in &findings.disks {
        out.line(format_args!("{:<19} {}", "disk", described(disk)));
    }
    for (what, filesystem) in filesystems().filter(|(_, filesystem)| filesystem.problems() > 0) {
        out.line(format_args!("{what:<19} {}", describe(filesystem)));
        for finding in &filesystem.findings {
            let path = escape::name(&filesystem.path);
            out.line(format_args!("{what:<19} {path}: PROBLEM: {}", finding.problem("")));
        }
    }
    if !findings.report.is_empty() {
        out.line(format_args!("{:<19} PROBLEM: {}", "report", findings.report));
    }
    if !findings.manifest.is_empty() {
        out.line(format_args!("{:<19} {}", "manifest", findings.manifest.trim_start_matches("manifest ")));
    }
    if !quiet || findings.problems > 0 {
        out.line("");
        out.line(summary(findings));
    }
    for step in &findings.next {
        out.line(format_args!("-> {step}"));
    }
    out
}

fn described(disk: &Disk) -> String {
    // A mounted device has a file system, even if unreadable.
    let unknown = disk.fstype.is_empty() && disk.state.is_empty() && disk.mounted.is_empty();
    let fstype = if unknown { "no known file system" } else { &disk.fstype };
    let mut text = format!("{} {}", disk.device, size(disk.size));
    for (name, value) in [
        ("", fstype),
        ("LABEL=", &disk.label),
        ("UUID=", &disk.uuid),
        ("mounted at ", &disk.mounted),
        ("", &disk.state),
    ] {
        if !value.is_empty() {
            text = format!("{text} {name}{}", escape::name(value));
        }
    }
    text
}

/// A line for every entry of some states.
fn entries(out: &mut Page, findings: &Findings, which: &dyn Fn(Status) -> bool) {
    for one in findings.entries.iter().filter(|one| which(one.status)) {
        let colon = if one.detail.is_empty() { "" } else { ": " };
        out.line(format_args!("{:<19} {}{colon}{}", one.status.words(), one.target, one.detail));
    }
}

fn describe(filesystem: &Filesystem) -> String {
    let mut text = escape::name(&filesystem.path).into_owned();
    if !filesystem.source.is_empty() {
        let used = format!("{} of {} used", size(filesystem.used), size(filesystem.size));
        let (fstype, source) = (escape::name(&filesystem.fstype), escape::name(&filesystem.source));
        text = format!("{text}: {fstype} on {source}, {used}");
        if filesystem.inodes > 0 {
            text = format!("{text}, {} of {} inodes", filesystem.inodes_used, filesystem.inodes);
        }
    }
    if !filesystem.spared.is_empty() {
        text = format!("{text}: {}", filesystem.spared);
    }
    if !filesystem.problem.is_empty() {
        text = format!("{text}: PROBLEM: {}", filesystem.problem);
    }
    text
}

fn summary(findings: &Findings) -> String {
    let count =
        |wanted: &dyn Fn(Status) -> bool| findings.entries.iter().filter(|one| wanted(one.status)).count();
    let paths = match findings.entries.len() {
        1 => "1 path".to_owned(),
        paths => format!("{paths} paths"),
    };
    let mut parts = vec![paths, format!("{} ok", count(&|one| one == Status::Ok))];
    for status in [Status::Later, Status::Skipped, Status::NotYetStored, Status::Pending] {
        let number = count(&|one| one == status);
        if number > 0 {
            parts.push(format!("{number} {}", status.words()));
        }
    }
    match findings.stores.iter().filter(|store| !store.spared.is_empty()).count() {
        0 => {}
        1 => parts.push("1 store not used".to_owned()),
        stores => parts.push(format!("{stores} stores not used")),
    }
    match findings.problems {
        0 => parts.push("no problem found".to_owned()),
        1 => parts.push("1 problem".to_owned()),
        problems => parts.push(format!("{problems} problems")),
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_disk_has_a_file_system() {
        let disk = |mounted: &str| Disk {
            device: "/dev/vda".into(),
            size: 1 << 30,
            fstype: String::new(),
            label: String::new(),
            uuid: String::new(),
            mounted: mounted.into(),
            state: String::new(),
        };
        assert_eq!(described(&disk("")), "/dev/vda 1.0G no known file system");
        assert_eq!(described(&disk("/")), "/dev/vda 1.0G mounted at /");
    }
}
