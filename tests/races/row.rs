//! One row of the matrix: a command, a user who renames, and the result.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::alarm;

use super::scene::{FOR_DIRECTORIES, FOR_FILES, HOME, Scene};
use super::{Side, When, act, limit};
use crate::support::attacker::{Attacker, Decoy, Kind, Move, SECRET};
use crate::support::inject::Entry;
use crate::support::{Output, Snapshot, mounts};

/// Collects findings, so that one run of a row shows several.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} rounds:\n\n{}", self.0.len(), self.0.join("\n\n"));
        }
    }
}

/// One row of the matrix.
pub struct Row {
    scene: Scene,
    before: World,
    reference: World,
    /// Number of calls of the reference with each name in a path.
    uses: BTreeMap<Vec<u8>, usize>,
    /// Number of calls that list a directory.
    lists: usize,
}

/// Everything outside of the user's homes.
struct World {
    root: Snapshot,
    store: Snapshot,
    mounts: BTreeSet<String>,
}

impl World {
    fn of(scene: &Scene) -> Self {
        let machine = &scene.machine;
        let homes = scene.homes();
        // Mounts of the host meanwhile are left out.
        let (own, top) = (Path::new("/run"), machine.at(""));
        let outside = |target: &Path| {
            (target.starts_with(own) || target.starts_with(&top))
                && !homes.iter().any(|home| target.starts_with(home))
        };
        let line = |mount: &crate::support::Mount| {
            format!("{} {} {}", mount.target.display(), mount.root.display(), mount.fstype)
        };
        Self {
            root: Snapshot::of(&machine.at("")),
            store: machine.disk().snapshot(),
            mounts: mounts().iter().filter(|mount| outside(&mount.target)).map(line).collect(),
        }
    }
}

/// True if other checks cover a path: files of the user, and directories reachable by root alone.
fn is_left_out(path: &Path) -> bool {
    path.starts_with(HOME) || path.starts_with(".imp-mount") && path != Path::new(".imp-mount")
}

/// Files different from the state before and from the result of a run without an attack.
fn strange(what: &str, before: &Snapshot, reference: &Snapshot, after: &Snapshot, found: &mut Vec<String>) {
    let outside = |(path, _): &(&Path, &str)| !is_left_out(path);
    for (path, line) in after.lines().filter(outside) {
        if path == Path::new(".imp-mount") {
            if !line.starts_with("040700 0:0") {
                found.push(format!("{what}: others than root may enter /.imp-mount: {line}"));
            }
            continue;
        }
        let known = [before.line(path), reference.line(path)];
        if !known.contains(&Some(line)) {
            found.push(format!("{what}: /{}: {line}, not {known:?}", path.display()));
        }
    }
    for (path, _) in before.lines().filter(outside) {
        if reference.line(path).is_some() && after.line(path).is_none() {
            found.push(format!("{what}: /{} is gone", path.display()));
        }
    }
}

/// Files in a directory with content forbidden in any directory of the user.
fn secrets(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            secrets(&entry.path(), found);
        } else if kind.is_file()
            && fs::read(entry.path()).unwrap().windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
        {
            found.push(format!("{} holds what was in root's directory", entry.path().display()));
        }
    }
}

/// True if a call uses one of these names as a part of a path, or lists a directory.
pub fn uses(entry: &Entry, names: &[&OsStr]) -> bool {
    entry.call.name.is_any(&["getdents64"])
        || parts(entry).iter().any(|part| names.iter().any(|name| name.as_bytes() == part))
}

fn parts(entry: &Entry) -> BTreeSet<Vec<u8>> {
    entry.paths().iter().flat_map(|path| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec)).collect()
}

impl Row {
    pub fn new(scene: Scene) -> Self {
        scene.reset();
        let before = World::of(&scene);
        let (mut used, mut lists) = (BTreeMap::new(), 0);
        let output = scene.interrupt(&mut |entry| {
            for part in parts(entry) {
                *used.entry(part).or_insert(0) += 1;
            }
            lists += usize::from(entry.call.name.is_any(&["getdents64"]));
        });
        assert_eq!(output.code, Some(scene.code), "{output:?}");
        let reference = World::of(&scene);
        scene.reset();
        Self { scene, before, reference, uses: used, lists }
    }

    /// Exchanges of files in a home for decoys beside them.
    fn exchanges(&self, side: Side) -> Vec<Move> {
        let home = side.of(&self.scene);
        let all = |subjects: &'static [&'static str], decoys: &'static [&'static str]| {
            subjects.iter().flat_map(move |subject| decoys.iter().map(move |decoy| (*subject, *decoy)))
        };
        let pairs = all(self.scene.directories, &FOR_DIRECTORIES).chain(all(self.scene.files, &FOR_FILES));
        pairs
            .map(|(subject, decoy)| {
                let subject = home.join(subject);
                (subject.parent().unwrap().join(decoy), subject)
            })
            .filter(|(decoy, subject)| [decoy, subject].iter().all(|path| path.symlink_metadata().is_ok()))
            .map(|(decoy, subject)| Move::Exchange(subject, decoy))
            .collect()
    }

    /// Performs one round, and checks the state visible to others afterwards.
    fn round(&self, moves: &[Move], when: When) -> Vec<String> {
        let Self { scene, .. } = self;
        // Each round anew has as long as a test may take.
        alarm::set(crate::PATIENCE);
        scene.reset();
        let homes = scene.homes();
        let mut attacker = Attacker::start(&scene.machine.at(""), &homes, moves);
        let mut made = String::new();
        let output = match when {
            When::Undisturbed => {
                attacker.run();
                let output = scene.run();
                made = format!("{} exchanges", attacker.stop());
                output
            }
            _ => scene.interrupt(&mut act(&mut attacker, moves, when, &mut made)),
        };
        let mut found = self.judge(&mut attacker, &output);
        if when == When::Watch {
            let is_gone = |path: &PathBuf| path.symlink_metadata().is_err();
            let gone = attacker.appeared().into_iter().filter(is_gone);
            found.extend(gone.map(|path| format!("{} was there for a while", path.display())));
        }
        if found.is_empty() {
            return found;
        }
        let found = found.join("\n");
        vec![format!("{}: {when:?}: {moves:?}\n{found}\nexchanged: {made}\n{output:?}", scene.name)]
    }

    fn judge(&self, attacker: &mut Attacker, output: &Output) -> Vec<String> {
        let Self { scene, before, reference, .. } = self;
        let mut found = Vec::new();
        if !matches!(output.code, Some(0..=2)) {
            found.push("it did not end as it should".to_owned());
        }
        let after = World::of(scene);
        strange("root", &before.root, &reference.root, &after.root, &mut found);
        strange("store", &before.store, &reference.store, &after.store, &mut found);
        let known = before.mounts.union(&reference.mounts).cloned().collect();
        found.extend(after.mounts.difference(&known).map(|line| format!("mounted: {line}")));
        // A mount in a home comes from the home on the store, or is a guard.
        let home = Side::Root.of(scene);
        for mount in mounts().iter().filter(|mount| mount.target.starts_with(&home)) {
            let own = mount.fstype == "ext4" && mount.root.starts_with(Path::new("/store").join(HOME));
            let guard = mount.fstype == "tmpfs" && mount.root.starts_with("/imp-mount/guard");
            if !own && !guard {
                found.push(format!("mounted: {mount:?}"));
            }
        }
        scene.homes().iter().for_each(|home| secrets(home, &mut found));
        scene.machine.disk().visit(|store| secrets(&store.join(HOME), &mut found));
        // Last, because it changes modes to read more.
        found.extend(attacker.finds());
        found
    }

    /// Does these rounds, or a sample of so many, and says how many.
    fn rounds(&self, row: &str, all: &[(Vec<Move>, When)], sample: usize) {
        let count = limit(all.len(), sample);
        let mut wrong = Wrong::default();
        for number in 0..count {
            let (moves, when) = &all[number * all.len() / count];
            wrong.0.extend(self.round(moves, *when));
            if wrong.0.len() > 2 {
                break;
            }
        }
        println!("{}, {row}: {count} rounds of {}", self.scene.name, all.len());
    }

    /// Each exchange in a home, before each call affected by it; then all at random.
    pub fn exchange(&self, row: &str, side: Side) {
        let mut all = Vec::new();
        let moves = self.exchanges(side);
        for step in &moves {
            let Move::Exchange(one, other) = step else { continue };
            let count =
                |path: &PathBuf| self.uses.get(path.file_name().unwrap().as_bytes()).copied().unwrap_or(0);
            for at in 0..=(count(one) + count(other) + self.lists) {
                all.push((vec![step.clone()], When::Once(at)));
                all.push((vec![step.clone()], When::During(at)));
            }
        }
        // As many again as there are files to exchange.
        all.extend((0..moves.len()).map(|seed| (moves.clone(), When::Chance(seed as u64))));
        self.rounds(row, &all, 2);
    }

    /// Whatever appears in the homes is exchanged, at once and later.
    pub fn replace(&self, row: &str) {
        let replace = |kind, decoy, patience| Move::Replace(kind, decoy, patience);
        let mut all = Vec::new();
        for patience in [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50] {
            // Directories become the attacker's; new files in them become files of root.
            for kind in [Kind::Other, Kind::File, Kind::Any] {
                let own = replace(Kind::Directory, Decoy::Directory, patience / 2);
                all.push((vec![own, replace(kind, Decoy::RootFile, patience)], When::Always));
            }
            for decoy in Decoy::ALL {
                all.push((vec![replace(Kind::Any, decoy, patience)], When::Always));
            }
        }
        self.rounds(row, &all, 2);
    }

    /// A file made in the homes inherits an ACL, is read as soon as possible, and stays.
    pub fn watched(mut self) {
        self.scene.inherits = true;
        let again = Self::new(self.scene);
        again.rounds("watched", &[(Vec::new(), When::Watch)], 1);
    }

    /// Exchanges as fast as can be, without a stop.
    pub fn undisturbed(&self, sides: &[Side]) {
        let moves: Vec<_> = sides.iter().flat_map(|side| self.exchanges(*side)).collect();
        let work = Decoy::ALL.map(|decoy| vec![Move::Replace(Kind::Any, decoy, 0)]);
        let mut all = Vec::new();
        for number in 0..60 {
            // One pair at a time, all in turn, and new files.
            all.push((vec![moves[number * 7 % moves.len()].clone()], When::Undisturbed));
            all.push((moves.clone(), When::Undisturbed));
            all.push((work[number % work.len()].clone(), When::Undisturbed));
        }
        self.rounds("undisturbed", &all, 2);
    }
}
