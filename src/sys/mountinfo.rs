//! Mounts: /proc/self/mountinfo, and statmount(2) for a single mount if available.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;

use rustix::fs::{self, AtFlags, StatxFlags};

use crate::sys::raw;
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// statx(2)'s flag for the id of statmount(2) (Linux 6.8).
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// Its id while mounted.
    pub id: u64,
    /// The number of the file system's device, as `major:minor`.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Mount point, seen from this process.
    pub point: String,
    /// The file system's type.
    pub fstype: String,
    /// The device or whatever the file system calls its source.
    pub source: String,
    /// Options of the file system itself.
    pub options: String,
}

impl Mount {
    /// Source and type, for messages. Any user may have chosen both, for a FUSE file system.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} ({})", escape::name(&self.source), escape::name(&self.fstype))
    }
}

/// Every mount in this namespace, in the order of the kernel: since Linux 6.8 the oldest first, which differs from the
/// order of covering after a mount beneath another.
pub fn all() -> Result<Vec<Mount>> {
    Ok(mounts(&mountinfo()?).collect())
}

/// The mount point of every mount, in the same order.
pub fn points() -> Result<Vec<String>> {
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape::<[u8]>);
    Ok(mountinfo()?.split(|byte| *byte == b'\n').filter_map(point).collect())
}

/// The mounts in a text.
fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse)
}

/// The mount of a descriptor.
pub fn of(fd: BorrowedFd<'_>) -> Result<Mount> {
    let failed = |errno| Problem::os("cannot ask for a mount's id", errno);
    let flags = StatxFlags::BASIC_STATS | StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let answer = fs::statx(fd, c"", AtFlags::EMPTY_PATH, flags).map_err(failed)?;
    if answer.stx_mask & STATX_MNT_ID_UNIQUE != 0
        && let Ok(mount) = raw::statmount(answer.stx_mnt_id)
    {
        // Before Linux 6.14 statmount(2) lacks the source.
        if !mount.source.is_empty() {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Mount {
                id: mount.old_id.into(),
                device: mount.device,
                root: text(mount.root),
                point: text(mount.point),
                fstype: text(mount.fstype),
                source: text(mount.source),
                options: String::new(),
            });
        }
    }
    let id = crate::sys::walk::mount_id(fd.as_fd()).map_err(failed)?;
    // Without a list of all mounts, which takes several MiB for 10,000 of them.
    mounts(&mountinfo()?).find(|mount| mount.id == id).ok_or_else(|| {
        Problem::new(format!("mount {id} is not in {MOUNTINFO}")).remedy("is it in another mount namespace?")
    })
}

/// True for a descriptor on a shared mount.
pub fn is_shared(fd: BorrowedFd<'_>) -> Result<bool> {
    let id =
        crate::sys::walk::mount_id(fd).map_err(|errno| Problem::os("cannot ask for a mount's id", errno))?;
    let id = id.to_string();
    let text = mountinfo()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.split(' ').next() == Some(&id)).unwrap_or_default();
    Ok(line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:")))
}

/// The whole file, in few reads: the kernel gives no size.
fn mountinfo() -> Result<Vec<u8>> {
    crate::sys::walk::content_at(MOUNTINFO, u64::MAX).map_err(|errno| {
        Problem::new(format!("cannot read {MOUNTINFO}: {}", describe(errno))).remedy("mount /proc")
    })
}

/// One line of `proc_pid_mountinfo(5)`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let mut fields = fields.skip(1);
    let device = fields.next()?;
    let (major, minor) = device.split_at(device.iter().position(|byte| *byte == b':')?);
    let device = (number(major)?, number(&minor[1..])?);
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let options = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    Some(Mount { id, device, root, point, fstype, source, options })
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
#[must_use]
pub fn unescape<T: AsRef<[u8]> + ?Sized>(field: &T) -> String {
    let mut rest = field.as_ref();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        bytes.extend_from_slice(&rest[..at]);
        let octal = rest.get(at + 1..at + 4).and_then(|digits| str::from_utf8(digits).ok());
        if let Some(value) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(value);
            rest = &rest[at + 4..];
        } else {
            bytes.push(b'\\');
            rest = &rest[at + 1..];
        }
    }
    bytes.extend_from_slice(rest);
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes space, tab, newline and backslash as the kernel does in mountinfo, and libmount in /run/mount/utab.
#[must_use]
pub fn escape(field: &str) -> Cow<'_, str> {
    if !field.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\\')) {
        return field.into();
    }
    let mut text = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            ' ' => text.push_str("\\040"),
            '\t' => text.push_str("\\011"),
            '\n' => text.push_str("\\012"),
            '\\' => text.push_str("\\134"),
            c => text.push(c),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_spaces() {
        let line = br"36 35 98:0 /a\040b /mnt/x\134y rw,noatime master:1 shared:7 - ext4 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.device), (36, (98, 0)));
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/a b", "/mnt/x\\y"));
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("ext4", "/dev/root"));
        assert_eq!(mount.options, "rw,errors=continue");
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn escapes_both_ways() {
        let text = "a b\tc\nd\\e \u{e9}";
        assert_eq!(unescape(&*escape(text)), text);
        assert_eq!(unescape("trailing\\0"), "trailing\\0");
    }

    #[test]
    fn both_sources_agree_on_the_root() {
        let root = crate::sys::walk::base("/").unwrap();
        if crate::sys::walk::mount_id(root.as_fd()) == Ok(0) {
            return eprintln!("SKIPPED: statx(2) tells no mount's id, as under qemu-user");
        }
        let one = of(root.as_fd()).unwrap();
        let table = all().unwrap();
        let same = table.iter().find(|mount| mount.id == one.id).unwrap();
        assert_eq!(
            (same.device, &same.root, &same.point, &same.fstype, &same.source),
            (one.device, &one.root, &one.point, &one.fstype, &one.source)
        );
    }
}
