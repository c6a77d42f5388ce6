//! Random manifests.

use std::collections::{BTreeMap, BTreeSet};

use imp_mount::manifest::{AbsPath, Kind, Phase, show, text, wire};
use imp_mount::plan::cmdline::KernelArgs;
use imp_mount::plan::{Action, Item, Need, Plan, print};
use imp_mount::runtime::Document;
use imp_mount::runtime::report::{EntryReport, Outcome, Pending, Report, Run, State};
use imp_mount::text::json::Object;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

fn component() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-d]{1,2}", 1 => "[a-z *?\\[\\]\\\\\nü.-]{1,6}x"]
}

fn path() -> impl Strategy<Value = String> {
    vec(component(), 1..5).prop_map(|parts| format!("/t/{}", parts.join("/")))
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z_][a-z0-9_-]{0,8}".prop_map(Value::from),
        (0..u32::MAX).prop_map(Value::from),
        "[0-9]{1,6}".prop_map(Value::from)
    ]
}

fn mode() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..=0o7777u16).prop_map(|mode| format!("{mode:o}")),
        "[ugoa]{0,2}[-+=][rwxXst]{0,4}(,[ugo]=[ugo])?"
    ]
    .prop_map(Value::from)
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    select(words).prop_map(Value::from)
}

/// An object with some of the keys.
fn object(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Map<String, Value>> {
    let keys: Vec<_> =
        keys.into_iter().map(|(key, value)| option::of(value).prop_map(move |value| (key, value))).collect();
    keys.prop_map(|keys| keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

fn owner() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    vec![("user", id().boxed()), ("group", id().boxed()), ("mode", mode().boxed())]
}

/// Members of an entry, with any values.
fn entry() -> impl Strategy<Value = Map<String, Value>> {
    let options = [
        "ro",
        "rw",
        "suid",
        "dev",
        "noexec",
        "noatime",
        "strictatime",
        "nodiratime",
        "x-gvfs-hide",
        "nosymfollow",
    ];
    let options = subsequence(options.to_vec(), 0..6).prop_shuffle().prop_map(|options| json!(options));
    let mut keys = owner();
    keys.extend([
        ("store", word(&["/p", "/q", "/p//"]).boxed()),
        ("options", options.boxed()),
        ("missing", word(&["create", "link", "skip", "fail", "machine-id"]).boxed()),
        ("phase", word(&["early", "boot", "etc", "live"]).boxed()),
        ("from", word(&["x.nix:1"]).boxed()),
    ]);
    keys.extend(
        ["required", "enforce", "hidden", "trash"]
            .map(|key| (key, any::<bool>().prop_map(Value::from).boxed())),
    );
    object(keys)
}

/// Escapes special characters in a file's path.
fn literal(path: &str) -> String {
    path.chars()
        .flat_map(|letter| "*?[\\".contains(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}

prop_compose! {
    /// A manifest of which nothing is refused: files are where nothing else is below, and one phase holds for all.
    fn accepted()(
        entries in btree_map(path(), (entry(), any::<bool>(), any::<bool>()), 0..12),
        parents in btree_map(path(), object(owner()), 0..4),
        root in option::of(object(vec![
            ("convert", word(&["/p", "/r"]).boxed()),
            ("size", word(&["8G", "50%", "2097152"]).boxed()),
            ("mode", mode().boxed()),
            ("inodes", word(&["1M", "0"]).boxed()),
            ("options", word(&["noexec", "huge=always"]).prop_map(|word| json!([word])).boxed()),
        ])),
        old in option::of(object(vec![
            ("boots", (1..9_u32).prop_map(Value::from).boxed()),
            ("days", (1..u32::MAX).prop_map(Value::from).boxed()),
            ("size", word(&["10G", "1025", "3M", "2t"]).boxed()),
            ("save_size", word(&["1k", "1G"]).boxed()),
            ("save_seconds", (1..90_u32).prop_map(Value::from).boxed()),
        ])),
        users in btree_map("[a-z][a-z0-9]{0,8}", 1..u32::MAX, 0..4),
        required in any::<bool>(),
    ) -> Value {
        let mut list = Vec::new();
        let mut seen = BTreeSet::new();
        let targets: Vec<AbsPath> = entries.keys().map(|path| AbsPath::parse(path).unwrap()).collect();
        for ((path, (mut entry, file, glob)), target) in entries.into_iter().zip(&targets) {
            if !seen.insert(target) {
                continue;
            }
            entry.entry("store").or_insert("/q".into());
            entry.remove("phase");
            let alone = !targets.iter().any(|other| other != target && other.is_in(target));
            if file && alone {
                if glob {
                    entry.insert("missing".into(), "skip".into());
                }
                entry.insert("file".into(), format!("{}{}", literal(&path), if glob { "*" } else { "" }).into());
            } else {
                entry.remove("missing");
                entry.insert("directory".into(), path.into());
            }
            list.push(Value::Object(entry));
        }
        let mut table: BTreeMap<AbsPath, Value> = BTreeMap::new();
        for (path, mut owner) in parents {
            owner.insert("directory".into(), path.clone().into());
            table.insert(AbsPath::parse(&path).unwrap(), Value::Object(owner));
        }
        json!({
            "version": 1,
            "root": root,
            "old_roots": old.map(|mut old| { old.insert("store".into(), "/q".into()); old }),
            "stores": [{ "path": "/q", "required": required }, { "path": "/p" }],
            "parents": table.into_values().rev().collect::<Vec<_>>(),
            "entries": list.into_iter().rev().collect::<Vec<_>>(),
            "ids": { "users": users },
        })
    }
}

/// A component near the maximum length, or a short one, of any characters.
fn odd_component() -> impl Strategy<Value = String> {
    let letters = prop_oneof![4 => "[a-z+0-9]{1,8}", 1 => "\\PC{1,60}", 1 => "[\u{1}-\u{1f}\u{7f}-\u{9f}\"\u{202e}]{1,20}"];
    (letters, prop_oneof![2 => Just(1), 1 => 200..256_usize]).prop_map(|(letters, bytes)| {
        let text: String = letters.replace('/', "-").chars().cycle().take(letters.len().max(bytes)).collect();
        let end = (0..=bytes.max(letters.len()).min(255))
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text[..end].to_owned()
    })
}

/// A path, most of them about as long as the kernel takes.
fn odd_path() -> impl Strategy<Value = String> {
    let cut = prop_oneof![1 => Just(40), 2 => 3700..4096_usize];
    (vec(odd_component(), 1..40), cut).prop_map(|(parts, cut)| {
        let mut path = String::new();
        for part in parts.iter().cycle().take(256) {
            if path.len() + part.len() + 1 > cut {
                break;
            }
            path.push('/');
            path.push_str(part);
        }
        if path.is_empty() { "/x".to_owned() } else { path }
    })
}

fn odd_id() -> impl Strategy<Value = Value> {
    prop_oneof!["[a-z+_][a-z0-9+_.-]{0,9}\\$?", "\\+[0-9]{1,9}", "[0-9]{1,6}", "\\PC{1,20}"]
        .prop_map(Value::from)
}

prop_compose! {
    /// A manifest with long paths and odd names, of which some are refused.
    fn at_the_limits()(
        entries in vec((odd_path(), option::of(odd_path()), select(vec!["directory", "file", "pattern"]), odd_id(), odd_id(), mode()), 1..4),
        store in prop_oneof![2 => Just("/p".to_owned()), 1 => odd_path()],
    ) -> Value {
        let entries: Vec<_> = entries.into_iter().map(|(path, source, kind, user, group, mode)| {
            let mut entry = json!({ "user": user, "group": group, "mode": mode });
            match kind {
                "pattern" => entry["file"] = format!("{}/*", literal(&path)).into(),
                "file" => entry["file"] = literal(&path).into(),
                _ => entry["directory"] = path.into(),
            }
            if kind != "pattern" && source.is_some() {
                entry["source"] = source.into();
            }
            entry
        }).collect();
        json!({ "version": 1, "stores": [{ "path": store }], "entries": entries })
    }
}

/// Number of manifests: `PROPTEST_CASES` has fewer where they are read slowly.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(128, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_forms_hold_the_same(json in accepted()) {
        let manifest = text::parse(&json.to_string());
        prop_assert!(manifest.is_ok(), "{:?}", manifest);
        let manifest = manifest.unwrap();
        prop_assert_eq!(text::parse(&show::show(&manifest)), Ok(manifest.clone()));
        prop_assert_eq!(wire::decode(&wire::encode(&manifest).unwrap()), Ok(manifest));
    }

    /// Whatever is accepted can be written and read again; whatever is not has a reason.
    #[test]
    fn nothing_falls_in_between(
        entries in vec((entry(), path(), any::<bool>(), option::of(path())), 0..5),
        parents in option::of(object(owner())),
    ) {
        let entries: Vec<_> = entries.into_iter().map(|(mut entry, path, file, source)| {
            entry.insert(if file { "file" } else { "directory" }.into(), path.into());
            entry.insert("source".into(), json!(source));
            entry.insert("parents".into(), json!(parents));
            entry
        }).collect();
        let json = json!({ "version": 1, "stores": [{ "path": "/p" }], "entries": entries });
        match text::parse(&json.to_string()) {
            Ok(manifest) => {
                prop_assert_eq!(text::parse(&show::show(&manifest)), Ok(manifest.clone()));
                prop_assert_eq!(wire::decode(&wire::encode(&manifest).unwrap()), Ok(manifest));
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|problem| problem.at.starts_with("entries[") && !problem.what.is_empty()));
            }
        }
    }

    /// A plan has every entry once, a directory before its descendants, with any skipped paths; and repeated plans are
    /// equal.
    #[test]
    fn a_plan_is_in_a_valid_order(json in accepted(), skip in option::of(path()), off in any::<bool>()) {
        let manifest = text::parse(&json.to_string()).unwrap();
        let skip: Vec<_> = skip.iter().map(|path| AbsPath::parse(path).unwrap()).collect();
        let words = KernelArgs { off, skip: skip.clone(), ..KernelArgs::default() };
        for last_phase in [Phase::Early, Phase::Boot, Phase::Etc, Phase::Live] {
            let plan = Plan::new(&manifest, &words, last_phase);
            prop_assert_eq!(plan.items.len(), manifest.entries.len());
            for (index, item) in plan.items.iter().enumerate() {
                let target = &item.entry.target;
                prop_assert!(!plan.items[..index].iter().any(|before| before.entry.target.is_in(target)));
                let named = |at: &AbsPath| skip.iter().any(|path| at.is_in(path));
                let below = |above: &Item<'_>| {
                    above.action == Action::Skip && target.is_in(&above.entry.target)
                };
                let skipped = named(target) || named(&item.store.path) || plan.items[..index].iter().any(below);
                let later = item.entry.phase > last_phase;
                let placed = item.action == Action::Place;
                prop_assert!(!placed || !skipped && !later && (!off || item.entry.phase == Phase::Early));
                prop_assert!(placed || skipped || later || off);
            }
            for (index, (store, need)) in plan.stores().enumerate() {
                let placed = |item: &Item<'_>| {
                    usize::from(item.entry.store) == index && item.action == Action::Place
                };
                prop_assert!(need == Need::Needed || !plan.items.iter().any(placed));
                prop_assert_eq!(need == Need::LeftOut, skip.iter().any(|path| store.path.is_in(path)));
            }
            prop_assert_eq!(print::text(&plan), print::text(&Plan::new(&manifest, &words, last_phase)));
        }
    }

    /// The report of a run on an accepted manifest can be read by the next one, with paths of any length and any names.
    #[test]
    fn a_report_is_read_as_it_was_written(json in at_the_limits(), seed in any::<u64>()) {
        let Ok(manifest) = text::parse(&json.to_string()) else { return Ok(()) };
        prop_assert_eq!(&wire::decode(&wire::encode(&manifest).unwrap()), &Ok(manifest.clone()));
        let mut report = Report { version: Report::VERSION, ..Report::default() };
        for (index, entry) in manifest.entries.iter().enumerate() {
            let store = &manifest.store(entry).path;
            let names = [entry.target.name().to_owned(), "\u{e9}".repeat(127), "\u{1f600}".repeat(150)];
            // The first match of a pattern, or the entry itself.
            let matched = |path: &AbsPath, name: &String| path.parent().unwrap_or_else(AbsPath::root).child(name);
            let (target, source) = match entry.kind {
                Kind::Glob => (matched(&entry.target, &names[index % 3]), matched(entry.source(), &names[index % 3])),
                _ => (entry.target.clone(), entry.source().clone()),
            };
            report.insert(EntryReport {
                target,
                source: store.join(&source),
                kind: entry.kind,
                method: entry.method,
                state: State::Failed,
                why: format!("\u{1b}\0\u{2028}{source}"),
                versions: None,
            });
            report.pending.push(Pending {
                base: store.clone(),
                path: source,
                user: entry.owner.user.clone(),
                group: entry.owner.group.clone(),
                mode: entry.mode(),
                inode: seed,
                identity: None,
            });
            report.add(Run {
                phase: entry.phase,
                sysroot: "/sysroot".to_owned(),
                outcome: Outcome::Failed,
                started: seed,
                steps: vec![("root".to_owned(), seed)],
                placed: index,
                unchanged: 0,
                failures: vec![entry.target.to_string()],
                warnings: vec![store.to_string()],
                words: Vec::new(),
            });
        }
        prop_assert_eq!(report.flaw(), None);
        let read: Object = serde_json::from_slice(&serde_json::to_vec(&report).unwrap()).unwrap();
        prop_assert_eq!(Report::try_from(read), Ok(report));
    }

    #[test]
    fn damaged_text_never_panics(cut in 0..2000usize, letter in any::<char>()) {
        let mut text: String = include_str!("../golden/v1.json").to_owned();
        let cut = (0..=cut.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.insert(cut, letter);
        if let Err(problems) = text::parse(&text) {
            prop_assert!(!problems.is_empty());
        }
    }
}
