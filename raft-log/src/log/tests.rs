//! Clusters of real logs on a network that is not.

mod crashes;
mod membership;
mod network;
mod recover;
mod sim;

use std::future::Future;

use crate::command::Outcome;
use crate::ids::Id;

/// Runs a test on threads of its own. Tests are plain functions, so that documents can name them.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(test);
}

fn id(number: u64) -> Id {
    let mut id = [0; 32];
    id[8..16].copy_from_slice(&number.to_le_bytes());
    Id(id)
}

#[track_caller]
fn assert_published(outcome: &Result<Outcome, crate::error::ProposeError>) {
    assert!(matches!(outcome, Ok(Outcome::Published { .. })), "{outcome:?}");
}
