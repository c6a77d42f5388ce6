//! The worst names in all output of both programs. No name may begin a line of the output or send control characters to a
//! terminal, and a reader of the output must read the same names.

mod commands;
mod nix;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use imp_mount::text::escape;
use serde_json::{Value, json};

use crate::ctl_lost::put;
use crate::ctl_status::metrics;
use crate::live::manifest;
use crate::support::command::installed;
use crate::support::{Disk, Fs, Machine, Output, Root, imp_mount, run};

use commands::{every_command_of_impctl, every_verb_of_imp_mount};

tests![
    every_text_is_read_back,
    every_command_of_impctl: Disk,
    every_verb_of_imp_mount: Disk,
    another_system: Root,
    manifests_of_others,
    remedies_can_be_pasted: Disk,
];

/// All effects of a name in one: line ends, cursor movements, colours and titles, text direction, hidden characters, the begin of
/// interpolations and comments, the end of strings and comments, and quotes.
const WORST: &str = "$\u{1}\nFORGED: x\r\nFORGED\u{1b}[31m\u{1b}]0;FORGED\u{7}\u{7f}\u{9b}1m\u{85}FORGED\u{202e}\u{2066}\u{200b}\u{a0}\u{2028}FORGED\u{fe0f}\u{feff}\u{e0041}${builtins.abort \"x\"}$${x}$\"''*#\\n\\`id`$(id);'";
/// No text.
const BROKEN: &[u8] = b"\xff\x9b31m\nFORGED\xe2\x80";

/// The longest name, with one visible character.
fn longest() -> String {
    "\u{e0041}".repeat(63) + "\n$\u{1}"
}

/// Bytes that no output may contain. Written here independently of the program.
pub fn is_hidden(c: char) -> bool {
    let ranges = [
        ('\0', '\u{1f}'),
        ('\u{7f}', '\u{a0}'),
        ('\u{ad}', '\u{ad}'),
        ('\u{61c}', '\u{61c}'),
        ('\u{200b}', '\u{200f}'),
        ('\u{2028}', '\u{202f}'),
        ('\u{2060}', '\u{206f}'),
        ('\u{fe00}', '\u{fe0f}'),
        ('\u{feff}', '\u{feff}'),
        ('\u{e0000}', '\u{e0fff}'),
    ];
    ranges.into_iter().any(|(first, last)| (first..=last).contains(&c))
}

/// A text has no hidden characters, and no line from a name.
#[track_caller]
fn is_safe(what: &str, text: &str) {
    for line in text.split('\n') {
        assert!(!line.contains(is_hidden), "{what}: {line:?}");
        let words = line.trim_start().trim_start_matches(|c: char| !c.is_alphabetic());
        assert!(!words.starts_with("FORGED"), "{what}: a name begins a line: {text}");
    }
}

/// The same for all output of a command. JSON must be valid.
#[track_caller]
fn both_are_safe(what: &str, output: &Output) {
    assert!(matches!(output.code, Some(0..=2)), "{what}: {output:?}");
    is_safe(what, &output.stdout);
    is_safe(what, &output.stderr);
    assert!(!output.stderr.contains('\u{fffd}'), "{what}: a byte that is no text: {output:?}");
    if what.contains("--json") && !output.stdout.is_empty() {
        serde_json::from_str::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// True if a string somewhere in a value, or a key, holds a text.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(list) => list.iter().any(|value| holds(value, text)),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains(text) || holds(value, text)),
        _ => false,
    }
}

/// Nix's own reading of bindings, where Nix is installed.
fn by_nix(bindings: &str) -> Option<Value> {
    if !installed("nix-instantiate") {
        return None;
    }
    let file = Path::new("/tmp/read.nix");
    fs::write(file, format!("{{\n{bindings}}}\n")).unwrap();
    let words = [
        "nix-instantiate",
        "--eval",
        "--strict",
        "--json",
        "--readonly-mode",
        "--option",
        "sandbox",
        "false",
    ];
    let store = [
        "env",
        "HOME=/tmp",
        "NIX_REMOTE=",
        "NIX_STORE_DIR=/tmp/store",
        "NIX_STATE_DIR=/tmp/state",
        "NIX_LOG_DIR=/tmp/log",
    ];
    let output = run(&[&store[..], &words, &["/tmp/read.nix"]].concat()).ok();
    Some(serde_json::from_str(&output.stdout).unwrap())
}

/// Lines for a configuration: Nix and the tests' reader agree on their meaning.
#[track_caller]
fn configuration(text: &str) -> Value {
    let read = nix::bindings(text);
    if let Some(by_nix) = by_nix(text) {
        assert_eq!(by_nix, read, "{text}");
    }
    read
}

/// All texts of up to three special characters, and the names above.
fn texts() -> Vec<String> {
    let letters: Vec<String> =
        ["$", "{", "}", "\"", "\\", "'", "n", "`", "!", "#", "\n", "\r", "\u{1}", "\u{9b}", "\u{e0041}", "*"]
            .map(str::to_owned)
            .into();
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|text| letters.iter().map(move |letter| format!("{text}{letter}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    all.extend([WORST.to_owned(), longest(), "/a b".to_owned(), "-x".to_owned(), "~".to_owned()]);
    all
}

fn every_text_is_read_back() {
    let texts = texts();
    let mut list = String::new();
    for text in &texts {
        let quoted = escape::nix(text);
        assert_eq!(nix::string(&quoted), *text, "{quoted}");
        list += &quoted;
        list.push('\n');
        let page = escape::json(text).unwrap();
        is_safe("json", page.as_str());
        assert_eq!(serde_json::from_str::<String>(page.as_str()).unwrap(), *text);
        for shown in [escape::name(text), escape::line(text)] {
            assert!(!shown.contains(is_hidden), "{shown}");
            assert_eq!(escape::line(&shown), shown);
        }
        let label = escape::label(text);
        assert!(!label.contains(is_hidden), "{label}");
        let sample =
            format!("# HELP imp_mount_x X.\n# TYPE imp_mount_x gauge\nimp_mount_x{{path=\"{label}\"}} 1\n");
        assert_eq!(
            metrics::value(&metrics::parse(&sample), "imp_mount_x", &[("path", &escape::name(text))]),
            Some(1.0)
        );
    }
    if let Some(read) = by_nix(&format!("list = [\n{list}];\n")) {
        assert_eq!(read["list"], json!(texts));
    }
    // A file name that is no UTF-8 cannot be in Nix or JSON, but can be in a shell.
    let mut words: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    words.push(BROKEN);
    for shell in ["bash", "zsh", "ksh", "busybox"].into_iter().filter(|shell| installed(shell)) {
        let quoted: Vec<_> = words.iter().map(|word| escape::shell(word)).collect();
        for word in &quoted {
            assert!(!word.contains(is_hidden), "{word}");
        }
        let script = format!("printf '%s\\0' {} > /tmp/words", quoted.join(" "));
        fs::write("/tmp/script", script).unwrap();
        let line: &[&str] =
            if shell == "busybox" { &["busybox", "sh", "/tmp/script"] } else { &[shell, "/tmp/script"] };
        run(line).ok();
        let read = fs::read("/tmp/words").unwrap();
        let read: Vec<_> = read.split(|byte| *byte == 0).collect();
        assert_eq!(read[..words.len()], words, "{shell}");
    }
}

/// Units, rules and packages with such names, with claims on existing paths.
fn services(root: &Path) {
    let unit =
        format!("[Service]\nStateDirectory=foo\nExecStart=/bin/x /srv/{}\n", WORST.replace(['\n', '\r'], ""));
    put(root, &format!("/etc/systemd/system/{WORST}.service"), &unit);
    put(root, &format!("/etc/tmpfiles.d/{WORST}.conf"), "d /var/lib/ruled\n");
    put(root, &format!("/var/lib/dpkg/info/{WORST}.list"), "/var/lib/packed\n");
    for name in ["foo", "ruled", "packed"] {
        put(root, &format!("/var/lib/{name}/x"), "x");
    }
}

/// A root from elsewhere: others control its units, rules, packages, users and its manifest.
fn another_system() {
    let root = Path::new("/tmp/other");
    services(root);
    let user = WORST.replace(['\n', '\r', ':'], "");
    put(root, "/etc/passwd", format!("{user}:x:7:7::/:/sh\n"));
    for name in [WORST.as_bytes(), BROKEN] {
        let folder = root.join("srv").join(OsStr::from_bytes(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
        chown(&folder, Some(7), Some(7)).unwrap();
    }
    put(root, "/etc/imp-mount/throw-away", format!("relative/{}\n", WORST.replace(['\n', '\r'], "")));
    let ask = |words: &[&str]| {
        let output = run(&[&[env!("CARGO_BIN_EXE_impctl")], words].concat());
        both_are_safe(&words.join(" "), &output);
        output
    };
    ask(&["lost", "--root", "/tmp/other"]).expect(2).says(&["FORGED"]);
    fs::remove_file(root.join("etc/imp-mount/throw-away")).unwrap();
    for words in [&["lost", "--root", "/tmp/other", "--all"][..], &["lost", "--root", "/tmp/other", "/srv"]] {
        assert!(ask(words).expect(1).stdout.contains("FORGED"));
    }
    let nix = ask(&["lost", "--root", "/tmp/other", "--nix"]).expect(1).stdout;
    for claimed in ["foo", "ruled", "packed"] {
        let line = nix.lines().find(|line| line.contains(claimed)).unwrap();
        assert!(line.contains("# ") && line.contains("FORGED"), "{line}");
    }
    assert!(holds(&configuration(&nix), &format!("/srv/{WORST}")), "{nix}");
    let json: Value =
        serde_json::from_str(&ask(&["lost", "--root", "/tmp/other", "--json"]).expect(1).stdout).unwrap();
    assert!(holds(&json, &format!("{WORST}.service")) && holds(&json, &user), "{json:#}");
    let manifest = json!({ "version": 1, "stores": [{ "path": format!("/p{WORST}") }], "entries": [{ "directory": format!("/x/{WORST}"), "y": 1 }] });
    put(root, "/etc/imp-mount/manifest", manifest.to_string());
    for command in ["lost", "orphans", "status"] {
        ask(&[command, "--root", "/tmp/other"]).expect(2).says(&["FORGED"]);
    }
}

/// A manifest may be compiled by another user than its author.
fn manifests_of_others() {
    let with = |key: &str, value: Value| {
        let mut manifest = json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/a" }] });
        let (list, key) = key.split_once('.').unwrap_or(("", key));
        match list {
            "" => manifest[key] = value,
            "root" | "ids" | "layout" => manifest[list] = json!({ key: value }),
            list => {
                let one =
                    if list == "parents" { json!({ "directory": "/b" }) } else { manifest[list][0].clone() };
                manifest[list] = json!([one]);
                manifest[list][0][key] = value;
            }
        }
        manifest
    };
    let relative = WORST.to_owned();
    let mut documents = vec![
        format!("{{ \"{}\": 1 }}", "\u{9b}FORGED\u{202e}"),
        format!("{{ \u{9b}FORGED"),
        WORST.to_owned(),
    ];
    let schema: Value = serde_json::from_str(include_str!("../docs/manifest.schema.json")).unwrap();
    let keys = |path: &str| -> Vec<String> {
        schema
            .pointer(path)
            .and_then(Value::as_object)
            .unwrap_or_else(|| panic!("{path}"))
            .keys()
            .cloned()
            .collect()
    };
    // Every key of a manifest, with impossible texts; and unknown keys.
    for (list, path) in [
        ("", "/properties"),
        ("root.", "/$defs/root/properties"),
        ("stores.", "/$defs/store/properties"),
        ("entries.", "/$defs/entry/properties"),
        ("parents.", "/$defs/parent/properties"),
        ("ids.", "/$defs/ids/properties"),
        ("layout.", "/$defs/layout/properties"),
    ] {
        for key in keys(path).into_iter().chain([WORST.to_owned()]) {
            for value in [
                json!(relative),
                json!(format!("/{WORST}/../x")),
                json!([relative]),
                json!({ WORST: relative }),
                json!([{ "path": format!("/{WORST}"), "from": WORST, WORST: 1 }]),
            ] {
                documents.push(with(&format!("{list}{key}"), value).to_string());
            }
        }
    }
    for text in &documents {
        fs::write("/tmp/manifest.json", text).unwrap();
        for line in
            [&["compile", "/tmp/manifest.json", "-o", "/dev/null"][..], &["show", "/tmp/manifest.json"]]
        {
            both_are_safe(line[0], &run(&[&[env!("CARGO_BIN_EXE_impctl")], line].concat()));
        }
    }
    // A note, which is no problem.
    let layout =
        json!({ "filesystems": [{ "path": format!("/{WORST}"), "fstype": format!("ext4{WORST}") }] });
    let mut noted = with("layout", layout);
    noted["entries"] = json!([{ "directory": format!("/{WORST}/a"), "phase": "live" }]);
    fs::write("/tmp/manifest.json", noted.to_string()).unwrap();
    let output = run(&[env!("CARGO_BIN_EXE_impctl"), "compile", "/tmp/manifest.json", "-o", "/dev/null"]);
    both_are_safe("a note", &output);
    output.ok().says(&["note: ", "FORGED"]);
    // A damaged one.
    fs::write("/tmp/damaged", WORST).unwrap();
    both_are_safe("damaged", &run(&[env!("CARGO_BIN_EXE_impctl"), "show", "/tmp/damaged"]));
    both_are_safe("damaged", &run(&[imp_mount(), "--manifest", "/tmp/damaged", "--check"]));
}

/// A command to paste into a shell gets exactly these words.
fn remedies_can_be_pasted() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let (path, device) =
        (format!("/mnt/{WORST}"), format!("/dev/{}", WORST.replace(|c: char| c.is_control(), "")));
    let mut manifest =
        manifest(json!([{ "directory": format!("/a{WORST}"), "store": "/persist", "mode": "0700" }]));
    manifest["stores"] =
        json!([{ "path": "/persist" }, { "path": path, "device": device, "required": false }]);
    machine.manifest(&manifest);
    machine.build().ok();
    fs::set_permissions(machine.at(&format!("/a{WORST}")), fs::Permissions::from_mode(0o755)).unwrap();
    let text = machine.run(&["--check"]).expect(1).stdout;
    let words = |command: &str| {
        let line = text
            .lines()
            .find_map(|line| Some(&line[line.find(command)?..]))
            .unwrap_or_else(|| panic!("no {command:?} in {text}"));
        let script = format!("mount() {{ printf '%s\\0' \"$@\"; }}; chmod() {{ mount \"$@\"; }}; {line}");
        let output = run(&["bash", "-c", &script]);
        output.stdout.split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let place = machine.at("/").to_str().unwrap().trim_end_matches('/').to_owned();
    assert_eq!(words("mount -m "), ["-m", &device, &format!("{place}{path}"), ""]);
    let chmod = text
        .lines()
        .find_map(|line| Some(line[line.find("`chmod ")? + 1..].rsplit_once("`, set")?.0))
        .unwrap();
    let output = run(&["bash", "-c", &format!("chmod() {{ printf '%s\\0' \"$@\"; }}; {chmod}")]).ok();
    let given: Vec<_> = output.stdout.split('\0').collect();
    assert_eq!(given, ["0700", &format!("{place}/persist/a{WORST}"), ""]);
}
