//! `impctl audit`: what it says of systems that are built by hand, and never booted.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::needless_pass_by_value, reason = "a manifest is written down where it is used")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A system that is built: a root, or a toplevel in a store.
struct Tree {
    folder: TempDir,
    root: PathBuf,
    manifest: PathBuf,
}

/// What the command said.
struct Said {
    code: Option<i32>,
    text: String,
    json: Value,
}

const FSTAB: &str =
    "tmpfs / tmpfs defaults 0 0\n/dev/vda1 /persist ext4 defaults 0 0\n/dev/vda2 /nix ext4 defaults 0 0\n";

impl Tree {
    fn of(files: &[(&str, &str)]) -> Self {
        Self::at("", files)
    }

    /// What Nix built: its links begin where its store is.
    fn nixos(files: &[(&str, &str)]) -> Self {
        let tree = Self::at("nix/store/x-nixos", files);
        tree.put("etc/fstab", FSTAB);
        tree
    }

    fn at(below: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root").join(below);
        fs::create_dir_all(&root).unwrap();
        let manifest = folder.path().join("manifest.json");
        let tree = Self { folder, root, manifest };
        for (path, text) in files {
            tree.put(path, text);
        }
        tree.entries(json!([]));
        tree
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// A manifest with these entries, besides those that every system needs.
    fn entries(&self, entries: Value) {
        let mut all = json!([
            { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" },
            { "file": "/etc/machine-id" }
        ]);
        all.as_array_mut().unwrap().extend(entries.as_array().unwrap().iter().cloned());
        self.manifest(
            &json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": all }),
        );
    }

    fn manifest(&self, manifest: &Value) {
        fs::write(&self.manifest, manifest.to_string()).unwrap();
    }

    fn audit(&self, words: &[&str]) -> Said {
        let run = |more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_impctl"));
            command.args(["audit", "--root"]).arg(&self.root).arg("--manifest").arg(&self.manifest);
            command.args(words).args(more).stdin(Stdio::null()).output().unwrap()
        };
        let (json, text) = (run(&["--json"]), run(&[]));
        assert_eq!(json.status.code(), text.status.code(), "{json:?} {text:?}");
        let value = serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json:?}"));
        let schema = serde_json::from_str(include_str!("../docs/audit.schema.json")).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        jsonschema::draft202012::new(&schema).unwrap().validate(&value).unwrap();
        Said { code: text.status.code(), text: String::from_utf8(text.stdout).unwrap(), json: value }
    }

    /// What would be lost, with the line that keeps each.
    #[track_caller]
    fn lost(&self) -> BTreeMap<String, String> {
        let said = self.audit(&[]);
        assert_eq!(said.json["faults"], json!([]), "{}", said.text);
        said.lost()
    }

    /// What cannot work.
    fn faults(&self) -> Vec<String> {
        let said = self.audit(&[]);
        let faults = said.json["faults"].as_array().unwrap();
        faults.iter().map(|it| it["at"].as_str().unwrap().to_owned()).collect()
    }
}

impl Said {
    fn lost(&self) -> BTreeMap<String, String> {
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let lost = self.json["lost"].as_array().unwrap();
        lost.iter().map(|it| (text(&it["path"]), text(&it["nix"]))).collect()
    }
}

#[track_caller]
fn are(lost: &BTreeMap<String, String>, lines: &[&str]) {
    let found: Vec<_> = lost.values().map(String::as_str).collect();
    assert_eq!(found, lines);
}

#[test]
fn nothing_is_lost() {
    let tree = Tree::nixos(&[]);
    // Of the machine that builds.
    let units = tree.folder.path().join("root/usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("other.service"), "[Service]\nStateDirectory=other\n").unwrap();
    let said = tree.audit(&[]);
    assert_eq!(
        (said.code, said.text.as_str()),
        (Some(0), "As far as can be seen, a boot would lose nothing.\n")
    );
}

#[test]
fn what_units_say() {
    let tree = Tree::nixos(&[
        (
            "etc/systemd/system/own.service",
            "[Service]\nStateDirectory=own\nUser=ada\nGroup=users\nStateDirectoryMode=0700\n",
        ),
        (
            "etc/systemd/system/dynamic.service",
            "[Service]\nDynamicUser=true\nStateDirectory=dynamic\nReadWritePaths=/var/lib/dynamic/x\n",
        ),
        ("etc/systemd/system/drop.service", "[Service]\nStateDirectory=not-this\n"),
        ("etc/systemd/system/drop.service.d/a.conf", "[Service]\nStateDirectory=\nStateDirectory=dropped\n"),
        (
            "etc/systemd/system/cache.service",
            "[Service]\nCacheDirectory=cache\nReadWritePaths=/var/cache/x /run/x\n",
        ),
        (
            "etc/systemd/system/names.service",
            "[Service]\nExecStart=/bin/x --db=/srv/db/file\nEnvironment=HOME=/var/lib/named\n",
        ),
        (
            "etc/systemd/system/creds.service",
            "[Service]\nLoadCredential=a:/etc/secrets/a b:/run/b\nEnvironmentFile=-/etc/own.env\n",
        ),
        ("etc/own.env", "X=1"),
        ("etc/systemd/system/borg.service", "[Service]\nReadWritePaths=/root/.config/borg\n"),
    ]);
    are(
        &tree.lost(),
        &[
            r#"{ file = "/etc/secrets/a"; mode = "0600"; }"#,
            r#"{ directory = "/root/.config/borg"; mode = "0700"; }"#,
            r#""/srv/db""#,
            r#""/var/lib/dropped""#,
            r#""/var/lib/named""#,
            r#"{ directory = "/var/lib/own"; user = "ada"; group = "users"; mode = "0700"; }"#,
            r#""/var/lib/private/dynamic""#,
        ],
    );
    tree.entries(
        json!([{ "directory": "/var/lib/own" }, { "directory": "/var/lib/private" }, { "directory": "/srv" },
        { "directory": "/root/.config" }, { "file": "/etc/secrets/*" }, { "directory": "/var/lib/dropped" }]),
    );
    are(&tree.lost(), &[r#""/var/lib/named""#]);
}

#[test]
fn scripts_that_units_run() {
    let tree = Tree::nixos(&[(
        "etc/systemd/system/runs.service",
        "[Service]\nExecStart=/nix/store/a-script/bin/run\n",
    )]);
    let script = tree.root.parent().unwrap().join("a-script/bin/run");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    fs::write(&script, "#!/bin/sh\n# /srv/not-this\nmkdir -p /var/lib/by-script/a/b \"/srv/$NAME\"\n")
        .unwrap();
    are(&tree.lost(), &[r#""/var/lib/by-script""#]);
}

#[test]
fn quotes_siblings_and_links() {
    let tree = Tree::nixos(&[(
        "etc/tmpfiles.d/x.conf",
        "d '/var/lib/quoted' 0770 'own-er' 'own-er' - -\nd /var/lib/wiki/a 0750 ada users\nd /var/lib/wiki/b 0750 ada users\n\
         L+ /var/lib/bluetooth - - - - /persist/var/lib/bluetooth\nd /var/lib/bluetooth/x\nd /etc/generated\nD /srv/emptied\n",
    )]);
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/var/lib/quoted"; user = "own-er"; group = "own-er"; mode = "0770"; }"#,
            r#"{ directory = "/var/lib/wiki"; user = "ada"; group = "users"; mode = "0750"; }"#,
        ],
    );
}

#[test]
fn links_of_etc_into_the_store() {
    let tree = Tree::nixos(&[]);
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [
        { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" }] }));
    are(&tree.lost(), &[r#""/etc/machine-id""#]);
    tree.link("etc/machine-id", "/persist/etc/machine-id");
    are(&tree.lost(), &[]);
    let tree = Tree::nixos(&[("etc/systemd/system/NetworkManager.service", "[Service]\nExecStart=/bin/x\n")]);
    tree.link("etc/NetworkManager/system-connections", "/srv/lost");
    tree.entries(json!([{ "directory": "/var/lib/NetworkManager" }]));
    are(&tree.lost(), &[r#"{ directory = "/etc/NetworkManager/system-connections"; mode = "0700"; }"#]);
}

#[test]
fn keys_of_the_machine() {
    let tree = Tree::nixos(&[
        ("etc/systemd/system/sshd.service", "[Service]\nExecStart=/bin/sshd\n"),
        ("etc/ssh/sshd_config", "HostKey /persist/ssh/key\nHostKey /etc/ssh/ssh_host_rsa_key\n"),
        ("etc/crypttab", "data /dev/sdb /etc/data.key\nother /dev/sdc none\n"),
        // Of the logs the journal is chosen.
        ("etc/systemd/system/logs.service", "[Service]\nLogsDirectory=logs\n"),
    ]);
    // Parts of what systemd keeps are named: the key of credentials is not among them.
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": [
        { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd/timers" }, { "directory": "/var/log/journal" },
        { "file": "/var/lib/systemd/random-seed" }, { "file": "/etc/machine-id" }] }));
    are(
        &tree.lost(),
        &[
            r#"{ file = "/etc/data.key"; mode = "0600"; }"#,
            r#"{ file = "/etc/ssh/ssh_host_rsa_key"; mode = "0600"; }"#,
            r#"{ file = "/var/lib/systemd/credential.secret"; mode = "0400"; }"#,
        ],
    );
    let text = tree.audit(&[]).text;
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word}: {text}"));
    assert!(at("credential.secret") < at("ssh_host_rsa_key"), "the gravest first: {text}");
    assert!(text.ends_with("A boot would lose 3 paths. A line above keeps each.\n"), "{text}");
}

#[test]
fn another_systems_users() {
    let tree = Tree::of(&[
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\npostgres:x:5:5::/var/lib/postgresql:/bin/sh\nx:x:6:6::/:/usr/sbin/nologin\n",
        ),
        ("etc/group", "users:x:100:\npostgres:x:5:\n"),
        ("etc/fstab", "/dev/vda1 / ext4 defaults 0 0\n/dev/vda2 /persist ext4 defaults 0 0\n"),
    ]);
    tree.entries(json!([{ "directory": "/home/bob/photos" }]));
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/home/ada"; user = "ada"; group = "users"; mode = "0700"; }"#,
            r#"{ directory = "/var/lib/postgresql"; user = "postgres"; group = "postgres"; mode = "0750"; }"#,
        ],
    );
    assert!(
        tree.audit(&[])
            .text
            .contains(r#"{"directory":"/home/ada","group":"users","mode":"0700","user":"ada"},"#)
    );
}

#[test]
fn a_service_that_was_moved() {
    let files = [("etc/systemd/system/plex.service", "[Service]\nExecStart=/bin/plex --data /srv/plex\n")];
    are(&Tree::nixos(&files).lost(), &[r#""/srv/plex""#]);
    let files = [("etc/systemd/system/plex.service", "[Service]\nExecStart=/bin/plex\n")];
    are(&Tree::nixos(&files).lost(), &[r#"{ directory = "/var/lib/plex"; user = "plex"; group = "plex"; }"#]);
    // The part that holds the data is kept.
    let files = [(
        "etc/systemd/system/postgresql.service",
        "[Service]\nStateDirectory=postgresql postgresql/17\nUser=postgres\n",
    )];
    let tree = Tree::nixos(&files);
    tree.entries(json!([{ "directory": "/var/lib/postgresql/17" }]));
    are(&tree.lost(), &[]);
}

#[test]
fn containers_run_programs_with_set_user_id() {
    let tree = Tree::nixos(&[("etc/systemd/system/incus.service", "[Service]\nExecStart=/bin/incusd\n")]);
    are(
        &tree.lost(),
        &[r#"{ directory = "/var/lib/incus"; mode = "0711"; mountOptions = [ "suid" "dev" ]; }"#],
    );
}

#[test]
fn what_cannot_work() {
    let tree = Tree::nixos(&[
        ("etc/ssh/sshd_config", "Port 22\n"),
        ("etc/ssh/moduli", "\n"),
        ("etc/own/.imp-mount", ""),
    ]);
    tree.put("etc/fstab", "tmpfs / tmpfs defaults 0 0\n/dev/x /persist ext4 defaults 0 0\n/persist/srv /srv none bind 0 0\n/var/lib/swapfile none swap 0 0\n/persist/swap none swap 0 0\n/dev/vdb none swap 0 0\n");
    let store = |path: &str| json!({ "path": path });
    tree.manifest(
        &json!({ "version": 1, "root": {}, "stores": [store("/nowhere"), store("/persist")], "entries": [
        { "directory": "/var/lib/nixos", "store": "/persist" }, { "directory": "/srv", "store": "/persist" },
        { "directory": "/etc/ssh", "store": "/persist", "phase": "etc" },
        { "directory": "/etc/own", "store": "/persist", "phase": "etc" },
        { "directory": "/opt", "store": "/nowhere" }] }),
    );
    assert_eq!(tree.faults(), ["/var/lib/swapfile", "/nix", "/nowhere", "/etc/ssh", "/srv"]);
    let said = tree.audit(&[]);
    assert_eq!(said.code, Some(1));
    assert!(said.text.starts_with("Cannot work:\n"), "{}", said.text);
}

#[test]
fn what_somebody_lets_go() {
    let tree = Tree::nixos(&[("etc/systemd/system/a.service", "[Service]\nStateDirectory=a b\n")]);
    let lost = |words: &[&str]| tree.audit(words).lost().into_keys().collect::<Vec<_>>();
    assert_eq!(lost(&[]), ["/var/lib/a", "/var/lib/b"]);
    assert_eq!(lost(&["--throw-away", "/var/lib/a"]), ["/var/lib/b"]);
    tree.put("list", "/var/lib/?\n!/var/lib/b\n");
    let file = tree.root.join("list");
    assert_eq!(lost(&["--throw-away-from", file.to_str().unwrap()]), ["/var/lib/b"]);
}

#[test]
fn links_lead_nowhere_else() {
    let tree = Tree::of(&[("etc/fstab", FSTAB)]);
    // Outside there is a unit that must not be read.
    fs::write(tree.folder.path().join("outside.service"), "[Service]\nStateDirectory=outside\n").unwrap();
    let outside = tree.folder.path().join("outside.service");
    tree.link("etc/systemd/system/a.service", outside.to_str().unwrap());
    tree.link("etc/systemd/system/b.service", "../../../../outside.service");
    are(&tree.lost(), &[]);
}

#[test]
fn links_that_systemd_makes() {
    let tree = Tree::nixos(&[
        ("etc/systemd/system/a.service", "[Service]\nDynamicUser=yes\nStateDirectory=a:alias:ro\n"),
        ("etc/systemd/system/b.service", "[Service]\nExecStart=/bin/b /var/lib/a/db /var/lib/alias/x\n"),
        ("etc/tmpfiles.d/a.conf", "d /var/lib/a/files 0750 a a\n"),
    ]);
    are(&tree.lost(), &[r#""/var/lib/private/a""#]);
    assert_eq!(tree.audit(&[]).json["lost"][0]["by"], json!(["a.service", "b.service"]));
}

#[test]
fn owners_by_those_who_use_a_path() {
    let tree = Tree::nixos(&[
        ("etc/passwd", "one:x:990:990::/var/empty:/nologin\n"),
        ("etc/group", "ones:x:990:\n"),
        ("etc/systemd/system/a.service", "[Service]\nReadWritePaths=/srv/shared /srv/roots\n"),
        (
            "etc/systemd/system/b.service",
            "[Service]\nUser=one\nReadWritePaths=/srv/shared\nExecStart=/bin/b /srv/named/x\n",
        ),
        // There is a user of that name, so that systemd makes none.
        (
            "etc/systemd/system/c.service",
            "[Service]\nUser=one\nDynamicUser=yes\nWorkingDirectory=/srv/static\n",
        ),
        (
            "etc/systemd/system/d.service",
            "[Service]\nUser=two\nDynamicUser=yes\nWorkingDirectory=/srv/dynamic\n",
        ),
    ]);
    are(
        &tree.lost(),
        &[
            r#""/srv/dynamic""#,
            r#"{ directory = "/srv/named"; user = "one"; group = "ones"; }"#,
            r#""/srv/roots""#,
            r#"{ directory = "/srv/shared"; user = "one"; group = "ones"; }"#,
            r#"{ directory = "/srv/static"; user = "one"; group = "ones"; }"#,
        ],
    );
}

#[test]
fn users_that_systemd_makes() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        ("etc/passwd", "there:x:990:990::/var/empty:/nologin\n"),
        ("etc/group", "staff:x:50:\n"),
        (
            "usr/lib/sysusers.d/x.conf",
            "# u no - - /var/lib/no\nu! a - \"A user\" /var/lib/a\nu b 77:staff - /var/lib/b -\nu c 78:50 - /var/lib/c\n\
             u there - - /var/lib/there\nu %m - - /var/lib/m\ng g - -\nu d - -\nu e 79 - /\nu f - - %S/f\n",
        ),
        ("usr/lib/sysusers.d/y.conf", "u y - - /var/lib/y\n"),
        ("etc/sysusers.d/y.conf", ""),
        ("etc/systemd/system/x.service", "[Service]\nUser=d\nStateDirectory=d\n"),
    ]);
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/var/lib/a"; user = "a"; group = "a"; mode = "0700"; }"#,
            r#"{ directory = "/var/lib/b"; user = "b"; group = "staff"; mode = "0700"; }"#,
            r#"{ directory = "/var/lib/c"; user = "c"; group = "staff"; mode = "0700"; }"#,
            r#"{ directory = "/var/lib/d"; user = "d"; group = "d"; }"#,
        ],
    );
}

#[test]
fn users_that_nixos_makes() {
    let list = json!({ "users": [
        { "name": "ada", "uid": 1000, "group": "users", "home": "/home/ada", "homeMode": "750", "createHome": true, "isSystemUser": false,
          "hashedPasswordFile": "/etc/secrets/ada" },
        { "name": "auto", "uid": null, "group": "users", "home": "/home/auto", "homeMode": "700", "createHome": false, "isSystemUser": false,
          "hashedPasswordFile": "/run/secrets/auto" },
        { "name": "made", "uid": null, "group": "made", "home": "/srv/made/", "homeMode": "0711", "createHome": true, "isSystemUser": true },
        { "name": "plain", "uid": 400, "group": "plain", "home": "/var/lib/plain", "homeMode": "700", "createHome": false, "isSystemUser": true },
        { "name": "else", "uid": 401, "group": "else", "home": "/opt/else", "homeMode": "700", "createHome": false, "isSystemUser": true },
        { "name": "built", "uid": 402, "group": "built", "home": "/nix/store/x/home", "homeMode": "700", "createHome": true, "isSystemUser": true,
          "hashedPasswordFile": "/etc/built/password" },
        { "name": "unused", "uid": 403, "group": "unused", "home": "/var/lib/unused", "homeMode": "700", "createHome": false, "isSystemUser": true },
        { "name": "root", "uid": 0, "group": "root", "home": "/root", "homeMode": "700", "createHome": false, "isSystemUser": false }
    ] });
    let lines = [
        r#"{ file = "/etc/secrets/ada"; mode = "0600"; }"#,
        r#"{ directory = "/home/ada"; user = "ada"; group = "users"; mode = "0750"; }"#,
        r#"{ directory = "/home/auto"; user = "auto"; group = "users"; mode = "0700"; }"#,
        r#"{ directory = "/srv/made"; user = "made"; group = "made"; mode = "0711"; }"#,
        r#"{ directory = "/var/lib/plain"; user = "plain"; group = "plain"; mode = "0700"; }"#,
    ];
    let tree = Tree::nixos(&[
        // A home that nothing makes counts where it is used; a rule leaves its owner open.
        ("etc/systemd/system/plain.service", "[Service]\nExecStart=/bin/plain /var/lib/plain/db\n"),
        ("etc/tmpfiles.d/made.conf", "d /srv/made\n"),
        (
            "activate",
            "#!/bin/sh\nperl -w /nix/store/p-update-users-groups.pl /nix/store/l-users-groups.json\n",
        ),
        ("etc/built/password", "x"),
    ]);
    let store = tree.folder.path().join("root/nix/store");
    fs::write(store.join("l-users-groups.json"), list.to_string()).unwrap();
    are(&tree.lost(), &lines);
    let said = tree.audit(&[]);
    assert_eq!(said.json["lost"][0]["by"], json!(["the password of ada"]));
    // userborn says who is a person by another key, and has no modes.
    let list = json!({ "users": [
        { "name": "ada", "uid": null, "group": "users", "home": "/home/ada", "isNormal": true },
        { "name": "plain", "uid": null, "group": "plain", "home": "/var/lib/plain", "isNormal": false }] });
    let tree = Tree::nixos(&[
        (
            "etc/systemd/system/userborn.service",
            "[Service]\nExecStart=/nix/store/b/bin/userborn /nix/store/l-userborn.json /etc\n",
        ),
        ("etc/tmpfiles.d/home-directories.conf", "d /var/lib/plain 0700 plain plain\n"),
    ]);
    let store = tree.folder.path().join("root/nix/store");
    fs::write(store.join("l-userborn.json"), list.to_string()).unwrap();
    are(
        &tree.lost(),
        &[r#"{ directory = "/home/ada"; user = "ada"; group = "users"; mode = "0700"; }"#, lines[4]],
    );
    fs::write(store.join("l-userborn.json"), "{ \"users\": 1 }").unwrap();
    are(&tree.lost(), &[lines[4]]);
}

#[test]
fn parts_of_a_toplevel_that_are_links() {
    let tree = Tree::nixos(&[]);
    fs::remove_dir_all(tree.root.join("etc")).unwrap();
    tree.link("etc", "/nix/store/e/etc");
    tree.link("activate", "/nix/store/activate");
    tree.put("../e/etc/fstab", FSTAB);
    tree.link("../e/etc/systemd/system", "/nix/store/units");
    tree.put("../units/x.service", "[Service]\nStateDirectory=x\n");
    tree.put("../activate", "perl /nix/store/l-users-groups.json\n");
    let user =
        json!({ "name": "ada", "uid": null, "group": "users", "home": "/home/ada", "isSystemUser": false });
    tree.put("../l-users-groups.json", &json!({ "users": [user] }).to_string());
    are(
        &tree.lost(),
        &[r#"{ directory = "/home/ada"; user = "ada"; group = "users"; mode = "0700"; }"#, r#""/var/lib/x""#],
    );
}

#[test]
fn owners_that_scripts_give() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        (
            "usr/lib/x/start",
            "#!/bin/sh\nfor d in /var/lib/x /var/spool/x; do\n  chown -R x:xs \"$d\"\ndone\ninstall -d -o y -m 0700 /srv/y\n\
             chown no /var/lib/own\n",
        ),
        ("etc/systemd/system/x.service", "[Service]\nExecStart=/usr/lib/x/start\nStateDirectory=x\n"),
        ("etc/systemd/system/own.service", "[Service]\nUser=own\nStateDirectory=own\n"),
    ]);
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/srv/y"; user = "y"; mode = "0700"; }"#,
            r#"{ directory = "/var/lib/own"; user = "own"; }"#,
            r#"{ directory = "/var/lib/x"; user = "x"; group = "xs"; }"#,
            r#"{ directory = "/var/spool/x"; user = "x"; group = "xs"; }"#,
        ],
    );
}

#[test]
fn directories_in_place_of_links() {
    let tree = Tree::nixos(&[(
        "etc/systemd/system/a.service",
        "[Service]\nDynamicUser=yes\nStateDirectory=a b:c\n",
    )]);
    tree.entries(json!([{ "directory": "/var/lib/private" }, { "directory": "/var/lib/a" }, { "directory": "/var/lib/c" }]));
    assert_eq!(tree.faults(), ["/var/lib/a", "/var/lib/c"]);
    assert!(tree.audit(&[]).text.contains("name /var/lib/private/b in its place"));
}

#[test]
fn what_logrotate_reads() {
    let tree = Tree::nixos(&[
        (
            "etc/systemd/system/logrotate.service",
            "[Service]\nExecStart=/bin/logrotate --state /var/lib/logrotate.status /nix/store/y-logrotate.conf\n",
        ),
        ("etc/logrotate.d/a", "/srv/a/*.log {\n weekly\n}\n/var/log/b { }\n"),
    ]);
    let store = tree.folder.path().join("root/nix/store/y-logrotate.conf");
    fs::write(store, "# /srv/no\n\"/var/lib/c/x.log\" {\n}\n").unwrap();
    are(
        &tree.lost(),
        &[r#""/srv/a""#, r#""/var/lib/c""#, r#"{ file = "/var/lib/logrotate.status"; method = "copy"; }"#],
    );
}

#[test]
fn secrets_of_the_initrd() {
    let tree = Tree::nixos(&[(
        "append-initrd-secrets",
        "#!/bin/bash -e\n  mkdir -p $(dirname \"$tmp/.initrd-secrets//etc/k\")\n  cp -a /etc/secrets/k \"$tmp/.initrd-secrets//etc/k\"\n\
         cp -a /nix/store/z-key \"$tmp/.initrd-secrets/z\"\ncp -a /persist/k \"$tmp/.initrd-secrets/p\"\n",
    )]);
    are(&tree.lost(), &[r#"{ file = "/etc/secrets/k"; mode = "0600"; }"#]);
    assert_eq!(tree.audit(&[]).json["lost"][0]["by"], json!(["the initrd"]));
}

#[test]
fn homes_that_rules_make() {
    let tree = Tree::nixos(&[
        ("etc/passwd", "a:x:990:990::/var/lib/a:/nologin\n"),
        ("etc/group", "a:x:990:\n"),
        ("etc/tmpfiles.d/a.conf", "d /var/lib/a 0770 a users\n"),
    ]);
    are(&tree.lost(), &[r#"{ directory = "/var/lib/a"; user = "a"; group = "users"; mode = "0770"; }"#]);
}

#[test]
fn what_scripts_make_anew() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        (
            "usr/lib/x/start",
            "#!/bin/sh\ntest -d /srv/b && rm -rf /srv/a \"/srv/d/e\"\nconf /srv/a/c\nrun /srv/d/x\n",
        ),
        ("etc/systemd/system/x.service", "[Service]\nExecStart=/usr/lib/x/start\n"),
    ]);
    are(&tree.lost(), &[r#""/srv/b""#, r#""/srv/d""#]);
}

#[test]
fn links_and_binds_in_circles() {
    let tree = Tree::nixos(&[(
        "etc/tmpfiles.d/x.conf",
        "d /srv/a\nL /srv/a - - - - /srv/b/x\nL /srv/b - - - - /srv/a/y\nd /srv/c/x\n",
    )]);
    tree.put("etc/fstab", &(FSTAB.to_owned() + "/srv/c /srv/d none bind\n/srv/d /srv/c none bind\n"));
    are(&tree.lost(), &[r#""/srv/a""#, r#""/srv/c/x""#]);
}

#[test]
fn units_that_are_masked() {
    let tree = Tree::of(&[("etc/fstab", FSTAB), ("etc/systemd/system/b.service", "")]);
    for name in ["a", "b", "c"] {
        let text = format!("[Service]\nStateDirectory={name}\n");
        tree.put(&format!("usr/lib/systemd/system/{name}.service"), &text);
    }
    tree.link("etc/systemd/system/a.service", "/dev/null");
    are(&tree.lost(), &[r#""/var/lib/c""#]);
}

#[test]
fn what_stands_in_place_of_files() {
    let tree = Tree::of(&[("etc/fstab", FSTAB)]);
    tree.put("etc/systemd/system/a.service", "[Service]\nStateDirectory=a\n");
    let big = tree.root.join("etc/systemd/system/big.service");
    fs::File::create(big).unwrap().set_len(1 << 40).unwrap();
    let fifo = tree.root.join("etc/systemd/system/fifo.service");
    assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    tree.link("etc/systemd/system/loop.service", "/etc/systemd/system/loop.service");
    are(&tree.lost(), &[r#""/var/lib/a""#]);
}

#[test]
fn every_line_can_be_compiled() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        (
            "etc/passwd",
            "a:x:1000:1::/:/bin/sh\nb:x:1001:1:://:/bin/sh\nc:x:1002:1::rel:/bin/sh\nd:x:1003:1::/home/../t:/bin/sh\n",
        ),
        (
            "etc/systemd/system/x.service",
            "[Service]\nUser=%i\nGroup=no such\nStateDirectory=\"a b\"\nStateDirectoryMode=09x\n\
             ExecStart=/bin/x /var/lib//c /var/lib/./d /var/lib/../e /srv/.. /root/../f\n",
        ),
        ("etc/tmpfiles.d/x.conf", "d /srv/q u=rwx us:er %p\nd /srv//r/../s 99999 7\n"),
        ("etc/crypttab", "a /dev/sda1 /key:LABEL=usb\nb /dev/sdb1 /boot/k*\n"),
        ("etc/systemd/system/sshd.service", "[Service]\nExecStart=/bin/sshd\n"),
        ("etc/ssh/sshd_config", "HostKey \"/etc/ssh/a b\"\nHostKey=/etc//ssh/x*[\n"),
    ]);
    let said = tree.audit(&[]);
    let lost = said.json["lost"].as_array().unwrap();
    let paths: Vec<_> = lost.iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/boot/k*",
            "/srv/q",
            "/srv/s",
            "/t",
            "/var/lib/a b",
            "/var/lib/c",
            "/var/lib/d",
            "/etc/ssh/a b",
            "/etc/ssh/x*["
        ]
    );
    let entries: Vec<_> = lost.iter().map(|it| it["entry"].clone()).collect();
    assert_eq!(entries[1], json!({ "directory": "/srv/q", "mode": "0777" }));
    tree.entries(Value::Array(entries));
    let out = tree.folder.path().join("out");
    let compiled = Command::new(env!("CARGO_BIN_EXE_impctl"))
        .arg("compile")
        .arg(&tree.manifest)
        .arg("--output")
        .arg(out)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    are(&tree.lost(), &[]);
}

#[test]
fn what_it_cannot_do() {
    let tree = Tree::nixos(&[]);
    let run = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_impctl"))
            .arg("audit")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    assert_eq!(run(&["--root", "/nowhere/at/all"]).status.code(), Some(2));
    let root = tree.root.to_str().unwrap();
    assert_eq!(run(&["--root", root, "--manifest", "/nowhere"]).status.code(), Some(2));
}
