//! What is recorded as lost, by whom, and how a state with such a record is written.

use super::*;

fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<Id> {
    let id = |number: usize| {
        let mut id = [0xcc; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Id(id)
    };
    numbers.into_iter().map(id).collect()
}

fn lose(world: &mut World, node: u64, asked: &[u64], objects: &BTreeSet<Id>) -> Outcome {
    world.apply(Command::Lost { node: NodeId(node), asked: nodes(asked), objects: objects.clone() })
}

/// Three vote, of four members, and 2 has said that it lacks something.
fn world() -> World {
    let mut world = World::with(4, &[1, 2, 3]);
    assert_eq!(world.apply(Command::Deficient { node: NodeId(2) }), Outcome::Done);
    world
}

#[test]
fn each_voter_was_asked() {
    let objects = ids([1, 2]);
    for (node, asked, outcome) in [
        (2, &[2, 3][..], Err(Refusal::NotAsked(NodeId(1)))),
        (2, &[1, 2], Err(Refusal::NotAsked(NodeId(3)))),
        (2, &[1, 3], Err(Refusal::NotAsked(NodeId(2)))),
        (4, &[1, 2, 3, 4], Err(Refusal::NotAllowed(NodeId(4)))),
        (9, &[1, 2, 3, 9], Err(Refusal::NotAMember(NodeId(9)))),
        (3, &[1, 2, 3], Err(Refusal::LacksNothing(NodeId(3)))),
        (2, &[1, 2, 3], Ok(())),
        (2, &[1, 2, 3, 4], Ok(())),
    ] {
        let mut world = world();
        let outcome = outcome.map_or_else(Outcome::Refused, |()| Outcome::Done);
        assert_eq!(lose(&mut world, node, asked, &objects), outcome, "{node} by {asked:?}");
        assert_eq!(world.state.lost, if outcome == Outcome::Done { objects.clone() } else { BTreeSet::new() });
    }
}

/// Who is to vote may have it, and so may those who come into force beside the others.
#[test]
fn so_was_each_who_is_to_vote() {
    let mut world = World::with(5, &[1, 2, 3]);
    assert!(matches!(world.intend(&[1, 2, 3, 4, 5]), Outcome::Intended(_)));
    world.apply(Command::Deficient { node: NodeId(2) });
    assert_eq!(lose(&mut world, 2, &[1, 2, 3, 4], &ids([1])), Outcome::Refused(Refusal::NotAsked(NodeId(5))));
    world.vote(&[&[1, 2, 3], &[1, 2, 3, 4, 5]]);
    assert_eq!(lose(&mut world, 2, &[1, 2, 3, 5], &ids([1])), Outcome::Refused(Refusal::NotAsked(NodeId(4))));
    assert_eq!(lose(&mut world, 2, &[1, 2, 3, 4, 5], &ids([1])), Outcome::Done);
}

/// Who votes alone has nobody to whom to say that it lacks something.
#[test]
fn a_sole_voter_records_it_too() {
    let mut world = World::with(2, &[1]);
    assert_eq!(lose(&mut world, 1, &[], &ids([1])), Outcome::Refused(Refusal::NotAsked(NodeId(1))));
    assert_eq!(lose(&mut world, 1, &[1], &ids([1])), Outcome::Done);
    assert_eq!(world.state.lost, ids([1]));
}

/// It stays for ever, whoever becomes whole, and saying it again changes nothing.
#[test]
fn it_stays() {
    let mut world = world();
    assert_eq!(lose(&mut world, 2, &[1, 2, 3], &ids([1, 2])), Outcome::Done);
    assert_eq!(lose(&mut world, 2, &[1, 2, 3], &ids([2, 3])), Outcome::Done);
    assert_eq!(world.apply(Command::Whole { node: NodeId(2) }), Outcome::Done);
    world.elect(3);
    assert_eq!(world.state.lost, ids([1, 2, 3]));
    assert_published(&world.publish(change(None, Some(1)), &[2, 3]));
}

#[test]
fn it_is_bounded_in_each_entry_and_in_all() {
    let mut world = world();
    let too_much = |outcome: Outcome| assert!(matches!(outcome, Outcome::Refused(Refusal::TooMuch(_))), "{outcome:?}");
    too_much(lose(&mut world, 2, &[1, 2, 3], &ids(0..LOST_MAX_OF_ENTRY + 1)));
    for first in (0..LOST_MAX).step_by(LOST_MAX_OF_ENTRY) {
        assert_eq!(lose(&mut world, 2, &[1, 2, 3], &ids(first..first + LOST_MAX_OF_ENTRY)), Outcome::Done);
    }
    too_much(lose(&mut world, 2, &[1, 2, 3], &ids([LOST_MAX])));
    assert_eq!(lose(&mut world, 2, &[1, 2, 3], &ids([5])), Outcome::Done, "known already");
    assert_eq!(world.state.lost.len(), LOST_MAX);
    // It takes room from what else is told of.
    let told = postcard::to_allocvec(&world.state).expect("it can be written").len();
    assert!(told <= world.state.len_at_most() + 1_000, "{told} of {}", world.state.len_at_most());
}

/// What was written before there was such a record is read, wherever it stands, and written again as it was.
#[test]
fn states_of_before_are_read() {
    let mut world = World::with(3, &[1, 2, 3]);
    assert!(matches!(world.intend(&[1]), Outcome::Intended(_)));
    let written = |state: &State| postcard::to_allocvec(&(state, Some(7u64))).expect("it can be written");
    let read = |bytes: &[u8]| postcard::from_bytes::<(State, Option<u64>)>(bytes);
    // Byte for byte what the fields were, one after the other.
    let s = &world.state;
    let first = (s.repository, s.epoch, s.applied, s.now, &s.refs, &s.holders);
    let then = (s.last_step, &s.members, &s.invites, &s.voters, &s.change, s.intents);
    let before = postcard::to_allocvec(&(first, then, Some(7u64))).expect("it can be written");
    assert_eq!(written(s), before);
    assert_eq!(read(&before).expect("it is read"), (s.clone(), Some(7)));
    // With a record, and what follows.
    world.state.lost = ids([1, 2]);
    let bytes = written(&world.state);
    assert_eq!(read(&bytes).expect("it is read"), (world.state.clone(), Some(7)));
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "cut off after {len}");
    }
    // A record of nothing is written in no other way than none.
    let mut nothing = postcard::to_allocvec(&World::new().state).expect("it can be written");
    assert_eq!(nothing.pop(), Some(0));
    nothing.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0]);
    assert!(postcard::from_bytes::<State>(&nothing).is_err());
}
