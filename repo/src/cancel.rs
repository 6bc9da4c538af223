//! The user's wish to stop: set from a signal, looked at by long work between two steps.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Asks all work of this process to stop soon, and to leave no temporary files.
pub fn request() {
    REQUESTED.store(true, Ordering::Release);
}

/// Whether somebody asked.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// Fails if somebody asked.
pub fn check() -> Result<(), Error> {
    if requested() { Err(Error::new(ErrorKind::Cancelled, "interrupted")) } else { Ok(()) }
}
