//! The stores: found where they are mounted, or mounted from their device.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::guard::Guard;
use super::root::{Sysroot, Tree, is_volatile};
use crate::manifest::device::device_path;
use crate::manifest::options::{self, BindOptions, Parted};
use crate::manifest::{AbsPath, Store};
use crate::plan::Plan;
use crate::sys::create::{self, Attributes};
use crate::sys::mount_api::{self, Kernel};
use crate::sys::walk::{self, Cursor, Mounts};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe, is_damage};

/// Remedy for a missing device.
const NO_DEVICE: &str =
    "is the disk connected, and its driver in the initrd? `imp-mount --check` shows those that are there";

/// A store that can be worked on.
#[derive(Debug)]
pub struct Opened {
    /// Walks below it.
    pub cursor: Cursor,
    /// The options of its mount, which every bind mount inherits.
    pub options: BindOptions,
}

impl Opened {
    /// A store that is open, with the options of its mount.
    #[must_use]
    pub fn new(fd: OwnedFd, options: BindOptions) -> Self {
        Self { cursor: Cursor::new(fd), options }
    }
}

/// Opens a store below the root, and mounts it first where that is asked for and needed.
pub fn open(plan: &Plan<'_>, store: &Store, tree: &mut Tree, sysroot: &Sysroot) -> Result<Opened> {
    open_dir(plan, store, tree, sysroot)
        .and_then(|fd| {
            let options = mount_api::options_of(fd.as_fd()).map_err(|errno| Problem::os("cannot ask for its options", errno))?;
            if options.has(BindOptions::RO) && !store.options.iter().any(|option| option == "ro") {
                log::warn!(
                    "store {}: it is mounted read-only, so nothing can be written to it; the disk may have errors: see \
                     `dmesg`, check it with fsck, and remount it",
                    store.path
                );
            }
            Ok(Opened::new(fd, options))
        })
        .map_err(|problem| problem.at(format!("store {}", store.path)))
}

fn open_dir(plan: &Plan<'_>, store: &Store, tree: &mut Tree, sysroot: &Sysroot) -> Result<OwnedFd> {
    let root_mount = tree.mount_id()?;
    let on_root = |fd: &OwnedFd| is_on(fd.as_fd(), root_mount);
    let mut dir = walk::again(tree.root.as_fd())
        .map_err(|errno| Problem::new(format!("cannot open the root: {}", describe(errno))))?;
    let mut path = AbsPath::root();
    for name in store.path.components() {
        path = path.child(name);
        dir = match walk::directory(dir.as_fd(), name, Mounts::Enter) {
            Ok(next) => next,
            // A directory of its own on a disk that is mounted is made; on the root it would be gone after the reboot.
            Err(Errno::NOENT) if store.device.is_some() || !on_root(&dir)? => {
                let mode = plan.parents.of(path.as_str()).mode();
                create::directory(dir.as_fd(), name, Mounts::Enter, &mut || Attributes::root(mode))
                    .map_err(|errno| Problem::os(format!("cannot create {path}"), errno))?
                    .fd
            }
            Err(Errno::NOENT) => return Err(not_mounted(store, sysroot)),
            Err(errno) => return Err(walk::explain(dir.as_fd(), path.as_str(), errno, "a directory")),
        };
    }
    if is_unmounted(store, dir.as_fd(), root_mount)? {
        let Some(device) = &store.device else { return Err(not_mounted(store, sysroot)) };
        dir = mount(store, device, tree, &dir)?;
    }
    if is_volatile(dir.as_fd())? {
        let stat = walk::stat(dir.as_fd()).map_err(|errno| Problem::os("cannot look at it", errno))?;
        if Guard::find()?.identities().contains(&Some(stat.identity())) {
            let place = sysroot.path.join(&store.path);
            return Err(Problem::new("its place is guarded, as an earlier run left it out")
                .remedy(format!("`umount {place}`, mount its disk there, and run again")));
        }
        return Err(Problem::new("it is on a tmpfs, so nothing on it would outlive the next boot")
            .remedy("mount a disk there"));
    }
    Ok(dir)
}

/// True if a directory is on the mount of the root, where it is only a path: what is written to it is not on the store's disk.
pub fn is_on(dir: BorrowedFd<'_>, root_mount: u64) -> Result<bool> {
    let id = walk::mount_id(dir).map_err(|errno| Problem::os("cannot ask for its mount id", errno))?;
    Ok(id == root_mount)
}

/// True if the disk of a store is not mounted at its directory: that is only a path on the root, or, where the store has a `device` of its
/// own, on another disk.
pub fn is_unmounted(store: &Store, dir: BorrowedFd<'_>, root_mount: u64) -> Result<bool> {
    if is_on(dir, root_mount)? {
        return Ok(true);
    }
    let stat = walk::stat(dir).map_err(|errno| Problem::os("cannot look at it", errno))?;
    Ok(store.device.is_some() && !stat.is_mount_root())
}

fn not_mounted(store: &Store, sysroot: &Sysroot) -> Problem {
    let place = sysroot.path.join(&store.path);
    Problem::new(format!("nothing is mounted at {place}, which is only a path on the root")).remedy(
        "mount its disk there before (on NixOS: fileSystems with neededForBoot = true), or give the store its `device`; \
         `imp-mount --check` shows the disks that are there",
    )
}

fn mount(store: &Store, device: &str, tree: &mut Tree, dir: &OwnedFd) -> Result<OwnedFd> {
    match detached(store, device, tree.kernel())? {
        Some(mount) => tree.attach(mount.as_fd(), dir.as_fd())?,
        None => mount_at(store, device, dir.as_fd())?,
    }
    // Opened again, or it would be the directory that the mount covers.
    let mut dir = walk::again(tree.root.as_fd())
        .map_err(|errno| Problem::new(format!("cannot open the root: {}", describe(errno))))?;
    for name in store.path.components() {
        dir = walk::directory(dir.as_fd(), name, Mounts::Enter)
            .map_err(|errno| Problem::os("cannot open it after mounting it", errno))?;
    }
    Ok(dir)
}

/// Mounts the device of a store, attached nowhere. None where the kernel can only mount by path.
pub fn detached(store: &Store, device: &str, kernel: Kernel) -> Result<Option<OwnedFd>> {
    by_device(store, device, |fstype, path, options| kernel.new_filesystem(fstype, path, options, path))
}

/// Mounts the device of a store on a directory, by path.
pub fn mount_at(store: &Store, device: &str, dir: BorrowedFd<'_>) -> Result<()> {
    by_device(store, device, |fstype, path, options| {
        mount_api::mount_filesystem(fstype, path, options, dir, path)
    })
}

fn by_device<T>(
    store: &Store,
    device: &str,
    mount: impl FnOnce(&str, &str, &Parted<'_>) -> Result<T>,
) -> Result<T> {
    let path = device_path(device);
    let fstype = match &store.fstype {
        Some(fstype) => fstype.clone(),
        None => probe(&path)?.to_owned(),
    };
    let options = options::part(&store.options);
    mount(&fstype, &path, &options).map_err(|problem| match problem.errno {
        Some(Errno::NOENT) if !walk::exists(&path) => problem.remedy(NO_DEVICE),
        Some(Errno::NOTBLK) => problem.remedy("it is no block device: correct the store's `device`"),
        Some(Errno::ACCESS | Errno::ROFS) if !store.options.iter().any(|option| option == "ro") => problem.remedy(
            "the device may be read-only: see `lsblk -o NAME,RO`, and make it writable, or give the store the option \"ro\"",
        ),
        errno if problem.remedy.is_empty() || errno.is_some_and(is_damage) => {
            problem.remedy(advice(&path, &fstype))
        }
        _ => problem,
    })
}

fn advice(device: &str, fstype: &str) -> String {
    let device = escape::shell(device);
    match fstype {
        "ext2" | "ext3" | "ext4" => format!("check it with `fsck.{fstype} -n {device}`, then run again"),
        "xfs" => format!("check it with `xfs_repair -n {device}`, then run again"),
        "btrfs" => format!("check it with `btrfs check {device}`, then run again"),
        _ => format!("see `dmesg`, and check {device}"),
    }
}

/// Which file system a device holds, by the magic numbers of those that people keep their data on.
pub fn probe(device: &str) -> Result<&'static str> {
    let failed = |errno| {
        let problem =
            Problem::new(format!("cannot open the device {}: {}", escape::name(device), describe(errno)));
        if errno == Errno::NOENT { problem.remedy(NO_DEVICE) } else { problem }
    };
    let file = File::from(walk::open_at(device).map_err(failed)?);
    let unknown = || {
        Problem::new(format!("{} holds no file system that is known here", escape::name(device)))
            .remedy("name it with the store's `fstype`, or correct `device`")
    };
    fstype(&|at, buffer| file.read_exact_at(buffer, at).is_ok()).ok_or_else(unknown)
}

/// The file system whose magic number is there; `read` fills a buffer from an offset.
fn fstype(read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<&'static str> {
    const MAGIC: [(u64, &[u8], &str); 5] = [
        (1024 + 56, &[0x53, 0xef], "ext4"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (0, b"XFSB", "xfs"),
        (1024, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
        (
            4096 + 24,
            &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef],
            "bcachefs",
        ),
    ];
    let mut buffer = [0_u8; 16];
    MAGIC
        .into_iter()
        .find(|(at, magic, _)| read(*at, &mut buffer[..magic.len()]) && buffer[..magic.len()] == **magic)
        .map(|(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_known_by_its_magic() {
        let disk = |at: usize, magic: &'static [u8]| {
            move |from: u64, buffer: &mut [u8]| {
                let mut bytes = vec![0_u8; 0x1_1000];
                bytes[at..at + magic.len()].copy_from_slice(magic);
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                true
            }
        };
        assert_eq!(fstype(&disk(1080, &[0x53, 0xef])), Some("ext4"));
        assert_eq!(fstype(&disk(0x1_0040, b"_BHRfS_M")), Some("btrfs"));
        assert_eq!(fstype(&disk(0, b"XFSB")), Some("xfs"));
        assert_eq!(fstype(&disk(0, b"NTFS")), None);
        assert_eq!(fstype(&|_, _| false), None);
    }
}
