//! Both sides of Walk: [`WalkAnswer`] streams the objects of an order, [`open_nodes`] and [`open_delta`] take them apart again.
//!
//! Compression is for the wire alone: what is stored is compressed by the store.

use std::collections::VecDeque;

use filesync_cas::testing::mistake;
use filesync_cas::{ContentHash, frame, hash};
use filesync_merkle::schema::object_len_max;
use filesync_merkle::{MerkleSchema, NodeSource};

use crate::error::{Refusal, TourError, WireError};
use crate::message::{Message, NODE_LEN_MAX, NODES_LEN_MAX, NODES_MAX, Nodes, Walk};
use crate::tour::{Next, Tour};

/// Bytes of objects that travel together.
const BATCH_LEN: usize = 128 << 10;
/// Nodes that are passed over before the caller is asked whether to go on.
const SLICE: u64 = 256;
const LEVEL: i32 = 3;

/// What an answer has next.
#[derive(Debug)]
pub enum Step {
    /// A message.
    Send(Message),
    /// Nothing yet: it is working.
    Working,
    /// It is over.
    End,
}

/// Answers a Walk: asked for one message after the other.
pub struct WalkAnswer {
    tour: Tour,
    from: u64,
    lens: Vec<u32>,
    batch: Vec<u8>,
    out: VecDeque<Message>,
    ended: bool,
    compressor: zstd::bulk::Compressor<'static>,
    /// Nodes read since they were last counted.
    work: u64,
}

impl std::fmt::Debug for WalkAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalkAnswer").field("tour", &self.tour).finish_non_exhaustive()
    }
}

impl WalkAnswer {
    /// Begins. That the asker may read the root, the path and the base has been seen.
    pub fn new(walk: &Walk) -> Result<Self, Refusal> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|_| Refusal::Failed)?;
        Ok(Self {
            tour: Tour::new(walk),
            from: walk.from,
            lens: Vec::new(),
            batch: Vec::new(),
            out: VecDeque::new(),
            ended: false,
            compressor,
            work: 0,
        })
    }

    /// Nodes read since the last call.
    pub fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// What comes next. After an error nothing does.
    pub fn step(&mut self, source: &dyn NodeSource) -> Result<Step, Refusal> {
        for _ in 0..SLICE {
            if let Some(message) = self.out.pop_front() {
                return Ok(Step::Send(message));
            }
            if self.ended {
                return Ok(Step::End);
            }
            self.advance(source)?;
        }
        Ok(Step::Working)
    }

    /// Takes one object of the order.
    fn advance(&mut self, source: &dyn NodeSource) -> Result<(), Refusal> {
        let Some(next) = self.tour.next(source).map_err(refusal)? else {
            self.flush()?;
            self.out.push_back(Message::WalkEnd { count: self.tour.count() });
            self.ended = true;
            return Ok(());
        };
        self.work += 1;
        let is_left_out = self.tour.count() < self.from;
        let get = |id: &ContentHash| source.get(next.kind, id);
        // Without its counterpart the order below it cannot be told: in a partial copy either may be missing.
        let both = get(&next.id).and_then(|bytes| Ok((bytes, next.counterpart.as_ref().map(get).transpose()?)));
        let (bytes, counterpart) = match both {
            Ok(both) => both,
            Err(error) if !error.is_damage() => return Err(Refusal::Failed),
            // The asker's order would be another one.
            Err(_) if is_left_out => return Err(Refusal::Nothing),
            Err(_) => {
                self.tour.skip().map_err(refusal)?;
                self.flush()?;
                self.out.push_back(Message::Absent);
                return Ok(());
            }
        };
        self.tour.give(&bytes, source).map_err(refusal)?;
        if is_left_out {
            return Ok(());
        }
        if let Some(counterpart) = counterpart
            && let Some(message) = self.delta(&counterpart, &bytes)?
        {
            self.flush()?;
            self.out.push_back(message);
            return Ok(());
        }
        self.batch_up(&bytes)
    }

    /// The object in terms of its counterpart, if that makes it shorter.
    fn delta(&mut self, counterpart: &[u8], bytes: &[u8]) -> Result<Option<Message>, Refusal> {
        let compress = |compressor: &mut zstd::bulk::Compressor<'static>| {
            compressor.set_dictionary(LEVEL, counterpart)?;
            let payload = compressor.compress(bytes)?;
            compressor.set_dictionary(LEVEL, &[])?;
            Ok::<_, std::io::Error>(payload)
        };
        let payload = compress(&mut self.compressor).map_err(|_| Refusal::Failed)?;
        let len = len32(bytes.len());
        Ok((payload.len() < bytes.len()).then_some(Message::Delta { len, payload }))
    }

    fn batch_up(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.batch.len() + bytes.len() > NODES_LEN_MAX {
            self.flush()?;
        }
        self.lens.push(len32(bytes.len()));
        self.batch.extend_from_slice(bytes);
        if self.batch.len() >= BATCH_LEN || self.lens.len() >= NODES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        if self.lens.is_empty() {
            return Ok(());
        }
        let payload = self.compressor.compress(&self.batch).map_err(|_| Refusal::Failed)?;
        let compressed = payload.len() < self.batch.len();
        let batch = std::mem::take(&mut self.batch);
        let payload = if compressed { payload } else { batch };
        self.out.push_back(Message::Nodes(Nodes { lens: std::mem::take(&mut self.lens), compressed, payload }));
        Ok(())
    }
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("objects are bounded")
}

fn refusal(error: TourError) -> Refusal {
    match error {
        TourError::Base(error) if error.is_damage() => Refusal::Base,
        TourError::Base(_) | TourError::Malformed { .. } => Refusal::Failed,
    }
}

/// The objects of a message, one after the other.
pub fn open_nodes(nodes: &Nodes) -> Result<Vec<u8>, WireError> {
    let raw = match nodes.compressed {
        true => frame::decompress(&nodes.payload, nodes.raw_len()).map_err(WireError::Lie)?,
        false => nodes.payload.clone(),
    };
    match raw.len() == nodes.raw_len() {
        true => Ok(raw),
        false => Err(WireError::Lie("it decompresses to another length".to_owned())),
    }
}

/// The object of a message, given its counterpart's bytes.
pub fn open_delta(len: u32, payload: &[u8], counterpart: &[u8]) -> Result<Vec<u8>, WireError> {
    let lie = |cause: String| WireError::Lie(cause);
    if zstd::zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len()) {
        return Err(lie("its payload is not one zstd frame".to_owned()));
    }
    let len = (len as usize).min(NODE_LEN_MAX);
    let raw = zstd::bulk::Decompressor::with_dictionary(counterpart).and_then(|mut it| it.decompress(payload, len));
    let raw = raw.map_err(|error| lie(format!("it does not decompress: {error}")))?;
    if raw.len() == len { Ok(raw) } else { Err(lie("it decompresses to another length".to_owned())) }
}

/// Whether bytes are the object that comes next.
pub fn check(next: &Next, bytes: &[u8]) -> Result<(), WireError> {
    let is_it =
        bytes.len() <= object_len_max(next.kind) && hash::identify(&MerkleSchema, next.kind, bytes) == Some(next.id);
    if is_it || mistake("a hash that is trusted") {
        Ok(())
    } else {
        Err(WireError::Lie(format!("an object that is not {}", next.id)))
    }
}
