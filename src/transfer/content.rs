//! The bytes of a regular file: shared with the source where the file system can (reflink), copied otherwise. Holes stay holes.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::fs::{self, Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::Name;
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::problem::os_error;

/// The size of one read and write. Larger ones leave the processor's cache.
const CHUNK: usize = 1 << 16;
/// Bytes of a large file copied before the kernel begins to write them to the disk.
const WRITTEN: u64 = 1 << 24;
/// The size of blocks; a digest leaves out blocks of zeros.
const BLOCK: usize = 1 << 12;
/// Up to this size a file is copied without a search for holes.
const SMALL: u64 = 1 << 16;

/// True if a directory's file system can share the content of a file. The test leaves no file.
#[must_use]
pub fn can_share((from, name): Name<'_>, dir: BorrowedFd<'_>) -> bool {
    let try_it = || {
        let source = walk::open(from, name, OFlags::RDONLY, Mounts::Stay)?;
        let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let target = fs::openat(dir, c".", unnamed, Mode::RUSR)?;
        fs::ioctl_ficlone(&target, &source)
    };
    try_it().is_ok()
}

/// Copies content to one file system.
#[derive(Debug, Default)]
pub struct Content {
    buffer: Vec<u8>,
    /// The device number of a file system unable to share content with the destination.
    unshared: Option<(u32, u32)>,
    /// When copying stops, with ETIMEDOUT.
    pub until: Option<Instant>,
}

impl Content {
    /// Copies the whole of `source` to the empty file `target`. `progress` is told every number of bytes done.
    pub fn copy(
        &mut self,
        (source, stat): (&File, &Stat),
        target: &File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Errno> {
        let size = stat.size();
        let device = Some(stat.device());
        if size > 0 && self.unshared != device {
            match fs::ioctl_ficlone(target, source) {
                Ok(()) => {
                    progress(size);
                    return Ok(());
                }
                // No file of this file system can be shared with the destination, but can be copied.
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                    self.unshared = device;
                }
                Err(_) => {}
            }
        }
        let mut at = 0;
        if size <= SMALL {
            at = self.part((source, target), (0, size), progress)?;
        } else {
            while let Some((start, end)) = data(source, at)? {
                progress(start.saturating_sub(at));
                at = self.part((source, target), (start, end), progress)?;
                // The source became shorter, which the comparison afterwards finds.
                if at < end {
                    break;
                }
            }
        }
        // A hole at the end. If the source has changed its length, the later comparison finds a different size.
        if at < size { target.set_len(size).map_err(os_error) } else { Ok(()) }
    }

    /// Copies the bytes from `start` to `end`. Returns the end of the copied part: at most the end of the source.
    fn part(
        &mut self,
        (source, target): (&File, &File),
        (start, end): (u64, u64),
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, Errno> {
        let (mut at, mut written) = (start, start);
        if at < end && self.buffer.is_empty() {
            self.buffer = vec![0; CHUNK];
        }
        while at < end {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Err(Errno::TIMEDOUT);
            }
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let length = read(source, &mut self.buffer[..wanted], at)?;
            if length == 0 {
                break;
            }
            target.write_all_at(&self.buffer[..length], at).map_err(os_error)?;
            at += length as u64;
            progress(length as u64);
            if at - written >= WRITTEN {
                begin_writing(target, written, at);
                written = at;
            }
        }
        Ok(at)
    }
}

/// Has the kernel begin to write a part of a file to the disk while the next one is read. This is only a hint.
fn begin_writing(target: &File, start: u64, end: u64) {
    let _ = fs::fadvise(target, start, NonZeroU64::new(end - start), Advice::DontNeed);
}

/// The next part of a file with data, at or after an offset; none at its end.
fn data(file: &File, from: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // Every file ends in a hole.
    fs::seek(file, SeekFrom::Hole(start)).map(|end| Some((start, end)))
}

/// A digest of a file's content, the same for a hole and for zeros.
#[derive(Debug, Default)]
pub struct Digest(DefaultHasher);

impl Digest {
    /// Adds the bytes at an offset, which is a multiple of [`BLOCK`].
    fn add(&mut self, at: u64, bytes: &[u8]) {
        for (block, start) in bytes.chunks(BLOCK).zip((at..).step_by(BLOCK)) {
            if block.iter().any(|byte| *byte != 0) {
                self.0.write_u64(start);
                self.0.write(block);
            }
        }
    }

    /// The digest.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// The digest of a file of this size.
pub fn digest(file: &File, size: u64, progress: &mut dyn FnMut(u64)) -> Result<u64, Errno> {
    let mut digest = Digest::default();
    let mut bytes = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut at = 0;
    while at < size {
        at = next(&[file], at, size, progress)?;
        let wanted = usize::try_from(size - at).unwrap_or(CHUNK).min(bytes.len());
        let length = read(file, &mut bytes[..wanted], at)?;
        if length == 0 {
            break;
        }
        digest.add(at, &bytes[..length]);
        at += length as u64;
        progress(length as u64);
    }
    Ok(digest.value())
}

/// True if two files of this size have the same content. A hole in both is not read. The bytes read of the first are
/// added to a digest.
pub fn same(
    one: &File,
    other: &File,
    size: u64,
    mut sum: Option<&mut Digest>,
    progress: &mut dyn FnMut(u64),
) -> Result<bool, Errno> {
    let length = CHUNK.min(usize::try_from(size).unwrap_or(CHUNK));
    let (mut first, mut second) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    while at < size {
        at = next(&[one, other], at, size, progress)?;
        let wanted = usize::try_from(size - at).unwrap_or(length).min(length);
        let lengths = (read(one, &mut first[..wanted], at)?, read(other, &mut second[..wanted], at)?);
        let both = lengths.0.min(lengths.1);
        if both == 0 {
            return Ok(at == size);
        }
        if first[..both] != second[..both] {
            return Ok(false);
        }
        if let Some(sum) = &mut sum {
            sum.add(at, &first[..both]);
        }
        at += both as u64;
        progress(both as u64);
    }
    Ok(true)
}

/// Start of the next block with data in any of the files, or their end.
fn next(files: &[&File], at: u64, size: u64, progress: &mut dyn FnMut(u64)) -> Result<u64, Errno> {
    if size <= SMALL {
        return Ok(at);
    }
    let mut start = size;
    for file in files {
        start = start.min(data(file, at)?.map_or(size, |(start, _)| start));
    }
    let start = if start < size { (start - start % BLOCK as u64).max(at) } else { size };
    progress(start - at);
    Ok(start)
}

/// Reads until the buffer is full or the file ends.
fn read(file: &File, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], at + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(os_error(error)),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_digest_tells_content_and_not_holes() {
        let file = |parts: &[(u64, &[u8])], size| {
            let file = tempfile::tempfile().unwrap();
            for (at, bytes) in parts {
                file.write_all_at(bytes, *at).unwrap();
            }
            file.set_len(size).unwrap();
            digest(&file, size, &mut |_| ()).unwrap()
        };
        let size = 300_001;
        let sparse = file(&[(100_000, b"data")], size);
        assert_eq!(file(&[(0, &vec![0; 300_001]), (100_000, b"data")], size), sparse);
        assert_ne!(file(&[(100_001, b"data")], size), sparse);
        assert_ne!(file(&[(104_096, b"data")], size), sparse);
        assert_ne!(file(&[(100_000, b"datb")], size), sparse);
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        one.write_all_at(&vec![7; 200_000], 50_000).unwrap();
        other.write_all_at(&vec![0; 250_000], 0).unwrap();
        other.write_all_at(&vec![7; 200_000], 50_000).unwrap();
        let mut sum = Digest::default();
        assert!(same(&one, &other, 250_000, Some(&mut sum), &mut |_| ()).unwrap());
        assert_eq!(sum.value(), digest(&one, 250_000, &mut |_| ()).unwrap());
    }
}
