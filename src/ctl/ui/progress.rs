//! One line with the progress of a long command, on a terminal only.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::text::size::size;

/// Writes a word of the line. After an error the line is drawn again.
fn written(to: &mut dyn Write, text: &str) {
    let _ = to.write_str(text);
}

/// The line, removed on drop.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line for a work on so many bytes.
    #[must_use]
    pub fn new(bytes: u64, what: &str) -> Self {
        let bar = ProgressBar::new(bytes);
        // Without colours; the bar fills the rest of the terminal's width.
        if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {done}/{all} {left}") {
            let done = |state: &ProgressState, to: &mut dyn Write| written(to, &size(state.pos()));
            let all = |state: &ProgressState, to: &mut dyn Write| {
                written(to, &size(state.len().unwrap_or_default()));
            };
            // Before its start a work has no estimate.
            let left = |state: &ProgressState, to: &mut dyn Write| {
                if state.pos() > 0 {
                    written(to, &format!("{:#}", HumanDuration(state.eta())));
                }
            };
            let style = style.with_key("done", done).with_key("all", all).with_key("left", left);
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// The current step.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }
}

/// Number of files before the line appears: fewer take no time.
const MANY: u64 = 50_000;

/// The line of a work on files whose number is not known.
#[derive(Debug)]
pub struct Count {
    bar: ProgressBar,
    files: AtomicU64,
}

impl Count {
    /// A line, not yet visible.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} {human_pos} files") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self { bar, files: AtomicU64::new(0) }
    }

    /// So many files more are done.
    pub fn add(&self, files: u64) {
        let before = self.files.fetch_add(files, Ordering::Relaxed);
        if (before..before + files).contains(&MANY) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(before + files);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
