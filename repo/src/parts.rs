//! `parts`: which parts of its trees a partial copy has, and keeps having. `docs/format.md`, section 3, rules the bytes.
//!
//! It is there from the moment at which the repository is, and never changes: what is missing outside of the parts is no
//! damage, and what is missing within is. Without the file nothing could tell one from the other, nor what was never there
//! from what was deleted; so a partial copy that has lost it is not opened.

use data_encoding::BASE64;
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;
use filesync_merkle::{Name, NodeSource, Part, Parts, RepoPath, Totals, TreeLink};

use crate::cluster::member;
use crate::error::{Error, ErrorKind};
use crate::ignore::IGNORE_FILE;
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "parts";
const TITLE: &str = "filesync parts 1";
const LEN_MAX: u64 = 1 << 20;
/// Paths of parts, the rules' included: so that they go into one request …
const COUNT_MAX: usize = 1024;
/// … and so that their bytes do.
const BYTES_MAX: usize = 48 << 10;
/// Paths that a message names.
const TOLD_MAX: usize = 3;

/// What a repository has of its trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// The paths that its user named, ascending; none if it has everything.
    pub named: Vec<RepoPath>,
    /// They, and the rules that hold for them: the ignore files of the directories above.
    pub parts: Parts,
}

impl Copied {
    /// Of the paths that a user named. No path, or the root, means everything.
    pub fn new(paths: &[RepoPath]) -> Result<Self, Error> {
        let named = Parts::new(paths).paths().to_vec();
        let mut all = named.clone();
        if let Ok(rules) = Name::new(IGNORE_FILE) {
            for path in &named {
                let mut above = path.parent();
                while let Some(dir) = above {
                    all.push(dir.join(&rules));
                    above = dir.parent();
                }
            }
        }
        let parts = Parts::new(&all);
        let bytes = |path: &RepoPath| path.as_bytes().len() + 2 * path.depth() + 4;
        if parts.paths().len() > COUNT_MAX || parts.paths().iter().map(bytes).sum::<usize>() > BYTES_MAX {
            return Err(Error::new(ErrorKind::Usage, "cannot use the paths: they are too many, or too long"));
        }
        Ok(Self { named, parts })
    }

    /// The first of the paths that its user named, to be told.
    pub fn told(&self) -> String {
        let told: Vec<String> = self.named.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        let more = if self.named.len() > TOLD_MAX { ", …" } else { "" };
        told.join(", ") + more
    }

    /// Reads it; everything, if there is none.
    pub fn read(vfs: &dyn Vfs) -> Result<Self, Error> {
        let hint = |error: Error| error.with_hint("it says what this partial copy has: clone it again");
        let named = match small_file::read(vfs, PATH, LEN_MAX, decode) {
            Ok(Some(named)) => named,
            Ok(None) if member::read(vfs)?.is_some_and(|member| member.is_partial) => {
                return Err(hint(Error::new(ErrorKind::Damage, format!("{PATH}: missing"))));
            }
            Ok(None) => return Ok(Self::default()),
            Err(error) if error.kind() == ErrorKind::Damage => return Err(hint(error)),
            Err(error) => return Err(error),
        };
        Self::new(&named)
    }

    /// Makes it durable, in a repository that is being made. Of everything there is no file.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        if self.is_whole() {
            return Ok(());
        }
        small_file::write(vfs, PATH, &encode(&self.named))
    }

    /// Whether it has everything.
    pub fn is_whole(&self) -> bool {
        self.parts.is_whole()
    }

    /// Fails if it has nothing of a path.
    pub fn check(&self, paths: &[RepoPath]) -> Result<(), Error> {
        let lacking = paths.iter().find(|path| self.parts.part(path) == Part::None);
        lacking.map_or(Ok(()), |path| Err(absent(path)))
    }

    /// How much of a tree it does not have.
    pub fn absent(&self, source: &dyn NodeSource, tree: &TreeLink) -> Result<Totals, Error> {
        if self.is_whole() {
            return Ok(Totals::default());
        }
        let mut absent = Totals { directories: 0, ..tree.totals };
        for (_, entry) in self.parts.found_in(source, tree)? {
            let here = entry.totals().unwrap_or_default();
            absent.files = absent.files.saturating_sub(here.files);
            absent.bytes = absent.bytes.saturating_sub(here.bytes);
        }
        Ok(absent)
    }

    /// What a tree does not have of the paths that were named.
    pub fn not_found(&self, source: &dyn NodeSource, tree: Option<&TreeLink>) -> Result<Vec<RepoPath>, Error> {
        let mut missing = Vec::new();
        for path in &self.named {
            let found = match tree {
                Some(tree) if *tree != TreeLink::empty() => filesync_merkle::lookup(source, tree, path)?,
                _ => None,
            };
            missing.extend(found.is_none().then(|| path.clone()));
        }
        Ok(missing)
    }
}

/// That something is asked for which a partial copy does not have.
pub fn absent(path: &RepoPath) -> Error {
    let error = Error::new(ErrorKind::Absent, format!("not in this partial copy: {path}"));
    error.with_hint("`cat`, `ls` and `restore --to` fetch it; a clone with that --path, or without any, has it")
}

fn encode(paths: &[RepoPath]) -> Vec<u8> {
    let mut file = Builder::new(TITLE);
    for path in paths {
        file.line(&format!("path {}", BASE64.encode(path.as_bytes())));
    }
    file.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<RepoPath>, String> {
    let mut paths = Vec::new();
    for line in Lines::parse(bytes, TITLE)?.iter() {
        let path = line.strip_prefix("path ").and_then(|path| BASE64.decode(path.as_bytes()).ok());
        let path = path.and_then(|path| RepoPath::parse(&path).ok());
        paths.push(path.ok_or_else(|| format!("no path: {line:?}"))?);
    }
    if paths.is_empty() || Parts::new(&paths).paths() != paths {
        return Err("no parts, or not in order".to_owned());
    }
    check_form(bytes, &encode(&paths))?;
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use filesync_cas::testing::LossVfs;

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Copied::read(&vfs).unwrap(), Copied::default());
        let copied = Copied::new(&["b/c", "a\n", "b/c/d"].map(path)).unwrap();
        assert_eq!(copied.named, ["a\n", "b/c"].map(path));
        copied.write(&vfs).unwrap();
        assert_eq!(Copied::read(&vfs).unwrap(), copied);
        let good = encode(&copied.named);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
        assert!(decode(&encode(&[])).is_err() && decode(&encode(&["b", "a"].map(path))).is_err());
    }

    #[test]
    fn rules_that_hold_for_a_part_come_with_it() {
        let copied = Copied::new(&[path("a/b/c")]).unwrap();
        for (at, part) in [
            (".filesyncignore", Part::All),
            ("a/.filesyncignore", Part::All),
            ("a/b/.filesyncignore", Part::All),
            ("a/b/c/x", Part::All),
            ("a/b", Part::Some),
            ("a/b/d", Part::None),
            ("x/.filesyncignore", Part::None),
        ] {
            assert_eq!(copied.parts.part(&path(at)), part, "{at}");
        }
    }

    #[test]
    fn a_partial_copy_that_does_not_know_its_parts_is_not_opened() {
        use filesync_raft_log::ids::NodeId;

        let vfs = LossVfs::new();
        for is_partial in [false, true] {
            let membership = member::Membership { node: NodeId(2), has_log: false, is_partial };
            member::write(&vfs, membership).unwrap();
            let read = Copied::read(&vfs).map_err(|error| error.kind());
            assert_eq!(read.is_err(), is_partial, "{read:?}");
        }
    }

    #[test]
    fn there_are_not_too_many() {
        let many: Vec<RepoPath> = (1..=COUNT_MAX).map(|n| path(&format!("p{n:04}"))).collect();
        // Of all of them together the rules of the root.
        assert!(Copied::new(&many[1..]).is_ok());
        assert_eq!(Copied::new(&many).unwrap_err().kind(), ErrorKind::Usage);
        let long = path(&vec!["x".repeat(250); 40].join("/"));
        assert_eq!(Copied::new(&[long]).unwrap_err().kind(), ErrorKind::Usage);
    }
}
