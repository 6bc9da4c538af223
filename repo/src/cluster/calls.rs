//! What members ask each other, beside Walk, Get and Raft's own messages. `docs/protocol.md`, section 8.

use filesync_p2p::message::topics;
use filesync_p2p::peer::Class;
use filesync_raft_log::State;
use filesync_raft_log::command::{Admit, Command, Outcome, RefChange, TryId};
use filesync_raft_log::ids::{Id, NodeId};
use serde::{Deserialize, Serialize};

/// A request. Its number is the topic of the message, so that who may ask it is decided before it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// What is true now: refs and members as of everything acknowledged before. The leader answers.
    Facts,
    /// Publish this for me. The leader answers; asked again with the same number, it goes on where it is.
    Publish {
        /// The member's number for it.
        seq: u64,
        /// What is to move.
        change: RefChange,
    },
    /// Hold this, synced and pinned, for a try of mine. Voters and candidates answer; asked again, they go on.
    Hold {
        /// The try.
        id: TryId,
        /// What.
        commit: Id,
    },
    /// Is what I hold for a try of yours wanted still?
    Wanted(TryId),
    /// Write this to the log. The leader answers, and sees to it that it speaks for nobody but the asker.
    Propose(Command),
    /// Let me in.
    Join(Admit),
    /// Whom do you know? The state as the answerer has it, which may be an old one: who has been away knows by that who came
    /// meanwhile, and leads perhaps.
    Vouch,
    /// How are you?
    About,
    /// As of which index do you hold everything that is live?
    HeldAsOf,
    /// Do you have these objects, by kind and id? Members answer voters, and give nothing but the answer.
    Find(Vec<(u8, Id)>),
    /// Show that you have these objects, by kind and id: their hash under a key. Members answer voters.
    Show {
        /// Made up for this.
        key: Id,
        /// Which.
        objects: Vec<(u8, Id)>,
    },
}

impl Call {
    /// The topic of the message that carries it.
    pub fn topic(&self) -> u16 {
        match self {
            Self::Facts => topics::READ_INDEX,
            Self::Publish { .. } => topics::PUBLISH,
            Self::Hold { .. } => topics::HOLD,
            Self::Wanted(_) => topics::WANTED,
            Self::Propose(_) => topics::MEMBERS,
            Self::Join(_) => topics::JOIN,
            Self::Vouch => topics::VOUCH,
            Self::About | Self::HeldAsOf => topics::CLUSTER,
            Self::Find(_) | Self::Show { .. } => topics::FIND,
        }
    }

    /// The stream that carries it.
    pub fn class(&self) -> Class {
        if matches!(self, Self::Join(_)) { Class::Join } else { Class::Call }
    }
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The last entry it has applied; of what it has heard, if it takes no part in the log.
    pub applied: u64,
    /// The newest publish that it has whole.
    pub held: Option<Id>,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// What its clock shows, in milliseconds since 1970.
    pub clock: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Call::Facts`] and [`Call::Vouch`].
    Facts(Box<State>),
    /// To [`Call::Publish`], [`Call::Propose`] and [`Call::Join`]: decided.
    Outcome(Outcome),
    /// To [`Call::Join`]: in, under this number, and what is to be known.
    Joined(NodeId, Box<State>),
    /// To [`Call::Publish`] and [`Call::Hold`]: at it; ask again. Grows with what was done.
    Working(u64),
    /// To [`Call::Hold`]: synced and pinned.
    Held,
    /// To [`Call::Wanted`].
    Try(TryState),
    /// To [`Call::About`].
    About(About),
    /// To [`Call::HeldAsOf`].
    HeldAsOf(u64),
    /// Another leads.
    NotLeader(Option<NodeId>),
    /// It is not known whether it was done: ask again.
    Unknown(String),
    /// It could not be done, and was not.
    Failed(String),
    /// It will not be done, however often it is asked for.
    Refused(String),
    /// To [`Call::Find`]: for each object, in their order.
    Found(Vec<Found>),
    /// To [`Call::Show`]: the hash.
    Shown(Id),
}

/// Whether a node has an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// It was read just now, and has its hash.
    Good,
    /// It was looked for before, in the working copy too, and it was tried to read it just now.
    Nowhere,
    /// It is being looked for, or could not be looked for: ask again.
    NotYet,
}

/// What a leader knows of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryState {
    /// Hold on.
    Open,
    /// Decided: let go once that is applied.
    Decided,
    /// It will never be in the log.
    Unknown,
}

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Plain data of bounded size: there is nothing that could fail but memory.
    postcard::to_allocvec(value).unwrap_or_default()
}

/// The value of bytes, all of them.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("bytes behind its end".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
