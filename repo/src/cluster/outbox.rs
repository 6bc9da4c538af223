//! `outbox`: the one publish of this node that may be under way, durable before it is sent.
//!
//! The cluster keeps the last number of each member and what came of it: the same number is the same publish, however
//! often it is asked for. So whoever finds something here asks again, and learns what became of it.

use filesync_cas::ContentHash;
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;
use filesync_merkle::CommitId;

use crate::error::Error;
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "outbox";
const TITLE: &str = "filesync outbox 1";
const LEN_MAX: u64 = 1 << 16;

/// A move of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Which ref.
    pub name: String,
    /// Where it stands.
    pub expected: Option<CommitId>,
    /// Where it is to stand.
    pub new: Option<CommitId>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// The last number that was used.
    pub seq: u64,
    /// What was asked for under it, as long as the outcome is not known.
    pub sending: Option<Sending>,
}

impl Outbox {
    /// Reads it; an empty one if there is none.
    pub fn read(vfs: &dyn Vfs) -> Result<Self, Error> {
        Ok(small_file::read(vfs, PATH, LEN_MAX, Self::decode)?.unwrap_or_default())
    }

    /// Makes it durable.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        small_file::write(vfs, PATH, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let word = |id: &Option<CommitId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let mut file = Builder::new(TITLE);
        file.line(&format!("seq {}", self.seq));
        if let Some(Sending { name, expected, new }) = &self.sending {
            file.line(&format!("move {} {} {name}", word(expected), word(new)));
        }
        file.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let lines = Lines::parse(bytes, TITLE)?;
        let mut lines = lines.iter();
        let seq = lines.next().and_then(|line| line.strip_prefix("seq ")?.parse().ok()).ok_or("no number in it")?;
        let sending = match lines.next() {
            None => None,
            Some(line) => Some(decode_move(line).ok_or_else(|| format!("unknown line {line:?}"))?),
        };
        match lines.next() {
            None => {}
            Some(line) => return Err(format!("unknown line {line:?}")),
        }
        let outbox = Self { seq, sending };
        check_form(bytes, &outbox.encode())?;
        Ok(outbox)
    }
}

fn decode_move(line: &str) -> Option<Sending> {
    let mut words = line.strip_prefix("move ")?.splitn(3, ' ');
    let mut id = || {
        let word = words.next()?;
        if word == "none" { Some(None) } else { word.parse::<ContentHash>().ok().map(|id| Some(CommitId(id))) }
    };
    let (expected, new) = (id()?, id()?);
    Some(Sending { name: words.next()?.to_owned(), expected, new })
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Outbox::read(&vfs).unwrap(), Outbox::default());
        let id = |n| Some(CommitId::from_bytes([n; 32]));
        let moves = [(None, id(1), "main"), (id(1), id(2), "main"), (id(2), None, "tags/a b")];
        for (expected, new, name) in moves {
            let sending = Some(Sending { name: name.to_owned(), expected, new });
            for outbox in [Outbox { seq: 7, sending }, Outbox { seq: u64::MAX, sending: None }] {
                outbox.write(&vfs).unwrap();
                assert_eq!(Outbox::read(&vfs).unwrap(), outbox);
            }
        }
    }
}
