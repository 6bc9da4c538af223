//! Extended attributes of one entry. `docs/format.md`, section 1.5.

use crate::codec::{Reader, VERSION, Writer};
use crate::error::{DecodeError, InvalidError};

/// The longest encoding.
pub const ATTRS_LEN_MAX: usize = 64 << 10;
const COUNT_MAX: usize = 1024;
const NAME_LEN_MAX: usize = 255;
const PREFIX: &[u8] = b"user.";

/// A name and a value.
pub type AttrPair = (Box<[u8]>, Box<[u8]>);

/// Names and values, by name. Valid, since checked when made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attrs(Vec<AttrPair>);

impl Attrs {
    /// Sorts and checks. An entry without attributes has no such object: an empty set is refused.
    pub fn new(mut pairs: Vec<AttrPair>) -> Result<Self, InvalidError> {
        pairs.sort();
        let len: usize = 4 + pairs.iter().map(|(name, value)| 6 + name.len() + value.len()).sum::<usize>();
        if len > ATTRS_LEN_MAX {
            return Err(InvalidError("attributes exceed 64 KiB"));
        }
        check(&pairs)?;
        Ok(Self(pairs))
    }

    /// Names and values in order.
    pub fn pairs(&self) -> &[AttrPair] {
        &self.0
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(256);
        out.u8(VERSION);
        out.u8(0);
        out.len_u16(self.0.len());
        for (name, value) in &self.0 {
            out.len_u16(name.len());
            out.bytes(name);
            out.len_u32(value.len());
            out.bytes(value);
        }
        out.finish()
    }

    /// Reads strictly.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        from.check(bytes.len() <= ATTRS_LEN_MAX, "attributes exceed 64 KiB")?;
        from.version()?;
        let reserved = from.u8()?;
        from.check(reserved == 0, "reserved bytes are not zero")?;
        let count = from.bounded_u16(COUNT_MAX, "more than 1024 attributes")?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let len = from.bounded_u16(NAME_LEN_MAX, "an attribute's name is too long")?;
            let name: Box<[u8]> = from.take(len)?.into();
            let len = from.bounded_u32(ATTRS_LEN_MAX, "an attribute's value is too long")?;
            pairs.push((name, Box::from(from.take(len)?)));
        }
        if let Err(InvalidError(what)) = check(&pairs) {
            return from.fail(what);
        }
        from.finish()?;
        Ok(Self(pairs))
    }
}

fn check(pairs: &[AttrPair]) -> Result<(), InvalidError> {
    if pairs.is_empty() || pairs.len() > COUNT_MAX {
        return Err(InvalidError("1 to 1024 attributes are possible"));
    }
    if !pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(InvalidError("names of attributes are not ascending"));
    }
    for (name, _) in pairs {
        if name.len() > NAME_LEN_MAX || !name.starts_with(PREFIX) || name.contains(&0) {
            return Err(InvalidError("an attribute's name is not `user.…` of at most 255 bytes without NUL"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        let pair = |name: &[u8], value: &[u8]| (Box::from(name), Box::from(value));
        let attrs = Attrs::new(vec![pair(b"user.b", b""), pair(b"user.a", b"1")]).unwrap();
        let bytes = attrs.encode();
        assert_eq!(Attrs::decode(&bytes), Ok(attrs));
        assert!(Attrs::new(Vec::new()).is_err());
        assert!(Attrs::new(vec![pair(b"user.a", b""), pair(b"user.a", b"1")]).is_err());
        assert!(Attrs::new(vec![pair(b"security.a", b"")]).is_err());
        assert!(Attrs::new(vec![pair(b"user.\0", b"")]).is_err());
        assert!(Attrs::new(vec![pair(b"user.a", &[0; 65_536])]).is_err());
        assert!(Attrs::new(vec![pair(b"user.a", &[0; 65_536 - 16])]).is_ok());
    }
}
