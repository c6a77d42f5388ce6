//! Decisions on paths, as a file keeps them: one for each path, in path order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ctl::line::{Entry, Path};
use crate::ctl::lost::{Finding, nix};
use crate::ctl::scan::Subject;
use crate::manifest::{AbsPath, Kind, pattern};
use crate::text::escape;
use crate::text::json::Value;

/// A recorded answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The path persists.
    Keep,
    /// The path may be lost.
    ThrowAway,
    /// To be looked into.
    LookInto,
}

/// A given answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The path persists from the next boot on.
    Keep,
    /// The same, with an adoption at once.
    KeepNow,
    /// The path may be lost.
    ThrowAway,
    /// To be looked into.
    LookInto,
}

impl Answer {
    /// Every answer, with its word in a file of answers and its mark in the list.
    pub const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Keep, "keep", "keep"),
        (Self::KeepNow, "keep-now", "now"),
        (Self::ThrowAway, "throw-away", "away"),
        (Self::LookInto, "look-into", "look"),
    ];

    /// The recorded choice.
    #[must_use]
    pub fn choice(self) -> Choice {
        match self {
            Self::Keep | Self::KeepNow => Choice::Keep,
            Self::ThrowAway => Choice::ThrowAway,
            Self::LookInto => Choice::LookInto,
        }
    }

    /// Its word in a file of answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(answer, ..)| *answer == self).map_or("", |(_, word, _)| word)
    }

    /// Its mark in the list.
    #[must_use]
    pub fn mark(self) -> &'static str {
        Self::ALL.iter().find(|(answer, ..)| *answer == self).map_or("", |(.., mark)| mark)
    }
}

/// The person, day and reason of a decision. They are written into comments, and have no hidden characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The day, as `2026-11-27`.
    pub on: String,
    /// The user's name.
    pub by: String,
    /// The reason; may be empty.
    pub why: String,
}

impl Origin {
    /// The text of a comment.
    #[must_use]
    pub fn words(&self) -> String {
        let end = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("{} by {}{end}", self.on, self.by)
    }

    /// Reads such words.
    #[must_use]
    pub fn read(words: &str) -> Option<Self> {
        let (on, rest) = words.split_once(" by ")?;
        let (by, why) = rest.split_once(": ").unwrap_or((rest, ""));
        Some(Self { on: on.to_owned(), by: by.to_owned(), why: why.to_owned() })
    }
}

/// A text for comments: on one line, with single spaces between its words.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    escape::line(&words.join(" ")).into_owned()
}

/// The decision on one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The decision.
    pub choice: Choice,
    /// The path; `*` is the last name for several files.
    pub target: AbsPath,
    /// [`Kind::Glob`] for several files; else the kind of the kept path.
    pub kind: Kind,
    /// For a kept path: the entry of the manifest, without its store.
    pub entry: Option<Entry>,
    /// For a kept path: the store.
    pub store: String,
    /// Its origin.
    pub origin: Origin,
}

/// Paths differ by meaning: a file named `*` is not the pattern for all files of its directory.
pub type Key = (AbsPath, bool);

/// A list or section of the module: its store, and the begin of the list. Either may be empty.
pub type Place = (String, String);

impl Decision {
    /// The path.
    pub fn key(&self) -> Key {
        (self.target.clone(), self.kind == Kind::Glob)
    }

    /// The path in the form of throw-away lists and manifests, with backslashes before literal special characters.
    #[must_use]
    pub fn pattern(&self) -> String {
        pattern::write(&self.target, if self.kind == Kind::Glob { Kind::Glob } else { Kind::File })
    }

    /// A decision about the paths of a pattern.
    #[must_use]
    pub fn of_pattern(choice: Choice, text: &str, origin: Origin) -> Option<Self> {
        let (target, kind) = pattern::read(text).ok()?;
        Some(Self { choice, target, kind, entry: None, store: String::new(), origin })
    }

    /// A decision to keep the path of an entry.
    #[must_use]
    pub fn of_entry(entry: Entry, store: &str, origin: Origin) -> Option<Self> {
        let (target, kind) = match &entry.path {
            Path::Directory(path) => (AbsPath::parse(path).ok()?, Kind::Directory),
            Path::File(path) => pattern::read(path).ok()?,
        };
        let entry = Some(entry);
        Some(Self { choice: Choice::Keep, target, kind, entry, store: store.to_owned(), origin })
    }

    /// An answer about a finding; why there can be none.
    pub fn new(finding: &Finding, answer: Answer, store: &str, origin: Origin) -> Result<Self, String> {
        let text = finding.text().ok_or("its name is no UTF-8 text, which a manifest is: rename it first")?;
        let path = AbsPath::parse(text)?;
        let row = &finding.row;
        if row.unmounted || row.brought {
            return Err(
                "the manifest has it already, but it is not in place: see imp-mount --check".to_owned()
            );
        }
        if answer.choice() == Choice::Keep {
            let none = || match row.subject {
                Subject::Special => "a device or FIFO cannot be kept".to_owned(),
                _ => "no pattern is for these files and nothing else".to_owned(),
            };
            let entry = nix::entry(finding).ok_or_else(none)?;
            return Self::of_entry(entry, store, origin).ok_or_else(|| "no line can keep it".to_owned());
        }
        let (target, kind) = match row.subject {
            Subject::Files if !row.pattern => {
                return Err("no pattern is for these files and nothing else".to_owned());
            }
            Subject::Files => (path.child("*"), Kind::Glob),
            Subject::Directory => (path, Kind::Directory),
            _ => (path, Kind::File),
        };
        let made = Self { choice: answer.choice(), target, kind, entry: None, store: String::new(), origin };
        let pattern = made.pattern();
        // The list has one pattern a line, without surrounding spaces.
        if made.choice == Choice::ThrowAway && (pattern.contains('\n') || pattern.trim() != pattern) {
            return Err("its name has a line end, or a space at its end: the throw-away list cannot have it"
                .to_owned());
        }
        Ok(made)
    }

    /// True if another decision is the same but for person and day. A new one without a reason agrees with any reason.
    fn is_as(&self, new: &Self) -> bool {
        (self.choice, &self.entry, &self.store) == (new.choice, &new.entry, &new.store)
            && (new.origin.why.is_empty() || self.origin.why == new.origin.why)
    }
}

/// All decisions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    decisions: BTreeMap<Key, Decision>,
    /// Lists and sections of the file with lines written by hand, which stay there.
    pub held: BTreeSet<Place>,
    /// Entries written by hand into the JSON form.
    pub entries_by_hand: Vec<Value>,
    /// Paths that lines or entries written by hand keep.
    pub by_hand: BTreeSet<Key>,
}

impl Record {
    /// Adds a decision, in place of an earlier one about the same path. An equal one stays unchanged.
    pub fn add(&mut self, decision: Decision) {
        let key = decision.key();
        if self.decisions.get(&key).is_none_or(|before| !before.is_as(&decision)) {
            self.decisions.insert(key, decision);
        }
    }

    /// Every decision of a kind, in path order.
    pub fn all(&self, choice: Choice) -> impl Iterator<Item = &Decision> {
        self.decisions.values().filter(move |decision| decision.choice == choice)
    }

    /// The decision on a path.
    #[must_use]
    pub fn of(&self, path: &AbsPath, is_glob: bool) -> Option<&Decision> {
        self.decisions.get(&(path.clone(), is_glob))
    }

    /// The kept or thrown away directory above a path.
    #[must_use]
    pub fn above(&self, path: &AbsPath, choice: Choice) -> Option<&Decision> {
        let above = path.ancestors().filter_map(|above| AbsPath::parse(above).ok());
        above
            .filter(|above| above != path)
            .find_map(|above| self.of(&above, false).filter(|it| it.choice == choice))
    }

    /// The stores of kept paths, and of sections with lines written by hand, in order.
    #[must_use]
    pub fn stores(&self) -> Vec<&str> {
        let held = self.held.iter().map(|(store, _)| store.as_str()).filter(|store| !store.is_empty());
        let mut stores: Vec<_> =
            self.all(Choice::Keep).map(|decision| decision.store.as_str()).chain(held).collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }
}
