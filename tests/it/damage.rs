//! Bit rot in every kind of file under `.filesync`: nothing wrong is handed out, damage is named with the paths that
//! it affects, and damage of `index/` heals by itself.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use filesync_cas::ContentHash;
use filesync_cas::small_file::Builder;
use filesync_cas::testing::Rng;
use filesync_merkle::COMMIT;
use filesync_tests::model::{Item, Tree, assert_same, difference, read_tree};
use filesync_tests::process::address;
use filesync_tests::world::{Ran, TempDir, World, is_long, seed};

use crate::format_reader::seal;

/// What may be damaged, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Cannot be derived again.
    Small,
    /// The same, but nobody can tell that there was one.
    Optional,
    /// The same, but text that nobody guards: what is wrong in it may look right.
    Config,
    /// Can be done without. Damage is told all the same: each has a check.
    Spare,
    /// Without bytes of any meaning, or for people to read.
    Idle,
    Pack,
    Index,
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Of bit 0 to 7 of the byte at so many thousandths of the length.
    Flip(u64, u32),
    /// 4 KiB from there.
    Zero(u64),
    /// To so many thousandths.
    Truncate(u64),
    Delete,
    /// What it was before the last commit.
    Older,
}

/// Where the version stands in `format`, which begins with `filesync 1`.
const VERSION_AT: u64 = 9;

struct Template {
    world: World,
    /// As it was before the last commit.
    older: World,
    commits: Vec<(String, Tree)>,
}

fn packs(world: &World) -> Vec<PathBuf> {
    let mut packs: Vec<_> = fs::read_dir(world.path(".filesync/packs")).unwrap().map(|e| e.unwrap().path()).collect();
    packs.sort();
    packs
}

fn commit(world: &World, commits: &mut Vec<(String, Tree)>) {
    world.ok(&["commit", "-m", "x"]);
    commits.push((world.head().unwrap(), read_tree(world.root())));
}

/// Makes it a member, and the leader, of a cluster of its own, which knows the head.
fn found(world: &World) {
    world.ok(&["serve", "--detach", "--listen", &address()]);
    let synced = world.run(&["sync", "--timeout", "120s"]);
    world.ok(&["stop"]);
    assert!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
}

/// Sealed and open packs of both classes, a tag, a pin, a commit that has expired and whose files were collected, a list of
/// damage, a restore that was cut off, what a member knows of its cluster, and three commits.
fn template() -> Template {
    let world = World::repository();
    let mut commits = Vec::new();
    let mut rng = Rng::new(5);
    world.write("a/0", rng.bytes(400_000));
    world.ok(&["commit", "-m", "to expire"]);
    for n in 0..6 {
        world.write(format!("a/{n}"), rng.bytes(1000 * (n + 1)));
    }
    world.write("large", rng.bytes(600_000));
    commit(&world, &mut commits);
    // What is published does not expire.
    world.ok(&["forget", "--keep-last", "1"]);
    found(&world);
    // Of a node that takes part in the log it is noted what goes.
    assert_ne!(world.object(0, &["gc"])["packs_rewritten"], 0);
    packs(&world).iter().for_each(|pack| seal(pack));
    world.write("b/text", "text ".repeat(3000));
    world.write("a/0", "another");
    commit(&world, &mut commits);
    assert!(packs(&world).len() >= 4, "sealed and open ones: {:?}", packs(&world));
    let mut tag = Builder::new("filesync ref 1");
    tag.line(&format!("commit {}", commits[0].0));
    world.write(".filesync/refs/tags/x", tag.finish());
    let mut pin = Builder::new("filesync pin 1");
    pin.line(&format!("root {} {}", COMMIT.0, commits[1].0));
    world.write(format!(".filesync/pins/{}", ContentHash::of_chunk(b"a pin")), pin.finish());
    let mut damaged = Builder::new("filesync damaged 1");
    damaged.line(&format!("object {}", ContentHash::of_chunk(b"nowhere")));
    world.write(".filesync/damaged", damaged.finish());
    let older = World::copy_of(world.root());
    world.write("b/new", rng.bytes(50_000));
    world.write("a/1", "changed");
    commit(&world, &mut commits);
    if !world.path(".filesync/damaged").exists() {
        fs::copy(older.path(".filesync/damaged"), world.path(".filesync/damaged")).unwrap();
    }
    let mut journal = Builder::new("filesync journal 1");
    journal.line(&format!("commit {}", commits[2].0));
    world.write(".filesync/journal", journal.finish());
    // What is found later is found because it was done.
    let fsck = World::copy_of(world.root()).sane(&["fsck"]);
    assert_eq!((fsck.status, fsck.err.as_str()), (Some(0), ""), "{fsck:?}");
    Template { world, older, commits }
}

/// A clone of `part` alone, whose giver is gone.
fn partial() -> Template {
    let (one, mut rng) = (World::repository(), Rng::new(6));
    one.write("part/large", rng.bytes(300_000));
    one.write("part/text", "text ".repeat(3000));
    one.write("elsewhere", rng.bytes(300_000));
    one.ok(&["commit", "-m", "x"]);
    one.ok(&["serve", "--detach", "--listen", &address()]);
    let synced = one.run(&["sync", "--timeout", "120s"]);
    let invite = one.run(&["invite", "--role", "writer"]);
    let line = String::from_utf8(invite.stdout).expect("UTF-8");
    let (world, older) = (World::empty(), World::empty());
    let cloned = world.run(&["clone", line.trim(), ".", "--path", "part", "--timeout", "120s"]);
    one.ok(&["stop"]);
    assert!(synced.status.success() && cloned.status.success(), "{synced:?} {cloned:?}");
    let commits = vec![(world.head().unwrap(), read_tree(world.root()))];
    let fsck = World::copy_of(world.root()).sane(&["fsck"]);
    assert_eq!((fsck.status, fsck.err.as_str()), (Some(0), ""), "{fsck:?}");
    Template { world, older, commits }
}

fn files(template: &Template) -> Vec<(PathBuf, Part)> {
    let root = template.world.path(".filesync");
    let mut files = Vec::new();
    for path in read_tree(&root).into_iter().filter(|(_, item)| matches!(item, Item::File(..))).map(|(path, _)| path) {
        let path = String::from_utf8(path).unwrap();
        let part = match path.as_str() {
            // The log has tests of its own, in `raft-log`.
            path if path.starts_with("raft/") => continue,
            "format" | "HEAD" | "identity" | "remote" | "parts" => Part::Small,
            "refs/tags/x" | "expired" | "outbox" | "member" | "refs.local" | "collected" => Part::Optional,
            path if path.starts_with("pins/") => Part::Optional,
            "config.toml" => Part::Config,
            "damaged" | "journal" => Part::Spare,
            "lock" | "readers" | "stamp" | "leader" | "removed" | "daemon/log" => Part::Idle,
            path if path.starts_with("packs/") => Part::Pack,
            path if path.starts_with("index/") => Part::Index,
            path => panic!("{path}: what is it?"),
        };
        files.push((path.into(), part));
    }
    files
}

/// False if there is nothing to damage there.
fn harm(world: &World, older: &World, path: &Path, harm: Harm) -> bool {
    let file = world.path(".filesync").join(path);
    let before = fs::read(&file).unwrap();
    let at = |thousandths: u64| (before.len() as u64 * thousandths / 1000).min((before.len() as u64).saturating_sub(1));
    let open = || fs::File::options().write(true).open(&file).unwrap();
    match harm {
        Harm::Delete => fs::remove_file(&file).unwrap(),
        _ if before.is_empty() => return false,
        Harm::Flip(place, bit) => {
            let place = at(place);
            open().write_all_at(&[before[usize::try_from(place).unwrap()] ^ (1 << bit)], place).unwrap();
        }
        Harm::Zero(place) => {
            let place = at(place);
            let len = usize::try_from((before.len() as u64 - place).min(4096)).unwrap();
            open().write_all_at(&vec![0; len], place).unwrap();
        }
        Harm::Truncate(place) => open().set_len(at(place)).unwrap(),
        Harm::Older => match fs::read(older.path(".filesync").join(path)) {
            Ok(bytes) => fs::write(&file, bytes).unwrap(),
            Err(_) => return false,
        },
    }
    fs::read(&file).ok().as_ref() != Some(&before)
}

/// Whatever a command hands out of a commit is right, even if it is not all.
fn check_reads(world: &World, id: &str, tree: &Tree, what: &str) {
    let ls = world.sane(&["ls", "-r", id, "-z"]);
    let listed: Vec<&[u8]> = ls.out.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    for name in &listed {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        assert!(tree.contains_key(name), "{what}: ls names {}", String::from_utf8_lossy(name));
    }
    assert!(ls.status != Some(0) || listed.len() == tree.len(), "{what}: ls lists {} of {}", listed.len(), tree.len());
    for path in ["large", "a/1"] {
        let cat = world.sane(&["cat", &format!("{id}:{path}")]);
        let Some(Item::File(_, _, bytes)) = tree.get(path.as_bytes()) else { panic!("{path} is a file") };
        assert!(bytes.starts_with(&cat.out), "{what}: cat {path} gives wrong bytes");
        assert!(cat.status != Some(0) || cat.out == *bytes, "{what}: cat {path} is short");
    }
    let dir = TempDir::new();
    let to = dir.path().join("copy");
    let restore = world.sane(&["restore", id, "--to", to.to_str().unwrap()]);
    if to.exists() {
        let mut found = read_tree(&to);
        if restore.status == Some(0) {
            assert_same(tree, &found, what);
        }
        // What is there of it is whole; what is not there was named.
        let mut expected = tree.clone();
        expected.retain(|path, _| found.contains_key(path));
        let is_dir = |item: &Item| matches!(item, Item::Directory(_));
        found.retain(|_, item| !is_dir(item));
        expected.retain(|_, item| !is_dir(item));
        assert_same(&expected, &found, what);
    }
}

/// Whether every commit comes back as it was.
fn is_whole(world: &World, template: &Template) -> bool {
    template.commits.iter().all(|(id, tree)| {
        let dir = TempDir::new();
        let to = dir.path().join("copy");
        let restore = world.sane(&["restore", id, "--to", to.to_str().unwrap()]);
        restore.status == Some(0) && difference(tree, &read_tree(&to), false).is_none()
    })
}

/// Whether what was flipped is a digit of the version: then it is a repository of a version that is not known, or none.
fn hits_the_version(template: &Template, path: &Path, harmed: Harm) -> bool {
    let Harm::Flip(thousandths, _) = harmed else { return false };
    let text = fs::read(template.world.path(".filesync").join(path)).unwrap();
    path == Path::new("format") && text.len() as u64 * thousandths / 1000 == VERSION_AT
}

/// Whether it is said whom damage affects: a path of a commit, or the root of all of them.
fn names_a_path(fsck: &Ran, template: &Template) -> bool {
    let text = String::from_utf8_lossy(&fsck.out).into_owned() + &fsck.err;
    let trees = template.commits.iter().map(|(_, tree)| tree);
    let mut paths = trees.flat_map(|tree| tree.keys()).map(|path| String::from_utf8_lossy(path));
    text.contains("    \"\"\n") || paths.any(|path| text.contains(&format!("    {path}\n")))
}

/// Whether damage of a file is told by fsck; of what that does not read, by a command that needs it; and of what can be
/// done without, by a warning at least.
fn is_told(world: &World, path: &Path, part: Part, fsck: &Ran) -> bool {
    let path = path.to_str().unwrap();
    let user: Option<&[&str]> = match path {
        "member" => Some(&["peers"]),
        "refs.local" => Some(&["tag", "another"]),
        _ => None,
    };
    fsck.status == Some(5)
        || user.is_some_and(|user| world.sane(user).status == Some(5))
        || (part == Part::Spare && fsck.err.contains(&format!("{path}: damaged: ")))
}

fn check(template: &Template, path: &Path, part: Part, harmed: Harm) -> bool {
    let world = World::copy_of(template.world.root());
    if !harm(&world, &template.older, path, harmed) {
        return false;
    }
    let what = format!("{path:?} {harmed:?}");
    println!("{what}");
    let working = read_tree(world.root());
    let (last, tree) = template.commits.last().unwrap();
    check_reads(&world, last, tree, &what);
    // Before `status`, which ends a restore that was cut off.
    let fsck = world.sane(&["fsck"]);
    world.sane(&["status"]);
    let what = format!("{what}: {fsck:?}");
    check_fsck(template, &world, (path, part, harmed), &fsck, &what);
    if part == Part::Pack {
        // What is bad may be a copy of something that is good elsewhere, or of what nobody needs.
        assert!(names_a_path(&fsck, template) || is_whole(&world, template), "{what}: no path is named");
    }
    check_commit(template, &world, part, &working, &what);
    true
}

/// That `fsck` ends as it should where a file was harmed.
fn check_fsck(template: &Template, world: &World, harm: (&Path, Part, Harm), fsck: &Ran, what: &str) {
    let (path, part, harmed) = harm;
    let expected: &[i32] = match part {
        Part::Index => &[0],
        // An older copy is a sound one. An open pack may be as long as it was.
        Part::Small if matches!(harmed, Harm::Older) => &[0, 1, 5],
        Part::Optional | Part::Spare if matches!(harmed, Harm::Older) => &[0],
        // What was collected of a commit that has not expired, for all that anybody can tell, is missing.
        Part::Optional if matches!(harmed, Harm::Delete) && path == Path::new("expired") => &[5],
        // What is gone was never there, for all that anybody can tell.
        Part::Optional | Part::Spare if matches!(harmed, Harm::Delete) => &[0],
        Part::Small if hits_the_version(template, path, harmed) => &[1, 5],
        Part::Small => &[5],
        Part::Optional | Part::Spare => {
            assert!(is_told(world, path, part, fsck), "{what}: nobody tells");
            &[0, 5]
        }
        // Whatever people make of it, it is no damage of the store.
        Part::Config => &[0, 1],
        Part::Idle => &[0],
        Part::Pack => &[5],
    };
    assert!(expected.contains(&fsck.status.unwrap()), "{what}");
}

/// What is still in the working copy is stored again, and what can be derived is there again.
fn check_commit(template: &Template, world: &World, part: Part, working: &Tree, what: &str) {
    let commit = world.sane(&["commit", "--no-cache", "--allow-empty", "-m", "again"]);
    assert_same(working, &read_tree(world.root()), what);
    if part == Part::Index {
        assert_eq!(commit.status, Some(0), "{what}: {commit:?}");
    }
    if commit.status == Some(0) {
        let head = world.head().unwrap();
        check_reads(world, &head, working, what);
        if matches!(part, Part::Index | Part::Spare | Part::Idle) {
            for (id, tree) in &template.commits {
                if let Some(difference) = difference(tree, &world.restored(id), false) {
                    panic!("{what}: {id}: {difference}");
                }
            }
            let fsck = world.sane(&["fsck"]);
            assert_eq!(fsck.status, Some(0), "{what}: afterwards {fsck:?}");
        }
    }
}

/// The same of a partial copy: what it has is right, or damage; nothing that it should have is taken for absent.
fn check_partial(template: &Template, path: &Path, part: Part, harmed: Harm) {
    let world = World::copy_of(template.world.root());
    if !harm(&world, &template.older, path, harmed) {
        return;
    }
    let what = format!("partial: {path:?} {harmed:?}");
    println!("{what}");
    let (_, tree) = &template.commits[0];
    for name in ["part/large", "part/text"] {
        let cat = world.sane(&["cat", &format!("HEAD:{name}")]);
        let Some(Item::File(_, _, bytes)) = tree.get(name.as_bytes()) else { panic!("{name} is a file") };
        assert!(bytes.starts_with(&cat.out), "{what}: cat {name} gives wrong bytes");
        assert!(cat.status != Some(0) || cat.out == *bytes, "{what}: cat {name} is short");
        assert!(!cat.err.contains("not in this partial copy"), "{what}: {cat:?}");
    }
    let fsck = world.sane(&["fsck"]);
    let what = format!("{what}: {fsck:?}");
    check_fsck(template, &world, (path, part, harmed), &fsck, &what);
    if path == Path::new("parts") {
        // Without it nobody can tell what is missing from what never was here.
        for args in [["status"].as_slice(), &["log"], &["commit", "--allow-empty"], &["gc"], &["restore"], &["fsck"]] {
            let ran = world.sane(args);
            let is_named = ran.err.starts_with("filesync: parts: ") && ran.err.contains("clone it again");
            assert!(ran.status == Some(5) && is_named, "{what}: {args:?}: {ran:?}");
        }
    }
    assert_same(tree, &read_tree(world.root()), &what);
}

#[test]
fn damage_of_any_file_hands_out_nothing_wrong() {
    let template = template();
    let mut rng = Rng::new(seed(21));
    let mut done = 0;
    let files = files(&template);
    let names = ["format", "HEAD", "expired", "member", "remote", "outbox", "refs.local", "damaged", "journal", "pins"];
    for name in names.into_iter().chain(["collected"]) {
        assert!(files.iter().any(|(path, _)| path.starts_with(name)), "{name} is among {files:?}");
    }
    for (path, part) in files {
        let all = [
            Harm::Flip(rng.below(1000), 3),
            Harm::Zero(rng.below(1000)),
            Harm::Truncate(rng.below(1000)),
            Harm::Delete,
            Harm::Older,
            Harm::Flip(0, 0),
            Harm::Flip(999, 7),
            Harm::Flip(rng.below(1000), 6),
        ];
        let wanted = match (is_long(), part) {
            (true, _) => all.len(),
            // One of three is neither gone nor older.
            (_, Part::Pack | Part::Small | Part::Optional | Part::Spare) => 3,
            _ => 1,
        };
        let start = rng.index(all.len());
        for harmed in all.iter().cycle().skip(start).take(wanted) {
            // An open pack that is older was never acknowledged as longer than its mark.
            if part == Part::Pack && matches!(harmed, Harm::Older) && path.extension().is_some_and(|e| e == "pack") {
                continue;
            }
            done += u32::from(check(&template, &path, part, *harmed));
        }
    }
    println!("{done} damages");
    assert!(done > 40, "{done} damages");
}

#[test]
fn damage_of_a_partial_copy_hands_out_nothing_wrong() {
    let template = partial();
    let mut rng = Rng::new(seed(22));
    let files = files(&template);
    assert!(files.iter().any(|(path, _)| path == Path::new("parts")), "parts is among {files:?}");
    for (path, part) in files {
        let all = [
            Harm::Delete,
            Harm::Flip(rng.below(1000), 2),
            Harm::Truncate(rng.below(1000)),
            Harm::Zero(rng.below(1000)),
            Harm::Flip(999, 7),
        ];
        let wanted = if is_long() || part == Part::Small { all.len() } else { 1 };
        let start = if wanted == all.len() { 0 } else { rng.index(all.len()) };
        all.iter().skip(start).take(wanted).for_each(|harmed| check_partial(&template, &path, part, *harmed));
    }
}

/// A chunk goes bad; its file is still there: a commit after fsck stores it again, and all reads are well.
#[test]
fn damage_is_made_good_by_the_next_commit() {
    let template = template();
    for args in [&["commit", "-m", "again"][..], &["commit", "--no-cache", "--allow-empty", "-m", "again"]] {
        for sealed in [true, false] {
            let world = World::copy_of(template.world.root());
            let name = if sealed { "pack" } else { "open" };
            let pack = packs(&world).into_iter().filter(|pack| pack.extension().is_some_and(|e| e == name));
            // The class is at byte 9 of the header: 1 is data.
            let pack = pack.into_iter().find(|pack| fs::read(pack).unwrap()[9] == 1).unwrap();
            let bytes = fs::read(&pack).unwrap();
            let at = if sealed { bytes.len() / 2 } else { bytes.len() - 100 };
            fs::File::options().write(true).open(&pack).unwrap().write_all_at(&[!bytes[at]], at as u64).unwrap();
            let what = format!("{args:?}, {name}");
            let fsck = world.sane(&["fsck"]);
            assert_eq!(fsck.status, Some(5), "{what}: {fsck:?}");
            assert!(names_a_path(&fsck, &template), "{what}: {fsck:?}");
            let commit = world.sane(args);
            assert_eq!(commit.status, Some(0), "{what}: {commit:?}");
            let (last, tree) = template.commits.last().unwrap();
            let after = world.sane(&["fsck"]);
            if let Some(difference) = difference(tree, &world.restored(last), false) {
                panic!("{what}: {difference}");
            }
            // Only what no file has any more may still be bad.
            let text = String::from_utf8_lossy(&after.out).into_owned();
            assert!(after.status == Some(0) || !text.contains("    large"), "{what}: {after:?}");
        }
    }
}
