//! Meaning of a text: its defaults, its normal form, and the text that `show` prints.

use imp_mount::manifest::{
    BindOptions, Entry, Id, Ids, Kind, Manifest, Method, Missing, Owner, Phase, show, text,
};

use crate::manifest;

fn entry(keys: &str) -> Entry {
    manifest(&format!(r#""entries": [{{ {keys} }}]"#)).entries.remove(0)
}

#[test]
fn missing_keys_have_defaults() {
    let manifest = manifest(r#""entries": [{ "directory": "/a" }]"#);
    assert_eq!((manifest.root, manifest.parents, manifest.ids), (None, Vec::new(), Ids::default()));
    let store = &manifest.stores[0];
    assert!(store.required && store.device.is_none() && store.fstype.is_none() && store.options.is_empty());
    let entry = &manifest.entries[0];
    assert_eq!((entry.kind, entry.store, &entry.source), (Kind::Directory, 0, &None));
    assert_eq!((&entry.owner, &entry.parents), (&Owner::default(), &None));
    assert_eq!((entry.method, entry.missing, entry.phase), (Method::Bind, Missing::Link, Phase::Boot));
    assert_eq!(entry.options, BindOptions::DEFAULT);
    assert_eq!([entry.required, entry.enforce, entry.hidden, entry.trash], [true, false, false, false]);
    assert_eq!(text::parse(r#"{ "version": 1 }"#), Ok(Manifest::default()));
}

#[test]
fn null_is_as_good_as_absent() {
    let nothing =
        r#"{ "version": 1, "root": null, "stores": null, "parents": null, "entries": null, "ids": null }"#;
    assert_eq!(text::parse(nothing), Ok(Manifest::default()));
    let keys = [
        "file", "store", "source", "user", "group", "mode", "parents", "method", "missing", "options",
        "required",
    ];
    let keys = keys.into_iter().chain(["enforce", "hidden", "trash", "phase", "from"]);
    let nulls: Vec<_> = keys.map(|key| format!(r#""{key}": null"#)).collect();
    assert_eq!(entry(&format!(r#""directory": "/a", {}"#, nulls.join(", "))), entry(r#""directory": "/a""#));
}

#[test]
fn everything_comes_in_path_order() {
    let json = r#"{ "version": 1, "stores": [{ "path": "/z" }, { "path": "/c/" }],
        "parents": [{ "directory": "/home/b" }, { "directory": "/home/a" }],
        "entries": [{ "directory": "/b-x", "store": "/z" }, { "directory": "/b/x", "store": "/c" }, { "directory": "/b", "store": "/z//" }] }"#;
    let manifest = text::parse(json).unwrap();
    let stores: Vec<_> = manifest.stores.iter().map(|store| store.path.as_str()).collect();
    let parents: Vec<_> = manifest.parents.iter().map(|parent| parent.path.as_str()).collect();
    let entries: Vec<_> = manifest.entries.iter().map(|entry| (entry.target.as_str(), entry.store)).collect();
    assert_eq!((stores, parents), (vec!["/c", "/z"], vec!["/home/a", "/home/b"]));
    assert_eq!(entries, [("/b", 1), ("/b/x", 0), ("/b-x", 1)]);
}

#[test]
fn the_same_thing_said_in_several_ways_is_the_same() {
    for (one, other) in [
        (
            r#""directory": "/a", "user": "568", "group": 568"#,
            r#""directory": "//a/./", "user": 568, "group": "0568""#,
        ),
        (r#""directory": "/a", "source": "/a/""#, r#""directory": "/a""#),
        (r#""directory": "/a", "parents": {}"#, r#""directory": "/a", "parents": { "user": null }"#),
        (r#""directory": "/a", "parents": {}"#, r#""directory": "/a""#),
        (r#""directory": "/a", "mode": "u=rwx,g=rx,o=""#, r#""directory": "/a", "mode": "00750""#),
        (r#""file": "/a", "mode": "u=rwX,g=rX,o=""#, r#""file": "/a", "mode": "0640""#),
        (
            r#""file": "/a", "options": ["x-gvfs-hide", "x-gvfs-trash"]"#,
            r#""file": "/a", "hidden": true, "trash": true"#,
        ),
        (
            r#""file": "/a", "options": ["ro,noexec", "bind"]"#,
            r#""file": "/a", "options": ["noexec", "nosuid", "suid", "nosuid", "ro"]"#,
        ),
        (r#""file": "/a\\*b", "missing": "link""#, r#""file": "/a\\*b", "method": "bind", "phase": "boot""#),
    ] {
        assert_eq!(entry(one), entry(other), "{one}");
    }
    assert_eq!(entry(r#""directory": "/a", "user": "0568""#).owner.user, Some(Id::Number(568)));
    let device = r#""version": 1, "stores": [{ "path": "/p", "device": "UUID=x""#;
    assert_eq!(
        text::parse(&format!(r#"{{ {device}, "fstype": "auto" }}] }}"#)),
        text::parse(&format!("{{ {device} }}] }}"))
    );
}

#[test]
fn files_and_patterns() {
    let glob = entry(r#""file": "/etc/ssh/ssh_host_*""#);
    assert_eq!((glob.kind, glob.target.as_str()), (Kind::Glob, "/etc/ssh/ssh_host_*"));
    let file = entry(r#""file": "/\\[x\\]/\\*""#);
    assert_eq!((file.kind, file.target.as_str()), (Kind::File, "/[x]/*"));
    let directory = entry(r#""directory": "/a*/[b]""#);
    assert_eq!((directory.kind, directory.target.as_str()), (Kind::Directory, "/a*/[b]"));
    // A path matched by a pattern may have an entry of its own.
    manifest(r#""entries": [{ "file": "/a/k*" }, { "file": "/a/key", "mode": "0600" }]"#);
}

#[test]
fn a_converted_root_is_a_store() {
    let json = r#"{ "version": 1, "root": { "convert": "/persist", "size": "2g" }, "entries": [{ "directory": "/a" }] }"#;
    let manifest = text::parse(json).unwrap();
    assert_eq!(manifest.stores.len(), 1);
    assert!(manifest.store(&manifest.entries[0]).required);
    let root = manifest.root.unwrap();
    assert_eq!(
        (root.convert.as_ref(), root.size.as_deref(), root.mode),
        (Some(&manifest.stores[0].path), Some("2g"), 0o755)
    );
}

#[test]
fn possible_settings_are_not_refused() {
    for json in super::documents::ACCEPTED {
        let manifest = text::parse(json).unwrap_or_else(|problems| panic!("{json}: {problems:?}"));
        assert_eq!(text::parse(&show::show(&manifest)).as_ref(), Ok(&manifest), "{json}");
    }
}

#[test]
fn show_prints_only_differences_from_the_defaults() {
    let manifest = manifest(
        r#""entries": [{ "file": "/b\\*", "user": "568", "options": ["suid", "nodev"], "required": true, "from": "x.nix" },
            { "directory": "/a", "mode": "u=rwx,go=", "phase": "live", "enforce": true, "parents": { "group": "g" } }]"#,
    );
    let shown = r#"{
  "version": 1,
  "stores": [
    { "path": "/persist" }
  ],
  "entries": [
    { "directory": "/a", "mode": "0700", "parents": { "group": "g" }, "enforce": true, "phase": "live" },
    { "file": "/b\\*", "user": 568, "options": ["suid"] }
  ]
}
"#;
    assert_eq!(show::show(&manifest), shown);
    assert_eq!(text::parse(shown), Ok(manifest));
    assert_eq!(show::show(&Manifest::default()), "{\n  \"version\": 1\n}\n");
}
