//! Bringing here what a partial copy does not have, when it is asked for: for looking at it, and no more. It makes nothing a part
//! that is none. What came is kept as long as a commit refers to it.

use filesync_cas::vfs::temp_name;
use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, Name, Parts, RepoPath, is_ancestor};

use super::node::Node;
use crate::error::{Error, ErrorKind};
use crate::history::commit_of;
use crate::repo::request_paths;
use crate::request::{BringRequest, Event, Observer};

/// Fetches paths of a commit from the voters. Durable on return.
pub fn bring(node: &Node, request: &BringRequest, observer: &dyn Observer) -> Result<u64, Error> {
    let core = &node.core;
    let repo = &core.repo;
    let (id, _) = commit_of(repo, request.rev.as_deref())?;
    let commit = published(node, id)?;
    let voters: Vec<_> = core.state().voters.iter().flatten().copied().collect();
    let peers = core.wait(core.connect_all(&voters))?;
    observer.event(Event::Phase { what: "fetching", bytes: None, items: None });
    let session = repo.store.session()?;
    let mut received = 0;
    for path in request_paths(&request.paths)? {
        let mut seen = (0, 0);
        let what = format!("not in this partial copy: {path}");
        let (path, parts) = match request.names_only {
            false => (path, Parts::whole()),
            // On the way to something that no tree has, all nodes of a directory come, and nothing that is in it.
            true => (RepoPath::root(), Parts::new(&[path.join(&no_name()?)])),
        };
        let stats = core.fetch_at(&session, commit, path, parts, &peers, &mut |stats| {
            let (bytes, items) = (stats.received, stats.objects + stats.nodes);
            observer.event(Event::Advance { bytes: bytes - seen.0, items: items - seen.1 });
            seen = (bytes, items);
        });
        received += stats.map_err(|error| error.during(what))?.received;
    }
    session.keep()?;
    Ok(received)
}

fn no_name() -> Result<Name, Error> {
    let name = temp_name().map_err(|error| Error::io("no random numbers", &error))?;
    Ok(Name::new(name.as_bytes())?)
}

/// The commit, or the newest before it that is published: what is outside of the parts is the same in both.
fn published(node: &Node, commit: CommitId) -> Result<CommitId, Error> {
    let source = node.core.repo.node_source();
    let none =
        || Error::new(ErrorKind::NotFound, format!("cannot fetch anything of commit {commit}: it is not published"));
    let held = node.core.remote().held.ok_or_else(none)?;
    let mut next = commit;
    while next != held && !is_ancestor(source, next, held)? {
        // What was published comes first among the parents of a merge.
        next = *read_commit(source, &next)?.parents.first().ok_or_else(none)?;
    }
    Ok(next)
}
