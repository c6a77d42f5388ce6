//! Commands that copy files to a store, killed, refused by the kernel, and cut off from power, on each file system.
//!
//! A power cut leaves the content of the disk's medium at this moment: a copy of the file below the loop device, without the
//! kernel's page cache. Data without a completed sync is missing.

mod booted;
mod roots;
mod scene;

use nix::errno::Errno;
use nix::unistd::alarm;

use crate::support::inject::CHANGES;
use crate::support::medium::Image;
use crate::support::{Call, Fs, Injected, Output};
use scene::{Scene, Sources, State};

macro_rules! rows {
    ($($name:ident $row:ident $scene:ident $fs:ident;)*) => {
        tests![$($name: Disk Inject),*];
        $(fn $name() { $row(&Scene::$scene(Fs::$fs)); })*
    };
}

rows![
    adopt_in_order in_order adopt Ext4;
    write_back_in_order in_order write_back Ext4;
    migrate_in_order in_order migrate Ext4;
    migrate_on_one_disk_in_order in_order migrate_on_one_disk Ext4;
    adopt_cut_off_on_ext4 cut_off adopt Ext4;
    adopt_cut_off_on_xfs cut_off adopt Xfs;
    adopt_cut_off_on_btrfs cut_off adopt Btrfs;
    adopt_beside_another_on_ext4 beside_another adopt Ext4;
    adopt_beside_another_on_xfs beside_another adopt Xfs;
    adopt_beside_another_on_btrfs beside_another adopt Btrfs;
    adopt_killed_on_xfs killed adopt Xfs;
    adopt_killed_on_btrfs killed adopt Btrfs;
    adopt_errors_on_xfs errors adopt Xfs;
    adopt_errors_on_btrfs errors adopt Btrfs;
    write_back_cut_off_on_ext4 cut_off write_back Ext4;
    write_back_cut_off_on_xfs cut_off write_back Xfs;
    write_back_cut_off_on_btrfs cut_off write_back Btrfs;
    write_back_beside_another_on_ext4 beside_another write_back Ext4;
    write_back_beside_another_on_xfs beside_another write_back Xfs;
    write_back_beside_another_on_btrfs beside_another write_back Btrfs;
    write_back_killed_on_ext4 killed write_back Ext4;
    write_back_killed_on_xfs killed write_back Xfs;
    write_back_killed_on_btrfs killed write_back Btrfs;
    write_back_errors_on_ext4 errors write_back Ext4;
    write_back_errors_on_xfs errors write_back Xfs;
    write_back_errors_on_btrfs errors write_back Btrfs;
    migrate_cut_off_on_ext4 cut_off migrate Ext4;
    migrate_cut_off_on_xfs cut_off migrate Xfs;
    migrate_cut_off_on_btrfs cut_off migrate Btrfs;
    migrate_beside_another_on_ext4 beside_another migrate Ext4;
    migrate_beside_another_on_xfs beside_another migrate Xfs;
    migrate_beside_another_on_btrfs beside_another migrate Btrfs;
    migrate_on_one_disk_cut_off_on_ext4 cut_off migrate_on_one_disk Ext4;
    migrate_on_one_disk_cut_off_on_xfs cut_off migrate_on_one_disk Xfs;
    migrate_on_one_disk_cut_off_on_btrfs cut_off migrate_on_one_disk Btrfs;
    boot_cut_off_on_ext4 cut_off boot_on_store Ext4;
    boot_cut_off_on_xfs cut_off boot_on_store Xfs;
    boot_cut_off_on_btrfs cut_off boot_on_store Btrfs;
    boot_beside_another_on_ext4 beside_another boot_on_store Ext4;
    boot_beside_another_on_xfs beside_another boot_on_store Xfs;
    boot_beside_another_on_btrfs beside_another boot_on_store Btrfs;
    first_boot_cut_off_on_ext4 cut_off first_boot_on_store Ext4;
    first_boot_cut_off_on_xfs cut_off first_boot_on_store Xfs;
    first_boot_cut_off_on_btrfs cut_off first_boot_on_store Btrfs;
    first_boot_beside_another_on_ext4 beside_another first_boot_on_store Ext4;
    first_boot_beside_another_on_xfs beside_another first_boot_on_store Xfs;
    first_boot_beside_another_on_btrfs beside_another first_boot_on_store Btrfs;
    save_cut_off_on_ext4 cut_off save Ext4;
    save_cut_off_on_xfs cut_off save Xfs;
    save_cut_off_on_btrfs cut_off save Btrfs;
    save_beside_another_on_ext4 beside_another save Ext4;
    save_beside_another_on_xfs beside_another save Xfs;
    save_beside_another_on_btrfs beside_another save Btrfs;
    prune_beside_another_on_ext4 beside_another prune Ext4;
    prune_beside_another_on_xfs beside_another prune Xfs;
    prune_beside_another_on_btrfs beside_another prune Btrfs;
    migrate_killed_on_ext4 killed migrate Ext4;
    migrate_killed_on_xfs killed migrate Xfs;
    migrate_killed_on_btrfs killed migrate Btrfs;
    migrate_errors_on_ext4 errors migrate Ext4;
    migrate_errors_on_xfs errors migrate Xfs;
    migrate_errors_on_btrfs errors migrate Btrfs;
];

/// The tested moments: all of them with enough time, 25 in `tests/run --full`, and a sample in a developer's own runs. The variable
/// `IMP_MOUNT_TEST_FAULTS` is `all`, `each` or nothing.
fn sample(count: usize, own: usize) -> Vec<usize> {
    let most = match std::env::var("IMP_MOUNT_TEST_FAULTS").as_deref() {
        Ok("all") => count,
        Ok(_) => 25,
        Err(_) => own,
    };
    let most = most.min(count);
    (0..most).map(|number| (2 * number + 1) * count / (2 * most)).collect()
}

/// A moment at which the power could be cut.
struct Moment {
    image: Image,
    /// The last call before which the medium was so; none after the run.
    call: Option<Call>,
    /// Differences of each of the sources to its earlier state.
    lost: Vec<Vec<String>>,
}

/// Collects failures, so that one run shows several.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} times:\n\n{}", self.0.len(), self.0.join("\n\n"));
        }
    }
}

/// Calls after which less may be there than before.
const REMOVALS: &[&str] = &["fchmod", "ftruncate", "pwrite64", "renameat2", "unlinkat", "write"];

/// Calls that change a file's content; a sync must follow.
const CONTENT: &[&str] = &["fsetxattr", "ftruncate", "pwrite64", "write"];
const SYNCS: &[&str] = &["fdatasync", "fsync", "syncfs"];
/// Calls that create a file. A directory and a symbolic link have no content to sync.
const MAKES: &[&str] = &["mkdirat", "openat", "symlinkat"];

/// A rename from a staging directory comes after a wait for the disk, without a write between the two.
fn in_order(scene: &Scene) {
    scene.reset();
    let mut wrong = Wrong::default();
    let (mut written, mut made, mut renames) = (None, None, 0);
    let output = scene.interrupt(&mut |entry| {
        let call = entry.call;
        if call.is_one_of(SYNCS) {
            written = None;
        } else if call.is_one_of(CONTENT) {
            written = Some(call);
        } else if call.is_one_of(MAKES) {
            made = Some(call);
        } else if call.is_one_of(&["renameat2"]) {
            let name = String::from_utf8(entry.paths().swap_remove(0)).unwrap();
            let has_content =
                name.starts_with("tree-") || made.is_none_or(|call| call.is_one_of(&["openat"]));
            renames += u32::from(has_content);
            if let Some(written) = written.filter(|_| has_content) {
                wrong.0.push(format!("{call:?} of {name} after {written:?}: no call waits for the disk"));
            }
        }
        true
    });
    assert_eq!(output.code, Some(scene.code), "{output:?}");
    assert!(renames > 1, "{output:?}");
}

fn cut_off(scene: &Scene) {
    hold(scene, &watched(scene, &mut |_| false), 1);
}

/// Another program on the same store syncs its own file: the sync also writes the file system's whole journal, including names of
/// files without their content.
fn beside_another(scene: &Scene) {
    // Before every `step`-th changing call. `all` runs in turns: the memory does not suffice for all images at once.
    let (step, turns) = match std::env::var("IMP_MOUNT_TEST_FAULTS").as_deref() {
        Ok("all") => (4, 4),
        Ok(_) => (4, 1),
        Err(_) => (20, 1),
    };
    for turn in 0..turns {
        let mut number = 0;
        let mut beside = |call: Call| {
            number += usize::from(call.is_one_of(CHANGES));
            call.is_one_of(CHANGES) && number % step == turn
        };
        hold(scene, &watched(scene, &mut beside), 2);
    }
}

/// An undisturbed run, and its states on the way.
struct Watched {
    output: Output,
    before: State,
    after: State,
    moments: Vec<Moment>,
}

/// Runs the command, and saves the medium after each change. `beside` names the calls before which another program writes.
fn watched(scene: &Scene, beside: &mut dyn FnMut(Call) -> bool) -> Watched {
    scene.reset();
    let before = scene.state();
    let disk = scene.machine.disk();
    let sources = Sources::open(scene);
    let start = sources.look();
    let differ = || start.iter().zip(sources.look()).map(|(one, other)| one.differences(&other)).collect();
    let mut moments: Vec<Moment> = Vec::new();
    let (mut writes, mut last) = (String::new(), None);
    let output = scene.interrupt(&mut |entry| {
        if beside(entry.call) {
            scene.write_beside();
        }
        let now = disk.writes();
        let is_less = last.is_some_and(|call: Call| call.is_one_of(REMOVALS));
        match moments.last_mut().filter(|_| now == writes) {
            Some(moment) if is_less => moment.lost = differ(),
            Some(_) => {}
            None => {
                let image = disk.freeze(moments.last().map(|moment| &moment.image));
                moments.push(Moment { image, call: None, lost: differ() });
                writes = now;
            }
        }
        last = Some(entry.call);
        moments.last_mut().unwrap().call = last;
        true
    });
    assert_eq!(output.code, Some(scene.code), "{output:?}");
    let image = disk.freeze(moments.last().map(|moment| &moment.image));
    moments.push(Moment { image, call: None, lost: differ() });
    Watched { output, before, after: scene.state(), moments }
}

/// Cuts the power after the run and at the given number of moments, and checks the disk and the next run.
fn hold(scene: &Scene, watched: &Watched, own: usize) {
    let Watched { output, before, after, moments } = watched;
    let mut wrong = Wrong::default();
    let end = moments.len() - 1;
    let taken: Vec<_> = sample(end, own).into_iter().chain([end]).collect();
    for moment in taken.iter().map(|at| &moments[*at]) {
        alarm::set(crate::PATIENCE);
        let found = match scene.judge {
            None => after_cut(scene, moment, (before, after)),
            Some(judge) => {
                scene.cut_off_at(&moment.image);
                judge(scene, before, moment.call.is_none())
            }
        };
        if !found.is_empty() {
            let when =
                moment.call.map_or("after the run".to_owned(), |call| format!("until before {call:?}"));
            wrong.0.push(format!("cut off {when}:\n{}\n{output:?}", found.join("\n")));
        }
    }
    println!("{} moments of {}", taken.len(), moments.len());
}

fn after_cut(scene: &Scene, moment: &Moment, (before, expected): (&State, &State)) -> Vec<String> {
    scene.cut_off_at(&moment.image);
    let state = scene.state();
    let mut found = state.half_done(before, expected, scene.whole);
    for (number, lost) in moment.lost.iter().enumerate() {
        if !(lost.is_empty() || scene.removes && state.whole[number] == expected.whole[number]) {
            found.push(format!("lost of {}: {lost:#?}", scene.sources[number]));
        }
    }
    let missing = expected.snapshot.losses(&state.snapshot);
    if moment.call.is_none() && !missing.is_empty() {
        found.push(format!("it has ended, and this is not on the disk: {missing:#?}"));
    }
    let boot = scene.boot();
    if !matches!(boot.code, Some(0)) {
        found.push(format!("the next boot: {boot:?}"));
    }
    found.extend(converges(scene, expected));
    found
}

/// Difference between the state after the next run and the state of a run without a fault.
fn converges(scene: &Scene, expected: &State) -> Option<String> {
    let output = scene.run_again();
    let after = scene.state();
    if output.code == Some(scene.code) && after == *expected {
        return None;
    }
    let (losses, news) = (expected.snapshot.losses(&after.snapshot), after.snapshot.news(&expected.snapshot));
    let whole = after.whole.iter().zip(&expected.whole);
    let whole: Vec<_> = whole.filter(|(one, other)| one != other).collect();
    Some(format!("the next run leaves {losses:#?} {news:#?} {whole:#?}\n{output:?}"))
}

fn killed(scene: &Scene) {
    fail(scene, &mut |_, call| Injected::kill(&call));
}

fn errors(scene: &Scene) {
    fail(scene, &mut |number, call| Injected::error(ERRORS[number % ERRORS.len()], &call));
}

const ERRORS: [Errno; 3] = [Errno::EIO, Errno::ENOSPC, Errno::EPERM];

/// Runs the command with a fault at one call, and once more without.
fn fail(scene: &Scene, fault: &mut dyn FnMut(usize, Call) -> Injected) {
    scene.reset();
    let before = scene.state();
    let (output, mut calls) = scene.run(&[]);
    assert_eq!(output.code, Some(scene.code), "{output:?}");
    calls.retain(|call| call.is_one_of(CHANGES));
    let expected = scene.state();
    let mut wrong = Wrong::default();
    let taken = sample(calls.len(), 1);
    for at in &taken {
        alarm::set(crate::PATIENCE);
        scene.reset();
        let fault = fault(*at, calls[*at]);
        let sources = Sources::open(scene);
        let start = sources.look();
        let (output, _) = scene.run(&[fault]);
        let state = scene.state();
        let whole = if output.signal.is_none() && scene.leaves_out { &[] } else { scene.whole };
        let mut found = state.half_done(&before, &expected, whole);
        for (number, (one, other)) in start.iter().zip(sources.look()).enumerate() {
            let lost = one.differences(&other);
            if !(lost.is_empty() || scene.removes && state.whole[number] == expected.whole[number]) {
                found.push(format!("lost of {}: {lost:#?}", scene.sources[number]));
            }
        }
        drop(sources);
        let is_said = output.signal.is_some()
            || ["error: ", "warning: "].iter().any(|word| output.stderr.contains(word))
            || output.code == Some(scene.code) && expected.snapshot.losses(&state.snapshot).is_empty();
        if !is_said {
            found.push("not a word about it".to_owned());
        }
        found.extend(converges(scene, &expected));
        if !found.is_empty() {
            wrong.0.push(format!("{fault:?}:\n{}\n{output:?}", found.join("\n")));
        }
    }
    println!("{} calls of {}", taken.len(), calls.len());
}
