//! /etc/passwd and /etc/group, whose first three fields are the same: see passwd(5) and group(5).

use super::Table;
use crate::text::problem::{Problem, Result};

/// Names and ids of a colon file; for a duplicate name the first, as with getpwnam(3).
///
/// Malformed lines are skipped, as everywhere else. A file with NUL bytes is refused as a whole: a file system may
/// leave such a file after a power cut during writing.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    if bytes.contains(&0) {
        return Err(Problem::new("holds NUL bytes, as after a crash, so it is ignored")
            .remedy("restore it from a backup, or move it away; it is written anew at the next activation"));
    }
    let mut table = Table::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some((name, id)) = entry(line) {
            table.entry(name.to_owned()).or_insert(id);
        }
    }
    Ok(table)
}

/// `name:password:id:` and more. The colon after the id is required: without the colon the id may be truncated.
fn entry(line: &[u8]) -> Option<(&str, u32)> {
    let mut fields = line.split(|byte| *byte == b':');
    let (name, _password, id, _rest) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let name = str::from_utf8(name).ok()?;
    let is_name = !name.is_empty() && !name.starts_with(['#', '+', '-']);
    is_name.then_some((name, super::decimal(str::from_utf8(id).ok()?)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn users_and_groups() {
        let passwd = b"root:x:0:0::/root:/bin/sh\nplex:x:193:193:Plex:/var/lib/plex:/bin/nologin\n";
        assert_eq!(parse(passwd).unwrap()["plex"], 193);
        let group = b"wheel:x:1:alice,bob\nplex:x:193:";
        assert_eq!(parse(group).unwrap(), Table::from([("wheel".to_owned(), 1), ("plex".to_owned(), 193)]));
        assert_eq!(parse(b"a:x:1:\na:x:2:\n").unwrap()["a"], 1, "the first one counts");
    }

    #[test]
    fn lines_that_say_nothing() {
        for line in [
            "",
            ":",
            "a",
            "a:x",
            "a:x:1",
            ":x:1:",
            "a:x::",
            "a:x:+1:",
            "a:x:-1:",
            "a:x: 1:",
            "a:x:1x:",
            "a:x:4294967296:",
            "#a:x:1:",
            "+a:x:1:",
            "+::::::",
            "a\u{e9}:x:\u{661}:",
        ] {
            assert!(parse(line.as_bytes()).unwrap().is_empty(), "{line}");
        }
        assert_eq!(parse(b"\xff:x:1:\n\r\nb:x:2:\n").unwrap().len(), 1);
    }

    #[test]
    fn remains_of_a_crash_are_refused() {
        assert!(parse(b"a:x:1:\n\0\0\0\0").unwrap_err().what.contains("NUL"));
    }
}
