//! Root and stores, as the places where user and group files are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ids::{Files, Place};
use crate::sys::walk::{self, Mounts};
use crate::text::problem::{Problem, Result};

/// Files in which names are looked up.
pub struct Bases {
    root: OwnedFd,
    stores: Vec<Option<OwnedFd>>,
}

impl Bases {
    /// The base directories of a root and its stores; none for a store that cannot be opened. Left out stores are
    /// unknown.
    pub fn of<'f>(
        root: BorrowedFd<'f>,
        stores: impl IntoIterator<Item = Option<BorrowedFd<'f>>>,
    ) -> Result<Self> {
        let again = |fd: BorrowedFd<'_>| {
            walk::duplicate(fd).map_err(|errno| Problem::os("cannot keep a directory open", errno))
        };
        let stores = stores.into_iter().map(|store| store.map(again).transpose()).collect::<Result<_>>()?;
        Ok(Self { root: again(root)?, stores })
    }
}

impl Files for Bases {
    fn open(&self, place: &Place) -> Result<Option<OwnedFd>> {
        let (base, path, mounts) = match place {
            Place::Live(path) => (Some(&self.root), path, Mounts::Enter),
            Place::Store(store, path) => {
                (self.stores.get(usize::from(*store)).and_then(Option::as_ref), path, Mounts::Stay)
            }
        };
        let Some(base) = base else { return Ok(None) };
        match walk::open_below(base.as_fd(), path, OFlags::RDONLY, mounts) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno @ Errno::LOOP) => Err(Problem::new(
                "is, or lies behind, a symbolic link, so it is ignored",
            )
            .caused_by(errno)
            .remedy("find out who put it there and move it away; it is written anew at the next activation")),
            Err(errno) => Err(Problem::os("cannot open it", errno)),
        }
    }
}
