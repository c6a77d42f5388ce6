//! One line that shows how far a long work is, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// The line; it is gone when this value is.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line for a work on so many bytes.
    #[must_use]
    pub fn new(bytes: u64, what: &str) -> Self {
        let bar = ProgressBar::new(bytes);
        // Without colours; the bar takes what the terminal has left.
        if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes} {eta}") {
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

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
