//! Results, each with what it is compared to, the ratio, and the limit.

/// What a row is held to.
#[derive(Clone, Copy)]
pub enum Limit {
    /// Nothing: it is there to be seen.
    None,
    /// Its last number.
    AtMost(f64),
}

/// The rows so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 5]>,
    missed: usize,
}

impl Table {
    /// Two times in nanoseconds; their ratio is held to the limit.
    pub fn times(&mut self, what: &str, ours: u64, other: &str, theirs: u64, limit: Limit) {
        let ms = |time: u64| float(time) / 1e6;
        let ratio = float(ours) / float(theirs);
        let reading = format!("{:.2} ms", ms(ours));
        self.row(what, reading, format!("{other} {:.2} ms", ms(theirs)), format!("{ratio:.2}"), ratio, limit);
    }

    /// Two peaks of memory in KiB; ours is held to the limit, which is in MiB.
    pub fn peak(&mut self, what: &str, ours: u64, theirs: u64, limit: Limit) {
        let mib = |kib: u64| float(kib) / 1024.0;
        let reading = format!("{:.2} MiB", mib(ours));
        self.row(what, reading, format!("C loop {:.2} MiB", mib(theirs)), String::new(), mib(ours), limit);
    }

    fn row(&mut self, what: &str, ours: String, other: String, ratio: String, value: f64, limit: Limit) {
        let verdict = match limit {
            Limit::None => String::new(),
            Limit::AtMost(most) if value <= most => format!("OK (at most {most})"),
            Limit::AtMost(most) => {
                self.missed += 1;
                format!("MISS (at most {most})")
            }
        };
        self.rows.push([what.into(), ours, other, ratio, verdict]);
    }

    /// Prints everything; returns how many limits were missed.
    pub fn print(&self) -> usize {
        println!("\n{:<28} {:>12} {:>24} {:>7}  limit", "what", "imp-mount", "against", "ratio");
        for [what, ours, other, ratio, verdict] in &self.rows {
            println!("{what:<28} {ours:>12} {other:>24} {ratio:>7}  {verdict}");
        }
        println!("{} of the limits missed", self.missed);
        self.missed
    }
}

/// Nanoseconds and KiB are far below what a double loses.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}
