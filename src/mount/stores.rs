//! The stores of a manifest: opened for a run, and described in its report.

use std::os::fd::{AsFd, BorrowedFd};

use super::job::Context;
use super::judge;
use super::problems::Problems;
use super::store::{self, Opened};
use super::sysroot::Sysroot;
use super::tree::Tree;
use crate::manifest::{AbsPath, Entry};
use crate::plan::{Need, Plan};
use crate::runtime::report::{Finding, StoreReport};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk;
use crate::text::problem::{Problem, Result};

/// The stores, in the manifest's order; the reason where one cannot be used.
#[derive(Debug)]
pub struct Stores(Vec<Result<Opened>>);

impl Stores {
    /// Opens every store except those left out by the kernel command line. A failed required store fails the run,
    /// unless its entries are guarded.
    pub fn open(
        plan: &Plan<'_>,
        tree: &mut Tree,
        sysroot: &Sysroot,
        guards_required: bool,
        problems: &mut Problems,
    ) -> Self {
        let mut stores = Vec::with_capacity(plan.needs.len());
        for (store, need) in plan.stores() {
            let opened = if need == Need::LeftOut {
                Err(Problem::new(need.why_not().unwrap_or_default()).at(format!("store {}", store.path)))
            } else {
                store::open(plan, store, tree, sysroot)
            };
            match (&opened, need.why_not()) {
                (Ok(_), _) => {}
                (Err(_), Some(why)) if need == Need::LeftOut => log::warn!("store {}: {why}", store.path),
                (Err(problem), Some(why)) => {
                    let problem = Problem::new(format!("{why}, and it is not used: {}", problem.what))
                        .at(problem.at.as_str());
                    if need.is_by_argument() {
                        problems.warn(problem);
                    } else {
                        log::info!("{problem}");
                    }
                }
                (Err(problem), None) => problems.add(store.required && !guards_required, problem.clone()),
            }
            stores.push(opened);
        }
        Self(stores)
    }

    /// The store of an entry, or the reason for an unusable store.
    pub fn of(&mut self, entry: &Entry) -> Result<&mut Opened> {
        self.0[usize::from(entry.store)].as_mut().map_err(|problem| problem.clone())
    }

    /// The store of an entry, if usable.
    #[must_use]
    pub fn usable(&self, entry: &Entry) -> Option<&Opened> {
        self.0[usize::from(entry.store)].as_ref().ok()
    }

    /// The top directories.
    pub fn bases(&self) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
        self.0.iter().map(|opened| opened.as_ref().ok().map(|opened| opened.cursor.base()))
    }

    /// Mount of each store; none for an unusable one.
    pub fn mounts(&self, plan: &Plan<'_>, problems: &mut Problems) -> Vec<Option<Mount>> {
        let mut mounts = Vec::new();
        for (store, base) in plan.manifest.stores.iter().zip(self.bases()) {
            mounts.push(base.map(mountinfo::of).transpose().unwrap_or_else(|problem| {
                let problem = problem.at(format!("store {}", store.path));
                problems.warn(problem.remedy(super::utab::WITHOUT_UTAB));
                None
            }));
        }
        mounts
    }

    /// State of each store. A finding missing in the report of the last run is a warning.
    pub fn describe(
        &self,
        context: &Context<'_>,
        mounts: &[Option<Mount>],
        problems: &mut Problems,
    ) -> Vec<StoreReport> {
        let root = walk::base(context.sysroot.path.as_str());
        match &root {
            Ok(root) if context.plan.root.is_none() => {
                let finding = judge::writable(root.as_fd(), &AbsPath::root());
                problems.warnings.extend(finding.map(|finding| finding.problem("root")));
            }
            Ok(_) => {}
            Err(errno) => problems.warn(
                Problem::os("cannot examine the root and the stores", *errno)
                    .at(context.sysroot.path.as_str())
                    .remedy("run imp-mount again"),
            ),
        }
        let mut described = Vec::new();
        for (index, ((store, need), opened)) in context.plan.stores().zip(&self.0).enumerate() {
            let before = context.previous.stores.iter().find(|before| before.path == store.path.as_str());
            let as_before = || {
                let (source, fstype) = (before?.device.clone(), before?.fstype.clone());
                opened.is_ok().then(|| Mount { fstype, source, ..Mount::default() })
            };
            let mount = mounts[index].clone().or_else(as_before).unwrap_or_default();
            // Seen from the booted system, where the report is read.
            let findings = match (opened, &root) {
                (Ok(opened), Ok(root)) => {
                    let place = (root.as_fd(), &AbsPath::root());
                    let mut findings = judge::store((context.plan, index), opened, place, &mount, before);
                    findings.retain(Finding::is_problem);
                    findings
                }
                (Ok(_), Err(_)) => before.map(|before| before.findings.clone()).unwrap_or_default(),
                (Err(_), _) => Vec::new(),
            };
            let is_new = |finding: &&Finding| !before.is_some_and(|before| before.findings.contains(finding));
            let at = format!("store {}", store.path);
            problems.warnings.extend(findings.iter().filter(is_new).map(|finding| finding.problem(&at)));
            let why = need.why_not().filter(|_| opened.is_err()).unwrap_or_default();
            described.push(StoreReport {
                path: store.path.as_str().to_owned(),
                device: mount.source,
                fstype: mount.fstype,
                failure: opened.as_ref().err().map(ToString::to_string).unwrap_or_default(),
                spared: why.to_owned(),
                findings,
            });
        }
        described
    }
}
