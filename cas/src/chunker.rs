//! Cut points: FastCDC v2020 over a window of bytes (`docs/format.md`, section 1.1). Pure.

use fastcdc::v2020::FastCDC;

use crate::params::ChunkSizes;

/// Finds cut points for a repository's chunk sizes.
#[derive(Debug, Clone, Copy)]
pub struct Chunker {
    sizes: ChunkSizes,
}

impl Chunker {
    /// A chunker for `sizes`, which only legal values can have.
    pub fn new(sizes: ChunkSizes) -> Self {
        Self { sizes }
    }

    /// The sizes.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// Calls `visit` with the lengths of the chunks at the beginning of `window`, and returns how many bytes
    /// they cover.
    ///
    /// The window begins at a cut point. With `last` it ends where the file ends and is covered whole; without,
    /// chunks are cut only while a longest chunk would fit, so that the cuts do not depend on windows.
    pub fn cut(&self, window: &[u8], last: bool, mut visit: impl FnMut(usize)) -> usize {
        let (min, max) = (self.sizes.min as usize, self.sizes.max as usize);
        let mut done = 0;
        let cutter = FastCDC::new(window, min, self.sizes.avg as usize, max);
        while done < window.len() && (last || window.len() - done >= max) {
            let rest = window.len() - done;
            let len = if rest <= min { rest } else { cutter.cut(done, rest).1 - done };
            visit(len);
            done += len;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    fn whole(bytes: &[u8]) -> Vec<usize> {
        let mut cuts = Vec::new();
        Chunker::new(ChunkSizes::default()).cut(bytes, true, |len| cuts.push(len));
        cuts
    }

    #[test]
    fn cuts_do_not_depend_on_windows() {
        let mut rng = Rng::new(7);
        let bytes: Vec<u8> = (0..2_000_000 / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let expected = whole(&bytes);
        let chunker = Chunker::new(ChunkSizes::default());
        let (mut cuts, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let end = bytes.len().min(at + 300_000);
            at += chunker.cut(&bytes[at..end], end == bytes.len(), |len| cuts.push(len));
        }
        assert_eq!(cuts, expected);
        assert_eq!(cuts.iter().sum::<usize>(), bytes.len());
    }

    /// Cut points are part of every id of a large file: a new version of the library must not move them.
    #[test]
    fn golden_cut_points() {
        let mut rng = Rng::new(42);
        let bytes: Vec<u8> = (0..1_000_000 / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let cuts = whole(&bytes);
        assert_eq!(cuts, GOLDEN, "cut points moved: {cuts:?}");
        assert_eq!(whole(&vec![0; 600_000]), [262_144, 262_144, 75_712]);
        assert_eq!(whole(&[1; 16_384]), [16_384]);
    }

    const GOLDEN: &[usize] =
        &[106_594, 75_208, 19_070, 105_223, 66_060, 92_895, 156_030, 42_707, 136_630, 120_388, 69_647, 9_548];
}
