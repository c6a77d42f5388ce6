//! The pages by `impctl man`, formatted by groff.

use std::fs;
use std::path::Path;

use clap::Parser;
use imp_mount::ctl::Cli;
use tempfile::TempDir;

use super::{IMPCTL, commands, has, ok, options};

/// The whole manual in a directory.
fn manual() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    ok(IMPCTL, &["man".as_ref(), folder.path().as_os_str()]);
    folder
}

/// A formatted page, with one line for every paragraph.
fn set(page: &Path) -> String {
    let page = page.to_str().unwrap();
    ok("groff", &["-mandoc", "-Tutf8", "-P-cbou", "-rLL=2000n", "-rHY=0", page])
}

/// One section of such a page.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let heading = format!("\n{name}\n");
    let after = page.split_once(&heading).unwrap_or_else(|| panic!("no section {name}: {page}")).1;
    let end = after.match_indices('\n').find(|(at, _)| after[at + 1..].starts_with(char::is_alphabetic));
    &after[..end.map_or(after.len(), |(at, _)| at)]
}

#[test]
fn every_command_has_its_page_and_nothing_else() {
    let folder = manual();
    let list = |name: &str| {
        let mut names: Vec<_> = fs::read_dir(folder.path().join(name))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mut expected: Vec<_> =
        commands().iter().map(|command| format!("impctl-{}.8", command.get_name())).collect();
    for command in commands() {
        let below =
            command.get_subcommands().map(|it| format!("impctl-{}-{}.8", command.get_name(), it.get_name()));
        expected.extend(below);
    }
    expected.extend(["imp-mount.8", "impctl.8"].map(str::to_owned));
    expected.sort();
    assert_eq!((list("man5"), list("man8")), (vec!["manifest.5".to_owned()], expected));
    assert_eq!(list("").len(), 2);
}

#[test]
fn pages_are_clean_and_complete() {
    if !has("groff", "pages_are_clean_and_complete") {
        return;
    }
    let folder = manual();
    let at = |name: &str| folder.path().join(format!("man8/{name}.8"));
    let main = set(&at("impctl"));
    for section_name in ["EXAMPLES", "ENVIRONMENT", "FILES", "EXIT STATUS"] {
        section(&main, section_name);
    }
    assert_eq!(ok("groff", &["-mandoc", "-ww", "-z", at("impctl").to_str().unwrap()]), "");
    for command in commands() {
        let name = format!("impctl-{}", command.get_name());
        assert_eq!(ok("groff", &["-mandoc", "-ww", "-z", at(&name).to_str().unwrap()]), "");
        let page = set(&at(&name));
        assert!(section(&main, "SUBCOMMANDS").contains(&format!("{name}(8)\n")), "{main}");
        assert!(page.starts_with(&format!("{}(8)", name.to_uppercase())), "{page}");
        assert!(page.trim_end().ends_with(&format!("{}(8)", name.to_uppercase())), "{page}");
        assert!(section(&page, "NAME").trim().starts_with(&format!("{name} - ")), "{page}");
        assert!(section(&page, "SYNOPSIS").trim().starts_with(&format!("impctl {}", command.get_name())));
        assert!(section(&page, "SEE ALSO").contains("impctl(8)"), "{page}");
        let described = section(&page, "OPTIONS");
        let is_there = |words: &str| {
            let mut starts = described.lines().map(|line| line.trim_start().trim_start_matches(['[', '<']));
            starts.any(|line| line.split([' ', ',', ']', '>']).any(|word| word == words))
        };
        for option in options(&command) {
            assert!(is_there(&option), "{name} {option}: {described}");
        }
        for value in command.get_arguments().filter(|it| it.get_action().takes_values()) {
            for name in value.get_value_names().unwrap_or_default() {
                assert!(is_there(name) || described.contains(&format!("<{name}>")), "{name}: {described}");
            }
            for choice in value.get_possible_values() {
                assert!(is_there(choice.get_name()), "{choice:?}: {described}");
            }
        }
    }
}

/// The manual page and the help must not differ.
#[test]
fn a_manual_page_has_the_text_of_the_help() {
    if !has("groff", "a_manual_page_has_the_text_of_the_help") {
        return;
    }
    let folder = manual();
    let words = |text: &str| {
        let is_end = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '/' | '.');
        let words = text.to_lowercase();
        words.split(is_end).map(|word| word.trim_matches(['-', '.']).to_owned()).collect::<Vec<_>>()
    };
    for command in commands() {
        let page = set(&folder.path().join(format!("man8/impctl-{}.8", command.get_name())));
        let said = words(&page.replace('\u{2010}', "-"));
        let help = ok(IMPCTL, &[command.get_name(), "--help"]);
        for word in words(&help) {
            let of_help = ["usage", "arguments", "commands", "options"].contains(&word.as_str());
            assert!(of_help || said.contains(&word), "{word} is not in the page of {}", command.get_name());
        }
    }
}

#[test]
fn every_command_has_examples_that_can_be_given() {
    for command in commands() {
        let help = ok(IMPCTL, &[command.get_name(), "--help"]);
        assert!(help.contains("\n\nExit status: 0 "), "{help}");
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("none: {help}"));
        let examples = examples.split("\n\n").next().unwrap();
        let mut count = 0;
        for line in examples.lines().map(str::trim).filter(|line| line.starts_with("impctl ")) {
            // Shell syntax after the command is not parsed.
            let end = [" | ", " > ", " && "].iter().filter_map(|end| line.find(end)).min();
            let line = line[..end.unwrap_or(line.len())].replace('\'', "");
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            count += usize::from(line.starts_with(&format!("impctl {}", command.get_name())));
        }
        assert!(count > 0, "{examples}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_said() {
    let output = super::run(IMPCTL, &["man", "/dev/null/man"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.starts_with("error: /dev/null/man/man5/manifest.5: writing: "), "{said}");
}
