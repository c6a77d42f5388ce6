//! The paths of a map as a tree, as many as a number of bytes holds, the largest first.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::item::{Class, Item};
use crate::ctl::scan::{Subject, Totals};
use crate::text::escape;

/// Bytes for the number of a node in the list of all.
const PLACE: usize = 12;
/// Maximum of directories with a sum of their omitted items; other omitted items are summed at the top.
const RESTS: usize = 1000;

/// A directory or file.
#[derive(Debug)]
struct Node {
    above: usize,
    /// Its name as JSON.
    name: String,
    /// Description, as members of a list in JSON; empty for a directory without a finding of its own.
    text: String,
    class: Option<Class>,
    below: BTreeMap<Vec<u8>, usize>,
}

/// All nodes, each after its parent.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    words: Words,
    left: usize,
}

/// Words shared by many nodes, each once.
#[derive(Debug, Default)]
struct Words {
    list: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Words {
    fn number(&mut self, word: &str) -> usize {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        self.list.push(word.to_owned());
        self.numbers.insert(word.to_owned(), self.list.len() - 1);
        self.list.len() - 1
    }
}

impl Tree {
    /// The tree of items within a limit of bytes. Items beyond the limit are summed up.
    ///
    /// # Errors JSON cannot be written.
    pub fn new(items: &[Item], bytes: usize) -> serde_json::Result<Self> {
        let root = Node {
            above: 0,
            name: "\"\"".to_owned(),
            text: String::new(),
            class: None,
            below: BTreeMap::new(),
        };
        let mut tree = Self { nodes: vec![root], words: Words::default(), left: bytes };
        tree.words.number("");
        let mut order: Vec<_> = items.iter().collect();
        order.sort_by(|a, b| {
            let size = b.row.totals.allocated.cmp(&a.row.totals.allocated);
            size.then(a.part.cmp(&b.part)).then_with(|| a.row.path.cmp(&b.row.path))
        });
        let mut rest: BTreeMap<(usize, Class), (u64, Totals)> = BTreeMap::new();
        for item in order {
            if !tree.insert(item)? && !item.part {
                let place = if rest.len() < RESTS { tree.nearest(item) } else { 0 };
                let (count, totals) = rest.entry((place, item.class)).or_default();
                *count += 1;
                totals.add(&item.row.totals);
            }
        }
        for ((above, class), (count, totals)) in rest {
            let name = escape::html_json(&format!("{count} smaller"))?;
            let text = tree.text(&totals, class, 5, false, &["", "", ""], None)?;
            tree.nodes.push(Node { above, name, text, class: Some(class), below: BTreeMap::new() });
        }
        Ok(tree)
    }

    /// Adds an item, with the directories above. False beyond the limit.
    fn insert(&mut self, item: &Item) -> serde_json::Result<bool> {
        let subject = match item.row.subject {
            Subject::Directory => 0,
            Subject::File => 1,
            Subject::Link => 2,
            Subject::Special => 3,
            Subject::Files => 4,
        };
        let words = [&*item.owner, &item.unit, &item.remark];
        let line = item.line.as_ref().map(|line| (line.frame, line.item.as_str()));
        let words_before = self.words.list.len();
        let text = self.text(&item.row.totals, item.class, subject, item.part, &words, line)?;
        let more: usize = self.words.list[words_before..].iter().map(|word| 2 * word.len() + 4).sum();
        let (mut at, names) = self.way(item);
        let mut missing = Vec::new();
        for name in &names {
            match self.nodes[at].below.get(*name) {
                Some(next) if missing.is_empty() => at = *next,
                _ => missing.push(*name),
            }
        }
        let mut shown = Vec::new();
        for name in &missing {
            let files = item.row.subject == Subject::Files && name.starts_with(b"/");
            shown.push(escape::html_json(&escape::name(if files { &b"*"[..] } else { name }))?);
        }
        let cost = text.len() + more + shown.iter().map(|name| name.len() + PLACE).sum::<usize>();
        if cost > self.left {
            // Nothing smaller is shown either.
            self.left = 0;
            return Ok(false);
        }
        // An existing node with another description of the same path.
        if missing.is_empty() && !self.nodes[at].text.is_empty() {
            return Ok(false);
        }
        self.left -= cost;
        for (name, shown) in missing.into_iter().zip(shown) {
            let new = self.nodes.len();
            self.nodes[at].below.insert(name.to_vec(), new);
            self.nodes.push(Node {
                above: at,
                name: shown,
                text: String::new(),
                class: None,
                below: BTreeMap::new(),
            });
            at = new;
        }
        self.nodes[at].text = text;
        self.nodes[at].class = Some(item.class);
        Ok(true)
    }

    /// Start of the path to an item, and the names of the path. An item in a line for several files is below this
    /// line.
    fn way<'i>(&self, item: &'i Item) -> (usize, Vec<&'i [u8]>) {
        let mut names: Vec<&[u8]> =
            item.row.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        // No name has a slash.
        let files: &[u8] = match item.class {
            Class::Persists => b"/p",
            Class::Lost => b"/l",
            Class::Disposable => b"/d",
            Class::Orphaned => b"/o",
        };
        if item.row.subject == Subject::Files {
            names.push(files);
        } else if item.part {
            let (mut at, mut found, mut is_held) = (0, None, false);
            for depth in 0..names.len() {
                is_held |= self.nodes[at].class == Some(item.class);
                if let Some(line) = self.nodes[at].below.get(files) {
                    found = Some((*line, depth));
                }
                match self.nodes[at].below.get(names[depth]) {
                    Some(next) if depth + 1 < names.len() => at = *next,
                    _ => break,
                }
            }
            if let Some((line, depth)) = found.filter(|_| !is_held) {
                return (line, names.split_off(depth));
            }
        }
        (0, names)
    }

    /// The nearest existing directory above an item.
    fn nearest(&self, item: &Item) -> usize {
        let (mut at, names) = self.way(item);
        for name in names {
            match self.nodes[at].below.get(name) {
                Some(next) => at = *next,
                None => break,
            }
        }
        at
    }

    fn text(
        &mut self,
        totals: &Totals,
        class: Class,
        subject: u8,
        part: bool,
        words: &[&str; 3],
        line: Option<(usize, &str)>,
    ) -> serde_json::Result<String> {
        let words = words.map(|word| self.words.number(word));
        let newest = totals.newest.map_or(0, |(seconds, _)| seconds);
        let mut list = json!([
            class as u8,
            subject + if part { 10 } else { 0 },
            totals.allocated,
            totals.files,
            newest,
            words[0],
            words[1],
            words[2]
        ]);
        if let (Some((frame, item)), Value::Array(list)) = (line, &mut list) {
            list.extend([json!(frame), json!(item)]);
        }
        let text = escape::html_json(&list)?;
        Ok(format!(",{}", &text[1..text.len() - 1]))
    }

    /// Every node as JSON, and the words, which nodes refer to by number.
    ///
    /// # Errors JSON cannot be written.
    pub fn json(&self) -> serde_json::Result<(String, String)> {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            text += if index == 0 { "[" } else { ",\n" };
            // Writing to a String cannot fail.
            let _ = write!(text, "[{},{}{}]", node.above, node.name, node.text);
        }
        text.push(']');
        Ok((text, escape::html_json(&self.words.list)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::MAP;
    use super::super::item::Line;
    use super::*;
    use crate::ctl::scan::{ON_MAP, Owner, Parts, Row};

    fn row(path: String, subject: Subject, bytes: u64) -> Row {
        let totals = Totals { files: 1, allocated: bytes, apparent: bytes, newest: Some((1, 0)) };
        Row::new(path.into_bytes(), subject, totals, Owner { uid: 0, gid: 0, mode: 0o755 })
    }

    fn item(row: Row, part: bool) -> Item {
        let line = Line { frame: 0, item: String::from_utf8_lossy(&row.path).into_owned() };
        let (owner, unit, remark) = (String::new(), String::new(), String::new());
        Item { row, class: Class::Lost, part, owner, unit, remark, line: Some(line) }
    }

    /// The sizes of a tree without double counts, and the number of nodes.
    fn sum(tree: &Tree) -> (u64, usize) {
        let (nodes, _) = tree.json().unwrap();
        let nodes: Value = serde_json::from_str(&nodes).unwrap();
        let nodes = nodes.as_array().unwrap();
        let is_line = |node: &&Value| node[3].as_u64().is_some_and(|kind| kind < 10);
        (nodes.iter().filter(is_line).map(|node| node[4].as_u64().unwrap()).sum(), nodes.len())
    }

    #[test]
    fn a_million_files_are_few_bytes() {
        let mut parts = Parts::new(ON_MAP);
        // Each larger than the one before, so that every item replaces another.
        for number in 0..1_000_000 {
            let path = format!("/srv/{0:03}/{1:0150}/{number:07}", number / 10_000, number / 100);
            parts.add([row(path, Subject::File, number)]);
        }
        let parts = parts.into_rows();
        assert_eq!(parts.len(), ON_MAP);
        assert!(parts.iter().all(|row| row.totals.allocated >= 1_000_000 - ON_MAP as u64));
        let lines = (0..100_000).map(|number| row(format!("/srv/{number:0200}"), Subject::Directory, 10));
        let items: Vec<_> =
            lines.map(|row| item(row, false)).chain(parts.into_iter().map(|row| item(row, true))).collect();
        let tree = Tree::new(&items, MAP).unwrap();
        let (nodes, words) = tree.json().unwrap();
        assert!(nodes.len() + words.len() < MAP + 100_000, "{}", nodes.len());
        // Items beyond the limit are summed up.
        assert_eq!(sum(&tree).0, 1_000_000);
    }

    #[test]
    fn paths_in_any_order() {
        let of = |items: &[(&str, Subject, u64, bool)]| {
            let all = items
                .iter()
                .map(|(path, subject, bytes, part)| item(row((*path).to_owned(), *subject, *bytes), *part));
            Tree::new(&all.collect::<Vec<_>>(), MAP).unwrap()
        };
        // A line in another line, which is larger; several files beside one with a star for a name; a part of these.
        let tree = of(&[
            ("/a", Subject::Directory, 10, false),
            ("/a/b/c", Subject::Directory, 20, false),
            ("/a/b", Subject::Directory, 5, true),
            ("/d", Subject::Files, 7, false),
            ("/d/*", Subject::File, 3, false),
            ("/d/e", Subject::File, 6, true),
        ]);
        assert_eq!(sum(&tree), (40, 8));
        let (nodes, _) = tree.json().unwrap();
        let nodes: Vec<Vec<Value>> = serde_json::from_str(&nodes).unwrap();
        let place = |name: &str, kind: u64| {
            let is_it = |node: &&Vec<Value>| node[1] == name && node.get(3) == Some(&json!(kind));
            usize::try_from(nodes.iter().find(is_it).unwrap()[0].as_u64().unwrap()).unwrap()
        };
        assert_eq!(nodes[place("c", 0)][1], "b");
        assert_eq!(nodes[place("b", 10)][1], "a");
        assert_eq!(nodes[place("e", 11)][1..4], [json!("*"), json!(1), json!(4)]);
        assert_eq!(place("*", 1), place("*", 4));
    }
}
