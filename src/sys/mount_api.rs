//! The mount calls, by descriptors if supported by the kernel (Linux 5.12), otherwise by mount(2) on /proc/self/fd: in
//! both cases no path is resolved twice.
//!
//! | call | since | without this call |
//! |---|---|---|
//! | open_tree, move_mount, fsopen, fsmount | 5.2 | mount(2) on /proc/self/fd |
//! | mount_setattr | 5.12 | mount(2) on /proc/self/fd |
//! | MOVE_MOUNT_BENEATH | 6.5 | detach first, then mount |
//! | mounting on a detached tree | 6.15 | a private staging mount, see [`root`](crate::mount::root) |

use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux_raw_sys::general::MS_PRIVATE;
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::manifest::options::{BindOptions, SplitOptions};
use crate::sys::raw::{self, MountAttr};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result, describe};

/// Source of a tmpfs mounted here, as findmnt(8) shows it.
pub const SOURCE: &str = "imp-mount";
/// `move_mount(2)`'s flag to mount below an existing mount (Linux 6.5).
const MOVE_MOUNT_BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);

/// The mount calls of the running kernel.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    descriptors: bool,
}

impl Kernel {
    /// Probes the calls of the kernel.
    #[must_use]
    pub fn probe() -> Self {
        Self { descriptors: raw::has_descriptor_mounts() }
    }

    /// True if mounts can exist without being attached.
    #[must_use]
    pub fn has_descriptors(self) -> bool {
        self.descriptors
    }

    /// A new file system, not attached yet. None where the kernel can only mount by path: see [`mount_filesystem`].
    pub fn new_filesystem(
        self,
        fstype: &str,
        source: &str,
        options: &SplitOptions<'_>,
        what: impl Display,
    ) -> Result<Option<OwnedFd>> {
        use rustix::mount as m;
        if !self.descriptors {
            return Ok(None);
        }
        let context = match m::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(Errno::NOSYS) => return Ok(None),
            Err(Errno::NODEV) => return Err(unknown_filesystem(fstype)),
            Err(errno) => return Err(Problem::os(format!("cannot open the file system {fstype}"), errno)),
        };
        let configured = m::fsconfig_set_string(&context, "source", source)
            .and_then(|()| configure(context.as_fd(), options))
            .and_then(|()| m::fsconfig_create(&context))
            .and_then(|()| {
                let attributes = attributes(options.mount.unwrap_or(BindOptions::NONE));
                m::fsmount(
                    &context,
                    FsMountFlags::FSMOUNT_CLOEXEC,
                    MountAttrFlags::from_bits_retain(attributes),
                )
            });
        configured.map(Some).map_err(|errno| {
            with_words(Problem::os(format!("cannot mount {what} ({fstype})"), errno), context.as_fd())
        })
    }

    /// A second mount of a directory or file, with options of its own and private, not attached yet. With `submounts`
    /// mounts below come along.
    pub fn clone_of(
        self,
        source: BorrowedFd<'_>,
        options: BindOptions,
        submounts: bool,
    ) -> Result<OwnedFd, Errno> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, submounts);
        let tree = rustix::mount::open_tree(source, c"", flags)?;
        // Private, or later mounts on the clone would appear on the store as well.
        let mut attr = attributes_to_set(options);
        attr.propagation = MS_PRIVATE.into();
        // Flags are set on the clone alone: mounts below keep their own.
        raw::mount_setattr(tree.as_fd(), false, &attr)?;
        if submounts {
            // Shared clones would be unmounted together with their sources.
            let private =
                MountAttr { attr_set: 0, attr_clr: 0, propagation: MS_PRIVATE.into(), userns_fd: 0 };
            raw::mount_setattr(tree.as_fd(), true, &private)?;
        }
        Ok(tree)
    }

    /// Mounts `source`, a directory or file, on `target`, which is `name` in `parent`.
    pub fn bind(
        self,
        source: BorrowedFd<'_>,
        (parent, name): (BorrowedFd<'_>, &str),
        target: BorrowedFd<'_>,
        options: BindOptions,
        submounts: bool,
    ) -> Result<(), Errno> {
        if self.descriptors {
            return attach(self.clone_of(source, options, submounts)?.as_fd(), target);
        }
        let recursive = if submounts { MsFlags::MS_REC } else { MsFlags::empty() };
        by_path(Some(&magic(source)), &magic(target), None, MsFlags::MS_BIND | recursive, None)?;
        let mounted = covering(source, (parent, name))?;
        by_path(None, &magic(mounted.as_fd()), None, MsFlags::MS_PRIVATE | recursive, None)
            .and_then(|()| self.set_options(mounted.as_fd(), options, BindOptions::NONE))
            .or_else(|errno| take_back(mounted.as_fd(), errno))
    }

    /// Sets and clears options of a mount, which `mount` must be the root of.
    pub fn set_options(
        self,
        mount: BorrowedFd<'_>,
        set: BindOptions,
        clear: BindOptions,
    ) -> Result<(), Errno> {
        if self.descriptors {
            let mut attr = attributes_to_set(set);
            let clear = attributes_to_set(clear);
            attr.attr_clr |= clear.attr_set | clear.attr_clr;
            return raw::mount_setattr(mount, false, &attr);
        }
        // mount(2) sets all of them, and clears the rest, unless kept here.
        let now = options_of(mount)?;
        let wanted = now.without(clear).and(set);
        by_path(None, &magic(mount), None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | mount_flags(wanted), None)
    }

    /// Moves a mount attached to nothing, or to a private mount, to `target`.
    pub fn publish(self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.descriptors {
            return attach(mount, target);
        }
        by_path(Some(&magic(mount)), &magic(target), None, MsFlags::MS_MOVE, None)
    }

    /// Moves a mount below the one with the root `top`.
    pub fn publish_beneath(self, mount: BorrowedFd<'_>, top: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.descriptors {
            return Err(Errno::NOSYS);
        }
        rustix::mount::move_mount(mount, c"", top, c"", empty_paths() | MOVE_MOUNT_BENEATH)
    }
}

/// Opens the mount of `source` now covering `name` in `parent`. A descriptor of the target names the covered
/// directory, so the name is resolved again; if exchanged by its owner, ESTALE without any change.
pub fn covering(source: BorrowedFd<'_>, (parent, name): (BorrowedFd<'_>, &str)) -> Result<OwnedFd, Errno> {
    let mounted = walk::look(parent, name, Mounts::Enter)?;
    let seen = walk::stat(mounted.as_fd())?;
    let expected = walk::stat(source)?.identity() == seen.identity();
    let covers = seen.mount_id() != walk::mount_id(parent)?;
    if expected && covers { Ok(mounted) } else { Err(Errno::STALE) }
}

/// Attaches a detached mount to a name on a root without access by other processes.
pub fn attach_at(mount: BorrowedFd<'_>, (parent, name): (BorrowedFd<'_>, &str)) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, c"", parent, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A detached second mount of a directory, without the mounts inside: the covered files are visible.
pub fn without_mounts(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(dir, c"", flags)
}

/// Attaches a detached mount.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, c"", target, c"", empty_paths())
}

fn empty_paths() -> MoveMountFlags {
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
}

/// Mounts a file system by mount(2).
pub fn mount_filesystem(
    fstype: &str,
    source: &str,
    options: &SplitOptions<'_>,
    target: BorrowedFd<'_>,
    what: impl Display,
) -> Result<()> {
    let data: Vec<String> = options
        .filesystem
        .iter()
        .filter(|(name, _)| *name != "ro")
        .map(|(name, value)| value.map_or_else(|| (*name).to_owned(), |value| format!("{name}={value}")))
        .collect();
    let flags = mount_flags(options.mount.unwrap_or(BindOptions::NONE));
    by_path(Some(source), &magic(target), Some(fstype), flags, Some(&data.join(","))).map_err(|errno| {
        match errno {
            Errno::NODEV => unknown_filesystem(fstype),
            errno => with_words_about(
                Problem::os(format!("cannot mount {what} ({fstype})"), errno),
                fstype,
                options,
            ),
        }
    })
}

/// Adds the messages of fsopen(2), if available, about options refused by mount(2) with an error number alone.
fn with_words_about(problem: Problem, fstype: &str, options: &SplitOptions<'_>) -> Problem {
    let context = (problem.errno == Some(Errno::INVAL))
        .then(|| rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).ok())
        .flatten();
    match context {
        Some(context) if configure(context.as_fd(), options).is_err() => with_words(problem, context.as_fd()),
        _ => problem,
    }
}

/// Gives an fsopen(2) context its options.
fn configure(context: BorrowedFd<'_>, options: &SplitOptions<'_>) -> Result<(), Errno> {
    options.filesystem.iter().try_for_each(|(name, value)| match value {
        Some(value) => rustix::mount::fsconfig_set_string(context, *name, *value),
        None => rustix::mount::fsconfig_set_flag(context, *name),
    })
}

fn unknown_filesystem(fstype: &str) -> Problem {
    Problem::new(format!("the kernel has no file system {fstype}")).remedy(format!(
        "add its module to the initrd (boot.initrd.supportedFilesystems), or try `modprobe {fstype}`"
    ))
}

/// Detaches a mount, with every mount below, also in use.
pub fn detach(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::mount::umount2(magic(mount).as_str(), MntFlags::MNT_DETACH).map_err(errno)
}

/// Detaches an incomplete mount, and fails with the reason.
pub fn take_back(mount: BorrowedFd<'_>, errno: Errno) -> Result<(), Errno> {
    detach(mount)?;
    Err(errno)
}

/// Unmounts an unused mount at `name` in a directory; EBUSY for one in use. An open descriptor counts as use.
pub fn unmount_unused(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let path = format!("{}/{name}", magic(dir));
    nix::mount::umount2(path.as_str(), MntFlags::UMOUNT_NOFOLLOW).map_err(errno)
}

/// Makes a mount private: mounts below are not propagated.
pub fn make_private(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    by_path(None, &magic(mount), None, MsFlags::MS_PRIVATE, None)
}

/// Makes a mount shared; a private one in a peer group of its own.
pub fn make_shared(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    by_path(None, &magic(mount), None, MsFlags::MS_SHARED, None)
}

/// Makes a file system writable after a read-only mount for its check, as `ro` in many boot entries asks for. A file system
/// with errors stays read-only, which is reported later.
pub fn make_writable(mount: BorrowedFd<'_>) {
    let writable = options_of(mount).and_then(|now| {
        if !now.has(BindOptions::RO) {
            return Ok(());
        }
        let flags = MsFlags::MS_REMOUNT | mount_flags(now.without(BindOptions::RO));
        by_path(None, &magic(mount), None, flags, None)
    });
    if let Err(errno) = writable {
        log::warn!("the old root cannot be made writable: {}", describe(errno));
    }
}

fn by_path(
    source: Option<&str>,
    target: &str,
    fstype: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), Errno> {
    nix::mount::mount(source, target, fstype, flags, data).map_err(errno)
}

/// The path of an open descriptor alone.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

/// Adds the kernel's message about a failed fsconfig(2) or fsmount(2).
fn with_words(mut problem: Problem, context: BorrowedFd<'_>) -> Problem {
    let mut words = Vec::new();
    let mut line = [0_u8; 512];
    while let Ok(length) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        words.push(text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    if !words.is_empty() {
        problem.what = format!("{}: the kernel says `{}`", problem.what, words.join("; "));
    }
    problem
}

/// The options of the mount of a file, with those of the file system.
pub fn options_of(fd: BorrowedFd<'_>) -> Result<BindOptions, Errno> {
    // ST_NOSYMFOLLOW of statfs(2), which rustix has no name for.
    const NOSYMFOLLOW: StatVfsMountFlags = StatVfsMountFlags::from_bits_retain(0x2000);
    let flags = rustix::fs::fstatvfs(fd)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, BindOptions::RO),
        (StatVfsMountFlags::NOSUID, BindOptions::NOSUID),
        (StatVfsMountFlags::NODEV, BindOptions::NODEV),
        (StatVfsMountFlags::NOEXEC, BindOptions::NOEXEC),
        (StatVfsMountFlags::NOATIME, BindOptions::NOATIME),
        (StatVfsMountFlags::NODIRATIME, BindOptions::NODIRATIME),
        (NOSYMFOLLOW, BindOptions::NOSYMFOLLOW),
    ];
    let mut options = BindOptions::NONE;
    for (flag, option) in pairs {
        if flags.contains(flag) {
            options = options.and(option);
        }
    }
    if !flags.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME) {
        options = options.and(BindOptions::STRICTATIME);
    }
    Ok(options)
}

fn attributes(options: BindOptions) -> u32 {
    let pairs = [
        (BindOptions::RO, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (BindOptions::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (BindOptions::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (BindOptions::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (BindOptions::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (BindOptions::STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        (BindOptions::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (BindOptions::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    pairs.iter().filter(|(option, _)| options.has(*option)).fold(0, |bits, (_, flag)| bits | flag.bits())
}

fn attributes_to_set(options: BindOptions) -> MountAttr {
    let atime = options.has(BindOptions::NOATIME) || options.has(BindOptions::STRICTATIME);
    let clear = if atime { MountAttrFlags::MOUNT_ATTR__ATIME.bits() } else { 0 };
    MountAttr { attr_set: attributes(options).into(), attr_clr: clear.into(), propagation: 0, userns_fd: 0 }
}

fn mount_flags(options: BindOptions) -> MsFlags {
    let pairs = [
        (BindOptions::RO, MsFlags::MS_RDONLY),
        (BindOptions::NOSUID, MsFlags::MS_NOSUID),
        (BindOptions::NODEV, MsFlags::MS_NODEV),
        (BindOptions::NOEXEC, MsFlags::MS_NOEXEC),
        (BindOptions::NOATIME, MsFlags::MS_NOATIME),
        (BindOptions::STRICTATIME, MsFlags::MS_STRICTATIME),
        (BindOptions::NODIRATIME, MsFlags::MS_NODIRATIME),
        // MS_NOSYMFOLLOW, which nix has no name for.
        (BindOptions::NOSYMFOLLOW, MsFlags::from_bits_retain(0x100)),
    ];
    pairs
        .iter()
        .filter(|(option, _)| options.has(*option))
        .fold(MsFlags::empty(), |flags, (_, flag)| flags | *flag)
}
