//! Devices, named as in fstab(5).

use std::fmt::Write;

/// The path of a device named as in fstab(5). The links of udev(7) stand for tags.
#[must_use]
pub fn device_path(device: &str) -> String {
    let tags = [
        ("UUID=", "by-uuid"),
        ("LABEL=", "by-label"),
        ("PARTUUID=", "by-partuuid"),
        ("PARTLABEL=", "by-partlabel"),
    ];
    for (tag, folder) in tags {
        if let Some(value) = device.strip_prefix(tag) {
            return format!("/dev/disk/{folder}/{}", udev_escape(value.trim_matches('"')));
        }
    }
    device.to_owned()
}

/// udev(7) writes unusual characters of a name as `\x20`.
fn udev_escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            text.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{:02x}", c as u32);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_links_of_udev() {
        assert_eq!(device_path("/dev/vda2"), "/dev/vda2");
        assert_eq!(device_path("LABEL=my disk"), "/dev/disk/by-label/my\\x20disk");
        assert_eq!(device_path("UUID=\"0a-1b\""), "/dev/disk/by-uuid/0a-1b");
    }
}
