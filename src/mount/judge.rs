//! Checks of a directory as a store, or as the root: durability of its data, users with write access, and mount
//! options against those of entries.
//!
//! No finding stops a boot. A store on a tmpfs does; see [`super::store`].

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::store::Opened;
use super::sysroot::{RAMFS_MAGIC, TMPFS_MAGIC, magic};
use crate::manifest::options::BindOptions;
use crate::manifest::{AbsPath, Entry, Method};
use crate::plan::{Action, Plan};
use crate::runtime::report::{Finding, FindingKind as Kind, StoreReport};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::raw::{self, LoopFile};
use crate::sys::walk::{self, Mounts, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe};

/// statfs(2)'s magic number of overlayfs.
const OVERLAY_MAGIC: i64 = 0x794c_7630;
/// Devices made of devices made of devices are followed so far.
const DEPTH: usize = 8;
/// Paths with programs: `noexec` breaks the system there.
const PROGRAMS: [&str; 8] = [
    "/nix",
    "/opt",
    "/usr",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/flatpak",
    "/var/lib/machines",
    "/var/lib/portables",
];

/// Final medium of data on a file system.
#[derive(Debug, PartialEq, Eq)]
enum Keeps {
    /// As far as can be seen, not in memory.
    Disk,
    /// In memory, or in a file without a name; the backing, in words.
    Memory(String),
    /// Mostly in memory, but the backing cannot be seen from here; the reason, in words.
    Doubtful(String),
    /// Mostly on a disk, but the backing cannot be seen from here; the reason, in words.
    Unseen(String),
}

/// Every flaw of an open store. `root` is the directory where its path begins, and `prefix` the path of this directory.
#[must_use]
pub fn store(
    (plan, index): (&Plan<'_>, usize),
    opened: &Opened,
    (root, prefix): (BorrowedFd<'_>, &AbsPath),
    mount: &Mount,
    before: Option<&StoreReport>,
) -> Vec<Finding> {
    let store = &plan.manifest.stores[index];
    let fd = opened.cursor.base();
    let mut findings: Vec<_> = volatile(fd, mount, before).into_iter().collect();
    findings.extend(writable_above((root, &store.path), fd, prefix));
    findings.extend(writable(fd, &prefix.join(&store.path)));
    findings.extend(options((plan, index), opened.options, &prefix.join(&store.path)));
    findings
}

/// The directories above a store's own in its mount: a user with write access to one of them can exchange the store.
/// Directories above the mount's root cannot be reached from the mount.
fn writable_above(
    (root, path): (BorrowedFd<'_>, &AbsPath),
    store: BorrowedFd<'_>,
    prefix: &AbsPath,
) -> Vec<Finding> {
    let Some(above) = path.parent().filter(|above| !above.is_root()) else { return Vec::new() };
    let (mut findings, mut dir, mut place) = (Vec::new(), None::<OwnedFd>, prefix.clone());
    let mut look = || {
        let mount = walk::mount_id(store)?;
        for name in above.components() {
            place = place.child(name);
            let next = walk::directory(dir.as_ref().map_or(root, OwnedFd::as_fd), name, Mounts::Enter)?;
            if walk::mount_id(next.as_fd())? == mount {
                findings.extend(writable(next.as_fd(), &place));
            }
            dir = Some(next);
        }
        Ok::<_, Errno>(())
    };
    if let Err(errno) = look() {
        findings.push(unjudged(&place, errno));
    }
    findings
}

/// An unreadable directory.
fn unjudged(place: &AbsPath, errno: Errno) -> Finding {
    Finding {
        kind: Kind::Failed,
        what: format!(
            "others than root may be able to write to {place}: cannot look at it: {}",
            describe(errno)
        ),
        remedy: "see dmesg(1) for errors of its disk".to_owned(),
    }
}

/// Finds users other than root with permission to create files in a directory. The sticky bit does not prevent
/// creation, and with an ACL the mode's group bits are the ACL's mask.
#[must_use]
pub fn writable(dir: BorrowedFd<'_>, place: &AbsPath) -> Option<Finding> {
    let stat = match walk::stat(dir) {
        Ok(stat) => stat,
        Err(errno) => return Some(unjudged(place, errno)),
    };
    let (uid, gid, mode) = (stat.uid(), stat.gid(), stat.mode());
    let by_group = mode & 0o020 != 0;
    let has_acl = by_group && has_acl(dir);
    if uid == 0 && mode & 0o002 == 0 && !(by_group && (gid != 0 || has_acl)) {
        return None;
    }
    let acl = if has_acl { ", with an ACL" } else { "" };
    Some(Finding {
        kind: Kind::Writable,
        what: format!(
            "others than root can write to {place} (owner {uid}:{gid}, mode {mode:04o}{acl}), and plant there what becomes \
             the system's state"
        ),
        remedy: format!(
            "`chown root:root {word} && chmod go-w {word}`, and look at what is in it",
            word = escape::shell(place.as_str())
        ),
    })
}

fn has_acl(dir: BorrowedFd<'_>) -> bool {
    // An `O_PATH` descriptor has attributes by its path only.
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let size = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    !matches!(size, Err(Errno::NODATA | Errno::OPNOTSUPP))
}

/// A bind mount has every option of its source mount, also against the options of its entry.
fn options((plan, index): (&Plan<'_>, usize), has: BindOptions, place: &AbsPath) -> Option<Finding> {
    let bound = || {
        let of_it = plan.items.iter().filter(move |item| usize::from(item.entry.store) == index);
        of_it
            .map(|item| (item.entry, item.action))
            .filter(|(entry, action)| *action == Action::Place && entry.method == Method::Bind)
    };
    // Options of the store in the manifest are meant for all of its content.
    let is_meant = |option: &str| {
        plan.manifest.stores[index].options.iter().any(|word| word.split(',').any(|word| word == option))
    };
    let holds_programs = |target: &AbsPath| {
        PROGRAMS.into_iter().any(|path| AbsPath::parse(path).is_ok_and(|path| target.is_in(&path)))
    };
    let (mut lost, mut wanted) = (Vec::new(), Vec::new());
    for (option, name, opposite) in [
        (BindOptions::NOSUID, "nosuid", "suid"),
        (BindOptions::NODEV, "nodev", "dev"),
        (BindOptions::NOEXEC, "noexec", "exec"),
    ] {
        if !has.has(option) || (option == BindOptions::NOEXEC && is_meant(name)) {
            continue;
        }
        // Every entry has the first two unless set otherwise. The third is never an option of an entry.
        let asks = |entry: &Entry| {
            !entry.options.has(option) && (option != BindOptions::NOEXEC || holds_programs(&entry.target))
        };
        let asking: Vec<_> =
            bound().filter(|(entry, _)| asks(entry)).map(|(entry, _)| entry.target.to_string()).collect();
        if !asking.is_empty() {
            lost.push(format!("it is mounted {name}, and so {} cannot have {opposite}", some(&asking)));
            wanted.push(opposite);
        }
    }
    (!lost.is_empty()).then(|| Finding {
        kind: Kind::Options,
        what: lost.join("; "),
        remedy: format!(
            "`mount -o remount,{} {place}`, and change the options that it is mounted with",
            wanted.join(",")
        ),
    })
}

/// The first of many paths.
fn some(paths: &[String]) -> String {
    const SHOWN: usize = 4;
    match paths.len().saturating_sub(SHOWN) {
        0 => paths.join(", "),
        more => format!("{} and {more} more", paths[..SHOWN].join(", ")),
    }
}

/// Finds a store with data lost at a reboot; `mount` is the mount of the store. The initrd sees more than the running
/// system: for an unclear result, `before`, the finding of an earlier run, is used.
#[must_use]
pub fn volatile(fd: BorrowedFd<'_>, mount: &Mount, before: Option<&StoreReport>) -> Option<Finding> {
    let kept = keeps(fd, Some(mount), DEPTH);
    let before = before.filter(|before| (&before.device, &before.fstype) == (&mount.source, &mount.fstype));
    if let (Err(_) | Ok(Keeps::Doubtful(_) | Keeps::Unseen(_)), Some(before)) = (&kept, before) {
        let was = |kind| before.findings.iter().find(move |finding| finding.kind == kind);
        let volatile = was(Kind::Volatile);
        if volatile.is_some() || was(Kind::Failed).is_none() {
            return volatile.cloned();
        }
    }
    let (kind, what, remedy) = match kept {
        Ok(Keeps::Disk) => return None,
        Ok(Keeps::Memory(on)) => (
            Kind::Volatile,
            format!("it is on {on}, so nothing that is written to it outlives the next boot"),
            "move it to a disk",
        ),
        Ok(Keeps::Doubtful(why)) => (
            Kind::Volatile,
            format!("what is written to it may be in memory, and gone with the next boot: {why}"),
            "move it to a disk",
        ),
        Ok(Keeps::Unseen(why)) => (
            Kind::Unseen,
            format!("whether what is written to it outlives a boot cannot be seen from here: {why}"),
            "see whether that is on a disk",
        ),
        Err(problem) => (
            Kind::Failed,
            format!("what is written to it may be in memory, and gone with the next boot: {}", problem.what),
            "see dmesg(1), and run `imp-mount --check`",
        ),
    };
    Some(Finding { kind, what, remedy: remedy.to_owned() })
}

/// True if data of a root may be gone after a reboot: a tmpfs, or a file system in memory.
#[must_use]
pub fn is_in_memory(fd: BorrowedFd<'_>) -> bool {
    !matches!(keeps(fd, None, DEPTH), Ok(Keeps::Disk | Keeps::Unseen(_)))
}

fn keeps(fd: BorrowedFd<'_>, mount: Option<&Mount>, depth: usize) -> Result<Keeps> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(too_deep()) };
    let failed = |errno| Problem::os("cannot ask for its file system", errno);
    match magic(fd).map_err(failed)? {
        TMPFS_MAGIC => Ok(Keeps::Memory("a tmpfs".to_owned())),
        RAMFS_MAGIC => Ok(Keeps::Memory("a ramfs".to_owned())),
        OVERLAY_MAGIC => overlay(fd, depth),
        _ => match walk::stat(fd).map_err(failed)?.device() {
            device if device.0 == 0 => by_source(fd, mount, depth),
            device => block(device, depth),
        },
    }
}

/// An overlay stores data in its upper directory.
fn overlay(fd: BorrowedFd<'_>, depth: usize) -> Result<Keeps> {
    let unknown = |what: &str| Ok(Keeps::Doubtful(format!("it is an overlay, and {what}")));
    let id = walk::mount_id(fd).map_err(|errno| Problem::os("cannot ask for its mount", errno))?;
    // statmount(2) does not tell the options.
    let mounts = mountinfo::all()?;
    let Some(mount) = mounts.iter().find(|mount| mount.id == id) else {
        return unknown("its mount cannot be seen from here");
    };
    let mut options = mount.options.split(',');
    let Some(upper) = options.find_map(|option| option.strip_prefix("upperdir=")) else {
        // Read-only.
        return Ok(Keeps::Disk);
    };
    let upper = mountinfo::unescape(upper);
    let shown = escape::name(&upper);
    // With mount(2) a comma in the path is preceded by a backslash.
    match walk::base(&upper).or_else(|_| walk::base(&upper.replace('\\', ""))) {
        Ok(fd) if upper.starts_with('/') => match keeps(fd.as_fd(), None, depth)? {
            Keeps::Memory(on) => {
                Ok(Keeps::Memory(format!("an overlay whose upper directory {shown} is on {on}")))
            }
            other => Ok(other),
        },
        _ => unknown(&format!("its upper directory {shown} cannot be seen from here")),
    }
}

/// A file system without a device number of its own, such as btrfs, by the source of its mount.
fn by_source(fd: BorrowedFd<'_>, mount: Option<&Mount>, depth: usize) -> Result<Keeps> {
    let found;
    let mount = if let Some(mount) = mount {
        mount
    } else {
        found = mountinfo::of(fd)?;
        &found
    };
    // bcachefs names all its devices.
    for path in mount.source.split(':').filter(|source| source.starts_with("/dev/")) {
        let Some((major, minor)) = device_of(path)? else { continue };
        let link = format!("/sys/dev/block/{major}:{minor}");
        let mut links = if mount.fstype == "btrfs" { siblings_on_btrfs(&link)? } else { Vec::new() };
        links.push(link);
        for link in links {
            match device(&link, depth)? {
                Keeps::Disk => {}
                kept => return Ok(kept),
            }
        }
    }
    Ok(Keeps::Disk)
}

/// The block device at a path; none without one.
fn device_of(path: &str) -> Result<Option<(u32, u32)>> {
    let answer = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE);
    let Some(answer) = if_there(path, answer)? else { return Ok(None) };
    let is_block = FileType::from_raw_mode(answer.stx_mode.into()) == FileType::BlockDevice;
    Ok(is_block.then_some((answer.stx_rdev_major, answer.stx_rdev_minor)))
}

/// The other devices of a btrfs, as links in /sys.
fn siblings_on_btrfs(link: &str) -> Result<Vec<String>> {
    let Some(path) = target(link)? else { return Ok(Vec::new()) };
    let own = path.rsplit('/').next().unwrap_or_default();
    for uuid in list("/sys/fs/btrfs")? {
        let mut devices = list(&format!("/sys/fs/btrfs/{uuid}/devices"))?;
        if devices.iter().any(|name| name == own) {
            devices.retain(|name| name != own);
            return Ok(devices.into_iter().map(|name| format!("/sys/class/block/{name}")).collect());
        }
    }
    Ok(Vec::new())
}

fn block((major, minor): (u32, u32), depth: usize) -> Result<Keeps> {
    // Most are SCSI, SATA, USB and MMC disks, which need no look.
    if matches!(major, 8 | 65..=71 | 128..=135 | 179) {
        return Ok(Keeps::Disk);
    }
    device(&format!("/sys/dev/block/{major}:{minor}"), depth)
}

/// A block device, or the device of a partition, by its link in /sys.
fn device(link: &str, depth: usize) -> Result<Keeps> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(too_deep()) };
    let Some(path) = target(link)? else {
        return Ok(Keeps::Unseen(format!("{link} is not there")));
    };
    // `.../block/sda/sda1` for a partition, else `.../block/sda`.
    let mut parts = path.rsplit('/');
    let own = parts.next().unwrap_or_default();
    let name = parts.next().filter(|above| *above != "block").unwrap_or(own);
    let is_numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if is_numbered("zram") || is_numbered("ram") {
        return Ok(Keeps::Memory(format!("{name}, which is memory")));
    }
    if is_numbered("loop") {
        return backed(name, depth);
    }
    // Device-mapper, md and bcache. A disk has none.
    for part in list(&format!("/sys/class/block/{name}/slaves"))? {
        match device(&format!("/sys/class/block/{part}"), depth)? {
            Keeps::Disk => {}
            Keeps::Memory(on) => return Ok(Keeps::Memory(format!("{name}, a part of which is {on}"))),
            unseen => return Ok(unseen),
        }
    }
    Ok(Keeps::Disk)
}

/// A loop device stores data in a file.
fn backed(name: &str, depth: usize) -> Result<Keeps> {
    let path = format!("/sys/class/block/{name}/loop/backing_file");
    let Some(file) = if_there(&path, walk::content_at(&path, u64::MAX))? else {
        return Ok(Keeps::Unseen(format!("{path} is not there")));
    };
    // The kernel ends the name with a newline; the name may contain some, too.
    let file = file.strip_suffix(b"\n").unwrap_or(&file);
    let shown = escape::name(file);
    let known = loop_file(name);
    let open = |path: &[u8]| {
        let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = walk::stat(fd.as_fd())?;
        Ok::<_, Errno>((fd, stat))
    };
    // The path is relative to the mounts of the process that attached the file, and may name another file here.
    let is_it =
        |stat: &Stat| known.is_none_or(|it| (number(it.device), it.inode) == (stat.device(), stat.inode()));
    let unlinked = file.strip_suffix(b" (deleted)");
    let mut found = if_there(&shown, open(file))?.filter(|(_, stat)| is_it(stat));
    // A network file system may drop an existing name from its cache.
    if let (None, Some(path), Some(_)) = (&found, unlinked, known) {
        found = if_there(&shown, open(path))?.filter(|(_, stat)| is_it(stat));
    }
    let unseen = format!("it is on {name}, whose file {shown} cannot be seen from here");
    let kept = match (&found, known) {
        (Some((fd, stat)), _) if stat.is_file() => keeps(fd.as_fd(), None, depth)?,
        (Some((_, stat)), _) if stat.file_type() == FileType::BlockDevice => block(stat.special(), depth)?,
        (_, Some(file)) => out_of_sight(file, depth)?.unwrap_or(Keeps::Doubtful(unseen)),
        (_, None) => Keeps::Unseen(unseen),
    };
    Ok(match (kept, unlinked) {
        (Keeps::Memory(on), _) => Keeps::Memory(format!("{name}, whose file {shown} is on {on}")),
        (_, Some(path)) if found.is_none() => {
            Keeps::Memory(format!("{name}, whose file {} was deleted", escape::name(path)))
        }
        (other, _) => other,
    })
}

/// The file of a loop device, by the device itself; none if the device cannot be opened, as in a container.
fn loop_file(name: &str) -> Option<LoopFile> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let device = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty()).ok()?;
    let stat = walk::stat(device.as_fd()).ok()?;
    let numbers = walk::content_at(&format!("/sys/class/block/{name}/dev"), u64::MAX).ok()?;
    let (major, minor) = stat.special();
    let is_it =
        stat.file_type() == FileType::BlockDevice && numbers == format!("{major}:{minor}\n").as_bytes();
    is_it.then(|| raw::loop_file(device.as_fd()).ok()).flatten()
}

/// A file without a path, judged by the device of its file system. None if the device is not a block device and no
/// mount of it is visible: as on a tmpfs, on btrfs and on network file systems.
fn out_of_sight(file: LoopFile, depth: usize) -> Result<Option<Keeps>> {
    let device = number(file.device);
    if file.special != 0 && file.special != file.device {
        return block(number(file.special), depth).map(Some);
    }
    if device.0 != 0 {
        return block(device, depth).map(Some);
    }
    for mount in mountinfo::all()? {
        // Every subvolume of btrfs has a number of its own, which is not in mountinfo.
        if (mount.device == device || mount.fstype == "btrfs")
            && let Ok(dir) = walk::base(&mount.point)
            && walk::stat(dir.as_fd()).is_ok_and(|stat| stat.device() == device)
        {
            return keeps(dir.as_fd(), None, depth).map(Some);
        }
    }
    Ok(None)
}

/// A device number in two parts.
fn number(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// The names in a directory of /sys; none where there is no such directory.
fn list(folder: &str) -> Result<Vec<String>> {
    let names = walk::base(folder).and_then(|dir| walk::names(dir.as_fd(), usize::MAX));
    let names = if_there(folder, names)?.unwrap_or_default();
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The target of a link in /sys; none where there is no such link.
fn target(link: &str) -> Result<Option<String>> {
    let target = if_there(link, rustix::fs::readlink(link, Vec::new()))?;
    Ok(target.map(|target| target.to_string_lossy().into_owned()))
}

/// The answer of a call for a path; none where nothing is at the path.
fn if_there<T>(path: &str, answer: Result<T, Errno>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(errno) => Err(Problem::os(format!("cannot look at {}", escape::name(path)), errno)),
    }
}

fn too_deep() -> Keeps {
    Keeps::Unseen("it is on devices nested too deeply to follow".to_owned())
}
