//! `check-ignore`, beside git's.

use std::process::Command;

use filesync_cas::testing::Rng;
use filesync_tests::world::{World, seeds};
use serde_json::{Value, json};

use super::is_an_error;

#[test]
fn which_rule_of_which_file_and_line() {
    let world = World::repository();
    world.write(".filesyncignore", "# made\n*.o\nbuild/\n!keep.o\n");
    world.write("sub/.filesyncignore", "/local\n");
    world.write("build/out", "x");
    assert_eq!(world.ok(&["check-ignore", "a.o", "b", "sub/c.o"]), "a.o\nsub/c.o\n");
    assert_eq!(world.ok(&["check-ignore", "-v", "a.o"]), ".filesyncignore:2:*.o\ta.o\n");
    assert_eq!(world.ok(&["check-ignore", "-v", "sub/local"]), "sub/.filesyncignore:1:/local\tsub/local\n");
    assert_eq!(world.ok(&["check-ignore", "-v", "build/out/deep"]), ".filesyncignore:3:build/\tbuild/out/deep\n");
    assert_eq!(world.ok(&["check-ignore", "-v", "-n", "a.o", "b"]), ".filesyncignore:2:*.o\ta.o\n::\tb\n");
    // Paths are from the working directory, and are shown from the root.
    assert_eq!(world.ok(&["-C", "sub", "check-ignore", "local", "../x.o"]), "sub/local\nx.o\n");
    assert_eq!(world.ok(&["check-ignore", "-z", "a.o", "sub/local"]), "a.o\0sub/local\0");
    assert_eq!(world.ok(&["check-ignore", "-z", "-v", "a.o"]), ".filesyncignore\x002\0*.o\0a.o\0");
    assert_eq!(world.ok(&["check-ignore", "new\n.o"]), "\"new\\n.o\"\n");
    assert_eq!(world.ok(&["-q", "check-ignore", "a.o"]), "");
    // What is not there is a file, unless it is called a directory.
    world.fails(1, &["check-ignore", "sub/build"]);
    assert_eq!(world.ok(&["check-ignore", "sub/build/"]), "sub/build/\n");

    let lines = world.json(&["check-ignore", "a.o", "b", "keep.o"]);
    let rule = |line: u32, pattern: &str| (json!(".filesyncignore"), json!(line), json!(pattern));
    let of = |value: &Value| (value["source"].clone(), value["line"].clone(), value["pattern"].clone());
    assert_eq!((of(&lines[0]), &lines[0]["ignored"]), (rule(2, "*.o"), &json!(true)));
    assert_eq!(lines[1], json!({"v": 1, "path": "b", "ignored": false, "source": null, "line": null, "pattern": null}));
    assert_eq!((of(&lines[2]), &lines[2]["ignored"]), (rule(4, "!keep.o"), &json!(false)));
}

#[test]
fn status_as_git_has_it() {
    let world = World::repository();
    world.write(".filesyncignore", "*.o\n!keep.o\n");
    assert_eq!(world.fails(1, &["check-ignore", "b"]), "");
    assert_eq!(world.fails(1, &["check-ignore", "keep.o"]), "");
    assert_eq!(world.ok(&["check-ignore", "-v", "keep.o"]), ".filesyncignore:2:!keep.o\tkeep.o\n");
    for args in
        [["check-ignore"].as_slice(), &["check-ignore", "-n", "x"], &["check-ignore", "../x"], &["check-ignore", ""]]
    {
        is_an_error(&world.fails(2, args));
    }
    // A failure is not "none".
    is_an_error(&World::empty().fails(2, &["check-ignore", "x"]));
    std::fs::remove_file(world.path(".filesyncignore")).expect("it is there");
    std::fs::create_dir(world.path(".filesyncignore")).expect("it can be made");
    assert_eq!(world.fails(1, &["check-ignore", "a.o"]), "");
}

/// What is tracked is left out by no rule.
#[test]
fn tracked_paths_are_not_ignored() {
    let world = World::repository();
    world.write("a.o", "x");
    world.write("dir/b", "x");
    world.commit();
    world.write(".filesyncignore", "*.o\ndir\n");
    world.write("dir/c", "x");
    assert_eq!(world.fails(1, &["check-ignore", "-v", "a.o", "dir", "dir/b"]), "");
    assert_eq!(world.ok(&["check-ignore", "-v", "dir/c"]), ".filesyncignore:2:dir\tdir/c\n");
    world.ok(&["commit", "--apply-ignore"]);
    assert_eq!(world.ok(&["check-ignore", "a.o", "dir", "dir/b"]), "a.o\ndir\ndir/b\n");
}

const NAMES: [&str; 10] = ["a", "b", "a.o", "b.c", "x y", ".h", "dir", "sub", "A", "tab\there"];
const RULES: [&str; 16] = [
    "*.o", "/a", "a/", "!a.o", "dir/*", "!dir/a", "**/b", "x*", "sub/**", "!sub/", "*", "!*.c", ".*", "a/**/b", "[ab]",
    "\\!a",
];

fn git(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("git");
    command.args(["-c", "core.excludesFile=/dev/null", "-c", "core.quotePath=false"]).args(args);
    let output = command.current_dir(world.root()).output().expect("git runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// The same rules and trees, some of it tracked: the same output, and the same status.
#[test]
fn as_git_on_random_trees() {
    for seed in seeds(1, 5, 200) {
        let mut rng = Rng::new(seed);
        let world = World::repository();
        let mut paths = Vec::new();
        for _ in 0..30 {
            let depth = 1 + rng.below(3);
            let path: Vec<&str> = (0..depth).map(|_| NAMES[rng.index(NAMES.len())]).collect();
            let path = path.join("/");
            let at = world.path(&path);
            let made = at.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok());
            if made && rng.chance(2, 3) {
                // It may be a directory.
                let _ = std::fs::write(&at, "x");
            }
            paths.push(path);
        }
        // Some of them are tracked, with all that is below.
        let ignore = |names: &[&str], text: &str| names.iter().for_each(|name| world.write(name, text));
        ignore(&[".filesyncignore", ".gitignore"], "/*\n!/a\n!/sub\n!.*ignore\n");
        world.ok(&["commit", "--allow-empty"]);
        git(&world, &["init", "-q", "."]);
        std::fs::write(world.path(".git/info/exclude"), ".filesync\n").expect("it can be written");
        git(&world, &["add", "."]);
        for dir in ["", "a/", "dir/", "sub/"] {
            let rules: Vec<&str> = (0..rng.below(5)).map(|_| RULES[rng.index(RULES.len())]).collect();
            if world.path(dir).is_dir() && (dir.is_empty() || rng.coin()) {
                let text = rules.join("\n");
                ignore(&[&format!("{dir}.filesyncignore"), &format!("{dir}.gitignore")], &text);
            }
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        for flags in [["check-ignore"].as_slice(), &["check-ignore", "-v"], &["check-ignore", "-v", "-n"]] {
            let args = [flags, &["--"], &paths].concat();
            let ours = world.run(&args);
            let out = String::from_utf8(ours.stdout).expect("UTF-8").replace(".filesyncignore", ".gitignore");
            assert_eq!((ours.status.code(), out), git(&world, &args), "seed {seed}: {flags:?}");
        }
    }
}
