//! The binary form: golden bytes, and damaged bytes are refused.

use imp_mount::manifest::{Manifest, text, wire};

const TEXT: &str = include_str!("../golden/v1.json");
const BYTES: &[u8] = include_bytes!("../golden/v1.bin");

/// A manifest behind a valid header, also with errors in the manifest.
pub fn sealed(manifest: &Manifest) -> Vec<u8> {
    seal(wire::FORMAT, &postcard::to_allocvec(manifest).unwrap())
}

fn seal(format: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"imp-mnt\0".to_vec();
    bytes.extend(format.to_le_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&[&bytes, payload].concat());
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    wire::decode(bytes).unwrap_err().to_string()
}

#[test]
fn the_bytes_of_format_1_stay_as_they_are() {
    let manifest = text::parse(TEXT).unwrap();
    assert_eq!(wire::decode(BYTES), Ok(manifest.clone()));
    assert_eq!(wire::encode(&manifest).unwrap(), BYTES);
    assert_eq!(sealed(&manifest), BYTES);
}

#[test]
fn every_truncation_is_refused() {
    for length in 0..BYTES.len() {
        let why = refusal(&BYTES[..length]);
        let reason = if length == 0 { "the file is empty" } else { "the file is cut off" };
        assert!(why.starts_with(reason), "{length}: {why}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for bit in 0..BYTES.len() * 8 {
        let mut bytes = BYTES.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let why = refusal(&bytes);
        let reasons: &[&str] = match bit / 8 {
            0..8 => &["this is no manifest"],
            8..10 => &["its format is"],
            10..14 => &["the file is cut off", "bytes follow after its end", "its header asks for more"],
            _ => &["its checksum is wrong"],
        };
        assert!(reasons.iter().any(|reason| why.contains(reason)), "{bit}: {why}");
    }
}

#[test]
fn extensions_are_refused() {
    assert_eq!(
        refusal(&[BYTES, b"x"].concat()),
        "1 bytes follow after its end: it is damaged; write it again with `impctl compile`"
    );
    let payload = &BYTES[18..];
    assert!(refusal(&seal(1, &[payload, b"x"].concat())).starts_with("its content ends 1 bytes early"));
}

#[test]
fn other_formats_are_refused_by_number() {
    let newer = refusal(&seal(2, b"whatever it holds"));
    assert!(newer.starts_with("its format is 2, newer than 1, the one that this version reads; "), "{newer}");
    let older = refusal(&seal(0, b""));
    assert!(older.starts_with("its format is 0, older than 1, the one that this version reads; "), "{older}");
}

#[test]
fn foreign_bytes_are_refused() {
    for json in [TEXT, "  \n{}"] {
        assert_eq!(refusal(json.as_bytes()), "this is the text form; compile it with `impctl compile`");
    }
    for bytes in [b"\x7fELF".as_slice(), b"imp-mnt", &[0; 4096], b"[]"] {
        let why = refusal(bytes);
        assert!(
            why.starts_with("this is no manifest") || bytes == b"imp-mnt" && why.contains("cut off"),
            "{why}"
        );
    }
    // A valid checksum does not make the content valid.
    assert!(refusal(&seal(1, b"\x02")).starts_with("its checksum is right, but its content is not"));
    let mut huge = seal(1, b"");
    huge[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refusal(&huge).contains("more than 64 MiB"));
}
