//! The binary manifest: any bytes are refused with an error, or have the same meaning after another encoding.

#![no_main]

use imp_mount::manifest::wire::{decode, encode, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    round_trip(data);
    // A checksum keeps made-up bytes out, so they are given a right one too.
    if let Ok(sealed) = seal(data) {
        round_trip(&sealed);
    }
});

fn round_trip(bytes: &[u8]) {
    if let Ok(manifest) = decode(bytes) {
        let again = encode(&manifest).expect("what was accepted can be written");
        assert_eq!(decode(&again), Ok(manifest));
    }
}
