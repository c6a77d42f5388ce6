//! Owner and mode of directories above entries.
//!
//! From strongest to weakest: an entry of the path itself; the manifest's own table (homes, mostly); the file system
//! hierarchy shared by every system; `parents` of entries below; root, 0755. The `parents` of an entry apply upwards
//! to the first directory with a stronger source, so `parents` of a file in a home never change the home, and never
//! `/home`.

use super::{Entry, Id, Kind, Manifest, Owner, path};

/// Directories whose owner is root and whose mode is the same on every system: `[modes]` of the table of known paths.
pub const SYSTEM: &[(&str, u16)] = include!(concat!(env!("OUT_DIR"), "/modes.rs"));

/// Owner and mode of every directory with a rule of the manifest or the system.
#[derive(Debug)]
pub struct Parents<'m> {
    manifest: &'m Manifest,
    /// The manifest's table with the values of entries of the same path, and the `parents` of entries: in path order,
    /// the order of reading, so most are added at the end.
    claims: Vec<(&'m str, Claim)>,
}

/// Owner and mode given for one directory.
#[derive(Debug)]
struct Claim {
    owner: Owner,
    /// The entry whose `parents` say so; none for a line of the table, which nothing below can overrule.
    entry: Option<usize>,
}

/// Two entries whose `parents` contradict each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Clash {
    /// The later entry, by its index.
    pub entry: usize,
    /// The earlier one.
    pub other: usize,
    /// The directory with contradicting rules.
    pub directory: String,
}

/// The word on a directory's owner and mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryRule<'a> {
    /// The manifest's.
    Manifest(&'a Owner),
    /// Every system's: root, with this mode.
    System(u16),
    /// The default: root, 0755.
    Default,
}

impl DirectoryRule<'_> {
    /// The user.
    #[must_use]
    pub fn user(&self) -> Option<&Id> {
        if let Self::Manifest(owner) = self { owner.user.as_ref() } else { None }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> Option<&Id> {
        if let Self::Manifest(owner) = self { owner.group.as_ref() } else { None }
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> u16 {
        match self {
            Self::Manifest(owner) => owner.mode.unwrap_or(0o755),
            Self::System(mode) => *mode,
            Self::Default => 0o755,
        }
    }
}

impl<'m> Parents<'m> {
    /// Collects the rules of a manifest, and contradictions between entries.
    #[must_use]
    pub fn new(manifest: &'m Manifest) -> (Self, Vec<Clash>) {
        let mut this = Self { manifest, claims: Vec::new() };
        let mut clashes = Vec::new();
        for parent in &manifest.parents {
            let path = parent.path.as_str();
            let mut owner = parent.owner.clone();
            // The table may have values left out by an entry.
            if let Some(entry) = this.entry(path) {
                let own = entry.owner.clone();
                owner = Owner {
                    user: own.user.or(owner.user),
                    group: own.group.or(owner.group),
                    mode: own.mode.or(owner.mode),
                };
            }
            this.claims.push((path, Claim { owner, entry: None }));
        }
        for (index, entry) in manifest.entries.iter().enumerate() {
            let Some(owner) = &entry.parents else { continue };
            for path in std::iter::once(&entry.target).chain(&entry.source) {
                this.claim(index, owner, path.ancestors(), &mut clashes);
            }
        }
        (this, clashes)
    }

    /// The directory entry of a path.
    fn entry(&self, path: &str) -> Option<&'m Entry> {
        let entries = &self.manifest.entries;
        let found = entries.binary_search_by(|entry| path::compare(entry.target.as_str(), path));
        found.ok().map(|index| &entries[index]).filter(|entry| entry.kind == Kind::Directory)
    }

    /// The place of a directory, or its place if added.
    fn find(&self, path: &str) -> Result<usize, usize> {
        self.claims.binary_search_by(|(other, _)| path::compare(other, path))
    }

    fn claim(
        &mut self,
        index: usize,
        owner: &Owner,
        ancestors: impl Iterator<Item = &'m str>,
        clashes: &mut Vec<Clash>,
    ) {
        for path in ancestors {
            if system(path).is_some() || self.entry(path).is_some() {
                return;
            }
            let place = self.find(path).unwrap_or_else(|place| {
                self.claims.insert(place, (path, Claim { owner: Owner::default(), entry: Some(index) }));
                place
            });
            let claim = &mut self.claims[place].1;
            let Some(other) = claim.entry else { return };
            let clash = merge(&mut claim.owner.user, owner.user.as_ref())
                .or(merge(&mut claim.owner.group, owner.group.as_ref()))
                .or(merge(&mut claim.owner.mode, owner.mode.as_ref()));
            if clash.is_some() {
                clashes.push(Clash { entry: index, other, directory: path.to_owned() });
                return;
            }
        }
    }

    /// The rule of a directory created on the way to an entry.
    #[must_use]
    pub fn of(&self, path: &str) -> DirectoryRule<'_> {
        if let Ok(place) = self.find(path) {
            return DirectoryRule::Manifest(&self.claims[place].1.owner);
        }
        if let Some(entry) = self.entry(path) {
            return DirectoryRule::Manifest(&entry.owner);
        }
        system(path).map_or(DirectoryRule::Default, DirectoryRule::System)
    }

    /// True for a directory with the mode of every system.
    #[must_use]
    pub fn is_system(&self, path: &str) -> bool {
        system(path).is_some() && matches!(self.of(path), DirectoryRule::System(_))
    }
}

/// The first value is kept; a different one later is a conflict.
fn merge<T: PartialEq + Clone>(first: &mut Option<T>, later: Option<&T>) -> Option<()> {
    let later = later?;
    match first {
        None => *first = Some(later.clone()),
        Some(first) if first == later => {}
        Some(_) => return Some(()),
    }
    None
}

/// The mode of a directory owned by root with the same mode on every system.
#[must_use]
pub fn system(path: &str) -> Option<u16> {
    SYSTEM.iter().find(|(known, _)| *known == path).map(|(_, mode)| *mode)
}
