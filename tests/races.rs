//! An attack matrix: every command of root, against an unprivileged process that exchanges names in its own directories: among
//! source paths, destination paths, and files just created by root.
//!
//! No test depends on a race won by chance: the command stops before a system call that uses a name, the process exchanges
//! this name, and the command continues. In other rounds the process exchanges names without a stop.

mod row;
mod scene;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::attacker::{Attacker, Move};
use crate::support::inject::Entry;
use row::{Row, uses};
use scene::Scene;

tests![
    boot_reading: Disk Inject,
    boot_mounting: Disk Inject,
    boot_new_files: Disk Inject,
    boot_watched: Disk Inject,
    boot_undisturbed: Disk,
    live_reading: Disk Inject,
    live_mounting: Disk Inject,
    live_new_files: Disk Inject,
    live_watched: Disk Inject,
    live_undisturbed: Disk,
    settle_owners: Disk Inject,
    settle_on_the_root: Disk Inject,
    settle_undisturbed: Disk,
    write_back_reading: Disk Inject,
    write_back_writing: Disk Inject,
    write_back_new_files: Disk Inject,
    write_back_watched: Disk Inject,
    write_back_undisturbed: Disk,
    adopt_reading: Disk Inject,
    adopt_writing: Disk Inject,
    adopt_new_files: Disk Inject,
    adopt_watched: Disk Inject,
    adopt_undisturbed: Disk,
    migrate_reading: Disk Inject,
    migrate_writing: Disk Inject,
    migrate_new_files: Disk Inject,
    migrate_watched: Disk Inject,
    migrate_undisturbed: Disk,
    check_looks: Disk Inject,
    check_undisturbed: Disk,
    status_looks: Disk Inject,
    status_undisturbed: Disk,
    lost_looks: Disk Inject,
    lost_undisturbed: Disk,
    orphans_looks: Disk Inject,
    orphans_undisturbed: Disk,
];

/// Number of a row's rounds: all with enough time, 50 in `tests/run --full`, and `sample` in a developer's own runs. The
/// variable `IMP_MOUNT_TEST_FAULTS` is `all`, `each` or nothing.
fn limit(all: usize, sample: usize) -> usize {
    match std::env::var("IMP_MOUNT_TEST_FAULTS").as_deref() {
        Ok("all") => all,
        Ok(_) => all.min(50),
        Err(_) => all.min(sample),
    }
}

/// Directories in which names are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Root,
    Store,
}

impl Side {
    fn of(self, scene: &Scene) -> PathBuf {
        let [root, store] = scene.homes();
        if self == Self::Root { root } else { store }
    }
}

/// When moves are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the call of this number among those that use one of the two names, permanently.
    Once(usize),
    /// The same, until the end of the call.
    During(usize),
    /// Before every call; afterwards the process opens all readable files.
    Always,
    /// Before every call a random exchange, or none.
    Chance(u64),
    /// As fast as can be, without a stop.
    Undisturbed,
    /// None, but the process opens all readable files before every call.
    Watch,
}

/// Actions of the attacker before each call.
fn act<'a>(
    attacker: &'a mut Attacker,
    moves: &'a [Move],
    when: When,
    made: &'a mut String,
) -> impl FnMut(&Entry) + 'a {
    let names: Vec<&OsStr> = match moves {
        [Move::Exchange(one, other)] => [one, other].map(|path| path.file_name().unwrap()).to_vec(),
        _ => Vec::new(),
    };
    let mut count = 0;
    let mut back = false;
    let mut random = match when {
        When::Chance(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        _ => 0,
    };
    move |entry| match when {
        When::Once(at) | When::During(at) => {
            if std::mem::take(&mut back) {
                made.push_str(&attacker.make(0));
            } else if count <= at && uses(entry, &names) {
                if count == at {
                    write!(made, "before {:?}: {}", entry.call, attacker.make(0)).unwrap();
                    back = matches!(when, When::During(_));
                }
                count += 1;
            }
        }
        When::Always => {
            (0..moves.len()).for_each(|number| made.push_str(&attacker.make(number)));
            attacker.watch();
        }
        When::Chance(_) => {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let choice = usize::try_from(random % (moves.len() as u64 * 3)).unwrap();
            if choice < moves.len() {
                write!(made, "before {:?}: {}", entry.call, attacker.make(choice)).unwrap();
            }
        }
        When::Watch => attacker.watch(),
        When::Undisturbed => {}
    }
}

fn boot_reading() {
    Row::new(Scene::boot()).exchange("where it reads", Side::Store);
}

fn boot_mounting() {
    Row::new(Scene::boot()).exchange("where it mounts", Side::Root);
}

fn boot_new_files() {
    Row::new(Scene::boot()).replace("what it makes");
}

fn boot_watched() {
    Row::new(Scene::boot()).watched();
}

fn boot_undisturbed() {
    Row::new(Scene::boot()).undisturbed(&[Side::Store, Side::Root]);
}

fn live_reading() {
    Row::new(Scene::live()).exchange("where it reads", Side::Store);
}

fn live_mounting() {
    Row::new(Scene::live()).exchange("where it mounts", Side::Root);
}

fn live_new_files() {
    Row::new(Scene::live()).replace("what it makes");
}

fn live_watched() {
    Row::new(Scene::live()).watched();
}

fn live_undisturbed() {
    Row::new(Scene::live()).undisturbed(&[Side::Store, Side::Root]);
}

fn settle_owners() {
    Row::new(Scene::settle()).exchange("where it gives", Side::Store);
}

fn settle_on_the_root() {
    Row::new(Scene::settle()).exchange("on the root", Side::Root);
}

fn settle_undisturbed() {
    Row::new(Scene::settle()).undisturbed(&[Side::Store]);
}

fn write_back_reading() {
    Row::new(Scene::write_back()).exchange("where it reads", Side::Root);
}

fn write_back_writing() {
    Row::new(Scene::write_back()).exchange("where it writes", Side::Store);
}

fn write_back_new_files() {
    Row::new(Scene::write_back()).replace("what it makes");
}

fn write_back_watched() {
    Row::new(Scene::write_back()).watched();
}

fn write_back_undisturbed() {
    Row::new(Scene::write_back()).undisturbed(&[Side::Root, Side::Store]);
}

fn adopt_reading() {
    Row::new(Scene::adopt()).exchange("where it reads", Side::Root);
}

fn adopt_writing() {
    Row::new(Scene::adopt()).exchange("where it writes", Side::Store);
}

fn adopt_new_files() {
    Row::new(Scene::adopt()).replace("what it makes");
}

fn adopt_watched() {
    Row::new(Scene::adopt()).watched();
}

fn adopt_undisturbed() {
    Row::new(Scene::adopt()).undisturbed(&[Side::Root]);
}

fn migrate_reading() {
    Row::new(Scene::migrate()).exchange("where it reads", Side::Root);
}

fn migrate_writing() {
    Row::new(Scene::migrate()).exchange("where it writes", Side::Store);
}

fn migrate_new_files() {
    Row::new(Scene::migrate()).replace("what it makes");
}

fn migrate_watched() {
    Row::new(Scene::migrate()).watched();
}

fn migrate_undisturbed() {
    Row::new(Scene::migrate()).undisturbed(&[Side::Root, Side::Store]);
}

fn look(scene: Scene) {
    let row = Row::new(scene);
    row.exchange("looks at the root", Side::Root);
    row.exchange("looks at the store", Side::Store);
}

fn check_looks() {
    look(Scene::check());
}

fn check_undisturbed() {
    Row::new(Scene::check()).undisturbed(&[Side::Root, Side::Store]);
}

fn status_looks() {
    look(Scene::look("status"));
}

fn status_undisturbed() {
    Row::new(Scene::look("status")).undisturbed(&[Side::Root, Side::Store]);
}

fn lost_looks() {
    look(Scene::look("lost"));
}

fn lost_undisturbed() {
    Row::new(Scene::look("lost")).undisturbed(&[Side::Root, Side::Store]);
}

fn orphans_looks() {
    look(Scene::look("orphans"));
}

fn orphans_undisturbed() {
    Row::new(Scene::look("orphans")).undisturbed(&[Side::Root, Side::Store]);
}
