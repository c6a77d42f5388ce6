//! Output of `impctl completions`, in its shells.

use std::fmt::Write;
use std::fs;

use clap::Command;
use tempfile::TempDir;

use super::{IMPCTL, commands, has, ok, options};

/// The scripts of a shell for both programs, in files of these programs' names.
fn scripts(shell: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for program in ["impctl", "imp-mount"] {
        let script = ok(IMPCTL, &["completions", shell, program]);
        fs::write(folder.path().join(program), &script).unwrap();
        fs::write(folder.path().join(format!("_{program}")), &script).unwrap();
    }
    folder
}

/// Input, and the expected completions.
fn expected() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for command in commands() {
        let name = command.get_name();
        all.push((format!("impctl {}", begun(name)), name.to_owned()));
        all.extend(options(&command).into_iter().map(|option| (format!("impctl {name} {option}"), option)));
    }
    let help = imp_mount::boot::args::HELP;
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    all.extend(
        words
            .filter(|word| word.starts_with("--"))
            .map(|word| (format!("imp-mount {}", begun(word)), word.to_owned())),
    );
    for (line, word) in [
        ("imp-mount --phase e", "early"),
        ("imp-mount --phase e", "etc"),
        ("imp-mount --phase ", "boot"),
        ("imp-mount --phase l", "live"),
    ] {
        all.push((line.to_owned(), word.to_owned()));
    }
    assert!(all.len() > 40, "{all:?}");
    all
}

/// A word without its end.
fn begun(word: &str) -> &str {
    &word[..word.len() - 1]
}

/// Input where one of several words is possible; the scripts for fish(1) have none of these.
fn choices() -> Vec<(String, String)> {
    let all = [("impctl completions z", "zsh"), ("impctl completions bash imp-", "imp-mount")];
    all.map(|(line, word)| (line.to_owned(), word.to_owned())).into()
}

/// Offers of a shell for every line, from its output: the lines' numbers and the words.
#[track_caller]
fn are_offered(expected: &[(String, String)], printed: &str) {
    for (number, (line, word)) in expected.iter().enumerate() {
        let start = format!("{number} {word}");
        // fish(1) prints a description after each word.
        let is_offered = printed.lines().any(|line| line.split('\t').next() == Some(&start));
        assert!(is_offered, "{line}: no {word} in {printed}");
    }
}

#[test]
fn bash_completes() {
    let folder = scripts("bash");
    let mut script = format!(
        "set -u; cd {}; . ./impctl; . ./imp-mount
        ask() {{
            local number=$1; shift
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            local spec=$(complete -p \"$1\"); spec=${{spec#*-F }}
            \"${{spec%% *}}\" \"$1\" \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"
            (( ${{#COMPREPLY[@]}} )) && printf \"$number %s\\n\" \"${{COMPREPLY[@]}}\"
        }}\n",
        folder.path().display()
    );
    let expected = [expected(), choices()].concat();
    for (number, (line, _)) in expected.iter().enumerate() {
        let (words, last) = line.rsplit_once(' ').unwrap();
        writeln!(script, "ask {number} {words} '{last}'").unwrap();
    }
    are_offered(&expected, &ok("bash", &["--norc", "-c", &(script + "true")]));
}

#[test]
fn fish_completes() {
    if !has("fish", "fish_completes") {
        return;
    }
    let folder = scripts("fish");
    let home = folder.path().display();
    let mut script = format!("source {home}/impctl\nsource {home}/imp-mount\n");
    let expected = expected();
    for (number, (line, _)) in expected.iter().enumerate() {
        writeln!(script, "complete -C '{line}' | sed 's/^/{number} /'").unwrap();
    }
    for program in ["impctl", "imp-mount"] {
        assert_eq!(ok("fish", &["--no-config", "--no-execute", &format!("{home}/{program}")]), "");
    }
    let home = format!("HOME={home}");
    are_offered(&expected, &ok("env", &[&home, "fish", "--no-config", "-c", &script]));
}

#[test]
fn zsh_loads_them() {
    if !has("zsh", "zsh_loads_them") {
        return;
    }
    let folder = scripts("zsh");
    let home = folder.path().display();
    for program in ["impctl", "imp-mount"] {
        let file = format!("{home}/_{program}");
        assert_eq!(ok("zsh", &["-f", "-n", &file]), "");
        let script = format!(
            "fpath=({home} $fpath); autoload -Uz compinit; compinit -D -u; print $_comps[{program}]; autoload -Uz +X _{program}"
        );
        assert_eq!(ok("zsh", &["-f", "-c", &script]).trim(), format!("_{program}"));
    }
    let text = fs::read_to_string(folder.path().join("_impctl")).unwrap();
    let all: Vec<_> = commands().iter().flat_map(options).collect();
    assert!(all.iter().all(|option| text.contains(option.as_str())), "{text}");
}

/// Path arguments are completed as paths, and the others as user names; a number is not completed.
#[test]
fn every_path_is_known_as_one() {
    use clap::ValueHint::{AnyPath, DirPath, FilePath, Other, Username};
    let is_known =
        |it: &clap::Arg| matches!(it.get_value_hint(), AnyPath | DirPath | FilePath | Username | Other);
    let values = |command: &Command| {
        let all = command.get_arguments().filter(|it| it.get_action().takes_values());
        all.filter(|it| it.get_possible_values().is_empty()).cloned().collect::<Vec<_>>()
    };
    for command in commands() {
        for value in values(&command) {
            assert!(is_known(&value), "{}: {value}", command.get_name());
        }
    }
}
