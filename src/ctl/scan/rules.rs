//! Rules for paths, in the form of a tree of names for a walk.

use std::collections::BTreeMap;

use crate::manifest::pattern;
use crate::manifest::{AbsPath, Kind};

/// Verdict of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Shared by many: its content is listed, and never the path itself.
    Shared,
    /// Kept, of any type.
    Kept,
    /// Kept by the manifest, as long as a file system is mounted there.
    Mounted,
    /// Place of files of the manifest, each of which is decided during the walk.
    Named,
    /// Part of the system, or of imp-mount.
    System,
    /// Disposable by a rule.
    ThrowAway,
    /// Not disposable, against any earlier rule.
    Precious,
    /// Mount point of a persistent file system.
    Disk,
}

/// Verdict of all rules on one path.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "several rules may speak of one path")]
pub struct Verdict {
    /// [`Rule::Shared`]
    pub shared: bool,
    /// [`Rule::Kept`]
    pub kept: bool,
    /// [`Rule::Mounted`]
    pub mounted: bool,
    /// [`Rule::Named`]
    pub named: bool,
    /// [`Rule::System`]
    pub system: bool,
    /// [`Rule::Disk`]
    pub disk: bool,
    /// True if disposable; none if no rule decides.
    pub throw_away: Option<bool>,
}

/// Rules for paths below the current directory of a walk.
pub type State = Box<[usize]>;

/// The rules.
#[derive(Debug)]
pub struct Rules {
    branches: Vec<Branch>,
    /// Few, and looked up for every file: to compare them takes less than to hash its name.
    names: BTreeMap<Box<[u8]>, (usize, bool)>,
    patterns: Vec<(Matcher, (usize, bool))>,
    count: usize,
}

/// Rules of a directory, or of several matched by a pattern.
#[derive(Debug, Default)]
struct Branch {
    names: BTreeMap<Box<[u8]>, usize>,
    patterns: Vec<(String, Matcher, usize)>,
    rules: Vec<(usize, Rule)>,
}

impl Branch {
    fn is_leaf(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }
}

/// A pattern for one name. Most are words with a star at one end, which need no search.
#[derive(Debug)]
enum Matcher {
    Suffix(Box<[u8]>),
    Prefix(Box<[u8]>),
    Pattern(String),
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let is_plain = |text: &str| !text.is_empty() && !text.contains(['*', '?', '[', '\\']);
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(suffix), _) if is_plain(suffix) => Self::Suffix(suffix.as_bytes().into()),
            (_, Some(prefix)) if is_plain(prefix) => Self::Prefix(prefix.as_bytes().into()),
            _ => Self::Pattern(pattern.to_owned()),
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Suffix(suffix) => name.ends_with(suffix) && !name.starts_with(b"."),
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Pattern(pattern) => pattern::matches(pattern, &String::from_utf8_lossy(name)),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { branches: vec![Branch::default()], names: BTreeMap::new(), patterns: Vec::new(), count: 0 }
    }
}

impl Rules {
    /// Adds a rule for one path, without special characters. The last rule about a disposable path decides.
    pub fn path(&mut self, path: &AbsPath, rule: Rule) {
        let components = path.components().map(|name| (name.to_owned(), Kind::File));
        self.insert(components.collect(), rule);
    }

    /// Adds a rule for the paths of a `file` of a manifest.
    pub fn glob(&mut self, target: &AbsPath, rule: Rule) {
        let folder = target.parent().unwrap_or_else(AbsPath::root);
        let mut components: Vec<_> = folder.components().map(|name| (name.to_owned(), Kind::File)).collect();
        components.push((target.name().to_owned(), Kind::Glob));
        self.insert(components, rule);
    }

    /// Adds a rule in a person's notation: an absolute path with patterns in any component, or a name or pattern for
    /// files of this name anywhere.
    ///
    /// # Errors The reason for an invalid pattern.
    pub fn pattern(&mut self, text: &str, rule: Rule) -> Result<(), String> {
        let one = |name: &str| {
            let (path, kind) = pattern::read(&format!("/{name}"))?;
            let name = path.name().to_owned();
            if name.is_empty() { Err(format!("`{name}` is no name")) } else { Ok((name, kind)) }
        };
        let Some(path) = text.strip_prefix('/') else {
            if text.contains('/') {
                return Err("a pattern with a slash in it begins with one".to_owned());
            }
            let (name, kind) = one(text)?;
            let says = (self.count, rule == Rule::ThrowAway);
            self.count += 1;
            if kind == Kind::Glob {
                self.patterns.push((Matcher::new(&name), says));
            } else {
                self.names.insert(name.into_bytes().into(), says);
            }
            return Ok(());
        };
        let parts = path.split('/').filter(|part| !part.is_empty());
        let components = parts.map(one).collect::<Result<Vec<_>, _>>()?;
        self.insert(components, rule);
        Ok(())
    }

    fn insert(&mut self, components: Vec<(String, Kind)>, rule: Rule) {
        let mut at = 0;
        for (name, kind) in components {
            let new = self.branches.len();
            let branch = &mut self.branches[at];
            at = if kind == Kind::Glob {
                let found = branch.patterns.iter().find(|(known, ..)| *known == name).map(|found| found.2);
                found.unwrap_or_else(|| {
                    branch.patterns.push((name.clone(), Matcher::new(&name), new));
                    new
                })
            } else {
                *branch.names.entry(name.into_bytes().into()).or_insert(new)
            };
            if at == new {
                self.branches.push(Branch::default());
            }
        }
        self.branches[at].rules.push((self.count, rule));
        self.count += 1;
    }

    /// Start of a walk of `/`.
    #[must_use]
    pub fn start(&self) -> (State, Verdict) {
        (Box::new([0]), self.verdict(&[0], b""))
    }

    /// Verdict on a name in a directory, and rules for the paths below.
    #[must_use]
    pub fn step(&self, state: &[usize], name: &[u8]) -> (State, Verdict) {
        let mut next = Vec::new();
        for branch in state.iter().map(|index| &self.branches[*index]) {
            next.extend(branch.names.get(name));
            next.extend(branch.patterns.iter().filter(|(_, it, _)| it.matches(name)).map(|(.., to)| *to));
        }
        let verdict = self.verdict(&next, name);
        next.retain(|index| !self.branches[*index].is_leaf());
        (next.into(), verdict)
    }

    /// Verdict of the rules on one path, without those on paths above.
    #[cfg(test)]
    fn verdict_of(&self, path: &str) -> Verdict {
        let (mut state, mut verdict) = self.start();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            (state, verdict) = self.step(&state, name.as_bytes());
        }
        verdict
    }

    /// True if a rule for a path, or for one above, declares the path disposable; the nearest rule decides.
    #[must_use]
    pub fn is_throw_away(&self, path: &str) -> bool {
        let (mut state, mut verdict) = self.start();
        let mut says = verdict.throw_away;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            (state, verdict) = self.step(&state, name.as_bytes());
            says = verdict.throw_away.or(says);
        }
        says == Some(true)
    }

    fn verdict(&self, at: &[usize], name: &[u8]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut says = self.names.get(name).copied();
        for (matcher, other) in &self.patterns {
            if matcher.matches(name) {
                says = says.max(Some(*other));
            }
        }
        for (order, rule) in at.iter().flat_map(|index| &self.branches[*index].rules) {
            match rule {
                Rule::Shared => verdict.shared = true,
                Rule::Kept => verdict.kept = true,
                Rule::Mounted => verdict.mounted = true,
                Rule::Named => verdict.named = true,
                Rule::System => verdict.system = true,
                Rule::Disk => verdict.disk = true,
                Rule::ThrowAway => says = says.max(Some((*order, true))),
                Rule::Precious => says = says.max(Some((*order, false))),
            }
        }
        verdict.throw_away = says.map(|(_, throw_away)| throw_away);
        verdict
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_patterns_and_names() {
        let mut rules = Rules::default();
        rules.path(&AbsPath::parse("/etc/a*").unwrap(), Rule::Kept);
        rules.glob(&AbsPath::parse("/etc/ssh/ssh_host_*").unwrap(), Rule::Named);
        rules.pattern("/home/*/.cache", Rule::ThrowAway).unwrap();
        rules.pattern("*.tmp", Rule::ThrowAway).unwrap();
        assert!(rules.verdict_of("/etc/a*").kept && !rules.verdict_of("/etc/ab").kept);
        assert!(rules.verdict_of("/etc/ssh/ssh_host_key").named && !rules.verdict_of("/etc/ssh/other").named);
        assert_eq!(rules.verdict_of("/home/ada/.cache").throw_away, Some(true));
        assert_eq!(rules.verdict_of("/home/ada/cache").throw_away, None);
        assert_eq!(rules.verdict_of("/any/where/x.tmp").throw_away, Some(true));
        assert_eq!(rules.verdict_of("/any/where/.tmp").throw_away, None);
        assert!(rules.pattern("a/b", Rule::ThrowAway).is_err());
        assert!(rules.pattern("/a/[b", Rule::ThrowAway).is_err());
        assert!(rules.pattern("/a/..", Rule::ThrowAway).is_err());
    }

    #[test]
    fn the_last_rule_decides() {
        let mut rules = Rules::default();
        for (text, rule) in [
            ("*.db", Rule::ThrowAway),
            ("/var/cache", Rule::ThrowAway),
            ("/var/cache", Rule::Precious),
            ("keep.db", Rule::Precious),
            ("/srv/keep.db", Rule::ThrowAway),
        ] {
            rules.pattern(text, rule).unwrap();
        }
        let says = |path| rules.verdict_of(path).throw_away;
        assert_eq!(
            ["/var/cache", "/x/keep.db", "/x/other.db", "/srv/keep.db"].map(says),
            [Some(false), Some(false), Some(true), Some(true)]
        );
    }
}
