//! Disks: images on loop devices with real file systems, which can be filled, made read-only and broken.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, umount2};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::command::{line, sh, sh_on};
use super::look::{Snapshot, mounts_below};
use super::{namespace, run, scratch};

/// File system of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fs {
    Ext4,
    Btrfs,
    Xfs,
    /// Only for the machines of boots: the tests' kernel may lack f2fs.
    #[allow(dead_code, reason = "other tests than boots have these files, too")]
    F2fs,
    /// No disk of its own, but a folder on a real one: needs no privilege, and cannot be filled or broken.
    Folder,
}

impl Fs {
    pub const REAL: [Self; 3] = [Self::Ext4, Self::Btrfs, Self::Xfs];

    /// The smallest disk its mkfs accepts, in MiB.
    fn least(self) -> u64 {
        match self {
            Self::Folder => 0,
            Self::Ext4 => 8,
            Self::Btrfs => 128,
            Self::Xfs => 300,
            Self::F2fs => 64,
        }
    }
}

/// A formatted disk.
#[derive(Debug)]
pub struct Disk {
    pub(super) fs: Fs,
    /// The loop device; the folder itself for [`Fs::Folder`].
    pub device: PathBuf,
    /// The backing file of the loop device.
    backing: Option<PathBuf>,
    /// Keeps the loop device, which the kernel releases with its last user.
    _held: Option<File>,
    mounted: RefCell<Vec<PathBuf>>,
}

impl Disk {
    /// A disk of so many MiB, or as small as the file system can be.
    pub fn new(fs: Fs, mib: u64) -> Self {
        Self::formatted(fs, mib, "")
    }

    /// A disk formatted with further words for mkfs, such as `-N 16` for few inodes.
    pub fn formatted(fs: Fs, mib: u64, words: &str) -> Self {
        let place = (0..99).map(|n| scratch().join(format!("disk{n}"))).find(|path| !path.exists()).unwrap();
        match fs {
            Fs::Folder => Self::folder(&place),
            _ => Self::image(&place, fs, mib, words),
        }
    }

    /// A folder, made at this place.
    pub fn folder(place: &Path) -> Self {
        fs::create_dir(place).unwrap();
        // A private mount of its own: mounts on a machine's store must not appear here.
        namespace::bind(place, place);
        namespace::propagate(place, MsFlags::MS_PRIVATE);
        Self { fs: Fs::Folder, device: place.into(), backing: None, _held: None, mounted: RefCell::default() }
    }

    /// A disk in an image file: in /tmp it is in memory, and fast.
    pub fn image(place: &Path, fs: Fs, mib: u64, words: &str) -> Self {
        let size = mib.max(fs.least()) << 20;
        let mkfs = match fs {
            Fs::Ext4 => "mkfs.ext4 -q -F -E nodiscard",
            Fs::Btrfs => "mkfs.btrfs -q -K",
            Fs::Xfs => "mkfs.xfs -q -K",
            Fs::F2fs | Fs::Folder => panic!("{fs:?} is no image"),
        };
        File::create_new(place).unwrap().set_len(size).unwrap();
        sh_on(format!("{mkfs} {words}"), &[place]);
        let device = sh_on("losetup --find --show", &[place]).trim().to_owned();
        let held = File::open(&device).unwrap();
        // Marks the device for removal after its last use, also if the test is killed.
        sh(format!("losetup --detach {device}"));
        let backing = Some(place.to_owned());
        Self { fs, device: device.into(), backing, _held: Some(held), mounted: RefCell::default() }
    }

    /// The backing file of the loop device.
    #[track_caller]
    pub fn backing(&self) -> &Path {
        self.backing.as_deref().expect("a folder has no medium of its own")
    }

    /// Mounts the disk, and creates a missing folder.
    #[track_caller]
    pub fn mount(&self, at: impl AsRef<Path>) {
        self.mount_with(at, "rw");
    }

    /// Mounts the disk with options of mount(8).
    #[track_caller]
    pub fn mount_with(&self, at: impl AsRef<Path>, options: &str) {
        let at = at.as_ref();
        fs::create_dir_all(at).unwrap();
        if self.fs == Fs::Folder && options == "rw" {
            namespace::bind(&self.device, at);
        } else {
            sh_on(format!("mount -o {},{options}", self.kind()), &[&self.device, at]);
        }
        self.mounted.borrow_mut().push(at.to_owned());
    }

    /// The first word of its mount options.
    fn kind(&self) -> &'static str {
        if self.fs == Fs::Folder { "bind" } else { "defaults" }
    }

    /// A change to the file system of a folder would hit the disk of the developer.
    #[track_caller]
    fn must_be_own(&self) {
        assert_ne!(self.fs, Fs::Folder, "a folder's disk is not to be harmed");
    }

    /// Unmounts the disk everywhere, and waits until the kernel has released it.
    #[track_caller]
    pub fn umount(&self) {
        for at in self.mounted.take().iter().rev() {
            // After a shutdown of a whole machine, its mounts are gone already.
            detach(at);
        }
        if self.fs == Fs::Folder {
            return;
        }
        for _ in 0..500 {
            // A mounted block device cannot be opened exclusively.
            match File::options()
                .read(true)
                .custom_flags(OFlags::EXCL.bits().cast_signed())
                .open(&self.device)
            {
                Ok(_) => return,
                Err(_) => sleep(Duration::from_millis(10)),
            }
        }
        panic!("{}: still mounted somewhere", self.device.display());
    }

    /// Takes all its space, down to the last block.
    #[track_caller]
    pub fn fill(&self) {
        self.must_be_own();
        self.visit(|root| {
            let file = File::create(root.join("filler")).unwrap();
            let (mut length, mut chunk) = (0, 1 << 28);
            while chunk >= 512 {
                match fallocate(&file, FallocateFlags::empty(), length, chunk) {
                    Ok(()) => length += chunk,
                    Err(Errno::NOSPC) => chunk /= 2,
                    Err(error) => panic!("fill: {error}"),
                }
            }
            file.sync_all().unwrap();
        });
    }

    /// Frees the space of [`Disk::fill`].
    pub fn unfill(&self) {
        self.visit(|root| fs::remove_file(root.join("filler")).unwrap());
    }

    /// Makes the mounted file system read-only, as an error on the disk does.
    #[track_caller]
    pub fn turn_read_only(&self) {
        self.must_be_own();
        let at = self.mounted.borrow().last().cloned().expect("not mounted");
        sh_on("mount -o remount,ro", &[&at]);
    }

    /// Shuts down the file system (ext4 and xfs): every access fails with EIO until the next mount.
    #[track_caller]
    pub fn shut_down(&self) {
        self.must_be_own();
        let at = self.mounted.borrow().last().cloned().expect("not mounted");
        sh_on("xfs_io -x -c shutdown", &[&at]);
    }

    /// Removes all files.
    pub fn erase(&self) {
        self.visit(|root| {
            for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    fs::remove_dir_all(path)
                } else {
                    fs::remove_file(path)
                }
                .unwrap();
            }
        });
    }

    /// Its content, below any mount.
    pub fn snapshot(&self) -> Snapshot {
        let mut taken = None;
        self.visit(|root| taken = Some(Snapshot::of(root)));
        taken.unwrap()
    }

    /// Mounts the disk at a place of its own and calls `look`: no other mount covers the files.
    pub fn visit(&self, look: impl FnOnce(&Path)) {
        if self.fs == Fs::Folder {
            return look(&self.device);
        }
        let at = Path::new("/tmp/visit");
        fs::create_dir_all(at).unwrap();
        // One file system cannot be mounted read-only here and writable there.
        let mount = |rw| line(format!("mount -o {},{rw}", self.kind()), &[&self.device, at]);
        assert!(
            ["rw", "ro"].iter().any(|rw| run(&mount(rw)).code == Some(0)),
            "{self:?}: cannot be mounted for a look"
        );
        look(at);
        umount2(at, MntFlags::empty()).unwrap();
    }
}

/// Unmounts everything at and below a folder, without waiting for its users.
pub fn detach(at: &Path) {
    loop {
        let mounts = mounts_below(at);
        if mounts.is_empty() {
            return;
        }
        // Most are unmounted with the mount below.
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        let gone = mounts.iter().filter(|mount| umount2(&mount.target, flags).is_ok()).count();
        assert!(gone > 0, "{mounts:?}");
    }
}
