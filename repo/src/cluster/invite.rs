//! The line that is handed over: what somebody needs to join.
//!
//! It holds the seed of a key of which the cluster knows the public half, so that nothing secret travels when it is used:
//! the joiner signs with it. Base32 in small letters, with a check, so that a damaged one is told from a wrong one.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, SigningKey};
use filesync_cas::hash::check16;
use filesync_cas::{ChunkSizes, Codec, ContentHash, Params};
use filesync_raft_log::command::{Admit, Role};
use filesync_raft_log::ids::{InviteKey, NodeId, PeerKey, RepositoryId, Signature};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

const PREFIX: &str = "filesync1";
/// The longest line that is read.
const LEN_MAX: usize = 16 << 10;

/// A member that can be asked to let somebody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Its number.
    pub node: NodeId,
    /// Its key.
    pub key: PeerKey,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

/// What the line says. It is a secret, and not to be printed but as the line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteLine {
    /// Which repository.
    pub repository: RepositoryId,
    /// Seed of the invite's key.
    pub seed: [u8; 32],
    /// As what.
    pub role: Role,
    /// How chunks are cut: the average.
    pub chunk_size: u32,
    /// Whether frames are compressed.
    pub is_compressed: bool,
    /// Whom to ask.
    pub doors: Vec<Door>,
}

impl fmt::Debug for InviteLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteLine").field("role", &self.role).finish_non_exhaustive()
    }
}

impl InviteLine {
    /// The line.
    pub fn encode(&self) -> Result<String, Error> {
        let bytes = postcard::to_allocvec(self);
        let mut bytes =
            bytes.map_err(|error| Error::new(ErrorKind::Failed, format!("cannot make an invite: {error}")))?;
        bytes.extend_from_slice(&check16(&[&bytes])[..8]);
        Ok(format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()))
    }

    /// Reads a line; the error says what is wrong with it and never shows it.
    pub fn decode(line: &str) -> Result<Self, Error> {
        let wrong = |cause: &str| {
            let error = Error::new(ErrorKind::Usage, format!("cannot use the invite: {cause}"));
            error.with_hint("hand over the whole line that `filesync invite` printed")
        };
        let line = line.trim();
        if line.len() > LEN_MAX {
            return Err(wrong("it is too long"));
        }
        let body = line.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with filesync1"))?;
        let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes());
        let bytes = bytes.map_err(|_| wrong("it is damaged"))?;
        let (bytes, check) = bytes.split_last_chunk::<8>().ok_or_else(|| wrong("it is damaged"))?;
        if check16(&[bytes])[..8] != *check {
            return Err(wrong("it is damaged"));
        }
        let (line, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|_| wrong("it is of another version"))?;
        if rest.is_empty() { Ok(line) } else { Err(wrong("it is of another version")) }
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    /// The half that the cluster knows.
    pub fn public(&self) -> InviteKey {
        InviteKey(self.key().verifying_key().to_bytes())
    }

    /// What the joiner says, signed for nobody else.
    pub fn admit(&self, peer: PeerKey, name: &str, addresses: Vec<String>, is_partial: bool) -> Admit {
        let mut admit = Admit {
            invite: self.public(),
            role: self.role,
            peer,
            name: name.to_owned(),
            addresses,
            is_partial,
            signature: Signature(Vec::new()),
        };
        admit.signature = Signature(self.key().sign(&admit.signed_bytes(self.repository)).to_bytes().to_vec());
        admit
    }

    /// How the new store is to be made.
    pub fn params(&self) -> Result<Params, Error> {
        let chunks = ChunkSizes::from_average(self.chunk_size);
        let chunks =
            chunks.ok_or_else(|| Error::new(ErrorKind::Usage, "cannot use the invite: its chunk size is none"))?;
        let codec = if self.is_compressed { Codec::Zstd } else { Codec::None };
        Ok(Params::new(ContentHash::from_bytes(self.repository.0), chunks, codec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> InviteLine {
        InviteLine {
            repository: RepositoryId([1; 32]),
            seed: [2; 32],
            role: Role::Writer,
            chunk_size: 64 << 10,
            is_compressed: true,
            doors: vec![Door { node: NodeId(1), key: PeerKey([3; 32]), addresses: vec!["127.0.0.1:7946".to_owned()] }],
        }
    }

    #[test]
    fn a_line_says_what_it_was_made_of() {
        let text = line().encode().unwrap();
        assert_eq!(InviteLine::decode(&format!(" {text}\n")).unwrap(), line());
        assert_eq!(InviteLine::decode(&text.to_ascii_lowercase()).unwrap(), line());
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let text = line().encode().unwrap();
        for at in PREFIX.len()..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(InviteLine::decode(&bad).is_err(), "letter {at}");
            assert!(InviteLine::decode(&text[..at]).is_err(), "cut at {at}");
        }
        for bad in ["", "filesync1", "filesync2abc", "http://example.org"] {
            assert!(InviteLine::decode(bad).is_err(), "{bad:?}");
        }
    }
}
