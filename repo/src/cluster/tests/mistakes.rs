//! Mistakes that are made on purpose (`filesync_cas::testing::mistake`): the tests beside this one find them.

use filesync_cas::testing::assert_caught;

#[test]
fn a_complete_mark_that_damage_leaves() {
    let test = "cluster::tests::heal::a_voter_with_damage_gets_it_from_the_others";
    assert_caught("a complete mark that damage leaves", test, "asked_to_hold(&two)");
}

#[test]
fn an_admission_that_a_stranger_carries() {
    let test = "cluster::tests::liars::an_invite_that_was_overheard";
    assert_caught("an admission that a stranger carries", test, "in another's name");
}

#[test]
fn a_collection_without_roots() {
    assert_caught(
        "a collection without roots",
        "gc::tests::the_commit_of_a_journal_is_kept",
        "no commit or tag of that name",
    );
}

#[test]
fn a_leader_that_is_not_asked_whether_it_leads() {
    let test = "cluster::tests::sim::a_leader_that_is_cut_off_turns_nobody_away";
    assert_caught("a leader that is not asked whether it leads", test, "cannot join: no such invite");
}

#[test]
fn a_pin_for_the_commit_alone() {
    let test = "cluster::hold::tests::a_pin_says_what_it_is_for";
    assert_caught("a pin for the commit alone", test, "`left != right` failed");
}

#[test]
fn a_pin_that_goes_before_the_state_is_on_disk() {
    let test = "cluster::tests::what_is_let_go_was_decided_on_disk";
    assert_caught("a pin that goes before the state is on disk", test, "let go before it was on disk");
}

/// Those that whole nodes make: the simulation finds them.
#[track_caller]
fn assert_seen(mistake: &str, promises: &str) {
    assert_caught(mistake, "cluster::tests::sim::all_promises_hold_in_every_world", promises);
}

#[test]
fn a_receipt_before_the_sync() {
    assert_seen("a receipt before the sync", "Held: ");
}

#[test]
fn a_receipt_that_nobody_gave() {
    assert_seen("a receipt that nobody gave", "Held: ");
}

#[test]
fn a_base_that_is_not_held() {
    assert_seen("a base that is not held", "Held: ");
}

#[test]
fn a_note_of_what_is_held_before_its_sync() {
    assert_seen("a note of what is held before its sync", "Ends: ");
}
