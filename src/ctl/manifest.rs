//! `impctl compile` and `impctl show`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use crate::ctl::ui::output::{Failure, complain, print, replace};
use crate::manifest::{Manifest, show, text, wire};
use crate::text::escape::{self, Page};
use crate::text::problem::Problem;

/// Check a manifest, and write the form for the boot
///
/// An invalid manifest is refused, with place, reason and remedy of each error. Settings with a possibly unexpected
/// effect are noted. A boot checks the compiled manifest as a whole; the compiled form is for this version of
/// imp-mount.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # Check a manifest that was changed, and bring the running system in line
  impctl compile manifest.json -o /etc/imp-mount/manifest && imp-mount
  # Check only
  impctl compile manifest.json -o /dev/null

Files:
  /etc/imp-mount/manifest  where imp-mount looks for it; the initrd has a copy

Exit status: 0 done; 1 the manifest is refused; 2 a file cannot be read or written")]
pub struct Compile {
    /// The manifest as JSON, `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    input: PathBuf,
    /// The file to write; replaced in one step, and only without an error
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
}

/// Print a compiled manifest as JSON, or a manifest in JSON in its normal form
///
/// The output compiles to the same manifest. Two manifests with the same meaning print the same.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  # What this system goes by
  impctl show /etc/imp-mount/manifest
  # What a change means
  diff <(impctl show /etc/imp-mount/manifest) <(impctl show manifest.json)
  # The paths that persist
  impctl show /etc/imp-mount/manifest | jq -r '.entries[] | .directory // .file'

Files:
  /etc/imp-mount/manifest  the manifest of this system

Exit status: 0 done; 1 the manifest is refused, or damaged; 2 the file cannot be read")]
pub struct Show {
    /// The manifest, `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

/// Compiles the text form into the binary one.
pub fn compile(options: &Compile) -> Result<(), Failure> {
    let Compile { input, output } = options;
    let bytes = read(input)?;
    if !bytes.is_empty() && wire::is_compiled(&bytes) {
        let problem = Problem::new("this is a compiled manifest").at(escape::path(input));
        return Err(Failure::Refused(vec![problem.remedy("its JSON is printed by `impctl show`")]));
    }
    let (manifest, notes) = from_text(&bytes)?;
    let bytes = wire::encode(&manifest).map_err(|problem| Failure::Refused(vec![problem]))?;
    replace(output, &bytes)?;
    for note in notes {
        complain(&format!("note: {note}"));
    }
    Ok(())
}

/// Prints either form as text.
pub fn show(options: &Show) -> Result<(), Failure> {
    let file = &options.file;
    let bytes = read(file)?;
    let manifest = if text::is_text(&bytes) {
        from_text(&bytes)?.0
    } else {
        wire::decode(&bytes).map_err(|problem| Failure::Refused(vec![problem.at(escape::path(file))]))?
    };
    print(&Page::made(show::show(&manifest)))
}

/// A manifest, and notes about it.
fn from_text(bytes: &[u8]) -> Result<(Manifest, Vec<Problem>), Failure> {
    text::utf8(bytes)
        .map_err(|problem| vec![problem])
        .and_then(text::parse_with_notes)
        .map_err(Failure::Refused)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file == Path::new("-") { bounded(io::stdin().lock()) } else { read_file(file) };
    read.map_err(|error| Failure::io("reading", file, &error))
}

/// The content of a file with a manifest.
pub fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    bounded(File::open(file)?)
}

/// All bytes, up to the limit of a compiled manifest: devices such as /dev/zero have no end.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(wire::LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > wire::LIMIT {
        return Err(io::Error::other("it is larger than 64 MiB, and so no manifest"));
    }
    Ok(bytes)
}
