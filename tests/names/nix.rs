//! A strict parser for the part of Nix in configuration lines: attribute sets, lists and strings, with
//! `builtins.fromJSON` as the only interpolation. Strings follow the rules of Nix's own lexer.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value};

/// Meaning of bindings such as `a."b" = [ ]; # remark`; any other text is a failure.
#[track_caller]
pub fn bindings(text: &str) -> Value {
    let mut reader = Reader { rest: text.chars().peekable(), text };
    let found = reader.bindings(None);
    Value::Object(found)
}

/// Value of one string.
#[track_caller]
pub fn string(text: &str) -> String {
    let mut reader = Reader { rest: text.chars().peekable(), text };
    let found = reader.string();
    assert_eq!(reader.rest.next(), None, "more follows: {text:?}");
    found
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    text: &'t str,
}

impl Reader<'_> {
    /// The next character outside of blanks and comments; a newline or a carriage return ends a comment.
    fn peek(&mut self) -> Option<char> {
        loop {
            match self.rest.peek()? {
                ' ' | '\t' | '\r' | '\n' => _ = self.rest.next(),
                '#' => while self.rest.next_if(|c| !matches!(c, '\n' | '\r')).is_some() {},
                c => return Some(*c),
            }
        }
    }

    #[track_caller]
    fn must(&mut self, wanted: char) {
        let found = self.peek();
        assert_eq!(
            found,
            Some(wanted),
            "before {:?} in {:?}",
            self.rest.clone().collect::<String>(),
            self.text
        );
        self.rest.next();
    }

    fn bindings(&mut self, end: Option<char>) -> Map<String, Value> {
        let mut found = Map::new();
        while self.peek() != end {
            let mut path = vec![self.name()];
            while self.peek() == Some('.') {
                self.must('.');
                path.push(self.name());
            }
            self.must('=');
            let value = self.value();
            self.must(';');
            let last = path.pop().unwrap();
            let mut place = &mut found;
            for name in path {
                let inner = place.entry(name).or_insert_with(|| Value::Object(Map::new()));
                place = inner.as_object_mut().expect("a set");
            }
            assert!(place.insert(last.clone(), value).is_none(), "twice: {last}");
        }
        found
    }

    fn name(&mut self) -> String {
        if self.peek() == Some('"') {
            return self.string();
        }
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            name.push(c);
        }
        assert!(!name.is_empty(), "no name before {:?}", self.rest.clone().collect::<String>());
        name
    }

    fn value(&mut self) -> Value {
        match self.peek() {
            Some('[') => {
                self.must('[');
                let mut list = Vec::new();
                while self.peek() != Some(']') {
                    list.push(self.value());
                }
                self.must(']');
                Value::Array(list)
            }
            Some('{') => {
                self.must('{');
                let found = self.bindings(Some('}'));
                self.must('}');
                Value::Object(found)
            }
            _ => Value::String(self.string()),
        }
    }

    fn string(&mut self) -> String {
        self.must('"');
        let mut found = String::new();
        loop {
            match self.next() {
                '"' => return found,
                '\\' => found.push(match self.next() {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    c => c,
                }),
                '$' => match self.rest.peek() {
                    Some('{') => found += &self.interpolation(),
                    // A `$` consumes the next character, which then begins no interpolation.
                    Some('"' | '\\') | None => found.push('$'),
                    Some(_) => found.extend(['$', self.next()]),
                },
                c => {
                    assert!(!super::is_hidden(c), "{:?} in {:?}", c, self.text);
                    found.push(c);
                }
            }
        }
    }

    #[track_caller]
    fn next(&mut self) -> char {
        self.rest.next().unwrap_or_else(|| panic!("no end of a string in {:?}", self.text))
    }

    fn interpolation(&mut self) -> String {
        for wanted in "{builtins.fromJSON ".chars() {
            assert_eq!(self.next(), wanted, "an interpolation in {:?}", self.text);
        }
        let json = self.string();
        self.must('}');
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json:?}"))
    }
}
