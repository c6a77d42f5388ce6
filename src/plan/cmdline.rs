//! The kernel command line: boots a system whose manifest fails.

use crate::manifest::AbsPath;
use crate::text::escape;

/// Most paths to leave out in a suggestion.
const WAYS_OUT: usize = 8;

/// Arguments of imp-mount on the kernel command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelArgs {
    /// `imp-mount=off`: mount only the needs of the boot.
    pub off: bool,
    /// `imp-mount.skip=PATH[,PATH]`: entries to leave out, guarded.
    pub skip: Vec<AbsPath>,
    /// `imp-mount.check`: check verbosely before mounting.
    pub check: bool,
    /// Unknown arguments of imp-mount, each with the reason, for a warning.
    pub unknown: Vec<String>,
}

impl KernelArgs {
    /// Reads a command line in the form of /proc/cmdline. No error: a boot must not depend on a spelling.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut this = Self::default();
        for (name, value) in words(line) {
            // The kernel takes the two for the same in the names of its own parameters.
            let canonical = name.replace('_', "-");
            match (canonical.as_str(), value) {
                ("imp-mount", Some("off")) => this.off = true,
                ("imp-mount.check", None) => this.check = true,
                ("imp-mount.skip", Some(paths)) => paths.split(',').for_each(|path| this.skip(path)),
                ("imp-mount", _) => this.unknown(name, value, "write imp-mount=off"),
                ("imp-mount.check", _) => this.unknown(name, value, "it takes no value"),
                ("imp-mount.skip", _) => this.unknown(name, value, "write imp-mount.skip=PATH[,PATH]"),
                (other, _) if other.starts_with("imp-mount") => {
                    this.unknown(
                        name,
                        value,
                        "known are imp-mount=off, imp-mount.skip=PATH[,PATH], imp-mount.check",
                    );
                }
                _ => {}
            }
        }
        this
    }

    /// The kernel argument to leave out these paths, as typed; none without a path. A path with an invisible character
    /// or with a separator of paths or arguments is replaced by a directory above.
    #[must_use]
    pub fn leaving_out<'p>(paths: impl Iterator<Item = &'p str>) -> Option<String> {
        let is_plain =
            |path: &str| path.len() > 1 && !path.contains([',', '"', '\\']) && *escape::name(path) == *path;
        let mut named: Vec<&str> = Vec::new();
        for mut path in paths {
            while path.starts_with('/') && !is_plain(path) {
                path = &path[..path.rfind('/').unwrap_or_default()];
            }
            if path.starts_with('/') && !named.contains(&path) {
                named.push(path);
            }
        }
        named.truncate(WAYS_OUT);
        let list = named.join(",");
        let quote = if list.contains(' ') { "\"" } else { "" };
        (!list.is_empty()).then(|| format!("imp-mount.skip={quote}{list}{quote}"))
    }

    /// The arguments with an effect, as on the kernel command line.
    #[must_use]
    pub fn effective(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.off {
            words.push("imp-mount=off".to_owned());
        }
        if self.check {
            words.push("imp-mount.check".to_owned());
        }
        words.extend(self.skip.iter().map(|path| format!("imp-mount.skip={path}")));
        words
    }

    fn skip(&mut self, text: &str) {
        match AbsPath::parse(text) {
            Ok(path) => self.skip.push(path),
            Err(reason) => self.unknown("imp-mount.skip", Some(text), &reason),
        }
    }

    fn unknown(&mut self, name: &str, value: Option<&str>, reason: &str) {
        let (equals, value) = value.map_or(("", ""), |value| ("=", value));
        self.unknown.push(format!(
            "{}: {}",
            escape::name(&format!("{name}{equals}{value}")),
            escape::name(reason)
        ));
    }
}

/// Names and values up to `--`, after which they are init's; quoted as in the kernel's `next_arg` (lib/cmdline.c):
/// quotes keep blanks together wherever they stand, and are taken off around a whole word and around a value.
fn words(line: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(blank);
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            blank(c) && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        (!word.is_empty()).then(|| split(word))
    })
    .take_while(|word| *word != ("--", None))
}

fn split(word: &str) -> (&str, Option<&str>) {
    let word = unquote(word);
    match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => (name, Some(unquote(value))),
        _ => (word, None),
    }
}

/// Takes off an opening quote, and the closing one if there is any.
fn unquote(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

/// C's isspace for ASCII, as in the kernel.
fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn skipped(line: &str) -> Vec<String> {
        let words = KernelArgs::parse(line);
        assert_eq!(words.unknown, [""; 0], "{line}");
        words.skip.iter().map(|path| path.as_str().to_owned()).collect()
    }

    #[test]
    fn the_word_that_is_printed_works() {
        for (paths, word) in [
            (&["/srv", "/etc/a"][..], Some("imp-mount.skip=/srv,/etc/a")),
            (&["/etc/a b", "/srv"], Some("imp-mount.skip=\"/etc/a b,/srv\"")),
            (&["/etc/a,b", "/etc/c\"", "/etc/d\\"], Some("imp-mount.skip=/etc")),
            (&["/a\n/b", "/", "root"], None),
            (&[], None),
        ] {
            let made = KernelArgs::leaving_out(paths.iter().copied());
            assert_eq!(made.as_deref(), word);
            let read = KernelArgs::parse(&made.unwrap_or_default());
            assert_eq!(read.unknown, [""; 0]);
            assert_eq!(read.skip.is_empty(), word.is_none());
        }
    }

    #[test]
    fn arguments_of_other_programs_are_ignored() {
        for line in [
            "",
            "\n",
            "root=fstab loglevel=4 quiet",
            "x=imp-mount=off off BOOT_IMAGE=/imp-mount",
            "=imp-mount",
        ] {
            assert_eq!(KernelArgs::parse(line), KernelArgs::default(), "{line}");
        }
    }

    #[test]
    fn the_three_words() {
        let words = KernelArgs::parse("quiet imp-mount=off imp-mount.check imp-mount.skip=/a root=LABEL=x\n");
        assert!(words.off && words.check && words.unknown.is_empty());
        assert_eq!(words.skip, [AbsPath::parse("/a").unwrap()]);
        assert!(KernelArgs::parse("imp_mount=off").off && KernelArgs::parse("imp_mount.check").check);
        assert_eq!(
            skipped("imp_mount.skip=/var/lib/a_b-c"),
            ["/var/lib/a_b-c"],
            "only names are taken for alike"
        );
    }

    #[test]
    fn paths_to_skip() {
        assert_eq!(skipped("imp-mount.skip=/a,/b imp-mount.skip=/c//d/"), ["/a", "/b", "/c/d"]);
        assert_eq!(skipped(r#"imp-mount.skip="/My Files,/b" x"#), ["/My Files", "/b"]);
        assert_eq!(skipped(r#""imp-mount.skip=/My Files" x"#), ["/My Files"]);
        assert_eq!(skipped(r#"x="a b" imp-mount.skip=/a"#), ["/a"]);
        assert_eq!(
            skipped(r#"imp-mount.skip="/never closed imp-mount=off"#),
            ["/never closed imp-mount=off"]
        );
        // Quotes inside a value keep blanks, and stay: so does the kernel.
        assert_eq!(skipped(r#"imp-mount.skip=/a" "b"#), [r#"/a" "b"#]);
    }

    #[test]
    fn words_after_two_dashes_are_for_init() {
        assert_eq!(KernelArgs::parse("quiet -- imp-mount=off imp-mount.check"), KernelArgs::default());
        assert!(KernelArgs::parse("--x x=-- --=1 imp-mount=off").off);
        assert!(
            KernelArgs::parse(r#"imp-mount=off "--" imp-mount.check"#)
                == KernelArgs { off: true, ..KernelArgs::default() }
        );
    }

    #[test]
    fn unknown_arguments_are_named() {
        for (word, why) in [
            ("imp-mount", "write imp-mount=off"),
            ("imp-mount=of", "write imp-mount=off"),
            ("imp-mount.of=1", "known are"),
            ("imp-mount.chekc", "known are"),
            ("imp_mountoff", "known are"),
            ("imp-mount.check=1", "no value"),
            ("imp-mount.skip", "PATH"),
            ("imp-mount.skip=", "empty"),
            ("imp-mount.skip=home", "relative"),
            ("imp-mount.skip=/a/../b", "`..`"),
        ] {
            let words = KernelArgs::parse(&format!("a {word} b"));
            assert_eq!(words.unknown.len(), 1, "{words:?}");
            assert!(words.unknown[0].starts_with(word) && words.unknown[0].contains(why), "{words:?}");
            assert_eq!(words, KernelArgs { unknown: words.unknown.clone(), ..KernelArgs::default() });
        }
        let words = KernelArgs::parse("imp-mount.skip=/a,b,/c");
        assert_eq!((words.skip.len(), words.unknown.len()), (2, 1), "the rest of the list still counts");
        assert!(!KernelArgs::parse("\"imp-mount.x\u{1b}[2J\nfoo\"").unknown[0].contains(char::is_control));
    }
}
