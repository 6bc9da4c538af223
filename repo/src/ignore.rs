//! Which names `.filesyncignore` files leave out: the syntax and meaning of gitignore(5).
//!
//! Pure: bytes of ignore files in, verdicts out; [`crate::scan`] reads the files and knows which directories are
//! left out as a whole (nothing below them can be taken in again). Names without wildcards and `*.ending`, which it
//! looks up, are left to the `ignore` crate where it agrees with git, which is what counts; all else is matched by
//! `glob`. Where they differ: bytes that are not ASCII letters, digits or plain punctuation (the crate wants UTF-8, and
//! reads `{a,b}` as a choice), backslashes and tabs at the end. Of several rules the last one in the deepest file decides.
//!
//! Ignore files come with the trees of others. Of other wildcards the crate would make regular expressions, some of them
//! one for each rule, and each with a cache of up to 10 MiB: a file of a few kilobytes could take gigabytes. What `glob`
//! makes of a rule takes 64 bytes for each of its own.

#[cfg(test)]
mod fuzz;
mod glob;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

use self::glob::Glob;

/// The name of the files with the rules.
pub const IGNORE_FILE: &[u8] = b".filesyncignore";

/// A rule that decides about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Path of the directory with the ignore file, ending in `/` unless it is the root.
    pub directory: Vec<u8>,
    /// Line of the file, from 1.
    pub line: usize,
    /// The rule as it is written, without spaces at the end.
    pub rule: Vec<u8>,
    /// Whether it takes in (`!`) rather than leaves out.
    pub negated: bool,
}

/// The rules that hold in a directory: of its own file and of those above.
///
/// A directory without a file of its own shares its parent's, and without any there is nothing to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules(Option<Arc<Level>>);

#[derive(Debug)]
struct Level {
    above: Rules,
    /// Path of the directory, ending in `/` unless it is the root.
    directory: Vec<u8>,
    file: IgnoreFile,
    /// Bytes of this file and of those above.
    len: usize,
}

impl Rules {
    /// The rules in `directory` (its path, `/` at the end unless it is the root), whose file has these bytes.
    #[must_use]
    pub(crate) fn with_file(&self, directory: &[u8], bytes: &[u8]) -> Self {
        let file = IgnoreFile::parse(bytes);
        if file.rules.is_empty() {
            return self.clone();
        }
        let len = self.len() + bytes.len();
        Self(Some(Arc::new(Level { above: self.clone(), directory: directory.to_vec(), file, len })))
    }

    /// Bytes of the files that they stand in.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |level| level.len)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `path` is left out by a rule of its own. Its directory must not be left out itself.
    pub(crate) fn leave_out(&self, path: &[u8], is_directory: bool) -> bool {
        self.decide(path, is_directory).is_some_and(|(_, rule)| !rule.negated)
    }

    /// The rule that decides about `path`, if any.
    pub(crate) fn verdict(&self, path: &[u8], is_directory: bool) -> Option<Verdict> {
        let (level, rule) = self.decide(path, is_directory)?;
        Some(Verdict {
            directory: level.directory.clone(),
            line: rule.line,
            rule: rule.text.clone(),
            negated: rule.negated,
        })
    }

    fn decide(&self, path: &[u8], is_directory: bool) -> Option<(&Level, &Rule)> {
        let mut level = self.0.as_deref();
        while let Some(this) = level {
            if let Some(below) = path.strip_prefix(this.directory.as_slice())
                && let Some(rule) = this.file.decide(below, is_directory)
            {
                return Some((this, rule));
            }
            level = this.above.0.as_deref();
        }
        None
    }
}

/// One ignore file.
#[derive(Debug)]
struct IgnoreFile {
    /// In the order of the file.
    rules: Vec<Rule>,
    /// Those that the crate matches; each knows its index as the file that it came from.
    plain: Gitignore,
    /// The others, by index.
    special: Vec<usize>,
}

#[derive(Debug)]
struct Rule {
    line: usize,
    text: Vec<u8>,
    negated: bool,
    only_directories: bool,
    /// `None`: left to the crate.
    pattern: Option<Pattern>,
}

#[derive(Debug)]
enum Pattern {
    /// Without `/`: names at any depth.
    Name(Glob),
    /// Paths from the file's directory. The part without wildcards is cut off first, as git does; that shows, since
    /// `**` at the beginning of the rest is then special even if no `/` stands before it.
    Path { literal: Vec<u8>, rest: Glob },
}

impl IgnoreFile {
    fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        // Paths are given from the file's directory, and with "." as root the crate leaves them as they are.
        let mut plain = GitignoreBuilder::new(".");
        let (mut rules, mut special) = (Vec::new(), Vec::new());
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let Some(mut rule) = Rule::parse(number + 1, line) else {
                continue;
            };
            let index = rules.len();
            let for_crate = plain_text(&rule.text).is_some_and(|text| {
                let origin = PathBuf::from(index.to_string());
                plain.add_line(Some(origin), text).is_ok()
            });
            if !for_crate {
                rule.compile();
                special.push(index);
            }
            rules.push(rule);
        }
        match plain.build() {
            Ok(plain) => Self { rules, plain, special },
            // The crate refuses the set as a whole (too large for it): all by ourselves.
            Err(_) => {
                rules.iter_mut().for_each(Rule::compile);
                let special = (0..rules.len()).collect();
                Self { rules, plain: Gitignore::empty(), special }
            }
        }
    }

    fn decide(&self, path: &[u8], is_directory: bool) -> Option<&Rule> {
        let plain = self.plain.matched(Path::new(OsStr::from_bytes(path)), is_directory);
        let plain = plain.inner().and_then(|glob| glob.from()?.to_str()?.parse::<usize>().ok());
        let special = self.special.iter().rev().map(|&index| (index, &self.rules[index]));
        let later = special.take_while(|&(index, _)| Some(index) > plain);
        for (_, rule) in later {
            if rule.matches(path, is_directory) {
                return Some(rule);
            }
        }
        self.rules.get(plain?)
    }
}

impl Rule {
    /// `None` for blank lines and comments.
    fn parse(number: usize, line: &[u8]) -> Option<Self> {
        if line.is_empty() || line[0] == b'#' {
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Git's lines are C strings.
        let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = trim_spaces(line).to_vec();
        let negated = text.first() == Some(&b'!');
        let only_directories = text[usize::from(negated)..].last() == Some(&b'/');
        Some(Self { line: number, text, negated, only_directories, pattern: None })
    }

    fn compile(&mut self) {
        let text = &self.text[usize::from(self.negated)..];
        let text = &text[..text.len() - usize::from(self.only_directories)];
        self.pattern = Some(if text.contains(&b'/') {
            let text = text.strip_prefix(b"/").unwrap_or(text);
            let literal = text.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(text.len());
            Pattern::Path { literal: text[..literal].to_vec(), rest: Glob::new(&text[literal..], true) }
        } else {
            Pattern::Name(Glob::new(text, false))
        });
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.only_directories && !is_directory {
            return false;
        }
        match &self.pattern {
            None => false,
            Some(Pattern::Name(glob)) => {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
                glob.matches(name)
            }
            Some(Pattern::Path { literal, rest }) => {
                path.strip_prefix(literal.as_slice()).is_some_and(|below| rest.matches(below))
            }
        }
    }
}

/// Without the spaces at the end, unless a backslash stands before them.
fn trim_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match byte {
            b' ' => {}
            b'\\' => {
                at += 1;
                end = at + 1;
            }
            _ => end = at + 1,
        }
        at += 1;
    }
    &line[..end.min(line.len())]
}

/// The rule as text if the crate reads it as git does, and looks it up in a table.
fn plain_text(rule: &[u8]) -> Option<&str> {
    let body = rule.strip_prefix(b"!").unwrap_or(rule);
    let body = body.strip_suffix(b"/").unwrap_or(body);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.+@#%~,:=-".contains(byte);
    let component = |part: &[u8]| !part.is_empty() && part.iter().all(is_plain);
    let is_table = match body.strip_prefix(b"*.") {
        Some(ending) => component(ending) && !ending.contains(&b'.'),
        None => body.strip_prefix(b"/").unwrap_or(body).split(|&byte| byte == b'/').all(component),
    };
    if is_table { std::str::from_utf8(rule).ok() } else { None }
}
