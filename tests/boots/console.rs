//! Console output of a machine.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Said before anything of the system runs: `guest/activate`.
const ACTIVATED: &str = "running activation script";

/// The whole output of a machine, from start to end.
pub struct Console {
    pub text: String,
    pub took: Duration,
    timed_out: bool,
    raw: Vec<u8>,
    /// Number of bytes by time.
    times: Vec<(usize, Duration)>,
}

impl Console {
    /// Reads until the machine is off, or until the timeout. Types each line once, after its prompt and a pause without output:
    /// terminals may discard earlier input. Calls `meanwhile` repeatedly.
    pub fn read(
        mut from: File,
        machine: &mut Child,
        patience: Duration,
        typed: &[(String, String)],
        meanwhile: &mut dyn FnMut(),
    ) -> Self {
        let start = Instant::now();
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        let mut times = vec![];
        let mut timed_out = false;
        let (mut typed, mut heard) = (typed.iter(), 0);
        let (mut next, mut last) = (typed.next(), start);
        loop {
            if start.elapsed() > patience {
                timed_out = true;
                break;
            }
            let tick = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let ready =
                poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&tick)).is_ok_and(|ready| ready > 0);
            if ready {
                // The end of a terminal is an error, the end of a pipe is none.
                match from.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => {
                        bytes.extend(&chunk[..length]);
                        times.push((bytes.len(), start.elapsed()));
                    }
                }
                last = Instant::now();
            } else if machine.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            if let Some((after, line)) = next
                && last.elapsed() > Duration::from_millis(500)
                && String::from_utf8_lossy(&bytes[heard..]).contains(after.as_str())
            {
                heard = bytes.len();
                writeln!(from, "{line}").unwrap();
                next = typed.next();
            }
            meanwhile();
        }
        let _ = machine.kill();
        let _ = machine.wait();
        let text = plain(&String::from_utf8_lossy(&bytes));
        Self { text, took: start.elapsed(), timed_out, raw: bytes, times }
    }

    /// The machine ran to its end, and every check of the probe succeeded.
    #[track_caller]
    pub fn passed(self) -> Self {
        assert!(self.lines("PROBE ends").count() == 1, "the probe did not come to its end\n{self:?}");
        assert!(self.lines("PROBE ok ").count() > 0, "the probe looked at nothing\n{self:?}");
        self.lacks(&["PROBE FAILED", "EMERGENCY", "Failed unmounting"]).ended()
    }

    /// The boot was stopped in the emergency shell of the initrd, before anything of the system ran.
    #[track_caller]
    pub fn emergency(self) -> Self {
        self.lacks(&[ACTIVATED]).emergency_of_the_system()
    }

    /// The boot was stopped in the running system's emergency shell.
    #[track_caller]
    pub fn emergency_of_the_system(self) -> Self {
        assert!(self.text.contains("EMERGENCY ends"), "there was no emergency\n{self:?}");
        self.lacks(&["PROBE"]).ended()
    }

    /// The failure in the initrd was mended in the emergency shell, and the boot went on.
    #[track_caller]
    pub fn mended(self) -> Self {
        let before = self.text.split("EMERGENCY mended").next().unwrap_or_default();
        assert!(!before.contains(ACTIVATED), "something of the system ran before\n{self:?}");
        self.mended_on_the_system()
    }

    /// The same, for a failure on the running system.
    #[track_caller]
    pub fn mended_on_the_system(mut self) -> Self {
        let Some((before, after)) = self.text.split_once("EMERGENCY mended") else {
            panic!("it was not mended\n{self:?}");
        };
        assert!(!before.contains("PROBE"), "the system was started all the same\n{self:?}");
        self.text = String::from(after);
        self.passed()
    }

    /// The machine was off in time.
    #[track_caller]
    pub fn ended(self) -> Self {
        assert!(!self.timed_out, "the machine was not off in time\n{self:?}");
        self
    }

    /// All of these must have been said.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in\n{self:?}");
        }
        self
    }

    /// The text with wrapped lines joined: a line that begins with blanks continues the line above.
    pub fn unbroken(text: &str) -> String {
        let mut whole = String::new();
        for line in text.lines() {
            whole.push_str(if line.starts_with(' ') { " " } else { "\n" });
            whole.push_str(line.trim_start());
        }
        whole
    }

    /// Time from this line to its end.
    pub fn since(&self, word: &str) -> Duration {
        let place = self.raw.windows(word.len()).position(|bytes| bytes == word.as_bytes()).unwrap();
        let said = self.times.iter().find(|(length, _)| *length >= place + word.len()).unwrap().1;
        self.took.saturating_sub(said)
    }

    /// None of these may have been said.
    #[track_caller]
    pub fn lacks(self, words: &[&str]) -> Self {
        for word in words {
            assert!(!self.text.contains(word), "{word}\n{self:?}");
        }
        self
    }

    /// The probe's result for a name.
    pub fn told(&self, name: &str) -> Vec<&str> {
        let start = format!("TOLD {name}: ");
        self.text.lines().filter_map(|line| line.strip_prefix(start.as_str())).collect()
    }

    /// Text after a word at the beginning of lines.
    pub fn lines<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(start))
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- console, {:.1} s\n{}\n---", self.took.as_secs_f32(), self.text)
    }
}

/// The text without control sequences.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\r' => {}
            // A sequence ends with a letter, one with a string with the bell or a backslash.
            '\x1b' => match rest.next() {
                Some('[') => while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
                Some(']') => while rest.next().is_some_and(|c| c != '\x07' && c != '\\') {},
                Some('P') => while rest.next().is_some_and(|c| c != '\\') {},
                _ => {}
            },
            _ => plain.push(character),
        }
    }
    plain
}
