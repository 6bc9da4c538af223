//! What nobody can guess, for names that are used once.

use std::io;

/// Fills in random bytes.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    if crate::testing::drawn(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes).map_err(io::Error::other)
}
