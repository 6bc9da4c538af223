use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use filesync_cas::testing::Rng;
use filesync_cas::vfs::{FileKind, FileStat, Open, RealVfs, Rename, Vfs, VfsFile};

use crate::restore::testing::*;
use crate::restore::{Flags, apply, plan, to_directory};
use crate::scan::testing::TempDir;

const FORCE: Flags = Flags { delete: false, force: true };
const BOTH: Flags = Flags { delete: true, force: true };

type Deed = Box<dyn FnOnce() + Send>;

/// Does something once, right before the first rename that touches a path.
struct Meddling {
    inner: RealVfs,
    path: String,
    deed: Mutex<Option<Deed>>,
}

impl std::fmt::Debug for Meddling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddling")
    }
}

impl Vfs for Meddling {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        self.inner.open(path, how)
    }
    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.inner.mkdir(path, mode)
    }
    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.inner.symlink(target, path)
    }
    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        if [from, to].contains(&Path::new(&self.path))
            && let Some(deed) = self.deed.lock().unwrap().take()
        {
            deed();
        }
        self.inner.rename(from, to, how)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.inner.rmdir(path)
    }
    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.inner.set_dir_mode(path, mode)
    }
    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        self.inner.set_link_mtime(path, secs, nanos)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn sync_all_files(&self) -> io::Result<()> {
        self.inner.sync_all_files()
    }
    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.inner.stat(path)
    }
    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        self.inner.read_link(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        self.inner.list(path)
    }
}

/// A restore that deletes `gone`, replaces `a.txt` and adds `n`, while somebody does a deed.
fn race(meddle_at: &str, deed: impl FnOnce(&Path) + Send + 'static) -> (Model, Vec<String>) {
    race_to(model([("a.txt", file("new")), ("n", file("added"))]), meddle_at, deed)
}

fn race_to(target: Model, meddle_at: &str, deed: impl FnOnce(&Path) + Send + 'static) -> (Model, Vec<String>) {
    let mut fixture = Fixture::new();
    let head = model([("a.txt", file("old")), ("gone", file("x"))]);
    let to = fixture.commit(&target);
    fixture.head = Some(fixture.commit(&head).1);
    fixture.write(&head);
    let root = fixture.dir.root().to_owned();
    let deed: Deed = Box::new(move || deed(&root));
    let inner = RealVfs::open(fixture.dir.root()).unwrap();
    let work = Meddling { inner, path: meddle_at.to_owned(), deed: Mutex::new(Some(deed)) };
    let ctx = fixture.ctx_with(Arc::new(work));
    let result = apply(&ctx, &plan(&ctx, to.0, to.1, &[], BOTH).unwrap()).unwrap();
    let skipped = result.skipped.iter().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
    (fixture.read(), skipped)
}

fn bytes<'m>(model: &'m Model, at: &str) -> &'m [u8] {
    match model.get(&path(at)) {
        Some(Item::File { bytes, .. }) => bytes,
        other => panic!("{at} is {other:?}"),
    }
}

#[test]
fn a_file_changed_in_the_last_moment_is_kept_beside() {
    let (now, skipped) = race("a.txt", |root| fs::write(root.join("a.txt"), "mine").unwrap());
    assert_eq!(bytes(&now, "a.txt"), b"new");
    assert_eq!(bytes(&now, "a.conflict-here-today.txt"), b"mine");
    assert_eq!(skipped, ["a.conflict-here-today.txt"]);
    assert_eq!(now.len(), 3);
}

#[test]
fn a_file_replaced_by_one_of_the_same_size_and_time_is_kept_beside() {
    let (now, skipped) = race("a.txt", |root| {
        fs::write(root.join("other"), "OLD").unwrap();
        let time = fs::metadata(root.join("a.txt")).unwrap().modified().unwrap();
        fs::File::open(root.join("other")).unwrap().set_modified(time).unwrap();
        fs::rename(root.join("other"), root.join("a.txt")).unwrap();
    });
    assert_eq!(bytes(&now, "a.txt"), b"new");
    assert_eq!(bytes(&now, "a.conflict-here-today.txt"), b"OLD");
    assert_eq!(skipped.len(), 1);
}

#[test]
fn a_directory_that_came_is_kept_beside() {
    let (now, skipped) = race("a.txt", |root| {
        fs::remove_file(root.join("a.txt")).unwrap();
        fs::create_dir(root.join("a.txt")).unwrap();
        fs::write(root.join("a.txt/x"), "mine").unwrap();
    });
    assert_eq!(bytes(&now, "a.txt"), b"new");
    assert_eq!(bytes(&now, "a.conflict-here-today.txt/x"), b"mine");
    assert_eq!(skipped.len(), 1);
}

#[test]
fn a_file_that_vanished_is_written() {
    let (now, skipped) = race("a.txt", |root| fs::remove_file(root.join("a.txt")).unwrap());
    assert_eq!(now, model([("a.txt", file("new")), ("n", file("added"))]));
    assert!(skipped.is_empty());
}

#[test]
fn a_file_that_came_is_kept_beside() {
    let (now, skipped) = race("n", |root| fs::write(root.join("n"), "mine").unwrap());
    assert_eq!(bytes(&now, "n"), b"added");
    assert_eq!(bytes(&now, "n.conflict-here-today"), b"mine");
    assert_eq!(skipped.len(), 1);
}

#[test]
fn a_directory_where_a_new_one_is_to_be_stays() {
    let target = model([("a.txt", file("new")), ("d/e/x", file("1")), ("d/y", file("2"))]);
    let (now, skipped) = race_to(target, "d", |root| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/mine"), "mine").unwrap();
    });
    assert_eq!(skipped, ["d"]);
    assert_eq!(bytes(&now, "d/mine"), b"mine");
    assert_eq!(bytes(&now, "a.txt"), b"new");
    assert_eq!(now.len(), 3, "{now:?}");
}

#[test]
fn a_file_changed_before_it_is_deleted_stays() {
    let (now, skipped) = race("gone", |root| fs::write(root.join("gone"), "mine").unwrap());
    assert_eq!(bytes(&now, "gone"), b"mine");
    assert_eq!(skipped, ["gone"]);
    assert_eq!(now.len(), 3);
}

#[test]
fn swapped_directories_lead_nowhere() {
    let mut fixture = Fixture::new();
    let mut rng = Rng::new(1);
    let mut one = Model::new();
    for number in 0..60 {
        one.insert(path(format!("d/s/f{number:02}")), file(text(&mut rng, 500)));
    }
    with_parents(&mut one);
    let mut two = one.clone();
    two.values_mut().for_each(|item| {
        if let Item::File { bytes, .. } = item {
            bytes.push(b'!');
        }
    });
    let commits = [fixture.commit(&one), fixture.commit(&two)];
    fixture.head = Some(commits[1].1);
    fixture.write(&one);
    let outside = TempDir::new();
    outside.file("s/precious", b"precious");
    outside.file("s/f01", b"precious too");
    let before = read_dir(outside.root());
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, root, outside) = (Arc::clone(&stop), fixture.dir.root().to_owned(), outside.root().to_owned());
        std::thread::spawn(move || {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                // The directory away, a link to elsewhere in its place, and back.
                if fs::rename(root.join("d"), root.join("aside")).is_ok() {
                    // Restore may make a new one meanwhile, and fill it, at any moment.
                    swaps += u32::from(std::os::unix::fs::symlink(&outside, root.join("d")).is_ok());
                    std::thread::yield_now();
                    loop {
                        let _ = fs::remove_file(root.join("d"));
                        let _ = fs::remove_dir_all(root.join("d"));
                        if fs::rename(root.join("aside"), root.join("d")).is_ok() {
                            break;
                        }
                    }
                }
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            swaps
        })
    };
    let mut restores = 0;
    for round in 0..60 {
        let to = commits[round % 2];
        let ctx = fixture.ctx();
        // Whatever comes of it: nothing outside is touched.
        restores += usize::from(plan(&ctx, to.0, to.1, &[], FORCE).and_then(|plan| apply(&ctx, &plan)).is_ok());
        let _ = fs::remove_file(fixture.dir.path(".filesync/journal"));
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert_eq!(read_dir(outside.root()), before);
    assert!(swaps > 20, "only {swaps} swaps");
    assert!(restores > 0);
}

#[test]
fn links_in_a_tree_are_made_and_not_followed() {
    let fixture = Fixture::new();
    let outside = TempDir::new();
    outside.file("x", b"precious");
    let target = outside.root().to_str().unwrap();
    let (_, first) = fixture.commit(&model([("a", link(target)), ("b", link("../../../etc/passwd"))]));
    let out = TempDir::new();
    to_directory(&fixture.ctx(), first, &[], &out.path("copy"), false).unwrap();
    // A later state has files below what was a link: the link goes, nothing behind it.
    let to = fixture.commit(&model([("a/x", file("new")), ("b", file("plain"))]));
    fixture.write(&model([("a", link(target)), ("b", link("../../../etc/passwd"))]));
    let ctx = fixture.ctx();
    apply(&ctx, &plan(&ctx, to.0, to.1, &[], BOTH).unwrap()).unwrap();
    assert_eq!(fs::read(outside.path("x")).unwrap(), b"precious");
    assert_eq!(fixture.read(), model([("a/x", file("new")), ("b", file("plain"))]));
}
