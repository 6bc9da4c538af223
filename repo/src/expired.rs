//! Commits that have expired: their objects stay, so that history stays whole, and their trees are no roots any more.
//!
//! `docs/format.md`, section 3, rules the bytes. What a root leads to has not expired, whatever the list says.

use std::collections::BTreeSet;

use filesync_cas::small_file::{Builder, Lines};
use filesync_cas::vfs::Vfs;
use filesync_merkle::CommitId;

use crate::error::{Error, ErrorKind};
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "expired";
const TITLE: &str = "filesync expired 1";
const LEN_MAX: u64 = 64 << 20;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired(pub BTreeSet<CommitId>);

impl Expired {
    /// The list that is there; an empty one if there is none. One that is damaged is an error: it may name anything.
    pub fn read(vfs: &dyn Vfs) -> Result<Self, Error> {
        let hint = "without that file, `filesync forget` with the rules as before makes it again";
        let read = small_file::read(vfs, PATH, LEN_MAX, Self::decode);
        let read = read.map_err(|error| if error.kind() == ErrorKind::Damage { error.with_hint(hint) } else { error });
        Ok(read?.unwrap_or_default())
    }

    /// Makes it durable.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        let bytes = self.encode();
        if bytes.len() as u64 > LEN_MAX {
            return Err(Error::new(ErrorKind::Failed, "cannot forget: too many commits would have expired"));
        }
        small_file::write(vfs, PATH, &bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        self.0.iter().for_each(|id| file.line(&format!("commit {id}")));
        file.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut list = BTreeSet::new();
        for line in Lines::parse(bytes, TITLE)?.iter() {
            let id = line.strip_prefix("commit ").and_then(|id| id.parse().ok()).map(CommitId);
            let id = id.ok_or_else(|| format!("unknown line {line:?}"))?;
            if list.last().is_some_and(|last| *last >= id) {
                return Err("its commits are not in order".to_owned());
            }
            list.insert(id);
        }
        Ok(Self(list))
    }
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Expired::read(&vfs).unwrap(), Expired::default());
        let list = Expired([9, 1, 5].map(|n| CommitId::from_bytes([n; 32])).into());
        list.write(&vfs).unwrap();
        assert_eq!(Expired::read(&vfs).unwrap(), list);
    }

    #[test]
    fn what_was_not_written_is_refused() {
        let good = Expired([1, 5].map(|n| CommitId::from_bytes([n; 32])).into()).encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Expired::decode(&bad).is_err(), "byte {at}");
        }
        let one = CommitId::from_bytes([1; 32]);
        for lines in [vec![one, one], vec![CommitId::from_bytes([2; 32]), one]] {
            let mut file = Builder::new(TITLE);
            lines.iter().for_each(|id| file.line(&format!("commit {id}")));
            assert!(Expired::decode(&file.finish()).is_err(), "{lines:?}");
        }
        let mut file = Builder::new(TITLE);
        file.line("commit 12");
        assert!(Expired::decode(&file.finish()).is_err());
    }
}
