//! All rules together keep what is pinned and claimed; without any one of them, something goes.

use filesync_tests::world::is_long;

use super::*;
use crate::model::{assert_breaks, assert_holds};

fn store(change: impl Fn(&mut Rules)) -> Store {
    let mut rules = Rules::ALL;
    change(&mut rules);
    Store { rules, cycles_max: if is_long() { 3 } else { 2 } }
}

#[test]
fn all_promises_hold() {
    assert_holds(store(|_| {}));
}

#[test]
fn a_claim_that_a_running_cycle_does_not_see() {
    assert_breaks(store(|rules| rules.claim_sets_live = false), CLAIMED);
}

#[test]
fn a_sweep_that_decides_before_it_removes() {
    assert_breaks(store(|rules| rules.sweep_looks_again = false), CLAIMED);
}

#[test]
fn claims_that_later_cycles_do_not_see() {
    assert_breaks(store(|rules| rules.claims_are_roots = false), CLAIMED);
}

#[test]
fn presence_without_a_claim() {
    assert_breaks(store(|rules| rules.present_by_claim = false), PINNED);
}

#[test]
fn a_root_that_was_not_walked() {
    assert_breaks(store(|rules| rules.pin_after_walk = false), PINNED);
}

#[test]
fn claims_that_end_before_the_pin() {
    assert_breaks(store(|rules| rules.claims_until_pinned = false), PINNED);
}
