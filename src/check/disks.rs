//! The disks of the machine, for a missing store.

use serde::Serialize;

use crate::sys::mountinfo;
use crate::sys::walk;

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Disk {
    /// Its path below /dev.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    pub device: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its file system's type; empty where none was recognised.
    pub fstype: String,
    /// The file system's label.
    pub label: String,
    /// The file system's UUID.
    pub uuid: String,
    /// Its mount point; empty if not mounted.
    pub mounted: String,
    /// State in the superblock of an unmounted device: `clean`, `errors` or `not cleanly unmounted`; empty without a
    /// superblock; `not readable` without permission.
    #[cfg_attr(test, schemars(extend("enum" = ["", "clean", "errors", "not cleanly unmounted", "not readable"])))]
    pub state: String,
}

/// Every block device of /proc/partitions, except empty ones.
#[must_use]
pub fn all() -> Vec<Disk> {
    let text = walk::content_at("/proc/partitions", u64::MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mounts = mountinfo::all().unwrap_or_default();
    let disk = |(name, size): (&str, u64)| {
        let device = format!("/dev/{name}");
        let mut disk = look(&device, size);
        if let Some(mount) = mounts.iter().find(|mount| mount.source == device) {
            mount.point.clone_into(&mut disk.mounted);
            // Every file system in use has the mark of an unclean unmount.
            disk.state.clear();
        }
        disk
    };
    text.lines().skip(2).filter_map(partition).map(disk).collect()
}

/// Name and size in bytes.
fn partition(line: &str) -> Option<(&str, u64)> {
    let mut fields = line.split_whitespace().skip(2);
    let blocks: u64 = fields.next()?.parse().ok()?;
    Some((fields.next()?, blocks * 1024)).filter(|(_, size)| *size > 0)
}

fn look(device: &str, size: u64) -> Disk {
    // Both ext4 and XFS say everything in their first blocks, btrfs at 64 KiB.
    let mut head = vec![0_u8; 0x1_0000 + 4096];
    let read = walk::open_at(device).and_then(|disk| rustix::io::pread(disk, &mut head, 0));
    head.truncate(read.unwrap_or(0));
    let mut disk = describe(&head);
    if read.is_err() {
        "not readable".clone_into(&mut disk.state);
    }
    device.clone_into(&mut disk.device);
    disk.size = size;
    disk
}

/// Contents of the superblock of a device.
fn describe(head: &[u8]) -> Disk {
    let at = |from: usize, length: usize| head.get(from..from + length).unwrap_or_default();
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let (fstype, label, uuid, state) = if at(1024 + 56, 2) == [0x53, 0xef] {
        // ext4's superblock: s_state, s_feature_incompat.
        let state = match (at(1024 + 58, 1), at(1024 + 96, 1)) {
            ([state], _) if state & 2 != 0 => "errors",
            (_, [features]) if features & 4 != 0 => "not cleanly unmounted",
            ([state], _) if state & 1 != 0 => "clean",
            _ => "not cleanly unmounted",
        };
        ("ext4", text(at(1024 + 120, 16)), at(1024 + 104, 16), state)
    } else if at(0x1_0040, 8) == b"_BHRfS_M" {
        ("btrfs", text(at(0x1_0000 + 0x12b, 256)), at(0x1_0020, 16), "")
    } else if at(0, 4) == b"XFSB" {
        ("xfs", text(at(108, 12)), at(32, 16), "")
    } else {
        ("", String::new(), &[][..], "")
    };
    Disk {
        device: String::new(),
        size: 0,
        mounted: String::new(),
        fstype: fstype.to_owned(),
        label,
        uuid: uuid_text(uuid),
        state: state.to_owned(),
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    let hex = |byte: &u8| format!("{byte:02x}");
    let groups = [0..4, 4..6, 6..8, 8..10, 10..16];
    let texts =
        groups.into_iter().filter_map(|range| Some(bytes.get(range)?.iter().map(hex).collect::<String>()));
    texts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_partitions() {
        assert_eq!(partition(" 259        1  52428800 nvme0n1p1"), Some(("nvme0n1p1", 53_687_091_200)));
        assert_eq!(partition(" 7 0 0 loop0"), None);
        assert_eq!(partition(""), None);
    }

    #[test]
    fn a_cut_off_device_is_no_panic() {
        for length in [0, 1, 1080, 1100, 0x1_0000] {
            assert_eq!(describe(&vec![0; length]).fstype, "");
        }
        let mut head = vec![0; 1082];
        head[1080..].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(describe(&head).fstype, "ext4");
    }
}
