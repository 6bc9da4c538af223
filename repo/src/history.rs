//! Revisions and history: what `REV` means, and `log`.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use filesync_cas::ContentHash;
use filesync_cas::small_file::Lines;
use filesync_cas::vfs::read_to_end;
use filesync_merkle::history::read_commit;
use filesync_merkle::{Commit, CommitId, Entry, FirstParents, RepoPath, Touch, Touches, TreeLink, WalkError, lookup};

use crate::error::{Error, ErrorKind};
use crate::identity;
use crate::repo::{Repo, request_paths};
use crate::request::{LogEntry, LogRequest, Target};

/// The shortest prefix of an id that counts as one.
const PREFIX_MIN: usize = 4;
const TAGS: &str = "refs/tags";
const REF_TITLE: &str = "filesync ref 1";

/// The commit that `rev` means; none for `HEAD` before the first commit.
pub fn resolve(repo: &Repo, rev: &str) -> Result<Option<CommitId>, Error> {
    let (base, steps) = match rev.rsplit_once('~') {
        Some((base, "")) => (base, 1),
        Some((base, steps)) => (base, steps.parse::<u64>().map_err(|_| unknown(rev))?),
        None => (rev, 0),
    };
    let Some(mut id) = resolve_base(repo, base)? else {
        return if steps == 0 { Ok(None) } else { Err(unknown(rev)) };
    };
    for _ in 0..steps {
        let commit = read_commit(repo.node_source(), &id)?;
        id = *commit.parents.first().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: history does not go back that far"))
        })?;
    }
    Ok(Some(id))
}

/// As [`resolve`], with the commit itself; fails where there is none yet.
pub fn commit_of(repo: &Repo, rev: Option<&str>) -> Result<(CommitId, Commit), Error> {
    let rev = rev.unwrap_or("HEAD");
    let none = || Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: there is no commit yet"));
    let id = resolve(repo, rev)?.ok_or_else(none)?;
    Ok((id, read_commit(repo.node_source(), &id)?))
}

fn resolve_base(repo: &Repo, base: &str) -> Result<Option<CommitId>, Error> {
    match base {
        "HEAD" => return Ok(repo.head()),
        "main" => {
            return Err(Error::new(ErrorKind::NotFound, "cannot find revision main: never in touch with a cluster"));
        }
        _ => {}
    }
    if let Some(id) = tag(repo, base)? {
        return Ok(Some(id));
    }
    let is_prefix =
        (PREFIX_MIN..=64).contains(&base.len()) && base.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut found = if is_prefix { commits_with_prefix(repo, base)? } else { Vec::new() };
    match (found.pop(), found.pop()) {
        (None, _) => Err(unknown(base)),
        (Some(id), None) => Ok(Some(id)),
        (Some(_), Some(_)) => {
            let message = format!("cannot tell which commit {base} is: several begin with it");
            Err(Error::new(ErrorKind::NotFound, message).with_hint("give more digits"))
        }
    }
}

fn unknown(rev: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: no commit or tag of that name"))
}

/// At most two commits whose ids begin with `prefix`.
fn commits_with_prefix(repo: &Repo, prefix: &str) -> Result<Vec<CommitId>, Error> {
    let bound = |fill: &str| {
        let digits: String = prefix.chars().chain(fill.chars().cycle()).take(64).collect();
        digits.parse::<ContentHash>().map_err(|_| unknown(prefix))
    };
    let mut found = Vec::new();
    repo.store.each_id(&bound("0")?, &bound("f")?, &mut |id, kind| {
        if kind == CommitId::KIND {
            found.push(CommitId(id));
        }
        if found.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// Whether a name may be a tag's: nothing that could be taken for an option, a path or an id.
fn is_tag_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'));
    let parts = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    plain && parts && !name.starts_with('-') && !name.contains("..") && name.len() <= 255
}

fn tag(repo: &Repo, name: &str) -> Result<Option<CommitId>, Error> {
    if !is_tag_name(name) {
        return Ok(None);
    }
    let path = Path::new(TAGS).join(name);
    let bytes = match read_to_end(&**repo.store.vfs(), &path, 4096) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A directory of tags is not a tag.
        Err(error) if filesync_cas::vfs::refused(&error).is_some() => return Ok(None),
        Err(error) => return Err(Error::path("cannot read", &path, &error)),
    };
    let damaged = |cause: &str| Error::new(ErrorKind::Damage, format!("{}: damaged: {cause}", path.display()));
    let lines = Lines::parse(&bytes, REF_TITLE).map_err(|cause| damaged(&cause))?;
    let id = lines.iter().next().and_then(|line| line.strip_prefix("commit ")).and_then(|id| id.parse().ok());
    Ok(Some(CommitId(id.ok_or_else(|| damaged("no commit in it"))?)))
}

/// All tags, by name.
pub fn tags(repo: &Repo) -> Result<Vec<(String, CommitId)>, Error> {
    let vfs = &**repo.store.vfs();
    let mut open = vec![String::new()];
    let mut tags = Vec::new();
    while let Some(dir) = open.pop() {
        let path = if dir.is_empty() { Path::new(TAGS).to_owned() } else { Path::new(TAGS).join(&dir) };
        let listed = match vfs.list(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed.map_err(|error| Error::path("cannot read", &path, &error))?,
        };
        for (file, kind) in listed {
            let Some(file) = file.to_str().filter(|file| !file.starts_with('.')) else { continue };
            let name = if dir.is_empty() { file.to_owned() } else { format!("{dir}/{file}") };
            match kind {
                filesync_cas::vfs::FileKind::Dir => open.push(name),
                _ => tags.extend(tag(repo, &name)?.map(|id| (name, id))),
            }
        }
    }
    tags.sort();
    Ok(tags)
}

/// What `REV[:PATH]` means: the commit's tree and the path in it.
pub fn target_of(repo: &Repo, target: &Target) -> Result<(TreeLink, RepoPath), Error> {
    let (_, commit) = commit_of(repo, target.rev.as_deref())?;
    let path = target.path.as_deref().unwrap_or_default();
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let path = request_paths(&[path[..end].to_vec()])?.pop().unwrap_or_else(RepoPath::root);
    Ok((commit.tree, path))
}

/// Whether there is nothing to look at yet: no commit, and none was named.
pub fn is_before_the_first_commit(repo: &Repo, rev: Option<&str>) -> Result<bool, Error> {
    Ok(rev.is_none_or(|rev| rev == "HEAD") && resolve(repo, "HEAD")?.is_none())
}

/// The entry at a path of a tree; fails if there is none.
pub fn entry_at(repo: &Repo, tree: &TreeLink, path: &RepoPath) -> Result<Entry, Error> {
    let shown = String::from_utf8_lossy(path.as_bytes());
    let missing = || Error::new(ErrorKind::NotFound, format!("cannot find {shown}: no such path in that commit"));
    lookup(repo.node_source(), tree, path)?.ok_or_else(missing)
}

/// Carries out `log`.
pub fn log(
    repo: &Repo,
    request: &LogRequest,
    visit: &mut dyn FnMut(LogEntry) -> Result<(), Error>,
) -> Result<(), Error> {
    let paths = request_paths(&request.paths)?;
    let start = resolve(repo, request.rev.as_deref().unwrap_or("HEAD"))?;
    let names = Names::of(repo)?;
    let mut left = request.limit.unwrap_or(u64::MAX);
    let mut kept = Vec::new();
    for touch in touches(repo, start, &paths) {
        crate::cancel::check()?;
        if left == 0 {
            break;
        }
        let Touch { id, commit, touched } = touch?;
        if !touched {
            continue;
        }
        left -= 1;
        if request.reverse { kept.push((id, commit)) } else { visit(log_entry(repo, id, commit, &names))? }
    }
    kept.into_iter().rev().try_for_each(|(id, commit)| visit(log_entry(repo, id, commit, &names)))
}

/// Commits along first parents. Without paths every one counts, and no tree is read.
fn touches<'a>(
    repo: &'a Repo,
    start: Option<CommitId>,
    paths: &[RepoPath],
) -> Box<dyn Iterator<Item = Result<Touch, WalkError>> + 'a> {
    let source = repo.node_source();
    if !paths.is_empty() {
        return Box::new(Touches::new(source, start, paths));
    }
    let all = FirstParents::new(source, start);
    Box::new(all.map(|item| item.map(|(id, commit)| Touch { id, commit, touched: true })))
}

/// What commits are called: tags, and HEAD.
pub struct Names(HashMap<CommitId, Vec<String>>);

impl Names {
    /// All names that there are.
    pub fn of(repo: &Repo) -> Result<Self, Error> {
        let mut names: HashMap<CommitId, Vec<String>> = HashMap::new();
        if let Some(head) = repo.head() {
            names.entry(head).or_default().push("HEAD".to_owned());
        }
        for (name, id) in tags(repo)? {
            names.entry(id).or_default().push(name);
        }
        Ok(Self(names))
    }
}

/// A commit as it is shown.
pub fn log_entry(repo: &Repo, id: CommitId, commit: Commit, names: &Names) -> LogEntry {
    let signature = identity::verify(&commit, repo.repository());
    LogEntry {
        commit: id,
        tree: commit.tree.id,
        parents: commit.parents,
        author: commit.author,
        node: ContentHash::from_bytes(commit.node),
        time: commit.time,
        message: commit.message,
        log_index: None,
        as_of: None,
        signature,
        refs: names.0.get(&id).cloned().unwrap_or_default(),
    }
}

/// Every commit that something refers to: the head and the tags.
pub fn roots(repo: &Repo) -> Result<Vec<CommitId>, Error> {
    let mut roots: Vec<CommitId> = repo.head().into_iter().collect();
    roots.extend(tags(repo)?.into_iter().map(|(_, id)| id));
    roots.sort_unstable();
    roots.dedup();
    Ok(roots)
}
