//! Requested paths, lines to keep lost paths, and output.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{PROGRAM, are, at, impctl, lost, manifest_of, put, root};
use crate::support::command::{installed, sh_on};
use crate::support::namespace::{bind, tmpfs};
use crate::support::run;

pub fn a_path_is_enough() {
    let root = root();
    for path in ["/var/lib/foo/a/x", "/var/lib/foo/b", "/etc/one", "/etc/two"] {
        put(root, path, "x");
    }
    let found = lost(root, &["/var/lib/foo"]);
    are(&found["lost"], &["directory /var/lib/foo/a", "file /var/lib/foo/b"]);
    assert_eq!(found["path"], "/var/lib/foo");
    are(&lost(root, &["/etc/one"])["lost"], &["file /etc/one"]);
    are(&lost(root, &["var/lib"])["lost"], &["directory /var/lib/foo"]);
    let file = manifest_of(json!([{ "directory": "/var/lib/foo" }, { "file": "/etc/o*" }]));
    let one = root.join("etc/one");
    bind(&one, &one);
    are(&lost(root, &["--manifest", &file, "/etc"])["lost"], &["file /etc/two"]);
    assert_eq!(lost(root, &["--manifest", &file, "/etc/one"])["elsewhere"], "it is kept by the manifest");
    symlink("/etc", root.join("link")).unwrap();
    impctl(root, &["/link/one"]).expect(2).says(&["/link/one"]);
    impctl(root, &["/gone"]).expect(2).says(&["/gone", "No such file"]);
    impctl(root, &["/../etc"]).expect(2).says(&[".."]);
}

pub fn the_printed_lines_keep_the_paths() {
    let root = root();
    put(root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nplex:x:193:193::/:/bin/sh\n");
    put(root, "/etc/group", "plex:x:193:\nmedia:x:194:\n");
    for path in [
        "/var/lib/plex/x",
        "/var/lib/two\nlines \x07${x} \\ \"/x",
        "/etc/ssh/ssh_host_key",
        "/srv/a*b",
        "/var/lib/private/dyn/x",
    ] {
        put(root, path, "x");
    }
    symlink("../zone", root.join("etc/localtime")).unwrap();
    sh_on("chown 193:194", &[&root.join("var/lib/plex")]);
    sh_on("chmod 0750", &[&root.join("var/lib/plex")]);
    sh_on("chown 61234:61234", &[&root.join("var/lib/private/dyn")]);
    sh_on("chmod 0600", &[&root.join("etc/ssh/ssh_host_key")]);
    let found = lost(root, &[]);
    let plex = json!({ "directory": "/var/lib/plex", "user": "plex", "group": "media", "mode": "0750" });
    assert_eq!(at(&found["lost"], "/var/lib/plex")["entry"], plex);
    let entries: Vec<_> = found["lost"].as_array().unwrap().iter().map(|it| it["entry"].clone()).collect();
    assert_eq!(entries.len(), 8);

    let nix = impctl(root, &["--nix", "--store", "/state"]).expect(1).stdout;
    assert!(nix.starts_with("environment.persistence.\"/state\" = {\n  directories = [\n"), "{nix}");
    let line =
        "    { directory = \"/var/lib/plex\"; user = \"plex\"; group = \"media\"; mode = \"0750\"; }  # ";
    assert!(nix.contains(line), "{nix}");
    assert!(nix.contains("\n    \"/var/lib/private/dyn\"  # "), "{nix}");
    if installed("nix-instantiate") {
        let text = format!("({{ {nix} }}).environment.persistence.\"/state\"");
        let json = run(&["nix-instantiate", "--eval", "--strict", "--json", "-E", &text]).ok().stdout;
        let said: Value = serde_json::from_str(&json).unwrap();
        // Anything but a set is the path alone.
        let whole = |key: &'static str| {
            let entry = move |it: &Value| if it.is_string() { json!({ key: it }) } else { it.clone() };
            said[if key == "file" { "files" } else { "directories" }]
                .as_array()
                .unwrap()
                .iter()
                .map(entry)
                .collect::<Vec<_>>()
        };
        let mut said: Vec<_> =
            [whole("directory"), whole("file")].concat().iter().map(Value::to_string).collect();
        let mut entries: Vec<_> = entries.iter().map(Value::to_string).collect();
        said.sort();
        entries.sort();
        assert_eq!(said, entries);
    } else {
        eprintln!("nix-instantiate is not installed: the lines were not evaluated");
    }

    // Directories are mounted, and the store has the same files.
    let file = manifest_of(json!(entries));
    for entry in &entries {
        if let Some(path) = entry["directory"].as_str() {
            let place = root.join(&path[1..]);
            tmpfs(&place, "");
        }
    }
    let store = root.join("persist");
    fs::create_dir(&store).unwrap();
    tmpfs(&store, "");
    for path in entries.iter().filter_map(|entry| entry["file"].as_str()) {
        let path = path.replace('\\', "");
        fs::create_dir_all(store.join(&path[1..]).parent().unwrap()).unwrap();
        sh_on("cp --archive", &[&root.join(&path[1..]), &store.join(&path[1..])]);
    }
    are(&lost(root, &["--manifest", &file])["lost"], &[]);
    // A boot accepts the lines unchanged.
    run(&[PROGRAM, "compile", &file, "-o", "/tmp/compiled"]).ok();
}

/// A pattern replaces many lines only if it matches no other file.
pub fn a_line_for_many_files() {
    let root = root();
    for number in 0..120 {
        for folder in ["srv", "opt", "etc", "home"] {
            put(root, &format!("/{folder}/{number}"), "x");
        }
    }
    put(root, "/srv/directory/x", "x");
    put(root, "/opt/.hidden", "x");
    symlink("nowhere", root.join("etc/link")).unwrap();
    put(root, "/home/resolv.tmp", "x");
    let words = ["--throw-away", "*.tmp"];
    let found = lost(root, &words);
    for (path, entry) in [
        ("/srv", json!({ "file": "/srv/*" })),
        ("/opt", Value::Null),
        ("/etc", Value::Null),
        ("/home", Value::Null),
    ] {
        let one = at(&found["lost"], path);
        assert_eq!((&one["kind"], &one["entry"]), (&json!("files"), &entry), "{path}");
        assert_eq!(one["others"], false, "all of them have one owner");
    }
    let nix = impctl(root, &[&["--nix"][..], &words].concat()).expect(1).stdout;
    let lines: Vec<_> = nix.lines().map(|line| line.trim().split("  # ").next().unwrap()).collect();
    for line in [
        "\"/srv/*\"",
        "\"/srv/directory\"",
        "\"/opt/.hidden\"",
        "{ file = \"/etc/link\"; method = \"copy\"; }",
    ] {
        assert!(lines.contains(&line), "{line}: {nix}");
    }
    for (folder, count) in [("srv", 2), ("opt", 121), ("etc", 121), ("home", 120)] {
        let start = format!("\"/{folder}/");
        assert_eq!(lines.iter().filter(|line| line.contains(&start)).count(), count, "{folder}: {nix}");
    }
}

pub fn for_terminals_and_pipes() {
    let root = root();
    put(root, "/var/lib/a-service-with-a-long-name/x", "x");
    put(root, "/etc/systemd/system/a.service", "[Service]\nStateDirectory=a-service-with-a-long-name\n");
    let piped = impctl(root, &[]).expect(1).stdout;
    assert!(!piped.contains('\x1b') && piped.contains("OWNER"), "{piped}");
    assert!(piped.contains("/var/lib/a-service-with-a-long-name/  a.service"), "{piped}");
    if !installed("script") {
        return eprintln!("script(1) is not installed: no terminal was tried");
    }
    let on_terminal = |columns: u32, before: &str| {
        let line = format!(
            "stty rows 24 cols {columns}; TERM=xterm {before} {PROGRAM} lost --root {}",
            root.display()
        );
        run(&["script", "-qec", &line, "/dev/null"]).expect(1).stdout.replace('\r', "")
    };
    let wide = on_terminal(150, "");
    assert!(wide.contains('\x1b'), "{wide}");
    assert_eq!(on_terminal(150, "NO_COLOR=1"), piped);
    let narrow = on_terminal(50, "NO_COLOR=1");
    // Remarks are on a line below the path, and the path is whole.
    assert!(
        !narrow.contains("OWNER") && narrow.contains("  /var/lib/a-service-with-a-long-name/\n"),
        "{narrow}"
    );
    // A closed pipe is no error, and does not keep the paths.
    let line = format!("exec 3> >(:); wait $!; {PROGRAM} lost --root {} --json >&3", root.display());
    assert_eq!(run(&["bash", "-c", &line]).expect(1).stderr, "");
}

pub fn errors_have_place_and_remedy() {
    let root = root();
    impctl(Path::new("/tmp/nowhere"), &[]).expect(2).says(&["error: /tmp/nowhere: ", "No such file"]);
    impctl(root, &["--manifest", "/tmp/none"]).expect(2).says(&["error: /tmp/none: there is no manifest"]);
    fs::write(
        "/tmp/wrong.json",
        r#"{ "version": 1, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/run/x" }] }"#,
    )
    .unwrap();
    impctl(root, &["--manifest", "/tmp/wrong.json"]).expect(2).says(&["/tmp/wrong.json", "/run"]);
    put(root, "/etc/imp-mount/manifest", "nonsense");
    impctl(root, &[]).expect(2).says(&["/etc/imp-mount/manifest"]);
    impctl(root, &["--json", "--nix"]).expect(2);
}
