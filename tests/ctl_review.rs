//! `impctl review`: changes of a file by the answers, without a terminal and on a real one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::ctl_lost::put;
use crate::live::started;
use crate::roots::manifest;
use crate::support::command::{installed, start};
use crate::support::namespace::tmpfs;
use crate::support::{Output, Snapshot, run};

mod terminal;

use terminal::{
    a_directory_that_cannot_be_written, a_terminal_of_another_size, a_terminal_that_goes_away,
    answers_that_cannot_be_left, on_a_terminal, unusable_saved_answers_stay, without_a_terminal,
};

tests![
    answers_make_a_file: Root,
    a_fragment_of_a_manifest: Root,
    a_file_that_holds_anything_else_is_refused: Root,
    lines_by_hand_stay: Root,
    refused_answers,
    the_file_keeps_its_owner_and_mode: Root,
    two_at_once: Root,
    kept_and_thrown_away_is_lost_no_more: Root,
    paths_kept_now_are_adopted: Disk,
    on_a_terminal: Root Tmux,
    a_terminal_of_another_size: Root Tmux,
    a_terminal_that_goes_away: Root Tmux,
    unusable_saved_answers_stay: Root Tmux,
    answers_that_cannot_be_left: Root Tmux,
    a_directory_that_cannot_be_written: Root Tmux,
    without_a_terminal,
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_impctl");

/// A root on a tmpfs with files that would be lost.
fn root() -> PathBuf {
    let root = PathBuf::from("/tmp/root");
    fs::create_dir_all(&root).unwrap();
    tmpfs(&root, "mode=0755");
    put(&root, "/etc/passwd", "root:x:0:0::/:/bin/sh\nplex:x:193:193::/:/bin/sh\n");
    put(&root, "/etc/group", "root:x:0:\nplex:x:193:\n");
    put(&root, "/etc/imp-mount/throw-away", "/etc/passwd\n/etc/group\n");
    put(&root, "/etc/systemd/system/plex.service", "[Service]\nStateDirectory=plex\n");
    put(&root, "/etc/imp-mount/throw-away", "/etc/passwd\n/etc/group\n/etc/systemd\n");
    put(&root, "/var/lib/plex/db/a", "x".repeat(30_000));
    put(&root, "/var/lib/plex/cache/b", "x".repeat(50_000));
    put(&root, "/etc/odd \"${name}", "x");
    put(&root, "/etc/key", "x");
    put(&root, "/srv/old/x", "x".repeat(9000));
    chown(root.join("var/lib/plex"), Some(193), Some(193)).ok();
    root
}

/// Runs the review of a root with answers.
fn review(root: &Path, answers: &str, words: &[&str]) -> Output {
    fs::write("/tmp/answers", answers).unwrap();
    let mut line = words_of(root);
    line.extend(["--answers", "/tmp/answers", "--by", "ada"].map(OsString::from));
    line.extend(words.iter().map(OsString::from));
    run(&line)
}

fn words_of(root: &Path) -> Vec<OsString> {
    vec![PROGRAM.into(), "review".into(), "--root".into(), root.into()]
}

/// Standard output.
trait Prints {
    fn prints(self, words: &[&str]) -> Self;
}

impl Prints for Output {
    #[track_caller]
    fn prints(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in {self:?}");
        }
        self
    }
}

/// Today's date, by date(1).
fn today() -> String {
    run(&["date", "-u", "+%F"]).ok().stdout.trim().to_owned()
}

const ANSWERS: &str = "\
# of mine
keep /var/lib/plex  # films
keep \"/etc/odd \\\"${name}\"
throw-away /srv/old  # from last year
look-into /etc/key  # whose?
";

fn expected() -> String {
    let on = today();
    format!(
        "# Written by `impctl review`, which adds lines in path order, and keeps those written by hand.
{{
  environment.persistence.\"/persist\" = {{
    directories = [
      {{ directory = \"/var/lib/plex\"; user = \"plex\"; group = \"plex\"; }}  # kept {on} by ada: films
    ];
    files = [
      \"/etc/odd \\\"\\${{name}}\"  # kept {on} by ada
    ];
  }};
  environment.etc.\"imp-mount/throw-away\".text = builtins.concatStringsSep \"\\n\" [
    \"/srv/old\"  # {on} by ada: from last year
  ];
  # To look into:
  #   \"/etc/key\"  # {on} by ada: whose?
}}
"
    )
}

fn answers_make_a_file() {
    let root = root();
    let file = "/tmp/persist.nix";
    let nix = ["--nix", file];
    let before = Snapshot::of(&root);
    let dry = review(&root, ANSWERS, &[&nix[..], &["--dry-run"]].concat()).ok();
    assert!(!Path::new(file).exists());
    let shown: Vec<_> = dry.stdout.lines().skip(1).map(|line| line.strip_prefix("+ ").unwrap()).collect();
    assert_eq!(shown.join("\n") + "\n", expected());

    review(&root, ANSWERS, &nix)
        .ok()
        .prints(&["16 lines added, 0 taken out", "imports = [ ./persist.nix ];"]);
    assert_eq!(fs::read_to_string(file).unwrap(), expected());
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o644);
    // The same again, by another hand and in another order, is the same file.
    let mut lines: Vec<_> = ANSWERS.lines().collect();
    lines.reverse();
    let inode = fs::metadata(file).unwrap().ino();
    review(&root, &lines.join("\n"), &[&nix[..], &["--by", "bob"]].concat()[..2])
        .ok()
        .prints(&["nothing changes"]);
    assert_eq!(fs::metadata(file).unwrap().ino(), inode, "not written at all");

    // One more path, found in an opened disposable directory, and another answer.
    let more = "keep /srv/old/x\nkeep /etc/key  # mine\nundo /srv/old/x\nkeep /srv/old/x  # but this\n";
    let dry = review(&root, more, &[&nix[..], &["--dry-run"]].concat()).ok().stdout;
    let on = today();
    let changes = [
        format!("+       \"/etc/key\"  # kept {on} by ada: mine"),
        format!("+       \"/srv/old/x\"  # kept {on} by ada: but this"),
        "-   # To look into:".to_owned(),
        format!("-   #   \"/etc/key\"  # {on} by ada: whose?"),
    ];
    assert_eq!(dry.lines().skip(1).collect::<Vec<_>>(), changes);
    review(&root, more, &nix).ok();
    let text = fs::read_to_string(file).unwrap();
    for line in expected().lines().filter(|line| !line.contains("look into") && !line.contains("whose?")) {
        assert!(text.contains(line) || line.contains("To look"), "{line} is lost: {text}");
    }
    assert_eq!(Snapshot::of(&root), before, "it changed something");
    if installed("nix-instantiate") {
        run(&["nix-instantiate", "--parse", file]).ok();
    }
    fs::write(file, text.replacen('{', "{\n  boot.tmp.cleanOnBoot = true;", 1)).unwrap();
    review(&root, more, &nix).ok().prints(&["nothing changes"]);
}

fn a_fragment_of_a_manifest() {
    let root = root();
    let file = "/tmp/persist.json";
    let words = ["--fragment", file, "--store", "/data"];
    review(&root, ANSWERS, &words).ok();
    let text = fs::read_to_string(file).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let on = today();
    let answer = |path: &str, answer: &str, why: &str| json!({ "path": path, "answer": answer, "on": on, "by": "ada", "why": why });
    assert_eq!(
        found,
        json!({
            "version": 1,
            "entries": [
                { "file": "/etc/odd \"${name}", "store": "/data" },
                { "directory": "/var/lib/plex", "user": "plex", "group": "plex", "store": "/data" },
            ],
            "answers": [
                answer("/etc/odd \"${name}", "keep", ""),
                answer("/var/lib/plex", "keep", "films"),
                answer("/srv/old", "throw-away", "from last year"),
                answer("/etc/key", "look-into", "whose?"),
            ],
        })
    );
    // Its entries are those of a manifest.
    let whole = json!({ "version": 1, "stores": [{ "path": "/data" }], "entries": found["entries"] });
    fs::write("/tmp/whole.json", whole.to_string()).unwrap();
    run(&[PROGRAM, "compile", "/tmp/whole.json", "-o", "/tmp/whole"]).ok();
    review(&root, ANSWERS, &words).ok().prints(&["nothing changes"]);
    // Entries by hand stay, in any form; the same path has no answer.
    let mut by_hand = found.clone();
    by_hand["entries"].as_array_mut().unwrap().push(json!({ "directory": "/srv/mine", "required": false }));
    fs::write(file, by_hand.to_string()).unwrap();
    put(&root, "/srv/mine/x", "x");
    put(&root, "/etc/new", "x");
    review(&root, "keep /srv/mine\n", &words)
        .expect(1)
        .says(&["/srv/mine: a line written by hand in the file keeps it"]);
    assert_eq!(fs::read_to_string(file).unwrap(), by_hand.to_string());
    review(&root, "keep /etc/new\n", &words).ok();
    let now: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(
        now["entries"],
        json!([
            { "file": "/etc/new", "store": "/data" },
            found["entries"][0],
            { "directory": "/srv/mine", "required": false },
            found["entries"][1],
        ])
    );
    assert_eq!(now["answers"].as_array().unwrap().len(), 5);
    // A changed entry, a key twice, and an answer without entry are no entries by hand.
    for (old, new) in [
        ("\"user\": \"plex\"", "\"user\": \"plex\", \"required\": false"),
        ("\"version\": 1,", "\"version\": 1,\n  \"version\": 1,"),
        ("    { \"file\": \"/etc/odd", "    { \"file\": \"/etc/other"),
    ] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text);
        fs::write(file, &changed).unwrap();
        review(&root, "keep /etc/new\n", &words).expect(1).says(&["persist.json, line ", "--fragment"]);
        assert_eq!(fs::read_to_string(file).unwrap(), changed);
    }
    fs::write(file, text.replace("\"version\": 1,", "\"version\": 1,\n  \"more\": 1,")).unwrap();
    let left = fs::read(file).unwrap();
    review(&root, ANSWERS, &words).expect(1).says(&["persist.json, line 3", "more", "--fragment"]);
    assert_eq!(fs::read(file).unwrap(), left);
}

fn a_file_that_holds_anything_else_is_refused() {
    let root = root();
    let file = Path::new("/tmp/persist.nix");
    let words = ["--nix", "/tmp/persist.nix"];
    let text = expected();
    for (strange, place) in [
        (text.replacen("    files = [\n", "    files = [\n      { file =\n", 1), "line 8"),
        (text.replacen("  };\n", "  };\n  /* services.x.enable = true;\n", 1), "line 11"),
        (text.replace('\n', "\r\n"), "line 1"),
        (format!("\u{feff}{text}"), "line 1"),
        (text.clone() + "]\n", "line 17"),
        ("{ }\n".to_owned(), "line 1"),
        ("{ config, ... }:\n{\n}\n".to_owned(), "line 1"),
    ] {
        fs::write(file, &strange).unwrap();
        let before = fs::metadata(file).unwrap();
        let refused = review(&root, "keep /etc/key\n", &words).expect(1);
        let refused = refused.says(&[&format!("persist.nix, {place}:"), "nothing was written", "--nix"]);
        assert_eq!(refused.stdout, "");
        assert_eq!(fs::read_to_string(file).unwrap(), strange);
        let after = fs::metadata(file).unwrap();
        assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    }
    fs::write(file, b"{\n  \xff\n}\n").unwrap();
    review(&root, "keep /etc/key\n", &words).expect(1).says(&["line 2", "no UTF-8"]);
    fs::remove_file(file).unwrap();
    fs::write("/tmp/other", "").unwrap();
    symlink("/tmp/other", file).unwrap();
    review(&root, "keep /etc/key\n", &words).expect(2).says(&["it is a link"]);
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
    review(&root, "keep /etc/key\n", &words).expect(2).says(&["no regular file"]);
    fs::remove_dir(file).unwrap();
    let words_without = ["--nix", "/nowhere/persist.nix"];
    review(&root, "keep /etc/key\n", &words_without)
        .expect(2)
        .says(&["its directory is not there: mkdir -p /nowhere"]);
    // A full file system: the temporary file is no business of the user, and goes.
    tmpfs(Path::new("/mnt"), "size=8k");
    fs::write("/mnt/persist.nix", &text).unwrap();
    fs::write("/mnt/fill", [0; 4096]).unwrap();
    let full = review(&root, "keep /etc/key\n", &["--nix", "/mnt/persist.nix"]).expect(2);
    assert_eq!(full.stderr, "error: /mnt/persist.nix: writing: No space left on device (os error 28)\n");
    assert_eq!(fs::read_dir("/mnt").unwrap().count(), 2);
    // An empty file is as good as none.
    fs::write(file, "").unwrap();
    review(&root, ANSWERS, &words).ok();
    assert_eq!(fs::read_to_string(file).unwrap(), text);
}

fn lines_by_hand_stay() {
    let root = root();
    let file = Path::new("/tmp/persist.nix");
    let words = ["--nix", "/tmp/persist.nix"];
    let text = expected();
    let mine = [
        ("{\n", "{ config, ... }:\n"),
        ("    files = [\n", "    # of the service\n"),
        ("      \"/etc/odd", "      ./x\n      { file = \"/etc/key\"; mode = \"0600\"; }\n"),
        ("  environment.etc", "\n  services.x = {\n    enable = true;\n  };\n"),
        ("  # To look", "  # as agreed\n"),
    ];
    let mut by_hand = text.clone();
    for (before, mine) in mine {
        by_hand = by_hand.replacen(before, &format!("{mine}{before}"), 1);
    }
    by_hand += "# end\n";
    fs::write(file, &by_hand).unwrap();
    // The same answers change nothing.
    review(&root, ANSWERS.rsplit_once("look-into").unwrap().0, &words).ok();
    assert_eq!(fs::read_to_string(file).unwrap(), by_hand);
    // An answer adds its line. A path kept by hand has none.
    put(&root, "/etc/new", "x");
    review(&root, "keep /etc/new\n", &words).ok();
    let line = format!("      \"/etc/new\"  # kept {} by ada\n", today());
    let expected = by_hand.replacen("      ./x\n", &format!("{line}      ./x\n"), 1);
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
    review(&root, "keep /etc/key\n", &words)
        .expect(1)
        .says(&["/etc/key: a line written by hand in the file keeps it"]);
    // Another answer to each path takes all lines of the review out of the lists, and none of the others.
    let answers = "look-into /etc/new\nlook-into /var/lib/plex\nlook-into \"/etc/odd \\\"${name}\"\n";
    review(&root, answers, &words).ok();
    let now = fs::read_to_string(file).unwrap();
    for (_, mine) in mine {
        assert!(now.contains(mine), "{mine}: {now}");
    }
    assert!(!now.contains("directories") && now.ends_with("}\n# end\n"), "{now}");
    assert!(
        now.contains(
            "    files = [\n      ./x\n      { file = \"/etc/key\"; mode = \"0600\"; }\n    ];\n  };\n"
        ),
        "{now}"
    );
}

fn refused_answers() {
    let root = root();
    fs::write(root.join(OsStr::from_bytes(b"etc/\xff\x1b[31m")), "x").unwrap();
    put(&root, "/etc/two\nlines", "x");
    let words = ["--nix", "/tmp/persist.nix"];
    for (answers, told) in [
        ("burn /etc/key", "line 1: `burn` is no answer"),
        ("keep", "there is no path"),
        ("keep etc/key", "no absolute path"),
        ("\nthrow-away /srv/old", "line 2: /srv/old: what is thrown away needs a reason"),
        ("keep /nowhere", "nothing would be gone there"),
        ("keep /tmp/x", "nothing would be gone there"),
        ("undo /etc/key", "no answer was given"),
        ("keep-now /etc/key", "only the running system"),
        ("throw-away \"/etc/two\\nlines\"  # x", "/etc/two\\nlines: its name has a line end"),
        (
            "keep /srv/old\nthrow-away /srv/old/x  # x",
            "line 2: /srv/old/x: /srv/old/ is kept, and this with it",
        ),
    ] {
        review(&root, answers, &words).expect(1).says(&["/tmp/answers, line", told]);
        assert!(!Path::new("/tmp/persist.nix").exists(), "{answers}");
    }
    // Correct lines beside wrong ones are not written either, and every line is named.
    let refused = review(&root, "keep /etc/key\nkeep /a\nkeep /b\n", &words).expect(1);
    refused.says(&["line 2: /a", "line 3: /b", "2 problems"]);
    let mut line = words_of(&root);
    line.extend(["--answers", "/nowhere"].map(OsString::from));
    run(&line).expect(2).says(&["/nowhere"]);
    review(&root, "keep /etc/key", &["--by", "a:b"][..0]).ok();
    fs::remove_file("persist.nix").unwrap();
}

fn the_file_keeps_its_owner_and_mode() {
    let root = root();
    let file = Path::new("/tmp/persist.nix");
    fs::write(file, "").unwrap();
    chown(file, Some(1234), Some(4321)).unwrap();
    fs::set_permissions(file, PermissionsExt::from_mode(0o640)).unwrap();
    review(&root, ANSWERS, &["--nix", "/tmp/persist.nix"]).ok();
    let stat = run(&["stat", "-c", "%u:%g %a", "/tmp/persist.nix"]).ok().stdout;
    assert_eq!(stat, "1234:4321 640\n");
    assert_eq!(fs::read_to_string(file).unwrap(), expected());
    let left: Vec<_> =
        fs::read_dir("/tmp").unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with(".tmp")), "{left:?}");
}

/// Answered paths are not asked again once a configuration has them.
fn kept_and_thrown_away_is_lost_no_more() {
    let root = root();
    review(&root, ANSWERS, &["--fragment", "/tmp/persist.json"]).ok();
    let found: Value = serde_json::from_slice(&fs::read("/tmp/persist.json").unwrap()).unwrap();
    let mut whole = manifest(Value::Null, found["entries"].clone());
    whole["ids"] = json!({ "users": { "plex": 193 }, "groups": { "plex": 193 } });
    fs::write("/tmp/manifest.json", whole.to_string()).unwrap();
    let patterns: Vec<_> =
        found["answers"].as_array().unwrap().iter().filter(|it| it["answer"] == "throw-away").collect();
    fs::write("/tmp/throw-away", patterns[0]["path"].as_str().unwrap()).unwrap();
    let text = run(&[
        PROGRAM,
        "lost",
        "--json",
        "--root",
        "/tmp/root",
        "--manifest",
        "/tmp/manifest.json",
        "--throw-away-from",
        "/tmp/throw-away",
    ]);
    let lost: Value = serde_json::from_str(&text.stdout).unwrap();
    let paths: Vec<_> =
        lost["lost"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert!(!paths.contains(&"/srv/old"), "{paths:?}");
    assert!(paths.contains(&"/etc/key"), "{paths:?}");
}

/// Adopted besides, and nothing in a dry run.
fn paths_kept_now_are_adopted() {
    let machine = started(json!([{ "directory": "/var/lib/plex" }]));
    put(&machine.at(""), "/var/lib/new/x", "content");
    put(&machine.at(""), "/tmp/answers", "keep-now /var/lib/new  # now\n");
    let words = ["--answers", "/tmp/answers", "--nix", "/tmp/persist.nix"];
    let dry = machine.impctl("review", &[&words[..], &["--dry-run"]].concat()).ok();
    dry.prints(&["would adopt /var/lib/new"]);
    assert!(!machine.at("/persist/var/lib/new").exists() && !machine.at("/tmp/persist.nix").exists());
    let done =
        machine.impctl("review", &words).ok().prints(&["/var/lib/new: mounted from /persist/var/lib/new"]);
    assert!(!done.stdout.contains("add to the configuration"), "its line is there: {done:?}");
    assert_eq!(fs::read_to_string(machine.at("/persist/var/lib/new/x")).unwrap(), "content");
    let text = fs::read_to_string(machine.at("/tmp/persist.nix")).unwrap();
    assert!(text.contains("\"/var/lib/new\"  # kept ") && text.contains(": now\n"), "{text}");
}

fn two_at_once() {
    let root = root();
    let nix = "/tmp/persist.nix";
    review(&root, "keep /etc/key\n", &["--nix", nix]).ok();
    let before = fs::read_to_string(nix).unwrap();
    review(&root, "keep /srv/old\n", &["--nix", nix]).ok();
    let of_another = fs::read_to_string(nix).unwrap();
    fs::write(nix, before).unwrap();
    // While one writes, the other waits.
    let directory = fs::File::open("/tmp").unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    fs::write("/tmp/answers", "keep /var/lib/plex\n").unwrap();
    let mut line = words_of(&root);
    line.extend(["--answers", "/tmp/answers", "--nix", nix].map(OsString::from));
    let other = start(&line);
    sleep(Duration::from_millis(500));
    fs::write(nix, of_another).unwrap();
    flock(&directory, FlockOperation::Unlock).unwrap();
    other.end().ok();
    let text = fs::read_to_string(nix).unwrap();
    for path in ["/etc/key", "/srv/old", "/var/lib/plex"] {
        assert!(text.contains(path), "no {path} in {text}");
    }
}
