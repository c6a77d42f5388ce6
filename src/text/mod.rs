//! Text for people and programs: problems, names of errors, escaping, JSON, sizes.

pub mod errno;
pub mod escape;
pub mod json;
pub mod problem;
pub mod size;
