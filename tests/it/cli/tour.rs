//! The tour of the README: its commands are run as they stand there, one after the other, and print what stands there.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use filesync_tests::world::{TempDir, program};

const RENEW: &str = "FILESYNC_RENEW=1 cargo test -p filesync-tests tour";
/// A tour that has not ended by then will not, in seconds.
const TIME_MAX: &str = "600";
/// What cannot be in any output.
const MARK: &str = "\u{1}";

/// A command, and what it prints.
struct Step {
    command: String,
    output: String,
}

/// The commands of all blocks of sessions.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        assert!(block.starts_with("$ "), "a session begins with a command: {block}");
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), output: String::new() }),
                (None, Some(step)) => step.output += &format!("{line}\n"),
                (None, None) => {}
            }
        }
    }
    steps
}

/// The page with other outputs.
fn with_outputs(readme: &str, outputs: &[String]) -> String {
    let (mut page, mut outputs, mut in_session) = (String::new(), outputs.iter(), false);
    for line in readme.lines() {
        in_session = if in_session { line != "```" } else { line == "```console" };
        if in_session && line != "```console" && !line.starts_with("$ ") {
            continue;
        }
        let _ = writeln!(page, "{line}");
        if in_session && line.starts_with("$ ") {
            page += outputs.next().map_or("", String::as_str);
        }
    }
    page
}

/// Runs everything in one shell; what each command printed.
fn run(steps: &[Step]) -> Vec<String> {
    let home = TempDir::new();
    // Daemons of a tour that ends early end with it.
    let mut script = String::from(
        "exec 2>&1\ntrap 'for it in ~/*/.filesync; do filesync -C \"${it%/*}\" stop > ~/stopped 2>&1; done' EXIT\n",
    );
    for step in steps {
        let _ = writeln!(script, "{{ {}\n}} || {{ echo \"failed: $?\"; exit 1; }}\nprintf '\\1'", step.command);
    }
    let path = std::env::join_paths(
        std::iter::once(program().parent().expect("it lies in a directory").to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut bash = Command::new("timeout");
    bash.args(["--kill-after=20", TIME_MAX, "bash", "-c", &script])
        .current_dir(home.path())
        .env("PATH", path.expect("no colon in it"));
    bash.env("HOME", home.path()).env("USER", "ada").env_remove("FILESYNC_DIR");
    let output = bash.output().expect("bash runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let home = home.path().to_str().expect("UTF-8");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let out = out.replace(home, "/home/ada").replace(&format!("ada@{host}"), "ada@desk");
    let out = out.replace(&format!("= {host}\n"), "= desk\n");
    let mut outputs: Vec<String> = out.split(MARK).map(str::to_owned).collect();
    let rest = outputs.pop().unwrap_or_default();
    let failed = steps.get(outputs.len()).map(|step| &step.command);
    assert!(output.status.success() && rest.is_empty(), "{failed:?}: {rest}");
    outputs
}

/// What differs from run to run is left out: ids, dates, and what bytes and seconds things come to.
fn settled(output: &str) -> String {
    let is_id = |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = |word: &str| word.bytes().all(|b| b.is_ascii_digit() || b".-:".contains(&b)) && !word.is_empty();
    let is_unit = |word: &str| ["B", "KiB", "MiB", "GiB", "s", "objects"].contains(&word);
    let mut settled = String::new();
    for line in output.lines() {
        if let Some((first, _)) = line.split_once("Date:") {
            settled += &format!("{first}Date:\n");
            continue;
        }
        let trim = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for (at, word) in words.iter().enumerate() {
            let plain = trim(word);
            let is_pid = is_number(&plain) && at > 0 && words[at - 1] == "pid";
            let measured = is_number(&plain) && words.get(at + 1).is_some_and(|next| is_unit(&trim(next)));
            // A date in a listing, or a time.
            let is_date = is_number(&plain) && plain.len() >= 5 && plain.contains(['-', ':']);
            let word = if is_id(&plain) || is_pid || measured || is_date {
                word.replace(&plain, "#")
            } else if is_unit(&plain) {
                word.replace(&plain, "unit")
            } else {
                word.clone()
            };
            settled += &format!("{word} ");
        }
        settled.push('\n');
    }
    settled
}

#[test]
fn the_tour_of_the_readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).expect("the README can be read");
    let steps = steps(&readme);
    assert!(steps.len() > 30, "only {} commands", steps.len());
    let outputs = run(&steps);
    if std::env::var_os("FILESYNC_RENEW").is_some() {
        std::fs::write(&path, with_outputs(&readme, &outputs)).expect("the README can be written");
        return;
    }
    for (step, output) in steps.iter().zip(&outputs) {
        let (said, found) = (settled(&step.output), settled(output));
        assert_eq!(said, found, "`{}` prints something else than the README says: `{RENEW}` renews it", step.command);
    }
}
