//! Comparison of the root and the stores with the system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use serde::Serialize;

use super::disks::{self, Disk};
use crate::manifest::device::device_path;
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Store};
use crate::mount::device::is_unmounted;
use crate::mount::root::{self, is_new_at_every_boot};
use crate::mount::store::Opened;
use crate::mount::sysroot::{Sysroot, is_volatile};
use crate::mount::{fresh, judge};
use crate::plan::{Need, Plan};
use crate::runtime::report::{Finding, Report};
use crate::sys::capacity::{self, Capacity, Inodes};
use crate::sys::fstab;
use crate::sys::mount_api;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::walk::{self, Mounts};
use crate::text::escape;
use crate::text::problem::describe;
use crate::transfer::staging;

/// From here on a file system is nearly full: percent of its blocks or inodes.
const NEARLY_FULL: u64 = 95;

/// The file system of the root or of a store.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Filesystem {
    /// Its path in the booted system.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    pub path: String,
    /// Source of its mount; empty if not mounted.
    pub source: String,
    /// Device to mount there, by the manifest or else by fstab(5), where none is mounted; empty if neither has one.
    pub device: String,
    /// Its type.
    pub fstype: String,
    /// Its size in bytes.
    pub size: u64,
    /// Used bytes.
    pub used: u64,
    /// Its inodes; 0 without a fixed number.
    pub inodes: u64,
    /// Used inodes.
    pub inodes_used: u64,
    /// Its problem; empty if there is none.
    pub problem: String,
    /// Problems of the file system as a place for persistent data; left out without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub findings: Vec<Finding>,
    /// Why its absence is no fault; left out otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub spared: String,
    /// True if a boot needs the file system.
    pub required: bool,
}

impl Filesystem {
    /// The number of its problems.
    #[must_use]
    pub fn problems(&self) -> usize {
        usize::from(!self.problem.is_empty()) + self.findings.len()
    }

    /// True if needed and absent.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.source.is_empty() && self.spared.is_empty()
    }
}

/// Looks at the root.
#[must_use]
pub fn root(plan: &Plan<'_>, sysroot: &Sysroot) -> Filesystem {
    let mounted = is_mount_root(sysroot.fd.as_fd());
    let volatile = is_volatile(sysroot.fd.as_fd()).unwrap_or(false);
    let on_store = fresh::is_fresh(sysroot.fd.as_fd()).unwrap_or(false);
    let problem = match plan.root {
        Some(root) if sysroot.is_live() && root.on.is_some() => "the next boot makes a new one on its store",
        _ if sysroot.is_live() => "the next boot turns it into a tmpfs",
        None => "nothing is mounted there: see why sysroot.mount failed",
        Some(root) if root.convert.is_some() && !mounted => {
            "nothing is mounted there to be converted: see why sysroot.mount failed"
        }
        Some(_) if volatile && mounted => {
            "it is in memory, and the manifest asks for one on a store: see the report of the run"
        }
        Some(_) => "it is not built yet: run imp-mount",
    };
    let is_kind = plan.root.is_none_or(|root| if root.on.is_some() { on_store } else { volatile });
    let as_wanted = (mounted || sysroot.is_live()) && is_kind;
    let mut root = if mounted || as_wanted {
        filesystem("/", sysroot.fd.as_fd())
    } else {
        // The file system there is the initrd's own.
        Filesystem { path: "/".to_owned(), ..Filesystem::default() }
    };
    root.required = true;
    // A root before its first build is still the initrd's own.
    if mounted || sysroot.is_live() {
        root.findings.extend(judge::writable(sysroot.fd.as_fd(), &sysroot.path));
    }
    if !as_wanted {
        let convert =
            plan.root.and_then(|root| root.convert.as_ref()).filter(|_| mounted || sysroot.is_live());
        let covered = convert.and_then(|store| root::must_be_uncovered(store, sysroot).err());
        root.problem = covered.map_or_else(|| problem.to_owned(), |covered| covered.to_string());
    }
    root
}

/// Checks a store, and opens it if possible. Nothing is mounted or created.
#[must_use]
pub fn store(
    plan: &Plan<'_>,
    index: usize,
    sysroot: &Sysroot,
    report: &Report,
) -> (Filesystem, Option<Opened>) {
    let (store, need) = (&plan.manifest.stores[index], plan.needs[index]);
    let why = need.why_not().unwrap_or_default();
    if need == Need::LeftOut {
        let left = Filesystem {
            path: store.path.as_str().to_owned(),
            spared: why.to_owned(),
            ..Filesystem::default()
        };
        return (left, None);
    }
    let converts = plan.root.and_then(|root| root.convert.as_ref()) == Some(&store.path);
    let fd = if converts
        && !is_new_at_every_boot(sysroot.fd.as_fd()).unwrap_or(true)
        && is_mount_root(sysroot.fd.as_fd())
    {
        walk::duplicate(sysroot.fd.as_fd()).map_err(describe)
    } else {
        find(store, sysroot)
    };
    let options = fd.as_ref().ok().and_then(|fd| mount_api::options_of(fd.as_fd()).ok());
    match (fd, options) {
        (Ok(fd), Some(options)) => {
            let opened = Opened::new(fd, options);
            let fd = opened.cursor.base();
            let mut found = filesystem(store.path.as_str(), fd);
            found.required = store.required;
            let mount =
                Mount { source: found.source.clone(), fstype: found.fstype.clone(), ..Mount::default() };
            let before = report.stores.iter().find(|before| before.path == store.path.as_str());
            let place = (sysroot.fd.as_fd(), &sysroot.path);
            found.findings = judge::store((plan, index), &opened, place, &mount, before);
            let read_only = options.has(BindOptions::RO) || has_stopped(fd);
            if read_only && !store.options.iter().any(|option| option == "ro") {
                "it is mounted read-only; see `dmesg` for errors, check it with fsck, and remount it"
                    .clone_into(&mut found.problem);
            } else if let Some(flaw) = staging::flaw(fd) {
                found.problem = format!("nothing can be brought to it: {flaw}");
            }
            (found, Some(opened))
        }
        (fd, _) => {
            let problem = fd.err().unwrap_or_else(|| "cannot ask for its mount options".to_owned());
            let (problem, spared) = match need {
                Need::Needed => (problem, String::new()),
                _ => (String::new(), format!("{why}, and {problem}")),
            };
            let lost = Filesystem {
                path: store.path.as_str().to_owned(),
                device: expected(store, sysroot).map(|(_, device)| device).unwrap_or_default(),
                problem,
                spared,
                required: store.required,
                ..Filesystem::default()
            };
            (lost, None)
        }
    }
}

/// True if ext4 lets nothing be written after an error. Since Linux 6.15 only its options tell, and the mount looks writable.
#[must_use]
pub fn has_stopped(fd: BorrowedFd<'_>) -> bool {
    // Without the table of mounts the state is unknown; a run reports the error itself.
    let id = walk::mount_id(fd).ok();
    let mounts = mountinfo::all().unwrap_or_default();
    let mount = mounts.iter().find(|mount| Some(mount.id) == id);
    mount.is_some_and(|mount| mount.options.split(',').any(|option| option == "emergency_ro"))
}

fn find(store: &Store, sysroot: &Sysroot) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let expected = hint(store, sysroot);
    let found = walk::open_below(sysroot.fd.as_fd(), &store.path, flags, Mounts::Enter);
    let fd = found.map_err(|_| format!("it is not there{expected}"))?;
    let unmounted = walk::mount_id(sysroot.fd.as_fd())
        .map_err(describe)
        .and_then(|root| is_unmounted(store, fd.as_fd(), root).map_err(|problem| problem.to_string()))?;
    if unmounted {
        return Err(format!("nothing is mounted there{expected}"));
    }
    match is_volatile(fd.as_fd()) {
        Ok(true) => Err(format!("it is on a tmpfs, so nothing on it would outlive the next boot{expected}")),
        Ok(false) => Ok(fd),
        Err(problem) => Err(problem.to_string()),
    }
}

/// Origin of the device to mount there: the manifest, or else fstab(5).
fn expected(store: &Store, sysroot: &Sysroot) -> Option<(&'static str, String)> {
    let by_manifest = store.device.as_ref().map(|device| ("the manifest", device.clone()));
    by_manifest.or_else(|| by_fstab(&store.path, sysroot))
}

/// The same in words, and whether the device exists.
fn hint(store: &Store, sysroot: &Sysroot) -> String {
    let Some((who, device)) = expected(store, sysroot) else { return String::new() };
    let (tag, value) = device.split_once('=').unwrap_or_default();
    let is_it = |disk: &Disk| match tag {
        "LABEL" => disk.label == value,
        "UUID" => disk.uuid == value,
        _ => false,
    };
    let there = if walk::exists(&device_path(&device)) {
        "which is there: see whether its file system is whole"
    } else if disks::all().iter().any(is_it) {
        "which a disk has, but no link in /dev/disk leads to it: does udev run? else name the disk by its path"
    } else {
        "which is not there: is the disk connected, its driver in the initrd, and the name right?"
    };
    format!("; {who} says {}, {there}", escape::name(&device))
}

/// The device of a path in an fstab. An initrd's may name the path below the sysroot.
fn by_fstab(path: &AbsPath, sysroot: &Sysroot) -> Option<(&'static str, String)> {
    let below = sysroot.path.join(path);
    let mut lines = fstab::all().into_iter();
    let line = lines.find(|line| line.point == path.as_str() || line.point == below.as_str())?;
    Some(("fstab", line.device))
}

fn is_mount_root(fd: BorrowedFd<'_>) -> bool {
    walk::stat(fd).is_ok_and(|stat| stat.is_mount_root())
}

fn filesystem(path: &str, fd: BorrowedFd<'_>) -> Filesystem {
    let mount = mountinfo::of(fd).unwrap_or_default();
    let mut found = Filesystem {
        path: path.to_owned(),
        source: mount.source,
        fstype: mount.fstype,
        ..Filesystem::default()
    };
    let Ok(capacity) = Capacity::of(fd) else { return found };
    (found.size, found.used) = (capacity.size, capacity.used);
    let inodes = capacity.inodes.unwrap_or(Inodes { all: 0, used: 0, available: 0 });
    (found.inodes, found.inodes_used) = (inodes.all, inodes.used);
    for (what, used, available) in
        [("space", capacity.used, capacity.available), ("inodes", inodes.used, inodes.available)]
    {
        let percent = capacity::percent(used, available);
        if percent >= NEARLY_FULL {
            found.problem = format!("{percent} % of its {what} are used: free some");
        }
    }
    found
}
