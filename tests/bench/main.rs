//! imp-mount against the same work written in C, alternately, and against the limits that the project has set itself.
//!
//! tests/bench/run builds what is compared and starts this in a mount namespace with a disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

mod sample;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sample::{Sample, measure, median};
use serde_json::json;
use table::{Limit, Table};

/// Where everything is: made by tests/bench/run.
struct Place {
    /// `measure`, `bindloop` and the static `imp-mount`.
    bin: PathBuf,
    /// The sysroot, with the store's disk mounted at its `persist`.
    sysroot: PathBuf,
    /// For manifests and lists.
    scratch: PathBuf,
}

/// What the store holds when a run starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    /// All sources: every boot but the first.
    Warm,
    /// Nothing: the first boot.
    Empty,
}

/// One of the programs that do the work, and how many entries it is given.
#[derive(Clone, Copy)]
enum Program {
    ImpMount,
    C,
    Shell,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (flags, places): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let &[bin, sysroot, scratch] = places.as_slice() else {
        println!("run tests/bench/run [--short] [--enforce]");
        return ExitCode::SUCCESS;
    };
    let place = Place { bin: bin.into(), sysroot: sysroot.into(), scratch: scratch.into() };
    let missed = bench(&place, flags.contains(&"--short")).print();
    if missed > 0 && flags.contains(&"--enforce") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn bench(place: &Place, short: bool) -> Table {
    let mut table = Table::default();
    let mut warm_times = Vec::new();
    for (entries, pairs) in [(20, 51), (100, 31), (1000, 15), (10_000, 11)] {
        let pairs = if short { if entries == 10_000 { 3 } else { 11 } } else { pairs };
        place.prepare(entries);
        for store in [Store::Empty, Store::Warm] {
            let (ours, c) = place.compare(entries, pairs, store);
            let word = if store == Store::Warm { "warm store" } else { "first boot" };
            let (time, c_time) =
                (median(ours.iter().map(|run| run.time)), median(c.iter().map(|run| run.time)));
            table.times(&format!("{entries} binds, {word}"), time, "C loop", c_time, Limit::AtMost(1.3));
            if store == Store::Warm {
                warm_times.push((entries, time));
                let peak = median(ours.iter().map(|run| run.peak_kib));
                let c_peak = median(c.iter().map(|run| run.peak_kib));
                let limit = if entries == 1000 { Limit::AtMost(3.0) } else { Limit::None };
                table.peak(&format!("peak memory, {entries} entries"), peak, c_peak, limit);
            }
        }
        if entries == 100 {
            let shell = median((0..5).map(|_| place.run(Program::Shell, entries).time));
            table.times("100 binds, warm store", warm_times[1].1, "shell loop", shell, Limit::None);
        }
        if entries == 1000 {
            let (mounting, checking) = place.check(entries, pairs);
            table.times("--check, 1000 mounted", checking, "mounting", mounting, Limit::AtMost(2.0));
        }
    }
    let of = |wanted| warm_times.iter().find(|(entries, _)| *entries == wanted).unwrap().1;
    table.times("growth, 10000 entries", of(10_000), "1000", of(1000), Limit::AtMost(11.0));
    table
}

impl Place {
    fn list(&self, entries: usize) -> PathBuf {
        self.scratch.join(format!("list.{entries}"))
    }

    fn manifest(&self, entries: usize) -> PathBuf {
        self.scratch.join(format!("manifest.{entries}"))
    }

    /// Writes the list for C and the manifest for imp-mount: the same paths in the same order.
    fn prepare(&self, entries: usize) {
        let mut paths: Vec<String> = (0..entries).map(path).collect();
        paths.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        fs::write(self.list(entries), paths.join("\n") + "\n").unwrap();
        let manifest = json!({
            "version": 1,
            "root": { "size": "1g", "mode": "0755" },
            "stores": [{ "path": "/persist" }],
            "entries": paths.iter().map(|path| json!({ "directory": path })).collect::<Vec<_>>(),
        });
        let text = self.scratch.join("manifest.json");
        fs::write(&text, manifest.to_string()).unwrap();
        let compiled = Command::new(env!("CARGO_BIN_EXE_impctl"))
            .arg("compile")
            .arg(&text)
            .arg("-o")
            .arg(self.manifest(entries))
            .status()
            .unwrap();
        assert!(compiled.success(), "impctl compile failed");
    }

    /// Runs both in turn, so that whatever disturbs the machine disturbs both; who is first changes, too.
    fn compare(&self, entries: usize, pairs: usize, store: Store) -> (Vec<Sample>, Vec<Sample>) {
        let run = |program| {
            if store == Store::Empty {
                self.empty_store();
            }
            self.run(program, entries)
        };
        // The first run of each is not counted: it fills the caches, and the store.
        run(Program::C);
        run(Program::ImpMount);
        (0..pairs)
            .map(|pair| {
                let early = (pair % 2 == 1).then(|| run(Program::C));
                let ours = run(Program::ImpMount);
                (ours, early.unwrap_or_else(|| run(Program::C)))
            })
            .unzip()
    }

    /// One run in a namespace of its own, in which everything must have been mounted.
    fn run(&self, program: Program, entries: usize) -> Sample {
        let samples = measure(&self.bin.join("measure"), &[self.line(program, entries)]);
        samples[0].assert_mounted(entries);
        samples[0]
    }

    /// Median times of mounting, and of `--check` right after it.
    fn check(&self, entries: usize, runs: usize) -> (u64, u64) {
        let mount = self.line(Program::ImpMount, entries);
        let check = [mount.clone(), vec!["--check".into()]].concat();
        let runs: Vec<Vec<Sample>> =
            (0..runs).map(|_| measure(&self.bin.join("measure"), &[mount.clone(), check.clone()])).collect();
        for run in &runs {
            for sample in run {
                sample.assert_mounted(entries);
            }
        }
        (median(runs.iter().map(|run| run[0].time)), median(runs.iter().map(|run| run[1].time)))
    }

    fn line(&self, program: Program, entries: usize) -> Vec<String> {
        let word = |path: &Path| path.to_str().unwrap().to_owned();
        let (sysroot, list) = (word(&self.sysroot), word(&self.list(entries)));
        match program {
            Program::C => vec![word(&self.bin.join("bindloop")), sysroot, list],
            Program::Shell => {
                vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/shellloop").into(), sysroot, list]
            }
            Program::ImpMount => vec![
                word(&self.bin.join("imp-mount")),
                "--manifest".into(),
                word(&self.manifest(entries)),
                "--sysroot".into(),
                sysroot,
                "--cmdline".into(),
                "/dev/null".into(),
            ],
        }
    }

    /// Empties the store's disk, and waits until that is done.
    fn empty_store(&self) {
        let store = self.sysroot.join("persist");
        for entry in fs::read_dir(&store).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        rustix::fs::syncfs(fs::File::open(&store).unwrap()).unwrap();
    }
}

/// What people persist: mostly state of services, some of it deep, some in homes.
fn path(number: usize) -> String {
    match number % 10 {
        0 => format!("/home/user{}/.config/app{number:05}", number / 100),
        1 => format!("/srv/svc{number:05}"),
        2 => format!("/var/lib/containers/svc{number:05}/volumes/data"),
        3 => format!("/var/cache/svc{number:05}"),
        4 => format!("/var/lib/svc{number:05}"),
        _ => format!("/var/lib/svc{number:05}/data"),
    }
}
