//! Survey of a tree before the copy: size, files, databases.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::Name;
use crate::transfer::tree::{Choice, Found, State, Transfer};

/// A file or directory: its device and its number.
pub type Inode = ((u32, u32), u64);

/// Contents of a tree.
#[derive(Debug, Default)]
pub struct Survey {
    /// All files of the tree.
    pub inodes: HashSet<Inode>,
    /// Its allocated bytes.
    pub space: u64,
    /// The bytes of its files, each read once.
    pub bytes: u64,
    /// Number of names in the tree.
    pub names: u64,
    /// Databases in the tree.
    pub databases: Vec<Database>,
}

/// A database known by its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its kind.
    pub what: &'static str,
    /// The file typical of the database, below the tree.
    pub file: String,
    /// The file typical of an open database, below the tree.
    pub open: Option<String>,
}

impl Survey {
    /// Goes through a tree.
    pub fn of(tree: Name<'_>) -> Result<Self> {
        let survey = RefCell::new(Self::default());
        let mut folders: HashMap<Vec<u8>, Folder> = HashMap::new();
        let mut decide = |found: &Found<'_>| {
            let mut survey = survey.borrow_mut();
            if found.state == State::Foreign {
                return Err(Problem::new(format!(
                    "another file system is mounted at {}",
                    escape::name(found.path)
                ))
                .remedy("unmount it, or adopt what lies beside it"));
            }
            survey.names += 1;
            let stat = found.stat;
            if survey.inodes.insert((stat.device(), stat.inode())) {
                survey.space += stat.allocated();
                survey.bytes += if stat.is_file() { stat.size() } else { 0 };
            }
            if stat.is_file() {
                let cut = found.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                let (folder, name) = found.path.split_at(cut);
                if is_marker(name) {
                    folders.entry(folder.to_vec()).or_default().insert(name.to_vec(), stat.size());
                }
            }
            Ok(Choice::Pass)
        };
        Transfer::default().run(tree, None, &mut decide, &mut |_| ())?;
        let mut survey = survey.into_inner();
        let mut found: Vec<_> = folders.iter().flat_map(|(folder, files)| databases(folder, files)).collect();
        found.sort_by(|one, other| one.file.cmp(&other.file));
        // PostgreSQL has the same file again in the folder of each of its databases.
        let folders: Vec<_> =
            found.iter().filter_map(|one| one.file.strip_suffix("PG_VERSION")).map(str::to_owned).collect();
        let is_inner = |one: &Database| {
            folders
                .iter()
                .any(|folder| one.file.strip_prefix(folder.as_str()).is_some_and(|rest| rest.contains('/')))
        };
        found.retain(|one| !one.file.ends_with("PG_VERSION") || !is_inner(one));
        survey.databases = found;
        Ok(survey)
    }
}

/// The telling files of one directory, with their sizes.
type Folder = HashMap<Vec<u8>, u64>;

/// Suffixes of `SQLite` for an open or uncleanly closed database.
const SQLITE: [&[u8]; 2] = [b"-wal", b"-journal"];

fn is_marker(name: &[u8]) -> bool {
    matches!(name, b"PG_VERSION" | b"postmaster.pid" | b"ibdata1")
        || name.ends_with(b".pid")
        || SQLITE.iter().any(|suffix| name.ends_with(suffix))
}

fn databases(folder: &[u8], files: &Folder) -> Vec<Database> {
    let path = |name: &[u8]| escape::name(&[folder, name].concat()).into_owned();
    let mut found = Vec::new();
    if files.contains_key(&b"PG_VERSION"[..]) {
        let open = files.contains_key(&b"postmaster.pid"[..]).then(|| path(b"postmaster.pid"));
        found.push(Database { what: "a PostgreSQL database", file: path(b"PG_VERSION"), open });
    }
    if files.contains_key(&b"ibdata1"[..]) {
        let pid = files.keys().find(|name| name.ends_with(b".pid"));
        let open = pid.map(|name| path(name));
        found.push(Database { what: "a MariaDB or MySQL database", file: path(b"ibdata1"), open });
    }
    for (name, size) in files {
        let of = SQLITE.iter().find_map(|suffix| name.strip_suffix(*suffix));
        if let Some(of) = of.filter(|of| !of.is_empty()) {
            let open = (*size > 0).then(|| path(name));
            found.push(Database { what: "an SQLite database", file: path(of), open });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_their_files() {
        let folder = |files: &[(&str, u64)]| -> Folder {
            files.iter().map(|(name, size)| (name.as_bytes().to_vec(), *size)).collect()
        };
        let open = |files: &[(&str, u64)]| -> Vec<Option<String>> {
            databases(b"db/", &folder(files)).into_iter().map(|one| one.open).collect()
        };
        assert_eq!(open(&[("PG_VERSION", 3)]), [None]);
        assert_eq!(open(&[("PG_VERSION", 3), ("postmaster.pid", 9)]), [Some("db/postmaster.pid".to_owned())]);
        assert_eq!(open(&[("ibdata1", 9), ("host.pid", 2)]), [Some("db/host.pid".to_owned())]);
        assert_eq!(open(&[("app.db-wal", 4096)]), [Some("db/app.db-wal".to_owned())]);
        assert_eq!(open(&[("app.db-wal", 0)]), [None]);
        assert_eq!(open(&[("host.pid", 2)]), []);
    }
}
