//! The metrics, in Prometheus' text format 0.0.4.

use std::fmt::Display;

use super::{Standing, Status, label};
use crate::check::status::Status as Health;
use crate::runtime::report::Outcome;
use crate::text::escape::{self, Page};

/// Every health of an entry: states without entries are exported as 0, for alerts.
const HEALTH: [Health; 15] = [
    Health::Ok,
    Health::Later,
    Health::Skipped,
    Health::NotYetStored,
    Health::Pending,
    Health::RootOnly,
    Health::Missing,
    Health::NotMounted,
    Health::WrongSource,
    Health::Covered,
    Health::Replaced,
    Health::Conflict,
    Health::WrongOwner,
    Health::WrongMode,
    Health::WrongOptions,
];

/// A sample: its labels, by their names, and its value.
type Sample = (Vec<(&'static str, String)>, String);

/// All of them.
#[must_use]
pub fn text(status: &Status) -> Page {
    let mut page = Page::default();
    let mut one = |name: &str, help: &str, value: &dyn Display| {
        family(&mut page, name, help, &[(Vec::new(), value.to_string())]);
    };
    let standing = match status.standing {
        Standing::Well => 0,
        Standing::Attention => 1,
        Standing::Unknown => 2,
    };
    one("status", "How the system stands: 0 well, 1 something needs attention, 2 not known.", &standing);
    one("attention", "How many things need attention.", &status.attention.len());
    if let Some(boot) = &status.boot {
        let duration = format!("{}.{:06}", boot.duration / 1_000_000, boot.duration % 1_000_000);
        let success = u8::from(boot.outcome == Outcome::Done);
        one("boot_success", "Whether everything required was in place when the initrd was left.", &success);
        one("boot_duration_seconds", "How long imp-mount took in the initrd.", &duration);
        one("boot_warnings", "How many warnings it gave there.", &boot.warnings.len());
    }
    if let Some(run) = status.since.runs.last() {
        let success = u8::from(run.outcome != Outcome::Failed);
        one("last_run_success", "Whether the last run on the running system did not fail.", &success);
    }
    one("pending_owners", "How many paths wait for their owner to exist.", &status.pending.len());
    let unnamed = status.since.adopted.iter().filter(|one| !one.named).count();
    one("adopted_unnamed", "How many adopted paths the manifest does not name.", &unnamed);
    let Some(root) = &status.root else { return page };
    one(
        "changed",
        "How many entries stand otherwise than the last run left them.",
        &status.since.changed.len(),
    );
    one("unseen", "How many entries and stores this user may not look at.", &status.unseen.len());

    let counts: Vec<_> = HEALTH
        .iter()
        .map(|health| {
            let count = status.entries.iter().filter(|entry| entry.status == *health).count();
            (vec![("state", label(*health))], count.to_string())
        })
        .collect();
    family(&mut page, "entries", "How many entries stand how.", &counts);
    let problems: Vec<_> = status
        .entries
        .iter()
        .filter(|entry| entry.status.is_problem())
        .map(|entry| {
            (vec![("path", entry.target.as_str().to_owned()), ("state", label(entry.status))], "1".to_owned())
        })
        .collect();
    family(&mut page, "entry_problem", "An entry that is not as it should be.", &problems);

    let found = &root.filesystem;
    if root.is_mounted() {
        let mut one = |name: &str, help: &str, value: u64| {
            family(&mut page, name, help, &[(Vec::new(), value.to_string())]);
        };
        one("root_size_bytes", "The size of the root.", found.size);
        one("root_available_bytes", "How much more the root takes.", root.available);
        one("root_inodes", "How many inodes the root can have; 0 where there is no limit.", found.inodes);
        one("root_inodes_free", "How many of them are free.", found.inodes.saturating_sub(found.inodes_used));
    }
    stores(&mut page, status);
    page
}

fn stores(page: &mut Page, status: &Status) {
    type Value = fn(&super::Volume) -> Option<u64>;
    let families: [(&str, &str, Value); 7] = [
        ("store_mounted", "Whether the store is there.", |store| Some(store.is_mounted().into())),
        ("store_size_bytes", "The size of the store's file system.", |store| Some(store.filesystem.size)),
        ("store_available_bytes", "How much more a user may write to it.", |store| Some(store.available)),
        ("store_inodes", "How many inodes it has; 0 where it has no fixed number.", |store| {
            Some(store.filesystem.inodes)
        }),
        ("store_inodes_free", "How many of them are free.", |store| {
            Some(store.filesystem.inodes.saturating_sub(store.filesystem.inodes_used))
        }),
        ("store_readonly", "Whether nothing can be written to it.", |store| Some(store.read_only.into())),
        ("store_errors", "How many errors its file system has recorded.", |store| store.errors),
    ];
    for (number, (name, help, value)) in families.into_iter().enumerate() {
        let there = status.stores.iter().filter(|store| number == 0 || store.is_mounted());
        let samples: Vec<_> = there
            .filter_map(|store| {
                Some((vec![("path", store.filesystem.path.clone())], value(store)?.to_string()))
            })
            .collect();
        family(page, name, help, &samples);
    }
}

/// A metric with all samples; no lines without samples.
fn family(page: &mut Page, name: &str, help: &str, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    page.line(format_args!("# HELP imp_mount_{name} {help}"));
    page.line(format_args!("# TYPE imp_mount_{name} gauge"));
    for (labels, value) in samples {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape::label(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        page.line(format_args!("imp_mount_{name}{labels} {value}"));
    }
}
