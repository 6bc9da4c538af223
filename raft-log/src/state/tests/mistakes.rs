//! Mistakes that are made on purpose (`filesync_cas::testing::mistake`): the tables of publishes find them.

use filesync_cas::testing::assert_caught;

/// A test of `publish.rs` fails, and says what the outcome was, or what it should have been.
#[track_caller]
fn assert_seen(mistake: &str, test: &str, told: &str) {
    assert_caught(mistake, &format!("state::tests::publish::{test}"), told);
}

#[test]
fn a_receipt_of_who_does_not_vote() {
    let mistake = "a receipt of who does not vote";
    let wanted = "right: Refused(TooFewHold { held: 1, needed: 2 })";
    assert_seen(mistake, "holders_are_counted_in_every_set", wanted);
}

#[test]
fn an_intent_that_does_not_bind() {
    let wanted = "right: Refused(TooFewHold { held: 2, needed: 3 })";
    assert_seen("an intent that does not bind", "holders_are_counted_in_every_set", wanted);
}

#[test]
fn a_receipt_of_the_leadership_before() {
    let test = "receipts_of_another_leadership_count_for_nothing";
    assert_seen("a receipt of the leadership before", test, "right: Refused(OtherLeader)");
}

#[test]
fn a_want_of_receipts_that_is_recorded() {
    // The same number comes with more holders, and is told what it was told.
    let told = "\nRefused(TooFewHold { held: 1, needed: 2 })";
    assert_seen("a want of receipts that is recorded", "a_number_is_one_publish", told);
}

#[test]
fn a_retry_that_is_decided_anew() {
    assert_seen("a retry that is decided anew", "a_number_is_one_publish", "left: Lost");
}

#[test]
fn a_ref_that_moves_from_wherever_it_stands() {
    let mistake = "a ref that moves from wherever it stands";
    assert_seen(mistake, "a_ref_moves_from_where_it_is_expected", "right: Lost");
}
