//! The manifest's binary form, read at boot.
//!  postcard identifies fields by position alone: bytes of another version would be misread without an error.
//! Therefore a header precedes the data: magic, format, length and a checksum over all bytes.

use crc::{Crc, Table};

use super::Manifest;
use super::refuse::{place, problems};
use crate::text::problem::{Problem, Result};

/// The format's number, raised whenever a type of the manifest changes.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 8] = *b"imp-mnt\0";
/// Magic, format, and the length of the data after the header.
const SUMMED: usize = MAGIC.len() + 2 + 4;
/// The header: the summed bytes and the checksum.
const HEADER: usize = SUMMED + 4;
/// The checksum of Ethernet, gzip and many more, with a small table: its code is in every initrd.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&crc::CRC_32_ISO_HDLC);
/// The maximum of bytes read; a manifest of a million entries is smaller.
pub const LIMIT: u64 = 64 << 20;

/// The binary form of a manifest.
///
/// # Errors The first error by [`refuse`](super::refuse), or a manifest beyond the size limit.
pub fn encode(manifest: &Manifest) -> Result<Vec<u8>> {
    accept(manifest)?;
    let payload = postcard::to_allocvec(manifest)
        .map_err(|error| Problem::new(format!("it cannot be written: {error}")))?;
    seal(&payload)
}

/// Puts the header before the data.
///
/// # Errors Data beyond the size limit.
pub fn seal(payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() as u64 <= LIMIT);
    let length = length.ok_or_else(|| Problem::new("it is larger than 64 MiB"))?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(sum(&bytes, payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

/// Reads a manifest in its binary form.
///
/// # Errors The difference from this format, or the first error by [`refuse`](super::refuse).
pub fn decode(bytes: &[u8]) -> Result<Manifest> {
    let whole = |what: String| Problem::new(what).remedy("write it again with `impctl compile`");
    if is_text(bytes) {
        return Err(Problem::new("this is the text form").remedy("compile it with `impctl compile`"));
    }
    if bytes.is_empty() {
        return Err(whole("the file is empty".to_owned()));
    }
    if !is_compiled(bytes) {
        return Err(whole("this is no manifest: it does not start like one".to_owned()));
    }
    let short = || whole(format!("the file is cut off after {} bytes, within its header", bytes.len()));
    let (format, rest) = bytes[MAGIC.len().min(bytes.len())..].split_first_chunk().ok_or_else(short)?;
    match u16::from_le_bytes(*format) {
        FORMAT => {}
        format => {
            let age = if format < FORMAT { "older" } else { "newer" };
            return Err(whole(format!("its format is {format}, {age} than {FORMAT}, the one that this version reads"))
                .remedy("write it with the impctl that belongs to this imp-mount, or boot the generation that it is from"));
        }
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (checksum, payload) = rest.split_first_chunk().ok_or_else(short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length as u64 <= LIMIT);
    match length {
        None => return Err(whole("its header asks for more than 64 MiB: it is damaged".to_owned())),
        Some(length) if payload.len() < length => {
            return Err(whole(format!("the file is cut off: {} of {length} bytes are there", payload.len())));
        }
        Some(length) if payload.len() > length => {
            return Err(whole(format!(
                "{} bytes follow after its end: it is damaged",
                payload.len() - length
            )));
        }
        Some(_) => {}
    }
    if u32::from_le_bytes(*checksum) != sum(&bytes[..SUMMED], payload) {
        return Err(whole("its checksum is wrong: it is damaged".to_owned()));
    }
    let (manifest, rest) = postcard::take_from_bytes(payload)
        .map_err(|error| whole(format!("its checksum is right, but its content is not: {error}")))?;
    if !rest.is_empty() {
        return Err(whole(format!("its content ends {} bytes early", rest.len())));
    }
    accept(&manifest)?;
    Ok(manifest)
}

/// True if bytes begin as the binary form does, or as much of it as is there.
#[must_use]
pub fn is_compiled(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())])
}

/// True if bytes look like a manifest's text form, also after a byte order mark.
fn is_text(bytes: &[u8]) -> bool {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii_start().starts_with(b"{")
}

fn sum(header: &[u8], payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(header);
    digest.update(payload);
    digest.finalize()
}

/// Accepts only a manifest without errors, so later code need not check.
fn accept(manifest: &Manifest) -> Result<()> {
    let found = problems(manifest, &|it| place(manifest, it));
    let more = found.len().saturating_sub(1);
    match found.into_iter().next() {
        None => Ok(()),
        Some(problem) if more == 0 => Err(problem),
        Some(mut problem) => {
            problem.what = format!("{} (and {more} more)", problem.what);
            Err(problem)
        }
    }
}
