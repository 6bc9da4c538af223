//! Counts what was acknowledged, outside of the database.
//!
//! After a power cut the database's log may end in a torn record: that was never acknowledged, and is cut. But a
//! record that *was* acknowledged and is cut by damage looks the same. So each synced write has a number, in the
//! database and, once it is durable, here. A database that comes back with a smaller number than is found here has
//! lost something.
//!
//! Votes are few and must not be lost in any case: their number is synced here too, in two slots by turns, so that one
//! is always whole. For all others it is only written: exact after a kill, after a power cut perhaps older.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SLOT_LEN: u64 = 4096;
const ENTRY_SLOT: u64 = 2;
/// The write that says whose the database is.
const MADE: u64 = 1;

/// The file.
#[derive(Debug)]
pub struct Guard {
    file: File,
    votes: u64,
}

impl Guard {
    /// Makes the file; durable when the directory is synced.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let mut guard = Self { file, votes: 0 };
        guard.vote(0)?;
        guard.vote(0)?;
        Ok(guard)
    }

    /// Opens it and tells the greatest number that is known to have been acknowledged. `None` is damage.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let slots: Vec<_> = (0..=ENTRY_SLOT).map(|slot| read(&file, slot)).collect();
        // The slot that was synced before the last one is whole whatever happened.
        let voted = slots[..2].iter().flatten().max().copied();
        // The next vote goes over the older one.
        let votes = u64::from(slots[0].is_some() && slots[0] >= slots[1]);
        let known = voted.map(|voted| voted.max(slots[2].unwrap_or(0)));
        Ok((Self { file, votes }, known))
    }

    /// Whether anything was acknowledged beyond what is written when the file is made; what cannot be told counts as such.
    pub fn has_promised(path: &Path) -> io::Result<bool> {
        match Self::open(path) {
            Ok((_, known)) => Ok(known.is_none_or(|known| known > MADE)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes an acknowledged vote, durably.
    pub fn vote(&mut self, number: u64) -> io::Result<()> {
        write(&self.file, self.votes % 2, number)?;
        self.file.sync_data()?;
        self.votes += 1;
        Ok(())
    }

    /// Notes another acknowledged write.
    pub fn entry(&self, number: u64) -> io::Result<()> {
        write(&self.file, ENTRY_SLOT, number)
    }
}

fn write(file: &File, slot: u64, number: u64) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&check(number).to_le_bytes());
    file.write_all_at(&bytes, slot * SLOT_LEN)
}

fn read(file: &File, slot: u64) -> Option<u64> {
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, slot * SLOT_LEN).ok()?;
    let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let number = word(0)?;
    (word(8)? == check(number)).then_some(number)
}

/// Against accidents: each bit of the number changes many of the check, and zeros are no slot.
fn check(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) ^ mixed >> 32
}
