//! Trees: deep ones, and what ignore rules leave out.

use std::os::fd::OwnedFd;

use filesync_tests::world::World;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

/// Makes directories `levels` deep, beyond what a path can name, with a file at the bottom.
fn dig(world: &World, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir: OwnedFd = openat(CWD, world.root(), flags, Mode::empty()).expect("it can be opened");
    for _ in 0..levels {
        mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).expect("it can be made");
        dir = openat(&dir, "d", flags, Mode::empty()).expect("it can be opened");
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = openat(&dir, "bottom", flags, Mode::from_raw_mode(0o644)).expect("it can be made");
    rustix::io::write(&file, b"deep").expect("it can be written");
}

#[test]
fn a_thousand_levels_work() {
    let world = World::repository();
    dig(&world, 1000);
    world.commit();
    let path = "d/".repeat(1000) + "bottom";
    assert_eq!(world.cat(&path), b"deep");
    assert_eq!(world.ok(&["ls", "-r"]).lines().count(), 1001);
    assert_eq!(world.changes(), Vec::<String>::new());
    world.ok(&["fsck"]);
    let copy = World::empty();
    let to = copy.path("copy");
    world.ok(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read(to.join(&path)).expect("it is there"), b"deep");
    std::fs::remove_dir_all(world.path("d")).expect("it can be removed");
    world.ok(&["restore"]);
    assert_eq!(std::fs::read(world.path(&path)).expect("it is there"), b"deep");
}

#[test]
fn too_deep_is_told() {
    let world = World::repository();
    world.write("a", "a");
    dig(&world, 4200);
    for args in [["commit"].as_slice(), &["commit", "--dry-run"]] {
        let err = world.fails(1, args);
        assert!(err.contains("nested more than 4096 levels deep"), "{err}");
        assert!(err.len() < 20_000, "{} bytes of message", err.len());
    }
    let output = world.run(&["status"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", output.status);
    assert!(world.ok(&["log"]).is_empty());
    // Too deep for `rm` of some systems, not for this.
    std::fs::remove_dir_all(world.path("d")).expect("it can be removed");
    world.commit();
}

#[test]
fn ignore_rules() {
    let world = World::repository();
    world.write(".filesyncignore", "*.o\n/top\nout/\n!keep.o\n# comment\nspace\\ \n");
    for path in
        ["a.o", "d/b.o", "keep.o", "d/keep.o", "top", "d/top", "out/x", "d/out/keep.o", "file", "space ", "space"]
    {
        world.write(path, path);
    }
    world.write("d/.filesyncignore", "!b.o\nfile\n");
    world.write("d/file", "left out");
    world.commit();
    let expected =
        [".filesyncignore", "d", "d/.filesyncignore", "d/b.o", "d/keep.o", "d/top", "file", "keep.o", "space"];
    assert_eq!(world.ok(&["ls", "-r"]).lines().collect::<Vec<_>>(), expected);
    // A change of the rules is seen at once, though no file changed.
    world.write(".filesyncignore", "nothing\n");
    let changes = world.changes();
    assert!(changes.contains(&"A a.o".to_owned()) && changes.contains(&"A out/x".to_owned()), "{changes:?}");
    // Left out below a directory that is tracked for the sake of one file.
    world.commit();
    world.write(".filesyncignore", "out/\n");
    world.write("out/new", "new");
    world.write("out/x", "changed");
    world.commit();
    assert_eq!(world.ok(&["ls", "HEAD:out"]), "out/x\n");
    assert_eq!(world.cat("out/x"), b"changed");
    // Deleted, it is gone; made anew, it is not taken in again.
    std::fs::remove_file(world.path("out/x")).expect("it is there");
    world.commit();
    world.write("out/x", "again");
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn other_names_of_the_store_are_refused() {
    let world = World::repository();
    world.write("a", "a");
    world.write("sub/.FileSync/x", "x");
    let output = world.run(&["commit"]);
    assert_eq!(output.status.code(), Some(0));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains(".FileSync"), "{err}");
    assert_eq!(world.ok(&["ls", "-r"]), "a\nsub\n");
}
