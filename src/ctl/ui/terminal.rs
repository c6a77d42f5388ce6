//! Text for people: sizes and ages in few letters, tables within the width of the terminal, and colour if wanted (on a
//! terminal, and not with `NO_COLOR`).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::ctl::ui::output::{Failure, written};
use crate::text::escape::{self, Page};
pub use crate::text::size::size;

/// Heading of a table.
pub const HEADING: Style = Style::new().bold();
/// Details.
pub const FAINT: Style = Style::new().dimmed();
/// Emphasis.
pub const ALERT: Style = anstyle::AnsiColor::Yellow.on_default();

/// Writes text to standard output; its styles go only where they are wanted.
#[expect(clippy::disallowed_methods, reason = "a page")]
pub fn print(page: &Page) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    written(stdout.write_all(page.as_str().as_bytes()).and_then(|()| stdout.flush()))
}

/// A line in a style.
#[must_use]
pub fn styled(style: Style, line: &str) -> Page {
    Page::made(in_style(style, line) + "\n")
}

fn in_style(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", escape::line(text))
}

/// Columns of the terminal: `COLUMNS`, else the terminal's answer. None without a terminal, so that pipes get the full
/// text.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "nothing is written")]
pub fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let own = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    said.or_else(own).filter(|width| *width > 0)
}

/// Words after a heading, broken at blanks where the terminal ends, and aligned from a column on.
#[must_use]
pub fn wrapped(heading: &str, words: &str, indent: usize, width: Option<usize>) -> Page {
    let mut page = Page::default();
    let mut text = heading.to_owned() + &" ".repeat(indent.saturating_sub(heading.width()));
    let mut at = text.width();
    for word in escape::line(words).split(' ') {
        if at > indent {
            if width.is_some_and(|width| at + 1 + word.width() > width) {
                page.line(text);
                text = " ".repeat(indent);
                at = indent;
            } else {
                text.push(' ');
                at += 1;
            }
        }
        text += word;
        at += word.width();
    }
    page.line(text);
    page
}

/// The next step for the user.
#[must_use]
pub fn step(words: &str, width: Option<usize>) -> Page {
    wrapped("->", words, 3, width)
}

/// A number with a comma at every thousand.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 file`, `2,000 files`.
#[must_use]
pub fn count(value: u64, one: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {one}{plural}", number(value))
}

/// Age of a time in seconds since 1970: `now`, `3 min`, `5 h`, `2 days`, `7 months`, `3 years`.
#[must_use]
pub fn age(then: i64, now: i64) -> String {
    const STEPS: [(i64, &str); 5] =
        [(365 * 86_400, "year"), (30 * 86_400, "month"), (86_400, "day"), (3_600, " h"), (60, " min")];
    let past = now.saturating_sub(then);
    // A clock set back counts as now.
    let Some((length, unit)) = STEPS.into_iter().find(|(length, _)| past >= *length) else {
        return "now".to_owned();
    };
    match (past / length, unit.strip_prefix(' ')) {
        (number, Some(short)) => format!("{number} {short}"),
        (number, None) => count(number.unsigned_abs(), unit),
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

/// The day of a time, by UTC: `2026-11-27`.
#[must_use]
pub fn day(seconds: i64) -> String {
    // Years begin in March, with the leap day as the last; 400 of them have 146,097 days.
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}")
}

/// A time, by UTC: `2026-11-27 09:05:59`.
#[must_use]
pub fn date_time(seconds: i64) -> String {
    let clock = seconds.rem_euclid(86_400);
    format!("{} {:02}:{:02}:{:02}", day(seconds), clock / 3600, clock / 60 % 60, clock % 60)
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// True for a number.
    pub right: bool,
    /// True if a narrow terminal may omit the column; the last such column is omitted first.
    pub optional: bool,
}

/// A table whose last column is never cut, for copying. A remark is beside this column, or below if the line is too
/// long.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    last: &'static str,
    rows: Vec<(Vec<String>, String, String)>,
}

impl Table {
    /// A table with some narrow columns and a wide one at their right.
    #[must_use]
    pub fn new(columns: &[Column], last: &'static str) -> Self {
        Self { columns: columns.to_vec(), last, rows: Vec::new() }
    }

    /// Adds a row: its cells, its last cell, and a remark, which may be empty.
    pub fn row(&mut self, cells: Vec<String>, last: String, remark: String) {
        debug_assert_eq!(cells.len(), self.columns.len());
        let one_line = |text: String| escape::line(&text).into_owned();
        let cells = cells.into_iter().map(one_line).collect();
        self.rows.push((cells, one_line(last), one_line(remark)));
    }

    /// The table as text with styles, for a terminal of so many columns.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> Page {
        let mut shown: Vec<_> = (0..self.columns.len()).collect();
        let wide = |index: usize| self.rows.iter().map(|row| row.0[index].width()).max().unwrap_or(0);
        let widths: Vec<_> =
            self.columns.iter().enumerate().map(|(index, it)| wide(index).max(it.title.width())).collect();
        let taken = |shown: &[usize]| shown.iter().map(|index| widths[*index] + 2).sum::<usize>();
        let usual = self.rows.iter().map(|row| row.1.width()).max().unwrap_or(0).clamp(self.last.width(), 40);
        while width.is_some_and(|width| taken(&shown) + usual > width) {
            let Some(place) = shown.iter().rposition(|index| self.columns[*index].optional) else { break };
            shown.remove(place);
        }
        let left = taken(&shown);
        // Remarks are aligned below each other, except after long paths.
        let remarked = self.rows.iter().filter(|row| !row.2.is_empty());
        let remark = remarked.map(|row| row.1.width()).filter(|width| *width <= 48).max().unwrap_or(0);

        let mut text = String::new();
        let line = |cells: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for index in &shown {
                let cell = cells(*index);
                let space = " ".repeat(widths[*index].saturating_sub(cell.width()));
                line += &if self.columns[*index].right { space + &cell } else { cell + &space };
                line += "  ";
            }
            line
        };
        let heading = line(&|index| self.columns[index].title.to_owned()) + self.last;
        text += &in_style(HEADING, &heading);
        text.push('\n');
        for (cells, last, note) in &self.rows {
            text += &line(&|index| cells[index].clone());
            text += last;
            if !note.is_empty() {
                let column = remark.max(last.width()) + 2;
                if width.is_some_and(|width| left + column + note.width() > width) {
                    let lines = wrapped("", note, left + 2, width);
                    for line in lines.as_str().lines() {
                        text.push('\n');
                        text += &line[..left + 2];
                        text += &in_style(FAINT, &line[left + 2..]);
                    }
                } else {
                    text += &" ".repeat(column - last.width());
                    text += &in_style(FAINT, note);
                }
            }
            text.push('\n');
        }
        Page::made(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ages() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(number));
        assert_eq!((count(1, "file").as_str(), count(2000, "file").as_str()), ("1 file", "2,000 files"));
        let now = 1_000_000_000;
        for (past, text) in [
            (-5, "now"),
            (59, "now"),
            (60, "1 min"),
            (7200, "2 h"),
            (86_400, "1 day"),
            (40 * 86_400, "1 month"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(age(now - past, now), text);
        }
    }

    #[test]
    fn days() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_795_799_301, "2026-11-27"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), text);
        }
        assert_eq!(date_time(1_795_799_301), "2026-11-27 17:08:21");
    }

    #[test]
    fn a_table_fits() {
        let columns = [
            Column { title: "SIZE", right: true, optional: false },
            Column { title: "OWNER", right: false, optional: true },
        ];
        let mut table = Table::new(&columns, "PATH");
        table.row(vec!["1.0K".into(), "root".into()], "/var/lib/some-service".into(), "some.service".into());
        table.row(vec!["12".into(), "\u{e9}\u{4e2d}".into()], "/a".into(), String::new());
        let plain = |width| anstream::adapter::strip_str(table.render(width).as_str()).to_string();
        assert_eq!(
            plain(None),
            "SIZE  OWNER  PATH\n1.0K  root   /var/lib/some-service  some.service\n  12  \u{e9}\u{4e2d}    /a\n"
        );
        assert_eq!(
            plain(Some(30)),
            "SIZE  PATH\n1.0K  /var/lib/some-service\n        some.service\n  12  /a\n"
        );
    }
}
