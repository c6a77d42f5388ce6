//! `impctl compile` and `impctl show`.

use std::io::{self, Read};
use std::path::Path;

use super::output::{Failure, complain, print, replace};
use crate::manifest::{Manifest, show, text, wire};
use crate::problem::Problem;

/// Compiles the text form into the binary one.
pub fn compile(input: &Path, output: &Path) -> Result<(), Failure> {
    let (manifest, notes) = from_text(&read(input)?)?;
    let bytes = wire::encode(&manifest).map_err(|problem| Failure::Refused(vec![problem]))?;
    replace(output, &bytes)?;
    for note in notes {
        complain(&format!("note: {note}"));
    }
    Ok(())
}

/// Prints either form as text.
pub fn show(file: &Path) -> Result<(), Failure> {
    let bytes = read(file)?;
    let manifest = if wire::is_text(&bytes) {
        from_text(&bytes)?.0
    } else {
        wire::decode(&bytes)
            .map_err(|problem| Failure::Refused(vec![problem.at(file.display().to_string())]))?
    };
    print(&show::show(&manifest))
}

/// A manifest, and what is to be said of it.
fn from_text(bytes: &[u8]) -> Result<(Manifest, Vec<Problem>), Failure> {
    let json = std::str::from_utf8(bytes)
        .map_err(|error| Failure::Refused(vec![Problem::new(format!("this is no JSON: {error}"))]))?;
    text::parse_with_notes(json).map_err(Failure::Refused)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    result.map(|()| bytes).map_err(|error| Failure::io("reading", file, &error))
}
