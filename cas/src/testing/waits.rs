//! Waiting for another thread where one thread runs at a time: simulations have somebody else go on meanwhile.

use std::cell::RefCell;

thread_local! {
    static PAUSE: RefCell<Option<fn()>> = const { RefCell::new(None) };
}

/// From here on, whoever waits on this thread for another does this instead, and looks again.
pub fn pause_by(pause: Option<fn()>) {
    PAUSE.set(pause);
}

/// What lets others go on, if that is how this thread waits.
pub fn pause() -> Option<fn()> {
    PAUSE.with_borrow(|pause| *pause)
}
