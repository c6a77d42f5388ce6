//! The plan: actions derived from the manifest and the kernel command line alone. Pure, and the same on every machine.

pub mod cmdline;
pub mod print;

use std::iter::successors;

use crate::manifest::coverage::Coverage;
use crate::manifest::parents::Parents;
use crate::manifest::{AbsPath, Entry, Kind, Manifest, Method, Phase, Root, Store};
use cmdline::KernelArgs;

/// A manifest made ready to be done, printed or checked.
#[derive(Debug)]
pub struct Plan<'m> {
    /// The manifest.
    pub manifest: &'m Manifest,
    /// The root to build; none if mounted already, or to be left unchanged.
    pub root: Option<&'m Root>,
    /// True if only the needs of the boot are done.
    pub off: bool,
    /// The last phase of this run.
    pub last_phase: Phase,
    /// Owners and modes of the directories above the entries.
    pub parents: Parents<'m>,
    /// Which entry a path belongs to.
    pub coverage: Coverage<'m>,
    /// The entries, a directory before its content.
    pub items: Vec<Item<'m>>,
    /// The run's need of each store, in the manifest's order.
    pub needs: Vec<Need>,
    /// Kernel arguments without effect, each with the reason.
    pub idle: Vec<String>,
}

/// One entry and its action.
#[derive(Debug, Clone, Copy)]
pub struct Item<'m> {
    /// The entry.
    pub entry: &'m Entry,
    /// Its store.
    pub store: &'m Store,
    /// Its action in this run.
    pub action: Action,
}

/// Action for an entry in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put the entry in place.
    Place,
    /// Left out by the kernel command line, with a guard.
    Skip,
    /// Entry of a later phase.
    Later,
    /// Left out, as only the needs of the boot are done.
    Off,
}

/// A run's need of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An entry of the store is put in place, or the store has none and is wanted for itself.
    Needed,
    /// No entry of the store is put in place before the system runs.
    Later,
    /// The kernel command line leaves out every entry of the store, which may be absent.
    Spared(Action),
    /// The kernel command line leaves out the store itself, which is neither mounted nor read.
    LeftOut,
}

impl Need {
    /// Why the store is not needed; none for a needed one.
    #[must_use]
    pub fn why_not(self) -> Option<&'static str> {
        match self {
            Self::Needed => None,
            Self::Later => Some("nothing of it is needed in this phase"),
            Self::Spared(Action::Off) => Some("nothing of it is needed with imp-mount=off"),
            Self::Spared(_) => Some("imp-mount.skip= leaves out every entry of it"),
            Self::LeftOut => Some("left out by imp-mount.skip="),
        }
    }

    /// True if the kernel command line is the reason.
    #[must_use]
    pub fn is_by_argument(self) -> bool {
        matches!(self, Self::Spared(_) | Self::LeftOut)
    }
}

impl<'m> Plan<'m> {
    /// Plans a run for every phase up to and including `last_phase`.
    #[must_use]
    pub fn new(manifest: &'m Manifest, words: &KernelArgs, last_phase: Phase) -> Self {
        let converts = manifest.root.as_ref().is_some_and(|root| root.convert.is_some());
        // A system before its conversion boots unchanged.
        let untouched = words.off && converts;
        let names = |path: &AbsPath| words.skip.iter().any(|skipped| path.is_in(skipped));
        let action = |entry: &Entry| {
            if untouched || (words.off && entry.phase != Phase::Early) {
                Action::Off
            } else if names(&entry.target) || names(&manifest.store(entry).path) {
                Action::Skip
            } else if entry.phase > last_phase {
                Action::Later
            } else {
                Action::Place
            }
        };
        // In path order, as the manifest is.
        let mut items: Vec<_> = manifest
            .entries
            .iter()
            .map(|entry| Item { entry, store: manifest.store(entry), action: action(entry) })
            .collect();
        skip_below_skipped(&mut items);
        let needs = needs(manifest, &items, words.off, &names);
        let idle = words.skip.iter().filter(|skipped| {
            !items.iter().any(|item| item.entry.target.is_in(skipped) || item.store.path.is_in(skipped))
                && !manifest.stores.iter().any(|store| store.path.is_in(skipped))
        });
        let idle = idle.map(|path| format!("imp-mount.skip={path}: no entry is there, and no store"));
        let unknown = words
            .unknown
            .iter()
            .map(|word| format!("the kernel command line has a word that means nothing here: {word}"));
        let idle = unknown.chain(idle).collect();
        Self {
            manifest,
            root: manifest.root.as_ref().filter(|_| !untouched),
            off: words.off,
            last_phase,
            // Contradictions were refused when the manifest was read.
            parents: Parents::new(manifest).0,
            coverage: Coverage::new(manifest),
            items,
            needs,
            idle,
        }
    }

    /// The stores, each with its need.
    pub fn stores(&self) -> impl Iterator<Item = (&'m Store, Need)> {
        self.manifest.stores.iter().zip(self.needs.iter().copied())
    }

    /// True if the run has nothing to do, as the system boots without its conversion.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.off && self.manifest.root.is_some() && self.root.is_none()
    }

    /// The item for a path of a kind: its own, or the item of a pattern.
    #[must_use]
    pub fn item_for(&self, target: &AbsPath, kind: Kind) -> Option<&Item<'m>> {
        let matched = || self.coverage.pattern(target).filter(|_| kind != Kind::Directory);
        self.item(target).or_else(|| self.item(&matched()?.target))
    }

    /// The nearest mounted directory above a path.
    #[must_use]
    pub fn mount_above(&self, path: &AbsPath) -> Option<&Item<'m>> {
        let is_mounted = |item: &&Item<'_>| {
            let entry = item.entry;
            (item.action, entry.kind, entry.method) == (Action::Place, Kind::Directory, Method::Bind)
        };
        successors(path.parent(), AbsPath::parent).find_map(|above| self.item(&above).filter(is_mounted))
    }

    /// The item at a target.
    #[must_use]
    pub fn item(&self, target: &AbsPath) -> Option<&Item<'m>> {
        let found = self.items.binary_search_by(|item| item.entry.target.cmp(target));
        found.ok().map(|index| &self.items[index])
    }
}

/// Below a guard nothing can be mounted.
fn skip_below_skipped(items: &mut [Item<'_>]) {
    let mut above: Option<&AbsPath> = None;
    for item in items {
        let target = &item.entry.target;
        if item.action == Action::Off {
            continue;
        }
        if above.is_some_and(|above| target.is_in(above)) {
            item.action = Action::Skip;
        } else if item.action == Action::Skip {
            above = Some(target);
        }
    }
}

fn needs(
    manifest: &Manifest,
    items: &[Item<'_>],
    off: bool,
    is_skipped: &dyn Fn(&AbsPath) -> bool,
) -> Vec<Need> {
    let mut all = Vec::with_capacity(manifest.stores.len());
    for (index, store) in manifest.stores.iter().enumerate() {
        let of_store = items.iter().filter(|item| usize::from(item.entry.store) == index);
        let has = |wanted: Action| of_store.clone().any(|item| item.action == wanted);
        // The initrd needs the path soon, and reports its absence in the first phase.
        let waits =
            of_store.clone().any(|item| item.action == Action::Later && item.entry.phase != Phase::Live);
        all.push(if is_skipped(&store.path) {
            Need::LeftOut
        } else if has(Action::Place) || (waits && !off) {
            Need::Needed
        } else if off {
            Need::Spared(Action::Off)
        } else if has(Action::Later) {
            Need::Later
        } else if has(Action::Skip) {
            Need::Spared(Action::Skip)
        } else {
            Need::Needed
        });
    }
    all
}
