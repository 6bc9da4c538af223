//! What takes processes of its own: kills from outside, few descriptors, a full disk, locks.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::testing::{FaultVfs, skipped};

/// What a child does, and where.
const TASK: &str = "FILESYNC_TEST_CHILD";
/// What lines for the parent begin with.
const SAYS: &str = "child: ";

/// This test binary once more, for one task in a store at `dir`, started by a line of shell in which `SELF` stands
/// for it.
fn child(task: &str, dir: &Path, line: &str) -> Child {
    let own = std::env::current_exe().expect("a test binary");
    let test = "store::tests::processes::child_process";
    let own = format!("{} --exact {test} --ignored --nocapture", own.display());
    let mut command = Command::new("sh");
    command.args(["-c", &line.replace("SELF", &own)]).env(TASK, format!("{task} {}", dir.display()));
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("a child")
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    // What libtest says may stand before it on the same line.
    out.lines().map_while(Result::ok).filter_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned()))
}

fn say(what: impl std::fmt::Display) {
    use std::io::Write;
    println!("{SAYS}{what}");
    std::io::stdout().flush().expect("a parent");
}

fn world_at(dir: &Path, limits: Limits) -> World {
    let vfs = Arc::new(RealVfs::open(&dir.join("store")).expect("opened"));
    let mut world = World::over(vfs, limits);
    // Not gone at the end: it belongs to the parent.
    world.dir = Arc::new(TempDir(dir.join("child")));
    world
}

fn place_at(world: &World, dir: &Path) -> Place {
    let store = dir.join("store");
    Place { vfs: Arc::clone(&world.vfs), index_dir: store.join("index"), lock_dir: Some(store) }
}

fn open_at(world: &World, dir: &Path) -> Result<Store, OpenError> {
    Store::open_limited(place_at(world, dir), schema(), "test", Duration::from_secs(10), world.limits)
}

fn make_at(dir: &Path) {
    std::fs::create_dir(dir.join("store")).expect("a directory");
    let world = world_at(dir, small());
    Store::create(&place_at(&world, dir), &params()).expect("created");
}

#[test]
#[ignore = "a child of other tests"]
fn child_process() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, dir) = task.split_once(' ').expect("a task and a directory");
    let dir = Path::new(dir);
    match task {
        "commit" => commit_for_ever(dir),
        "few-files" => few_files(dir),
        "full-disk" => full_disk(dir),
        "read-only" => read_only(dir),
        "hold" => {
            let world = world_at(dir, small());
            let _store = open_at(&world, dir).expect("opened");
            say("open");
            std::thread::sleep(Duration::from_secs(60));
        }
        _ => panic!("unknown task {task}"),
    }
}

fn kill_size(n: u64) -> Size {
    Size { chunks: 3 + usize::try_from(n % 9).expect("small"), chunk_len: 20_000 }
}

fn planned_history(world: &mut World) -> impl FnMut() -> Planned + use<'_> {
    let (mut n, mut head) = (0, None);
    move || {
        let planned = world.plan(40, n, head, kill_size(n));
        n += 1;
        head = Some(planned.head);
        planned
    }
}

/// Sessions of a history, from where the store stands; each is named when it has been acknowledged.
fn commit_for_ever(dir: &Path) {
    let mut world = world_at(dir, small());
    let vfs = Arc::clone(&world.vfs);
    let limits = world.limits;
    let mut next = planned_history(&mut world);
    let opened = World::over(vfs, limits);
    let mut store = open_at(&opened, dir).expect("opened");
    let mut skip = store.head();
    for n in 0_u64.. {
        let planned = next();
        if let Some(head) = skip {
            skip = Some(head).filter(|head| *head != planned.head);
            continue;
        }
        run(&store, &planned).expect("stored");
        say(planned.head);
        if n % 3 == 2 {
            drop(store);
            store = open_at(&opened, dir).expect("opened");
        }
    }
}

/// Killed at any moment, RocksDB and all.
#[test]
fn killed_from_outside() {
    let mut rng = Rng::new(seed());
    let dir = TempDir::new();
    make_at(&dir.0);
    let mut world = world_at(&dir.0, small());
    let mut next = planned_history(&mut world);
    let (mut kills, mut acknowledged) = (0, None);
    let mut known = HashMap::new();
    for _ in 0..long(12, 500) {
        let mut child = child("commit", &dir.0, "exec SELF");
        let mut said = lines(&mut child);
        // Not before it has come to work.
        let first = said.next();
        assert!(first.is_some(), "the child fails");
        acknowledged = first.or(acknowledged);
        std::thread::sleep(Duration::from_micros(rng.below(60_000)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        acknowledged = said.last().or(acknowledged);
        kills += 1;

        let mut after = World::over(Arc::new(RealVfs::open(&dir.sub("store")).expect("opened")), small());
        let store = open_at(&after, &dir.0).expect("opens after a kill");
        let warnings = store.take_warnings();
        assert!(warnings.iter().all(|warning| !warning.contains("pack")), "{warnings:?}");
        let head = store.head().expect("something was acknowledged");
        // At least what was acknowledged, and at most one more.
        let acknowledged: ContentHash = acknowledged.as_deref().expect("said").parse().expect("an id");
        while !known.contains_key(&head) {
            known.extend(next().objects.into_iter().map(|(id, kind, bytes)| (id, (kind, bytes))));
        }
        after.model.clone_from(&known);
        assert!(after.closure(Some(head)).contains(&acknowledged), "{acknowledged} is lost");
        after.verify(&store, Some(head));
    }
    eprintln!("{kills} kills");
}

/// As many packs and tables as there may be, with 64 descriptors of which the test takes its own share.
fn few_files(dir: &Path) {
    let mut world = world_at(dir, Limits { seal_len: 16 << 10, ..small() });
    let mut head = None;
    for n in 0..60 {
        let planned = world.plan(41, n, head, Size { chunks: 40, chunk_len: 3000 });
        let store = open_at(&world, dir).expect("opened");
        run(&store, &planned).expect("stored");
        head = Some(planned.head);
    }
    for index_lost in [false, true] {
        if index_lost {
            std::fs::remove_dir_all(dir.join("store/index")).expect("removed");
        }
        let store = open_at(&world, dir).expect("opened");
        let reader = Store::open_reader(place_at(&world, dir), schema()).expect("opened beside");
        world.verify(&reader, head);
        world.verify(&store, head);
    }
    say(format!("{} sealed", world.sealed()));
}

#[test]
fn sixty_four_descriptors_are_enough() {
    let dir = TempDir::new();
    make_at(&dir.0);
    let mut child = child("few-files", &dir.0, "ulimit -n 64; exec SELF");
    let said: Vec<String> = lines(&mut child).collect();
    assert!(child.wait().expect("ended").success());
    let sealed: usize = said[0].trim_end_matches(" sealed").parse().expect("a number");
    assert!(sealed > 64, "{sealed} sealed packs");
}

/// Until there is no room; then with a little room again.
fn full_disk(dir: &Path) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 600 << 10]).expect("room for it");
    make_at(dir);
    let mut world = world_at(dir, small());
    let mut head = None;
    let mut refused = 0;
    for n in 0.. {
        let planned = world.plan(42, n, head, Size { chunks: 10, chunk_len: 20_000 });
        let stored = open_at(&world, dir)
            .map_err(|error| error.to_string())
            .and_then(|store| run(&store, &planned).map_err(|error| error.to_string()));
        match stored {
            Ok(_) => head = Some(planned.head),
            Err(error) => {
                assert!(error.contains("No space left"), "{error}");
                refused += 1;
                let reader = Store::open_reader(place_at(&world, dir), schema()).expect("readers go on");
                assert_eq!(reader.head(), head);
                for id in world.closure(head) {
                    reader.get(world.model[&id].0, &id).expect("readable");
                }
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert!(head.is_some(), "nothing went in");
    std::fs::remove_file(&ballast).expect("removed");
    let planned = world.plan(42, 9999, head, SMALL);
    let store = open_at(&world, dir).expect("opened");
    assert!(store.take_warnings().iter().all(|warning| !warning.contains("damaged")));
    run(&store, &planned).expect("stored");
    world.verify(&store, Some(planned.head));
    drop(store);
    world.verify(&open_at(&world, dir).expect("opened"), Some(planned.head));
    say("done");
}

/// Runs a child with a mount of its own, which ends with it. Nothing is run for a user who cannot mount.
fn check_mounted(task: &str, dir: &TempDir, mount: &str) {
    let line = |then: &str| format!("exec unshare -m sh -c '{mount} && exec {then}'");
    let can = Command::new("sh").args(["-c", &line("true")]).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        skipped("this user cannot mount");
        return;
    }
    let mut child = child(task, &dir.0, &line("SELF"));
    let said: Vec<String> = lines(&mut child).collect();
    assert!(child.wait().expect("ended").success());
    assert_eq!(said, ["done"]);
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    let dir = TempDir::new();
    check_mounted("full-disk", &dir, &format!("mount -t tmpfs -o size=4m none {}", dir.0.display()));
}

/// A history that parent and child know.
fn read_only_plans(world: &mut World) -> Vec<Planned> {
    let mut head = None;
    (0..5)
        .map(|n| {
            let planned = world.plan(44, n, head, Size { chunks: 20, chunk_len: 9000 });
            head = Some(planned.head);
            planned
        })
        .collect()
}

fn read_only(dir: &Path) {
    let mut world = world_at(dir, small());
    let head = read_only_plans(&mut world).last().map(|planned| planned.head);
    let refused = std::fs::write(dir.join("store/new"), "");
    assert!(refused.is_err(), "it can be written");
    let reader = Store::open_reader(place_at(&world, dir), schema()).expect("opened");
    assert_eq!(reader.take_warnings(), [""; 0]);
    world.verify(&reader, head);
    assert!(open_at(&world, dir).is_err(), "not for writing");
    say("done");
}

#[test]
fn a_medium_that_cannot_be_written_is_read() {
    let dir = TempDir::new();
    make_at(&dir.0);
    let mut world = world_at(&dir.0, small());
    for planned in read_only_plans(&mut world) {
        run(&open_at(&world, &dir.0).expect("opened"), &planned).expect("stored");
    }
    let store = dir.sub("store").display().to_string();
    let mount = format!("mount --bind {store} {store} && mount -o remount,bind,ro {store}");
    check_mounted("read-only", &dir, &mount);
}

#[test]
fn a_second_writer_waits_and_is_told_who_it_waits_for() {
    let dir = TempDir::new();
    make_at(&dir.0);
    let mut holder = child("hold", &dir.0, "exec SELF");
    assert_eq!(lines(&mut holder).next().as_deref(), Some("open"));
    let world = world_at(&dir.0, small());
    let began = std::time::Instant::now();
    let second = Store::open_writer(place_at(&world, &dir.0), schema(), "second", Duration::from_millis(200));
    assert!(began.elapsed() >= Duration::from_millis(200));
    match second.map(drop) {
        Err(OpenError::Busy(who)) => assert_eq!(who, format!("test, pid {}", holder.id())),
        other => panic!("{other:?}"),
    }
    Store::open_reader(place_at(&world, &dir.0), schema()).expect("readers need not wait");
    holder.kill().expect("killed");
    // The lock ends with its holder.
    Store::open_writer(place_at(&world, &dir.0), schema(), "third", Duration::from_secs(10)).expect("opened");
    holder.wait().expect("gone");
}

/// Not through the vfs, and not beside it: nothing that a medium that cannot be written would refuse.
#[test]
fn readers_write_nothing() {
    let mut world = World::on_disk(small());
    let mut head = None;
    for n in 0..5 {
        let planned = world.plan(43, n, head, Size { chunks: 20, chunk_len: 9000 });
        run(&world.writer(), &planned).expect("stored");
        head = Some(planned.head);
    }
    let look = || -> Vec<String> {
        let files = std::fs::read_dir(world.index_dir()).expect("an index").map(|entry| {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("there");
            format!("{:?} {} {:?}", entry.file_name(), meta.len(), meta.modified().expect("a time"))
        });
        let mut files: Vec<String> = files.collect();
        files.sort();
        files
    };
    let scratch = || std::fs::read_dir(std::env::temp_dir()).expect("a directory").count();
    let (before, scratch_before) = (look(), scratch());
    let counting = FaultVfs::new(Arc::clone(&world.vfs));
    let place = Place { vfs: Arc::new(counting.clone()), ..world.place() };
    let reader = Store::open_reader(place.clone(), schema()).expect("opened");
    world.verify(&reader, head);
    assert!(scratch() <= scratch_before + 8, "other tests make directories, but not so many");
    drop(reader);
    assert_eq!(look(), before);
    // The same without an index.
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    world.verify(&Store::open_reader(place, schema()).expect("opened"), head);
    assert!(!world.index_dir().exists());
    assert_eq!(counting.counts().mutating(), 0);
}
