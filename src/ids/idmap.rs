//! `uid-map` and `gid-map` of NixOS's update-users-groups.pl: one JSON object, name to id.

use super::Table;
use crate::text::json::{Object, Value};
use crate::text::problem::{Problem, Result};

/// Names and ids of a map. An invalid id (`null`, a negative number) leaves its name out.
///
/// A truncated file, or one with a duplicate name, was not written by the script and is refused as a whole.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    let read = serde_json::from_slice::<Object>(bytes).map_err(|error| error.to_string());
    read.and_then(table).map_err(|error| {
        Problem::new(format!("is no map of names to ids ({error}), so it is ignored"))
            .remedy("restore it from a backup, or move it away; it is written anew at the next activation")
    })
}

fn table(Object(mut members): Object) -> Result<Table, String> {
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(twice) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("{:?} stands there twice", twice[0].0));
    }
    let mut table = Table::new();
    for (name, value) in members {
        let id = match value {
            Value::Number(number) => number.as_u64().and_then(|id| u32::try_from(id).ok()),
            // Until Perl 5.36 a number used as a hash key was written as a string, and such a value stays for good.
            Value::Text(text) => super::decimal(&text),
            Value::Null | Value::Flag(_) => None,
            Value::List(_) | Value::Object(_) => return Err(format!("{name:?} has no id")),
        };
        if let Some(id) = id {
            table.insert(name, id);
        }
    }
    Ok(table)
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
    fn other_text_than_the_scripts_is_refused() {
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
