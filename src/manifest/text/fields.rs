//! The members of one JSON object, read by name; whatever is wrong with one of them is noted, and reading goes on.

use std::collections::BTreeMap;

use super::super::{AbsPath, Id, Owner, mode};
use crate::text::escape;
use crate::text::json::Value;
use crate::text::problem::Problem;

/// Least similarity (Jaro-Winkler) at which a key is suggested for an unknown one.
const ALIKE: f64 = 0.8;

/// An object during its reading.
pub struct Fields<'v, 'p> {
    /// The place in the manifest, for messages.
    at: String,
    /// Prefix of the keys in messages, such as `parents.`.
    prefix: &'static str,
    members: &'v [(String, Value)],
    /// Every key read so far: the allowed ones.
    asked: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'v, 'p> Fields<'v, 'p> {
    /// Starts reading the object at a place; none for another type.
    pub fn open(at: &str, value: &'v Value, problems: &'p mut Vec<Problem>) -> Option<Self> {
        Self::nested(at, "", value, problems)
    }

    fn nested(
        at: &str,
        prefix: &'static str,
        value: &'v Value,
        problems: &'p mut Vec<Problem>,
    ) -> Option<Self> {
        let Value::Object(members) = value else {
            let at = if at.is_empty() { "the manifest" } else { at };
            problems.push(Problem::new(format!("must be an object, not {value}")).at(at));
            return None;
        };
        Some(Self { at: at.to_owned(), prefix, members, asked: Vec::new(), problems })
    }

    /// Ends reading: whatever was not asked for is unknown, and nothing may stand there twice.
    pub fn finish(self) {
        for (index, (key, _)) in self.members.iter().enumerate() {
            let shown = escape::name(key);
            if self.members[..index].iter().any(|(earlier, _)| earlier == key) {
                self.problems.push(
                    Problem::new(format!("duplicate key `{}{shown}`", self.prefix))
                        .at(self.at.as_str())
                        .remedy("keep one of the two"),
                );
            } else if !self.asked.contains(&key.as_str()) {
                let nearest = self.asked.iter().map(|asked| (strsim::jaro_winkler(key, asked), asked));
                let remedy = match nearest.max_by(|one, other| one.0.total_cmp(&other.0)) {
                    Some((alike, asked)) if alike >= ALIKE => format!("did you mean `{asked}`?"),
                    _ => format!("the keys here are {}", self.asked.join(", ")),
                };
                let problem = Problem::new(format!("unknown key `{}{shown}`", self.prefix));
                self.problems.push(problem.at(self.at.as_str()).remedy(remedy));
            }
        }
    }

    /// The value of a key; none if missing or null.
    fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        self.asked.push(key);
        self.members
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
    }

    /// True if a key is there, and not null.
    pub fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(name, value)| name == key && *value != Value::Null)
    }

    /// A key for messages.
    pub fn key(&self, key: &str) -> String {
        format!("`{}{key}`", self.prefix)
    }

    /// Records an error of the object as a whole.
    pub fn wrong(&mut self, what: impl Into<String>, remedy: &str) {
        self.problems.push(Problem::new(what).at(self.at.as_str()).remedy(remedy));
    }

    fn wrong_key(&mut self, key: &str, why: &str) {
        self.wrong(format!("`{}{key}`: {why}", self.prefix), "");
    }

    /// A key whose value is read by `read`.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'v Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(value).map_err(|why| self.wrong_key(key, &why)).ok()
    }

    /// As [`Fields::read`], where the key has to be there.
    pub fn need<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'v Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.wrong(format!("`{}{key}` is missing", self.prefix), "");
        }
        self.read(key, read)
    }

    /// A key with a boolean.
    pub fn flag(&mut self, key: &'static str, otherwise: bool) -> bool {
        let flag = self.read(key, |value| match value {
            Value::Flag(flag) => Ok(*flag),
            other => Err(format!("must be true or false, not {other}")),
        });
        flag.unwrap_or(otherwise)
    }

    /// A key with the name of one of `all`, by default the first; none for another word.
    pub fn word<T: Copy, const N: usize>(
        &mut self,
        key: &'static str,
        all: [T; N],
        name: fn(T) -> &'static str,
    ) -> Option<T> {
        if !self.has(key) {
            self.asked.push(key);
            return all.first().copied();
        }
        self.read(key, |value| {
            let word = text(value)?;
            all.into_iter().find(|it| name(*it) == word).ok_or_else(|| {
                format!("there is no `{}`, only {}", escape::name(word), all.map(name).join(", "))
            })
        })
    }

    /// A key with a whole number from 1 on.
    pub fn count(&mut self, key: &'static str) -> Option<u32> {
        self.read(key, |value| {
            let Value::Number(number) = value else { return Err(format!("must be a number, not {value}")) };
            let count =
                number.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|count| *count > 0);
            count.ok_or_else(|| format!("{number} is no whole number from 1 to 4294967295"))
        })
    }

    /// A key with a number of bytes.
    pub fn bytes(&mut self, key: &'static str) -> Option<u64> {
        self.read(key, |value| {
            let text = text(value)?;
            bytes(text).ok_or_else(|| {
                let shown = escape::name(text);
                format!("`{shown}` is no size: write a number of bytes from 1 on, with k, m, g or t after it, such as 10G")
            })
        })
    }

    /// A key with a list of texts.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let values = self.list(key);
        let texts = values.iter().map(|value| text(value).map(str::to_owned)).collect::<Result<_, _>>();
        texts.map_err(|why| self.wrong_key(key, &why)).unwrap_or_default()
    }

    /// A key with a list.
    pub fn list(&mut self, key: &'static str) -> &'v [Value] {
        let list = self.read(key, |value| match value {
            Value::List(values) => Ok(values.as_slice()),
            other => Err(format!("must be a list, not {other}")),
        });
        list.unwrap_or_default()
    }

    /// Number of values in a key's list, of any type.
    pub fn length(&self, key: &str) -> usize {
        let list = self.members.iter().find(|(name, _)| name == key);
        if let Some((_, Value::List(values))) = list { values.len() } else { 0 }
    }

    /// The three keys of an owner.
    pub fn owner(&mut self, directory: bool) -> Owner {
        Owner {
            user: self.read("user", id),
            group: self.read("group", id),
            mode: self.read("mode", |value| mode::parse(text(value)?, directory)),
        }
    }

    /// A key with an object, read by `read`.
    pub fn object<T>(
        &mut self,
        key: &'static str,
        prefix: &'static str,
        read: impl FnOnce(&mut Fields<'v, '_>) -> T,
    ) -> Option<T> {
        let value = self.value(key)?;
        if !matches!(value, Value::Object(_)) {
            self.wrong_key(key, &format!("must be an object, not {value}"));
            return None;
        }
        let mut fields = Fields::nested(&self.at, prefix, value, self.problems)?;
        let it = read(&mut fields);
        fields.finish();
        Some(it)
    }

    /// A key with an object of names and ids.
    pub fn table(&mut self, key: &'static str) -> BTreeMap<String, u32> {
        let members = self.read(key, |value| match value {
            Value::Object(members) => Ok(members.as_slice()),
            other => Err(format!("must be an object, not {other}")),
        });
        let mut ids = BTreeMap::new();
        for (name, value) in members.unwrap_or_default() {
            let shown = escape::name(name);
            match number(value) {
                _ if ids.contains_key(name) => {
                    self.wrong(format!("`{}{key}`: duplicate `{shown}`", self.prefix), "keep one of the two");
                }
                Ok(number) => _ = ids.insert(name.clone(), number),
                Err(why) => self.wrong_key(key, &format!("`{shown}`: {why}")),
            }
        }
        ids
    }

    /// A key with a list of objects, each read by `read` and returned with its place for messages: the key, the
    /// number, the values of the keys `names`, and the value of `from`, if present.
    pub fn items<T>(
        &mut self,
        key: &'static str,
        names: &[&str],
        mut read: impl FnMut(&mut Fields<'v, '_>) -> Option<T>,
    ) -> Vec<(T, String)> {
        let mut items = Vec::new();
        for (index, value) in self.list(key).iter().enumerate() {
            let mut place = format!("{}{key}[{index}]", self.prefix);
            if let Some(name) = names.iter().find_map(|name| member(value, name)) {
                place = format!("{place} {}", escape::name(name));
            }
            if let Some(from) = member(value, "from") {
                place = format!("{place} (from {})", escape::name(from));
            }
            let Some(mut fields) = Fields::open(&place, value, self.problems) else { continue };
            let item = read(&mut fields);
            fields.read("from", text);
            fields.finish();
            items.extend(item.map(|item| (item, place)));
        }
        items
    }
}

/// The text of a key of an object.
fn member<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    let Value::Object(members) = value else { return None };
    let value = members.iter().find(|(name, _)| name == key).map(|(_, value)| value)?;
    text(value).ok().filter(|text| !text.is_empty())
}

/// Suffixes of sizes, each 1024 times the one before.
pub const SUFFIXES: [char; 4] = ['k', 'm', 'g', 't'];

/// A number of bytes above 0, with a suffix of [`SUFFIXES`] or without.
fn bytes(text: &str) -> Option<u64> {
    let suffix = text.chars().last()?.to_ascii_lowercase();
    let power = SUFFIXES.iter().position(|it| *it == suffix).map_or(0, |position| position + 1);
    let digits = if power > 0 { &text[..text.len() - 1] } else { text };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|number| is_number && *number > 0)?;
    number.checked_mul(1 << (10 * power))
}

/// A text, and nothing else.
pub fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Number(number) => Err(format!("must be text, not the number {number}; put it in quotes")),
        other => Err(format!("must be text, not {other}")),
    }
}

/// An absolute path.
pub fn path(value: &Value) -> Result<AbsPath, String> {
    AbsPath::parse(text(value)?)
}

/// A user or group: a number, in digits or in quotes, or a name.
fn id(value: &Value) -> Result<Id, String> {
    match value {
        Value::Text(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits
                .parse()
                .map(Id::Number)
                .map_err(|_| format!("{digits} is above 4294967294, the highest id"))
        }
        Value::Text(name) => Ok(Id::Name(name.clone())),
        Value::Number(_) => number(value).map(Id::Number),
        other => Err(format!("must be a name or a number, not {other}")),
    }
}

fn number(value: &Value) -> Result<u32, String> {
    let Value::Number(number) = value else { return Err(format!("must be a number, not {value}")) };
    number
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("{number} is no id: they are whole numbers from 0 to 4294967294"))
}
