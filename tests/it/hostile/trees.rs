//! Trees and working copies that are well-formed and meant badly: targets, names, stores below, rights, and what unpacks
//! to more than there is room for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};

use filesync_cas::store::FrameWriter;
use filesync_merkle::testing::raw;
use filesync_merkle::{TREE, Totals, TreeLink};
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{TempDir, World, program, within};

use super::{Ground, directory, file, link, node, put, totals};
use crate::places::{Mount, make_fifo};

/// Ten levels of ten links each to one directory: 10^10 files out of eleven objects.
pub fn bomb(writer: &mut FrameWriter<'_>) -> TreeLink {
    let entry = file(writer, b"f");
    let mut below = node(writer, &[entry]);
    for _ in 0..10 {
        let entries: Vec<_> = (b'0'..=b'9').map(|name| directory(&[name], below)).collect();
        let id = put(writer, TREE, &raw::tree(0, &entries));
        let Totals { files, directories, bytes } = below.totals;
        below = link(id, 0, totals(files * 10, directories * 10 + 10, bytes * 10));
    }
    below
}

fn output(place: &Ground, args: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(args).current_dir(place.work()).env_remove("FILESYNC_DIR");
    within(60, &command).output().expect("timeout runs")
}

/// A symlink's target is stored and made as it is, whatever it says, and nothing looks at what it leads to.
#[test]
fn hostile_targets_are_only_words() {
    let place = Ground::new();
    let long = [b't'; 4095];
    let mut targets: Vec<&[u8]> = vec![
        b"/etc/passwd",
        b"../outside",
        b"../outside/x",
        b".filesync/HEAD",
        b".filesync",
        b"..",
        b"/proc/self/root",
        b"link 07",
        b"-rf",
        b"\x1b[31m\n",
    ];
    // The longest target of the format, if this file system takes it.
    let probe = place.dir.path().join("probe");
    if symlink(OsStr::from_bytes(&long), &probe).is_ok() {
        fs::remove_file(&probe).expect("it was just made");
        targets.push(&long);
    }
    let name = |number: usize| format!("link {number:02}");
    place.plant(&[], |w| {
        let numbered = targets.iter().enumerate();
        let entries: Vec<_> = numbered.map(|(number, target)| raw::symlink(name(number).as_bytes(), target)).collect();
        let id = put(w, TREE, &raw::tree(0, &entries));
        link(id, 0, totals(targets.len() as u64, 0, 0))
    });
    let to = place.dir.path().join("to");
    for args in [["restore", "--to", to.to_str().expect("UTF-8")].as_slice(), &["restore", "--delete", "--force"]] {
        let (status, err) = place.run(args);
        assert_eq!(status, Some(0), "{args:?}: {err}");
        assert_same(&place.before, &place.outside(), &format!("{args:?}"));
    }
    for (number, target) in targets.iter().enumerate() {
        let path = name(number);
        for root in [to.clone(), place.work()] {
            let made = fs::read_link(root.join(&path)).expect("it is a symlink");
            assert_eq!(made.as_os_str().as_bytes(), *target, "{path}");
        }
        let shown = output(&place, &["cat", &format!("HEAD:{path}")]).stdout;
        assert!(shown == *target, "{path}: {}", shown.escape_ascii());
        // No path leads over it.
        let below = format!("{path}/x");
        for args in [
            ["restore", "--", below.as_str()].as_slice(),
            &["restore", "--delete", "--force", "--", below.as_str()],
            &["check-ignore", "--", below.as_str()],
        ] {
            let (status, err) = place.run(args);
            assert!(matches!(status, Some(0..=3)), "{args:?}: {status:?}: {err}");
            assert_same(&place.before, &place.outside(), &format!("{args:?}"));
        }
    }
    let status = output(&place, &["-q", "status"]);
    assert!(status.status.success() && status.stdout.is_empty(), "{status:?}");
}

const NAMES: [&[u8]; 7] = [
    b"\x1b[31mred",
    b"line\nforged",
    b"c1\xc2\x9b31m",
    b"bidi\xe2\x80\xaetxt",
    b"\xff\x1b]0;title\x07",
    b"-rf",
    b"tab\tand \"quotes\"",
];

/// Whatever names say, a terminal gets no control characters, none that turn the direction of text, and no line that
/// a name made up.
#[test]
fn hostile_names_are_shown_quoted() {
    let world = World::repository();
    let write = |words: &str| NAMES.iter().for_each(|name| world.write(OsStr::from_bytes(name), words));
    for words in ["one\n", "two\n"] {
        write(words);
        world.commit();
    }
    write("three\n");
    make_fifo(&world.path(OsStr::from_bytes(b"fifo\x1b[2J")));
    let commands: [&[&str]; 17] = [
        &["status"],
        &["diff"],
        &["diff", "--stat"],
        &["diff", "--name-status"],
        &["diff", "HEAD~1", "HEAD"],
        &["show"],
        &["show", "--stat"],
        &["log", "-v"],
        &["ls", "-r"],
        &["ls", "-l"],
        &["du"],
        &["restore", "HEAD~1", "--dry-run", "--force"],
        &["restore", "HEAD~1"],
        &["check-ignore", "-v", "--", "\u{1b}[31mred"],
        &["commit", "--dry-run"],
        &["commit"],
        &["fsck"],
    ];
    let is_harmful = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut named = 0;
    for args in commands {
        let ran = world.sane(args);
        let out = String::from_utf8(ran.out).expect("what is not UTF-8 is quoted");
        let shown = out + &ran.err;
        assert!(!shown.chars().any(is_harmful), "{args:?}: {shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("forged")), "{args:?}: {shown:?}");
        named += u32::from(shown.contains(r"\033[31mred"));
    }
    assert!(named >= 8, "only {named} commands named it");
}

/// A directory that holds another repository stays, whatever is to stand in its place and whatever was asked for. So
/// does anything else of that name, and what it leads to.
#[test]
fn hostile_stores_below_stay() {
    let (world, outside) = (World::repository(), TempDir::new());
    fs::write(outside.path().join("a"), "precious").expect("it can be written");
    world.write("there", "a file");
    world.write("kept", "one");
    let first = world.commit();
    fs::remove_file(world.path("there")).expect("it is there");
    world.ok(&["init", "there/inner"]);
    world.write("there/inner/theirs", "theirs");
    world.ok(&["-C", "there/inner", "commit", "-m", "theirs"]);
    world.ok(&["init", "other"]);
    world.write("odd/.filesync", "no store");
    fs::create_dir(world.path("linked")).expect("it can be made");
    symlink(outside.path(), world.path("linked/.filesync")).expect("it can be made");
    world.write("kept", "two");
    world.commit();
    let stores = ["there/inner/.filesync", "other/.filesync"];
    let read = || stores.map(|store| read_tree(&world.path(store)));
    let (before, before_outside) = (read(), read_tree(outside.path()));
    assert!(before.iter().all(|store| store.len() > 3));
    let ways: [&[&str]; 5] = [
        &["restore", &first],
        &["restore", &first, "--delete"],
        &["restore", &first, "--force"],
        &["restore", &first, "--delete", "--force"],
        &["restore", &first, "--delete", "--force", "--", "there", "other", "odd", "linked"],
    ];
    for way in ways {
        let ran = world.sane(way);
        assert_eq!(ran.status, Some(3), "{way:?}: {ran:?}");
        for ((store, before), now) in stores.iter().zip(&before).zip(&read()) {
            assert_same(before, now, &format!("{way:?}: {store}"));
        }
        assert_eq!(fs::read(world.path("there/inner/theirs")).expect("it is there"), b"theirs", "{way:?}");
        assert_eq!(fs::read(world.path("odd/.filesync")).expect("it is there"), b"no store", "{way:?}");
        assert!(world.path("linked/.filesync").is_symlink(), "{way:?}");
        assert_same(&before_outside, &read_tree(outside.path()), &format!("{way:?}: outside"));
    }
    assert_eq!(fs::read(world.path("kept")).expect("it is there"), b"one");
    assert_eq!(world.ok(&["-C", "there/inner", "cat", "HEAD:theirs"]), "theirs");
    world.ok(&["-C", "there/inner", "fsck"]);
    world.ok(&["-C", "other", "fsck"]);
}

/// The mode with which a call makes a file, as strace tells it.
fn mode_of(line: &str) -> Option<u32> {
    let words = match line.split_once("mode=") {
        Some((_, rest)) => rest,
        // Without openat2 it is the last argument.
        None => line.rsplit_once(") = ")?.0.rsplit_once(", ")?.1,
    };
    let digits: String = words.chars().take_while(char::is_ascii_digit).collect();
    u32::from_str_radix(&digits, 8).ok()
}

/// Every file of a working copy is made with the rights that it is to have: with an umask that takes nothing away there
/// is no moment at which another user could open it.
#[test]
fn hostile_readers_find_no_moment() {
    let world = World::repository();
    let files = [
        ("closed", 0o400, 10),
        ("secret", 0o600, 10),
        ("large", 0o600, 6 << 20),
        ("shared", 0o664, 10),
        ("run", 0o700, 10),
    ];
    for (path, mode, len) in files {
        world.write(path, vec![b's'; len]);
        fs::set_permissions(world.path(path), fs::Permissions::from_mode(mode)).expect("modes can be set");
    }
    world.commit();
    files.iter().for_each(|(path, ..)| fs::remove_file(world.path(path)).expect("it is there"));
    let aside = TempDir::new();
    let (to, log) = (aside.path().join("copy"), aside.path().join("log"));
    let ways: [&[&str]; 2] = [&["restore"], &["restore", "--to", to.to_str().expect("UTF-8")]];
    for (way, root) in ways.into_iter().zip([world.root(), to.as_path()]) {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-e", "trace=openat,openat2", "-o"]).arg(&log);
        command.args(["sh", "-c", "umask 0; exec \"$0\" \"$@\""]).arg(program()).args(way);
        let output = command.current_dir(world.root()).env_remove("FILESYNC_DIR").output().expect("strace runs");
        assert!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stderr));
        let trace = fs::read_to_string(&log).expect("strace writes its log");
        // The store makes temporary files of its own, below a descriptor of `.filesync`.
        let is_made =
            |line: &&str| line.contains("O_CREAT") && line.contains(".filesync-tmp-") && !line.contains("/.filesync>");
        let mut made: Vec<u32> = trace.lines().filter(is_made).filter_map(mode_of).collect();
        let mut wanted: Vec<u32> = files.iter().map(|(_, mode, _)| *mode).collect();
        made.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(made, wanted, "{way:?}: {trace}");
        for (path, mode, len) in files {
            let meta = fs::metadata(root.join(path)).expect("it is there");
            assert_eq!((meta.permissions().mode() & 0o7777, meta.len()), (mode, len as u64), "{way:?}: {path}");
        }
    }
}

/// What unpacks to more than a disk holds ends with an error, and leaves nothing.
#[test]
fn hostile_bombs_leave_nothing_on_a_small_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=20m,nr_inodes=3000", "tmpfs"]) else { return };
    let place = Ground::new();
    place.plant(&[], bomb);
    let to = mount.0.join("copy");
    let (status, err) = place.run(&["restore", "--to", to.to_str().expect("UTF-8")]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.starts_with("filesync: "), "{err}");
    let left: Vec<_> = fs::read_dir(&mount.0).expect("it is mounted").flatten().map(|it| it.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_same(&place.before, &place.outside(), "outside");
}
