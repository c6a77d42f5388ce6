//! Results, each with the compared value, the ratio, and the limit.

use crate::sample::Pairs;

/// Limit of a row.
#[derive(Clone, Copy)]
pub enum Limit {
    /// None: printed only.
    None,
    /// Its last number.
    AtMost(f64),
}

/// Prints rows as they come.
#[derive(Default)]
pub struct Table {
    rows: usize,
    missed: usize,
    unstable: usize,
}

impl Table {
    /// Times of two programs; their ratio is held to the limit.
    pub fn times(&mut self, what: &str, other: &str, pairs: &Pairs, limit: Limit) {
        let (ours, theirs) = pairs.medians(|sample| sample.time);
        let ratio = pairs.ratio();
        if !ratio.stable && matches!(limit, Limit::AtMost(_)) {
            self.unstable += 1;
        }
        let stable = if ratio.stable { "" } else { ", not stable" };
        let verdict = self.verdict(ratio.median, limit);
        self.row([
            what,
            &format!("{:.2} ms", ours / 1e6),
            &format!("{other} {:.2} ms", theirs / 1e6),
            &format!("{:.3} ±{:.3}", ratio.median, ratio.margin),
            &pairs.rounds().to_string(),
            &format!("{verdict}{stable}"),
        ]);
    }

    /// Peaks of memory of two programs; the limit, in MiB, is for the first.
    pub fn peaks(&mut self, what: &str, other: &str, pairs: &Pairs, limit: Limit) {
        let (ours, theirs) = pairs.medians(|sample| sample.peak_kib / 1024.0);
        let verdict = self.verdict(ours, limit);
        self.row([
            what,
            &format!("{ours:.2} MiB"),
            &format!("{other} {theirs:.2} MiB"),
            "",
            &pairs.rounds().to_string(),
            &verdict,
        ]);
    }

    fn verdict(&mut self, value: f64, limit: Limit) -> String {
        match limit {
            Limit::None => "-".into(),
            Limit::AtMost(most) if value <= most => format!("OK (at most {most})"),
            Limit::AtMost(most) => {
                self.missed += 1;
                format!("MISS (at most {most})")
            }
        }
    }

    fn row(&mut self, cells: [&str; 6]) {
        let line = |[what, ours, other, ratio, rounds, verdict]: [&str; 6]| {
            println!("{what:<28} {ours:>12} {other:>24} {ratio:>14} {rounds:>7}  {verdict}");
        };
        if self.rows == 0 {
            line(["what", "imp-mount", "against", "ratio", "rounds", "limit"]);
        }
        self.rows += 1;
        line(cells);
    }

    /// True if every limit was measured, and kept.
    pub fn sum_up(&self) -> bool {
        println!(
            "{} of the limits missed, {} of the ratios held to one not stable",
            self.missed, self.unstable
        );
        self.missed == 0 && self.unstable == 0
    }
}
