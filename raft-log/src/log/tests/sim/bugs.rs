//! Mistakes made on purpose. A simulation that does not find them finds nothing.

use super::record::Broken;
use super::record::Promise::{self, Ends, GoesOn, Held, Kept, Once, OneOrder};
use super::settings::Settings;
use super::{BUG_SEEDS, run, tail};
use crate::testing::Lie;

/// A mistake, in what follows the rules of `docs/model.md` otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A vote is given before it is synced.
    VoteUnsynced,
    /// Entries are acknowledged before they are synced.
    AppendUnsynced,
    /// A pin goes by a state that a crash forgets.
    ReleasedUnflushed,
    /// A pin goes when time has passed.
    PinExpires,
    /// A pin is kept for a commit, and goes with any try of it.
    PinByCommit,
    /// A receipt is given before what it is for is synced.
    ReceiptUnsynced,
    /// A leader counts a voter that gave no receipt.
    ReceiptSkipped,
    /// A leader counts receipts that were given for an earlier try.
    OlderReceiptCounted,
    /// The state machine takes receipts that were given to an earlier leadership.
    OlderReceiptTaken,
    /// Receipts of who does not vote are counted.
    LearnerCounted,
    /// A publish between the check of those who are to vote and their vote does not need them.
    IntentUnbound,
    /// What has been applied is attested, whether it is held or not.
    AttestedUnheld,
    /// A collection goes by a state without refs, after a start.
    CollectedWithoutRefs,
    /// That there were too few receipts is recorded as what became of the publish.
    WantRecorded,
    /// A publish that is proposed again is decided anew.
    AppliedTwice,
    /// A collection removes what somebody has claimed.
    ClaimIgnored,
    /// A leader says of a try that is open that it will never be in the log.
    OpenDenied,
    /// A ref moves wherever it stands.
    NotCompared,
    /// The state depends on who applies an entry, not on the entry alone.
    OwnClock,
    /// Voters come into force of whom nobody knows what they hold.
    ReadyUnchecked,
}

impl Bug {
    /// What the disk says that is not so.
    pub fn lie(self) -> Option<Lie> {
        match self {
            Self::VoteUnsynced => Some(Lie::Votes),
            Self::AppendUnsynced => Some(Lie::Entries),
            _ => None,
        }
    }

    /// What a run is like in which it may show.
    pub fn settings(bug: Option<Self>, settings: Settings) -> Settings {
        match bug {
            Some(Self::VoteUnsynced) => Settings {
                nodes: 3,
                voters: 3,
                is_changing: false,
                crashes: 60,
                torn: 1_000,
                power_cuts: 1_000,
                cuts: 60,
                ..settings
            },
            Some(Self::AppendUnsynced) => Settings { crashes: 60, power_cuts: 1_000, ..settings },
            Some(Self::ReleasedUnflushed) => {
                Settings { crashes: 60, power_cuts: 1_000, collections: 300, snapshot_after: 8, ..settings }
            }
            Some(Self::LearnerCounted) => Settings { nodes: 5, voters: 3, ..settings },
            Some(Self::IntentUnbound) => {
                Settings { nodes: 5, is_changing: true, crashes: 40, power_cuts: 1_000, ..settings }
            }
            Some(Self::ClaimIgnored) => Settings { collections: 900, ..settings },
            Some(Self::OpenDenied) => Settings { slow: 500, collections: 500, ..settings },
            Some(Self::ReadyUnchecked) => Settings { nodes: 5, is_changing: true, cuts: 25, pause: 200, ..settings },
            Some(Self::OlderReceiptTaken) => Settings { slow: 500, cuts: 25, pause: 200, ..settings },
            _ => settings,
        }
    }
}

/// Runs seeds until one shows that a promise is broken by a mistake, one of those that may be.
#[track_caller]
fn assert_caught(bug: Bug, may_break: &[Promise]) {
    for seed in 0..BUG_SEEDS {
        let told = run(seed, Some(bug));
        let Some(Broken { promise, how }) = &told.broken else { continue };
        println!("{bug:?}: seed {seed}: {promise:?}: {how}");
        assert!(may_break.contains(promise), "{}\n{bug:?}, seed {seed}: {promise:?}: {how}", tail(&told));
        return;
    }
    panic!("{bug:?} shows in none of {BUG_SEEDS} seeds");
}

#[test]
fn a_vote_that_is_not_synced() {
    assert_caught(Bug::VoteUnsynced, &[OneOrder, Once, GoesOn]);
}

#[test]
fn entries_that_are_not_synced() {
    assert_caught(Bug::AppendUnsynced, &[OneOrder, Once, GoesOn, Ends]);
}

#[test]
fn pins_released_by_what_a_crash_forgets() {
    assert_caught(Bug::ReleasedUnflushed, &[Held, Kept]);
}

#[test]
fn pins_that_end_with_time() {
    assert_caught(Bug::PinExpires, &[Held, Kept]);
}

#[test]
fn pins_for_the_commit_alone() {
    assert_caught(Bug::PinByCommit, &[Held, Kept]);
}

#[test]
fn receipts_before_the_sync() {
    assert_caught(Bug::ReceiptUnsynced, &[Held, Kept]);
}

#[test]
fn a_receipt_that_was_not_given() {
    assert_caught(Bug::ReceiptSkipped, &[Held, Kept]);
}

#[test]
fn receipts_of_another_try() {
    assert_caught(Bug::OlderReceiptCounted, &[Held, Kept]);
}

#[test]
fn receipts_of_the_leader_before() {
    assert_caught(Bug::OlderReceiptTaken, &[Held, Kept]);
}

#[test]
fn receipts_of_who_does_not_vote() {
    assert_caught(Bug::LearnerCounted, &[Held, Kept]);
}

#[test]
fn a_publish_between_the_check_and_the_change() {
    assert_caught(Bug::IntentUnbound, &[Held, Kept]);
}

#[test]
fn what_is_applied_and_not_held() {
    assert_caught(Bug::AttestedUnheld, &[Held, Kept]);
}

#[test]
fn a_collection_without_refs() {
    assert_caught(Bug::CollectedWithoutRefs, &[Held, Kept]);
}

#[test]
fn a_want_of_receipts_that_is_recorded() {
    assert_caught(Bug::WantRecorded, &[Ends]);
}

#[test]
fn a_retry_that_is_decided_anew() {
    assert_caught(Bug::AppliedTwice, &[Once]);
}

#[test]
fn a_collection_that_ignores_claims() {
    assert_caught(Bug::ClaimIgnored, &[Held, Kept]);
}

#[test]
fn a_try_that_is_open_and_denied() {
    assert_caught(Bug::OpenDenied, &[Held, Kept]);
}

#[test]
fn a_ref_that_moves_from_wherever_it_stands() {
    assert_caught(Bug::NotCompared, &[OneOrder, Once]);
}

#[test]
fn a_state_machine_with_a_clock_of_its_own() {
    assert_caught(Bug::OwnClock, &[OneOrder]);
}

#[test]
fn voters_that_nobody_asked() {
    assert_caught(Bug::ReadyUnchecked, &[Held, Kept]);
}
