//! A member that publishes more than a voter has room for: publishing rule 2.

use filesync_cas::pin;

use super::*;

fn say_free(node: &Node, free: Option<u64>) {
    *node.core.quota.free.lock().unwrap() = free;
}

/// Publishes within a time; the error if it is not.
fn sync_within(dir: &Path, secs: u64) -> Result<SyncResult, crate::Error> {
    let request = SyncRequest { timeout: Duration::from_secs(secs), ..SyncRequest::default() };
    client(dir, |node| super::super::sync::sync(node, &request, &Silent)).and_then(|result| match result.error {
        Some(error) => Err(error),
        None => Ok(result),
    })
}

fn room(node: &Node, client: u64) -> u64 {
    let (core, client) = (&node.core, filesync_raft_log::ids::NodeId(client));
    let is_published =
        |commit: &filesync_raft_log::ids::Id| core.view.is_published(&filesync_merkle::CommitId::from_bytes(commit.0));
    core.quota.room(&**core.repo.store.vfs(), client, is_published).unwrap()
}

fn pins(node: &Node) -> usize {
    pin::all(&**node.core.repo.store.vfs()).unwrap().len()
}

/// G10: nobody fills a voter's disk alone. He is told so, nothing is pinned for him, others publish meanwhile, and he does once
/// there is room. However often he tries, no more comes.
#[test]
fn a_member_gets_no_more_than_half_of_the_room() {
    let (_dir, one) = published();
    let (two, three) = (join(invite(&one, Role::Writer), "two"), join(invite(&one, Role::Writer), "three"));
    say_free(&one, Some(1_000_000));
    let large = Rng::new(5).bytes(8_000_000);
    two.write("repo/bulk", &large);
    let path = two.0.join("repo");
    commit(&open(&path));
    let before = one.core.repo.store.packs_len();
    let error = sync_within(&path, 3).unwrap_err();
    assert!(error.to_string().contains("more than half of the free disk"), "{error}");
    assert_eq!((pins(&one), room(&one, 2)), (0, 0));
    // Beyond the bound comes what is on its way.
    let came = one.core.repo.store.packs_len() - before;
    assert!(came < 6_000_000, "{came}");
    assert!(sync_within(&path, 3).is_err());
    let more = one.core.repo.store.packs_len() - before - came;
    assert!(more < 2_500_000, "{more} after {came}");
    three.write("repo/small", "small");
    let other = three.0.join("repo");
    commit(&open(&other));
    assert_eq!(sync_within(&other, 20).unwrap().published.len(), 1);
    say_free(&one, Some(100_000_000));
    assert_eq!(sync_within(&path, 20).unwrap().outcome, SyncOutcome::Done);
    eventually("nothing is pinned any more", || pins(&one) == 0);
    one.shutdown();
}

/// What another voter says reaches who publishes, too; and a try that failed leaves its pin and what it counts.
#[test]
fn a_voter_that_has_no_room_for_a_member_says_so() {
    let (dir, one) = published();
    let other = join(invite(&one, Role::Candidate), "two");
    let two = serve(&other.0.join("repo"));
    let request = PeersRequest::Promote { node: "two".to_owned(), even: true };
    crate::cluster::members::peers(&one, &request, TIME).unwrap();
    eventually("both hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
    let writer = join(invite(&one, Role::Writer), "three");
    say_free(&two, Some(100_000));
    writer.write("repo/bulk", Rng::new(6).bytes(3_000_000));
    let path = writer.0.join("repo");
    commit(&open(&path));
    let error = sync_within(&path, 20).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("1 of 2 voters hold") && text.contains("node 2: ") && text.contains("more than half"),
        "{text}"
    );
    assert_eq!(pins(&two), 0);
    // The leader has it, and counts it, whether it is pinned by now or was.
    say_free(&one, Some(10_000_000));
    assert!((3_000_000..4_000_000).contains(&room(&one, 3)), "{}", room(&one, 3));
    say_free(&two, None);
    assert_eq!(sync_within(&path, 25).unwrap().published.len(), 1);
    eventually("nothing is pinned any more", || pins(&one) + pins(&two) == 0);
    assert_eq!(room(&one, 3), 5_000_000);
    let _ = dir;
    one.shutdown();
    two.shutdown();
}
