//! How many threads are worth having.

use std::sync::OnceLock;
use std::thread::available_parallelism;

/// Processors that this process may use; one if that cannot be told. Asked once: the answer is put together from several files.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}
