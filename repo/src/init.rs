//! `init`: a new repository, made beside its place and put there in one step.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use filesync_cas::vfs::{RealVfs, Rename, Vfs};
use filesync_cas::{ChunkSizes, Codec, ContentHash, Params, Place, Store};

use crate::config;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::parts::Copied;
use crate::repo::STORE_DIR;
use crate::request::{InitRequest, InitResult};

/// Begins the names of repositories that are being made. What a killed `init` left is removed by the next.
const UNFINISHED: &str = ".filesync-init-";

/// Makes a repository in `dir`, which is made if it is missing. Durable on return.
pub fn init(dir: &Path, request: &InitRequest) -> Result<InitResult, Error> {
    let chunks = match request.chunk_size {
        None => ChunkSizes::default(),
        Some(avg) => ChunkSizes::from_average(avg).ok_or_else(|| {
            let message = format!("cannot use a chunk size of {avg}: it must be a power of two from 4KiB to 256KiB");
            Error::new(ErrorKind::Usage, message)
        })?,
    };
    let name = request.name.clone().unwrap_or_else(config::host);
    let codec = if request.no_compression { Codec::None } else { Codec::Zstd };
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Failed, format!("no random numbers: {error}")))?;
    init_with(dir, &Params::new(ContentHash::from_bytes(random), chunks, codec), &name, &Copied::default())
}

/// As [`init`], of a repository that is there elsewhere, or is named already.
pub fn init_with(dir: &Path, params: &Params, name: &str, copied: &Copied) -> Result<InitResult, Error> {
    config::check_node_name(name)
        .map_err(|why| Error::new(ErrorKind::Usage, format!("cannot use the node name {name:?}: {why}")))?;
    check_outside(dir)?;
    make_dir(dir)?;
    let root = std::fs::canonicalize(dir).map_err(|error| Error::path("cannot open", dir, &error))?;
    let vfs = RealVfs::open(&root).map_err(|error| Error::path("cannot open", &root, &error))?;
    let exists = || {
        let path = root.join(STORE_DIR);
        Error::new(ErrorKind::Failed, format!("cannot make a repository: {}: it is already there", path.display()))
    };
    if vfs.stat(Path::new(STORE_DIR)).is_ok() {
        return Err(exists());
    }
    remove_unfinished(&root);
    let repository = params.repository;
    let unfinished = format!("{UNFINISHED}{}", &repository.to_hex()[..16]);
    let identity = Identity::generate()?;
    let new = New { root: &root, unfinished: &unfinished, params, identity: &identity, name, copied };
    let below = |name: &str| -> io::Result<Arc<dyn Vfs>> { Ok(Arc::new(RealVfs::open(&root.join(name))?)) };
    let made = new.fill(&vfs, &below).and_then(|()| {
        let put = new.put(&vfs);
        put.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => Error::path("cannot write", &root.join(STORE_DIR), &error),
        })
    });
    if let Err(error) = made {
        drop(std::fs::remove_dir_all(root.join(&unfinished)));
        return Err(error);
    }
    Ok(InitResult { repo: repository, node: ContentHash::from_bytes(identity.node()), path: root })
}

/// No repository lies within what another consists of.
fn check_outside(dir: &Path) -> Result<(), Error> {
    let path = std::path::absolute(dir).map_err(|error| Error::path("cannot open", dir, &error))?;
    match path.ancestors().find(|above| above.file_name().is_some_and(|name| name == STORE_DIR)) {
        None => Ok(()),
        Some(store) => {
            let message = format!("cannot make a repository: {}: in {}", path.display(), store.display());
            Err(Error::new(ErrorKind::Failed, message))
        }
    }
}

/// Makes a directory, and those above it that are missing. Their names are durable on return.
fn make_dir(dir: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::path("cannot make directory", dir, &error);
    let named = |dir: &'_ Path| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }.to_owned();
    let there = dir.ancestors().find(|dir| named(dir).exists()).unwrap_or(dir);
    let vfs = RealVfs::open(&named(there)).map_err(failed)?;
    make_missing(&vfs, dir.strip_prefix(there).unwrap_or(dir)).map_err(failed)
}

fn make_missing(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let mut above = PathBuf::new();
    for name in dir.components() {
        let path = above.join(name);
        match vfs.mkdir(&path, 0o777) {
            // Somebody else was faster, and may not have synced it yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        vfs.sync_dir(&above)?;
        above = path;
    }
    Ok(())
}

/// A repository that is being made.
struct New<'a> {
    /// Where it is to lie.
    root: &'a Path,
    /// What it is called until it is whole.
    unfinished: &'a str,
    params: &'a Params,
    identity: &'a Identity,
    name: &'a str,
    copied: &'a Copied,
}

impl New<'_> {
    /// Makes all of it under its first name. `below` opens a directory of `vfs`. Durable on return, but for that name.
    fn fill(&self, vfs: &dyn Vfs, below: &dyn Fn(&str) -> io::Result<Arc<dyn Vfs>>) -> Result<(), Error> {
        let path = self.root.join(self.unfinished);
        let io = |error: io::Error| Error::path("cannot write", &path, &error);
        vfs.mkdir(Path::new(self.unfinished), 0o755).map_err(io)?;
        let vfs = below(self.unfinished).map_err(io)?;
        let place = Place { vfs: Arc::clone(&vfs), index_dir: path.join("index"), lock_dir: Some(path.clone()) };
        self.identity.save(&*vfs)?;
        config::create(&*vfs, self.name)?;
        self.copied.write(&*vfs)?;
        Store::create(&place, self.params).map_err(|error| Error::from(error).during("cannot make the store"))?;
        vfs.sync_dir(Path::new("")).map_err(io)
    }

    /// Gives it its name, if nothing has that.
    fn put(&self, vfs: &dyn Vfs) -> io::Result<()> {
        vfs.rename(Path::new(self.unfinished), Path::new(STORE_DIR), Rename::NoReplace)?;
        vfs.sync_dir(Path::new(""))
    }
}

/// Whether that is what a killed `init` left.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Takes a repository away that nothing was ever done with, and its directory if that was made for it and has nothing else in it.
pub fn unmake(root: &Path, had_dir: bool) {
    // Under that name the next `init` removes what is left of it.
    let away = root.join(format!("{UNFINISHED}gone"));
    drop(std::fs::rename(root.join(STORE_DIR), &away).and_then(|()| std::fs::remove_dir_all(&away)));
    if !had_dir {
        drop(std::fs::remove_dir(root));
    }
}

fn remove_unfinished(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && is_unfinished(&entry.file_name()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests;
