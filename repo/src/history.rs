//! Revisions and history: what `REV` means, and `log`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use filesync_cas::ContentHash;
use filesync_merkle::history::read_commit;
use filesync_merkle::{
    Ancestors, Commit, CommitId, Entry, FirstParents, Part, RepoPath, Touch, Touches, TreeLink, WalkError, lookup,
};

use crate::cluster::remote::Remote;
use crate::error::{Error, ErrorKind};
use crate::expired::Expired;
use crate::identity;
use crate::nearest::nearest;
use crate::parts::absent;
use crate::published::Published;
use crate::repo::{Repo, request_paths};
use crate::request::{LogEntry, LogRequest, Target};
use crate::roots::Roots;
use crate::tags;

/// The shortest prefix of an id that counts as one.
const PREFIX_MIN: usize = 4;

/// The commit that `rev` means; none for `HEAD` before the first commit.
pub fn resolve(repo: &Repo, rev: &str) -> Result<Option<CommitId>, Error> {
    let (base, steps) = match rev.rsplit_once('~') {
        Some((base, "")) => (base, 1),
        Some((base, steps)) => (base, steps.parse::<u64>().map_err(|_| unknown(repo, rev))?),
        None => (rev, 0),
    };
    let Some(mut id) = resolve_base(repo, base)? else {
        return if steps == 0 { Ok(None) } else { Err(unknown(repo, rev)) };
    };
    for _ in 0..steps {
        let commit = read_commit(repo.node_source(), &id)?;
        id = *commit.parents.first().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: history does not go back that far"))
        })?;
    }
    Ok(Some(id))
}

/// As [`resolve`], with the commit itself, whose tree is there; fails where there is none yet, and if it has expired.
pub fn commit_of(repo: &Repo, rev: Option<&str>) -> Result<(CommitId, Commit), Error> {
    let rev = rev.unwrap_or("HEAD");
    let none = || Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: there is no commit yet"));
    let id = resolve(repo, rev)?.ok_or_else(none)?;
    if has_expired(repo, &id)? {
        let message = format!("cannot use {rev}: commit {id} has expired: its files are no longer kept");
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Ok((id, read_commit(repo.node_source(), &id)?))
}

fn has_expired(repo: &Repo, id: &CommitId) -> Result<bool, Error> {
    match Expired::read(&**repo.store.vfs()) {
        Ok(list) => Ok(list.0.contains(id) && Roots::read(repo)?.expired.contains(id)),
        // Then it cannot be told; what is not there any more will be missed when it is read.
        Err(error) if error.kind() == ErrorKind::Damage => Ok(false),
        Err(error) => Err(error),
    }
}

fn resolve_base(repo: &Repo, base: &str) -> Result<Option<CommitId>, Error> {
    match base {
        "HEAD" => return Ok(repo.head()),
        "main" => {
            let remote = Remote::read(&**repo.store.vfs())?;
            let held = remote.as_ref().and_then(|remote| remote.held);
            return held.ok_or_else(|| no_main(repo, remote.as_ref())).map(Some);
        }
        _ => {}
    }
    if let Some(id) = tags::find(&**repo.store.vfs(), base)? {
        return Ok(Some(id));
    }
    let is_prefix =
        (PREFIX_MIN..=64).contains(&base.len()) && base.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut found = if is_prefix { commits_with_prefix(repo, base)? } else { Vec::new() };
    match (found.pop(), found.pop()) {
        (None, _) => Err(unknown(repo, base)),
        (Some(id), None) => Ok(Some(id)),
        (Some(_), Some(_)) => {
            let message = format!("cannot tell which commit {base} is: several begin with it");
            Err(Error::new(ErrorKind::NotFound, message).with_hint("give more digits"))
        }
    }
}

/// What to say, and to do, where nothing published is here.
fn no_main(repo: &Repo, remote: Option<&Remote>) -> Error {
    let in_touch = remote.filter(|remote| remote.as_of().is_some());
    let (why, hint) = match in_touch {
        Some(remote) if remote.main().is_some() => ("what is published is not here yet", "`filesync sync` fetches it"),
        Some(_) => ("nothing is published yet", "`filesync sync` publishes what is committed"),
        None => ("never in touch with a cluster", "`filesync sync` gets in touch"),
    };
    let is_anywhere = repo.head().is_some() || in_touch.is_some_and(|remote| remote.main().is_some());
    // To sync alone would bring nothing.
    let hint =
        if is_anywhere { hint } else { "`filesync commit` records what is here, and `filesync sync` publishes it" };
    Error::new(ErrorKind::NotFound, format!("cannot find revision main: {why}")).with_hint(hint)
}

fn unknown(repo: &Repo, rev: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("cannot find revision {rev}: no commit or tag of that name"));
    match misspelt(rev) {
        Some(hint) => error.with_hint(hint),
        None => tags::with_hint(&**repo.store.vfs(), rev, error),
    }
}

fn is_typo_of_head(rev: &str) -> bool {
    let rev = rev.to_ascii_uppercase();
    !rev.contains(':') && (rev == "HEAD" || nearest(&rev, ["HEAD"]).is_some())
}

/// What is wrong with a revision as a word, if it looks like what other programs take, or like what is taken elsewhere.
fn misspelt(rev: &str) -> Option<String> {
    let is_hex = !rev.is_empty() && rev.bytes().all(|b| b.is_ascii_hexdigit());
    let is_range = rev.split_once("..").is_some_and(|(from, _)| !from.is_empty() && !from.ends_with('/'));
    Some(match rev.split_once(':') {
        _ if is_range => "one revision is wanted, not a range".to_owned(),
        _ if rev.contains('^') => "the parent of HEAD is HEAD~1, and its parent HEAD~2".to_owned(),
        _ if rev == "@" || is_typo_of_head(rev) => "did you mean HEAD?".to_owned(),
        _ if rev == "master" => "there is one line of history: HEAD is its end".to_owned(),
        _ if is_hex && rev.len() < PREFIX_MIN => format!("of an id, {PREFIX_MIN} digits or more are wanted"),
        _ if is_hex && rev.bytes().any(|b| b.is_ascii_uppercase()) => {
            format!("did you mean {}?", rev.to_ascii_lowercase())
        }
        Some((rev, path)) if !path.is_empty() => format!("revision and path are two words here: `{rev} -- {path}`"),
        _ => return None,
    })
}

/// At most two commits whose ids begin with `prefix`.
fn commits_with_prefix(repo: &Repo, prefix: &str) -> Result<Vec<CommitId>, Error> {
    let bound = |fill: &str| {
        let digits: String = prefix.chars().chain(fill.chars().cycle()).take(64).collect();
        digits.parse::<ContentHash>().map_err(|_| unknown(repo, prefix))
    };
    let (from, to) = (bound("0")?, bound("f")?);
    let look = || -> Result<_, Error> {
        let mut found = Vec::new();
        repo.store.each_id(&from, &to, &mut |id, kind| {
            if kind == CommitId::KIND {
                found.push(CommitId(id));
            }
            if found.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    };
    let found = look()?;
    // Before it is said that there is none, the packs are asked: the index may lack some.
    if found.is_empty() && repo.store.check_index() { look() } else { Ok(found) }
}

/// What `REV[:PATH]` means: the commit's tree and the path in it.
pub fn target_of(repo: &Repo, target: &Target) -> Result<(TreeLink, RepoPath), Error> {
    let (_, commit) = commit_of(repo, target.rev.as_deref())?;
    let path = target.path.as_deref().unwrap_or_default();
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let parsed = request_paths(&[path[..end].to_vec()]).map_err(|error| {
        let is_relative = path.split(|&byte| byte == b'/').any(|part| matches!(part, b"" | b"." | b".."));
        if is_relative {
            error.with_hint("paths behind a colon are from the root, as `filesync ls -r` shows them")
        } else {
            error
        }
    });
    Ok((commit.tree, parsed?.pop().unwrap_or_else(RepoPath::root)))
}

/// Whether there is nothing to look at yet: no commit, and none was named.
pub fn is_before_the_first_commit(repo: &Repo, rev: Option<&str>) -> Result<bool, Error> {
    Ok(rev.is_none_or(|rev| rev == "HEAD") && resolve(repo, "HEAD")?.is_none())
}

/// The entry at a path of a tree; fails if there is none.
pub fn entry_at(repo: &Repo, tree: &TreeLink, path: &RepoPath) -> Result<Entry, Error> {
    let shown = String::from_utf8_lossy(path.as_bytes());
    let missing = || Error::new(ErrorKind::NotFound, format!("cannot find {shown}: no such path in that commit"));
    match lookup(repo.node_source(), tree, path) {
        Err(error) if error.is_damage() && repo.copied.parts.part(path) == Part::None => Err(absent(path)),
        found => found?.ok_or_else(missing),
    }
}

/// Carries out `log`.
pub fn log(
    repo: &Repo,
    request: &LogRequest,
    visit: &mut dyn FnMut(LogEntry) -> Result<(), Error>,
) -> Result<(), Error> {
    let paths = request_paths(&request.paths)?;
    repo.copied.check(&paths)?;
    let start = resolve(repo, request.rev.as_deref().unwrap_or("HEAD"))?;
    let names = Names::of(repo)?;
    let expired = match Roots::read(repo) {
        Ok(roots) => Some(roots.expired),
        Err(error) if error.kind() == ErrorKind::Damage => None,
        Err(error) => return Err(error),
    };
    let is_expired = |id: &CommitId| expired.as_ref().is_some_and(|expired| expired.contains(id));
    let mut published = Published::of(repo, start)?;
    let mut entry = |id, commit| -> Result<LogEntry, Error> {
        let expired = expired.as_ref().map(|expired| expired.contains(&id));
        Ok(LogEntry { expired, ..log_entry(repo, id, commit, &names, &mut published)? })
    };
    let mut left = request.limit.unwrap_or(u64::MAX);
    let mut kept = Vec::new();
    for touch in touches(repo, start, &paths, &is_expired) {
        crate::cancel::check()?;
        if left == 0 {
            break;
        }
        let Touch { id, commit, touched } = touch?;
        if !touched {
            continue;
        }
        left -= 1;
        let entry = entry(id, commit)?;
        if request.reverse { kept.push(entry) } else { visit(entry)? }
    }
    kept.into_iter().rev().try_for_each(visit)
}

/// Commits and their ancestors, newest first. Without paths every one counts, and no tree is read.
fn touches<'a>(
    repo: &'a Repo,
    start: Option<CommitId>,
    paths: &[RepoPath],
    is_expired: &'a dyn Fn(&CommitId) -> bool,
) -> Box<dyn Iterator<Item = Result<Touch, WalkError>> + 'a> {
    let source = repo.node_source();
    if !paths.is_empty() {
        // Of one that has expired it cannot be told what it changed.
        return Box::new(Touches::new(source, start, paths, is_expired));
    }
    let all = Ancestors::new(source, start);
    Box::new(all.map(|item| item.map(|(id, commit)| Touch { id, commit, touched: true })))
}

/// The tree of the first of a commit's first parents that has not expired.
pub fn kept_parent(repo: &Repo, commit: &Commit) -> Result<Option<TreeLink>, Error> {
    let expired = Roots::read(repo)?.expired;
    for older in FirstParents::new(repo.node_source(), commit.parents.first().copied()) {
        let (id, older) = older?;
        if !expired.contains(&id) {
            return Ok(Some(older.tree));
        }
    }
    Ok(None)
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
        for (name, id) in tags::tags(&**repo.store.vfs())? {
            names.entry(id).or_default().push(name);
        }
        Ok(Self(names))
    }
}

/// A commit as it is shown.
pub fn log_entry(
    repo: &Repo,
    id: CommitId,
    commit: Commit,
    names: &Names,
    published: &mut Published<'_>,
) -> Result<LogEntry, Error> {
    let signature = identity::verify(&commit, repo.repository());
    Ok(LogEntry {
        commit: id,
        tree: commit.tree.id,
        parents: commit.parents,
        author: commit.author,
        node: ContentHash::from_bytes(commit.node),
        time: commit.time,
        message: commit.message,
        log_index: published.index(&id)?,
        as_of: published.as_of,
        signature,
        refs: names.0.get(&id).cloned().unwrap_or_default(),
        expired: None,
    })
}

/// Every commit that something refers to: the head and the tags.
pub fn roots(repo: &Repo) -> Result<Vec<CommitId>, Error> {
    let mut roots: Vec<CommitId> = repo.head().into_iter().collect();
    roots.extend(tags::tags(&**repo.store.vfs())?.into_iter().map(|(_, id)| id));
    roots.sort_unstable();
    roots.dedup();
    Ok(roots)
}
