//! `commit`: a snapshot of the working copy as a new head.
//!
//! The walk finds what differs, threads read and store it, and the tree of the head is edited along the way: one editor
//! for each directory between the root and where the walk is. What was not touched is taken over unread.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filesync_cas::rows::RowBatch;
use filesync_cas::store::FrameWriter;
use filesync_cas::vfs::Open;
use filesync_cas::{Chunker, PutError, Session, SessionStats, Store};
use filesync_merkle::{
    Commit, CommitId, Entry, Mode, Name, Node, NodeSink, NodeSource, RepoPath, Timestamp, Totals, TreeEditor, TreeLink,
    is_ancestor,
};

use crate::cancel;
use crate::changes::{Consumer, Finding, Found, WalkOptions, Walker};
use crate::cluster::outbox::Outbox;
use crate::cluster::remote::Remote;
use crate::config::{self, Config};
use crate::error::{Error, ErrorKind};
use crate::estimate::{AFTER, Stop, estimate};
use crate::identity::Identity;
use crate::ingest::{Ingest, Read, Target};
use crate::objects::{IdsOnly, SessionNodes};
use crate::parts::Copied;
use crate::repo::Repo;
use crate::request::{CommitRequest, CommitResult, Event, Observer, Unreadable};
use crate::restore;
use crate::scan::{Scan, ScanOptions, Stat};
use crate::stat_cache::{CacheUpdate, Replacement, StatCache};

/// Changed paths that a message made from the changes names.
const NAMED_MAX: usize = 3;
/// Findings after which rows of the stat cache are saved.
const SPILL_EVERY: u64 = 1 << 16;
/// Changed rows of directories that the cache knows, at most: they wait until their directory ends. When a million files
/// are touched at once, the rest is read again the next time, and then written as it comes.
pub const ROWS_MAX: usize = if cfg!(test) { 100 } else { 1 << 17 };

/// Carries out a commit.
pub fn commit(repo: &Repo, request: &CommitRequest, observer: &dyn Observer) -> Result<CommitResult, Error> {
    let began = Instant::now();
    restore::finish_journal(repo, observer)?;
    // Before the head is read: what is taken over from it stays until the session ends.
    let session = repo.store.session()?;
    let head = repo.head_commit().map_err(|error| error.during("cannot read HEAD"))?;
    if request.amend {
        check_amend(repo)?;
    }
    let author = author(repo, request)?;
    observer.event(Event::Phase { what: "committing", bytes: None, items: None });
    let target = if request.dry_run { Target::Ids } else { Target::Store(&session) };
    let base = head.as_ref().map(|(_, commit)| commit.tree);
    let mut snapshot = snapshot(repo, request, base, target, &session, observer)?;
    if !snapshot.unreadable.is_empty() && !request.partial {
        return Err(unreadable(&snapshot.unreadable));
    }
    if let Some(error) = outside(&snapshot.outside, &repo.copied) {
        return Err(error);
    }
    if snapshot.has_read_all && snapshot.unreadable.is_empty() {
        // What is damaged and does not come back by this is in no file any more: the next commit need not look for it.
        session.was_given_everything();
    }
    let tree = snapshot.root.ok_or_else(|| Error::new(ErrorKind::Failed, "the walk did not end"))?;
    let mut result = CommitResult {
        tree: Some(tree.id),
        files: tree.totals.files,
        bytes: tree.totals.bytes,
        added: snapshot.added,
        modified: snapshot.modified,
        deleted: snapshot.deleted,
        unreadable: std::mem::take(&mut snapshot.unreadable),
        ..CommitResult::default()
    };
    result.parents = parents(head.as_ref(), request.amend);
    result.message = match (&request.message, &head) {
        (Some(message), _) => message.clone(),
        (None, Some((_, commit))) if request.amend => commit.message.clone(),
        (None, _) => snapshot.message(),
    };
    let unchanged = base.map_or(tree == TreeLink::empty(), |base| base.id == tree.id);
    let is_wanted = !unchanged || request.allow_empty || request.amend;
    if request.dry_run || !is_wanted {
        result.would_commit = request.dry_run.then_some(is_wanted);
        let (writer, rows) = snapshot.into_parts();
        let stats = session.stats();
        if !request.dry_run && (stats.new_chunks + stats.new_nodes > 0 || repo.store.needs_everything()) {
            // The head stays, and what it has was not all there: damage, made good by the files that still have it.
            writer.map_or(Ok(()), |mut writer| writer.flush())?;
            count(&mut result, session.finish(repo.store.head(), rows)?);
        } else {
            drop(writer);
            drop(session);
            // What was read again and found equal need not be read the next time.
            if !request.dry_run {
                drop(repo.store.save_rows(rows));
            }
        }
        result.elapsed = began.elapsed();
        return Ok(result);
    }
    let author = match (&request.author, &head) {
        (None, Some((_, commit))) if request.amend => commit.author.clone(),
        _ => author,
    };
    let mut commit = Commit {
        parents: result.parents.clone(),
        tree,
        time: now(),
        author,
        message: result.message.clone(),
        node: [0; 32],
        signature: [0; 64],
    };
    let identity = Identity::load(&**repo.store.vfs())?;
    commit.node = identity.node();
    identity.sign(&mut commit, repo.repository())?;
    let (writer, rows) = snapshot.into_parts();
    let id = put_commit(writer, &commit)?;
    let stats = session.finish(Some(id.0), rows)?;
    result.commit = Some(id);
    count(&mut result, stats);
    result.elapsed = began.elapsed();
    Ok(result)
}

/// Reads every file of the working copy, and stores what of it is not there to rely on: what is damaged counts as absent.
pub fn store_again(
    repo: &Repo,
    base: Option<TreeLink>,
    session: &Session<'_>,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let request = CommitRequest { no_cache: true, partial: true, ..CommitRequest::default() };
    let (writer, _) = snapshot(repo, &request, base, Target::Store(session), session, observer)?.into_parts();
    Ok(writer.map_or(Ok(()), |mut writer| writer.flush())?)
}

fn put_commit(writer: Option<FrameWriter<'_>>, commit: &Commit) -> Result<CommitId, Error> {
    let mut writer = writer.ok_or(PutError::ReadOnly)?;
    let id = writer.store(CommitId::KIND, &commit.encode()?)?;
    writer.flush()?;
    Ok(CommitId(id))
}

fn count(result: &mut CommitResult, stats: SessionStats) {
    result.new_bytes = stats.new_bytes;
    result.stored_bytes = stats.stored_bytes;
    // The commit itself is no node of its tree.
    result.nodes_written = stats.new_nodes.saturating_sub(1);
}

fn parents(head: Option<&(CommitId, Commit)>, amend: bool) -> Vec<CommitId> {
    match head {
        Some((_, commit)) if amend => commit.parents.clone(),
        Some((id, _)) => vec![*id],
        None => Vec::new(),
    }
}

/// Who commits: what was said, or what is configured.
pub fn author(repo: &Repo, request: &CommitRequest) -> Result<String, Error> {
    let author = match &request.author {
        Some(author) => author.clone(),
        None => Config::load(&**repo.store.vfs())?.author(request.author_default.as_deref()),
    };
    config::check_author(&author)
        .map_err(|why| Error::new(ErrorKind::Usage, format!("cannot use the author {author:?}: {why}")))?;
    let message = request.message.as_deref().unwrap_or_default();
    if message.len() > filesync_merkle::commit::MESSAGE_LEN_MAX || message.contains('\0') {
        return Err(Error::new(ErrorKind::Usage, "cannot use the message: it is longer than 128 KiB, or holds a NUL"));
    }
    Ok(author)
}

fn unreadable(paths: &[Unreadable]) -> Error {
    let Some(first) = paths.first() else { return Error::new(ErrorKind::Failed, "cannot read the working copy") };
    let more = if paths.len() > 1 { format!(" (and {} more)", paths.len() - 1) } else { String::new() };
    let message = format!("cannot read {}: {}{more}", String::from_utf8_lossy(&first.path), first.cause);
    Error::new(ErrorKind::Failed, message).with_hint("--partial commits the rest")
}

/// A partial copy commits its parts. What stands elsewhere would be left out unseen, or meet something that is not here.
fn outside(paths: &[RepoPath], copied: &Copied) -> Option<Error> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" (and {} more)", paths.len() - 1) } else { String::new() };
    let message = format!("cannot commit {first}: not in a part that this partial copy has{more}");
    let hint = format!("it has {}; move it there, or leave it out by a rule in .filesyncignore", copied.told());
    Some(Error::new(ErrorKind::Failed, message).with_hint(hint))
}

/// The time of a commit that is made now.
pub fn now() -> Timestamp {
    time_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The time of a commit that is made so long after the beginning of 1970.
pub fn time_at(since: Duration) -> Timestamp {
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos()).unwrap_or_default()
}

/// The clock of the file system that the repository lies on: files are written after this.
///
/// Files that are not older are read again next time: their times are too coarse to show a later change.
pub fn stamp(repo: &Repo) -> Result<Timestamp, Error> {
    let vfs = repo.store.vfs();
    let path = Path::new("stamp");
    let stamp = vfs
        .open(path, Open::Write)
        .or_else(|_| vfs.open(path, Open::Create { mode: 0o644 }))
        .and_then(|file| file.set_mtime(0, 0).and_then(|()| file.stat()))
        .map_err(|error| Error::io("cannot write stamp", &error))?;
    Ok(Timestamp::new(stamp.ctime.secs, stamp.ctime.nanos).unwrap_or_default())
}

/// Threads for reading, hashing and compressing.
pub fn threads() -> usize {
    filesync_cas::cores().min(16)
}

/// What others may have is not taken back: only a head that was never sent is replaced.
fn check_amend(repo: &Repo) -> Result<(), Error> {
    let refused = |why: String| Error::new(ErrorKind::Failed, format!("cannot amend: {why}"));
    let Some(head) = repo.head() else { return Err(refused("there is no commit yet".to_owned())) };
    let is_part_of = |newer: Option<CommitId>| match newer {
        Some(newer) => is_ancestor(repo.node_source(), head, newer),
        None => Ok(false),
    };
    let vfs = &**repo.store.vfs();
    let published = Remote::read(vfs)?.map_or((None, None), |remote| (remote.held, remote.main()));
    let sent = Outbox::read(vfs)?.sending.and_then(|sending| sending.new);
    let why = if published.1 == Some(head) || is_part_of(published.0)? {
        "it is published"
    } else if is_part_of(sent)? {
        "it may be published: it was sent, and no answer came"
    } else {
        return Ok(());
    };
    Err(refused(format!("{head}: {why}")).with_hint("commit on top of it"))
}

fn snapshot<'a>(
    repo: &'a Repo,
    request: &CommitRequest,
    base: Option<TreeLink>,
    target: Target<'a>,
    session: &'a Session<'a>,
    observer: &dyn Observer,
) -> Result<Snapshot<'a>, Error> {
    let options = WalkOptions {
        apply_ignore: request.apply_ignore,
        // What was found damaged must be read, to be stored again.
        no_cache: request.no_cache || repo.store.needs_everything(),
    };
    let root = repo.work_fd()?;
    let cache = repo.stat_cache();
    let scan = Scan::start(repo.work_fd()?, Some(cache.clone()).filter(|_| !options.no_cache), ScanOptions::default());
    let nodes = repo.node_source();
    let mut snapshot = Snapshot::new(&repo.store, nodes, target, session, cache, stamp(repo)?);
    snapshot.has_read_all = options.no_cache;
    let chunker = Chunker::new(repo.store.parameters().chunks);
    // Cuts of others are taken over where all of their chunks are there to rely on: what is damaged is stored by ours.
    let known = Some(repo.node_source()).filter(|_| !repo.store.has_damage());
    let (ingest, feeder) = Ingest::new(root.as_fd(), known, target, chunker, observer);
    let stop = &Stop::default();
    let walked = std::thread::scope(|scope| {
        if observer.wants_totals() {
            let again = || {
                let cache = Some(repo.stat_cache()).filter(|_| !options.no_cache);
                Ok(Scan::start(repo.work_fd()?, cache, ScanOptions { threads: 0, ..ScanOptions::default() }))
            };
            let named = std::thread::Builder::new().name("estimate".to_owned());
            // Without it there is no time left to be shown, and no more.
            drop(named.spawn_scoped(scope, move || estimate(AFTER, again, stop, observer)));
        }
        let (ingest, token) = (&ingest, cancel::current());
        let spawn = |number| {
            let token = token.clone();
            let work = move || token.scope(|| ingest.work());
            std::thread::Builder::new().name(format!("ingest-{number}")).spawn_scoped(scope, work).ok()
        };
        let workers: Vec<_> = (0..threads()).filter_map(spawn).collect();
        if workers.is_empty() {
            stop.stop();
            return Err(Error::new(ErrorKind::Failed, "cannot start a thread"));
        }
        // The walk ends the feeder, and with it the threads.
        let walker = Walker::new(nodes, scan, feeder, observer, options, &mut snapshot);
        let walked = walker.within(&repo.copied.parts).run(base);
        stop.stop();
        walked
    });
    match ingest.failure() {
        Some(error) => Err(error),
        None => walked.map(|()| snapshot),
    }
}

/// A directory that is being edited.
struct Level<'a> {
    path: RepoPath,
    editor: TreeEditor<'a>,
    trusted: bool,
    is_way: bool,
    old: Option<TreeLink>,
    /// Changed rows of a directory that the cache knows.
    rows: Vec<(Name, Option<(Stat, Entry)>)>,
    /// All rows of another.
    replacement: Option<Replacement>,
    /// Whether every entry has its row.
    complete: bool,
    /// Whether there was room for every changed row.
    overflowed: bool,
}

/// The new tree as it grows.
struct Snapshot<'a> {
    store: &'a Store,
    nodes: &'a dyn NodeSource,
    writer: Option<FrameWriter<'a>>,
    cache: CacheUpdate,
    spilled: u64,
    /// Changed rows that wait, of all levels.
    rows_held: usize,
    stack: Vec<Level<'a>>,
    root: Option<TreeLink>,
    added: u64,
    modified: u64,
    deleted: u64,
    named: Vec<String>,
    unreadable: Vec<Unreadable>,
    /// What stands where this partial copy has no part.
    outside: Vec<RepoPath>,
    /// Whether nothing was taken from the stat cache.
    has_read_all: bool,
}

impl<'a> Snapshot<'a> {
    fn new(
        store: &'a Store,
        nodes: &'a dyn NodeSource,
        target: Target<'a>,
        session: &'a Session<'a>,
        cache: StatCache,
        stamp: Timestamp,
    ) -> Self {
        let writer = match target {
            Target::Store(_) => Some(session.writer()),
            Target::Ids => None,
        };
        Self {
            store,
            nodes,
            writer,
            cache: CacheUpdate::new(cache, stamp),
            spilled: 0,
            rows_held: 0,
            stack: Vec::new(),
            root: None,
            added: 0,
            modified: 0,
            deleted: 0,
            named: Vec::new(),
            unreadable: Vec::new(),
            outside: Vec::new(),
            has_read_all: false,
        }
    }

    /// The writer of nodes, with all that it holds, and the rows to save.
    fn into_parts(self) -> (Option<FrameWriter<'a>>, RowBatch) {
        (self.writer, self.cache.finish())
    }

    /// A message made from the changes.
    fn message(&self) -> String {
        let total = self.added + self.modified + self.deleted;
        let is_named = self.named.len() <= NAMED_MAX && usize::try_from(total).is_ok_and(|it| it == self.named.len());
        if total > 0 && is_named {
            return self.named.join(", ");
        }
        let parts = [(self.added, "added"), (self.modified, "modified"), (self.deleted, "deleted")];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if parts.is_empty() { "no changes".to_owned() } else { parts.join(", ") }
    }

    fn name_change(&mut self, what: &str, name: &Name) {
        if self.named.len() > NAMED_MAX {
            return;
        }
        if self.named.len() == NAMED_MAX {
            // One more than are named: then none is.
            self.named.push(String::new());
            return;
        }
        let path = self.stack.last().map_or_else(RepoPath::root, |level| level.path.join(name));
        let shown: String = String::from_utf8_lossy(path.as_bytes()).chars().filter(|c| !c.is_control()).collect();
        self.named.push(format!("{what} {shown}"));
    }

    fn edit<T>(
        &mut self,
        edit: impl FnOnce(&mut TreeEditor<'a>, &mut dyn NodeSink) -> Result<T, filesync_merkle::EditError>,
    ) -> Result<T, Error> {
        let level = self.stack.last_mut().ok_or_else(|| Error::new(ErrorKind::Failed, "no directory is open"))?;
        let result = match &mut self.writer {
            Some(writer) => edit(&mut level.editor, &mut SessionNodes(writer)),
            None => edit(&mut level.editor, &mut IdsOnly),
        };
        Ok(result?)
    }

    fn row(&mut self, name: Name, row: Option<(Stat, Entry)>) {
        let Some(level) = self.stack.last_mut() else { return };
        if level.trusted {
            if self.rows_held < ROWS_MAX {
                level.rows.push((name, row));
                self.rows_held += 1;
            } else {
                level.overflowed = true;
            }
        } else if let (Some(replacement), Some((stat, entry))) = (&mut level.replacement, row) {
            self.cache.push(replacement, name, &stat, entry);
        }
    }

    /// Saves rows as they come, so that memory does not grow with the tree. They vouch for nothing that the head
    /// does not have, and may be there before it.
    fn spill(&mut self) {
        self.spilled += 1;
        if self.spilled.is_multiple_of(SPILL_EVERY) {
            let rows = self.cache.take();
            if self.writer.is_some() {
                drop(self.store.save_rows(rows));
            }
        }
    }

    fn incomplete(&mut self) {
        if let Some(level) = self.stack.last_mut() {
            level.complete = false;
        }
    }

    /// Something stands here that can be tracked.
    fn put(&mut self, name: Name, stat: Stat, old: Option<Entry>, entry: Entry) -> Result<(), Error> {
        match old {
            // Also of a file that was only touched: its old entry stays, so that touching makes no commit.
            Some(old) if old.same(&entry) => {
                self.row(name, Some((stat, old)));
                return Ok(());
            }
            Some(old) => {
                let what = if old.is_directory() || entry.is_directory() { "replace" } else { "modify" };
                self.modified += 1;
                // What was below a directory is gone with it.
                self.deleted += old.as_directory().map_or(0, |link| link.totals.files);
                self.name_change(what, &name);
            }
            None => {
                self.added += 1;
                self.name_change("add", &name);
            }
        }
        self.row(name.clone(), Some((stat, entry.clone())));
        self.edit(|editor, sink| editor.upsert(sink, name, entry)).map(drop)
    }

    fn remove(&mut self, name: &Name, old: Option<&Entry>) -> Result<(), Error> {
        self.row(name.clone(), None);
        let Some(old) = old else { return Ok(()) };
        self.deleted += old.as_directory().map_or(1, |link| link.totals.files.max(1));
        self.name_change("delete", name);
        if old.is_directory() {
            self.forget_below(name);
        }
        self.edit(|editor, sink| editor.delete(sink, name)).map(drop)
    }

    fn forget_below(&mut self, name: &Name) {
        let Some(level) = self.stack.last() else { return };
        // Rows are never needed: those of a directory that is gone only take room.
        drop(self.cache.remove_tree(&level.path.join(name)));
    }

    fn leave(&mut self, name: Option<Name>, mode: Mode, old: Option<Entry>, stat: Option<Stat>) -> Result<(), Error> {
        let Some(level) = self.stack.pop() else { return Ok(()) };
        let link = match &mut self.writer {
            Some(writer) => level.editor.finish(&mut SessionNodes(writer))?,
            None => level.editor.finish(&mut IdsOnly)?,
        };
        let unmoved = level.old == Some(link);
        let is_new_way = level.is_way && level.old.is_none();
        if level.trusted {
            self.rows_held -= level.rows.len();
            if !level.rows.is_empty() || !unmoved {
                // Without all of its rows it is not to be trusted the next time, when all of them are made anew.
                let link = Some(link).filter(|_| !level.overflowed);
                drop(self.cache.change(&level.path, link, level.rows));
            }
        } else if let Some(replacement) = level.replacement {
            self.cache.end(replacement, Some(link).filter(|_| level.complete));
        }
        let Some(name) = name else {
            self.root = Some(link);
            return Ok(());
        };
        let entry = match &old {
            // Of a directory on the way nothing is taken from the working copy.
            Some(old) if level.is_way => Entry { node: Node::Directory(link), ..old.clone() },
            _ => Entry::directory(mode, link),
        };
        let Some(stat) = stat else {
            self.incomplete();
            // A directory on the way to parts is there for what is in it.
            return if unmoved || (is_new_way && link == TreeLink::empty()) {
                Ok(())
            } else {
                self.edit(|editor, sink| editor.upsert(sink, name, entry)).map(drop)
            };
        };
        match old {
            Some(old) if old.same(&entry) => {
                if !self.stack.last().is_some_and(|level| level.trusted) {
                    self.row(name, Some((stat, old)));
                }
                Ok(())
            }
            old => {
                // Files below count for themselves; a directory counts if nothing else does.
                let mode_changed = old.as_ref().is_some_and(|old| old.is_directory() && old.mode != mode);
                if mode_changed || old.as_ref().is_some_and(|old| !old.is_directory()) {
                    self.modified += 1;
                    self.name_change("modify", &name);
                } else if old.is_none() && link.totals == Totals::default() {
                    self.added += 1;
                    self.name_change("add", &name);
                }
                self.row(name.clone(), Some((stat, entry.clone())));
                self.edit(|editor, sink| editor.upsert(sink, name, entry)).map(drop)
            }
        }
    }
}

impl Consumer for Snapshot<'_> {
    fn wants(&self, _: Option<&Entry>, _: &Stat) -> bool {
        true
    }

    fn take(&mut self, finding: Finding) -> Result<(), Error> {
        self.spill();
        match finding {
            Finding::Enter { path, old, trusted, is_way } => {
                let editor = TreeEditor::new(self.nodes, old);
                // Rows are never needed: where they cannot be had, the directory is read again next time.
                let replacement = if trusted { None } else { self.cache.begin(&path).ok().flatten() };
                // Of one on the way there are no rows of what is not here.
                let (rows, complete, overflowed) = (Vec::new(), !is_way, false);
                self.stack.push(Level { path, editor, trusted, is_way, old, rows, replacement, complete, overflowed });
                Ok(())
            }
            Finding::Same { name, entry, stat } => {
                match stat {
                    Some(stat) => self.row(name, Some((stat, entry))),
                    None => self.incomplete(),
                }
                Ok(())
            }
            Finding::File { name, stat, old, found } => match found {
                Found::Entry(entry) => self.put(name, stat, old, *entry),
                Found::Slot(slot) => match slot.wait() {
                    Read::Entry(entry, stat) => self.put(name, stat, old, entry),
                    Read::Gone => self.remove(&name, old.as_ref()),
                    Read::Failed(cause) => self.give_up(&name, cause),
                    Read::Opened(_) | Read::Abandoned => {
                        cancel::check()?;
                        Err(Error::new(ErrorKind::Failed, "the commit was given up"))
                    }
                },
            },
            Finding::Gone { name, old } => self.remove(&name, old.as_ref()),
            Finding::Outside(path) => {
                self.outside.push(path);
                Ok(())
            }
            Finding::Unreadable(what) => {
                self.unreadable.push(what);
                self.incomplete();
                Ok(())
            }
            Finding::Leave { name, mode, old, stat } => self.leave(name, mode, old, stat),
        }
    }
}

impl Snapshot<'_> {
    fn give_up(&mut self, name: &Name, cause: String) -> Result<(), Error> {
        let path = self.stack.last().map_or_else(RepoPath::root, |level| level.path.join(name));
        self.unreadable.push(Unreadable { path: path.as_bytes().to_vec(), cause });
        self.incomplete();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
