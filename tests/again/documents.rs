//! Every manifest and every list of entries in the tests, the documentation and the golden files of the module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imp_mount::manifest::text;
use serde_json::{Value, json};

use super::thrice;
use crate::support::disk::detach;
use crate::support::{Disk, Fs, Machine, Root, is_thorough};

/// In as many tests they are tried, each of which has its time.
const PARTS: usize = 4;
/// One of so many is tried where not all are asked for.
const SAMPLE: usize = 16;
const PLACES: [&str; 6] = ["README.md", "docs", "tests", "nixos-module", "initrd", "CHANGELOG.md"];

/// Boots and runs one manifest three times each. Devices are omitted: each store is mounted at its path.
pub fn try_manifest(manifest: &Value, change: &dyn Fn(&Machine)) -> Result<(), String> {
    let mut manifest = manifest.clone();
    let convert = manifest["root"]["convert"].as_str().map(str::to_owned);
    let mut paths: Vec<String> = convert.iter().cloned().collect();
    for store in manifest["stores"].as_array_mut().into_iter().flatten() {
        for key in ["device", "fstype", "options"] {
            store.as_object_mut().unwrap().remove(key);
        }
        let path = store["path"].as_str().unwrap().to_owned();
        if convert.as_ref() != Some(&path) {
            paths.push(path);
        }
    }
    let stores = paths.iter().enumerate().map(|(number, path)| {
        // The converted root and the store below the root have file systems of their own.
        let is_own = number == 0 && convert.is_some() || manifest["root"]["on"] == **path;
        let fs = if is_own { Fs::Ext4 } else { Fs::Folder };
        (path.as_str(), Disk::new(fs, 8))
    });
    let root = match (&manifest["root"], &convert) {
        (_, Some(_)) => Root::Disk,
        (Value::Null, None) => Root::Tmpfs,
        _ => Root::Nothing,
    };
    let machine = Machine::with_stores(root, stores.collect());
    machine.manifest(&manifest);
    let result = thrice(&machine, &|_| (), change).map_err(|why| format!("{manifest:#}\n{why}"));
    machine.power_off();
    for disk in machine.disks().filter(|disk| disk.device.is_dir()) {
        detach(&disk.device);
        fs::remove_dir_all(&disk.device).unwrap();
    }
    result
}

/// All manifests, without duplicates, in the order of their files.
fn all() -> Vec<Value> {
    let mut files = Vec::new();
    for place in PLACES {
        list(&Path::new(env!("CARGO_MANIFEST_DIR")).join(place), &mut files);
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for manifest in of(&file, &text) {
            if text::parse(&manifest.to_string()).is_ok() && seen.insert(manifest.to_string()) {
                found.push(manifest);
            }
        }
    }
    found
}

fn list(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut below: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        for path in &below {
            list(path, files);
        }
    } else if path.exists() {
        files.push(path.to_owned());
    }
}

/// The manifests in a text, and its lists of entries as manifests. Text assembled by a program is no JSON and is skipped.
fn of(file: &Path, text: &str) -> Vec<Value> {
    let is_page = file.extension().is_some_and(|it| it == "5" || it == "8");
    let text = if is_page { text.replace("\\-", "-").replace("\\e", "\\") } else { text.to_owned() };
    let text = without_commas(
        &text.lines().filter(|line| !line.trim().starts_with("//")).collect::<Vec<_>>().join("\n"),
    );
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{').chain(text.match_indices('[')) {
        let rest = text[at + 1..].trim_start();
        let is_manifest = text[at..].starts_with('{') && rest.starts_with("\"version\": 1");
        let is_list = text[at..].starts_with('[')
            && ["{ \"directory\":", "{ \"file\":"].iter().any(|it| rest.starts_with(it));
        if !is_manifest && !is_list {
            continue;
        }
        let json = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next();
        if let Some(Ok(value)) = json {
            found.push(if is_manifest { value } else { with(value) });
        }
    }
    found
}

/// A manifest with these entries and their stores.
pub fn with(entries: Value) -> Value {
    let mut stores: BTreeSet<_> =
        entries.as_array().unwrap().iter().filter_map(|it| it["store"].as_str()).collect();
    if stores.is_empty() {
        stores.insert("/persist");
    }
    let stores: Vec<_> = stores.into_iter().map(|path| json!({ "path": path })).collect();
    json!({ "version": 1, "root": { "size": "64M" }, "stores": stores, "entries": entries })
}

/// Removes trailing commas of Rust lists, which JSON does not allow.
fn without_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        let is_last = || text[at + 1..].trim_start().starts_with([']', '}']);
        if letter != ',' || !is_last() {
            out.push(letter);
        }
    }
    out
}

fn part(number: usize) {
    let all = all();
    // A lower count means a lost manifest.
    assert!(all.len() > 60, "{}", all.len());
    let sample = if is_thorough() { 1 } else { SAMPLE };
    let mut count = 0;
    for manifest in all.iter().skip(number).step_by(PARTS).step_by(sample) {
        try_manifest(manifest, &|_| ()).unwrap_or_else(|why| panic!("{why}"));
        count += 1;
    }
    eprintln!(
        "{count} of {} manifests that are written down were booted and run three times each",
        all.len()
    );
}

pub fn every_manifest_that_is_written_down_1() {
    part(0);
}

pub fn every_manifest_that_is_written_down_2() {
    part(1);
}

pub fn every_manifest_that_is_written_down_3() {
    part(2);
}

pub fn every_manifest_that_is_written_down_4() {
    part(3);
}

/// Manifests of the module's hosts, presets among them.
pub fn the_manifests_of_the_module() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nixos/golden");
    let (mut files, mut count) = (Vec::new(), 0);
    list(&golden, &mut files);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let Some((_, rest)) = text.split_once("\n# manifest\n") else { continue };
        let json = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next();
        let Some(Ok(manifest)) = json else { continue };
        if text::parse(&manifest.to_string()).is_ok() {
            count += 1;
            if is_thorough() || count % 4 == 1 {
                try_manifest(&manifest, &|_| ()).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
            }
        }
    }
    assert!(count > 10, "{count}");
    eprintln!("{count} golden manifests, or a fourth of them, were booted and run three times each");
}
