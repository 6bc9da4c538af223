//! The rules, one switch each, so that each can be missed.

/// `true`: the rule is followed.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches")]
pub struct Rules {
    /// Rule 1: once an intent is applied, publishes need a majority of its target too.
    pub intent_binds: bool,
    /// Rule 1: a receipt for what is live is of an index not before the intent.
    pub live_after_intent: bool,
    /// Rule 1: every added voter holds what is live, and a majority of the target does.
    pub ready_counts: bool,
    /// Rule 1, mended: nobody changes the members while a cancel may be on its way.
    pub cancel_is_awaited: bool,
    /// Rule 1, mended: who attests what is live has flushed its state machine so far.
    pub live_is_flushed: bool,
    /// During a change a majority of both sets is asked for.
    pub both_sets: bool,
    /// Rule 2: the state machine takes receipts of the entry's own leader only.
    pub receipts_bound: bool,
    /// Rule 2, mended: a leader proposes with a nonce once.
    pub proposes_once: bool,
    /// Rule 2, mended: the state machine decides on a nonce once.
    pub nonce_decided_once: bool,
    /// Rule 2: pins are kept for (commit, leader, nonce), not for the commit.
    pub pins_by_nonce: bool,
    /// Rule 2: pins know no clock.
    pub pins_stay: bool,
    /// Rule 2: a leader denies a nonce only when it has applied its whole log.
    pub denies_after_log: bool,
    /// Rule 2, mended: a leader does not deny what its state machine shows to be decided, though it has forgotten it.
    pub denies_open_only: bool,
    /// Rule 2, mended: a leader knows a nonce until the proposal is decided, not until somebody stops waiting.
    pub knows_until_decided: bool,
    /// Rule 3: a pin is on disk before the receipt leaves.
    pub pins_durable: bool,
    /// Rule 3: a pin goes after the state machine was flushed at what releases it.
    pub released_by_flush: bool,
    /// Rule 3: a snapshot releases what it shows to be decided, nothing else.
    pub snapshot_keeps_pins: bool,
    /// Rules 3 and 4: gc takes pins for roots.
    pub gc_sees_pins: bool,
    /// Rule 5: a receipt is for the ancestors too.
    pub closure_attested: bool,
    /// Design 6: refs move by compare-and-swap.
    pub compare_and_swap: bool,
    /// Rule 8: a sequence number has one result.
    pub exactly_once: bool,
}

impl Rules {
    /// As `docs/model.md` has them.
    pub const ALL: Self = Self {
        intent_binds: true,
        live_after_intent: true,
        ready_counts: true,
        cancel_is_awaited: true,
        live_is_flushed: true,
        both_sets: true,
        receipts_bound: true,
        proposes_once: true,
        nonce_decided_once: true,
        pins_by_nonce: true,
        pins_stay: true,
        denies_after_log: true,
        denies_open_only: true,
        knows_until_decided: true,
        pins_durable: true,
        released_by_flush: true,
        snapshot_keeps_pins: true,
        gc_sees_pins: true,
        closure_attested: true,
        compare_and_swap: true,
        exactly_once: true,
    };
}
