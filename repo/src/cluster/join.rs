//! Joining a cluster with an invite, and fetching what it has.
//!
//! Cut off anywhere, the same command goes on: the directory names the repository, the identity is kept, an invite asked for
//! twice by the same node is used once, and what has arrived is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::vfs::{RealVfs, Vfs};
use filesync_p2p::peer::PeerKey;
use filesync_raft_log::command::{Outcome, Role};
use filesync_raft_log::ids::{self, NodeId};
use filesync_raft_log::{State, state::Member};
use tokio::time::Instant;

use super::calls::{Answer, Call};
use super::core::{CallFailure, Core};
use super::invite::InviteLine;
use super::member::{self, Membership};
use super::node::{Node, Place, here};
use super::remote::Remote;
use super::{removed, sync};
use crate::config;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::init;
use crate::parts::Copied;
use crate::repo::{OpenOptions, Repo, STORE_DIR, request_paths};
use crate::request::{CloneRequest, CloneResult, Observer};

/// How long one member may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// Joins with an invite and brings what is published into a directory, which is made if it is missing.
pub fn clone(request: &CloneRequest, options: &OpenOptions, observer: &dyn Observer) -> Result<CloneResult, Error> {
    let began = Instant::now();
    let line = InviteLine::decode(&request.invite)?;
    let params = line.params()?;
    let copied = Copied::new(&request_paths(&request.paths)?)?;
    if !copied.is_whole() && line.role == Role::Candidate {
        let error = Error::new(ErrorKind::Usage, "cannot clone parts with this invite: who is to vote has everything");
        return Err(error.with_hint("ask for an invite of a writer or a reader"));
    }
    let is_new = request.dir.join(STORE_DIR).symlink_metadata().is_err();
    let had_dir = request.dir.symlink_metadata().is_ok();
    let root = prepare(&request.dir, &line, request.name.as_deref(), &params, &copied)?;
    let repo = Arc::new(Repo::open_writer(&root, "clone", options, observer)?);
    let node = match member::read(&**repo.store.vfs())? {
        Some(_) => Node::start(Arc::clone(&repo), &super::NodeOptions::default(), Arc::new(|_| {}))?,
        None => match join(&here, &repo, &line, request.timeout) {
            // Who is not let in has nothing.
            Err(error) if is_new && error.kind() == ErrorKind::Refused => {
                drop(repo);
                init::unmake(&root, had_dir);
                return Err(error);
            }
            joined => joined?,
        },
    };
    let synced = sync::bring_up_to_date(&node, request.timeout, observer);
    let number = node.number();
    node.shutdown();
    let synced = synced?;
    let not_found = repo.copied.not_found(repo.node_source(), repo.head_tree()?.as_ref())?;
    let not_found = not_found.iter().map(|path| path.as_bytes().to_vec()).collect();
    Ok(CloneResult { node: number.0, path: root, synced, not_found, elapsed: began.elapsed() })
}

/// Makes the repository, or finds the one that an earlier call made.
fn prepare(
    dir: &Path,
    line: &InviteLine,
    name: Option<&str>,
    params: &filesync_cas::Params,
    copied: &Copied,
) -> Result<std::path::PathBuf, Error> {
    if dir.join(STORE_DIR).symlink_metadata().is_ok() {
        let vfs = RealVfs::open(&dir.join(STORE_DIR)).map_err(|error| Error::path("cannot open", dir, &error))?;
        let found = filesync_cas::Store::params(&vfs)?;
        if *found.repository.as_bytes() != line.repository.0 {
            let message = format!("cannot clone to {}: it is another repository", dir.display());
            return Err(Error::new(ErrorKind::Failed, message));
        }
        if Copied::read(&vfs)? != *copied {
            let message = format!("cannot clone to {}: it was begun with other paths", dir.display());
            return Err(Error::new(ErrorKind::Failed, message).with_hint("what a copy has does not change: clone anew"));
        }
        if came_otherwise(&vfs, line)? {
            let message = format!("cannot clone to {}: it is a member's copy already", dir.display());
            let hint = match removed::is_noted(&vfs) {
                true => "the invite was not used; who was removed clones into another directory",
                false => "the invite was not used; `filesync sync` brings the copy up to date",
            };
            return Err(Error::new(ErrorKind::Failed, message).with_hint(hint));
        }
        return std::fs::canonicalize(dir).map_err(|error| Error::path("cannot open", dir, &error));
    }
    // But for what an earlier call left that was killed while it made the repository: `init` removes that.
    let is_foreign = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.map_or(true, |entry| !init::is_unfinished(&entry.file_name()))
    };
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.any(is_foreign)) {
        let message = format!("cannot clone to {}: it is not empty", dir.display());
        return Err(Error::new(ErrorKind::Failed, message));
    }
    let name = name.map_or_else(config::host, str::to_owned);
    init::init_with(dir, params, &name, copied).map(|made| made.path)
}

/// Whether this node is a member, and did not become one by this invite.
fn came_otherwise(vfs: &dyn Vfs, line: &InviteLine) -> Result<bool, Error> {
    let Some(membership) = member::read(vfs)? else { return Ok(false) };
    let known = Remote::read(vfs)?;
    let own = known.as_ref().and_then(|known| known.state.members.get(&membership.node));
    Ok(own.is_none_or(|own| own.invite != Some(line.public())))
}

/// Asks the members that the invite names to let this node in; what it then is, is durable.
pub(super) fn join(
    place: &dyn Fn() -> Result<Place, Error>,
    repo: &Arc<Repo>,
    line: &InviteLine,
    timeout: Duration,
) -> Result<Node, Error> {
    let vfs = Arc::clone(repo.store.vfs());
    let identity = Identity::load(&*vfs)?;
    let name = config::Config::load(&*vfs)?.node_name();
    let is_partial = !repo.copied.is_whole();
    let admit = line.admit(ids::PeerKey(identity.node()), &name, Vec::new(), is_partial);
    // Nobody but those whom the invite names is known yet.
    let mut state = State::new(line.repository);
    state.epoch = 0;
    for door in &line.doors {
        state.members.insert(door.node, Member::known(door.key, door.addresses.clone()));
    }
    let remote = Remote::new(state);
    // Before anybody is asked: cut off or refused, this is a clone that has not joined, and founds no cluster of its own.
    remote.write(&*vfs)?;
    let knocking = Node::assemble(place()?, Arc::clone(repo), NodeId(0), remote, &[])?;
    let core = Arc::clone(&knocking.core);
    let asked = core.wait(ask_to_join(&core, line, &Call::Join(admit), timeout));
    drop(core);
    knocking.shutdown();
    let (number, state) = asked??;
    let remote = Remote::new(state);
    remote.write(&*vfs)?;
    member::write(&*vfs, Membership { node: number, has_log: false, is_partial })?;
    Node::assemble(place()?, Arc::clone(repo), number, remote, &[])
}

async fn ask_to_join(core: &Core, line: &InviteLine, call: &Call, timeout: Duration) -> Result<(NodeId, State), Error> {
    let until = Instant::now() + timeout;
    let failed = |cause: String| Error::new(ErrorKind::NoQuorum, format!("cannot join: {cause}"));
    if line.doors.iter().all(|door| door.addresses.is_empty()) {
        return Err(failed("the invite names no address".to_owned()));
    }
    let mut last = String::new();
    loop {
        for door in &line.doors {
            let peer = PeerKey(door.key.0);
            let ask = async {
                core.connect(peer, &door.addresses).await?;
                core.call_peer(peer, call, ANSWER).await
            };
            let late = || CallFailure::Unreachable("it did not answer in time".to_owned());
            match tokio::time::timeout_at(until, ask).await.unwrap_or_else(|_| Err(late())) {
                Ok(Answer::Joined(number, state)) => return Ok((number, *state)),
                Ok(Answer::Outcome(Outcome::Refused(refusal))) => {
                    return Err(Error::new(ErrorKind::Refused, format!("cannot join: {refusal}")));
                }
                // Where no invite is open, strangers are not heard at all.
                Err(CallFailure::Refused(_)) => {
                    last = "refused: the invite has expired, or is used up or revoked".to_owned()
                }
                Ok(Answer::NotLeader(_)) => last = "no node leads".to_owned(),
                Ok(Answer::Unknown(cause) | Answer::Failed(cause)) => last = cause,
                Ok(_) => last = "no answer to what was asked".to_owned(),
                Err(error) => last = format!("{}: {error}", door.addresses.join(", ")),
            }
        }
        if Instant::now() >= until {
            return Err(failed(last));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What came of a command that the cluster was asked for.
pub fn decided(answer: Answer) -> Result<Outcome, Error> {
    match answer {
        Answer::Outcome(Outcome::Refused(refusal)) => Err(Error::new(ErrorKind::Failed, refusal.to_string())),
        Answer::Outcome(outcome) => Ok(outcome),
        Answer::Failed(cause) | Answer::Refused(cause) => Err(Error::new(ErrorKind::Failed, cause)),
        other => Err(Error::new(ErrorKind::Failed, format!("an answer to something else: {other:?}"))),
    }
}
