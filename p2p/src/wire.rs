//! From bytes to messages: lengths are held against limits before anything is kept for them, and nobody may take for ever.
//!
//! No sockets and no clock: bytes and the time go in, messages come out.

use std::time::Duration;

use crate::error::WireError;
use crate::message::{Message, Side, body_max, message_max};
use crate::peer::Class;

/// A point of time: how long after some beginning that is the same for everything in one process.
pub type Moment = Duration;

/// How long Hello may take.
pub const HELLO_TIME: Duration = Duration::from_secs(5);
/// How long any message may take after its first byte, besides what its length allows.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// The slowest that a message may come in, in bytes a second.
const RATE_MIN: u64 = 64 << 10;

/// Messages from this length on are not copied out of what came.
const LONG: usize = 64 << 10;

/// Puts the messages of one direction of a stream together.
#[derive(Debug)]
pub struct Inbox {
    class: Class,
    side: Side,
    /// At most one message and what one read brought.
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// When the first byte of the present message came.
    since: Option<Moment>,
}

impl Inbox {
    /// For what `side` sends on streams of `class`.
    pub fn new(class: Class, side: Side) -> Self {
        Self { class, side, bytes: Vec::new(), start: 0, since: None }
    }

    /// Takes bytes as they came. [`Inbox::next`] is to be asked until it has nothing more before the next call, so that
    /// no more than one message is kept.
    pub fn push(&mut self, bytes: &[u8], now: Moment) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.is_empty() && !bytes.is_empty() {
            self.since = Some(now);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if all of it is there.
    pub fn next(&mut self, now: Moment) -> Result<Option<Message>, WireError> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some((len, kind)) = self.header(rest)? else { return Ok(None) };
        let end = 4 + len;
        let Some(body) = rest.get(5..end) else {
            self.make_room(end);
            return Ok(None);
        };
        let body = match len < LONG {
            true => {
                let body = body.to_vec();
                self.start += end;
                body
            }
            false => self.take_long(end),
        };
        let message = Message::decode(kind, body)?;
        if self.start == self.bytes.len() {
            (self.bytes, self.start, self.since) = (Vec::new(), 0, None);
        } else {
            self.since = Some(now);
        }
        Ok(Some(message))
    }

    /// Makes room for a long message, as soon as some of it is there, and for what the last read brings behind it.
    fn make_room(&mut self, end: usize) {
        let here = self.bytes.len() - self.start;
        if here >= LONG {
            self.bytes.reserve_exact(end - here + LONG);
        }
    }

    /// The body of the message that ends at `end`, in the memory that it came into; the next begins where it did.
    fn take_long(&mut self, end: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(self.start + end);
        let mut body = std::mem::replace(&mut self.bytes, rest);
        body.drain(..self.start + 5);
        self.start = 0;
        body
    }

    /// Length and type, once they are there; an error if they are out of bounds.
    fn header(&self, rest: &[u8]) -> Result<Option<(usize, u8)>, WireError> {
        let Some(len) = rest.first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_le_bytes(*len);
        let max = message_max(self.class, self.side);
        let too_long = |max: usize| WireError::TooLong { len: u64::from(announced), max };
        let len = usize::try_from(announced).ok().filter(|len| *len <= max).ok_or_else(|| too_long(max))?;
        if len == 0 {
            return Err(WireError::Unexpected(0));
        }
        let Some(&kind) = rest.get(4) else { return Ok(None) };
        let max = body_max(self.class, self.side, kind).ok_or(WireError::Unexpected(kind))? + 1;
        if len > max {
            return Err(too_long(max));
        }
        Ok(Some((len, kind)))
    }

    /// When the message that has begun must be complete.
    pub fn deadline(&self) -> Option<Moment> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let len = rest.first_chunk::<4>().map_or(0, |len| u64::from(u32::from_le_bytes(*len)));
        let len = len.min(message_max(self.class, self.side) as u64);
        Some(self.since? + MESSAGE_TIME + Duration::from_millis(len * 1000 / RATE_MIN))
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no message has begun.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;

    fn inbox() -> Inbox {
        Inbox::new(Class::Bulk, Side::Answerer)
    }

    /// What comes out of bytes that come in pieces of a length; nothing stays behind.
    fn in_pieces(bytes: &[u8], piece: usize) -> Vec<Message> {
        let mut inbox = inbox();
        let mut got = Vec::new();
        for bytes in bytes.chunks(piece) {
            inbox.push(bytes, second(0));
            while let Some(message) = inbox.next(second(0)).expect("good") {
                got.push(message);
            }
        }
        assert_eq!((inbox.len(), inbox.deadline()), (0, None), "in pieces of {piece}");
        got
    }

    #[test]
    fn long_messages_come_out_however_they_are_cut() {
        let frame = |len: usize| Message::Frame((0..=250).cycle().take(len).collect());
        let messages =
            [frame(LONG - 2), Message::Absent, frame(LONG - 1), frame(LONG), frame(5 * LONG), Message::Absent];
        let bytes: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        for piece in [1000, LONG - 1, LONG, 3 * LONG, bytes.len()] {
            assert!(in_pieces(&bytes, piece) == messages, "in pieces of {piece}");
        }
    }

    fn second(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let messages =
            [Message::Absent, Message::WalkEnd { count: 7 }, Message::Refused(Refusal::Base), Message::Absent];
        let bytes: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        for piece in 1..bytes.len() {
            assert_eq!(in_pieces(&bytes, piece), messages, "in pieces of {piece}");
        }
    }

    /// P5: nothing is kept for a length that is out of bounds, whatever the length.
    #[test]
    fn lengths_are_refused_before_anything_is_kept() {
        for len in [u32::MAX, 0x8000_0000, 1_200_186, 0] {
            let mut inbox = inbox();
            inbox.push(&len.to_le_bytes(), second(0));
            assert!(inbox.next(second(0)).is_err(), "{len}");
            assert!(inbox.len() <= 4);
        }
        // Within the limit of the stream, and not of the type.
        let mut inbox = inbox();
        inbox.push(&[&1000u32.to_le_bytes()[..], &[20]].concat(), second(0));
        assert_eq!(inbox.next(second(0)), Err(WireError::TooLong { len: 1000, max: 9 }));
    }

    #[test]
    fn what_may_not_come_is_refused_by_its_type() {
        for (class, side, message) in [
            (Class::Bulk, Side::Asker, Message::Absent),
            (Class::Bulk, Side::Answerer, Message::Call { number: 1, topic: 1, body: vec![] }),
            (Class::Raft, Side::Answerer, Message::GetEnd { sent: 1 }),
        ] {
            let mut inbox = Inbox::new(class, side);
            inbox.push(&message.encode(), second(0));
            assert_eq!(inbox.next(second(0)), Err(WireError::Unexpected(message.kind())));
        }
    }

    /// P6: a byte now and then does not keep a message open.
    #[test]
    fn a_message_has_a_deadline_from_its_first_byte_on() {
        let mut inbox = inbox();
        assert_eq!(inbox.deadline(), None);
        let frame = Message::Frame(vec![0; 640 << 10]).encode();
        inbox.push(&frame[..1], second(5));
        assert_eq!(inbox.deadline(), Some(second(15)), "the length is not known");
        inbox.push(&frame[1..10], second(9));
        assert_eq!(inbox.next(second(9)), Ok(None));
        assert_eq!(inbox.deadline(), Some(second(25)), "ten seconds more for 640 KiB");
        inbox.push(&frame[10..], second(11));
        assert!(matches!(inbox.next(second(11)), Ok(Some(Message::Frame(_)))));
        assert_eq!(inbox.deadline(), None);
    }
}
