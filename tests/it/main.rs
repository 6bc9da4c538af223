//! All integration tests, in one binary.

mod cli;
mod crash;
mod damage;
mod format_reader;
mod golden;
mod hostile;
mod house;
mod model;
mod places;
mod random_history;
mod tidy;
