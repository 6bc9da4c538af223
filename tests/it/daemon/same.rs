//! A table of commands, run without a daemon and with one: output, JSON and exit status are the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{World, noise};

use super::{Served, error, history};

/// A step: something happens to the working copy, or a command is run.
enum Step {
    Does(fn(&World)),
    Runs(&'static [&'static str]),
    /// With a last word that is no UTF-8.
    RunsOn(&'static [&'static str], &'static [u8]),
}
use Step::{Does, Runs, RunsOn};

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

const ODD: &[u8] = b"d/odd\xff\n";

const STEPS: &[Step] = &[
    Runs(&["commit", "--amend"]),
    Runs(&["commit", "--json"]),
    Does(|world| {
        for number in 0..40 {
            world.write(format!("d{}/{number}", number % 3), format!("{number}").repeat(100));
        }
        world.write("large", vec![b'l'; 3_000_000]);
        world.write("noise", noise(7, 60_000));
        world.write(name(ODD), "odd");
    }),
    Runs(&["commit", "-m", "first"]),
    Runs(&["commit", "-m", "again"]),
    Runs(&["--json", "commit", "-m", "empty", "--allow-empty"]),
    Does(|world| {
        crate::places::make_fifo(&world.path("fifo"));
        world.write("d1/1", "changed");
        world.write("new", "new");
        std::fs::remove_file(world.path("d2/2")).expect("it is there");
    }),
    Runs(&["commit", "--dry-run"]),
    Runs(&["--json", "commit", "--dry-run"]),
    Runs(&["-q", "commit", "-m", ""]),
    Runs(&["-v", "commit"]),
    Does(|world| world.write("new", "newer")),
    Runs(&["--json", "commit", "--author", "Ada <ada@example.org>"]),
    Runs(&["commit", "--author", "a\nb", "--allow-empty"]),
    Runs(&["--json", "commit", "--author", "", "--allow-empty"]),
    Runs(&["commit", "--amend", "-m", "better"]),
    Runs(&["config", "set", "commit.author", "Eve <eve@example.org>"]),
    Runs(&["--json", "config", "set", "node.name", "desk"]),
    Runs(&["-q", "config", "set", "node.name", "lap"]),
    Runs(&["config", "set", "commit.auther", "x"]),
    Runs(&["config", "set", "commit.author", ""]),
    Runs(&["config"]),
    Runs(&["--json", "commit", "--allow-empty", "-m", "by Eve"]),
    Runs(&["log"]),
    Runs(&["tag", "v1"]),
    Runs(&["tag", "v1"]),
    Runs(&["tag", "v1", "HEAD~1", "--force"]),
    Runs(&["--json", "tag", "v2", "HEAD~2"]),
    Runs(&["tag", "v3", "new"]),
    Runs(&["--json", "tag", "v3", "nothing"]),
    Runs(&["tag", "-bad"]),
    Runs(&["tag", "--delete", "v2"]),
    Runs(&["--json", "tag", "--delete", "v2"]),
    Runs(&["tag", "-v"]),
    Does(|world| {
        world.write("new", "in no commit");
        world.write("d1/1", "0");
        std::fs::remove_dir_all(world.path("d0")).expect("it is there");
        std::fs::remove_file(world.path(name(ODD))).expect("it is there");
    }),
    RunsOn(&["restore", "--"], ODD),
    Does(|world| world.write(name(ODD), "in no commit")),
    Runs(&["--json", "restore"]),
    Runs(&["restore"]),
    Runs(&["--json", "restore", "--dry-run"]),
    Runs(&["--json", "restore", "--force"]),
    Runs(&["restore", "HEAD~4", "--delete"]),
    Runs(&["status"]),
    Runs(&["restore", "nothing"]),
    Runs(&["restore", "new"]),
    Runs(&["restore", "--", "v1"]),
    Runs(&["restore", "--", "../outside"]),
    Runs(&["--json", "restore", "--delete"]),
    Runs(&["status", "--exit-code"]),
    Runs(&["forget", "--keep-last", "2", "--dry-run"]),
    Runs(&["--json", "forget", "--keep-last", "2"]),
    Runs(&["forget", "--keep-last", "1"]),
    Runs(&["restore", "HEAD~4"]),
    Runs(&["--json", "gc"]),
    Runs(&["gc"]),
    Runs(&["fsck", "--repair"]),
    Runs(&["--json", "fsck", "--repair", "--quick"]),
    Runs(&["upgrade"]),
    Runs(&["--json", "upgrade"]),
    // Damage is found by who reads, and made good by the next who writes.
    Does(damage),
    Runs(&["fsck"]),
    Runs(&["commit", "-m", "heals"]),
    Runs(&["fsck"]),
    Does(damage),
    Runs(&["fsck", "--repair"]),
    Runs(&["fsck"]),
    // A cluster of one.
    Runs(&["peers"]),
    Runs(&["invite"]),
    Runs(&["sync", "--dry-run"]),
    Runs(&["sync"]),
    Runs(&["sync"]),
    Does(|world| world.write("new", "published")),
    Runs(&["--json", "sync", "--commit"]),
    Runs(&["--json", "sync", "--pull"]),
    Runs(&["status"]),
    Runs(&["--json", "status"]),
    Runs(&["tag", "shared"]),
    Runs(&["--json", "sync"]),
    Runs(&["sync", "--strategy", "nonsense"]),
    Runs(&["--json", "invite", "--role", "reader"]),
    Runs(&["invite", "--uses", "0"]),
    Runs(&["invite", "list"]),
    Runs(&["peers", "promote", "nobody"]),
    Runs(&["peers", "demote", "nobody", "--role", "writer"]),
    Runs(&["--json", "peers", "remove", "nobody"]),
    Runs(&["fsck"]),
    Runs(&["gc"]),
];

/// Turns a byte over of the file of noise, where it lies in the packs.
fn damage(world: &World) {
    let noise = noise(7, 60_000);
    let part = &noise[5_000..5_064];
    let mut hits = 0;
    for pack in std::fs::read_dir(world.path(".filesync/packs")).expect("packs").flatten() {
        let mut bytes = std::fs::read(pack.path()).expect("it can be read");
        if let Some(at) = bytes.windows(part.len()).position(|window| window == part) {
            bytes[at] ^= 0xff;
            std::fs::write(pack.path(), bytes).expect("it can be written");
            hits += 1;
        }
    }
    assert!(hits > 0, "it is stored as it is");
}

/// What is the same in every run: ids in the order in which they occur, no times, no sizes of what was compressed.
#[derive(Default)]
struct Plain(Vec<String>);

impl Plain {
    fn of(&mut self, world: &World, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr));
        let all = all.replace(world.root().to_str().expect("UTF-8"), "ROOT");
        all.lines().map(|line| self.line(line) + "\n").collect()
    }

    fn line(&mut self, line: &str) -> String {
        let mut out = String::new();
        for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.' && c != '-') {
            let (bare, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
            let is_id = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            let is_measured =
                bare.contains('.') && bare.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'e' || b == b'-');
            let is_time = bare.len() > 18 && bare.starts_with("20") && bare.contains('T');
            // Of a clock, or of an offset among what was compressed.
            let is_place = end == ":" && !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
            out.push_str(&match (is_id, is_measured || is_time || is_place) {
                (true, _) => {
                    let at = self.0.iter().position(|id| id.starts_with(bare) || bare.starts_with(id.as_str()));
                    let at = at.unwrap_or_else(|| {
                        self.0.push(bare.to_owned());
                        self.0.len() - 1
                    });
                    format!("ID{at}")
                }
                (false, true) => "N".to_owned(),
                (false, false) if bare.starts_with("filesync1") => "INVITE".to_owned(),
                (false, false) => bare.to_owned(),
            });
            out.push_str(end);
        }
        // Sizes of what was compressed, with what is random in it.
        for field in
            ["\"stored_bytes\":", "\"live_bytes\":", "\"freed_bytes\":", "\"bytes\":", "Date: ", "pid ", " stored in "]
        {
            if let Some(at) = out.find(field) {
                let from = at + field.len();
                let rest = out.split_off(from);
                let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
                out.push('N');
                out.push_str(&rest[end..]);
            }
        }
        for unit in [" B", " KiB", " MiB"] {
            while let Some(at) = out.find(unit) {
                let from = out[..at].rfind(' ').map_or(0, |space| space + 1);
                out.replace_range(from..at + unit.len(), "SIZE");
            }
        }
        out
    }
}

fn run_all(world: &World) -> Vec<(String, String)> {
    let mut plain = Plain::default();
    let mut results = Vec::new();
    for step in STEPS {
        let (args, last) = match step {
            Does(act) => {
                act(world);
                continue;
            }
            Runs(args) => (args, None),
            RunsOn(args, last) => (args, Some(OsString::from(name(last)))),
        };
        let mut command = world.command(args);
        command.args(last).env("USER", "somebody");
        let output = command.output().expect("the program runs");
        results.push((format!("{args:?}"), plain.of(world, &output)));
    }
    results
}

#[test]
fn daemon_or_none_it_is_the_same() {
    let (alone, served) = (World::repository(), World::repository());
    let daemon = Served::start(&served);
    let (without, with) = (run_all(&alone), run_all(&served));
    for ((args, without), (_, with)) in without.iter().zip(&with) {
        assert_eq!(without, with, "{args}\nwithout a daemon:\n{without}\nwith one:\n{with}");
    }
    // The table covers what it is there for.
    for word in ["Some(0)", "Some(1)", "Some(2)", "Some(3)", "Some(5)", "warning", "hint: ", "skipped_bytes"] {
        assert!(with.iter().any(|(_, text)| text.contains(word)), "no {word} in any answer");
    }
    assert_same(&read_tree(alone.root()), &read_tree(served.root()), "the working copies");
    assert_eq!(history(&alone).len(), history(&served).len());
    // It was the daemon that wrote: nobody else can have had the lock.
    let lock = std::fs::read_to_string(served.path(".filesync/lock")).expect("it can be read");
    assert_eq!(lock, format!("serve, pid {}\n", daemon.pid()));
}

/// Progress goes the way of everything else.
#[test]
fn progress_is_shown_with_a_daemon_too() {
    let world = World::repository();
    let _daemon = Served::start(&world);
    for number in 0..200 {
        world.write(format!("{number}"), format!("{number}").repeat(3000));
    }
    let output = world.run(&["--progress", "always", "commit"]);
    let err = error(&output);
    assert!(output.status.success(), "{err}");
    assert!(err.contains("committing: 200"), "{err}");
}
