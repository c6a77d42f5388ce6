//! `impctl man`: the manual, with a page for every command, from the words of its `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::ctl::ui::output::Failure;

/// The pages written by hand: their paths and content.
const WRITTEN: [(&str, &str); 2] = [
    ("man5/manifest.5", include_str!("../../docs/manifest.5")),
    ("man8/imp-mount.8", include_str!("../../docs/imp-mount.8")),
];

/// Write the manual: the pages of imp-mount, of its manifest, and of impctl and every command
///
/// They are written to the directories man5 and man8, which are made where they are not there.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # For oneself
  impctl man ~/.local/share/man
  # For everybody
  impctl man /usr/local/share/man
  # Read one
  man impctl-lost

Exit status: 0 done; 2 a page cannot be written")]
pub struct Options {
    /// A directory in which man(1) looks
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

/// Writes every page.
pub fn run(options: &Options) -> Result<(), Failure> {
    let written = WRITTEN.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (name, text) in written.into_iter().chain(generated()) {
        let path = options.directory.join(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Failure::io("writing", &path, &error))?;
    }
    Ok(())
}

/// The pages of impctl and its commands.
fn generated() -> Vec<(String, String)> {
    // Its page would say nothing.
    let mut all = super::Cli::command().disable_help_subcommand(true);
    all.build();
    let shown = |command: &&Command| !command.is_hide_set();
    let first = all.get_subcommands().filter(shown);
    let second = all.get_subcommands().flat_map(Command::get_subcommands).filter(shown);
    first
        .chain(second)
        .chain([&all])
        .map(|command| (format!("man8/{}.8", name(command)), page(command)))
        .collect()
}

/// Name of a command's page: `impctl-lost`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let mut usual = command.clone().override_usage(usage.trim_start_matches("Usage: ").to_owned());
    if let Some(about) = command.get_about() {
        usual = usual.about(with_first(&about.to_string(), char::to_ascii_lowercase));
    }
    // The long text begins with the line already beside the name.
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    if let Some((_, more)) = about.split_once("\n\n") {
        usual = usual.long_about(more.to_owned());
    }
    // Their place is in the sections below.
    let usual = usual.version(None::<&str>).after_help(None::<&str>).after_long_help(None::<&str>);
    let man = Man::new(usual)
        .title(name(command).to_uppercase())
        .section("8")
        // An empty argument, which needs its quotes.
        .date("\"\"")
        .source(concat!("imp-mount ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let mut page = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = man.render(&mut page);
    let mut more = Roff::new();
    if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
        sections(&mut more, &help.to_string());
    }
    see_also(&mut more, command);
    String::from_utf8_lossy(&page).into_owned() + &more.render()
}

/// The sections after the options in a `--help`, each a block of lines under its heading: commands below a remark, or
/// words with their meanings.
fn sections(roff: &mut Roff, help: &str) {
    for (heading, text) in help.split("\n\n").filter_map(|block| block.split_once(':')) {
        roff.control("SH", [heading.to_uppercase().as_str()]);
        // `Exit status: 0 done; 1 failed` is all in one line.
        let on_a_line = if text.starts_with('\n') { '\n' } else { ';' };
        for item in text.split(on_a_line).map(str::trim).filter(|item| !item.is_empty()) {
            if heading != "Examples" {
                let (term, meaning) = item.split_once(' ').unwrap_or((item, ""));
                let meaning = meaning.trim().trim_end_matches('.');
                let sentence = with_first(meaning, char::to_ascii_uppercase) + ".";
                roff.control("TP", []).text([bold(term)]).text([roman(sentence)]);
            } else if let Some(remark) = item.strip_prefix("# ") {
                roff.control("PP", []).text([roman(remark)]);
            } else {
                roff.control("PP", []).control("RS", []).control("EX", []);
                roff.text([roman(item)]).control("EE", []).control("RE", []);
            }
        }
    }
}

/// With another first letter.
fn with_first(text: &str, change: fn(&char) -> char) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| change(&first).to_string() + letters.as_str())
}

fn see_also(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["SEE ALSO"]);
    let others = [("imp-mount", "(8), "), ("impctl", "(8), "), ("manifest", "(5)")];
    let others = others.into_iter().filter(|(other, _)| *other != name(command));
    roff.text(others.flat_map(|(other, section)| [bold(other), roman(section)]).collect::<Vec<_>>());
}
