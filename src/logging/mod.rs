//! Destinations of log records: the journal, a terminal, or stderr and the log of the system; see sd-daemon(3) for `<N>`.
//!
//! A failed write of a record is ignored on purpose: no mount may fail or wait because of its log.

mod format;

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use syslog::Severity;

use crate::sys::walk;
use crate::text::escape;
use format::{journal_line, kernel_record, plain_line, severity, syslog_record};

/// Options of a log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The program's name.
    pub name: &'static str,
    /// Warnings and errors only; counts more than `verbose`.
    pub quiet: bool,
    /// Every step.
    pub verbose: bool,
    /// True if the log of the system is written to where stderr is neither the journal nor a terminal.
    pub system: bool,
}

/// Starts the log of this process; a second call changes nothing.
#[expect(clippy::disallowed_methods, reason = "every record is escaped")]
pub fn init(options: Options) {
    let stderr = io::stderr();
    let (style, system) = choose(stderr_is(&stderr), options.system, walk::exists("/etc/initrd-release"));
    let sink = Sink { name: options.name, level: options.level(), stderr, style, system: system.open() };
    log::set_max_level(sink.level);
    // An error means an existing logger.
    let _ = log::set_boxed_logger(Box::new(sink));
}

impl Options {
    fn level(self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Warn,
            (_, true) => LevelFilter::Debug,
            _ => LevelFilter::Info,
        }
    }
}

/// Receiver of stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stderr {
    Journal,
    Terminal,
    Other,
}

/// Form of a line on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `<N>text`; the journal knows the name.
    Journal,
    /// `name: warning: text`.
    Plain,
}

/// Which log of the system is written to as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SystemLog {
    None,
    /// /dev/kmsg: all there is in the initrd.
    Kernel,
    /// /dev/log.
    Syslog,
}

fn choose(stderr: Stderr, system: bool, initrd: bool) -> (Style, SystemLog) {
    match (stderr, system, initrd) {
        (Stderr::Journal, ..) => (Style::Journal, SystemLog::None),
        (Stderr::Terminal, ..) | (_, false, _) => (Style::Plain, SystemLog::None),
        (Stderr::Other, true, true) => (Style::Plain, SystemLog::Kernel),
        (Stderr::Other, true, false) => (Style::Plain, SystemLog::Syslog),
    }
}

fn stderr_is(stderr: &(impl AsFd + IsTerminal)) -> Stderr {
    if stderr.is_terminal() {
        return Stderr::Terminal;
    }
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    match fstat(stderr) {
        Ok(stat) if is_stream(&stream, stat.st_dev, stat.st_ino) => Stderr::Journal,
        _ => Stderr::Other,
    }
}

/// True if `JOURNAL_STREAM` names this file. Children with another stderr inherit the variable, so the variable alone
/// is no proof; see systemd.exec(5).
fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    variable == format!("{device}:{inode}")
}

/// The one sink.
struct Sink<E> {
    name: &'static str,
    level: LevelFilter,
    stderr: E,
    style: Style,
    system: Option<System>,
}

/// An open log of the system.
enum System {
    Kernel(OwnedFd),
    Syslog(UnixDatagram),
}

impl SystemLog {
    fn open(self) -> Option<System> {
        match self {
            Self::None => None,
            Self::Kernel => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                openat(CWD, "/dev/kmsg", flags, Mode::empty()).ok().map(System::Kernel)
            }
            Self::Syslog => syslog_at("/dev/log").ok().map(System::Syslog),
        }
    }
}

/// The syslog crate's own connection would block once its reader hangs.
fn syslog_at(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

impl System {
    fn write(&self, name: &str, severity: Severity, line: &str) {
        // Lost records: see the head of this file.
        let _ = match self {
            Self::Kernel(fd) => {
                rustix::io::write(fd, &kernel_record(name, severity, line)).map_err(io::Error::from)
            }
            Self::Syslog(socket) => socket.send(&syslog_record(name, severity, line)),
        };
    }
}

impl<E: Send + Sync> Log for Sink<E>
where
    for<'a> &'a E: Write,
{
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A line break in a name must not begin a record.
        let text = record.args().to_string();
        let line = escape::line(&text);
        let text = match self.style {
            Style::Journal => journal_line(record.level(), &line),
            Style::Plain => plain_line(self.name, record.level(), &line),
        };
        // A lost record: see the head of this file. One write keeps lines of several processes apart.
        let _ = (&self.stderr).write_all(text.as_bytes());
        if let Some(system) = &self.system {
            system.write(self.name, severity(record.level()), &line);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::{PipeReader, PipeWriter, Read};
    use std::time::{Duration, Instant};

    use log::Level;

    use super::*;

    fn sink(style: Style, system: Option<System>) -> (Sink<PipeWriter>, PipeReader) {
        let (reader, stderr) = io::pipe().unwrap();
        (Sink { name: "imp-mount", level: LevelFilter::Info, stderr, style, system }, reader)
    }

    fn log(sink: &impl Log, level: Level, text: &str) {
        sink.log(&Record::builder().level(level).args(format_args!("{text}")).build());
    }

    fn read_all<E>(sink: Sink<E>, mut reader: PipeReader) -> String {
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn one_sink_for_every_place() {
        for (initrd, system) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(choose(Stderr::Journal, system, initrd), (Style::Journal, SystemLog::None));
            assert_eq!(choose(Stderr::Terminal, system, initrd), (Style::Plain, SystemLog::None));
            assert_eq!(choose(Stderr::Other, false, initrd), (Style::Plain, SystemLog::None));
        }
        assert_eq!(choose(Stderr::Other, true, true), (Style::Plain, SystemLog::Kernel));
        assert_eq!(choose(Stderr::Other, true, false), (Style::Plain, SystemLog::Syslog));
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_stream("8:123456", 8, 123_456));
        assert!(!is_stream("8:123456", 8, 12_345) && !is_stream("", 0, 0) && !is_stream("8:1\n", 8, 1));
        let (_reader, writer) = io::pipe().unwrap();
        assert_eq!(stderr_is(&OwnedFd::from(writer)), Stderr::Other);
    }

    #[test]
    fn levels() {
        let level = |quiet, verbose| Options { name: "x", quiet, verbose, system: false }.level();
        assert_eq!(level(false, false), LevelFilter::Info);
        assert_eq!(
            (level(false, true), level(true, false), level(true, true)),
            (LevelFilter::Debug, LevelFilter::Warn, LevelFilter::Warn)
        );
    }

    #[test]
    fn every_line_says_how_bad_it_is() {
        let (sink, reader) = sink(Style::Journal, None);
        log(&sink, Level::Warn, "one");
        log(&sink, Level::Debug, "not asked for");
        log(&sink, Level::Error, "three");
        log(&sink, Level::Info, "four");
        assert_eq!(read_all(sink, reader), "<4>one\n<3>three\n<6>four\n");
    }

    #[test]
    fn plain_text_for_people() {
        let (sink, reader) = sink(Style::Plain, None);
        log(&sink, Level::Warn, "one\ntwo \u{1b}[31mred\r\t\0\u{9b}\u{202e} caf\u{e9}");
        log(&sink, Level::Info, "done");
        let text = read_all(sink, reader);
        assert_eq!(
            text,
            "imp-mount: warning: one\\ntwo \\u{1b}[31mred\\r\\t\\u{0}\\u{9b}\\u{202e} caf\u{e9}\nimp-mount: done\n"
        );
    }

    #[test]
    fn one_write_for_each_record() {
        // A datagram socket keeps the borders between writes, as /dev/kmsg does.
        let (kmsg, written) = UnixDatagram::pair().unwrap();
        let (sink, reader) = sink(Style::Plain, Some(System::Kernel(kmsg.into())));
        log(&sink, Level::Error, "one");
        log(&sink, Level::Error, "two");
        assert_eq!(read_all(sink, reader), "imp-mount: error: one\nimp-mount: error: two\n");
        for record in ["<27>imp-mount: one", "<27>imp-mount: two"] {
            let mut buffer = [0; 2000];
            let count = written.recv(&mut buffer).unwrap();
            assert_eq!(str::from_utf8(&buffer[..count]).unwrap(), record);
        }
    }

    #[test]
    fn the_syslog_of_the_running_system() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let (sink, _reader) = sink(Style::Plain, syslog_at(&path).ok().map(System::Syslog));
        log(&sink, Level::Error, "one");
        log(&sink, Level::Error, "two");
        for line in ["one", "two"] {
            let mut buffer = [0; 2000];
            let count = daemon.recv(&mut buffer).unwrap();
            let record = str::from_utf8(&buffer[..count]).unwrap();
            assert_eq!(record, format!("<27>imp-mount[{}]: {line}", std::process::id()));
        }
    }

    #[test]
    fn a_syslog_that_hangs_or_is_gone_holds_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert!(syslog_at(&path).is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        let (sink, _reader) = sink(Style::Plain, syslog_at(&path).ok().map(System::Syslog));
        let start = Instant::now();
        // More records than net.unix.max_dgram_qlen allows without a reader, and few enough for the pipe at stderr.
        for _ in 0..600 {
            log(&sink, Level::Error, "x");
        }
        drop(daemon);
        fs::remove_file(&path).unwrap();
        log(&sink, Level::Error, "x");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn a_stderr_that_is_gone_is_no_reason_to_fail() {
        let (sink, reader) = sink(Style::Plain, None);
        drop(reader);
        log(&sink, Level::Error, "x");
    }
}
