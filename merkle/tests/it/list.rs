//! Lists against the chunks that they were made of.

use filesync_cas::ContentHash;
use filesync_merkle::list::{ListItem, ListRoot};
use filesync_merkle::testing::{MemoryStore, Rng};
use filesync_merkle::{ChunkId, Content, ListBuilder, ListId, ListNode, ListReader, NodeSink, Walk};

use crate::Findings;

type Chunks = Vec<(ChunkId, u32)>;

fn build(store: &MemoryStore, chunks: &Chunks) -> Content {
    let mut builder = ListBuilder::new();
    for (id, len) in chunks {
        builder.push(&mut &*store, *id, *len).unwrap();
    }
    builder.finish(&mut &*store, [7; 32]).unwrap()
}

fn check(chunks: &Chunks) -> Option<(MemoryStore, u8)> {
    let store = MemoryStore::new();
    let size = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
    let (root, height) = match (build(&store, chunks), chunks.as_slice()) {
        (Content::Empty, []) => return None,
        (Content::Chunk(id), [(only, _)]) => {
            assert_eq!(id, *only);
            return None;
        }
        (Content::List { root, height }, [_, _, ..]) => (root, height),
        (content, _) => panic!("{content:?} of {} chunks", chunks.len()),
    };
    let reader = ListReader::new(&store, root, height, size, 0).unwrap();
    assert_eq!((reader.file_hash(), reader.size()), ([7; 32], size));
    let read: Result<Vec<_>, _> = reader.collect();
    let read = read.unwrap();
    assert!(read.iter().map(|chunk| (chunk.id, chunk.len)).eq(chunks.iter().copied()));
    for at in [1, size / 3, size / 2, size - 1] {
        let mut reader = ListReader::new(&store, root, height, size, at).unwrap();
        let chunk = reader.next().unwrap().unwrap();
        assert!(chunk.offset <= at && at < chunk.offset + u64::from(chunk.len));
        assert_eq!(
            read[read.iter().position(|other| other.offset == chunk.offset).unwrap()..].len(),
            reader.count() + 1
        );
    }
    assert_eq!(ListReader::new(&store, root, height, size, size).unwrap().count(), 0);
    assert!(ListReader::new(&store, root, height, size + 1, 0).is_err());
    assert!(ListReader::new(&store, root, height + 1, size, 0).is_err());
    let mut findings = Findings::default();
    Walk::new(&store).list(&mut findings, &root, height, size).unwrap();
    Some((store, height))
}

#[test]
fn lists_of_every_shape() {
    let mut rng = Rng::new(3);
    for count in [0, 1, 2, 63, 64, 65, 511, 512, 513, 514, 600, 1023, 1024, 1025, 2048, 5_000, 200_000] {
        let chunks =
            (0..count).map(|_| (ChunkId::from_bytes(rng.id()), 1024 + u32::try_from(rng.below(1023 << 10)).unwrap()));
        check(&chunks.collect());
    }
}

#[test]
fn a_list_whose_first_node_is_its_only_one() {
    // Ends by the rule exactly where the file ends: at 1024 chunks, or at a boundary.
    let boundary = |id: &ContentHash| {
        let mut hasher = blake3::Hasher::new_derive_key("filesync node boundary v1");
        hasher.update(&[0]).update(id.as_bytes()).finalize().as_bytes()[0] == 0
    };
    let mut rng = Rng::new(4);
    let mut chunks = Vec::new();
    while chunks.len() < 1024 {
        let id = ChunkId::from_bytes(rng.id());
        if !boundary(&id.0) {
            chunks.push((id, 2000));
        }
    }
    assert_eq!(check(&chunks).unwrap().1, 0);
    chunks.truncate(700);
    loop {
        let id = ChunkId::from_bytes(rng.id());
        if boundary(&id.0) {
            chunks.push((id, 2000));
            break;
        }
    }
    assert_eq!(check(&chunks).unwrap().1, 0);
    chunks.push((ChunkId::from_bytes(rng.id()), 2000));
    assert_eq!(check(&chunks).unwrap().1, 1);
}

#[test]
fn ten_gibibytes_of_zeros() {
    let zeros = ChunkId(ContentHash::of_chunk(&[0; 256 << 10]));
    let (store, height) = check(&vec![(zeros, 256 << 10); 40_960]).unwrap();
    println!("10 GiB of zeros: {} nodes, height {height}", store.new_nodes());
    assert!(store.new_nodes() <= 8);
    for variety in 0..2_000u64 {
        // Some of these ids are boundaries, on one level or on all.
        let id = ChunkId(ContentHash::of_chunk(&variety.to_le_bytes()));
        check(&vec![(id, 5_000); 2_000]);
    }
}

#[test]
fn two_versions_share_nodes() {
    let store = MemoryStore::new();
    let mut rng = Rng::new(5);
    let mut chunks: Chunks = (0..100_000).map(|_| (ChunkId::from_bytes(rng.id()), 65_536)).collect();
    build(&store, &chunks);
    store.reset_counts();
    chunks.insert(50_000, (ChunkId::from_bytes(rng.id()), 7_700));
    let Content::List { root, height } = build(&store, &chunks) else { panic!() };
    println!("one chunk more among 100,000: {} of {} nodes are new", store.new_nodes(), store.puts());
    assert!(store.new_nodes() <= 6);
    let mut findings = Findings::default();
    let size = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
    Walk::new(&store).list(&mut findings, &root, height, size).unwrap();
    let all = findings.nodes.len();
    chunks.remove(10);
    let Content::List { root, height } = build(&store, &chunks) else { panic!() };
    Walk::new(&store).list(&mut findings, &root, height, size - 65_536).unwrap();
    println!("a walk reads {all} nodes, and {} of the next version", findings.nodes.len() - all);
    assert!(findings.nodes.len() - all <= 12);
}

#[test]
fn chunks_are_checked() {
    let store = MemoryStore::new();
    let id = ChunkId::from_bytes([1; 32]);
    assert!(ListBuilder::new().push(&mut &store, id, 0).is_err());
    assert!(ListBuilder::new().push(&mut &store, id, (1 << 20) + 1).is_err());
    let mut builder = ListBuilder::new();
    builder.push(&mut &store, id, 1_024).unwrap();
    builder.push(&mut &store, id, 1_023).unwrap();
    assert!(builder.push(&mut &store, id, 5_000).is_err(), "the short one was the last");
}

/// Whoever sends lists could have a file cost as many objects as it has bytes.
#[test]
fn a_flood_of_short_chunks_is_refused() {
    let store = MemoryStore::new();
    let put = |node: &ListNode| ListId((&mut &store).put(ListId::KIND, &node.encode()).unwrap());
    let node = |level, lens: &[u64]| {
        let items = lens.iter().map(|len| ListItem { id: ContentHash::of_chunk(&len.to_le_bytes()), len: *len });
        ListNode { level, root: None, items: items.collect() }
    };
    let with_root = |node: ListNode| {
        let size = node.items.iter().map(|item| item.len).sum();
        ListNode { root: Some(ListRoot { size, file_hash: [7; 32] }), ..node }
    };
    for (lens, fits) in [(vec![1_024, 1], true), (vec![1_023, 2_000], false), (vec![1; 1_000], false)] {
        let decoded = ListNode::decode(&with_root(node(0, &lens)).encode());
        assert_eq!(decoded.is_ok(), fits, "{lens:?}: {decoded:?}");
    }
    // Each by itself may be the end of a file, and only one is.
    let (first, second) = (node(0, &[2_000, 10]), node(0, &[3_000]));
    let items = [(&first, 2_010), (&second, 3_000)].map(|(node, len)| ListItem { id: put(node).0, len });
    let root = with_root(ListNode { level: 1, root: None, items: items.into() });
    let read: Result<Vec<_>, _> = ListReader::new(&store, put(&root), 1, 5_010, 0).unwrap().collect();
    let error = read.unwrap_err().to_string();
    assert!(error.contains("below 1 KiB"), "{error}");
}
