//! Paths missing in an old root, wholly or in part, and the remedies.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{end, make, old, read, recover, slot, started, started_on, write};
use crate::support::command::sh_on;
use crate::support::namespace::tmpfs;
use crate::support::{Fs, Machine, json_of};

/// Records paths omitted from a saved root.
fn leaves_out(store: &Path, number: u32, all: &[(&str, u64, &str)]) {
    end(store, number);
    let file = slot(store, number).join("end.json");
    let mut record: Value = serde_json::from_str(&read(&file)).unwrap();
    record["left_out"] =
        all.iter().map(|(path, bytes, why)| json!({ "path": path, "bytes": bytes, "why": why })).collect();
    record["left_out_count"] = json!(all.len());
    record["left_out_bytes"] = json!(all.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
    fs::write(file, record.to_string()).unwrap();
}

fn saved(machine: &Machine, number: u32) -> std::path::PathBuf {
    make(&machine.at("/persist"), number, "saved", "an earlier one")
}

pub fn files_that_saving_left_out() {
    let machine = started();
    let store = machine.at("/persist");
    write(saved(&machine, 1).join("srv/large"), "an older version");
    end(&store, 1);
    write(saved(&machine, 2).join("srv/small"), "small");
    fs::create_dir(saved(&machine, 2).join("srv/dir")).unwrap();
    leaves_out(
        &store,
        2,
        &[
            ("/srv/large", 3 << 20, "save_size"),
            ("/srv/dir/x", 1 << 20, "save_seconds"),
            ("/var/x", 1, "size"),
        ],
    );
    let output = recover(&machine, &["/srv"]).expect(1);
    output.clone().says_in_one_line(&[
        "error: /srv: saving root 2 left out 2 files of it, 4.0M: the largest is /srv/large (3.0M): save_size",
        "root 1 has /srv/large: impctl recover /srv/large",
    ]);
    assert!(
        output.stdout.starts_with("/srv: brought in part from root 2 on /persist (3 files, 5B)\n"),
        "{output:?}"
    );
    assert_eq!(read(machine.at("/srv/small")), "small");
    let said = json_of(&recover(&machine, &["--json", "/srv/large"]).ok(), "recover");
    assert_eq!(said["recovered"][0]["root"], 1);
    assert_eq!(said["recovered"][0]["passed"], json!([{ "root": 2, "why": "save_size" }]));
    assert_eq!(said["recovered"][0]["left_out"], json!([]));
    fs::remove_file(machine.at("/srv/large")).unwrap();
    let output = recover(&machine, &["/srv/large"]).ok();
    assert!(
        output.stdout.contains("\n  root 2 had it later: saving that root left it out: save_size\n"),
        "{output:?}"
    );
    // A path missing in all roots.
    recover(&machine, &["/srv/dir/x"]).expect(1).says_in_one_line(&[
        "error: /srv/dir/x: none of the old roots has it: 2, 1; saving root 2 left it out: save_seconds",
    ]);
    recover(&machine, &["/srv/dir"]).expect(1).says_in_one_line(&[
        "error: /srv/dir: saving root 2 left out 1 file of it, 1.0M: the largest is /srv/dir/x (1.0M): save_seconds",
        "no other old root has any of it",
    ]);
}

/// The largest file is in no root, and a smaller one in an earlier saving.
pub fn files_that_only_an_earlier_root_has() {
    let machine = started();
    let store = machine.at("/persist");
    write(saved(&machine, 1).join("srv/d/key"), "key");
    end(&store, 1);
    write(saved(&machine, 2).join("srv/d/small"), "small");
    leaves_out(&store, 2, &[("/srv/d/big", 3 << 20, "save_size"), ("/srv/d/key", 3, "save_size")]);
    recover(&machine, &["/srv"]).expect(1).says_in_one_line(&[
        "the largest is /srv/d/big (3.0M): save_size",
        "root 1 has /srv/d/key: impctl recover /srv/d/key",
    ]);
}

pub fn paths_in_no_old_root_have_no_command() {
    let machine = started();
    let store = machine.at("/persist");
    write(saved(&machine, 1).join("srv/older/x"), "x");
    end(&store, 1);
    write(saved(&machine, 2).join("srv/part/x"), "x");
    fs::create_dir(saved(&machine, 2).join("srv/none")).unwrap();
    let all = [
        ("/srv/none/x", 9, "save_size"),
        ("/srv/older", 9, "save_size"),
        ("/srv/part/y", 9, "save_size"),
        ("/data", 0, "save_seconds"),
    ];
    leaves_out(&store, 2, &all);
    let file = slot(&store, 2).join("end.json");
    let rows = |paths: &[(&str, u64)]| {
        let mut record: Value = serde_json::from_str(&read(&file)).unwrap();
        let row = |(path, files): &(&str, u64)| json!({ "path": path, "kind": "directory", "files": files, "bytes": 4096 });
        record["rows"] = paths.iter().map(row).collect();
        fs::write(&file, record.to_string()).unwrap();
    };
    rows(&[("/srv/none", 1), ("/srv/older", 1), ("/srv/part", 2)]);
    for command in ["lost", "status"] {
        let gone = json_of(&machine.impctl(command, &["--json"]), command)["gone"].clone();
        let left_out: Vec<_> =
            gone["paths"].as_array().unwrap().iter().map(|one| one["left_out"].clone()).collect();
        assert_eq!(left_out, [json!("save_size"), Value::Null, Value::Null], "{command}: {gone}");
        let text = machine.impctl(command, &[]).stdout;
        assert!(text.contains("impctl recover /srv/older /srv/part\n"), "{text}");
    }
    let text = machine.impctl("lost", &[]).stdout;
    assert!(text.contains("\n  /srv/none (4.0K): saving left it out: save_size\n"), "{text}");
    // Covered by an omitted parent directory; and with more files than recorded.
    rows(&[("/data/app", 40), ("/srv/none", 40)]);
    let gone = json_of(&machine.impctl("lost", &["--json"]), "lost")["gone"].clone();
    let left_out: Vec<_> = gone["paths"].as_array().unwrap().iter().map(|one| &one["left_out"]).collect();
    assert_eq!(left_out, ["save_seconds", "save_size"], "{gone}");
    rows(&[("/srv/none", 1)]);
    for (command, words) in [("lost", "saving left it out"), ("status", "saving it left all of that out")] {
        let text = machine.impctl(command, &[]).stdout;
        assert!(!text.contains("impctl recover") && text.contains(words), "{text}");
    }
}

/// Not everything fits: nothing is said to be brought.
pub fn files_left_out_do_not_count_as_brought() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("data/a"), "a");
    fs::write(root.join("data/large"), vec![1; 4 << 20]).unwrap();
    write(root.join("srv/x"), "x");
    fs::create_dir(machine.at("/data")).unwrap();
    tmpfs(machine.at("/data"), "mode=0755,size=1M");
    let before = "nothing of root 1 on /persist is brought\n";
    for words in [&["/data", "/srv/x"][..], &["--dry-run", "/data", "/srv/x"]] {
        let output = recover(&machine, words).expect(1);
        assert_eq!(output.stdout, format!("/data: {before}/srv/x: {before}"), "{output:?}");
        let json = json_of(&recover(&machine, &[words, &["--json"]].concat()).expect(1), "recover");
        assert_eq!(
            (&json["recovered"][0]["brought"], &json["recovered"][0]["bytes"]),
            (&json!(0), &json!(0))
        );
    }
    assert!(!machine.at("/srv").exists());
    // The same with too few inodes.
    fs::create_dir(machine.at("/srv")).unwrap();
    tmpfs(machine.at("/srv"), "mode=0755,nr_inodes=8");
    fs::remove_file(root.join("data/large")).unwrap();
    for number in 0..8 {
        write(root.join(format!("srv/{number}")), "x");
    }
    let output = recover(&machine, &["/srv", "/data"]).expect(1);
    assert_eq!(output.stdout, format!("/srv: {before}/data: {before}"), "{output:?}");
}

/// The places of mounts in an old root, which imp-mount made, are none of its content.
pub fn the_places_of_mounts_are_absent() {
    let machine = started_on(Fs::Ext4, 64, json!([{ "directory": "/var/lib/named", "mode": "0755" }]));
    let root = old(&machine, 1);
    write(root.join("var/lib/other/x"), "x");
    for place in ["var/lib/named", "var/lib/no-more"] {
        fs::create_dir(root.join(place)).unwrap();
        fs::set_permissions(root.join(place), Permissions::from_mode(0o000)).unwrap();
    }
    write(root.join("etc/place"), "");
    fs::set_permissions(root.join("etc/place"), Permissions::from_mode(0o000)).unwrap();
    write(machine.at("/var/lib/named/own"), "own");
    let output = recover(&machine, &["/var/lib"]).ok();
    assert_eq!(
        (read(machine.at("/var/lib/other/x")), read(machine.at("/var/lib/named/own"))),
        ("x".into(), "own".into())
    );
    assert!(!machine.at("/var/lib/no-more").exists(), "{output:?}");
    for path in ["/var/lib/named", "/var/lib/no-more", "/etc/place"] {
        recover(&machine, &[path]).expect(1).says(&["root 1 does not have it"]);
    }
}

pub fn a_mount_in_an_old_root() {
    let machine = started();
    let root = old(&machine, 1);
    write(root.join("srv/app/x"), "x");
    tmpfs(root.join("srv/app"), "mode=0755");
    write(root.join("srv/app/y"), "y");
    for path in ["/srv/app", "/srv/app/y"] {
        let output = recover(&machine, &["--number", "1", path]).expect(1);
        output.says_in_one_line(&[
            &format!("error: {path}: another file system is mounted there in root 1"),
            "unmount that, and run again",
        ]);
    }
    recover(&machine, &["/srv"])
        .expect(1)
        .says(&["/srv/app: another file system is mounted there in root 1"]);
    assert!(!machine.at("/srv/app").exists());
}

pub fn a_saving_that_was_cut_off() {
    let machine = started();
    write(saved(&machine, 1).join("srv/x"), "half");
    let output = recover(&machine, &["--number", "1", "/srv/x"]).ok();
    let words = "\n  files of it may be incomplete, as saving it was cut off: look at them\n";
    assert!(output.stdout.contains(words), "{output:?}");
    fs::remove_file(machine.at("/srv/x")).unwrap();
    let said = json_of(&recover(&machine, &["--json", "--number", "1", "/srv/x"]).ok(), "recover");
    assert_eq!(said["recovered"][0]["doubt"], "saving it was cut off");
}

/// A system that does not run, with its stores mounted below its root.
pub fn another_system() {
    let machine = started();
    let other = machine.at("/mnt");
    write(other.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n");
    write(other.join("etc/group"), "root:x:0:\n");
    write(other.join("etc/imp-mount/manifest"), "");
    fs::copy(machine.home().join("manifest"), other.join("etc/imp-mount/manifest")).unwrap();
    fs::create_dir(other.join("persist")).unwrap();
    let words = ["--root", "/mnt", "/srv/x"];
    let run = |words: &[&str]| {
        let line = [&["/run/machine/impctl", "recover"], words].concat();
        machine.run_inside(&line)
    };
    run(&words).expect(2).says(&["there is no old root on any store of the manifest"]);
    let disk = machine.at("/mnt/persist");
    tmpfs(&disk, "mode=0755");
    write(make(&disk, 7, "disk", "an earlier one").join("srv/x"), "x");
    // Remedies are those of the system below /mnt.
    write(other.join("etc/NIXOS"), "");
    let output = run(&words).ok();
    assert!(
        output.stdout.starts_with("/srv/x: brought from root 7 on /persist to /mnt/srv/x (1 file, 1B)\n"),
        "{output:?}"
    );
    let line = "add to the configuration of NixOS\n  environment.persistence.\"/persist\".files = [ \"/srv/x\" ];\n\
                or to the entries of the manifest\n  {\"file\":\"/srv/x\"}\n";
    assert!(output.stdout.ends_with(line), "{output:?}");
    assert_eq!(read(other.join("srv/x")), "x");
    assert!(!machine.at("/srv").exists() && !other.join(".imp-mount").exists());
    run(&["--root", "/mnt", "/srv/y"]).expect(1).says(&["`ls -A /mnt/persist/.imp-mount/roots/7/root/srv`"]);
}

/// With an unmounted store, no command reports the absence of old roots.
pub fn a_store_that_is_not_mounted() {
    let machine = started();
    write(old(&machine, 1).join("srv/x"), "x");
    let mut text = crate::live::manifest(json!([]));
    text["old_roots"] = json!({});
    machine.manifest(&text);
    sh_on("umount -l", &[&machine.at("/persist")]);
    let words =
        ["/persist: nothing is mounted there, so the roots on it cannot be reached", "mount the store"];
    recover(&machine, &["/srv/x"]).expect(1).says(&words);
    for command in [&["list"][..], &["prune"], &["prune", "--dry-run"], &["save"]] {
        let output = machine.impctl("roots", command).expect(1);
        assert_eq!(output.stdout, "", "{command:?}");
        output.says(&words);
        let json = machine.impctl("roots", &[command, &["--json"]].concat()).expect(1);
        assert!(format!("{json:?}").contains(words[0]), "{json:?}");
    }
}
