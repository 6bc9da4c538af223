//! What makes it easy: completions, manual pages, colours, progress.

use std::process::{Command, Output, Stdio};

use filesync_tests::world::{World, program, skipped};
use serde_json::{Value, json};

use super::{is_an_error, text};

/// Runs the program on a terminal of its own, 100 columns wide. What it wrote to both outputs is in `stdout`.
fn on_terminal(world: &World, envs: &[(&str, &str)], args: &[&str]) -> Output {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let program = program().to_str().expect("UTF-8");
    let line = format!("stty cols 100 rows 30; exec '{program}' {}", quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(world.root()).stdin(Stdio::null());
    script.env_remove("NO_COLOR").env_remove("FILESYNC_DIR").env("TERM", "xterm").envs(envs.iter().copied());
    script.output().expect("script runs (Debian's bsdutils)")
}

fn is_coloured(output: &Output) -> bool {
    output.stdout.windows(2).any(|pair| pair == b"\x1b[")
}

/// A name that a shell knows; without it there is nothing to try.
fn has(shell: &str) -> bool {
    let there = Command::new("sh").args(["-c", &format!("command -v {shell}")]).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        skipped(&format!("there is no {shell} here"));
    }
    there
}

#[test]
fn completions_for_three_shells() {
    let world = World::empty();
    for (shell, check) in [("bash", ["-n"].as_slice()), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = world.ok(&["completions", shell]);
        for word in ["check-ignore", "restore", "dry-run", "lock-timeout"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        if has(shell) {
            world.write("script", &script);
            let output = Command::new(shell).args(check).arg(world.path("script")).output().expect("it runs");
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    is_an_error(&world.fails(2, &["completions", "tcsh"]));
    is_an_error(&world.fails(2, &["completions"]));
}

#[test]
fn bash_completes() {
    let world = World::empty();
    world.write("script", world.ok(&["completions", "bash"]));
    let complete = |words: &str, last: usize| {
        let line = format!(
            "source ./script; COMP_WORDS=({words}); COMP_CWORD={last}; _filesync filesync \
             \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &line]).current_dir(world.root()).output().expect("bash runs");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(complete("filesync che", 1), "checkout check-ignore");
    assert_eq!(complete("filesync commit --am", 2), "--amend");
    assert_eq!(complete("filesync completions f", 2), "fish");
}

#[test]
fn manual_pages() {
    let world = World::empty();
    let result = world.object(0, &["man", "new/pages"]);
    let pages: Vec<&str> = result["pages"].as_array().expect("a list").iter().map(text).collect();
    assert_eq!(result["path"], "new/pages");
    for page in ["filesync.1", "filesync-commit.1", "filesync-check-ignore.1", "filesync-config-set.1"] {
        assert!(pages.contains(&page), "{page} is not among {pages:?}");
        assert!(world.path("new/pages").join(page).exists());
    }
    assert_eq!(std::fs::read_dir(world.path("new/pages")).expect("it is there").count(), pages.len());
    let page = std::fs::read_to_string(world.path("new/pages/filesync-commit.1")).expect("it is there");
    assert!(page.contains(".TH filesync-commit 1"), "{page}");
    // Again over itself.
    assert_eq!(world.ok(&["man", "new/pages"]), format!("wrote {} pages to new/pages\n", pages.len()));
    if has("man") {
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"]).arg(world.path("new/pages/filesync-commit.1")).env("MANWIDTH", "100");
        let output = man.env("LC_ALL", "C.UTF-8").output().expect("it runs");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(shown.contains("--amend") && shown.contains("fortune | filesync commit -F -"), "{shown}");
    }
    world.write("file", "x");
    is_an_error(&world.fails(1, &["man", "file"]));
    is_an_error(&world.fails(2, &["man"]));
}

#[test]
fn the_version_in_all_its_forms() {
    let world = World::empty();
    let version = env!("CARGO_PKG_VERSION");
    for args in [["version"], ["--version"], ["-V"]] {
        assert_eq!(world.ok(&args), format!("filesync {version}\n"));
    }
    assert_eq!(world.object(0, &["version"]), json!({"v": 1, "version": version}));
}

#[test]
fn colours_respect_what_is_asked() {
    let world = World::repository();
    world.write("a", "a");
    // A bar moves the cursor, and that is no colour.
    let plain = ["status", "--progress", "never"];
    let status = |envs: &[(&str, &str)], args: &[&str]| on_terminal(&world, envs, &[args, &plain].concat());
    let shown = status(&[], &[]);
    assert!(is_coloured(&shown), "{}", String::from_utf8_lossy(&shown.stdout));
    // https://no-color.org: set and not empty.
    assert!(is_coloured(&status(&[("NO_COLOR", "")], &[])));
    assert!(!is_coloured(&status(&[("NO_COLOR", "1")], &[])));
    assert!(!is_coloured(&status(&[("TERM", "dumb")], &[])));
    assert!(!is_coloured(&status(&[], &["--color", "never"])));
    assert!(is_coloured(&status(&[("NO_COLOR", "1")], &["--color", "always"])));
    // JSON never is, and help as the rest.
    assert!(!is_coloured(&status(&[], &["--json", "--color", "always"])));
    let help = |envs: &[(&str, &str)], args: &[&str]| on_terminal(&world, envs, &[args, &["log", "-h"]].concat());
    assert!(is_coloured(&help(&[], &[])));
    assert!(!is_coloured(&help(&[("NO_COLOR", "1")], &[])));
    assert!(!is_coloured(&help(&[], &["--color", "never"])));
    // Off a terminal there are none.
    assert!(!is_coloured(&world.run(&["status"])));
    assert!(is_coloured(&world.run(&["--color=always", "status"])));
    assert!(is_coloured(&world.run(&["--color=always", "log", "-h"])));
}

#[test]
fn progress_is_for_terminals() {
    let world = World::repository();
    for number in 0..40 {
        world.write(format!("{number}"), vec![number; 500_000]);
    }
    world.commit();
    // A bar is drawn many times, beginning anew on its line; what it says is told by a few letters of it.
    let bars = |output: &Output| String::from_utf8_lossy(&output.stdout).matches("checking [").count();
    let fsck = |args: &[&str]| on_terminal(&world, &[], &[&["fsck"], args].concat());
    // If this machine is busy elsewhere, a bar may come too late for so little work.
    let seen = (0..1000).map(|_| fsck(&[])).find(|output| bars(output) > 0).expect("a bar is drawn");
    let shown = String::from_utf8_lossy(&seen.stdout);
    assert!(shown.contains("/s, ") && shown.contains(" left") && shown.contains('%'), "{shown:?}");
    // It is gone at the end, and the result stands alone.
    assert!(shown.lines().last().is_some_and(|line| line.contains(": all is well")), "{shown:?}");
    for args in [["-q"].as_slice(), &["--progress", "never"]] {
        assert_eq!(bars(&fsck(args)), 0, "{args:?}");
    }
    // Off a terminal nothing, unless it is asked for: then lines that tell the same.
    let output = world.run(&["fsck"]);
    assert!(output.stderr.is_empty(), "{output:?}");
    let output = world.run(&["fsck", "--progress", "always"]);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.starts_with("checking: ") && shown.contains("/s") && !shown.contains(['\r', '\u{1b}']), "{shown:?}");
}

#[test]
fn quiet_says_what_was_asked_for_and_no_more() {
    let world = World::repository();
    world.write("a", "a");
    for args in [["commit"].as_slice(), &["restore"], &["fsck"], &["tag", "t"], &["tag", "-d", "t"], &["man", "m"]] {
        assert_eq!(world.ok(&[&["-q"], args].concat()), "", "{args:?}");
    }
    for args in [["ls"].as_slice(), &["log"], &["status"], &["cat", "HEAD:a"], &["config"], &["version"]] {
        assert_ne!(world.ok(&[&["-q"], args].concat()), "", "{args:?}");
    }
    // A pipe is not worth a warning.
    let made = Command::new("mkfifo").arg(world.path("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(!world.run(&["status"]).stderr.is_empty());
    assert!(world.run(&["-q", "status"]).stderr.is_empty());
    let status: Value = world.object(0, &["-q", "status"]);
    assert_eq!(status["clean"], false);
}
