//! The names of one directory of the working copy, in order, whatever the scan says of them.

use std::collections::VecDeque;

use filesync_merkle::Entry;

use crate::scan::{Batch, DirScan, Kind, ScanError, Stat};

/// What the scan says of a name.
#[derive(Debug)]
pub struct Here {
    /// The kind of thing; none if the system does not say.
    pub kind: Option<Kind>,
    /// What `stat` says, if anybody asked.
    pub stat: Option<Stat>,
    /// The entry of the cache, if it still stands for what is there.
    pub cached: Option<Entry>,
    /// Ignore rules leave it out.
    pub ignored: bool,
}

/// Names in order, batch by batch.
pub struct Names {
    dir: DirScan,
    batch: VecDeque<(Vec<u8>, Here)>,
}

impl Names {
    pub fn new(dir: DirScan) -> Self {
        Self { dir, batch: VecDeque::new() }
    }

    pub fn peek(&mut self) -> Result<Option<&[u8]>, ScanError> {
        while self.batch.is_empty() {
            match self.dir.next_batch()? {
                Some(batch) => self.batch = flatten(batch).into(),
                None => return Ok(None),
            }
        }
        Ok(self.batch.front().map(|(name, _)| name.as_slice()))
    }

    pub fn next(&mut self) -> Option<Here> {
        self.batch.pop_front().map(|(_, here)| here)
    }
}

fn flatten(batch: Batch) -> Vec<(Vec<u8>, Here)> {
    let mut all: Vec<_> = batch
        .entries
        .into_iter()
        .map(|entry| {
            let here = Here { kind: Some(entry.kind), stat: entry.stat, cached: entry.cached, ignored: entry.ignored };
            (entry.name.as_bytes().to_vec(), here)
        })
        .collect();
    let other = |kind| Here { kind, stat: None, cached: None, ignored: false };
    all.extend(batch.skipped.into_iter().map(|skipped| (skipped.name, other(Some(Kind::Other)))));
    all.extend(batch.failed.into_iter().map(|failed| (failed.name.as_bytes().to_vec(), other(None))));
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}
