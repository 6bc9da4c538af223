//! Rows without end, from members who may make them: what is known of a cluster stays short enough to be told.

use super::*;
use crate::state::members::{INVITES_MAX, INVITES_OF_ONE_MAX};

/// What an answer may have.
const ANSWER_LEN_MAX: usize = 1 << 20;

fn is_too_much(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::TooMuch(_)))
}

/// The longest that it can be told in, once each member has published what takes most.
fn told(state: &State) -> usize {
    let mut state = state.clone();
    let change = RefChange {
        name: RefName::new(&"x".repeat(255)).expect("a name"),
        expected: Some(id(255)),
        new: Some(id(255)),
    };
    let leader = LeaderId { term: u64::MAX, node: NodeId(u64::MAX) };
    for member in state.members.values_mut().filter(|member| member.role >= Role::Writer) {
        let outcome = Outcome::Published { index: LogIndex(u64::MAX), step: id(255) };
        member.last = Some(Decided { seq: u64::MAX, change: change.clone(), outcome });
        member.last_try = Some((leader, u64::MAX));
    }
    postcard::to_allocvec(&state).expect("it can be written").len()
}

/// Whoever has an invite for many, and comes as many.
fn come(world: &mut World, key: &SigningKey, role: Role, name: &str, addresses: &[String]) -> usize {
    let mut came = 0;
    loop {
        let mut admit = admit(key, 0, role);
        let number = u64::try_from(world.state.members.len()).expect("few");
        admit.peer.0[..8].copy_from_slice(&number.to_le_bytes());
        admit.peer.0[8] = 99;
        (admit.name, admit.addresses) = (name.to_owned(), addresses.to_vec());
        admit.signature = Signature(key.sign(&admit.signed_bytes(REPOSITORY)).to_bytes().to_vec());
        match world.apply(Command::Admit(admit)) {
            Outcome::Admitted(_) => came += 1,
            outcome => {
                assert!(is_too_much(&outcome), "{outcome:?}");
                return came;
            }
        }
    }
}

/// Names and addresses of any length, of many or few.
#[test]
fn members_are_not_without_number() {
    let long = vec!["a".repeat(256); 8];
    let name = "x".repeat(255);
    for (role, name, addresses) in
        [(Role::Writer, name.clone(), long.clone()), (Role::Reader, name, long), (Role::Writer, String::new(), vec![])]
    {
        let mut world = World::new();
        let key = invite_key(20);
        world.invite(&key, role, u32::MAX, None);
        let came = come(&mut world, &key, role, &name, &addresses);
        assert!(came > 300, "{came}");
        let told = told(&world.state);
        assert!(told < ANSWER_LEN_MAX, "{told} bytes of {came} members");
        // Nor does it grow by other ways.
        let promote = |node| Command::SetRole { node: NodeId(node), role: Role::Writer, by: NodeId(1) };
        let refused = (2..2 + came as u64).any(|node| is_too_much(&world.apply(promote(node))));
        assert_eq!(refused, role == Role::Reader);
        let addresses = vec!["b".repeat(256); 8];
        let moved = world.apply(Command::SetAddresses { node: NodeId(1), addresses: addresses.clone() });
        assert!(is_too_much(&moved), "{moved:?}");
        // Who says less may.
        let moved = world.apply(Command::SetAddresses { node: NodeId(2), addresses: vec![] });
        assert_eq!(moved, Outcome::Done);
    }
}

/// Who does not vote fills half, and no more: by invites, by readers that it lets in, by addresses, by tags.
#[test]
fn one_who_does_not_vote_shuts_nobody_out() {
    let mut world = World::new();
    let key = invite_key(20);
    world.invite(&key, Role::Writer, 1, None);
    assert_eq!(world.apply(Command::Admit(admit(&key, 2, Role::Writer))), Outcome::Admitted(NodeId(2)));
    let by_2 = invite_key(21);
    let invite = |number: u64, key: Option<&SigningKey>| {
        let mut bytes = [0xaa; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let key = key.map_or(InviteKey(bytes), |key| InviteKey(key.verifying_key().to_bytes()));
        Command::Invite(Invite { key, role: Role::Reader, uses: u32::MAX, expires: None, by: NodeId(2) })
    };
    assert_eq!(world.apply(invite(0, Some(&by_2))), Outcome::Done);
    for number in 1..INVITES_OF_ONE_MAX as u64 {
        assert_eq!(world.apply(invite(number, None)), Outcome::Done);
    }
    assert!(is_too_much(&world.apply(invite(9_999, None))));
    let came = come(&mut world, &by_2, Role::Reader, "reader", &[]);
    assert!(came > 1_000, "{came}");
    assert!(world.state.len_at_most() <= LEN_MAX_OF_OTHERS);
    let addresses = vec!["b".repeat(256); 8];
    assert!(is_too_much(&world.apply(Command::SetAddresses { node: NodeId(3), addresses: addresses.clone() })));
    let name = RefName::new("tags/x").expect("a name");
    let tag = world.publish(RefChange { name, expected: None, new: Some(id(1)) }, &[1]);
    assert!(is_too_much(&tag), "{tag:?}");
    // Voters go on: they let in, are found, and clear away.
    let key = invite_key(22);
    world.invite(&key, Role::Candidate, 1, None);
    let late = world.apply(Command::Admit(admit(&key, 3, Role::Candidate)));
    let Outcome::Admitted(late) = late else { panic!("{late:?}") };
    assert_eq!(world.apply(Command::SetAddresses { node: late, addresses }), Outcome::Done);
    assert_eq!(world.apply(Command::Remove { node: NodeId(2), by: NodeId(1) }), Outcome::Done);
    assert_eq!(world.state.invites.len(), 2, "its invites go with it");
}

/// Those that are used up make room where there would be none.
#[test]
fn invites_are_not_without_number() {
    let mut world = World::new();
    let invite = |number: u64| {
        let mut key = [0xaa; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Command::Invite(Invite { key: InviteKey(key), role: Role::Writer, uses: 1, expires: None, by: NodeId(1) })
    };
    let used_up = invite_key(20);
    world.invite(&used_up, Role::Writer, 1, None);
    assert!(matches!(world.apply(Command::Admit(admit(&used_up, 2, Role::Writer))), Outcome::Admitted(_)));
    for number in 1..INVITES_MAX as u64 {
        assert_eq!(world.apply(invite(number)), Outcome::Done);
    }
    assert!(world.state.invites.values().any(|invite| invite.uses == 0), "it is told of as long as it may");
    assert_eq!(world.apply(invite(10_000)), Outcome::Done);
    assert!(is_too_much(&world.apply(invite(10_001))));
    assert_eq!(world.apply(invite(5)), Outcome::Done, "asked for again");
}

#[test]
fn refs_are_not_without_number() {
    let mut world = World::new();
    let name = |number: u64| RefName::new(&format!("tags/{number:0>250}")).expect("a name");
    assert_published(&world.publish(change(None, Some(1)), &[1]));
    let made = (0..).find(|number| {
        let refused = world.state.check_room_for_ref(&name(*number)).is_err();
        if !refused {
            world.state.refs.insert(name(*number), id(1));
        }
        refused
    });
    assert!(made.is_some_and(|made| made > 1_000), "{made:?}");
    let more = world.publish(RefChange { name: name(9_999), expected: None, new: Some(id(1)) }, &[1]);
    assert!(is_too_much(&more), "{more:?}");
    // Those that are there move on, and go.
    assert_published(&world.publish(change(Some(1), Some(2)), &[1]));
    assert_published(&world.publish(RefChange { name: name(7), expected: Some(id(1)), new: None }, &[]));
    assert_published(&world.publish(RefChange { name: name(9_999), expected: None, new: Some(id(2)) }, &[1]));
    assert!(told(&world.state) < ANSWER_LEN_MAX);
}
