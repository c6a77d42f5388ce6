//! JSON as written: objects keep the order of their keys, and duplicate keys.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, json};

use crate::text::escape;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

impl fmt::Display for Value {
    /// The value for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => write!(f, "the number {number}"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Flag(flag))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Number(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(Value::Object(members))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}

/// An object whose members are taken out by their names: the code that serde makes for a type is many times larger.
#[derive(Debug, Clone, PartialEq)]
pub struct Object(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).and_then(|value| Self::take(value).map_err(D::Error::custom))
    }
}

impl Object {
    /// Takes a member out.
    ///
    /// # Errors
    /// The member is missing, stands there twice or has another type.
    #[inline(never)]
    pub fn member<T: Take>(&mut self, key: &str) -> Result<T, String> {
        let value = self.remove(key)?.ok_or_else(|| format!("missing field `{key}`"))?;
        T::take(value).map_err(|why| in_field(key, &why))
    }

    /// Takes an optional member.
    ///
    /// # Errors
    /// The member stands there twice or has another type.
    #[inline(never)]
    pub fn member_or_default<T: Take + Default>(&mut self, key: &str) -> Result<T, String> {
        let taken = self.remove(key)?.map_or_else(|| Ok(T::default()), T::take);
        taken.map_err(|why| in_field(key, &why))
    }

    /// Takes a member with one of a few words.
    ///
    /// # Errors
    /// The member is missing, stands there twice or is none of the words.
    pub fn word<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, String> {
        let text = self.member::<String>(key)?;
        let word = T::deserialize(StrDeserializer::<serde_json::Error>::new(&text));
        word.map_err(|why| in_field(key, &why.to_string()))
    }

    fn remove(&mut self, key: &str) -> Result<Option<Value>, String> {
        let at = |members: &[(String, Value)]| members.iter().position(|(name, _)| name == key);
        let value = at(&self.0).map(|index| self.0.swap_remove(index).1);
        if at(&self.0).is_some() { Err(format!("duplicate field `{key}`")) } else { Ok(value) }
    }
}

fn in_field(key: &str, why: &str) -> String {
    format!("field `{key}`: {why}")
}

/// Types of members of an [`Object`].
pub trait Take: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// Why the value is no such thing.
    fn take(value: Value) -> Result<Self, String>;
}

impl Take for Value {
    fn take(value: Value) -> Result<Self, String> {
        Ok(value)
    }
}

impl Take for Object {
    fn take(value: Value) -> Result<Self, String> {
        if let Value::Object(members) = value { Ok(Self(members)) } else { Err("it is no object".to_owned()) }
    }
}

impl Take for String {
    fn take(value: Value) -> Result<Self, String> {
        if let Value::Text(text) = value { Ok(text) } else { Err("it is no text".to_owned()) }
    }
}

impl Take for Number {
    fn take(value: Value) -> Result<Self, String> {
        if let Value::Number(number) = value { Ok(number) } else { Err("it is no number".to_owned()) }
    }
}

impl Take for u64 {
    fn take(value: Value) -> Result<Self, String> {
        Number::take(value)?.as_u64().ok_or_else(|| "it is no whole number".to_owned())
    }
}

impl Take for usize {
    fn take(value: Value) -> Result<Self, String> {
        Self::try_from(u64::take(value)?).map_err(|error| error.to_string())
    }
}

impl Take for u32 {
    fn take(value: Value) -> Result<Self, String> {
        Self::try_from(u64::take(value)?).map_err(|error| error.to_string())
    }
}

impl<T: Take> Take for Vec<T> {
    fn take(value: Value) -> Result<Self, String> {
        let Value::List(values) = value else { return Err("it is no list".to_owned()) };
        let mut taken = Self::with_capacity(values.len());
        for value in values {
            taken.push(T::take(value)?);
        }
        Ok(taken)
    }
}

impl<T: Take> Take for Option<T> {
    fn take(value: Value) -> Result<Self, String> {
        if let Value::Null = value { Ok(None) } else { T::take(value).map(Some) }
    }
}

/// Depth to which lists and objects span several lines; deeper values take one line each.
const DEEP: usize = 2;

impl Value {
    /// The value as JSON, for people: every entry on a line of its own.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        self.write(&mut json, 0);
        json.push('\n');
        json
    }

    fn write(&self, json: &mut String, depth: usize) {
        match self {
            Self::Null => json.push_str("null"),
            Self::Flag(flag) => json.push_str(&flag.to_string()),
            Self::Number(number) => json.push_str(&number.to_string()),
            Self::Text(text) => json.push_str(&escape::json_text(&json!(text).to_string())),
            Self::List(values) => {
                wrap(json, depth, ['[', ']'], values, |json, value| value.write(json, depth + 1));
            }
            Self::Object(members) => wrap(json, depth, ['{', '}'], members, |json, (key, value)| {
                json.push_str(&escape::json_text(&json!(key).to_string()));
                json.push_str(": ");
                value.write(json, depth + 1);
            }),
        }
    }
}

fn wrap<T>(
    json: &mut String,
    depth: usize,
    ends: [char; 2],
    items: &[T],
    mut write: impl FnMut(&mut String, &T),
) {
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    let (before, between, after) = match ends[0] {
        _ if items.is_empty() => Default::default(),
        _ if depth < DEEP => (line(depth + 1), line(depth + 1), line(depth)),
        '{' => (" ".to_owned(), " ".to_owned(), " ".to_owned()),
        _ => (String::new(), " ".to_owned(), String::new()),
    };
    json.push(ends[0]);
    json.push_str(&before);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            json.push(',');
            json.push_str(&between);
        }
        write(json, item);
    }
    json.push_str(&after);
    json.push(ends[1]);
}
