//! Permission bits, as chmod(1) and `mkdir --mode` read them.

/// Every permission bit, with setuid, setgid and sticky.
pub const ALL: u16 = 0o7777;
/// The two bits kept by chmod on a directory unless named.
const SET_ID: u16 = 0o6000;

/// Reads a mode, octal (`750`, `02755`) or symbolic (`u=rwx,g=rX,o=`); a symbolic one changes 0777 for directories and
/// 0666 for files, under a umask of 0.
///
/// # Errors
/// Why the text is no mode.
pub fn parse(text: &str, directory: bool) -> Result<u16, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 5 {
            return Err(format!("`{text}` is too long for an octal mode; `0755` is one"));
        }
        let mode = octal(text).ok_or_else(|| format!("`{text}` is not octal: its digits go from 0 to 7"))?;
        return if mode > ALL { Err(format!("`{text}` is above 07777, the highest mode")) } else { Ok(mode) };
    }
    symbolic(text, directory).ok_or_else(|| {
        format!(
            "`{}` is no mode; write it in octal such as `0750`, or as chmod takes it, such as `u=rwx,g=rx,o=`",
            crate::text::escape::name(text)
        )
    })
}

/// A mode in four octal digits.
#[must_use]
pub fn show(mode: u16) -> String {
    format!("{mode:04o}")
}

fn octal(digits: &str) -> Option<u16> {
    u16::from_str_radix(digits, 8).ok()
}

fn symbolic(text: &str, directory: bool) -> Option<u16> {
    let mut mode = if directory { 0o777 } else { 0o666 };
    for clause in text.split(',') {
        let (who, mut rest) = clause.split_at(clause.find(|letter| !"ugoa".contains(letter))?);
        let affected = who.bytes().fold(0, |affected, letter| {
            affected
                | match letter {
                    b'u' => 0o4700,
                    b'g' => 0o2070,
                    b'o' => 0o1007,
                    _ => ALL,
                }
        });
        while !rest.is_empty() {
            let operator = rest.chars().next().filter(|operator| "+-=".contains(*operator))?;
            let change = &rest[1..];
            let (what, next) = change.split_at(change.find(['+', '-', '=']).unwrap_or(change.len()));
            let digits = what.starts_with(|first: char| first.is_ascii_digit());
            if digits && !(who.is_empty() && next.is_empty()) {
                return None;
            }
            let (value, named) = if digits {
                (octal(what).filter(|mode| *mode <= ALL)?, ALL)
            } else {
                bits(what, mode, directory)?
            };
            mode = apply(mode, operator, if affected == 0 { ALL } else { affected }, value, named, directory);
            rest = next;
        }
    }
    Some(mode)
}

/// Permission letters after an operator: bits in every class of users, and bits named.
fn bits(letters: &str, mode: u16, directory: bool) -> Option<(u16, u16)> {
    let copied = match letters {
        "u" => Some(mode >> 6),
        "g" => Some(mode >> 3),
        "o" => Some(mode),
        _ => None,
    };
    if let Some(copied) = copied {
        return Some(((copied & 7) * 0o111, 0));
    }
    let value = letters.bytes().try_fold(0, |value, letter| {
        Some(
            value
                | match letter {
                    b'r' => 0o444,
                    b'w' => 0o222,
                    b'x' => 0o111,
                    b'X' if directory || mode & 0o111 != 0 => 0o111,
                    b'X' => 0,
                    b's' => SET_ID,
                    b't' => 0o1000,
                    _ => return None,
                },
        )
    })?;
    Some((value, value))
}

fn apply(mode: u16, operator: char, affected: u16, value: u16, named: u16, directory: bool) -> u16 {
    let kept = if directory { SET_ID & !(named & affected) } else { 0 };
    let value = value & affected & !kept;
    match operator {
        '+' => mode | value,
        '-' => mode & !value,
        _ => mode & (!affected | kept) | value,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// A mode as written, and its result for a directory and for a file.
    const FORMS: [(&str, u16, u16); 28] = [
        ("7", 0o007, 0o007),
        ("750", 0o750, 0o750),
        ("0700", 0o700, 0o700),
        ("1777", 0o1777, 0o1777),
        ("2755", 0o2755, 0o2755),
        ("02755", 0o2755, 0o2755),
        ("4770", 0o4770, 0o4770),
        ("u=rwx,g=rx,o=", 0o750, 0o750),
        ("u=rwx,g=rs,o=rx", 0o2745, 0o2745),
        ("u=rwX,g=rX,o=", 0o750, 0o640),
        ("u=rwx,g=,o=", 0o700, 0o700),
        ("a-w", 0o555, 0o444),
        ("-w", 0o555, 0o444),
        ("+t", 0o1777, 0o1666),
        ("o+t", 0o1777, 0o1666),
        ("u+t", 0o777, 0o666),
        ("+s", 0o6777, 0o6666),
        ("o+s", 0o777, 0o666),
        ("g=u", 0o777, 0o666),
        ("u=rw,g=u-w,o=g", 0o644, 0o644),
        ("ug+s,ug=rwx", 0o6777, 0o776),
        ("u+s,u=", 0o4077, 0o066),
        ("ug=rwx-x,o-rwx", 0o660, 0o660),
        ("=", 0, 0),
        ("=0750", 0o750, 0o750),
        ("+4000,o=", 0o4770, 0o4660),
        ("uga=r,+X", 0o555, 0o444),
        ("u+x,+X", 0o777, 0o777),
    ];

    #[test]
    fn every_form_is_read() {
        for (text, directory, file) in FORMS {
            assert_eq!(parse(text, true), Ok(directory), "directory {text}");
            assert_eq!(parse(text, false), Ok(file), "file {text}");
        }
    }

    #[test]
    fn coreutils_agree() {
        let scratch = tempfile::tempdir().unwrap();
        // Without a setgid bit of its own, which new directories would take over.
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).unwrap();
        // The `m` directories test mkdir's own `-m`. mkdir creates a sticky directory without write permission for
        // others, and does not add the permission for a mode without `o`: `+t` is not tested with mkdir.
        let script = r#"umask 0
            mkdir "d$2" && : >"f$2" && chmod -- "$1" "d$2" "f$2"
            case $1 in *t*) set -- "$3" "$2" ;; esac; mkdir -m "$1" "m$2""#;
        // Builders of Nix refuse both bits.
        let special = std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o6700)).is_ok();
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).unwrap();
        if !special {
            eprintln!("SKIPPED: modes with setuid or setgid, which cannot be set here");
        }
        for (index, (text, directory, file)) in FORMS.into_iter().enumerate() {
            if !special && (directory | file) & 0o6000 != 0 {
                continue;
            }
            let status = Command::new("sh")
                .args(["-c", script, "sh", text, &index.to_string(), &show(directory)])
                .current_dir(scratch.path())
                .status()
                .unwrap();
            assert!(status.success(), "{text}");
            for (kind, wanted) in [("d", directory), ("m", directory), ("f", file)] {
                let mode =
                    scratch.path().join(format!("{kind}{index}")).metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o7777, u32::from(wanted), "{kind} {text}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no mode"),
            ("rwx", "no mode"),
            ("u", "no mode"),
            ("u=rwz", "no mode"),
            ("u=rwx,", "no mode"),
            ("z=r", "no mode"),
            ("u=755", "no mode"),
            ("=755-1", "no mode"),
            ("=10000", "no mode"),
            ("g=ux", "no mode"),
            ("0o755", "no mode"),
            ("ü=r", "no mode"),
            ("789", "not octal"),
            ("10000", "above 07777"),
            ("000755", "too long"),
        ] {
            let why = parse(text, true).unwrap_err();
            assert!(why.contains(reason), "{text}: {why}");
        }
    }

    #[test]
    fn modes_are_shown_in_four_digits() {
        assert_eq!([0o755, 0o2750, 0].map(show), ["0755", "2750", "0000"]);
    }
}
