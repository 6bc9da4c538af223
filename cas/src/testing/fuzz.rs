//! [`Fuzz`]: a decoder is handed what is nearly right, hundreds of thousands of times.
//!
//! Random bytes get no further than the first check of a strict decoder. So each try begins with a valid encoding and
//! edits it: bits, cuts, pieces that move, numbers that lie, halves of two encodings. What is owed for any bytes is held
//! against every one of them: no panic, memory by the length of the input, no time to speak of, and what is taken is
//! encoded to the same bytes again.
//!
//! Which edits are made is up to [bolero](https://docs.rs/bolero): in `cargo test` at random, and what fails is made smaller and told
//! with the seed that gives it again; in `cargo bolero test` by what of the decoder each edit has reached.

use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bolero::generator::bolero_generator::ValueGenerator;
use bolero::{BorrowedInput, ByteSliceGenerator, DefaultEngine, Driver, TestTarget};

use super::is_long;
use super::rng::Rng;
use crate::hash::{check16, hex};

/// Tries of a usual run. A long one has fifty times as many.
const EXECUTIONS: usize = 200_000;
const LONG: usize = 50;
/// What one try may take, on a machine that does a lot else: more is a loop over a number that was read.
const TRY_TIME_MAX: Duration = Duration::from_secs(5);
/// Pieces that are moved or dropped are not longer.
const PIECE_LEN_MAX: usize = 64;
/// Of every so many tries one leaves the checks as they are.
const UNSEALED: u64 = 16;

/// Runs something and tells how many bytes it had allocated at its peak.
pub type Peak = fn(&mut dyn FnMut()) -> u64;

/// Makes checksums fit again after an edit: who lies computes them too.
pub type Seal = fn(&mut dyn Draw, &mut Vec<u8>);

/// The test that a decoder is tried in, and what tries it: `bolero::check!()`.
pub type Target = TestTarget<ByteSliceGenerator, DefaultEngine, BorrowedInput>;

/// What decides about an edit.
pub trait Draw {
    /// A number below `end`, which is above 0.
    fn below(&mut self, end: u64) -> u64;

    /// An index into something of `len` elements, which is above 0.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True in `num` of `den` cases.
    fn chance(&mut self, num: u64, den: u64) -> bool {
        self.below(den) < num
    }

    /// True in half of the cases.
    fn coin(&mut self) -> bool {
        self.chance(1, 2)
    }

    /// Any byte.
    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

impl Draw for Rng {
    fn below(&mut self, end: u64) -> u64 {
        Rng::below(self, end)
    }
}

struct Driven<'a, D>(&'a mut D);

impl<D: Driver> Draw for Driven<'_, D> {
    fn below(&mut self, end: u64) -> u64 {
        // One that has nothing more to say takes the simplest edits.
        self.0.gen_u64(Bound::Included(&0), Bound::Excluded(&end)).unwrap_or(0)
    }
}

/// A sample, edited.
struct Edited {
    bytes: Vec<u8>,
    /// Whether it is the same still.
    is_sample: bool,
}

impl fmt::Debug for Edited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.bytes))
    }
}

struct Edits<'a>(&'a Fuzz<'a>);

impl ValueGenerator for Edits<'_> {
    type Output = Edited;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Edited> {
        let mut draw = Driven(driver);
        let sample = &self.0.samples[draw.index(self.0.samples.len())];
        let mut bytes = sample.clone();
        self.0.edit(&mut draw, &mut bytes);
        let is_sample = bytes == *sample;
        Some(Edited { bytes, is_sample })
    }
}

/// A decoder, and what became of it so far.
struct Trying<'a, F> {
    fuzz: &'a Fuzz<'a>,
    decode: F,
    tally: Tally,
    /// What was wrong last.
    fault: Option<String>,
}

/// After a panic nothing is done with it but to tell of it.
impl<F> RefUnwindSafe for Trying<'_, F> {}

impl<F: FnMut(&[u8]) -> Option<Vec<u8>>> Trying<'_, F> {
    fn attempt(&mut self, edited: &Edited) {
        self.tally.executions += 1;
        match self.fuzz.attempt(&edited.bytes, &mut self.decode) {
            Ok(is_taken) => self.tally.taken += u64::from(is_taken && !edited.is_sample),
            Err(fault) => {
                self.fault = Some(fault.clone());
                panic!("{fault}");
            }
        }
    }
}

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
    executions: usize,
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
    pub fn executions(self, executions: usize) -> Self {
        Self { executions, ..self }
    }

    /// Tries `decode`, which gives back what the value that it read is encoded to, or nothing if it refuses.
    ///
    /// Every sample must be taken; none of its beginnings may be, nor may it with a byte more (but see
    /// [`Fuzz::open_ended`]); and what is taken must come out as it went in.
    pub fn run(&self, target: Target, decode: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Tally {
        let began = Instant::now();
        let mut trying = Trying { fuzz: self, decode, tally: Tally { executions: 0, taken: 0 }, fault: None };
        self.check_samples(&mut trying.decode).unwrap_or_else(|fault| panic!("{fault}"));
        let executions = self.executions * if is_long() { LONG } else { 1 };
        let target = target.with_generator(Edits(self)).with_iterations(executions).with_test_time(Duration::MAX);
        if catch_unwind(AssertUnwindSafe(|| target.for_each(|edited: &Edited| trying.attempt(edited)))).is_err() {
            panic!("{}", trying.fault.unwrap_or_else(|| "it could not be tried".to_owned()));
        }
        eprintln!("{:?} in {:.1?}", trying.tally, began.elapsed());
        trying.tally
    }

    fn check_samples(&self, decode: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Result<(), String> {
        let mut is_taken = |bytes: &[u8]| self.attempt(bytes, decode);
        for sample in self.samples {
            if !is_taken(sample)? {
                return Err(format!("a sample is refused: {}", shown(sample)));
            }
            for end in (0..sample.len()).filter(|_| !self.is_open_ended) {
                if is_taken(&sample[..end])? {
                    return Err(format!("cut at {end}, and taken: {}", shown(sample)));
                }
            }
            let longer = [sample, &b"x"[..]].concat();
            if !self.is_open_ended && is_taken(&longer)? {
                return Err(format!("with a byte more, and taken: {}", shown(&longer)));
            }
        }
        Ok(())
    }

    /// Changes little in most cases: what is changed in many places is refused at the first.
    fn edit(&self, draw: &mut dyn Draw, bytes: &mut Vec<u8>) {
        let most = 1 << draw.below(4);
        for _ in 0..=draw.below(most) {
            match self.words.is_empty() || draw.chance(3, 4) {
                true => {
                    let sample = &self.samples[draw.index(self.samples.len())];
                    edit(draw, bytes, sample);
                }
                false => {
                    let word = self.words[draw.index(self.words.len())];
                    put_word(draw, bytes, word);
                }
            }
        }
        if let Some(seal) = self.seal.filter(|_| draw.below(UNSEALED) > 0) {
            seal(draw, bytes);
        }
    }

    /// Whether the bytes are taken, or what is not as it must be.
    fn attempt(&self, bytes: &[u8], decode: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Result<bool, String> {
        let mut result = None;
        let began = Instant::now();
        let peak = (self.peak)(&mut || result = Some(catch_unwind(AssertUnwindSafe(|| decode(bytes)))));
        let took = began.elapsed();
        let encoded = result.expect("it was run").map_err(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            format!("it panics on {}: {}", shown(bytes), said.unwrap_or("it does not say why"))
        })?;
        let room = self.room + self.room_per_byte * bytes.len() as u64;
        if peak > room {
            return Err(format!("{peak} bytes were allocated, where {room} are enough, for {}", shown(bytes)));
        }
        if took >= TRY_TIME_MAX {
            return Err(format!("it took {took:?} over {}", shown(bytes)));
        }
        match encoded {
            Some(encoded) if encoded != bytes => Err(format!(
                "what was taken comes out otherwise:\n{}\nand went in as\n{}",
                shown(&encoded),
                shown(bytes)
            )),
            encoded => Ok(encoded.is_some()),
        }
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
fn edit(draw: &mut dyn Draw, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        return bytes.extend(random(draw));
    }
    let at = draw.index(bytes.len());
    let end = at + 1 + draw.index((bytes.len() - at).min(PIECE_LEN_MAX));
    match draw.below(14) {
        0 | 1 => bytes[at] ^= 1 << draw.below(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][draw.index(5)],
        3 => bytes[at] = draw.byte(),
        4 => step(draw, bytes, at),
        5 => lie(draw, bytes, at),
        6 => bytes.truncate(at),
        7 => bytes.extend(random(draw)),
        8 => bytes.insert(at, draw.byte()),
        9 => drop(bytes.drain(at..end)),
        10 => {
            let piece = bytes[at..end].to_vec();
            let to = draw.index(bytes.len());
            bytes.splice(to..to, piece);
        }
        11 => {
            let to = draw.index(bytes.len() - (end - at) + 1);
            bytes.copy_within(at..end, to);
        }
        12 => bytes[at..end].rotate_left(draw.index(end - at)),
        _ => {
            bytes.truncate(at);
            let from = if draw.coin() { at.min(other.len()) } else { draw.index(other.len() + 1) };
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn random(draw: &mut dyn Draw) -> Vec<u8> {
    (0..1 + draw.index(16)).map(|_| draw.byte()).collect()
}

/// A number that lies at `at`, if there is room for one, of 1 to 8 bytes.
fn number_at(draw: &mut dyn Draw, bytes: &[u8], at: usize) -> (std::ops::Range<usize>, u64) {
    let end = (at + [1, 2, 4, 8][draw.index(4)]).min(bytes.len());
    let mut number = [0; 8];
    number[..end - at].copy_from_slice(&bytes[at..end]);
    (at..end, u64::from_le_bytes(number))
}

/// A number becomes a little more or less.
fn step(draw: &mut dyn Draw, bytes: &mut [u8], at: usize) {
    let (place, number) = number_at(draw, bytes, at);
    let by = 1 + draw.below(4);
    let number = if draw.coin() { number.wrapping_add(by) } else { number.wrapping_sub(by) };
    let len = place.len();
    bytes[place].copy_from_slice(&number.to_le_bytes()[..len]);
}

/// A number becomes one at which something might overflow, or a length that might be.
fn lie(draw: &mut dyn Draw, bytes: &mut [u8], at: usize) {
    let (len, left) = (bytes.len() as u64, (bytes.len() - at) as u64);
    let (place, _) = number_at(draw, bytes, at);
    let half = 1 << (8 * place.len() - 1);
    let lies = [0, 1, u64::MAX, u64::MAX - 1, half, half - 1, len, left, left + 1, 1 << 20, (1 << 20) + 1, 1 << 28];
    let lie = lies[draw.index(lies.len())];
    let len = place.len();
    bytes[place].copy_from_slice(&lie.to_le_bytes()[..len]);
}

/// A word goes in, or takes the place of what is there.
fn put_word(draw: &mut dyn Draw, bytes: &mut Vec<u8>, word: &[u8]) {
    let at = draw.index(bytes.len() + 1);
    let end = if draw.coin() { at } else { (at + word.len()).min(bytes.len()) };
    bytes.splice(at..end, word.iter().copied());
}

/// Gives a small file, whatever became of it, a last line with a check that fits.
pub fn seal_small_file(_: &mut dyn Draw, bytes: &mut Vec<u8>) {
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
    use bolero::check;

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
    fn seal(_: &mut dyn Draw, bytes: &mut Vec<u8>) {
        if let [_, body @ .., sum] = &mut bytes[..] {
            *sum = body.iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
        }
    }

    fn samples() -> Vec<Vec<u8>> {
        vec![b"\x00\x00".to_vec(), b"\x03abc\x26".to_vec(), [&[64][..], &[0; 65]].concat()]
    }

    /// What is wrong with a decoder, if that comes out.
    fn fault(target: Target, decode: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<String> {
        let samples = samples();
        let fuzz = Fuzz::new(&samples, peak).sealed(seal).room(1 << 10, 16).executions(20_000);
        let panic = catch_unwind(AssertUnwindSafe(|| fuzz.run(target, decode))).err()?;
        panic.downcast_ref::<String>().cloned()
    }

    #[test]
    fn a_good_decoder_passes_and_its_depth_is_reached() {
        let samples = samples();
        let fuzz = Fuzz::new(&samples, peak).sealed(seal).room(1 << 10, 16).executions(20_000);
        let tally = fuzz.run(check!(), decode);
        tally.reaches(1_000);
        assert_eq!(tally.executions, 20_000 * if is_long() { LONG as u64 } else { 1 });
    }

    #[test]
    fn what_is_wrong_with_a_decoder_is_found() {
        assert_eq!(fault(check!(), decode), None);
        for (name, wrong) in [
            ("it panics on b\"\\x7f", panics as fn(&[u8]) -> Option<Vec<u8>>),
            ("bytes were allocated", greedy),
            ("comes out otherwise", lax),
            ("cut at 3, and taken", short),
            ("with a byte more, and taken", long),
            ("a sample is refused", strict),
        ] {
            let found = fault(check!(), wrong);
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
