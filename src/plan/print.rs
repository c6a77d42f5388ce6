//! The plan as text: one line a step, in the order of the run, the same on every machine.

use serde::Serialize;

use super::{Action, Need, Plan};
use crate::manifest::parents::DirectoryRule;
use crate::manifest::{AbsPath, Entry, Id, Kind, Method, Missing};
use crate::text::escape::{self, Page};

/// One line of a plan.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Line {
    /// Action: `root`, `store`, `bind`, `symlink`, `copy`, `guard`, `later` or `off`.
    pub does: &'static str,
    /// Path in the booted system.
    pub target: String,
    /// Source of the mount, link or copy; left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Owner and mode of a new source, as `user:group mode`; left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creates: Option<String>,
    /// Directories created above the source, if missing, each with owner and mode; left out if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub parents: Vec<(String, String)>,
    /// Further facts.
    pub details: Vec<String>,
}

/// The lines of a plan.
#[must_use]
pub fn lines(plan: &Plan<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    match plan.root {
        _ if plan.is_untouched() => {
            lines.push(line("off", "/", vec!["the root stays as it is: imp-mount=off".to_owned()]));
        }
        None => lines.push(line("root", "/", vec!["as it is mounted already".to_owned()])),
        Some(root) => {
            let kind =
                root.on.as_ref().map_or_else(|| "tmpfs".to_owned(), |on| format!("new directory on {on}"));
            let mut details = vec![kind, format!("mode={:04o}", root.mode)];
            details.extend(root.size.iter().map(|size| format!("size={size}")));
            details.extend(root.inodes.iter().map(|inodes| format!("nr_inodes={inodes}")));
            details.extend(root.options.iter().cloned());
            if let Some(store) = &root.convert {
                details.push(format!("what is mounted there becomes {store}"));
            }
            lines.push(line("root", "/", details));
        }
    }
    for (store, need) in plan.stores().filter(|_| !plan.is_untouched()) {
        if need == Need::LeftOut {
            let why = need.why_not().unwrap_or_default().to_owned();
            lines.push(line("guard", store.path.as_str(), vec![why]));
            continue;
        }
        let mut details = Vec::new();
        if let Some(device) = &store.device {
            let fstype = store.fstype.as_deref().unwrap_or("found out from the device");
            details.push(format!("from {device} ({fstype}) unless mounted"));
        } else {
            details.push("mounted before".to_owned());
        }
        details.extend(store.options.iter().cloned());
        if let Some(why) = need.why_not() {
            details.push(why.to_owned());
        } else if !store.required {
            details.push("optional".to_owned());
        }
        lines.push(line("store", store.path.as_str(), details));
    }
    // A directory above several sources is created for the first of them.
    let mut before: Option<AbsPath> = None;
    for item in &plan.items {
        lines.push(of_entry(plan, item.entry, &item.store.path, item.action, before.as_ref()));
        if item.entry.kind != Kind::Glob && item.action == Action::Place {
            before = Some(item.store.path.join(item.entry.source()));
        }
    }
    lines
}

fn line(does: &'static str, target: &str, details: Vec<String>) -> Line {
    Line { does, target: target.to_owned(), source: None, creates: None, parents: Vec::new(), details }
}

fn of_entry(
    plan: &Plan<'_>,
    entry: &Entry,
    store: &AbsPath,
    action: Action,
    before: Option<&AbsPath>,
) -> Line {
    let does = match (action, entry.method) {
        (Action::Skip, _) => "guard",
        (Action::Later, _) => "later",
        (Action::Off, _) => "off",
        (Action::Place, Method::Bind) => "bind",
        (Action::Place, Method::Symlink) => "symlink",
        (Action::Place, Method::Copy) => "copy",
    };
    let mut details = Vec::new();
    if entry.method == Method::Bind {
        details.extend(entry.options.names().map(str::to_owned));
    }
    if entry.kind != Kind::Directory && entry.kind != Kind::Glob {
        details.push(
            match entry.missing {
                Missing::Create => "created if missing",
                Missing::Link => "a link if missing",
                Missing::Skip => "left out if missing",
                Missing::Fail => "fails if missing",
                Missing::MachineId => "uninitialized if missing",
            }
            .to_owned(),
        );
    }
    let flags = [
        (!entry.required, "optional"),
        (entry.enforce, "owner and mode enforced"),
        (entry.hidden, "hidden"),
        (entry.trash, "trash"),
    ];
    details.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
    details.push(format!("phase {}", entry.phase));
    let creates =
        entry.kind == Kind::Directory || matches!(entry.missing, Missing::Create | Missing::MachineId);
    let source = entry.source();
    let shared = |path: &str| {
        before.is_some_and(|before| before.ancestors().any(|one| one == path) || before.as_str() == path)
    };
    let mut parents: Vec<_> = source
        .ancestors()
        .map(|path| (store.join_text(path), rule(&plan.parents.of(path))))
        .filter(|(path, _)| action == Action::Place && entry.kind != Kind::Glob && !shared(path))
        .collect();
    parents.reverse();
    Line {
        does,
        target: entry.target.as_str().to_owned(),
        source: Some(store.join(source).as_str().to_owned()),
        creates: (creates && entry.kind != Kind::Glob && !matches!(action, Action::Skip | Action::Off))
            .then(|| owner(entry.owner.user.as_ref(), entry.owner.group.as_ref(), entry.mode())),
        parents,
        details,
    }
}

fn rule(rule: &DirectoryRule<'_>) -> String {
    owner(rule.user(), rule.group(), rule.mode())
}

fn owner(user: Option<&Id>, group: Option<&Id>, mode: u16) -> String {
    let text = |id: Option<&Id>| id.map_or_else(|| "root".to_owned(), ToString::to_string);
    format!("{}:{} {mode:04o}", text(user), text(group))
}

/// The plan as text, for a person or a diff.
#[must_use]
pub fn text(plan: &Plan<'_>) -> Page {
    let mut page = Page::default();
    for line in lines(plan) {
        for (path, owner) in &line.parents {
            page.line(format_args!("{:<8} {} {owner}, if missing", "mkdir", escape::name(path)));
        }
        let mut text = format!("{:<8} {}", line.does, escape::name(&line.target));
        if let Some(source) = &line.source {
            text = format!("{text} <- {}", escape::name(source));
        }
        if let Some(creates) = &line.creates {
            text = format!("{text} ({creates})");
        }
        let colon = if line.details.is_empty() { "" } else { ": " };
        page.line(format_args!("{text}{colon}{}", line.details.join(", ")));
    }
    page
}
