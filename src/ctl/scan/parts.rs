//! The largest of the directories and files inside of lines: as many as are asked for, however many there are.

use super::Row;

/// The largest rows of all added ones.
#[derive(Debug, Default)]
pub struct Parts {
    most: usize,
    rows: Vec<Row>,
}

impl Parts {
    /// None yet, and so many at most.
    pub fn new(most: usize) -> Self {
        Self { most, rows: Vec::new() }
    }

    /// Adds rows. For each kept directory, all directories above are kept, as they are larger.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        if self.most > 0 {
            self.rows.extend(rows);
            if self.rows.len() > 2 * self.most {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.rows.len() > self.most {
            let first = |a: &Row, b: &Row| (b.totals.allocated, &a.path).cmp(&(a.totals.allocated, &b.path));
            self.rows.select_nth_unstable_by(self.most, first);
            self.rows.truncate(self.most);
        }
    }

    /// All of them, in no order.
    pub fn into_rows(mut self) -> Vec<Row> {
        self.cut();
        self.rows
    }
}
