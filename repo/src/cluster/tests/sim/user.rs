//! Who commits and publishes, one thing after the other; and who collects.

use std::sync::Arc;
use std::time::Duration;

use filesync_cas::rows::RowBatch;
use filesync_cas::testing::Rng;
use filesync_cas::{Chunker, ContentHash, Kind};
use filesync_merkle::{
    ChunkId, Commit, CommitId, Content, Entry, ListBuilder, Mode, Name, Node as TreeNode, Timestamp, TreeEditor,
    TreeLink, is_ancestor,
};
use filesync_raft_log::testing::Numbers;
use tokio::time::sleep;

use super::fiber;
use super::record::Promise;
use super::world::{Life, World};
use crate::cluster::node::Node;
use crate::cluster::sync;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::objects::SessionNodes;
use crate::repo::Repo;
use crate::request::{Event, GcRequest, Observer, Silent, SyncOutcome, SyncRequest};

/// Files that there are, and contents that come again and again, also after they were garbage.
const FILES: u64 = 8;
const CONTENTS: u64 = 24;
const LEN_MAX: usize = 20_000;

/// Publishes until faults have ended, and once more.
pub async fn publish(world: Arc<World>, machine: usize, mut numbers: Numbers) {
    let mut is_last = false;
    while !world.is_over() && !is_last && !world.is_out(machine) {
        sleep(Duration::from_millis(numbers.below(world.settings.pause))).await;
        let is_calm = world.is_calm();
        let Some(life) = world.life(machine) else { continue };
        let (own, of, mut drawn) = (Arc::clone(&world), life.clone(), numbers.fork());
        let done = world.blocking(&life, move || {
            let Some(node) = of.node() else { return false };
            let done = turn(&own, &node, &mut drawn);
            own.turned(&of, done)
        });
        is_last = done.await.ok().flatten() == Some(true) && is_calm;
    }
    world.user_done(machine);
}

/// Commits, and syncs. `true` if what was committed is published.
fn turn(world: &World, node: &Node, numbers: &mut Numbers) -> Result<bool, Error> {
    let core = &node.core;
    let repo = &core.repo;
    let held = core.remote().held;
    let parent = match (repo.head(), held) {
        // What is only here is given up now and then.
        (Some(head), Some(held)) if numbers.happens(150) || is_ancestor(repo.node_source(), head, held)? => Some(held),
        (head, held) => head.or(held),
    };
    let committed = commit(repo, parent, core.env.now(), numbers)?;
    let timeout = Duration::from_millis(500 + numbers.below(15_000));
    let request = SyncRequest { push_only: true, timeout, ..SyncRequest::default() };
    let result = sync::sync(node, &request, &Silent)?;
    world.record.note(format_args!("{} syncs {committed}: {:?}", node.number(), result.outcome));
    if result.outcome == SyncOutcome::Unknown || result.outcome == SyncOutcome::Refused {
        world.record.note(format_args!("{:?}", result.error));
        return Ok(false);
    }
    world.oracle().told.extend(&result.published);
    world.record.count("publishes that were told");
    if result.merged.is_some() {
        world.record.count("merges");
    }
    Ok(!result.published.is_empty())
}

impl World {
    fn turned(&self, life: &Life, done: Result<bool, Error>) -> bool {
        match done {
            Ok(is_published) => is_published,
            Err(error) => {
                self.record.note(format_args!("{} does not sync: {:?}", life.machine, error.kind()));
                let is_rotten = self.oracle().rotten.contains_key(&life.machine);
                if error.kind() == ErrorKind::Damage && life.is_alive() && !is_rotten {
                    self.record.broken(Promise::GoesOn, format!("damage on {}: {error}", life.machine));
                }
                false
            }
        }
    }
}

/// A commit with one file changed. It is the head then.
fn commit(repo: &Repo, parent: Option<CommitId>, now: Duration, numbers: &mut Numbers) -> Result<CommitId, Error> {
    let source = repo.node_source();
    let tree = match parent {
        Some(parent) => Some(filesync_merkle::history::read_commit(source, &parent)?.tree),
        None => None,
    };
    let session = repo.store.session()?;
    let mut writer = session.writer();
    let name = Name::new(format!("file-{}", numbers.below(FILES)).as_bytes()).expect("a name");
    let bytes = {
        let mut rng = Rng::new(numbers.below(CONTENTS));
        let len = 1 + rng.index(LEN_MAX);
        rng.bytes(len)
    };
    let entry = file(repo, &mut writer, &bytes);
    let mut editor = TreeEditor::new(source, tree);
    editor.upsert(&mut SessionNodes(&mut writer), name, entry)?;
    let tree: TreeLink = editor.finish(&mut SessionNodes(&mut writer))?;
    let identity = Identity::load(&**repo.store.vfs())?;
    let time = crate::commit::time_at(now);
    let mut commit = Commit {
        parents: parent.into_iter().collect(),
        tree,
        time,
        author: "somebody".to_owned(),
        message: format!("{:016x}", numbers.draw()),
        node: identity.node(),
        signature: [0; 64],
    };
    identity.sign(&mut commit, repo.repository())?;
    let id = writer.store(CommitId::KIND, &commit.encode()?)?;
    writer.flush()?;
    drop(writer);
    session.finish(Some(id), RowBatch::default())?;
    Ok(CommitId(id))
}

fn file(repo: &Repo, writer: &mut filesync_cas::store::FrameWriter<'_>, bytes: &[u8]) -> Entry {
    let mut ends = Vec::new();
    Chunker::new(repo.store.parameters().chunks).cut(bytes, true, |len| ends.push(len));
    let (mut list, mut rest) = (ListBuilder::new(), bytes);
    for len in ends {
        let (chunk, after) = rest.split_at(len);
        rest = after;
        let id = ChunkId(writer.store(Kind::CHUNK, chunk).expect("stored"));
        list.push(&mut SessionNodes(writer), id, u32::try_from(len).expect("short")).expect("pushed");
    }
    let hash = *ContentHash::of_chunk(bytes).as_bytes();
    let content: Content = list.finish(&mut SessionNodes(writer), hash).expect("finished");
    let node = TreeNode::File { mtime: Timestamp::default(), size: bytes.len() as u64, content };
    Entry { mode: Mode::FILE, attrs: None, node }
}

/// Lets others come in between, before anything is removed.
struct Between(Duration);

impl Observer for Between {
    fn event(&self, event: Event) {
        if matches!(event, Event::Phase { what: "collecting", .. }) && fiber::is_one() {
            fiber::block_on(std::pin::pin!(sleep(self.0)));
        }
    }
}

/// Collects what nothing refers to.
pub fn collect(world: &World, life: &Life, pause: Duration) {
    let Some(node) = life.node() else { return };
    let repo = &node.core.repo;
    match repo.gc(&GcRequest::default(), &Between(pause)) {
        Ok(done) if done.packs_rewritten + done.packs_removed > 0 => {
            // How many bytes that are depends on the names of packs, which are drawn by chance.
            world.record.note(format_args!("{} collects", life.machine));
            world.record.count("collections");
            world.check_held();
        }
        Ok(_) => {}
        Err(error) => world.record.note(format_args!("{} does not collect: {:?}", life.machine, error.kind())),
    }
}
