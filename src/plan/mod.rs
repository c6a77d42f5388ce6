//! What to do, worked out from the manifest and the kernel's words alone: pure, and the same on every machine.

pub mod print;

use crate::cmdline::Words;
use crate::manifest::parents::Parents;
use crate::manifest::{AbsPath, Entry, Manifest, Phase, Root, Store};

/// A manifest made ready to be done, printed or checked.
#[derive(Debug)]
pub struct Plan<'m> {
    /// What is wanted.
    pub manifest: &'m Manifest,
    /// The root to build; none where it is mounted already, or is to be left as it is.
    pub root: Option<&'m Root>,
    /// Whether nothing but what the boot needs is done.
    pub off: bool,
    /// The last phase that this run is for.
    pub upto: Phase,
    /// Who says what of the directories above the entries.
    pub parents: Parents,
    /// The entries, a directory before everything below it.
    pub items: Vec<Item<'m>>,
    /// Words of the kernel command line that led to nothing.
    pub idle: Vec<String>,
}

/// One entry and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Item<'m> {
    /// The entry.
    pub entry: &'m Entry,
    /// Its store.
    pub store: &'m Store,
    /// What becomes of it in this run.
    pub action: Action,
}

/// What becomes of an entry in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is put in place.
    Place,
    /// It is left out by the kernel command line, and guarded.
    Skip,
    /// It belongs to a later phase.
    Later,
    /// It is left out, because nothing but what the boot needs is done.
    Off,
}

impl<'m> Plan<'m> {
    /// Works out what a run does that is for every phase up to and including `upto`.
    #[must_use]
    pub fn new(manifest: &'m Manifest, words: &Words, upto: Phase) -> Self {
        let converts = manifest.root.as_ref().is_some_and(|root| root.convert.is_some());
        // The system that would be turned over boots as it did before, whole.
        let untouched = words.off && converts;
        let action = |entry: &Entry| {
            if untouched || (words.off && entry.phase != Phase::Early) {
                Action::Off
            } else if words.skip.iter().any(|skipped| entry.target.is_in(skipped)) {
                Action::Skip
            } else if entry.phase > upto {
                Action::Later
            } else {
                Action::Place
            }
        };
        // In path order, as the manifest is.
        let items: Vec<_> = manifest
            .entries
            .iter()
            .map(|entry| Item { entry, store: manifest.store(entry), action: action(entry) })
            .collect();
        let idle =
            words.skip.iter().filter(|skipped| !items.iter().any(|item| item.entry.target.is_in(skipped)));
        let idle = idle.map(|path| format!("imp-mount.skip={path}: no entry is there")).collect();
        Self {
            manifest,
            root: manifest.root.as_ref().filter(|_| !untouched),
            off: words.off,
            upto,
            // Contradictions were refused when the manifest was read.
            parents: Parents::new(manifest).0,
            items,
            idle,
        }
    }

    /// Whether the whole run has nothing to do, because the system is to boot as it did before it was converted.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.off && self.manifest.root.is_some() && self.root.is_none()
    }

    /// The item at a target.
    #[must_use]
    pub fn item(&self, target: &AbsPath) -> Option<&Item<'m>> {
        let found = self.items.binary_search_by(|item| item.entry.target.cmp(target));
        found.ok().map(|index| &self.items[index])
    }
}
