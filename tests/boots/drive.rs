//! Disks in image files: attached while a machine runs, examined when the machine is off.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use rustix::fs::OFlags;

use crate::support::command::{sh, sh_on};
use crate::support::{Fs, scratch};

/// A disk with a file system whose label is its name.
#[derive(Debug, Clone)]
pub struct Drive {
    pub label: String,
    pub image: PathBuf,
    pub fs: Fs,
}

/// A disk attached to this kernel as a loop device, until the value is dropped and the device has no user.
#[derive(Debug)]
pub struct Attached {
    pub device: String,
    held: File,
}

impl Drive {
    /// An empty disk of so many MiB.
    pub fn new(label: &str, fs: Fs, mib: u64) -> Self {
        Self::formatted(label, fs, mib, "")
    }

    /// A disk formatted with further words for mkfs.
    pub fn formatted(label: &str, fs: Fs, mib: u64, words: &str) -> Self {
        let image = scratch().join(format!("{label}.img"));
        File::create_new(&image).unwrap().set_len(mib << 20).unwrap();
        let mkfs = match fs {
            Fs::Ext4 => "mkfs.ext4 -q -F -E nodiscard",
            Fs::Btrfs => "mkfs.btrfs -q -K",
            Fs::Xfs => "mkfs.xfs -q -K",
            Fs::F2fs => "mkfs.f2fs -q -f",
            Fs::Folder => panic!("a folder is no disk"),
        };
        let option = if fs == Fs::F2fs { "-l" } else { "-L" };
        sh_on(format!("{mkfs} {option} {label} {words}"), &[&image]);
        Self { label: label.into(), image, fs }
    }

    /// A copy of an image, with shared blocks (reflink) where the file system supports them.
    pub fn copy(label: &str, of: &Path, fs: Fs) -> Self {
        let image = (0..u32::MAX)
            .map(|n| scratch().join(format!("{label}.{n}.img")))
            .find(|path| !path.exists())
            .unwrap();
        sh_on("cp --sparse=always --reflink=auto", &[of, &image]);
        Self { label: label.into(), image, fs }
    }

    /// Attaches a loop device.
    pub fn attach(&self) -> Attached {
        attach(&self.image, "")
    }

    /// Its file system was unmounted properly, and has no errors.
    #[track_caller]
    pub fn is_clean(&self) -> &Self {
        let (check, look, dirty): (_, _, fn(&str) -> bool) = match self.fs {
            Fs::Ext4 => ("e2fsck -f -n", "dumpe2fs -h", |said| said.contains("needs_recovery")),
            Fs::Btrfs => ("btrfs check --readonly", "btrfs inspect-internal dump-super", |said| {
                !said.lines().any(|line| line.split_whitespace().eq(["log_root", "0"]))
            }),
            Fs::Xfs => ("xfs_repair -n", "xfs_logprint -t", |said| !said.contains("<CLEAN>")),
            Fs::F2fs => ("fsck.f2fs --dry-run", "dump.f2fs -d 1", |said| !said.contains("unmount")),
            Fs::Folder => panic!("a folder is no disk"),
        };
        sh_on(check, &[&self.image]);
        let said = sh_on(look, &[&self.image]);
        assert!(!dirty(&said), "{}: not unmounted\n{said}", self.label);
        self
    }

    /// Mounts the disk and calls `look`, while no machine uses the disk.
    pub fn visit<T>(&self, look: impl FnOnce(&Path) -> T) -> T {
        let at = Path::new("/tmp/visit");
        std::fs::create_dir_all(at).unwrap();
        sh_on("mount -o loop", &[&self.image, at]);
        let seen = look(at);
        umount2(at, MntFlags::empty()).unwrap();
        seen
    }
}

/// Makes an image a device of this kernel.
pub fn attach(image: &Path, words: &str) -> Attached {
    let device = sh_on(format!("losetup --find --show {words}"), &[image]).trim().to_owned();
    let held = File::open(&device).unwrap();
    // Marks the device for removal after its last use, also if the test is killed.
    sh(format!("losetup --detach {device}"));
    Attached { device, held }
}

impl Attached {
    /// Waits until no machine has the disk mounted.
    pub fn release(self) {
        for _ in 0..1000 {
            // A mounted block device cannot be opened exclusively.
            let exclusive = OFlags::EXCL.bits().cast_signed();
            if File::options().read(true).custom_flags(exclusive).open(&self.device).is_ok() {
                return drop(self.held);
            }
            sleep(Duration::from_millis(10));
        }
        panic!("{}: still mounted somewhere", self.device);
    }
}
