//! A tree, its parents, who, when, why, and a signature. `docs/format.md`, section 1.6.
//!
//! Nothing here signs or verifies: [`Commit::signed_message`] is what the signature is over.

use std::collections::HashSet;

use filesync_cas::ContentHash;

use crate::codec::{Reader, VERSION, Writer};
use crate::entry::{Timestamp, TreeLink};
use crate::error::{DecodeError, InvalidError};
use crate::id::{CommitId, TreeId};
use crate::schema::identify;

/// The most parents.
pub const PARENTS_MAX: usize = 8;
/// The longest author.
pub const AUTHOR_LEN_MAX: usize = 1024;
/// The longest message.
pub const MESSAGE_LEN_MAX: usize = 131_072;

/// One commit. Anything can be put in the fields; [`Commit::encode`] checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The first is the one that history follows; none for the first commit of a repository.
    pub parents: Vec<CommitId>,
    /// The root directory.
    pub tree: TreeLink,
    /// When.
    pub time: Timestamp,
    /// Who, without control characters.
    pub author: String,
    /// Why, without NUL; may be empty.
    pub message: String,
    /// The Ed25519 public key of the node that made it.
    pub node: [u8; 32],
    /// That node's signature of [`Commit::signed_message`].
    pub signature: [u8; 64],
}

impl Commit {
    /// The canonical bytes, or what the format does not allow.
    pub fn encode(&self) -> Result<Vec<u8>, InvalidError> {
        let mut out = self.encode_unsigned()?;
        out.bytes(&self.signature);
        Ok(out.finish())
    }

    /// All bytes before the signature.
    pub fn unsigned_bytes(&self) -> Result<Vec<u8>, InvalidError> {
        Ok(self.encode_unsigned()?.finish())
    }

    /// What the signature is over, in the repository with this id. The field `signature` does not count.
    pub fn signed_message(&self, repository: &[u8; 32]) -> Result<Vec<u8>, InvalidError> {
        let unsigned = self.unsigned_bytes()?;
        Ok([b"filesync commit signature v1\0", repository.as_slice(), &unsigned].concat())
    }

    /// The id, signature included.
    pub fn id(&self) -> Result<CommitId, InvalidError> {
        Ok(CommitId(identify(CommitId::KIND, &self.encode()?)))
    }

    fn encode_unsigned(&self) -> Result<Writer, InvalidError> {
        self.check()?;
        let mut out = Writer::with_capacity(512 + self.message.len());
        out.u8(VERSION);
        out.u8(u8::try_from(self.parents.len()).map_err(|_| TOO_MANY_PARENTS)?);
        out.u16(0);
        for parent in &self.parents {
            out.bytes(parent.as_bytes());
        }
        self.tree.encode(&mut out);
        self.time.encode(&mut out);
        out.len_u16(self.author.len());
        out.bytes(self.author.as_bytes());
        out.len_u32(self.message.len());
        out.bytes(self.message.as_bytes());
        out.bytes(&self.node);
        Ok(out)
    }

    /// Reads strictly. Whether the signature is right is another question.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        from.version()?;
        let count = usize::from(from.u8()?);
        from.check(count <= PARENTS_MAX, "too many parents")?;
        let reserved = from.u16()?;
        from.check(reserved == 0, "reserved bytes are not zero")?;
        let mut parents = Vec::with_capacity(count);
        for _ in 0..count {
            parents.push(CommitId::from_bytes(from.array()?));
        }
        let tree = TreeLink::decode(&mut from)?;
        let time = Timestamp::decode(&mut from)?;
        let len = from.bounded_u16(AUTHOR_LEN_MAX, "the author is too long")?;
        let author = decode_text(&mut from, len)?;
        let len = from.bounded_u32(MESSAGE_LEN_MAX, "the message is too long")?;
        let message = decode_text(&mut from, len)?;
        let (node, signature) = (from.array()?, from.array()?);
        let commit = Self { parents, tree, time, author, message, node, signature };
        if let Err(InvalidError(what)) = commit.check() {
            return from.fail(what);
        }
        from.finish()?;
        Ok(commit)
    }

    fn check(&self) -> Result<(), InvalidError> {
        if self.parents.len() > PARENTS_MAX {
            return Err(TOO_MANY_PARENTS);
        }
        let distinct: HashSet<_> = self.parents.iter().collect();
        if distinct.len() != self.parents.len() {
            return Err(InvalidError("a parent occurs twice"));
        }
        if self.author.is_empty() || self.author.len() > AUTHOR_LEN_MAX || self.author.contains(char::is_control) {
            return Err(InvalidError("an author has 1 to 1024 bytes without control characters"));
        }
        if self.message.len() > MESSAGE_LEN_MAX || self.message.contains('\0') {
            return Err(InvalidError("a message has at most 131072 bytes without NUL"));
        }
        if self.tree.height > crate::entry::HEIGHT_MAX {
            return Err(InvalidError("a height above 10"));
        }
        Ok(())
    }

    /// The ids that it refers to: the tree and the parents.
    pub fn children(&self) -> impl Iterator<Item = (filesync_cas::Kind, ContentHash)> {
        let parents = self.parents.iter().map(|parent| (CommitId::KIND, parent.0));
        std::iter::once((TreeId::KIND, self.tree.id.0)).chain(parents)
    }
}

const TOO_MANY_PARENTS: InvalidError = InvalidError("too many parents");

pub(crate) fn decode_text(from: &mut Reader<'_>, len: usize) -> Result<String, DecodeError> {
    match std::str::from_utf8(from.take(len)?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => from.fail("not UTF-8"),
    }
}
