//! A state that comes in pieces.

use super::{PIECE_LEN, Piece};
use crate::types::{SnapshotMeta, Vote};

/// The longest state. What the state machine allows (`crate::state`) is less.
const STATE_LEN_MAX: u64 = 64 << 20;

/// The pieces that have come. There is one at a time: whoever begins another gives this one up.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    len: u64,
    /// Grows with what has come: a length that is only promised costs nothing.
    pub data: Vec<u8>,
}

impl Incoming {
    /// Takes a piece, and gives the whole back with the last.
    pub(super) fn take(slot: &mut Option<Self>, piece: Piece) -> Result<Option<Self>, String> {
        let Piece { vote, meta, len, offset, data } = piece;
        let end = offset.saturating_add(data.len() as u64);
        if data.len() > PIECE_LEN || len > STATE_LEN_MAX || end > len || data.is_empty() && len > 0 {
            return Err("no piece of a state".to_owned());
        }
        let mut incoming = match slot.take() {
            _ if offset == 0 => Self { vote, meta, len, data: Vec::new() },
            Some(begun) if (begun.vote, &begun.meta, begun.len) == (vote, &meta, len) => begun,
            other => {
                *slot = other;
                return Err("a piece of a state that was not begun".to_owned());
            }
        };
        let there = incoming.data.len() as u64;
        if offset > there {
            *slot = Some(incoming);
            return Err(format!("a piece at {offset}, after {there} bytes"));
        }
        // One that came already, by another way, changes nothing.
        if offset == there {
            incoming.data.extend_from_slice(&data);
        }
        if incoming.data.len() as u64 == len {
            return Ok(Some(incoming));
        }
        *slot = Some(incoming);
        Ok(None)
    }
}
