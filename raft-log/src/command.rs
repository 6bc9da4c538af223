//! What can be asked of the log, and what it answers: plain data.
//!
//! Everything that a decision depends on is in the command or in the entry around it: the time too. What would
//! differ from node to node (a clock, a random number, a file) has no place here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{Id, InviteKey, LeaderId, LogIndex, Millis, NodeId, PeerKey, RefName, RepositoryId, Signature};
use crate::testing::mistake;

/// What a member may do. Who votes is not a role: it is what the log says of its voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Reads.
    Reader,
    /// Reads and publishes.
    Writer,
    /// Replicates the log too, and may be made a voter; voters have this role.
    Candidate,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the first member, once.
    Found(Founder),
    /// Moves a ref.
    Publish(Publish),
    /// Makes an invite.
    Invite(Invite),
    /// Ends an invite.
    Revoke {
        /// Which.
        key: InviteKey,
        /// Who asks.
        by: NodeId,
    },
    /// Lets somebody in who shows an invite.
    Admit(Admit),
    /// Ends a membership, and the invites that it issued. The number stays taken.
    Remove {
        /// Whose.
        node: NodeId,
        /// Who asks.
        by: NodeId,
    },
    /// Gives another role.
    SetRole {
        /// To whom.
        node: NodeId,
        /// Which.
        role: Role,
        /// Who asks.
        by: NodeId,
    },
    /// Says where a member is reached.
    SetAddresses {
        /// Which member: they speak for themselves.
        node: NodeId,
        /// Where.
        addresses: Vec<String>,
    },
    /// Says whether a member's copy has all paths.
    SetPartial {
        /// Which member: they speak for themselves.
        node: NodeId,
        /// Whether parts are left out.
        is_partial: bool,
    },
    /// Wants other voters.
    Intent(Intent),
    /// Shows that the target of an intent holds what is live.
    Ready(Ready),
    /// Gives an intent up. Void once its target votes.
    Cancel {
        /// Which.
        intent: IntentId,
    },
    /// A voter lacks data that it should have: it counts as no holder from here on.
    Deficient {
        /// Which: they speak for themselves.
        node: NodeId,
    },
    /// It has read again all that it should have, and lacks nothing.
    Whole {
        /// Which: they speak for themselves.
        node: NodeId,
    },
    /// Objects that nobody has any more: from here on nobody has to have them. It cannot be taken back.
    Lost {
        /// Which voter says so, who should have them: they speak for themselves.
        node: NodeId,
        /// Whom it has asked, and who has answered that he does not have them. Itself too.
        asked: BTreeSet<NodeId>,
        /// Which objects.
        objects: BTreeSet<Id>,
    },
}

/// The first member of all. Only he needs no invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Who he is.
    pub key: PeerKey,
    /// What to call him.
    pub name: String,
    /// Where he is reached.
    pub addresses: Vec<String>,
}

/// Moves a ref from one commit to another, if it stands where `expected` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Which member publishes.
    pub client: NodeId,
    /// Counts the member's publishes. The same number is the same publish, however often it is asked for.
    pub seq: u64,
    /// What moves.
    pub change: RefChange,
    /// Who holds the closure of the new commit. None are needed to remove a ref.
    pub receipts: Option<Receipts>,
}

/// A ref's move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefChange {
    /// Which ref.
    pub name: RefName,
    /// Where it stands; `None` if it is to be new.
    pub expected: Option<Id>,
    /// Where it is to stand; `None` if it is to go.
    pub new: Option<Id>,
}

/// Voters and candidates that hold a closure, synced and pinned for this leadership and nonce alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The leadership that they were given to.
    pub leader: LeaderId,
    /// That leadership's number for this try. It grows from try to try of one member.
    pub nonce: u64,
    /// Who gave one.
    pub nodes: BTreeSet<NodeId>,
}

/// Names a try to publish: what receipts and pins are given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TryId {
    /// Who publishes.
    pub client: NodeId,
    /// The leadership that tries.
    pub leader: LeaderId,
    /// Its number for this try.
    pub nonce: u64,
}

/// Lets whoever has the secret half of `key` in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The public half.
    pub key: InviteKey,
    /// As what.
    pub role: Role,
    /// How many.
    pub uses: u32,
    /// Until when; `None` is for ever.
    pub expires: Option<Millis>,
    /// Who issues it.
    pub by: NodeId,
}

/// Somebody shows an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// Which invite.
    pub invite: InviteKey,
    /// As what: what the invite says.
    pub role: Role,
    /// Who wants in.
    pub peer: PeerKey,
    /// What to call him.
    pub name: String,
    /// Where he is reached.
    pub addresses: Vec<String>,
    /// Whether his copy leaves parts out.
    pub is_partial: bool,
    /// By the invite's key, over [`Admit::signed_bytes`]: nothing secret travels, nothing serves another.
    pub signature: Signature,
}

impl Admit {
    /// What the invite's key signs.
    pub fn signed_bytes(&self, repository: RepositoryId) -> Vec<u8> {
        let role = match self.role {
            Role::Reader => 0,
            Role::Writer => 1,
            Role::Candidate => 2,
        };
        let peer = if mistake("an admission that serves another") { [0; 32] } else { self.peer.0 };
        // Fixed lengths first, the name last: no two values have the same bytes.
        let fixed: [&[u8]; 5] = [b"filesync admit 1\0", &repository.0, &self.invite.0, &[role], &peer];
        [fixed.concat().as_slice(), self.name.as_bytes()].concat()
    }
}

/// Names an intent: the how-manieth it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct IntentId(pub u64);

/// Wants these voters in place of those in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// All that are to vote.
    pub target: BTreeSet<NodeId>,
    /// An even number is meant.
    pub is_even_allowed: bool,
    /// Who asks.
    pub by: NodeId,
}

/// Who of the target holds all that is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// For which intent.
    pub intent: IntentId,
    /// Holder, and the index as of which it holds everything. It has flushed its state machine so far.
    pub receipts: BTreeMap<NodeId, LogIndex>,
}

/// Commands that stand in the log together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The time that it is for all of them.
    pub now: Millis,
    /// In this order.
    pub commands: Vec<Command>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The ref moved, here.
    Published {
        /// The entry that did it: for a repeated request the first one.
        index: LogIndex,
        /// The step in the order of publishes.
        step: Id,
    },
    /// The ref stood elsewhere.
    Lost {
        /// Where, at that time.
        current: Option<Id>,
    },
    /// In, under this number.
    Admitted(NodeId),
    /// The intent is under way.
    Intended(IntentId),
    /// Done.
    Done,
    /// Nothing changed.
    Refused(Refusal),
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no such member, or not any more.
    #[error("node {0} is no member")]
    NotAMember(NodeId),
    /// His role does not allow it.
    #[error("node {0} may not do this")]
    NotAllowed(NodeId),
    /// The number was used for something else, or is older than the last.
    #[error("sequence number {seq} is not new: {last} was the last")]
    OldSequence {
        /// The number.
        seq: u64,
        /// The last that was decided.
        last: u64,
    },
    /// The receipts are for another leadership: begin anew.
    #[error("the leader changed")]
    OtherLeader,
    /// The nonce was decided: begin anew.
    #[error("this try was decided already")]
    SpentNonce,
    /// Too few hold the closure.
    #[error("{held} of {needed} voters hold the commit")]
    TooFewHold {
        /// How many, in the set that lacks most.
        held: usize,
        /// How many it takes there.
        needed: usize,
    },
    /// The publish says nothing: neither a new commit nor an old one.
    #[error("a publish without a commit")]
    Empty,
    /// There is no such invite, or not any more.
    #[error("no such invite")]
    NoInvite,
    /// Its time is over.
    #[error("the invite has expired")]
    InviteExpired,
    /// As many as it is for have come.
    #[error("the invite is used up")]
    InviteUsedUp,
    /// The invite is for another role, or its key did not sign.
    #[error("the invite does not say so")]
    InviteMismatch,
    /// There are members already.
    #[error("the repository has its members already")]
    IsFounded,
    /// This key was a member once.
    #[error("this identity was removed; join with a new one")]
    WasRemoved,
    /// It votes, or is about to: demote it first.
    #[error("node {0} is a voter")]
    IsVoter(NodeId),
    /// One change of voters at a time.
    #[error("another change of voters is under way")]
    ChangeUnderWay,
    /// There is no such change, or its target votes already.
    #[error("no such change of voters is under way")]
    NoSuchChange,
    /// What was asked for is no set of voters.
    #[error("these cannot vote: {0}")]
    BadTarget(String),
    /// Too few of the target are whole.
    #[error("{held} of {needed} voters would hold everything")]
    TooFewWhole {
        /// How many.
        held: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A text is too long or none, or there are too many.
    #[error("{0}")]
    TooMuch(String),
    /// Receipts count with the try that they were gathered for, and only there.
    #[error("receipts without their try")]
    NoTry,
    /// Who may come to vote has everything.
    #[error("a partial copy cannot come to vote")]
    IsPartial,
    /// Nothing is lost as long as a voter was not asked for it.
    #[error("node {0} was not asked")]
    NotAsked(NodeId),
    /// It has said that it lacks nothing.
    #[error("node {0} lacks nothing")]
    LacksNothing(NodeId),
}
