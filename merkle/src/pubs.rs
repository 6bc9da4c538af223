//! One step of the order of publishes. `docs/format.md`, section 1.7.

use crate::codec::{Reader, VERSION, Writer};
use crate::commit::decode_text;
use crate::error::{DecodeError, InvalidError};
use crate::id::{CommitId, PubId};
use crate::schema::identify;

/// The longest name of a ref.
pub const REF_LEN_MAX: usize = 255;

const OLD: u8 = 1;
const NEW: u8 = 2;
const PREV: u8 = 4;

/// A ref moved from one commit to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pub {
    /// Which ref, 1 to 255 bytes.
    pub ref_name: String,
    /// Where the log of the cluster says so.
    pub log_index: u64,
    /// Where it stood; `None` if it is new.
    pub old: Option<CommitId>,
    /// Where it stands now; `None` if it is gone.
    pub new: Option<CommitId>,
    /// The pub before.
    pub prev: Option<PubId>,
}

impl Pub {
    /// The canonical bytes, or what the format does not allow.
    pub fn encode(&self) -> Result<Vec<u8>, InvalidError> {
        if self.ref_name.is_empty() || self.ref_name.len() > REF_LEN_MAX {
            return Err(InvalidError("the name of a ref has 1 to 255 bytes"));
        }
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        let mut out = Writer::with_capacity(256);
        out.u8(VERSION);
        out.u8(flag(self.old.is_some(), OLD) | flag(self.new.is_some(), NEW) | flag(self.prev.is_some(), PREV));
        out.len_u16(self.ref_name.len());
        out.bytes(self.ref_name.as_bytes());
        out.u64(self.log_index);
        let ids = [self.old.map(|id| id.0), self.new.map(|id| id.0), self.prev.map(|id| id.0)];
        for id in ids.into_iter().flatten() {
            out.bytes(id.as_bytes());
        }
        Ok(out.finish())
    }

    /// Reads strictly.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        from.version()?;
        let flags = from.u8()?;
        from.check(flags & !(OLD | NEW | PREV) == 0, "unknown flags")?;
        let len = from.bounded_u16(REF_LEN_MAX, "the name of a ref is too long")?;
        from.check(len > 0, "a ref without a name")?;
        let ref_name = decode_text(&mut from, len)?;
        let log_index = from.u64()?;
        let mut id = |flag: u8| if flags & flag != 0 { from.array().map(Some) } else { Ok(None) };
        let (old, new, prev) = (id(OLD)?, id(NEW)?, id(PREV)?);
        from.finish()?;
        Ok(Self {
            ref_name,
            log_index,
            old: old.map(CommitId::from_bytes),
            new: new.map(CommitId::from_bytes),
            prev: prev.map(PubId::from_bytes),
        })
    }

    /// The id.
    pub fn id(&self) -> Result<PubId, InvalidError> {
        Ok(PubId(identify(PubId::KIND, &self.encode()?)))
    }
}
