//! A strict parser of Prometheus' text format 0.0.4, with the name rules of promtool.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::{BTreeMap, BTreeSet};

/// Name and labels, and the value.
pub type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// One sample; none if absent.
pub fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

/// Every sample of a well-formed text: each family in one piece with HELP and TYPE before it, no sample twice.
#[track_caller]
pub fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line does not end: {text:?}");
    let (mut samples, mut seen) = (Samples::new(), BTreeSet::new());
    let mut family = String::new();
    let mut lines = text.strip_suffix('\n').unwrap().split('\n').peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            is_name(name, true);
            assert!(seen.insert(name.to_owned()), "{name}: in two pieces");
            // Ends with a full stop, and needs no escape.
            assert!(help.ends_with('.') && !help.contains('\\'), "{help:?}");
            name.clone_into(&mut family);
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
            let next = lines.peek().expect("a sample");
            assert!(next.starts_with(name) && !next.starts_with('#'), "{name}: no sample");
            continue;
        }
        let (name, labels, value) = sample(line);
        assert_eq!(name, family, "a sample outside of its family: {line:?}");
        assert!(samples.insert((name, labels), value).is_none(), "twice: {line:?}");
    }
    lint(&seen);
    samples
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line:?}"));
    let (name, mut rest) = line.split_at(end);
    is_name(name, true);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line:?}"));
            is_name(label, false);
            let (value, after) = quoted(after).unwrap_or_else(|| panic!("no quoted value: {line:?}"));
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice: {line:?}");
            let Some(more) = after.strip_prefix(',') else {
                rest = after.strip_prefix('}').unwrap_or_else(|| panic!("no end of labels: {line:?}"));
                break;
            };
            rest = more;
        }
    }
    let number = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no space: {line:?}"));
    assert!(
        number.chars().all(|c| c.is_ascii_digit() || c == '.'),
        "no number, or a time after it: {line:?}"
    );
    (name.to_owned(), labels, number.parse().unwrap())
}

/// A label's value up to its quote, and the rest. Only these three escapes are valid.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                '\\' => '\\',
                '"' => '"',
                'n' => '\n',
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

fn is_name(name: &str, colons: bool) {
    let fits = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    let mut chars = name.chars();
    assert!(chars.next().is_some_and(fits), "{name:?}");
    assert!(chars.all(|c| fits(c) || c.is_ascii_digit()), "{name:?}");
    assert!(!name.starts_with("__"), "{name:?} is reserved");
}

/// Faults reported by `promtool check metrics`.
fn lint(names: &BTreeSet<String>) {
    for name in names {
        assert!(name.starts_with("imp_mount_"), "{name}");
        for end in ["_total", "_count", "_sum", "_bucket", "_info"] {
            assert!(!name.ends_with(end), "{name}: no gauge ends so");
        }
        for part in name.split('_') {
            assert!(
                !["gauge", "milliseconds", "ms", "kb", "percent", "minutes"].contains(&part),
                "{name}: {part}"
            );
        }
        assert!(!name.contains(|c: char| c.is_ascii_uppercase()), "{name}");
    }
}
