//! `remote`: what this node knows of the cluster, and how much of it is here.
//!
//! `docs/format.md`, section 3, rules the bytes. It never goes back: what was known at an index stays known. What it calls
//! held is a root: the closure of that commit is complete here, and collection leaves it alone.

use data_encoding::BASE64;
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;
use filesync_merkle::{CommitId, PubId};
use filesync_raft_log::State;
pub use filesync_raft_log::ids::MAIN;
use filesync_raft_log::ids::RefName;

use crate::error::{Error, ErrorKind};
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "remote";
const TITLE: &str = "filesync remote 1";
const LEN_MAX: u64 = 64 << 20;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Refs and members as of an index.
    pub state: State,
    /// The newest published commit that is here with all that it refers to.
    pub held: Option<CommitId>,
    /// The index as of which that is so.
    pub held_index: u64,
    /// The last step of the order of publishes that is here, with those before it.
    pub step: Option<PubId>,
}

impl Remote {
    /// Knows nothing but the state.
    pub fn new(state: State) -> Self {
        Self { state, held: None, held_index: 0, step: None }
    }

    /// The index as of which the state is known.
    pub fn index(&self) -> u64 {
        index_of(&self.state)
    }

    /// The newest index as of which anything is known; none if this node was never in touch with its cluster.
    pub fn as_of(&self) -> Option<u64> {
        Some(self.held_index.max(self.index())).filter(|index| *index > 0)
    }

    /// What the cluster shows.
    pub fn main(&self) -> Option<CommitId> {
        main_of(&self.state)
    }

    /// Reads it; none if this node neither founded a cluster nor began to join one.
    pub fn read(vfs: &dyn Vfs) -> Result<Option<Self>, Error> {
        small_file::read(vfs, PATH, LEN_MAX, Self::decode)
    }

    /// Makes it durable.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        small_file::write(vfs, PATH, &self.encode()?)
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let id = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
        let mut file = Builder::new(TITLE);
        file.line(&format!("index {}", self.held_index));
        file.line(&format!("held {}", id(self.held.map(|id| id.to_string()))));
        file.line(&format!("step {}", id(self.step.map(|id| id.0.to_string()))));
        let state = postcard::to_allocvec(&self.state);
        let state = state.map_err(|error| Error::new(ErrorKind::Failed, format!("cannot write {PATH}: {error}")))?;
        file.line(&format!("state {}", BASE64.encode(&state)));
        Ok(file.finish())
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let lines = Lines::parse(bytes, TITLE)?;
        let mut lines = lines.iter();
        let mut word = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or_else(|| format!("no line {name:?}"))
        };
        let held_index = word("index")?.parse().map_err(|_| "its index is no number".to_owned())?;
        let held = id(word("held")?)?.map(CommitId);
        let step = id(word("step")?)?.map(PubId);
        let state = BASE64.decode(word("state")?.as_bytes()).map_err(|error| error.to_string())?;
        let state = postcard::from_bytes(&state).map_err(|error| error.to_string())?;
        let remote = Self { state, held, held_index, step };
        check_form(bytes, &remote.encode().map_err(|error| error.to_string())?)?;
        Ok(remote)
    }
}

fn id(word: &str) -> Result<Option<filesync_cas::ContentHash>, String> {
    if word == "none" {
        return Ok(None);
    }
    word.parse().map(Some).map_err(|_| format!("{word:?} is no id"))
}

/// What the cluster shows by a state.
pub fn main_of(state: &State) -> Option<CommitId> {
    let main = RefName::new(MAIN).ok()?;
    state.refs.get(&main).map(|id| CommitId::from_bytes(id.0))
}

/// The index of a state.
pub fn index_of(state: &State) -> u64 {
    state.applied.map_or(0, |at| at.index.0)
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;
    use filesync_raft_log::ids::{Id, RepositoryId};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Remote::read(&vfs).unwrap(), None);
        let mut state = State::new(RepositoryId([7; 32]));
        state.refs.insert(RefName::new(MAIN).unwrap(), Id([9; 32]));
        let mut remote = Remote::new(state);
        for (held, index) in [(None, 0), (Some(CommitId::from_bytes([9; 32])), 12)] {
            (remote.held, remote.held_index) = (held, index);
            remote.write(&vfs).unwrap();
            assert_eq!(Remote::read(&vfs).unwrap().as_ref(), Some(&remote));
        }
        assert_eq!(remote.main(), Some(CommitId::from_bytes([9; 32])));
        let good = remote.encode().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Remote::decode(&bad).is_err(), "byte {at}");
        }
    }
}
