//! Mount options, in mount(8)'s and fstab(5)'s words.

use serde::{Deserialize, Serialize};

/// The options of a bind mount, on any file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BindOptions(u16);

impl BindOptions {
    /// Nothing set.
    pub const NONE: Self = Self(0);
    /// `ro`: no writes through this mount.
    pub const RO: Self = Self(1);
    /// `nosuid`: setuid bits and file capabilities are ignored.
    pub const NOSUID: Self = Self(1 << 1);
    /// `nodev`: device files cannot be opened.
    pub const NODEV: Self = Self(1 << 2);
    /// `noexec`: nothing can be executed.
    pub const NOEXEC: Self = Self(1 << 3);
    /// `noatime`: reading does not touch access times.
    pub const NOATIME: Self = Self(1 << 4);
    /// `strictatime`: every reading touches the access time.
    pub const STRICTATIME: Self = Self(1 << 5);
    /// `nodiratime`: the same as `noatime`, for directories only.
    pub const NODIRATIME: Self = Self(1 << 6);
    /// `nosymfollow`: symbolic links on the mount are not followed (Linux 5.10).
    pub const NOSYMFOLLOW: Self = Self(1 << 7);

    /// Every option with its name and its opposite, in the order in which they are printed.
    const NAMES: [(Self, &'static str, &'static str); 8] = [
        (Self::RO, "ro", "rw"),
        (Self::NOSUID, "nosuid", "suid"),
        (Self::NODEV, "nodev", "dev"),
        (Self::NOEXEC, "noexec", "exec"),
        (Self::NOATIME, "noatime", "relatime"),
        (Self::STRICTATIME, "strictatime", "relatime"),
        (Self::NODIRATIME, "nodiratime", "diratime"),
        (Self::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];

    /// Default options of an entry's mount.
    pub const DEFAULT: Self = Self(Self::NOSUID.0 | Self::NODEV.0);

    /// True if every option of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The options of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These options less those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Applies one option by name; false for an unknown one.
    pub fn apply(&mut self, name: &str) -> bool {
        if matches!(name, "defaults" | "bind" | "rbind") {
            return true;
        }
        let mut known = false;
        for (option, on, off) in Self::NAMES {
            if name == on {
                // The three ways of keeping access times exclude each other.
                if option == Self::NOATIME || option == Self::STRICTATIME {
                    self.0 &= !(Self::NOATIME.0 | Self::STRICTATIME.0);
                }
                self.0 |= option.0;
                return true;
            }
            if name == off {
                self.0 &= !option.0;
                known = true;
            }
        }
        known
    }

    /// The names of set options.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter_map(move |(option, name, _)| self.has(option).then_some(name))
    }

    /// The words from [`BindOptions::DEFAULT`] to these options.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter_map(move |(option, on, off)| {
            match (self.has(option), Self::DEFAULT.has(option)) {
                (true, false) => Some(on),
                (false, true) => Some(off),
                _ => None,
            }
        })
    }

    /// Every word with an effect, each option before its opposite.
    pub fn words_known() -> impl Iterator<Item = &'static str> {
        let words = Self::NAMES.into_iter().flat_map(|(option, on, off)| {
            // The opposite of the first two ways of keeping access times is the same.
            [Some(on), (option != Self::STRICTATIME).then_some(off)]
        });
        words.flatten()
    }

    /// True if this version knows the bits.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.0 < 1 << Self::NAMES.len()
    }
}

/// A file system's mount options, parted as the kernel wants them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SplitOptions<'a> {
    /// Options of the mount, for any file system.
    pub mount: Option<BindOptions>,
    /// Options of the file system: a name, and a value if there is one.
    pub filesystem: Vec<(&'a str, Option<&'a str>)>,
}

/// Splits the options of fstab(5) by recipient: mount, file system, or only mount(8), systemd and desktops (`x-…`,
/// `nofail`, `_netdev`, `comment=`); the last are dropped. One text may have several, separated by commas.
pub fn split(options: &[String]) -> SplitOptions<'_> {
    let mut split_options = SplitOptions::default();
    let mut mount = BindOptions::NONE;
    for option in options.iter().flat_map(|text| text.split(',')).map(str::trim) {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let for_others = name.is_empty()
            || name.starts_with("x-")
            || name.starts_with("X-")
            || matches!(
                name,
                "auto" | "noauto" | "nofail" | "user" | "nouser" | "_netdev" | "comment" | "group"
            );
        if for_others {
            continue;
        }
        if value.is_none() && mount.apply(name) {
            split_options.mount = Some(mount);
        }
        // Both the mount and the file system can be read-only, and only the file system itself is a whole store.
        if value.is_some() || name == "ro" || !BindOptions::NONE.clone().apply(name) {
            split_options.filesystem.push((name, value));
        }
    }
    split_options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_printed() {
        let mut options = BindOptions::DEFAULT;
        for word in ["suid", "noexec", "noatime", "strictatime", "ro"] {
            assert!(options.apply(word), "{word}");
        }
        assert!(!options.apply("subvol"));
        assert_eq!(options.names().collect::<Vec<_>>(), ["ro", "nodev", "noexec", "strictatime"]);
        let mut again = BindOptions::DEFAULT;
        assert!(options.words().all(|word| again.apply(word)));
        assert_eq!(again, options);
    }

    #[test]
    fn options_are_parted() {
        let options =
            ["subvol=@persist,compress=zstd".to_owned(), "noatime".to_owned(), "x-initrd.mount".to_owned()];
        let split_options = split(&options);
        assert_eq!(split_options.mount, Some(BindOptions::NOATIME));
        assert_eq!(split_options.filesystem, [("subvol", Some("@persist")), ("compress", Some("zstd"))]);
        assert_eq!(split(&["ro".to_owned()]).filesystem, [("ro", None)]);
        assert_eq!(split(&["defaults".to_owned()]).filesystem, []);
    }
}
