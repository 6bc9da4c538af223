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
