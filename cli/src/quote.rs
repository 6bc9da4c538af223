//! Names and texts that others wrote, made fit for a terminal: nothing moves the cursor, and one name stays on
//! one line. JSON and `-z` do not come here.

use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name as git shows it: as it is if harmless, else in double quotes with the escapes of C.
pub fn name(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_harmless(text) => Cow::Borrowed(text),
        _ => Cow::Owned(quoted(bytes)),
    }
}

/// A file system's path, likewise.
pub fn path(path: &Path) -> Cow<'_, str> {
    name(path.as_os_str().as_bytes())
}

/// A text of one line, such as an author or a message of ours that holds names: control characters escaped.
pub fn line(text: &str) -> Cow<'_, str> {
    escape_controls(text, |_| false)
}

/// A text of several lines, such as a commit's message.
pub fn text(text: &str) -> Cow<'_, str> {
    escape_controls(text, |c| matches!(c, '\n' | '\t'))
}

/// A word as a shell would have to be given it, for hints that can be copied.
pub fn shell(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '~' | ':' | '+' | '@' | ',');
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

fn is_harmless(text: &str) -> bool {
    // The arrow stands between the two names of a rename, and quotes at the ends would look like ours.
    !text.is_empty() && !text.contains(" -> ") && !text.chars().any(|c| is_control(c) || matches!(c, '"' | '\\'))
}

/// Control characters, and those that turn the direction of text or end a line in other ways.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if is_control(c) => escape(c, &mut out),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            octal(*byte, &mut out);
        }
    }
    out.push('"');
    out
}

fn escape_controls(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escapes = |c: char| is_control(c) && !keep(c);
    if !text.contains(escapes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if escapes(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn escape(c: char, out: &mut String) {
    match c {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(byte, out)),
    }
}

fn octal(byte: u8, out: &mut String) {
    write!(out, "\\{byte:03o}").expect("strings can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_does() {
        let cases: [(&[u8], &str); 11] = [
            (b"plain name.txt", "plain name.txt"),
            ("schön 文".as_bytes(), "schön 文"),
            (b"a\nb", r#""a\nb""#),
            (b"tab\t", r#""tab\t""#),
            (b"\x1b[31m", r#""\033[31m""#),
            (b"q\"", r#""q\"""#),
            (b"back\\slash", r#""back\\slash""#),
            (b"\xff\xfe", r#""\377\376""#),
            ("c1\u{9b}".as_bytes(), r#""c1\302\233""#),
            ("txt\u{202e}exe".as_bytes(), r#""txt\342\200\256exe""#),
            (b"a -> b", r#""a -> b""#),
        ];
        for (bytes, shown) in cases {
            assert_eq!(name(bytes), shown);
        }
    }

    #[test]
    fn texts_keep_their_lines() {
        assert_eq!(text("a\n\tb\u{1b}[2J"), "a\n\tb\\033[2J");
        assert_eq!(line("a\n\tb"), "a\\n\\tb");
        assert_eq!(line("A \"U\" \\ <a@b>"), "A \"U\" \\ <a@b>");
    }

    #[test]
    fn hints_can_be_copied() {
        assert_eq!(shell("src/a.rs"), "src/a.rs");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell("$HOME"), "'$HOME'");
    }
}
