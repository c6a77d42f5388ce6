//! The documentation is correct: the pages name all parts of the program, and no others.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use imp_mount::boot::args::HELP;
use imp_mount::check::status::Status;
use imp_mount::manifest::{Kind, Method, Phase};
use imp_mount::runtime::report::{Outcome, Report, State};
use imp_mount::text::json::Object;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder with one of these extensions, by their paths below the project.
fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path, extensions));
        } else if extensions.iter().any(|extension| path.ends_with(&format!(".{extension}"))) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// imp-mount(8), with plain minus signs for roff's.
fn page() -> String {
    read("docs/imp-mount.8").replace("\\-", "-")
}

/// One section of the page.
fn section(name: &str) -> String {
    let page = page();
    let found = page.split("\n.SH ").find(|text| text.lines().next() == Some(name));
    found.unwrap_or_else(|| panic!("no section {name}")).to_owned()
}

/// Names of the items of a section: the line after `.TP`.
fn items(section: &str) -> Vec<String> {
    let lines: Vec<_> = section.lines().collect();
    lines.windows(2).filter(|pair| pair[0] == ".TP").map(|pair| pair[1].to_owned()).collect()
}

/// The options in a text, such as `--check` and `-h`.
fn options(text: &str) -> BTreeSet<String> {
    let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    let words = text.split(is_end).filter(|word| word.starts_with('-'));
    words.filter(|word| word.contains(char::is_alphabetic)).map(str::to_owned).collect()
}

/// The source code of imp-mount, as one text.
fn source() -> String {
    files("src", &["rs"]).iter().filter(|path| !path.starts_with("src/ctl/")).map(|path| read(path)).collect()
}

fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs the built program and expects success.
#[track_caller]
fn ok(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// README's first block of JSON, in a file.
fn example(folder: &Path) -> String {
    let path = folder.join("manifest.json");
    fs::write(&path, block("README.md")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The first block of JSON in a page.
fn block(page: &str) -> String {
    blocks(page).into_iter().next().expect("a block of JSON")
}

/// All of them.
fn blocks(page: &str) -> Vec<String> {
    let text = read(page);
    let after = text.split("```json\n").skip(1);
    after.map(|text| text.split_once("```").expect("its end").0.to_owned()).collect()
}

/// The names of all values of a type, from serde's error for an unknown one.
fn names<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = serde_json::from_str::<T>("\"?\"") else { panic!("`?` is no name") };
    let text = error.to_string();
    let (_, expected) = text.split_once("expected").expect("what is expected");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_option_is_in_the_page_and_nothing_else() {
    let known = options(HELP);
    assert!(known.len() > 10, "{known:?}");
    assert_eq!(options(&items(&section("OPTIONS")).join("\n")), known);
    let long =
        |text: &str| options(text).into_iter().filter(|word| word.starts_with("--")).collect::<Vec<_>>();
    for option in long(&page()) {
        assert!(known.contains(&option), "the page has {option}, and --help has not");
    }
}

#[test]
fn every_word_for_the_kernel_is_in_the_page() {
    let (_, words) = HELP.split_once("On the kernel command line: ").unwrap();
    let words = words.lines().next().unwrap();
    let known: Vec<_> = words.split(", ").map(|word| word.split("PATH").next().unwrap()).collect();
    let items = items(&section("KERNEL COMMAND LINE"));
    let in_page: Vec<_> = items.iter().map(|item| item.split(' ').nth(1).unwrap()).collect();
    assert_eq!(in_page, known);
}

#[test]
fn every_state_is_in_the_page() {
    // A new state does not compile without a place here.
    let after = |status: Option<Status>| match status {
        None => Some(Status::Ok),
        Some(Status::Ok) => Some(Status::Later),
        Some(Status::Later) => Some(Status::Skipped),
        Some(Status::Skipped) => Some(Status::NotYetStored),
        Some(Status::NotYetStored) => Some(Status::Pending),
        Some(Status::Pending) => Some(Status::RootOnly),
        Some(Status::RootOnly) => Some(Status::Missing),
        Some(Status::Missing) => Some(Status::NotMounted),
        Some(Status::NotMounted) => Some(Status::WrongSource),
        Some(Status::WrongSource) => Some(Status::Covered),
        Some(Status::Covered) => Some(Status::Replaced),
        Some(Status::Replaced) => Some(Status::Conflict),
        Some(Status::Conflict) => Some(Status::WrongOwner),
        Some(Status::WrongOwner) => Some(Status::WrongMode),
        Some(Status::WrongMode) => Some(Status::WrongOptions),
        Some(Status::WrongOptions) => None,
    };
    let section = section("THE STATES OF --check");
    let (good, bad) = section.split_once("\n.SS A problem\n").expect("two parts");
    let report = read("docs/report.md");
    let mut count = 0;
    let mut status = after(None);
    while let Some(one) = status {
        let part = if one.is_problem() { bad } else { good };
        assert!(items(part).contains(&format!(".B {}", one.words())), "{}", one.words());
        let word = serde_json::to_value(one).unwrap();
        assert!(report.contains(&format!("`{}`", word.as_str().unwrap())), "{word}");
        count += 1;
        status = after(status);
    }
    assert_eq!(items(good).len() + items(bad).len(), count);
}

#[test]
fn every_phase_is_in_the_page() {
    let in_page: Vec<_> = items(&section("PHASES")).iter().map(|item| item.replace(".B ", "")).collect();
    assert_eq!(in_page, names::<Phase>());
}

#[test]
fn the_manifests_of_the_page_on_dracut_compile() {
    let folder = tempfile::tempdir().unwrap();
    let [json, manifest] = ["json", "manifest"].map(|name| folder.path().join(name));
    let [json, manifest] = [&json, &manifest].map(|path| path.to_str().unwrap());
    let manifests = blocks("docs/dracut.md");
    assert_eq!(manifests.len(), 2);
    for text in manifests {
        fs::write(json, text).unwrap();
        ok(env!("CARGO_BIN_EXE_impctl"), &["compile", json, "-o", manifest]);
    }
}

#[test]
fn every_exit_status_is_in_the_page_and_real() {
    let program = env!("CARGO_BIN_EXE_imp-mount");
    let folder = tempfile::tempdir().unwrap();
    let (json, manifest) = (example(folder.path()), folder.path().join("manifest"));
    let (manifest, root) = (manifest.to_str().unwrap(), folder.path().to_str().unwrap());
    ok(env!("CARGO_BIN_EXE_impctl"), &["compile", &json, "-o", manifest]);
    // There is no store in the folder, so a check finds one problem at least.
    let check = ["--check", "--manifest", manifest, "--sysroot", root, "--cmdline", "/dev/null"];
    let seen = [&["--version"][..], &check[..], &["--nonsense"][..]]
        .map(|args| format!(".B {}", run(program, args).status.code().expect("an exit status")));
    assert_eq!(items(&section("EXIT STATUS")), seen);
    let (_, help) = HELP.split_once("Exit status: ").unwrap();
    for code in ["0", "1", "2"] {
        let parts = help.split(['\n', ';']).map(str::trim);
        assert!(parts.clone().any(|part| part.starts_with(&format!("{code} "))), "{code}: {help}");
    }
}

#[test]
fn every_path_is_in_the_page() {
    let page = page();
    let files = section("FILES");
    let mut found = 0;
    for line in source().lines() {
        let Some((_, text)) = line.split_once(": &str = \"") else { continue };
        let text = text.trim_end_matches("\";");
        if text.starts_with('/') {
            assert!(files.contains(text), "{text} is not in FILES");
            found += 1;
        } else if text.starts_with("trusted.") {
            assert!(page.contains(text), "{text}");
            found += 1;
        }
    }
    assert!(found >= 8, "only {found} paths are found in the source");
    assert!(files.contains("/run/imp-mount/guard"));
}

/// A message whose words have changed is looked up in vain.
#[test]
fn the_page_quotes_messages_as_they_are() {
    let source = source();
    let section = section("DIAGNOSTICS");
    let mut count = 0;
    for item in items(&section) {
        // The first, third and so on of alternating words are the message's; the others are placeholders.
        let step = if item.starts_with(".BI ") { 2 } else { 1 };
        let mut words = Vec::new();
        let mut rest = item.split_once(' ').unwrap().1;
        while !rest.is_empty() {
            let (word, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap(),
                None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
            };
            words.push(word);
            rest = after.trim_start();
        }
        let said = words.iter().step_by(step).map(|word| word.trim_matches([' ', ':']));
        for word in said.filter(|word| !word.is_empty()) {
            // The kernel's own words.
            let known = word == "No space left on device" || source.contains(word);
            assert!(known, "the program does not say `{word}`");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} quotes");
}

/// The same for the table of `impctl recover`. Words with digits, capitals or dots are placeholders.
#[test]
fn the_page_on_recovery_quotes_messages_as_they_are() {
    let page = read("docs/recovery.md");
    let source: String = files("src", &["rs"]).iter().map(|path| read(path)).collect();
    let table = page.split_once("\n| it says | remedy |\n").unwrap().1;
    let mut count = 0;
    for row in table.lines().take_while(|line| line.starts_with('|')).skip(1) {
        for quote in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            let is_said = |word: &&str| word.contains(|letter: char| letter.is_lowercase());
            let words: Vec<_> = quote.split(' ').collect();
            for said in
                words.split(|word| word.contains(|letter: char| letter.is_ascii_digit()) || !is_said(word))
            {
                let said = said.join(" ");
                assert!(source.contains(&said), "the program does not say `{said}`");
                count += usize::from(!said.is_empty());
            }
        }
    }
    assert!(count > 15, "only {count} quotes");
}

#[test]
fn pages_are_clean() {
    if Command::new("groff").arg("--version").stdout(Stdio::null()).status().is_err() {
        let why = "groff is not installed";
        assert!(std::env::var_os("IMP_MOUNT_TEST_NO_SKIP").is_none(), "{why}");
        // Bypasses the output capture of the test harness.
        writeln!(std::io::stderr(), "SKIPPED: pages_are_clean: {why}").unwrap();
        return;
    }
    for page in files("docs", &["5", "8"]) {
        let output = run("groff", &["-mandoc", "-ww", "-z", at(&page).to_str().unwrap()]);
        assert!(output.status.success() && output.stderr.is_empty(), "{page}: {output:?}");
    }
}

#[test]
fn the_readmes_manifest_works() {
    let folder = tempfile::tempdir().unwrap();
    let (json, manifest) = (example(folder.path()), folder.path().join("manifest"));
    let manifest = manifest.to_str().unwrap();
    ok(env!("CARGO_BIN_EXE_impctl"), &["compile", &json, "-o", manifest]);
    let args = ["--manifest", manifest, "--cmdline", "/dev/null", "--plan"];
    let plan = ok(env!("CARGO_BIN_EXE_imp-mount"), &args);
    assert!(plan.contains("bind     /var/lib/plex <- /persist/var/lib/plex"), "{plan}");
}

/// README shows the plain example host: its flake whole, but for the description, and lines of its configuration.
#[test]
fn the_readmes_host_is_the_example() {
    let text = read("README.md");
    let blocks: Vec<_> = text.split("```nix\n").skip(1).map(|it| it.split_once("```").unwrap().0).collect();
    let [flake, excerpt] = blocks[..] else { panic!("two blocks of Nix") };
    let whole = read("nixos-module/examples/plain/flake.nix");
    let (head, rest) = whole.split_once("  description = ").unwrap();
    let (_, rest) = rest.split_once("\n\n").unwrap();
    assert_eq!(flake, format!("{head}{rest}"));
    let whole = read("nixos-module/examples/plain/configuration.nix");
    let mut rest = whole.lines();
    for line in excerpt.lines() {
        assert!(rest.any(|other| other == line), "not in the example, or not there: {line}");
    }
}

#[test]
fn the_map_of_the_code_has_every_folder_above_those_that_it_uses() {
    let map = read("CONTRIBUTING.md");
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next());
    let folders: Vec<_> = rows.collect();
    let there: BTreeSet<_> = files("src", &["rs"])
        .iter()
        .filter_map(|path| Some(path.strip_prefix("src/")?.split_once('/')?.0.to_owned()))
        .collect();
    assert_eq!(folders.iter().map(|&folder| folder.to_owned()).collect::<BTreeSet<_>>(), there);
    for (at, folder) in folders.iter().enumerate() {
        for path in files(&format!("src/{folder}"), &["rs"]) {
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap();
            let used = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in used {
                for name in line.split("crate::").skip(1) {
                    let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    let below = folders[at..].contains(&name) || !there.contains(name);
                    assert!(below, "{path} uses {name}, which is above it: {line}");
                }
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = [files("docs", &["md"]), files("nixos-module/examples", &["md"])].concat();
    pages.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
    for page in pages {
        let text = read(&page);
        let folder = at(&page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if path.is_empty() {
                assert!(text.lines().any(|line| anchor(line).as_deref() == Some(heading)), "{page}: {link}");
            } else {
                let there = folder.join(path);
                assert!(there.exists(), "{page}: {link} is not there");
                if !heading.is_empty() {
                    let text = fs::read_to_string(there).unwrap();
                    let found = text.lines().any(|line| anchor(line).as_deref() == Some(heading));
                    assert!(found, "{page}: {link}: no such heading");
                }
            }
        }
    }
}

/// Pages of the site of docs/site.
#[test]
fn every_page_is_in_the_summary_once() {
    let text = read("docs/SUMMARY.md");
    let listed: Vec<_> = text.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0).collect();
    let mut sorted: Vec<_> = listed.iter().map(|page| format!("docs/{page}")).collect();
    sorted.sort();
    let mut pages = files("docs", &["md"]);
    pages.retain(|page| page != "docs/SUMMARY.md");
    assert_eq!(sorted, pages);
}

/// Anchor of a heading.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

#[test]
fn the_changelog_begins_with_this_version() {
    let text = read("CHANGELOG.md");
    let top = text.lines().find_map(|line| line.strip_prefix("## [")).expect("a version");
    assert_eq!(top.split_once(']').unwrap().0, env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_report_is_described_as_it_is() {
    let written: Value = serde_json::from_str(&block("docs/report.md")).unwrap();
    let report: Object = serde_json::from_value(written.clone()).unwrap();
    let report = Report::try_from(report).unwrap();
    assert_eq!(serde_json::to_value(&report).unwrap(), written, "keys that there are, and no others");
    let text = read("docs/report.md");
    each_key(&written, &mut |key| assert!(text.contains(&format!("`{key}`")), "{key}"));
    for name in [names::<Outcome>(), names::<State>(), names::<Kind>(), names::<Method>()].concat() {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_line_of_check_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let (json, manifest) = (example(folder.path()), folder.path().join("manifest"));
    let (manifest, root) = (manifest.to_str().unwrap(), folder.path().to_str().unwrap());
    ok(env!("CARGO_BIN_EXE_impctl"), &["compile", &json, "-o", manifest]);
    let args = ["--check", "--json", "--manifest", manifest, "--sysroot", root, "--cmdline", "/dev/null"];
    let output = run(env!("CARGO_BIN_EXE_imp-mount"), &args);
    let mut found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!found["entries"].as_array().unwrap().is_empty(), "{found}");
    let text = read("docs/report.md");
    let (_, text) = text.split_once("\n## imp-mount --check --json\n").unwrap();
    // Described with the report.
    found["last_run"] = Value::Null;
    each_key(&found, &mut |key| assert!(text.contains(&format!("`{key}`")), "{key}"));
}

/// Every key of every object.
fn each_key(value: &Value, seen: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                seen(key);
                each_key(value, seen);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| each_key(value, seen)),
        _ => {}
    }
}
