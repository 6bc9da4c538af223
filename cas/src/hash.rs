//! Identities: 32 bytes of BLAKE3, and the kind of object that they name.
//!
//! `docs/format.md`, section 1, rules this file. What the kinds *mean* is not known here: [`Schema`] is how
//! a crate above tells the store which kinds exist and what they refer to.

use std::fmt;
use std::str::FromStr;

/// The identity of an object: BLAKE3 of its bytes, plain for chunks and in derive-key mode for all others.
///
/// Compared, ordered and hashed as bytes. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes bytes that are known to be an identity.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The identity of a chunk: plain BLAKE3.
    pub fn of_chunk(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The identity of a metadata object: BLAKE3 in derive-key mode with the context of its kind.
    pub fn of_metadata(context: &str, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(bytes);
        Self(*hasher.finalize().as_bytes())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// All 64 hex digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..16])
    }
}

/// A string that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 64 lower-case hex digits")]
pub struct ParseHashError;

impl FromStr for ContentHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let bytes = unhex(text).ok_or(ParseHashError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseHashError)?))
    }
}

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes that lower-case hex digits stand for; `None` if there is anything else in `text`.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    fn digit(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The first 16 bytes of BLAKE3: guards files and frames against accidents.
pub fn check16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

/// What sort of object an identity names, as a code that frames store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// Bytes of a file between two cut points. The one kind that this crate knows.
    pub const CHUNK: Kind = Kind(1);

    /// Whether objects of this kind live in data packs.
    pub fn is_chunk(self) -> bool {
        self == Self::CHUNK
    }
}

/// What the store must be told about metadata kinds in order to verify and to follow them.
pub trait Schema: Send + Sync + fmt::Debug {
    /// The derive-key context of a metadata kind; `None` for a kind that does not exist.
    fn context(&self, kind: Kind) -> Option<&'static str>;

    /// What a kind is called in messages ("tree", "commit" …).
    fn name(&self, kind: Kind) -> &'static str;

    /// Decodes a metadata object strictly and lists what it refers to, or says why it is malformed.
    fn children(&self, kind: Kind, bytes: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String>;
}

/// The identity of `bytes` as an object of `kind`; `None` for a kind that does not exist.
pub fn identify(schema: &dyn Schema, kind: Kind, bytes: &[u8]) -> Option<ContentHash> {
    if kind.is_chunk() {
        return Some(ContentHash::of_chunk(bytes));
    }
    schema.context(kind).map(|context| ContentHash::of_metadata(context, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_other_spellings() {
        let id = ContentHash::of_chunk(b"abc");
        assert_eq!(id.to_hex().parse(), Ok(id));
        assert_eq!(id.to_hex().to_uppercase().parse::<ContentHash>(), Err(ParseHashError));
        assert_eq!(id.to_hex()[1..].parse::<ContentHash>(), Err(ParseHashError));
    }
}
