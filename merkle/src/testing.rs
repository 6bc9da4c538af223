//! For tests, here and elsewhere: a store in memory, random trees, hostile nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use filesync_cas::{ContentHash, GetError, Kind, PutError};

use crate::edit::TreeEditor;
use crate::entry::{Content, Entry, Mode, Node, Timestamp, TreeLink};
use crate::id::{AttrsId, ChunkId, ListId};
use crate::path::Name;
use crate::schema::{identify, object_len_max};
use crate::source::{NodeSink, NodeSource};

type Object = (Kind, Arc<[u8]>);

/// Objects in memory. `&MemoryStore` is a sink too, so that one store can be read and written at a time.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<HashMap<ContentHash, Object>>,
    gets: AtomicU64,
    puts: AtomicU64,
    new_nodes: AtomicU64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects were asked for so far.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    /// How many objects were put so far, again and again or not.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// How many of them were new.
    pub fn new_nodes(&self) -> u64 {
        self.new_nodes.load(Ordering::Relaxed)
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        for count in [&self.gets, &self.puts, &self.new_nodes] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// All objects.
    pub fn objects(&self) -> Vec<(ContentHash, Kind, Arc<[u8]>)> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().map(|(id, (kind, bytes))| (*id, *kind, Arc::clone(bytes))).collect()
    }

    /// Loses an object.
    pub fn remove(&self, id: &ContentHash) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Takes bytes as they are, under their true id: hostile nodes too.
    pub fn insert(&self, kind: Kind, bytes: &[u8]) -> ContentHash {
        let id = identify(kind, bytes);
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        self.puts.fetch_add(1, Ordering::Relaxed);
        objects.entry(id).or_insert_with(|| {
            self.new_nodes.fetch_add(1, Ordering::Relaxed);
            (kind, bytes.into())
        });
        id
    }
}

impl NodeSource for MemoryStore {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match objects.get(id) {
            Some((found, bytes)) if *found == kind => Ok(Arc::clone(bytes)),
            Some((found, _)) => Err(GetError::WrongKind { id: *id, wanted: kind, found: *found }),
            None => Err(GetError::Missing(*id)),
        }
    }
}

impl NodeSink for &MemoryStore {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        if bytes.len() > object_len_max(kind) {
            return Err(PutError::Unstorable { kind, len: bytes.len() });
        }
        Ok(self.insert(kind, bytes))
    }
}

impl NodeSink for MemoryStore {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        (&*self).put(kind, bytes)
    }
}

/// Random numbers from a seed (SplitMix64): the same everywhere, and good enough for tests.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.u64() % end
    }

    /// Any 32 bytes.
    pub fn id(&mut self) -> [u8; 32] {
        let mut id = [0; 32];
        id.chunks_exact_mut(8).for_each(|to| to.copy_from_slice(&self.u64().to_le_bytes()));
        id
    }

    /// Any bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u64().to_le_bytes()[0]).collect()
    }
}

/// A random valid name; a small `variety` gives the same ones again and again.
pub fn random_name(rng: &mut Rng, variety: u64) -> Name {
    let number = rng.below(variety);
    let mut bytes = format!("{:x}-", number.wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF).into_bytes();
    let len = 1 + usize::try_from(number % 23).unwrap_or(0);
    bytes.extend(Rng::new(number).bytes(len).iter().map(|byte| b'a' + byte % 26));
    Name::new(&bytes).expect("hex digits and letters are a name")
}

/// A random file or symlink. What it refers to exists nowhere.
pub fn random_entry(rng: &mut Rng) -> Entry {
    let secs = i64::try_from(rng.below(4_000_000_000)).unwrap_or(0) - 2_000_000_000;
    let nanos = u32::try_from(rng.below(1_000_000_000)).unwrap_or(0);
    let mtime = Timestamp::new(secs, nanos).unwrap_or_default();
    let attrs = (rng.below(10) == 0).then(|| AttrsId::from_bytes(rng.id()));
    let mode = [0o644, 0o755, 0o600, 0o444][usize::try_from(rng.below(4)).unwrap_or(0)];
    let mode = Mode::new(mode).unwrap_or(Mode::FILE);
    let (size, content) = match rng.below(8) {
        0 => {
            let len = 1 + usize::try_from(rng.below(60)).unwrap_or(0);
            let target = vec![b't'; len].into();
            return Entry { mode: Mode::SYMLINK, attrs, node: Node::Symlink { mtime, target } };
        }
        1 => (0, Content::Empty),
        2 => (2 + rng.below(1 << 40), Content::List { root: ListId::from_bytes(rng.id()), height: 1 }),
        _ => (1 + rng.below(1 << 20), Content::Chunk(ChunkId::from_bytes(rng.id()))),
    };
    Entry { mode, attrs, node: Node::File { mtime, size, content } }
}

/// Builds one directory from scratch.
pub fn build_dir(store: &MemoryStore, entries: &BTreeMap<Name, Entry>) -> TreeLink {
    let mut editor = TreeEditor::new(store, None);
    for (name, entry) in entries {
        editor.upsert(&mut &*store, name.clone(), entry.clone()).expect("entries are in order");
    }
    editor.finish(&mut &*store).expect("memory does not fail")
}

/// A random tree: `width` entries in each directory, of which some are directories down to `depth`.
pub fn random_tree(store: &MemoryStore, rng: &mut Rng, depth: u32, width: u64) -> TreeLink {
    let mut entries = BTreeMap::new();
    for _ in 0..rng.below(width + 1) {
        let name = random_name(rng, 1 << 40);
        let entry = match depth > 0 && rng.below(4) == 0 {
            true => Entry::directory(Mode::DIRECTORY, random_tree(store, rng, depth - 1, width)),
            false => random_entry(rng),
        };
        entries.insert(name, entry);
    }
    build_dir(store, &entries)
}

/// The bytes of nodes as somebody hostile would write them: nothing is checked, sums and counts are what is given.
pub mod raw {
    use crate::codec::Writer;
    use crate::entry::Totals;

    fn name_to(out: &mut Writer, name: &[u8]) {
        out.len_u16(name.len());
        out.bytes(name);
    }

    /// Any entry; `rest` is what comes after the mode.
    pub fn entry(name: &[u8], kind: u8, flags: u8, mode: u16, rest: &[u8]) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        name_to(&mut out, name);
        out.u8(kind);
        out.u8(flags);
        out.u16(mode);
        out.bytes(rest);
        out.finish()
    }

    /// A file of one chunk.
    pub fn file(name: &[u8], mode: u16, size: u64, chunk: &[u8; 32]) -> Vec<u8> {
        let kind = if mode & 0o100 == 0 { 1 } else { 2 };
        entry(name, kind, 0, mode, &[&[0; 12], size.to_le_bytes().as_slice(), &[1], chunk].concat())
    }

    /// A file of several chunks.
    pub fn large_file(name: &[u8], mode: u16, size: u64, list: &[u8; 32], height: u8) -> Vec<u8> {
        let kind = if mode & 0o100 == 0 { 1 } else { 2 };
        entry(name, kind, 0, mode, &[&[0; 12], size.to_le_bytes().as_slice(), &[2], list, &[height]].concat())
    }

    /// A symlink.
    pub fn symlink(name: &[u8], target: &[u8]) -> Vec<u8> {
        let mut rest = Writer::with_capacity(64);
        rest.bytes(&[0; 12]);
        name_to(&mut rest, target);
        entry(name, 3, 0, 0, &rest.finish())
    }

    /// A directory.
    pub fn directory(name: &[u8], mode: u16, id: &[u8; 32], height: u8, totals: Totals) -> Vec<u8> {
        let mut rest = Writer::with_capacity(64);
        rest.bytes(id);
        rest.u8(height);
        totals.encode(&mut rest);
        entry(name, 4, 0, mode, &rest.finish())
    }

    /// A link.
    pub fn link(last: &[u8], id: &[u8; 32], entries: u64, totals: Totals) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        name_to(&mut out, last);
        out.bytes(id);
        out.u64(entries);
        totals.encode(&mut out);
        out.finish()
    }

    /// A node of a tree made of entries (level 0) or links.
    pub fn tree(level: u8, items: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        out.bytes(&[1, level, 0, 0]);
        out.len_u32(items.len());
        items.iter().for_each(|item| out.bytes(item));
        out.finish()
    }

    /// A node of a list; `root` is size and hash of the file.
    pub fn list(level: u8, root: Option<(u64, [u8; 32])>, items: &[([u8; 32], u64)]) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        out.bytes(&[1, level, u8::from(root.is_some()), 0]);
        out.len_u32(items.len());
        if let Some((size, hash)) = root {
            out.u64(size);
            out.bytes(&hash);
        }
        for (id, len) in items {
            out.bytes(id);
            let len = len.to_le_bytes();
            out.bytes(if level == 0 { &len[..4] } else { &len });
        }
        out.finish()
    }
}
