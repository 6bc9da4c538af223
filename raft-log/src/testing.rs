//! A cluster in one process, on a network that misbehaves as it is told to.

mod cluster;
mod disk;
mod net;
mod numbers;
#[cfg(test)]
mod seeded;

pub use cluster::{Cluster, PATIENCE, REPOSITORY, Settings, admission, key, main_ref, step_id};
pub use disk::{FakeDisk, Lie, Plugged};
pub use net::FakeNet;
pub use numbers::Numbers;
#[cfg(test)]
pub use seeded::Seeded;

#[cfg(test)]
pub(crate) use filesync_cas::testing::mistake;

/// Whether a mistake is made on purpose: in tests alone, as in the crates that share this switch.
#[cfg(not(test))]
pub(crate) const fn mistake(_name: &str) -> bool {
    false
}
