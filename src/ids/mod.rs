//! Names to ids before /etc/passwd exists: from the files left on the stores by NixOS's three ways to create users.
//!
//! An id is needed only for new files, so every file is read on first use, and once. A file writable by users other
//! than root is ignored, with a warning in [`Names::warnings`].

pub mod idmap;
pub mod passwd;
mod sysusers;
#[cfg(test)]
mod tests;
mod trust;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::manifest::{self, AbsPath, Entry, Id, Manifest};
use crate::text::problem::{Problem, Result};
use sysusers::Markers;

/// Names and their ids.
pub type Table = BTreeMap<String, u32>;

/// Places in which a file is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path on the running system.
    Live(AbsPath),
    /// A path below one of [`Manifest::stores`].
    Store(u16, AbsPath),
}

/// Opens the file for reading.
pub trait Files {
    /// Opens a file or directory for reading, without following a symlink, and without waiting for the other end of a
    /// FIFO (`O_NONBLOCK`). Below a store no other mount is entered; the live root may consist of many mounts.
    ///
    /// None for a missing file. A symlink is a [`Problem`] with the errno `ELOOP`.
    fn open(&self, place: &Place) -> Result<Option<OwnedFd>>;
}

/// The ids of users and groups.
pub struct Names<'m> {
    manifest: &'m Manifest,
    files: &'m dyn Files,
    users: Database<'m>,
    groups: Database<'m>,
    warnings: Vec<Problem>,
}

/// Users and groups, which are numbered apart.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

/// Known ids of users, or of groups.
struct Database<'m> {
    known: &'m Table,
    /// In the order in which they are asked.
    sources: Vec<Source>,
    /// In the order of the names.
    answers: Vec<(String, Option<u32>)>,
}

/// A file with ids.
struct Source {
    place: Place,
    form: Form,
    /// None inside for a missing or distrusted file.
    content: OnceCell<Option<Content>>,
}

#[derive(Clone, Copy)]
enum Form {
    Colons,
    Json,
    Markers,
}

enum Content {
    Table(Table),
    Markers(Markers),
}

impl<'m> Names<'m> {
    /// Opens nothing yet. `live` is true on the running system, whose own users come first.
    #[must_use]
    pub fn new(manifest: &'m Manifest, live: bool, files: &'m dyn Files) -> Self {
        let users = Database::new(manifest, &manifest.ids.users, live, Kind::User);
        let groups = Database::new(manifest, &manifest.ids.groups, live, Kind::Group);
        Self { manifest, files, users, groups, warnings: Vec::new() }
    }

    /// The id of a user, root's if the manifest names none; none if unknown.
    pub fn user(&mut self, id: Option<&Id>) -> Option<u32> {
        self.look_up(Kind::User, id)
    }

    /// The id of a group, root's if the manifest names none; none if unknown.
    pub fn group(&mut self, id: Option<&Id>) -> Option<u32> {
        self.look_up(Kind::Group, id)
    }

    /// Files ignored since the last call, and why.
    pub fn warnings(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.warnings)
    }

    fn look_up(&mut self, kind: Kind, id: Option<&Id>) -> Option<u32> {
        let name = match id {
            None => return Some(0),
            Some(Id::Number(number)) => return Some(*number),
            Some(Id::Name(name)) if name == "root" => return Some(0),
            Some(Id::Name(name)) => name,
        };
        let database = match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        };
        if let Some(id) = database.known.get(name) {
            return Some(*id);
        }
        let at = match database.answers.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) => return database.answers[at].1,
            Err(at) => at,
        };
        let mut answer = None;
        for source in &database.sources {
            let found = source
                .find(self.files, kind, name)
                .and_then(|id| id.map(|id| trust::id(name, id)).transpose());
            match found {
                Ok(None) => {}
                Ok(Some(id)) => {
                    answer = Some(id);
                    break;
                }
                Err(problem) => self.warnings.push(problem.at(source.place.shown(self.manifest))),
            }
        }
        database.answers.insert(at, (name.clone(), answer));
        answer
    }
}

impl<'m> Database<'m> {
    fn new(manifest: &Manifest, known: &'m Table, live: bool, kind: Kind) -> Self {
        let (passwd, map, markers) = match kind {
            // Below /etc; then where userborn and systemd-sysusers write when /etc cannot be written to.
            Kind::User => (
                ["/etc/passwd", "/var/lib/nixos/passwd", "/var/lib/nixos/etc/passwd"],
                "/var/lib/nixos/uid-map",
                "/var/lib/nixos/uid",
            ),
            Kind::Group => (
                ["/etc/group", "/var/lib/nixos/group", "/var/lib/nixos/etc/group"],
                "/var/lib/nixos/gid-map",
                "/var/lib/nixos/gid",
            ),
        };
        let path = |path: &str| AbsPath::parse(path).ok();
        let running = passwd
            .into_iter()
            .filter(|_| live)
            .filter_map(path)
            .map(|path| (Place::Live(path), Form::Colons));
        let persisted = passwd
            .map(|path| (path, Form::Colons))
            .into_iter()
            .chain([(map, Form::Json), (markers, Form::Markers)])
            .filter_map(|(text, form)| Some((locate(manifest, &path(text)?)?, form)));
        let sources = running
            .chain(persisted)
            .map(|(place, form)| Source { place, form, content: OnceCell::new() })
            .collect();
        Self { known, sources, answers: Vec::new() }
    }
}

impl Source {
    fn find(&self, files: &dyn Files, kind: Kind, name: &str) -> Result<Option<u32>> {
        let mut failure = None;
        let content = self.content.get_or_init(|| {
            self.read(files, kind).unwrap_or_else(|problem| {
                failure = Some(problem);
                None
            })
        });
        match (failure, content) {
            (Some(problem), _) => Err(problem),
            (None, None) => Ok(None),
            (None, Some(Content::Table(table))) => Ok(table.get(name).copied()),
            (None, Some(Content::Markers(markers))) => markers.find(name),
        }
    }

    fn read(&self, files: &dyn Files, kind: Kind) -> Result<Option<Content>> {
        let fd = match files.open(&self.place) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Ok(None),
            // With an immutable /etc its files are links to /var/lib/nixos, which is asked by itself.
            Err(problem) if matches!(self.place, Place::Live(_)) && problem.errno == Some(Errno::LOOP) => {
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        };
        Ok(Some(match self.form {
            Form::Colons => Content::Table(passwd::parse(&trust::read(&fd)?)?),
            Form::Json => Content::Table(idmap::parse(&trust::read(&fd)?)?),
            Form::Markers => Content::Markers(Markers::new(fd, kind)?),
        }))
    }
}

impl Place {
    /// The path in the form of a manifest.
    fn shown(&self, manifest: &Manifest) -> String {
        match self {
            Self::Live(path) => path.to_string(),
            Self::Store(store, path) => manifest.stores[usize::from(*store)].path.join(path).to_string(),
        }
    }
}

/// Path on a store of a persistent path, by its deepest entry; none for a volatile path.
///
/// Patterns do not count: they are for names made up by programs, and the files here have fixed names.
#[must_use]
pub fn locate(manifest: &Manifest, path: &AbsPath) -> Option<Place> {
    let holds = |entry: &&Entry| match entry.kind {
        manifest::Kind::Directory => path.is_in(&entry.target),
        manifest::Kind::File => entry.target == *path,
        manifest::Kind::Glob => false,
    };
    let entry = manifest.entries.iter().filter(holds).max_by_key(|entry| entry.target.as_str().len())?;
    Some(Place::Store(entry.store, entry.source().join(&path.below(&entry.target)?)))
}

/// A decimal number, and nothing else: Rust's own parser would take a plus sign too.
fn decimal(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
