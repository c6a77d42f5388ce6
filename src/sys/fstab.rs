//! fstab(5): devices and their mount points.

/// The files: the running system's, and the initrd's.
const FILES: [&str; 3] = ["/etc/fstab", "/etc/initrd-fstab", "/sysroot/etc/fstab"];
/// systemd reads another file in an initrd when this variable names one.
const VARIABLE: &str = "SYSTEMD_SYSROOT_FSTAB";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The device, or another source.
    pub device: String,
    /// Mount point.
    pub point: String,
}

/// Every line of every existing file.
#[must_use]
pub fn all() -> Vec<Line> {
    let named = std::env::var(VARIABLE).ok();
    let texts = FILES
        .into_iter()
        .chain(named.as_deref())
        .filter_map(|file| String::from_utf8(crate::sys::walk::content_at(file, u64::MAX).ok()?).ok());
    texts.flat_map(|text| parse(&text).collect::<Vec<_>>()).collect()
}

fn parse(text: &str) -> impl Iterator<Item = Line> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some(Line {
            device: crate::sys::mountinfo::unescape(fields.next()?),
            point: crate::sys::mountinfo::unescape(fields.next()?),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_comments() {
        let text =
            "# a comment\n\nLABEL=my\\040disk /srv/my\\040media ext4 defaults 0 2\n  tmpfs\t/\ttmpfs\nodd\n";
        let lines: Vec<_> = parse(text).map(|line| (line.device, line.point)).collect();
        let expected = [("LABEL=my disk", "/srv/my media"), ("tmpfs", "/")];
        assert_eq!(lines, expected.map(|(device, point)| (device.to_owned(), point.to_owned())));
    }
}
