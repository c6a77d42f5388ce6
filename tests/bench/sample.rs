//! Measured runs, and two programs measured in turn.

use std::path::Path;
use std::process::Command;

/// Rounds before a ratio can be called stable.
const AT_LEAST: usize = 11;

/// The width of a stable ratio's confidence interval, as a part of the ratio.
const STABLE: f64 = 0.03;

/// Result of measure.c for a program.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From start to end, in nanoseconds.
    pub time: f64,
    /// Peak of its resident memory, in KiB.
    pub peak_kib: f64,
    code: u64,
    mounts: u64,
}

impl Sample {
    /// A program without effect is fast.
    fn assert_mounted(&self, entries: usize) {
        assert_eq!(self.code, 0, "the measured program failed: {self:?}");
        assert!(
            self.mounts >= entries as u64,
            "the measured program did not mount {entries} entries: {self:?}"
        );
    }
}

/// Runs programs one after the other in one fresh namespace, where each must leave so many entries mounted.
pub fn measure(measure: &Path, entries: usize, lines: &[Vec<String>]) -> Vec<Sample> {
    let output =
        Command::new(measure).args(lines.join(&";;".to_owned())).output().expect("measure.c is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // The line of a successful run is left out.
    said.lines().filter(|line| !line.contains(" put in place, ")).for_each(|line| eprintln!("{line}"));
    let samples: Vec<Sample> = String::from_utf8(output.stdout).unwrap().lines().map(parse).collect();
    for sample in &samples {
        sample.assert_mounted(entries);
    }
    samples
}

fn parse(line: &str) -> Sample {
    let words: Vec<&str> = line.split(' ').collect();
    let &[time, peak, code, mounts] = words.as_slice() else { panic!("measure.c said {line}") };
    Sample {
        time: time.parse().unwrap(),
        peak_kib: peak.parse().unwrap(),
        code: code.parse().unwrap(),
        mounts: mounts.parse().unwrap(),
    }
}

/// Runs of two programs, in pairs: both of a pair ran under the same load.
pub struct Pairs(Vec<(Sample, Sample)>);

/// Ratio of the times of two programs.
pub struct Ratio {
    /// The median of the ratios of all pairs.
    pub median: f64,
    /// Half of the confidence interval (95 %) of the median.
    pub margin: f64,
    /// The confidence interval is narrow: at most [`STABLE`] of the median, after [`AT_LEAST`] rounds.
    pub stable: bool,
}

impl Pairs {
    /// Measures a pair in every round until their ratio is stable, or `most` rounds are over.
    pub fn until_stable(most: usize, mut round: impl FnMut(usize) -> (Sample, Sample)) -> Self {
        let mut pairs = Self(Vec::new());
        while pairs.rounds() < most && !(pairs.rounds() >= AT_LEAST && pairs.ratio().stable) {
            pairs.0.push(round(pairs.rounds()));
        }
        pairs
    }

    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    pub fn ratio(&self) -> Ratio {
        let ratios = sorted(self.0.iter().map(|(first, second)| first.time / second.time));
        let (median, count) = (middle(&ratios), ratios.len());
        // The number of ratios below the true median is binomial with p = 1/2; 1.96 standard deviations are 95 %.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let ranks = (1.96 * (count as f64).sqrt() / 2.0).ceil() as usize;
        let low = ratios[(count / 2).saturating_sub(ranks)];
        let high = ratios[(count / 2 + ranks).min(count - 1)];
        let stable = count >= AT_LEAST && high - low <= STABLE * median;
        Ratio { median, margin: (high - low) / 2.0, stable }
    }

    /// The medians of one value, for the first and the second program.
    pub fn medians(&self, of: fn(&Sample) -> f64) -> (f64, f64) {
        let first = sorted(self.0.iter().map(|(first, _)| of(first)));
        let second = sorted(self.0.iter().map(|(_, second)| of(second)));
        (middle(&first), middle(&second))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
