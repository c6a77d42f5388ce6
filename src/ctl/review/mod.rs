//! `impctl review`: a question for every lost path, with the answers in a file.

mod answers;
mod file;
mod hand;
mod module;
mod record;
mod screen;
mod state;
mod tree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::adopt::{self, Adopt};
use super::lost::{self, Detail, Finding, Scope};
use super::system::System;
use crate::ctl::ui::output::{self, Failure, complain};
use crate::ctl::ui::terminal::{count, day, now};
use crate::manifest::{AbsPath, Kind, Manifest, pattern};
use crate::text::escape::{self, Page};
use crate::text::problem::Problem;
use answers::Book;
use file::Form;
use record::{Answer, Decision, Origin, Record, one_line};
use screen::{Event, Terminal};
use state::{State, Todo};
use tree::{Order, Tree};

/// Decide about paths that the next boot removes, and write the answers to a file
///
/// Shows the paths of `impctl lost` as a tree on the terminal: keep, keep now, throw away, look into later. Keys are
/// listed at the bottom of the screen, and by `?`. With `--answers` the same is done without a terminal.
///
/// The answers go to a module of NixOS, for `imports = [ ./persist.nix ];`, or to a piece of a manifest in JSON. The
/// present content stays, also lines written by hand between those of the module: lines are added, in path order, with
/// user, date and reason. A second answer replaces the first. A file of another form is refused, and left unchanged.
///
/// A path to keep becomes persistent with the configuration that has its line: files written there before are not
/// copied. Keep now also adopts the path, like `impctl adopt`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Go through everything, the largest first
  impctl review --nix /etc/nixos/persist.nix
  # See what would be written
  impctl review --dry-run
  # One directory, for a manifest in JSON
  impctl review --fragment persist.json /var/lib
  # Without a terminal
  impctl review --answers answers.txt

Files:
  ./persist.nix                the answers, if no other file is named
  ./persist.nix.answers        what was answered when the terminal went away; the next review goes on with it
  /etc/imp-mount/manifest      what persists
  /etc/imp-mount/throw-away    what is throw-away besides, a pattern a line

Exit status: 0 done; 1 an answer, or the file, was refused, or something could not be adopted; 2 it could not run")]
pub struct Options {
    #[command(flatten)]
    scope: Scope,
    /// The module of NixOS for the answers
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "./persist.nix")]
    nix: PathBuf,
    /// A piece of a manifest for the answers instead: JSON, with the entries to add
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "nix")]
    fragment: Option<PathBuf>,
    /// The store of new entries [default: the first of the manifest, or /persist]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    store: Option<String>,
    /// Take the answers from a file, one a line: an answer (keep, keep-now, throw-away, look-into, undo), a path, and `  # ` with
    /// the reason; `-` for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    answers: Option<PathBuf>,
    /// Print the changes of the file, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Show the latest changes first
    #[arg(long, conflicts_with = "answers")]
    newest: bool,
    /// The user who decides [default: the user of sudo or doas, or else of this process]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Username)]
    by: Option<String>,
}

/// Asks for the answers, and writes them.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (file, form) = options
        .fragment
        .as_ref()
        .map_or((options.nix.as_path(), Form::Nix), |file| (file.as_path(), Form::Json));
    let system = System::open(&options.scope.root)?;
    let manifest = system.manifest(options.scope.manifest.as_deref())?;
    let (by, store) = (by(options, &system)?, store(options, manifest.as_ref())?);
    let text = options.answers.as_deref().map(answers_text).transpose()?;
    let mut review = Review {
        options,
        file,
        form,
        system,
        manifest,
        store,
        origin: Origin { on: day(now()), by, why: String::new() },
    };
    // An unwritable file is refused before the first question.
    let (_, record) = review.read()?;
    let findings = review.look(options.scope.path(&review.system)?)?;
    let order = if options.newest { Order::Time } else { Order::Size };
    let mut tree = Tree::new(findings, order);
    let mut book = Book::new(review.system.is_running(), record);
    if let Some(text) = text {
        let problems = review.answer(&text, &mut tree, &mut book);
        if !problems.is_empty() {
            let from = options.answers.as_deref().unwrap_or(Path::new("-"));
            let at = |mut problem: Problem| {
                problem.at = format!("{}, {}", escape::path(from), problem.at);
                problem
            };
            return Err(Failure::Refused(problems.into_iter().map(at).collect()));
        }
        return review.write(&tree, &book);
    }
    review.ask(State::new(tree, book, now()))
}

/// Input of a review.
struct Review<'r> {
    options: &'r Options,
    file: &'r Path,
    form: Form,
    system: System,
    manifest: Option<Manifest>,
    store: String,
    origin: Origin,
}

impl Review<'_> {
    fn look(&self, path: AbsPath) -> Result<Vec<Finding>, Failure> {
        let detail = Detail { all: false, lines: true, map: false };
        lost::look(path, &self.options.scope, detail, &self.system, self.manifest.as_ref())
            .map(|found| found.lost)
    }

    /// The current file, and its decisions.
    fn read(&self) -> Result<(Option<Vec<u8>>, Record), Failure> {
        let bytes = output::read(self.file)?;
        let record = self.form.read(bytes.as_deref().unwrap_or_default()).map_err(|mut problem| {
            problem.at = format!("{}, {}", escape::path(self.file), problem.at);
            Failure::Refused(vec![problem])
        })?;
        Ok((bytes, record))
    }

    /// Looks into a directory of the tree.
    fn load(&self, tree: &mut Tree, node: usize) -> Result<(), String> {
        let said = |failure| match failure {
            Failure::Unable(problem) => problem.to_string(),
            _ => String::new(),
        };
        let path = str::from_utf8(&tree.nodes[node].path)
            .map_err(|_| "its name is no UTF-8 text: rename it first")?;
        let findings = self.look(AbsPath::parse(path)?).map_err(said)?;
        tree.load(node, findings);
        Ok(())
    }

    /// Takes the answers of a file; returns the errors in them.
    fn answer(&self, text: &str, tree: &mut Tree, book: &mut Book) -> Vec<Problem> {
        let lines = match answers::read(text) {
            Ok(lines) => lines,
            Err(problems) => return problems,
        };
        let mut problems = Vec::new();
        for line in lines {
            if let Err(what) = self.answer_line(&line, tree, book) {
                let path = escape::name(&line.path);
                problems.push(Problem::new(format!("{path}: {what}")).at(format!("line {}", line.number)));
            }
        }
        problems
    }

    fn answer_line(&self, line: &answers::Line, tree: &mut Tree, book: &mut Book) -> Result<(), String> {
        let name = line.path.as_bytes();
        let node = loop {
            if let Some(node) = tree.find(name) {
                break Some(node);
            }
            let Some(above) = tree.unopened(name) else { break None };
            self.load(tree, above)?;
        };
        match (node, line.answer) {
            (Some(node), Some(answer)) => book.give(tree, node, answer, &line.why),
            (Some(node), None) if book.take_back(node) => Ok(()),
            (_, None) => Err("no answer was given to it".to_owned()),
            // Paths kept or thrown away by the configuration are not found any more.
            (None, Some(answer)) if is_decided(&book.record, &line.path, answer) => Ok(()),
            (None, Some(_)) => {
                Err("nothing would be gone there: see `impctl lost`, which names what is answered in parts"
                    .to_owned())
            }
        }
    }

    /// Asks on the terminal.
    fn ask(&mut self, mut state: State) -> Result<(), Failure> {
        if !self.options.dry_run {
            output::is_writable(self.file)?;
        }
        let left = self.left();
        let old = output::read(&left)?;
        // Lines without use now stay in the file.
        let mut unused = String::new();
        if let Some(bytes) = &old {
            for line in String::from_utf8_lossy(bytes).lines() {
                if !self.answer(line, &mut state.tree, &mut state.book).is_empty() {
                    unused.extend([line, "\n"]);
                }
            }
            let given = count(state.book.len() as u64, "answer");
            state.message = format!("{given} of a review that was cut off");
            if !unused.is_empty() {
                let refused = count(unused.lines().count() as u64, "line");
                state.message.extend(["; ", &refused, " of it cannot be used now"]);
            }
        }
        let mut terminal = Terminal::open().map_err(Failure::Unable)?;
        let todo = self.run_screen(&mut terminal, &mut state);
        let todo = match todo {
            Ok(todo) => todo,
            Err(problem) => {
                self.leave_answers(&state, &unused)?;
                return Err(Failure::Unable(problem));
            }
        };
        drop(terminal);
        if todo == Todo::Write {
            if let Err(failure) = self.write(&state.tree, &state.book) {
                // A path with a failed adoption is written as well, without a second question.
                if self.read().is_err() || !self.is_written(&state) {
                    self.leave_answers(&state, &unused)?;
                }
                return Err(failure);
            }
            if self.options.dry_run {
                return Ok(());
            }
        }
        if !unused.is_empty() {
            return output::update(&left, old.as_deref(), unused.as_bytes());
        }
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("removing", &left, &error))
            }
            _ => Ok(()),
        }
    }

    /// Shows the screen and takes keys until the end.
    fn run_screen(&self, terminal: &mut Terminal, state: &mut State) -> Result<Todo, Problem> {
        let failed = |error: std::io::Error| Problem::io("writing to the terminal", &error);
        loop {
            let (width, height) = Terminal::size();
            terminal.show(state.screen(width, height)).map_err(failed)?;
            match terminal.wait() {
                Event::Resized => terminal.clear().map_err(failed)?,
                Event::Gone => {
                    return Err(Problem::new("the terminal went away, or the program was told to end"));
                }
                Event::Key(key) => match state.key(key) {
                    Todo::Nothing => {}
                    Todo::Load(node) => match self.load(&mut state.tree, node) {
                        Ok(()) => state.open(node),
                        Err(why) => state.message = why,
                    },
                    todo => return Ok(todo),
                },
            }
        }
    }

    /// File for unwritten answers.
    fn left(&self) -> PathBuf {
        let mut name = OsString::from(self.file);
        name.push(".answers");
        name.into()
    }

    /// Leaves the answers beside the file, or prints them if this fails.
    fn leave_answers(&self, state: &State, unused: &str) -> Result<(), Failure> {
        if state.book.len() == 0 {
            return Ok(());
        }
        let (left, text) = (self.left(), state.book.to_text(&state.tree));
        let write = || {
            let old = output::read(&left)?;
            output::update(&left, old.as_deref(), format!("{unused}{text}").as_bytes())
        };
        if let Err(failure) = write() {
            failure.report();
            complain("the answers are left nowhere, so they are printed: a file of them is for --answers");
            return output::print(&Page::made(text));
        }
        complain(&format!("the answers are in {}: the next review goes on with them", escape::path(&left)));
        Ok(())
    }

    /// True if the file has every answer.
    fn is_written(&self, state: &State) -> bool {
        self.read()
            .and_then(|(_, record)| Ok(self.merge(&state.tree, &state.book, record.clone())? == record))
            .unwrap_or(false)
    }

    /// Earlier decisions, with the answers.
    fn merge(&self, tree: &Tree, book: &Book, mut record: Record) -> Result<Record, Failure> {
        let mut problems = Vec::new();
        for (node, given) in book.all() {
            let node = &tree.nodes[node];
            let origin = Origin { why: given.why.clone(), ..self.origin.clone() };
            let made = node
                .finding
                .as_ref()
                .map(|finding| Decision::new(finding, given.answer, &self.store, origin));
            match made {
                Some(Ok(decision)) => record.add(decision),
                // Such an answer was refused before.
                Some(Err(what)) => problems.push(Problem::new(what).at(node.shown())),
                None => problems.push(Problem::new("it was not found").at(node.shown())),
            }
        }
        if problems.is_empty() { Ok(record) } else { Err(Failure::Refused(problems)) }
    }

    /// Writes the answers to the file, and adopts the paths to keep now.
    fn write(&self, tree: &Tree, book: &Book) -> Result<(), Failure> {
        // Another review may be about to write.
        let held = if self.options.dry_run { None } else { Some(output::hold(self.file)?) };
        let (old, record) = self.read()?;
        let record = self.merge(tree, book, record)?;
        let new = self.form.rewrite(old.as_deref().unwrap_or_default(), &record).map_err(Failure::Unable)?;
        let text = String::from_utf8_lossy(old.as_deref().unwrap_or_default()).into_owned();
        let mut lines = file::difference(&text, &new);
        if old.is_none() && book.len() == 0 {
            lines.clear();
        }
        let now: Vec<_> =
            book.all().filter(|(_, given)| given.answer == Answer::KeepNow).map(|(node, _)| node).collect();
        let now: Vec<PathBuf> = now
            .into_iter()
            .filter_map(|node| Some(str::from_utf8(&tree.nodes[node].path).ok()?.into()))
            .collect();
        let (shown, mut page) = (escape::path(self.file), Page::default());
        if lines.is_empty() {
            page.line(format_args!("{shown}: nothing changes"));
        } else if self.options.dry_run {
            page.line(format_args!("{shown}: would change"));
            for line in &lines {
                page.line(line);
            }
        } else {
            output::update(self.file, old.as_deref(), new.as_bytes())?;
            let of = |sign| lines.iter().filter(|line| line.starts_with(sign)).count() as u64;
            page.line(format_args!("{shown}: {} added, {} taken out", count(of('+'), "line"), of('-')));
            page.line(match self.form {
                Form::Nix => {
                    let name = escape::path(self.file.file_name().unwrap_or_default());
                    format!("-> the configuration has it by: imports = [ ./{name} ]; rebuild it then")
                }
                Form::Json => "-> add its entries to those of the manifest, then impctl compile".to_owned(),
            });
        }
        drop(held);
        if self.options.dry_run {
            for path in &now {
                page.line(format_args!("would adopt {}", escape::path(path)));
            }
        }
        output::print(&page)?;
        if self.options.dry_run || now.is_empty() {
            return Ok(());
        }
        adopt::run(&Adopt::of(now, &self.store, self.options.scope.manifest.clone()))
    }
}

/// True if there is the same decision on a path already.
fn is_decided(record: &Record, path: &str, answer: Answer) -> bool {
    let is =
        |path: &AbsPath, is_glob| record.of(path, is_glob).is_some_and(|it| it.choice == answer.choice());
    let plain = AbsPath::parse(path).is_ok_and(|path| is(&path, false));
    plain || pattern::read(path).is_ok_and(|(path, kind)| kind == Kind::Glob && is(&path, true))
}

fn answers_text(file: &Path) -> Result<String, Failure> {
    let read = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Failure::io("reading", file, &error))
}

/// The person who decides.
fn by(options: &Options, system: &System) -> Result<String, Failure> {
    let said = || {
        ["SUDO_USER", "DOAS_USER"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
    };
    let user = || system.names().user(rustix::process::getuid().as_raw());
    let name = one_line(&options.by.clone().or_else(said).unwrap_or_else(user));
    if name.is_empty() || name.contains(':') {
        return Err(Failure::Unable(
            Problem::new("a name that is empty, or has a colon, cannot stand in the file").at("--by"),
        ));
    }
    Ok(name)
}

/// The store of new entries.
fn store(options: &Options, manifest: Option<&Manifest>) -> Result<String, Failure> {
    let first = || manifest.and_then(|manifest| Some(manifest.stores.first()?.path.to_string()));
    let store = options.store.clone().or_else(first).unwrap_or_else(|| "/persist".to_owned());
    let parsed = AbsPath::parse(&store).map_err(|why| Failure::Unable(Problem::new(why).at("--store")))?;
    Ok(parsed.into())
}
