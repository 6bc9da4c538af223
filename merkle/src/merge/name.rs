//! How conflict copies are called.

use crate::path::NAME_LEN_MAX;

/// The longest ending, dot included, that counts as an extension.
const EXTENSION_LEN_MAX: usize = 32;
/// How much of the node's name and of the date is used.
const PART_LEN_MAX: usize = 40;

/// Whose version a conflict copy has, and of which day.
#[derive(Debug, Clone, Copy)]
pub struct ConflictTag<'a> {
    /// The node.
    pub node: &'a str,
    /// The day.
    pub date: &'a str,
}

impl ConflictTag<'_> {
    /// `name.conflict-NODE-DATE.ext`; from the second on, NUMBER follows the date.
    ///
    /// The extension stays last, so that the copy opens with the same program. A name that begins with its last dot has
    /// none (`.bashrc`). Of NODE and DATE letters, digits, `-` and `_` are used. What would be longer than a name may
    /// be loses the end of its stem, and no character of it by half. Made of a valid name it is one.
    pub fn copy_name(self, name: &[u8], number: u32) -> Vec<u8> {
        let (stem, extension) = name.split_at(extension_at(name));
        let mut middle = format!(".conflict-{}-{}", plain(self.node), plain(self.date));
        if number > 1 {
            middle.push_str(&format!("-{number}"));
        }
        let stem = shorten(stem, NAME_LEN_MAX - middle.len() - extension.len());
        [stem, middle.as_bytes(), extension].concat()
    }
}

/// Where the extension begins; at the end if there is none.
fn extension_at(name: &[u8]) -> usize {
    let dot = name.iter().rposition(|&byte| byte == b'.');
    let has_stem = |&at: &usize| name[..at].iter().any(|&byte| byte != b'.');
    dot.filter(has_stem).filter(|at| name.len() - at <= EXTENSION_LEN_MAX).unwrap_or(name.len())
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(PART_LEN_MAX).collect()
}

/// At most `len` bytes of it. A name need not be UTF-8: where no character begins within four bytes, any byte will do.
fn shorten(stem: &[u8], len: usize) -> &[u8] {
    let begins_char = |at: &usize| stem.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80);
    if stem.len() <= len {
        return stem;
    }
    let at = (len.saturating_sub(3)..=len).rev().find(begins_char).unwrap_or(len);
    &stem[..at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Name;

    const TAG: ConflictTag<'static> = ConflictTag { node: "no de/..", date: "today" };

    #[test]
    fn names_of_conflict_copies() {
        let table = [
            ("a.txt", 1, "a.conflict-node-today.txt"),
            ("a.tar.gz", 2, "a.tar.conflict-node-today-2.gz"),
            (".bashrc", 1, ".bashrc.conflict-node-today"),
            (".config.json", 3, ".config.conflict-node-today-3.json"),
            ("..x", 1, "..x.conflict-node-today"),
            ("plain", 1, "plain.conflict-node-today"),
            ("end.", 1, "end.conflict-node-today."),
            ("...", 1, "....conflict-node-today"),
        ];
        for (name, number, copy) in table {
            assert_eq!(String::from_utf8(TAG.copy_name(name.as_bytes(), number)).unwrap(), copy);
        }
    }

    #[test]
    fn they_are_names_whatever_they_are_made_of() {
        let long = [vec![b'x'; 251], b".txt".to_vec()].concat();
        assert_eq!(TAG.copy_name(&long, 1).len(), 255);
        assert!(TAG.copy_name(&long, 1).ends_with(b".conflict-node-today.txt"));
        let long_extension = [b"x.".to_vec(), vec![b'y'; 253]].concat();
        assert_eq!(TAG.copy_name(&long_extension, 10).len(), 255);
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"\u{1F600}".repeat(60) + ".md";
            let copy = TAG.copy_name(text.as_bytes(), 12);
            assert!((252..=255).contains(&copy.len()));
            assert!(std::str::from_utf8(&copy).unwrap().ends_with(".conflict-node-today-12.md"));
        }
        let text = "n".repeat(300);
        let tag = ConflictTag { node: &text, date: &text };
        for name in [&[0x80; 255][..], &[0xFF; 255], b".filesyncx", b"x", "\u{e9}".as_bytes()] {
            assert!(Name::new(&tag.copy_name(name, u32::MAX)).is_ok());
        }
    }
}
