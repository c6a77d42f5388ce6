//! The copier: trees are copied with all attributes, in one step, on every file system.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use imp_mount::sys::attributes::{self, Unsupported};
use imp_mount::sys::walk;
use imp_mount::transfer::file::Copier;
use imp_mount::transfer::remove::remove;
use imp_mount::transfer::seals;
use imp_mount::transfer::staging::{self, Staging, Stagings};
use imp_mount::transfer::tree::{Choice, Found, State, Transfer};
use rustix::fs::{IFlags, Mode, OFlags, RenameFlags, XattrFlags, lsetxattr};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::command::sh_on;
use crate::support::look::{Snapshot, stat};
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs};

tests![
    a_tree_arrives_whole: Disk,
    a_mirror_follows_its_source: Disk,
    an_unfinished_tree_is_gone_on_with: Disk,
    no_depth_is_too_deep: Disk,
    inode_flags_arrive_last: Disk,
    default_acls_give_no_access: Disk,
    a_nested_subvolume: Disk,
    only_its_own_staging_directory: Disk,
];

const STORE: &str = "/tmp/store";

fn store(fs: Fs) -> Disk {
    let disk = Disk::new(fs, 128);
    disk.mount(STORE);
    disk
}

fn open(path: impl AsRef<Path>) -> OwnedFd {
    rustix::fs::open(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn at(path: &str) -> PathBuf {
    Path::new(STORE).join(path)
}

/// Transfers missing and different files of /tmp/from to a path on the store; returns the created paths.
fn transfer(to: &str) -> Vec<String> {
    rustix::process::umask(Mode::empty());
    let store = open(STORE);
    let (above, name) = to.rsplit_once('/').unwrap_or(("", to));
    let dir = open(at(above));
    let name = CString::new(name).unwrap();
    let mut stagings = Stagings::open(store.as_fd()).unwrap();
    let mut made = Vec::new();
    let mut transfer = Transfer {
        base: Some((store.as_fd(), to.as_bytes().to_vec())),
        stagings: Some(&mut stagings),
        times: true,
        ..Transfer::default()
    };
    let mut decide = |found: &Found<'_>| {
        if found.state == State::Same {
            return Ok(Choice::Pass);
        }
        made.push(imp_mount::text::escape::name(found.path).into_owned());
        Ok(Choice::Make)
    };
    let from = open("/tmp");
    transfer.run((from.as_fd(), c"from"), Some((dir.as_fd(), &name)), &mut decide, &mut |_| ()).unwrap();
    let seals = std::mem::take(&mut transfer.seals);
    drop(transfer);
    seals::set(store.as_fd(), &seals).unwrap();
    stagings.close().unwrap();
    made
}

fn a_tree_arrives_whole() {
    for fs in Fs::REAL {
        let disk = store(fs);
        let from = Path::new("/tmp/from");
        trees::make(from);
        let look = Look::of(from);
        transfer("to");
        assert_eq!(look.differences(&Look::of(&at("to"))), [] as [&str; 0], "{fs:?}");
        assert!(!at(".imp-mount").exists(), "an empty private directory is removed");
        let before = Snapshot::of(Path::new(STORE));
        assert_eq!(transfer("to"), [] as [&str; 0], "{fs:?}: a second transfer finds nothing to do");
        assert_eq!(before.news(&Snapshot::of(Path::new(STORE))), [] as [&str; 0]);
        // A hole is none of the 30 MiB.
        let blocks = |path: PathBuf| fs::metadata(path).unwrap().blocks();
        assert!(blocks(at("to/sparse")) <= blocks(from.join("sparse")) + 256, "{fs:?}");
        // A missing file in an existing directory.
        fs::remove_file(at("to/sub/large")).unwrap();
        assert_eq!(transfer("to"), ["sub/large"]);
        assert_eq!(look.differences(&Look::of(&at("to"))), [] as [&str; 0], "{fs:?}");
        sh_on("rm -rf", &[from]);
        disk.umount();
    }
}

fn a_mirror_follows_its_source() {
    let _disk = store(Fs::Ext4);
    let from = Path::new("/tmp/from");
    trees::make(from);
    let dir = open(STORE);
    let mirror = || {
        let mut stagings = Stagings::open(dir.as_fd()).unwrap();
        let place = stagings.main().dir().try_clone_to_owned().unwrap();
        let mut transfer = Transfer {
            base: Some((place.as_fd(), b"copy".to_vec())),
            stagings: Some(&mut stagings),
            mirror: true,
            times: true,
            read: true,
            ..Transfer::default()
        };
        let mut changed = 0;
        let mut decide = |found: &Found<'_>| {
            changed += usize::from(found.state != State::Same);
            Ok(if found.state == State::Same { Choice::Pass } else { Choice::Make })
        };
        let source = open("/tmp");
        let to = (place.as_fd(), c"copy");
        transfer.run((source.as_fd(), c"from"), Some(to), &mut decide, &mut |_| ()).unwrap();
        changed
    };
    assert!(mirror() > 20);
    assert_eq!(mirror(), 0);
    fs::write(from.join("plain"), "other").unwrap();
    fs::remove_file(from.join("owned")).unwrap();
    fs::remove_dir(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/empty"), "a file now").unwrap();
    assert!(mirror() > 0);
    let copy = at(".imp-mount/staging/copy");
    assert_eq!(Look::of(from).differences(&Look::of(&copy)), [] as [&str; 0]);
    assert_eq!(stat(at(".imp-mount")), (0o040_700, 0, 0));
}

fn an_unfinished_tree_is_gone_on_with() {
    let _disk = store(Fs::Ext4);
    let from = Path::new("/tmp/from");
    trees::make(from);
    transfer("to");
    // The state after a run killed in the middle of the tree.
    fs::create_dir_all(at(".imp-mount/staging")).unwrap();
    for dir in [".imp-mount", ".imp-mount/staging"] {
        fs::set_permissions(at(dir), fs::Permissions::from_mode(0o700)).unwrap();
    }
    lsetxattr(at(".imp-mount"), "trusted.imp-mount.private", b"", XattrFlags::empty()).unwrap();
    let key = staging::key(b"to");
    let staged = at(".imp-mount/staging").join(key.to_str().unwrap());
    fs::rename(at("to"), &staged).unwrap();
    fs::write(staged.join("plain"), "half").unwrap();
    fs::write(staged.join("surplus"), "").unwrap();
    fs::remove_file(staged.join("sub/large")).unwrap();
    let kept = fs::metadata(staged.join("secret")).unwrap().ino();
    transfer("to");
    assert_eq!(Look::of(from).differences(&Look::of(&at("to"))), [] as [&str; 0]);
    assert_eq!(fs::metadata(at("to/secret")).unwrap().ino(), kept, "a whole file is not copied again");
    assert!(!at(".imp-mount").exists());
}

fn no_depth_is_too_deep() {
    let _disk = store(Fs::Ext4);
    let from = Path::new("/tmp/from");
    trees::make_deep(from);
    let limit = getrlimit(Resource::Nofile);
    // More levels than descriptors.
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: limit.maximum }).unwrap();
    transfer("to");
    assert_eq!(transfer("to"), [] as [&str; 0]);
    let dir = open(STORE);
    remove((dir.as_fd(), c"to")).unwrap();
    assert!(!at("to").exists());
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn inode_flags_arrive_last() {
    for fs in [Fs::Ext4, Fs::Btrfs, Fs::Xfs] {
        let disk = store(fs);
        let other = Disk::new(Fs::Ext4, 16);
        other.mount("/tmp/from");
        fs::create_dir("/tmp/from/dir").unwrap();
        for name in ["dir/fixed", "log", "plain"] {
            fs::write(Path::new("/tmp/from").join(name), "x").unwrap();
        }
        sh_on("chattr +i", &[Path::new("/tmp/from/dir/fixed"), Path::new("/tmp/from/dir")]);
        sh_on("chattr +a", &[Path::new("/tmp/from/log")]);
        sh_on("chattr +d", &[Path::new("/tmp/from/plain")]);
        // The mount's own directory is not entered from above: its content goes one by one.
        fs::create_dir(at("to")).unwrap();
        for name in ["dir", "log", "plain"] {
            let (store, source) = (open(STORE), open("/tmp/from"));
            let (to, name) = (open(at("to")), CString::new(name).unwrap());
            let mut stagings = Stagings::open(store.as_fd()).unwrap();
            let path = [b"to/", name.as_bytes()].concat();
            let mut transfer = Transfer {
                base: Some((store.as_fd(), path)),
                stagings: Some(&mut stagings),
                ..Transfer::default()
            };
            let mut decide = |_: &Found<'_>| Ok(Choice::Make);
            let place = (to.as_fd(), name.as_c_str());
            transfer.run((source.as_fd(), &name), Some(place), &mut decide, &mut |_| ()).unwrap();
            seals::set(store.as_fd(), &std::mem::take(&mut transfer.seals)).unwrap();
        }
        let flags = |path: &Path| attributes::flags(File::open(path).unwrap().as_fd());
        for name in ["dir/fixed", "dir", "log", "plain"] {
            let wanted = flags(&Path::new("/tmp/from").join(name));
            let mut found = flags(&at("to").join(name));
            // XFS and btrfs have flags of their own, set by default.
            found = found.intersection(IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP);
            assert_eq!(found, wanted, "{fs:?}: {name}");
        }
        let top = open(STORE);
        remove((top.as_fd(), c"to")).unwrap();
        let source = open("/tmp/from");
        for name in [c"dir", c"log"] {
            remove((source.as_fd(), name)).unwrap();
        }
        drop(source);
        other.umount();
        drop(top);
        disk.umount();
    }
}

/// The owner of the directory cannot read a file of root:adm 0640, with any default ACL of the directory.
fn default_acls_give_no_access() {
    let _disk = store(Fs::Ext4);
    fs::write("/tmp/report", "secret").unwrap();
    chown("/tmp/report", Some(0), Some(4)).unwrap();
    fs::set_permissions("/tmp/report", fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(at("home")).unwrap();
    chown(at("home"), Some(1000), Some(1000)).unwrap();
    sh_on("setfacl -m u:1000:rwx -d -m u:1000:rwx", &[&at("home")]);
    sh_on("setfacl -m u:1000:rwx -d -m u:1000:rwx", &[Path::new(STORE)]);
    let (store, home, source) = (open(STORE), open(at("home")), open("/tmp"));
    let from = (source.as_fd(), c"report");
    let found = walk::stat_at(from.0, from.1).unwrap();
    let mut copier = Copier::new(Unsupported::Refuse);
    copier.place(from, &found, (home.as_fd(), c"placed")).unwrap();
    assert!(copier.place(from, &found, (home.as_fd(), c"placed")).is_err(), "a taken name");
    let staging = Staging::open(store.as_fd()).unwrap();
    let to = (home.as_fd(), c"put");
    copier.put(from, &found, to, &staging, RenameFlags::NOREPLACE).unwrap();
    for name in ["placed", "put"] {
        let acl = sh_on("getfacl --omit-header --numeric --absolute-names", &[&at("home").join(name)]);
        assert!(!acl.contains("user:1000"), "{name}: {acl}");
        assert_eq!(stat(at("home").join(name)), (0o100_640, 0, 4));
    }
    let acl = sh_on("getfacl --omit-header --numeric --absolute-names", &[&at(".imp-mount")]);
    assert!(!acl.contains("user:1000"), "{acl}");
}

/// rename(2) does not leave a subvolume.
fn a_nested_subvolume() {
    let _disk = store(Fs::Btrfs);
    sh_on("btrfs --quiet subvolume create", &[&at("home")]);
    fs::create_dir(at("home/u")).unwrap();
    trees::make(Path::new("/tmp/from"));
    transfer("home/u/to");
    assert_eq!(Look::of(Path::new("/tmp/from")).differences(&Look::of(&at("home/u/to"))), [] as [&str; 0]);
    assert!(!at("home/.imp-mount").exists() && !at(".imp-mount").exists());
}

/// A directory of this name is not used if another user owns or can enter it.
fn only_its_own_staging_directory() {
    let _disk = store(Fs::Ext4);
    let top = open(STORE);
    let opened = || Staging::open(top.as_fd()).map(drop);
    let private = at(".imp-mount");
    fs::write(&private, "").unwrap();
    assert!(opened().unwrap_err().to_string().contains("is not a directory that imp-mount created"));
    fs::remove_file(&private).unwrap();
    fs::create_dir(&private).unwrap();
    assert!(opened().unwrap_err().to_string().contains("only root can enter"), "mode 0755");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&private, Some(1000), Some(1000)).unwrap();
    assert!(opened().is_err(), "a user's");
    chown(&private, Some(0), Some(0)).unwrap();
    fs::write(private.join("data"), "").unwrap();
    assert!(opened().is_err(), "one that has content and no mark");
    fs::remove_file(private.join("data")).unwrap();
    opened().unwrap();
    std::os::unix::fs::symlink("/etc", private.join("staging2")).unwrap();
    opened().unwrap();
}
