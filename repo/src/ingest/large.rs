//! Large files: cut in order by one thread, hashed and stored by all.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::TrySendError;
use filesync_cas::{ContentHash, PutError};
use filesync_merkle::{ChunkId, Content, ListBuilder};

use super::file::{Fatal, Trouble, read_fully};
use super::{Ingest, Sink, lock};
use crate::error::{Error, ErrorKind};
use crate::request::Event;
use crate::scan::{Stat, data_ranges};

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;
/// Pieces that may wait for a thread that has nothing else to do.
pub const PIECES_MAX: usize = 4;
/// Pieces of one file that may be under way.
const AHEAD_MAX: usize = 8;

type Chunks = Vec<(ContentHash, u32)>;
/// What came of a piece, and its buffer.
type Processed = (Result<Chunks, PutError>, Vec<u8>);

/// Bytes of a file between two cut points, and the cuts in between.
pub struct Piece {
    bytes: Vec<u8>,
    cuts: Vec<u32>,
    done: Arc<Done>,
}

/// Where the ids of a piece will be, and its buffer for the next one.
#[derive(Debug, Default)]
struct Done {
    result: Mutex<Option<Processed>>,
    ready: Condvar,
}

impl Piece {
    /// Hashes and stores the chunks of this piece. Whoever reads the file is told of an error.
    pub fn process(self, sink: &mut Sink<'_>) {
        let mut at = 0;
        let chunks = self.cuts.iter().map(|&len| {
            let start = at;
            at += len as usize;
            Ok((sink.chunk(&self.bytes[start..at])?, len))
        });
        let chunks = chunks.collect();
        *lock(&self.done.result) = Some((chunks, self.bytes));
        self.done.ready.notify_all();
    }
}

/// What is known of a file while it is read.
struct Reading<'f> {
    file: &'f OwnedFd,
    /// Ranges that hold data; everything else reads as zeros.
    data: Option<Vec<std::ops::Range<u64>>>,
    /// The last cut point.
    cut: u64,
    /// Bytes behind it that have been read.
    carry: Vec<u8>,
    whole: blake3::Hasher,
    list: ListBuilder,
    under_way: VecDeque<Arc<Done>>,
    zeros: Option<(ContentHash, u32)>,
}

impl Ingest<'_> {
    /// Where its bytes are, and the hash of all of them.
    pub(super) fn read_large(
        &self,
        file: &OwnedFd,
        stat: &Stat,
        sink: &mut Sink<'_>,
    ) -> Result<(Content, ContentHash), Trouble> {
        let data = if stat.may_have_holes() { Some(data_ranges(file, stat.size)?) } else { None };
        let mut reading = Reading {
            file,
            data,
            cut: 0,
            carry: Vec::new(),
            whole: blake3::Hasher::new(),
            list: ListBuilder::new(),
            under_way: VecDeque::new(),
            zeros: None,
        };
        let result = self.pieces_of(&mut reading, stat.size, sink);
        // Whatever came of it, no piece of this file is left behind.
        let settled = self.settle(&mut reading, 0, sink);
        result?;
        settled?;
        let whole = ContentHash::from_bytes(*reading.whole.finalize().as_bytes());
        Ok((reading.list.finish(sink, *whole.as_bytes()).map_err(Fatal)?, whole))
    }

    fn pieces_of(&self, reading: &mut Reading<'_>, size: u64, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        while reading.cut < size {
            if self.stop.load(Ordering::Acquire) || crate::cancel::requested() {
                return Err(Trouble::Fatal(Error::new(ErrorKind::Cancelled, "interrupted")));
            }
            if self.skip_hole(reading, size, sink)? {
                continue;
            }
            let mut bytes = self.buffer();
            let max = self.chunker.sizes().max as usize;
            let carried = reading.carry.len();
            bytes.resize((WINDOW + max).max(carried), 0);
            bytes[..carried].copy_from_slice(&reading.carry);
            let got = read_fully(reading.file, &mut bytes[carried..], reading.cut + carried as u64)?;
            let have = carried + got;
            let end = reading.cut + have as u64;
            if end > size || (have < bytes.len() && end < size) {
                return Err(Trouble::Changed);
            }
            let mut cuts = Vec::new();
            let used =
                self.chunker.cut(&bytes[..have], end == size, |len| cuts.push(u32::try_from(len).unwrap_or(u32::MAX)));
            reading.whole.update(&bytes[..used]);
            reading.carry.clear();
            reading.carry.extend_from_slice(&bytes[used..have]);
            reading.cut += used as u64;
            self.hand_out(reading, bytes, cuts, sink)?;
            self.observer.event(Event::Advance { bytes: used as u64, items: 0 });
        }
        Ok(())
    }

    /// Gives a piece to an idle thread, or does it here; and takes what is ready.
    fn hand_out(
        &self,
        reading: &mut Reading<'_>,
        bytes: Vec<u8>,
        cuts: Vec<u32>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Trouble> {
        let done = Arc::new(Done::default());
        reading.under_way.push_back(Arc::clone(&done));
        let piece = Piece { bytes, cuts, done };
        if self.idle.load(Ordering::Relaxed) == 0 {
            piece.process(sink);
        } else if let Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) = self.pieces.0.try_send(piece)
        {
            piece.process(sink);
        }
        self.settle(reading, AHEAD_MAX, sink)
    }

    /// Takes the results of pieces in order until at most `left` are under way, helping out meanwhile.
    fn settle(&self, reading: &mut Reading<'_>, left: usize, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        while let Some(front) = reading.under_way.front().cloned() {
            let mut result = lock(&front.result);
            if result.is_none() {
                if reading.under_way.len() <= left {
                    return Ok(());
                }
                drop(result);
                if let Ok(piece) = self.pieces.1.try_recv() {
                    piece.process(sink);
                    continue;
                }
                result = lock(&front.result);
                while result.is_none() {
                    result = front.ready.wait(result).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let Some((chunks, buffer)) = result.take() else { continue };
            drop(result);
            reading.under_way.pop_front();
            self.recycle(buffer);
            for (id, len) in chunks.map_err(Fatal)? {
                reading.list.push(sink, ChunkId(id), len).map_err(Fatal)?;
            }
        }
        Ok(())
    }

    /// Where a longest chunk of zeros begins at the last cut point, in a hole, it is taken without being read.
    fn skip_hole(&self, reading: &mut Reading<'_>, size: u64, sink: &mut Sink<'_>) -> Result<bool, Trouble> {
        let max = u64::from(self.chunker.sizes().max);
        let end = reading.cut + max;
        let in_hole = |ranges: &Vec<std::ops::Range<u64>>| {
            let next = ranges.partition_point(|range| range.end <= reading.cut);
            ranges.get(next).is_none_or(|range| range.start >= end)
        };
        if end > size || !reading.data.as_ref().is_some_and(in_hole) {
            return Ok(false);
        }
        let zeros = vec![0; usize::try_from(max).unwrap_or(0)];
        let (id, len) = match reading.zeros {
            Some(known) => known,
            None => {
                let mut cuts = Vec::new();
                self.chunker.cut(&zeros, false, |len| cuts.push(len));
                let len = cuts.first().copied().unwrap_or(0);
                if len as u64 != max {
                    // Zeros are cut elsewhere: they are read like everything else.
                    reading.data = None;
                    return Ok(false);
                }
                let known = (sink.chunk(&zeros).map_err(Fatal)?, u32::try_from(len).unwrap_or(u32::MAX));
                *reading.zeros.insert(known)
            }
        };
        self.settle(reading, 0, sink)?;
        reading.list.push(sink, ChunkId(id), len).map_err(Fatal)?;
        reading.whole.update(&zeros);
        reading.carry.clear();
        reading.cut = end;
        self.observer.event(Event::Advance { bytes: max, items: 0 });
        Ok(true)
    }
}
