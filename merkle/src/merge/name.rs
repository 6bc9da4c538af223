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

const INFIX: &[u8] = b".conflict-";

/// Whether a name is that of a conflict copy whose date is one, such as 20261130-174503 or 2026-11-30.
pub fn is_copy_name(name: &[u8]) -> bool {
    middle_of(name).is_some()
}

/// The name of which one is that of a conflict copy, as far as that can be told: a long one may have lost the end of its stem.
pub fn original_name(name: &[u8]) -> Option<Vec<u8>> {
    let (from, to) = middle_of(name)?;
    Some([&name[..from], &name[to..]].concat())
}

/// Where in a name of a conflict copy stands what tells whose it is.
fn middle_of(name: &[u8]) -> Option<(usize, usize)> {
    let from = name.windows(INFIX.len()).rposition(|window| window == INFIX)?;
    let begin = from + INFIX.len();
    let mut parts = name[begin..].split(|&byte| byte == b'.');
    let middle = parts.next().unwrap_or_default();
    // Behind it comes the extension, or nothing.
    (parts.nth(1).is_none() && is_node_and_date(middle)).then_some((from, begin + middle.len()))
}

/// `NODE-20261130-174503` or `NODE-2026-11-30`, or with a number behind it.
fn is_node_and_date(middle: &[u8]) -> bool {
    let mut words: Vec<&[u8]> = middle.split(|&byte| byte == b'-').collect();
    let is_number = |word: &[u8], len: usize| word.len() == len && word.iter().all(u8::is_ascii_digit);
    let is_date = |words: &[&[u8]]| match words {
        [node @ .., day, time] if is_number(day, 8) && is_number(time, 6) => node.iter().any(|word| !word.is_empty()),
        [node @ .., year, month, day] => {
            node.iter().any(|word| !word.is_empty()) && is_number(year, 4) && is_number(month, 2) && is_number(day, 2)
        }
        _ => false,
    };
    is_date(&words)
        || words.pop().is_some_and(|last| is_number(last, last.len()) && !last.is_empty()) && is_date(&words)
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
    fn conflict_copies_are_known_by_their_names() {
        for name in ["a.txt", "a.tar.gz", ".bashrc", "plain", "end.", "...", "a.conflict-b.txt"] {
            for (number, date) in
                [(1, "2026-11-30"), (2, "2026-11-30"), (1, "20261130-174503"), (17, "20261130-174503")]
            {
                let tag = ConflictTag { node: "no-de_1", date };
                let copy = tag.copy_name(name.as_bytes(), number);
                assert!(is_copy_name(&copy), "{}", String::from_utf8_lossy(&copy));
                assert_eq!(original_name(&copy).as_deref(), Some(name.as_bytes()));
            }
            assert!(!is_copy_name(name.as_bytes()), "{name}");
            assert_eq!(original_name(name.as_bytes()), None);
        }
        for name in [
            "a.conflict-2026-11-30",
            "a.conflict--2026-11-30",
            "a.conflict-20261130-174503",
            "a.conflict-n-20261130-1745",
            "a.conflict-of-interest.txt",
            "a.conflict-n-2026-11.txt",
            "a.conflict-n-2026-11-30.tar.gz",
            "a.conflict-n-2026-11-30-x.gz",
            "aconflict-n-2026-11-30",
        ] {
            assert!(!is_copy_name(name.as_bytes()), "{name}");
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
