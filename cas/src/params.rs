//! The `format` file: what a repository was made with. Written by `init` and `upgrade` only.

use std::cmp::Ordering;

use crate::hash::ContentHash;
use crate::small_file::{Builder, Lines, check_form};

const TITLE: &str = "filesync 1";
/// The version of the format that is written, which is also the only one that is read.
pub const FORMAT: u32 = 1;

/// Where the chunker may cut: minimum, average and maximum length of a chunk in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    /// No cut before this many bytes.
    pub min: u32,
    /// What cuts aim at: a power of two.
    pub avg: u32,
    /// A cut at this many bytes at the latest.
    pub max: u32,
}

impl ChunkSizes {
    /// Sizes for an average; `None` unless it is a power of two from 4 KiB to 256 KiB.
    pub fn from_average(avg: u32) -> Option<Self> {
        let fits = avg.is_power_of_two() && (4 << 10..=256 << 10).contains(&avg);
        fits.then(|| Self { min: avg / 4, avg, max: avg * 4 })
    }
}

impl Default for ChunkSizes {
    fn default() -> Self {
        Self { min: 16 << 10, avg: 64 << 10, max: 256 << 10 }
    }
}

/// How frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// zstd at level 3.
    #[default]
    Zstd,
    /// Not at all.
    None,
}

/// What the `format` file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Names the repository on every machine.
    pub repository: ContentHash,
    /// Cut points.
    pub chunks: ChunkSizes,
    /// Compression.
    pub codec: Codec,
    /// A feature that this version must not write beside; the repository is then open for reading only.
    pub unknown_write_word: Option<String>,
}

/// Why a `format` file is not one.
#[derive(Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// Not what was written.
    Damaged(String),
    /// Written by a newer version.
    Unsupported(String),
}

impl Params {
    /// Parameters of a new repository.
    pub fn new(repository: ContentHash, chunks: ChunkSizes, codec: Codec) -> Self {
        Self { repository, chunks, codec, unknown_write_word: None }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        file.line(&format!("repository {}", self.repository));
        let ChunkSizes { min, avg, max } = self.chunks;
        file.line(&format!("chunker fastcdc-v2020 {min} {avg} {max}"));
        file.line(match self.codec {
            Codec::Zstd => "codec zstd 3",
            Codec::None => "codec none",
        });
        file.line("read:");
        file.line("write:");
        file.finish()
    }

    /// Parses the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParamsError> {
        let lines = match Lines::parse(bytes, TITLE) {
            Ok(lines) => lines,
            Err(cause) => return Err(other_version(bytes).unwrap_or(ParamsError::Damaged(cause))),
        };
        let lines: Vec<&str> = lines.iter().collect();
        let &[repository, chunker, codec, read, write] = lines.as_slice() else {
            return Err(ParamsError::Damaged("not the five lines of version 1".to_owned()));
        };
        let word = |line: &str, name: &str| match line.strip_prefix(name) {
            Some(words) => Ok(words.split_whitespace().next().map(str::to_owned)),
            None => Err(ParamsError::Damaged(format!("no line {name:?}"))),
        };
        if let Some(word) = word(read, "read:")? {
            return Err(ParamsError::Unsupported(format!("needs feature {word:?}: a newer version wrote it")));
        }
        let params = Self {
            repository: repository
                .strip_prefix("repository ")
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| ParamsError::Damaged("no repository id".to_owned()))?,
            chunks: chunk_sizes(chunker).ok_or_else(|| ParamsError::Unsupported(format!("{chunker:?}")))?,
            codec: match codec {
                "codec zstd 3" => Codec::Zstd,
                "codec none" => Codec::None,
                _ => return Err(ParamsError::Unsupported(format!("{codec:?}"))),
            },
            unknown_write_word: word(write, "write:")?,
        };
        // What a later version says is not written here.
        if params.unknown_write_word.is_none() {
            check_form(bytes, &params.encode()).map_err(ParamsError::Damaged)?;
        }
        Ok(params)
    }
}

/// The version that a `format` file is of, whichever that is, if its check holds.
pub fn version(bytes: &[u8]) -> Result<u32, ParamsError> {
    let (version, title) = title_of(bytes).ok_or_else(|| ParamsError::Damaged("no version".to_owned()))?;
    match Lines::parse(bytes, title) {
        Ok(_) => Ok(version),
        // Whoever comes later may have another way to check it.
        Err(_) if version > FORMAT => Err(newer(version)),
        Err(cause) => Err(ParamsError::Damaged(cause)),
    }
}

/// A first line `filesync N`, and N.
fn title_of(bytes: &[u8]) -> Option<(u32, &str)> {
    // What follows need not be text.
    let first = bytes.split(|byte| *byte == b'\n').next()?;
    let first = std::str::from_utf8(first).ok()?;
    let number = first.strip_prefix("filesync ")?;
    let version: u32 = number.parse().ok()?;
    (number == version.to_string()).then_some((version, first))
}

fn newer(version: u32) -> ParamsError {
    ParamsError::Unsupported(format!("format version {version}: a newer version wrote it"))
}

/// Another version is no damage: a newer one whatever else is written there, an older one if its check holds.
fn other_version(bytes: &[u8]) -> Option<ParamsError> {
    let (found, _) = title_of(bytes)?;
    match found.cmp(&FORMAT) {
        Ordering::Greater => Some(newer(found)),
        Ordering::Equal => None,
        Ordering::Less => version(bytes).is_ok().then(|| {
            ParamsError::Unsupported(format!("format version {found}: `filesync upgrade` brings it up to date"))
        }),
    }
}

fn chunk_sizes(line: &str) -> Option<ChunkSizes> {
    let mut numbers = line.strip_prefix("chunker fastcdc-v2020 ")?.split(' ').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    let sizes = ChunkSizes { min: next()?, avg: next()?, max: next()? };
    (next().is_none() && ChunkSizes::from_average(sizes.avg) == Some(sizes)).then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: Result<Option<&str>, ()>) {
        let mut file = Builder::new(TITLE);
        for line in lines {
            file.line(line);
        }
        let found = Params::decode(&file.finish()).map(|params| params.unknown_write_word);
        assert_eq!(found.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{lines:?}");
    }

    #[test]
    fn unknown_words_are_refused_or_make_it_read_only() {
        let id = format!("repository {}", ContentHash::of_chunk(b"r"));
        let chunker = "chunker fastcdc-v2020 16384 65536 262144";
        check(&[&id, chunker, "codec zstd 3", "read:", "write:"], Ok(None));
        check(&[&id, chunker, "codec none", "read:", "write: thin"], Ok(Some("thin")));
        check(&[&id, chunker, "codec none", "read: sealed", "write:"], Err(()));
        check(&[&id, chunker, "codec lz4", "read:", "write:"], Err(()));
        check(&[&id, "chunker fastcdc-v2020 16384 65535 262144", "codec none", "read:", "write:"], Err(()));
        check(&[&id, chunker, "codec none", "read:"], Err(()));
        assert!(matches!(Params::decode(b"filesync 2\nwhatever\n"), Err(ParamsError::Unsupported(_))));
    }

    #[test]
    fn versions_are_told_apart() {
        let of = |title: &str| {
            let mut file = Builder::new(title);
            file.line("whatever");
            file.finish()
        };
        for number in [0, 1, 2, 77] {
            assert_eq!(version(&of(&format!("filesync {number}"))), Ok(number));
        }
        for title in ["filesync 01", "filesync +1", "filesync", "filesync x", "another 1"] {
            assert!(matches!(version(&of(title)), Err(ParamsError::Damaged(_))), "{title}");
        }
        // What is newer is not judged by what is known today; what is older is.
        assert!(matches!(version(b"filesync 2\n\xff"), Err(ParamsError::Unsupported(_))));
        assert!(matches!(version(b"filesync 0\nwhatever\n"), Err(ParamsError::Damaged(_))));
        assert!(matches!(Params::decode(b"filesync 0\nwhatever\n"), Err(ParamsError::Damaged(_))));
        let older = Params::decode(&of("filesync 0"));
        assert!(matches!(&older, Err(ParamsError::Unsupported(cause)) if cause.contains("upgrade")), "{older:?}");
    }

    #[test]
    fn round_trip() {
        let params = Params::new(ContentHash::of_chunk(b"r"), ChunkSizes::default(), Codec::Zstd);
        assert_eq!(Params::decode(&params.encode()), Ok(params));
        assert_eq!(ChunkSizes::from_average(64 << 10), Some(ChunkSizes::default()));
    }
}
