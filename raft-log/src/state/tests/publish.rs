use super::*;
use crate::command::TryId;

#[test]
fn a_ref_moves_from_where_it_is_expected() {
    let mut world = World::with(3, &[1, 2, 3]);
    assert_published(&world.publish(change(None, Some(1)), &[1, 2]));
    assert_eq!(world.publish(change(None, Some(2)), &[1, 2, 3]), Outcome::Lost { current: Some(id(1)) });
    assert_published(&world.publish(change(Some(1), Some(2)), &[2, 3]));
    assert_eq!(world.state.refs[&main_ref()], id(2));
    // Gone needs no holders, and expects too.
    assert_eq!(world.publish(change(Some(1), None), &[]), Outcome::Lost { current: Some(id(2)) });
    assert_published(&world.publish(change(Some(2), None), &[]));
    assert_eq!(world.state.refs.get(&main_ref()), None);
    assert_eq!(world.publish(change(None, None), &[]), Outcome::Refused(Refusal::Empty));
}

#[test]
fn holders_are_counted_in_every_set() {
    let lacks = |held, needed| Outcome::Refused(Refusal::TooFewHold { held, needed });
    let mut world = World::with(5, &[1, 2, 3]);
    let wanted = change(None, Some(1));
    assert_eq!(world.publish(wanted.clone(), &[]), lacks(0, 2));
    assert_eq!(world.publish(wanted.clone(), &[1]), lacks(1, 2));
    // Candidates count for nothing yet, nor do nodes that nobody knows.
    assert_eq!(world.publish(wanted.clone(), &[1, 4, 5, 77]), lacks(1, 2));
    // With an intent its target is asked too.
    assert_eq!(world.intend(&[1, 2, 3, 4, 5]), Outcome::Intended(IntentId(1)));
    assert_eq!(world.publish(wanted.clone(), &[1, 2]), lacks(2, 3));
    assert_eq!(world.publish(wanted.clone(), &[3, 4, 5]), lacks(1, 2));
    // While both sets vote, both are asked.
    assert_eq!(world.ready(&[1, 4, 5]), Outcome::Done);
    world.vote(&[&[1, 2, 3], &[1, 2, 3, 4, 5]]);
    assert_eq!(world.publish(wanted.clone(), &[1, 2]), lacks(2, 3));
    assert_eq!(world.publish(wanted.clone(), &[3, 4, 5]), lacks(1, 2));
    world.vote(&[&[1, 2, 3, 4, 5]]);
    assert_eq!(world.publish(wanted.clone(), &[1, 2]), lacks(2, 3));
    // Who lacks data holds nothing, whatever it says.
    assert_eq!(world.apply(Command::Deficient { node: NodeId(5) }), Outcome::Done);
    assert_eq!(world.publish(wanted.clone(), &[3, 4, 5]), lacks(2, 3));
    assert_eq!(world.apply(Command::Whole { node: NodeId(5) }), Outcome::Done);
    assert_published(&world.publish(wanted, &[3, 4, 5]));
}

#[test]
fn it_is_told_who_holds_what_main_shows() {
    let mut world = World::with(5, &[1, 2, 3]);
    assert_eq!(world.state.holders, nodes(&[]));
    // Who has no vote, or is not known, is none.
    assert_published(&world.publish(change(None, Some(1)), &[1, 3, 4, 77]));
    assert_eq!(world.state.holders, nodes(&[1, 3]));
    // Tags say nothing of it, nor does what is lost.
    let tag = RefName::new("tags/v1").expect("a name");
    let tagged = RefChange { name: tag, expected: None, new: Some(id(1)) };
    assert_published(&world.publish(tagged, &[1, 2]));
    assert!(matches!(world.publish(change(None, Some(2)), &[2, 3]), Outcome::Lost { .. }));
    assert_eq!(world.state.holders, nodes(&[1, 3]));
    // Who finds damage is none any more, and once whole holds what comes next.
    assert_eq!(world.apply(Command::Deficient { node: NodeId(3) }), Outcome::Done);
    assert_eq!(world.state.holders, nodes(&[1]));
    assert_eq!(world.apply(Command::Whole { node: NodeId(3) }), Outcome::Done);
    assert_eq!(world.state.holders, nodes(&[1]));
    assert_published(&world.publish(change(Some(1), Some(2)), &[2, 3]));
    assert_eq!(world.state.holders, nodes(&[2, 3]));
}

#[test]
fn nobody_votes_before_the_first_membership() {
    let mut world = World::new();
    world.state.voters.clear();
    let outcome = world.publish(change(None, Some(1)), &[1]);
    assert_eq!(outcome, Outcome::Refused(Refusal::TooFewHold { held: 0, needed: 1 }));
}

#[test]
fn a_number_is_one_publish() {
    let mut world = World::with(3, &[1, 2, 3]);
    let publish = |world: &mut World, seq, wanted: RefChange, holders: &[u64]| {
        let receipts = world.receipts(holders);
        world.apply(Command::Publish(Publish { client: NodeId(2), seq, change: wanted, receipts }))
    };
    let one = change(None, Some(1));
    // Want of holders is not recorded: the same number may come again.
    let few = publish(&mut world, 5, one.clone(), &[2]);
    assert_eq!(few, Outcome::Refused(Refusal::TooFewHold { held: 1, needed: 2 }));
    let first = publish(&mut world, 5, one.clone(), &[1, 2]);
    assert_published(&first);
    let step = world.state.last_step;
    // Again: the same answer, nothing moves, whoever holds it now and whoever leads.
    world.elect(3);
    assert_eq!(publish(&mut world, 5, one.clone(), &[]), first);
    assert_eq!(world.state.last_step, step);
    let old = |seq| Outcome::Refused(Refusal::OldSequence { seq, last: 5 });
    assert_eq!(publish(&mut world, 5, change(Some(1), Some(2)), &[1, 2]), old(5));
    assert_eq!(publish(&mut world, 4, change(Some(1), Some(2)), &[1, 2]), old(4));
    // A loss is recorded as well.
    let lost = publish(&mut world, 6, change(None, Some(3)), &[1, 2]);
    assert_eq!(lost, Outcome::Lost { current: Some(id(1)) });
    assert_published(&publish(&mut world, 7, change(Some(1), Some(4)), &[1, 2]));
    // Another member has numbers of his own.
    world.seq = 0;
    assert_published(&world.publish(change(Some(4), Some(5)), &[1, 3]));
}

#[test]
fn receipts_of_another_leadership_count_for_nothing() {
    let mut world = World::with(3, &[1, 2, 3]);
    let old = world.receipts(&[1, 2, 3]);
    for (term, node) in [(2, 2), (3, 1)] {
        world.elect(node);
        assert_eq!(world.leader.term, term);
        let publish = Publish { client: NodeId(1), seq: 1, change: change(None, Some(1)), receipts: old.clone() };
        assert_eq!(world.apply(Command::Publish(publish)), Outcome::Refused(Refusal::OtherLeader));
    }
    // Nothing was recorded.
    assert_published(&world.publish(change(None, Some(1)), &[1, 2]));
}

#[test]
fn a_try_is_decided_once() {
    let mut world = World::with(3, &[1, 2, 3]);
    let mut receipts = world.receipts(&[1]).expect("made just now");
    let of = |client, of: &Receipts| TryId { client: NodeId(client), leader: of.leader, nonce: of.nonce };
    let publish = |receipts: &Receipts| {
        let receipts = Some(receipts.clone());
        Command::Publish(Publish { client: NodeId(1), seq: 1, change: change(None, Some(1)), receipts })
    };
    assert!(!world.state.is_decided(of(1, &receipts)));
    assert!(matches!(world.apply(publish(&receipts)), Outcome::Refused(Refusal::TooFewHold { .. })));
    // Node 1 has let go by now.
    assert!(world.state.is_decided(of(1, &receipts)));
    receipts.nodes = nodes(&[1, 2]);
    assert_eq!(world.apply(publish(&receipts)), Outcome::Refused(Refusal::SpentNonce));
    receipts.nonce += 1;
    assert!(!world.state.is_decided(of(1, &receipts)));
    assert!(!world.state.is_decided(of(2, &Receipts { nonce: 1, ..receipts.clone() })), "another member's");
    assert_published(&world.apply(publish(&receipts)));
    // A leadership that is over decides all of its tries.
    let next = TryId { client: NodeId(2), leader: world.leader, nonce: 1_000 };
    assert!(!world.state.is_decided(next));
    world.elect(2);
    assert!(world.state.is_decided(next));
}

#[test]
fn steps_make_a_chain() {
    let mut world = World::new();
    let mut steps = Vec::new();
    for (expected, new) in [(None, Some(1)), (Some(1), Some(2)), (Some(2), None)] {
        world.seq += 1;
        let receipts = world.receipts(&[1]);
        let publish = Publish { client: NodeId(1), seq: world.seq, change: change(expected, new), receipts };
        let index = LogIndex(world.index);
        let applied = world.apply_all(vec![Command::Publish(publish)]).remove(0);
        let (id, step) = applied.step.expect("it moved");
        assert_eq!(applied.outcome, Outcome::Published { index, step: id });
        assert_eq!(step, Step { index, change: change(expected, new), prev: steps.last().copied() });
        assert_eq!(world.state.last_step, Some(id));
        steps.push(id);
    }
}

#[test]
fn who_may_publish() {
    let mut world = World::new();
    for (number, role) in [(20, Role::Reader), (21, Role::Writer), (22, Role::Candidate)] {
        let key = invite_key(number);
        world.invite(&key, role, 1, None);
        let Outcome::Admitted(client) = world.apply(Command::Admit(admit(&key, number, role))) else { panic!() };
        let receipts = world.receipts(&[1]);
        let name = RefName::new(&format!("tags/{number}")).expect("a name");
        let wanted = RefChange { name, expected: None, new: Some(id(number)) };
        let publish = Command::Publish(Publish { client, seq: 1, change: wanted, receipts });
        if role == Role::Reader {
            assert_eq!(world.apply(publish), Outcome::Refused(Refusal::NotAllowed(client)));
            continue;
        }
        assert_published(&world.apply(publish.clone()));
        assert_eq!(world.apply(Command::Remove { node: client, by: NodeId(1) }), Outcome::Done);
        assert_eq!(world.apply(publish), Outcome::Refused(Refusal::NotAMember(client)));
    }
    let publish = Publish { client: NodeId(99), seq: 1, change: change(None, Some(1)), receipts: None };
    assert_eq!(world.apply(Command::Publish(publish)), Outcome::Refused(Refusal::NotAMember(NodeId(99))));
}

#[test]
fn names_of_refs() {
    for good in ["main", "tags/v1.0", "ü", &"x".repeat(255)] {
        assert_eq!(RefName::new(good).expect("it is one").as_str(), good);
    }
    for bad in ["", "a\nb", "\0", &"x".repeat(256)] {
        assert!(RefName::new(bad).is_err(), "{bad:?}");
    }
}
