use filesync_cas::testing::LossVfs;
use filesync_cas::vfs::write_all_at;

use super::*;

const TAG: ConflictTag<'static> = ConflictTag { node: "no de/..", date: "today" };

struct Always(bool);

impl Expected for Always {
    fn is_untouched(&self, _: &Stat) -> bool {
        self.0
    }
    fn attrs_may_go(&self, _: &Path) -> bool {
        self.0
    }
    fn holds(&self, _: &Path) -> bool {
        self.0
    }
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

fn write(vfs: &dyn Vfs, at: &str, bytes: &[u8]) {
    let file = vfs.open(Path::new(at), Open::Create { mode: 0o644 }).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
}

fn read(vfs: &dyn Vfs, at: &str) -> Vec<u8> {
    filesync_cas::vfs::read_to_end(vfs, Path::new(at), 1 << 20).unwrap()
}

#[test]
fn put_replaces_what_was_expected_and_keeps_everything_else() {
    let vfs = LossVfs::new();
    let temp = temp_path(&path("f"));
    for (expected, there, result) in [
        (true, None, Changed::Done),
        (true, Some("old"), Changed::Done),
        (false, Some("mine"), Changed::Kept("f.conflict-node-today".into())),
        (false, Some("mine too"), Changed::Kept("f.conflict-node-today-2".into())),
    ] {
        let _ = vfs.unlink(Path::new("f"));
        there.into_iter().for_each(|bytes| write(&vfs, "f", bytes.as_bytes()));
        write(&vfs, temp.to_str().unwrap(), b"new");
        assert_eq!(put(&vfs, &temp, &path("f"), &Always(expected), TAG).unwrap(), result);
        assert_eq!(read(&vfs, "f"), b"new");
        assert!(vfs.stat(&temp).is_err());
    }
    assert_eq!(read(&vfs, "f.conflict-node-today-2"), b"mine too");
}

#[test]
fn take_removes_what_was_expected_and_leaves_everything_else() {
    let vfs = LossVfs::new();
    assert_eq!(take(&vfs, &path("f"), &Always(true), TAG).unwrap(), Changed::Done);
    write(&vfs, "f", b"x");
    assert_eq!(take(&vfs, &path("f"), &Always(false), TAG).unwrap(), Changed::Left);
    assert_eq!(read(&vfs, "f"), b"x");
    assert_eq!(take(&vfs, &path("f"), &Always(true), TAG).unwrap(), Changed::Done);
    assert!(vfs.stat(Path::new("f")).is_err());
    vfs.mkdir(Path::new("f"), 0o755).unwrap();
    assert_eq!(take(&vfs, &path("f"), &Always(true), TAG).unwrap(), Changed::Left);
}

#[test]
fn trees_are_removed_and_links_not_followed() {
    let dir = crate::scan::testing::TempDir::new();
    let vfs = filesync_cas::vfs::RealVfs::open(dir.root()).unwrap();
    dir.file("keep/x", b"");
    dir.file("t/a/b/c", b"");
    dir.symlink("../keep", "t/link");
    vfs.set_dir_mode(Path::new("t/a/b"), 0).unwrap();
    remove_tree(&vfs, Path::new("t")).unwrap();
    remove_tree(&vfs, Path::new("t")).unwrap();
    assert!(!dir.path("t").exists() && dir.path("keep/x").exists());
}
