//! Files whose content the kernel reads while others are compared.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::Walk;
use super::found::{Found, State};
use crate::sys::walk::{self, Stat};
use crate::text::escape;
use crate::text::problem::{Problem, Result};
use crate::transfer::Name;
use crate::transfer::file::{Alike, Ignore};
use crate::transfer::level::{AHEAD, Held, To};

/// A file read ahead of the comparison of its content.
pub(super) struct Ahead {
    alike: Alike,
    from: (Rc<OwnedFd>, CString),
    stat: Stat,
    there: Stat,
    path: Vec<u8>,
}

impl Walk<'_, '_> {
    /// Compares all properties of a file except the content, and starts reading the content. False if no comparison is
    /// pending.
    pub(super) fn begins_ahead(&mut self, dir: &Held, from: Name<'_>, to: Option<To<'_>>) -> Result<bool> {
        let (true, Some(to), Some(dir)) = (self.transfer.ahead, to, dir.share()) else {
            return Ok(false);
        };
        let (Ok(stat), Ok(there)) = (walk::stat_at(from.0, from.1), walk::stat_at(to.name.0, to.name.1))
        else {
            return Ok(false);
        };
        let is_linked = stat.links() > 1 || there.links() > 1;
        if !stat.is_file() || stat.size() == 0 || is_linked || stat.mount_id() != self.mount {
            return Ok(false);
        }
        // Differences, and failures to compare, are found once more and reported then.
        let stat = self.transfer.copier.owners.of(stat);
        let ignore = Ignore { seals: to.private, owners: &self.transfer.copier.owners };
        let Ok(Ok(alike)) = Alike::new((from, &stat), (to.name, &there), ignore) else { return Ok(false) };
        alike.read_ahead();
        let from = (dir, from.1.to_owned());
        self.ahead.push_back(Ahead { alike, from, stat, there, path: self.path.clone() });
        if self.ahead.len() > AHEAD {
            self.ends_ahead()?;
        }
        Ok(true)
    }

    /// Compares the content of the longest waiting file. False without a waiting file.
    pub(super) fn ends_ahead(&mut self) -> Result<bool> {
        let Some(Ahead { alike, from, stat, there, path }) = self.ahead.pop_front() else { return Ok(false) };
        let compared = alike.finish(Some(self.progress), None);
        let failed = |errno| Problem::os(format!("cannot compare {}", escape::name(&path)), errno);
        let state = compared.map_err(failed)?.map_or(State::Same, State::Differs);
        let from = (from.0.as_fd(), from.1.as_c_str());
        let (there, linked, exposed, digest) = (Some(&there), false, false, None);
        let found = Found { path: &path, stat: &stat, there, state, linked, exposed, from, digest };
        (self.decide)(&found).map(|_| true)
    }
}
