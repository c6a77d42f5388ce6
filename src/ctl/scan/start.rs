//! Start of a walk: the requested path, unless left out as a whole.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dir::{Dir, Place, group, join, look, open};
use super::group::Group;
use super::{Fate, Named, Results, Scan};
use crate::ctl::system::outlives_a_boot;
use crate::manifest::AbsPath;
use crate::sys::mountinfo;
use crate::text::escape;
use crate::text::problem::{Problem, Result};

/// Opens the path to start from. None for a path left out as a whole, with the reason in the results.
pub fn start(scan: &Scan<'_>, path: &AbsPath, results: &Results) -> Result<Option<Dir>> {
    let shown =
        AbsPath::normal(&format!("{}{}", scan.prefix, path.as_str())).unwrap_or_else(|_| path.clone());
    let failed = |errno| Problem::os(format!("cannot look at {shown}"), errno);
    let elsewhere = |why: String| {
        results.with(|seen| seen.elsewhere = why);
        Ok(None)
    };
    let mut fd = open(scan.root, c".").map_err(failed)?;
    let mut stat = look(fd.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(failed)?;
    let mount = stat.stx_mnt_id;
    let (mut state, mut verdict) = scan.rules.start();
    let (mut throw_away, mut etc, mut only) = (false, false, None);
    let mut at = scan.prefix.as_bytes().to_vec();
    for name in path.components() {
        let above = (state, verdict);
        (state, verdict) = scan.rules.step(&above.0, name.as_bytes());
        throw_away = verdict.throw_away.unwrap_or(throw_away);
        if verdict.kept || verdict.system || (verdict.mounted && !scan.built) {
            let by = if verdict.system { "comes with the system" } else { "is kept by the manifest" };
            return elsewhere(format!("it {by}"));
        }
        let c_name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
        let child = look(fd.as_fd(), &c_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let is_mounted = child.stx_mnt_id != mount;
        let is_directory = FileType::from_raw_mode(child.stx_mode.into()) == FileType::Directory;
        if verdict.named && !is_directory && name == path.name() {
            let path = &join(at.clone(), name.as_bytes());
            let found = Named { path, dir: fd.as_fd(), name: &c_name, stat: &child };
            if is_mounted || (scan.named)(&found) == Fate::Kept {
                return elsewhere("it is kept by the manifest".to_owned());
            }
        }
        if is_mounted {
            return elsewhere(mounted(fd.as_fd(), &c_name));
        }
        if !is_directory {
            if name != path.name() {
                return Err(failed(Errno::NOTDIR));
            }
            (state, verdict) = above;
            only = Some(name.as_bytes().into());
            break;
        }
        at = join(at, name.as_bytes());
        etc |= at == b"/etc";
        fd = open(fd.as_fd(), &c_name).map_err(failed)?;
        stat = child;
    }
    if throw_away && !scan.all {
        return elsewhere("it is throw-away; --all shows it".to_owned());
    }
    let path = if at.is_empty() { b"/".to_vec() } else { at };
    let place = Place { path, parent: None, throw_away, etc, parts: scan.parts };
    let group = group(place, state, verdict, &stat);
    // The contents of the requested path are wanted in parts.
    let group = Arc::new(Group { shared: true, ..group });
    Ok(Some(Dir { fd, depth: 0, group, own: true, throw_away, mount, only }))
}

/// Warning for a name on another file system.
fn mounted(dir: BorrowedFd<'_>, name: &CStr) -> String {
    let fd = fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match fd.ok().and_then(|fd| mountinfo::of(fd.as_fd()).ok()) {
        None => "it is on another file system".to_owned(),
        Some(mount) if outlives_a_boot(&mount.fstype) => {
            format!("it is on another file system, {}", mount.shown())
        }
        Some(mount) => {
            let fstype = escape::name(&mount.fstype);
            format!("it is on a {fstype} of its own, which is empty after every boot")
        }
    }
}
