use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
pub(super) struct Meddling {
    inner: RealVfs,
    path: PathBuf,
    deed: Mutex<Option<Deed>>,
}

impl Meddling {
    pub(super) fn at(fixture: &Fixture, path: impl Into<PathBuf>, deed: impl FnOnce() + Send + 'static) -> Self {
        let inner = RealVfs::open(fixture.dir.root()).unwrap();
        Self { inner, path: path.into(), deed: Mutex::new(Some(Box::new(deed))) }
    }
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
        if [from, to].contains(&&*self.path)
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
    fn free(&self) -> io::Result<u64> {
        self.inner.free()
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
    let work = Meddling::at(&fixture, meddle_at, move || deed(&root));
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
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let swapper = {
        let (stop, swaps) = (Arc::clone(&stop), Arc::clone(&swaps));
        let (root, outside) = (fixture.dir.root().to_owned(), outside.root().to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // The directory away, a link to elsewhere in its place, and back.
                if fs::rename(root.join("d"), root.join("aside")).is_ok() {
                    // Restore may make a new one meanwhile, and fill it, at any moment.
                    let is_swapped = std::os::unix::fs::symlink(&outside, root.join("d")).is_ok();
                    swaps.fetch_add(u32::from(is_swapped), Ordering::Relaxed);
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
        })
    };
    let (mut restores, mut round) = (0, 0);
    while round < 60 || swaps.load(Ordering::Relaxed) <= 20 || restores == 0 {
        assert!(round < 1_200, "only {swaps:?} swaps, and {restores} restores in {round} rounds");
        let to = commits[round % 2];
        let ctx = fixture.ctx();
        // Whatever comes of it: nothing outside is touched.
        restores += usize::from(plan(&ctx, to.0, to.1, &[], FORCE).and_then(|plan| apply(&ctx, &plan)).is_ok());
        let _ = fs::remove_file(fixture.dir.path(".filesync/journal"));
        round += 1;
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    println!("{swaps:?} swaps, {restores} restores in {round} rounds");
    assert_eq!(read_dir(outside.root()), before);
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

/// What stands where a file is prepared is somebody's: a restore that was cut off has been finished.
#[test]
fn what_has_a_temporary_name_is_kept_beside() {
    let target = || model([("a.txt", file("new")), ("n", file("added")), ("d/x", file("1")), ("l", link("there"))]);
    for is_directory in [false, true] {
        let mut fixture = Fixture::new();
        let to = fixture.commit(&target());
        fixture.head = Some(fixture.commit(&model([("a.txt", file("old"))])).1);
        fixture.write(&model([("a.txt", file("old"))]));
        let names = ["a.txt", "n", "d", "l"];
        for name in names {
            let temp = crate::worktree::temp_path(&path(name));
            let at = temp.to_str().unwrap();
            let at = if is_directory { format!("{at}/inside") } else { at.to_owned() };
            fixture.dir.file(at, format!("mine, {name}").as_bytes());
        }
        let ctx = fixture.ctx();
        let result = apply(&ctx, &plan(&ctx, to.0, to.1, &[], Flags::default()).unwrap()).unwrap();
        let mut skipped: Vec<_> = result.skipped.iter().map(|it| String::from_utf8(it.clone()).unwrap()).collect();
        skipped.sort();
        let copies =
            ["a.conflict-here-today.txt", "d.conflict-here-today", "l.conflict-here-today", "n.conflict-here-today"];
        assert_eq!(skipped, copies);
        let now = fixture.read();
        for (name, copy) in names.iter().zip([copies[0], copies[3], copies[1], copies[2]]) {
            let at = if is_directory { format!("{copy}/inside") } else { copy.to_owned() };
            assert_eq!(bytes(&now, &at), format!("mine, {name}").as_bytes());
        }
        assert!(target().iter().all(|(path, item)| now.get(path) == Some(item)), "{now:?}");
    }
}

#[test]
fn what_has_the_temporary_name_of_what_goes_is_kept_beside() {
    for is_directory in [false, true] {
        let mut fixture = Fixture::new();
        let to = fixture.commit(&model([("becomes dir/x", file("new"))]));
        let head = model([("gone", file("old")), ("becomes dir", file("old too"))]);
        fixture.head = Some(fixture.commit(&head).1);
        fixture.write(&head);
        for name in ["gone", "becomes dir"] {
            let temp = crate::worktree::temp_path(&path(name));
            let inside = if is_directory { "/inside" } else { "" };
            fixture.dir.file(format!("{}{inside}", temp.to_str().unwrap()), b"mine");
        }
        let ctx = fixture.ctx();
        let delete = Flags { delete: true, force: false };
        let result = apply(&ctx, &plan(&ctx, to.0, to.1, &[], delete).unwrap()).unwrap();
        let now = fixture.read();
        let mine = now.values().filter(|item| matches!(item, Item::File { bytes, .. } if bytes == b"mine")).count();
        assert_eq!(mine, 2, "{now:?}");
        assert_eq!(now.get(&path("becomes dir/x")), Some(&file("new")), "{now:?}");
        assert!(!now.contains_key(&path("gone")) && !result.skipped.is_empty(), "{result:?} {now:?}");
    }
}

/// Attributes are bytes too.
#[test]
fn attributes_set_in_the_last_moment_are_kept_beside() {
    let set_to = |root: &Path, value: &[u8]| {
        rustix::fs::setxattr(root.join("a.txt"), "user.note", value, rustix::fs::XattrFlags::empty()).is_ok()
    };
    let set = move |root: &Path| set_to(root, b"mine");
    let probe = TempDir::new();
    probe.file("a.txt", b"");
    if !set(probe.root()) {
        filesync_cas::testing::skipped("this file system has no attributes");
        return;
    }
    // What has just been written is read again; what was written before is gone by its times.
    for (is_older, had_one) in [(false, false), (true, false), (true, true)] {
        let mut fixture = Fixture::new();
        let head = model([("a.txt", file("old"))]);
        let to = fixture.commit(&model([("a.txt", file("new"))]));
        let tree = fixture.commit(&head).1;
        let attrs = fixture.attrs(b"user.note", b"theirs");
        fixture.head = Some(if had_one { fixture.with_attrs(tree, &["a.txt"], attrs) } else { tree });
        fixture.write(&head);
        let root = fixture.dir.root().to_owned();
        assert!(!had_one || set_to(&root, b"theirs"));
        let changed =
            |path: &Path| std::fs::metadata(path).map(|it| (it.ctime(), it.ctime_nsec())).expect("it is there");
        let at = root.join("a.txt");
        let before = changed(&at);
        while is_older && changed(TempDir::new().root()) <= before {}
        // Within the tick of the clock in which the file was made nothing shows that it changed.
        let work = Meddling::at(&fixture, "a.txt", move || {
            while changed(&at) == before {
                let _ = rustix::fs::removexattr(&at, "user.note");
                assert!(set(&root));
            }
        });
        let ctx = fixture.ctx_with(Arc::new(work));
        let result = apply(&ctx, &plan(&ctx, to.0, to.1, &[], BOTH).unwrap()).unwrap();
        assert_eq!(result.skipped, [b"a.conflict-here-today.txt"], "older: {is_older}, changed: {had_one}");
        let (mut value, copy) = ([0; 8], fixture.dir.path("a.conflict-here-today.txt"));
        let len = rustix::fs::getxattr(copy, "user.note", &mut value).unwrap();
        assert_eq!(&value[..len], b"mine");
    }
}

/// That they are not there is no work of the user's.
#[test]
fn attributes_that_could_not_be_set_are_not_missed() {
    let mut fixture = Fixture::new();
    // No file system takes a name that is nothing but the namespace.
    let attrs = fixture.attrs(b"user.", b"v");
    let (_, plain) = fixture.commit(&model([("changes", file("old")), ("goes", file("old"))]));
    let old = fixture.with_attrs(plain, &["changes", "goes"], attrs);
    let (new, new_tree) = fixture.commit(&model([("changes", file("new"))]));
    let to = |fixture: &Fixture, tree| {
        let ctx = fixture.ctx();
        apply(&ctx, &plan(&ctx, new, tree, &[], BOTH).unwrap()).unwrap()
    };
    to(&fixture, old);
    assert_eq!(fixture.notes.warnings().len(), 2, "they cannot be set");
    fixture.head = Some(old);
    let result = to(&fixture, new_tree);
    assert_eq!(fixture.read(), model([("changes", file("new"))]));
    assert!(result.skipped.is_empty(), "{result:?}");
}

/// A file system for which `A` and `a` are one name, in so far as its files are all lower case.
#[derive(Debug)]
struct Folding(RealVfs);

impl Folding {
    fn fold(path: &Path) -> std::path::PathBuf {
        path.to_str().unwrap().to_lowercase().into()
    }
}

impl Vfs for Folding {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open(&Self::fold(path), how)
    }
    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.0.mkdir(&Self::fold(path), mode)
    }
    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.0.symlink(target, &Self::fold(path))
    }
    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        self.0.rename(&Self::fold(from), &Self::fold(to), how)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(&Self::fold(path))
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.0.rmdir(&Self::fold(path))
    }
    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.0.set_dir_mode(&Self::fold(path), mode)
    }
    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        self.0.set_link_mtime(&Self::fold(path), secs, nanos)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(&Self::fold(path))
    }
    fn sync_all_files(&self) -> io::Result<()> {
        self.0.sync_all_files()
    }
    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.0.stat(&Self::fold(path))
    }
    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        self.0.read_link(&Self::fold(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        self.0.list(&Self::fold(path))
    }
    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

/// W10: where two names are one, both contents are there afterwards, and the user hears of it.
#[test]
fn twins_where_case_does_not_count_are_kept_beside() {
    for target in [
        model([("a", file("small")), ("A", file("LARGE"))]),
        model([("d/a", file("small")), ("d/A", file("LARGE"))]),
        model([("a/x", file("small")), ("A/x", file("LARGE"))]),
        model([("a", file("small")), ("A/x", file("LARGE"))]),
        model([("a/x", file("small")), ("A", file("LARGE"))]),
    ] {
        for is_there in [false, true] {
            let mut fixture = Fixture::new();
            let to = fixture.commit(&target);
            if is_there {
                fixture.dir.file("a", b"mine, in no commit");
                fixture.dir.file("d/a", b"mine, in no commit");
            }
            let inner = RealVfs::open(fixture.dir.root()).unwrap();
            let ctx = fixture.ctx_with(Arc::new(Folding(inner)));
            let result = plan(&ctx, to.0, to.1, &[], Flags::default()).and_then(|plan| apply(&ctx, &plan));
            drop(ctx);
            let now = fixture.read();
            let has = |wanted: &str| {
                now.values().any(|item| matches!(item, Item::File { bytes, .. } if bytes == wanted.as_bytes()))
            };
            assert!(!is_there || has("mine, in no commit"), "{result:?}: {now:?}");
            match &result {
                Ok(result) => {
                    assert!(!result.skipped.is_empty(), "{now:?}");
                    let told =
                        |wanted: &str| has(wanted) || result.skipped.iter().any(|at| target.contains_key(&path(at)));
                    assert!(told("small") && told("LARGE"), "{result:?}: {now:?}");
                }
                Err(error) => assert!(error.to_string().contains("cannot write"), "{error}"),
            }
            fixture.restart();
        }
    }
}
