//! The rules of publishing, checked in every state that a small cluster can be in. `docs/model.md` explains.
//!
//! A model that cannot fail proves nothing: every rule has a test that takes it away and asks for the history that
//! breaks a promise then.

mod collect;
mod publish;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Model};

/// Looks at every state that can be reached, and fails where a promise does not hold, with the way that led there.
#[track_caller]
fn assert_holds<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    // Depth first: of what was seen only fingerprints are kept, of what is yet to be seen a few hundred states.
    let checker = model.checker().threads(threads()).spawn_dfs().join();
    for (name, path) in checker.discoveries() {
        assert!(name.starts_with("it happens that"), "{name} is broken by\n{}", told(&path.into_actions()));
    }
    checker.assert_properties();
    println!("{} states", checker.unique_state_count());
}

/// Fails unless the promise `name` is broken; prints the shortest way to break it.
#[track_caller]
fn assert_breaks<M>(model: M, name: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    // One thread: the shortest way, and the same one each time.
    let wanted = stateright::HasDiscoveries::AnyOf([name].into());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(name).unwrap_or_else(|| {
        panic!("{name} holds in all {} states: the model does not need the rule", checker.unique_state_count())
    });
    println!("{name}: {} states\n{}", checker.unique_state_count(), told(&path.into_actions()));
}

fn told<A: Debug>(actions: &[A]) -> String {
    actions.iter().map(|action| format!("  {action:?}\n")).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
