//! What peers send, with bytes that are nearly right (G8, P5, P9, P16): see [`filesync_cas::testing::Fuzz`].

use bolero::check;
use filesync_cas::testing::Fuzz;

use crate::message::tests::samples;
use crate::message::{Message, NODE_LEN_MAX, NODES_LEN_MAX, Nodes, Side, body_max, message_max};
use crate::peer::Class;
use crate::walk::{open_delta, open_nodes};
use crate::wire::{Inbox, Moment};

/// Numbers at the limits of counts and lengths.
const WORDS: [&[u8]; 6] = [&[0, 4], &[0, 16], &[0, 32], &[0, 64, 0, 0], &[0, 0, 4, 0], &[0xff; 8]];

fn peak(run: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

fn body(message: &Message) -> Vec<u8> {
    message.encode()[5..].to_vec()
}

/// P16: one value has one form.
#[test]
fn messages() {
    let samples: Vec<_> = samples().iter().map(|message| [&[message.kind()][..], &body(message)].concat()).collect();
    // The last field of some is what is left. A Get may announce 256 roots, and 1024 runs of a node.
    let fuzz = Fuzz::new(&samples, peak).words(&WORDS).open_ended().room(64 << 10, 64);
    let tally = fuzz.run(check!(), |bytes| {
        let (kind, rest) = bytes.split_first()?;
        let message = Message::decode(*kind, rest.to_vec()).ok()?;
        assert_eq!(message.encoded_len(), rest.len() + 5);
        Some([&[message.kind()][..], &body(&message)].concat())
    });
    tally.reaches(10_000);
}

const SIDES: [Side; 2] = [Side::Asker, Side::Answerer];

/// What `side` may send on streams of a class, one after the other, after the class, the side, and the length of the
/// pieces that it comes in.
fn stream(class: Class, side: usize, piece: u8) -> Vec<u8> {
    let may_come = |message: &Message| body_max(class, SIDES[side], message.kind()).is_some();
    let messages = samples().into_iter().filter(may_come).flat_map(|message| message.encode());
    [class.code(), u8::from(side == 1), piece].into_iter().chain(messages).collect()
}

/// P5: whatever length is announced, no more is kept than has come, and no more of that than one message.
#[test]
fn streams() {
    let kinds = Class::ALL.into_iter().flat_map(|class| [(class, 0), (class, 1)]);
    let samples: Vec<_> = kinds.zip([250, 100, 255, 90, 64, 77, 200, 31]).collect();
    let samples: Vec<_> = samples.into_iter().map(|((class, side), piece)| stream(class, side, piece)).collect();
    let tally = Fuzz::new(&samples, peak).words(&WORDS).open_ended().room(32 << 10, 16).run(check!(), |bytes| {
        let (&[class, side, piece], rest) = bytes.split_first_chunk()?;
        let (class, side) = (Class::from_code(class)?, *SIDES.get(usize::from(side))?);
        let mut inbox = Inbox::new(class, side);
        let mut encoded = bytes[..3].to_vec();
        for piece in rest.chunks(usize::from(piece.max(16))) {
            inbox.push(piece, Moment::ZERO);
            while let Some(message) = inbox.next(Moment::ZERO).ok()? {
                encoded.extend(message.encode());
            }
            assert!(inbox.len() <= 4 + message_max(class, side) + piece.len());
        }
        // What has begun must come to its end.
        inbox.is_empty().then_some(encoded)
    });
    tally.reaches(1_000);
}

/// P9: objects of a walk, compressed together.
#[test]
fn packed_nodes() {
    let words = b"some words and some words and some words again";
    let packed = zstd::bulk::compress(words, 3).expect("compressed");
    let half = u32::try_from(words.len() / 2).expect("short");
    let all = [
        Nodes { lens: vec![half, half], compressed: true, payload: packed.clone() },
        Nodes { lens: vec![half * 2], compressed: true, payload: packed },
        Nodes { lens: vec![3, 4], compressed: false, payload: b"abcdefg".to_vec() },
    ];
    let samples = all.map(|nodes| body(&Message::Nodes(nodes)));
    let mut opened = 0u64;
    let room = (NODES_LEN_MAX + (64 << 10)) as u64;
    let tally = Fuzz::new(&samples, peak).words(&WORDS).open_ended().room(room, 64).run(check!(), |bytes| {
        let message = Message::decode(17, bytes.to_vec()).ok()?;
        let Message::Nodes(nodes) = &message else { panic!("a message of another type") };
        if let Ok(raw) = open_nodes(nodes) {
            assert_eq!(raw.len(), nodes.lens.iter().map(|len| *len as usize).sum::<usize>());
            opened += 1;
        }
        Some(body(&message))
    });
    tally.reaches(10_000);
    assert!(opened > 1_000, "only {opened} could be decompressed");
}

/// P9: an object in terms of another.
#[test]
fn deltas() {
    let dictionary = b"a node as it was before, with names, and ids, and everything ".repeat(4);
    let mut compressor = zstd::bulk::Compressor::with_dictionary(3, &dictionary).expect("zstd starts");
    let mut delta = |node: &[u8]| {
        let payload = compressor.compress(node).expect("compressed");
        body(&Message::Delta { len: u32::try_from(node.len()).expect("short"), payload })
    };
    let changed = [&dictionary[..90], b"and something new", &dictionary[90..]].concat();
    let samples = [delta(&changed), delta(&dictionary), delta(b"short")];
    let mut opened = 0u64;
    let room = (NODE_LEN_MAX + (64 << 10)) as u64;
    let tally = Fuzz::new(&samples, peak).words(&WORDS).open_ended().room(room, 64).run(check!(), |bytes| {
        let message = Message::decode(18, bytes.to_vec()).ok()?;
        let Message::Delta { len, payload } = &message else { panic!("a message of another type") };
        if let Ok(raw) = open_delta(*len, payload, &dictionary) {
            assert_eq!(raw.len(), *len as usize);
            opened += 1;
        }
        Some(body(&message))
    });
    tally.reaches(10_000);
    assert!(opened > 1_000, "only {opened} could be decompressed");
}
