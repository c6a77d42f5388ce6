//! Absolute paths without `.`, `..`, empty components or NUL: the only paths of a manifest.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::text::escape;
use crate::text::json::{Take, Value};

/// The directory of imp-mount at the top of a store. Patterns do not match this name.
pub const PRIVATE: &str = ".imp-mount";

/// The kernel's longest path, and text of a symbolic link, without the NUL.
pub const PATH_MAX: usize = 4095;
/// The longest component on usual file systems.
pub const NAME_MAX: usize = 255;

/// An absolute, normalised path. Below a store, `/` means the store's own directory.
///
/// A path may be longer than the kernel's limit: [`AbsPath::parse`] refuses a long path in user input, and
/// [`refuse`](super::refuse) one in a manifest. A joined path can always be written and read again.
///
/// Ordered by component: a directory comes right before all paths below. `Display` is for messages and escapes the
/// path. System calls and JSON use [`AbsPath::as_str`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String")]
#[cfg_attr(test, schemars(rename = "Path", description = "An absolute path."))]
pub struct AbsPath(#[cfg_attr(test, schemars(regex(pattern = "^/")))] String);

impl AbsPath {
    /// `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads a path in any form: `//` and a trailing slash are dropped, as is a `.` component.
    ///
    /// # Errors
    /// Why the text is no such path, with the text to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = Self::normal(text)?;
        path.too_long().map_or(Ok(path), Err)
    }

    /// The same for a path from the kernel or a walk, of any length.
    ///
    /// # Errors
    /// Why the text is no such path.
    pub fn normal(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if !text.starts_with('/') {
            return Err(format!(
                "the path is relative; write `/{}` if that is what you mean",
                escape::name(text)
            ));
        }
        if text.contains('\0') {
            return Err("the path holds a NUL byte, which no file name can".to_owned());
        }
        let mut path = String::with_capacity(text.len());
        for component in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if component == ".." {
                return Err("the path goes up with `..`; write it without".to_owned());
            }
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path))
    }

    /// Why the path is too long for the kernel; none otherwise.
    #[must_use]
    pub fn too_long(&self) -> Option<String> {
        if let Some(component) = self.components().find(|component| component.len() > NAME_MAX) {
            let component = escape::name(component);
            return Some(format!("the component `{component}` is longer than {NAME_MAX} bytes"));
        }
        (self.0.len() > PATH_MAX).then(|| format!("the path is longer than {PATH_MAX} bytes"))
    }

    /// The path as text, `/` for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its leading slash, to open below a directory.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// True if this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The components, from the top.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The last component; empty for `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// The directory of this path; none for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            _ if self.is_root() => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(Self(parent.to_owned())),
        }
    }

    /// The path of the directory of this path; `/` for `/`.
    #[must_use]
    pub fn folder(&self) -> &str {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((folder, _)) => folder,
        }
    }

    /// The directories above this path, nearest first, without `/`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            rest = rest.rsplit_once('/')?.0;
            (!rest.is_empty()).then_some(rest)
        })
    }

    /// True for `above` and paths below.
    #[must_use]
    pub fn is_in(&self, above: &Self) -> bool {
        self.below(above).is_some()
    }

    /// This path as seen from `above`, as an absolute path there; none if not below.
    #[must_use]
    pub fn below(&self, above: &Self) -> Option<Self> {
        if above.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(above.as_str())? {
            "" => Some(Self::root()),
            rest if rest.starts_with('/') => Some(Self(rest.to_owned())),
            _ => None,
        }
    }

    /// `path` below this one.
    #[must_use]
    pub fn join(&self, path: &Self) -> Self {
        match (self.is_root(), path.is_root()) {
            (true, _) => path.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}{}", self.0, path.0)),
        }
    }

    /// The text of an absolute path below this one.
    #[must_use]
    pub fn join_text(&self, path: &str) -> String {
        if self.is_root() { path.to_owned() } else { format!("{}{path}", self.0) }
    }

    /// A single component below this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(if self.is_root() { format!("/{name}") } else { format!("{}/{name}", self.0) })
    }
}

/// The order of two paths by their components.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Eight bytes at a time first: neighbours have most of their bytes in common.
    let (ones, others) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    let same = 8 * ones.iter().zip(others).take_while(|(one, other)| one == other).count();
    let differ = one[same..].iter().zip(&other[same..]).find(|(one, other)| one != other);
    // A slash sorts before every other byte.
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    differ.map_or(one.len().cmp(&other.len()), |(one, other)| key(*one).cmp(&key(*other)))
}

impl Ord for AbsPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for AbsPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::name(&self.0))
    }
}

impl TryFrom<String> for AbsPath {
    type Error = String;

    /// Takes only normalised text: other text was not written by this program.
    fn try_from(text: String) -> Result<Self, String> {
        let is_usual = |part: &str| !matches!(part, "" | "." | "..");
        if text.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_usual)) && !text.contains('\0')
        {
            return Ok(Self(text));
        }
        let path = Self::normal(&text)?;
        if path.0 == text {
            Ok(path)
        } else {
            Err(format!("`{}` is not in its normal form, `{path}`", escape::name(&text)))
        }
    }
}

impl From<AbsPath> for String {
    fn from(path: AbsPath) -> Self {
        path.0
    }
}

impl Serialize for AbsPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Take for AbsPath {
    fn take(value: Value) -> Result<Self, String> {
        String::take(value)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &str) -> AbsPath {
        AbsPath::parse(text).unwrap()
    }

    #[test]
    fn normalises_slashes_and_dots() {
        assert_eq!(path("/var//lib/").as_str(), "/var/lib");
        assert_eq!(path("/./a/.").as_str(), "/a");
        assert_eq!(path("///").as_str(), "/");
    }

    #[test]
    fn refuses_relative_and_empty_paths() {
        for text in ["", "var/lib", "/a/../b", "/a\0b", &format!("/{}", "x".repeat(256)), &"/x".repeat(2048)]
        {
            assert!(AbsPath::parse(text).is_err(), "{text}");
        }
        for text in ["", "a", "/a//b", "/a/", "//", "/./a", "/a/..", "/a\0b"] {
            assert!(AbsPath::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(AbsPath::try_from("/".to_owned()), Ok(AbsPath::root()));
    }

    #[test]
    fn joined_paths_of_any_length_are_read_again() {
        let long = path(&"/x".repeat(2047)).join(&path(&"/y".repeat(2047))).child(&"z".repeat(700));
        assert!(long.too_long().is_some());
        assert_eq!(AbsPath::try_from(String::from(long.clone())), Ok(long));
    }

    #[test]
    fn a_directory_sorts_right_before_its_content() {
        let mut paths: Vec<_> = ["/a b", "/a/c", "/a", "/a-b", "/"].map(path).into();
        paths.sort();
        let texts: Vec<_> = paths.iter().map(AbsPath::as_str).collect();
        assert_eq!(texts, ["/", "/a", "/a/c", "/a b", "/a-b"]);
    }

    #[test]
    fn relations() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(AbsPath::root()));
        assert_eq!(AbsPath::root().parent(), None);
        assert_eq!(["/a/b", "/a", "/"].map(|text| path(text).folder().to_owned()), ["/a", "/", "/"]);
        assert_eq!(path("/a/b/c").ancestors().collect::<Vec<_>>(), ["/a/b", "/a"]);
        assert_eq!(AbsPath::root().ancestors().count(), 0);
        assert!(path("/a/b").is_in(&path("/a")) && !path("/ab").is_in(&path("/a")));
        assert_eq!(path("/a/b").below(&path("/a")), Some(path("/b")));
        assert_eq!(path("/p").join(&path("/a")), path("/p/a"));
        assert_eq!(AbsPath::root().join(&AbsPath::root()), AbsPath::root());
        assert_eq!(path("/a\nb").to_string(), "/a\\nb");
    }
}
