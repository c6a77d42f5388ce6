//! The bytes of a regular file: shared with the source where the file system can (reflink), copied otherwise. Holes stay holes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use crate::problem::os_error;
use crate::walk::Stat;

/// The size of one read and write.
const CHUNK: usize = 1 << 18;
/// Up to this size a file is copied without a search for holes.
const SMALL: u64 = 1 << 16;

/// Copies content to one file system. Keeps a buffer, and the calls that do not work between a source and the destination.
#[derive(Debug, Default)]
pub struct Content {
    buffer: Vec<u8>,
    /// The file system, by its device number, that cannot share content with the destination.
    unshared: Option<(u32, u32)>,
    /// The file system between which and the destination `copy_file_range(2)` does not work.
    unranged: Option<(u32, u32)>,
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
                // No file of that file system can be shared with the destination. Whatever the reason, it can still be copied.
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                    self.unshared = device;
                }
                Err(_) => {}
            }
        }
        let mut at = 0;
        if size <= SMALL {
            at = self.part((source, target), (0, size), device, progress)?;
        } else {
            while let Some((start, end)) = data(source, at)? {
                progress(start.saturating_sub(at));
                at = self.part((source, target), (start, end), device, progress)?;
                // The source became shorter, which the comparison afterwards finds.
                if at < end {
                    break;
                }
            }
        }
        // A hole at the end. Of a source that became shorter or longer the comparison afterwards finds the size.
        if at < size { target.set_len(size).map_err(os_error) } else { Ok(()) }
    }

    /// Copies the bytes from `start` to `end`. Returns how far it came: to the end of the source at most.
    fn part(
        &mut self,
        (source, target): (&File, &File),
        (start, end): (u64, u64),
        device: Option<(u32, u32)>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, Errno> {
        let mut at = start;
        // For small files the call costs more than it saves.
        while end - at > SMALL && self.unranged != device {
            let (mut from, mut to) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(64 * CHUNK);
            match fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
                Ok(0) | Err(_) => self.unranged = device,
                Ok(length) => {
                    at += length as u64;
                    progress(length as u64);
                }
            }
        }
        if at < end && self.buffer.is_empty() {
            self.buffer = vec![0; CHUNK];
        }
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let length = source.read_at(&mut self.buffer[..wanted], at).map_err(os_error)?;
            if length == 0 {
                break;
            }
            target.write_all_at(&self.buffer[..length], at).map_err(os_error)?;
            at += length as u64;
            progress(length as u64);
        }
        Ok(at)
    }
}

/// The next part of a file that is no hole, at or after an offset; none at its end.
fn data(file: &File, from: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // Every file ends in a hole.
    fs::seek(file, SeekFrom::Hole(start)).map(|end| Some((start, end)))
}

/// Whether two files of this size have the same content. A part that is a hole in both is not read.
pub fn same(one: &File, other: &File, size: u64, progress: &mut dyn FnMut(u64)) -> Result<bool, Errno> {
    let length = CHUNK.min(usize::try_from(size).unwrap_or(CHUNK));
    let (mut first, mut second) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    while at < size {
        if size > SMALL {
            let next = |file| data(file, at).map(|part| part.map_or(size, |(start, _)| start));
            let start = next(one)?.min(next(other)?).min(size);
            progress(start - at);
            at = start;
        }
        let wanted = usize::try_from(size - at).unwrap_or(length).min(length);
        let lengths = (
            one.read_at(&mut first[..wanted], at).map_err(os_error)?,
            other.read_at(&mut second[..wanted], at).map_err(os_error)?,
        );
        let both = lengths.0.min(lengths.1);
        if both == 0 {
            return Ok(at == size);
        }
        if first[..both] != second[..both] {
            return Ok(false);
        }
        at += both as u64;
        progress(both as u64);
    }
    Ok(true)
}
