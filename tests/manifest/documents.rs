//! The schema and the man page agree with the code.

use std::collections::BTreeSet;

use imp_mount::manifest::text;
use jsonschema::Validator;
use serde_json::Value;

use crate::refused::cases;

const SCHEMA: &str = include_str!("../../docs/manifest.schema.json");
const PAGE: &str = include_str!("../../docs/manifest.5");

/// Accepted manifests: together they have every key, and values near every limit.
pub const ACCEPTED: [&str; 21] = [
    r#"{ "version": 1 }"#,
    include_str!("../golden/v1.json"),
    r#"{ "version": 1, "root": null, "stores": null, "parents": null, "entries": null, "ids": null, "layout": null }"#,
    r#"{ "version": 1, "root": {}, "stores": [], "parents": [], "entries": [], "ids": {} }"#,
    r#"{ "version": 1, "root": { "convert": "/nix/persist", "size": "50%", "mode": "u=rwx,go=rx", "inodes": "0", "options": ["huge=within_size", "noexec,noatime", "mpol=default"] } }"#,
    r#"{ "version": 1, "root": { "on": "/p", "mode": "0711", "options": ["nosuid,noatime"] }, "stores": [{ "path": "/p" }, { "path": "/q" }],
        "old_roots": { "boots": 1, "days": 4294967295, "size": "1T", "save_size": "1", "save_seconds": 1 } }"#,
    r#"{ "version": 1, "root": { "on": "/p", "convert": "/p" }, "old_roots": { "store": "/p", "boots": null, "size": "1023k" } }"#,
    r#"{ "version": 1, "root": { "size": "1048576", "inodes": "1000k" } }"#,
    r#"{ "version": 1, "root": { "size": "150%", "mode": null } }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p", "device": "PARTLABEL=my disk", "fstype": "fuse.x-y_z", "options": ["subvol=/a b", "compress=zstd:1,noatime"], "required": false, "from": "" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }, { "path": "/p/q", "device": "/dev/disk/by-id/x", "fstype": "auto" }, { "path": "/runner" }],
        "entries": [{ "directory": "/a", "store": "/p", "source": "/" }, { "directory": "/q/x", "store": "/p/q" }, { "directory": "/nix", "store": "/p", "phase": "early" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/runs" }, { "directory": "/development" }, { "directory": "/nix/stores" }, { "directory": "/persist" }, { "directory": "/a\nb ü" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "parents": [{ "directory": "/home/a", "user": "a", "group": 100, "mode": "0700" }],
        "entries": [{ "file": "/home/a/x/f", "parents": { "user": "a", "mode": "0700" } }, { "file": "/home/a/x/g", "parents": { "user": "a", "group": "users" } }, { "directory": "/home/a" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "file": "/etc/machine-id", "missing": "machine-id" }, { "file": "/b", "missing": "create", "method": "copy" },
        { "file": "/c", "missing": "skip", "method": "symlink", "options": ["x-gvfs-hide"] }, { "file": "/d", "missing": "fail", "method": null }, { "directory": "/e", "method": "symlink", "hidden": true } ] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "file": "/a/k*", "method": "symlink" }, { "file": "/a/key" }, { "file": "/\\*/x?[!a-c]\\[" }, { "file": "/a/sys\\x2d" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/a", "phase": "early" }, { "directory": "/a/b", "phase": "boot" }, { "directory": "/a/b/c", "phase": "etc" }, { "directory": "/a/b/c/d", "phase": "live" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "file": "/a", "source": "/x" }, { "file": "/b", "source": "/x" }, { "directory": "/c", "source": "/y" }, { "directory": "/d", "source": "/y/z" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/a", "mode": "u=rwX,g=rX,o=" }, { "directory": "/b", "mode": "+t,g-w" }, { "directory": "/c", "mode": "2750" }, { "directory": "/d", "mode": "01777" }, { "directory": "/e", "mode": "=700" }, { "directory": "/f", "mode": "g=u,o=" }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/a", "options": ["rw", "dev", "exec", "suid", "strictatime", "nodiratime", "nosymfollow"], "required": false, "enforce": true, "trash": true }] }"#,
    r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/a", "user": "568", "group": "root", "parents": { "user": "plex" } }, { "directory": "/b", "user": 4294967294 }], "ids": { "users": { "plex": 193, "ü": 0 }, "groups": {}, "strict": true } }"#,
    r#"{ "version": 1, "layout": { "filesystems": [{ "path": "/", "fstype": "tmpfs", "in-initrd": true, "from": "x" }, { "path": "/data" }], "etc-overlay": true } }"#,
];

/// The parts of a manifest: their names in the man page, their places in the schema, and text with an unknown key there.
const PARTS: [(&str, &str, &str); 10] = [
    ("The manifest", "", r#"{ "version": 1, "?": 1 }"#),
    ("root", "/$defs/root", r#"{ "version": 1, "root": { "?": 1 } }"#),
    (
        "old_roots",
        "/$defs/old_roots",
        r#"{ "version": 1, "stores": [{ "path": "/p" }], "old_roots": { "?": 1 } }"#,
    ),
    ("stores", "/$defs/store", r#"{ "version": 1, "stores": [{ "path": "/p", "?": 1 }] }"#),
    ("parents", "/$defs/parent", r#"{ "version": 1, "parents": [{ "directory": "/a", "?": 1 }] }"#),
    (
        "entries",
        "/$defs/entry",
        r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "file": "/a", "?": 1 }] }"#,
    ),
    (
        "entries.parents",
        "/$defs/owner",
        r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "file": "/a", "parents": { "?": 1 } }] }"#,
    ),
    ("ids", "/$defs/ids", r#"{ "version": 1, "ids": { "?": 1 } }"#),
    ("layout", "/$defs/layout", r#"{ "version": 1, "layout": { "?": 1 } }"#),
    (
        "layout.filesystems",
        "/$defs/filesystem",
        r#"{ "version": 1, "layout": { "filesystems": [{ "path": "/data", "?": 1 }] } }"#,
    ),
];

fn schema() -> (Value, Validator) {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    (schema, validator)
}

/// Words before the list in a refusal.
fn listed(json: &str, after: &str) -> BTreeSet<String> {
    let problems = text::parse(json).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems[0].to_string();
    problem
        .split_once(after)
        .unwrap_or_else(|| panic!("{problem}"))
        .1
        .split(", ")
        .map(str::to_owned)
        .collect()
}

/// The keys in a section of the man page.
fn documented(section: &str) -> BTreeSet<String> {
    let text = PAGE.split_once(&format!("\n.Ss {section}\n")).unwrap().1;
    let text = text.lines().take_while(|line| !line.starts_with(".Ss ") && !line.starts_with(".Sh "));
    text.filter_map(|line| line.strip_prefix(".It Cm "))
        .flat_map(|keys| keys.split(" , "))
        .map(|key| key.replace("\\-", "-"))
        .collect()
}

#[test]
fn keys_are_the_same_in_the_reader_the_schema_and_the_man_page() {
    let (schema, _) = schema();
    for (section, place, json) in PARTS {
        let read = listed(json, "the keys here are ");
        let described = schema.pointer(&format!("{place}/properties")).unwrap().as_object().unwrap();
        assert_eq!(read, described.keys().cloned().collect(), "the schema's {section}");
        assert_eq!(read, documented(section), "the man page's {section}");
    }
}

#[test]
fn words_are_the_same_in_the_reader_the_schema_and_the_man_page() {
    let (schema, _) = schema();
    for key in ["method", "missing", "phase"] {
        let json = format!(
            r#"{{ "version": 1, "stores": [{{ "path": "/p" }}], "entries": [{{ "file": "/a", "{key}": "?" }}] }}"#
        );
        let read = listed(&json, "only ");
        let described =
            schema.pointer(&format!("/$defs/entry/properties/{key}/enum")).unwrap().as_array().unwrap();
        assert_eq!(read, described.iter().filter_map(Value::as_str).map(str::to_owned).collect(), "{key}");
        for word in read {
            assert!(PAGE.contains(&format!("\n.Cm {}", word.replace('-', "\\-"))), "{key}: {word}");
        }
    }
}

#[test]
fn the_schema_accepts_accepted_manifests() {
    let (_, validator) = schema();
    for json in ACCEPTED {
        let errors: Vec<_> =
            validator.iter_errors(&serde_json::from_str(json).unwrap()).map(|it| it.to_string()).collect();
        assert_eq!(errors, [""; 0], "{json}");
    }
}

#[test]
fn the_schema_refuses_wrong_manifests() {
    let (_, validator) = schema();
    for case in cases() {
        // A text that is no JSON has no schema.
        if let Ok(value) = serde_json::from_str(case.json) {
            assert_eq!(validator.is_valid(&value), case.beyond_schema, "{}", case.json);
        }
    }
}

#[test]
fn the_man_pages_example_compiles() {
    let example = PAGE.split_once("\n.Bd -literal\n").unwrap().1.split_once("\n.Ed\n").unwrap().0;
    let example = example.replace("\\-", "-").replace("\\e", "\\");
    let manifest = text::parse(&example).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(manifest.entries.len(), 9);
    let (_, validator) = schema();
    assert!(validator.is_valid(&serde_json::from_str(&example).unwrap()));
}
