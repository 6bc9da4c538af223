//! What the integration tests share: repositories in temporary directories, the program as users run it, and a
//! model of what a repository should hold.

pub mod model;
pub mod world;
