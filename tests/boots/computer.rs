//! Machines to boot: namespaces on this kernel, a kernel as a process (UML), and one with virtual hardware (QEMU).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};

use crate::boot::Boot;
use crate::console::Console;
use crate::drive::{Attached, Drive, attach};
use crate::support::{Fs, mounts, namespace, scratch};

/// Parts of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Namespaces of this kernel: everything but devices is real, and a boot takes a second.
    Here,
    /// User-mode Linux of Debian testing: with real udev, device units and fsck.
    Uml,
    /// The same with the kernel of Debian 12.
    OldUml,
    /// Virtual hardware, with Debian stable's kernel.
    Qemu,
}

/// The distribution of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Stable,
    Testing,
}

/// A machine with its disks, which is off.
#[derive(Debug)]
pub struct Computer {
    on: On,
    suite: Suite,
    pub drives: Vec<Drive>,
}

/// A running machine of namespaces.
#[derive(Debug)]
pub struct Running {
    pub machine: Child,
    /// Its console.
    pub terminal: File,
    disks: Vec<Attached>,
    system: Attached,
    group: Group,
}

impl Running {
    /// Waits for the end of the machine and the release of its disks; returns the exit status of PID 1.
    pub fn off(mut self) -> ExitStatus {
        let status = self.machine.wait().unwrap();
        self.disks.into_iter().chain([self.system]).for_each(Attached::release);
        drop(self.group);
        status
    }
}

/// Directory of the files of `tests/boots/prepare`.
pub fn prepared() -> PathBuf {
    let folder = std::env::var_os("IMP_MOUNT_BOOTS").expect("start this with tests/boots/run");
    folder.into()
}

impl Computer {
    /// A machine with Debian stable's systemd and an empty ext4 disk called `persist`.
    pub fn new(on: On) -> Self {
        Self::with(on, Suite::Stable, vec![Drive::new("persist", Fs::Ext4, 64)])
    }

    /// A machine with these disks.
    pub fn with(on: On, suite: Suite, drives: Vec<Drive>) -> Self {
        Self { on, suite, drives }
    }

    /// A disk with an installed system, in the layout of distributions.
    pub fn installed(suite: Suite) -> Drive {
        Drive::formatted("root", Fs::Ext4, 640, &format!("-d {}", Self::part(suite, "root").display()))
    }

    /// One of its disks.
    pub fn drive(&self, label: &str) -> &Drive {
        self.drives.iter().find(|drive| drive.label == label).expect("it has this disk")
    }

    pub fn part(suite: Suite, name: &str) -> PathBuf {
        prepared().join(if suite == Suite::Stable { "stable" } else { "testing" }).join(name)
    }

    /// Boots the machine, and waits for its end.
    pub fn boot(&self, boot: &Boot) -> Console {
        self.boot_watched(boot, &mut |_| ())
    }

    /// Like `boot`, and calls `meanwhile` repeatedly while the machine runs.
    pub fn boot_watched(&self, boot: &Boot, meanwhile: &mut dyn FnMut(&Group)) -> Console {
        if self.on != On::Here {
            return self.boot_kernel(boot, meanwhile);
        }
        let mut running = self.start(boot);
        let console = running.terminal.try_clone().unwrap();
        let patience = Duration::from_secs(240);
        let console = Console::read(console, &mut running.machine, patience, &boot.typed, &mut || {
            meanwhile(&running.group);
        });
        running.off();
        console
    }

    /// Writes the initrd's files for this boot only.
    fn files(&self, boot: &Boot) -> &'static Path {
        let files = Path::new("/tmp/files");
        let _ = fs::remove_dir_all(files);
        fs::create_dir_all(files).unwrap();
        boot.write(files, &prepared().join("imp-mount"), self.on != On::Here);
        files
    }

    /// Switches on a machine of namespaces.
    pub fn start(&self, boot: &Boot) -> Running {
        let files = self.files(boot);
        let system = attach(&Self::part(self.suite, "system.img"), "--read-only");
        let disks: Vec<Attached> = self.drives.iter().map(Drive::attach).collect();
        let group = Group::new();
        let terminal = openpty(None, None).unwrap();
        // Input arrives unchanged.
        let mut modes = tcgetattr(&terminal.slave).unwrap();
        modes.output_flags.remove(OutputFlags::OPOST);
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &modes).unwrap();

        let mut line = group.member("unshare");
        line.args("--mount --propagation private --pid --fork --kill-child".split(' '));
        line.args("--ipc --uts --net --cgroup".split(' '));
        line.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boots/guest/enter"));
        line.args([&Self::part(self.suite, "initrd"), files]);
        line.arg(format!("root=fstab systemd.show_status=error {}", boot.cmdline));
        line.arg(format!("nix={}", system.device));
        let labels = self.drives.iter().map(|drive| &drive.label);
        line.args(labels.zip(&disks).map(|(label, disk)| format!("{label}={}", disk.device)));
        line.stdin(terminal.slave.try_clone().unwrap()).stdout(terminal.slave.try_clone().unwrap());
        line.stderr(terminal.slave);
        let machine = line.spawn().unwrap();
        Running { machine, terminal: terminal.master.into(), disks, system, group }
    }

    fn boot_kernel(&self, boot: &Boot, meanwhile: &mut dyn FnMut(&Group)) -> Console {
        let files = self.files(boot);
        let initrd = Path::new("/tmp/initrd");
        let pack =
            "cat \"$1\"; cd \"$2\"; find . -print0 | cpio --null --create --format=newc --quiet --owner=0:0";
        let base = Self::part(self.suite, "initrd.cpio.zst");
        let status = Command::new("sh")
            .args(["-c", &format!("({pack}) > {}", initrd.display()), "pack"])
            .args([&base, files])
            .status();
        assert!(status.unwrap().success());
        let system = Self::part(self.suite, "system.img");
        let words = format!(
            "root=fstab quiet panic=-1 systemd.show_status=error systemd.log_target=journal {}",
            boot.cmdline
        );
        let group = Group::new();
        let line = match self.on {
            On::Here => unreachable!("it has no kernel of its own"),
            On::Uml | On::OldUml => {
                let new = self.on == On::Uml;
                let mut line = group.member("unshare");
                // All its processes are gone with the first.
                line.args("--mount --propagation private --pid --fork --kill-child".split(' '));
                line.arg(format!("--mount-proc={NEWER}/proc")).args(["chroot", newer_libraries()]);
                // PID 1 of a namespace cannot abort, as a failing kernel does.
                line.args(["/usr/bin/busybox", "sh", "-c", "\"$@\"; exit $?", "sh"]);
                line.arg(prepared().join(if new { "uml-new" } else { "uml-old" }));
                line.args(["mem=1024M", "con=null", "con0=null,fd:1", "console=tty0", "ssl=null"]);
                if new {
                    line.arg("seccomp=on");
                }
                line.arg(format!("initrd={}", initrd.display()));
                // `r` is read-only, `c` disables the lock: many boots share the disk.
                line.arg(format!("ubd0rc={}", system.display()));
                for (number, drive) in self.drives.iter().enumerate() {
                    line.arg(format!("ubd{}={}", number + 1, drive.image.display()));
                }
                line.arg(format!("umid=boot{}", std::process::id())).args(words.split(' '));
                line
            }
            On::Qemu => {
                let disks = [(system.as_path(), ",readonly=on")].into_iter().chain(self.writable());
                Hardware::usual().with(&group, initrd, disks, &words)
            }
        };
        watch(line, &group, &boot.typed, meanwhile)
    }

    /// Boots virtual hardware with its own disks only, by a given initrd.
    pub fn boot_initrd(&self, hardware: &Hardware, initrd: &Path, words: &str) -> Console {
        let group = Group::new();
        let line = hardware.with(&group, initrd, self.writable(), words);
        watch(line, &group, &[], &mut |_| ())
    }

    /// Its own disks, as QEMU gets them.
    fn writable(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.drives.iter().map(|drive| (drive.image.as_path(), ""))
    }
}

/// Virtual hardware, and its kernel.
#[derive(Debug)]
pub struct Hardware {
    program: &'static str,
    /// The board and its processor.
    words: &'static str,
    terminal: &'static str,
    kernel: PathBuf,
}

impl Hardware {
    /// Debian stable's kernel for `x86_64`.
    pub fn usual() -> Self {
        Self::x86_64("kernel")
    }

    /// A kernel for `x86_64`, a file of [`prepared`].
    pub fn x86_64(kernel: &str) -> Self {
        Self {
            program: "qemu-system-x86_64",
            words: "-machine q35 -cpu max",
            terminal: "ttyS0",
            kernel: prepared().join(kernel),
        }
    }

    /// A kernel for aarch64.
    pub fn aarch64(kernel: &str) -> Self {
        Self {
            program: "qemu-system-aarch64",
            words: "-machine virt -cpu cortex-a57",
            terminal: "ttyAMA0",
            kernel: prepared().join(kernel),
        }
    }

    fn with<'a>(
        &self,
        group: &Group,
        initrd: &Path,
        disks: impl Iterator<Item = (&'a Path, &'a str)>,
        words: &str,
    ) -> Command {
        let tree = prepared().join("qemu");
        let mut line = group.member(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
        line.arg("--library-path").arg(tree.join("usr/lib/x86_64-linux-gnu"));
        line.arg(tree.join("usr/bin").join(self.program)).arg("-L").arg(tree.join("usr/share/qemu"));
        line.arg("-L").arg(tree.join("usr/share/seabios")).args(self.words.split(' '));
        // One processor, and no test of its timer: on a busy machine the timers of a second one come too late for the kernel.
        line.args("-accel tcg,thread=multi -smp 1 -m 1024".split(' '));
        line.args("-nographic -nodefaults -no-user-config -no-reboot".split(' '));
        line.args(["-serial", "stdio", "-monitor", "none"]);
        for (number, (image, more)) in disks.enumerate() {
            line.arg("-drive").arg(format!(
                "file={},if=none,id=d{number},format=raw,cache=unsafe,file.locking=off{more}",
                image.display()
            ));
            line.arg("-device").arg(format!("nvme,serial=d{number},drive=d{number}"));
        }
        line.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(initrd);
        line.arg("-append").arg(format!("console={} no_timer_check {words}", self.terminal));
        line
    }
}

/// Starts a machine with its own kernel, and reads the console to the end.
fn watch(
    mut line: Command,
    group: &Group,
    typed: &[(String, String)],
    meanwhile: &mut dyn FnMut(&Group),
) -> Console {
    let (reader, writer) = std::io::pipe().unwrap();
    line.env("TMPDIR", "/tmp").env("HOME", "/tmp").stdin(Stdio::null());
    line.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut machine = line.spawn().unwrap();
    drop(line);
    let patience = Duration::from_secs(900);
    Console::read(OwnedFd::from(reader).into(), &mut machine, patience, typed, &mut || meanwhile(group))
}

const NEWER: &str = "/tmp/newer";

/// A place like this machine's root with newer libraries, for a kernel that executes itself again by its own name.
fn newer_libraries() -> &'static str {
    let place = Path::new(NEWER);
    if !place.exists() {
        let usr = Computer::part(Suite::Stable, "root/nix/store/system/usr");
        let folders = [(usr.as_path(), Path::new("/usr"))].into_iter();
        // A checkout may be below /tmp.
        let own = ["/tmp".into(), "/dev".into(), prepared(), scratch()];
        for (from, to) in folders.chain(own.iter().map(|path| (path.as_path(), path.as_path()))) {
            let to = place.join(to.strip_prefix("/").unwrap());
            fs::create_dir_all(&to).unwrap();
            namespace::bind(from, to);
        }
        fs::create_dir(place.join("proc")).unwrap();
        for name in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), place.join(name)).unwrap();
        }
    }
    NEWER
}

/// Prefix of the names of control groups, before the id of their creator.
const GROUP: &str = "imp-mount-boot.";

/// A control group for one machine.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let mounts = mounts();
        let root = mounts.iter().find(|mount| mount.fstype == "cgroup2").expect("there are control groups");
        // Leftovers of killed runs.
        for folder in fs::read_dir(&root.target).unwrap().flatten() {
            let name = folder.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(GROUP));
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_groups(&folder.path());
            }
        }
        let group = root.target.join(format!("{GROUP}{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        Self(group)
    }

    /// A program in the control group; it dies with the test.
    fn member(&self, program: impl AsRef<OsStr>) -> Command {
        let mut line = Command::new("setpriv");
        line.args(["--pdeathsig", "KILL", "--", "sh", "-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]);
        line.arg(&self.0).arg(program);
        line
    }

    /// Stops the whole machine between two of its system calls for as long as `look` takes.
    pub fn frozen<T>(&self, look: impl FnOnce() -> T) -> T {
        let switch = self.0.join("cgroup.freeze");
        fs::write(&switch, "1").unwrap();
        while !fs::read_to_string(self.0.join("cgroup.events")).unwrap().contains("frozen 1") {
            std::thread::yield_now();
        }
        let seen = look();
        fs::write(&switch, "0").unwrap();
        seen
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes are killed, but may not be gone yet.
        for _ in 0..100 {
            remove_groups(&self.0);
            if !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{}: left behind", self.0.display());
    }
}

/// Removes a group and all groups below it without a process.
fn remove_groups(group: &Path) {
    for folder in fs::read_dir(group).into_iter().flatten().flatten() {
        if folder.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&folder.path());
        }
    }
    let _ = fs::remove_dir(group);
}
