//! `impctl lost --html`: sizes on the page against du(1) and the other commands, hostile names, and how the page is written.

mod browser;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ctl_lost::{du, put};
use crate::ctl_roots::kept::Kept;
use crate::roots::manifest;
use crate::support::command::sh;
use crate::support::namespace::tmpfs;
use crate::support::{Disk, Fs, Machine, Output, Root, Snapshot, mounts, run};
use browser::in_a_browser;

tests![
    sizes_are_those_of_du: Disk,
    a_disk_before_it_is_converted: Disk,
    old_roots_are_on_it: Disk,
    hostile_names_do_nothing,
    more_files_than_fit,
    output_files_must_be_regular,
    in_a_browser: Disk Chromium,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");

/// Writes the page of a root, and returns the page.
#[track_caller]
fn page(root: &Path, words: &[&str]) -> String {
    let look = || (mounts(), Snapshot::of(root));
    let before = look();
    let file = Path::new("/tmp/page/it.html");
    fs::create_dir_all("/tmp/page").unwrap();
    html(root, file, words).expect(1);
    assert_eq!(look(), before, "it changed something");
    let found = file.metadata().unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir("/tmp/page").unwrap().count(), 1, "nothing is left beside it");
    let page = fs::read_to_string(file).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    page
}

fn html(root: &Path, file: &Path, words: &[&str]) -> Output {
    let mut line = vec![OsStr::new(PROGRAM), OsStr::new("lost"), OsStr::new("--root"), root.as_os_str()];
    line.extend([OsStr::new("--html"), file.as_os_str()]);
    line.extend(words.iter().map(OsStr::new));
    run(&line)
}

/// A directory or file of the map.
#[derive(Debug)]
struct Node {
    path: String,
    class: Option<&'static str>,
    is_directory: bool,
    part: bool,
    size: u64,
    line: Option<String>,
    remark: String,
}

/// The map of a page.
fn map(page: &str) -> Vec<Node> {
    let start = page.find("id=\"data\">").unwrap() + 10;
    let text = &page[start..start + page[start..].find("</script>").unwrap()];
    let data: Value = serde_json::from_str(text).unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    for (index, node) in data["nodes"].as_array().unwrap().iter().enumerate() {
        let above = usize::try_from(node[0].as_u64().unwrap()).unwrap();
        assert!(index == 0 || above < index, "{node}");
        let path = if index == 0 {
            String::new()
        } else {
            format!("{}/{}", nodes[above].path, node[1].as_str().unwrap())
        };
        let classes = ["persists", "lost", "disposable", "orphaned"];
        let word = |place: usize| {
            let number = usize::try_from(node[place].as_u64().unwrap_or(0)).unwrap();
            data["words"][number].as_str().unwrap().to_owned()
        };
        let kind = node[3].as_u64().unwrap_or(0);
        let frame = node[10].as_u64().map(|frame| &data["about"]["frames"][usize::try_from(frame).unwrap()]);
        nodes.push(Node {
            path,
            class: node[2].as_u64().map(|class| classes[usize::try_from(class).unwrap()]),
            is_directory: kind % 10 == 0,
            part: kind >= 10,
            size: node[4].as_u64().unwrap_or(0),
            line: frame.map(|frame| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                text(&frame[0]) + &text(&node[11]) + &text(&frame[1])
            }),
            remark: word(9),
        });
    }
    nodes
}

#[track_caller]
fn at<'n>(nodes: &'n [Node], path: &str) -> &'n Node {
    nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("{path}: {nodes:#?}"))
}

/// The sum of a class.
fn sum(nodes: &[Node], class: &str) -> u64 {
    nodes.iter().filter(|node| !node.part && node.class == Some(class)).map(|node| node.size).sum()
}

/// A machine with a path of every class: its root, and the arguments for its manifest.
fn machine() -> (Machine, String) {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 32));
    let entries = json!([
        { "directory": "/var/lib/plex" },
        { "directory": "/home/ada", "source": "/users/ada" },
        { "file": "/etc/ssh/ssh_host_*" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
    ]);
    fs::create_dir_all(machine.at("/persist/etc/ssh")).unwrap();
    fs::write(machine.at("/persist/etc/ssh/ssh_host_key"), "key").unwrap();
    machine.manifest(&manifest(json!({ "size": "64M" }), entries));
    machine.build().ok();
    for (path, size) in [
        ("/persist/var/lib/plex/Library/Metadata/a.db", 3_000_000),
        ("/persist/var/lib/plex/Library/Cache/b", 1_000_000),
        ("/persist/var/lib/plex/x.tmp", 5000),
        ("/persist/users/ada/.cache/kept-too", 70_000),
        ("/persist/var/lib/gitea/repository/pack", 2_000_000),
        ("/persist/var/lib/gitea/app.ini", 100),
        ("/persist/notes", 10_000),
        ("/var/lib/grafana/data/grafana.db", 900_000),
        ("/var/lib/grafana/plugins/one/x.js", 40_000),
        ("/var/lib/grafana/plugins/two/y.js", 30_000),
        ("/srv/data/a", 20_000),
        ("/home/bob/work/x", 50_000),
        ("/home/bob/.cache/thumbs/x", 600_000),
        ("/var/cache/apt/pkg", 800_000),
        ("/etc/some.conf", 300),
    ] {
        put(&machine.at(""), path, vec![b'x'; size]);
    }
    put(&machine.at(""), "/etc/systemd/system/grafana.service", "[Service]\nStateDirectory=grafana\n");
    let compiled = machine.home().join("manifest").to_str().unwrap().to_owned();
    (machine, compiled)
}

/// The sum of another command.
#[track_caller]
fn total(words: &[&str], of: fn(&Value) -> &Value) -> u64 {
    let output = run(&[&[PROGRAM], words].concat()).expect(1);
    of(&serde_json::from_str(&output.stdout).unwrap())["allocated"].as_u64().unwrap()
}

fn sizes_are_those_of_du() {
    let (machine, compiled) = machine();
    let root = machine.at("");
    let page = page(&root, &["--manifest", &compiled]);
    let nodes = map(&page);
    for (path, class) in [
        ("/persist/var/lib/plex", "persists"),
        ("/persist/users/ada", "persists"),
        ("/persist/var/lib/gitea", "orphaned"),
        ("/var/lib/grafana", "lost"),
        ("/srv/data", "lost"),
        ("/home/bob", "lost"),
        ("/home/bob/.cache", "disposable"),
        ("/var/cache", "disposable"),
    ] {
        let node = at(&nodes, path);
        assert_eq!((node.class, node.part), (Some(class), false), "{path}");
        assert_eq!(node.line.is_some(), class != "persists", "{node:?}");
    }
    assert_eq!(at(&nodes, "/persist/etc/ssh/ssh_host_key").class, Some("persists"));
    assert_eq!(
        at(&nodes, "/persist/etc/ssh/ssh_host_key").remark.rsplit("; ").next(),
        Some("kept by the pattern /etc/ssh/ssh_host_*")
    );
    assert!(at(&nodes, "/persist/users/ada").remark.ends_with("kept at /home/ada"));
    assert_eq!(at(&nodes, "/var/lib/grafana").line.as_deref(), Some("{\"directory\":\"/var/lib/grafana\"}"));
    // The line of an orphan has its path on the store.
    assert_eq!(at(&nodes, "/persist/notes").line.as_deref(), Some("{\"file\":\"/notes\"}"));
    // The same in the parts; a part with its own line is not counted in the line above.
    let mut compared = 0;
    for node in nodes.iter().filter(|node| node.is_directory && node.class.is_some()) {
        let below = format!("{}/", node.path);
        let apart = nodes.iter().filter(|it| !it.part && it.path.starts_with(&below)).map(|it| it.size);
        assert_eq!(node.size + apart.sum::<u64>(), du(&root.join(&node.path[1..])), "{node:?}");
        compared += 1;
    }
    assert!(compared >= 18, "{compared}: {nodes:#?}");
    let part = at(&nodes, "/var/lib/grafana/plugins/one");
    assert_eq!(
        (part.class, part.part, part.line.as_deref()),
        (Some("lost"), true, Some("{\"directory\":\"/var/lib/grafana/plugins/one\"}"))
    );
    assert_eq!(
        at(&nodes, "/persist/users/ada/.cache").class,
        Some("persists"),
        "an entry keeps all that is in it"
    );

    let (place, manifest) = (root.to_str().unwrap(), ["--manifest", &compiled]);
    let lost = total(&[&["lost", "--json", "--root", place], &manifest[..]].concat(), |it| &it["totals"]);
    assert_eq!(sum(&nodes, "lost"), lost);
    let orphans =
        total(
            &[&["orphans", "--json", "--root", place], &manifest[..]].concat(),
            |it| &it["stores"][0]["totals"],
        );
    assert_eq!(sum(&nodes, "orphaned"), orphans);
    let kept = ["var/lib/plex", "users/ada", "etc/ssh/ssh_host_key", "etc/machine-id"];
    assert_eq!(
        sum(&nodes, "persists"),
        kept.map(|path| du(&root.join("persist").join(path))).iter().sum::<u64>()
    );
    assert_eq!(sum(&nodes, "disposable"), du(&root.join("home/bob/.cache")) + du(&root.join("var/cache")));
    // The same without scripts.
    for text in [
        "grafana.service",
        "<h2 class=\"\">Would be gone</h2>",
        "<h2 class=\"\">By owner</h2>",
        "<h2 class=\"\">By unit</h2>",
        "/persist/var/lib/gitea/",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // On NixOS the line is one of its configuration.
    put(&root, "/etc/NIXOS", "");
    let nodes = map(&self::page(&root, &["--manifest", &compiled]));
    assert_eq!(
        at(&nodes, "/srv/data").line.as_deref(),
        Some("environment.persistence.\"/persist\".directories = [ \"/srv/data\" ];")
    );
}

fn a_disk_before_it_is_converted() {
    let machine = Machine::new(Root::Disk, Disk::new(Fs::Ext4, 16));
    let root = machine.at("");
    for path in
        ["/var/lib/plex/kept/a", "/var/lib/plex/b.tmp", "/var/lib/foo/a", "/etc/machine-id", "/var/cache/x"]
    {
        put(&root, path, "content");
    }
    let entries = json!([{ "directory": "/var/lib/plex" }, { "file": "/etc/machine-id" }]);
    machine.manifest(&manifest(json!({ "convert": "/persist" }), entries));
    let page = page(&root, &["--manifest", machine.home().join("manifest").to_str().unwrap()]);
    let nodes = map(&page);
    for (path, class) in [
        ("/var/lib/plex", "persists"),
        ("/var/lib/plex/kept", "persists"),
        ("/var/lib/plex/b.tmp", "persists"),
        ("/etc/machine-id", "persists"),
        ("/var/lib/foo", "lost"),
        ("/var/cache", "disposable"),
    ] {
        assert_eq!(at(&nodes, path).class, Some(class), "{path}");
    }
    assert_eq!(at(&nodes, "/var/lib/plex").size, du(&root.join("var/lib/plex")));
    assert!(page.contains("not looked at: /persist: the root becomes it with the next boot"));
}

fn old_roots_are_on_it() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    let mut text = manifest(json!({ "size": "64M" }), json!([{ "directory": "/var/lib/kept" }]));
    text["old_roots"] = json!({ "boots": 3 });
    machine.manifest(&text);
    machine.build().ok();
    put(&machine.at(""), "/srv/x", "x");
    let compiled = machine.home().join("manifest").to_str().unwrap().to_owned();
    assert!(!page(&machine.at(""), &["--manifest", &compiled]).contains("Old roots"));
    machine.switch_root();
    Kept::new(&machine).add(7, 3).ends(true, 5000);
    machine.impctl("roots", &["save"]).ok();
    let output = machine.impctl("lost", &["--html", "/run/page.html"]).expect(1);
    let page = fs::read_to_string("/run/page.html").unwrap_or_else(|_| panic!("{output:?}"));
    assert!(page.contains("<h2 class=\"\">Old roots</h2>") && page.contains(">Root 7, made"), "{page}");
    let commands = page.split("<code class=\"keep\">impctl recover ").skip(1);
    let commands: Vec<_> = commands.map(|rest| rest.split("</code>").next().unwrap()).collect();
    let command = commands.iter().find(|line| line.ends_with(" /srv") || line.ends_with(" /srv/x"));
    let words: Vec<_> = command.unwrap_or_else(|| panic!("{page}")).split(' ').collect();
    machine.impctl("recover", &[&words[..], &["--to", "/run"]].concat()).ok();
    assert_eq!(fs::read_to_string("/run/srv/x").unwrap(), "x", "{words:?}");
    // imp-mount's own files are neither orphans nor persistent paths.
    assert!(map(&page).iter().all(|node| !node.path.contains(".imp-mount")), "{page}");
}

fn hostile_names_do_nothing() {
    let root = Path::new("/tmp/root");
    fs::create_dir_all(root).unwrap();
    tmpfs(root, "mode=0755");
    let names: [&[u8]; 9] = [
        b"</script><script>alert(1)</script>",
        b"<!--<script>",
        b"'\"><img src=x onerror=alert(1)>",
        b"two\nlines\r\t",
        b"\xff\xfe\x80",
        "right\u{202e}to\u{2066}left\u{feff}".as_bytes(),
        b"&lt;&#60;&amp;",
        b"\\u003cscript>",
        b"]]>`${x}`",
    ];
    for name in names {
        let folder = root.join("srv").join(OsStr::from_bytes(name));
        // A name with a slash is two names.
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
    }
    put(root, "/etc/passwd", "root:x:0:0:</script>:/:/\n");
    put(root, "/etc/hostname", "<b>host</b>\n");
    put(root, "/etc/systemd/system/<script>.service", "[Service]\nStateDirectory=x\n");
    put(root, "/var/lib/x/y", "y");
    let page = page(root, &[]);
    assert_eq!(page.matches("<script").count(), 2, "the data, and our own");
    assert_eq!(page.matches("</script>").count(), 2);
    for not_there in ["<!--", "<img", "<b>", "\u{202e}", "\u{feff}", "\r", "&amp;amp;lt;"] {
        assert!(!page.contains(not_there), "{not_there:?}");
    }
    for there in [
        "two\\nlines\\r\\t",
        "\\xff\\xfe\\x80",
        "&#39;&quot;&gt;&lt;img src=x",
        "\\u{202e}",
        "&amp;lt;&amp;#60;&amp;amp;",
        "]]&gt;`${x}`",
    ] {
        assert!(page.contains(there), "{there:?}");
    }
    let nodes = map(&page);
    assert_eq!(
        at(&nodes, "/srv/<!--<script>").line.as_deref(),
        Some("{\"directory\":\"/srv/<!--<script>\"}")
    );
    let broken = at(&nodes, "/srv/\\xff\\xfe\\x80");
    assert_eq!((broken.line.as_deref(), broken.class), (None, Some("lost")));
    // No unit is printed for a name that the unit does not contain.
    let row = page.find("<span class=\"name\">/srv/\\xff").unwrap();
    assert!(!page[row..row + 100].contains(".service"), "{}", &page[row..row + 100]);
    // Nothing from elsewhere is loaded, and no code but the page's own is run.
    let policy =
        page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "{policy}");
    assert!(nonce.len() == 32 && !self::page(root, &[]).contains(nonce), "{policy}");
    assert!(!page.contains("unsafe") && !page.contains("http://") && !page.contains("https://"));
}

fn more_files_than_fit() {
    let root = Path::new("/tmp/root");
    fs::create_dir_all(root).unwrap();
    tmpfs(root, "mode=0755");
    // Names of the greatest length, which get four times as long.
    fs::create_dir_all(root.join("srv/many")).unwrap();
    let script = "cd /tmp/root/srv; p=$(printf '\\377%.0s' $(seq 240)); \
        for d in $(seq 30); do mkdir \"$p$d\"; (cd \"$p$d\"; seq -f \"$p%04.0f\" 400 | xargs -d '\\n' touch); done; \
        cd many; seq -f \"$p%05.0f\" 20000 | xargs -d '\\n' touch; head -c 100000 /dev/zero > large";
    run(&["sh", "-c", script]).ok();
    let nodes = map(&page(root, &[]));
    assert_eq!(at(&nodes, "/srv/many/large").size, 102_400);
    assert_eq!(at(&nodes, "/srv/many").size, du(&root.join("srv/many")));
    assert_eq!(
        sum(&nodes, "lost"),
        du(&root.join("srv")) - fs::metadata(root.join("srv")).unwrap().blocks() * 512
    );
}

fn output_files_must_be_regular() {
    let root = Path::new("/tmp/root");
    put(root, "/srv/x", "x");
    let place = PathBuf::from("/tmp/place");
    put(&place, "/target", "precious");
    symlink("target", place.join("link")).unwrap();
    symlink("nowhere", place.join("broken")).unwrap();
    fs::create_dir(place.join("folder")).unwrap();
    sh("mkfifo /tmp/place/pipe");
    for (name, why) in [
        ("link", "it is a link: name the file that it points to"),
        ("broken", "it is a link: name the file that it points to"),
        ("folder", "it is there, and no regular file"),
        ("pipe", "it is there, and no regular file"),
        ("missing/page.html", "its directory is not there: mkdir -p /tmp/place/missing"),
    ] {
        let before = Snapshot::of(&place);
        let output = html(root, &place.join(name), &[]).expect(2);
        assert!(output.stderr.contains(why), "{name}: {output:?}");
        assert_eq!(Snapshot::of(&place), before, "{name}");
    }
    // An existing file is replaced, and becomes private.
    sh("chmod 0666 /tmp/place/target");
    html(root, &place.join("target"), &[]).expect(1);
    let found = fs::metadata(place.join("target")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.len() > 10_000), (0o600, true));
    let piped = html(root, Path::new("/dev/null"), &[]).expect(1);
    assert!(piped.stdout.starts_with("/dev/null: "), "{piped:?}");
    for words in [&["--json"][..], &["--nix"], &["--all"], &["/srv"]] {
        html(root, &place.join("target"), words).expect(2).says(&["cannot be used with"]);
    }
}
