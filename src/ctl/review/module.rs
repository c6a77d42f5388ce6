//! Fixed lines of the module, and its strings.

/// First line of the module.
pub const HEAD: &str =
    "# Written by `impctl review`, which adds lines in path order, and keeps those written by hand.";
/// Begin of the entries of a store.
pub const STORE: &str = "  environment.persistence.";
/// Begins of the lists of a store.
pub const LISTS: [&str; 2] = ["    directories = [", "    files = ["];
/// Begin of the throw-away list.
pub const THROW_AWAY: &str =
    r#"  environment.etc."imp-mount/throw-away".text = builtins.concatStringsSep "\n" ["#;
/// Begin of the paths to look into.
pub const LOOK_INTO: &str = "  # To look into:";

/// A string of Nix in the form of [`escape::nix`], and the text after the string.
pub fn string(text: &str) -> Option<(String, &str)> {
    const HIDDEN: &str = r#"${builtins.fromJSON "\""#;
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        if let Some(after) = rest.strip_prefix(HIDDEN) {
            let (escape, after) = after.split_once(r#"\""}"#)?;
            value += &serde_json::from_str::<String>(&format!("\"{}\"", escape.replace(r"\\", r"\"))).ok()?;
            rest = after;
            continue;
        }
        let mut letters = rest.chars();
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => value.push(other),
        }
        rest = letters.as_str();
    }
}
