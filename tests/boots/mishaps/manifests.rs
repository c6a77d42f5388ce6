//! Unreadable manifests.

use serde_json::json;

use super::{manifest, stops};
use crate::boot::{Boot, compile};
use crate::computer::{Computer, On};

tests![a_bit_is_flipped, it_is_cut_off, it_is_empty, it_is_of_a_newer_version, it_is_missing];

/// The boot stops with the error of the manifest, and succeeds with the kernel argument in the remedy.
fn unreadable(bytes: Option<Vec<u8>>, words: &str) {
    let computer = Computer::new(On::Here);
    let boot = Boot::with(bytes);
    stops(
        &computer,
        &boot,
        "imp-mount-early.service",
        &[
            &format!("manifest            /etc/imp-mount/manifest: {words}"),
            "-> boot an earlier generation or kernel from the boot menu; its initrd has a manifest that worked",
            "-> or put imp-mount=off on the kernel command line, and mount what is needed by hand",
            "EXIT 2",
        ],
    );
    let boot = boot.cmdline("imp-mount=off").probe("fails state test -e /var/lib/state\n");
    computer.boot(&boot).passed();
}

fn whole() -> Vec<u8> {
    compile(&manifest(&json!([{ "directory": "/var/lib/state" }])))
}

fn a_bit_is_flipped() {
    let mut bytes = whole();
    *bytes.last_mut().unwrap() ^= 1;
    unreadable(Some(bytes), "its checksum is wrong: it is damaged; write it again with `impctl compile`");
}

fn it_is_cut_off() {
    let mut bytes = whole();
    // Nearly all bytes after the header.
    bytes.truncate(18 + 5);
    let length = whole().len() - 18;
    unreadable(
        Some(bytes),
        &format!("the file is cut off: 5 of {length} bytes are there; write it again with `impctl compile`"),
    );
}

fn it_is_empty() {
    unreadable(Some(vec![]), "the file is empty; write it again with `impctl compile`");
}

fn it_is_of_a_newer_version() {
    let mut bytes = whole();
    // Behind the eight bytes of the magic.
    bytes[8] += 1;
    unreadable(
        Some(bytes),
        "its format is 2, newer than 1, the one that this version reads; write it with the impctl that belongs to this \
         imp-mount, or boot the generation that it is from",
    );
}

fn it_is_missing() {
    unreadable(
        None,
        "cannot read it: No such file or directory (os error 2); name another with --manifest; on NixOS the initrd of an \
         earlier generation has one, in the boot menu",
    );
}
