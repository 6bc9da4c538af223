//! Random histories against a plain map: what a commit held when it was made, it holds until it expires, or nothing leads
//! to it any more.
//!
//! Edits, commits, restores, tags, collections, commits that expire, repairs, kills of all of these and lost indexes, in
//! any order. The map has, for every commit, what the working copy was; after every step some of them are compared, and
//! in the end all.

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
use filesync_tests::world::{World, is_long, rot, seed};

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
    collections: u32,
    expired: u32,
    repairs: u32,
    tags: u32,
    /// Kills that met their command, by what it was.
    killed: [u32; Work::ALL.len()],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.restores += other.restores;
        self.kills += other.kills;
        self.lost_indexes += other.lost_indexes;
        self.collections += other.collections;
        self.expired += other.expired;
        self.repairs += other.repairs;
        self.tags += other.tags;
        self.killed.iter_mut().zip(other.killed).for_each(|(sum, one)| *sum += one);
    }
}

/// What is killed on its way, each in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Commit,
    Collect,
    Restore,
    Repair,
    Forget,
    Tag,
}

impl Work {
    const ALL: [Work; 6] = [Work::Commit, Work::Collect, Work::Restore, Work::Repair, Work::Forget, Work::Tag];
}

struct History {
    world: World,
    rng: Rng,
    /// What can be had, and what it holds.
    commits: BTreeMap<String, Tree>,
    /// Commits in the order in which they came, to choose from.
    order: Vec<String>,
    /// The head and all before it, the oldest first, those that have expired included.
    line: Vec<String>,
    expired: BTreeSet<String>,
    tags: BTreeMap<String, String>,
    /// What the last restore that was killed was to bring back.
    restoring: Option<String>,
    /// Whose turn it is to be killed.
    turn: usize,
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
        let (commits, order, line, expired, tags, restoring, steps, counts) = Default::default();
        let turn = usize::try_from(seed % Work::ALL.len() as u64).expect("few");
        Self { world, rng, commits, order, line, expired, tags, restoring, turn, steps, counts, usual }
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

    /// Notes what the head is, that was `before`.
    fn remember(&mut self, before: Option<&String>, is_amended: bool, head: String, tree: Tree) {
        assert_eq!(before, self.line.last(), "the head was another");
        if before != Some(&head) {
            if is_amended {
                self.line.pop();
            }
            self.line.push(head.clone());
        }
        if self.commits.insert(head.clone(), tree).is_none() {
            self.order.push(head);
        }
    }

    /// Commits that cannot be had any more, or of which that cannot be said.
    fn drop_commits(&mut self, is_gone: impl Fn(&Self, &String) -> bool) {
        let gone: BTreeSet<String> = self.order.iter().filter(|id: &&String| is_gone(self, id)).cloned().collect();
        self.order.retain(|id| !gone.contains(id));
        self.commits.retain(|id, _| !gone.contains(id));
    }

    /// A collection may have taken what no ref leads to. What a tag names has nothing before it that the line has not.
    fn drop_unreachable(&mut self) {
        self.drop_commits(|this, id| !this.line.contains(id) && !this.tags.values().any(|tagged| tagged == id));
    }

    fn any_commit(&mut self) -> Option<String> {
        (!self.order.is_empty()).then(|| self.order[self.rng.index(self.order.len())].clone())
    }

    fn commit_args(&mut self) -> Vec<&'static str> {
        let mut args = vec!["commit", "-m", "m"];
        match self.rng.below(6) {
            0 if !self.line.is_empty() => args.push("--amend"),
            1 => args.push("--allow-empty"),
            2 => args.push("--no-cache"),
            _ => {}
        }
        args
    }

    fn commit(&mut self) {
        let args = self.commit_args();
        self.commit_with(&args);
    }

    fn commit_with(&mut self, args: &[&str]) {
        self.note(args.join(" "));
        let began = Instant::now();
        let has_journal = self.has_journal();
        let before = self.tree();
        let head_before = self.world.head();
        let ran = self.world.sane(args);
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
                self.remember(head_before.as_ref(), args.contains(&"--amend"), head, after);
            }
            None => assert!(after.is_empty(), "nothing was committed"),
        }
    }

    fn has_journal(&self) -> bool {
        self.world.path(".filesync/journal").exists()
    }

    /// A command that must come to its end with status 0.
    fn must(&mut self, args: &[&str]) {
        self.note(args.join(" "));
        let ran = self.world.sane(args);
        assert_eq!(ran.status, Some(0), "{args:?}: {ran:?}");
    }

    fn collect(&mut self) {
        self.must(&["gc"]);
        self.counts.collections += 1;
        self.drop_unreachable();
    }

    /// What a rule makes expire: of the line all but the last, if they have no tag.
    fn due(&self, keep: usize) -> BTreeSet<String> {
        let old = &self.line[..self.line.len().saturating_sub(keep)];
        let is_due = |id: &&String| !self.expired.contains(*id) && !self.tags.values().any(|tagged| tagged == *id);
        old.iter().filter(is_due).cloned().collect()
    }

    /// What a restore that was cut off is to bring back does not expire before that is done.
    fn held(&self) -> Option<&String> {
        self.restoring.as_ref().filter(|_| self.has_journal())
    }

    fn expire(&mut self, gone: &BTreeSet<String>) {
        self.counts.expired += u32::try_from(gone.len()).unwrap();
        self.expired.extend(gone.iter().cloned());
        self.drop_commits(|_, id| gone.contains(id));
    }

    fn forget(&mut self) {
        let keep = 1 + self.rng.index(3);
        let (due, held) = (self.due(keep), self.held().cloned());
        self.note(format!("forget --keep-last {keep}"));
        let told = self.world.object(0, &["forget", "--keep-last", &keep.to_string()]);
        let told = told["expired"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        let told: BTreeSet<String> = told.collect();
        let kept: Vec<&String> = due.difference(&told).filter(|id| held.as_ref() != Some(*id)).collect();
        assert!(told.is_subset(&due) && kept.is_empty(), "expired {told:?}, and that was due: {due:?}");
        self.expire(&told);
    }

    /// Of the line, what `log` calls expired.
    fn expired_in_log(&self) -> BTreeSet<String> {
        let log = self.world.json(&["log"]);
        let expired = log.iter().filter(|entry| entry["expired"] == true);
        expired.map(|entry| entry["commit"].as_str().unwrap().to_owned()).collect()
    }

    /// A bit of what the head's commit brought goes bad. All that lies in the same frame is in the working copy.
    fn damage(&mut self) {
        self.commit();
        let name = format!("noise {}", self.rng.below(3));
        let len = 3000 + self.rng.index(60_000);
        Self::remove(&self.world.path(&name));
        self.world.write(&name, self.rng.bytes(len));
        self.commit_with(&["commit", "-m", "noise"]);
        self.note(format!("a bit of {name:?} goes bad"));
        rot(self.world.root(), &name);
    }

    fn repair(&mut self) {
        let is_damaged = self.rng.chance(2, 3);
        if is_damaged {
            self.damage();
            assert_eq!(self.world.sane(&["fsck"]).status, Some(5), "damage is found");
        }
        self.must(&["fsck", "--repair"]);
        self.must(&["fsck"]);
        self.counts.repairs += u32::from(is_damaged);
        // The packs that it lay in were written anew.
        self.drop_unreachable();
    }

    fn told_tags(&self) -> BTreeMap<String, String> {
        let text = |tag: &serde_json::Value, field: &str| tag[field].as_str().unwrap().to_owned();
        self.world.json(&["tag"]).iter().map(|tag| (text(tag, "name"), text(tag, "commit"))).collect()
    }

    /// Makes, moves or removes a tag: how, and what tags there are then. Nothing before there is a commit.
    fn tag_args(&mut self) -> Option<(Vec<String>, BTreeMap<String, String>)> {
        let name = format!("t{}", self.rng.below(3));
        let mut tags = self.tags.clone();
        let args = if tags.contains_key(&name) && self.rng.chance(1, 3) {
            tags.remove(&name);
            vec!["tag".to_owned(), "--delete".to_owned(), name]
        } else {
            let commit = self.any_commit()?;
            tags.insert(name.clone(), commit.clone());
            vec!["tag".to_owned(), "--force".to_owned(), name, commit]
        };
        Some((args, tags))
    }

    fn tag(&mut self) {
        let Some((args, tags)) = self.tag_args() else { return };
        self.must(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.counts.tags += 1;
        assert_eq!(self.told_tags(), tags);
        self.tags = tags;
    }

    /// Runs a command, and kills it somewhere on its way. Whether it came to its end before that.
    fn start_and_kill(&mut self, work: Work, args: &[&str]) -> bool {
        // Some write one small file and are soon done.
        let share = if matches!(work, Work::Forget | Work::Tag) { 4 } else { 11 };
        let micros = u64::try_from(self.usual.as_micros()).unwrap().max(1000) * share / 10;
        let wait = Duration::from_micros(self.rng.below(micros));
        self.steps.push(format!("{args:?}, killed after {wait:?}"));
        let mut command = self.world.command(args);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("the program runs");
        std::thread::sleep(wait);
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it ends");
        let was_killed = status.signal() == Some(9);
        self.counts.kills += u32::from(was_killed);
        self.counts.killed[work as usize] += u32::from(was_killed);
        assert!(was_killed || status.success(), "{args:?}: {status}");
        status.success()
    }

    fn kill(&mut self) {
        let work = Work::ALL[self.turn % Work::ALL.len()];
        self.turn += 1;
        if self.line.is_empty() {
            return self.kill_commit();
        }
        let head = self.world.head();
        match work {
            Work::Commit => return self.kill_commit(),
            Work::Restore => self.kill_restore(),
            Work::Collect => {
                self.start_and_kill(work, &["gc"]);
                self.drop_unreachable();
            }
            Work::Forget => self.kill_forget(),
            Work::Repair => return self.kill_repair(),
            Work::Tag => self.kill_tag(),
        }
        assert_eq!(self.world.head(), head, "{work:?} moved the head");
    }

    fn kill_commit(&mut self) {
        let args = self.commit_args();
        let has_journal = self.has_journal();
        let before = self.tree();
        let head_before = self.world.head();
        self.start_and_kill(Work::Commit, &args);
        let head = self.world.head();
        if head != head_before {
            let head = head.expect("a head does not go away");
            let tree = self.world.restored(&head);
            if !has_journal {
                assert_same(&before, &tree, "a commit that moved the head and was killed");
            }
            self.remember(head_before.as_ref(), args.contains(&"--amend"), head, tree);
        }
    }

    /// What it began is ended before anything else takes this for the user's work.
    fn kill_restore(&mut self) {
        let Some(commit) = self.any_commit() else { return };
        if self.start_and_kill(Work::Restore, &["restore", &commit, "--delete", "--force"]) {
            assert_same(&self.commits[&commit], &self.tree(), "a restore that was not killed in time");
        }
        // Cut off before its own journal, it leaves that of the one before.
        if self.journal_names(&commit) {
            self.restoring = Some(commit);
        }
    }

    fn journal_names(&self, commit: &str) -> bool {
        let journal = fs::read(self.world.path(".filesync/journal")).unwrap_or_default();
        journal.windows(commit.len()).any(|part| part == commit.as_bytes())
    }

    fn kill_forget(&mut self) {
        let keep = 1 + self.rng.index(3);
        let (due, held) = (self.due(keep), self.held().cloned());
        let is_done = self.start_and_kill(Work::Forget, &["forget", "--keep-last", &keep.to_string()]);
        let now: BTreeSet<String> = self.expired_in_log().difference(&self.expired).cloned().collect();
        let is_all = due.symmetric_difference(&now).all(|id| held.as_ref() == Some(id));
        assert!(is_all || now.is_empty() && !is_done, "expired {now:?}, of {due:?}");
        self.expire(&now);
    }

    /// A bit goes bad, and its repair is cut off: what it left is no worse, and is repaired.
    fn kill_repair(&mut self) {
        self.damage();
        let head = self.world.head();
        let is_done = self.start_and_kill(Work::Repair, &["fsck", "--repair"]);
        let fsck = self.world.sane(&["fsck"]);
        assert!(fsck.status == Some(0) || fsck.status == Some(5) && !is_done, "{fsck:?}");
        self.must(&["fsck", "--repair"]);
        self.must(&["fsck"]);
        self.drop_unreachable();
        assert_eq!(self.world.head(), head, "a repair moved the head");
    }

    fn kill_tag(&mut self) {
        let Some((args, tags)) = self.tag_args() else { return };
        let is_done = self.start_and_kill(Work::Tag, &args.iter().map(String::as_str).collect::<Vec<_>>());
        let now = self.told_tags();
        assert!(now == tags || now == self.tags && !is_done, "{now:?} after {args:?} on {:?}", self.tags);
        self.tags = now;
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
        let has_journal = self.has_journal();
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
        match self.rng.below(26) {
            0..=7 => (0..=self.rng.below(4)).for_each(|_| self.edit()),
            8..=11 => self.commit(),
            12..=13 => self.restore(),
            14..=18 => self.kill(),
            19 => {
                self.note("rm -r index");
                self.counts.lost_indexes += 1;
                let removed = fs::remove_dir_all(self.world.path(".filesync/index"));
                // It may be gone since the last time.
                assert!(removed.is_ok() || !self.world.path(".filesync/index").exists(), "{removed:?}");
            }
            20 => self.collect(),
            21..=22 if !self.line.is_empty() => self.forget(),
            23 => self.repair(),
            24 => self.tag(),
            _ => {
                let Some(commit) = self.any_commit() else { return };
                self.note(format!("restore {commit} --to"));
                assert_same(&self.commits[&commit], &self.world.restored(&commit), &commit);
            }
        }
    }

    fn finish(&mut self) {
        self.commit();
        self.collect();
        let status = self.world.json(&["status"]);
        assert_eq!(status[0]["clean"], true, "{status:?}");
        let fsck = self.world.sane(&["fsck"]);
        assert_eq!(fsck.status, Some(0), "{fsck:?}");
        for (commit, tree) in &self.commits {
            if let Some(difference) = difference(tree, &self.world.restored(commit), false) {
                panic!("{commit} is no more what it was: {difference}");
            }
        }
        assert_eq!(self.told_tags(), self.tags);
        let lost: Vec<&String> = self.line.iter().filter(|id| !self.commits.contains_key(*id)).collect();
        assert!(lost.iter().all(|id| self.expired.contains(*id)), "{lost:?} did not expire");
        if let Some(commit) = lost.first() {
            let ran = self.world.sane(&["ls", commit]);
            assert!(ran.status == Some(1) && ran.err.contains("has expired"), "{ran:?}");
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
    REGRESSIONS.iter().for_each(|seed| sum.add(&run(*seed, steps)));
    // What a kill meets is chance: more of them, until each command has been met.
    let is_enough = |n, sum: &Counts| n >= histories && sum.killed.iter().all(|killed| *killed > 0);
    for n in 0..4 * histories {
        if is_enough(n, &sum) {
            break;
        }
        sum.add(&run(first.wrapping_add(n), steps));
    }
    println!("{sum:?}; killed: {:?}", Work::ALL);
    assert!(sum.commits > 20 && sum.restores > 5 && sum.kills > 5 && sum.lost_indexes > 0, "{sum:?}");
    assert!(sum.collections > 0 && sum.expired > 0 && sum.repairs > 0 && sum.tags > 0, "{sum:?}");
    assert!(sum.killed.iter().all(|killed| *killed > 0), "{sum:?}");
}
