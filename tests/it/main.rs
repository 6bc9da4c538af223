//! All integration tests, in one binary.

mod cli;
mod cluster;
mod crash;
mod daemon;
mod damage;
mod format_reader;
mod golden;
mod hostile;
mod house;
mod model;
mod places;
mod random_history;
mod tidy;
