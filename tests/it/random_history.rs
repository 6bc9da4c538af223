//! Random histories against a plain map: what a commit held when it was made, it holds for ever.
//!
//! Edits, commits, restores, kills and lost indexes in any order. The map has, for every commit, what the working copy
//! was; after every step some of them are compared, and in the end all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_cas::vfs::TEMP_PREFIX;
use filesync_tests::model::{Item, Tree, assert_same, difference, read_tree};
use filesync_tests::world::{World, is_long, seed};

/// Seeds of histories that once failed.
const REGRESSIONS: &[u64] = &[];

const DIR_MODES: [u32; 3] = [0o755, 0o700, 0o750];
const FILE_MODES: [u32; 5] = [0o644, 0o755, 0o600, 0o444, 0o700];

#[derive(Debug, Default)]
struct Counts {
    commits: u32,
    restores: u32,
    kills: u32,
    lost_indexes: u32,
}

struct History {
    world: World,
    rng: Rng,
    commits: BTreeMap<String, Tree>,
    /// Commits in the order in which they came, to choose from.
    order: Vec<String>,
    steps: Vec<String>,
    counts: Counts,
    /// How long a command takes, to kill it before its end.
    usual: Duration,
}

fn os(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::empty();
        world.ok(if rng.coin() { &["init", "--chunk-size", "4KiB"] } else { &["init"] });
        let usual = Duration::from_millis(50);
        let (commits, order, steps, counts) = Default::default();
        Self { world, rng, commits, order, steps, counts, usual }
    }

    fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    fn tree(&self) -> Tree {
        read_tree(self.world.root())
    }

    /// A path that is there, of those that `wanted` likes.
    fn any(&mut self, wanted: impl Fn(&Item) -> bool) -> Option<(PathBuf, Item)> {
        let tree = self.tree();
        let is_ours = |path: &[u8]| path.windows(TEMP_PREFIX.len()).any(|part| part == TEMP_PREFIX.as_bytes());
        let fit: Vec<_> = tree.into_iter().filter(|(path, item)| wanted(item) && !is_ours(path)).collect();
        if fit.is_empty() {
            return None;
        }
        let (path, item) = fit[self.rng.index(fit.len())].clone();
        Some((os(&path).to_owned(), item))
    }

    /// A path that need not be there, in a directory that is.
    fn new_path(&mut self) -> PathBuf {
        let dir = match self.rng.chance(2, 3) {
            true => self.any(|item| matches!(item, Item::Directory(_))).map(|(path, _)| path).unwrap_or_default(),
            false => PathBuf::new(),
        };
        let number = self.rng.below(12);
        dir.join(if number == 0 { "name with\nline".to_owned() } else { format!("n{number}") })
    }

    fn content(&mut self) -> Vec<u8> {
        let len = match self.rng.below(8) {
            0 => 0,
            1 => self.rng.index(400_000),
            2 => self.rng.index(40_000),
            _ => self.rng.index(200),
        };
        let mut bytes = self.rng.bytes(len);
        // Some compress, and some repeat what others have.
        if self.rng.coin() {
            bytes.iter_mut().for_each(|byte| *byte &= 3);
        }
        bytes
    }

    fn remove(path: &Path) {
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
    }

    fn edit(&mut self) {
        let root = self.world.root().to_owned();
        let is_file = |item: &Item| matches!(item, Item::File(..));
        match self.rng.below(12) {
            0..=3 => {
                let (path, bytes) = (self.new_path(), self.content());
                self.note(format!("write {path:?} {}", bytes.len()));
                Self::remove(&root.join(&path));
                fs::write(root.join(&path), bytes).unwrap();
            }
            4 => {
                let Some((path, Item::File(_, _, mut bytes))) = self.any(is_file) else { return };
                bytes.extend(self.content());
                self.note(format!("append {path:?}"));
                fs::write(root.join(path), bytes).unwrap();
            }
            5 => {
                // The same size, at once, and in half of the cases with the time that it had.
                let Some((path, Item::File(_, _, mut bytes))) = self.any(is_file) else { return };
                let Some(last) = bytes.len().checked_sub(1) else { return };
                bytes[self.rng.index(last + 1)] ^= 1;
                let keep = self.rng.coin();
                self.note(format!("rewrite {path:?}, time kept: {keep}"));
                let path = root.join(path);
                let time = path.metadata().unwrap().modified().unwrap();
                fs::write(&path, bytes).unwrap();
                if keep {
                    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
                }
            }
            6 => {
                let Some((path, _)) = self.any(|_| true) else { return };
                self.note(format!("delete {path:?}"));
                Self::remove(&root.join(path));
            }
            7 => {
                let Some((from, _)) = self.any(|_| true) else { return };
                let to = self.new_path();
                if to.starts_with(&from) || from.starts_with(&to) {
                    return;
                }
                self.note(format!("rename {from:?} {to:?}"));
                Self::remove(&root.join(&to));
                fs::rename(root.join(from), root.join(to)).unwrap();
            }
            8 => {
                let Some((path, item)) = self.any(|item| !matches!(item, Item::Symlink(_))) else { return };
                let mode = match item {
                    Item::Directory(_) => DIR_MODES[self.rng.index(DIR_MODES.len())],
                    _ => FILE_MODES[self.rng.index(FILE_MODES.len())],
                };
                self.note(format!("chmod {path:?} {mode:o}"));
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
            }
            9 => {
                let path = self.new_path();
                let target = ["n1", "../n2", "/nowhere", "."][self.rng.index(4)];
                self.note(format!("symlink {path:?} {target}"));
                Self::remove(&root.join(&path));
                std::os::unix::fs::symlink(target, root.join(path)).unwrap();
            }
            _ => {
                let path = self.new_path();
                self.note(format!("mkdir {path:?}"));
                Self::remove(&root.join(&path));
                fs::create_dir(root.join(path)).unwrap();
            }
        }
    }

    fn remember(&mut self, id: String, tree: Tree) {
        if self.commits.insert(id.clone(), tree).is_none() {
            self.order.push(id);
        }
    }

    fn any_commit(&mut self) -> Option<String> {
        (!self.order.is_empty()).then(|| self.order[self.rng.index(self.order.len())].clone())
    }

    fn commit_args(&mut self) -> Vec<&'static str> {
        let mut args = vec!["commit", "-m", "m"];
        match self.rng.below(6) {
            0 if !self.order.is_empty() => args.push("--amend"),
            1 => args.push("--allow-empty"),
            2 => args.push("--no-cache"),
            _ => {}
        }
        args
    }

    fn commit(&mut self) {
        let args = self.commit_args();
        self.note(args.join(" "));
        let began = Instant::now();
        let has_journal = self.world.path(".filesync/journal").exists();
        let before = self.tree();
        let ran = self.world.sane(&args);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        self.usual = (self.usual + began.elapsed()) / 2;
        let after = self.tree();
        if !has_journal {
            assert_same(&before, &after, "a commit changes no working copy");
        }
        let temp = after.keys().find(|path| path.windows(TEMP_PREFIX.len()).any(|part| part == TEMP_PREFIX.as_bytes()));
        assert_eq!(temp, None, "a temporary file is left");
        self.counts.commits += 1;
        match self.world.head() {
            Some(head) => {
                assert_same(&after, &self.world.restored(&head), "the new commit");
                self.remember(head, after);
            }
            None => assert!(after.is_empty(), "nothing was committed"),
        }
    }

    /// Runs a command, and kills it somewhere on its way.
    fn kill(&mut self) {
        let commit = self.any_commit().filter(|_| self.rng.coin());
        let args: Vec<&str> = match &commit {
            Some(commit) => vec!["restore", commit, "--delete", "--force"],
            None => self.commit_args(),
        };
        let has_journal = self.world.path(".filesync/journal").exists();
        let before = self.tree();
        let head_before = self.world.head();
        let micros = u64::try_from(self.usual.as_micros()).unwrap().max(1000) * 11 / 10;
        let wait = Duration::from_micros(self.rng.below(micros));
        self.steps.push(format!("{args:?}, killed after {wait:?}"));
        let mut command = self.world.command(&args);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("the program runs");
        std::thread::sleep(wait);
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it ends");
        self.counts.kills += u32::from(status.signal() == Some(9));
        if let Some(commit) = commit {
            if status.success() {
                assert_same(&self.commits[&commit], &self.tree(), "a restore that was not killed in time");
            }
            // What it began is ended before anything else takes this for the user's work.
            return;
        }
        let head = self.world.head();
        if head != head_before {
            let head = head.expect("a head does not go away");
            let tree = self.world.restored(&head);
            if !has_journal {
                assert_same(&before, &tree, "a commit that moved the head and was killed");
            }
            self.remember(head, tree);
        }
    }

    fn restore(&mut self) {
        let Some(commit) = self.any_commit() else { return };
        self.counts.restores += 1;
        if self.rng.chance(2, 3) {
            self.note(format!("restore {commit} --delete --force"));
            let ran = self.world.sane(&["restore", &commit, "--delete", "--force"]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            assert_same(&self.commits[&commit], &self.tree(), &format!("restored {commit}"));
            return;
        }
        // Without force, what no commit holds stays as it is.
        self.note(format!("restore {commit}"));
        let has_journal = self.world.path(".filesync/journal").exists();
        let known: BTreeSet<&Vec<u8>> = self
            .commits
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|item| if let Item::File(_, _, bytes) = item { Some(bytes) } else { None })
            .collect();
        let before = self.tree();
        let ran = self.world.sane(&["restore", &commit]);
        assert!(matches!(ran.status, Some(0 | 3)), "{ran:?}");
        let after = self.tree();
        for (path, item) in before.iter().filter(|_| !has_journal) {
            if let Item::File(_, _, bytes) = item
                && !bytes.is_empty()
                && !known.contains(bytes)
            {
                let now = after.get(path);
                let is_kept = matches!(now, Some(Item::File(_, _, now)) if now == bytes);
                assert!(is_kept, "restore took {} away, which no commit has", String::from_utf8_lossy(path));
            }
        }
        if ran.status == Some(0) && !has_journal {
            let tree = &self.commits[&commit];
            let mut found = after;
            found.retain(|path, _| tree.contains_key(path));
            assert_same(tree, &found, &format!("restored {commit} without --delete"));
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=7 => (0..=self.rng.below(4)).for_each(|_| self.edit()),
            8..=11 => self.commit(),
            12..=13 => self.restore(),
            14..=17 => self.kill(),
            18 => {
                self.note("rm -r index");
                self.counts.lost_indexes += 1;
                let removed = fs::remove_dir_all(self.world.path(".filesync/index"));
                // It may be gone since the last time.
                assert!(removed.is_ok() || !self.world.path(".filesync/index").exists(), "{removed:?}");
            }
            _ => {
                let Some(commit) = self.any_commit() else { return };
                self.note(format!("restore {commit} --to"));
                assert_same(&self.commits[&commit], &self.world.restored(&commit), &commit);
            }
        }
    }

    fn finish(&mut self) {
        self.commit();
        let status = self.world.json(&["status"]);
        assert_eq!(status[0]["clean"], true, "{status:?}");
        let fsck = self.world.sane(&["fsck"]);
        assert_eq!(fsck.status, Some(0), "{fsck:?}");
        for (commit, tree) in &self.commits {
            if let Some(difference) = difference(tree, &self.world.restored(commit), false) {
                panic!("{commit} is no more what it was: {difference}");
            }
        }
    }
}

/// Runs one history; on failure its seed and its steps are printed.
fn run(seed: u64, steps: u32) -> Counts {
    let mut history = History::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        (0..steps).for_each(|_| history.step());
        history.finish();
    }));
    if let Err(panic) = outcome {
        println!("history of seed {seed} (FILESYNC_SEED={seed} runs it again first):");
        history.steps.iter().for_each(|step| println!("    {step}"));
        std::panic::resume_unwind(panic);
    }
    history.counts
}

#[test]
fn random_history_commits_stay_what_they_were() {
    let first = seed(1);
    let (histories, steps) = if is_long() { (400, 60) } else { (10, 25) };
    let mut sum = Counts::default();
    for seed in REGRESSIONS.iter().copied().chain((0..histories).map(|n| first.wrapping_add(n))) {
        let counts = run(seed, steps);
        sum.commits += counts.commits;
        sum.restores += counts.restores;
        sum.kills += counts.kills;
        sum.lost_indexes += counts.lost_indexes;
    }
    println!("{sum:?}");
    assert!(sum.commits > 20 && sum.restores > 5 && sum.kills > 5 && sum.lost_indexes > 0, "{sum:?}");
}
