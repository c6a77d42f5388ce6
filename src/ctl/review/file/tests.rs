#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::manifest::AbsPath;

fn origin(why: &str) -> Origin {
    Origin { on: "2026-11-27".to_owned(), by: "ada".to_owned(), why: why.to_owned() }
}

fn keep(record: &mut Record, entry: serde_json::Value, store: &str, why: &str) {
    let entry = serde_json::from_value(entry).unwrap();
    record.add(Decision::of_entry(entry, store, origin(why)).unwrap());
}

fn example() -> Record {
    let mut record = Record::default();
    keep(
        &mut record,
        json!({ "directory": "/var/lib/plex", "user": "plex", "mode": "0700" }),
        "/persist",
        "films: all",
    );
    keep(&mut record, json!({ "directory": "/srv/\u{202e}${x} \"\\" }), "/data", "");
    keep(&mut record, json!({ "file": "/etc/a\\*b" }), "/persist", "");
    keep(&mut record, json!({ "file": "/etc/keys/*" }), "/persist", "several");
    for (choice, path) in [(Choice::ThrowAway, "/var/lib/x\\[1]"), (Choice::LookInto, "/srv/y  # z")] {
        record.add(Decision::of_pattern(choice, path, origin("is \"made\" anew")).unwrap());
    }
    record
}

#[test]
fn both_forms_are_read_as_they_are_written() {
    let record = example();
    for form in [Form::Nix, Form::Json] {
        let text = form.write(&record).unwrap();
        assert_eq!(form.read(text.as_bytes()).unwrap(), record, "{text}");
        let nothing = form.write(&Record::default()).unwrap();
        assert_eq!(form.read(nothing.as_bytes()).unwrap(), Record::default(), "{nothing}");
    }
    assert_eq!(
        Form::Nix.write(&record).unwrap(),
        format!(
            "{HEAD}\n{{\n  environment.persistence.\"/data\" = {{\n    directories = [\n      \
             \"/srv/${{builtins.fromJSON \"\\\"\\\\u202e\\\"\"}}\\${{x}} \\\"\\\\\"  # kept 2026-11-27 by ada\n    ];\n  }};\n  \
             environment.persistence.\"/persist\" = {{\n    directories = [\n      {{ directory = \"/var/lib/plex\"; user = \"plex\"; \
             mode = \"0700\"; }}  # kept 2026-11-27 by ada: films: all\n    ];\n    files = [\n      \
             \"/etc/a\\\\*b\"  # kept 2026-11-27 by ada\n      \"/etc/keys/*\"  # kept 2026-11-27 by ada: several\n    ];\n  }};\n\
             {THROW_AWAY}\n    \"/var/lib/x\\\\[1]\"  # 2026-11-27 by ada: is \"made\" anew\n  ];\n{LOOK_INTO}\n  #   \
             \"/srv/y  # z\"  # 2026-11-27 by ada: is \"made\" anew\n}}\n"
        )
    );
}

#[test]
fn nothing_else_is_read() {
    let strange = ["  services.x = {", "/* a remark", "  ''", "}", "  ];"];
    for (form, strange) in
        [(Form::Nix, &strange[..]), (Form::Json, &["# a remark", "  \"x\": 1,", "{ \"file\": 1 },"][..])]
    {
        let text = form.write(&example()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for index in 0..lines.len() {
            // A comment may stand anywhere.
            if lines[index].trim_start().starts_with('#') {
                continue;
            }
            for strange in strange.iter().chain([&lines[index]]) {
                let mut changed = lines.clone();
                changed.insert(index, strange);
                let changed = changed.join("\n") + "\n";
                let problem = form.read(changed.as_bytes()).unwrap_err();
                assert!(
                    problem.at.starts_with("line ") && !problem.remedy.is_empty(),
                    "{problem}: {changed}"
                );
            }
            // White space of JSON has no meaning.
            let indented = format!(" {}", lines[index]);
            let mut changed = lines.clone();
            changed[index] = &indented;
            let changed = changed.join("\n") + "\n";
            assert_eq!(form.read(changed.as_bytes()).is_ok(), form == Form::Json, "{changed}");
        }
        form.read(format!("{text}}}").as_bytes()).unwrap_err();
        assert_eq!(form.read(text.replace('\n', "\r\n").as_bytes()).is_ok(), form == Form::Json);
        assert!(form.read(b"\n\xff").unwrap_err().at.ends_with('2'));
    }
    for text in ["{ }\n", "{\n}\n", "\n", "{ pkgs, ... }:\n{\n}\n"] {
        Form::Nix.read(text.as_bytes()).unwrap_err();
    }
    // A second time the same path.
    let text = Form::Nix.write(&example()).unwrap();
    let line = text.lines().find(|line| line.contains("/etc/keys")).unwrap();
    let twice = text.replace(line, &format!("{line}\n{line}"));
    Form::Nix.read(twice.as_bytes()).unwrap_err();
}

#[test]
fn lines_by_hand_stay() {
    let (small, whole) = (Record::default(), example());
    let mut other = example();
    other.add(Decision::of_pattern(Choice::LookInto, "/srv/new", origin("x")).unwrap());
    let text = Form::Nix.write(&whole).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let by_hand = [
        "",
        "  # a remark",
        "  services.x = {",
        "    enable = true;",
        "  };",
        "    \"/srv/mine\"",
        "# kept by me",
    ];
    for index in 1..lines.len() {
        let mut changed = lines.clone();
        changed.splice(index..index, by_hand);
        let changed = changed.join("\n") + "\n";
        let read = Form::Nix.read(changed.as_bytes());
        let Ok(mut record) = read else {
            // `  };` ends the section of a store.
            assert!(changed[..changed.find("a remark").unwrap()].contains(STORE), "{changed}");
            continue;
        };
        assert_eq!(Form::Nix.rewrite(changed.as_bytes(), &record).unwrap(), changed);
        record.add(Decision::of_pattern(Choice::LookInto, "/srv/new", origin("x")).unwrap());
        let new = Form::Nix.rewrite(changed.as_bytes(), &record).unwrap();
        assert_eq!(difference(&changed, &new).len(), 1, "{new}");
        assert!(new.contains(&by_hand.join("\n")), "{new}");
    }
    // An entry by hand holds its list, also without others.
    let changed = text.replace("    files = [\n", "    files = [\n      \"/etc/mine\"  # mine\n");
    let mut record = Form::Nix.read(changed.as_bytes()).unwrap();
    assert!(record.by_hand.contains(&(AbsPath::parse("/etc/mine").unwrap(), false)));
    for path in ["/etc/a\\*b", "/etc/keys/*", "/var/lib/plex"] {
        record.add(Decision::of_pattern(Choice::LookInto, path, origin("no more")).unwrap());
    }
    let new = Form::Nix.rewrite(changed.as_bytes(), &record).unwrap();
    let list = "  environment.persistence.\"/persist\" = {\n    files = [\n      \"/etc/mine\"  # mine\n    ];\n  };\n";
    assert!(new.contains(list) && new.matches("directories").count() == 1, "{new}");
    assert_eq!(Form::Nix.rewrite(b"", &small).unwrap(), format!("{HEAD}\n{{\n}}\n"));
    // A file whose last line has no end.
    let new = Form::Nix.rewrite(text.trim_end().as_bytes(), &whole).unwrap();
    assert_eq!(new, text);
}

#[test]
fn a_line_that_is_taken_out_by_hand_is_gone() {
    let text = Form::Nix.write(&example()).unwrap();
    let line = text.lines().find(|line| line.contains("/etc/keys")).unwrap();
    let without = text.replace(&format!("{line}\n"), "");
    assert_eq!(Form::Nix.write(&Form::Nix.read(without.as_bytes()).unwrap()).unwrap(), without);
    assert_eq!(difference(&without, &text), [format!("+ {line}")]);
    assert_eq!(difference(&text, &without), [format!("- {line}")]);
    // All lines of a list, and of a store.
    let begins = ["      ", "    \"", "  #  "];
    let without: Vec<_> =
        text.lines().filter(|line| !begins.iter().any(|begin| line.starts_with(begin))).collect();
    let empty = Form::Nix.read(without.join("\n").as_bytes()).unwrap();
    assert_eq!(empty, Record::default());
}

#[test]
fn decisions_are_added_and_changed() {
    let mut record = example();
    let before = record.clone();
    // The same again, later and by another user.
    let later = Origin { on: "2027-01-01".to_owned(), by: "bob".to_owned(), why: String::new() };
    record.add(Decision::of_pattern(Choice::ThrowAway, "/var/lib/x\\[1]", later).unwrap());
    assert_eq!(record, before);
    // Another answer takes the place of the first.
    record.add(Decision::of_pattern(Choice::LookInto, "/var/lib/x\\[1]", origin("why?")).unwrap());
    assert_eq!(record.all(Choice::ThrowAway).count(), 0);
    assert_eq!(record.all(Choice::LookInto).count(), 2);
    // All files of a directory differ from one file named `*`.
    let count = record.all(Choice::Keep).count();
    keep(&mut record, json!({ "file": "/etc/keys/\\*" }), "/persist", "");
    assert_eq!(record.all(Choice::Keep).count(), count + 1);
    let path = AbsPath::parse("/var/lib/plex/db").unwrap();
    assert_eq!(record.above(&path, Choice::Keep).unwrap().target.as_str(), "/var/lib/plex");
    assert!(record.above(&path, Choice::ThrowAway).is_none());
}
