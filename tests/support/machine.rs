//! A machine to boot: disks, a sysroot, a manifest, and the program between them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::attend::{Act, attend};
use super::disk::detach;
use super::inject::{self, trace};
use super::{Call, Disk, Injected, Mount, Output, mount_at, namespace, run};

/// State of the sysroot before the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Nothing: the program mounts the tmpfs.
    Nothing,
    /// A tmpfs, mounted by systemd (`root: null`).
    Tmpfs,
    /// The disk of the first store (`root: { convert }`).
    Disk,
}

/// A machine with a sysroot in /tmp. One test has one at most.
#[derive(Debug)]
pub struct Machine {
    root: Root,
    stores: Vec<(String, Disk)>,
}

const HOME: &str = "/tmp/machine";

impl Machine {
    /// A machine whose first store is this disk, at /persist, switched on: mounts before the program are there.
    pub fn new(root: Root, disk: Disk) -> Self {
        Self::with_stores(root, vec![("/persist", disk)])
    }

    /// A machine with several stores, each at its path.
    pub fn with_stores(root: Root, stores: Vec<(&str, Disk)>) -> Self {
        fs::create_dir_all(Path::new(HOME).join("sysroot")).unwrap();
        let machine =
            Self { root, stores: stores.into_iter().map(|(path, disk)| (path.to_owned(), disk)).collect() };
        machine.cmdline("");
        machine.power_on();
        machine
    }

    /// The disk of the first store.
    pub fn disk(&self) -> &Disk {
        &self.stores[0].1
    }

    /// The disks of all stores.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.stores.iter().map(|(_, disk)| disk)
    }

    /// Path of a file of the booted machine, seen from the test: an absolute path below the sysroot.
    pub fn at(&self, path: &str) -> PathBuf {
        self.home().join("sysroot").join(path.trim_start_matches('/'))
    }

    /// Directory of its manifest (`manifest`) and kernel command line (`cmdline`).
    #[allow(clippy::unused_self, reason = "there is one machine, and this reads as a question to it")]
    pub fn home(&self) -> &'static Path {
        Path::new(HOME)
    }

    /// The mount at a path of the booted machine.
    pub fn mount_at(&self, path: &str) -> Option<Mount> {
        mount_at(self.at(path))
    }

    /// Writes the stand-in for /proc/cmdline.
    pub fn cmdline(&self, words: &str) {
        fs::write(self.home().join("cmdline"), words).unwrap();
    }

    /// Writes a manifest, which must compile.
    #[track_caller]
    pub fn manifest(&self, manifest: &Value) {
        self.compile(&manifest.to_string()).ok();
    }

    /// Compiles the text of a manifest into its place.
    #[allow(clippy::unused_self, reason = "there is one machine, and this is a change to it")]
    pub fn compile(&self, text: &str) -> Output {
        let (json, compiled) = (format!("{HOME}/manifest.json"), format!("{HOME}/manifest"));
        fs::write(&json, text).unwrap();
        run(&[env!("CARGO_BIN_EXE_impctl"), "compile", &json, "-o", &compiled])
    }

    /// Builds the root: the boot.
    pub fn build(&self) -> Output {
        self.run(&[])
    }

    /// Runs the program with its usual arguments and these: `&["--check"]`.
    pub fn run(&self, words: &[&str]) -> Output {
        run(&self.line(words))
    }

    /// Runs the program with faults, and returns the system calls with one.
    pub fn trace(&self, faults: &[Injected], words: &[&str]) -> (Output, Vec<Call>) {
        trace(faults, Path::new("/"), &self.line(words))
    }

    /// Runs the program, and acts before each of its system calls.
    pub fn attend(&self, words: &[&str], act: &mut Act<'_>) -> Output {
        attend(Path::new("/"), &self.line(words), act)
    }

    /// Runs the program, and acts before each of its system calls, those without a name among them.
    pub fn interrupt(&self, words: &[&str], act: &mut inject::Act<'_>) -> Output {
        inject::interrupt(Path::new("/"), &self.line(words), act)
    }

    fn line(&self, words: &[&str]) -> Vec<OsString> {
        let manifest = format!("{HOME}/manifest");
        let cmdline = format!("{HOME}/cmdline");
        let mut line: Vec<OsString> =
            [super::imp_mount(), "--manifest", &manifest, "--cmdline", &cmdline].map(Into::into).into();
        line.extend(["--sysroot".into(), self.at("").into()]);
        line.extend(words.iter().map(Into::into));
        line
    }

    /// Makes the mounts before the program.
    #[track_caller]
    pub fn power_on(&self) {
        if self.root == Root::Tmpfs {
            namespace::tmpfs(self.at(""), "mode=0755");
        }
        for (number, (path, disk)) in self.stores.iter().enumerate() {
            disk.mount(if self.root == Root::Disk && number == 0 { self.at("") } else { self.at(path) });
        }
    }

    /// Unmounts everything, and drops data in memory. Nothing may keep a disk busy.
    #[track_caller]
    pub fn power_off(&self) {
        detach(&self.at(""));
        namespace::forget_run();
        for (_, disk) in &self.stores {
            disk.umount();
        }
    }

    /// Off, on, and built again.
    #[track_caller]
    pub fn reboot(&self) -> Output {
        self.power_off();
        self.power_on();
        self.build()
    }
}
