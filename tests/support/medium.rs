//! The medium of a disk: its content at one moment equals the content after a power cut.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::command::sh;
use super::{Disk, Fs};

const CHUNK: usize = 1 << 16;

/// All content of a medium, in chunks; none for parts never written. Equal chunks of two images are stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(Vec<Option<Rc<[u8]>>>);

impl Disk {
    /// Content of the medium now, without dirty pages of the kernel.
    pub fn freeze(&self, earlier: Option<&Image>) -> Image {
        let file = File::open(self.backing()).unwrap();
        let mut chunk = vec![0; CHUNK];
        let known = |at: usize| earlier.and_then(|image| image.0[at].as_ref());
        let chunks = (0..chunks(&file)).map(|at| {
            if !has_data(&file, at) {
                return None;
            }
            let length = read(&file, at, &mut chunk);
            let same = known(at).filter(|known| known[..] == chunk[..length]);
            Some(same.map_or_else(|| Rc::from(&chunk[..length]), Rc::clone))
        });
        Image(chunks.collect())
    }

    /// Restores the content of the medium: the disk must not be mounted.
    pub fn thaw(&self, image: &Image) {
        // The kernel's cache of the device would be older, or overwrite the content.
        let forget = || sh(format!("blockdev --flushbufs {}", self.device.display()));
        forget();
        let file = File::options().read(true).write(true).open(self.backing()).unwrap();
        let mut there = vec![0; CHUNK];
        for (at, chunk) in image.0.iter().enumerate() {
            let place = (at * CHUNK) as u64;
            match chunk {
                Some(chunk) => {
                    let length = read(&file, at, &mut there);
                    if there[..length] != chunk[..] {
                        file.write_all_at(chunk, place).unwrap();
                    }
                }
                None if has_data(&file, at) => {
                    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&file, hole, place, CHUNK as u64).unwrap();
                }
                None => {}
            }
        }
        forget();
    }

    /// Ends the transaction of btrfs, as the kernel does every 30 seconds: fsync(2) of one file brings that file alone to the medium. On other
    /// file systems fsync(2) does. Data of other files is not waited for.
    #[allow(unsafe_code)]
    pub fn commit(&self, at: &Path) {
        /// `BTRFS_IOC_START_SYNC` and `BTRFS_IOC_WAIT_SYNC`.
        const CALLS: [libc::Ioctl; 2] = [0x8008_9418_u32 as libc::Ioctl, 0x4008_9416];
        if self.fs != Fs::Btrfs {
            return;
        }
        let (store, mut transaction) = (File::open(at).unwrap(), 0_u64);
        for call in CALLS {
            // SAFETY: both calls take a pointer to one u64.
            let done = unsafe { libc::ioctl(store.as_raw_fd(), call, &raw mut transaction) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        }
    }

    /// Number of writes to the medium.
    pub fn writes(&self) -> String {
        let name = self.device.file_name().unwrap().to_str().unwrap();
        let counts = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        // Writes and discards: their calls and sectors.
        let counts: Vec<_> = counts.split_whitespace().collect();
        [4, 6, 11, 13].map(|field| counts[field]).join(" ")
    }
}

fn chunks(file: &File) -> usize {
    usize::try_from(file.metadata().unwrap().len()).unwrap().div_ceil(CHUNK)
}

/// True if anything of a chunk was ever written.
fn has_data(file: &File, at: usize) -> bool {
    let place = (at * CHUNK) as u64;
    match seek(file, SeekFrom::Data(place)) {
        Ok(data) => data < place + CHUNK as u64,
        Err(Errno::NXIO) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Reads a chunk, the last of which is shorter.
fn read(file: &File, at: usize, chunk: &mut [u8]) -> usize {
    let mut length = 0;
    while length < chunk.len() {
        match file.read_at(&mut chunk[length..], (at * CHUNK + length) as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    length
}
