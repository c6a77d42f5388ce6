//! `impctl audit`: its findings on systems built by hand, and never booted.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::needless_pass_by_value, reason = "a manifest is written down where it is used")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

#[path = "ctl_audit/distributions.rs"]
mod distributions;
#[path = "ctl_audit/links.rs"]
mod links;
#[path = "ctl_audit/owners.rs"]
mod owners;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A built system: a root, or a toplevel in a store.
struct Tree {
    folder: TempDir,
    root: PathBuf,
    manifest: PathBuf,
}

/// Output of the command.
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

    /// A toplevel of Nix: its links begin at its store.
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

    /// A manifest with these entries, and the entries needed by every system.
    fn entries(&self, entries: Value) {
        let mut all = json!([
            { "directory": "/var/lib/nixos" }, { "directory": "/var/lib/systemd" }, { "directory": "/var/log" },
            { "file": "/etc/machine-id" }
        ]);
        if !self.root.to_str().unwrap().contains("/nix/store/") {
            let others = json!([{ "directory": "/usr" }, { "file": "/etc/passwd" }]);
            all.as_array_mut().unwrap().extend(others.as_array().unwrap().iter().cloned());
        }
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

    /// Paths that would be lost, with the line to keep each.
    #[track_caller]
    fn lost(&self) -> BTreeMap<String, String> {
        let said = self.audit(&[]);
        assert_eq!(said.json["faults"], json!([]), "{}", said.text);
        said.lost()
    }

    /// Settings with errors.
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
    // Of the build machine.
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
fn paths_of_units() {
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
fn keys_of_the_machine() {
    let tree = Tree::nixos(&[
        ("etc/systemd/system/sshd.service", "[Service]\nExecStart=/bin/sshd\n"),
        ("etc/ssh/sshd_config", "HostKey /persist/ssh/key\nHostKey /etc/ssh/ssh_host_rsa_key\n"),
        ("etc/crypttab", "data /dev/sdb /etc/data.key\nother /dev/sdc none\n"),
        // Of the logs the journal is chosen.
        ("etc/systemd/system/logs.service", "[Service]\nLogsDirectory=logs\n"),
    ]);
    // Entries keep parts of systemd's state: the key of credentials is not among them.
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
fn containers_run_programs_with_set_user_id() {
    let tree = Tree::nixos(&[("etc/systemd/system/incus.service", "[Service]\nExecStart=/bin/incusd\n")]);
    are(
        &tree.lost(),
        &[r#"{ directory = "/var/lib/incus"; mode = "0711"; mountOptions = [ "suid" "dev" ]; }"#],
    );
}

#[test]
fn faults_are_named() {
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
fn a_nix_store_below_an_overlay() {
    let tree = Tree::nixos(&[]);
    let fstab = |line: &str| {
        tree.put(
            "etc/fstab",
            &format!("tmpfs / tmpfs defaults 0 0\n/dev/x /persist ext4 defaults 0 0\n{line}\n"),
        );
    };
    fstab("nix-store /nix/.ro-store 9p defaults 0 0\noverlay /nix/store overlay lowerdir=/nix/.ro-store 0 0");
    assert_eq!(tree.faults(), [""; 0]);
    fstab("/nix/.ro-store /nix/store none bind 0 0\nnix-store /nix/.ro-store 9p defaults 0 0");
    assert_eq!(tree.faults(), [""; 0]);
    fstab("none /nix/store tmpfs defaults 0 0");
    assert_eq!(tree.faults(), ["/nix"]);
}

#[test]
fn disposable_paths_are_no_findings() {
    let tree = Tree::nixos(&[("etc/systemd/system/a.service", "[Service]\nStateDirectory=a b\n")]);
    let lost = |words: &[&str]| tree.audit(words).lost().into_keys().collect::<Vec<_>>();
    assert_eq!(lost(&[]), ["/var/lib/a", "/var/lib/b"]);
    assert_eq!(lost(&["--throw-away", "/var/lib/a"]), ["/var/lib/b"]);
    tree.put("list", "/var/lib/?\n!/var/lib/b\n");
    let file = tree.root.join("list");
    assert_eq!(lost(&["--throw-away-from", file.to_str().unwrap()]), ["/var/lib/b"]);
}

#[test]
fn paths_of_logrotate() {
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
fn paths_that_scripts_make_anew() {
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
fn usage_errors() {
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
