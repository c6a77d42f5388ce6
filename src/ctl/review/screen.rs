//! The terminal: keys and lines. Plain text and the commonest sequences only, for serial consoles.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::state::{Key, Line};
use crate::text::problem::{Problem, Result};

/// So long is waited for the rest of a sequence: a lone Escape is a key, too.
const REST: Duration = Duration::from_millis(300);
/// The size for a terminal of unknown size, such as a serial console.
const USUAL: (usize, usize) = (80, 24);

/// An event on the terminal.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A key.
    Key(Key),
    /// The terminal has another size, or is to be drawn again.
    Resized,
    /// The terminal went away, or this program is to end.
    Gone,
}

/// The terminal on standard input and output, restored on drop.
pub struct Terminal {
    before: Termios,
    mask: SigSet,
    signals: SignalFd,
    typed: Vec<u8>,
    /// The visible lines.
    shown: Vec<Line>,
}

impl Terminal {
    /// Opens the terminal.
    ///
    /// # Errors There is no terminal, or it cannot address its lines.
    pub fn open() -> Result<Self> {
        let remedy = "answer by a file: --answers FILE";
        let none = |_| Problem::new("standard input and output are no terminal").remedy(remedy);
        let before = tcgetattr(io::stdin()).map_err(none)?;
        tcgetattr(output()).map_err(none)?;
        if std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty()) {
            return Err(Problem::new("the terminal is a dumb one, by TERM").remedy(remedy));
        }
        let failed = |errno: nix::errno::Errno| {
            Problem::os("waiting for signals", Errno::from_raw_os_error(errno as i32))
        };
        let mask = SigSet::from_iter([Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGWINCH]);
        mask.thread_block().map_err(failed)?;
        let signals =
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)
            .map_err(|errno| Problem::os("setting the terminal", errno))?;
        let this = Self { before, mask, signals, typed: Vec::new(), shown: Vec::new() };
        // Another screen, where the terminal has one, without a cursor.
        this.send("\x1b[?1049h\x1b[?25l\x1b[2J")
            .map_err(|error| Problem::io("writing to the terminal", &error))?;
        Ok(this)
    }

    /// Its width and height. One column stays free: a character in the last one may move to the next line.
    #[must_use]
    pub fn size() -> (usize, usize) {
        let size = tcgetwinsize(output()).map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
        let (width, height) = if size.0 == 0 || size.1 == 0 { USUAL } else { size };
        (width - 1, height)
    }

    /// Shows lines. Only changed ones are sent.
    ///
    /// # Errors The terminal does not accept output.
    pub fn show(&mut self, lines: Vec<Line>) -> io::Result<()> {
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            if self.shown.get(number) != Some(line) {
                let (on, off) = if line.selected { ("\x1b[7m", "\x1b[0m") } else { ("", "") };
                let place = format!("\x1b[{};1H", number + 1);
                text.extend([&place, on, &line.text, off, "\x1b[K"]);
            }
        }
        self.shown = lines;
        if text.is_empty() { Ok(()) } else { self.send(&text) }
    }

    /// Clears the screen: the next output sends all lines.
    pub fn clear(&mut self) -> io::Result<()> {
        self.shown.clear();
        self.send("\x1b[2J")
    }

    #[expect(clippy::unused_self, reason = "only who has the terminal writes to it")]
    fn send(&self, text: &str) -> io::Result<()> {
        let mut output = output().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    /// Waits for the next event.
    pub fn wait(&mut self) -> Event {
        let mut since = Instant::now();
        loop {
            let is_late = since.elapsed() >= REST;
            if let Some((key, length)) = decode(&self.typed, is_late) {
                self.typed.drain(..length);
                return Event::Key(key);
            }
            let left = (!self.typed.is_empty()).then(|| REST.saturating_sub(since.elapsed()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let (input, signals) = (io::stdin(), self.signals.as_fd());
            let mut ready =
                [PollFd::new(&input, PollFlags::IN), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
            match poll(&mut ready, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return Event::Gone,
            }
            let [is_typed, is_signal] = ready.map(|one| !one.revents().is_empty());
            if is_signal && let Ok(Some(signal)) = self.signals.read_signal() {
                let is_resized =
                    Signal::try_from(signal.ssi_signo.cast_signed()).is_ok_and(|it| it == Signal::SIGWINCH);
                return if is_resized { Event::Resized } else { Event::Gone };
            }
            if is_typed {
                let mut bytes = [0; 256];
                match rustix::io::read(io::stdin(), &mut bytes) {
                    Ok(0) => return Event::Gone,
                    Ok(length) => self.typed.extend_from_slice(&bytes[..length]),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(_) => return Event::Gone,
                }
                since = Instant::now();
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A closed terminal needs no reset.
        let _ = self.send("\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        // Unblocking blocked signals cannot fail.
        let _ = self.mask.thread_unblock();
    }
}

#[expect(clippy::disallowed_methods, reason = "lines that are escaped")]
fn output() -> io::Stdout {
    io::stdout()
}

/// The first typed key, and its number of bytes; none if more bytes must follow. After a timeout the bytes so far
/// count as complete.
fn decode(typed: &[u8], is_late: bool) -> Option<(Key, usize)> {
    let key = |byte: u8| match byte {
        b'\r' | b'\n' => Key::Enter,
        0x7f | 0x08 => Key::Backspace,
        0x03 => Key::Interrupt,
        // Clear screens of others know them so.
        _ => Key::Char(byte.into()),
    };
    match typed {
        [] => None,
        [0x1b] => is_late.then_some((Key::Escape, 1)),
        [0x1b, b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                return is_late.then_some((Key::Other, typed.len()));
            };
            // The Linux console sends `[[A` for F1.
            if rest[end] == b'[' {
                return (rest.len() > end + 1 || is_late).then_some((Key::Other, typed.len().min(end + 4)));
            }
            Some((sequence(&rest[..end], rest[end]), end + 3))
        }
        [0x1b, b'O'] => is_late.then_some((Key::Other, 2)),
        [0x1b, b'O', end, ..] => Some((sequence(b"", *end), 3)),
        [0x1b, ..] => Some((Key::Escape, 1)),
        [byte, ..] if byte.is_ascii() => Some((key(*byte), 1)),
        _ => {
            let end = typed.iter().position(u8::is_ascii).unwrap_or(typed.len());
            let chunk = typed[..end].utf8_chunks().next()?;
            if let Some(first) = chunk.valid().chars().next() {
                return Some((Key::Char(first), first.len_utf8()));
            }
            let is_cut = str::from_utf8(&typed[..end]).is_err_and(|error| error.error_len().is_none());
            let is_more = is_cut && end == typed.len() && !is_late;
            (!is_more).then_some((Key::Other, chunk.invalid().len()))
        }
    }
}

fn sequence(parameters: &[u8], end: u8) -> Key {
    match (parameters, end) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys() {
        for (bytes, key, length) in [
            (&b"k"[..], Key::Char('k'), 1),
            (b"\r", Key::Enter, 1),
            (b"\x03x", Key::Interrupt, 1),
            (b"\x1b[Ak", Key::Up, 3),
            (b"\x1bOB", Key::Down, 3),
            (b"\x1b[5~", Key::PageUp, 4),
            (b"\x1b[1;5C", Key::Right, 6),
            (b"\x1b[[Ax", Key::Other, 4),
            (b"\x1b[200~", Key::Other, 6),
            (b"\x1bx", Key::Escape, 1),
            (b"\xc3\xa9\xc3", Key::Char('\u{e9}'), 2),
            (b"\xffk", Key::Other, 1),
        ] {
            assert_eq!(decode(bytes, false), Some((key, length)), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\x1b", b"\x1b[", b"\x1b[1;", b"\x1bO", b"\xe4\xb8"] {
            assert_eq!(decode(bytes, false), None, "{bytes:?}");
            assert_eq!(
                decode(bytes, true).map(|(_, length)| length),
                (!bytes.is_empty()).then_some(bytes.len())
            );
        }
        assert_eq!(decode(b"\x1b", true), Some((Key::Escape, 1)));
    }
}
