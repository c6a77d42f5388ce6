//! Generates constants for the boot binary from the TOML table of known paths. Each row is one line; a test of
//! `ctl::known` compares the constants with the table as parsed by a TOML library.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const TABLE: &str = "src/ctl/known/paths.toml";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={TABLE}");
    let text = fs::read_to_string(TABLE)?;
    let (mut modes, mut essentials, mut section) = (String::new(), String::new(), "");
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((path, row)) = line.split_once(" = ").filter(|(path, _)| path.starts_with('"')) else {
            continue;
        };
        if section == "[modes]" {
            writeln!(modes, "({path}, 0o{}),", row.trim_matches('"'))?;
        } else if let Some((row, without)) = row.split_once("without = \"") {
            let without = without.split('"').next().unwrap_or_default();
            // Of a pattern the first of the usual names stands for all.
            let usual = row.split_once("usual = [").and_then(|(_, names)| names.split([',', ']']).next());
            let (file, nixos) = (row.contains("file = true"), row.contains("nixos = true"));
            let path = usual.unwrap_or(path);
            writeln!(
                essentials,
                "Essential {{ path: {path}, file: {file}, nixos: {nixos}, without: \"{without}\" }},"
            )?;
        }
    }
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    fs::write(Path::new(&out).join("modes.rs"), format!("&[{modes}]"))?;
    fs::write(Path::new(&out).join("essentials.rs"), format!("&[{essentials}]"))?;
    Ok(())
}
