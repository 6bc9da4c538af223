//! Reading one file: stat, bytes, stat again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use filesync_cas::ContentHash;
use filesync_merkle::{Attrs, AttrsId, ChunkId, Content, Entry, ListBuilder, Node, NodeSink, RepoPath};
use rustix::fs::fstat;

use super::{Ingest, Job, Read, SMALL_MAX, Sink, TRIES};
use crate::error::Error;
use crate::objects::IdsOnly;
use crate::recut::same_bytes;
use crate::scan::{Kind, Stat, open_file, user_xattrs};

/// What kept a file from being read this time.
pub(super) enum Trouble {
    /// It changed meanwhile.
    Changed,
    /// The system refused.
    Io(io::Error),
    /// The store failed: nothing more can be done.
    Fatal(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<E: Into<Error>> From<Fatal<E>> for Trouble {
    fn from(error: Fatal<E>) -> Self {
        Self::Fatal(error.0.into())
    }
}

/// Marks an error of the store.
pub(super) struct Fatal<E>(pub E);

impl Ingest<'_> {
    /// Reads a file until it holds still.
    pub(super) fn read(&self, job: &Job, sink: &mut Sink<'_>) -> Result<Read, Error> {
        for _ in 0..TRIES {
            match self.read_once(job, sink) {
                Ok((entry, stat)) => return Ok(Read::Entry(entry, stat)),
                Err(Trouble::Changed) => {}
                Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Gone),
                Err(Trouble::Io(error)) => return Ok(Read::Failed(words(&error))),
                Err(Trouble::Fatal(error)) => return Err(error),
            }
        }
        Ok(Read::Failed("it changes while it is read".to_owned()))
    }

    /// Opens a file, to see whether it could be read.
    pub(super) fn open(&self, path: &RepoPath) -> Read {
        match open_file(self.root, path) {
            Ok((_, stat)) => Read::Opened(stat),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Read::Gone,
            Err(error) => Read::Failed(words(&error)),
        }
    }

    fn read_once(&self, job: &Job, sink: &mut Sink<'_>) -> Result<(Entry, Stat), Trouble> {
        let (file, mut before) = open_file(self.root, &job.path)?;
        if before.kind != Kind::File {
            return Err(Trouble::Changed);
        }
        if let Some(wait) = under_way(&before, SystemTime::now()) {
            std::thread::sleep(wait);
            before = Stat::from(&fstat(&file).map_err(io::Error::from)?);
            if under_way(&before, SystemTime::now()).is_some() {
                return Err(Trouble::Changed);
            }
        }
        let (mut content, whole) = if before.size > SMALL_MAX {
            self.read_large(&file, &before, sink)?
        } else {
            self.read_small(&file, &before, sink)?
        };
        if let (Some(known), Some(nodes)) = (&job.known, self.nodes) {
            let read_at = &mut |buffer: &mut [u8], offset| read_fully(&file, buffer, offset);
            content = same_bytes(nodes, known, before.size, content, &whole, read_at)?.unwrap_or(content);
        }
        let attrs = attrs_of(&file, sink)?;
        let after = Stat::from(&fstat(&file).map_err(io::Error::from)?);
        if !after.is_untouched_since(&before) {
            return Err(Trouble::Changed);
        }
        let node = Node::File { mtime: after.mtime, size: after.size, content };
        Ok((Entry { mode: after.permissions(), attrs, node }, after))
    }

    /// Where its bytes are, and the hash of all of them.
    fn read_small(&self, file: &OwnedFd, stat: &Stat, sink: &mut Sink<'_>) -> Result<(Content, ContentHash), Trouble> {
        let mut buffer = self.buffer();
        // One byte more than it should have: so its end is seen in the same call.
        let want = usize::try_from(stat.size).map_err(|_| Trouble::Changed)? + 1;
        if buffer.len() < want {
            buffer.resize(want, 0);
        }
        let len = read_fully(file, &mut buffer[..want], 0)?;
        let result = match len + 1 == want {
            true => self.chunks_of(&buffer[..len], sink),
            false => Err(Trouble::Changed),
        };
        self.recycle(buffer);
        result
    }

    fn chunks_of(&self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(Content, ContentHash), Trouble> {
        if bytes.is_empty() {
            return Ok((Content::Empty, ContentHash::of_chunk(bytes)));
        }
        let mut lens = Vec::new();
        self.chunker.cut(bytes, true, |len| lens.push(len));
        if lens.len() == 1 {
            let id = sink.chunk(bytes).map_err(Fatal)?;
            return Ok((Content::Chunk(ChunkId(id)), id));
        }
        let mut list = ListBuilder::new();
        let mut at = 0;
        for len in lens {
            let chunk = &bytes[at..at + len];
            at += len;
            let id = ChunkId(sink.chunk(chunk).map_err(Fatal)?);
            list.push(sink, id, u32::try_from(len).unwrap_or(u32::MAX)).map_err(Fatal)?;
        }
        let whole = ContentHash::of_chunk(bytes);
        Ok((list.finish(sink, *whole.as_bytes()).map_err(Fatal)?, whole))
    }
}

/// How long the system may be at one write of many bytes: a file has its new time when that begins, and shows no other when it
/// ends.
const WRITE: Duration = Duration::from_millis(50);

/// How long to wait until no write to a large file is under way any more of which its time tells already.
fn under_way(stat: &Stat, now: SystemTime) -> Option<Duration> {
    let secs = u64::try_from(stat.ctime.secs()).ok().filter(|_| stat.size > SMALL_MAX)?;
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(secs, stat.ctime.nanos()))?;
    // Times of a server whose clock is ahead say nothing.
    let age = now.duration_since(changed).ok()?;
    WRITE.checked_sub(age).filter(|wait| !wait.is_zero())
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn read_fully(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn attrs_of(file: &OwnedFd, sink: &mut Sink<'_>) -> Result<Option<AttrsId>, Trouble> {
    let Some(attrs) = read_attrs(file)? else { return Ok(None) };
    Ok(Some(AttrsId(sink.put(AttrsId::KIND, &attrs.encode()).map_err(Fatal)?)))
}

/// The extended attributes that are kept of a file; none if it has none.
pub(crate) fn read_attrs(file: &OwnedFd) -> io::Result<Option<Attrs>> {
    let pairs = user_xattrs(file.as_fd())?;
    if pairs.is_empty() {
        return Ok(None);
    }
    let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let unstorable = |error| io::Error::other(format!("extended attributes: {error}"));
    Attrs::new(pairs).map(Some).map_err(unstorable)
}

/// What these attributes are called once they are stored.
pub(crate) fn attrs_id(attrs: Option<&Attrs>) -> io::Result<Option<AttrsId>> {
    let id = attrs.map(|attrs| IdsOnly.put(AttrsId::KIND, &attrs.encode())).transpose();
    id.map(|id| id.map(AttrsId)).map_err(io::Error::other)
}

/// The system's words, without its number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use filesync_merkle::Timestamp;

    use super::*;

    #[test]
    fn who_may_be_written_still_is_waited_for() {
        let at = |nanos: u32, size| Stat {
            kind: Kind::File,
            mode: 0o644,
            dev: 1,
            ino: 2,
            size,
            blocks: 0,
            mtime: Timestamp::default(),
            ctime: Timestamp::new(1_000, nanos).unwrap(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::new(1_000, 90_000_000);
        let large = SMALL_MAX + 1;
        assert_eq!(under_way(&at(80_000_000, large), now), Some(Duration::from_millis(40)));
        assert_eq!(under_way(&at(40_000_000, large), now), None, "long ago");
        assert_eq!(under_way(&at(95_000_000, large), now), None, "of another clock");
        assert_eq!(under_way(&at(80_000_000, SMALL_MAX), now), None, "written at once");
    }
}
