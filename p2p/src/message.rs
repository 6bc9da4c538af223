//! Messages and their encoding: `docs/protocol.md`, sections 1 to 5. Pure; what [`Message::decode`] accepts,
//! [`Message::encode`] gives back byte for byte.

use filesync_cas::relay::FRAME_LEN_MAX;
use filesync_cas::{ContentHash, Kind};
use filesync_merkle::codec::{Reader, Writer};
use filesync_merkle::{DecodeError, Name, Parts, RepoPath};

use crate::error::{Refusal, WireError};
use crate::peer::{Class, Root};
use crate::wants::Get;

/// The version of the protocol that is spoken here.
pub const VERSION: u16 = 1;
/// Objects in one message of a walk.
pub const NODES_MAX: usize = 1024;
/// Their bytes together, decompressed.
pub const NODES_LEN_MAX: usize = 384 << 10;
/// The longest path of a walk, in names.
pub const NAMES_MAX: usize = 4096;
/// Parts in a walk.
pub const PARTS_MAX: usize = 1024;
/// The largest object that travels alone in a walk.
pub const NODE_LEN_MAX: usize = 256 << 10;

const MAGIC: &[u8; 8] = b"filesync";
const HISTORY: u8 = 1;
const BASE: u8 = 2;
const PARTS: u8 = 4;

/// Which side of a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who opened the stream.
    Asker,
    /// The other.
    Answerer,
}

/// What begins a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The lowest and the highest version that the asker knows.
    pub versions: (u16, u16),
    /// The repository that it means.
    pub repository: ContentHash,
    /// The epoch of the cluster, 0 if it is not known yet.
    pub epoch: u64,
    /// Random, one for each process.
    pub nonce: u64,
    /// What the stream is for.
    pub class: Class,
}

/// The answer to a good [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both speak.
    pub version: u16,
    /// The epoch of the cluster.
    pub epoch: u64,
    /// The answerer's nonce.
    pub nonce: u64,
}

/// Asks for metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// What to walk.
    pub root: Root,
    /// What both have, of the root's kind.
    pub base: Option<ContentHash>,
    /// Whether parents are walked too.
    pub history: bool,
    /// What of the tree; all of it if this is the root.
    pub path: RepoPath,
    /// Which parts of the trees, for who has partial copies of them. Of directories on the way all nodes are walked. Not with
    /// a path.
    pub parts: Parts,
    /// Objects to leave out at the beginning.
    pub from: u64,
}

/// Objects of a walk, the next ones of its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Their lengths.
    pub lens: Vec<u32>,
    /// Whether the payload is compressed.
    pub compressed: bool,
    /// All of them, one after the other.
    pub payload: Vec<u8>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Begins a stream.
    Hello(Hello),
    /// The answer to it.
    Welcome(Welcome),
    /// No.
    Refused(Refusal),
    /// Asks for metadata.
    Walk(Walk),
    /// Objects of a walk.
    Nodes(Nodes),
    /// One object, compressed with its counterpart as dictionary.
    Delta {
        /// Its length.
        len: u32,
        /// Compressed.
        payload: Vec<u8>,
    },
    /// The next object and what is below it are not there.
    Absent,
    /// The walk is over.
    WalkEnd {
        /// How many objects the order has.
        count: u64,
    },
    /// Asks for objects by their positions in nodes.
    Get(Get),
    /// A frame as it lies on disk.
    Frame(Vec<u8>),
    /// All that could be given of a Get has been.
    GetEnd {
        /// How many objects that was.
        sent: u32,
    },
    /// Something that is none of this crate's business.
    Call {
        /// Chosen by the asker, ascending.
        number: u64,
        /// What it is about.
        topic: u16,
        /// Opaque.
        body: Vec<u8>,
    },
    /// The answer to it.
    Reply {
        /// Which call.
        number: u64,
        /// How it ended.
        status: Status,
        /// Opaque.
        body: Vec<u8>,
    },
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Done,
    /// It may not be, or there is no such thing.
    Refused,
    /// Later.
    Busy,
    /// It could not be done.
    Failed,
    /// Somebody else must be asked; the body says whom.
    Elsewhere,
}

impl Status {
    const ALL: [Status; 5] = [Status::Done, Status::Refused, Status::Busy, Status::Failed, Status::Elsewhere];

    fn code(self) -> u8 {
        Self::ALL.iter().position(|other| *other == self).map_or(u8::MAX, |at| u8::try_from(at).unwrap_or(u8::MAX))
    }
}

/// What calls are about: `docs/protocol.md`, section 5.
pub mod topics {
    use crate::peer::Class;

    /// A message of Raft.
    pub const RAFT: u16 = 1;
    /// Where the log stands.
    pub const READ_INDEX: u16 = 16;
    /// Publish for the caller.
    pub const PUBLISH: u16 = 17;
    /// Hold a closure, and give a receipt.
    pub const HOLD: u16 = 18;
    /// Whether a receipt is wanted still.
    pub const WANTED: u16 = 19;
    /// Join with an invite.
    pub const JOIN: u16 = 20;
    /// Vouch for a member.
    pub const VOUCH: u16 = 21;
    /// What the caller should know of the cluster.
    pub const CLUSTER: u16 = 22;
    /// A change of membership.
    pub const MEMBERS: u16 = 23;
    /// Whether the answerer has some objects.
    pub const FIND: u16 = 24;

    /// Whether a topic belongs on streams of a class.
    pub fn belong(class: Class, topic: u16) -> bool {
        match class {
            Class::Bulk => false,
            Class::Raft => topic < READ_INDEX,
            Class::Call => topic >= READ_INDEX && topic != JOIN,
            Class::Join => topic == JOIN,
        }
    }
}

/// The numbers of messages.
mod types {
    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const REFUSED: u8 = 3;
    pub const WALK: u8 = 16;
    pub const NODES: u8 = 17;
    pub const DELTA: u8 = 18;
    pub const ABSENT: u8 = 19;
    pub const WALK_END: u8 = 20;
    pub const GET: u8 = 32;
    pub const FRAME: u8 = 33;
    pub const GET_END: u8 = 34;
    pub const CALL: u8 = 48;
    pub const REPLY: u8 = 49;
}

/// The longest body of a type on streams of a class, from that side; `None` if it never comes there.
pub fn body_max(class: Class, side: Side, kind: u8) -> Option<usize> {
    use types::{ABSENT, CALL, DELTA, FRAME, GET, GET_END, HELLO, NODES, REFUSED, REPLY, WALK, WALK_END, WELCOME};
    let opaque = match (class, side) {
        (Class::Raft, _) => 4 << 20,
        // Nobody is known there: a stranger has an invite to show. Who is let in is told all that members know.
        (Class::Join, Side::Asker) => 4 << 10,
        _ => 1 << 20,
    };
    match (side, class, kind) {
        (Side::Asker, _, HELLO) => Some(61),
        (Side::Answerer, _, WELCOME) => Some(18),
        (Side::Answerer, _, REFUSED) => Some(1),
        (Side::Asker, Class::Bulk, WALK | GET) => Some(64 << 10),
        (Side::Answerer, Class::Bulk, NODES) => Some(400 << 10),
        (Side::Answerer, Class::Bulk, DELTA) => Some(260 << 10),
        (Side::Answerer, Class::Bulk, ABSENT) => Some(0),
        (Side::Answerer, Class::Bulk, WALK_END) => Some(8),
        (Side::Answerer, Class::Bulk, FRAME) => Some(FRAME_LEN_MAX),
        (Side::Answerer, Class::Bulk, GET_END) => Some(4),
        (Side::Asker, Class::Call | Class::Raft | Class::Join, CALL) => Some(opaque + 10),
        (Side::Answerer, Class::Call | Class::Raft | Class::Join, REPLY) => Some(opaque + 9),
        _ => None,
    }
}

/// The longest message, type included, on streams of a class from that side.
pub fn message_max(class: Class, side: Side) -> usize {
    (0..=u8::MAX).filter_map(|kind| body_max(class, side, kind)).max().unwrap_or(0) + 1
}

impl Message {
    /// Its type.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => types::HELLO,
            Self::Welcome(_) => types::WELCOME,
            Self::Refused(_) => types::REFUSED,
            Self::Walk(_) => types::WALK,
            Self::Nodes(_) => types::NODES,
            Self::Delta { .. } => types::DELTA,
            Self::Absent => types::ABSENT,
            Self::WalkEnd { .. } => types::WALK_END,
            Self::Get(_) => types::GET,
            Self::Frame(_) => types::FRAME,
            Self::GetEnd { .. } => types::GET_END,
            Self::Call { .. } => types::CALL,
            Self::Reply { .. } => types::REPLY,
        }
    }

    /// Whether nothing more comes in answer to the request that it answers.
    pub fn ends_an_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::WalkEnd { .. } | Self::GetEnd { .. })
    }

    /// The whole message: length, type, body. The caller keeps to the limits.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 + self.payload_len());
        out.u32(0);
        out.u8(self.kind());
        self.encode_body(&mut out);
        let mut bytes = out.finish();
        let len = u32::try_from(bytes.len() - 4).expect("limits are far below").to_le_bytes();
        bytes[..4].copy_from_slice(&len);
        bytes
    }

    /// As [`Message::encode`], in the memory of the message where that is a frame: those are long, and many are on their way at once.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Frame(mut frame) => {
                let len = u32::try_from(frame.len() + 1).expect("limits are far below").to_le_bytes();
                frame.splice(..0, len.into_iter().chain([types::FRAME]));
                frame
            }
            other => other.encode(),
        }
    }

    /// How long [`Message::encode`] makes it.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Nodes(nodes) => 8 + 4 * nodes.lens.len() + nodes.payload.len(),
            Self::Frame(frame) => 5 + frame.len(),
            Self::Delta { payload, .. } => 9 + payload.len(),
            other => other.encode().len(),
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.payload.len() + 4 * nodes.lens.len(),
            Self::Delta { payload: bytes, .. }
            | Self::Frame(bytes)
            | Self::Call { body: bytes, .. }
            | Self::Reply { body: bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    fn encode_body(&self, out: &mut Writer) {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Welcome(welcome) => {
                out.u16(welcome.version);
                out.u64(welcome.epoch);
                out.u64(welcome.nonce);
            }
            Self::Refused(refusal) => out.u8(refusal.code()),
            Self::Walk(walk) => walk.encode(out),
            Self::Nodes(nodes) => nodes.encode(out),
            Self::Delta { len, payload } => {
                out.u32(*len);
                out.bytes(payload);
            }
            Self::Absent => {}
            Self::WalkEnd { count } => out.u64(*count),
            Self::Get(get) => get.encode(out),
            Self::Frame(frame) => out.bytes(frame),
            Self::GetEnd { sent } => out.u32(*sent),
            Self::Call { number, topic, body } => {
                out.u64(*number);
                out.u16(*topic);
                out.bytes(body);
            }
            Self::Reply { number, status, body } => {
                out.u64(*number);
                out.u8(status.code());
                out.bytes(body);
            }
        }
    }

    /// Reads a body strictly.
    pub fn decode(kind: u8, body: Vec<u8>) -> Result<Self, WireError> {
        let mut from = Reader::new(&body);
        match Self::decode_body(kind, &mut from) {
            Ok(Some(message)) => Ok(message),
            // Large ones keep the bytes that came.
            Ok(None) if kind == types::FRAME => Ok(Self::Frame(body)),
            Ok(None) => Err(WireError::Unexpected(kind)),
            Err(cause) => Err(WireError::Malformed { kind, cause }),
        }
    }

    fn decode_body(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let message = match kind {
            types::HELLO => Self::Hello(Hello::decode(from)?),
            types::WELCOME => Self::Welcome(Welcome { version: from.u16()?, epoch: from.u64()?, nonce: from.u64()? }),
            types::REFUSED => match Refusal::from_code(from.u8()?) {
                Some(refusal) => Self::Refused(refusal),
                None => return from.fail("an unknown refusal"),
            },
            types::WALK => Self::Walk(Walk::decode(from)?),
            types::NODES => Self::Nodes(Nodes::decode(from)?),
            types::DELTA => {
                let len = from.u32()?;
                from.check((1..=NODE_LEN_MAX).contains(&(len as usize)), "a length out of range")?;
                let payload = rest(from)?;
                from.check(!payload.is_empty(), "no payload")?;
                Self::Delta { len, payload }
            }
            types::ABSENT => Self::Absent,
            types::WALK_END => Self::WalkEnd { count: from.u64()? },
            types::GET => Self::Get(Get::decode(from)?),
            types::GET_END => Self::GetEnd { sent: from.u32()? },
            types::CALL => Self::Call { number: from.u64()?, topic: from.u16()?, body: rest(from)? },
            types::REPLY => {
                let number = from.u64()?;
                let Some(status) = Status::ALL.get(usize::from(from.u8()?)).copied() else {
                    return from.fail("an unknown status");
                };
                Self::Reply { number, status, body: rest(from)? }
            }
            _ => return Ok(None),
        };
        let done = std::mem::replace(from, Reader::new(&[]));
        done.finish()?;
        Ok(Some(message))
    }
}

/// All that is left. The message was bounded before it was read.
fn rest(from: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    Ok(from.take(from.left())?.to_vec())
}

impl Hello {
    fn encode(&self, out: &mut Writer) {
        out.bytes(MAGIC);
        out.u16(self.versions.0);
        out.u16(self.versions.1);
        out.bytes(self.repository.as_bytes());
        out.u64(self.epoch);
        out.u64(self.nonce);
        out.u8(self.class.code());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let magic = from.take(8)?;
        from.check(magic == MAGIC, "not this protocol")?;
        let versions = (from.u16()?, from.u16()?);
        from.check(versions.0 <= versions.1, "versions in the wrong order")?;
        let repository = ContentHash::from_bytes(from.array()?);
        let (epoch, nonce) = (from.u64()?, from.u64()?);
        match Class::from_code(from.u8()?) {
            Some(class) => Ok(Self { versions, repository, epoch, nonce, class }),
            None => from.fail("an unknown class"),
        }
    }
}

impl Walk {
    fn encode(&self, out: &mut Writer) {
        out.u8(self.root.kind().0);
        out.bytes(self.root.id().as_bytes());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.u8(flag(self.history, HISTORY) | flag(self.base.is_some(), BASE) | flag(!self.parts.is_whole(), PARTS));
        self.base.iter().for_each(|base| out.bytes(base.as_bytes()));
        out.u64(self.from);
        encode_path(&self.path, out);
        if !self.parts.is_whole() {
            out.len_u16(self.parts.paths().len());
            self.parts.paths().iter().for_each(|path| encode_path(path, out));
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = Kind(from.u8()?);
        let Some(root) = Root::new(kind, ContentHash::from_bytes(from.array()?)) else {
            return from.fail("no root of that kind");
        };
        let flags = from.u8()?;
        from.check(flags & !(HISTORY | BASE | PARTS) == 0, "unknown flags")?;
        let base = match flags & BASE != 0 {
            true => Some(ContentHash::from_bytes(from.array()?)),
            false => None,
        };
        let start = from.u64()?;
        let path = decode_path(from)?;
        let parts = if flags & PARTS != 0 { decode_parts(from)? } else { Parts::whole() };
        let is_of_commits = matches!(root, Root::Commit(_));
        from.check(is_of_commits || (path.is_root() && parts.is_whole()), "a path into what has none")?;
        from.check(path.is_root() || parts.is_whole(), "a path and parts")?;
        Ok(Self { root, base, history: flags & HISTORY != 0, path, parts, from: start })
    }
}

fn encode_path(path: &RepoPath, out: &mut Writer) {
    out.len_u16(path.depth());
    for name in path.components() {
        out.len_u16(name.len());
        out.bytes(name);
    }
}

fn decode_path(from: &mut Reader<'_>) -> Result<RepoPath, DecodeError> {
    let count = from.bounded_u16(NAMES_MAX, "a path that is too long")?;
    let mut path = RepoPath::root();
    for _ in 0..count {
        let len = from.bounded_u16(255, "a name that is too long")?;
        match Name::new(from.take(len)?) {
            Ok(name) => path.push(&name),
            Err(error) => return from.fail(error.0),
        }
    }
    Ok(path)
}

fn decode_parts(from: &mut Reader<'_>) -> Result<Parts, DecodeError> {
    let count = from.bounded_u16(PARTS_MAX, "too many parts")?;
    let mut paths: Vec<RepoPath> = Vec::new();
    for _ in 0..count {
        let path = decode_path(from)?;
        let is_next = paths.last().is_none_or(|last| *last < path && !path.starts_with(last));
        from.check(is_next && !path.is_root(), "parts out of order, or within each other")?;
        paths.push(path);
    }
    from.check(!paths.is_empty(), "no parts")?;
    Ok(Parts::new(&paths))
}

impl Nodes {
    fn encode(&self, out: &mut Writer) {
        out.len_u16(self.lens.len());
        self.lens.iter().for_each(|len| out.u32(*len));
        out.u8(u8::from(self.compressed));
        out.bytes(&self.payload);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.bounded_u16(NODES_MAX, "too many objects")?;
        from.check(count > 0, "no objects")?;
        let mut lens = Vec::with_capacity(count);
        let mut sum = 0;
        for _ in 0..count {
            let len = from.u32()?;
            from.check((1..=NODE_LEN_MAX).contains(&(len as usize)), "a length out of range")?;
            sum += len as usize;
            lens.push(len);
        }
        from.check(sum <= NODES_LEN_MAX, "too many bytes")?;
        let compressed = match from.u8()? {
            0 => false,
            1 => true,
            _ => return from.fail("an unknown codec"),
        };
        let payload = rest(from)?;
        let fits = if compressed { !payload.is_empty() && payload.len() < sum } else { payload.len() == sum };
        from.check(fits, "the payload's length does not fit")?;
        Ok(Self { lens, compressed, payload })
    }

    /// The length of all objects together.
    pub fn raw_len(&self) -> usize {
        self.lens.iter().map(|len| *len as usize).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests;
