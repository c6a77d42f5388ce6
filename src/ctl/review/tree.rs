//! Findings as a tree: directories with several findings, and the findings in them, which can be opened in turn.

use std::collections::BTreeMap;

use crate::ctl::lost::Finding;
use crate::ctl::scan::show;
use crate::ctl::scan::{Subject, Totals};

/// Groups of so many or more begin closed.
const MANY: usize = 30;

/// The order in one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The largest first.
    Size,
    /// The newest change first.
    Time,
}

/// A directory or file in the tree.
#[derive(Debug)]
pub struct Node {
    /// Its path.
    pub path: Vec<u8>,
    /// The finding; none for a directory with findings only below.
    pub finding: Option<Finding>,
    /// The sizes of the finding, or of all findings in the directory.
    pub totals: Totals,
    /// The parent.
    pub above: Option<usize>,
    /// The depth in the tree.
    pub depth: usize,
    /// The children.
    pub below: Vec<usize>,
    /// True if the children are shown.
    pub open: bool,
    /// True if the directory was scanned for children.
    pub loaded: bool,
}

impl Node {
    /// True if a node can be opened.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.finding.as_ref().is_none_or(|finding| finding.row.subject == Subject::Directory)
    }

    /// Its whole path for the screen.
    #[must_use]
    pub fn shown(&self) -> String {
        let directory = || crate::text::escape::name(&self.path).trim_end_matches('/').to_owned() + "/";
        self.finding.as_ref().map_or_else(directory, |finding| show::path(&finding.row))
    }

    /// Its path in answers: of several files with a star, otherwise like a directory's.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let is_files = self.finding.as_ref().is_some_and(|finding| finding.row.subject == Subject::Files);
        if is_files { [self.path.as_slice(), b"/*"].concat() } else { self.path.clone() }
    }
}

/// All nodes. None is ever removed.
#[derive(Debug)]
pub struct Tree {
    /// Every node.
    pub nodes: Vec<Node>,
    /// Nodes at the top.
    pub top: Vec<usize>,
    order: Order,
}

impl Tree {
    /// The tree of some findings.
    #[must_use]
    pub fn new(findings: Vec<Finding>, order: Order) -> Self {
        let mut tree = Self { nodes: Vec::new(), top: Vec::new(), order };
        tree.top = tree.add(findings, b"", None);
        tree.sort(order);
        tree
    }

    /// Adds the findings of a directory.
    pub fn load(&mut self, node: usize, findings: Vec<Finding>) {
        let path = self.nodes[node].path.clone();
        let below = self.add(findings, &path, Some(node));
        let node = &mut self.nodes[node];
        (node.below, node.loaded) = (below, true);
        self.sort(self.order);
    }

    /// Adds findings of a directory: those in a common directory get a node for this directory.
    fn add(&mut self, mut findings: Vec<Finding>, directory: &[u8], above: Option<usize>) -> Vec<usize> {
        findings.sort_by(|a, b| a.row.path.cmp(&b.row.path));
        let start = if directory == b"/" { 0 } else { directory.len() };
        let mut names = BTreeMap::<Vec<u8>, Vec<Finding>>::new();
        let mut added = Vec::new();
        for finding in findings {
            let rest = finding.row.path.get(start + 1..).unwrap_or_default();
            let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            if name.is_empty() {
                // Files of the directory itself.
                added.push(self.node(finding.row.path.clone(), Some(finding), above));
            } else {
                names.entry(name.to_vec()).or_default().push(finding);
            }
        }
        for mut list in names.into_values() {
            if list.len() == 1 {
                let finding = list.remove(0);
                added.push(self.node(finding.row.path.clone(), Some(finding), above));
                continue;
            }
            let path = shared(&list);
            let node = self.node(path.clone(), None, above);
            let below = self.add(list, &path, Some(node));
            let mut totals = Totals::default();
            for index in &below {
                totals.add(&self.nodes[*index].totals);
            }
            let open = below.len() < MANY;
            let it = &mut self.nodes[node];
            (it.totals, it.open, it.loaded, it.below) = (totals, open, true, below);
            added.push(node);
        }
        added
    }

    fn node(&mut self, path: Vec<u8>, finding: Option<Finding>, above: Option<usize>) -> usize {
        let depth = above.map_or(0, |above| self.nodes[above].depth + 1);
        let totals = finding.as_ref().map_or_else(Totals::default, |finding| finding.row.totals);
        let (below, open, loaded) = (Vec::new(), false, false);
        self.nodes.push(Node { path, finding, totals, above, depth, below, open, loaded });
        self.nodes.len() - 1
    }

    /// The order.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Sorts the tree in another order.
    pub fn sort(&mut self, order: Order) {
        self.order = order;
        let mut top = std::mem::take(&mut self.top);
        self.sort_list(&mut top);
        self.top = top;
        for index in 0..self.nodes.len() {
            let mut below = std::mem::take(&mut self.nodes[index].below);
            self.sort_list(&mut below);
            self.nodes[index].below = below;
        }
    }

    fn sort_list(&self, list: &mut [usize]) {
        list.sort_by(|a, b| {
            let (a, b) = (&self.nodes[*a], &self.nodes[*b]);
            let by = match self.order {
                Order::Size => b.totals.allocated.cmp(&a.totals.allocated),
                Order::Time => b.totals.newest.cmp(&a.totals.newest),
            };
            by.then_with(|| a.path.cmp(&b.path))
        });
    }

    /// The visible nodes, from the top down.
    #[must_use]
    pub fn visible(&self) -> Vec<usize> {
        let mut shown = Vec::new();
        let mut waiting: Vec<_> = self.top.iter().rev().copied().collect();
        while let Some(index) = waiting.pop() {
            shown.push(index);
            if self.nodes[index].open {
                waiting.extend(self.nodes[index].below.iter().rev());
            }
        }
        shown
    }

    /// The nodes above a node.
    pub fn above(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.nodes[node].above, |above| self.nodes[*above].above)
    }

    /// The finding with a name, if known yet.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let is_it = |node: &Node| match &node.finding {
            Some(finding) if finding.row.subject == Subject::Files => {
                name.strip_suffix(b"/*") == Some(&node.path)
            }
            found => found.is_some() && node.path == name,
        };
        self.nodes.iter().position(is_it)
    }

    /// The unopened directory above a name.
    #[must_use]
    pub fn unopened(&self, name: &[u8]) -> Option<usize> {
        let holds = |node: &Node| {
            node.is_directory()
                && !node.loaded
                && name.strip_prefix(node.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        };
        self.nodes.iter().position(holds)
    }
}

/// The common directory of some findings; a finding counts as inside itself.
fn shared(list: &[Finding]) -> Vec<u8> {
    let mut whole = list.iter().map(|finding| [finding.row.path.as_slice(), b"/"].concat());
    let first = whole.next().unwrap_or_default();
    let same =
        |same: usize, other: Vec<u8>| first.iter().zip(&other).take(same).take_while(|(a, b)| a == b).count();
    let same = whole.fold(first.len(), same);
    let end = first[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    first[..end.max(1)].to_vec()
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ctl::scan::{Owner, Row};

    /// A finding of so many bytes, changed then. A path with a slash at its end is a directory, one with a star several files.
    pub fn finding(path: &str, size: u64, newest: i64) -> Finding {
        let (path, subject) = match (path.strip_suffix('/'), path.strip_suffix("/*")) {
            (Some(directory), _) => (directory, Subject::Directory),
            (_, Some(directory)) => (directory, Subject::Files),
            _ => (path, Subject::File),
        };
        let totals = Totals { files: 1, allocated: size, apparent: size, newest: Some((newest, 0)) };
        let owner = Owner { uid: 0, gid: 0, mode: if subject == Subject::Directory { 0o755 } else { 0o644 } };
        let row = Row { pattern: true, ..Row::new(path.as_bytes().to_vec(), subject, totals, owner) };
        let (user, group) = ("root".to_owned(), "root".to_owned());
        Finding { row, user, group, belongs: vec!["x.service".to_owned()], what: "" }
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let line = |index: &usize| " ".repeat(tree.nodes[*index].depth) + &tree.nodes[*index].shown();
        tree.visible().iter().map(line).collect()
    }

    #[test]
    fn findings_are_grouped_by_common_directories() {
        let list = || {
            vec![
                finding("/etc/a", 1, 9),
                finding("/etc/a-b/c", 20, 8),
                finding("/etc/b/d", 1, 7),
                finding("/etc/b/*", 5, 2),
                finding("/var/lib/x/", 30, 1),
                finding("/var/lib/y/", 90, 3),
                finding("/top", 7, 4),
            ]
        };
        let mut tree = Tree::new(list(), Order::Size);
        let sizes = [
            "/var/lib/",
            " /var/lib/y/",
            " /var/lib/x/",
            "/etc/",
            " /etc/a-b/c",
            " /etc/b/",
            "  /etc/b/*",
            "  /etc/b/d",
            " /etc/a",
            "/top",
        ];
        assert_eq!(shown(&tree), sizes);
        tree.sort(Order::Time);
        assert_eq!(shown(&tree)[..3], ["/etc/", " /etc/a", " /etc/a-b/c"]);
        tree.sort(Order::Size);
        let x = tree.find(b"/var/lib/x").unwrap();
        assert_eq!(tree.unopened(b"/var/lib/x/deep/er"), Some(x));
        tree.load(x, vec![finding("/var/lib/x/b/", 1, 1), finding("/var/lib/x/a", 2, 1)]);
        tree.nodes[x].open = true;
        assert_eq!(shown(&tree)[2..5], [" /var/lib/x/", "  /var/lib/x/a", "  /var/lib/x/b/"]);
        assert_eq!(tree.unopened(b"/var/lib/x/deep"), None);
        assert_eq!(tree.unopened(b"/var/lib/x/b/e"), tree.find(b"/var/lib/x/b"));
        assert_eq!(tree.find(b"/etc/b/*").map(|it| tree.nodes[it].path.clone()).unwrap(), b"/etc/b");
        assert!(shown(&Tree::new(Vec::new(), Order::Size)).is_empty());
    }
}
