//! Against git itself, on random rules and trees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use filesync_cas::testing::seeds;
use filesync_merkle::RepoPath;

use super::*;
use crate::repo::{OpenOptions, Repo};
use crate::request::{ChangeKind, CommitRequest, InitRequest, Silent, StatusRequest};
use crate::scan::testing::{Random, TempDir};
use crate::scan::{self, Kind, Scan, ScanOptions};

/// Names for files, directories, and parts of patterns.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"ab",
    b"abc",
    b"foo",
    b"foo.o",
    b"bar.c",
    b".x",
    b"x y",
    b"end ",
    b"tab\t",
    b"A",
    b"B.O",
    b"#a",
    b"!b",
    b"a*b",
    b"[a]",
    b"a]",
    b"{a,b}",
    b"a\\b",
    b"\\",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"new\nline",
    b"1",
    b"-",
    b"a-b",
    b"***",
    b"?",
    b"^",
    b"foo\r",
    b"\xef\xbb\xbfa",
    b" a",
    b"b ",
    b"b  ",
    b"a ",
    b"z",
    b"5",
    b"a-",
    b"c.o",
    b"aXb",
    b"--",
    b"!",
    b"#",
    b"a,b",
    b"~a",
    b":a",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b".hidden.o",
    b"...",
];

/// What patterns are put together from.
const PARTS: &[&[u8]] = &[
    b"a",
    b"b",
    b"ab",
    b"foo",
    b"*",
    b"*",
    b"**",
    b"?",
    b"/",
    b"/",
    b".o",
    b".c",
    b"*.o",
    b"[ab]",
    b"[!a]",
    b"[^a]",
    b"[a-c]",
    b"[[:alpha:]]",
    b"[[:upper:]]",
    b"[[:digit:]]",
    b"[[:punct:]]",
    b"[[:space:]]",
    b"[[:foo:]]",
    b"[",
    b"]",
    b"[]a]",
    b"[]-a]",
    b"[\\]]",
    b"[a",
    b"[[:alpha:]",
    b"[!]",
    b"[--0]",
    b"[/]",
    b"\\",
    b"\\*",
    b"\\?",
    b"\\[",
    b"\\#",
    b"\\!",
    b"\\ ",
    b" ",
    b"  ",
    b"\t",
    b"#",
    b"!",
    b"{a,b}",
    b"\xc3\xa9",
    b"caf\xc3\xa9",
    b"\xff",
    b"[\xff]",
    b"[\x80-\xff]",
    b"**/",
    b"/**",
    b"/**/",
    b"***",
    b"\r",
    b"-",
    b"^",
    b"x y",
    b"end\\ ",
    b"\\\\",
    b"\\a",
    b"A",
    b"\x0b",
    b"\0",
    b"[a-]",
    b"[-a]",
    b"[!-a]",
    b"[\\a-c]",
    b"[a-\\c]",
    b"[a-c-e]",
    b"[z-a]",
    b"[a-a]",
    b"[[:alpha:]-z]",
    b"[[:alnum:][:punct:]]",
    b"[^[:alpha:]]",
    b"[![:space:]x]",
    b"[[:cntrl:]]",
    b"[[:graph:]]",
    b"[[:print:]]",
    b"[[:xdigit:]]",
    b"[[:blank:]]",
    b"[[:lower:]]",
    b"[[:ALPHA:]]",
    b"[[.a.]]",
    b"[[=a=]]",
    b"[[]",
    b"[[a]",
    b"[]]",
    b"[!]a]",
    b"[^]a]",
    b"[a\\]b]",
    b"[\\\\]",
    b"[*]",
    b"[?]",
    b"[#]",
    b"[!!]",
    b"[^^]",
    b"[a/b]",
    b"[0-9]",
    b"[A-Z]",
    b"[ -~]",
    b"**/**",
    b"/**/**/",
    b"**a",
    b"a**",
    b"**.o",
    b"*/**",
    b"**/*",
    b"/*/",
    b"*/*",
    b"\\/",
    b"./",
    b"../",
    b"//",
    b"\\ \\ ",
    b" \\",
    b"\\\r",
    b"\r\r",
    b"\xef\xbb\xbf",
    b"!!",
    b"\\!",
    b"a*b*c",
    b"??",
    b"?*",
    b"*?",
    b"~",
    b":",
    b"5",
    b"z",
    b",",
];

/// Those that the crate is given.
const PLAIN_PARTS: &[&[u8]] = &[
    b"a", b"b", b"ab", b"foo", b"*", b"*", b"**", b"?", b"/", b"/", b".o", b".c", b"*.o", b"**/", b"/**", b"/**/",
    b"/*", b"-", b"A", b".x", b"a/b", b"/a", b"*a", b"b*", b".*",
];

fn rule(random: &mut Random, is_plain: bool) -> Vec<u8> {
    let mut rule = Vec::new();
    if random.chance(20) {
        rule.push(b'!');
    }
    if random.chance(15) {
        rule.push(b'/');
    }
    if !is_plain && random.chance(40) {
        // Something that probably matches.
        for at in 0..=random.below(2) {
            if at > 0 {
                rule.push(b'/');
            }
            let mut name = random.pick(NAMES).to_vec();
            name.retain(|&byte| byte != b'\n');
            if random.chance(40) && !name.is_empty() {
                let at = random.below(name.len());
                name[at] = *random.pick(&[&b'*', &b'?', &b'\\']);
            }
            rule.extend(name);
        }
    } else {
        for _ in 0..=random.below(5) {
            rule.extend_from_slice(random.pick(if is_plain { PLAIN_PARTS } else { PARTS }));
        }
    }
    if random.chance(20) {
        rule.push(b'/');
    }
    rule
}

fn ignore_file(random: &mut Random) -> Vec<u8> {
    let mut file = Vec::new();
    if random.chance(10) {
        file.extend_from_slice(b"\xef\xbb\xbf");
    }
    let all_plain = random.chance(40);
    for _ in 0..=random.below(7) {
        let is_plain = all_plain || random.chance(30);
        file.extend(rule(random, is_plain));
        let ends: &[&[u8]] =
            &[b"\n", b"\n", b"\n", b"\r\n", b" \n", b"\n\n", b" \r\n", b"\t\n", b"\\ \n", b"  \n", b"\r\r\n", b"\\\n"];
        file.extend_from_slice(random.pick(ends));
    }
    if random.chance(20) {
        file.pop();
    }
    file
}

/// Makes a tree.
fn tree(random: &mut Random, root: &TempDir) {
    let mut directories = vec![Vec::new()];
    for _ in 0..12 + random.below(40) {
        let mut path: Vec<u8> = directories[random.below(directories.len())].clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(random.pick(NAMES));
        if root.path(&path).symlink_metadata().is_ok() {
            continue;
        }
        match random.below(10) {
            0..4 if path.len() < 60 => {
                root.dir(&path);
                directories.push(path);
            }
            4 => std::os::unix::fs::symlink(root.root(), root.path(&path)).unwrap(),
            _ => root.file(&path, b""),
        }
    }
    for directory in &directories {
        if directory.is_empty() || random.chance(25) {
            let path = [directory.as_slice(), if directory.is_empty() { b"" } else { b"/" }, IGNORE_FILE].concat();
            root.file(path, &ignore_file(random));
        }
    }
}

thread_local! {
    static GIT_DIR: TempDir = {
        let dir = TempDir::new();
        let init = Command::new("git").args(["init", "-q", "--bare", "--template="]).arg(dir.root()).status();
        assert!(init.unwrap().success());
        dir
    };
}

/// Where git keeps its own: nowhere near the trees. Each test has one, which goes with its thread.
fn git_dir() -> PathBuf {
    GIT_DIR.with(|dir| dir.root().to_owned())
}

fn git(root: &TempDir, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    git_with_index(root, &git_dir().join("index"), arguments, input)
}

fn git_with_index(root: &TempDir, index: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .current_dir(root.root())
        .args(["-c", "core.excludesFile=/dev/null", "-c", "core.ignoreCase=false"])
        .args(arguments)
        .env("GIT_DIR", git_dir())
        .env("GIT_WORK_TREE", root.root())
        .env("GIT_INDEX_FILE", index)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "git {arguments:?}: {}", output.status);
    writer.join().unwrap().unwrap();
    output.stdout
}

/// Everything in the tree: whether it is a directory, and left out. Below what is left out, nothing.
fn ours(root: &TempDir) -> BTreeMap<Vec<u8>, (bool, bool)> {
    let mut scan = Scan::start(root.fd(), None, ScanOptions::default());
    let mut found = BTreeMap::new();
    let mut directories = vec![RepoPath::root()];
    while let Some(path) = directories.pop() {
        let mut directory = scan.dir(&path).unwrap();
        let mut below = Vec::new();
        while let Some(batch) = directory.next_batch().unwrap() {
            for entry in batch.entries {
                let path = path.join(&entry.name);
                if entry.kind == Kind::Directory && !entry.ignored {
                    below.push(path.clone());
                }
                found.insert(path.as_bytes().to_vec(), (entry.kind == Kind::Directory, entry.ignored));
            }
        }
        directories.extend(below.into_iter().rev());
    }
    found
}

fn compare(seed: u64) {
    let mut random = Random::new(seed);
    let root = TempDir::new();
    tree(&mut random, &root);
    let ours = ours(&root);

    // What git sees is every file that is not left out, and no directories.
    let listed = git(&root, &["ls-files", "-z", "-o", "--exclude-per-directory=.filesyncignore"], b"");
    let mut theirs: Vec<&[u8]> = listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()).collect();
    theirs.sort_unstable();
    let kept: Vec<&[u8]> =
        ours.iter().filter(|(_, (dir, out))| !dir && !out).map(|(path, _)| path.as_slice()).collect();
    let shown = |paths: &[&[u8]], others: &[&[u8]]| -> Vec<String> {
        paths.iter().filter(|path| !others.contains(path)).map(|path| path.escape_ascii().to_string()).collect()
    };
    let files = || -> Vec<String> {
        let all = ours.keys().filter(|path| path.ends_with(IGNORE_FILE));
        let read = |path: &Vec<u8>| std::fs::read(root.path(path)).unwrap_or_default();
        all.map(|path| format!("{}: {}", path.escape_ascii(), read(path).escape_ascii())).collect()
    };
    assert_eq!(
        shown(&kept, &theirs),
        shown(&theirs, &kept),
        "seed {seed}: kept by us alone, by git alone\n{:#?}",
        files()
    );

    // Which rule decides: git says it of its own files only, so those are called so for once.
    for path in ours.keys().filter(|path| path.ends_with(IGNORE_FILE)) {
        let directory = path.strip_suffix(IGNORE_FILE).unwrap();
        std::fs::copy(root.path(path), root.path([directory, b".gitignore"].concat())).unwrap();
    }
    let paths: Vec<&[u8]> = ours.keys().map(Vec::as_slice).filter(|path| !path.ends_with(IGNORE_FILE)).collect();
    // A colon in front would begin what git calls magic.
    let input: Vec<u8> = paths.iter().flat_map(|path| [b"./", *path, b"\0"].concat()).collect();
    let told = git(&root, &["check-ignore", "-z", "-v", "-n", "--no-index", "--stdin"], &input);
    let mut fields = told.split(|&byte| byte == 0);
    for path in paths {
        let [source, line, rule, about] = std::array::from_fn(|_| fields.next().unwrap().to_vec());
        assert_eq!(about, [b"./", path].concat(), "seed {seed}");
        let told = scan::explain(root.fd().as_fd(), &RepoPath::parse(path).unwrap(), false).unwrap();
        let ours = told.map(|it| ([it.directory.as_slice(), b".gitignore"].concat(), it.line.to_string(), it.rule));
        let theirs = (!source.is_empty()).then(|| (source, String::from_utf8(line).unwrap(), rule));
        assert_eq!(ours, theirs, "seed {seed}: {} {:#?}", path.escape_ascii(), files());
    }
}

/// Tracked files, with the rules made afterwards: what is new counts as git says, below directories that are left out
/// and hold tracked files too; and what is tracked stays so.
fn compare_tracked(seed: u64) {
    let mut random = Random::new(seed);
    let root = TempDir::new();
    Repo::init(root.root(), &InitRequest::default()).unwrap();
    // Some names of the tree that will be there, without rules.
    let scratch = TempDir::new();
    tree(&mut random, &scratch);
    let all: Vec<Vec<u8>> = below(&scratch);
    let mut tracked: Vec<&Vec<u8>> = Vec::new();
    for path in all.iter().filter(|path| !path.ends_with(IGNORE_FILE)) {
        if random.chance(30) {
            root.file(path, path);
            tracked.push(path);
        }
    }
    let options =
        OpenOptions { allow_foreign: false, lock_timeout: std::time::Duration::from_secs(5), ..OpenOptions::default() };
    let repo = Repo::open_writer(root.root(), "test", &options, &Silent).unwrap();
    repo.commit(&CommitRequest::default(), &Silent).unwrap();
    for path in &all {
        if !tracked.contains(&path) {
            root.file(path, &std::fs::read(scratch.path(path)).unwrap_or_default());
        }
    }
    let changed = tracked.iter().filter(|_| random.chance(30)).map(|path| path.to_vec()).collect::<Vec<_>>();
    changed.iter().for_each(|path| root.file(path, b"changed, and longer than it was"));

    let index = TempDir::new();
    let index = index.path("index");
    let input: Vec<u8> = tracked.iter().flat_map(|path| [path.as_slice(), b"\0"].concat()).collect();
    git_with_index(&root, &index, &["update-index", "--add", "-z", "--stdin"], &input);
    let arguments = ["ls-files", "-z", "-o", "--exclude-per-directory=.filesyncignore", "--exclude=/.filesync"];
    let listed = git_with_index(&root, &index, &arguments, b"");
    let theirs: BTreeSet<Vec<u8>> =
        listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect();
    let status = repo.status(&StatusRequest::default(), &Silent).unwrap();
    let of_kind = |kind| -> BTreeSet<Vec<u8>> {
        status.changes.iter().filter(|change| change.kind == kind).map(|change| change.path.clone()).collect()
    };
    let rules = || -> Vec<String> {
        let files = all.iter().filter(|path| path.ends_with(IGNORE_FILE));
        let read = |path: &Vec<u8>| std::fs::read(root.path(path)).unwrap_or_default();
        files.map(|path| format!("{}: {}", path.escape_ascii(), read(path).escape_ascii())).collect()
    };
    let shown = |paths: &BTreeSet<Vec<u8>>, others: &BTreeSet<Vec<u8>>| -> Vec<String> {
        paths.difference(others).map(|path| path.escape_ascii().to_string()).collect()
    };
    let mut ours = of_kind(ChangeKind::Added);
    // Git knows of no directories without files.
    ours.retain(|path| !root.path(path).is_dir());
    assert_eq!(shown(&ours, &theirs), shown(&theirs, &ours), "seed {seed}: new to us, to git\n{:#?}", rules());
    let changed: BTreeSet<Vec<u8>> = changed.into_iter().collect();
    assert_eq!(of_kind(ChangeKind::Modified), changed, "seed {seed}: {:#?}", rules());
    assert!(of_kind(ChangeKind::Deleted).is_empty(), "seed {seed}: {status:?}");
}

/// Every file and symlink.
fn below(root: &TempDir) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(root.path(&directory)).unwrap() {
            let entry = entry.unwrap();
            let mut path: Vec<u8> = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.file_name().as_bytes());
            match entry.file_type().unwrap().is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn tracked_files_as_git_has_them() {
    seeds(1, 25, 3000).for_each(compare_tracked);
}

#[test]
fn as_git_on_random_trees() {
    let seeds = Mutex::new(seeds(1, 1000, 5000));
    let next = || seeds.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| std::iter::from_fn(next).for_each(compare));
        }
    });
}

/// Rule, path, whether that is a directory, whether it is left out.
const CASES: &[(&str, &str, bool, bool)] = &[
    ("foo", "foo", false, true),
    ("foo", "a/foo", true, true),
    ("/foo", "a/foo", false, false),
    ("foo/", "foo", false, false),
    ("foo/", "a/foo", true, true),
    ("a/foo", "b/a/foo", false, false),
    ("doc/**", "doc", true, false),
    ("doc/**", "doc/x/y", false, true),
    ("a/**/b", "a/b", false, true),
    ("**/b/c", "x/b/c", false, true),
    ("foo**/bar", "foo/x/bar", false, true),
    ("{a,b}", "a", false, false),
    ("{a,b}", "{a,b}", false, true),
    ("\\#a", "#a", false, true),
    ("# a", "# a", false, false),
    ("a\\ ", "a ", false, true),
    ("a  ", "a", false, true),
    ("a\t", "a", false, false),
    ("a\r", "a", false, true),
    ("[", "[", false, false),
    ("*", ".hidden", false, true),
    ("FOO", "foo", false, false),
];

#[test]
fn single_rules() {
    for &(rule, path, is_directory, wanted) in CASES {
        let rules = Rules::default().with_file(b"", rule.as_bytes());
        assert_eq!(rules.leave_out(path.as_bytes(), is_directory), wanted, "{rule:?} on {path:?}");
    }
}

/// The largest file that is read takes a bounded amount of memory, whatever its rules are; and so does looking names up in it.
#[test]
fn large_files_take_little_memory() {
    type Rule = fn(usize) -> String;
    let rule_of: [(&str, Rule); 6] = [
        ("letters", |_| "a\n".to_owned()),
        ("names", |number| format!("{number:x}\n")),
        ("endings", |number| format!("*.{number:x}\n")),
        // Each a regular expression of its own, once.
        ("wildcards", |number| format!("a*{number:x}?.c\n")),
        ("automata", |number| format!("*a{}{number:x}*.c\n", "?".repeat(18))),
        ("paths", |number| format!("**/a*/{number:x}/**\n")),
    ];
    let mut random = Random::new(1);
    let names: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let letters = (0..200).map(|_| if random.below(2) == 0 { b'a' } else { b'b' });
            letters.chain(*b".c").collect()
        })
        .collect();
    for (what, rule) in rule_of {
        let mut file = Vec::new();
        for number in 0.. {
            let line = rule(number);
            if file.len() + line.len() > 256 << 10 {
                break;
            }
            file.extend_from_slice(line.as_bytes());
        }
        let mut rules = Rules::default();
        let cost = allocation_counter::measure(|| {
            rules = Rules::default().with_file(b"", &file);
            names.iter().for_each(|name| _ = rules.leave_out(name, false));
        });
        let mib = cost.bytes_max >> 20;
        assert!(mib <= 192, "{what}: {mib} MiB for a file of 256 KiB");
        assert!(!rules.is_empty());
    }
}

#[test]
fn no_rules_no_level() {
    assert!(Rules::default().with_file(b"", b"# only\n\n# comments\n").is_empty());
}
