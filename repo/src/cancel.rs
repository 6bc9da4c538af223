//! The wish that work stops: looked at by long work between two steps.
//!
//! A signal stops all work of the process ([`request`]). Where several commands run in one process, each has a [`Token`]:
//! who carries it out enters its scope, and takes the scope along to the threads that it starts.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind};

static REQUESTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: RefCell<Token> = RefCell::new(Token::new());
}

/// Asks all work of this process to stop soon, and to leave no temporary files.
pub fn request() {
    REQUESTED.store(true, Ordering::Release);
}

/// Whether somebody asked: of this process, or of the command that this thread works for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire) || CURRENT.with_borrow(Token::is_requested)
}

/// Fails if somebody asked.
pub fn check() -> Result<(), Error> {
    if requested() { Err(interrupted()) } else { Ok(()) }
}

/// What work fails with that was asked to stop.
pub fn interrupted() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted")
}

/// The token of the command that this thread works for. Whoever starts threads for it has them enter its scope.
pub fn current() -> Token {
    CURRENT.with_borrow(Token::clone)
}

/// The wish that one command stops.
#[derive(Debug, Clone)]
pub struct Token {
    own: Arc<AtomicBool>,
    /// That of all commands together.
    all: Option<Arc<AtomicBool>>,
}

impl Token {
    /// A token of nobody's wish.
    pub fn new() -> Self {
        Self { own: Arc::default(), all: None }
    }

    /// A token that is asked with this one, and by itself.
    pub fn child(&self) -> Self {
        Self { own: Arc::default(), all: Some(Arc::clone(&self.own)) }
    }

    /// Asks the command to stop soon.
    pub fn request(&self) {
        self.own.store(true, Ordering::Release);
    }

    /// Whether somebody asked this command.
    pub fn is_requested(&self) -> bool {
        self.own.load(Ordering::Acquire) || self.all.as_ref().is_some_and(|all| all.load(Ordering::Acquire))
    }

    /// Runs something for the command on this thread.
    pub fn scope<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Leave(Token);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0.clone());
            }
        }
        let _leave = Leave(CURRENT.replace(self.clone()));
        run()
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_heard_in_its_scope() {
        let all = Token::new();
        let (one, other) = (all.child(), all.child());
        one.request();
        assert!(!requested());
        one.scope(|| {
            assert!(check().is_err_and(|error| error.kind() == ErrorKind::Cancelled));
            other.scope(|| assert!(check().is_ok()));
            let taken_along = current();
            std::thread::scope(|scope| {
                assert!(!scope.spawn(requested).join().unwrap());
                assert!(scope.spawn(move || taken_along.scope(requested)).join().unwrap());
            });
        });
        assert!(!requested());
        all.request();
        assert!(other.scope(requested) && all.scope(requested));
        assert!(!requested() && !Token::new().is_requested());
    }

    #[test]
    fn a_panic_leaves_its_scope() {
        let token = Token::new();
        token.request();
        assert!(std::panic::catch_unwind(|| token.scope(|| panic!("a mistake"))).is_err());
        assert!(!requested());
    }
}
