//! Owners, places and names: destinations, their owners, and messages.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::{Value, json};

use super::{are_same, end, make, old, read, recover, slot, started, started_on, write};
use crate::support::command::sh_on;
use crate::support::look::stat;
use crate::support::namespace::tmpfs;
use crate::support::trees::{self, Look};
use crate::support::{Fs, json_of, run};

pub fn owners_by_name() {
    let machine = started();
    let root = old(&machine, 1);
    let passwd = |names: &[(&str, u32)]| {
        let line = |(name, id): &(&str, u32)| format!("{name}:x:{id}:{id}::/:/bin/sh\n");
        names.iter().map(line).collect::<String>()
    };
    write(machine.at("/etc/passwd"), &passwd(&[("root", 0), ("plex", 200), ("ada", 1000), ("new", 195)]));
    write(machine.at("/etc/group"), &passwd(&[("root", 0), ("plex", 201)]));
    // The file in the tree, and the copy beside it; the copy counts.
    write(root.join("etc/passwd"), &passwd(&[("plex", 1000)]));
    write(
        slot(&machine.at("/persist"), 1).join("passwd"),
        &passwd(&[("root", 0), ("plex", 193), ("ada", 1000), ("gone", 195)]),
    );
    write(root.join("etc/group"), &passwd(&[("root", 0), ("plex", 193)]));
    let make = |path: &str, uid: u32, gid: u32, mode: u32| {
        write(root.join("srv").join(path), path);
        chown(root.join("srv").join(path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(root.join("srv").join(path), Permissions::from_mode(mode)).unwrap();
    };
    make("d/plex", 193, 193, 0o4750);
    make("d/ada", 1000, 77, 0o640);
    make("d/root", 0, 0, 0o600);
    make("d/gone", 195, 0, 0o4755);
    make("d/nameless", 4242, 0, 0o600);
    make("d/taken", 0, 201, 0o640);
    make("d/acl", 0, 0, 0o600);
    chown(root.join("srv/d"), Some(193), Some(193)).unwrap();
    sh_on("setfacl -m u:193:rw,g:193:r,u:1000:r", &[&root.join("srv/d/acl")]);
    sh_on("setfacl -d -m u:193:rwx", &[&root.join("srv/d")]);
    let output = recover(&machine, &["/srv/d"]).expect(1);
    output.clone().says_in_one_line(&["error: /srv/d/gone: its owner in root 1 does not exist any more"]);
    // The id had no name in that boot, and belongs to another user now.
    let place = "or copy /persist/.imp-mount/roots/1/root/srv/d/taken";
    output.clone().says_in_one_line(&["error: /srv/d/taken: its owner in root 1 ", "had no name", place]);
    for (path, owner) in [
        ("", (0o040_755, 200, 201)),
        ("plex", (0o104_750, 200, 201)),
        ("ada", (0o100_640, 1000, 77)),
        ("root", (0o100_600, 0, 0)),
        ("nameless", (0o100_600, 4242, 0)),
    ] {
        assert_eq!(stat(machine.at("/srv/d").join(path)), owner, "{path}: {output:?}");
    }
    for path in ["/srv/d/gone", "/srv/d/taken"] {
        assert!(!machine.at(path).exists());
    }
    let acl = sh_on("getfacl -npc", &[&machine.at("/srv/d/acl")]);
    for entry in ["user:200:rw-", "user:1000:r--", "group:201:r--"] {
        assert!(acl.contains(entry), "{acl}");
    }
    assert!(!acl.contains("193"), "{acl}");
    assert!(sh_on("getfacl -npc", &[&machine.at("/srv/d")]).contains("default:user:200:rwx"));
    assert!(output.stdout.contains("\"group\":\"plex\",\"user\":\"plex\""), "{output:?}");
    // A directory above, which would be another's.
    make("p/file", 0, 0, 0o600);
    chown(root.join("srv/p"), Some(195), Some(0)).unwrap();
    recover(&machine, &["/srv/p/file"]).expect(1).says(&["the owner that /srv/p has in the old root"]);
    assert!(!machine.at("/srv/p").exists());
    fs::create_dir(machine.at("/srv/p")).unwrap();
    recover(&machine, &["/srv/p/file"]).ok();
    // The same again: compared by the new ids.
    let again = recover(&machine, &["--json", "/srv/d"]).expect(1);
    assert_eq!(json_of(&again, "recover")["recovered"][0]["kept"], json!([]), "{again:?}");
    // Parents, too.
    fs::remove_dir_all(machine.at("/srv/d")).unwrap();
    recover(&machine, &["/srv/d/root"]).ok();
    assert_eq!(stat(machine.at("/srv/d")), (0o040_755, 200, 201));
}

pub fn places_on_other_file_systems() {
    let machine = started_on(
        Fs::Ext4,
        64,
        json!([
            { "directory": "/var/lib/named", "mode": "0755" }, { "file": "/etc/conf", "missing": "create" }
        ]),
    );
    let root = old(&machine, 1);
    write(root.join("var/lib/named/state/file"), "old");
    write(root.join("var/lib/other/file"), "old");
    write(root.join("etc/conf"), "old");
    write(root.join("etc/beside"), "old");
    write(root.join("srv/data/file"), "old");
    // Into the mount, which persists.
    let output = recover(&machine, &["/var/lib/named"]).ok();
    assert!(output.stdout.contains("\n  it persists by the entry /var/lib/named\n"), "{output:?}");
    assert!(!output.stdout.contains("environment.persistence"), "{output:?}");
    assert_eq!(read(machine.at("/persist/var/lib/named/state/file")), "old");
    fs::remove_dir_all(machine.at("/var/lib/named/state")).unwrap();
    // From a directory above: each to its own file system.
    let output = recover(&machine, &["/var/lib", "/etc"]).expect(1);
    output.clone().says_in_one_line(&["error: /etc/conf: it is there already, differs in "]);
    assert_eq!(read(machine.at("/persist/var/lib/named/state/file")), "old");
    assert_eq!(read(machine.at("/var/lib/other/file")), "old");
    assert_eq!(read(machine.at("/etc/beside")), "old");
    assert_eq!(read(machine.at("/etc/conf")), "");
    assert!(!machine.at("/persist/var/lib/other").exists());
    for top in ["/", "/var/lib/named"] {
        assert!(!machine.at(top).join(".imp-mount").exists());
    }
    // Two steps down, in a file system of another kind.
    fs::create_dir_all(machine.at("/srv/data")).unwrap();
    tmpfs(machine.at("/srv"), "mode=0755");
    fs::create_dir_all(machine.at("/srv/data")).unwrap();
    tmpfs(machine.at("/srv/data"), "mode=0755");
    recover(&machine, &["/srv"]).ok();
    assert_eq!(read(machine.at("/srv/data/file")), "old");
}

pub fn elsewhere() {
    let machine = started();
    let root = old(&machine, 1);
    trees::make(&root.join("srv/app"));
    write(root.join("etc/one"), "one");
    chown(root.join("srv"), Some(7), Some(8)).unwrap();
    fs::create_dir_all(machine.at("/root/old")).unwrap();
    write(machine.at("/srv/app/plain"), "now");
    let before = Look::of(&machine.at("/srv"));
    let output = recover(&machine, &["--to", "/root/old", "/srv/app", "/etc/one"]).ok();
    are_same(root.join("srv/app"), machine.at("/root/old/srv/app"), &output);
    assert_eq!(stat(machine.at("/root/old/srv")), (0o040_755, 7, 8));
    assert_eq!(Look::of(&machine.at("/srv")), before);
    assert!(
        output.stdout.starts_with("/srv/app: brought from root 1 on /persist to /root/old/srv/app ("),
        "{output:?}"
    );
    assert!(!output.stdout.contains("environment.persistence"), "{output:?}");
    // The whole root, in a second step.
    let output = recover(&machine, &["--to", "/root/old", "/"]).ok();
    are_same(root.join("etc"), machine.at("/root/old/etc"), &output);
    assert!(!machine.at("/root/old/.imp-mount").exists());
    recover(&machine, &["--to", "/root/none", "/etc/one"]).expect(2).says(&["/root/none: cannot open it"]);
    for place in ["/persist/.imp-mount/roots", "/persist/.imp-mount/roots/1/root/srv"] {
        recover(&machine, &["--to", place, "/etc/one"]).expect(2).says(&["it is in an old root"]);
    }
}

pub fn odd_names() {
    let machine = started();
    let root = old(&machine, 1);
    let long = "n".repeat(255);
    let names = ["a b", "new\nline", "-rf", "'\"$(x)", "\u{1b}[31m", "*", "\u{202e}txt", &long];
    for name in names {
        write(root.join("srv").join(name).join("file"), name);
    }
    let paths: Vec<_> = names.iter().map(|name| format!("/srv/{name}")).collect();
    let words: Vec<_> = paths.iter().map(String::as_str).collect();
    let output = recover(&machine, &words).ok();
    for name in names {
        are_same(root.join("srv").join(name), machine.at("/srv").join(name), &output);
    }
    assert!(!output.stdout.contains('\u{1b}') && !output.stdout.contains('\u{202e}'), "{output:?}");
    let name = std::ffi::OsStr::from_bytes(b"/srv/\xff");
    let line =
        ["chroot".as_ref(), machine.at("").into_os_string().as_os_str(), "/run/machine/impctl".as_ref()]
            .map(std::ffi::OsStr::to_owned);
    let words = ["recover", "--manifest", "/run/machine/manifest"].map(Into::into);
    let output = run(&line.into_iter().chain(words).chain([name.to_owned()]).collect::<Vec<_>>());
    output.expect(2).says(&["no UTF-8 text", "name the directory that holds it"]);
    for words in [&["srv/a"][..], &["/srv/a", "./b"]] {
        recover(&machine, words).expect(2).says(&["the path is relative; name it from / on"]);
    }
    trees::make_deep(&root.join("srv/deep"));
    recover(&machine, &["/srv/deep"]).ok();
    assert_eq!(trees::bottom(&machine.at("/srv/deep")), "deep");
}

pub fn paths_of_the_last_root_are_named() {
    let machine = started_on(
        Fs::Ext4,
        64,
        json!([{ "directory": "/var/lib/named" }, { "directory": "/var/lib/late" }]),
    );
    let store = machine.at("/persist");
    let rows = |number: u32, complete: bool, paths: &[&str]| {
        end(&store, number);
        let file = slot(&store, number).join("end.json");
        let mut record: Value = serde_json::from_str(&read(&file)).unwrap();
        let row = |path: &&str| json!({ "path": path, "kind": "directory", "files": 2, "bytes": 4096 });
        record["rows"] = paths.iter().map(row).collect();
        record["complete"] = json!(complete);
        fs::write(file, record.to_string()).unwrap();
    };
    let asked = |command: &str| {
        let output = machine.impctl(command, &["--json"]);
        json_of(&output, command)["gone"].clone()
    };
    assert_eq!((asked("lost"), asked("status")), (Value::Null, Value::Null));
    old(&machine, 1);
    rows(1, true, &["/srv/older"]);
    old(&machine, 2);
    // There, empty, mounted and empty, throw-away, and missing.
    rows(2, true, &["/srv/there", "/srv/empty", "/var/lib/late", "/var/cache/x", "/srv/a b", "/srv/none"]);
    make(&store, 3, "saved", "an earlier one");
    rows(3, false, &["/srv/cut-off"]);
    make(&store, 4, "saved", read("/proc/sys/kernel/random/boot_id").trim());
    rows(4, true, &["/srv/of-this-boot"]);
    write(machine.at("/srv/there/x"), "x");
    fs::create_dir(machine.at("/srv/empty")).unwrap();
    let paths = ["/srv/empty", "/var/lib/late", "/srv/a b", "/srv/none"];
    for command in ["lost", "status"] {
        let gone = asked(command);
        assert_eq!((&gone["root"], &gone["store"]), (&json!(2), &json!("/persist")), "{command}: {gone}");
        let found: Vec<_> =
            gone["paths"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
        assert_eq!(found, paths, "{command}");
    }
    let line = "impctl recover /srv/empty /var/lib/late '/srv/a b' /srv/none\n";
    let text = machine.impctl("lost", &[]).stdout;
    assert!(
        text.contains("kept as root 2, in 4 places:\n  /srv/empty (4.0K)\n") && text.contains(line),
        "{text}"
    );
    let text = machine.impctl("status", &[]).ok().stdout;
    assert!(
        text.contains("gone     root 2 had 4 places that this root does not have: ") && text.contains(line),
        "{text}"
    );
    // Of a part, or of another user, nothing is said.
    assert_eq!(json_of(&machine.impctl("lost", &["--json", "/srv"]), "lost")["gone"], Value::Null);
    // Throw-away from now on.
    write(machine.at("/etc/imp-mount/throw-away"), "/srv/none\n/srv/a*\n");
    assert_eq!(asked("status")["paths"].as_array().unwrap().len(), 2);
    // Of a root on the disk whose boot was cut off there is a record, too.
    old(&machine, 5);
    rows(5, false, &["/srv/newest"]);
    assert_eq!(asked("lost")["root"], 5);
    write(machine.at("/srv/newest/x"), "x");
    assert_eq!((asked("lost"), asked("status")), (Value::Null, Value::Null));
}
