//! Reading and writing fixed-width little-endian fields, for all encodings of `docs/format.md` and `docs/protocol.md`.
//!
//! Every read is bounded; nothing here panics on any bytes.

use crate::error::DecodeError;

/// A position in the bytes of one object.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// An error at the present position.
    pub fn fail<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError { what, offset: self.at })
    }

    /// Fails unless `good`.
    pub fn check(&self, good: bool, what: &'static str) -> Result<(), DecodeError> {
        if good { Ok(()) } else { self.fail(what) }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => self.fail("too short"),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A number.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A number.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The first byte of every object.
    pub fn version(&mut self) -> Result<(), DecodeError> {
        let version = self.u8()?;
        self.check(version == VERSION, "unknown version")
    }

    /// A count or length, refused above `max` before anything is allocated for it.
    pub fn bounded_u16(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        let value = usize::from(self.u16()?);
        self.check(value <= max, what)?;
        Ok(value)
    }

    /// As [`Reader::bounded_u16`].
    pub fn bounded_u32(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        match usize::try_from(self.u32()?) {
            Ok(value) if value <= max => Ok(value),
            _ => self.fail(what),
        }
    }

    /// Nothing may be left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        self.check(self.at == self.bytes.len(), "bytes left over")
    }
}

/// The version of every object of this format.
pub const VERSION: u8 = 1;

/// Where an object's bytes are put together.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing yet.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Adds a number.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Adds a number.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Adds a number.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Adds a number.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Adds a number.
    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A length that was checked to fit: the formats bound all of them far below.
    pub fn len_u16(&mut self, len: usize) {
        self.u16(u16::try_from(len).expect("lengths are checked before encoding"));
    }

    /// As [`Writer::len_u16`].
    pub fn len_u32(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("lengths are checked before encoding"));
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
