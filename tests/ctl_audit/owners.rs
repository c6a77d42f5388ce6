//! Owners of lost paths.

use std::fs;

use serde_json::json;

use super::{FSTAB, Tree, are};

#[test]
fn another_systems_users() {
    let tree = Tree::of(&[
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\npostgres:x:105:5::/var/lib/postgresql:/bin/sh\nx:x:6:6::/:/usr/sbin/nologin\n",
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
    // The part with the data is kept.
    let files = [(
        "etc/systemd/system/postgresql.service",
        "[Service]\nStateDirectory=postgresql postgresql/17\nUser=postgres\n",
    )];
    let tree = Tree::nixos(&files);
    tree.entries(json!([{ "directory": "/var/lib/postgresql/17" }]));
    are(&tree.lost(), &[]);
}

#[test]
fn owners_by_the_units_of_a_path() {
    let tree = Tree::nixos(&[
        ("etc/passwd", "one:x:990:990::/var/empty:/nologin\n"),
        ("etc/group", "ones:x:990:\n"),
        ("etc/systemd/system/a.service", "[Service]\nReadWritePaths=/srv/shared /srv/roots\n"),
        (
            "etc/systemd/system/b.service",
            "[Service]\nUser=one\nReadWritePaths=/srv/shared\nExecStart=/bin/b /srv/named/x\n",
        ),
        // A user of this name exists, so systemd makes none.
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
            "# u no - - /var/lib/no\nu! a - \"A user\" /var/lib/a\nu b 177:staff - /var/lib/b -\nu c 178:50 - /var/lib/c\n\
             u there - - /var/lib/there\nu %m - - /var/lib/m\ng g - -\nu d - -\nu e 179 - /\nu f - - %S/f\n",
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
        // A home without a creator counts where it is used; a rule leaves its owner open.
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
fn homes_that_rules_make() {
    let tree = Tree::nixos(&[
        ("etc/passwd", "a:x:990:990::/var/lib/a:/nologin\n"),
        ("etc/group", "a:x:990:\n"),
        ("etc/tmpfiles.d/a.conf", "d /var/lib/a 0770 a users\n"),
    ]);
    are(&tree.lost(), &[r#"{ directory = "/var/lib/a"; user = "a"; group = "users"; mode = "0770"; }"#]);
}

#[test]
fn keys_in_homes() {
    let users = json!({ "users": [
        { "name": "root2", "uid": null, "group": "users", "home": "/home/root2", "isNormal": true },
        { "name": "ada", "uid": null, "group": "users", "home": "/home/ada", "isNormal": true }] });
    let tree = Tree::nixos(&[
        (
            "etc/systemd/system/userborn.service",
            "[Service]\nExecStart=/nix/store/b/bin/userborn /nix/store/l-userborn.json /etc\n",
        ),
        (
            "etc/systemd/system/x.service",
            "[Service]\nLoadCredential=a:/home/root2/keys/a b:/home/ada/keys/b\nExecStart=/bin/x /home/root2/x\n",
        ),
    ]);
    fs::write(tree.folder.path().join("root/nix/store/l-userborn.json"), users.to_string()).unwrap();
    // Part of a home is a choice; keys in it are none.
    tree.entries(json!([{ "directory": "/home/root2/Documents" }, { "directory": "/home/ada/keys" }]));
    are(
        &tree.lost(),
        &[r#"{ file = "/home/root2/keys/a"; user = "root2"; group = "users"; mode = "0600"; }"#],
    );
}

#[test]
fn files_of_userborn() {
    let tree = Tree::nixos(&[]);
    let run = |at: &str| {
        let text =
            format!("[Service]\nExecStart=/nix/store/b/bin/userborn /nix/store/l-userborn.json {at}\n");
        tree.put("etc/systemd/system/userborn.service", &text);
        for name in ["passwd", "group", "shadow"] {
            let path = tree.root.join("etc").join(name);
            if path.is_symlink() {
                fs::remove_file(&path).unwrap();
            }
            tree.link(&format!("etc/{name}"), &format!("{at}/{name}"));
        }
        tree.lost().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(run("/persist/users"), [""; 0]);
    assert_eq!(run("/var/lib/nixos"), [""; 0]);
    assert_eq!(run("/data/users"), ["/data/users"]);
    assert_eq!(tree.audit(&[]).json["lost"][0]["class"], json!("key"));
    assert_eq!(run("/srv/users"), ["/srv/users"]);
    assert_eq!(run("/run/users"), [""; 0]);
}
