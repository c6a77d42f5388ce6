//! The review on a terminal: a tmux session of its own.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::{PROGRAM, root, today, words_of};
use crate::support::namespace::tmpfs;
use crate::support::run;

const SOCKET: &str = "/tmp/tmux";

/// A tmux(1) terminal with the program. The server is a child, so that it ends with the test.
struct Screen(Child);

impl Screen {
    fn start(size: (u32, u32), words: &[&str]) -> Self {
        let server = Command::new("tmux")
            .args(["-S", SOCKET, "-D", "-f", "/dev/null"])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .spawn();
        let this = Self(server.unwrap());
        while !Path::new(SOCKET).exists() {
            sleep(Duration::from_millis(20));
        }
        let (width, height) = (size.0.to_string(), size.1.to_string());
        // The last output stays, with the exit status.
        let line =
            format!("TERM=vt100 {PROGRAM} review --by ada {}; echo ended: $?; exec cat", words.join(" "));
        this.tmux(&["new-session", "-d", "-x", &width, "-y", &height, "--", "sh", "-c", &line]);
        this
    }

    #[expect(clippy::unused_self, reason = "its server must be there")]
    fn tmux(&self, words: &[&str]) -> String {
        let output =
            Command::new("tmux").args(["-S", SOCKET]).args(words).env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types keys, as tmux(1) calls them.
    fn keys(&self, keys: &[&str]) {
        for key in keys {
            self.tmux(&["send-keys", key]);
        }
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits for a text on the screen, and returns the whole screen.
    #[track_caller]
    fn await_text(&self, words: &str) -> String {
        loop {
            let text = self.text();
            if text.contains(words) {
                return text;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Its processes get SIGHUP.
        self.tmux(&["kill-server"]);
        self.0.wait().unwrap();
        let _ = fs::remove_file(SOCKET);
    }
}

pub fn on_a_terminal() {
    let root = root();
    fs::write(root.join(OsStr::from_bytes(b"etc/\xff\x1b[31m")), "x").unwrap();
    let nix = "/tmp/persist.nix";
    let screen = Screen::start((80, 24), &["--root", "/tmp/root", "--nix", nix]);
    let text = screen.await_text("q quit");
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("impctl review: ") && lines[0].ends_with("largest first; 0 answers"),
        "{text}"
    );
    assert_eq!(lines[1], "  ANSWER   SIZE   CHANGED  WOULD BE GONE");
    assert!(lines[2].starts_with('>') && lines[2].ends_with("+ /var/lib/plex/  plex.service"), "{text}");
    assert!(text.contains("+ /srv/old/"), "{text}");
    assert!(text.contains("\\xff\\u{1b}[31m"), "{text}");
    assert_eq!(lines[21], "/var/lib/plex/", "{text}");

    // The directory is opened, and one half is kept.
    screen.keys(&["Right"]);
    screen.await_text("+ cache/");
    screen.keys(&["Down", "b"]);
    let about = screen.await_text("any key goes back");
    assert!(
        about.contains("belongs to  plex.service") && about.contains("to keep it  \"/var/lib/plex/cache\""),
        "{about}"
    );
    screen.keys(&["x", "t"]);
    screen.await_text("Why may it be lost? _");
    screen.keys(&["Enter"]);
    screen.await_text("Why may it be lost? _");
    screen.keys(&["made anew", "Enter"]);
    let text = screen.await_text("; 1 answer\n");
    assert!(text.lines().any(|line| line.starts_with("  away ") && line.contains("+ cache/")), "{text}");
    screen.keys(&["k"]);
    screen.await_text("2 answers");
    screen.keys(&["u"]);
    screen.await_text("1 answer\n");
    screen.keys(&["Up", "k", "n"]);
    screen.await_text("2 answers");
    screen.keys(&["q"]);
    screen.await_text("Answers are not written.");
    screen.keys(&["w"]);
    let text = screen.await_text("ended: 0");
    assert!(text.contains("added, 0 taken out") && !text.contains("q quit"), "{text}");
    let text = fs::read_to_string(nix).unwrap();
    let on = today();
    assert!(text.contains(&format!("\"/var/lib/plex/cache\"  # {on} by ada: made anew")), "{text}");
    assert!(text.contains(&format!("\"/var/lib/plex/db\"  # kept {on} by ada")), "{text}");
    assert!(!Path::new("/tmp/persist.nix.answers").exists());
}

pub fn a_terminal_of_another_size() {
    let _root = root();
    let screen = Screen::start((80, 24), &["--root", "/tmp/root", "--nix", "/tmp/persist.nix"]);
    screen.await_text("q quit");
    for (width, height) in [("40", "10"), ("120", "40"), ("20", "4"), ("80", "24")] {
        screen.tmux(&["resize-window", "-x", width, "-y", height]);
        let last = height.parse::<usize>().unwrap() - 1;
        loop {
            let text = screen.text();
            let lines: Vec<_> = text.lines().collect();
            let is_last = lines.get(last).is_some_and(|line| line.starts_with("? help"));
            if is_last && lines[0].starts_with("impctl review") {
                break;
            }
            sleep(Duration::from_millis(20));
        }
    }
    screen.keys(&["q"]);
    screen.await_text("ended: 0");
    assert!(!Path::new("/tmp/persist.nix").exists());
}

pub fn a_terminal_that_goes_away() {
    let _root = root();
    let words = ["--root", "/tmp/root", "--nix", "/tmp/persist.nix"];
    let screen = Screen::start((80, 24), &words);
    screen.await_text("q quit");
    screen.keys(&["k"]);
    screen.await_text("1 answer\n");
    drop(screen);
    let left = Path::new("/tmp/persist.nix.answers");
    while fs::read_to_string(left).unwrap_or_default().is_empty() {
        sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_to_string(left).unwrap(), "keep /var/lib/plex\n");
    assert!(!Path::new("/tmp/persist.nix").exists(), "nothing was written");
    // The next run continues the review.
    let screen = Screen::start((80, 24), &words);
    let text = screen.await_text("1 answer of a review that was cut off");
    assert!(text.contains("keep"), "{text}");
    screen.keys(&["w"]);
    screen.await_text("ended: 0");
    assert!(fs::read_to_string("/tmp/persist.nix").unwrap().contains("/var/lib/plex"));
    assert!(!left.exists());
}

pub fn unusable_saved_answers_stay() {
    let _root = root();
    let (nix, left) = ("/tmp/persist.nix", "/tmp/persist.nix.answers");
    let words = ["--root", "/tmp/root", "--nix", nix];
    fs::write(left, "keep /elsewhere/x  # precious\nmy own notes\nkeep /var/lib/plex  # films\n").unwrap();
    let screen = Screen::start((80, 24), &words);
    screen.await_text("1 answer of a review that was cut off; 2 lines of it cannot be used now");
    screen.keys(&["w"]);
    screen.await_text("ended: 0");
    assert!(fs::read_to_string(nix).unwrap().contains("ada: films"));
    let kept = "keep /elsewhere/x  # precious\nmy own notes\n";
    assert_eq!(fs::read_to_string(left).unwrap(), kept);
    drop(screen);
    // One cut off again adds to them.
    let screen = Screen::start((80, 24), &words);
    screen.await_text("0 answers of a review that was cut off; 2 lines of it cannot be used now");
    screen.keys(&["Down", "k"]);
    screen.await_text("1 answer");
    drop(screen);
    while fs::read_to_string(left).unwrap() == kept {
        sleep(Duration::from_millis(20));
    }
    let text = fs::read_to_string(left).unwrap();
    assert!(text.starts_with(kept) && text.lines().count() == 3, "{text}");
}

pub fn answers_that_cannot_be_left() {
    let _root = root();
    fs::create_dir("/tmp/full").unwrap();
    tmpfs("/tmp/full", "size=4k");
    let screen = Screen::start((80, 24), &["--root", "/tmp/root", "--nix", "/tmp/full/persist.nix"]);
    screen.await_text("q quit");
    fs::write("/tmp/full/x", [b'x'; 4096]).unwrap();
    screen.keys(&["k"]);
    screen.await_text("1 answer\n");
    screen.keys(&["w"]);
    let text = screen.await_text("ended: 2");
    assert!(text.contains("\nkeep /var/lib/plex\n"), "{text}");
    assert!(text.contains("full/persist.nix: writing: No space left"), "{text}");
}

pub fn a_directory_that_cannot_be_written() {
    let _root = root();
    fs::create_dir("/tmp/fixed").unwrap();
    tmpfs("/tmp/fixed", "ro");
    let screen = Screen::start((80, 24), &["--root", "/tmp/root", "--nix", "/tmp/fixed/persist.nix"]);
    let text = screen.await_text("ended: 2");
    assert!(text.contains("Read-only file system"), "{text}");
}

pub fn without_a_terminal() {
    let root = root();
    let mut line = words_of(&root);
    line.extend(["--nix", "/tmp/persist.nix"].map(OsString::from));
    let refused = run(&line).expect(2).says(&["no terminal", "--answers FILE"]);
    assert_eq!(refused.stdout, "");
}
