use filesync_cas::testing::assert_caught;

use super::*;

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

#[test]
fn founded_once() {
    let mut world = World::new();
    let founder = Founder { key: PeerKey([2; 32]), name: String::new(), addresses: Vec::new() };
    assert_eq!(world.apply(Command::Found(founder)), refused(Refusal::IsFounded));
}

#[test]
fn an_invite_is_for_one_role_some_uses_and_a_time() {
    let mut world = World::new();
    let key = invite_key(20);
    world.invite(&key, Role::Writer, 2, Some(5_000));
    assert_eq!(world.apply(Command::Admit(admit(&key, 2, Role::Candidate))), refused(Refusal::InviteMismatch));
    assert_eq!(world.apply(Command::Admit(admit(&key, 2, Role::Writer))), Outcome::Admitted(NodeId(2)));
    // Asked for twice, spent once.
    assert_eq!(world.apply(Command::Admit(admit(&key, 2, Role::Writer))), Outcome::Admitted(NodeId(2)));
    assert_eq!(world.apply(Command::Admit(admit(&key, 3, Role::Writer))), Outcome::Admitted(NodeId(3)));
    assert_eq!(world.apply(Command::Admit(admit(&key, 4, Role::Writer))), refused(Refusal::InviteUsedUp));
    let late = invite_key(21);
    world.invite(&late, Role::Writer, 2, Some(5_000));
    world.now = 5_000;
    assert_eq!(world.apply(Command::Admit(admit(&late, 4, Role::Writer))), refused(Refusal::InviteExpired));
    // A leader whose clock is behind makes it no younger.
    world.now = 10;
    assert_eq!(world.apply(Command::Admit(admit(&late, 4, Role::Writer))), refused(Refusal::InviteExpired));
    assert_eq!(world.apply(Command::Admit(admit(&invite_key(22), 4, Role::Writer))), refused(Refusal::NoInvite));
}

#[test]
fn only_the_invites_key_signs() {
    let mut world = World::new();
    let key = invite_key(20);
    world.invite(&key, Role::Writer, 9, None);
    let good = admit(&key, 2, Role::Writer);
    let forged = |change: &dyn Fn(&mut Admit)| {
        let mut forged = good.clone();
        change(&mut forged);
        Command::Admit(forged)
    };
    let cases: [&dyn Fn(&mut Admit); 6] = [
        &|admit| admit.peer = PeerKey([3; 32]),
        &|admit| admit.name.push('x'),
        &|admit| admit.role = Role::Candidate,
        &|admit| admit.signature.0[5] ^= 1,
        &|admit| admit.signature.0.clear(),
        &|admit| admit.invite = InviteKey([0xff; 32]),
    ];
    for case in cases {
        assert_eq!(world.apply(forged(case)), refused(Refusal::InviteMismatch));
    }
    // For another repository.
    let mut other = good.clone();
    other.signature = Signature(key.sign(&other.signed_bytes(RepositoryId([1; 32]))).to_bytes().to_vec());
    assert_eq!(world.apply(Command::Admit(other)), refused(Refusal::InviteMismatch));
    let long = forged(&|admit| admit.name = "x".repeat(256));
    assert!(matches!(world.apply(long), Outcome::Refused(Refusal::TooMuch(_))));
    let many = forged(&|admit| admit.addresses = vec![String::new(); 9]);
    assert!(matches!(world.apply(many), Outcome::Refused(Refusal::TooMuch(_))));
    let no_text = forged(&|admit| admit.addresses = vec!["10.0.0.1:1\u{1b}[2J".to_owned()]);
    assert!(matches!(world.apply(no_text), Outcome::Refused(Refusal::TooMuch(_))));
    let forged_line = Command::SetAddresses { node: NodeId(1), addresses: vec!["10.0.0.1:1\n2".to_owned()] };
    assert!(matches!(world.apply(forged_line), Outcome::Refused(Refusal::TooMuch(_))));
    assert_eq!(world.apply(Command::Admit(good)), Outcome::Admitted(NodeId(2)));
}

#[test]
fn an_admission_that_serves_another() {
    let test = "state::tests::members::only_the_invites_key_signs";
    assert_caught("an admission that serves another", test, "left: Admitted(NodeId(2))");
}

#[test]
fn who_may_invite() {
    let mut world = World::with(2, &[1]);
    for (number, role) in [(30, Role::Reader), (31, Role::Writer)] {
        let key = invite_key(number);
        world.invite(&key, role, 1, None);
        assert!(matches!(world.apply(Command::Admit(admit(&key, number, role))), Outcome::Admitted(_)));
    }
    // Node 1 votes, 2 is a candidate, 3 a reader, 4 a writer.
    let may = |by: u64, role| (by, role, true);
    let may_not = |by: u64, role| (by, role, false);
    let cases = [
        may(1, Role::Candidate),
        may(1, Role::Writer),
        may(1, Role::Reader),
        may_not(2, Role::Candidate),
        may_not(2, Role::Writer),
        may(2, Role::Reader),
        may_not(3, Role::Reader),
        may_not(4, Role::Writer),
        may(4, Role::Reader),
    ];
    for (number, (by, role, is_allowed)) in (0..).zip(cases) {
        let key = InviteKey([number; 32]);
        let outcome = world.apply(Command::Invite(Invite { key, role, uses: 1, expires: None, by: NodeId(by) }));
        let expected = if is_allowed { Outcome::Done } else { refused(Refusal::NotAllowed(NodeId(by))) };
        assert_eq!(outcome, expected, "{by} {role:?}");
    }
    // Only the issuer and voters end one.
    let of_4 = InviteKey([8; 32]);
    assert_eq!(world.apply(Command::Revoke { key: of_4, by: NodeId(2) }), refused(Refusal::NotAllowed(NodeId(2))));
    assert_eq!(world.apply(Command::Revoke { key: of_4, by: NodeId(4) }), Outcome::Done);
    assert_eq!(world.apply(Command::Revoke { key: of_4, by: NodeId(4) }), refused(Refusal::NoInvite));
}

#[test]
fn a_removed_member_leaves_its_number_and_takes_its_invites() {
    let mut world = World::with(3, &[1, 2, 3]);
    let key = invite_key(20);
    world.invite(&key, Role::Writer, 9, None);
    assert_eq!(world.apply(Command::Admit(admit(&key, 4, Role::Writer))), Outcome::Admitted(NodeId(4)));
    let issued = InviteKey([3; 32]);
    let invite = Invite { key: issued, role: Role::Reader, uses: 1, expires: None, by: NodeId(4) };
    assert_eq!(world.apply(Command::Invite(invite)), Outcome::Done);
    assert_eq!(
        world.apply(Command::Remove { node: NodeId(1), by: NodeId(4) }),
        refused(Refusal::NotAllowed(NodeId(4)))
    );
    assert_eq!(world.apply(Command::Remove { node: NodeId(3), by: NodeId(1) }), refused(Refusal::IsVoter(NodeId(3))));
    assert_eq!(world.apply(Command::Remove { node: NodeId(4), by: NodeId(1) }), Outcome::Done);
    assert!(!world.state.invites.contains_key(&issued));
    assert!(world.state.members[&NodeId(4)].is_removed, "the row stays");
    assert_eq!(world.apply(Command::Admit(admit(&key, 4, Role::Writer))), refused(Refusal::WasRemoved));
    assert_eq!(world.apply(Command::Admit(admit(&key, 5, Role::Writer))), Outcome::Admitted(NodeId(5)));
    assert_eq!(
        world.apply(Command::Remove { node: NodeId(4), by: NodeId(1) }),
        refused(Refusal::NotAMember(NodeId(4)))
    );
}

#[test]
fn targets_of_a_change_stay_what_they_are() {
    let mut world = World::with(5, &[1, 2, 3]);
    assert_eq!(world.intend(&[1, 4, 5]), Outcome::Intended(IntentId(1)));
    for command in [
        Command::Remove { node: NodeId(4), by: NodeId(1) },
        Command::SetRole { node: NodeId(4), role: Role::Reader, by: NodeId(1) },
        Command::SetPartial { node: NodeId(4), is_partial: true },
    ] {
        assert_eq!(world.apply(command), refused(Refusal::IsVoter(NodeId(4))));
    }
}
