//! Answers in this session, and files of answers: one a line, `ANSWER PATH  # REASON`.

use std::collections::BTreeMap;

use super::record::{Answer, Choice, Decision, Origin, Record, one_line};
use super::tree::Tree;
use crate::ctl::scan::Subject;
use crate::manifest::{AbsPath, Kind};
use crate::text::escape;
use crate::text::problem::Problem;

/// The word to cancel an answer.
const UNDO: &str = "undo";

/// An answer of this session, and its reason, possibly empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The answer.
    pub answer: Answer,
    /// The reason, on one line.
    pub why: String,
}

/// The answers of this session, by the nodes of the tree.
#[derive(Debug, Default)]
pub struct Book {
    given: BTreeMap<usize, Given>,
    /// Answers before each step, for undo.
    before: Vec<Vec<(usize, Option<Given>)>>,
    /// True on the running system, where paths can be adopted.
    can_adopt: bool,
    /// The decisions of before.
    pub record: Record,
}

impl Book {
    /// One without answers.
    #[must_use]
    pub fn new(can_adopt: bool, record: Record) -> Self {
        Self { can_adopt, record, ..Self::default() }
    }

    /// The answer to a node.
    #[must_use]
    pub fn of(&self, node: usize) -> Option<&Given> {
        self.given.get(&node)
    }

    /// All answers.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Given)> {
        self.given.iter().map(|(node, given)| (*node, given))
    }

    /// Number of answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.given.len()
    }

    /// The earlier decision on a node.
    #[must_use]
    pub fn decided(&self, tree: &Tree, node: usize) -> Option<&Decision> {
        let finding = tree.nodes[node].finding.as_ref()?;
        let made = Decision::new(finding, Answer::LookInto, "", Origin::default()).ok()?;
        self.record.of(&made.target, made.kind == Kind::Glob)
    }

    /// Why an answer cannot be given, whatever its reason is.
    pub fn obstacle(&self, tree: &Tree, node: usize, answer: Answer) -> Option<String> {
        let Some(finding) = &tree.nodes[node].finding else {
            return Some("open it: answers are for what is in it".to_owned());
        };
        let made = match Decision::new(finding, answer, "", Origin::default()) {
            Ok(made) => made,
            Err(why) => return Some(why),
        };
        if self.record.by_hand.contains(&(made.target.clone(), made.kind == Kind::Glob)) {
            return Some("a line written by hand in the file keeps it".to_owned());
        }
        if answer == Answer::KeepNow && !self.can_adopt {
            return Some("only the running system can keep something now".to_owned());
        }
        if answer == Answer::KeepNow && finding.row.subject == Subject::Files {
            return Some("several files cannot be adopted by a pattern: keep them".to_owned());
        }
        let choice = answer.choice();
        let stands = |above: Choice| above == Choice::Keep || above == choice;
        let what = |above: Choice| if above == Choice::Keep { "kept" } else { "thrown away" };
        for above in tree.above(node) {
            if let Some(given) = self.of(above).map(|given| given.answer.choice())
                && stands(given)
                && given != Choice::LookInto
            {
                return Some(format!("{} is {}, and this with it", tree.nodes[above].shown(), what(given)));
            }
        }
        for above in [Choice::Keep, Choice::ThrowAway].into_iter().filter(|above| stands(*above)) {
            let before = self.record.above(&made.target, above);
            let is_answered = |path: &AbsPath| {
                tree.find(path.as_str().as_bytes()).is_some_and(|node| self.of(node).is_some())
            };
            if let Some(before) = before.filter(|it| !is_answered(&it.target)) {
                return Some(format!("{} is {} already, and this with it", before.target, what(above)));
            }
        }
        None
    }

    /// Adds an answer. Redundant answers are cancelled: those for paths inside a kept or thrown away directory.
    pub fn give(&mut self, tree: &Tree, node: usize, answer: Answer, why: &str) -> Result<(), String> {
        if let Some(why) = self.obstacle(tree, node, answer) {
            return Err(why);
        }
        let why = one_line(why);
        if answer == Answer::ThrowAway && why.is_empty() {
            return Err("what is thrown away needs a reason".to_owned());
        }
        let choice = answer.choice();
        let is_needless = |(below, given): &(&usize, &Given)| {
            (choice == Choice::Keep || (choice, given.answer) == (Choice::ThrowAway, Answer::ThrowAway))
                && tree.above(**below).any(|above| above == node)
        };
        let needless: Vec<_> = self.given.iter().filter(is_needless).map(|(below, _)| *below).collect();
        let mut step: Vec<_> = needless.into_iter().map(|below| (below, self.given.remove(&below))).collect();
        step.push((node, self.given.insert(node, Given { answer, why })));
        self.before.push(step);
        Ok(())
    }

    /// Takes the answer to one node back.
    pub fn take_back(&mut self, node: usize) -> bool {
        let given = self.given.remove(&node);
        let is_given = given.is_some();
        if is_given {
            self.before.push(vec![(node, given)]);
        }
        is_given
    }

    /// Takes the last step back.
    pub fn undo(&mut self) -> bool {
        let Some(step) = self.before.pop() else { return false };
        for (node, given) in step {
            match given {
                Some(given) => self.given.insert(node, given),
                None => self.given.remove(&node),
            };
        }
        true
    }

    /// The answers as a file has them.
    #[must_use]
    pub fn to_text(&self, tree: &Tree) -> String {
        let mut text = String::new();
        for (node, given) in &self.given {
            // An answer is given only where the path is text.
            let Ok(path) = String::from_utf8(tree.nodes[*node].name()) else { continue };
            let is_plain =
                !path.chars().any(escape::is_hidden) && !path.contains("  #") && path.trim_end() == path;
            let path = if is_plain { path } else { escape::json_text(&serde_json::json!(path).to_string()) };
            let why = if given.why.is_empty() { String::new() } else { format!("  # {}", given.why) };
            text.extend([given.answer.word(), " ", &path, &why, "\n"]);
        }
        text
    }
}

/// A line of a file of answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: usize,
    /// The answer; none takes one back.
    pub answer: Option<Answer>,
    /// The path, in the form of [`super::tree::Node::name`].
    pub path: String,
    /// The reason; may be empty.
    pub why: String,
}

/// Reads a file of answers.
///
/// # Errors Every invalid line.
pub fn read(text: &str) -> Result<Vec<Line>, Vec<Problem>> {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (index, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match line(index + 1, text) {
            Ok(line) => lines.push(line),
            Err(what) => problems.push(
                Problem::new(what)
                    .at(format!("line {}", index + 1))
                    .remedy("write `keep`, `keep-now`, `throw-away`, `look-into` or `undo`, a path, and `  # ` with the reason"),
            ),
        }
    }
    if problems.is_empty() { Ok(lines) } else { Err(problems) }
}

fn line(number: usize, text: &str) -> Result<Line, String> {
    let (word, rest) = text.split_once(char::is_whitespace).ok_or("there is no path")?;
    let answer = match Answer::ALL.iter().find(|(_, other, _)| *other == word) {
        Some((answer, ..)) => Some(*answer),
        None if word == UNDO => None,
        None => return Err(format!("`{}` is no answer", escape::name(word))),
    };
    let rest = rest.trim_start();
    let (path, why) = if rest.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let path = values.next().and_then(Result::ok).ok_or("the path is no JSON string")?;
        (path, rest[values.byte_offset()..].trim())
    } else {
        let at = rest.find("  #").unwrap_or(rest.len());
        (rest[..at].trim_end().to_owned(), rest[at..].trim())
    };
    let why = match why.strip_prefix('#') {
        Some(why) => one_line(why),
        None if why.is_empty() => String::new(),
        None => return Err("after the path stands no reason: it begins with `#`".to_owned()),
    };
    if !path.starts_with('/') {
        return Err(format!("`{}` is no absolute path", escape::name(&path)));
    }
    let path = if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path };
    Ok(Line { number, answer, path, why })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tree::Order;
    use super::super::tree::tests::finding;
    use super::*;

    #[test]
    fn lines_of_answers() {
        let text = "# a remark\n\nkeep /a b/  # films:  all\nthrow-away \"/x  # y\\n\"  # z\nundo /a b\nkeep-now /k\n";
        let lines = read(text).unwrap();
        let line = |number, answer, path: &str, why: &str| Line {
            number,
            answer,
            path: path.into(),
            why: why.into(),
        };
        assert_eq!(
            lines,
            [
                line(3, Some(Answer::Keep), "/a b", "films: all"),
                line(4, Some(Answer::ThrowAway), "/x  # y\n", "z"),
                line(5, None, "/a b", ""),
                line(6, Some(Answer::KeepNow), "/k", ""),
            ]
        );
        let problems = read("keep\nburn /x\nkeep x\nkeep \"/x\nkeep \"/x\" why\nkeep /y\n").unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(places, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
    }

    #[test]
    #[expect(clippy::many_single_char_names, reason = "they are called as the paths")]
    fn answers_are_given_and_taken_back() {
        let mut tree = Tree::new(
            vec![finding("/a/d/", 9, 1), finding("/a/x  # y\n", 1, 1), finding("/b", 1, 1)],
            Order::Size,
        );
        let d = tree.find(b"/a/d").unwrap();
        tree.load(d, vec![finding("/a/d/e/", 1, 1), finding("/a/d/f", 1, 1)]);
        let [a, e, f, x, b] = [&b"/a"[..], b"/a/d/e", b"/a/d/f", b"/a/x  # y\n", b"/b"]
            .map(|path| tree.nodes.iter().position(|node| node.path == path).unwrap());
        let mut book = Book::default();
        assert!(book.give(&tree, a, Answer::Keep, "").unwrap_err().contains("open it"));
        assert!(book.give(&tree, b, Answer::KeepNow, "").unwrap_err().contains("running system"));
        assert!(book.give(&tree, b, Answer::ThrowAway, " ").unwrap_err().contains("needs a reason"));
        assert!(book.give(&tree, x, Answer::ThrowAway, "w").unwrap_err().contains("line end"));
        book.give(&tree, x, Answer::LookInto, "new\nline").unwrap();
        book.give(&tree, e, Answer::ThrowAway, "made anew").unwrap();
        book.give(&tree, f, Answer::Keep, "").unwrap();
        // The directory's own answer replaces those for the paths inside.
        book.give(&tree, d, Answer::ThrowAway, "all of it").unwrap();
        assert!(book.of(e).is_none() && book.of(f).is_some());
        assert!(book.give(&tree, e, Answer::ThrowAway, "x").unwrap_err().contains("/a/d/ is thrown away"));
        let text = book.to_text(&tree);
        assert_eq!(
            text,
            "throw-away /a/d  # all of it\nlook-into \"/a/x  # y\\n\"  # new line\nkeep /a/d/f\n"
        );
        assert_eq!(read(&text).unwrap().len(), 3);
        book.give(&tree, d, Answer::Keep, "").unwrap();
        assert!(book.of(f).is_none());
        assert!(book.give(&tree, e, Answer::ThrowAway, "x").unwrap_err().contains("/a/d/ is kept"));
        assert!(book.undo() && book.of(d).unwrap().answer == Answer::ThrowAway && book.of(f).is_some());
        assert!(book.take_back(f) && !book.take_back(f) && book.of(f).is_none());
        assert!(book.undo() && book.of(f).is_some());
        while book.undo() {}
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn several_files_are_not_adopted() {
        let tree = Tree::new(vec![finding("/a/*", 1, 1)], Order::Size);
        let mut book = Book::new(true, Record::default());
        // A directory with its content, or one file, can be adopted.
        assert!(book.give(&tree, 0, Answer::KeepNow, "").unwrap_err().contains("keep them"));
        book.give(&tree, 0, Answer::Keep, "").unwrap();
    }

    #[test]
    fn earlier_decisions_count() {
        let mut tree = Tree::new(vec![finding("/a/", 9, 1)], Order::Size);
        let a = tree.find(b"/a").unwrap();
        tree.load(a, vec![finding("/a/b", 1, 1)]);
        let b = tree.find(b"/a/b").unwrap();
        let mut book = Book::default();
        let entry = serde_json::json!({ "directory": "/a" });
        let kept = Decision::of_entry(serde_json::from_value(entry).unwrap(), "/persist", Origin::default());
        book.record.add(kept.unwrap());
        assert!(book.decided(&tree, a).is_some() && book.decided(&tree, b).is_none());
        assert!(book.give(&tree, b, Answer::Keep, "").unwrap_err().contains("/a is kept already"));
        book.give(&tree, a, Answer::ThrowAway, "no more").unwrap();
        book.give(&tree, b, Answer::Keep, "").unwrap();
    }
}
