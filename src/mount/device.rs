//! The device of a store: mount and file system type.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::manifest::Store;
use crate::manifest::device::device_path;
use crate::manifest::options::{self, SplitOptions};
use crate::sys::mount_api::{self, Kernel};
use crate::sys::walk;
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe, is_damage};

/// Remedy for a missing device.
const NO_DEVICE: &str =
    "is the disk connected, and its driver in the initrd? `imp-mount --check` shows those that are there";

/// True if a directory is on the mount of the root: a plain path, with its data not on the store's disk.
pub fn is_on(dir: BorrowedFd<'_>, root_mount: u64) -> Result<bool> {
    let id = walk::mount_id(dir).map_err(|errno| Problem::os("cannot ask for its mount id", errno))?;
    Ok(id == root_mount)
}

/// True if the disk of a store is not mounted at its directory: the directory is a plain path on the root, or, for a
/// store with its own `device`, on another disk.
pub fn is_unmounted(store: &Store, dir: BorrowedFd<'_>, root_mount: u64) -> Result<bool> {
    if is_on(dir, root_mount)? {
        return Ok(true);
    }
    let stat = walk::stat(dir).map_err(|errno| Problem::os("cannot look at it", errno))?;
    Ok(store.device.is_some() && !stat.is_mount_root())
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
    mount: impl FnOnce(&str, &str, &SplitOptions<'_>) -> Result<T>,
) -> Result<T> {
    let path = device_path(device);
    let fstype = match &store.fstype {
        Some(fstype) => fstype.clone(),
        None => probe(&path)?.to_owned(),
    };
    let options = options::split(&store.options);
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

/// The file system on a device, by the magic numbers of file systems for persistent data.
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
