//! Text and JSON output of `impctl adopt`.

use serde::Serialize;

use super::checks::Checked;
use crate::ctl::line;
use crate::ctl::ui::terminal::{self, count};
use crate::manifest::AbsPath;
use crate::text::escape::Page;

/// Result of `impctl adopt`. Sizes are in bytes; paths are those of the booted system.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    /// The version of this form.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub version: u32,
    /// The paths mounted from a store now.
    pub adopted: &'a [Done],
    /// Failures.
    #[cfg_attr(test, schemars(inner(length(min = 1))))]
    pub problems: Vec<String>,
}

/// Result for one path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// The path.
    pub target: AbsPath,
    /// Its path on the store.
    pub source: AbsPath,
    /// True if mounted before.
    pub was_in_place: bool,
    /// Number of copied files.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// The line of a NixOS configuration to keep the path.
    pub nix: String,
    /// The entry of a manifest to keep the path.
    pub entry: line::Entry,
    #[serde(flatten)]
    pub checked: Checked,
}

/// Text for a terminal, with the configuration lines of the paths, unless they are written already.
pub fn text(done: &[Done], is_written: bool, nixos: bool) -> Page {
    let mut page = Page::default();
    for one in done {
        let (target, source) = (&one.target, &one.source);
        let amount = format!("{}, {}", count(one.files, "file"), terminal::size(one.bytes));
        if one.was_in_place {
            page.line(format_args!("{target}: in place already, from {source}"));
        } else {
            page.line(format_args!("{target}: mounted from {source} ({amount})"));
        }
        if let Some(freed) = one.checked.freed.filter(|freed| *freed > 0) {
            page.line(format_args!("  {} of the root's memory are free again", terminal::size(freed)));
        }
    }
    if done.is_empty() || is_written {
        return page;
    }
    page.line("");
    page.append(&line::to_keep(done.iter().map(|one| (one.nix.as_str(), &one.entry)), nixos));
    page
}
