//! Conflicts between targets, sources and stores.

use super::super::{AbsPath, Kind, Manifest, Method, Store};
use super::{Findings, Place, forbidden};

impl Findings<'_> {
    /// Conflicts between targets, or between a target and a store. They are in path order.
    pub fn targets(&mut self) {
        let entries = &self.manifest.entries;
        // The entries above the current one.
        let mut above: Vec<usize> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let place = Place::Entry(index);
            self.target(place, &entry.target);
            while above.pop_if(|top| !entry.target.is_in(&entries[*top].target)).is_some() {}
            if let Some(&top) = above.last()
                && entries[top].target == entry.target
            {
                self.duplicate(index, top);
                continue;
            }
            // Of those in the way, only the nearest is named.
            let in_the_way = |top: &&usize| {
                let it = &entries[**top];
                it.kind != Kind::Directory || it.method == Method::Symlink || it.phase > entry.phase
            };
            if let Some(&top) = above.iter().rev().find(in_the_way) {
                self.covered(index, top);
            }
            above.push(index);
        }
    }

    /// Says why an entry cannot be below another one.
    fn covered(&mut self, index: usize, above: usize) {
        let other = (self.name)(Place::Entry(above));
        let (entry, above) = (&self.manifest.entries[index], &self.manifest.entries[above]);
        let (what, remedy) = if above.kind != Kind::Directory {
            (format!("it lies below a file, {other}"), "make that one a directory, or leave one out")
        } else if above.method == Method::Symlink {
            (
                format!("it lies below {other}, a symbolic link into the store"),
                "it persists with that one: leave it out, or give that one `method` bind",
            )
        } else {
            (
                format!(
                    "its phase is {}, and {other} would cover it later, in phase {}",
                    entry.phase, above.phase
                ),
                "give it the same phase, or that one an earlier one",
            )
        };
        self.say(Place::Entry(index), what, remedy);
    }

    /// Targets on which nothing can be mounted.
    fn target(&mut self, place: Place, target: &AbsPath) {
        if target.is_root() {
            self.say(place, "/ itself cannot be an entry", "name the directories below it that persist");
            return;
        }
        if let Some((zone, why)) = forbidden(target) {
            self.say(place, format!("{zone} {why}"), "leave it out");
        }
        let relation =
            |store: &Store| !store.path.is_root() && (target.is_in(&store.path) || store.path.is_in(target));
        let Some(index) = self.manifest.stores.iter().position(relation) else { return };
        let store = (self.name)(Place::Store(index));
        if target.is_in(&self.manifest.stores[index].path) {
            self.say(
                place,
                format!("it lies in a store, {store}"),
                "what is there persists already: leave it out",
            );
        } else {
            self.say(
                place,
                format!("it would cover a store, {store}"),
                "name the directories beside the store one by one",
            );
        }
    }

    fn duplicate(&mut self, index: usize, other: usize) {
        let entries = &self.manifest.entries;
        let kind = |index: usize| match entries[index].kind {
            Kind::Directory => "a directory",
            Kind::File => "a file",
            Kind::Glob => "a pattern",
        };
        let mut what = format!("the path is there twice, also as {}", (self.name)(Place::Entry(other)));
        if kind(index) != kind(other) {
            what = format!("{what}: here {}, there {}", kind(index), kind(other));
        }
        let store = |index: usize| self.manifest.stores.get(usize::from(entries[index].store));
        if let (Some(one), Some(two)) = (store(index), store(other))
            && one.path != two.path
        {
            what = format!("{what}; here from the store {}, there from {}", one.path, two.path);
        }
        self.say(Place::Entry(index), what, "keep one of the two");
    }

    /// Sources covered by another store.
    pub fn stores_in_stores(&mut self) {
        let Manifest { stores, entries, .. } = self.manifest;
        for (outer, store) in stores.iter().enumerate() {
            // In path order, the content of a store comes right after the store.
            for inner in &stores[outer + 1..] {
                let Some(inside) = inner.path.below(&store.path) else { break };
                if inside.is_root() {
                    continue;
                }
                for (index, entry) in
                    entries.iter().enumerate().filter(|(_, entry)| usize::from(entry.store) == outer)
                {
                    let Some(rest) = entry.source().below(&inside) else { continue };
                    self.say(
                        Place::Entry(index),
                        format!(
                            "its source, {}, lies in another store, {}",
                            store.path.join(entry.source()),
                            inner.path
                        ),
                        format!("name the `store` {} and the `source` {rest}", inner.path),
                    );
                }
            }
        }
    }

    /// Sources used as a file by one entry and as a directory by another. Without a `source` the targets have the same
    /// relation.
    pub fn sources(&mut self) {
        let entries = &self.manifest.entries;
        if entries.iter().all(|entry| entry.source.is_none()) {
            return;
        }
        let mut sources: Vec<_> = (0..entries.len()).collect();
        let key =
            |index: usize| (entries[index].store, entries[index].source(), entries[index].kind != Kind::File);
        sources.sort_unstable_by_key(|index| key(*index));
        let mut file: Option<usize> = None;
        for index in sources {
            let (store, source, is_no_file) = key(index);
            let above = file.filter(|file| {
                let (its_store, above, _) = key(*file);
                store == its_store && source.is_in(above) && (source != above || is_no_file)
            });
            let Some(above) = above else {
                if !is_no_file {
                    file = Some(index);
                }
                continue;
            };
            // Said of the targets already.
            if !entries[index].target.is_in(&entries[above].target) {
                let other = (self.name)(Place::Entry(above));
                self.say(
                    Place::Entry(index),
                    format!(
                        "its source {source} needs a directory where {other} has a file, {}",
                        key(above).1
                    ),
                    "give one of them another `source`",
                );
            }
        }
    }
}
