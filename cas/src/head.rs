//! `HEAD`: where the working copy stands, and how much of each open pack is durable.
//!
//! Replacing this file is the acknowledgement of a commit: everything that it vouches for is synced before.

use crate::hash::ContentHash;
use crate::pack::{Class, PackName};
use crate::small_file::{Builder, Lines, check_form};

const TITLE: &str = "filesync head 1";

/// The durable length of an open pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Which pack.
    pub pack: PackName,
    /// What it holds.
    pub class: Class,
    /// Bytes that are synced, header included. Moves back only when gc removes the pack.
    pub len: u64,
}

/// What `HEAD` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// How often it has been replaced.
    pub generation: u64,
    /// The commit that the working copy stands on; none before the first.
    pub head: Option<ContentHash>,
    /// Open packs, ascending by name.
    pub marks: Vec<Mark>,
}

impl Head {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        file.line(&format!("generation {}", self.generation));
        file.line(&self.head.map_or_else(|| "head none".to_owned(), |id| format!("head {id}")));
        for mark in &self.marks {
            file.line(&format!("open {} {} {}", mark.pack, mark.class.word(), mark.len));
        }
        file.finish()
    }

    /// Parses the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let lines = Lines::parse(bytes, TITLE)?;
        let mut lines = lines.iter();
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.ok_or_else(|| format!("no line {name:?}"))
        };
        let generation = field("generation ")?.parse().map_err(|_| "its generation is no number".to_owned())?;
        let head = match field("head ")? {
            "none" => None,
            id => Some(id.parse().map_err(|_| "its head is no id".to_owned())?),
        };
        let marks = lines.map(|line| mark(line).ok_or_else(|| format!("unknown line {line:?}")));
        let marks = marks.collect::<Result<Vec<_>, _>>()?;
        if !marks.is_sorted_by(|a, b| a.pack < b.pack) {
            return Err("its packs are not in order".to_owned());
        }
        let found = Self { generation, head, marks };
        check_form(bytes, &found.encode())?;
        Ok(found)
    }
}

fn mark(line: &str) -> Option<Mark> {
    let mut words = line.strip_prefix("open ")?.split(' ');
    let mark = Mark {
        pack: words.next()?.parse().ok()?,
        class: Class::from_word(words.next()?)?,
        len: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_order() {
        let name = |n: u8| PackName::from_bytes([n; 16]);
        let mark = |n, class| Mark { pack: name(n), class, len: 100 };
        let mut head = Head {
            generation: 3,
            head: Some(ContentHash::of_chunk(b"x")),
            marks: vec![mark(1, Class::Data), mark(2, Class::Meta)],
        };
        assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
        head.marks.reverse();
        assert!(Head::decode(&head.encode()).is_err());
        assert_eq!(Head::decode(&Head::default().encode()), Ok(Head::default()));
    }
}
