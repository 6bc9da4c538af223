//! A machine while its user rests: between two operations, with nothing left of which it is not known whether it is published.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::history::History;

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Rest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_wanted: bool,
    is_resting: bool,
}

impl Rest {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// For the user, when there is nothing under way: lets others have the machine who want it.
    pub fn pause(&self) {
        let mut state = self.state();
        while state.is_wanted {
            state.is_resting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).expect("nobody panics with it");
        }
        state.is_resting = false;
    }

    /// Does something while the user rests. None if it is over before he does.
    pub fn during<T>(&self, history: &History, work: impl FnOnce() -> T) -> Option<T> {
        let _wanted = Wanted::new(self);
        let mut state = self.state();
        while !state.is_resting {
            if history.is_over() {
                return None;
            }
            state = self.changed.wait_timeout(state, LOOK).expect("nobody panics with it").0;
        }
        drop(state);
        Some(work())
    }
}

/// The user rests until this is dropped, however that comes.
struct Wanted<'a>(&'a Rest);

impl<'a> Wanted<'a> {
    fn new(rest: &'a Rest) -> Self {
        let mut state = rest.state();
        (state.is_wanted, state.is_resting) = (true, false);
        Self(rest)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.state().is_wanted = false;
        self.0.changed.notify_all();
    }
}
