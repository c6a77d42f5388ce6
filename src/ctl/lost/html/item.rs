//! Paths on the page, each with its fate at the next boot.

use crate::ctl::built::belongs;
use crate::ctl::line::Path;
use crate::ctl::lost::{Finding, nix};
use crate::ctl::scan::{Row, Subject, Totals, show};
use crate::manifest::{AbsPath, Manifest, Store};
use crate::text::escape;

/// Fate of a path at the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Kept by an entry.
    Persists,
    /// Lost at the next boot.
    Lost,
    /// Disposable by a rule.
    Disposable,
    /// On a store, and named by no entry.
    Orphaned,
}

impl Class {
    /// All classes, in display order.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Persists, Self::Disposable, Self::Orphaned];

    /// Its name in the page's code.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Persists => "persists",
            Self::Lost => "lost",
            Self::Disposable => "disposable",
            Self::Orphaned => "orphaned",
        }
    }

    /// The title, and its meaning.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Persists => ("Persists", "on a store, and named by an entry"),
            Self::Lost => ("Would be gone", "on the root, after the next boot"),
            Self::Disposable => ("Throw-away", "caches and the like, by definition"),
            Self::Orphaned => ("Named by no entry", "on a store, and not mounted"),
        }
    }
}

/// A path.
#[derive(Debug)]
pub struct Item {
    /// Its path, subject and totals.
    pub row: Row,
    /// Fate of the path.
    pub class: Class,
    /// True for a part of another listed path, counted there.
    pub part: bool,
    /// Its user and group.
    pub owner: String,
    /// Units, files of tmpfiles.d or packages.
    pub unit: String,
    /// A remark.
    pub remark: String,
    /// The line to keep the path.
    pub line: Option<Line>,
}

impl Item {
    /// The item of a finding.
    pub fn new(
        finding: &Finding,
        class: Class,
        part: bool,
        mut remarks: Vec<String>,
        line: Option<Line>,
    ) -> Self {
        if !finding.what.is_empty() {
            remarks.insert(0, finding.what.to_owned());
        }
        Self {
            class,
            part,
            owner: show::owner(&finding.row, &finding.user, &finding.group),
            unit: belongs::shorten(&finding.belongs).join(", "),
            remark: remarks.join("; "),
            line,
            row: finding.row.clone(),
        }
    }
}

/// The sum of a class.
#[must_use]
pub fn sum(items: &[Item], class: Class) -> Totals {
    let mut sum = Totals::default();
    items.iter().filter(|item| !item.part && item.class == class).for_each(|item| sum.add(&item.row.totals));
    sum
}

/// A line to keep a path: a frame by number, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of the frame.
    pub frame: usize,
    /// The element of a list, or the entry of a manifest.
    pub item: String,
}

/// Form of the lines to keep paths.
#[derive(Debug)]
pub struct Keep {
    nixos: bool,
    stores: Vec<String>,
    /// Text before and after an item, by its store and its list.
    pub frames: Vec<(String, &'static str)>,
}

impl Keep {
    /// For a configuration of NixOS, or for a manifest.
    pub fn new(manifest: Option<&Manifest>, nixos: bool) -> Self {
        let stores: Vec<_> = manifest.map_or_else(
            || vec!["/persist".to_owned()],
            |manifest| manifest.stores.iter().map(|store| store.path.to_string()).collect(),
        );
        let mut frames = Vec::new();
        if nixos {
            for store in &stores {
                let store = escape::nix(store);
                frames.push((format!("environment.persistence.{store}.directories = [ "), " ];"));
                frames.push((format!("environment.persistence.{store}.files = [ "), " ];"));
            }
        } else {
            frames.push((String::new(), ""));
        }
        Self { nixos, stores, frames }
    }

    /// The line to keep a finding on the root or on a store; none for an impossible entry.
    pub fn line(&self, finding: &Finding, store: Option<&Store>) -> Option<Line> {
        let mut row = finding.row.clone();
        let index = store.map_or(0, |store| {
            row.path.drain(..store.path.as_str().trim_end_matches('/').len());
            self.stores.iter().position(|path| path == store.path.as_str()).unwrap_or(0)
        });
        // An entry for the whole root is impossible.
        let is_path = str::from_utf8(&row.path).is_ok_and(|path| AbsPath::parse(path).is_ok());
        if !is_path || (row.subject == Subject::Directory && row.path == b"/") {
            return None;
        }
        let named = Finding {
            row,
            user: finding.user.clone(),
            group: finding.group.clone(),
            belongs: Vec::new(),
            what: "",
        };
        let mut entry = nix::entry(&named)?;
        if !self.nixos {
            if self.stores.len() > 1 {
                entry.store = Some(self.stores[index].clone());
            }
            return Some(Line { frame: 0, item: entry.to_string() });
        }
        let list = usize::from(matches!(entry.path, Path::File(_)));
        Some(Line { frame: 2 * index + list, item: entry.nix() })
    }

    /// The whole line.
    #[must_use]
    pub fn text(&self, line: &Line) -> String {
        let (before, after) = &self.frames[line.frame];
        format!("{before}{}{after}", line.item)
    }
}
