//! Sizes for people.

/// A size in bytes: powers of 1024, rounded up, in the form of du(1), ls(1) and df(1) with -h. Below 1024 with a B at
/// the end, to distinguish sizes from numbers of files in a sentence.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return if bytes == 0 { "0".to_owned() } else { format!("{bytes}B") };
    }
    let mut unit = 1024_u64;
    for (index, letter) in UNITS.iter().enumerate() {
        let tenths = (bytes / unit) * 10 + ((bytes % unit) * 10).div_ceil(unit);
        if tenths < 100 {
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
        let whole = bytes.div_ceil(unit);
        if whole < 1024 || index + 1 == UNITS.len() {
            return format!("{whole}{letter}");
        }
        unit *= 1024;
    }
    unreachable!("the last unit takes all that is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_du_but_bytes_have_a_unit() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 * 1024 - 1, "10K"),
            (1024 * 1024 - 1, "1.0M"),
            (1 << 30, "1.0G"),
            ((10 << 60) - 1, "10E"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
