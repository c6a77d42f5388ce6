//! `--check`: every state of the contract, before a run and after, for people and for programs; and nothing is changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::roots::manifest;
use crate::support::command::sh;
use crate::support::command::sh_on;
use crate::support::look::mounts_below;
use crate::support::namespace::tmpfs;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, json_of, mounts};

tests![
    before_a_run: Disk,
    after_a_run: Disk,
    every_wrong_state: Disk,
    pending_paths_are_no_problem: Disk,
    secrets_and_essentials: Disk,
    full_but_for_the_reserve_of_root: Disk,
    nearly_full_and_read_only: Disk,
    odd_names: Disk,
    quiet_shows_problems_only: Disk,
];

/// Runs `--check --json`, which must fit its schema and say the same as the exit code, and look without touching.
#[track_caller]
pub fn check(machine: &Machine, code: i32) -> Value {
    let look = || (mounts(), Snapshot::of(&machine.at("")), Snapshot::of(Path::new("/run")));
    let before = look();
    let json = findings(&machine.run(&["--check", "--json"]).expect(code));
    machine.run(&["--check"]).expect(code);
    assert_eq!(look(), before, "it changed something");
    json
}

/// Its output, validated against the schema.
#[track_caller]
pub fn findings(output: &Output) -> Value {
    let json = json_of(output, "check");
    assert_eq!(json["problems"] == 0, output.code == Some(0), "{json:#}");
    json
}

/// The status of a path, and its detail.
#[track_caller]
fn status(findings: &Value, target: &str) -> (String, String) {
    let entries = findings["entries"].as_array().unwrap();
    let found = entries.iter().find(|entry| entry["target"] == target);
    let found = found.unwrap_or_else(|| panic!("{target}: {findings:#}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("detail"))
}

/// A path has this status, and its detail contains these words.
#[track_caller]
pub fn is(findings: &Value, target: &str, expected: &str, words: &[&str]) {
    let (status, detail) = status(findings, target);
    assert_eq!(status, expected, "{target}: {detail}");
    for word in words {
        assert!(detail.contains(word), "{target}: no {word:?} in {detail:?}");
    }
}

/// Texts of a list, one a line.
pub fn lines(list: &Value) -> String {
    list.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

pub fn built(entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    machine.manifest(&manifest(json!({ "size": "16M" }), entries));
    machine.build().ok();
    machine
}

fn before_a_run() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/there" },
        { "directory": "/gone" },
        { "directory": "/wrong" },
        { "file": "/key", "missing": "fail" },
        { "file": "/link" },
        { "directory": "/late", "phase": "live" },
    ]);
    machine.manifest(&manifest(json!({}), entries));
    fs::create_dir(machine.at("/persist/there")).unwrap();
    fs::write(machine.at("/persist/wrong"), "").unwrap();
    let found = check(&machine, 1);
    is(&found, "/there", "not-mounted", &["nothing is there"]);
    is(&found, "/gone", "missing", &["next run creates it"]);
    is(&found, "/wrong", "wrong-source", &["/persist/wrong is a regular file, not a directory"]);
    is(&found, "/key", "missing", &["`fail`", "bring it there"]);
    is(&found, "/link", "missing", &["places a link"]);
    is(&found, "/late", "later", &["phase live"]);
    assert!(found["root"]["problem"].as_str().unwrap().contains("not built yet"), "{found:#}");
    assert!(lines(&found["next"]).contains("run imp-mount"), "{found:#}");
    assert_eq!((&found["problems"], &found["last_run"]), (&json!(6), &Value::Null));
}

fn after_a_run() {
    let machine = built(json!([
        { "directory": "/srv", "mode": "0750" },
        { "file": "/key", "missing": "create" },
        { "file": "/link" },
        { "file": "/copy", "method": "copy", "missing": "create" },
        { "directory": "/symlink", "method": "symlink" },
        { "file": "/skip", "missing": "skip" },
        { "file": "/many-*" },
    ]));
    let found = check(&machine, 0);
    for target in ["/srv", "/key", "/copy", "/symlink"] {
        is(&found, target, "ok", &[]);
    }
    is(&found, "/link", "ok", &["link", "not hold it yet"]);
    is(&found, "/skip", "ok", &["left out"]);
    is(&found, "/many-*", "ok", &["nothing in the store matches"]);
    assert_eq!((&found["root"]["fstype"], &found["root"]["size"]), (&json!("tmpfs"), &json!(16 << 20)));
    assert!(found["root"]["used"].as_u64().unwrap() < 1 << 20);
    assert_eq!((&found["stores"][0]["fstype"], &found["disks"]), (&json!("ext4"), &json!([])));
    assert_eq!((&found["last_run"]["outcome"], &found["next"]), (&json!("done"), &json!([])));
    let text = machine.run(&["--check"]).stdout;
    assert!(text.contains("ok                  /srv\n"), "{text}");
    assert!(
        text.contains("root                /: tmpfs on imp-mount, ") && text.contains(" of 16M used"),
        "{text}"
    );
    assert!(text.ends_with("\n7 paths, 7 ok, no problem found\n"), "{text}");
    for name in ["many-1", "many-2"] {
        fs::write(machine.at("/persist").join(name), "").unwrap();
    }
    let found = check(&machine, 1);
    is(&found, "/many-2", "not-mounted", &["nothing is there"]);
}

fn every_wrong_state() {
    let machine = built(json!([
        { "directory": "/ok" },
        { "directory": "/unmounted" },
        { "directory": "/over" },
        { "directory": "/above/inner" },
        { "directory": "/owner", "user": 7, "group": 8 },
        { "directory": "/mode", "mode": "0700" },
        { "directory": "/options", "options": ["noexec"] },
        { "directory": "/other" },
        { "file": "/replaced" },
        { "file": "/copied", "method": "copy", "missing": "create" },
        { "directory": "/symlink", "method": "symlink" },
        { "directory": "/gone" },
    ]));
    for path in ["/unmounted", "/other"] {
        sh_on("umount", &[&machine.at(path)]);
    }
    tmpfs(machine.at("/over"), "size=1M");
    tmpfs(machine.at("/above"), "size=1M");
    sh_on("mount --bind", &[&machine.at("/ok"), &machine.at("/other")]);
    sh_on("chown 9:8", &[&machine.at("/owner")]);
    sh_on("chmod 0755", &[&machine.at("/mode")]);
    sh_on("mount -o remount,bind,exec,ro,nosuid,nodev", &[&machine.at("/options")]);
    for path in ["/replaced", "/symlink"] {
        fs::remove_file(machine.at(path)).unwrap();
        fs::write(machine.at(path), "a program's own").unwrap();
    }
    fs::write(machine.at("/copied"), "changed").unwrap();
    fs::remove_dir(machine.at("/persist/gone")).unwrap();

    let found = check(&machine, 1);
    is(&found, "/ok", "ok", &[]);
    is(&found, "/unmounted", "not-mounted", &["nothing is mounted there"]);
    is(&found, "/over", "covered", &["tmpfs", "unmount that"]);
    is(&found, "/above/inner", "covered", &["tmpfs", "mounted at", "sysroot/above"]);
    is(
        &found,
        "/owner",
        "wrong-owner",
        &["9:8, but", "7:8", "`chown 7:8 /tmp/machine/sysroot/persist/owner`", "`enforce`"],
    );
    is(
        &found,
        "/mode",
        "wrong-mode",
        &["0755, but", "0700", "`chmod 0700 /tmp/machine/sysroot/persist/mode`"],
    );
    is(&found, "/options", "wrong-options", &["it lacks noexec", "it should not have ro"]);
    is(&found, "/other", "wrong-source", &["(ext4), /ok is mounted there, not /persist/other", "unmount it"]);
    is(&found, "/replaced", "replaced", &["--adopt"]);
    is(&found, "/symlink", "replaced", &["--adopt"]);
    is(&found, "/copied", "ok", &["changed since it was copied", "--adopt"]);
    is(&found, "/gone", "missing", &["next run creates it"]);
    assert_eq!(found["problems"], 10);
    let next = lines(&found["next"]);
    for words in [
        "correct each wrong source, as its line says",
        "unmount what covers a path",
        "run imp-mount to",
        "give each path",
        "--adopt",
        "imp-mount.skip=",
    ] {
        assert!(next.contains(words), "{words}: {next}");
    }
    // The shell runs in an initrd.
    assert!(!next.contains("systemctl default"), "{next}");
    sh("mkdir /tmp/etc");
    fs::write("/tmp/etc/initrd-release", "").unwrap();
    sh("mount --bind /tmp/etc /etc");
    assert!(lines(&check(&machine, 1)["next"]).contains("systemctl default"));
    sh("umount /etc");
    let text = machine.run(&["--check"]).stdout;
    for status in [
        "not mounted ",
        "covered ",
        "wrong owner ",
        "wrong mode ",
        "wrong options ",
        "wrong source ",
        "replaced by a file ",
        "missing ",
    ] {
        assert!(text.contains(&format!("\n{status}")), "{status}: {text}");
    }
    assert!(text.contains("12 paths, 2 ok, 10 problems"), "{text}");
    assert!(text.find("ok                  /ok") < text.find("covered "), "what is wrong comes last: {text}");
}

fn pending_paths_are_no_problem() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 8));
    let entries = json!([
        { "directory": "/waits", "user": "nobody-yet" },
        { "directory": "/skipped" },
        { "directory": "/late", "phase": "live" },
    ]);
    machine.manifest(&manifest(json!({}), entries));
    machine.cmdline("imp-mount.skip=/skipped,/nowhere");
    machine.build().ok();
    let found = check(&machine, 0);
    is(&found, "/waits", "pending", &["root's alone", "--settle"]);
    is(&found, "/skipped", "skipped", &["imp-mount.skip="]);
    is(&found, "/late", "later", &["phase live"]);
    assert!(lines(&found["next"]).contains("--settle"), "{found:#}");
    assert!(lines(&found["notes"]).contains("imp-mount.skip=/nowhere: no entry"), "{found:#}");
    machine.cmdline("imp-mount=off");
    is(&check(&machine, 0), "/waits", "skipped", &["imp-mount=off"]);
}

fn secrets_and_essentials() {
    let machine = built(json!([
        { "directory": "/home/me/.ssh" },
        { "file": "/etc/ssh/ssh_host_ed25519_key", "missing": "create" },
        { "directory": "/home/you/.gnupg", "mode": "0700" },
    ]));
    assert!(!lines(&check(&machine, 0)["notes"]).contains("nixos"), "this is no NixOS");
    fs::create_dir_all(machine.at("/nix/var/nix/profiles")).unwrap();
    symlink("system-1-link", machine.at("/nix/var/nix/profiles/system")).unwrap();
    let notes = lines(&check(&machine, 0)["notes"]);
    for words in [
        "/persist/home/me/.ssh",
        "0755",
        "ssh_host_ed25519_key holds secrets",
        "/var/lib/nixos is not",
        "/etc/machine-id is not",
    ] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
    assert!(!notes.contains(".gnupg") && !notes.contains("ssh_host_ed25519_key is not"), "{notes}");

    machine.power_off();
    machine.power_on();
    machine.manifest(&manifest(
        json!({}),
        json!([
            { "directory": "/var/lib" },
            { "file": "/etc/machine-id", "missing": "machine-id" },
            { "file": "/etc/ssh/ssh_host_*" },
        ]),
    ));
    machine.build().ok();
    assert_eq!(
        lines(&check(&machine, 0)["notes"]),
        "/persist/etc/ssh/ssh_host_ed25519_key holds secrets, but its mode 0644 lets everybody in; \
         `chmod o= /tmp/machine/sysroot/persist/etc/ssh/ssh_host_ed25519_key`"
    );
}

fn full_but_for_the_reserve_of_root() {
    let machine = Machine::new(Root::Nothing, Disk::formatted(Fs::Ext4, 16, "-m 40"));
    machine.manifest(&manifest(json!({}), json!([{ "directory": "/srv" }])));
    machine.build().ok();
    check(&machine, 0);
    fs::write(machine.at("/srv/x"), vec![b'x'; 10_000_000]).unwrap();
    let found = check(&machine, 1);
    assert_eq!(found["stores"][0]["problem"], "100 % of its space are used: free some", "{found:#}");
}

fn nearly_full_and_read_only() {
    let machine = built(json!([{ "directory": "/srv" }]));
    machine.disk().fill();
    let found = check(&machine, 1);
    assert!(found["stores"][0]["problem"].as_str().unwrap().contains("% of its space are used"), "{found:#}");
    assert!(lines(&found["next"]).contains("mend the store /persist"), "{found:#}");
    is(&found, "/srv", "ok", &[]);
    machine.disk().unfill();
    check(&machine, 0);
    machine.power_off();

    machine.power_on();
    machine.disk().turn_read_only();
    machine.build().ok();
    let found = check(&machine, 1);
    let problem = found["stores"][0]["problem"].as_str().unwrap();
    assert!(
        problem.contains("read-only") && problem.contains("dmesg") && problem.contains("fsck"),
        "{problem}"
    );
}

fn odd_names() {
    let names = ["/a\nwrong owner         /etc", "/b\u{1b}[2J", "/c \u{e4}\u{1f600}", "/d\\n", "/-x"];
    let entries: Vec<_> = names.iter().map(|name| json!({ "directory": name })).collect();
    let machine = built(entries.clone().into());
    let found = check(&machine, 0);
    for name in names {
        is(&found, name, "ok", &[]);
    }
    let text = machine.run(&["--check"]).ok().stdout;
    assert!(!text.contains('\u{1b}') && !text.contains("\nwrong owner"), "{text:?}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok  ")).count(), names.len());
    for name in names {
        sh_on("umount", &[&machine.at(name)]);
        fs::remove_dir(machine.at("/persist").join(&name[1..])).unwrap();
        symlink("/x\ny", machine.at("/persist").join(&name[1..])).unwrap();
    }
    let text = machine.run(&["--check"]).expect(1).stdout;
    assert_eq!(text.lines().filter(|line| line.starts_with("wrong source  ")).count(), names.len(), "{text}");
    // A link on the store is no source, and its target has no mount.
    assert!(text.contains("as its line says") && !text.contains("unmount"), "{text}");
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| !line.starts_with('y')), "{text:?}");
}

fn quiet_shows_problems_only() {
    let machine = built(json!([{ "directory": "/a" }, { "directory": "/b" }]));
    assert_eq!(machine.run(&["--check", "--quiet"]).ok().stdout, "");
    sh_on("umount", &[&machine.at("/b")]);
    let text = machine.run(&["--check", "--quiet"]).expect(1).stdout;
    assert!(text.starts_with("not mounted         /b: nothing is mounted there\n"), "{text}");
    assert!(!text.contains("/a") && text.contains("1 problem"), "{text}");
    assert_eq!(mounts_below(&machine.at("/b")), []);
}
