//! Owner, mode, times, extended attributes and inode flags of a file, read and given by descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, Gid, IFlags, Mode, RawMode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::Name;
use super::owners::Owners;
use crate::sys::walk::Stat;

/// The kernel's limit for one extended attribute, and for the list of their names.
const LIMIT: usize = 1 << 16;
/// Prefix of imp-mount's own attributes.
pub const OWN: &str = "trusted.imp-mount.";
/// Prefix of attributes with an ACL.
const ACL: &str = "system.posix_acl_";
/// Inode flags of chattr(1) to copy.
const KEPT: IFlags = IFlags::APPEND
    .union(IFlags::IMMUTABLE)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::SYNC)
    .union(IFlags::DIRSYNC)
    .union(IFlags::NOCOW)
    .union(IFlags::COMPRESSED);
/// Inode flags against every further change, also of the file's name.
pub const SEALS: IFlags = IFlags::APPEND.union(IFlags::IMMUTABLE);

/// Extended attributes without support by the destination's file system, or without permission for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// The copy fails.
    Refuse,
    /// The copy does without them, and a warning names them.
    Leave,
}

/// An open file, and the way of its opening.
#[derive(Debug)]
pub struct Handle {
    /// The file.
    pub fd: OwnedFd,
    /// True if opened with `O_PATH`, which the calls for attributes do not take.
    pub path_only: bool,
}

impl Handle {
    /// The path of the file in /proc, for a symbolic link itself as well.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.path_only { fs::listxattr(self.path(), buffer) } else { fs::flistxattr(&self.fd, buffer) }
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.path_only {
            fs::getxattr(self.path(), name, buffer)
        } else {
            fs::fgetxattr(&self.fd, name, buffer)
        }
    }

    fn set(&self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        if self.path_only {
            fs::setxattr(self.path(), name, value, XattrFlags::empty())
        } else {
            fs::fsetxattr(&self.fd, name, value, XattrFlags::empty())
        }
    }

    fn remove(&self, name: &CStr) -> Result<(), Errno> {
        if self.path_only { fs::removexattr(self.path(), name) } else { fs::fremovexattr(&self.fd, name) }
    }
}

/// Gives `target`, which has the properties `now`, the owner and mode of `stat` and the extended attributes of `source`, in this order:
/// owner, attributes, mode. chown(2) drops setuid bits and file capabilities.
pub fn give(
    source: &Handle,
    (stat, owners): (&Stat, &Owners),
    (target, now): (&Handle, &Stat),
    unsupported: Unsupported,
) -> Result<(), Errno> {
    let mut changed = false;
    if (now.uid(), now.gid()) != (stat.uid(), stat.gid()) {
        let owner = (Uid::from_raw(stat.uid()), Gid::from_raw(stat.gid()));
        if target.path_only {
            fs::chownat(&target.fd, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)?;
        } else {
            fs::fchown(&target.fd, Some(owner.0), Some(owner.1))?;
        }
        changed = true;
    }
    let wanted = extended(source, owners)?;
    for name in names(target)? {
        // An ACL inherited from the directory, or an attribute of an earlier version.
        if !wanted.iter().any(|(other, _)| *other == name) && !is_label(&name) {
            target.remove(&name)?;
            changed = true;
        }
    }
    for (name, value) in wanted {
        match target.set(&name, &value) {
            Err(errno @ (Errno::NOTSUP | Errno::PERM)) if unsupported == Unsupported::Leave => {
                let name = name.to_bytes().escape_ascii();
                log::warn!(
                    "a copy lacks the extended attribute {name}: {}",
                    crate::text::problem::describe(errno)
                );
            }
            result => result?,
        }
        changed = true;
    }
    if stat.is_symlink() || (!changed && now.mode() == stat.mode()) {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(RawMode::from(stat.mode()));
    if target.path_only { fs::chmod(target.path(), mode) } else { fs::fchmod(&target.fd, mode) }
}

const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Removes the ACLs inherited by a new file or directory from the default ACL of its directory. They would grant
/// access before the file has its own ACLs. The default ACL goes last: a directory without default ACL has no access
/// ACL either, also after an interrupted run.
pub fn drop_acls(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    for acl in [ACCESS_ACL, DEFAULT_ACL] {
        // Reading costs no transaction of the journal, and most often there is none.
        match fs::fgetxattr(fd, acl, &mut [0_u8; 0][..]).and_then(|_| fs::fremovexattr(fd, acl)) {
            // EACCES: files have no default ACL.
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// True if a directory has a default ACL; a new directory inherits one.
pub fn has_default_acl(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match fs::fgetxattr(fd, DEFAULT_ACL, &mut [0_u8; 0][..]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Gives a name the time of the last change of another file. Access times are not copied.
pub fn give_times(to: Name<'_>, stat: &Stat) -> Result<(), Errno> {
    fs::utimensat(to.0, to.1, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// The same for an open file.
pub fn give_times_to(target: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    fs::futimens(target, &times(stat))
}

fn times(stat: &Stat) -> Timestamps {
    let (seconds, nanoseconds) = stat.modified();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

/// The inode flags of a file or directory open for reading; none on a file system without such flags.
#[must_use]
pub fn flags(fd: BorrowedFd<'_>) -> IFlags {
    fs::ioctl_getflags(fd).map_or(IFlags::empty(), |flags| flags.intersection(KEPT))
}

/// Sets inode flags on a new file, except those against further changes. Flags unknown to the file system are ignored.
pub fn give_flags(target: BorrowedFd<'_>, wanted: IFlags) {
    let wanted = wanted.difference(SEALS);
    if wanted.is_empty() {
        return;
    }
    let Ok(now) = fs::ioctl_getflags(target) else { return };
    if now.contains(wanted) || fs::ioctl_setflags(target, now.union(wanted)).is_ok() {
        return;
    }
    for flag in wanted.iter() {
        let Ok(now) = fs::ioctl_getflags(target) else { return };
        // Hints for the file system; another one need not have them.
        let _ = fs::ioctl_setflags(target, now.union(flag));
    }
}

/// Sets or clears the flags against changes (`chattr +i`, `chattr +a`) on a file open for reading.
pub fn seal(target: BorrowedFd<'_>, wanted: IFlags) -> Result<(), Errno> {
    let now = fs::ioctl_getflags(target)?;
    let new = now.difference(SEALS).union(wanted.intersection(SEALS));
    if new == now { Ok(()) } else { fs::ioctl_setflags(target, new) }
}

/// The names of the extended attributes to copy, in order: ACLs and file capabilities among them.
fn names(handle: &Handle) -> Result<Vec<CString>, Errno> {
    // Most files have none or few.
    let mut few = [0_u8; 256];
    let mut many = Vec::new();
    let names = match handle.list(&mut few[..]) {
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(LIMIT, 0);
            let length = handle.list(&mut many[..])?;
            &many[..length]
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let names =
        names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    let mut names: Vec<_> = names.filter(|name| is_kept(name.to_bytes())).map(CStr::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Every extended attribute to copy, with its value, in order.
pub fn extended(handle: &Handle, owners: &Owners) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let names = names(handle)?;
    let mut value = vec![0_u8; if names.is_empty() { 0 } else { LIMIT }];
    let mut found = Vec::new();
    for name in names {
        match handle.get(&name, &mut value[..]) {
            Ok(length) => {
                let mut value = value[..length].to_vec();
                if name.to_bytes().starts_with(ACL.as_bytes()) {
                    owners.change_acl(&mut value);
                }
                found.push((name, value));
            }
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// The access ACL of a file or directory open for reading; none if the mode is equivalent.
pub fn access_acl(handle: &Handle, owners: &Owners) -> Result<Option<Vec<u8>>, Errno> {
    Ok(extended(handle, owners)?
        .into_iter()
        .find(|(name, _)| name == c"system.posix_acl_access")
        .map(|(_, acl)| acl))
}

fn is_kept(name: &[u8]) -> bool {
    let has_prefix = |prefix: &&[u8]| name.starts_with(prefix);
    // XFS shows ACLs a second time under SGI names.
    !name.starts_with(b"trusted.SGI_ACL_")
        && !name.starts_with(OWN.as_bytes())
        && [&b"user."[..], b"trusted.", b"security.", ACL.as_bytes()].iter().any(has_prefix)
}

/// True if two files have the same extended attributes, except labels given to the second by a security module.
pub fn same_extended(source: &Handle, target: &Handle, owners: &Owners) -> Result<bool, Errno> {
    let (wanted, found) = (extended(source, owners)?, extended(target, Owners::SAME)?);
    let surplus = |(name, _): &&(CString, Vec<u8>)| is_label(name) && !wanted.iter().any(|it| it.0 == *name);
    Ok(found.iter().filter(|it| !surplus(it)).eq(&wanted))
}

/// True for an attribute given to every file by a security module.
fn is_label(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"security.") && name != c"security.capability"
}

/// A descriptor for the attributes of an open file.
impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
