use super::*;
use crate::command::{Command, Intent, Refusal};
use crate::error::ProposeError;
use crate::ids::NodeId;
use crate::store::Note;
use crate::testing::{Cluster, Settings, main_ref};

#[test]
fn one_node_by_itself() {
    run(async {
        let mut cluster = Cluster::start(Settings::default(), 1, 1).await;
        assert_published(&cluster.publish(NodeId(1), main_ref(None, id(1))).await);
        let lost = cluster.publish(NodeId(1), main_ref(None, id(2))).await;
        assert_eq!(lost, Ok(Outcome::Lost { current: Some(id(1)) }));
        let log = &cluster.nodes[&NodeId(1)];
        assert_eq!(log.noted(Note::Packs), Ok(None));
        for (note, bytes) in [(Note::Packs, b"1"), (Note::Growing, b"2"), (Note::Packs, b"3")] {
            log.note(note, bytes).expect("it can be written");
        }
        cluster.crash(NodeId(1)).await;
        cluster.restart(NodeId(1)).await;
        let log = &cluster.nodes[&NodeId(1)];
        assert_eq!(log.noted(Note::Packs), Ok(Some(b"3".to_vec())));
        assert_eq!(log.noted(Note::Growing), Ok(Some(b"2".to_vec())));
        assert_published(&cluster.publish(NodeId(1), main_ref(Some(id(1)), id(2))).await);
        let log = &cluster.nodes[&NodeId(1)];
        let steps = log.unwritten_steps();
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1].step.prev, Some(steps[0].id));
        log.steps_written(steps[0].step.index);
        assert_eq!(log.unwritten_steps(), steps[1..]);
    });
}

#[test]
fn one_three_five_and_back_under_load() {
    run(async {
        let mut cluster = Cluster::start(Settings { seed: 5, ..Settings::default() }, 5, 1).await;
        let mut head = None;
        let mut number = 0;
        let all: Vec<_> = (1..=5).map(NodeId).collect();
        for voters in [&all[..3], &all[..5], &all[2..5], &all[..1]] {
            for _ in 0..5 {
                number += 1;
                assert_published(&cluster.publish(NodeId(2), main_ref(head, id(number))).await);
                head = Some(id(number));
            }
            cluster.change_voters(voters).await;
        }
        assert_published(&cluster.publish(NodeId(2), main_ref(head, id(99))).await);
        cluster.assert_same().await;
        let steps = cluster.nodes[&NodeId(5)].unwritten_steps();
        let moved: Vec<_> = steps.iter().filter_map(|unwritten| unwritten.step.change.new).collect();
        let expected: Vec<_> = (1..=number).chain([99]).map(id).collect();
        assert_eq!(moved, expected, "each once, in order");
    });
}

#[test]
fn an_intent_binds_at_once() {
    run(async {
        let cluster = Cluster::start(Settings::default(), 5, 3).await;
        let target = (1..=5).map(NodeId).collect();
        let intent = Intent { target, is_even_allowed: false, by: NodeId(1) };
        let intended = cluster.propose(Command::Intent(intent)).await;
        let Ok(Outcome::Intended(intent)) = intended else { panic!("{intended:?}") };
        let leader = cluster.leader().await;
        // Not ready: nothing to be done.
        assert_eq!(leader.drive(crate::testing::PATIENCE).await, Ok(crate::log::Driven::Nothing));
        let of = leader.begin_try(NodeId(1)).expect("it leads");
        let holders = [1, 2].map(NodeId).into();
        let few = leader.publish(of, 1, main_ref(None, id(1)), holders, crate::testing::PATIENCE).await;
        assert_eq!(few, Err(ProposeError::Refused(Refusal::TooFewHold { held: 2, needed: 3 })));
        assert_eq!(cluster.propose(Command::Cancel { intent }).await, Ok(Outcome::Done));
        let of = leader.begin_try(NodeId(1)).expect("it leads");
        let holders = [1, 2].map(NodeId).into();
        assert_published(&leader.publish(of, 1, main_ref(None, id(1)), holders, crate::testing::PATIENCE).await);
        cluster.assert_same().await;
    });
}
