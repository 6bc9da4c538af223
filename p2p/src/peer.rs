//! Who is on the other side, and what it may have: the questions that the crate above answers.

use std::fmt;

use filesync_cas::hash::hex;
use filesync_cas::{ContentHash, Kind};
use filesync_merkle::{CommitId, PubId, RepoPath};

/// A peer is its Ed25519 public key: the one that signs its commits, and that the connection was made with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Walk and Get.
    Bulk,
    /// Requests of the cluster.
    Call,
    /// Messages of Raft.
    Raft,
    /// Asking to be taken in: the one thing that a stranger may do.
    Join,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Bulk, Class::Call, Class::Raft, Class::Join];

    /// Its number in Hello.
    pub const fn code(self) -> u8 {
        match self {
            Self::Bulk => 1,
            Self::Call => 2,
            Self::Raft => 3,
            Self::Join => 4,
        }
    }

    /// The class with a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }
}

/// What a peer is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// No member.
    Stranger,
    /// No member either, but it has shown a ticket: it reads what that covers.
    Guest,
    /// Reads.
    Reader,
    /// Reads and publishes.
    Writer,
    /// Will be a voter; follows the log meanwhile.
    Candidate,
    /// Votes.
    Voter,
}

impl Role {
    /// Whether streams of a class are for it. Who asks to join is let in by whether anybody is expected.
    pub const fn admits(self, class: Class) -> bool {
        match class {
            Class::Bulk => !matches!(self, Self::Stranger),
            Class::Call => self.is_member(),
            Class::Raft => matches!(self, Self::Candidate | Self::Voter),
            Class::Join => true,
        }
    }

    /// Whether it belongs to the cluster.
    pub const fn is_member(self) -> bool {
        !matches!(self, Self::Stranger | Self::Guest)
    }
}

/// Where a walk or a proof begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// A commit: its tree, and its history.
    Commit(CommitId),
    /// A step of the order of publishes, and those before it.
    Pub(PubId),
}

impl Root {
    /// The kind of the object.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Commit(_) => CommitId::KIND,
            Self::Pub(_) => PubId::KIND,
        }
    }

    /// Its id.
    pub const fn id(&self) -> &ContentHash {
        match self {
            Self::Commit(CommitId(id)) | Self::Pub(PubId(id)) => id,
        }
    }

    /// The root of a kind that can be one.
    pub fn new(kind: Kind, id: ContentHash) -> Option<Self> {
        match kind {
            CommitId::KIND => Some(Self::Commit(CommitId(id))),
            PubId::KIND => Some(Self::Pub(PubId(id))),
            _ => None,
        }
    }
}

/// What of a root a peer may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Nothing, or there is no such thing: never told apart.
    Nothing,
    /// Everything, the history included.
    All,
    /// What lies at these paths and below, of this commit alone; and the nodes on the way.
    Below(Vec<RepoPath>),
}

impl Scope {
    /// Whether a path lies at or below what may be read.
    pub fn covers(&self, path: &RepoPath) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Below(paths) => paths.iter().any(|allowed| path.starts_with(allowed)),
        }
    }

    /// Whether a path lies on the way to something that may be read, or below it.
    pub fn leads(&self, path: &RepoPath) -> bool {
        match self {
            Self::Below(paths) => self.covers(path) || paths.iter().any(|allowed| allowed.starts_with(path)),
            _ => self.covers(path),
        }
    }
}

/// What the members of the cluster may do, as it stands now. Asked at every request, by the thread that answers it: an
/// answer must not wait for the network.
pub trait Access: Send + Sync {
    /// What the peer is. By this alone it is decided on which streams it may speak.
    fn role(&self, peer: &PeerKey) -> Role;

    /// Whether somebody who is no member may ask to join: while an invite is open. If not, strangers are shown out at once.
    fn expects_joiners(&self) -> bool;

    /// What of this root the peer may read. A commit in the history of a ref that it may read is a root in its own right.
    fn scope(&self, peer: &PeerKey, root: &Root) -> Scope;

    /// Whether a member may ask this of us; that the topic belongs on the stream has been seen. Whether it is done is for
    /// who does it to decide. Who asks to join is not asked about here.
    fn may_call(&self, peer: &PeerKey, topic: u16) -> bool;
}

/// Whether the peer may speak on streams of a class.
pub fn is_admitted(access: &dyn Access, peer: &PeerKey, class: Class) -> bool {
    let role = access.role(peer);
    role.admits(class) && (class != Class::Join || role.is_member() || access.expects_joiners())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: strangers have nothing but the way in, and Raft has the voters and the candidates.
    #[test]
    fn roles_and_their_streams() {
        for (role, admitted) in [
            (Role::Stranger, [false, false, false, true]),
            (Role::Guest, [true, false, false, true]),
            (Role::Reader, [true, true, false, true]),
            (Role::Writer, [true, true, false, true]),
            (Role::Candidate, [true, true, true, true]),
            (Role::Voter, [true, true, true, true]),
        ] {
            assert_eq!(Class::ALL.map(|class| role.admits(class)), admitted, "{role:?}");
        }
    }

    #[test]
    fn scopes_lead_to_what_they_cover() {
        let path = |text: &str| RepoPath::parse(text.as_bytes()).expect("a path");
        let scope = Scope::Below(vec![path("a/b"), path("c")]);
        for (text, covers, leads) in [
            ("", false, true),
            ("a", false, true),
            ("a/b", true, true),
            ("a/b/x", true, true),
            ("a/bc", false, false),
            ("a/x", false, false),
            ("c/d", true, true),
            ("d", false, false),
        ] {
            assert_eq!((scope.covers(&path(text)), scope.leads(&path(text))), (covers, leads), "{text:?}");
        }
        assert!(Scope::All.covers(&path("")) && !Scope::Nothing.leads(&path("")));
    }
}
