//! Messages for wrong usage: cause and remedy.

use clap::Arg;

use super::{IMPCTL, commands, ok, options, run};

/// A wrong command line: an error on standard error only, and exit status 2.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = run(IMPCTL, arguments);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{arguments:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: ") && !said.contains('\x1b'), "{arguments:?}: {said}");
    assert!(said.ends_with("try '--help'.\n"), "{arguments:?}: {said}");
    said
}

#[test]
fn wrong_options_name_the_remedy() {
    for command in commands() {
        let name = command.get_name();
        let said = refused(&[name, "--nonsense"]);
        assert!(said.contains("'--nonsense'") && said.contains(&format!("impctl {name}")), "{said}");
        for option in options(&command) {
            let mistyped = format!("{option}x");
            let said = refused(&[name, &mistyped]);
            assert!(said.contains(&mistyped) && said.contains(&format!("exists: '{option}'")), "{said}");
        }
        let with_value = |it: &&Arg| it.get_action().takes_values();
        for option in command.get_opts().filter(with_value).filter_map(Arg::get_long) {
            let said = refused(&[name, &format!("--{option}")]);
            assert!(said.contains("a value is required") && said.contains(option), "{said}");
        }
        let needed: Vec<_> = command.get_arguments().filter(|it| it.is_required_set()).collect();
        if !needed.is_empty() {
            let said = refused(&[name]);
            for one in needed {
                let words = one.get_long().map_or_else(|| one.to_string(), |long| format!("--{long}"));
                assert!(said.contains(&words), "{words}: {said}");
            }
        }
        let choices = command.get_positionals().next().map(Arg::get_possible_values).unwrap_or_default();
        if !choices.is_empty() {
            let said = refused(&[name, "nonsense"]);
            assert!(choices.iter().all(|choice| said.contains(choice.get_name())), "{said}");
        }
    }
}

#[test]
fn wrong_commands_name_the_remedy() {
    for command in commands() {
        let mistyped = format!("{}x", command.get_name());
        let said = refused(&[&mistyped]);
        assert!(said.contains(&format!("'{}'", command.get_name())), "{said}");
    }
    refused(&["--nonsense"]);
    // Whoever does not know how to ask is told all.
    let output = run(IMPCTL, &[""; 0]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        commands().iter().all(|command| said.contains(&format!("\n  {} ", command.get_name()))),
        "{said}"
    );
}

#[test]
fn help_fits_and_has_colours_on_request() {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    all.extend(commands().iter().map(|command| vec![command.get_name().to_owned()]));
    for mut words in all {
        words.push("--help".to_owned());
        let help = |variable: &str| {
            let line = [&[variable.to_owned(), IMPCTL.to_owned()], &words[..]].concat();
            ok("env", &line)
        };
        let narrow = help("COLUMNS=40");
        for line in narrow.lines().filter(|line| !line.starts_with("Usage: ")) {
            // A word without blanks cannot be broken.
            assert!(line.len() <= 40 || !line.trim().contains(' '), "{words:?}: {line:?}");
        }
        let (plain, forced) = (help("COLUMNS=100"), help("CLICOLOR_FORCE=1"));
        assert!(!plain.contains('\x1b') && forced.contains("\x1b["), "{words:?}: {plain}{forced}");
        assert_eq!(anstream::adapter::strip_str(&forced).to_string(), plain);
        // A short one beside the long one.
        let short = ok(IMPCTL, &[&words[..words.len() - 1], &["-h".to_owned()]].concat());
        assert!(short.lines().count() < plain.lines().count() && !short.contains("Examples:"), "{short}");
    }
}

#[test]
fn manifests_without_an_end_are_refused() {
    for arguments in [
        &["compile", "/dev/zero", "-o", "/dev/null"][..],
        &["show", "/dev/zero"],
        &["lost", "--manifest", "/dev/zero"],
    ] {
        let output = run(IMPCTL, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("/dev/zero: reading: it is larger than 64 MiB"), "{arguments:?}: {said}");
    }
}
