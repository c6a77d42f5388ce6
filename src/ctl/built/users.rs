//! The users of a system, by passwd(5), sysusers.d(5) and the lists of NixOS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::unit::{quoted_words, tidy};

/// Suffixes of the files with the users of NixOS and userborn.
pub const LISTS: [&str; 2] = ["-users-groups.json", "-userborn.json"];
/// Numbers of people.
const PEOPLE: std::ops::Range<u32> = 1000..60000;

/// True for ids that distributions reserve, whose accounts are there without their programs.
fn is_static(uid: u32) -> bool {
    (1..100).contains(&uid)
}

/// A user.
#[derive(Debug)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The group, by name if known.
    pub group: String,
    /// The home; empty for `/` and for text that is not a path.
    pub home: String,
    /// The mode of the home, if given.
    pub mode: Option<String>,
    /// True for people, false for root and the users of services.
    pub person: bool,
    /// True for root.
    pub root: bool,
    /// True if nothing makes its home.
    pub bare: bool,
}

/// Users by name, the first of a name.
#[derive(Debug, Default)]
pub struct Users {
    /// Names of groups by their numbers.
    groups: BTreeMap<String, String>,
    /// The users.
    pub all: Vec<User>,
    /// Files with passwords, by their users.
    pub passwords: Vec<(String, String)>,
}

/// A list of NixOS (users-groups.json) or of userborn.
#[derive(Deserialize)]
struct List {
    users: Vec<Declared>,
}

/// A user of such a list. The keys are those of the options `users.users.<name>`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declared {
    name: String,
    uid: Option<u32>,
    group: String,
    home: Option<String>,
    home_mode: Option<String>,
    #[serde(default)]
    create_home: bool,
    is_system_user: Option<bool>,
    is_normal: Option<bool>,
    hashed_password_file: Option<String>,
}

impl Users {
    /// No users, and the groups of group(5).
    #[must_use]
    pub fn new(group: &str) -> Self {
        let fields = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let named = fields.filter_map(|fields| match fields[..] {
            [name, _, gid, ..] => Some((gid.to_owned(), name.to_owned())),
            _ => None,
        });
        Self { groups: named.collect(), ..Self::default() }
    }

    fn add(&mut self, user: User) {
        if !self.all.iter().any(|it| it.name == user.name) {
            self.all.push(user);
        }
    }

    fn group(&self, id: &str) -> String {
        self.groups.get(id).map_or(id, String::as_str).to_owned()
    }

    /// Adds those of passwd(5).
    pub fn passwd(&mut self, text: &str) {
        for line in text.lines() {
            if let [name, _, uid, gid, _, home, shell] = line.split(':').collect::<Vec<_>>()[..]
                && let Ok(uid) = uid.parse::<u32>()
            {
                let is_login = !shell.ends_with("nologin") && !shell.ends_with("/false");
                self.add(User {
                    name: name.to_owned(),
                    group: self.group(gid),
                    home: tidy(home).unwrap_or_default(),
                    mode: None,
                    person: PEOPLE.contains(&uid) && is_login,
                    root: uid == 0,
                    bare: is_static(uid),
                });
            }
        }
    }

    /// Adds the users in lines of sysusers.d.
    pub fn sysusers<'l>(&mut self, lines: impl Iterator<Item = &'l str>) {
        for line in lines {
            let words = quoted_words(line);
            let word = |index: usize| words.get(index).map(String::as_str).filter(|word| *word != "-");
            let name = word(1).filter(|name| !name.contains('%'));
            let (Some("u"), Some(name)) = (word(0).map(|kind| kind.trim_end_matches('!')), name) else {
                continue;
            };
            let id = word(2).unwrap_or_default();
            let (uid, group) = id.split_once(':').unwrap_or((id, name));
            let home = word(4).filter(|path| !path.contains('%')).and_then(tidy).unwrap_or_default();
            let (name, group) = (name.to_owned(), self.group(group));
            let bare = uid.parse::<u32>().is_ok_and(is_static);
            self.add(User { name, group, home, mode: None, person: false, root: uid == "0", bare });
        }
    }

    /// Adds the users in a list of NixOS. A list of another form is ignored.
    pub fn nixos(&mut self, text: &str) {
        let Ok(list) = serde_json::from_str::<List>(text) else { return };
        for user in list.users {
            let file = user.hashed_password_file.as_deref().and_then(tidy);
            self.passwords.extend(file.map(|file| (format!("the password of {}", user.name), file)));
            let is_service = user.uid.is_some_and(|uid| uid < PEOPLE.start)
                || user.is_system_user.or(user.is_normal.map(|normal| !normal)).unwrap_or(true);
            self.add(User {
                home: user.home.as_deref().and_then(tidy).unwrap_or_default(),
                mode: user.home_mode.filter(|_| user.create_home),
                person: !is_service,
                root: user.uid == Some(0),
                bare: is_service && !user.create_home,
                name: user.name,
                group: user.group,
            });
        }
    }
}
