//! Answerers that lie, stall, flood or break off: rows P8 to P16, P22 and P23 of the threat model. Whatever they do, nothing
//! wrong is stored, and an honest one beside them is enough.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use filesync_cas::frame::{HEADER_LEN, SLOT_LEN};
use filesync_cas::hash::check16;
use filesync_cas::relay::{FramePacker, StoredFrame};
use filesync_cas::testing::{assert_caught, seeds};
use filesync_cas::{Codec, ContentHash, Kind};
use filesync_merkle::list::{ListItem, ListRoot};
use filesync_merkle::testing::{MemoryStore, build_dir, raw};
use filesync_merkle::{
    COMMIT, Commit, Entry, ListNode, Mode, Name, NodeSource, TREE, Timestamp, Totals, TreeId, TreeLink,
};
use filesync_p2p::message::{Message, Nodes, Side, Welcome};
use filesync_p2p::testing::{Remote, Scripted};
use filesync_p2p::wire::{Inbox, Moment};
use filesync_p2p::{Class, Refusal};

use super::*;

/// An honest answerer whose messages pass through a lie.
struct Lying<F> {
    inner: Honest,
    inbox: Inbox,
    lie: F,
    out: VecDeque<Vec<u8>>,
}

impl<F: FnMut(Message) -> Vec<Vec<u8>>> Remote for Lying<F> {
    fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.inner.receive(bytes, now);
    }

    fn turn(&mut self, now: Moment) -> Result<Option<Vec<u8>>, String> {
        while self.out.is_empty() {
            let Some(bytes) = self.inner.turn(now)? else { return Ok(None) };
            self.inbox.push(&bytes, now);
            while let Some(message) = self.inbox.next(now).map_err(|error| error.to_string())? {
                self.out.extend((self.lie)(message));
            }
        }
        Ok(self.out.pop_front())
    }

    fn deadline(&self) -> Option<Moment> {
        self.inner.deadline()
    }
}

fn lying<F: FnMut(Message) -> Vec<Vec<u8>>>(repo: &Repo, lie: F) -> Lying<F> {
    let inner = Honest::new(everything(), Arc::clone(&repo.store), US);
    Lying { inner, inbox: Inbox::new(Class::Bulk, Side::Answerer), lie, out: VecDeque::new() }
}

/// Everything that is here is whole, and is there too.
#[track_caller]
fn nothing_wrong_is_stored(here: &Repo, there: &Repo) {
    let report = here
        .store
        .check_packs(filesync_cas::fsck::Depth::Objects, &|_, _| std::ops::ControlFlow::Continue(()))
        .expect("read");
    assert!(report.bad.is_empty() && report.findings.is_empty(), "{report:?}");
    let all = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([255; 32]));
    let mut ids = Vec::new();
    let visit = &mut |id, _| {
        ids.push(id);
        std::ops::ControlFlow::Continue(())
    };
    here.store.each_id(&all.0, &all.1, visit).expect("the index can be read");
    for id in ids {
        assert!(there.store.locate(&id).expect("looked up").is_some(), "{id} was never asked for");
    }
}

/// A liar alone is blamed and gives nothing; beside an honest one it does not matter.
#[track_caller]
fn is_blamed<F: FnMut(Message) -> Vec<Vec<u8>> + 'static>(name: &str, lie: impl Fn() -> F) {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 40), &[]);
    let alone = Repo::new();
    let mut net = Net::new(me(), 1);
    net.connect(peer(1), Line::default(), lying(&there, lie()));
    let (result, _) = fetch(&mut net, &alone, whole(head, None));
    assert!(matches!(result, Err(FetchError::NoPeers { .. })), "{name}: {result:?}");
    assert_eq!(net.blamed.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [peer(1)], "{name}");
    nothing_wrong_is_stored(&alone, &there);

    let here = Repo::new();
    let mut net = Net::new(me(), 1);
    net.connect(peer(1), Line::default(), lying(&there, lie()));
    honest(&mut net, peer(2), Line::default(), &there);
    let (result, _) = fetch(&mut net, &here, whole(head, None));
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
    here.check(head);
    assert!(net.now() < Duration::from_secs(20), "{name}: {:?}", net.now());
}

/// Changes one sort of message, and lets the others pass.
fn change<F>(mut of: F) -> impl FnMut(Message) -> Vec<Vec<u8>>
where
    F: FnMut(&Message) -> Option<Vec<Message>>,
{
    move |message| match of(&message) {
        Some(messages) => messages.iter().map(Message::encode).collect(),
        None => vec![message.encode()],
    }
}

/// P8: bytes that do not have the hash, under checks that fit.
fn forged(frame: &[u8]) -> Vec<u8> {
    let frame = StoredFrame::parse(frame.to_vec()).expect("a good frame");
    let mut packer = FramePacker::new(Codec::Zstd);
    for slot in frame.slots() {
        packer.push(slot.id, slot.kind, &vec![b'x'; slot.len as usize]);
    }
    packer.finish().expect("encodes")
}

#[test]
fn a_hash_that_is_trusted() {
    let mistake = "a hash that is trusted";
    assert_caught(mistake, "hostile::chunks_that_are_not_what_was_asked_for", "forged: Ok(");
    assert_caught(mistake, "hostile::flipped_bits_anywhere", "its bytes do not have its hash");
}

#[test]
fn chunks_that_are_not_what_was_asked_for() {
    is_blamed("forged", || {
        change(|message| match message {
            Message::Frame(frame) => Some(vec![Message::Frame(forged(frame))]),
            _ => None,
        })
    });
    is_blamed("a flipped bit", || {
        change(|message| match message {
            Message::Frame(frame) => {
                let mut frame = frame.clone();
                let at = frame.len() - 3;
                frame[at] ^= 1;
                Some(vec![Message::Frame(frame)])
            }
            _ => None,
        })
    });
    is_blamed("something else", || {
        change(|message| match message {
            Message::Frame(_) => {
                let mut packer = FramePacker::new(Codec::None);
                packer.push(ContentHash::of_chunk(b"gift"), Kind::CHUNK, b"gift");
                Some(vec![Message::Frame(packer.finish().expect("encodes"))])
            }
            _ => None,
        })
    });
    is_blamed("twice", || {
        change(|message| match message {
            Message::Frame(_) => Some(vec![message.clone(), message.clone()]),
            _ => None,
        })
    });
}

/// A frame's header and table with checks that fit, over any payload.
fn frame(compressed: bool, raw_len: u32, payload: &[u8], slots: &[(ContentHash, u8, u32)]) -> Vec<u8> {
    let mut bytes = b"FSfr\x01".to_vec();
    bytes.extend_from_slice(&[u8::from(compressed), 0, 0]);
    bytes.extend_from_slice(&raw_len.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(payload.len()).expect("short").to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(slots.len()).expect("few").to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&check16(&[payload]));
    let mut table = Vec::new();
    for (id, kind, len) in slots {
        table.extend_from_slice(id.as_bytes());
        table.push(*kind);
        table.extend_from_slice(&len.to_le_bytes());
    }
    let check = check16(&[&bytes, &table]);
    bytes.extend_from_slice(&check);
    assert_eq!((bytes.len(), table.len()), (HEADER_LEN, slots.len() * SLOT_LEN));
    [bytes, table, payload.to_vec()].concat()
}

/// P9, P10: what decompresses to more than was said, in every place where something is compressed.
#[test]
fn bombs() {
    let bomb = zstd::bulk::compress(&vec![0; 200 << 20], 3).expect("compressed");
    assert!(bomb.len() < 20_000);
    let payload = bomb.clone();
    is_blamed("nodes", move || {
        let payload = payload.clone();
        change(move |message| match message {
            Message::Nodes(_) => {
                Some(vec![Message::Nodes(Nodes { lens: vec![30_000; 2], compressed: true, payload: payload.clone() })])
            }
            _ => None,
        })
    });
    let payload = bomb;
    is_blamed("frames", move || {
        let payload = payload.clone();
        change(move |message| match message {
            Message::Frame(bytes) => {
                let good = StoredFrame::parse(bytes.clone()).expect("good");
                let slot = good.slots().iter().find(|slot| slot.len as usize > payload.len())?;
                Some(vec![Message::Frame(frame(true, slot.len, &payload, &[(slot.id, slot.kind.0, slot.len)]))])
            }
            _ => None,
        })
    });
}

#[test]
fn walks_that_are_not_the_walk() {
    is_blamed("too early an end", || {
        change(|message| match message {
            Message::Nodes(_) => Some(vec![Message::WalkEnd { count: 0 }]),
            _ => None,
        })
    });
    is_blamed("a wrong count", || {
        change(|message| match message {
            Message::WalkEnd { count } => Some(vec![Message::WalkEnd { count: count + 1 }]),
            _ => None,
        })
    });
    is_blamed("more than there is", || {
        change(|message| match message {
            Message::WalkEnd { .. } => Some(vec![Message::Absent, message.clone()]),
            _ => None,
        })
    });
    is_blamed("another object", || {
        change(|message| match message {
            Message::Nodes(_) => {
                let nodes = Nodes { lens: vec![3], compressed: false, payload: b"abc".to_vec() };
                Some(vec![Message::Nodes(nodes)])
            }
            _ => None,
        })
    });
    is_blamed("a difference to nothing", || {
        change(|message| match message {
            Message::Nodes(_) => Some(vec![Message::Delta { len: 5, payload: vec![1; 5] }]),
            _ => None,
        })
    });
    is_blamed("a frame instead", || {
        change(|message| match message {
            Message::Nodes(_) => Some(vec![Message::GetEnd { sent: 0 }]),
            _ => None,
        })
    });
    is_blamed("a wrong count of objects", || {
        change(|message| match message {
            Message::GetEnd { sent } => Some(vec![Message::GetEnd { sent: sent + 1 }]),
            _ => None,
        })
    });
    is_blamed("a second welcome", || {
        change(|message| match message {
            Message::Nodes(_) => {
                Some(vec![Message::Welcome(Welcome { version: 1, epoch: 1, nonce: 1 }), message.clone()])
            }
            _ => None,
        })
    });
}

/// P8, P10: good frames, of what is wanted and of what is not, and ends of answers, before anybody asked.
#[test]
fn what_comes_unasked() {
    let packed = |bytes: &[u8]| {
        let mut packer = FramePacker::new(Codec::Zstd);
        packer.push(ContentHash::of_chunk(bytes), Kind::CHUNK, bytes);
        Message::Frame(packer.finish().expect("encodes"))
    };
    let files = some_tree(1, 40);
    let wanted = files.values().find(|bytes| !bytes.is_empty()).expect("there are files");
    for unasked in [packed(wanted), packed(b"gift"), Message::GetEnd { sent: 0 }, Message::GetEnd { sent: u32::MAX }] {
        is_blamed("unasked", || {
            let unasked = unasked.clone();
            change(move |message| match message {
                Message::Welcome(_) => Some(vec![message.clone(), unasked.clone()]),
                _ => None,
            })
        });
    }
    is_blamed("a walk once more", || {
        change(|message| match message {
            Message::Frame(_) => Some(vec![Message::WalkEnd { count: u64::MAX }, message.clone()]),
            _ => None,
        })
    });
}

/// P5: announced lengths of any size.
#[test]
fn announced_lengths() {
    for bytes in [vec![0xFF; 4], vec![0; 4], 1_200_187u32.to_le_bytes().to_vec(), vec![9, 0, 0, 0, 77]] {
        is_blamed("a length", || {
            let bytes = bytes.clone();
            move |message: Message| match message {
                Message::Frame(_) => vec![bytes.clone()],
                message => vec![message.encode()],
            }
        });
    }
}

/// P11: "I have it", and then it lacks everything, or says so of every second object, or refuses.
#[test]
fn who_has_nothing_is_no_liar_and_no_help() {
    type Lie = fn(&Message) -> Option<Vec<Message>>;
    let lies: [(&str, Lie); 4] = [
        ("absent", |message| match message {
            Message::Nodes(_) => Some(vec![Message::Absent]),
            Message::WalkEnd { .. } => Some(vec![Message::WalkEnd { count: 1 }]),
            _ => None,
        }),
        ("no frames", |message| match message {
            Message::Frame(_) => Some(vec![]),
            Message::GetEnd { .. } => Some(vec![Message::GetEnd { sent: 0 }]),
            _ => None,
        }),
        ("refused", |message| match message {
            Message::Nodes(_) => Some(vec![Message::Refused(Refusal::Nothing)]),
            Message::WalkEnd { .. } => Some(vec![]),
            _ => None,
        }),
        ("failed", |message| match message {
            Message::Frame(_) => Some(vec![]),
            Message::GetEnd { .. } => Some(vec![Message::Refused(Refusal::Failed)]),
            _ => None,
        }),
    ];
    for (name, lie) in lies {
        let there = Repo::new();
        let head = there.commit(&some_tree(1, 40), &[]);
        let mut net = Net::new(me(), 1);
        net.connect(peer(1), Line::default(), lying(&there, change(lie)));
        let (result, _) = fetch(&mut net, &Repo::new(), whole(head, None));
        assert!(matches!(result, Err(FetchError::Missing(_))), "{name}: {result:?}");
        assert_eq!(net.blamed, [], "{name}");
        let here = Repo::new();
        let mut net = Net::new(me(), 1);
        net.connect(peer(1), Line::default(), lying(&there, change(lie)));
        honest(&mut net, peer(2), Line::default(), &there);
        fetch(&mut net, &here, whole(head, None)).0.unwrap_or_else(|error| panic!("{name}: {error}"));
        here.check(head);
    }
}

/// P6, P11: silence ends within a bounded time.
#[test]
fn who_says_nothing_is_left() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 5), &[]);
    for speaks in [false, true] {
        let mut net = Net::new(me(), 1);
        let script = move |message| match message {
            Message::Hello(_) if speaks => vec![Message::Welcome(Welcome { version: 1, epoch: 1, nonce: 1 }).encode()],
            _ => vec![],
        };
        net.connect(peer(1), Line::default(), Scripted::new(script));
        let (result, _) = fetch(&mut net, &Repo::new(), whole(head, None));
        assert!(matches!(result, Err(FetchError::NoPeers { .. })), "{result:?}");
        assert!(net.now() <= Duration::from_secs(11), "{:?}", net.now());
    }
}

fn commit(tree: TreeLink) -> (CommitId, Vec<u8>) {
    let commit = Commit {
        parents: vec![],
        tree,
        time: Timestamp::default(),
        author: "somebody".to_owned(),
        message: String::new(),
        node: [0; 32],
        signature: [0; 64],
    };
    let bytes = commit.encode().expect("a commit");
    (commit.id().expect("a commit"), bytes)
}

/// P14, P16, P22: objects with the right hash that are no good condemn the commit, and not who passes them on.
#[test]
fn bad_objects_condemn_the_commit() {
    let unsorted = raw::tree(0, &[raw::file(b"b", 0o644, 5, &[1; 32]), raw::file(b"a", 0o644, 5, &[1; 32])]);
    let twice = raw::tree(0, &[raw::file(b"a", 0o644, 5, &[1; 32]), raw::file(b"a", 0o644, 5, &[1; 32])]);
    let escape = raw::tree(0, &[raw::file(b"..", 0o644, 5, &[1; 32])]);
    let inside = raw::tree(0, &[raw::file(b".FileSync", 0o644, 5, &[1; 32])]);
    let good = raw::tree(0, &[raw::file(b"a", 0o644, 5, &[1; 32])]);
    let trailing = [&good[..], b"x"].concat();
    // A file of very many chunks of one byte: in one node, and in nodes that would each do as the end of a file.
    let list_id = |bytes: &[u8]| ContentHash::of_metadata("filesync list v1", bytes);
    let node = |level, items: Vec<ListItem>, root| ListNode { level, root, items }.encode();
    let short = |at: u64| ListItem { id: ContentHash::of_chunk(&at.to_le_bytes()), len: 1 };
    let root = |size| Some(ListRoot { size, file_hash: [3; 32] });
    let flat = node(0, (0..1000).map(short).collect(), root(1000));
    let of_flat = raw::tree(0, &[raw::large_file(b"a", 0o644, 1000, list_id(&flat).as_bytes(), 0)]);
    let leaves: Vec<Vec<u8>> = (0..64).map(|at| node(0, vec![short(at)], None)).collect();
    let links = leaves.iter().map(|leaf| ListItem { id: list_id(leaf), len: 1 });
    let tall = node(1, links.collect(), root(64));
    let of_tall = raw::tree(0, &[raw::large_file(b"a", 0o644, 64, list_id(&tall).as_bytes(), 1)]);
    let tall = [vec![tall], leaves].concat();
    let totals = |files, bytes| Totals { files, directories: 0, bytes };
    for (tree, lists, totals) in [
        (unsorted, vec![], totals(2, 10)),
        (twice, vec![], totals(2, 10)),
        (escape, vec![], totals(1, 5)),
        (inside, vec![], totals(1, 5)),
        (trailing, vec![], totals(1, 5)),
        (good, vec![], totals(1 << 60, 5)),
        (of_flat, vec![flat], totals(1, 1000)),
        (of_tall, tall, totals(1, 64)),
    ] {
        let id = ContentHash::of_metadata("filesync tree v1", &tree);
        let (head, commit) = commit(TreeLink { id: TreeId(id), height: 0, totals });
        let here = Repo::new();
        let mut net = Net::new(me(), 1);
        let told: Vec<Vec<u8>> = [commit, tree].into_iter().chain(lists).collect();
        net.connect(peer(1), Line::default(), Scripted::new(move |message| tells(&told, message)));
        let (result, _) = fetch(&mut net, &here, whole(head, None));
        assert!(matches!(result, Err(FetchError::Tour(_))), "{result:?}");
        assert_eq!(net.blamed, []);
        assert!(here.store.get(TREE, &id).is_err() && here.store.get(COMMIT, &head.0).is_err(), "it is not stored");
    }
}

/// Answers a walk with these objects, in this order.
fn tells(told: &[Vec<u8>], message: Message) -> Vec<Vec<u8>> {
    let nodes = |of: &[Vec<u8>]| {
        let lens = of.iter().map(|bytes| u32::try_from(bytes.len()).expect("short")).collect();
        Message::Nodes(Nodes { lens, compressed: false, payload: of.concat() }).encode()
    };
    match message {
        Message::Hello(_) => vec![Message::Welcome(Welcome { version: 1, epoch: 1, nonce: 1 }).encode()],
        Message::Walk(walk) => {
            let from = usize::try_from(walk.from).expect("few");
            let end = Message::WalkEnd { count: told.len() as u64 };
            told[from.min(told.len())..].chunks(500).map(nodes).chain([end.encode()]).collect()
        }
        _ => vec![],
    }
}

/// P14: ten levels of ten links to one directory are billions of paths, and eleven objects.
#[test]
fn bombs_of_links_take_as_much_as_their_objects() {
    let trees = MemoryStore::new();
    let mut link = build_dir(&trees, &BTreeMap::new());
    let mut told = vec![trees.get(TREE, &link.id.0).expect("built").to_vec()];
    for _ in 0..10 {
        let entry = |n: u8| (Name::new(&[b'a' + n]).expect("a name"), Entry::directory(Mode::DIRECTORY, link));
        link = build_dir(&trees, &(0..10).map(entry).collect());
        told.push(trees.get(TREE, &link.id.0).expect("built").to_vec());
    }
    let (head, commit) = commit(link);
    told.push(commit);
    told.reverse();
    let here = Repo::new();
    let mut net = Net::new(me(), 1);
    net.connect(peer(1), Line::default(), Scripted::new(move |message| tells(&told, message)));
    let (result, stats) = fetch(&mut net, &here, whole(head, None));
    result.expect("it is fetched");
    assert!(stats.received < 20_000, "{stats:?}");
    assert!(here.store.get(TREE, &link.id.0).is_ok());
}

/// P15: a tree that is too deep is refused, and no stack overflows on the way.
#[test]
fn trees_that_are_too_deep_are_refused() {
    let trees = MemoryStore::new();
    let mut link = build_dir(&trees, &BTreeMap::new());
    let mut told = vec![trees.get(TREE, &link.id.0).expect("built").to_vec()];
    for _ in 0..100_000 {
        let entry = (Name::new(b"d").expect("a name"), Entry::directory(Mode::DIRECTORY, link));
        link = build_dir(&trees, &BTreeMap::from([entry]));
        told.push(trees.get(TREE, &link.id.0).expect("built").to_vec());
    }
    let (head, commit) = commit(link);
    told.push(commit);
    told.reverse();
    let here = Repo::new();
    let mut net = Net::new(me(), 1);
    net.connect(peer(1), Line::default(), Scripted::new(move |message| tells(&told, message)));
    let (result, stats) = fetch(&mut net, &here, whole(head, None));
    let error = result.expect_err("it is refused").to_string();
    assert!(error.contains("nested too deeply"), "{error}");
    // No more than up to there, and what was on its way.
    assert!(stats.received < 2_000_000, "{stats:?}");
}

/// Any bit of any message, anywhere: nothing wrong is stored, nothing panics, and the honest one beside is enough.
#[test]
fn flipped_bits_anywhere() {
    let there = Repo::new();
    let base = there.commit(&some_tree(1, 30), &[]);
    let mut files = some_tree(1, 30);
    files.extend(some_tree(2, 10));
    let head = there.commit(&files, &[base]);
    let mut blamed = 0;
    for seed in seeds(20_261_126, 30, 5000) {
        let mut rng = Rng::new(seed);
        let here = Repo::new();
        let mut net = Net::new(me(), seed);
        let lie = move |message: Message| {
            let mut bytes = message.encode();
            if rng.chance(1, 4) {
                let at = rng.index(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
            vec![bytes]
        };
        net.connect(peer(1), Line { piece: 10_000, ..Line::default() }, lying(&there, lie));
        honest(&mut net, peer(2), Line::default(), &there);
        let (result, _) = fetch(&mut net, &here, whole(head, None));
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        nothing_wrong_is_stored(&here, &there);
        here.check(head);
        blamed += net.blamed.len();
    }
    assert!(blamed > 10, "{blamed}: nothing was tried");
}

/// A holder with damage on its disk sends none of it, and says of nothing that it is good; the other fills the hole.
#[test]
fn damage_is_not_passed_on() {
    let (there, good, here) = (Repo::new(), Repo::new(), Repo::new());
    let head = there.commit(&some_tree(1, 80), &[]);
    good.commit(&some_tree(1, 80), &[]);
    for (name, _) in there.vfs().list(std::path::Path::new("packs")).expect("a listing") {
        let path = std::path::Path::new("packs").join(name);
        let len = there.vfs().stat(&path).expect("there").size;
        let file = there.vfs().open(&path, filesync_cas::vfs::Open::Write).expect("opened");
        for at in [len / 3, len / 2, len - 10] {
            filesync_cas::vfs::write_all_at(&*file, b"rotten", at).expect("written");
        }
    }
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    honest(&mut net, peer(2), Line::default(), &good);
    fetch(&mut net, &here, whole(head, None)).0.expect("the other has it");
    here.check(head);
    assert_eq!(net.blamed, [], "who has damage and says so is no liar");
}
