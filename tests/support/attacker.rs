//! An unprivileged process (uid 1000, no capabilities) that exchanges names during root's work, and looks for forbidden
//! content.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, inotify, mknodat, renameat_with};
use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The owner of the directories.
pub const UID: u32 = 1000;
/// Content of files below directories of root alone, with any mode: it must not reach a directory of the attacker.
pub const SECRET: &str = "root's secret";
/// Content of root's files in directories of the attacker: the file may be moved there, and not be read.
pub const LETTER: &str = "root's letter";
/// A decoy of root in each of the attacker's directories: a file with mode 0600, a directory with mode 0700.
pub const ROOT_FILE: &str = "rootfile";
pub const ROOT_DIRECTORY: &str = "rootdir";

/// Actions of the attacker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Exchanges two names.
    Exchange(PathBuf, PathBuf),
    /// Exchanges each new name of a kind in the attacker's directories, once, for a decoy: at the given number of calls after
    /// the name appeared.
    Replace(Kind, Decoy, usize),
}

/// Which names are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Any,
    Directory,
    File,
    /// Neither of them: root's work by name.
    Other,
}

impl Kind {
    fn is(self, path: &Path) -> bool {
        let Ok(meta) = fs::symlink_metadata(path) else { return false };
        match self {
            Self::Any => true,
            Self::Directory => meta.is_dir(),
            Self::File => meta.is_file(),
            Self::Other => !meta.is_dir() && !meta.is_file(),
        }
    }
}

/// The replacement of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoy {
    Directory,
    File,
    HardLink,
    Fifo,
    /// A symbolic link to a path of the system.
    Link(&'static str),
    RootFile,
    RootDirectory,
}

impl Decoy {
    pub const ALL: [Self; 8] = [
        Self::Directory,
        Self::File,
        Self::HardLink,
        Self::Fifo,
        Self::Link("etc"),
        Self::Link("root/secret"),
        Self::RootFile,
        Self::RootDirectory,
    ];
}

/// The process. Its end is the drop of this value.
#[derive(Debug)]
pub struct Attacker {
    channel: UnixStream,
    pid: Pid,
}

impl Attacker {
    /// Starts the process, with its directories, on a system whose root is at `root`. The caller must have one thread.
    #[allow(unsafe_code)]
    pub fn start(root: &Path, homes: &[PathBuf], moves: &[Move]) -> Self {
        let (own, other) = UnixStream::pair().unwrap();
        // SAFETY: there is one thread, so no lock is held by another one.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { channel: own, pid: child },
            ForkResult::Child => {
                drop(own);
                let ended = catch_unwind(AssertUnwindSafe(|| Work::new(root, homes, moves).serve(other)));
                // SAFETY: nothing of the parent's is to be dropped here.
                unsafe { libc::_exit(i32::from(ended.is_err())) }
            }
        }
    }

    fn ask(&mut self, bytes: &[u8]) {
        self.channel.write_all(bytes).expect("the attacker lives");
    }

    fn answer(&mut self) -> String {
        let mut length = [0; 4];
        self.channel.read_exact(&mut length).expect("the attacker lives");
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.channel.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Makes a move. Returns the exchanged names, in lines.
    pub fn make(&mut self, number: usize) -> String {
        self.ask(&[b'm', u8::try_from(number).unwrap()]);
        self.answer()
    }

    /// Makes all moves in turn, as fast as possible.
    pub fn run(&mut self) {
        self.ask(b"f");
    }

    /// Ends [`Attacker::run`]. Returns the number of exchanged names.
    pub fn stop(&mut self) -> usize {
        self.ask(b".");
        self.answer().parse().unwrap()
    }

    /// Opens every file in the attacker's directories, and keeps them open.
    pub fn watch(&mut self) {
        self.ask(b"w");
        self.answer();
    }

    /// Every new name in the attacker's directories.
    pub fn appeared(&mut self) -> Vec<PathBuf> {
        self.ask(b"a");
        self.answer().lines().map(Into::into).collect()
    }

    /// Forbidden files with read access now, and open files of others with write access.
    pub fn finds(&mut self) -> Vec<String> {
        self.ask(b"l");
        self.answer().lines().map(Into::into).collect()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.channel.shutdown(std::net::Shutdown::Both);
        let _ = waitpid(self.pid, None);
    }
}

/// The process's own side.
struct Work<'w> {
    root: &'w Path,
    homes: &'w [PathBuf],
    moves: &'w [Move],
    /// Names left unchanged, or changed already.
    known: HashSet<Name>,
    /// New names, their directories, and the number of each move's encounters.
    seen: BTreeMap<Name, (PathBuf, Vec<usize>)>,
    /// Every new name.
    appeared: BTreeSet<PathBuf>,
    /// Watches the directories.
    changes: OwnedFd,
    made: usize,
    /// True after a change since the last opening.
    is_new: bool,
    held: Vec<Held>,
}

/// A name in a directory, by the directory's inode number, and the inode number of the file.
type Name = (u64, OsString, u64);

/// A file opened at some moment.
struct Held {
    path: PathBuf,
    file: File,
    written: bool,
}

impl<'w> Work<'w> {
    fn new(root: &'w Path, homes: &'w [PathBuf], moves: &'w [Move]) -> Self {
        set_thread_groups(&[]).unwrap();
        let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        // Only now: a change of the uid clears the setting.
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        let changes = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let mut work = Self {
            root,
            homes,
            moves,
            known: HashSet::new(),
            seen: BTreeMap::new(),
            appeared: BTreeSet::new(),
            changes,
            made: 0,
            is_new: true,
            held: Vec::new(),
        };
        work.known = work.names().into_keys().collect();
        work
    }

    fn serve(&mut self, mut channel: UnixStream) {
        let mut order = [0];
        while channel.read_exact(&mut order).is_ok() {
            let answer = match order[0] {
                b'm' => {
                    channel.read_exact(&mut order).unwrap();
                    self.make(usize::from(order[0]))
                }
                b'f' => self.run(&mut channel).to_string(),
                b'w' => {
                    self.watch();
                    String::new()
                }
                b'a' => self.appeared.iter().map(|path| path.display().to_string() + "\n").collect(),
                _ => self.finds().join("\n"),
            };
            channel.write_all(&u32::try_from(answer.len()).unwrap().to_le_bytes()).unwrap();
            channel.write_all(answer.as_bytes()).unwrap();
        }
    }

    fn run(&mut self, channel: &mut UnixStream) -> usize {
        channel.set_nonblocking(true).unwrap();
        let mut exchanged = 0;
        for number in (0..self.moves.len()).cycle() {
            exchanged += self.make(number).lines().count();
            match channel.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        channel.set_nonblocking(false).unwrap();
        exchanged
    }

    fn make(&mut self, number: usize) -> String {
        match &self.moves[number] {
            Move::Exchange(one, other) => exchange(one, other),
            Move::Replace(kind, decoy, patience) => {
                self.look();
                let mut ripe = Vec::new();
                for (name, (path, counts)) in &mut self.seen {
                    counts[number] += 1;
                    if counts[number] > *patience && kind.is(path) {
                        ripe.push((name.clone(), path.clone()));
                    }
                }
                ripe.into_iter().map(|(name, path)| self.replace(name, &path, *decoy)).collect()
            }
        }
    }

    /// Records new names.
    fn look(&mut self) {
        if rustix::io::read(&self.changes, &mut [0; 4096]).is_err() {
            return;
        }
        self.is_new = true;
        let names = self.names();
        self.known.retain(|name| names.contains_key(name));
        self.seen.retain(|name, _| names.contains_key(name));
        for (name, path) in names.into_iter().filter(|(name, _)| !self.known.contains(name)) {
            self.appeared.insert(path.clone());
            let counts = vec![0; self.moves.len()];
            self.seen.entry(name).or_insert_with(|| (PathBuf::new(), counts)).0 = path;
        }
    }

    /// Replaces new names by other files.
    fn replace(&mut self, name: Name, path: &Path, decoy: Decoy) -> String {
        self.seen.remove(&name);
        self.known.insert(name);
        let Some(home) = self.homes.iter().find(|home| path.starts_with(home)) else { return String::new() };
        let parent = path.parent().unwrap();
        self.made += 1;
        let made = parent.join(format!(".decoy{}", self.made));
        let put = match decoy {
            Decoy::Directory => fs::create_dir(&made),
            Decoy::File => fs::write(&made, "mine"),
            Decoy::HardLink => fs::hard_link(home.join("plain"), &made),
            Decoy::Fifo => {
                mknodat(CWD, &made, FileType::Fifo, Mode::from_raw_mode(0o666), 0).map_err(Into::into)
            }
            Decoy::Link(to) => {
                let up =
                    parent.strip_prefix(self.root).unwrap().components().map(|_| "..").collect::<PathBuf>();
                symlink(up.join(to), &made)
            }
            Decoy::RootFile => fs::rename(home.join(ROOT_FILE), &made),
            // Its parent cannot change.
            Decoy::RootDirectory => fs::rename(parent.join(ROOT_DIRECTORY), &made),
        };
        if put.is_err() {
            return String::new();
        }
        let exchanged = exchange(path, &made);
        self.known.extend([path, &made].into_iter().filter_map(name_of));
        exchanged
    }

    /// Every name in the attacker's directories, which are watched from here on.
    fn names(&self) -> HashMap<Name, PathBuf> {
        fn add(changes: &OwnedFd, dir: &Path, names: &mut HashMap<Name, PathBuf>) {
            use inotify::WatchFlags as Flags;
            let events = Flags::ATTRIB | Flags::CREATE | Flags::DELETE | Flags::MOVED_FROM | Flags::MOVED_TO;
            // Unreadable files are left out.
            let _ = inotify::add_watch(changes, dir, events);
            let Ok(above) = fs::symlink_metadata(dir) else { return };
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    add(changes, &entry.path(), names);
                }
                names.insert((above.ino(), entry.file_name(), entry.ino()), entry.path());
            }
        }
        let mut names = HashMap::new();
        self.homes.iter().for_each(|home| add(&self.changes, home, &mut names));
        names
    }

    fn watch(&mut self) {
        self.look();
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        for path in self.names().into_values() {
            let Some(meta) = regular(&path) else { continue };
            let written = open(&path, true);
            let is_new = |held: &Held| {
                let known = held.file.metadata().unwrap();
                (known.dev(), known.ino(), held.written) != (meta.dev(), meta.ino(), written.is_some())
            };
            if self.held.iter().all(is_new)
                && let (written, Some(file)) = (written.is_some(), written.or_else(|| open(&path, false)))
            {
                self.held.push(Held { path, file, written });
            }
        }
    }

    fn finds(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for Held { path, file, written } in &mut self.held {
            let meta = file.metadata().unwrap();
            if *written && meta.nlink() > 0 && meta.uid() != UID {
                found.push(format!("he can write to a file that he opened at {}", path.display()));
            }
            file.rewind().unwrap();
            if reads(file) {
                found.push(format!("he reads a file that he opened at {}", path.display()));
            }
        }
        search(self.root, true, &mut found);
        found
    }
}

fn name_of(path: &Path) -> Option<Name> {
    let inode = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.ino()).ok();
    Some((inode(path.parent()?)?, path.file_name()?.to_owned(), inode(path)?))
}

fn exchange(one: &Path, other: &Path) -> String {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => format!("{} for {}\n", one.display(), other.display()),
        Err(_) => String::new(),
    }
}

/// Directories of the system's programs, and file systems without regular files.
const LEFT_OUT: [&str; 9] = ["bin", "dev", "lib", "lib64", "nix", "proc", "sbin", "sys", "usr"];

/// Searches forbidden files in reach of the attacker.
fn search(dir: &Path, top: bool, found: &mut Vec<String>) {
    let is_own = |meta: &Metadata| meta.uid() == UID;
    if fs::read_dir(dir).is_err() && fs::symlink_metadata(dir).as_ref().is_ok_and(is_own) {
        let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !top || !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                search(&path, false, found);
            }
            continue;
        }
        let Some(meta) = regular(&path) else { continue };
        if is_own(&meta) && open(&path, false).is_none() {
            let _ = fs::set_permissions(&path, Permissions::from_mode(0o600));
        }
        if open(&path, false).as_mut().is_some_and(reads) {
            found.push(format!("he reads {}", path.display()));
        }
    }
}

fn regular(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file)
}

fn open(path: &Path, writing: bool) -> Option<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options().read(true).write(writing).custom_flags(flags.bits().cast_signed()).open(path).ok()
}

/// True for a file with a secret at its beginning.
fn reads(file: &mut File) -> bool {
    let mut bytes = Vec::new();
    let _ = file.take(4096).read_to_end(&mut bytes);
    [SECRET, LETTER].iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}
