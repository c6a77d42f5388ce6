//! A machine after switch-root: the program runs on a system whose / is the root that it built.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::MsFlags;

use super::inject::trace;
use super::{Call, Injected, Machine, Output, namespace, run};

/// Seen from inside and outside: /run is the same there.
const HOME: &str = "/run/machine";
const PROGRAM: &str = "/run/machine/imp-mount";
const IMPCTL: &str = "/run/machine/impctl";

impl Machine {
    /// Starts the system that was built, as switch-root does: with /proc, /dev and /run, and somebody's programs.
    pub fn switch_root(&self) {
        for folder in ["proc", "dev", "run", "nix", "usr", "bin", "lib", "lib64"] {
            let (from, to) = (Path::new("/").join(folder), self.at(folder));
            if let Ok(link) = fs::read_link(&from) {
                symlink(link, to).unwrap();
            } else if from.exists() {
                fs::create_dir_all(&to).unwrap();
                namespace::bind_all(&from, &to);
                // What the system mounts there is its own affair.
                namespace::propagate(&to, MsFlags::MS_REC | MsFlags::MS_SLAVE);
            }
        }
        fs::create_dir(HOME).unwrap();
        for (program, place) in
            [(env!("CARGO_BIN_EXE_imp-mount"), PROGRAM), (env!("CARGO_BIN_EXE_impctl"), IMPCTL)]
        {
            File::create(place).unwrap();
            namespace::bind(program, place);
        }
    }

    /// Runs impctl in the started system: a command, and what follows the manifest's name.
    pub fn impctl(&self, command: &str, words: &[&str]) -> Output {
        let line = self.impctl_line(command, words);
        self.run_inside(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with faults; names the system calls that it came to as well.
    pub fn trace_impctl(&self, faults: &[Injected], command: &str, words: &[&str]) -> (Output, Vec<Call>) {
        let line: Vec<OsString> = self.impctl_line(command, words).into_iter().map(Into::into).collect();
        trace(faults, &self.at(""), &line)
    }

    fn impctl_line(&self, command: &str, words: &[&str]) -> Vec<String> {
        fs::copy(self.home().join("manifest"), Path::new(HOME).join("manifest")).unwrap();
        let manifest = format!("{HOME}/manifest");
        let line = [IMPCTL, command, "--manifest", &manifest];
        line.iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// Runs the program in the started system: its sysroot is /.
    pub fn run_live(&self, words: &[&str]) -> Output {
        let line = self.live_line(words);
        self.run_inside(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with faults; names the system calls that it came to as well.
    pub fn trace_live(&self, faults: &[Injected], words: &[&str]) -> (Output, Vec<Call>) {
        let line: Vec<OsString> = self.live_line(words).into_iter().map(Into::into).collect();
        trace(faults, &self.at(""), &line)
    }

    fn live_line(&self, words: &[&str]) -> Vec<String> {
        for file in ["manifest", "cmdline"] {
            fs::copy(self.home().join(file), Path::new(HOME).join(file)).unwrap();
        }
        let line = format!("{PROGRAM} --manifest {HOME}/manifest --cmdline {HOME}/cmdline");
        line.split(' ').chain(words.iter().copied()).map(Into::into).collect()
    }

    /// Runs any program in the started system.
    pub fn run_inside(&self, argv: &[&str]) -> Output {
        let mut line: Vec<OsString> = vec!["chroot".into(), self.at("").into()];
        line.extend(argv.iter().map(Into::into));
        run(&line)
    }
}
