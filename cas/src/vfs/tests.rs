//! Tests of the real file system and of the helpers; the models have their own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::*;
use crate::testing::{Fault, FaultVfs, Loss, LossVfs, Op, Plan, Scope, crash_states};

/// A directory under the system's temporary one, gone at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(temp_name().unwrap());
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    /// With and without openat2.
    fn both(&self) -> [RealVfs; 2] {
        [RealVfs::open(&self.0).unwrap(), RealVfs::without_openat2(&self.0).unwrap()]
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn put(vfs: &dyn Vfs, path: &str, bytes: &[u8]) {
    let file = vfs.open(p(path), Open::Create { mode: 0o644 }).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
}

fn get(vfs: &dyn Vfs, path: &str) -> Vec<u8> {
    read_to_end(vfs, p(path), 1 << 20).unwrap()
}

/// About as much as other programs say; what models say is no less than what they take.
#[test]
fn how_much_is_free() {
    let dir = TempDir::new();
    for vfs in dir.both() {
        let stat = rustix::fs::statvfs(&dir.0).unwrap();
        let (free, expected) = (vfs.free().unwrap(), stat.f_bavail * stat.f_frsize);
        // Others write meanwhile.
        assert!(free.abs_diff(expected) < 4 << 30 && (free == 0) == (expected == 0), "{free} of {expected}");
    }
    assert_eq!(LossVfs::new().free().unwrap(), u64::MAX);
}

/// Every call that takes a path, made on `path`; two of them on the way to it.
fn every_call(vfs: &dyn Vfs, path: &Path) -> Vec<(&'static str, io::Result<()>)> {
    vec![
        ("open read", vfs.open(path, Open::Read).map(drop)),
        ("open write", vfs.open(path, Open::Write).map(drop)),
        ("create", vfs.open(path, Open::Create { mode: 0o644 }).map(drop)),
        ("mkdir", vfs.mkdir(path, 0o755)),
        ("symlink", vfs.symlink(OsStr::new("x"), path)),
        ("rename from", vfs.rename(path, p("inside/new"), Rename::Replace)),
        ("rename to", vfs.rename(p("inside/file"), path, Rename::Replace)),
        ("exchange", vfs.rename(p("inside/file"), path, Rename::Exchange)),
        ("unlink", vfs.unlink(path)),
        ("rmdir", vfs.rmdir(path)),
        ("set_dir_mode", vfs.set_dir_mode(path, 0o700)),
        ("set_link_mtime", vfs.set_link_mtime(path, 1, 0)),
        ("sync_dir", vfs.sync_dir(path)),
        ("stat", vfs.stat(path).map(drop)),
        ("read_link", vfs.read_link(path).map(drop)),
        ("list", vfs.list(path).map(drop)),
        ("replace", replace(vfs, path, b"x", 0o644)),
    ]
}

#[test]
fn nothing_is_reached_over_a_symlink() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::create_dir(outside.0.join("sub")).unwrap();
    fs::write(outside.0.join("file"), b"theirs").unwrap();
    fs::create_dir(dir.0.join("inside")).unwrap();
    fs::write(dir.0.join("inside/file"), b"ours").unwrap();
    symlink(&outside.0, dir.0.join("link")).unwrap();
    symlink("inside", dir.0.join("harmless")).unwrap();
    let loss = LossVfs::from_dir(&dir.0, &[]).unwrap();
    let [real, old] = dir.both();
    for vfs in [&real as &dyn Vfs, &old, &loss] {
        for path in ["link/file", "link/sub", "link/new", "link/sub/new", "harmless/file", "harmless/new"] {
            for (call, done) in every_call(vfs, p(path)) {
                let error = done.expect_err(call);
                assert!(matches!(refused(&error), Some(Refused::Symlink(_))), "{call} {path}: {error:?}");
            }
        }
        assert!(refused(&vfs.list(p("link")).unwrap_err()).is_some());
        assert!(refused(&vfs.sync_dir(p("link")).unwrap_err()).is_some());
        assert!(refused(&vfs.set_dir_mode(p("link"), 0).unwrap_err()).is_some());
        assert_eq!(vfs.stat(p("link")).unwrap().kind, FileKind::Symlink);
        assert_eq!(get(vfs, "inside/file"), b"ours");
    }
    assert_eq!(fs::read(outside.0.join("file")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&outside.0).unwrap().count(), 2);
}

#[test]
fn a_symlink_at_the_end_is_never_followed() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    let target = outside.0.join("file");
    fs::write(&target, b"theirs").unwrap();
    for vfs in dir.both() {
        vfs.symlink(target.as_os_str(), p("link")).unwrap();
        for how in [Open::Read, Open::Write] {
            assert!(matches!(refused(&vfs.open(p("link"), how).unwrap_err()), Some(Refused::Symlink(_))));
        }
        let created = vfs.open(p("link"), Open::Create { mode: 0o644 });
        assert_eq!(created.unwrap_err().kind(), ErrorKind::AlreadyExists);
        vfs.set_link_mtime(p("link"), -7, 5).unwrap();
        assert_eq!(vfs.stat(p("link")).unwrap().mtime, FileTime { secs: -7, nanos: 5 });
        assert_eq!(vfs.read_link(p("link")).unwrap(), target.as_os_str());
        replace(&vfs, p("link"), b"new", 0o644).unwrap();
        assert_eq!(vfs.stat(p("link")).unwrap().kind, FileKind::File);
        vfs.unlink(p("link")).unwrap();
    }
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
    assert!(fs::metadata(&target).unwrap().modified().unwrap() > std::time::UNIX_EPOCH);
}

#[test]
fn only_plain_relative_paths() {
    let dir = TempDir::new();
    fs::create_dir(dir.0.join("inside")).unwrap();
    fs::write(dir.0.join("inside/file"), b"ours").unwrap();
    let loss = LossVfs::from_dir(&dir.0, &[]).unwrap();
    let [real, old] = dir.both();
    for vfs in [&real as &dyn Vfs, &old, &loss] {
        for path in ["/etc", "..", "../x", "inside/..", "inside/../x", ".", "./x", "inside//file", "inside/", "a\0b"] {
            for (call, done) in every_call(vfs, p(path)) {
                let error = done.expect_err(call);
                assert!(matches!(refused(&error), Some(Refused::BadPath(_))), "{call} {path:?}: {error:?}");
            }
        }
        // The root itself can be looked at and synced, but has no name to take away.
        vfs.sync_dir(p("")).unwrap();
        vfs.set_dir_mode(p(""), 0o755).unwrap();
        assert_eq!(vfs.list(p("")).unwrap(), [(OsString::from("inside"), FileKind::Dir)]);
        assert_eq!(vfs.stat(p("")).unwrap().kind, FileKind::Dir);
        assert!(vfs.rmdir(p("")).is_err() && vfs.mkdir(p(""), 0o755).is_err());
    }
}

#[test]
fn the_root_is_no_symlink_and_stays_where_it_was_opened() {
    let dir = TempDir::new();
    fs::create_dir(dir.0.join("a")).unwrap();
    symlink("a", dir.0.join("l")).unwrap();
    assert!(refused(&RealVfs::open(&dir.0.join("l")).unwrap_err()).is_some());
    let fd = rustix::fs::open(dir.0.join("a"), rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    let vfs = RealVfs::from_fd(fd).unwrap();
    fs::rename(dir.0.join("a"), dir.0.join("b")).unwrap();
    put(&vfs, "x", b"1");
    vfs.sync_all_files().unwrap();
    assert_eq!(fs::read(dir.0.join("b/x")).unwrap(), b"1");
}

/// Ends the other thread when this one is done or panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// W6: somebody swaps a directory for a symlink while we write below it.
#[test]
fn a_directory_swapped_for_a_symlink_leads_nowhere() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::create_dir(dir.0.join("d")).unwrap();
    fs::create_dir(outside.0.join("sub")).unwrap();
    symlink(&outside.0, dir.0.join("l")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut done, mut stopped) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let swap = RenameFlags::EXCHANGE;
                renameat_with(CWD, dir.0.join("d"), CWD, dir.0.join("l"), swap).unwrap();
            }
        });
        let _stop = Stop(&stop);
        for round in 0..3000 {
            // A vfs of its own each time, so that kept parents do not hide the race.
            for (which, vfs) in dir.both().iter().enumerate() {
                let name = format!("d/f{round}-{which}");
                let made = vfs.open(p(&name), Open::Create { mode: 0o644 }).and_then(|file| file.write_at(b"x", 0));
                let moved = vfs.rename(p(&name), p("d/moved"), Rename::Replace);
                for result in [made.map(drop), moved, vfs.rmdir(p("d/sub")), vfs.unlink(p("d/moved"))] {
                    match result {
                        Ok(()) => done += 1,
                        Err(e) if refused(&e).is_some() => stopped += 1,
                        Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound, "{e:?}"),
                    }
                }
                if let Err(e) = vfs.unlink(p(&name)) {
                    assert!(refused(&e).is_some() || e.kind() == ErrorKind::NotFound, "{e:?}");
                }
            }
        }
    });
    assert!(done > 0 && stopped > 0, "no race: {done} done, {stopped} refused");
    let left: Vec<_> = fs::read_dir(&outside.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sub"]);
}

#[test]
fn rename_replaces_refuses_or_exchanges() {
    let dir = TempDir::new();
    let loss = LossVfs::new();
    let [real, _] = dir.both();
    for vfs in [&real as &dyn Vfs, &loss] {
        vfs.mkdir(p("d"), 0o755).unwrap();
        put(vfs, "d/in", b"in");
        put(vfs, "f", b"f");
        let error = vfs.rename(p("f"), p("d/in"), Rename::NoReplace).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(vfs.rename(p("f"), p("g"), Rename::Exchange).unwrap_err().kind(), ErrorKind::NotFound);
        vfs.rename(p("f"), p("d"), Rename::Exchange).unwrap();
        assert_eq!(get(vfs, "d"), b"f");
        assert_eq!(get(vfs, "f/in"), b"in");
        vfs.rename(p("d"), p("f/in"), Rename::Replace).unwrap();
        assert_eq!(get(vfs, "f/in"), b"f");
        vfs.rename(p("f/in"), p("f/on"), Rename::NoReplace).unwrap();
        assert_eq!(vfs.list(p("f")).unwrap(), [(OsString::from("on"), FileKind::File)]);
    }
}

#[test]
fn paths_longer_than_path_max() {
    let dir = TempDir::new();
    for vfs in dir.both() {
        let mut path = PathBuf::new();
        for level in 0..40 {
            path.push(format!("{level:0200}"));
            vfs.mkdir(&path, 0o755).unwrap();
        }
        assert!(path.as_os_str().len() > 8000);
        let file = path.join("file");
        replace(&vfs, &file, b"deep", 0o644).unwrap();
        assert_eq!(read_to_end(&vfs, &file, 10).unwrap(), b"deep");
        vfs.rename(&file, &path.join("other"), Rename::NoReplace).unwrap();
        assert_eq!(vfs.list(&path).unwrap(), [("other".into(), FileKind::File)]);
        assert_eq!(vfs.stat(&path.join("other")).unwrap().size, 4);
        vfs.unlink(&path.join("other")).unwrap();
        while !path.as_os_str().is_empty() {
            vfs.rmdir(&path).unwrap();
            path.pop();
        }
        let name = "n".repeat(5000);
        assert_eq!(vfs.open(p(&name), Open::Read).unwrap_err().raw_os_error(), Some(36));
    }
}

#[test]
fn only_regular_files_are_opened_and_nothing_waits() {
    let dir = TempDir::new();
    mknodat(CWD, dir.0.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.0.join("socket")).unwrap();
    fs::create_dir(dir.0.join("dir")).unwrap();
    for vfs in dir.both() {
        for name in ["fifo", "socket", "dir"] {
            for how in [Open::Read, Open::Write] {
                let error = vfs.open(p(name), how).unwrap_err();
                assert!(matches!(refused(&error), Some(Refused::NotAFile(_))), "{name}: {error:?}");
            }
        }
        assert_eq!(vfs.stat(p("fifo")).unwrap().kind, FileKind::Other);
    }
}

#[test]
fn metadata_is_set_and_told() {
    let dir = TempDir::new();
    for vfs in dir.both() {
        let file = vfs.open(p("f"), Open::Create { mode: 0o600 }).unwrap();
        file.set_len(3 << 20).unwrap();
        file.set_mode(0o751).unwrap();
        file.set_mtime(-3, 999_999_999).unwrap();
        file.set_xattr(OsStr::new("user.k"), b"v").unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        let stat = vfs.stat(p("f")).unwrap();
        assert_eq!(stat, file.stat().unwrap());
        assert_eq!((stat.kind, stat.size, stat.mode, stat.nlink), (FileKind::File, 3 << 20, 0o751, 1));
        assert_eq!(stat.mtime, FileTime { secs: -3, nanos: 999_999_999 });
        assert!(stat.blocks * 512 < stat.size && stat.ctime.secs > 1_600_000_000);
        vfs.mkdir(p("d"), 0o755).unwrap();
        for mode in [0o311, 0o700] {
            vfs.set_dir_mode(p("d"), mode).unwrap();
            assert_eq!(fs::metadata(dir.0.join("d")).unwrap().permissions().mode() & 0o7777, mode);
        }
        vfs.unlink(p("f")).unwrap();
        assert_eq!(file.len().unwrap(), 3 << 20, "an open file outlives its name");
        vfs.rmdir(p("d")).unwrap();
    }
}

#[test]
fn kept_parents_do_not_outlive_their_directory() {
    let dir = TempDir::new();
    for vfs in dir.both() {
        vfs.mkdir(p("a"), 0o755).unwrap();
        vfs.mkdir(p("a/b"), 0o755).unwrap();
        vfs.symlink(OsStr::new("1"), p("a/b/one")).unwrap();
        vfs.rename(p("a"), p("c"), Rename::Replace).unwrap();
        assert_eq!(vfs.symlink(OsStr::new("2"), p("a/b/two")).unwrap_err().kind(), ErrorKind::NotFound);
        vfs.mkdir(p("a"), 0o755).unwrap();
        vfs.mkdir(p("a/b"), 0o755).unwrap();
        vfs.symlink(OsStr::new("2"), p("a/b/two")).unwrap();
        vfs.rename(p("a"), p("c"), Rename::Exchange).unwrap();
        assert_eq!(vfs.read_link(p("a/b/one")).unwrap(), "1");
        assert_eq!(vfs.read_link(p("c/b/two")).unwrap(), "2");
        // Removed and made again by somebody else.
        fs::remove_dir_all(dir.0.join("c")).unwrap();
        fs::create_dir_all(dir.0.join("c/b")).unwrap();
        vfs.symlink(OsStr::new("3"), p("c/b/three")).unwrap();
        fs::remove_dir_all(dir.0.join("c")).unwrap();
        fs::create_dir_all(dir.0.join("c/b")).unwrap();
        vfs.rename(p("a/b/one"), p("c/b/one"), Rename::NoReplace).unwrap();
        assert_eq!(fs::read_dir(dir.0.join("c/b")).unwrap().count(), 1);
        fs::remove_dir_all(dir.0.join("a")).unwrap();
        fs::remove_dir_all(dir.0.join("c")).unwrap();
    }
}

#[test]
fn reading_is_bounded() {
    let vfs = LossVfs::new();
    put(&vfs, "f", &[7; 40_000]);
    assert_eq!(read_to_end(&vfs, p("f"), 40_000).unwrap(), [7; 40_000]);
    assert_eq!(read_to_end(&vfs, p("f"), 39_999).unwrap_err().kind(), ErrorKind::FileTooLarge);
    let file = vfs.open(p("f"), Open::Read).unwrap();
    let mut buf = [0; 10];
    read_exact_at(&*file, &mut buf, 39_990).unwrap();
    assert_eq!(read_exact_at(&*file, &mut buf, 39_991).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn short_writes_are_continued() {
    let vfs =
        FaultVfs::with_plan(Arc::new(LossVfs::new()), Plan { scope: Scope::Mutating, at: 1, fault: Fault::ShortWrite });
    replace(&vfs, p("f"), b"0123456789", 0o644).unwrap();
    vfs.assert_hit();
    assert_eq!(vfs.counts().of(Op::WriteAt), 2);
    assert_eq!(get(&vfs, "f"), b"0123456789");
}

#[test]
fn writes_that_are_always_short_come_to_an_end() {
    let plan = Plan { scope: Scope::Only(Op::WriteAt), at: 2, fault: Fault::ShortFrom };
    let vfs = FaultVfs::with_plan(Arc::new(LossVfs::new()), plan);
    for content in [b"9876543210", b"0123456789"] {
        replace(&vfs, p("f"), content, 0o644).unwrap();
        assert_eq!(get(&vfs, "f"), content);
    }
    vfs.assert_hit();
    // The first as a whole, the other in pieces of 5, 2, 1, 1 and 1.
    assert_eq!(vfs.counts().of(Op::WriteAt), 6);
}

#[test]
fn replace_survives_every_crash_with_the_old_or_the_new_content() {
    let (old, new) = (vec![1; 3000], vec![2; 5000]);
    let start = LossVfs::new();
    start.mkdir(p("d"), 0o755).unwrap();
    put(&start, "d/f", &old);
    start.sync_all_files().unwrap();
    for path in ["d/f", "d/fresh"] {
        let states = crash_states(
            &start,
            0..200,
            |vfs| replace(&*vfs, p(path), &new, 0o644),
            |_, returned, left| {
                let found = read_to_end(&left, p(path), 10_000).ok();
                let before = (path == "d/f").then(|| old.clone());
                assert!(found.as_ref() == Some(&new) || returned.is_err() && found == before);
                assert_eq!(get(&left, "d/f") == old, path != "d/f" || found == before);
            },
        );
        assert_eq!(states, 6 * 202, "create, write, sync, rename, sync");
    }
}

/// The same with one step left out must be found out, or the test above proves nothing.
#[test]
fn careless_replacements_are_caught() {
    type Replace = fn(&dyn Vfs) -> io::Result<()>;
    let no_file_sync: Replace = |vfs| {
        put_or(vfs)?;
        vfs.rename(p("tmp"), p("f"), Rename::Replace)?;
        vfs.sync_dir(p(""))
    };
    let no_dir_sync: Replace = |vfs| {
        put_or(vfs)?.sync_all()?;
        vfs.rename(p("tmp"), p("f"), Rename::Replace)
    };
    let in_place: Replace = |vfs| {
        let file = vfs.open(p("f"), Open::Write)?;
        write_all_at(&*file, &[2; 5000], 0)?;
        file.sync_all()
    };
    fn put_or(vfs: &dyn Vfs) -> io::Result<Arc<dyn VfsFile>> {
        let file = vfs.open(p("tmp"), Open::Create { mode: 0o644 })?;
        write_all_at(&*file, &[2; 5000], 0)?;
        Ok(file)
    }
    let start = LossVfs::new();
    put(&start, "f", &[1; 3000]);
    start.sync_all_files().unwrap();
    for (name, careless) in [("no_file_sync", no_file_sync), ("no_dir_sync", no_dir_sync), ("in_place", in_place)] {
        let mut caught = 0;
        crash_states(
            &start,
            0..50,
            |vfs| careless(&*vfs),
            |_, returned, left| {
                let found = get(&left, "f");
                caught += u32::from(!(found == [2; 5000] || returned.is_err() && found == [1; 3000]));
            },
        );
        assert!(caught > 0, "{name}");
    }
}

#[test]
fn replace_leaves_no_temporary_file_after_an_error() {
    for at in 1..=5 {
        let vfs = FaultVfs::new(Arc::new(LossVfs::new()));
        put(&vfs, "f", b"old");
        vfs.set_plan(Some(Plan { scope: Scope::Mutating, at, fault: Fault::ErrorOnce(5) }));
        let error = replace(&vfs, p("f"), b"new", 0o644).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        vfs.assert_hit();
        assert_eq!(vfs.list(p("")).unwrap().len(), 1);
        assert_eq!(get(&vfs, "f"), if at < 5 { b"old" } else { b"new" });
    }
}

#[test]
fn what_loss_leaves_can_be_put_on_a_disk() {
    let (dir, out) = (TempDir::new(), TempDir::new());
    for sub in ["d", "d/e", "skip", "d/skip"] {
        fs::create_dir(dir.0.join(sub)).unwrap();
    }
    fs::write(dir.0.join("d/e/f"), b"content").unwrap();
    fs::write(dir.0.join("skip/f"), b"content").unwrap();
    symlink("nowhere", dir.0.join("d/l")).unwrap();
    fs::set_permissions(dir.0.join("d/e"), fs::Permissions::from_mode(0o500)).unwrap();
    let model = LossVfs::from_dir(&dir.0, &[p("skip")]).unwrap();
    put(&model, "lost", b"x");
    let target = out.0.join("t");
    model.materialise(&target, &Loss::DropAllUnsynced).unwrap();
    let (before, after) = (RealVfs::open(&dir.0).unwrap(), RealVfs::open(&target).unwrap());
    let mut top = after.list(p("")).unwrap();
    top.sort();
    assert_eq!(top, [("d".into(), FileKind::Dir)]);
    for path in ["d", "d/e", "d/e/f", "d/l", "d/skip"] {
        let (a, b) = (before.stat(p(path)).unwrap(), after.stat(p(path)).unwrap());
        assert_eq!((a.kind, a.mode), (b.kind, b.mode), "{path}");
        assert!(a.kind == FileKind::Dir || a.mtime == b.mtime, "{path}");
    }
    assert_eq!(get(&after, "d/e/f"), b"content");
    assert_eq!(after.read_link(p("d/l")).unwrap(), "nowhere");
}
