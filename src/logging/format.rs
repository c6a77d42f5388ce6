//! Form of a record in each of the logs.

use log::Level;
use syslog::{Facility, Severity};

/// The longest record for /dev/kmsg in bytes: the kernel refuses more than its own line of about 1,000.
const KMSG_MAX: usize = 900;
/// End of a truncated record.
const CUT: &str = " [cut]";

/// Priority of a record, by syslog(3).
pub fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

/// A line for a stderr of the journal, which knows the name.
pub fn journal_line(level: Level, line: &str) -> String {
    format!("<{}>{line}\n", severity(level) as u8)
}

/// A line for people.
pub fn plain_line(name: &str, level: Level, line: &str) -> String {
    let word = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    };
    format!("{name}: {word}{line}\n")
}

/// A record for /dev/kmsg, truncated to the kernel's limit.
pub fn kernel_record(name: &str, severity: Severity, line: &str) -> Vec<u8> {
    let mut record = format!("<{}>{name}: {line}", Facility::LOG_DAEMON as u8 | severity as u8);
    if record.len() > KMSG_MAX {
        let fits = (0..=KMSG_MAX - CUT.len()).rev().find(|end| record.is_char_boundary(*end));
        record.truncate(fits.unwrap_or(0));
        record.push_str(CUT);
    }
    record.into_bytes()
}

/// A record for /dev/log: RFC 3164 without a time, which the receiver adds. The crate's own formatter would add its
/// calendar, 48 KB.
pub fn syslog_record(name: &str, severity: Severity, line: &str) -> Vec<u8> {
    let priority = Facility::LOG_DAEMON as u8 | severity as u8;
    format!("<{priority}>{name}[{}]: {line}", std::process::id()).into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_record_for_the_kernel_fits_its_line() {
        let record =
            |line: &str| String::from_utf8(kernel_record("imp-mount", Severity::LOG_WARNING, line)).unwrap();
        assert_eq!(record("x"), "<28>imp-mount: x");
        let long = record(&"\u{e9}".repeat(1000));
        assert!(long.len() <= 900 && long.len() > 890 && long.ends_with("\u{e9} [cut]"), "{long}");
        let fits = "x".repeat(900 - "<28>imp-mount: ".len());
        assert!(record(&fits).ends_with("xx"));
        assert!(record(&(fits + "x")).ends_with(" [cut]"));
    }
}
