//! A machine with the worst names in every place writable for others, and every command of both programs on this
//! machine.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::process::Child;

use clap::{ArgAction, Command, CommandFactory};
use imp_mount::boot::args;
use imp_mount::ctl::Cli;
use imp_mount::text::escape;
use serde_json::{Value, json};

use super::{BROKEN, WORST, both_are_safe, configuration, holds, is_safe, longest, services};
use crate::ctl_lost::put;
use crate::ctl_recover::make;
use crate::ctl_roots::kept::Kept;
use crate::ctl_status::metrics;
use crate::live::{inside, manifest};
use crate::support::{Disk, Fs, Machine, Output, Root, imp_mount, run};

/// The path of an entry, a file and the like by these names.
fn paths() -> [String; 2] {
    [format!("/srv/{WORST}"), format!("/srv/{}", longest())]
}

/// A file's path as the `file` of a manifest.
fn file(path: &str) -> String {
    path.chars()
        .flat_map(|c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

fn entries() -> Value {
    let [worst, longest] = paths();
    json!([
        { "directory": worst },
        { "directory": longest, "source": format!("/from{worst}") },
        { "directory": format!("/opt/link {WORST}"), "required": false },
        { "directory": format!("/opt/pending {WORST}"), "user": "ghost" },
        { "directory": format!("/opt/over {WORST}"), "required": false },
        { "directory": format!("/opt/busy {WORST}") },
        { "file": file(&format!("/etc/{WORST}")), "method": "copy", "missing": "create" },
        { "file": file(&format!("/etc/linked {WORST}")), "required": false },
        { "file": "/home/u/*.conf", "required": false },
    ])
}

/// A running machine with such names in every place writable for users.
fn hostile() -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 64));
    let store = machine.at("/persist");
    for name in [WORST.as_bytes(), BROKEN] {
        let name = OsStr::from_bytes(&[name, b".conf"].concat()).to_owned();
        fs::create_dir_all(store.join("home/u")).unwrap();
        fs::write(store.join("home/u").join(&name), "store").unwrap();
        let orphan = store.join("srv").join(&name);
        fs::create_dir_all(&orphan).unwrap();
        fs::write(orphan.join("x"), "x").unwrap();
    }
    put(&store, &format!("{}/x", paths()[1]), "x");
    fs::create_dir_all(store.join("opt")).unwrap();
    symlink(format!("/{WORST}"), store.join("opt").join(format!("link {WORST}"))).unwrap();
    let mut manifest = manifest(entries());
    manifest["parents"] = json!([{ "directory": "/home/u", "user": 1000, "group": 1000 }]);
    machine.manifest(&manifest);
    machine.cmdline("imp-mount.skip=\"/\u{1b}[31m\u{202e}FORGED\" imp-mount.\u{9b}=\u{e0041}FORGED imp-mount.skip=x\u{7f}");
    let boot = machine.build();
    both_are_safe("the boot", &boot);
    boot.ok().says(&["FORGED"]);
    machine.switch_root();
    let root = machine.at("");
    // A NixOS system, so that lines of both kinds are printed.
    put(&root, "/etc/NIXOS", "");
    // Lost files.
    for name in [WORST.as_bytes(), BROKEN, longest().as_bytes()] {
        let folder = root.join("var/lib").join(OsStr::from_bytes(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
        chown(&folder, Some(4242), Some(4242)).unwrap();
    }
    let user = WORST.replace(['\n', '\r', ':'], "");
    put(&root, "/etc/passwd", format!("root:x:0:0::/:/sh\n{user}:x:4242:4242::/:/sh\n"));
    put(&root, "/etc/group", format!("root:x:0:\n{user}:x:4242:\n"));
    services(&root);
    // Files in the way, changed and replaced.
    let over = machine.at(&format!("/opt/over {WORST}"));
    run(&[
        "mount".as_ref(),
        "-t".as_ref(),
        "tmpfs".as_ref(),
        OsStr::new(&WORST.replace('\0', "")),
        over.as_os_str(),
    ])
    .ok();
    fs::write(machine.at(&format!("/etc/{WORST}")), "changed").unwrap();
    let linked = machine.at(&format!("/etc/linked {WORST}"));
    fs::remove_file(&linked).unwrap();
    fs::write(linked, "replaced").unwrap();
    // A new match without a possible copy: a directory has its name on the store.
    let new = format!("new {WORST}.conf");
    put(&root, &format!("/home/u/{new}"), "new");
    fs::create_dir_all(machine.at("/persist/home/u").join(&new)).unwrap();
    // A tree to migrate, and differing files on the store.
    put(&root, &format!("/tmp/old{}/x", paths()[0]), "x");
    put(&root, &format!("/tmp/old{}/x", paths()[1]), "other");
    put(&root, &format!("/tmp/old/srv/not named {WORST}"), "x");
    put(&root, &format!("/persist/from{}/x", paths()[0]), "x");
    put(&root, "/tmp/answers", format!("look-into {}\n", json!(format!("/var/lib/{WORST}"))));
    // A path of one old root, missing in the other.
    let old = make(&machine.at("/persist"), 1, "disk", "an earlier one");
    put(&old, &format!("/home/{WORST}/old/x"), "x");
    make(&machine.at("/persist"), 2, "disk", "an earlier one");
    let row = json!({ "path": format!("/home/{WORST}/gone"), "kind": "file", "files": 1, "bytes": 1 });
    let end = json!({ "version": 1, "complete": true, "rows": [row] });
    put(&store, "/.imp-mount/roots/2/end.json", end.to_string());
    let old = Kept::on(&machine.at("/persist")).add(0, 1).ends(true, 1).leaves_out(&paths()[0], 1);
    old.of_system(WORST);
    for name in ["var/lib/new", "var/lib/open"] {
        put(&root, &format!("/{name} {WORST}/x"), "x");
    }
    machine
}

/// Arguments of each command of impctl. A new command needs arguments here with the names in its output.
fn case(command: &str) -> Vec<String> {
    let manifest = "--manifest /run/machine/manifest";
    let words = match command {
        "compile" => "/run/machine/manifest.json -o /tmp/compiled".to_owned(),
        "show" => "/run/machine/manifest".to_owned(),
        "status" => format!("{manifest} --cmdline /run/machine/cmdline"),
        "lost" | "orphans" | "roots" | "audit" => manifest.to_owned(),
        "adopt" => {
            return [
                manifest.split(' ').map(str::to_owned).collect(),
                vec![format!("/var/lib/open {WORST}"), format!("/var/lib/new {WORST}")],
            ]
            .concat();
        }
        "migrate" => format!("{manifest} --from /tmp/old"),
        "recover" => {
            let paths = [format!("/home/{WORST}/old"), format!("/home/{WORST}/none")].into_iter();
            return manifest.split(' ').map(str::to_owned).chain(paths).collect();
        }
        "review" => format!("{manifest} --answers /tmp/answers --nix /tmp/persist.nix"),
        "completions" => "bash".to_owned(),
        "man" => "/tmp/man".to_owned(),
        other => {
            panic!("say here how `impctl {other}` comes to print the worst names, or that it prints none")
        }
    };
    words.split(' ').map(str::to_owned).collect()
}

/// Runs impctl in the machine.
fn impctl(machine: &Machine, words: &[impl AsRef<OsStr>]) -> Output {
    let root = machine.at("");
    let mut line: Vec<OsString> = vec!["chroot".into(), root.into(), "/run/machine/impctl".into()];
    line.extend(words.iter().map(|word| word.as_ref().to_owned()));
    run(&line)
}

/// A process with such a name, with a working directory and an open file there.
fn works_in(machine: &Machine, folder: &str) -> Child {
    let program = "/tmp/\n\u{1b}[1m\u{9b}x\u{7f}";
    fs::copy("/bin/bash", machine.at(program)).unwrap();
    let script = format!("cd {}; exec 3> x; echo ready; kill -STOP $$", escape::shell(folder));
    let [program, script] = [program, &script].map(escape::shell);
    inside(machine, &format!("exec bash -c {}", escape::shell(&format!("exec {program} -c {script}"))))
}

/// Every command, with each option of its output, and each option with a name as its value.
pub fn every_command_of_impctl() {
    let machine = hostile();
    machine.impctl("status", &[]);
    for file in ["cmdline", "manifest.json"] {
        fs::copy(machine.home().join(file), format!("/run/machine/{file}")).unwrap();
    }
    let mut open = works_in(&machine, &format!("/var/lib/open {WORST}"));
    for command in Cli::command().get_subcommands() {
        outputs(&machine, command);
        arguments(&machine, command);
    }
    both_are_safe("impctl", &impctl(&machine, &[WORST]));
    both_are_safe("impctl", &impctl(&machine, &[OsStr::from_bytes(BROKEN)]));
    // Files for later commands.
    let written = "status --manifest /run/machine/manifest --metrics -o /tmp/metrics";
    both_are_safe("metrics", &impctl(&machine, &written.split(' ').collect::<Vec<_>>()));
    is_safe("metrics", &fs::read_to_string(machine.at("/tmp/metrics")).unwrap());
    left_behind();
    open.kill().unwrap();
    open.wait().unwrap();
}

/// A command by its name, with its arguments.
fn asked(command: &Command) -> Vec<OsString> {
    let name = command.get_name();
    [name.into()].into_iter().chain(case(name).into_iter().map(Into::into)).collect()
}

/// Runs impctl, whose output must be safe.
#[track_caller]
fn ask(machine: &Machine, words: &[OsString]) -> Output {
    let shown: Vec<_> = words.iter().map(|word| escape::path(word)).collect();
    let output = impctl(machine, words);
    both_are_safe(&format!("impctl {}", shown.join(" ")), &output);
    output
}

/// All outputs of a command: by itself, and with each of its options without value.
fn outputs(machine: &Machine, command: &Command) {
    let name = command.get_name();
    let flags = command.get_arguments().filter(|option| matches!(option.get_action(), ArgAction::SetTrue));
    let mut flags: BTreeSet<String> =
        flags.filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect();
    flags.insert(String::new());
    let mut printed = BTreeSet::new();
    for flag in &flags {
        let flag_given = Some(flag).filter(|flag| !flag.is_empty()).map(Into::into);
        let output = ask(machine, &asked(command).into_iter().chain(flag_given).collect::<Vec<_>>());
        if output.stdout.contains("FORGED") || output.stderr.contains("FORGED") {
            printed.insert(flag.clone());
        }
        let read: Option<Value> = match (name, flag.as_str()) {
            (_, "--json") | ("show", _) => Some(serde_json::from_str(&output.stdout).unwrap()),
            (_, "--nix") => Some(configuration(&output.stdout)),
            ("adopt" | "recover", _) => {
                let (_, lines) = output.stdout.split_once("configuration of NixOS\n").expect("lines");
                // Each is one to choose.
                let lines = lines.lines().take_while(|line| line.starts_with("  "));
                Some(lines.map(configuration).collect())
            }
            _ => None,
        };
        assert!(read.is_none_or(|read| holds(&read, WORST)), "{name} {flag}: not the same name: {output:?}");
        if flag == "--metrics" {
            metrics::parse(&output.stdout);
        }
    }
    if name == "review" {
        // The names are in its file.
        let written = fs::read_to_string(machine.at("/tmp/persist.nix")).unwrap();
        is_safe("review", &written);
        assert!(written.contains("FORGED"), "{written}");
    }
    if ["completions", "man", "review"].contains(&name) {
        assert_eq!(printed, BTreeSet::new(), "{name}: it prints names by now");
    } else {
        assert_eq!(printed, flags, "{name}: the names are not seen");
    }
}

/// The names as values of each option and argument, and as unknown options.
fn arguments(machine: &Machine, command: &Command) {
    let name = || OsString::from(command.get_name());
    let values = [
        WORST.into(),
        format!("/tmp/{WORST}/x").into_bytes(),
        format!("{WORST}=/{WORST}").into_bytes(),
        BROKEN.into(),
    ];
    let options = command.get_arguments().filter(|option| !matches!(option.get_action(), ArgAction::SetTrue));
    for option in options {
        for value in &values {
            let value = OsStr::from_bytes(value);
            let mut given =
                option.get_long().map_or_else(|| OsString::from("--"), |long| format!("--{long}=").into());
            if option.get_long().is_some() {
                given.push(value);
                ask(machine, &[name(), given.clone()]);
                ask(machine, &[asked(command), vec![given]].concat());
            } else {
                ask(machine, &[name(), given.clone(), value.to_owned()]);
                ask(machine, &[asked(command), vec![given, value.to_owned()]].concat());
            }
        }
    }
    for wrong in [format!("--{WORST}"), format!("-{WORST}"), format!("--json={WORST}"), WORST.to_owned()] {
        ask(machine, &[name(), wrong.clone().into()]);
        ask(machine, &[asked(command), vec![wrong.into()]].concat());
    }
}

/// Every document in /run/imp-mount.
fn left_behind() {
    for file in fs::read_dir("/run/imp-mount").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            is_safe(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
        }
    }
}

/// Options of imp-mount by its own help: with and without a value.
fn options() -> (Vec<String>, Vec<String>) {
    let lines = args::HELP.lines().map(str::trim_start);
    let words = lines.filter_map(|line| line.strip_prefix("imp-mount ").unwrap_or(line).split_once("  "));
    let of_options = words.map(|(words, _)| words.trim()).filter(|words| words.starts_with('-'));
    let (values, flags): (Vec<_>, Vec<_>) = of_options
        .map(|words| words.split(", ").last().unwrap().trim_end_matches(" [OPTION]...").to_owned())
        .partition(|option| option.contains(' '));
    (flags, values.iter().map(|option| option.split(' ').next().unwrap().to_owned()).collect())
}

pub fn every_verb_of_imp_mount() {
    let machine = hostile();
    let mut busy = works_in(&machine, &format!("/opt/busy {WORST}"));
    let (flags, values) = options();
    assert!(
        flags.contains(&"--adopt".to_owned()) && values.contains(&"--sysroot".to_owned()),
        "{flags:?} {values:?}"
    );
    let mut printed = BTreeSet::new();
    for verb in flags.iter().map(String::as_str).chain([""]) {
        for flag in ["", "--json", "--verbose", "--quiet"] {
            let words: Vec<&str> = [verb, flag].into_iter().filter(|word| !word.is_empty()).collect();
            let what = format!("imp-mount {}", words.join(" "));
            let output = machine.run_live(&words);
            both_are_safe(&what, &output);
            if output.stdout.contains("FORGED") || output.stderr.contains("FORGED") {
                printed.insert(verb.to_owned());
            }
            if flag == "--json" && !output.stdout.is_empty() && output.code != Some(2) {
                assert!(holds(&serde_json::from_str(&output.stdout).unwrap(), WORST), "{what}: {output:?}");
            }
        }
    }
    let silent = ["--json", "--verbose", "--quiet", "--help", "--version"];
    for verb in flags.iter().map(String::as_str).chain([""]) {
        assert!(
            printed.contains(verb) || silent.contains(&verb),
            "imp-mount {verb}: the names are not seen in {printed:?}"
        );
    }
    for verb in ["", "--check", "--plan", "--settle", "--adopt"] {
        for option in &values {
            for value in [WORST.as_bytes(), format!("/tmp/{WORST}").as_bytes(), BROKEN] {
                let program = OsStr::new(imp_mount());
                let given = [option.as_bytes(), b"=", value].concat();
                let verb = [OsStr::new(verb)].into_iter().filter(|verb| !verb.is_empty());
                let line: Vec<&OsStr> =
                    [program].into_iter().chain(verb).chain([OsStr::from_bytes(&given)]).collect();
                let output = run(&line);
                both_are_safe(option, &output);
                assert_eq!(output.code, Some(2), "{output:?}");
            }
        }
    }
    for wrong in [WORST.to_owned(), format!("--{WORST}"), format!("--check={WORST}")] {
        both_are_safe("imp-mount", &machine.run_live(&[&wrong]).expect(2));
    }
    // One of them leaves the manifest while in use.
    let entries = entries();
    let rest: Vec<_> = entries.as_array().unwrap().iter().filter(|one| !holds(one, "busy")).collect();
    machine.manifest(&manifest(json!(rest)));
    let output = machine.run_live(&[]);
    both_are_safe("a removed entry", &output);
    output.says(&["lsof +D $'/opt/busy "]);
    both_are_safe("a removed entry", &machine.impctl("status", &[]));
    left_behind();
    // A report with raw names, which this version never writes.
    let mut report = machine.report();
    for run in report["runs"].as_array_mut().unwrap() {
        run["outcome"] = json!("failed");
        (run["failures"], run["warnings"], run["sysroot"]) = (json!([WORST]), json!([WORST]), json!("/"));
    }
    for entry in report["entries"].as_array_mut().unwrap() {
        entry["why"] = json!(WORST);
    }
    for store in report["stores"].as_array_mut().unwrap() {
        (store["failure"], store["device"], store["fstype"]) = (json!(WORST), json!(WORST), json!(WORST));
    }
    fs::write("/run/imp-mount/report.json", report.to_string()).unwrap();
    for form in ["--root=/", "--json", "--metrics"] {
        both_are_safe(form, &machine.impctl("status", &[form]));
    }
    for words in [&["--check"][..], &["--check", "--json"]] {
        both_are_safe("--check", &machine.run_live(words));
    }
    busy.kill().unwrap();
    busy.wait().unwrap();
}
