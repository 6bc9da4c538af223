//! [`Fuzz`]: a decoder is handed what is nearly right, hundreds of thousands of times.
//!
//! Random bytes get no further than the first check of a strict decoder. So each try begins with a valid encoding and
//! edits it: bits, cuts, pieces that move, numbers that lie, halves of two encodings. What is owed for any bytes is held
//! against every one of them: no panic, memory by the length of the input, no time to speak of, and what is taken is
//! encoded to the same bytes again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::rng::Rng;
use super::{is_long, seed};
use crate::hash::{check16, hex};

/// Tries of a usual run. A long one has fifty times as many.
const EXECUTIONS: u64 = 200_000;
const LONG: u64 = 50;
const SEED: u64 = 20_261_126;
/// What one try may take, on a machine that does a lot else: more is a loop over a number that was read.
const TRY_TIME_MAX: Duration = Duration::from_secs(5);
/// Pieces that are moved or dropped are not longer.
const PIECE_LEN_MAX: usize = 64;
/// Of every so many tries one leaves the checks as they are.
const UNSEALED: u64 = 16;

/// Runs something and tells how many bytes it had allocated at its peak.
pub type Peak = fn(&mut dyn FnMut()) -> u64;

/// Makes checksums fit again after an edit: who lies computes them too.
pub type Seal = fn(&mut Rng, &mut Vec<u8>);

/// How a decoder is tried.
#[derive(Debug, Clone)]
pub struct Fuzz<'a> {
    samples: &'a [Vec<u8>],
    words: &'a [&'a [u8]],
    seal: Option<Seal>,
    is_open_ended: bool,
    peak: Peak,
    room: u64,
    room_per_byte: u64,
    executions: u64,
}

/// What became of the tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub executions: u64,
    /// How many of them were edited and taken all the same.
    pub taken: u64,
}

impl<'a> Fuzz<'a> {
    /// Begins with valid encodings of values of all shapes. Short ones leave room for more tries.
    pub fn new(samples: &'a [Vec<u8>], peak: Peak) -> Self {
        assert!(!samples.is_empty(), "there is nothing to begin with");
        Self {
            samples,
            words: &[],
            seal: None,
            is_open_ended: false,
            peak,
            room: 64 << 10,
            room_per_byte: 64,
            executions: EXECUTIONS,
        }
    }

    /// Pieces that mean something to the decoder, put in now and then.
    #[must_use]
    pub fn words(self, words: &'a [&'a [u8]]) -> Self {
        Self { words, ..self }
    }

    /// Checks are made to fit, but for some tries.
    #[must_use]
    pub fn sealed(self, seal: Seal) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// The beginning of an encoding may be another one, and so may one with bytes behind it.
    #[must_use]
    pub fn open_ended(self) -> Self {
        Self { is_open_ended: true, ..self }
    }

    /// How many bytes may be allocated whatever the input, and for each byte of it.
    #[must_use]
    pub fn room(self, room: u64, per_byte: u64) -> Self {
        Self { room, room_per_byte: per_byte, ..self }
    }

    /// Other than 200,000 tries, for what takes long.
    #[must_use]
    pub fn executions(self, executions: u64) -> Self {
        Self { executions, ..self }
    }

    /// Tries `decode`, which gives back what the value that it read is encoded to, or nothing if it refuses.
    ///
    /// Every sample must be taken; none of its beginnings may be, nor may it with a byte more (but see
    /// [`Fuzz::open_ended`]); and what is taken must come out as it went in.
    pub fn run(&self, mut decode: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Tally {
        let seed = seed(SEED);
        for sample in self.samples {
            assert!(self.attempt(sample, &mut decode), "a sample is refused: {}", shown(sample));
            for end in (0..sample.len()).filter(|_| !self.is_open_ended) {
                assert!(!self.attempt(&sample[..end], &mut decode), "cut at {end}, and taken: {}", shown(sample));
            }
            let longer = [sample, &b"x"[..]].concat();
            let is_taken = !self.is_open_ended && self.attempt(&longer, &mut decode);
            assert!(!is_taken, "with a byte more, and taken: {}", shown(&longer));
        }
        let mut rng = Rng::new(seed);
        let mut bytes = Vec::new();
        let executions = self.executions * if is_long() { LONG } else { 1 };
        let mut taken = 0;
        let began = Instant::now();
        for _ in 0..executions {
            let sample = &self.samples[rng.index(self.samples.len())];
            bytes.clone_from(sample);
            self.edit(&mut rng, &mut bytes);
            let is_taken = self.attempt(&bytes, &mut decode);
            taken += u64::from(is_taken && bytes != *sample);
        }
        let tally = Tally { executions, taken };
        eprintln!("{tally:?} in {:.1?}", began.elapsed());
        tally
    }

    /// Changes little in most cases: what is changed in many places is refused at the first.
    fn edit(&self, rng: &mut Rng, bytes: &mut Vec<u8>) {
        let most = 1 << rng.below(4);
        for _ in 0..=rng.below(most) {
            match self.words.is_empty() || rng.chance(3, 4) {
                true => {
                    let sample = &self.samples[rng.index(self.samples.len())];
                    edit(rng, bytes, sample);
                }
                false => {
                    let word = self.words[rng.index(self.words.len())];
                    put_word(rng, bytes, word);
                }
            }
        }
        if let Some(seal) = self.seal.filter(|_| rng.below(UNSEALED) > 0) {
            seal(rng, bytes);
        }
    }

    /// Whether the bytes are taken; fails if anything is not as it must be.
    fn attempt(&self, bytes: &[u8], decode: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) -> bool {
        let mut result = None;
        let began = Instant::now();
        let peak = (self.peak)(&mut || result = Some(catch_unwind(AssertUnwindSafe(|| decode(bytes)))));
        let took = began.elapsed();
        let encoded = match result.expect("it was run") {
            Ok(encoded) => encoded,
            Err(panic) => {
                eprintln!("it panics on {}", shown(bytes));
                resume_unwind(panic);
            }
        };
        let room = self.room + self.room_per_byte * bytes.len() as u64;
        assert!(peak <= room, "{peak} bytes were allocated, where {room} are enough, for {}", shown(bytes));
        assert!(took < TRY_TIME_MAX, "it took {took:?} over {}", shown(bytes));
        let Some(encoded) = encoded else { return false };
        if encoded != bytes {
            panic!("what was taken comes out otherwise:\n{}\nand went in as\n{}", shown(&encoded), shown(bytes));
        }
        true
    }
}

impl Tally {
    /// Fails if so few were taken that only the first checks can have been tried.
    #[track_caller]
    pub fn reaches(self, taken: u64) {
        assert!(self.taken >= taken, "{self:?}, where {taken} should have been taken: nothing was tried");
    }
}

/// As a literal of bytes.
fn shown(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}

/// One change of a few bytes; `other` is another encoding to take a piece from.
fn edit(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        return bytes.extend(random(rng));
    }
    let at = rng.index(bytes.len());
    let end = at + 1 + rng.index((bytes.len() - at).min(PIECE_LEN_MAX));
    match rng.below(14) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.index(5)],
        3 => bytes[at] = rng.next_u64().to_le_bytes()[0],
        4 => step(rng, bytes, at),
        5 => lie(rng, bytes, at),
        6 => bytes.truncate(at),
        7 => bytes.extend(random(rng)),
        8 => bytes.insert(at, rng.next_u64().to_le_bytes()[0]),
        9 => drop(bytes.drain(at..end)),
        10 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.index(bytes.len());
            bytes.splice(to..to, piece);
        }
        11 => {
            let to = rng.index(bytes.len() - (end - at) + 1);
            bytes.copy_within(at..end, to);
        }
        12 => bytes[at..end].rotate_left(rng.index(end - at)),
        _ => {
            bytes.truncate(at);
            let from = if rng.coin() { at.min(other.len()) } else { rng.index(other.len() + 1) };
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn random(rng: &mut Rng) -> Vec<u8> {
    let len = 1 + rng.index(16);
    rng.bytes(len)
}

/// A number that lies at `at`, if there is room for one, of 1 to 8 bytes.
fn number_at(rng: &mut Rng, bytes: &[u8], at: usize) -> (std::ops::Range<usize>, u64) {
    let end = (at + [1, 2, 4, 8][rng.index(4)]).min(bytes.len());
    let mut number = [0; 8];
    number[..end - at].copy_from_slice(&bytes[at..end]);
    (at..end, u64::from_le_bytes(number))
}

/// A number becomes a little more or less.
fn step(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let (place, number) = number_at(rng, bytes, at);
    let by = 1 + rng.below(4);
    let number = if rng.coin() { number.wrapping_add(by) } else { number.wrapping_sub(by) };
    let len = place.len();
    bytes[place].copy_from_slice(&number.to_le_bytes()[..len]);
}

/// A number becomes one at which something might overflow, or a length that might be.
fn lie(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let (len, left) = (bytes.len() as u64, (bytes.len() - at) as u64);
    let (place, _) = number_at(rng, bytes, at);
    let half = 1 << (8 * place.len() - 1);
    let lies = [0, 1, u64::MAX, u64::MAX - 1, half, half - 1, len, left, left + 1, 1 << 20, (1 << 20) + 1, 1 << 28];
    let lie = lies[rng.index(lies.len())];
    let len = place.len();
    bytes[place].copy_from_slice(&lie.to_le_bytes()[..len]);
}

/// A word goes in, or takes the place of what is there.
fn put_word(rng: &mut Rng, bytes: &mut Vec<u8>, word: &[u8]) {
    let at = rng.index(bytes.len() + 1);
    let end = if rng.coin() { at } else { (at + word.len()).min(bytes.len()) };
    bytes.splice(at..end, word.iter().copied());
}

/// Gives a small file, whatever became of it, a last line with a check that fits.
pub fn seal_small_file(_: &mut Rng, bytes: &mut Vec<u8>) {
    const CHECK: &[u8] = b"\ncheck ";
    if let Some(at) = bytes.windows(CHECK.len()).rposition(|window| window == CHECK) {
        bytes.truncate(at + 1);
    } else if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    let line = format!("check {}\n", hex(&check16(&[bytes])));
    bytes.extend_from_slice(line.as_bytes());
}

/// Words of small files.
pub const SMALL_FILE_WORDS: [&[u8]; 12] = [
    b" ",
    b"\n",
    b"+",
    b"-",
    b"0",
    b"\t",
    b"none",
    b"\xff",
    b"18446744073709551616",
    b"commit ",
    b"path - d YQ==\n",
    b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(run: &mut dyn FnMut()) -> u64 {
        allocation_counter::measure(run).bytes_max
    }

    /// A length, that many bytes, and their sum.
    fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
        let (len, rest) = bytes.split_first()?;
        let (sum, body) = rest.split_last()?;
        let fits =
            body.len() == usize::from(*len) && body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == *sum;
        fits.then(|| [&[*len][..], body, &[*sum]].concat())
    }

    #[expect(clippy::ptr_arg, reason = "as all seals are")]
    fn seal(_: &mut Rng, bytes: &mut Vec<u8>) {
        if let [_, body @ .., sum] = &mut bytes[..] {
            *sum = body.iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
        }
    }

    fn samples() -> Vec<Vec<u8>> {
        vec![b"\x00\x00".to_vec(), b"\x03abc\x26".to_vec(), [&[64][..], &[0; 65]].concat()]
    }

    /// What is wrong with a decoder, if that comes out.
    fn fault(decode: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<String> {
        let samples = samples();
        let fuzz = Fuzz::new(&samples, peak).sealed(seal).room(1 << 10, 16).executions(20_000);
        let panic = catch_unwind(AssertUnwindSafe(|| fuzz.run(decode))).err()?;
        Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic of its own".to_owned()))
    }

    #[test]
    fn a_good_decoder_passes_and_its_depth_is_reached() {
        let samples = samples();
        let fuzz = Fuzz::new(&samples, peak).sealed(seal).room(1 << 10, 16).executions(20_000);
        let tally = fuzz.run(decode);
        assert_eq!(tally, fuzz.run(decode), "the same seed, the same tries");
        tally.reaches(1_000);
        assert_eq!(tally.executions, 20_000 * if is_long() { LONG } else { 1 });
    }

    #[test]
    fn what_is_wrong_with_a_decoder_is_found() {
        assert_eq!(fault(decode), None);
        for (name, wrong) in [
            ("a panic of its own", panics as fn(&[u8]) -> Option<Vec<u8>>),
            ("bytes were allocated", greedy),
            ("comes out otherwise", lax),
            ("cut at 3, and taken", short),
            ("with a byte more, and taken", long),
            ("a sample is refused", strict),
        ] {
            let found = fault(wrong);
            assert!(found.as_ref().is_some_and(|found| found.contains(name)), "{name}: {found:?}");
        }
    }

    fn panics(bytes: &[u8]) -> Option<Vec<u8>> {
        assert!(bytes.first() != Some(&0x7f), "a length that nobody expected");
        decode(bytes)
    }

    fn greedy(bytes: &[u8]) -> Option<Vec<u8>> {
        let announced = usize::from(*bytes.first()?);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(announced * 64)));
        decode(bytes)
    }

    /// Forgets to look at the sum.
    fn lax(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut fitting = bytes.to_vec();
        seal(&mut Rng::new(0), &mut fitting);
        decode(&fitting)
    }

    /// Takes what ends early.
    fn short(bytes: &[u8]) -> Option<Vec<u8>> {
        decode(bytes).or_else(|| (bytes == b"\x03ab").then(|| bytes.to_vec()))
    }

    /// Takes what does not end.
    fn long(bytes: &[u8]) -> Option<Vec<u8>> {
        decode(bytes).or_else(|| bytes.ends_with(b"x").then(|| bytes.to_vec()))
    }

    fn strict(bytes: &[u8]) -> Option<Vec<u8>> {
        decode(bytes).filter(|_| bytes.len() < 60)
    }

    #[test]
    fn small_files_are_sealed() {
        use crate::small_file::{Builder, Lines};
        let good = Builder::new("filesync test 1").finish();
        for mut edited in [good.clone(), b"filesync test 1".to_vec(), b"filesync test 1\ncheck 7\n".to_vec()] {
            seal_small_file(&mut Rng::new(0), &mut edited);
            assert_eq!(edited, good);
            assert!(Lines::parse(&edited, "filesync test 1").is_ok());
        }
    }
}
