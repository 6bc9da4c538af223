use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::command::{Command, Publish, Receipts, Refusal};
use crate::error::{HandleError, ProposeError, ReadError};
use crate::ids::{NodeId, PeerKey};
use crate::log::{Reason, TryStatus};
use crate::network::{Sender, tests as messages};
use crate::state::State;
use crate::testing::{self, Cluster, PATIENCE, Settings, main_ref};

#[test]
fn a_leader_without_a_majority_answers_in_time() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 3, 3).await;
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        let old = cluster.leader().await;
        assert!(old.is_led());
        let others: Vec<_> = cluster.nodes.keys().copied().filter(|node| *node != old.node()).collect();
        cluster.net.isolate(old.node(), others);
        let within = Duration::from_secs(1);
        let of = old.begin_try(NodeId(1)).expect("it thinks that it leads");
        let cut_off =
            old.publish(of, 99, main_ref(Some(id(1)), id(66)), cluster.nodes.keys().copied().collect(), within).await;
        assert!(matches!(cut_off, Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. })), "{cut_off:?}");
        let read = old.read_index(within).await;
        assert!(matches!(read, Err(ReadError::TimedOut(_) | ReadError::NotLeader { .. })), "{read:?}");
        let finds_out = async {
            while old.is_led() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, finds_out).await.expect("it finds that nobody hears it");
        // The others go on.
        let cut = old.node();
        drop(old);
        let log = cluster.nodes.remove(&cut).expect("it runs");
        assert_published(&cluster.publish(NodeId(2), main_ref(Some(id(1)), id(2))).await);
        cluster.net.heal();
        cluster.nodes.insert(cut, log);
        cluster.assert_same().await;
        assert!(cluster.nodes.values().all(|log| log.is_led()));
        let main = cluster.leader().await.read(|state| state.refs.values().copied().collect::<Vec<_>>());
        assert_eq!(main, [id(2)]);
    });
}

/// What comes while an entry is being written goes into the next together.
#[test]
fn proposals_of_a_moment_share_an_entry() {
    run(async {
        const PROPOSALS: u64 = 64;
        let cluster = Cluster::start(Settings::default(), 3, 3).await;
        let leader = cluster.leader().await;
        let last = || leader.status().last.expect("it has entries").0;
        let before = last();
        let mut all = JoinSet::new();
        for _ in 0..PROPOSALS {
            let leader = Arc::clone(&leader);
            all.spawn(async move { leader.propose(Command::Whole { node: NodeId(1) }, PATIENCE).await });
        }
        for outcome in all.join_all().await {
            outcome.expect("it is written");
        }
        let entries = last() - before;
        println!("{PROPOSALS} proposals in {entries} entries");
        assert!((1..=PROPOSALS / 8).contains(&entries), "{entries} entries");
    });
}

/// Another one leads, and who stands back follows, votes, and leads again when it may and has to.
#[test]
fn who_stands_back_is_relieved() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 3, 3).await;
        let old = cluster.leader().await;
        old.stand_back(Reason::Unable, true);
        assert!(old.leading().is_none() && old.leader().is_none());
        let within = Duration::from_secs(1);
        assert!(matches!(old.read_index(within).await, Err(ReadError::NotLeader { .. })));
        assert!(matches!(old.begin_try(NodeId(1)), Err(ProposeError::NotLeader { .. })));
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        let second = cluster.leader().await;
        assert_ne!(second.node(), old.node());
        cluster.assert_same().await;
        // Its vote is needed by the third.
        let gone = second.node();
        drop(second);
        cluster.crash(gone).await;
        assert_published(&cluster.publish(NodeId(1), main_ref(Some(id(1)), id(2))).await);
        let third = cluster.leader().await;
        assert!(third.node() != old.node() && third.node() != gone);
        // Nobody else can.
        old.stand_back(Reason::Unable, false);
        third.stand_back(Reason::Unable, true);
        assert_published(&cluster.publish(NodeId(1), main_ref(Some(id(2)), id(3))).await);
        assert_eq!(cluster.leader().await.node(), old.node());
    });
}

#[test]
fn lost_late_and_repeated_messages() {
    run(async {
        for seed in 0..3 {
            println!("seed {seed}");
            let delay = Duration::from_millis(10);
            let settings = Settings { seed, lost_per_mille: 50, delay, ..Settings::default() };
            let mut cluster = Cluster::start(settings, 3, 3).await;
            let mut head = None;
            for number in 1..=20 {
                assert_published(&cluster.publish(NodeId(1 + number % 3), main_ref(head, id(number))).await);
                head = Some(id(number));
            }
            cluster.assert_same().await;
            let steps = cluster.leader().await.unwritten_steps();
            let moved: Vec<_> = steps.iter().filter_map(|unwritten| unwritten.step.change.new).collect();
            assert_eq!(moved, (1..=20).map(id).collect::<Vec<_>>());
        }
    });
}

#[test]
fn what_a_leader_says_of_a_try() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 1, 1).await;
        let leader = cluster.leader().await;
        let of = leader.begin_try(NodeId(1)).expect("it leads");
        let id_of = of.id;
        assert_eq!(leader.try_status(id_of, PATIENCE).await, Ok(TryStatus::Open));
        // Given up before it was proposed.
        drop(of);
        assert_eq!(leader.try_status(id_of, PATIENCE).await, Ok(TryStatus::Unknown));
        assert!(!leader.read(|state| state.is_decided(id_of)), "not by the log");
        let of = leader.begin_try(NodeId(1)).expect("it leads");
        let id_of = of.id;
        assert_published(&leader.publish(of, 1, main_ref(None, id(1)), [NodeId(1)].into(), PATIENCE).await);
        assert_eq!(leader.try_status(id_of, PATIENCE).await, Ok(TryStatus::Decided));
        // Others let go by what is on disk.
        assert!(leader.read(|state| state.is_decided(id_of)));
        let flushed = leader.flush().expect("it can be flushed");
        assert_eq!(flushed, leader.watch_applied().borrow().map(|at| at.index));
        // Its memory is gone; the log's is not.
        drop(leader);
        cluster.crash(NodeId(1)).await;
        cluster.restart(NodeId(1)).await;
        let leader = cluster.leader().await;
        let answer = leader.try_status(id_of, PATIENCE).await;
        let is_later = leader.leading() != Some(id_of.leader);
        assert!(
            answer == Ok(TryStatus::Decided) || is_later && matches!(answer, Err(ReadError::NotLeader { .. })),
            "{answer:?}"
        );
        let next = leader.begin_try(NodeId(1)).expect("it leads");
        assert!(next.id.nonce > id_of.nonce, "no nonce twice");
        // Receipts go with their try.
        let receipts = Some(Receipts { leader: next.id.leader, nonce: next.id.nonce, nodes: [NodeId(1)].into() });
        let publish = Publish { client: NodeId(1), seq: 2, change: main_ref(Some(id(1)), id(2)), receipts };
        let without = leader.propose(Command::Publish(publish), PATIENCE).await;
        assert_eq!(without, Err(ProposeError::Refused(Refusal::NoTry)));
        let addresses = vec!["x".repeat(1 << 20)];
        let long = leader.propose(Command::SetAddresses { node: NodeId(1), addresses }, PATIENCE).await;
        assert!(matches!(long, Err(ProposeError::Refused(Refusal::TooMuch(_)))), "{long:?}");
    });
}

#[test]
fn strangers_and_wrong_addresses() {
    run(async {
        let cluster = Cluster::start(Settings::default(), 3, 3).await;
        let log = &cluster.nodes[&NodeId(2)];
        let sender = Sender { key: PeerKey([66; 32]), known_as: None };
        for garbage in [&b""[..], b"\x01", b"\x02abc", &[0xff; 100]] {
            assert!(matches!(log.handle(sender, garbage).await, Err(HandleError::Malformed(_))));
        }
        let message = messages::vote_message(NodeId(1), NodeId(2), 1_000_000);
        assert_eq!(log.handle(sender, &message).await, Err(HandleError::Stranger(NodeId(1))), "another's key");
        let message = messages::vote_message(NodeId(1), NodeId(3), 1_000_000);
        assert_eq!(log.handle(sender, &message).await, Err(HandleError::Misdirected));
        let message = messages::vote_message(NodeId(9), NodeId(2), 1_000_000);
        assert_eq!(log.handle(sender, &message).await, Err(HandleError::Stranger(NodeId(9))));
        let known_as = |node| Sender { known_as: Some(NodeId(node)), ..sender };
        assert_eq!(log.handle(known_as(8), &message).await, Err(HandleError::Stranger(NodeId(9))), "it is number 8");
        assert!(log.handle(known_as(9), &message).await.is_ok(), "later than this log knows");
        let message = messages::vote_message(NodeId(1), NodeId(2), 1_000_000);
        assert_eq!(
            log.handle(known_as(1), &message).await,
            Err(HandleError::Stranger(NodeId(1))),
            "the log knows better"
        );
        // A member, but in another's name.
        let sender = Sender { key: testing::key(NodeId(1)), known_as: None };
        let message = messages::forged_message(NodeId(1), NodeId(2), NodeId(3));
        assert_eq!(log.handle(sender, &message).await, Err(HandleError::Stranger(NodeId(3))));
        cluster.assert_same().await;
    });
}

/// P17: what is of terms gone by moves nobody, however often it comes.
#[test]
fn old_terms_again_and_again() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 3, 3).await;
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        let leader = cluster.leader().await;
        let others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|node| *node != leader.node()).collect();
        let (from, to) = (others[0], others[1]);
        let sender = Sender { key: testing::key(from), known_as: None };
        let term = leader.status().term;
        for old in (0..term).cycle().take(2_000) {
            for to in [to, leader.node()] {
                for message in [messages::vote_message(from, to, old), messages::empty_state_message(from, to, old)] {
                    cluster.nodes[&to].handle(sender, &message).await.expect("it is a message, and comes to nothing");
                }
            }
        }
        assert_eq!((leader.status().term, leader.status().leading.is_some()), (term, true));
        assert_published(&cluster.publish(NodeId(1), main_ref(Some(id(1)), id(2))).await);
        cluster.assert_same().await;
    });
}

#[test]
fn a_state_that_cannot_be_read_is_refused_and_ends_nothing() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 3, 3).await;
        let sender = Sender { key: testing::key(NodeId(1)), known_as: None };
        let message = messages::empty_state_message(NodeId(1), NodeId(2), 1_000);
        let answer = cluster.nodes[&NodeId(2)].handle(sender, &message).await.expect("it is a message");
        assert!(messages::is_failed(&answer));
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        cluster.assert_same().await;
    });
}

#[test]
fn reads_see_what_was_acknowledged_before_them() {
    run(async {
        let delay = Duration::from_millis(3);
        let mut cluster = Cluster::start(Settings { seed: 8, delay, ..Settings::default() }, 3, 3).await;
        let mut head = None;
        for number in 1..=10 {
            assert_published(&cluster.publish(NodeId(1), main_ref(head, id(number))).await);
            head = Some(id(number));
            let leader = cluster.leader().await;
            // Many at once share what they need, and each is as fresh as if it came alone.
            let reads = (0..50).map(|_| {
                let leader = Arc::clone(&leader);
                tokio::spawn(async move { leader.read_latest(PATIENCE, main_of).await })
            });
            for read in reads.collect::<Vec<_>>() {
                assert_eq!(read.await.expect("it ends"), Ok(head));
            }
            // Others apply what the leader names.
            let index = leader.read_index(PATIENCE).await.expect("a majority answers");
            for log in cluster.nodes.values() {
                log.wait_applied(index, PATIENCE).await.expect("it catches up");
                assert_eq!(log.read(main_of), head);
            }
        }
        let leader = cluster.leader().await.node();
        let other = cluster.nodes.values().find(|log| log.node() != leader).expect("there are three");
        let elsewhere = other.read_latest(PATIENCE, main_of).await;
        assert_eq!(elsewhere, Err(ReadError::NotLeader { leader: Some(leader) }));
        assert_eq!(other.wait_leader(None, PATIENCE).await, Ok(leader));
        let nobody = other.wait_leader(Some(leader), Duration::from_millis(20)).await;
        assert_eq!(nobody, Err(ReadError::TimedOut(Duration::from_millis(20))));
        let status = cluster.nodes[&leader].status();
        assert_eq!((status.leader, status.leading.map(|id| id.node)), (Some(leader), Some(leader)));
        assert_eq!(status.followers.len(), 2);
        assert_eq!(status.applied, status.last);
    });
}

fn main_of(state: &State) -> Option<Id> {
    state.refs.values().next().copied()
}
