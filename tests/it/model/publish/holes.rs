//! All rules together keep all promises; without any one of them, one is broken.

use filesync_tests::world::is_long;

use super::*;
use crate::model::{assert_breaks, assert_holds};

#[test]
fn all_promises_hold() {
    assert_holds(Cluster::steady());
    assert_holds(Cluster::steady().rivals());
    assert_holds(Cluster::growing().begun());
    assert_holds(Cluster::replacing().begun());
    if is_long() {
        assert_holds(Cluster::steady().attempts(3));
        assert_holds(Cluster::steady().attempts(3).rivals());
        assert_holds(Cluster::growing());
        assert_holds(Cluster::replacing());
    }
}

// Rule 1.

#[test]
fn a_publish_between_the_check_and_the_change() {
    assert_breaks(Cluster::growing().begun().with(|rules| rules.intent_binds = false), HELD);
}

#[test]
fn learners_that_were_checked_too_early() {
    assert_breaks(Cluster::growing().begun().with(|rules| rules.live_after_intent = false), HELD);
}

#[test]
fn learners_that_were_not_checked() {
    assert_breaks(Cluster::growing().begun().with(|rules| rules.ready_counts = false), HELD);
    assert_breaks(Cluster::replacing().begun().with(|rules| rules.ready_counts = false), HELD);
}

#[test]
fn one_set_of_two_is_asked() {
    let without = |rules: &mut Rules| (rules.intent_binds, rules.both_sets) = (false, false);
    assert_breaks(Cluster::replacing().begun().with(without), HELD);
}

#[test]
fn a_cancel_overtaken_by_the_change() {
    assert_breaks(Cluster::growing().begun().with(|rules| rules.cancel_is_awaited = false), HELD);
}

#[test]
fn what_is_live_by_a_state_that_a_crash_forgets() {
    assert_breaks(Cluster::growing().begun().with(|rules| rules.live_is_flushed = false), KEPT);
}

// Rule 2.

#[test]
fn receipts_of_the_leader_before() {
    assert_breaks(Cluster::steady().with(|rules| rules.receipts_bound = false), HELD);
}

#[test]
fn a_nonce_proposed_twice() {
    let twice = |rules: &mut Rules| rules.proposes_once = false;
    assert_breaks(Cluster::steady().with(|rules| (twice(rules), rules.nonce_decided_once = false).0), HELD);
    // Either rule will do.
    assert_holds(Cluster::steady().with(twice));
    assert_holds(Cluster::steady().with(|rules| rules.nonce_decided_once = false));
}

#[test]
fn pins_for_the_commit_alone() {
    assert_breaks(Cluster::steady().attempts(3).with(|rules| rules.pins_by_nonce = false), HELD);
}

#[test]
fn pins_that_end_with_time() {
    assert_breaks(Cluster::steady().with(|rules| rules.pins_stay = false), HELD);
}

#[test]
fn a_nonce_denied_before_the_log_is_applied() {
    assert_breaks(Cluster::steady().with(|rules| rules.denies_after_log = false), HELD);
}

#[test]
fn a_nonce_denied_that_was_decided() {
    assert_breaks(Cluster::steady().with(|rules| rules.denies_open_only = false), HELD);
}

#[test]
fn a_nonce_forgotten_with_its_caller() {
    assert_breaks(Cluster::steady().with(|rules| rules.knows_until_decided = false), HELD);
}

// Rule 3.

#[test]
fn pins_in_memory() {
    assert_breaks(Cluster::steady().with(|rules| rules.pins_durable = false), HELD);
}

#[test]
fn pins_released_by_what_a_crash_forgets() {
    assert_breaks(Cluster::steady().with(|rules| rules.released_by_flush = false), HELD);
}

#[test]
fn a_snapshot_that_releases_all_pins() {
    assert_breaks(Cluster::steady().with(|rules| rules.snapshot_keeps_pins = false), HELD);
}

#[test]
fn gc_without_pins() {
    assert_breaks(Cluster::steady().with(|rules| rules.gc_sees_pins = false), HELD);
}

// What the rules build on.

#[test]
fn receipts_for_a_commit_without_its_parents() {
    assert_breaks(Cluster::steady().with(|rules| rules.closure_attested = false), HELD);
}

#[test]
fn a_ref_that_moves_from_anywhere() {
    assert_breaks(Cluster::steady().rivals().with(|rules| rules.compare_and_swap = false), ONE_ORDER);
}

#[test]
fn a_retry_that_is_decided_anew() {
    assert_breaks(Cluster::steady().with(|rules| rules.exactly_once = false), TRUTH);
}
