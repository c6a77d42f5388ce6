//! Errors of single values, independent of the rest of the manifest.

use super::super::options::split;
use super::super::{AbsPath, Id, Ids, Owner, Root, Store, mode};
use crate::manifest::device::device_path;
use crate::text::escape;
use crate::text::problem::Problem;

/// chown(2)'s id for "unchanged".
const NO_ID: u32 = u32::MAX;
/// No system fits into less: the suffix was forgotten.
const LEAST_BYTES: u64 = 1 << 20;
/// No system gets by with fewer: the suffix was forgotten.
const LEAST_INODES: u64 = 1000;
/// fsconfig(2)'s longest text.
const FSCONFIG_MAX: usize = 255;
/// Prefixes of device tags, as in fstab(5).
const TAGS: [&str; 4] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="];

/// Options of the root's file system other than mount flags: tmpfs(5), as of Linux 6.18, and options of every file
/// system.
const TMPFS: [&str; 24] = [
    "async",
    "casefold",
    "context",
    "defcontext",
    "dirsync",
    "fscontext",
    "grpquota",
    "grpquota_block_hardlimit",
    "grpquota_inode_hardlimit",
    "huge",
    "inode32",
    "inode64",
    "lazytime",
    "mpol",
    "nolazytime",
    "noswap",
    "quota",
    "rootcontext",
    "seclabel",
    "strict_encoding",
    "sync",
    "usrquota",
    "usrquota_block_hardlimit",
    "usrquota_inode_hardlimit",
];

fn problem(what: impl Into<String>, remedy: &str) -> Problem {
    Problem::new(what).remedy(remedy)
}

/// Errors in a root.
pub fn root(root: &Root) -> Vec<Problem> {
    if let Some(on) = &root.on {
        return root_on(root, on);
    }
    let mut problems = Vec::new();
    if let Some(size) = &root.size {
        let shown = escape::name(size);
        match (amount(size), size.strip_suffix('%').map(str::parse::<u64>)) {
            (Some(bytes), _) if bytes < LEAST_BYTES => problems.push(problem(
                format!("`size`: {shown} is {bytes} bytes, and no system fits into that"),
                "write it with a suffix, such as 8G or 50%",
            )),
            (Some(_), _) => {}
            (None, Some(Ok(percent))) if percent > 0 && digits(size.trim_end_matches('%')) => {}
            _ => problems.push(problem(
                format!("`size`: `{shown}` is no size"),
                "write a number of bytes, with k, m or g after it, or a share of the memory such as 50%",
            )),
        }
    }
    if let Some(inodes) = &root.inodes {
        let shown = escape::name(inodes);
        match amount(inodes) {
            Some(1..LEAST_INODES) => problems.push(problem(
                format!("`inodes`: {shown} is too few for any system"),
                "write it with a suffix, such as 1M, or 0 for no limit",
            )),
            Some(_) => {}
            None => problems.push(problem(
                format!("`inodes`: `{shown}` is no number of inodes"),
                "write a number, with k, m or g after it; 0 is no limit",
            )),
        }
    }
    problems.extend(bits("", root.mode));
    for (name, _) in split(&root.options).filesystem {
        let shown = escape::name(name);
        problems.extend(match name {
            "size" | "nr_blocks" => {
                Some(problem(format!("`options`: {shown} has a key of its own"), "use `root.size`"))
            }
            "nr_inodes" => {
                Some(problem(format!("`options`: {shown} has a key of its own"), "use `root.inodes`"))
            }
            "mode" => Some(problem(format!("`options`: {shown} has a key of its own"), "use `root.mode`")),
            "uid" | "gid" => Some(problem(
                format!("`options`: {shown} cannot be given: / belongs to root"),
                "leave it out",
            )),
            "ro" => Some(problem("`options`: ro would leave nothing to build the root in", "leave it out")),
            _ if TMPFS.contains(&name) => None,
            _ => Some(problem(format!("`options`: tmpfs has no option `{shown}`"), "see tmpfs(5)")),
        });
    }
    problems.extend(long_options(&root.options));
    problems
}

/// Errors in a root on a store.
fn root_on(root: &Root, on: &AbsPath) -> Vec<Problem> {
    let mut problems = Vec::from_iter(bits("", root.mode));
    for (key, value) in [("size", &root.size), ("inodes", &root.inodes)] {
        if value.is_some() {
            let what = format!("`{key}` is for a root in memory, and this one is on {on}");
            problems.push(problem(what, "leave it out: the root has the space that its store has"));
        }
    }
    for (name, _) in split(&root.options).filesystem {
        problems.push(match name {
            "ro" => problem("`options`: ro would leave nothing to build the root in", "leave it out"),
            _ => problem(
                format!("`options`: `{}` is no option of a bind mount", escape::name(name)),
                "give options of the file system to the store",
            ),
        });
    }
    problems.extend(long_options(&root.options));
    problems
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number with a suffix k, m or g, as in tmpfs(5).
fn amount(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if !digits(number) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Errors in a store, except for its path.
pub fn store(store: &Store) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(device) = &store.device {
        let by_tag = TAGS.iter().any(|tag| device.strip_prefix(tag).is_some_and(|name| !name.is_empty()));
        if device.contains(char::is_control)
            || !by_tag && !AbsPath::parse(device).is_ok_and(|path| !path.is_root())
        {
            problems.push(problem(
                format!("`device`: `{}` is no device", escape::name(device)),
                "write its path, or UUID=, LABEL=, PARTUUID= or PARTLABEL= and its name",
            ));
        }
        let path = device_path(device);
        if path.len() > FSCONFIG_MAX {
            problems.push(problem(
                format!("`device`: its path has {} bytes, and the kernel takes {FSCONFIG_MAX}", path.len()),
                "name it by its UUID=",
            ));
        }
    } else if store.fstype.is_some() || !store.options.is_empty() {
        problems.push(problem(
            "`fstype` and `options` have no effect without a `device`, as the store is mounted before",
            "leave them out, or name the device",
        ));
    }
    if let Some(fstype) = &store.fstype
        && (fstype.is_empty()
            || !fstype.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)))
    {
        problems.push(problem(
            format!("`fstype`: `{}` is no type of a file system", escape::name(fstype)),
            "write one such as ext4 or btrfs",
        ));
    }
    for option in store.options.iter().filter(|option| option.is_empty() || option.contains(char::is_control))
    {
        problems.push(problem(
            format!("`options`: `{}` is no mount option", escape::name(option)),
            "see mount(8)",
        ));
    }
    problems.extend(long_options(&store.options));
    problems
}

/// Options of a file system too long for the kernel.
fn long_options(options: &[String]) -> Vec<Problem> {
    let too_long = |text: &str| text.len() > FSCONFIG_MAX;
    let mut problems = Vec::new();
    for (name, value) in split(options).filesystem {
        if too_long(name) || value.is_some_and(too_long) {
            problems.push(problem(
                format!(
                    "`options`: `{}` is longer than the {FSCONFIG_MAX} bytes that the kernel takes",
                    escape::name(name)
                ),
                "shorten it, or leave it out",
            ));
        }
    }
    problems
}

/// Errors in an owner; `prefix` precedes its keys.
pub fn owner(prefix: &str, owner: &Owner, ids: &Ids) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, id, table) in [("user", &owner.user, &ids.users), ("group", &owner.group, &ids.groups)] {
        match id {
            Some(Id::Number(number)) => problems
                .extend(self::number(*number).map(|why| problem(format!("`{prefix}{key}`: {why}"), ""))),
            Some(Id::Name(name)) => {
                let why = self::name(name);
                let unknown = ids.strict && name != "root" && !table.contains_key(name);
                if let Some(why) = why {
                    problems.push(problem(
                        format!("`{prefix}{key}`: `{}` is no name: it {why}", escape::name(name)),
                        "",
                    ));
                } else if unknown {
                    problems.push(problem(
                        format!("`{prefix}{key}`: there is no {key} {name}"),
                        &format!("declare it, or give its number in `ids.{key}s`"),
                    ));
                }
            }
            None => {}
        }
    }
    problems.extend(owner.mode.and_then(|mode| bits(prefix, mode)));
    problems
}

fn bits(prefix: &str, mode: u16) -> Option<Problem> {
    (mode > mode::ALL)
        .then(|| problem(format!("`{prefix}mode`: {mode:o} is above 07777, the highest mode"), ""))
}

/// True if a text can be a user or group: a name, or a number.
#[must_use]
pub fn is_owner(text: &str) -> bool {
    if digits(text) { text.parse().is_ok_and(|id| number(id).is_none()) } else { name(text).is_none() }
}

/// Errors in a line of a table of ids.
pub fn table_line(table: &str, name: &str, number: u32) -> Vec<Problem> {
    let shown = escape::name(name);
    let why = self::name(name).map(|why| format!("`{table}`: `{shown}` is no name: it {why}"));
    let number = self::number(number).map(|why| format!("`{table}`: `{shown}`: {why}")).or_else(|| {
        (name == "root" && number != 0).then(|| format!("`{table}`: root has the number 0, not {number}"))
    });
    why.into_iter().chain(number).map(Problem::new).collect()
}

fn number(number: u32) -> Option<&'static str> {
    (number == NO_ID).then_some("4294967295 stands for no id at all")
}

/// Why a text is no name of a user or group.
fn name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        "." | ".." => Some("is a directory's"),
        _ if name.len() > 255 => Some("is longer than 255 bytes"),
        _ if name.starts_with('-') => Some("starts with `-`"),
        _ if name.contains('/') => Some("holds a `/`"),
        _ if name.contains(':') => Some("holds a `:`"),
        _ if name.contains(|letter: char| letter.is_whitespace() || escape::is_hidden(letter)) => {
            Some("holds white space or invisible characters")
        }
        _ if digits(name) => Some("is a number"),
        _ => None,
    }
}
