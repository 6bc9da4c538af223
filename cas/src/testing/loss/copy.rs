//! Between the model and a real directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::fs::{Body, Fs, Ino, Node, ROOT};
use crate::vfs::{FileKind, Open, RealVfs, Vfs, read_to_end, write_all_at};

pub(super) fn read(root: &Path, skip: &[&Path]) -> io::Result<Fs> {
    let real = RealVfs::open(root)?;
    let mut model = Fs::new();
    let mut queue: Vec<(PathBuf, Ino)> = vec![(PathBuf::new(), ROOT)];
    while let Some((dir, dir_ino)) = queue.pop() {
        for (name, kind) in real.list(&dir)? {
            let path = dir.join(&name);
            if skip.contains(&path.as_path()) {
                continue;
            }
            let body = match kind {
                FileKind::File => Body::File(read_to_end(&real, &path, super::fs::FILE_LEN_MAX)?),
                FileKind::Dir => Body::Dir(Default::default()),
                FileKind::Symlink => Body::Symlink(real.read_link(&path)?),
                FileKind::Other => continue,
            };
            let stat = real.stat(&path)?;
            let node = Node { ctime: stat.ctime, ..Node::new(body, stat.mode, stat.mtime) };
            model.not_before(stat.ctime);
            let ino = model.add_settled(dir_ino, &name, node);
            if kind == FileKind::Dir {
                queue.push((path, ino));
            }
        }
    }
    let mode = real.stat(Path::new(""))?.mode;
    let root = model.inode_mut(ROOT);
    (root.live.mode, root.durable.mode) = (mode, mode);
    Ok(model)
}

pub(super) fn write(model: &Fs, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let real = RealVfs::open(target)?;
    let mut modes: Vec<(PathBuf, u32)> = Vec::new();
    let mut queue: Vec<(PathBuf, Ino)> = vec![(PathBuf::new(), ROOT)];
    while let Some((path, ino)) = queue.pop() {
        let node = model.live(ino);
        match &node.body {
            Body::File(bytes) => write_file(&real, &path, node, bytes)?,
            Body::Symlink(target) => {
                real.symlink(target, &path)?;
                real.set_link_mtime(&path, node.mtime.secs, node.mtime.nanos)?;
            }
            Body::Dir(entries) => {
                if ino != ROOT {
                    real.mkdir(&path, 0o700)?;
                }
                queue.extend(entries.iter().map(|(name, ino)| (path.join(name), *ino)));
                modes.push((path, node.mode));
            }
        }
    }
    // Last, deepest first: a directory may forbid writing or searching.
    for (path, mode) in modes.iter().rev() {
        real.set_dir_mode(path, *mode)?;
    }
    Ok(())
}

fn write_file(real: &RealVfs, path: &Path, node: &Node, bytes: &[u8]) -> io::Result<()> {
    let file = real.open(path, Open::Create { mode: 0o600 })?;
    write_all_at(&*file, bytes, 0)?;
    for (name, value) in &node.xattrs {
        file.set_xattr(OsStr::from_bytes(name.as_bytes()), value)?;
    }
    file.set_mode(node.mode)?;
    file.set_mtime(node.mtime.secs, node.mtime.nanos)
}
