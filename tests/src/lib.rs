//! What the integration tests share: repositories in temporary directories, the program as users run it and while it
//! runs, and a model of what a repository should hold.

pub mod model;
pub mod process;
pub mod world;
