//! Compares imp-mount with the same work in C, alternately, and with the project's own limits.
//!
//! tests/bench/run builds the programs and starts this one in a mount namespace with a disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "nothing of the product is printed"
)]

mod load;
mod sample;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use load::Load;
use sample::{Pairs, Sample, measure};
use serde_json::json;
use table::{Limit, Table};

/// Directory made by tests/bench/run.
struct Place {
    /// `measure`, and the measured programs.
    bin: PathBuf,
    /// The sysroot, with the store's disk mounted at its `persist`.
    sysroot: PathBuf,
    /// For manifests and lists.
    scratch: PathBuf,
    /// Fewer rounds.
    short: bool,
}

/// Content of the store when a run starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    /// All sources: every boot but the first.
    Warm,
    /// Nothing: the first boot.
    Empty,
}

/// One of the measured programs.
#[derive(Clone, Copy)]
enum Program {
    ImpMount,
    /// imp-mount built with musl.
    Musl,
    /// imp-mount built with glibc.
    Glibc,
    C,
    Shell,
}

impl Program {
    const LIBCS: [Self; 2] = [Self::Musl, Self::Glibc];

    /// Its file, beside `measure`.
    fn name(self) -> &'static str {
        match self {
            Self::ImpMount => "imp-mount",
            Self::Musl => "imp-mount-musl",
            Self::Glibc => "imp-mount-glibc",
            Self::C => "bindloop",
            Self::Shell => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/shellloop"),
        }
    }
}

/// A program, its number of entries, and the state of the store.
type Job = (Program, usize, Store);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let &[bin, sysroot, scratch, part] = words.as_slice() else {
        println!("run tests/bench/run");
        return ExitCode::SUCCESS;
    };
    let place = Place {
        bin: bin.into(),
        sysroot: sysroot.into(),
        scratch: scratch.into(),
        short: flags.contains(&"--short"),
    };
    let load = Load::now();
    let mut table = Table::default();
    if part != "musl" {
        place.mount(&mut table);
    }
    if part == "all" {
        place.others(&mut table);
    }
    // Both are there where they could be built.
    if part != "mount" && Program::LIBCS.iter().all(|program| place.bin.join(program.name()).exists()) {
        place.musl(&mut table);
    }
    let kept = table.sum_up();
    let (others, processors) = load.of_others();
    println!(
        "load averages after: {}; meanwhile {others:.2} of {processors} processors were busy with other things",
        load::averages()
    );
    if flags.contains(&"--enforce") && !kept { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Place {
    /// Mounting, against the C loop.
    fn mount(&self, table: &mut Table) {
        for entries in [20, 100, 1000, 10_000] {
            self.prepare(entries);
            let limit = if entries == 20 { 1.15 } else { 1.05 };
            for (store, word) in [(Store::Empty, "first boot"), (Store::Warm, "warm store")] {
                let pairs = self.compare((Program::ImpMount, entries, store), (Program::C, entries, store));
                table.times(&format!("{entries} binds, {word}"), "C loop", &pairs, Limit::AtMost(limit));
                let limit = match entries {
                    1000 => Limit::AtMost(3.0),
                    10_000 => Limit::AtMost(6.0),
                    _ => Limit::None,
                };
                if entries >= 1000 {
                    table.peaks(&format!("{entries} binds, {word}, memory"), "C loop", &pairs, limit);
                }
            }
        }
    }

    /// Other commands in the comparison, on the machine prepared by [`Self::mount`].
    fn others(&self, table: &mut Table) {
        let (hundred, thousand, most) =
            ((Program::ImpMount, 100, Store::Warm), (Program::ImpMount, 1000, Store::Warm), 10_000);
        let pairs = self.compare(hundred, (Program::Shell, 100, Store::Warm));
        table.times("100 binds, warm store", "shell loop", &pairs, Limit::None);
        table.times("--check, 1000 mounted", "mounting", &self.check(1000), Limit::AtMost(2.0));
        let pairs = self.compare((Program::ImpMount, most, Store::Warm), thousand);
        table.times("growth, 10000 entries", "1000", &pairs, Limit::AtMost(11.0));
    }

    /// imp-mount with musl, against itself with glibc; and the latter against the C loop, which has the same C library.
    fn musl(&self, table: &mut Table) {
        for entries in [20, 100, 1000] {
            self.prepare(entries);
            let [musl, glibc] = Program::LIBCS.map(|program| (program, entries, Store::Warm));
            let pairs = self.compare(musl, glibc);
            table.times(&format!("{entries} binds, warm, musl"), "glibc", &pairs, Limit::AtMost(1.05));
            let pairs = self.compare(glibc, (Program::C, entries, Store::Warm));
            table.times(&format!("{entries} binds, warm, glibc"), "C loop", &pairs, Limit::None);
        }
    }

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

    /// Runs both in turn, so that other load affects both; the first one alternates, too.
    fn compare(&self, ours: Job, other: Job) -> Pairs {
        // The first run of each is not counted: the run fills the caches and the store.
        self.run(other);
        self.run(ours);
        Pairs::until_stable(self.most(ours.1), |round| {
            let early = (round % 2 == 1).then(|| self.run(other));
            let ours = self.run(ours);
            (ours, early.unwrap_or_else(|| self.run(other)))
        })
    }

    /// Most rounds.
    fn most(&self, entries: usize) -> usize {
        let most = match entries {
            20 => 600,
            100 => 300,
            1000 => 100,
            _ => 60,
        };
        if self.short { (most / 5).max(11) } else { most }
    }

    /// One run in a namespace of its own, in which everything must have been mounted.
    fn run(&self, (program, entries, store): Job) -> Sample {
        if store == Store::Empty {
            self.empty_store();
        }
        measure(&self.bin.join("measure"), entries, &[self.line(program, entries)])[0]
    }

    /// `--check`, and the mount run right before.
    fn check(&self, entries: usize) -> Pairs {
        let mount = self.line(Program::ImpMount, entries);
        let check = [mount.clone(), vec!["--check".into()]].concat();
        Pairs::until_stable(self.most(entries), |_| {
            let samples = measure(&self.bin.join("measure"), entries, &[mount.clone(), check.clone()]);
            (samples[1], samples[0])
        })
    }

    fn line(&self, program: Program, entries: usize) -> Vec<String> {
        let word = |path: &Path| path.to_str().unwrap().to_owned();
        let (file, sysroot) = (word(&self.bin.join(program.name())), word(&self.sysroot));
        match program {
            Program::C | Program::Shell => vec![file, sysroot, word(&self.list(entries))],
            Program::ImpMount | Program::Musl | Program::Glibc => vec![
                file,
                "--manifest".into(),
                word(&self.manifest(entries)),
                "--sysroot".into(),
                sysroot,
                "--cmdline".into(),
                "/dev/null".into(),
            ],
        }
    }

    /// Empties the store's disk, and waits for the end of the deletion.
    fn empty_store(&self) {
        let store = self.sysroot.join("persist");
        for entry in fs::read_dir(&store).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        rustix::fs::syncfs(fs::File::open(&store).unwrap()).unwrap();
    }
}

/// Typical entries: mostly state of services, some deep, some in homes.
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
