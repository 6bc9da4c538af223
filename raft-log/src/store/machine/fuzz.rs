//! What lies on the disk, and what travels to a node that is far behind, with bytes that are nearly right.

use bolero::check;

use super::*;
use crate::fuzz::{fuzz, log_id, state, stored_membership, vote};
use crate::testing::{REPOSITORY, main_ref, step_id};
use crate::types::Vote;

#[test]
fn states() {
    let change = main_ref(None, Id([6; 32]));
    let step = Step { index: LogIndex(4), change, prev: Some(Id([4; 32])) };
    let steps: VecDeque<_> = [UnwrittenStep { id: step_id(&step), step }].into();
    let empty = Checkpoint {
        state: State::new(REPOSITORY),
        last: None,
        membership: Membership::default(),
        steps: VecDeque::new(),
    };
    let lived_in = Checkpoint { state: state(), last: Some(log_id(4)), membership: stored_membership(), steps };
    let samples = [encode(&empty), encode(&lived_in)];
    fuzz::<Checkpoint>(check!(), &samples, |_| ()).reaches(10_000);
}

#[test]
fn votes() {
    let samples = [encode(&vote(1)), encode(&Vote::new(u64::MAX, NodeId(300)))];
    fuzz::<Vote>(check!(), &samples, |_| ()).reaches(10_000);
}

#[test]
fn positions() {
    let samples = [encode(&log_id(0)), encode(&log_id(u64::MAX))];
    fuzz::<LogId>(check!(), &samples, |_| ()).reaches(10_000);
}
