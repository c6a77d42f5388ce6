//! Everything that is refused, with the words it is refused in.

use imp_mount::manifest::{BindOptions, Kind, Manifest, Missing, text, wire};
use imp_mount::problem::Problem;

use crate::manifest;

/// A manifest that is refused.
pub struct Case {
    /// Its text.
    pub json: &'static str,
    /// What is said about it, line by line.
    pub problems: Vec<&'static str>,
    /// Whether the schema alone cannot see what is wrong.
    pub beyond_schema: bool,
}

/// The manifests in `refused.txt`.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("refused.txt").lines() {
        if let Some(problem) = line.strip_prefix("    ") {
            cases.last_mut().unwrap().problems.push(problem);
        } else if !line.is_empty() && !line.starts_with('#') {
            let json = line.strip_prefix("> ").unwrap_or(line);
            cases.push(Case { json, problems: Vec::new(), beyond_schema: json != line });
        }
    }
    cases
}

#[test]
fn what_cannot_work_is_refused_in_so_many_words() {
    for case in cases() {
        let problems = text::parse(case.json).unwrap_err();
        let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems, case.problems, "{}", case.json);
    }
}

#[test]
fn too_many_stores_are_refused() {
    let stores: Vec<_> = (0..65536).map(|number| format!(r#"{{ "path": "/s{number}" }}"#)).collect();
    let problems =
        text::parse(&format!(r#"{{ "version": 1, "stores": [{}] }}"#, stores.join(","))).unwrap_err();
    assert_eq!(problems[0].to_string(), "65536 stores are too many; 65535 is the limit");
}

/// Changes a manifest so that it cannot have come from a text.
type Break = fn(&mut Manifest);

#[test]
fn what_no_text_can_say_is_refused_in_the_binary_form() {
    let breaks: [(Break, &str); 9] = [
        (
            |it| it.entries.reverse(),
            "it is not in path order, so it was not compiled; write it with `impctl compile`",
        ),
        (
            |it| it.entries[0].store = 7,
            "entries[0] /a: its store has the number 7, and there is none; compile it again",
        ),
        (
            |it| it.entries[0].options = BindOptions::NOATIME.and(BindOptions::STRICTATIME),
            "entries[0] /a: it has mount options that this version does not know; compile it again",
        ),
        (
            |it| it.entries[0].owner.mode = Some(0o10000),
            "entries[0] /a: `mode`: 10000 is above 07777, the highest mode",
        ),
        (
            |it| it.root.as_mut().unwrap().mode = 0o10000,
            "root: `mode`: 10000 is above 07777, the highest mode",
        ),
        (
            |it| it.entries[0].kind = Kind::Glob,
            "entries[0] /a: its last component is no pattern; compile it again",
        ),
        (
            |it| it.entries[0].missing = Missing::Skip,
            "entries[0] /a: `missing` is for files only; leave it out",
        ),
        (
            |it| it.root.as_mut().unwrap().convert = Some(it.entries[0].target.clone()),
            "root: `convert`: /a is no store; add it to `stores`: what is mounted as the root becomes that store",
        ),
        (|it| it.stores.clear(), "there are entries, but no store to hold them; name one in `stores`"),
    ];
    let whole = manifest(r#""root": {}, "entries": [{ "directory": "/a" }, { "directory": "/b" }]"#);
    for (damage, message) in breaks {
        let mut manifest = whole.clone();
        damage(&mut manifest);
        assert_eq!(wire::encode(&manifest).unwrap_err().to_string(), message);
        assert_eq!(wire::decode(&crate::wire::sealed(&manifest)).unwrap_err().to_string(), message);
    }
    assert!(wire::decode(&crate::wire::sealed(&whole)).is_ok());
}

#[test]
fn the_binary_form_says_how_much_else_is_wrong() {
    let mut manifest = manifest(r#""entries": [{ "directory": "/a" }, { "directory": "/b" }]"#);
    manifest.entries.iter_mut().for_each(|entry| entry.store = 3);
    let problem = wire::encode(&manifest).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "entries[0] /a: its store has the number 3, and there is none (and 1 more); compile it again"
    );
}
