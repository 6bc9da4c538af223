//! The journal of a change to the working copy: what is to stand where, durable before the first change.
//!
//! `docs/format.md`, section 3.1, rules the bytes. Whoever finds a journal finishes it before he takes the working
//! copy for the user's work ([`crate::restore::finish_journal`]).

use std::io;
use std::path::Path;

use data_encoding::BASE64;
use filesync_cas::ContentHash;
use filesync_cas::hash::{hex, unhex};
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::{Vfs, read_to_end, replace};
use filesync_merkle::{CommitId, Entry, RepoPath};

/// Its name in `.filesync`.
pub const PATH: &str = "journal";
const TITLE: &str = "filesync journal 1";
const LEN_MAX: u64 = 64 << 20;

/// What stands at a path, as a journal names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Nothing,
    /// A directory, whatever it contains.
    Directory,
    /// A file or a symlink, by its [`Entry::journal_id`].
    Leaf([u8; 16]),
}

impl State {
    /// The state that an entry makes.
    pub fn of(entry: Option<&Entry>) -> Self {
        match entry {
            None => Self::Nothing,
            Some(entry) if entry.is_directory() => Self::Directory,
            Some(entry) => Self::Leaf(entry.journal_id()),
        }
    }

    fn word(self) -> String {
        match self {
            Self::Nothing => "-".to_owned(),
            Self::Directory => "d".to_owned(),
            Self::Leaf(id) => hex(&id),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "-" => Some(Self::Nothing),
            "d" => Some(Self::Directory),
            _ => Some(Self::Leaf(unhex(word)?.try_into().ok()?)),
        }
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub path: RepoPath,
    /// What stood there.
    pub old: State,
    /// What is to stand there.
    pub new: State,
}

/// All of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Whose tree holds what is to stand there; none if everything goes.
    pub commit: Option<CommitId>,
    /// Where the head is to stand once all of it does, if it is to move.
    pub head: Option<CommitId>,
    /// In the order of the plan.
    pub lines: Vec<Line>,
}

impl Journal {
    fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        match &self.commit {
            Some(commit) => file.line(&format!("commit {commit}")),
            None => file.line("commit none"),
        }
        if let Some(head) = &self.head {
            file.line(&format!("head {head}"));
        }
        for Line { path, old, new } in &self.lines {
            file.line(&format!("path {} {} {}", old.word(), new.word(), BASE64.encode(path.as_bytes())));
        }
        file.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let lines = Lines::parse(bytes, TITLE)?;
        let mut lines = lines.iter().peekable();
        let id = |word: &str| word.parse::<ContentHash>().map(CommitId).map_err(|error| error.to_string());
        let commit = match lines.next().and_then(|line| line.strip_prefix("commit ")) {
            Some("none") => None,
            Some(word) => Some(id(word)?),
            None => return Err("its second line names no commit".to_owned()),
        };
        let head = lines.peek().and_then(|line| line.strip_prefix("head ")).map(id).transpose()?;
        let lines = lines.skip(usize::from(head.is_some()));
        let lines = lines.map(|line| decode_line(line).ok_or_else(|| format!("wrong line {line:?}")));
        let journal = Self { commit, head, lines: lines.collect::<Result<_, _>>()? };
        check_form(bytes, &journal.encode())?;
        Ok(journal)
    }

    /// Makes it durable.
    pub fn write(&self, vfs: &dyn Vfs) -> io::Result<()> {
        replace(vfs, Path::new(PATH), &self.encode(), 0o644)
    }

    /// The journal that is there, if there is one. `Ok(Err)` says what is wrong with it.
    pub fn read(vfs: &dyn Vfs) -> io::Result<Option<Result<Self, String>>> {
        match read_to_end(vfs, Path::new(PATH), LEN_MAX) {
            Ok(bytes) => Ok(Some(Self::decode(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether one is there.
    pub fn exists(vfs: &dyn Vfs) -> bool {
        vfs.stat(Path::new(PATH)).is_ok()
    }

    /// Removes the journal, durably.
    pub fn remove(vfs: &dyn Vfs) -> io::Result<()> {
        match vfs.unlink(Path::new(PATH)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => vfs.sync_dir(Path::new("")),
        }
    }
}

fn decode_line(line: &str) -> Option<Line> {
    let mut words = line.strip_prefix("path ")?.split(' ');
    let (old, new) = (State::parse(words.next()?)?, State::parse(words.next()?)?);
    let path = RepoPath::parse(&BASE64.decode(words.next()?.as_bytes()).ok()?).ok()?;
    (words.next().is_none() && !path.is_root()).then_some(Line { path, old, new })
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    fn journal() -> Journal {
        let path = |bytes: &[u8]| RepoPath::parse(bytes).unwrap();
        let line = |bytes: &[u8], old, new| Line { path: path(bytes), old, new };
        Journal {
            commit: Some(CommitId(ContentHash::from_bytes([7; 32]))),
            head: None,
            lines: vec![
                line(b"a", State::Leaf([1; 16]), State::Nothing),
                line(b"a b\n/\xff", State::Nothing, State::Leaf([2; 16])),
                line(b"d", State::Leaf([3; 16]), State::Directory),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert!(Journal::read(&vfs).unwrap().is_none());
        let moving = Journal { head: Some(CommitId::from_bytes([8; 32])), ..journal() };
        for journal in [journal(), moving, Journal::default()] {
            journal.write(&vfs).unwrap();
            assert_eq!(Journal::read(&vfs).unwrap().unwrap(), Ok(journal));
        }
        Journal::remove(&vfs).unwrap();
        Journal::remove(&vfs).unwrap();
        assert!(Journal::read(&vfs).unwrap().is_none());
    }

    #[test]
    fn what_was_not_written_is_refused() {
        let good = journal().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Journal::decode(&bad).is_err(), "byte {at}");
            assert!(Journal::decode(&good[..at]).is_err(), "cut at {at}");
        }
        let other = |lines: &[&str]| {
            let mut file = Builder::new(TITLE);
            lines.iter().for_each(|line| file.line(line));
            Journal::decode(&file.finish())
        };
        assert!(other(&["commit none", "path - - YQ=="]).is_ok());
        for bad in ["path - - ", "path - -", "path x - YQ==", "path - - YQ", "path - - Lw==", "path - - YQ== -", "a"] {
            assert!(other(&["commit none", bad]).is_err(), "{bad}");
        }
        assert!(other(&["commit x"]).is_err());
        assert!(other(&["commit none", "head x"]).is_err());
        assert!(other(&["commit none", "path - - YQ==", &format!("head {}", "7".repeat(64))]).is_err());
        assert!(other(&[]).is_err());
    }
}
