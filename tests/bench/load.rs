//! Other load of the machine.

use std::fs;

/// Processor time since the machine was started, in clock ticks.
pub struct Load {
    /// Of all processors.
    busy: u64,
    idle: u64,
    /// Of this process and its waited-for children.
    own: u64,
}

impl Load {
    pub fn now() -> Self {
        let numbers = |text: &str| -> Vec<u64> { text.split_whitespace().flat_map(str::parse).collect() };
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let all = numbers(stat.lines().next().unwrap());
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let own: Vec<&str> = own.rsplit(')').next().unwrap().split_whitespace().collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let idle = all[3] + all[4];
        let busy = all[..8].iter().sum::<u64>() - idle;
        // The first word after the name is the third field: 14 to 17 are utime, stime, cutime, cstime.
        Self { busy, idle, own: own[11..15].iter().flat_map(|word| word.parse::<u64>()).sum() }
    }

    /// Since then: how many processors were busy with other things, of how many.
    #[allow(clippy::cast_precision_loss, reason = "ticks are far below what a double loses")]
    pub fn of_others(&self) -> (f64, usize) {
        let now = Self::now();
        let processors = fs::read_to_string("/proc/stat").unwrap().matches("\ncpu").count();
        let (busy, own) = (now.busy - self.busy, now.own - self.own);
        let all = (busy + now.idle - self.idle).max(1) as f64;
        (busy.saturating_sub(own) as f64 / all * processors as f64, processors)
    }
}

/// Load averages of 1, 5 and 15 minutes.
pub fn averages() -> String {
    let line = fs::read_to_string("/proc/loadavg").unwrap();
    line.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
