//! Requests that may be carried out by another process, as one type: what goes to the daemon, and what comes back.

use filesync_cas::ContentHash;
use serde::{Deserialize, Serialize};

use super::{
    CommitRequest, CommitResult, ConfigRequest, ConfigSetting, ForgetRequest, ForgetResult, FsckRequest, FsckResult,
    GcRequest, GcResult, Observer, RestoreRequest, RestoreResult, Tag, TagRequest, UpgradeRequest, UpgradeResult, wire,
};
use crate::error::Error;
use crate::repo::Repo;

/// A request for whoever writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// `commit`.
    Commit(CommitRequest),
    /// `restore` in place.
    Restore(RestoreRequest),
    /// Making and removing tags.
    Tag(TagRequest),
    /// `config set`.
    Config(ConfigRequest),
    /// `gc`.
    Gc(GcRequest),
    /// `forget`.
    Forget(ForgetRequest),
    /// `fsck --repair`.
    Fsck(FsckRequest),
    /// `upgrade`.
    Upgrade(UpgradeRequest),
    /// Ends a restore that was cut off: what a reader asks for that met one.
    FinishJournal,
    /// Remembers what a reader found damaged.
    RecordDamage(#[serde(with = "wire")] Vec<ContentHash>),
}

/// What came of a [`Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Of [`Request::Commit`].
    Commit(CommitResult),
    /// Of [`Request::Restore`].
    Restore(RestoreResult),
    /// Of [`Request::Tag`].
    Tag(Vec<Tag>),
    /// Of [`Request::Config`].
    Config(Vec<ConfigSetting>),
    /// Of [`Request::Gc`].
    Gc(GcResult),
    /// Of [`Request::Forget`].
    Forget(ForgetResult),
    /// Of [`Request::Fsck`].
    Fsck(FsckResult),
    /// Of [`Request::Upgrade`].
    Upgrade(UpgradeResult),
    /// Of requests without a result of their own.
    Done,
}

/// A request with its result.
pub trait Command: Clone {
    /// What comes of it.
    type Result;

    /// As one of all requests.
    fn into_request(self) -> Request;

    /// The result of one of all answers; `None` if it is another request's.
    fn result(answer: Answer) -> Option<Self::Result>;
}

macro_rules! commands {
    ($($name:ident: $request:ty => $result:ty),* $(,)?) => {$(
        impl Command for $request {
            type Result = $result;

            fn into_request(self) -> Request {
                Request::$name(self)
            }

            fn result(answer: Answer) -> Option<$result> {
                match answer {
                    Answer::$name(result) => Some(result),
                    _ => None,
                }
            }
        }
    )*};
}

commands! {
    Commit: CommitRequest => CommitResult,
    Restore: RestoreRequest => RestoreResult,
    Tag: TagRequest => Vec<Tag>,
    Config: ConfigRequest => Vec<ConfigSetting>,
    Gc: GcRequest => GcResult,
    Forget: ForgetRequest => ForgetResult,
    Fsck: FsckRequest => FsckResult,
    Upgrade: UpgradeRequest => UpgradeResult,
}

impl Request {
    /// The command, for those who wait for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Restore(_) | Self::FinishJournal => "restore",
            Self::Tag(_) => "tag",
            Self::Config(_) => "config",
            Self::Gc(_) => "gc",
            Self::Forget(_) => "forget",
            Self::Fsck(_) | Self::RecordDamage(_) => "fsck",
            Self::Upgrade(_) => "upgrade",
        }
    }
}

impl Repo {
    /// Carries out any request. Needs a writer.
    pub fn carry_out(&self, request: &Request, observer: &dyn Observer) -> Result<Answer, Error> {
        Ok(match request {
            Request::Commit(request) => Answer::Commit(self.commit(request, observer)?),
            Request::Restore(request) => Answer::Restore(self.restore(request, observer)?),
            Request::Tag(request) => Answer::Tag(self.tag(request)?),
            Request::Config(request) => Answer::Config(self.config(request)?),
            Request::Gc(request) => Answer::Gc(self.gc(request, observer)?),
            Request::Forget(request) => Answer::Forget(self.forget(request, observer)?),
            Request::Fsck(request) => Answer::Fsck(self.fsck(request, observer)?),
            Request::Upgrade(_) => Answer::Upgrade(self.upgrade()?),
            Request::FinishJournal => {
                crate::restore::finish_journal(self, observer)?;
                Answer::Done
            }
            Request::RecordDamage(ids) => {
                self.store.record_damage(ids.iter().copied())?;
                Answer::Done
            }
        })
    }
}
