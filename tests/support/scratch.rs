//! A folder on a real disk for each test, and none left behind: not by a killed one either.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use super::run;

/// Tells the inner process where its scratch folder is.
pub const SCRATCH: &str = "IMP_MOUNT_TEST_SCRATCH";

/// The folder of this test, removed after the test. Images belong here; other files fit into /tmp, a tmpfs.
pub fn scratch() -> PathBuf {
    env::var_os(SCRATCH).expect("tests run inside").into()
}

/// A folder with the lifetime of this value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder of the test `name`.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = home().join(format!("{}.{}", name.replace("::", "-"), process::id()));
        // Left by a killed process of the same id.
        if path.exists() {
            remove(&path);
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the remains of killed runs: folders without their process, and loop devices not yet marked.
pub fn sweep() {
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let image = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        let folder = Path::new(&image).strip_prefix(home()).ok().and_then(|below| below.iter().next());
        if folder.is_some_and(is_stale) {
            run(&[
                "losetup".as_ref(),
                "--detach".as_ref(),
                Path::new("/dev").join(device.file_name()).as_os_str(),
            ]);
        }
    }
    for entry in fs::read_dir(home()).into_iter().flatten().flatten() {
        if is_stale(&entry.file_name()) {
            remove(&entry.path());
        }
    }
}

/// True if the process in a folder's name is gone.
fn is_stale(folder: &OsStr) -> bool {
    let pid = Path::new(folder).extension().unwrap_or_default();
    !Path::new("/proc").join(pid).join("exe").exists()
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("mounts")
}

fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    // Unfinished files of a run have mode 000, which keeps out their owner, too.
    run(&["chmod".as_ref(), "--recursive".as_ref(), "u+rwx".as_ref(), path.as_os_str()]);
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("{}: left behind: {error}", path.display());
    }
}
