//! The system calls that no crate wraps yet, and an allocator. The only `unsafe` code there is.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

pub use linux_raw_sys::general::mount_attr as MountAttr;
use linux_raw_sys::general::{self as raw, mnt_id_req, statmount as statmount_head};
use rustix::io::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Sets the attributes of the mount that `fd` is the root of, or of the whole tree.
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
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Whether the kernel has `openat2(2)` (5.6), and no sandbox denies it: asked with a size that it refuses before it looks at
/// anything.
#[must_use]
pub fn has_openat2() -> bool {
    // SAFETY: no descriptor, a constant path and no arguments of size 0: the size alone makes it fail with EINVAL.
    let result =
        unsafe { libc::syscall(libc::SYS_openat2, -1, c"".as_ptr(), ptr::null::<libc::open_how>(), 0) };
    check(result) == Err(Errno::INVAL)
}

/// Whether the kernel has `open_tree(2)`, `move_mount(2)` (5.2) and `mount_setattr(2)` (5.12), and no sandbox denies them:
/// asked with arguments that it refuses before it looks at anything.
#[must_use]
pub fn has_descriptor_mounts() -> bool {
    // Whoever may mount is not denied these by the kernel.
    let unknown =
        |result: libc::c_long| matches!(check(result), Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS));
    // SAFETY: each call is given no descriptor (-1), a constant path and either flags that do not exist or a size of 0,
    // so it fails with EINVAL or EBADF before it touches memory or state.
    unsafe {
        !unknown(libc::syscall(libc::SYS_open_tree, -1, c"".as_ptr(), u32::MAX))
            && !unknown(libc::syscall(libc::SYS_move_mount, -1, c"".as_ptr(), -1, c"".as_ptr(), u32::MAX))
            && !unknown(libc::syscall(
                libc::SYS_mount_setattr,
                -1,
                c"".as_ptr(),
                0,
                ptr::null::<MountAttr>(),
                0,
            ))
    }
}

/// What statmount(2) tells of one mount; an empty text where the kernel does not tell it.
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
    /// Where it is mounted, seen from this process.
    pub point: Vec<u8>,
    /// What it is mounted from (Linux 6.14).
    pub source: Vec<u8>,
}

/// The call's number, which libc lacks.
#[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "the type differs by architecture")]
const STATMOUNT: libc::c_long = raw::__NR_statmount as libc::c_long;
/// What is asked of statmount(2).
const WANTED: u32 = raw::STATMOUNT_SB_BASIC
    | raw::STATMOUNT_MNT_BASIC
    | raw::STATMOUNT_MNT_ROOT
    | raw::STATMOUNT_MNT_POINT
    | raw::STATMOUNT_FS_TYPE
    | raw::STATMOUNT_SB_SOURCE;

/// Asks for one mount by its unique id (Linux 6.8).
pub fn statmount(unique_id: u64) -> Result<StatMount> {
    // The fixed part, and room for usual paths behind it; with longer ones it fails, and mountinfo is read.
    const HEAD: usize = size_of::<statmount_head>();
    // The first version of the request, which every kernel that has the call takes.
    let request = mnt_id_req { size: 24, spare: 0, mnt_id: unique_id, param: WANTED.into(), mnt_ns_id: 0 };
    let mut buffer = [0_u8; HEAD + 2048];
    // SAFETY: `request` is a live struct of at least the 24 bytes that its size says; the kernel writes at most
    // as many bytes to `buffer` as it has.
    let result =
        unsafe { libc::syscall(STATMOUNT, ptr::from_ref(&request), buffer.as_mut_ptr(), buffer.len(), 0) };
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

/// The file that a loop device is on, whatever path leads to it now: device numbers as in `st_dev`.
#[derive(Debug, Clone, Copy)]
pub struct LoopFile {
    /// The file system that it is on.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// Which device it is, if it is a block device. Of a regular file kernels give 0 or `device`.
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

/// Whether a regular file, which is open for reading here, is open for writing anywhere, or mapped from such a descriptor. The kernel
/// grants no read lease then. None where it grants none of this file system.
#[must_use]
pub fn is_written(file: BorrowedFd<'_>) -> Option<bool> {
    let lease = |kind: libc::c_int| {
        // SAFETY: the descriptor is borrowed for as long as the call takes, and the argument is a number.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }.into())
    };
    match lease(libc::F_RDLCK) {
        // Given back at once: who opens the file would wait for that.
        Ok(_) => lease(libc::F_UNLCK).ok().map(|_| false),
        Err(Errno::AGAIN) => Some(true),
        Err(_) => None,
    }
}

/// Lets this process live when another one opens a file on which it holds a lease.
pub fn ignore_lease_breaks() {
    // SAFETY: no handler is installed, so no code of this program runs in a signal's context.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The unwinder, as far as std and libc name it: it finds nothing to unwind.
///
/// A panic ends the boot binary at once, and initrd/no-unwind-tables.ld drops the tables that an unwinder reads. Without these
/// functions libgcc's or LLVM's would be linked all the same; with them the optimizer sees that a backtrace is empty, and
/// std's reader of debug information goes as well: 230 KB.
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

/// An allocator for short runs: a small block that was freed is kept for the next one of its size.
///
/// The allocator of musl gives pages back to the kernel as soon as they are free, and maps them again: 5 % of a run. What is large, or
/// aligned to more than a unit, comes from the allocator of the C library here too.
pub struct Heap(Mutex<Blocks>);

struct Blocks {
    /// By size in units, the freed blocks: each begins with the address of the next one.
    free: [*mut u8; SMALL / UNIT + 1],
    /// The part of the last chunk that was not given out yet.
    rest: *mut u8,
    rest_size: usize,
}

// SAFETY: the memory that these addresses are of belongs to no thread.
unsafe impl Send for Blocks {}

/// The size of a small block is a multiple of this, and so is its address.
const UNIT: usize = 16;
/// The largest small block.
const SMALL: usize = 1024;
/// So much is asked for at a time, for small blocks.
const CHUNK: usize = 64 * 1024 - 4 * UNIT;

impl Heap {
    /// An allocator that has given out nothing.
    #[must_use]
    pub const fn new() -> Self {
        let free = [ptr::null_mut(); SMALL / UNIT + 1];
        Self(Mutex::new(Blocks { free, rest: ptr::null_mut(), rest_size: 0 }))
    }

    /// The size in units, where a block is small.
    fn units(layout: Layout) -> Option<usize> {
        (layout.size() <= SMALL && layout.align() <= UNIT).then(|| layout.size().div_ceil(UNIT))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Blocks) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Blocks {
    #[expect(clippy::cast_ptr_alignment, reason = "every block is aligned to a unit")]
    fn take(&mut self, units: usize) -> *mut u8 {
        let first = self.free[units];
        if !first.is_null() {
            // SAFETY: a freed block is at least a unit large, and begins with the address that `keep` wrote.
            self.free[units] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        let size = units * UNIT;
        if self.rest_size < size {
            let Ok(chunk) = Layout::from_size_align(CHUNK, UNIT) else { return ptr::null_mut() };
            // SAFETY: its size is not 0.
            let chunk = unsafe { System.alloc(chunk) };
            if chunk.is_null() {
                return chunk;
            }
            (self.rest, self.rest_size) = (chunk, CHUNK);
        }
        let block = self.rest;
        // SAFETY: so much of the chunk is left.
        self.rest = unsafe { block.add(size) };
        self.rest_size -= size;
        block
    }

    #[expect(clippy::cast_ptr_alignment, reason = "every block is aligned to a unit")]
    fn keep(&mut self, block: *mut u8, units: usize) {
        // SAFETY: `take` gave it out, at least a unit large, and it is in use no longer.
        unsafe { block.cast::<*mut u8>().write(self.free[units]) };
        self.free[units] = block;
    }
}

// SAFETY: a block is given to one caller until that frees it, by the same layout; its size and alignment are at least those asked for.
// Nothing here panics or allocates by this allocator.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::units(layout) {
            Some(units) => self.with(|blocks| blocks.take(units)),
            // SAFETY: the caller's promises are those that are asked for.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Self::units(layout) {
            Some(units) => self.with(|blocks| blocks.keep(block, units)),
            // SAFETY: the layout tells that it came from there.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        match (Self::units(layout), Self::units(wanted)) {
            // SAFETY: both layouts tell that it came from there and stays there.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (had, wants) if had == wants => block,
            // SAFETY: a new block overlaps no other, and both are at least as large as what is copied.
            _ => unsafe {
                let new = self.alloc(wanted);
                if !new.is_null() {
                    ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                new
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_of_the_heap_are_apart_aligned_and_used_again() {
        let heap = Heap::new();
        let sizes = (1..=200).chain([SMALL - 1, SMALL, SMALL + 1, 5000, CHUNK, 100_000]);
        let layouts: Vec<Layout> =
            sizes.flat_map(|size| [1, 8, 16, 64].map(|align| layout(size, align))).collect();
        let fill = |number: usize| u8::try_from(number % 251).unwrap();
        for _ in 0..3 {
            let mut blocks = Vec::new();
            for (number, &layout) in layouts.iter().enumerate() {
                // SAFETY: the size is not 0, and so much is written.
                unsafe {
                    let block = heap.alloc(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()), "{layout:?}");
                    block.write_bytes(fill(number), layout.size());
                    blocks.push(block);
                }
            }
            for (number, (block, &layout)) in blocks.into_iter().zip(&layouts).enumerate() {
                // SAFETY: it was allocated by this layout, and so much was written.
                unsafe {
                    let content = std::slice::from_raw_parts(block, layout.size());
                    assert!(content.iter().all(|&byte| byte == fill(number)), "{layout:?}");
                    heap.dealloc(block, layout);
                }
            }
        }
        // SAFETY: the sizes are not 0, and each is freed by its layout.
        unsafe {
            let first = heap.alloc(layout(40, 8));
            heap.dealloc(first, layout(40, 8));
            let second = heap.alloc(layout(48, 8));
            assert_eq!(first, second);
            heap.dealloc(second, layout(48, 8));
        }
    }

    #[test]
    fn a_block_of_the_heap_keeps_its_content_when_its_size_changes() {
        let heap = Heap::new();
        let sizes = [1, 16, 17, 1000, 1020, SMALL, SMALL + 1, 70_000, 300_000, 2000, SMALL, 33, 32, 1];
        for align in [1, 16, 64] {
            // SAFETY: no size is 0, the layouts are those that the block has, and no more is written or read than there is.
            unsafe {
                let mut had = layout(sizes[0], align);
                let mut block = heap.alloc(had);
                block.write_bytes(7, had.size());
                for size in sizes {
                    block = heap.realloc(block, had, size);
                    assert!(!block.is_null() && block.addr().is_multiple_of(align));
                    let kept = std::slice::from_raw_parts(block, size.min(had.size()));
                    assert!(kept.iter().all(|&byte| byte == 7), "{size} after {had:?}");
                    had = layout(size, align);
                    block.write_bytes(7, size);
                }
                heap.dealloc(block, had);
            }
        }
    }
}
