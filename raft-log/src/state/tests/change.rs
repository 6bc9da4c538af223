use super::*;

fn bad(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::BadTarget(_)))
}

#[test]
fn what_can_be_a_target() {
    let mut world = World::with(5, &[1, 2, 3]);
    assert!(bad(&world.intend(&[])));
    assert!(bad(&world.intend(&[1, 2, 3])), "they vote already");
    assert!(bad(&world.intend(&[1, 2, 3, 4])), "an even number");
    assert_eq!(world.intend(&[1, 2, 9]), Outcome::Refused(Refusal::NotAMember(NodeId(9))));
    // Writers and partial copies are no candidates.
    assert_eq!(world.apply(Command::SetRole { node: NodeId(4), role: Role::Writer, by: NodeId(1) }), Outcome::Done);
    assert!(bad(&world.intend(&[1, 2, 4])));
    assert_eq!(world.apply(Command::SetPartial { node: NodeId(5), is_partial: true }), Outcome::Done);
    assert!(bad(&world.intend(&[1, 2, 5])));
    for (node, as_what) in [(4, true), (4, false)] {
        let partial = Command::SetPartial { node: NodeId(node), is_partial: as_what };
        assert_eq!(world.apply(partial), Outcome::Done);
        let again = Command::SetRole { node: NodeId(node), role: Role::Candidate, by: NodeId(1) };
        let expected = if as_what { Outcome::Refused(Refusal::IsPartial) } else { Outcome::Done };
        assert_eq!(world.apply(again), expected);
    }
    // Only voters ask.
    let by_candidate = Intent { target: nodes(&[1]), is_even_allowed: false, by: NodeId(5) };
    assert_eq!(world.apply(Command::Intent(by_candidate)), Outcome::Refused(Refusal::NotAllowed(NodeId(5))));
    let even = Intent { target: nodes(&[1, 2]), is_even_allowed: true, by: NodeId(1) };
    assert_eq!(world.apply(Command::Intent(even.clone())), Outcome::Intended(IntentId(1)));
    // Whose answer was lost asks again.
    assert_eq!(world.apply(Command::Intent(even)), Outcome::Intended(IntentId(1)));
    assert_eq!(world.intend(&[1]), Outcome::Refused(Refusal::ChangeUnderWay));
}

#[test]
fn fewer_than_a_majority_whole_is_refused() {
    let mut world = World::with(5, &[1, 2, 3, 4, 5]);
    for node in [2, 3] {
        assert_eq!(world.apply(Command::Deficient { node: NodeId(node) }), Outcome::Done);
    }
    assert_eq!(world.intend(&[1, 2, 3]), Outcome::Refused(Refusal::TooFewWhole { held: 1, needed: 2 }));
    assert_eq!(world.intend(&[1, 2, 4]), Outcome::Intended(IntentId(1)));
}

#[test]
fn ready_when_all_new_and_a_majority_hold() {
    let lacks = |held, needed| Outcome::Refused(Refusal::TooFewHold { held, needed });
    let mut world = World::with(5, &[1, 2, 3]);
    assert_eq!(world.ready(&[1, 2, 3, 4, 5]), Outcome::Refused(Refusal::NoSuchChange));
    assert_eq!(world.intend(&[1, 2, 3, 4, 5]), Outcome::Intended(IntentId(1)));
    assert_eq!(world.ready(&[1, 2, 3, 4]), lacks(1, 2), "5 is new");
    assert_eq!(world.ready(&[4, 5]), lacks(2, 3));
    // As of before the intent is not enough.
    let intent = world.state.change.clone().expect("under way");
    let early = [4, 5, 1].map(|node| (NodeId(node), LogIndex(intent.index.0 - u64::from(node == 5))));
    let ready = Ready { intent: intent.id, receipts: early.into_iter().collect() };
    assert_eq!(world.apply(Command::Ready(ready)), lacks(1, 2));
    let other = Ready { intent: IntentId(9), receipts: BTreeMap::new() };
    assert_eq!(world.apply(Command::Ready(other)), Outcome::Refused(Refusal::NoSuchChange));
    // Who lacks data attests nothing.
    assert_eq!(world.apply(Command::Deficient { node: NodeId(4) }), Outcome::Done);
    assert_eq!(world.ready(&[3, 4, 5]), lacks(1, 2));
    assert_eq!(world.apply(Command::Whole { node: NodeId(4) }), Outcome::Done);
    assert_eq!(world.ready(&[3, 4, 5]), Outcome::Done);
    assert!(world.state.change.as_ref().is_some_and(|change| change.is_ready));
}

#[test]
fn a_change_ends_with_the_vote_or_a_cancel() {
    let mut world = World::with(5, &[1, 2, 3]);
    assert_eq!(world.intend(&[1, 4, 5]), Outcome::Intended(IntentId(1)));
    assert_eq!(world.apply(Command::Cancel { intent: IntentId(2) }), Outcome::Refused(Refusal::NoSuchChange));
    assert_eq!(world.apply(Command::Cancel { intent: IntentId(1) }), Outcome::Done);
    assert_published(&world.publish(change(None, Some(1)), &[1, 2]));
    assert_eq!(world.intend(&[1, 4, 5]), Outcome::Intended(IntentId(2)));
    assert_eq!(world.ready(&[4, 5]), Outcome::Done);
    // Entries of Raft's that do not concern the target change nothing.
    world.vote(&[&[1, 2, 3]]);
    assert!(world.state.change.is_some());
    world.vote(&[&[1, 2, 3], &[1, 4, 5]]);
    assert_eq!(
        world.apply(Command::Cancel { intent: IntentId(2) }),
        Outcome::Refused(Refusal::NoSuchChange),
        "it is in force"
    );
    assert_eq!(world.intend(&[1, 2, 3, 4, 5]), Outcome::Refused(Refusal::ChangeUnderWay), "two sets vote");
    world.vote(&[&[1, 4, 5]]);
    assert_eq!(world.intend(&[1, 2, 3, 4, 5]), Outcome::Intended(IntentId(3)));
}

#[test]
fn damage_after_ready_asks_again() {
    let mut world = World::with(5, &[1, 2, 3]);
    let is_ready = |world: &World| world.state.change.as_ref().is_some_and(|change| change.is_ready);
    assert_eq!(world.intend(&[1, 4, 5]), Outcome::Intended(IntentId(1)));
    assert_eq!(world.ready(&[4, 5]), Outcome::Done);
    // Somebody else's damage does not matter to it.
    assert_eq!(world.apply(Command::Deficient { node: NodeId(2) }), Outcome::Done);
    assert!(is_ready(&world));
    assert_eq!(world.apply(Command::Deficient { node: NodeId(4) }), Outcome::Done);
    assert!(!is_ready(&world));
    assert_eq!(world.apply(Command::Whole { node: NodeId(4) }), Outcome::Done);
    assert!(!is_ready(&world), "it has to attest anew");
    assert_eq!(world.ready(&[4, 5]), Outcome::Done);
    assert!(is_ready(&world));
}
