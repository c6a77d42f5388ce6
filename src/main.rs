//! The boot binary.
fn main() {}
