//! Validation of a manifest: when compiled, and once more when read.

mod relations;
mod values;

use super::parents::Parents;
use super::path::PRIVATE;
use super::path::{NAME_MAX, PATH_MAX};
use super::{AbsPath, BindOptions, Entry, Kind, Manifest, Method, Missing, Owner, pattern};
use crate::text::problem::Problem;
pub use values::is_owner;

/// Subject of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The manifest as a whole.
    Manifest,
    /// The root.
    Root,
    /// Limits of old roots.
    OldRoots,
    /// The tables of ids.
    Ids,
    /// A store, by its index.
    Store(usize),
    /// A line of the table of parents, by its index.
    Parent(usize),
    /// An entry, by its index.
    Entry(usize),
}

/// Most components of a path. A run keeps the directories above a source and a target open, and 1,024 files may be.
const DEPTH_MAX: usize = 256;
/// Forbidden targets, themselves and everything below, and the reason.
const FORBIDDEN: [(&str, &str); 5] = [
    ("/run", "is made anew at every boot and handed over by the initrd"),
    ("/proc", "belongs to the kernel"),
    ("/sys", "belongs to the kernel"),
    ("/dev", "belongs to the kernel and udev"),
    ("/nix/store", "belongs to Nix alone"),
];

/// Names a place by the manifest alone.
#[must_use]
pub fn place(manifest: &Manifest, place: Place) -> String {
    match place {
        Place::Manifest => String::new(),
        Place::Root => "root".to_owned(),
        Place::OldRoots => "old_roots".to_owned(),
        Place::Ids => "ids".to_owned(),
        Place::Store(index) => format!("stores[{index}] {}", manifest.stores[index].path),
        Place::Parent(index) => format!("parents[{index}] {}", manifest.parents[index].path),
        Place::Entry(index) => format!("entries[{index}] {}", manifest.entries[index].target),
    }
}

/// Every error, each with its place by `name`.
pub fn problems(manifest: &Manifest, name: &dyn Fn(Place) -> String) -> Vec<Problem> {
    let mut findings = Findings { manifest, name, problems: Vec::new() };
    if !in_order(manifest) {
        findings.say(
            Place::Manifest,
            "it is not in path order, so it was not compiled",
            "write it with `impctl compile`",
        );
        return findings.problems;
    }
    findings.root();
    findings.old_roots();
    findings.stores();
    findings.parents();
    findings.ids();
    for (index, entry) in manifest.entries.iter().enumerate() {
        findings.entry(index, entry);
    }
    findings.lengths();
    findings.targets();
    findings.stores_in_stores();
    findings.sources();
    findings.problems
}

fn in_order(manifest: &Manifest) -> bool {
    manifest.entries.is_sorted_by(|one, other| one.target <= other.target)
        && manifest.stores.is_sorted_by(|one, other| one.path <= other.path)
        && manifest.parents.is_sorted_by(|one, other| one.path <= other.path)
}

struct Findings<'a> {
    manifest: &'a Manifest,
    name: &'a dyn Fn(Place) -> String,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn say(&mut self, place: Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(what).at((self.name)(place)).remedy(remedy));
    }

    fn add(&mut self, place: Place, problems: Vec<Problem>) {
        self.problems.extend(problems.into_iter().map(|problem| problem.at((self.name)(place))));
    }

    fn root(&mut self) {
        let manifest = self.manifest;
        let Some(root) = &manifest.root else { return };
        self.add(Place::Root, values::root(root));
        for (key, path) in [("on", &root.on), ("convert", &root.convert)] {
            let Some(path) = path else { continue };
            match manifest.stores.iter().position(|store| store.path == *path) {
                None => self.say(
                    Place::Root,
                    format!("`{key}`: {path} is no store"),
                    match key {
                        "on" => "add it to `stores`: the root is a fresh directory on it",
                        _ => "add it to `stores`: what is mounted as the root becomes that store",
                    },
                ),
                Some(index) if key == "convert" && manifest.stores[index].device.is_some() => self.say(
                    Place::Store(index),
                    "it has a `device`, but `root.convert` says that what is mounted as the root becomes this store",
                    "leave out one of the two",
                ),
                Some(_) => {}
            }
        }
    }

    fn old_roots(&mut self) {
        let manifest = self.manifest;
        let Some(old) = &manifest.old_roots else { return };
        let on = manifest.root.as_ref().and_then(|root| root.on.as_ref());
        match (manifest.stores.get(usize::from(old.store)), on) {
            (None, _) => {
                self.say(Place::OldRoots, "there is no store to hold them", "name one in `stores`");
            }
            (Some(store), Some(on)) if store.path != *on => self.say(
                Place::OldRoots,
                format!("`store`: it is {}, but the root is made on {on}, and stays there", store.path),
                format!("leave `store` out, or name {on}"),
            ),
            (Some(store), _) if store.options.iter().any(|option| option == "ro") => self.say(
                Place::OldRoots,
                format!("{} has the option ro, so nothing can be kept there", store.path),
                "name another store, or leave the option out",
            ),
            _ => {}
        }
        if [old.boots, old.days, old.save_seconds].contains(&0) || old.size == 0 || old.save_size == 0 {
            self.say(Place::OldRoots, "a limit of 0 keeps nothing", "leave `old_roots` out");
        }
    }

    fn stores(&mut self) {
        let stores = &self.manifest.stores;
        if stores.is_empty() && !self.manifest.entries.is_empty() {
            self.say(Place::Manifest, "there are entries, but no store to hold them", "name one in `stores`");
        }
        if stores.len() > usize::from(u16::MAX) {
            self.say(Place::Manifest, format!("{} stores are too many", stores.len()), "65535 is the limit");
        }
        for (index, store) in stores.iter().enumerate() {
            let place = Place::Store(index);
            if store.path.is_root() {
                self.say(place, "a store cannot be at /", "give it a path of its own, such as /persist");
            }
            if let Some((zone, why)) = forbidden(&store.path) {
                self.say(place, format!("{zone} {why}"), "mount the store elsewhere, such as at /persist");
            }
            if index > 0 && stores[index - 1].path == store.path {
                let other = (self.name)(Place::Store(index - 1));
                self.say(place, format!("the store is there twice, also as {other}"), "keep one of the two");
            }
            self.add(place, values::store(store));
        }
    }

    fn parents(&mut self) {
        let manifest = self.manifest;
        for (index, parent) in manifest.parents.iter().enumerate() {
            let place = Place::Parent(index);
            if parent.path.is_root() {
                self.say(place, "/ is always root's, with the mode that `root.mode` says", "leave it out");
            }
            if index > 0 && manifest.parents[index - 1].path == parent.path {
                let other = (self.name)(Place::Parent(index - 1));
                self.say(
                    place,
                    format!("the directory is there twice, also as {other}"),
                    "keep one of the two",
                );
            }
            self.owner(place, "", &parent.owner);
        }
        if manifest.entries.iter().all(|entry| entry.parents.is_none()) {
            return;
        }
        for clash in Parents::new(manifest).1 {
            let (other, directory) =
                ((self.name)(Place::Entry(clash.other)), crate::text::escape::name(&clash.directory));
            self.say(
                Place::Entry(clash.entry),
                format!("its `parents` and those of {other} give {directory} different owners or modes"),
                format!("make {directory} an entry of its own, or name it once in the manifest's `parents`"),
            );
        }
    }

    fn ids(&mut self) {
        let ids = &self.manifest.ids;
        for (table, what) in [(&ids.users, "users"), (&ids.groups, "groups")] {
            for (name, number) in table {
                self.add(Place::Ids, values::table_line(what, name, *number));
            }
        }
    }

    fn owner(&mut self, place: Place, prefix: &str, owner: &Owner) {
        self.add(place, values::owner(prefix, owner, &self.manifest.ids));
    }

    /// Paths beyond the kernel's limit: the manifest's own, and sources, also used as link targets.
    fn lengths(&mut self) {
        let Manifest { stores, parents, entries, .. } = self.manifest;
        let stores_own = stores.iter().enumerate().map(|(index, store)| (Place::Store(index), &store.path));
        let parents = parents.iter().enumerate().map(|(index, parent)| (Place::Parent(index), &parent.path));
        let paths = entries.iter().enumerate().flat_map(|(index, entry)| {
            [Some(&entry.target), entry.source.as_ref()]
                .into_iter()
                .flatten()
                .map(move |path| (Place::Entry(index), path))
        });
        for (place, path) in stores_own.chain(parents).chain(paths) {
            if let Some(why) = path.too_long() {
                self.say(place, why, "shorten it");
            }
            let depth = path.components().count();
            if depth > DEPTH_MAX {
                self.say(
                    place,
                    format!("the path goes down {depth} directories, and {DEPTH_MAX} is the limit"),
                    "shorten it",
                );
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            let Some(store) = stores.get(usize::from(entry.store)) else { continue };
            let length = |path: &AbsPath| if path.is_root() { 0 } else { path.as_str().len() };
            let (what, own, remedy) = if entry.kind == Kind::Glob {
                let folder = entry.source().parent().map_or(0, |folder| length(&folder));
                ("a match can have", folder + 1 + NAME_MAX, "shorten the directory that holds the files")
            } else {
                ("it has", length(entry.source()), "shorten it, or give it a shorter `source`")
            };
            let whole = length(&store.path) + own;
            if whole > PATH_MAX {
                let what = format!(
                    "on the store {what} a path of {whole} bytes, and {PATH_MAX} are the most that the kernel takes"
                );
                self.say(Place::Entry(index), what, remedy);
            }
        }
    }

    /// Errors in a single entry.
    fn entry(&mut self, index: usize, entry: &Entry) {
        let place = Place::Entry(index);
        self.owner(place, "", &entry.owner);
        if let Some(parents) = &entry.parents {
            self.owner(place, "parents.", parents);
        }
        if usize::from(entry.store) >= self.manifest.stores.len() && !self.manifest.stores.is_empty() {
            self.say(
                place,
                format!("its store has the number {}, and there is none", entry.store),
                "compile it again",
            );
        }
        if entry.kind == Kind::Directory {
            if entry.method == Method::Copy {
                self.say(place, "`method` copy is for files only", "use bind or symlink");
            }
            if entry.missing != Missing::default() {
                self.say(place, "`missing` is for files only", "leave it out");
            }
        }
        if entry.kind == Kind::Glob {
            if !pattern::is_pattern(entry.target.name()) {
                self.say(place, "its last component is no pattern", "compile it again");
            }
            if entry.source.is_some() {
                self.say(
                    place,
                    "a pattern cannot have a `source`: it would be the same for every match",
                    "leave it out, or name the files one by one",
                );
            }
            if matches!(entry.missing, Missing::Create | Missing::MachineId) {
                self.say(
                    place,
                    "a pattern names no file that could be created",
                    "use `missing` link, skip or fail",
                );
            }
        }
        if entry.kind != Kind::Directory && entry.source.as_ref().is_some_and(AbsPath::is_root) {
            self.say(place, "`source`: a file cannot be the store itself", "name the file below the store");
        }
        if entry.source().components().next() == Some(PRIVATE) {
            self.say(
                place,
                format!("it would be /{PRIVATE} on the store, where old roots and unfinished copies are, which are removed in time"),
                "name another path, or bring back what an old root has with `impctl recover`",
            );
        }
        if entry.missing == Missing::MachineId && entry.method != Method::Bind {
            self.say(
                place,
                "`missing` machine-id needs `method` bind: systemd writes through it",
                "leave out the method",
            );
        }
        let mut known = BindOptions::DEFAULT;
        if !entry.options.words().all(|word| known.apply(word)) || known != entry.options {
            self.say(place, "it has mount options unknown to this version", "compile it again");
        }
        if entry.method != Method::Bind && entry.options != BindOptions::DEFAULT {
            self.say(
                place,
                "`options` are a mount's, and only `method` bind makes one",
                "leave out one of the two",
            );
        }
    }
}

/// The forbidden place at or above a path, and the reason.
pub(super) fn forbidden(path: &AbsPath) -> Option<(&'static str, &'static str)> {
    let in_it = |zone: &str| {
        path.as_str().strip_prefix(zone).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    FORBIDDEN.into_iter().find(|(zone, _)| in_it(zone))
}
