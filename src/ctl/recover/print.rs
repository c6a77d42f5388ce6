//! Text output of `impctl recover`.

use super::left_out::Passed;
use super::outcome::{Outcome, Standing};
use crate::ctl::line;
use crate::ctl::ui::terminal::{count, number, size};
use crate::text::escape::{self, Page};

/// The whole result except the problems.
pub fn text(outcomes: &[Outcome], dry_run: bool, nixos: bool) -> Page {
    let mut page = Page::default();
    for one in outcomes {
        page.line(format_args!("{}: {}", one.path, state(one, dry_run)));
        if let Some(doubt) = one.doubt {
            page.line(format_args!("  files of it may be incomplete, as {doubt}: look at them"));
        }
        for Passed { root, why } in &one.passed {
            page.line(format_args!(
                "  root {root} had it later: saving that root left it out: {}",
                escape::name(why)
            ));
        }
        if let Some(how) = &one.persists {
            page.line(format_args!("  it persists {how}"));
        }
    }
    let lines = outcomes.iter().filter_map(|one| Some((one.nix.as_deref()?, one.entry.as_ref()?)));
    if lines.clone().next().is_some() {
        page.line("");
        page.append(&line::to_keep(lines, nixos));
    }
    page
}

fn state(one: &Outcome, dry_run: bool) -> String {
    let amount = if one.brought == one.files {
        count(one.files, "file")
    } else {
        format!("{} of {}", number(one.brought), count(one.files, "file"))
    };
    let amount = format!("{amount}, {}", size(one.bytes));
    let from = format!("root {} on {}", one.root, one.store);
    let to = if one.to == one.path { String::new() } else { format!(" to {}", one.to) };
    match one.state {
        Standing::There => format!("all that {from} has is there already"),
        Standing::Brought => format!("brought from {from}{to} ({amount})"),
        Standing::Missing => format!("would be brought from {from}{to} ({amount})"),
        Standing::Incomplete if one.brought == 0 => format!("nothing of {from} is brought{to}"),
        Standing::Incomplete if dry_run => format!("would be brought in part from {from}{to} ({amount})"),
        Standing::Incomplete => format!("brought in part from {from}{to} ({amount})"),
    }
}
