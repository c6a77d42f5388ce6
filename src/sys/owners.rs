//! Owners of copies: other ids than the source's, if the name has another id on the destination's system.

use super::walk::Stat;

/// An id never given to a copy: no system gives this id to a user or group.
pub const UNKNOWN: u32 = u32::MAX - 1;

/// Tags of ACL entries with an id of a user or group: `ACL_USER` and `ACL_GROUP` of acl(5).
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
/// The version of ACLs in extended attributes.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// Changed ids, by those of the source. All others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Users, in order.
    pub users: Vec<(u32, u32)>,
    /// Groups, in order.
    pub groups: Vec<(u32, u32)>,
}

impl Owners {
    /// Every id stays.
    pub const SAME: &'static Self = &Self { users: Vec::new(), groups: Vec::new() };

    /// True if every id stays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// The properties of a file, with the owner of its copy.
    #[must_use]
    pub fn of(&self, stat: Stat) -> Stat {
        if self.is_empty() {
            return stat;
        }
        stat.owned_by(changed(&self.users, stat.uid()), changed(&self.groups, stat.gid()))
    }

    /// An ACL for the copy: the value of `system.posix_acl_access` or `system.posix_acl_default`.
    pub fn change_acl(&self, acl: &mut [u8]) {
        if self.is_empty() || !acl.starts_with(&VERSION) {
            return;
        }
        let (entries, _) = acl[VERSION.len()..].as_chunks_mut::<8>();
        for [tag @ .., _, _, a, b, c, d] in entries {
            let ids = match u16::from_le_bytes(*tag) {
                USER => &self.users,
                GROUP => &self.groups,
                _ => continue,
            };
            [*a, *b, *c, *d] = changed(ids, u32::from_le_bytes([*a, *b, *c, *d])).to_le_bytes();
        }
    }
}

fn changed(ids: &[(u32, u32)], id: u32) -> u32 {
    ids.binary_search_by_key(&id, |(from, _)| *from).map_or(id, |at| ids[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_an_acl() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[6, 0], &id.to_le_bytes()].concat();
        let acl = |entries: &[(u16, u32)]| {
            let entries = entries.iter().flat_map(|(tag, id)| entry(*tag, *id));
            VERSION.into_iter().chain(entries).collect::<Vec<_>>()
        };
        let owners = Owners { users: [(7, 8), (9, UNKNOWN)].into(), groups: [(7, 10)].into() };
        let none = u32::MAX;
        let mut changed =
            acl(&[(1, none), (USER, 7), (USER, 9), (USER, 11), (4, none), (GROUP, 7), (0x10, none)]);
        owners.change_acl(&mut changed);
        assert_eq!(
            changed,
            acl(&[(1, none), (USER, 8), (USER, UNKNOWN), (USER, 11), (4, none), (GROUP, 10), (0x10, none)])
        );
        let mut other = [&[3, 0, 0, 0][..], &entry(USER, 7)].concat();
        let before = other.clone();
        owners.change_acl(&mut other);
        assert_eq!(other, before);
    }
}
