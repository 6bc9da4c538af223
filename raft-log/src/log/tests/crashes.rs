use super::*;
use crate::error::OpenError;
use crate::ids::NodeId;
use crate::store::Mode;
use crate::testing::{Cluster, Settings, main_ref};

#[test]
fn leaders_that_die_under_load() {
    run(async {
        let mut cluster = Cluster::start(Settings { seed: 3, ..Settings::default() }, 3, 3).await;
        let mut head = None;
        for number in 1..=12 {
            if number % 4 == 0 {
                let leader = cluster.leader().await.node();
                cluster.crash(leader).await;
                assert_published(&cluster.publish(NodeId(1), main_ref(head, id(number))).await);
                cluster.restart(leader).await;
            } else {
                assert_published(&cluster.publish(NodeId(1), main_ref(head, id(number))).await);
            }
            head = Some(id(number));
        }
        cluster.assert_same().await;
    });
}

#[test]
fn all_at_once() {
    run(async {
        let mut cluster = Cluster::start(Settings { snapshot_after: 20, ..Settings::default() }, 3, 3).await;
        let mut head = None;
        for round in 0..3 {
            for number in 1..=15 {
                let next = id(round * 100 + number);
                assert_published(&cluster.publish(NodeId(1), main_ref(head, next)).await);
                head = Some(next);
            }
            for node in [1, 2, 3] {
                cluster.crash(NodeId(node)).await;
            }
            for node in [1, 2, 3] {
                cluster.restart(NodeId(node)).await;
            }
        }
        cluster.assert_same().await;
        assert_eq!(cluster.leader().await.read(|state| state.refs.values().next().copied()), head);
    });
}

#[test]
fn a_node_that_was_away_gets_a_snapshot() {
    run(async {
        let mut cluster = Cluster::start(Settings { snapshot_after: 20, ..Settings::default() }, 3, 3).await;
        let away = cluster.nodes.keys().copied().find(|node| *node != NodeId(1)).expect("there are three");
        cluster.crash(away).await;
        let mut head = None;
        for number in 1..=80 {
            assert_published(&cluster.publish(NodeId(1), main_ref(head, id(number))).await);
            head = Some(id(number));
        }
        cluster.restart(away).await;
        cluster.assert_same().await;
        let log = &cluster.nodes[&away];
        assert!(log.flushed().is_some(), "it was sent a state");
        assert!(log.unwritten_steps().len() < 80, "steps that came with the state are not its own");
    });
}

#[test]
fn without_its_state_a_node_does_not_vote() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 3, 3).await;
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        let node = NodeId(3);
        cluster.crash(node).await;
        let dir = cluster.dir(node);
        let copy = cluster.root().join("copy");
        std::fs::rename(&dir, &copy).expect("it can be moved");
        let missing = cluster.open(node, Mode::Open).await;
        assert!(matches!(&missing, Err(OpenError::Missing(_))), "{missing:?}");
        std::fs::create_dir(&dir).expect("it can be made");
        let missing = cluster.open(node, Mode::Open).await;
        assert!(matches!(&missing, Err(OpenError::Missing(_))), "{missing:?}");
        assert!(missing.expect_err("as before").to_string().contains("filesync peers remove"));
        std::fs::remove_dir(&dir).expect("it is empty");
        std::fs::rename(&copy, &dir).expect("it can be moved back");
        cluster.restart(node).await;
        cluster.assert_same().await;
    });
}
