//! Bits that flip in packs, where they lie.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use filesync_cas::testing::Rng;

/// Bytes of the header of a pack, which is not what is to be hit.
const HEADER: usize = 64;

/// Flips one bit in each pack of some length. Says where.
pub fn flip(root: &Path, rng: &mut Rng) -> Vec<(PathBuf, u64)> {
    let packs = std::fs::read_dir(root.join(".filesync/packs")).expect("it can be read").flatten();
    let mut flipped = Vec::new();
    for pack in packs.map(|entry| entry.path()) {
        // One that is taken away in this moment is none.
        let Ok(file) = File::options().read(true).write(true).open(&pack) else { continue };
        let len = file.metadata().map_or(0, |meta| usize::try_from(meta.len()).expect("packs have a limit"));
        if len < 4 * HEADER {
            continue;
        }
        // Not at the end, which may not be durable yet.
        let at = (HEADER + rng.index(len / 2 - HEADER)) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it was so long a moment ago");
        byte[0] ^= 1 << rng.below(8);
        file.write_all_at(&byte, at).expect("it can be written in place");
        flipped.push((pack, at));
    }
    flipped
}
