//! Small checksummed text files: `format`, `HEAD`, refs, pins and their like (`docs/format.md`, section 3).
//!
//! One writer and one parser for all of them, so that none can be read without its check.

use crate::hash::{check16, hex};

/// Lines of a file whose check holds, without the first (its kind and version) and the last (the check).
#[derive(Debug, PartialEq, Eq)]
pub struct Lines<'a>(Vec<&'a str>);

impl<'a> Lines<'a> {
    /// Parses a file of the kind that `title` names.
    ///
    /// Fails with what is wrong: not text, no check, a wrong check, or another first line.
    pub fn parse(bytes: &'a [u8], title: &str) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
        let body = text.strip_suffix('\n').ok_or("its last line is not whole")?;
        let (rest, check) = body.rsplit_once('\n').ok_or("too short")?;
        let check = check.strip_prefix("check ").ok_or("its last line is not a check")?;
        let covered = &text[..=rest.len()];
        if check != hex(&check16(&[covered.as_bytes()])) {
            return Err("its check does not fit its bytes".to_owned());
        }
        let mut lines = rest.split('\n');
        match lines.next() {
            Some(first) if first == title => Ok(Self(lines.collect())),
            Some(first) => Err(format!("it begins with {first:?}, not {title:?}")),
            None => Err("empty".to_owned()),
        }
    }

    /// The lines in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().copied()
    }
}

/// Fails unless a file has the bytes that its value is written as: numbers, order, and nothing else in it.
pub fn check_form(bytes: &[u8], written: &[u8]) -> Result<(), String> {
    if bytes == written { Ok(()) } else { Err("it is not in the form that it is written in".to_owned()) }
}

/// Builds such a file.
#[derive(Debug)]
pub struct Builder(String);

impl Builder {
    /// Begins with the line that names kind and version.
    pub fn new(title: &str) -> Self {
        Self(format!("{title}\n"))
    }

    /// Adds one line, which must not hold a line break.
    pub fn line(&mut self, line: &str) {
        debug_assert!(!line.contains('\n'), "a line of a small file");
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// The bytes of the file, with the check.
    pub fn finish(mut self) -> Vec<u8> {
        let check = hex(&check16(&[self.0.as_bytes()]));
        self.0.push_str("check ");
        self.0.push_str(&check);
        self.0.push('\n');
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut builder = Builder::new("filesync test 1");
        builder.line("a 1");
        builder.line("b 2");
        let good = builder.finish();
        let lines = Lines::parse(&good, "filesync test 1").expect("what was written parses");
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["a 1", "b 2"]);
        assert!(Lines::parse(&good, "filesync other 1").is_err());
        for at in 0..good.len() {
            assert!(Lines::parse(&good[..at], "filesync test 1").is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(Lines::parse(&bad, "filesync test 1").is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
