//! `refs.local`: tags that were made, moved or removed here and that the cluster does not know of yet, each with where it
//! stood. The next `sync` publishes them; what others were faster with is told, and theirs stays.

use std::collections::BTreeMap;

use filesync_cas::ContentHash;
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;
use filesync_merkle::CommitId;

use crate::error::Error;
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "refs.local";
const TITLE: &str = "filesync refs.local 1";
const LEN_MAX: u64 = 64 << 20;

/// What a tag is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Where the cluster had it.
    pub expected: Option<CommitId>,
    /// Where it is to stand.
    pub new: Option<CommitId>,
}

/// All wishes, by the tag's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes(pub BTreeMap<String, Wish>);

impl Wishes {
    /// Reads them; none if this repository has not been in touch with a cluster since tags are shared.
    pub fn read(vfs: &dyn Vfs) -> Result<Option<Self>, Error> {
        small_file::read(vfs, PATH, LEN_MAX, Self::decode)
    }

    /// Makes them durable.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        small_file::write(vfs, PATH, &self.encode())
    }

    /// Wishes that a tag that stood at `was` stands at `new`.
    pub fn note(&mut self, name: &str, was: Option<CommitId>, new: Option<CommitId>) {
        let expected = self.0.get(name).map_or(was, |wish| wish.expected);
        if expected == new {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), Wish { expected, new });
        }
    }

    fn encode(&self) -> Vec<u8> {
        let word = |id: &Option<CommitId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let mut file = Builder::new(TITLE);
        for (name, Wish { expected, new }) in &self.0 {
            file.line(&format!("tag {} {} {name}", word(expected), word(new)));
        }
        file.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let lines = Lines::parse(bytes, TITLE)?;
        let wishes = lines.iter().map(|line| decode_line(line).ok_or_else(|| format!("unknown line {line:?}")));
        let wishes = Self(wishes.collect::<Result<_, _>>()?);
        check_form(bytes, &wishes.encode())?;
        Ok(wishes)
    }
}

fn decode_line(line: &str) -> Option<(String, Wish)> {
    let mut words = line.strip_prefix("tag ")?.splitn(3, ' ');
    let mut id = || match words.next()? {
        "none" => Some(None),
        word => word.parse::<ContentHash>().ok().map(|id| Some(CommitId(id))),
    };
    let wish = Wish { expected: id()?, new: id()? };
    Some((words.next()?.to_owned(), wish))
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Wishes::read(&vfs).unwrap(), None);
        let id = |n| Some(CommitId::from_bytes([n; 32]));
        let mut wishes = Wishes::default();
        for _ in 0..2 {
            wishes.write(&vfs).unwrap();
            assert_eq!(Wishes::read(&vfs).unwrap().as_ref(), Some(&wishes));
            wishes.note("v1", None, id(1));
            wishes.note("old/2", id(2), None);
        }
        let good = wishes.encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Wishes::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_wish_keeps_where_the_cluster_had_it() {
        let id = |n| Some(CommitId::from_bytes([n; 32]));
        let mut wishes = Wishes::default();
        wishes.note("a", id(1), id(2));
        wishes.note("a", id(2), id(3));
        assert_eq!(wishes.0["a"], Wish { expected: id(1), new: id(3) });
        wishes.note("a", id(3), id(1));
        assert_eq!(wishes, Wishes::default(), "as it was");
        wishes.note("b", None, id(1));
        wishes.note("b", id(1), None);
        assert_eq!(wishes, Wishes::default(), "made and removed");
    }
}
