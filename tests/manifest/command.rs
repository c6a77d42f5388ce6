//! `impctl compile` and `impctl show`, as they are run.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use imp_mount::manifest::{text, wire};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const TEXT: &str = include_str!("../golden/v1.json");
const BYTES: &[u8] = include_bytes!("../golden/v1.bin");

/// Runs impctl in a directory.
fn impctl(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_impctl"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn mode(file: &Path) -> u32 {
    file.metadata().unwrap().permissions().mode()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_manifest_is_compiled_and_shown() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("in.json"), TEXT).unwrap();
    for (source, input) in [("in.json", ""), ("-", TEXT)] {
        let output = impctl(scratch.path(), &["compile", source, "-o", "out"], input);
        assert_eq!(
            (output.status.code(), stderr(&output), output.stdout.as_slice()),
            (Some(0), "", b"".as_slice())
        );
        let out = scratch.path().join("out");
        assert_eq!(fs::read(&out).unwrap(), BYTES);
        // As anybody's file, under whatever umask.
        assert_eq!(mode(&out), mode(&scratch.path().join("in.json")));
        fs::write(&out, "what was there before").unwrap();
    }
    impctl(scratch.path(), &["compile", "in.json", "-o", "out"], "");
    let compiled = impctl(scratch.path(), &["show", "out"], "");
    let from_text = impctl(scratch.path(), &["show", "-"], TEXT);
    assert_eq!((compiled.status.code(), stderr(&compiled)), (Some(0), ""));
    assert_eq!(compiled.stdout, from_text.stdout);
    let shown = String::from_utf8(compiled.stdout).unwrap();
    assert_eq!(wire::encode(&text::parse(&shown).unwrap()).unwrap(), BYTES);
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_refusal_says_everything_and_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("out"), "as it was\0").unwrap();
    let json = r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/run" }, { "directory": "a" }] }"#;
    let output = impctl(scratch.path(), &["compile", "-", "-o", "out"], json);
    assert_eq!(output.status.code(), Some(1));
    let said = "error: entries[1] a: `directory`: the path is relative; write `/a` if that is what you mean\n\
        error: entries[0] /run: /run is made anew at every boot and handed over by the initrd; leave it out\n\
        2 problems found\n";
    assert_eq!(stderr(&output), said);
    assert_eq!(fs::read_to_string(scratch.path().join("out")).unwrap(), "as it was\0");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);

    let output = impctl(scratch.path(), &["show", "out"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = "error: out: this is no manifest: it does not start like one; write it again with `impctl compile`\n1 problem found\n";
    assert_eq!(stderr(&output), said);
}

#[test]
fn a_note_is_no_refusal() {
    let scratch = tempfile::tempdir().unwrap();
    let json = r#"{ "version": 1, "stores": [{ "path": "/p" }], "entries": [{ "directory": "/data/a" }],
        "layout": { "filesystems": [{ "path": "/data", "fstype": "xfs" }] } }"#;
    let output = impctl(scratch.path(), &["compile", "-", "-o", "out"], json);
    let said = "note: entries[0] /data/a: it persists already, as it lies on /data, a file system of its own (xfs); \
        leave it out, unless it is to be on the store\n";
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), said));
    let shown = impctl(scratch.path(), &["show", "out"], "");
    assert!(String::from_utf8(shown.stdout).unwrap().contains(r#""phase": "live""#));
}

/// Such a path is legal, and two that look the same are not.
#[test]
fn a_path_with_hidden_characters_is_noted() {
    let scratch = tempfile::tempdir().unwrap();
    let json = "{ \"version\": 1, \"stores\": [{ \"path\": \"/p\" }], \"entries\": [
        { \"directory\": \"/srv/a\u{200f}\" }, { \"directory\": \"/srv/b\", \"source\": \"/c\u{202e}\" }, { \"directory\": \"/srv/\u{e9}\" }] }";
    let output = impctl(scratch.path(), &["compile", "-", "-o", "out"], json);
    let why = "has characters that are invisible or turn the direction of text, shown as escapes; write the path anew \
        without them, unless the file has that name";
    let said = format!(
        "note: entries[0] /srv/a\\u{{200f}}: /srv/a\\u{{200f}} {why}\nnote: entries[1] /srv/b: /c\\u{{202e}} {why}\n"
    );
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), said.as_str()));
}

/// Root can put a file in the place of /dev/null, and would.
#[test]
fn only_regular_files_are_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let pipe = scratch.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let output = impctl(scratch.path(), &["compile", "-", "-o", "pipe"], TEXT);
    let said = "error: pipe: writing: it is there, and no regular file\n";
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), said));
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    let output = impctl(scratch.path(), &["compile", "-", "-o", "/dev/stdout"], TEXT);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), BYTES));
}

#[test]
fn failures_to_start_have_exit_code_2() {
    let scratch = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (["show", "nowhere"].as_slice(), "error: nowhere: reading: No such file or directory"),
        (
            &["compile", "-", "-o", "no/where"],
            "error: no/where: writing: its directory is not there: mkdir -p no",
        ),
        (&["compile", "-", "-o", "."], "error: .: writing: "),
        (&["compile", "-"], "error: the following required arguments were not provided"),
        (&["comple"], "error: unrecognized subcommand"),
    ] {
        let output = impctl(scratch.path(), arguments, r#"{ "version": 1 }"#);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).starts_with(said), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let entries: Vec<_> = (0..10_000).map(|number| format!(r#"{{ "directory": "/a/{number}" }}"#)).collect();
    let json =
        format!(r#"{{ "version": 1, "stores": [{{ "path": "/p" }}], "entries": [{}] }}"#, entries.join(","));
    let scratch = tempfile::NamedTempFile::new().unwrap();
    fs::write(scratch.path(), json).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_impctl"))
        .arg("show")
        .arg(scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
