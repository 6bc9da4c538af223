//! What stands at a path of the working copy, as an entry.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use filesync_cas::vfs::{Open, Vfs, VfsFile};
use filesync_cas::{Chunker, ContentHash};
use filesync_merkle::{Attrs, ChunkId, Content, Entry, ListBuilder, Mode, Node, NodeSource, RepoPath};

use crate::ingest::{attrs_id, read_attrs};
use crate::objects::IdsOnly;
use crate::recut::same_bytes;
use crate::scan::{Kind, Stat, open_file};
use crate::worktree::{look, os_path, stat_of};

/// How often a file that changes under the reader is read.
const TRIES: usize = 3;
/// Bytes read at a time.
const WINDOW: usize = 1 << 20;

/// What stands at a path.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory(Stat),
    /// A file or symlink, and the stat that the entry stands for.
    Leaf(Entry, Stat),
    /// A FIFO, socket or device, or something that cannot be read.
    Other(Stat),
}

/// How the ids of a file are found.
#[derive(Clone, Copy)]
pub struct Cut<'a> {
    pub chunker: Chunker,
    /// Has the lists of what is known.
    pub nodes: &'a dyn NodeSource,
    /// What a file may be still, however that was cut: then it has that content.
    pub known: [Option<&'a Entry>; 2],
}

/// Reads what stands at a path: a file whole, to have its ids. Nothing is stored.
pub fn read(work: &dyn Vfs, root: BorrowedFd<'_>, cut: Cut<'_>, path: &RepoPath) -> io::Result<Found> {
    let at = os_path(path);
    let Some(stat) = look(work, at)? else { return Ok(Found::Nothing) };
    match stat.kind {
        Kind::Directory => Ok(Found::Directory(stat)),
        Kind::Other => Ok(Found::Other(stat)),
        Kind::File | Kind::Symlink => match read_leaf(work, cut, at, &stat) {
            Ok((entry, stat)) if stat.kind == Kind::Symlink => Ok(Found::Leaf(entry, stat)),
            Ok((mut entry, stat)) => match attrs_at(root, path).and_then(|attrs| attrs_id(attrs.as_ref())) {
                Ok(attrs) => {
                    entry.attrs = attrs;
                    Ok(Found::Leaf(entry, stat))
                }
                Err(_) => Ok(Found::Other(stat)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
            Err(_) => Ok(Found::Other(stat)),
        },
    }
}

/// The entry of a file or symlink, but for its attributes.
pub fn read_leaf(work: &dyn Vfs, cut: Cut<'_>, at: &Path, stat: &Stat) -> io::Result<(Entry, Stat)> {
    if stat.kind == Kind::Symlink {
        let target = work.read_link(at)?.into_encoded_bytes().into();
        let node = Node::Symlink { mtime: stat.mtime, target };
        return Ok((Entry { mode: Mode::SYMLINK, attrs: None, node }, *stat));
    }
    for _ in 0..TRIES {
        let file = work.open(at, Open::Read)?;
        let before = stat_of(&file.stat()?);
        let content = content(&*file, before.size, cut)?;
        let after = stat_of(&file.stat()?);
        if let Some(content) = content
            && before == after
        {
            let node = Node::File { mtime: after.mtime, size: after.size, content };
            return Ok((Entry { mode: after.permissions(), attrs: None, node }, after));
        }
    }
    Err(io::Error::other("it changes while it is read"))
}

/// Where the bytes of a file would be; nothing if it has another size.
fn content(file: &dyn VfsFile, size: u64, cut: Cut<'_>) -> io::Result<Option<Content>> {
    let Cut { chunker, nodes, known } = cut;
    let window = WINDOW.max(2 * chunker.sizes().max as usize);
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1).min(window)];
    let mut whole = blake3::Hasher::new();
    let mut list = ListBuilder::new();
    let (mut have, mut at) = (0, 0);
    loop {
        have += read_fully(file, &mut buffer[have..], at + have as u64)?;
        let last = at + have as u64 >= size;
        if (have < buffer.len() && !last) || at + have as u64 > size {
            return Ok(None);
        }
        let mut cuts = Vec::new();
        let used = chunker.cut(&buffer[..have], last, |len| cuts.push(len));
        let mut from = 0;
        for len in cuts {
            let id = ChunkId(ContentHash::of_chunk(&buffer[from..from + len]));
            let len32 = u32::try_from(len).unwrap_or(u32::MAX);
            list.push(&mut IdsOnly, id, len32).map_err(|error| io::Error::other(error.to_string()))?;
            from += len;
        }
        whole.update(&buffer[..used]);
        if last {
            let whole = ContentHash::from_bytes(*whole.finalize().as_bytes());
            let content = list.finish(&mut IdsOnly, *whole.as_bytes());
            let content = content.map_err(|error| io::Error::other(error.to_string()))?;
            for known in known.into_iter().flatten() {
                let read_at = &mut |buffer: &mut [u8], offset| read_fully(file, buffer, offset);
                if let Some(known) = same_bytes(nodes, known, size, content, &whole, read_at)? {
                    return Ok(Some(known));
                }
            }
            return Ok(Some(content));
        }
        buffer.copy_within(used..have, 0);
        (have, at) = (have - used, at + used as u64);
    }
}

fn read_fully(file: &dyn VfsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The attributes of a file; none if there is none there.
pub fn attrs_at(root: BorrowedFd<'_>, path: &RepoPath) -> io::Result<Option<Attrs>> {
    match open_file(root, path) {
        Ok((file, _)) => read_attrs(&file),
        // A model of a disk has no descriptors.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
