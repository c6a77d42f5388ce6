//! One measured run.

use std::path::Path;
use std::process::Command;

/// What measure.c says of a program.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From start to end, in nanoseconds.
    pub time: u64,
    /// The most memory it had resident, in KiB.
    pub peak_kib: u64,
    code: u64,
    mounts: u64,
}

impl Sample {
    /// A program that does nothing is fast.
    pub fn assert_mounted(&self, entries: usize) {
        assert_eq!(self.code, 0, "the measured program failed: {self:?}");
        assert!(
            self.mounts >= entries as u64,
            "the measured program did not mount {entries} entries: {self:?}"
        );
    }
}

/// Runs programs one after the other in one fresh namespace.
pub fn measure(measure: &Path, lines: &[Vec<String>]) -> Vec<Sample> {
    let output =
        Command::new(measure).args(lines.join(&";;".to_owned())).output().expect("measure.c is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let samples = String::from_utf8(output.stdout).unwrap();
    // That a run went well is no news here.
    said.lines().filter(|line| !line.contains(" put in place, ")).for_each(|line| eprintln!("{line}"));
    samples.lines().map(parse).collect()
}

fn parse(line: &str) -> Sample {
    let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let &[time, peak_kib, code, mounts] = numbers.as_slice() else { panic!("measure.c said {line}") };
    Sample { time, peak_kib, code, mounts }
}

/// The middle one: half of the runs took no longer.
pub fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}
