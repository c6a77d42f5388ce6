//! The manifest: accepted and refused texts, and the equality of its two forms.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

#[path = "manifest/command.rs"]
mod command;
#[path = "manifest/documents.rs"]
mod documents;
#[path = "manifest/forms.rs"]
mod forms;
#[path = "manifest/layout.rs"]
mod layout;
#[path = "manifest/random.rs"]
mod random;
#[path = "manifest/refused.rs"]
mod refused;
#[path = "manifest/wire.rs"]
mod wire;

use imp_mount::manifest::{Manifest, text};

/// A manifest with one store, and these keys.
fn manifest(keys: &str) -> Manifest {
    let json = format!(r#"{{ "version": 1, "stores": [{{ "path": "/persist" }}], {keys} }}"#);
    text::parse(&json).unwrap_or_else(|problems| panic!("{json}: {problems:?}"))
}
