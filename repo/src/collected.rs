//! `collected`: packs that a collection took out of the store, noted before they go, so that nobody takes them for lost.
//!
//! Only a node that takes part in a log keeps a record of its packs to compare with (`cluster/record.rs`), and only there is
//! this written.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use filesync_cas::gc::{Fate, Plan};
use filesync_cas::pack::PackName;
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;

use crate::cluster::member;
use crate::error::Error;
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "collected";
const TITLE: &str = "filesync collected 1";
const LEN_MAX: u64 = 64 << 20;

/// Held by who reads it and writes it again: the daemon collects beside its node.
static CHANGING: Mutex<()> = Mutex::new(());

/// Notes what a plan takes away; durable on return.
pub fn note(vfs: &dyn Vfs, plan: &Plan) -> Result<(), Error> {
    if !member::read(vfs)?.is_some_and(|membership| membership.has_log) {
        return Ok(());
    }
    let going = plan.packs.iter().filter(|pack| pack.fate != Fate::Keep).map(|pack| pack.facts.name);
    let going: Vec<PackName> = going.chain(plan.missing.iter().copied()).collect();
    if going.is_empty() {
        return Ok(());
    }
    let _one = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut packs = read(vfs)?;
    packs.extend(going);
    write(vfs, &packs)
}

/// Forgets all but some, which are still on the record.
pub fn keep_only(vfs: &dyn Vfs, is_recorded: impl Fn(PackName) -> bool) -> Result<(), Error> {
    let _one = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let all = read(vfs)?;
    let kept: BTreeSet<PackName> = all.iter().copied().filter(|pack| is_recorded(*pack)).collect();
    if kept == all { Ok(()) } else { write(vfs, &kept) }
}

/// All that are noted.
pub fn read(vfs: &dyn Vfs) -> Result<BTreeSet<PackName>, Error> {
    Ok(small_file::read(vfs, PATH, LEN_MAX, decode)?.unwrap_or_default())
}

/// Makes it durable.
pub fn write(vfs: &dyn Vfs, packs: &BTreeSet<PackName>) -> Result<(), Error> {
    small_file::write(vfs, PATH, &encode(packs))
}

fn encode(packs: &BTreeSet<PackName>) -> Vec<u8> {
    let mut file = Builder::new(TITLE);
    packs.iter().for_each(|pack| file.line(&format!("pack {pack}")));
    file.finish()
}

fn decode(bytes: &[u8]) -> Result<BTreeSet<PackName>, String> {
    let lines = Lines::parse(bytes, TITLE)?;
    let pack = |line: &str| line.strip_prefix("pack ")?.parse().ok();
    let packs = lines.iter().map(|line| pack(line).ok_or_else(|| format!("unknown line {line:?}")));
    let packs = packs.collect::<Result<_, _>>()?;
    check_form(bytes, &encode(&packs))?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(read(&vfs).unwrap(), BTreeSet::new());
        let packs: BTreeSet<_> = (0..5).map(|n| PackName::from_bytes([n; 16])).collect();
        write(&vfs, &packs).unwrap();
        assert_eq!(read(&vfs).unwrap(), packs);
        keep_only(&vfs, |pack| pack.as_bytes()[0] < 2).unwrap();
        assert_eq!(read(&vfs).unwrap(), packs.into_iter().take(2).collect());
        assert!(decode(b"filesync collected 1\npack x\n").is_err());
    }
}
