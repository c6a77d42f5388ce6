//! The review without a terminal: the effect of each key, and the lines of the screen.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::answers::Book;
use super::record::{Answer, Choice};
use super::tree::{Order, Tree};
use crate::ctl::lost::nix;
use crate::ctl::scan::show;
use crate::ctl::ui::terminal::{age, count, size};
use crate::manifest::mode;
use crate::text::escape;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is called as it is on a keyboard")]
pub enum Key {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C.
    Interrupt,
    /// A key without effect.
    Other,
}

/// The next step after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Show the screen, and wait for the next key.
    Nothing,
    /// Look into a directory of the tree.
    Load(usize),
    /// Write the answers, and end.
    Write,
    /// End without them.
    Leave,
}

/// A line of the screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its text, which fits.
    pub text: String,
    /// True under the cursor.
    pub selected: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Mode {
    List,
    /// A reason is typed.
    Why(Answer, String),
    /// Details of a path.
    About,
    Help,
    /// Answers would be lost.
    Leave,
}

/// The last ones are left out first.
const KEYS: [&str; 9] =
    ["? help", "q quit", "w write", "k keep", "n now", "t throw away", "l look", "u undo", "b about"];
const HELP: [&str; 19] = [
    "k  keep it from the next boot on, with the configuration that has its line",
    "n  keep it now: the same, and adopt it when all is written",
    "t  throw it away: it may be lost; asks for the reason",
    "l  look into it later; asks for a reason, which may be empty",
    "r  give the answer another reason",
    "d  take the answer to this path back",
    "u  undo the last step",
    "b  about it: whom it belongs to, its owner, the line that keeps it",
    "",
    "Up, Down, Page Up, Page Down, Home, End    go through the list",
    "Ctrl-P, Ctrl-N, Space                      the same without such keys",
    "Right or +, Left or -, Enter               open and close a directory",
    "o  order: the largest or the newest first",
    "",
    "w  write the answers, and end",
    "q  end without writing; asks first",
    "",
    "A directory holds its answer for all that is in it. Open it to answer in",
    "parts. In lists `+` stands before what can be opened.",
];

/// The state changed by keys.
#[derive(Debug)]
pub struct State {
    /// The findings.
    pub tree: Tree,
    /// The answers.
    pub book: Book,
    /// The message below the list.
    pub message: String,
    /// The place of the cursor among the visible nodes, and of the first line on the screen.
    cursor: usize,
    top: usize,
    /// The number of lines of the list on the last screen.
    page: usize,
    mode: Mode,
    /// Seconds since 1970, from which ages are told.
    now: i64,
}

impl State {
    /// The beginning.
    #[must_use]
    pub fn new(tree: Tree, book: Book, now: i64) -> Self {
        Self { tree, book, message: String::new(), cursor: 0, top: 0, page: 10, mode: Mode::List, now }
    }

    /// The node at the cursor.
    fn here(&self) -> Option<usize> {
        self.tree.visible().get(self.cursor).copied()
    }

    /// Puts the cursor on a visible node.
    fn go_to(&mut self, node: usize) {
        if let Some(place) = self.tree.visible().iter().position(|it| *it == node) {
            self.cursor = place;
        }
    }

    fn say(&mut self, text: &str) {
        text.clone_into(&mut self.message);
    }

    /// Opens a searched directory.
    pub fn open(&mut self, node: usize) {
        self.tree.nodes[node].open = true;
        if self.tree.nodes[node].below.is_empty() {
            self.say("no path in it would be gone by itself");
        }
    }

    /// Handles a key.
    pub fn key(&mut self, key: Key) -> Todo {
        self.message.clear();
        match &mut self.mode {
            Mode::Why(answer, text) => {
                let answer = *answer;
                match key {
                    Key::Char('\u{15}') => text.clear(),
                    Key::Char(c) if !escape::is_hidden(c) => text.push(c),
                    Key::Backspace => drop(text.pop()),
                    Key::Enter => {
                        let why = std::mem::take(text);
                        self.give(answer, &why);
                    }
                    Key::Escape | Key::Interrupt => self.mode = Mode::List,
                    _ => {}
                }
                Todo::Nothing
            }
            Mode::About | Mode::Help => {
                self.mode = Mode::List;
                Todo::Nothing
            }
            Mode::Leave => {
                self.mode = Mode::List;
                match key {
                    Key::Char('w') => Todo::Write,
                    Key::Char('d') => Todo::Leave,
                    _ => Todo::Nothing,
                }
            }
            Mode::List => self.list(key),
        }
    }

    fn list(&mut self, key: Key) -> Todo {
        let last = self.tree.visible().len().saturating_sub(1);
        let to = |place: usize| place.min(last);
        match key {
            Key::Up | Key::Char('\u{10}') => self.cursor = self.cursor.saturating_sub(1),
            Key::Down | Key::Char('\u{e}') => self.cursor = to(self.cursor + 1),
            Key::PageUp => self.cursor = self.cursor.saturating_sub(self.page),
            Key::PageDown | Key::Char(' ') => self.cursor = to(self.cursor + self.page),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = last,
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('w') => return Todo::Write,
            Key::Char('q') | Key::Interrupt if self.book.len() == 0 => return Todo::Leave,
            Key::Char('q') | Key::Interrupt => self.mode = Mode::Leave,
            Key::Char('u') => {
                let text = if self.book.undo() { "" } else { "there is nothing to undo" };
                self.say(text);
            }
            Key::Char('o') => {
                let order = if self.tree.order() == Order::Size { Order::Time } else { Order::Size };
                let here = self.here();
                self.tree.sort(order);
                if let Some(node) = here {
                    self.go_to(node);
                }
            }
            _ => return self.here().map_or(Todo::Nothing, |node| self.at(node, key)),
        }
        Todo::Nothing
    }

    /// Handles a key for the node at the cursor.
    fn at(&mut self, node: usize, key: Key) -> Todo {
        let it = &self.tree.nodes[node];
        let (open, loaded, is_directory) = (it.open, it.loaded, it.is_directory());
        match key {
            Key::Right | Key::Char('+') | Key::Enter if is_directory && !open => {
                if !loaded {
                    return Todo::Load(node);
                }
                self.open(node);
            }
            Key::Right if open => self.cursor += usize::from(!it.below.is_empty()),
            Key::Left | Key::Char('-') | Key::Enter if open => self.tree.nodes[node].open = false,
            Key::Left | Key::Char('-') => it.above.map_or((), |above| self.go_to(above)),
            Key::Char('k') => self.ask(node, Answer::Keep),
            Key::Char('n') => self.ask(node, Answer::KeepNow),
            Key::Char('t') => self.ask(node, Answer::ThrowAway),
            Key::Char('l') => self.ask(node, Answer::LookInto),
            Key::Char('r') => match self.book.of(node) {
                Some(given) => self.mode = Mode::Why(given.answer, given.why.clone()),
                None => self.say("it has no answer yet"),
            },
            Key::Char('d') => {
                let text = if self.book.take_back(node) { "" } else { "it has no answer to take back" };
                self.say(text);
            }
            Key::Char('b') => self.mode = Mode::About,
            _ => {}
        }
        Todo::Nothing
    }

    /// An answer, for which a reason may have to be typed.
    fn ask(&mut self, node: usize, answer: Answer) {
        if let Some(why) = self.book.obstacle(&self.tree, node, answer) {
            self.message = why;
        } else if answer.choice() == Choice::Keep {
            self.give(answer, "");
        } else {
            self.mode = Mode::Why(answer, String::new());
        }
    }

    fn give(&mut self, answer: Answer, why: &str) {
        let Some(node) = self.here() else { return };
        match self.book.give(&self.tree, node, answer, why) {
            Ok(()) => {
                self.mode = Mode::List;
                self.cursor = (self.cursor + 1).min(self.tree.visible().len().saturating_sub(1));
            }
            Err(why) => self.message = why,
        }
    }

    /// The lines of a screen of this size.
    pub fn screen(&mut self, width: usize, height: usize) -> Vec<Line> {
        let visible = self.tree.visible();
        let (mut lines, plain) = (Vec::new(), |text: String| Line { text, selected: false });
        let sum: u64 = self.tree.top.iter().map(|node| self.tree.nodes[*node].totals.allocated).sum();
        let order = if self.tree.order() == Order::Size { "largest" } else { "newest" };
        lines.push(plain(format!(
            "impctl review: {} would be gone, {order} first; {}",
            size(sum),
            count(self.book.len() as u64, "answer")
        )));
        self.page = height.saturating_sub(5).max(1);
        match &self.mode {
            Mode::Help => lines.extend(HELP.iter().map(|text| plain((*text).to_owned()))),
            Mode::About => {
                let about = self.here().map_or_else(Vec::new, |node| self.about(node));
                lines.extend(about.iter().flat_map(|text| wrap(text, width)).map(plain));
            }
            _ => {
                lines.push(plain("  ANSWER   SIZE   CHANGED  WOULD BE GONE".to_owned()));
                self.cursor = self.cursor.min(visible.len().saturating_sub(1));
                self.top = self.top.clamp((self.cursor + 1).saturating_sub(self.page), self.cursor);
                let shown = visible.iter().enumerate().skip(self.top).take(self.page);
                for (place, node) in shown {
                    let selected = place == self.cursor;
                    lines.push(Line { text: self.row(*node, selected), selected });
                }
                if visible.is_empty() {
                    lines.push(plain("  Nothing would be gone after the next boot.".to_owned()));
                }
            }
        }
        lines.truncate(height.saturating_sub(3).max(2));
        lines.resize_with(height.saturating_sub(3), Line::default);
        let path = self.here().map_or_else(String::new, |node| self.tree.nodes[node].shown());
        lines.push(plain(keep_end(&path, width)));
        let message = match &self.mode {
            Mode::Why(answer, text) => {
                let question = if *answer == Answer::ThrowAway { "Why may it be lost? " } else { "Why? " };
                format!("{question}{}_", keep_end(text, width.saturating_sub(question.len() + 1)))
            }
            Mode::Leave => {
                "Answers are not written. w write them, d discard them, any other key goes on".to_owned()
            }
            _ => self.message.clone(),
        };
        lines.push(plain(message));
        lines.push(plain(match self.mode {
            Mode::Help | Mode::About => "any key goes back".to_owned(),
            Mode::Why(..) => "Enter done  Esc go back  Ctrl-U empty".to_owned(),
            _ => keys(width),
        }));
        lines.truncate(height);
        for line in &mut lines {
            line.text = cut(&escape::line(&line.text), width);
        }
        lines
    }

    fn row(&self, node: usize, selected: bool) -> String {
        let it = &self.tree.nodes[node];
        let before = self.book.decided(&self.tree, node).map(|decision| match decision.choice {
            Choice::Keep => "(keep)",
            Choice::ThrowAway => "(away)",
            Choice::LookInto => "(look)",
        });
        let answer = self.book.of(node).map(|given| given.answer.mark()).or(before).unwrap_or_default();
        let changed = it.totals.newest.map_or_else(String::new, |(seconds, _)| age(seconds, self.now));
        let sign = if !it.is_directory() {
            ' '
        } else if it.open {
            '-'
        } else {
            '+'
        };
        let whole = it.shown();
        // A path in a directory is shown relative to the directory.
        let above = it.above.map_or_else(String::new, |above| self.tree.nodes[above].shown());
        let path = whole.strip_prefix(&above).filter(|rest| !rest.is_empty()).unwrap_or(&whole);
        let words = it.finding.as_ref().map_or_else(String::new, |finding| finding.words().join(", "));
        let words = if words.is_empty() { words } else { format!("  {words}") };
        // As deep as the screen is wide, the indent would leave no room for names.
        let indent = "  ".repeat(it.depth.min(10));
        let cursor = if selected { '>' } else { ' ' };
        format!(
            "{cursor} {answer:<6} {:>6} {changed:>9}  {indent}{sign} {path}{words}",
            size(it.totals.allocated)
        )
    }

    /// Details of a node.
    fn about(&self, node: usize) -> Vec<String> {
        let it = &self.tree.nodes[node];
        let mut lines = vec![it.shown()];
        let Some(finding) = &it.finding else {
            lines.push(format!("It holds {} that would be gone.", count(it.below.len() as u64, "path")));
            return lines;
        };
        let row = &finding.row;
        let mut say = |title: &str, text: String| {
            if !text.is_empty() {
                lines.push(format!("{title:<12}{text}"));
            }
        };
        let belongs: Vec<_> = finding.belongs.iter().map(|name| escape::name(name).into_owned()).collect();
        say("belongs to", if belongs.is_empty() { "not known".to_owned() } else { belongs.join(", ") });
        say("what it is", finding.what.to_owned());
        say(
            "owner",
            format!(
                "{}, mode {}",
                show::owner(row, &finding.user, &finding.group),
                mode::show(row.owner.mode)
            ),
        );
        say("size", format!("{} in {}", size(row.totals.allocated), count(row.totals.files, "file")));
        say("changed", row.totals.newest.map_or_else(String::new, |(seconds, _)| age(seconds, self.now)));
        if row.partly {
            say("beside", "something in it persists, and is not counted".to_owned());
        }
        let obstacle = self.book.obstacle(&self.tree, node, Answer::Keep);
        let entry = nix::entry(finding).filter(|_| obstacle.is_none()).map(|entry| entry.nix());
        say("to keep it", entry.unwrap_or_default());
        say("no line", obstacle.unwrap_or_default());
        if let Some(given) = self.book.of(node) {
            say("answer", format!("{} {}", given.answer.word(), given.why));
        }
        if let Some(before) = self.book.decided(&self.tree, node) {
            let what = match before.choice {
                Choice::Keep => "keep",
                Choice::ThrowAway => "throw away",
                Choice::LookInto => "look into",
            };
            say("the file", format!("{what}, {}", before.origin.words()));
        }
        lines
    }
}

/// As many of the keys as fit.
fn keys(width: usize) -> String {
    let mut text = String::new();
    for key in KEYS {
        let between = if text.is_empty() { "" } else { "  " };
        if text.len() + between.len() + key.len() > width {
            break;
        }
        text.extend([between, key]);
    }
    text
}

/// As much of the beginning of a text as fits.
fn cut(text: &str, width: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += c.width().unwrap_or(0);
        taken <= width
    };
    text.chars().take_while(fits).collect()
}

/// The end of a text, cut to a width.
fn keep_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let backwards: String = text.chars().rev().collect();
    let end = cut(&backwards, width.saturating_sub(3));
    format!("...{}", end.chars().rev().collect::<String>())
}

/// A text on several lines.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let line = cut(rest, width.max(20));
        rest = &rest[line.len()..];
        lines.push(line);
        if rest.is_empty() {
            return lines;
        }
    }
}

#[cfg(test)]
mod tests;
