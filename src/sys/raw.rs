//! The system calls without a wrapper in any crate. The only `unsafe` code.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

pub use linux_raw_sys::general::mount_attr as MountAttr;
use linux_raw_sys::general::{self as raw, mnt_id_req, statmount as statmount_head};
use rustix::io::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Sets the attributes of the mount with the root `fd`, or of the whole tree.
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, `attr` is a live `struct mount_attr` whose size is passed with it,
    // and the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// True if the kernel has `openat2(2)` (5.6), and no sandbox denies the call: tested with a size refused before any
/// other argument is read.
#[must_use]
pub fn has_openat2() -> bool {
    // SAFETY: no descriptor, a constant path and no arguments of size 0: the size alone makes it fail with EINVAL.
    let result =
        unsafe { libc::syscall(libc::SYS_openat2, -1, c"".as_ptr(), std::ptr::null::<libc::open_how>(), 0) };
    check(result) == Err(Errno::INVAL)
}

/// True if the kernel has `open_tree(2)`, `move_mount(2)` (5.2) and `mount_setattr(2)` (5.12), and no sandbox denies
/// them: tested with arguments refused before any access.
#[must_use]
pub fn has_descriptor_mounts() -> bool {
    // Whoever may mount is not denied these by the kernel.
    let unknown =
        |result: libc::c_long| matches!(check(result), Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS));
    // SAFETY: each call gets no descriptor (-1), a constant path and either invalid flags or a size of 0, so each
    // fails with EINVAL or EBADF before any access to memory or state.
    unsafe {
        !unknown(libc::syscall(libc::SYS_open_tree, -1, c"".as_ptr(), u32::MAX))
            && !unknown(libc::syscall(libc::SYS_move_mount, -1, c"".as_ptr(), -1, c"".as_ptr(), u32::MAX))
            && !unknown(libc::syscall(
                libc::SYS_mount_setattr,
                -1,
                c"".as_ptr(),
                0,
                std::ptr::null::<MountAttr>(),
                0,
            ))
    }
}

/// Fields of statmount(2) for one mount; empty where the kernel does not fill one.
#[derive(Debug, Default)]
pub struct StatMount {
    /// The mount's id in /proc/self/mountinfo.
    pub old_id: u32,
    /// The number of the file system's device, as `major:minor`.
    pub device: (u32, u32),
    /// The file system's type.
    pub fstype: Vec<u8>,
    /// Which directory of the file system is mounted.
    pub root: Vec<u8>,
    /// Mount point, seen from this process.
    pub point: Vec<u8>,
    /// Source (Linux 6.14).
    pub source: Vec<u8>,
}

/// The call's number, which libc lacks.
#[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "the type differs by architecture")]
const STATMOUNT: libc::c_long = raw::__NR_statmount as libc::c_long;
/// Requested fields of statmount(2).
const WANTED: u32 = raw::STATMOUNT_SB_BASIC
    | raw::STATMOUNT_MNT_BASIC
    | raw::STATMOUNT_MNT_ROOT
    | raw::STATMOUNT_MNT_POINT
    | raw::STATMOUNT_FS_TYPE
    | raw::STATMOUNT_SB_SOURCE;

/// Asks for one mount by its unique id (Linux 6.8).
pub fn statmount(unique_id: u64) -> Result<StatMount> {
    // The fixed part, and room for usual paths after the fixed part; longer paths fail, and mountinfo is read instead.
    const HEAD: usize = size_of::<statmount_head>();
    // The first version of the request, accepted by every kernel with this call.
    let request = mnt_id_req { size: 24, spare: 0, mnt_id: unique_id, param: WANTED.into(), mnt_ns_id: 0 };
    let mut buffer = [0_u8; HEAD + 2048];
    // SAFETY: `request` is a live struct of at least the 24 bytes in its size field; the kernel writes at most the
    // given length to `buffer`.
    let result = unsafe {
        libc::syscall(STATMOUNT, std::ptr::from_ref(&request), buffer.as_mut_ptr(), buffer.len(), 0)
    };
    check(result)?;
    // SAFETY: the buffer is longer than the struct, which is read as bytes without regard to alignment, and is made of
    // integers only, for which any bytes are valid.
    let head: statmount_head = unsafe { buffer.as_ptr().cast::<statmount_head>().read_unaligned() };
    let text = |bit: u32, offset: u32| {
        if head.mask & u64::from(bit) == 0 {
            return Vec::new();
        }
        let rest = buffer.get(HEAD + offset as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).map(|text| text.to_bytes().to_vec()).unwrap_or_default()
    };
    Ok(StatMount {
        old_id: head.mnt_id_old,
        device: (head.sb_dev_major, head.sb_dev_minor),
        fstype: text(raw::STATMOUNT_FS_TYPE, head.fs_type),
        root: text(raw::STATMOUNT_MNT_ROOT, head.mnt_root),
        point: text(raw::STATMOUNT_MNT_POINT, head.mnt_point),
        source: text(raw::STATMOUNT_SB_SOURCE, head.sb_source),
    })
}

/// The file of a loop device, independent of its path: device numbers as in `st_dev`.
#[derive(Debug, Clone, Copy)]
pub struct LoopFile {
    /// The file system of the file.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// The device number of a block device. For a regular file kernels return 0 or `device`.
    pub special: u64,
}

/// Asks an open loop device for its file.
pub fn loop_file(device: BorrowedFd<'_>) -> Result<LoopFile> {
    const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
    // `struct loop_info64` of <linux/loop.h>: 232 bytes, of which three 64-bit numbers are the first.
    let mut info = [0_u64; 29];
    // SAFETY: the kernel writes one `struct loop_info64`, which is as large as the array and needs no larger alignment.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, info.as_mut_ptr()) }.into())?;
    let [device, inode, special, ..] = info;
    Ok(LoopFile { device, inode, special })
}

/// True if a regular file, open for reading here, is open for writing in any process, or mapped from such a
/// descriptor: the kernel then refuses a read lease. None if the file system does not support leases.
#[must_use]
pub fn is_written(file: BorrowedFd<'_>) -> Option<bool> {
    let lease = |kind: libc::c_int| {
        // SAFETY: the descriptor is borrowed for as long as the call takes, and the argument is a number.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }.into())
    };
    match lease(libc::F_RDLCK) {
        // Released at once: otherwise a process opening the file would wait.
        Ok(_) => lease(libc::F_UNLCK).ok().map(|_| false),
        Err(Errno::AGAIN) => Some(true),
        Err(_) => None,
    }
}

/// Lets this process survive when another process opens a file with a lease.
pub fn ignore_lease_breaks() {
    // SAFETY: no handler is installed, so no code of this program runs in a signal's context.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Makes an empty btrfs subvolume of this name in a directory.
pub fn btrfs_create_subvolume(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    const BTRFS_IOC_SUBVOL_CREATE: libc::Ioctl = 0x5000_940E_u32 as libc::Ioctl;
    btrfs_by_name(dir, name, BTRFS_IOC_SUBVOL_CREATE)
}

/// Removes the btrfs subvolume of this name in a directory.
pub fn btrfs_destroy_subvolume(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    const BTRFS_IOC_SNAP_DESTROY: libc::Ioctl = 0x5000_940F_u32 as libc::Ioctl;
    btrfs_by_name(dir, name, BTRFS_IOC_SNAP_DESTROY)
}

/// Clears the flags of the btrfs subvolume whose top directory is open, read-only among them.
pub fn btrfs_clear_flags(top: BorrowedFd<'_>) -> Result<()> {
    const BTRFS_IOC_SUBVOL_SETFLAGS: libc::Ioctl = 0x4008_941A_u32 as libc::Ioctl;
    let flags = 0_u64;
    // SAFETY: the kernel reads a 64-bit number, and writes nothing.
    check(unsafe { libc::ioctl(top.as_raw_fd(), BTRFS_IOC_SUBVOL_SETFLAGS, &raw const flags) }.into())
        .map(drop)
}

/// An ioctl of btrfs with a `struct btrfs_ioctl_vol_args` of <linux/btrfs.h>: an unused 64-bit number, and a name.
fn btrfs_by_name(dir: BorrowedFd<'_>, name: &[u8], request: libc::Ioctl) -> Result<()> {
    let mut arguments = [0_u8; 4096];
    // A NUL byte is left at the end.
    let place = arguments[8..4095].get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?;
    place.copy_from_slice(name);
    // SAFETY: the kernel reads as many bytes as the array has, without regard to alignment, and writes none of them.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), request, arguments.as_ptr()) }.into()).map(drop)
}

/// The subvolumes directly in the btrfs subvolume of an open directory: a `struct btrfs_ioctl_get_subvol_rootref_args`
/// of <linux/btrfs.h>. EOVERFLOW for more than fit in the struct.
#[cfg(feature = "ctl")]
pub fn btrfs_subvolumes(top: BorrowedFd<'_>, arguments: &mut [u8; 4096]) -> Result<()> {
    const BTRFS_IOC_GET_SUBVOL_ROOTREF: libc::Ioctl = 0xD000_943D_u32 as libc::Ioctl;
    btrfs_exchange(top, arguments, BTRFS_IOC_GET_SUBVOL_ROOTREF)
}

/// The place of one of them: a `struct btrfs_ioctl_ino_lookup_user_args`.
#[cfg(feature = "ctl")]
pub fn btrfs_subvolume_place(top: BorrowedFd<'_>, arguments: &mut [u8; 4096]) -> Result<()> {
    const BTRFS_IOC_INO_LOOKUP_USER: libc::Ioctl = 0xD000_943E_u32 as libc::Ioctl;
    btrfs_exchange(top, arguments, BTRFS_IOC_INO_LOOKUP_USER)
}

/// An ioctl of btrfs whose argument has 4096 bytes.
#[cfg(feature = "ctl")]
fn btrfs_exchange(fd: BorrowedFd<'_>, arguments: &mut [u8; 4096], request: libc::Ioctl) -> Result<()> {
    // SAFETY: the kernel reads and writes as many bytes as the array has, without regard to alignment.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, arguments.as_mut_ptr()) }.into()).map(drop)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The unwinder's functions named by std and libc, without a function to unwind.
///
/// A panic ends the boot binary at once, and initrd/no-unwind-tables.ld drops the tables of the unwinder. Without
/// these functions libgcc's or LLVM's would be linked anyway; with them the optimizer finds every backtrace empty, and
/// removes std's reader of debug information as well: 230 KB.
#[cfg(all(panic = "abort", not(feature = "ctl"), not(target_arch = "arm")))]
mod unwind {
    use std::ffi::{c_int, c_void};

    /// `_URC_END_OF_STACK`.
    const END: c_int = 5;

    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *mut c_void) -> c_int {
        END
    }

    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_RaiseException(_: *mut c_void) -> c_int {
        END
    }

    macro_rules! never_called {
        ($($name:ident)*) => {$(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> ! {
                std::process::abort()
            }
        )*};
    }

    never_called! {
        _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_ForcedUnwind _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP
        _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume
        _Unwind_SetGR _Unwind_SetIP
    }
}
