//! Single files: strange ones, and all that is kept of them.

use std::fs::{File, Permissions, metadata, set_permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use filesync_tests::model::{assert_same, difference, read_tree};
use filesync_tests::world::{World, skipped};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, getxattr, setxattr};

use super::{make_fifo, set_mtime};

#[test]
fn names_of_all_kinds() {
    let world = World::repository();
    let names: [&[u8]; 9] = [b"\xff\xfe", b"a\nb", b" ", b"-rf", b"--", b"HEAD", b"~1", b"*", &[b'x'; 255]];
    for name in names {
        let name = std::ffi::OsStr::from_bytes(name);
        world.write(name, name.as_bytes());
        world.write(Path::new("dir").join(name).join("below"), name.as_bytes());
    }
    round_trip(&world);
}

/// Commits, makes a copy of the commit elsewhere, and demands that it equals the working copy; so does a restore
/// in place of all that was removed.
#[track_caller]
fn round_trip(world: &World) {
    world.commit();
    let expected = read_tree(world.root());
    let copy = World::empty();
    let to = copy.path("copy");
    world.ok(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert_eq!(difference(&expected, &read_tree(&to), true), None, "restored elsewhere");
    for entry in std::fs::read_dir(world.root()).expect("it can be read").flatten() {
        if entry.file_name() != ".filesync" {
            let path = entry.path();
            let is_dir = entry.file_type().expect("it has a kind").is_dir();
            if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it can be removed");
        }
    }
    world.ok(&["restore"]);
    assert_eq!(difference(&expected, &read_tree(world.root()), true), None, "restored in place");
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn modes_times_links_and_empty_directories() {
    let world = World::repository();
    for mode in [0o400, 0o444, 0o600, 0o644, 0o664, 0o700, 0o755, 0o777, 0o000, 0o111] {
        let name = format!("mode-{mode:o}");
        world.write(&name, &name);
        set_permissions(world.path(&name), Permissions::from_mode(mode)).expect("modes can be set");
    }
    for (name, secs, nanos) in [("old", -86_400, 1), ("new", 4_000_000_000, 999_999_999), ("zero", 0, 0)] {
        world.write(name, name);
        set_mtime(&world.path(name), secs, nanos);
    }
    std::fs::create_dir_all(world.path("empty/in/empty")).expect("it can be made");
    world.write("d/f", "f");
    set_permissions(world.path("d"), Permissions::from_mode(0o751)).expect("modes can be set");
    symlink("nowhere/\u{1}/at all", world.path("dangling")).expect("it can be made");
    symlink("/etc/passwd", world.path("absolute")).expect("it can be made");
    symlink("d", world.path("to-dir")).expect("it can be made");
    world.write("no bytes", "");
    // Files of mode 0 can only be read by root: others would need --partial.
    if !filesync_tests::world::is_root() {
        set_permissions(world.path("mode-0"), Permissions::from_mode(0o400)).expect("modes can be set");
        set_permissions(world.path("mode-111"), Permissions::from_mode(0o500)).expect("modes can be set");
    }
    round_trip(&world);
}

#[test]
fn extended_attributes() {
    let world = World::repository();
    world.write("f", "f");
    let path = world.path("f");
    if let Err(error) = setxattr(&path, "user.note", b"one\0two", XattrFlags::empty()) {
        skipped(&format!("this file system has no extended attributes: {error}"));
        return;
    }
    let first = world.commit();
    // Another value alone is a change.
    setxattr(&path, "user.note", b"three", XattrFlags::empty()).expect("it can be set");
    setxattr(&path, "user.more", b"", XattrFlags::empty()).expect("it can be set");
    assert_eq!(world.changes(), ["M f"]);
    world.commit();
    let value = |path: &Path, name: &str| {
        let mut buffer = [0; 64];
        getxattr(path, name, &mut buffer[..]).ok().map(|len| buffer[..len].to_vec())
    };
    let copy = World::empty();
    let to = copy.path("copy");
    world.ok(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert_eq!(value(&to.join("f"), "user.note").as_deref(), Some(b"three".as_slice()));
    assert_eq!(value(&to.join("f"), "user.more").as_deref(), Some(b"".as_slice()));
    world.ok(&["restore", &first]);
    assert_eq!(value(&path, "user.note").as_deref(), Some(b"one\0two".as_slice()));
    assert_eq!(value(&path, "user.more"), None);
}

#[test]
fn hard_links_are_files_of_their_own() {
    let world = World::repository();
    world.write("a", "same");
    std::fs::hard_link(world.path("a"), world.path("b")).expect("it can be made");
    world.commit();
    // Written through one name, both change.
    std::fs::write(world.path("a"), "more").expect("it can be written");
    assert_eq!(world.changes(), ["M a", "M b"]);
    world.commit();
    assert_eq!((world.cat("a"), world.cat("b")), (b"more".to_vec(), b"more".to_vec()));
    // Bringing one back leaves the other alone.
    world.ok(&["restore", "HEAD~1", "--", "a"]);
    assert_eq!(std::fs::read(world.path("a")).expect("it is there"), b"same");
    assert_eq!(std::fs::read(world.path("b")).expect("it is there"), b"more");
}

#[test]
fn sparse_files_stay_sparse() {
    let world = World::repository();
    let file = File::create(world.path("sparse")).expect("it can be made");
    file.write_all_at(b"begin", 0).expect("it can be written");
    file.write_all_at(b"middle", 20 << 20).expect("it can be written");
    file.set_len(64 << 20).expect("it can be longer");
    drop(file);
    let blocks = |path: &Path| metadata(path).expect("it is there").blocks();
    if blocks(&world.path("sparse")) > 4096 {
        skipped("this file system has no holes");
        return;
    }
    let before = read_tree(world.root());
    let result = world.object(0, &["commit"]);
    assert!(result["stored_bytes"].as_u64().is_some_and(|stored| stored < 1 << 20), "{result}");
    std::fs::remove_file(world.path("sparse")).expect("it is there");
    world.ok(&["restore"]);
    assert_same(&before, &read_tree(world.root()), "a sparse file");
    let blocks = blocks(&world.path("sparse"));
    assert!(blocks <= 4096, "it takes {blocks} blocks");
}

#[test]
fn special_files_are_skipped_with_a_warning() {
    let world = World::repository();
    world.write("a", "a");
    make_fifo(&world.path("fifo"));
    std::fs::create_dir(world.path("d")).expect("it can be made");
    let _socket = UnixListener::bind(world.path("d/socket")).expect("it can be bound");
    let mut special = vec!["fifo", "d/socket"];
    // Of what would never end, and of a disk.
    for (name, kind, device) in [("zero", FileType::CharacterDevice, (1, 5)), ("d/loop", FileType::BlockDevice, (7, 0))]
    {
        let device = rustix::fs::makedev(device.0, device.1);
        match rustix::fs::mknodat(CWD, world.path(name), kind, Mode::from_raw_mode(0o644), device) {
            Ok(()) => special.push(name),
            Err(error) => skipped(&format!("devices cannot be made here: {error}")),
        }
    }
    for args in [["status"], ["commit"]] {
        let output = world.run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(special.iter().all(|name| err.contains(name)), "{args:?}: {special:?}: {err}");
        assert_eq!(err.lines().count(), special.len(), "{args:?}: {err}");
    }
    assert_eq!(world.ok(&["ls", "-r"]), "a\nd\n");
    assert!(world.run(&["-q", "status"]).stderr.is_empty());
    // A tracked file that has become one.
    std::fs::remove_file(world.path("a")).expect("it is there");
    make_fifo(&world.path("a"));
    assert_eq!(world.changes(), ["D a"]);
    world.commit();
    assert_eq!(world.ok(&["ls"]), "d\n");
}

#[test]
fn other_repositories_are_skipped() {
    let world = World::repository();
    world.write("a", "a");
    world.ok(&["init", "sub/inner"]);
    world.write("sub/inner/theirs", "theirs");
    let output = world.run(&["commit"]);
    assert_eq!(output.status.code(), Some(0));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("sub/inner/.filesync"), "{err}");
    // What lies beside their store is a file like any other.
    assert_eq!(world.ok(&["ls", "-r"]), "a\nsub\nsub/inner\nsub/inner/theirs\n");
    assert_eq!(world.ok(&["-C", "sub/inner", "ls"]), "");
}

#[test]
fn a_symlinked_store_is_refused() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    std::fs::rename(world.path(".filesync"), world.path("moved")).expect("it can be renamed");
    symlink("moved", world.path(".filesync")).expect("it can be made");
    for args in [["status"].as_slice(), &["commit"], &["log"], &["restore"], &["fsck"]] {
        let err = world.fails(1, args);
        assert!(err.contains("not a directory"), "{args:?}: {err}");
    }
    world.fails(1, &["init"]);
    std::fs::remove_file(world.path(".filesync")).expect("it is there");
    symlink("nowhere", world.path(".filesync")).expect("it can be made");
    world.fails(1, &["init"]);
    assert!(!world.path("nowhere").exists());
}

#[test]
fn files_directories_and_symlinks_change_places() {
    let world = World::repository();
    let clear = |path: &str| {
        let path = world.path(path);
        drop(std::fs::remove_file(&path));
        drop(std::fs::remove_dir_all(&path));
    };
    let states: [fn(&World); 4] = [
        |world| world.write("x", "file"),
        |world| world.write("x/y/z", "deep"),
        |world| symlink("target", world.path("x")).expect("it can be made"),
        |world| std::fs::create_dir(world.path("x")).expect("it can be made"),
    ];
    let mut commits = Vec::new();
    for at in [0, 1, 2, 3, 0, 2, 1, 3, 1, 0] {
        clear("x");
        states[at](&world);
        commits.push((world.commit(), read_tree(world.root())));
        assert_eq!(world.changes(), Vec::<String>::new());
    }
    for (id, tree) in &commits {
        world.ok(&["restore", id, "--delete", "--force"]);
        assert_same(tree, &read_tree(world.root()), id);
    }
}

/// Rule: only what is in no commit is left alone. This symlink is in a commit, and restore itself has put it there.
#[test]
fn a_restored_symlink_may_be_replaced() {
    let world = World::repository();
    symlink("target", world.path("x")).expect("it can be made");
    world.commit();
    std::fs::remove_file(world.path("x")).expect("it is there");
    world.write("x", "file");
    world.commit();
    world.ok(&["restore", "HEAD~1"]);
    world.ok(&["restore", "HEAD"]);
    assert_eq!(std::fs::read(world.path("x")).expect("it is there"), b"file");
}
