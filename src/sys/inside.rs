//! Files of a system by their paths inside the system: links are followed, and stay below its root.

#[cfg(feature = "ctl")]
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

#[cfg(feature = "ctl")]
use super::{raw, walk};

/// The kernel follows as many links.
#[cfg(feature = "ctl")]
const LINKS: usize = 40;

/// Opens the file of a system at a path.
///
/// # Errors
/// Of the kernel.
pub fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    // O_PATH takes no other flags than these.
    let wait = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC | wait;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A component was renamed meanwhile.
            Err(Errno::AGAIN) => {}
            // Of the others a file may be the cause as well. The boot binary does without such files, and without the code.
            #[cfg(feature = "ctl")]
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) if !raw::has_openat2() => {
                return by_steps(root, path, flags);
            }
            result => return result,
        }
    }
}

/// The same without openat2(2), one component at a time.
#[cfg(feature = "ctl")]
fn by_steps(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let look = |dir: BorrowedFd<'_>, name: &[u8]| {
        fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    // The next components, the first one last, and the directories from the root on.
    let mut rest: Vec<Vec<u8>> = components(path.as_bytes());
    let mut way = vec![look(root, b".")?];
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let dir = way.last().ok_or(Errno::NOENT)?.as_fd();
        if name == b".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let found = look(dir, &name)?;
        let stat = walk::stat(found.as_fd())?;
        if stat.is_dir() {
            way.push(found);
        } else if stat.is_symlink() && !(rest.is_empty() && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            let target = fs::readlinkat(&found, c"", Vec::new())?.into_bytes();
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            if target.starts_with(b"/") {
                way.truncate(1);
            }
            rest.extend(components(&target));
        } else if rest.is_empty() {
            return fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty());
        } else {
            return Err(Errno::NOTDIR);
        }
    }
    fs::openat(way.last().ok_or(Errno::NOENT)?, c".", flags, Mode::empty())
}

/// The components of a path, the first one last.
#[cfg(feature = "ctl")]
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').rev();
    names.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_ways_lead_to_the_same() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        for name in ["a/b/file", "top"] {
            std::fs::write(at(name), name).unwrap();
        }
        for (link, target) in [
            ("a/up", "../../../../top"),
            ("a/absolute", "/a/b"),
            ("chain", "a/absolute/../up"),
            ("loop", "loop"),
            ("dangling", "/none"),
            ("outside", "/etc/passwd"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let base = walk::base(root.path().to_str().unwrap()).unwrap();
        let fd = base.as_fd();
        let identity =
            |opened: Result<OwnedFd, Errno>| opened.map(|fd| walk::stat(fd.as_fd()).unwrap().identity());
        for path in [
            "/",
            "a/b/file",
            "/a/../../a//b/./file",
            "a/up",
            "a/absolute/file",
            "chain",
            "loop",
            "dangling",
            "outside",
            "top/x",
            "a/b",
            "none/x",
        ] {
            for flags in [OFlags::PATH, OFlags::RDONLY, OFlags::RDONLY | OFlags::NOFOLLOW] {
                let with = |flags| flags | OFlags::CLOEXEC;
                let (one, other) = (open(fd, path, flags), by_steps(fd, path, with(flags)));
                assert_eq!(identity(one), identity(other), "{path}, {flags:?}");
            }
        }
    }
}
