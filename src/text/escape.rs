//! Output of foreign names and texts: file names, units, users, labels of disks, quoted texts.
//!
//! Each kind of output has one function here. Characters that are invisible, move the cursor or turn the direction of
//! text are always escaped. From JSON, Nix and a shell exactly the same name is read back.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Display, Write};
use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// True if a character is written as an escape.
///
/// These are the control characters, Unicode's default ignorable characters (zero-width characters, variation
/// selectors, tags), controls of text direction, separators of lines and paragraphs, spaces similar to the usual one,
/// and noncharacters. A variation selector changes at most the look of the letter before: two names with a difference
/// in the selector alone would look the same. Not escaped: the ideographic space, which has the width of a letter,
/// marks above and below letters, and private or unassigned characters, which a terminal shows as a box.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
        // The last two of each plane.
        || u32::from(c) & 0xfffe == 0xfffe
}

/// A file name, a path, or another name, in a text for people: on a terminal or in a log. Hidden characters and
/// non-UTF-8 bytes are written with backslashes, and in such a name a backslash is doubled.
#[must_use]
pub fn name(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Cow<'_, str> {
    name_of(bytes.as_ref())
}

fn name_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.chars().any(is_hidden)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hidden(c) || c == '\\' {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    Cow::Owned(text)
}

/// A path for people.
#[must_use]
pub fn path(path: &(impl AsRef<OsStr> + ?Sized)) -> Cow<'_, str> {
    name(path.as_ref().as_encoded_bytes())
}

/// A finished text as one line: an unescaped name inside can neither begin another line nor control a terminal. A text
/// with all names escaped is returned unchanged.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    // Writing to a String cannot fail.
    let _ = Line(&mut line).write_str(text);
    Cow::Owned(line)
}

/// A writer with the escapes of [`line()`].
#[derive(Debug)]
pub struct Line<W>(pub W);

impl<W: Write> Write for Line<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((index, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            self.0.write_str(&rest[..index])?;
            write!(self.0, "{}", c.escape_default())?;
            rest = &rest[index + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// A word of a command to paste into a shell: bash, zsh, ksh or busybox.
#[must_use]
pub fn shell(word: &(impl AsRef<[u8]> + ?Sized)) -> Cow<'_, str> {
    shell_of(word.as_ref())
}

fn shell_of(word: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte);
    match str::from_utf8(word) {
        Ok(text) if !word.is_empty() && word.iter().all(plain) => return Cow::Borrowed(text),
        Ok(text) if !text.chars().any(is_hidden) => {
            return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
        }
        _ => {}
    }
    let mut quoted = "$'".to_owned();
    // Three octal digits are complete, and every one of these shells reads them. `!` is special in these quotes in an
    // interactive shell.
    let octal = |quoted: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(quoted, "\\{byte:03o}");
        }
    };
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hidden(c) || matches!(c, '\'' | '\\' | '!') {
                octal(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                quoted.push(c);
            }
        }
        octal(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// A string of Nix.
#[must_use]
pub fn nix(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            // A `$` could begin an interpolation, or with another one keep the next from beginning one.
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Nix has no other notation.
            _ if is_hidden(c) => {
                quoted.push_str("${builtins.fromJSON \"\\\"");
                quoted += &unicode(c).replace('\\', "\\\\");
                quoted.push_str("\\\"\"}");
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a label of a metric, for Prometheus.
#[must_use]
pub fn label(text: &str) -> String {
    name(text).replace('\\', "\\\\").replace('"', "\\\"")
}

/// Text of a page of HTML, between tags or in a quoted attribute.
#[cfg(feature = "ctl")]
#[must_use]
pub fn html(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '&' => quoted.push_str("&amp;"),
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            '"' => quoted.push_str("&quot;"),
            '\'' => quoted.push_str("&#39;"),
            _ => quoted.push(c),
        }
    }
    quoted
}

/// A value as JSON on one line, in a page of HTML: no string inside ends the element, or begins a comment.
///
/// # Errors
/// The value has no JSON form.
#[cfg(feature = "ctl")]
pub fn html_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::new();
    write_json(&mut text as &mut dyn io::Write, value)?;
    // Outside of strings there is none.
    Ok(String::from_utf8_lossy(&text).replace('<', "\\u003c"))
}

/// A value as JSON on one line.
///
/// # Errors
/// The value has no JSON form.
pub fn json_line(value: &impl Serialize) -> serde_json::Result<Page> {
    let mut text = Vec::new();
    write_json(&mut text as &mut dyn io::Write, value)?;
    Ok(Page(String::from_utf8_lossy(&text).into_owned() + "\n"))
}

/// A value as JSON on several lines.
///
/// # Errors
/// The value has no JSON form.
#[cfg(feature = "ctl")]
#[expect(clippy::disallowed_methods, reason = "what is hidden is escaped afterwards")]
pub fn json(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Page> {
    serde_json::to_string_pretty(value).map(|text| Page(json_text(&text) + "\n"))
}

/// JSON with escapes for the hidden characters of strings, the only place of such characters.
#[must_use]
pub fn json_text(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // Line ends and indents; in a string serde_json has written these as escapes already.
        if c < ' ' || !is_hidden(c) {
            text.push(c);
        } else {
            text += &unicode(c);
        }
    }
    text
}

/// Writes a value as JSON on one line.
///
/// # Errors
/// The value has no JSON form, or the writer failed.
pub fn write_json(writer: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(writer, Visible))
}

/// The form of [`write_json`].
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most of a report is plain text.
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((index, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            writer.write_all(&rest.as_bytes()[..index])?;
            writer.write_all(unicode(c).as_bytes())?;
            rest = &rest[index + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// A character in a string of JSON: one escape, or two beyond the first 65,536.
fn unicode(c: char) -> String {
    let mut text = String::with_capacity(12);
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
    text
}

/// A page for standard output. Only whole lines can be added: text in a line cannot begin another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page(String);

impl Page {
    /// Adds a line.
    pub fn line(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(Line(&mut self.0), "{text}");
        self.0.push('\n');
    }

    /// A finished text: one of the program's own, or one with every name escaped.
    #[must_use]
    pub fn made(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same with a maximum line length, broken at blanks. Continued text is aligned with the text of its line: in
    /// the second column of a table, or after an arrow.
    #[must_use]
    pub fn wrapped(&self, width: usize, column: usize) -> Self {
        let mut text = String::new();
        for line in self.0.lines() {
            let indent = match line.as_bytes() {
                [b'-', ..] => 3,
                bytes if bytes.get(column - 1) == Some(&b' ') => column,
                _ => 0,
            };
            // In bytes, of which a character has one or more.
            let mut at = 0;
            for word in line.split(' ') {
                if at > indent && at + word.len() > width {
                    text.pop();
                    text.push('\n');
                    at = 0;
                    while at < indent {
                        text.push(' ');
                        at += 1;
                    }
                }
                text.push_str(word);
                text.push(' ');
                at += word.len() + 1;
            }
            text.pop();
            text.push('\n');
        }
        Self(text)
    }

    /// Adds the lines of another one.
    pub fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hidden_characters() {
        let hidden = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200d}\u{200e}\u{2028}\
                      \u{202e}\u{2060}\u{2069}\u{2800}\u{3164}\u{fdd0}\u{fe0f}\u{feff}\u{fff9}\u{1ffff}\u{1d173}\u{e0001}\
                      \u{e0041}\u{e007f}\u{e01ef}\u{10ffff}";
        for c in hidden.chars() {
            assert!(is_hidden(c), "{}", c.escape_unicode());
        }
        for c in " ~a\u{e9}\u{301}\u{3000}\u{4e2d}\u{e000}\u{fffd}\u{1f600}\u{100000}".chars() {
            assert!(!is_hidden(c), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn names_and_lines() {
        assert_eq!(name("/a b/\u{e9}\\x2d"), "/a b/\u{e9}\\x2d");
        assert_eq!(name("/a\n\\b"), "/a\\n\\\\b");
        assert_eq!(name(b"\x1b[31m\xff"), "\\u{1b}[31m\\xff");
        assert_eq!(name("a\u{202e}b\u{e0041}"), "a\\u{202e}b\\u{e0041}");
        assert_eq!(line("a\\n \n\u{9b}"), "a\\n \\n\\u{9b}");
        for bytes in [&b"\n\\\xff"[..], b"\\n", b"\x9b\xc2\x9b", b""] {
            let shown = name(bytes);
            assert!(!shown.contains(is_hidden));
            assert_eq!(line(&shown), shown, "what is escaped stays as it is");
        }
        let table = Page::made(
            "ok   a bc def /long/path/that/is/whole x\n-> do this and that\nshort\n\nno blanks: 1234567890\n",
        );
        let broken = "ok   a bc\n     def\n     /long/path/that/is/whole\n     x\n-> do this\n   and that\nshort\n\nno blanks:\n1234567890\n";
        assert_eq!(table.wrapped(12, 5).as_str(), broken);
        assert_eq!(table.wrapped(80, 5), table);
        assert_eq!(
            Page::made("ok   \u{4e2d}\u{4e2d} \u{4e2d}\u{4e2d}\n").wrapped(12, 5).as_str(),
            "ok   \u{4e2d}\u{4e2d}\n     \u{4e2d}\u{4e2d}\n"
        );
        let mut page = Page::default();
        page.line(format_args!("{:<3}{}", "a", "b\nc"));
        assert_eq!(page.as_str(), "a  b\\nc\n");
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(shell("/dev/disk/by-label/a_b"), "/dev/disk/by-label/a_b");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("a b;$(id)`id`"), "'a b;$(id)`id`'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(b"\n'\\!\xff1"), r"$'\012\047\134\041\3771'");
    }

    #[test]
    fn strings_of_nix_json_and_prometheus() {
        assert_eq!(nix("\x1b"), r#""${builtins.fromJSON "\"\\u001b\""}""#);
        assert_eq!(nix("\u{e0041}"), r#""${builtins.fromJSON "\"\\udb40\\udc41\""}""#);
        assert_eq!(nix("a\"b\\c\n$d $${e} $"), r#""a\"b\\c\n\$d \$\${e} \$""#);
        let text = "\"\\\n\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}\u{e9}";
        let value = serde_json::json!({ text: [text] });
        let page = json(&value).unwrap();
        assert!(!page.as_str().replace('\n', "").contains(is_hidden), "{page:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(page.as_str()).unwrap(), value);
        let mut bytes = Vec::new();
        write_json(&mut bytes, &value).unwrap();
        let written = String::from_utf8(bytes).unwrap();
        assert_eq!(written, json_text(&value.to_string()));
        assert!(!written.contains(is_hidden), "{written}");
        assert_eq!(html("a\u{202e}<b>\n&'\""), "a\\u{202e}&lt;b&gt;\\n&amp;&#39;&quot;");
        assert_eq!(html_json(&["</script><!--\n"]).unwrap(), r#"["\u003c/script>\u003c!--\n"]"#);
        assert_eq!(label("a\\b\"c\nd"), r#"a\\\\b\"c\\nd"#);
    }
}
