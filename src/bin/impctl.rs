//! The tool for people and builds.
fn main() {}
