//! A machine after switch-root: the program runs on a system whose / is the root that it built.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::MsFlags;

use super::{Machine, Output, namespace, run};

/// Seen from inside and outside: /run is the same there.
const HOME: &str = "/run/machine";

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
        fs::copy(env!("CARGO_BIN_EXE_imp-mount"), Path::new(HOME).join("imp-mount")).unwrap();
    }

    /// Runs the program in the started system: its sysroot is /.
    pub fn run_live(&self, words: &[&str]) -> Output {
        for file in ["manifest", "cmdline"] {
            fs::copy(self.home().join(file), Path::new(HOME).join(file)).unwrap();
        }
        let line = format!("{HOME}/imp-mount --manifest {HOME}/manifest --cmdline {HOME}/cmdline");
        self.run_inside(&[&line.split(' ').collect::<Vec<_>>(), words].concat())
    }

    /// Runs any program in the started system.
    pub fn run_inside(&self, argv: &[&str]) -> Output {
        let mut line: Vec<OsString> = vec!["chroot".into(), self.at("").into()];
        line.extend(argv.iter().map(Into::into));
        run(&line)
    }
}
