use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::command::Refusal;
use crate::error::{OpenError, ProposeError};
use crate::ids::NodeId;
use crate::recover::{Held, recover};
use crate::state::State;
use crate::store::{Header, Mode};
use crate::testing::{Cluster, PATIENCE, REPOSITORY, Settings, main_ref, step_id};

/// Recovers, as soon as the tasks of a log that was dropped let go of it.
async fn recovered(dir: &Path, header: Header, held: impl Fn() -> Option<Held>) -> Option<State> {
    let until = Instant::now() + PATIENCE;
    loop {
        match recover(dir, header, step_id, |_| held()) {
            // By the clock of the machine, whatever that of the runtime shows.
            Err(OpenError::Busy(_)) if Instant::now() < until => {
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_millis(5));
            }
            recovered => return recovered.expect("it opens"),
        }
    }
}

/// All that the survivor's log has counts, and it decides alone from then on.
#[test]
fn one_of_three_goes_on() {
    run(async {
        let mut cluster = Cluster::start(Settings { seed: 9, ..Settings::default() }, 3, 3).await;
        let mut head = None;
        for number in 1..=20 {
            assert_published(&cluster.publish(NodeId(2), main_ref(head, id(number))).await);
            head = Some(id(number));
        }
        cluster.settle().await;
        let before = cluster.nodes[&NodeId(3)].read(Clone::clone);
        assert!(!cluster.nodes[&NodeId(3)].votes_alone().await);
        for node in 1..=3 {
            cluster.crash(NodeId(node)).await;
        }
        let header = Header { repository: REPOSITORY, node: NodeId(3) };
        let dir = cluster.dir(NodeId(3));
        assert!(recovered(&dir, header, || None).await.is_none(), "nothing is done");
        let state = recovered(&dir, header, || Some(Held::default())).await.expect("it is done");
        assert_eq!((state.epoch, &state.refs), (before.epoch + 1, &before.refs));
        assert_eq!((state.last_step, state.voters.len()), (before.last_step, 1));
        cluster.open(NodeId(3), Mode::Open).await.expect("it can be opened");
        let log = Arc::clone(&cluster.nodes[&NodeId(3)]);
        assert!(log.votes_alone().await);
        log.lead_alone(PATIENCE).await.expect("nobody else votes");
        drop(log);
        assert_published(&cluster.publish(NodeId(3), main_ref(head, id(21))).await);
        // Who voted before is a member no more.
        let refused = cluster.publish(NodeId(2), main_ref(Some(id(21)), id(22))).await;
        assert_eq!(refused, Err(ProposeError::Refused(Refusal::NotAMember(NodeId(2)))));
        cluster.crash(NodeId(3)).await;
        cluster.restart(NodeId(3)).await;
        cluster.settle().await;
        assert_eq!(cluster.nodes[&NodeId(3)].read(|state| (state.epoch, state.refs.len())), (2, 1));
    });
}
