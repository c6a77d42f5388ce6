//! What `--check` prints.

use std::fmt::Write;

use super::Findings;
use super::entry::Status;
use super::store::Filesystem;
use crate::manifest::path::escape;
use crate::report::Outcome;

/// The findings as text; with `quiet` only what is not as it should be.
#[must_use]
pub fn text(findings: &Findings, quiet: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, findings, quiet);
    text
}

/// What is well comes first and what is wrong last, the gravest of it at the very end: a screen shows the end.
fn write(out: &mut String, findings: &Findings, quiet: bool) -> std::fmt::Result {
    let filesystems = || {
        let stores = findings.stores.iter().map(|store| ("store", store));
        findings.root.iter().map(|root| ("root", root)).chain(stores)
    };
    if !quiet {
        for (what, filesystem) in filesystems().filter(|(_, filesystem)| filesystem.problem.is_empty()) {
            writeln!(out, "{what:<19} {}", describe(filesystem))?;
        }
        entries(out, findings, &|status| !status.is_problem())?;
        for note in &findings.notes {
            writeln!(out, "{:<19} {}", "note", escape(note))?;
        }
    }
    if let Some(run) = findings.last_run.as_ref().filter(|run| !run.failures.is_empty() || !quiet) {
        let outcome = match run.outcome {
            Outcome::Done => "done",
            Outcome::Failed => "failed, and nothing was changed",
            Outcome::Waiting => "waiting for the next boot",
            Outcome::Off => "switched off",
        };
        writeln!(out, "{:<19} phase {}, {outcome}", "last run", run.phase)?;
        for failure in &run.failures {
            writeln!(out, "{:<19} {}", "", escape(failure))?;
        }
    }
    entries(out, findings, &Status::is_problem)?;
    for disk in &findings.disks {
        write!(out, "{:<19} {} {}", "disk", disk.device, bytes(disk.size))?;
        let unknown = disk.fstype.is_empty() && disk.state.is_empty();
        let fstype = if unknown { "no known file system" } else { &disk.fstype };
        for (name, value) in [
            ("", fstype),
            ("LABEL=", &disk.label),
            ("UUID=", &disk.uuid),
            ("mounted at ", &disk.mounted),
            ("", &disk.state),
        ] {
            if !value.is_empty() {
                write!(out, " {name}{}", escape(value))?;
            }
        }
        out.push('\n');
    }
    for (what, filesystem) in filesystems().filter(|(_, filesystem)| !filesystem.problem.is_empty()) {
        writeln!(out, "{what:<19} {}", describe(filesystem))?;
    }
    if !findings.report.is_empty() {
        writeln!(out, "{:<19} PROBLEM: {}", "report", escape(&findings.report))?;
    }
    if !findings.manifest.is_empty() {
        writeln!(out, "{:<19} {}", "manifest", findings.manifest.trim_start_matches("manifest "))?;
    }
    if !quiet || findings.problems > 0 {
        writeln!(out, "\n{}", summary(findings))?;
    }
    for step in &findings.next {
        writeln!(out, "-> {}", escape(step))?;
    }
    Ok(())
}

/// A line for every entry of some states.
fn entries(out: &mut String, findings: &Findings, which: &dyn Fn(Status) -> bool) -> std::fmt::Result {
    for one in findings.entries.iter().filter(|one| which(one.status)) {
        write!(out, "{:<19} {}", one.status.words(), one.target)?;
        if !one.detail.is_empty() {
            write!(out, ": {}", escape(&one.detail))?;
        }
        out.push('\n');
    }
    Ok(())
}

fn describe(filesystem: &Filesystem) -> String {
    let mut text = escape(&filesystem.path);
    if !filesystem.source.is_empty() {
        let size = format!("{} of {} used", bytes(filesystem.used), bytes(filesystem.size));
        text = format!("{text}: {} on {}, {size}", filesystem.fstype, escape(&filesystem.source));
        if filesystem.inodes > 0 {
            text = format!("{text}, {} of {} inodes", filesystem.inodes_used, filesystem.inodes);
        }
    }
    if !filesystem.problem.is_empty() {
        text = format!("{text}: PROBLEM: {}", escape(&filesystem.problem));
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
    for status in [Status::Later, Status::Skipped, Status::Pending] {
        let number = count(&|one| one == status);
        if number > 0 {
            parts.push(format!("{number} {}", status.words()));
        }
    }
    match findings.problems {
        0 => parts.push("no problem found".to_owned()),
        1 => parts.push("1 problem".to_owned()),
        problems => parts.push(format!("{problems} problems")),
    }
    parts.join(", ")
}

/// A size as people read it: powers of 1024, as df(1) has them with -h.
fn bytes(size: u64) -> String {
    let mut unit = 0;
    let mut rest = size;
    while rest >= 10 * 1024 && unit < 4 {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest}{}", ["B", "K", "M", "G", "T"][unit])
}
