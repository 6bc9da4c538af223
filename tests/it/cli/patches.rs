//! Patches of generated trees: git takes them, and makes of one tree the other. What git says of the same two trees is
//! said by `diff` too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use filesync_cas::testing::Rng;
use filesync_tests::model::{Item, Tree, read_tree};
use filesync_tests::process::Stop;
use filesync_tests::world::{TempDir, World, is_long, seed};

/// What stands at a path, as far as git knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
}

type Files = BTreeMap<Vec<u8>, Kept>;

fn files_of(tree: &Tree) -> Files {
    let keep = |item: &Item| match item {
        Item::File(mode, _, bytes) => Some(Kept::File(mode & 0o100 != 0, bytes.clone())),
        Item::Symlink(target) => Some(Kept::Link(target.clone())),
        Item::Directory(_) => None,
    };
    tree.iter().filter_map(|(path, item)| Some((path.clone(), keep(item)?))).collect()
}

/// Makes a directory hold these files, and nothing else but `.filesync` and `.git`. The finer bits of modes are any,
/// or git's without a generator.
fn lay_out(files: &Files, root: &Path, mut rng: Option<&mut Rng>) {
    for entry in std::fs::read_dir(root).expect("it can be read").flatten() {
        if entry.file_name().as_bytes().starts_with(b".filesync") || entry.file_name() == ".git" {
            continue;
        }
        let is_dir = entry.file_type().expect("it has a type").is_dir();
        let path = entry.path();
        if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it can be removed");
    }
    for (path, kept) in files {
        let path = root.join(OsStr::from_bytes(path));
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("directories can be made");
        match kept {
            Kept::Link(target) => symlink(OsStr::from_bytes(target), path).expect("it can be made"),
            Kept::File(executable, bytes) => {
                std::fs::write(&path, bytes).expect("it can be written");
                let modes = if *executable { [0o755, 0o700, 0o744] } else { [0o644, 0o600, 0o664] };
                let mode = std::fs::Permissions::from_mode(modes[rng.as_mut().map_or(0, |rng| rng.index(3))]);
                std::fs::set_permissions(&path, mode).expect("modes can be set");
            }
        }
    }
}

const NAMES: [&[u8]; 20] = [
    b"a",
    b"b",
    b"c",
    b"plain.txt",
    b"with space",
    b" lead",
    b"trail ",
    b"qu\"ote",
    b"back\\slash",
    b"new\nline",
    b"tab\there",
    b"\xff\xfe",
    b"\x01\x7f",
    "schön".as_bytes(),
    b"a -> b",
    b"{x => y}",
    b"-dash",
    b"a b a b",
    b"dev",
    b"null",
];

fn random_path(rng: &mut Rng) -> Vec<u8> {
    let depth = 1 + rng.index(3);
    let names: Vec<&[u8]> = (0..depth).map(|_| NAMES[rng.index(NAMES.len())]).collect();
    names.join(&b'/')
}

const LINES: [&[u8]; 14] = [
    b"one",
    b"two",
    b"three",
    b"",
    b"-minus",
    b"+plus",
    b" space",
    b"@@ -1,2 +3 @@",
    b"diff --git a/x b/x",
    b"\\ No newline at end of file",
    b"--- a/x",
    b"cr\r",
    b"latin \xe4\xf6",
    b"trailing  ",
];

fn random_text(rng: &mut Rng) -> Vec<u8> {
    let count = if rng.chance(1, 6) { 0 } else { rng.index(25) };
    let lines: Vec<&[u8]> = (0..count).map(|_| LINES[rng.index(LINES.len())]).collect();
    let mut text = lines.join(&b'\n');
    if count > 0 && !rng.chance(1, 4) {
        text.push(b'\n');
    }
    text
}

fn edited(text: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..1 + rng.index(3) {
        let at = rng.index(lines.len() + 1);
        match rng.index(3) {
            0 if at < lines.len() => drop(lines.remove(at)),
            1 => lines.insert(at, [LINES[rng.index(LINES.len())], b"\n"].concat()),
            _ => drop(lines.pop().map(|mut line| {
                // With or without its newline.
                if line.pop_if(|byte| *byte == b'\n').is_none() {
                    line.push(b'\n');
                }
                lines.push(line);
            })),
        }
    }
    lines.concat()
}

/// Puts something at a path; what is in its way goes.
fn put(files: &mut Files, path: &[u8], kept: Kept) {
    let below = [path, b"/"].concat();
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&[other.as_slice(), b"/"].concat()));
    files.insert(path.to_vec(), kept);
}

fn random_kept(rng: &mut Rng) -> Kept {
    match rng.chance(1, 6) {
        true => Kept::Link(NAMES[rng.index(NAMES.len())].to_vec()),
        false => Kept::File(rng.chance(1, 4), random_text(rng)),
    }
}

fn random_edits(files: &mut Files, rng: &mut Rng) {
    for _ in 0..1 + rng.index(8) {
        let paths: Vec<Vec<u8>> = files.keys().cloned().collect();
        let old = if paths.is_empty() { random_path(rng) } else { paths[rng.index(paths.len())].clone() };
        match (rng.index(7), files.get(&old).cloned()) {
            (0, _) => put(files, &random_path(rng), random_kept(rng)),
            (1, _) => put(files, &old, random_kept(rng)),
            (2, _) => drop(files.remove(&old)),
            (3, Some(kept)) => {
                files.remove(&old);
                put(files, &random_path(rng), kept);
            }
            (4, Some(Kept::File(executable, bytes))) => put(files, &old, Kept::File(!executable, bytes)),
            (5, _) => put(files, &[old.as_slice(), b"/", NAMES[rng.index(NAMES.len())]].concat(), random_kept(rng)),
            (_, Some(Kept::File(executable, bytes))) => {
                let bytes = edited(&bytes, rng);
                put(files, &old, Kept::File(executable, bytes));
            }
            _ => {}
        }
    }
}

fn git(dir: &Path, args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("COLUMNS");
    git.env("GIT_CEILING_DIRECTORIES", dir.parent().expect("not the root"));
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@localhost");
    }
    git
}

fn git_ok(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = git(dir, args).output().expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Applies a patch to files, and says what they are then.
fn apply(patch: &[u8], old: &Files, what: &str) -> Files {
    let dir = TempDir::new();
    lay_out(old, dir.path(), None);
    let mut git = git(dir.path(), &["apply", "-p1", "--whitespace=nowarn", "--allow-empty"]);
    let mut git = git.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("git runs");
    git.stdin.take().expect("it is piped").write_all(patch).expect("git reads");
    let output = git.wait_with_output().expect("git ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: git apply: {err}\n{}", String::from_utf8_lossy(patch));
    files_of(&read_tree(dir.path()))
}

fn assert_same(expected: &Files, found: &Files, patch: &[u8], what: &str) {
    let differs = expected.keys().chain(found.keys()).find(|path| expected.get(*path) != found.get(*path));
    if let Some(path) = differs {
        let (path, patch) = (String::from_utf8_lossy(path), String::from_utf8_lossy(patch));
        panic!(
            "{what}: {path:?}: expected {:?}, found {:?}\n{patch}",
            expected.get(path.as_bytes()),
            found.get(path.as_bytes())
        );
    }
}

#[test]
fn git_makes_of_the_old_tree_the_new_one() {
    let seed = seed(0x11ff);
    let rounds = if is_long() { 400 } else { 25 };
    let mut rng = Rng::new(seed);
    let world = World::repository();
    let mut files = Files::new();
    world.ok(&["commit", "--allow-empty", "-m", "nothing"]);
    for round in 0..rounds {
        let what = format!("seed {seed}, round {round}");
        let old = files.clone();
        random_edits(&mut files, &mut rng);
        if round % 10 == 0 {
            (0..20).for_each(|_| random_edits(&mut files, &mut rng));
        }
        lay_out(&files, world.root(), Some(&mut rng));
        let check = |args: &[&str], from: &Files, to: &Files| {
            let output = world.run(&[&["diff"], args].concat());
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            assert_same(to, &apply(&output.stdout, from, &what), &output.stdout, &what);
            output.stdout
        };
        let patch = check(&[], &old, &files);
        world.ok(&["commit", "--allow-empty", "-m", "next"]);
        assert!(check(&["HEAD~1"], &old, &files) == patch, "{what}: a commit says something else");
        assert!(check(&["HEAD~1", "HEAD"], &old, &files) == patch, "{what}: two commits say something else");
        check(&["HEAD", "HEAD~1"], &files, &old);
        // Git passes over what `show` says before.
        let shown = world.run(&["show"]).stdout;
        assert_same(&files, &apply(&shown, &old, &what), &shown, &what);
        if round % 5 == 4 {
            check(&["HEAD~5", "HEAD"], &history(&world, 5), &files);
        }
    }
}

fn history(world: &World, back: usize) -> Files {
    files_of(&world.restored(&format!("HEAD~{back}")))
}

/// A path that neither tree has, nor anything above or below it: what takes the place of a directory is told otherwise by
/// git, which knows of none.
fn free_path(old: &Files, new: &Files, rng: &mut Rng) -> Vec<u8> {
    loop {
        let path = match rng.chance(1, 3) {
            true => format!("long-{}/{}", "n".repeat(rng.index(90)), rng.index(1000)).into_bytes(),
            false => random_path(rng),
        };
        let leads = |a: &[u8], b: &[u8]| a == b || a.starts_with(&[b, b"/"].concat());
        let is_free = old.keys().chain(new.keys()).all(|other| !leads(other, &path) && !leads(&path, other));
        // Ours is quoted for an arrow in it, and where it is not UTF-8 even if git was told not to.
        if is_free && std::str::from_utf8(&path).is_ok_and(|path| !path.contains(" -> ")) {
            return path;
        }
    }
}

/// Edits that both tools see alike: no file is a copy of another, and only whole files are renamed.
fn twin_edits(files: &mut Files, rng: &mut Rng, number: &mut u64) {
    let before = files.clone();
    for _ in 0..2 + rng.index(6) {
        *number += 1;
        let mark = format!("number {number}\n").into_bytes();
        let paths: Vec<Vec<u8>> = files.keys().cloned().collect();
        let old = if paths.is_empty() { Vec::new() } else { paths[rng.index(paths.len())].clone() };
        match (rng.index(5), files.get(&old).cloned()) {
            (0, Some(kept)) => {
                files.remove(&old);
                let path = free_path(&before, files, rng);
                files.insert(path, kept);
            }
            (1, _) => drop(files.remove(&old)),
            (2, Some(Kept::File(executable, mut bytes))) => {
                bytes.extend(mark.repeat(rng.index(300)));
                files.insert(old, Kept::File(executable, bytes));
            }
            (3, Some(Kept::File(executable, bytes))) => {
                let bytes = [edited(&bytes, rng), mark].concat();
                files.insert(old, Kept::File(!executable, bytes));
            }
            _ => {
                let mut bytes = [mark, random_text(rng)].concat();
                if rng.chance(1, 8) {
                    bytes.insert(3, 0);
                }
                let path = free_path(&before, files, rng);
                files.insert(path, Kept::File(rng.chance(1, 5), bytes));
            }
        }
    }
}

/// Records of `--name-status -z`: a letter and one or two names each.
fn records(bytes: &[u8]) -> Vec<String> {
    let mut words = bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut records = Vec::new();
    while let Some(letter) = words.next().filter(|letter| !letter.is_empty()) {
        let names = if letter.starts_with('R') { 2 } else { 1 };
        records.push((0..names).fold(letter, |record, _| format!("{record} {:?}", words.next())));
    }
    // Git's order is that of whole paths.
    records.sort();
    records
}

#[test]
fn git_says_the_same_of_the_same() {
    let seed = seed(0x51a7);
    let rounds = if is_long() { 200 } else { 12 };
    let mut rng = Rng::new(seed);
    let (world, twin) = (World::repository(), TempDir::new());
    git_ok(twin.path(), &["init", "-q"]);
    let mut files = Files::new();
    let mut number = 0;
    for round in 0..rounds {
        twin_edits(&mut files, &mut rng, &mut number);
        lay_out(&files, world.root(), None);
        lay_out(&files, twin.path(), None);
        world.ok(&["commit", "--allow-empty", "-m", "next"]);
        git_ok(twin.path(), &["add", "-A"]);
        git_ok(twin.path(), &["commit", "-q", "--allow-empty", "-m", "next"]);
        if round == 0 {
            continue;
        }
        let common = ["-c", "core.quotePath=false", "diff", "-M100%", "--minimal", "HEAD~1", "HEAD"];
        let theirs = |form: &[&str]| git_ok(twin.path(), &[&common[..], form].concat());
        let ours = |form: &[&str]| world.run(&[&["diff", "HEAD~1", "HEAD"], form].concat()).stdout;
        let what = format!("seed {seed}, round {round}");
        let form = ["--name-status", "-z"];
        // Ours tells of directories whose modes changed or that are empty; here there are none.
        assert_eq!(records(&ours(&form)), records(&theirs(&form)), "{what}");
        let lines = |text: Vec<u8>| {
            let mut lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(ours(&["--stat"])), lines(theirs(&["--stat"])), "{what}");
    }
}

/// A file that is written while it is compared: what is shown of it was there, or it is an error.
#[test]
fn what_changes_meanwhile_is_never_shown_wrong() {
    let world = World::repository();
    let version = |number: usize| format!("version {number}\n").repeat(3000);
    world.write("file", version(0));
    world.write("comes-and-goes", version(0));
    world.commit();
    let old = files_of(&read_tree(world.root()));
    let end = AtomicBool::new(false);
    let wanted = if is_long() { 300 } else { 30 };
    // Differences that were shown, those that were errors, and which versions of the file were among the former.
    let (mut shown, mut refused, mut versions) = (0, 0, BTreeSet::new());
    std::thread::scope(|scope| {
        let _told = Stop(&end);
        scope.spawn(|| {
            let mut number = 1;
            while !end.load(Ordering::Relaxed) {
                // In place, in two steps, and by a rename.
                world.write("file", version(number));
                world.write("beside", version(number));
                std::fs::rename(world.path("beside"), world.path("file")).expect("it can be renamed");
                let _ = std::fs::remove_file(world.path("comes-and-goes"));
                world.write("comes-and-goes", version(number));
                number += 1;
            }
        });
        while shown < wanted || versions.len() < 3 {
            assert!(shown + refused < 50 * wanted, "{shown} were shown, {refused} refused, of {versions:?}");
            let output = world.run(&["diff"]);
            if !output.status.success() {
                let err = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(matches!(output.status.code(), Some(1 | 3)), "{err}");
                refused += 1;
                continue;
            }
            shown += 1;
            let new = apply(&output.stdout, &old, "a moving working copy");
            for (path, kept) in &new {
                let Kept::File(_, bytes) = kept else { panic!("not a file") };
                let text = String::from_utf8(bytes.clone()).expect("a text");
                // One version throughout: whole, or cut where it was being written.
                let first = text.lines().next().unwrap_or_default().to_owned();
                let whole = format!("{first}\n").repeat(3000);
                assert!(text.is_empty() || whole.starts_with(&text), "{}", String::from_utf8_lossy(path));
                if path == b"file" && !text.is_empty() {
                    versions.insert(first);
                }
            }
        }
    });
    println!("{shown} were shown, {refused} refused, of {} versions", versions.len());
}
