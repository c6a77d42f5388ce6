//! Problems of a run, most of which do not stop the run.

use crate::text::problem::Problem;

/// Problems of a run, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Problems {
    /// Problems with a failed run as their result.
    pub failures: Vec<Problem>,
    /// All others.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// Adds a failure or a warning.
    // Not a copy at every call.
    #[inline(never)]
    pub fn add(&mut self, fails: bool, problem: Problem) {
        if fails { &mut self.failures } else { &mut self.warnings }.push(problem);
    }

    /// Adds a warning.
    pub fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }
}
