//! `uid-map` and `gid-map` of NixOS's update-users-groups.pl: one JSON object, name to id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Table;
use crate::problem::{Problem, Result};

/// Names and ids of a map. A value that is no id at all (`null`, a negative number) leaves its name out.
///
/// A file that is cut short, or holds a name twice, was not written by that script and is refused as a whole.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    serde_json::from_slice(bytes).map(|Map(table)| table).map_err(|error| {
        Problem::new(format!("is no map of names to ids ({error}), so no id is taken from it"))
            .remedy("restore it from a backup, or move it away; it is written anew at the next activation")
    })
}

struct Map(Table);

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Map;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, Id(id))) = access.next_entry::<String, _>()? {
                    match values.entry(name) {
                        Entry::Vacant(vacant) => drop(vacant.insert(id)),
                        Entry::Occupied(twice) => {
                            return Err(A::Error::custom(format_args!(
                                "{:?} stands there twice",
                                twice.key()
                            )));
                        }
                    }
                }
                Ok(Map(values.into_iter().filter_map(|(name, id)| Some((name, id?))).collect()))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A number, or a string of one: until Perl 5.36 a number that had been a hash key was written as a string, and such a
/// value stays in the map for good.
struct Id(Option<u32>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                Ok(Id(u32::try_from(number).ok()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id(super::decimal(text)))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Id, E> {
                Ok(Id(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Id, E> {
                Ok(Id(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Id, E> {
                Ok(Id(None))
            }
            fn visit_unit<E>(self) -> Result<Id, E> {
                Ok(Id(None))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_and_strings_of_numbers() {
        let table = parse(br#"{"avahi":10,"plex":"193","nobody":65534}"#).unwrap();
        let expected =
            [("avahi", 10), ("plex", 193), ("nobody", 65534)].map(|(name, id)| (name.to_owned(), id));
        assert_eq!(table, Table::from(expected));
        assert!(parse(b"{}\n").unwrap().is_empty());
    }

    #[test]
    fn nonsense_leaves_its_name_out() {
        for value in [
            "null",
            "true",
            "-1",
            "1.5",
            "1e3",
            "4294967296",
            "18446744073709551616",
            r#""x""#,
            r#""+5""#,
            r#""""#,
        ] {
            let table = parse(format!(r#"{{"a":{value},"b":7}}"#).as_bytes()).unwrap();
            assert_eq!(table, Table::from([("b".to_owned(), 7)]), "{value}");
        }
    }

    #[test]
    fn what_the_script_never_writes_is_refused() {
        for text in [
            "",
            "{",
            r#"{"plex":19"#,
            "[]",
            "null",
            "{}{}",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":null,"a":1}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            "{\"a\0\":1}",
            "{\"a\":1}\0\0",
            "\0\0\0\0",
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.what.contains("no map of names"), "{problem}");
        }
        assert!(parse(b"{\"\xff\":1}").is_err());
        let deep = "[".repeat(1 << 20);
        assert!(parse(deep.as_bytes()).is_err(), "deep nesting ends, and not in a stack overflow");
        assert!(parse(format!(r#"{{"a":{deep}"#).as_bytes()).is_err());
    }
}
