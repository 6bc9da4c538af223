//! Tags: names for commits, a small file each below `refs/tags` (`docs/format.md`, section 3).
//!
//! A tag is a root: what it names is never expired and never collected, so what cannot be read here is an error and
//! never "no tag". A name with slashes lies in directories, which are made with the first tag in them, durably, and go
//! with the last. Tags are written and removed under the writer's lock; whoever reads beside that sees one state or the
//! other.

pub mod wishes;

use std::io;
use std::path::{Path, PathBuf};

use filesync_cas::small_file::{Builder, Lines};
use filesync_cas::vfs::{FileKind, Refused, Vfs, read_to_end, refused, replace};
use filesync_merkle::CommitId;

use crate::error::{Error, ErrorKind};
use crate::history::commit_of;
use crate::nearest::nearest;
use crate::repo::Repo;
use crate::request::{Tag, TagRequest};
use wishes::Wishes;

const DIR: &str = "refs/tags";
const TITLE: &str = "filesync ref 1";
const FILE_LEN_MAX: u64 = 4096;
/// As a ref of a cluster it is longer by a word.
const NAME_LEN_MAX: usize = 250;

/// Carries out `tag`.
pub fn tag(repo: &Repo, request: &TagRequest) -> Result<Vec<Tag>, Error> {
    let vfs = &**repo.store.vfs();
    match request {
        TagRequest::List => {
            let all = tags(vfs)?.into_iter();
            Ok(all.map(|(name, commit)| Tag { name, commit: Some(commit), was: None }).collect())
        }
        TagRequest::Make { name, rev, force } => {
            check_new(name)?;
            let (commit, _) = commit_of(repo, rev.as_deref())?;
            let mut wishes = Wishes::read(vfs)?;
            let tag = make(vfs, name, commit, *force, wishes.as_mut())?;
            Ok(vec![tag])
        }
        TagRequest::Delete { name } => {
            let mut wishes = Wishes::read(vfs)?;
            delete(vfs, name, wishes.as_mut()).map(|tag| vec![tag])
        }
    }
}

/// All tags, by name.
pub fn tags(vfs: &dyn Vfs) -> Result<Vec<(String, CommitId)>, Error> {
    let mut tags = Vec::new();
    for name in names(vfs)? {
        // One that is gone was removed after the directory was read.
        tags.extend(find(vfs, &name)?.map(|id| (name, id)));
    }
    Ok(tags)
}

/// The commit that a tag names; none if there is no tag of that name.
pub fn find(vfs: &dyn Vfs, name: &str) -> Result<Option<CommitId>, Error> {
    if !is_plain(name) {
        return Ok(None);
    }
    let path = path_of(name);
    let bytes = match read_to_end(vfs, &path, FILE_LEN_MAX) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A directory of tags is not a tag.
        Err(error) if matches!(refused(&error), Some(Refused::NotAFile(_))) => return Ok(None),
        Err(error) => return Err(Error::path("cannot read", &path, &error)),
    };
    decode(&bytes).map(Some).map_err(|cause| damaged(&path, &cause))
}

/// The names of all tags, ascending. Nothing is read but directories.
pub fn names(vfs: &dyn Vfs) -> Result<Vec<String>, Error> {
    let mut open = vec![String::new()];
    let mut names = Vec::new();
    while let Some(dir) = open.pop() {
        let path = path_of(&dir);
        let listed = match vfs.list(&path) {
            // Its last tag was removed meanwhile. The outermost is there from `init` on.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.is_empty() => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(&path, "it is missing")),
            listed => listed.map_err(|error| Error::path("cannot read", &path, &error))?,
        };
        for (file, kind) in listed {
            // Temporary files, and what nobody can have made with this program.
            let Some(file) = file.to_str().filter(|file| is_plain(file)) else { continue };
            let name = if dir.is_empty() { file.to_owned() } else { format!("{dir}/{file}") };
            match kind {
                FileKind::Dir => open.push(name),
                FileKind::File => names.push(name),
                FileKind::Symlink | FileKind::Other => return Err(damaged(&path_of(&name), "it is not a file")),
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Adds what a mistyped name may have meant to the error about it.
pub fn with_hint(vfs: &dyn Vfs, name: &str, error: Error) -> Error {
    let names = names(vfs).unwrap_or_default();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// Wishes are durable before what is wished for: a wish for what is there already does no harm.
fn make(vfs: &dyn Vfs, name: &str, commit: CommitId, force: bool, wishes: Option<&mut Wishes>) -> Result<Tag, Error> {
    let failed = |cause: &str| Error::new(ErrorKind::Failed, format!("cannot make tag {name}: {cause}"));
    if let Some(other) = clash(name, &names(vfs)?) {
        return Err(failed(&format!("there is a tag {other}, and a name cannot stand for a tag and for a directory")));
    }
    let was = match find(vfs, name) {
        // With --force a damaged one is made good.
        Err(error) if error.kind() == ErrorKind::Damage && force => None,
        found => found?,
    };
    if was.is_some() && !force {
        return Err(failed("it is there already").with_hint("--force moves it"));
    }
    if let Some(wishes) = wishes {
        wishes.note(name, was, Some(commit));
        wishes.write(vfs)?;
    }
    write(vfs, name, commit).map_err(|error| Error::io(format_args!("cannot make tag {name}"), &error))?;
    Ok(Tag { name: name.to_owned(), commit: Some(commit), was: was.filter(|was| *was != commit) })
}

fn delete(vfs: &dyn Vfs, name: &str, wishes: Option<&mut Wishes>) -> Result<Tag, Error> {
    let missing = || {
        let error = Error::new(ErrorKind::NotFound, format!("cannot remove tag {name}: no tag of that name"));
        with_hint(vfs, name, error)
    };
    let commit = match find(vfs, name) {
        // It may go all the same.
        Err(error) if error.kind() == ErrorKind::Damage => None,
        found => Some(found?.ok_or_else(missing)?),
    };
    if let Some(wishes) = wishes {
        wishes.note(name, commit, None);
        wishes.write(vfs)?;
    }
    remove(vfs, name).map_err(|error| Error::io(format_args!("cannot remove tag {name}"), &error))?;
    Ok(Tag { name: name.to_owned(), commit, was: None })
}

/// Has a tag stand where the cluster has it; fails where its name is none, or another is in its way.
pub fn set(vfs: &dyn Vfs, name: &str, commit: CommitId) -> Result<(), Error> {
    check_new(name)?;
    make(vfs, name, commit, true, None).map(drop)
}

/// Removes a tag that the cluster does not have.
pub fn unset(vfs: &dyn Vfs, name: &str) -> Result<(), Error> {
    delete(vfs, name, None).map(drop)
}

/// Whether a tag can be called so.
pub fn is_name(name: &str) -> bool {
    check_new(name).is_ok()
}

/// Whether a name can be a tag's: it leads nowhere but below the directory, and to no temporary file.
fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    let parts = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    name.len() <= NAME_LEN_MAX && parts && name.bytes().all(plain)
}

/// Says why a name is not to be given to a tag: it could be taken for an option, a path, an id, or something else.
fn check_new(name: &str) -> Result<(), Error> {
    let is_id = (4..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit());
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_LEN_MAX {
        "it is longer than 250 bytes"
    } else if matches!(name, "HEAD" | "main") {
        "that is the name of something else"
    } else if is_id {
        "it could be taken for a commit's id"
    } else if name.contains("..") {
        "it contains .."
    } else if name.split('/').any(str::is_empty) {
        "a / stands at an end, or beside another"
    } else if name.split('/').any(|part| part.starts_with(['.', '-'])) {
        "a part of it begins with . or -"
    } else if !is_plain(name) {
        "it has other characters than letters, digits, and ._/-"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, format!("cannot name a tag {name:?}: {why}")))
}

/// The tag that keeps `name` from being one, since one of them would have to be a directory.
fn clash<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let is_above = |above: &str, below: &str| below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
    names.iter().map(String::as_str).find(|other| is_above(other, name) || is_above(name, other))
}

/// Writes a tag; it is durable on return, with the directories that it lies in.
fn write(vfs: &dyn Vfs, name: &str, commit: CommitId) -> io::Result<()> {
    let path = path_of(name);
    let parents = parents(&path);
    for parent in parents.iter().rev() {
        match vfs.mkdir(parent, 0o755) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    remove_empty(vfs, &path)?;
    let mut file = Builder::new(TITLE);
    file.line(&format!("commit {commit}"));
    replace(vfs, &path, &file.finish(), 0o644)?;
    // Directories that were there already too: who made them may not have come to sync them.
    parents.iter().try_for_each(|parent| vfs.sync_dir(parent.parent().unwrap_or(Path::new(DIR))))
}

/// Removes a tag, durably, and the directories that it leaves empty.
fn remove(vfs: &dyn Vfs, name: &str) -> io::Result<()> {
    let path = path_of(name);
    vfs.unlink(&path)?;
    vfs.sync_dir(path.parent().unwrap_or(Path::new(DIR)))?;
    for parent in parents(&path) {
        // Empty directories are no tags: one that cannot be removed does no harm, and the next tag uses it.
        if vfs.rmdir(&parent).and_then(|()| vfs.sync_dir(parent.parent().unwrap_or(Path::new(DIR)))).is_err() {
            break;
        }
    }
    Ok(())
}

/// Removes a directory without tags that stands where one is to be: a crash came between a tag's end and its own.
fn remove_empty(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    if !vfs.stat(path).is_ok_and(|stat| stat.kind == FileKind::Dir) {
        return Ok(());
    }
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let below = vfs.list(&dir)?.into_iter().filter(|(_, kind)| *kind == FileKind::Dir);
        found.extend(below.map(|(name, _)| dir.join(name)));
        next += 1;
    }
    found.iter().rev().try_for_each(|dir| vfs.rmdir(dir))
}

fn path_of(name: &str) -> PathBuf {
    if name.is_empty() { DIR.into() } else { Path::new(DIR).join(name) }
}

/// The directories between the outermost and a tag, the innermost first.
fn parents(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1).take_while(|above| *above != Path::new(DIR));
    above.map(Path::to_owned).collect()
}

fn decode(bytes: &[u8]) -> Result<CommitId, String> {
    let lines = Lines::parse(bytes, TITLE)?;
    let mut lines = lines.iter();
    let id = lines.next().and_then(|line| line.strip_prefix("commit ")).and_then(|id| id.parse().ok());
    match (id, lines.next()) {
        (Some(id), None) => Ok(CommitId(id)),
        (Some(_), Some(line)) => Err(format!("unknown line {line:?}")),
        (None, _) => Err("no commit in it".to_owned()),
    }
}

fn damaged(path: &Path, cause: &str) -> Error {
    Error::new(ErrorKind::Damage, format!("{}: damaged: {cause}", path.display()))
}

#[cfg(test)]
mod tests;
