//! Disposable paths: the built-in list, and the administrator's changes to it.

use std::path::Path;

use super::Scope;
use crate::ctl::known::known;
use crate::ctl::scan::rules::{Rule, Rules};
use crate::ctl::system::System;
use crate::ctl::ui::output::Failure;
use crate::text::escape;
use crate::text::problem::Problem;

/// The administrator's list.
const FILE: &str = "/etc/imp-mount/throw-away";

/// Adds all lists to the rules, the decisive last.
pub fn add(rules: &mut Rules, scope: &Scope, system: &System, built: bool) -> Result<(), Failure> {
    for pattern in known().disposable.keys() {
        line(rules, pattern, || "the built-in list".to_owned())?;
    }
    if built && system.has("/etc/NIXOS") {
        lines(rules, &known().activated.join("\n"), "the built-in list")?;
    }
    own(rules, &scope.throw_away, scope.throw_away_from.as_deref(), system, "")
}

/// Adds the administrator's patterns: a list in a file, or the one in the system, with its /etc below `prefix`, then
/// single patterns.
pub fn own(
    rules: &mut Rules,
    patterns: &[String],
    from: Option<&Path>,
    system: &System,
    prefix: &str,
) -> Result<(), Failure> {
    if let Some(file) = from {
        let text = std::fs::read_to_string(file).map_err(|error| Failure::io("reading", file, &error))?;
        lines(rules, &text, &escape::path(file))?;
    } else {
        let text = system
            .read(&format!("{prefix}{FILE}"))
            .map_err(|error| Failure::io("reading", Path::new(FILE), &error))?;
        lines(rules, &String::from_utf8_lossy(&text.unwrap_or_default()), FILE)?;
    }
    patterns.iter().try_for_each(|pattern| line(rules, pattern, || "--throw-away".to_owned()))
}

/// One pattern a line; empty lines and comments are passed over.
fn lines(rules: &mut Rules, text: &str, place: &str) -> Result<(), Failure> {
    for (number, text) in text.lines().enumerate() {
        let pattern = text.trim();
        if !pattern.is_empty() && !pattern.starts_with('#') {
            line(rules, pattern, || format!("{place}, line {}", number + 1))?;
        }
    }
    Ok(())
}

fn line(rules: &mut Rules, pattern: &str, place: impl FnOnce() -> String) -> Result<(), Failure> {
    let (pattern, rule) =
        pattern.strip_prefix('!').map_or((pattern, Rule::ThrowAway), |rest| (rest, Rule::Precious));
    rules.pattern(pattern, rule).map_err(|reason| {
        let problem =
            Problem::new(format!("`{}` is no pattern: {reason}", escape::name(pattern))).at(place());
        Failure::Unable(problem.remedy("write an absolute path, or a name for what has it anywhere"))
    })
}
