//! The façade: opening a repository, and one method for each command, each a few lines.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::vfs::{RealVfs, Vfs};
use filesync_cas::{ContentHash, Place, Store};
use filesync_merkle::{Commit, CommitId, MerkleSchema, NodeSource, RepoPath, TreeLink};
use rustix::fs::{Mode, OFlags};

use crate::cluster::lost;
use crate::error::{Error, ErrorKind};
use crate::objects::StoreNodes;
use crate::parts::Copied;
use crate::request::{
    CatRequest, CheckIgnoreRequest, CommitRequest, CommitResult, ConfigRequest, ConfigSetting, DiffRequest, Difference,
    DuEntry, DuRequest, Event, ForgetRequest, ForgetResult, FsckRequest, FsckResult, GcRequest, GcResult, IgnoreAnswer,
    InitRequest, InitResult, LogEntry, LogRequest, LsEntry, LsRequest, Observer, RestoreRequest, RestoreResult,
    ShowRequest, Shown, StatusRequest, StatusResult, Tag, TagRequest, UpgradeResult, Warning,
};
use crate::stat_cache::StatCache;
use crate::{
    cat, check_ignore, commit, config, diff, du, forget, fsck, gc, history, init, ls, restore, show, status, tags,
};

/// The directory that makes a directory a repository.
pub const STORE_DIR: &str = ".filesync";
/// What the keys of the stat cache begin with.
const CACHE_PREFIX: &[u8] = b"s";

/// How to open.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Also a repository that belongs to another user.
    pub allow_foreign: bool,
    /// How long to wait for another writer.
    pub lock_timeout: Duration,
    /// Who has root do it for him: what is his counts as root's own then.
    pub behind_sudo: Option<u32>,
}

/// A repository and its working copy.
///
/// A writer is the only one; readers run beside it. What needs a writer says so.
#[derive(Debug)]
pub struct Repo {
    root: PathBuf,
    pub(crate) store: Arc<Store>,
    nodes: StoreNodes,
    pub(crate) work: Arc<dyn Vfs>,
    work_fd: OwnedFd,
    /// What it has of its trees.
    pub(crate) copied: Copied,
}

impl Repo {
    /// Makes a repository in `dir`. Durable on return; a repository that is already there is left untouched.
    pub fn init(dir: &Path, request: &InitRequest) -> Result<InitResult, Error> {
        init::init(dir, request)
    }

    /// The root of the repository that `start` lies in.
    pub fn discover(start: &Path) -> Result<PathBuf, Error> {
        let start = std::fs::canonicalize(start).map_err(|error| Error::path("cannot open", start, &error))?;
        let found = start.ancestors().find(|dir| dir.join(STORE_DIR).symlink_metadata().is_ok());
        found.map(Path::to_owned).ok_or_else(|| not_found(&start))
    }

    /// Opens for reading: beside a writer, without write permission, on read-only media.
    pub fn open_reader(root: &Path, options: &OpenOptions, observer: &dyn Observer) -> Result<Self, Error> {
        Self::open(root, options, observer, |place| Store::open_reader(place, Arc::new(MerkleSchema)))
    }

    /// Opens for writing. `command` is what others are told while they wait.
    pub fn open_writer(
        root: &Path,
        command: &str,
        options: &OpenOptions,
        observer: &dyn Observer,
    ) -> Result<Self, Error> {
        let timeout = options.lock_timeout;
        Self::open(root, options, observer, |place| Store::open_writer(place, Arc::new(MerkleSchema), command, timeout))
    }

    /// As [`Self::open_writer`], on a disk that is put before the real one.
    #[cfg(test)]
    pub(crate) fn open_writer_on(root: &Path, disk: Arc<dyn Vfs>) -> Result<Self, Error> {
        let (options, schema) = (OpenOptions::default(), Arc::new(MerkleSchema));
        Self::open(root, &options, &crate::request::Silent, |place| {
            Store::open_writer(Place { vfs: disk, ..place }, schema, "test", options.lock_timeout)
        })
    }

    fn open(
        root: &Path,
        options: &OpenOptions,
        observer: &dyn Observer,
        open: impl FnOnce(Place) -> Result<Store, filesync_cas::OpenError>,
    ) -> Result<Self, Error> {
        let (root, dir) = store_dir(root, options)?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| Error::path("cannot open", &path, &error)
        };
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs::open(&dir).map_err(io(&dir))?);
        let place = Place { vfs, index_dir: dir.join("index"), lock_dir: Some(dir) };
        let store = Arc::new(open(place)?);
        let copied = Copied::read(&**store.vfs())?;
        let nodes = StoreNodes(Arc::clone(&store));
        let work: Arc<dyn Vfs> = Arc::new(RealVfs::open(&root).map_err(io(&root))?);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let work_fd = rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| io(&root)(error.into()))?;
        let repo = Self { root, store, nodes, work, work_fd, copied };
        repo.pass_warnings(observer);
        Ok(repo)
    }

    /// The root of the working copy.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Snapshot of the working copy as a new head. Needs a writer.
    pub fn commit(&self, request: &CommitRequest, observer: &dyn Observer) -> Result<CommitResult, Error> {
        self.told(observer, || commit::commit(self, request, observer))
    }

    /// Changes against the head.
    pub fn status(&self, request: &StatusRequest, observer: &dyn Observer) -> Result<StatusResult, Error> {
        self.told(observer, || status::status(self, request, observer))
    }

    /// History, newest first unless asked otherwise. An error of `visit` ends it.
    pub fn log(&self, request: &LogRequest, visit: &mut dyn FnMut(LogEntry) -> Result<(), Error>) -> Result<(), Error> {
        history::log(self, request, visit)
    }

    /// What differs between two commits, or between one and the working copy.
    pub fn diff(
        &self,
        request: &DiffRequest,
        observer: &dyn Observer,
        visit: &mut dyn FnMut(Difference) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.told(observer, || diff::diff(self, request, observer, visit))
    }

    /// A commit, and what it changed.
    pub fn show(
        &self,
        request: &ShowRequest,
        observer: &dyn Observer,
        visit: &mut dyn FnMut(Shown) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.told(observer, || show::show(self, request, observer, visit))
    }

    /// What directories of a commit come to.
    pub fn du(&self, request: &DuRequest, visit: &mut dyn FnMut(DuEntry) -> Result<(), Error>) -> Result<(), Error> {
        du::du(self, request, visit)
    }

    /// Entries of a directory of a commit.
    pub fn ls(&self, request: &LsRequest, visit: &mut dyn FnMut(LsEntry) -> Result<(), Error>) -> Result<(), Error> {
        ls::ls(self, request, visit).map_err(|error| lost::explain(self, error))
    }

    /// Bytes of a file of a commit, each verified before it is written.
    pub fn cat(&self, request: &CatRequest, out: &mut dyn std::io::Write) -> Result<(), Error> {
        cat::cat(self, request, out).map_err(|error| lost::explain(self, error))
    }

    /// Lists tags, makes one, or removes one: all of them, or the one. Making and removing need a writer.
    pub fn tag(&self, request: &TagRequest) -> Result<Vec<Tag>, Error> {
        tags::tag(self, request)
    }

    /// What is set, or one setting, or one changed. Changing needs a writer.
    pub fn config(&self, request: &ConfigRequest) -> Result<Vec<ConfigSetting>, Error> {
        config::config(self, request)
    }

    /// Which rules decide about paths, and whether they are left out.
    pub fn check_ignore(&self, request: &CheckIgnoreRequest) -> Result<Vec<IgnoreAnswer>, Error> {
        check_ignore::check_ignore(self, request)
    }

    /// Whether `rev` means a commit. For hints: what cannot be read means none.
    pub fn is_revision(&self, rev: &str) -> bool {
        matches!(history::resolve(self, rev), Ok(Some(_)))
    }

    /// Makes paths equal to those of a commit. In the working copy, needs a writer.
    pub fn restore(&self, request: &RestoreRequest, observer: &dyn Observer) -> Result<RestoreResult, Error> {
        self.told(observer, || {
            let mut result = restore::restore(self, request, observer).map_err(|error| lost::explain(self, error))?;
            lost::explain_all(self, &mut result.damaged);
            Ok(result)
        })
    }

    /// Reads and verifies all, and changes nothing but the list of what is damaged.
    pub fn fsck(&self, request: &FsckRequest, observer: &dyn Observer) -> Result<FsckResult, Error> {
        self.told(observer, || fsck::fsck(self, request, None, observer))
    }

    /// Removes what nothing refers to. Needs a writer, unless it only says what it would do.
    pub fn gc(&self, request: &GcRequest, observer: &dyn Observer) -> Result<GcResult, Error> {
        self.told(observer, || gc::gc(self, request, observer))
    }

    /// Has commits expire. Needs a writer, unless it only says what it would do.
    pub fn forget(&self, request: &ForgetRequest, observer: &dyn Observer) -> Result<ForgetResult, Error> {
        self.told(observer, || forget::forget(self, request))
    }

    /// What `upgrade` finds of a repository that opens: it has the newest format. Older ones do not open, and are brought up
    /// to date before (`upgrade`). Needs a writer.
    pub fn upgrade(&self) -> Result<UpgradeResult, Error> {
        Ok(UpgradeResult { format: filesync_cas::params::FORMAT, upgraded: false })
    }

    /// The store's nodes.
    pub(crate) fn node_source(&self) -> &(dyn NodeSource + Sync) {
        &self.nodes
    }

    /// The commit that the working copy stands on.
    pub(crate) fn head(&self) -> Option<CommitId> {
        self.store.head().map(CommitId)
    }

    /// The head's commit, and its id.
    pub(crate) fn head_commit(&self) -> Result<Option<(CommitId, Commit)>, Error> {
        let Some(id) = self.head() else { return Ok(None) };
        let commit = filesync_merkle::history::read_commit(self.node_source(), &id)?;
        Ok(Some((id, commit)))
    }

    /// The head's tree; none before the first commit.
    pub(crate) fn head_tree(&self) -> Result<Option<TreeLink>, Error> {
        Ok(self.head_commit()?.map(|(_, commit)| commit.tree))
    }

    /// The repository's id.
    pub(crate) fn repository(&self) -> &ContentHash {
        &self.store.parameters().repository
    }

    /// What the working copy looked like.
    pub(crate) fn stat_cache(&self) -> StatCache {
        StatCache::new(self.store.rows(), CACHE_PREFIX)
    }

    /// A descriptor of the root of the working copy.
    pub(crate) fn work_fd(&self) -> Result<OwnedFd, Error> {
        self.work_fd.try_clone().map_err(|error| Error::path("cannot open", &self.root, &error))
    }

    /// Runs something and passes on what the store has to say, whatever comes of it.
    fn told<T>(&self, observer: &dyn Observer, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let result = run();
        self.pass_warnings(observer);
        result
    }

    pub(crate) fn pass_warnings(&self, observer: &dyn Observer) {
        for message in self.store.take_warnings() {
            observer.event(Event::Warning(Warning { path: None, message }));
        }
    }
}

/// The root without symlinks on the way, and the directory of its store, if it may be opened.
pub(crate) fn store_dir(root: &Path, options: &OpenOptions) -> Result<(PathBuf, PathBuf), Error> {
    let root = std::fs::canonicalize(root).map_err(|error| Error::path("cannot open", root, &error))?;
    let dir = root.join(STORE_DIR);
    let meta = dir.symlink_metadata().map_err(|_| {
        let error = not_found(&root);
        let is_inside = root.file_name().is_some_and(|name| name == STORE_DIR);
        if is_inside {
            error.with_hint(format!("the repository is the directory that has {STORE_DIR} in it"))
        } else {
            error
        }
    })?;
    if !meta.is_dir() {
        let message = format!("cannot open {}: it is not a directory", dir.display());
        return Err(Error::new(ErrorKind::Failed, message));
    }
    let user = rustix::process::geteuid();
    let is_own = meta.uid() == user.as_raw() || (user.is_root() && options.behind_sudo == Some(meta.uid()));
    if !options.allow_foreign && !is_own {
        let message = format!("cannot open {}: it belongs to another user", dir.display());
        return Err(Error::new(ErrorKind::Failed, message).with_hint("--allow-foreign opens it all the same"));
    }
    Ok((root, dir))
}

fn not_found(start: &Path) -> Error {
    let message = format!("cannot find a repository: {}: no {STORE_DIR} here or above", start.display());
    Error::new(ErrorKind::NotFound, message).with_hint("`filesync init` makes one")
}

/// Paths of a request, checked.
pub fn request_paths(paths: &[Vec<u8>]) -> Result<Vec<RepoPath>, Error> {
    let parse = |path: &Vec<u8>| {
        let shown = String::from_utf8_lossy(path);
        RepoPath::parse(path).map_err(|error| Error::new(ErrorKind::Usage, format!("cannot use path {shown}: {error}")))
    };
    paths.iter().map(parse).collect()
}
