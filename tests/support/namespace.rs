//! The namespace of a test: the test cannot change the host, and the namespace ends with the process.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork, pause};
use rustix::process::{Signal, getgid, getuid, set_parent_process_death_signal};

/// Moves this process, which has no threads yet, into a private mount namespace with an empty /run and /tmp.
///
/// An ordinary user also gets a user namespace, as its root, without rights outside.
pub fn enter() {
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    } else {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER).expect("unshare");
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw())).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw())).unwrap();
    }
    // Private first, to separate it from the host; then shared as under systemd, which changes the effect of bind
    // mounts and moves.
    propagate("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    propagate("/", MsFlags::MS_REC | MsFlags::MS_SHARED);
    empty("/tmp");
    empty_run();
    // Log records of the program must not reach the host's log.
    for log in ["/dev/kmsg", "/dev/log"] {
        if fs::metadata(log).is_ok() {
            bind("/dev/null", log);
        }
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::chdir("/tmp").unwrap();
}

/// Mount point of the /proc of [`few_processes`].
pub const PROC: &str = "/tmp/proc";

/// Every process started from here on has a /proc at [`PROC`] with these processes only: a scan of all processes of a
/// busy host takes long. This process must have one thread, and starts no thread later.
#[allow(unsafe_code)]
pub fn few_processes() {
    unshare(CloneFlags::CLONE_NEWPID).unwrap();
    // The first of them must live as long as the others.
    // SAFETY: there is one thread, so no lock is held by another one.
    if let ForkResult::Child = unsafe { fork() }.unwrap() {
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        loop {
            pause();
        }
    }
    fs::create_dir(PROC).unwrap();
    super::command::sh(format!("mount -t proc proc {PROC}"));
}

/// Removes all files and mounts in /run, as a reboot does.
pub fn forget_run() {
    umount2("/run", MntFlags::MNT_DETACH).unwrap();
    empty_run();
}

fn empty_run() {
    // NixOS has its programs there.
    let system = fs::read_link("/run/current-system");
    empty("/run");
    if let Ok(system) = system {
        std::os::unix::fs::symlink(system, "/run/current-system").unwrap();
    }
}

/// Covers a folder with an empty tmpfs; the project's own files stay reachable below the folder.
fn empty(folder: &str) {
    let kept: Vec<(PathBuf, fs::File)> =
        [env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR"), super::imp_mount()]
            .iter()
            .filter_map(|path| {
                if Path::new(path).is_dir() { Some(Path::new(path)) } else { Path::new(path).parent() }
            })
            .filter(|path| path.starts_with(folder))
            .map(|path| (path.into(), fs::File::open(path).unwrap()))
            .collect();
    tmpfs(folder, "mode=0755");
    for (path, file) in kept {
        fs::create_dir_all(&path).unwrap();
        bind(format!("/proc/self/fd/{}", file.as_raw_fd()), &path);
    }
}

/// Mounts a fresh tmpfs.
#[track_caller]
pub fn tmpfs(at: impl AsRef<Path>, options: &str) {
    mount(Some("tmpfs"), at.as_ref(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

/// Changes the propagation of a mount, or with `MS_REC` of a whole tree of mounts.
#[track_caller]
pub fn propagate(at: impl AsRef<Path>, flags: MsFlags) {
    mount(None::<&str>, at.as_ref(), None::<&str>, flags, None::<&str>).unwrap();
}

/// Binds one place over another, with all mounts below.
#[track_caller]
pub fn bind_all(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    mount(Some(from.as_ref()), to.as_ref(), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .unwrap();
}

/// Binds one place over another.
#[track_caller]
pub fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    mount(Some(from.as_ref()), to.as_ref(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}
