//! What bounds packs, memory and threads; tests use small values.

use crate::pack::SEAL_LEN;

/// Limits of a store that is open.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Length at which a pack is sealed.
    pub seal_len: u64,
    /// Objects in a pack at which it is sealed, however small they are: so that its footer stays small.
    pub seal_objects: u32,
    /// Written and not yet indexed objects at which marks move on, so that memory does not grow with the input.
    pub pending_max: usize,
    /// Appended bytes after which a helper thread begins to write them out, so that the last sync is short.
    pub writeback_len: u64,
    /// Whether threads help. Without them the same work makes the same calls in the same order.
    pub threads: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seal_len: SEAL_LEN, seal_objects: 1 << 17, pending_max: 1 << 15, writeback_len: 32 << 20, threads: true }
    }
}
