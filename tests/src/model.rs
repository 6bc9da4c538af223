//! What a directory holds, as a plain map: to be compared with what a repository gives back.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// One path of a working copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Permission bits, mtime (seconds, nanoseconds) and bytes.
    File(u32, (i64, i64), Vec<u8>),
    /// Target.
    Symlink(Vec<u8>),
    /// Permission bits.
    Directory(u32),
}

/// Everything below a directory but `.filesync`, by path.
pub type Tree = BTreeMap<Vec<u8>, Item>;

/// Reads a directory. Special files are left out.
pub fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.file_name().is_some_and(|name| name == ".filesync") {
                continue;
            }
            let meta = path.symlink_metadata().expect("an entry has metadata");
            let mode = meta.permissions().mode() & 0o777;
            let item = if meta.is_dir() {
                open.push(path.clone());
                Item::Directory(mode)
            } else if meta.is_symlink() {
                Item::Symlink(std::fs::read_link(&path).expect("a link can be read").as_os_str().as_bytes().to_vec())
            } else if meta.is_file() {
                let bytes = std::fs::read(&path).expect("a file can be read");
                Item::File(mode, (meta.mtime(), meta.mtime_nsec()), bytes)
            } else {
                continue;
            };
            let relative = path.strip_prefix(root).expect("below the root");
            tree.insert(relative.as_os_str().as_bytes().to_vec(), item);
        }
    }
    tree
}

/// The first path at which two trees differ, and how; mtimes only if asked for.
pub fn difference(expected: &Tree, found: &Tree, times: bool) -> Option<String> {
    let same = |a: &Item, b: &Item| match (a, b) {
        (Item::File(mode, time, bytes), Item::File(mode2, time2, bytes2)) => {
            mode == mode2 && bytes == bytes2 && (!times || time == time2)
        }
        (a, b) => a == b,
    };
    let describe = |item: Option<&Item>| match item {
        None => "nothing".to_owned(),
        Some(Item::File(mode, time, bytes)) => {
            let begin = String::from_utf8_lossy(bytes).chars().take(20).collect::<String>();
            format!("a file, {mode:o}, {time:?}, {} bytes {begin:?}", bytes.len())
        }
        Some(Item::Symlink(target)) => format!("a symlink to {}", String::from_utf8_lossy(target)),
        Some(Item::Directory(mode)) => format!("a directory, {mode:o}"),
    };
    expected.keys().chain(found.keys()).find_map(|path| {
        let (wanted, there) = (expected.get(path), found.get(path));
        let equal = wanted.is_some() == there.is_some() && wanted.zip(there).is_none_or(|(a, b)| same(a, b));
        let path = String::from_utf8_lossy(path);
        (!equal).then(|| format!("{path}: expected {}, found {}", describe(wanted), describe(there)))
    })
}

/// Fails where two trees differ; mtimes are not looked at.
#[track_caller]
pub fn assert_same(expected: &Tree, found: &Tree, what: &str) {
    if let Some(difference) = difference(expected, found, false) {
        panic!("{what}: {difference}");
    }
}
