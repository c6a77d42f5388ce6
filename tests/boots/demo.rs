//! A machine to try: it boots on the terminal, and opens a shell on the tmpfs root. tests/demo starts the machine, and docs/record records
//! the picture.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::boot::Boot;
use crate::computer::{Computer, On, Running};
use crate::old_roots;
use crate::record::{self, Said};

tests![play: Asked, a_visit];

/// This test.
pub const NAME: &str = "demo::play";
/// Typed where there is no terminal: in the first boot, and in the one after the reboot.
const LINES: [&str; 10] = [
    "findmnt --real --output TARGET,SOURCE,FSTYPE",
    "touch /home/alice/.config/kept /home/alice/lost",
    "impctl lost /home",
    "reboot",
    "ls -A /home/alice /home/alice/.config",
    "imp-mount --check",
    "impctl roots",
    "impctl recover /home/alice/lost",
    "ls -A /home/alice",
    "exit",
];
/// A file for the picture of such a visit.
const PICTURE: &str = "IMP_MOUNT_DEMO_PICTURE";
/// The picture in README.
const RECORDED: &str = include_str!("../../docs/demo.svg");
/// The shell's prompt.
const PROMPT: &str = "demo# ";
/// Interval of passing on the terminal's size: SIGWINCH would need a handler.
const RESIZED: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// A machine without output for this time has stopped.
const PATIENCE: Duration = Duration::from_secs(120);

/// The machine.
fn boot() -> Boot {
    let manifest = include_str!("../demo.json").parse().expect("it is JSON");
    let boot = Boot::new(&manifest)
        .without("/")
        .late()
        .with_impctl()
        .cmdline("systemd.show_status=true")
        .in_etc("systemd/system/probe.service", UNIT)
        .in_etc("demo", include_str!("guest/demo"));
    old_roots::with_units(boot)
}

fn play() {
    let raw = Raw::new();
    if raw.is_none() {
        return visit();
    }
    let (computer, boot) = (Computer::new(On::Here), boot());
    loop {
        let mut machine = computer.start(&boot);
        if !relay(&mut machine) || !is_reboot(machine.off()) {
            return;
        }
    }
}

/// Types the commands of the demonstration.
fn visit() {
    let said = typed(|text| print!("{text}"));
    if let Some(file) = std::env::var_os(PICTURE) {
        fs::write(file, draw(&said)).unwrap();
    }
}

/// The commands succeed, and the picture in README shows them.
fn a_visit() {
    let picture = draw(&typed(|_| ()));
    let shown = |picture: &str| {
        // A message of systemd may come after a prompt.
        let mut commands = record::commands(picture, PROMPT.trim_end());
        commands.retain(|command| LINES.contains(&command.as_str()));
        commands
    };
    assert_eq!(shown(&picture), LINES[..LINES.len() - 1]);
    assert_eq!(shown(RECORDED), shown(&picture), "docs/record makes it again");
}

/// The picture of a session up to the last prompt.
fn draw(said: &Said) -> String {
    let all: String = said.iter().map(|(_, text)| text.as_str()).collect();
    let last = format!("{PROMPT}{}", LINES[LINES.len() - 1]);
    let mut left = all.rfind(&last).map_or(all.len(), |at| at + PROMPT.len());
    let mut shown = Said::new();
    for (time, text) in said {
        // A chunk may begin before the last prompt, and end after it.
        let end = left.min(text.len());
        shown.push((*time, text[..end].to_owned()));
        left -= end;
    }
    let title = "A machine boots with a root in memory, loses a file at a reboot, and brings it back";
    record::picture(&shown, (PROMPT, &LINES), title)
}

/// The visit to a machine, over two boots.
fn typed(mut show: impl FnMut(&str)) -> Said {
    let (computer, boot) = (Computer::new(On::Here), boot());
    let (mut lines, mut said, start) = (LINES.iter(), Said::new(), Instant::now());
    loop {
        let mut machine = computer.start(&boot);
        type_lines(&mut machine, &mut lines, |text| {
            show(&text);
            said.push((start.elapsed(), text));
        });
        if !is_reboot(machine.off()) {
            break;
        }
    }
    let all: String = said.iter().map(|(_, text)| text.as_str()).collect();
    let after = |line: &str| {
        all.rsplit(line).next().unwrap_or_default().split(PROMPT).next().unwrap_or_default().to_owned()
    };
    assert!(lines.next().is_none(), "{all}");
    let (before, recovered) = (after(LINES[4]), after(LINES[8]));
    assert!(before.contains("kept") && !before.contains("lost"), "{all}");
    assert!(recovered.contains("lost"), "{all}");
    said
}

/// PID 1 of a namespace dies of one signal at a reboot and of another one at a poweroff.
fn is_reboot(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::HUP.as_raw())
}

/// Relays input and output until the machine is off. False if the terminal closes before.
fn relay(machine: &mut Running) -> bool {
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    let mut chunk = [0; 4096];
    let mut size = None;
    loop {
        pass_on_size(&machine.terminal, &mut size);
        let mut ready = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&machine.terminal, PollFlags::IN)];
        poll(&mut ready, Some(&RESIZED)).unwrap();
        let [typed, told] = ready.map(|one| !one.revents().is_empty());
        if told {
            match machine.terminal.read(&mut chunk) {
                Ok(0) | Err(_) => return true,
                Ok(length) => {
                    if stdout.write_all(&chunk[..length]).and_then(|()| stdout.flush()).is_err() {
                        return false;
                    }
                }
            }
        }
        if typed {
            match stdin.read(&mut chunk) {
                Ok(0) | Err(_) => return false,
                Ok(length) => machine.terminal.write_all(&chunk[..length]).unwrap(),
            }
        }
    }
}

/// Sets the size of the machine's terminal to the size of this one, if changed.
fn pass_on_size(terminal: &File, last: &mut Option<Winsize>) {
    let now = tcgetwinsize(io::stdout()).ok();
    if let Some(size) = now
        && last.is_none_or(|last| (last.ws_row, last.ws_col) != (size.ws_row, size.ws_col))
    {
        tcsetwinsize(terminal, size).unwrap();
        *last = now;
    }
}

/// Types a line at each prompt, and passes the output to `tell` until the machine is off.
fn type_lines<'a>(
    machine: &mut Running,
    lines: &mut impl Iterator<Item = &'a &'a str>,
    mut tell: impl FnMut(String),
) {
    let (mut said, mut answered) = (String::new(), 0);
    let mut chunk = [0; 4096];
    let mut terminal: &File = &machine.terminal;
    let size = Winsize { ws_row: 24, ws_col: record::COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
    let mut last = Instant::now();
    loop {
        // A shell discards input from before its first read.
        let quiet = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
        if poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&quiet)).unwrap() == 0 {
            // A message of systemd may come after the prompt.
            if said[answered..].contains(PROMPT)
                && let Some(line) = lines.next()
            {
                answered = said.len();
                writeln!(terminal, "{line}").unwrap();
            }
            assert!(last.elapsed() < PATIENCE, "the machine says nothing more:\n{said}");
            continue;
        }
        last = Instant::now();
        let Ok(length @ 1..) = terminal.read(&mut chunk) else { return };
        let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
        said.push_str(&text);
        tell(text);
    }
}

/// The user's terminal, every key of which goes to the machine, until this is dropped.
struct Raw(Termios);

impl Raw {
    /// None without a terminal.
    fn new() -> Option<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(io::stdin()).unwrap();
        let mut modes = before.clone();
        cfmakeraw(&mut modes);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &modes).unwrap();
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

const UNIT: &str = "[Unit]
Description=A Shell to Play With
After=multi-user.target
[Service]
# Once all others have started, so that the shell's prompt is the last line.
Type=idle
ExecStart=/bin/bash /etc/demo
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
Environment=HOME=/root TERM=linux
WorkingDirectory=/root
# An interactive shell ignores SIGTERM.
SendSIGHUP=yes
TimeoutStopSec=5
";
