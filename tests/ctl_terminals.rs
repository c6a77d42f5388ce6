//! Every command of impctl on terminals, narrow ones, dumb ones and none: colours, tables and progress lines appear on a terminal
//! only.

use std::collections::BTreeSet;

use clap::CommandFactory;
use imp_mount::ctl::Cli;
use serde_json::{Value, json};

use crate::ctl_lost::put;
use crate::ctl_recover::make;
use crate::ctl_roots::kept::Kept;
use crate::live::manifest;
use crate::support::{Disk, Fs, Machine, Output, Root, run};

tests![
    colours_are_for_terminals: Disk Script,
    json_is_for_programs: Disk Script,
    progress_is_for_terminals: Disk Script,
    a_narrow_terminal: Disk Script,
    a_closed_pipe_is_no_failure: Disk,
    a_check_on_a_console: Disk Script,
    many_files_are_counted: Script,
];

/// Arguments of each command.
struct Case {
    name: String,
    words: String,
    /// Its exit code.
    code: i32,
    /// True if its output has styles.
    styled: bool,
    /// True if it shows progress.
    long: bool,
    /// True if it has the option `--json`.
    json: bool,
}

/// All commands, from the definition of the command line: a new command needs arguments here that make it print.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let (words, code, styled, long) = match name {
            "compile" => ("/tmp/manifest.json -o /tmp/compiled", 0, false, false),
            "show" => ("/run/machine/manifest", 0, false, false),
            "status" => ("--manifest /run/machine/manifest --cmdline /dev/null", 0, true, false),
            "lost" => ("--manifest /run/machine/manifest /var/lib", 1, true, false),
            "orphans" | "audit" => ("--manifest /run/machine/manifest", 1, true, false),
            "roots" => ("--manifest /run/machine/manifest", 0, true, false),
            "review" => ("--dry-run --answers /tmp/answers --nix /tmp/persist.nix /var/lib", 0, false, false),
            "adopt" => ("--manifest /run/machine/manifest /var/lib/new", 0, false, true),
            "migrate" => ("--manifest /run/machine/manifest --from /tmp/old", 0, true, true),
            "recover" => ("--manifest /run/machine/manifest /srv/back", 0, false, true),
            "completions" => ("bash", 0, false, false),
            "man" => ("/tmp/man", 0, false, false),
            other => panic!("say here how to ask `impctl {other}` for something"),
        };
        let json = command.get_arguments().any(|option| option.get_long() == Some("json"));
        cases.push(Case { name: name.to_owned(), words: words.to_owned(), code, styled, long, json });
    }
    cases
}

/// A machine with work and output for every command.
struct Running(Machine);

impl Running {
    fn start() -> Self {
        let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 64));
        machine.manifest(&manifest(json!([{ "directory": "/var/lib/a-name-of-some-length" }])));
        machine.build().ok();
        machine.switch_root();
        // `impctl lost` leaves the manifest at the default path of other commands.
        machine.impctl("lost", &[]);
        put(&machine.at(""), "/tmp/manifest.json", r#"{ "version": 1, "entries": [] }"#);
        put(&machine.at(""), "/var/lib/lost/x", "x");
        put(&machine.at(""), "/tmp/answers", "keep /var/lib/lost  # to stay\n");
        put(&machine.at("/persist"), "/srv/orphan/x", "x");
        let old = make(&machine.at("/persist"), 1, "disk", "an earlier one");
        put(&old, "/srv/back/x", "x".repeat(1 << 20));
        for file in ["/etc/passwd", "/etc/group"] {
            put(&old, file, "");
        }
        Kept::new(&machine).add(2, 1).ends(true, 4096).of_system("/nix/store/a-name-of-some-length");
        Self(machine)
    }

    /// Runs a line of bash(1) in which `impctl` is the command of this case.
    fn run(&self, case: &Case, line: &str) -> Output {
        let machine = &self.0;
        // Finished work is not repeated.
        machine.run_inside(&["umount", "-q", "/var/lib/new"]);
        machine.run_inside(&[
            "rm",
            "-rf",
            "/var/lib/new",
            "/srv/back",
            "/persist/var/lib/new",
            "/persist/var/lib/a-name-of-some-length/x",
        ]);
        put(&machine.at(""), "/var/lib/new/x", "x".repeat(1 << 20));
        put(&machine.at(""), "/tmp/old/var/lib/a-name-of-some-length/x", "x".repeat(1 << 20));
        let line = line.replace("impctl", &format!("/run/machine/impctl {} {}", case.name, case.words));
        machine.run_inside(&["bash", "-c", &line])
    }

    /// The same on a terminal of the given width, with the expected exit status; returns the terminal's output.
    #[track_caller]
    fn on_terminal(&self, case: &Case, columns: u32, line: &str) -> String {
        let line = format!("script -qec 'stty rows 24 cols {columns}; export TERM=xterm; {line}' /dev/null");
        self.run(case, &line).expect(case.code).stdout
    }
}

/// True if a text has a colour or another style; cursor movements are allowed.
fn has_colours(text: &str) -> bool {
    let codes = text.split("\x1b[").skip(1);
    codes
        .map(|code| code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'))
        .any(|code| code.starts_with('m'))
}

fn colours_are_for_terminals() {
    let machine = Running::start();
    for case in cases() {
        let name = &case.name;
        let piped = machine.run(&case, "TERM=xterm impctl").expect(case.code);
        assert!(!piped.stdout.contains(['\x1b', '\r']) && piped.stderr.is_empty(), "{name}: {piped:?}");
        assert_eq!(piped.stdout.is_empty(), ["compile", "man"].contains(&name.as_str()), "{name}: {piped:?}");
        let forced = machine.run(&case, "CLICOLOR_FORCE=1 impctl").expect(case.code);
        assert_eq!(has_colours(&forced.stdout), case.styled, "{name}: {forced:?}");
        assert_eq!(forced.stderr, "", "{name}");
        let unstyled = anstream::adapter::strip_str(&forced.stdout).to_string();
        assert_eq!(unstyled, piped.stdout, "{name}: the same text with colours");

        let seen = |line: &str| machine.on_terminal(&case, 150, &format!("{line} 2> /dev/null"));
        let shown = seen("impctl");
        assert_eq!(has_colours(&shown), case.styled, "{name}: {shown}");
        for plain in ["NO_COLOR=1 impctl", "TERM=dumb impctl", "CLICOLOR=0 impctl"] {
            assert_eq!(seen(plain).replace("\r\n", "\n"), piped.stdout, "{name}: {plain}");
        }
        assert!(
            seen("NO_COLOR= impctl").contains('\x1b') == case.styled,
            "{name}: an empty word says nothing"
        );
    }
}

fn json_is_for_programs() {
    let machine = Running::start();
    for case in cases().iter().filter(|case| case.json) {
        for line in ["impctl --json", "CLICOLOR_FORCE=1 impctl --json"] {
            for said in [
                machine.run(case, line).expect(case.code).stdout,
                machine.on_terminal(case, 40, &format!("{line} 2> /dev/null")),
            ] {
                let found: Value =
                    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
                assert_eq!(found["version"], 1, "{found}");
            }
        }
    }
}

fn progress_is_for_terminals() {
    let machine = Running::start();
    for case in cases() {
        let name = &case.name;
        // On standard error, so that it is visible also if standard output is a file.
        let shown = machine.on_terminal(&case, 40, "impctl > /dev/null");
        assert_eq!(shown.contains("copying ["), case.long, "{name}: {shown:?}");
        for line in anstream::adapter::strip_str(&shown).to_string().split(['\r', '\n']) {
            assert!(line.chars().count() <= 40, "{name}: wider than the terminal: {line:?}");
        }
        assert!(!case.long || shown.ends_with("\x1b[2K"), "{name}: the line stays: {shown:?}");
        assert!(!shown.contains(" B/") && !shown.contains("iB"), "{name}: sizes as everywhere: {shown:?}");
        assert!(!has_colours(&shown), "{name}: {shown:?}");
        let dumb = machine.on_terminal(&case, 40, "TERM=dumb impctl > /dev/null");
        assert_eq!(dumb, "", "{name}");
    }
}

fn a_narrow_terminal() {
    let machine = Running::start();
    for case in cases() {
        let name = &case.name;
        let seen =
            |columns: u32, line: &str| machine.on_terminal(&case, columns, &format!("{line} 2> /dev/null"));
        let (wide, narrow) = (seen(150, "NO_COLOR=1 impctl"), seen(40, "NO_COLOR=1 impctl"));
        let paths = |text: &str| {
            let words = text.split_whitespace().filter(|word| word.starts_with('/'));
            words.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        // Paths, which people copy, are whole even where other columns have no room.
        assert_eq!(paths(&narrow), paths(&wide), "{name}");
        // Next steps, and remarks below a line of a table, end where the terminal does, but for long words.
        let is_cut =
            |line: &str| line.trim_start().trim_start_matches("-> ").contains(' ') && line.len() > 40;
        let is_prose = |line: &&str| line.starts_with("->") || (line.starts_with("   ") && name == "status");
        assert!(!narrow.lines().filter(is_prose).any(|line| is_cut(line.trim_end())), "{name}: {narrow}");
        // The audit prints lines to paste, which have no columns.
        if case.styled && name != "audit" {
            // A table does without some of its columns, or has its remarks below.
            let is_heading =
                |line: &&str| line.trim_start().starts_with(['N', 'S']) && !line.contains(char::is_lowercase);
            let heading = narrow.lines().find(is_heading).unwrap().trim_end();
            assert!(heading.len() <= 40 && narrow != wide, "{name}: {narrow}");
        } else {
            assert_eq!(narrow, wide, "{name}");
        }
        assert_eq!(seen(150, "NO_COLOR=1 COLUMNS=40 impctl"), narrow, "{name}");
        assert_eq!(seen(150, "NO_COLOR=1 COLUMNS=wide impctl"), wide, "{name}");
        // Without a terminal nothing is left out.
        let piped = machine.run(&case, "COLUMNS=40 impctl").stdout;
        assert_eq!(piped, wide.replace("\r\n", "\n"), "{name}");
    }
}

/// A reader may close the pipe early: no error, and the exit status still gives the result.
fn a_closed_pipe_is_no_failure() {
    let machine = Running::start();
    for case in cases() {
        let name = &case.name;
        let unread = machine.run(&case, "exec 3> >(:); wait $!; impctl >&3").expect(case.code);
        assert_eq!(unread.stderr, "", "{name}");
        machine.run(&case, "exec 3> >(:); wait $!; impctl >&3 2>&3").expect(case.code);
        let help = machine.run(&case, "exec 3> >(:); wait $!; impctl --help >&3").ok();
        assert_eq!(help.stderr, "", "{name}");
    }
}

/// Output of imp-mount on a terminal fits 80 columns, and is the same as in a pipe otherwise.
fn a_check_on_a_console() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let name = "a-directory-of-some-length/".repeat(4);
    let entries = json!([{ "directory": format!("/var/lib/{name}x") }, { "file": "/etc/machine-id" }]);
    machine.manifest(
        &json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries }),
    );
    machine.build().ok();
    std::fs::remove_dir_all(machine.at("/persist/var")).unwrap();
    let home = machine.home();
    let line = format!(
        "{} --check --manifest {home}/manifest --cmdline {home}/cmdline --sysroot {home}/sysroot",
        crate::support::imp_mount(),
        home = home.display()
    );
    let piped = run(&["sh", "-c", &line]);
    let shown = run(&["script", "-qec", &line, "/dev/null"]);
    assert_eq!(shown.code, piped.code);
    let shown = shown.stdout.replace("\r\n", "\n");
    for line in shown.lines() {
        // A word without blanks is never broken.
        let is_whole = line.get(20..).is_some_and(|rest| !rest.contains(' '));
        assert!(line.len() <= 80 || is_whole, "{line:?}: {shown}");
    }
    assert!(piped.stdout.lines().any(|line| line.len() > 80), "{piped:?}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&shown), words(&piped.stdout));
}

/// A long scan shows its progress on a terminal.
fn many_files_are_counted() {
    let root = std::path::Path::new("/tmp/root/srv/many");
    std::fs::create_dir_all(root).unwrap();
    let scan = format!("TERM=xterm {} lost --root /tmp/root > /dev/null", env!("CARGO_BIN_EXE_impctl"));
    let shown = || run(&["script", "-qec", &scan, "/dev/null"]).expect(1).stdout;
    std::fs::write(root.join("one"), "").unwrap();
    assert_eq!(shown(), "");
    run(&["sh", "-c", "cd /tmp/root/srv/many && seq 60000 | xargs touch"]).ok();
    let shown = shown();
    assert!(
        shown.contains("looked at ") && shown.contains(" files") && shown.ends_with("\x1b[2K"),
        "{shown:?}"
    );
    let piped = run(&["sh", "-c", &scan]).expect(1);
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("", ""));
}
