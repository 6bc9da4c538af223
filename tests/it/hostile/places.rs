//! Working copies and stores that somebody hostile prepared: what stands where something is to be written.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{TempDir, World, is_root, skipped};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A repository with two commits of some files, and beside it a directory that nobody may touch.
fn prepared() -> (World, TempDir) {
    let (world, outside) = (World::repository(), TempDir::new());
    for round in ["one", "two"] {
        for path in ["a", "d/b", "d/e/c"] {
            world.write(path, format!("{path} {round}"));
        }
        world.commit();
    }
    fs::write(outside.path().join("a"), "precious").expect("it can be written");
    fs::create_dir(outside.path().join("d")).expect("it can be made");
    fs::write(outside.path().join("d/b"), "precious").expect("it can be written");
    (world, outside)
}

/// Every way to restore; the statuses.
fn restore_all(world: &World) -> Vec<i32> {
    let ways: [&[&str]; 5] = [&[], &["--delete"], &["--force"], &["--delete", "--force"], &["--force", "--", "d", "a"]];
    let run = |way: &&[&str]| {
        let ran = world.sane(&[&["restore", "HEAD~1"], *way].concat());
        assert!(matches!(ran.status, Some(0 | 1 | 3)), "{way:?}: {ran:?}");
        ran.status.expect("it was looked at")
    };
    ways.iter().map(run).collect()
}

/// W9: a file that has another name outside is replaced under its own name, and not written to.
#[test]
fn hostile_hard_links_keep_what_they_have() {
    let (world, outside) = prepared();
    for (path, other) in [("a", "a"), ("d/b", "d/b")] {
        fs::remove_file(world.path(path)).expect("it is there");
        fs::hard_link(outside.path().join(other), world.path(path)).expect("it can be made");
    }
    let before = read_tree(outside.path());
    restore_all(&world);
    assert_eq!(fs::read(world.path("a")).expect("it is there"), b"a one");
    assert_same(&before, &read_tree(outside.path()), "outside");
    assert_eq!(fs::metadata(outside.path().join("a")).expect("it is there").nlink(), 1);
    // The same of a file that a commit has.
    world.ok(&["restore"]);
    fs::hard_link(world.path("a"), outside.path().join("second")).expect("it can be made");
    world.ok(&["restore", "HEAD~1"]);
    assert_eq!(fs::read(outside.path().join("second")).expect("it is there"), b"a two");
}

/// W7: FIFOs, sockets and devices are not opened, not written to, and not waited for.
#[test]
fn hostile_special_files_are_not_written_to() {
    let (world, _) = prepared();
    fs::remove_dir_all(world.path("d")).expect("it is there");
    fs::remove_file(world.path("a")).expect("it is there");
    let make = |path: &str, kind: FileType, device: u64| {
        mknodat(CWD, world.path(path), kind, Mode::from_raw_mode(0o666), device).expect("it can be made");
    };
    // Where a file is to be, where a directory is to be, and the ignore file.
    make("a", FileType::Fifo, 0);
    make(".filesyncignore", FileType::Fifo, 0);
    let socket = UnixListener::bind(world.path("d")).expect("it can be bound");
    assert_eq!(world.sane(&["restore", "HEAD~1"]).status, Some(3));
    assert!(fs::symlink_metadata(world.path("a")).expect("it is there").file_type().is_fifo());
    assert!(fs::symlink_metadata(world.path("d")).expect("it is there").file_type().is_socket());
    for args in [["status"].as_slice(), &["commit", "--dry-run"], &["restore", "--dry-run", "--force"]] {
        let ran = world.sane(args);
        assert!(matches!(ran.status, Some(0 | 3)), "{args:?}: {ran:?}");
    }
    world.ok(&["restore", "HEAD~1", "--force"]);
    assert_eq!(fs::read(world.path("a")).expect("it is there"), b"a one");
    assert_eq!(fs::read(world.path("d/e/c")).expect("it is there"), b"d/e/c one");
    drop(socket);
    if is_root() {
        // The device that takes everything: a second look must not find a file in its place.
        fs::remove_file(world.path("a")).expect("it is there");
        make("a", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        assert_eq!(world.sane(&["restore", "HEAD~1"]).status, Some(3));
        world.ok(&["restore", "HEAD~1", "--force"]);
        assert!(fs::symlink_metadata(world.path("a")).expect("it is there").is_file());
    } else {
        skipped("only root can make devices");
    }
}

/// W4, W6: what is a directory in the commit is a link to a directory outside in the working copy.
#[test]
fn hostile_links_in_the_way_are_not_followed() {
    let (world, outside) = prepared();
    let before = read_tree(outside.path());
    fs::remove_dir_all(world.path("d")).expect("it is there");
    symlink(outside.path().join("d"), world.path("d")).expect("it can be made");
    fs::remove_file(world.path("a")).expect("it is there");
    symlink(outside.path().join("a"), world.path("a")).expect("it can be made");
    symlink(outside.path(), world.path("more")).expect("it can be made");
    symlink(outside.path().join("a"), world.path(".filesyncignore")).expect("it can be made");
    let status = world.changes();
    assert!(!status.iter().any(|line| line.contains("more/")), "{status:?}");
    let statuses = restore_all(&world);
    assert_eq!(statuses[..2], [3, 3], "links that no commit has stay");
    assert_same(&before, &read_tree(outside.path()), "outside");
    assert_eq!(fs::read(world.path("d/b")).expect("it is there"), b"d/b one");
    world.ok(&["restore", "--delete", "--force"]);
    assert_same(&before, &read_tree(outside.path()), "outside");
    assert!(!world.path("more").exists());
}

/// W20: every file and directory of the store, one after the other, as a link to a copy elsewhere.
#[test]
fn hostile_links_in_the_store_lead_nowhere() {
    let (template, _) = prepared();
    let store = template.path(".filesync");
    let names: Vec<_> =
        fs::read_dir(&store).expect("it can be read").flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() >= 9, "{names:?}");
    let more = ["journal", "damaged", "index.bad"].map(std::ffi::OsString::from);
    let mut refused = 0;
    for name in names.into_iter().chain(more) {
        let (world, outside) = (World::copy_of(template.root()), TempDir::new());
        let (inside, elsewhere) = (world.path(".filesync").join(&name), outside.path().join("elsewhere"));
        if inside.exists() {
            fs::rename(&inside, &elsewhere).expect("it can be renamed");
        } else {
            fs::write(&elsewhere, "precious").expect("it can be written");
        }
        symlink(&elsewhere, &inside).expect("it can be made");
        let before = read_tree(outside.path());
        world.write("a", "three");
        for args in [
            ["status"].as_slice(),
            &["commit", "-m", "third"],
            &["restore", "HEAD~1"],
            &["restore", "--force", "--delete"],
            &["log"],
            &["fsck"],
            &["ls", "-r"],
        ] {
            let ran = world.sane(args);
            assert_same(&before, &read_tree(outside.path()), &format!("{name:?}: {args:?}: {ran:?}"));
            refused += u32::from(ran.status != Some(0));
        }
    }
    assert!(refused > 20, "only {refused}");
}

/// W20: the packs themselves.
#[test]
fn hostile_links_for_packs_lead_nowhere() {
    let (world, outside) = prepared();
    for entry in fs::read_dir(world.path(".filesync/packs")).expect("it can be read").flatten() {
        let elsewhere = outside.path().join(entry.file_name());
        fs::rename(entry.path(), &elsewhere).expect("it can be renamed");
        symlink(elsewhere, entry.path()).expect("it can be made");
    }
    let before = read_tree(outside.path());
    for args in [["fsck"].as_slice(), &["cat", "HEAD:a"], &["ls", "-r"], &["status"], &["commit", "--allow-empty"]] {
        let ran = world.sane(args);
        assert!(matches!(ran.status, Some(1 | 5)), "{args:?}: {ran:?}");
        assert_same(&before, &read_tree(outside.path()), &format!("{args:?}"));
    }
}

/// W11 (and W10 on a file system that tells cases apart): names that others take for one are two.
#[test]
fn hostile_twins_are_told_apart() {
    let world = World::repository();
    let twins = ["caf\u{e9}", "cafe\u{301}", "readme", "README", "Dir/x", "dir/x", "stra\u{df}e", "STRASSE"];
    for name in twins {
        world.write(name, name);
    }
    world.commit();
    let before = read_tree(world.root());
    let copy = TempDir::new();
    let to = copy.path().join("copy");
    world.ok(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert_same(&before, &read_tree(&to), "a copy");
    for name in twins {
        assert_eq!(world.cat(name), name.as_bytes());
        fs::remove_file(world.path(name)).expect("it is there");
    }
    world.ok(&["restore"]);
    assert_same(&before, &read_tree(world.root()), "in place");
}

/// W8: no moment at which a file has more rights than it is to have, whatever the umask; and of the special bits none.
#[test]
fn hostile_modes_are_masked_and_set_at_once() {
    let world = World::repository();
    world.write("secret", vec![b's'; 3 << 20]);
    world.write("dir/inside", "inside");
    let modes = [("secret", 0o600), ("dir/inside", 0o4755), ("dir", 0o2770)];
    for (path, mode) in modes {
        fs::set_permissions(world.path(path), fs::Permissions::from_mode(mode)).expect("modes can be set");
    }
    world.commit();
    for path in ["secret", "dir/inside"] {
        fs::remove_file(world.path(path)).expect("it is there");
    }
    fs::remove_dir(world.path("dir")).expect("it is there");
    let mut command = std::process::Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=openat,openat2,fchmod,fchmodat,chmod,mkdirat",
        "sh",
        "-c",
        "umask 0; exec \"$0\" restore",
    ]);
    command.arg(filesync_tests::world::program()).current_dir(world.root()).env_remove("FILESYNC_DIR");
    let output = command.output().expect("strace runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mode = |path: &str| fs::metadata(world.path(path)).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(["secret", "dir/inside", "dir"].map(mode), [0o600, 0o755, 0o770]);
    // Files of the working copy are made under temporary names: with the mode that they are to have.
    let trace = String::from_utf8_lossy(&output.stderr);
    let made: Vec<&str> =
        trace.lines().filter(|line| line.contains("O_CREAT") && line.contains(".filesync-tmp-")).collect();
    assert!(made.iter().any(|line| line.contains("0600")), "{trace}");
    let wide = |line: &&&str| ["0666", "0644", "0777"].iter().any(|mode| line.contains(mode));
    let in_store = |line: &&&str| line.contains("0644");
    assert_eq!(made.iter().filter(wide).filter(|line| !in_store(line)).count(), 0, "{trace}");
}

/// W12: a path that is longer than the system takes in one piece.
#[test]
fn hostile_paths_longer_than_the_system_takes() {
    let world = World::repository();
    let name = "n".repeat(200);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mut dir = rustix::fs::openat(CWD, world.root(), flags, Mode::empty()).expect("it can be opened");
    for _ in 0..40 {
        rustix::fs::mkdirat(&dir, name.as_str(), Mode::from_raw_mode(0o755)).expect("it can be made");
        dir = rustix::fs::openat(&dir, name.as_str(), flags, Mode::empty()).expect("it can be opened");
    }
    let create = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    let bottom = rustix::fs::openat(&dir, "bottom", create, Mode::from_raw_mode(0o644)).expect("it can be made");
    rustix::io::write(&bottom, b"deep").expect("it can be written");
    world.commit();
    let path = format!("{name}/").repeat(40) + "bottom";
    assert!(path.len() > 8000);
    assert_eq!(world.cat(&path), b"deep");
    assert_eq!(world.changes(), Vec::<String>::new());
    rustix::io::write(&bottom, b"er").expect("it can be written");
    assert_eq!(world.changes(), [format!("M {path}")]);
    world.commit();
    world.ok(&["restore", "HEAD~1", "--", &path]);
    let read = |dir: &rustix::fd::OwnedFd| {
        let read = rustix::fs::OFlags::RDONLY;
        let file = rustix::fs::openat(dir, "bottom", read, Mode::empty()).expect("it is there");
        let mut bytes = [0; 16];
        let len = rustix::io::read(&file, &mut bytes).expect("it can be read");
        bytes[..len].to_vec()
    };
    assert_eq!(read(&dir), b"deep");
    let copy = TempDir::new();
    let to = copy.path().join("copy");
    world.ok(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert!(to.join(&name).is_dir());
    // All of it goes, and comes back.
    world.write("other", "other");
    world.commit();
    let removed = std::process::Command::new("rm").arg("-rf").arg(world.path(&name)).status();
    assert!(removed.is_ok_and(|status| status.success()), "rm removes what is deep");
    world.ok(&["restore"]);
    assert_eq!(world.changes(), Vec::<String>::new());
    let err = world.fails(2, &["cat", &format!("HEAD:{}", "x".repeat(300))]);
    assert!(err.len() < 1000 && !err.contains("panicked"), "{err}");
}

/// W15: what somebody else wrote does not reach the terminal as he wrote it.
#[test]
fn hostile_words_are_quoted() {
    let world = World::repository();
    world.write("a", "a");
    world.ok(&["commit", "-m", "\u{1b}]0;title\u{7}\u{1b}[31mred\u{9b}31m\u{7f}\n\nbody \u{1b}[2J"]);
    for args in [["log"].as_slice(), &["log", "-v"], &["log", "-n", "1"]] {
        let shown = world.ok(args);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{args:?}: {shown:?}");
    }
    let told = world.ok(&["commit", "--allow-empty", "-m", "\u{1b}[31mred"]);
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
    // As JSON they are what they are.
    assert_eq!(world.json(&["log", "-n", "1"])[0]["message"], "\u{1b}[31mred");
    let err = world.fails(1, &["-C", "\u{1b}[31m", "log"]);
    assert!(!err.contains('\u{1b}'), "{err:?}");
}

/// W18, W19: what stands in the way of a file, and holds what is in no commit, stays; so do edits after a kill.
#[test]
fn hostile_directories_in_the_way_stay() {
    let (world, _) = prepared();
    fs::remove_file(world.path("a")).expect("it is there");
    world.write("a/mine/too", "in no commit");
    for way in [["restore", "HEAD~1"].as_slice(), &["restore", "HEAD~1", "--delete"], &["restore", "HEAD~1", "--force"]]
    {
        let ran = world.sane(way);
        assert_eq!(ran.status, Some(3), "{way:?}: {ran:?}");
        assert_eq!(fs::read(world.path("a/mine/too")).expect("it is there"), b"in no commit");
    }
    world.ok(&["restore", "HEAD~1", "--force", "--delete"]);
    assert_eq!(fs::read(world.path("a")).expect("it is there"), b"a one");
    assert!(Path::new(&world.path("d/b")).exists());
}
