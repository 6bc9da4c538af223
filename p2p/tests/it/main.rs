//! Whole exchanges between stores, in one thread and on a clock of their own.

mod fetch;
mod hostile;
mod serve;
mod slow;
mod without;

use std::collections::BTreeMap;
use std::sync::Arc;

use filesync_cas::testing::Rng;
use filesync_merkle::{CommitId, Parts, RepoPath};
use filesync_p2p::serve::{Me, Shared};
use filesync_p2p::testing::{Everything, Honest, Line, Net, Repo, Tree, shared};
use filesync_p2p::{Fetch, FetchError, FetchStats, PeerKey, Root, Walk, Without};

const US: PeerKey = PeerKey([200; 32]);

fn peer(n: u8) -> PeerKey {
    PeerKey([n; 32])
}

fn me() -> Me {
    Me { repository: Repo::id(), epoch: 1, nonce: 99 }
}

fn whole(root: CommitId, base: Option<CommitId>) -> Walk {
    let base = base.map(|base| base.0);
    Walk { root: Root::Commit(root), base, history: true, path: RepoPath::root(), parts: Parts::whole(), from: 0 }
}

/// Some directories, small files, and one of several chunks.
fn some_tree(seed: u64, files: usize) -> Tree {
    let mut rng = Rng::new(seed);
    let mut tree: Tree = BTreeMap::new();
    for n in 0..files {
        let path = format!("dir {}/sub {}/file {n}", n % 7, n % 3);
        let len = rng.index(5000);
        let text = format!("words of file {n} and seed {seed}, ").into_bytes().repeat(len / 30 + 1);
        tree.insert(RepoPath::parse(path.as_bytes()).expect("a path"), text);
    }
    tree.insert(RepoPath::parse(b"large").expect("a path"), rng.bytes(3 << 20));
    tree
}

fn everything() -> Arc<Shared> {
    shared(Everything::default())
}

/// Connects a peer that answers from a repository as it should.
fn honest(net: &mut Net, key: PeerKey, line: Line, repo: &Repo) {
    net.connect(key, line, Honest::new(everything(), Arc::clone(&repo.store), US));
}

/// Fetches and makes durable what came, even if not all of it did.
fn fetch(net: &mut Net, repo: &Repo, walk: Walk) -> (Result<(), FetchError>, FetchStats) {
    fetch_without(net, repo, walk, Without::Nothing)
}

fn fetch_without(net: &mut Net, repo: &Repo, walk: Walk, without: Without) -> (Result<(), FetchError>, FetchStats) {
    let session = repo.store.session().expect("a session");
    let mut fetch = match Fetch::new(&repo.store, &session, walk) {
        Ok(fetch) => fetch.without(without),
        Err(error) => return (Err(error), FetchStats::default()),
    };
    let result = net.run(&mut fetch, &session);
    let stats = fetch.stats();
    drop(fetch);
    repo.finish(session);
    (result, stats)
}
