//! A machine after switch-root: the program runs on a system with the built root as /.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::MsFlags;

use super::attend::attend;
use super::inject::{Act, interrupt, trace};
use super::{Call, Injected, Machine, Output, Running, namespace, run, start};

/// Seen from inside and outside: /run is the same there.
const HOME: &str = "/run/machine";
const PROGRAM: &str = "/run/machine/imp-mount";
const IMPCTL: &str = "/run/machine/impctl";

impl Machine {
    /// Starts the built system, as switch-root does: with /proc, /dev and /run, and the host's programs.
    pub fn switch_root(&self) {
        for folder in ["proc", "dev", "run", "nix", "usr", "bin", "lib", "lib64"] {
            let (from, to) = (Path::new("/").join(folder), self.at(folder));
            if let Ok(link) = fs::read_link(&from) {
                symlink(link, to).unwrap();
            } else if from.exists() {
                fs::create_dir_all(&to).unwrap();
                namespace::bind_all(&from, &to);
                // Mounts of the system there are left out.
                namespace::propagate(&to, MsFlags::MS_REC | MsFlags::MS_SLAVE);
            }
        }
        fs::create_dir(HOME).unwrap();
        for (program, place) in [(super::imp_mount(), PROGRAM), (env!("CARGO_BIN_EXE_impctl"), IMPCTL)] {
            File::create(place).unwrap();
            namespace::bind(program, place);
        }
    }

    /// Runs impctl in the started system: a command, and the arguments after the manifest's name.
    pub fn impctl(&self, command: &str, words: &[&str]) -> Output {
        let line = self.impctl_line(command, words);
        self.run_inside(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with faults; also returns its system calls.
    pub fn trace_impctl(&self, faults: &[Injected], command: &str, words: &[&str]) -> (Output, Vec<Call>) {
        let line: Vec<OsString> = self.impctl_line(command, words).into_iter().map(Into::into).collect();
        trace(faults, &self.at(""), &line)
    }

    /// The same, and acts before each of its system calls.
    pub fn interrupt_impctl(&self, command: &str, words: &[&str], act: &mut Act<'_>) -> Output {
        let line: Vec<OsString> = self.impctl_line(command, words).into_iter().map(Into::into).collect();
        interrupt(&self.at(""), &line, act)
    }

    /// The same, and calls `act` before each of its system calls that uses a name.
    pub fn attend_impctl(&self, command: &str, words: &[&str], act: &mut super::attend::Act<'_>) -> Output {
        let line: Vec<OsString> = self.impctl_line(command, words).into_iter().map(Into::into).collect();
        attend(&self.at(""), &line, act)
    }

    /// Starts impctl in the started system; see [`Machine::impctl`].
    pub fn start_impctl(&self, command: &str, words: &[&str]) -> Running {
        self.start_inside(&self.impctl_line(command, words))
    }

    fn impctl_line(&self, command: &str, words: &[&str]) -> Vec<String> {
        self.bring("manifest");
        let manifest = format!("{HOME}/manifest");
        let line = [IMPCTL, command, "--manifest", &manifest];
        line.iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// Runs the program in the started system: its sysroot is /.
    pub fn run_live(&self, words: &[&str]) -> Output {
        let line = self.live_line(words);
        self.run_inside(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with faults; also returns its system calls.
    pub fn trace_live(&self, faults: &[Injected], words: &[&str]) -> (Output, Vec<Call>) {
        let line: Vec<OsString> = self.live_line(words).into_iter().map(Into::into).collect();
        trace(faults, &self.at(""), &line)
    }

    /// The same, and calls `act` before each of its system calls that uses a name.
    pub fn attend_live(&self, words: &[&str], act: &mut super::attend::Act<'_>) -> Output {
        let line: Vec<OsString> = self.live_line(words).into_iter().map(Into::into).collect();
        attend(&self.at(""), &line, act)
    }

    /// The same, and acts before each of its system calls.
    pub fn interrupt_live(&self, words: &[&str], act: &mut Act<'_>) -> Output {
        let line: Vec<OsString> = self.live_line(words).into_iter().map(Into::into).collect();
        interrupt(&self.at(""), &line, act)
    }

    /// Starts the program in the started system; see [`Machine::run_live`].
    pub fn start_live(&self, words: &[&str]) -> Running {
        self.start_inside(&self.live_line(words))
    }

    fn live_line(&self, words: &[&str]) -> Vec<String> {
        self.bring("manifest");
        self.bring("cmdline");
        let line = format!("{PROGRAM} --manifest {HOME}/manifest --cmdline {HOME}/cmdline");
        line.split(' ').chain(words.iter().copied()).map(Into::into).collect()
    }

    /// Copies a file into the started system, in one step: another program may be about to read the file.
    fn bring(&self, name: &str) {
        let (new, place) = (Path::new(HOME).join(format!("{name}.new")), Path::new(HOME).join(name));
        fs::copy(self.home().join(name), &new).unwrap();
        fs::rename(new, place).unwrap();
    }

    /// Runs any program in the started system.
    pub fn run_inside(&self, argv: &[&str]) -> Output {
        run(&self.inside(argv))
    }

    fn start_inside(&self, argv: &[String]) -> Running {
        start(&self.inside(argv))
    }

    fn inside(&self, argv: &[impl AsRef<OsStr>]) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["chroot".into(), self.at("").into()];
        line.extend(argv.iter().map(|word| word.as_ref().to_owned()));
        line
    }
}
